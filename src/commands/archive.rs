//! `mirror archive`: from a list of sources to an archive on a device.

use std::{
    collections::HashSet,
    fmt::Write as _,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    collect::{self, Collected, Collector, below},
    report::{self, Outcome, Record},
};
use crate::{
    archive::ledger,
    cli::args::Args,
    config,
    device::{Device, Kind},
    error::{Context, Error, Result},
    gather,
    oci::{Digest, media},
    origins::Origins,
    output,
    pipeline::{self, Geometry, Job},
    plan::{Plan, Wish},
    producer,
    progress::Progress,
    ring::Bounds,
    sources::Source,
    stop,
    store::Store,
    units,
};

pub fn run(args: &Args) -> Result<()> {
    let geometry = Geometry::new(args.block_size, args.buffer_size, args.hwm)?;
    check_files(args)?;
    let sources = collect::read(args.path(0))?;
    let mut there = There::default();
    for (path, offset) in &args.existing_from_checkpoint {
        there.on_media.extend(ledger::read(path, *offset)?);
    }
    let config = config::load(&args.config)?;
    let threads = config.concurrent_http;
    let store = Arc::new(Origins::new(config, args.patience, args.referrer_types.clone())?);
    let shut = store.clone();
    stop::on_request(move || shut.shutdown());
    let device = if args.dry_run { None } else { Some(open(args)?) };

    let progress = Progress::new(&args.progress)?;
    let run = Run { args, store: &*store, threads, geometry, progress: &progress };
    there.blobs = run.existing_blobs()?;
    let collector = Collector { args, store: &*store, threads, progress: &progress };
    let known = |digest: &Digest| there.on_media.contains(digest) || there.blobs.contains(digest);
    let mut found = collector.collect(sources, &known)?;
    let outcome = run.archive(&mut found, &there, device);
    match &args.report {
        Some(path) => outcome.and(report::write(path, &found.records)),
        None => outcome,
    }
}

/// What is at the destination already.
#[derive(Default)]
struct There {
    /// By the ledgers: blobs and manifests.
    on_media: HashSet<Digest>,
    /// By the existing images: blobs, not manifests.
    blobs: HashSet<Digest>,
}

/// What one run works with.
struct Run<'a> {
    args: &'a Args,
    store: &'a dyn Store,
    /// Requests at a time.
    threads: usize,
    geometry: Geometry,
    progress: &'a Progress,
}

impl Run<'_> {
    /// Digests of the configurations and layers of the existing images.
    fn existing_blobs(&self) -> Result<HashSet<Digest>> {
        let mut existing = Vec::new();
        for operand in &self.args.operands[2..] {
            let written = operand.to_str().ok_or_else(|| Error::usage(format!("{operand:?} is not UTF-8")))?;
            let locator = written.parse().map_err(|why: String| Error::usage(why).doing("existing image"))?;
            existing.push(Source { written: written.into(), locator, labels: Default::default() });
        }
        let options = gather::Options {
            platforms: &[],
            recursive: self.args.recursive,
            threads: self.threads,
            progress: &|_, _, _| (),
        };
        let (graph, found) = gather::gather(self.store, existing, &options);
        let mut blobs = HashSet::new();
        for image in found {
            for pick in stop::check().and(image.picks).doing(|| "existing image")? {
                blobs.extend(
                    below(&graph, &pick, self.args.recursive)?
                        .into_iter()
                        .filter_map(|(digest, (d, _))| (!media::is_manifest(&d.media_type)).then_some(digest)),
                );
            }
        }
        Ok(blobs)
    }

    /// Plans the archive, and writes it or tells of it; notes how far the sources came.
    fn archive(&self, found: &mut Collected, there: &There, device: Option<Device>) -> Result<()> {
        let (mut root, failed) = found.index(self.args)?;
        root.annotations.insert(crate::oci::annotation::REF_NAME.into(), self.args.reference.clone());
        let version = output::version();
        let wish = Wish {
            root,
            recursive: self.args.recursive,
            on_media: &there.on_media,
            existing: &there.blobs,
            manifest_json: self.args.manifest_json,
            version: &version,
        };
        let plan = Plan::new(&found.graph, &wish)?;
        let done = match device {
            None => output::print(&describe(&plan, &found.records)).map(|()| Outcome::Planned),
            Some(device) => self.write(&plan, device).map(|()| Outcome::Archived),
        };
        found.reached(*done.as_ref().unwrap_or(&Outcome::Incomplete));
        done?;
        failed.map_or(Ok(()), Err)
    }

    /// Carries the planned archive onto the device, and keeps the ledger.
    fn write(&self, plan: &Plan, mut device: Device) -> Result<()> {
        device.pad_last_block();
        let mut ledger = self.args.checkpoint.as_deref().map(ledger::Writer::open).transpose()?;
        let job = Job {
            geometry: self.geometry,
            bounds: Bounds::new(plan.bounds()),
            producers: self.threads.min(plan.entries()),
            produce: &|segment| producer::fill(plan, self.store, segment),
            cancel: &|| self.store.shutdown(),
        };
        // The last record waits until all is on the disk.
        let unsynced = plan.last_record().map_or(0, |end| end - 1);
        let (last, outcome) = pipeline::run(job, &mut device, &mut |now| {
            self.progress.writing(now, Some(plan.total()));
            match &mut ledger {
                Some(ledger) => ledger.advance(plan, now.accepted.min(unsynced)),
                None => Ok(()),
            }
        });
        let synced = match &outcome {
            Ok(()) => Ok(()),
            Err(_) => device.finish(),
        };
        let outcome = outcome.and_then(|()| {
            if last.accepted < plan.total() {
                return Err(Error::new("the device took less than the plan; this is a fault of ace-dt"));
            }
            Ok(())
        });
        let mut recorded = Ok(());
        // A device that was never begun still holds what the ledger said before.
        if let (Some(ledger), Ok(()), true) = (&mut ledger, synced, last.capacity > 0) {
            recorded = ledger.advance(plan, last.accepted).and_then(|()| ledger.sync());
        }
        match outcome {
            Ok(()) => {
                self.progress.done(&last);
                recorded
            }
            Err(e) => {
                self.progress.clear();
                Err(self.stands(e, plan, &device, ledger.as_ref(), last.accepted))
            }
        }
    }

    /// Adds to an error where the archive stands, and the command that goes on with it.
    fn stands(
        &self,
        error: Error,
        plan: &Plan,
        device: &Device,
        ledger: Option<&ledger::Writer>,
        accepted: u64,
    ) -> Error {
        let (whole, offset) = plan.whole_below(accepted);
        let what = format!("{} holds {whole} of {} blobs whole, up to offset {offset}", device.name(), plan.blobs());
        let error = error.after(what);
        let (dest, is_file) = (self.args.path(1), device.kind() == Kind::File);
        let again = |changes: &[(&str, String)], dest: &Path| command(self.args, changes, dest);
        let force: Vec<(&str, String)> = is_file.then(|| ("force", String::new())).into_iter().collect();
        let from_start = || again(&force, dest);
        match ledger {
            _ if whole == 0 => error.hint(format_args!("to start again: {}", from_start())),
            None => {
                error.hint(format_args!("only with --checkpoint can a run go on; to start again: {}", from_start()))
            }
            Some(ledger) => {
                let next = |path: &Path| PathBuf::from(format!("{}.2", path.display()));
                let dest = if is_file && dest != Path::new("-") { next(dest) } else { dest.into() };
                let known = format!("{}:{offset}", ledger.path().display());
                let known =
                    if known.contains([',', '"']) { format!("\"{}\"", known.replace('"', "\"\"")) } else { known };
                let changes =
                    [("checkpoint", next(ledger.path()).display().to_string()), ("existing-from-checkpoint", known)];
                let place = if device.kind() == Kind::Tape { ", on another tape" } else { "" };
                error.hint(format_args!("to go on with what is missing{place}: {}", again(&changes, &dest)))
            }
        }
    }
}

/// The plan in words, for `--dry-run`.
fn describe(plan: &Plan, records: &[Record]) -> String {
    let mut text = String::new();
    for record in records.iter().filter(|r| r.outcome == Outcome::Planned) {
        let digest = record.digest.as_ref().map_or(String::new(), Digest::to_string);
        let _ = writeln!(text, "{digest} {:>14} {}", record.bytes, record.source);
    }
    let images = records.iter().filter(|r| r.outcome == Outcome::Planned).count();
    let _ = writeln!(text, "images: {images}");
    let _ = writeln!(text, "manifests: {} (the gather index included)", plan.manifests);
    let _ = writeln!(text, "blobs: {} (manifests included), {} bytes left to fetch", plan.blobs(), plan.to_fetch());
    let _ = writeln!(text, "left out: {} (at the destination already)", plan.skipped);
    let _ = writeln!(text, "archive size: {} bytes ({})", plan.total(), units::human_size(plan.total()));
    text
}

fn open(args: &Args) -> Result<Device> {
    match args.path(1) {
        path if path == Path::new("-") => Device::stdout(),
        path => Device::open(path, args.force),
    }
}

/// No file is both read and written, or written twice.
fn check_files(args: &Args) -> Result<()> {
    let dash = Path::new("-");
    let mut read: Vec<(&str, &Path)> = vec![("SOURCES-FILE", args.path(0))];
    read.extend(args.existing_from_checkpoint.iter().map(|(path, _)| ("--existing-from-checkpoint", path.as_path())));
    let mut written: Vec<(&str, &Path)> = Vec::new();
    if !args.dry_run {
        written.push(("DEST-FILE", args.path(1)));
        written.extend(args.checkpoint.as_deref().map(|path| ("--checkpoint", path)));
    }
    written.extend(args.report.as_deref().map(|path| ("--report", path)));
    for (n, (as_output, output)) in written.iter().enumerate().filter(|(_, (_, path))| *path != dash) {
        let others = read.iter().chain(&written[..n]).filter(|(_, path)| *path != dash);
        for (as_other, other) in others {
            if is_same_file(output, other) {
                return Err(Error::usage(format!("{output:?} is both {as_other} and {as_output}")));
            }
        }
    }
    Ok(())
}

/// Whether two paths name one regular file, there or not.
fn is_same_file(a: &Path, b: &Path) -> bool {
    match (std::fs::metadata(a), std::fs::metadata(b)) {
        (Ok(a), Ok(b)) => a.is_file() && (a.dev(), a.ino()) == (b.dev(), b.ino()),
        (Err(_), Err(_)) => absolute(a) == absolute(b),
        _ => false,
    }
}

/// Where a file that is not there would be.
fn absolute(path: &Path) -> Option<PathBuf> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Some(dir.canonicalize().ok()?.join(path.file_name()?))
}

/// The command line of this run with other flags and another destination, for a shell.
fn command(args: &Args, changes: &[(&str, String)], dest: &Path) -> String {
    let replaced = |flag: &str| matches!(flag, "checkpoint" | "force") && changes.iter().any(|(name, _)| *name == flag);
    let mut words = vec!["ace-dt".to_string(), "mirror".into(), "archive".into()];
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
