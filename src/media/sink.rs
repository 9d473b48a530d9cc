//! What a destination of blocks can do: a file or pipe ([`crate::media::file_sink`]), a tape
//! ([`crate::media::tape::sink`]), or several at once ([`crate::media::tee`]).

use std::sync::{Arc, Mutex, PoisonError};

use crate::error::Result;

/// Whether the run was given up meanwhile.
pub type GivenUp<'a> = &'a dyn Fn() -> bool;

/// Takes a stream in blocks, in order. Offsets are those of the stream, in bytes.
pub trait Sink: Send {
    /// Makes ready for blocks of `block` bytes from offset `from` on. What stands there up to `keep`
    /// is still read meanwhile; `expected` is the length of the whole, if it is known.
    ///
    /// # Errors
    /// If such blocks cannot be taken, or so many. Nothing is written then.
    fn begin(&mut self, block: usize, from: u64, keep: u64, expected: Option<u64>) -> Result<()>;

    /// Writes one block. `full` is the block size; only the last block of a stream may be shorter.
    ///
    /// # Errors
    /// With the place at which it failed; a signal that asks to stop, or `given_up()`, where a write
    /// was interrupted.
    fn write_block(&mut self, block: &[u8], full: usize, given_up: GivenUp) -> Result<()>;

    /// Brings what was accepted to the medium, whole or not. Nothing is written behind it.
    fn finish(&mut self) -> Result<()>;

    /// Bytes of the stream that were accepted.
    fn accepted(&self) -> u64;

    /// Bytes of the stream that are on the medium for good, as far as a ledger speaks of them.
    fn sure(&self) -> u64 {
        self.accepted()
    }

    /// Cuts what is there to `length` bytes, where that can be.
    fn cut(&mut self, _length: u64) -> Result<()> {
        Ok(())
    }

    /// For messages.
    fn name(&self) -> &str;

    /// The volumes that the stream goes to, if it goes to tapes.
    fn volumes(&self) -> Volumes {
        Volumes::default()
    }
}

/// Where a stream lies on one tape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Counted from 1.
    pub number: usize,
    /// Offset in the stream at which it begins.
    pub offset: u64,
    /// File of the tape, and block in that file, at which the stream begins on it, as `MTIOCGET`
    /// counts them; `None` where the driver does not know.
    pub file: Option<u32>,
    pub block: Option<u32>,
    /// The drive's address of that block, as `MTIOCPOS` tells it, where the drive answers READ POSITION.
    pub position: Option<u32>,
    /// Bytes of a block as the tape has it.
    pub size: u32,
    /// Blocks of the stream on it.
    pub blocks: u64,
}

/// The volumes of a stream, for whoever looks on.
#[derive(Clone, Default)]
pub struct Volumes(Arc<Mutex<Vec<Volume>>>);

impl Volumes {
    pub fn push(&self, volume: Volume) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(volume);
    }

    /// Tells how many blocks the last one has.
    pub fn count(&self, blocks: u64) {
        if let Some(last) = self.0.lock().unwrap_or_else(PoisonError::into_inner).last_mut() {
            last.blocks = blocks;
        }
    }

    /// The last one's position is not to be relied on.
    pub fn forget_position(&self) {
        if let Some(last) = self.0.lock().unwrap_or_else(PoisonError::into_inner).last_mut() {
            last.position = None;
        }
    }

    /// On which the byte before `offset` lies.
    pub fn at(&self, offset: u64) -> Option<Volume> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().rev().find(|volume| volume.offset < offset).or(all.first()).cloned()
    }

    pub fn all(&self) -> Vec<Volume> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
