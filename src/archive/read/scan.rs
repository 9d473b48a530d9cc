//! Reads an archive from end to end into a [`Catalog`], and tells what is wrong with it.
//!
//! From files, members are found by their headers alone, and several threads read and hash blobs;
//! from a stream all is done as it passes.

use std::{
    collections::HashSet,
    io::ErrorKind,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread,
};

use crate::archive::{
    OCI_LAYOUT, padded,
    read::{
        catalog::{Catalog, DOCUMENT_MAX, Held, Parsed, parse},
        tar::{Fault, Kind, Member, Place, Source, Walker},
    },
};
use crate::{
    error::{Error, Result, io_reason},
    media::input::{Cursor, Files},
    oci::{Digest, Hasher},
    signal,
    util::units::grouped,
};

/// Read and hashed at once: it stays in a processor's second cache.
const PIECE: usize = 256 << 10;
/// Blobs that wait for a thread.
const WAITING: usize = 1024;

/// Something that is wrong with an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub what: What,
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A blob's content has not its digest.
    Damaged,
    /// Something that is referred to is not there.
    Missing,
    /// Something else.
    Wrong,
}

/// How an archive is to be read.
pub struct Scanner<'a> {
    /// Hash every blob; otherwise members are only found, and of blobs only documents are read where
    /// they pass.
    pub deep: bool,
    pub tell: &'a mut dyn FnMut(Finding),
    /// Bytes of the TAR stream that were read or passed over.
    pub read: &'a AtomicU64,
}

/// Hears of each blob, with the walker at its content.
type OnBlob<'f, 'w, S> = dyn FnMut(&mut S, &mut Walker<'w>, &Member, &Digest, &mut Catalog) -> Result<(), Fault> + 'f;

/// How the reading of one archive ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// Offset in the TAR stream behind the end-of-archive blocks, if they are there.
    pub end: Option<u64>,
}

impl Scanner<'_> {
    fn wrong(&mut self, text: String) {
        (self.tell)(Finding { what: What::Wrong, text });
    }

    fn damaged(&mut self, text: String) {
        (self.tell)(Finding { what: What::Damaged, text });
    }

    /// Reads an archive from a stream, and to the end of the file or volume that it ends in.
    ///
    /// # Errors
    /// If a signal asks to stop, or there is more than can be kept in mind. All else is told.
    pub fn stream(&mut self, from: &mut dyn Source, catalog: &mut Catalog) -> Result<Ended> {
        let read = self.read;
        let mut walker = Walker::new(from, 0);
        let ended = self.walk(&mut walker, catalog, &mut |scanner, walker, member, digest, catalog| {
            let mut content = Content::of(member, digest, scanner.deep);
            loop {
                let piece = walker.content()?;
                if piece.is_empty() {
                    break;
                }
                content.update(piece);
                let n = piece.len();
                walker.take(n);
                read.fetch_add(n as u64, Ordering::Relaxed);
                if signal::requested().is_some() {
                    return Ok(());
                }
            }
            let (found, parsed) = content.finish();
            scanner.hashed(catalog, member, digest, found, parsed).map_err(Fault::GivenUp)
        })?;
        self.rest(&mut walker, ended)?;
        Ok(ended)
    }

    /// Reads the archive in files that begins at `start`, and what stands behind it in the last of
    /// them. Returns where the next one may begin.
    ///
    /// # Errors
    /// As [`Scanner::stream`].
    pub fn files(&mut self, files: &Arc<Files>, start: u64, catalog: &mut Catalog) -> Result<(Ended, u64)> {
        let threads = if self.deep { thread::available_parallelism().map_or(1, usize::from) } else { 0 };
        let (read, stopped) = (self.read, AtomicBool::new(false));
        let (send, jobs) = mpsc::sync_channel::<Job>(WAITING);
        let (tell, told) = mpsc::channel();
        let jobs = Mutex::new(jobs);
        let mut cursor = Cursor::new(files.clone(), start);
        thread::scope(|scope| {
            for _ in 0..threads {
                let (jobs, tell, stopped) = (&jobs, tell.clone(), &stopped);
                scope.spawn(move || hash(files, jobs, &tell, read, stopped));
            }
            drop(tell);
            let mut walker = Walker::new(&mut cursor, 0);
            let outcome = self.walk(&mut walker, catalog, &mut |scanner, _, member, digest, catalog| {
                let (from, size) = (start + member.content, member.size);
                // What is cut short the walker finds itself.
                if size > files.total().saturating_sub(from) {
                    return Ok(());
                }
                if !scanner.deep {
                    return scanner.hashed(catalog, member, digest, digest.clone(), None).map_err(Fault::GivenUp);
                }
                let job = Job { member: member.clone(), digest: digest.clone(), from };
                let _ = send.send(job);
                for done in told.try_iter() {
                    scanner.take(catalog, done).map_err(Fault::GivenUp)?;
                }
                Ok(())
            });
            drop(send);
            stopped.store(outcome.is_err(), Ordering::Relaxed);
            let ended = outcome?;
            for done in told {
                self.take(catalog, done).inspect_err(|_| stopped.store(true, Ordering::Relaxed))?;
            }
            let at = start + walker.place().offset;
            self.rest(&mut walker, ended)?;
            Ok((ended, files.part_end(at)))
        })
    }

    /// Goes from member to member. `blob` hears of each blob.
    fn walk<'w>(
        &mut self,
        walker: &mut Walker<'w>,
        catalog: &mut Catalog,
        blob: &mut OnBlob<'_, 'w, Self>,
    ) -> Result<Ended> {
        let mut last: Option<Member> = None;
        loop {
            signal::check()?;
            let stepped = walker.member().and_then(|member| {
                if let Some(place) = walker.odd_padding() {
                    self.damaged(format!("the padding at {place} is not zeros"));
                }
                let Some(member) = member else { return Ok(false) };
                let digest = self.examine(&member, walker, catalog);
                let outcome = digest.and_then(|digest| match digest {
                    Some(digest) => blob(self, walker, &member, &digest, catalog),
                    None => Ok(()),
                });
                last = Some(member);
                outcome.map(|()| true)
            });
            let fault = match stepped {
                Ok(true) => continue,
                Ok(false) => {
                    self.complete(catalog);
                    return Ok(Ended { end: Some(walker.place().offset) });
                }
                Err(fault) => fault,
            };
            signal::check()?;
            let of = |place: Place| match &last {
                Some(member) if member.content + member.size > place.offset => format!(" in {:?}", member.name),
                Some(member) => format!(" behind {:?}", member.name),
                None => String::new(),
            };
            match fault {
                Fault::Cut(place, why) => {
                    self.wrong(format!("the archive ends at {place}{}: {why}", of(place)));
                    break;
                }
                Fault::GivenUp(e) => return Err(e),
                Fault::Unreadable(place, e) => {
                    self.damaged(format!("it cannot be read from {place} on{}: {e}", of(place)));
                    break;
                }
                Fault::Malformed(place, why) => match walker.find_next() {
                    Ok(passed) => {
                        let bytes = grouped(passed.max(512));
                        self.damaged(format!("at {place}{}: {why}; {bytes} bytes were passed over", of(place)));
                    }
                    Err(_) => {
                        self.damaged(format!("at {place}{}: {why}; no member follows", of(place)));
                        break;
                    }
                },
            }
        }
        self.complete(catalog);
        Ok(Ended { end: None })
    }

    /// What the whole must have.
    fn complete(&mut self, catalog: &Catalog) {
        if !catalog.has_layout {
            self.wrong("it holds no oci-layout".into());
        }
        if !catalog.has_index() {
            self.wrong("it holds no index.json that can be read: what its blobs are is not known".into());
        }
    }

    /// Whether a member is a blob; what else it may be is looked at.
    fn examine(
        &mut self,
        member: &Member,
        walker: &mut Walker,
        catalog: &mut Catalog,
    ) -> Result<Option<Digest>, Fault> {
        let (name, place) = (&member.name, member.place);
        let mut parts: Vec<&str> = name.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        if name.starts_with('/') || parts.contains(&"..") {
            self.wrong(format!("{name:?} at {place} leads out of the archive"));
            parts.clear();
        }
        match member.kind {
            Kind::Other(what) => {
                self.wrong(format!("{name:?} at {place} is {what}"));
                return Ok(None);
            }
            Kind::Directory | Kind::Label => return Ok(None),
            Kind::File => {}
        }
        match parts[..] {
            ["blobs", algorithm, hex] => {
                let digest = format!("{algorithm}:{hex}").parse::<Digest>();
                digest.map(Some).or_else(|_| {
                    self.wrong(format!("{name:?} at {place} is no name of a blob"));
                    Ok(None)
                })
            }
            ["index.json"] => {
                let read = small(walker, member)?.ok_or("it is too long".to_string());
                if let Err(why) = read.and_then(|bytes| catalog.set_index(&bytes)) {
                    self.wrong(format!("index.json at {place}: {why}"));
                }
                Ok(None)
            }
            ["manifest.json"] => {
                let read = small(walker, member)?.ok_or("it is too long".to_string());
                if let Err(why) = read.and_then(|bytes| catalog.set_docker(&bytes)) {
                    self.wrong(format!("manifest.json at {place}: {why}"));
                }
                Ok(None)
            }
            ["oci-layout"] => {
                let is_one = small(walker, member)?.is_some_and(|bytes| is_layout(&bytes));
                if !is_one {
                    self.wrong(format!("oci-layout at {place} is not what version 1.0.0 of the layout has"));
                }
                catalog.has_layout = true;
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    fn take(&mut self, catalog: &mut Catalog, done: Done) -> Result<()> {
        let Done { job: Job { member, digest, .. }, outcome } = done;
        match outcome {
            Ok((found, parsed)) => self.hashed(catalog, &member, &digest, found, parsed),
            Err(why) => {
                // What a signal ends is not damaged.
                signal::check()?;
                self.damaged(format!("blob {digest} at {} cannot be read: {why}", member.place));
                Ok(())
            }
        }
    }

    /// Notes a blob that was read, and has the digest `found`.
    fn hashed(
        &mut self,
        catalog: &mut Catalog,
        member: &Member,
        digest: &Digest,
        found: Digest,
        parsed: Option<Parsed>,
    ) -> Result<()> {
        let (size, place) = (member.size, member.place);
        let sound = found == *digest;
        if !sound {
            self.damaged(format!("blob {digest} at {place}: its {} bytes have the digest {found}", grouped(size)));
        }
        let end = member.content + padded(size).unwrap_or(size);
        let held = Held { size, place, end, sound };
        if let Some(before) = catalog.blob(digest, held, parsed)? {
            let (first, second) = if before.offset < place.offset { (before, place) } else { (place, before) };
            self.wrong(format!("blob {digest} is there twice: at {first} and at {second}"));
        }
        Ok(())
    }

    /// Behind the end of an archive stand zeros at the most.
    fn rest(&mut self, walker: &mut Walker, ended: Ended) -> Result<()> {
        if ended.end.is_none() {
            return Ok(());
        }
        match walker.rest() {
            Ok(None) => {}
            Ok(Some(place)) => {
                self.wrong(format!(
                    "behind the end of the archive, at {place}, stands something that no TAR reader sees"
                ));
            }
            Err(Fault::Unreadable(place, e)) => {
                self.damaged(format!("what stands behind the end of the archive cannot be read from {place} on: {e}"));
            }
            Err(Fault::Cut(place, _) | Fault::Malformed(place, _)) => {
                self.damaged(format!("the compressed stream breaks off behind the end of the archive, at {place}"));
            }
            Err(Fault::GivenUp(e)) => return Err(e),
        }
        signal::check()
    }
}

/// The content of a file that must be small, or `None`.
fn small(walker: &mut Walker, member: &Member) -> Result<Option<Vec<u8>>, Fault> {
    if member.size > DOCUMENT_MAX {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    loop {
        let piece = walker.content()?;
        if piece.is_empty() {
            return Ok(Some(bytes));
        }
        bytes.extend_from_slice(piece);
        let n = piece.len();
        walker.take(n);
    }
}

/// Whether this is the content of an `oci-layout` of the one version that there is.
fn is_layout(bytes: &[u8]) -> bool {
    let value = |bytes| serde_json::from_slice::<serde_json::Value>(bytes).ok()?.get("imageLayoutVersion").cloned();
    let found = value(bytes);
    found.is_some() && found == value(OCI_LAYOUT)
}

/// The content of a blob, as it passes: hashed, and kept as long as it may be a document.
struct Content<'a> {
    digest: &'a Digest,
    /// If it is hashed at all.
    hasher: Option<Hasher>,
    document: Option<Vec<u8>>,
}

impl<'a> Content<'a> {
    fn of(member: &Member, digest: &'a Digest, deep: bool) -> Content<'a> {
        let document = (member.size <= DOCUMENT_MAX).then(Vec::new);
        Content { digest, hasher: deep.then(|| digest.hasher()), document }
    }

    /// Takes a piece that is not empty.
    fn update(&mut self, piece: &[u8]) {
        if let Some(hasher) = &mut self.hasher {
            hasher.update(piece);
        }
        if self.document.as_ref().is_some_and(|document| document.is_empty() && piece[0] != b'{') {
            self.document = None;
        }
        if let Some(document) = &mut self.document {
            document.extend_from_slice(piece);
        }
    }

    /// The digest it has, and what it is if that is right.
    fn finish(self) -> (Digest, Option<Parsed>) {
        let found = self.hasher.map_or_else(|| self.digest.clone(), Hasher::finish);
        let document = self.document.filter(|_| found == *self.digest);
        (found, document.and_then(|document| parse(&document)))
    }
}

/// A blob to be hashed.
struct Job {
    member: Member,
    digest: Digest,
    /// Where it lies in the files.
    from: u64,
}

struct Done {
    job: Job,
    outcome: Result<(Digest, Option<Parsed>), String>,
}

/// A hashing thread.
fn hash(files: &Files, jobs: &Mutex<Receiver<Job>>, tell: &Sender<Done>, read: &AtomicU64, stopped: &AtomicBool) {
    let mut piece = vec![0; PIECE];
    loop {
        let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else { return };
        let outcome = hash_one(files, &job, &mut piece, read, stopped);
        if tell.send(Done { job, outcome }).is_err() {
            return;
        }
    }
}

fn hash_one(
    files: &Files,
    job: &Job,
    piece: &mut [u8],
    read: &AtomicU64,
    stopped: &AtomicBool,
) -> Result<(Digest, Option<Parsed>), String> {
    let mut content = Content::of(&job.member, &job.digest, true);
    let (mut at, mut left) = (job.from, job.member.size);
    while left > 0 {
        if stopped.load(Ordering::Relaxed) || signal::requested().is_some() {
            return Err("the run was given up".into());
        }
        let n = piece.len().min(left.try_into().unwrap_or(usize::MAX));
        let n = match files.read_at(&mut piece[..n], at) {
            Ok(0) => return Err("the file became shorter".into()),
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            other => other.map_err(|e| io_reason(&e))?,
        };
        content.update(&piece[..n]);
        (at, left) = (at + n as u64, left - n as u64);
        read.fetch_add(n as u64, Ordering::Relaxed);
    }
    Ok(content.finish())
}

/// Reads the manifests of an archive in files that were only found yet, and the configurations of its
/// images. The archive begins at `start`. What is no such document is left as it is.
///
/// # Errors
/// If one cannot be read, or they are more than can be kept in mind.
pub fn documents(files: &Files, start: u64, catalog: &mut Catalog) -> Result<()> {
    let mut tried = HashSet::new();
    loop {
        let unread = catalog.unread().into_iter().filter(|digest| tried.insert(digest.clone())).collect::<Vec<_>>();
        if unread.is_empty() {
            return Ok(());
        }
        for digest in unread {
            signal::check()?;
            let held = catalog.blobs()[&digest].clone();
            if held.size > DOCUMENT_MAX {
                continue;
            }
            let mut bytes = vec![0; held.size as usize];
            let (mut filled, from) = (0, start + held.end - padded(held.size).unwrap_or(held.size));
            while filled < bytes.len() {
                match files.read_at(&mut bytes[filled..], from + filled as u64) {
                    Ok(0) => break,
                    Ok(n) => filled += n,
                    Err(e) => return Err(Error::new(io_reason(&e)).doing(format!("reading blob {digest}"))),
                }
            }
            if digest.matches(&bytes[..filled]) {
                catalog.document(&digest, parse(&bytes))?;
            }
        }
    }
}
