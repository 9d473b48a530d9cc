//! A medium that can only be read from front to back.
//!
//! A thread reads it in pieces as the medium gives them, so a tape's blocks keep their size, and hands
//! them over; some are always ready, so the drive goes on while a digest is computed. (It is no ring:
//! blocks have whatever size the tape has, and what was read is passed on without being copied.)

use std::{
    io::{self, BufRead, Read},
    path::PathBuf,
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender},
    thread,
    time::Duration,
};

use crate::{
    error::{Context, Error, Result},
    media::{
        block_reader::BlockReader,
        source::{MediaSource, MediumPosition, Piece, PieceCursor, Window, copy_piece, skip_by_reading},
        tape::{changer::Changer, label::Label},
    },
    signal,
};

/// Pieces that are ready or being filled.
const PIECES: usize = 16;
const LOOK: Duration = Duration::from_millis(50);
/// How often it is looked whether the reading thread has ended, at the end.
const ENDING_LOOKS: usize = 10;

/// How to read.
#[derive(Clone, Debug, Default)]
pub struct InputOptions {
    /// Size of reads, in bytes; on a tape at least that of its blocks.
    pub read_size: Option<u64>,
    /// Who puts in the next volume.
    pub changer: Changer,
}

/// What the reading thread hands over.
enum Delivery {
    /// Blocks of so many bytes each, but the last, which may be shorter.
    Blocks(Vec<u8>, usize),
    /// A block that is no part of the stream.
    Label,
    /// The end of a file, or a filemark.
    End,
    Failed(Error),
    /// There is nothing that the stream could go on with.
    Finished,
}

/// Files, pipes and tapes, one behind the other, as one stream.
pub struct StreamInput {
    deliveries: Receiver<Delivery>,
    /// Buffers that were used.
    used: Sender<Vec<u8>>,
    /// Has the thread go on with the next file or volume.
    more: Sender<()>,
    piece: PieceCursor,
    /// Bytes of each block in the piece.
    each: usize,
    /// Number of the piece's first block.
    block: u64,
    volume: usize,
    volumes: usize,
    state: StreamState,
    /// Whether the stream ends with this file or volume.
    ends_here: bool,
    is_tape: bool,
    /// The reading thread.
    thread: Option<thread::JoinHandle<()>>,
}

impl Drop for StreamInput {
    /// Lets the thread end that reads a tape, which sets the drive as it was; a read that blocks is not waited for.
    fn drop(&mut self) {
        let Some(thread) = self.thread.take().filter(|_| self.is_tape) else { return };
        (self.deliveries, self.more) = (mpsc::sync_channel(0).1, mpsc::channel().0);
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
        let (to, deliveries) = mpsc::sync_channel(PIECES);
        let (used, buffers) = mpsc::channel();
        let (more, go_on) = mpsc::channel();
        let volumes = paths.len();
        let first = BlockReader::open(&paths[0], options.read_size)?;
        let is_tape = first.is_tape();
        let reading = Reading { paths, options, to, buffers, go_on, volume: 1, series: None };
        let thread = thread::Builder::new().name("reader".into()).spawn(move || reading.run(first));
        let thread = Some(thread.doing(|| "starting a thread")?);
        Ok(StreamInput {
            deliveries,
            used,
            more,
            piece: PieceCursor::default(),
            each: 1,
            block: 0,
            volume: 1,
            volumes,
            state: StreamState::Reading,
            ends_here: false,
            is_tape,
            thread,
        })
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
    fn next_delivery(&mut self) -> io::Result<Delivery> {
        loop {
            match self.deliveries.recv_timeout(LOOK) {
                Ok(delivery) => return Ok(delivery),
                Err(RecvTimeoutError::Timeout) => signal::check()?,
                Err(RecvTimeoutError::Disconnected) => return Ok(Delivery::Finished),
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
            let delivery = self.next_delivery()?;
            // A file or volume that is not there has no number.
            if self.state == StreamState::Between && !matches!(delivery, Delivery::Finished) {
                self.state = StreamState::Reading;
                (self.volume, self.block, self.piece) = (self.volume + 1, 0, PieceCursor::default());
            }
            match delivery {
                Delivery::Blocks(bytes, each) => {
                    self.block += self.piece.len().div_ceil(self.each) as u64;
                    self.piece = PieceCursor::at_start(Piece::new(bytes, Some(self.used.clone())));
                    self.each = each;
                }
                Delivery::Label => self.block += 1,
                Delivery::End => self.state = StreamState::Ended,
                Delivery::Finished => self.state = StreamState::Finished,
                Delivery::Failed(e) => {
                    self.state = StreamState::Finished;
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
        let block = self.is_tape.then(|| self.block + (self.piece.taken() / self.each) as u64);
        MediumPosition { volume, block }
    }

    fn end_at_file_boundary(&mut self) {
        self.ends_here = true;
    }
}

/// The reading thread.
struct Reading {
    paths: Vec<PathBuf>,
    options: InputOptions,
    to: SyncSender<Delivery>,
    buffers: Receiver<Vec<u8>>,
    go_on: Receiver<()>,
    /// The file or volume that is being read, counted from 1.
    volume: usize,
    /// What the labels say.
    series: Option<String>,
}

impl Reading {
    fn run(mut self, first: BlockReader) {
        let mut reader = first;
        loop {
            if let Err(e) = self.begin(&mut reader) {
                reader.restore();
                let _ = self.to.send(Delivery::Failed(e));
                return;
            }
            if !self.read_one(&mut reader) || self.go_on.recv().is_err() {
                return;
            }
            match self.next(reader) {
                Ok(Some(next)) => reader = next,
                Ok(None) => {
                    let _ = self.to.send(Delivery::Finished);
                    return;
                }
                Err(e) => {
                    let _ = self.to.send(Delivery::Failed(e));
                    return;
                }
            }
        }
    }

    /// Hands over a file or volume. `false` if nobody listens.
    fn read_one(&self, reader: &mut BlockReader) -> bool {
        loop {
            let delivery = match reader.read(self.buffers.try_recv().unwrap_or_default()) {
                Ok(Some((bytes, each))) => Delivery::Blocks(bytes, each),
                Ok(None) => Delivery::End,
                Err(e) => Delivery::Failed(e),
            };
            let is_last = !matches!(delivery, Delivery::Blocks(..));
            if is_last {
                // Before anybody hears of the end: the program may end then, and this thread with it.
                reader.restore();
            }
            if self.to.send(delivery).is_err() {
                return false;
            }
            if is_last {
                return true;
            }
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

    /// Takes away the label that the medium begins with, if there is one, and tells of it.
    fn begin(&mut self, reader: &mut BlockReader) -> Result<()> {
        let Some((mut bytes, each)) = reader.read(Vec::new())? else { return Ok(()) };
        let label = Label::read(&bytes).filter(|label| !reader.is_tape() || label.size == each as u64);
        if let Some(label) = label {
            label.check(self.volume, &mut self.series).doing(|| format!("reading {}", reader.name))?;
            bytes.drain(..bytes.len().min(label.size as usize));
            let _ = self.to.send(Delivery::Label);
        }
        if !bytes.is_empty() {
            let _ = self.to.send(Delivery::Blocks(bytes, each));
        }
        Ok(())
    }
}
