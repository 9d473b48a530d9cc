//! One file, pipe or tape, read from front to back in pieces as the medium gives them.

use std::{fs::File, path::Path};

use nix::{errno::Errno, fcntl::OFlag};

use crate::{
    error::{Context, Error, Result},
    fd::{self, enlarge_pipe, read_once},
    media::tape::{
        drive::{StDrive, open_node},
        locate::Place,
        mtio,
        reader::TapeReader,
    },
    signal,
};

/// What is read at once if nothing else is asked for.
const PIECE: usize = 1 << 20;
/// The most that is read at once.
const PIECE_MAX: usize = 1 << 30;

/// One file or volume, open for reading.
pub struct BlockReader {
    /// For messages.
    pub name: String,
    medium: Medium,
}

/// What is read.
enum Medium {
    /// A file, pipe or device.
    Bytes(File),
    Tape(Box<TapeReader>),
}

impl BlockReader {
    /// Opens what is at `path`; `-` is standard input. A read asks for `read_size` bytes; on a tape it
    /// asks for more when a block is larger.
    ///
    /// # Errors
    /// If it cannot be opened, or a signal asks to stop.
    pub fn open(path: &Path, read_size: Option<u64>) -> Result<BlockReader> {
        let opening = || format!("opening {path:?}");
        let is_stdin = path == Path::new("-");
        let file = match is_stdin {
            true => fd::stdin()?,
            false => match std::fs::metadata(path) {
                Ok(there) if mtio::is_tape(&there) => open_node(path, OFlag::O_RDONLY),
                _ => fd::open_to_read(path),
            }
            .doing(opening)?,
        };
        let name = if is_stdin { "standard input".into() } else { format!("{path:?}") };
        if file.metadata().doing(opening)?.is_dir() {
            return Err(Error::from_errno(Errno::EISDIR)).doing(|| format!("reading {name}"));
        }
        let read_size = read_size.map_or(PIECE, |size| usize::try_from(size).unwrap_or(usize::MAX)).min(PIECE_MAX);
        let medium = if mtio::is_tape(&file.metadata().doing(opening)?) {
            let reader = TapeReader::new(Box::new(StDrive::new(file)), name.clone(), read_size);
            Medium::Tape(Box::new(reader.doing(opening)?))
        } else {
            enlarge_pipe(&file);
            Medium::Bytes(file)
        };
        Ok(BlockReader { name, medium })
    }

    /// A tape in memory.
    #[cfg(test)]
    pub fn of_drive(drive: crate::media::tape::fake::FakeDrive) -> BlockReader {
        let reader = TapeReader::new(Box::new(drive), "the tape".into(), PIECE).unwrap();
        BlockReader { name: "the tape".into(), medium: Medium::Tape(Box::new(reader)) }
    }

    /// Brings a tape that was just put in to its beginning.
    ///
    /// # Errors
    /// If it cannot be rewound.
    pub fn rewind(&mut self) -> Result<()> {
        match &mut self.medium {
            Medium::Tape(tape) => tape.rewind(),
            Medium::Bytes(_) => Ok(()),
        }
    }

    /// Whether it is a tape.
    pub fn is_tape(&self) -> bool {
        matches!(self.medium, Medium::Tape(_))
    }

    /// The next blocks of a tape, all of one size but the last, with that size; `None` at a filemark. `into` is memory
    /// to be used again.
    ///
    /// # Errors
    /// If it cannot be read, or is no tape, or a signal asks to stop.
    pub fn read(&mut self, into: Vec<u8>) -> Result<Option<(Vec<u8>, usize)>> {
        match &mut self.medium {
            Medium::Tape(tape) => tape.read(into),
            Medium::Bytes(_) => Err(Error::new("it is no tape")),
        }
    }

    /// Fills `into` with the next bytes of something that is no tape, but at the end, and no further than a read goes.
    /// Returns how many they are.
    ///
    /// # Errors
    /// If it cannot be read, or a signal asks to stop.
    pub fn read_into(&mut self, into: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while filled < into.len() {
            match self.read_some(&mut into[filled..])? {
                Some(0) => break,
                Some(n) => filled += n,
                None => signal::check()?,
            }
        }
        Ok(filled)
    }

    /// Where a tape stands, as far as that is known.
    pub fn place(&self) -> Option<Place> {
        match &self.medium {
            Medium::Tape(tape) => Some(tape.first()),
            Medium::Bytes(_) => None,
        }
    }

    /// Brings a tape to the block that is so many behind `first`, where a stream began; anything else is read up to it.
    ///
    /// # Errors
    /// If it cannot be brought there.
    pub fn go(&mut self, first: &Place, blocks: u64) -> Result<()> {
        match &mut self.medium {
            Medium::Tape(tape) => tape.go(first.ahead(blocks)),
            Medium::Bytes(_) => Err(Error::new("only a tape has blocks to go to")),
        }
        .doing(|| format!("positioning {} to block {blocks} of the archive", self.name))
    }

    /// Leaves out a block of a tape that cannot be read.
    ///
    /// # Errors
    /// If nobody tells where the tape stands, or it cannot be moved.
    pub fn pass_block(&mut self) -> Result<()> {
        match &mut self.medium {
            Medium::Tape(tape) => tape.pass_block(),
            Medium::Bytes(_) => Err(Error::new("only a tape has blocks")),
        }
    }

    /// Reads what one read(2) gives of something that is no tape; `Ok(None)` if it was interrupted,
    /// or has nothing yet.
    ///
    /// # Errors
    /// If it cannot be read, or is a tape.
    pub fn read_some(&mut self, into: &mut [u8]) -> Result<Option<usize>> {
        match &mut self.medium {
            Medium::Bytes(file) => read_once(file, into),
            Medium::Tape(_) => Err(Error::new("a tape is read in blocks")),
        }
        .doing(|| format!("reading {}", self.name))
    }

    /// Sets a drive to the blocks that it was set to before.
    pub fn restore(&mut self) {
        if let Medium::Tape(tape) = &mut self.medium {
            tape.restore();
        }
    }
}
