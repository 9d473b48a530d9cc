//! `mirror verify`: whether archives are whole, without a registry.

use std::{
    cmp,
    collections::HashSet,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use super::path_conflicts;
use crate::{
    archive::{
        checkpoint::{self, CheckpointRecord},
        read::{
            catalog::Catalog,
            events::ArchiveEnd,
            finding::{Finding, FindingKind},
            images::ImageWalk,
            open::{FrameEnds, look, scan_stream},
            scan::Scanner,
        },
    },
    cli::{options::VerifyOptions, output::print, progress::Progress},
    error::{Context, Error, Result, one_line},
    fd, log,
    media::{
        files::Files,
        input::Input,
        stream_input::{InputOptions, StreamInput},
    },
    oci::Digest,
    util::units::grouped,
};

/// So many lines of findings are printed of an archive.
const TOLD_MAX: usize = 10_000;
const TICK: Duration = Duration::from_millis(100);

/// # Errors
/// If something cannot be read, or is wrong.
pub fn run(options: &VerifyOptions) -> Result<()> {
    let paths = &options.archives;
    let mut read: Vec<_> = paths.iter().map(|path| ("TAR-FILE", path.as_path())).collect();
    read.extend(options.checkpoint.iter().map(|path| ("--checkpoint", path.as_path())));
    read.extend(options.existing.iter().map(|path| ("--existing", path.as_path())));
    path_conflicts::check(&read, &[path_conflicts::stdout()])?;
    let records = options.checkpoint.as_deref().map(checkpoint::records).transpose()?;
    let mut elsewhere = HashSet::new();
    for path in &options.existing {
        elsewhere.extend(digests_in(path, &options.input)?);
    }
    let input = Input::open(paths, options.input.clone())?;
    let progress = Progress::new(&options.progress)?;
    let name = paths.iter().map(|path| format!("{path:?}")).collect::<Vec<_>>().join(", ");
    let paths = paths.clone();
    let mut verifier = ArchiveVerifier { name, paths, elsewhere, records, flaws: 0, told: 0, printed: Ok(()) };
    let read = AtomicU64::new(0);
    let total = match &input {
        Input::Files(files) => Some(files.total()),
        Input::Stream(_) => None,
    };
    let outcome = thread::scope(|scope| {
        let (watched, begun, (done, over)) = (&read, Instant::now(), mpsc::channel::<()>());
        let progress = &progress;
        scope.spawn(move || {
            while let Err(RecvTimeoutError::Timeout) = over.recv_timeout(TICK) {
                progress.reading(watched.load(Ordering::Relaxed), total, begun.elapsed());
            }
        });
        let outcome = verifier.all(input, &read);
        drop(done);
        outcome
    });
    progress.clear();
    outcome?;
    verifier.printed?;
    match verifier.flaws {
        0 => Ok(()),
        1 => Err(Error::new("one thing is wrong")),
        n => Err(Error::new(format!("{} things are wrong", grouped(n)))),
    }
    .doing(|| format!("verifying {}", verifier.name))
}

struct ArchiveVerifier {
    name: String,
    paths: Vec<PathBuf>,
    elsewhere: HashSet<Digest>,
    /// Of the first archive.
    records: Option<Vec<CheckpointRecord>>,
    flaws: u64,
    /// Findings told of the archive in hand.
    told: usize,
    /// Whether they could be printed.
    printed: Result<()>,
}

/// One archive that was read.
struct ReadArchive {
    catalog: Catalog,
    ended: ArchiveEnd,
    /// Where frames end, if it is compressed.
    frames: Option<FrameEnds>,
    /// What it is called where there are several.
    heading: String,
    /// Findings told of it while it was read.
    told: usize,
}

impl ArchiveVerifier {
    /// Reads all archives, and then concludes: what one leaves out may be in another.
    fn all(&mut self, input: Input, read: &AtomicU64) -> Result<()> {
        let archives = match input {
            Input::Files(files) => self.files(&files, read)?,
            Input::Stream(mut stream) => self.stream(&mut stream, read)?,
        };
        let held = |archive: &ReadArchive| -> HashSet<Digest> {
            let sound = archive.catalog.blobs().iter().filter(|(_, held)| held.sound);
            sound.map(|(digest, _)| digest.clone()).collect()
        };
        let held: Vec<HashSet<Digest>> =
            if archives.len() > 1 { archives.iter().map(held).collect() } else { Vec::new() };
        for (n, archive) in archives.iter().enumerate() {
            let others: Vec<&HashSet<Digest>> =
                held.iter().enumerate().filter(|(other, _)| *other != n).map(|(_, held)| held).collect();
            self.conclude(archive, &others, archives.len() > 1);
        }
        Ok(())
    }

    fn files(&mut self, files: &Arc<Files>, read: &AtomicU64) -> Result<Vec<ReadArchive>> {
        let (mut archives, mut start) = (Vec::new(), 0);
        while start < files.total() || archives.is_empty() {
            let file = files.volume_at(start);
            let heading = match file {
                0 => format!("archive {}", archives.len() + 1),
                file => format!("{:?}", self.paths[file - 1]),
            };
            self.begin(&heading, &archives, self.paths.len() > 1);
            let mut catalog = Catalog::default();
            let mut tell = |finding| self.tell(finding);
            let mut scanner = Scanner { deep: true, tell: &mut tell, read };
            let (ended, next) = scanner.files(files, start, &mut catalog)?;
            let told = std::mem::take(&mut self.told);
            archives.push(ReadArchive { catalog, ended, frames: None, heading, told });
            start = if ended.end.is_some() { next } else { files.total() };
        }
        Ok(archives)
    }

    fn stream(&mut self, stream: &mut StreamInput, read: &AtomicU64) -> Result<Vec<ReadArchive>> {
        let mut archives = Vec::new();
        loop {
            let heading = format!("archive {}", archives.len() + 1);
            self.begin(&heading, &archives, false);
            let (mut catalog, mut frames) = (Catalog::default(), FrameEnds::new());
            let mut tell = |finding| self.tell(finding);
            let scanner = Scanner { deep: true, tell: &mut tell, read };
            let (ended, format) = scan_stream(scanner, stream, &mut catalog, &mut frames)?;
            let (frames, told) = (format.map(|_| frames), std::mem::take(&mut self.told));
            archives.push(ReadArchive { catalog, ended, frames, heading, told });
            if ended.end.is_none() || !stream.next_file().map_err(Error::from_io)? {
                return Ok(archives);
            }
        }
    }

    /// What is found from now on is of this archive.
    fn begin(&mut self, heading: &str, before: &[ReadArchive], has_heading: bool) {
        if has_heading || !before.is_empty() {
            self.line("reading", heading);
        }
    }

    fn tell(&mut self, Finding { kind, text }: Finding) {
        if kind == FindingKind::Note {
            return self.line("note", &text);
        }
        self.flaws += 1;
        self.told += 1;
        let word = match kind {
            FindingKind::Note => "note",
            FindingKind::Damaged => "damaged",
            FindingKind::Missing => "missing",
            FindingKind::Wrong | FindingKind::Incomplete => "wrong",
        };
        match self.told.cmp(&TOLD_MAX) {
            cmp::Ordering::Less => self.line(word, &text),
            cmp::Ordering::Equal => self.line(word, "and more, which is only counted"),
            cmp::Ordering::Greater => {}
        }
    }

    fn line(&mut self, word: &str, text: &str) {
        if self.printed.is_ok() {
            self.printed = print(&format!("{word:<8} {}\n", one_line(text)));
        }
    }

    /// What can be said when all was read: of one archive, and what the `others` hold.
    fn conclude(&mut self, archive: &ReadArchive, others: &[&HashSet<Digest>], has_heading: bool) {
        let ReadArchive { catalog, ended, frames, heading, told } = archive;
        self.told = *told;
        if has_heading {
            self.line("in", heading);
        }
        let mut bad: HashSet<Digest> =
            catalog.blobs().iter().filter(|(_, held)| !held.sound).map(|(digest, _)| digest.clone()).collect();
        let (mut flaws, mut lists) = (Vec::new(), Vec::new());
        let (mut in_others, mut unread) = (0_u64, 0_u64);
        let in_set = |digest: &Digest| others.iter().any(|held| held.contains(digest));
        let elsewhere = |digest: &Digest| in_set(digest) || self.elsewhere.contains(digest);
        let reached = catalog.check(&elsewhere, &mut |flaw| flaws.push(flaw));
        for digest in reached.iter().filter(|digest| !catalog.blobs().contains_key(digest)) {
            match in_set(digest) {
                true => in_others += 1,
                false => unread += u64::from(self.elsewhere.contains(digest)),
            }
        }
        catalog.check_lists(&elsewhere, &mut |text| lists.push(text));
        for flaw in flaws {
            bad.insert(flaw.digest);
            self.tell(if flaw.missing { Finding::missing(flaw.text) } else { Finding::wrong(flaw.text) });
        }
        for text in lists {
            self.tell(Finding::wrong(text));
        }
        if let Some(records) = self.records.take() {
            self.check_ledger(&records, catalog, frames.as_ref());
        }
        let mut walk = ImageWalk::new(catalog);
        let bad = walk.marked(&bad);
        for image in catalog.images().iter().filter(|image| !image.listed) {
            let broken = walk.count_below(&image.digest, &bad);
            let name = image.reference.as_ref().map_or(String::new(), |reference| format!("{reference} "));
            match broken {
                0 => self.line("whole", &format!("{name}{}", image.digest)),
                1 => self.line("broken", &format!("{name}{}: one of its parts is missing or wrong", image.digest)),
                n => self.line("broken", &format!("{name}{}: {n} of its parts are missing or wrong", image.digest)),
            }
        }
        let (blobs, manifests) = (catalog.blobs().len(), catalog.manifests());
        let mut text = format!("{blobs} blobs, {manifests} of them manifests, {} bytes", grouped(catalog.bytes()));
        if let Some(end) = ended.end {
            text.push_str(&format!("; the archive ends at offset {}", grouped(end)));
        }
        if in_others > 0 {
            text.push_str(&format!("; {} blobs are in other archives of these", grouped(in_others)));
        }
        if unread > 0 {
            text.push_str(&format!("; {} blobs are elsewhere, and were not read", grouped(unread)));
        }
        match catalog.missing_subjects() {
            0 => {}
            1 => text.push_str("; one subject is not in it"),
            n => text.push_str(&format!("; {n} subjects are not in it")),
        }
        if catalog.missing_by_choice() > 0 {
            text.push_str(&format!("; {} manifests are left out of a sparse index", catalog.missing_by_choice()));
        }
        let idle = catalog.blobs().keys().filter(|digest| !reached.contains(*digest)).count();
        if idle > 0 {
            text.push_str(&format!("; nothing refers to {idle} of the blobs"));
        }
        let verdict = match self.told {
            0 => "all is whole".into(),
            1 => "one thing is wrong".into(),
            n => format!("{n} things are wrong"),
        };
        self.line("archive", &format!("{text}; {verdict}"));
    }

    /// Compares each record with what is there.
    fn check_ledger(&mut self, records: &[CheckpointRecord], catalog: &Catalog, frames: Option<&FrameEnds>) {
        let before = self.flaws;
        for (n, CheckpointRecord { digest, offset, .. }) in records.iter().enumerate() {
            let said = format!("the ledger says in record {} that blob {digest} ends at {}", n + 1, grouped(*offset));
            let Some(held) = catalog.blobs().get(digest) else {
                self.tell(Finding::wrong(format!("{said}, and it is not in the archive")));
                continue;
            };
            let end = grouped(held.end);
            match frames {
                None if held.end == *offset => {}
                None => self.tell(Finding::wrong(format!("{said}, and it ends at {end}"))),
                // What is cut at the offset must decompress to the end of the blob.
                Some(frames) => {
                    let whole = frames.partition_point(|(medium, _)| medium <= offset);
                    let plain = whole.checked_sub(1).map_or(0, |last| frames[last].1);
                    if plain < held.end {
                        let got = grouped(plain);
                        let text = format!("{said}; whole frames up to there hold {got} bytes, and it ends at {end}");
                        self.tell(Finding::wrong(text));
                    }
                }
            }
        }
        let true_ones = records.len() as u64 - (self.flaws - before);
        let listed: HashSet<&Digest> = records.iter().map(|record| &record.digest).collect();
        let others = catalog.blobs().keys().filter(|digest| !listed.contains(digest)).count();
        let more = if others > 0 { format!("; it does not speak of {others} blobs") } else { String::new() };
        self.line("ledger", &format!("{true_ones} of {} records are true{more}", records.len()));
    }
}

/// The blobs that a ledger speaks of, or that an archive holds.
fn digests_in(path: &Path, input: &InputOptions) -> Result<HashSet<Digest>> {
    let mut first = [0];
    let read = fd::open_to_read(path).and_then(|file| fd::fill(file, &mut first));
    let n = read.doing(|| format!("reading what exists already, {path:?}"))?;
    if n == 0 || first[0] == b'{' {
        return Ok(checkpoint::records(path)?.into_iter().map(|record| record.digest).collect());
    }
    let (catalog, findings) = look(path, input.clone())?;
    let doing = || format!("reading what exists already, {path:?}");
    if let Some(finding) = findings.iter().find(|finding| finding.kind != FindingKind::Incomplete) {
        return Err(Error::new(&finding.text).doing(doing()));
    }
    // A first part that was cut off holds what it holds.
    if let Some(finding) = findings.first() {
        log::warn(format_args!("{}: {}; it counts as far as it goes", doing(), finding.text));
    }
    Ok(catalog.blobs().keys().cloned().collect())
}
