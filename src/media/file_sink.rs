//! The destination: what it is, and how blocks get onto it, but for tapes ([`crate::media::tape::sink`]).
//!
//! Regular files and block devices are written past the page cache (`O_DIRECT`) where the
//! filesystem takes it; pipes get the largest pipe that the kernel grants.

use std::{
    fs::File,
    io::{self, IsTerminal, Seek, Write},
    os::{fd::AsFd, unix::fs::FileTypeExt},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{self, FallocateFlags, FcntlArg, OFlag, fallocate, fcntl},
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::stat::Mode,
};

use crate::{
    error::{Context, Error, Result, io_reason},
    media::{
        sink::{GivenUp, Sink},
        tape::{
            mtio,
            sink::{self, Drive},
        },
    },
    signal,
    util::units,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    BlockDevice,
    Tape,
    /// A pipe, FIFO, socket or other character device.
    Stream,
}

/// A destination that is open for writing.
pub struct Device {
    file: File,
    kind: Kind,
    name: String,
    /// Set while an empty file of ours stands there that nobody asked to keep.
    created: Option<PathBuf>,
    direct: bool,
    /// Room was taken behind the end of the file.
    reserved: bool,
    /// What bringing it to the disk failed with. The kernel tells such an error once (fsync(2)).
    unsynced: Option<Error>,
    /// Bytes that the kernel has accepted.
    accepted: u64,
}

impl Device {
    /// Standard output.
    pub fn stdout() -> Result<Device> {
        let out = io::stdout();
        if out.is_terminal() {
            return Err(Error::usage("standard output is a terminal").hint("redirect it to a file or a pipe"));
        }
        let fd = out.as_fd().try_clone_to_owned().doing(|| "opening standard output")?;
        Device::new(File::from(fd), "standard output".into(), None)
    }

    /// Opens `path`, creating a regular file if nothing is there. Nothing is written or cut yet.
    ///
    /// # Errors
    /// A regular file that is not empty is refused without `force`.
    pub fn open(path: &Path, force: bool) -> Result<Device> {
        let opening = || format!("opening the destination {path:?}");
        let before = std::fs::metadata(path);
        if let Ok(meta) = &before
            && meta.is_file()
            && meta.len() > 0
            && !force
        {
            let why = format!(
                "it holds {} bytes already, and a second archive behind the first would be invisible",
                units::grouped(meta.len())
            );
            return Err(Error::new(why).doing(opening()).hint("--force writes over it"));
        }
        let file = open(path, OFlag::O_WRONLY | OFlag::O_CREAT).doing(opening)?;
        let created = before.is_err().then(|| path.to_path_buf());
        Device::new(file, format!("{path:?}"), created)
    }

    /// Opens the regular file at `path`, to go on with what it holds. Nothing is written or cut yet.
    pub fn reopen(path: &Path) -> Result<Device> {
        let opening = || format!("opening the destination {path:?}");
        let file = File::options().write(true).open(path).doing(opening)?;
        let device = Device::new(file, format!("{path:?}"), None)?;
        match device.kind {
            Kind::File => Ok(device),
            _ => Err(Error::new("it is no regular file, and only such can be resumed").doing(opening())),
        }
    }

    fn new(file: File, name: String, created: Option<PathBuf>) -> Result<Device> {
        let meta = file.metadata().doing(|| format!("examining {name}"))?;
        let kind = match meta.file_type() {
            t if t.is_file() => Kind::File,
            t if t.is_block_device() => Kind::BlockDevice,
            _ if mtio::is_tape(&meta) => Kind::Tape,
            _ => Kind::Stream,
        };
        Ok(Device { file, kind, name, created, direct: false, reserved: false, unsynced: None, accepted: 0 })
    }

    /// What takes the blocks: itself, or a drive if it is one, whose tape can be changed if `path`
    /// names it.
    pub fn into_sink(mut self, path: Option<&Path>, options: sink::Options) -> Result<Box<dyn Sink>> {
        if self.kind != Kind::Tape {
            return Ok(Box::new(self));
        }
        self.created = None;
        let file = self.file.try_clone().doing(|| format!("opening {}", self.name))?;
        Ok(Box::new(Drive::new(file, path, std::mem::take(&mut self.name), options)))
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Reserves room behind the end of the file, so that its length still tells the truth.
    fn reserve(&mut self, expected: Option<u64>) -> Result<()> {
        let Some(len) = expected.and_then(|n| libc::off_t::try_from(n).ok()).filter(|&n| n > 0) else { return Ok(()) };
        match fallocate(&self.file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, len) {
            Err(e @ (Errno::ENOSPC | Errno::EFBIG)) => {
                let what = format!("reserving {} bytes for {}", units::grouped(len as u64), self.name);
                Err(Error::new(e.desc()).doing(what))
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

    fn write(&mut self, mut rest: &[u8], given_up: GivenUp) -> Result<()> {
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(0) => return Err(self.failed("the device took no bytes")),
                Ok(n) => {
                    self.accepted += n as u64;
                    rest = &rest[n..];
                    if !rest.is_empty() && self.direct {
                        self.clear_direct();
                    }
                }
                // Whoever gave up the run ends a write that blocks, and has said why.
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {
                    signal::check()?;
                    if given_up() {
                        return Err(self.failed("the run was given up"));
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => wait_until(&self.file, PollFlags::POLLOUT),
                // Some filesystems take the flag and refuse the write.
                Err(e) if self.direct && e.raw_os_error() == Some(libc::EINVAL) => self.clear_direct(),
                Err(e) => return Err(self.failed(&io_reason(&e))),
            }
        }
        Ok(())
    }

    fn failed(&self, why: &str) -> Error {
        Error::new(why).doing(format!("writing {} at offset {}", self.name, units::grouped(self.accepted)))
    }
}

impl Sink for Device {
    /// Cuts a regular file to the `keep` bytes that are still of use, reserves room up to the
    /// `expected` length, and picks the way in which the kernel takes the blocks best.
    fn begin(&mut self, block: usize, from: u64, keep: u64, expected: Option<u64>) -> Result<()> {
        self.created = None;
        match self.kind {
            // Standard output may stand behind what a shell wrote before: only cut what we opened.
            Kind::File if self.name != "standard output" => {
                let cut = self.file.set_len(keep).and_then(|()| self.file.seek(io::SeekFrom::Start(from)));
                cut.doing(|| format!("cutting {} to {} bytes", self.name, units::grouped(keep)))?;
                self.accepted = from;
                self.reserve(expected)?;
                self.direct = block.is_multiple_of(512) && self.set_direct(true);
            }
            Kind::BlockDevice => self.direct = block.is_multiple_of(512) && self.set_direct(true),
            Kind::Stream => enlarge_pipe(&self.file),
            _ => {}
        }
        Ok(())
    }

    fn write_block(&mut self, block: &[u8], full: usize, given_up: GivenUp) -> Result<()> {
        if self.direct && block.len() < full {
            self.clear_direct();
        }
        self.write(block, given_up)
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
        if matches!(self.kind, Kind::File | Kind::BlockDevice) {
            let synced = self.file.sync_data().doing(|| format!("bringing {} to the disk", self.name));
            self.unsynced = synced.as_ref().err().cloned();
            return synced;
        }
        Ok(())
    }

    /// Cuts a regular file that was opened by its name.
    fn cut(&mut self, length: u64) -> Result<()> {
        if self.kind != Kind::File || self.name == "standard output" {
            return Ok(());
        }
        self.file.set_len(length).doing(|| format!("cutting {} to {} bytes", self.name, units::grouped(length)))
    }

    fn accepted(&self) -> u64 {
        self.accepted
    }

    fn name(&self) -> &str {
        &self.name
    }
}

/// open(2), which a signal that asks to stop ends: a FIFO keeps it waiting for the other side, and the
/// standard library would go on waiting.
pub fn open(path: &Path, flags: OFlag) -> Result<File> {
    loop {
        match fcntl::open(path, flags | OFlag::O_CLOEXEC, Mode::from_bits_truncate(0o644)) {
            Err(Errno::EINTR) => signal::check()?,
            other => return other.map(File::from).map_err(|e| Error::new(e.desc())),
        }
    }
}

/// Waits a moment for a file that somebody has set to O_NONBLOCK.
pub fn wait_until(file: &File, ready: PollFlags) {
    let _ = poll(&mut [PollFd::new(file.as_fd(), ready)], PollTimeout::from(100u8));
}

/// Gives a pipe as much room as an unprivileged process may ask for (pipe(7)); for anything else
/// it does nothing.
pub fn enlarge_pipe(file: &File) {
    let _ = fcntl(file, FcntlArg::F_SETPIPE_SZ(1 << 20));
}

impl Drop for Device {
    /// A run that failed before its first byte leaves no empty file behind.
    fn drop(&mut self) {
        if let Some(path) = self.created.take().filter(|_| self.kind == Kind::File) {
            let _ = std::fs::remove_file(path);
        }
    }
}
