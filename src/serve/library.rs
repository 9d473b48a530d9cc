//! All that is served as one: blobs and manifests by digest, and the names of images.

use std::{
    collections::{BTreeMap, HashMap, HashSet, btree_map::Entry},
    io::Read as _,
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use super::{
    content::{BlobPlace, Held, add_copy},
    names::{ServedName, as_component, served_as},
    shelf::Shelf,
};
use crate::{
    archive::read::lists::name_of,
    error::{Context, Error, Result},
    log,
    mapper::{
        Mapper,
        assign::{Assigner, SourceManifest, index_of, sources_of},
    },
    oci::{
        Annotations, Descriptor, Digest, Manifest, annotation, json, layout::MANIFEST_SIZE_MAX, manifest::Index, media,
    },
    shards::plan_file::SharedPlan,
    util::units::grouped,
};

/// So many names that are taken, and manifests that cannot be had, are told.
const TOLD_MAX: usize = 20;
/// So much is looked at to say what images have: archives may list one thing in many.
const LOOKED_AT_MAX: usize = 200_000;
/// So many bytes of what referrers say of themselves are kept to be listed.
const ANNOTATIONS_MAX: usize = 16 << 20;
/// The longest name of a repository that clients can ask for.
pub const NAME_MAX: usize = 255;

/// All that is served.
#[derive(Default)]
pub struct Library {
    blobs: HashMap<Digest, Arc<Held>>,
    /// The media type of each.
    manifests: HashMap<Digest, String>,
    /// By subject.
    referrers: HashMap<Digest, Vec<Descriptor>>,
    /// By name: the tags, and what each points to.
    repositories: BTreeMap<String, BTreeMap<String, Digest>>,
    images: Vec<ServedImage>,
    /// Each of these once.
    listed: HashSet<(String, Option<String>, Digest)>,
    /// Names that were taken.
    taken: usize,
    /// Repositories that are named without the registry that they are of.
    of_registries: HashSet<String>,
    /// What lists the referrers of a subject, by the tag of the specification ("Referrers Tag Schema").
    referrers_tags: HashMap<String, Digest>,
    /// Of each image. Filled when somebody looks first.
    summaries: OnceLock<Vec<ImageSummary>>,
}

/// An image that has a name.
#[derive(Clone, Debug)]
pub struct ServedImage {
    /// What it is called where it comes from.
    pub source: String,
    /// The shortest name that it is served under.
    pub name: ServedName,
    /// Its manifest or index.
    pub digest: Digest,
    /// Of that.
    pub media_type: String,
}

/// What people want to know of an image.
#[derive(Clone, Debug, Default)]
pub struct ImageSummary {
    /// What it runs on, in words.
    pub platforms: Vec<String>,
    /// Bytes of all below it, each blob once.
    pub size: u64,
    /// It is what was gathered, and no image.
    pub is_gathered: bool,
}

/// An image before it is served.
struct FoundImage {
    source: SourceManifest,
    stem: String,
}

impl FoundImage {
    fn name(&self) -> Option<&String> {
        self.source.carried.annotations.get(annotation::SOURCE)
    }
}

impl Library {
    /// Opens archives and layouts. With `mapper` images are named as it says, otherwise as their sources are. With
    /// `keeps_frames` what was decompressed to be opened gets an index of its frames beside it. With a plan, which has a name,
    /// they are its shards, and its root is served, too.
    ///
    /// # Errors
    /// If one cannot be opened, or nothing is left to be served.
    pub fn open(
        paths: &[PathBuf],
        plan: Option<(&str, &SharedPlan)>,
        mapper: Option<&Mapper>,
        keeps_frames: bool,
    ) -> Result<Library> {
        let (mut blobs, mut listed) = (HashMap::<Digest, Held>::new(), Vec::new());
        for Shelf { stem, blobs: of_shelf, roots } in Shelf::open(paths, keeps_frames)? {
            for (digest, held) in of_shelf {
                add_copy(&mut blobs, digest, held);
            }
            listed.push((stem, roots));
        }
        // Of an empty copy nobody reads a byte.
        for (digest, held) in &blobs {
            for _ in 0..held.copies() {
                if held.size() == 0 && !digest.matches(b"") {
                    held.is_checked(false, held.copy());
                }
            }
        }
        if let Some((_, plan)) = plan {
            let root = |(stem, roots): &(String, Vec<Descriptor>)| {
                (stem.clone(), roots.first().map(|root: &Descriptor| root.digest.clone()))
            };
            plan.check_set(&listed.iter().map(root).collect::<Vec<_>>()).doing(|| "opening the shards of a plan")?;
        }
        let blobs = blobs.into_iter().map(|(digest, held)| (digest, Arc::new(held))).collect();
        let mut library = Library { blobs, ..Library::default() };
        library.walk(listed.iter().flat_map(|(_, roots)| roots));
        let mut found = Vec::new();
        for (stem, roots) in &listed {
            library.name_roots(stem, roots, &mut found)?;
        }
        if let Some((name, plan)) = plan {
            let (root, bytes) = plan.root();
            library.add_made(&root, Some(bytes.into()));
            let served = ServedName { repository: as_component(name), tag: Some("latest".into()) };
            library.serve(format!("all of {name}"), &[served], &root.digest);
        }
        match mapper {
            Some(mapper) => library.name_by(mapper, &found)?,
            None => library.name_by_source(&found)?,
        }
        library.list_referrers();
        match library.repositories.is_empty() {
            true => Err(Error::new("there is no image in what was named")),
            false => Ok(library),
        }
    }

    /// Finds every manifest below what is listed, and who refers to whom.
    fn walk<'a>(&mut self, roots: impl Iterator<Item = &'a Descriptor>) {
        let mut queue: Vec<Descriptor> = roots.filter(|root| media::is_manifest(&root.media_type)).cloned().collect();
        queue.reverse();
        let (mut met, mut missing, mut told, mut annotations) = (HashSet::new(), 0_usize, 0, 0_usize);
        while let Some(descriptor) = queue.pop() {
            if !met.insert(descriptor.digest.clone()) {
                continue;
            }
            if !self.blobs.contains_key(&descriptor.digest) {
                missing += 1;
                continue;
            }
            let read = self.content(&descriptor.digest).and_then(|bytes| {
                let manifest = Manifest::parse(&descriptor.media_type, &bytes).map_err(Error::new);
                manifest.doing(|| format!("reading manifest {}", descriptor.digest))
            });
            let manifest = match read {
                Ok(manifest) => manifest,
                Err(e) => {
                    told += 1;
                    if told <= TOLD_MAX {
                        log::warn(format_args!("not served: {e}"));
                    }
                    continue;
                }
            };
            self.manifests.insert(descriptor.digest.clone(), descriptor.media_type.clone());
            if let Some(subject) = &manifest.subject {
                let mut referrer = manifest.clone().as_referrer(&descriptor);
                annotations += json::compact(&referrer.annotations).len();
                if annotations > ANNOTATIONS_MAX {
                    referrer.annotations.clear();
                }
                self.referrers.entry(subject.digest.clone()).or_default().push(referrer);
            }
            let subject = manifest.subject.as_ref().map(|subject| subject.digest.clone());
            for next in manifest.successors().unwrap_or_default().into_iter().rev() {
                if media::is_manifest(&next.media_type) {
                    // A subject may be anywhere.
                    let is_there = subject.as_ref() != Some(&next.digest) || self.blobs.contains_key(&next.digest);
                    queue.extend(is_there.then_some(next));
                } else if next.urls.is_empty() && met.insert(next.digest.clone()) {
                    missing += usize::from(!self.blobs.contains_key(&next.digest));
                }
            }
        }
        if annotations > ANNOTATIONS_MAX {
            log::warn("referrers say so much of themselves that not all of it is listed");
        }
        if missing > 0 {
            let what = if missing == 1 { "one thing".into() } else { format!("{} things", grouped(missing as u64)) };
            log::warn(format_args!(
                "{what} that images need cannot be served: what is named lacks it, as increments do"
            ));
        }
    }

    /// Makes the indexes that list referrers.
    fn list_referrers(&mut self) {
        let all = self.referrers.iter();
        let made: Vec<_> = all.map(|(subject, all)| (subject.clone(), referrers_index(all.clone()))).collect();
        for (subject, bytes) in made {
            let index = Descriptor::new(media::INDEX, Digest::of(&bytes), bytes.len() as u64);
            self.add_made(&index, Some(bytes.into()));
            self.referrers_tags.insert(subject.to_string().replacen(':', "-", 1), index.digest);
        }
    }

    /// Finds the images that one archive or layout lists, and names what was gathered itself.
    fn name_roots(&mut self, stem: &str, roots: &[Descriptor], found: &mut Vec<FoundImage>) -> Result<()> {
        let mut add = |source: SourceManifest| found.push(FoundImage { source, stem: stem.into() });
        let served = |root: &&Descriptor| self.manifests.contains_key(&root.digest);
        if let Some(root) = roots.first().filter(served) {
            let bytes = self.content(&root.digest)?;
            let gather = Manifest::parse(&root.media_type, &bytes).map_err(Error::new)?;
            if gather.artifact_type == media::GATHER {
                sources_of(&gather)?.into_iter().for_each(add);
                let tag = root.annotations.get(annotation::REF_NAME).filter(|name| crate::oci::reference::is_tag(name));
                let name = ServedName {
                    repository: as_component(stem),
                    tag: Some(tag.map_or("latest", String::as_str).to_string()),
                };
                self.serve(format!("all of {stem}"), &[name], &root.digest);
                return Ok(());
            }
        }
        let named = roots.iter().filter(served).count();
        for root in roots.iter().filter(served) {
            let mut source = root.clone();
            if let Some(name) = name_of(&root.annotations).filter(|name| !name.is_empty()).map(String::from) {
                source.annotations.insert(annotation::SOURCE.into(), name);
            } else if named == 1 {
                source.annotations.insert(annotation::SOURCE.into(), "latest".into());
            }
            add(SourceManifest { mapped: source.clone(), carried: source });
        }
        Ok(())
    }

    /// Serves images under the names of their sources.
    fn name_by_source(&mut self, found: &[FoundImage]) -> Result<()> {
        // The manifests of one source stand together.
        for group in found.chunk_by(|a, b| a.name().is_some() && a.name() == b.name() && a.stem == b.stem) {
            let Some(source) = group[0].name() else {
                // It can be had by its digest.
                self.repositories.entry(as_component(&group[0].stem)).or_default();
                continue;
            };
            let mut seen = HashSet::new();
            let manifests: Vec<&SourceManifest> =
                group.iter().map(|one| &one.source).filter(|source| seen.insert(&source.carried.digest)).collect();
            let digest = match &manifests[..] {
                [only] => only.carried.digest.clone(),
                several => {
                    let (index, made) = index_of(several)?;
                    self.add_made(&index, made);
                    index.digest
                }
            };
            self.serve(source.clone(), &served_as(source, &group[0].stem), &digest);
        }
        Ok(())
    }

    /// Serves images where a map says.
    fn name_by(&mut self, mapper: &Mapper, found: &[FoundImage]) -> Result<()> {
        let sources: Vec<SourceManifest> = found.iter().map(|found| found.source.clone()).collect();
        let assigner = Assigner { mapper, selectors: &[], subset: None, keep_going: true };
        let assigned = assigner.assign(&sources)?;
        for assignment in assigned.all {
            self.add_made(&assignment.manifest, assignment.made);
            let names = served_as(&assignment.destination.to_string(), "");
            self.serve(assignment.source, &names, &assignment.manifest.digest);
        }
        Ok(())
    }

    /// An index that was made of manifests that are there.
    fn add_made(&mut self, index: &Descriptor, made: Option<Arc<[u8]>>) {
        if let Some(bytes) = made {
            let held = Held::new(BlobPlace::Memory(bytes), index.size);
            self.blobs.entry(index.digest.clone()).or_insert_with(|| held.into());
            self.manifests.insert(index.digest.clone(), index.media_type.clone());
        }
    }

    /// Serves a manifest under names. A name that is taken stays where it is.
    fn serve(&mut self, source: String, names: &[ServedName], digest: &Digest) {
        let Some(media_type) = self.manifests.get(digest).cloned() else {
            return log::warn(format_args!("{source} is not served: {digest} is not there"));
        };
        if names.len() > 1 {
            self.of_registries.insert(names[0].repository.clone());
        }
        let mut is_served = None;
        for name in names.iter().filter(|name| name.repository.len() <= NAME_MAX) {
            let ServedName { repository, tag } = name;
            let tags = self.repositories.entry(repository.clone()).or_default();
            let Some(tag) = tag else {
                is_served = is_served.or(Some(name));
                continue;
            };
            match tags.entry(tag.clone()) {
                Entry::Vacant(entry) => {
                    entry.insert(digest.clone());
                    is_served = is_served.or(Some(name));
                }
                Entry::Occupied(entry) if entry.get() == digest => is_served = is_served.or(Some(name)),
                Entry::Occupied(entry) => {
                    self.taken += 1;
                    if self.taken > TOLD_MAX {
                        continue;
                    }
                    let has = entry.get();
                    log::warn(format_args!(
                        "{repository}:{tag} is {has}, and not {digest} of {source}, which comes later"
                    ));
                }
            }
        }
        let listed = &mut self.listed;
        let is_new = |name: &&ServedName| listed.insert((name.repository.clone(), name.tag.clone(), digest.clone()));
        if let Some(name) = is_served.filter(is_new) {
            self.images.push(ServedImage { source, name: name.clone(), digest: digest.clone(), media_type });
        }
    }

    /// A blob, if it is there.
    pub fn blob(&self, digest: &Digest) -> Option<&Arc<Held>> {
        self.blobs.get(digest)
    }

    /// The media type of a manifest, if it is one that is there.
    pub fn media_type(&self, digest: &Digest) -> Option<&str> {
        self.manifests.get(digest).map(String::as_str)
    }

    /// What a tag points to.
    pub fn tagged(&self, repository: &str, tag: &str) -> Option<&Digest> {
        self.repositories.get(repository)?.get(tag)
    }

    /// The tags of a repository, in the order of their bytes; `None` if there is no such repository.
    pub fn tags(&self, repository: &str) -> Option<impl Iterator<Item = &str>> {
        Some(self.repositories.get(repository)?.keys().map(String::as_str))
    }

    /// Whether a repository is named without the registry that it is of.
    pub fn is_of_a_registry(&self, repository: &str) -> bool {
        self.of_registries.contains(repository)
    }

    /// What a tag of the specification points to that lists referrers.
    pub fn referrers_tagged(&self, tag: &str) -> Option<&Digest> {
        self.referrers_tags.get(tag)
    }

    /// All repositories, in the order of their bytes.
    pub fn repositories(&self) -> impl Iterator<Item = &str> {
        self.repositories.keys().map(String::as_str)
    }

    /// What refers to a manifest.
    pub fn referrers(&self, subject: &Digest) -> &[Descriptor] {
        self.referrers.get(subject).map_or(&[], Vec::as_slice)
    }

    /// Images that have names, in the order of the archives.
    pub fn images(&self) -> &[ServedImage] {
        &self.images
    }

    /// How many blobs there are, manifests among them.
    pub fn blob_count(&self) -> usize {
        self.blobs.len()
    }

    /// The content of a manifest or configuration, checked.
    ///
    /// # Errors
    /// If it is not there, cannot be read, is too long, or has not its digest.
    pub fn content(&self, digest: &Digest) -> Result<Vec<u8>> {
        let doing = || format!("reading {digest}");
        let held = self.blobs.get(digest).ok_or_else(|| Error::new("it is not there").doing(doing()))?;
        if held.size() > MANIFEST_SIZE_MAX {
            return Err(Error::new(format!("it has more than {MANIFEST_SIZE_MAX} bytes")).doing(doing()));
        }
        for _ in 0..held.copies() {
            let (mut bytes, copy) = (Vec::new(), held.copy());
            let read = held.open(0).and_then(|mut from| from.read_to_end(&mut bytes).map_err(Error::from_io));
            if held.copies() == 1 {
                read.doing(doing)?;
            }
            let is_sound = digest.matches(&bytes);
            held.is_checked(is_sound, copy);
            if is_sound {
                return Ok(bytes);
            }
        }
        Err(Error::new("its content does not match its digest").doing(doing()))
    }

    /// What people want to know of each image, in the same order.
    pub fn summaries(&self) -> &[ImageSummary] {
        self.summaries.get_or_init(|| {
            let (mut known, mut left): (HashMap<&Digest, ImageSummary>, _) = (HashMap::new(), LOOKED_AT_MAX);
            let all = self
                .images
                .iter()
                .map(|image| known.entry(&image.digest).or_insert_with(|| self.summary(image, &mut left)).clone());
            all.collect()
        })
    }

    /// `left` is how much may still be looked at for all images.
    fn summary(&self, image: &ServedImage, left: &mut usize) -> ImageSummary {
        let (mut summary, mut met) = (ImageSummary::default(), HashSet::new());
        let mut queue = vec![Descriptor::new(image.media_type.clone(), image.digest.clone(), 0)];
        while let Some(descriptor) = queue.pop() {
            if *left == 0 || !met.insert(descriptor.digest.clone()) {
                continue;
            }
            *left -= 1;
            let size = self.blobs.get(&descriptor.digest).map_or(descriptor.size, |held| held.size());
            summary.size = summary.size.saturating_add(size);
            if let Some(platform) = &descriptor.platform {
                summary.platforms.push(platform.to_string());
            }
            let media_type = self.manifests.get(&descriptor.digest);
            let Some((media_type, bytes)) = media_type.zip(self.content(&descriptor.digest).ok()) else { continue };
            let Ok(mut manifest) = Manifest::parse(media_type, &bytes) else { continue };
            summary.is_gathered |= manifest.artifact_type == media::GATHER;
            // That is no part of it.
            manifest.subject = None;
            if let Some(config) = manifest.config.as_ref().filter(|_| descriptor.platform.is_none()) {
                summary.platforms.extend(self.platform(config));
            }
            queue.extend(manifest.successors().unwrap_or_default());
        }
        summary.platforms.retain(|platform| !platform.starts_with("unknown"));
        summary.platforms.sort_unstable();
        summary.platforms.dedup();
        summary
    }

    /// What the configuration of an image says that it runs on.
    fn platform(&self, config: &Descriptor) -> Option<String> {
        if !media::is_image_config(&config.media_type) {
            return None;
        }
        let config: crate::oci::Platform = serde_json::from_slice(&self.content(&config.digest).ok()?).ok()?;
        (!config.os.is_empty()).then(|| config.to_string())
    }
}

/// An index of what refers to a manifest.
pub fn referrers_index(all: Vec<Descriptor>) -> Vec<u8> {
    json::compact(&Index::new("", all, Annotations::new()))
}
