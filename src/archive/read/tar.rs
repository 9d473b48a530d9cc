//! Reads a TAR stream member by member, whoever wrote it, and believes nothing that it says.
//!
//! Takes USTAR, PAX (POSIX.1-2001) and GNU headers (long names, sizes in base 256), and checks each
//! header's checksum. What it keeps in memory does not depend on what a header claims. A header that
//! is none can be passed over: [`TarReader::find_next`] looks for the next one.

use std::{
    fmt,
    io::{self, ErrorKind as IoErrorKind},
};

use tar::{EntryType, Header};

use crate::{
    archive::{TAR_BLOCK, padded, read::foreign},
    error::Error,
    media::source::{MediaSource, MediumPosition, Window, fill},
    signal,
    util::units::grouped,
};

const BLOCK: usize = TAR_BLOCK as usize;
/// The longest extended header that is read. Honest ones hold a name and a size.
const EXTENSION_MAX: u64 = 1 << 20;
const TOO_LARGE: &str = "it claims more bytes than any medium holds";

/// A place in the archive, and on its medium.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamPosition {
    /// Offset in the TAR stream, in bytes.
    pub offset: u64,
    /// And where that is on the medium.
    pub medium: MediumPosition,
}

impl fmt::Display for StreamPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "offset {}", grouped(self.offset))?;
        match (self.medium.volume, self.medium.block) {
            (0, None) => Ok(()),
            (0, Some(block)) => write!(f, " (block {})", grouped(block)),
            (volume, None) => write!(f, " (volume {volume})"),
            (volume, Some(block)) => write!(f, " (volume {volume}, block {})", grouped(block)),
        }
    }
}

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A volume's label, as GNU tar writes it too.
    Label,
    /// What no image layout holds, in words.
    Other(&'static str),
}

/// One member of a TAR stream.
#[derive(Clone, Debug)]
pub struct Member {
    /// As it stands in the archive; what is no UTF-8 is replaced.
    pub name: String,
    /// What it is.
    pub kind: MemberKind,
    /// What its header says, in bytes.
    pub size: u64,
    /// Its first header.
    pub place: StreamPosition,
    /// Offset of its content in the TAR stream.
    pub content: u64,
}

/// Why the walk stops.
#[derive(Debug)]
pub enum Fault {
    /// The stream ends where something must follow.
    Cut(StreamPosition, &'static str),
    /// What stands there is no header. The walk can be taken up behind it.
    Malformed(StreamPosition, String),
    /// It cannot be read.
    Unreadable(StreamPosition, Box<Error>),
    /// It is no TAR stream, but something else: what, and what to do.
    Foreign(&'static str),
}

/// Reads a TAR stream.
pub struct TarReader<'a> {
    from: &'a mut dyn MediaSource,
    at: u64,
    /// Bytes of the current member's content, and of the padding behind it, that are still to come.
    content: u64,
    padding: u64,
    /// A header that was found and is still to be used.
    found: Option<(StreamPosition, [u8; BLOCK])>,
    /// Where padding was met that is not zeros.
    odd: Option<StreamPosition>,
    /// What other readers take in another way.
    doubts: Vec<String>,
}

/// What extended headers say of the member behind them.
#[derive(Debug, Default, PartialEq)]
struct Extensions {
    /// There was one of POSIX.1-2001 (pax(1), "pax Extended Header").
    has_records: bool,
    path: Option<Vec<u8>>,
    size: Option<u64>,
    /// GNU's long name.
    long_name: Option<Vec<u8>>,
    /// A name is given that is empty.
    has_empty: bool,
    /// A time or an owner is no number.
    has_odd_number: bool,
    /// It has one of the forms of a sparse file (GNU tar, "Storing Sparse Files").
    is_sparse: bool,
    sparse_name: Option<Vec<u8>>,
}

impl Extensions {
    /// What the records of one header say. An empty value is as good as none.
    fn of(records: &[u8]) -> Result<Extensions, &'static str> {
        let mut found = Extensions { has_records: true, ..Extensions::default() };
        let mut rest = records;
        while !rest.is_empty() {
            let (key, value, next) = record(rest).ok_or("an extended header is malformed")?;
            rest = next;
            let value = Some(value.to_vec()).filter(|value| !value.is_empty());
            match key {
                b"path" => {
                    found.has_empty |= value.is_none();
                    found.path = value;
                }
                b"size" => {
                    let value = value.filter(|value| value.iter().all(u8::is_ascii_digit));
                    let digits =
                        value.and_then(|value| String::from_utf8(value).ok()).ok_or("the size is not a number")?;
                    found.size = Some(digits.parse().map_err(|_| TOO_LARGE)?);
                }
                b"mtime" | b"atime" | b"ctime" | b"uid" | b"gid" => {
                    let is_digit = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'-');
                    found.has_odd_number |= !value.is_none_or(|value| value.iter().all(is_digit));
                }
                b"GNU.sparse.name" => (found.is_sparse, found.sparse_name) = (true, value),
                key if key.starts_with(b"GNU.sparse.") => found.is_sparse = true,
                _ => {}
            }
        }
        Ok(found)
    }
}

impl<'a> TarReader<'a> {
    /// Begins at offset `at` of the stream.
    pub fn new(from: &'a mut dyn MediaSource, at: u64) -> TarReader<'a> {
        TarReader { from, at, content: 0, padding: 0, found: None, odd: None, doubts: Vec::new() }
    }

    /// Where the next byte lies.
    pub fn position(&self) -> StreamPosition {
        StreamPosition { offset: self.at, medium: self.from.position() }
    }

    /// The next member, whatever is left of the one before; `None` at the two zero blocks that end
    /// an archive.
    ///
    /// # Errors
    /// If the stream breaks off or cannot be read, or what stands there is no header.
    pub fn member(&mut self) -> Result<Option<Member>, Fault> {
        self.leave()?;
        self.foreign()?;
        let (mut extended, mut first) = (Extensions::default(), None);
        loop {
            let (place, block) = self.header("the end-of-archive blocks are missing")?;
            let first = *first.get_or_insert(place);
            if block == [0; BLOCK] {
                let (place, second) = self.header("the second of the end-of-archive blocks is missing")?;
                if second == [0; BLOCK] && extended == Extensions::default() {
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
            let claimed = claimed_size(header).map_err(malformed)?;
            match header.entry_type() {
                EntryType::XHeader => {
                    let records = self.extension(place, claimed)?;
                    let next = Extensions::of(&records).map_err(malformed)?;
                    if extended.has_records {
                        self.doubt(place, "a second extended header takes the place of the first");
                    }
                    if next.path.as_ref().is_some_and(|path| path.contains(&0)) {
                        self.doubt(place, "a name holds a NUL");
                    }
                    if next.has_empty {
                        self.doubt(place, "a name is empty");
                    }
                    if next.has_odd_number {
                        self.doubt(place, "a time or an owner is no number");
                    }
                    extended = Extensions { long_name: extended.long_name, ..next };
                }
                EntryType::GNULongName => {
                    let long = self.extension(place, claimed)?;
                    let (name, rest) = long.split_at(long.iter().position(|byte| *byte == 0).unwrap_or(long.len()));
                    if rest.iter().any(|byte| *byte != 0) {
                        self.doubt(place, "a name holds a NUL");
                    }
                    if name.is_empty() {
                        self.doubt(place, "a name is empty");
                    }
                    if extended.long_name.replace(name.to_vec()).is_some() {
                        self.doubt(place, "a second long name takes the place of the first");
                    }
                }
                EntryType::GNULongLink => drop(self.extension(place, claimed)?),
                EntryType::XGlobalHeader => {
                    let records = self.extension(place, claimed)?;
                    let global = Extensions::of(&records).map_err(malformed)?;
                    if extended != Extensions::default() {
                        self.doubt(place, "a global header stands between a header and its member");
                    }
                    if global.path.is_some() || global.has_empty || global.size.is_some() || global.is_sparse {
                        self.doubt(place, "a global header gives the names or sizes of what follows");
                    }
                }
                _ => return self.begin(first, place, &block, extended).map(Some),
            }
        }
    }

    /// Begins the content of a member, behind its last header.
    fn begin(
        &mut self,
        first: StreamPosition,
        place: StreamPosition,
        block: &[u8; BLOCK],
        extended: Extensions,
    ) -> Result<Member, Fault> {
        let header = Header::from_byte_slice(block);
        let malformed = |why: &str| Fault::Malformed(place, why.into());
        if let Some(why) = odd_fields(block) {
            self.doubt(place, why);
        }
        if header.entry_type() == EntryType::GNUSparse {
            // More of its map may follow before the content (GNU tar, "Storing Sparse Files").
            let mut more = block[482] != 0;
            while more {
                more = self.header("the map of a sparse file breaks off")?.1[504] != 0;
            }
        }
        let Extensions { path, long_name, size, is_sparse, sparse_name, .. } = extended;
        if path.is_some() && long_name.is_some() && path != long_name {
            self.doubt(place, "two extended headers give it two names");
        }
        let name = sparse_name.or(long_name).or(path).unwrap_or_else(|| header.path_bytes().into_owned());
        let kind = match kind_of(header.entry_type(), name.ends_with(b"/")) {
            MemberKind::File if is_sparse => MemberKind::Other("a sparse file"),
            kind => kind,
        };
        let mut size = size.map_or_else(|| claimed_size(header), Ok).map_err(malformed)?;
        if kind == MemberKind::Directory && size > 0 {
            self.doubt(place, &format!("a directory claims {} bytes of content", grouped(size)));
            size = 0;
        }
        let padding = padded(size).filter(|&end| end <= i64::MAX as u64);
        let padding = padding.ok_or_else(|| malformed(TOO_LARGE))?;
        (self.content, self.padding) = (size, padding - size);
        let name = String::from_utf8_lossy(&name).into_owned();
        Ok(Member { name, kind, size, place: first, content: self.at })
    }

    /// At the beginning: whether something other than a TAR stream stands there.
    fn foreign(&mut self) -> Result<(), Fault> {
        if self.at > 0 || self.found.is_some() {
            return Ok(());
        }
        let place = self.position();
        fill(self.from).map_err(|e| unreadable(place, e))?;
        let bytes = self.from.fill_buf().map_err(|e| unreadable(place, e))?;
        let is_tar = bytes.first_chunk().is_some_and(is_header);
        match foreign::named(bytes).filter(|_| !is_tar) {
            Some(what) => Err(Fault::Foreign(what)),
            None => Ok(()),
        }
    }

    /// Notes what other readers of TAR take in another way.
    fn doubt(&mut self, place: StreamPosition, why: &str) {
        self.doubts.push(format!("at {place}: {why}; TAR readers take that in different ways"));
    }

    /// What was met since this was last asked that other readers of TAR take in another way.
    pub fn doubts(&mut self) -> Vec<String> {
        std::mem::take(&mut self.doubts)
    }

    /// The next bytes of the current member's content, empty behind the last.
    ///
    /// # Errors
    /// If the stream breaks off or cannot be read.
    pub fn content(&mut self) -> Result<&[u8], Fault> {
        let place = self.position();
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

    /// Takes up to `most` bytes of the current member's content, which may outlive this; none behind
    /// the last.
    ///
    /// # Errors
    /// As [`TarReader::content`].
    pub fn take_window(&mut self, most: u64) -> Result<Window, Fault> {
        let place = self.position();
        if self.content == 0 {
            return Ok(Window::of(Vec::new()));
        }
        let window = loop {
            match self.from.take_window(self.content.min(most)) {
                Err(e) if e.kind() == IoErrorKind::Interrupted => {
                    signal::check().map_err(|e| Fault::Unreadable(place, Box::new(e)))?;
                }
                other => break other.map_err(|e| unreadable(place, e))?,
            }
        };
        if window.is_empty() {
            return Err(Fault::Cut(place, "the content of a member breaks off"));
        }
        self.at += window.len();
        self.content -= window.len();
        Ok(window)
    }

    /// Takes `n` bytes that [`TarReader::content`] has given.
    pub fn take(&mut self, n: usize) {
        self.from.consume(n);
        self.at += n as u64;
        self.content -= n as u64;
    }

    /// Where padding was met since this was last asked that is not zeros. No reader minds, but nobody
    /// writes it either.
    pub fn odd_padding(&mut self) -> Option<StreamPosition> {
        self.odd.take()
    }

    /// Leaves out what is left of the current member.
    fn leave(&mut self) -> Result<(), Fault> {
        self.skip_content()?;
        let padding = std::mem::take(&mut self.padding);
        let mut zeros = [0; BLOCK];
        let (place, zeros) = (self.position(), &mut zeros[..padding as usize]);
        if self.read(zeros).map_err(|e| unreadable(place, e))? < zeros.len() {
            return Err(Fault::Cut(self.position(), "the padding of a member breaks off"));
        }
        if zeros.iter().any(|byte| *byte != 0) {
            self.odd = Some(place);
        }
        Ok(())
    }

    fn skip_content(&mut self) -> Result<(), Fault> {
        while self.content > 0 {
            let place = self.position();
            let skipped = self.from.skip(self.content).map_err(|e| unreadable(place, e))?;
            if skipped == 0 {
                return Err(Fault::Cut(place, "the content of a member breaks off"));
            }
            self.at += skipped;
            self.content -= skipped;
        }
        Ok(())
    }

    /// After [`Fault::Unreadable`]: goes on behind what could not be read, if that can be. Returns how many bytes are
    /// lost.
    pub fn pass_hole(&mut self) -> Option<u64> {
        let lost = self.from.pass_hole()?;
        self.at += lost;
        // If it hides where the next header stands, one is looked for at the next block of the TAR stream.
        (self.content, self.padding) = match (self.content + self.padding).checked_sub(lost) {
            Some(left) if self.content > lost => (left - self.padding, self.padding),
            Some(left) => (0, left),
            None => (self.at.next_multiple_of(TAR_BLOCK) - self.at, 0),
        };
        Some(lost)
    }

    /// After [`Fault::Malformed`]: passes over what is no header. Returns how many bytes that were.
    ///
    /// # Errors
    /// If no header follows.
    pub fn find_next(&mut self) -> Result<u64, Fault> {
        (self.content, self.padding) = (0, 0);
        let from = self.at;
        loop {
            let found = match self.header("no further header follows") {
                // The medium may go on behind what cannot be read.
                Err(Fault::Unreadable(..)) if self.pass_hole().is_some() => {
                    self.skip_content()?;
                    continue;
                }
                found => found?,
            };
            let passed = found.0.offset.saturating_sub(from);
            if is_header(&found.1) {
                self.found = Some(found);
                return Ok(passed);
            }
        }
    }

    /// Reads what stands behind the archive, to the end of the file or volume. Returns where the first
    /// byte stands that is no padding.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn rest(&mut self) -> Result<Option<StreamPosition>, Fault> {
        self.from.end_at_file_boundary();
        let mut other = None;
        loop {
            let place = self.position();
            let n = fill(self.from).map_err(|e| unreadable(place, e))?;
            if n == 0 {
                return Ok(other);
            }
            if other.is_none() {
                let bytes = self.from.fill_buf().map_err(|e| unreadable(place, e))?;
                let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
                other = (zeros < n).then_some(StreamPosition { offset: self.at + zeros as u64, medium: place.medium });
            }
            self.from.consume(n);
            self.at += n as u64;
        }
    }

    fn header(&mut self, missing: &'static str) -> Result<(StreamPosition, [u8; BLOCK]), Fault> {
        if let Some(found) = self.found.take() {
            return Ok(found);
        }
        let place = self.position();
        let mut block = [0; BLOCK];
        match self.read(&mut block).map_err(|e| unreadable(place, e))? {
            BLOCK => Ok((place, block)),
            _ => Err(Fault::Cut(self.position(), missing)),
        }
    }

    /// The content of an extended header, its padding read too.
    fn extension(&mut self, place: StreamPosition, size: u64) -> Result<Vec<u8>, Fault> {
        if size > EXTENSION_MAX {
            let why = format!("an extended header claims {} bytes", grouped(size));
            return Err(Fault::Malformed(place, why));
        }
        let mut bytes = vec![0; (size as usize).next_multiple_of(BLOCK)];
        if self.read(&mut bytes).map_err(|e| unreadable(place, e))? < bytes.len() {
            return Err(Fault::Cut(self.position(), "an extended header breaks off"));
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

/// The name in the header that a TAR stream begins with.
pub fn first_name(bytes: &[u8]) -> Option<String> {
    let block = bytes.first_chunk().filter(|block| is_header(block))?;
    Some(String::from_utf8_lossy(&Header::from_byte_slice(block).path_bytes()).into_owned())
}

fn unreadable(place: StreamPosition, error: io::Error) -> Fault {
    match error.kind() {
        IoErrorKind::UnexpectedEof => Fault::Cut(place, "it breaks off"),
        _ => Fault::Unreadable(place, Box::new(Error::from_io(error))),
    }
}

/// The size in a header: octal digits, or 95 bits in base 256 (GNU tar, "Basic Tar Format"). A field of NULs is 0, as all
/// readers have it.
fn claimed_size(header: &Header) -> Result<u64, &'static str> {
    let field = &header.as_old().size;
    match field {
        _ if field.iter().all(|byte| *byte == 0) => Ok(0),
        [0x80, 0, 0, 0, rest @ ..] => Ok(u64::from_be_bytes(*rest)),
        [first, ..] if first & 0x80 != 0 => Err(TOO_LARGE),
        _ if !is_number(field) || field.trim_ascii().is_empty() => Err("the size in the header is not a number"),
        _ => header.entry_size().map_err(|_| "the size in the header is not a number"),
    }
}

/// The key and the value of the first record of an extended header, and what follows it (pax(1), "pax Extended Header"): a
/// length that counts itself, a space, the key, `=`, the value, a newline.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let length: usize = std::str::from_utf8(&bytes[..digits]).ok()?.parse().ok()?;
    let (record, rest) = bytes.split_at_checked(length)?;
    let text = record.get(digits..)?.strip_prefix(b" ")?.strip_suffix(b"\n")?;
    let (key, value) = text.split_at(text.iter().position(|byte| *byte == b'=')?);
    let is_key = !key.is_empty() && !key.iter().any(|byte| matches!(byte, b' ' | 0..0x20));
    is_key.then_some((key, &value[1..], rest))
}

/// Whether a field of a header is a number as all readers take it: in base 256, or octal digits between spaces and NULs.
fn is_number(field: &[u8]) -> bool {
    let digits = field.trim_ascii_start();
    let end = digits.iter().position(|byte| matches!(byte, 0 | b' ')).unwrap_or(digits.len());
    field[0] & 0x80 != 0 || digits[..end].iter().all(|byte| matches!(byte, b'0'..=b'7')) && !field.contains(&0x0B)
}

/// What other readers stumble over in a header, or take for a part of the name.
fn odd_fields(block: &[u8; BLOCK]) -> Option<&'static str> {
    // Mode, owner, group and time; and the device, where there is a magic.
    let (magic, prefix) = (&block[257..265], &block[345..500]);
    let is_posix = magic == b"ustar\x0000";
    let numbers = [100..108, 108..116, 116..124, 136..148];
    let devices = if is_posix { &[329..337, 337..345][..] } else { &[] };
    if numbers.iter().chain(devices).any(|range| !is_number(&block[range.clone()])) {
        return Some("a number in the header is none");
    }
    // A sparse file of GNU's has its map there, and is told of as such.
    let is_sparse = block[156] == b'S' && magic == b"ustar  \0";
    let has_prefix = !is_sparse && prefix.iter().any(|byte| *byte != 0);
    if has_prefix && (!is_posix || block[508..] == *b"tar\0") {
        return Some("what stands where a header has the first part of a name is none for all");
    }
    None
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

fn kind_of(kind: EntryType, slash: bool) -> MemberKind {
    match kind {
        EntryType::Directory => MemberKind::Directory,
        EntryType::Regular | EntryType::Continuous if slash => MemberKind::Directory,
        EntryType::Regular | EntryType::Continuous => MemberKind::File,
        EntryType::Symlink => MemberKind::Other("a symbolic link"),
        EntryType::Link => MemberKind::Other("a hard link"),
        EntryType::Char => MemberKind::Other("a character device"),
        EntryType::Block => MemberKind::Other("a block device"),
        EntryType::Fifo => MemberKind::Other("a FIFO"),
        EntryType::GNUSparse => MemberKind::Other("a sparse file"),
        other if other.as_byte() == b'V' => MemberKind::Label,
        other if other.as_byte() == b'M' => {
            MemberKind::Other("continued from another volume, as tar -M splits archives")
        }
        _ => MemberKind::Other("a member of an unknown type"),
    }
}
