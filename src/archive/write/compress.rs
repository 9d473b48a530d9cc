//! Compression between two rings: the archive's stream is cut into frames, frames are compressed by
//! several threads, and put out in order.
//!
//! A frame is a zstd frame (RFC 8878) or a gzip member (RFC 1952); one behind the other they are
//! part of both formats. Frames end at the latest where a blob ends, so each offset in the checkpoint
//! is true: what is cut there decompresses to a stream that holds the blob. Where frames end, and
//! what is in them, is a pure function of the plan.

use std::{
    sync::{
        Mutex, OnceLock, PoisonError,
        mpsc::{self, Receiver, SyncSender},
    },
    thread,
};

use ace_dt_ring::{self as ring, Bounds, Consumer, Segment, Stopper};

use crate::{
    archive::write::{
        frame::{FrameEncoder, padding},
        plan::Plan,
        producer::EntryProducer,
    },
    compression::Codec,
    error::{Context, Error, Result},
    stream::pipeline::{Halt, fill_segments},
};

/// The most that goes into one frame.
const FRAME: usize = 2 << 20;
/// Between producers and compressors; large layers are fetched side by side in it.
const RING_BLOCK: usize = 64 << 10;
const RING_BLOCKS: usize = 256;
/// Where blobs end on the medium: what is compressed has no offsets that a plan could know.
#[derive(Default)]
pub struct FrameOffsets {
    /// Offsets in the plan and on the medium, ascending.
    ends: Mutex<Vec<(u64, u64)>>,
}

impl FrameOffsets {
    /// Where that lies on the medium which ends at `offset` of the plan, if a blob ends there and it
    /// is compressed already.
    pub fn get(&self, offset: u64) -> Option<u64> {
        let ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        let at = ends.binary_search_by_key(&offset, |(end, _)| *end).ok()?;
        Some(ends[at].1)
    }

    fn push(&self, offset: u64, medium: u64) {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).push((offset, medium));
    }
}

/// Where the frame ends that begins at `start`, both offsets in the plan's stream.
pub fn frame_end(plan: &Plan, start: u64) -> u64 {
    let blob = plan.blob_end(plan.blob_after(start));
    blob.unwrap_or(plan.total()).min(start + FRAME as u64)
}

/// Makes a compressed stream out of the plan's.
pub struct CompressionStage<'a> {
    /// Makes the plan's stream; a frame ends where it starts.
    pub producer: EntryProducer<'a>,
    /// Threads that fetch.
    pub threads: usize,
    /// How to compress.
    pub codec: Codec,
    /// Where writing begins on the medium.
    pub medium: u64,
    /// What stands between that and the first frame.
    pub overlap: Vec<u8>,
    /// Blocks are of this size, the last one too: a tape takes no others.
    pub tape_block: Option<usize>,
    /// Where frames end.
    pub offsets: FrameOffsets,
    /// Ends the ring in front of the compressors from outside.
    pub stopper: OnceLock<Stopper>,
}

/// A frame to be compressed, and where the result is to go.
struct FrameJob {
    bytes: Vec<u8>,
    to: SyncSender<Result<Vec<u8>>>,
}

/// A frame on its way, and where it ends in the plan.
struct ComingFrame {
    frame: Receiver<Result<Vec<u8>>>,
    end: u64,
}

/// Buffers that are used again: memory from the system costs more than compressing into it.
#[derive(Default)]
struct Buffers(Mutex<Vec<Vec<u8>>>);

impl Buffers {
    fn take(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn give(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
    }
}

impl CompressionStage<'_> {
    fn plan(&self) -> &Plan {
        self.producer.plan
    }

    /// Where in the plan's stream compressing begins.
    fn begin(&self) -> u64 {
        self.producer.start.offset
    }

    /// Makes the compressed stream in `out`, the one segment of an open stream.
    ///
    /// # Errors
    /// If a blob cannot be had, compressing fails, or somebody else has stopped the ring.
    pub fn run(&self, mut out: Segment) -> Result<(), Halt> {
        let bounds = Bounds::new(self.plan().bounds(self.begin()));
        let ring = ring::new(RING_BLOCK, RING_BLOCKS, self.threads, bounds);
        let (producers, consumer) = ring.doing(|| "taking memory to compress from")?;
        let stopper = producers.stopper();
        let _ = self.stopper.set(stopper.clone());
        let compressors = thread::available_parallelism().map_or(1, usize::from);
        let (jobs, queue) = mpsc::sync_channel(compressors);
        let (order, coming) = mpsc::sync_channel(2 * compressors);
        let (queue, buffers, failure) = (Mutex::new(queue), Buffers::default(), OnceLock::new());
        let collected = thread::scope(|scope| {
            for _ in 0..self.threads {
                let (producers, failure) = (producers.clone(), &failure);
                scope.spawn(move || {
                    // A producer that fails drops its segment, and so stops the ring.
                    if let Err(Halt::Failed(e)) = fill_segments(&producers, &|segment| self.producer.fill(segment)) {
                        let _ = failure.set(e);
                    }
                });
            }
            for _ in 0..compressors {
                scope.spawn(|| compress(self.codec, &queue, &buffers));
            }
            scope.spawn(|| self.cut(consumer, jobs, order, &buffers));
            let collected = self.collect(&mut out, coming, &buffers);
            stopper.stop();
            collected
        });
        match failure.into_inner() {
            Some(e) => return Err(e.into()),
            None => collected?,
        }
        out.end_stream();
        Ok(())
    }

    /// Cuts the stream into frames. Ends when all is cut, or when somebody else has ended.
    fn cut(&self, mut from: Consumer, jobs: SyncSender<FrameJob>, order: SyncSender<ComingFrame>, buffers: &Buffers) {
        let (mut at, mut end, mut bytes) = (self.begin(), frame_end(self.plan(), self.begin()), buffers.take());
        while let Ok(true) = from.wait(1) {
            while let Some(mut block) = from.block() {
                while !block.is_empty() {
                    let n = block.len().min((end - at) as usize);
                    bytes.extend_from_slice(&block[..n]);
                    (at, block) = (at + n as u64, &block[n..]);
                    if at < end {
                        continue;
                    }
                    let (to, frame) = mpsc::sync_channel(1);
                    if order.send(ComingFrame { frame, end }).is_err() || jobs.send(FrameJob { bytes, to }).is_err() {
                        return;
                    }
                    bytes = buffers.take();
                    end = frame_end(self.plan(), at);
                }
                from.release();
            }
        }
    }

    /// Puts the frames out in order.
    fn collect(&self, out: &mut Segment, coming: Receiver<ComingFrame>, buffers: &Buffers) -> Result<(), Halt> {
        out.put(&self.overlap)?;
        let mut reached = self.begin();
        for ComingFrame { frame, end } in coming {
            let frame = frame.recv().map_err(|_| Halt::Stopped)??;
            out.put(&frame)?;
            buffers.give(frame);
            if self.plan().blob_end(self.plan().blob_after(reached)) == Some(end) {
                self.offsets.push(end, self.medium + out.position());
            }
            out.publish();
            reached = end;
        }
        if reached < self.plan().total() {
            return Err(Halt::Stopped);
        }
        if let Some(block) = self.tape_block {
            let end = self.medium + out.position();
            out.put(&padding(self.codec.format, (end % block as u64) as usize, block))?;
        }
        Ok(())
    }
}

/// Compresses frame after frame, until nobody sends more.
fn compress(codec: Codec, queue: &Mutex<Receiver<FrameJob>>, buffers: &Buffers) {
    let mut encoder = FrameEncoder::new(codec);
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(FrameJob { bytes, to }) = job else { return };
        let mut frame = buffers.take();
        let encoder = encoder.as_mut().map_err(Error::new);
        let outcome = encoder.and_then(|encoder| encoder.encode(&bytes, &mut frame).doing(|| "compressing"));
        buffers.give(bytes);
        // Nobody waits for it if the run is ending.
        let _ = to.send(outcome.map(|()| frame));
    }
}
