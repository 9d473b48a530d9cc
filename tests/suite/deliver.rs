//! `mirror deserialize`: damage, interruptions, and what registries do meanwhile.

use std::{
    fs,
    io::Write as _,
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
    push::configure,
    receiver::{Manners, Receiver},
    registry::golden,
    scripted::{Answer, Content, Scripted},
    util::{Dir, Outcome, Signal, ace_dt, ace_dt_with, finish, noise, send, tool, wait_for},
};

/// Two images that share a layer, a third one, and a referrer.
fn content() -> Content {
    let mut content = Content::default();
    let layer = |n: u64| noise(n, 1000 + 40_000 * n as usize);
    content.image("one", "v1", &[layer(1), layer(2), layer(3)]);
    content.image("two", "v1", &[layer(3), layer(4)]);
    content.image("big", "v1", &[noise(99, 3 << 20)]);
    content
}

const LIST: &str = "reg.example.com/big:v1,size=large\nreg.example.com/one:v1\nreg.example.com/two:v1,env=prod\n";

/// A source with three images, their archive `x.tar`, and a destination.
struct Fixture {
    dir: Dir,
    source: Scripted,
    receiver: Arc<Receiver>,
    dest: Scripted,
}

impl Fixture {
    fn new() -> Fixture {
        Fixture::with(|_, answer| answer)
    }

    /// `hook` changes what the destination answers.
    fn with(hook: impl Fn(&str, Answer) -> Answer + Send + Sync + 'static) -> Fixture {
        let (dir, source) = (Dir::new(), Scripted::honest(content()));
        let receiver = Receiver::new(Manners::default());
        let honest = receiver.clone();
        let dest = Scripted::start(Content::default(), move |request, _| {
            let answer = honest.answer(request);
            hook(&format!("{} {}", request.method, request.path), answer)
        });
        configure(&dir, &source.endpoint(), &dest.endpoint());
        dir.write("s", LIST);
        ace_dt(&dir, &["mirror", "archive", "-q", "s", "x.tar"]).ok();
        Fixture { dir, source, receiver, dest }
    }

    fn deserialize(&self, words: &[&str]) -> Outcome {
        ace_dt(&self.dir, &[&["mirror", "deserialize", "-q"], words].concat())
    }

    /// What is missing below a tag; `None` if it is not there.
    fn missing(&self, repository: &str, tag: &str) -> Option<Vec<String>> {
        self.receiver.manifest(repository, tag)?;
        Some(self.receiver.missing_below(repository, tag))
    }

    /// Blobs that were sent, as far as they have a digest in a request.
    fn sent(&self) -> usize {
        self.dest.requests().iter().filter(|r| r.starts_with("PUT") && r.contains("/blobs/uploads/")).count()
    }
}

fn is_whole(missing: Option<Vec<String>>) -> bool {
    missing == Some(Vec::new())
}

/// Where a blob of so many bytes begins in an archive.
fn find(archive: &[u8], bytes: &[u8]) -> usize {
    archive.windows(64).position(|window| window == &bytes[..64]).unwrap()
}

#[test]
fn every_blob_is_asked_for_and_sent_once() {
    let fixture = Fixture::new();
    fixture.deserialize(&["x.tar", "dest.example.com/m:v1"]).ok();
    assert!(is_whole(fixture.missing("m", "v1")));
    let mut requests = fixture.dest.requests();
    assert_eq!(requests.iter().filter(|r| r.starts_with("POST")).count(), 6, "layers and the configuration");
    requests.retain(|r| !r.starts_with("POST"));
    let all = requests.len();
    requests.sort();
    requests.dedup();
    assert_eq!(requests.len(), all, "nothing is asked for or sent twice: {requests:?}");
    // Again: all is there.
    let before = fixture.dest.requests().len();
    fixture.deserialize(&["x.tar", "dest.example.com/m:v2"]).ok();
    let again = fixture.dest.requests().split_off(before);
    let puts: Vec<&String> = again.iter().filter(|r| !r.starts_with("HEAD")).collect();
    assert_eq!(puts, ["PUT /v2/m/manifests/v2"], "nothing is sent twice but the tag");
    assert!(is_whole(fixture.missing("m", "v2")));
}

#[test]
fn a_dry_run_says_to_the_byte_what_is_sent() {
    let fixture = Fixture::new();
    let said = |image: &str| {
        ace_dt(&fixture.dir, &["mirror", "deserialize", "-q", "--dry-run", "x.tar", image]).ok().text().to_string()
    };
    let run = |image: &str| {
        let words = ["mirror", "deserialize", "--progress", "json", "--report", "report", "x.tar", image];
        let outcome = ace_dt(&fixture.dir, &words).ok();
        let last = outcome.err.lines().find(|line| line.contains("\"delivered\"")).unwrap().to_string();
        serde_json::from_str::<Value>(&last).unwrap()
    };
    let grouped = |n: &Value| {
        let digits = n.to_string();
        let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().map(|g| std::str::from_utf8(g).unwrap()).collect();
        groups.join(",")
    };
    for (image, sent) in [("dest.example.com/dry:v1", 6), ("dest.example.com/dry:v2", 0)] {
        let (before, planned) = (fixture.dest.requests().len(), said(image));
        assert!(fixture.dest.requests()[before..].iter().all(|r| r.starts_with("HEAD") || r.starts_with("GET")));
        let done = run(image);
        let should = format!(
            "to send: {} blobs and {} manifests, {} bytes",
            done["sent"],
            done["manifests"],
            grouped(&done["bytes"])
        );
        assert!(planned.starts_with(&should), "{planned} {should}");
        assert_eq!(done["sent"], sent);
    }
    // All is read and checked, also what is there.
    let mut bad = fixture.dir.read("x.tar");
    let at = find(&bad, &noise(4, 161_000));
    bad[at] ^= 1;
    fixture.dir.write("bad.tar", &bad);
    fixture.deserialize(&["bad.tar", "dest.example.com/dry:v3"]).ok();
    fixture.deserialize(&["--dry-run", "bad.tar", "dest.example.com/dry:v3"]).fails(1, &["digest mismatch"]);
}

/// A destination that has what images were gathered from, and its archive `back.tar`.
fn gathered_from_the_destination(hook: impl Fn(&str, Answer) -> Answer + Send + Sync + 'static) -> Fixture {
    let fixture = Fixture::with(hook);
    for name in ["one", "two", "big"] {
        fixture.dir.write("map.csv", format!("reg.example.com/{name}:v1,dest.example.com/low/{name}:v1\n"));
        ace_dt(&fixture.dir, &["mirror", "unarchive", "-q", "x.tar", "first-prefix=map.csv", "--continue"]);
    }
    fixture.dir.write("s", LIST.replace("reg.example.com/", "dest.example.com/low/"));
    ace_dt(&fixture.dir, &["mirror", "archive", "-q", "s", "back.tar"]).ok();
    fixture
}

#[test]
fn what_its_source_has_in_the_same_registry_is_mounted() {
    let fixture = gathered_from_the_destination(|_, answer| answer);
    let planned =
        ace_dt(&fixture.dir, &["mirror", "deserialize", "-q", "--dry-run", "back.tar", "dest.example.com/m:v1"]).ok();
    assert!(planned.text().starts_with("to send: 0 blobs and 4 manifests"), "{}", planned.text());
    for (image, input) in [("m", None), ("n", Some(fixture.dir.read("back.tar")))] {
        let (before, sent) = (fixture.dest.requests().len(), fixture.sent());
        let name = format!("dest.example.com/{image}:v1");
        let words = |file| ["mirror", "deserialize", "-q", "--report", "report", file, name.as_str()];
        match input {
            None => ace_dt(&fixture.dir, &words("back.tar")).ok(),
            Some(bytes) => ace_dt_with(&fixture.dir, &words("-"), &bytes).ok(),
        };
        assert!(is_whole(fixture.missing(image, "v1")));
        assert_eq!(fixture.sent(), sent, "every blob is mounted");
        let mounts = fixture.dest.requests()[before..].iter().filter(|r| r.contains("mount=")).count();
        assert_eq!(mounts, 6);
        let report = String::from_utf8(fixture.dir.read("report")).unwrap();
        assert_eq!(report.matches("\"mounted\"").count(), 6, "{report}");
    }
}

/// What is gone from its source, or closed to us there, is sent, and not asked for there for ever.
#[test]
fn what_its_source_has_no_more_is_sent() {
    let closed = Arc::new(AtomicBool::new(false));
    let is_closed = closed.clone();
    let fixture = gathered_from_the_destination(move |request, answer| {
        let is_origin = request.starts_with("HEAD /v2/low/") && request.contains("/blobs/");
        match is_origin && is_closed.load(Ordering::SeqCst) {
            true => Answer { status: 403, ..Answer::default() },
            false => answer,
        }
    });
    closed.store(true, Ordering::SeqCst);
    let before = fixture.dest.requests().len();
    fixture.deserialize(&["back.tar", "dest.example.com/m:v1"]).ok();
    assert!(is_whole(fixture.missing("m", "v1")));
    let requests = fixture.dest.requests().split_off(before);
    assert!(requests.iter().all(|r| !r.contains("mount=")));
    let asked = requests.iter().filter(|r| r.starts_with("HEAD /v2/low/")).count();
    assert!((1..=6).contains(&asked), "{asked}");
}

#[test]
fn a_blob_larger_than_the_buffer_streams_through_it() {
    let fixture = Fixture::new();
    let archive = fixture.dir.read("x.tar");
    for (words, tag) in [(&["-m", "64Ki", "-b", "4Ki"][..], "a"), (&["-m", "1Mi", "--lwm", "0"], "b"), (&[], "c")] {
        let image = format!("dest.example.com/{tag}:v1");
        let all = [&["mirror", "deserialize", "-q", "-"][..], &[image.as_str()], words].concat();
        ace_dt_with(&fixture.dir, &all, &archive).ok();
        assert!(is_whole(fixture.missing(tag, "v1")), "{words:?}");
    }
    // Compressed, too, with both buffers smaller than the blob.
    for format in ["zstd", "gzip"] {
        ace_dt(&fixture.dir, &["mirror", "archive", "-q", "--force", "--compression", format, "s", "z"]).ok();
        fixture.deserialize(&["-m", "128Ki", "-b", "4Ki", "z", &format!("dest.example.com/{format}:v1")]).ok();
        assert!(is_whole(fixture.missing(format, "v1")), "{format}");
    }
}

#[test]
fn what_breaks_while_it_streams_by_is_sent_again_out_of_the_buffer() {
    let (broken, dir) = (Arc::new(AtomicUsize::new(0)), Dir::new());
    let (receiver, count) = (Receiver::new(Manners::default()), broken.clone());
    let honest = receiver.clone();
    let dest = Scripted::cutting(
        Content::default(),
        move |request, _| honest.answer(request),
        move |method, _, length| {
            let cut = method == "PUT" && length > 1 << 20 && count.fetch_add(1, Ordering::SeqCst) == 0;
            cut.then_some(length / 2)
        },
    );
    let source = Scripted::honest(content());
    configure(&dir, &source.endpoint(), &dest.endpoint());
    dir.write("s", LIST);
    ace_dt(&dir, &["mirror", "archive", "-q", "s", "x.tar"]).ok();
    let words = ["mirror", "deserialize", "-q", "-m", "8Mi", "-", "dest.example.com/m:v1"];
    let outcome = ace_dt_with(&dir, &words, &dir.read("x.tar")).ok();
    assert!(outcome.err.contains("trying again"), "{}", outcome.err);
    assert_eq!(receiver.missing_below("m", "v1"), Vec::<String>::new());
}

#[test]
fn damage_does_not_sink_the_rest_and_what_is_wanted_completes_it() {
    let fixture = Fixture::new();
    let mut archive = fixture.dir.read("x.tar");
    let layer = noise(4, 161_000);
    let at = find(&archive, &layer);
    archive[at + 5000] ^= 1;
    fixture.dir.write("bad.tar", &archive);
    // Without --continue nothing is tagged.
    fixture.deserialize(&["bad.tar", "dest.example.com/m:v1"]).fails(1, &["digest mismatch", "blob at offset"]);
    assert_eq!(fixture.missing("m", "v1"), None);
    let words = ["--continue", "--wanted", "again", "--report", "report", "bad.tar", "dest.example.com/m:v1"];
    let outcome = fixture.deserialize(&words);
    assert!(outcome.status == 1 && outcome.err.contains("no tag was set"), "{}", outcome.err);
    let missing = Digest::of(&layer).to_string();
    assert!(outcome.err.contains(&format!("{missing} is missing, which sha256:")), "{}", outcome.err);
    assert_eq!(fixture.missing("m", "v1"), None, "the root is not whole");
    let wanted = fixture.dir.text("again");
    let lines: Vec<&str> = wanted.lines().collect();
    assert!(lines.len() == 2 && lines[0].starts_with('#'), "{wanted}");
    assert!(lines[1].starts_with("reg.example.com/two:v1@sha256:") && lines[1].ends_with(",env=prod"), "{wanted}");
    let report: Value = serde_json::from_slice(&fixture.dir.read("report")).unwrap();
    let outcome_of = |source: &str| {
        report.as_array().unwrap().iter().find(|r| r["source"] == source).unwrap()["outcome"].as_str().unwrap()
    };
    assert_eq!(outcome_of("reg.example.com/one:v1"), "delivered");
    assert_eq!(outcome_of("reg.example.com/two:v1"), "incomplete");
    let failed = |r: &&Value| r["outcome"] == "failed";
    let failed: Vec<&Value> = report.as_array().unwrap().iter().filter(failed).collect();
    assert!(failed.len() == 1 && failed[0]["blob"] == missing.as_str(), "{failed:?}");
    // The images that are whole are there as manifests.
    let one = report.as_array().unwrap().iter().find(|r| r["source"] == "reg.example.com/one:v1").unwrap();
    assert_eq!(fixture.receiver.missing_below("m", one["digest"].as_str().unwrap()), Vec::<String>::new());
    // The low side archives what is wanted; both together are whole.
    ace_dt(&fixture.dir, &["mirror", "archive", "-q", "again", "again.tar"]).ok();
    fixture.deserialize(&["--continue", "bad.tar", "again.tar", "dest.example.com/m:v1"]);
    assert!(is_whole(fixture.missing("m", "v1")));
    // Or one after the other.
    assert_eq!(fixture.deserialize(&["--continue", "bad.tar", "dest.example.com/n:v1"]).status, 1);
    fixture.deserialize(&["again.tar", "dest.example.com/n:again"]).ok();
    fixture.deserialize(&["--continue", "bad.tar", "dest.example.com/n:v1"]).ok();
    assert!(is_whole(fixture.missing("n", "v1")));
    drop(fixture.source);
}

#[test]
fn what_is_wanted_is_known_by_verify_too() {
    let fixture = Fixture::new();
    let mut archive = fixture.dir.read("x.tar");
    let root = ace_dt(&fixture.dir, &["mirror", "verify", "-q", "x.tar"]).ok();
    drop(root);
    let at = find(&archive, &noise(2, 81_000));
    archive[at] ^= 1;
    fixture.dir.write("bad.tar", &archive);
    ace_dt(&fixture.dir, &["mirror", "verify", "-q", "--wanted", "again", "bad.tar"]).fails(1, &["one thing is wrong"]);
    let wanted = fixture.dir.text("again");
    assert!(wanted.lines().count() == 2 && wanted.contains("reg.example.com/one:v1@sha256:"), "{wanted}");
    // A list of somebody's is not written over.
    fixture.dir.write("mine", "reg.example.com/x");
    ace_dt(&fixture.dir, &["mirror", "verify", "-q", "--wanted", "mine", "bad.tar"]).fails(1, &["is no list"]);
    // The root that was announced.
    let index = String::from_utf8_lossy(&fixture.dir.read("x.tar")).into_owned();
    let digest = index.split("\"digest\": \"").nth(1).unwrap().split('"').next().unwrap().to_string();
    ace_dt(&fixture.dir, &["mirror", "verify", "-q", "--root", &digest, "x.tar"]).ok();
    let other = Digest::of(b"other").to_string();
    let outcome = ace_dt(&fixture.dir, &["mirror", "verify", "-q", "--root", &other, "x.tar"]).fails(1, &["wrong"]);
    assert!(outcome.text().contains("should be the root"), "{}", outcome.text());
}

/// Whatever becomes of an archive, no tag points to what is not whole.
fn never_a_tag_on_what_is_not_whole(fixture: &Fixture, archive: &[u8], what: &str, tag: &str) {
    for piped in [false, true] {
        let image = format!("dest.example.com/{tag}{}:v1", u8::from(piped));
        let outcome = match piped {
            true => ace_dt_with(&fixture.dir, &["mirror", "deserialize", "-q", "-", &image], archive),
            false => {
                fixture.dir.write("hostile.tar", archive);
                fixture.deserialize(&["hostile.tar", &image])
            }
        };
        // What a registry said of a referrer is protected by nothing, and matters to nobody: `verify` takes it, too.
        if outcome.status == 0 {
            fixture.dir.write("hostile.tar", archive);
            ace_dt(&fixture.dir, &["mirror", "verify", "-q", "hostile.tar"]).ok();
        } else {
            assert_eq!(outcome.status, 1, "{what}: {}", outcome.err);
            assert!(outcome.err.starts_with("ace-dt: "), "{what}: {}", outcome.err);
        }
        let repository = format!("{tag}{}", u8::from(piped));
        assert!(fixture.missing(&repository, "v1").is_none_or(|missing| missing.is_empty()), "{what}: {}", outcome.err);
    }
}

#[test]
fn cut_at_every_block() {
    let fixture = Fixture::new();
    let archive = fs::read(golden().join("archives/ser-recursive.tar")).unwrap();
    for at in (0..archive.len()).step_by(512) {
        never_a_tag_on_what_is_not_whole(&fixture, &archive[..at], &format!("cut at {at}"), &format!("c{at}-"));
    }
}

#[test]
fn some_flipped_bits() {
    flip_bits(60, 7);
}

#[test]
#[ignore = "long: make soak"]
fn soak_flipped_bits() {
    flip_bits(5000, 1);
    println!("10,000 archives with a flipped bit, half of them from a pipe: told, and no tag on what is not whole");
}

fn flip_bits(count: u64, seed: u64) {
    let fixture = Fixture::new();
    let archive = fs::read(golden().join("archives/ser-recursive.tar")).unwrap();
    for n in 0..count {
        let random = noise(seed * 1_000_003 + n, 8);
        let at = u64::from_le_bytes(random.try_into().unwrap()) as usize % (archive.len() * 8);
        let mut bad = archive.clone();
        bad[at / 8] ^= 1 << (at % 8);
        never_a_tag_on_what_is_not_whole(&fixture, &bad, &format!("bit {at}"), &format!("f{n}-"));
    }
}

#[test]
fn a_signal_tells_what_is_delivered_and_how_to_go_on() {
    let stalled = Arc::new(AtomicBool::new(true));
    let stall = stalled.clone();
    let fixture = Fixture::with(move |request, mut answer| {
        // The last blob of the archive.
        let last = Digest::of(&noise(4, 161_000)).to_string();
        if stall.load(Ordering::SeqCst) && request.starts_with("PUT") && request.contains(&last) {
            answer.delay = Duration::from_secs(60);
        }
        answer
    });
    let last = Digest::of(&noise(4, 161_000)).to_string();
    for (n, from_pipe) in [false, true].into_iter().enumerate() {
        stalled.store(true, Ordering::SeqCst);
        let (image, record) = (format!("dest.example.com/s{n}:v1"), format!("record{n}"));
        let words = ["--checkpoint", &record, if from_pipe { "/dev/stdin" } else { "x.tar" }, &image];
        let archive = fixture.dir.read("x.tar");
        let run = |more: &[&str]| {
            let all = [&["mirror", "deserialize", "-q"], &words[..], more].concat();
            let mut child = tool(&fixture.dir, &all).stdin(Stdio::piped()).spawn().unwrap();
            let (mut stdin, archive) = (child.stdin.take().unwrap(), archive.clone());
            std::thread::spawn(move || drop(stdin.write_all(&archive)));
            child
        };
        let child = run(&[]);
        let put = |r: &String| r.starts_with("PUT") && r.contains(&last) && r.contains(&format!("/s{n}/"));
        wait_for("the last blob", || fixture.dest.requests().iter().any(put));
        // Recorded while it runs.
        wait_for("the record", || fixture.dir.join(&record).exists());
        send(&child, Signal::SIGTERM);
        let outcome = finish(child)
            .fails(143, &["blobs and 2 manifests; there already: ", "to go on: ace-dt mirror deserialize"]);
        assert!(outcome.err.contains("--resume"), "{}", outcome.err);
        stalled.store(false, Ordering::SeqCst);
        let before = fixture.sent();
        finish(run(&["--resume"])).ok();
        assert!(fixture.sent() - before <= 1, "only the last blob, if that");
        assert!(is_whole(fixture.missing(&format!("s{n}"), "v1")));
        assert!(!fixture.dir.join(&record).exists(), "nothing is left to go on with");
    }
}

#[test]
fn an_upload_session_of_a_run_that_was_killed_is_taken_up() {
    let (stalled, dir) = (Arc::new(AtomicBool::new(true)), Dir::new());
    let (receiver, stall) = (Receiver::new(Manners::default()), stalled.clone());
    let honest = receiver.clone();
    let chunks = Arc::new(AtomicUsize::new(0));
    let seen = chunks.clone();
    let dest = Scripted::start(Content::default(), move |request, _| {
        let mut answer = honest.answer(request);
        if request.method == "PATCH" && seen.fetch_add(1, Ordering::SeqCst) == 3 && stall.load(Ordering::SeqCst) {
            answer.delay = Duration::from_secs(60);
        }
        answer
    });
    let source = Scripted::honest(content());
    configure(&dir, &source.endpoint(), &dest.endpoint());
    dir.write("s", "reg.example.com/big:v1");
    ace_dt(&dir, &["mirror", "archive", "-q", "s", "x.tar"]).ok();
    let words = ["mirror", "deserialize", "-q", "--checkpoint", "record", "x.tar", "dest.example.com/m:v1"];
    let mut child = tool(&dir, &words).env("ACE_DT_CHUNK_SIZE", "512Ki").spawn().unwrap();
    wait_for("four chunks", || chunks.load(Ordering::SeqCst) == 4);
    wait_for("the record of the session", || {
        fs::read_to_string(dir.join("record")).is_ok_and(|text| text.contains("/blobs/uploads/"))
    });
    child.kill().unwrap();
    child.wait().unwrap();
    stalled.store(false, Ordering::SeqCst);
    let before = receiver.received();
    let all = [&words[..], &["--resume"]].concat();
    finish(tool(&dir, &all).env("ACE_DT_CHUNK_SIZE", "512Ki").spawn().unwrap()).ok();
    assert_eq!(receiver.missing_below("m", "v1"), Vec::<String>::new());
    let sent = receiver.received() - before;
    assert!(sent < 2 << 20, "{sent} bytes of 3 MiB were sent again");
    let begun = dest.requests().iter().filter(|r| r.starts_with("POST")).count();
    assert_eq!(begun, 2, "of the layer and of the configuration");
}

#[test]
#[ignore = "long: make soak"]
fn soak_kills() {
    const KILLS: u64 = 200;
    let (mut killed, mut runs, mut run) = (0, 0, 0);
    while killed < KILLS {
        run += 1;
        let fixture = Fixture::with(|_, mut answer| {
            answer.delay = Duration::from_millis(5);
            answer
        });
        let archive = fixture.dir.read("x.tar");
        let words: &[&str] = match run % 4 {
            0 => &["x.tar"],
            1 => &["--checkpoint", "record", "--resume", "x.tar"],
            2 => &["-m", "256Ki", "-b", "16Ki", "/dev/stdin"],
            _ => &["-m", "256Ki", "-b", "16Ki", "--checkpoint", "record", "--resume", "/dev/stdin"],
        };
        for attempt in 0_u64.. {
            let all = [&["mirror", "deserialize", "-q"], words, &["dest.example.com/m:v1"]].concat();
            let mut child = tool(&fixture.dir, &all).stdin(Stdio::piped()).spawn().unwrap();
            let (mut stdin, archive) = (child.stdin.take().unwrap(), archive.clone());
            let feeder = std::thread::spawn(move || drop(stdin.write_all(&archive)));
            let random = noise(run * 1009 + attempt, 2);
            let moment = u64::from(u16::from_le_bytes([random[0], random[1]])) % 50 * (1 + attempt);
            std::thread::sleep(Duration::from_millis(moment));
            runs += 1;
            let done = match child.try_wait().unwrap() {
                Some(_) => Some(finish(child).ok()),
                None => {
                    child.kill().unwrap();
                    child.wait().unwrap();
                    killed += 1;
                    None
                }
            };
            let _ = feeder.join();
            assert!(fixture.missing("m", "v1").is_none_or(|missing| missing.is_empty()), "run {run}: a tag too early");
            if done.is_some() {
                break;
            }
        }
        assert!(is_whole(fixture.missing("m", "v1")), "run {run}");
    }
    println!("{run} deliveries, {runs} runs, {killed} of them killed: all whole at the end, never a tag too early");
}

/// A large blob in a file is hashed by the registry alone, where that is known to do it.
#[test]
fn what_the_registry_checks_is_not_hashed_twice_and_what_it_does_not_check_is() {
    for checks in [true, false] {
        let receiver = Receiver::new(Manners::default());
        let honest = receiver.clone();
        let dest = Scripted::start(Content::default(), move |request, _| {
            let answer = honest.answer(request);
            let is_refusal = request.method == "PUT" && request.path.contains("/uploads/") && answer.status == 400;
            if is_refusal && !checks { Answer { status: 201, ..Answer::default() } } else { answer }
        });
        let mut content = Content::default();
        let large = |n: u64| noise(n, 9 << 20);
        content.image("app", "v1", &[large(1), large(2)]);
        let (dir, source) = (Dir::new(), Scripted::honest(content));
        configure(&dir, &source.endpoint(), &dest.endpoint());
        dir.write("s", "reg.example.com/app:v1");
        ace_dt(&dir, &["mirror", "archive", "-q", "s", "x.tar"]).ok();
        let deserialize = |archive: &str, image: &str| ace_dt(&dir, &["mirror", "deserialize", "-q", archive, image]);
        deserialize("x.tar", "dest.example.com/m:v1").ok();
        assert_eq!(receiver.missing_below("m", "v1"), Vec::<String>::new());
        assert_eq!(receiver.open_sessions(), 0);
        // Two layers, a configuration, and one question.
        assert_eq!(dest.requests().iter().filter(|r| r.starts_with("POST")).count(), 4, "{checks}");
        let mut bad = dir.read("x.tar");
        let at = find(&bad, &large(2));
        bad[at + (5 << 20)] ^= 1;
        dir.write("bad.tar", &bad);
        let outcome = deserialize("bad.tar", "dest.example.com/n:v1").fails(1, &["digest mismatch: what came was"]);
        assert!(!outcome.err.contains("takes no chunks"), "{}", outcome.err);
        assert_eq!(receiver.manifest("n", "v1"), None);
        assert_eq!(receiver.blob("n", &Digest::of(&large(2))), None);
    }
}

#[test]
fn what_a_record_is_not_of_is_refused_and_the_record_stays() {
    let fixture = Fixture::with(|request, mut answer| {
        if request.starts_with("PUT") && request.contains(&Digest::of(&noise(4, 161_000)).to_string()) {
            answer = Answer { status: 403, ..Answer::default() };
        }
        answer
    });
    let image = "dest.example.com/r:v1";
    fixture.deserialize(&["--checkpoint", "record", "x.tar", image]).fails(1, &["403"]);
    let record = fixture.dir.read("record");
    fixture.dir.write("one", "reg.example.com/one:v1");
    ace_dt(&fixture.dir, &["mirror", "archive", "-q", "one", "other.tar"]).ok();
    fixture.deserialize(&["--checkpoint", "record", "--resume", "other.tar", image]).fails(1, &["another archive"]);
    let other = fixture.dir.read("other.tar");
    let words = ["mirror", "deserialize", "-q", "--checkpoint", "record", "--resume", "-", image];
    ace_dt_with(&fixture.dir, &words, &other).fails(1, &["another archive"]);
    assert!(fixture.dir.read("record") == record, "the record is of x.tar still");
    // A path that cannot be written is found out at once, and a record that is not there is told.
    fixture.deserialize(&["--checkpoint", "none/record", "x.tar", image]).fails(1, &["none/record"]);
    let outcome = fixture.deserialize(&["--checkpoint", "typo", "--resume", "other.tar", "dest.example.com/s:v1"]).ok();
    assert!(outcome.err.contains("there is no record \"typo\""), "{}", outcome.err);
}

#[test]
fn a_registry_that_is_not_there_ends_the_run_and_asks_for_nothing() {
    let fixture = Fixture::new();
    let free = crate::util::free_port();
    let image = format!("127.0.0.1:{free}/m:v1");
    let run = |words: &[&str]| fixture.deserialize(&[&["--retries", "0", "x.tar", &image], words].concat());
    for words in [&["--dry-run"][..], &["--continue", "--wanted", "again"], &[]] {
        run(words).fails(1, &["Connection refused"]);
    }
    assert_eq!(fs::read(fixture.dir.join("again")).unwrap_or_default(), b"");
}
