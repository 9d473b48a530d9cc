//! One frame: zstd's (RFC 8878) or a gzip member (RFC 1952), made, read, and padded.

use std::io::{self, BufRead, Read, Write};

use flate2::{Compression, write::GzEncoder};
use zstd::{bulk::Compressor, zstd_safe::CParameter};

use crate::compression::{Codec, CompressionLevel, Format};

/// What shrinks by less than one part in so many is not worth more work.
const WORTH: usize = 64;
/// The first bytes of a skippable frame, which every zstd decoder leaves out (RFC 8878, 3.1.2).
const SKIPPABLE: [u8; 4] = 0x184D_2A50_u32.to_le_bytes();
/// An empty gzip member has so many bytes, and at most so many more in its extra field.
const EMPTY_MEMBER: usize = 22;
const EXTRA_MAX: usize = 65_535;

/// What one thread compresses with.
pub struct FrameEncoder {
    codec: Codec,
    /// Finds out at little cost what does not shrink.
    quick: Compressor<'static>,
    /// For what does, if that is another level of zstd.
    strong: Option<Compressor<'static>>,
    scratch: Vec<u8>,
}

impl FrameEncoder {
    /// For frames of this format and level.
    ///
    /// # Errors
    /// If the library has no memory.
    pub fn new(codec: Codec) -> io::Result<FrameEncoder> {
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
            (Format::Zstd, CompressionLevel::Min) => (-3, None),
            (Format::Zstd, CompressionLevel::Normal) | (Format::Gzip, _) => (1, None),
            (Format::Zstd, CompressionLevel::Max) => (1, Some(11)),
        };
        Ok(FrameEncoder {
            codec,
            quick: compressor(quick)?,
            strong: strong.map(compressor).transpose()?,
            scratch: Vec::new(),
        })
    }

    /// Makes `frame` one that holds `bytes`, whatever it held.
    ///
    /// # Errors
    /// If the library fails.
    pub fn encode(&mut self, bytes: &[u8], frame: &mut Vec<u8>) -> io::Result<()> {
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
                    CompressionLevel::Min => 1,
                    CompressionLevel::Normal => 4,
                    CompressionLevel::Max => 9,
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

/// Reads frame after frame as one stream.
///
/// # Errors
/// If the library has no memory.
pub fn frames_reader<'a>(from: impl BufRead + 'a, format: Format) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match format {
        Format::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(from)?),
        Format::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(from)),
    })
}

/// Frames that hold nothing, as long as it takes from `used` bytes of a block to the end of one.
pub fn padding(format: Format, used: usize, block: usize) -> Vec<u8> {
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
            for level in [CompressionLevel::Min, CompressionLevel::Normal, CompressionLevel::Max] {
                let mut encoder = FrameEncoder::new(Codec { format, level }).unwrap();
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
            let mut encoder = FrameEncoder::new(Codec { format, level: CompressionLevel::Normal }).unwrap();
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
