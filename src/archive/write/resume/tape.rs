//! An archive on a tape goes on in front of a block.

use std::io::Read;

use nix::errno::Errno;

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
        tape::{
            cartridge::WantedVolume,
            drive::TapeDrive,
            locate::{self, Place},
            look,
        },
    },
    util::units::grouped,
};

/// As much of an archive's beginning is compared.
const BEGINNING_MAX: usize = 16 << 20;
/// A frame is larger than what is in it by no more.
const FRAME_SLACK: usize = 64 << 10;

/// Where an interrupted archive on a tape goes on.
pub struct TapePoint {
    /// Where, and the records that stay.
    pub resumed: Resumed,
    /// The volume that is in the drive.
    pub volume: Volume,
}

/// Positions the tape where an interrupted run can go on: in front of the last block that both the checkpoint and
/// the tape have, and that ends behind the last whole blob. What the block holds of whole blobs is read, and
/// written again with what follows. `wanted` is the volume, of whatever number; its blocks are those of the stream.
/// `None` if the archive is whole: the tape stands behind its filemark then.
///
/// # Errors
/// If the tape or the checkpoint is of another archive, or what stands behind it would be lost; then nothing was
/// written.
pub fn examine(
    plan: &Plan,
    drive: &mut dyn TapeDrive,
    wanted: &WantedVolume,
    mut records: Vec<CheckpointRecord>,
    format: Option<Format>,
) -> Result<Option<TapePoint>> {
    let name = wanted.drive;
    let (positioning, block) = (|| format!("positioning {name}"), wanted.block as u64);
    belong(plan, &records)?;
    let moved = |(n, record): (usize, &CheckpointRecord)| plan.blob_end(n) != Some(record.offset);
    if format.is_none() && records.iter().enumerate().any(moved) {
        return Err(another("blobs end elsewhere"));
    }
    // The volume that the tape proved to be.
    let mut proved = 0;
    loop {
        let last =
            records.last().ok_or_else(|| Error::new("the tape holds nothing that the checkpoint speaks of"))?.clone();
        let Some(volume) = last.volume else {
            return Err(Error::usage("the checkpoint is that of a file, not of a tape"));
        };
        let wanted = WantedVolume { number: volume.number, ..wanted.clone() };
        if proved != volume.number {
            check_blocks(drive, &volume, block)?;
            wanted.must_be(drive, &volume)?;
            if volume.number == 1 {
                let beginning = same_beginning(plan, drive, &volume, format, (wanted.block, records[0].offset));
                beginning.doing(|| format!("the tape in {name} is not volume 1 of this archive"))?;
            }
            proved = volume.number;
        }
        let at = (last.offset / block * block).max(volume.offset);
        let need = (last.offset - at) as usize;
        let reached = locate::go_to(drive, &volume, at).doing(positioning)?;
        if reached == at && records.len() == plan.blobs() && is_whole(plan, drive, need, format, wanted.block)? {
            return Ok(None);
        }
        locate::go_exactly(drive, &volume, reached).doing(positioning)?;
        let mut overlap = Vec::new();
        if need > 0 && reached == at {
            overlap = read_if_there(drive, wanted.block)?;
        }
        if reached < at || overlap.len() < need {
            log::warn(format_args!(
                "{name}: the tape ends before offset {}, of which the checkpoint speaks: what is missing is made again",
                grouped(last.offset)
            ));
            let there = reached + overlap.len() as u64;
            records.retain(|record| record.offset <= there && record.offset < last.offset);
            continue;
        }
        overlap.truncate(need);
        wanted.nothing_behind(drive)?;
        locate::go_exactly(drive, &volume, at).doing(positioning)?;
        let plan_offset = plan.blob_end(records.len() - 1).unwrap_or(0);
        let point = ResumePoint { plan_offset, medium_offset: at, overlap, prefix: None };
        return Ok(Some(TapePoint { resumed: (point, records), volume }));
    }
}

/// The block where the tape stands, or nothing if the data ends there.
fn read_if_there(drive: &mut dyn TapeDrive, block: usize) -> Result<Vec<u8>> {
    let place = Place::of(drive)?;
    match look::read_block(drive, block) {
        Err(e) if e.os_error() == Some(Errno::EIO as i32) && look::unread(drive, &place)?.is_empty() => Ok(Vec::new()),
        other => other,
    }
}

/// Whether the tape has all that is planned behind the last blob, and then a filemark. It stands in front of the
/// block that the last blob ends in, `need` bytes behind its beginning.
fn is_whole(plan: &Plan, drive: &mut dyn TapeDrive, need: usize, format: Option<Format>, block: usize) -> Result<bool> {
    let planned = plan.tail();
    let mut there = Vec::new();
    // Frames are hardly larger than what is in them.
    while there.len() <= need + 2 * planned.len() + 2 * block {
        match look::read_block(drive, block) {
            Ok(bytes) if bytes.is_empty() => {
                let ended = drive.status().doing(|| "asking for its status")?.end_of_data;
                let behind = there.get(need..).unwrap_or_default();
                return Ok(!ended && holds(behind, &planned, format));
            }
            Ok(bytes) => there.extend(bytes),
            Err(e) if e.is_signal() => return Err(e),
            Err(_) => break,
        }
    }
    Ok(false)
}

/// Whether what is there is `planned`, compressed or not, and no more than zeros behind it.
fn holds(there: &[u8], planned: &[u8], format: Option<Format>) -> bool {
    let Some(format) = format else {
        return there.strip_prefix(planned).is_some_and(|rest| rest.iter().all(|byte| *byte == 0));
    };
    let mut found = Vec::new();
    let read = frames_reader(there, format).map(|from| from.take(planned.len() as u64).read_to_end(&mut found));
    matches!(read, Ok(Ok(_))) && found == planned
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

/// Whether the archive on a tape begins as planned, as far as that is known here: the root's manifest is in it, and
/// that names all others by their digests. `need` bytes of it must be there.
fn same_beginning(
    plan: &Plan,
    drive: &mut dyn TapeDrive,
    volume: &Volume,
    format: Option<Format>,
    (block, need): (usize, u64),
) -> Result<()> {
    let mut planned = plan.known_prefix(true);
    planned.truncate(BEGINNING_MAX);
    locate::go_exactly(drive, volume, volume.offset)?;
    let mut there = Vec::new();
    while there.len() < planned.len() + FRAME_SLACK {
        match look::read_block(drive, block) {
            Ok(bytes) if !bytes.is_empty() => there.extend(bytes),
            Err(e) if e.is_signal() => return Err(e),
            _ => break,
        }
    }
    let held = there.len() as u64;
    if let Some(format) = format {
        let mut begin = Vec::new();
        // It may end in the middle of a frame.
        if let Ok(from) = frames_reader(&there[..], format) {
            let _ = from.take(planned.len() as u64).read_to_end(&mut begin);
        }
        there = begin;
    }
    let n = planned.len().min(there.len());
    let is_short = n < planned.len() && held < need;
    match planned[..n] == there[..n] && n > 0 && !is_short {
        true => Ok(()),
        false => Err(another("the tape begins otherwise")),
    }
}

#[cfg(test)]
mod tests;
