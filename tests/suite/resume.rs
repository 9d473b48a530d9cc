//! `--resume`: whatever ended a run, the same command goes on, and the end is the archive of a run
//! that nobody ended. `make soak` kills 200 times.

use std::{
    fs,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    registry::configure,
    scripted::{Content, Scripted},
    util::{Dir, Outcome, ace_dt, finish, noise, tool},
};

const COMPRESSIONS: [&[&str]; 3] = [&[], &["--compression", "zstd"], &["--compression", "gzip"]];

/// Two images: layers of noise and of text, from one byte to 5 MB.
fn content(tag: u64) -> Content {
    let mut content = Content::default();
    let text: Vec<u8> = (0..200_000u64).flat_map(|n| format!("line {} of {tag}\n", n * n).into_bytes()).collect();
    let mut layers: Vec<Vec<u8>> = (0..40).map(|n| noise(100 * tag + n, 1 + 9_000 * n as usize)).collect();
    layers.insert(20, text);
    layers.push(noise(tag, 5 << 20));
    content.image("app", "v1", &layers);
    content.image("other", "v1", &[noise(7, 300_000)]);
    content
}

fn prepare(dir: &Dir, endpoint: &str) {
    configure(dir, endpoint, 4);
    dir.write("s", "reg.example.com/app:v1\nreg.example.com/other:v1");
}

fn archive(dir: &Dir, out: &str, words: &[&str]) -> Outcome {
    ace_dt(dir, &[&words_for(out)[..], words].concat())
}

fn words_for(out: &str) -> [&str; 7] {
    let checkpoint: &'static str = Box::leak(format!("{out}.checkpoint").into_boxed_str());
    let out: &'static str = Box::leak(out.to_string().into_boxed_str());
    ["mirror", "archive", "-q", "s", out, "--checkpoint", checkpoint]
}

#[track_caller]
fn same(dir: &Dir, a: &str, b: &str) {
    for end in ["", ".checkpoint"] {
        let (a, b) = (dir.read(&format!("{a}{end}")), dir.read(&format!("{b}{end}")));
        let differ = a.iter().zip(&b).position(|(a, b)| a != b);
        assert!(a == b, "{end}: {} and {} bytes, differ at {differ:?}", a.len(), b.len());
    }
}

/// What the checkpoint says at a moment at which the run was killed: each blob lies whole up to its offset, so up to
/// there the archive is that of a run that nobody killed.
fn speaks_the_truth(dir: &Dir, whole: &[u8]) {
    let (out, checkpoint) = (fs::read(dir.join("out")).unwrap_or_default(), fs::read(dir.join("out.checkpoint")));
    let text = String::from_utf8(checkpoint.unwrap_or_default()).unwrap();
    // The last line may be torn.
    for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        let offset: usize = record["annotations"]["vnd.act3-ace.data.offset"].as_str().unwrap().parse().unwrap();
        assert!(offset <= out.len(), "the checkpoint speaks of {offset} bytes, the archive has {}", out.len());
        assert!(out[..offset] == whole[..offset], "the checkpoint speaks of {offset} bytes that are not the archive's");
    }
}

/// Kills runs at random moments until one comes to its end; how often, and that the end is right. Each goes on with
/// what the one before left, or begins anew over it.
fn killed(dir: &Dir, runs: usize, random: &mut u64, words: &[&str]) -> usize {
    let begun = Instant::now();
    archive(dir, "whole", &[words, &["--force"]].concat()).ok();
    // With a high mark nothing is written for most of a run: some must come to their end.
    let span = begun.elapsed().as_micros() as u64 * 5 / 4;
    let (mut kills, whole) = (0, dir.read("whole"));
    while kills < runs {
        let _ = fs::remove_file(dir.join("out"));
        let _ = fs::remove_file(dir.join("out.checkpoint"));
        loop {
            *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let way = if (*random >> 20).is_multiple_of(4) { "--force" } else { "--resume" };
            let mut child = tool(dir, &[&words_for("out")[..], words, &[way]].concat()).spawn().unwrap();
            let until = Instant::now() + Duration::from_micros((*random >> 33) % span);
            let mut ended = false;
            while Instant::now() < until && !ended {
                ended = child.try_wait().unwrap().is_some();
                thread::sleep(Duration::from_millis(1));
            }
            if ended {
                finish(child).ok();
                break;
            }
            child.kill().unwrap();
            child.wait().unwrap();
            speaks_the_truth(dir, &whole);
            kills += 1;
        }
        same(dir, "out", "whole");
    }
    kills
}

/// A registry that takes its time, so that runs are killed in the middle.
fn slow() -> Scripted {
    Scripted::start(content(1), |request, mut answer| {
        if request.path.contains("/blobs/") {
            answer.delay = Duration::from_millis(4);
        }
        answer
    })
}

#[test]
fn runs_that_are_killed_go_on() {
    let registry = slow();
    let dir = Dir::new();
    prepare(&dir, &registry.endpoint());
    let mut random = 5;
    for compression in COMPRESSIONS {
        killed(&dir, 4, &mut random, &[compression, &["-m", "1Mi", "-b", "4Ki"]].concat());
    }
}

#[test]
#[ignore = "long: make soak"]
fn soak_of_kills() {
    const KILLS: usize = 1000;
    let registry = slow();
    let dir = Dir::new();
    prepare(&dir, &registry.endpoint());
    let (mut random, mut kills) = (std::process::id().into(), 0);
    let buffers: [&[&str]; 5] =
        [&["-m", "0"], &["-m", "1Mi", "-b", "4Ki"], &["-m", "64Mi"], &["-m", "8Mi", "-b", "4097"], &["-b", "512"]];
    for compression in COMPRESSIONS {
        for buffer in buffers {
            kills += killed(&dir, KILLS.div_ceil(15), &mut random, &[compression, buffer].concat());
        }
    }
    println!(
        "{kills} kills by SIGKILL at random moments, with --resume and --force, plain, zstd and gzip: at each the checkpoint \
         was true of the file, and every archive and checkpoint ended as if none had been"
    );
    assert!(kills >= KILLS);
}

#[test]
fn only_the_rest_is_fetched() {
    // The line of the last layer breaks for good after 4.5 MiB; the second time all is well.
    let broken = Arc::new(AtomicBool::new(true));
    let of_hook = broken.clone();
    let large = ace_dt::oci::Digest::of(&noise(1, 5 << 20)).to_string();
    let (last, from) = (large.clone(), Arc::new(Mutex::new(Vec::new())));
    let noted = from.clone();
    let registry = Scripted::start(content(1), move |request, mut answer| {
        let range = request.headers.get("range").filter(|_| request.path.ends_with(&last));
        let start = range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<u64>().ok());
        if !of_hook.load(Ordering::SeqCst) {
            noted.lock().unwrap().extend(start);
        }
        if of_hook.load(Ordering::SeqCst) && request.path.ends_with(&last) {
            answer.announced = Some(answer.body.len());
            answer.body.truncate(if request.headers.contains_key("range") { 0 } else { 9 << 19 });
            answer.close = true;
        }
        answer
    });
    let dir = Dir::new();
    prepare(&dir, &registry.endpoint());
    for compression in COMPRESSIONS {
        broken.store(true, Ordering::SeqCst);
        let words = [compression, &["-b", "4Ki", "--retries", "1"]].concat();
        let outcome = archive(&dir, "out", &words);
        outcome.fails(1, &["fetching blob", "to go on: ", "--resume"]);
        broken.store(false, Ordering::SeqCst);
        let before = registry.requests().len();
        archive(&dir, "out", &[&words[..], &["--resume"]].concat()).ok();
        let after = registry.requests().split_off(before);
        let blobs: Vec<&String> = after.iter().filter(|r| r.contains("/blobs/")).collect();
        assert!(blobs.iter().any(|r| r.ends_with(&large)), "{blobs:?}");
        assert!(blobs.len() <= 4, "what is whole was fetched again: {blobs:?}");
        let ranges = std::mem::take(&mut *from.lock().unwrap());
        assert!(ranges.iter().any(|from| *from >= 1 << 20), "{compression:?}: all of it was fetched again: {ranges:?}");
        archive(&dir, "whole", &[compression, &["--force"]].concat()).ok();
        same(&dir, "out", "whole");
        // Once more there is nothing to do.
        let before = registry.requests().len();
        archive(&dir, "out", &[&words[..], &["--resume"]].concat()).ok();
        assert_eq!(registry.requests().split_off(before).iter().filter(|r| r.contains("/blobs/")).count(), 0);
        same(&dir, "out", "whole");
        ["out", "out.checkpoint", "whole", "whole.checkpoint"]
            .iter()
            .for_each(|f| fs::remove_file(dir.join(f)).unwrap());
    }
}

#[test]
fn a_blob_that_proved_wrong_is_fetched_anew() {
    // The last layer is too large to be held back until its digest is known; it is wrong once.
    let wrong = Arc::new(AtomicBool::new(true));
    let of_hook = wrong.clone();
    let last = ace_dt::oci::Digest::of(&noise(1, 5 << 20)).to_string();
    let registry = Scripted::start(content(1), move |request, mut answer| {
        if of_hook.load(Ordering::SeqCst) && request.path.ends_with(&last) {
            answer.body[100_000] ^= 1;
        }
        answer
    });
    let dir = Dir::new();
    prepare(&dir, &registry.endpoint());
    for compression in COMPRESSIONS {
        wrong.store(true, Ordering::SeqCst);
        archive(&dir, "out", compression).fails(1, &["digest mismatch", "to go on: ", "--resume"]);
        wrong.store(false, Ordering::SeqCst);
        archive(&dir, "out", &[compression, &["--resume"]].concat()).ok();
        archive(&dir, "whole", &[compression, &["--force"]].concat()).ok();
        same(&dir, "out", "whole");
        ["out", "out.checkpoint"].iter().for_each(|f| fs::remove_file(dir.join(f)).unwrap());
    }
}

#[test]
fn sources_that_have_moved_on_are_told_and_nothing_is_mixed() {
    for compression in COMPRESSIONS {
        let dir = Dir::new();
        let first = Scripted::honest(content(1));
        prepare(&dir, &first.endpoint());
        archive(&dir, "out", compression).ok();
        drop(first);
        let length = fs::metadata(dir.join("out")).unwrap().len();
        for cut in [length, length / 2, 9_000] {
            fs::File::options().write(true).open(dir.join("out")).unwrap().set_len(cut).unwrap();
            let before = (dir.read("out"), dir.read("out.checkpoint"));
            let moved = Scripted::honest(content(2));
            configure(&dir, &moved.endpoint(), 4);
            let words = [compression, &["--resume"]].concat();
            let named = ["resuming \"out\"", "the sources have moved on", "app:v1 was sha256:", ", and is now sha256:"];
            let outcome = archive(&dir, "out", &words).fails(1, &named);
            assert!(!outcome.err.contains("other:v1 was"), "{}", outcome.err);
            assert!(moved.requests().iter().all(|r| !r.contains("/blobs/")), "something was fetched");
            assert!((dir.read("out"), dir.read("out.checkpoint")) == before, "something was changed");
            drop(moved);
            // The same sources, and other flags.
            let same = Scripted::honest(content(1));
            configure(&dir, &same.endpoint(), 4);
            let outcome = archive(&dir, "out", &[&words[..], &["--reference", "other"]].concat());
            outcome.fails(1, &["it is not the beginning of the archive that is planned", "--force starts again"]);
            assert!((dir.read("out"), dir.read("out.checkpoint")) == before, "something was changed");
            dir.write("s", "reg.example.com/app:v1");
            archive(&dir, "out", &words).fails(1, &["other:v1 is missing now"]);
            dir.write("s", "reg.example.com/app:v1\nreg.example.com/other:v1");
        }
    }
}

#[test]
fn torn_checkpoints_and_files_that_are_not_what_they_seem() {
    let registry = Scripted::honest(content(1));
    let dir = Dir::new();
    prepare(&dir, &registry.endpoint());
    archive(&dir, "whole", &[]).ok();
    let (whole, checkpoint) = (dir.read("whole"), dir.read("whole.checkpoint"));
    let resumed = |words: &[&str]| archive(&dir, "out", &[words, &["--resume"]].concat());
    for (length, told) in [(0, 0), (0, 500), (700, 0), (whole.len() / 2, checkpoint.len() / 2 - 5), (whole.len(), 0)] {
        dir.write("out", &whole[..length]);
        dir.write("out.checkpoint", &checkpoint[..told]);
        resumed(&[]).ok();
        same(&dir, "out", "whole");
    }
    // The checkpoint speaks of more than there is.
    dir.write("out", &whole[..200_000]);
    dir.write("out.checkpoint", &checkpoint);
    let outcome = resumed(&[]).ok();
    assert!(outcome.err.contains("speaks of more"), "{}", outcome.err);
    same(&dir, "out", "whole");
    // Something else altogether, and a bit that has turned where the checkpoint is silent.
    dir.write("out", noise(9, 100_000));
    resumed(&[]).fails(1, &["resuming \"out\"", "is not what is planned"]);
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    dir.write("out", &damaged);
    dir.write("out.checkpoint", "");
    resumed(&[]).fails(1, &["resuming \"out\"", "is not what is planned"]);
    dir.write("out.checkpoint", "{}\n{}\n");
    resumed(&[]).fails(1, &["out.checkpoint", "line 1"]);
    // Wrong usage. A FIFO that nobody reads is not waited for.
    crate::util::peer(&dir, "mkfifo", &["fifo"]);
    ace_dt(&dir, &["mirror", "archive", "s", "fifo", "--resume", "--checkpoint", "l"])
        .fails(2, &["regular files and tapes only"]);
    ace_dt(&dir, &["mirror", "archive", "s", "out", "--resume"]).fails(2, &["--resume", "--checkpoint"]);
    ace_dt(&dir, &["mirror", "archive", "s", "-", "--resume", "--checkpoint", "l"]).fails(2, &["standard output"]);
}

#[test]
fn a_file_that_may_not_grow_further_and_then_may() {
    let registry = Scripted::honest(content(1));
    let dir = Dir::new();
    prepare(&dir, &registry.endpoint());
    for (n, compression) in COMPRESSIONS.iter().enumerate() {
        archive(&dir, "whole", &[*compression, &["--force"]].concat()).ok();
        // What is compressed has no length that could be reserved, so that it runs into the end; the
        // plain archive finds that out before its first byte.
        let tool = env!("CARGO_BIN_EXE_ace-dt");
        let run = format!("{tool} mirror archive -q s out --checkpoint out.checkpoint {}", compression.join(" "));
        // dash(1) counts blocks of 512 bytes.
        let script = format!(
            "(ulimit -f 6144; {run} 2> first); [ $? = 1 ] || exit 98\n\
            {run} --resume 2> second || exit 96\n\
            cmp out whole && cmp out.checkpoint whole.checkpoint || exit 95\n\
            rm -f out out.checkpoint"
        );
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]).current_dir(&*dir).env("ACE_DT_VERSION", "(devel)");
        let child = shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let outcome = finish(child);
        let first = dir.text("first");
        assert_eq!(outcome.status, 0, "{n}: {}{} first: {first}", outcome.text(), outcome.err);
        assert!(first.contains("File too large"), "{first}");
    }
}

#[test]
fn checkpoints_and_existing_images_together_with_resume() {
    let registry = slow();
    let mut elsewhere = Content::default();
    // Another registry has the text layer of the first image.
    let text: Vec<u8> = (0..200_000u64).flat_map(|n| format!("line {} of 1\n", n * n).into_bytes()).collect();
    elsewhere.image("held", "v1", std::slice::from_ref(&text));
    let other = Scripted::honest(elsewhere);
    let dir = Dir::new();
    dir.write(
        "ace-dt-config.yaml",
        format!(
            "concurrentHTTP: 4\nregistryConfig:\n  registries:\n    reg.example.com: {{endpoints: [\"{}\"]}}\n    \
            other.example.com: {{endpoints: [\"{}\"]}}\n",
            registry.endpoint(),
            other.endpoint()
        ),
    );
    // Two earlier tapes: one with the second image, one with the beginning of the first.
    dir.write("s", "reg.example.com/other:v1");
    archive(&dir, "tape1", &[]).ok();
    dir.write("s", "reg.example.com/app:v1");
    archive(&dir, "tape2", &[]).ok();
    let offset = |checkpoint: &str, line: usize| {
        let checkpoint = dir.text(checkpoint);
        let line = checkpoint.lines().nth(line).unwrap().to_string();
        line.split("offset\":\"").nth(1).unwrap().split('"').next().unwrap().to_string()
    };
    let last = dir.text("tape1.checkpoint").lines().count() - 1;
    let known = format!(
        "tape1.checkpoint:{},tape2.checkpoint:{}",
        offset("tape1.checkpoint", last),
        offset("tape2.checkpoint", 12)
    );
    dir.write("s", "reg.example.com/app:v1\nreg.example.com/other:v1");
    for compression in COMPRESSIONS {
        let words = [compression, &["--existing-from-checkpoint", &known, "-m", "1Mi", "-b", "4Ki"]].concat();
        // Operands stand behind the archive.
        let with = |out: &str, more: &[&str]| {
            let all = [&words_for(out)[..], &words, more, &["other.example.com/held:v1"]].concat();
            tool(&dir, &all).spawn().unwrap()
        };
        finish(with("whole", &["--force"])).ok();
        let text_path = ace_dt::oci::Digest::of(&text).path();
        if compression.is_empty() {
            let listing = String::from_utf8(crate::util::peer(&dir, "tar", &["-tf", "whole"])).unwrap();
            assert!(!listing.contains(&text_path), "what another registry's image holds is left out");
            let twelfth = dir.text("tape2.checkpoint").lines().nth(12).unwrap().to_string();
            let digest = twelfth.split("sha256:").nth(1).unwrap().split('"').next().unwrap().to_string();
            assert!(!listing.contains(&digest), "what the second checkpoint says is left out");
        }
        for kill in 0..6 {
            let mut child = with("out", &["--resume"]);
            thread::sleep(Duration::from_millis(10 + 12 * kill));
            child.kill().unwrap();
            child.wait().unwrap();
        }
        finish(with("out", &["--resume"])).ok();
        same(&dir, "out", "whole");
        ["out", "out.checkpoint"].iter().for_each(|f| fs::remove_file(dir.join(f)).unwrap());
    }
}
