//! Which repository each thing was gathered from, as the annotations of its source say. One that is in a destination's
//! registry may still have it, so that it need not be sent.

use std::collections::HashMap;

use super::{Edge, Tracker};
use crate::oci::{Descriptor, Reference, Repository, annotation};

/// The number of a repository, from 1 on; 0 is none.
pub(super) type OriginNumber = u32;

/// Repositories, each with its number.
#[derive(Default)]
pub(super) struct Origins {
    all: Vec<Repository>,
    numbers: HashMap<Repository, OriginNumber>,
}

impl Origins {
    fn number(&mut self, repository: Repository) -> OriginNumber {
        if let Some(&number) = self.numbers.get(&repository) {
            return number;
        }
        self.all.push(repository.clone());
        let number = self.all.len() as OriginNumber;
        self.numbers.insert(repository, number);
        number
    }
}

impl Tracker {
    /// The repository that a blob was gathered from, if that is known.
    pub fn origin_of(&self, blob: usize) -> Option<&Repository> {
        let number = self.blobs[blob].origin.checked_sub(1)?;
        self.origins.all.get(number as usize)
    }

    /// A descriptor may name the source of what it describes.
    pub(super) fn note_origin(&mut self, manifest: usize, descriptor: &Descriptor) {
        if self.manifests[manifest].origin != 0 {
            return;
        }
        let source = descriptor.annotations.get(annotation::SOURCE).and_then(|source| source.parse::<Reference>().ok());
        if let Some(source) = source {
            self.manifests[manifest].origin = self.origins.number(source.repository);
        }
    }

    /// What a manifest refers to comes from where it comes from itself, unless that is known better.
    pub(super) fn pass_on_origin(&mut self, manifest: usize, edges: &[Edge]) {
        let origin = self.manifests[manifest].origin;
        for edge in edges {
            let known = match edge.is_manifest {
                true => &mut self.manifests[edge.to as usize].origin,
                false => &mut self.blobs[edge.to as usize].origin,
            };
            if *known == 0 {
                *known = origin;
            }
        }
    }
}
