//! What a store has, delivered: manifests that were fetched before, and blobs that stream from where they are.

use std::sync::{Arc, atomic::AtomicU64};

use super::{
    AssignedRoot, Delivery,
    content::{JobContent, StoredContent},
    queue::Job,
};
use crate::{
    archive::read::{events::BlobMember, tar::StreamPosition},
    error::Result,
    oci::{Descriptor, media},
    signal,
    store::{
        Store,
        graph::{Graph, OriginId},
    },
};

/// Where content comes from, and what is fetched of it already.
pub struct StoreFeed<'a> {
    /// Where blobs come from.
    pub store: Arc<dyn Store + Send + Sync>,
    /// The manifests.
    pub graph: &'a Graph,
    /// Counts the bytes of blobs that were read.
    pub read: Arc<AtomicU64>,
}

impl Delivery<'_> {
    /// Delivers these roots with all below them.
    ///
    /// # Errors
    /// If a signal asks to stop. All else is noted, and told at the end.
    pub fn feed(&self, feed: &StoreFeed, roots: Vec<AssignedRoot>) -> Result<()> {
        let (mut blobs, mut manifests): (Vec<(Descriptor, OriginId)>, Vec<Descriptor>) = Default::default();
        {
            let mut state = self.state();
            self.deliver_roots(&mut state, roots.clone());
            let mut seen = std::collections::HashSet::new();
            for root in roots.iter().filter(|root| !root.is_settled) {
                let walked = feed.graph.walk(&root.descriptor, self.options.recursive, &mut |descriptor, origin| {
                    if !seen.insert((descriptor.digest.clone(), media::is_manifest(&descriptor.media_type))) {
                        return Ok(false);
                    }
                    match media::is_manifest(&descriptor.media_type) {
                        true => manifests.push(descriptor.clone()),
                        false => blobs.push((descriptor.clone(), origin)),
                    }
                    Ok(true)
                });
                if let Err(e) = walked {
                    self.fails(&mut state, e);
                }
            }
            for descriptor in &manifests {
                // What could not be fetched is missing.
                if let Ok(bytes) = feed.graph.bytes(descriptor) {
                    state.tracker.document(&descriptor.digest, &bytes);
                }
            }
            self.act(&mut state);
        }
        for (descriptor, origin) in blobs {
            signal::check()?;
            let mut state = self.wait_for_room();
            if state.stop.is_some() {
                return Ok(());
            }
            let number = state.tracker.blob_number(&descriptor.digest, descriptor.size);
            if !state.tracker.passes(number, descriptor.size) {
                continue;
            }
            let blob = Arc::new(BlobMember {
                digest: descriptor.digest.clone(),
                size: descriptor.size,
                place: StreamPosition::default(),
                end: 0,
                archive: None,
            });
            let content = JobContent::Stored(Box::new(StoredContent {
                store: feed.store.clone(),
                origin: feed.graph.origin(origin).clone(),
                descriptor,
                read: feed.read.clone(),
            }));
            state.queue.add(Job::Send { number, blob, content, was_asked: false, position: None });
            self.work.notify_one();
        }
        Ok(())
    }
}
