//! What a TAR stream is read from, and windows onto it that may outlive the call that gave them.

use std::{
    fmt,
    io::{self, BufRead, ErrorKind as IoErrorKind},
    sync::Arc,
};

use ace_dt_ring::Filled;

use crate::{
    media::{files::Files, tape::locate::Place},
    signal,
};

/// A stream that an archive is read from.
pub trait MediaSource: BufRead {
    /// Leaves out up to `n` bytes, as many as can be without waiting again; none only at the end.
    ///
    /// # Errors
    /// If the medium cannot be read, or a signal asks to stop.
    fn skip(&mut self, n: u64) -> io::Result<u64>;

    /// Takes up to `most` bytes, as many as can be had without waiting again; none only at the end.
    ///
    /// # Errors
    /// As [`MediaSource::skip`].
    fn take_window(&mut self, most: u64) -> io::Result<Window>;

    /// Where on the medium the next byte lies.
    fn position(&self) -> MediumPosition;

    /// After an error: goes on behind what could not be read, if that can be. Returns how many bytes are lost.
    fn pass_hole(&mut self) -> Option<u64> {
        None
    }

    /// Has the stream end where the file or volume ends that is being read now.
    fn end_at_file_boundary(&mut self);
}

/// A place on the medium.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MediumPosition {
    /// Which of several volumes, counted from 1; 0 if there is only one.
    pub volume: usize,
    /// Which block of a tape, counted from 0 where reading began on this volume.
    pub block: Option<u64>,
    /// Which byte of that block.
    pub byte: usize,
    /// Where reading began on this volume of a tape.
    pub begin: Option<Place>,
}

/// Memory that holds a piece of a stream, for as long as anybody holds it.
#[derive(Clone)]
pub enum Piece {
    /// Memory of its own.
    Own(Arc<Vec<u8>>),
    /// A slot of the ring that the stream is read into.
    Slot(Filled),
}

impl Piece {
    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Piece::Own(bytes) => bytes,
            Piece::Slot(filled) => filled,
        }
    }
}

impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Piece({} bytes)", self.bytes().len())
    }
}

/// The piece at hand, and how much of it was taken.
#[derive(Debug)]
pub struct PieceCursor {
    piece: Piece,
    taken: usize,
}

impl Default for PieceCursor {
    fn default() -> PieceCursor {
        PieceCursor::at_start(Piece::Own(Arc::default()))
    }
}

impl PieceCursor {
    /// Nothing of this piece was taken.
    pub fn at_start(piece: Piece) -> PieceCursor {
        PieceCursor { piece, taken: 0 }
    }

    /// Bytes that were taken.
    pub fn taken(&self) -> usize {
        self.taken
    }

    /// What is left.
    pub fn rest(&self) -> &[u8] {
        &self.piece.bytes()[self.taken..]
    }

    /// Takes `n` bytes of the rest.
    pub fn take(&mut self, n: usize) {
        self.taken += n;
    }

    /// Takes up to `most` bytes of the rest, without a copy.
    pub fn take_window(&mut self, most: u64) -> Window {
        let len = self.rest().len().min(usize::try_from(most).unwrap_or(usize::MAX));
        let window = Window::Memory { piece: self.piece.clone(), from: self.taken, len };
        self.take(len);
        window
    }
}

/// Bytes of a stream that may outlive the call that gave them, and go to another thread.
#[derive(Clone, Debug)]
pub enum Window {
    /// They are in memory.
    Memory {
        /// What they are a part of.
        piece: Piece,
        /// Where they begin in it.
        from: usize,
        /// How many they are.
        len: usize,
    },
    /// They lie in files, and are read when they are wanted.
    Files {
        /// The files.
        files: Arc<Files>,
        /// Where they begin in these.
        from: u64,
        /// How many they are.
        len: u64,
    },
    /// They were passed over, and nothing of them was read: how many they are is all that is known.
    Passed {
        /// How many they are.
        len: u64,
    },
}

impl Window {
    /// Bytes in memory.
    pub fn of(bytes: Vec<u8>) -> Window {
        let len = bytes.len();
        Window::Memory { piece: Piece::Own(Arc::new(bytes)), from: 0, len }
    }

    /// How many bytes.
    pub fn len(&self) -> u64 {
        match self {
            Window::Memory { len, .. } => *len as u64,
            Window::Files { len, .. } | Window::Passed { len } => *len,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes, if they are in memory.
    pub fn in_memory(&self) -> Option<&[u8]> {
        match self {
            Window::Memory { piece, from, len } => Some(&piece.bytes()[*from..from + len]),
            Window::Files { .. } | Window::Passed { .. } => None,
        }
    }

    /// Reads some of the bytes, from `at` on; none behind the last.
    ///
    /// # Errors
    /// If they lie in a file that cannot be read.
    pub fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        let left = usize::try_from(self.len().saturating_sub(at)).unwrap_or(usize::MAX);
        let n = into.len().min(left);
        match self {
            _ if n == 0 => Ok(0),
            Window::Files { files, from, .. } => files.read_at(&mut into[..n], from + at),
            Window::Passed { .. } => Err(IoErrorKind::Unsupported.into()),
            Window::Memory { piece, from, .. } => {
                let from = from + at as usize;
                into[..n].copy_from_slice(&piece.bytes()[from..from + n]);
                Ok(n)
            }
        }
    }
}

/// How many bytes are at hand; 0 at the end. Waits, unless a signal asks to stop.
///
/// # Errors
/// If the medium cannot be read, or a signal asks to stop.
pub fn fill(from: &mut (impl MediaSource + ?Sized)) -> io::Result<usize> {
    loop {
        match from.fill_buf() {
            Ok(bytes) => return Ok(bytes.len()),
            Err(e) if e.kind() == IoErrorKind::Interrupted => signal::check()?,
            Err(e) => return Err(e),
        }
    }
}

/// What [`std::io::Read::read`] is where [`BufRead::fill_buf`] is.
///
/// # Errors
/// Those of `fill_buf`.
pub fn copy_piece(from: &mut impl BufRead, into: &mut [u8]) -> io::Result<usize> {
    let piece = from.fill_buf()?;
    let n = piece.len().min(into.len());
    into[..n].copy_from_slice(&piece[..n]);
    from.consume(n);
    Ok(n)
}

/// Leaves out bytes of a stream that has to be read for it.
///
/// # Errors
/// If it cannot be read, or a signal asks to stop.
pub fn skip_by_reading(from: &mut (impl MediaSource + ?Sized), n: u64) -> io::Result<u64> {
    let n = fill(from)?.min(n.try_into().unwrap_or(usize::MAX));
    from.consume(n);
    Ok(n as u64)
}

impl<S: MediaSource + ?Sized> MediaSource for &mut S {
    fn skip(&mut self, n: u64) -> io::Result<u64> {
        (**self).skip(n)
    }

    fn take_window(&mut self, most: u64) -> io::Result<Window> {
        (**self).take_window(most)
    }

    fn position(&self) -> MediumPosition {
        (**self).position()
    }

    fn pass_hole(&mut self) -> Option<u64> {
        (**self).pass_hole()
    }

    fn end_at_file_boundary(&mut self) {
        (**self).end_at_file_boundary();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_free_when_the_last_window_is_gone() {
        let (mut filler, stopper) = ace_dt_ring::fan_out(10, 1).unwrap();
        let mut slot = filler.slot().unwrap();
        slot.copy_from_slice(b"0123456789");
        let mut cursor = PieceCursor::at_start(Piece::Slot(slot.publish(10)));
        cursor.take(3);
        let window = cursor.take_window(4);
        let other = window.clone();
        assert_eq!(window.in_memory(), Some(&b"3456"[..]));
        let mut text = [0; 8];
        assert_eq!(other.read_at(&mut text, 1).unwrap(), 3);
        assert_eq!(&text[..3], b"456");
        assert_eq!(other.read_at(&mut [0; 4], 4).unwrap(), 0);
        drop((window, cursor));
        assert_eq!(stopper.fill(), 10, "somebody holds it still");
        drop(other);
        assert_eq!(stopper.fill(), 0);
    }
}
