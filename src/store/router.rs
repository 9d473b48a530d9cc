//! The [`Store`] of a run: registries and layouts behind one interface.

use std::{
    collections::HashMap,
    io::Read,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use super::{Locator, Origin, Store, cache::Cache, graph::Graph, layout::Layouts};
use crate::{
    config::Config,
    error::{Context, Error, Result},
    log,
    oci::Descriptor,
    registry::{client::Registries, transport::retry::RetryPolicy},
};

/// A store that several threads hold, and whose blobs outlive their hold on it.
pub trait SharedStore: Store + Send {
    /// A blob's bytes from `from` on, unchecked.
    ///
    /// # Errors
    /// If it cannot be opened there.
    fn open_blob(&self, descriptor: &Descriptor, from: u64) -> Result<Box<dyn Read>>;
}

/// Opens an archive, which knows more than this floor does.
pub type OpenArchive = fn(&Path) -> Result<Arc<dyn SharedStore>>;

/// Every place that content can come from.
pub struct StoreRouter {
    registries: Registries,
    layouts: Layouts,
    open_archive: OpenArchive,
    /// Archives that are open.
    archives: Mutex<HashMap<PathBuf, Arc<dyn SharedStore>>>,
    /// If there are any, only referrers of these artifact types are seen.
    referrer_types: Vec<String>,
    /// Keeps what registries give.
    cache: Option<Cache>,
}

impl StoreRouter {
    /// As the configuration has it. If there are `referrer_types`, only referrers of these are seen.
    ///
    /// # Errors
    /// If an auth file cannot be read, or the cache cannot be opened.
    pub fn new(
        config: Config,
        policy: RetryPolicy,
        referrer_types: Vec<String>,
        open_archive: OpenArchive,
    ) -> Result<StoreRouter> {
        let cache = config.cache.as_deref().map(Cache::open).transpose()?;
        let registries = Registries::new(config, policy)?;
        let (layouts, archives) = (Layouts::default(), Mutex::default());
        Ok(StoreRouter { registries, layouts, open_archive, archives, referrer_types, cache })
    }

    /// Keeps in the cache, if there is one, the manifests of images whose blobs are all in it. A run
    /// does not fail for it.
    pub fn keep(&self, graph: &Graph, roots: &[(Option<&str>, &Descriptor)], recursive: bool) {
        if let Some(Err(e)) = self.cache.as_ref().map(|cache| cache.keep(graph, roots, recursive)) {
            log::warn(e);
        }
    }

    /// An archive, opened once.
    fn archive(&self, path: &Path) -> Result<Arc<dyn SharedStore>> {
        let mut archives = self.archives.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = archives.get(path) {
            return Ok(open.clone());
        }
        let open = (self.open_archive)(path)?;
        archives.insert(path.into(), open.clone());
        Ok(open)
    }

    /// The registries, to push to.
    pub fn registries(&self) -> &Registries {
        &self.registries
    }
}

/// What is only in memory is never fetched.
fn in_memory() -> Error {
    Error::new("the gather index was looked for outside of memory; this is a fault of ace-dt")
}

impl Store for StoreRouter {
    fn resolve(&self, name: &Locator) -> Result<(Descriptor, Arc<[u8]>)> {
        match name {
            Locator::Registry(reference) => self.registries.resolve(reference),
            Locator::Layout(dir, name) => self.layouts.resolve(dir, name.as_deref()),
            Locator::Archive(path, _) => self.archive(path)?.resolve(name),
        }
    }

    fn manifest(&self, origin: &Origin, descriptor: &Descriptor) -> Result<Arc<[u8]>> {
        match origin {
            Origin::Repository(repository) => match self.cache.as_ref().and_then(|cache| cache.manifest(descriptor)) {
                Some(bytes) => Ok(bytes.into()),
                None => self.registries.manifest(repository, descriptor),
            },
            Origin::Layout(dir) => self.layouts.manifest(dir, descriptor),
            Origin::Archive(path) => self.archive(path)?.manifest(origin, descriptor),
            Origin::Memory => Err(in_memory()),
        }
    }

    fn referrers(&self, origin: &Origin, descriptor: &Descriptor) -> Result<Vec<Descriptor>> {
        let types = &self.referrer_types[..];
        match origin {
            Origin::Repository(repository) => self.registries.referrers(repository, descriptor, types),
            Origin::Layout(dir) => Ok(of_types(self.layouts.referrers(dir, descriptor)?, types)),
            Origin::Archive(path) => Ok(of_types(self.archive(path)?.referrers(origin, descriptor)?, types)),
            Origin::Memory => Ok(Vec::new()),
        }
    }

    fn tags(&self, origin: &Origin) -> Result<Vec<String>> {
        match origin {
            Origin::Repository(repository) => self.registries.tags(repository),
            Origin::Layout(dir) => self.layouts.names(dir),
            Origin::Archive(_) | Origin::Memory => Ok(Vec::new()),
        }
    }

    fn blob(&self, origin: &Origin, descriptor: &Descriptor, from: u64) -> Result<Box<dyn Read + '_>> {
        match origin {
            Origin::Repository(repository) => {
                if let Some(file) = self.cache.as_ref().and_then(|cache| cache.blob(descriptor, from)) {
                    return Ok(Box::new(file));
                }
                let body = self.registries.blob(repository, descriptor, from);
                match &self.cache {
                    Some(cache) if from == 0 => body.map(|body| cache.keeping(descriptor, body)),
                    _ => body,
                }
            }
            Origin::Layout(dir) => self.layouts.blob(dir, descriptor, from),
            Origin::Archive(path) => self.archive(path).and_then(|archive| archive.open_blob(descriptor, from)),
            Origin::Memory => Err(in_memory()),
        }
        .doing(|| fetching(origin, descriptor))
    }

    fn has_blob(&self, origin: &Origin, descriptor: &Descriptor) -> Result<()> {
        match origin {
            Origin::Repository(_) if self.cache.as_ref().is_some_and(|cache| cache.has(descriptor)) => Ok(()),
            Origin::Repository(repository) => self.registries.has_blob(repository, descriptor),
            Origin::Layout(dir) => self.layouts.has_blob(dir, descriptor),
            Origin::Archive(path) => self.archive(path).and_then(|archive| archive.has_blob(origin, descriptor)),
            Origin::Memory => Ok(()),
        }
        .doing(|| fetching(origin, descriptor))
    }

    fn shutdown(&self) {
        self.registries.shutdown();
    }
}

/// The referrers of these types; no types means all.
fn of_types(mut all: Vec<Descriptor>, types: &[String]) -> Vec<Descriptor> {
    all.retain(|descriptor| types.is_empty() || types.contains(&descriptor.artifact_type));
    all
}

fn fetching(origin: &Origin, descriptor: &Descriptor) -> String {
    format!("fetching blob {} of {origin}", descriptor.digest)
}
