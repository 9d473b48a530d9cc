//! What is told at the end: `--report`, which says in JSON what became of each source, and how the
//! device was kept busy.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use serde::de::IgnoredAny;

use crate::{
    error::{Context, Error, Result},
    fd,
    gather::collect::SourceRecord,
    log,
    media::{
        file_sink::MediumKind,
        sink::{Volume, Volumes},
    },
    oci::json,
    owned_file::OwnedFile,
    stream::pipeline::{Geometry, Snapshot},
    util::units::grouped,
};

/// A report that is to be written at the end of a run: its file is open, and nobody else's.
pub struct ReportFile {
    path: PathBuf,
    file: OwnedFile,
}

impl ReportFile {
    /// Finds out whether a report can be written there, before it costs anything.
    ///
    /// # Errors
    /// If it cannot, somebody else writes it, or what is there is no report.
    pub fn open(path: &Path) -> Result<ReportFile> {
        let opening = || format!("opening the report {path:?}");
        let file = OwnedFile::open(path).doing(opening)?;
        let meta = file.metadata().doing(opening)?;
        if meta.is_file() && meta.len() > 0 && !is_report(&fd::read_file(path).doing(opening)?) {
            return Err(Error::new("what it holds is no report, and is not written over").doing(opening()));
        }
        Ok(ReportFile { path: path.into(), file })
    }

    /// Writes the report: an array, a source an object, in the order of the archive. `outcome` is how the run ended, and
    /// `done` what is there if it ended well.
    ///
    /// # Errors
    /// That of the run, or else if the report cannot be written.
    pub fn write(mut self, records: &[SourceRecord], outcome: Result<()>, done: &str) -> Result<()> {
        let mut text = json::pretty(records);
        text.push(b'\n');
        self.file.keep();
        let cut = match self.file.metadata() {
            Ok(meta) if meta.is_file() => self.file.set_len(0).map_err(Error::from_io),
            _ => Ok(()),
        };
        let written = cut.and_then(|()| fd::write_all(&*self.file, &text));
        let written = written.doing(|| format!("writing the report {:?}", self.path));
        outcome.and(written.map_err(|e| e.after(format_args!("{done} all the same"))))
    }
}

/// Whether a file holds what a run has reported.
fn is_report(bytes: &[u8]) -> bool {
    let records: std::result::Result<Vec<HashMap<String, IgnoredAny>>, _> = serde_json::from_slice(bytes);
    records.is_ok_and(|records| records.iter().all(|record| record.contains_key("source")))
}

/// How the device was kept busy, and where a stream lies on tapes.
pub fn streaming(last: &Snapshot, volumes: &Volumes) -> String {
    format!("{}{}", last.stats.in_words(), on_tape(None, volumes))
}

/// Where a stream lies on the tapes of a drive, if it is one; `drive` is its name where there are several.
pub fn on_tape(drive: Option<&str>, volumes: &Volumes) -> String {
    let mut text = String::new();
    let drive = drive.map_or(String::new(), |drive| format!(" in {drive}"));
    let all = volumes.all();
    for Volume { number, file, block, position, blocks, .. } in &all {
        let volume = if all.len() > 1 { format!("volume {number}, ") } else { String::new() };
        // The driver counts blocks in a file, the drive from the beginning of the tape.
        let (from, counted) = match (file, block) {
            (Some(file), Some(block)) => (Some(*block), format!(", file {}", grouped((*file).into()))),
            _ => (*position, " of the tape".into()),
        };
        text.push_str(&match from.map(u64::from) {
            Some(from) => {
                let (from, to) = (grouped(from), grouped(from + blocks));
                format!("; on the tape{drive} {volume}block {from} to block {to}{counted}")
            }
            None => format!("; on the tape{drive} {volume}{} blocks", grouped(*blocks)),
        });
    }
    text
}

/// Warns of a drive that had to stop too often, with what to try.
pub fn advise(last: &Snapshot, geometry: Geometry, kind: MediumKind) {
    let mark = if geometry.mark > 1 { geometry.mark * geometry.block as u64 } else { 0 };
    if let Some(advice) = last.stats.advice(last.capacity, mark).filter(|_| kind == MediumKind::Tape) {
        log::warn(advice);
    }
}
