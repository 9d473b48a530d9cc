//! The manifests of all sources, fetched in parallel, and walks over them.
//!
//! Which requests run at what time changes nothing in what a walk sees: walks go over the fetched
//! manifests in memory, depth first, in the order that the archive format defines.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::{Arc, Condvar, Mutex},
    thread,
};

use crate::{
    error::{Error, Result},
    oci::{Descriptor, Digest, Manifest, media},
    store::{Origin, Store},
};

/// Indexes nested deeper than this are refused: no honest image comes near it.
pub const MAX_DEPTH: usize = 64;

/// Names an [`Origin`] of a [`Graph`] in four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OriginId(pub u32);

/// A manifest.
#[derive(Clone)]
pub struct Node {
    pub bytes: Arc<[u8]>,
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
}

impl Graph {
    pub fn origin(&self, id: OriginId) -> &Origin {
        &self.origins[id.0 as usize]
    }

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

    /// The manifest that `descriptor` names, or why it could not be had.
    pub fn node(&self, descriptor: &Descriptor) -> Result<&Node> {
        match self.nodes.get(&descriptor.digest) {
            Some(Ok(node)) => Ok(node),
            Some(Err(e)) => Err(e.clone()),
            None => Err(Error::new(format!("manifest {} was not fetched", descriptor.digest))),
        }
    }

    /// The bytes of a manifest, as many as its descriptor says.
    pub fn bytes(&self, descriptor: &Descriptor) -> Result<Arc<[u8]>> {
        let node = self.node(descriptor)?;
        let (len, origin) = (node.bytes.len(), self.origin(node.origin));
        if len as u64 != descriptor.size {
            let why = format!("it has {len} bytes, its descriptor says {}", descriptor.size);
            return Err(Error::new(why).doing(format!("manifest {} of {origin}", descriptor.digest)));
        }
        Ok(node.bytes.clone())
    }

    pub fn parse(&self, descriptor: &Descriptor) -> Result<Manifest> {
        let node = self.node(descriptor)?;
        parse(descriptor, &node.bytes, self.origin(node.origin))
    }

    /// Sorts manifests that were walked: those of one height refer only to lower ones.
    pub fn by_height(&self, manifests: Vec<Descriptor>) -> Result<Vec<Vec<Descriptor>>> {
        let (mut known, mut levels) = (HashMap::new(), Vec::new());
        for descriptor in manifests {
            let height = self.height(&descriptor, &mut known)?;
            levels.resize(levels.len().max(height + 1), Vec::new());
            levels[height].push(descriptor);
        }
        Ok(levels)
    }

    /// How many manifests lie below a manifest, at most, on the way down. The walk has seen to it
    /// that it is not too many.
    fn height(&self, descriptor: &Descriptor, known: &mut HashMap<Digest, usize>) -> Result<usize> {
        if let Some(&height) = known.get(&descriptor.digest) {
            return Ok(height);
        }
        let mut height = 0;
        for below in self.parse(descriptor)?.successors().map_err(Error::new)? {
            if media::is_manifest(&below.media_type) {
                height = height.max(1 + self.height(&below, known)?);
            }
        }
        known.insert(descriptor.digest.clone(), height);
        Ok(height)
    }

    /// Walks depth first from `root`: `visit` sees each descriptor with the origin of the manifest
    /// that names it, and says whether to go below it (asked of manifests only).
    pub fn walk(
        &self,
        root: &Descriptor,
        recursive: bool,
        visit: &mut dyn FnMut(&Descriptor, OriginId) -> Result<bool>,
    ) -> Result<()> {
        let origin = self.node(root)?.origin;
        self.walk_below(root, origin, recursive, visit, 0)
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
        if depth > MAX_DEPTH {
            return Err(Error::new(format!("{} lies more than {MAX_DEPTH} manifests deep", descriptor.digest)));
        }
        let node = self.node(descriptor)?;
        if !visit(descriptor, node.origin)? {
            return Ok(());
        }
        let successors = self
            .parse(descriptor)?
            .successors()
            .map_err(|why| malformed(descriptor, self.origin(node.origin), &why))?;
        let referrers = if recursive { &node.referrers[..] } else { &[] };
        for next in successors.iter().chain(referrers) {
            self.walk_below(next, node.origin, recursive, visit, depth + 1)?;
        }
        Ok(())
    }
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
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    graph: Graph,
    queue: VecDeque<(OriginId, Descriptor)>,
    active: usize,
    /// What each place lists for a manifest.
    referrers: HashMap<Digest, BTreeMap<OriginId, Vec<Descriptor>>>,
}

/// Fetches every manifest below `roots`, and with `recursive` the referrers of every manifest, by
/// at most `threads` requests at a time. A manifest that cannot be had is recorded as such in the
/// graph. `fetched` hears of each.
pub fn fetch(
    store: &(impl Store + ?Sized),
    mut graph: Graph,
    roots: Vec<(Origin, Descriptor)>,
    recursive: bool,
    threads: usize,
    fetched: &(dyn Fn() + Sync),
) -> Graph {
    let queue = roots.into_iter().map(|(origin, root)| (graph.intern(&origin), root)).collect();
    let fetching = Fetching {
        store,
        recursive,
        state: Mutex::new(State { graph, queue, active: 0, referrers: HashMap::new() }),
        changed: Condvar::new(),
    };
    let seen = Mutex::new(HashSet::new());
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| fetching.work(&seen, fetched));
        }
    });
    let State { mut graph, referrers, .. } = fetching.state.into_inner().expect("no thread panics with the lock");
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
            let Some((origin, descriptor)) = state.queue.pop_front() else {
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
            state.active += 1;
            drop(state);
            let outcome = self.fetch_one(&at, origin, &descriptor, known);
            fetched();
            state = self.state.lock().expect("no thread panics with the lock");
            state.active -= 1;
            let outcome = outcome.map(|(mut node, below)| {
                state.queue.extend(below.into_iter().map(|d| (origin, d)));
                let referrers = std::mem::take(&mut node.referrers);
                state.referrers.entry(descriptor.digest.clone()).or_default().insert(origin, referrers);
                node
            });
            // The first success stays; a failure anywhere is a failure, so that nothing is lost in silence.
            if outcome.is_err() || !state.graph.nodes.contains_key(&descriptor.digest) {
                state.graph.nodes.insert(descriptor.digest, outcome);
            }
            self.changed.notify_all();
        }
    }

    /// Fetches one manifest and names the manifests below it.
    fn fetch_one(
        &self,
        place: &Origin,
        origin: OriginId,
        descriptor: &Descriptor,
        known: Option<Arc<[u8]>>,
    ) -> Result<(Node, Vec<Descriptor>)> {
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
        let successors =
            parse(descriptor, &bytes, place)?.successors().map_err(|why| malformed(descriptor, place, &why))?;
        let below =
            successors.iter().chain(&referrers).filter(|d| media::is_manifest(&d.media_type)).cloned().collect();
        Ok((Node { bytes, origin, referrers }, below))
    }
}
