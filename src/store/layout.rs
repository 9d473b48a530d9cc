//! OCI image layouts in directories, as sources of images (`oci:DIR[:ref]`).

use std::{
    collections::HashMap,
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use nix::libc;

use crate::{
    error::{Context, Error, ErrorKind, Result},
    fd,
    oci::{
        Annotations, Descriptor, Digest, Manifest, annotation,
        layout::{INDEX_FILE, MANIFEST_SIZE_MAX},
        media,
    },
};

/// All layouts that a run reads.
#[derive(Default)]
pub struct Layouts {
    /// By layout, what refers to which manifest.
    referrers: Mutex<HashMap<PathBuf, Arc<Referrers>>>,
    /// By layout, its `index.json`: a list may name thousands of images in it.
    indexes: Mutex<HashMap<PathBuf, Arc<Manifest>>>,
}

/// By subject, in the order of `index.json`.
type Referrers = HashMap<Digest, Vec<Descriptor>>;

impl Layouts {
    /// Finds an image by its name (`org.opencontainers.image.ref.name`) or digest; without a name,
    /// the only one there is.
    ///
    /// # Errors
    /// If there is none, or several.
    pub fn resolve(&self, dir: &Path, name: Option<&str>) -> Result<(Descriptor, Arc<[u8]>)> {
        let index = self.index(dir)?;
        let known = |d: &&Descriptor| media::is_manifest(&d.media_type);
        let ref_name = |d: &Descriptor| d.annotations.get(annotation::REF_NAME).cloned();
        let digest: Option<Digest> = name.and_then(|name| name.parse().ok());
        let has_name = |d: &&Descriptor| {
            let is_called = |n| d.annotations.get(annotation::REF_NAME).is_some_and(|known| known == n);
            name.is_none_or(is_called) || digest.as_ref() == Some(&d.digest)
        };
        let mut found: Vec<&Descriptor> = index.manifests.iter().filter(known).filter(has_name).collect();
        found.dedup_by(|a, b| a.digest == b.digest);
        let names = || {
            let mut names: Vec<String> = index.manifests.iter().filter_map(ref_name).collect();
            names.dedup();
            if names.is_empty() { "it names no image".to_string() } else { format!("it has {}", names.join(", ")) }
        };
        let found = match (found[..].len(), name) {
            (1, _) => found[0],
            // An archive of this tool that was unpacked: the root is the first.
            (2.., None) if index.annotations.contains_key(annotation::SERIALIZATION_VERSION) => found[0],
            (0, Some(name)) => {
                return Err(Error::new(format!("there is no image {name:?} in the layout; {}", names())));
            }
            (0, None) => return Err(Error::new("there is no image in the layout")),
            _ => {
                return Err(Error::new(format!("there are several such images in the layout; {}", names()))
                    .hint("write oci:DIR:NAME"));
            }
        };
        let bytes = self.manifest(dir, found)?;
        let mut descriptor = found.clone();
        descriptor.annotations = Annotations::new();
        Ok((descriptor, bytes))
    }

    /// The `index.json` of a layout, as it was when it was read first.
    fn index(&self, dir: &Path) -> Result<Arc<Manifest>> {
        let mut all = self.indexes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(dir) {
            return Ok(known.clone());
        }
        let read = Arc::new(read_index(dir)?);
        all.insert(dir.into(), read.clone());
        Ok(read)
    }

    /// The names that `index.json` gives.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn names(&self, dir: &Path) -> Result<Vec<String>> {
        let listed = read_index(dir)?.manifests.into_iter();
        Ok(listed.filter_map(|mut descriptor| descriptor.annotations.remove(annotation::REF_NAME)).collect())
    }

    /// A manifest's bytes, checked.
    ///
    /// # Errors
    /// If it cannot be read, or has another digest.
    pub fn manifest(&self, dir: &Path, descriptor: &Descriptor) -> Result<Arc<[u8]>> {
        let path = dir.join(descriptor.digest.path());
        let bytes = read_bounded(&path)?;
        if !descriptor.digest.matches(&bytes) {
            return Err(Error::new("its content does not match its digest").doing(format!("reading {path:?}")));
        }
        Ok(bytes.into())
    }

    /// What `index.json` lists that has the manifest as its subject.
    ///
    /// # Errors
    /// If a manifest in it cannot be read.
    pub fn referrers(&self, dir: &Path, descriptor: &Descriptor) -> Result<Vec<Descriptor>> {
        let mut all = self.referrers.lock().unwrap_or_else(PoisonError::into_inner);
        let of_layout = match all.get(dir) {
            Some(known) => known.clone(),
            None => {
                let read = Arc::new(self.read_referrers(dir)?);
                all.insert(dir.into(), read.clone());
                read
            }
        };
        Ok(of_layout.get(&descriptor.digest).cloned().unwrap_or_default())
    }

    fn read_referrers(&self, dir: &Path) -> Result<Referrers> {
        let mut referrers = Referrers::new();
        for mut descriptor in read_index(dir)?.manifests {
            if !media::is_manifest(&descriptor.media_type) {
                continue;
            }
            let bytes = self.manifest(dir, &descriptor)?;
            let malformed =
                |why: String| Error::new(why).doing(format!("reading manifest {} of {dir:?}", descriptor.digest));
            let manifest = Manifest::parse(&descriptor.media_type, &bytes).map_err(malformed)?;
            if let Some(subject) = manifest.subject {
                descriptor.annotations.remove(annotation::REF_NAME);
                let of_subject = referrers.entry(subject.digest).or_default();
                if !of_subject.iter().any(|d| d.digest == descriptor.digest) {
                    of_subject.push(descriptor);
                }
            }
        }
        Ok(referrers)
    }

    /// A blob's bytes, unchecked.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn blob(&self, dir: &Path, descriptor: &Descriptor, from: u64) -> Result<Box<dyn Read>> {
        let path = dir.join(descriptor.digest.path());
        let mut file = File::open(&path).doing(|| format!("opening {path:?}"))?;
        file.seek(SeekFrom::Start(from)).doing(|| format!("reading {path:?}"))?;
        Ok(Box::new(file))
    }

    /// Finds out whether a blob is there in the size that its descriptor says.
    ///
    /// # Errors
    /// If it is not.
    pub fn has_blob(&self, dir: &Path, descriptor: &Descriptor) -> Result<()> {
        let path = dir.join(descriptor.digest.path());
        let len = std::fs::metadata(&path).doing(|| format!("opening {path:?}"))?.len();
        if len == descriptor.size {
            return Ok(());
        }
        Err(Error::new(format!("it has {len} bytes, its descriptor says {}", descriptor.size))
            .doing(format!("{path:?}")))
    }
}

/// What `index.json` says.
///
/// # Errors
/// If there is none, or it cannot be read.
pub fn read_index(dir: &Path) -> Result<Manifest> {
    let path = dir.join(INDEX_FILE);
    let bytes = read_bounded(&path)?;
    Manifest::parse(media::INDEX, &bytes).map_err(|why| Error::new(why).doing(format!("reading {path:?}")))
}

fn read_bounded(path: &Path) -> Result<Vec<u8>> {
    let reading = || format!("reading {path:?}");
    let mut bytes = Vec::new();
    let opened = fd::open_to_read(path);
    let is_missing = opened.as_ref().is_err_and(|e| e.os_error() == Some(libc::ENOENT));
    let file = opened.doing(reading).map_err(|e| if is_missing { e.of(ErrorKind::Missing) } else { e })?;
    file.take(MANIFEST_SIZE_MAX + 1).read_to_end(&mut bytes).doing(reading)?;
    if bytes.len() as u64 > MANIFEST_SIZE_MAX {
        return Err(Error::new(format!("it is longer than {MANIFEST_SIZE_MAX} bytes")).doing(reading()));
    }
    Ok(bytes)
}
