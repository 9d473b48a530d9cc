//! What is served, opened: archives in files, and layouts in directories. Each says where its blobs lie, and what it lists.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicU64},
};

use super::{
    content::{BlobPlace, Held},
    docker_archive, frame_index,
    frames::{FramedCursor, FramedFile},
};
use crate::{
    archive::read::{
        catalog::Catalog,
        finding::{Finding, FindingKind},
        open::{FrameEnds, groups, scan_stream},
        scan::Scanner,
    },
    compression::Format,
    error::{Context, Error, Result},
    log,
    media::{
        files::Files,
        files_cursor::FilesCursor,
        stream_input::{InputOptions, StreamInput},
    },
    oci::{
        Descriptor, Digest,
        layout::{BLOBS, INDEX_FILE},
    },
    store::layout,
    util::units::grouped,
};

/// So much that is wrong with an archive is told.
const TOLD_MAX: usize = 20;
/// A frame that holds more than this makes a blob behind its beginning slow to find.
const FRAME_MAX: u64 = 64 << 20;

/// An archive or layout.
pub struct Shelf {
    /// Its name without directory and ending, for what it names by a tag alone.
    pub stem: String,
    /// Its blobs.
    pub blobs: HashMap<Digest, Held>,
    /// What its `index.json` lists.
    pub roots: Vec<Descriptor>,
}

impl Shelf {
    /// Opens all that is named: directories are layouts, and files are archives, or go on with the one before. With
    /// `keeps_frames` what has to be decompressed gets an index of its frames beside it.
    ///
    /// # Errors
    /// If something cannot be opened, or is neither.
    pub fn open(paths: &[PathBuf], keeps_frames: bool) -> Result<Vec<Shelf>> {
        let (mut shelves, mut files): (Vec<Shelf>, Vec<PathBuf>) = Default::default();
        let archives = |files: &mut Vec<PathBuf>, shelves: &mut Vec<Shelf>| -> Result<()> {
            groups(&std::mem::take(files))?.iter().try_for_each(|group| open_archives(group, keeps_frames, shelves))
        };
        for path in paths {
            let meta = std::fs::metadata(path).doing(|| format!("opening {path:?}"))?;
            if meta.is_file() {
                files.push(path.clone());
                continue;
            }
            archives(&mut files, &mut shelves)?;
            if !meta.is_dir() {
                let why = "it is no regular file, and cannot be read at any place";
                return Err(Error::new(why).doing(format!("opening {path:?}")).hint("copy it to a file first"));
            }
            shelves.push(open_layout(path)?);
        }
        archives(&mut files, &mut shelves)?;
        Ok(shelves)
    }

    fn of_catalog(path: &Path, catalog: &Catalog, place: impl Fn(u64) -> BlobPlace) -> Result<Shelf> {
        if catalog.lists.count() == 0 {
            let why = match catalog.blobs().is_empty() {
                true => "it is no archive of images: it holds no index.json",
                false => "it holds no index.json that can be read",
            };
            return Err(Error::new(why).doing(format!("opening {path:?}")));
        }
        let blobs = catalog.blobs().iter();
        let blobs = blobs.map(|(digest, held)| (digest.clone(), Held::new(place(held.begin()), held.size)));
        Ok(Shelf { stem: stem(path), blobs: blobs.collect(), roots: catalog.lists.roots().to_vec() })
    }
}

/// A name without directory and ending.
pub fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let endings = [".zst", ".gz", ".zstd", ".tgz", ".tar"];
    endings.iter().fold(name, |name, ending| match name.strip_suffix(ending) {
        Some(stem) if !stem.is_empty() => stem.into(),
        _ => name,
    })
}

/// Tells what is wrong with an archive that is served all the same.
fn tell(path: &Path, findings: &[Finding]) {
    for finding in findings.iter().take(TOLD_MAX) {
        log::warn(format_args!("{path:?}: {}", finding.text));
    }
    if findings.len() > TOLD_MAX {
        log::warn(format_args!("{path:?}: and more; ace-dt mirror verify tells all"));
    }
}

/// Notes what is wrong with an archive.
fn noting(findings: &mut Vec<Finding>) -> impl FnMut(Finding) {
    |finding| {
        if finding.kind != FindingKind::Note && findings.len() <= TOLD_MAX {
            findings.push(finding);
        }
    }
}

/// Opens the archives in files that follow each other.
fn open_archives(group: &[PathBuf], keeps_frames: bool, shelves: &mut Vec<Shelf>) -> Result<()> {
    let first = &group[0];
    let doing = || format!("opening {first:?}");
    let files = Arc::new(Files::open(group)?);
    let mut magic = [0; 4];
    let n = files.read_at(&mut magic, 0).map_err(Error::from_io).doing(doing)?;
    match Format::of(&magic[..n]) {
        None => open_plain(group, &files, shelves),
        Some(format) => {
            shelves.push(open_compressed(group, &files, format, keeps_frames).doing(doing)?);
            Ok(())
        }
    }
}

fn open_plain(group: &[PathBuf], files: &Arc<Files>, shelves: &mut Vec<Shelf>) -> Result<()> {
    let (read, mut start) = (AtomicU64::new(0), 0);
    while start < files.total() || start == 0 {
        // Where there is only one file it has no number.
        let path = &group[files.volume_at(start).max(1) - 1];
        let (mut catalog, mut findings) = (Catalog::default(), Vec::new());
        let mut noting = noting(&mut findings);
        let mut scanner = Scanner { deep: false, share: None, passes_holes: true, tell: &mut noting, read: &read };
        let (ended, next) = scanner.files(files, start, &mut catalog)?;
        drop(noting);
        if catalog.lists.count() == 0 && start > 0 && !catalog.is_docker_archive() {
            let why = format!("it is no archive, and {:?} is complete without it", group[0]);
            return Err(Error::new(why).doing(format!("opening {path:?}")));
        }
        let place = |begin| BlobPlace::Files(files.clone(), start + begin);
        let shelf = match catalog.is_docker_archive() {
            true => {
                let mut from = FilesCursor::new(files.clone(), start);
                let listed = catalog.lists.images_of_docker();
                let opened = docker_archive::open(path, listed, &mut from, &place);
                let (blobs, roots) = opened.doing(|| format!("opening {path:?}"))?;
                Shelf { stem: stem(path), blobs, roots }
            }
            false => {
                tell(path, &findings);
                Shelf::of_catalog(path, &catalog, place)?
            }
        };
        shelves.push(shelf);
        if ended.end.is_none() {
            break;
        }
        start = next;
    }
    Ok(())
}

fn open_compressed(group: &[PathBuf], files: &Arc<Files>, format: Format, keeps_frames: bool) -> Result<Shelf> {
    let path = &group[0];
    let found = match format {
        Format::Zstd => FramedFile::by_headers(files.clone())?,
        Format::Gzip => None,
    };
    let by_headers = found.filter(|found| found.frame_max() <= FRAME_MAX).map(Arc::new);
    if let Some(stream) = by_headers {
        let (catalog, findings) = scan_frames(&stream)?;
        return shelf_of_frames(path, &stream, &catalog, &findings);
    }
    if let Some(ends) = frame_index::read(path, files) {
        let stream = Arc::new(FramedFile::new(files.clone(), format, ends));
        // What does not fit the archive shows in what is found by it.
        match scan_frames(&stream) {
            Ok((catalog, findings)) if findings.is_empty() || catalog.is_docker_archive() => {
                return shelf_of_frames(path, &stream, &catalog, &findings);
            }
            _ => log::warn(format_args!("{path:?}: the index of its frames does not fit it, and is not used")),
        }
    }
    log::warn(format_args!(
        "{path:?}: its {} compressed bytes are decompressed once, to find what is in them",
        grouped(files.total())
    ));
    // What is changed meanwhile has other frames.
    let stamps = files.stamps().map_err(Error::from_io)?;
    let (read, mut catalog, mut findings) = (AtomicU64::new(0), Catalog::default(), Vec::new());
    let mut noting = noting(&mut findings);
    let scanner = Scanner { deep: false, share: None, passes_holes: false, tell: &mut noting, read: &read };
    let (mut input, mut ends) = (StreamInput::start(group.to_vec(), InputOptions::default())?, FrameEnds::new());
    scan_stream(scanner, &mut input, &mut catalog, &mut ends)?;
    drop(noting);
    if keeps_frames {
        let again = Files::open(group)?.stamps().map_err(Error::from_io)?;
        let written = match stamps == again && files.stamps().map_err(Error::from_io)? == again {
            true => frame_index::write(path, &stamps, ends.clone()),
            false => Err(Error::new("it was changed while it was read").doing(format!("indexing {path:?}"))),
        };
        written.unwrap_or_else(|e| log::warn(format_args!("{e}")));
    }
    let stream = FramedFile::new(files.clone(), format, ends);
    if stream.frame_max() > FRAME_MAX {
        log::warn(format_args!(
            "{path:?} was not compressed by this tool: for each blob all that stands before it is decompressed"
        ));
    }
    shelf_of_frames(path, &Arc::new(stream), &catalog, &findings)
}

/// Finds what is in an archive of which the ends of frames are known.
fn scan_frames(stream: &Arc<FramedFile>) -> Result<(Catalog, Vec<Finding>)> {
    let (read, mut catalog, mut findings) = (AtomicU64::new(0), Catalog::default(), Vec::new());
    let mut noting = noting(&mut findings);
    let mut scanner = Scanner { deep: false, share: None, passes_holes: false, tell: &mut noting, read: &read };
    scanner.stream(&mut FramedCursor::new(stream.clone()), &mut catalog)?;
    drop(noting);
    Ok((catalog, findings))
}

fn shelf_of_frames(path: &Path, stream: &Arc<FramedFile>, catalog: &Catalog, findings: &[Finding]) -> Result<Shelf> {
    let place = |begin| BlobPlace::Framed(stream.clone(), begin);
    if catalog.is_docker_archive() {
        let mut from = FramedCursor::new(stream.clone());
        let (blobs, roots) = docker_archive::open(path, catalog.lists.images_of_docker(), &mut from, &place)?;
        return Ok(Shelf { stem: stem(path), blobs, roots });
    }
    tell(path, findings);
    Shelf::of_catalog(path, catalog, place)
}

/// Opens an image layout in a directory.
fn open_layout(dir: &Path) -> Result<Shelf> {
    if !dir.join(INDEX_FILE).exists() {
        return Err(Error::new("it is no image layout: it holds no index.json").doing(format!("opening {dir:?}")));
    }
    let index = layout::read_index(dir)?;
    let mut blobs = HashMap::new();
    let listing = || format!("reading the directory {:?}", dir.join(BLOBS));
    for algorithm in std::fs::read_dir(dir.join(BLOBS)).doing(listing)? {
        let algorithm = algorithm.doing(listing)?;
        // What links lead to is no part of the layout.
        let is_directory = algorithm.file_type().is_ok_and(|kind| kind.is_dir());
        let Ok(files) = std::fs::read_dir(algorithm.path()) else { continue };
        let files = files.filter(|_| is_directory);
        for file in files {
            let file = file.doing(listing)?;
            let name = format!("{}:{}", algorithm.file_name().to_string_lossy(), file.file_name().to_string_lossy());
            let (Ok(digest), Ok(meta)) = (name.parse::<Digest>(), file.metadata()) else { continue };
            if meta.is_file() {
                blobs.insert(digest, Held::new(BlobPlace::Path(file.path()), meta.len()));
            }
        }
    }
    Ok(Shelf { stem: stem(dir), blobs, roots: index.manifests })
}
