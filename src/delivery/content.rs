//! The content of a blob on its way to registries: as it lies in files, as it comes in through the ring, or as a store
//! gives it.

use std::{
    collections::VecDeque,
    io::{self, Read},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ace_dt_ring::FillerStopper;

use crate::{
    error::{Error, Result},
    media::source::{Piece, PieceCursor, Window},
    oci::Descriptor,
    signal,
    store::{
        Origin, Store,
        target::{BlobContent, memory_reader},
    },
};

/// How often whoever waits for content looks whether the ring is full.
const LOOK: Duration = Duration::from_millis(5);

/// What one of several readers of a content reads.
pub trait SharedPart: BlobContent + Sync {
    /// Its reader is done, however it ended: the others wait for it no more.
    fn leave(&self) {}
}

/// Content that may go to several destinations at once.
pub trait SharedContent: SharedPart {
    /// Hands out what each of so many readers reads, at the same time.
    fn with_parts(&self, readers: usize, read: &mut dyn FnMut(&[&dyn SharedPart]));

    /// It comes in piece by piece, and may be too large to be held until it was sent.
    fn passes_once(&self) -> bool {
        false
    }
}

/// What is fetched once for several readers goes through so many pieces of so many bytes.
const RELAY_PIECE: usize = 256 << 10;
const RELAY_PIECES: usize = 32;

/// All of a blob at one place.
#[derive(Clone)]
pub struct WholeContent(pub Window);

impl BlobContent for WholeContent {
    fn open(&self, from: u64) -> Result<Box<dyn Read + '_>> {
        Ok(Box::new(WindowReader { window: &self.0, at: from }))
    }

    fn is_in_files(&self) -> bool {
        self.0.in_memory().is_none()
    }
}

impl SharedPart for WholeContent {}

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
    /// How far each reader is, if there are several; one that is done is behind all.
    readers: Vec<u64>,
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
    fn piece(&self, at: u64, reader: Option<usize>) -> Result<Option<(u64, Window)>> {
        let mut pieces = self.pieces();
        if let Some(reader) = reader {
            pieces.readers[reader] = at;
        }
        loop {
            if at < pieces.from {
                return Err(Error::new(format!("what is below byte {} of it is no longer in the buffer", pieces.from)));
            }
            // More of it can only come when there is room.
            if !pieces.ended && self.ring.is_waiting() {
                let least = pieces.readers.iter().min().copied().unwrap_or(at);
                pieces.forget(least.min(at));
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
        Ok(Box::new(StreamedReader { content: self, at: from, piece: None, reader: None }))
    }

    fn readable_from(&self) -> u64 {
        self.pieces().from
    }
}

/// What one of several readers reads of what comes in.
struct StreamedPart<'a> {
    content: &'a StreamedContent,
    reader: usize,
}

impl BlobContent for StreamedPart<'_> {
    fn open(&self, from: u64) -> Result<Box<dyn Read + '_>> {
        self.content.pieces().readers[self.reader] = from;
        Ok(Box::new(StreamedReader { content: self.content, at: from, piece: None, reader: Some(self.reader) }))
    }

    fn readable_from(&self) -> u64 {
        self.content.pieces().from
    }
}

impl SharedPart for StreamedPart<'_> {
    fn leave(&self) {
        self.content.pieces().readers[self.reader] = u64::MAX;
    }
}

impl StreamedContent {
    /// What each of so many readers reads.
    fn parts(&self, readers: usize) -> Vec<StreamedPart<'_>> {
        self.pieces().readers = vec![0; readers];
        (0..readers).map(|reader| StreamedPart { content: self, reader }).collect()
    }
}

/// A blob of a store, which can be opened at any byte.
pub struct StoredContent {
    /// Where it comes from.
    pub store: Arc<dyn Store + Send + Sync>,
    /// Which place of that.
    pub origin: Origin,
    /// Which blob.
    pub descriptor: Descriptor,
    /// Counts what is read.
    pub read: Arc<AtomicU64>,
}

impl BlobContent for StoredContent {
    fn open(&self, from: u64) -> Result<Box<dyn Read + '_>> {
        let body: Box<dyn Read + '_> = match self.descriptor.inline() {
            Some(bytes) => Box::new(io::Cursor::new(bytes.get(from as usize..).unwrap_or_default().to_vec())),
            None if self.descriptor.size == 0 => Box::new(io::empty()),
            None => self.store.blob(&self.origin, &self.descriptor, from)?,
        };
        Ok(Box::new(CountedReader { body, read: &self.read }))
    }
}

impl SharedPart for StoredContent {}

impl StoredContent {
    /// Fetches it once for several readers, through a small ring.
    fn relay(&self, readers: usize, read: &mut dyn FnMut(&[&dyn SharedPart])) -> io::Result<()> {
        let (filler, ring) = ace_dt_ring::fan_out(RELAY_PIECE, RELAY_PIECES)?;
        let content = StreamedContent::new(ring.clone());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                if let Err(e) = self.fill(filler, &content) {
                    content.fail(e);
                }
            });
            let parts: Vec<RelayedPart> =
                content.parts(readers).into_iter().map(|part| RelayedPart { stored: self, part }).collect();
            read(&parts.iter().map(|part| part as &dyn SharedPart).collect::<Vec<_>>());
            content.abandon();
            ring.stop();
        });
        Ok(())
    }

    fn fill(&self, mut filler: ace_dt_ring::Filler, content: &StreamedContent) -> Result<()> {
        let (mut body, mut left) = (self.open(0)?, self.descriptor.size);
        loop {
            let Ok(mut slot) = filler.slot() else { return Ok(()) };
            let (mut filled, room) = (0, slot.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
            while filled < room {
                match body.read(&mut slot[filled..room]).map_err(Error::from_io)? {
                    0 => break,
                    n => filled += n,
                }
            }
            left -= filled as u64;
            let is_last = left == 0 || filled < room;
            let piece = Piece::Slot(slot.publish(filled));
            content.add(PieceCursor::at_start(piece).take_window(u64::MAX), is_last);
            if is_last {
                // What is longer than it should be shows, and the connection goes back.
                if body.read(&mut [0]).map_err(Error::from_io)? > 0 {
                    return Err(Error::new(format!("it is longer than {} bytes", self.descriptor.size)));
                }
                return Ok(());
            }
        }
    }
}

/// What one of several readers reads of a blob that is fetched once for all; what it wants again it fetches by itself.
struct RelayedPart<'a> {
    stored: &'a StoredContent,
    part: StreamedPart<'a>,
}

impl BlobContent for RelayedPart<'_> {
    fn open(&self, from: u64) -> Result<Box<dyn Read + '_>> {
        if from < self.part.readable_from() {
            self.leave();
            return self.stored.open(from);
        }
        self.part.open(from)
    }
}

impl SharedPart for RelayedPart<'_> {
    fn leave(&self) {
        self.part.leave();
    }
}

impl SharedContent for StoredContent {
    fn with_parts(&self, readers: usize, read: &mut dyn FnMut(&[&dyn SharedPart])) {
        if readers == 1 || self.relay(readers, read).is_err() {
            read(&vec![self as &dyn SharedPart; readers]);
        }
    }
}

/// Counts what is read.
struct CountedReader<'a> {
    body: Box<dyn Read + 'a>,
    read: &'a AtomicU64,
}

impl Read for CountedReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.body.read(into)?;
        self.read.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// Where the content of a blob is.
pub enum JobContent {
    /// All of it in a window.
    Whole(WholeContent),
    /// What comes in piece by piece.
    Streamed(Arc<StreamedContent>),
    /// All of it in memory of its own.
    Document(Arc<[u8]>),
    /// What a store gives.
    Stored(Box<StoredContent>),
}

impl BlobContent for JobContent {
    fn open(&self, from: u64) -> Result<Box<dyn Read + '_>> {
        match self {
            JobContent::Whole(content) => content.open(from),
            JobContent::Streamed(content) => content.open(from),
            JobContent::Document(bytes) => Ok(memory_reader(bytes, from)),
            JobContent::Stored(content) => content.open(from),
        }
    }

    fn readable_from(&self) -> u64 {
        match self {
            JobContent::Streamed(content) => content.readable_from(),
            JobContent::Whole(_) | JobContent::Document(_) | JobContent::Stored(_) => 0,
        }
    }

    fn is_in_files(&self) -> bool {
        matches!(self, JobContent::Whole(content) if content.is_in_files())
    }
}

impl SharedPart for JobContent {}

/// What nobody sends any more must not fill the ring.
impl Drop for JobContent {
    fn drop(&mut self) {
        if let JobContent::Streamed(content) = self {
            content.abandon();
        }
    }
}

impl SharedContent for JobContent {
    fn with_parts(&self, readers: usize, read: &mut dyn FnMut(&[&dyn SharedPart])) {
        match self {
            JobContent::Streamed(content) if readers > 1 => {
                let parts = content.parts(readers);
                read(&parts.iter().map(|part| part as &dyn SharedPart).collect::<Vec<_>>());
            }
            JobContent::Stored(content) => content.with_parts(readers, read),
            _ => read(&vec![self as &dyn SharedPart; readers]),
        }
    }

    fn passes_once(&self) -> bool {
        matches!(self, JobContent::Streamed(_))
    }
}

struct StreamedReader<'a> {
    content: &'a StreamedContent,
    at: u64,
    piece: Option<(u64, Window)>,
    reader: Option<usize>,
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
            self.piece = self.content.piece(self.at, self.reader)?;
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
