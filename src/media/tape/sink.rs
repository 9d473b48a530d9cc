//! The writing side of a tape: each write one block, a filemark at the end, and from one volume to
//! the next. Where an interrupted archive goes on is found by [`super::locate`].
//!
//! A write(2) that succeeds only means that the drive has the block in its buffer; the error may
//! come with a later operation (st(4)). So [`TapeSink`] tells two figures: what was accepted, and what
//! was on the tape when the drive last brought all to it: at the end, at the end of a volume, and
//! every so many bytes if a checkpoint is kept (`MTWEOF` with a count of 0, which reaches the drive as
//! WRITE FILEMARKS of none and waits for its buffer).
//!
//! At the end of a tape a write fails with ENOSPC and has written nothing; what was accepted before
//! still goes onto the tape, and so does a filemark.

use std::{
    io::{self, ErrorKind as IoErrorKind},
    path::PathBuf,
};

use nix::{errno::Errno, libc};

use super::{
    cartridge::WantedVolume,
    changer::Changer,
    drive::{StDrive, TapeDrive},
    label::label_block,
    locate::Place,
    mtio::Op,
    watch::{DriveDemands, DriveWatch, tell_change},
};
use crate::{
    error::{Context, Error, ErrorKind, Result},
    log,
    media::sink::{KnownBlock, Sink, SinkStart, Volume, Volumes},
    signal::{self, CancelToken},
    util::units::grouped,
};

/// How a tape is written.
#[derive(Clone, Debug, Default)]
pub struct TapeOptions {
    /// Who puts in the next volume.
    pub changer: Changer,
    /// Each volume begins with a block that holds this.
    pub label: Option<String>,
    /// Bring all to the tape each time so many bytes were accepted; 0: only at the end.
    pub sync_interval: u64,
    /// Write over the label of another series.
    pub force: bool,
    /// The drive is asked what it knows, before and behind each volume.
    pub asks_drive: bool,
    /// What is asked of the drive before the first byte.
    pub demands: DriveDemands,
    /// Pad the last block with zeros: harmless behind a TAR archive, wrong behind anything else.
    pub pad: bool,
}

/// Has the tape in a drive changed, and opens the drive again.
pub trait Loader: Send {
    /// Whether there is anybody to change a tape.
    fn can_change(&self) -> bool;

    /// Has volume number `volume` put into the drive, which is closed.
    ///
    /// # Errors
    /// If nobody does.
    fn change(&mut self, volume: usize) -> Result<()>;

    /// Opens the drive with volume number `volume` in it.
    ///
    /// # Errors
    /// If it cannot be opened.
    fn open(&mut self, volume: usize) -> Result<Box<dyn TapeDrive>>;
}

/// Changes tapes by a [`Changer`] in the drive of a name.
pub struct DriveLoader {
    path: PathBuf,
    changer: Changer,
}

impl DriveLoader {
    /// For the drive at `path`.
    pub fn boxed(path: PathBuf, changer: Changer) -> Box<dyn Loader> {
        Box::new(DriveLoader { path, changer })
    }
}

impl Loader for DriveLoader {
    fn can_change(&self) -> bool {
        self.changer.is_there()
    }

    fn change(&mut self, volume: usize) -> Result<()> {
        self.changer.change(&self.path, volume, "write")
    }

    fn open(&mut self, volume: usize) -> Result<Box<dyn TapeDrive>> {
        let drive = StDrive::open(&self.path).doing(|| format!("opening {:?} for volume {volume}", self.path))?;
        Ok(Box::new(drive))
    }
}

/// A tape drive that is written to.
pub struct TapeSink {
    /// `None` once it was closed.
    drive: Option<Box<dyn TapeDrive>>,
    /// Only with it can a tape be changed.
    loader: Option<Box<dyn Loader>>,
    name: String,
    options: TapeOptions,
    cancel: CancelToken,
    /// Bytes of a whole block of the stream.
    whole_block: usize,
    /// The drive's fixed size of blocks; 0 if each write is a block of its size.
    fixed: u32,
    /// Bytes of a block on the tape.
    block_size: u32,
    /// Number of the volume that is in the drive.
    volume: usize,
    volumes: Volumes,
    /// Volumes that an earlier run has written.
    earlier: Vec<Volume>,
    /// Blocks written to this volume.
    blocks: u64,
    /// Those by which it will be known again: the first, and the last two.
    known: Vec<KnownBlock>,
    /// What the drive said before this volume.
    watch: Option<DriveWatch>,
    /// Where the tape stood when it was looked at.
    stood: Option<Place>,
    accepted: u64,
    synced: u64,
    /// Something was written since a filemark.
    needs_filemark: bool,
    /// What comes next goes to another tape.
    full: bool,
}

impl TapeSink {
    /// A drive that is open for writing. Without a loader its tape cannot be changed.
    pub fn new(
        drive: Box<dyn TapeDrive>,
        loader: Option<Box<dyn Loader>>,
        name: String,
        options: TapeOptions,
    ) -> TapeSink {
        TapeSink {
            drive: Some(drive),
            loader,
            name,
            options,
            cancel: CancelToken::default(),
            whole_block: 0,
            fixed: 0,
            block_size: 0,
            volume: 1,
            volumes: Volumes::default(),
            earlier: Vec::new(),
            blocks: 0,
            known: Vec::new(),
            watch: None,
            stood: None,
            accepted: 0,
            synced: 0,
            needs_filemark: false,
            full: false,
        }
    }

    /// Goes on with a volume whose beginning `volume` tells, at offset `from` of the stream: the drive
    /// stands in front of that block. As long as nothing is written, the tape stays as it is. `earlier` are the
    /// volumes before it.
    pub fn resume_at(&mut self, volume: Volume, from: u64, earlier: Vec<Volume>) {
        self.earlier = earlier;
        (self.volume, self.accepted, self.synced) = (volume.number, from, from);
        self.blocks = (from - volume.offset) / u64::from(volume.block_size.max(1));
        self.known = volume.known.iter().filter(|known| known.number < self.blocks).copied().collect();
        self.volumes.push(volume);
    }

    /// What the drive said before the tape was brought to its place: a question may take from the driver what it must hear.
    pub fn was_asked(&mut self, watch: DriveWatch) {
        self.watch = Some(watch);
    }

    fn drive(&mut self) -> Result<&mut dyn TapeDrive> {
        match &mut self.drive {
            Some(drive) => Ok(&mut **drive),
            None => Err(Error::new("it is closed").doing(&self.name)),
        }
    }

    /// Looks whether the drive takes writes of `block` bytes.
    fn examine(&mut self, block: usize) -> Result<()> {
        let name = self.name.clone();
        let drive = self.drive()?;
        let status = drive.status().doing(|| format!("asking {name} for its status"))?;
        let limits = drive.limits();
        let size = grouped(block as u64);
        match status.block_size {
            0 => {
                if let Some(limits) = limits.filter(|l| !(l.least as usize..=l.most as usize).contains(&block)) {
                    let why = format!("--block-size: the drive takes blocks of {limits}, and not of {size} bytes");
                    return Err(Error::usage(why).doing(name));
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
                return Err(Error::usage(why).doing(name).hint(hint));
            }
        }
        self.fixed = status.block_size;
        self.block_size = if self.fixed > 0 { self.fixed } else { u32::try_from(block).unwrap_or(u32::MAX) };
        Ok(())
    }

    /// Looks what the tape in the drive has where the volume is to begin.
    fn look_at_tape(&mut self) -> Result<()> {
        let (name, label) = (self.name.clone(), self.options.label.clone());
        let written = [self.earlier.clone(), self.volumes.all()].concat();
        let wanted = WantedVolume {
            drive: &name,
            number: self.volume,
            label: label.as_deref(),
            force: self.options.force,
            block: self.whole_block,
        };
        let drive = self.drive()?;
        self.stood = if drive.can_read() { Some(wanted.may_begin(drive, &written)?) } else { None };
        Ok(())
    }

    /// Begins the volume that is in the drive: with a label if there is to be one.
    fn begin_volume(&mut self) -> Result<()> {
        let name = self.name.clone();
        let mut place = self.stood.take();
        if let Some(text) = &self.options.label {
            let block = label_block(text, self.volume, self.fixed as usize);
            write_whole(self.drive()?, &block).doing(|| format!("writing the label to {name}"))?;
            self.needs_filemark = true;
            place = place.map(|place| place.ahead(1));
        }
        // At the end of data the driver may miscount once it was read there.
        let place = match place {
            Some(place) => Place { position: self.drive()?.position(), ..place },
            None => Place::of(self.drive()?).doing(|| format!("asking {name} for its status"))?,
        };
        self.blocks = 0;
        self.known.clear();
        self.volumes.push(Volume {
            number: self.volume,
            offset: self.accepted,
            file: place.file,
            block: place.block,
            position: place.position.and_then(|at| at.try_into().ok()),
            block_size: self.block_size,
            barcode: self.watch.as_ref().and_then(DriveWatch::barcode).map(String::from),
            ..Volume::default()
        });
        Ok(())
    }

    /// Asks the drive what it knows, unless that was done.
    fn ask_drive(&mut self) -> Result<&DriveWatch> {
        let watch = match self.watch.take() {
            Some(asked) => asked,
            None => DriveWatch::begin(self.drive()?),
        };
        watch.tell_alerts(&self.name);
        Ok(self.watch.insert(watch))
    }

    /// Asks the drive what became of it and of its cartridge.
    fn note_change(&mut self) {
        let (Some(watch), Some(drive)) = (self.watch.take(), &self.drive) else { return };
        let change = watch.end(&**drive);
        tell_change(&self.name, &change);
        // Of a cartridge that was put in and not begun there is nothing to keep.
        if self.volumes.all().last().is_some_and(|last| last.number == self.volume) {
            self.volumes.changed(change);
        }
    }

    /// The driver took these bytes, `stream` of them of the stream at the most.
    fn took(&mut self, bytes: &[u8], stream: usize) {
        self.accepted += bytes.len().min(stream) as u64;
        let each = if self.fixed > 0 { bytes.len().min(self.fixed as usize) } else { bytes.len() };
        if self.blocks == 0 {
            self.known = vec![KnownBlock::of(0, &bytes[..each])];
        }
        self.blocks += (bytes.len() / each) as u64;
        if self.blocks > 1 {
            if self.known.len() > 2 {
                self.known.remove(1);
            }
            self.known.push(KnownBlock::of(self.blocks - 1, &bytes[bytes.len() - each..]));
        }
        self.needs_filemark = true;
        self.volumes.count(self.blocks);
    }

    /// The drive's address of the block at which the stream begins on this volume.
    fn first_position(&self) -> Option<u64> {
        self.volumes.all().last().and_then(|volume| volume.position).map(u64::from)
    }

    /// Bytes of a write that are on the tape though it was refused at the end of it, as the drive's
    /// address tells. (The driver believes what the drive says was left of it.)
    fn written_despite_enospc(&mut self, bytes: usize) -> Result<usize> {
        let (Some(first), Some(at)) = (self.first_position(), self.drive()?.position()) else { return Ok(0) };
        let more = at.saturating_sub(first + self.blocks);
        let each = if self.fixed > 0 { u64::from(self.fixed) } else { bytes as u64 };
        Ok(more.checked_mul(each).and_then(|taken| usize::try_from(taken).ok()).filter(|n| *n <= bytes).unwrap_or(0))
    }

    /// A checkpoint must not go by the drive's addresses if they do not count blocks.
    fn check_position(&mut self) -> Result<()> {
        if let Some(first) = self.first_position()
            && self.drive()?.position() != Some(first + self.blocks)
        {
            log::debug(format_args!("{}: the drive's addresses do not count blocks", self.name));
            self.volumes.forget_position();
        }
        Ok(())
    }

    /// Writes what is a block, or several; the first `stream` bytes of it are the stream's.
    fn write(&mut self, mut rest: &[u8], mut stream: usize) -> Result<()> {
        while !rest.is_empty() {
            if self.full {
                self.next_volume()?;
            }
            match self.drive()?.write(rest) {
                Ok(0) => return Err(self.failed(Error::new("the drive took no bytes"))),
                // In fixed-block mode a write that meets the end of the tape is cut short.
                Ok(n) => {
                    self.took(&rest[..n], stream);
                    (rest, stream) = (&rest[n..], stream.saturating_sub(n));
                }
                Err(e) if e.kind() == IoErrorKind::Interrupted => self.cancel.check().map_err(|e| self.failed(e))?,
                Err(e) if e.raw_os_error() == Some(libc::ENOSPC) => {
                    self.full = true;
                    let n = self.written_despite_enospc(rest.len())?;
                    if n > 0 {
                        self.took(&rest[..n], stream);
                        (rest, stream) = (&rest[n..], stream.saturating_sub(n));
                    }
                }
                Err(e) => return Err(self.explained(e)),
            }
        }
        Ok(())
    }

    fn failed(&self, why: Error) -> Error {
        match why.is_signal() {
            true => why,
            false => why.doing(format!("writing {} at {}", self.name, self.place())),
        }
    }

    fn place(&self) -> String {
        let volume = if self.volume > 1 { format!("volume {}, ", self.volume) } else { String::new() };
        format!("{volume}block {} (offset {})", grouped(self.blocks), grouped(self.accepted))
    }

    fn explained(&self, error: io::Error) -> Error {
        let refused = matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOVERFLOW | libc::ENOMEM));
        let failed = self.failed(Error::from_io(error));
        match refused && self.blocks == 0 {
            // Nothing of a block that the driver refuses reaches the drive.
            true => failed.hint(format_args!(
                "the drive or its adapter may not take blocks of {} bytes; try a smaller --block-size",
                grouped(self.block_size.into())
            )),
            false => failed,
        }
    }

    /// Brings all that was accepted to the tape.
    fn flush(&mut self) -> Result<()> {
        self.check_position()?;
        match self.drive()?.operate(Op::WriteFilemarks, 0) {
            Ok(()) => self.is_synced(),
            // The early warning: writes will tell.
            Err(Errno::ENOSPC) => {}
            Err(e) => {
                let failed = self.failed(Error::from_errno(e));
                return Err(failed.doing("bringing what the drive has in its buffer to the tape"));
            }
        }
        Ok(())
    }

    /// All that was accepted is on the tape.
    fn is_synced(&mut self) {
        self.synced = self.accepted;
        self.volumes.know(&self.known);
    }

    /// Ends what stands on this tape with a filemark.
    fn end_volume(&mut self) -> Result<()> {
        if !self.needs_filemark {
            return Ok(());
        }
        self.check_position()?;
        let drive = self.drive()?;
        // At the early warning the first try may be refused.
        let outcome = match drive.operate(Op::WriteFilemarks, 1) {
            Err(Errno::ENOSPC) => drive.operate(Op::WriteFilemarks, 1),
            other => other,
        };
        if let Err(e) = outcome {
            let synced =
                format!("only what was brought to it before, up to offset {}, is on it for sure", grouped(self.synced));
            return Err(self.failed(Error::from_errno(e)).doing("writing the filemark").after(synced));
        }
        self.is_synced();
        self.needs_filemark = false;
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        let Some(drive) = self.drive.take() else { return Ok(()) };
        // What was written may fail as late as this.
        drive.close().doing(|| format!("closing {}", self.name))
    }

    /// The tape is full: ends it, and has it changed.
    fn next_volume(&mut self) -> Result<()> {
        let is_full = |e: Error| e.of(ErrorKind::Full);
        if self.volume > 1 && self.blocks == 0 {
            return Err(is_full(self.failed(Error::new("the tape took not one block"))));
        }
        let full = format!("the tape is full after {}", self.place());
        let ended = self.end_volume();
        self.note_change();
        ended.doing(|| full.clone()).map_err(is_full)?;
        if !self.loader.as_ref().is_some_and(|loader| loader.can_change()) {
            let way = match &self.loader {
                Some(_) => "with --volume-command, or at a terminal, it would go on with the next tape",
                None => "a tape that is named, and not on standard output, could be changed",
            };
            return Err(is_full(Error::new(full).doing(format!("writing {}", self.name)).after(way)));
        }
        log::info(format_args!("{}: {full}", self.name));
        self.close()?;
        self.volume += 1;
        let Some(loader) = &mut self.loader else { return Ok(()) };
        loader.change(self.volume).doing(|| full).map_err(is_full)?;
        let mut drive = loader.open(self.volume)?;
        let opening = || format!("opening {} for volume {}", self.name, self.volume);
        // A driver that has not heard of the change counts on from where the other tape stood.
        drive.operate(Op::Rewind, 1).doing(opening)?;
        // A drive may forget with its tape what it was set to.
        if drive.status().doing(opening)?.block_size != self.fixed {
            drive.operate(Op::SetBlockSize, self.fixed).doing(opening)?;
        }
        (self.drive, self.full) = (Some(drive), false);
        if self.options.asks_drive {
            let (name, demands) = (self.name.clone(), self.options.demands);
            self.ask_drive()?.check(&name, Some(0), DriveDemands { room: false, ..demands })?;
        }
        self.look_at_tape()?;
        self.begin_volume()
    }
}

/// A write that must be taken whole.
fn write_whole(drive: &mut dyn TapeDrive, block: &[u8]) -> Result<()> {
    loop {
        match drive.write(block) {
            Ok(n) if n == block.len() => return Ok(()),
            Ok(_) => return Err(Error::new("the drive did not take it whole")),
            Err(e) if e.kind() == IoErrorKind::Interrupted => signal::check()?,
            Err(e) => return Err(Error::from_io(e)),
        }
    }
}

impl Sink for TapeSink {
    /// Looks whether the drive takes the blocks, and what the tape has where the stream is to begin.
    fn prepare(&mut self, start: &SinkStart) -> Result<()> {
        self.whole_block = start.block_size;
        self.examine(start.block_size)?;
        if self.options.asks_drive {
            let (name, demands) = (self.name.clone(), self.options.demands);
            let left = start.expected.map(|all| all.saturating_sub(start.from));
            self.ask_drive()?.check(&name, left, demands)?;
        }
        if self.volumes.all().is_empty() { self.look_at_tape() } else { Ok(()) }
    }

    fn begin(&mut self, start: &SinkStart) -> Result<()> {
        self.cancel = start.cancel.clone();
        self.whole_block = start.block_size;
        self.examine(start.block_size)?;
        if self.drive()?.rewinds_on_close() {
            log::warn(format_args!(
                "{} rewinds the tape when it is closed: what is written next stands over this; its node /dev/nst* does not rewind",
                self.name
            ));
        }
        match self.volumes.all().is_empty() {
            true => {
                (self.accepted, self.synced) = (start.from, start.from);
                self.begin_volume()
            }
            false => Ok(()),
        }
    }

    fn write_block(&mut self, block: &[u8]) -> Result<()> {
        let fixed = self.fixed as usize;
        let wanted = match block.len() {
            n if n == self.whole_block => n,
            _ if self.options.pad => self.whole_block,
            n if fixed > 0 => n.next_multiple_of(fixed),
            n => n,
        };
        if wanted == block.len() {
            self.write(block, block.len())?;
        } else {
            if !self.options.pad {
                let zeros = grouped((wanted - block.len()) as u64);
                log::warn(format_args!("{}: the last block is padded with {zeros} zeros", self.name));
            }
            let mut padded = block.to_vec();
            padded.resize(wanted, 0);
            self.write(&padded, block.len())?;
        }
        if self.options.sync_interval > 0 && self.accepted - self.synced >= self.options.sync_interval {
            self.flush()?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        if self.drive.is_none() {
            return Ok(());
        }
        let ended = self.end_volume();
        self.note_change();
        ended?;
        self.close()
    }

    fn accepted(&self) -> u64 {
        self.accepted
    }

    fn synced(&self) -> u64 {
        self.synced
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn volumes(&self) -> Volumes {
        self.volumes.clone()
    }
}

#[cfg(test)]
mod tests;
