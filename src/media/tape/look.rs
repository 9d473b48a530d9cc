//! What stands on a tape at a place, found out before it is lost.

use std::io::ErrorKind as IoErrorKind;

use nix::errno::Errno;

use super::{drive::TapeDrive, label::Label, locate::Place, mtio::Op};
use crate::{
    error::{Context, Error, Result},
    signal,
    util::units::grouped,
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
    let mut found = match fixed {
        0 => read_any(drive, &place, block),
        _ => read(drive, &place, fixed as usize),
    };
    // The tape may have other blocks than those that the drive is set to.
    if fixed > 0 && matches!(found, Ok(Found::Unreadable)) && drive.operate(Op::SetBlockSize, 0).is_ok() {
        found = place.go(drive).and_then(|()| read_any(drive, &place, block));
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

/// Reads a block of any size. Where the tape stands then is not known.
fn read_any(drive: &mut dyn TapeDrive, place: &Place, block: usize) -> Result<Found> {
    match read(drive, place, block.max(PIECE)) {
        // A read may not be as large as that; as large as a write it may.
        Err(e) if block < PIECE && e.os_error().is_some_and(is_too_large) => read(drive, place, block),
        other => other,
    }
}

/// Whether a drive, its adapter or the driver may say this of a read that is too large for them (st.c).
pub fn is_too_large(errno: i32) -> bool {
    matches!(Errno::from_raw(errno), Errno::EINVAL | Errno::EBUSY | Errno::EOVERFLOW)
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
            Err(e) if e.raw_os_error() == Some(Errno::EIO as i32) => {
                let found = unread(drive, place)?;
                return if found == Found::Unreadable { again(drive, place, bytes) } else { Ok(found) };
            }
            Err(e) => return Err(e).doing(|| "reading what stands there"),
        }
    }
}

/// A second try at a block that could not be read. One that can be now may be another one, where only the driver tells
/// where the tape stands: its count of blocks begins anew when it is made to write out its buffer (st.c).
fn again(drive: &mut dyn TapeDrive, place: &Place, mut bytes: Vec<u8>) -> Result<Found> {
    place.go(drive)?;
    match drive.read(&mut bytes) {
        Ok(n) if n > 0 && place.position.is_some() => {
            bytes.truncate(n);
            Ok(Found::Block(bytes))
        }
        Ok(n) if n > 0 => {
            let why = "the driver does not know where the tape stands";
            Err(Error::new(why).hint("rewind it, or position it with mt(1)"))
        }
        _ => Ok(Found::Unreadable),
    }
}

/// Whether so many blocks that a read gave of a place are there. Behind the last block a drive may fail to tell how
/// much was read, and the driver takes it for all that was asked for. The tape stands behind them, if they are.
///
/// # Errors
/// If the tape cannot be brought to that place.
pub fn is_there(drive: &mut dyn TapeDrive, place: &Place, all: bool, blocks: u32) -> Result<bool> {
    let has_moved = || place.position.is_some() && drive.position() == place.ahead(blocks.into()).position;
    if !all || !drive.status().is_ok_and(|status| status.end_of_tape || status.end_of_data) || has_moved() {
        return Ok(true);
    }
    place.go(drive).doing(|| "going back to see whether the tape has ended")?;
    Ok(drive.operate(Op::ForwardBlocks, blocks).is_ok())
}

/// What a place is called at which nothing was written.
pub fn nothing_at(place: &Place) -> Found {
    if place.is_beginning() { Found::Blank } else { Found::EndOfData }
}

/// What stands at a place at which a read failed with EIO: of a read the driver says the same of an end and of a bad
/// block, of a move over it only the former (`GMT_EOD`). Where the tape stands then is not known.
///
/// # Errors
/// If the tape cannot be brought to that place, or stood elsewhere than the driver says.
pub fn unread(drive: &mut dyn TapeDrive, place: &Place) -> Result<Found> {
    let has_ended = |drive: &dyn TapeDrive| drive.status().is_ok_and(|status| status.end_of_data);
    if has_ended(drive) {
        return Ok(nothing_at(place));
    }
    place.go(drive)?;
    if drive.operate(Op::ForwardBlocks, 1).is_err() && has_ended(drive) {
        return Ok(nothing_at(place));
    }
    Ok(Found::Unreadable)
}

/// Whether nothing is where the tape stands, as a read there tells. It is not brought back.
///
/// # Errors
/// A signal that asks to stop, or a drive that does not go back to its mode.
pub fn is_nothing_here(drive: &mut dyn TapeDrive, block: usize) -> Result<bool> {
    let fixed = drive.status().map_or(0, |status| status.block_size);
    let is_nothing = ends_here(drive, block)?;
    // In fixed-block mode the end may look like a block that cannot be read.
    if is_nothing || fixed == 0 || drive.operate(Op::SetBlockSize, 0).is_err() {
        return Ok(is_nothing);
    }
    let is_nothing = ends_here(drive, block);
    drive.operate(Op::SetBlockSize, fixed).doing(|| "setting the drive to its blocks again")?;
    is_nothing
}

fn ends_here(drive: &mut dyn TapeDrive, block: usize) -> Result<bool> {
    let has_ended = |drive: &dyn TapeDrive| drive.status().is_ok_and(|status| status.end_of_data || status.end_of_tape);
    if drive.status().is_ok_and(|status| status.end_of_data) {
        return Ok(true);
    }
    let mut bytes = vec![0; block];
    loop {
        return match drive.read(&mut bytes) {
            Err(e) if e.kind() == IoErrorKind::Interrupted => {
                signal::check()?;
                continue;
            }
            Ok(n) if n > 0 && n < block => Ok(false),
            _ => Ok(has_ended(drive)),
        };
    }
}

/// Reads what stands where the tape stands, at most as much as one write of `block` bytes put there; nothing at a
/// filemark or behind the last block. The tape must be positioned again then.
///
/// # Errors
/// If it cannot be read, or a block is larger, or a signal asks to stop.
pub fn read_block(drive: &mut dyn TapeDrive, block: usize) -> Result<Vec<u8>> {
    let (place, fixed) = (Place::of(drive)?, drive.status().doing(|| "asking for its status")?.block_size);
    let mut bytes = vec![0; block];
    loop {
        match drive.read(&mut bytes) {
            Ok(n) => {
                let blocks = (n as u32).checked_div(fixed).unwrap_or(1);
                let is_there = is_there(drive, &place, n == block && place.is_known(), blocks)?;
                bytes.truncate(if is_there { n } else { 0 });
                return Ok(bytes);
            }
            Err(e) if e.kind() == IoErrorKind::Interrupted => signal::check()?,
            Err(e) if e.raw_os_error() == Some(Errno::ENOMEM as i32) => {
                return Err(Error::new(format!("a block has more than {} bytes", grouped(block as u64))));
            }
            Err(e) => return Err(e).doing(|| "reading a block of it"),
        }
    }
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
