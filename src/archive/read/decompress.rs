//! A compressed archive as the TAR stream in it: frame after frame (RFC 8878) or member after member
//! (RFC 1952).

use std::io::{self, BufRead, ErrorKind as IoErrorKind, Read};

use ace_dt_ring::{Filler, FillerStopper, fan_out};

use crate::{
    compression::Format,
    error::Error,
    media::source::{MediaSource, MediumPosition, Piece, PieceCursor, Window, copy_piece, skip_by_reading},
    signal,
};

/// What zstd says of a frame whose window (RFC 8878, section 3.1.1.1.2) is larger than it takes.
const WINDOW: &str = "requires too much memory";
/// Bytes of a slot that is decompressed into.
const SLOT: usize = 128 << 10;
/// With fewer slots nothing would be decompressed while something is held.
const SLOTS_MIN: usize = 16;

/// Reads the TAR stream in a compressed one.
pub struct Decompressed<'a, S: MediaSource> {
    format: Format,
    from: FrameState<S>,
    piece: PieceCursor,
    /// What is decompressed into.
    filler: Filler,
    ring: FillerStopper,
    /// What failed behind the piece.
    failed: Option<io::Error>,
    /// Bytes of the TAR stream decompressed so far.
    at: u64,
    /// Hears where a frame ends: on the medium, and in the TAR stream.
    ended: Box<dyn FnMut(u64, u64) + 'a>,
    position: MediumPosition,
}

enum FrameState<S: MediaSource> {
    Between(CountingSource<S>),
    Zstd(zstd::stream::read::Decoder<'static, CountingSource<S>>),
    Gzip(Box<flate2::bufread::GzDecoder<CountingSource<S>>>),
    /// It failed, or is being exchanged.
    Gone,
}

/// Counts what is taken of the compressed stream.
struct CountingSource<S> {
    from: S,
    at: u64,
}

impl<S: MediaSource> Read for CountingSource<S> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(into)?;
        self.at += n as u64;
        Ok(n)
    }
}

impl<S: MediaSource> BufRead for CountingSource<S> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.from.fill_buf()
    }

    fn consume(&mut self, n: usize) {
        self.from.consume(n);
        self.at += n as u64;
    }
}

impl<'a, S: MediaSource> Decompressed<'a, S> {
    /// `ended` hears where each frame ends, counted from here: on the medium, and in the TAR stream. What is
    /// decompressed and held has `buffer` bytes at the most, or some 2 MiB if that is less.
    ///
    /// # Errors
    /// If that memory cannot be had.
    pub fn new(
        from: S,
        format: Format,
        buffer: u64,
        ended: impl FnMut(u64, u64) + 'a,
    ) -> io::Result<Decompressed<'a, S>> {
        let slots = usize::try_from(buffer / SLOT as u64).unwrap_or(usize::MAX).max(SLOTS_MIN);
        let (filler, ring) = fan_out(SLOT, slots)?;
        Ok(Decompressed {
            format,
            from: FrameState::Between(CountingSource { from, at: 0 }),
            piece: PieceCursor::default(),
            filler,
            ring,
            failed: None,
            at: 0,
            ended: Box::new(ended),
            position: MediumPosition::default(),
        })
    }

    /// What it is decompressed into.
    pub fn ring(&self) -> FillerStopper {
        self.ring.clone()
    }

    /// Decompresses the next bytes; none at the end of the stream.
    fn next_piece(&mut self) -> io::Result<()> {
        self.failed.take().map_or(Ok(()), Err)?;
        self.piece = PieceCursor::default();
        let mut slot = self.filler.slot().map_err(|_| IoErrorKind::Interrupted)?;
        let mut filled = 0;
        while filled < slot.len() {
            match self.decompress(&mut slot[filled..]) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if filled == 0 => return Err(e),
                Err(e) => {
                    self.failed = Some(e);
                    break;
                }
            }
        }
        self.piece = PieceCursor::at_start(Piece::Slot(slot.publish(filled)));
        Ok(())
    }

    /// Decompresses some bytes; none at the end of the stream.
    fn decompress(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let n = match &mut self.from {
                FrameState::Between(counted) => {
                    // Between frames zeros may stand that pad a block.
                    loop {
                        let bytes = counted.fill_buf()?;
                        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
                        let (all, len) = (zeros == bytes.len(), bytes.len());
                        counted.consume(zeros);
                        if len == 0 {
                            return Ok(0);
                        }
                        if !all {
                            break;
                        }
                    }
                    self.position = counted.from.position();
                    let FrameState::Between(counted) = std::mem::replace(&mut self.from, FrameState::Gone) else {
                        continue;
                    };
                    self.from = match self.format {
                        Format::Zstd => {
                            FrameState::Zstd(zstd::stream::read::Decoder::with_buffer(counted)?.single_frame())
                        }
                        Format::Gzip => FrameState::Gzip(Box::new(flate2::bufread::GzDecoder::new(counted))),
                    };
                    continue;
                }
                FrameState::Zstd(decoder) => {
                    self.position = decoder.get_ref().from.position();
                    decoder.read(into)
                }
                FrameState::Gzip(decoder) => {
                    self.position = decoder.get_ref().from.position();
                    decoder.read(into)
                }
                FrameState::Gone => return Err(IoErrorKind::InvalidData.into()),
            };
            match n {
                Err(e) if e.kind() == IoErrorKind::Interrupted => signal::check()?,
                Err(e) if e.to_string().contains(WINDOW) => {
                    let why = "its zstd window is larger than 128 MiB";
                    let hint = "zstd -dc --long=31 FILE gives the archive";
                    return Err(Error::new(why).hint(hint).into());
                }
                Err(e) => return Err(e),
                Ok(0) => {
                    let counted = match std::mem::replace(&mut self.from, FrameState::Gone) {
                        FrameState::Zstd(decoder) => decoder.finish(),
                        FrameState::Gzip(decoder) => decoder.into_inner(),
                        _ => continue,
                    };
                    (self.ended)(counted.at, self.at);
                    self.from = FrameState::Between(counted);
                }
                Ok(n) => {
                    self.at += n as u64;
                    return Ok(n);
                }
            }
        }
    }
}

impl<S: MediaSource> BufRead for Decompressed<'_, S> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.piece.rest().is_empty() {
            self.next_piece()?;
        }
        Ok(self.piece.rest())
    }

    fn consume(&mut self, n: usize) {
        self.piece.take(n);
    }
}

impl<S: MediaSource> Read for Decompressed<'_, S> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        copy_piece(self, into)
    }
}

impl<S: MediaSource> MediaSource for Decompressed<'_, S> {
    fn skip(&mut self, n: u64) -> io::Result<u64> {
        skip_by_reading(self, n)
    }

    fn take_window(&mut self, most: u64) -> io::Result<Window> {
        self.fill_buf()?;
        Ok(self.piece.take_window(most))
    }

    fn position(&self) -> MediumPosition {
        self.position
    }

    fn end_at_file_boundary(&mut self) {
        match &mut self.from {
            FrameState::Between(counted) => counted.from.end_at_file_boundary(),
            FrameState::Zstd(decoder) => decoder.get_mut().from.end_at_file_boundary(),
            FrameState::Gzip(decoder) => decoder.get_mut().from.end_at_file_boundary(),
            FrameState::Gone => {}
        }
    }
}
