//! The images in an archive, with their names, platforms and sizes.
//!
//! What is reachable from each of many images is found in a graph of numbers, each image once: an archive may list one
//! manifest as often as it has room for.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{
    catalog::{Catalog, ManifestSummary},
    lists::ListedManifest,
};
use crate::oci::{Digest, layout::DEPTH_MAX, media};

/// So many images are told of.
const IMAGES_MAX: usize = 4 << 20;

/// An image in the archive.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its name; an index shares it with all images that it lists.
    pub reference: Option<Arc<str>>,
    /// `index` for an index, `os/arch` for an image, nothing for other artifacts.
    pub platform: Option<Arc<str>>,
    /// The labels of its source, as JSON.
    pub labels: Option<Arc<str>>,
    /// Of its manifest.
    pub media_type: Arc<str>,
    /// Of its manifest.
    pub digest: Digest,
    /// It is told of because an index lists it that is told of.
    pub listed: bool,
    /// Bytes of all that it consists of, each blob once; `None` if its manifest is not there.
    pub size: Option<u64>,
}

impl Catalog {
    /// Every image, in the order of `index.json`: of a gathered artifact those in it, of an index those
    /// too that it lists.
    pub fn images(&self) -> Vec<Image> {
        let (walk, left_out) = (ImageWalk::new(self, &[]), self.left_out());
        let mut showing = Showing { walk, shown: HashSet::new(), left_out, images: Vec::new() };
        for root in self.listed_roots() {
            if !showing.shown.contains(&root.digest) {
                showing.show(&root, None, 0);
            }
        }
        showing.images
    }
}

/// Images, one after the other.
struct Showing<'a> {
    walk: ImageWalk<'a>,
    shown: HashSet<Digest>,
    /// By a sparse index: they are no images that are missing.
    left_out: HashSet<Digest>,
    images: Vec<Image>,
}

impl Showing<'_> {
    fn show(&mut self, listed: &ListedManifest, inherited: Option<&Arc<str>>, depth: usize) {
        if depth > DEPTH_MAX || self.images.len() >= IMAGES_MAX {
            return;
        }
        let catalog = self.walk.catalog;
        let first = self.shown.insert(listed.digest.clone());
        let document = catalog.documents.get(&listed.digest);
        if let Some(gather) = document.filter(|document| document.is_gather) {
            if first {
                gather.index.iter().for_each(|below| self.show(below, None, depth + 1));
            }
            return;
        }
        let reference = listed.name.as_ref().or(inherited);
        let is_index = media::is_index(&listed.media_type);
        let config = || {
            let config = document?.edges.iter().find(|edge| edge.role == "configuration")?;
            catalog.configs.get(&config.digest).cloned()
        };
        let size = document.map(|_| self.walk.size_below(&listed.digest, listed.size));
        self.images.push(Image {
            reference: reference.cloned(),
            platform: match is_index {
                true => Some("index".into()),
                false => listed.platform.clone().or_else(config),
            },
            labels: listed.labels.clone(),
            media_type: listed.media_type.clone(),
            digest: listed.digest.clone(),
            listed: inherited.is_some() || depth > 1,
            size,
        });
        // An index that two sources name is told with its images for each, but not for ever.
        for below in document.filter(|_| is_index).into_iter().flat_map(|index| &*index.index) {
            // What is no manifest, such as a layer in an index of BuildKit's cache, is no image.
            let is_new = !media::is_index(&below.media_type) || !self.shown.contains(&below.digest);
            if is_new
                && !self.left_out.contains(&below.digest)
                && below.digest != listed.digest
                && media::is_manifest(&below.media_type)
            {
                self.show(below, reference, depth + 1);
            }
        }
    }
}

/// A manifest, and the numbers of what it refers to, in its order.
struct NumberedManifest<'a> {
    summary: &'a ManifestSummary,
    below: Box<[u32]>,
}

/// Walks what lies below images, each image once.
pub struct ImageWalk<'a> {
    catalog: &'a Catalog,
    /// Every digest that is known or referred to has a number.
    numbers: HashMap<&'a Digest, u32>,
    /// By number, what is a manifest.
    manifests: Vec<Option<NumberedManifest<'a>>>,
    /// By number: the last round in which it was met.
    met: Vec<u32>,
    round: u32,
    sizes: HashMap<u32, u64>,
    /// How much is marked below each image that was asked for.
    counts: HashMap<u32, usize>,
}

impl<'a> ImageWalk<'a> {
    /// Numbers all that an archive holds or refers to, also through manifests that are in `others`.
    pub fn new(catalog: &'a Catalog, others: &[&'a Catalog]) -> ImageWalk<'a> {
        let mut numbers = HashMap::new();
        let mut number = |digest: &'a Digest| {
            let next = numbers.len() as u32;
            *numbers.entry(digest).or_insert(next)
        };
        let below = |summary: &'a ManifestSummary, number: &mut dyn FnMut(&'a Digest) -> u32| -> Box<[u32]> {
            summary.edges.iter().map(|edge| number(&edge.digest)).collect()
        };
        catalog.roots().iter().for_each(|root| _ = number(&root.digest));
        let mut found = Vec::new();
        for (digest, summary) in [catalog].iter().chain(others).flat_map(|catalog| &catalog.documents) {
            let own = number(digest);
            found.push((own, summary, below(summary, &mut number)));
        }
        let mut manifests = Vec::new();
        manifests.resize_with(numbers.len(), || None);
        for (own, summary, below) in found {
            manifests[own as usize] = Some(NumberedManifest { summary, below });
        }
        let met = vec![0; numbers.len()];
        ImageWalk { catalog, numbers, manifests, met, round: 0, sizes: HashMap::new(), counts: HashMap::new() }
    }

    /// Visits everything below a manifest once, itself too: its number, and its size as whoever refers to it says.
    fn visit(&mut self, root: u32, size: u64, with_subjects: bool, visit: &mut dyn FnMut(u32, u64)) {
        self.round += 1;
        let mut queue = vec![(root, size)];
        while let Some((number, size)) = queue.pop() {
            if std::mem::replace(&mut self.met[number as usize], self.round) == self.round {
                continue;
            }
            visit(number, size);
            let Some(NumberedManifest { summary, below }) = &self.manifests[number as usize] else { continue };
            let (met, round) = (&self.met, self.round);
            let next =
                summary.edges.iter().zip(below).filter(|(edge, number)| {
                    (with_subjects || edge.role != "subject") && met[**number as usize] != round
                });
            queue.extend(next.map(|(edge, number)| (*number, edge.size)));
        }
    }

    /// Bytes of a manifest of `size` bytes and all below it, each digest once.
    fn size_below(&mut self, digest: &Digest, size: u64) -> u64 {
        let Some(&number) = self.numbers.get(digest) else { return size };
        let below = match self.sizes.get(&number) {
            Some(known) => *known,
            None => {
                let mut total = 0_u64;
                self.visit(number, 0, false, &mut |_, size| total = total.saturating_add(size));
                self.sizes.insert(number, total);
                total
            }
        };
        below.saturating_add(size)
    }

    /// Which numbers `these` have.
    pub fn marked(&self, these: &HashSet<Digest>) -> Vec<bool> {
        let mut marks = vec![false; self.numbers.len()];
        for number in these.iter().filter_map(|digest| self.numbers.get(digest)) {
            marks[*number as usize] = true;
        }
        marks
    }

    /// How much of what is marked an image consists of.
    pub fn count_below(&mut self, digest: &Digest, marks: &[bool]) -> usize {
        let Some(&number) = self.numbers.get(digest) else { return 0 };
        if let Some(known) = self.counts.get(&number) {
            return *known;
        }
        let mut count = 0;
        self.visit(number, 0, true, &mut |number, _| count += usize::from(marks[number as usize]));
        self.counts.insert(number, count);
        count
    }
}
