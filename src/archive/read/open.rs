//! Archives opened and read: what the commands that look at them have in common.

use std::{
    io::{BufRead as _, Read as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::atomic::AtomicU64,
};

use crate::{
    archive::{
        TAR_BLOCK,
        read::{
            catalog::Catalog,
            decompress::Decompressed,
            events::ArchiveEnd,
            finding::{Finding, FindingKind},
            foreign,
            scan::{self, Scanner},
            tar,
        },
    },
    compression::Format,
    error::{Context, Error, Result},
    fd,
    media::{
        files::label_of,
        input::Input,
        stream_input::{InputOptions, StreamInput},
    },
    oci::layout::LAYOUT_FILE,
};

/// So many findings are kept of an archive that is only looked at.
const FOUND_MAX: usize = 10_000;

/// So much of a file shows whether it begins an archive.
const BEGINNING: usize = 64 << 10;

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
            let plain = Decompressed::new(stream, format, 0, |medium, plain| frames.push((medium, plain)));
            let mut plain = plain.doing(|| "making the buffer")?;
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
    match input {
        Input::Files(files) => looking(&mut |mut scanner, catalog| {
            scanner.files(&files, 0, catalog)?;
            scan::documents(&files, 0, catalog)
        }),
        Input::Stream(mut stream) => look_at_stream(&mut stream),
    }
}

fn look_at_stream(stream: &mut StreamInput) -> Result<(Catalog, Vec<Finding>)> {
    looking(&mut |scanner, catalog| scan_stream(scanner, stream, catalog, &mut FrameEnds::new()).map(drop))
}

/// Scans into a catalog, and keeps what is found.
fn looking(scan: &mut dyn FnMut(Scanner, &mut Catalog) -> Result<()>) -> Result<(Catalog, Vec<Finding>)> {
    let (mut catalog, mut findings, read) = (Catalog::default(), Vec::new(), AtomicU64::new(0));
    let mut tell = |finding: Finding| {
        if findings.len() < FOUND_MAX && finding.kind != FindingKind::Note {
            findings.push(finding);
        }
    };
    scan(Scanner { deep: false, share: None, passes_holes: false, tell: &mut tell, read: &read }, &mut catalog)?;
    // That says more than what is odd in it.
    if catalog.is_docker_archive() {
        findings.rotate_right(1);
    }
    Ok((catalog, findings))
}

/// As [`look_at`], of every archive of an input of several files that are read as streams; of any other, of the first.
///
/// # Errors
/// As that.
pub fn look_at_each(input: Input) -> Result<Vec<(Catalog, Vec<Finding>)>> {
    let Input::Stream(mut stream) = input else { return Ok(vec![look_at(input)?]) };
    let mut all = Vec::new();
    loop {
        all.push(look_at_stream(&mut stream)?);
        if !stream.next_file().map_err(Error::from_io)? {
            return Ok(all);
        }
    }
}

/// Groups files: those of one archive, which the first of a group begins. A file that begins with `oci-layout` begins a
/// group, and so does one that begins as a docker-archive does, or is empty; any other goes on with the one before, where an
/// archive may end in any place.
///
/// # Errors
/// If one cannot be read.
pub fn groups(paths: &[PathBuf]) -> Result<Vec<Vec<PathBuf>>> {
    let mut groups: Vec<Vec<PathBuf>> = Vec::new();
    for path in paths {
        match groups.last_mut() {
            Some(group) if !begins_anew(path).doing(|| format!("opening {path:?}"))? => group.push(path.clone()),
            _ => groups.push(vec![path.clone()]),
        }
    }
    Ok(groups)
}

fn begins_anew(path: &Path) -> Result<bool> {
    if path == Path::new("-") || !std::fs::metadata(path).map_err(Error::from_io)?.is_file() {
        return Ok(false);
    }
    let file = fd::open_to_read(path)?;
    let mut bytes = vec![0; BEGINNING];
    let read = file.read_at(&mut bytes, label_of(&file).map_or(0, |label| label.size)).map_err(Error::from_io)?;
    bytes.truncate(read);
    let mut plain = Vec::new();
    // Whatever can be decompressed of one header, and no more: little may become very much.
    let _ = match Format::of(&bytes) {
        None => {
            plain = bytes;
            Ok(())
        }
        Some(Format::Gzip) => {
            flate2::read::GzDecoder::new(&bytes[..]).take(TAR_BLOCK).read_to_end(&mut plain).map(drop)
        }
        Some(Format::Zstd) => {
            zstd::Decoder::new(&bytes[..]).and_then(|zstd| zstd.take(TAR_BLOCK).read_to_end(&mut plain)).map(drop)
        }
    };
    let name = tar::first_name(&plain).unwrap_or_default();
    let name = name.trim_start_matches("./");
    Ok(name == LAYOUT_FILE || foreign::begins_docker_archive(name) || plain.is_empty())
}
