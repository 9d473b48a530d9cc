//! A compressed archive as the TAR stream in it: frame after frame (RFC 8878) or member after member
//! (RFC 1952).

use std::io::{self, BufRead, ErrorKind, Read};

use crate::archive::read::tar::{Source, Spot};
use crate::{
    archive::write::compress::Format,
    media::input::{copy_piece, skip_by_reading},
    signal,
};

/// What is decompressed at once.
const PIECE: usize = 128 << 10;

/// Reads the TAR stream in a compressed one.
pub struct Unpacked<'a, S: Source> {
    format: Format,
    from: Frame<S>,
    piece: Vec<u8>,
    taken: usize,
    filled: usize,
    /// Bytes of the TAR stream decompressed so far.
    at: u64,
    /// Hears where a frame ends: on the medium, and in the TAR stream.
    ended: Box<dyn FnMut(u64, u64) + 'a>,
    spot: Spot,
}

enum Frame<S: Source> {
    Between(Counted<S>),
    Zstd(zstd::stream::read::Decoder<'static, Counted<S>>),
    Gzip(Box<flate2::bufread::GzDecoder<Counted<S>>>),
    /// It failed, or is being exchanged.
    Gone,
}

/// Counts what is taken of the compressed stream.
struct Counted<S> {
    from: S,
    at: u64,
}

impl<S: Source> Read for Counted<S> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(into)?;
        self.at += n as u64;
        Ok(n)
    }
}

impl<S: Source> BufRead for Counted<S> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.from.fill_buf()
    }

    fn consume(&mut self, n: usize) {
        self.from.consume(n);
        self.at += n as u64;
    }
}

impl<'a, S: Source> Unpacked<'a, S> {
    /// `ended` hears where each frame ends, counted from here: on the medium, and in the TAR stream.
    pub fn new(from: S, format: Format, ended: impl FnMut(u64, u64) + 'a) -> Unpacked<'a, S> {
        Unpacked {
            format,
            from: Frame::Between(Counted { from, at: 0 }),
            piece: vec![0; PIECE],
            taken: 0,
            filled: 0,
            at: 0,
            ended: Box::new(ended),
            spot: Spot::default(),
        }
    }

    /// Decompresses the next bytes; none at the end of the stream.
    fn next_piece(&mut self) -> io::Result<()> {
        (self.taken, self.filled) = (0, 0);
        loop {
            let n = match &mut self.from {
                Frame::Between(counted) => {
                    // Between frames zeros may stand that pad a block.
                    loop {
                        let bytes = counted.fill_buf()?;
                        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
                        let (all, len) = (zeros == bytes.len(), bytes.len());
                        counted.consume(zeros);
                        if len == 0 {
                            return Ok(());
                        }
                        if !all {
                            break;
                        }
                    }
                    self.spot = counted.from.here();
                    let Frame::Between(counted) = std::mem::replace(&mut self.from, Frame::Gone) else { continue };
                    self.from = match self.format {
                        Format::Zstd => Frame::Zstd(zstd::stream::read::Decoder::with_buffer(counted)?.single_frame()),
                        Format::Gzip => Frame::Gzip(Box::new(flate2::bufread::GzDecoder::new(counted))),
                    };
                    continue;
                }
                Frame::Zstd(decoder) => {
                    self.spot = decoder.get_ref().from.here();
                    decoder.read(&mut self.piece)
                }
                Frame::Gzip(decoder) => {
                    self.spot = decoder.get_ref().from.here();
                    decoder.read(&mut self.piece)
                }
                Frame::Gone => return Err(ErrorKind::InvalidData.into()),
            };
            match n {
                Err(e) if e.kind() == ErrorKind::Interrupted => signal::check().map_err(io::Error::other)?,
                Err(e) => return Err(e),
                Ok(0) => {
                    let counted = match std::mem::replace(&mut self.from, Frame::Gone) {
                        Frame::Zstd(decoder) => decoder.finish(),
                        Frame::Gzip(decoder) => decoder.into_inner(),
                        _ => continue,
                    };
                    (self.ended)(counted.at, self.at);
                    self.from = Frame::Between(counted);
                }
                Ok(n) => {
                    self.filled = n;
                    self.at += n as u64;
                    return Ok(());
                }
            }
        }
    }
}

impl<S: Source> BufRead for Unpacked<'_, S> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.taken == self.filled {
            self.next_piece()?;
        }
        Ok(&self.piece[self.taken..self.filled])
    }

    fn consume(&mut self, n: usize) {
        self.taken += n;
    }
}

impl<S: Source> Read for Unpacked<'_, S> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        copy_piece(self, into)
    }
}

impl<S: Source> Source for Unpacked<'_, S> {
    fn skip(&mut self, n: u64) -> io::Result<u64> {
        skip_by_reading(self, n)
    }

    fn here(&self) -> Spot {
        self.spot
    }

    fn stay(&mut self) {
        match &mut self.from {
            Frame::Between(counted) => counted.from.stay(),
            Frame::Zstd(decoder) => decoder.get_mut().from.stay(),
            Frame::Gzip(decoder) => decoder.get_mut().from.stay(),
            Frame::Gone => {}
        }
    }
}
