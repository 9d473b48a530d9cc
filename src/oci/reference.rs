//! Fully qualified references: `registry/repository[:tag][@digest]`.
//!
//! The grammar is the distribution project's. Short names (`alpine`) are refused: on the far side
//! of an air gap nobody can tell which registry was meant.

use std::{fmt, str::FromStr};

use crate::oci::Digest;

/// A repository of a registry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository {
    /// Host and port, as the user wrote them.
    pub registry: String,
    /// Its name in the registry: components joined by slashes.
    pub path: String,
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.path)
    }
}

/// A reference as written, and its parts.
///
/// ```
/// use ace_dt::oci::Reference;
///
/// let reference: Reference = "reg.example.com:5000/team/app:v1".parse().unwrap();
/// assert_eq!(reference.repository.registry, "reg.example.com:5000");
/// assert_eq!(reference.repository.path, "team/app");
/// assert_eq!(reference.target(), "v1");
/// assert!("alpine".parse::<Reference>().is_err(), "it does not name its registry");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    written: String,
    /// Where it is.
    pub repository: Repository,
    /// Behind the colon.
    pub tag: Option<String>,
    /// Behind the `@`.
    pub digest: Option<Digest>,
}

impl Reference {
    /// What to ask the registry for: the digest if there is one, else the tag, else `latest`.
    pub fn target(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".into(),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

impl FromStr for Reference {
    type Err = String;

    fn from_str(text: &str) -> Result<Reference, String> {
        let bad = |why: &str| format!("{text:?} is not a reference: {why}");
        let authority = text.split_once("://").map_or(text, |(_, rest)| rest).split('/').next().unwrap_or("");
        if authority.contains('@') && text.contains('/') {
            return Err("a reference holds no user name and password; see ace-dt login --help".into());
        }
        if let Some((scheme, name)) = text.split_once("://") {
            return Err(bad(&format!("write it without {scheme}://, as {name}")));
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest.parse::<Digest>().map_err(|e| bad(&e))?)),
            None => (text, None),
        };
        let (registry, path) = name.split_once('/').unwrap_or(("", name));
        let qualified = registry.contains(['.', ':']) || registry == "localhost" || registry.starts_with('[');
        let (path, tag) = match path.rsplit_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (path, None),
        };
        if let Some(tag) = tag.filter(|t| !is_tag(t)) {
            let meant = tag.replace('+', "_");
            let hint = match tag.contains('+') && is_tag(&meant) {
                true => format!("; a tag holds no +, and Helm pushes such a version as {meant}"),
                false => String::new(),
            };
            return Err(bad(&format!("{tag:?} is not a tag{hint}")));
        }
        if !qualified {
            let full =
                if registry.is_empty() { format!("docker.io/library/{text}") } else { format!("docker.io/{text}") };
            return Err(bad(&format!("it does not name its registry; write the full name, such as {full}")));
        }
        if registry.starts_with('.') {
            return Err(bad("it looks like a file: an archive is oci-archive:FILE, an OCI layout oci:DIRECTORY"));
        }
        if !is_host(registry) {
            return Err(bad(&format!("{registry:?} is not a host name with an optional port")));
        }
        if !path.split('/').all(is_component) {
            let port = if path.contains(':') { "; a port stands behind the registry only" } else { "" };
            return Err(bad(&format!(
                "{path:?} is not a repository (lower-case letters, digits, separators . _ - and /{port})"
            )));
        }
        // Docker Hub's own images have a short name for people, and none for the registry.
        let is_short = matches!(registry, "docker.io" | "index.docker.io") && !path.contains('/');
        let path = if is_short { format!("library/{path}") } else { path.to_string() };
        Ok(Reference {
            written: text.to_string(),
            repository: Repository { registry: registry.to_string(), path },
            tag: tag.map(str::to_string),
            digest,
        })
    }
}

/// Whether a tag is one.
pub fn is_tag(tag: &str) -> bool {
    let word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    let bytes = tag.as_bytes();
    matches!(bytes.len(), 1..=128) && word(bytes[0]) && bytes.iter().all(|&c| word(c) || matches!(c, b'.' | b'-'))
}

/// Host and port of an authority; an address of version 6 keeps its brackets.
pub fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

/// Whether a host, named or an address, is this machine.
pub fn is_loopback(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// Whether it is the host of a registry, with a port if need be.
pub fn is_host(registry: &str) -> bool {
    let (host, port) = split_port(registry);
    let host_ok = match host.strip_prefix('[') {
        Some(v6) => v6.strip_suffix(']').is_some_and(|v6| v6.parse::<std::net::Ipv6Addr>().is_ok()),
        None => !host.is_empty() && host.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_')),
    };
    host_ok && port.is_none_or(|p| p.parse::<u16>().is_ok_and(|p| p > 0))
}

/// Whether it is a part of a repository's name: runs of lower-case letters and digits, joined by `.`, `_`, `__` or dashes.
pub fn is_component(part: &str) -> bool {
    let alnum = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    part.starts_with(alnum)
        && part.ends_with(alnum)
        && part.chars().all(|c| alnum(c) || matches!(c, '.' | '_' | '-'))
        && part.split(alnum).all(|sep| matches!(sep, "" | "." | "_" | "__") || sep.bytes().all(|c| c == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let r: Reference = format!("[::1]:5000/a/b-c:v1@{digest}").parse().unwrap();
        assert_eq!(
            (r.repository.registry.as_str(), r.repository.path.as_str(), r.tag.as_deref()),
            ("[::1]:5000", "a/b-c", Some("v1"))
        );
        assert_eq!(r.target(), digest);
        let r: Reference = "localhost/x".parse().unwrap();
        assert_eq!(r.target(), "latest");
        assert_eq!(
            "reg.example.com:5000/x:1".parse::<Reference>().unwrap().repository.registry,
            "reg.example.com:5000"
        );
    }

    #[test]
    fn short_names_are_refused_with_the_full_one() {
        assert!("alpine:3".parse::<Reference>().unwrap_err().contains("docker.io/library/alpine:3"));
        assert!("docker://reg.io/a".parse::<Reference>().unwrap_err().contains("as reg.io/a"));
        assert!("oci://reg.io/a".parse::<Reference>().unwrap_err().contains("as reg.io/a"));
        assert!("reg.io/a:1.0+b".parse::<Reference>().unwrap_err().contains("1.0_b"));
        assert!("org/app".parse::<Reference>().unwrap_err().contains("docker.io/org/app"));
    }

    #[test]
    fn refusals() {
        for bad in [
            "",
            "reg.io/",
            "reg.io/A",
            "reg.io/a:",
            "reg.io/a:-x",
            "reg.io/a@sha256:00",
            "reg.io/a..b",
            "reg.io/a/",
            "reg.io:x/a",
            "reg.io:99999/a",
            "[::g]/a",
            "reg.io/_a",
            "reg io.x/a",
            "reg.io/a b",
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
    }
}
