//! Regular files as one stream that can be read at any place.

use std::{
    fmt,
    fs::{File, Metadata},
    io::{self, ErrorKind as IoErrorKind, Read, Seek, SeekFrom},
    os::unix::fs::{FileExt, MetadataExt},
    path::PathBuf,
    sync::Arc,
};

use crate::{
    error::{Context, Result},
    fd,
    media::tape::label::Label,
    signal,
};

/// Regular files as one, to be read at any place by any thread.
pub struct Files {
    /// With the offset at which each begins.
    parts: Vec<(FilePart, u64)>,
    total: u64,
}

/// By which a file that was changed is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStamp {
    number: u64,
    /// Bytes.
    pub len: u64,
    /// When it was changed last, in seconds and nanoseconds.
    pub changed: (i64, i64),
}

impl FileStamp {
    /// Of a file with these attributes.
    pub fn of(meta: &Metadata) -> FileStamp {
        FileStamp { number: meta.ino(), len: meta.len(), changed: (meta.mtime(), meta.mtime_nsec()) }
    }
}

struct FilePart {
    file: File,
    /// Bytes of its label, which are no part of the stream.
    label: u64,
}

/// Reads [`Files`] from an offset on.
pub struct FilesReader {
    files: Arc<Files>,
    at: u64,
}

impl FilesReader {
    /// Begins at offset `at` of the files.
    pub fn new(files: Arc<Files>, at: u64) -> FilesReader {
        FilesReader { files, at }
    }

    /// What it reads.
    pub fn files(&self) -> &Arc<Files> {
        &self.files
    }
}

impl Read for FilesReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.files.read_at(into, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

impl Seek for FilesReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.files.total().checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(IoErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Files({} files, {} bytes)", self.parts.len(), self.total)
    }
}

/// The label that a file begins with, as the image of a volume does.
pub fn label_of(file: &File) -> Option<Label> {
    let mut block = [0; 512];
    let n = file.read_at(&mut block, 0).ok()?;
    Label::read(&block[..n])
}

impl Files {
    /// Opens regular files, one behind the other.
    ///
    /// # Errors
    /// If one cannot be opened, or has the label of another volume or series.
    pub fn open(paths: &[PathBuf]) -> Result<Files> {
        let (mut parts, mut total, mut series) = (Vec::new(), 0, None);
        for path in paths {
            let opening = || format!("opening {path:?}");
            let file = fd::open_to_read(path).doing(opening)?;
            let len = file.metadata().doing(opening)?.len();
            let label = label_of(&file);
            if let Some(label) = &label {
                label.check(parts.len() + 1, &mut series).doing(opening)?;
            }
            let label = label.map_or(0, |label| label.size).min(len);
            parts.push((FilePart { file, label }, total));
            total += len - label;
        }
        Ok(Files { parts, total })
    }

    /// Bytes of all files.
    pub fn total(&self) -> u64 {
        self.total
    }

    fn part(&self, offset: u64) -> usize {
        self.parts.partition_point(|(_, start)| *start <= offset).saturating_sub(1)
    }

    /// Which of several files the byte at `offset` lies in, counted from 1; 0 if there is only one.
    pub fn volume_at(&self, offset: u64) -> usize {
        if self.parts.len() > 1 { self.part(offset) + 1 } else { 0 }
    }

    /// Where the file ends in which the byte before `offset` lies.
    pub fn part_end(&self, offset: u64) -> u64 {
        let part = self.part(offset.saturating_sub(1));
        self.parts.get(part + 1).map_or(self.total, |(_, start)| *start)
    }

    /// Where in its file the byte at `offset` lies, and how many follow there. `None` behind the end.
    pub fn piece_at(&self, offset: u64) -> Option<(u64, u64)> {
        let (part, start) = &self.parts[self.part(offset)];
        let end = self.part_end(offset + 1);
        (offset < end).then(|| (part.label + offset - start, end - offset))
    }

    /// The file in which the byte at `offset` lies, or the last one.
    ///
    /// # Panics
    /// If there are no files.
    pub fn file_at(&self, offset: u64) -> &File {
        &self.parts[self.part(offset)].0.file
    }

    /// How long the file is in which the byte at `offset` lies, and when it was changed last, in seconds and nanoseconds:
    /// if these are the same, so is what it holds, as far as that can be told.
    ///
    /// # Errors
    /// If it cannot be found out.
    pub fn stamp_at(&self, offset: u64) -> io::Result<FileStamp> {
        Ok(FileStamp::of(&self.file_at(offset).metadata()?))
    }

    /// Of each file, as [`Files::stamp_at`].
    ///
    /// # Errors
    /// If one cannot be found out.
    pub fn stamps(&self) -> io::Result<Vec<FileStamp>> {
        self.parts.iter().map(|(part, _)| Ok(FileStamp::of(&part.file.metadata()?))).collect()
    }

    /// Reads some bytes; none at the end.
    ///
    /// # Errors
    /// If a file cannot be read, or a signal asks to stop.
    pub fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut part = self.part(offset);
        loop {
            let Some((FilePart { file, label }, start)) = self.parts.get(part) else { return Ok(0) };
            match file.read_at(into, label + offset - start.min(&offset)) {
                // An empty file, or the end of one.
                Ok(0) if !into.is_empty() && self.parts.get(part + 1).is_some_and(|(_, next)| *next <= offset) => {
                    part += 1;
                }
                Err(e) if e.kind() == IoErrorKind::Interrupted => signal::check()?,
                other => return other,
            }
        }
    }
}
