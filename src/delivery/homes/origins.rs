//! Repositories that things were gathered from, in the registry of a destination: they may still have them, and are asked.

use std::sync::{
    PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use super::{BlobOrigin, HeldTarget, Homes};
use crate::{
    log,
    oci::{Descriptor, Repository},
};

/// A repository that never had what it was asked for is asked so often.
const MISSES_MAX: usize = 16;
/// What could not be mounted from a repository so often will not be.
const REFUSALS_MAX: usize = 3;
/// It is asked for everything.
const TRUSTED: usize = usize::MAX;

/// A repository that may still have what was gathered from it.
pub(super) struct AskedOrigin<'a> {
    target: HeldTarget<'a>,
    /// How often it had not what it was asked for; none any more once it had something.
    misses: AtomicUsize,
    /// How often what it has could not be mounted from it.
    refusals: AtomicUsize,
}

impl Homes<'_> {
    /// Whether a blob can be mounted from where it comes from.
    pub(super) fn origin_has(&self, origin: &BlobOrigin, descriptor: &Descriptor) -> bool {
        let BlobOrigin { repository, is_sure } = *origin;
        if is_sure {
            return true;
        }
        let asked = {
            let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
            if known.mounts.get(&repository.registry) == Some(&false) {
                return false;
            }
            let asked = || AskedOrigin {
                target: (self.make)(repository).into(),
                misses: AtomicUsize::new(0),
                refusals: AtomicUsize::new(0),
            };
            known.origins.entry(repository.clone()).or_insert_with(|| asked().into()).clone()
        };
        let misses = asked.misses.load(Ordering::Relaxed);
        if misses != TRUSTED && misses >= MISSES_MAX {
            return false;
        }
        match asked.target.exists(descriptor) {
            Ok(true) => {
                asked.misses.store(TRUSTED, Ordering::Relaxed);
                return true;
            }
            Ok(false) => {}
            // It may be closed to us, or gone.
            Err(e) => {
                log::debug(format_args!("{repository} is not asked any more: {e}"));
                asked.misses.fetch_max(MISSES_MAX, Ordering::Relaxed);
            }
        }
        let counted = |misses: usize| (misses != TRUSTED).then(|| misses + 1);
        let _ = asked.misses.fetch_update(Ordering::Relaxed, Ordering::Relaxed, counted);
        false
    }

    /// What an origin has could not be mounted from there. After a few times it is not asked any more.
    pub(super) fn is_refused(&self, origin: &Repository) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(asked) = known.origins.get(origin)
            && asked.refusals.fetch_add(1, Ordering::Relaxed) + 1 >= REFUSALS_MAX
        {
            asked.misses.store(MISSES_MAX, Ordering::Relaxed);
        }
    }
}
