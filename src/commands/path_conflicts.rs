//! The files that a command line names: none may have two parts in one run.

use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use super::setup::is_dash;
use crate::{
    error::{Error, Result},
    media::tape::mtio,
    store::Locator,
    util::atomic_file::directory,
};

/// As many links are followed as the kernel follows (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// Each file with its part: an operand's or a flag's name. `-` is a standard stream.
pub type Parts<'a> = [(&'static str, &'a Path)];

/// For a command that prints what it finds.
pub fn stdout() -> (&'static str, &'static Path) {
    ("standard output", Path::new("-"))
}

/// No file is both read and written, or written twice, whatever it is called. A standard stream that is
/// redirected to a file is that file.
///
/// # Errors
/// Wrong usage, if one is.
pub fn check(read: &Parts, written: &Parts) -> Result<()> {
    let read = read.iter().map(|(part, path)| NamedFile::new(part, path, "standard input", "/dev/stdin"));
    let mut before: Vec<NamedFile> = read.collect();
    for (part, path) in written {
        let output = NamedFile::new(part, path, "standard output", "/dev/stdout");
        if let Some(other) = before.iter().find(|other| other.id.is_some() && other.id == output.id) {
            return Err(Error::usage(match other.part == *part {
                true => format!("{} is named twice by {part}", output.name),
                false if is_dash(path) => format!("{} is both {} and standard output", other.name, other.part),
                false if other.is_stream => format!("{} is both {} and {part}", output.name, other.name),
                false => format!("{} is both {} and {part}", output.name, other.part),
            }));
        }
        before.push(output);
    }
    Ok(())
}

/// Nothing of the sources is written over: neither an archive that is read, nor anything in a layout.
///
/// # Errors
/// Wrong usage, if something is.
pub fn check_sources<'a>(written: &Parts, sources: impl Iterator<Item = &'a Locator> + Clone) -> Result<()> {
    let archives: Vec<_> = sources.clone().filter_map(Locator::archive).map(|path| ("a source", path)).collect();
    check(&archives, written)?;
    not_inside(&sources.filter_map(Locator::layout).collect::<Vec<_>>(), written)
}

/// Nothing is written into the layout of a source: into the directory or one below it.
///
/// # Errors
/// Wrong usage, if something is.
fn not_inside(layouts: &[&Path], written: &Parts) -> Result<()> {
    for (part, path) in written.iter().filter(|(_, path)| !is_dash(path)) {
        let Ok(parent) = directory(path).canonicalize() else { continue };
        let inside = |layout: &&&Path| layout.canonicalize().is_ok_and(|layout| parent.starts_with(layout));
        if let Some(layout) = layouts.iter().find(inside) {
            return Err(Error::usage(format!("{part} {path:?} lies in the layout of a source, {layout:?}")));
        }
    }
    Ok(())
}

/// A file with its part in a run.
struct NamedFile {
    part: &'static str,
    /// For messages.
    name: String,
    is_stream: bool,
    /// None of what several may share, as a terminal.
    id: Option<FileId>,
}

/// What tells one file from another.
#[derive(PartialEq, Eq)]
enum FileId {
    /// Device and inode.
    There(u64, u64),
    /// Where it would be.
    Missing(PathBuf),
}

impl NamedFile {
    fn new(part: &'static str, path: &Path, stream: &str, device: &str) -> NamedFile {
        let is_stream = is_dash(path);
        let name = if is_stream { stream.to_string() } else { format!("{path:?}") };
        let id = match fs::metadata(if is_stream { Path::new(device) } else { path }) {
            Ok(meta) => {
                let kind = meta.file_type();
                let is_one = kind.is_file() || kind.is_block_device() || mtio::is_tape(&meta);
                (is_one || kind.is_fifo() && !is_stream).then(|| FileId::There(meta.dev(), meta.ino()))
            }
            Err(_) if is_stream => None,
            Err(_) => missing(path).map(FileId::Missing),
        };
        NamedFile { part, name, is_stream, id }
    }
}

/// Where a file that is not there would be, the links to it followed.
fn missing(path: &Path) -> Option<PathBuf> {
    let mut path = path.to_path_buf();
    for _ in 0..LINKS_MAX {
        match fs::read_link(&path) {
            Ok(to) => path = directory(&path).join(to),
            Err(_) => return Some(directory(&path).canonicalize().ok()?.join(path.file_name()?)),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::util::scratch::Scratch;

    fn is_same_file(a: &Path, b: &Path) -> bool {
        let named = |path: &Path| NamedFile::new("", path, "", "").id;
        named(a).is_some_and(|a| named(b) == Some(a))
    }

    #[test]
    fn a_file_is_the_same_whatever_it_is_called() {
        let dir = Scratch::new();
        let at = |name: &str| dir.join(name);
        fs::write(at("file"), "x").unwrap();
        fs::write(at("other"), "x").unwrap();
        fs::hard_link(at("file"), at("hard")).unwrap();
        symlink("file", at("soft")).unwrap();
        symlink(".", at("here")).unwrap();
        symlink("here/gone", at("dangling")).unwrap();
        symlink("round", at("round")).unwrap();
        for (a, b) in [
            ("file", "file"),
            ("file", "hard"),
            ("soft", "hard"),
            ("here/file", "file"),
            ("gone", "gone"),
            ("gone", "dangling"),
            ("here/dangling", "here/gone"),
        ] {
            assert!(is_same_file(&at(a), &at(b)), "{a} {b}");
            let told = check(&[("A", &at(a))], &[("B", &at(b))]).unwrap_err().to_string();
            assert!(told.ends_with("is both A and B"), "{told}");
        }
        for (a, b) in [("file", "other"), ("gone", "away"), ("round", "round"), ("file", "gone")] {
            assert!(!is_same_file(&at(a), &at(b)), "{a} {b}");
        }
        let (null, other) = (Path::new("/dev/null"), at("other"));
        check(&[("A", null), ("B", &other)], &[("C", null), ("D", null)]).unwrap();
        let told = check(&[], &[("D", &other), ("D", &other)]).unwrap_err().to_string();
        assert!(told.ends_with("is named twice by D"), "{told}");
    }
}
