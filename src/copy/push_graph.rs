//! From a graph to a repository: first the blobs, several at a time, then the manifests, each after
//! all that it refers to, and the root's tag last. What is there when something fails is whole.

use std::{
    io::{self, Read},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use crate::{
    error::{Error, Result},
    oci::Descriptor,
    signal,
    store::{
        Origin, Store,
        graph::Graph,
        target::{BlobContent, Target},
    },
    util::parallel,
};

/// How far it came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PushTally {
    /// Blobs that are there.
    pub blobs: usize,
    /// Blobs of which nothing had to be sent: there already, or mounted.
    pub spared: usize,
    /// Manifests that were put.
    pub manifests: usize,
    /// Of blobs, sent or spared.
    pub bytes: u64,
}

/// What is pushed, and how.
pub struct PushJob<'a> {
    /// Where content comes from.
    pub store: &'a dyn Store,
    /// Its manifests.
    pub graph: &'a Graph,
    /// What is pushed, with all below it.
    pub root: &'a Descriptor,
    /// Push referrers too.
    pub recursive: bool,
    /// Threads, each with one request to either side in flight.
    pub threads: usize,
    /// Hears how far it is, and how many blobs and bytes there are in all.
    pub observer: &'a (dyn Fn(PushTally, usize, u64) + Sync),
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
    fn tally(&self) -> PushTally {
        PushTally {
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

impl PushJob<'_> {
    /// Pushes everything to `target`, and puts the root under `tag` last.
    ///
    /// # Errors
    /// The first that something failed with; what was pushed by then stays, and the tag is not touched.
    pub fn run(&self, target: &dyn Target, tag: &str) -> Result<PushTally> {
        let work = self.graph.reachable(&[self.root], self.recursive)?;
        let total = work.blobs.iter().fold(0, |sum: u64, (d, _)| sum.saturating_add(d.size));
        let counters = Counters::default();
        let tell = || (self.observer)(counters.tally(), work.blobs.len(), total);
        parallel::map(work.blobs.len(), self.threads, |n| {
            counters.unless_failed(|| {
                let (descriptor, origin) = &work.blobs[n];
                self.push_blob(
                    self.graph.origin(*origin),
                    descriptor,
                    target,
                    &Meter { counters: &counters, tell: &tell },
                )
            });
            tell();
        });
        counters.outcome()?;
        for level in &work.manifests {
            parallel::map(level.len(), self.threads, |n| {
                counters.unless_failed(|| {
                    target.push_manifest(&level[n], &self.graph.bytes(&level[n])?)?;
                    counters.manifests.fetch_add(1, Ordering::Relaxed);
                    Ok(())
                });
                tell();
            });
            counters.outcome()?;
        }
        target.tag(self.root, &self.graph.bytes(self.root)?, tag)?;
        Ok(counters.tally())
    }

    fn push_blob(&self, origin: &Origin, descriptor: &Descriptor, target: &dyn Target, meter: &Meter) -> Result<()> {
        let elsewhere = match origin {
            Origin::Repository(from) => {
                let to = target.repository();
                Some(from).filter(|from| from.registry == to.registry && from.path != to.path)
            }
            Origin::Layout(_) | Origin::Archive(_) | Origin::Memory => None,
        };
        let spared = target.exists(descriptor)? || elsewhere.is_some_and(|from| target.mount(descriptor, from));
        let counters = meter.counters;
        if spared {
            counters.spared.fetch_add(1, Ordering::Relaxed);
            counters.bytes.fetch_add(descriptor.size, Ordering::Relaxed);
        } else {
            let inline = descriptor.inline();
            target.push_blob(descriptor, &StoredBlob { store: self.store, origin, descriptor, inline, meter })?;
        }
        counters.blobs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// A blob of a store, which can be opened at any byte.
struct StoredBlob<'a> {
    store: &'a dyn Store,
    origin: &'a Origin,
    descriptor: &'a Descriptor,
    /// Its bytes, if its descriptor has them.
    inline: Option<Vec<u8>>,
    meter: &'a Meter<'a>,
}

impl BlobContent for StoredBlob<'_> {
    fn open(&self, from: u64) -> Result<Box<dyn Read + '_>> {
        let body: Box<dyn Read + '_> = match &self.inline {
            Some(bytes) => Box::new(&bytes[(from as usize).min(bytes.len())..]),
            None if self.descriptor.size == 0 => Box::new(io::empty()),
            None => self.store.blob(self.origin, self.descriptor, from)?,
        };
        Ok(Box::new(CountedBody { body, meter: self.meter }))
    }
}

/// Where threads tell how far they are.
struct Meter<'a> {
    counters: &'a Counters,
    tell: &'a dyn Fn(),
}

/// Counts what is read.
struct CountedBody<'a> {
    body: Box<dyn Read + 'a>,
    meter: &'a Meter<'a>,
}

impl Read for CountedBody<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.body.read(buffer)?;
        self.meter.counters.bytes.fetch_add(n as u64, Ordering::Relaxed);
        (self.meter.tell)();
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{
        graph::{self, FetchOptions},
        memory::MemoryStore,
    };

    fn push(from: &MemoryStore, root: &Descriptor, to: &MemoryStore) -> Result<PushTally> {
        let options = FetchOptions { recursive: true, threads: 2, fetched: &|| () };
        let graph = graph::fetch(from, Graph::default(), vec![(from.origin(), root.clone())], &options);
        let job = PushJob { store: from, graph: &graph, root, recursive: true, threads: 4, observer: &|_, _, _| () };
        job.run(to, "week")
    }

    #[test]
    fn all_is_there_before_what_refers_to_it_and_the_tag_comes_last() {
        let (from, to) = (MemoryStore::new("from"), MemoryStore::new("to"));
        let (one, two) = (from.image(&[b"x", b"y"]), from.image(&[b"y", b"z"]));
        let root = from.index(vec![one.clone(), two]);
        from.referrer(&one, b"signature");
        to.add("layer", b"y");
        // The target refuses a manifest before what it refers to.
        let tally = push(&from, &root, &to).unwrap();
        assert_eq!((tally.blobs, tally.spared, tally.manifests), (6, 1, 4));
        assert_eq!(to.tagged("week"), Some(root.digest.clone()));
        assert_eq!(to.calls().last().unwrap(), "tag week");
        assert_eq!(push(&from, &root, &to).unwrap().spared, 6, "the same again sends nothing");
    }

    #[test]
    fn what_is_wrong_is_not_taken_and_the_tag_not_touched() {
        let (from, to) = (MemoryStore::new("from"), MemoryStore::new("to"));
        let root = from.image(&[b"x", b"y"]);
        from.spoil(&Descriptor::new("layer", crate::oci::Digest::of(b"y"), 1), b"!");
        assert!(push(&from, &root, &to).unwrap_err().to_string().contains("digest mismatch"));
        assert_eq!(to.tagged("week"), None);
        assert!(to.content(&root.digest).is_none(), "a manifest is not put over what is not there");
    }
}
