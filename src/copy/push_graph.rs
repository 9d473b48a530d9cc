//! From a graph to a repository: first the blobs, several at a time, then the manifests, each after
//! all that it refers to, and the root's tag last. What is there when something fails is whole.

use std::{
    collections::HashSet,
    io::{self, Read},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use crate::{
    error::{Error, Result},
    oci::{Descriptor, media},
    registry::client::{Pushed, Registries},
    signal,
    store::{
        Origin, Store,
        graph::{Graph, OriginId},
    },
    util::parallel,
};

/// Where to.
pub struct Target<'a> {
    pub registries: &'a Registries,
    pub registry: &'a str,
    pub repository: &'a str,
    pub tag: &'a str,
}

/// How far it came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub blobs: usize,
    /// Blobs of which nothing had to be sent: there already, or mounted.
    pub spared: usize,
    pub manifests: usize,
    /// Of blobs, sent or spared.
    pub bytes: u64,
}

/// What is to be done: blobs with where they come from, manifests in an order that a registry takes.
struct Work {
    blobs: Vec<(Descriptor, OriginId)>,
    /// Those of one height refer only to lower ones.
    manifests: Vec<Vec<Descriptor>>,
}

/// What threads tell of.
#[derive(Default)]
struct Counters {
    blobs: AtomicUsize,
    spared: AtomicUsize,
    manifests: AtomicUsize,
    bytes: AtomicU64,
    failed: Mutex<Option<Error>>,
}

impl Counters {
    fn tally(&self) -> Tally {
        Tally {
            blobs: self.blobs.load(Ordering::Relaxed),
            spared: self.spared.load(Ordering::Relaxed),
            manifests: self.manifests.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }

    /// Does a part of the work, unless some other part has failed.
    fn unless_failed(&self, work: impl FnOnce() -> Result<()>) {
        let failed = || self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if failed().is_some() {
            return;
        }
        if let Err(e) = signal::check().and_then(|()| work()) {
            failed().get_or_insert(e);
        }
    }

    fn outcome(&self) -> Result<()> {
        signal::check()?;
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
    }
}

/// Pushes all that lies below `root`, and with `recursive` the referrers, by at most `threads`
/// threads, each with one request to either side in flight. `told` hears how far it is, and how many
/// blobs and bytes there are in all.
pub fn publish(
    store: &dyn Store,
    graph: &Graph,
    root: &Descriptor,
    recursive: bool,
    target: &Target,
    threads: usize,
    told: &(dyn Fn(Tally, usize, u64) + Sync),
) -> Result<Tally> {
    let work = plan(graph, root, recursive)?;
    let total = work.blobs.iter().fold(0, |sum: u64, (d, _)| sum.saturating_add(d.size));
    let counters = Counters::default();
    let tell = || told(counters.tally(), work.blobs.len(), total);
    parallel::map(work.blobs.len(), threads, |n| {
        counters.unless_failed(|| {
            let (descriptor, origin) = &work.blobs[n];
            push_blob(store, graph.origin(*origin), descriptor, target, &counters, &tell)
        });
        tell();
    });
    counters.outcome()?;
    for level in &work.manifests {
        parallel::map(level.len(), threads, |n| {
            counters.unless_failed(|| {
                let descriptor = &level[n];
                let bytes = graph.bytes(descriptor)?;
                target.registries.push_manifest(target.registry, target.repository, descriptor, &bytes)?;
                counters.manifests.fetch_add(1, Ordering::Relaxed);
                Ok(())
            });
            tell();
        });
        counters.outcome()?;
    }
    let bytes = graph.bytes(root)?;
    target.registries.tag(target.registry, target.repository, root, &bytes, target.tag)?;
    Ok(counters.tally())
}

fn push_blob(
    store: &dyn Store,
    origin: &Origin,
    descriptor: &Descriptor,
    target: &Target,
    counters: &Counters,
    tell: &dyn Fn(),
) -> Result<()> {
    let elsewhere = match origin {
        Origin::Repository { registry, repository }
            if registry == target.registry && repository != target.repository =>
        {
            Some(repository.as_str())
        }
        _ => None,
    };
    let inline = descriptor.inline();
    let open = |from: u64| -> Result<Box<dyn Read + '_>> {
        let body: Box<dyn Read + '_> = match &inline {
            Some(bytes) => Box::new(&bytes[(from as usize).min(bytes.len())..]),
            None if descriptor.size == 0 => Box::new(io::empty()),
            None => store.blob(origin, descriptor, from)?,
        };
        Ok(Box::new(Counted { body, bytes: &counters.bytes, tell }))
    };
    let (registry, repository) = (target.registry, target.repository);
    let pushed = target.registries.push_blob(registry, repository, descriptor, elsewhere, &open)?;
    if pushed != Pushed::Sent {
        counters.spared.fetch_add(1, Ordering::Relaxed);
        counters.bytes.fetch_add(descriptor.size, Ordering::Relaxed);
    }
    counters.blobs.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

/// Counts what is read.
struct Counted<'a> {
    body: Box<dyn Read + 'a>,
    bytes: &'a AtomicU64,
    tell: &'a dyn Fn(),
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.body.read(buffer)?;
        self.bytes.fetch_add(n as u64, Ordering::Relaxed);
        (self.tell)();
        Ok(n)
    }
}

fn plan(graph: &Graph, root: &Descriptor, recursive: bool) -> Result<Work> {
    let (mut met, mut blobs, mut manifests) = (HashSet::new(), Vec::new(), Vec::new());
    graph.walk(root, recursive, &mut |d, origin| {
        let new = met.insert(d.digest.clone());
        match media::is_manifest(&d.media_type) {
            true if new => manifests.push(d.clone()),
            false if new => blobs.push((d.clone(), origin)),
            _ => {}
        }
        Ok(new)
    })?;
    let manifests = graph.by_height(manifests)?;
    Ok(Work { blobs, manifests })
}
