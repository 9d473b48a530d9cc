//! The content of a blob on its way from an archive to a registry: as it lies in files, or as it comes in through the
//! ring.

use std::{
    collections::VecDeque,
    io::{self, Read},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ace_dt_ring::FillerStopper;

use crate::{
    error::{Error, Result},
    media::source::Window,
    signal,
    store::target::BlobContent,
};

/// How often whoever waits for content looks whether the ring is full.
const LOOK: Duration = Duration::from_millis(5);

/// All of a blob at one place.
pub struct WholeContent(pub Window);

impl BlobContent for WholeContent {
    fn open(&self, from: u64) -> Result<Box<dyn Read + '_>> {
        Ok(Box::new(WindowReader { window: &self.0, at: from }))
    }

    fn is_in_files(&self) -> bool {
        self.0.in_memory().is_none()
    }
}

struct WindowReader<'a> {
    window: &'a Window,
    at: u64,
}

impl Read for WindowReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.window.read_at(into, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

/// A blob that comes in piece by piece. What has been sent of it is kept in the ring, to be sent again if need be, until
/// the ring has no room for what is still to come.
pub struct StreamedContent {
    pieces: Mutex<Pieces>,
    came: Condvar,
    ring: FillerStopper,
}

#[derive(Default)]
struct Pieces {
    /// With where each begins in the blob, one behind the other.
    held: VecDeque<(u64, Window)>,
    /// Where the first of them begins.
    from: u64,
    /// So much came in.
    to: u64,
    /// All there is.
    ended: bool,
    /// Why nothing more comes.
    failed: Option<Error>,
    /// Nobody wants it any more.
    unwanted: bool,
}

impl Pieces {
    /// What lies below byte `at` goes.
    fn forget(&mut self, at: u64) {
        while let Some((start, window)) = self.held.front().filter(|(start, window)| start + window.len() <= at) {
            self.from = start + window.len();
            self.held.pop_front();
        }
    }
}

impl StreamedContent {
    /// Nothing of it came in yet; `ring` is what it comes through.
    pub fn new(ring: FillerStopper) -> Arc<StreamedContent> {
        Arc::new(StreamedContent { pieces: Mutex::default(), came: Condvar::new(), ring })
    }

    fn pieces(&self) -> MutexGuard<'_, Pieces> {
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next piece came in; `is_last` if it is all.
    pub fn add(&self, window: Window, is_last: bool) {
        let mut pieces = self.pieces();
        let at = pieces.to;
        pieces.to += window.len();
        pieces.ended = is_last;
        if !pieces.unwanted {
            pieces.held.push_back((at, window));
        }
        self.came.notify_all();
    }

    /// Nothing more comes.
    pub fn fail(&self, why: Error) {
        let mut pieces = self.pieces();
        if !pieces.ended {
            pieces.failed.get_or_insert(why);
        }
        self.came.notify_all();
    }

    /// Nobody reads it any more: what came in and comes in goes.
    pub fn abandon(&self) {
        let mut pieces = self.pieces();
        pieces.unwanted = true;
        pieces.held.clear();
    }

    /// The piece that holds byte `at`, and where that piece begins; none behind the last.
    fn piece(&self, at: u64) -> Result<Option<(u64, Window)>> {
        let mut pieces = self.pieces();
        loop {
            if at < pieces.from {
                return Err(Error::new(format!("what is below byte {} of it is no longer in the buffer", pieces.from)));
            }
            // More of it can only come when there is room.
            if !pieces.ended && self.ring.is_waiting() {
                pieces.forget(at);
            }
            if at < pieces.to {
                let n = pieces.held.partition_point(|(start, _)| *start <= at).saturating_sub(1);
                return Ok(pieces.held.get(n).cloned());
            }
            if let Some(why) = &pieces.failed {
                return Err(why.clone());
            }
            if pieces.ended {
                return Ok(None);
            }
            signal::check()?;
            pieces = self.came.wait_timeout(pieces, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl BlobContent for StreamedContent {
    fn open(&self, from: u64) -> Result<Box<dyn Read + '_>> {
        Ok(Box::new(StreamedReader { content: self, at: from, piece: None }))
    }

    fn readable_from(&self) -> u64 {
        self.pieces().from
    }
}

struct StreamedReader<'a> {
    content: &'a StreamedContent,
    at: u64,
    piece: Option<(u64, Window)>,
}

impl Read for StreamedReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some((start, window)) = &self.piece {
                let n = window.read_at(into, self.at - start)?;
                if n > 0 || into.is_empty() {
                    self.at += n as u64;
                    return Ok(n);
                }
            }
            // Its slot is free before more is waited for.
            self.piece = None;
            self.piece = self.content.piece(self.at)?;
            if self.piece.is_none() {
                return Ok(0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    fn window(filler: &mut ace_dt_ring::Filler, byte: u8) -> Window {
        let mut slot = filler.slot().unwrap();
        slot.fill(byte);
        let len = slot.len();
        crate::media::source::PieceCursor::at_start(crate::media::source::Piece::Slot(slot.publish(len)))
            .take_window(u64::MAX)
    }

    fn read(content: &StreamedContent, from: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        content.open(from)?.read_to_end(&mut bytes).map_err(Error::from_io)?;
        Ok(bytes)
    }

    #[test]
    fn what_is_in_the_ring_can_be_read_again() {
        let (mut filler, ring) = ace_dt_ring::fan_out(2, 4).unwrap();
        let content = StreamedContent::new(ring.clone());
        (1..4).for_each(|n| content.add(window(&mut filler, n), n == 3));
        assert_eq!(read(&content, 0).unwrap(), [1, 1, 2, 2, 3, 3]);
        assert_eq!(read(&content, 3).unwrap(), [2, 3, 3]);
        assert_eq!(content.readable_from(), 0);
        content.abandon();
        assert_eq!(ring.fill(), 0);
    }

    #[test]
    fn a_blob_larger_than_the_ring_streams_through_it() {
        let (mut filler, ring) = ace_dt_ring::fan_out(2, 2).unwrap();
        filler.set_mark(2);
        let content = StreamedContent::new(ring);
        thread::scope(|scope| {
            let reader = scope.spawn(|| read(&content, 0).unwrap());
            (0..100).for_each(|n| content.add(window(&mut filler, n), n == 99));
            let all = reader.join().unwrap();
            assert_eq!(all, (0..100).flat_map(|n| [n, n]).collect::<Vec<u8>>());
        });
        assert!(content.readable_from() > 0);
        assert!(read(&content, 0).unwrap_err().to_string().contains("no longer in the buffer"));
    }

    #[test]
    fn who_waits_for_what_never_comes_hears_why() {
        let (_, ring) = ace_dt_ring::fan_out(2, 2).unwrap();
        let content = StreamedContent::new(ring);
        content.fail(Error::new("it breaks off"));
        assert_eq!(read(&content, 0).unwrap_err().to_string(), "it breaks off");
    }
}
