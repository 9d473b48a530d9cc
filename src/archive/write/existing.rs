//! What is at the destination already, and is left out: by checkpoints, and by existing images.

use std::{collections::HashSet, path::PathBuf};

use crate::{
    archive::checkpoint,
    error::{Context, Result},
    gather::{self, GatherSettings, sources::GatherSource},
    oci::{Descriptor, Digest},
    signal,
    store::{Locator, Store},
};

/// What is at the destination already.
#[derive(Debug, Default)]
pub struct ExistingContent {
    /// By the checkpoints: blobs and manifests.
    pub on_media: HashSet<Digest>,
    /// By the existing images: blobs, not manifests.
    pub blobs: HashSet<Digest>,
}

impl ExistingContent {
    /// Reads checkpoints, each up to an offset or to its end. Nothing is written before this is done.
    ///
    /// # Errors
    /// If one cannot be read, or ends before its offset.
    pub fn by_checkpoints(checkpoints: &[(PathBuf, Option<u64>)]) -> Result<ExistingContent> {
        let mut existing = ExistingContent::default();
        for (path, offset) in checkpoints {
            existing.on_media.extend(checkpoint::read(path, *offset)?);
        }
        Ok(existing)
    }

    /// Adds the configurations and layers of images, with `recursive` of their referrers too, by at most
    /// `threads` requests at a time.
    ///
    /// # Errors
    /// If an image cannot be had.
    pub fn add_images(&mut self, images: &[Locator], recursive: bool, store: &dyn Store, threads: usize) -> Result<()> {
        let source = |locator: &Locator| GatherSource {
            written: locator.to_string(),
            locator: locator.clone(),
            labels: Default::default(),
        };
        let settings = GatherSettings { platforms: &[], sparse: false, recursive, threads, observer: &|_, _, _| () };
        let (graph, found) = gather::gather(store, images.iter().map(source).collect(), &settings);
        let mut picks: Vec<Descriptor> = Vec::new();
        for image in found {
            picks.extend(signal::check().and(image.picks).doing(|| "existing image")?);
        }
        let reachable = graph.reachable(&picks.iter().collect::<Vec<_>>(), recursive)?;
        self.blobs.extend(reachable.blobs.into_iter().map(|(descriptor, _)| descriptor.digest));
        Ok(())
    }

    /// Whether a blob is there.
    pub fn has(&self, digest: &Digest) -> bool {
        self.on_media.contains(digest) || self.blobs.contains(digest)
    }
}
