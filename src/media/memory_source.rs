//! A source in memory, for tests.

use std::{
    io::{self, BufRead, Read},
    sync::Arc,
};

use super::source::{MediaSource, MediumPosition, Piece, Window, copy_piece, skip_by_reading};

/// A stream in memory that gives `step` bytes at a time.
pub struct MemorySource {
    bytes: Piece,
    at: usize,
    step: usize,
}

impl MemorySource {
    /// All of it, at most `step` bytes at a time.
    pub fn new(bytes: Vec<u8>, step: usize) -> MemorySource {
        MemorySource { bytes: Piece::Own(Arc::new(bytes)), at: 0, step }
    }
}

impl Read for MemorySource {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        copy_piece(self, into)
    }
}

impl BufRead for MemorySource {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let end = self.bytes.bytes().len().min(self.at + self.step);
        Ok(&self.bytes.bytes()[self.at..end])
    }

    fn consume(&mut self, n: usize) {
        self.at += n;
    }
}

impl MediaSource for MemorySource {
    fn skip(&mut self, n: u64) -> io::Result<u64> {
        skip_by_reading(self, n)
    }

    fn take_window(&mut self, most: u64) -> io::Result<Window> {
        let len = self.fill_buf()?.len().min(most as usize);
        let window = Window::Memory { piece: self.bytes.clone(), from: self.at, len };
        self.consume(len);
        Ok(window)
    }

    fn position(&self) -> MediumPosition {
        MediumPosition::default()
    }

    fn end_at_file_boundary(&mut self) {}
}
