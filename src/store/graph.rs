//! The manifests of all sources, fetched in parallel, and walks over them.
//!
//! Which requests run at what time changes nothing in what a walk sees: walks go over the fetched
//! manifests in memory, depth first, in the order that the archive format defines.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::{Arc, Condvar, Mutex},
    thread,
};

use super::{Origin, Store};
use crate::{
    error::{Error, ErrorKind, Result},
    log,
    oci::{Descriptor, Digest, Manifest, layout::DEPTH_MAX, media},
    util::units::grouped,
};

/// The manifests of one run have at most so many bytes, and are all in memory.
const FETCHED_MAX: u64 = 1 << 30;

/// Names an [`Origin`] of a [`Graph`] in four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OriginId(pub u32);

/// A manifest.
#[derive(Clone)]
pub struct Node {
    /// Its exact bytes.
    pub bytes: Arc<[u8]>,
    /// Where it comes from.
    pub origin: OriginId,
    /// Only looked up where referrers were asked for: those of every repository that has the
    /// manifest, in the order of the sources.
    pub referrers: Vec<Descriptor>,
}

/// Manifests by digest, with those that could not be had.
#[derive(Default)]
pub struct Graph {
    nodes: HashMap<Digest, Result<Node>>,
    origins: Vec<Origin>,
    /// What an index lists without its being there: the index, and the manifest.
    left_out: HashSet<(Digest, Digest)>,
}

impl Graph {
    /// The place that a number stands for.
    pub fn origin(&self, id: OriginId) -> &Origin {
        &self.origins[id.0 as usize]
    }

    /// All places, by their numbers.
    pub fn origins(&self) -> &[Origin] {
        &self.origins
    }

    /// The number of `origin`, a new one if need be.
    pub fn intern(&mut self, origin: &Origin) -> OriginId {
        let at = self.origins.iter().position(|o| o == origin).unwrap_or_else(|| {
            self.origins.push(origin.clone());
            self.origins.len() - 1
        });
        OriginId(at as u32)
    }

    /// Adds a manifest that is at hand.
    pub fn insert(&mut self, digest: Digest, bytes: Arc<[u8]>, origin: &Origin) {
        let origin = self.intern(origin);
        self.nodes.insert(digest, Ok(Node { bytes, origin, referrers: Vec::new() }));
    }

    /// An index, the first of each pair, may list a manifest without its being there: it is not fetched because of it.
    pub fn leave_out(&mut self, pairs: impl IntoIterator<Item = (Digest, Digest)>) {
        self.left_out.extend(pairs);
    }

    /// Whether `index` lists a manifest that was left out, and is not there because of something else.
    pub fn is_left_out(&self, index: &Digest, manifest: &Digest) -> bool {
        self.left_out.contains(&(index.clone(), manifest.clone())) && !matches!(self.nodes.get(manifest), Some(Ok(_)))
    }

    /// Takes in all of another graph.
    pub fn absorb(&mut self, other: Graph) {
        let numbers: Vec<OriginId> = other.origins.iter().map(|origin| self.intern(origin)).collect();
        self.left_out.extend(other.left_out);
        for (digest, node) in other.nodes {
            let node = node.map(|node| Node { origin: numbers[node.origin.0 as usize], ..node });
            match (self.nodes.get_mut(&digest), node) {
                (Some(Ok(known)), Ok(node)) => {
                    let met: HashSet<Digest> = known.referrers.iter().map(|d| d.digest.clone()).collect();
                    known.referrers.extend(node.referrers.into_iter().filter(|d| !met.contains(&d.digest)));
                }
                // What was found before is not worse for this.
                (Some(Ok(_)), Err(_)) => {}
                (_, node) => drop(self.nodes.insert(digest, node)),
            }
        }
    }

    /// The first success stays, also where another place does not have it; any other failure is a failure, so that
    /// nothing is lost in silence.
    fn keep_better(&mut self, digest: Digest, outcome: Result<Node>) {
        let is_better = match (self.nodes.get(&digest), &outcome) {
            (None, _) => true,
            (Some(Ok(_)), Err(e)) => !e.is(ErrorKind::Missing),
            (Some(Err(e)), _) => e.is(ErrorKind::Missing),
            (Some(Ok(_)), Ok(_)) => false,
        };
        if is_better {
            self.nodes.insert(digest, outcome);
        }
    }

    /// The manifest that `descriptor` names.
    ///
    /// # Errors
    /// Why it could not be had.
    pub fn node(&self, descriptor: &Descriptor) -> Result<&Node> {
        match self.nodes.get(&descriptor.digest) {
            Some(Ok(node)) => Ok(node),
            Some(Err(e)) => Err(e.clone()),
            None => Err(Error::new(format!("manifest {} was not fetched", descriptor.digest))),
        }
    }

    /// The bytes of a manifest.
    ///
    /// # Errors
    /// If it could not be had, or they are not as many as its descriptor says.
    pub fn bytes(&self, descriptor: &Descriptor) -> Result<Arc<[u8]>> {
        let node = self.node(descriptor)?;
        let (len, origin) = (node.bytes.len(), self.origin(node.origin));
        if len as u64 != descriptor.size {
            let why = format!("it has {len} bytes, its descriptor says {}", descriptor.size);
            return Err(Error::new(why).doing(format!("manifest {} of {origin}", descriptor.digest)));
        }
        Ok(node.bytes.clone())
    }

    /// The manifest that `descriptor` names, parsed.
    ///
    /// # Errors
    /// If it could not be had, or is malformed.
    pub fn parse(&self, descriptor: &Descriptor) -> Result<Manifest> {
        let node = self.node(descriptor)?;
        parse(descriptor, &node.bytes, self.origin(node.origin))
    }

    /// All that can be reached from `roots`, each digest once, and with `recursive` the referrers.
    ///
    /// # Errors
    /// If a manifest is missing or malformed, or they are nested too deep.
    pub fn reachable(&self, roots: &[&Descriptor], recursive: bool) -> Result<Reachable> {
        let mut found = Reachable::default();
        let mut search = Search { graph: self, recursive, heights: HashMap::new(), blobs: HashSet::new() };
        for root in roots {
            let origin = self.node(root)?.origin;
            search.visit(root, origin, 0, &mut found)?;
        }
        Ok(found)
    }

    /// Walks depth first from `root`: `visit` sees each descriptor with the origin of the manifest
    /// that names it, and says whether to go below it (asked of manifests only).
    ///
    /// # Errors
    /// If a manifest is missing or malformed, they are nested too deep, or `visit` fails.
    pub fn walk(
        &self,
        root: &Descriptor,
        recursive: bool,
        visit: &mut dyn FnMut(&Descriptor, OriginId) -> Result<bool>,
    ) -> Result<()> {
        let origin = self.node(root)?.origin;
        self.walk_below(root, origin, recursive, visit, 0)
    }

    fn node_at(&self, descriptor: &Descriptor, depth: usize) -> Result<&Node> {
        if depth > DEPTH_MAX {
            return Err(too_deep(descriptor));
        }
        self.node(descriptor)
    }

    /// A subject that is nowhere is left out: it may be missing (distribution specification, "Pushing Manifests with
    /// Subject").
    fn successors(&self, descriptor: &Descriptor, node: &Node) -> Result<Vec<Descriptor>> {
        let origin = self.origin(node.origin);
        let mut manifest = parse(descriptor, &node.bytes, origin)?;
        manifest.subject = manifest.subject.filter(|subject| !self.is_missing(&subject.digest));
        let mut all = manifest.successors().map_err(|why| malformed(descriptor, origin, &why))?;
        all.retain(|next| !self.is_left_out(&descriptor.digest, &next.digest));
        Ok(all)
    }

    /// Whether a manifest was looked for and is nowhere.
    fn is_missing(&self, digest: &Digest) -> bool {
        matches!(self.nodes.get(digest), Some(Err(e)) if e.is(ErrorKind::Missing))
    }

    fn walk_below(
        &self,
        descriptor: &Descriptor,
        origin: OriginId,
        recursive: bool,
        visit: &mut dyn FnMut(&Descriptor, OriginId) -> Result<bool>,
        depth: usize,
    ) -> Result<()> {
        if !media::is_manifest(&descriptor.media_type) {
            visit(descriptor, origin)?;
            return Ok(());
        }
        let node = self.node_at(descriptor, depth)?;
        if !visit(descriptor, node.origin)? {
            return Ok(());
        }
        let successors = self.successors(descriptor, node)?;
        let referrers = if recursive { &node.referrers[..] } else { &[] };
        for next in successors.iter().chain(referrers) {
            self.walk_below(next, node.origin, recursive, visit, depth + 1)?;
        }
        Ok(())
    }
}

/// What can be reached in a graph.
#[derive(Debug, Default)]
pub struct Reachable {
    /// By height: those of one height refer only to lower ones, so they can be pushed in this order.
    pub manifests: Vec<Vec<Descriptor>>,
    /// Configurations, layers and whatever else is no manifest, with where each comes from.
    pub blobs: Vec<(Descriptor, OriginId)>,
}

impl Reachable {
    /// Bytes of all, manifests included.
    pub fn size(&self) -> u64 {
        let all = self.manifests.iter().flatten().chain(self.blobs.iter().map(|(blob, _)| blob));
        all.fold(0, |sum: u64, descriptor| sum.saturating_add(descriptor.size))
    }
}

/// The search for all that can be reached.
struct Search<'a> {
    graph: &'a Graph,
    recursive: bool,
    /// How many manifests lie below each, at most, on the way down.
    heights: HashMap<Digest, usize>,
    blobs: HashSet<Digest>,
}

impl Search<'_> {
    /// Returns how many manifests lie below `descriptor`, itself counted.
    fn visit(
        &mut self,
        descriptor: &Descriptor,
        origin: OriginId,
        depth: usize,
        found: &mut Reachable,
    ) -> Result<usize> {
        if !media::is_manifest(&descriptor.media_type) {
            if self.blobs.insert(descriptor.digest.clone()) {
                found.blobs.push((descriptor.clone(), origin));
            }
            return Ok(0);
        }
        if let Some(height) = self.heights.get(&descriptor.digest) {
            return Ok(height + 1);
        }
        let graph = self.graph;
        let node = graph.node_at(descriptor, depth)?;
        let mut height = 0;
        for next in graph.successors(descriptor, node)? {
            height = height.max(self.visit(&next, node.origin, depth + 1, found)?);
        }
        self.heights.insert(descriptor.digest.clone(), height);
        found.manifests.resize(found.manifests.len().max(height + 1), Vec::new());
        found.manifests[height].push(descriptor.clone());
        // A referrer has this as its subject, and so lies higher.
        let referrers = if self.recursive { &node.referrers[..] } else { &[] };
        for next in referrers {
            self.visit(next, node.origin, depth + 1, found)?;
        }
        Ok(height + 1)
    }
}

/// Why a manifest is not fetched, if that would never end.
fn endless(descriptor: &Descriptor, depth: usize, fetched: u64) -> Option<Error> {
    if depth > DEPTH_MAX {
        return Some(too_deep(descriptor));
    }
    let why = || format!("the manifests before {} have more than {} bytes", descriptor.digest, grouped(FETCHED_MAX));
    (fetched > FETCHED_MAX).then(|| Error::new(why()))
}

fn too_deep(descriptor: &Descriptor) -> Error {
    Error::new(format!("{} lies more than {DEPTH_MAX} manifests deep", descriptor.digest))
}

fn malformed(descriptor: &Descriptor, origin: &Origin, why: &str) -> Error {
    Error::new(why).doing(format!("reading manifest {} of {origin}", descriptor.digest))
}

fn parse(descriptor: &Descriptor, bytes: &[u8], origin: &Origin) -> Result<Manifest> {
    Manifest::parse(&descriptor.media_type, bytes).map_err(|why| malformed(descriptor, origin, &why))
}

/// Work that is under way: manifests are fetched by as many threads as may ask a registry at once.
struct Fetching<'a, S: ?Sized> {
    store: &'a S,
    recursive: bool,
    state: Mutex<FetchState>,
    changed: Condvar,
}

#[derive(Default)]
struct FetchState {
    graph: Graph,
    /// What is to be fetched, and how many manifests lead to it.
    queue: VecDeque<(OriginId, Descriptor, usize)>,
    /// Bytes of all that was fetched.
    fetched: u64,
    active: usize,
    /// Manifests with a subject, and the subjects.
    subjects: Vec<(Digest, Digest)>,
    /// What each place lists for a manifest.
    referrers: HashMap<Digest, BTreeMap<OriginId, Vec<Descriptor>>>,
}

/// A manifest that was fetched.
struct Fetched {
    node: Node,
    /// Manifests below it.
    below: Vec<Descriptor>,
    /// What its indexes list and it says is left out.
    left_out: Vec<(Digest, Digest)>,
    subject: Option<Digest>,
}

/// How manifests are fetched.
pub struct FetchOptions<'a> {
    /// Fetch the referrers of every manifest too.
    pub recursive: bool,
    /// Requests at a time.
    pub threads: usize,
    /// Hears of each manifest.
    pub fetched: &'a (dyn Fn() + Sync),
}

/// Fetches every manifest below `roots`. A manifest that cannot be had is recorded as such in the graph.
pub fn fetch(
    store: &(impl Store + ?Sized),
    mut graph: Graph,
    roots: Vec<(Origin, Descriptor)>,
    options: &FetchOptions,
) -> Graph {
    let FetchOptions { recursive, threads, fetched } = *options;
    let queue = roots.into_iter().map(|(origin, root)| (graph.intern(&origin), root, 0)).collect();
    let fetching = Fetching {
        store,
        recursive,
        state: Mutex::new(FetchState { graph, queue, ..FetchState::default() }),
        changed: Condvar::new(),
    };
    let seen = Mutex::new(HashSet::new());
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| fetching.work(&seen, fetched));
        }
    });
    let FetchState { mut graph, referrers, mut subjects, .. } =
        fetching.state.into_inner().expect("no thread panics with the lock");
    subjects.sort_unstable();
    subjects.dedup();
    for (digest, subject) in subjects.iter().filter(|(_, subject)| graph.is_missing(subject)) {
        log::warn(format_args!("the subject {subject} of {digest} is nowhere, so it is left out"));
    }
    for (digest, by_origin) in referrers {
        if let Some(Ok(node)) = graph.nodes.get_mut(&digest) {
            let mut met = HashSet::new();
            node.referrers = by_origin.into_values().flatten().filter(|d| met.insert(d.digest.clone())).collect();
        }
    }
    graph
}

impl<S: Store + ?Sized> Fetching<'_, S> {
    fn work(&self, seen: &Mutex<HashSet<(Option<OriginId>, Digest)>>, fetched: &(dyn Fn() + Sync)) {
        let mut state = self.state.lock().expect("no thread panics with the lock");
        loop {
            let Some((origin, descriptor, depth)) = state.queue.pop_front() else {
                if state.active == 0 {
                    self.changed.notify_all();
                    return;
                }
                state = self.changed.wait(state).expect("no thread panics with the lock");
                continue;
            };
            // Each place lists referrers of its own; a manifest's bytes are the same everywhere.
            let place = (self.recursive.then_some(origin), descriptor.digest.clone());
            if !seen.lock().expect("no thread panics with the lock").insert(place) {
                continue;
            }
            let at = state.graph.origin(origin).clone();
            let known = match state.graph.nodes.get(&descriptor.digest) {
                Some(Ok(node)) => Some(node.bytes.clone()),
                _ => None,
            };
            // A registry may have a referrer of every referrer, for ever.
            let endless = endless(&descriptor, depth, state.fetched);
            state.active += 1;
            drop(state);
            let outcome = endless.map_or_else(|| self.fetch_one(&at, origin, &descriptor, known), Err);
            fetched();
            state = self.state.lock().expect("no thread panics with the lock");
            state.active -= 1;
            let outcome = outcome.map(|Fetched { mut node, below, left_out, subject }| {
                state.fetched += node.bytes.len() as u64;
                state.graph.leave_out(left_out);
                let graph = &state.graph;
                let is_wanted = |d: &Descriptor| !graph.is_left_out(&descriptor.digest, &d.digest);
                let referrers = std::mem::take(&mut node.referrers);
                let wanted: Vec<Descriptor> =
                    below.into_iter().filter(is_wanted).chain(manifests(&referrers)).collect();
                state.queue.extend(wanted.into_iter().map(|d| (origin, d, depth + 1)));
                state.subjects.extend(subject.map(|subject| (descriptor.digest.clone(), subject)));
                state.referrers.entry(descriptor.digest.clone()).or_default().insert(origin, referrers);
                node
            });
            state.graph.keep_better(descriptor.digest, outcome);
            self.changed.notify_all();
        }
    }

    /// Fetches one manifest, and finds out what lies below it.
    fn fetch_one(
        &self,
        place: &Origin,
        origin: OriginId,
        descriptor: &Descriptor,
        known: Option<Arc<[u8]>>,
    ) -> Result<Fetched> {
        let bytes = match (known, descriptor.inline()) {
            (Some(bytes), _) => bytes,
            (None, Some(bytes)) => bytes.into(),
            (None, None) => self.store.manifest(place, descriptor)?,
        };
        let referrers = if self.recursive && *place != Origin::Memory {
            self.store.referrers(place, descriptor)?
        } else {
            Vec::new()
        };
        let manifest = parse(descriptor, &bytes, place)?;
        let subject = manifest.subject.as_ref().map(|subject| subject.digest.clone());
        let left_out = manifest.left_out();
        let successors = manifest.successors().map_err(|why| malformed(descriptor, place, &why))?;
        let below = manifests(&successors).collect();
        Ok(Fetched { node: Node { bytes, origin, referrers }, below, left_out, subject })
    }
}

fn manifests(all: &[Descriptor]) -> impl Iterator<Item = Descriptor> {
    all.iter().filter(|descriptor| media::is_manifest(&descriptor.media_type)).cloned()
}

#[cfg(test)]
mod tests;
