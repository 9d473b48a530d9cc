//! Where each thing is needed, and where it is.

use super::{BlobState, ManifestState, Step, TrackedBlob, Tracker};
use crate::{
    delivery::sets::SetId,
    oci::{Descriptor, Digest, Manifest},
};

impl Tracker {
    /// The number of a set of destinations.
    pub fn set(&mut self, members: Vec<u32>) -> SetId {
        self.sets.number(members)
    }

    /// Where a blob is needed, and where it is.
    pub fn places_of(&self, number: usize) -> (Vec<u32>, Vec<u32>) {
        let blob = &self.blobs[number];
        (self.sets.members(blob.needed).to_vec(), self.sets.members(blob.there).to_vec())
    }

    /// Where a manifest is needed, and where it was pushed.
    pub fn pushes_of(&self, number: usize) -> (Vec<u32>, Vec<u32>) {
        let manifest = &self.manifests[number];
        (self.sets.members(manifest.needed).to_vec(), self.sets.members(manifest.pushed).to_vec())
    }

    /// Where something is needed, as a manifest or as a blob.
    pub fn needed_at(&self, digest: &Digest) -> Vec<u32> {
        let as_manifest = self.manifest_numbers.get(digest).map(|&number| self.manifests[number as usize].needed);
        let as_blob = self.blob_numbers.get(digest).map(|&number| self.blobs[number as usize].needed);
        let candidate = self.candidates.contains_key(digest).then_some(self.everything);
        let mut all: Vec<u32> = Vec::new();
        [as_blob, as_manifest, candidate].into_iter().flatten().for_each(|set| all.extend(&*self.sets.members(set)));
        all.sort_unstable();
        all.dedup();
        all
    }

    /// What a gather index says that was left out.
    pub fn leave_out(&mut self, gather: &Manifest) {
        self.left_out.extend(gather.left_out());
    }

    /// Whether something names it as a blob.
    pub fn is_blob(&self, digest: &Digest) -> bool {
        self.blob_numbers.contains_key(digest)
    }

    /// A manifest is needed there, with all below it. Returns its number.
    ///
    /// # Errors
    /// If what is said of it contradicts what is known.
    pub fn need(&mut self, descriptor: &Descriptor, set: SetId) -> Result<usize, String> {
        let number = self.manifest_number(descriptor, set)?;
        self.manifests[number].is_listed = true;
        self.meet_named();
        Ok(number)
    }

    /// A manifest that is known is needed at further destinations, and so is what lies below it.
    pub(super) fn need_manifest(&mut self, number: usize, set: SetId) {
        let (mut stack, mut grown) = (vec![(number, set)], Vec::new());
        while let Some((number, set)) = stack.pop() {
            let needed = self.manifests[number].needed;
            let union = self.sets.union(needed, set);
            if union == needed {
                continue;
            }
            self.manifests[number].needed = union;
            if self.manifests[number].state == ManifestState::Pushed {
                self.manifests[number].state = ManifestState::Waiting;
            }
            grown.push(number);
            let edges = std::mem::take(&mut self.manifests[number].edges);
            for edge in &edges {
                match edge.is_manifest {
                    true => stack.push((edge.to as usize, set)),
                    false => self.need_blob(edge.to as usize, set),
                }
            }
            self.manifests[number].edges = edges;
            let digest = self.manifests[number].digest.clone();
            stack.extend(self.known_referrers(&digest).into_iter().map(|referrer| (referrer, set)));
        }
        for number in grown {
            self.wait_again(number);
            self.push_if_ready(number);
        }
    }

    /// What is needed at more places than before may not be there any more.
    fn wait_again(&mut self, number: usize) {
        let mut edges = std::mem::take(&mut self.manifests[number].edges);
        let mut missing = 0;
        for (n, edge) in edges.iter_mut().enumerate().filter(|(_, edge)| edge.is_settled) {
            let waiting = match edge.is_manifest {
                true => {
                    let to = &mut self.manifests[edge.to as usize];
                    let is_waived = matches!(to.state, ManifestState::Named | ManifestState::Nowhere);
                    (to.state != ManifestState::Pushed && !is_waived).then_some(&mut to.waiting)
                }
                false => {
                    let to = &mut self.blobs[edge.to as usize];
                    (!to.state.is_there()).then_some(&mut to.waiting)
                }
            };
            if let Some(waiting) = waiting {
                waiting.push((number as u32, n as u32));
                (edge.is_settled, missing) = (false, missing + 1);
            }
        }
        self.manifests[number].edges = edges;
        self.manifests[number].missing += missing;
    }

    /// A blob is needed there.
    pub(super) fn need_blob(&mut self, number: usize, set: SetId) {
        let needed = self.blobs[number].needed;
        let union = self.sets.union(needed, set);
        if union == needed {
            return;
        }
        let blob = &mut self.blobs[number];
        blob.needed = union;
        if blob.state.is_there() {
            blob.state = BlobState::Spreading;
            self.todo.push(Step::Spread(number));
        }
    }

    /// Manifests that refer to this one, and are needed where it is. Those that nothing has named so far are named now.
    fn known_referrers(&mut self, subject: &Digest) -> Vec<usize> {
        if !self.follows_referrers {
            return Vec::new();
        }
        let all = self.by_subject.get(subject).cloned().unwrap_or_default();
        let mut known = Vec::new();
        for digest in all {
            match self.manifest_numbers.get(&digest) {
                Some(&number) => known.push(number as usize),
                None => known.extend(self.name_candidate(&digest)),
            }
        }
        known
    }

    /// A manifest refers to another. Where that is needed it is needed, too.
    pub(super) fn note_subject(&mut self, digest: &Digest, subject: &Digest) {
        if !self.follows_referrers {
            return;
        }
        let listed = self.by_subject.entry(subject.clone()).or_default();
        if !listed.contains(digest) {
            listed.push(digest.clone());
        }
        let Some(&number) = self.manifest_numbers.get(subject) else { return };
        let set = self.manifests[number as usize].needed;
        if set == SetId::EMPTY {
            return;
        }
        let referrer = self.manifest_numbers.get(digest).map(|&number| number as usize);
        if let Some(referrer) = referrer.or_else(|| self.name_candidate(digest)) {
            self.need_manifest(referrer, set);
            self.meet_named();
        }
    }

    /// Where a manifest was pushed.
    pub fn pushed(&mut self, number: usize, places: Vec<u32>) {
        let places = self.sets.number(places);
        let manifest = &mut self.manifests[number];
        manifest.pushed = self.sets.union(manifest.pushed, places);
        let (pushed, needed) = (manifest.pushed, manifest.needed);
        match self.sets.holds(pushed, needed) {
            true => self.manifest_is(number, ManifestState::Pushed),
            false => {
                self.manifests[number].state = ManifestState::Waiting;
                self.push_if_ready(number);
            }
        }
    }

    /// Where a blob is now, and how it came there.
    pub fn arrives(&mut self, number: usize, places: Vec<u32>, state: BlobState) {
        let places = self.sets.number(places);
        let blob = &mut self.blobs[number];
        blob.is_sent |= state == BlobState::Sent;
        blob.there = self.sets.union(blob.there, places);
        let (there, needed) = (blob.there, blob.needed);
        match self.sets.holds(there, needed) {
            true => self.blob_is(number, state),
            false if state.is_there() => {
                self.blobs[number].state = BlobState::Spreading;
                self.todo.push(Step::Spread(number));
            }
            false => self.blob_is(number, state),
        }
    }

    /// Destinations were asked for a blob; `places` have it. Returns whether it is news that all have it that need it.
    pub fn asked(&mut self, number: usize, places: Vec<u32>) -> bool {
        if !matches!(self.blobs[number].state, BlobState::Named | BlobState::Asking | BlobState::Absent) {
            return false;
        }
        let places = self.sets.number(places);
        let blob = &mut self.blobs[number];
        blob.there = self.sets.union(blob.there, places);
        let (there, needed) = (blob.there, blob.needed);
        if self.sets.holds(there, needed) {
            self.blob_is(number, BlobState::Present);
            return true;
        }
        if self.blobs[number].state != BlobState::Absent {
            self.blobs[number].state = BlobState::Absent;
            self.absent += 1;
        }
        false
    }

    /// Destinations are being asked for a blob for the last time: whatever they have is brought to the others.
    pub fn seeks(&mut self, number: usize) -> bool {
        let blob = &mut self.blobs[number];
        let is_open = matches!(blob.state, BlobState::Named | BlobState::Absent);
        is_open && !std::mem::replace(&mut blob.was_sought, true)
    }

    /// Blobs that something needs, that no archive had, and that nobody has asked for. `destinations` is how many there are
    /// in the run: of several each is asked, whether it needs the blob or not.
    pub fn unasked(&self, destinations: u32) -> Vec<usize> {
        let may_be_elsewhere = |blob: &TrackedBlob| destinations > 1 && !blob.was_sought;
        let is_unasked = |(_, blob): &(usize, &TrackedBlob)| match blob.state {
            BlobState::Named => !blob.waiting.is_empty(),
            BlobState::Absent => !blob.waiting.is_empty() && may_be_elsewhere(blob),
            _ => false,
        };
        self.blobs.iter().enumerate().filter(is_unasked).map(|(number, _)| number).collect()
    }

    /// Whether a blob is needed anywhere.
    pub fn is_wanted(&self, number: usize) -> bool {
        self.blobs[number].needed != SetId::EMPTY
    }

    /// Whether a blob passed by before something named it.
    pub fn has_passed(&self, number: usize) -> bool {
        self.blobs[number].has_passed
    }

    /// Whether a manifest was met, or something needs it.
    pub fn is_document(&self, digest: &Digest) -> bool {
        self.manifest_numbers.contains_key(digest) || self.candidates.contains_key(digest)
    }

    /// A document that nothing has named so far.
    pub fn candidate(&self, digest: &Digest) -> Option<std::sync::Arc<[u8]>> {
        self.candidates.get(digest)?.bytes.clone()
    }

    /// A blob passes by, and nothing has named it so far. Whether something will, nobody knows.
    pub fn passes_unneeded(&mut self, number: usize, size: u64) {
        let blob = &mut self.blobs[number];
        (blob.has_passed, blob.size) = (true, size);
    }

    /// Whether something is needed and not there that was in an archive: when it passed by, nothing had named it.
    pub fn has_missed(&self) -> bool {
        let is_open = |state| matches!(state, BlobState::Named | BlobState::Absent);
        let blobs = self.blobs.iter().any(|b| b.has_passed && b.needed != SetId::EMPTY && is_open(b.state));
        let is_missed = |m: &super::TrackedManifest| {
            matches!(m.state, ManifestState::Named | ManifestState::Nowhere) && self.dropped.contains(&m.digest)
        };
        blobs || self.manifests.iter().any(is_missed)
    }
}
