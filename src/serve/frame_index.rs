//! Where the frames of a compressed archive end, kept in a file beside it: what had to be decompressed once to be served
//! need not be the next time.
//!
//! `ARCHIVE.frames` is a JSON object: `version` is 1, `files` has length and time of the last change (seconds and
//! nanoseconds) of each file of the archive, and `ends` has pairs of offsets, in the files and in the TAR stream.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{
    archive::read::open::FrameEnds,
    error::{Context, Result},
    log,
    media::files::{FileStamp, Files},
    oci::json,
    util::atomic_file,
};

const VERSION: u32 = 1;
/// Bytes of such a file, at the most: some three million frames.
const INDEX_MAX: u64 = 128 << 20;

#[derive(Serialize, Deserialize)]
struct FrameIndex {
    version: u32,
    files: Vec<(u64, i64, i64)>,
    ends: FrameEnds,
}

/// The index beside an archive.
fn beside(archive: &Path) -> PathBuf {
    let mut name = archive.as_os_str().to_owned();
    name.push(".frames");
    name.into()
}

/// What an index beside `archive` says, if there is one, and the files were not changed since.
pub fn read(archive: &Path, files: &Files) -> Option<FrameEnds> {
    let path = beside(archive);
    let meta = std::fs::metadata(&path).ok()?;
    let wrong = |why: &str| log::warn(format_args!("{path:?} is not used: {why}"));
    if !meta.is_file() || meta.len() > INDEX_MAX {
        wrong("it is no index of frames");
        return None;
    }
    let read = std::fs::read(&path).map_err(|e| e.to_string());
    let index: FrameIndex = match read.and_then(|bytes| serde_json::from_slice(&bytes).map_err(|e| e.to_string())) {
        Ok(index) => index,
        Err(why) => {
            wrong(&why);
            return None;
        }
    };
    if index.version != VERSION || index.files != lasting(&files.stamps().ok()?) {
        wrong("the archive was changed since it was written");
        return None;
    }
    let ascends = index.ends.is_sorted_by(|before, next| before.0 < next.0 && before.1 < next.1);
    if !ascends || index.ends.last().is_none_or(|(packed, _)| *packed > files.total()) {
        wrong("it is no index of this archive");
        return None;
    }
    Some(index.ends)
}

/// Writes the index beside `archive`, whose files had these stamps, in place of one that is there.
///
/// # Errors
/// If it cannot be written.
pub fn write(archive: &Path, stamps: &[FileStamp], ends: FrameEnds) -> Result<()> {
    let path = beside(archive);
    let index = FrameIndex { version: VERSION, files: lasting(stamps), ends };
    atomic_file::replace(&path, &json::compact(&index), false).doing(|| format!("writing {path:?}"))
}

/// What of stamps is the same for a copy.
fn lasting(stamps: &[FileStamp]) -> Vec<(u64, i64, i64)> {
    stamps.iter().map(|stamp| (stamp.len, stamp.changed.0, stamp.changed.1)).collect()
}
