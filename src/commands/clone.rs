//! `mirror clone`: what a list names to where a map says, from registry to registry.

use super::{
    copy::{CopyJob, CopySources},
    path_conflicts,
    report::ReportFile,
    routing::{Router, left_out},
    setup::Setup,
};
use crate::{
    cli::{map_options::CloneOptions, progress::Progress},
    error::{Error, Result},
    gather::{self, GatherSettings, collect, sources},
    log,
    mapper::assign::SourceManifest,
    oci::annotation,
    signal,
};

/// # Errors
/// If not all could be delivered.
pub fn run(options: &CloneOptions) -> Result<()> {
    let map = &options.copy.map;
    let written: Vec<_> = options.copy.report.iter().map(|path| ("--report", path.as_path())).collect();
    path_conflicts::check(&[("SOURCES-FILE", &options.sources)], &written)?;
    let mut sources = sources::read(&options.sources)?;
    if sources.is_empty() {
        let doing = format!("reading the sources file {:?}", options.sources);
        return Err(Error::new("it lists no sources").doing(doing));
    }
    let report = options.copy.report.as_deref().map(ReportFile::open).transpose()?;
    let setup = Setup::new(&options.copy.connection)?;
    let router = Router::read(map, &setup)?;
    sources.retain(|source| router.takes(source));
    if sources.is_empty() {
        return Err(Error::new("there is nothing to deliver: no source was selected"));
    }
    let progress = Progress::new(&options.copy.progress)?;
    let settings = GatherSettings {
        platforms: &options.platforms,
        sparse: false,
        recursive: map.recursive,
        threads: setup.threads,
        observer: &|resolved, sources, manifests| progress.resolving(resolved, sources, manifests),
    };
    let (graph, gathered) = gather::gather(&*setup.store, sources, &settings);
    progress.clear();
    signal::check()?;
    collect::failures(&gathered, map.keep_going)?;
    let (mut all, mut failed, mut unmatched) = (Vec::new(), Vec::new(), Vec::new());
    for found in gathered {
        let (source, picks) = (found.source, found.picks);
        let picks = match picks {
            Ok(picks) => picks,
            Err(e) => {
                failed.push((source.written, e));
                continue;
            }
        };
        if picks.is_empty() {
            unmatched.push(source.written.clone());
        }
        for carried in picks {
            // The map sees what the reference points to, before platforms are selected.
            let mut mapped = carried.clone();
            if let Some(resolved) = &found.resolved {
                mapped = resolved.clone();
                mapped.annotations.clone_from(&carried.annotations);
                mapped.annotations.remove(annotation::SOURCE_INDEX);
            }
            all.push(SourceManifest { mapped, carried });
        }
    }
    if all.is_empty() && failed.is_empty() {
        return Err(Error::new("nothing is left: no source has a manifest for --platforms"));
    }
    if map.check {
        router.print(&all)?;
        return match failed.len() {
            0 => Ok(()),
            n => Err(left_out(n)),
        };
    }
    if all.is_empty() {
        log::warn("nothing is left to be delivered");
    }
    let job = CopyJob { options: &options.copy, setup: &setup, router: &router, progress: &progress };
    job.run(CopySources { sources: &all, origin: None, graph, failed: &failed, unmatched: &unmatched }, report)
}
