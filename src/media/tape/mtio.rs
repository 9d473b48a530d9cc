//! Linux SCSI tapes (st(4)): status, positions, filemarks and limits, each by one ioctl.
//!
//! Structures and numbers are those of `<linux/mtio.h>` and `<scsi/sg.h>`. Nothing here decides
//! anything: what a position or an error means is the business of whoever reads or writes.

use std::{
    fmt,
    fs::File,
    os::{fd::AsRawFd, unix::fs::MetadataExt},
};

use nix::{errno::Errno, libc};

use crate::util::units::grouped;

/// Major number of SCSI tapes (Documentation/admin-guide/devices.txt).
const MAJOR: u64 = 9;
/// Of minor numbers: the node that does not rewind when it is closed (st(4)).
const NO_REWIND: u64 = 0x80;
/// Bits of the drive's block size in `mt_dsreg`.
const BLOCK_SIZE_MASK: i64 = 0xff_ffff;
/// `GMT_EOD` in `mt_gstat`.
const END_OF_DATA: i64 = 0x0800_0000;
/// `GMT_EOT` there.
const END_OF_TAPE: i64 = 0x2000_0000;

#[repr(C)]
struct MtOp {
    op: libc::c_short,
    count: libc::c_int,
}

#[repr(C)]
#[derive(Default)]
struct MtGet {
    kind: libc::c_long,
    residual: libc::c_long,
    dsreg: libc::c_long,
    gstat: libc::c_long,
    erreg: libc::c_long,
    file: libc::c_int,
    block: libc::c_int,
}

#[repr(C)]
#[derive(Default)]
struct MtPos {
    block: libc::c_long,
}

/// `struct sg_io_hdr`, version 3.
#[repr(C)]
struct SgIo {
    interface: libc::c_int,
    direction: libc::c_int,
    command_len: u8,
    sense_max: u8,
    iovec_count: u16,
    data_len: u32,
    data: *mut u8,
    command: *const u8,
    sense: *mut u8,
    timeout: u32,
    flags: u32,
    pack_id: i32,
    user: *mut libc::c_void,
    status: u8,
    masked_status: u8,
    message_status: u8,
    sense_written: u8,
    host_status: u16,
    driver_status: u16,
    residual: i32,
    duration: u32,
    info: u32,
}

mod ioctl {
    nix::ioctl_write_ptr!(mtioctop, b'm', 1, super::MtOp);
    nix::ioctl_read!(mtiocget, b'm', 2, super::MtGet);
    nix::ioctl_read!(mtiocpos, b'm', 3, super::MtPos);
    nix::ioctl_readwrite_bad!(sg_io, 0x2285, super::SgIo);
}

/// What a drive can be told to do, with its number in `<linux/mtio.h>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Over filemarks, to behind the last of them.
    ForwardFiles = 1,
    /// Over blocks towards the end.
    ForwardBlocks = 3,
    /// Over blocks towards the beginning.
    BackwardBlocks = 4,
    /// Writes filemarks, and brings all that was written to the tape; with a count of 0 only the latter.
    WriteFilemarks = 5,
    /// To the beginning of the tape.
    Rewind = 6,
    /// 0: each write is a block of its own size.
    SetBlockSize = 20,
    /// To an absolute block.
    Seek = 22,
}

/// What `MTIOCGET` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DriveStatus {
    /// File of the tape, counted by filemarks; `None` where the driver has lost count.
    pub file: Option<u32>,
    /// Block in that file.
    pub block: Option<u32>,
    /// Fixed size of blocks, 0 in variable-block mode.
    pub block_size: u32,
    /// The driver has met the end of what was written. It does not always notice (st(4) knows it after a filemark).
    pub end_of_data: bool,
    /// The drive has told of the end of the medium.
    pub end_of_tape: bool,
}

/// Sizes of blocks that the drive takes, in bytes (READ BLOCK LIMITS of SSC-3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The smallest.
    pub least: u32,
    /// The largest.
    pub most: u32,
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {} bytes", grouped(self.least.into()), grouped(self.most.into()))
    }
}

/// Whether a file is a tape drive.
pub fn is_tape(meta: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt;
    meta.file_type().is_char_device() && libc::major(meta.rdev()) as u64 == MAJOR
}

/// Whether the drive rewinds when this node of its is closed.
pub fn rewinds(meta: &std::fs::Metadata) -> bool {
    libc::minor(meta.rdev()) as u64 & NO_REWIND == 0
}

/// Tells the drive to do something, so many times or up to there.
///
/// # Errors
/// That of the ioctl (st(4)).
pub fn operate(tape: &File, op: Op, count: u32) -> Result<(), Errno> {
    let op = MtOp { op: op as libc::c_short, count: i32::try_from(count).map_err(|_| Errno::EINVAL)? };
    // SAFETY: the descriptor is open, and the structure has the layout that the kernel reads.
    unsafe { ioctl::mtioctop(tape.as_raw_fd(), &op) }.map(drop)
}

/// Where the tape stands, and the size of blocks (`MTIOCGET`).
///
/// # Errors
/// That of the ioctl.
pub fn status(tape: &File) -> Result<DriveStatus, Errno> {
    let mut got = MtGet::default();
    // SAFETY: the descriptor is open, and the structure has the layout that the kernel writes.
    unsafe { ioctl::mtiocget(tape.as_raw_fd(), &mut got) }?;
    let block_size = (got.dsreg & BLOCK_SIZE_MASK) as u32;
    let (file, block) = (got.file.try_into().ok(), got.block.try_into().ok());
    let is = |bit: i64| got.gstat & bit != 0;
    Ok(DriveStatus { file, block, block_size, end_of_data: is(END_OF_DATA), end_of_tape: is(END_OF_TAPE) })
}

/// The absolute block that the drive stands at. Not every drive tells.
pub fn position(tape: &File) -> Option<u64> {
    let mut got = MtPos::default();
    // SAFETY: as in `status`.
    unsafe { ioctl::mtiocpos(tape.as_raw_fd(), &mut got) }.ok()?;
    got.block.try_into().ok()
}

/// Why a SCSI command has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScsiFailure {
    /// The kernel did not pass it on.
    Kernel(Errno),
    /// The device refused it: sense key, additional sense code and its qualifier (SPC-4 4.5).
    Refused {
        /// Sense key.
        key: u8,
        /// Additional sense code.
        code: u8,
        /// Its qualifier.
        qualifier: u8,
    },
    /// It did not arrive, or its answer did not.
    Lost,
}

impl fmt::Display for ScsiFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            ScsiFailure::Kernel(Errno::EPERM | Errno::EACCES) => {
                f.write_str("the kernel passes this question on only for root (CAP_SYS_RAWIO)")
            }
            ScsiFailure::Kernel(errno) => write!(f, "the kernel does not pass it on: {}", errno.desc()),
            ScsiFailure::Refused { key: 2, code: 0x3a, .. } => f.write_str("there is no cartridge in the drive"),
            ScsiFailure::Refused { key: 5, code: 0x20, .. } => f.write_str("the drive does not know this command"),
            ScsiFailure::Refused { key: 5, code: 0x24 | 0x26, .. } => f.write_str("the drive does not have it"),
            ScsiFailure::Refused { key, code, qualifier } => {
                let name = match key {
                    0 => "it gives no reason",
                    1 => "it was done with a recovery",
                    2 => "it is not ready",
                    3 => "the medium fails",
                    4 => "its hardware fails",
                    5 => "it takes no such request",
                    6 => "something was changed meanwhile",
                    7 => "its data is protected",
                    8 => "the medium is blank there",
                    0xb => "it was given up",
                    _ => "see its manual",
                };
                write!(f, "the drive refuses it: {name} (sense {key:x}/{code:02x}/{qualifier:02x})")
            }
            ScsiFailure::Lost => f.write_str("the command did not reach the drive, or its answer was lost"),
        }
    }
}

/// Sends a command that only asks, and writes what comes back into `data`; returns how many bytes that are. A device that
/// has something to tell first (a unit attention) is asked again.
///
/// # Errors
/// If the kernel does not pass it on, the device refuses it, or nothing comes back within a minute.
pub fn ask(device: &File, command: &[u8], data: &mut [u8]) -> Result<usize, ScsiFailure> {
    let mut answer = ask_once(device, command, data);
    for _ in 0..2 {
        if !matches!(answer, Err(ScsiFailure::Refused { key: 6, .. })) {
            break;
        }
        answer = ask_once(device, command, data);
    }
    answer
}

fn ask_once(device: &File, command: &[u8], data: &mut [u8]) -> Result<usize, ScsiFailure> {
    let mut sense = [0_u8; 64];
    let mut request = SgIo {
        interface: libc::c_int::from(b'S'),
        // SG_DXFER_FROM_DEV
        direction: -3,
        command_len: command.len() as u8,
        sense_max: sense.len() as u8,
        iovec_count: 0,
        data_len: data.len() as u32,
        data: data.as_mut_ptr(),
        command: command.as_ptr(),
        sense: sense.as_mut_ptr(),
        timeout: 60_000,
        flags: 0,
        pack_id: 0,
        user: std::ptr::null_mut(),
        status: 0,
        masked_status: 0,
        message_status: 0,
        sense_written: 0,
        host_status: 0,
        driver_status: 0,
        residual: 0,
        duration: 0,
        info: 0,
    };
    // SAFETY: the descriptor is open, the structure has the layout that the kernel expects, and its
    // pointers lead to arrays of the lengths beside them that outlive the call.
    unsafe { ioctl::sg_io(device.as_raw_fd(), &mut request) }.map_err(ScsiFailure::Kernel)?;
    let sense = &sense[..usize::from(request.sense_written).min(sense.len())];
    match request.status {
        0 if request.host_status == 0 => {
            let left = usize::try_from(request.residual).unwrap_or(0);
            Ok(data.len().saturating_sub(left))
        }
        // CHECK CONDITION, with a key that says that it was done all the same
        2 if matches!(refusal(sense), ScsiFailure::Refused { key: 1, .. }) => Ok(data.len()),
        2 => Err(refusal(sense)),
        _ => Err(ScsiFailure::Lost),
    }
}

/// Sense data in its fixed and its descriptor format (SPC-4 4.5.2 and 4.5.3).
fn refusal(sense: &[u8]) -> ScsiFailure {
    let at = |n: usize| sense.get(n).copied().unwrap_or(0);
    match at(0) & 0x7f {
        0x70 | 0x71 => ScsiFailure::Refused { key: at(2) & 0xf, code: at(12), qualifier: at(13) },
        0x72 | 0x73 => ScsiFailure::Refused { key: at(1) & 0xf, code: at(2), qualifier: at(3) },
        _ => ScsiFailure::Lost,
    }
}
