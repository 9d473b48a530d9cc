//! `mirror archive`: from a list of sources to an archive on a device.

use super::{
    archive_run::{ArchiveRun, written},
    archive_shard, path_conflicts,
    report::ReportFile,
    setup::{self, Setup},
};
use crate::{
    archive::write::existing::ExistingContent,
    cli::{
        archive_options::{ArchiveInput, ArchiveOptions, SelectionOptions},
        options::ExistingOptions,
        output,
        progress::Progress,
    },
    error::{Error, Result},
    gather::collect::{self, IndexOptions},
};

/// # Errors
/// With what fails. Of a shard what may pass is marked, for a scheduler.
pub fn run(options: &ArchiveOptions) -> Result<()> {
    match &options.input {
        ArchiveInput::List(selection, existing) => run_list(options, selection, existing),
        ArchiveInput::Shard(shard) => archive_shard::run(options, shard).map_err(Error::for_scheduler),
    }
}

fn run_list(options: &ArchiveOptions, selection: &SelectionOptions, there: &ExistingOptions) -> Result<()> {
    let mut read = vec![("SOURCES-FILE", selection.sources.as_path())];
    read.extend(there.checkpoints.iter().map(|(path, _)| ("--existing-from-checkpoint", path.as_path())));
    path_conflicts::check(&read, &written(options))?;
    let sources = collect::read(&selection.sources)?;
    path_conflicts::check_sources(
        &written(options),
        sources.iter().map(|source| &source.locator).chain(&there.images),
    )?;
    let report = options.report.as_deref().map(ReportFile::open).transpose()?;
    let mut existing = ExistingContent::by_checkpoints(&there.checkpoints)?;
    let setup = Setup::new(&options.connection)?;
    let (store, threads) = (&*setup.store, setup.threads);
    let write = options.output.at_level(setup.level);
    let dest = if options.dry_run { None } else { Some(write.open()?) };

    let progress = Progress::new(&options.progress)?;
    existing.add_images(&there.images, selection.recursive, store, threads)?;
    let mut found = setup::collect(store, selection, threads, &progress, sources, &|digest| existing.has(digest))?;
    let index = IndexOptions {
        annotations: &selection.annotations,
        fallback: selection.index_fallback,
        version: &output::version(),
    };
    let run = ArchiveRun::new(options, &setup, &write, &progress, selection.recursive, report);
    let outcome = run.archive(&mut found, &index, &existing, dest, |_| Ok(()));
    if !options.dry_run {
        store.keep(&found.graph, &found.roots(), selection.recursive);
    }
    run.conclude(&found.records, outcome)
}
