//! `util mux` and `util demux`: several streams through one pipe.
//!
//! A frame is the stream's number (u32, counted from 0), the length of its data in bytes (u64), both
//! little endian, and the data.

use std::{
    io::{IsTerminal, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::mpsc::{self, RecvTimeoutError, SyncSender},
    thread,
    time::Duration,
};

use super::path_conflicts;
use crate::{
    cli::options::{DemuxOptions, MuxOptions},
    error::{Context, Error, Result},
    fd,
    owned_file::OwnedFile,
    signal,
};

/// Bytes of a frame's head.
const HEAD: usize = 12;
/// What is read at once of what is taken apart.
const PIECE: usize = 32 << 10;
const LOOK: Duration = Duration::from_millis(50);

/// A piece of a stream, or why there is none.
type StreamPiece = (u32, Result<Vec<u8>>);

/// # Errors
/// If a stream cannot be read, or the output cannot be written.
pub fn mux(options: &MuxOptions) -> Result<()> {
    let out = fd::stdout()?;
    if out.is_terminal() {
        return Err(Error::usage("standard output is a terminal").hint("redirect it to a file or a pipe"));
    }
    let out = OwnedFile::of(out).doing(|| "opening standard output")?;
    let files: Vec<_> = options.files.iter().map(|path| ("FILE", path.as_path())).collect();
    path_conflicts::check(&files, &[path_conflicts::stdout()])?;
    let (send, pieces) = mpsc::sync_channel(options.files.len());
    for (number, path) in options.files.iter().enumerate() {
        let (path, send, block) = (path.clone(), send.clone(), options.block_size);
        let number = u32::try_from(number).map_err(Error::usage)?;
        // One that waits for a FIFO must not keep the others waiting. It ends with the process.
        thread::spawn(move || {
            if let Err(e) = read(&path, number, block, &send) {
                let _ = send.send((number, Err(e)));
            }
        });
    }
    drop(send);
    loop {
        signal::check()?;
        let (number, bytes) = match pieces.recv_timeout(LOOK) {
            Ok(piece) => piece,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => break,
        };
        let bytes = bytes?;
        let mut frame = Vec::with_capacity(HEAD + bytes.len());
        frame.extend(number.to_le_bytes());
        frame.extend((bytes.len() as u64).to_le_bytes());
        frame.extend(bytes);
        fd::write_all(&*out, &frame).doing(|| "writing to standard output")?;
    }
    Ok(())
}

/// Sends all of a file, piece by piece; a piece holds what one read(2) gave.
fn read(path: &PathBuf, number: u32, block: usize, to: &SyncSender<StreamPiece>) -> Result<()> {
    let file = fd::open_to_read(path).doing(|| format!("opening {path:?}"))?;
    loop {
        let mut bytes = vec![0; block];
        let Some(n) = fd::read_once(&file, &mut bytes).doing(|| format!("reading {path:?}"))? else { continue };
        bytes.truncate(n);
        if n == 0 || to.send((number, Ok(bytes))).is_err() {
            return Ok(());
        }
    }
}

/// # Errors
/// If the input is cut short or of other streams, or a file cannot be written.
pub fn demux(options: &DemuxOptions) -> Result<()> {
    let input = fd::stdin()?;
    if input.is_terminal() {
        return Err(Error::usage("standard input is a terminal").hint("feed it from a pipe or a file"));
    }
    let written: Vec<_> = options.files.iter().map(|path| ("FILE", path.as_path())).collect();
    path_conflicts::check(&[("input", Path::new("-"))], &written)?;
    let mut files = Vec::new();
    for path in &options.files {
        let mut file = OwnedFile::open(path).doing(|| format!("opening {path:?}"))?;
        // A stream without bytes is a file without any.
        file.keep();
        // What is there already stays; a FIFO has no end to go to.
        let _ = (&*file).seek(SeekFrom::End(0));
        files.push(file);
    }
    let mut at = 0_u64;
    let mut piece = vec![0; PIECE];
    loop {
        let mut head = [0; HEAD];
        match fd::fill(&input, &mut head).doing(|| "reading standard input")? {
            0 => return Ok(()),
            HEAD => {}
            n => return Err(Error::new(format!("it ends after {n} bytes of a frame's head")).doing(place(at))),
        }
        let (number, length) = head.split_at(4);
        let number = u32::from_le_bytes(number.try_into().expect("four bytes"));
        let mut left = u64::from_le_bytes(length.try_into().expect("eight bytes"));
        let Some(file) = files.get(number as usize) else {
            let why = format!("there is a frame of stream {number}, and {} files to write", options.files.len());
            return Err(Error::new(why).doing(place(at)));
        };
        at += HEAD as u64;
        while left > 0 {
            signal::check()?;
            let n = piece.len().min(left.try_into().unwrap_or(usize::MAX));
            let n = fd::fill(&input, &mut piece[..n]).doing(|| "reading standard input")?;
            if n == 0 {
                return Err(Error::new(format!("it ends {left} bytes before the end of a frame")).doing(place(at)));
            }
            let name = &options.files[number as usize];
            fd::write_all(&**file, &piece[..n]).doing(|| format!("writing to {name:?}"))?;
            (at, left) = (at + n as u64, left - n as u64);
        }
    }
}

fn place(at: u64) -> String {
    format!("reading standard input at byte {at}")
}
