//! The files that a command line names: none may have two parts in one run.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::{
    cli::args::Args,
    error::{Error, Result},
    util::atomic_file::directory,
};

/// No file is both read and written, or written twice. `sources` is the list that is read, if there
/// is one.
pub fn check(args: &Args, sources: Option<&Path>) -> Result<()> {
    let dash = Path::new("-");
    let mut read: Vec<(&str, &Path)> = sources.map(|path| ("SOURCES-FILE", path)).into_iter().collect();
    read.extend(args.existing_from_checkpoint.iter().map(|(path, _)| ("--existing-from-checkpoint", path.as_path())));
    let mut written: Vec<(&str, &Path)> = Vec::new();
    if !args.dry_run {
        written.push(("DEST-FILE", args.path(1)));
        written.extend(args.checkpoint.as_deref().map(|path| ("--checkpoint", path)));
    }
    written.extend(args.report.as_deref().map(|path| ("--report", path)));
    for (n, (as_output, output)) in written.iter().enumerate().filter(|(_, (_, path))| *path != dash) {
        let others = read.iter().chain(&written[..n]).filter(|(_, path)| *path != dash);
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
