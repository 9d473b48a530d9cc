//! How the plan's stream is put on the medium: as it is, or compressed. Decided once, here.

use std::sync::OnceLock;

use ace_dt_ring::{Bounds, Segment};

use crate::{
    archive::write::{
        compress::{CompressionStage, FrameOffsets},
        plan::Plan,
        producer::{EntryProducer, StartPoint},
        resume::ResumePoint,
    },
    compression::Codec,
    error::Result,
    store::Store,
    stream::pipeline::Halt,
};

/// What makes the bytes of the archive, and knows where they lie on the medium.
pub enum Encoding<'a> {
    /// The plan's stream itself, made by so many threads.
    Plain(EntryProducer<'a>, usize),
    /// Frames that hold it.
    Compressed(Box<CompressionStage<'a>>),
}

impl<'a> Encoding<'a> {
    /// The encoding of `plan` from a resume point on, by at most `threads` requests at a time. On a tape
    /// blocks are of `tape_block` bytes, the last one too.
    pub fn new(
        plan: &'a Plan,
        store: &'a dyn Store,
        codec: Option<Codec>,
        point: ResumePoint,
        threads: usize,
        tape_block: Option<usize>,
    ) -> Encoding<'a> {
        let ResumePoint { plan_offset, medium_offset, overlap, prefix } = point;
        let threads = threads.min(plan.entries());
        match codec {
            // What is kept of an uncompressed stream is a part of it.
            None => {
                let start = StartPoint { offset: medium_offset, overlap, prefix };
                Encoding::Plain(EntryProducer { plan, store, start }, threads)
            }
            Some(codec) => {
                let start = StartPoint { offset: plan_offset, overlap: Vec::new(), prefix };
                Encoding::Compressed(Box::new(CompressionStage {
                    producer: EntryProducer { plan, store, start },
                    threads,
                    codec,
                    medium: medium_offset,
                    overlap,
                    tape_block,
                    offsets: FrameOffsets::default(),
                    stopper: OnceLock::new(),
                }))
            }
        }
    }

    /// Where the stream on the medium is cut into segments.
    pub fn bounds(&self) -> Bounds {
        match self {
            Encoding::Plain(producer, _) => Bounds::new(producer.plan.bounds(producer.start.offset)),
            Encoding::Compressed(_) => Bounds::open(),
        }
    }

    /// Threads that fill segments.
    pub fn producers(&self) -> usize {
        match self {
            Encoding::Plain(_, threads) => *threads,
            Encoding::Compressed(_) => 1,
        }
    }

    /// Fills a segment.
    ///
    /// # Errors
    /// If a blob cannot be had whole, or somebody else has stopped the ring.
    pub fn fill(&self, segment: Segment) -> Result<(), Halt> {
        match self {
            Encoding::Plain(producer, _) => producer.fill(segment),
            Encoding::Compressed(stage) => stage.run(segment),
        }
    }

    /// Where that lies on the medium which ends at an offset of the plan, if it is known yet.
    pub fn medium_offset(&self, plan_end: u64) -> Option<u64> {
        match self {
            Encoding::Plain(..) => Some(plan_end),
            Encoding::Compressed(stage) => stage.offsets.get(plan_end),
        }
    }

    /// Bytes of the whole archive on the medium, if they are known before it is written.
    pub fn total(&self) -> Option<u64> {
        match self {
            Encoding::Plain(producer, _) => Some(producer.plan.total()),
            Encoding::Compressed(_) => None,
        }
    }

    /// Ends what producers wait for.
    pub fn cancel(&self) {
        if let Encoding::Compressed(stage) = self {
            stage.stopper.get().iter().for_each(|stopper| stopper.stop());
        }
    }

    /// Whether the medium, with `synced` bytes on it, holds all that was planned.
    pub fn is_complete(&self, synced: u64) -> bool {
        match self {
            Encoding::Plain(producer, _) => synced >= producer.plan.total(),
            Encoding::Compressed(stage) => {
                let last = stage.producer.plan.last_blob_end();
                last <= stage.producer.start.offset || self.medium_offset(last).is_some_and(|at| at <= synced)
            }
        }
    }
}
