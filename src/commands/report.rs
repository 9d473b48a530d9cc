//! `--report`: what became of each source, in JSON.

use std::path::Path;

use serde::Serialize;

use crate::{
    error::{Context, Result},
    oci::{Digest, json},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// All of it is in the archive, or at the destination already.
    Archived,
    /// All of it is in the registry.
    Gathered,
    /// A dry run would archive it.
    Planned,
    /// None of its platforms was wanted.
    Unmatched,
    /// It could not be had.
    Failed,
    /// The run ended before all was at the destination.
    Incomplete,
}

/// One source.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    pub source: String,
    pub outcome: Outcome,
    /// What the reference points to.
    pub digest: Option<Digest>,
    /// Bytes of its manifests and blobs, each digest once.
    pub bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Finds out whether a report can be written there, before it costs anything.
pub fn prepare(path: &Path) -> Result<()> {
    let opened = std::fs::File::options().append(true).create(true).open(path);
    opened.map(drop).doing(|| format!("opening the report {path:?}"))
}

/// Writes the report: an array, a source an object, in the order of the archive.
pub fn write(path: &Path, records: &[Record]) -> Result<()> {
    let mut text = json::pretty(records);
    text.push(b'\n');
    std::fs::write(path, text).doing(|| format!("writing the report {path:?}"))
}
