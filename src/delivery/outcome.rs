//! How a delivery went.

use std::{collections::HashSet, sync::Arc};

use super::{
    checkpoint::DeliveryCheckpoint,
    routed::RoutedRoot,
    tracker::{Lacking, Tracker},
};
use crate::{
    error::Error,
    oci::{Descriptor, Digest},
    util::units::counted,
};

/// So many failures are told one by one.
pub const TOLD_MAX: usize = 10_000;

/// How far it came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeliveryTally {
    /// Blobs that were sent.
    pub sent: usize,
    /// Blobs that were there.
    pub present: usize,
    /// Blobs that were mounted from another repository.
    pub mounted: usize,
    /// Manifests that were pushed.
    pub manifests: usize,
    /// Bytes of blobs and manifests that were sent.
    pub bytes: u64,
    /// Bytes of blobs that were there, or were mounted.
    pub spared: u64,
    /// Bytes of archives that were read or passed over.
    pub read: u64,
    /// How often the reader waited because the buffer was full: a drive stops then.
    pub waits: u64,
}

impl DeliveryTally {
    /// What was done, in words.
    pub fn in_words(&self) -> String {
        let DeliveryTally { sent, present, manifests, mounted, .. } = self;
        let blobs = |n: &usize| counted(*n, "blob");
        let mounted = if *mounted > 0 { format!("; mounted: {}", blobs(mounted)) } else { String::new() };
        let manifests = counted(*manifests, "manifest");
        format!("sent: {} and {manifests}{mounted}; there already: {}", blobs(sent), blobs(present))
    }

    /// A blob was sent.
    pub fn sent(&mut self, size: u64) {
        self.sent += 1;
        self.bytes += size;
    }

    /// A blob was mounted.
    pub fn mounted(&mut self, size: u64) {
        self.mounted += 1;
        self.spared += size;
    }

    /// A blob was there.
    pub fn present(&mut self, size: u64) {
        self.present += 1;
        self.spared += size;
    }
}

/// What became of a run.
pub struct DeliveryOutcome {
    /// The root, if an `index.json` was read.
    pub root: Option<Descriptor>,
    /// The roots of the archives of a set that were met.
    pub met_roots: HashSet<Digest>,
    /// Its bytes, if they were met.
    pub root_bytes: Option<Arc<[u8]>>,
    /// The tag that it got.
    pub tagged: Option<String>,
    /// What went where by a route; none if that was never known.
    pub roots: Option<Vec<RoutedRoot>>,
    /// Numbers of the blobs that were mounted.
    pub mounted: HashSet<usize>,
    /// How much was done.
    pub tally: DeliveryTally,
    /// What is missing: with the manifests that need it, and why, if that is known.
    pub lacking: Lacking,
    /// An archive is not as the format has it.
    pub is_wrong: bool,
    /// The destination has refused something, or was away, so that the rest was not sent.
    pub is_refused: bool,
    /// Why it ended early.
    pub stop: Option<Error>,
    /// How far it is, for a run that goes on.
    pub checkpoint: Option<DeliveryCheckpoint>,
    /// All that is known.
    pub tracker: Tracker,
}

impl DeliveryOutcome {
    /// Whether nothing is missing.
    pub fn is_complete(&self) -> bool {
        self.stop.is_none() && self.lacking.is_empty() && self.root.is_some()
    }
}
