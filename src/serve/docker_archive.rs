//! Archives without an image layout, as `docker save` (before version 25), `podman save`, skopeo and crane write them: a
//! `manifest.json` that names files. Manifests are made for what it lists.
//!
//! The digest of a layer need not be computed: of one that is not compressed the configuration of the image has it
//! (image specification, "Image Configuration", `rootfs.diff_ids`), and crane names a compressed one by it. As of every
//! blob it is checked when the layer is read for the first time.

use std::{cell::RefCell, collections::HashMap, io::Read as _, path::Path};

use serde::Deserialize;
use serde_json::json;

use super::content::{BlobPlace, Held, add_copy};
use crate::{
    archive::read::{
        catalog::BLOBS_MAX,
        lists::DockerListed,
        tar::{Fault, MemberKind, TarReader},
    },
    compression::Format,
    error::{Error, Result},
    log,
    media::source::MediaSource,
    oci::{
        Descriptor, Digest, Reference, annotation,
        json::{self, few_items},
        layout::MANIFEST_SIZE_MAX,
        media,
    },
    signal,
};

/// Media types of layers (image specification, "Layer").
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// Hashed at once.
const PIECE: usize = 256 << 10;

/// What of a configuration is needed.
#[derive(Deserialize)]
struct ImageConfig {
    #[serde(default)]
    rootfs: RootFs,
}

#[derive(Default, Deserialize)]
struct RootFs {
    #[serde(default, deserialize_with = "few_items")]
    diff_ids: Vec<Digest>,
}

/// An image, as far as the files say.
struct ImageParts {
    config: Descriptor,
    /// Each layer, unless it is no file, and the digest of what it unpacks to.
    layers: Vec<(Option<Descriptor>, Digest)>,
}

/// The files of such an archive.
struct DockerFiles<'a> {
    /// Where the content of each begins, and its bytes.
    members: HashMap<String, (u64, u64)>,
    place: &'a dyn Fn(u64) -> BlobPlace,
    /// Layers that are compressed, by their files: many images may have one.
    known: RefCell<HashMap<String, (&'static str, Digest)>>,
}

/// What such an archive holds: blobs, manifests among them, and the images with their names.
pub type DockerContent = (HashMap<Digest, Held>, Vec<Descriptor>);

/// Makes manifests for the images that a `manifest.json` lists, whose archive begins where `from` stands. `place` says where
/// an offset of the archive lies.
///
/// # Errors
/// If the archive breaks off, or lacks what is listed.
pub fn open(
    path: &Path,
    listed: &[DockerListed],
    from: &mut dyn MediaSource,
    place: &dyn Fn(u64) -> BlobPlace,
) -> Result<DockerContent> {
    let files = DockerFiles { members: members(from)?, place, known: RefCell::default() };
    let (mut blobs, mut roots) = DockerContent::default();
    // What of an image is a link leads to a layer of this or another image.
    let mut images = Vec::new();
    for image in listed {
        match files.image(image, &mut blobs) {
            Ok(found) => images.push((image, found)),
            Err(e) => log::warn(format_args!("{path:?}: image {:?} is not served: {e}", image.config)),
        }
    }
    for (image, ImageParts { config, layers }) in images {
        let mut whole = Vec::new();
        for ((layer, diff_id), name) in layers.into_iter().zip(&image.layers) {
            let linked = || Some(Descriptor::new(LAYER, diff_id.clone(), blobs.get(&diff_id)?.size()));
            match layer.or_else(linked) {
                Some(layer) => whole.push(layer),
                None => log::warn(format_args!("{path:?}: image {:?} is not served: it lacks {name:?}", image.config)),
            }
        }
        if whole.len() < image.layers.len() {
            continue;
        }
        let manifest = json!({"schemaVersion": 2, "mediaType": media::MANIFEST, "config": config, "layers": whole});
        let manifest = json::compact(&manifest);
        let descriptor = Descriptor::new(media::MANIFEST, Digest::of(&manifest), manifest.len() as u64);
        let held = Held::new(BlobPlace::Memory(manifest.into()), descriptor.size);
        blobs.insert(descriptor.digest.clone(), held);
        let named = |name: &String| {
            let mut root = descriptor.clone();
            root.annotations.insert(annotation::SOURCE.into(), whole_name(name));
            root
        };
        roots.extend(image.repo_tags.iter().map(named));
        if image.repo_tags.is_empty() {
            roots.push(descriptor);
        }
    }
    Ok((blobs, roots))
}

/// What Docker means by a name: one without a registry is of `docker.io`, and there of `library` if it has one part only.
fn whole_name(name: &str) -> String {
    if name.parse::<Reference>().is_ok() {
        return name.into();
    }
    let library = if name.contains('/') { "" } else { "library/" };
    let whole = format!("docker.io/{library}{name}");
    if whole.parse::<Reference>().is_ok() { whole } else { name.into() }
}

/// The name of a file, as others refer to it.
fn plain_name(name: &str) -> &str {
    name.trim_start_matches("./")
}

fn members(from: &mut dyn MediaSource) -> Result<HashMap<String, (u64, u64)>> {
    let (mut tar, mut members) = (TarReader::new(from, 0), HashMap::new());
    loop {
        match tar.member() {
            Ok(None) => return Ok(members),
            Ok(Some(member)) if member.kind == MemberKind::File => {
                if members.len() >= BLOBS_MAX {
                    return Err(Error::new("it holds too many files"));
                }
                members.insert(plain_name(&member.name).to_string(), (member.content, member.size));
            }
            Ok(Some(_)) => {}
            Err(Fault::Cut(place, why)) => return Err(Error::new(format!("{why} at {place}"))),
            Err(Fault::Malformed(place, why)) => return Err(Error::new(format!("{why} ({place})"))),
            Err(Fault::Unreadable(place, e)) => return Err(e.doing(format!("reading it at {place}"))),
            Err(Fault::Foreign(what)) => return Err(Error::new(what)),
        }
    }
}

impl DockerFiles<'_> {
    fn held(&self, name: &str) -> Option<Held> {
        let (content, size) = self.members.get(plain_name(name))?;
        Some(Held::new((self.place)(*content), *size))
    }

    /// What an image consists of. Its configuration, and those of its layers that are files, are added to `blobs`.
    fn image(&self, image: &DockerListed, blobs: &mut HashMap<Digest, Held>) -> Result<ImageParts> {
        let held = self.held(&image.config).ok_or_else(|| Error::new("the archive lacks its configuration"))?;
        if held.size() > MANIFEST_SIZE_MAX {
            return Err(Error::new(format!("its configuration has more than {MANIFEST_SIZE_MAX} bytes")));
        }
        let mut bytes = Vec::new();
        held.open(0)?.read_to_end(&mut bytes).map_err(Error::from_io)?;
        let parsed: ImageConfig =
            serde_json::from_slice(&bytes).map_err(|e| Error::new(format!("its configuration is none: {e}")))?;
        let diff_ids = parsed.rootfs.diff_ids;
        if diff_ids.len() != image.layers.len() {
            let (has, names) = (image.layers.len(), diff_ids.len());
            return Err(Error::new(format!("it has {has} layers, and its configuration names {names}")));
        }
        let digest = Digest::of(&bytes);
        let config = Descriptor::new(media::CONFIG, digest.clone(), held.size());
        add_copy(blobs, digest, held);
        let mut layers = Vec::new();
        for (name, diff_id) in image.layers.iter().zip(diff_ids) {
            let mut layer = None;
            if let Some(held) = self.held(name) {
                let (media_type, digest) = self.layer(name, &diff_id, &held)?;
                layer = Some(Descriptor::new(media_type, digest.clone(), held.size()));
                add_copy(blobs, digest, held);
            }
            layers.push((layer, diff_id));
        }
        Ok(ImageParts { config, layers })
    }

    /// The media type and the digest of a layer in a file.
    fn layer(&self, name: &str, diff_id: &Digest, held: &Held) -> Result<(&'static str, Digest)> {
        if let Some(known) = self.known.borrow().get(plain_name(name)) {
            return Ok(known.clone());
        }
        signal::check()?;
        let mut magic = Vec::new();
        held.open(0)?.take(4).read_to_end(&mut magic).map_err(Error::from_io)?;
        let media_type = match Format::of(&magic) {
            None => return Ok((LAYER, diff_id.clone())),
            Some(Format::Gzip) => LAYER_GZIP,
            Some(Format::Zstd) => LAYER_ZSTD,
        };
        let own = plain_name(name).split('.').next().unwrap_or_default().trim_start_matches("sha256:");
        let know = |digest: Digest| {
            self.known.borrow_mut().insert(plain_name(name).into(), (media_type, digest.clone()));
            Ok((media_type, digest))
        };
        if let Ok(digest) = format!("sha256:{own}").parse() {
            return know(digest);
        }
        log::line(format_args!("layer {name:?} is compressed, and is read once to find its digest"));
        let (mut from, mut hasher, mut piece) = (held.open(0)?, diff_id.hasher(), vec![0; PIECE]);
        loop {
            match from.read(&mut piece).map_err(Error::from_io)? {
                0 => return know(hasher.finish()),
                n => hasher.update(&piece[..n]),
            }
            signal::check()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_docker() {
        for (name, whole) in [
            ("alpine:3", "docker.io/library/alpine:3"),
            ("team/app:v1", "docker.io/team/app:v1"),
            ("reg.example.com/app:v1", "reg.example.com/app:v1"),
            ("localhost:5000/app:v1", "localhost:5000/app:v1"),
            ("No Name", "No Name"),
        ] {
            assert_eq!(whole_name(name), whole);
        }
    }
}
