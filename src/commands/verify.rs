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

use super::{
    path_conflicts,
    verdict_lines::VerdictLines,
    wanted::{WantedFile, WantedSource},
};
use crate::{
    archive::{
        checkpoint::{self, CheckpointRecord},
        read::{
            catalog::{Catalog, Elsewhere, Flaw},
            events::ArchiveEnd,
            finding::{Finding, FindingKind},
            images::{Image, ImageWalk},
            open::{FrameEnds, groups, look, scan_stream},
            scan::{BlobShare, Scanner},
        },
    },
    cli::{options::VerifyOptions, progress::Progress},
    error::{Context, Error, Result},
    fd, log,
    media::{
        files::Files,
        input::Input,
        stream_input::{InputOptions, StreamInput},
        tape::{
            mtio,
            scsi::{facts::DriveFacts, node::DriveNode},
            watch::check_barcode,
        },
    },
    oci::Digest,
    shards::plan_file::{PlannedImage, SharedPlan},
    util::units::{counted, grouped},
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
    read.extend(options.plan.iter().map(|path| ("--plan", path.as_path())));
    read.extend(options.existing.iter().map(|path| ("--existing", path.as_path())));
    let mut written = vec![path_conflicts::stdout()];
    written.extend(options.wanted.iter().map(|path| ("--wanted", path.as_path())));
    path_conflicts::check(&read, &written)?;
    let wanted = options.wanted.as_deref().map(WantedFile::open).transpose()?;
    let shared = options.plan.as_deref().map(SharedPlan::read).transpose()?;
    let records = options.checkpoint.as_deref().map(checkpoint::records).transpose()?;
    if let Some(records) = &records {
        check_cartridge(&paths[0], records)?;
    }
    let mut existing = ExistingArchives::default();
    for path in &options.existing {
        existing.add(path, &options.input)?;
    }
    let mut inputs = Vec::new();
    for group in groups(paths)? {
        let input = Input::open(&group, options.input.clone())?;
        inputs.push((group, input));
    }
    let progress = Progress::new(&options.progress)?;
    let name = paths.iter().map(|path| format!("{path:?}")).collect::<Vec<_>>().join(", ");
    let mut verifier = ArchiveVerifier {
        name,
        existing,
        records,
        root: options.root.clone().filter(|_| shared.is_none()),
        root_of_set: options.root.clone().filter(|_| shared.is_some()),
        shared,
        lost: Vec::new(),
        passes_holes: options.input.passes_holes,
        share: options.share,
        flaws: 0,
        told: 0,
        is_missing: false,
        is_else: false,
        broken: Vec::new(),
        lines: VerdictLines::new(options.format),
    };
    let read = AtomicU64::new(0);
    let size = |(_, input): &(_, Input)| match input {
        Input::Files(files) => Some(files.total()),
        Input::Stream(_) => None,
    };
    let total = inputs.iter().map(size).sum();
    let is_alone = inputs.len() == 1;
    let outcome = thread::scope(|scope| {
        let (watched, begun, (done, over)) = (&read, Instant::now(), mpsc::channel::<()>());
        let progress = &progress;
        scope.spawn(move || {
            while let Err(RecvTimeoutError::Timeout) = over.recv_timeout(TICK) {
                progress.reading(watched.load(Ordering::Relaxed), total, begun.elapsed());
            }
        });
        let outcome = verifier.all(inputs, &read);
        drop(done);
        outcome
    });
    progress.clear();
    outcome?;
    let listed = wanted.map_or(Ok(()), |file| file.write(verifier.wanted()));
    verifier.lines.finish().and(listed)?;
    let error = match verifier.flaws {
        0 => return Ok(()),
        1 => Error::new("one thing is wrong"),
        n => Error::new(format!("{} things are wrong", grouped(n))),
    };
    let error = error.doing(format!("verifying {}", verifier.name));
    // An increment, perhaps.
    Err(match verifier.is_missing && !verifier.is_else && is_alone && options.existing.is_empty() {
        true => error.hint("an increment is whole together with its base: give both, or --existing and the base"),
        false => error,
    })
}

/// A tape that is read must be in the cartridge that its checkpoint speaks of, as far as both have a barcode.
fn check_cartridge(path: &Path, records: &[CheckpointRecord]) -> Result<()> {
    let first = records.iter().find_map(|record| record.volume.as_ref()).filter(|volume| volume.barcode.is_some());
    match (first, std::fs::metadata(path)) {
        (Some(volume), Ok(meta)) if mtio::is_tape(&meta) => {
            let cartridge = DriveFacts::cartridge_of(&DriveNode::open(path).doing(|| format!("asking {path:?}"))?);
            check_barcode(&format!("{path:?}"), &cartridge, volume, false)
        }
        _ => Ok(()),
    }
}

/// What `--existing` names.
#[derive(Default)]
struct ExistingArchives {
    /// By checkpoints.
    listed: HashSet<Digest>,
    catalogs: Vec<Catalog>,
}

impl ExistingArchives {
    /// Takes in a checkpoint, or an archive as far as it goes.
    fn add(&mut self, path: &Path, input: &InputOptions) -> Result<()> {
        let doing = || format!("reading what exists already, {path:?}");
        let mut first = [0];
        let n = fd::open_to_read(path).and_then(|file| fd::fill(file, &mut first)).doing(doing)?;
        if n == 0 {
            log::warn(format_args!("{}: it is empty", doing()));
            return Ok(());
        }
        if first[0] == b'{' {
            self.listed.extend(checkpoint::records(path)?.into_iter().map(|record| record.digest));
            return Ok(());
        }
        let (catalog, findings) = look(path, input.clone())?;
        if let Some(finding) = findings.iter().find(|finding| finding.kind != FindingKind::Incomplete) {
            return Err(Error::new(&finding.text).doing(doing()));
        }
        // A first part that was cut off holds what it holds.
        if let Some(finding) = findings.first() {
            log::warn(format_args!("{}: {}; it counts as far as it goes", doing(), finding.text));
        }
        self.catalogs.push(catalog);
        Ok(())
    }
}

struct ArchiveVerifier {
    name: String,
    existing: ExistingArchives,
    /// Of the first archive.
    records: Option<Vec<CheckpointRecord>>,
    /// What the first archive must have as its root.
    root: Option<Digest>,
    /// The archives are the shards of this plan.
    shared: Option<SharedPlan>,
    /// The root that this must have.
    root_of_set: Option<Digest>,
    /// What is in no shard that is here.
    lost: Vec<PlannedImage>,
    /// Go on behind what cannot be read.
    passes_holes: bool,
    /// Only these blobs are hashed.
    share: Option<BlobShare>,
    flaws: u64,
    /// Findings told of the archive in hand.
    told: usize,
    /// Something that is referred to is not there.
    is_missing: bool,
    /// Something is wrong otherwise.
    is_else: bool,
    /// Images that are not whole.
    broken: Vec<Image>,
    /// What is printed.
    lines: VerdictLines,
}

/// What is found of one archive when all are read.
struct Conclusion<'a> {
    elsewhere: Elsewhere<'a>,
    /// The other archives that were read.
    set: Elsewhere<'a>,
    reached: HashSet<Digest>,
    flaws: Vec<Flaw>,
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
    fn all(&mut self, inputs: Vec<(Vec<PathBuf>, Input)>, read: &AtomicU64) -> Result<()> {
        let (mut archives, has_heading) = (Vec::new(), inputs.len() > 1);
        for (paths, input) in inputs {
            match input {
                Input::Files(files) => self.files(&files, &paths, has_heading, &mut archives, read)?,
                Input::Stream(mut stream) => self.stream(&mut stream, &paths, has_heading, &mut archives, read)?,
            }
        }
        let existing = std::mem::take(&mut self.existing);
        let mut reached = HashSet::new();
        let conclusions: Vec<Conclusion> = (0..archives.len())
            .map(|n| {
                let others = archives.iter().enumerate().filter(|(other, _)| *other != n);
                let set: Vec<&Catalog> = others.map(|(_, archive)| &archive.catalog).collect();
                let elsewhere = Elsewhere {
                    listed: Some(&existing.listed),
                    catalogs: set.iter().copied().chain(&existing.catalogs).collect(),
                };
                let mut flaws = Vec::new();
                let found = archives[n].catalog.check(&elsewhere, &mut |flaw| flaws.push(flaw));
                reached.extend(found.iter().cloned());
                Conclusion { elsewhere, set: Elsewhere { listed: None, catalogs: set }, reached: found, flaws }
            })
            .collect();
        let has_heading = archives.len() > 1;
        for (archive, conclusion) in archives.iter().zip(conclusions) {
            self.conclude(archive, conclusion, &reached, has_heading);
        }
        self.conclude_set(&archives);
        Ok(())
    }

    /// What must be sent again.
    fn wanted(&self) -> impl Iterator<Item = WantedSource<'_>> {
        let broken = self.broken.iter().map(|image| WantedSource {
            source: image.reference.as_deref(),
            digest: &image.digest,
            labels: image.labels.as_deref(),
        });
        let lost = self.lost.iter().map(|image| WantedSource {
            source: Some(&image.source),
            digest: &image.digest,
            labels: image.labels.as_deref(),
        });
        broken.chain(lost)
    }

    /// What can be said of the shards of a plan together.
    fn conclude_set(&mut self, archives: &[ReadArchive]) {
        self.told = 0;
        let Some(shared) = &self.shared else { return };
        let root_of = |archive: &ReadArchive| archive.catalog.lists.root().cloned();
        let roots: Vec<_> = archives.iter().map(|archive| (archive.heading.clone(), root_of(archive))).collect();
        // Of a shard that is missing, or whose list of sources is, all must be sent again.
        let is_sound = |root: &Digest| {
            let of_root = archives.iter().filter(|archive| root_of(archive).as_ref() == Some(root));
            let is_left_out = shared.plan.existing.on_media.contains(root);
            of_root.into_iter().any(|archive| archive.catalog.blobs().get(root).map_or(is_left_out, |held| held.sound))
        };
        let lost =
            shared.plan.shards.iter().zip(1..).filter(|(shard, _)| shard.root.as_ref().is_some_and(|r| !is_sound(r)));
        self.lost = lost.flat_map(|(_, number)| shared.images(number)).collect();
        let roots_of_shards: HashSet<&Digest> =
            shared.plan.shards.iter().filter_map(|shard| shard.root.as_ref()).collect();
        self.broken.retain(|image| !roots_of_shards.contains(&image.digest));
        let (checked, root) = (shared.check_set(&roots), shared.plan.root.clone());
        let wanted = self.root_of_set.take().filter(|wanted| *wanted != root);
        if let Some(wanted) = wanted {
            self.tell(Finding::wrong(format!("{wanted} should be the root of the plan, and it is {root}")));
        }
        match checked {
            Ok(()) => self.line("set", &format!("all shards of the plan are here; its root is {root}")),
            Err(e) => self.tell(Finding::wrong(e.to_string())),
        }
    }

    fn files(
        &mut self,
        files: &Arc<Files>,
        paths: &[PathBuf],
        has_heading: bool,
        archives: &mut Vec<ReadArchive>,
        read: &AtomicU64,
    ) -> Result<()> {
        let (mut start, first) = (0, archives.len());
        while start < files.total() || archives.len() == first {
            let file = files.volume_at(start).max(1);
            let heading = format!("{:?}", paths[file - 1]);
            self.begin(&heading, has_heading || archives.len() > first || paths.len() > 1);
            let mut catalog = Catalog::default();
            let (passes_holes, share) = (self.passes_holes, self.share);
            let mut tell = |finding| self.tell(finding);
            let mut scanner = Scanner { deep: true, share, passes_holes, tell: &mut tell, read };
            let (ended, next) = scanner.files(files, start, &mut catalog)?;
            let told = std::mem::take(&mut self.told);
            archives.push(ReadArchive { catalog, ended, frames: None, heading, told });
            start = if ended.end.is_some() { next } else { files.total() };
        }
        Ok(())
    }

    fn stream(
        &mut self,
        stream: &mut StreamInput,
        paths: &[PathBuf],
        has_heading: bool,
        archives: &mut Vec<ReadArchive>,
        read: &AtomicU64,
    ) -> Result<()> {
        let first = archives.len();
        loop {
            let heading = match archives.len() - first {
                0 => format!("{:?}", paths[0]),
                n => format!("{:?}, archive {}", paths[0], n + 1),
            };
            self.begin(&heading, has_heading || archives.len() > first);
            let (mut catalog, mut frames) = (Catalog::default(), FrameEnds::new());
            let (passes_holes, share) = (self.passes_holes, self.share);
            let mut tell = |finding| self.tell(finding);
            let scanner = Scanner { deep: true, share, passes_holes, tell: &mut tell, read };
            let (ended, format) = scan_stream(scanner, stream, &mut catalog, &mut frames)?;
            let (frames, told) = (format.map(|_| frames), std::mem::take(&mut self.told));
            archives.push(ReadArchive { catalog, ended, frames, heading, told });
            if ended.end.is_none() || !stream.next_file().map_err(Error::from_io)? {
                return Ok(());
            }
        }
    }

    /// What is found from now on is of this archive.
    fn begin(&mut self, heading: &str, has_heading: bool) {
        if has_heading {
            self.line("reading", heading);
        }
    }

    fn tell(&mut self, Finding { kind, text }: Finding) {
        if kind == FindingKind::Note {
            return self.line("note", &text);
        }
        self.flaws += 1;
        self.told += 1;
        self.is_else |= kind != FindingKind::Missing;
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
        self.lines.line(word, text);
    }

    /// What can be said when all was read: of one archive. All together have `reached` so much.
    fn conclude(
        &mut self,
        archive: &ReadArchive,
        conclusion: Conclusion,
        all_reached: &HashSet<Digest>,
        has_heading: bool,
    ) {
        let ReadArchive { catalog, ended, frames, heading, told } = archive;
        let Conclusion { elsewhere, set, reached, flaws } = conclusion;
        self.told = *told;
        if has_heading {
            self.line("in", heading);
        }
        let mut bad: HashSet<Digest> =
            catalog.blobs().iter().filter(|(_, held)| !held.sound).map(|(digest, _)| digest.clone()).collect();
        let mut lists = Vec::new();
        let (mut in_others, mut unread) = (0_u64, 0_u64);
        for digest in reached.iter().filter(|digest| !catalog.blobs().contains_key(digest)) {
            match set.holds(digest) {
                true => in_others += 1,
                false => unread += u64::from(elsewhere.has(digest)),
            }
        }
        catalog.check_lists(&|digest| elsewhere.has(digest), &mut |text| lists.push(text));
        for flaw in flaws {
            bad.insert(flaw.digest);
            self.is_missing |= flaw.missing;
            self.is_else |= !flaw.missing;
            self.tell(if flaw.missing { Finding::missing(flaw.text) } else { Finding::wrong(flaw.text) });
        }
        for text in lists {
            self.tell(Finding::wrong(text));
        }
        if let Some(wanted) = self.root.take().filter(|root| catalog.lists.root() != Some(root)) {
            let is = catalog.lists.root().map_or("there is none".into(), |root| format!("it is {root}"));
            self.tell(Finding::wrong(format!("{wanted} should be the root, and {is}")));
        }
        if let Some(records) = self.records.take() {
            self.check_checkpoint(&records, catalog, frames.as_ref());
        }
        let mut walk = ImageWalk::new(catalog, &elsewhere.catalogs);
        let bad = walk.marked(&bad);
        for image in catalog.images().iter().filter(|image| !image.listed) {
            let broken = walk.count_below(&image.digest, &bad);
            if broken > 0 {
                self.broken.push(image.clone());
            }
            self.lines.image(image, broken, self.share.is_none_or(|share| share.of == 1));
        }
        let (blobs, manifests) = (catalog.blobs().len(), catalog.manifests());
        let (blobs, bytes) = (counted(blobs, "blob"), counted(catalog.bytes(), "byte"));
        let mut text = format!("{blobs}, {} of them manifests, {bytes}", grouped(manifests as u64));
        if let Some(end) = ended.end {
            text.push_str(&format!("; the archive ends at offset {}", grouped(end)));
        }
        if in_others > 0 {
            text.push_str(&format!("; in other archives of these: {}", counted(in_others, "blob")));
        }
        if unread > 0 {
            text.push_str(&format!("; elsewhere, and not read: {}", counted(unread, "blob")));
        }
        for (n, what, how) in [
            (catalog.missing_subjects(), "subject", "not in it"),
            (catalog.left_out().len(), "manifest", "left out of a sparse index"),
        ] {
            if n > 0 {
                text.push_str(&format!("; {how}: {}", counted(n, what)));
            }
        }
        if let Some(share) = self.share {
            let read = catalog.blobs().keys().filter(|digest| share.has(digest)).count();
            text.push_str(&format!("; share {share}: the digest was checked of {}", counted(read, "blob")));
        }
        let idle = catalog.blobs().keys().filter(|digest| !all_reached.contains(*digest)).count();
        if idle > 0 {
            text.push_str(&format!("; nothing refers to {idle} of the blobs"));
        }
        let verdict = match self.told {
            0 if self.share.is_some_and(|share| share.of > 1) => "nothing is wrong in this share".into(),
            0 => "all is whole".into(),
            1 => "one thing is wrong".into(),
            n => format!("{n} things are wrong"),
        };
        self.line("archive", &format!("{text}; {verdict}"));
    }

    /// Compares each record with what is there.
    fn check_checkpoint(&mut self, records: &[CheckpointRecord], catalog: &Catalog, frames: Option<&FrameEnds>) {
        let before = self.flaws;
        for (n, CheckpointRecord { digest, offset, .. }) in records.iter().enumerate() {
            let said =
                format!("the checkpoint says in record {} that blob {digest} ends at {}", n + 1, grouped(*offset));
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
        let more =
            if others > 0 { format!("; it does not speak of {}", counted(others, "blob")) } else { String::new() };
        self.line("checkpoint", &format!("{true_ones} of {}: true{more}", counted(records.len(), "record")));
    }
}
