//! An archive on a tape goes on in front of a block.

use std::io::Read;

use super::{ResumePoint, Resumed, another, belong};
use crate::{
    archive::{
        checkpoint::CheckpointRecord,
        write::{frame::frames_reader, plan::Plan},
    },
    compression::Format,
    error::{Context, Error, Result},
    log,
    media::{
        sink::Volume,
        tape::{drive::TapeDrive, locate},
    },
    util::units::grouped,
};

/// Where an interrupted archive on a tape goes on.
pub struct TapePoint {
    /// Where, and the records that stay.
    pub resumed: Resumed,
    /// The volume that is in the drive.
    pub volume: Volume,
}

/// Positions the tape in the drive of this name where an interrupted run can go on: in front of the last block that both
/// the checkpoint and the tape have, and that ends behind the last whole blob. What the block holds
/// of whole blobs is read, and written again with what follows. Blocks of the stream are of `block`
/// bytes.
///
/// # Errors
/// If the tape or the checkpoint is of another archive; then nothing was written.
pub fn examine(
    plan: &Plan,
    (drive, name): (&mut dyn TapeDrive, &str),
    mut records: Vec<CheckpointRecord>,
    format: Option<Format>,
    block: u64,
) -> Result<TapePoint> {
    let positioning = || format!("positioning {name}");
    belong(plan, &records)?;
    let moved = |(n, record): (usize, &CheckpointRecord)| plan.blob_end(n) != Some(record.offset);
    if format.is_none() && records.iter().enumerate().any(moved) {
        return Err(another("blobs end elsewhere"));
    }
    loop {
        let last =
            records.last().ok_or_else(|| Error::new("the tape holds nothing that the ledger speaks of"))?.clone();
        let Some(volume) = last.volume else {
            return Err(Error::usage("the ledger is that of a file, not of a tape"));
        };
        check_blocks(drive, &volume, block)?;
        if volume.number == 1 {
            same_beginning(plan, drive, &volume, format, block)?;
        }
        let at = (last.offset / block * block).max(volume.offset);
        let need = (last.offset - at) as usize;
        let mut reached = locate::go_to(drive, &volume, at).doing(positioning)?;
        let mut overlap = Vec::new();
        if need > 0 && reached == at {
            overlap = locate::read_block(drive, block as usize)?;
            reached = locate::go_to(drive, &volume, at).doing(positioning)?;
        }
        if reached < at || overlap.len() < need {
            log::warn(format_args!(
                "{name}: the tape ends before offset {}, of which the ledger speaks: what is missing is made again",
                grouped(last.offset)
            ));
            records.retain(|record| record.offset <= reached && record.offset < last.offset);
            continue;
        }
        overlap.truncate(need);
        let plan_offset = plan.blob_end(records.len() - 1).unwrap_or(0);
        let point = ResumePoint { plan_offset, medium_offset: at, overlap, prefix: None };
        return Ok(TapePoint { resumed: (point, records), volume });
    }
}

/// Whether the drive and the stream have the blocks that the tape has.
fn check_blocks(drive: &dyn TapeDrive, volume: &Volume, block: u64) -> Result<()> {
    let status = drive.status().doing(|| "asking for its status")?;
    let (fixed, size) = (u64::from(status.block_size), u64::from(volume.block_size));
    if (if fixed > 0 { fixed } else { block }) == size && block.is_multiple_of(size) {
        return Ok(());
    }
    let hint = match fixed {
        0 => format!("give --block-size {size}"),
        _ => format!("mt setblk {size}, and a --block-size that is a multiple of it"),
    };
    Err(Error::usage(format!("the tape has blocks of {} bytes", grouped(size))).hint(hint))
}

/// Whether the first block of the archive on a tape is what is planned, as far as that is known here.
fn same_beginning(
    plan: &Plan,
    drive: &mut dyn TapeDrive,
    volume: &Volume,
    format: Option<Format>,
    block: u64,
) -> Result<()> {
    locate::go_to(drive, volume, volume.offset)?;
    let block = locate::read_block(drive, block as usize)?;
    let planned = plan.known_prefix(true);
    let there = match format {
        None => block,
        Some(format) => {
            let mut begin = Vec::new();
            // The block may end in the middle of a frame.
            if let Ok(from) = frames_reader(&block[..], format) {
                let _ = from.take(planned.len() as u64).read_to_end(&mut begin);
            }
            begin
        }
    };
    let n = planned.len().min(there.len());
    match planned[..n] == there[..n] && n > 0 {
        true => Ok(()),
        false => Err(another("the tape begins otherwise")),
    }
}
