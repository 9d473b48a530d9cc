//! The way of the bytes: producers fill the ring, one writer thread empties it onto the device,
//! the calling thread watches.
//!
//! The first error wins: it stops the ring, everyone is woken or interrupted in a blocking call, and
//! every thread is joined before [`run`] returns.

use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use ace_dt_ring::{self as ring, Bounds, Consumer, Producers, Segment, Stopped, Stopper};

use crate::{
    error::{Context, Error, Result},
    media::sink::{Sink, SinkStart},
    signal::{self, CancelToken, ThreadId},
    stream::stats::StreamingStats,
};

/// How often the watcher looks.
const TICK: Duration = Duration::from_millis(100);

/// The smallest memory for a ring whose user asked for none.
const SMALL_RING: u64 = 8 << 20;

/// How the ring is laid out, in blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes of a block.
    pub block: usize,
    /// Blocks in the ring.
    pub slots: usize,
    /// Blocks that must be ready before the writer (re)starts; 1 for no mark.
    pub mark: u64,
    /// The mark is what the user wants, whatever the medium is.
    pub asked: bool,
}

/// The high-water mark if none is asked for, in percent.
const HIGH_WATER_MARK: u64 = 90;

impl Geometry {
    /// From the sizes a user gave, and the mark in percent: a buffer of 0 means a small ring and no mark.
    ///
    /// # Errors
    /// If a block is larger than the buffer, or the mark is no percentage.
    pub fn new(block: u64, buffer: u64, percent: Option<u64>) -> Result<Geometry> {
        let (asked, percent) = (percent.is_some(), percent.unwrap_or(HIGH_WATER_MARK));
        let too_large = |_| Error::usage("the block size is larger than this machine's memory");
        let block_bytes =
            usize::try_from(block).ok().filter(|&b| b <= isize::MAX as usize / 4).ok_or(()).map_err(too_large)?;
        if block_bytes == 0 {
            return Err(Error::usage("--block-size 0: a block must hold something"));
        }
        if !(1..=100).contains(&percent) {
            return Err(Error::usage(format!("--hwm {percent}: the high-water mark is a percentage from 1 to 100")));
        }
        if buffer == 0 {
            let slots = SMALL_RING.div_ceil(block).max(4) as usize;
            return Ok(Geometry { block: block_bytes, slots, mark: 1, asked });
        }
        if buffer < block {
            return Err(Error::usage(format!("--buffer-size {buffer} is smaller than one block of {block} bytes"))
                .hint("give a larger --buffer-size or a smaller --block-size"));
        }
        let slots = buffer / block;
        let mark = (u128::from(slots) * u128::from(percent)).div_ceil(100) as u64;
        Ok(Geometry { block: block_bytes, slots: slots as usize, mark, asked })
    }

    /// The mark for this sink: one that needs no strokes has one only if the user wants it.
    fn mark_for(&self, sink: &dyn Sink) -> u64 {
        if self.asked || sink.needs_strokes() { self.mark } else { 1 }
    }
}

/// Why a producer gave up.
#[derive(Debug)]
pub enum Halt {
    /// Somebody else failed.
    Stopped,
    /// The producer itself failed.
    Failed(Error),
}

impl From<Stopped> for Halt {
    fn from(_: Stopped) -> Halt {
        Halt::Stopped
    }
}

impl From<Error> for Halt {
    fn from(error: Error) -> Halt {
        Halt::Failed(error)
    }
}

/// Fills one segment of the stream. Called on the producing threads.
pub type FillSegment<'a> = dyn Fn(Segment) -> Result<(), Halt> + Sync + 'a;

/// What is going on, for progress and checkpoint.
#[derive(Clone, Copy, Debug, Default)]
pub struct Snapshot {
    /// Where the device stands: bytes that it has accepted, those of an earlier run included.
    pub accepted: u64,
    /// Up to where it is on the medium for good.
    pub synced: u64,
    /// Where this run began.
    pub from: u64,
    /// Bytes that producers have published.
    pub received: u64,
    /// Nothing more will come.
    pub ended: bool,
    /// Bytes in the buffer.
    pub fill: u64,
    /// Bytes that the buffer holds; 0 if the run never began.
    pub capacity: u64,
    /// Bytes that must be in it before the device is started; 0 is no mark.
    pub mark: u64,
    /// The device is being written to, or brought to an end; otherwise it waits for the mark.
    pub writing: bool,
    /// The device has all blocks, and brings them to the medium.
    pub finishing: bool,
    /// How the device was kept busy.
    pub stats: StreamingStats,
    /// How often the producers had to wait for room.
    pub full: u64,
    /// Since the run began.
    pub elapsed: Duration,
}

/// What the threads tell the watcher.
#[derive(Default)]
struct Meters {
    accepted: AtomicU64,
    synced: AtomicU64,
    /// Bytes that are in the ring before the writer starts; 0 is no mark.
    mark: u64,
    writing: AtomicBool,
    finishing: AtomicBool,
    stats: Mutex<StreamingStats>,
    running: AtomicUsize,
    /// Somebody wants an end now: what is in the ring is not written any more. After a failure of a producer it is.
    abandoned: AtomicBool,
    failure: OnceLock<Error>,
    /// Told of the failure.
    cancel: CancelToken,
}

impl Meters {
    /// The run fails; the first reason counts.
    fn fail(&self, error: Error) {
        let _ = self.failure.set(error);
        self.cancel.cancel();
    }

    fn snapshot(&self, from: u64, stopper: &Stopper, begun: Instant) -> Snapshot {
        Snapshot {
            mark: self.mark,
            from,
            synced: self.synced.load(Ordering::Acquire),
            accepted: self.accepted.load(Ordering::Acquire),
            received: stopper.published(),
            ended: stopper.ended(),
            fill: stopper.fill(),
            capacity: stopper.capacity(),
            writing: self.writing.load(Ordering::Relaxed),
            finishing: self.finishing.load(Ordering::Relaxed),
            stats: *self.stats.lock().unwrap_or_else(PoisonError::into_inner),
            full: stopper.full(),
            elapsed: begun.elapsed(),
        }
    }
}

/// A stream to be carried.
pub struct StreamJob<'a> {
    /// How the ring is laid out.
    pub geometry: Geometry,
    /// Where on the device the stream begins; what stands there up to that stays.
    pub from: u64,
    /// What stands on the device up to here is read while it is written over.
    pub preserve_until: u64,
    /// Where the stream is cut into segments.
    pub bounds: Bounds,
    /// Producing threads.
    pub producers: usize,
    /// Fills one segment.
    pub produce: &'a FillSegment<'a>,
    /// Ends what producers wait for outside the ring (requests). Called when the run fails.
    pub on_cancel: &'a dyn Fn(),
}

/// Hears how a stream goes.
pub trait Observer {
    /// There is room, and what the medium held is lost from now on.
    ///
    /// # Errors
    /// One ends the run; the medium is as it was.
    fn begins(&mut self) -> Result<()> {
        Ok(())
    }

    /// Called several times a second, and once more at the end.
    ///
    /// # Errors
    /// One ends the run like any other.
    fn tick(&mut self, now: &Snapshot) -> Result<()>;
}

impl<F: FnMut(&Snapshot) -> Result<()>> Observer for F {
    fn tick(&mut self, now: &Snapshot) -> Result<()> {
        self(now)
    }
}

/// Carries the whole stream onto `sink`, and tells `observer` of it.
///
/// Returns where the device stands, and how the run ended.
///
/// # Errors
/// The first: of a producer, the sink, the observer, a signal, or memory that cannot be had. What the device
/// has accepted by then it keeps.
pub fn run(job: StreamJob, sink: &mut dyn Sink, observer: &mut dyn Observer) -> (Snapshot, Result<()>) {
    let begun = Instant::now();
    let Geometry { block, slots, .. } = job.geometry;
    let mark = job.geometry.mark_for(sink);
    let meters = Meters { mark: if mark > 1 { mark * block as u64 } else { 0 }, ..Meters::default() };
    let start = SinkStart {
        block_size: block,
        from: job.from,
        preserve_until: job.preserve_until,
        expected: job.bounds.total().map(|total| job.from + total),
        cancel: meters.cancel.clone(),
    };
    let ring = ring::new(block, slots, job.producers, job.bounds)
        .doing(|| format!("taking {} bytes of memory for the buffer", block as u128 * slots as u128));
    let mut begin = || {
        sink.prepare(&start)?;
        // The last moment at which nothing is lost yet.
        signal::check()?;
        observer.begins()?;
        sink.begin(&start)
    };
    let (producers, consumer) = match ring.and_then(|ring| begin().map(|()| ring)) {
        Ok(ring) => ring,
        Err(e) => return (Snapshot::default(), Err(e)),
    };
    let stopper = producers.stopper();
    meters.accepted.store(sink.accepted(), Ordering::Release);
    meters.synced.store(sink.synced(), Ordering::Release);
    thread::scope(|scope| {
        let meters = &meters;
        let mut threads =
            vec![start_thread(scope, meters, "writer".into(), move || Ok(write(consumer, sink, mark, meters)?))];
        for n in 0..job.producers {
            let (producers, produce) = (producers.clone(), job.produce);
            let name = format!("producer {n}");
            threads.push(start_thread(scope, meters, name, move || fill_segments(&producers, produce)));
        }
        let threads: Vec<Started> = threads.into_iter().flatten().collect();
        let mut look = || observer.tick(&meters.snapshot(job.from, &stopper, begun));
        watch(meters, &threads, &mut look, &|| {
            stopper.stop();
            (job.on_cancel)();
        });
        for thread in threads {
            if thread.handle.join().is_err() {
                meters.fail(Error::new("a thread of the pipeline panicked; this is a fault of ace-dt"));
            }
        }
    });
    let last = meters.snapshot(job.from, &stopper, begun);
    let result = match meters.failure.into_inner() {
        // A signal ends requests, and their errors may come first.
        Some(e) => signal::check().and(Err(e)),
        None => observer.tick(&last),
    };
    (last, result)
}

/// Looks on until every thread is through; when one fails, or `look` does, ends the others.
fn watch(meters: &Meters, threads: &[Started], look: &mut dyn FnMut() -> Result<()>, stop: &dyn Fn()) {
    let mut stopping = false;
    while meters.running.load(Ordering::SeqCst) > 0 {
        thread::park_timeout(TICK);
        if let Err(e) = signal::check().and_then(|()| look()) {
            meters.abandoned.store(true, Ordering::Relaxed);
            meters.fail(e);
        }
        if meters.failure.get().is_some() {
            if !stopping {
                stopping = true;
                stop();
            }
            threads.iter().filter_map(|thread| thread.id.get()).for_each(|id| id.interrupt());
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A thread of the pipeline, with the name by which its blocking call can be interrupted.
struct Started<'scope> {
    handle: thread::ScopedJoinHandle<'scope, ()>,
    id: Arc<OnceLock<ThreadId>>,
}

/// Starts one thread; what makes it fail is recorded as the run's failure.
fn start_thread<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    meters: &'scope Meters,
    name: String,
    body: impl FnOnce() -> Result<(), Halt> + Send + 'scope,
) -> Option<Started<'scope>> {
    let id = Arc::new(OnceLock::new());
    let (own, watcher) = (id.clone(), thread::current());
    meters.running.fetch_add(1, Ordering::SeqCst);
    let spawned = thread::Builder::new().name(name).spawn_scoped(scope, move || {
        let _leaving = Leaving { meters, watcher };
        let _ = own.set(ThreadId::current());
        if let Err(Halt::Failed(e)) = body() {
            meters.fail(e);
        }
    });
    match spawned {
        Ok(handle) => Some(Started { handle, id }),
        Err(e) => {
            meters.running.fetch_sub(1, Ordering::SeqCst);
            meters.fail(Error::from_io(e).doing("starting a thread"));
            None
        }
    }
}

/// Tells the watcher that a thread is through, however it came to its end.
struct Leaving<'a> {
    meters: &'a Meters,
    watcher: thread::Thread,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.meters.running.fetch_sub(1, Ordering::SeqCst);
        self.watcher.unpark();
    }
}

/// Fills segment after segment, until there are no more.
///
/// # Errors
/// That of the first segment that fails; the ring is stopped then.
pub fn fill_segments(producers: &Producers, produce: &FillSegment) -> Result<(), Halt> {
    let mut producer = producers.register();
    while let Some(segment) = producer.next_segment() {
        produce(segment)?;
    }
    Ok(())
}

/// The writer: waits for the mark, writes until the ring runs dry, waits again.
fn write(mut consumer: Consumer, sink: &mut dyn Sink, mark: u64, meters: &Meters) -> Result<()> {
    let mut stopped = Instant::now();
    loop {
        match consumer.wait(mark) {
            Ok(true) => {}
            Ok(false) => break,
            // Whoever stopped the ring has said why.
            Err(Stopped) => return Ok(()),
        }
        let (started, from, mut blocks) = (Instant::now(), sink.accepted(), 0);
        meters.writing.store(true, Ordering::Relaxed);
        let outcome = loop {
            let Some(block) = consumer.block() else { break Ok(()) };
            let outcome = sink.write_block(block);
            meters.accepted.store(sink.accepted(), Ordering::Release);
            meters.synced.store(sink.synced(), Ordering::Release);
            if outcome.is_err() {
                break outcome;
            }
            blocks += 1;
            consumer.release();
            if meters.abandoned.load(Ordering::Relaxed) {
                break Ok(());
            }
        };
        meters.writing.store(false, Ordering::Relaxed);
        let mut stats = meters.stats.lock().unwrap_or_else(PoisonError::into_inner);
        stats.add(started - stopped, started.elapsed(), sink.accepted() - from, blocks);
        drop(stats);
        outcome?;
        if meters.abandoned.load(Ordering::Relaxed) {
            return Ok(());
        }
        stopped = Instant::now();
    }
    // What the device has in its own buffers is written now.
    meters.finishing.store(true, Ordering::Relaxed);
    meters.writing.store(true, Ordering::Relaxed);
    let finished = sink.finish();
    meters.writing.store(false, Ordering::Relaxed);
    meters.synced.store(sink.synced(), Ordering::Release);
    finished
}
