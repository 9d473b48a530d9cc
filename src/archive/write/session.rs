//! A planned archive onto its medium, with its checkpoint: opened, begun or resumed, run, settled.

use std::path::{Path, PathBuf};

use crate::{
    archive::{
        checkpoint::{CheckpointRecord, CheckpointWriter},
        write::{
            encoding::Encoding,
            plan::Plan,
            resume::{self, ResumePoint, Resumed, tape::TapePoint},
        },
    },
    compression::Codec,
    error::{Context, Error, ErrorKind, Result},
    log,
    media::{
        destination::Destination,
        file_sink::MediumKind,
        sink::{Sink, Volume, Volumes},
        tape::{
            cartridge::WantedVolume,
            changer::Changer,
            drive::StDrive,
            mtio,
            sink::{DriveLoader, TapeOptions, TapeSink},
            watch::{DriveDemands, DriveWatch, check_barcode},
        },
    },
    store::Store,
    stream::pipeline::{self, Geometry, Observer, Snapshot, StreamJob},
    util::units::{counted, grouped},
};

/// How an archive is written, and whereto.
#[derive(Clone, Debug)]
pub struct WriteOptions {
    /// A file, pipe or tape; `-` is standard output.
    pub dest: PathBuf,
    /// Write over a file that is not empty.
    pub force: bool,
    /// Go on with an interrupted archive, by its checkpoint.
    pub resume: bool,
    /// Where is recorded what the medium holds.
    pub checkpoint: Option<PathBuf>,
    /// On a tape: sync each time so many bytes were accepted, so that the checkpoint can speak of them.
    pub sync_interval: u64,
    /// On tapes: what the label of each says.
    pub label: Option<String>,
    /// Who puts in the next tape.
    pub changer: Changer,
    /// On a tape: what is asked of the drive before the first byte.
    pub demands: DriveDemands,
    /// How the ring is laid out.
    pub geometry: Geometry,
    /// How to compress, if at all.
    pub codec: Option<Codec>,
}

/// The destination, looked at. Nothing is written yet.
pub struct OpenedDestination {
    /// Open, unless it is a tape that is still to be positioned.
    destination: Option<Destination>,
    /// Open, and nobody else's, if there is to be one.
    checkpoint: Option<CheckpointWriter>,
    /// What the checkpoint says, if the archive is to go on by it.
    records: Vec<CheckpointRecord>,
    kind: MediumKind,
    /// It holds the beginning of an archive.
    begun: bool,
}

/// How a run ended.
pub enum WriteOutcome {
    /// All that was planned is on the medium.
    Complete(Box<WriteSummary>),
    /// It was there before, and nothing was written.
    WasWhole,
    /// It ended before.
    Interrupted(Box<Interruption>),
}

/// What can be told of a run.
pub struct WriteSummary {
    /// How the run went.
    pub last: Snapshot,
    /// What the destination is.
    pub kind: MediumKind,
    /// The tapes that it went to.
    pub volumes: Volumes,
    /// Where the last blob ends on the medium.
    pub last_blob: u64,
    /// Whether the checkpoint is on the disk.
    pub recorded: Result<()>,
}

/// Where the archive stands after a run that did not complete it.
pub struct Interruption {
    /// Why it ended.
    pub error: Error,
    /// What the medium is called.
    pub device: String,
    /// What it is.
    pub kind: MediumKind,
    /// Blobs that it holds whole.
    pub blobs: usize,
    /// Blobs that were planned.
    pub planned: usize,
    /// Where the last of the whole blobs ends on the medium.
    pub offset: u64,
    /// The tape that it ends on.
    pub volume: Option<Volume>,
    /// The tapes that it went to.
    pub volumes: Volumes,
    /// Whether a filemark stands behind it there.
    pub has_filemark: bool,
    /// Whether the medium was written to; it holds what it held before otherwise.
    pub is_begun: bool,
}

/// What an archive is begun or resumed with.
struct Begun {
    point: ResumePoint,
    records: Vec<CheckpointRecord>,
    sink: Box<dyn Sink>,
}

impl WriteOptions {
    /// Whether the destination is standard output.
    pub fn is_stdout(&self) -> bool {
        self.dest == Path::new("-")
    }

    /// Opens the destination and the checkpoint. Nothing is written yet.
    ///
    /// # Errors
    /// If one cannot be opened or somebody else writes it, or if the destination cannot be resumed or holds
    /// something already.
    pub fn open(&self) -> Result<OpenedDestination> {
        let dest = &self.dest;
        let there = std::fs::metadata(dest).ok();
        let tape = there.as_ref().is_some_and(mtio::is_tape);
        if self.resume && !tape && there.as_ref().is_some_and(|meta| !meta.is_file()) {
            // Not even opened: a FIFO would keep us waiting for its reader.
            let why = "--resume is for regular files and tapes only";
            return Err(Error::usage(why).doing(format!("the destination {dest:?}")));
        }
        let mut checkpoint = self.checkpoint.as_deref().map(CheckpointWriter::open).transpose()?;
        let mut records = checkpoint.as_mut().map_or(Vec::new(), CheckpointWriter::take_records);
        let begun = match tape {
            true => self.resume && !records.is_empty(),
            false => self.resume && there.is_some_and(|meta| meta.len() > 0),
        };
        let lost = if begun || self.force { 0 } else { records.len() as u64 };
        if !begun {
            records.clear();
        }
        let destination = match begun {
            _ if self.is_stdout() => Destination::stdout()?,
            true if !tape => Destination::reopen(dest)?,
            // That a tape can be opened is found out before anything is fetched.
            _ => Destination::open(dest, self.force).map_err(|e| match lost {
                0 => e,
                _ => e.hint_instead("--resume goes on with it, by its checkpoint; --force writes over it"),
            })?,
        };
        if lost > 0 {
            let (blobs, checkpoint) = (counted(lost, "blob"), self.checkpoint.as_deref().unwrap_or(dest));
            log::warn(format_args!("{checkpoint:?} speaks of {blobs} of an earlier archive: it is begun anew"));
        }
        if self.resume && tape && !begun {
            log::warn(format_args!(
                "the checkpoint speaks of nothing yet: the archive begins where the tape stands in {dest:?}"
            ));
        }
        let kind = destination.kind();
        if kind != MediumKind::Tape && self.demands != DriveDemands::default() {
            let why = "--require-room and --require-encryption are asked of a tape drive, and it is none";
            return Err(Error::usage(why).doing(format!("the destination {dest:?}")));
        }
        // The drive is opened again, to be positioned.
        let destination = Some(destination).filter(|_| !(begun && tape));
        Ok(OpenedDestination { destination, checkpoint, records, kind, begun })
    }
}

/// Writes one planned archive.
pub struct WriteSession<'a> {
    /// How, and whereto.
    pub options: &'a WriteOptions,
    /// What is written.
    pub plan: &'a Plan,
    /// Where blobs come from.
    pub store: &'a dyn Store,
    /// Requests at a time.
    pub threads: usize,
    /// Hears when the medium is about to be written to.
    pub begins: &'a dyn Fn() -> Result<()>,
}

impl WriteSession<'_> {
    /// Carries the planned archive onto the destination, and keeps the checkpoint. `observer` hears how
    /// it goes, and the length of the archive if it is known.
    ///
    /// # Errors
    /// If what is there is not the beginning of this archive, or the checkpoint cannot be opened: nothing
    /// was written then.
    pub fn run(
        &self,
        mut opened: OpenedDestination,
        observer: &mut dyn FnMut(&Snapshot, Option<u64>),
    ) -> Result<WriteOutcome> {
        let (kind, checkpoint) = (opened.kind, opened.checkpoint.take());
        let Some(Begun { point, records, mut sink }) = self.begin(opened)? else { return Ok(WriteOutcome::WasWhole) };
        let sink = &mut *sink;
        let (begin, from) = (point.plan_offset, point.medium_offset);
        let preserve_until = from + point.overlap.len() as u64;
        // The block in which the last of them ends is written again, and a tape has nothing behind it then.
        let stays = |record: &&CheckpointRecord| kind != MediumKind::Tape || record.offset <= from;
        let kept = records.iter().take_while(stays).count();
        let keeper = CheckpointKeeper::new(checkpoint, &records, kept, sink.volumes());
        let tape_block = (kind == MediumKind::Tape).then_some(self.options.geometry.block);
        let encoding = Encoding::new(self.plan, self.store, self.options.codec, point, self.threads, tape_block);
        let job = StreamJob {
            geometry: self.options.geometry,
            from,
            preserve_until,
            bounds: encoding.bounds(),
            producers: encoding.producers(),
            produce: &|segment| encoding.fill(segment),
            on_cancel: &|| {
                self.store.shutdown();
                encoding.cancel();
            },
        };
        let mut watch = SessionObserver { plan: self.plan, encoding: &encoding, keeper, begins: self.begins, observer };
        let (reached, outcome) = pipeline::run(job, sink, &mut watch);
        let mut keeper = watch.keeper;
        let settle = Settle { session: self, encoding: &encoding, kind, begin, records: &records, reached };
        settle.run(sink, &mut keeper, outcome)
    }

    /// Begins the archive, or finds where it goes on; `None` if it is whole.
    fn begin(&self, opened: OpenedDestination) -> Result<Option<Begun>> {
        let OpenedDestination { destination, records, begun, .. } = opened;
        let options = self.options;
        let tape = TapeOptions {
            changer: options.changer.clone(),
            label: options.label.clone(),
            sync_interval: if options.checkpoint.is_some() { options.sync_interval } else { 0 },
            force: options.force,
            asks_drive: true,
            demands: options.demands,
            pad: options.codec.is_none(),
        };
        let Some(destination) = destination else { return self.resume_tape(records, tape) };
        let (point, records) = match begun {
            true => {
                let block = options.geometry.block as u64;
                match resume::examine(self.plan, &options.dest, records, options.codec, block)? {
                    Some(resumed) => resumed,
                    None => return Ok(None),
                }
            }
            false => Resumed::default(),
        };
        Ok(Some(Begun { point, records, sink: destination.into_sink(tape) }))
    }

    /// Positions the tape, and goes on with it.
    fn resume_tape(&self, records: Vec<CheckpointRecord>, options: TapeOptions) -> Result<Option<Begun>> {
        let path = &self.options.dest;
        let doing = || format!("resuming on the tape in {path:?}");
        let name = format!("{path:?}");
        let drive = StDrive::open(path).doing(|| format!("opening the destination {name}"));
        let mut drive = Box::new(drive.doing(doing)?);
        // Before the tape is brought to its place.
        let watch = DriveWatch::begin(&*drive);
        if let Some(volume) = records.last().and_then(|record| record.volume.as_ref()) {
            check_barcode(&name, watch.cartridge(), volume, options.force).doing(doing)?;
        }
        let wanted = WantedVolume {
            drive: &name,
            number: 1,
            label: options.label.as_deref(),
            force: options.force,
            block: self.options.geometry.block,
        };
        let format = self.options.codec.map(|codec| codec.format);
        let found = resume::tape::examine(self.plan, &mut *drive, &wanted, records, format).doing(doing)?;
        let Some(TapePoint { resumed: (point, records), volume }) = found else { return Ok(None) };
        let at = point.medium_offset;
        log::info(format_args!(
            "{path:?}: going on with volume {} at block {} of the archive",
            volume.number,
            grouped((at - volume.offset) / u64::from(volume.block_size))
        ));
        let loader = DriveLoader::boxed(path.clone(), options.changer.clone());
        let mut sink = TapeSink::new(drive, Some(loader), name, options);
        let mut earlier: Vec<Volume> = Vec::new();
        for one in records.iter().rev().filter_map(|record| record.volume.as_ref()) {
            if one.number < earlier.last().map_or(volume.number, |last| last.number) {
                earlier.push(one.clone());
            }
        }
        sink.resume_at(volume, at, earlier);
        sink.was_asked(watch);
        Ok(Some(Begun { point, records, sink: Box::new(sink) }))
    }
}

/// Keeps the checkpoint up to date while blocks are written.
struct SessionObserver<'a> {
    plan: &'a Plan,
    encoding: &'a Encoding<'a>,
    keeper: CheckpointKeeper,
    begins: &'a dyn Fn() -> Result<()>,
    /// Hears how it goes, and the length of the archive if it is known.
    observer: &'a mut dyn FnMut(&Snapshot, Option<u64>),
}

impl Observer for SessionObserver<'_> {
    fn begins(&mut self) -> Result<()> {
        (self.begins)()?;
        self.keeper.begin()
    }

    fn tick(&mut self, now: &Snapshot) -> Result<()> {
        (self.observer)(now, self.encoding.total());
        // The last record waits until all is on the disk.
        let last = self.plan.last_blob_end();
        let offset = |end| self.encoding.medium_offset(end).filter(|_| end < last);
        self.keeper.advance(self.plan, now.synced, &offset)
    }
}

/// Keeps the checkpoint, if there is to be one.
struct CheckpointKeeper {
    writer: Option<CheckpointWriter>,
    /// Where the blobs of an earlier run end on the medium.
    known: Vec<u64>,
    volumes: Volumes,
}

impl CheckpointKeeper {
    /// The first `kept` of these records stay.
    fn new(
        mut writer: Option<CheckpointWriter>,
        records: &[CheckpointRecord],
        kept: usize,
        volumes: Volumes,
    ) -> CheckpointKeeper {
        writer.iter_mut().for_each(|writer| writer.keep(&records[..kept]));
        CheckpointKeeper { writer, known: records.iter().map(|record| record.offset).collect(), volumes }
    }

    /// The medium is about to be written to.
    fn begin(&mut self) -> Result<()> {
        self.writer.as_mut().map_or(Ok(()), CheckpointWriter::begin)
    }

    /// Records every blob that lies whole in the first `synced` bytes of the medium. `offset` says where
    /// on the medium that lies which ends at an offset of the plan, if that is known yet.
    fn advance(&mut self, plan: &Plan, synced: u64, offset: &dyn Fn(u64) -> Option<u64>) -> Result<()> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        let before = writer.records();
        let ends_at = |n: usize| self.known.get(n).copied().or_else(|| plan.blob_end(n).and_then(offset));
        while let Some(at) = ends_at(writer.records()).filter(|at| *at <= synced) {
            writer.append(plan.descriptor(writer.records() as u32), at, self.volumes.at(at).as_ref())?;
        }
        if writer.records() > before { writer.flush() } else { Ok(()) }
    }

    fn sync(&mut self) -> Result<()> {
        self.writer.as_mut().map_or(Ok(()), CheckpointWriter::sync)
    }
}

/// What is left to do when the bytes have stopped.
struct Settle<'a> {
    session: &'a WriteSession<'a>,
    encoding: &'a Encoding<'a>,
    kind: MediumKind,
    /// Offset in the plan at which this run began.
    begin: u64,
    records: &'a [CheckpointRecord],
    reached: Snapshot,
}

impl Settle<'_> {
    /// Brings what was accepted to the medium, and then the checkpoint up to date.
    fn run(&self, sink: &mut dyn Sink, keeper: &mut CheckpointKeeper, outcome: Result<()>) -> Result<WriteOutcome> {
        let plan = self.session.plan;
        // A device that was never begun still holds what the checkpoint said before.
        let written = self.reached.capacity > 0;
        let synced = if outcome.is_err() && written { sink.finish() } else { Ok(()) };
        let on_tape = self.kind == MediumKind::Tape;
        if let (Err(e), true) = (&synced, on_tape) {
            log::warn(e);
        }
        let up_to = sink.synced();
        let outcome = outcome.and_then(|()| match self.encoding.is_complete(up_to) {
            true => Ok(()),
            false => Err(Error::new("the device took less than the plan; this is a fault of ace-dt")),
        });
        let mut recorded = Ok(());
        if written && (synced.is_ok() || on_tape) {
            let offset = |end| self.encoding.medium_offset(end);
            recorded = keeper.advance(plan, up_to, &offset).and_then(|()| keeper.sync());
        }
        match outcome {
            Ok(()) => {
                let (last, kind, volumes) = (self.reached, self.kind, keeper.volumes.clone());
                let last_blob = self.encoding.medium_offset(plan.last_blob_end()).unwrap_or(0);
                Ok(WriteOutcome::Complete(Box::new(WriteSummary { last, kind, volumes, last_blob, recorded })))
            }
            Err(e) => {
                let has_filemark = written && synced.is_ok();
                Ok(WriteOutcome::Interrupted(Box::new(self.interrupted(e, sink, &keeper.volumes, has_filemark)?)))
            }
        }
    }

    /// Finds where the archive stands.
    fn interrupted(
        &self,
        error: Error,
        sink: &mut dyn Sink,
        volumes: &Volumes,
        has_filemark: bool,
    ) -> Result<Interruption> {
        let (plan, written, synced) = (self.session.plan, self.reached.capacity > 0, sink.synced());
        let offset = |end: u64| self.encoding.medium_offset(end);
        let there = |end: u64| end <= self.begin || offset(end).is_some_and(|at| at <= synced);
        // A medium that was never begun holds what it held before.
        let blobs = if written { plan.whole(there) } else { self.records.len() };
        let recorded = || self.records.last().map(|record| record.offset);
        let end = blobs
            .checked_sub(1)
            .and_then(|last| plan.blob_end(last))
            .map_or(0, |end| offset(end).or_else(recorded).unwrap_or(0));
        // A blob that proved wrong must not be gone on with.
        if error.is(ErrorKind::Corrupt) && written {
            sink.cut(end)?;
        }
        Ok(Interruption {
            error,
            device: sink.name().to_string(),
            kind: self.kind,
            blobs,
            planned: plan.blobs(),
            offset: end,
            volume: volumes.at(synced.max(1)).filter(|_| self.kind == MediumKind::Tape),
            volumes: volumes.clone(),
            has_filemark,
            is_begun: written,
        })
    }
}

#[cfg(test)]
mod tests;
