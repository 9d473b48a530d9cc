//! A medium that can only be read from front to back.
//!
//! A thread reads it into the slots of a ring ([`ace_dt_ring::fan_out`]) and hands them over. A slot is free again when
//! nobody holds a window onto it, so that what was read is passed on without being copied, and the ring's size bounds
//! what waits. When the ring was full, the thread waits until it has run down to the low-water mark, so that a drive is
//! read in long strokes.

use std::{
    io::{self, BufRead, Read},
    path::PathBuf,
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread,
    time::Duration,
};

use ace_dt_ring::{Filled, Filler, FillerStopper, fan_out};

use crate::{
    error::{Context, Error, Result},
    log,
    media::{
        block_reader::BlockReader,
        source::{MediaSource, MediumPosition, Piece, PieceCursor, Window, copy_piece, skip_by_reading},
        tape::{changer::Changer, label::Label, locate::Place},
    },
    signal,
};

/// Bytes of the ring, if nothing else is asked for.
const RING: u64 = 16 << 20;
/// Bytes of a slot, if nothing else is asked for.
const SLOT: u64 = 1 << 20;
/// With fewer slots nothing would be read while something is held.
const SLOTS_MIN: u64 = 4;
const LOOK: Duration = Duration::from_millis(50);
/// How often it is looked whether the reading thread has ended, at the end.
const ENDING_LOOKS: usize = 10;

/// How to read.
#[derive(Clone, Debug, Default)]
pub struct InputOptions {
    /// Size of reads, in bytes; on a tape at least that of its blocks.
    pub read_size: Option<u64>,
    /// Bytes of the ring that a stream is read into; 0 for a small one without a mark.
    pub buffer: u64,
    /// When the ring was full, reading goes on when it has run down to this percentage.
    pub lwm: u64,
    /// Reading goes on behind blocks that cannot be read.
    pub passes_holes: bool,
    /// Where reading begins.
    pub start: Option<StartAt>,
    /// Who puts in the next volume.
    pub changer: Changer,
}

/// Where reading begins that goes on with an earlier run.
#[derive(Clone, Copy, Debug)]
pub struct StartAt {
    /// Which volume, counted from 1.
    pub volume: usize,
    /// Where the archive begins on that volume.
    pub first: Place,
    /// So many blocks behind it.
    pub block: u64,
    /// And so many bytes.
    pub byte: usize,
}

/// What the reading thread hands over.
enum ReaderMessage {
    /// Reading begins on a volume, at this place of a tape.
    Begun(Option<Place>),
    Blocks(BlockRun),
    /// The end of a file, or a filemark.
    End,
    /// Something cannot be read. If so many bytes are lost, reading goes on behind it.
    Failed(Error, Option<u64>),
    /// There is nothing that the stream could go on with.
    Finished,
}

/// Some bytes of blocks of one size, but the last of a file, which may be shorter.
struct BlockRun {
    bytes: Filled,
    /// In which block the first byte lies.
    block: u64,
    /// Which byte of that block it is.
    byte: usize,
    /// Bytes of each block.
    each: usize,
}

/// Files, pipes and tapes, one behind the other, as one stream.
pub struct StreamInput {
    messages: Receiver<ReaderMessage>,
    ring: FillerStopper,
    /// Has the thread go on with the next file or volume.
    more: Sender<()>,
    piece: PieceCursor,
    /// Where the piece lies: its first byte, and the size of its blocks.
    block: u64,
    byte: usize,
    each: usize,
    volume: usize,
    volumes: usize,
    /// Where reading began on this volume of a tape.
    place: Option<Place>,
    state: StreamState,
    /// Bytes that are lost where something could not be read.
    hole: Option<u64>,
    /// Whether the stream ends with this file or volume.
    ends_here: bool,
    is_tape: bool,
    starts_further_on: bool,
    /// The reading thread.
    thread: Option<thread::JoinHandle<()>>,
}

impl Drop for StreamInput {
    /// Lets the thread end that reads a tape, which sets the drive as it was; a read that blocks is not waited for.
    fn drop(&mut self) {
        self.ring.stop();
        let Some(thread) = self.thread.take().filter(|_| self.is_tape) else { return };
        (self.messages, self.more) = (mpsc::channel().1, mpsc::channel().0);
        for _ in 0..ENDING_LOOKS {
            if thread.is_finished() {
                break;
            }
            thread::sleep(LOOK);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum StreamState {
    Reading,
    /// At the end of a file or volume.
    Ended,
    /// The next one is waited for.
    Between,
    Finished,
}

impl StreamInput {
    /// Opens the first of what is named, and begins to read.
    ///
    /// # Errors
    /// If it cannot be opened, or no thread can be had.
    pub fn start(paths: Vec<PathBuf>, options: InputOptions) -> Result<StreamInput> {
        let volume = options.start.map_or(1, |start| start.volume);
        let path = paths.get(volume - 1).or(paths.last()).expect("there is a path");
        let first = BlockReader::open(path, options.read_size)?;
        StreamInput::begin(first, paths, options)
    }

    /// Reads a tape in memory.
    #[cfg(test)]
    pub fn of_drive(drive: crate::media::tape::fake::FakeDrive, options: InputOptions) -> StreamInput {
        StreamInput::begin(BlockReader::of_drive(drive), vec!["/dev/nst0".into()], options).unwrap()
    }

    /// Begins to read, with the first of what is named.
    fn begin(first: BlockReader, paths: Vec<PathBuf>, options: InputOptions) -> Result<StreamInput> {
        let (to, messages) = mpsc::channel();
        let (more, go_on) = mpsc::channel();
        let (volumes, volume) = (paths.len(), options.start.map_or(1, |start| start.volume));
        let is_tape = first.is_tape();
        let start = options.start.filter(|_| is_tape);
        let starts_further_on = start.is_some();
        let (filler, ring) = options.ring().doing(|| "making the buffer")?;
        let reading = Reading {
            paths,
            start,
            options,
            to,
            filler,
            go_on,
            volume,
            series: None,
            block: 0,
            last: 0,
            blocks: Vec::new(),
        };
        let thread = thread::Builder::new().name("reader".into()).spawn(move || reading.run(first));
        let thread = Some(thread.doing(|| "starting a thread")?);
        Ok(StreamInput {
            messages,
            ring,
            more,
            piece: PieceCursor::default(),
            block: 0,
            byte: 0,
            each: 1,
            volume,
            volumes,
            place: None,
            state: StreamState::Reading,
            hole: None,
            ends_here: false,
            is_tape,
            starts_further_on,
            thread,
        })
    }

    /// The ring that it is read into.
    pub fn ring(&self) -> FillerStopper {
        self.ring.clone()
    }

    /// Whether reading began where an earlier run ended.
    pub fn began_further_on(&self) -> bool {
        self.starts_further_on
    }

    /// Goes on with the next file. `false` if there is none.
    ///
    /// # Errors
    /// If it cannot be opened or read, or a signal asks to stop.
    pub fn next_file(&mut self) -> io::Result<bool> {
        self.ends_here = false;
        if self.volume >= self.volumes {
            return Ok(false);
        }
        Ok(!self.fill_buf()?.is_empty())
    }

    /// Waits for what comes next.
    fn next_message(&mut self) -> io::Result<ReaderMessage> {
        loop {
            match self.messages.recv_timeout(LOOK) {
                Ok(message) => return Ok(message),
                Err(RecvTimeoutError::Timeout) => signal::check()?,
                Err(RecvTimeoutError::Disconnected) => return Ok(ReaderMessage::Finished),
            }
        }
    }
}

impl BufRead for StreamInput {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.piece.rest().is_empty() && self.state != StreamState::Finished {
            if self.state == StreamState::Ended {
                if self.ends_here {
                    break;
                }
                let _ = self.more.send(());
                self.state = StreamState::Between;
            }
            // Its slot is free before more is waited for.
            self.piece = PieceCursor::default();
            let message = self.next_message()?;
            match message {
                // A file or volume that is not there has no number.
                ReaderMessage::Begun(place) => {
                    self.volume += usize::from(self.state == StreamState::Between);
                    self.state = StreamState::Reading;
                    (self.place, self.block, self.piece) = (place, 0, PieceCursor::default());
                }
                ReaderMessage::Blocks(BlockRun { bytes, block, byte, each }) => {
                    (self.block, self.byte, self.each) = (block, byte, each);
                    self.piece = PieceCursor::at_start(Piece::Slot(bytes));
                }
                ReaderMessage::End => self.state = StreamState::Ended,
                ReaderMessage::Finished => self.state = StreamState::Finished,
                ReaderMessage::Failed(e, hole) => {
                    self.hole = hole;
                    if hole.is_none() {
                        self.state = StreamState::Finished;
                    }
                    return Err(e.into());
                }
            }
        }
        Ok(self.piece.rest())
    }

    fn consume(&mut self, n: usize) {
        self.piece.take(n);
    }
}

impl Read for StreamInput {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        copy_piece(self, into)
    }
}

impl MediaSource for StreamInput {
    fn skip(&mut self, n: u64) -> io::Result<u64> {
        skip_by_reading(self, n)
    }

    /// What is left of the piece at hand, without a copy.
    fn take_window(&mut self, most: u64) -> io::Result<Window> {
        self.fill_buf()?;
        Ok(self.piece.take_window(most))
    }

    fn position(&self) -> MediumPosition {
        let volume = if self.volumes > 1 || self.volume > 1 { self.volume } else { 0 };
        let taken = self.byte + self.piece.taken();
        match self.is_tape {
            true => {
                let block = Some(self.block + (taken / self.each) as u64);
                MediumPosition { volume, block, byte: taken % self.each, begin: self.place }
            }
            false => MediumPosition { volume, ..MediumPosition::default() },
        }
    }

    fn pass_hole(&mut self) -> Option<u64> {
        self.hole.take()
    }

    fn end_at_file_boundary(&mut self) {
        self.ends_here = true;
    }
}

impl InputOptions {
    /// The ring that a stream is read into.
    fn ring(&self) -> io::Result<(Filler, FillerStopper)> {
        let size = self.read_size.unwrap_or(SLOT).clamp(1, SLOT.max(self.buffer / SLOTS_MIN));
        let slots = (if self.buffer > 0 { self.buffer } else { RING } / size).max(SLOTS_MIN);
        let count = |n: u64| usize::try_from(n).map_err(|_| io::ErrorKind::OutOfMemory);
        let (mut filler, stopper) = fan_out(count(size)?, count(slots)?)?;
        if self.buffer > 0 {
            filler.set_mark(count(slots * 100_u64.saturating_sub(self.lwm) / 100)?);
        }
        Ok((filler, stopper))
    }
}

/// The reading thread.
struct Reading {
    paths: Vec<PathBuf>,
    options: InputOptions,
    to: Sender<ReaderMessage>,
    filler: Filler,
    go_on: Receiver<()>,
    /// The file or volume that is being read, counted from 1.
    volume: usize,
    /// What the labels say.
    series: Option<String>,
    /// Where to begin, until that is done.
    start: Option<StartAt>,
    /// Number of the next block of the volume.
    block: u64,
    /// Bytes of the last block that was whole.
    last: usize,
    /// Memory that blocks of a tape are read into.
    blocks: Vec<u8>,
}

/// Nobody listens any more, or a file or volume has ended.
enum Ending {
    Nobody,
    Volume,
    Failed(Error),
}

impl Reading {
    fn run(mut self, first: BlockReader) {
        let mut reader = first;
        loop {
            let ending = self.begin(&mut reader).and_then(|()| self.read_one(&mut reader));
            // Before anybody hears of the end: the program may end then, and this thread with it.
            reader.restore();
            let last = match ending {
                Err(Ending::Nobody) => return,
                Ok(()) | Err(Ending::Volume) => ReaderMessage::End,
                Err(Ending::Failed(e)) => ReaderMessage::Failed(e, None),
            };
            let goes_on = matches!(last, ReaderMessage::End);
            if self.to.send(last).is_err() || !goes_on || self.go_on.recv().is_err() {
                return;
            }
            match self.next(reader) {
                Ok(Some(next)) => reader = next,
                Ok(None) => {
                    let _ = self.to.send(ReaderMessage::Finished);
                    return;
                }
                Err(e) => {
                    let _ = self.to.send(ReaderMessage::Failed(e, None));
                    return;
                }
            }
        }
    }

    fn send(&self, message: ReaderMessage) -> Result<(), Ending> {
        self.to.send(message).map_err(|_| Ending::Nobody)
    }

    /// Hands over what is left of a file or volume.
    fn read_one(&mut self, reader: &mut BlockReader) -> Result<(), Ending> {
        loop {
            match reader.is_tape() {
                true => match reader.read(std::mem::take(&mut self.blocks)) {
                    Ok(Some((bytes, each))) => self.hand_over(bytes, each, 0)?,
                    Ok(None) => return Ok(()),
                    Err(e) => self.pass(reader, e)?,
                },
                false => {
                    let mut slot = self.filler.slot().map_err(|_| Ending::Nobody)?;
                    let n = reader.read_into(&mut slot).map_err(Ending::Failed)?;
                    if n == 0 {
                        return Ok(());
                    }
                    self.send(ReaderMessage::Blocks(BlockRun { bytes: slot.publish(n), block: 0, byte: 0, each: n }))?;
                }
            }
        }
    }

    /// Hands over blocks but for their first bytes.
    fn hand_over(&mut self, bytes: Vec<u8>, each: usize, but: usize) -> Result<(), Ending> {
        let (mut at, first) = (but, self.block);
        while at < bytes.len() {
            let mut slot = self.filler.slot().map_err(|_| Ending::Nobody)?;
            let n = slot.len().min(bytes.len() - at);
            slot[..n].copy_from_slice(&bytes[at..at + n]);
            let run = BlockRun { bytes: slot.publish(n), block: first + (at / each) as u64, byte: at % each, each };
            self.send(ReaderMessage::Blocks(run))?;
            at += n;
        }
        self.block += bytes.len().div_ceil(each) as u64;
        (self.last, self.blocks) = (each, bytes);
        Ok(())
    }

    /// Goes on behind a block that could not be read, if that is wanted and can be.
    fn pass(&mut self, reader: &mut BlockReader, failed: Error) -> Result<(), Ending> {
        if !self.options.passes_holes || self.last == 0 || failed.is_signal() {
            return Err(Ending::Failed(failed));
        }
        match reader.pass_block() {
            Ok(()) => {
                self.block += 1;
                self.send(ReaderMessage::Failed(failed, Some(self.last as u64)))
            }
            Err(e) => Err(Ending::Failed(failed.after(format_args!("and what is behind it cannot be reached: {e}")))),
        }
    }

    /// Opens the next file or volume, if there is one.
    fn next(&mut self, reader: BlockReader) -> Result<Option<BlockReader>> {
        self.volume += 1;
        let (was_tape, read_size) = (reader.is_tape(), self.options.read_size);
        // The drive must be closed to be given another tape.
        drop(reader);
        match self.paths.get(self.volume - 1) {
            Some(path) => BlockReader::open(path, read_size).map(Some),
            None if was_tape && self.options.changer.is_there() => {
                let path = &self.paths[self.paths.len() - 1];
                self.options.changer.change(path, self.volume, "read")?;
                let mut reader = BlockReader::open(path, read_size)?;
                reader.rewind()?;
                Ok(Some(reader))
            }
            None => Ok(None),
        }
    }

    /// Begins a file or volume: at its beginning, behind its label, or where an earlier run ended.
    fn begin(&mut self, reader: &mut BlockReader) -> Result<(), Ending> {
        let start = self.start.take();
        self.block = start.map_or(0, |start| start.block);
        if let Some(StartAt { first, block, .. }) = start {
            reader.go(&first, block).map_err(Ending::Failed)?;
            log::info(format_args!("{}: going on at block {block} of the archive", reader.name));
        }
        self.send(ReaderMessage::Begun(start.map(|start| start.first).or(reader.place())))?;
        if !reader.is_tape() && start.is_none() {
            return self.begin_file(reader);
        }
        let read = reader.read(std::mem::take(&mut self.blocks)).map_err(Ending::Failed)?;
        let Some((bytes, each)) = read else { return Err(Ending::Volume) };
        let but = match start {
            Some(start) => start.byte.min(bytes.len()),
            None => self.label(reader, &bytes, Some(each)).map_err(Ending::Failed)?,
        };
        self.hand_over(bytes, each, but)
    }

    /// Hands over the beginning of what is no tape.
    fn begin_file(&mut self, reader: &mut BlockReader) -> Result<(), Ending> {
        let mut slot = self.filler.slot().map_err(|_| Ending::Nobody)?;
        let n = reader.read_into(&mut slot).map_err(Ending::Failed)?;
        let but = self.label(reader, &slot[..n], None).map_err(Ending::Failed)?;
        slot.copy_within(but..n, 0);
        match n - but {
            0 => Ok(()),
            n => self.send(ReaderMessage::Blocks(BlockRun { bytes: slot.publish(n), block: 0, byte: 0, each: n })),
        }
    }

    /// Bytes of the label that the medium begins with, if there is one.
    fn label(&mut self, reader: &BlockReader, bytes: &[u8], each: Option<usize>) -> Result<usize> {
        let is_one = |label: &Label| each.is_none_or(|each| label.size == each as u64);
        let Some(label) = Label::read(bytes).filter(is_one) else { return Ok(0) };
        label.check(self.volume, &mut self.series).doing(|| format!("reading {}", reader.name))?;
        Ok(bytes.len().min(label.size as usize))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;
    use crate::media::tape::fake::{FakeDrive, Item};

    /// A stream over a tape of blocks, each of `size` bytes that are its number.
    fn tape(blocks: u8, size: usize, bad: Vec<usize>, options: InputOptions) -> StreamInput {
        let drive = FakeDrive::default();
        drive.tape().items = (0..blocks).map(|n| Item::Block(vec![n; size])).chain([Item::Mark]).collect();
        (drive.tape().bad, drive.tape().passes_bad) = (bad, true);
        StreamInput::of_drive(drive, options)
    }

    #[test]
    fn blocks_larger_than_a_slot_are_told_by_their_numbers() {
        let options = InputOptions { read_size: Some(100), ..InputOptions::default() };
        let mut stream = tape(20, 1000, Vec::new(), options);
        let mut byte = [0];
        for n in 0..20_000_u64 {
            stream.read_exact(&mut byte).unwrap();
            let MediumPosition { block, byte: within, .. } = stream.position();
            assert_eq!(u64::from(byte[0]), n / 1000);
            let at = block.unwrap() * 1000 + within as u64;
            assert!(at == n + 1 || within == 0, "{n}: {at}");
        }
        assert_eq!(stream.read(&mut byte).unwrap(), 0);
    }

    #[test]
    fn reading_goes_on_behind_what_cannot_be_read() {
        let options = InputOptions { passes_holes: true, ..InputOptions::default() };
        let mut stream = tape(9, 512, vec![3, 6, 7], options);
        let (mut numbers, mut lost) = (Vec::new(), 0);
        loop {
            match stream.fill_buf().map(<[u8]>::to_vec) {
                Ok(bytes) if bytes.is_empty() => break,
                Ok(bytes) => {
                    numbers.extend(bytes.chunks(512).map(|block| block[0]));
                    stream.consume(bytes.len());
                }
                Err(_) => lost += stream.pass_hole().unwrap(),
            }
        }
        assert_eq!((numbers, lost), (vec![0, 1, 2, 4, 5, 8], 3 * 512));
        // Without being told to, it does not.
        let mut stream = tape(9, 512, vec![3], InputOptions::default());
        let mut all = Vec::new();
        assert!(stream.read_to_end(&mut all).is_err());
        assert_eq!((all.len(), stream.pass_hole()), (3 * 512, None));
    }

    #[test]
    fn reading_begins_further_on() {
        let first = Place { file: Some(0), block: Some(0), position: None };
        let start = StartAt { volume: 1, first, block: 5, byte: 100 };
        let mut stream = tape(9, 512, Vec::new(), InputOptions { start: Some(start), ..InputOptions::default() });
        let mut all = Vec::new();
        assert_eq!(stream.fill_buf().unwrap()[0], 5);
        assert_eq!((stream.position().block, stream.position().byte), (Some(5), 100));
        stream.read_to_end(&mut all).unwrap();
        assert_eq!(all.len(), 4 * 512 - 100);
    }
}
