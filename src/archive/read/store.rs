//! An archive in a file as a [`Store`]: what lies at a known place is read there.

use std::{
    collections::HashMap,
    io::{Read, Take},
    path::Path,
    sync::{Arc, OnceLock},
};

use crate::{
    archive::read::{
        catalog::{Catalog, HeldBlob},
        open::look_at,
    },
    error::{Context, Error, ErrorKind, Result},
    media::{
        files::{Files, FilesReader},
        input::Input,
        stream_input::InputOptions,
    },
    oci::{Descriptor, Digest, Manifest, layout::MANIFEST_SIZE_MAX, media},
    store::{Locator, Origin, Store, router::SharedStore},
};

/// An uncompressed archive in a regular file.
pub struct ArchiveStore {
    name: String,
    files: Arc<Files>,
    catalog: Catalog,
    /// By subject. Filled when somebody asks first.
    referrers: OnceLock<Result<HashMap<Digest, Vec<Descriptor>>>>,
}

impl ArchiveStore {
    /// Finds what the archive at `path` holds, without hashing it.
    ///
    /// # Errors
    /// If it cannot be read at any place, is damaged, or is no archive.
    pub fn open(path: &Path) -> Result<ArchiveStore> {
        let doing = || format!("opening the archive {path:?}");
        let Input::Files(files) = Input::open(&[path.into()], InputOptions::default())? else {
            let why = "it is no regular file, or is compressed, and cannot be read at any place";
            return Err(Error::new(why).doing(doing()).hint("decompress it, or copy it to a file, first"));
        };
        let (catalog, findings) = look_at(Input::Files(files.clone())).doing(doing)?;
        match findings.first() {
            Some(finding) => Err(Error::new(&finding.text).doing(doing()).hint("ace-dt mirror verify tells all")),
            None => Ok(ArchiveStore { name: format!("{path:?}"), files, catalog, referrers: OnceLock::new() }),
        }
    }

    fn held(&self, digest: &Digest) -> Result<&HeldBlob> {
        let held = self.catalog.blobs().get(digest);
        held.ok_or_else(|| {
            let why = format!("{digest} is not in the archive");
            Error::new(why).of(ErrorKind::Missing).doing(format!("reading {}", self.name))
        })
    }

    /// The bytes of a manifest, checked.
    fn document(&self, digest: &Digest) -> Result<Vec<u8>> {
        let doing = || format!("reading manifest {digest} in {}", self.name);
        let held = self.held(digest)?;
        if held.size > MANIFEST_SIZE_MAX {
            return Err(Error::new(format!("it has more than {MANIFEST_SIZE_MAX} bytes")).doing(doing()));
        }
        let mut bytes = Vec::new();
        self.content(held, 0).read_to_end(&mut bytes).doing(doing)?;
        match digest.matches(&bytes) {
            true => Ok(bytes),
            false => Err(Error::new("its content does not match its digest").doing(doing())),
        }
    }

    fn content(&self, held: &HeldBlob, from: u64) -> Take<FilesReader> {
        let from = from.min(held.size);
        FilesReader::new(self.files.clone(), held.begin() + from).take(held.size - from)
    }

    fn find_referrers(&self) -> Result<HashMap<Digest, Vec<Descriptor>>> {
        let mut found: HashMap<Digest, Vec<Descriptor>> = HashMap::new();
        let mut all: Vec<_> = self.catalog.referrers().collect();
        all.sort_unstable_by_key(|(digest, _)| self.catalog.blobs().get(*digest).map(|held| held.end));
        for (digest, subject) in all {
            let bytes = self.document(digest)?;
            let manifest: Manifest = serde_json::from_slice(&bytes).doing(|| format!("reading manifest {digest}"))?;
            let stated = Some(manifest.media_type.clone()).filter(|media_type| !media_type.is_empty());
            let media_type = stated.unwrap_or_else(|| media::MANIFEST.into());
            let descriptor = Descriptor::new(media_type, digest.clone(), bytes.len() as u64);
            found.entry(subject.clone()).or_default().push(manifest.as_referrer(&descriptor));
        }
        Ok(found)
    }
}

impl Store for ArchiveStore {
    fn resolve(&self, name: &Locator) -> Result<(Descriptor, Arc<[u8]>)> {
        let Locator::Archive(_, name) = name else { return Err(Error::new(format!("{name} is not in an archive"))) };
        let found = self.catalog.find(name.as_deref())?;
        let bytes = self.document(&found.digest)?;
        Ok((found, bytes.into()))
    }

    fn manifest(&self, _: &Origin, descriptor: &Descriptor) -> Result<Arc<[u8]>> {
        self.document(&descriptor.digest).map(Into::into)
    }

    fn referrers(&self, _: &Origin, descriptor: &Descriptor) -> Result<Vec<Descriptor>> {
        let all = self.referrers.get_or_init(|| self.find_referrers()).as_ref().map_err(Clone::clone)?;
        Ok(all.get(&descriptor.digest).cloned().unwrap_or_default())
    }

    fn blob(&self, _: &Origin, descriptor: &Descriptor, from: u64) -> Result<Box<dyn Read + '_>> {
        self.open_blob(descriptor, from)
    }

    fn has_blob(&self, _: &Origin, descriptor: &Descriptor) -> Result<()> {
        match self.held(&descriptor.digest)?.size {
            size if size == descriptor.size => Ok(()),
            size => Err(Error::new(format!("it has {size} bytes, its descriptor says {}", descriptor.size))),
        }
    }

    fn shutdown(&self) {}
}

impl SharedStore for ArchiveStore {
    fn open_blob(&self, descriptor: &Descriptor, from: u64) -> Result<Box<dyn Read>> {
        Ok(Box::new(self.content(self.held(&descriptor.digest)?, from)))
    }
}
