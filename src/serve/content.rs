//! Where a blob lies, and how it is read there.
//!
//! Its digest is checked when it is read for the first time. From then on it goes from the file to the socket in the kernel
//! (sendfile(2)), if it lies in a plain file and the connection is not encrypted.

use std::{
    fs::File,
    io::{self, Read},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use super::frames::FramedFile;
use crate::{
    error::{Context, Result},
    fd,
    media::files::Files,
};

/// Where bytes lie.
#[derive(Clone)]
pub enum BlobPlace {
    /// In files, from an offset on.
    Files(Arc<Files>, u64),
    /// They are all of a file.
    Path(PathBuf),
    /// In a compressed archive, from an offset of its TAR stream on.
    Framed(Arc<FramedFile>, u64),
    /// In memory.
    Memory(Arc<[u8]>),
}

/// Whether a blob is what its digest says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Nobody has read all of it.
    Unchecked,
    /// It is.
    Sound,
    /// It is not.
    Damaged,
}

/// A blob that is served.
pub struct Held {
    /// Bytes.
    pub size: u64,
    place: BlobPlace,
    condition: AtomicU8,
}

impl Held {
    /// A blob of `size` bytes that nobody has read.
    pub fn new(place: BlobPlace, size: u64) -> Held {
        Held { size, place, condition: AtomicU8::new(Condition::Unchecked as u8) }
    }

    /// Whether it is what its digest says, as far as is known.
    pub fn condition(&self) -> Condition {
        match self.condition.load(Ordering::Relaxed) {
            n if n == Condition::Sound as u8 => Condition::Sound,
            n if n == Condition::Damaged as u8 => Condition::Damaged,
            _ => Condition::Unchecked,
        }
    }

    /// All of it was read.
    pub fn is_checked(&self, is_sound: bool) {
        let condition = if is_sound { Condition::Sound } else { Condition::Damaged };
        self.condition.store(condition as u8, Ordering::Relaxed);
    }

    /// Its bytes from `from` on, unchecked; never more than it has.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(&self, from: u64) -> Result<Box<dyn Read + Send>> {
        let from = from.min(self.size);
        let left = self.size - from;
        Ok(match &self.place {
            BlobPlace::Files(files, at) => Box::new(HeldInFiles { files: files.clone(), at: at + from }.take(left)),
            BlobPlace::Path(path) => Box::new(HeldInFile { file: open(path)?, at: from }.take(left)),
            BlobPlace::Framed(stream, at) => Box::new(stream.open(at + from).doing(|| "decompressing")?.take(left)),
            BlobPlace::Memory(bytes) => {
                let mut bytes = io::Cursor::new(bytes.clone());
                bytes.set_position(from);
                Box::new(bytes)
            }
        })
    }

    /// The file in which its byte `from` lies, where in that, and how many of its bytes follow there; none if it lies in no
    /// plain file.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn in_file(&self, from: u64) -> Result<Option<(FilePiece, u64, u64)>> {
        let left = self.size - from.min(self.size);
        Ok(match &self.place {
            BlobPlace::Files(files, at) => files.piece_at(at + from).map(|(offset, len)| {
                let piece = FilePiece::Part(files.clone(), at + from);
                (piece, offset, len.min(left))
            }),
            BlobPlace::Path(path) => Some((FilePiece::Own(open(path)?), from, left)),
            BlobPlace::Framed(..) | BlobPlace::Memory(_) => None,
        })
    }
}

/// A file that is open.
pub enum FilePiece {
    /// For this piece alone.
    Own(File),
    /// The one among others in which the byte at an offset lies.
    Part(Arc<Files>, u64),
}

impl FilePiece {
    /// It.
    pub fn file(&self) -> &File {
        match self {
            FilePiece::Own(file) => file,
            FilePiece::Part(files, at) => files.file_at(*at),
        }
    }
}

fn open(path: &PathBuf) -> Result<File> {
    fd::open_to_read(path).doing(|| format!("opening {path:?}"))
}

struct HeldInFiles {
    files: Arc<Files>,
    at: u64,
}

impl Read for HeldInFiles {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.files.read_at(into, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

struct HeldInFile {
    file: File,
    at: u64,
}

impl Read for HeldInFile {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = std::os::unix::fs::FileExt::read_at(&self.file, into, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}
