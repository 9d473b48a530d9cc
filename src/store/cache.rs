//! The cache: an OCI image layout in a directory (OCI image specification, "Image Layout"), which
//! other tools can read.
//!
//! A file stands under its digest only when all of it is there and its digest proved right, and a
//! manifest only when all that it refers to stands there too: whatever ends a run, the layout is
//! whole. What is read is hashed first, so a file that has changed is fetched again. Runs share a
//! lock; pruning needs it alone.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::SystemTime,
};

use nix::fcntl::{Flock, FlockArg};

use super::graph::Graph;
use crate::{
    error::{Context, Error, Result},
    log,
    oci::{
        Annotations, Descriptor, Digest, Hasher, Manifest, annotation, json,
        layout::{BLOBS, INDEX_FILE, LAYOUT_CONTENT, LAYOUT_FILE, MANIFEST_SIZE_MAX},
        manifest::Index,
        media,
    },
    signal,
    util::atomic_file,
};

/// Held by every run, and alone by whoever prunes.
const LOCK: &str = ".lock";
/// Held alone while `index.json` is changed.
const INDEX_LOCK: &str = ".index.lock";
/// Files that are not whole yet.
const UNFINISHED: &str = ".unfinished";

/// A cache that is open for a run.
pub struct Cache {
    dir: PathBuf,
    /// Storing failed, and that was told.
    failed: AtomicBool,
    _shared: Flock<File>,
}

impl Cache {
    /// Opens the cache, making it if it is not there, and waits for whoever prunes it.
    ///
    /// # Errors
    /// If it cannot be made or locked.
    pub fn open(dir: &Path) -> Result<Cache> {
        let doing = || format!("opening the cache {dir:?}");
        fs::create_dir_all(dir.join(UNFINISHED)).doing(doing)?;
        let shared = lock(&dir.join(LOCK), FlockArg::LockShared).doing(doing)?;
        let cache = Cache { dir: dir.into(), failed: AtomicBool::new(false), _shared: shared };
        if !dir.join(LAYOUT_FILE).exists() {
            cache.replace(LAYOUT_FILE, LAYOUT_CONTENT).doing(doing)?;
        }
        if !dir.join(INDEX_FILE).exists() {
            cache.replace(INDEX_FILE, &index(Vec::new())).doing(doing)?;
        }
        Ok(cache)
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(digest.path())
    }

    /// Whether a blob is here in the size that its descriptor says.
    pub fn has(&self, descriptor: &Descriptor) -> bool {
        fs::metadata(self.path(&descriptor.digest)).is_ok_and(|meta| meta.len() == descriptor.size)
    }

    /// The bytes of a manifest, if they are here and right.
    pub fn manifest(&self, descriptor: &Descriptor) -> Option<Vec<u8>> {
        if descriptor.size > MANIFEST_SIZE_MAX || !self.has(descriptor) {
            return None;
        }
        let bytes = fs::read(self.path(&descriptor.digest)).ok()?;
        if descriptor.digest.matches(&bytes) {
            self.used(&descriptor.digest);
            return Some(bytes);
        }
        self.forget(&descriptor.digest);
        None
    }

    /// A blob from `from` on, if it is here and right. It is read twice: what is wrong must not be
    /// found out when half of it is on a tape.
    pub fn blob(&self, descriptor: &Descriptor, from: u64) -> Option<File> {
        if !self.has(descriptor) {
            return None;
        }
        let mut file = File::open(self.path(&descriptor.digest)).ok()?;
        let mut hasher = descriptor.digest.hasher();
        let mut piece = vec![0; 1 << 20];
        loop {
            match file.read(&mut piece) {
                Ok(0) => break,
                Ok(n) => hasher.update(&piece[..n]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
        if hasher.finish() != descriptor.digest {
            self.forget(&descriptor.digest);
            return None;
        }
        self.used(&descriptor.digest);
        io::Seek::seek(&mut file, io::SeekFrom::Start(from)).ok()?;
        Some(file)
    }

    /// What was used lately is pruned last.
    fn used(&self, digest: &Digest) {
        let touched = File::open(self.path(digest)).and_then(|file| file.set_modified(SystemTime::now()));
        if let Err(e) = touched {
            log::debug(format_args!("noting that {digest} was used: {e}"));
        }
    }

    fn forget(&self, digest: &Digest) {
        log::warn(format_args!("the cache holds something else under {digest}; fetching it again"));
        let _ = fs::remove_file(self.path(digest));
    }

    /// Hands on a blob's bytes, and keeps them once they are all there and right.
    pub fn keeping<'a>(&'a self, descriptor: &Descriptor, body: Box<dyn Read + 'a>) -> Box<dyn Read + 'a> {
        match self.unfinished() {
            Ok((path, file)) => Box::new(Keeping {
                cache: self,
                body,
                descriptor: Descriptor::new("", descriptor.digest.clone(), descriptor.size),
                hasher: Some(descriptor.digest.hasher()),
                kept: 0,
                file: Some(file),
                path,
            }),
            Err(e) => {
                self.cannot_keep(&e);
                body
            }
        }
    }

    /// A new file that nobody else has.
    fn unfinished(&self) -> io::Result<(PathBuf, File)> {
        atomic_file::create_beside(&self.dir.join(UNFINISHED).join("blob"), 0o666)
    }

    /// A run does without what it cannot keep.
    fn cannot_keep(&self, why: &io::Error) {
        if !self.failed.swap(true, Ordering::Relaxed) {
            log::warn(format_args!("the cache {:?} cannot keep everything: {why}", self.dir));
        }
    }

    /// Puts a file in place as a whole.
    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let (path, mut file) = self.unfinished()?;
        let place = self.dir.join(name);
        let written = file.write_all(bytes).and_then(|()| {
            fs::create_dir_all(place.parent().unwrap_or(&self.dir))?;
            fs::rename(&path, &place)
        });
        written.inspect_err(|_| {
            let _ = fs::remove_file(&path);
        })
    }

    /// Keeps the manifests below `roots` of which everything is here, and lists the roots in
    /// `index.json`, each under its name if it has one.
    ///
    /// # Errors
    /// If something cannot be written, or a manifest is missing in the graph.
    pub fn keep(&self, graph: &Graph, roots: &[(Option<&str>, &Descriptor)], recursive: bool) -> Result<()> {
        let doing = || format!("updating the cache {:?}", self.dir);
        let roots_only: Vec<&Descriptor> = roots.iter().map(|(_, root)| *root).collect();
        let reachable = graph.reachable(&roots_only, recursive)?;
        for descriptor in reachable.manifests.into_iter().flatten() {
            let below = graph.parse(&descriptor)?.successors().map_err(Error::new)?;
            if !self.has(&descriptor) && below.iter().all(|d| self.has(d)) {
                self.replace(&descriptor.digest.path(), &graph.bytes(&descriptor)?).doing(doing)?;
            }
        }
        let _alone = lock(&self.dir.join(INDEX_LOCK), FlockArg::LockExclusive).doing(doing)?;
        let mut listed = listed(&self.dir).doing(doing)?;
        for (name, root) in roots.iter().filter(|(_, root)| self.has(root)) {
            let mut descriptor = Descriptor::new(root.media_type.clone(), root.digest.clone(), root.size);
            descriptor.platform = root.platform.clone();
            if let Some(name) = name {
                descriptor.annotations.insert(annotation::REF_NAME.into(), name.to_string());
            }
            let is_older = |d: &Descriptor| match name {
                Some(name) => d.annotations.get(annotation::REF_NAME).is_some_and(|known| known == name),
                None => d.digest == descriptor.digest,
            };
            listed.retain(|d| !is_older(d));
            listed.push(descriptor);
        }
        self.replace(INDEX_FILE, &index(listed)).doing(doing)
    }
}

/// What `index.json` lists.
fn listed(dir: &Path) -> Result<Vec<Descriptor>> {
    let path = dir.join(INDEX_FILE);
    let bytes = fs::read(&path).doing(|| format!("reading {path:?}"))?;
    let index = Manifest::parse(media::INDEX, &bytes).map_err(|why| Error::new(why).doing(format!("{path:?}")))?;
    Ok(index.manifests)
}

fn index(manifests: Vec<Descriptor>) -> Vec<u8> {
    json::pretty(&Index::new("", manifests, Annotations::new()))
}

fn lock(path: &Path, how: FlockArg) -> Result<Flock<File>> {
    let mut file = File::create(path).doing(|| format!("opening {path:?}"))?;
    loop {
        match Flock::lock(file, how) {
            Ok(locked) => return Ok(locked),
            Err((back, nix::errno::Errno::EINTR)) => {
                signal::check()?;
                file = back;
            }
            Err((_, e)) => return Err(Error::new(e.desc()).doing(format!("locking {path:?}"))),
        }
    }
}

/// A body that is kept on its way.
struct Keeping<'a> {
    cache: &'a Cache,
    body: Box<dyn Read + 'a>,
    descriptor: Descriptor,
    hasher: Option<Hasher>,
    kept: u64,
    /// Until it is in place, or cannot be.
    file: Option<File>,
    path: PathBuf,
}

impl Keeping<'_> {
    fn keep(&mut self, bytes: &[u8]) {
        let (Some(file), Some(hasher)) = (&mut self.file, &mut self.hasher) else { return };
        hasher.update(bytes);
        self.kept += bytes.len() as u64;
        if let Err(e) = file.write_all(bytes) {
            self.cache.cannot_keep(&e);
            self.file = None;
        }
    }

    /// All was read: is it what it should be?
    fn finish(&mut self) {
        let right = self.hasher.take().is_some_and(|hasher| hasher.finish() == self.descriptor.digest);
        if self.file.is_none() || !right || self.kept != self.descriptor.size {
            return;
        }
        let place = self.cache.path(&self.descriptor.digest);
        let placed = fs::create_dir_all(place.parent().unwrap_or(&self.cache.dir));
        match placed.and_then(|()| fs::rename(&self.path, &place)) {
            Ok(()) => self.file = None,
            Err(e) => self.cache.cannot_keep(&e),
        }
    }
}

impl Read for Keeping<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.body.read(buffer)?;
        match n {
            0 if !buffer.is_empty() => self.finish(),
            n => self.keep(&buffer[..n]),
        }
        Ok(n)
    }
}

impl Drop for Keeping<'_> {
    fn drop(&mut self) {
        // In place, it has another name.
        let _ = fs::remove_file(&self.path);
    }
}

/// What pruning did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pruned {
    /// Files removed.
    pub files: usize,
    /// Bytes of these.
    pub bytes: u64,
    /// Bytes that are left.
    pub left: u64,
}

/// Brings the cache at `dir` down to `max` bytes: what was not used for longest goes first, with the
/// manifests that refer to it.
///
/// # Errors
/// If somebody uses the cache.
pub fn prune(dir: &Path, max: u64) -> Result<Pruned> {
    let doing = || format!("pruning the cache {dir:?}");
    if !dir.join(LAYOUT_FILE).exists() {
        return Err(Error::new("it is no OCI image layout").doing(doing()));
    }
    let file = File::create(dir.join(LOCK)).doing(doing)?;
    let alone = Flock::lock(file, FlockArg::LockExclusiveNonblock);
    let _alone = alone.map_err(|_| Error::new("another run is using it").doing(doing()))?;
    let mut pruned = Pruned { files: 0, bytes: 0, left: 0 };
    let mut remove = |path: &Path, size: u64| {
        fs::remove_file(path).doing(|| format!("removing {path:?}"))?;
        (pruned.files, pruned.bytes) = (pruned.files + 1, pruned.bytes + size);
        Ok::<(), Error>(())
    };
    // Nobody is at work, so nobody will finish these.
    for (path, size, _) in files(&dir.join(UNFINISHED)).doing(doing)? {
        remove(&path, size)?;
    }
    let mut blobs = Vec::new();
    for algorithm in ["sha256", "sha512"] {
        blobs.extend(files(&dir.join(BLOBS).join(algorithm)).doing(doing)?);
    }
    blobs.sort_by_key(|(_, _, used)| *used);
    let mut total: u64 = blobs.iter().map(|(_, size, _)| size).sum();
    let mut left = Vec::new();
    for (path, size, _) in blobs {
        if total > max {
            remove(&path, size)?;
            total -= size;
        } else {
            left.push((path, size));
        }
    }
    // A manifest goes with the first of what it refers to, and takes with it what refers to it.
    loop {
        let before = left.len();
        let mut whole = Vec::new();
        for (path, size) in left {
            if lacks_something(dir, &path, size) {
                remove(&path, size)?;
                total -= size;
            } else {
                whole.push((path, size));
            }
        }
        left = whole;
        if left.len() == before {
            break;
        }
    }
    let whole = listed(dir).doing(doing)?.into_iter().filter(|d| dir.join(d.digest.path()).exists()).collect();
    let new = dir.join(UNFINISHED).join(INDEX_FILE);
    fs::write(&new, index(whole)).and_then(|()| fs::rename(&new, dir.join(INDEX_FILE))).doing(doing)?;
    pruned.left = total;
    Ok(pruned)
}

/// The regular files in a directory that may not be there: path, size, and when each was last used.
fn files(dir: &Path) -> io::Result<Vec<(PathBuf, u64, SystemTime)>> {
    let mut all = Vec::new();
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(all),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        let meta = entry.metadata()?;
        if meta.is_file() {
            all.push((entry.path(), meta.len(), meta.modified()?));
        }
    }
    Ok(all)
}

/// Whether a file is a manifest that refers to what is not there.
fn lacks_something(dir: &Path, path: &Path, size: u64) -> bool {
    if size > MANIFEST_SIZE_MAX {
        return false;
    }
    let Ok(bytes) = fs::read(path) else { return false };
    let Ok(manifest) = serde_json::from_slice::<Manifest>(&bytes) else { return false };
    if !media::is_manifest(&manifest.media_type) && manifest.config.is_none() && manifest.manifests.is_empty() {
        return false;
    }
    manifest.successors().is_ok_and(|below| below.iter().any(|d| !dir.join(d.digest.path()).exists()))
}
