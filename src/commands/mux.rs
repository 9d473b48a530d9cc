//! `util mux` and `util demux`: several streams through one pipe.
//!
//! A frame is the stream's number (u32, counted from 0), the length of its data in bytes (u64), both
//! little endian, and the data.

use std::{
    fs::{File, OpenOptions},
    io::{self, ErrorKind, IsTerminal, Read, Write},
    os::fd::AsFd,
    path::PathBuf,
    sync::mpsc::{self, RecvTimeoutError, SyncSender},
    thread,
    time::Duration,
};

use crate::{
    cli::options::{DemuxOptions, MuxOptions},
    error::{Context, Error, Result},
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
    let stdout = io::stdout();
    if stdout.is_terminal() {
        return Err(Error::usage("standard output is a terminal").hint("redirect it to a file or a pipe"));
    }
    let mut out = File::from(stdout.as_fd().try_clone_to_owned().doing(|| "opening standard output")?);
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
        let (number, bytes) = match pieces.recv_timeout(LOOK) {
            Ok(piece) => piece,
            Err(RecvTimeoutError::Timeout) => {
                signal::check()?;
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => break,
        };
        let bytes = bytes?;
        let mut frame = Vec::with_capacity(HEAD + bytes.len());
        frame.extend(number.to_le_bytes());
        frame.extend((bytes.len() as u64).to_le_bytes());
        frame.extend(bytes);
        write(&mut out, &frame, "standard output")?;
    }
    Ok(())
}

/// Sends all of a file, piece by piece; a piece holds what one read(2) gave.
fn read(path: &PathBuf, number: u32, block: usize, to: &SyncSender<StreamPiece>) -> Result<()> {
    let mut file = File::open(path).doing(|| format!("opening {path:?}"))?;
    loop {
        let mut bytes = vec![0; block];
        let n = match file.read(&mut bytes) {
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            other => other.doing(|| format!("reading {path:?}"))?,
        };
        bytes.truncate(n);
        if n == 0 || to.send((number, Ok(bytes))).is_err() {
            return Ok(());
        }
    }
}

/// # Errors
/// If the input is cut short or of other streams, or a file cannot be written.
pub fn demux(options: &DemuxOptions) -> Result<()> {
    let mut input = io::stdin().lock();
    if input.is_terminal() {
        return Err(Error::usage("standard input is a terminal").hint("feed it from a pipe or a file"));
    }
    let mut files = Vec::new();
    for path in &options.files {
        let file = OpenOptions::new().append(true).create(true).open(path);
        files.push(file.doing(|| format!("opening {path:?}"))?);
    }
    let mut at = 0_u64;
    let mut piece = vec![0; PIECE];
    loop {
        let mut head = [0; HEAD];
        match fill(&mut input, &mut head)? {
            0 => return Ok(()),
            HEAD => {}
            n => return Err(Error::new(format!("it ends after {n} bytes of a frame's head")).doing(place(at))),
        }
        let (number, length) = head.split_at(4);
        let number = u32::from_le_bytes(number.try_into().expect("four bytes"));
        let mut left = u64::from_le_bytes(length.try_into().expect("eight bytes"));
        let Some(file) = files.get_mut(number as usize) else {
            let why = format!("there is a frame of stream {number}, and {} files to write", options.files.len());
            return Err(Error::new(why).doing(place(at)));
        };
        at += HEAD as u64;
        while left > 0 {
            let n = piece.len().min(left.try_into().unwrap_or(usize::MAX));
            let n = fill(&mut input, &mut piece[..n])?;
            if n == 0 {
                return Err(Error::new(format!("it ends {left} bytes before the end of a frame")).doing(place(at)));
            }
            write(file, &piece[..n], &format!("{:?}", options.files[number as usize]))?;
            (at, left) = (at + n as u64, left - n as u64);
        }
    }
}

fn place(at: u64) -> String {
    format!("reading standard input at byte {at}")
}

/// Fills the buffer, as far as the input goes.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == ErrorKind::Interrupted => signal::check()?,
            Err(e) => return Err(e).doing(|| "reading standard input"),
        }
    }
    Ok(filled)
}

fn write(to: &mut impl Write, mut bytes: &[u8], name: &str) -> Result<()> {
    while !bytes.is_empty() {
        match to.write(bytes) {
            Ok(n) if n > 0 => bytes = &bytes[n..],
            Err(e) if e.kind() == ErrorKind::Interrupted => signal::check()?,
            Err(e) => return Err(Error::from_io(e).doing(format!("writing to {name}"))),
            Ok(_) => return Err(Error::new("it took no bytes").doing(format!("writing to {name}"))),
        }
    }
    Ok(())
}
