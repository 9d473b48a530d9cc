//! A planned archive onto its medium, with its ledger: from the start, or from where an interrupted
//! run can be taken up; compressed or not.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
    thread,
};

use super::{
    Setup,
    resume::{self, Found},
    there::There,
};
use crate::{
    archive::ledger,
    cli::args::Args,
    compress::{Codec, Marks, Stage},
    device::{Device, Kind},
    error::{Error, Result},
    graph::Graph,
    oci::{Descriptor, annotation},
    output,
    pipeline::{self, Geometry, Job},
    plan::{Plan, Wish},
    producer::{self, Begin},
    progress::Progress,
    ring::{Bounds, Segment},
    store::Store,
};

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

/// The destination, open.
pub struct Opened {
    device: Device,
    /// It holds the beginning of an archive.
    begun: bool,
}

/// Opens the destination of `args`. Nothing is written yet.
pub fn open(args: &Args, dest: &Path) -> Result<Opened> {
    if args.resume && dest == Path::new("-") {
        return Err(Error::usage("--resume: standard output cannot be taken up again"));
    }
    if args.resume && args.checkpoint.is_none() {
        return Err(Error::usage("--resume goes by the ledger: give the --checkpoint of the interrupted run"));
    }
    let there = std::fs::metadata(dest).ok();
    if args.resume && there.as_ref().is_some_and(|meta| !meta.is_file()) {
        // Not even opened: a FIFO would keep us waiting for its reader.
        return Err(Error::usage("--resume is for regular files only").doing(format!("the destination {dest:?}")));
    }
    let begun = args.resume && there.is_some_and(|meta| meta.len() > 0);
    let device = match dest {
        path if path == Path::new("-") => Device::stdout()?,
        path if begun => Device::reopen(path)?,
        path => Device::open(path, args.force)?,
    };
    Ok(Opened { device, begun })
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
        let Opened { mut device, begun } = opened;
        let Found { plan: begin, medium, kept, records, behind } = match (begun, self.checkpoint) {
            (true, Some(ledger)) => resume::examine(plan, self.dest, ledger, self.codec, self.geometry.block as u64)?,
            _ => Found::default(),
        };
        let mut ledger = match self.checkpoint {
            Some(path) => Some(ledger::Writer::after(path, &records)?),
            None => None,
        };
        let from = Begin { offset: begin, behind };
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
            pad: (device.kind() == Kind::Tape).then_some(self.geometry.block),
            stopper: &inner,
        });
        if stage.is_none() {
            device.pad_last_block();
        }
        let compress = |segment: Segment| stage.as_ref().expect("only if there is one").run(segment);
        let job = Job {
            geometry: self.geometry,
            from: medium,
            keep: medium + kept.len() as u64,
            bounds: if stage.is_some() { Bounds::open() } else { Bounds::new(plan.bounds(begin)) },
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
        let (reached, outcome) = pipeline::run(job, &mut device, &mut |now| {
            self.progress.writing(now, total);
            match &mut ledger {
                Some(ledger) => ledger.advance(plan, now.accepted, &unsynced),
                None => Ok(()),
            }
        });
        let synced = match &outcome {
            Ok(()) => Ok(()),
            Err(_) => device.finish(),
        };
        let outcome = outcome.and_then(|()| {
            let short = match self.codec {
                None => reached.accepted < plan.total(),
                Some(_) => last > begin && offset(last).is_none_or(|at| reached.accepted < at),
            };
            if short {
                return Err(Error::new("the device took less than the plan; this is a fault of ace-dt"));
            }
            Ok(())
        });
        let mut recorded = Ok(());
        // A device that was never begun still holds what the ledger said before.
        if let (Some(ledger), Ok(()), true) = (&mut ledger, synced, reached.capacity > 0) {
            recorded = ledger.advance(plan, reached.accepted, &offset).and_then(|()| ledger.sync());
        }
        match outcome {
            Ok(()) => {
                self.progress.done(&reached);
                recorded
            }
            Err(e) => {
                self.progress.clear();
                let there = |end: u64| end <= begin || offset(end).is_some_and(|at| at <= reached.accepted);
                let whole = if reached.capacity > 0 { plan.whole(there) } else { 0 };
                let end = whole
                    .checked_sub(1)
                    .and_then(|last| plan.blob_end(last))
                    .map_or(0, |end| offset(end).or(records.last().map(|record| record.offset)).unwrap_or(0));
                // A blob that proved wrong must not be gone on with.
                let cut = if e.is_spoilt() && reached.capacity > 0 { device.cut(end) } else { Ok(()) };
                cut.and(Err(self.stands(e, plan, &device, whole, end)))
            }
        }
    }

    /// Adds to an error where the archive stands, and the command that goes on with it.
    fn stands(&self, error: Error, plan: &Plan, device: &Device, whole: usize, offset: u64) -> Error {
        let Some(name) = self.command else { return error };
        let what = format!("{} holds {whole} of {} blobs whole, up to offset {offset}", device.name(), plan.blobs());
        let error = error.after(what);
        let is_file = device.kind() == Kind::File && self.dest != Path::new("-");
        let again = |changes: &[(&str, String)]| command(name, self.args, changes, self.dest);
        let force: Vec<(&str, String)> = is_file.then(|| ("force", String::new())).into_iter().collect();
        match self.checkpoint {
            _ if whole == 0 => error.hint(format_args!("to start again: {}", again(&force))),
            None => {
                error.hint(format_args!("only with --checkpoint can a run go on; to start again: {}", again(&force)))
            }
            Some(_) if is_file => error.hint(format_args!("to go on: {}", again(&[("resume", String::new())]))),
            Some(ledger) => {
                let next = PathBuf::from(format!("{}.2", ledger.display()));
                let known = format!("{}:{offset}", ledger.display());
                let known =
                    if known.contains([',', '"']) { format!("\"{}\"", known.replace('"', "\"\"")) } else { known };
                let changes = [("checkpoint", next.display().to_string()), ("existing-from-checkpoint", known)];
                let place = if device.kind() == Kind::Tape { ", on another tape" } else { "" };
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
