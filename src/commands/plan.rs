//! `mirror plan`: a list divided among several drives or hosts.

use std::{fmt::Write as _, path::Path};

use super::{
    path_conflicts,
    report::{ReplacedFile, ReportFile},
    setup::{self, Setup, is_dash},
};
use crate::{
    archive::write::existing::ExistingContent,
    cli::{archive_options::PlanOptions, output, progress::Progress},
    error::{Error, Result},
    gather::collect::{self, Collected, IndexOptions, SourceOutcome},
    log,
    shards::{
        pins::RecordingStore,
        plan_file::{ShardPlan, SharedPlan, is_plan},
        planning::PlanSpec,
    },
    util::units::{counted, grouped, human_size},
};

/// # Errors
/// With what fails; what may pass is marked, for a scheduler.
pub fn run(options: &PlanOptions) -> Result<()> {
    make(options).map_err(Error::for_scheduler)
}

fn make(options: &PlanOptions) -> Result<()> {
    let (selection, there) = (&options.selection, &options.existing);
    let dest = options.dest.as_deref().filter(|dest| !is_dash(dest));
    let mut read = vec![("SOURCES-FILE", selection.sources.as_path())];
    read.extend(there.checkpoints.iter().map(|(path, _)| ("--existing-from-checkpoint", path.as_path())));
    let mut written: Vec<(&str, &Path)> = dest.map(|dest| ("--output", dest)).into_iter().collect();
    written.extend(options.report.as_deref().map(|path| ("--report", path)));
    path_conflicts::check(&read, &written)?;
    let sources = collect::read(&selection.sources)?;
    let locators = sources.iter().map(|source| &source.locator).chain(&there.images);
    path_conflicts::check_sources(&written, locators)?;
    let report = options.report.as_deref().map(ReportFile::open).transpose()?;
    let file = dest.map(|dest| ReplacedFile::open(dest, "the plan", is_plan)).transpose()?;

    let mut existing = ExistingContent::by_checkpoints(&there.checkpoints)?;
    let setup = Setup::new(&options.connection)?;
    let progress = Progress::new(&options.progress)?;
    existing.add_images(&there.images, selection.recursive, &*setup.store, setup.threads)?;
    let store = RecordingStore::new(&*setup.store);
    let mut found =
        setup::collect(&store, selection, setup.threads, &progress, sources, &|digest| existing.has(digest))?;
    let outcome = plan(options, &setup, &mut found, &existing, store).and_then(|(plan, failed)| {
        tell(options, &plan, file)?;
        // The plan is there: to make it again would make another.
        failed.map_or(Ok(()), |e| Err(e.for_good()))
    });
    if outcome.is_err() && dest.is_none_or(|dest| !dest.exists()) {
        found.reached(SourceOutcome::Incomplete);
    }
    setup.store.keep(&found.graph, &found.roots(), selection.recursive);
    match report {
        Some(report) => report.write(&found.records, outcome, "the plan was made"),
        None => outcome,
    }
}

/// Divides what was found. The second error, if there is one, is what the run is to end with.
fn plan(
    options: &PlanOptions,
    setup: &Setup,
    found: &mut Collected,
    existing: &ExistingContent,
    store: RecordingStore,
) -> Result<(ShardPlan, Option<Error>)> {
    let (selection, version) = (&options.selection, output::version());
    let index =
        IndexOptions { annotations: &selection.annotations, fallback: selection.index_fallback, version: &version };
    let (root, failed) = found.index(&index)?;
    let spec = PlanSpec {
        shards: options.shards,
        balance: options.balance,
        recursive: selection.recursive,
        annotations: &selection.annotations,
        index_fallback: selection.index_fallback,
        version: &version,
        existing,
        threads: setup.threads,
    };
    Ok((spec.plan(found, &root, store.into_pins())?, failed))
}

/// Writes the plan, and prints what is in it.
fn tell(options: &PlanOptions, plan: &ShardPlan, file: Option<ReplacedFile>) -> Result<()> {
    let table = table(plan, options.volume_size);
    let empty = plan.shards.iter().zip(1..).filter(|(shard, _)| shard.root.is_none());
    let empty: Vec<String> = empty.map(|(_, number): (_, u32)| number.to_string()).collect();
    if !empty.is_empty() {
        log::warn(format_args!(
            "no sources for shard {}: so many cannot share this list without storing more of it twice",
            empty.join(", ")
        ));
    }
    let before = options.dest.as_deref().filter(|dest| !is_dash(dest)).map(SharedPlan::read).and_then(Result::ok);
    if let Some(before) = before.filter(|before| before.plan.to_bytes() != plan.to_bytes()) {
        let root = before.plan.root;
        log::warn(format_args!(
            "another plan, with the root {root}, is replaced: archives of its shards are none of this"
        ));
    }
    match (file, &options.dest) {
        (Some(file), _) => file.write(&plan.to_bytes())?,
        (None, Some(_)) => {
            table.lines().for_each(|line| log::line(format_args!("{line}")));
            return output::print(&String::from_utf8(plan.to_bytes()).expect("JSON is UTF-8"));
        }
        (None, None) => {}
    }
    output::print(&table)
}

/// The shards, a line each.
fn table(plan: &ShardPlan, volume_size: Option<u64>) -> String {
    let heading = ["SHARD", "SOURCES", "BLOBS", "BYTES", "ELSEWHERE TOO", "VOLUMES"].map(String::from);
    let of = plan.shards.len();
    let row = |(n, shard): (usize, &crate::shards::plan_file::ShardFigures)| {
        let volumes = volume_size.map_or(String::new(), |volume| shard.size.div_ceil(volume).to_string());
        let count = |n: usize| grouped(n as u64);
        let number = format!("{}/{of}", n + 1);
        [number, count(shard.images), count(shard.blobs), grouped(shard.size), grouped(shard.shared), volumes]
    };
    let rows: Vec<[String; 6]> = [heading].into_iter().chain(plan.shards.iter().enumerate().map(row)).collect();
    let columns = if volume_size.is_some() { 6 } else { 5 };
    let widths: Vec<usize> =
        (0..columns).map(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:>width$}", width = *width)).collect();
        let _ = writeln!(text, "{}", cells.join("  "));
    }
    let (twice, total) = (plan.stored_twice, plan.shards.iter().map(|shard| shard.size).sum::<u64>());
    let _ = writeln!(
        text,
        "all together: {} in {} bytes ({})",
        counted(plan.sources.len(), "source"),
        grouped(total),
        human_size(total)
    );
    let left_out = plan.existing.on_media.len() + plan.existing.blobs.len();
    if left_out > 0 {
        let _ = writeln!(text, "left out: {} at the destination already", counted(left_out, "blob"));
    }
    let _ = writeln!(
        text,
        "stored more than once because of the division: {} bytes ({})",
        grouped(twice),
        human_size(twice)
    );
    let _ = writeln!(text, "root: {}", plan.root);
    text
}
