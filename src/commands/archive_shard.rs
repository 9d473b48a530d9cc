//! `mirror archive --plan`: the archive of one shard of a plan.

use std::{
    cell::RefCell,
    collections::HashSet,
    sync::atomic::{AtomicUsize, Ordering},
};

use super::{
    archive_run::{ArchiveRun, check_sources, written},
    path_conflicts,
    report::{ReportFile, ShardReport, of_shard},
    setup::Setup,
};
use crate::{
    archive::{checkpoint, write::existing::ExistingContent},
    cli::{
        archive_options::{ArchiveOptions, ShardOptions},
        progress::Progress,
    },
    error::{Context, Error, Result},
    gather::collect::{IndexOptions, SourceOutcome},
    log,
    media::tape::mtio,
    shards::{
        pins::PinnedStore,
        plan_file::{ShardFigures, SharedPlan},
        planning::ShardSpec,
    },
};

/// # Errors
/// With what fails.
pub fn run(options: &ArchiveOptions, shard: &ShardOptions) -> Result<()> {
    let (path, number) = (&shard.plan, shard.choice.number);
    path_conflicts::check(&[("--plan", path)], &written(options))?;
    let shared = SharedPlan::read(path)?;
    let (plan, figures) = (&shared.plan, shared.shard(&shard.choice)?);
    let name = format!("shard {number} of {} of the plan {path:?}", shared.count());
    let sources = shared.sources(number).doing(|| name.clone())?;
    check_sources(options, sources.iter().map(|(source, _)| &source.locator))?;
    let report = options.report.as_deref().map(ReportFile::open).transpose()?;
    let mut told = ShardReport::new(&shared, number);
    if sources.is_empty() {
        log::info(format_args!("{name} has no sources: no archive is made"));
        told.outcome = SourceOutcome::Archived;
        return report
            .map_or(Ok(()), |report| report.write(&of_shard(told, &[]), Ok(()), "nothing was to be archived"));
    }
    let setup = Setup::new(&options.connection)?;
    let mut write = options.output.at_level(setup.level);
    write.resume |= !write.force && may_be_whole(options, figures)?;
    let dest = if options.dry_run { None } else { Some(write.open()?) };

    let progress = Progress::new(&options.progress)?;
    let (count, fetched) = (sources.len(), AtomicUsize::new(0));
    let tell = || progress.resolving(count, count, fetched.fetch_add(1, Ordering::Relaxed) + 1);
    let spec = ShardSpec {
        sources,
        left_out: &plan.left_out,
        recursive: plan.recursive,
        threads: setup.threads,
        fetched: &tell,
    };
    let mut found = spec.collect(&PinnedStore { pins: &plan.pins, inner: &*setup.store });
    progress.clear();
    crate::signal::check()?;
    let index = IndexOptions { annotations: &plan.annotations, fallback: plan.index_fallback, version: &plan.tool };
    let existing = ExistingContent { on_media: plan.existing.iter().cloned().collect(), blobs: HashSet::new() };
    let run = ArchiveRun {
        options,
        setup: &setup,
        write: &write,
        progress: &progress,
        recursive: plan.recursive,
        volumes: RefCell::default(),
    };
    let check = |archive: &_| {
        let another = |e: Error| e.hint("another version of this program may have made the plan: make it anew");
        figures.check(archive).map_err(another)
    };
    let outcome = run.archive(&mut found, &index, &existing, dest, check).doing(|| name);
    if !options.dry_run {
        setup.store.keep(&found.graph, &found.roots(), plan.recursive);
    }
    told.outcome = match &outcome {
        Ok(()) if options.dry_run => SourceOutcome::Planned,
        Ok(()) => SourceOutcome::Archived,
        Err(_) => SourceOutcome::Incomplete,
    };
    run.conclude(report, &of_shard(told, &found.records), outcome)
}

/// Whether the ledger says that all of the shard is on a medium that can be looked at.
fn may_be_whole(options: &ArchiveOptions, figures: &ShardFigures) -> Result<bool> {
    let there = std::fs::metadata(options.output.dest());
    let can_be_looked_at = there.is_ok_and(|meta| meta.is_file() || mtio::is_tape(&meta));
    match options.output.checkpoint().filter(|ledger| can_be_looked_at && ledger.is_file()) {
        Some(ledger) => Ok(figures.is_recorded(&checkpoint::records(ledger)?)),
        None => Ok(false),
    }
}
