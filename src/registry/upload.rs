//! The content of a blob on its way into a repository.
//!
//! An upload is a session (distribution specification, "Pushing blobs"). When it breaks, the
//! registry is asked how far it came, and the rest is sent; a session that is lost is begun again.
//!
//! Not every registry takes chunks as the specification has them. One that refuses a chunk for its size gets smaller
//! ones; one that refuses chunks in any other way, or loses them, gets the blob in one request, and so every blob after
//! it, where the content can be read again.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher as _},
    io::{self, Read},
};

use ureq::http::{
    Method, StatusCode,
    header::{CONTENT_RANGE, CONTENT_TYPE},
};

use super::{
    client::{Access, Call, Registries, RepositoryAccess, RequestTarget},
    host::Chunking,
    transport::{
        http::{Payload, Response},
        retry::RetryBudget,
        url::{shown, with_parameter},
    },
};
use crate::{
    error::{Context, Error, ErrorKind, Result},
    log,
    oci::{Descriptor, Digest, Hasher, Repository},
    signal,
    util::units::human_size,
};

/// A blob's content, where it comes from.
pub trait BlobContent {
    /// Opens it from a byte on.
    ///
    /// # Errors
    /// If it cannot be had.
    fn open(&self, from: u64) -> Result<Box<dyn Read + '_>>;

    /// The first byte that can still be read: what was read of a tape cannot be read again.
    fn readable_from(&self) -> u64 {
        0
    }

    /// It lies in files, so that to read all of it once more costs little.
    fn is_in_files(&self) -> bool {
        false
    }
}

/// A blob in files is hashed by the registry alone from so many bytes on, if that is known to do it.
const LARGE: u64 = 8 << 20;

impl Registries {
    /// Sends a blob's content, in chunks of at most `chunkSize` bytes. A `session` that was begun
    /// already is used. `hears` where the session goes on that is open.
    ///
    /// # Errors
    /// If the content does not match its digest, cannot be had, or the registry does not take it.
    pub fn upload(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        content: &dyn BlobContent,
        session: Option<UploadSession>,
        hears: &dyn Fn(&str),
    ) -> Result<()> {
        let access = self.access(repository, Access::Push)?;
        let mut hashed = HashedContent::new(descriptor, content);
        if content.is_in_files() && descriptor.size >= LARGE && self.checks_digests(&access) {
            hashed.leave_unchecked();
        }
        let mut upload = Upload {
            registries: self,
            access,
            descriptor,
            content: hashed,
            session,
            hears,
            furthest: 0,
            was_lost: false,
            budget: self.budget(),
        };
        upload.run()
    }

    /// Whether a registry refuses content that has another digest than it is sent under. It is asked once, with a few
    /// bytes under the digest of others: then nobody needs to hash twice what lies in files.
    fn checks_digests(&self, access: &RepositoryAccess) -> bool {
        let ask = || -> Result<bool> {
            let session = self.begin_upload(access)?;
            let random = RandomState::new().build_hasher().finish().to_le_bytes();
            let url = with_parameter(&session.url, "digest", &Digest::of(&random).to_string());
            let call = Call::to(Method::PUT, url).with(CONTENT_TYPE, "application/octet-stream");
            let response = self.send_bytes(access, &call, b"not what the digest says")?;
            let refuses = response.status() == StatusCode::BAD_REQUEST;
            response.drain();
            let _ = self.send(access, &Call::to(Method::DELETE, session.url)).map(Response::drain);
            Ok(refuses)
        };
        *access.host.checks_digests.get_or_init(|| ask().unwrap_or(false))
    }

    fn begin_upload(&self, access: &RepositoryAccess) -> Result<UploadSession> {
        let response = self.send_bytes(access, &Call::new(Method::POST, "blobs/uploads/".into()), b"")?;
        match response.status() {
            StatusCode::ACCEPTED => UploadSession::begun(access, response),
            _ => Err(response.refusal()),
        }
    }
}

/// An upload session at the registry.
pub struct UploadSession {
    url: String,
    /// Bytes that the registry has.
    at: u64,
    /// The least chunk that it takes, but for the last.
    least: u64,
    /// It broke once, and was taken up again.
    resumed: bool,
    /// An earlier run has begun it: it may be lost, and nobody knows how far it came.
    is_earlier: bool,
}

impl UploadSession {
    /// The session that `response` tells of.
    ///
    /// # Errors
    /// If it does not say where the upload goes on.
    pub(super) fn begun(access: &RepositoryAccess, response: Response) -> Result<UploadSession> {
        let least = response.header("oci-chunk-min-length").and_then(|v| v.parse().ok()).unwrap_or(0);
        let url = next(access, response)?;
        Ok(UploadSession { url, at: 0, least, resumed: false, is_earlier: false })
    }

    /// The session that goes on at this URL, if it is still there.
    pub fn earlier(url: String) -> UploadSession {
        UploadSession { url, at: 0, least: 0, resumed: true, is_earlier: true }
    }
}

/// Where the session goes on, as the registry says in `response`.
fn next(access: &RepositoryAccess, response: Response) -> Result<String> {
    let endpoint = access.host.endpoint()?;
    let Some(location) = response.header("location") else {
        return Err(response.refusal().doing("the registry does not say where the upload goes on"));
    };
    let url = endpoint.locate(response.url(), location)?;
    response.drain();
    Ok(url)
}

/// A blob on its way into a repository.
struct Upload<'a> {
    registries: &'a Registries,
    access: RepositoryAccess<'a>,
    descriptor: &'a Descriptor,
    content: HashedContent<'a>,
    session: Option<UploadSession>,
    hears: &'a dyn Fn(&str),
    /// The furthest byte that the registry has taken: only what lies beyond is progress.
    furthest: u64,
    /// It said once that the session, or the place in it, is not there.
    was_lost: bool,
    budget: RetryBudget<'a>,
}

/// How an attempt ended that did not fail.
enum Attempt {
    /// The blob is there.
    Done,
    /// It is to be sent again in another way: the registry has shown that it does not take it in this one.
    OtherWay,
}

/// No chunk is made smaller than this for a registry that finds it too large.
const LEAST_CHUNK: u64 = 1 << 20;

impl Upload<'_> {
    fn run(&mut self) -> Result<()> {
        if self.session.as_ref().is_some_and(|session| session.is_earlier) && self.recover().is_err() {
            self.session = None;
        }
        loop {
            let e = match self.attempt() {
                Ok(Attempt::Done) => return Ok(()),
                // Each way is stricter than the one before, so that there is a last.
                Ok(Attempt::OtherWay) => {
                    self.content.reader = None;
                    self.session.take().into_iter().for_each(|session| self.end(session));
                    continue;
                }
                Err(e) => e,
            };
            // The content has been tried again already.
            let failure = self.content.failure.take().map_or(e, Error::settled);
            self.content.reader = None;
            let about = format!("blob {} to {}: ", self.descriptor.digest, self.access.repository);
            if let Err(e) = self.budget.again(&about, failure) {
                return self.give_up(e);
            }
            while let Err(e) = self.recover() {
                if let Err(e) = self.budget.again(&about, e) {
                    return self.give_up(e);
                }
            }
            if self.session.is_none() && self.is_there() {
                return Ok(());
            }
        }
    }

    /// Whether the blob arrived, though the answer that said so did not.
    fn is_there(&self) -> bool {
        self.registries.head_blob(&self.access, self.descriptor).unwrap_or(false)
    }

    fn give_up(&mut self, why: Error) -> Result<()> {
        if why.retry_after().is_some() && self.is_there() {
            return Ok(());
        }
        if let Some(session) = self.session.take() {
            self.end(session);
        }
        Err(why)
    }

    /// Tells the registry that a session will not go on. It forgets those of which nobody tells it.
    fn end(&self, session: UploadSession) {
        let _ = self.registries.send(&self.access, &Call::to(Method::DELETE, session.url)).map(Response::drain);
    }

    fn attempt(&mut self) -> Result<Attempt> {
        if self.session.is_none() {
            self.session = Some(self.registries.begin_upload(&self.access)?);
        }
        let session = self.session.as_ref().expect("it was begun");
        (self.hears)(&session.url);
        let way = self.access.host.chunking();
        let (size, chunk) = (self.descriptor.size, way.largest(self.configured_chunk()));
        let chunk = chunk.max(session.least);
        if session.at == 0 && size <= chunk {
            return self.finish(size);
        }
        while let Some(session) = self.session.as_mut().filter(|session| session.at < size) {
            let (from, length) = (session.at, chunk.min(size - session.at));
            let call = Call::to(Method::PATCH, session.url.clone())
                .with(CONTENT_TYPE, "application/octet-stream")
                .with(CONTENT_RANGE, format!("{from}-{}", from + length - 1));
            let response = send(self.registries, &self.access, &call, self.content.part(from, length)?, length)?;
            match response.status() {
                status if status.is_success() => {}
                // It may have lost the session, or have taken what was thought lost: it is asked, once.
                StatusCode::NOT_FOUND | StatusCode::RANGE_NOT_SATISFIABLE
                    if !std::mem::replace(&mut self.was_lost, true) =>
                {
                    return Err(response.refusal().transient(Default::default()));
                }
                StatusCode::PAYLOAD_TOO_LARGE => {
                    let smaller = smaller(length, session.least);
                    return self.refused(smaller, response);
                }
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(response.refusal()),
                _ => return self.refused(Chunking::Whole, response),
            }
            let sent = from + length;
            let reached = match reached(&response) {
                Some(reached) if reached > from && reached <= sent => reached,
                None => sent,
                // It counts from the chunk, or not at all: what it has, only its digest will show.
                Some(_) if !self.content.can_be_read_again() => sent,
                Some(other) => {
                    let name = format!("it was sent the bytes up to {sent}, and says that it has {other}");
                    response.drain();
                    return Ok(self.other_way(Chunking::Whole, &name));
                }
            };
            session.url = next(&self.access, response)?;
            session.at = reached;
            (self.hears)(&session.url);
            if reached > self.furthest {
                self.furthest = reached;
                self.budget.progressed();
            }
        }
        self.content.check()?;
        self.finish(0)
    }

    /// The largest chunk, as it is configured.
    fn configured_chunk(&self) -> u64 {
        match self.registries.config.chunk_size {
            0 => u64::MAX,
            size => size,
        }
    }

    /// The registry refuses a chunk, or what chunks have made; then `way` is tried, if there can be another try.
    fn refused(&mut self, way: Chunking, response: Response) -> Result<Attempt> {
        let refusal = response.refusal();
        if !self.content.can_be_read_again() {
            let hint = "chunkSize: 0 in the configuration sends each blob in one request";
            return Err(refusal.after("and what was sent of the blob cannot be read again").hint(hint));
        }
        Ok(self.other_way(way, &refusal.to_string()))
    }

    /// Notes for the registry how blobs go up from now on, and why.
    fn other_way(&self, way: Chunking, why: &str) -> Attempt {
        if self.access.host.takes_blobs(way) {
            let name = &self.access.host.name;
            match way {
                Chunking::AtMost(most) => {
                    log::info(format_args!("{name}: chunks have at most {} from now on: {why}", human_size(most)));
                }
                _ => log::warn(format_args!("{name} takes no chunks, so each blob goes up in one request: {why}")),
            }
        }
        Attempt::OtherWay
    }

    /// Ends the session, with the last `length` bytes.
    fn finish(&mut self, length: u64) -> Result<Attempt> {
        let session = self.session.as_ref().expect("it was begun");
        let (resumed, in_chunks, least) = (session.resumed, session.at > 0, session.least);
        let url = with_parameter(&session.url, "digest", &self.descriptor.digest.to_string());
        let mut call = Call::to(Method::PUT, url).with(CONTENT_TYPE, "application/octet-stream");
        // Now the registry hashes it, or copies it to its place.
        call.slow = true;
        let part = self.content.part(self.descriptor.size - length, length)?;
        let response = send(self.registries, &self.access, &call, part, length)?;
        if response.status().is_client_error() {
            self.content.prove()?;
        }
        let is_chunked = self.access.host.chunking() != Chunking::Whole && self.registries.config.chunk_size > 0;
        match response.status() {
            status if status.is_success() => {
                check_stored(&response, &self.descriptor.digest)?;
                response.drain();
                Ok(Attempt::Done)
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(response.refusal()),
            // What the registry had kept of the broken session is not what was sent.
            status if resumed && status.is_client_error() => {
                self.session = None;
                Err(response.refusal().transient(Default::default()))
            }
            _ if in_chunks => self.refused(Chunking::Whole, response),
            StatusCode::PAYLOAD_TOO_LARGE if is_chunked && smaller(length, least) != Chunking::Whole => {
                self.refused(smaller(length, least), response)
            }
            StatusCode::NOT_FOUND => Err(response.refusal().transient(Default::default())),
            _ => Err(response.refusal()),
        }
    }

    /// Asks how far a broken session came. One that is lost, or of which that is not clear, is
    /// begun again.
    ///
    /// # Errors
    /// If the registry cannot be asked now; the session stays.
    fn recover(&mut self) -> Result<()> {
        let Some(session) = &self.session else { return Ok(()) };
        if self.access.host.chunking() == Chunking::Whole {
            self.session.take().into_iter().for_each(|session| self.end(session));
            return Ok(());
        }
        let response = self.registries.send(&self.access, &Call::to(Method::GET, session.url.clone()))?;
        let reached = reached(&response).filter(|reached| *reached > 1 && *reached <= self.descriptor.size);
        let Some(session) = self.session.take() else { return Ok(()) };
        match reached {
            Some(at) if response.status().is_success() => {
                let url = match response.header("location") {
                    Some(_) => next(&self.access, response)?,
                    None => session.url,
                };
                self.session = Some(UploadSession { url, at, least: session.least, resumed: true, is_earlier: false });
            }
            _ => {
                let lost = response.status() == StatusCode::NOT_FOUND;
                response.drain();
                if !lost {
                    self.end(session);
                }
            }
        }
        Ok(())
    }
}

/// How blobs go up when a chunk of `length` bytes was too large, and the registry takes none of fewer than `least`.
fn smaller(length: u64, least: u64) -> Chunking {
    match length / 4 {
        most if most < LEAST_CHUNK.max(least) => Chunking::Whole,
        most => Chunking::AtMost(most),
    }
}

/// Sends bytes that cannot be sent twice.
fn send(
    registries: &Registries,
    access: &RepositoryAccess,
    call: &Call,
    mut part: ContentPart,
    length: u64,
) -> Result<Response> {
    let endpoint = access.host.endpoint()?;
    let payload = if length == 0 { Payload::Bytes(b"") } else { Payload::Stream(&mut part, length) };
    if let RequestTarget::Url(url) = &call.at
        && endpoint.is_secure()
        && !url.starts_with("https://")
    {
        return Err(Error::new(format!("the registry wants the blob in the clear, at {}", shown(url))));
    }
    registries.send_to(endpoint, access, call, payload)
}

/// The number of bytes that a registry says it has (`Range: 0-99`). A registry that has none says
/// `0-0`, which would be one.
fn reached(response: &Response) -> Option<u64> {
    let range = response.header("range")?;
    let last: u64 = range.trim_start_matches("bytes=").split_once('-')?.1.parse().ok()?;
    last.checked_add(1)
}

/// A blob's content, hashed as it goes out.
struct HashedContent<'a> {
    descriptor: &'a Descriptor,
    content: &'a dyn BlobContent,
    reader: Option<Box<dyn Read + 'a>>,
    /// Where the reader stands.
    at: u64,
    hasher: Option<Hasher>,
    /// Bytes that were hashed, once each.
    hashed: u64,
    /// Why the content cannot be sent: that is no fault of the registry's.
    failure: Option<Error>,
    /// The registry alone hashes it.
    is_unchecked: bool,
}

impl<'a> HashedContent<'a> {
    fn new(descriptor: &'a Descriptor, content: &'a dyn BlobContent) -> HashedContent<'a> {
        HashedContent {
            descriptor,
            content,
            reader: None,
            at: 0,
            hasher: Some(descriptor.digest.hasher()),
            hashed: 0,
            failure: None,
            is_unchecked: false,
        }
    }

    /// The registry hashes it: it is not hashed on the way.
    fn leave_unchecked(&mut self) {
        (self.hasher, self.hashed, self.is_unchecked) = (None, self.descriptor.size, true);
    }

    /// What was not hashed on the way, and was refused, is read for it.
    fn prove(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.is_unchecked) {
            return Ok(());
        }
        let mut fresh = HashedContent::new(self.descriptor, self.content);
        let mut part = fresh.part(0, self.descriptor.size)?;
        let read = io::copy(&mut part, &mut io::sink());
        let failure = part.content.failure.take();
        read.map(drop).map_err(|e| failure.unwrap_or_else(|| Error::from_io(e)).settled())
    }

    /// Whether all of it can be had once more.
    fn can_be_read_again(&self) -> bool {
        self.content.readable_from() == 0
    }

    /// The next `length` bytes, from `from` on.
    fn part<'s>(&'s mut self, from: u64, length: u64) -> Result<ContentPart<'s, 'a>> {
        if length == 0 && from <= self.hashed {
            return Ok(ContentPart { content: self, left: 0 });
        }
        if self.reader.is_none() || self.at != from {
            // What nobody has hashed yet is read again, so that all of it is.
            let from = from.min(self.hashed);
            let least = self.content.readable_from();
            if from < least {
                let why = format!("byte {from} of it is wanted again, and it cannot be read again below byte {least}");
                return Err(self.failure.insert(Error::new(why)).clone());
            }
            self.reader = Some(self.content.open(from)?);
            self.at = from;
        }
        let left = from - self.at;
        let mut part = ContentPart { content: self, left };
        io::copy(&mut part, &mut io::sink())
            .map_err(|e| part.content.failure.take().unwrap_or_else(|| Error::new(e)))?;
        part.left = length;
        Ok(part)
    }

    /// Whether all of it was right.
    fn check(&mut self) -> Result<()> {
        if self.hashed < self.descriptor.size {
            return Ok(());
        }
        let Some(hasher) = self.hasher.take() else { return Ok(()) };
        let found = hasher.finish();
        match found == self.descriptor.digest {
            true => Ok(()),
            false => Err(Error::new(format!("digest mismatch: what came was {found}")).of(ErrorKind::Corrupt)),
        }
    }
}

/// A part of a blob that is being sent.
struct ContentPart<'s, 'a> {
    content: &'s mut HashedContent<'a>,
    left: u64,
}

impl ContentPart<'_, '_> {
    fn next(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let room = buffer.len().min(self.left.try_into().unwrap_or(usize::MAX));
        let content = &mut *self.content;
        let reader = content.reader.as_mut().ok_or_else(|| Error::new("the source is gone"))?;
        let n = loop {
            match reader.read(&mut buffer[..room]) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => signal::check()?,
                other => break other.doing(|| format!("at byte {} of {}", content.at, content.descriptor.size))?,
            }
        };
        if n == 0 && room > 0 {
            return Err(Error::new(format!("it ended after {} of {} bytes", content.at, content.descriptor.size)));
        }
        let known = (content.hashed - content.at).min(n as u64) as usize;
        if let Some(hasher) = &mut content.hasher {
            hasher.update(&buffer[known..n]);
        }
        content.at += n as u64;
        content.hashed = content.hashed.max(content.at);
        self.left -= n as u64;
        // Before the last byte goes out: what is wrong is not offered at all. The read after the last
        // byte also gives the content's connection back.
        if content.at == content.descriptor.size {
            if matches!(reader.read(&mut [0]), Ok(1..)) {
                return Err(Error::new(format!("it is longer than {} bytes", content.at)));
            }
            content.check()?;
        }
        Ok(n)
    }
}

impl Read for ContentPart<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Ok(0);
        }
        self.next(buffer).map_err(|e| {
            self.content.failure.get_or_insert(e.clone());
            e.into()
        })
    }
}

/// Checks what the registry says of the digest under which it stored something. One of another algorithm cannot be
/// compared.
///
/// # Errors
/// If that is another digest.
pub(super) fn check_stored(response: &Response, digest: &Digest) -> Result<()> {
    let stored = response.header("docker-content-digest").and_then(|d| d.parse::<Digest>().ok());
    match stored.filter(|stored| stored != digest && stored.algorithm() == digest.algorithm()) {
        Some(stored) => Err(Error::new(format!("the registry stored it as {stored}"))),
        None => Ok(()),
    }
}
