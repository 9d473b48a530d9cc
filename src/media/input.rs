//! What an archive is read from: files, tapes and pipes, one behind the other.
//!
//! Regular files can be read at any place ([`Files`]). All else is a [`Stream`]: a thread reads the
//! medium in pieces as the medium gives them, so a tape's blocks keep their size, and hands them
//! over; some are always ready, so the drive goes on while a digest is computed. (It is no ring:
//! blocks have whatever size the tape has, and what was read is passed on without being copied.)
//!
//! A stream that ends in the middle of an archive goes on with the next file, or with the next
//! volume in the same drive.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender},
    },
    thread,
    time::Duration,
};

use crate::{
    archive::{
        read::tar::{Source, Spot},
        write::compress::Format,
    },
    error::{Context, Error, Result},
    media::{
        block_reader::Medium,
        tape::changer::{Changer, Label},
    },
    signal,
};

/// Pieces that are ready or being filled.
const PIECES: usize = 16;
const LOOK: Duration = Duration::from_millis(50);

/// How to read.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Size of reads, in bytes; on a tape at least that of its blocks.
    pub block: Option<u64>,
    pub changer: Changer,
}

/// An input that is open.
pub enum Input {
    Files(Arc<Files>),
    Stream(Stream),
}

/// Opens what is named; `-` is standard input. Uncompressed regular files can be read at any place.
pub fn open(paths: &[PathBuf], options: Options) -> Result<Input> {
    let mut plain = true;
    for path in paths.iter().filter(|path| *path != Path::new("-")) {
        let opening = || format!("opening {path:?}");
        let meta = std::fs::metadata(path).doing(opening)?;
        if meta.is_dir() {
            return Err(Error::new("it is a directory").doing(opening()));
        }
        if meta.is_file() {
            let mut magic = [0; 4];
            let file = File::open(path).doing(opening)?;
            let read = file.read_at(&mut magic, label_of(&file).map_or(0, |label| label.size));
            plain &= read.map(|n| Format::of(&magic[..n]).is_none()).doing(opening)?;
        } else {
            plain = false;
        }
    }
    match plain && !paths.iter().any(|path| path == Path::new("-")) {
        true => Ok(Input::Files(Arc::new(Files::open(paths)?))),
        false => Ok(Input::Stream(Stream::start(paths.to_vec(), options)?)),
    }
}

/// Regular files as one, to be read at any place by any thread.
pub struct Files {
    /// With the offset at which each begins.
    parts: Vec<(Part, u64)>,
    total: u64,
}

struct Part {
    file: File,
    /// Bytes of its label, which are no part of the stream.
    label: u64,
}

/// The label that a file begins with, as the image of a volume does.
fn label_of(file: &File) -> Option<Label> {
    let mut block = [0; 512];
    let n = file.read_at(&mut block, 0).ok()?;
    Label::read(&block[..n])
}

/// Whether a label is that of volume `volume`, and of the same series as those before.
fn belongs(label: &Label, volume: usize, series: &mut Option<String>) -> Result<()> {
    let series = series.get_or_insert_with(|| label.text.clone());
    if label.volume == volume && label.text == *series {
        return Ok(());
    }
    let why =
        format!("volume {volume} of {series:?} is wanted, and this is volume {} of {:?}", label.volume, label.text);
    Err(Error::new(why))
}

impl Files {
    fn open(paths: &[PathBuf]) -> Result<Files> {
        let (mut parts, mut total, mut series) = (Vec::new(), 0, None);
        for path in paths {
            let opening = || format!("opening {path:?}");
            let file = File::open(path).doing(opening)?;
            let len = file.metadata().doing(opening)?.len();
            let label = label_of(&file);
            if let Some(label) = &label {
                belongs(label, parts.len() + 1, &mut series).doing(opening)?;
            }
            let label = label.map_or(0, |label| label.size).min(len);
            parts.push((Part { file, label }, total));
            total += len - label;
        }
        Ok(Files { parts, total })
    }

    /// Bytes of all files.
    pub fn total(&self) -> u64 {
        self.total
    }

    fn part(&self, offset: u64) -> usize {
        self.parts.partition_point(|(_, start)| *start <= offset).saturating_sub(1)
    }

    /// Where the file ends in which the byte before `offset` lies.
    pub fn part_end(&self, offset: u64) -> u64 {
        let part = self.part(offset.saturating_sub(1));
        self.parts.get(part + 1).map_or(self.total, |(_, start)| *start)
    }

    /// Reads some bytes; none at the end.
    pub fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut part = self.part(offset);
        loop {
            let Some((Part { file, label }, start)) = self.parts.get(part) else { return Ok(0) };
            match file.read_at(into, label + offset - start.min(&offset)) {
                // An empty file, or the end of one.
                Ok(0) if !into.is_empty() && self.parts.get(part + 1).is_some_and(|(_, next)| *next <= offset) => {
                    part += 1;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => signal::check().map_err(io::Error::other)?,
                other => return other,
            }
        }
    }
}

/// Reads [`Files`] from an offset on.
pub struct Cursor {
    from: BufReader<At>,
    at: u64,
    /// Where it ends.
    end: u64,
}

struct At {
    files: Arc<Files>,
    at: u64,
}

impl Cursor {
    pub fn new(files: Arc<Files>, at: u64) -> Cursor {
        let end = files.total;
        Cursor { from: BufReader::with_capacity(16 << 10, At { files, at }), at, end }
    }
}

impl Read for At {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.files.read_at(into, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

impl Seek for At {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.files.total.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

impl Read for Cursor {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        copy_piece(self, into)
    }
}

impl BufRead for Cursor {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let piece = self.from.fill_buf()?;
        Ok(&piece[..piece.len().min(left)])
    }

    fn consume(&mut self, n: usize) {
        self.from.consume(n);
        self.at += n as u64;
    }
}

impl Source for Cursor {
    fn skip(&mut self, n: u64) -> io::Result<u64> {
        let n = n.min(self.end - self.at);
        self.from.seek_relative(i64::try_from(n).map_err(|_| ErrorKind::InvalidInput)?)?;
        self.at += n;
        Ok(n)
    }

    fn here(&self) -> Spot {
        let files = &self.from.get_ref().files;
        let volume = if files.parts.len() > 1 { files.part(self.at) + 1 } else { 0 };
        Spot { volume, block: None }
    }

    fn stay(&mut self) {
        self.end = self.from.get_ref().files.part_end(self.at);
    }
}

/// What [`Read::read`] is where [`BufRead::fill_buf`] is.
pub fn copy_piece(from: &mut impl BufRead, into: &mut [u8]) -> io::Result<usize> {
    let piece = from.fill_buf()?;
    let n = piece.len().min(into.len());
    into[..n].copy_from_slice(&piece[..n]);
    from.consume(n);
    Ok(n)
}

impl<S: Source + ?Sized> Source for &mut S {
    fn skip(&mut self, n: u64) -> io::Result<u64> {
        (**self).skip(n)
    }

    fn here(&self) -> Spot {
        (**self).here()
    }

    fn stay(&mut self) {
        (**self).stay();
    }
}

/// What the reading thread hands over.
enum Piece {
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

/// A medium that can only be read from front to back.
pub struct Stream {
    pieces: Receiver<Piece>,
    /// Buffers that were used.
    used: Sender<Vec<u8>>,
    /// Has the thread go on with the next file or volume.
    more: Sender<()>,
    piece: Vec<u8>,
    /// Bytes of each block in the piece.
    each: usize,
    /// Bytes of the piece that were taken.
    taken: usize,
    /// Number of the piece's first block.
    block: u64,
    volume: usize,
    volumes: usize,
    state: State,
    /// Whether the stream goes on with the next file or volume.
    stay: bool,
    tape: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Reading,
    /// At the end of a file or volume.
    Ended,
    Finished,
}

impl Stream {
    fn start(paths: Vec<PathBuf>, options: Options) -> Result<Stream> {
        let (to, pieces) = mpsc::sync_channel(PIECES);
        let (used, buffers) = mpsc::channel();
        let (more, go_on) = mpsc::channel();
        let volumes = paths.len();
        let first = Medium::open(&paths[0], options.block)?;
        let tape = first.tape;
        // It is not joined: a read that blocks ends with the process.
        let reading = move || read_all(first, &paths, &options, &to, &buffers, &go_on);
        thread::Builder::new().name("reader".into()).spawn(reading).doing(|| "starting a thread")?;
        Ok(Stream {
            pieces,
            used,
            more,
            piece: Vec::new(),
            each: 1,
            taken: 0,
            block: 0,
            volume: 1,
            volumes,
            state: State::Reading,
            stay: false,
            tape,
        })
    }

    /// Goes on with the next file. `false` if there is none.
    pub fn next_file(&mut self) -> io::Result<bool> {
        self.stay = false;
        if self.volume >= self.volumes {
            return Ok(false);
        }
        Ok(!self.fill_buf()?.is_empty())
    }

    /// Waits for the next piece.
    fn next_piece(&mut self) -> io::Result<Piece> {
        loop {
            match self.pieces.recv_timeout(LOOK) {
                Ok(piece) => return Ok(piece),
                Err(RecvTimeoutError::Timeout) => signal::check().map_err(io::Error::other)?,
                Err(RecvTimeoutError::Disconnected) => return Ok(Piece::Finished),
            }
        }
    }
}

impl BufRead for Stream {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.taken == self.piece.len() && self.state != State::Finished {
            if self.state == State::Ended {
                if self.stay {
                    break;
                }
                let _ = self.more.send(());
                self.state = State::Reading;
                self.volume += 1;
                self.block = 0;
                (self.piece, self.taken) = (Vec::new(), 0);
            }
            match self.next_piece()? {
                Piece::Blocks(piece, each) => {
                    self.block += self.piece.len().div_ceil(self.each) as u64;
                    let before = std::mem::replace(&mut self.piece, piece);
                    let _ = self.used.send(before);
                    (self.taken, self.each) = (0, each);
                }
                Piece::Label => self.block += 1,
                Piece::End => self.state = State::Ended,
                Piece::Finished => self.state = State::Finished,
                Piece::Failed(e) => {
                    self.state = State::Finished;
                    return Err(io::Error::other(e));
                }
            }
        }
        Ok(&self.piece[self.taken..])
    }

    fn consume(&mut self, n: usize) {
        self.taken += n;
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        copy_piece(self, into)
    }
}

impl Source for Stream {
    fn skip(&mut self, n: u64) -> io::Result<u64> {
        skip_by_reading(self, n)
    }

    fn here(&self) -> Spot {
        let volume = if self.volumes > 1 || self.volume > 1 { self.volume } else { 0 };
        let block = self.tape.then(|| self.block + (self.taken / self.each) as u64);
        Spot { volume, block }
    }

    fn stay(&mut self) {
        self.stay = true;
    }
}

/// Leaves out bytes of a stream that has to be read for it.
pub fn skip_by_reading(from: &mut dyn Source, n: u64) -> io::Result<u64> {
    let mut left = n;
    while left > 0 {
        let got = crate::archive::read::tar::fill(from)?.min(left.try_into().unwrap_or(usize::MAX));
        if got == 0 {
            break;
        }
        from.consume(got);
        left -= got as u64;
    }
    Ok(n - left)
}

/// The reading thread.
fn read_all(
    first: Medium,
    paths: &[PathBuf],
    options: &Options,
    to: &SyncSender<Piece>,
    buffers: &Receiver<Vec<u8>>,
    go_on: &Receiver<()>,
) {
    let (mut medium, mut volume, mut series) = (first, 1, None);
    loop {
        if let Err(e) = begin(&mut medium, volume, &mut series, to) {
            let _ = to.send(Piece::Failed(e));
            return;
        }
        loop {
            let piece = match medium.read(buffers.try_recv().unwrap_or_default()) {
                Ok(Some((bytes, each))) => Piece::Blocks(bytes, each),
                Ok(None) => Piece::End,
                Err(e) => Piece::Failed(e),
            };
            let is_last = !matches!(piece, Piece::Blocks(..));
            if is_last {
                // Before anybody hears of the end: the program may end then, and this thread with it.
                medium.restore();
            }
            if to.send(piece).is_err() {
                return;
            }
            if is_last {
                break;
            }
        }
        if go_on.recv().is_err() {
            return;
        }
        volume += 1;
        let tape = medium.tape;
        // The drive must be closed to be given another tape.
        drop(medium);
        let next = match paths.get(volume - 1) {
            Some(path) => Medium::open(path, options.block),
            None if tape && options.changer.is_there() => {
                let path = &paths[paths.len() - 1];
                options.changer.change(path, volume, "read").and_then(|()| Medium::open(path, options.block))
            }
            None => {
                let _ = to.send(Piece::Finished);
                return;
            }
        };
        match next {
            Ok(next) => medium = next,
            Err(e) => {
                let _ = to.send(Piece::Failed(e));
                return;
            }
        }
    }
}

/// Takes away the label that the medium begins with, if there is one, and tells of it.
fn begin(medium: &mut Medium, volume: usize, series: &mut Option<String>, to: &SyncSender<Piece>) -> Result<()> {
    let Some((mut bytes, each)) = medium.read(Vec::new())? else { return Ok(()) };
    let label = Label::read(&bytes).filter(|label| !medium.tape || label.size == each as u64);
    if let Some(label) = label {
        belongs(&label, volume, series).doing(|| format!("reading {}", medium.name))?;
        bytes.drain(..bytes.len().min(label.size as usize));
        let _ = to.send(Piece::Label);
    }
    if !bytes.is_empty() {
        let _ = to.send(Piece::Blocks(bytes, each));
    }
    Ok(())
}
