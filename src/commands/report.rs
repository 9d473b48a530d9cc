//! What is told at the end: `--report`, which says in JSON what became of each source, and how the
//! device was kept busy.

use std::path::Path;

use nix::fcntl::OFlag;

use crate::{
    error::{Context, Result},
    fd,
    gather::collect::SourceRecord,
    log,
    media::{
        file_sink::MediumKind,
        sink::{Volume, Volumes},
    },
    oci::json,
    stream::pipeline::{Geometry, Snapshot},
    util::units::grouped,
};

/// Finds out whether a report can be written there, before it costs anything.
///
/// # Errors
/// If it cannot.
pub fn prepare(path: &Path) -> Result<()> {
    let opened = fd::open(path, OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_CREAT);
    opened.map(drop).doing(|| format!("opening the report {path:?}"))
}

/// Writes the report at the end of a run: an array, a source an object, in the order of the archive. `outcome` is how the
/// run ended, and `done` what is there if it ended well.
///
/// # Errors
/// That of the run, or else if the report cannot be written.
pub fn write(path: &Path, records: &[SourceRecord], outcome: Result<()>, done: &str) -> Result<()> {
    let written = write_records(path, records);
    outcome.and(written.map_err(|e| e.after(format_args!("{done} all the same"))))
}

fn write_records(path: &Path, records: &[SourceRecord]) -> Result<()> {
    let mut text = json::pretty(records);
    text.push(b'\n');
    let opened = fd::open(path, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC);
    opened.and_then(|file| fd::write_all(file, &text)).doing(|| format!("writing the report {path:?}"))
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
