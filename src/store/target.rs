//! Where content goes: one repository, in a registry or in memory.

use std::{
    collections::HashMap,
    io::Read,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    error::{Context, Error, ErrorKind, Result},
    log,
    oci::{Descriptor, Digest, Manifest, Repository, layout::MANIFEST_SIZE_MAX},
    registry::{client::Registries, upload::UploadSession},
    signal,
};

/// Read and hashed at once.
const PIECE: usize = 256 << 10;

pub use crate::registry::upload::BlobContent;

/// Takes content into one repository. What refers to something comes after it.
pub trait Target: Send + Sync {
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

    /// Whether it is known to have a manifest, and not only as a blob.
    ///
    /// # Errors
    /// If that cannot be found out.
    fn has_manifest(&self, descriptor: &Descriptor) -> Result<bool>;

    /// Whether it lists a manifest as a referrer of another.
    ///
    /// # Errors
    /// If that cannot be found out.
    fn lists_referrer(&self, subject: &Digest, referrer: &Digest) -> Result<bool>;

    /// Looks whether it has a manifest as such, under its digest or under a tag.
    ///
    /// # Errors
    /// If it has another one there, or none, or cannot be asked.
    fn look(&self, descriptor: &Descriptor, tag: Option<&str>) -> Result<()>;

    /// A manifest that it has, also if only as a blob, checked; `None` if it has it not.
    ///
    /// # Errors
    /// If that cannot be found out.
    fn fetch(&self, descriptor: &Descriptor) -> Result<Option<Arc<[u8]>>>;

    /// A blob's bytes from `from` on, unchecked.
    ///
    /// # Errors
    /// If it cannot be opened there.
    fn blob(&self, descriptor: &Descriptor, from: u64) -> Result<Box<dyn Read + '_>>;

    /// Takes a manifest as a blob: it waits for something, and [`Target::fetch`] gives it again.
    ///
    /// # Errors
    /// As [`Target::push_blob`].
    fn keep(&self, descriptor: &Descriptor, bytes: &Arc<[u8]>) -> Result<()> {
        match self.exists(descriptor)? {
            true => Ok(()),
            false => self.push_blob(descriptor, &MemoryContent(bytes)),
        }
    }

    /// Upload sessions that are open: of which blob, and where each goes on.
    fn sessions(&self) -> Vec<(Digest, String)> {
        Vec::new()
    }

    /// Goes on with the sessions of an earlier run, if they are still there.
    fn take_up(&self, _sessions: Vec<(Digest, String)>) {}

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
    /// Sessions that the registry has begun instead of a mount, or for an earlier run.
    begun: Mutex<HashMap<Digest, UploadSession>>,
    /// Where sessions go on that are open.
    open: Mutex<HashMap<Digest, String>>,
}

impl<'a> RegistryTarget<'a> {
    /// The repository of this name.
    pub fn new(registries: &'a Registries, repository: Repository) -> RegistryTarget<'a> {
        RegistryTarget { registries, repository, begun: Mutex::default(), open: Mutex::default() }
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
        let open = || self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let hears = |url: &str| drop(open().insert(descriptor.digest.clone(), url.into()));
        let sent = self.registries.upload(&self.repository, descriptor, content, session, &hears);
        open().remove(&descriptor.digest);
        sent.doing(|| self.pushing(descriptor))
    }

    fn push_manifest(&self, descriptor: &Descriptor, bytes: &[u8]) -> Result<()> {
        self.registries.push_manifest(&self.repository, descriptor, bytes)
    }

    fn has_manifest(&self, descriptor: &Descriptor) -> Result<bool> {
        let doing = || format!("asking {} for manifest {}", self.repository, descriptor.digest);
        self.registries.manifest_exists(&self.repository, descriptor).doing(doing)
    }

    fn lists_referrer(&self, subject: &Digest, referrer: &Digest) -> Result<bool> {
        let subject = Descriptor::new("", subject.clone(), 0);
        let listed = self.registries.referrers(&self.repository, &subject, &[])?;
        Ok(listed.iter().any(|listed| listed.digest == *referrer))
    }

    fn look(&self, descriptor: &Descriptor, tag: Option<&str>) -> Result<()> {
        self.registries.look(&self.repository, descriptor, tag)
    }

    fn fetch(&self, descriptor: &Descriptor) -> Result<Option<Arc<[u8]>>> {
        let missing = |e: Error| if e.is(ErrorKind::Missing) { Ok(None) } else { Err(e) };
        if let Some(bytes) = self.registries.manifest(&self.repository, descriptor).map(Some).or_else(missing)? {
            return Ok(Some(bytes));
        }
        // What waits for something is kept as a blob.
        if !self.exists(descriptor)? {
            return Ok(None);
        }
        let doing = || format!("fetching manifest {} from {}", descriptor.digest, self.repository);
        let mut bytes = Vec::new();
        let body = self.registries.blob(&self.repository, descriptor, 0).doing(doing)?;
        body.take(descriptor.size.min(MANIFEST_SIZE_MAX) + 1)
            .read_to_end(&mut bytes)
            .map_err(Error::from_io)
            .doing(doing)?;
        match descriptor.digest.matches(&bytes) {
            true => Ok(Some(bytes.into())),
            false => Err(Error::new("digest mismatch").of(ErrorKind::Corrupt).doing(doing())),
        }
    }

    fn blob(&self, descriptor: &Descriptor, from: u64) -> Result<Box<dyn Read + '_>> {
        let doing = || format!("fetching blob {} of {}", descriptor.digest, self.repository);
        self.registries.blob(&self.repository, descriptor, from).doing(doing)
    }

    fn sessions(&self) -> Vec<(Digest, String)> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.iter().map(|(digest, url)| (digest.clone(), url.clone())).collect()
    }

    fn take_up(&self, sessions: Vec<(Digest, String)>) {
        self.begun().extend(sessions.into_iter().map(|(digest, url)| (digest, UploadSession::earlier(url))));
    }

    fn tag(&self, descriptor: &Descriptor, bytes: &[u8], tag: &str) -> Result<()> {
        self.registries.tag(&self.repository, descriptor, bytes, tag)
    }
}

/// Content in memory.
pub struct MemoryContent<'a>(pub &'a [u8]);

impl BlobContent for MemoryContent<'_> {
    fn open(&self, from: u64) -> Result<Box<dyn Read + '_>> {
        Ok(memory_reader(self.0, from))
    }
}

/// Reads bytes in memory, from `from` on.
pub fn memory_reader(bytes: &[u8], from: u64) -> Box<dyn Read + '_> {
    Box::new(&bytes[usize::try_from(from).unwrap_or(usize::MAX).min(bytes.len())..])
}

/// A repository to which nothing is sent: content is read and checked, and it is found out what is there.
pub struct Rehearsal<T> {
    target: T,
    /// Manifests that would be kept there.
    kept: Mutex<HashMap<Digest, Arc<[u8]>>>,
}

impl<T: Target> Rehearsal<T> {
    /// Of what would be sent to `target`.
    pub fn new(target: T) -> Rehearsal<T> {
        Rehearsal { target, kept: Mutex::default() }
    }
}

impl<T: Target> Target for Rehearsal<T> {
    fn repository(&self) -> &Repository {
        self.target.repository()
    }

    fn exists(&self, descriptor: &Descriptor) -> Result<bool> {
        self.target.exists(descriptor)
    }

    /// It is taken for granted that the registry mounts.
    fn mount(&self, _: &Descriptor, _: &Repository) -> bool {
        true
    }

    fn push_blob(&self, descriptor: &Descriptor, content: &dyn BlobContent) -> Result<()> {
        check_content(descriptor, content)
    }

    fn push_manifest(&self, descriptor: &Descriptor, bytes: &[u8]) -> Result<()> {
        Manifest::parse(&descriptor.media_type, bytes).map(drop).map_err(Error::new)
    }

    fn has_manifest(&self, descriptor: &Descriptor) -> Result<bool> {
        self.target.has_manifest(descriptor)
    }

    fn lists_referrer(&self, subject: &Digest, referrer: &Digest) -> Result<bool> {
        self.target.lists_referrer(subject, referrer)
    }

    /// Nothing was sent.
    fn look(&self, _: &Descriptor, _: Option<&str>) -> Result<()> {
        Ok(())
    }

    fn keep(&self, descriptor: &Descriptor, bytes: &Arc<[u8]>) -> Result<()> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.insert(descriptor.digest.clone(), bytes.clone());
        Ok(())
    }

    fn fetch(&self, descriptor: &Descriptor) -> Result<Option<Arc<[u8]>>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(&descriptor.digest).cloned();
        if kept.is_some() {
            return Ok(kept);
        }
        self.target.fetch(descriptor)
    }

    fn blob(&self, descriptor: &Descriptor, from: u64) -> Result<Box<dyn Read + '_>> {
        self.target.blob(descriptor, from)
    }

    fn tag(&self, _: &Descriptor, _: &[u8], _: &str) -> Result<()> {
        Ok(())
    }
}

/// Reads a blob's content to its end.
///
/// # Errors
/// If it does not match its digest, cannot be had, or a signal asks to stop.
pub fn check_content(descriptor: &Descriptor, content: &dyn BlobContent) -> Result<()> {
    let (mut hasher, mut reader, mut piece) = (descriptor.digest.hasher(), content.open(0)?, vec![0; PIECE]);
    loop {
        signal::check()?;
        match reader.read(&mut piece).map_err(Error::from_io)? {
            0 => break,
            n => hasher.update(&piece[..n]),
        }
    }
    let found = hasher.finish();
    match found == descriptor.digest {
        true => Ok(()),
        false => Err(Error::new(format!("digest mismatch: what came was {found}")).of(ErrorKind::Corrupt)),
    }
}
