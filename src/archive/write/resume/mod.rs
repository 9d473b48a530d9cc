//! `--resume`: where an interrupted archive can go on.
//!
//! The bytes of an archive are a function of its plan, so an archive in a file can go on at any
//! block ([`mod@file`]), a compressed one where a frame ends ([`frames`]), and one on a tape in front of a
//! block ([`tape`]). What is there already is compared with the plan first: two plans are never mixed.

pub mod file;
pub mod frames;
mod moved_on;
pub mod tape;

use std::{fs::File, path::Path};

use crate::{
    archive::{
        checkpoint::CheckpointRecord,
        write::{plan::Plan, producer::WrittenPrefix},
    },
    compression::Codec,
    error::{Context, Error, Result},
    log,
    util::units::grouped,
};

/// Where to go on.
#[derive(Default)]
pub struct ResumePoint {
    /// Offset in the plan's stream from which on it is made anew.
    pub plan_offset: u64,
    /// Offset on the medium from which on it is written anew.
    pub medium_offset: u64,
    /// What stands between that and what is made anew: the beginning of a block.
    pub overlap: Vec<u8>,
    /// Reads what stays of the plan's stream.
    pub prefix: Option<Box<dyn WrittenPrefix>>,
}

/// A resume point, and the checkpoint's records that stay.
pub type Resumed = (ResumePoint, Vec<CheckpointRecord>);

/// Looks at what an interrupted run has left in the file at `path`, of which its checkpoint has these records.
/// Blocks are of `block` bytes. `None`: it is the whole archive.
///
/// # Errors
/// If that is no beginning of the archive that is planned: then it says what has changed.
pub fn examine(
    plan: &Plan,
    path: &Path,
    mut records: Vec<CheckpointRecord>,
    codec: Option<Codec>,
    block: u64,
) -> Result<Option<Resumed>> {
    let doing = || format!("resuming {path:?}");
    let format = codec.map(|codec| codec.format);
    let explained = |e: Error| moved_on::explained(e, plan, path, format);
    let file = File::open(path).doing(doing)?;
    let length = file.metadata().doing(doing)?.len();
    belong(plan, &records).map_err(explained).doing(doing)?;
    let told = records.len();
    records.retain(|record| record.offset <= length);
    if records.len() < told {
        log::warn(format_args!(
            "{path:?} has {} bytes, and the checkpoint speaks of more: what is missing is made again",
            grouped(length)
        ));
    }
    let looked = match format {
        None => file::examine(plan, &file, length, records, block),
        Some(format) => frames::examine(plan, &file, records, format, block),
    };
    looked.map_err(explained).doing(doing)
}

/// Whether records speak of the planned archive.
fn belong(plan: &Plan, records: &[CheckpointRecord]) -> Result<()> {
    for (n, record) in records.iter().enumerate() {
        if plan.blob_end(n).is_none() || *plan.digest(n as u32) != record.digest {
            return Err(another(format_args!("the checkpoint says that blob {n} is {}", record.digest)));
        }
    }
    Ok(())
}

/// It is the beginning of another archive.
fn another(why: impl std::fmt::Display) -> Error {
    Error::new(format!("it is not the beginning of the archive that is planned: {why}")).hint(
        "with the same sources, flags and version of this program it can go on; without --resume, --force starts again",
    )
}
