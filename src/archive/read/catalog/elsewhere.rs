//! What is known to be elsewhere than in the archive in hand.

use std::collections::HashSet;

use super::{Catalog, ManifestSummary};
use crate::oci::Digest;

/// What is known to be elsewhere: in other archives, or on media of which there is a checkpoint.
#[derive(Default)]
pub struct Elsewhere<'a> {
    /// By checkpoints.
    pub listed: Option<&'a HashSet<Digest>>,
    /// By archives that were read.
    pub catalogs: Vec<&'a Catalog>,
}

impl Elsewhere<'_> {
    /// Whether a blob is there, and sound as far as it was read.
    pub fn has(&self, digest: &Digest) -> bool {
        self.listed.is_some_and(|listed| listed.contains(digest)) || self.holds(digest)
    }

    /// The same of the archives alone.
    pub fn holds(&self, digest: &Digest) -> bool {
        self.catalogs.iter().any(|catalog| catalog.blobs.get(digest).is_some_and(|held| held.sound))
    }

    /// Bytes of a blob that is in one of the archives.
    pub(super) fn size(&self, digest: &Digest) -> Option<u64> {
        self.catalogs
            .iter()
            .find_map(|catalog| catalog.blobs.get(digest))
            .filter(|held| held.sound)
            .map(|held| held.size)
    }

    /// A manifest that is in one of the archives.
    pub(super) fn document(&self, digest: &Digest) -> Option<&ManifestSummary> {
        self.catalogs.iter().find_map(|catalog| catalog.documents.get(digest))
    }
}
