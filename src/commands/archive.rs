//! `mirror archive`: from a list of sources to an archive on a device.

use std::fmt::Write as _;

use crate::{
    archive::write::plan::Plan,
    cli::{args::Args, output, progress::Progress},
    error::Result,
    oci::Digest,
    stream::pipeline::Geometry,
    util::units,
};
use crate::{
    archive::write::{
        existing::There,
        session::{self, Opened, Transfer},
    },
    commands::{
        path_conflicts,
        report::{self, Outcome, Record},
        set_up,
    },
    gather::collect::{self, Collected, Collector},
};

pub fn run(args: &Args) -> Result<()> {
    let geometry = Geometry::new(args.block_size, args.buffer_size, args.hwm)?;
    path_conflicts::check(args, Some(args.path(0)))?;
    let sources = collect::read(args.path(0))?;
    args.report.as_deref().map_or(Ok(()), report::prepare)?;
    let mut there = There::by_ledgers(args)?;
    let setup = set_up(args)?;
    let (store, threads) = (&*setup.store, setup.threads);
    let dest = if args.dry_run { None } else { Some(session::open(args, args.path(1))?) };

    let progress = Progress::new(&args.progress)?;
    there.add_images(&args.operands[2..], args, store, threads)?;
    let collector = Collector { args, store, threads, progress: &progress };
    let mut found = collector.collect(sources, &|digest| there.has(digest))?;
    let transfer = Transfer::new("mirror archive", args, &setup, geometry, &progress);
    let outcome = archive(args, &mut found, &there, &transfer, dest);
    if !args.dry_run {
        store.keep(&found.graph, &found.roots(), args.recursive);
    }
    match &args.report {
        Some(path) => outcome.and(report::write(path, &found.records)),
        None => outcome,
    }
}

/// Plans the archive, and writes it or tells of it; notes how far the sources came.
fn archive(args: &Args, found: &mut Collected, there: &There, transfer: &Transfer, dest: Option<Opened>) -> Result<()> {
    let (root, failed) = found.index(args)?;
    let plan = session::plan(args, &found.graph, &root, &args.reference, there)?;
    let done = match dest {
        None => output::print(&describe(&plan, &found.records)).map(|()| Outcome::Planned),
        Some(dest) => transfer.run(&plan, dest).map(|()| Outcome::Archived),
    };
    found.reached(*done.as_ref().unwrap_or(&Outcome::Incomplete));
    done?;
    failed.map_or(Ok(()), Err)
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
