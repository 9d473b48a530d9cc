//! Lock-free rings: between many producers and one consumer, and between one filler and many readers ([`fan_out()`]).
//!
//! The ring shows a window of one long stream. Positions are absolute stream offsets in bytes; the
//! window is `[written, written + capacity)`, and offset `p` lies at `p % capacity` in memory. The
//! stream is cut into *segments* by bounds known from the start; each segment is handed out once,
//! in order, and only its holder fills it. The consumer takes the stream in *blocks* of one size,
//! in order, each as soon as all of it was published.
//!
//! Promises:
//! - no lock and no allocation on the way of a byte; a thread with nothing to do is parked and is
//!   woken only when what it waits for has come;
//! - whatever side stops the ring, the other finds out: no wait outlives [`Stopper::stop`];
//! - a segment that is dropped before it is complete stops the ring, so a producer that fails or
//!   panics cannot leave the consumer waiting, and nothing counts that its holder has not vouched for.
//!
//! # Why this is sound
//!
//! *Producers among each other:* segments are disjoint ranges of the stream, each handed out once
//! (`next` is only ever incremented), and the window is as long as the memory, so two offsets
//! inside it never share a byte.
//!
//! *Producer and consumer:* a block's counter `filled` grows by what its holders publish (Release)
//! and equals the block's length only when all holders are done with it; the consumer reads the
//! block after it saw that (Acquire). Increments are read-modify-writes, so the consumer's one load
//! synchronizes with all of them. The consumer sets the counter back before it moves `written`
//! (Release); a producer touches the bytes of the next lap only after it saw `written` move
//! (Acquire).
//!
//! *Sleeping:* a thread publishes what it waits for in its `Waiter`, issues a sequentially
//! consistent fence, and looks once more; the other side changes the state, issues such a fence,
//! and looks at the waiter. One of the two sees the other, so no wake-up is lost.
//!
//! Checked by a loom model, a stress test for ThreadSanitizer, property tests, and Miri (`tests.rs`).
//!
//! ```
//! use ace_dt_ring::{Bounds, new};
//!
//! // Two segments of three and five bytes, in blocks of four.
//! let (producers, mut consumer) = new(4, 2, 1, Bounds::new([0, 3, 8])).unwrap();
//! let mut producer = producers.register();
//! for bytes in [&b"abc"[..], b"defgh"] {
//!     let mut segment = producer.next_segment().unwrap();
//!     segment.put(bytes).unwrap();
//!     segment.complete();
//! }
//! let mut stream = Vec::new();
//! while consumer.wait(1).unwrap() {
//!     while let Some(block) = consumer.block() {
//!         stream.extend_from_slice(block);
//!         consumer.release();
//!     }
//! }
//! assert_eq!(stream, b"abcdefgh");
//! ```

#![deny(clippy::too_many_lines, clippy::too_many_arguments)]

mod bounds;
mod fan_out;
mod memory;
mod sync;
mod waiter;

#[cfg(test)]
mod tests;

use std::{io, marker::PhantomData, ops::Range};

pub use bounds::Bounds;
use bounds::NEVER;
pub use fan_out::{Filled, Filler, FillerStopper, Slot, fan_out};
use memory::Memory;
use sync::{Arc, AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use waiter::Waiter;

/// The ring was stopped: by the other side's failure, or from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped;

/// Keeps what one side writes all the time off the cache lines of what the other reads.
#[repr(align(128))]
struct Padded<T>(T);

impl<T> std::ops::Deref for Padded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

struct Shared {
    memory: Memory,
    /// Bytes of one block.
    block: usize,
    /// Blocks in memory.
    slots: usize,
    /// How many bytes of the block in each slot are published.
    filled: Box<[AtomicUsize]>,
    /// The consumer is done with all below this offset.
    written: Padded<AtomicU64>,
    /// Bytes published by all producers together, for whoever shows the fill.
    published: Padded<AtomicU64>,
    /// How often a producer had to wait for room.
    full: AtomicU64,
    /// Length of the stream, [`NEVER`] as long as nobody knows it.
    end: AtomicU64,
    bounds: Bounds,
    /// The next segment to hand out.
    next: Padded<AtomicUsize>,
    stopped: AtomicBool,
    consumer: Waiter,
    producers: Box<[Waiter]>,
    registered: AtomicUsize,
}

impl Shared {
    fn capacity(&self) -> u64 {
        (self.block * self.slots) as u64
    }

    fn slot(&self, block: u64) -> usize {
        (block % self.slots as u64) as usize
    }

    /// Bytes of block number `block`: all are of one size but the last.
    fn block_len(&self, block: u64) -> usize {
        let start = block * self.block as u64;
        let end = self.end.load(Ordering::Acquire);
        end.saturating_sub(start).min(self.block as u64) as usize
    }

    fn is_full(&self, block: u64) -> bool {
        let len = self.block_len(block);
        // Partner: the Release increments in `publish`.
        len > 0 && self.filled[self.slot(block)].load(Ordering::Acquire) == len
    }

    /// Whether the stream ends at or before the start of `block`.
    fn ends_before(&self, block: u64) -> bool {
        self.end.load(Ordering::Acquire) <= block * self.block as u64
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    fn in_window(&self, offset: u64) -> bool {
        // Partner: the Release store in `Consumer::release`.
        offset - self.written.load(Ordering::Acquire) < self.capacity()
    }

    /// Counts `range` as filled, block by block, and wakes the consumer if it waits for one of them.
    fn publish(&self, range: Range<u64>) {
        self.published.fetch_add(range.end - range.start, Ordering::Relaxed);
        let mut at = range.start;
        while at < range.end {
            let block = at / self.block as u64;
            let to = range.end.min((block + 1) * self.block as u64);
            let n = (to - at) as usize;
            // Partner: the Acquire load in `is_full`.
            let before = self.filled[self.slot(block)].fetch_add(n, Ordering::Release);
            if before + n == self.block_len(block) {
                self.wake_consumer(block);
            }
            at = to;
        }
    }

    fn wake_consumer(&self, block: u64) {
        // Partner: the fence in `Waiter::sleep_until`.
        fence(Ordering::SeqCst);
        if self.consumer.need.load(Ordering::Relaxed) == block {
            self.consumer.wake();
        }
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        // Partner: the fence in `Waiter::sleep_until`, for a thread that registers just now.
        fence(Ordering::SeqCst);
        self.consumer.wake();
        self.producers.iter().for_each(Waiter::wake);
    }
}

/// Makes a ring of `slots` blocks of `block` bytes for at most `producers` producing threads.
///
/// # Errors
/// If the memory cannot be mapped.
///
/// # Panics
/// If `block`, `slots` or `producers` is 0.
pub fn new(block: usize, slots: usize, producers: usize, bounds: Bounds) -> io::Result<(Producers, Consumer)> {
    assert!(block > 0 && slots > 0 && producers > 0, "a ring needs room and producers");
    let len = block.checked_mul(slots).ok_or(io::ErrorKind::OutOfMemory)?;
    // The kernel refuses at once what all of the machine's memory could not hold, but looks at one piece at a time.
    #[cfg(not(any(loom, miri)))]
    {
        let counters = slots.checked_mul(size_of::<AtomicUsize>());
        let all = counters.and_then(|counters| counters.checked_add(len)).ok_or(io::ErrorKind::OutOfMemory)?;
        drop(Memory::new(all)?);
    }
    let mut filled = Vec::new();
    filled.try_reserve_exact(slots).map_err(|_| io::ErrorKind::OutOfMemory)?;
    filled.extend((0..slots).map(|_| AtomicUsize::new(0)));
    let shared = Arc::new(Shared {
        memory: Memory::new(len)?,
        block,
        slots,
        filled: filled.into_boxed_slice(),
        written: Padded(AtomicU64::new(0)),
        published: Padded(AtomicU64::new(0)),
        full: AtomicU64::new(0),
        end: AtomicU64::new(bounds.len()),
        bounds,
        next: Padded(AtomicUsize::new(0)),
        stopped: AtomicBool::new(false),
        consumer: Waiter::new(),
        producers: (0..producers).map(|_| Waiter::new()).collect(),
        registered: AtomicUsize::new(0),
    });
    let consumer = Consumer { shared: shared.clone(), next: 0, ready: 0 };
    Ok((Producers { shared }, consumer))
}

/// Stops the ring from outside, and tells how full it is.
#[derive(Clone)]
pub struct Stopper {
    shared: Arc<Shared>,
}

impl Stopper {
    /// Ends every wait on the ring, now and later, with [`Stopped`].
    pub fn stop(&self) {
        self.shared.stop();
    }

    /// Bytes published and not yet taken, at most the capacity.
    pub fn fill(&self) -> u64 {
        let published = self.shared.published.load(Ordering::Relaxed);
        published.saturating_sub(self.shared.written.load(Ordering::Relaxed)).min(self.capacity())
    }

    /// Bytes published so far.
    pub fn published(&self) -> u64 {
        self.shared.published.load(Ordering::Relaxed)
    }

    /// Whether all of the stream is published.
    pub fn ended(&self) -> bool {
        self.published() >= self.shared.end.load(Ordering::Relaxed)
    }

    /// How often a producer had to wait for room.
    pub fn full(&self) -> u64 {
        self.shared.full.load(Ordering::Relaxed)
    }

    /// Bytes of memory.
    pub fn capacity(&self) -> u64 {
        self.shared.capacity()
    }
}

/// From which each producing thread takes its [`Producer`].
#[derive(Clone)]
pub struct Producers {
    shared: Arc<Shared>,
}

impl Producers {
    /// Registers the calling thread.
    ///
    /// # Panics
    /// If more threads register than the ring was made for.
    pub fn register(&self) -> Producer {
        let index = self.shared.registered.fetch_add(1, Ordering::Relaxed);
        let waiter = &self.shared.producers[index];
        waiter.thread.set(sync::current()).unwrap_or_else(|_| unreachable!("each index is given once"));
        Producer { shared: self.shared.clone(), waiter: index, _here: PhantomData }
    }

    /// What stops the ring from outside.
    pub fn stopper(&self) -> Stopper {
        Stopper { shared: self.shared.clone() }
    }
}

/// One producing thread's access. Stays on the thread that registered it.
pub struct Producer {
    shared: Arc<Shared>,
    waiter: usize,
    _here: PhantomData<*const ()>,
}

impl Producer {
    /// The next segment that nobody has yet, or `None` when all are handed out or the ring stopped.
    pub fn next_segment(&mut self) -> Option<Segment<'_>> {
        if self.shared.is_stopped() {
            return None;
        }
        let index = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let bounds = &self.shared.bounds.0;
        let (&start, &end) = (bounds.get(index)?, bounds.get(index + 1)?);
        Some(Segment {
            shared: &self.shared,
            waiter: &self.shared.producers[self.waiter],
            index,
            published: start,
            filled: start,
            granted: 0,
            end,
            _here: PhantomData,
        })
    }
}

/// A range of the stream that its holder, and nobody else, fills from front to back.
///
/// It stays on the thread that took it, which is the one that is woken when there is room: on another
/// thread it would wait for ever.
///
/// ```compile_fail,E0277
/// # use ace_dt_ring::{Bounds, new};
/// let (producers, _consumer) = new(4, 2, 1, Bounds::new([0, 8])).unwrap();
/// let mut producer = producers.register();
/// let segment = producer.next_segment().unwrap();
/// std::thread::scope(|scope| {
///     scope.spawn(move || segment.complete());
/// });
/// ```
pub struct Segment<'a> {
    shared: &'a Shared,
    waiter: &'a Waiter,
    index: usize,
    /// All below is the consumer's.
    published: u64,
    /// All below is filled.
    filled: u64,
    /// Length of the last window, which [`Segment::advance`] must not exceed.
    granted: usize,
    end: u64,
    _here: PhantomData<*const ()>,
}

impl Segment<'_> {
    /// Which segment it is, counted from 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Bytes not yet filled.
    pub fn remaining(&self) -> u64 {
        self.end - self.filled
    }

    /// Bytes that can be filled from here without publishing or waiting.
    pub fn room(&self) -> u64 {
        let limit = self.shared.written.load(Ordering::Acquire) + self.shared.capacity();
        limit.min(self.end).saturating_sub(self.filled)
    }

    /// Memory for the next bytes, never empty while [`Segment::remaining`] is not 0. What it holds
    /// is old data. If there is no room, publishes what is filled and waits.
    ///
    /// # Errors
    /// If the ring was stopped.
    pub fn window(&mut self) -> Result<&mut [u8], Stopped> {
        let shared = self.shared;
        if shared.is_stopped() {
            return Err(Stopped);
        }
        if !shared.in_window(self.filled) {
            self.publish();
            shared.full.fetch_add(1, Ordering::Relaxed);
            let filled = self.filled;
            self.waiter.sleep_until(filled, || shared.is_stopped() || shared.in_window(filled));
            if shared.is_stopped() {
                return Err(Stopped);
            }
        }
        let at = (self.filled % shared.capacity()) as usize;
        let len = self.room().min(shared.capacity() - at as u64) as usize;
        self.granted = len;
        shared.memory.will_write(at, len);
        // SAFETY: [filled, filled + len) lies in this segment, which nobody else fills; it is not
        // published, so the consumer does not read it; it lies in the window, so no other offset
        // in use shares its memory, and the consumer is done with the lap before (Acquire of
        // `written` in `in_window`). It does not cross the end of the mapping. The slice borrows
        // `self` mutably, so it is gone before anything can be published.
        Ok(unsafe { std::slice::from_raw_parts_mut(shared.memory.at(at), len) })
    }

    /// Counts the first `n` bytes of the last window as filled. They are not yet published.
    ///
    /// # Panics
    /// If that window was shorter.
    pub fn advance(&mut self, n: usize) {
        assert!(n <= self.granted, "advanced past the window");
        self.granted -= n;
        self.filled += n as u64;
    }

    /// Gives what is filled to the consumer. It cannot be taken back.
    pub fn publish(&mut self) {
        let range = self.published..self.filled;
        self.published = self.filled;
        self.granted = 0;
        self.shared.publish(range);
    }

    /// Bytes of the whole ring.
    pub fn capacity(&self) -> u64 {
        self.shared.capacity()
    }

    /// Offset in the stream up to which the segment is filled.
    pub fn position(&self) -> u64 {
        self.filled
    }

    /// Takes back what is filled from `position` on. `false`, and nothing is taken back, if some of
    /// it was published already.
    pub fn rewind(&mut self, position: u64) -> bool {
        let whole = self.published <= position && position <= self.filled;
        if whole {
            self.filled = position;
            self.granted = 0;
        }
        whole
    }

    /// Copies `bytes` into the segment. They are not yet published.
    ///
    /// # Panics
    /// If the segment has fewer bytes left.
    ///
    /// # Errors
    /// If the ring was stopped.
    pub fn put(&mut self, mut bytes: &[u8]) -> Result<(), Stopped> {
        assert!(bytes.len() as u64 <= self.remaining(), "more bytes than the segment has");
        while !bytes.is_empty() {
            let window = self.window()?;
            let n = window.len().min(bytes.len());
            window[..n].copy_from_slice(&bytes[..n]);
            self.advance(n);
            bytes = &bytes[n..];
        }
        Ok(())
    }

    /// Gives all of the segment to the consumer. A segment that is dropped without this, filled or
    /// not, stops the ring.
    ///
    /// # Panics
    /// If some of it is not filled.
    pub fn complete(mut self) {
        assert!(self.filled == self.end, "a segment with a hole");
        self.publish();
    }

    /// Declares that the stream ends with what is filled. For the last segment of open [`Bounds`].
    ///
    /// # Panics
    /// If the length of the stream was known from the start.
    pub fn end_stream(mut self) {
        assert!(self.end == NEVER, "the stream has a length already");
        self.publish();
        self.end = self.filled;
        self.shared.end.store(self.filled, Ordering::Release);
        // The block that the end falls into, and the one before if it falls between two.
        fence(Ordering::SeqCst);
        self.shared.consumer.wake();
    }
}

impl Drop for Segment<'_> {
    fn drop(&mut self) {
        if self.published < self.end {
            self.shared.stop();
        }
    }
}

/// The consuming side. Registers the thread of its first [`Consumer::wait`] as the one to wake.
pub struct Consumer {
    shared: Arc<Shared>,
    /// The block to take next.
    next: u64,
    /// All blocks below are known to be full.
    ready: u64,
}

impl Consumer {
    /// Waits until `blocks` blocks are ready one behind the other (at most as many as the ring
    /// holds), or all that remain. `Ok(false)` means that none remain.
    ///
    /// # Errors
    /// If the ring was stopped.
    pub fn wait(&mut self, blocks: u64) -> Result<bool, Stopped> {
        let shared = &*self.shared;
        shared.consumer.thread.get_or_init(sync::current);
        let wanted = blocks.clamp(1, shared.slots as u64);
        loop {
            if shared.is_stopped() {
                return Err(Stopped);
            }
            while self.ready - self.next < wanted && shared.is_full(self.ready) {
                self.ready += 1;
            }
            if self.ready - self.next >= wanted || shared.ends_before(self.ready) {
                return Ok(self.ready > self.next);
            }
            let ready = self.ready;
            shared
                .consumer
                .sleep_until(ready, || shared.is_stopped() || shared.is_full(ready) || shared.ends_before(ready));
        }
    }

    /// The next block, if it is ready. Does not wait. All are of the ring's block size but the last.
    pub fn block(&mut self) -> Option<&[u8]> {
        let shared = &*self.shared;
        if self.next == self.ready {
            if !shared.is_full(self.ready) {
                return None;
            }
            self.ready += 1;
        }
        let len = shared.block_len(self.next);
        let at = shared.slot(self.next) * shared.block;
        shared.memory.will_read(at, len);
        // SAFETY: the block is full, so every holder published its part (Acquire in `is_full`) and
        // touches it no more; no producer writes the next lap here before `release` moves
        // `written`, which needs this borrow to have ended.
        Some(unsafe { std::slice::from_raw_parts(shared.memory.at(at), len) })
    }

    /// Gives the room of the block back to the producers. Call it once for each [`Consumer::block`].
    ///
    /// # Panics
    /// If no block was ready.
    pub fn release(&mut self) {
        assert!(self.next < self.ready, "released a block that was not taken");
        let shared = &*self.shared;
        let written = self.position() + shared.block_len(self.next) as u64;
        shared.filled[shared.slot(self.next)].store(0, Ordering::Relaxed);
        self.next += 1;
        // Partner: the Acquire load in `in_window`.
        shared.written.store(written, Ordering::Release);
        // Partner: the fence in `Waiter::sleep_until`.
        fence(Ordering::SeqCst);
        for waiter in &shared.producers[..shared.registered.load(Ordering::Relaxed).min(shared.producers.len())] {
            let need = waiter.need.load(Ordering::Relaxed);
            if need != NEVER && need - written.min(need) < shared.capacity() {
                waiter.wake();
            }
        }
    }

    /// How far into the stream the consumer is, in bytes.
    pub fn position(&self) -> u64 {
        self.next * self.shared.block as u64
    }

    /// What stops the ring from outside.
    pub fn stopper(&self) -> Stopper {
        Stopper { shared: self.shared.clone() }
    }
}

impl Drop for Consumer {
    /// A consumer that goes leaves no producer waiting for room that will never come.
    fn drop(&mut self) {
        self.shared.stop();
    }
}
