//! What waits for what: every blob and manifest that an archive holds or names, and which of them are at the
//! destination.
//!
//! It decides and does nothing: each call returns what is to be done now. A manifest is pushed the moment all is there
//! that it refers to. Each thing is needed at a set of destinations, and what refers to something needs it where it is
//! needed itself; what is needed at more of them than before is not there until it is at all. Digests stand here once, and
//! everything else speaks of them by number, so that a million blobs need some 250 MB.

mod lacking;
mod naming;
mod needs;
mod origins;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::sets::{RepositorySets, SetId};
use crate::{
    oci::{Descriptor, Digest, Manifest, media},
    util::units::grouped,
};

pub use lacking::Lacking;
use origins::{OriginNumber, Origins};

/// Manifests that wait are kept in memory up to so many bytes; those beyond are kept at the destination, as blobs.
const HELD_MAX: u64 = if cfg!(test) { 1000 } else { 8 << 20 };

/// What is to be done now.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Find out whether the destinations have this blob.
    Ask(usize),
    /// Bring this blob, which is at some destinations, to the others that need it.
    Spread(usize),
    /// Push this manifest: all that it refers to is there.
    Push(usize),
    /// Send this manifest as a blob, too: something names it as one.
    Copy(usize),
    /// Send this manifest's bytes as a blob: something names it as one, or nothing names it at all, or there is no room
    /// for it here.
    Keep(Box<Descriptor>, Arc<[u8]>),
}

/// What is known of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlobState {
    /// Something names it.
    Named,
    /// The destination is being asked for it.
    Asking,
    /// The destination said that it has it not.
    Absent,
    /// It passes by, and is on its way.
    Passing,
    /// Some destinations have it, and it is on its way to the others that need it.
    Spreading,
    /// It was there before.
    Present,
    /// It was sent.
    Sent,
    /// It could not be sent, or is damaged.
    Failed,
}

impl BlobState {
    /// Whether this run has sent it, or does.
    pub fn is_ours(self) -> bool {
        matches!(self, BlobState::Passing | BlobState::Spreading | BlobState::Sent)
    }

    /// Whether the destination has it.
    pub fn is_there(self) -> bool {
        matches!(self, BlobState::Present | BlobState::Sent)
    }
}

/// What is known of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManifestState {
    /// Something names it.
    Named,
    /// It was looked for, and is nowhere.
    Nowhere,
    /// It waits for what it refers to.
    Waiting,
    /// It is on its way.
    Pushing,
    /// It is there, as a manifest.
    Pushed,
    /// It cannot be pushed: why.
    Failed(String),
}

/// A blob.
#[derive(Debug)]
pub struct TrackedBlob {
    /// Its digest.
    pub digest: Digest,
    /// Bytes, as whatever names it says, or as it has.
    pub size: u64,
    /// What is known of it.
    pub state: BlobState,
    /// Where it is needed.
    pub needed: SetId,
    /// Where it is.
    pub there: SetId,
    /// It passed by when nothing needed it.
    has_passed: bool,
    /// All destinations were asked for it.
    was_sought: bool,
    /// This run has sent it to at least one of them.
    pub is_sent: bool,
    /// Where it was gathered from.
    origin: OriginNumber,
    /// Manifests that wait for it, each with the number of the edge.
    waiting: Vec<(u32, u32)>,
}

/// A manifest.
#[derive(Debug)]
pub struct TrackedManifest {
    /// Its digest.
    pub digest: Digest,
    /// Bytes, as whatever names it says.
    pub size: u64,
    /// As whatever names it says.
    pub media_type: Arc<str>,
    /// What is known of it.
    pub state: ManifestState,
    /// Where it is needed.
    pub needed: SetId,
    /// Where it was pushed.
    pub pushed: SetId,
    /// Its bytes, as long as they are needed; otherwise the destination has them as a blob.
    bytes: Option<Arc<[u8]>>,
    /// They count as held.
    is_held: bool,
    /// What it refers to.
    edges: Box<[Edge]>,
    /// How many of them are not there.
    missing: u32,
    /// An `index.json` lists it.
    is_listed: bool,
    /// Where it was gathered from.
    origin: OriginNumber,
    /// Manifests that wait for it, each with the number of the edge.
    waiting: Vec<(u32, u32)>,
}

impl TrackedManifest {
    /// As it is pushed.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(&*self.media_type, self.digest.clone(), self.size)
    }

    /// Its bytes, if they are in memory.
    pub fn bytes(&self) -> Option<Arc<[u8]>> {
        self.bytes.clone()
    }
}

/// What a manifest refers to.
#[derive(Clone, Copy, Debug)]
struct Edge {
    /// Number of a blob or manifest.
    to: u32,
    /// It is a manifest.
    is_manifest: bool,
    /// It is a subject, or was left out on purpose: it may be nowhere.
    is_optional: bool,
    /// It is no longer waited for.
    is_settled: bool,
    /// Bytes, as the manifest says.
    size: u64,
}

/// A document that nothing has named yet.
struct Candidate {
    media_type: String,
    size: u64,
    /// Its bytes, or the destination has them as a blob.
    bytes: Option<Arc<[u8]>>,
    /// They count as held.
    is_held: bool,
}

/// Every blob and manifest of a run.
#[derive(Default)]
pub struct Tracker {
    blob_numbers: HashMap<Digest, u32>,
    blobs: Vec<TrackedBlob>,
    manifest_numbers: HashMap<Digest, u32>,
    manifests: Vec<TrackedManifest>,
    types: HashSet<Arc<str>>,
    candidates: HashMap<Digest, Candidate>,
    /// Candidates that something names now, and that are still to be taken in.
    named: Vec<(usize, Arc<[u8]>)>,
    /// What an index lists that is no manifest by what it says.
    listed_blobs: HashSet<u32>,
    /// Blobs that are manifests by what they say of themselves.
    manifest_documents: HashSet<Digest>,
    /// What gather indexes say that was left out: the index, and the manifest.
    left_out: HashSet<(Digest, Digest)>,
    /// Sets of destinations.
    sets: RepositorySets,
    /// Where things were gathered from.
    origins: Origins,
    /// Where all is needed that passes by, if that is so.
    everything: SetId,
    /// What refers to something that is needed is needed, too.
    follows_referrers: bool,
    /// What refers to each subject.
    by_subject: HashMap<Digest, Vec<Digest>>,
    /// Candidates for which there was no room.
    dropped: HashSet<Digest>,
    /// Bytes of manifests in memory.
    held: u64,
    /// There is room for all of them.
    holds_all: bool,
    /// Blobs that the destination was asked for and had not.
    absent: usize,
    /// The root, once an `index.json` was met.
    root: Option<u32>,
    /// Manifests are pushed: the root was met, or will not be.
    is_released: bool,
    todo: Vec<Step>,
}

impl Tracker {
    /// All that passes by is needed at the one destination that there is, whose number is 0.
    pub fn of_all() -> Tracker {
        let mut tracker = Tracker::default();
        tracker.everything = tracker.sets.number(vec![0]);
        tracker
    }

    /// Only what is asked for is needed, with all below it, and with what refers to it if `follows_referrers`.
    pub fn of_some(follows_referrers: bool) -> Tracker {
        Tracker { is_released: true, follows_referrers, ..Tracker::default() }
    }

    /// The same, and manifests are in memory anyway.
    pub fn holding_all(self) -> Tracker {
        Tracker { holds_all: true, ..self }
    }

    /// Whether there is room for so many bytes of manifests.
    fn has_room(&self, size: u64) -> bool {
        self.holds_all || self.held + size <= HELD_MAX
    }

    /// The destination was asked for a blob that passes by, and has it not.
    pub fn has_not(&mut self) {
        self.absent += 1;
    }

    /// How many blobs the destination was asked for and had not.
    pub fn absent(&self) -> usize {
        self.absent
    }

    /// All blobs, by number.
    pub fn blobs(&self) -> &[TrackedBlob] {
        &self.blobs
    }

    /// All manifests, by number.
    pub fn manifests(&self) -> &[TrackedManifest] {
        &self.manifests
    }

    /// A manifest that something names, or that was met.
    pub fn manifest(&self, digest: &Digest) -> Option<&TrackedManifest> {
        self.manifest_numbers.get(digest).map(|&number| &self.manifests[number as usize])
    }

    /// What is to be done now.
    pub fn take_actions(&mut self) -> Vec<Step> {
        std::mem::take(&mut self.todo)
    }

    /// Whether manifests are pushed.
    pub fn is_released(&self) -> bool {
        self.is_released
    }

    /// Manifests are pushed from now on.
    pub fn release(&mut self) {
        if !std::mem::replace(&mut self.is_released, true) {
            (0..self.manifests.len()).for_each(|number| self.push_if_ready(number));
        }
    }

    /// A document passes by that may be a manifest, and has its digest. `false`: it is a blob like others (too).
    pub fn document(&mut self, digest: &Digest, bytes: &Arc<[u8]>) -> bool {
        let is_blob = self.blob_numbers.contains_key(digest);
        if let Some(&number) = self.manifest_numbers.get(digest) {
            self.met(number as usize, bytes.clone());
            return !is_blob;
        }
        let own = Manifest::own_media_type(bytes).filter(|own| media::is_manifest(own));
        if is_blob {
            self.manifest_documents.extend(own.map(|_| digest.clone()));
            return false;
        }
        let Some(media_type) = own else { return false };
        if self.candidates.contains_key(digest) {
            return true;
        }
        let size = bytes.len() as u64;
        let is_held = self.has_room(size);
        let mut candidate = Candidate { media_type, size, bytes: Some(bytes.clone()), is_held };
        match is_held {
            true => self.held += size,
            // Where it will be needed nobody knows.
            false if self.everything == SetId::EMPTY => {
                self.dropped.insert(digest.clone());
                candidate.bytes = None;
            }
            false => self.todo.push(Step::Keep(
                Box::new(Descriptor::new(&*candidate.media_type, digest.clone(), size)),
                bytes.clone(),
            )),
        }
        self.candidates.insert(digest.clone(), candidate);
        if self.follows_referrers
            && let Some(subject) = Manifest::subject_of(bytes)
        {
            self.note_subject(digest, &subject);
        }
        true
    }

    /// A manifest that something names was met, in an archive or at the destination.
    pub fn met(&mut self, number: usize, bytes: Arc<[u8]>) {
        self.meet(number, bytes);
        self.meet_named();
    }

    /// Documents that were met before something named them: one may name the next, as deep as an archive has it.
    fn meet_named(&mut self) {
        while let Some((number, bytes)) = self.named.pop() {
            // As a blob, too, if something names it as one.
            if self.blob_numbers.contains_key(&self.manifests[number].digest) {
                self.todo.push(Step::Keep(Box::new(self.manifests[number].descriptor()), bytes.clone()));
            }
            self.meet(number, bytes);
        }
    }

    fn meet(&mut self, number: usize, bytes: Arc<[u8]>) {
        if !self.is_unmet(number) {
            return;
        }
        let manifest = &mut self.manifests[number];
        if bytes.len() as u64 != manifest.size {
            let (has, says) = (grouped(bytes.len() as u64), grouped(manifest.size));
            manifest.state = ManifestState::Failed(format!("it has {has} bytes, and what names it says {says}"));
            return;
        }
        let digest = manifest.digest.clone();
        let parsed = Manifest::parse(&manifest.media_type, &bytes);
        let is_image = matches!(&*manifest.media_type, media::MANIFEST | media::DOCKER_MANIFEST);
        let parsed = parsed.and_then(|parsed| match parsed.config.is_none() && is_image {
            true => Err("it is no manifest of an image: it names no configuration".into()),
            false => Ok(parsed),
        });
        let subject = parsed.as_ref().ok().and_then(|parsed| parsed.subject.as_ref()).map(|s| s.digest.clone());
        let needed = self.manifests[number].needed;
        let found = parsed.and_then(|parsed| self.edges(&digest, parsed, needed));
        let edges = match found {
            Ok(edges) => edges,
            Err(why) => return self.manifests[number].state = ManifestState::Failed(why),
        };
        self.pass_on_origin(number, &edges);
        let mut missing = 0;
        for (n, edge) in edges.iter().enumerate() {
            let waits = match edge.is_manifest {
                true => (self.manifests[edge.to as usize].state != ManifestState::Pushed)
                    .then(|| &mut self.manifests[edge.to as usize].waiting),
                false => {
                    (!self.blobs[edge.to as usize].state.is_there()).then(|| &mut self.blobs[edge.to as usize].waiting)
                }
            };
            if let Some(waiting) = waits {
                waiting.push((number as u32, n as u32));
                missing += 1;
            }
        }
        let has_room = missing == 0 || self.has_room(bytes.len() as u64);
        let manifest = &mut self.manifests[number];
        (manifest.edges, manifest.missing, manifest.state) = (edges.into(), missing, ManifestState::Waiting);
        manifest.bytes = Some(bytes.clone());
        manifest.is_held = has_room;
        if !manifest.is_held {
            self.todo.push(Step::Keep(Box::new(self.manifests[number].descriptor()), bytes));
        } else {
            self.held += bytes.len() as u64;
        }
        if self.root == Some(number as u32) {
            self.release();
        }
        self.push_if_ready(number);
        if let Some(subject) = subject {
            self.note_subject(&digest, &subject);
        }
    }

    /// What a manifest refers to, which is needed where it is needed itself.
    fn edges(&mut self, digest: &Digest, manifest: Manifest, needed: SetId) -> Result<Vec<Edge>, String> {
        self.left_out.extend(manifest.left_out());
        for listed in manifest.manifests.iter().filter(|listed| !media::is_manifest(&listed.media_type)) {
            let number = self.name_blob(listed, needed);
            self.listed_blobs.insert(number as u32);
        }
        let subject = manifest.subject.as_ref().map(|subject| subject.digest.clone());
        let mut edges: Vec<Edge> = Vec::new();
        let mut seen = HashSet::new();
        for next in manifest.successors()? {
            let is_manifest = media::is_manifest(&next.media_type);
            let is_optional = is_manifest && subject.as_ref() == Some(&next.digest);
            let to = match is_manifest {
                true if next.digest == *digest => return Err("it refers to itself".into()),
                true => self.manifest_number(&next, needed)?,
                false => self.name_blob(&next, needed),
            } as u32;
            let edge = Edge { to, is_manifest, is_optional, is_settled: false, size: next.size };
            if !is_manifest {
                self.check_size(&edge)?;
            }
            if seen.insert((to, is_manifest)) {
                edges.push(edge);
            }
        }
        Ok(edges)
    }

    /// Whether a blob that is there has as many bytes as a manifest says.
    fn check_size(&self, edge: &Edge) -> Result<(), String> {
        let blob = &self.blobs[edge.to as usize];
        if blob.size == edge.size {
            return Ok(());
        }
        let (has, says) = (grouped(blob.size), grouped(edge.size));
        Err(format!("it says that {} has {says} bytes, and that has {has}", blob.digest))
    }

    fn push_if_ready(&mut self, number: usize) {
        let manifest = &mut self.manifests[number];
        if self.is_released && manifest.missing == 0 && manifest.state == ManifestState::Waiting {
            manifest.state = ManifestState::Pushing;
            self.todo.push(Step::Push(number));
        }
    }

    /// A blob passes by, of so many bytes. `true`: it is wanted, unless the destination is being asked for it.
    pub fn passes(&mut self, number: usize, size: u64) -> bool {
        let blob = &mut self.blobs[number];
        if blob.state == BlobState::Asking {
            blob.size = size;
            return true;
        }
        let is_open = matches!(blob.state, BlobState::Named | BlobState::Absent | BlobState::Failed);
        let is_wanted = is_open && blob.needed != SetId::EMPTY;
        if is_wanted {
            (blob.state, blob.size, blob.has_passed) = (BlobState::Passing, size, false);
        }
        is_wanted
    }

    /// The destination is asked for a blob, unless that is known.
    pub fn asks(&mut self, number: usize) -> bool {
        let state = &mut self.blobs[number].state;
        let is_news = *state == BlobState::Named;
        if is_news {
            *state = BlobState::Asking;
        }
        is_news
    }

    /// These destinations have a document as a blob now.
    pub fn kept(&mut self, digest: &Digest, places: Vec<u32>) {
        // What has no room here can be had there from now on.
        if let Some(&number) = self.manifest_numbers.get(digest) {
            let manifest = &mut self.manifests[number as usize];
            manifest.bytes = manifest.bytes.take().filter(|_| manifest.is_held);
        }
        if let Some(candidate) = self.candidates.get_mut(digest) {
            candidate.bytes = candidate.bytes.take().filter(|_| candidate.is_held);
        }
        if let Some(&number) = self.blob_numbers.get(digest) {
            self.arrives(number as usize, places, BlobState::Sent);
        }
    }

    /// What became of a blob: if it is there, then wherever it is needed.
    pub fn blob_is(&mut self, number: usize, state: BlobState) {
        // Another copy of it may fail when it is there.
        if self.blobs[number].state.is_there() && !state.is_there() {
            return;
        }
        self.blobs[number].state = state;
        if !state.is_there() {
            return;
        }
        for (waiting, edge) in std::mem::take(&mut self.blobs[number].waiting) {
            self.arrived(waiting as usize, edge as usize);
        }
    }

    /// What became of a manifest that was pushed.
    pub fn manifest_is(&mut self, number: usize, state: ManifestState) {
        let is_there = state == ManifestState::Pushed;
        let manifest = &mut self.manifests[number];
        manifest.state = state;
        if !is_there {
            return;
        }
        let bytes = manifest.bytes.take().filter(|_| manifest.is_held);
        self.held -= bytes.map_or(0, |bytes| bytes.len() as u64);
        for (waiting, edge) in std::mem::take(&mut self.manifests[number].waiting) {
            self.arrived(waiting as usize, edge as usize);
        }
    }

    /// What a manifest waited for is there.
    fn arrived(&mut self, number: usize, edge: usize) {
        let edge = &mut self.manifests[number].edges[edge];
        if std::mem::replace(&mut edge.is_settled, true) {
            return;
        }
        let edge = *edge;
        self.manifests[number].missing -= 1;
        if !edge.is_manifest
            && let Err(why) = self.check_size(&edge)
        {
            self.manifests[number].state = ManifestState::Failed(why);
        }
        self.push_if_ready(number);
    }

    /// Manifests that something names and no archive had: the destination may have them.
    pub fn unseen(&self) -> Vec<usize> {
        let unseen = |(_, manifest): &(usize, &TrackedManifest)| manifest.state == ManifestState::Named;
        self.manifests.iter().enumerate().filter(unseen).map(|(number, _)| number).collect()
    }

    /// The root, if it was not met, and is looked for from now on.
    pub fn unseen_root(&mut self) -> Option<usize> {
        let number = self.root? as usize;
        let is_unseen = self.manifests[number].state == ManifestState::Named;
        self.manifests[number].state = if is_unseen { ManifestState::Nowhere } else { return None };
        Some(number)
    }

    /// A manifest was looked for at the destination, and is not there.
    pub fn is_nowhere(&mut self, number: usize) {
        if self.is_unmet(number) {
            self.manifests[number].state = ManifestState::Nowhere;
        }
    }

    /// Whether a manifest was not met: one that is looked for at the destination may pass by meanwhile.
    fn is_unmet(&self, number: usize) -> bool {
        matches!(self.manifests[number].state, ManifestState::Named | ManifestState::Nowhere)
    }

    /// Gives up waiting for subjects that are nowhere, and for what was left out on purpose.
    pub fn waive(&mut self) {
        for number in 0..self.manifests.len() {
            if self.manifests[number].state != ManifestState::Waiting {
                continue;
            }
            let digest = self.manifests[number].digest.clone();
            let mut edges = std::mem::take(&mut self.manifests[number].edges);
            let mut waived = 0;
            for edge in edges.iter_mut().filter(|edge| edge.is_manifest && !edge.is_settled) {
                let to = &self.manifests[edge.to as usize];
                let may_lack = edge.is_optional || self.left_out.contains(&(digest.clone(), to.digest.clone()));
                if to.state == ManifestState::Nowhere && may_lack {
                    (edge.is_settled, waived) = (true, waived + 1);
                }
            }
            self.manifests[number].edges = edges;
            self.manifests[number].missing -= waived;
            if waived > 0 {
                self.push_if_ready(number);
            }
        }
    }
}
