//! What is to be done by threads, and those threads.

use std::{
    collections::VecDeque,
    sync::{Arc, PoisonError},
};

use super::{
    Delivery, DeliveryState,
    checkpoint::DeliveryPosition,
    content::{JobContent, SharedContent},
    homes::{BlobOrigin, Crew, ManifestPush, SettledBlob, WantedBlob},
    tracker::{BlobState, ManifestState, Step},
};
use crate::{
    archive::read::events::BlobMember,
    error::{Context, Error, ErrorKind, Result},
    oci::{Descriptor, Repository},
    signal,
    store::{Origin, target::check_content},
};

/// So many blobs wait for a thread.
const BLOBS_MAX: usize = 4096;
/// And so many bytes of documents in memory.
const DOCUMENTS_MAX: usize = 4 << 20;

/// When so many blobs were asked for and none was there, the destination is taken for a new one.
const ABSENT_MIN: usize = 16;
/// A blob that is small has at most so many bytes.
const SMALL: u64 = 64 << 10;

/// Something to be done.
pub enum Job {
    /// Find out whether the destinations have a blob.
    Ask(usize),
    /// Bring a blob that some destinations have to the others that need it.
    Spread(usize),
    /// Send a blob.
    Send {
        number: usize,
        blob: Arc<BlobMember>,
        content: JobContent,
        was_asked: bool,
        /// Where its member begins, if there is a checkpoint.
        position: Option<DeliveryPosition>,
    },
    /// Check a blob that need not be sent.
    Check { blob: Arc<BlobMember>, content: JobContent },
    /// Push a manifest.
    Push(usize),
    /// Send a manifest as a blob, too.
    Copy(usize),
    /// Send a manifest as a blob.
    Keep(Box<Descriptor>, Arc<[u8]>),
    /// Look for a manifest at the destinations.
    Fetch(usize),
    /// Put the manifest of a root under its tag.
    Tag(usize),
}

impl Job {
    /// What the tracker wants done.
    pub fn of(action: Step) -> Job {
        match action {
            Step::Ask(number) => Job::Ask(number),
            Step::Spread(number) => Job::Spread(number),
            Step::Push(number) => Job::Push(number),
            Step::Copy(number) => Job::Copy(number),
            Step::Keep(descriptor, bytes) => Job::Keep(descriptor, bytes),
        }
    }

    fn document_len(&self) -> usize {
        match self {
            Job::Send { content: JobContent::Document(bytes), .. }
            | Job::Check { content: JobContent::Document(bytes), .. }
            | Job::Keep(_, bytes) => bytes.len(),
            _ => 0,
        }
    }
}

/// What waits for a thread. Blobs are taken in order; what is quick goes before them, but not on all threads at once.
#[derive(Default)]
pub struct JobQueue {
    blobs: VecDeque<Job>,
    quick: VecDeque<Job>,
    /// Threads that work, and those of them on something quick.
    active: usize,
    hurrying: usize,
    /// Bytes of documents.
    documents: usize,
    /// Manifests that are to be kept as blobs.
    keeping: usize,
    /// Nothing more comes.
    closed: bool,
}

impl JobQueue {
    /// Adds something.
    pub fn add(&mut self, job: Job) {
        self.documents += job.document_len();
        self.keeping += usize::from(matches!(job, Job::Keep(..)));
        match job {
            Job::Send { .. } | Job::Check { .. } => self.blobs.push_back(job),
            _ => self.quick.push_back(job),
        }
    }

    /// Adds what there is.
    pub fn add_all(&mut self, jobs: impl IntoIterator<Item = Job>) {
        jobs.into_iter().for_each(|job| self.add(job));
    }

    /// Whether the reader may add a blob.
    pub fn has_room(&self) -> bool {
        self.blobs.len() < BLOBS_MAX && self.documents < DOCUMENTS_MAX
    }

    /// Whether manifests are on their way to be kept as blobs.
    pub fn is_keeping(&self) -> bool {
        self.keeping > 0
    }

    /// One of them has arrived, or failed.
    fn has_kept(&mut self) {
        self.keeping = self.keeping.saturating_sub(1);
    }

    /// Whether all is done.
    pub fn is_idle(&self) -> bool {
        self.active == 0 && self.blobs.is_empty() && self.quick.is_empty()
    }

    /// Nothing is done any more.
    pub fn clear(&mut self) {
        self.blobs.clear();
        self.quick.clear();
        (self.documents, self.keeping) = (0, 0);
    }

    /// The next thing to do, and whether it is quick.
    fn take(&mut self, threads: usize) -> Option<(Job, bool)> {
        if self.active >= threads {
            // Those that have nothing to do help another.
            return None;
        }
        let may_hurry = self.blobs.is_empty() || self.hurrying < (threads / 2).max(1);
        let (job, is_quick) = match may_hurry.then(|| self.quick.pop_front()).flatten() {
            Some(job) => (job, true),
            None => (self.blobs.pop_front()?, false),
        };
        self.documents = self.documents.saturating_sub(job.document_len());
        self.active += 1;
        self.hurrying += usize::from(is_quick);
        Some((job, is_quick))
    }
}

/// Counts a job as done when it goes, however it ended.
struct JobDone<'a, 'd> {
    delivery: &'a Delivery<'d>,
    is_quick: bool,
}

impl Drop for JobDone<'_, '_> {
    fn drop(&mut self) {
        let mut state = self.delivery.state();
        state.queue.active -= 1;
        state.queue.hurrying -= usize::from(self.is_quick);
        self.delivery.done.notify_all();
    }
}

impl Crew for Delivery<'_> {
    fn hire(&self, most: usize) -> usize {
        if most == 0 {
            return 0;
        }
        let mut state = self.state();
        let count = self.options.threads.saturating_sub(state.queue.active).min(most);
        state.queue.active += count;
        count
    }

    fn dismiss(&self, count: usize) {
        if count > 0 {
            self.state().queue.active -= count;
            self.work.notify_all();
            self.done.notify_all();
        }
    }
}

impl Delivery<'_> {
    /// What each thread does, until nothing more comes.
    pub(super) fn work(&self) {
        let mut state = self.state();
        loop {
            if let Some((job, is_quick)) = state.queue.take(self.options.threads) {
                drop(state);
                let done = JobDone { delivery: self, is_quick };
                self.do_job(job);
                drop(done);
                state = self.state();
                continue;
            }
            if state.queue.closed {
                return;
            }
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Nothing more comes: threads end when all is done.
    pub(super) fn close(&self) {
        self.state().queue.closed = true;
        self.work.notify_all();
    }

    /// Waits until all is done that is to be done. If the run ends early, what is not begun is not done.
    ///
    /// # Errors
    /// If a signal asks to stop.
    pub(super) fn wait_until_idle(&self) -> Result<()> {
        let mut state = self.state();
        while !state.queue.is_idle() {
            if signal::requested().is_some() {
                state.queue.clear();
            }
            state = self.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        signal::check()
    }

    fn do_job(&self, job: Job) {
        if let Err(e) = signal::check() {
            self.state().stop.get_or_insert(e);
            return;
        }
        match job {
            Job::Ask(number) => self.ask(number),
            Job::Spread(number) => self.spread(number),
            Job::Send { number, blob, content, was_asked, position } => {
                self.send(number, &blob, &content, was_asked);
                let mut state = self.state();
                // What failed is tried again by a run that goes on.
                let is_there = state.tracker.blobs()[number].state.is_there();
                position.filter(|_| is_there).into_iter().for_each(|position| state.finish(position));
            }
            Job::Check { blob, content } => self.check(&blob, &content),
            Job::Push(number) => self.push(number),
            Job::Copy(number) => self.copy(number),
            Job::Keep(descriptor, bytes) => {
                self.keep(&descriptor, bytes);
                self.state().queue.has_kept();
            }
            Job::Fetch(number) => self.fetch(number),
            Job::Tag(root) => self.tag_root(root),
        }
    }

    /// A state change by what a thread has found.
    pub(super) fn change(&self, change: impl FnOnce(&mut DeliveryState)) {
        let mut state = self.state();
        change(&mut state);
        self.act(&mut state);
    }

    /// What a thread does failed. If that ends the run, the rest is not tried: it would fare no better.
    pub(super) fn job_fails(&self, state: &mut DeliveryState, e: Error) {
        let (is_damage, had_stopped) = (e.is(ErrorKind::Corrupt), state.stop.is_some());
        self.fails(state, e);
        if state.stop.is_some() && !had_stopped && !is_damage {
            state.is_refused = true;
            state.queue.clear();
            state.parked.clear();
        }
    }

    fn ask(&self, number: usize) {
        let (descriptor, (needed, there), everywhere, gathered) = {
            let mut state = self.state();
            let (size, everywhere) = (state.tracker.blobs()[number].size, state.is_settling);
            let is_news = match everywhere {
                true => state.tracker.seeks(number),
                false if self.is_not_worth_asking(&state, size) => false,
                false => state.tracker.asks(number),
            };
            if !is_news {
                self.send_from_place(&mut state, number);
                return;
            }
            let blob = &state.tracker.blobs()[number];
            let descriptor = blob_descriptor(blob.digest.clone(), blob.size);
            let gathered = state.tracker.origin_of(number).cloned();
            (descriptor, state.tracker.places_of(number), everywhere, gathered)
        };
        let wanted = WantedBlob {
            descriptor: &descriptor,
            needed: &needed,
            there: &there,
            was_asked: false,
            is_sent: false,
            everywhere,
            may_copy: everywhere,
            origin: gathered_from(gathered.as_ref()),
        };
        let settled = self.options.homes.settle(&wanted, None, self);
        self.change(|state| {
            if state.tracker.asked(number, settled.there) {
                match settled.mounted + settled.sent {
                    0 => state.tally.present(descriptor.size),
                    _ => state.tally.mounted(descriptor.size),
                }
                self.take_note(state, number, settled.mounted + settled.sent > 0);
            }
            self.unpark(state, number);
            self.send_from_place(state, number);
            settled.failure.into_iter().for_each(|e| self.job_fails(state, e));
        });
    }

    /// A blob that is at some destinations is brought to the others, out of a file if it lies in one.
    fn spread(&self, number: usize) {
        let (descriptor, (needed, there), place, is_sent) = {
            let state = self.state();
            let blob = &state.tracker.blobs()[number];
            let place = state.places.get(&number).map(|(_, content)| JobContent::Whole(content.clone()));
            let is_sent = blob.is_sent;
            (blob_descriptor(blob.digest.clone(), blob.size), state.tracker.places_of(number), place, is_sent)
        };
        let wanted = WantedBlob {
            descriptor: &descriptor,
            needed: &needed,
            there: &there,
            was_asked: false,
            is_sent,
            everywhere: false,
            may_copy: true,
            origin: None,
        };
        let content = place.as_ref().map(|content| content as &dyn SharedContent);
        let SettledBlob { there, failure, sent, mounted, .. } = self.options.homes.settle(&wanted, content, self);
        self.change(|state| match failure {
            None => {
                let became = if is_sent || sent > 0 { BlobState::Sent } else { BlobState::Present };
                self.take_note(state, number, mounted > 0);
                state.tracker.arrives(number, there, became);
            }
            Some(e) => {
                state.tracker.arrives(number, there, BlobState::Failed);
                self.job_fails(state, e);
            }
        });
    }

    /// To send a small blob takes two requests: where nothing was there so far, a third that asks for it is one too many.
    fn is_not_worth_asking(&self, state: &DeliveryState, size: u64) -> bool {
        let is_fresh = state.tracker.absent() >= ABSENT_MIN && state.tally.present == 0;
        is_fresh && size <= SMALL && !self.options.check_all && !state.is_settling
    }

    /// A blob may have passed by while the destination was asked for it, or another copy was on its way.
    fn unpark(&self, state: &mut DeliveryState, number: usize) {
        let mut copies = state.parked.remove(&number).unwrap_or_default();
        let became = state.tracker.blobs()[number].state;
        if !became.is_there() && became != BlobState::Spreading {
            // One after the other, until one arrives.
            let next = (!copies.is_empty()).then(|| copies.remove(0));
            if let Some(Job::Send { blob, content, position, .. }) = next {
                state.tracker.passes(number, blob.size);
                state.queue.add(Job::Send { number, blob, content, was_asked: true, position });
            }
            if !copies.is_empty() {
                state.parked.insert(number, copies);
            }
        } else {
            for copy in copies {
                let Job::Send { blob, content, position, .. } = copy else { continue };
                position.into_iter().for_each(|position| state.finish(position));
                // What it read twice must be right twice.
                if self.options.check_all || became.is_ours() {
                    state.queue.add(Job::Check { blob, content });
                }
            }
        }
        self.work.notify_all();
    }

    fn send(&self, number: usize, blob: &BlobMember, content: &JobContent, was_asked: bool) {
        let descriptor = blob_descriptor(blob.digest.clone(), blob.size);
        let ((needed, there), was_asked, is_sent, gathered) = {
            let state = self.state();
            // Who was asked for it was asked where it was gathered from, too.
            let gathered = state.tracker.origin_of(number).filter(|_| !was_asked).cloned();
            let was_asked = was_asked || self.is_not_worth_asking(&state, blob.size);
            (state.tracker.places_of(number), was_asked, state.tracker.blobs()[number].is_sent, gathered)
        };
        let stored = match content {
            JobContent::Stored(content) => match &content.origin {
                Origin::Repository(repository) => Some(repository),
                _ => None,
            },
            _ => None,
        };
        let sure = stored.map(|repository| BlobOrigin { repository, is_sure: true });
        let origin = sure.or(gathered_from(gathered.as_ref()));
        let wanted = WantedBlob {
            descriptor: &descriptor,
            needed: &needed,
            there: &there,
            was_asked,
            is_sent,
            everywhere: false,
            may_copy: false,
            origin,
        };
        let SettledBlob { there, sent, mounted, was_absent, failure } =
            self.options.homes.settle(&wanted, Some(content), self);
        let checked = match sent {
            0 if failure.is_none() && self.options.check_all => check_content(&descriptor, content),
            _ => Ok(()),
        };
        let failure = failure.or(checked.err()).map(|e| match content {
            JobContent::Stored(_) => e,
            _ => e.doing(format!("blob at {}", blob.place())),
        });
        self.change(|state| {
            if was_absent {
                state.tracker.has_not();
            }
            match failure {
                None => {
                    let became = if sent > 0 { BlobState::Sent } else { BlobState::Present };
                    match (sent, mounted) {
                        (0, 0) => state.tally.present(descriptor.size),
                        (0, _) => state.tally.mounted(descriptor.size),
                        _ => state.tally.sent(descriptor.size),
                    }
                    self.take_note(state, number, mounted > 0);
                    state.tracker.arrives(number, there, became);
                }
                Some(e) => {
                    state.tracker.arrives(number, there, BlobState::Failed);
                    self.job_fails(state, e);
                }
            }
        });
        self.change(|state| self.unpark(state, number));
    }

    /// Reads a blob that need not be sent.
    fn check(&self, blob: &BlobMember, content: &JobContent) {
        let read = check_content(&blob_descriptor(blob.digest.clone(), blob.size), content);
        if let Err(e) = read.doing(|| format!("checking blob {} at {}", blob.digest, blob.place())) {
            self.change(|state| self.fails(state, e));
        }
    }

    fn push(&self, number: usize) {
        let (descriptor, bytes, subject, is_new, (needed, pushed)) = {
            let state = self.state();
            let manifest = &state.tracker.manifests()[number];
            let is_new = state.tally.present + state.tally.mounted == 0 && !self.options.check_all;
            let subject = state.tracker.subject(&manifest.digest);
            (manifest.descriptor(), manifest.bytes(), subject, is_new, state.tracker.pushes_of(number))
        };
        let to: Vec<u32> = needed.iter().filter(|place| !pushed.contains(place)).copied().collect();
        let push = ManifestPush {
            descriptor: &descriptor,
            bytes: bytes.clone(),
            subject: subject.as_ref(),
            from: &pushed,
            may_be_there: !is_new,
        };
        let pushed = self.options.homes.push_manifest(push, &to, self);
        self.change(|state| match pushed {
            Ok(count) => {
                self.keep_content(state, number, bytes);
                state.tracker.pushed(number, needed);
                if count > 0 {
                    state.pushed.insert(number);
                    state.tally.manifests += 1;
                    state.tally.bytes += descriptor.size;
                }
                self.tag_ready(state, number);
            }
            Err(e) => {
                state.tracker.manifest_is(number, ManifestState::Failed(e.to_string()));
                self.job_fails(state, e);
            }
        });
    }

    /// Sends a manifest as a blob that something names as one.
    fn copy(&self, number: usize) {
        let (descriptor, bytes) = {
            let state = self.state();
            let manifest = &state.tracker.manifests()[number];
            (manifest.descriptor(), manifest.bytes())
        };
        let at = self.state().tracker.needed_at(&descriptor.digest);
        let bytes = match bytes {
            Some(bytes) => Ok(Some(bytes)),
            None => self.options.homes.fetch(&descriptor, &at),
        };
        match bytes {
            Ok(Some(bytes)) => self.keep(&descriptor, bytes),
            Ok(None) => {}
            Err(e) => self.change(|state| self.job_fails(state, e)),
        }
    }

    /// Sends a manifest as a blob, so that a later run finds it.
    fn keep(&self, descriptor: &Descriptor, bytes: Arc<[u8]>) {
        let blob = blob_descriptor(descriptor.digest.clone(), descriptor.size);
        let at = {
            let state = self.state();
            let all = state.tracker.needed_at(&descriptor.digest);
            // What is no blob to anybody need only be found again.
            let count = if state.tracker.is_blob(&descriptor.digest) { all.len() } else { 1 };
            all.into_iter().take(count).collect::<Vec<_>>()
        };
        let kept = self.options.homes.keep(&blob, &bytes, &at);
        self.change(|state| match kept {
            Ok(()) => state.tracker.kept(&descriptor.digest, at),
            Err(e) => {
                // It is nowhere now but in the archive: no record speaks of what is behind it.
                state.has_lost = true;
                self.job_fails(state, e);
            }
        });
    }

    fn fetch(&self, number: usize) {
        let (descriptor, (needed, _)) = {
            let state = self.state();
            (state.tracker.manifests()[number].descriptor(), state.tracker.pushes_of(number))
        };
        match self.options.homes.fetch(&descriptor, &needed) {
            Ok(Some(bytes)) => self.change(|state| {
                state.note_root(&descriptor.digest, &bytes);
                state.tracker.met(number, bytes);
            }),
            Ok(None) => self.change(|state| state.tracker.is_nowhere(number)),
            Err(e) => self.change(|state| {
                state.tracker.is_nowhere(number);
                self.job_fails(state, e);
            }),
        }
    }
}

fn gathered_from(repository: Option<&Repository>) -> Option<BlobOrigin<'_>> {
    repository.map(|repository| BlobOrigin { repository, is_sure: false })
}

fn blob_descriptor(digest: crate::oci::Digest, size: u64) -> Descriptor {
    Descriptor::new("application/octet-stream", digest, size)
}
