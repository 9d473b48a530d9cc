//! The node of a drive, and its generic node beside it, which takes commands where the first does not.

use std::{
    fs::File,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use nix::{errno::Errno, fcntl::OFlag, libc};

use super::{command::ScsiCommand, facts::ScsiDevice};
use crate::{
    error::{Error, Result},
    fd,
    media::tape::mtio::{self, ScsiFailure},
};

/// A drive that is asked.
pub struct DriveNode {
    /// The node of the st driver, or whatever was named; none of one that rewinds the tape when it is closed.
    named: Option<Result<File>>,
    /// The number of that node.
    device: u64,
}

impl DriveNode {
    /// Opens the node at `path` to be asked: one of the st driver, whether or not a cartridge is in the drive, or a generic one
    /// (sg(4)). A node that somebody else uses is asked through its generic one.
    ///
    /// # Errors
    /// If there is no such device, and no way to ask it.
    pub fn open(path: &Path) -> Result<DriveNode> {
        let meta = std::fs::metadata(path).map_err(Error::from_io)?;
        if !meta.file_type().is_char_device() {
            return Err(Error::usage("it is no tape drive, but a file of another kind"));
        }
        let may_open = !(mtio::is_tape(&meta) && mtio::rewinds(&meta));
        let named = may_open.then(|| fd::open(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK));
        let node = DriveNode { named, device: meta.rdev() };
        match &node.named {
            Some(Err(e)) if node.generic().is_none() => Err(e.clone()),
            None if node.generic().is_none() => {
                let why = "to ask this node would rewind the tape, and the drive has no generic node";
                Err(Error::new(why).hint("its node /dev/nst* does not rewind"))
            }
            _ => Ok(node),
        }
    }

    fn generic(&self) -> Option<PathBuf> {
        generic_node(self.device)
    }
}

impl ScsiDevice for DriveNode {
    fn ask(&self, command: &ScsiCommand) -> Result<Vec<u8>, ScsiFailure> {
        let asked = match &self.named {
            Some(Ok(file)) => ask_file(file, command),
            Some(Err(e)) => Err(ScsiFailure::Kernel(e.os_error().map_or(Errno::EIO, Errno::from_raw))),
            None => Err(ScsiFailure::Kernel(Errno::EBUSY)),
        };
        or_generic(asked, command, self.device)
    }
}

/// A drive that is open already.
impl ScsiDevice for File {
    fn ask(&self, command: &ScsiCommand) -> Result<Vec<u8>, ScsiFailure> {
        or_generic(ask_file(self, command), command, self.metadata().map_or(0, |meta| meta.rdev()))
    }
}

/// The answer that was got, or if the kernel did not pass the command on, that of the generic node.
fn or_generic(asked: Result<Vec<u8>, ScsiFailure>, command: &ScsiCommand, device: u64) -> Result<Vec<u8>, ScsiFailure> {
    let Err(ScsiFailure::Kernel(errno)) = asked else { return asked };
    let opened = generic_node(device).and_then(|path| fd::open(&path, OFlag::O_RDWR | OFlag::O_NONBLOCK).ok());
    match opened {
        Some(file) => ask_file(&file, command),
        None => Err(ScsiFailure::Kernel(errno)),
    }
}

fn ask_file(file: &File, command: &ScsiCommand) -> Result<Vec<u8>, ScsiFailure> {
    let mut data = vec![0; command.room];
    let len = mtio::ask(file, &command.bytes, &mut data)?;
    data.truncate(len);
    Ok(data)
}

/// The generic node of a device of this number, as sysfs has it.
fn generic_node(device: u64) -> Option<PathBuf> {
    let (major, minor) = (libc::major(device), libc::minor(device));
    let all = std::fs::read_dir(format!("/sys/dev/char/{major}:{minor}/device/scsi_generic")).ok()?;
    let name = all.flatten().map(|entry| entry.file_name()).next()?;
    Some(Path::new("/dev").join(name))
}
