//! `mirror unarchive`, `scatter` and `clone`: each image to where a map says, over several repositories and registries.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use ace_dt::oci::Digest;
use serde_json::Value;

use crate::{
    dealer::{self, Dealer},
    receiver::{Manners, Receiver},
    registry::{Registry, configure as configure_source, golden},
    scripted::{Answer, Content, Scripted},
    util::{Dir, Outcome, ace_dt, ace_dt_with, noise, peer, tool},
};

/// Images that share layers, and one of them two platforms.
fn content() -> Content {
    let mut content = Content::default();
    let layer = |n: u64| noise(n, 1000 + 40_000 * n as usize);
    content.image("one", "v1", &[layer(1), layer(2), layer(3)]);
    content.image("two", "v1", &[layer(3), layer(4)]);
    content.image("big", "v1", &[noise(99, 3 << 20), layer(1)]);
    content
}

const LIST: &str = "reg.example.com/big:v1,size=large\nreg.example.com/one:v1\nreg.example.com/two:v1,env=prod\n";
/// All to one registry, and some to another.
const MAP: &str = "reg.example.com/,a.example.com/x/\nreg.example.com/,a.example.com/y/\nreg.example.com/,b.example.com/z/\n\
                   reg.example.com/o,b.example.com/w/o\n";
const PLACES: [(&str, &str); 10] = [
    ("a", "x/big"),
    ("a", "x/one"),
    ("a", "x/two"),
    ("a", "y/big"),
    ("a", "y/one"),
    ("a", "y/two"),
    ("b", "z/big"),
    ("b", "z/one"),
    ("b", "z/two"),
    ("b", "w/one"),
];

/// A source, its archive `x.tar`, and two destinations.
struct Fixture {
    dir: Dir,
    source: Scripted,
    receivers: BTreeMap<&'static str, Arc<Receiver>>,
    servers: BTreeMap<&'static str, Scripted>,
}

/// Where the three registries are.
fn write_config(dir: &Dir, source: &Scripted, [a, b]: [&Scripted; 2]) {
    dir.write(
        "ace-dt-config.yaml",
        format!(
            "concurrentHTTP: 8\nregistryConfig:\n  registries:\n    reg.example.com: {{endpoints: [\"{}\"]}}\n    \
             a.example.com: {{endpoints: [\"{}\"]}}\n    b.example.com: {{endpoints: [\"{}\"]}}\n",
            source.endpoint(),
            a.endpoint(),
            b.endpoint(),
        ),
    );
}

impl Fixture {
    fn new(manners: Manners) -> Fixture {
        Fixture::with(manners, |_, answer| answer)
    }

    /// `hook` changes what destinations answer.
    fn with(manners: Manners, hook: impl Fn(&str, Answer) -> Answer + Send + Sync + Clone + 'static) -> Fixture {
        let (dir, source) = (Dir::new(), Scripted::honest(content()));
        let (mut receivers, mut servers) = (BTreeMap::new(), BTreeMap::new());
        for name in ["a", "b"] {
            let receiver = Receiver::new(manners);
            let (honest, hook) = (receiver.clone(), hook.clone());
            let server = Scripted::start(Content::default(), move |request, _| {
                let answer = honest.answer(request);
                hook(&format!("{} {}", request.method, request.path), answer)
            });
            receivers.insert(name, receiver);
            servers.insert(name, server);
        }
        write_config(&dir, &source, [&servers["a"], &servers["b"]]);
        dir.write("s", LIST);
        dir.write("map.csv", MAP);
        ace_dt(&dir, &["mirror", "archive", "-q", "s", "x.tar"]).ok();
        Fixture { dir, source, receivers, servers }
    }

    fn run(&self, words: &[&str]) -> Outcome {
        ace_dt(&self.dir, &[&["mirror"], words, &["-q"]].concat())
    }

    /// Places where an image is not whole.
    fn broken(&self) -> Vec<String> {
        let is_broken = |(registry, repository): &&(&str, &str)| {
            let receiver = &self.receivers[registry];
            receiver.manifest(repository, "v1").is_none() || !receiver.missing_below(repository, "v1").is_empty()
        };
        PLACES.iter().filter(is_broken).map(|(registry, repository)| format!("{registry}/{repository}")).collect()
    }

    /// How often each blob was sent to a registry, but for the empty one that shows whether it mounts.
    fn sent(&self, registry: &str) -> Vec<usize> {
        let mut sent: BTreeMap<String, usize> = BTreeMap::new();
        for request in self.servers[registry].requests() {
            if let Some((_, digest)) = request.strip_prefix("PUT ").and_then(|path| path.split_once("digest=")) {
                *sent.entry(digest.replace("%3A", ":")).or_default() += 1;
            }
        }
        sent.remove(&Digest::of(b"{}").to_string());
        // Bytes under a digest that they have not show whether a registry looks at digests.
        sent.retain(|digest, _| self.source_has(digest));
        sent.into_values().collect()
    }

    fn source_has(&self, digest: &str) -> bool {
        let all = content();
        ["one", "two", "big"].iter().any(|name| all.body(&format!("/v2/{name}/blobs/{digest}")).is_some())
    }
}

/// Blobs of all images: five layers, a large one, and a configuration that is the same for all.
const BLOBS: usize = 6;

#[test]
fn a_blob_is_sent_once_to_each_registry_and_mounted() {
    for way in ["file", "pipe", "zstd", "scatter", "clone"] {
        let fixture = Fixture::new(Manners::default());
        let map = "all-prefix=map.csv";
        match way {
            "file" => fixture.run(&["unarchive", "x.tar", map]).ok(),
            "pipe" => {
                let words = ["mirror", "unarchive", "-q", "-m", "1Mi", "-", map];
                ace_dt_with(&fixture.dir, &words, &fixture.dir.read("x.tar")).ok()
            }
            "zstd" => {
                fixture.run(&["archive", "--compression", "zstd", "s", "x.tar.zst"]).ok();
                fixture.run(&["unarchive", "x.tar.zst", map]).ok()
            }
            "clone" => fixture.run(&["clone", "s", map]).ok(),
            _ => {
                fixture.run(&["gather", "s", "a.example.com/all:v1"]).ok();
                let before = fixture.sent("a").len();
                let outcome = fixture
                    .run(&["scatter", "--report", "report", "a.example.com/all:v1", "nest=a.example.com/n"])
                    .ok();
                let report = fixture.dir.text("report");
                assert_eq!(report.matches("\"mounted\"").count(), BLOBS, "{report}");
                fixture.run(&["scatter", "a.example.com/all:v1", map]).ok();
                // In the registry that has them nothing is sent.
                assert_eq!(fixture.sent("a"), vec![1; before]);
                outcome
            }
        };
        assert_eq!(fixture.broken(), Vec::<String>::new(), "{way}");
        for registry in ["a", "b"] {
            assert_eq!(fixture.sent(registry), vec![1; BLOBS], "{way} to {registry}");
        }
        if way == "clone" {
            // Each blob was fetched once for both registries.
            let fetched: Vec<String> = fixture.source.requests();
            let fetched = fetched.iter().filter(|r| r.starts_with("GET") && r.contains("/blobs/"));
            // Once more for the archive.
            assert_eq!(fetched.count(), 2 * BLOBS);
        }
        // Again: nothing is sent at all.
        let before: Vec<usize> = fixture.servers.values().map(|server| server.requests().len()).collect();
        match way {
            "clone" => fixture.run(&["clone", "s", map]).ok(),
            _ => fixture.run(&["unarchive", "x.tar", map]).ok(),
        };
        for (server, before) in fixture.servers.values().zip(before) {
            let again = server.requests().split_off(before);
            let sent: Vec<&String> = again.iter().filter(|r| !r.starts_with("HEAD") && !r.starts_with("GET")).collect();
            assert!(sent.is_empty(), "{way}: {sent:?}");
        }
    }
}

#[test]
fn registries_that_mount_nothing_get_it_again() {
    for way in ["file", "pipe", "clone"] {
        let fixture = Fixture::new(Manners { mounts_nothing: true, ..Manners::default() });
        let map = "all-prefix=map.csv";
        match way {
            "file" => fixture.run(&["unarchive", "x.tar", map]).ok(),
            // The large blob is larger than the buffer: it goes to all while it passes, and past them if it is there.
            "pipe" => {
                let words = ["mirror", "unarchive", "-q", "-m", "512Ki", "-", map];
                ace_dt_with(&fixture.dir, &words, &fixture.dir.read("x.tar")).ok();
                ace_dt_with(&fixture.dir, &words, &fixture.dir.read("x.tar")).ok()
            }
            _ => fixture.run(&["clone", "s", map]).ok(),
        };
        assert_eq!(fixture.broken(), Vec::<String>::new(), "{way}");
    }
}

#[test]
fn an_index_behind_the_blobs() {
    let fixture = Fixture::new(Manners::default());
    let dir = &fixture.dir;
    peer(dir, "mkdir", &["layout"]);
    peer(dir, "tar", &["-xf", "x.tar", "-C", "layout"]);
    // As other tools write it.
    let index: Value = serde_json::from_str(&dir.text("layout/index.json")).unwrap();
    let index = serde_json::json!({ "schemaVersion": 2, "manifests": [index["manifests"][0]] });
    dir.write("layout/index.json", index.to_string());
    peer(dir, "tar", &["-cf", "last.tar", "-C", "layout", "oci-layout", "blobs", "index.json"]);
    fixture.run(&["unarchive", "--check", "last.tar", "all-prefix=map.csv"]).ok();
    fixture.run(&["unarchive", "last.tar", "all-prefix=map.csv"]).ok();
    assert_eq!(fixture.broken(), Vec::<String>::new(), "a file is read all the same");
    for registry in ["a", "b"] {
        assert_eq!(fixture.sent(registry), vec![1; BLOBS]);
    }
    // A compressed file is read twice.
    let fixture = Fixture::new(Manners::default());
    peer(dir, "gzip", &["-k", "last.tar"]);
    fixture.dir.write("last.tar.gz", dir.read("last.tar.gz"));
    fixture.run(&["unarchive", "last.tar.gz", "all-prefix=map.csv"]).ok();
    assert_eq!(fixture.broken(), Vec::<String>::new());
    // A pipe is refused, with the way round, and nothing was sent.
    let fixture = Fixture::new(Manners::default());
    let words = ["mirror", "unarchive", "-q", "-", "all-prefix=map.csv"];
    let refused = ace_dt_with(&fixture.dir, &words, &dir.read("last.tar"));
    refused.fails(1, &["its index stands behind the blobs", "copy the archive to a file"]);
    assert!(fixture.servers.values().all(|server| server.requests().is_empty()));
}

#[test]
fn several_platforms_and_referrers() {
    let fixture = Fixture::new(Manners::default());
    let images = Scripted::honest(Content::golden());
    fixture.dir.write(
        "ace-dt-config.yaml",
        fixture.dir.text("ace-dt-config.yaml").replace(&fixture.source.endpoint(), &images.endpoint()),
    );
    fixture.dir.write("g", "reg.example.com/gold/library/alpha:v1\nreg.example.com/gold/charts/delta:0.1.0\n");
    fixture.run(&["archive", "-r", "g", "g.tar"]).ok();
    for (words, prefix) in [
        (&["unarchive", "-r", "g.tar"][..], "ur"),
        (&["clone", "-r", "g"], "cr"),
        (&["unarchive", "g.tar"], "u"),
        (&["clone", "g"], "c"),
    ] {
        let map = format!("nest=a.example.com/{prefix}");
        fixture.run(&[words, &[map.as_str(), "--verify"]].concat()).ok();
    }
    let receiver = &fixture.receivers["a"];
    let all = |prefix: &str| -> BTreeSet<String> {
        let under = |repository: &str| format!("{prefix}/reg.example.com/gold/{repository}");
        let mut all = BTreeSet::new();
        for (repository, tag) in [("library/alpha", "v1"), ("charts/delta", "0.1.0")] {
            assert_eq!(receiver.missing_below(&under(repository), tag), Vec::<String>::new());
            // Without the indexes of referrers that were made there.
            let is_golden = |digest: &String| golden().join("registry/blobs/sha256").join(&digest[7..]).exists();
            let digests = receiver.digests(&under(repository)).into_iter().filter(is_golden);
            all.extend(digests.map(|digest| format!("{repository} {digest}")));
        }
        all
    };
    assert_eq!(all("ur"), all("cr"), "the same referrers from an archive and from the source");
    assert_eq!(all("u"), all("c"));
    assert!(all("ur").len() > all("u").len(), "{:?}", all("ur"));
}

#[test]
fn what_is_missing_is_told_and_no_tag_is_set() {
    let fixture = Fixture::new(Manners::default());
    let archive = fixture.dir.read("x.tar");
    // A layer of `two` only.
    let layer = noise(4, 161_000);
    let at = archive.windows(64).position(|window| window == &layer[..64]).unwrap();
    let mut damaged = archive.clone();
    damaged[at] ^= 1;
    fixture.dir.write("bad.tar", damaged);
    let map = "all-prefix=map.csv";
    fixture.run(&["unarchive", "bad.tar", map]).fails(1, &["digest mismatch"]);
    for (registry, repository) in PLACES {
        assert!(fixture.receivers[registry].manifest(repository, "v1").is_none(), "{repository} has a tag");
    }
    let words = ["unarchive", "--continue", "--wanted", "again", "--report", "report", "bad.tar", map];
    let told = fixture.run(&words);
    assert!(told.status == 1 && told.err.contains("is missing, which"), "{}", told.err);
    assert_eq!(fixture.broken(), ["a/x/two", "a/y/two", "b/z/two"]);
    let again = fixture.dir.text("again");
    assert!(again.contains("reg.example.com/two:v1@sha256:") && again.contains(",env=prod"), "{again}");
    assert_eq!(again.lines().count(), 2, "{again}");
    let report: Vec<Value> = serde_json::from_str(&fixture.dir.text("report")).unwrap();
    let outcomes = |of: &str| -> Vec<&str> {
        let is_of = |record: &&Value| record["source"].as_str().is_some_and(|source| source.contains(of));
        report.iter().filter(is_of).map(|record| record["outcome"].as_str().unwrap()).collect()
    };
    assert_eq!((outcomes("two"), outcomes("one").len()), (vec!["incomplete"; 3], 4));
    assert!(outcomes("one").iter().all(|outcome| *outcome == "delivered"));
    // What is sent again completes it.
    fixture.run(&["archive", "again", "again.tar"]).ok();
    fixture.run(&["unarchive", "--continue", "bad.tar", "again.tar", map]);
    assert_eq!(fixture.broken(), Vec::<String>::new());
}

#[test]
fn a_source_that_fails_does_not_sink_the_rest() {
    let fixture = Fixture::new(Manners::default());
    fixture.dir.write("bad", format!("{LIST}reg.example.com/none:v1\n"));
    let map = "all-prefix=map.csv";
    fixture.run(&["clone", "bad", map]).fails(1, &["reg.example.com/none:v1"]);
    assert!(fixture.servers.values().all(|server| server.requests().is_empty()), "nothing was sent");
    let told = fixture.run(&["clone", "--continue", "--report", "report", "bad", map]);
    assert!(told.status == 1 && told.err.contains("reg.example.com/none:v1"), "{}", told.err);
    assert_eq!(fixture.broken(), Vec::<String>::new());
    let report: Vec<Value> = serde_json::from_str(&fixture.dir.text("report")).unwrap();
    let failed: Vec<&Value> = report.iter().filter(|record| record["outcome"] == "failed").collect();
    assert!(failed.len() == 1 && failed[0]["source"] == "reg.example.com/none:v1", "{failed:?}");
}

#[test]
fn tags_that_are_there() {
    let fixture = Fixture::new(Manners::default());
    // Another image has the tag of one destination.
    fixture.dir.write("other", "reg.example.com/two:v1\n");
    fixture.dir.write("t.tmpl", "a.example.com/x/one:v1\n");
    fixture.run(&["clone", "other", "go-template=t.tmpl"]).ok();
    let before = fixture.receivers["a"].manifest("x/one", "v1").unwrap();
    let map = "all-prefix=map.csv";
    let requests = fixture.servers["a"].requests().len();
    fixture.run(&["clone", "--on-existing-tag", "fail", "s", map]).fails(1, &["a.example.com/x/one:v1 is sha256:"]);
    let sent = fixture.servers["a"].requests().split_off(requests);
    assert!(sent.iter().all(|r| r.starts_with("GET") || r.starts_with("HEAD")), "nothing was sent: {sent:?}");
    fixture.run(&["clone", "--on-existing-tag", "keep", "--report", "report", "s", map]).ok();
    assert_eq!(fixture.receivers["a"].manifest("x/one", "v1").unwrap(), before);
    assert_eq!(fixture.dir.text("report").matches("\"kept\"").count(), 1);
    fixture.run(&["clone", "s", map]).ok();
    assert_ne!(fixture.receivers["a"].manifest("x/one", "v1").unwrap(), before, "it is moved by default");
    assert_eq!(fixture.broken(), Vec::<String>::new());
    // With the same image under each tag nothing is in the way.
    fixture.run(&["clone", "--on-existing-tag", "fail", "s", map]).ok();
}

#[test]
fn a_last_look_finds_what_a_registry_lost() {
    let is_lost = Arc::new(AtomicBool::new(false));
    let lost = is_lost.clone();
    let fixture = Fixture::with(Manners::default(), move |request, answer| {
        // It takes a manifest, and has another one from then on.
        if request.starts_with("PUT") && request.contains("x/one/manifests/v1") {
            lost.store(true, Ordering::SeqCst);
        }
        if lost.load(Ordering::SeqCst) && request.starts_with("GET") && request.contains("x/one/manifests/") {
            return Answer { status: 404, ..Answer::default() };
        }
        answer
    });
    fixture.run(&["unarchive", "x.tar", "all-prefix=map.csv"]).ok();
    let words = ["unarchive", "--verify", "x.tar", "all-prefix=map.csv"];
    fixture.run(&words).fails(1, &["looking again at", "x/one"]);
    is_lost.store(false, Ordering::SeqCst);
    fixture.run(&["deserialize", "--verify", "x.tar", "a.example.com/m:v1"]).ok();
}

#[test]
fn a_run_that_is_interrupted_goes_on() {
    let fixture = Fixture::new(Manners::default());
    let (dir, map) = (&fixture.dir, "all-prefix=map.csv");
    // The archive stops in the middle of the large blob.
    let archive = dir.read("x.tar");
    let at = archive.windows(64).position(|window| window == &noise(99, 64)[..]).unwrap();
    let words = ["mirror", "unarchive", "-q", "--checkpoint", "record", "-", map];
    let mut run = tool(dir, &words).stdin(Stdio::piped()).spawn().unwrap();
    use std::io::Write as _;
    let mut input = run.stdin.take().unwrap();
    input.write_all(&archive[..at + (1 << 20)]).unwrap();
    input.flush().unwrap();
    crate::util::wait_for("a record", || std::fs::metadata(dir.join("record")).is_ok_and(|meta| meta.len() > 0));
    run.kill().unwrap();
    run.wait().unwrap();
    drop(input);
    assert!(fixture.receivers.values().all(|r| r.manifest("x/big", "v1").is_none()));
    // Another map does not go on with it.
    let words = ["unarchive", "--checkpoint", "record", "--resume", "x.tar"];
    fixture.run(&[&words[..], &["nest=a.example.com"]].concat()).fails(1, &["the record is of a delivery to"]);
    fixture.run(&[&words[..], &[map]].concat()).ok();
    assert_eq!(fixture.broken(), Vec::<String>::new());
    assert!(!dir.join("record").exists());
}

/// Clones and unarchives into two registries, over and over until one ends with 0; what becomes of the tags meanwhile is
/// watched.
struct Watched {
    receivers: [Arc<Receiver>; 2],
    is_over: AtomicBool,
    looks: AtomicUsize,
}

impl Watched {
    /// Whether every tag that is there points to something whole.
    fn check(&self) {
        for (registry, repository) in PLACES {
            let receiver = &self.receivers[usize::from(registry == "b")];
            if receiver.manifest(repository, "v1").is_some() {
                let missing = receiver.missing_below(repository, "v1");
                assert!(missing.is_empty(), "{registry}/{repository}:v1 is there, and lacks {missing:?}");
            }
        }
        self.looks.fetch_add(1, Ordering::SeqCst);
    }

    fn watch(&self) {
        while !self.is_over.load(Ordering::SeqCst) {
            self.check();
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn is_whole(&self) -> bool {
        self.check();
        PLACES.iter().all(|(registry, repository)| {
            self.receivers[usize::from(*registry == "b")].manifest(repository, "v1").is_some()
        })
    }
}

/// What a run is given, by its number: from the source, from a file, or from a pipe.
fn soak_words(run: u64) -> Vec<&'static str> {
    let common = ["-q", "--http-timeout", "150ms", "--retries", "30", "all-prefix=map.csv"];
    let way: &[&str] = match run % 3 {
        0 => &["mirror", "clone", "s"],
        1 => &["mirror", "unarchive", "x.tar"],
        _ => &["mirror", "unarchive", "-m", "1Mi", "-"],
    };
    let keeps = if run % 2 == 1 { &["--continue"][..] } else { &[] };
    [way, keeps, &common[..]].concat()
}

#[test]
#[ignore = "long: make soak"]
fn soak_routes_through_faults() {
    const RUNS: u64 = 100;
    let fixture = Fixture::new(Manners::default());
    let archive = fixture.dir.read("x.tar");
    let (mut total, mut slowest, mut again, mut looks) = ([0; dealer::NAMES.len()], Duration::ZERO, 0, 0);
    for run in 0..RUNS {
        let manners = Manners { forgetful: run % 4 == 3, mounts_nothing: run % 5 == 4, ..Manners::default() };
        let receivers = [Receiver::new(manners), Receiver::new(manners)];
        let dealers = [Dealer::new(2 * run, 12, 20), Dealer::new(2 * run + 1, 12, 20)];
        let servers = [0, 1].map(|n| dealers[n].registry(&receivers[n], |_| None));
        write_config(&fixture.dir, &fixture.source, servers.each_ref());
        let watched = Watched { receivers, is_over: AtomicBool::new(false), looks: AtomicUsize::new(0) };
        std::thread::scope(|scope| {
            let watcher = scope.spawn(|| watched.watch());
            let begun = std::time::Instant::now();
            for attempt in 0.. {
                assert!(attempt < 20, "run {run} does not end");
                let words = soak_words(run);
                let outcome = match words.contains(&"-") {
                    true => ace_dt_with(&fixture.dir, &words, &archive),
                    false => ace_dt(&fixture.dir, &words),
                };
                again += usize::from(attempt > 0);
                if outcome.status == 0 {
                    break;
                }
                assert_eq!(outcome.status, 1, "run {run}: {}", outcome.err);
            }
            slowest = slowest.max(begun.elapsed());
            watched.is_over.store(true, Ordering::SeqCst);
            watcher.join().unwrap();
        });
        assert!(watched.is_whole(), "run {run} ended with 0, and not all is there");
        looks += watched.looks.load(Ordering::SeqCst);
        for dealer in &dealers {
            dealer.dealt().iter().zip(&mut total).for_each(|(n, total)| *total += n);
        }
    }
    let (slowest, faults) = (slowest.as_secs_f64(), dealer::in_words(&total));
    println!(
        "{RUNS} clones and unarchives, {again} repeated, all whole, no tag too early in {looks} looks, slowest {slowest:.1} s; \
         faults: {faults}"
    );
    assert!(total.iter().enumerate().all(|(kind, n)| *n > 0 || kind == 4), "{total:?}");
}

#[test]
#[ignore = "long: make soak"]
fn soak_routes_killed() {
    const RUNS: u64 = 100;
    let fixture = Fixture::new(Manners::default());
    let archive = fixture.dir.read("x.tar");
    let (mut kills, mut runs, mut looks) = (0, 0, 0);
    for run in 0..RUNS {
        let receivers = [0, 1].map(|_| Receiver::new(Manners { mounts_nothing: run % 5 == 4, ..Manners::default() }));
        // A little slower than it could be, so that there is something to kill.
        let servers = [0, 1].map(|n| {
            let honest = receivers[n].clone();
            Scripted::start(Content::default(), move |request, _| Answer {
                delay: Duration::from_millis(2),
                ..honest.answer(request)
            })
        });
        write_config(&fixture.dir, &fixture.source, servers.each_ref());
        let watched = Watched { receivers, is_over: AtomicBool::new(false), looks: AtomicUsize::new(0) };
        std::thread::scope(|scope| {
            let watcher = scope.spawn(|| watched.watch());
            for attempt in 0u64.. {
                assert!(attempt < 40, "run {run} does not end");
                runs += 1;
                let mut child =
                    tool(&fixture.dir, &soak_words(run)).stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
                let input = child.stdin.take().unwrap();
                let archive = &archive;
                let writer = scope.spawn(move || {
                    let mut input = input;
                    let _ = std::io::Write::write_all(&mut input, archive);
                });
                let patience = Duration::from_millis(5 + (run * 37 + attempt * 53) % 70 + attempt * 10);
                let begun = std::time::Instant::now();
                let status = loop {
                    if let Some(status) = child.try_wait().unwrap() {
                        break Some(status);
                    }
                    if begun.elapsed() > patience {
                        child.kill().unwrap();
                        child.wait().unwrap();
                        break None;
                    }
                    std::thread::sleep(Duration::from_millis(1));
                };
                writer.join().unwrap();
                match status {
                    Some(status) => {
                        assert!(status.success(), "run {run}: {status}");
                        break;
                    }
                    None => kills += 1,
                }
            }
            watched.is_over.store(true, Ordering::SeqCst);
            watcher.join().unwrap();
        });
        assert!(watched.is_whole(), "run {run} ended with 0, and not all is there");
        looks += watched.looks.load(Ordering::SeqCst);
    }
    println!(
        "{RUNS} clones and unarchives, {kills} kills in {runs} runs, all whole, no tag too early in {looks} looks"
    );
    assert!(kills >= 100, "{kills} kills");
}

/// What an increment leaves out is found at other destinations of the run; a referrer that is not where its subject goes is
/// missing, wherever else it is.
#[test]
fn increments_find_what_they_leave_out() {
    let dir = Dir::new();
    fs::copy(golden().join("archives/recursive.tar"), dir.join("golden.tar")).unwrap();
    let source = crate::serving::Serving::start(&dir, &["golden.tar"]);
    fs::create_dir_all(dir.join("storage")).unwrap();
    let registry = Registry::start(&dir.join("storage"));
    configure_source(&dir, &format!("http://{}", source.host), 25);
    let endpoint = format!("    high.example.com:\n      endpoints: [\"http://127.0.0.1:{}\"]\n", registry.port);
    dir.write("ace-dt-config.yaml", dir.text("ace-dt-config.yaml") + &endpoint);
    let archive = |name: &str, sources: &[&str], more: &[&str]| {
        dir.write("s", sources.iter().map(|source| format!("reg.example.com/{source}\n")).collect::<String>());
        let checkpoint = format!("{name}.checkpoint");
        let words = ["mirror", "archive", "-q", "-r", "--checkpoint", &checkpoint, "s", name];
        ace_dt(&dir, &[&words[..], more].concat()).ok();
    };
    let alpha = "gold/library/alpha:v1";
    archive("w48.tar", &[alpha, "gold/charts/delta:0.1.0"], &[]);
    archive(
        "w49.tar",
        &[alpha, "gold/charts/delta:0.1.0", "gold/data/epsilon:v1"],
        &["--existing-from-checkpoint", "w48.tar.checkpoint"],
    );
    let deliver = |words: &[&str]| ace_dt(&dir, &[&["mirror", "unarchive", "-q", "-r", "--verify"], words].concat());
    let nest = "nest=high.example.com/weekly";
    deliver(&["w49.tar", nest]).fails(1, &["neither in the archive nor at a destination", "archives before it"]);
    deliver(&["w48.tar", nest]).ok();
    deliver(&["w49.tar", nest]).ok();
    // The same image under another name: its signature is not there.
    let (delta, again) = ("gold/charts/delta:0.1.0", "reg.example.com/gold/charts/delta:0.1.0");
    archive("w50.tar", &[delta, again], &["--existing-from-checkpoint", "w48.tar.checkpoint"]);
    deliver(&["w50.tar", nest]).fails(1, &["refers to", "neither in the archive nor in high.example.com/weekly/"]);
    deliver(&["w50.tar", "w48.tar", nest]).ok();
    deliver(&["w50.tar", nest]).ok();
}
