//! Where content comes from and where it goes: the interfaces that the core sees of registries and
//! layouts.
//!
//! [`Store`] gives, [`target::Target`] takes. [`router`] is the store of a run, with [`layout`] and
//! [`cache`] behind it; [`graph`] holds the manifests that were fetched.

pub mod cache;
pub mod graph;
pub mod layout;
#[cfg(test)]
pub mod memory;
pub mod router;
pub mod target;

use std::{
    fmt,
    io::Read,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use crate::{
    error::Result,
    oci::{Descriptor, Reference, Repository},
};

/// A place that holds blobs under their digests.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A repository of a registry, named as the user wrote it.
    Repository(Repository),
    /// An OCI image layout in a directory.
    Layout(PathBuf),
    /// An archive in a file.
    Archive(PathBuf),
    /// Made here: all there is of it is in memory.
    Memory,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Repository(repository) => repository.fmt(f),
            Origin::Layout(dir) => write!(f, "oci:{}", dir.display()),
            Origin::Archive(file) => write!(f, "oci-archive:{}", file.display()),
            Origin::Memory => f.write_str("the gather index"),
        }
    }
}

/// What a user names: an image in a registry, in a layout (`oci:DIR[:ref]`), or in an archive
/// (`oci-archive:FILE[:ref]`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Locator {
    /// In a registry.
    Registry(Reference),
    /// Directory, and the name or digest of the image in it; without one, the only image there is.
    Layout(PathBuf, Option<String>),
    /// Archive, and the name or digest of the image in it; without one, all that was gathered into it.
    Archive(PathBuf, Option<String>),
}

impl Locator {
    /// The place that holds it.
    pub fn origin(&self) -> Origin {
        match self {
            Locator::Registry(reference) => Origin::Repository(reference.repository.clone()),
            Locator::Layout(dir, _) => Origin::Layout(dir.clone()),
            Locator::Archive(file, _) => Origin::Archive(file.clone()),
        }
    }

    /// The layout that it is in, if it is in one.
    pub fn layout(&self) -> Option<&Path> {
        match self {
            Locator::Layout(dir, _) => Some(dir),
            Locator::Registry(_) | Locator::Archive(..) => None,
        }
    }

    /// The archive that it is in, if it is in one.
    pub fn archive(&self) -> Option<&Path> {
        match self {
            Locator::Archive(file, _) => Some(file),
            Locator::Registry(_) | Locator::Layout(..) => None,
        }
    }
}

impl fmt::Display for Locator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Locator::Registry(reference) => reference.fmt(f),
            Locator::Layout(dir, None) => write!(f, "oci:{}", dir.display()),
            Locator::Layout(dir, Some(name)) => write!(f, "oci:{}:{name}", dir.display()),
            Locator::Archive(file, None) => write!(f, "oci-archive:{}", file.display()),
            Locator::Archive(file, Some(name)) => write!(f, "oci-archive:{}:{name}", file.display()),
        }
    }
}

impl FromStr for Locator {
    type Err = String;

    /// The name of a directory or file may hold colons, and so may a reference: the shortest part before a
    /// colon (or `@`) that is there is taken for the layout or archive.
    fn from_str(text: &str) -> std::result::Result<Locator, String> {
        if let Some(rest) = text.strip_prefix("oci:") {
            let found = split_name(rest, &|path| path.is_dir());
            let (dir, name) = found.ok_or_else(|| missing(text, rest, "directory"))?;
            return Ok(Locator::Layout(dir, name));
        }
        if let Some(rest) = text.strip_prefix("oci-archive:") {
            let found = split_name(rest, &|path| path.exists() && !path.is_dir());
            let (file, name) = found.ok_or_else(|| missing(text, rest, "file"))?;
            return Ok(Locator::Archive(file, name));
        }
        Ok(Locator::Registry(text.parse()?))
    }
}

fn missing(text: &str, rest: &str, what: &str) -> String {
    match rest {
        "" => format!("{text:?} names no {what}"),
        dir if what == "file" && Path::new(dir).is_dir() => {
            format!("{text:?}: it is a directory; oci:DIR names a layout")
        }
        _ => format!("{text:?}: there is no such {what}"),
    }
}

/// A path that is there, and what follows it.
fn split_name(text: &str, is_there: &dyn Fn(&Path) -> bool) -> Option<(PathBuf, Option<String>)> {
    if !text.is_empty() && is_there(Path::new(text)) {
        return Some((text.into(), None));
    }
    let mut ends = text.match_indices([':', '@']).map(|(at, _)| at);
    let at = ends.find(|&at| at > 0 && at + 1 < text.len() && is_there(Path::new(&text[..at])))?;
    Some((text[..at].into(), Some(text[at + 1..].into())))
}

/// Fetches content. Every manifest that it gives has been checked against its digest; a blob's
/// bytes are checked by whoever reads them.
pub trait Store: Sync {
    /// Finds what a name points to, with its bytes.
    ///
    /// # Errors
    /// If there is no such image, or it cannot be had.
    fn resolve(&self, name: &Locator) -> Result<(Descriptor, Arc<[u8]>)>;

    /// A manifest's bytes, checked.
    ///
    /// # Errors
    /// If it cannot be had whole.
    fn manifest(&self, origin: &Origin, descriptor: &Descriptor) -> Result<Arc<[u8]>>;

    /// What refers to a manifest, in the order in which the registry lists it.
    ///
    /// # Errors
    /// If they cannot be listed.
    fn referrers(&self, origin: &Origin, descriptor: &Descriptor) -> Result<Vec<Descriptor>>;

    /// The tags of a repository; none where there is no such thing.
    ///
    /// # Errors
    /// If they cannot be listed.
    fn tags(&self, _origin: &Origin) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// A blob's bytes from `from` on, unchecked. Reading on after the last byte gives 0.
    ///
    /// # Errors
    /// If it cannot be opened there.
    fn blob(&self, origin: &Origin, descriptor: &Descriptor, from: u64) -> Result<Box<dyn Read + '_>>;

    /// Finds out whether a blob can be had, without fetching it.
    ///
    /// # Errors
    /// If it cannot.
    fn has_blob(&self, origin: &Origin, descriptor: &Descriptor) -> Result<()>;

    /// Ends every request, now and later, with an error.
    fn shutdown(&self);
}
