//! Runs of the session onto files, from a store in memory: whole, interrupted, resumed.

use std::{
    collections::HashSet,
    fs,
    io::Read,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use proptest::prelude::*;

use super::*;
use crate::{
    archive::{checkpoint, write::plan::tests::planned},
    compression::{CompressionLevel, Format},
    oci::{Descriptor, Digest},
    store::{Locator, Origin, memory::MemoryStore},
    util::scratch::Scratch,
};

/// Three layers that do not shrink, and one that does, some longer than a block and the ring.
fn images() -> (MemoryStore, Descriptor) {
    let store = MemoryStore::new("a");
    let noise = |seed: u32, len: u32| -> Vec<u8> {
        (0..len).map(|n| ((n + seed).wrapping_mul(2_654_435_761) >> 13) as u8).collect()
    };
    let one = store.image(&[&noise(1, 50_000), &noise(2, 3_000)]);
    let two = store.image(&[&noise(3, 200_000), &b"text ".repeat(8_000)]);
    let root = store.index(vec![one, two]);
    (store, root)
}

fn plan(store: &MemoryStore, root: &Descriptor, version: &str) -> Plan {
    planned(store, root, &HashSet::new(), &HashSet::new(), version).unwrap()
}

fn options(dir: &Path, codec: Option<Format>) -> WriteOptions {
    WriteOptions {
        dest: dir.join("a.tar"),
        force: false,
        resume: false,
        checkpoint: Some(dir.join("checkpoint")),
        sync_interval: 0,
        label: None,
        changer: Changer::default(),
        demands: DriveDemands::default(),
        geometry: Geometry::new(4096, 64 << 10, Some(50)).unwrap(),
        codec: codec.map(|format| Codec { format, level: CompressionLevel::Min }),
    }
}

fn run(options: &WriteOptions, plan: &Plan, store: &dyn Store) -> Result<WriteOutcome> {
    crate::signal::allow_interrupts()?;
    let opened = options.open()?;
    WriteSession { options, plan, store, threads: 3, begins: &|| Ok(()) }.run(opened, &mut |_, _| ())
}

fn complete(outcome: Result<WriteOutcome>) -> Box<WriteSummary> {
    match outcome.unwrap() {
        WriteOutcome::Complete(summary) => summary,
        WriteOutcome::WasWhole => panic!("nothing was written"),
        WriteOutcome::Interrupted(at) => panic!("{}", at.error),
    }
}

fn interrupted(outcome: Result<WriteOutcome>) -> Interruption {
    match outcome.unwrap() {
        WriteOutcome::Complete(_) | WriteOutcome::WasWhole => panic!("it was completed"),
        WriteOutcome::Interrupted(at) => *at,
    }
}

/// A store that fails once so many bytes of blobs were read: the power goes off at any moment.
struct Crashing<'a> {
    store: &'a MemoryStore,
    left: Arc<AtomicU64>,
}

struct CrashingBody<'a>(Box<dyn Read + 'a>, Arc<AtomicU64>);

impl Read for CrashingBody<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let most = into.len().min(700).min(self.1.load(Ordering::Relaxed) as usize);
        if most == 0 && !into.is_empty() {
            return Err(std::io::Error::other("the power is off"));
        }
        let n = self.0.read(&mut into[..most])?;
        self.1.fetch_sub(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

impl Store for Crashing<'_> {
    fn resolve(&self, name: &Locator) -> Result<(Descriptor, Arc<[u8]>)> {
        self.store.resolve(name)
    }
    fn manifest(&self, origin: &Origin, descriptor: &Descriptor) -> Result<Arc<[u8]>> {
        self.store.manifest(origin, descriptor)
    }
    fn referrers(&self, origin: &Origin, descriptor: &Descriptor) -> Result<Vec<Descriptor>> {
        self.store.referrers(origin, descriptor)
    }
    fn blob(&self, origin: &Origin, descriptor: &Descriptor, from: u64) -> Result<Box<dyn Read + '_>> {
        Ok(Box::new(CrashingBody(self.store.blob(origin, descriptor, from)?, self.left.clone())))
    }
    fn has_blob(&self, origin: &Origin, descriptor: &Descriptor) -> Result<()> {
        self.store.has_blob(origin, descriptor)
    }
    fn shutdown(&self) {}
}

/// Whether every record of the checkpoint is true of the file.
fn check_records(plan: &Plan, options: &WriteOptions) {
    let records = checkpoint::records(options.checkpoint.as_ref().unwrap()).unwrap();
    let file = fs::read(&options.dest).unwrap();
    for (n, record) in records.iter().enumerate() {
        assert_eq!(record.digest, *plan.digest(n as u32));
        let held = &file[..record.offset as usize];
        let mut plain = Vec::new();
        match options.codec.map(|codec| codec.format) {
            None => plain.extend(held),
            Some(Format::Zstd) => drop(zstd::stream::Decoder::new(held).unwrap().read_to_end(&mut plain).unwrap()),
            Some(Format::Gzip) => drop(flate2::read::MultiGzDecoder::new(held).read_to_end(&mut plain).unwrap()),
        }
        assert_eq!(plain.len() as u64, plan.blob_end(n).unwrap(), "record {n}");
    }
}

const WAYS: [Option<Format>; 3] = [None, Some(Format::Zstd), Some(Format::Gzip)];

#[test]
fn the_bytes_of_an_archive_are_a_function_of_its_plan() {
    let (store, root) = images();
    let plan = plan(&store, &root, "t");
    for way in WAYS {
        let (one, two) = (Scratch::new(), Scratch::new());
        let first = complete(run(&options(&one, way), &plan, &store));
        let narrow = Geometry::new(700, 0, None).unwrap();
        complete(run(&WriteOptions { geometry: narrow, ..options(&two, way) }, &plan, &store));
        assert!(fs::read(one.join("a.tar")).unwrap() == fs::read(two.join("a.tar")).unwrap(), "{way:?}");
        assert_eq!(first.kind, MediumKind::File);
        assert_eq!(checkpoint::records(&one.join("checkpoint")).unwrap().len(), plan.blobs());
        check_records(&plan, &options(&one, way));
        if way.is_none() {
            assert_eq!(first.last.accepted, plan.total());
        }
    }
}

#[test]
fn a_blob_that_proves_wrong_is_cut_off_and_counts_for_nothing() {
    let (store, root) = images();
    let plan = plan(&store, &root, "t");
    // The largest layer: longer than may be held back in the ring.
    let large = (0..plan.blobs() as u32).map(|n| plan.descriptor(n)).max_by_key(|d| d.size).unwrap();
    store.spoil(&large, &vec![1; large.size as usize]);
    for way in WAYS {
        let dir = Scratch::new();
        let at = interrupted(run(&options(&dir, way), &plan, &store));
        assert!(at.error.is(ErrorKind::Corrupt) && at.error.to_string().contains("digest mismatch"), "{}", at.error);
        assert!(at.blobs < at.planned);
        // Frames may still all be on their way.
        assert!(at.blobs > 0 || way.is_some());
        assert_eq!(fs::metadata(dir.join("a.tar")).unwrap().len(), at.offset, "what proved wrong is gone");
        check_records(&plan, &options(&dir, way));
    }
}

#[test]
fn what_is_no_beginning_of_the_archive_is_not_gone_on_with() {
    let (store, root) = images();
    let planned = plan(&store, &root, "t");
    let dir = Scratch::new();
    complete(run(&options(&dir, None), &planned, &store));
    let resume = WriteOptions { resume: true, ..options(&dir, None) };
    let before = (fs::read(dir.join("a.tar")).unwrap(), fs::read(dir.join("checkpoint")).unwrap());
    let other = plan(&store, &root, "another version");
    let error = run(&resume, &other, &store).err().unwrap();
    assert!(error.to_string().contains("it is not the beginning of the archive that is planned"), "{error}");
    fs::write(dir.join("a.tar"), vec![9; planned.total() as usize + 512]).unwrap();
    assert!(run(&resume, &planned, &store).err().unwrap().to_string().contains("the archive will have"));
    fs::write(dir.join("a.tar"), &before.0).unwrap();
    assert_eq!(fs::read(dir.join("checkpoint")).unwrap(), before.1, "nothing was changed");
    let modified = || fs::metadata(dir.join("a.tar")).unwrap().modified().unwrap();
    let unchanged = modified();
    assert!(matches!(run(&resume, &planned, &store).unwrap(), WriteOutcome::WasWhole));
    assert_eq!(modified(), unchanged);
}

#[test]
fn a_file_that_is_not_empty_is_not_written_over_unasked() {
    let dir = Scratch::new();
    fs::write(dir.join("a.tar"), "mine").unwrap();
    let error = options(&dir, None).open().err().unwrap();
    assert!(error.to_string().contains("--force writes over it"), "{error}");
    fs::remove_file(dir.join("a.tar")).unwrap();
    drop(options(&dir, None).open().unwrap());
    assert!(!dir.join("a.tar").exists(), "a run that never began leaves no empty file");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// The power goes off at any moment, and again: the checkpoint is true each time, and the end is the
    /// archive of a run that nobody interrupted.
    #[test]
    fn interrupted_anywhere_it_ends_in_the_same_archive(
        crashes in prop::collection::vec(0u64..260_000, 1..4),
        cut in prop::option::of(0u64..300_000),
        way in 0..3usize,
    ) {
        let way = WAYS[way];
        let (store, root) = images();
        let plan = plan(&store, &root, "t");
        let (dir, whole) = (Scratch::new(), Scratch::new());
        complete(run(&options(&whole, way), &plan, &store));
        let resume = WriteOptions { resume: true, ..options(&dir, way) };
        for bytes in crashes {
            let crashing = Crashing { store: &store, left: Arc::new(AtomicU64::new(bytes)) };
            let outcome = run(&resume, &plan, &crashing).unwrap();
            check_records(&plan, &resume);
            if let WriteOutcome::Interrupted(at) = outcome {
                prop_assert!(at.error.to_string().contains("the power is off"), "{}", at.error);
            }
        }
        // What had not been synced may be missing.
        if let Some(cut) = cut {
            let file = fs::File::options().write(true).open(&resume.dest).unwrap();
            file.set_len(cut.min(file.metadata().unwrap().len())).unwrap();
        }
        match run(&resume, &plan, &store).unwrap() {
            WriteOutcome::Complete(summary) => prop_assert!(summary.recorded.is_ok()),
            WriteOutcome::WasWhole => {}
            WriteOutcome::Interrupted(at) => prop_assert!(false, "{}", at.error),
        }
        prop_assert!(fs::read(&resume.dest).unwrap() == fs::read(whole.join("a.tar")).unwrap());
        let records = |dir: &Scratch| -> Vec<(Digest, u64)> {
            let records = checkpoint::records(&dir.join("checkpoint")).unwrap();
            records.into_iter().map(|record| (record.digest, record.offset)).collect()
        };
        prop_assert_eq!(records(&dir), records(&whole));
    }
}
