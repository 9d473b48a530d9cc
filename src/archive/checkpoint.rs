//! The checkpoint: JSON lines that say which blob the medium holds up to which offset.
//!
//! Each line is a blob's descriptor with the annotation [`annotation::OFFSET`]: the length of the
//! shortest prefix of the archive that holds the blob whole, padding included. A line is written
//! only after the kernel has accepted those bytes; on a tape, when the drive has brought them onto it.
//!
//! Of an archive on tapes a line also says on which of them the blob ends ([`annotation::VOLUME`]) and
//! where the archive begins on that one ([`annotation::VOLUME_BEGIN`]): the offset in the archive, the
//! file of the tape and the block in it, and the bytes of a block. And what some blocks hold that are on it for
//! sure, so that it is known again ([`annotation::VOLUME_BLOCKS`]).

use std::{
    collections::HashSet,
    io::{BufRead, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use crate::{
    error::{Context, Error, Result},
    fd, log,
    media::sink::{KnownBlock, Volume},
    oci::{Descriptor, Digest, annotation, json},
    owned_file::OwnedFile,
};

/// Bytes of a line, at the most; a descriptor's annotations are part of it.
const LINE_MAX: u64 = 16 << 20;
/// Bytes of lines that are handed to the kernel at once, at the most.
const PENDING_MAX: usize = 64 << 10;

/// Writes a checkpoint.
pub struct CheckpointWriter {
    path: PathBuf,
    file: OwnedFile,
    is_regular: bool,
    /// Lines that the kernel has not taken yet.
    pending: Vec<u8>,
    /// Records written so far, those of an earlier run included.
    records: usize,
    /// Bytes of what is kept of an earlier run; the rest is cut off.
    kept: u64,
    /// What an earlier run left, and the number of the last line if that is torn.
    found: (Vec<CheckpointRecord>, Option<usize>),
}

/// One line: a blob, and where it ends on the medium.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointRecord {
    /// The blob's.
    pub digest: Digest,
    /// The length of the shortest prefix of the archive that holds it whole.
    pub offset: u64,
    /// On a tape: where the archive begins on that one.
    pub volume: Option<Volume>,
    /// Bytes of the checkpoint up to the end of the line.
    pub end: u64,
}

impl CheckpointWriter {
    /// Opens the checkpoint, creating it if it is not there. What it holds stays until
    /// [`CheckpointWriter::begin`].
    ///
    /// # Errors
    /// If it cannot be opened, somebody else writes it, or what is there is no checkpoint.
    pub fn open(path: &Path) -> Result<CheckpointWriter> {
        let opening = || format!("opening the checkpoint {path:?}");
        let file = OwnedFile::open(path).doing(opening)?;
        let is_regular = file.metadata().doing(opening)?.is_file();
        let found = match is_regular {
            true => parse_file(path).map_err(|e| e.hint("it is no checkpoint, and is not written over"))?,
            false => Default::default(),
        };
        Ok(CheckpointWriter { path: path.into(), file, is_regular, pending: Vec::new(), records: 0, kept: 0, found })
    }

    /// What it held when it was opened. A torn last line is left out, with a warning.
    pub fn take_records(&mut self) -> Vec<CheckpointRecord> {
        let (records, torn) = std::mem::take(&mut self.found);
        told_of_torn(&self.path, torn);
        records
    }

    /// Goes on behind these records in it.
    pub fn keep(&mut self, records: &[CheckpointRecord]) {
        self.records = records.len();
        self.kept = records.last().map_or(0, |record| record.end);
    }

    /// How many records it has.
    pub fn records(&self) -> usize {
        self.records
    }

    /// The medium is about to be written to: what the checkpoint says beyond the records that stay is cut
    /// off, and that is brought to the disk.
    ///
    /// # Errors
    /// If it cannot be cut.
    pub fn begin(&mut self) -> Result<()> {
        self.file.keep();
        // Only a regular file has something to cut off.
        if self.is_regular {
            let cut = self.file.set_len(self.kept).and_then(|()| (&*self.file).seek(SeekFrom::End(0)));
            cut.doing(|| writing(&self.path))?;
            self.sync()?;
        }
        Ok(())
    }

    /// Records that the medium holds a blob whole up to `offset`, on `volume` if it is a tape.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn append(&mut self, mut descriptor: Descriptor, offset: u64, volume: Option<&Volume>) -> Result<()> {
        descriptor.annotations.insert(annotation::OFFSET.into(), offset.to_string());
        if let Some(volume) = volume {
            descriptor.annotations.insert(annotation::VOLUME.into(), volume.number.to_string());
            descriptor.annotations.insert(annotation::VOLUME_BEGIN.into(), volume_begin(volume));
            descriptor.annotations.insert(annotation::VOLUME_BLOCKS.into(), known_blocks(&volume.known));
        }
        let mut line = json::compact(&descriptor);
        line.push(b'\n');
        self.records += 1;
        self.pending.extend(line);
        if self.pending.len() >= PENDING_MAX { self.flush() } else { Ok(()) }
    }

    /// Hands what was recorded to the kernel.
    ///
    /// # Errors
    /// If it does not take it.
    pub fn flush(&mut self) -> Result<()> {
        while !self.pending.is_empty() {
            match fd::write_once(&*self.file, &self.pending).doing(|| writing(&self.path))? {
                Some(0) => return Err(Error::new("it took no bytes").doing(writing(&self.path))),
                // What it took is not written again, whatever fails then.
                Some(n) => drop(self.pending.drain(..n)),
                None => {}
            }
        }
        Ok(())
    }

    /// Brings the checkpoint to the disk.
    ///
    /// # Errors
    /// If it cannot be brought there.
    pub fn sync(&mut self) -> Result<()> {
        match self.file.sync_data() {
            // Pipes and character devices have nothing to bring to a disk.
            Err(e) if matches!(e.raw_os_error(), Some(nix::libc::EINVAL | nix::libc::EROFS)) => Ok(()),
            other => other.doing(|| writing(&self.path)),
        }
    }
}

fn writing(path: &Path) -> String {
    format!("writing the checkpoint {path:?}")
}

/// Which blobs the checkpoint at `path` says are on the medium up to `offset`, that offset included, or all.
///
/// # Errors
/// As [`records`], and if the checkpoint ends before the offset.
pub fn read(path: &Path, offset: Option<u64>) -> Result<HashSet<Digest>> {
    let records = records(path)?;
    let end = records.last().map_or(0, |record| record.offset);
    let until = offset.unwrap_or(end);
    if until > end {
        let why = format!("it ends at offset {end}, and so says nothing of what lies up to {until}");
        let doing = format!("reading the checkpoint {path:?}");
        return Err(Error::usage(why).doing(doing).hint("without an offset all of it is taken"));
    }
    Ok(records.into_iter().filter(|record| record.offset <= until).map(|record| record.digest).collect())
}

/// All that a checkpoint says.
///
/// # Errors
/// If the file cannot be read or a line is no record. Only the last line may be torn, as a run
/// that was killed or a machine that lost its power leaves it: it is left out, with a warning.
pub fn records(path: &Path) -> Result<Vec<CheckpointRecord>> {
    let is_no_checkpoint =
        |e: Error| if e.os_error().is_some() { e } else { e.hint("it is no checkpoint, or a damaged one") };
    let (all, torn) = parse_file(path).map_err(is_no_checkpoint)?;
    told_of_torn(path, torn);
    Ok(all)
}

fn told_of_torn(path: &Path, torn: Option<usize>) {
    if let Some(number) = torn {
        log::warn(format_args!("{}: it is cut short and was left out", reading(path, number)));
    }
}

fn reading(path: &Path, line: usize) -> String {
    format!("reading the checkpoint {path:?}, line {line}")
}

/// The records of a checkpoint, and the number of its last line if that is torn.
fn parse_file(path: &Path) -> Result<(Vec<CheckpointRecord>, Option<usize>)> {
    let file = fd::open_to_read(path).doing(|| format!("opening the checkpoint {path:?}"))?;
    parse_all(BufReader::new(file), path)
}

/// The same of what was opened.
///
/// # Errors
/// As [`records`].
pub(crate) fn parse_all(mut lines: impl BufRead, path: &Path) -> Result<(Vec<CheckpointRecord>, Option<usize>)> {
    let (mut all, mut line, mut number, mut end) = (Vec::new(), Vec::new(), 0, 0);
    loop {
        line.clear();
        number += 1;
        let length = lines.by_ref().take(LINE_MAX).read_until(b'\n', &mut line).doing(|| reading(path, number))?;
        if length == 0 {
            return Ok((all, None));
        }
        if length as u64 == LINE_MAX {
            return Err(Error::new(format!("it has more than {LINE_MAX} bytes")).doing(reading(path, number)));
        }
        end += length as u64;
        let is_torn = line.last() != Some(&b'\n');
        match parse(&line) {
            Ok(None) => {}
            Ok(Some(_)) if is_torn => return Ok((all, Some(number))),
            Err(_) if is_torn && may_be_torn(&line, all.is_empty()) => return Ok((all, Some(number))),
            Ok(Some((digest, offset, volume))) => all.push(CheckpointRecord { digest, offset, volume, end }),
            Err(why) => return Err(Error::new(why).doing(reading(path, number))),
        }
    }
}

/// Whether bytes without the end of a line are the beginning of a record, or of one that never reached the disk
/// and left zeros. A file that begins with zeros is no checkpoint.
fn may_be_torn(line: &[u8], is_first: bool) -> bool {
    let end = line.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let written = &line[..end];
    match serde_json::from_slice::<serde::de::IgnoredAny>(written) {
        Ok(_) => parse(written).is_ok(),
        Err(e) => e.is_eof() && (written.starts_with(b"{") || written.is_empty() && !is_first),
    }
}

/// One record: the blob's digest, its offset, and on a tape the volume. A blank line is none.
fn parse(line: &[u8]) -> std::result::Result<Option<(Digest, u64, Option<Volume>)>, String> {
    if line.trim_ascii().is_empty() {
        return Ok(None);
    }
    let descriptor: Descriptor = serde_json::from_slice(line).map_err(|e| format!("it is not a descriptor: {e}"))?;
    let annotations = &descriptor.annotations;
    let offset =
        annotations.get(annotation::OFFSET).ok_or_else(|| format!("it has no annotation {}", annotation::OFFSET))?;
    let offset = offset.parse().map_err(|_| format!("its offset {offset:?} is not a number"))?;
    let volume = match (annotations.get(annotation::VOLUME), annotations.get(annotation::VOLUME_BEGIN)) {
        (Some(number), Some(text)) => {
            let volume = number.parse().ok().and_then(|number| volume_of(number, text));
            let mut volume = volume.ok_or_else(|| format!("volume {number:?} with {text:?} is none"))?;
            let known = annotations.get(annotation::VOLUME_BLOCKS).map_or("", String::as_str);
            volume.known = known_of(known).ok_or_else(|| format!("blocks {known:?} are none"))?;
            if !is_possible(&volume, offset) {
                return Err(format!("volume {number:?} with {text:?} and blocks {known:?} cannot end at {offset}"));
            }
            Some(volume)
        }
        _ => None,
    };
    Ok(Some((descriptor.digest, offset, volume)))
}

/// Where a stream begins on a volume, as [`annotation::VOLUME_BEGIN`] says it.
fn volume_begin(volume: &Volume) -> String {
    let mut text = format!("offset={}", volume.offset);
    for (key, value) in [
        ("file", volume.file),
        ("block", volume.block),
        ("position", volume.position),
        ("size", Some(volume.block_size)),
    ] {
        if let Some(value) = value {
            text.push_str(&format!(",{key}={value}"));
        }
    }
    // What would not be read back is not written.
    if let Some(barcode) = volume.barcode.as_ref().filter(|barcode| !barcode.contains([',', '='])) {
        text.push_str(&format!(",barcode={barcode}"));
    }
    text
}

/// Whether a blob can end at `offset` on a volume.
fn is_possible(volume: &Volume, offset: u64) -> bool {
    let largest = volume.known.iter().map(|known| known.number).max().unwrap_or(0);
    let end = largest.checked_mul(volume.block_size.into()).and_then(|bytes| bytes.checked_add(volume.offset));
    volume.offset <= offset && end.is_some_and(|end| end < u64::MAX / 2)
}

/// Blocks that a volume is known by, as [`annotation::VOLUME_BLOCKS`] says them.
fn known_blocks(known: &[KnownBlock]) -> String {
    let texts: Vec<String> = known.iter().map(|block| format!("{}:{:08x}", block.number, block.crc)).collect();
    texts.join(",")
}

fn known_of(text: &str) -> Option<Vec<KnownBlock>> {
    let blocks = text.split(',').filter(|block| !block.is_empty());
    let known = blocks.map(|block| {
        let (number, crc) = block.split_once(':')?;
        Some(KnownBlock { number: number.parse().ok()?, crc: u32::from_str_radix(crc, 16).ok()? })
    });
    known.collect()
}

fn volume_of(number: usize, text: &str) -> Option<Volume> {
    let mut volume = Volume { number, ..Volume::default() };
    for pair in text.split(',') {
        let (key, value) = pair.split_once('=')?;
        match key {
            "offset" => volume.offset = value.parse().ok()?,
            "file" => volume.file = Some(value.parse().ok()?),
            "block" => volume.block = Some(value.parse().ok()?),
            "position" => volume.position = Some(value.parse().ok()?),
            "size" => volume.block_size = value.parse().ok()?,
            "barcode" => volume.barcode = Some(value.into()),
            _ => {}
        }
    }
    (volume.number > 0 && volume.block_size > 0).then_some(volume)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_read_as_it_was_written() {
        for (file, block) in [(Some(3), Some(17)), (None, None)] {
            let volume = Volume {
                number: 2,
                offset: 1 << 40,
                file,
                block,
                position: block,
                block_size: 512,
                barcode: file.map(|_| "WK4801L8".into()),
                ..Volume::default()
            };
            assert_eq!(volume_of(2, &volume_begin(&volume)), Some(volume));
        }
        let known = vec![KnownBlock::of(0, b"a"), KnownBlock::of(1 << 33, b"")];
        assert_eq!(known_of(&known_blocks(&known)), Some(known));
        assert_eq!((known_of(""), known_of("1")), (Some(Vec::new()), None));
        assert_eq!(volume_of(1, "offset=1"), None);
        assert_eq!(volume_of(1, "offset=x,size=1"), None);
    }
}
