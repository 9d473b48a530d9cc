//! What is told at the end: `--report`, which says in JSON what became of each source, and how the
//! device was kept busy.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::IgnoredAny};

use crate::{
    error::{Context, Error, Result},
    fd,
    gather::collect::{SourceOutcome, SourceRecord},
    log,
    media::{
        file_sink::MediumKind,
        sink::{Volume, Volumes},
        tape::scsi::change::DriveChange,
    },
    oci::{Digest, json},
    owned_file::OwnedFile,
    shards::plan_file::SharedPlan,
    stream::pipeline::{Geometry, Snapshot},
    util::{
        atomic_file,
        units::{counted, grouped},
    },
};

/// A file that is to be written at the end of a run: it is open, and nobody else's.
pub struct ResultFile {
    path: PathBuf,
    file: OwnedFile,
}

impl ResultFile {
    /// Finds out whether a file can be written there, before it costs anything. What `is_one` does not take for an earlier
    /// one is not written over; `what` names it.
    ///
    /// # Errors
    /// If it cannot, somebody else writes it, or something else is there.
    pub fn open(path: &Path, what: &str, is_one: fn(&[u8]) -> bool) -> Result<ResultFile> {
        let opening = || format!("opening {what} {path:?}");
        let file = OwnedFile::open(path).doing(opening)?;
        let meta = file.metadata().doing(opening)?;
        if meta.is_file() && meta.len() > 0 && !is_one(&fd::read_file(path).doing(opening)?) {
            let name = what.trim_start_matches("the ");
            return Err(Error::new(format!("what it holds is no {name}, and is not written over")).doing(opening()));
        }
        Ok(ResultFile { path: path.into(), file })
    }

    /// Cuts what an earlier run has left.
    ///
    /// # Errors
    /// If it cannot be cut.
    pub fn begin(&mut self, what: &str) -> Result<()> {
        self.file.keep();
        let cut = match self.file.metadata() {
            Ok(meta) if meta.is_file() => self.file.set_len(0).map_err(Error::from_io),
            _ => Ok(()),
        };
        cut.doing(|| format!("writing {what} {:?}", self.path))
    }

    /// Writes it.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(mut self, what: &str, text: &[u8]) -> Result<()> {
        self.begin(what)?;
        fd::write_all(&*self.file, text).doing(|| format!("writing {what} {:?}", self.path))
    }
}

/// A report that is to be written at the end of a run.
pub struct ReportFile(ResultFile);

impl ReportFile {
    /// As [`ResultFile::open`].
    ///
    /// # Errors
    /// As that.
    pub fn open(path: &Path) -> Result<ReportFile> {
        ResultFile::open(path, "the report", is_report).map(ReportFile)
    }

    /// What an earlier run has told counts no more: a run that is killed leaves an empty file.
    ///
    /// # Errors
    /// If it cannot be cut.
    pub fn begin(&mut self) -> Result<()> {
        self.0.begin("the report")
    }

    /// Writes the report: an array, a source an object, in the order of the archive. `outcome` is how the run ended, and
    /// `done` what is there if it ended well.
    ///
    /// # Errors
    /// That of the run, or else if the report cannot be written.
    pub fn write(self, records: &[impl Serialize], outcome: Result<()>, done: &str) -> Result<()> {
        let mut text = json::pretty(records);
        text.push(b'\n');
        let written = self.0.write("the report", &text);
        outcome.and(written.map_err(|e| e.after(format_args!("{done} all the same"))))
    }
}

/// What a drive told of a volume.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceRecord {
    device: String,
    /// From 1 on.
    volume: usize,
    #[serde(flatten)]
    change: DriveChange,
}

/// One object of a report on what was written.
#[derive(Serialize)]
#[serde(untagged)]
pub enum WrittenRecord<'a, R> {
    /// What became of something.
    Other(&'a R),
    /// What the drive told.
    Device(DeviceRecord),
}

/// The records of a run, and one for each volume of which the drive named `device` has told.
pub fn with_devices<'a, R>(records: &'a [R], device: &Path, volumes: &Volumes) -> Vec<WrittenRecord<'a, R>> {
    let of_volume = |Volume { number, change, .. }: Volume| {
        let device = device.display().to_string();
        change.map(|change| WrittenRecord::Device(DeviceRecord { device, volume: number, change }))
    };
    let devices = volumes.all().into_iter().filter_map(of_volume);
    records.iter().map(WrittenRecord::Other).chain(devices).collect()
}

/// Whether a file holds what a run has reported.
pub fn is_report(bytes: &[u8]) -> bool {
    // A run that was killed has left the beginning of one.
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(64)]);
    let first = text.strip_prefix("[\n  {\n    \"").and_then(|rest| rest.split('"').next());
    if first.is_some_and(|first| ["source", "blob", "shard"].contains(&first)) {
        return true;
    }
    let records: std::result::Result<Vec<HashMap<String, IgnoredAny>>, _> = serde_json::from_slice(bytes);
    let is_one = |record: &HashMap<String, IgnoredAny>| {
        ["source", "blob", "shard", "device"].iter().any(|key| record.contains_key(*key))
    };
    records.is_ok_and(|records| records.iter().all(is_one))
}

/// A file that is to be replaced as a whole at the end of a run.
pub struct ReplacedFile {
    path: PathBuf,
    what: &'static str,
}

impl ReplacedFile {
    /// Finds out whether it can be replaced, before it costs anything. What `is_one` does not take for an earlier one is not
    /// written over; `what` names it.
    ///
    /// # Errors
    /// If it cannot, or something else is there.
    pub fn open(path: &Path, what: &'static str, is_one: fn(&[u8]) -> bool) -> Result<ReplacedFile> {
        let opening = || format!("opening {what} {path:?}");
        // What a link leads to is replaced, and not the link.
        let real = path.canonicalize();
        let path = real.as_deref().unwrap_or(path);
        if let Ok(meta) = std::fs::metadata(path) {
            let is_another = || Ok(meta.len() > 0 && !is_one(&fd::read_file(path).doing(opening)?));
            if !meta.is_file() || is_another()? {
                let name = what.trim_start_matches("the ");
                return Err(Error::new(format!("what is there is no {name}, and is not written over")).doing(opening()));
            }
        }
        let (beside, _) = atomic_file::create_beside(path, 0o600).doing(opening)?;
        std::fs::remove_file(beside).doing(opening)?;
        Ok(ReplacedFile { path: path.into(), what })
    }

    /// Replaces it.
    ///
    /// # Errors
    /// If it cannot be written; then it is as it was.
    pub fn write(self, bytes: &[u8]) -> Result<()> {
        atomic_file::replace(&self.path, bytes, false).doing(|| format!("writing {} {:?}", self.what, self.path))
    }
}

/// What became of a shard of a plan. Sizes in bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ShardReport {
    /// From 1 on.
    pub shard: u32,
    /// How many there are.
    pub shards: u32,
    /// The digest of the plan's file.
    pub plan: Digest,
    /// The digest of its gather index.
    pub root: Option<Digest>,
    /// Of the archive, manifests included.
    pub blobs: usize,
    /// Of the archive, uncompressed.
    pub size: u64,
    /// How many sources are in it: so many objects follow.
    pub sources: usize,
    /// How far it came.
    pub outcome: SourceOutcome,
}

impl ShardReport {
    /// Of a shard, counted from 1, of which nothing is made yet.
    pub fn new(shared: &SharedPlan, shard: u32) -> ShardReport {
        let figures = &shared.plan.shards[shard as usize - 1];
        ShardReport {
            shard,
            shards: shared.count(),
            plan: shared.digest.clone(),
            root: figures.root.clone(),
            blobs: figures.blobs,
            size: figures.size,
            sources: figures.images,
            outcome: SourceOutcome::Incomplete,
        }
    }
}

/// One object of a shard's report.
#[derive(Serialize)]
#[serde(untagged)]
pub enum ShardRecord<'a> {
    /// The shard.
    Shard(ShardReport),
    /// One of its sources.
    Source {
        /// From 1 on.
        #[serde(rename = "ofShard")]
        of_shard: u32,
        /// What became of it.
        #[serde(flatten)]
        record: &'a SourceRecord,
    },
}

/// The report of a shard.
pub fn of_shard(shard: ShardReport, records: &[SourceRecord]) -> Vec<ShardRecord<'_>> {
    let number = shard.shard;
    let sources = records.iter().map(move |record| ShardRecord::Source { of_shard: number, record });
    [ShardRecord::Shard(shard)].into_iter().chain(sources).collect()
}

/// How the device was kept busy, and where a stream lies on tapes.
pub fn streaming(last: &Snapshot, volumes: &Volumes) -> String {
    format!("{}{}", last.stats.in_words(), on_tape(None, volumes))
}

/// Where a stream lies on the tapes of a drive, if it is one; `drive` is its name where there are several.
pub fn on_tape(drive: Option<&str>, volumes: &Volumes) -> String {
    let mut text = String::new();
    let drive = drive.map_or(String::new(), |drive| format!(" in {drive}"));
    let all = volumes.all();
    for Volume { number, file, block, position, blocks, barcode, change, .. } in &all {
        let volume = if all.len() > 1 { format!("volume {number}, ") } else { String::new() };
        // The driver counts blocks in a file, the drive from the beginning of the tape.
        let (from, within) = match (file, block) {
            (Some(file), Some(block)) => (Some(*block), format!(", file {}", grouped((*file).into()))),
            _ => (*position, " of the tape".into()),
        };
        text.push_str(&match from.map(u64::from) {
            Some(from) => {
                let (from, to) = (grouped(from), grouped(from + blocks));
                format!("; on the tape{drive} {volume}block {from} to block {to}{within}")
            }
            None => format!("; on the tape{drive} {volume}{}", counted(*blocks, "block")),
        });
        text.push_str(&barcode.as_ref().map_or(String::new(), |barcode| format!(", cartridge {barcode}")));
        let told = change.as_ref().and_then(DriveChange::in_words);
        text.push_str(&told.map_or(String::new(), |told| format!("; {told}")));
    }
    text
}

/// Warns of a drive that had to stop too often, with what to try.
pub fn advise(last: &Snapshot, geometry: Geometry, kind: MediumKind) {
    let mark = if geometry.mark > 1 { geometry.mark * geometry.block as u64 } else { 0 };
    if let Some(advice) = last.stats.advice(last.capacity, mark).filter(|_| kind == MediumKind::Tape) {
        log::warn(advice);
    }
}
