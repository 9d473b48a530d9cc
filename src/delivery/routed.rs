//! Deliveries by a route: which of the root's sources go where, and the tags that they get.

use std::{collections::HashMap, sync::Arc};

use super::{
    Delivery, DeliveryState,
    content::{JobContent, WholeContent},
    homes::Homes,
    queue::Job,
    sets::SetId,
    tracker::{BlobState, ManifestState},
};
use crate::{
    archive::read::events::BlobMember,
    error::{Error, ErrorKind, Result},
    oci::{Descriptor, Digest, Manifest, layout::DEPTH_MAX, media},
    store::target::BlobContent as _,
    util::parallel,
};

/// An archive is read once more at most so often: as often as indexes are nested in a strange order.
const READINGS_MAX: usize = 16;
/// So many bytes of manifests are kept until they have their tags.
const CONTENTS_MAX: usize = 4 << 20;

/// Says where the sources of a gather index go. It names the destinations to [`Homes`].
pub type Route<'a> = dyn Fn(&Manifest, &Homes) -> Result<Vec<AssignedRoot>> + Sync + 'a;

/// What goes where.
#[derive(Clone, Copy)]
pub enum Routing<'a> {
    /// All goes to the one destination.
    All,
    /// The root says what there is, and the route where it goes.
    ByRoot(&'a Route<'a>),
    /// Roots are given.
    Given,
}

/// A manifest, and one destination that it goes to, with all below it.
#[derive(Clone, Debug)]
pub struct AssignedRoot {
    /// Which manifest.
    pub descriptor: Descriptor,
    /// Its bytes, if it was made for this destination.
    pub bytes: Option<Arc<[u8]>>,
    /// Number of the destination.
    pub at: u32,
    /// The tag that it gets there.
    pub tag: Option<String>,
    /// What is there is not to be touched.
    pub is_settled: bool,
}

/// What became of it.
#[derive(Clone, Debug)]
pub struct RoutedRoot {
    /// What was asked for.
    pub root: AssignedRoot,
    /// Number of the manifest, if nothing contradicts what is said of it.
    number: Option<usize>,
    /// It has its tag, or needs none.
    pub is_tagged: bool,
    /// What is missing of it.
    pub lacking: Vec<Digest>,
}

impl Delivery<'_> {
    /// A document passes by. With a route it may be the root, which says what goes where. Returns whether it is.
    pub(super) fn is_route_met(&self, state: &mut DeliveryState, digest: &Digest, bytes: &Arc<[u8]>) -> bool {
        let is_root = state.root.as_ref().is_some_and(|root| root.digest == *digest);
        if !self.is_routed() || !is_root {
            return false;
        }
        if state.roots.is_none() {
            self.route(state, bytes);
        }
        true
    }

    /// The root is known. It may have passed by already.
    pub(super) fn route_early(&self, state: &mut DeliveryState) {
        let Some(root) = &state.root else { return };
        if let Some(bytes) = state.tracker.candidate(&root.digest) {
            state.root_bytes = Some(bytes.clone());
            self.route(state, &bytes);
        }
    }

    /// Works out what goes where. Nothing has been sent before.
    pub(super) fn route(&self, state: &mut DeliveryState, bytes: &[u8]) {
        let (Routing::ByRoot(route), Some(root)) = (self.options.routing, &state.root) else { return };
        let none = || {
            let why =
                format!("the archive holds {}, which is no gathered artifact, but {}", root.digest, root.media_type);
            Error::new(why).hint("ace-dt mirror deserialize delivers it")
        };
        let gather = match media::is_index(&root.media_type) {
            true => Manifest::parse(&root.media_type, bytes).map_err(Error::new),
            false => Err(none()),
        };
        let gather = gather.and_then(|index| match index.artifact_type == media::GATHER {
            true => Ok(index),
            false => Err(none()),
        });
        state.roots = Some(Vec::new());
        if let Ok(index) = &gather {
            state.tracker.leave_out(index);
        }
        match gather.and_then(|index| route(&index, &self.options.homes)) {
            Ok(roots) => self.deliver_roots(state, roots),
            Err(e) => drop(state.stop.get_or_insert(e)),
        }
    }

    /// These are to be delivered.
    pub(super) fn deliver_roots(&self, state: &mut DeliveryState, roots: Vec<AssignedRoot>) {
        let mut routed = Vec::new();
        // One that goes to several destinations is needed at all of them from the beginning.
        let mut places: HashMap<&Digest, Vec<u32>> = HashMap::new();
        for root in roots.iter().filter(|root| !root.is_settled) {
            places.entry(&root.descriptor.digest).or_default().push(root.at);
        }
        for root in &roots {
            let number = match places.get(&root.descriptor.digest).filter(|_| !root.is_settled) {
                Some(places) => {
                    let set = state.tracker.set(places.clone());
                    state.tracker.need(&root.descriptor, set).map(Some)
                }
                None => Ok(None),
            };
            let number = match number {
                Ok(number) => number,
                Err(why) => {
                    let why = Error::new(why).doing(format!("the source {}", root.descriptor.digest));
                    self.fails(state, why);
                    None
                }
            };
            if let (Some(number), Some(bytes)) = (number, &root.bytes) {
                state.tracker.met(number, bytes.clone());
            }
            let is_tagged = root.is_settled || root.tag.is_none();
            number.into_iter().for_each(|number| state.roots_of.entry(number).or_default().push(routed.len()));
            routed.push(RoutedRoot { root: root.clone(), number, is_tagged, lacking: Vec::new() });
        }
        state.roots = Some(routed);
        self.act(state);
    }

    /// A blob passes by: whether something needs it, as far as is known. Where it lies in a file is kept in mind.
    pub(super) fn is_needed(
        &self,
        state: &mut DeliveryState,
        number: usize,
        blob: &Arc<BlobMember>,
        content: &JobContent,
    ) -> bool {
        if let JobContent::Whole(content) = content
            && content.is_in_files()
        {
            state.places.insert(number, (blob.clone(), WholeContent(content.0.clone())));
        }
        if state.roots.is_none() && !self.options.rereads && state.stop.is_none() {
            let why = "its index stands behind the blobs, so that nothing said what was wanted when they passed";
            state.stop = Some(Error::new(why).hint("copy the archive to a file, which can be read twice"));
            return false;
        }
        let is_needed = state.tracker.blobs()[number].needed != SetId::EMPTY;
        if !is_needed {
            state.tracker.passes_unneeded(number, blob.size);
        }
        is_needed
    }

    /// A blob that passed by before something named it is sent from where it lies.
    pub(super) fn send_from_place(&self, state: &mut DeliveryState, number: usize) {
        let Some((blob, content)) = state.places.get(&number) else { return };
        let (blob, content) = (blob.clone(), JobContent::Whole(content.clone()));
        if state.tracker.has_passed(number) && state.tracker.passes(number, blob.size) {
            state.queue.add(Job::Send { number, blob, content, was_asked: true, position: None });
            self.work.notify_one();
        }
    }

    /// Notes for the report how a blob came to where it is.
    pub(super) fn take_note(&self, state: &mut DeliveryState, number: usize, is_mounted: bool) {
        if is_mounted {
            state.mounted.insert(number);
        }
    }

    /// A manifest is there: if it is that of a root, it gets its tags, unless others decide on that: its referrers, or, if
    /// what fails ends the run, all other roots.
    pub(super) fn tag_ready(&self, state: &mut DeliveryState, number: usize) {
        if self.options.recursive
            || !self.options.keep_going
            || state.tracker.manifests()[number].state != ManifestState::Pushed
        {
            return;
        }
        let all = state.roots_of.get(&number).into_iter().flatten().copied();
        let is_open = |n: &usize| state.roots.as_ref().is_some_and(|roots| !roots[*n].is_tagged);
        let ready: Vec<usize> = all.filter(is_open).collect();
        state.queue.add_all(ready.into_iter().map(Job::Tag));
        self.work.notify_all();
    }

    /// The bytes of a root are needed once more, for its tag: they are kept, as long as there is room.
    pub(super) fn keep_content(&self, state: &mut DeliveryState, number: usize, bytes: Option<Arc<[u8]>>) {
        let is_root = state.roots_of.contains_key(&number);
        let Some(bytes) = bytes.filter(|bytes| is_root && state.contents_size + bytes.len() < CONTENTS_MAX) else {
            return;
        };
        state.contents_size += bytes.len();
        state.contents.insert(state.tracker.manifests()[number].digest.clone(), bytes);
    }

    /// Puts the manifest of a root under its tag.
    pub(super) fn tag_root(&self, root: usize) {
        let (root_of, bytes, number) = {
            let state = self.state();
            let Some(found) = state.roots.as_ref().and_then(|roots| roots.get(root)) else { return };
            (found.root.clone(), found.root.bytes.clone(), found.number)
        };
        let AssignedRoot { descriptor, at, tag: Some(tag), .. } = root_of else { return };
        let bytes = bytes.or_else(|| self.state().contents.get(&descriptor.digest).cloned());
        // What was there may have its tag, too.
        let was_there = number.is_some_and(|number| !self.state().pushed.contains(&number));
        let tagged = match was_there && self.options.homes.look(&descriptor, at, Some(&tag)).is_ok() {
            true => Ok(()),
            false => self.options.homes.tag(&descriptor, bytes, at, &tag),
        };
        self.change(|state| match tagged {
            Ok(()) => state.roots.iter_mut().flatten().nth(root).into_iter().for_each(|root| root.is_tagged = true),
            Err(e) => self.job_fails(state, e),
        });
    }

    /// A manifest that `index.json` lists and that was not met may be a referrer of what is delivered. An increment leaves it
    /// out: then it was delivered before.
    pub(super) fn check_expected(&self) {
        let mut unmet: Vec<Digest> = {
            let mut state = self.state();
            if state.roots.is_none() || state.stop.is_some() {
                return;
            }
            let expected = std::mem::take(&mut state.expected).into_iter();
            let is_met = |digest: &Digest| {
                let is_root = state.root.as_ref().is_some_and(|root| root.digest == *digest);
                is_root || state.tracker.is_document(digest)
            };
            expected.filter(|digest| !is_met(digest)).collect()
        };
        unmet.sort_unstable();
        if let Err(e) = self.check_referrers(&unmet) {
            let mut state = self.state();
            self.fails(&mut state, e);
            state.is_wrong = true;
        }
    }

    /// Manifests that are not in the archive: each must be at some destination, and a referrer wherever its subject goes.
    fn check_referrers(&self, unmet: &[Digest]) -> Result<()> {
        let homes = &self.options.homes;
        let lacks = |why: String| {
            Error::new(why).hint("of an increment give the archives before it, too").of(ErrorKind::Corrupt)
        };
        let mut subjects: HashMap<&Digest, Digest> = HashMap::new();
        for digest in unmet {
            let Some(bytes) = homes.manifest_of_any(digest)? else {
                let why = "is neither in the archive nor at a destination; it may be a referrer";
                return Err(lacks(format!("{digest}, which index.json lists, {why}")));
            };
            subjects.extend(Manifest::subject_of(&bytes).map(|subject| (digest, subject)));
        }
        for (digest, subject) in &subjects {
            // A referrer of a referrer goes where that goes.
            let (mut of, mut at) = (Some(subject), Vec::new());
            for _ in 0..DEPTH_MAX {
                let Some(subject) = of.filter(|_| at.is_empty()) else { break };
                at = self.state().tracker.needed_at(subject);
                of = subjects.get(subject);
            }
            if let Some(repository) = homes.lacks_referrer(&at, subject, digest)? {
                return Err(lacks(format!(
                    "{digest}, which index.json lists, refers to {subject}; it is neither in the archive nor in {repository}"
                )));
            }
        }
        Ok(())
    }

    /// Tags what is complete and has no tag yet.
    ///
    /// # Errors
    /// If a signal asks to stop.
    pub(super) fn tag_rest(&self) -> Result<()> {
        let mut state = self.state();
        let state_of = &mut *state;
        if state_of.stop.is_some() {
            return Ok(());
        }
        let (mut ready, mut all) = (Vec::new(), 0);
        for (n, root) in state_of.roots.iter().flatten().enumerate().filter(|(_, root)| !root.is_tagged) {
            all += 1;
            let Some(number) = root.number else { continue };
            let manifest = &state_of.tracker.manifests()[number];
            if manifest.state == ManifestState::Pushed && state_of.tracker.lacking_around(&manifest.digest).is_empty() {
                ready.push(n);
            }
        }
        if ready.len() < all && !self.options.keep_going {
            return Ok(());
        }
        state_of.queue.add_all(ready.into_iter().map(Job::Tag));
        self.work.notify_all();
        drop(state);
        self.wait_until_idle()
    }

    /// What became of the roots.
    pub(super) fn settle_roots(&self, state: &mut DeliveryState) -> Vec<RoutedRoot> {
        let mut roots = state.roots.take().unwrap_or_default();
        for root in roots.iter_mut().filter(|root| !root.root.is_settled) {
            root.lacking = match root.number {
                Some(number) => state.tracker.lacking_around(&state.tracker.manifests()[number].digest),
                None => vec![root.root.descriptor.digest.clone()],
            };
        }
        roots
    }

    /// A last look: every manifest that was wanted is asked for wherever it should be, and every tag.
    ///
    /// # Errors
    /// If a signal asks to stop.
    pub(super) fn look_again(&self) -> Result<()> {
        let looks: Vec<(Descriptor, u32, Option<String>)> = {
            let state = self.state();
            if state.stop.is_some() {
                return Ok(());
            }
            let manifests = state.tracker.manifests().iter().enumerate();
            let pushed = manifests.filter(|(_, manifest)| manifest.state == ManifestState::Pushed);
            let places = pushed.flat_map(|(number, manifest)| {
                let descriptor = manifest.descriptor();
                state.tracker.pushes_of(number).0.into_iter().map(move |at| (descriptor.clone(), at, None))
            });
            let tags = state.roots.iter().flatten().filter(|root| root.is_tagged && !root.root.is_settled);
            let tags = tags
                .filter(|root| root.root.tag.is_some())
                .map(|root| (root.root.descriptor.clone(), root.root.at, root.root.tag.clone()));
            let own = state.root.iter().filter(|_| state.tagged.is_some());
            let own = own.map(|root| (root.clone(), 0, state.tagged.clone()));
            places.chain(tags).chain(own).collect()
        };
        let found = parallel::map(looks.len(), self.options.threads, |n| {
            crate::signal::check()?;
            let (descriptor, at, tag) = &looks[n];
            self.options.homes.look(descriptor, *at, tag.as_deref())
        });
        let mut state = self.state();
        for e in found.into_iter().filter_map(Result::err) {
            if e.is_signal() {
                return Err(e);
            }
            state.is_wrong = true;
            self.fails(&mut state, e);
        }
        Ok(())
    }

    /// Whether an archive must be read once more: something is needed that passed by before anything said so. What it names
    /// may have passed before it, so that this may be so several times, but not for ever.
    ///
    /// # Errors
    /// If a signal asks to stop.
    pub fn has_missed(&self) -> Result<bool> {
        self.wait_until_idle()?;
        let mut state = self.state();
        if !self.is_routed() || state.stop.is_some() || state.readings >= READINGS_MAX {
            return Ok(false);
        }
        state.readings += 1;
        let is_unread = state.roots.is_none() && state.root.is_some();
        Ok(is_unread || state.tracker.has_missed())
    }

    /// What an earlier run has delivered is looked for at the destinations: what lies below it may still be to come.
    ///
    /// # Errors
    /// If a signal asks to stop.
    pub(super) fn find_earlier(&self) -> Result<()> {
        loop {
            self.wait_until_idle()?;
            let mut state = self.state();
            let unseen = state.tracker.unseen();
            if unseen.is_empty() || state.stop.is_some() {
                return Ok(());
            }
            state.queue.add_all(unseen.into_iter().map(Job::Fetch));
            self.work.notify_all();
        }
    }
}

/// How a blob came to where it is, for a report.
pub fn way_of(state: BlobState, is_mounted: bool, dry_run: bool) -> &'static str {
    match state {
        BlobState::Sent if dry_run => "planned",
        BlobState::Sent => "sent",
        BlobState::Present if is_mounted && !dry_run => "mounted",
        BlobState::Present => "present",
        BlobState::Failed => "failed",
        BlobState::Named | BlobState::Asking | BlobState::Absent | BlobState::Passing | BlobState::Spreading => {
            "missing"
        }
    }
}
