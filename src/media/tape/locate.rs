//! Where an interrupted archive goes on: brings the tape in a drive to a block of it.
//!
//! A drive that answers READ POSITION is sent to the block's address (`MTSEEK`). Any other is rewound, and
//! moved forward by files and blocks, which the driver counts.

use std::{
    fs::File,
    io::{ErrorKind, Read},
    path::Path,
};

use nix::errno::Errno;

use crate::{
    error::{Context, Error, Result},
    log,
    media::{
        sink::Volume,
        tape::{
            mtio::{self, Op},
            sink::open_options,
        },
    },
    signal,
    util::units::grouped,
};

/// The most that one operation passes over: the driver has 24 bits, one of them for the direction.
const STEP: u32 = 0x7f_ffff;

/// The fixed size of blocks that the drive at `path` is set to; 0 for any size.
pub fn block_size(path: &Path) -> Result<u32> {
    let file = open_options().read(true).open(path).doing(|| "opening it")?;
    Ok(mtio::status(&file).doing(|| "asking for its status")?.block_size)
}

/// Opens the drive at `path`, for reading too, and moves the tape in front of the block that begins at
/// `offset` of the stream, or as far as the stream is on it. Returns the offset that it stands at.
///
/// # Errors
/// If the tape cannot be moved, or nobody knows where it stands.
pub fn go_to(path: &Path, volume: &Volume, offset: u64) -> Result<(File, u64)> {
    let doing = || format!("positioning {path:?}");
    let file = open_options().read(true).open(path).doing(|| format!("opening the destination {path:?}"))?;
    let blocks = (offset - volume.offset) / u64::from(volume.size);
    let reached = match seek(&file, volume, blocks) {
        Some(reached) => reached,
        None => wind(&file, volume, blocks).doing(doing)?,
    };
    Ok((file, volume.offset + reached * u64::from(volume.size)))
}

/// Moves the tape behind so many blocks of the stream by the drive's own addresses. Returns how many blocks
/// it is behind, or `None` where the drive does not tell addresses, or goes elsewhere.
fn seek(file: &File, volume: &Volume, blocks: u64) -> Option<u64> {
    let first = u64::from(volume.position?);
    mtio::position(file)?;
    let to = u32::try_from(first + blocks).ok()?;
    let sought = mtio::operate(file, Op::Seek, to);
    let stands = mtio::position(file)?;
    log::debug(format_args!("sought block {to} of the tape, and it stands at {stands}"));
    match sought {
        Ok(()) if stands == u64::from(to) => Some(blocks),
        // Behind the last block that was written.
        Err(_) if (first..to.into()).contains(&stands) => Some(stands - first),
        _ => None,
    }
}

/// Moves the tape from its beginning behind so many blocks of the stream, or as many as there are.
fn wind(file: &File, volume: &Volume, blocks: u64) -> Result<u64> {
    let (Some(in_file), Some(in_block)) = (volume.file, volume.block) else {
        return Err(Error::new("the ledger does not say where the archive begins on the tape"));
    };
    mtio::operate(file, Op::Rewind, 1).doing(|| "rewinding")?;
    if in_file > 0 {
        mtio::operate(file, Op::ForwardFiles, in_file).doing(|| format!("going to file {in_file}"))?;
    }
    let reached = forward(file, u64::from(in_block) + blocks)?;
    Ok(reached.saturating_sub(in_block.into()).min(blocks))
}

/// Reads what stands where the tape stands, at most as much as one write of `block` bytes put there.
/// The tape must be positioned again then.
pub fn read_block(mut file: &File, block: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; block];
    loop {
        match file.read(&mut bytes) {
            Ok(n) => {
                bytes.truncate(n);
                return Ok(bytes);
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => signal::check()?,
            Err(e) => return Err(e).doing(|| "reading a block of it"),
        }
    }
}

/// Moves the tape to block number `to` of the file at whose beginning it stands, or as far as there
/// are blocks. Returns which block that is.
fn forward(file: &File, to: u64) -> Result<u64> {
    let mut left = to;
    while left > 0 {
        let step = u32::try_from(left).unwrap_or(STEP).min(STEP);
        if let Err(e) = mtio::operate(file, Op::ForwardBlocks, step) {
            // A filemark, or the end of what was written.
            let stands = mtio::status(file).ok().and_then(|status| status.block);
            return match (e, stands) {
                (Errno::EIO | Errno::ENOSPC, Some(block)) => Ok(block.into()),
                _ => Err(Error::new(e.desc())),
            };
        }
        left -= u64::from(step);
    }
    let stands = mtio::status(file).ok().and_then(|status| status.block).map(u64::from);
    match stands {
        Some(block) if block == to => Ok(to),
        Some(block) => Err(Error::new(format!("it stands at block {}, not at {}", grouped(block), grouped(to)))),
        None => Err(Error::new("the driver does not know where it stands")),
    }
}
