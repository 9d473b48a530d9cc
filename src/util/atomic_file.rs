//! A file replaced as a whole: it holds all of its new content, or what it held before.

use std::{
    collections::hash_map::RandomState,
    fs::{self, File, OpenOptions, Permissions},
    hash::{BuildHasher, Hasher},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// Writes `bytes` beside `path`, under a name that nobody can guess, brings them to the disk, and
/// gives them the name. With `private` only the owner can read the file.
///
/// # Errors
/// If it cannot be written; then the file is as it was.
pub fn replace(path: &Path, bytes: &[u8], private: bool) -> io::Result<()> {
    let mode = if private { 0o600 } else { 0o666 };
    let (new, mut file) = create_beside(path, mode)?;
    let mut write = || {
        if private {
            file.set_permissions(Permissions::from_mode(mode))?;
        }
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        // The new name must last too.
        File::open(directory(path))?.sync_all()
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&new);
    })
}

/// Makes a file whose name begins with that of `path`, and goes on as nobody can guess.
///
/// # Errors
/// If it cannot be made.
pub fn create_beside(path: &Path, mode: u32) -> io::Result<(PathBuf, File)> {
    loop {
        let mut name = path.to_path_buf().into_os_string();
        name.push(format!(".{:016x}.tmp", RandomState::new().build_hasher().finish()));
        let new = PathBuf::from(name);
        match OpenOptions::new().write(true).create_new(true).mode(mode).open(&new) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            other => return other.map(|file| (new, file)),
        }
    }
}

/// The directory that a file is in.
pub fn directory(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
