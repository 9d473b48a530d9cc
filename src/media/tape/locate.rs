//! Where an interrupted archive goes on: brings the tape in a drive to a block of it.
//!
//! A drive that answers READ POSITION is sent to the block's address (`MTSEEK`). Any other is rewound, and
//! moved forward by files and blocks, which the driver counts.

use std::io::ErrorKind as IoErrorKind;

use nix::errno::Errno;

use super::{drive::TapeDrive, mtio::Op};
use crate::{
    error::{Context, Error, Result},
    log,
    media::sink::Volume,
    signal,
    util::units::grouped,
};

/// The most that one operation passes over: the driver has 24 bits, one of them for the direction.
const STEP: u32 = 0x7f_ffff;

/// Moves the tape in front of the block that begins at `offset` of the stream, or as far as the
/// stream is on it. Returns the offset that it stands at.
///
/// # Errors
/// If the tape cannot be moved, or nobody knows where it stands.
pub fn go_to(drive: &mut dyn TapeDrive, volume: &Volume, offset: u64) -> Result<u64> {
    let blocks = (offset - volume.offset) / u64::from(volume.block_size);
    let reached = match seek(drive, volume, blocks) {
        Some(reached) => reached,
        None => space_from_bot(drive, volume, blocks)?,
    };
    Ok(volume.offset + reached * u64::from(volume.block_size))
}

/// Moves the tape behind so many blocks of the stream by the drive's own addresses. Returns how many blocks
/// it is behind, or `None` where the drive does not tell addresses, or goes elsewhere.
fn seek(drive: &mut dyn TapeDrive, volume: &Volume, blocks: u64) -> Option<u64> {
    let first = u64::from(volume.position?);
    drive.position()?;
    let to = u32::try_from(first + blocks).ok()?;
    let sought = drive.operate(Op::Seek, to);
    let stands = drive.position()?;
    log::debug(format_args!("sought block {to} of the tape, and it stands at {stands}"));
    match sought {
        Ok(()) if stands == u64::from(to) => Some(blocks),
        // Behind the last block that was written.
        Err(_) if (first..to.into()).contains(&stands) => Some(stands - first),
        _ => None,
    }
}

/// Moves the tape from its beginning behind so many blocks of the stream, or as many as there are.
fn space_from_bot(drive: &mut dyn TapeDrive, volume: &Volume, blocks: u64) -> Result<u64> {
    let (Some(in_file), Some(in_block)) = (volume.file, volume.block) else {
        return Err(Error::new("the ledger does not say where the archive begins on the tape"));
    };
    drive.operate(Op::Rewind, 1).doing(|| "rewinding")?;
    if in_file > 0 {
        drive.operate(Op::ForwardFiles, in_file).doing(|| format!("going to file {in_file}"))?;
    }
    let reached = forward(drive, u64::from(in_block) + blocks)?;
    Ok(reached.saturating_sub(in_block.into()).min(blocks))
}

/// Reads what stands where the tape stands, at most as much as one write of `block` bytes put there.
/// The tape must be positioned again then.
///
/// # Errors
/// If it cannot be read, or a signal asks to stop.
pub fn read_block(drive: &mut dyn TapeDrive, block: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; block];
    loop {
        match drive.read(&mut bytes) {
            Ok(n) => {
                bytes.truncate(n);
                return Ok(bytes);
            }
            Err(e) if e.kind() == IoErrorKind::Interrupted => signal::check()?,
            Err(e) => return Err(e).doing(|| "reading a block of it"),
        }
    }
}

/// Moves the tape to block number `to` of the file at whose beginning it stands, or as far as there
/// are blocks. Returns which block that is.
fn forward(drive: &mut dyn TapeDrive, to: u64) -> Result<u64> {
    let mut left = to;
    while left > 0 {
        let step = u32::try_from(left).unwrap_or(STEP).min(STEP);
        if let Err(e) = drive.operate(Op::ForwardBlocks, step) {
            // A filemark, or the end of what was written.
            let stands = drive.status().ok().and_then(|status| status.block);
            return match (e, stands) {
                (Errno::EIO | Errno::ENOSPC, Some(block)) => Ok(block.into()),
                _ => Err(Error::from_errno(e)),
            };
        }
        left -= u64::from(step);
    }
    let stands = drive.status().ok().and_then(|status| status.block).map(u64::from);
    match stands {
        Some(block) if block == to => Ok(to),
        Some(block) => Err(Error::new(format!("it stands at block {}, not at {}", grouped(block), grouped(to)))),
        None => Err(Error::new("the driver does not know where it stands")),
    }
}
