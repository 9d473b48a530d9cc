//! `mirror verify`: whether archives are whole, without a registry.

use std::{
    cmp,
    collections::HashSet,
    path::Path,
    sync::{
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
    fd,
    media::{input::Input, stream_input::InputOptions},
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
    let mut verifier = ArchiveVerifier { name, elsewhere, records, archives: 0, flaws: 0, told: 0, printed: Ok(()) };
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
    elsewhere: HashSet<Digest>,
    /// Of the first archive.
    records: Option<Vec<CheckpointRecord>>,
    archives: usize,
    flaws: u64,
    /// Findings told of this archive.
    told: usize,
    /// Whether they could be printed.
    printed: Result<()>,
}

impl ArchiveVerifier {
    fn all(&mut self, input: Input, read: &AtomicU64) -> Result<()> {
        match input {
            Input::Files(files) => {
                let mut start = 0;
                while start < files.total() || self.archives == 0 {
                    let mut catalog = Catalog::default();
                    let mut tell = |finding| self.tell(finding);
                    let mut scanner = Scanner { deep: true, tell: &mut tell, read };
                    let (ended, next) = scanner.files(&files, start, &mut catalog)?;
                    self.conclude(&catalog, ended, None);
                    start = if ended.end.is_some() { next } else { files.total() };
                }
                Ok(())
            }
            Input::Stream(mut stream) => loop {
                let (mut catalog, mut frames) = (Catalog::default(), FrameEnds::new());
                let mut tell = |finding| self.tell(finding);
                let scanner = Scanner { deep: true, tell: &mut tell, read };
                let (ended, format) = scan_stream(scanner, &mut stream, &mut catalog, &mut frames)?;
                self.conclude(&catalog, ended, format.map(|_| &frames));
                if ended.end.is_none() || !stream.next_file().map_err(Error::from_io)? {
                    return Ok(());
                }
            },
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
            FindingKind::Wrong => "wrong",
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

    /// What can be said when all of an archive was read.
    fn conclude(&mut self, catalog: &Catalog, ended: ArchiveEnd, frames: Option<&FrameEnds>) {
        self.archives += 1;
        let mut bad: HashSet<Digest> =
            catalog.blobs().iter().filter(|(_, held)| !held.sound).map(|(digest, _)| digest.clone()).collect();
        let (mut flaws, mut left_out) = (Vec::new(), 0_u64);
        let elsewhere = &self.elsewhere;
        let reached = catalog.check(&|digest| elsewhere.contains(digest), &mut |flaw| flaws.push(flaw));
        for digest in &reached {
            left_out += u64::from(!catalog.blobs().contains_key(digest) && elsewhere.contains(digest));
        }
        for flaw in flaws {
            bad.insert(flaw.digest);
            self.tell(if flaw.missing { Finding::missing(flaw.text) } else { Finding::wrong(flaw.text) });
        }
        let mut lists = Vec::new();
        catalog.check_lists(&|digest| self.elsewhere.contains(digest), &mut |text| lists.push(text));
        for text in lists {
            self.tell(Finding::wrong(text));
        }
        if self.archives == 1
            && let Some(records) = self.records.take()
        {
            self.check_ledger(&records, catalog, frames);
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
        if left_out > 0 {
            text.push_str(&format!("; {} blobs are elsewhere", grouped(left_out)));
        }
        match catalog.missing_subjects() {
            0 => {}
            1 => text.push_str("; one subject is not in it"),
            n => text.push_str(&format!("; {n} subjects are not in it")),
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
        self.told = 0;
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
    match findings.first() {
        Some(finding) => Err(Error::new(&finding.text).doing(format!("reading what exists already, {path:?}"))),
        None => Ok(catalog.blobs().keys().cloned().collect()),
    }
}
