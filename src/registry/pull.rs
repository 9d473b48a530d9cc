//! What is asked of a registry: manifests, blobs, and what refers to what.

use std::{io::Read, sync::Arc};

use ureq::http::{Method, StatusCode, header::ACCEPT};

use crate::registry::{
    client::{Access, At, Call, MANIFEST_LIMIT, MANIFEST_MAX, Place, Registries, check},
    resuming_body::Resuming,
    transport::{
        http::{self, Request},
        url,
    },
};
use crate::{
    config::Referrers,
    error::{Context, Error, Result},
    oci::{Descriptor, Digest, Manifest, Reference, media},
};

/// More pages of referrers than an honest registry has for one manifest.
const PAGES_MAX: usize = 1000;

impl Registries {
    /// Finds what a reference points to, in one request.
    pub fn resolve(&self, reference: &Reference) -> Result<(Descriptor, Arc<[u8]>)> {
        let place = self.place(&reference.registry, &reference.repository, Access::Pull)?;
        let (announced, claimed, bytes) = self.trying(|| {
            let response = self.get_manifest(&place, &reference.target())?;
            let header = |name: &str| response.header(name);
            let announced = header("content-type").map(|t| t.split(';').next().unwrap_or("").trim().to_string());
            let claimed = header("docker-content-digest").and_then(|d| d.parse::<Digest>().ok());
            Ok((announced, claimed, response.bytes(MANIFEST_MAX)?))
        })?;
        let digest = match &reference.digest {
            Some(digest) => digest.clone(),
            None => claimed.unwrap_or_else(|| Digest::of(&bytes)),
        };
        check(&digest, &bytes)?;
        let media_type = match announced.filter(|t| media::is_manifest(t)) {
            Some(media_type) => media_type,
            None => stated_media_type(&bytes)?,
        };
        Manifest::parse(&media_type, &bytes).map_err(Error::new)?;
        Ok((Descriptor::new(media_type, digest, bytes.len() as u64), bytes.into()))
    }

    /// A manifest's bytes, checked against the descriptor.
    pub fn manifest(&self, registry: &str, repository: &str, descriptor: &Descriptor) -> Result<Arc<[u8]>> {
        let doing = || format!("fetching manifest {} of {registry}/{repository}", descriptor.digest);
        if descriptor.size > MANIFEST_LIMIT {
            let why = format!("it claims {} bytes; a manifest has at most {MANIFEST_LIMIT}", descriptor.size);
            return Err(Error::new(why).doing(doing()));
        }
        let place = self.place(registry, repository, Access::Pull)?;
        let get = || self.get_manifest(&place, &descriptor.digest.to_string())?.bytes(descriptor.size);
        let bytes = self.trying(get).doing(doing)?;
        check(&descriptor.digest, &bytes).doing(doing)?;
        Ok(bytes.into())
    }

    fn get_manifest(&self, place: &Place, target: &str) -> Result<http::Response> {
        let call = Call::new(Method::GET, format!("manifests/{target}")).with(ACCEPT, media::ACCEPT);
        let response = self.send(place, &call)?;
        if response.status() == StatusCode::NOT_FOUND {
            return Err(response.refusal().doing("there is no such manifest"));
        }
        response.expect_ok()
    }

    /// A blob's bytes from `from` on, unchecked. What breaks is taken up again. A layer that the
    /// registry does not have is sought at its URLs.
    pub fn blob(
        &self,
        registry: &str,
        repository: &str,
        descriptor: &Descriptor,
        from: u64,
    ) -> Result<Box<dyn Read + '_>> {
        if from > 0 && from >= descriptor.size {
            return Ok(Box::new(std::io::empty()));
        }
        let place = self.place(registry, repository, Access::Pull)?;
        let mut body = Resuming::new(self, (registry, repository), descriptor, from);
        match self.trying(|| body.open(&place))? {
            Ok(()) => Ok(Box::new(body)),
            Err(missing) => self.foreign(descriptor, from, missing),
        }
    }

    /// A layer from the URLs in its descriptor; `missing` says that it is not in the registry.
    fn foreign(&self, descriptor: &Descriptor, from: u64, mut missing: Error) -> Result<Box<dyn Read + '_>> {
        for url in &descriptor.urls {
            let get = || self.outside.send(Request::get(url)).and_then(http::Response::unless_busy)?.expect_ok();
            match self.trying(get) {
                Ok(response) => {
                    let mut body = response.body();
                    std::io::copy(&mut (&mut body).take(from), &mut std::io::sink()).doing(|| url::shown(url))?;
                    return Ok(body);
                }
                Err(e) => {
                    let what = format!("foreign layer {}", url::shown(url));
                    missing = Error::new(format!("{missing}; {}", e.doing(what)));
                }
            }
        }
        Err(missing)
    }

    /// Whether a blob is there, without fetching it.
    pub fn has_blob(&self, registry: &str, repository: &str, descriptor: &Descriptor) -> Result<()> {
        if !descriptor.urls.is_empty() {
            return self.blob(registry, repository, descriptor, 0).map(drop);
        }
        let place = self.place(registry, repository, Access::Pull)?;
        self.trying(|| self.head_blob(&place, descriptor)?)
    }

    /// The inner error says that there is no such blob.
    pub(super) fn head_blob(&self, place: &Place, descriptor: &Descriptor) -> Result<Result<()>> {
        let response = self.send(place, &Call::new(Method::HEAD, format!("blobs/{}", descriptor.digest)))?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(Err(response.refusal().doing("there is no such blob")));
        }
        let response = response.expect_ok()?;
        let length = response.header("content-length").and_then(|length| length.parse::<u64>().ok());
        match length.filter(|length| *length != descriptor.size) {
            Some(length) => {
                Err(Error::new(format!("it has {length} bytes there, its descriptor says {}", descriptor.size)))
            }
            None => Ok(Ok(())),
        }
    }

    /// What refers to a manifest, in the order in which the registry lists it: by the referrers
    /// API, or by the referrers tag schema where the API is missing. If there are `types`, only
    /// artifacts of these.
    pub fn referrers(
        &self,
        registry: &str,
        repository: &str,
        descriptor: &Descriptor,
        types: &[String],
    ) -> Result<Vec<Descriptor>> {
        let doing = || format!("listing the referrers of {} in {registry}/{repository}", descriptor.digest);
        let place = self.place(registry, repository, Access::Pull)?;
        let by_tag = || self.trying(|| self.referrers_by_tag(&place, &descriptor.digest));
        let found = match place.host.referrers(repository) {
            Referrers::Tag => by_tag(),
            way => match self.trying(|| self.referrers_by_api(&place, &descriptor.digest, types)) {
                Ok(None) if way == Referrers::Auto => {
                    place.host.lacks_referrers_api(repository);
                    by_tag()
                }
                Ok(None) => Err(Error::new("the endpoint has no referrers API, but is configured to have one")),
                Ok(Some(found)) => Ok(found),
                Err(e) => Err(e),
            },
        };
        let mut found = found.doing(doing)?;
        // Not every registry filters.
        found.retain(|d| types.is_empty() || types.contains(&d.artifact_type));
        Ok(found)
    }

    /// `None` if the endpoint has no referrers API.
    fn referrers_by_api(&self, place: &Place, digest: &Digest, types: &[String]) -> Result<Option<Vec<Descriptor>>> {
        let mut path = format!("referrers/{digest}");
        if let [only] = types {
            path = url::with_parameter(&path, "artifactType", only);
        }
        let mut call = Call::new(Method::GET, path).with(ACCEPT, media::INDEX);
        let (mut all, mut size) = (Vec::new(), 0);
        for _ in 0..PAGES_MAX {
            let response = self.send(place, &call)?;
            if matches!(response.status(), StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED) && all.is_empty() {
                return Ok(None);
            }
            let response = response.expect_ok()?;
            let next = match response.headers("link").find_map(http::next_page) {
                Some(link) => Some(self.next_url(place, response.url(), &link)?),
                None => None,
            };
            let bytes = response.bytes(MANIFEST_MAX)?;
            size += bytes.len() as u64;
            if size > MANIFEST_LIMIT {
                return Err(Error::new(format!("the registry lists more than {MANIFEST_LIMIT} bytes of referrers")));
            }
            all.extend(Manifest::parse(media::INDEX, &bytes).map_err(Error::new)?.manifests);
            match next {
                Some(url) => call.at = At::Url(url),
                None => return Ok(Some(all)),
            }
        }
        Err(Error::new(format!("the registry lists more than {PAGES_MAX} pages")))
    }

    /// Where the next page lies; it must lie on the same server.
    fn next_url(&self, place: &Place, url: &str, link: &str) -> Result<String> {
        let endpoint = place.host.endpoint()?;
        let next = endpoint.locate(url, link)?;
        match endpoint.is_at(&next) {
            true => Ok(next),
            false => Err(Error::new(format!("the registry refers to another server, {}", url::shown(&next)))),
        }
    }

    fn referrers_by_tag(&self, place: &Place, digest: &Digest) -> Result<Vec<Descriptor>> {
        Ok(match self.referrers_tag(place, digest)? {
            Some(bytes) => Manifest::parse(media::INDEX, &bytes).map_err(Error::new)?.manifests,
            None => Vec::new(),
        })
    }

    /// The index at a manifest's referrers tag, if there is one.
    pub(super) fn referrers_tag(&self, place: &Place, digest: &Digest) -> Result<Option<Vec<u8>>> {
        let path = format!("manifests/{}", referrers_tag(digest));
        let response = self.send(place, &Call::new(Method::GET, path).with(ACCEPT, media::INDEX))?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(None),
            _ => response.expect_ok()?.bytes(MANIFEST_LIMIT).map(Some),
        }
    }
}

/// The tag under which the referrers of a manifest are listed where there is no API for them; a tag
/// has room for 64 digits of the digest.
pub(super) fn referrers_tag(digest: &Digest) -> String {
    format!("{}-{}", digest.algorithm(), &digest.hex()[..64])
}

/// The media type that a manifest states of itself, for servers that announce none.
fn stated_media_type(bytes: &[u8]) -> Result<String> {
    let manifest: Manifest = serde_json::from_slice(bytes)
        .map_err(|e| Error::new(format!("what the registry sent is not a manifest: {e}")))?;
    match manifest.media_type {
        stated if media::is_manifest(&stated) => Ok(stated),
        stated if stated.is_empty() => Err(Error::new("neither the registry nor the manifest says what type it is")),
        stated => Err(Error::new(format!("{stated:?} is not a type of manifest that can be copied"))),
    }
}
