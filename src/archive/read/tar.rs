//! Reads a TAR stream member by member, whoever wrote it, and believes nothing that it says.
//!
//! Takes USTAR, PAX (POSIX.1-2001) and GNU headers (long names, sizes in base 256), and checks each
//! header's checksum. What it keeps in memory does not depend on what a header claims. A header that
//! is none can be passed over: [`Walker::find_next`] looks for the next one.

use std::{
    fmt,
    io::{self, BufRead, ErrorKind},
};

use tar::{EntryType, Header, PaxExtensions};

use crate::archive::TAR_BLOCK;
use crate::{
    error::{Error, io_reason},
    signal,
    util::units::grouped,
};

const BLOCK: usize = TAR_BLOCK as usize;
/// The longest extended header that is read. Honest ones hold a name and a size.
const EXTENSION_MAX: u64 = 1 << 20;

/// A stream that an archive is read from.
pub trait Source: BufRead {
    /// Leaves out up to `n` bytes; fewer were left out only if the stream ends.
    fn skip(&mut self, n: u64) -> io::Result<u64>;

    /// Where on the medium the next byte lies.
    fn here(&self) -> Spot;

    /// Has the stream end where the file or volume ends that is being read now.
    fn stay(&mut self);
}

/// A place on the medium.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spot {
    /// Which of several volumes, counted from 1; 0 if there is only one.
    pub volume: usize,
    /// Which block of a tape, counted from 0 where reading began on this volume.
    pub block: Option<u64>,
}

/// A place in the archive, and on its medium.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Offset in the TAR stream, in bytes.
    pub offset: u64,
    pub spot: Spot,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "offset {}", grouped(self.offset))?;
        match (self.spot.volume, self.spot.block) {
            (0, None) => Ok(()),
            (0, Some(block)) => write!(f, " (block {})", grouped(block)),
            (volume, None) => write!(f, " (volume {volume})"),
            (volume, Some(block)) => write!(f, " (volume {volume}, block {})", grouped(block)),
        }
    }
}

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    Directory,
    /// A volume's label, as GNU tar writes it too.
    Label,
    /// What no image layout holds, in words.
    Other(&'static str),
}

#[derive(Clone, Debug)]
pub struct Member {
    /// As it stands in the archive; what is no UTF-8 is replaced.
    pub name: String,
    pub kind: Kind,
    /// What its header says, in bytes.
    pub size: u64,
    /// Its first header.
    pub place: Place,
    /// Offset of its content in the TAR stream.
    pub content: u64,
}

/// Why the walk stops.
#[derive(Debug)]
pub enum Fault {
    /// The stream ends where something must follow.
    Cut(Place, &'static str),
    /// What stands there is no header. The walk can be taken up behind it.
    Malformed(Place, String),
    /// It cannot be read.
    Unreadable(Place, Error),
    /// Whoever reads it does not go on.
    GivenUp(Error),
}

pub struct Walker<'a> {
    from: &'a mut dyn Source,
    at: u64,
    /// Bytes of the current member's content, and of the padding behind it, that are still to come.
    content: u64,
    padding: u64,
    /// A header that was found and is still to be used.
    found: Option<(Place, [u8; BLOCK])>,
    /// Where padding was met that is not zeros.
    odd: Option<Place>,
}

impl<'a> Walker<'a> {
    /// Begins at offset `at` of the stream.
    pub fn new(from: &'a mut dyn Source, at: u64) -> Walker<'a> {
        Walker { from, at, content: 0, padding: 0, found: None, odd: None }
    }

    pub fn place(&self) -> Place {
        Place { offset: self.at, spot: self.from.here() }
    }

    /// The next member, whatever is left of the one before; `None` at the two zero blocks that end
    /// an archive.
    pub fn member(&mut self) -> Result<Option<Member>, Fault> {
        self.leave()?;
        let (mut name, mut size, mut first) = (None, None, None);
        loop {
            let (place, block) = self.header("the end-of-archive blocks are missing")?;
            let first = *first.get_or_insert(place);
            if block == [0; BLOCK] {
                let (place, second) = self.header("the second of the end-of-archive blocks is missing")?;
                if second == [0; BLOCK] && name.is_none() && size.is_none() {
                    return Ok(None);
                }
                self.found = Some((place, second)).filter(|_| second != [0; BLOCK]);
                return Err(Fault::Malformed(first, "a lone block of zeros stands there".into()));
            }
            let header = Header::from_byte_slice(&block);
            let malformed = |why: &str| Fault::Malformed(place, why.into());
            if !is_header(&block) {
                return Err(malformed("what stands there is no header of a TAR member"));
            }
            let claimed = header.entry_size().map_err(|_| malformed("the size in the header is not a number"))?;
            match header.entry_type() {
                EntryType::XHeader => {
                    let records = self.extension(place, claimed)?;
                    for record in PaxExtensions::new(&records) {
                        let record = record.map_err(|_| malformed("an extended header is malformed"))?;
                        match record.key_bytes() {
                            b"path" => name = Some(record.value_bytes().to_vec()),
                            b"size" => {
                                let text = record.value().ok().and_then(|text| text.parse().ok());
                                size = Some(text.ok_or_else(|| malformed("the size is not a number"))?);
                            }
                            _ => {}
                        }
                    }
                }
                EntryType::GNULongName => {
                    let mut long = self.extension(place, claimed)?;
                    while long.last() == Some(&0) {
                        long.pop();
                    }
                    name = Some(long);
                }
                EntryType::GNULongLink | EntryType::XGlobalHeader => drop(self.extension(place, claimed)?),
                kind => {
                    let size = size.unwrap_or(claimed);
                    let padding = crate::archive::padded(size).filter(|&end| end <= i64::MAX as u64);
                    let padding = padding.ok_or_else(|| malformed("it claims more bytes than any medium holds"))?;
                    (self.content, self.padding) = (size, padding - size);
                    let name = name.unwrap_or_else(|| header.path_bytes().into_owned());
                    let kind = kind_of(kind, name.ends_with(b"/"));
                    let name = String::from_utf8_lossy(&name).into_owned();
                    return Ok(Some(Member { name, kind, size, place: first, content: self.at }));
                }
            }
        }
    }

    /// The next bytes of the current member's content, empty behind the last.
    pub fn content(&mut self) -> Result<&[u8], Fault> {
        let place = self.place();
        if self.content == 0 {
            return Ok(&[]);
        }
        let left = usize::try_from(self.content).unwrap_or(usize::MAX);
        match fill(self.from).map_err(|e| unreadable(place, e))? {
            0 => Err(Fault::Cut(place, "the content of a member breaks off")),
            n => {
                let piece = self.from.fill_buf().map_err(|e| unreadable(place, e))?;
                Ok(&piece[..n.min(left)])
            }
        }
    }

    /// Takes `n` bytes that [`Walker::content`] has given.
    pub fn take(&mut self, n: usize) {
        self.from.consume(n);
        self.at += n as u64;
        self.content -= n as u64;
    }

    /// Where padding was met since this was last asked that is not zeros. No reader minds, but nobody
    /// writes it either.
    pub fn odd_padding(&mut self) -> Option<Place> {
        self.odd.take()
    }

    /// Leaves out what is left of the current member.
    fn leave(&mut self) -> Result<(), Fault> {
        let (content, padding) = (std::mem::take(&mut self.content), std::mem::take(&mut self.padding));
        let place = self.place();
        let skipped = self.from.skip(content).map_err(|e| unreadable(place, e))?;
        self.at += skipped;
        if skipped < content {
            return Err(Fault::Cut(self.place(), "the content of a member breaks off"));
        }
        let mut zeros = [0; BLOCK];
        let (place, zeros) = (self.place(), &mut zeros[..padding as usize]);
        if self.read(zeros).map_err(|e| unreadable(place, e))? < zeros.len() {
            return Err(Fault::Cut(self.place(), "the padding of a member breaks off"));
        }
        if zeros.iter().any(|byte| *byte != 0) {
            self.odd = Some(place);
        }
        Ok(())
    }

    /// After [`Fault::Malformed`]: passes over what is no header. Returns how many bytes that were.
    pub fn find_next(&mut self) -> Result<u64, Fault> {
        (self.content, self.padding) = (0, 0);
        let from = self.at;
        loop {
            let found = self.header("no further header follows")?;
            let passed = found.0.offset.saturating_sub(from);
            if is_header(&found.1) {
                self.found = Some(found);
                return Ok(passed);
            }
        }
    }

    /// Reads what stands behind the archive, to the end of the file or volume. Returns where the first
    /// byte stands that is no padding.
    pub fn rest(&mut self) -> Result<Option<Place>, Fault> {
        self.from.stay();
        let mut other = None;
        loop {
            let place = self.place();
            let n = fill(self.from).map_err(|e| unreadable(place, e))?;
            if n == 0 {
                return Ok(other);
            }
            if other.is_none() {
                let bytes = self.from.fill_buf().map_err(|e| unreadable(place, e))?;
                let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
                other = (zeros < n).then_some(Place { offset: self.at + zeros as u64, spot: place.spot });
            }
            self.from.consume(n);
            self.at += n as u64;
        }
    }

    fn header(&mut self, missing: &'static str) -> Result<(Place, [u8; BLOCK]), Fault> {
        if let Some(found) = self.found.take() {
            return Ok(found);
        }
        let place = self.place();
        let mut block = [0; BLOCK];
        match self.read(&mut block).map_err(|e| unreadable(place, e))? {
            BLOCK => Ok((place, block)),
            _ => Err(Fault::Cut(self.place(), missing)),
        }
    }

    /// The content of an extended header, its padding read too.
    fn extension(&mut self, place: Place, size: u64) -> Result<Vec<u8>, Fault> {
        if size > EXTENSION_MAX {
            let why = format!("an extended header claims {} bytes", grouped(size));
            return Err(Fault::Malformed(place, why));
        }
        let mut bytes = vec![0; (size as usize).next_multiple_of(BLOCK)];
        if self.read(&mut bytes).map_err(|e| unreadable(place, e))? < bytes.len() {
            return Err(Fault::Cut(self.place(), "an extended header breaks off"));
        }
        if bytes[size as usize..].iter().any(|byte| *byte != 0) {
            self.odd = Some(place);
        }
        bytes.truncate(size as usize);
        Ok(bytes)
    }

    /// Fills the buffer as far as the stream goes.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            let n = fill(self.from)?.min(buffer.len() - filled);
            if n == 0 {
                break;
            }
            buffer[filled..filled + n].copy_from_slice(&self.from.fill_buf()?[..n]);
            self.from.consume(n);
            self.at += n as u64;
            filled += n;
        }
        Ok(filled)
    }
}

/// How many bytes are at hand; 0 at the end. Waits, unless a signal asks to stop.
pub fn fill(from: &mut dyn Source) -> io::Result<usize> {
    loop {
        match from.fill_buf() {
            Ok(bytes) => return Ok(bytes.len()),
            Err(e) if e.kind() == ErrorKind::Interrupted => signal::check().map_err(io::Error::other)?,
            Err(e) => return Err(e),
        }
    }
}

/// An error of ours that has travelled as one of [`std::io`], or one of its own.
pub fn told(error: io::Error) -> Error {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(ours) => ours.clone(),
        None => Error::new(io_reason(&error)),
    }
}

fn unreadable(place: Place, error: io::Error) -> Fault {
    match error.kind() {
        ErrorKind::UnexpectedEof => Fault::Cut(place, "it breaks off"),
        _ => Fault::Unreadable(place, told(error)),
    }
}

/// Whether the checksum over the block is right. Old tools summed signed bytes.
fn is_header(block: &[u8; BLOCK]) -> bool {
    let Ok(wanted) = Header::from_byte_slice(block).cksum() else { return false };
    let counted = |at: usize| if (148..156).contains(&at) { b' ' } else { block[at] };
    let unsigned: u32 = (0..BLOCK).map(|at| u32::from(counted(at))).sum();
    let signed: i32 = (0..BLOCK).map(|at| i32::from(counted(at) as i8)).sum();
    let ends_well = matches!(block[154..156], [0, b' '] | [b' ', 0] | [b'0'..=b'7', 0 | b' ']);
    block[0] != 0 && ends_well && (unsigned == wanted || i64::from(signed) == i64::from(wanted))
}

fn kind_of(kind: EntryType, slash: bool) -> Kind {
    match kind {
        EntryType::Directory => Kind::Directory,
        EntryType::Regular | EntryType::Continuous if slash => Kind::Directory,
        EntryType::Regular | EntryType::Continuous => Kind::File,
        EntryType::Symlink => Kind::Other("a symbolic link"),
        EntryType::Link => Kind::Other("a hard link"),
        EntryType::Char => Kind::Other("a character device"),
        EntryType::Block => Kind::Other("a block device"),
        EntryType::Fifo => Kind::Other("a FIFO"),
        EntryType::GNUSparse => Kind::Other("a sparse file"),
        other if other.as_byte() == b'V' => Kind::Label,
        _ => Kind::Other("a member of an unknown type"),
    }
}
