//! Archives that are parts of one whole, whose root is in none of them.

use std::{collections::HashSet, sync::Arc};

use super::{Delivery, DeliveryState};
use crate::{
    error::{Error, Result},
    oci::{Descriptor, Digest},
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
}
