//! URLs: where they lead, and how much of them may be shown.

/// Query parameters of the distribution and token protocols; the values of others may be secrets,
/// such as the signature of a storage service.
const HARMLESS: [&str; 9] = ["artifactType", "digest", "from", "last", "mount", "n", "next", "scope", "service"];

/// Longer URLs are cut when they are shown.
const SHOWN_MAX: usize = 1000;

/// Scheme, host and port of a URL, as written.
pub fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    let end = url[host..].find(['/', '?', '#']).map_or(url.len(), |at| host + at);
    &url[..end]
}

/// Whether two URLs lie on the same server: scheme, host in any case, and port, which may be left out
/// if it is the scheme's own (RFC 6454, section 4).
pub fn same_origin(a: &str, b: &str) -> bool {
    let plain = |url: &str| {
        let origin = origin(url).to_ascii_lowercase();
        let own = if origin.starts_with("https") { ":443" } else { ":80" };
        origin.strip_suffix(own).map(String::from).unwrap_or(origin)
    };
    plain(a) == plain(b)
}

/// What `reference` means where `base` was asked for (RFC 3986, section 5.2); `None` if it is no
/// HTTP URL.
pub fn resolve(base: &str, reference: &str) -> Option<String> {
    let reference = reference.split('#').next()?;
    if let Some((scheme, _)) = reference.split_once("://").filter(|(scheme, _)| !scheme.contains(['/', '?'])) {
        return matches!(scheme.to_ascii_lowercase().as_str(), "http" | "https").then(|| reference.into());
    }
    if let Some(rest) = reference.strip_prefix("//") {
        return Some(format!("{}://{rest}", base.split_once("://")?.0));
    }
    if reference.starts_with('/') {
        return Some(format!("{}{reference}", origin(base)));
    }
    let path = base.split('?').next()?;
    if reference.is_empty() || reference.starts_with('?') {
        return Some(format!("{path}{reference}"));
    }
    let directory = path.rfind('/').filter(|at| *at >= origin(base).len()).unwrap_or(path.len());
    Some(format!("{}/{reference}", &path[..directory]))
}

/// A URL for people: without a password, and without the values of parameters that nobody knows.
pub fn shown(url: &str) -> String {
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    let mut text = match (path.split_once("://"), origin(path).rfind('@')) {
        (Some((scheme, _)), Some(at)) => format!("{scheme}://...{}", &path[at..]),
        _ => path.to_string(),
    };
    for (n, pair) in query.split(['&', ';']).filter(|pair| !pair.is_empty()).enumerate() {
        text.push(if n == 0 { '?' } else { '&' });
        match pair.split_once('=') {
            Some((key, _)) if HARMLESS.contains(&key) => text.push_str(pair),
            Some((key, _)) => text.push_str(&format!("{key}=...")),
            None => text.push_str("..."),
        }
    }
    if let Some((end, _)) = text.char_indices().nth(SHOWN_MAX) {
        text.truncate(end);
        text.push_str("...");
    }
    text
}

/// `url` with another parameter in its query; `value` is encoded (RFC 3986, section 2.3).
pub fn with_parameter(url: &str, key: &str, value: &str) -> String {
    format!("{url}{}{key}={}", if url.contains('?') { '&' } else { '?' }, encoded(value))
}

/// A value in a query or a form.
pub fn encoded(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 16);
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b':' => out.push(byte.into()),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins() {
        assert_eq!(origin("https://a:1/b/c"), "https://a:1");
        assert_eq!(origin("http://a"), "http://a");
        assert_eq!(origin("http://a?x=http://b/"), "http://a");
    }

    #[test]
    fn the_same_server() {
        assert!(same_origin("http://A.io/x", "http://a.io:80/y") && same_origin("https://a:443", "https://A"));
        assert!(!same_origin("http://a:443", "https://a") && !same_origin("http://a:8080", "http://a"));
        assert!(!same_origin("http://a", "http://b"));
    }

    #[test]
    fn references() {
        let base = "https://a:1/v2/x/blobs/d?y=1";
        for (reference, meant) in [
            ("/v2/x/uploads/1?s=2", "https://a:1/v2/x/uploads/1?s=2"),
            ("http://b/c", "http://b/c"),
            ("//b/c", "https://b/c"),
            ("e?z", "https://a:1/v2/x/blobs/e?z"),
            ("?z", "https://a:1/v2/x/blobs/d?z"),
            ("/p?u=http://b", "https://a:1/p?u=http://b"),
        ] {
            assert_eq!(resolve(base, reference).as_deref(), Some(meant), "{reference}");
        }
        assert_eq!(resolve("http://a", "b").as_deref(), Some("http://a/b"));
        assert_eq!(resolve(base, "file:///etc/passwd"), None);
    }

    #[test]
    fn secrets_in_urls() {
        assert_eq!(
            shown("https://a/b?digest=sha256:1&X-Sig=secret;t=secret&secret"),
            "https://a/b?digest=sha256:1&X-Sig=...&t=...&..."
        );
        assert_eq!(shown("https://u:secret@a/b@c"), "https://...@a/b@c");
        assert_eq!(shown("https://a/b"), "https://a/b");
    }

    #[test]
    fn query_values() {
        assert_eq!(
            with_parameter("http://a?b=1", "scope", "repository:a/b:pull x&y"),
            "http://a?b=1&scope=repository:a/b:pull%20x%26y"
        );
    }
}
