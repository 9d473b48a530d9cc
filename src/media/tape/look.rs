//! What stands on a tape at a place, found out before it is lost.

use std::io::ErrorKind as IoErrorKind;

use nix::errno::Errno;

use super::{drive::TapeDrive, label::Label, locate::Place, mtio::Op};
use crate::{
    error::{Context, Result},
    signal,
};

/// What is read at once in variable-block mode, at the least.
const PIECE: usize = 1 << 20;
/// No more files are counted.
const FILES_MAX: u32 = 1000;

/// What stands at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing was ever written to the tape.
    Blank,
    /// Nothing was written there, or behind it.
    EndOfData,
    /// A filemark.
    Filemark,
    /// A block; of one that is very large, none of its bytes.
    Block(Vec<u8>),
    /// Something that cannot be read.
    Unreadable,
    /// Nobody tells where the tape stands, so it was not moved.
    Unknown,
}

impl Found {
    /// The label of ours that it is, if it is one.
    pub fn label(&self) -> Option<Label> {
        match self {
            Found::Block(bytes) => Label::read(bytes),
            _ => None,
        }
    }

    /// Whether nothing stands there.
    pub fn is_empty(&self) -> bool {
        matches!(self, Found::Blank | Found::EndOfData)
    }
}

/// Reads what stands where the tape stands, and brings it back. A write would have blocks of `block` bytes.
///
/// # Errors
/// If the tape cannot be brought back, or a signal asks to stop.
pub fn look(drive: &mut dyn TapeDrive, block: usize) -> Result<(Found, Place)> {
    let place = Place::of(drive)?;
    if !place.is_known() {
        return Ok((Found::Unknown, place));
    }
    let fixed = drive.status().doing(|| "asking for its status")?.block_size;
    let mut found = read(drive, &place, if fixed > 0 { fixed as usize } else { block.max(PIECE) });
    if fixed > 0 && matches!(found, Ok(Found::Unreadable)) {
        // The tape may have other blocks than those that the drive is set to.
        drive.operate(Op::SetBlockSize, 0).doing(|| "setting the drive to blocks of any size")?;
        found = place.go(drive).and_then(|()| read(drive, &place, block.max(PIECE)));
        drive.operate(Op::SetBlockSize, fixed).doing(|| "setting the drive to its blocks again")?;
    }
    let found = found?;
    let back = || "bringing the tape back to where it stood";
    match found {
        // At the end of data a tape does not move; the driver miscounts there, and the drive need not.
        Found::EndOfData if place.position.is_none_or(|at| drive.position() == Some(at)) => {}
        Found::Block(_) => {
            let stepped = drive.operate(Op::BackwardBlocks, 1);
            if stepped.is_err() || !place.is_here(drive) {
                place.go(drive).doing(back)?;
            }
        }
        _ => place.go(drive).doing(back)?,
    }
    Ok((found, place))
}

/// Reads once. Where the tape stands then is not known.
fn read(drive: &mut dyn TapeDrive, place: &Place, size: usize) -> Result<Found> {
    let mut bytes = vec![0; size];
    loop {
        match drive.read(&mut bytes) {
            Ok(0) => {
                let ended = drive.status().is_ok_and(|status| status.end_of_data);
                return Ok(if ended { nothing_at(place) } else { Found::Filemark });
            }
            Ok(n) if !is_there(drive, place, n == size, 1)? => return Ok(nothing_at(place)),
            Ok(n) => {
                bytes.truncate(n);
                return Ok(Found::Block(bytes));
            }
            Err(e) if e.kind() == IoErrorKind::Interrupted => signal::check()?,
            Err(e) if e.raw_os_error() == Some(Errno::ENOMEM as i32) => return Ok(Found::Block(Vec::new())),
            Err(_) => return unread(drive, place),
        }
    }
}

/// Whether so many blocks that a read gave of a place are there. Behind the last block a drive may fail to tell how
/// much was read, and the driver takes it for all that was asked for. The tape stands behind them, if they are.
///
/// # Errors
/// If the tape cannot be brought to that place.
pub fn is_there(drive: &mut dyn TapeDrive, place: &Place, all: bool, blocks: u32) -> Result<bool> {
    if !all || !drive.status().is_ok_and(|status| status.end_of_tape || status.end_of_data) {
        return Ok(true);
    }
    place.go(drive).doing(|| "going back to see whether the tape has ended")?;
    Ok(drive.operate(Op::ForwardBlocks, blocks).is_ok())
}

fn nothing_at(place: &Place) -> Found {
    if place.is_beginning() { Found::Blank } else { Found::EndOfData }
}

/// What stands at a place at which a read failed: the driver says the same of an end and of a bad block, but
/// only over a block the tape can be moved. Where it stands then is not known.
///
/// # Errors
/// If the tape cannot be brought to that place.
pub fn unread(drive: &mut dyn TapeDrive, place: &Place) -> Result<Found> {
    if drive.status().is_ok_and(|status| status.end_of_data) {
        return Ok(nothing_at(place));
    }
    place.go(drive)?;
    Ok(match drive.operate(Op::ForwardBlocks, 1) {
        Ok(()) => Found::Unreadable,
        Err(_) => nothing_at(place),
    })
}

/// How many filemarks stand behind a place at which the tape stands. The tape is brought back.
///
/// # Errors
/// If the tape cannot be brought back, or a signal asks to stop.
pub fn files_behind(drive: &mut dyn TapeDrive, place: &Place) -> Result<u32> {
    let mut files = 0;
    while files < FILES_MAX && drive.operate(Op::ForwardFiles, 1).is_ok() {
        signal::check()?;
        files += 1;
    }
    place.go(drive).doing(|| "bringing the tape back to where it stood")?;
    Ok(files)
}
