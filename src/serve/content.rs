//! Where a blob lies, and how it is read there.
//!
//! Its digest is checked when it is read for the first time. From then on it goes from the file to the socket in the kernel
//! (sendfile(2)), if it lies in a plain file and the connection is not encrypted.

use std::{
    fs::File,
    io::{self, Read},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
};

use nix::fcntl::OFlag;

use super::frames::FramedFile;
use crate::{
    error::{Context, Error, Result},
    fd,
    media::files::{FileStamp, Files},
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
    /// Of the file that it lies in, when it was checked.
    stamp: Mutex<Option<FileStamp>>,
}

impl Held {
    /// A blob of `size` bytes that nobody has read.
    pub fn new(place: BlobPlace, size: u64) -> Held {
        let condition = AtomicU8::new(Condition::Unchecked as u8);
        Held { size, place, condition, stamp: Mutex::default() }
    }

    /// Whether it is what its digest says, as far as is known. Where its file was changed nobody knows.
    pub fn condition(&self) -> Condition {
        let condition = match self.condition.load(Ordering::Relaxed) {
            n if n == Condition::Sound as u8 => Condition::Sound,
            n if n == Condition::Damaged as u8 => Condition::Damaged,
            _ => return Condition::Unchecked,
        };
        let checked = *self.stamp.lock().unwrap_or_else(PoisonError::into_inner);
        if checked == self.stamp() { condition } else { Condition::Unchecked }
    }

    /// Of the file that it lies in; none if it lies in none, or that cannot be told.
    pub fn stamp(&self) -> Option<FileStamp> {
        match &self.place {
            BlobPlace::Files(files, at) => files.stamp_at(*at).ok(),
            BlobPlace::Path(path) => FileStamp::of(&open(path).ok()?).ok(),
            BlobPlace::Framed(stream, at) => stream.stamp_at(*at).ok(),
            BlobPlace::Memory(_) => None,
        }
    }

    /// All of it was read, from when its file had this stamp on.
    pub fn is_checked(&self, is_sound: bool, stamp: Option<FileStamp>) {
        let condition = if is_sound { Condition::Sound } else { Condition::Damaged };
        *self.stamp.lock().unwrap_or_else(PoisonError::into_inner) = stamp;
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

/// Opens a file of a layout: a link leads out of it, and a FIFO would have us wait.
fn open(path: &PathBuf) -> Result<File> {
    let doing = || format!("opening {path:?}");
    let file = fd::open(path, OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).doing(doing)?;
    match file.metadata().doing(doing)?.is_file() {
        true => Ok(file),
        false => Err(Error::new("it is no regular file").doing(doing())),
    }
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
