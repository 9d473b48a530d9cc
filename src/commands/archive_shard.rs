//! `mirror archive --plan`: the archive of one shard of a plan.

use std::{
    cell::Cell,
    sync::atomic::{AtomicUsize, Ordering},
};

use super::{
    archive_run::{ArchiveRun, written},
    path_conflicts,
    report::{ReportFile, ShardReport, of_shard},
    setup::Setup,
};
use crate::{
    archive::{checkpoint, read::open::look, write::plan::Plan},
    cli::{
        archive_options::{ArchiveOptions, ShardOptions},
        progress::Progress,
    },
    error::{Context, Error, Result},
    gather::collect::{IndexOptions, SourceOutcome, SourceRecord},
    media::{stream_input::InputOptions, tape::mtio},
    shards::{
        pins::PinnedStore,
        plan_file::{ShardFigures, ShardPlan, SharedPlan},
        planning::ShardSpec,
    },
};

const WHOLE: &str = "is whole, and nothing was written";

/// # Errors
/// With what fails.
pub fn run(options: &ArchiveOptions, shard: &ShardOptions) -> Result<()> {
    let (path, number) = (&shard.plan, shard.choice.number);
    path_conflicts::check(&[("--plan", path)], &written(options))?;
    let shared = SharedPlan::read(path)?;
    let (plan, figures) = (&shared.plan, shared.shard(&shard.choice)?);
    let name = format!("shard {number} of {} of the plan {path:?}", shared.count());
    let sources = shared.sources(number).doing(|| name.clone())?;
    path_conflicts::check_sources(&written(options), sources.iter().map(|(source, _)| &source.locator))?;
    let mut report = options.report.as_deref().map(ReportFile::open).transpose()?;
    let mut told = ShardReport::new(&shared, number);
    let progress = Progress::new(&options.progress)?;
    let is_recorded = !options.output.force() && is_recorded(options, figures)?;
    let is_plain = options.output.format().is_none() && options.output.dest().is_file();
    let found = match sources.is_empty() {
        true => Some("has no sources: no archive is made"),
        false if is_recorded && is_plain && !options.dry_run && is_whole(options, figures) => Some(WHOLE),
        false => None,
    };
    if let Some(found) = found {
        progress.say(&format!("{name} {found}"));
        told.outcome = SourceOutcome::Archived;
        let records = planned_records(plan, number);
        return report
            .map_or(Ok(()), |report| report.write(&of_shard(told, &records), Ok(()), "nothing was to be done"));
    }
    if !is_recorded && !options.dry_run {
        // What an earlier run told of it is not true.
        report.as_mut().map_or(Ok(()), ReportFile::begin)?;
    }
    let options = &with_number(options, number, shared.count());
    let setup = Setup::new(&options.connection)?;
    let mut write = options.output.at_level(setup.level);
    // A file that is not whole goes on only if that is asked for; the others are looked at by whoever goes on with them.
    write.resume |= is_recorded && !is_plain;
    let dest = if options.dry_run { None } else { Some(write.open()?) };

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
    let existing = plan.existing.content();
    let run = ArchiveRun::new(options, &setup, &write, &progress, plan.recursive, report);
    let made = Cell::new((told.blobs, told.size));
    let check = |archive: &Plan| {
        made.set((archive.blobs(), archive.total()));
        let another = |e: Error| e.hint("another version of this program may have made the plan: make it anew");
        figures.check(archive).map_err(another)
    };
    let outcome = run.archive(&mut found, &index, &existing, dest, check).doing(|| name);
    // Without --resume the same command would not go on with what was begun.
    let goes_on = run.is_untouched() || write.resume || options.dry_run;
    let outcome = outcome.map_err(|e| if goes_on { e } else { e.for_good() });
    if !options.dry_run {
        setup.store.keep(&found.graph, &found.roots(), plan.recursive);
    }
    (told.blobs, told.size) = made.get();
    told.outcome = match &outcome {
        Ok(()) if options.dry_run => SourceOutcome::Planned,
        Ok(()) => SourceOutcome::Archived,
        Err(_) => SourceOutcome::Incomplete,
    };
    if is_recorded && run.is_untouched() && outcome.is_err() {
        // What was told of a shard that was whole is still true, for all that is known.
        return outcome;
    }
    run.conclude(&of_shard(told, &found.records), outcome)
}

/// The same options, with the number of the shard on the command line that an error gives: a scheduler that has said it is
/// not there when that is given again.
fn with_number(options: &ArchiveOptions, number: u32, count: u32) -> ArchiveOptions {
    let mut options = options.clone();
    if !options.line.flags.iter().any(|(flag, _)| *flag == "shard") {
        options.line.flags.push(("shard", Some(format!("{number}/{count}"))));
    }
    options
}

/// What is told of the sources of a shard that is whole.
fn planned_records(plan: &ShardPlan, number: u32) -> Vec<SourceRecord> {
    let of_shard = plan.sources.iter().filter(|source| source.shard == number);
    let records = of_shard.map(|source| SourceRecord {
        source: source.source.clone(),
        outcome: SourceOutcome::Archived,
        file: None,
        digest: Some(source.digest.clone()),
        bytes: source.bytes,
        error: None,
    });
    records.collect()
}

/// Whether an uncompressed archive in a file, of which the checkpoint says that it is whole, is there from its beginning to its end. Like
/// whoever resumes, this goes by the checkpoint, and reads no blob again.
fn is_whole(options: &ArchiveOptions, figures: &ShardFigures) -> bool {
    match look(options.output.dest(), InputOptions::default()) {
        Ok((catalog, findings)) => {
            let is_planned = catalog.lists.root() == figures.root.as_ref() && catalog.blobs().len() == figures.blobs;
            findings.is_empty() && is_planned
        }
        Err(_) => false,
    }
}

/// Whether the checkpoint says that all of the shard is on a medium that can be looked at.
fn is_recorded(options: &ArchiveOptions, figures: &ShardFigures) -> Result<bool> {
    let there = std::fs::metadata(options.output.dest());
    let can_be_looked_at = there.is_ok_and(|meta| meta.is_file() || mtio::is_tape(&meta));
    match options.output.checkpoint().filter(|checkpoint| can_be_looked_at && checkpoint.is_file()) {
        Some(checkpoint) => Ok(figures.is_recorded(&checkpoint::records(checkpoint)?)),
        None => Ok(false),
    }
}
