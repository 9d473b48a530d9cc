//! The reading side of a tape: blocks as they stand on it, whatever their size. A read that asks for
//! less than a block fails (st(4)), so the size is found out.

use std::io;

use nix::errno::Errno;

use super::{
    drive::TapeDrive,
    locate::Place,
    look::{self, Found},
    mtio::Op,
};
use crate::{
    error::{Context, Error, Result},
    log, signal,
    util::units::grouped,
};

/// What is read at once, at the least: small blocks come together.
const PIECE: usize = 1 << 20;
/// Every drive takes reads as large as this.
const READ_MIN: usize = 64 << 10;
/// After so many blocks of one size, reads ask for just that: what a drive makes of a read may cost by what is asked for.
const EQUAL: u32 = 8;
/// No block of a tape is larger: SCSI has 24 bits for it.
const BLOCK_MAX: usize = (1 << 24) - 1;

const ENDED: &str = "the end of data is there, without a filemark";

/// Reads one file of a tape, up to its filemark.
pub struct TapeReader {
    drive: Box<dyn TapeDrive>,
    name: String,
    /// Bytes that a read asks for: no block may be larger.
    read_size: usize,
    /// Where that stops growing.
    read_size_max: usize,
    /// The fixed size of blocks that the drive is set to, or 0.
    fixed: u32,
    /// The one that it was set to before, to be set again.
    was_fixed: u32,
    /// Where reading began.
    first: Place,
    /// The block at which the drive was set to blocks of any size.
    tried_at: u64,
    /// A block that was read and belongs into the next piece.
    ahead: Option<Vec<u8>>,
    /// What the next call is to tell, and all that follow.
    ending: Option<Result<()>>,
    blocks: u64,
    /// Bytes of the last block, and how many of that size have come one behind the other.
    run: (usize, u32),
}

impl TapeReader {
    /// Reads where the tape in `drive` stands. A read asks for `read_size` bytes, and for more when
    /// a block is larger.
    ///
    /// # Errors
    /// If the drive does not tell its status.
    pub fn new(drive: Box<dyn TapeDrive>, name: String, read_size: usize) -> Result<TapeReader> {
        let status = drive.status().map_err(Error::from_errno)?;
        let first = Place::of(&*drive)?;
        let largest = drive.limits().map_or(BLOCK_MAX, |limits| limits.most as usize);
        let read_size_max = largest.max(read_size.min(BLOCK_MAX));
        let mut read_size = read_size.min(read_size_max);
        if status.block_size > 0 {
            let fixed = status.block_size as usize;
            read_size = (read_size / fixed).max(1) * fixed;
        }
        Ok(TapeReader {
            drive,
            name,
            read_size,
            read_size_max,
            fixed: status.block_size,
            was_fixed: 0,
            first,
            tried_at: 0,
            ahead: None,
            ending: None,
            blocks: 0,
            run: (0, 0),
        })
    }

    /// Brings a tape that was just put in to its beginning: a driver that has not heard of the change counts on from
    /// where the other tape stood.
    ///
    /// # Errors
    /// If it cannot be rewound.
    pub fn rewind(&mut self) -> Result<()> {
        self.drive.operate(Op::Rewind, 1).doing(|| format!("rewinding {}", self.name))?;
        self.first = Place::of(&*self.drive)?;
        Ok(())
    }

    /// The next blocks, all of one size but the last, with that size; `None` at the filemark.
    ///
    /// # Errors
    /// If a block cannot be read, with its number, after all blocks before it; or a signal.
    pub fn read(&mut self, mut into: Vec<u8>) -> Result<Option<(Vec<u8>, usize)>> {
        let (mut filled, mut each) = (0, 0);
        if let Some(block) = self.ahead.take() {
            (filled, each) = (block.len(), block.len());
            into.splice(..filled.min(into.len()), block);
        }
        while self.ending.is_none() {
            match self.read_block(&mut into, filled) {
                Ok(0) if self.blocks == 0 => self.ending = Some(self.began_with_nothing()),
                Ok(0) => self.ending = Some(Ok(())),
                Ok(n) if each != 0 && n != each => {
                    self.ahead = Some(into[filled..filled + n].to_vec());
                    break;
                }
                Ok(n) => (filled, each) = (filled + n, n),
                Err(e) => self.ending = Some(Err(e)),
            }
            // In fixed-block mode a read gives many blocks.
            if filled + self.read_size > PIECE.max(self.read_size) {
                break;
            }
        }
        if filled > 0 {
            into.truncate(filled);
            let each = if self.fixed > 0 { self.fixed as usize } else { each };
            return Ok(Some((into, each)));
        }
        self.ending.replace(Ok(())).unwrap_or(Ok(())).map(|()| None)
    }

    /// Bytes that the next read asks for.
    fn ask(&self) -> usize {
        match self.run {
            (size, EQUAL..) if self.fixed == 0 => size,
            _ => self.read_size,
        }
    }

    /// Reads one block, or in fixed-block mode several, to `into[at..]`, whatever its size.
    fn read_block(&mut self, into: &mut Vec<u8>, at: usize) -> Result<usize> {
        loop {
            let ask = self.ask();
            // Zeros only where there was nothing yet: what a read does not fill is not looked at.
            if into.len() < at + ask {
                into.resize(at + ask, 0);
            }
            let failed = match self.drive.read(&mut into[at..at + ask]) {
                // Where something could not be read nothing ends.
                Ok(0) if self.was_fixed > 0 && self.tried_at == self.blocks => Errno::EIO.into(),
                // Not every drive gives a short block whole to a read that asks for just a little more.
                Ok(n) if n > 0 && n < ask && ask < self.read_size => {
                    self.run = (0, 0);
                    self.step_back().doing(|| self.place())?;
                    continue;
                }
                Ok(n) => {
                    let blocks = n.div_ceil(if self.fixed > 0 { self.fixed as usize } else { n.max(1) });
                    if !self.is_there(n == ask, blocks as u32).doing(|| self.place())? {
                        continue;
                    }
                    self.blocks += blocks as u64;
                    if n > 0 {
                        self.run = if n == self.run.0 { (n, self.run.1.saturating_add(1)) } else { (n, 1) };
                    }
                    if n > 0 && self.blocks == blocks as u64 {
                        self.check_addresses();
                    }
                    return Ok(n);
                }
                Err(e) => e,
            };
            let failed = match failed.raw_os_error().map(Errno::from_raw) {
                Some(Errno::EINTR) => {
                    signal::check()?;
                    continue;
                }
                Some(Errno::ENOMEM) if self.fixed == 0 && ask < self.read_size => {
                    self.run = (0, 0);
                    self.step_back()
                }
                Some(Errno::ENOMEM) if self.fixed == 0 => self.enlarge_read(),
                Some(errno) if look::is_too_large(errno as i32) && self.fixed == 0 && self.read_size > READ_MIN => {
                    self.read_size = (self.read_size / 2).max(READ_MIN);
                    self.read_size_max = self.read_size;
                    Ok(())
                }
                Some(Errno::EIO) if self.fixed > 0 => self.read_differently(failed),
                _ => Err(self.explained(failed)),
            };
            failed.doing(|| self.place())?;
        }
    }

    /// Whether what a read gave is on the tape. If only some of it may be, it is to be read again, one block at a time.
    fn is_there(&mut self, is_all: bool, blocks: u32) -> Result<bool> {
        let place = self.first.ahead(self.blocks);
        match look::is_there(&mut *self.drive, &place, is_all && place.is_known(), blocks)? {
            true => Ok(true),
            false if self.fixed > 0 && blocks > 1 => {
                self.read_size = self.fixed as usize;
                place.go(&mut *self.drive).map(|()| false)
            }
            false if self.blocks > 0 => Err(Error::new(ENDED)),
            false => Err(nothing_there(&look::nothing_at(&place))),
        }
    }

    /// The drive's addresses are of no use if they do not count blocks.
    fn check_addresses(&mut self) {
        if self.first.position.is_some() && self.drive.position() != self.first.ahead(self.blocks).position {
            self.first.position = None;
        }
    }

    /// Where reading began.
    pub fn first(&self) -> Place {
        self.first
    }

    /// Begins to read at another place.
    ///
    /// # Errors
    /// If the tape cannot be brought there.
    pub fn go(&mut self, place: Place) -> Result<()> {
        place.go(&mut *self.drive)?;
        (self.first, self.blocks, self.ahead, self.ending, self.run) = (place, 0, None, None, (0, 0));
        Ok(())
    }

    /// Leaves out the block that could not be read, and goes on behind it.
    ///
    /// # Errors
    /// If nobody tells where the tape stands, or it cannot be moved.
    pub fn pass_block(&mut self) -> Result<()> {
        let behind = self.first.ahead(self.blocks + 1);
        if !behind.is_known() {
            return Err(Error::new("nobody tells where the tape stands"));
        }
        if !behind.is_here(&*self.drive) {
            behind.go(&mut *self.drive)?;
        }
        self.blocks += 1;
        self.ending = None;
        Ok(())
    }

    fn place(&self) -> String {
        format!("reading {} at block {}", self.name, grouped(self.blocks))
    }

    /// Why a read failed: the driver says the same of a bad block and of the end.
    fn explained(&mut self, failed: io::Error) -> Error {
        let place = self.first.ahead(self.blocks);
        let is_vague = failed.raw_os_error() == Some(Errno::EIO as i32) && place.is_known();
        let found = if is_vague { look::unread(&mut *self.drive, &place) } else { Ok(Found::Unreadable) };
        match found {
            Ok(Found::EndOfData) if self.blocks > 0 => Error::from_io(failed).after(ENDED),
            Ok(found) if found.is_empty() => nothing_there(&found),
            _ => Error::from_io(failed),
        }
    }

    /// The first read gave nothing.
    fn began_with_nothing(&self) -> Result<()> {
        let ended = self.drive.status().is_ok_and(|status| status.end_of_data);
        let found = if ended { look::nothing_at(&self.first) } else { Found::Filemark };
        Err(nothing_there(&found)).doing(|| self.place())
    }

    /// After a read in fixed-block mode that failed: the same blocks one at a time, and then the one that fails
    /// whatever its size.
    fn read_differently(&mut self, failed: io::Error) -> Result<()> {
        let place = self.first.ahead(self.blocks);
        let several = self.read_size > self.fixed as usize;
        if !place.is_known() {
            let last = self.blocks + (self.read_size / self.fixed as usize) as u64 - 1;
            let why = format!("it may be any block up to {}, and nobody tells where the tape stands", grouped(last));
            return Err(if several { Error::from_io(failed).after(why) } else { Error::from_io(failed) });
        }
        place.go(&mut *self.drive).doing(|| "going back to blocks that could not be read")?;
        match several {
            true => self.read_size = self.fixed as usize,
            false => self.set_variable_blocks()?,
        }
        Ok(())
    }

    /// After a block that did not fit, which the tape has passed (st(4)): back in front of it, and
    /// asks for more.
    fn enlarge_read(&mut self) -> Result<()> {
        if self.read_size >= self.read_size_max {
            let why =
                format!("a block is larger than the {} bytes that a read can have", grouped(self.read_size as u64));
            return Err(Error::new(why));
        }
        self.step_back()?;
        self.read_size = (self.read_size * 2).max(PIECE).min(self.read_size_max);
        log::debug(format_args!("{}: reading blocks of up to {} bytes", self.name, grouped(self.read_size as u64)));
        Ok(())
    }

    /// Back in front of a block that did not fit.
    fn step_back(&mut self) -> Result<()> {
        if self.first.ahead(self.blocks).is_here(&*self.drive) {
            return Ok(());
        }
        self.drive.operate(Op::BackwardBlocks, 1).doing(|| "going back to a block that did not fit")
    }

    /// Has the drive take blocks of any size, after a read in fixed-block mode that failed.
    fn set_variable_blocks(&mut self) -> Result<()> {
        let was = self.fixed;
        self.drive.operate(Op::SetBlockSize, 0).doing(|| "setting the drive to blocks of any size")?;
        log::info(format_args!(
            "{}: the drive is set to blocks of {} bytes, and the tape has others: reading blocks of any size",
            self.name,
            grouped(was.into())
        ));
        self.read_size = PIECE.min(self.read_size_max);
        (self.fixed, self.was_fixed, self.tried_at) = (0, was, self.blocks);
        Ok(())
    }

    /// Sets the drive to the blocks that it was set to before.
    pub fn restore(&mut self) {
        let was = std::mem::take(&mut self.was_fixed);
        if was > 0 {
            let _ = self.drive.operate(Op::SetBlockSize, was);
        }
    }
}

impl Drop for TapeReader {
    fn drop(&mut self) {
        self.restore();
    }
}

fn nothing_there(found: &Found) -> Error {
    Error::new(match found {
        Found::Blank => "the tape is blank",
        Found::EndOfData => "the end of data is here: nothing was written here, or behind it",
        _ => "a filemark is here, and nothing in front of it",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::tape::fake::{FakeDrive, Item};

    fn tape(blocks: &[usize]) -> FakeDrive {
        let drive = FakeDrive::default();
        let item = |(n, len): (usize, &usize)| Item::Block(vec![n as u8; *len]);
        drive.tape().items = blocks.iter().enumerate().map(item).chain([Item::Mark]).collect();
        drive
    }

    fn reader(drive: &FakeDrive, read_size: usize) -> TapeReader {
        TapeReader::new(Box::new(drive.clone()), "\"/dev/nst0\"".into(), read_size).unwrap()
    }

    /// All of a file: the sizes of its blocks, and how it ends.
    fn read_all(reader: &mut TapeReader) -> (Vec<usize>, Result<()>) {
        let mut sizes = Vec::new();
        loop {
            match reader.read(Vec::new()) {
                Ok(Some((bytes, each))) => {
                    sizes.extend(bytes.chunks(each).map(<[u8]>::len));
                }
                Ok(None) => return (sizes, Ok(())),
                Err(e) => return (sizes, Err(e)),
            }
        }
    }

    #[test]
    fn blocks_of_any_size_are_found_out() {
        let drive = tape(&[64, 64, 64, 10]);
        assert_eq!(read_all(&mut reader(&drive, 16)).0, [64, 64, 64, 10]);
        assert_eq!(drive.tape().calls, ["BackwardBlocks 1"], "back in front of the block that did not fit");
        assert_eq!(drive.tape().at, 5, "behind the filemark");
    }

    #[test]
    fn after_equal_blocks_reads_ask_for_no_more() {
        for tells_position in [false, true] {
            let sizes = [vec![512; 20], vec![4096; 12], vec![100; 10], vec![512; 9]].concat();
            let drive = tape(&sizes);
            drive.tape().tells_position = tells_position;
            let mut reader = reader(&drive, 1 << 20);
            assert_eq!(read_all(&mut reader).0, sizes);
            assert_eq!(reader.ask(), 512);
        }
    }

    #[test]
    fn a_block_that_no_read_can_have_is_an_error() {
        let drive = tape(&[64]);
        drive.tape().limits = Some(crate::media::tape::mtio::Limits { least: 1, most: 32 });
        let error = read_all(&mut reader(&drive, 16)).1.unwrap_err();
        assert!(error.to_string().contains("at block 0: a block is larger than the 32 bytes"), "{error}");
    }

    #[test]
    fn a_drive_that_is_set_to_other_blocks_is_set_back() {
        let drive = tape(&[64, 64]);
        drive.tape().fixed = 512;
        let mut reader = reader(&drive, 1024);
        assert_eq!(read_all(&mut reader).0, [64, 64]);
        assert_eq!(drive.tape().fixed, 0);
        reader.restore();
        assert_eq!(drive.tape().fixed, 512);
    }

    #[test]
    fn a_bad_block_in_fixed_mode_is_told_by_its_number_after_all_before_it() {
        for passes_bad in [false, true] {
            for tells_position in [false, true] {
                for bad in [0, 40, 49] {
                    let drive = tape(&[512; 50]);
                    (drive.tape().passes_bad, drive.tape().tells_position) = (passes_bad, tells_position);
                    (drive.tape().fixed, drive.tape().bad) = (512, vec![bad]);
                    let mut reader = reader(&drive, 16 * 512);
                    let (sizes, ending) = read_all(&mut reader);
                    assert_eq!(sizes, vec![512; bad]);
                    let error = ending.unwrap_err().to_string();
                    assert!(error.contains(&format!("at block {bad}: Input/output error")), "{error}");
                    drop(reader);
                    assert_eq!(drive.tape().fixed, 512, "set back");
                }
            }
        }
    }

    #[test]
    fn a_label_smaller_than_the_blocks_behind_it_is_read_in_a_drive_set_to_its_size() {
        let drive = tape(&[512, 4096, 4096, 100]);
        drive.tape().fixed = 512;
        assert_eq!(read_all(&mut reader(&drive, 1 << 20)).0, [512, 4096, 4096, 100]);
    }

    #[test]
    fn an_empty_place_is_called_what_it_is() {
        for (fixed, ends_vaguely) in [(0, false), (512, false), (0, true), (512, true)] {
            let told = |drive: &FakeDrive| {
                (drive.tape().fixed, drive.tape().ends_vaguely) = (fixed, ends_vaguely);
                read_all(&mut reader(drive, 512)).1.unwrap_err().to_string()
            };
            let drive = FakeDrive::default();
            assert!(told(&drive).contains("the tape is blank"), "{}", told(&drive));
            let drive = tape(&[512]);
            drive.tape().at = 2;
            assert!(told(&drive).contains("the end of data is here"), "{}", told(&drive));
            let drive = tape(&[]);
            assert!(told(&drive).contains("a filemark is here"), "{}", told(&drive));
            let drive = tape(&[512]);
            drive.tape().items.pop();
            assert!(told(&drive).contains("the end of data is there, without a filemark"), "{}", told(&drive));
        }
    }

    #[test]
    fn a_bad_block_is_left_out() {
        for (passes_bad, tells_position, fixed) in [
            (false, false, 0),
            (true, false, 0),
            (false, true, 0),
            (true, true, 0),
            (true, true, 512),
            (false, false, 512),
        ] {
            let drive = tape(&[512; 9]);
            (drive.tape().passes_bad, drive.tape().tells_position, drive.tape().fixed) =
                (passes_bad, tells_position, fixed);
            drive.tape().bad = vec![3, 4];
            let mut reader = reader(&drive, 4 * 512);
            let mut numbers = Vec::new();
            for bad in [3, 4] {
                let (sizes, ending) = read_all_numbers(&mut reader);
                numbers.extend(sizes);
                let error = ending.unwrap_err().to_string();
                assert!(error.contains(&format!("at block {bad}")), "{error}");
                reader.pass_block().unwrap();
            }
            let (sizes, ending) = read_all_numbers(&mut reader);
            ending.unwrap();
            numbers.extend(sizes);
            assert_eq!(numbers, [0, 1, 2, 5, 6, 7, 8], "{passes_bad} {tells_position} {fixed}");
        }
    }

    /// All of a file: the numbers in its blocks, and how it ends.
    fn read_all_numbers(reader: &mut TapeReader) -> (Vec<u8>, Result<()>) {
        let mut numbers = Vec::new();
        loop {
            match reader.read(Vec::new()) {
                Ok(Some((bytes, each))) => numbers.extend(bytes.chunks(each).map(|block| block[0])),
                Ok(None) => return (numbers, Ok(())),
                Err(e) => return (numbers, Err(e)),
            }
        }
    }

    #[test]
    fn what_was_read_before_an_error_is_given_first() {
        let drive = tape(&[64, 64, 64]);
        drive.tape().bad = vec![2];
        let (sizes, ending) = read_all(&mut reader(&drive, 64));
        assert_eq!(sizes, [64, 64]);
        assert!(ending.unwrap_err().to_string().contains("reading \"/dev/nst0\" at block 2"));
    }
}
