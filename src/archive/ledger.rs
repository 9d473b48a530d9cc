//! The checkpoint, or ledger: JSON lines that say which blob the medium holds up to which offset.
//!
//! Each line is a blob's descriptor with the annotation [`annotation::OFFSET`]: the length of the
//! shortest prefix of the archive that holds the blob whole, padding included. A line is written
//! only after the kernel has accepted those bytes.

use std::{
    collections::HashSet,
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use crate::{
    error::{Context, Error, Result},
    log,
    oci::{Descriptor, Digest, annotation, json},
    plan::Plan,
};

/// Writes the ledger of one plan.
pub struct Writer {
    path: PathBuf,
    out: BufWriter<File>,
    /// Records written so far.
    records: usize,
    /// What an earlier run wrote has been cut off.
    begun: bool,
}

impl Writer {
    /// Opens the ledger, creating it if it is not there. What it holds stays until the first
    /// [`Writer::advance`]: as long as nothing is written over, it speaks of an archive that exists.
    pub fn open(path: &Path) -> Result<Writer> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .open(path)
            .doing(|| format!("opening the checkpoint {path:?}"))?;
        Ok(Writer { path: path.into(), out: BufWriter::new(file), records: 0, begun: false })
    }

    /// Writes the record of every blob that lies whole below `accepted`.
    pub fn advance(&mut self, plan: &Plan, accepted: u64) -> Result<()> {
        if !self.begun {
            let file = self.out.get_ref();
            // Only a regular file has something to cut off.
            if file.metadata().is_ok_and(|m| m.is_file()) {
                file.set_len(0).doing(|| format!("emptying the checkpoint {:?}", self.path))?;
            }
            self.begun = true;
        }
        let mut wrote = false;
        while let Some((mut descriptor, offset)) = plan.record(self.records).filter(|(_, offset)| *offset <= accepted) {
            descriptor.annotations.insert(annotation::OFFSET.into(), offset.to_string());
            let mut line = json::compact(&descriptor);
            line.push(b'\n');
            self.out.write_all(&line).doing(|| format!("writing the checkpoint {:?}", self.path))?;
            self.records += 1;
            wrote = true;
        }
        if wrote {
            self.out.flush().doing(|| format!("writing the checkpoint {:?}", self.path))?;
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
/// If the file cannot be read or a line is no record. Only the last line may be torn, as a run
/// that was killed leaves it: it is left out, with a warning.
pub fn read(path: &Path, offset: u64) -> Result<HashSet<Digest>> {
    let reading = |line: usize| format!("reading the checkpoint {path:?}, line {line}");
    let file = File::open(path).doing(|| format!("opening the checkpoint {path:?}"))?;
    let mut lines = BufReader::new(file);
    let (mut digests, mut line, mut number) = (HashSet::new(), Vec::new(), 0);
    loop {
        line.clear();
        number += 1;
        if lines.read_until(b'\n', &mut line).doing(|| reading(number))? == 0 {
            return Ok(digests);
        }
        let torn = line.last() != Some(&b'\n');
        match parse(&line) {
            Ok(None) => {}
            Ok(Some((digest, at))) if at <= offset => {
                digests.insert(digest);
            }
            Ok(Some(_)) => {}
            Err(_) if torn => log::warn(format_args!("{}: it is cut short and was left out", reading(number))),
            Err(why) => return Err(Error::new(why).doing(reading(number))),
        }
    }
}

/// One record: the blob's digest and its offset. A blank line is none.
fn parse(line: &[u8]) -> std::result::Result<Option<(Digest, u64)>, String> {
    if line.trim_ascii().is_empty() {
        return Ok(None);
    }
    let descriptor: Descriptor = serde_json::from_slice(line).map_err(|e| format!("it is not a descriptor: {e}"))?;
    let offset = descriptor
        .annotations
        .get(annotation::OFFSET)
        .ok_or_else(|| format!("it has no annotation {}", annotation::OFFSET))?;
    let offset = offset.parse().map_err(|_| format!("its offset {offset:?} is not a number"))?;
    Ok(Some((descriptor.digest, offset)))
}
