//! What the commands have in common that begin with a list of sources: all are found, failures are
//! told, the gather index is written, and what became of each is noted.

use std::{collections::HashMap, path::Path};

use crate::commands::report::{Outcome, Record};
use crate::{
    cli::{args::Args, output, progress::Progress},
    error::{Error, Result},
    gather::{
        self, Gathered,
        sources::{self, Source},
    },
    log,
    oci::{Descriptor, Digest, media},
    signal,
    store::{
        Store,
        graph::{Graph, OriginId},
    },
    util::parallel,
};

/// Finds what sources name.
pub struct Collector<'a> {
    pub args: &'a Args,
    pub store: &'a dyn Store,
    /// Requests at a time.
    pub threads: usize,
    pub progress: &'a Progress,
}

/// Whether a blob is at the destination already.
pub type Known<'a> = dyn Fn(&Digest) -> bool + Sync + 'a;

/// What was found.
pub struct Collected {
    pub graph: Graph,
    /// In the order of the references.
    pub gathered: Vec<Gathered>,
    /// One for each source.
    pub records: Vec<Record>,
}

/// Reads a list of sources, which must not be empty.
pub fn read(path: &Path) -> Result<Vec<Source>> {
    let sources = sources::read(path)?;
    match sources.is_empty() {
        true => Err(Error::usage("it lists no sources").doing(format!("reading the sources file {path:?}"))),
        false => Ok(sources),
    }
}

impl Collector<'_> {
    /// Finds all sources, in the order of their references. With `--continue` also looks for
    /// every blob.
    pub fn collect(&self, sources: Vec<Source>, there: &Known) -> Result<Collected> {
        let options = gather::Options {
            platforms: &self.args.platforms,
            recursive: self.args.recursive,
            threads: self.threads,
            progress: &|resolved, sources, manifests| self.progress.resolving(resolved, sources, manifests),
        };
        let (graph, mut gathered) = gather::gather(self.store, sources, &options);
        gathered.sort_by(|a, b| a.source.written.cmp(&b.source.written));
        if self.args.keep_going {
            self.look_for_blobs(&graph, &mut gathered, there);
        }
        self.progress.clear();
        signal::check()?;
        let records = gathered.iter().map(|g| record(&graph, g)).collect();
        Ok(Collected { graph, gathered, records })
    }

    /// A source whose blobs cannot all be had fails now: once its bytes are planned, it is too late.
    fn look_for_blobs(&self, graph: &Graph, gathered: &mut [Gathered], there: &Known) {
        let mut wanted: HashMap<Digest, (Descriptor, OriginId)> = HashMap::new();
        for pick in gathered.iter().filter_map(|g| g.picks.as_ref().ok()).flatten() {
            wanted.extend(below(graph, pick, self.args.recursive).unwrap_or_default());
        }
        let fetched = |d: &Descriptor| {
            !media::is_manifest(&d.media_type) && !there(&d.digest) && d.inline().is_none() && d.size > 0
        };
        let wanted: Vec<_> = wanted.into_values().filter(|(d, _)| fetched(d)).collect();
        let found = parallel::map(wanted.len(), self.threads, |n| {
            let (descriptor, origin) = &wanted[n];
            self.store.has_blob(graph.origin(*origin), descriptor)
        });
        let missing: HashMap<&Digest, &Error> =
            wanted.iter().zip(&found).filter_map(|((d, _), found)| Some((&d.digest, found.as_ref().err()?))).collect();
        for source in gathered {
            let Ok(picks) = &source.picks else { continue };
            let digests = picks.iter().filter_map(|pick| below(graph, pick, self.args.recursive).ok()).flatten();
            if let Some(why) = digests.filter_map(|(digest, _)| missing.get(&digest)).next() {
                source.picks = Err((**why).clone().doing(format!("gathering {}", source.source.written)));
            }
        }
    }
}

impl Collected {
    /// Writes the gather index over all that was found. The error, if there is one, is what the
    /// run is to end with: of sources that `--continue` left out.
    pub fn index(&mut self, args: &Args) -> Result<(Descriptor, Option<Error>)> {
        let failed = failures(&self.gathered, args.keep_going)?;
        let picks: Vec<Descriptor> =
            self.gathered.iter().filter_map(|g| g.picks.as_ref().ok()).flatten().cloned().collect();
        if picks.is_empty() {
            return Err(
                failed.unwrap_or_else(|| Error::new("nothing is left: no source has a manifest for --platforms"))
            );
        }
        let annotations = args.annotations.clone();
        let root = gather::index(&mut self.graph, picks, annotations, args.index_fallback, &output::version())?;
        Ok((root, failed))
    }

    /// What was found, for the cache: an image that was taken whole by its reference.
    pub fn roots(&self) -> Vec<(Option<&str>, &Descriptor)> {
        let mut roots = Vec::new();
        for gathered in &self.gathered {
            let picks = gathered.picks.as_deref().unwrap_or_default();
            let whole = |pick: &Descriptor| gathered.digest.as_ref() == Some(&pick.digest);
            roots.extend(picks.iter().map(|pick| (whole(pick).then_some(&*gathered.source.written), pick)));
        }
        roots
    }

    /// Notes how far the sources came that were found.
    pub fn reached(&mut self, outcome: Outcome) {
        self.records.iter_mut().filter(|r| r.outcome == Outcome::Planned).for_each(|r| r.outcome = outcome);
    }
}

/// All that lies below a pick, itself included, each digest once, with where it comes from.
pub fn below(graph: &Graph, pick: &Descriptor, recursive: bool) -> Result<HashMap<Digest, (Descriptor, OriginId)>> {
    let mut all = HashMap::new();
    graph.walk(pick, recursive, &mut |d, origin| {
        let new = !all.contains_key(&d.digest);
        if new {
            all.insert(d.digest.clone(), (d.clone(), origin));
        }
        Ok(new)
    })?;
    Ok(all)
}

fn record(graph: &Graph, gathered: &Gathered) -> Record {
    let (outcome, bytes, error) = match &gathered.picks {
        Err(e) => (Outcome::Failed, 0, Some(e.to_string())),
        Ok(picks) if picks.is_empty() => (Outcome::Unmatched, 0, None),
        Ok(picks) => {
            let mut all = HashMap::new();
            picks.iter().filter_map(|pick| below(graph, pick, false).ok()).for_each(|found| all.extend(found));
            (Outcome::Planned, all.values().fold(0, |sum: u64, (d, _)| sum.saturating_add(d.size)), None)
        }
    };
    Record { source: gathered.source.written.clone(), outcome, digest: gathered.digest.clone(), bytes, error }
}

/// Tells of every source that failed. The error over all of them ends the run now, or, with
/// `--continue`, is what the run ends with.
fn failures(gathered: &[Gathered], keep_going: bool) -> Result<Option<Error>> {
    let failed: Vec<(&str, &Error)> =
        gathered.iter().filter_map(|g| Some((g.source.written.as_str(), g.picks.as_ref().err()?))).collect();
    let error = match failed[..] {
        [] => return Ok(None),
        [(_, error)] if !keep_going => return Err(error.clone()),
        _ => {
            failed.iter().for_each(|(_, e)| log::error(e));
            let names: Vec<&str> = failed.iter().map(|(name, _)| *name).collect();
            let what = if keep_going { "were left out" } else { "failed" };
            Error::new(format!("{} of {} sources {what}: {}", failed.len(), gathered.len(), names.join(", ")))
        }
    };
    if keep_going { Ok(Some(error)) } else { Err(error) }
}
