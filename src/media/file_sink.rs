//! Files, block devices, pipes and other streams as a [`Sink`]; tapes are [`crate::media::tape::sink`]'s.
//!
//! Regular files and block devices are written past the page cache (`O_DIRECT`) where the
//! filesystem takes it; pipes get the largest pipe that the kernel grants.

use std::io::{self, Seek, Write};

use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, FcntlArg, OFlag, fallocate, fcntl},
    libc,
    poll::PollFlags,
    sys::resource::{Resource, getrlimit},
};

use crate::{
    error::{Context, Error, Result},
    fd::{enlarge_pipe, wait_until},
    media::sink::{Sink, SinkStart},
    owned_file::OwnedFile,
    signal::{self, CancelToken},
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

/// A file, block device or stream that is written to.
pub struct FileSink {
    file: OwnedFile,
    kind: MediumKind,
    name: String,
    /// Whether it was opened by its name, and may be cut.
    is_ours: bool,
    /// Bytes of a whole block.
    block_size: usize,
    direct: bool,
    /// What the file had when room was taken behind its end, and is to have again if nothing comes of it.
    unbegun: Option<u64>,
    /// Room was taken behind the end of the file.
    reserved: bool,
    /// What stands in the file up to here stays, whatever is written.
    kept: u64,
    /// What bringing it to the disk failed with. The kernel tells such an error once (fsync(2)).
    unsynced: Option<Error>,
    /// Bytes that the kernel has accepted.
    accepted: u64,
    cancel: CancelToken,
}

impl FileSink {
    /// A file that is open for writing. It `is_ours` if it was opened by its name and may be cut.
    pub fn new(file: OwnedFile, kind: MediumKind, name: String, is_ours: bool) -> FileSink {
        FileSink {
            file,
            kind,
            name,
            is_ours,
            block_size: 0,
            direct: false,
            unbegun: None,
            reserved: false,
            kept: 0,
            unsynced: None,
            accepted: 0,
            cancel: CancelToken::default(),
        }
    }

    /// Reserves room behind the end of the file, so that its length still tells the truth.
    fn reserve(&mut self, expected: Option<u64>) -> Result<()> {
        let Some(len) = expected.and_then(|n| libc::off_t::try_from(n).ok()).filter(|&n| n > 0) else { return Ok(()) };
        // A limit on the size of files is met at the write that crosses it, too late.
        if getrlimit(Resource::RLIMIT_FSIZE).is_ok_and(|(most, _)| len as u64 > most) {
            let what = format!("reserving {} bytes for {}", grouped(len as u64), self.name);
            return Err(Error::from_errno(Errno::EFBIG).doing(what));
        }
        match fallocate(&*self.file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, len) {
            Err(Errno::EINTR) => signal::check(),
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
        let Ok(flags) = fcntl(&*self.file, FcntlArg::F_GETFL) else { return false };
        let mut flags = OFlag::from_bits_retain(flags);
        flags.set(OFlag::O_DIRECT, on);
        fcntl(&*self.file, FcntlArg::F_SETFL(flags)).is_ok()
    }

    fn clear_direct(&mut self) {
        self.direct = false;
        self.set_direct(false);
    }

    fn write(&mut self, mut rest: &[u8]) -> Result<()> {
        while !rest.is_empty() {
            match (&*self.file).write(rest) {
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
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    wait_until(&*self.file, PollFlags::POLLOUT);
                    self.cancel.check().map_err(|e| self.failed(e))?;
                }
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

impl Drop for FileSink {
    /// Gives back the room in a file that was never begun.
    fn drop(&mut self) {
        self.unbegun.into_iter().for_each(|length| drop(self.file.set_len(length)));
    }
}

impl Sink for FileSink {
    /// Reserves room in a regular file, beside what it holds.
    fn prepare(&mut self, start: &SinkStart) -> Result<()> {
        if self.is_cuttable() {
            self.unbegun = Some(self.file.metadata().doing(|| format!("examining {}", self.name))?.len());
            self.reserve(start.expected)?;
        }
        Ok(())
    }

    /// Cuts a regular file to the bytes that are still of use, reserves room up to the `expected`
    /// length, and picks the way in which the kernel takes the blocks best.
    fn begin(&mut self, start: &SinkStart) -> Result<()> {
        self.cancel = start.cancel.clone();
        self.block_size = start.block_size;
        self.file.keep();
        (self.unbegun, self.kept) = (None, start.preserve_until);
        let aligned = start.block_size.is_multiple_of(512);
        match self.kind {
            // Standard output may stand behind what a shell wrote before: only cut what we opened.
            MediumKind::File if self.is_ours => {
                let keep = start.preserve_until;
                let cut = self.file.set_len(keep).and_then(|()| (&*self.file).seek(io::SeekFrom::Start(start.from)));
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
            let _ = self.file.set_len(self.accepted.max(self.kept));
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

    fn needs_strokes(&self) -> bool {
        self.kind != MediumKind::File
    }

    fn name(&self) -> &str {
        &self.name
    }
}
