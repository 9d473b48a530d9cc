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

/// Sizes of blocks that the drive takes. The kernel passes the question on only for processes with
/// CAP_SYS_RAWIO.
pub fn limits(tape: &File) -> Option<Limits> {
    let (command, mut data, mut sense) = ([5_u8, 0, 0, 0, 0, 0], [0_u8; 6], [0_u8; 32]);
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
        timeout: 10_000,
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
    unsafe { ioctl::sg_io(tape.as_raw_fd(), &mut request) }.ok()?;
    let most = u32::from_be_bytes([0, data[1], data[2], data[3]]);
    let least = u32::from(u16::from_be_bytes([data[4], data[5]]));
    let is_good = request.status == 0 && request.host_status == 0 && most > 0;
    is_good.then_some(Limits { least, most })
}
