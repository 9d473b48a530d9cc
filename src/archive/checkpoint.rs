//! The checkpoint, or ledger: JSON lines that say which blob the medium holds up to which offset.
//!
//! Each line is a blob's descriptor with the annotation [`annotation::OFFSET`]: the length of the
//! shortest prefix of the archive that holds the blob whole, padding included. A line is written
//! only after the kernel has accepted those bytes; on a tape, when the drive has brought them onto it.
//!
//! Of an archive on tapes a line also says on which of them the blob ends ([`annotation::VOLUME`]) and
//! where the archive begins on that one ([`annotation::VOLUME_BEGIN`]): the offset in the archive, the
//! file of the tape and the block in it, and the bytes of a block.

use std::{
    collections::HashSet,
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, BufWriter, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use crate::{
    archive::write::plan::Plan,
    error::{Context, Error, Result},
    log,
    media::sink::{Volume, Volumes},
    oci::{Descriptor, Digest, annotation, json},
};

/// Writes the ledger of one plan.
pub struct Writer {
    path: PathBuf,
    out: BufWriter<File>,
    /// Records written so far.
    records: usize,
    /// Bytes of what is kept of an earlier run; the rest is cut off by the first record.
    kept: u64,
    begun: bool,
}

/// One line: a blob, and where it ends on the medium.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub digest: Digest,
    pub offset: u64,
    /// On a tape: where the archive begins on that one.
    pub volume: Option<Volume>,
    /// Bytes of the ledger up to the end of the line.
    pub end: u64,
}

impl Writer {
    /// Opens the ledger, creating it if it is not there. What it holds stays until the first
    /// [`Writer::advance`]: as long as nothing is written over, it speaks of an archive that exists.
    pub fn open(path: &Path) -> Result<Writer> {
        Writer::after(path, &[])
    }

    /// Opens the ledger to go on behind these records of its.
    pub fn after(path: &Path, records: &[Record]) -> Result<Writer> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .open(path)
            .doing(|| format!("opening the checkpoint {path:?}"))?;
        let kept = records.last().map_or(0, |record| record.end);
        Ok(Writer { path: path.into(), out: BufWriter::new(file), records: records.len(), kept, begun: false })
    }

    /// Writes the record of every blob that lies whole below `accepted` on the medium. `offset` says
    /// where on the medium that lies which ends at an offset of the plan, if that is known yet;
    /// `volumes` are the tapes, if it is on such.
    pub fn advance(
        &mut self,
        plan: &Plan,
        accepted: u64,
        offset: &dyn Fn(u64) -> Option<u64>,
        volumes: &Volumes,
    ) -> Result<()> {
        let doing = || format!("writing the checkpoint {:?}", self.path);
        if !self.begun {
            let file = self.out.get_mut();
            // Only a regular file has something to cut off.
            if file.metadata().is_ok_and(|m| m.is_file()) {
                file.set_len(self.kept).and_then(|()| file.seek(SeekFrom::End(0))).doing(doing)?;
            }
            self.begun = true;
        }
        let mut wrote = false;
        while let Some(offset) = plan.blob_end(self.records).and_then(offset).filter(|offset| *offset <= accepted) {
            let mut descriptor = plan.descriptor(self.records as u32);
            descriptor.annotations.insert(annotation::OFFSET.into(), offset.to_string());
            if let Some(volume) = volumes.at(offset) {
                descriptor.annotations.insert(annotation::VOLUME.into(), volume.number.to_string());
                descriptor.annotations.insert(annotation::VOLUME_BEGIN.into(), begin(&volume));
            }
            let mut line = json::compact(&descriptor);
            line.push(b'\n');
            self.out.write_all(&line).doing(doing)?;
            self.records += 1;
            wrote = true;
        }
        if wrote {
            self.out.flush().doing(doing)?;
        }
        Ok(())
    }

    /// Brings the ledger to the disk.
    pub fn sync(&mut self) -> Result<()> {
        match self.out.get_ref().sync_data() {
            // Pipes and character devices have nothing to bring to a disk.
            Err(e) if matches!(e.raw_os_error(), Some(nix::libc::EINVAL | nix::libc::EROFS)) => Ok(()),
            other => other.doing(|| format!("writing the checkpoint {:?}", self.path)),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Which blobs the ledger at `path` says are on the medium up to `offset`, that offset included.
///
/// # Errors
/// As [`records`].
pub fn read(path: &Path, offset: u64) -> Result<HashSet<Digest>> {
    let known = records(path)?.into_iter().filter(|record| record.offset <= offset);
    Ok(known.map(|record| record.digest).collect())
}

/// All that a ledger says.
///
/// # Errors
/// If the file cannot be read or a line is no record. Only the last line may be torn, as a run
/// that was killed leaves it: it is left out, with a warning.
pub fn records(path: &Path) -> Result<Vec<Record>> {
    let reading = |line: usize| format!("reading the checkpoint {path:?}, line {line}");
    let file = File::open(path).doing(|| format!("opening the checkpoint {path:?}"))?;
    let mut lines = BufReader::new(file);
    let (mut all, mut line, mut number, mut end) = (Vec::new(), Vec::new(), 0, 0);
    loop {
        line.clear();
        number += 1;
        let length = lines.read_until(b'\n', &mut line).doing(|| reading(number))?;
        if length == 0 {
            return Ok(all);
        }
        end += length as u64;
        let torn = line.last() != Some(&b'\n');
        match parse(&line) {
            Ok(None) => {}
            Ok(Some(_)) | Err(_) if torn => {
                log::warn(format_args!("{}: it is cut short and was left out", reading(number)));
            }
            Ok(Some((digest, offset, volume))) => all.push(Record { digest, offset, volume, end }),
            Err(why) => return Err(Error::new(why).doing(reading(number))),
        }
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
            let volume = number.parse().ok().and_then(|number| begun(number, text));
            Some(volume.ok_or_else(|| format!("volume {number:?} with {text:?} is none"))?)
        }
        _ => None,
    };
    Ok(Some((descriptor.digest, offset, volume)))
}

/// Where a stream begins on a volume, as [`annotation::VOLUME_BEGIN`] says it.
fn begin(volume: &Volume) -> String {
    let mut text = format!("offset={}", volume.offset);
    for (key, value) in
        [("file", volume.file), ("block", volume.block), ("position", volume.position), ("size", Some(volume.size))]
    {
        if let Some(value) = value {
            text.push_str(&format!(",{key}={value}"));
        }
    }
    text
}

fn begun(number: usize, text: &str) -> Option<Volume> {
    let mut volume = Volume { number, offset: 0, file: None, block: None, position: None, size: 0, blocks: 0 };
    for pair in text.split(',') {
        let (key, value) = pair.split_once('=')?;
        match key {
            "offset" => volume.offset = value.parse().ok()?,
            "file" => volume.file = Some(value.parse().ok()?),
            "block" => volume.block = Some(value.parse().ok()?),
            "position" => volume.position = Some(value.parse().ok()?),
            "size" => volume.size = value.parse().ok()?,
            _ => {}
        }
    }
    (volume.number > 0 && volume.size > 0).then_some(volume)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_read_as_it_was_written() {
        for (file, block) in [(Some(3), Some(17)), (None, None)] {
            let volume = Volume { number: 2, offset: 1 << 40, file, block, position: block, size: 512, blocks: 0 };
            assert_eq!(begun(2, &begin(&volume)), Some(volume));
        }
        assert_eq!(begun(1, "offset=1"), None);
        assert_eq!(begun(1, "offset=x,size=1"), None);
    }
}
