//! A file that this run alone writes: locked while it is open, and taken away again if nothing came of it.

use std::{
    fs::{self, File, Metadata, TryLockError},
    ops::Deref,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use nix::{errno::Errno, fcntl::OFlag};

use crate::{
    error::{Error, ErrorKind, Result},
    fd, log,
};

/// How often a file is opened again that somebody else took away meanwhile.
const TRIES: usize = 10;
/// How often the lock of a disk is tried again, ten times a second.
const DISK_TRIES: usize = 20;

/// A file that is open for writing, locked if it has a lock.
#[derive(Debug)]
pub struct OwnedFile {
    /// Goes first: whoever gets the lock must not get a file that is taken away then.
    created: Option<CreatedFile>,
    file: File,
}

/// An empty file that this run has made.
#[derive(Debug)]
struct CreatedFile {
    path: PathBuf,
    /// Device and inode: under its name may stand something else by then.
    id: (u64, u64),
}

impl Drop for CreatedFile {
    /// A run that failed before its first byte leaves no empty file behind.
    fn drop(&mut self) {
        let is_ours = |meta: &Metadata| meta.is_file() && meta.len() == 0 && id(meta) == self.id;
        if fs::symlink_metadata(&self.path).is_ok_and(|meta| is_ours(&meta)) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl OwnedFile {
    /// Opens what is at `path` for writing, making a regular file if nothing is there. A regular file or a
    /// disk is locked until it is closed (flock(2)).
    ///
    /// # Errors
    /// If it cannot be opened, somebody else has locked it, or a signal asks to stop.
    pub fn open(path: &Path) -> Result<OwnedFile> {
        for _ in 0..TRIES {
            let (file, is_new) = open_or_create(path)?;
            let meta = file.metadata().map_err(Error::from_io)?;
            let created = is_new.then(|| CreatedFile { path: path.into(), id: id(&meta) });
            let mut owned = OwnedFile { created, file };
            // Somebody else has it already, and may be writing: it is not ours to take away.
            lock(&owned.file).inspect_err(|_| owned.keep())?;
            // Whoever held the lock may have taken the file away.
            if !meta.is_file() || fs::metadata(path).is_ok_and(|now| id(&now) == id(&meta)) {
                return Ok(owned);
            }
        }
        Err(Error::new("somebody takes it away again and again"))
    }

    /// Locks a file that is open already, if it has a lock.
    ///
    /// # Errors
    /// If somebody else has locked it.
    pub fn of(file: File) -> Result<OwnedFile> {
        lock(&file)?;
        Ok(OwnedFile { created: None, file })
    }

    /// It is written to, and stays even if nothing comes of it.
    pub fn keep(&mut self) {
        std::mem::forget(self.created.take());
    }

    /// The file alone. What was made stays.
    pub fn into_file(mut self) -> File {
        self.keep();
        self.file
    }
}

impl Deref for OwnedFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}

/// A file made under the name of a device that is not there would lie in memory.
fn is_device_name(path: &Path) -> bool {
    path.parent().is_some_and(|dir| dir == Path::new("/dev"))
}

/// Opens what is there, or makes it. Whether it was made here.
fn open_or_create(path: &Path) -> Result<(File, bool)> {
    let is = |e: &Error, errno: Errno| e.os_error() == Some(errno as i32);
    match fd::open(path, OFlag::O_WRONLY) {
        Err(e) if is(&e, Errno::ENOENT) && is_device_name(path) => {
            return Err(Error::new("there is no such device; is its driver loaded?"));
        }
        Err(e) if is(&e, Errno::ENOENT) => {}
        other => return Ok((other?, false)),
    }
    match fd::open(path, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL) {
        // A link to nothing: the link is not ours.
        Err(e) if is(&e, Errno::EEXIST) => Ok((fd::open(path, OFlag::O_WRONLY | OFlag::O_CREAT)?, false)),
        other => Ok((other?, true)),
    }
}

/// Takes the lock of a regular file, a directory or a disk, until it is closed; anything else has none.
///
/// # Errors
/// If somebody else has it, with who that is.
pub fn lock(file: &File) -> Result<()> {
    let meta = file.metadata().map_err(Error::from_io)?;
    let kind = meta.file_type();
    if !(kind.is_file() || kind.is_dir() || kind.is_block_device()) {
        return Ok(());
    }
    let mut locked = file.try_lock();
    // udev(7) locks a disk for a moment after it was closed.
    for _ in 0..DISK_TRIES {
        if kind.is_block_device() && matches!(locked, Err(TryLockError::WouldBlock)) {
            thread::sleep(Duration::from_millis(100));
            locked = file.try_lock();
        }
    }
    match locked {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            Err(Error::new(format!("{} is writing it", holder(&meta))).of(ErrorKind::Busy))
        }
        Err(TryLockError::Error(e)) => {
            log::debug(format_args!("the file system has no locks: {e}"));
            Ok(())
        }
    }
}

fn id(meta: &Metadata) -> (u64, u64) {
    (meta.dev(), meta.ino())
}

/// Who has locked a file, as far as the kernel tells (proc_locks(5)).
fn holder(meta: &Metadata) -> String {
    let (major, minor) = (nix::sys::stat::major(meta.dev()), nix::sys::stat::minor(meta.dev()));
    let place = format!("{major:02x}:{minor:02x}:{}", meta.ino());
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let pid = locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        (words.get(1) == Some(&"FLOCK") && words.get(5) == Some(&&*place)).then(|| words[4].to_string())
    });
    let Some(pid) = pid.filter(|pid| pid.parse().is_ok_and(|pid: i32| pid > 0)) else {
        return "another process".into();
    };
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<_> = line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    match words.join(" ").trim() {
        "" => format!("process {pid}"),
        line => format!("process {pid} ({})", line),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::util::scratch::Scratch;

    #[test]
    fn who_comes_second_is_told_who_was_first() {
        let dir = Scratch::new();
        let path = dir.join("a");
        let first = OwnedFile::open(&path).unwrap();
        let error = OwnedFile::open(&path).unwrap_err().to_string();
        let process = format!("process {} ", std::process::id());
        assert!(error.contains(&process) || error.starts_with("another process"), "{error}");
        drop(first);
        assert!(!path.exists(), "it was empty, and this run's");
        OwnedFile::open(&path).unwrap();
    }

    #[test]
    fn only_an_empty_file_of_this_run_is_taken_away() {
        let dir = Scratch::new();
        let path = dir.join("a");
        let created = OwnedFile::open(&path).unwrap();
        fs::write(&path, "x").unwrap();
        drop(created);
        assert!(path.exists(), "it has something in it");
        fs::write(&path, "").unwrap();
        drop(OwnedFile::open(&path).unwrap());
        assert!(path.exists(), "it was there before");
        fs::remove_file(&path).unwrap();
        let created = OwnedFile::open(&path).unwrap();
        fs::rename(&path, dir.join("b")).unwrap();
        fs::write(&path, "").unwrap();
        drop(created);
        assert!(path.exists(), "another file has the name");
        let link = dir.join("link");
        symlink(dir.join("target"), &link).unwrap();
        drop(OwnedFile::open(&link).unwrap());
        assert!(link.is_symlink() && dir.join("target").exists());
        OwnedFile::open(Path::new("/dev/null")).unwrap();
    }
}
