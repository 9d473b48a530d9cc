//! An archive as a stream of events: [`EventReader::next_event`] gives one after the other, until
//! [`Event::End`]. `verify` and `list` consume it, and so will whatever reads archives.
//!
//! Windows are owned: they may outlive the call that gave them and go to other threads. From files a
//! blob comes as one window that nobody has read yet; from a stream in pieces as the medium gives
//! them. Nothing is hashed here.

use std::{collections::VecDeque, sync::Arc};

use crate::{
    archive::{
        padded,
        read::{
            document::{self, Document},
            finding::Finding,
            foreign,
            tar::{Fault, Member, MemberKind, StreamPosition, TarReader},
        },
    },
    error::Result,
    media::source::{MediaSource, Window},
    oci::{
        Digest,
        layout::{BLOBS, INDEX_FILE, LAYOUT_FILE, MANIFEST_SIZE_MAX},
    },
    signal,
    util::units::grouped,
};

/// The list of images that `docker save` writes.
const DOCKER_FILE: &str = "manifest.json";

/// Whether these are the parts of the name of a file that a layout needs.
fn is_needed(parts: &[&str]) -> bool {
    matches!(parts, [INDEX_FILE | LAYOUT_FILE | DOCKER_FILE] | [BLOBS, _, _])
}

/// What comes next in an archive.
#[derive(Debug)]
pub enum Event {
    /// An `oci-layout`.
    Layout(SmallFile),
    /// An `index.json`.
    Index(SmallFile),
    /// A `manifest.json`, as `docker save` and others write it.
    DockerIndex(SmallFile),
    /// A blob that is a manifest, or the configuration of an image, if those are wanted.
    Manifest(ManifestEvent),
    /// A part of any other blob, or all of it.
    Blob(BlobEvent),
    /// Something is wrong.
    Fault(Finding),
    /// Nothing more comes.
    End(ArchiveEnd),
}

/// A file of the archive that is no blob.
#[derive(Debug)]
pub struct SmallFile {
    /// Where it stands.
    pub place: StreamPosition,
    /// Its content; `None` if it is longer than a manifest can be.
    pub bytes: Option<Vec<u8>>,
}

/// A blob as its header announces it.
#[derive(Debug)]
pub struct BlobMember {
    /// By its name; not yet proved.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    /// Where its first header stands.
    pub place: StreamPosition,
    /// Offset in the TAR stream behind its padding.
    pub end: u64,
    /// What its archive is called, where there are several.
    pub archive: Option<Arc<str>>,
}

impl BlobMember {
    /// Where it stands, in words.
    pub fn place(&self) -> String {
        let archive = self.archive.as_ref().map_or(String::new(), |archive| format!(" of {archive}"));
        format!("{}{archive}", self.place)
    }
}

/// A manifest or configuration.
#[derive(Debug)]
pub struct ManifestEvent {
    /// The blob.
    pub blob: Arc<BlobMember>,
    /// All of it, in memory.
    pub content: Window,
    /// What it says, if its digest proves right.
    pub document: Document,
}

/// A part of a blob.
#[derive(Debug)]
pub struct BlobEvent {
    /// The blob.
    pub blob: Arc<BlobMember>,
    /// Where in the blob the part begins.
    pub at: u64,
    /// The part. It is empty only if the blob is.
    pub window: Window,
}

impl BlobEvent {
    /// Whether it is the last part of the blob.
    pub fn is_last(&self) -> bool {
        self.at + self.window.len() == self.blob.size
    }

    /// Whether it is all of the blob.
    pub fn is_whole(&self) -> bool {
        self.at == 0 && self.is_last()
    }
}

/// How the reading of one archive ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchiveEnd {
    /// Offset in the TAR stream behind the end-of-archive blocks, if they are there.
    pub end: Option<u64>,
    /// It is no TAR stream, but something else.
    pub is_foreign: bool,
}

/// Reads one archive, and to the end of the file or volume that it ends in.
pub struct EventReader<'a> {
    tar: TarReader<'a>,
    /// Give manifests and configurations as such.
    documents: bool,
    state: State,
    ready: VecDeque<Event>,
    /// The member that was met last.
    last: Option<Member>,
    /// A file was told of that another system left behind.
    told_of_others: bool,
    /// What the archive is called, where there are several.
    archive: Option<Arc<str>>,
}

enum State {
    BetweenMembers,
    /// In a blob, of which so many bytes were given.
    InBlob(Arc<BlobMember>, u64),
    /// Behind the end-of-archive blocks.
    Behind(ArchiveEnd),
    Ended(ArchiveEnd),
}

impl<'a> EventReader<'a> {
    /// Reads an archive that begins here. With `documents` manifests and configurations are read and
    /// given as such; without, all blobs are given alike.
    pub fn new(from: &'a mut dyn MediaSource, documents: bool) -> EventReader<'a> {
        EventReader::at(from, documents, 0)
    }

    /// Reads on where a member begins, at offset `at` of the TAR stream.
    pub fn at(from: &'a mut dyn MediaSource, documents: bool, at: u64) -> EventReader<'a> {
        EventReader {
            tar: TarReader::new(from, at),
            documents,
            state: State::BetweenMembers,
            ready: VecDeque::new(),
            last: None,
            told_of_others: false,
            archive: None,
        }
    }

    /// The same, of an archive that is called so: there are several.
    pub fn called(self, archive: Option<Arc<str>>) -> EventReader<'a> {
        EventReader { archive, ..self }
    }

    /// A finding of this archive.
    pub fn of_this(&self, Finding { kind, text }: Finding) -> Finding {
        let text = self.archive.as_ref().map_or(text.clone(), |archive| format!("{archive}: {text}"));
        Finding { kind, text }
    }

    /// Where the next byte of the archive lies: what comes next begins there, or behind it.
    pub fn position(&self) -> StreamPosition {
        self.tar.position()
    }

    /// What comes next; after the end, the end again.
    ///
    /// # Errors
    /// If a signal asks to stop. All else is a [`Event::Fault`].
    pub fn next_event(&mut self) -> Result<Event> {
        loop {
            signal::check()?;
            if let Some(event) = self.ready.pop_front() {
                return Ok(event);
            }
            let stepped = match &self.state {
                State::BetweenMembers => self.next_member(),
                State::InBlob(blob, at) => {
                    let (blob, at) = (blob.clone(), *at);
                    self.next_window(blob, at)
                }
                State::Behind(end) => {
                    let end = *end;
                    self.read_rest(end);
                    Ok(())
                }
                State::Ended(end) => return Ok(Event::End(*end)),
            };
            if let Err(fault) = stepped {
                // What a signal ends is no fault.
                signal::check()?;
                self.tell(fault);
            }
        }
    }

    fn wrong(&mut self, text: String) {
        self.ready.push_back(Event::Fault(Finding::wrong(text)));
    }

    fn damaged(&mut self, text: String) {
        self.ready.push_back(Event::Fault(Finding::damaged(text)));
    }

    fn next_member(&mut self) -> Result<(), Fault> {
        let member = self.tar.member()?;
        if let Some(place) = self.tar.odd_padding() {
            self.damaged(format!("the padding at {place} is not zeros"));
        }
        self.tar.doubts().into_iter().for_each(|doubt| self.wrong(doubt));
        let Some(member) = member else {
            self.state = State::Behind(ArchiveEnd { end: Some(self.tar.position().offset), is_foreign: false });
            return Ok(());
        };
        self.last = Some(member.clone());
        self.examine(&member)
    }

    /// Finds out what a member is, and gives it if it is anything.
    fn examine(&mut self, member: &Member) -> Result<(), Fault> {
        let (name, place) = (&member.name, member.place);
        let mut parts: Vec<&str> = name.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        if name.starts_with('/') || parts.contains(&"..") {
            self.wrong(format!("{name:?} at {place} leads out of the archive"));
            parts.clear();
        }
        match member.kind {
            MemberKind::Other(what) => {
                self.wrong(format!("{name:?} at {place} is {what}"));
                return Ok(());
            }
            MemberKind::Label if member.size > 0 || is_needed(&parts) => {
                self.wrong(format!("{name:?} at {place} is a label, and a file to some readers"));
                return Ok(());
            }
            MemberKind::Directory if is_needed(&parts) => {
                self.wrong(format!("{name:?} at {place} is a directory in the place of a file"));
                return Ok(());
            }
            MemberKind::Directory | MemberKind::Label => return Ok(()),
            MemberKind::File if name.ends_with("/.") => self.wrong(format!("{name:?} at {place} is no name of a file")),
            MemberKind::File => {}
        }
        if parts.last().is_some_and(|name| foreign::is_left_behind(name)) {
            if !std::mem::replace(&mut self.told_of_others, true) {
                let text = format!("{name:?} at {place} is no part of an image; another system left it there");
                self.ready.push_back(Event::Fault(Finding::note(text)));
            }
            return Ok(());
        }
        match parts[..] {
            // Below it, or in its place, something else is needed.
            [BLOBS] | [BLOBS, _] | [BLOBS, _, _, _, ..] | [INDEX_FILE | LAYOUT_FILE | DOCKER_FILE, _, ..] => {
                self.wrong(format!("{name:?} at {place} is a file where the layout has none"));
            }
            [BLOBS, algorithm, hex] => match format!("{algorithm}:{hex}").parse::<Digest>() {
                Ok(digest) => self.begin_blob(member, digest)?,
                Err(_) => self.wrong(format!("{name:?} at {place} is no name of a blob")),
            },
            [INDEX_FILE] => {
                let file = self.small(member)?;
                self.ready.push_back(Event::Index(file));
            }
            [DOCKER_FILE] => {
                let file = self.small(member)?;
                self.ready.push_back(Event::DockerIndex(file));
            }
            [LAYOUT_FILE] => {
                let file = self.small(member)?;
                self.ready.push_back(Event::Layout(file));
            }
            _ => {}
        }
        Ok(())
    }

    fn begin_blob(&mut self, member: &Member, digest: Digest) -> Result<(), Fault> {
        let (size, place) = (member.size, member.place);
        let end = member.content + padded(size).unwrap_or(size);
        let blob = Arc::new(BlobMember { digest, size, place, end, archive: self.archive.clone() });
        let may_be_document = self.documents && size > 0 && size <= MANIFEST_SIZE_MAX;
        if !may_be_document || self.tar.content()?.first() != Some(&b'{') {
            self.state = State::InBlob(blob, 0);
            return Ok(());
        }
        let bytes = self.whole()?;
        let document = document::parse(&bytes);
        let content = Window::of(bytes);
        self.ready.push_back(match document {
            Some(document) => Event::Manifest(ManifestEvent { blob, content, document }),
            None => Event::Blob(BlobEvent { blob, at: 0, window: content }),
        });
        Ok(())
    }

    fn next_window(&mut self, blob: Arc<BlobMember>, at: u64) -> Result<(), Fault> {
        self.state = State::BetweenMembers;
        let window = self.tar.take_window(u64::MAX)?;
        let event = BlobEvent { blob, at, window };
        if !event.is_last() {
            self.state = State::InBlob(event.blob.clone(), at + event.window.len());
        }
        self.ready.push_back(Event::Blob(event));
        Ok(())
    }

    /// The content of a file that must be small.
    fn small(&mut self, member: &Member) -> Result<SmallFile, Fault> {
        let bytes = if member.size > MANIFEST_SIZE_MAX { None } else { Some(self.whole()?) };
        Ok(SmallFile { place: member.place, bytes })
    }

    /// All that is left of the current member's content.
    fn whole(&mut self) -> Result<Vec<u8>, Fault> {
        let mut bytes = Vec::new();
        loop {
            let piece = self.tar.content()?;
            if piece.is_empty() {
                return Ok(bytes);
            }
            bytes.extend_from_slice(piece);
            let n = piece.len();
            self.tar.take(n);
        }
    }

    /// Tells of a fault, and goes on behind it if that can be.
    fn tell(&mut self, fault: Fault) {
        let of = |place: StreamPosition| match &self.last {
            Some(member) if member.content + member.size > place.offset => format!(" in {:?}", member.name),
            Some(member) => format!(" behind {:?}", member.name),
            None => String::new(),
        };
        let is_foreign = matches!(fault, Fault::Foreign(_));
        self.state = State::Ended(ArchiveEnd { end: None, is_foreign });
        match fault {
            Fault::Cut(place, why) => {
                let text = format!("the archive ends at {place}{}: {why}", of(place));
                self.ready.push_back(Event::Fault(Finding::incomplete(text)));
            }
            Fault::Foreign(what) => self.wrong(what.into()),
            Fault::Unreadable(place, e) => {
                let of = of(place);
                match self.tar.pass_hole() {
                    Some(lost) => {
                        self.state = State::BetweenMembers;
                        let lost = grouped(lost);
                        self.damaged(format!("it cannot be read at {place}{of}: {e}; {lost} bytes were passed over"));
                    }
                    None => self.damaged(format!("it cannot be read from {place} on{of}: {e}")),
                }
            }
            Fault::Malformed(place, why) => {
                let of = of(place);
                match self.tar.find_next() {
                    Ok(passed) => {
                        self.state = State::BetweenMembers;
                        let bytes = grouped(passed.max(512));
                        self.damaged(format!("at {place}{of}: {why}; {bytes} bytes were passed over"));
                    }
                    Err(_) => self.damaged(format!("at {place}{of}: {why}; no member follows")),
                }
            }
        }
    }

    /// Behind the end of an archive stand zeros at the most.
    fn read_rest(&mut self, end: ArchiveEnd) {
        self.state = State::Ended(end);
        match self.tar.rest() {
            Ok(None) => {}
            Ok(Some(place)) => self
                .wrong(format!("behind the end of the archive, at {place}, stands something that no TAR reader sees")),
            Err(Fault::Unreadable(place, e)) => {
                self.damaged(format!("what stands behind the end of the archive cannot be read from {place} on: {e}"));
            }
            Err(Fault::Foreign(_)) => {}
            Err(Fault::Cut(place, _) | Fault::Malformed(place, _)) => {
                self.damaged(format!("the compressed stream breaks off behind the end of the archive, at {place}"));
            }
        }
    }
}

#[cfg(test)]
mod tests;
