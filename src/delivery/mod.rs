//! From archives, or from a store, into repositories, in one pass.
//!
//! The main thread reads events and hands blobs to a few threads as their headers pass; the [`tracker`] says what is
//! asked for, and pushes each manifest the moment all is there that it refers to. What an archive does not hold is
//! looked for at the destinations when all is read. A tag comes last.
//!
//! Either all goes to one repository, or a route says which of the root's sources go where, and then only these are
//! delivered, with all below them.

pub mod archive_set;
pub mod checkpoint;
pub mod content;
pub mod feed;
mod form;
pub mod homes;
pub mod images;
pub mod outcome;
mod queue;
mod routed;
pub mod sets;
mod settle;
pub mod tracker;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use ace_dt_ring::FillerStopper;

use self::{
    archive_set::ArchiveSet,
    checkpoint::DeliveryPosition,
    content::{JobContent, StreamedContent, WholeContent},
    homes::Homes,
    outcome::DeliveryTally,
    queue::{Job, JobQueue},
    routed::RoutedRoot,
    tracker::Tracker,
};
use crate::{
    archive::read::{
        document::Document,
        events::{ArchiveEnd, BlobEvent, BlobMember, Event, EventReader, ManifestEvent, SmallFile},
        finding::{Finding, FindingKind},
        lists::{IndexLists, Interner, ListedManifest},
        scan::is_layout,
        tar::StreamPosition,
    },
    error::{Error, ErrorKind, Result},
    log,
    oci::{Descriptor, Digest, Manifest, media},
    signal,
};
pub use routed::{AssignedRoot, Route, Routing, way_of};

/// So much may be odd before it is told.
const ODD_MAX: usize = 100;

/// What is delivered, and how.
pub struct DeliveryOptions<'a> {
    /// Where to.
    pub homes: Homes<'a>,
    /// The same in words, for a checkpoint.
    pub destination: String,
    /// What goes where.
    pub routing: Routing<'a>,
    /// What refers to something that is delivered is delivered, too. If all is delivered, that is always so.
    pub recursive: bool,
    /// What was missed can be read once more.
    pub rereads: bool,
    /// What waits for something at the end is not kept as a blob: it can be had again.
    pub keeps_nothing: bool,
    /// In the end all destinations are asked whether they have what they should.
    pub looks_again: bool,
    /// The digest that the root must have.
    pub digest: Option<Digest>,
    /// The archives are a set, which has a root of its own.
    pub set: Option<ArchiveSet>,
    /// Requests at a time.
    pub threads: usize,
    /// Go on behind what is damaged, and without what cannot be sent.
    pub keep_going: bool,
    /// Members must stand in the order of the format.
    pub strict: bool,
    /// Read and check what the destination has, too.
    pub check_all: bool,
    /// What is needed for a checkpoint is kept in mind.
    pub has_checkpoint: bool,
}

/// One run.
pub struct Delivery<'a> {
    options: DeliveryOptions<'a>,
    state: Mutex<DeliveryState>,
    /// There is work to do, or it is over.
    work: Condvar,
    /// Work was done.
    done: Condvar,
}

/// What all threads share.
#[derive(Default)]
struct DeliveryState {
    tracker: Tracker,
    queue: JobQueue,
    tally: DeliveryTally,
    /// The first descriptor of the first `index.json`.
    root: Option<Descriptor>,
    /// Its bytes, once they were met.
    root_bytes: Option<Arc<[u8]>>,
    /// The roots of archives of a set that were met.
    met_roots: HashSet<Digest>,
    /// The tag that it got.
    tagged: Option<String>,
    /// What `index.json` lists, where the member begins that was met last, and where those do that are not delivered:
    /// for a checkpoint.
    listed: Vec<Descriptor>,
    reading: Option<DeliveryPosition>,
    unfinished: BTreeMap<DeliveryPosition, usize>,
    /// Something is in no place that a later run looks at.
    has_lost: bool,
    /// With which of the archives a run goes on, and the root of the first, until an `index.json` was met.
    resumed: Option<(usize, Digest)>,
    /// What of the root goes where, once that is known.
    roots: Option<Vec<RoutedRoot>>,
    /// Which of them a manifest is, by its number.
    roots_of: HashMap<usize, Vec<usize>>,
    /// What `index.json` lists, with a route: a referrer that is not met is nobody's.
    expected: HashSet<Digest>,
    /// How often archives were read once more.
    readings: usize,
    /// Manifests that were not there before, by their numbers.
    pushed: HashSet<usize>,
    /// Manifests that will get tags, and how many bytes these are.
    contents: HashMap<Digest, Arc<[u8]>>,
    contents_size: usize,
    /// Where blobs lie in files, with a route: what needs them may come later.
    places: HashMap<usize, (Arc<BlobMember>, WholeContent)>,
    /// Blobs that were mounted.
    mounted: HashSet<usize>,
    /// Blobs that have passed by while the destination is asked for them, or another copy is on its way.
    parked: HashMap<usize, Vec<Job>>,
    /// Why the run ends early.
    stop: Option<Error>,
    /// All archives were read.
    is_settling: bool,
    /// The destination has refused something, so that nothing more is sent there.
    is_refused: bool,
    /// Failures that were told, and did not end it.
    told: usize,
    /// Something is not as the format has it.
    is_wrong: bool,
}

impl DeliveryState {
    /// A manifest was met: if it is the root, its bytes stay.
    fn note_root(&mut self, digest: &Digest, bytes: &Arc<[u8]>) {
        if self.root.as_ref().is_some_and(|root| root.digest == *digest) {
            self.root_bytes = Some(bytes.clone());
        }
    }

    /// A blob that begins there is delivered.
    fn finish(&mut self, position: DeliveryPosition) {
        if let Some(count) = self.unfinished.get_mut(&position) {
            *count -= 1;
            if *count == 0 {
                self.unfinished.remove(&position);
            }
        }
    }
}

/// Which archive is read, and from where on.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadingFrom {
    /// Which of those that were named, counted from 0.
    pub archive: usize,
    /// Where it begins in its files.
    pub start: u64,
    /// Offset in its TAR stream: all before was read by an earlier run.
    pub offset: u64,
    /// It is compressed.
    pub is_compressed: bool,
    /// Another stands before it in the same stream, so that reading cannot begin with it.
    pub is_further: bool,
}

/// What was met of one archive.
#[derive(Default)]
struct Met {
    layout: bool,
    indexes: usize,
    docker: bool,
    blobs: bool,
    lists: IndexLists,
    /// What its indexes list.
    listed: Vec<ListedManifest>,
    shared: Interner,
    /// What is odd in front of all that a layout has.
    odd: Vec<Finding>,
}

impl Met {
    /// Nothing of a layout was met.
    fn is_nothing(&self) -> bool {
        !self.layout && self.indexes == 0 && !self.blobs
    }
}

/// A blob that comes in piece by piece.
struct Streaming {
    blob: Arc<BlobMember>,
    content: Arc<StreamedContent>,
}

impl<'a> Delivery<'a> {
    /// A run that has not begun.
    pub fn new(options: DeliveryOptions<'a>) -> Delivery<'a> {
        let tracker = match options.routing {
            Routing::All => Tracker::of_all(),
            Routing::ByRoot(_) => Tracker::of_some(options.recursive),
            Routing::Given => Tracker::of_some(options.recursive).holding_all(),
        };
        let state = Mutex::new(DeliveryState { tracker, ..DeliveryState::default() });
        Delivery { options, state, work: Condvar::new(), done: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, DeliveryState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far it is.
    pub fn tally(&self) -> DeliveryTally {
        self.state().tally
    }

    /// The reader of a stream has waited so often for room in the buffer.
    pub fn has_waited(&self, times: u64) {
        self.state().tally.waits += times;
    }

    /// Whether it goes on behind what is damaged.
    pub fn keeps_going(&self) -> bool {
        self.options.keep_going
    }

    /// Whether only some is delivered.
    fn is_routed(&self) -> bool {
        !matches!(self.options.routing, Routing::All)
    }

    /// Whether the run ends early.
    pub fn is_stopped(&self) -> bool {
        self.state().stop.is_some()
    }

    /// Reads one archive, and hands out what it holds. `ring` is what a stream is read through.
    ///
    /// # Errors
    /// If a signal asks to stop. All else is noted, and told at the end.
    pub fn read(
        &self,
        events: &mut EventReader,
        from: ReadingFrom,
        ring: Option<&FillerStopper>,
    ) -> Result<Option<ArchiveEnd>> {
        let (mut met, mut streaming): (Met, Option<Streaming>) = (Met::default(), None);
        if from.offset > 0 {
            // An earlier run has met them.
            (met.layout, met.indexes) = (true, 1);
        }
        let before = self.state().tally.read;
        let ended = loop {
            if self.is_stopped() {
                break None;
            }
            let event = events.next_event().inspect_err(|e| {
                streaming.take().into_iter().for_each(|streaming| streaming.content.fail(e.clone()));
            })?;
            self.state().tally.read = before + events.position().offset;
            if let Some(broken) =
                streaming.take_if(|s| !matches!(&event, Event::Blob(e) if Arc::ptr_eq(&e.blob, &s.blob)))
            {
                broken.content.fail(Error::new("the archive breaks off in it").of(ErrorKind::Corrupt));
            }
            if !met.is_nothing() {
                std::mem::take(&mut met.odd).into_iter().for_each(|finding| self.finding(finding));
            }
            self.note_place(&from, &event);
            if self.options.strict {
                self.check_order(&met, &event);
            }
            match event {
                Event::Layout(file) => {
                    met.layout = true;
                    if !file.bytes.as_deref().is_some_and(is_layout) {
                        let text = format!("oci-layout at {} is not what version 1.0.0 of the layout has", file.place);
                        self.finding(Finding::wrong(text));
                    }
                }
                Event::Index(file) => {
                    met.indexes += 1;
                    self.index(file, &from, &mut met.lists);
                }
                Event::DockerIndex(file) => {
                    met.docker = true;
                    let read = file.bytes.ok_or("it is too long".to_string());
                    if let Err(why) = read.and_then(|bytes| met.lists.set_docker(&bytes)) {
                        self.finding(Finding::wrong(format!("manifest.json at {}: {why}", file.place)));
                    }
                }
                Event::Manifest(event) => {
                    met.blobs = true;
                    self.look_for_root(&event.blob);
                    if let Document::Manifest(manifest, _) = &event.document {
                        let extra = manifest.extra_manifests().unwrap_or_default();
                        let listed = manifest.manifests.iter().chain(&extra);
                        met.listed.extend(listed.map(|descriptor| met.shared.listed(descriptor)));
                        self.tell_of_others(met.lists.root(), &event.blob, manifest);
                    }
                    self.document(event);
                }
                Event::Blob(event) => {
                    met.blobs = true;
                    self.look_for_root(&event.blob);
                    self.blob(event, ring, &mut streaming);
                }
                // What is no layout at all is told of as that.
                Event::Fault(finding) if met.is_nothing() && met.odd.len() < ODD_MAX => met.odd.push(finding),
                Event::Fault(finding) => self.finding(events.of_this(finding)),
                Event::End(end) => break Some(end),
            }
        };
        if let Some(end) = ended {
            self.complete(&mut met, end, from.offset > 0);
        }
        if let Some(streaming) = streaming {
            streaming.content.fail(Error::new("the run was given up"));
        }
        Ok(ended)
    }

    /// Notes where a member begins, for a checkpoint.
    fn note_place(&self, from: &ReadingFrom, event: &Event) {
        let place = match event {
            _ if !self.options.has_checkpoint => return,
            Event::Layout(file) | Event::Index(file) | Event::DockerIndex(file) => file.place,
            Event::Manifest(ManifestEvent { blob, .. }) => blob.place,
            Event::Blob(event) if event.at == 0 => event.blob.place,
            _ => return,
        };
        let place = if from.is_further { StreamPosition::default() } else { place };
        let mut state = self.state();
        let position = DeliveryPosition::of(from.archive, from.start, place);
        // In a compressed stream nothing can be passed over.
        state.reading = Some(if from.is_compressed { position.without_tape() } else { position });
    }

    /// Something is wrong with the archive.
    fn finding(&self, finding: Finding) {
        let Finding { kind, text } = finding;
        if kind == FindingKind::Note {
            return log::info(text);
        }
        let mut state = self.state();
        state.is_wrong |= kind != FindingKind::Damaged;
        let kind = if kind == FindingKind::Damaged { ErrorKind::Corrupt } else { ErrorKind::Failed };
        self.fails(&mut state, Error::new(text).of(kind));
    }

    /// Something failed: that ends the run, or is told, and the run goes on.
    fn fails(&self, state: &mut DeliveryState, e: Error) {
        if signal::requested().is_some() {
            // What a signal ends has not failed.
            return;
        }
        // Nobody is there who would take the rest.
        let is_over = e.is_signal() || e.is_away();
        if is_over || !self.options.keep_going && !matches!(e.kind(), ErrorKind::Transient | ErrorKind::Unreachable) {
            state.stop.get_or_insert(e);
            self.done.notify_all();
            return;
        }
        state.told += 1;
        match state.told {
            n if n < outcome::TOLD_MAX => log::error(&e),
            outcome::TOLD_MAX => log::warn("and more, which is only counted"),
            _ => {}
        }
    }

    fn index(&self, file: SmallFile, from: &ReadingFrom, lists: &mut IndexLists) {
        let read = file.bytes.ok_or("it is too long".to_string());
        let wrong = |why| self.finding(Finding::wrong(format!("index.json at {}: {why}", file.place)));
        let index = match read.and_then(|bytes| Ok((Manifest::parse(media::INDEX, &bytes)?, lists.set_index(&bytes)))) {
            Ok((index, Ok(()))) => index,
            Ok((index, Err(why))) => {
                wrong(why);
                index
            }
            Err(why) => return wrong(why),
        };
        let mut state = self.state();
        let state = &mut *state;
        let root = index.manifests.first().map(|root| &root.digest);
        if let Some(resumed) = state.resumed.take().filter(|(archive, _)| *archive == from.archive)
            && root != Some(&resumed.1)
        {
            state.has_lost = true;
            let error = Error::new(format!("the record is of another archive, whose root is {}", resumed.1));
            state.stop.get_or_insert(error.hint("without --resume it is delivered from its beginning"));
            return;
        }
        if let Some(root) = root
            && !self.is_of_set(state, root)
        {
            return;
        }
        if state.root.is_none() {
            let Some(root) = index.manifests.first() else {
                return self.fails(state, Error::new(format!("index.json at {} lists no image", file.place)));
            };
            if let Some(digest) = self.options.digest.as_ref().filter(|digest| **digest != root.digest) {
                let why = format!("the archive holds {}, and not {digest}", root.digest);
                state.stop.get_or_insert(Error::new(why));
                return;
            }
            state.root = Some(root.clone());
            let set = match self.is_routed() {
                true => {
                    self.route_early(state);
                    Ok(())
                }
                false => state.tracker.set_root(root).map(drop),
            };
            if let Err(why) = set {
                state.is_wrong = true;
                return self.fails(state, Error::new(format!("index.json at {}: {why}", file.place)));
            }
        }
        if self.options.has_checkpoint {
            let known: HashSet<&Digest> = state.listed.iter().map(|descriptor| &descriptor.digest).collect();
            let new = index.manifests.iter().filter(|descriptor| !known.contains(&descriptor.digest));
            let new: Vec<Descriptor> = new.cloned().collect();
            state.listed.extend(new);
        }
        if self.is_routed() && self.options.recursive {
            let all = index.manifests.iter().filter(|listed| media::is_manifest(&listed.media_type));
            state.expected.extend(all.map(|listed| listed.digest.clone()));
        }
        for descriptor in index.manifests.iter().filter(|_| !self.is_routed()) {
            if let Err(why) = state.tracker.list(descriptor) {
                state.is_wrong = true;
                self.fails(state, Error::new(format!("index.json at {}: {why}", file.place)));
            }
        }
        self.act(state);
    }

    /// Where the root does not come first, as in an archive that goes on with another, the repository may have it.
    fn look_for_root(&self, blob: &BlobMember) {
        let mut state = self.state();
        let Some(root) = state.root.as_ref().filter(|_| !state.tracker.is_released()) else { return };
        if root.digest != blob.digest
            && let Some(number) = state.tracker.unseen_root()
        {
            state.queue.add(Job::Fetch(number));
            self.work.notify_one();
        }
    }

    /// A manifest or configuration, all of it.
    fn document(&self, event: ManifestEvent) {
        let ManifestEvent { blob, content, document } = event;
        let bytes: Arc<[u8]> = content.in_memory().unwrap_or_default().into();
        drop(content);
        if !blob.digest.matches(&bytes) {
            return self.mismatch(&blob, &blob.digest.of_same(&bytes));
        }
        let mut state = self.wait_for_room();
        state.note_root(&blob.digest, &bytes);
        if self.is_route_met(&mut state, &blob.digest, &bytes) {
            return;
        }
        let is_named = state.tracker.manifest(&blob.digest).is_some();
        let may_be_one = is_named || matches!(document, Document::Manifest(..));
        let is_manifest = may_be_one && state.tracker.document(&blob.digest, &bytes);
        self.act(&mut state);
        drop(state);
        if !is_manifest {
            self.hand_out(&blob, JobContent::Document(bytes));
        }
    }

    /// A blob's content has not its digest.
    fn mismatch(&self, blob: &BlobMember, found: &Digest) {
        let text = format!("blob {} at {}: its {} bytes have the digest {found}", blob.digest, blob.place(), blob.size);
        self.finding(Finding::damaged(text));
    }

    /// Whether something names a blob as a manifest that cannot be read as one; then it is known why.
    fn is_no_manifest(&self, event: &BlobEvent) -> bool {
        let mut state = self.state();
        let is_named = state.tracker.manifest(&event.blob.digest).is_some();
        let Some(bytes) = event.window.in_memory().filter(|bytes| is_named && event.blob.digest.matches(bytes)) else {
            return false;
        };
        let is_manifest = state.tracker.document(&event.blob.digest, &bytes.into());
        self.act(&mut state);
        is_manifest
    }

    /// A part of a blob.
    fn blob(&self, event: BlobEvent, ring: Option<&FillerStopper>, streaming: &mut Option<Streaming>) {
        if event.at > 0 {
            let is_last = event.is_last();
            if let Some(current) = streaming.as_ref() {
                current.content.add(event.window, is_last);
            }
            if is_last {
                *streaming = None;
            }
            return;
        }
        if event.is_whole() && self.is_no_manifest(&event) {
            return;
        }
        if event.is_whole() {
            self.hand_out(&event.blob, JobContent::Whole(WholeContent(event.window)));
            return;
        }
        // Of a file, what is cut short the reader finds itself.
        let Some(ring) = ring else { return };
        let content = StreamedContent::new(ring.clone());
        content.add(event.window, false);
        if self.hand_out(&event.blob, JobContent::Streamed(content.clone())) {
            *streaming = Some(Streaming { blob: event.blob, content });
        }
    }

    /// Waits until threads have caught up with the reader.
    fn wait_for_room(&self) -> MutexGuard<'_, DeliveryState> {
        let mut state = self.state();
        while !state.queue.has_room() && state.stop.is_none() {
            state = self.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state
    }

    /// Has a thread deliver a blob, unless it is there. Returns whether its content is wanted.
    fn hand_out(&self, blob: &Arc<BlobMember>, content: JobContent) -> bool {
        let mut state = self.wait_for_room();
        let number = state.tracker.blob_number(&blob.digest, blob.size);
        if self.is_routed() && !self.is_needed(&mut state, number, blob, &content) {
            return false;
        }
        let before = state.tracker.blobs()[number].state;
        let is_wanted = state.tracker.passes(number, blob.size);
        // What it read twice must be right twice.
        let checks = self.options.check_all || before.is_ours();
        if !is_wanted && !checks {
            return false;
        }
        let position = state.reading;
        if let Some(position) = position.filter(|_| is_wanted) {
            *state.unfinished.entry(position).or_default() += 1;
        }
        let was_asked = before == tracker::BlobState::Absent;
        let job = match is_wanted {
            true => Job::Send { number, blob: blob.clone(), content, was_asked, position },
            false => Job::Check { blob: blob.clone(), content },
        };
        if matches!(before, tracker::BlobState::Asking | tracker::BlobState::Passing) {
            // What is asked may spare it; and it is needed if the copy before it fails.
            let job = match job {
                Job::Check { blob, content } => Job::Send { number, blob, content, was_asked: true, position: None },
                job => job,
            };
            state.parked.entry(number).or_default().push(job);
            return true;
        }
        state.queue.add(job);
        self.work.notify_one();
        true
    }

    /// Queues what the tracker wants done.
    fn act(&self, state: &mut DeliveryState) {
        for action in state.tracker.take_actions() {
            state.queue.add(Job::of(action));
            self.work.notify_one();
        }
    }
}

#[cfg(test)]
mod tests;
