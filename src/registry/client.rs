//! Registries over HTTP and HTTPS: the client side of the OCI distribution specification 1.1.
//!
//! - `pull` and `push`: what is asked of a registry;
//! - `endpoint` and `location`: where a registry is reached, and how its URLs are made;
//! - `http` and `connector`: one request, its errors in words, and TLS below it;
//! - `proxy` and `tls`: the way through proxies; authorities and client certificates;
//! - `retry` and `body`: what is tried again, and bodies that survive their connection;
//! - `auth`: challenges, tokens and the header that answers them;
//! - `credentials` and `helper`: the auth files, and the programs that they name.
//!
//! Whatever a server says is bounded when it is read and checked before it counts. A manifest's
//! digest is always computed from its bytes.

use std::{
    collections::HashMap,
    io::Read,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use ureq::http::{
    Method, StatusCode,
    header::{AUTHORIZATION, HeaderName},
};

use crate::registry::auth::docker_config::{Credentials, Known};
use crate::registry::host::{Endpoint, Host};
pub use crate::registry::push::Pushed;
use crate::registry::transport::http::{Payload, Request};
use crate::registry::transport::proxy::Proxies;
pub use crate::registry::transport::retry::Patience;
use crate::registry::transport::retry::Tries;
use crate::registry::{
    auth::token as auth,
    transport::{http, tls, url as location},
};
use crate::{
    config::Config,
    error::{Error, Result},
    oci::Digest,
};

/// A manifest is at most this long, unless its descriptor says more.
pub(super) const MANIFEST_MAX: u64 = 4 << 20;
/// No manifest is longer than this, whatever its descriptor says.
pub(super) const MANIFEST_LIMIT: u64 = 64 << 20;

/// All the registries that a run talks to. One request is in flight for each thread that asks.
pub struct Registries {
    pub(super) config: Config,
    patience: Patience,
    /// Set when every request is to end.
    closed: AtomicBool,
    credentials: Credentials,
    proxies: Arc<Proxies>,
    hosts: Mutex<HashMap<String, Arc<Host>>>,
    /// For what lies outside of registries: foreign layers and token servers.
    pub(super) outside: http::Agent,
}

/// A body that is being read. After the last byte, read on to give the connection back.
pub type Body = Box<dyn Read + Send>;

/// A repository, and what is to be done with it.
pub(super) struct Place<'a> {
    pub(super) host: Arc<Host>,
    pub(super) repository: &'a str,
    pub(super) access: Access<'a>,
}

/// Who asks for access, where, and to what.
struct Asker<'a> {
    host: &'a Host,
    endpoint: &'a Endpoint,
    repository: &'a str,
    scope: &'a str,
    slot: &'a auth::Slot,
}

/// What a token must allow.
#[derive(Clone, Copy)]
pub(super) enum Access<'a> {
    Pull,
    Push,
    /// Push, and take blobs over from this repository.
    Mount(&'a str),
}

/// A request to a registry, without what answers its challenges.
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) at: At,
    pub(super) headers: Vec<(HeaderName, String)>,
    /// The registry has much to do before it answers.
    pub(super) slow: bool,
}

pub(super) enum At {
    /// Below the repository.
    Path(String),
    /// Where the registry said.
    Url(String),
}

impl Call {
    pub(super) fn new(method: Method, path: String) -> Call {
        Call { method, at: At::Path(path), headers: Vec::new(), slow: false }
    }

    pub(super) fn to(method: Method, url: String) -> Call {
        Call { method, at: At::Url(url), headers: Vec::new(), slow: false }
    }

    pub(super) fn with(mut self, name: HeaderName, value: impl Into<String>) -> Call {
        self.headers.push((name, value.into()));
        self
    }
}

impl Place<'_> {
    /// The repository's name at the endpoints. Rewrites are for pulling.
    pub(super) fn name(&self) -> String {
        match self.access {
            Access::Pull => self.host.rewritten(self.repository),
            Access::Push | Access::Mount(_) => self.repository.into(),
        }
    }

    pub(super) fn scope(&self) -> String {
        let name = self.name();
        match self.access {
            Access::Pull => format!("repository:{name}:pull"),
            Access::Push => format!("repository:{name}:pull,push"),
            Access::Mount(from) => format!("repository:{name}:pull,push repository:{from}:pull"),
        }
    }
}

impl Registries {
    /// # Errors
    /// If an auth file cannot be read, or a variable of the environment names no proxy.
    pub fn new(config: Config, patience: Patience) -> Result<Registries> {
        let credentials = Credentials::load(config.auth_file.as_ref())?;
        Registries::with(config, patience, credentials)
    }

    /// With these credentials instead of those in the auth files.
    pub fn with(config: Config, patience: Patience, credentials: Credentials) -> Result<Registries> {
        let proxies = Arc::new(Proxies::of_environment()?);
        let trust = tls::Material::default();
        Ok(Registries {
            credentials,
            outside: http::Agent::new(patience.idle, config.concurrent_http, trust, proxies.clone()),
            proxies,
            hosts: Mutex::new(HashMap::new()),
            closed: AtomicBool::new(false),
            config,
            patience,
        })
    }

    /// Whether the registry takes our credentials. `false`: it asks for none, so nobody knows.
    pub fn check_login(&self, registry: &str) -> Result<bool> {
        let host = self.host(registry)?;
        self.trying(|| {
            let asked = self.first_endpoint(&host, |endpoint| {
                let request = Request::get(&endpoint.root());
                let response = endpoint.agent.send(request)?.unless_busy()?;
                if response.status() != StatusCode::UNAUTHORIZED {
                    return response.expect_ok().map(|_| false);
                }
                let slot = endpoint.auth("");
                let asker = Asker { host: &host, endpoint, repository: "", scope: "", slot: &slot };
                let header = self.answer(&asker, None, response)?;
                let request = Request::get(&endpoint.root()).with(AUTHORIZATION, header);
                let response = endpoint.agent.send(request)?.unless_busy()?;
                let refused = response.status() == StatusCode::UNAUTHORIZED;
                response.expect_ok().map_err(|e| if refused { e.hint("wrong credentials") } else { e })?;
                Ok(true)
            });
            asked.map_err(|e| e.doing(format!("logging in to {registry}")))
        })
    }

    pub(super) fn place<'a>(&self, registry: &str, repository: &'a str, access: Access<'a>) -> Result<Place<'a>> {
        Ok(Place { host: self.host(registry)?, repository, access })
    }

    pub(super) fn host(&self, registry: &str) -> Result<Arc<Host>> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(host) = hosts.get(registry) {
            return Ok(host.clone());
        }
        let host = Arc::new(Host::new(registry, &self.config, self.patience.idle, &self.proxies)?);
        hosts.insert(registry.to_string(), host.clone());
        Ok(host)
    }

    /// Does something again as long as it fails in passing.
    pub(super) fn trying<T>(&self, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
        let mut tries = self.tries();
        loop {
            match attempt() {
                Ok(done) => return Ok(done),
                Err(e) => tries.again("", e)?,
            }
        }
    }

    pub(super) fn tries(&self) -> Tries<'_> {
        Tries::new(self.patience, &self.closed)
    }

    /// Sends a request by the first endpoint that answers.
    pub(super) fn send(&self, place: &Place, call: &Call) -> Result<http::Response> {
        self.first_endpoint(&place.host, |endpoint| self.send_to(endpoint, place, call, Payload::None))
    }

    /// Does something with the first endpoint that answers; all that follows stays with it. Where
    /// the second is a guess, it gets nothing unless nobody answers at the first.
    pub(super) fn first_endpoint<T>(&self, host: &Host, mut ask: impl FnMut(&Endpoint) -> Result<T>) -> Result<T> {
        if let Some(endpoint) = host.chosen() {
            return ask(endpoint);
        }
        let mut refused = Vec::new();
        for (n, endpoint) in host.endpoints.iter().enumerate() {
            match ask(endpoint) {
                Ok(response) => {
                    host.choose(n);
                    return Ok(response);
                }
                Err(e) if host.guessed && !e.is_unanswered() => return Err(e),
                Err(e) => refused.push(e),
            }
        }
        if refused.len() == 1 {
            return Err(refused.remove(0));
        }
        let all: Vec<String> = refused.iter().map(Error::to_string).collect();
        let error = Error::new(format!("no endpoint of {} will do: {}", host.name, all.join("; ")));
        Err(match refused.iter().filter_map(Error::again).max() {
            Some(pause) => error.transient(pause),
            None => error,
        })
    }

    /// Sends one request, answering one challenge if there is one. To another server than the
    /// endpoint goes neither credentials nor an answer.
    pub(super) fn send_to(
        &self,
        endpoint: &Endpoint,
        place: &Place,
        call: &Call,
        payload: Payload,
    ) -> Result<http::Response> {
        let url = match &call.at {
            At::Path(path) => endpoint.url(&place.name(), path),
            At::Url(url) => url.clone(),
        };
        let scope = place.scope();
        let slot = endpoint.auth(&scope);
        let asker = Asker { host: &place.host, endpoint, repository: place.repository, scope: &scope, slot: &slot };
        let go = |header: Option<&str>, payload: Payload| {
            let (method, headers) = (call.method.clone(), call.headers.clone());
            let mut request = Request { method, url: url.clone(), headers, slow: call.slow };
            if let Some(header) = header.filter(|_| endpoint.is_at(&url)) {
                request = request.with(AUTHORIZATION, header);
            }
            match payload {
                Payload::None => endpoint.agent.send(request),
                payload => endpoint.agent.send_with(&request, payload),
            }?
            .unless_busy()
        };
        let again = match &payload {
            Payload::None => Some(Payload::None),
            Payload::Bytes(bytes) => Some(Payload::Bytes(bytes)),
            Payload::Stream(..) => None,
        };
        let used = match (slot.header(), slot.challenge()) {
            // It has run out: a body that cannot be sent twice is not sent for nothing.
            (None, Some(challenge)) if endpoint.is_at(&url) => Some(self.renewed(&asker, None, &challenge)?),
            (header, _) => header,
        };
        let response = go(used.as_deref(), payload)?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let header = self.answer(&asker, used.as_deref(), response)?;
        let Some(payload) = again else {
            return Err(Error::new("the token had run out").doing(location::shown(&url)).transient(Default::default()));
        };
        let response = go(Some(&header), payload)?;
        if response.status() == StatusCode::UNAUTHORIZED {
            let known = self.credentials.find(&place.host.name, place.repository)?;
            return Err(response.refusal().hint(no_access(&place.host.name, known.as_ref())));
        }
        Ok(response)
    }

    /// The header that answers the challenge in `response`, a 401 to a request that was sent with
    /// the header `used`. What a registry redirects to has no claim to our credentials.
    fn answer(&self, asker: &Asker, used: Option<&str>, response: http::Response) -> Result<String> {
        let challenge = auth::Challenge::of(&response).filter(|_| asker.endpoint.is_at(response.url()));
        let Some(challenge) = challenge else {
            return Err(response.refusal());
        };
        response.drain();
        self.renewed(asker, used, &challenge)
    }

    /// The header that answers a challenge to a request that was sent with the header `used`.
    fn renewed(&self, asker: &Asker, used: Option<&str>, challenge: &auth::Challenge) -> Result<String> {
        let Asker { host, endpoint, repository, scope, slot } = asker;
        let known = self.credentials.find(&host.name, repository)?;
        let login = known.as_ref().map(|known| &known.login);
        let agent = |url: &str| if endpoint.is_at(url) { &endpoint.agent } else { endpoint.agent.elsewhere() };
        let header = slot.renew(used, challenge, login, scope, endpoint.is_secure(), agent);
        header.map_err(|e| if login.is_none() { e.hint(no_access(&host.name, None)) } else { e })
    }

    /// Ends every request, now and later, with an error.
    pub fn shutdown(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.outside.shutdown();
        let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.values().flat_map(|host| &host.endpoints).for_each(|endpoint| endpoint.agent.shutdown());
    }
}

/// Why a registry does not let us in, and what can be done.
fn no_access(registry: &str, known: Option<&Known>) -> String {
    match known {
        Some(known) => format!("the credentials kept by {} do not give access; see ace-dt login --help", known.place),
        None => format!("there are no credentials for {registry}; see ace-dt login --help"),
    }
}

pub(super) fn check(digest: &Digest, bytes: &[u8]) -> Result<()> {
    if digest.matches(bytes) {
        return Ok(());
    }
    let mut hasher = digest.hasher();
    hasher.update(bytes);
    Err(Error::new(format!("digest mismatch: the registry sent {} instead of {digest}", hasher.finish())))
}
