//! Regular files as a [`MediaSource`]: what is left out is passed over by seeking, and windows are not
//! read until somebody wants them.

use std::{
    io::{self, BufRead, BufReader, ErrorKind as IoErrorKind, Read},
    sync::Arc,
};

use crate::media::{
    files::{Files, FilesReader},
    source::{MediaSource, MediumPosition, Window, copy_piece},
};

/// Reads [`Files`] from an offset on.
pub struct FilesCursor {
    from: BufReader<FilesReader>,
    at: u64,
    /// Where it ends.
    end: u64,
    /// Whether it goes on behind what cannot be read, and whether something could not be.
    passes_holes: bool,
    failed: bool,
}

/// What of a file that cannot be read is passed over, up to the next multiple: a page of the kernel's.
const HOLE: u64 = 4096;

impl FilesCursor {
    /// Begins at offset `at` of the files.
    pub fn new(files: Arc<Files>, at: u64) -> FilesCursor {
        let end = files.total();
        FilesCursor {
            from: BufReader::with_capacity(16 << 10, FilesReader::new(files, at)),
            at,
            end,
            passes_holes: false,
            failed: false,
        }
    }

    /// Goes on behind what cannot be read.
    pub fn passing_holes(self, passes_holes: bool) -> FilesCursor {
        FilesCursor { passes_holes, ..self }
    }
}

impl Read for FilesCursor {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        copy_piece(self, into)
    }
}

impl BufRead for FilesCursor {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let piece = self.from.fill_buf().inspect_err(|_| self.failed = true)?;
        Ok(&piece[..piece.len().min(left)])
    }

    fn consume(&mut self, n: usize) {
        self.from.consume(n);
        self.at += n as u64;
    }
}

impl MediaSource for FilesCursor {
    fn skip(&mut self, n: u64) -> io::Result<u64> {
        let n = n.min(self.end - self.at);
        self.from.seek_relative(i64::try_from(n).map_err(|_| IoErrorKind::InvalidInput)?)?;
        self.at += n;
        Ok(n)
    }

    /// All of it, unread.
    fn take_window(&mut self, most: u64) -> io::Result<Window> {
        let (files, from) = (self.from.get_ref().files().clone(), self.at);
        let len = self.skip(most)?;
        Ok(Window::Files { files, from, len })
    }

    fn position(&self) -> MediumPosition {
        let files = self.from.get_ref().files();
        let volume = files.volume_at(self.at);
        MediumPosition { volume, ..MediumPosition::default() }
    }

    fn pass_hole(&mut self) -> Option<u64> {
        let lost = (self.at + 1).next_multiple_of(HOLE).min(self.end) - self.at;
        let passes = std::mem::take(&mut self.failed) && self.passes_holes && lost > 0;
        self.skip(lost).ok().filter(|_| passes)
    }

    fn end_at_file_boundary(&mut self) {
        self.end = self.from.get_ref().files().part_end(self.at);
    }
}
