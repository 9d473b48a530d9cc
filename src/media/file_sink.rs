//! Files, block devices, pipes and other streams as a [`Sink`]; tapes are [`crate::media::tape::sink`]'s.
//!
//! Regular files and block devices are written past the page cache (`O_DIRECT`) where the
//! filesystem takes it; pipes get the largest pipe that the kernel grants.

use std::{
    fs::File,
    io::{self, Seek, Write},
    path::PathBuf,
};

use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, FcntlArg, OFlag, fallocate, fcntl},
    libc,
    poll::PollFlags,
};

use crate::{
    error::{Context, Error, Result},
    media::{
        fd::{enlarge_pipe, wait_until},
        sink::{Sink, SinkStart},
    },
    signal::CancelToken,
    util::units::grouped,
};

/// What a destination is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediumKind {
    /// A regular file.
    File,
    /// A disk or partition.
    BlockDevice,
    /// A SCSI tape.
    Tape,
    /// A pipe, FIFO, socket or other character device.
    Stream,
}

/// An empty file that this run has made, taken away again unless it is kept.
#[derive(Debug)]
pub struct CreatedFile(Option<PathBuf>);

impl CreatedFile {
    /// The file at `path`, where nothing was before.
    pub fn new(path: PathBuf) -> CreatedFile {
        CreatedFile(Some(path))
    }

    /// It is written to, and stays.
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for CreatedFile {
    /// A run that failed before its first byte leaves no empty file behind.
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(|path| drop(std::fs::remove_file(path)));
    }
}

/// A file, block device or stream that is written to.
pub struct FileSink {
    file: File,
    kind: MediumKind,
    name: String,
    /// Whether it was opened by its name, and may be cut.
    is_ours: bool,
    /// Set while an empty file of ours stands there that nobody asked to keep.
    created: Option<CreatedFile>,
    /// Bytes of a whole block.
    block_size: usize,
    direct: bool,
    /// Room was taken behind the end of the file.
    reserved: bool,
    /// What bringing it to the disk failed with. The kernel tells such an error once (fsync(2)).
    unsynced: Option<Error>,
    /// Bytes that the kernel has accepted.
    accepted: u64,
    cancel: CancelToken,
}

impl FileSink {
    /// A file that is open for writing. It `is_ours` if it was opened by its name and may be cut.
    pub fn new(file: File, kind: MediumKind, name: String, is_ours: bool, created: Option<CreatedFile>) -> FileSink {
        FileSink {
            file,
            kind,
            name,
            is_ours,
            created,
            block_size: 0,
            direct: false,
            reserved: false,
            unsynced: None,
            accepted: 0,
            cancel: CancelToken::default(),
        }
    }

    /// Reserves room behind the end of the file, so that its length still tells the truth.
    fn reserve(&mut self, expected: Option<u64>) -> Result<()> {
        let Some(len) = expected.and_then(|n| libc::off_t::try_from(n).ok()).filter(|&n| n > 0) else { return Ok(()) };
        match fallocate(&self.file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, len) {
            Err(e @ (Errno::ENOSPC | Errno::EFBIG)) => {
                let what = format!("reserving {} bytes for {}", grouped(len as u64), self.name);
                Err(Error::from_errno(e).doing(what))
            }
            // A file system without this is written as it comes.
            outcome => {
                self.reserved = outcome.is_ok();
                Ok(())
            }
        }
    }

    fn set_direct(&self, on: bool) -> bool {
        let Ok(flags) = fcntl(&self.file, FcntlArg::F_GETFL) else { return false };
        let mut flags = OFlag::from_bits_retain(flags);
        flags.set(OFlag::O_DIRECT, on);
        fcntl(&self.file, FcntlArg::F_SETFL(flags)).is_ok()
    }

    fn clear_direct(&mut self) {
        self.direct = false;
        self.set_direct(false);
    }

    fn write(&mut self, mut rest: &[u8]) -> Result<()> {
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(0) => return Err(self.failed(Error::new("the device took no bytes"))),
                Ok(n) => {
                    self.accepted += n as u64;
                    rest = &rest[n..];
                    if !rest.is_empty() && self.direct {
                        self.clear_direct();
                    }
                }
                // Whoever gave up the run ends a write that blocks, and has said why.
                Err(e) if e.kind() == io::ErrorKind::Interrupted => self.cancel.check().map_err(|e| self.failed(e))?,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => wait_until(&self.file, PollFlags::POLLOUT),
                // Some filesystems take the flag and refuse the write.
                Err(e) if self.direct && e.raw_os_error() == Some(libc::EINVAL) => self.clear_direct(),
                Err(e) => return Err(self.failed(Error::from_io(e))),
            }
        }
        Ok(())
    }

    fn failed(&self, why: Error) -> Error {
        // A signal is no failure of the device.
        match why.is_signal() {
            true => why,
            false => why.doing(format!("writing {} at offset {}", self.name, grouped(self.accepted))),
        }
    }

    fn is_cuttable(&self) -> bool {
        self.kind == MediumKind::File && self.is_ours
    }
}

impl Sink for FileSink {
    /// Cuts a regular file to the bytes that are still of use, reserves room up to the `expected`
    /// length, and picks the way in which the kernel takes the blocks best.
    fn begin(&mut self, start: &SinkStart) -> Result<()> {
        self.created.take().into_iter().for_each(CreatedFile::keep);
        self.cancel = start.cancel.clone();
        self.block_size = start.block_size;
        let aligned = start.block_size.is_multiple_of(512);
        match self.kind {
            // Standard output may stand behind what a shell wrote before: only cut what we opened.
            MediumKind::File if self.is_ours => {
                let keep = start.preserve_until;
                let cut = self.file.set_len(keep).and_then(|()| self.file.seek(io::SeekFrom::Start(start.from)));
                cut.doing(|| format!("cutting {} to {} bytes", self.name, grouped(keep)))?;
                self.accepted = start.from;
                self.reserve(start.expected)?;
                self.direct = aligned && self.set_direct(true);
            }
            MediumKind::BlockDevice => self.direct = aligned && self.set_direct(true),
            MediumKind::Stream => enlarge_pipe(&self.file),
            MediumKind::File | MediumKind::Tape => {}
        }
        Ok(())
    }

    fn write_block(&mut self, block: &[u8]) -> Result<()> {
        if self.direct && block.len() < self.block_size {
            self.clear_direct();
        }
        self.write(block)
    }

    /// Brings what was accepted to a regular file's disk, whole or not, and gives back the room
    /// that was reserved and not used.
    fn finish(&mut self) -> Result<()> {
        if let Some(failed) = &self.unsynced {
            return Err(failed.clone());
        }
        if self.reserved {
            let _ = self.file.set_len(self.accepted);
        }
        if matches!(self.kind, MediumKind::File | MediumKind::BlockDevice) {
            let synced = self.file.sync_data().doing(|| format!("bringing {} to the disk", self.name));
            self.unsynced = synced.as_ref().err().cloned();
            return synced;
        }
        Ok(())
    }

    /// Cuts a regular file that was opened by its name.
    fn cut(&mut self, length: u64) -> Result<()> {
        if !self.is_cuttable() {
            return Ok(());
        }
        self.file.set_len(length).doing(|| format!("cutting {} to {} bytes", self.name, grouped(length)))
    }

    fn accepted(&self) -> u64 {
        self.accepted
    }

    fn name(&self) -> &str {
        &self.name
    }
}
