//! The plan of an archive: every entry, its order and its offset, before one layer is fetched.
//!
//! Manifests state the size of all they refer to, so the whole archive is known to the byte once
//! the manifests are here. From the plan follow the exact size, what each producer fills, and the
//! checkpoint's offsets. It knows nothing of registries; blobs are named by descriptor and origin.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use hashbrown::HashTable;

use crate::{
    archive::{END_LEN, TAR_BLOCK, documents, padded, tar_header},
    error::{Error, Result},
    oci::{
        Descriptor, Digest, annotation,
        layout::{BLOBS, INDEX_FILE, LAYOUT_CONTENT, LAYOUT_FILE},
        media,
    },
    store::{
        Origin,
        graph::{Graph, OriginId},
    },
};

/// One entry of the archive, ready to be written: header, body, padding.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Offset of its header.
    pub start: u64,
    /// One TAR block, or three; none for the end marker.
    pub header: Vec<u8>,
    /// What follows the header.
    pub body: EntryBody,
    /// Zeros behind the body: up to a whole TAR block, or the end marker.
    pub padding: u64,
}

/// What an entry holds.
#[derive(Clone, Debug)]
pub enum EntryBody {
    /// Bytes that are here: none of a directory; a file that is no blob, a manifest, or inline content.
    Bytes(Arc<[u8]>),
    /// A blob to be fetched, as its index into the plan's blobs.
    Fetched(u32),
}

impl Entry {
    /// Offset of its body.
    pub fn body_start(&self) -> u64 {
        self.start + self.header.len() as u64
    }
}

/// Where an entry stands, and what it holds, in few bytes: nearly all are blobs to be fetched.
#[derive(Debug)]
struct Slot {
    /// Offset of its header.
    start: u64,
    content: SlotContent,
}

#[derive(Clone, Copy, Debug)]
enum SlotContent {
    /// Index into `blobs`.
    Fetched(u32),
    /// Index into `inline`.
    Inline(u32),
}

/// What an entry holds whose bytes are here.
#[derive(Clone, Debug)]
enum Inline {
    Directory(Box<str>),
    /// A file that is not a blob.
    File(Box<str>, Arc<[u8]>),
    /// Index into `blobs`, and the bytes: a manifest, or inline content.
    Blob(u32, Arc<[u8]>),
    /// The end-of-archive marker.
    End,
}

/// A blob of the archive, in few bytes.
#[derive(Debug)]
struct Blob {
    digest: Digest,
    size: u64,
    /// Offset after its padding.
    end: u64,
    media_type: u32,
    origin: OriginId,
    /// The whole descriptor, where it says more than media type, digest and size.
    full: Option<Box<Descriptor>>,
}

/// What an archive is to hold.
pub struct ArchiveSpec<'a> {
    /// The root's descriptor; its manifest is in the graph.
    pub root: Descriptor,
    /// Copy referrers too.
    pub recursive: bool,
    /// What is at the destination already, whatever it is: not written.
    pub on_media: &'a HashSet<Digest>,
    /// Blobs (not manifests) that are at the destination already: not written.
    pub existing: &'a HashSet<Digest>,
    /// Add a `manifest.json`.
    pub manifest_json: bool,
    /// The tool's version, for `index.json`.
    pub version: &'a str,
}

/// A planned archive.
#[derive(Debug)]
pub struct Plan {
    root: Digest,
    slots: Vec<Slot>,
    /// Contents that are no blobs to be fetched.
    inline: Vec<Inline>,
    blobs: Vec<Blob>,
    media_types: Vec<Box<str>>,
    origins: Vec<Origin>,
    total: u64,
    /// Manifests met, those at the destination already included.
    pub manifests: usize,
    /// Blobs and manifests left out because they are at the destination already.
    pub skipped: u64,
}

impl Plan {
    /// Plans the archive of `spec` over the manifests in `graph`.
    ///
    /// # Errors
    /// If a manifest is missing or malformed, or the sizes claimed add up to more than 2^64.
    pub fn new(graph: &Graph, spec: &ArchiveSpec) -> Result<Plan> {
        let deduplicated = graph.parse(&spec.root)?.annotations.remove(annotation::SIZE_DEDUPLICATED);
        let index_of = |manifests| documents::index_json(manifests, deduplicated.as_deref(), spec.version);
        let mut builder = PlanBuilder::default();
        builder.file(LAYOUT_FILE, LAYOUT_CONTENT.into())?;
        builder.file(INDEX_FILE, index_of(vec![spec.root.clone()]).into())?;
        let (mut met, mut order) = (HashSet::new(), Vec::new());
        graph.walk(&spec.root, spec.recursive, &mut |descriptor, origin| {
            let is_manifest = media::is_manifest(&descriptor.media_type);
            if is_manifest {
                if !met.insert((descriptor.media_type.clone(), descriptor.digest.clone(), descriptor.size)) {
                    return Ok(false);
                }
                order.push(descriptor.clone());
            }
            let there = spec.on_media.contains(&descriptor.digest)
                || !is_manifest && spec.existing.contains(&descriptor.digest);
            let held = if is_manifest { Some(graph.bytes(descriptor)?) } else { None };
            builder.blob(descriptor, origin, held, there)?;
            Ok(true)
        })?;
        let manifests = order.len();
        builder.file(INDEX_FILE, index_of(order).into())?;
        if spec.manifest_json {
            let root = graph.parse(&spec.root)?;
            let mut sources = root.manifests.clone();
            sources.extend(root.extra_manifests().map_err(Error::new)?);
            builder.file("manifest.json", documents::manifest_json(graph, &sources)?.into())?;
        }
        builder.finish(spec.root.digest.clone(), graph.origins().to_vec(), manifests)
    }

    /// The digest of what the archive is of.
    pub fn root(&self) -> &Digest {
        &self.root
    }

    /// Bytes of the whole archive.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Blobs in the archive, manifests included.
    pub fn blobs(&self) -> usize {
        self.blobs.len()
    }

    /// Bytes to fetch: the blobs that are not at hand.
    pub fn to_fetch(&self) -> u64 {
        let fetched = |slot: &Slot| match slot.content {
            SlotContent::Fetched(blob) => self.size(blob),
            SlotContent::Inline(_) => 0,
        };
        self.slots.iter().map(fetched).sum()
    }

    /// How many entries there are, the end marker included.
    pub fn entries(&self) -> usize {
        self.slots.len()
    }

    /// Entry number `n`.
    pub fn entry(&self, n: usize) -> Entry {
        let Slot { start, content } = self.slots[n];
        let end = self.slots.get(n + 1).map_or(self.total, |next| next.start);
        let blob_header = |blob: u32| {
            let blob = &self.blobs[blob as usize];
            tar_header::file(&blob.digest.path(), blob.size)
        };
        let nothing = || EntryBody::Bytes(Arc::from(&b""[..]));
        let (header, body) = match content {
            SlotContent::Fetched(blob) => (blob_header(blob), EntryBody::Fetched(blob)),
            SlotContent::Inline(index) => match &self.inline[index as usize] {
                Inline::Directory(name) => (tar_header::directory(name), nothing()),
                Inline::File(name, bytes) => {
                    (tar_header::file(name, bytes.len() as u64), EntryBody::Bytes(bytes.clone()))
                }
                Inline::Blob(blob, bytes) => (blob_header(*blob), EntryBody::Bytes(bytes.clone())),
                Inline::End => (Vec::new(), nothing()),
            },
        };
        let size = match &body {
            EntryBody::Bytes(bytes) => bytes.len() as u64,
            EntryBody::Fetched(blob) => self.size(*blob),
        };
        let padding = end - start - header.len() as u64 - size;
        Entry { start, header, body, padding }
    }

    /// The entry that the byte at `offset` belongs to.
    pub fn entry_at(&self, offset: u64) -> usize {
        self.slots.partition_point(|slot| slot.start <= offset) - 1
    }

    /// Where each entry after `from` starts, and where the last one ends, all counted from `from`.
    pub fn bounds(&self, from: u64) -> impl Iterator<Item = u64> {
        let ends = self.slots.iter().map(|slot| slot.start).chain([self.total]);
        [0].into_iter().chain(ends.filter(move |end| *end > from).map(move |end| end - from))
    }

    /// The first bytes of the archive, up to the first entry that holds a blob, or with `held_blobs` up
    /// to the first whose bytes are not here.
    pub fn known_prefix(&self, held_blobs: bool) -> Vec<u8> {
        let mut known = Vec::new();
        for n in 0..self.entries() {
            let is_known = match self.slots[n].content {
                SlotContent::Fetched(_) => false,
                SlotContent::Inline(index) => match self.inline[index as usize] {
                    Inline::File(..) => true,
                    Inline::Directory(_) | Inline::Blob(..) => held_blobs,
                    Inline::End => false,
                },
            };
            let Entry { header, body: EntryBody::Bytes(bytes), padding, .. } = self.entry(n) else { break };
            if !is_known {
                break;
            }
            known.extend(header);
            known.extend(&*bytes);
            known.resize(known.len() + padding as usize, 0);
        }
        known
    }

    /// What stands behind the last blob.
    pub fn tail(&self) -> Vec<u8> {
        let mut known = Vec::new();
        for n in self.slots.partition_point(|slot| slot.start < self.last_blob_end())..self.entries() {
            let Entry { header, body, padding, .. } = self.entry(n);
            known.extend(header);
            if let EntryBody::Bytes(bytes) = body {
                known.extend(&*bytes);
            }
            known.resize(known.len() + padding as usize, 0);
        }
        known
    }

    /// The bytes of the first blob, if they are here: the root's manifest.
    pub fn root_manifest(&self) -> Option<&[u8]> {
        self.inline.iter().find_map(|inline| match inline {
            Inline::Blob(0, bytes) => Some(&**bytes),
            _ => None,
        })
    }

    /// A blob's digest.
    pub fn digest(&self, blob: u32) -> &Digest {
        &self.blobs[blob as usize].digest
    }

    /// A blob's size in bytes.
    pub fn size(&self, blob: u32) -> u64 {
        self.blobs[blob as usize].size
    }

    /// Where a blob comes from.
    pub fn origin(&self, blob: u32) -> &Origin {
        &self.origins[self.blobs[blob as usize].origin.0 as usize]
    }

    /// A blob's descriptor.
    pub fn descriptor(&self, blob: u32) -> Descriptor {
        let blob = &self.blobs[blob as usize];
        match &blob.full {
            Some(full) => (**full).clone(),
            None => Descriptor::new(&*self.media_types[blob.media_type as usize], blob.digest.clone(), blob.size),
        }
    }

    /// How many blobs lie whole in what is there: blobs end at offsets for which `there` holds, up
    /// to a last one.
    pub fn whole(&self, there: impl Fn(u64) -> bool) -> usize {
        self.blobs.partition_point(|blob| there(blob.end))
    }

    /// The first blob that ends behind `offset`.
    pub fn blob_after(&self, offset: u64) -> usize {
        self.blobs.partition_point(|blob| blob.end <= offset)
    }

    /// Where the last blob ends; 0 if there is none.
    pub fn last_blob_end(&self) -> u64 {
        self.blobs.last().map_or(0, |blob| blob.end)
    }

    /// Where a blob ends, its padding included.
    pub fn blob_end(&self, blob: usize) -> Option<u64> {
        Some(self.blobs.get(blob)?.end)
    }
}

/// A plan in the making.
#[derive(Default)]
struct PlanBuilder {
    slots: Vec<Slot>,
    inline: Vec<Inline>,
    blobs: Vec<Blob>,
    media_types: Vec<Box<str>>,
    media_type_of: HashMap<Box<str>, u32>,
    /// The numbers of all blobs, found by their digests: a tenth of a set of digests.
    written: HashTable<u32>,
    hasher: RandomState,
    /// What was left out.
    left_out: HashSet<Digest>,
    algorithms: Vec<&'static str>,
    at: u64,
}

impl PlanBuilder {
    /// Appends an entry with a header of `header` bytes and a content of `size`.
    fn push(&mut self, content: SlotContent, header: u64, size: u64) -> Result<u64> {
        let end = padded(size).and_then(|s| s.checked_add(header)).and_then(|n| self.at.checked_add(n));
        let end = end
            .filter(|&e| e < i64::MAX as u64)
            .ok_or_else(|| Error::new("the sizes in the manifests add up to more than any medium holds"))?;
        self.slots.push(Slot { start: self.at, content });
        self.at = end;
        Ok(end)
    }

    /// Keeps what an entry holds.
    fn keep(&mut self, inline: Inline) -> SlotContent {
        self.inline.push(inline);
        SlotContent::Inline(self.inline.len() as u32 - 1)
    }

    fn file(&mut self, name: &str, bytes: Arc<[u8]>) -> Result<()> {
        let size = bytes.len() as u64;
        let header = tar_header::file(name, size).len() as u64;
        let content = self.keep(Inline::File(name.into(), bytes));
        self.push(content, header, size)?;
        Ok(())
    }

    fn directory(&mut self, name: &str) -> Result<()> {
        let content = self.keep(Inline::Directory(name.into()));
        self.push(content, TAR_BLOCK, 0)?;
        Ok(())
    }

    /// Appends a blob, unless it was met before or is `there`. `held` are its bytes, if at hand.
    fn blob(&mut self, descriptor: &Descriptor, origin: OriginId, held: Option<Arc<[u8]>>, there: bool) -> Result<()> {
        let hashed = self.hasher.hash_one(&descriptor.digest);
        let is_it = |&number: &u32| self.blobs[number as usize].digest == descriptor.digest;
        if self.left_out.contains(&descriptor.digest) || self.written.find(hashed, is_it).is_some() {
            return Ok(());
        }
        if there {
            self.left_out.insert(descriptor.digest.clone());
            return Ok(());
        }
        let algorithm = descriptor.digest.algorithm();
        if self.algorithms.is_empty() {
            self.directory(BLOBS)?;
        }
        if !self.algorithms.contains(&algorithm) {
            self.algorithms.push(algorithm);
            self.directory(&format!("{BLOBS}/{algorithm}"))?;
        }
        let held = held.or_else(|| descriptor.inline().map(Into::into)).or_else(|| {
            let empty = descriptor.size == 0 && descriptor.digest.matches(b"");
            empty.then(|| Arc::from(&b""[..]))
        });
        let number = u32::try_from(self.blobs.len()).map_err(|_| Error::new("more blobs than an archive can hold"))?;
        let media_type = self.media_type(&descriptor.media_type);
        let content = match held {
            Some(bytes) => self.keep(Inline::Blob(number, bytes)),
            None => SlotContent::Fetched(number),
        };
        let header = tar_header::file(&descriptor.digest.path(), descriptor.size).len() as u64;
        let end = self.push(content, header, descriptor.size)?;
        self.blobs.push(Blob {
            digest: descriptor.digest.clone(),
            size: descriptor.size,
            end,
            media_type,
            origin,
            full: (!descriptor.is_bare()).then(|| Box::new(descriptor.clone())),
        });
        let (blobs, hasher) = (&self.blobs, &self.hasher);
        self.written.insert_unique(hashed, number, |&number| hasher.hash_one(&blobs[number as usize].digest));
        Ok(())
    }

    fn media_type(&mut self, name: &str) -> u32 {
        if let Some(&number) = self.media_type_of.get(name) {
            return number;
        }
        let number = self.media_types.len() as u32;
        self.media_types.push(name.into());
        self.media_type_of.insert(name.into(), number);
        number
    }

    fn finish(mut self, root: Digest, origins: Vec<Origin>, manifests: usize) -> Result<Plan> {
        let end = self.keep(Inline::End);
        self.push(end, 0, END_LEN)?;
        Ok(Plan {
            root,
            slots: self.slots,
            inline: self.inline,
            blobs: self.blobs,
            media_types: self.media_types,
            origins,
            total: self.at,
            manifests,
            skipped: self.left_out.len() as u64,
        })
    }
}

#[cfg(test)]
pub mod tests;
