//! The plan of an archive: every entry, its order and its offset, before one layer is fetched.
//!
//! Manifests state the size of all they refer to, so the whole archive is known to the byte once
//! the manifests are here. From the plan follow the exact size, what each producer fills, and the
//! ledger's offsets. It knows nothing of registries; blobs are named by descriptor and origin.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use hashbrown::HashTable;

use crate::{
    archive::{self, documents, tar_header},
    error::{Error, Result},
    oci::{Descriptor, Digest, annotation, media},
    store::{
        Origin,
        graph::{Graph, OriginId},
    },
};

/// What an entry of the archive holds.
#[derive(Clone, Debug)]
pub enum Content {
    Directory(Box<str>),
    /// A file that is not a blob.
    File(Box<str>, Arc<[u8]>),
    /// Blob number so, whose bytes are here: a manifest, or inline content.
    Held(u32, Arc<[u8]>),
    /// Blob number so, to be fetched.
    Fetched(u32),
    /// The end-of-archive marker.
    End,
}

#[derive(Debug)]
struct Entry {
    /// Offset of its header.
    start: u64,
    what: What,
}

/// What an entry holds, in few bytes: nearly all are blobs to be fetched.
#[derive(Clone, Copy, Debug)]
enum What {
    /// Blob number so.
    Fetched(u32),
    /// Number so of the contents that are made here.
    Made(u32),
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
pub struct Wish<'a> {
    /// The root's descriptor; its manifest is in the graph.
    pub root: Descriptor,
    /// Copy referrers too.
    pub recursive: bool,
    /// What is at the destination already, whatever it is: not written.
    pub on_media: &'a HashSet<Digest>,
    /// Blobs (not manifests) that are at the destination already: not written.
    pub existing: &'a HashSet<Digest>,
    pub manifest_json: bool,
    /// The tool's version, for `index.json`.
    pub version: &'a str,
}

/// A planned archive.
#[derive(Debug)]
pub struct Plan {
    entries: Vec<Entry>,
    /// Contents that are no blobs to be fetched.
    made: Vec<Content>,
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
    /// Plans the archive of `wish` over the manifests in `graph`.
    ///
    /// # Errors
    /// If a manifest is missing or malformed, or the sizes claimed add up to more than 2^64.
    pub fn new(graph: &Graph, wish: &Wish) -> Result<Plan> {
        let deduplicated = graph.parse(&wish.root)?.annotations.remove(annotation::SIZE_DEDUPLICATED);
        let index_of = |manifests| documents::index_json(manifests, deduplicated.as_deref(), wish.version);
        let mut draft = Draft::default();
        draft.file("oci-layout", archive::OCI_LAYOUT.into())?;
        draft.file("index.json", index_of(vec![wish.root.clone()]).into())?;
        let (mut met, mut order) = (HashSet::new(), Vec::new());
        graph.walk(&wish.root, wish.recursive, &mut |descriptor, origin| {
            let is_manifest = media::is_manifest(&descriptor.media_type);
            if is_manifest {
                if !met.insert((descriptor.media_type.clone(), descriptor.digest.clone(), descriptor.size)) {
                    return Ok(false);
                }
                order.push(descriptor.clone());
            }
            let there = wish.on_media.contains(&descriptor.digest)
                || !is_manifest && wish.existing.contains(&descriptor.digest);
            let held = if is_manifest { Some(graph.bytes(descriptor)?) } else { None };
            draft.blob(descriptor, origin, held, there)?;
            Ok(true)
        })?;
        let manifests = order.len();
        draft.file("index.json", index_of(order).into())?;
        if wish.manifest_json {
            let root = graph.parse(&wish.root)?;
            let mut sources = root.manifests.clone();
            sources.extend(root.extra_manifests().map_err(Error::new)?);
            draft.file("manifest.json", documents::manifest_json(graph, &sources)?.into())?;
        }
        let plan = draft.finish(graph.origins().to_vec(), manifests)?;
        Ok(plan)
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
        self.entries.iter().map(|e| if let What::Fetched(b) = e.what { self.blobs[b as usize].size } else { 0 }).sum()
    }

    pub fn entries(&self) -> usize {
        self.entries.len()
    }

    pub fn content(&self, entry: usize) -> Content {
        match self.entries[entry].what {
            What::Fetched(blob) => Content::Fetched(blob),
            What::Made(number) => self.made[number as usize].clone(),
        }
    }

    /// Offset of an entry's header.
    pub fn start(&self, entry: usize) -> u64 {
        self.entries[entry].start
    }

    /// The entry that the byte at `offset` belongs to.
    pub fn entry_at(&self, offset: u64) -> usize {
        self.entries.partition_point(|e| e.start <= offset) - 1
    }

    /// Where each entry after `from` starts, and where the last one ends, all counted from `from`.
    pub fn bounds(&self, from: u64) -> impl Iterator<Item = u64> {
        let ends = self.entries.iter().map(|e| e.start).chain([self.total]);
        [0].into_iter().chain(ends.filter(move |end| *end > from).map(move |end| end - from))
    }

    /// An entry's TAR header, empty for the end marker.
    pub fn header(&self, entry: usize) -> Vec<u8> {
        match self.content(entry) {
            Content::Directory(name) => tar_header::directory(&name),
            Content::File(name, bytes) => tar_header::file(&name, bytes.len() as u64),
            Content::Held(blob, _) | Content::Fetched(blob) => {
                let blob = &self.blobs[blob as usize];
                tar_header::file(&blob.digest.path(), blob.size)
            }
            Content::End => Vec::new(),
        }
    }

    pub fn digest(&self, blob: u32) -> &Digest {
        &self.blobs[blob as usize].digest
    }

    pub fn size(&self, blob: u32) -> u64 {
        self.blobs[blob as usize].size
    }

    /// Where a blob comes from.
    pub fn origin(&self, blob: u32) -> &Origin {
        &self.origins[self.blobs[blob as usize].origin.0 as usize]
    }

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

    /// Where a blob ends, its padding included.
    pub fn blob_end(&self, blob: usize) -> Option<u64> {
        Some(self.blobs.get(blob)?.end)
    }
}

/// A plan in the making.
#[derive(Default)]
struct Draft {
    entries: Vec<Entry>,
    made: Vec<Content>,
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

impl Draft {
    /// Appends an entry with a header of `header` bytes and a content of `size`.
    fn push(&mut self, content: Content, header: u64, size: u64) -> Result<u64> {
        let end = archive::padded(size).and_then(|s| s.checked_add(header)).and_then(|n| self.at.checked_add(n));
        let end = end
            .filter(|&e| e < i64::MAX as u64)
            .ok_or_else(|| Error::new("the sizes in the manifests add up to more than any medium holds"))?;
        let what = match content {
            Content::Fetched(blob) => What::Fetched(blob),
            content => {
                self.made.push(content);
                What::Made(self.made.len() as u32 - 1)
            }
        };
        self.entries.push(Entry { start: self.at, what });
        self.at = end;
        Ok(end)
    }

    fn file(&mut self, name: &str, bytes: Arc<[u8]>) -> Result<()> {
        let size = bytes.len() as u64;
        let header = tar_header::file(name, size).len() as u64;
        self.push(Content::File(name.into(), bytes), header, size)?;
        Ok(())
    }

    fn directory(&mut self, name: &str) -> Result<()> {
        self.push(Content::Directory(name.into()), archive::TAR_BLOCK, 0)?;
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
            self.directory("blobs")?;
        }
        if !self.algorithms.contains(&algorithm) {
            self.algorithms.push(algorithm);
            self.directory(&format!("blobs/{algorithm}"))?;
        }
        let held = held.or_else(|| descriptor.inline().map(Into::into)).or_else(|| {
            let empty = descriptor.size == 0 && descriptor.digest.matches(b"");
            empty.then(|| Arc::from(&b""[..]))
        });
        let number = u32::try_from(self.blobs.len()).map_err(|_| Error::new("more blobs than an archive can hold"))?;
        let media_type = self.media_type(&descriptor.media_type);
        let content = match held {
            Some(bytes) => Content::Held(number, bytes),
            None => Content::Fetched(number),
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

    fn finish(mut self, origins: Vec<Origin>, manifests: usize) -> Result<Plan> {
        self.push(Content::End, 0, archive::END.len() as u64)?;
        Ok(Plan {
            entries: self.entries,
            made: self.made,
            blobs: self.blobs,
            media_types: self.media_types,
            origins,
            total: self.at,
            manifests,
            skipped: self.left_out.len() as u64,
        })
    }
}
