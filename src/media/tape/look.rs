//! What stands on a tape where it is to be written, found out before it is lost.

use std::io::ErrorKind as IoErrorKind;

use nix::errno::Errno;

use super::{
    drive::TapeDrive,
    label::Label,
    mtio::{DriveStatus, Op},
};
use crate::{
    error::{Context, Error, Result},
    signal,
    util::units::grouped,
};

/// What is read at once in variable-block mode, at the least.
const PIECE: usize = 1 << 20;

/// What stands where the tape stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing was written there, or behind it.
    EndOfData,
    /// A filemark.
    Mark,
    /// A block.
    Block(Vec<u8>),
    /// Something that cannot be read.
    Unreadable,
}

/// Reads what stands there, and brings the tape back in front of it. A write would have blocks of `block` bytes.
///
/// # Errors
/// If the tape cannot be brought back, or a signal asks to stop.
pub fn look(drive: &mut dyn TapeDrive, block: usize) -> Result<Found> {
    let (before, position) = (status(drive)?, drive.position());
    let size = if before.block_size > 0 { before.block_size as usize } else { block.max(PIECE) };
    let mut bytes = vec![0; size];
    let found = loop {
        match drive.read(&mut bytes) {
            Ok(0) if status(drive)?.end_of_data => break Found::EndOfData,
            Ok(0) => break Found::Mark,
            Ok(n) => {
                bytes.truncate(n);
                break Found::Block(bytes);
            }
            Err(e) if e.kind() == IoErrorKind::Interrupted => signal::check()?,
            Err(_) if status(drive)?.end_of_data => break Found::EndOfData,
            Err(_) => break Found::Unreadable,
        }
    };
    go_back(drive, before, position)?;
    Ok(found)
}

/// How many files of the tape begin at the place where it stands, or behind it, if the drive can tell. The tape
/// is brought back.
///
/// # Errors
/// If the tape cannot be brought back.
pub fn files_behind(drive: &mut dyn TapeDrive) -> Result<Option<u32>> {
    let (before, position) = (status(drive)?, drive.position());
    let moved = drive.operate(Op::EndOfData, 1);
    let end = status(drive)?;
    go_back(drive, before, position)?;
    let (Ok(()), Some(first), Some(last)) = (moved, before.file, end.file) else { return Ok(None) };
    // What was begun and has no filemark counts, too.
    Ok(last.checked_sub(first).map(|files| files + u32::from(end.block.is_some_and(|block| block > 0))))
}

/// The label of ours that stands there, if one does.
pub fn label(found: &Found) -> Option<Label> {
    match found {
        Found::Block(bytes) => Label::read(bytes),
        Found::EndOfData | Found::Mark | Found::Unreadable => None,
    }
}

fn status(drive: &dyn TapeDrive) -> Result<DriveStatus> {
    drive.status().doing(|| "asking for its status")
}

/// Brings the tape to where it stood.
fn go_back(drive: &mut dyn TapeDrive, to: DriveStatus, position: Option<u64>) -> Result<()> {
    let doing = || "bringing the tape back to where it stood";
    let is_there = |drive: &dyn TapeDrive| {
        let same = drive.status().is_ok_and(|now| now.file.is_some() && (now.file, now.block) == (to.file, to.block));
        same && drive.position() == position
    };
    if is_there(drive) {
        return Ok(());
    }
    match (to.file, to.block, position.map(u32::try_from)) {
        (Some(0), Some(0), _) => drive.operate(Op::Rewind, 1).doing(doing)?,
        (_, _, Some(Ok(position))) => {
            drive.operate(Op::Seek, position).doing(doing)?;
            // The driver does not count after a seek.
            return match drive.position() == Some(position.into()) {
                true => Ok(()),
                false => Err(Error::new("it stands elsewhere")).doing(doing),
            };
        }
        (Some(file), Some(block), _) => {
            drive.operate(Op::Rewind, 1).doing(doing)?;
            if file > 0 {
                drive.operate(Op::ForwardFiles, file).doing(doing)?;
            }
            if block > 0 {
                drive.operate(Op::ForwardBlocks, block).doing(doing)?;
            }
        }
        _ => return Err(Error::from_errno(Errno::EIO).after("the driver does not know where it stood")).doing(doing),
    }
    match is_there(drive) {
        true => Ok(()),
        false => {
            let now = status(drive)?;
            let place = |n: Option<u32>| n.map_or("?".into(), |n| grouped(n.into()));
            let why = format!("it stands at file {}, block {}", place(now.file), place(now.block));
            Err(Error::new(why)).doing(doing)
        }
    }
}
