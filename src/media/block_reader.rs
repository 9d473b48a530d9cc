//! One file, pipe or tape, read from front to back in pieces as the medium gives them. The size of a
//! tape's blocks is found out: a read that asks for less than a block fails (st(4)).

use std::{
    fs::File,
    io::{self, ErrorKind, Read},
    os::fd::AsFd,
    path::Path,
};

use nix::{errno::Errno, fcntl::OFlag};

use crate::{
    error::{Context, Error, Result, io_reason},
    log,
    media::{
        file_sink::{self, enlarge_pipe, wait_until},
        tape::mtio::{self, Op},
    },
    signal,
    util::units::grouped,
};

/// What is read at once, at the least: small blocks come together.
const PIECE: usize = 1 << 20;
/// No block of a tape is larger: SCSI has 24 bits for it.
const BLOCK_MAX: usize = (1 << 24) - 1;

/// One file or volume, open for reading.
pub struct Medium {
    pub file: File,
    pub name: String,
    pub tape: bool,
    /// Bytes that a read asks for: no block of a tape may be larger.
    ask: usize,
    /// Where that stops growing.
    most: usize,
    /// The fixed size of blocks that the drive is set to, or 0.
    fixed: u32,
    /// The one that it was set to before, to be set again.
    was_fixed: u32,
    /// The block of the tape's file at which reading began.
    first: Option<u32>,
    /// A block that was read and belongs into the next piece.
    ahead: Option<Vec<u8>>,
    /// What the next call is to tell, and all that follow.
    ending: Option<Result<()>>,
    blocks: u64,
}

impl Medium {
    /// Opens what is at `path`; `-` is standard input. A read asks for `block` bytes; on a tape it asks for
    /// more when a block is larger.
    pub fn open(path: &Path, block: Option<u64>) -> Result<Medium> {
        let opening = || format!("opening {path:?}");
        let file = if path == Path::new("-") {
            File::from(io::stdin().as_fd().try_clone_to_owned().doing(opening)?)
        } else {
            file_sink::open(path, OFlag::O_RDONLY).doing(opening)?
        };
        let tape = mtio::is_tape(&file.metadata().doing(opening)?);
        let name = if path == Path::new("-") { "standard input".into() } else { format!("{path:?}") };
        let mut ask = block.map_or(PIECE, |block| usize::try_from(block).unwrap_or(usize::MAX));
        ask = ask.min(1 << 30);
        let (mut most, mut fixed, mut first) = (ask, 0, None);
        if tape {
            let status = mtio::status(&file).doing(opening)?;
            most = mtio::limits(&file).map_or(BLOCK_MAX, |limits| limits.most as usize).max(ask.min(BLOCK_MAX));
            ask = ask.min(most);
            (fixed, first) = (status.block_size, status.block);
            if fixed > 0 {
                ask = (ask / fixed as usize).max(1) * fixed as usize;
            }
        } else {
            enlarge_pipe(&file);
        }
        Ok(Medium { file, name, tape, ask, most, fixed, was_fixed: 0, first, ahead: None, ending: None, blocks: 0 })
    }

    /// The next blocks, all of one size but the last; `None` at the end, or at a filemark.
    pub fn read(&mut self, mut into: Vec<u8>) -> Result<Option<(Vec<u8>, usize)>> {
        if !self.tape {
            into.resize(self.ask, 0);
            let mut filled = 0;
            while filled < into.len() {
                match self.read_once(&mut into[filled..])? {
                    0 => break,
                    n => filled += n,
                }
            }
            into.truncate(filled);
            return Ok((filled > 0).then_some((into, filled)));
        }
        into.clear();
        let mut each = 0;
        if let Some(block) = self.ahead.take() {
            each = block.len();
            into = block;
        }
        while self.ending.is_none() {
            let at = into.len();
            let room = at + self.ask;
            into.resize(room, 0);
            match self.read_block(&mut into, at) {
                Ok(n) => {
                    into.truncate(at + n);
                    if n == 0 {
                        self.ending = Some(Ok(()));
                    } else if each != 0 && n != each {
                        self.ahead = Some(into.split_off(at));
                        break;
                    } else {
                        each = n;
                    }
                }
                Err(e) => {
                    into.truncate(at);
                    self.ending = Some(Err(e));
                }
            }
            // In fixed-block mode a read gives many blocks.
            if into.len() + self.ask > PIECE.max(self.ask) {
                break;
            }
        }
        if !into.is_empty() {
            let each = if self.fixed > 0 { self.fixed as usize } else { each };
            return Ok(Some((into, each)));
        }
        self.ending.replace(Ok(())).unwrap_or(Ok(())).map(|()| None)
    }

    /// One read, which may be interrupted.
    fn read_once(&self, into: &mut [u8]) -> Result<usize> {
        loop {
            match (&self.file).read(into) {
                Ok(n) => return Ok(n),
                Err(e) if e.kind() == ErrorKind::Interrupted => signal::check()?,
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    wait_until(&self.file, nix::poll::PollFlags::POLLIN);
                    signal::check()?;
                }
                Err(e) => return Err(Error::new(io_reason(&e)).doing(format!("reading {}", self.name))),
            }
        }
    }

    /// Reads one block of a tape, or in fixed-block mode several, to `into[at..]`, whatever its size.
    fn read_block(&mut self, into: &mut Vec<u8>, at: usize) -> Result<usize> {
        loop {
            let failed = match (&self.file).read(&mut into[at..at + self.ask]) {
                Ok(n) => {
                    self.blocks += n.div_ceil(if self.fixed > 0 { self.fixed as usize } else { n.max(1) }) as u64;
                    return Ok(n);
                }
                Err(e) => e,
            };
            let failed = match failed.raw_os_error().map(Errno::from_raw) {
                Some(Errno::EINTR) => {
                    signal::check()?;
                    continue;
                }
                Some(Errno::ENOMEM) if self.fixed == 0 => self.grow(),
                // The tape has other blocks than those that the drive is set to.
                Some(Errno::EIO) if self.fixed > 0 && self.blocks == 0 => self.let_vary(),
                _ => Err(Error::new(io_reason(&failed))),
            };
            let place = || format!("reading {} at block {}", self.name, grouped(self.blocks));
            failed.doing(place)?;
            into.resize(at + self.ask, 0);
        }
    }

    /// After a block that did not fit, which the tape has passed (st(4)): back in front of it, and
    /// asks for more.
    fn grow(&mut self) -> Result<()> {
        if self.ask >= self.most {
            let why = format!("a block is larger than the {} bytes that a read can have", grouped(self.ask as u64));
            return Err(Error::new(why));
        }
        let stands = self.first.map(|first| u64::from(first) + self.blocks);
        let now = mtio::status(&self.file).ok().and_then(|status| status.block).map(u64::from);
        if now != stands || now.is_none() {
            mtio::operate(&self.file, Op::BackwardBlocks, 1).doing(|| "going back to a block that did not fit")?;
        }
        self.ask = (self.ask * 2).min(self.most);
        log::debug(format_args!("{}: reading blocks of up to {} bytes", self.name, grouped(self.ask as u64)));
        Ok(())
    }

    fn let_vary(&mut self) -> Result<()> {
        let was = self.fixed;
        mtio::operate(&self.file, Op::SetBlockSize, 0).doing(|| "setting the drive to blocks of any size")?;
        log::info(format_args!(
            "{}: the drive is set to blocks of {} bytes, and the tape has others: reading blocks of any size",
            self.name,
            grouped(was.into())
        ));
        self.ask = PIECE.min(self.most);
        (self.fixed, self.was_fixed) = (0, was);
        Ok(())
    }

    /// Sets the drive to the blocks that it was set to before.
    pub fn restore(&mut self) {
        let was = std::mem::take(&mut self.was_fixed);
        if was > 0 {
            let _ = mtio::operate(&self.file, Op::SetBlockSize, was);
        }
    }
}
