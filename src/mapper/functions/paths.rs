//! Paths, and URLs. The functions for paths of the operating system are the same, whatever it is.

use std::sync::Arc;

use gotmpl::Value;

use super::{
    account::{Made, NamedFunction, string},
    cast::{map_of, string_of},
};

/// These functions.
pub(super) static FUNCTIONS: &[NamedFunction] = &[
    ("base", 1, 1, |a| Ok(string(base(string_of(&a[0])?)))),
    ("osBase", 1, 1, |a| Ok(string(base(string_of(&a[0])?)))),
    ("dir", 1, 1, |a| Ok(string(dir(string_of(&a[0])?)))),
    ("osDir", 1, 1, |a| Ok(string(dir(string_of(&a[0])?)))),
    ("clean", 1, 1, |a| Ok(string(clean(string_of(&a[0])?)))),
    ("osClean", 1, 1, |a| Ok(string(clean(string_of(&a[0])?)))),
    ("ext", 1, 1, |a| Ok(string(ext(string_of(&a[0])?)))),
    ("osExt", 1, 1, |a| Ok(string(ext(string_of(&a[0])?)))),
    ("isAbs", 1, 1, |a| Ok(Value::Bool(string_of(&a[0])?.starts_with('/')))),
    ("osIsAbs", 1, 1, |a| Ok(Value::Bool(string_of(&a[0])?.starts_with('/')))),
    ("urlParse", 1, 1, |a| parse_url(string_of(&a[0])?)),
    ("urlJoin", 1, 1, join_url),
];

/// The last part of a path.
fn base(path: &str) -> &str {
    match path.trim_end_matches('/') {
        "" if path.is_empty() => ".",
        "" => "/",
        path => path.rsplit('/').next().unwrap_or(path),
    }
}

/// A path without its last part.
fn dir(path: &str) -> String {
    clean(path.rfind('/').map_or("", |at| &path[..=at]))
}

/// The shortest path that is the same.
fn clean(path: &str) -> String {
    let is_rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if is_rooted => {}
            part => parts.push(part),
        }
    }
    match (is_rooted, parts.join("/")) {
        (true, path) => format!("/{path}"),
        (false, path) if path.is_empty() => ".".into(),
        (false, path) => path,
    }
}

/// What stands behind the last dot of a path's last part, with the dot.
fn ext(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.rfind('.').map_or("", |at| &name[at..])
}

/// The parts of a URL (RFC 3986), as a dict.
fn parse_url(url: &str) -> Made {
    let is_scheme = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
    };
    if url.chars().any(|c| c.is_ascii_control()) {
        return Err("a URL has no control characters".into());
    }
    let (rest, fragment) = url.split_once('#').unwrap_or((url, ""));
    let (scheme, rest) = match rest.split_once(':') {
        Some((scheme, rest)) if is_scheme(scheme) => (scheme.to_ascii_lowercase(), rest),
        Some(("", _)) => return Err(format!("{url:?} lacks its scheme")),
        _ => (String::new(), rest),
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path, opaque) = match rest.strip_prefix("//") {
        Some(rest) => {
            let end = rest.find('/').unwrap_or(rest.len());
            (&rest[..end], &rest[end..], "")
        }
        None if !scheme.is_empty() && !rest.starts_with('/') => ("", "", rest),
        None => ("", rest, ""),
    };
    let (userinfo, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (hostname, _) = crate::oci::split_port(host);
    let parts = [
        ("scheme", scheme.as_str()),
        ("host", host),
        ("hostname", hostname.trim_matches(['[', ']'])),
        ("path", path),
        ("query", query),
        ("opaque", opaque),
        ("fragment", fragment),
        ("userinfo", userinfo),
    ];
    Ok(Value::Map(Arc::new(parts.into_iter().map(|(key, part)| (key.into(), string(part))).collect())))
}

/// The URL of parts in a dict.
fn join_url(a: &[Value]) -> Made {
    let map = map_of(&a[0])?;
    let part = |key: &str| map.get(key).and_then(Value::as_str).unwrap_or_default();
    let mut url = String::new();
    if !part("scheme").is_empty() {
        url += &format!("{}:", part("scheme"));
    }
    let (host, path) = (part("host"), part("path"));
    if !part("opaque").is_empty() {
        url += part("opaque");
    } else {
        if !host.is_empty() || !part("userinfo").is_empty() {
            url += "//";
            if !part("userinfo").is_empty() {
                url += &format!("{}@", part("userinfo"));
            }
            url += host;
            if !path.is_empty() && !path.starts_with('/') {
                url.push('/');
            }
        }
        url += path;
    }
    if !part("query").is_empty() {
        url += &format!("?{}", part("query"));
    }
    if !part("fragment").is_empty() {
        url += &format!("#{}", part("fragment"));
    }
    Ok(string(url))
}
