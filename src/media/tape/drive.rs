//! What a tape drive can do: the interface that sinks and readers see, and the real one behind it.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::IntoRawFd,
    path::Path,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    libc,
};

use super::{
    mtio::{self, DriveStatus, Limits, Op},
    scsi::{
        answer, command,
        facts::{DriveFacts, ScsiDevice as _},
    },
};
use crate::{error, fd, log};

/// After so long it is told that a tape is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// A drive with a tape in it. A write(2) or read(2) is a block, or in fixed-block mode several (st(4)).
pub trait TapeDrive: Send {
    /// Writes at the place where the tape stands. Returns how many bytes were taken.
    ///
    /// # Errors
    /// ENOSPC at the end of the tape: nothing was written. Others are those of st(4).
    fn write(&mut self, block: &[u8]) -> io::Result<usize>;

    /// Reads what stands there; 0 at a filemark, which is passed.
    ///
    /// # Errors
    /// ENOMEM if a block is larger than `into`, in variable-block mode. Others are those of st(4).
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize>;

    /// Does something so many times, or up to there.
    ///
    /// # Errors
    /// Those of st(4): EIO where a filemark or the end was met.
    fn operate(&mut self, op: Op, count: u32) -> Result<(), Errno>;

    /// Where the tape stands, and the size of blocks.
    ///
    /// # Errors
    /// If the driver does not answer.
    fn status(&self) -> Result<DriveStatus, Errno>;

    /// The drive's own address of the block that it stands at. Not every drive tells.
    fn position(&self) -> Option<u64>;

    /// Sizes of blocks that the drive takes, if it tells.
    fn limits(&self) -> Option<Limits>;

    /// What the drive knows of itself and of its cartridge.
    fn facts(&self) -> DriveFacts;

    /// Whether it was opened for reading, too.
    fn can_read(&self) -> bool;

    /// Whether the tape is rewound when this is closed.
    fn rewinds_on_close(&self) -> bool;

    /// Closes the drive.
    ///
    /// # Errors
    /// What was written may fail as late as this.
    fn close(self: Box<Self>) -> io::Result<()>;
}

/// A drive of Linux's st driver.
pub struct StDrive(File);

impl StDrive {
    /// A node that is open.
    pub fn new(file: File) -> StDrive {
        StDrive(file)
    }

    /// Opens the node at `path` for writing and reading.
    ///
    /// # Errors
    /// As [`open_node`].
    pub fn open(path: &Path) -> error::Result<StDrive> {
        open_node(path, OFlag::O_RDWR).map(StDrive)
    }
}

/// Opens the node of a drive. The driver waits for a tape, two minutes or more (st(4)), and that is told.
///
/// # Errors
/// Those of open(2), or a signal.
pub fn open_node(path: &Path, flags: OFlag) -> error::Result<File> {
    let (opened, waiting) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            if waiting.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                log::warn(format_args!("{path:?}: the drive is not ready; waiting for a tape in it"));
            }
        });
        let file = fd::open(path, flags);
        drop(opened);
        file
    })
}

impl TapeDrive for StDrive {
    fn write(&mut self, block: &[u8]) -> io::Result<usize> {
        self.0.write(block)
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }

    fn operate(&mut self, op: Op, count: u32) -> Result<(), Errno> {
        mtio::operate(&self.0, op, count)
    }

    fn status(&self) -> Result<DriveStatus, Errno> {
        mtio::status(&self.0)
    }

    fn position(&self) -> Option<u64> {
        mtio::position(&self.0)
    }

    fn limits(&self) -> Option<Limits> {
        answer::block_limits(&self.0.ask(&command::block_limits()).ok()?)
    }

    fn facts(&self) -> DriveFacts {
        DriveFacts::of(&self.0)
    }

    fn can_read(&self) -> bool {
        fcntl(&self.0, FcntlArg::F_GETFL).is_ok_and(|mode| mode & libc::O_ACCMODE != libc::O_WRONLY)
    }

    fn rewinds_on_close(&self) -> bool {
        self.0.metadata().is_ok_and(|meta| mtio::rewinds(&meta))
    }

    fn close(self: Box<Self>) -> io::Result<()> {
        Ok(nix::unistd::close(self.0.into_raw_fd())?)
    }
}
