//! All the registries that a run talks to: one request, by the endpoint that answers, with what answers
//! its challenge.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use ureq::http::{
    Method, StatusCode,
    header::{AUTHORIZATION, HeaderName},
};

use super::{
    auth::{
        challenge::Challenge,
        docker_config::{Credentials, KnownLogin},
        token::{Grant, TokenAsk, TokenSlot, answered},
    },
    host::{Endpoint, Host},
    transport::{
        encoding::looks_like,
        http::{HttpAgent, Payload, Request, Response},
        proxy::Proxies,
        retry::{self, RetryBudget, RetryPolicy},
        tls::Material,
        url::shown,
    },
};
use crate::{
    config::Config,
    error::{Error, ErrorKind, Result},
    log,
    oci::{Digest, Repository},
};

/// A manifest of which no descriptor says the size has at most so many bytes, as registries take them.
pub(super) const UNSTATED_MANIFEST_MAX: u64 = 4 << 20;

/// All the registries that a run talks to. One request is in flight for each thread that asks.
pub struct Registries {
    /// How registries are configured.
    pub(super) config: Config,
    policy: RetryPolicy,
    /// Set when every request is to end.
    closed: AtomicBool,
    credentials: Credentials,
    proxies: Arc<Proxies>,
    hosts: Mutex<HashMap<String, Arc<Host>>>,
    /// For what lies outside of registries: foreign layers and token servers.
    pub(super) outside: HttpAgent,
}

/// A repository where it is reached, and what is to be done with it.
pub(super) struct RepositoryAccess<'a> {
    /// Where it is reached.
    pub(super) host: Arc<Host>,
    /// Which one.
    pub(super) repository: &'a Repository,
    /// What is to be done.
    pub(super) access: Access<'a>,
}

/// Who asks for access, where, and to what.
struct AuthContext<'a> {
    host: &'a Host,
    endpoint: &'a Endpoint,
    repository: &'a str,
    scope: &'a str,
    slot: &'a TokenSlot,
}

/// What a token must allow.
#[derive(Clone, Copy)]
pub(super) enum Access<'a> {
    /// Read.
    Pull,
    /// Read and write.
    Push,
    /// Push, and take blobs over from this repository.
    Mount(&'a Repository),
}

/// A request to a registry, without what answers its challenges.
pub(super) struct Call {
    /// What to do.
    pub(super) method: Method,
    /// Where.
    pub(super) at: RequestTarget,
    /// But for `Authorization`.
    pub(super) headers: Vec<(HeaderName, String)>,
    /// The registry has much to do before it answers.
    pub(super) slow: bool,
}

/// Where a request goes.
pub(super) enum RequestTarget {
    /// Below the repository.
    Path(String),
    /// Where the registry said.
    Url(String),
}

impl Call {
    /// A request below the repository.
    pub(super) fn new(method: Method, path: String) -> Call {
        Call { method, at: RequestTarget::Path(path), headers: Vec::new(), slow: false }
    }

    /// A request to where the registry said.
    pub(super) fn to(method: Method, url: String) -> Call {
        Call { method, at: RequestTarget::Url(url), headers: Vec::new(), slow: false }
    }

    /// The same with another header.
    pub(super) fn with(mut self, name: HeaderName, value: impl Into<String>) -> Call {
        self.headers.push((name, value.into()));
        self
    }
}

impl RepositoryAccess<'_> {
    /// The repository's name at the endpoints. Rewrites are for pulling.
    pub(super) fn name(&self) -> String {
        match self.access {
            Access::Pull => self.host.rewritten(&self.repository.path),
            Access::Push | Access::Mount(_) => self.repository.path.clone(),
        }
    }

    /// What a token must allow (CNCF distribution, "Token scope").
    pub(super) fn scope(&self) -> String {
        let name = self.name();
        match self.access {
            Access::Pull => format!("repository:{name}:pull"),
            Access::Push => format!("repository:{name}:pull,push"),
            Access::Mount(from) => format!("repository:{name}:pull,push repository:{}:pull", from.path),
        }
    }
}

impl Registries {
    /// With the credentials in the auth files.
    ///
    /// # Errors
    /// If an auth file cannot be read, or a variable of the environment names no proxy.
    pub fn new(config: Config, policy: RetryPolicy) -> Result<Registries> {
        let credentials = Credentials::load(config.auth_file.as_ref())?;
        Registries::with(config, policy, credentials)
    }

    /// With these credentials instead of those in the auth files.
    ///
    /// # Errors
    /// If a variable of the environment names no proxy.
    pub fn with(config: Config, policy: RetryPolicy, credentials: Credentials) -> Result<Registries> {
        let proxies = Arc::new(Proxies::of_environment()?);
        let trust = Material::default();
        Ok(Registries {
            credentials,
            outside: HttpAgent::new(policy.idle, config.concurrent_http, trust, proxies.clone()),
            proxies,
            hosts: Mutex::new(HashMap::new()),
            closed: AtomicBool::new(false),
            config,
            policy,
        })
    }

    /// Whether the registry takes our credentials. `false`: it asks for none, so nobody knows.
    ///
    /// # Errors
    /// If it refuses them, or cannot be reached.
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
                let context = AuthContext { host: &host, endpoint, repository: "", scope: "", slot: &slot };
                let header = self.answer(&context, None, response)?;
                let request = Request::get(&endpoint.root()).with(AUTHORIZATION, header);
                let response = endpoint.agent.send(request)?.unless_busy()?;
                let refused = response.status() == StatusCode::UNAUTHORIZED;
                response.expect_ok().map_err(|e| if refused { e.hint("wrong credentials") } else { e })?;
                Ok(true)
            });
            asked.map_err(|e| e.doing(format!("logging in to {registry}")))
        })
    }

    /// # Errors
    /// If the certificates for the registry cannot be read.
    pub(super) fn access<'a>(&self, repository: &'a Repository, access: Access<'a>) -> Result<RepositoryAccess<'a>> {
        Ok(RepositoryAccess { host: self.host(&repository.registry)?, repository, access })
    }

    /// The registry of this name.
    ///
    /// # Errors
    /// If its certificates cannot be read.
    pub(super) fn host(&self, registry: &str) -> Result<Arc<Host>> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(host) = hosts.get(registry) {
            return Ok(host.clone());
        }
        let host = Arc::new(Host::new(registry, &self.config, self.policy.idle, &self.proxies)?);
        hosts.insert(registry.to_string(), host.clone());
        Ok(host)
    }

    /// Does something again as long as it fails in passing.
    ///
    /// # Errors
    /// The last failure, when trying again cannot help.
    pub(super) fn trying<T>(&self, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
        let mut budget = self.budget();
        loop {
            match attempt() {
                Ok(done) => return Ok(done),
                Err(e) => budget.again("", e)?,
            }
        }
    }

    /// The tries that one request has.
    pub(super) fn budget(&self) -> RetryBudget<'_> {
        RetryBudget::new(self.policy, &self.closed)
    }

    /// Sends a request by the first endpoint that answers.
    ///
    /// # Errors
    /// If no endpoint answers, or access is refused.
    pub(super) fn send(&self, access: &RepositoryAccess, call: &Call) -> Result<Response> {
        self.first_endpoint(&access.host, |endpoint| self.send_to(endpoint, access, call, Payload::None))
    }

    /// Does something with the first endpoint that answers; all that follows stays with it. Where
    /// the second is a guess, it gets nothing unless nobody answers at the first.
    ///
    /// # Errors
    /// If no endpoint will do, with what each failed.
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
                Err(e) if host.guessed && !e.is(ErrorKind::Unreachable) => return Err(e),
                Err(e) => refused.push(e),
            }
        }
        // Who cannot be reached when a run begins is hardly away for a while: the name or the port may be wrong.
        let mut is_new = false;
        if refused.iter().all(|e| e.is(ErrorKind::Unreachable)) {
            is_new = true;
        }
        if refused.len() == 1 {
            let only = refused.remove(0);
            return Err(if is_new { only.never_met() } else { only });
        }
        let all: Vec<String> = refused.iter().map(Error::to_string).collect();
        let error = Error::new(format!("no endpoint of {} will do: {}", host.name, all.join("; ")));
        let error = if refused.iter().all(Error::is_away) { error.away() } else { error };
        let error = if is_new { error.never_met() } else { error };
        Err(match refused.iter().filter_map(Error::retry_after).max() {
            Some(pause) => error.transient(pause),
            None => error,
        })
    }

    /// Waits until a host may be asked again.
    fn await_turn(&self, host: &Host) {
        retry::pause(host.pace.turn(), &self.closed);
    }

    /// Sends one request, answering one challenge if there is one. To another server than the
    /// endpoint goes neither credentials nor an answer.
    ///
    /// # Errors
    /// If it does not answer, or refuses access.
    pub(super) fn send_to(
        &self,
        endpoint: &Endpoint,
        access: &RepositoryAccess,
        call: &Call,
        payload: Payload,
    ) -> Result<Response> {
        let url = match &call.at {
            RequestTarget::Path(path) => endpoint.url(&access.name(), path),
            RequestTarget::Url(url) => url.clone(),
        };
        let scope = access.scope();
        let slot = endpoint.auth(&scope);
        let context = AuthContext {
            host: &access.host,
            endpoint,
            repository: &access.repository.path,
            scope: &scope,
            slot: &slot,
        };
        let go = |header: Option<&str>, payload: Payload| {
            let (method, headers) = (call.method.clone(), call.headers.clone());
            let mut request = Request { method, url: url.clone(), headers, slow: call.slow };
            if let Some(header) = header.filter(|_| endpoint.is_at(&url)) {
                request = request.with(AUTHORIZATION, header);
            }
            self.await_turn(&access.host);
            let answered = match payload {
                Payload::None => endpoint.agent.send(request),
                payload => endpoint.agent.send_with(&request, payload),
            }?
            .unless_busy();
            match &answered {
                Ok(_) => access.host.pace.answered(),
                Err(e) if e.is_away() => access.host.pace.complained(e.retry_after().unwrap_or_default()),
                Err(_) => {}
            }
            answered
        };
        let is_ours = endpoint.is_at(&url);
        let again = match &payload {
            Payload::None => Some(Payload::None),
            Payload::Bytes(bytes) => Some(Payload::Bytes(bytes)),
            Payload::Stream(..) => None,
        };
        let used = match (slot.header(), slot.challenge()) {
            // It has run out: a body that cannot be sent twice is not sent for nothing.
            (None, Some(challenge)) if is_ours => Some(self.renewed(&context, None, &challenge)?),
            (header, _) => header,
        };
        let response = go(used.as_deref(), payload)?;
        let is_challenge = response.status() == StatusCode::UNAUTHORIZED && Challenge::of(&response).is_some();
        if !is_challenge {
            let hides = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::NOT_FOUND];
            return match again {
                Some(payload)
                    if used.is_none() && endpoint.is_at(response.url()) && hides.contains(&response.status()) =>
                {
                    self.introduced(&context, response, |header| go(Some(header), payload))
                }
                _ => refused_if(response.status() == StatusCode::UNAUTHORIZED, response),
            };
        }
        let header = self.answer(&context, used.as_deref(), response)?;
        let Some(payload) = again else {
            return Err(Error::new("the token had run out").doing(shown(&url)).transient(Default::default()));
        };
        let response = go(Some(&header), payload)?;
        if response.status() == StatusCode::UNAUTHORIZED {
            let known = self.known(&context);
            return Err(response.refusal().hint(no_access(&access.repository.registry, &known)));
        }
        Ok(response)
    }

    /// The answer to a request that a registry refused to a stranger without asking who it is: what an anonymous client
    /// may not see is not there for it. It is sent again with credentials, if there are any; they count once the registry
    /// has taken them. One that does not take them hears no more of them.
    fn introduced(
        &self,
        context: &AuthContext,
        refused: Response,
        again: impl FnOnce(&str) -> Result<Response>,
    ) -> Result<Response> {
        let is_error = refused.status() == StatusCode::UNAUTHORIZED;
        // Threads that come meanwhile wait for what comes of it.
        let mut offer = context.slot.offer.lock().unwrap_or_else(PoisonError::into_inner);
        if *offer {
            drop(offer);
            return match context.slot.header() {
                Some(header) => again(&header),
                None => refused_if(is_error, refused),
            };
        }
        // What fails in passing is tried again, and is no answer.
        let lasting = |e: Error| if e.retry_after().is_some() || e.is_signal() { Err(e) } else { Ok(None) };
        let Some((grant, challenge)) = self.offered(context).or_else(lasting)? else {
            *offer = true;
            return refused_if(is_error, refused);
        };
        let response = again(grant.header())?;
        *offer = true;
        if matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            response.drain();
            return refused_if(is_error, refused);
        }
        context.slot.keep(grant, challenge);
        refused.drain();
        Ok(response)
    }

    /// What says who we are to a registry that did not ask: by the challenge that it has where it tells
    /// whether we are welcome (distribution specification, "Endpoints", end-1). If it has none there either, Basic, but
    /// only with the credentials of the endpoint's own name, and never in the clear. `None`: there are none.
    fn offered(&self, context: &AuthContext) -> Result<Option<(Grant, Challenge)>> {
        let AuthContext { host, endpoint, repository, scope, .. } = context;
        let Some(known) = self.known(context)? else { return Ok(None) };
        let response = endpoint.agent.send(Request::get(&endpoint.root()))?.unless_busy()?;
        let challenge = Challenge::of(&response).filter(|_| endpoint.is_at(response.url()));
        response.drain();
        let (login, challenge) = match challenge {
            Some(challenge) => (known.login, challenge),
            None if endpoint.is_secure() || endpoint.is_near() => {
                let Some(own) = self.credentials.find(endpoint.name(), repository)? else { return Ok(None) };
                (own.login, Challenge::Basic)
            }
            None => return Ok(None),
        };
        let agent = |url: &str| if endpoint.is_at(url) { &endpoint.agent } else { endpoint.agent.elsewhere() };
        let ask = TokenAsk { login: Some(&login), scope, secure: endpoint.is_secure() };
        let grant = answered(&challenge, &ask, agent);
        grant.map(|grant| Some((grant, challenge))).inspect_err(|e| log::debug(format_args!("{}: {e}", host.name)))
    }

    /// The header that answers the challenge in `response`, a 401 to a request that was sent with
    /// the header `used`. What a registry redirects to has no claim to our credentials.
    fn answer(&self, context: &AuthContext, used: Option<&str>, response: Response) -> Result<String> {
        let challenge = Challenge::of(&response).filter(|_| context.endpoint.is_at(response.url()));
        let Some(challenge) = challenge else {
            return Err(response.refusal());
        };
        response.drain();
        self.renewed(context, used, &challenge)
    }

    /// Who we are at an endpoint: by the name of a mirror, or by that of the registry.
    fn known(&self, context: &AuthContext) -> Result<Option<KnownLogin>> {
        let AuthContext { host, endpoint, repository, .. } = context;
        match self.credentials.find(endpoint.name(), repository) {
            Ok(Some(known)) => Ok(Some(known)),
            Err(e) if endpoint.name() == host.name => Err(e),
            _ => self.credentials.find(&host.name, repository),
        }
    }

    /// The header that answers a challenge to a request that was sent with the header `used`.
    fn renewed(&self, context: &AuthContext, used: Option<&str>, challenge: &Challenge) -> Result<String> {
        let AuthContext { host, endpoint, scope, slot, .. } = context;
        let known = self.known(context);
        // For what everybody may have it does not matter that nobody can say who we are.
        if let Err(e) = &known
            && host.lacks_credentials()
        {
            log::warn(format_args!("{} is asked without credentials: {e}", host.name));
        }
        let login = known.as_ref().ok().and_then(|known| known.as_ref()).map(|known| &known.login);
        let agent = |url: &str| if endpoint.is_at(url) { &endpoint.agent } else { endpoint.agent.elsewhere() };
        let ask = TokenAsk { login, scope, secure: endpoint.is_secure() };
        let header = slot.renew(used, challenge, &ask, agent);
        header.map_err(|e| if login.is_none() { e.hint(no_access(&host.name, &known)) } else { e })
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
fn no_access(registry: &str, known: &Result<Option<KnownLogin>>) -> String {
    match known {
        Ok(Some(known)) => {
            format!("the credentials kept by {} do not give access; see ace-dt login --help", known.place)
        }
        Ok(None) => format!("there are no credentials for {registry}; see ace-dt login --help"),
        Err(e) => format!("the credentials for {registry} cannot be had: {e}"),
    }
}

/// The answer, or the error that it is.
fn refused_if(refused: bool, response: Response) -> Result<Response> {
    if refused { Err(response.refusal()) } else { Ok(response) }
}

/// Checks a manifest's bytes.
///
/// # Errors
/// If they have another digest: with what they seem to be.
pub(super) fn check_digest(digest: &Digest, bytes: &[u8]) -> Result<()> {
    let found = digest.of_same(bytes);
    if found == *digest {
        return Ok(());
    }
    Err(match looks_like(bytes) {
        Some(other) => Error::new(format!("what the registry sent is no manifest, but {other}")),
        None => Error::new(format!("digest mismatch: the registry sent {found} instead of {digest}")),
    })
}
