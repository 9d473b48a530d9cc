//! Reads an archive from end to end into a [`Catalog`], and tells what is wrong with it.
//!
//! From files, members are found by their headers alone, and several threads read and hash blobs;
//! from a stream all is done as it passes.

use std::{
    borrow::Cow,
    collections::HashSet,
    fmt,
    io::ErrorKind as IoErrorKind,
    str::FromStr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread,
};

use serde::Deserialize;

use crate::{
    archive::read::{
        catalog::{Catalog, HeldBlob},
        document::{self, Document},
        events::{ArchiveEnd, BlobEvent, BlobMember, Event, EventReader, ManifestEvent, SmallFile},
        finding::Finding,
        foreign,
    },
    error::{Error, Result, io_reason},
    media::{files::Files, files_cursor::FilesCursor, source::MediaSource, source::Window},
    oci::{
        Digest, Hasher,
        layout::{LAYOUT_CONTENT, MANIFEST_SIZE_MAX},
    },
    signal,
    util::units::grouped,
};

/// Read and hashed at once: it stays in a processor's second cache.
const PIECE: usize = 256 << 10;
/// Blobs that wait for a thread.
const WAITING: usize = 1024;

/// How an archive is to be read.
pub struct Scanner<'a> {
    /// Hash every blob; otherwise members are only found, and of blobs only documents are read where
    /// they pass.
    pub deep: bool,
    /// Hash only these.
    pub share: Option<BlobShare>,
    /// Go on behind pages of a file that cannot be read; a stream knows that by itself.
    pub passes_holes: bool,
    /// Hears what is wrong.
    pub tell: &'a mut dyn FnMut(Finding),
    /// Bytes of the TAR stream that were read or passed over.
    pub read: &'a AtomicU64,
}

/// A share of the blobs, the same in every archive that holds them; all shares together are all blobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobShare {
    /// Which one, from 1 on.
    pub number: u64,
    /// Of so many.
    pub of: u64,
}

impl BlobShare {
    /// Whether a blob is in it: its digest decides.
    pub fn has(&self, digest: &Digest) -> bool {
        u64::from_str_radix(&digest.hex()[..15], 16).expect("digits of a digest") % self.of == self.number - 1
    }
}

impl FromStr for BlobShare {
    type Err = String;

    fn from_str(text: &str) -> Result<BlobShare, String> {
        let parts = text.split_once('/').and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
        match parts {
            Some((number, of)) if (1..=of).contains(&number) => Ok(BlobShare { number, of }),
            _ => Err(format!("{text:?} is no share such as 1/4: a number from 1 on, and of how many")),
        }
    }
}

impl fmt::Display for BlobShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

/// Hears of each part of a blob.
type OnBlob<'f, 's> = dyn FnMut(&mut Scanner<'s>, &mut Catalog, BlobEvent) -> Result<()> + 'f;

impl<'s> Scanner<'s> {
    /// Reads an archive from a stream, and to the end of the file or volume that it ends in.
    ///
    /// # Errors
    /// If a signal asks to stop, or there is more than can be kept in mind. All else is told.
    pub fn stream(&mut self, from: &mut dyn MediaSource, catalog: &mut Catalog) -> Result<ArchiveEnd> {
        let mut hasher: Option<Hasher> = None;
        let mut events = EventReader::new(from, true);
        self.consume(&mut events, catalog, &mut |scanner, catalog, event| {
            if event.at == 0 {
                hasher = scanner.hashes(&event.blob.digest).then(|| event.blob.digest.hasher());
            }
            if let (Some(hasher), Some(bytes)) = (&mut hasher, event.window.in_memory()) {
                hasher.update(bytes);
            }
            scanner.read.fetch_add(event.window.len(), Ordering::Relaxed);
            if !event.is_last() {
                return Ok(());
            }
            let found = hasher.take().map_or_else(|| event.blob.digest.clone(), Hasher::finish);
            scanner.hashed(catalog, &event.blob, found, None)
        })
    }

    /// Reads the archive in files that begins at `start`, and what stands behind it in the last of
    /// them. Returns where the next one may begin.
    ///
    /// # Errors
    /// As [`Scanner::stream`].
    pub fn files(&mut self, files: &Arc<Files>, start: u64, catalog: &mut Catalog) -> Result<(ArchiveEnd, u64)> {
        let threads = if self.deep { thread::available_parallelism().map_or(1, usize::from) } else { 0 };
        let (read, stopped) = (self.read, AtomicBool::new(false));
        let (send, jobs) = mpsc::sync_channel::<HashJob>(WAITING);
        let (tell, told) = mpsc::channel();
        let jobs = Mutex::new(jobs);
        let mut cursor = FilesCursor::new(files.clone(), start).passing_holes(self.passes_holes);
        thread::scope(|scope| {
            for _ in 0..threads {
                let (jobs, tell, stopped) = (&jobs, tell.clone(), &stopped);
                scope.spawn(move || hash_blobs(jobs, &tell, read, stopped));
            }
            drop(tell);
            let mut events = EventReader::new(&mut cursor, self.deep);
            let outcome = self.consume(&mut events, catalog, &mut |scanner, catalog, event| {
                // What is cut short the reader finds itself.
                if !event.is_whole() {
                    return Ok(());
                }
                if !scanner.hashes(&event.blob.digest) {
                    let claimed = event.blob.digest.clone();
                    return scanner.hashed(catalog, &event.blob, claimed, None);
                }
                let _ = send.send(HashJob { blob: event.blob, window: event.window });
                told.try_iter().try_for_each(|done| scanner.take(catalog, done))
            });
            drop(send);
            stopped.store(outcome.is_err(), Ordering::Relaxed);
            let ended = outcome?;
            for done in told {
                self.take(catalog, done).inspect_err(|_| stopped.store(true, Ordering::Relaxed))?;
            }
            let next = ended.end.map_or(files.total(), |end| files.part_end(start + end));
            Ok((ended, next))
        })
    }

    /// Takes in all events. `on_blob` hears of each part of a blob.
    fn consume(
        &mut self,
        events: &mut EventReader,
        catalog: &mut Catalog,
        on_blob: &mut OnBlob<'_, 's>,
    ) -> Result<ArchiveEnd> {
        loop {
            match events.next_event()? {
                Event::Layout(file) => self.layout(&file, catalog),
                Event::Index(file) => self.list("index.json", file, &mut |bytes| catalog.lists.set_index(bytes)),
                Event::DockerIndex(file) => {
                    self.list("manifest.json", file, &mut |bytes| catalog.lists.set_docker(bytes))
                }
                Event::Manifest(event) => self.manifest(catalog, event)?,
                Event::Blob(event) => on_blob(self, catalog, event)?,
                Event::Fault(finding) => (self.tell)(finding),
                Event::End(end) => {
                    self.complete(catalog, end);
                    return Ok(end);
                }
            }
        }
    }

    fn hashes(&self, digest: &Digest) -> bool {
        self.deep && self.share.is_none_or(|share| share.has(digest))
    }

    fn wrong(&mut self, text: String) {
        (self.tell)(Finding::wrong(text));
    }

    fn damaged(&mut self, text: String) {
        (self.tell)(Finding::damaged(text));
    }

    fn layout(&mut self, file: &SmallFile, catalog: &mut Catalog) {
        if !file.bytes.as_deref().is_some_and(is_layout) {
            self.wrong(format!("oci-layout at {} is not what version 1.0.0 of the layout has", file.place));
        }
        catalog.has_layout = true;
    }

    /// A list of images, which may be none.
    fn list(&mut self, name: &str, file: SmallFile, set: &mut dyn FnMut(&[u8]) -> Result<(), String>) {
        let read = file.bytes.ok_or("it is too long".to_string());
        if let Err(why) = read.and_then(|bytes| set(&bytes)) {
            self.wrong(format!("{name} at {}: {why}", file.place));
        }
    }

    /// What the whole must have.
    fn complete(&mut self, catalog: &Catalog, end: ArchiveEnd) {
        if end.is_foreign {
            return;
        }
        if catalog.is_docker_archive() {
            return self.wrong(foreign::DOCKER_ARCHIVE.into());
        }
        // Behind the end of one that is cut off they may stand.
        let lacks = |text: &str| match end.end {
            Some(_) => Finding::wrong(text.into()),
            None => Finding::incomplete(text.into()),
        };
        if !catalog.has_layout {
            (self.tell)(lacks("it holds no oci-layout"));
        }
        if catalog.lists.count() == 0 {
            (self.tell)(lacks("it holds no index.json that can be read: what its blobs are is not known"));
        }
    }

    fn manifest(&mut self, catalog: &mut Catalog, event: ManifestEvent) -> Result<()> {
        let ManifestEvent { blob, content, document } = event;
        let found = match content.in_memory().filter(|_| self.deep) {
            Some(bytes) => {
                let mut hasher = blob.digest.hasher();
                hasher.update(bytes);
                hasher.finish()
            }
            None => blob.digest.clone(),
        };
        self.read.fetch_add(content.len(), Ordering::Relaxed);
        self.hashed(catalog, &blob, found, Some(document))
    }

    fn take(&mut self, catalog: &mut Catalog, done: HashDone) -> Result<()> {
        let HashDone { blob, outcome } = done;
        match outcome {
            Ok(found) => self.hashed(catalog, &blob, found, None),
            Err(why) => {
                // What a signal ends is not damaged.
                signal::check()?;
                self.damaged(format!("blob {} at {} cannot be read: {why}", blob.digest, blob.place));
                Ok(())
            }
        }
    }

    /// Notes a blob that was read, and has the digest `found`.
    fn hashed(
        &mut self,
        catalog: &mut Catalog,
        blob: &BlobMember,
        found: Digest,
        document: Option<Document>,
    ) -> Result<()> {
        let BlobMember { digest, size, place, end, .. } = blob;
        let (size, place, sound) = (*size, *place, found == *digest);
        if !sound {
            self.damaged(format!("blob {digest} at {place}: its {} bytes have the digest {found}", grouped(size)));
        }
        let held = HeldBlob { size, place, end: *end, sound };
        let before = catalog.blob(digest, held, document.filter(|_| sound))?;
        // Whoever reads it twice reads the same, if both are what they should be.
        if let Some((before, _)) = before.filter(|(_, was_sound)| !(sound && *was_sound)) {
            let (first, second) = if before.offset < place.offset { (before, place) } else { (place, before) };
            self.wrong(format!("blob {digest} is there twice: at {first} and at {second}"));
        }
        Ok(())
    }
}

/// Whether this is the content of an `oci-layout` of the one version that there is.
pub fn is_layout(bytes: &[u8]) -> bool {
    #[derive(Deserialize, PartialEq)]
    struct Layout<'a> {
        #[serde(rename = "imageLayoutVersion", borrow)]
        version: Cow<'a, str>,
    }
    let layout = |bytes| serde_json::from_slice::<Layout>(bytes).ok();
    layout(bytes).is_some_and(|found| Some(found) == layout(LAYOUT_CONTENT))
}

/// A blob to be hashed.
struct HashJob {
    blob: Arc<BlobMember>,
    window: Window,
}

struct HashDone {
    blob: Arc<BlobMember>,
    outcome: Result<Digest, String>,
}

/// A hashing thread.
fn hash_blobs(jobs: &Mutex<Receiver<HashJob>>, tell: &Sender<HashDone>, read: &AtomicU64, stopped: &AtomicBool) {
    let mut piece = vec![0; PIECE];
    loop {
        let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(HashJob { blob, window }) = next else { return };
        let outcome = hash_one(&blob, &window, &mut piece, read, stopped);
        if tell.send(HashDone { blob, outcome }).is_err() {
            return;
        }
    }
}

fn hash_one(
    blob: &BlobMember,
    window: &Window,
    piece: &mut [u8],
    read: &AtomicU64,
    stopped: &AtomicBool,
) -> Result<Digest, String> {
    let (mut hasher, mut at) = (blob.digest.hasher(), 0);
    while at < window.len() {
        if stopped.load(Ordering::Relaxed) || signal::requested().is_some() {
            return Err("the run was given up".into());
        }
        let n = match window.read_at(piece, at) {
            Ok(0) => return Err("the file became shorter".into()),
            Err(e) if e.kind() == IoErrorKind::Interrupted => continue,
            other => other.map_err(|e| io_reason(&e))?,
        };
        hasher.update(&piece[..n]);
        at += n as u64;
        read.fetch_add(n as u64, Ordering::Relaxed);
    }
    Ok(hasher.finish())
}

/// Reads the manifests of an archive in files that were only found yet, and the configurations of its
/// images. The archive begins at `start`. What is no such document is left as it is.
///
/// # Errors
/// If one cannot be read, or they are more than can be kept in mind.
pub fn documents(files: &Files, start: u64, catalog: &mut Catalog) -> Result<()> {
    let (mut queue, mut tried) = (catalog.unread(), HashSet::new());
    while let Some(digest) = queue.pop() {
        signal::check()?;
        if !tried.insert(digest.clone()) {
            continue;
        }
        let held = catalog.blobs()[&digest].clone();
        if held.size > MANIFEST_SIZE_MAX {
            continue;
        }
        let mut bytes = vec![0; held.size as usize];
        let (mut filled, from) = (0, start + held.begin());
        while filled < bytes.len() {
            match files.read_at(&mut bytes[filled..], from + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) => return Err(Error::from_io(e).doing(format!("reading blob {digest}"))),
            }
        }
        if digest.matches(&bytes[..filled]) {
            catalog.document(&digest, document::parse(&bytes))?;
            queue.extend(catalog.unread_below(&digest));
        }
    }
    Ok(())
}
