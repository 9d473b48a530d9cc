//! What an archive holds: its blobs, the manifests among them, and what those refer to.
//!
//! Entries may come in any order, so references are followed only when all is known. Sizes and
//! references are claims: each is compared with what is there.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::{
    archive::{
        padded,
        read::{
            document::Document,
            lists::{IndexLists, Interner, KnownContent, ListedManifest},
            tar::StreamPosition,
        },
    },
    error::{Error, Result},
    oci::{Descriptor, Digest, Manifest, media},
    util::units::grouped,
};

mod elsewhere;

pub use elsewhere::Elsewhere;

/// Of so many bytes of manifests the references are kept: some three times that in memory.
const DOCUMENTS_MAX: u64 = 512 << 20;
/// So many blobs are kept in mind, in some 200 bytes each.
pub const BLOBS_MAX: usize = 4 << 20;
/// A blob of the archive.
#[derive(Clone, Debug)]
pub struct HeldBlob {
    /// Bytes.
    pub size: u64,
    /// Where its first header stands.
    pub place: StreamPosition,
    /// Offset in the TAR stream behind its padding.
    pub end: u64,
    /// Its content has its digest.
    pub sound: bool,
}

impl HeldBlob {
    /// Offset in the TAR stream of its first byte.
    pub fn begin(&self) -> u64 {
        self.end - padded(self.size).unwrap_or(self.size)
    }
}

/// What a manifest says of something else.
#[derive(Clone, Debug)]
pub(super) struct ManifestLink {
    /// What it is to the manifest: its subject, configuration, layer, blob, or a manifest of an index.
    pub(super) role: &'static str,
    /// As the reference says.
    pub(super) media_type: Arc<str>,
    /// Of what it refers to.
    pub(super) digest: Digest,
    /// Bytes of it, as the manifest says.
    pub(super) size: u64,
}

/// A manifest, as far as it matters.
#[derive(Debug)]
pub(super) struct ManifestSummary {
    /// What it says of itself, or nothing.
    pub(super) media_type: Arc<str>,
    /// It is a gather index.
    pub(super) is_gather: bool,
    /// All that it refers to.
    pub(super) edges: Box<[ManifestLink]>,
    /// Of an index, what it lists.
    pub(super) index: Box<[ListedManifest]>,
    /// Of a gather index, manifests that `--sparse-index` left out.
    left_out: Box<[Digest]>,
    /// What is malformed in it.
    malformed: Option<Box<str>>,
}

/// Something that is referred to and not as it is said to be.
#[derive(Clone, Debug)]
pub struct Flaw {
    /// What is referred to.
    pub digest: Digest,
    /// It is not there.
    pub missing: bool,
    /// What is wrong, in words.
    pub text: String,
}

/// All that is known of an archive.
#[derive(Default)]
pub struct Catalog {
    blobs: HashMap<Digest, HeldBlob>,
    /// Manifests and indexes.
    pub(super) documents: HashMap<Digest, ManifestSummary>,
    /// The platforms that configurations of images name, in words.
    pub(super) configs: HashMap<Digest, Arc<str>>,
    shared: Interner,
    /// Bytes of the manifests in `documents`.
    kept: u64,
    /// `index.json` and `manifest.json`.
    pub lists: IndexLists,
    /// Whether an `oci-layout` was met.
    pub has_layout: bool,
}

impl Catalog {
    /// All blobs, by their digests.
    pub fn blobs(&self) -> &HashMap<Digest, HeldBlob> {
        &self.blobs
    }

    /// Manifests and indexes that were read.
    pub fn manifests(&self) -> usize {
        self.documents.len()
    }

    /// Bytes of all blobs.
    pub fn bytes(&self) -> u64 {
        self.blobs.values().map(|held| held.size).sum()
    }

    /// Whether it lists images as `docker save` does, and has nothing of a layout.
    pub fn is_docker_archive(&self) -> bool {
        !self.lists.images_of_docker().is_empty() && !self.has_layout && self.lists.count() == 0
    }

    /// Notes a blob. Returns where it stands already, if it does, and whether it is sound there.
    ///
    /// # Errors
    /// If there are more than can be kept in mind.
    pub fn blob(
        &mut self,
        digest: &Digest,
        held: HeldBlob,
        parsed: Option<Document>,
    ) -> Result<Option<(StreamPosition, bool)>> {
        if self.blobs.len() >= BLOBS_MAX {
            return Err(Error::new(format!("it holds more than {} blobs", grouped(BLOBS_MAX as u64))));
        }
        let before = self.blobs.get(digest).map(|held| (held.place, held.sound));
        if before.is_none_or(|(_, sound)| !sound) {
            if held.sound {
                self.document(digest, parsed)?;
            }
            self.blobs.insert(digest.clone(), held);
        }
        Ok(before)
    }

    /// Notes what was made of a blob.
    ///
    /// # Errors
    /// If there are more manifests than can be kept in mind.
    pub fn document(&mut self, digest: &Digest, parsed: Option<Document>) -> Result<()> {
        match parsed {
            Some(Document::Config(platform)) => {
                let platform = self.shared.share(&platform.to_string());
                self.configs.insert(digest.clone(), platform);
            }
            Some(Document::Manifest(manifest, bytes)) => {
                self.kept += bytes;
                if self.kept > DOCUMENTS_MAX {
                    let why = format!("its manifests have more than {} bytes", grouped(DOCUMENTS_MAX));
                    return Err(Error::new(why));
                }
                let document = self.digested(*manifest)?;
                self.documents.insert(digest.clone(), document);
            }
            None => {}
        }
        Ok(())
    }

    fn digested(&mut self, mut manifest: Manifest) -> Result<ManifestSummary> {
        let (extra, malformed) = match manifest.extra_manifests() {
            Ok(extra) => (extra, None),
            Err(why) => (Vec::new(), Some(why.into())),
        };
        let left_out = manifest.left_out().into_iter().map(|(_, digest)| digest).collect();
        let mut index = std::mem::take(&mut manifest.manifests);
        index.extend(extra);
        let parts = [
            ("subject", manifest.subject.take().into_iter().collect::<Vec<_>>()),
            ("configuration", manifest.config.take().into_iter().collect()),
            ("layer", std::mem::take(&mut manifest.layers)),
            ("blob", std::mem::take(&mut manifest.blobs)),
        ];
        let mut edges = Vec::new();
        let all = parts.iter().flat_map(|(role, list)| list.iter().map(move |d| (*role, d)));
        for (role, descriptor) in all.chain(index.iter().map(|d| ("manifest", d))) {
            edges.push(ManifestLink {
                role,
                media_type: self.shared.share(&descriptor.media_type),
                digest: descriptor.digest.clone(),
                size: descriptor.size,
            });
        }
        let is_gather = manifest.artifact_type == media::GATHER;
        let media_type = self.shared.share(&manifest.media_type);
        let index = index.iter().map(|descriptor| self.shared.listed(descriptor)).collect();
        Ok(ManifestSummary { media_type, is_gather, edges: edges.into(), index, left_out, malformed })
    }

    /// What digests do not protect: see [`IndexLists::check`].
    pub fn check_lists(&self, elsewhere: &dyn Fn(&Digest) -> bool, tell: &mut dyn FnMut(String)) {
        let listed = || self.documents.values().flat_map(|document| &*document.index);
        let known = KnownContent {
            has_blobs: !self.blobs.is_empty(),
            is_there: &|digest| self.blobs.contains_key(digest) || elsewhere(digest),
            is_referrer: &|digest| self.documents.get(digest).is_some_and(ManifestSummary::has_subject),
        };
        self.lists.check(&listed, &known, tell);
    }

    /// What `index.json` lists, as descriptors.
    pub(super) fn roots(&self) -> &[Descriptor] {
        self.lists.roots()
    }

    /// What `index.json` lists.
    pub(super) fn listed_roots(&self) -> impl Iterator<Item = ListedManifest> {
        let mut shared = Interner::default();
        self.roots().iter().map(move |root| shared.listed(root))
    }

    /// The image of a name or digest; without one, the root of an archive of this tool, or the only image.
    ///
    /// # Errors
    /// If there is none, or several, with the names that there are.
    pub fn find(&self, name: Option<&str>) -> Result<Descriptor> {
        let gathered = self.roots().iter().filter_map(|root| self.documents.get(&root.digest));
        let gathered = gathered.filter(|document| document.is_gather).flat_map(|document| document.index.to_vec());
        let mut found: Vec<ListedManifest> = match (name, self.lists.are_ours()) {
            (None, true) => self.listed_roots().take(1).collect(),
            (None, _) => self.listed_roots().filter(|listed| media::is_manifest(&listed.media_type)).collect(),
            (Some(name), _) => {
                let named = |l: &ListedManifest| l.name.as_deref() == Some(name) || l.digest.to_string() == name;
                self.listed_roots().chain(gathered).filter(named).collect()
            }
        };
        let mut seen = HashSet::new();
        found.retain(|listed| seen.insert(listed.digest.clone()));
        match &found[..] {
            [found] => Ok(Descriptor::new(&*found.media_type, found.digest.clone(), found.size)),
            [] => Err(match name {
                Some(name) => Error::new(format!("there is no image {name:?} in the archive")),
                None => Error::new("there is no image in the archive"),
            }
            .hint("ace-dt mirror list tells which there are")),
            _ => Err(Error::new("there are several such images in the archive").hint("write oci-archive:FILE:NAME")),
        }
    }

    /// Manifests that refer to a subject, each with it.
    pub fn referrers(&self) -> impl Iterator<Item = (&Digest, &Digest)> {
        let subject = |document: &ManifestSummary| document.edges.iter().position(|edge| edge.role == "subject");
        self.documents
            .iter()
            .filter_map(move |(digest, document)| Some((digest, &document.edges[subject(document)?].digest)))
    }

    /// Manifests that are not there because `--sparse-index` left them out, by the gather indexes that `index.json` leads
    /// to. What one lists itself is never left out.
    pub fn left_out(&self) -> HashSet<Digest> {
        let (mut all, mut met) = (HashSet::new(), HashSet::new());
        let mut queue: Vec<&Digest> = self.roots().iter().map(|root| &root.digest).collect();
        while let Some(digest) = queue.pop() {
            let gather = self.documents.get(digest).filter(|document| document.is_gather);
            let Some(gather) = gather.filter(|_| met.insert(digest)) else { continue };
            let own: HashSet<&Digest> = gather.index.iter().map(|listed| &listed.digest).collect();
            let left_out = gather.left_out.iter().filter(|digest| !own.contains(digest));
            all.extend(left_out.filter(|digest| !self.blobs.contains_key(digest)).cloned());
            queue.extend(own);
        }
        all
    }

    /// Subjects that are not in the archive, and need not be (distribution specification, "Pushing Manifests with
    /// Subject").
    pub fn missing_subjects(&self) -> usize {
        let missing: HashSet<&Digest> =
            self.referrers().map(|(_, subject)| subject).filter(|subject| !self.blobs.contains_key(subject)).collect();
        missing.len()
    }

    /// Follows every reference from the `index.json` on, but those to subjects that are not there, also through manifests
    /// that are `elsewhere`. Each digest is told of once. Returns what is reachable.
    pub fn check(&self, elsewhere: &Elsewhere, tell: &mut dyn FnMut(Flaw)) -> HashSet<Digest> {
        let mut seen: HashSet<(Digest, Arc<str>, u64)> = HashSet::new();
        let (mut reached, mut missing) = (HashSet::new(), HashSet::new());
        let (mut opened, left_out): (HashSet<Digest>, _) = (HashSet::new(), self.left_out());
        let mut queue: Vec<(ManifestLink, Option<Digest>)> = Vec::new();
        for ListedManifest { media_type, digest, size, .. } in self.listed_roots() {
            queue.push((ManifestLink { role: "manifest", media_type, digest, size }, None));
        }
        while let Some((edge, by)) = queue.pop() {
            let is_listed = edge.role == "manifest" && by.is_some();
            let may_be_missing = edge.role == "subject" || is_listed && left_out.contains(&edge.digest);
            if may_be_missing && !self.blobs.contains_key(&edge.digest) {
                continue;
            }
            if !seen.insert((edge.digest.clone(), edge.media_type.clone(), edge.size)) {
                continue;
            }
            reached.insert(edge.digest.clone());
            let ManifestLink { role, digest, size, media_type } = &edge;
            let named_by = || by.as_ref().map_or("index.json".into(), Digest::to_string);
            let mut wrong = |text: String| tell(Flaw { digest: digest.clone(), missing: false, text });
            let Some(held) = self.blobs.get(digest) else {
                // What lies below a manifest that is elsewhere may be nowhere.
                let document = elsewhere.document(digest).filter(|_| elsewhere.has(digest));
                if let Some(document) = document.filter(|_| opened.insert(digest.clone())) {
                    queue.extend(document.edges.iter().map(|next| (next.clone(), Some(edge.digest.clone()))));
                }
                if let Some(there) = elsewhere.size(digest).filter(|there| there != size) {
                    let (has, says) = (grouped(there), grouped(*size));
                    wrong(format!("{role} {digest} has {has} bytes elsewhere, and {} says {says}", named_by()));
                }
                if !elsewhere.has(digest) && missing.insert(digest.clone()) {
                    let text = format!("{role} {digest} of {} bytes, named by {}", grouped(*size), named_by());
                    tell(Flaw { digest: digest.clone(), missing: true, text });
                }
                continue;
            };
            if held.size != *size {
                let (has, says) = (grouped(held.size), grouped(*size));
                wrong(format!("{role} {digest} has {has} bytes, and {} says {says}", named_by()));
            }
            let own = self.documents.get(digest).map_or("", |document| &*document.media_type);
            if *role == "manifest" && !media::is_manifest(media_type) && media::is_manifest(own) {
                wrong(format!("{role} {digest} says it is {own}, and {} says {media_type:?}", named_by()));
            } else if !media::is_manifest(media_type) || !held.sound {
                continue;
            }
            let Some(document) = self.documents.get(digest) else {
                wrong(format!("{role} {digest} is no manifest"));
                continue;
            };
            if let Some(why) = &document.malformed {
                wrong(format!("{role} {digest}: {why}"));
            }
            let is = &document.media_type;
            if media::is_manifest(media_type) && !is.is_empty() && **is != **media_type {
                wrong(format!("{role} {digest} says it is {is}, and {} says {media_type}", named_by()));
            }
            // Whoever else refers to it says nothing more of what lies below.
            if opened.insert(digest.clone()) {
                queue.extend(document.edges.iter().map(|next| (next.clone(), Some(edge.digest.clone()))));
            }
        }
        reached
    }

    /// Manifests that are listed or referred to, and were not read yet, but lie in the archive; with
    /// the configurations of images.
    pub fn unread(&self) -> Vec<Digest> {
        let roots = self.roots().iter().map(|root| (&root.digest, &*root.media_type));
        let all = roots.chain(self.documents.values().flat_map(ManifestSummary::named));
        self.unread_of(all)
    }

    /// The same of one manifest.
    pub fn unread_below(&self, digest: &Digest) -> Vec<Digest> {
        self.unread_of(self.documents.get(digest).into_iter().flat_map(ManifestSummary::named))
    }

    fn unread_of<'a>(&self, named: impl Iterator<Item = (&'a Digest, &'a str)>) -> Vec<Digest> {
        let wanted = |media_type: &str| media::is_manifest(media_type) || media::is_image_config(media_type);
        let mut all: Vec<Digest> = named
            .filter(|(digest, media_type)| {
                wanted(media_type)
                    && self.blobs.contains_key(*digest)
                    && !self.documents.contains_key(*digest)
                    && !self.configs.contains_key(*digest)
            })
            .map(|(digest, _)| digest.clone())
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

impl ManifestSummary {
    fn has_subject(&self) -> bool {
        self.edges.iter().any(|edge| edge.role == "subject")
    }

    /// All that it refers to, with the media types that it says.
    fn named(&self) -> impl Iterator<Item = (&Digest, &str)> {
        self.edges.iter().map(|edge| (&edge.digest, &*edge.media_type))
    }
}

#[cfg(test)]
mod tests;
