//! Archives that are parts of one whole, whose root is in none of them.

use std::{collections::HashSet, sync::Arc};

use super::{Delivery, DeliveryState};
use crate::{
    archive::read::events::BlobMember,
    error::{Error, Result},
    log,
    oci::{Descriptor, Digest, Manifest, annotation, media},
    util::units::counted,
};

/// Archives that are parts of one whole: its root is in none of them.
#[derive(Clone, Debug)]
pub struct ArchiveSet {
    /// The root of the whole.
    pub root: Descriptor,
    /// Its bytes.
    pub bytes: Arc<[u8]>,
    /// The roots that the archives have.
    pub members: HashSet<Digest>,
}

impl Delivery<'_> {
    /// Takes the root of a set, before anything is read.
    ///
    /// # Errors
    /// If an earlier run was of another.
    pub fn begin_set(&self) -> Result<()> {
        let Some(set) = &self.options.set else { return Ok(()) };
        let mut state = self.state();
        let state = &mut *state;
        match &state.root {
            Some(root) if root.digest != set.root.digest => {
                let why = format!("the record is of the archive of {}, and not of {}", root.digest, set.root.digest);
                return Err(Error::new(why));
            }
            Some(_) => {}
            None => {
                state.root = Some(set.root.clone());
                match self.is_routed() {
                    true => self.route(state, &set.bytes),
                    false => drop(state.tracker.set_root(&set.root).map_err(Error::new)?),
                }
            }
        }
        state.root_bytes = Some(set.bytes.clone());
        if !self.is_routed() {
            state.tracker.document(&set.root.digest, &set.bytes);
        }
        self.act(state);
        Ok(())
    }

    /// Whether the archive with this root may be delivered: the run ends if it is no part of the set that is.
    pub(super) fn is_of_set(&self, state: &mut DeliveryState, root: &Digest) -> bool {
        let Some(set) = &self.options.set else { return true };
        if set.members.contains(root) {
            state.met_roots.insert(root.clone());
            return true;
        }
        let why = format!("the archive holds {root}, which is no part of what is delivered");
        state.stop.get_or_insert(Error::new(why));
        false
    }

    /// The root of an archive, a gather index, passes by. That of another archive than the first may list sources that the first does not: what is delivered, or gets
    /// a tag, is what the first one lists.
    pub(super) fn tell_of_others(&self, root: Option<&Digest>, blob: &BlobMember, manifest: &Manifest) {
        if self.options.set.is_some() || manifest.artifact_type != media::GATHER || root != Some(&blob.digest) {
            return;
        }
        let state = self.state();
        let names = |index: &Manifest| -> HashSet<String> {
            let extra = index.extra_manifests().unwrap_or_default();
            let all = index.manifests.iter().chain(&extra);
            all.filter_map(|listed| listed.annotations.get(annotation::SOURCE).cloned()).collect()
        };
        let first = state.root_bytes.as_deref().and_then(|bytes| Manifest::parse(media::INDEX, bytes).ok());
        let Some(first) = first.filter(|first| first.artifact_type == media::GATHER) else { return };
        let known = names(&first);
        let others = names(manifest).into_iter().filter(|name| !known.contains(name)).count();
        if others > 0 {
            let (of, what) = (blob.archive.as_deref().unwrap_or("it"), counted(others, "source"));
            log::warn(format_args!(
                "{of}: {what} that the first archive does not list: they are not delivered by it (deliver that archive by itself; shards of a plan are delivered together with --plan)"
            ));
        }
    }
}
