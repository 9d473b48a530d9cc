//! Registries over HTTP and HTTPS: the client side of the OCI distribution specification 1.1.
//!
//! - `endpoint`: where a registry is reached, and how its URLs are made;
//! - `http`: one request, its errors in words;
//! - `retry` and `body`: what is tried again, and bodies that survive their connection;
//! - `tls`: authorities and client certificates;
//! - `auth`: challenges, tokens and the header that answers them;
//! - `credentials`: the auth files.
//!
//! Whatever a server says is bounded when it is read and checked before it counts. A manifest's
//! digest is always computed from its bytes.

mod auth;
mod body;
mod credentials;
mod endpoint;
mod http;
mod retry;
mod tls;

use std::{
    collections::HashMap,
    io::Read,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use ureq::http::StatusCode;

use crate::{
    config::{Config, Referrers},
    error::{Context, Error, Result},
    oci::{Descriptor, Digest, Manifest, Reference, media},
};
use body::Resuming;
use credentials::Credentials;
use endpoint::{Endpoint, Host};
use http::Request;
pub use retry::Patience;
use retry::Tries;

/// A manifest is at most this long, unless its descriptor says more.
const MANIFEST_MAX: u64 = 4 << 20;
/// No manifest is longer than this, whatever its descriptor says.
const MANIFEST_LIMIT: u64 = 64 << 20;
/// More pages of referrers than an honest registry has for one manifest.
const PAGES_MAX: usize = 1000;

/// All the registries that a run talks to. One request is in flight for each thread that asks.
pub struct Registries {
    config: Config,
    patience: Patience,
    /// Set when every request is to end.
    closed: AtomicBool,
    credentials: Credentials,
    hosts: Mutex<HashMap<String, Arc<Host>>>,
    /// For what lies outside of registries: foreign layers and token servers.
    outside: http::Agent,
}

/// A body that is being read. After the last byte, read on to give the connection back.
pub type Body = Box<dyn Read + Send>;

impl Registries {
    /// # Errors
    /// If the auth file that the configuration names cannot be read.
    pub fn new(config: Config, patience: Patience) -> Result<Registries> {
        Ok(Registries {
            credentials: Credentials::load(config.auth_file.as_deref())?,
            outside: http::Agent::new(patience.idle, config.concurrent_http, tls::Material::default()),
            hosts: Mutex::new(HashMap::new()),
            closed: AtomicBool::new(false),
            config,
            patience,
        })
    }

    /// Finds what a reference points to, in one request.
    pub fn resolve(&self, reference: &Reference) -> Result<(Descriptor, Arc<[u8]>)> {
        let (host, repository) = (self.host(&reference.registry)?, &reference.repository);
        let (announced, claimed, bytes) = self.trying(|| {
            let response = self.get_manifest(&host, repository, &reference.target())?;
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
        let host = self.host(registry)?;
        let get = || self.get_manifest(&host, repository, &descriptor.digest.to_string())?.bytes(descriptor.size);
        let bytes = self.trying(get).doing(doing)?;
        check(&descriptor.digest, &bytes).doing(doing)?;
        Ok(bytes.into())
    }

    fn get_manifest(&self, host: &Host, repository: &str, target: &str) -> Result<http::Response> {
        let request = Request::new(format!("manifests/{target}"), Some(media::ACCEPT));
        let response = self.send_once(host, repository, &request, false)?;
        if response.status() == StatusCode::NOT_FOUND {
            return Err(response.refusal().doing("there is no such manifest"));
        }
        response.expect_ok()
    }

    /// A blob's bytes, unchecked. What breaks is taken up again. A layer that the registry does not
    /// have is sought at its URLs.
    pub fn blob(&self, registry: &str, repository: &str, descriptor: &Descriptor) -> Result<Box<dyn Read + '_>> {
        let request = Request::new(format!("blobs/{}", descriptor.digest), None);
        let host = self.host(registry)?;
        let response = self.trying(|| self.send_once(&host, repository, &request, false))?;
        if response.status() != StatusCode::NOT_FOUND {
            let response = response.expect_ok()?;
            return Ok(Box::new(Resuming::new(self, (registry, repository), descriptor, response)));
        }
        let mut missing = response.refusal().doing("there is no such blob");
        for url in &descriptor.urls {
            let get = || self.outside.get(url, &[]).and_then(http::Response::unless_busy)?.expect_ok();
            match self.trying(get) {
                Ok(response) => return Ok(response.body()),
                Err(e) => missing = Error::new(format!("{missing}; {}", e.doing(format!("foreign layer {url}")))),
            }
        }
        Err(missing)
    }

    /// Whether a blob is there, without fetching it.
    pub fn has_blob(&self, registry: &str, repository: &str, descriptor: &Descriptor) -> Result<()> {
        if !descriptor.urls.is_empty() {
            return self.blob(registry, repository, descriptor).map(drop);
        }
        let request = Request::new(format!("blobs/{}", descriptor.digest), None);
        let host = self.host(registry)?;
        let response = self.trying(|| self.send_once(&host, repository, &request, true))?;
        match response.status() {
            StatusCode::NOT_FOUND => Err(response.refusal().doing("there is no such blob")),
            _ => response.expect_ok().map(drop),
        }
    }

    /// What refers to a manifest, in the order in which the registry lists it: by the referrers
    /// API, or by the referrers tag schema where the API is missing.
    pub fn referrers(&self, registry: &str, repository: &str, descriptor: &Descriptor) -> Result<Vec<Descriptor>> {
        let doing = || format!("listing the referrers of {} in {registry}/{repository}", descriptor.digest);
        let host = self.host(registry)?;
        let by_tag = || self.trying(|| self.referrers_by_tag(&host, repository, &descriptor.digest));
        let found = match host.referrers() {
            Referrers::Tag => by_tag(),
            way => match self.trying(|| self.referrers_by_api(&host, repository, &descriptor.digest)) {
                Ok(None) if way == Referrers::Auto => {
                    host.lacks_referrers_api();
                    by_tag()
                }
                Ok(None) => Err(Error::new("the endpoint has no referrers API, but is configured to have one")),
                Ok(Some(found)) => Ok(found),
                Err(e) => Err(e),
            },
        };
        found.doing(doing)
    }

    /// `None` if the endpoint has no referrers API.
    fn referrers_by_api(&self, host: &Host, repository: &str, digest: &Digest) -> Result<Option<Vec<Descriptor>>> {
        let mut request = Request::new(format!("referrers/{digest}"), Some(media::INDEX));
        let mut all = Vec::new();
        for _ in 0..PAGES_MAX {
            let response = self.send_once(host, repository, &request, false)?;
            if matches!(response.status(), StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED) && all.is_empty() {
                return Ok(None);
            }
            let response = response.expect_ok()?;
            let next = response.header("link").and_then(http::next_page);
            let bytes = response.bytes(MANIFEST_MAX)?;
            all.extend(Manifest::parse(media::INDEX, &bytes).map_err(Error::new)?.manifests);
            match next {
                Some(path) => request.path = path,
                None => return Ok(Some(all)),
            }
        }
        Err(Error::new(format!("the registry lists more than {PAGES_MAX} pages")))
    }

    fn referrers_by_tag(&self, host: &Host, repository: &str, digest: &Digest) -> Result<Vec<Descriptor>> {
        let path = format!("manifests/{}-{}", digest.algorithm(), digest.hex());
        let response = self.send_once(host, repository, &Request::new(path, Some(media::INDEX)), false)?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(Vec::new());
        }
        let bytes = response.expect_ok()?.bytes(MANIFEST_MAX)?;
        Ok(Manifest::parse(media::INDEX, &bytes).map_err(Error::new)?.manifests)
    }

    /// Does something again as long as it fails in passing.
    fn trying<T>(&self, attempt: impl Fn() -> Result<T>) -> Result<T> {
        let mut tries = self.tries();
        loop {
            match attempt() {
                Ok(done) => return Ok(done),
                Err(e) => tries.again("", e)?,
            }
        }
    }

    fn tries(&self) -> Tries<'_> {
        Tries::new(self.patience, &self.closed)
    }

    /// Sends a request by the first endpoint that answers, and stays with it from then on.
    fn send_once(&self, host: &Host, repository: &str, request: &Request, head: bool) -> Result<http::Response> {
        let send = |endpoint: &Endpoint| self.send(host, endpoint, repository, request, head);
        if let Some(endpoint) = host.chosen() {
            return send(endpoint);
        }
        let mut refused = Vec::new();
        for (n, endpoint) in host.endpoints.iter().enumerate() {
            match send(endpoint) {
                Ok(response) => {
                    host.choose(n);
                    return Ok(response);
                }
                Err(e) => refused.push(e),
            }
        }
        if refused.len() == 1 {
            return Err(refused.remove(0));
        }
        let all: Vec<String> = refused.iter().map(Error::to_string).collect();
        let error = Error::new(format!("no endpoint of {} answers: {}", host.name, all.join("; ")));
        Err(match refused.iter().filter_map(Error::again).max() {
            Some(pause) => error.transient(pause),
            None => error,
        })
    }

    /// Sends one request, answering one challenge if there is one.
    fn send(
        &self,
        host: &Host,
        endpoint: &Endpoint,
        repository: &str,
        request: &Request,
        head: bool,
    ) -> Result<http::Response> {
        let url = endpoint.url(&host.rewritten(repository), &request.path);
        if !endpoint.is_at(&url) {
            return Err(Error::new(format!("the registry refers to another server, {url}")));
        }
        let slot = endpoint.auth(repository);
        let range = (request.from > 0).then(|| format!("bytes={}-", request.from));
        let go = |header: Option<&str>| {
            let mut headers = Vec::with_capacity(3);
            headers.extend(request.accept.map(|accept| ("accept", accept)));
            headers.extend(header.map(|value| ("authorization", value)));
            headers.extend(range.as_deref().map(|value| ("range", value)));
            let answer = if head { endpoint.agent.head(&url, &headers) } else { endpoint.agent.get(&url, &headers) };
            answer?.unless_busy()
        };
        let used = slot.header();
        let response = go(used.as_deref())?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        // What a registry redirects to has no claim to our credentials.
        let challenge = auth::Challenge::of(&response).filter(|_| endpoint.is_at(&response.url()));
        let Some(challenge) = challenge else {
            return Err(response.refusal());
        };
        response.drain();
        let login = self.credentials.find(&host.name, repository);
        let agent = |url: &str| if endpoint.is_at(url) { &endpoint.agent } else { &self.outside };
        let scope = format!("repository:{}:pull", host.rewritten(repository));
        let header = slot.renew(used.as_deref(), &challenge, login, &scope, url.starts_with("https://"), agent)?;
        let response = go(Some(&header))?;
        if response.status() == StatusCode::UNAUTHORIZED {
            let hint = match login {
                Some(_) => "the credentials in the auth file do not give access".into(),
                None => format!("the auth file has no credentials for {}", host.name),
            };
            return Err(response.refusal().hint(hint));
        }
        Ok(response)
    }

    fn host(&self, registry: &str) -> Result<Arc<Host>> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(host) = hosts.get(registry) {
            return Ok(host.clone());
        }
        let host = Arc::new(Host::new(registry, &self.config, self.patience.idle)?);
        hosts.insert(registry.to_string(), host.clone());
        Ok(host)
    }

    /// Ends every request, now and later, with an error.
    pub fn shutdown(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.outside.shutdown();
        let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.values().flat_map(|host| &host.endpoints).for_each(|endpoint| endpoint.agent.shutdown());
    }
}

fn check(digest: &Digest, bytes: &[u8]) -> Result<()> {
    if digest.matches(bytes) {
        return Ok(());
    }
    let mut hasher = digest.hasher();
    hasher.update(bytes);
    Err(Error::new(format!("digest mismatch: the registry sent {} instead of {digest}", hasher.finish())))
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
