//! A store and a target in memory, for tests: it counts what it is asked for, and fails where it is told to.

use std::{
    collections::{BTreeMap, HashMap},
    io::Read,
    sync::{Arc, Mutex},
};

use super::{Locator, Origin, Store, target::BlobContent, target::Target};
use crate::{
    error::{Error, ErrorKind, Result},
    oci::{Annotations, Descriptor, Digest, Manifest, Repository, json, manifest::Index, media},
};

/// One repository, in memory.
pub struct MemoryStore {
    repository: Repository,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    content: HashMap<Digest, Vec<u8>>,
    tags: BTreeMap<String, Descriptor>,
    referrers: HashMap<Digest, Vec<Descriptor>>,
    /// What was asked for, in order: `blob DIGEST FROM`, `push DIGEST`, `manifest DIGEST`, `tag NAME`.
    calls: Vec<String>,
    /// Bytes of a blob that are given in place of the right ones.
    wrong: HashMap<Digest, Vec<u8>>,
}

impl MemoryStore {
    /// An empty repository `mem.example.com/NAME`.
    pub fn new(name: &str) -> MemoryStore {
        let repository = Repository { registry: "mem.example.com".into(), path: name.into() };
        MemoryStore { repository, inner: Mutex::default() }
    }

    /// Where its content comes from.
    pub fn origin(&self) -> Origin {
        Origin::Repository(self.repository.clone())
    }

    /// Puts content under its digest.
    pub fn add(&self, media_type: &str, bytes: &[u8]) -> Descriptor {
        let descriptor = Descriptor::new(media_type, Digest::of(bytes), bytes.len() as u64);
        self.inner.lock().unwrap().content.insert(descriptor.digest.clone(), bytes.into());
        descriptor
    }

    /// An image with a configuration and these layers.
    pub fn image(&self, layers: &[&[u8]]) -> Descriptor {
        let config = self.add(media::CONFIG, br#"{"os":"linux","architecture":"amd64"}"#);
        let layers: Vec<Descriptor> = layers.iter().map(|bytes| self.add("layer", bytes)).collect();
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": media::MANIFEST, "config": config, "layers": layers,
        });
        self.add(media::MANIFEST, manifest.to_string().as_bytes())
    }

    /// An index over manifests.
    pub fn index(&self, manifests: Vec<Descriptor>) -> Descriptor {
        self.add(media::INDEX, &json::compact(&Index::new("", manifests, Annotations::new())))
    }

    /// A signature or the like: an artifact that refers to `subject`.
    pub fn referrer(&self, subject: &Descriptor, layer: &[u8]) -> Descriptor {
        let (config, layer) = (self.add("application/vnd.oci.empty.v1+json", b"{}"), self.add("layer", layer));
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": media::MANIFEST, "config": config, "layers": [layer], "subject": subject,
        });
        let descriptor = self.add(media::MANIFEST, manifest.to_string().as_bytes());
        let mut inner = self.inner.lock().unwrap();
        inner.referrers.entry(subject.digest.clone()).or_default().push(descriptor.clone());
        descriptor
    }

    /// Gives these bytes in place of a blob's own.
    pub fn spoil(&self, descriptor: &Descriptor, bytes: &[u8]) {
        self.inner.lock().unwrap().wrong.insert(descriptor.digest.clone(), bytes.into());
    }

    /// What it holds under a digest.
    pub fn content(&self, digest: &Digest) -> Option<Vec<u8>> {
        self.inner.lock().unwrap().content.get(digest).cloned()
    }

    /// What a tag points to.
    pub fn tagged(&self, tag: &str) -> Option<Digest> {
        self.inner.lock().unwrap().tags.get(tag).map(|descriptor| descriptor.digest.clone())
    }

    /// What was asked for, in order.
    pub fn calls(&self) -> Vec<String> {
        self.inner.lock().unwrap().calls.clone()
    }

    fn called(&self, what: String) {
        self.inner.lock().unwrap().calls.push(what);
    }

    fn get(&self, digest: &Digest) -> Result<Vec<u8>> {
        let inner = self.inner.lock().unwrap();
        let bytes = inner.wrong.get(digest).or_else(|| inner.content.get(digest));
        bytes.cloned().ok_or_else(|| Error::new(format!("there is no {digest}")).of(ErrorKind::Missing))
    }
}

impl Store for MemoryStore {
    fn resolve(&self, name: &Locator) -> Result<(Descriptor, Arc<[u8]>)> {
        let Locator::Registry(reference) = name else { return Err(Error::new("it is no reference")) };
        let tagged = self.inner.lock().unwrap().tags.get(&reference.target()).cloned();
        let descriptor = tagged.ok_or_else(|| Error::new(format!("there is no {name}")))?;
        let bytes = self.get(&descriptor.digest)?;
        Ok((descriptor, bytes.into()))
    }

    fn manifest(&self, _: &Origin, descriptor: &Descriptor) -> Result<Arc<[u8]>> {
        self.called(format!("fetch {}", descriptor.digest));
        Ok(self.get(&descriptor.digest)?.into())
    }

    fn referrers(&self, _: &Origin, descriptor: &Descriptor) -> Result<Vec<Descriptor>> {
        Ok(self.inner.lock().unwrap().referrers.get(&descriptor.digest).cloned().unwrap_or_default())
    }

    fn blob(&self, _: &Origin, descriptor: &Descriptor, from: u64) -> Result<Box<dyn Read + '_>> {
        self.called(format!("blob {} {from}", descriptor.digest));
        let bytes = self.get(&descriptor.digest)?;
        Ok(Box::new(std::io::Cursor::new(bytes.get(from as usize..).unwrap_or_default().to_vec())))
    }

    fn has_blob(&self, _: &Origin, descriptor: &Descriptor) -> Result<()> {
        self.get(&descriptor.digest).map(drop)
    }

    fn shutdown(&self) {}
}

impl Target for MemoryStore {
    fn repository(&self) -> &Repository {
        &self.repository
    }

    fn exists(&self, descriptor: &Descriptor) -> Result<bool> {
        Ok(self.inner.lock().unwrap().content.contains_key(&descriptor.digest))
    }

    fn mount(&self, _: &Descriptor, _: &Repository) -> bool {
        false
    }

    fn push_blob(&self, descriptor: &Descriptor, content: &dyn BlobContent) -> Result<()> {
        let mut bytes = Vec::new();
        content.open(0)?.read_to_end(&mut bytes).map_err(Error::from_io)?;
        if !descriptor.digest.matches(&bytes) {
            return Err(Error::new("digest mismatch"));
        }
        self.called(format!("push {}", descriptor.digest));
        self.inner.lock().unwrap().content.insert(descriptor.digest.clone(), bytes);
        Ok(())
    }

    fn push_manifest(&self, descriptor: &Descriptor, bytes: &[u8]) -> Result<()> {
        let manifest = Manifest::parse(&descriptor.media_type, bytes).map_err(Error::new)?;
        // As a registry does: what a manifest refers to must be there, but for its subject.
        for below in manifest.config.iter().chain(&manifest.layers).chain(&manifest.manifests) {
            if !self.exists(below)? {
                return Err(Error::new(format!("{} is not there", below.digest)));
            }
        }
        self.called(format!("manifest {}", descriptor.digest));
        self.inner.lock().unwrap().content.insert(descriptor.digest.clone(), bytes.into());
        Ok(())
    }

    fn has_manifest(&self, descriptor: &Descriptor) -> Result<bool> {
        Ok(self.inner.lock().unwrap().calls.contains(&format!("manifest {}", descriptor.digest)))
    }

    fn lists_referrer(&self, _: &Digest, _: &Digest) -> Result<bool> {
        Ok(true)
    }

    fn look(&self, descriptor: &Descriptor, tag: Option<&str>) -> Result<()> {
        let is_there = match tag {
            Some(tag) => self.tagged(tag).as_ref() == Some(&descriptor.digest),
            None => self.has_manifest(descriptor)?,
        };
        is_there.then_some(()).ok_or_else(|| Error::new(format!("{} is not there", descriptor.digest)))
    }

    fn fetch(&self, descriptor: &Descriptor) -> Result<Option<Arc<[u8]>>> {
        Ok(self.content(&descriptor.digest).map(Into::into))
    }

    fn blob(&self, descriptor: &Descriptor, from: u64) -> Result<Box<dyn Read + '_>> {
        Store::blob(self, &self.origin(), descriptor, from)
    }

    fn tag(&self, descriptor: &Descriptor, _: &[u8], tag: &str) -> Result<()> {
        self.called(format!("tag {tag}"));
        self.inner.lock().unwrap().tags.insert(tag.into(), descriptor.clone());
        Ok(())
    }
}

impl Target for &MemoryStore {
    fn repository(&self) -> &Repository {
        &self.repository
    }

    fn exists(&self, descriptor: &Descriptor) -> Result<bool> {
        Target::exists(*self, descriptor)
    }

    fn mount(&self, descriptor: &Descriptor, from: &Repository) -> bool {
        Target::mount(*self, descriptor, from)
    }

    fn push_blob(&self, descriptor: &Descriptor, content: &dyn BlobContent) -> Result<()> {
        Target::push_blob(*self, descriptor, content)
    }

    fn push_manifest(&self, descriptor: &Descriptor, bytes: &[u8]) -> Result<()> {
        Target::push_manifest(*self, descriptor, bytes)
    }

    fn has_manifest(&self, descriptor: &Descriptor) -> Result<bool> {
        Target::has_manifest(*self, descriptor)
    }

    fn lists_referrer(&self, subject: &Digest, referrer: &Digest) -> Result<bool> {
        Target::lists_referrer(*self, subject, referrer)
    }

    fn look(&self, descriptor: &Descriptor, tag: Option<&str>) -> Result<()> {
        Target::look(*self, descriptor, tag)
    }

    fn fetch(&self, descriptor: &Descriptor) -> Result<Option<Arc<[u8]>>> {
        Target::fetch(*self, descriptor)
    }

    fn blob(&self, descriptor: &Descriptor, from: u64) -> Result<Box<dyn Read + '_>> {
        Target::blob(*self, descriptor, from)
    }

    fn tag(&self, descriptor: &Descriptor, bytes: &[u8], tag: &str) -> Result<()> {
        Target::tag(*self, descriptor, bytes, tag)
    }
}
