//! What the commands have in common that read archives.

use std::{io::BufRead, path::Path, sync::atomic::AtomicU64};

use crate::{
    archive::{
        read::{
            catalog::Catalog,
            decompress::Unpacked,
            scan::{self, Ended, Finding, Scanner},
            tar,
        },
        write::compress::Format,
    },
    cli::args::Args,
    error::Result,
    media::{
        input::{self, Input, Options, Stream},
        tape::changer::Changer,
    },
};

/// So many findings are kept of an archive that is only looked at.
const FOUND_MAX: usize = 10_000;

/// Where frames end: on the medium, and in the TAR stream.
pub type Frames = Vec<(u64, u64)>;

/// How the flags have archives read.
pub fn options(args: &Args) -> Options {
    let block = args.was_given("block-size").then_some(args.block_size);
    Options { block, changer: Changer::new(args.volume_command.clone()) }
}

/// Reads the next archive of a stream, compressed or not, and notes where frames end.
pub fn scan_stream(
    mut scanner: Scanner,
    stream: &mut Stream,
    catalog: &mut Catalog,
    frames: &mut Frames,
) -> Result<(Ended, Option<Format>)> {
    let format = match stream.fill_buf() {
        Ok(magic) => Format::of(magic),
        Err(e) => return Err(tar::told(e)),
    };
    let ended = match format {
        None => scanner.stream(stream, catalog)?,
        Some(format) => {
            let mut unpacked = Unpacked::new(stream, format, |medium, plain| frames.push((medium, plain)));
            scanner.stream(&mut unpacked, catalog)?
        }
    };
    Ok((ended, format))
}

/// Finds what an archive holds without hashing it, with what is wrong.
pub fn look(path: &Path, args: &Args) -> Result<(Catalog, Vec<Finding>)> {
    let (mut catalog, mut findings, read) = (Catalog::default(), Vec::new(), AtomicU64::new(0));
    let mut tell = |finding| {
        if findings.len() < FOUND_MAX {
            findings.push(finding);
        }
    };
    let mut scanner = Scanner { deep: false, tell: &mut tell, read: &read };
    match input::open(&[path.into()], options(args))? {
        Input::Files(files) => {
            scanner.files(&files, 0, &mut catalog)?;
            scan::documents(&files, 0, &mut catalog)?;
        }
        Input::Stream(mut stream) => {
            scan_stream(scanner, &mut stream, &mut catalog, &mut Frames::new())?;
        }
    }
    Ok((catalog, findings))
}
