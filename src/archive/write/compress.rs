//! Compression between two rings: the archive's stream is cut into frames, frames are compressed by
//! several threads, and put out in order.
//!
//! A frame is a zstd frame (RFC 8878) or a gzip member (RFC 1952); one behind the other they are
//! part of both formats. Frames end at the latest where a blob ends, so each offset in the ledger
//! is true: what is cut there decompresses to a stream that holds the blob. Where frames end, and
//! what is in them, is a pure function of the plan.

use std::{
    io::{self, BufRead, Write},
    str::FromStr,
    sync::{
        Mutex, OnceLock, PoisonError,
        mpsc::{self, Receiver, SyncSender},
    },
    thread,
};

use flate2::{Compression, write::GzEncoder};
use serde::Deserialize;
use zstd::{bulk::Compressor, zstd_safe::CParameter};

use crate::{
    archive::write::plan::Plan,
    error::{Context, Error, Result},
    stream::pipeline::{self, Halt},
};
use ace_dt_ring as ring;
use ace_dt_ring::{Bounds, Consumer, Segment, Stopper};

/// The most that goes into one frame.
const FRAME: usize = 2 << 20;
/// Between producers and compressors; large layers are fetched side by side in it.
const RING_BLOCK: usize = 64 << 10;
const RING_BLOCKS: usize = 256;
/// What shrinks by less than one part in so many is not worth more work.
const WORTH: usize = 64;
/// The first bytes of a skippable frame, which every zstd decoder leaves out (RFC 8878, 3.1.2).
const SKIPPABLE: [u8; 4] = 0x184D_2A50_u32.to_le_bytes();
/// An empty gzip member has so many bytes, and at most so many more in its extra field.
const EMPTY_MEMBER: usize = 22;
const EXTRA_MAX: usize = 65_535;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Zstd,
    Gzip,
}

impl Format {
    /// By the first bytes of a stream: the magic of a zstd frame, skippable or not (RFC 8878), or of a
    /// gzip member (RFC 1952).
    pub fn of(magic: &[u8]) -> Option<Format> {
        match magic {
            [0x28, 0xB5, 0x2F, 0xFD, ..] | [0x50..=0x5F, 0x2A, 0x4D, 0x18, ..] => Some(Format::Zstd),
            [0x1F, 0x8B, ..] => Some(Format::Gzip),
            _ => None,
        }
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Format, String> {
        match text {
            "zstd" => Ok(Format::Zstd),
            "gzip" => Ok(Format::Gzip),
            _ => Err(format!("{text:?} is none of zstd, gzip")),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Min,
    #[default]
    Normal,
    Max,
}

/// How to compress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Codec {
    pub format: Format,
    pub level: Level,
}

/// Where blobs end on the medium: what is compressed has no offsets that a plan could know.
#[derive(Default)]
pub struct Marks {
    /// Offsets in the plan and on the medium, ascending.
    ends: Mutex<Vec<(u64, u64)>>,
}

impl Marks {
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

/// What a compressed stream is made of, and of whom.
pub struct Stage<'a> {
    pub plan: &'a Plan,
    pub codec: Codec,
    /// Where in the plan's stream compressing begins: a frame ends there.
    pub begin: u64,
    /// Where writing begins on the medium.
    pub medium: u64,
    /// What stands between that and the first frame.
    pub kept: &'a [u8],
    /// Fills a segment of the plan's stream.
    pub fill: &'a (dyn Fn(Segment) -> Result<(), Halt> + Sync),
    pub producers: usize,
    pub compressors: usize,
    pub marks: &'a Marks,
    /// Blocks are of this size, the last one too: a tape takes no others.
    pub pad: Option<usize>,
    /// Ends the ring in front of the compressors from outside.
    pub stopper: &'a OnceLock<Stopper>,
}

/// A frame to be compressed, and where the result is to go.
struct Job {
    bytes: Vec<u8>,
    to: SyncSender<Result<Vec<u8>>>,
}

/// A frame on its way, and where it ends in the plan.
struct Coming {
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

impl Stage<'_> {
    /// Makes the compressed stream in `out`, the one segment of an open stream.
    pub fn run(&self, mut out: Segment) -> Result<(), Halt> {
        let bounds = Bounds::new(self.plan.bounds(self.begin));
        let ring = ring::new(RING_BLOCK, RING_BLOCKS, self.producers, bounds);
        let (producers, consumer) = ring.doing(|| "taking memory to compress from")?;
        let stopper = producers.stopper();
        let _ = self.stopper.set(stopper.clone());
        let (jobs, queue) = mpsc::sync_channel(self.compressors);
        let (order, coming) = mpsc::sync_channel(2 * self.compressors);
        let (queue, buffers, failure) = (Mutex::new(queue), Buffers::default(), OnceLock::new());
        let collected = thread::scope(|scope| {
            for _ in 0..self.producers {
                let (producers, failure) = (producers.clone(), &failure);
                scope.spawn(move || {
                    // A producer that fails drops its segment, and so stops the ring.
                    if let Err(Halt::Failed(e)) = pipeline::fill(&producers, self.fill) {
                        let _ = failure.set(e);
                    }
                });
            }
            for _ in 0..self.compressors {
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
    fn cut(&self, mut from: Consumer, jobs: SyncSender<Job>, order: SyncSender<Coming>, buffers: &Buffers) {
        let (mut at, mut end, mut bytes) = (self.begin, frame_end(self.plan, self.begin), buffers.take());
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
                    if order.send(Coming { frame, end }).is_err() || jobs.send(Job { bytes, to }).is_err() {
                        return;
                    }
                    bytes = buffers.take();
                    end = frame_end(self.plan, at);
                }
                from.release();
            }
        }
    }

    /// Puts the frames out in order.
    fn collect(&self, out: &mut Segment, coming: Receiver<Coming>, buffers: &Buffers) -> Result<(), Halt> {
        out.put(self.kept)?;
        let mut reached = self.begin;
        for Coming { frame, end } in coming {
            let frame = frame.recv().map_err(|_| Halt::Stopped)??;
            out.put(&frame)?;
            buffers.give(frame);
            if self.plan.blob_end(self.plan.blob_after(reached)) == Some(end) {
                self.marks.push(end, self.medium + out.position());
            }
            out.publish();
            reached = end;
        }
        if reached < self.plan.total() {
            return Err(Halt::Stopped);
        }
        if let Some(block) = self.pad {
            let end = self.medium + out.position();
            out.put(&padding(self.codec.format, (end % block as u64) as usize, block))?;
        }
        Ok(())
    }
}

/// Compresses frame after frame, until nobody sends more.
fn compress(codec: Codec, queue: &Mutex<Receiver<Job>>, buffers: &Buffers) {
    let mut encoder = Encoder::new(codec);
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { bytes, to }) = job else { return };
        let mut frame = buffers.take();
        let encoder = encoder.as_mut().map_err(Error::new);
        let outcome = encoder.and_then(|encoder| encoder.encode(&bytes, &mut frame).doing(|| "compressing"));
        buffers.give(bytes);
        // Nobody waits for it if the run is ending.
        let _ = to.send(outcome.map(|()| frame));
    }
}

/// What one thread compresses with.
struct Encoder {
    codec: Codec,
    /// Finds out at little cost what does not shrink.
    quick: Compressor<'static>,
    /// For what does, if that is another level of zstd.
    strong: Option<Compressor<'static>>,
    scratch: Vec<u8>,
}

impl Encoder {
    fn new(codec: Codec) -> io::Result<Encoder> {
        let compressor = |level| {
            let mut compressor = Compressor::new(level)?;
            compressor.include_checksum(true)?;
            if level == 1 {
                // An eighth quicker, for a thirtieth more bytes: hashing takes its time beside it.
                compressor.set_parameter(CParameter::HashLog(13))?;
            }
            Ok::<_, io::Error>(compressor)
        };
        let (quick, strong) = match (codec.format, codec.level) {
            (Format::Zstd, Level::Min) => (-3, None),
            (Format::Zstd, Level::Normal) | (Format::Gzip, _) => (1, None),
            (Format::Zstd, Level::Max) => (1, Some(11)),
        };
        Ok(Encoder {
            codec,
            quick: compressor(quick)?,
            strong: strong.map(compressor).transpose()?,
            scratch: Vec::new(),
        })
    }

    /// Makes `frame` one that holds `bytes`, whatever it held.
    fn encode(&mut self, bytes: &[u8], frame: &mut Vec<u8>) -> io::Result<()> {
        frame.clear();
        let into = if self.codec.format == Format::Zstd { &mut *frame } else { &mut self.scratch };
        into.clear();
        into.reserve(zstd::zstd_safe::compress_bound(bytes.len()));
        let length = self.quick.compress_to_buffer(bytes, into)?;
        let shrinks = length + bytes.len() / WORTH < bytes.len();
        match (self.codec.format, &mut self.strong) {
            (Format::Zstd, Some(strong)) if shrinks => {
                frame.clear();
                strong.compress_to_buffer(bytes, frame)?;
            }
            (Format::Zstd, _) => {}
            (Format::Gzip, _) => {
                let level = match self.codec.level {
                    _ if !shrinks => 0,
                    Level::Min => 1,
                    Level::Normal => 4,
                    Level::Max => 9,
                };
                let mut encoder = GzEncoder::new(std::mem::take(frame), Compression::new(level));
                encoder.write_all(bytes)?;
                *frame = encoder.finish()?;
            }
        }
        Ok(())
    }
}

/// Reads one frame from its first byte on, and stops behind its last.
///
/// # Errors
/// If it is cut short, or no frame.
pub fn read_frame<R: BufRead>(format: Format, from: &mut R, into: &mut impl Write) -> io::Result<u64> {
    match format {
        Format::Zstd => io::copy(&mut zstd::stream::read::Decoder::with_buffer(from)?.single_frame(), into),
        Format::Gzip => io::copy(&mut flate2::bufread::GzDecoder::new(from), into),
    }
}

/// Frames that hold nothing, as long as it takes from `used` bytes of a block to the end of one.
fn padding(format: Format, used: usize, block: usize) -> Vec<u8> {
    let least = if format == Format::Zstd { 8 } else { EMPTY_MEMBER };
    let mut left = (block - used) % block;
    while left > 0 && left < least {
        left += block;
    }
    let mut all = Vec::with_capacity(left);
    while left > 0 {
        let mut length = left;
        match format {
            Format::Zstd => {
                length = length.min(u32::MAX as usize);
                all.extend(SKIPPABLE);
                all.extend((length as u32 - 8).to_le_bytes());
                all.resize(all.len() + length - 8, 0);
            }
            Format::Gzip => {
                length = length.min(EMPTY_MEMBER + EXTRA_MAX);
                if left - length > 0 && left - length < EMPTY_MEMBER {
                    length -= EMPTY_MEMBER;
                }
                let extra = length - EMPTY_MEMBER;
                // Magic, deflate, FEXTRA, no time, no flags, unknown system.
                all.extend([0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255]);
                all.extend((extra as u16).to_le_bytes());
                all.resize(all.len() + extra, 0);
                // An empty last block, and checksum and length of nothing.
                all.extend([3, 0]);
                all.extend([0; 8]);
            }
        }
        left -= length;
    }
    all
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn decoded(format: Format, bytes: &[u8]) -> Vec<u8> {
        let mut all = Vec::new();
        match format {
            Format::Zstd => zstd::stream::read::Decoder::new(bytes).unwrap().read_to_end(&mut all).unwrap(),
            Format::Gzip => flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut all).unwrap(),
        };
        all
    }

    #[test]
    fn frames_hold_what_was_put_in() {
        let mut noise: Vec<u8> = (0..100_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        noise.extend(b"text ".repeat(20_000));
        for format in [Format::Zstd, Format::Gzip] {
            for level in [Level::Min, Level::Normal, Level::Max] {
                let mut encoder = Encoder::new(Codec { format, level }).unwrap();
                let (mut all, mut wanted) = (Vec::new(), Vec::<u8>::new());
                for part in [&b""[..], b"a", &noise, &noise[400_000..]] {
                    let mut frame = vec![9; 3];
                    encoder.encode(part, &mut frame).unwrap();
                    all.extend(frame);
                    wanted.extend(part);
                }
                assert!(decoded(format, &all) == wanted, "{format:?} {level:?}");
                assert!(all.len() < wanted.len());
            }
        }
    }

    #[test]
    fn padding_is_nothing_and_fills_the_block() {
        for format in [Format::Zstd, Format::Gzip] {
            let mut encoder = Encoder::new(Codec { format, level: Level::Normal }).unwrap();
            let mut frame = Vec::new();
            encoder.encode(b"something", &mut frame).unwrap();
            for block in [512, 1000, 65_536, 65_560, 1 << 20] {
                for used in [0, 1, frame.len(), block - 30, block - 22, block - 21, block - 8, block - 7, block - 1] {
                    let pad = padding(format, used % block, block);
                    assert!((used + pad.len()).is_multiple_of(block), "{format:?} {used} of {block}");
                    assert!(pad.len() < 2 * block);
                    assert_eq!(decoded(format, &[&frame[..], &pad].concat()), b"something");
                }
            }
        }
    }
}
