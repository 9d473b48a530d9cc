//! Where a blob lies, and how it is read there.
//!
//! Its digest is checked when it is read for the first time. From then on it goes from the file to the socket in the kernel
//! (sendfile(2)), if it lies in a plain file and the connection is not encrypted.

use std::{
    collections::{HashMap, hash_map::Entry},
    fs::File,
    io::{self, Read, Seek as _, SeekFrom},
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicUsize, Ordering},
    },
};

use nix::fcntl::OFlag;

use super::frames::FramedFile;
use crate::{
    error::{Context, Error, Result},
    fd,
    media::files::{FileStamp, Files, FilesReader},
    oci::Digest,
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
    /// Where copies of it lie, and how many bytes each has.
    places: Vec<(BlobPlace, u64)>,
    /// So many of them were found damaged; the next is read.
    damaged: AtomicUsize,
    checked: Mutex<Option<Checked>>,
    reading: Mutex<()>,
}

/// What somebody found who has read all of a blob.
struct Checked {
    is_sound: bool,
    copy: BlobCopy,
}

/// The copy of a blob that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobCopy {
    number: usize,
    /// Bytes.
    pub size: u64,
    /// Of the file that it lies in, before that; none if it lies in none, or that cannot be told.
    stamp: Option<FileStamp>,
}

impl Held {
    /// A blob of `size` bytes that nobody has read.
    pub fn new(place: BlobPlace, size: u64) -> Held {
        let (checked, reading) = Default::default();
        Held { places: vec![(place, size)], damaged: AtomicUsize::new(0), checked, reading }
    }

    /// How many bytes the copy has that is read now.
    pub fn size(&self) -> u64 {
        self.places[self.damaged.load(Ordering::Relaxed)].1
    }

    /// How many copies there are.
    pub fn copies(&self) -> usize {
        self.places.len()
    }

    fn place(&self) -> &BlobPlace {
        &self.places[self.damaged.load(Ordering::Relaxed)].0
    }

    /// Whether it is what its digest says, as far as is known. Where its file was changed nobody knows.
    pub fn condition(&self) -> Condition {
        match *self.checked() {
            Some(Checked { is_sound, copy }) if copy == self.copy() => match is_sound {
                true => Condition::Sound,
                false => Condition::Damaged,
            },
            _ => Condition::Unchecked,
        }
    }

    /// Only one at a time reads all of it for a part; `None`: somebody does.
    pub fn reading(&self) -> Option<MutexGuard<'_, ()>> {
        match self.reading.try_lock() {
            Ok(one) => Some(one),
            Err(TryLockError::Poisoned(one)) => Some(one.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// The copy that is read now.
    pub fn copy(&self) -> BlobCopy {
        let number = self.damaged.load(Ordering::Relaxed);
        let (place, size) = &self.places[number];
        let stamp = match place {
            BlobPlace::Files(files, at) => files.stamp_at(*at).ok(),
            BlobPlace::Path(path) => path.symlink_metadata().ok().as_ref().map(FileStamp::of),
            BlobPlace::Framed(stream, at) => stream.stamp_at(*at).ok(),
            BlobPlace::Memory(_) => None,
        };
        BlobCopy { number, size: *size, stamp }
    }

    /// All of a copy was read. If it is damaged and there is another, that is read from now on.
    pub fn is_checked(&self, is_sound: bool, copy: BlobCopy) {
        let mut checked = self.checked();
        if copy.number != self.damaged.load(Ordering::Relaxed) {
            return;
        }
        *checked = match !is_sound && copy.number + 1 < self.places.len() {
            true => {
                self.damaged.store(copy.number + 1, Ordering::Relaxed);
                None
            }
            false => Some(Checked { is_sound, copy }),
        };
    }

    fn checked(&self) -> MutexGuard<'_, Option<Checked>> {
        self.checked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its bytes from `from` on, unchecked; never more than it has.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(&self, from: u64) -> Result<Box<dyn Read + Send>> {
        let from = from.min(self.size());
        let left = self.size() - from;
        Ok(match self.place() {
            BlobPlace::Files(files, at) => Box::new(FilesReader::new(files.clone(), at + from).take(left)),
            BlobPlace::Path(path) => {
                let mut file = open(path)?;
                file.seek(SeekFrom::Start(from)).doing(|| format!("reading {path:?}"))?;
                Box::new(file.take(left))
            }
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
        let left = self.size() - from.min(self.size());
        Ok(match self.place() {
            BlobPlace::Files(files, at) => files.piece_at(at + from).map(|(offset, len)| {
                let piece = FilePiece::Part(files.clone(), at + from);
                (piece, offset, len.min(left))
            }),
            BlobPlace::Path(path) => Some((FilePiece::Own(open(path)?), from, left)),
            BlobPlace::Framed(..) | BlobPlace::Memory(_) => None,
        })
    }
}

/// Takes in a blob, or another copy of one that is there.
pub fn add_copy(blobs: &mut HashMap<Digest, Held>, digest: Digest, held: Held) {
    match blobs.entry(digest) {
        Entry::Vacant(entry) => drop(entry.insert(held)),
        Entry::Occupied(mut entry) => entry.get_mut().places.extend(held.places),
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
