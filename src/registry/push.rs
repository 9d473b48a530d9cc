//! What a registry is given: blobs, mounted or uploaded, and manifests.
//!
//! An upload is a session (distribution specification, "Pushing blobs"). When it breaks, the
//! registry is asked how far it came, and the rest is sent; a session that is lost is begun again.

use std::{
    io::{self, Read},
    sync::PoisonError,
};

use serde_json::{Value, json};
use ureq::http::{
    Method, StatusCode,
    header::{CONTENT_RANGE, CONTENT_TYPE},
};

use crate::registry::{
    client::{Access, At, Call, MANIFEST_MAX, Place, Registries},
    pull::referrers_tag,
    transport::{
        http::{Payload, Response},
        retry::Tries,
        url::{encoded, shown, with_parameter},
    },
};
use crate::{
    config::Referrers,
    error::{Context, Error, Result},
    log,
    oci::{Descriptor, Digest, Manifest, digest::Hasher, json as go_json, media},
};

/// How a blob came to be in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It was there already.
    Present,
    /// It was taken over from another repository of the registry.
    Mounted,
    /// It was sent.
    Sent,
}

/// Opens a blob's content from a byte on.
pub type Open<'a> = &'a (dyn Fn(u64) -> Result<Box<dyn Read + 'a>> + 'a);

impl Registries {
    /// Sees to it that a repository has a blob. It is mounted from the repository `elsewhere` of
    /// the same registry, if the registry does that; else its content is sent, in chunks of at most
    /// `chunkSize` bytes.
    ///
    /// # Errors
    /// If the content does not match its digest, or the registry does not take it.
    pub fn push_blob<'a>(
        &'a self,
        registry: &str,
        repository: &'a str,
        descriptor: &'a Descriptor,
        elsewhere: Option<&str>,
        open: Open<'a>,
    ) -> Result<Pushed> {
        let doing = || format!("pushing blob {} to {registry}/{repository}", descriptor.digest);
        let place = self.place(registry, repository, Access::Push)?;
        if self.trying(|| self.head_blob(&place, descriptor)).doing(doing)?.is_ok() {
            return Ok(Pushed::Present);
        }
        let mut session = None;
        if let Some(from) = elsewhere {
            match self.trying(|| self.mount(&place, descriptor, from)) {
                Ok(None) => return Ok(Pushed::Mounted),
                Ok(begun) => session = begun,
                // The other repository may be closed to us. That is no reason not to upload.
                Err(e) => log::debug(format_args!("{}: not mounted: {e}", doing())),
            }
        }
        let mut upload = Upload {
            registries: self,
            place,
            descriptor,
            source: Source::new(descriptor, open),
            session,
            tries: self.tries(),
        };
        upload.run().doing(doing)?;
        Ok(Pushed::Sent)
    }

    /// `None` if the blob is mounted; else the session that the registry has begun instead.
    fn mount(&self, place: &Place, descriptor: &Descriptor, from: &str) -> Result<Option<Session>> {
        let place = Place { host: place.host.clone(), repository: place.repository, access: Access::Mount(from) };
        let path = format!("blobs/uploads/?mount={}&from={}", encoded(&descriptor.digest.to_string()), encoded(from));
        let response = self.send_bytes(&place, &Call::new(Method::POST, path), b"")?;
        match response.status() {
            StatusCode::CREATED => Ok(None),
            StatusCode::ACCEPTED => Session::begun(&place, response).map(Some),
            _ => Err(response.refusal()),
        }
    }

    fn begin(&self, place: &Place) -> Result<Session> {
        let response = self.send_bytes(place, &Call::new(Method::POST, "blobs/uploads/".into()), b"")?;
        match response.status() {
            StatusCode::ACCEPTED => Session::begun(place, response),
            _ => Err(response.refusal()),
        }
    }

    fn send_bytes(&self, place: &Place, call: &Call, bytes: &[u8]) -> Result<Response> {
        self.first_endpoint(&place.host, |endpoint| self.send_to(endpoint, place, call, Payload::Bytes(bytes)))
    }

    /// Puts a manifest under its digest. What it refers to must be there. Where the registry does not
    /// keep referrers itself, the index at the subject's referrers tag is brought up to date; another
    /// client that does so at the same time may undo it.
    pub fn push_manifest(&self, registry: &str, repository: &str, descriptor: &Descriptor, bytes: &[u8]) -> Result<()> {
        let doing = || format!("pushing manifest {} to {registry}/{repository}", descriptor.digest);
        let manifest = Manifest::parse(&descriptor.media_type, bytes).map_err(Error::new).doing(doing)?;
        let place = self.place(registry, repository, Access::Push)?;
        let target = descriptor.digest.to_string();
        let put = self.trying(|| self.put_manifest(&place, &target, &descriptor.media_type, bytes));
        let kept = self.stored(put, descriptor).doing(doing)?;
        let Some(subject) = manifest.subject.clone().filter(|_| !kept) else { return Ok(()) };
        match place.host.referrers(repository) {
            Referrers::Api => Ok(()),
            _ => self.list_referrer(&place, &subject.digest, &referrer(descriptor, manifest)).doing(doing),
        }
    }

    /// Puts a manifest that is there under a tag.
    pub fn tag(
        &self,
        registry: &str,
        repository: &str,
        descriptor: &Descriptor,
        bytes: &[u8],
        tag: &str,
    ) -> Result<()> {
        let doing = || format!("tagging {} as {registry}/{repository}:{tag}", descriptor.digest);
        let place = self.place(registry, repository, Access::Push)?;
        let put = self.trying(|| self.put_manifest(&place, tag, &descriptor.media_type, bytes));
        self.stored(put, descriptor).doing(doing).map(drop)
    }

    /// Whether the registry keeps a manifest's subject, if it stored the manifest as what it is.
    fn stored(&self, put: Result<Response>, descriptor: &Descriptor) -> Result<bool> {
        let response = put?;
        let stored = response.header("docker-content-digest").and_then(|d| d.parse::<Digest>().ok());
        let same =
            |stored: &Digest| *stored == descriptor.digest || stored.algorithm() != descriptor.digest.algorithm();
        if let Some(stored) = stored.filter(|stored| !same(stored)) {
            return Err(Error::new(format!("the registry stored it as {stored}")));
        }
        let kept = response.header("oci-subject").is_some();
        response.drain();
        Ok(kept)
    }

    fn put_manifest(&self, place: &Place, target: &str, media_type: &str, bytes: &[u8]) -> Result<Response> {
        let call = Call::new(Method::PUT, format!("manifests/{target}")).with(CONTENT_TYPE, media_type);
        self.send_bytes(place, &call, bytes)?.expect_ok()
    }

    /// Adds a referrer to the index at its subject's referrers tag (distribution specification,
    /// "Referrers tag schema").
    fn list_referrer(&self, place: &Place, subject: &Digest, referrer: &Descriptor) -> Result<()> {
        let tag = referrers_tag(subject);
        let doing = || format!("listing it at the tag {tag}");
        let _alone = place.host.tagging.lock().unwrap_or_else(PoisonError::into_inner);
        let found = self.trying(|| self.referrers_tag(place, subject)).doing(doing)?;
        let mut index: Value = match found {
            Some(bytes) => serde_json::from_slice(&bytes).doing(doing)?,
            None => json!({"schemaVersion": 2, "mediaType": media::INDEX, "manifests": []}),
        };
        let listed = index.get_mut("manifests").and_then(Value::as_array_mut);
        let listed = listed.ok_or_else(|| Error::new("what is there is no index").doing(doing()))?;
        let digest = referrer.digest.to_string();
        if listed.iter().any(|d| d.get("digest").and_then(Value::as_str) == Some(&digest)) {
            return Ok(());
        }
        listed.push(serde_json::to_value(referrer).expect("a descriptor is JSON"));
        let bytes = go_json::compact(&index);
        if bytes.len() as u64 > MANIFEST_MAX {
            let why = format!("the index would have {} bytes, and registries take {MANIFEST_MAX}", bytes.len());
            return Err(Error::new(why).doing(doing()));
        }
        self.trying(|| self.put_manifest(place, &tag, media::INDEX, &bytes)).doing(doing).map(Response::drain)
    }
}

/// A manifest as its subject's referrers list it.
fn referrer(descriptor: &Descriptor, manifest: Manifest) -> Descriptor {
    let mut referrer = Descriptor::new(descriptor.media_type.clone(), descriptor.digest.clone(), descriptor.size);
    referrer.artifact_type = match manifest.artifact_type {
        own if !own.is_empty() => own,
        _ => manifest.config.map(|config| config.media_type).unwrap_or_default(),
    };
    referrer.annotations = manifest.annotations;
    referrer
}

/// An upload session at the registry.
struct Session {
    url: String,
    /// Bytes that the registry has.
    at: u64,
    /// The least chunk that it takes, but for the last.
    least: u64,
    /// It broke once, and was taken up again.
    resumed: bool,
}

impl Session {
    fn begun(place: &Place, response: Response) -> Result<Session> {
        let least = response.header("oci-chunk-min-length").and_then(|v| v.parse().ok()).unwrap_or(0);
        let url = next(place, response)?;
        Ok(Session { url, at: 0, least, resumed: false })
    }
}

/// Where the session goes on, as the registry says in `response`.
fn next(place: &Place, response: Response) -> Result<String> {
    let endpoint = place.host.endpoint()?;
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
    place: Place<'a>,
    descriptor: &'a Descriptor,
    source: Source<'a>,
    session: Option<Session>,
    tries: Tries<'a>,
}

impl Upload<'_> {
    fn run(&mut self) -> Result<()> {
        loop {
            let Err(e) = self.attempt() else { return Ok(()) };
            // The source has been tried again already.
            let failure = self.source.failure.take().map_or(e, Error::settled);
            self.source.reader = None;
            let place = &self.place;
            let about = format!("blob {} to {}/{}: ", self.descriptor.digest, place.host.name, place.repository);
            if let Err(e) = self.tries.again(&about, failure) {
                return self.give_up(e);
            }
            while let Err(e) = self.recover() {
                if let Err(e) = self.tries.again(&about, e) {
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
        matches!(self.registries.head_blob(&self.place, self.descriptor), Ok(Ok(())))
    }

    fn give_up(&mut self, why: Error) -> Result<()> {
        if why.again().is_some() && self.is_there() {
            return Ok(());
        }
        if let Some(session) = self.session.take() {
            self.end(session);
        }
        Err(why)
    }

    /// Tells the registry that a session will not go on. It forgets those of which nobody tells it.
    fn end(&self, session: Session) {
        let _ = self.registries.send(&self.place, &Call::to(Method::DELETE, session.url)).map(Response::drain);
    }

    fn attempt(&mut self) -> Result<()> {
        if self.session.is_none() {
            self.session = Some(self.registries.begin(&self.place)?);
        }
        let session = self.session.as_ref().expect("it was begun");
        let (size, chunk) = (self.descriptor.size, self.registries.config.chunk_size);
        let chunk = if chunk == 0 { u64::MAX } else { chunk.max(session.least) };
        if session.at == 0 && size <= chunk {
            return self.finish(size);
        }
        while let Some(session) = self.session.as_mut().filter(|session| session.at < size) {
            let (from, length) = (session.at, chunk.min(size - session.at));
            let call = Call::to(Method::PATCH, session.url.clone())
                .with(CONTENT_TYPE, "application/octet-stream")
                .with(CONTENT_RANGE, format!("{from}-{}", from + length - 1));
            let response = send(self.registries, &self.place, &call, self.source.part(from, length)?, length)?;
            match response.status() {
                status if status.is_success() => {}
                StatusCode::NOT_FOUND | StatusCode::RANGE_NOT_SATISFIABLE => {
                    return Err(response.refusal().transient(Default::default()));
                }
                _ => return Err(response.refusal()),
            }
            let reached = reached(&response).unwrap_or(from + length);
            if reached <= from || reached > from + length {
                let why = format!("sent the bytes up to {}, the registry has {reached}", from + length);
                return Err(Error::new(why).transient(Default::default()));
            }
            session.url = next(&self.place, response)?;
            session.at = reached;
            self.tries.progressed();
        }
        self.source.check()?;
        self.finish(0)
    }

    /// Ends the session, with the last `length` bytes.
    fn finish(&mut self, length: u64) -> Result<()> {
        let session = self.session.as_ref().expect("it was begun");
        let resumed = session.resumed;
        let url = with_parameter(&session.url, "digest", &self.descriptor.digest.to_string());
        let mut call = Call::to(Method::PUT, url).with(CONTENT_TYPE, "application/octet-stream");
        // Now the registry hashes it, or copies it to its place.
        call.slow = true;
        let part = self.source.part(self.descriptor.size - length, length)?;
        let response = send(self.registries, &self.place, &call, part, length)?;
        match response.status() {
            status if status.is_success() => {
                response.drain();
                Ok(())
            }
            StatusCode::NOT_FOUND => Err(response.refusal().transient(Default::default())),
            // What the registry had kept of the broken session is not what was sent.
            status if resumed && status.is_client_error() => {
                self.session = None;
                Err(response.refusal().transient(Default::default()))
            }
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
        let response = self.registries.send(&self.place, &Call::to(Method::GET, session.url.clone()))?;
        let reached = reached(&response).filter(|reached| *reached > 1 && *reached <= self.descriptor.size);
        let Some(session) = self.session.take() else { return Ok(()) };
        match reached {
            Some(at) if response.status().is_success() => {
                let url = match response.header("location") {
                    Some(_) => next(&self.place, response)?,
                    None => session.url,
                };
                self.session = Some(Session { url, at, least: session.least, resumed: true });
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

/// Sends bytes that cannot be sent twice.
fn send(registries: &Registries, place: &Place, call: &Call, mut part: Part, length: u64) -> Result<Response> {
    let endpoint = place.host.endpoint()?;
    let payload = if length == 0 { Payload::Bytes(b"") } else { Payload::Stream(&mut part, length) };
    if let At::Url(url) = &call.at
        && endpoint.is_secure()
        && !url.starts_with("https://")
    {
        return Err(Error::new(format!("the registry wants the blob in the clear, at {}", shown(url))));
    }
    registries.send_to(endpoint, place, call, payload)
}

/// The number of bytes that a registry says it has (`Range: 0-99`). A registry that has none says
/// `0-0`, which would be one.
fn reached(response: &Response) -> Option<u64> {
    let range = response.header("range")?;
    let last: u64 = range.trim_start_matches("bytes=").split_once('-')?.1.parse().ok()?;
    last.checked_add(1)
}

/// A blob's content, hashed as it goes out.
struct Source<'a> {
    descriptor: &'a Descriptor,
    open: Open<'a>,
    reader: Option<Box<dyn Read + 'a>>,
    /// Where the reader stands.
    at: u64,
    hasher: Option<Hasher>,
    /// Bytes that were hashed, once each.
    hashed: u64,
    /// Why the content cannot be sent: that is no fault of the registry's.
    failure: Option<Error>,
}

impl<'a> Source<'a> {
    fn new(descriptor: &'a Descriptor, open: Open<'a>) -> Source<'a> {
        Source {
            descriptor,
            open,
            reader: None,
            at: 0,
            hasher: Some(descriptor.digest.hasher()),
            hashed: 0,
            failure: None,
        }
    }

    /// The next `length` bytes, from `from` on.
    fn part<'s>(&'s mut self, from: u64, length: u64) -> Result<Part<'s, 'a>> {
        if length == 0 && from <= self.hashed {
            return Ok(Part { source: self, left: 0 });
        }
        if self.reader.is_none() || self.at != from {
            // What nobody has hashed yet is read again, so that all of it is.
            let from = from.min(self.hashed);
            self.reader = Some((self.open)(from)?);
            self.at = from;
        }
        let left = from - self.at;
        let mut part = Part { source: self, left };
        io::copy(&mut part, &mut io::sink())
            .map_err(|e| part.source.failure.take().unwrap_or_else(|| Error::new(e)))?;
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
            false => Err(Error::new(format!("digest mismatch: what came was {found}"))),
        }
    }
}

/// A part of a blob that is being sent.
struct Part<'s, 'a> {
    source: &'s mut Source<'a>,
    left: u64,
}

impl Part<'_, '_> {
    fn next(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let room = buffer.len().min(self.left.try_into().unwrap_or(usize::MAX));
        let source = &mut *self.source;
        let reader = source.reader.as_mut().ok_or_else(|| Error::new("the source is gone"))?;
        let n = loop {
            match reader.read(&mut buffer[..room]) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => crate::signal::check()?,
                other => break other.doing(|| format!("at byte {} of {}", source.at, source.descriptor.size))?,
            }
        };
        if n == 0 && room > 0 {
            return Err(Error::new(format!("it ended after {} of {} bytes", source.at, source.descriptor.size)));
        }
        let known = (source.hashed - source.at).min(n as u64) as usize;
        if let Some(hasher) = &mut source.hasher {
            hasher.update(&buffer[known..n]);
        }
        source.at += n as u64;
        source.hashed = source.hashed.max(source.at);
        self.left -= n as u64;
        // Before the last byte goes out: what is wrong is not offered at all. The read after the last
        // byte also gives the source's connection back.
        if source.at == source.descriptor.size {
            if matches!(reader.read(&mut [0]), Ok(1..)) {
                return Err(Error::new(format!("it is longer than {} bytes", source.at)));
            }
            source.check()?;
        }
        Ok(n)
    }
}

impl Read for Part<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Ok(0);
        }
        self.next(buffer).map_err(|e| {
            self.source.failure.get_or_insert(e.clone());
            io::Error::other(e)
        })
    }
}
