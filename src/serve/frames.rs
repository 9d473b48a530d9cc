//! Compressed archives, read from any place of their TAR stream: as many frames are decompressed as are needed.
//!
//! This tool ends a frame at each blob (zstd: RFC 8878; gzip: a member, RFC 1952), so that little stands before what is
//! looked for. Frames of zstd say how long they are, packed and unpacked, and are found by their headers; members of gzip
//! do not, and are found by decompressing all once.

use std::{
    io::{self, BufRead, BufReader, ErrorKind as IoErrorKind, Read},
    sync::Arc,
};

use crate::{
    archive::read::open::FrameEnds,
    compression::Format,
    error::{Context, Result},
    media::{
        files::{FileStamp, Files, FilesReader},
        source::{MediaSource, MediumPosition, Window, copy_piece},
    },
};

/// A frame's magic number (RFC 8878, section 3.1.1).
const MAGIC: u64 = 0xfd2f_b528;
/// Those of frames that are skipped end in any of 16 digits (section 3.1.2).
const SKIPPABLE: u64 = 0x184d_2a50;
/// The largest header of a frame, and the size of a block's (sections 3.1.1.1 and 3.1.1.2).
const HEADER_MAX: usize = 18;
const BLOCK_HEADER: u64 = 3;
/// Read at once.
const PIECE: usize = 16 << 10;

/// A compressed archive, and where its frames end.
pub struct FramedFile {
    files: Arc<Files>,
    format: Format,
    /// Ends of frames, in ascending order, counted from the beginning of the archive.
    ends: FrameEnds,
}

impl FramedFile {
    /// One of which the ends of frames are known.
    pub fn new(files: Arc<Files>, format: Format, ends: FrameEnds) -> FramedFile {
        FramedFile { files, format, ends }
    }

    /// Finds the frames of a zstd stream by their headers; `None` if one does not say how long it is.
    ///
    /// # Errors
    /// If the files cannot be read.
    pub fn by_headers(files: Arc<Files>) -> Result<Option<FramedFile>> {
        let mut ends = FrameEnds::new();
        let (mut at, mut plain) = (0, 0);
        while at < files.total() {
            let Some((packed, unpacked)) = frame_size(&files, at).doing(|| "reading the headers of frames")? else {
                return Ok(None);
            };
            let Some(end) = u64::checked_add(plain, unpacked) else { return Ok(None) };
            (at, plain) = (at + packed, end);
            if unpacked > 0 {
                ends.push((at, plain));
            }
        }
        Ok(Some(FramedFile { files, format: Format::Zstd, ends }))
    }

    /// The most bytes that one frame holds: so many may have to be decompressed for one.
    pub fn frame_max(&self) -> u64 {
        let begins = [(0, 0)].into_iter().chain(self.ends.iter().copied());
        begins.zip(&self.ends).map(|((_, begin), (_, end))| end - begin).max().unwrap_or(0)
    }

    /// The frame in which a byte lies: where it begins, packed and unpacked.
    fn frame_of(&self, at: u64) -> (u64, u64) {
        let before = self.ends.partition_point(|(_, end)| *end <= at);
        before.checked_sub(1).map_or((0, 0), |last| self.ends[last])
    }

    /// Of the file in which the frame of a byte begins.
    ///
    /// # Errors
    /// If it cannot be found out.
    pub fn stamp_at(&self, at: u64) -> io::Result<FileStamp> {
        self.files.stamp_at(self.frame_of(at).0)
    }

    /// The TAR stream from a place on.
    ///
    /// # Errors
    /// If it cannot be decompressed up to there.
    pub fn open(&self, at: u64) -> io::Result<Box<dyn Read + Send>> {
        let (packed, plain) = self.frame_of(at);
        let from = BufReader::with_capacity(PIECE, FilesReader::new(self.files.clone(), packed));
        let mut stream: Box<dyn Read + Send> = match self.format {
            Format::Zstd => Box::new(zstd::Decoder::with_buffer(from)?),
            Format::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(from)),
        };
        let skipped = io::copy(&mut (&mut stream).take(at - plain), &mut io::sink())?;
        match skipped == at - plain {
            true => Ok(stream),
            false => Err(IoErrorKind::UnexpectedEof.into()),
        }
    }
}

/// A number, its lowest byte first.
fn le(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// How many bytes the frame at `at` has, packed and unpacked; `None` if it does not say, or is none.
fn frame_size(files: &Files, at: u64) -> io::Result<Option<(u64, u64)>> {
    let mut header = [0; HEADER_MAX];
    let n = files.read_at(&mut header, at)?;
    if n < 9 {
        return Ok(None);
    }
    let magic = le(&header[..4]);
    if magic & !0xf == SKIPPABLE {
        return Ok(Some((8 + le(&header[4..8]), 0)));
    }
    if magic != MAGIC {
        return Ok(None);
    }
    // Section 3.1.1.1.1: the descriptor says which fields follow.
    let descriptor = header[4];
    let is_single = descriptor & 0x20 != 0;
    let has_checksum = descriptor & 0x04 != 0;
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let size_len = match descriptor >> 6 {
        0 if is_single => 1,
        0 => return Ok(None),
        flag => 1 << flag,
    };
    let begin = 5 + usize::from(!is_single) + dictionary;
    if begin + size_len > n {
        return Ok(None);
    }
    let Some(unpacked) = le(&header[begin..begin + size_len]).checked_add(if size_len == 2 { 256 } else { 0 }) else {
        return Ok(None);
    };
    let mut next = at + (begin + size_len) as u64;
    loop {
        let mut block = [0; BLOCK_HEADER as usize];
        if files.read_at(&mut block, next)? < block.len() {
            return Ok(None);
        }
        // Section 3.1.1.2: whether it is the last, its type, and its size; of a run only one byte is there.
        let header = le(&block);
        let (is_last, kind, size) = (header & 1 != 0, header >> 1 & 3, header >> 3);
        next += BLOCK_HEADER + if kind == 1 { 1 } else { size };
        if kind == 3 || next > files.total() {
            return Ok(None);
        }
        if is_last {
            return Ok(Some((next + if has_checksum { 4 } else { 0 } - at, unpacked)));
        }
    }
}

/// The TAR stream of a [`FramedFile`] as an archive is read from it: what is left out is not decompressed.
pub struct FramedCursor {
    stream: Arc<FramedFile>,
    from: Option<BufReader<Box<dyn Read + Send>>>,
    at: u64,
    end: u64,
}

impl FramedCursor {
    /// Begins at its beginning.
    pub fn new(stream: Arc<FramedFile>) -> FramedCursor {
        let end = stream.ends.last().map_or(0, |(_, end)| *end);
        FramedCursor { stream, from: None, at: 0, end }
    }
}

impl Read for FramedCursor {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        copy_piece(self, into)
    }
}

impl BufRead for FramedCursor {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let from = match &mut self.from {
            Some(from) => from,
            none => none.insert(BufReader::with_capacity(16 << 10, self.stream.open(self.at)?)),
        };
        let (there, left) = (from.fill_buf()?, self.end - self.at);
        Ok(&there[..there.len().min(usize::try_from(left).unwrap_or(usize::MAX))])
    }

    fn consume(&mut self, n: usize) {
        self.from.iter_mut().for_each(|from| from.consume(n));
        self.at += n as u64;
    }
}

impl MediaSource for FramedCursor {
    fn skip(&mut self, n: u64) -> io::Result<u64> {
        let n = n.min(self.end - self.at);
        let buffered = self.from.as_ref().map_or(0, |from| from.buffer().len()) as u64;
        let is_near = n <= buffered || self.stream.frame_of(self.at + n) == self.stream.frame_of(self.at);
        match &mut self.from {
            Some(from) if is_near => drop(io::copy(&mut from.take(n), &mut io::sink())?),
            from => *from = None,
        }
        self.at += n;
        Ok(n)
    }

    /// Only how many bytes they are: whoever wants them opens the stream there.
    fn take_window(&mut self, most: u64) -> io::Result<Window> {
        Ok(Window::Passed { len: self.skip(most)? })
    }

    fn position(&self) -> MediumPosition {
        MediumPosition::default()
    }

    fn end_at_file_boundary(&mut self) {}
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::util::scratch::Scratch;

    #[test]
    fn any_place_of_a_stream_of_frames() {
        let dir = Scratch::new();
        let parts: Vec<Vec<u8>> = [3_usize, 70_000, 1, 300_000, 255, 256]
            .iter()
            .map(|&len| (0..len).map(|n| (n * n / 7) as u8).collect())
            .collect();
        let path = dir.join("frames.zst");
        let mut file = std::fs::File::create(&path).unwrap();
        for part in &parts {
            let mut encoder = zstd::bulk::Compressor::new(3).unwrap();
            encoder.include_checksum(true).unwrap();
            file.write_all(&encoder.compress(part).unwrap()).unwrap();
            // One that is skipped.
            file.write_all(&[0x53, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 1, 2]).unwrap();
        }
        let files = Arc::new(Files::open(&[path]).unwrap());
        let stream = FramedFile::by_headers(files).unwrap().expect("they say how long they are");
        let plain = parts.concat();
        assert_eq!(stream.frame_max(), 300_000);
        for at in [0, 1, 3, 4, 70_003, 70_004, 200_000, plain.len() - 1, plain.len()] {
            let mut rest = Vec::new();
            stream.open(at as u64).unwrap().read_to_end(&mut rest).unwrap();
            assert!(rest == plain[at..], "{at}");
        }
    }

    #[test]
    fn what_does_not_say_how_long_it_is() {
        let dir = Scratch::new();
        let path = dir.join("streamed.zst");
        let mut streamed = zstd::Encoder::new(Vec::new(), 3).unwrap();
        streamed.write_all(b"in two parts").unwrap();
        streamed.flush().unwrap();
        for bytes in [streamed.finish().unwrap(), b"\x28\xb5\x2f\xfd".to_vec(), vec![0; 40]] {
            std::fs::write(&path, bytes).unwrap();
            let files = Arc::new(Files::open(std::slice::from_ref(&path)).unwrap());
            assert!(FramedFile::by_headers(files).unwrap().is_none());
        }
    }
}
