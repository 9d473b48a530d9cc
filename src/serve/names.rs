//! Under which repositories and tags an image is served.

use std::borrow::Cow;

use crate::oci::{Reference, reference::is_component, reference::is_tag};

/// A repository, and the tag in it, if there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedName {
    /// Parts with slashes between them.
    pub repository: String,
    /// The tag.
    pub tag: Option<String>,
}

/// The names under which an image is served that is called `name` in an archive or layout called `stem`; the first is the
/// shortest. `reg.example.com/library/alpha:v1` is `library/alpha:v1`, and with its registry in front of that. A tag alone is
/// a tag of `stem`.
pub fn served_as(name: &str, stem: &str) -> Vec<ServedName> {
    let named = |repository: String, tag: &Option<String>| ServedName { repository, tag: tag.clone() };
    if let Ok(Reference { repository, tag, digest, .. }) = name.parse::<Reference>() {
        let tag = tag.or_else(|| digest.is_none().then(|| "latest".into()));
        // No part of a name holds a colon.
        let registry = repository.registry.to_lowercase().replace(':', "_");
        let long = is_component(&registry).then(|| named(format!("{registry}/{}", repository.path), &tag));
        return [named(repository.path, &tag)].into_iter().chain(long).collect();
    }
    let layout = name.strip_prefix("oci-archive:").or_else(|| name.strip_prefix("oci:"));
    if layout.is_none() && is_tag(name) {
        return vec![named(as_component(stem), &Some(name.to_string()))];
    }
    let text = layout.unwrap_or(name);
    let (path, tag) = match text.rsplit_once(':') {
        Some((path, tag)) if is_tag(tag) => (path, tag),
        _ => (text, "latest"),
    };
    // Of a path the last part; others wrote a name without a registry.
    let path = if layout.is_some() { path.rsplit('/').next().unwrap_or(path) } else { path };
    let parts: Vec<String> = path.split('/').filter(|part| !part.is_empty()).map(as_component).collect();
    let repository = if parts.is_empty() { as_component(stem) } else { parts.join("/") };
    vec![named(repository, &Some(tag.into()))]
}

/// The same text as a part of a repository's name, as nearly as can be.
pub fn as_component(text: &str) -> String {
    let lower = text.to_lowercase();
    let part: Cow<str> = match is_component(&lower) {
        true => lower.into(),
        false => {
            let kept = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' };
            lower.chars().map(kept).collect::<String>().trim_matches('-').to_string().into()
        }
    };
    if part.is_empty() { "archive".into() } else { part.into_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (name, all) in [
            ("reg.example.com/library/alpha:v1", &["library/alpha:v1", "reg.example.com/library/alpha:v1"][..]),
            ("reg.example.com/alpha", &["alpha:latest", "reg.example.com/alpha:latest"]),
            ("localhost:5000/a/b:1", &["a/b:1", "localhost_5000/a/b:1"]),
            (
                "reg.example.com/a@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                &["a", "reg.example.com/a"],
            ),
            ("v1.2", &["week-48:v1.2"]),
            ("oci:/srv/Layouts/my image:v2", &["my-image:v2"]),
            ("oci-archive:x.tar", &["x.tar:latest"]),
            ("alpine:3", &["alpine:3"]),
            ("team/app:v1", &["team/app:v1"]),
            ("no name at all", &["no-name-at-all:latest"]),
            ("../..", &["archive/archive:latest"]),
        ] {
            let found = served_as(name, "Week 48");
            let found: Vec<String> = found
                .iter()
                .map(|named| match &named.tag {
                    Some(tag) => format!("{}:{tag}", named.repository),
                    None => named.repository.clone(),
                })
                .collect();
            assert_eq!(found, all, "{name}");
        }
    }
}
