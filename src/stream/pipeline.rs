//! The way of the bytes: producers fill the ring, one writer thread empties it onto the device,
//! the calling thread watches.
//!
//! The first error wins: it stops the ring, everyone is woken or nudged out of a blocking call, and
//! every thread is joined before [`run`] returns.

use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::sys::pthread::{Pthread, pthread_self};

use crate::{
    error::{Context, Error, Result},
    media::sink::Sink,
    signal,
    stream::stats::Strokes,
};
use ace_dt_ring as ring;
use ace_dt_ring::{Bounds, Consumer, Producers, Segment, Stopped};

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
}

impl Geometry {
    /// From the sizes a user gave: a buffer of 0 means a small ring and no mark.
    ///
    /// # Errors
    /// If a block is larger than the buffer, or the mark is no percentage.
    pub fn new(block: u64, buffer: u64, percent: u64) -> Result<Geometry> {
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
            return Ok(Geometry { block: block_bytes, slots: SMALL_RING.div_ceil(block).max(4) as usize, mark: 1 });
        }
        if buffer < block {
            return Err(Error::usage(format!("--buffer-size {buffer} is smaller than one block of {block} bytes"))
                .hint("give a larger --buffer-size or a smaller --block-size"));
        }
        let slots = buffer / block;
        let mark = (u128::from(slots) * u128::from(percent)).div_ceil(100) as u64;
        Ok(Geometry { block: block_bytes, slots: slots as usize, mark })
    }
}

/// Why a producer gave up.
pub enum Halt {
    /// Somebody else failed.
    Stopped,
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

/// What is going on, for progress and ledger.
#[derive(Clone, Copy, Debug, Default)]
pub struct Snapshot {
    /// Where the device stands: bytes that it has accepted, those of an earlier run included.
    pub accepted: u64,
    /// Up to where it is on the medium for good.
    pub sure: u64,
    /// Where this run began.
    pub from: u64,
    /// Bytes that producers have published.
    pub received: u64,
    /// Nothing more will come.
    pub ended: bool,
    pub fill: u64,
    pub capacity: u64,
    /// The device is being written to, or brought to an end; otherwise it waits for the mark.
    pub writing: bool,
    /// How the device was kept busy.
    pub strokes: Strokes,
    /// How often the producers had to wait for room.
    pub full: u64,
    pub elapsed: Duration,
}

/// What the threads tell the watcher.
#[derive(Default)]
struct Meters {
    accepted: AtomicU64,
    sure: AtomicU64,
    writing: AtomicBool,
    strokes: Mutex<Strokes>,
    running: AtomicUsize,
    failure: OnceLock<Error>,
}

/// A stream to be carried.
pub struct Job<'a> {
    pub geometry: Geometry,
    /// Where on the device the stream begins; what stands there up to that stays.
    pub from: u64,
    /// What stands on the device up to here is read while it is written over.
    pub keep: u64,
    pub bounds: Bounds,
    /// Producing threads.
    pub producers: usize,
    /// Fills one segment. Called on the producing threads.
    pub produce: &'a (dyn Fn(Segment) -> Result<(), Halt> + Sync),
    /// Ends what producers wait for outside the ring (requests). Called when the run fails.
    pub cancel: &'a dyn Fn(),
}

/// Carries the whole stream onto `device`. `tick` hears several times a second how it goes, and
/// once more at the end; an error of its ends the run like any other.
///
/// Returns where the device stands, and the first error.
pub fn run(job: Job, device: &mut dyn Sink, tick: &mut dyn FnMut(&Snapshot) -> Result<()>) -> (Snapshot, Result<()>) {
    let begun = Instant::now();
    let Geometry { block, slots, mark } = job.geometry;
    let expected = job.bounds.total().map(|total| job.from + total);
    let ring = ring::new(block, slots, job.producers, job.bounds)
        .doing(|| format!("taking {} bytes of memory for the buffer", block as u128 * slots as u128));
    let ready = ring.and_then(|ring| device.begin(block, job.from, job.keep, expected).map(|()| ring));
    let (producers, consumer) = match ready {
        Ok(ring) => ring,
        Err(e) => return (Snapshot::default(), Err(e)),
    };
    let stopper = producers.stopper();
    let meters = Meters {
        accepted: AtomicU64::new(device.accepted()),
        sure: AtomicU64::new(device.sure()),
        ..Meters::default()
    };
    let mut watched = Snapshot::default();
    let mut look = |meters: &Meters| {
        watched = Snapshot {
            sure: meters.sure.load(Ordering::Acquire),
            accepted: meters.accepted.load(Ordering::Acquire),
            from: job.from,
            received: stopper.published(),
            ended: stopper.ended(),
            fill: stopper.fill(),
            capacity: stopper.capacity(),
            writing: meters.writing.load(Ordering::Relaxed),
            strokes: *meters.strokes.lock().unwrap_or_else(PoisonError::into_inner),
            full: stopper.full(),
            elapsed: begun.elapsed(),
        };
        watched
    };
    thread::scope(|scope| {
        let meters = &meters;
        let mut threads =
            vec![start(scope, meters, "writer".into(), move || Ok(write(consumer, device, mark, block, meters)?))];
        for n in 0..job.producers {
            let (producers, produce) = (producers.clone(), job.produce);
            threads.push(start(scope, meters, format!("producer {n}"), move || fill(&producers, produce)));
        }
        let mut stopping = false;
        while meters.running.load(Ordering::SeqCst) > 0 {
            thread::park_timeout(TICK);
            if let Err(e) = signal::check().and_then(|()| tick(&look(meters))) {
                let _ = meters.failure.set(e);
            }
            if meters.failure.get().is_some() {
                if !stopping {
                    stopping = true;
                    stopper.stop();
                    (job.cancel)();
                }
                threads.iter().flatten().filter_map(|t| t.id.get()).for_each(|&id| signal::nudge(id));
                thread::sleep(Duration::from_millis(5));
            }
        }
        for thread in threads.into_iter().flatten() {
            if thread.handle.join().is_err() {
                let _ = meters.failure.set(Error::new("a thread of the pipeline panicked; this is a fault of ace-dt"));
            }
        }
    });
    let last = look(&meters);
    let result = match meters.failure.into_inner() {
        // A signal ends requests, and their errors may come first.
        Some(e) => signal::check().and(Err(e)),
        None => tick(&last),
    };
    (last, result)
}

/// A thread of the pipeline, with the name by which a blocking call of its can be ended.
struct Started<'scope> {
    handle: thread::ScopedJoinHandle<'scope, ()>,
    id: Arc<OnceLock<Pthread>>,
}

/// Starts one thread; what makes it fail is recorded as the run's failure.
fn start<'scope>(
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
        let _ = own.set(pthread_self());
        if let Err(Halt::Failed(e)) = body() {
            let _ = meters.failure.set(e);
        }
    });
    match spawned {
        Ok(handle) => Some(Started { handle, id }),
        Err(e) => {
            meters.running.fetch_sub(1, Ordering::SeqCst);
            let _ = meters.failure.set(Error::new(e).doing("starting a thread"));
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
pub fn fill(producers: &Producers, produce: &(dyn Fn(Segment) -> Result<(), Halt> + Sync)) -> Result<(), Halt> {
    let mut producer = producers.register();
    while let Some(segment) = producer.next_segment() {
        produce(segment)?;
    }
    Ok(())
}

/// The writer: waits for the mark, writes until the ring runs dry, waits again.
fn write(mut consumer: Consumer, device: &mut dyn Sink, mark: u64, full: usize, meters: &Meters) -> Result<()> {
    let mut stopped = Instant::now();
    loop {
        match consumer.wait(mark) {
            Ok(true) => {}
            Ok(false) => break,
            // Whoever stopped the ring has said why.
            Err(Stopped) => return Ok(()),
        }
        let (started, from, mut blocks) = (Instant::now(), device.accepted(), 0);
        meters.writing.store(true, Ordering::Relaxed);
        let outcome = loop {
            let Some(block) = consumer.block() else { break Ok(()) };
            let outcome = device.write_block(block, full, &|| meters.failure.get().is_some());
            meters.accepted.store(device.accepted(), Ordering::Release);
            meters.sure.store(device.sure(), Ordering::Release);
            if outcome.is_err() {
                break outcome;
            }
            blocks += 1;
            consumer.release();
        };
        meters.writing.store(false, Ordering::Relaxed);
        let mut strokes = meters.strokes.lock().unwrap_or_else(PoisonError::into_inner);
        strokes.add(started - stopped, started.elapsed(), device.accepted() - from, blocks);
        drop(strokes);
        outcome?;
        stopped = Instant::now();
    }
    // What the device has in its own buffers is written now.
    meters.writing.store(true, Ordering::Relaxed);
    let finished = device.finish();
    meters.writing.store(false, Ordering::Relaxed);
    meters.sure.store(device.sure(), Ordering::Release);
    finished
}
