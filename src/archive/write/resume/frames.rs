//! A compressed archive in a file goes on where a frame ends.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
    os::unix::fs::FileExt,
};

use super::{ResumePoint, Resumed, another};
use crate::{
    archive::{
        checkpoint::CheckpointRecord,
        write::{
            compress,
            frame::{frames_reader, read_frame},
            plan::Plan,
            producer::WrittenPrefix,
        },
    },
    compression::Format,
    error::{Context, Error, Result},
};

/// The frames behind the last record of a compressed archive.
struct Frames {
    file: File,
    format: Format,
    /// Where the first begins in the file.
    medium_offset: u64,
    /// And in the plan's stream.
    plan_offset: u64,
}

impl WrittenPrefix for Frames {
    fn read_from(&self, offset: u64) -> Result<Box<dyn Read>> {
        let doing = || "reading it";
        let mut file = self.file.try_clone().doing(doing)?;
        file.seek(SeekFrom::Start(self.medium_offset)).doing(doing)?;
        let mut from = frames_reader(BufReader::new(file), self.format).doing(doing)?;
        let skip = offset.checked_sub(self.plan_offset).ok_or_else(|| Error::new("that frame is not kept"))?;
        io::copy(&mut from.by_ref().take(skip), &mut io::sink()).doing(doing)?;
        Ok(from)
    }
}

/// Compares what the file holds with the plan; `None` if it is the whole archive, of which every blob has its record.
///
/// # Errors
/// If it is not the beginning of the planned archive, or cannot be read.
pub fn examine(
    plan: &Plan,
    file: &File,
    records: Vec<CheckpointRecord>,
    format: Format,
    block: u64,
) -> Result<Option<Resumed>> {
    // The first frame holds all that stands in front of the first blob.
    let planned = plan.known_prefix(false);
    let mut there = Vec::new();
    let mut from = file.try_clone().doing(|| "reading it")?;
    from.rewind().doing(|| "reading it")?;
    let from = frames_reader(BufReader::new(from), format).doing(|| "reading it")?;
    // A run may have ended in the first frame.
    let decoded = from.take(planned.len() as u64).read_to_end(&mut there);
    if !planned.starts_with(&there) || !begins_as(file, format) {
        return Err(another("it begins otherwise"));
    }
    let Some(last) = records.last() else { return Ok(Some(Default::default())) };
    if let Err(e) = decoded {
        return Err(another(format_args!("it does not decompress: {e}")));
    }
    if records.len() == plan.blobs() && has_tail(plan, file, format, last.offset)? {
        return Ok(None);
    }
    let recorded = plan.blob_end(records.len() - 1).unwrap_or(0);
    let (plan_offset, end) = whole_frames(plan, file, format, recorded, last.offset)?;
    let medium_offset = end / block * block;
    let mut overlap = vec![0; (end - medium_offset) as usize];
    file.read_exact_at(&mut overlap, medium_offset).doing(|| "reading it")?;
    let file = file.try_clone().doing(|| "opening it")?;
    let prefix = Frames { file, format, medium_offset: last.offset, plan_offset: recorded };
    Ok(Some((ResumePoint { plan_offset, medium_offset, overlap, prefix: Some(Box::new(prefix)) }, records)))
}

/// Whether what stands in the file from `offset` on is all that follows the last blob, and no more.
fn has_tail(plan: &Plan, file: &File, format: Format, offset: u64) -> Result<bool> {
    let mut from = file.try_clone().doing(|| "reading it")?;
    from.seek(SeekFrom::Start(offset)).doing(|| "reading it")?;
    let (planned, mut there) = (plan.tail(), Vec::new());
    let from = frames_reader(BufReader::new(from), format).doing(|| "reading it")?;
    let read = from.take(planned.len() as u64 + 1).read_to_end(&mut there);
    Ok(read.is_ok() && there == planned)
}

/// The whole frames of the blob that the run broke off in, from these offsets in the plan's stream
/// and in the file on: where they end in both.
fn whole_frames(plan: &Plan, file: &File, format: Format, mut offset: u64, mut end: u64) -> Result<(u64, u64)> {
    let mut from = BufReader::new(file.try_clone().doing(|| "reading it")?);
    from.seek(SeekFrom::Start(end)).doing(|| "reading it")?;
    while offset < plan.total() {
        let planned = compress::frame_end(plan, offset);
        let whole = read_frame(format, &mut from, &mut io::sink());
        // A blob's last frame was kept back until its digest had proved right, and has its record.
        let is_last = plan.blob_end(plan.blob_after(offset)).is_none_or(|blob| planned == blob);
        if is_last || whole.ok() != Some(planned - offset) {
            break;
        }
        end = from.stream_position().doing(|| "reading it")?;
        offset = planned;
    }
    Ok((offset, end))
}

/// Whether the file begins with the magic of a format, as far as it goes.
fn begins_as(file: &File, format: Format) -> bool {
    let magic: &[u8] = match format {
        Format::Zstd => &[0x28, 0xB5, 0x2F, 0xFD],
        Format::Gzip => &[0x1F, 0x8B],
    };
    let mut there = [0; 4];
    let n = file.read_at(&mut there, 0).unwrap_or(0).min(magic.len());
    magic.starts_with(&there[..n])
}
