//! The images of what was delivered, and what each lacks.

use std::collections::HashMap;

use super::{outcome::DeliveryOutcome, tracker::Tracker};
use crate::oci::{Descriptor, Digest, Manifest, annotation, media};

/// An image, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveredImage {
    /// The name of its source; none for what no gather index names.
    pub source: Option<String>,
    /// Of its manifest.
    pub digest: Digest,
    /// Its labels, a JSON object.
    pub labels: Option<String>,
    /// What is missing of it.
    pub lacking: Vec<Digest>,
}

impl DeliveryOutcome {
    /// The sources of the root, if that is a gather index, or else the root alone; then whatever is missing that none of
    /// these consists of, such as referrers, under the name of the source that it refers to.
    pub fn images(&self) -> Vec<DeliveredImage> {
        let Some(root) = &self.root else { return Vec::new() };
        let gather = self.root_bytes.as_deref().and_then(|bytes| Manifest::parse(media::INDEX, bytes).ok());
        let mut images: Vec<DeliveredImage> = match gather.filter(|index| index.artifact_type == media::GATHER) {
            Some(index) => {
                let extra = index.extra_manifests().unwrap_or_default();
                index.manifests.iter().chain(&extra).map(|source| self.image(source)).collect()
            }
            None => vec![self.image(root)],
        };
        // In which of them each manifest is.
        let mut within: HashMap<Digest, usize> = HashMap::new();
        for (n, image) in images.iter().enumerate() {
            self.tracker.below(&image.digest).into_iter().for_each(|digest| _ = within.entry(digest).or_insert(n));
        }
        let mut others = Vec::new();
        for digest in self.tracker.unfinished() {
            if within.contains_key(&digest) || digest == root.digest || self.met_roots.contains(&digest) {
                continue;
            }
            let source = source_of_subject(&self.tracker, &digest, &images, &within);
            let lacking = self.tracker.lacking_below(&digest);
            others.push(DeliveredImage { source, digest, labels: None, lacking });
        }
        images.extend(others);
        images
    }

    fn image(&self, descriptor: &Descriptor) -> DeliveredImage {
        let annotation = |key: &str| descriptor.annotations.get(key).cloned();
        DeliveredImage {
            source: annotation(annotation::SOURCE),
            digest: descriptor.digest.clone(),
            labels: annotation(annotation::LABELS),
            lacking: self.tracker.lacking_below(&descriptor.digest),
        }
    }
}

/// The source of which a referrer speaks, by its subject, and that one's; of a manifest that was not met, the only source
/// that there is.
fn source_of_subject(
    tracker: &Tracker,
    digest: &Digest,
    images: &[DeliveredImage],
    within: &HashMap<Digest, usize>,
) -> Option<String> {
    let mut subject = tracker.subject(digest);
    for _ in 0..crate::oci::layout::DEPTH_MAX {
        let Some(current) = subject else { break };
        if let Some(&image) = within.get(&current) {
            return images[image].source.clone();
        }
        subject = tracker.subject(&current);
    }
    match images {
        [only] => only.source.clone(),
        _ => None,
    }
}
