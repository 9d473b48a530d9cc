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
    /// So many blocks fit; then ENOSPC.
    pub capacity: Option<usize>,
    /// The size that the drive is set to; 0 for any.
    pub fixed: u32,
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
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        match self.items.get(self.at).cloned() {
            None => Ok(0),
            Some(Item::Mark) => {
                self.at += 1;
                Ok(0)
            }
            Some(Item::Block(bytes)) => {
                // The driver goes back in front of a block of the wrong size (st.c, st_read).
                if self.fixed > 0 && bytes.len() != self.fixed as usize {
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

    fn forward(&mut self, count: u32, over: impl Fn(&Item) -> bool) -> Result<(), Errno> {
        for _ in 0..count {
            match self.items.get(self.at) {
                Some(item) if over(item) => self.at += 1,
                _ => return Err(Errno::EIO),
            }
        }
        Ok(())
    }

    fn operate(&mut self, op: Op, count: u32) -> Result<(), Errno> {
        match op {
            Op::Rewind => self.at = 0,
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
                    while self.items.get(self.at).ok_or(Errno::EIO)? != &Item::Mark {
                        self.at += 1;
                    }
                    self.at += 1;
                }
            }
            Op::SetBlockSize => self.fixed = count,
            Op::Seek => {
                let to = count as usize;
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
        Ok(DriveStatus { file: Some(file), block: Some(block), block_size: tape.fixed })
    }

    fn position(&self) -> Option<u64> {
        let tape = self.tape();
        tape.tells_position.then_some(tape.at as u64)
    }

    fn limits(&self) -> Option<Limits> {
        self.tape().limits
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
        Ok(Box::new(self.0.pop_front().expect("it was changed")))
    }
}
