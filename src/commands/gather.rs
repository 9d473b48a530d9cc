//! `mirror gather`: from a list of sources to one artifact in a registry.

use super::{
    path_conflicts,
    report::ReportFile,
    setup::{self, Setup},
};
use crate::{
    cli::{archive_options::GatherOptions, output, progress::Progress},
    copy::push_graph::PushJob,
    error::Result,
    gather::collect::{self, Collected, IndexOptions, SourceOutcome},
    store::target::{RegistryTarget, Target},
};

/// # Errors
/// With what fails.
pub fn run(options: &GatherOptions) -> Result<()> {
    let selection = &options.selection;
    let written: Vec<_> = options.report.iter().map(|path| ("--report", path.as_path())).collect();
    path_conflicts::check(&[("SOURCES-FILE", &selection.sources)], &written)?;
    let sources = collect::read(&selection.sources)?;
    let report = options.report.as_deref().map(ReportFile::open).transpose()?;
    let setup = Setup::new(&options.connection)?;
    let progress = Progress::new(&options.progress)?;
    let mut found = setup::collect(&*setup.store, selection, setup.threads, &progress, sources, &|_| false)?;
    let outcome = push(options, &setup, &mut found, &progress);
    setup.store.keep(&found.graph, &found.roots(), selection.recursive);
    match report {
        Some(report) => report.write(&found.records, outcome, "all was pushed"),
        None => outcome,
    }
}

/// Writes the gather index, and pushes it with all below it.
fn push(options: &GatherOptions, setup: &Setup, found: &mut Collected, progress: &Progress) -> Result<()> {
    let selection = &options.selection;
    let version = output::version();
    let index =
        IndexOptions { annotations: &selection.annotations, fallback: selection.index_fallback, version: &version };
    let (root, failed) = found.index(&index)?;
    let target = RegistryTarget::new(setup.store.registries(), options.image.repository.clone());
    let tag = options.image.tag.as_deref().unwrap_or("latest");
    let job = PushJob {
        store: &*setup.store,
        graph: &found.graph,
        root: &root,
        recursive: selection.recursive,
        // Each thread has a request to either side in flight.
        threads: (setup.threads / 2).max(1),
        observer: &|now, blobs, bytes| progress.pushing(now, blobs, bytes),
    };
    let pushed = job.run(&target, tag);
    progress.clear();
    found.reached(if pushed.is_ok() { SourceOutcome::Gathered } else { SourceOutcome::Incomplete });
    let again = "the same command again sends only what is missing";
    progress.pushed(pushed.map_err(|e| e.hint(again))?);
    output::print(&format!("{}:{tag}@{}\n", target.repository(), root.digest))?;
    failed.map_or(Ok(()), Err)
}
