//! A planned archive onto its medium, with its ledger: from the start, or from where an interrupted
//! run can be taken up; compressed or not.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
    thread,
};

use crate::{
    archive::write::{
        existing::There,
        resume::{self, Found},
    },
    commands::{Setup, report},
};
use crate::{
    archive::{
        checkpoint,
        write::{
            compress::{Codec, Marks, Stage},
            plan::{Plan, Wish},
            producer::{self, Begin},
        },
    },
    cli::{args::Args, output, progress::Progress},
    error::{Error, Result},
    log,
    media::{
        file_sink::{Device, Kind},
        sink::Volume,
        tape::{changer::Changer, mtio, sink},
    },
    oci::{Descriptor, annotation},
    store::{Store, graph::Graph},
    stream::pipeline::{self, Geometry, Job},
    util::units,
};
use ace_dt_ring::{Bounds, Segment};

/// How an archive is written, and whereto.
pub struct Transfer<'a> {
    /// The command, if an interrupted archive is to go on: errors then say how.
    pub command: Option<&'a str>,
    pub args: &'a Args,
    pub store: &'a dyn Store,
    /// Requests at a time.
    pub threads: usize,
    pub geometry: Geometry,
    pub codec: Option<Codec>,
    pub progress: &'a Progress,
    pub dest: &'a Path,
    pub checkpoint: Option<&'a Path>,
}

/// The destination, looked at.
pub struct Opened {
    /// Open, unless it is a tape that is still to be positioned.
    device: Option<Device>,
    kind: Kind,
    /// It holds the beginning of an archive.
    begun: bool,
}

/// Opens the destination of `args`. Nothing is written yet.
pub fn open(args: &Args, dest: &Path) -> Result<Opened> {
    if args.resume && dest == Path::new("-") {
        return Err(Error::usage("--resume: standard output cannot be taken up again"));
    }
    let ledger = match (args.resume, &args.checkpoint) {
        (true, None) => {
            return Err(Error::usage("--resume goes by the ledger: give the --checkpoint of the interrupted run"));
        }
        (true, ledger) => ledger.as_deref(),
        (false, _) => None,
    };
    let there = std::fs::metadata(dest).ok();
    let tape = there.as_ref().is_some_and(mtio::is_tape);
    if ledger.is_some() && !tape && there.as_ref().is_some_and(|meta| !meta.is_file()) {
        // Not even opened: a FIFO would keep us waiting for its reader.
        let why = "--resume is for regular files and tapes only";
        return Err(Error::usage(why).doing(format!("the destination {dest:?}")));
    }
    let begun = match ledger {
        Some(ledger) if tape => ledger.exists() && !checkpoint::records(ledger)?.is_empty(),
        Some(_) => there.is_some_and(|meta| meta.len() > 0),
        None => false,
    };
    let device = match dest {
        path if path == Path::new("-") => Device::stdout()?,
        path if begun && tape => {
            // That it can be opened is found out before anything is fetched.
            let device = Device::open(path, args.force)?;
            return Ok(Opened { kind: device.kind(), device: None, begun });
        }
        path if begun => Device::reopen(path)?,
        path => Device::open(path, args.force)?,
    };
    if ledger.is_some() && tape && !begun {
        log::warn(format_args!(
            "the ledger speaks of nothing yet: the archive begins where the tape stands in {dest:?}"
        ));
    }
    Ok(Opened { kind: device.kind(), device: Some(device), begun })
}

/// Plans the archive of what lies below `root`, which gets this name in its `index.json`.
pub fn plan(args: &Args, graph: &Graph, root: &Descriptor, name: &str, there: &There) -> Result<Plan> {
    let mut root = root.clone();
    root.annotations.insert(annotation::REF_NAME.into(), name.into());
    let wish = Wish {
        root,
        recursive: args.recursive,
        on_media: &there.on_media,
        existing: &there.blobs,
        manifest_json: args.manifest_json,
        version: &output::version(),
    };
    Plan::new(graph, &wish)
}

impl<'a> Transfer<'a> {
    /// The transfer that a command line asks for.
    pub fn new(
        command: &'a str,
        args: &'a Args,
        setup: &'a Setup,
        geometry: Geometry,
        progress: &'a Progress,
    ) -> Transfer<'a> {
        Transfer {
            command: Some(command),
            args,
            store: &*setup.store,
            threads: setup.threads,
            geometry,
            codec: setup.codec,
            progress,
            dest: args.path(1),
            checkpoint: args.checkpoint.as_deref(),
        }
    }

    /// Carries the planned archive onto the device, and keeps the ledger.
    pub fn run(&self, plan: &Plan, opened: Opened) -> Result<()> {
        let Opened { device, kind, begun } = opened;
        let block = self.geometry.block as u64;
        let options = sink::Options {
            changer: Changer::new(self.args.volume_command.clone()),
            label: self.args.label.clone(),
            interval: if self.checkpoint.is_some() { self.args.checkpoint_interval } else { 0 },
            pad: self.codec.is_none(),
        };
        let (found, mut sink) = match (device, self.checkpoint) {
            (None, Some(ledger)) => resume::on_tape(plan, self.dest, ledger, self.codec, block, options)?,
            (Some(device), Some(ledger)) if begun => {
                let found = resume::examine(plan, self.dest, ledger, self.codec, block)?;
                (found, device.into_sink(None, options)?)
            }
            (device, _) => {
                let path = Some(self.dest).filter(|path| *path != Path::new("-"));
                let device = device.ok_or_else(|| Error::new("it is not open").doing(format!("{:?}", self.dest)))?;
                (Found::default(), device.into_sink(path, options)?)
            }
        };
        let Found { plan: begin, medium, kept, records, behind } = found;
        let sink = &mut *sink;
        let volumes = sink.volumes();
        let mut ledger = match self.checkpoint {
            Some(path) => Some(checkpoint::Writer::after(path, &records)?),
            None => None,
        };
        // What is kept of an uncompressed stream is a part of it.
        let start = if self.codec.is_none() { medium } else { begin };
        let from = Begin { offset: start, kept: if self.codec.is_none() { &kept } else { &[] }, behind };
        let (marks, inner) = (Marks::default(), OnceLock::new());
        let producers = self.threads.min(plan.entries());
        let fill = |segment: Segment| producer::fill(plan, self.store, &from, segment);
        let stage = self.codec.map(|codec| Stage {
            plan,
            codec,
            begin,
            medium,
            kept: &kept,
            fill: &fill,
            producers,
            compressors: thread::available_parallelism().map_or(1, usize::from),
            marks: &marks,
            pad: (kind == Kind::Tape).then_some(self.geometry.block),
            stopper: &inner,
        });
        let compress = |segment: Segment| stage.as_ref().expect("only if there is one").run(segment);
        let job = Job {
            geometry: self.geometry,
            from: medium,
            keep: medium + kept.len() as u64,
            bounds: if stage.is_some() { Bounds::open() } else { Bounds::new(plan.bounds(start)) },
            producers: if stage.is_some() { 1 } else { producers },
            produce: if stage.is_some() { &compress } else { &fill },
            cancel: &|| {
                self.store.shutdown();
                inner.get().iter().for_each(|stopper| stopper.stop());
            },
        };
        // Where that lies on the medium which ends at an offset of the plan, if that is known.
        let offset = |end: u64| if self.codec.is_some() { marks.get(end) } else { Some(end) };
        // The last record waits until all is on the disk.
        let last = plan.blobs().checked_sub(1).and_then(|last| plan.blob_end(last)).unwrap_or(0);
        let unsynced = |end: u64| offset(end).filter(|_| end < last);
        let total = self.codec.is_none().then_some(plan.total());
        let (reached, outcome) = pipeline::run(job, sink, &mut |now| {
            self.progress.writing(now, total);
            match &mut ledger {
                Some(ledger) => ledger.advance(plan, now.sure, &unsynced, &volumes),
                None => Ok(()),
            }
        });
        // A device that was never begun still holds what the ledger said before.
        let written = reached.capacity > 0;
        let synced = match &outcome {
            Err(_) if written => sink.finish(),
            _ => Ok(()),
        };
        if let (Err(e), Kind::Tape) = (&synced, kind) {
            log::warn(e);
        }
        let sure = sink.sure();
        let outcome = outcome.and_then(|()| {
            let short = match self.codec {
                None => sure < plan.total(),
                Some(_) => last > begin && offset(last).is_none_or(|at| sure < at),
            };
            if short {
                return Err(Error::new("the device took less than the plan; this is a fault of ace-dt"));
            }
            Ok(())
        });
        let mut recorded = Ok(());
        if let (Some(ledger), true) = (&mut ledger, written && (synced.is_ok() || kind == Kind::Tape)) {
            recorded = ledger.advance(plan, sure, &offset, &volumes).and_then(|()| ledger.sync());
        }
        match outcome {
            Ok(()) => {
                let told = kind == Kind::Tape || self.geometry.mark > 1;
                self.progress.done(&reached, told.then(|| report::strokes(&reached, &volumes)));
                report::advise(&reached, self.geometry, kind);
                recorded
            }
            Err(e) => {
                self.progress.clear();
                let there = |end: u64| end <= begin || offset(end).is_some_and(|at| at <= sure);
                let whole = if written { plan.whole(there) } else { 0 };
                let end = whole
                    .checked_sub(1)
                    .and_then(|last| plan.blob_end(last))
                    .map_or(0, |end| offset(end).or(records.last().map(|record| record.offset)).unwrap_or(0));
                // A blob that proved wrong must not be gone on with.
                let cut = if e.is_spoilt() && written { sink.cut(end) } else { Ok(()) };
                let place = volumes.at(sure.max(1)).filter(|_| kind == Kind::Tape);
                cut.and(Err(self.stands(e, plan, sink.name(), kind, whole, end, place)))
            }
        }
    }

    /// Adds to an error where the archive stands, and the command that goes on with it.
    #[allow(clippy::too_many_arguments)]
    fn stands(
        &self,
        error: Error,
        plan: &Plan,
        device: &str,
        kind: Kind,
        whole: usize,
        offset: u64,
        volume: Option<Volume>,
    ) -> Error {
        let Some(name) = self.command else { return error };
        let place = volume.map_or(String::new(), |volume| {
            let blocks = units::grouped(volume.blocks);
            format!("; volume {} has {blocks} blocks of it, and a filemark behind them", volume.number)
        });
        let what = format!("{device} holds {whole} of {} blobs whole, up to offset {offset}{place}", plan.blobs());
        let error = error.after(what);
        let (is_file, is_tape) = (kind == Kind::File && self.dest != Path::new("-"), kind == Kind::Tape);
        let again = |changes: &[(&str, String)]| command(name, self.args, changes, self.dest);
        let force: Vec<(&str, String)> = is_file.then(|| ("force", String::new())).into_iter().collect();
        match self.checkpoint {
            _ if whole == 0 => error.hint(format_args!("to start again: {}", again(&force))),
            None => {
                error.hint(format_args!("only with --checkpoint can a run go on; to start again: {}", again(&force)))
            }
            Some(_) if is_file || is_tape && !error.is_full() => {
                error.hint(format_args!("to go on: {}", again(&[("resume", String::new())])))
            }
            Some(ledger) => {
                let next = PathBuf::from(format!("{}.2", ledger.display()));
                let known = format!("{}:{offset}", ledger.display());
                let known =
                    if known.contains([',', '"']) { format!("\"{}\"", known.replace('"', "\"\"")) } else { known };
                let changes = [("checkpoint", next.display().to_string()), ("existing-from-checkpoint", known)];
                let place = if is_tape { ", on another tape" } else { "" };
                error.hint(format_args!("to go on with what is missing{place}: {}", again(&changes)))
            }
        }
    }
}

/// The command line of this run with other flags and another destination, for a shell.
fn command(name: &str, args: &Args, changes: &[(&str, String)], dest: &Path) -> String {
    let changed = |flag: &str| changes.iter().any(|(name, _)| *name == flag);
    let replaced = |flag: &str| match flag {
        "checkpoint" => changed(flag),
        "force" | "resume" => changed("force") || changed("resume"),
        _ => false,
    };
    let mut words = vec!["ace-dt".to_string()];
    words.extend(name.split(' ').map(String::from));
    let given = args
        .given
        .iter()
        .filter(|(flag, _)| !replaced(flag))
        .map(|(flag, value)| (*flag, value.clone().unwrap_or_default()));
    for (flag, value) in given.chain(changes.iter().cloned()) {
        words.push(if value.is_empty() { format!("--{flag}") } else { format!("--{flag}={value}") });
    }
    words.push(args.operands[0].to_string_lossy().into_owned());
    words.push(dest.display().to_string());
    words.extend(args.operands[2..].iter().map(|o| o.to_string_lossy().into_owned()));
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

/// A word as a shell reads it back.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}
