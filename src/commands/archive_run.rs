//! What `mirror archive` does once sources are found, of a list or of a shard: planned, written or told, and reported.

use std::{
    cell::{Cell, RefCell},
    fmt::Write as _,
    path::Path,
};

use serde::Serialize;

use super::{
    report::{ReportFile, with_devices},
    retry_hint::{self, RetryHint},
    setup::{self, NamedRoot, Setup},
};
use crate::{
    archive::write::{
        existing::ExistingContent,
        plan::Plan,
        session::{OpenedDestination, WriteOptions, WriteSession},
    },
    cli::{archive_options::ArchiveOptions, args::ListFormat, output, progress::Progress},
    error::Result,
    gather::collect::{Collected, IndexOptions, SourceOutcome, SourceRecord},
    media::sink::Volumes,
    oci::{Digest, json},
    util::units,
};

/// What the run writes.
pub fn written(options: &ArchiveOptions) -> Vec<(&'static str, &Path)> {
    let mut written = Vec::new();
    if !options.dry_run {
        written.push(("DEST-FILE", options.output.dest()));
        written.extend(options.output.checkpoint().map(|path| ("--checkpoint", path)));
    }
    written.extend(options.report.as_deref().map(|path| ("--report", path)));
    written.extend(options.progress.written());
    written
}

/// All that the run has by the time that sources are found.
pub struct ArchiveRun<'a> {
    /// What was asked for.
    options: &'a ArchiveOptions,
    /// Where content comes from.
    setup: &'a Setup,
    /// How the archive is written.
    write: &'a WriteOptions,
    /// Who hears how far it is.
    progress: &'a Progress,
    /// Referrers too.
    recursive: bool,
    /// The tapes that it went to.
    volumes: RefCell<Volumes>,
    /// Where is told what became of each source.
    report: RefCell<Option<ReportFile>>,
    /// The archive was begun.
    is_begun: Cell<bool>,
}

impl<'a> ArchiveRun<'a> {
    /// A run of which nothing is begun.
    pub fn new(
        options: &'a ArchiveOptions,
        setup: &'a Setup,
        write: &'a WriteOptions,
        progress: &'a Progress,
        recursive: bool,
        report: Option<ReportFile>,
    ) -> ArchiveRun<'a> {
        let (volumes, report, is_begun) = (RefCell::default(), RefCell::new(report), Cell::default());
        ArchiveRun { options, setup, write, progress, recursive, volumes, report, is_begun }
    }

    /// Plans the archive, has that `check`ed, and writes it or tells of it; notes how far the sources came.
    ///
    /// # Errors
    /// If a source or the check fails, or the archive cannot be written.
    pub fn archive(
        &self,
        found: &mut Collected,
        index: &IndexOptions,
        existing: &ExistingContent,
        dest: Option<OpenedDestination>,
        check: impl FnOnce(&Plan) -> Result<()>,
    ) -> Result<()> {
        let (root, failed) = found.index(index)?;
        let named = NamedRoot { root: &root, name: &self.options.reference, version: index.version };
        let plan = setup::plan(&found.graph, named, existing, self.recursive, self.options.manifest_json)?;
        check(&plan)?;
        let done = match dest {
            None => {
                let text = match self.options.format {
                    ListFormat::Json => described(&plan, &found.records),
                    _ => describe(&plan, &found.records),
                };
                output::print(&text).map(|()| SourceOutcome::Planned)
            }
            Some(dest) => self.write(&plan, dest).map(|()| SourceOutcome::Archived),
        };
        found.reached(*done.as_ref().unwrap_or(&SourceOutcome::Incomplete));
        done?;
        failed.map_or(Ok(()), Err)
    }

    fn write(&self, plan: &Plan, dest: OpenedDestination) -> Result<()> {
        let Setup { store, threads, .. } = self.setup;
        let begins = || {
            self.is_begun.set(true);
            self.report.borrow_mut().as_mut().map_or(Ok(()), ReportFile::begin)
        };
        let session = WriteSession { options: self.write, plan, store: &**store, threads: *threads, begins: &begins };
        let hint = RetryHint { line: &self.options.line, options: self.write };
        let written = retry_hint::write(&session, dest, self.progress, Some(&hint));
        *self.volumes.borrow_mut() = written.volumes;
        written.outcome
    }

    /// Whether nothing was begun that a report would tell of.
    pub fn is_untouched(&self) -> bool {
        !self.is_begun.get()
    }

    /// Writes the report, if there is to be one.
    ///
    /// # Errors
    /// How the run ended, or else if the report cannot be written.
    pub fn conclude(&self, records: &[impl Serialize], outcome: Result<()>) -> Result<()> {
        let report = self.report.take();
        let done = if self.options.dry_run { "the plan was made" } else { "the archive is whole" };
        let records = with_devices(records, self.options.output.dest(), &self.volumes.borrow());
        report.map_or(outcome.clone(), |report| report.write(&records, outcome, done))
    }
}

/// A source of the plan.
#[derive(Serialize)]
struct DescribedSource<'a> {
    reference: &'a str,
    digest: Option<&'a Digest>,
    /// Of all that it consists of.
    bytes: u64,
}

/// The plan as an object. Sizes in bytes.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PlanObject<'a> {
    sources: Vec<DescribedSource<'a>>,
    root: &'a Digest,
    manifests: usize,
    blobs: usize,
    to_fetch: u64,
    left_out: u64,
    size: u64,
}

/// The plan for programs, for `--dry-run -o json`.
fn described(plan: &Plan, records: &[SourceRecord]) -> String {
    let planned = records.iter().filter(|record| record.outcome == SourceOutcome::Planned);
    let sources = planned.map(|record| {
        let SourceRecord { source, digest, bytes, .. } = record;
        DescribedSource { reference: source, digest: digest.as_ref(), bytes: *bytes }
    });
    let object = PlanObject {
        sources: sources.collect(),
        root: plan.root(),
        manifests: plan.manifests,
        blobs: plan.blobs(),
        to_fetch: plan.to_fetch(),
        left_out: plan.skipped,
        size: plan.total(),
    };
    String::from_utf8(json::pretty(&object)).expect("JSON is UTF-8") + "\n"
}

/// The plan in words, for `--dry-run`.
fn describe(plan: &Plan, records: &[SourceRecord]) -> String {
    let mut text = String::new();
    for record in records.iter().filter(|r| r.outcome == SourceOutcome::Planned) {
        let digest = record.digest.as_ref().map_or(String::new(), Digest::to_string);
        let _ = writeln!(text, "{digest} {:>14} {}", record.bytes, record.source);
    }
    let images = records.iter().filter(|r| r.outcome == SourceOutcome::Planned).count();
    let _ = writeln!(text, "images: {images}");
    let _ = writeln!(text, "manifests: {} (the gather index included)", plan.manifests);
    let _ = writeln!(text, "blobs: {} (manifests included), {} bytes left to fetch", plan.blobs(), plan.to_fetch());
    let _ = writeln!(text, "left out: {} (at the destination already)", plan.skipped);
    let _ = writeln!(text, "archive size: {} bytes ({})", plan.total(), units::human_size(plan.total()));
    text
}
