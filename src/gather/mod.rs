//! From a list of sources to the gather index: resolve, pick platforms, measure, and write the
//! index over them all.

pub mod collect;
pub mod sources;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    io::Read,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde::Deserialize;

use crate::{
    error::{Context, Error, Result},
    gather::sources::GatherSource,
    log,
    oci::{
        Annotations, Descriptor, Digest, Manifest, Platform, PlatformFilter, annotation, json, layout::DEPTH_MAX,
        layout::MANIFEST_SIZE_MAX, manifest::Index, media,
    },
    signal,
    store::{
        Origin, Store,
        graph::{self, FetchOptions, Graph},
    },
    util::parallel,
};

/// The largest image configuration that is read to learn its platform.
const CONFIG_MAX: u64 = 4 << 20;

/// How to gather.
#[derive(Clone, Copy)]
pub struct GatherSettings<'a> {
    /// Platforms wanted; none means all.
    pub platforms: &'a [PlatformFilter],
    /// Take an index as it is, with the content of the wanted platforms only.
    pub sparse: bool,
    /// Fetch referrers too.
    pub recursive: bool,
    /// Requests at a time.
    pub threads: usize,
    /// Hears how many sources are resolved, of how many, and how many manifests are fetched.
    pub observer: &'a (dyn Fn(usize, usize, usize) + Sync),
}

/// What became of one source.
pub struct Gathered {
    /// As it stands in the list.
    pub source: GatherSource,
    /// What its reference points to, if that could be found out.
    pub resolved: Option<Descriptor>,
    /// What it contributes to the gather index: none if no platform matched.
    pub picks: Result<Vec<Descriptor>>,
    /// What an index that is taken lists, and is not taken: the index, and the manifest.
    pub left_out: Vec<(Digest, Digest)>,
}

/// A source, found: its manifest, and what is picked of it.
#[derive(Clone)]
pub struct ResolvedSource {
    /// What its reference points to.
    pub descriptor: Descriptor,
    /// Manifests that are at hand already.
    pub known: Vec<(Digest, Arc<[u8]>)>,
    /// What it contributes to the gather index.
    pub picks: Vec<Descriptor>,
    /// What an index that is taken lists, and is not taken: the index, and the manifest.
    pub left_out: Vec<(Digest, Digest)>,
}

/// Resolves every source and fetches every manifest below. A source that fails says so in its
/// place; the others go on.
pub fn gather(store: &dyn Store, sources: Vec<GatherSource>, options: &GatherSettings) -> (Graph, Vec<Gathered>) {
    let (resolved, fetched) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let all = sources.len();
    let tell = || (options.observer)(resolved.load(Ordering::Relaxed), all, fetched.load(Ordering::Relaxed));
    let outcomes = parallel::map(sources.len(), options.threads, |n| {
        let outcome = signal::check().and_then(|()| resolve(store, &sources[n], options));
        resolved.fetch_add(1, Ordering::Relaxed);
        tell();
        outcome
    });
    let count = || {
        fetched.fetch_add(1, Ordering::Relaxed);
        tell();
    };
    let options = FetchOptions { recursive: options.recursive, threads: options.threads, fetched: &count };
    complete(store, sources.into_iter().zip(outcomes).collect(), &options)
}

/// Fetches every manifest below what is picked of sources that are resolved. A source that fails says so in its place; the
/// others go on.
pub fn complete(
    store: &dyn Store,
    sources: Vec<(GatherSource, Result<ResolvedSource>)>,
    options: &FetchOptions,
) -> (Graph, Vec<Gathered>) {
    let mut graph = Graph::default();
    let mut roots = Vec::new();
    for (source, outcome) in &sources {
        let Ok(found) = outcome else { continue };
        let origin = source.locator.origin();
        for (digest, bytes) in &found.known {
            graph.insert(digest.clone(), bytes.clone(), &origin);
        }
        graph.leave_out(found.left_out.iter().cloned());
        roots.extend(found.picks.iter().map(|d| (origin.clone(), d.clone())));
    }
    let graph = graph::fetch(store, graph, roots, options);
    let gathered = sources.into_iter().map(|(source, outcome)| {
        let resolved = outcome.as_ref().ok().map(|found| found.descriptor.clone());
        let left_out = outcome.as_ref().map_or(Vec::new(), |found| found.left_out.clone());
        let picks = outcome.and_then(|found| {
            let name = || format!("gathering {}", source.written);
            found.picks.iter().try_for_each(|d| check_whole(&graph, d, options.recursive)).doing(name)?;
            Ok(found.picks)
        });
        Gathered { source, resolved, picks, left_out }
    });
    let gathered = gathered.collect();
    (graph, gathered)
}

/// Whether every manifest below `root` is there, in the size that its descriptor says.
fn check_whole(graph: &Graph, root: &Descriptor, recursive: bool) -> Result<()> {
    let mut met = HashSet::new();
    graph.walk(root, recursive, &mut |d, _| {
        if media::is_manifest(&d.media_type) {
            graph.bytes(d)?;
        }
        Ok(!media::is_manifest(&d.media_type) || met.insert((d.digest.clone(), d.size)))
    })
}

fn resolve(store: &dyn Store, source: &GatherSource, settings: &GatherSettings) -> Result<ResolvedSource> {
    let GatherSettings { platforms, sparse, recursive, .. } = *settings;
    let mut left_out = Vec::new();
    let (descriptor, bytes) = store.resolve(&source.locator).doing(|| format!("resolving {}", source.written))?;
    let mut known = vec![(descriptor.digest.clone(), bytes.clone())];
    let mut picks = if platforms.is_empty() {
        vec![picked(&descriptor, None)]
    } else {
        let mut picker = Picker {
            store,
            origin: source.locator.origin(),
            platforms,
            // An index that is taken keeps its referrers.
            recursive: recursive && !sparse,
            known: &mut known,
            offered: BTreeSet::new(),
            found: HashSet::new(),
            met: HashSet::new(),
            annotated: 0,
            others: 0,
            left_behind: Vec::new(),
            left_out: Vec::new(),
            path: Vec::new(),
        };
        let mut picks =
            picker.pick(&descriptor, &bytes, None, 0).doing(|| format!("selecting platforms of {}", source.written))?;
        if sparse && media::is_index(&descriptor.media_type) && !picks.is_empty() {
            let wanted = std::mem::replace(&mut picks, vec![picked(&descriptor, None)]);
            // One that is listed for a platform that is wanted and for one that is not is wanted.
            left_out = std::mem::take(&mut picker.left_out);
            left_out.retain(|(_, digest)| wanted.iter().all(|pick| pick.digest != *digest));
            let digests: BTreeSet<&Digest> = left_out.iter().map(|(_, digest)| digest).collect();
            picks[0].annotations.insert(annotation::LEFT_OUT.into(), json::compact_string(&digests));
            picker.others = 0;
        }
        picker.tell(&source.written, !picks.is_empty());
        picks
    };
    for pick in &mut picks {
        pick.annotations.insert(annotation::SOURCE.into(), source.written.clone());
        pick.annotations.insert(annotation::REF_NAME.into(), source.written.clone());
        if !source.labels.is_empty() {
            pick.annotations.insert(annotation::LABELS.into(), json::compact_string(&source.labels));
        }
    }
    Ok(ResolvedSource { descriptor, known, picks, left_out })
}

/// Picks the manifests of wanted platforms out of one source.
struct Picker<'a> {
    store: &'a dyn Store,
    origin: Origin,
    platforms: &'a [PlatformFilter],
    known: &'a mut Vec<(Digest, Arc<[u8]>)>,
    /// Nested indexes that were gone through.
    met: HashSet<Digest>,
    /// Bytes of annotations so far.
    annotated: u64,
    /// Platforms that there are, for the warning.
    offered: BTreeSet<String>,
    /// Which of the wanted platforms were found, by their places in `platforms`.
    found: HashSet<usize>,
    /// Entries of indexes that are no manifests.
    others: usize,
    /// Look for the referrers of indexes that are not taken.
    recursive: bool,
    /// Indexes that are not taken, with their referrers.
    left_behind: Vec<(Digest, Vec<Descriptor>)>,
    /// Manifests that were not wanted, each with the index that lists it.
    left_out: Vec<(Digest, Digest)>,
    /// The indexes that lead to the manifest in hand.
    path: Vec<Digest>,
}

impl Picker<'_> {
    fn wants(&mut self, platform: &Platform) -> bool {
        let found: Vec<usize> = (0..self.platforms.len()).filter(|n| self.platforms[*n].matches(platform)).collect();
        self.offered.insert(match platform.is_named() {
            true => platform.to_string(),
            false => "an image whose configuration names no platform".into(),
        });
        self.found.extend(&found);
        !found.is_empty()
    }

    /// Says what of a source is not taken.
    fn tell(self, source: &str, has_picks: bool) {
        let lacking: Vec<String> = (0..self.platforms.len())
            .filter(|n| !self.found.contains(n))
            .map(|n| self.platforms[n].to_string())
            .collect();
        let offered: Vec<String> = self.offered.into_iter().collect();
        // An artifact has no platform, and is taken for all.
        let is_artifact = offered.is_empty();
        let offered = if is_artifact { "none".into() } else { offered.join(", ") };
        if !has_picks {
            log::warn(format_args!("{source}: no manifest matches --platforms; it has {offered}"));
        } else if !lacking.is_empty() && !is_artifact {
            log::warn(format_args!("{source}: it has nothing for {}; it has {offered}", lacking.join(", ")));
        }
        if self.others > 0 {
            let n = self.others;
            log::warn(format_args!(
                "{source}: {n} entries of its index are no manifests, have no platform, and are left out"
            ));
        }
        for (index, referrers) in &self.left_behind {
            let mut types: BTreeMap<&str, usize> = BTreeMap::new();
            referrers.iter().for_each(|referrer| *types.entry(&referrer.artifact_type).or_default() += 1);
            let types = types.iter().map(|(kind, n)| match *kind {
                "" => format!("{n} of a type that is not told"),
                kind => format!("{n} of type {kind:?}"),
            });
            log::warn(format_args!(
                "{source}: --platforms does not take the index {index}, and what refers to it stays behind: {} (--sparse-index takes it along)",
                types.collect::<Vec<_>>().join(", ")
            ));
        }
    }

    /// `within` is the index that `descriptor` stands in, as a string.
    fn pick(
        &mut self,
        descriptor: &Descriptor,
        bytes: &[u8],
        within: Option<&str>,
        depth: usize,
    ) -> Result<Vec<Descriptor>> {
        if depth > DEPTH_MAX {
            return Err(Error::new("indexes are nested too deep"));
        }
        let malformed = |why: String| Error::new(why).doing(format!("reading manifest {}", descriptor.digest));
        let manifest = Manifest::parse(&descriptor.media_type, bytes).map_err(malformed)?;
        if media::is_index(&descriptor.media_type) {
            let text = std::str::from_utf8(bytes).map_err(|_| malformed("it is not UTF-8".into()))?;
            let mut picks = Vec::new();
            if !self.met.insert(descriptor.digest.clone()) {
                return Ok(picks);
            }
            if self.recursive {
                let referrers = self.store.referrers(&self.origin, descriptor)?;
                if !referrers.is_empty() {
                    self.left_behind.push((descriptor.digest.clone(), referrers));
                }
            }
            self.path.push(descriptor.digest.clone());
            for child in &manifest.manifests {
                self.annotated += text.len() as u64;
                if self.annotated > MANIFEST_SIZE_MAX {
                    let why = format!(
                        "the gather index, which quotes the index for each of its manifests, would have over {MANIFEST_SIZE_MAX} bytes"
                    );
                    return Err(Error::new(why));
                }
                picks.extend(self.pick_child(child, text, depth)?);
            }
            self.path.pop();
            return Ok(picks);
        }
        let config = manifest.config.filter(|c| media::is_image_config(&c.media_type));
        let wanted = match config {
            Some(config) => {
                let platform = self.platform_of(&config)?;
                self.wants(&platform)
            }
            None => true,
        };
        Ok(self.one(wanted, descriptor, within))
    }

    /// A manifest, if it is wanted.
    fn one(&mut self, wanted: bool, descriptor: &Descriptor, within: Option<&str>) -> Vec<Descriptor> {
        if wanted {
            return vec![picked(descriptor, within)];
        }
        self.left_out.extend(self.path.last().map(|index| (index.clone(), descriptor.digest.clone())));
        Vec::new()
    }

    fn pick_child(&mut self, child: &Descriptor, index: &str, depth: usize) -> Result<Vec<Descriptor>> {
        match &child.platform {
            Some(platform) if !media::is_index(&child.media_type) => {
                let wanted = self.wants(platform);
                Ok(self.one(wanted, child, Some(index)))
            }
            _ if media::is_manifest(&child.media_type) => {
                let bytes = self.store.manifest(&self.origin, child)?;
                self.known.push((child.digest.clone(), bytes.clone()));
                self.pick(child, &bytes, Some(index), depth + 1)
            }
            // A layer in an index of BuildKit's cache.
            _ => {
                self.others += 1;
                Ok(Vec::new())
            }
        }
    }

    fn platform_of(&self, config: &Descriptor) -> Result<Platform> {
        let doing = || format!("reading the configuration {} of {}", config.digest, self.origin);
        if config.size > CONFIG_MAX {
            return Err(Error::new(format!("it claims {} bytes", config.size)).doing(doing()));
        }
        let mut bytes = Vec::new();
        match config.inline() {
            Some(inline) => bytes = inline,
            None => {
                let mut body = self.store.blob(&self.origin, config, 0).doing(doing)?.take(CONFIG_MAX);
                body.read_to_end(&mut bytes).doing(doing)?;
            }
        }
        if !config.digest.matches(&bytes) {
            return Err(Error::new("its content does not match its digest").doing(doing()));
        }
        Platform::deserialize(&mut serde_json::Deserializer::from_slice(&bytes)).doing(doing)
    }
}

/// A pick keeps media type, digest, size and platform; the annotations are the gather's.
fn picked(descriptor: &Descriptor, within: Option<&str>) -> Descriptor {
    let mut pick = Descriptor::new(descriptor.media_type.clone(), descriptor.digest.clone(), descriptor.size);
    if let Some(index) = within {
        pick.platform = descriptor.platform.clone();
        pick.annotations.insert(annotation::SOURCE_INDEX.into(), index.into());
    }
    pick
}

/// Writes the gather index over `picks`, which must be in the order of their sources, and puts it
/// into the graph.
///
/// # Errors
/// If a manifest below is missing or malformed.
pub fn index(
    graph: &mut Graph,
    picks: Vec<Descriptor>,
    mut annotations: Annotations,
    index_fallback: bool,
    version: &str,
) -> Result<Descriptor> {
    let sizes = measure(graph, &picks)?;
    annotations.insert(annotation::VERSION.into(), version.into());
    annotations.insert(annotation::SIZE_TOTAL.into(), sizes.total.to_string());
    annotations.insert(annotation::SIZE_DEDUPLICATED.into(), sizes.deduplicated.to_string());
    let (extra, manifests): (Vec<_>, Vec<_>) =
        picks.into_iter().partition(|d| index_fallback && media::is_index(&d.media_type));
    if index_fallback {
        annotations.insert(annotation::EXTRA_MANIFESTS.into(), json::compact_string(&extra));
    }
    let bytes = json::compact(&Index::new(media::GATHER, manifests, annotations));
    let root = Descriptor::new(media::INDEX, Digest::of(&bytes), bytes.len() as u64);
    graph.insert(root.digest.clone(), bytes.into(), &Origin::Memory);
    Ok(root)
}

/// Sums of blob sizes: as often as they are met, and each digest once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// As often as they are met.
    pub total: u64,
    /// Each digest once.
    pub deduplicated: u64,
}

/// Measures what lies below `roots`: configurations and layers, not manifests, without referrers.
///
/// # Errors
/// If a manifest below is missing or malformed.
pub fn measure(graph: &Graph, roots: &[Descriptor]) -> Result<Sizes> {
    let (mut sizes, mut manifests, mut blobs) = (Sizes::default(), HashSet::new(), HashSet::new());
    for root in roots {
        graph.walk(root, false, &mut |d, _| {
            if media::is_manifest(&d.media_type) {
                return Ok(manifests.insert(d.digest.clone()));
            }
            sizes.total = sizes.total.saturating_add(d.size);
            if blobs.insert(d.digest.clone()) {
                sizes.deduplicated = sizes.deduplicated.saturating_add(d.size);
            }
            Ok(true)
        })?;
    }
    Ok(sizes)
}
