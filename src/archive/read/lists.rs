//! What lists the images of an archive, and is protected by no digest: `index.json`, once in front of the blobs and once
//! behind them in archives of this tool, and `manifest.json`.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    sync::Arc,
};

use serde::Deserialize;

use crate::{
    archive::documents::docker_name,
    oci::{
        Annotations, Descriptor, Digest, Manifest, annotation,
        json::{self, few_items},
        manifest::Index,
        media,
    },
};

/// Characters of a name, at the most; a reference has fewer than a thousand.
const NAME_MAX: usize = 4096;
/// containerd's name of an image in an index.
const IMAGE_NAME: &str = "io.containerd.image.name";

/// What an index says of one thing that it lists, as far as it matters: a descriptor would need several times as much
/// memory as it has bytes.
#[derive(Clone, Debug)]
pub struct ListedManifest {
    /// What it is.
    pub media_type: Arc<str>,
    /// Of its content.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    /// The name that it gives an image.
    pub name: Option<Arc<str>>,
    /// The name is that of a source.
    is_source: bool,
    /// In words.
    pub platform: Option<Arc<str>>,
    /// The labels of a source, as JSON.
    pub labels: Option<Arc<str>>,
    /// Of all that is said of it.
    fingerprint: [u8; 16],
}

/// Text that many share.
#[derive(Clone, Default)]
pub struct Interner(HashSet<Arc<str>>);

impl Interner {
    /// This text, shared with whoever had it before.
    pub fn share(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.0.get(text) {
            return known.clone();
        }
        let shared: Arc<str> = text.into();
        self.0.insert(shared.clone());
        shared
    }

    /// What `descriptor` says, in little memory.
    pub fn listed(&mut self, descriptor: &Descriptor) -> ListedManifest {
        ListedManifest {
            media_type: self.share(&descriptor.media_type),
            digest: descriptor.digest.clone(),
            size: descriptor.size,
            name: name_of(&descriptor.annotations).map(|name| self.share(&cut(name))),
            is_source: descriptor.annotations.contains_key(annotation::SOURCE),
            labels: descriptor.annotations.get(annotation::LABELS).map(|labels| self.share(&cut(labels))),
            platform: descriptor.platform.as_ref().map(|platform| self.share(&platform.to_string())),
            fingerprint: fingerprint(descriptor),
        }
    }
}

/// Of all that a descriptor says.
fn fingerprint(descriptor: &Descriptor) -> [u8; 16] {
    let Digest::Sha256(hash) = Digest::of(&json::compact(descriptor)) else {
        unreachable!("Digest::of makes a SHA-256")
    };
    hash[..16].try_into().expect("32 bytes have 16")
}

/// An image of `manifest.json`, as `docker save` and others write it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DockerListed {
    /// The file that holds its configuration.
    pub config: String,
    /// Its names.
    #[serde(default, deserialize_with = "few_items")]
    pub repo_tags: Vec<String>,
    /// The files that hold its layers, the lowest first.
    #[serde(default, deserialize_with = "few_items")]
    pub layers: Vec<String>,
}

/// The lists of an archive.
#[derive(Default)]
pub struct IndexLists {
    /// The first `index.json`, if there are several.
    first: Option<Manifest>,
    /// The last one.
    index: Option<Manifest>,
    /// How many there are.
    indexes: usize,
    /// `manifest.json`.
    docker: Vec<DockerListed>,
}

/// What is known of the rest of the archive.
pub struct KnownContent<'a> {
    /// It holds blobs.
    pub has_blobs: bool,
    /// Whether it holds a blob, or something else is known to.
    pub is_there: &'a dyn Fn(&Digest) -> bool,
    /// Whether it is a manifest with a subject.
    pub is_referrer: &'a dyn Fn(&Digest) -> bool,
}

impl IndexLists {
    /// Notes an `index.json`; a later one takes the place of an earlier.
    ///
    /// # Errors
    /// If it is none, or says that it is of the format of this tool and is written otherwise.
    pub fn set_index(&mut self, bytes: &[u8]) -> Result<(), String> {
        let index = Manifest::parse(media::INDEX, bytes)?;
        let again = Index::new("", index.manifests.clone(), index.annotations.clone());
        let is_right = !is_ours(&index) || json::pretty(&again) == bytes;
        let before = self.index.replace(index);
        self.first = self.first.take().or(before);
        self.indexes += 1;
        is_right.then_some(()).ok_or_else(|| "it is not written as archives of its format are".into())
    }

    /// Notes a `manifest.json`.
    ///
    /// # Errors
    /// If it is none.
    pub fn set_docker(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.docker = serde_json::from_slice(bytes).map_err(|e| format!("it is no list of images: {e}"))?;
        Ok(())
    }

    /// The digest of the root, if there is one.
    pub fn root(&self) -> Option<&Digest> {
        self.first.as_ref().or(self.index.as_ref())?.manifests.first().map(|root| &root.digest)
    }

    /// What the last `index.json` lists.
    pub fn roots(&self) -> &[Descriptor] {
        self.index.as_ref().map_or(&[], |index| &index.manifests)
    }

    /// How many `index.json` there are.
    pub fn count(&self) -> usize {
        self.indexes
    }

    /// Whether the last `index.json` says that it is of the format of this tool.
    pub fn are_ours(&self) -> bool {
        self.index.as_ref().is_some_and(is_ours)
    }

    /// The images that `manifest.json` lists.
    pub fn images_of_docker(&self) -> &[DockerListed] {
        &self.docker
    }

    /// What digests do not protect: `index.json` and `manifest.json` must say what manifests say. `listed` gives what all
    /// indexes list.
    pub fn check<'a, I: Iterator<Item = &'a ListedManifest>>(
        &self,
        listed: &dyn Fn() -> I,
        known: &KnownContent,
        tell: &mut dyn FnMut(String),
    ) {
        let Some(index) = &self.index else { return };
        let ours = is_ours(index);
        if index.manifests.is_empty() && known.has_blobs {
            tell("index.json lists no image, though there are blobs".into());
        }
        if ours && self.indexes < 2 {
            tell("the index.json behind the blobs is missing".into());
        }
        if (ours || self.first.as_ref().is_some_and(is_ours)) && self.indexes > 2 {
            tell(format!("there are {} index.json, and an archive of its format has two", self.indexes));
        }
        if !ours && self.first.as_ref().is_some_and(is_ours) {
            tell("the index.json in front of the blobs is of the format of this tool, and the last is not".into());
        }
        if let Some(first) = self.first.as_ref().filter(|_| ours && self.indexes == 2) {
            let roots = first.manifests.len() == 1 && first.manifests.first() == index.manifests.first();
            if !roots || first.annotations != index.annotations {
                tell("the index.json in front of the blobs and the one behind them differ".into());
            }
        }
        if ours {
            let mut said: HashMap<&Digest, HashSet<[u8; 16]>> = HashMap::new();
            for listed in listed() {
                said.entry(&listed.digest).or_default().insert(listed.fingerprint);
            }
            for descriptor in index.manifests.iter().skip(1).filter(|descriptor| !descriptor.is_bare()) {
                // What a referrer is said to be, its registry said.
                let is_referrer = (known.is_referrer)(&descriptor.digest);
                if !is_referrer
                    && said.get(&descriptor.digest).is_some_and(|said| !said.contains(&fingerprint(descriptor)))
                {
                    tell(format!("index.json says of {} what no index in the archive says", descriptor.digest));
                }
            }
        }
        let sources: HashSet<&str> =
            listed().filter(|listed| listed.is_source).filter_map(|l| l.name.as_deref()).collect();
        let names: HashSet<String> = sources.iter().filter_map(|source| docker_name(source)).collect();
        for image in &self.docker {
            for path in image.layers.iter().chain([&image.config]) {
                let digest = path.strip_prefix("blobs/").and_then(|path| path.replacen('/', ":", 1).parse().ok());
                match digest {
                    Some(digest) if (known.is_there)(&digest) => {}
                    None if !ours => {}
                    _ => tell(format!("manifest.json names {path:?}, which is not there")),
                }
            }
            let is_known = |name: &String| names.contains(name) || sources.contains(name.as_str());
            for name in image.repo_tags.iter().filter(|name| ours && !is_known(name)) {
                tell(format!("manifest.json names {name:?}, which is no source"));
            }
        }
    }
}

/// Whether an `index.json` says that it is of the format of this tool.
fn is_ours(index: &Manifest) -> bool {
    index.annotations.contains_key(annotation::SERIALIZATION_VERSION)
}

/// A name, cut if it is longer than any reference: thousands of images may share it, and each is told by it.
fn cut(name: &str) -> Cow<'_, str> {
    match name.char_indices().nth(NAME_MAX) {
        Some((end, _)) => Cow::Owned(format!("{}...", &name[..end])),
        None => Cow::Borrowed(name),
    }
}

/// The name that a descriptor gives an image: that of its source, that of containerd, or any other.
pub fn name_of(annotations: &Annotations) -> Option<&str> {
    [annotation::SOURCE, IMAGE_NAME, annotation::REF_NAME]
        .iter()
        .find_map(|key| annotations.get(*key))
        .map(String::as_str)
}
