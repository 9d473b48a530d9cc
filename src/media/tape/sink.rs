//! The writing side of a tape: each write one block, a filemark at the end, and from one volume to
//! the next. Where an interrupted archive goes on is found by [`crate::media::tape::locate`].
//!
//! A write(2) that succeeds only means that the drive has the block in its buffer; the error may
//! come with a later operation (st(4)). So [`Drive`] tells two figures: what was accepted, and what
//! was on the tape when the drive last brought all to it: at the end, at the end of a volume, and
//! every so many bytes if a ledger is kept (`MTWEOF` with a count of 0, which reaches the drive as
//! WRITE FILEMARKS of none and waits for its buffer).
//!
//! At the end of a tape a write fails with ENOSPC and has written nothing; what was accepted before
//! still goes onto the tape, and so does a filemark.

use std::{
    fs::File,
    io::{self, ErrorKind, Write},
    os::{fd::IntoRawFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
};

use nix::{errno::Errno, libc};

use crate::{
    error::{Context, Error, Result, io_reason},
    log,
    media::{
        sink::{GivenUp, Sink, Volume, Volumes},
        tape::{
            changer::{Changer, label_block},
            mtio::{self, Op},
        },
    },
    signal,
    util::units::grouped,
};

/// How a tape is written.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub changer: Changer,
    /// Each volume begins with a block that holds this.
    pub label: Option<String>,
    /// Bring all to the tape each time so many bytes were accepted; 0: only at the end.
    pub interval: u64,
    /// Pad the last block with zeros: harmless behind a TAR archive, wrong behind anything else.
    pub pad: bool,
}

pub struct Drive {
    /// `None` once it was closed.
    file: Option<File>,
    /// Only with it can a tape be changed.
    path: Option<PathBuf>,
    name: String,
    options: Options,
    /// The drive's fixed size of blocks; 0 if each write is a block of its size.
    fixed: u32,
    /// Bytes of a block on the tape.
    size: u32,
    /// Number of the volume that is in the drive.
    volume: usize,
    volumes: Volumes,
    /// Blocks written to this volume.
    blocks: u64,
    accepted: u64,
    sure: u64,
    /// Something was written since a filemark.
    open_end: bool,
    /// What comes next goes to another tape.
    full: bool,
}

impl Drive {
    /// A drive that is open for writing. Without `path` its tape cannot be changed.
    pub fn new(file: File, path: Option<&Path>, name: String, options: Options) -> Drive {
        Drive {
            file: Some(file),
            path: path.map(Path::to_path_buf),
            name,
            options,
            fixed: 0,
            size: 0,
            volume: 1,
            volumes: Volumes::default(),
            blocks: 0,
            accepted: 0,
            sure: 0,
            open_end: false,
            full: false,
        }
    }

    fn file(&self) -> Result<&File> {
        self.file.as_ref().ok_or_else(|| Error::new("it is closed").doing(&self.name))
    }

    /// Looks whether the drive takes writes of `block` bytes.
    fn examine(&mut self, block: usize) -> Result<()> {
        let file = self.file()?;
        let status = mtio::status(file).doing(|| format!("asking {} for its status", self.name))?;
        let limits = mtio::limits(file);
        let size = grouped(block as u64);
        match status.block_size {
            0 => {
                if let Some(limits) = limits.filter(|l| !(l.least as usize..=l.most as usize).contains(&block)) {
                    let why = format!("--block-size: the drive takes blocks of {limits}, and not of {size} bytes");
                    return Err(Error::usage(why).doing(&self.name));
                }
            }
            fixed if block.is_multiple_of(fixed as usize) => {}
            fixed => {
                let limits = limits.map_or(String::new(), |limits| format!(" (it could take {limits})"));
                let why = format!(
                    "--block-size: the drive is set to blocks of {} bytes{limits}, and writes of {size} bytes are no multiple of that",
                    grouped(fixed.into())
                );
                let hint = "give another --block-size, or set the drive with mt(1): mt setblk 0 for any size";
                return Err(Error::usage(why).doing(&self.name).hint(hint));
            }
        }
        self.fixed = status.block_size;
        self.size = if self.fixed > 0 { self.fixed } else { u32::try_from(block).unwrap_or(u32::MAX) };
        Ok(())
    }

    /// Begins the volume that is in the drive: with a label if there is to be one.
    fn begin_volume(&mut self) -> Result<()> {
        if let Some(text) = &self.options.label {
            let block = label_block(text, self.volume, self.fixed as usize);
            write_whole(self.file()?, &block).doing(|| format!("writing the label to {}", self.name))?;
            self.open_end = true;
        }
        let status = mtio::status(self.file()?).doing(|| format!("asking {} for its status", self.name))?;
        self.blocks = 0;
        self.volumes.push(Volume {
            number: self.volume,
            offset: self.accepted,
            file: status.file,
            block: status.block,
            position: mtio::position(self.file()?).and_then(|at| at.try_into().ok()),
            size: self.size,
            blocks: 0,
        });
        Ok(())
    }

    /// Goes on with a volume whose beginning `volume` tells, at offset `from` of the stream: the drive
    /// stands in front of that block. As long as nothing is written, the tape stays as it is.
    pub fn go_on(&mut self, volume: Volume, from: u64) {
        (self.volume, self.accepted, self.sure) = (volume.number, from, from);
        self.blocks = (from - volume.offset) / u64::from(volume.size.max(1));
        self.volumes.push(volume);
    }

    /// One write, of which the driver took `n` bytes.
    fn took(&mut self, n: usize, stream: usize) {
        self.accepted += n.min(stream) as u64;
        self.blocks += if self.fixed > 0 { n as u64 / u64::from(self.fixed) } else { 1 };
        self.open_end = true;
        self.volumes.count(self.blocks);
    }

    /// Bytes of a write that are on the tape though it was refused at the end of it, as the drive's address
    /// tells. (The driver believes what the drive says was left of it.)
    fn taken_after_all(&self, bytes: usize) -> Result<usize> {
        let first = self.volumes.all().last().and_then(|volume| volume.position).map(u64::from);
        let (Some(first), Some(at)) = (first, mtio::position(self.file()?)) else { return Ok(0) };
        let more = at.saturating_sub(first + self.blocks);
        let each = if self.fixed > 0 { u64::from(self.fixed) } else { bytes as u64 };
        Ok(more.checked_mul(each).and_then(|taken| usize::try_from(taken).ok()).filter(|n| *n <= bytes).unwrap_or(0))
    }

    /// A ledger must not go by the drive's addresses if they do not count blocks.
    fn check_position(&self) -> Result<()> {
        let first = self.volumes.all().last().and_then(|volume| volume.position).map(u64::from);
        if let Some(first) = first
            && mtio::position(self.file()?) != Some(first + self.blocks)
        {
            log::debug(format_args!("{}: the drive's addresses do not count blocks", self.name));
            self.volumes.forget_position();
        }
        Ok(())
    }

    fn write(&mut self, mut rest: &[u8], mut stream: usize, given_up: GivenUp) -> Result<()> {
        while !rest.is_empty() {
            if self.full {
                self.next_volume()?;
            }
            match self.file()?.write(rest) {
                Ok(0) => return Err(self.failed("the drive took no bytes")),
                // In fixed-block mode a write that meets the end of the tape is cut short.
                Ok(n) => {
                    self.took(n, stream);
                    (rest, stream) = (&rest[n..], stream.saturating_sub(n));
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {
                    signal::check()?;
                    if given_up() {
                        return Err(self.failed("the run was given up"));
                    }
                }
                Err(e) if e.raw_os_error() == Some(libc::ENOSPC) => {
                    self.full = true;
                    let n = self.taken_after_all(rest.len())?;
                    if n > 0 {
                        self.took(n, stream);
                        (rest, stream) = (&rest[n..], stream.saturating_sub(n));
                    }
                }
                Err(e) => return Err(self.explained(&e)),
            }
        }
        Ok(())
    }

    fn failed(&self, why: &str) -> Error {
        Error::new(why).doing(format!("writing {} at {}", self.name, self.place()))
    }

    fn place(&self) -> String {
        let volume = if self.volume > 1 { format!("volume {}, ", self.volume) } else { String::new() };
        format!("{volume}block {} (offset {})", grouped(self.blocks), grouped(self.accepted))
    }

    fn explained(&self, error: &io::Error) -> Error {
        let failed = self.failed(&io_reason(error));
        match error.raw_os_error() {
            // Nothing of a block that the driver refuses reaches the drive.
            Some(libc::EINVAL | libc::EOVERFLOW | libc::ENOMEM) if self.blocks == 0 => failed.hint(format_args!(
                "the drive or its adapter may not take blocks of {} bytes; try a smaller --block-size",
                grouped(self.size.into())
            )),
            _ => failed,
        }
    }

    /// Brings all that was accepted to the tape.
    fn flush(&mut self) -> Result<()> {
        self.check_position()?;
        match mtio::operate(self.file()?, Op::WriteFilemarks, 0) {
            Ok(()) => self.sure = self.accepted,
            // The early warning: writes will tell.
            Err(Errno::ENOSPC) => {}
            Err(e) => return Err(self.failed(e.desc()).doing("bringing what the drive has in its buffer to the tape")),
        }
        Ok(())
    }

    /// Ends what stands on this tape with a filemark.
    fn end_volume(&mut self) -> Result<()> {
        if !self.open_end {
            return Ok(());
        }
        self.check_position()?;
        let file = self.file()?;
        // At the early warning the first try may be refused.
        let outcome = match mtio::operate(file, Op::WriteFilemarks, 1) {
            Err(Errno::ENOSPC) => mtio::operate(file, Op::WriteFilemarks, 1),
            other => other,
        };
        if let Err(e) = outcome {
            let sure =
                format!("only what was brought to it before, up to offset {}, is on it for sure", grouped(self.sure));
            return Err(self.failed(e.desc()).doing("writing the filemark").after(sure));
        }
        self.sure = self.accepted;
        self.open_end = false;
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        let Some(file) = self.file.take() else { return Ok(()) };
        // What was written may fail as late as this.
        nix::unistd::close(file.into_raw_fd()).doing(|| format!("closing {}", self.name))
    }

    /// The tape is full: ends it, and has it changed.
    fn next_volume(&mut self) -> Result<()> {
        if self.volume > 1 && self.blocks == 0 {
            return Err(self.failed("the tape took not one block").full());
        }
        let full = format!("the tape is full after {}", self.place());
        self.end_volume().doing(|| full.clone()).map_err(Error::full)?;
        let changer = self.options.changer.clone();
        let path = match &self.path {
            Some(path) if changer.is_there() => path.clone(),
            path => {
                let way = match path {
                    Some(_) => "with --volume-command, or at a terminal, it would go on with the next tape",
                    None => "a tape that is named, and not on standard output, could be changed",
                };
                return Err(Error::new(full).full().doing(format!("writing {}", self.name)).after(way));
            }
        };
        log::info(format_args!("{}: {full}", self.name));
        self.close()?;
        self.volume += 1;
        changer.change(&path, self.volume, "write").doing(|| full).map_err(Error::full)?;
        let volume = self.volume;
        let opening = || format!("opening {path:?} for volume {volume}");
        let file = open_options().open(&path).doing(opening)?;
        // A drive may forget with its tape what it was set to.
        if mtio::status(&file).doing(opening)?.block_size != self.fixed {
            mtio::operate(&file, Op::SetBlockSize, self.fixed).doing(opening)?;
        }
        (self.file, self.full) = (Some(file), false);
        self.begin_volume()
    }
}

/// How a drive is opened.
pub fn open_options() -> std::fs::OpenOptions {
    let mut options = File::options();
    options.write(true).custom_flags(libc::O_CLOEXEC);
    options
}

/// A write that must be taken whole.
fn write_whole(mut file: &File, block: &[u8]) -> Result<()> {
    loop {
        match file.write(block) {
            Ok(n) if n == block.len() => return Ok(()),
            Ok(_) => return Err(Error::new("the drive did not take it whole")),
            Err(e) if e.kind() == ErrorKind::Interrupted => signal::check()?,
            Err(e) => return Err(Error::new(io_reason(&e))),
        }
    }
}

impl Sink for Drive {
    fn begin(&mut self, block: usize, from: u64, _keep: u64, _expected: Option<u64>) -> Result<()> {
        self.examine(block)?;
        if mtio::rewinds(&self.file()?.metadata().doing(|| format!("examining {}", self.name))?) {
            log::warn(format_args!(
                "{} rewinds the tape when it is closed: what is written next stands over this; its node /dev/nst* does not rewind",
                self.name
            ));
        }
        match self.volumes.all().is_empty() {
            true => {
                (self.accepted, self.sure) = (from, from);
                self.begin_volume()
            }
            false => Ok(()),
        }
    }

    fn write_block(&mut self, block: &[u8], full: usize, given_up: GivenUp) -> Result<()> {
        let fixed = self.fixed as usize;
        let wanted = match block.len() {
            n if n == full => n,
            _ if self.options.pad => full,
            n if fixed > 0 => n.next_multiple_of(fixed),
            n => n,
        };
        if wanted == block.len() {
            self.write(block, block.len(), given_up)?;
        } else {
            if !self.options.pad {
                let zeros = grouped((wanted - block.len()) as u64);
                log::warn(format_args!("{}: the last block is padded with {zeros} zeros", self.name));
            }
            let mut padded = block.to_vec();
            padded.resize(wanted, 0);
            self.write(&padded, block.len(), given_up)?;
        }
        if self.options.interval > 0 && self.accepted - self.sure >= self.options.interval {
            self.flush()?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        if self.file.is_none() {
            return Ok(());
        }
        self.end_volume()?;
        self.close()
    }

    fn accepted(&self) -> u64 {
        self.accepted
    }

    fn sure(&self) -> u64 {
        self.sure
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn volumes(&self) -> Volumes {
        self.volumes.clone()
    }
}
