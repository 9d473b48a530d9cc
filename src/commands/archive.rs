//! `mirror archive`: from a list of sources to an archive on a device.

use std::{fmt::Write as _, path::Path};

use serde::Serialize;

use super::{
    path_conflicts,
    report::ReportFile,
    retry_hint::{self, RetryHint},
    setup::{self, Setup},
};
use crate::{
    archive::write::{
        existing::ExistingContent,
        plan::Plan,
        session::{OpenedDestination, WriteOptions, WriteSession},
    },
    cli::{args::ListFormat, options::ArchiveOptions, output, progress::Progress},
    error::Result,
    gather::{
        GatherSettings,
        collect::{self, Collected, Collector, IndexOptions, SourceOutcome, SourceRecord},
    },
    oci::{Digest, json},
    store::Locator,
    util::units,
};

/// # Errors
/// With what fails.
pub fn run(options: &ArchiveOptions) -> Result<()> {
    check_paths(options)?;
    let selection = &options.selection;
    let sources = collect::read(&selection.sources)?;
    let archives = sources.iter().filter_map(|source| source.locator.archive());
    let archives: Vec<_> = archives.chain(options.existing.images.iter().filter_map(Locator::archive)).collect();
    path_conflicts::check(&archives.iter().map(|path| ("a source", *path)).collect::<Vec<_>>(), &written(options))?;
    let layouts = sources.iter().map(|source| &source.locator).chain(&options.existing.images);
    let layouts: Vec<&Path> = layouts.filter_map(Locator::layout).collect();
    path_conflicts::not_inside(&layouts, &written(options))?;
    let report = selection.report.as_deref().map(ReportFile::open).transpose()?;
    let mut existing = ExistingContent::by_checkpoints(&options.existing.checkpoints)?;
    let setup = Setup::new(&options.connection)?;
    let (store, threads) = (&*setup.store, setup.threads);
    let write = options.output.at_level(setup.level);
    let dest = if options.dry_run { None } else { Some(write.open()?) };

    let progress = Progress::new(&options.progress)?;
    existing.add_images(&options.existing.images, selection.recursive, store, threads)?;
    let settings = GatherSettings {
        platforms: &selection.platforms,
        sparse: selection.sparse_index,
        recursive: selection.recursive,
        threads,
        observer: &|resolved, sources, manifests| progress.resolving(resolved, sources, manifests),
    };
    let collector = Collector { store, settings, keep_going: selection.keep_going, digest_tags: selection.digest_tags };
    let found = collector.collect(sources, &|digest| existing.has(digest));
    progress.clear();
    let mut found = found?;
    let run = Run { options, setup: &setup, write: &write, progress: &progress };
    let outcome = run.archive(&mut found, &existing, dest);
    if !options.dry_run {
        store.keep(&found.graph, &found.roots(), selection.recursive);
    }
    match report {
        Some(report) => {
            let done = if options.dry_run { "the plan was made" } else { "the archive is whole" };
            report.write(&found.records, outcome, done)
        }
        None => outcome,
    }
}

/// No file has two parts in the run.
fn check_paths(options: &ArchiveOptions) -> Result<()> {
    let mut read = vec![("SOURCES-FILE", options.selection.sources.as_path())];
    read.extend(options.existing.checkpoints.iter().map(|(path, _)| ("--existing-from-checkpoint", path.as_path())));
    path_conflicts::check(&read, &written(options))
}

/// What the run writes.
fn written(options: &ArchiveOptions) -> Vec<(&'static str, &Path)> {
    let mut written = Vec::new();
    if !options.dry_run {
        written.push(("DEST-FILE", options.output.dest()));
        written.extend(options.output.checkpoint().map(|path| ("--checkpoint", path)));
    }
    written.extend(options.selection.report.as_deref().map(|path| ("--report", path)));
    written.extend(options.progress.written());
    written
}

/// All that the run has by the time that sources are found.
struct Run<'a> {
    options: &'a ArchiveOptions,
    setup: &'a Setup,
    write: &'a WriteOptions,
    progress: &'a Progress,
}

impl Run<'_> {
    /// Plans the archive, and writes it or tells of it; notes how far the sources came.
    fn archive(
        &self,
        found: &mut Collected,
        existing: &ExistingContent,
        dest: Option<OpenedDestination>,
    ) -> Result<()> {
        let selection = &self.options.selection;
        let index = IndexOptions {
            annotations: &selection.annotations,
            fallback: selection.index_fallback,
            version: &output::version(),
        };
        let (root, failed) = found.index(&index)?;
        let root = (&root, self.options.reference.as_str());
        let plan = setup::plan(&found.graph, root, existing, selection.recursive, self.options.manifest_json)?;
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
        let session = WriteSession { options: self.write, plan, store: &**store, threads: *threads };
        let hint = RetryHint { line: &self.options.line, options: self.write };
        retry_hint::write(&session, dest, self.progress, Some(&hint))
    }
}

/// A source of the plan.
#[derive(Serialize)]
struct PlannedSource<'a> {
    reference: &'a str,
    digest: Option<&'a Digest>,
    /// Of all that it consists of.
    bytes: u64,
}

/// The plan as an object. Sizes in bytes.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PlanObject<'a> {
    sources: Vec<PlannedSource<'a>>,
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
        PlannedSource { reference: source, digest: digest.as_ref(), bytes: *bytes }
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
