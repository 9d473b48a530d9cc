//! What commands have in common that talk to registries or plan archives.

use std::{
    ffi::OsStr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::{
    archive::read::store::ArchiveStore,
    archive::write::{
        existing::ExistingContent,
        plan::{ArchiveSpec, Plan},
    },
    cli::{archive_options::SelectionOptions, options::ConnectionOptions, progress::Progress},
    compression::CompressionLevel,
    error::{Context, Result},
    gather::{
        GatherSettings,
        collect::{Collected, Collector, IsPresent},
        sources::GatherSource,
    },
    oci::{Descriptor, annotation},
    signal,
    store::{
        Locator, Store,
        graph::{self, Graph},
        router::{SharedStore, StoreRouter},
    },
};

/// What the flags and the configuration make of a run.
pub struct Setup {
    /// Every place that content can come from.
    pub store: Arc<StoreRouter>,
    /// Requests at a time.
    pub threads: usize,
    /// How hard to compress.
    pub level: CompressionLevel,
}

impl Setup {
    /// Reads the configuration, and makes ready for requests; a signal ends them.
    ///
    /// # Errors
    /// If the configuration, an auth file or the cache cannot be used.
    pub fn new(options: &ConnectionOptions) -> Result<Setup> {
        let config = options.load_config()?;
        let (threads, level) = (config.concurrent_http, config.compression_level);
        let store = Arc::new(StoreRouter::new(config, options.policy, options.referrer_types.clone(), open_archive)?);
        let shut = store.clone();
        signal::on_request(move || shut.shutdown());
        Ok(Setup { store, threads, level })
    }
}

/// For the store of a run.
fn open_archive(path: &Path) -> Result<Arc<dyn SharedStore>> {
    Ok(Arc::new(ArchiveStore::open(path)?))
}

/// Fetches the manifests of an image.
///
/// # Errors
/// If it cannot be resolved, or a signal asks to stop. A manifest below that cannot be had is noted in
/// the graph.
pub fn fetch(
    store: &dyn Store,
    image: &Locator,
    recursive: bool,
    threads: usize,
    progress: &Progress,
) -> Result<(Graph, Descriptor)> {
    let (root, bytes) = store.resolve(image).doing(|| format!("resolving {image}"))?;
    let mut graph = Graph::default();
    graph.insert(root.digest.clone(), bytes, &image.origin());
    let fetched = AtomicUsize::new(1);
    let tell = || progress.resolving(1, 1, fetched.fetch_add(1, Ordering::Relaxed));
    let roots = vec![(image.origin(), root.clone())];
    let graph = graph::fetch(store, graph, roots, &graph::FetchOptions { recursive, threads, fetched: &tell });
    progress.clear();
    signal::check()?;
    Ok((graph, root))
}

/// Finds the sources of a list in `store`, as `selection` says. `is_present` says which blobs are at the destination already.
///
/// # Errors
/// If a signal asks to stop. A source that fails says so in its place.
pub fn collect(
    store: &dyn Store,
    selection: &SelectionOptions,
    threads: usize,
    progress: &Progress,
    sources: Vec<GatherSource>,
    is_present: &IsPresent,
) -> Result<Collected> {
    let settings = GatherSettings {
        platforms: &selection.platforms,
        sparse: selection.sparse_index,
        recursive: selection.recursive,
        threads,
        observer: &|resolved, sources, manifests| progress.resolving(resolved, sources, manifests),
    };
    let collector = Collector { store, settings, keep_going: selection.keep_going, digest_tags: selection.digest_tags };
    let found = collector.collect(sources, is_present);
    progress.clear();
    found
}

/// What an archive is of.
pub struct NamedRoot<'a> {
    /// Its root.
    pub root: &'a Descriptor,
    /// The name that it gets in its `index.json`.
    pub name: &'a str,
    /// The version of the tool that is written into it.
    pub version: &'a str,
}

/// Plans the archive of what lies below a root.
///
/// # Errors
/// If a manifest is missing or malformed, or the sizes claimed add up to too much.
pub fn plan(
    graph: &Graph,
    NamedRoot { root, name, version }: NamedRoot,
    existing: &ExistingContent,
    recursive: bool,
    manifest_json: bool,
) -> Result<Plan> {
    let mut root = root.clone();
    root.annotations.insert(annotation::REF_NAME.into(), name.into());
    let spec = ArchiveSpec {
        root,
        recursive,
        on_media: &existing.on_media,
        existing: &existing.blobs,
        manifest_json,
        version,
    };
    Plan::new(graph, &spec)
}

/// Whether a path means a standard stream.
pub fn is_dash(path: &Path) -> bool {
    path.as_os_str() == OsStr::new("-")
}
