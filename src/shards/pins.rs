//! What registries said when a plan was made: who refers to what, and what was nowhere. A host that goes by the plan does
//! not ask again, so that every host sees the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read,
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, ErrorKind, Result},
    oci::{Descriptor, Digest},
    store::{Locator, Origin, Store, graph::Graph},
};

/// Answers, by the place that gave them, as users write its name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pins {
    /// What refers to a manifest, as the place lists it; a manifest without referrers is not here.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    referrers: BTreeMap<String, BTreeMap<Digest, Vec<Descriptor>>>,
    /// Manifests that are not in the place: subjects of what is there.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    missing: BTreeMap<String, BTreeSet<Digest>>,
}

/// A store whose answers are noted.
pub struct RecordingStore<'a> {
    inner: &'a dyn Store,
    pins: Mutex<Pins>,
}

impl<'a> RecordingStore<'a> {
    /// Nothing is noted yet.
    pub fn new(inner: &'a dyn Store) -> RecordingStore<'a> {
        RecordingStore { inner, pins: Mutex::default() }
    }

    /// What was noted.
    pub fn into_pins(self) -> Pins {
        self.pins.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, note: impl FnOnce(&mut Pins)) {
        note(&mut self.pins.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Store for RecordingStore<'_> {
    fn resolve(&self, name: &Locator) -> Result<(Descriptor, Arc<[u8]>)> {
        self.inner.resolve(name)
    }

    fn manifest(&self, origin: &Origin, descriptor: &Descriptor) -> Result<Arc<[u8]>> {
        let found = self.inner.manifest(origin, descriptor);
        if found.as_ref().is_err_and(|e| e.is(ErrorKind::Missing)) {
            let digest = descriptor.digest.clone();
            self.note(|pins| {
                pins.missing.entry(origin.to_string()).or_default().insert(digest);
            });
        }
        found
    }

    fn referrers(&self, origin: &Origin, descriptor: &Descriptor) -> Result<Vec<Descriptor>> {
        let found = self.inner.referrers(origin, descriptor)?;
        if !found.is_empty() {
            let (digest, found) = (descriptor.digest.clone(), found.clone());
            self.note(|pins| drop(pins.referrers.entry(origin.to_string()).or_default().insert(digest, found)));
        }
        Ok(found)
    }

    fn tags(&self, origin: &Origin) -> Result<Vec<String>> {
        self.inner.tags(origin)
    }

    fn blob(&self, origin: &Origin, descriptor: &Descriptor, from: u64) -> Result<Box<dyn Read + '_>> {
        self.inner.blob(origin, descriptor, from)
    }

    fn has_blob(&self, origin: &Origin, descriptor: &Descriptor) -> Result<()> {
        self.inner.has_blob(origin, descriptor)
    }

    fn shutdown(&self) {
        self.inner.shutdown();
    }
}

/// A store that answers as was noted, and has content from another.
pub struct PinnedStore<'a> {
    /// What was noted.
    pub pins: &'a Pins,
    /// Where content comes from.
    pub inner: &'a dyn Store,
}

impl Store for PinnedStore<'_> {
    fn resolve(&self, name: &Locator) -> Result<(Descriptor, Arc<[u8]>)> {
        Err(Error::new(format!("the plan says what {name} is; this is a fault of ace-dt")))
    }

    fn manifest(&self, origin: &Origin, descriptor: &Descriptor) -> Result<Arc<[u8]>> {
        match self.pins.missing.get(&origin.to_string()) {
            Some(missing) if missing.contains(&descriptor.digest) => {
                let why = format!("{} was not in {origin} when the plan was made", descriptor.digest);
                Err(Error::new(why).of(ErrorKind::Missing))
            }
            _ => self.inner.manifest(origin, descriptor),
        }
    }

    fn referrers(&self, origin: &Origin, descriptor: &Descriptor) -> Result<Vec<Descriptor>> {
        let of_place = self.pins.referrers.get(&origin.to_string());
        Ok(of_place.and_then(|all| all.get(&descriptor.digest)).cloned().unwrap_or_default())
    }

    fn blob(&self, origin: &Origin, descriptor: &Descriptor, from: u64) -> Result<Box<dyn Read + '_>> {
        self.inner.blob(origin, descriptor, from)
    }

    fn has_blob(&self, origin: &Origin, descriptor: &Descriptor) -> Result<()> {
        self.inner.has_blob(origin, descriptor)
    }

    fn shutdown(&self) {
        self.inner.shutdown();
    }
}

/// Manifests that were fetched before, wherever they came from.
pub struct FetchedStore<'a>(pub &'a Graph);

impl Store for FetchedStore<'_> {
    fn resolve(&self, name: &Locator) -> Result<(Descriptor, Arc<[u8]>)> {
        Err(Error::new(format!("{name} was not looked for")))
    }

    fn manifest(&self, _: &Origin, descriptor: &Descriptor) -> Result<Arc<[u8]>> {
        self.0.node(descriptor).map(|node| node.bytes.clone())
    }

    fn referrers(&self, _: &Origin, _: &Descriptor) -> Result<Vec<Descriptor>> {
        Ok(Vec::new())
    }

    fn blob(&self, origin: &Origin, descriptor: &Descriptor, _: u64) -> Result<Box<dyn Read + '_>> {
        Err(Error::new(format!("{} of {origin} was not fetched", descriptor.digest)))
    }

    fn has_blob(&self, origin: &Origin, descriptor: &Descriptor) -> Result<()> {
        self.blob(origin, descriptor, 0).map(drop)
    }

    fn shutdown(&self) {}
}
