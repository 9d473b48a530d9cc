//! What refers to a manifest: by the referrers API, or by the referrers tag schema where the API is missing
//! (distribution specification, "Listing Referrers").

use std::sync::PoisonError;

use serde_json::{Value, json};
use ureq::http::{Method, StatusCode, header::ACCEPT};

use super::{
    client::{Access, Call, Registries, RepositoryAccess, RequestTarget, UNSTATED_MANIFEST_MAX},
    transport::{
        encoding::looks_like,
        http::{Response, next_page},
        url::{shown, with_parameter},
    },
};
use crate::{
    config::ReferrersSupport,
    error::{Context, Error, ErrorKind, Result},
    log,
    oci::{Descriptor, Digest, Manifest, Repository, json as go_json, layout::MANIFEST_SIZE_MAX, media},
};

/// More pages of referrers than an honest registry has for one manifest.
const PAGES_MAX: usize = 1000;

/// What the referrers API answers.
enum ByApi {
    /// It lists these.
    Listed(Vec<Descriptor>),
    /// There is none, as the specification lets a registry be: why.
    Missing(String),
    /// It is of no use: why.
    Refused(String),
}

impl Registries {
    /// What refers to a manifest, in the order in which the registry lists it: by the referrers
    /// API, or by the referrers tag schema where the API is missing or refused. If there are `types`, only
    /// artifacts of these. Never the manifest itself.
    ///
    /// # Errors
    /// If the registry cannot be asked, or is configured to have the API and refuses it.
    pub fn referrers(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        types: &[String],
    ) -> Result<Vec<Descriptor>> {
        let doing = || format!("listing the referrers of {} in {repository}", descriptor.digest);
        let access = self.access(repository, Access::Pull)?;
        let by_tag = || self.trying(|| self.referrers_by_tag(&access, &descriptor.digest));
        let found = match access.host.referrers(&repository.path) {
            ReferrersSupport::Tag => by_tag(),
            way => match self.trying(|| self.referrers_by_api(&access, &descriptor.digest, types)) {
                Ok(ByApi::Missing(why)) if way == ReferrersSupport::Auto => {
                    if access.host.lacks_referrers_api(&repository.path) {
                        let name = &access.host.name;
                        log::info(format_args!("{name} has no referrers API, so referrers are found by tag: {why}"));
                    }
                    by_tag()
                }
                Ok(ByApi::Refused(why)) if way == ReferrersSupport::Auto => {
                    access.host.lacks_referrers_api(&repository.path);
                    if access.host.refuses_referrers() {
                        let name = &access.host.name;
                        log::warn(format_args!(
                            "{name} does not answer by its referrers API, so referrers are found by tag: {why}"
                        ));
                    }
                    by_tag()
                }
                Ok(ByApi::Missing(why) | ByApi::Refused(why)) => {
                    Err(Error::new(format!("the endpoint has no referrers API, but is configured to have one: {why}")))
                }
                Ok(ByApi::Listed(found)) => Ok(found),
                Err(e) => Err(e),
            },
        };
        let mut found = found.doing(doing)?;
        // Not every registry filters.
        found.retain(|d| d.digest != descriptor.digest && (types.is_empty() || types.contains(&d.artifact_type)));
        Ok(found)
    }

    fn referrers_by_api(&self, access: &RepositoryAccess, digest: &Digest, types: &[String]) -> Result<ByApi> {
        let mut path = format!("referrers/{digest}");
        if let [only] = types {
            path = with_parameter(&path, "artifactType", only);
        }
        let mut call = Call::new(Method::GET, path).with(ACCEPT, media::INDEX);
        let (mut all, mut size) = (Vec::new(), 0);
        for page in 0..PAGES_MAX {
            let first = page == 0;
            let response = match self.send(access, &call) {
                // Nor is it open to those who may pull.
                Err(e) if first && is_refusal(&e) => return Ok(ByApi::Refused(e.to_string())),
                other => other?,
            };
            let is_refusal = response.status().is_client_error() || response.status() == StatusCode::NOT_IMPLEMENTED;
            if first && is_refusal {
                let is_missing = response.status() == StatusCode::NOT_FOUND;
                let why = response.refusal().to_string();
                return Ok(if is_missing { ByApi::Missing(why) } else { ByApi::Refused(why) });
            }
            let response = response.expect_ok()?;
            let next = self.next_url(access, &response)?;
            let bytes = response.bytes(UNSTATED_MANIFEST_MAX)?;
            size += bytes.len() as u64;
            if size > MANIFEST_SIZE_MAX {
                return Err(Error::new(format!("the registry lists more than {MANIFEST_SIZE_MAX} bytes of referrers")));
            }
            match listed(&bytes) {
                Ok(found) => all.extend(found),
                Err(why) if first => return Ok(ByApi::Refused(why)),
                Err(why) => return Err(Error::new(why)),
            }
            match next {
                Some(url) => call.at = RequestTarget::Url(url),
                None => return Ok(ByApi::Listed(all)),
            }
        }
        Err(Error::new(format!("the registry lists more than {PAGES_MAX} pages")))
    }

    /// Where the page lies that follows an answer, if one does; it must lie on the same server.
    ///
    /// # Errors
    /// If it does not.
    pub(super) fn next_url(&self, access: &RepositoryAccess, response: &Response) -> Result<Option<String>> {
        let Some(link) = response.headers("link").find_map(next_page) else { return Ok(None) };
        let endpoint = access.host.endpoint()?;
        let next = endpoint.locate(response.url(), &link)?;
        match endpoint.is_at(&next) {
            true => Ok(Some(next)),
            false => Err(Error::new(format!("the registry refers to another server, {}", shown(&next)))),
        }
    }

    /// What the index at a manifest's referrers tag lists. What is no index there lists nothing, and neither does the
    /// manifest itself, which some registries give under this tag.
    fn referrers_by_tag(&self, access: &RepositoryAccess, digest: &Digest) -> Result<Vec<Descriptor>> {
        let Some(bytes) = self.referrers_tag(access, digest)?.filter(|bytes| !digest.matches(bytes)) else {
            return Ok(Vec::new());
        };
        let is_other = Manifest::own_media_type(&bytes).is_some_and(|own| !media::is_index(&own));
        listed(&bytes).or_else(|why| {
            if !is_other {
                let (name, tag) = (access.repository, referrers_tag(digest));
                log::warn(format_args!("{name}:{tag} should list referrers, and lists none: {why}"));
            }
            Ok(Vec::new())
        })
    }

    /// What lies at a manifest's referrers tag, if there is anything.
    fn referrers_tag(&self, access: &RepositoryAccess, digest: &Digest) -> Result<Option<Vec<u8>>> {
        let path = format!("manifests/{}", referrers_tag(digest));
        let response = self.send(access, &Call::new(Method::GET, path).with(ACCEPT, media::INDEX))?;
        match response.status() {
            // A registry that knows neither way may not even take the name.
            StatusCode::NOT_FOUND
            | StatusCode::BAD_REQUEST
            | StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::NOT_ACCEPTABLE
            | StatusCode::GONE
            | StatusCode::NOT_IMPLEMENTED => {
                response.drain();
                Ok(None)
            }
            _ => response.expect_ok()?.bytes(MANIFEST_SIZE_MAX).map(Some),
        }
    }

    /// Adds a referrer to the index at its subject's referrers tag (distribution specification,
    /// "Referrers tag schema").
    ///
    /// # Errors
    /// If what is there is no index, or the registry does not take the new one.
    pub(super) fn list_referrer(
        &self,
        access: &RepositoryAccess,
        subject: &Digest,
        referrer: &Descriptor,
    ) -> Result<()> {
        let tag = referrers_tag(subject);
        let doing = || format!("listing it at the tag {tag}");
        let _alone = access.host.tagging.lock().unwrap_or_else(PoisonError::into_inner);
        let found = self.trying(|| self.referrers_tag(access, subject)).doing(doing)?;
        let mut index: Value = match found.filter(|bytes| !subject.matches(bytes)) {
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
        if bytes.len() as u64 > UNSTATED_MANIFEST_MAX {
            let why =
                format!("the index would have {} bytes, and registries take {UNSTATED_MANIFEST_MAX}", bytes.len());
            return Err(Error::new(why).doing(doing()));
        }
        self.trying(|| self.put_manifest(access, &tag, media::INDEX, &bytes)).doing(doing).map(Response::drain)
    }
}

/// What an index lists.
///
/// # Errors
/// If it is none.
fn listed(bytes: &[u8]) -> Result<Vec<Descriptor>, String> {
    match (Manifest::own_media_type(bytes), looks_like(bytes)) {
        (Some(own), _) if media::is_index(&own) => Ok(Manifest::parse(&own, bytes)?.manifests),
        (Some(other), _) => Err(format!("what it sent is no index, but {other:?}")),
        (None, Some(other)) => Err(format!("what it sent is no index, but {other}")),
        (None, None) => Err("what it sent is no index".into()),
    }
}

/// Whether a registry said no, so that to ask it in another way is worth a try.
fn is_refusal(error: &Error) -> bool {
    error.is(ErrorKind::Failed) && error.retry_after().is_none()
}

/// The tag under which the referrers of a manifest are listed where there is no API for them; a tag
/// has room for 64 digits of the digest.
fn referrers_tag(digest: &Digest) -> String {
    format!("{}-{}", digest.algorithm(), &digest.hex()[..64])
}
