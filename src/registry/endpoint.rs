//! Where a registry is reached: its endpoints, its rewrites, and the URLs of its API.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use regex_lite::Regex;

use super::{auth, http::Agent, tls};
use crate::{
    config::{self, Config, Referrers},
    error::Result,
};

/// A registry, by the name that references give it.
pub struct Host {
    pub name: String,
    pub endpoints: Vec<Endpoint>,
    rewrites: Vec<(Regex, String)>,
    /// The endpoint that answered first.
    chosen: OnceLock<usize>,
    no_referrers_api: AtomicBool,
}

/// A base URL under which the API of a registry lies.
pub struct Endpoint {
    /// Without a slash at the end.
    base: String,
    pub agent: Agent,
    referrers: Referrers,
    auth: Mutex<HashMap<String, Arc<auth::Slot>>>,
}

impl Host {
    /// # Errors
    /// If the certificates for it cannot be read.
    pub fn new(name: &str, config: &Config, idle: Duration) -> Result<Host> {
        let registry = config.registries.get(name).cloned().unwrap_or_default();
        let urls = if registry.endpoints.is_empty() { usual(name) } else { registry.endpoints };
        let endpoint = |url: String| {
            let base = url.trim_end_matches('/').to_string();
            let config::Endpoint { tls, supports_referrers } = config.endpoints.get(&base).cloned().unwrap_or_default();
            let mut material = tls::Material::load(name)?;
            material.insecure = tls.insecure_skip_verify;
            Ok(Endpoint {
                agent: Agent::new(idle, config.concurrent_http, material),
                referrers: supports_referrers,
                auth: Mutex::new(HashMap::new()),
                base,
            })
        };
        Ok(Host {
            name: name.into(),
            endpoints: urls.into_iter().map(endpoint).collect::<Result<_>>()?,
            rewrites: registry.rewrite_pull,
            chosen: OnceLock::new(),
            no_referrers_api: AtomicBool::new(false),
        })
    }

    /// The endpoint that all requests go to, once one has answered.
    pub fn chosen(&self) -> Option<&Endpoint> {
        self.chosen.get().map(|&n| &self.endpoints[n])
    }

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

    /// How referrers are listed here.
    pub fn referrers(&self) -> Referrers {
        let configured = self.chosen().unwrap_or(&self.endpoints[0]).referrers;
        match configured {
            Referrers::Auto if self.no_referrers_api.load(Ordering::Relaxed) => Referrers::Tag,
            other => other,
        }
    }

    pub fn lacks_referrers_api(&self) {
        self.no_referrers_api.store(true, Ordering::Relaxed);
    }
}

impl Endpoint {
    /// The URL of `path` below a repository. A path that begins with a slash or a scheme is what a
    /// `Link` header gave: it stands for itself.
    pub fn url(&self, repository: &str, path: &str) -> String {
        if path.contains("://") {
            return path.to_string();
        }
        if path.starts_with('/') {
            return format!("{}{path}", origin(&self.base));
        }
        format!("{}/v2/{repository}/{path}", self.base)
    }

    /// Whether `url` lies on the same server.
    pub fn is_at(&self, url: &str) -> bool {
        origin(&self.base) == origin(url)
    }

    /// What answers this endpoint's challenges for a repository.
    pub fn auth(&self, repository: &str) -> Arc<auth::Slot> {
        let mut slots = self.auth.lock().unwrap_or_else(PoisonError::into_inner);
        slots.entry(repository.to_string()).or_default().clone()
    }
}

/// Scheme, host and port of a URL.
fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    let end = url[host..].find('/').map_or(url.len(), |at| host + at);
    &url[..end]
}

/// Where a registry without configuration is: `https`, and on this very machine also `http`.
fn usual(name: &str) -> Vec<String> {
    let name = if matches!(name, "docker.io" | "index.docker.io") { "registry-1.docker.io" } else { name };
    let host = match name.rfind(':') {
        Some(at) if !name[at..].contains(']') => &name[..at],
        _ => name,
    };
    let is_loopback = host == "localhost"
        || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    let mut urls = vec![format!("https://{name}")];
    if is_loopback {
        urls.push(format!("http://{name}"));
    }
    urls
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_endpoints() {
        assert_eq!(usual("docker.io"), ["https://registry-1.docker.io"]);
        assert_eq!(usual("reg.io:5000"), ["https://reg.io:5000"]);
        assert_eq!(usual("[::1]:5000"), ["https://[::1]:5000", "http://[::1]:5000"]);
        assert_eq!(usual("127.0.0.2"), ["https://127.0.0.2", "http://127.0.0.2"]);
    }

    #[test]
    fn origins() {
        assert_eq!(origin("https://a:1/b/c"), "https://a:1");
        assert_eq!(origin("http://a"), "http://a");
    }
}
