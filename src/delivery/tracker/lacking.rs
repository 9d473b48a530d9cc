//! What is missing when a run ends.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use super::{Edge, ManifestState, TrackedManifest, Tracker};
use crate::{
    delivery::sets::SetId,
    oci::{Descriptor, Digest},
};

/// What is missing, each with the manifests that need it, and why if that is known.
pub type Lacking = BTreeMap<Digest, (Vec<Digest>, Option<String>)>;

impl Tracker {
    /// Manifests that are not there as such, and are in memory only.
    pub fn leftover(&self) -> Vec<(Descriptor, Arc<[u8]>)> {
        let waiting = self.manifests.iter().filter(|manifest| manifest.state != ManifestState::Pushed);
        let candidates = self.candidates.iter().filter(|_| self.everything != SetId::EMPTY);
        let candidates = candidates.filter_map(|(digest, candidate)| {
            Some((Descriptor::new(&*candidate.media_type, digest.clone(), candidate.size), candidate.bytes.clone()?))
        });
        waiting.filter_map(|manifest| Some((manifest.descriptor(), manifest.bytes()?))).chain(candidates).collect()
    }

    /// What is missing, each with the manifests that need it, and why if that is known.
    pub fn lacking(&self) -> Lacking {
        let mut lacking: Lacking = BTreeMap::new();
        for manifest in &self.manifests {
            match &manifest.state {
                ManifestState::Failed(why) => {
                    lacking.entry(manifest.digest.clone()).or_default().1 = Some(why.clone());
                }
                ManifestState::Waiting => {}
                ManifestState::Named | ManifestState::Nowhere if manifest.is_listed => {
                    lacking.entry(manifest.digest.clone()).or_default();
                }
                _ => continue,
            }
            for digest in self.lacks(manifest) {
                lacking.entry(digest).or_default().0.push(manifest.digest.clone());
            }
        }
        lacking
    }

    /// What a manifest itself refers to that is not there, and will not be by itself.
    fn lacks(&self, manifest: &TrackedManifest) -> Vec<Digest> {
        let lacks = |edge: &&Edge| match edge.is_manifest {
            true => matches!(self.manifests[edge.to as usize].state, ManifestState::Named | ManifestState::Nowhere),
            false => !self.blobs[edge.to as usize].state.is_there(),
        };
        let digest = |edge: &Edge| match edge.is_manifest {
            true => self.manifests[edge.to as usize].digest.clone(),
            false => self.blobs[edge.to as usize].digest.clone(),
        };
        manifest.edges.iter().filter(|edge| !edge.is_settled).filter(lacks).map(digest).collect()
    }

    /// What is missing below a manifest, itself counted: blobs, and manifests that are not there.
    pub fn lacking_below(&self, digest: &Digest) -> Vec<Digest> {
        let (mut found, mut seen) = (Vec::new(), HashSet::new());
        let Some(&root) = self.manifest_numbers.get(digest) else { return vec![digest.clone()] };
        let mut queue = vec![root];
        while let Some(number) = queue.pop() {
            let manifest = &self.manifests[number as usize];
            if manifest.state == ManifestState::Pushed || !seen.insert(number) {
                continue;
            }
            if matches!(manifest.state, ManifestState::Named | ManifestState::Nowhere | ManifestState::Failed(_)) {
                found.push(manifest.digest.clone());
            }
            found.extend(self.lacks(manifest));
            queue.extend(manifest.edges.iter().filter(|e| e.is_manifest && !e.is_settled).map(|edge| edge.to));
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// What is missing below a manifest, itself counted, and of what refers to any of that, if referrers are followed.
    pub fn lacking_around(&self, digest: &Digest) -> Vec<Digest> {
        let (mut found, mut seen, mut queue) = (Vec::new(), HashSet::new(), vec![digest.clone()]);
        while let Some(next) = queue.pop() {
            if !seen.insert(next.clone()) {
                continue;
            }
            found.extend(self.lacking_below(&next));
            for below in self.below(&next) {
                let referrers = self.by_subject.get(&below).into_iter().flatten();
                queue.extend(referrers.filter(|referrer| self.manifest(referrer).is_some()).cloned());
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// All manifests that can be reached from one, itself counted.
    pub fn below(&self, digest: &Digest) -> HashSet<Digest> {
        let mut seen = HashSet::new();
        let mut queue: Vec<u32> = self.manifest_numbers.get(digest).copied().into_iter().collect();
        while let Some(number) = queue.pop() {
            let manifest = &self.manifests[number as usize];
            if seen.insert(manifest.digest.clone()) {
                let below = manifest.edges.iter().filter(|edge| edge.is_manifest && !edge.is_optional);
                queue.extend(below.map(|edge| edge.to));
            }
        }
        seen
    }

    /// What a manifest has as its subject.
    pub fn subject(&self, digest: &Digest) -> Option<Digest> {
        let subject = self.manifest(digest)?.edges.iter().find(|edge| edge.is_optional)?;
        Some(self.manifests[subject.to as usize].digest.clone())
    }

    /// Manifests that should be there and are not.
    pub fn unfinished(&self) -> Vec<Digest> {
        let is_unfinished = |manifest: &&TrackedManifest| match manifest.state {
            ManifestState::Pushed => false,
            ManifestState::Named | ManifestState::Nowhere => manifest.is_listed,
            _ => true,
        };
        self.manifests.iter().filter(is_unfinished).map(|manifest| manifest.digest.clone()).collect()
    }

    /// What an index lists under a type that is no manifest's, and is one.
    pub fn misnamed(&self) -> Vec<String> {
        let digests = self.listed_blobs.iter().map(|&number| &self.blobs[number as usize].digest);
        let is_manifest =
            |digest: &&Digest| self.manifest_numbers.contains_key(*digest) || self.manifest_documents.contains(*digest);
        let mut found: Vec<String> = digests
            .filter(is_manifest)
            .map(|digest| format!("{digest} is a manifest, and an index lists it under a type that is none"))
            .collect();
        found.sort_unstable();
        found
    }
}
