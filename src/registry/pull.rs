//! What is asked of a registry: manifests, blobs, and what refers to what.

use std::{
    io::{self, Read},
    sync::Arc,
};

use ureq::http::{Method, StatusCode, header::ACCEPT};

use super::{
    client::{Access, Call, Registries, RepositoryAccess, UNSTATED_MANIFEST_MAX, check_digest},
    resuming_body::ResumingBody,
    transport::{
        encoding::looks_like,
        http::{Request, Response},
        url::shown,
    },
};
use crate::{
    error::{Context, Error, ErrorKind, Result},
    oci::{Descriptor, Digest, Manifest, Reference, Repository, layout::MANIFEST_SIZE_MAX, media},
};

impl Registries {
    /// Finds what a reference points to, in one request.
    ///
    /// # Errors
    /// If the registry does not have it, or what it sends is no manifest or has another digest.
    pub fn resolve(&self, reference: &Reference) -> Result<(Descriptor, Arc<[u8]>)> {
        let access = self.access(&reference.repository, Access::Pull)?;
        let (announced, claimed, bytes) = self.trying(|| {
            let response = self.get_manifest(&access, &reference.target())?;
            let header = |name: &str| response.header(name);
            let announced = header("content-type").map(|t| t.split(';').next().unwrap_or("").trim().to_string());
            let claimed = header("docker-content-digest").and_then(|d| d.parse::<Digest>().ok());
            Ok((announced, claimed, response.bytes(UNSTATED_MANIFEST_MAX)?))
        })?;
        let digest = match &reference.digest {
            Some(digest) => digest.clone(),
            None => claimed.unwrap_or_else(|| Digest::of(&bytes)),
        };
        check_digest(&digest, &bytes)?;
        let media_type = match announced.filter(|t| media::is_manifest(t)) {
            Some(media_type) => media_type,
            None => own_media_type(&bytes)?,
        };
        Manifest::parse(&media_type, &bytes).map_err(Error::new)?;
        Ok((Descriptor::new(media_type, digest, bytes.len() as u64), bytes.into()))
    }

    /// A manifest's bytes, checked against the descriptor.
    ///
    /// # Errors
    /// As [`Registries::resolve`].
    pub fn manifest(&self, repository: &Repository, descriptor: &Descriptor) -> Result<Arc<[u8]>> {
        let doing = || format!("fetching manifest {} of {repository}", descriptor.digest);
        if descriptor.size > MANIFEST_SIZE_MAX {
            let why = format!("it claims {} bytes; a manifest has at most {MANIFEST_SIZE_MAX}", descriptor.size);
            return Err(Error::new(why).doing(doing()));
        }
        let access = self.access(repository, Access::Pull)?;
        let get = || self.get_manifest(&access, &descriptor.digest.to_string())?.bytes(descriptor.size);
        let bytes = self.trying(get).doing(doing)?;
        check_digest(&descriptor.digest, &bytes).doing(doing)?;
        Ok(bytes.into())
    }

    /// The manifest at a tag or under a digest.
    ///
    /// # Errors
    /// If there is none, or the registry refuses it.
    pub(super) fn get_manifest(&self, access: &RepositoryAccess, target: &str) -> Result<Response> {
        let call = Call::new(Method::GET, format!("manifests/{target}")).with(ACCEPT, media::ACCEPT);
        let response = self.send(access, &call)?;
        if response.status() == StatusCode::NOT_FOUND {
            return Err(response.refusal().doing("there is no such manifest").of(ErrorKind::Missing));
        }
        response.expect_ok()
    }

    /// A blob's bytes from `from` on, unchecked. What breaks is taken up again. A layer that the
    /// registry does not have is sought at its URLs.
    ///
    /// # Errors
    /// If it is nowhere.
    pub fn blob(&self, repository: &Repository, descriptor: &Descriptor, from: u64) -> Result<Box<dyn Read + '_>> {
        if from > 0 && from >= descriptor.size {
            return Ok(Box::new(io::empty()));
        }
        let access = self.access(repository, Access::Pull)?;
        let mut body = ResumingBody::new(self, repository, descriptor, from);
        match self.trying(|| body.open(&access))? {
            Ok(()) => Ok(Box::new(body)),
            Err(missing) => self.foreign(descriptor, from, missing),
        }
    }

    /// A layer from the URLs in its descriptor; `missing` says that it is not in the registry.
    fn foreign(&self, descriptor: &Descriptor, from: u64, mut missing: Error) -> Result<Box<dyn Read + '_>> {
        for url in &descriptor.urls {
            let get = || self.outside.send(Request::get(url)).and_then(Response::unless_busy)?.expect_ok();
            match self.trying(get) {
                Ok(response) => {
                    let mut body = response.body();
                    io::copy(&mut (&mut body).take(from), &mut io::sink()).doing(|| shown(url))?;
                    return Ok(body);
                }
                Err(e) => {
                    let what = format!("foreign layer {}", shown(url));
                    missing = Error::new(format!("{missing}; {}", e.doing(what)));
                }
            }
        }
        Err(missing)
    }

    /// Finds out whether a blob is there, without fetching it.
    ///
    /// # Errors
    /// If it is not there in the size that its descriptor says.
    pub fn has_blob(&self, repository: &Repository, descriptor: &Descriptor) -> Result<()> {
        if !descriptor.urls.is_empty() {
            return self.blob(repository, descriptor, 0).map(drop);
        }
        let access = self.access(repository, Access::Pull)?;
        if self.trying(|| self.head_blob(&access, descriptor)).unwrap_or(false) {
            return Ok(());
        }
        // Not every registry answers HEAD as it answers GET, and GET is what counts.
        let mut body = ResumingBody::new(self, repository, descriptor, 0);
        self.trying(|| body.open(&access)?)
    }

    /// Whether a registry says, asked by HEAD, that it has a blob in the size of its descriptor. If it does not, that
    /// is not known: some answer HEAD with a refusal, a redirect that takes GET only, or a length of 0.
    ///
    /// # Errors
    /// If the registry cannot be asked.
    pub(super) fn head_blob(&self, access: &RepositoryAccess, descriptor: &Descriptor) -> Result<bool> {
        let response = self.send(access, &Call::new(Method::HEAD, format!("blobs/{}", descriptor.digest)))?;
        Ok(response.status().is_success() && response.length().is_none_or(|length| length == descriptor.size))
    }
}

/// The type of a manifest of which the server announces none: what it states of itself, or what its content shows.
fn own_media_type(bytes: &[u8]) -> Result<String> {
    match (Manifest::own_media_type(bytes), looks_like(bytes)) {
        (Some(own), _) if media::is_manifest(&own) => Ok(own),
        (Some(other), _) => Err(Error::new(format!("{other:?} is not a type of manifest that can be copied"))),
        (None, Some(other)) => Err(Error::new(format!("what the registry sent is not a manifest, but {other}"))),
        (None, None) => Err(match serde_json::from_slice::<Manifest>(bytes) {
            Err(e) => Error::new(format!("what the registry sent is not a manifest: {e}")),
            Ok(_) => Error::new("neither the registry nor the manifest says what type it is"),
        }),
    }
}
