//! `mirror batch-serialize`: an archive of each artifact of a list that was not sent yet.
//!
//! A tracker file records what was. An archive is written under another name, renamed when it is
//! whole and on the disk, and recorded then: whatever ends the run, the tracker is right.

use std::{fs, path::Path};

use nix::fcntl::OFlag;

use super::{
    path_conflicts,
    report::ReportFile,
    retry_hint,
    setup::{self, NamedRoot, Setup, is_dash},
};
use crate::{
    archive::write::{
        existing::ExistingContent,
        plan::Plan,
        session::{WriteOptions, WriteSession},
    },
    cli::{options::BatchOptions, output, progress::Progress},
    compression::Format,
    error::{Context, Error, ErrorKind, Result},
    fd,
    gather::collect::{SourceOutcome, SourceRecord},
    log,
    oci::Digest,
    owned_file::OwnedFile,
    store::Locator,
    util::{atomic_file, csv},
};

const LIST_HEADER: [&str; 2] = ["name", "artifact"];
const TRACKER_HEADER: [&str; 3] = ["sync_name", "artifact", "digest"];

/// One line of the list.
#[derive(Debug, PartialEq, Eq)]
struct BatchEntry {
    name: String,
    artifact: String,
}

/// One line of the tracker.
#[derive(Debug, PartialEq, Eq)]
struct SentArchive {
    /// `NNNNNN-name.tar`, with the ending of its compression.
    file: String,
    artifact: String,
    digest: Digest,
}

impl SentArchive {
    /// The name of its series.
    fn name(&self) -> &str {
        let name = self.file.split_once('-').map_or("", |(_, name)| name);
        name.rsplit_once(".tar").map_or(name, |(name, _)| name)
    }

    fn number(&self) -> Option<u64> {
        self.file.split_once('-')?.0.parse().ok()
    }
}

/// # Errors
/// With what fails; what was archived before is recorded.
pub fn run(options: &BatchOptions) -> Result<()> {
    let (directory, entries) = (&options.directory, read_list(&options.list)?);
    let tracker = directory.join(&options.tracker);
    let written: Vec<_> = options.report.iter().map(|path| ("--report", path.as_path())).collect();
    path_conflicts::check(&[("BATCH-LIST", &options.list), ("the tracker", &tracker)], &written)?;
    let report = options.report.as_deref().map(ReportFile::open).transpose()?;
    let _alone = if options.dry_run { None } else { Some(own(directory)?) };
    let mut sent = read_tracker(&tracker)?;
    let setup = Setup::new(&options.connection)?;
    let progress = Progress::new(&options.progress)?;
    let batch = Batch { options, setup: &setup, progress: &progress };
    let mut records: Vec<SourceRecord> = entries.iter().map(not_reached).collect();
    let outcome = batch.all(&entries, &tracker, &mut sent, &mut records);
    match report {
        Some(report) => report.write(&records, outcome, "the batch is done"),
        None => outcome,
    }
}

/// Makes the directory if it is not there, and keeps other runs out.
fn own(directory: &Path) -> Result<OwnedFile> {
    fs::create_dir_all(directory).doing(|| format!("creating the directory {directory:?}"))?;
    let alone = fd::open(directory, OFlag::O_RDONLY | OFlag::O_DIRECTORY).and_then(OwnedFile::of);
    alone.doing(|| format!("opening the directory {directory:?}"))
}

/// What is told of an artifact that the run does not come to.
fn not_reached(entry: &BatchEntry) -> SourceRecord {
    let (source, outcome) = (entry.artifact.clone(), SourceOutcome::Incomplete);
    SourceRecord { source, outcome, file: None, digest: None, bytes: 0, error: None }
}

/// What all archives of a run have in common.
struct Batch<'a> {
    options: &'a BatchOptions,
    setup: &'a Setup,
    progress: &'a Progress,
}

impl Batch<'_> {
    /// Archives what was not sent, and records each in the tracker; notes what became of it.
    fn all(
        &self,
        entries: &[BatchEntry],
        tracker: &Path,
        sent: &mut Vec<SentArchive>,
        records: &mut [SourceRecord],
    ) -> Result<()> {
        let mut failed: Vec<&str> = Vec::new();
        for (entry, record) in entries.iter().zip(&mut *records) {
            match self.archive(entry, sent, record) {
                Ok(None) => {}
                Ok(Some(archive)) => {
                    sent.push(archive);
                    if !self.options.dry_run {
                        write_tracker(tracker, sent)?;
                    }
                }
                Err(e) => {
                    (record.outcome, record.error) = (SourceOutcome::Failed, Some(e.to_string()));
                    if !self.options.keep_going || e.is_signal() {
                        return Err(e);
                    }
                    log::error(&e);
                    failed.push(&entry.artifact);
                }
            }
        }
        if records.iter().all(|record| record.outcome == SourceOutcome::Present) {
            self.progress.say(&format!("nothing is new: all {} artifacts were sent already", records.len()));
        }
        match failed[..] {
            [] => Ok(()),
            _ => {
                let (n, of) = (failed.len(), entries.len());
                Err(Error::new(format!("{n} of {of} artifacts were left out: {}", failed.join(", "))))
            }
        }
    }

    /// Archives an artifact, unless it was `sent` as it is now.
    fn archive(
        &self,
        BatchEntry { name, artifact }: &BatchEntry,
        sent: &[SentArchive],
        record: &mut SourceRecord,
    ) -> Result<Option<SentArchive>> {
        let Setup { store, threads, level } = self.setup;
        let (store, recursive) = (&**store, self.options.recursive);
        let image: Locator = artifact.parse().map_err(|why: String| Error::usage(why).doing("IMAGE"))?;
        let (graph, root) = setup::fetch(store, &image, recursive, *threads, self.progress)?;
        record.digest = Some(root.digest.clone());
        record.bytes = graph.reachable(&[&root], false)?.size();
        let earlier: Vec<&SentArchive> = sent.iter().filter(|sent| sent.name() == name).collect();
        let is_same = |sent: &&&SentArchive| sent.artifact == *artifact && sent.digest == root.digest;
        if let Some(same) = earlier.iter().find(is_same) {
            log::info(format_args!("{name}: {artifact} was sent already"));
            (record.outcome, record.file) = (SourceOutcome::Present, Some(same.file.clone()));
            return Ok(None);
        }
        let mut existing = ExistingContent::default();
        let images = earlier.iter().map(|sent| pinned(sent)).collect::<Result<Vec<_>>>()?;
        let added = existing.add_images(&images, recursive, store, *threads);
        added.doing(|| format!("what was sent as {name}"))?;
        let number = sent.iter().filter_map(SentArchive::number).max().unwrap_or(0) + 1;
        let ending = match self.options.output.format() {
            None => "",
            Some(Format::Zstd) => ".zst",
            Some(Format::Gzip) => ".gz",
        };
        let file = format!("{number:06}-{name}.tar{ending}");
        record.file = Some(file.clone());
        let named = NamedRoot { root: &root, name: artifact, version: &output::version() };
        let plan = setup::plan(&graph, named, &existing, recursive, self.options.manifest_json);
        let plan = plan.doing(|| format!("planning the archive of {artifact}"))?;
        if self.options.dry_run {
            self.progress.clear();
            record.outcome = SourceOutcome::Planned;
            output::print(&format!("{file} {:>14} {artifact}\n", plan.total()))?;
        } else {
            let write = self.options.output.at_level(*level);
            let unfinished = self.options.directory.join(format!(".{file}.unfinished"));
            self.write(&plan, WriteOptions { dest: unfinished, ..write }, &file)
                .doing(|| format!("archiving {artifact}"))?;
            store.keep(&graph, &[(Some(artifact), &root)], recursive);
            record.outcome = SourceOutcome::Archived;
        }
        Ok(Some(SentArchive { file, artifact: artifact.clone(), digest: root.digest }))
    }

    /// Writes an archive under an unfinished name, and gives it its own when it is whole.
    fn write(&self, plan: &Plan, write: WriteOptions, file: &str) -> Result<()> {
        let Setup { store, threads, .. } = self.setup;
        let unfinished = write.dest.clone();
        // What a run that died has left is of no use.
        let _ = fs::remove_file(&unfinished);
        let session = WriteSession { options: &write, plan, store: &**store, threads: *threads, begins: &|| Ok(()) };
        // Nothing of it goes on: it is begun anew by the next run.
        let written = write.open().and_then(|dest| retry_hint::write(&session, dest, self.progress, None).outcome);
        written.inspect_err(|_| {
            let _ = fs::remove_file(&unfinished);
        })?;
        let whole = self.options.directory.join(file);
        fs::rename(&unfinished, &whole).doing(|| format!("naming {whole:?}"))
    }
}

/// An artifact by the digest under which it was sent: its tag may have moved.
fn pinned(sent: &SentArchive) -> Result<Locator> {
    let pinned = match sent.artifact.parse::<Locator>().map_err(Error::new)? {
        Locator::Registry(reference) => format!("{}@{}", reference.repository, sent.digest),
        Locator::Layout(dir, _) => format!("oci:{}:{}", dir.display(), sent.digest),
        Locator::Archive(file, _) => format!("oci-archive:{}:{}", file.display(), sent.digest),
    };
    pinned.parse().map_err(|why: String| Error::usage(why).doing("existing image"))
}

fn read_list(path: &Path) -> Result<Vec<BatchEntry>> {
    let mut wanted = Vec::new();
    for (line, fields) in records(path, &LIST_HEADER).map_err(|e| e.of(ErrorKind::Usage))? {
        let [name, artifact] = fields.try_into().expect("as many as the header has");
        let wrong = |why: String| Error::usage(why).doing(format!("reading {path:?}, line {line}"));
        if name.is_empty() || name.contains(['/', '\\']) || name.starts_with('.') || name.chars().any(char::is_control)
        {
            return Err(wrong(format!("{name:?} is no name for a file")));
        }
        artifact.parse::<Locator>().map_err(wrong)?;
        wanted.push(BatchEntry { name, artifact });
    }
    match wanted.is_empty() {
        true => Err(Error::usage("it lists no artifacts").doing(format!("reading {path:?}"))),
        false => Ok(wanted),
    }
}

fn read_tracker(path: &Path) -> Result<Vec<SentArchive>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let mut sent = Vec::new();
    for (line, fields) in records(path, &TRACKER_HEADER)? {
        let [file, artifact, digest] = fields.try_into().expect("as many as the header has");
        let digest =
            digest.parse().map_err(|why: String| Error::new(why).doing(format!("reading {path:?}, line {line}")))?;
        sent.push(SentArchive { file, artifact, digest });
    }
    Ok(sent)
}

/// The lines of a CSV file with this header, with their numbers.
fn records(path: &Path, header: &[&str]) -> Result<Vec<(usize, Vec<String>)>> {
    let doing = |line: usize| format!("reading {path:?}, line {line}");
    let text = match is_dash(path) {
        true => fd::stdin().and_then(fd::read_to_end).doing(|| "reading the list from standard input")?,
        false => fd::read_file(path).doing(|| format!("reading {path:?}"))?,
    };
    let text = String::from_utf8(text).map_err(|_| Error::new("it is not UTF-8").doing(format!("reading {path:?}")))?;
    let mut all = Vec::new();
    let mut seen = false;
    for (n, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let fields = csv::fields(line).map_err(|why| Error::new(why).doing(doing(n + 1)))?;
        if !seen {
            seen = true;
            if fields != *header {
                return Err(Error::new(format!("the header is not {}", header.join(","))).doing(doing(n + 1)));
            }
        } else if fields.len() != header.len() {
            let why = format!("it has {} fields instead of {}", fields.len(), header.len());
            return Err(Error::new(why).doing(doing(n + 1)));
        } else {
            all.push((n + 1, fields));
        }
    }
    Ok(all)
}

/// Replaces the tracker as a whole.
fn write_tracker(path: &Path, sent: &[SentArchive]) -> Result<()> {
    let mut text = csv::line(&TRACKER_HEADER);
    for SentArchive { file, artifact, digest } in sent {
        text.push_str(&csv::line(&[file, artifact, &digest.to_string()]));
    }
    atomic_file::replace(path, text.as_bytes(), false).doing(|| format!("writing the tracker {path:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_dashes_and_dots() {
        let sent = |file: &str| SentArchive { file: file.into(), artifact: String::new(), digest: Digest::of(b"") };
        assert_eq!(sent("000012-a-b.c.tar").name(), "a-b.c");
        assert_eq!(sent("000012-x.tar.tar.zst").name(), "x.tar");
        assert_eq!(sent("000012-x.tar.gz").number(), Some(12));
        assert_eq!(sent("odd").number(), None);
    }
}
