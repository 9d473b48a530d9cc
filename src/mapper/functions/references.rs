//! References, taken apart: `registry/repository[:tag][@digest]`.

use super::{
    account::{Made, NamedFunction, string},
    cast::string_of,
};
use crate::oci::{Digest, reference};

/// These functions.
pub(super) static FUNCTIONS: &[NamedFunction] = &[
    ("Registry", 1, 1, |a| part(string_of(&a[0])?, |parts| parts.registry)),
    ("Repository", 1, 1, |a| part(string_of(&a[0])?, |parts| parts.repository)),
    ("Tag", 1, 1, |a| part(string_of(&a[0])?, |parts| parts.digest.or(parts.tag).unwrap_or_default())),
    ("Package", 1, 1, |a| part(string_of(&a[0])?, |parts| parts.package)),
];

/// A reference, as it is written.
struct ReferenceParts<'a> {
    registry: &'a str,
    repository: &'a str,
    /// All behind the first slash.
    package: &'a str,
    tag: Option<&'a str>,
    digest: Option<&'a str>,
}

fn part<'a>(text: &'a str, choose: fn(ReferenceParts<'a>) -> &'a str) -> Made {
    let wrong = |why: &str| format!("{text:?} is no reference: {why}");
    let (registry, package) = text.split_once('/').ok_or_else(|| wrong("it names no registry, or no repository"))?;
    if !reference::is_host(registry) {
        return Err(wrong("it names no registry"));
    }
    let (name, digest) = match package.split_once('@') {
        Some((name, digest)) => {
            digest.parse::<Digest>().map_err(|why| wrong(&why))?;
            (name, Some(digest))
        }
        None => (package, None),
    };
    let (repository, tag) = match name.rsplit_once(':') {
        Some((repository, tag)) => (repository, Some(tag)),
        None => (name, None),
    };
    // Beside a digest a tag says nothing.
    if let Some(tag) = tag.filter(|tag| digest.is_none() && !reference::is_tag(tag)) {
        return Err(wrong(&format!("{tag:?} is no tag")));
    }
    if !repository.split('/').all(reference::is_component) {
        return Err(wrong(&format!("{repository:?} is no repository")));
    }
    Ok(string(choose(ReferenceParts { registry, repository, package, tag, digest })))
}
