//! Where a registry is reached: its endpoints, its rewrites, and the URLs of its API.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use regex_lite::Regex;

use super::{
    auth::token::TokenSlot,
    transport::{
        http::HttpAgent,
        pace::Pace,
        proxy::Proxies,
        tls::Material,
        url::{origin, resolve, same_origin, shown},
    },
};
use crate::{
    config::{Config, EndpointOptions, ReferrersSupport, endpoint_base, usual_endpoints},
    error::{Error, Result},
    oci::{is_loopback, split_port},
};

/// A registry, by the name that references give it.
pub struct Host {
    /// As references have it.
    pub name: String,
    /// In the order in which they are tried.
    pub endpoints: Vec<Endpoint>,
    /// They are not configured, but usual.
    pub guessed: bool,
    rewrites: Vec<(Regex, String)>,
    /// The endpoint that answered first.
    chosen: OnceLock<usize>,
    /// Repositories that were found to have no referrers API: one host may have several registries.
    without_api: Mutex<HashSet<String>>,
    /// How it takes blobs.
    chunking: Mutex<Chunking>,
    /// It was told that it refuses its referrers API.
    refuses_referrers: AtomicBool,
    /// It was told that credentials for it cannot be had.
    lacks_credentials: AtomicBool,
    /// Whether it refuses content that has another digest than it is sent under, once that was found out.
    pub checks_digests: OnceLock<bool>,
    /// How fast it may be asked.
    pub pace: Pace,
    /// Held while a referrers tag is brought up to date.
    pub tagging: Mutex<()>,
}

/// How blobs go up to a registry: as it has shown, each stricter than the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunking {
    /// In chunks as large as is configured.
    AsConfigured,
    /// In chunks of at most so many bytes: larger ones are refused.
    AtMost(u64),
    /// Each in one request: it takes no chunks, or loses them.
    Whole,
}

impl Chunking {
    /// The largest chunk, if a larger one than `configured` is never wanted.
    pub fn largest(self, configured: u64) -> u64 {
        match self {
            Chunking::AsConfigured => configured,
            Chunking::AtMost(most) => configured.min(most),
            Chunking::Whole => u64::MAX,
        }
    }

    fn is_stricter(self, than: Chunking) -> bool {
        match (self, than) {
            (Chunking::AsConfigured, _) | (_, Chunking::Whole) => false,
            (Chunking::AtMost(most), Chunking::AtMost(other)) => most < other,
            _ => true,
        }
    }
}

/// A base URL under which the API of a registry lies.
pub struct Endpoint {
    /// Without a slash at the end.
    base: String,
    /// What requests go through.
    pub agent: HttpAgent,
    referrers: ReferrersSupport,
    /// By scope.
    auth: Mutex<HashMap<String, Arc<TokenSlot>>>,
}

impl Host {
    /// The registry of this name, as it is configured.
    ///
    /// # Errors
    /// If the certificates for it cannot be read.
    pub fn new(name: &str, config: &Config, idle: Duration, proxies: &Arc<Proxies>) -> Result<Host> {
        let registry = config.registries.get(name).cloned().unwrap_or_default();
        let guessed = registry.endpoints.is_empty();
        let material = Material::load(name)?;
        let urls = match registry.endpoints {
            none if none.is_empty() => {
                let mut urls = usual_endpoints(name);
                // Who set up certificates means HTTPS.
                urls.truncate(if material.is_configured() { 1 } else { urls.len() });
                urls
            }
            endpoints => endpoints,
        };
        let endpoint = |url: String| {
            let base = endpoint_base(&url).to_string();
            let EndpointOptions { tls, supports_referrers } = config.endpoints.get(&base).cloned().unwrap_or_default();
            // A mirror has a name of its own.
            let own = Material::load(authority(&base))?;
            let mut material = if own.is_configured() { own } else { material.clone() };
            material.insecure = tls.insecure_skip_verify;
            Ok(Endpoint {
                agent: HttpAgent::new(idle, config.concurrent_http, material, proxies.clone()),
                referrers: supports_referrers,
                auth: Mutex::new(HashMap::new()),
                base,
            })
        };
        Ok(Host {
            name: name.into(),
            guessed,
            endpoints: urls.into_iter().map(endpoint).collect::<Result<_>>()?,
            rewrites: registry.rewrite_pull,
            chosen: OnceLock::new(),
            without_api: Mutex::default(),
            refuses_referrers: AtomicBool::new(false),
            lacks_credentials: AtomicBool::new(false),
            chunking: Mutex::new(Chunking::AsConfigured),
            checks_digests: OnceLock::new(),
            pace: Pace::default(),
            tagging: Mutex::new(()),
        })
    }

    /// The endpoint that all requests go to, once one has answered.
    pub fn chosen(&self) -> Option<&Endpoint> {
        self.chosen.get().map(|&n| &self.endpoints[n])
    }

    /// Likewise, where one must have answered.
    ///
    /// # Errors
    /// If none has.
    pub fn endpoint(&self) -> Result<&Endpoint> {
        self.chosen().ok_or_else(|| Error::new("no endpoint has answered"))
    }

    /// All requests go to this endpoint from now on.
    pub fn choose(&self, endpoint: usize) {
        let _ = self.chosen.set(endpoint);
    }

    /// The repository's name at the endpoints: the first rewrite that matches is applied.
    pub fn rewritten(&self, repository: &str) -> String {
        match self.rewrites.iter().find(|(pattern, _)| pattern.is_match(repository)) {
            Some((pattern, replacement)) => pattern.replace(repository, replacement.as_str()).into_owned(),
            None => repository.to_string(),
        }
    }

    /// How referrers are listed in a repository.
    pub fn referrers(&self, repository: &str) -> ReferrersSupport {
        let configured = self.chosen().unwrap_or(&self.endpoints[0]).referrers;
        let without = self.without_api.lock().unwrap_or_else(PoisonError::into_inner);
        match configured {
            ReferrersSupport::Auto if without.contains(repository) => ReferrersSupport::Tag,
            other => other,
        }
    }

    /// All that comes lists the referrers of this repository by tag. Returns whether it is the registry's first.
    pub fn lacks_referrers_api(&self, repository: &str) -> bool {
        let mut without = self.without_api.lock().unwrap_or_else(PoisonError::into_inner);
        without.insert(repository.into()) && without.len() == 1
    }

    /// Notes that it refuses its referrers API. Returns whether this is news.
    pub fn refuses_referrers(&self) -> bool {
        !self.refuses_referrers.swap(true, Ordering::Relaxed)
    }

    /// Notes that credentials for it cannot be had. Returns whether this is news.
    pub fn lacks_credentials(&self) -> bool {
        !self.lacks_credentials.swap(true, Ordering::Relaxed)
    }

    /// How it takes blobs, as far as it has shown.
    pub fn chunking(&self) -> Chunking {
        *self.chunking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Blobs go up so from now on, unless something stricter is known. Returns whether this is news.
    pub fn takes_blobs(&self, chunking: Chunking) -> bool {
        let mut known = self.chunking.lock().unwrap_or_else(PoisonError::into_inner);
        let stricter = chunking.is_stricter(*known);
        if stricter {
            *known = chunking;
        }
        stricter
    }
}

impl Endpoint {
    /// The URL of `path` below a repository.
    pub fn url(&self, repository: &str, path: &str) -> String {
        format!("{}/v2/{repository}/{path}", self.base)
    }

    /// The URL that tells whether we are welcome.
    pub fn root(&self) -> String {
        format!("{}/v2/", self.base)
    }

    /// What a `Location` or `Link` means that came in answer to `url`. A server behind one that
    /// ends TLS may not know its own scheme.
    ///
    /// # Errors
    /// If it is no URL.
    pub fn locate(&self, url: &str, reference: &str) -> Result<String> {
        let target = resolve(url, reference)
            .ok_or_else(|| Error::new(format!("the registry names no usable URL, but {:?}", shown(reference))))?;
        let plain = |url: &str| origin(url).replacen("https://", "http://", 1);
        let same = same_origin(&target, &self.base) || plain(&target) == plain(&self.base);
        match same {
            true => Ok(format!("{}{}", origin(&self.base), &target[origin(&target).len()..])),
            false => Ok(target),
        }
    }

    /// Its own name: that of the registry, or of a mirror of it.
    pub fn name(&self) -> &str {
        authority(&self.base)
    }

    /// Whether it is on this very machine.
    pub fn is_near(&self) -> bool {
        is_loopback(split_port(self.name()).0)
    }

    /// Whether it is reached by TLS.
    pub fn is_secure(&self) -> bool {
        self.base.starts_with("https://")
    }

    /// Whether `url` lies on the same server.
    pub fn is_at(&self, url: &str) -> bool {
        same_origin(&self.base, url)
    }

    /// What answers this endpoint's challenges for a scope.
    pub fn auth(&self, scope: &str) -> Arc<TokenSlot> {
        let mut slots = self.auth.lock().unwrap_or_else(PoisonError::into_inner);
        slots.entry(scope.to_string()).or_default().clone()
    }
}

/// Host and port of a URL.
fn authority(url: &str) -> &str {
    let origin = origin(url);
    origin.split_once("://").map_or(origin, |(_, authority)| authority)
}
