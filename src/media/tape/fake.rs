//! A tape drive in memory, for tests: blocks and filemarks, an end of the tape, and errors by script.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, MutexGuard},
};

use nix::{errno::Errno, libc};

use super::{
    drive::TapeDrive,
    mtio::{DriveStatus, Limits, Op},
    scsi::facts::DriveFacts,
    sink::Loader,
};
use crate::error::{Error, Result};

/// What stands on a tape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A block.
    Block(Vec<u8>),
    /// A filemark.
    Mark,
}

/// A tape, and the drive that it is in.
#[derive(Debug, Default)]
pub struct FakeTape {
    /// What stands on it.
    pub items: Vec<Item>,
    /// In front of which item it stands.
    pub at: usize,
    /// What the driver does not know of that, as st.c has it: after an error the block, after a seek the file, too.
    lost: (bool, bool),
    /// It has met the end of data, and has noticed.
    end_of_data: bool,
    /// It tells of the end of the medium.
    end_of_tape: bool,
    /// Behind the last block it tells of the end and not of how much was read, which the driver takes for all.
    pub ends_vaguely: bool,
    /// The driver counts blocks from here on: it was made to write out its buffer.
    pub counts_from: usize,
    /// The driver counts so many files more than there are: it has not heard that the tape was changed.
    pub stale_files: u32,
    /// So many blocks fit; then ENOSPC.
    pub capacity: Option<usize>,
    /// The size that the drive is set to; 0 for any.
    pub fixed: u32,
    /// What it knows of itself, the next time first; the last stays.
    pub facts: VecDeque<DriveFacts>,
    /// The sizes that it takes.
    pub limits: Option<Limits>,
    /// It answers READ POSITION.
    pub tells_position: bool,
    /// What the next writes fail with; `None` for one that does not.
    pub write_errors: VecDeque<Option<i32>>,
    /// What the next filemarks fail with.
    pub mark_errors: VecDeque<Option<Errno>>,
    /// What closing it fails with.
    pub close_error: Option<i32>,
    /// A write that is refused with ENOSPC is on the tape all the same.
    pub writes_despite_enospc: bool,
    /// Items that cannot be read.
    pub bad: Vec<usize>,
    /// A read that fails there has passed over one.
    pub passes_bad: bool,
    /// What was done, in order.
    pub calls: Vec<String>,
}

/// A drive; clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct FakeDrive(pub Arc<Mutex<FakeTape>>);

impl FakeDrive {
    /// With an empty tape of so many blocks.
    pub fn with_capacity(blocks: usize) -> FakeDrive {
        let drive = FakeDrive::default();
        drive.tape().capacity = Some(blocks);
        drive
    }

    /// The tape, to be looked at and changed.
    pub fn tape(&self) -> MutexGuard<'_, FakeTape> {
        self.0.lock().unwrap()
    }

    /// The blocks of each file, one behind the other.
    pub fn files(&self) -> Vec<Vec<u8>> {
        let mut files = vec![Vec::new()];
        for item in &self.tape().items {
            match item {
                Item::Block(bytes) => files.last_mut().unwrap().extend(bytes),
                Item::Mark => files.push(Vec::new()),
            }
        }
        files
    }
}

impl FakeTape {
    fn blocks(&self) -> usize {
        self.items.iter().filter(|item| matches!(item, Item::Block(_))).count()
    }

    /// File, and block in it.
    fn place(&self) -> (u32, u32) {
        let marks = self.items[..self.at].iter().filter(|item| **item == Item::Mark).count();
        let block = self.items[..self.at].iter().rev().take_while(|item| **item != Item::Mark).count();
        (marks as u32, block as u32)
    }

    fn put(&mut self, item: Item) {
        self.items.truncate(self.at);
        self.items.push(item);
        self.at += 1;
    }

    fn write(&mut self, block: &[u8]) -> io::Result<usize> {
        let error = self.write_errors.pop_front().flatten();
        let full = self.capacity.is_some_and(|capacity| self.blocks() >= capacity);
        if let Some(error) = error.or(full.then_some(libc::ENOSPC)) {
            if error == libc::ENOSPC && std::mem::take(&mut self.writes_despite_enospc) {
                self.put(Item::Block(block.to_vec()));
            }
            return Err(io::Error::from_raw_os_error(error));
        }
        let size = if self.fixed > 0 { self.fixed as usize } else { block.len() };
        block.chunks(size).for_each(|bytes| self.put(Item::Block(bytes.to_vec())));
        Ok(block.len())
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.bad.contains(&self.at) {
            self.at += usize::from(self.passes_bad);
            self.lost.0 = true;
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        if self.fixed > 0 && into.len() > self.fixed as usize {
            return self.read_several(into);
        }
        match self.items.get(self.at).cloned() {
            None if self.ends_vaguely => {
                let behind_mark = self.at > 0 && self.items[self.at - 1] == Item::Mark;
                (self.end_of_data, self.end_of_tape) = (behind_mark, !behind_mark);
                Ok(into.len())
            }
            // The driver takes only the first BLANK CHECK behind a filemark for the end.
            None if self.at > 0 && self.items[self.at - 1] == Item::Mark => {
                self.end_of_data = true;
                Ok(0)
            }
            None => {
                self.lost.0 = true;
                Err(io::Error::from_raw_os_error(libc::EIO))
            }
            Some(Item::Mark) => {
                self.at += 1;
                self.lost.0 = false;
                Ok(0)
            }
            Some(Item::Block(bytes)) => {
                // The driver goes back in front of a block of the wrong size (st.c, st_read).
                if self.fixed > 0 && bytes.len() != self.fixed as usize {
                    self.lost.0 = true;
                    return Err(io::Error::from_raw_os_error(libc::EIO));
                }
                self.at += 1;
                // The tape has passed it (st(4)).
                let room = into.get_mut(..bytes.len()).ok_or(io::Error::from_raw_os_error(libc::ENOMEM))?;
                room.copy_from_slice(&bytes);
                Ok(bytes.len())
            }
        }
    }

    /// One read in fixed-block mode; it fails as a whole if a block does.
    fn read_several(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        for piece in into.chunks_mut(self.fixed as usize) {
            // What ends a read that gave something is met by the next one.
            if filled > 0 && !matches!(self.items.get(self.at), Some(Item::Block(_))) {
                break;
            }
            match self.read(piece) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) => return Err(e),
            }
        }
        Ok(filled)
    }

    fn forward(&mut self, count: u32, over: impl Fn(&Item) -> bool) -> Result<(), Errno> {
        for _ in 0..count {
            match self.items.get(self.at) {
                Some(item) if over(item) => self.at += 1,
                // The driver notices a BLANK CHECK.
                None => {
                    self.end_of_data = !self.ends_vaguely;
                    return Err(Errno::EIO);
                }
                _ => return Err(Errno::EIO),
            }
        }
        Ok(())
    }

    fn operate(&mut self, op: Op, count: u32) -> Result<(), Errno> {
        (self.end_of_data, self.end_of_tape) = (false, false);
        match op {
            Op::Rewind => {
                (self.at, self.lost) = (0, (false, false));
                (self.stale_files, self.counts_from) = (0, 0);
            }
            Op::WriteFilemarks => {
                if let Some(Some(error)) = self.mark_errors.pop_front() {
                    return Err(error);
                }
                (0..count).for_each(|_| self.put(Item::Mark));
            }
            Op::ForwardBlocks => return self.forward(count, |item| *item != Item::Mark),
            Op::BackwardBlocks => self.at = self.at.saturating_sub(count as usize),
            Op::ForwardFiles => {
                for _ in 0..count {
                    while self.items.get(self.at) != Some(&Item::Mark) {
                        if self.at == self.items.len() {
                            self.lost.0 = true;
                            self.end_of_data = !self.ends_vaguely;
                            return Err(Errno::EIO);
                        }
                        self.at += 1;
                    }
                    self.at += 1;
                    self.lost.0 = false;
                }
            }
            Op::SetBlockSize => self.fixed = count,
            Op::Seek => {
                let to = count as usize;
                self.lost = (true, true);
                self.at = to.min(self.items.len());
                if to > self.items.len() {
                    return Err(Errno::EIO);
                }
            }
        }
        Ok(())
    }
}

impl TapeDrive for FakeDrive {
    fn write(&mut self, block: &[u8]) -> io::Result<usize> {
        let mut tape = self.tape();
        tape.calls.push(format!("write {}", block.len()));
        tape.write(block)
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.tape().read(into)
    }

    fn operate(&mut self, op: Op, count: u32) -> Result<(), Errno> {
        let mut tape = self.tape();
        tape.calls.push(format!("{op:?} {count}"));
        tape.operate(op, count)
    }

    fn status(&self) -> Result<DriveStatus, Errno> {
        let tape = self.tape();
        let (file, block) = tape.place();
        let block = if tape.counts_from > 0 { tape.at.saturating_sub(tape.counts_from) as u32 } else { block };
        let (file, block) = (file + tape.stale_files, Some(block).filter(|_| !tape.lost.0));
        let file = Some(file).filter(|_| !tape.lost.1);
        let (end_of_data, end_of_tape) = (tape.end_of_data, tape.end_of_tape);
        Ok(DriveStatus { file, block, block_size: tape.fixed, end_of_data, end_of_tape })
    }

    fn position(&self) -> Option<u64> {
        let tape = self.tape();
        tape.tells_position.then_some(tape.at as u64)
    }

    fn limits(&self) -> Option<Limits> {
        self.tape().limits
    }

    fn facts(&self) -> DriveFacts {
        let mut tape = self.tape();
        match tape.facts.len() {
            0 => DriveFacts::default(),
            1 => tape.facts[0].clone(),
            _ => tape.facts.pop_front().unwrap_or_default(),
        }
    }

    fn can_read(&self) -> bool {
        true
    }

    fn rewinds_on_close(&self) -> bool {
        false
    }

    fn close(self: Box<Self>) -> io::Result<()> {
        let mut tape = self.tape();
        tape.calls.push("close".into());
        tape.close_error.take().map_or(Ok(()), |error| Err(io::Error::from_raw_os_error(error)))
    }
}

/// Puts in one tape after the other.
pub struct FakeLoader(pub VecDeque<FakeDrive>);

impl Loader for FakeLoader {
    fn can_change(&self) -> bool {
        !self.0.is_empty()
    }

    fn change(&mut self, volume: usize) -> Result<()> {
        self.0.front().map(drop).ok_or_else(|| Error::new(format!("there is no volume {volume}")))
    }

    fn open(&mut self, _: usize) -> Result<Box<dyn TapeDrive>> {
        let drive = self.0.pop_front().expect("it was changed");
        // A tape is put in at its beginning.
        drive.tape().at = 0;
        Ok(Box::new(drive))
    }
}
