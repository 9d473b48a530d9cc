//! What a destination of blocks can do: a file or pipe ([`crate::media::file_sink`]), a tape
//! ([`crate::media::tape::sink`]), or several at once ([`crate::media::tee`]).

use std::sync::{Arc, Mutex, PoisonError};

use crate::{error::Result, media::tape::scsi::change::DriveChange, signal::CancelToken};

/// What a sink is told before the first block. Offsets are those of the stream, in bytes.
#[derive(Clone, Debug)]
pub struct SinkStart {
    /// Bytes of each block but the last, which may be shorter.
    pub block_size: usize,
    /// Where writing begins.
    pub from: u64,
    /// What stands on the medium up to here is still read meanwhile.
    pub preserve_until: u64,
    /// Length of the whole, if it is known.
    pub expected: Option<u64>,
    /// Asked where a write was interrupted, and between long waits.
    pub cancel: CancelToken,
}

/// Takes a stream in blocks, in order.
pub trait Sink: Send {
    /// Makes sure, as far as that can be known, that [`Sink::begin`] and the blocks will find room. What the medium
    /// holds stays as it is.
    ///
    /// # Errors
    /// If there is no room for `expected` bytes.
    fn prepare(&mut self, _start: &SinkStart) -> Result<()> {
        Ok(())
    }

    /// Makes ready for blocks. From here on what the medium held behind the beginning is lost.
    ///
    /// # Errors
    /// If the medium refuses this block size, or has no room for `expected` bytes. No block is written then.
    fn begin(&mut self, start: &SinkStart) -> Result<()>;

    /// Writes one block.
    ///
    /// # Errors
    /// With the place at which it failed; a signal that asks to stop, or the cancelled run, where a
    /// write was interrupted.
    fn write_block(&mut self, block: &[u8]) -> Result<()>;

    /// Brings what was accepted to the medium, whole or not. Nothing is written behind it.
    ///
    /// # Errors
    /// If it cannot be brought there; what was synced before stays.
    fn finish(&mut self) -> Result<()>;

    /// Bytes of the stream that were accepted.
    fn accepted(&self) -> u64;

    /// Bytes of the stream that are on the medium for good, as far as a checkpoint speaks of them.
    fn synced(&self) -> u64 {
        self.accepted()
    }

    /// Cuts what is there to `length` bytes, where that can be.
    ///
    /// # Errors
    /// If the file system refuses it.
    fn cut(&mut self, _length: u64) -> Result<()> {
        Ok(())
    }

    /// Whether it is better written in long strokes, with waits between them. A file is written as bytes come.
    fn needs_strokes(&self) -> bool {
        true
    }

    /// For messages.
    fn name(&self) -> &str;

    /// The volumes that the stream goes to, if it goes to tapes.
    fn volumes(&self) -> Volumes {
        Volumes::default()
    }
}

/// Where a stream lies on one tape.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    /// Counted from 1.
    pub number: usize,
    /// Offset in the stream at which it begins.
    pub offset: u64,
    /// File of the tape at which the stream begins on it, as `MTIOCGET` counts them; `None` where the
    /// driver does not know.
    pub file: Option<u32>,
    /// Block in that file.
    pub block: Option<u32>,
    /// The drive's address of that block, as `MTIOCPOS` tells it, where the drive answers READ POSITION.
    pub position: Option<u32>,
    /// Bytes of a block as the tape has it.
    pub block_size: u32,
    /// Blocks of the stream on it.
    pub blocks: u64,
    /// Blocks that are on it for sure, by which it is known again: the first, and the last two.
    pub known: Vec<KnownBlock>,
    /// The barcode of the cartridge, if its memory has it.
    pub barcode: Option<String>,
    /// What the drive told behind it.
    pub change: Option<DriveChange>,
}

/// A block that a volume is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownBlock {
    /// Counted from the first of the stream on the volume.
    pub number: u64,
    /// The CRC-32 of its bytes (that of RFC 1952).
    pub crc: u32,
}

impl KnownBlock {
    /// Block `number`, which holds these bytes.
    pub fn of(number: u64, bytes: &[u8]) -> KnownBlock {
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        KnownBlock { number, crc: crc.sum() }
    }
}

/// The volumes of a stream, for whoever looks on.
#[derive(Clone, Debug, Default)]
pub struct Volumes(Arc<Mutex<Vec<Volume>>>);

impl Volumes {
    fn with<T>(&self, change: impl FnOnce(&mut Vec<Volume>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The stream goes on to another volume.
    pub fn push(&self, volume: Volume) {
        self.with(|all| all.push(volume));
    }

    /// Tells how many blocks the last one has.
    pub fn count(&self, blocks: u64) {
        self.with(|all| all.iter_mut().last().into_iter().for_each(|last| last.blocks = blocks));
    }

    /// Tells which blocks are on the last one for sure.
    pub fn know(&self, known: &[KnownBlock]) {
        self.with(|all| all.iter_mut().last().into_iter().for_each(|last| last.known = known.to_vec()));
    }

    /// What the drive told behind the last one.
    pub fn changed(&self, change: DriveChange) {
        self.with(|all| all.iter_mut().last().into_iter().for_each(|last| last.change = Some(change.clone())));
    }

    /// The last one's position is not to be relied on.
    pub fn forget_position(&self) {
        self.with(|all| all.iter_mut().last().into_iter().for_each(|last| last.position = None));
    }

    /// On which the byte before `offset` lies.
    pub fn at(&self, offset: u64) -> Option<Volume> {
        self.with(|all| all.iter().rev().find(|volume| volume.offset < offset).or(all.first()).cloned())
    }

    /// All of them, in order.
    pub fn all(&self) -> Vec<Volume> {
        self.with(|all| all.clone())
    }
}
