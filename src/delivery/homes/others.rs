//! What no archive holds and no destination that needs it has: another destination of the run may have it, as an increment
//! leaves out whatever was delivered before, wherever that went.

use std::collections::BTreeSet;

use super::{Homes, SettledBlob, WantedBlob};
use crate::oci::{Descriptor, Digest, layout::MANIFEST_SIZE_MAX};

/// So many other destinations are asked for one blob.
const ASKED_MAX: usize = 1000;

impl Homes<'_> {
    /// Brings a blob to destinations of one registry that lack it from any other of the run there. Returns those that still
    /// lack it.
    pub(super) fn take_from_others(
        &self,
        wanted: &WantedBlob,
        mut lacking: Vec<u32>,
        settled: &mut SettledBlob,
    ) -> Vec<u32> {
        let Some(&first) = lacking.first() else { return lacking };
        let (registry, descriptor) = (self.repository(first).registry, wanted.descriptor);
        let others = (0..self.count()).filter(|number| !wanted.needed.contains(number));
        let mut others = others.filter(|number| self.repository(*number).registry == registry).take(ASKED_MAX);
        let Some(from) = others.find(|number| self.target(*number).exists(descriptor).unwrap_or(false)) else {
            return lacking;
        };
        let repository = self.repository(from);
        lacking.retain(|&number| {
            if self.target(number).mount(descriptor, &repository) {
                settled.mounted += 1;
                settled.there.push(number);
            } else {
                self.copy(descriptor, from, number, settled);
            }
            !settled.there.contains(&number)
        });
        lacking
    }

    /// Whether in every registry of the run some destination has a manifest.
    pub fn have_manifest(&self, digest: &Digest) -> bool {
        let all = || (0..self.count()).map(|number| (self.repository(number).registry, number));
        // How long it is nobody says.
        let descriptor = Descriptor::new("", digest.clone(), MANIFEST_SIZE_MAX);
        let registries: BTreeSet<String> = all().map(|(registry, _)| registry).collect();
        let has = |wanted: &String| {
            let mut of_registry = all().filter(|(registry, _)| registry == wanted).take(ASKED_MAX);
            // What is kept as a blob waits for something itself.
            of_registry.any(|(_, number)| {
                let target = self.target(number);
                let Ok(Some(bytes)) = target.fetch(&descriptor) else { return false };
                let descriptor = Descriptor::new("", digest.clone(), bytes.len() as u64);
                target.has_manifest(&descriptor).unwrap_or(false)
            })
        };
        !registries.is_empty() && registries.iter().all(has)
    }
}
