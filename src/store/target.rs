//! Where content goes: one repository, in a registry or in memory.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use crate::{
    error::{Context, Result},
    log,
    oci::{Descriptor, Digest, Repository},
    registry::{client::Registries, upload::UploadSession},
};

pub use crate::registry::upload::BlobContent;

/// Takes content into one repository. What refers to something comes after it.
pub trait Target: Sync {
    /// Which repository.
    fn repository(&self) -> &Repository;

    /// Whether it has a blob.
    ///
    /// # Errors
    /// If that cannot be found out.
    fn exists(&self, descriptor: &Descriptor) -> Result<bool>;

    /// Takes a blob over from another repository of the same registry. `false` if that cannot be done.
    fn mount(&self, descriptor: &Descriptor, from: &Repository) -> bool;

    /// Takes a blob's content.
    ///
    /// # Errors
    /// If the content does not match its digest, cannot be had, or is not taken.
    fn push_blob(&self, descriptor: &Descriptor, content: &dyn BlobContent) -> Result<()>;

    /// Takes a manifest; what it refers to must be there.
    ///
    /// # Errors
    /// If it is not taken as what it is.
    fn push_manifest(&self, descriptor: &Descriptor, bytes: &[u8]) -> Result<()>;

    /// Puts a manifest that is there under a tag.
    ///
    /// # Errors
    /// As [`Target::push_manifest`].
    fn tag(&self, descriptor: &Descriptor, bytes: &[u8], tag: &str) -> Result<()>;
}

/// A repository of a registry.
pub struct RegistryTarget<'a> {
    registries: &'a Registries,
    repository: Repository,
    /// Sessions that the registry has begun instead of a mount.
    begun: Mutex<HashMap<Digest, UploadSession>>,
}

impl<'a> RegistryTarget<'a> {
    /// The repository of this name.
    pub fn new(registries: &'a Registries, repository: Repository) -> RegistryTarget<'a> {
        RegistryTarget { registries, repository, begun: Mutex::default() }
    }

    fn begun(&self) -> std::sync::MutexGuard<'_, HashMap<Digest, UploadSession>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pushing(&self, descriptor: &Descriptor) -> String {
        format!("pushing blob {} to {}", descriptor.digest, self.repository)
    }
}

impl Target for RegistryTarget<'_> {
    fn repository(&self) -> &Repository {
        &self.repository
    }

    fn exists(&self, descriptor: &Descriptor) -> Result<bool> {
        self.registries.blob_exists(&self.repository, descriptor).doing(|| self.pushing(descriptor))
    }

    fn mount(&self, descriptor: &Descriptor, from: &Repository) -> bool {
        match self.registries.mount(&self.repository, descriptor, from) {
            Ok(None) => return true,
            Ok(Some(session)) => drop(self.begun().insert(descriptor.digest.clone(), session)),
            // The other repository may be closed to us. That is no reason not to upload.
            Err(e) => log::debug(format_args!("{}: not mounted: {e}", self.pushing(descriptor))),
        }
        false
    }

    fn push_blob(&self, descriptor: &Descriptor, content: &dyn BlobContent) -> Result<()> {
        let session = self.begun().remove(&descriptor.digest);
        let sent = self.registries.upload(&self.repository, descriptor, content, session);
        sent.doing(|| self.pushing(descriptor))
    }

    fn push_manifest(&self, descriptor: &Descriptor, bytes: &[u8]) -> Result<()> {
        self.registries.push_manifest(&self.repository, descriptor, bytes)
    }

    fn tag(&self, descriptor: &Descriptor, bytes: &[u8], tag: &str) -> Result<()> {
        self.registries.tag(&self.repository, descriptor, bytes, tag)
    }
}
