//! The files that a command line names: none may have two parts in one run.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::setup::is_dash;
use crate::{
    error::{Error, Result},
    util::atomic_file::directory,
};

/// Each file with its part: an operand's or a flag's name.
pub type Parts<'a> = [(&'static str, &'a Path)];

/// No file is both read and written, or written twice. Standard streams do not count.
///
/// # Errors
/// Wrong usage, if one is.
pub fn check(read: &Parts, written: &Parts) -> Result<()> {
    for (n, (as_output, output)) in written.iter().enumerate().filter(|(_, (_, path))| !is_dash(path)) {
        let others = read.iter().chain(&written[..n]).filter(|(_, path)| !is_dash(path));
        for (as_other, other) in others {
            if is_same_file(output, other) {
                return Err(Error::usage(format!("{output:?} is both {as_other} and {as_output}")));
            }
        }
    }
    Ok(())
}

/// Whether two paths name one regular file, there or not.
pub fn is_same_file(a: &Path, b: &Path) -> bool {
    match (std::fs::metadata(a), std::fs::metadata(b)) {
        (Ok(a), Ok(b)) => a.is_file() && (a.dev(), a.ino()) == (b.dev(), b.ino()),
        (Err(_), Err(_)) => absolute(a) == absolute(b),
        _ => false,
    }
}

/// Where a file that is not there would be.
fn absolute(path: &Path) -> Option<PathBuf> {
    Some(directory(path).canonicalize().ok()?.join(path.file_name()?))
}
