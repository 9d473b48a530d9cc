//! A whole list of sources: all are found, failures are told, the gather index is written, and what
//! became of each is noted.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, ErrorKind, Result},
    gather::{
        self, GatherSettings, Gathered,
        sources::{self, GatherSource},
    },
    log,
    oci::{Annotations, Descriptor, Digest, annotation},
    signal,
    store::{
        Locator, Origin, Store,
        graph::{Graph, OriginId},
    },
    util::parallel,
};

/// What became of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceOutcome {
    /// All of it is in the archive, or at the destination already.
    Archived,
    /// All of it is in the registry.
    Gathered,
    /// A dry run would archive it.
    Planned,
    /// It was sent already, as it is now.
    Present,
    /// None of its platforms was wanted.
    Unmatched,
    /// It could not be had.
    Failed,
    /// The run ended before all was at the destination.
    Incomplete,
}

/// One source, for the report.
#[derive(Clone, Debug, Serialize)]
pub struct SourceRecord {
    /// As it stands in the list.
    pub source: String,
    /// How far it came.
    pub outcome: SourceOutcome,
    /// Where it is: the archive that is its own, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// What the reference points to.
    pub digest: Option<Digest>,
    /// Bytes of its manifests and blobs, each digest once.
    pub bytes: u64,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Finds what sources name.
pub struct Collector<'a> {
    /// Where they are.
    pub store: &'a dyn Store,
    /// How to gather.
    pub settings: GatherSettings<'a>,
    /// Leave out sources that fail, and look for every blob before it is too late.
    pub keep_going: bool,
    /// Take along what lies under cosign's tags of every manifest.
    pub digest_tags: bool,
}

/// What is said of all in the gather index.
pub struct IndexOptions<'a> {
    /// For the index itself.
    pub annotations: &'a Annotations,
    /// List indexes in an annotation, not among the manifests.
    pub fallback: bool,
    /// The version of this tool.
    pub version: &'a str,
}

/// Whether a blob is at the destination already.
pub type IsPresent<'a> = dyn Fn(&Digest) -> bool + Sync + 'a;

/// What was found.
pub struct Collected {
    /// The manifests of all.
    pub graph: Graph,
    /// In the order of the references.
    pub gathered: Vec<Gathered>,
    /// One for each source.
    pub records: Vec<SourceRecord>,
    keep_going: bool,
}

/// Reads a list of sources, which must not be empty.
///
/// # Errors
/// If it cannot be read, is malformed, or lists nothing.
pub fn read(path: &Path) -> Result<Vec<GatherSource>> {
    let sources = sources::read(path)?;
    match sources.is_empty() {
        true => Err(Error::usage("it lists no sources").doing(format!("reading the sources file {path:?}"))),
        false => Ok(sources),
    }
}

impl Collector<'_> {
    /// Finds all sources, in the order of their references. To keep going, it also looks for every
    /// blob that is not `present`.
    ///
    /// # Errors
    /// If a signal asks to stop. A source that fails says so in its place.
    pub fn collect(&self, sources: Vec<GatherSource>, present: &IsPresent) -> Result<Collected> {
        let (mut graph, mut gathered) = gather::gather(self.store, sources, &self.settings);
        if self.digest_tags {
            self.follow_digest_tags(&mut graph, &mut gathered);
        }
        gathered.sort_by(|a, b| a.source.written.cmp(&b.source.written));
        if self.keep_going {
            self.look_for_blobs(&graph, &mut gathered, present);
        }
        signal::check()?;
        Ok(Collected::new(graph, gathered, self.keep_going))
    }

    /// Adds, for every manifest of a source, what lies under tags that are made of its digest, `sha256-HEX.sig` and the
    /// like, as cosign lays them out (cosign's "Registry Support"): each as a source of its own.
    fn follow_digest_tags(&self, graph: &mut Graph, gathered: &mut Vec<Gathered>) {
        let mut tags: HashMap<Origin, Result<Vec<String>>> = HashMap::new();
        let mut known: HashSet<String> = gathered.iter().map(|found| found.source.written.clone()).collect();
        let mut from = 0;
        // What was found may be signed itself.
        while from < gathered.len() {
            let (mut next, end) = (Vec::new(), gathered.len());
            for found in &mut gathered[from..end] {
                let Ok(picks) = &found.picks else { continue };
                let place = match &found.source.locator {
                    Locator::Registry(reference) => reference.repository.to_string(),
                    Locator::Layout(dir, _) => format!("oci:{}", dir.display()),
                    Locator::Archive(..) => continue,
                };
                // Nothing of it is taken.
                if picks.is_empty() {
                    continue;
                }
                let below = graph.reachable(&picks.iter().collect::<Vec<_>>(), self.settings.recursive);
                let below = below.map(|found| found.manifests).unwrap_or_default();
                let prefixes: HashSet<String> = below
                    .iter()
                    .flatten()
                    .map(|d| &d.digest)
                    .chain(found.resolved.as_ref().map(|resolved| &resolved.digest))
                    .map(tag_of)
                    .collect();
                let origin = found.source.locator.origin();
                let listed = tags.entry(origin).or_insert_with_key(|origin| self.store.tags(origin));
                match listed {
                    Ok(tags) => {
                        let is_of = |tag: &&String| tag.split_once('.').is_some_and(|(p, _)| prefixes.contains(p));
                        let names = tags.iter().filter(is_of).map(|tag| format!("{place}:{tag}"));
                        next.extend(names.filter(|name| known.insert(name.clone())));
                    }
                    Err(e) => {
                        found.picks =
                            Err(e.clone().doing(format!("looking for digest tags of {}", found.source.written)));
                    }
                }
            }
            let sources = next.into_iter().filter_map(|written| {
                let locator = written.parse().ok()?;
                Some(GatherSource { written, locator, labels: Default::default() })
            });
            // They have no platform.
            let settings = GatherSettings { platforms: &[], ..self.settings };
            let (more, found) = gather::gather(self.store, sources.collect(), &settings);
            graph.absorb(more);
            gathered.extend(found);
            from = end;
        }
    }

    /// A source whose blobs cannot all be had fails now: once its bytes are planned, it is too late.
    fn look_for_blobs(&self, graph: &Graph, gathered: &mut [Gathered], present: &IsPresent) {
        let blobs_of = |gathered: &Gathered| -> Vec<(Descriptor, OriginId)> {
            let picks: Vec<&Descriptor> = gathered.picks.iter().flatten().collect();
            graph.reachable(&picks, self.settings.recursive).map(|found| found.blobs).unwrap_or_default()
        };
        let mut met = HashSet::new();
        let fetched = |d: &Descriptor| !present(&d.digest) && d.inline().is_none() && d.size > 0;
        let mut wanted = Vec::new();
        for source in gathered.iter() {
            let blobs = blobs_of(source).into_iter();
            wanted.extend(blobs.filter(|(d, _)| fetched(d) && met.insert(d.digest.clone())));
        }
        let found = parallel::map(wanted.len(), self.settings.threads, |n| {
            let (descriptor, origin) = &wanted[n];
            self.store.has_blob(graph.origin(*origin), descriptor)
        });
        let missing: HashMap<&Digest, &Error> =
            wanted.iter().zip(&found).filter_map(|((d, _), found)| Some((&d.digest, found.as_ref().err()?))).collect();
        for source in gathered {
            if let Some(why) = blobs_of(source).iter().find_map(|(d, _)| missing.get(&d.digest)) {
                source.picks = Err((**why).clone().doing(format!("gathering {}", source.source.written)));
            }
        }
    }
}

impl Collected {
    /// What was gathered, in the order of the references.
    pub fn new(graph: Graph, gathered: Vec<Gathered>, keep_going: bool) -> Collected {
        let records = gathered.iter().map(|g| record(&graph, g)).collect();
        Collected { graph, gathered, records, keep_going }
    }

    /// Writes the gather index over all that was found. The second error, if there is one, is what the
    /// run is to end with: of sources that were left out.
    ///
    /// # Errors
    /// If a source failed and none may be left out, or nothing is left.
    pub fn index(&mut self, options: &IndexOptions) -> Result<(Descriptor, Option<Error>)> {
        let failed = failures(&self.gathered, self.keep_going)?;
        let picks: Vec<Descriptor> =
            self.gathered.iter().filter_map(|g| g.picks.as_ref().ok()).flatten().cloned().collect();
        if picks.is_empty() {
            return Err(
                failed.unwrap_or_else(|| Error::new("nothing is left: no source has a manifest for --platforms"))
            );
        }
        let IndexOptions { annotations, fallback, version } = *options;
        let root = gather::index(&mut self.graph, picks, annotations.clone(), fallback, version)?;
        Ok((root, failed))
    }

    /// What was found, for the cache: an image that was taken whole by its reference.
    pub fn roots(&self) -> Vec<(Option<&str>, &Descriptor)> {
        let mut roots = Vec::new();
        for gathered in &self.gathered {
            let picks = gathered.picks.as_deref().unwrap_or_default();
            let whole = |pick: &Descriptor| {
                gathered.resolved.as_ref().is_some_and(|found| found.digest == pick.digest)
                    && !pick.annotations.contains_key(annotation::LEFT_OUT)
            };
            roots.extend(picks.iter().map(|pick| (whole(pick).then_some(&*gathered.source.written), pick)));
        }
        roots
    }

    /// Notes how far the sources came that were found.
    pub fn reached(&mut self, outcome: SourceOutcome) {
        let planned = self.records.iter_mut().filter(|r| r.outcome == SourceOutcome::Planned);
        planned.for_each(|r| r.outcome = outcome);
    }
}

/// The tag of a digest, without what stands behind its dot.
fn tag_of(digest: &Digest) -> String {
    format!("{}-{}", digest.algorithm(), digest.hex())
}

fn record(graph: &Graph, gathered: &Gathered) -> SourceRecord {
    let (outcome, bytes, error) = match &gathered.picks {
        Err(e) => (SourceOutcome::Failed, 0, Some(e.to_string())),
        Ok(picks) if picks.is_empty() => (SourceOutcome::Unmatched, 0, None),
        Ok(picks) => {
            let found = graph.reachable(&picks.iter().collect::<Vec<_>>(), false);
            (SourceOutcome::Planned, found.map_or(0, |found| found.size()), None)
        }
    };
    let (source, digest) =
        (gathered.source.written.clone(), gathered.resolved.as_ref().map(|found| found.digest.clone()));
    SourceRecord { source, outcome, file: None, digest, bytes, error }
}

/// Tells of every source that failed. The error over all of them ends the run now, or, where they may
/// be left out, is what the run ends with.
///
/// # Errors
/// If a source failed and none may be left out.
pub fn failures(gathered: &[Gathered], keep_going: bool) -> Result<Option<Error>> {
    let failed: Vec<(&str, &Error)> =
        gathered.iter().filter_map(|g| Some((g.source.written.as_str(), g.picks.as_ref().err()?))).collect();
    let error = match failed[..] {
        [] => return Ok(None),
        [(_, error)] if !keep_going => return Err(error.clone()),
        _ => {
            failed.iter().for_each(|(_, e)| log::error(e));
            let names: Vec<&str> = failed.iter().map(|(name, _)| *name).collect();
            let what = if keep_going { "were left out" } else { "failed" };
            let error =
                Error::new(format!("{} of {} sources {what}: {}", failed.len(), gathered.len(), names.join(", ")));
            if failed.iter().all(|(_, e)| e.may_pass()) { error.of(ErrorKind::Transient) } else { error }
        }
    };
    if keep_going { Ok(Some(error)) } else { Err(error) }
}
