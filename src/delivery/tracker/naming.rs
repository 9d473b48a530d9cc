//! What names what: each digest gets its number once, as a blob or as a manifest, and what is said of it twice must agree.

use std::sync::Arc;

use super::{BlobState, Candidate, ManifestState, Step, TrackedBlob, TrackedManifest, Tracker};
use crate::{
    delivery::sets::SetId,
    oci::{Descriptor, Digest, media},
    util::units::grouped,
};

impl Tracker {
    fn share(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.types.get(text) {
            return known.clone();
        }
        let shared: Arc<str> = text.into();
        self.types.insert(shared.clone());
        shared
    }

    /// The number of a manifest, a new one if need be, which is needed at `set`.
    ///
    /// # Errors
    /// If something else names it as of another type or size.
    pub(super) fn manifest_number(&mut self, descriptor: &Descriptor, set: SetId) -> Result<usize, String> {
        let Descriptor { digest, size, media_type, .. } = descriptor;
        if let Some(&number) = self.manifest_numbers.get(digest) {
            let known = &self.manifests[number as usize];
            if known.size != *size {
                let (has, says) = (grouped(known.size), grouped(*size));
                return Err(format!("it says that {digest} has {says} bytes, and that has {has}"));
            }
            if *known.media_type != **media_type {
                let is = &known.media_type;
                return Err(format!("it says that {digest} is {media_type}, and elsewhere it is {is}"));
            }
            self.note_origin(number as usize, descriptor);
            self.need_manifest(number as usize, set);
            return Ok(number as usize);
        }
        let number = self.manifests.len();
        self.manifest_numbers.insert(digest.clone(), number as u32);
        let media_type = self.share(media_type);
        self.manifests.push(TrackedManifest {
            digest: digest.clone(),
            size: *size,
            media_type,
            state: ManifestState::Named,
            needed: SetId::EMPTY,
            pushed: SetId::EMPTY,
            bytes: None,
            edges: Box::default(),
            missing: 0,
            is_held: false,
            is_listed: false,
            origin: 0,
            waiting: Vec::new(),
        });
        if let Some(candidate) = self.candidates.remove(digest) {
            self.held -= if candidate.is_held { candidate.size } else { 0 };
            // Otherwise it will be looked for at the destination.
            if let Some(bytes) = candidate.bytes {
                self.named.push((number, bytes));
            }
        }
        self.note_origin(number, descriptor);
        self.need_manifest(number, set);
        Ok(number)
    }

    /// Something refers to a document that nothing has named so far. Returns its number.
    pub(super) fn name_candidate(&mut self, digest: &Digest) -> Option<usize> {
        let Candidate { media_type, size, .. } = self.candidates.get(digest)?;
        let descriptor = Descriptor::new(media_type.clone(), digest.clone(), *size);
        self.manifest_number(&descriptor, SetId::EMPTY).ok()
    }

    /// What is listed first is the root. As long as it was not met nobody knows what the rest is good for, and no
    /// manifest is pushed. Returns its number.
    ///
    /// # Errors
    /// If it is no manifest, or what is said of it contradicts what is known.
    pub fn set_root(&mut self, descriptor: &Descriptor) -> Result<usize, String> {
        if !media::is_manifest(&descriptor.media_type) {
            return Err(format!("its root is {:?}, which is no manifest", descriptor.media_type));
        }
        let number = self.manifest_number(descriptor, self.everything)?;
        self.root = Some(number as u32);
        self.meet_named();
        if !self.is_unmet(number) {
            self.release();
        }
        Ok(number)
    }

    /// An `index.json` names something.
    ///
    /// # Errors
    /// If what it says contradicts what is known.
    pub fn list(&mut self, descriptor: &Descriptor) -> Result<(), String> {
        match media::is_manifest(&descriptor.media_type) {
            true => {
                let number = self.manifest_number(descriptor, self.everything)?;
                self.manifests[number].is_listed = true;
                self.meet_named();
                Ok(())
            }
            false => {
                let number = self.name_blob(descriptor, self.everything);
                self.listed_blobs.insert(number as u32);
                Ok(())
            }
        }
    }

    /// Something that is needed at `set` names a blob. Returns its number.
    pub(super) fn name_blob(&mut self, descriptor: &Descriptor, set: SetId) -> usize {
        let number = match self.blob_numbers.get(&descriptor.digest) {
            Some(&number) => number as usize,
            None => self.new_blob(&descriptor.digest, descriptor.size, SetId::EMPTY),
        };
        let is_new = self.blobs[number].needed == SetId::EMPTY;
        if set == SetId::EMPTY {
            return number;
        }
        self.need_blob(number, set);
        // A document that was met before turns out to be a blob.
        if self.candidates.contains_key(&descriptor.digest) {
            self.manifest_documents.insert(descriptor.digest.clone());
        }
        match self.candidates.remove(&descriptor.digest) {
            Some(Candidate { bytes: Some(bytes), is_held, .. }) => {
                self.held -= if is_held { bytes.len() as u64 } else { 0 };
                self.blobs[number].size = bytes.len() as u64;
                self.todo.push(Step::Keep(Box::new(descriptor.clone()), bytes));
            }
            Some(Candidate { bytes: None, size, .. }) => {
                self.blobs[number].size = size;
                self.todo.push(Step::Ask(number));
            }
            None if is_new => match self.manifest_numbers.get(&descriptor.digest).map(|&n| n as usize) {
                // It has passed by as a manifest.
                Some(manifest) if !self.is_unmet(manifest) => self.todo.push(Step::Copy(manifest)),
                _ => self.todo.push(Step::Ask(number)),
            },
            None => {}
        }
        number
    }

    /// All archives were read: what no `index.json` and no manifest has named is what it says that it is.
    pub fn name_rest(&mut self) {
        let mut rest: Vec<Descriptor> =
            self.candidates.iter().map(|(digest, c)| Descriptor::new(&*c.media_type, digest.clone(), c.size)).collect();
        rest.sort_unstable_by(|a, b| a.digest.cmp(&b.digest));
        for descriptor in rest {
            // Another may have named it by now.
            let _ = self.manifest_number(&descriptor, self.everything);
        }
        self.meet_named();
    }

    /// Whether something names it, or it was met.
    pub fn knows(&self, digest: &Digest) -> bool {
        self.blob_numbers.contains_key(digest)
            || self.manifest_numbers.contains_key(digest)
            || self.candidates.contains_key(digest)
    }

    /// The number of a blob that passes by, a new one if need be.
    pub fn blob_number(&mut self, digest: &Digest, size: u64) -> usize {
        match self.blob_numbers.get(digest) {
            Some(&number) => number as usize,
            None => self.new_blob(digest, size, self.everything),
        }
    }

    fn new_blob(&mut self, digest: &Digest, size: u64, needed: SetId) -> usize {
        let number = self.blobs.len();
        self.blob_numbers.insert(digest.clone(), number as u32);
        self.blobs.push(TrackedBlob {
            digest: digest.clone(),
            size,
            state: BlobState::Named,
            needed,
            there: SetId::EMPTY,
            has_passed: false,
            was_sought: false,
            is_sent: false,
            origin: 0,
            waiting: Vec::new(),
        });
        number
    }
}
