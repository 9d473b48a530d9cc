//! Why what is on a medium is not the beginning of the archive that is planned: which sources have moved on.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufReader, ErrorKind as IoErrorKind, Read, Seek},
    path::Path,
};

use crate::{
    archive::write::{frame::frames_reader, plan::Plan},
    compression::Format,
    error::Error,
    oci::{
        Descriptor, Digest, Manifest, annotation,
        layout::{INDEX_FILE, MANIFEST_SIZE_MAX},
        media,
    },
};

/// Adds to an error which sources have moved on, if some have.
pub(super) fn explained(error: Error, plan: &Plan, path: &Path, format: Option<Format>) -> Error {
    let sources = |bytes: &[u8]| -> Option<BTreeMap<String, Vec<Digest>>> {
        let root = Manifest::parse(media::INDEX, bytes).ok()?;
        let mut all: BTreeMap<String, Vec<Digest>> = BTreeMap::new();
        for descriptor in root.extra_manifests().ok()?.into_iter().chain(root.manifests) {
            let name = descriptor.annotations.get(annotation::SOURCE)?.clone();
            all.entry(name).or_default().push(descriptor.digest);
        }
        Some(all)
    };
    let planned = plan.root_manifest().and_then(sources);
    let begun = File::open(path).ok().and_then(|file| root_of(file, format)).and_then(|bytes| sources(&bytes));
    let (Some(planned), Some(begun)) = (planned, begun) else { return error };
    let list = |digests: &[Digest]| digests.iter().map(Digest::to_string).collect::<Vec<_>>().join(" and ");
    let mut moved = Vec::new();
    for (name, digests) in &planned {
        match begun.get(name) {
            Some(before) if before == digests => {}
            Some(before) => moved.push(format!("{name} was {}, and is now {}", list(before), list(digests))),
            None => moved.push(format!("{name} was not in it")),
        }
    }
    moved.extend(begun.keys().filter(|name| !planned.contains_key(*name)).map(|name| format!("{name} is missing now")));
    match moved.is_empty() {
        true => error,
        false => error.doing(format!("the sources have moved on since it was begun: {}", moved.join("; "))),
    }
}

/// The root's manifest in an archive, whole or not.
fn root_of(mut file: File, format: Option<Format>) -> Option<Vec<u8>> {
    file.rewind().ok()?;
    let from: Box<dyn Read> = match format {
        None => Box::new(BufReader::new(file)),
        Some(format) => frames_reader(BufReader::new(file), format).ok()?,
    };
    let mut archive = tar::Archive::new(from);
    let mut root: Option<Descriptor> = None;
    for entry in archive.entries().ok()? {
        let mut entry = match entry {
            Err(e) if e.kind() == IoErrorKind::Interrupted => continue,
            other => other.ok()?,
        };
        let name = String::from_utf8(entry.path_bytes().into_owned()).ok()?;
        let wanted = root.as_ref().map_or(INDEX_FILE.into(), |root| root.digest.path());
        if name != wanted {
            continue;
        }
        let mut bytes = Vec::new();
        entry.by_ref().take(MANIFEST_SIZE_MAX).read_to_end(&mut bytes).ok()?;
        if root.is_some() {
            return Some(bytes);
        }
        root = Manifest::parse(media::INDEX, &bytes).ok()?.manifests.into_iter().next();
        root.as_ref()?;
    }
    None
}
