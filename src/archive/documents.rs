//! `index.json` and `manifest.json`, the two files of an archive that are made for their readers.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use crate::{
    error::{Error, Result},
    oci::{
        Annotations, Descriptor, Digest, Manifest, Reference, annotation, json, layout::DEPTH_MAX, manifest::Index,
        media,
    },
    store::graph::Graph,
};

/// The version of the format that this tool writes.
const SERIALIZATION_VERSION: &str = "2";

/// The content of `index.json`: indented by two spaces, without a newline at the end.
/// `deduplicated` is the root's annotation of that name, if it has one.
pub fn index_json(manifests: Vec<Descriptor>, deduplicated: Option<&str>, version: &str) -> Vec<u8> {
    let annotations = Annotations::from([
        (annotation::SIZE_DEDUPLICATED.into(), deduplicated.unwrap_or("0").into()),
        (annotation::SERIALIZATION_VERSION.into(), SERIALIZATION_VERSION.into()),
        (annotation::VERSION.into(), version.into()),
    ]);
    json::pretty(&Index::new("", manifests, annotations))
}

/// One image of `manifest.json`, as `docker load` reads it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

/// The content of `manifest.json` for the gathered `sources`, each with its source annotation.
///
/// # Errors
/// If a manifest is missing or malformed, or indexes are nested too deep.
pub fn manifest_json(graph: &Graph, sources: &[Descriptor]) -> Result<Vec<u8>> {
    let mut images: Vec<DockerImage> = Vec::new();
    let mut at = HashMap::new();
    let (mut listed, mut named, mut barren) = (HashSet::new(), HashSet::new(), HashSet::new());
    for source in sources {
        let Some(reference) = source.annotations.get(annotation::SOURCE) else { continue };
        if !listed.insert(reference) {
            continue;
        }
        let Some((descriptor, manifest)) = image_of(graph, source, &mut barren, 0)? else { continue };
        let Some(config) = manifest.config else { continue };
        let index = *at.entry(descriptor.digest).or_insert_with(|| {
            images.push(DockerImage {
                config: config.digest.path(),
                repo_tags: Vec::new(),
                layers: manifest.layers.iter().map(|l| l.digest.path()).collect(),
            });
            images.len() - 1
        });
        images[index].repo_tags.extend(docker_name(reference).filter(|name| named.insert(name.clone())));
    }
    Ok(json::pretty(&images))
}

/// The name of a source for `docker load`, which takes names with tags only: an image that has none is loaded without a
/// name.
pub fn docker_name(source: &str) -> Option<String> {
    let reference: Reference = source.parse().ok()?;
    let tag = match (&reference.tag, &reference.digest) {
        (Some(tag), _) => tag,
        (None, Some(_)) => return None,
        (None, None) => "latest",
    };
    let written = source.split('@').next().unwrap_or(source);
    let name = written.strip_suffix(&format!(":{tag}")).unwrap_or(written);
    Some(format!("{name}:{tag}"))
}

/// The image that stands for `descriptor`: itself, or of an index linux/amd64, else the first.
/// `barren` are indexes known to hold none.
fn image_of(
    graph: &Graph,
    descriptor: &Descriptor,
    barren: &mut HashSet<Digest>,
    depth: usize,
) -> Result<Option<(Descriptor, Manifest)>> {
    let manifest = graph.parse(descriptor)?;
    if !media::is_index(&descriptor.media_type) {
        return Ok(Some((descriptor.clone(), manifest)));
    }
    if barren.contains(&descriptor.digest) {
        return Ok(None);
    }
    if depth > DEPTH_MAX {
        return Err(Error::new(format!("{} nests indexes too deep", descriptor.digest)));
    }
    let is_amd64 = |d: &&Descriptor| d.platform.as_ref().is_some_and(|p| p.os == "linux" && p.architecture == "amd64");
    let is_here =
        |d: &&Descriptor| media::is_manifest(&d.media_type) && !graph.is_left_out(&descriptor.digest, &d.digest);
    let candidates = || manifest.manifests.iter().filter(is_here);
    for candidate in candidates().filter(is_amd64).chain(candidates()) {
        if let Some(image) = image_of(graph, candidate, barren, depth + 1)? {
            return Ok(Some(image));
        }
    }
    barren.insert(descriptor.digest.clone());
    Ok(None)
}
