//! What no archive holds and no destination that needs it has: another destination of the run may have it, as an increment
//! leaves out whatever was delivered before, wherever that went.

use std::sync::Arc;

use super::{Homes, SettledBlob, WantedBlob};
use crate::{
    error::Result,
    oci::{Descriptor, Digest, Repository, layout::MANIFEST_SIZE_MAX},
    signal,
};

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

    /// A manifest that some destination of the run has.
    ///
    /// # Errors
    /// If one cannot be asked, or a signal asks to stop.
    pub fn manifest_of_any(&self, digest: &Digest) -> Result<Option<Arc<[u8]>>> {
        for number in (0..self.count()).take(ASKED_MAX) {
            signal::check()?;
            if let Some(bytes) = self.target(number).fetch(&of_any_size(digest))? {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    /// The first of these destinations that lacks a referrer, or does not list it for its subject.
    ///
    /// # Errors
    /// If one cannot be asked, or a signal asks to stop.
    pub fn lacks_referrer(&self, at: &[u32], subject: &Digest, referrer: &Digest) -> Result<Option<Repository>> {
        for number in at {
            signal::check()?;
            let target = self.target(*number);
            if target.fetch(&of_any_size(referrer))?.is_none() || !target.lists_referrer(subject, referrer)? {
                return Ok(Some(target.repository().clone()));
            }
        }
        Ok(None)
    }
}

/// A manifest of which nobody says how long it is.
fn of_any_size(digest: &Digest) -> Descriptor {
    Descriptor::new("", digest.clone(), MANIFEST_SIZE_MAX)
}
