//! What is to be done by threads, and those threads.

use std::{
    collections::VecDeque,
    io::Read,
    sync::{Arc, PoisonError},
};

use super::{
    Delivery, DeliveryState,
    checkpoint::DeliveryPosition,
    content::{StreamedContent, WholeContent},
    tracker::{BlobState, ManifestState, Step},
};
use crate::{
    archive::read::events::BlobMember,
    error::{Context, Error, ErrorKind, Result},
    oci::Descriptor,
    signal,
    store::target::{BlobContent, check_content, memory_reader},
};

/// So many blobs wait for a thread.
const BLOBS_MAX: usize = 4096;
/// And so many bytes of documents in memory.
const DOCUMENTS_MAX: usize = 4 << 20;

/// When so many blobs were asked for and none was there, the destination is taken for a new one.
const ABSENT_MIN: usize = 16;
/// A blob that is small has at most so many bytes.
const SMALL: u64 = 64 << 10;

/// Where the content of a blob is.
pub enum JobContent {
    Whole(WholeContent),
    Streamed(Arc<StreamedContent>),
    Document(Arc<[u8]>),
}

impl BlobContent for JobContent {
    fn open(&self, from: u64) -> Result<Box<dyn Read + '_>> {
        match self {
            JobContent::Whole(content) => content.open(from),
            JobContent::Streamed(content) => content.open(from),
            JobContent::Document(bytes) => Ok(memory_reader(bytes, from)),
        }
    }

    fn readable_from(&self) -> u64 {
        match self {
            JobContent::Streamed(content) => content.readable_from(),
            JobContent::Whole(_) | JobContent::Document(_) => 0,
        }
    }

    fn is_in_files(&self) -> bool {
        matches!(self, JobContent::Whole(content) if content.is_in_files())
    }
}

impl Drop for JobContent {
    fn drop(&mut self) {
        if let JobContent::Streamed(content) = self {
            content.abandon();
        }
    }
}

/// Something to be done.
pub enum Job {
    /// Find out whether the destination has a blob.
    Ask(usize),
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
    /// Look for a manifest at the destination.
    Fetch(usize),
}

impl Job {
    /// What the tracker wants done.
    pub fn of(action: Step) -> Job {
        match action {
            Step::Ask(number) => Job::Ask(number),
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
        }
    }

    /// A state change by what a thread has found.
    fn change(&self, change: impl FnOnce(&mut DeliveryState)) {
        let mut state = self.state();
        change(&mut state);
        self.act(&mut state);
    }

    /// What a thread does failed. If that ends the run, the rest is not tried: it would fare no better.
    fn job_fails(&self, state: &mut DeliveryState, e: Error) {
        let (is_damage, had_stopped) = (e.is(ErrorKind::Corrupt), state.stop.is_some());
        self.fails(state, e);
        if state.stop.is_some() && !had_stopped && !is_damage {
            state.is_refused = true;
            state.queue.clear();
            state.parked.clear();
        }
    }

    fn ask(&self, number: usize) {
        let descriptor = {
            let mut state = self.state();
            let size = state.tracker.blobs()[number].size;
            if self.is_not_worth_asking(&state, size) || !state.tracker.asks(number) {
                return;
            }
            let blob = &state.tracker.blobs()[number];
            blob_descriptor(blob.digest.clone(), blob.size)
        };
        match self.options.target.exists(&descriptor) {
            Ok(is_there) => self.change(|state| {
                if state.tracker.asked(number, is_there) {
                    state.tally.present(descriptor.size);
                }
                self.unpark(state, number);
            }),
            Err(e) => self.change(|state| {
                state.tracker.asked(number, false);
                self.unpark(state, number);
                self.job_fails(state, e);
            }),
        }
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
        if !became.is_there() {
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
                if self.options.check_all || became == BlobState::Sent {
                    state.queue.add(Job::Check { blob, content });
                }
            }
        }
        self.work.notify_all();
    }

    fn send(&self, number: usize, blob: &BlobMember, content: &JobContent, was_asked: bool) {
        let (target, descriptor) = (self.options.target, blob_descriptor(blob.digest.clone(), blob.size));
        let was_asked = was_asked || self.is_not_worth_asking(&self.state(), blob.size);
        let is_there = || {
            let is_there = !was_asked && target.exists(&descriptor)?;
            if !was_asked && !is_there {
                self.state().tracker.has_not();
            }
            Ok(is_there)
        };
        let sent = || match is_there()? {
            true if self.options.check_all => check_content(&descriptor, content).map(|()| BlobState::Present),
            true => Ok(BlobState::Present),
            false => target.push_blob(&descriptor, content).map(|()| BlobState::Sent),
        };
        let sent = sent().doing(|| format!("blob at {}", blob.place));
        self.change(|state| match sent {
            Ok(became) => {
                state.tracker.blob_is(number, became);
                match became {
                    BlobState::Sent => state.tally.sent(descriptor.size),
                    _ => state.tally.present(descriptor.size),
                }
            }
            Err(e) => {
                state.tracker.blob_is(number, BlobState::Failed);
                self.job_fails(state, e);
            }
        });
        self.change(|state| self.unpark(state, number));
    }

    /// Reads a blob that need not be sent.
    fn check(&self, blob: &BlobMember, content: &JobContent) {
        let read = check_content(&blob_descriptor(blob.digest.clone(), blob.size), content);
        if let Err(e) = read.doing(|| format!("checking blob {} at {}", blob.digest, blob.place)) {
            self.change(|state| self.fails(state, e));
        }
    }

    fn push(&self, number: usize) {
        let (descriptor, bytes, is_new) = {
            let state = self.state();
            let manifest = &state.tracker.manifests()[number];
            // What refers to something is pushed again, so that it is listed where the registry does not do it itself.
            let is_new = state.tally.present == 0 && !self.options.check_all || manifest.has_subject();
            (manifest.descriptor(), manifest.bytes(), is_new)
        };
        let target = self.options.target;
        if !is_new && target.has_manifest(&descriptor).unwrap_or(false) {
            return self.change(|state| state.tracker.manifest_is(number, ManifestState::Pushed));
        }
        let pushed = || {
            let bytes = match bytes {
                Some(bytes) => bytes,
                None => target.fetch(&descriptor)?.ok_or_else(|| Error::new("it was kept there, and is gone"))?,
            };
            target.push_manifest(&descriptor, &bytes)
        };
        let pushed = pushed();
        self.change(|state| match pushed {
            Ok(()) => {
                state.tracker.manifest_is(number, ManifestState::Pushed);
                state.tally.manifests += 1;
                state.tally.bytes += descriptor.size;
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
        let bytes = match bytes {
            Some(bytes) => Ok(Some(bytes)),
            None => self.options.target.fetch(&descriptor),
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
        let kept = self.options.target.keep(&blob, &bytes);
        self.change(|state| match kept {
            Ok(()) => state.tracker.kept(&descriptor.digest),
            Err(e) => {
                // It is nowhere now but in the archive: no record speaks of what is behind it.
                state.has_lost = true;
                self.job_fails(state, e);
            }
        });
    }

    fn fetch(&self, number: usize) {
        let descriptor = self.state().tracker.manifests()[number].descriptor();
        match self.options.target.fetch(&descriptor) {
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

fn blob_descriptor(digest: crate::oci::Digest, size: u64) -> Descriptor {
    Descriptor::new("application/octet-stream", digest, size)
}
