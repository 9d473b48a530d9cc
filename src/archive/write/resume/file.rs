//! An uncompressed archive in a file goes on at any block.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::FileExt,
};

use super::{ResumePoint, Resumed, another};
use crate::{
    archive::{
        checkpoint::CheckpointRecord,
        write::{
            plan::{Entry, EntryBody, Plan},
            producer::WrittenPrefix,
        },
    },
    error::{Context, Result},
    log,
    oci::Digest,
    util::units::grouped,
};

/// An archive in a file.
struct PlainFile(File);

impl WrittenPrefix for PlainFile {
    fn read_from(&self, offset: u64) -> Result<Box<dyn Read>> {
        let mut file = self.0.try_clone().doing(|| "reading it")?;
        file.seek(SeekFrom::Start(offset)).doing(|| "reading it")?;
        Ok(Box::new(file))
    }
}

/// Compares what the file holds, `length` bytes, with the plan; `None` if it is the whole archive, of which every blob has
/// its record.
///
/// # Errors
/// If it is not the beginning of the planned archive, or cannot be read.
pub fn examine(
    plan: &Plan,
    file: &File,
    mut length: u64,
    mut records: Vec<CheckpointRecord>,
    block: u64,
) -> Result<Option<Resumed>> {
    if let Some((n, record)) = records.iter().enumerate().find(|(n, r)| plan.blob_end(*n) != Some(r.offset)) {
        return Err(another(format_args!("the checkpoint says that blob {n} ends at {}", record.offset)));
    }
    if length > plan.total() {
        let why = format!("it has {} bytes, and the archive will have {}", grouped(length), grouped(plan.total()));
        return Err(another(why));
    }
    let recorded = records.last().map_or(0, |record| record.offset);
    for n in 0..plan.entries() {
        let entry = plan.entry(n);
        if entry.start >= length {
            break;
        }
        if !is_there(plan, &entry, file, length, recorded).doing(|| "reading it")? {
            // What a machine that lost its power had not brought to the disk yet.
            if recorded > 0 && entry.start >= recorded {
                log::warn(format_args!(
                    "what it holds from offset {} on, of which the checkpoint does not speak, is not what is planned, and is \
                     made again",
                    grouped(entry.start)
                ));
                length = entry.start;
                break;
            }
            let why = format!("what it holds at offset {} is not what is planned", grouped(entry.start));
            return Err(another(why));
        }
    }
    if length == plan.total() && records.len() == plan.blobs() {
        return Ok(None);
    }
    let at = length / block * block;
    records.retain(|record| record.offset <= at);
    let prefix = PlainFile(file.try_clone().doing(|| "opening it")?);
    let point = ResumePoint { plan_offset: at, medium_offset: at, overlap: Vec::new(), prefix: Some(Box::new(prefix)) };
    Ok(Some((point, records)))
}

/// Whether the file holds an entry with its padding, as far as it goes. Blobs that are `recorded` are not hashed again.
fn is_there(plan: &Plan, entry: &Entry, file: &File, length: u64, recorded: u64) -> io::Result<bool> {
    let compare = |from: u64, bytes: &[u8]| {
        let n = bytes.len().min(length.saturating_sub(from) as usize);
        let mut there = vec![0; n];
        file.read_exact_at(&mut there, from)?;
        Ok::<bool, io::Error>(there == bytes[..n])
    };
    let from = entry.body_start();
    if !compare(entry.start, &entry.header)? {
        return Ok(false);
    }
    let (size, is_right) = match &entry.body {
        EntryBody::Bytes(bytes) => (bytes.len() as u64, compare(from, bytes)?),
        EntryBody::Fetched(blob) => {
            let (size, digest) = (plan.size(*blob), plan.digest(*blob));
            let unproved = from + size <= length && from + size > recorded;
            (size, !unproved || has_digest(file, from, size, digest)?)
        }
    };
    Ok(is_right && compare(from + size, &vec![0; entry.padding as usize])?)
}

fn has_digest(file: &File, mut from: u64, mut left: u64, digest: &Digest) -> io::Result<bool> {
    let (mut hasher, mut piece) = (digest.hasher(), vec![0; 1 << 20]);
    while left > 0 {
        let n = piece.len().min(left.try_into().unwrap_or(usize::MAX));
        file.read_exact_at(&mut piece[..n], from)?;
        hasher.update(&piece[..n]);
        (from, left) = (from + n as u64, left - n as u64);
    }
    Ok(hasher.finish() == *digest)
}
