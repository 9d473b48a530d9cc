//! Archives opened and read: what the commands that look at them have in common.

use std::{io::BufRead, path::Path, sync::atomic::AtomicU64};

use crate::{
    archive::read::{
        catalog::Catalog,
        decompress::Decompressed,
        events::ArchiveEnd,
        finding::{Finding, FindingKind},
        scan::{self, Scanner},
    },
    compression::Format,
    error::{Error, Result},
    media::{
        input::Input,
        stream_input::{InputOptions, StreamInput},
    },
};

/// So many findings are kept of an archive that is only looked at.
const FOUND_MAX: usize = 10_000;

/// Where frames end: on the medium, and in the TAR stream.
pub type FrameEnds = Vec<(u64, u64)>;

/// Reads the next archive of a stream, compressed or not, and notes where frames end.
///
/// # Errors
/// If a signal asks to stop, or there is more than can be kept in mind. All else is told.
pub fn scan_stream(
    mut scanner: Scanner,
    stream: &mut StreamInput,
    catalog: &mut Catalog,
    frames: &mut FrameEnds,
) -> Result<(ArchiveEnd, Option<Format>)> {
    let format = Format::of(stream.fill_buf().map_err(Error::from_io)?);
    let ended = match format {
        None => scanner.stream(stream, catalog)?,
        Some(format) => {
            let mut plain = Decompressed::new(stream, format, |medium, plain| frames.push((medium, plain)));
            scanner.stream(&mut plain, catalog)?
        }
    };
    Ok((ended, format))
}

/// Finds what the archive at `path` holds without hashing it, with what is wrong.
///
/// # Errors
/// If it cannot be opened, a signal asks to stop, or there is more than can be kept in mind.
pub fn look(path: &Path, options: InputOptions) -> Result<(Catalog, Vec<Finding>)> {
    look_at(Input::open(&[path.into()], options)?)
}

/// Finds what an archive holds without hashing it, with what is wrong.
///
/// # Errors
/// If a signal asks to stop, or there is more than can be kept in mind.
pub fn look_at(input: Input) -> Result<(Catalog, Vec<Finding>)> {
    let (mut catalog, mut findings, read) = (Catalog::default(), Vec::new(), AtomicU64::new(0));
    let mut tell = |finding: Finding| {
        if findings.len() < FOUND_MAX && finding.kind != FindingKind::Note {
            findings.push(finding);
        }
    };
    let mut scanner = Scanner { deep: false, tell: &mut tell, read: &read };
    match input {
        Input::Files(files) => {
            scanner.files(&files, 0, &mut catalog)?;
            scan::documents(&files, 0, &mut catalog)?;
        }
        Input::Stream(mut stream) => {
            scan_stream(scanner, &mut stream, &mut catalog, &mut FrameEnds::new())?;
        }
    }
    Ok((catalog, findings))
}
