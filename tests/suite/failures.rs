//! What goes wrong must end soon, with the right exit status, one clear line, and a checkpoint that
//! tells the truth.

use std::{fs, path::Path, process::Command, thread, time::Duration};

use ace_dt::oci::Digest;

use crate::{
    registry::{Registry, Storage, configure},
    scripted::{Answer, Content, Request, Scripted},
    util::{Dir, Outcome, Signal, ace_dt, finish, noise, send, tool, wait_for},
};

const IMAGE: &str = "reg.example.com/app:v1";

/// Three layers, of which `hook` may spoil the answers; archived with a checkpoint.
fn archive_three_layers(
    hook: impl Fn(&Request, Answer, &[Digest]) -> Answer + Send + Sync + 'static,
    words: &[&str],
) -> (Dir, Outcome, Vec<Digest>) {
    let mut content = Content::default();
    let layers = content.image("app", "v1", &[noise(1, 3000), noise(2, 6 << 20), noise(3, 5000)]);
    let known = layers.clone();
    let scripted = Scripted::start(content, move |request, answer| hook(request, answer, &known));
    let dir = Dir::new();
    configure(&dir, &scripted.endpoint(), 4);
    dir.write("sources.list", IMAGE);
    let mut all = vec!["mirror", "archive", "sources.list", "out.tar", "--checkpoint", "checkpoint"];
    all.extend(words);
    let outcome = ace_dt(&dir, &all);
    (dir, outcome, layers)
}

/// Every blob that the checkpoint names lies whole in the prefix of the archive that it states.
fn checkpoint_is_true(dir: &Path, archive: &str, checkpoint: &str) -> usize {
    let archive = fs::read(dir.join(archive)).unwrap_or_default();
    let text = fs::read_to_string(dir.join(checkpoint)).unwrap();
    for line in text.lines() {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        let offset: usize = record["annotations"]["vnd.act3-ace.data.offset"].as_str().unwrap().parse().unwrap();
        let size = record["size"].as_u64().unwrap() as usize;
        assert!(offset <= archive.len(), "the checkpoint speaks of {offset} bytes, the archive has {}", archive.len());
        let begin = offset - size.next_multiple_of(512);
        let digest = Digest::of(&archive[begin..begin + size]);
        assert_eq!(record["digest"].as_str().unwrap(), digest.to_string());
    }
    text.lines().count()
}

#[test]
fn a_full_device() {
    let (dir, _, _) = archive_three_layers(|_, answer, _| answer, &["--dry-run"]);
    let mut content = Content::default();
    content.image("app", "v1", &[noise(1, 3 << 20)]);
    let scripted = Scripted::honest(content);
    configure(&dir, &scripted.endpoint(), 4);
    let words = ["mirror", "archive", "sources.list", "/dev/full", "--checkpoint", "checkpoint"];
    ace_dt(&dir, &words).fails(1, &["writing \"/dev/full\" at offset 0", "No space left on device", "0 of 4 blobs"]);
    assert_eq!(dir.text("checkpoint"), "");
}

#[test]
fn a_file_system_without_room_is_found_out_before_the_first_byte() {
    let dir = Dir::new();
    let there = nix::sys::statvfs::statvfs(&*dir).unwrap();
    // More than any file system of this machine has: the blob itself need not be there.
    let size = there.blocks() * there.fragment_size() + 1;
    let mut content = Content::default();
    let config = content.blob("app", b"{}");
    let layer = Digest::of(b"it is never asked for");
    let manifest = format!(
        "{{\"schemaVersion\":2,\"config\":{{\"mediaType\":\"c\",\"digest\":\"{config}\",\"size\":2}},\
         \"layers\":[{{\"mediaType\":\"l\",\"digest\":\"{layer}\",\"size\":{size}}}]}}"
    );
    content.manifest("app", "application/vnd.oci.image.manifest.v1+json", manifest.as_bytes(), Some("v1"));
    let scripted = Scripted::honest(content);
    configure(&dir, &scripted.endpoint(), 4);
    dir.write("sources.list", IMAGE);
    ace_dt(&dir, &["mirror", "archive", "sources.list", "out.tar"])
        .fails(1, &["reserving ", "out.tar", "No space left on device"]);
    assert!(!dir.join("out.tar").exists());
    assert!(
        !scripted.requests().iter().any(|line| line.contains(&layer.to_string())),
        "nothing is fetched for nothing"
    );
}

#[test]
fn a_destination_that_cannot_be_created() {
    let (_dir, outcome, _) = archive_three_layers(|_, answer, _| answer, &["extra.example.com/x:1"]);
    outcome.fails(1, &["existing image", "extra.example.com/x"]);
    let dir = Dir::new();
    dir.write("sources.list", IMAGE);
    ace_dt(&dir, &["mirror", "archive", "sources.list", "no/such/out.tar"])
        .fails(1, &["opening the destination \"no/such/out.tar\"", "No such file or directory"]);
}

#[test]
fn a_registry_that_is_not_there() {
    let dir = Dir::new();
    let free = crate::util::free_port();
    configure(&dir, &format!("http://127.0.0.1:{free}"), 4);
    dir.write("sources.list", IMAGE);
    ace_dt(&dir, &["mirror", "archive", "sources.list", "out.tar"]).fails(
        1,
        &[
            "resolving reg.example.com/app:v1",
            &format!("http://127.0.0.1:{free}/v2/app/manifests/v1"),
            "Connection refused",
        ],
    );
    assert!(!dir.join("out.tar").exists(), "an empty archive is left behind");
}

#[test]
fn an_image_that_is_not_there() {
    let dir = Dir::new();
    Storage::new(&dir.join("storage")).image("app", "v1", &[noise(1, 10)]);
    let registry = Registry::start(&dir.join("storage"));
    registry.configure(&dir, "http", 4);
    dir.write("sources.list", "reg.example.com/app:v2");
    ace_dt(&dir, &["mirror", "archive", "sources.list", "out.tar"])
        .fails(1, &["resolving reg.example.com/app:v2", "there is no such manifest", "404", "manifest unknown"]);
    // All bad references are named in one run.
    dir.write("sources.list", "reg.example.com/app:v2\nreg.example.com/app:v1\nreg.example.com/other:v1");
    let outcome = ace_dt(&dir, &["mirror", "archive", "sources.list", "out.tar"]);
    assert_eq!(outcome.status, 1);
    for words in ["resolving reg.example.com/app:v2", "resolving reg.example.com/other:v1", "2 of 3 sources failed"] {
        assert!(outcome.err.contains(words), "{}", outcome.err);
    }
    assert!(!dir.join("out.tar").exists());
}

#[test]
fn a_manifest_whose_digest_does_not_match() {
    let spoil = |request: &Request, mut answer: Answer, _: &[Digest]| {
        if request.path.contains("/manifests/") {
            answer.body.push(b' ');
        }
        answer
    };
    let mut content = Content::default();
    content.image("app", "v1", &[noise(1, 10)]);
    let manifest = Scripted::honest(content);
    let dir = Dir::new();
    configure(&dir, &manifest.endpoint(), 4);
    dir.write("sources.list", IMAGE);
    let digest = {
        let outcome = ace_dt(&dir, &["mirror", "archive", "sources.list", "-", "--dry-run"]).ok();
        outcome.text().split_whitespace().next().unwrap().to_string()
    };
    drop(manifest);
    let mut content = Content::default();
    content.image("app", "v1", &[noise(1, 10)]);
    let scripted = Scripted::start(content, move |request, answer| spoil(request, answer, &[]));
    configure(&dir, &scripted.endpoint(), 4);
    dir.write("sources.list", format!("reg.example.com/app@{digest}"));
    ace_dt(&dir, &["mirror", "archive", "sources.list", "out.tar"]).fails(1, &["digest mismatch", &digest]);
}

#[test]
fn a_blob_that_is_wrong_once_is_fetched_again() {
    let first = std::sync::atomic::AtomicBool::new(true);
    let (dir, outcome, layers) = archive_three_layers(
        move |request, mut answer, layers| {
            let is_last = request.path.ends_with(&layers[2].to_string());
            if is_last && first.swap(false, std::sync::atomic::Ordering::SeqCst) {
                answer.body[17] ^= 1;
            }
            answer
        },
        &[],
    );
    let outcome = outcome.ok();
    assert!(
        outcome.err.contains("fetching it again") && outcome.err.contains(&layers[2].to_string()),
        "{}",
        outcome.err
    );
    assert_eq!(checkpoint_is_true(&dir, "out.tar", "checkpoint"), 6);
}

#[test]
fn a_blob_that_stays_wrong_ends_the_run() {
    // The first is small and held back, the second larger than the buffer.
    for (n, size) in [(0, "3000"), (1, "6291456")] {
        for (name, spoil) in [
            (
                "digest mismatch",
                (|mut body: Vec<u8>| {
                    let last = body.len() - 1;
                    body[last] ^= 1;
                    body
                }) as fn(Vec<u8>) -> Vec<u8>,
            ),
            ("its descriptor says", |mut body| {
                body.pop();
                body
            }),
            ("its descriptor says", |mut body| {
                body.push(0);
                body
            }),
        ] {
            let (dir, outcome, layers) = archive_three_layers(
                move |request, mut answer, layers| {
                    if request.path.ends_with(&layers[n].to_string()) {
                        answer.body = spoil(answer.body);
                    }
                    answer
                },
                &["-m", "1Mi", "-b", "4Ki"],
            );
            let outcome = outcome.fails(1, &["fetching blob", &layers[n].to_string(), "of reg.example.com/app", name]);
            assert!(name == "digest mismatch" || outcome.err.contains(size), "{}", outcome.err);
            checkpoint_is_true(&dir, "out.tar", "checkpoint");
            assert!(!dir.text("checkpoint").contains(&layers[n].to_string()), "the wrong blob is in the checkpoint");
        }
    }
}

#[test]
fn a_line_that_goes_silent_is_given_up() {
    let (dir, outcome, _) = archive_three_layers(
        |request, mut answer, layers| {
            if request.path.ends_with(&layers[1].to_string()) {
                answer.announced = Some(answer.body.len());
                answer.body.truncate(if request.headers.contains_key("range") { 0 } else { 100_000 });
                answer.hold = Duration::from_secs(60);
            }
            answer
        },
        &["--http-timeout", "300ms", "--retries", "2"],
    );
    outcome.fails(1, &["fetching blob", "at byte 100000 of 6291456", "--http-timeout", "given up after 3 tries"]);
    checkpoint_is_true(&dir, "out.tar", "checkpoint");
}

/// An archive of three layers that is ended by a signal in the middle of the second; the server then
/// gives all of it. Its command, run in a shell that sends standard output to `to`, and the server.
fn interrupted(dir: &Dir, signal: Signal, status: i32, name: &str, dest: &str, to: &str) -> (String, Scripted) {
    let mut content = Content::default();
    let layers = content.image("app", "v1", &[noise(1, 3000), noise(2, 6 << 20), noise(3, 5000)]);
    let held = layers.clone();
    let scripted = Scripted::start(content, move |request, mut answer| {
        if request.path.ends_with(&held[1].to_string()) {
            answer.announced = Some(answer.body.len());
            answer.body.truncate(5 << 20);
            answer.hold = Duration::from_secs(100);
        }
        answer
    });
    configure(dir, &scripted.endpoint(), 4);
    dir.write("sources.list", IMAGE);
    let words =
        ["mirror", "archive", "-q", "sources.list", dest, "--checkpoint", "checkpoint", "-b", "4Ki", "-m", "1Mi"];
    let out = fs::File::create(dir.join(to)).unwrap();
    let child = tool(dir, &words).stdout(out).spawn().unwrap();
    wait_for("the archive to grow", || fs::metadata(dir.join("out.tar")).is_ok_and(|m| m.len() > 4 << 20));
    send(&child, signal);
    let outcome = finish(child).fails(status, &[name, "holds 4 of 6 blobs whole, up to offset", "to go on"]);
    assert_eq!(checkpoint_is_true(dir, "out.tar", "checkpoint"), 4);
    drop(scripted);
    let mut content = Content::default();
    content.image("app", "v1", &[noise(1, 3000), noise(2, 6 << 20), noise(3, 5000)]);
    let honest = Scripted::honest(content);
    configure(dir, &honest.endpoint(), 4);
    let line = outcome.err.trim_end().rsplit_once(": ").unwrap().1.trim_end_matches(')');
    (line.replacen("ace-dt", env!("CARGO_BIN_EXE_ace-dt"), 1), honest)
}

#[test]
fn signals_say_where_the_archive_stands_and_how_to_go_on() {
    for (signal, status, name) in
        [(Signal::SIGINT, 130, "interrupted by SIGINT"), (Signal::SIGTERM, 143, "terminated by SIGTERM")]
    {
        let dir = Dir::new();
        let (line, honest) = interrupted(&dir, signal, status, name, "out.tar", "nothing");
        let environment = "ACE_DT_VERSION='(devel)' ";
        crate::util::peer(&dir, "sh", &["-c", &format!("{environment}{line}")]);
        let again: Vec<String> = honest.requests().into_iter().filter(|r| r.contains("/blobs/")).collect();
        assert_eq!(again.len(), 2, "what is whole was fetched again: {again:?}");
        // It is the archive and the checkpoint of a run that nobody interrupted.
        let words = ["mirror", "archive", "-q", "sources.list", "whole.tar", "--checkpoint", "whole.checkpoint"];
        ace_dt(&dir, &words).ok();
        assert!(dir.read("out.tar") == dir.read("whole.tar") && dir.read("checkpoint") == dir.read("whole.checkpoint"));
    }
}

#[test]
fn a_stream_that_was_interrupted_goes_on_in_a_second() {
    let dir = Dir::new();
    let (line, honest) = interrupted(&dir, Signal::SIGTERM, 143, "terminated by SIGTERM", "-", "out.tar");
    crate::util::peer(&dir, "sh", &["-c", &format!("ACE_DT_VERSION='(devel)' {line} > out.tar.2")]);
    assert_eq!(checkpoint_is_true(&dir, "out.tar.2", "checkpoint.2"), 2);
    // Up to the offset the first part is whole TAR; with the second it is one layout.
    let checkpoint = dir.text("checkpoint");
    let offset = checkpoint.lines().last().unwrap().split("offset\":\"").nth(1).unwrap().split('"').next().unwrap();
    let unpack = format!("mkdir layout && (head -c {offset} out.tar; cat out.tar.2) | tar -xf - -C layout");
    crate::util::peer(&dir, "sh", &["-c", &unpack]);
    assert_eq!(fs::read_dir(dir.join("layout/blobs/sha256")).unwrap().count(), 6);
    assert_eq!(
        honest.requests().iter().filter(|r| r.contains("/blobs/")).count(),
        2,
        "what is whole was fetched again"
    );
}

#[test]
fn a_signal_ends_a_wait_for_a_registry_that_never_answers() {
    let scripted = Scripted::start(Content::default(), |_, mut answer| {
        answer.delay = Duration::from_secs(100);
        answer
    });
    let dir = Dir::new();
    configure(&dir, &scripted.endpoint(), 4);
    dir.write("sources.list", IMAGE);
    let child = tool(&dir, &["mirror", "archive", "sources.list", "out.tar"]).spawn().unwrap();
    wait_for("the request", || !scripted.requests().is_empty());
    send(&child, Signal::SIGINT);
    finish(child).fails(130, &["interrupted by SIGINT"]);
    assert!(!dir.join("out.tar").exists());
}

#[test]
fn a_signal_ends_a_wait_for_a_reader() {
    let mut content = Content::default();
    content.image("app", "v1", &[noise(1, 8 << 20)]);
    let scripted = Scripted::honest(content);
    let dir = Dir::new();
    configure(&dir, &scripted.endpoint(), 4);
    dir.write("sources.list", IMAGE);
    // Nobody reads the pipe, and nobody opens the FIFO.
    Command::new("mkfifo").arg(dir.join("fifo")).status().unwrap();
    for dest in ["-", "fifo"] {
        let mut child = tool(&dir, &["mirror", "archive", "sources.list", dest]).spawn().unwrap();
        let kept = child.stdout.take();
        thread::sleep(Duration::from_millis(300));
        send(&child, Signal::SIGTERM);
        finish(child).fails(143, &["terminated by SIGTERM"]);
        drop(kept);
    }
}

#[test]
fn a_run_that_writes_nothing_leaves_the_checkpoint_alone() {
    let dir = Dir::new();
    let mut content = Content::default();
    content.image("app", "v1", &[noise(1, 3000)]);
    let scripted = Scripted::honest(content);
    configure(&dir, &scripted.endpoint(), 4);
    dir.write("sources.list", IMAGE);
    ace_dt(&dir, &["mirror", "archive", "sources.list", "other.tar", "--checkpoint", "checkpoint"]).ok();
    let before = dir.text("checkpoint");
    let words = ["mirror", "archive", "sources.list", "out.tar", "--checkpoint", "checkpoint", "-m", "100Ti"];
    ace_dt(&dir, &words).fails(1, &["taking 109951162777600 bytes of memory for the buffer"]);
    assert_eq!(dir.text("checkpoint"), before);
    assert!(!dir.join("out.tar").exists());
}

#[test]
fn a_failure_ends_the_run_though_nobody_reads_the_output() {
    let mut content = Content::default();
    let layers = content.image("app", "v1", &[noise(1, 2 << 20), noise(2, 4 << 20)]);
    let scripted = Scripted::start(content, move |request, mut answer| {
        if request.path.ends_with(&layers[1].to_string()) {
            answer.body[0] ^= 1;
        }
        answer
    });
    let dir = Dir::new();
    configure(&dir, &scripted.endpoint(), 4);
    dir.write("sources.list", IMAGE);
    let mut child = tool(&dir, &["mirror", "archive", "sources.list", "-"]).spawn().unwrap();
    let kept = child.stdout.take();
    finish(child).fails(1, &["digest mismatch"]);
    drop(kept);
}

#[test]
fn a_reader_that_goes_away() {
    let mut content = Content::default();
    content.image("app", "v1", &[noise(1, 8 << 20)]);
    let scripted = Scripted::honest(content);
    let dir = Dir::new();
    configure(&dir, &scripted.endpoint(), 4);
    dir.write("sources.list", IMAGE);
    let mut child = tool(&dir, &["mirror", "archive", "sources.list", "-"]).spawn().unwrap();
    drop(child.stdout.take());
    finish(child).fails(1, &["writing standard output at offset", "Broken pipe"]);
}

#[test]
fn with_continue_the_others_are_archived() {
    let mut content = Content::default();
    content.image("app", "v1", &[noise(1, 3000)]);
    let lost = content.image("bad", "v1", &[noise(2, 3000)]);
    let scripted =
        Scripted::start(content, move |request, answer| match request.path.ends_with(&lost[0].to_string()) {
            true => Answer { status: 404, ..Answer::default() },
            false => answer,
        });
    let dir = Dir::new();
    configure(&dir, &scripted.endpoint(), 4);
    dir.write("sources.list", "reg.example.com/none:v1\nreg.example.com/bad:v1\nreg.example.com/app:v1");
    let words = ["mirror", "archive", "-q", "sources.list", "out.tar", "--continue", "--report", "report.json"];
    let outcome = ace_dt(&dir, &words);
    assert_eq!(outcome.status, 1);
    let summary = "2 of 3 sources were left out: reg.example.com/bad:v1, reg.example.com/none:v1";
    assert!(outcome.err.contains(summary), "{}", outcome.err);
    let report: serde_json::Value = serde_json::from_slice(&dir.read("report.json")).unwrap();
    let outcomes: Vec<(&str, &str)> = report
        .as_array()
        .unwrap()
        .iter()
        .map(|r| (r["source"].as_str().unwrap(), r["outcome"].as_str().unwrap()))
        .collect();
    assert_eq!(
        outcomes,
        [
            ("reg.example.com/app:v1", "archived"),
            ("reg.example.com/bad:v1", "failed"),
            ("reg.example.com/none:v1", "failed")
        ]
    );
    assert!(report[0]["bytes"].as_u64().unwrap() > 3000 && report[1]["error"].as_str().unwrap().contains("404"));
    let listing = crate::util::peer(&dir, "tar", &["-tf", "out.tar"]);
    assert_eq!(String::from_utf8(listing).unwrap().lines().filter(|l| l.starts_with("blobs/sha256/")).count(), 4);
}

#[test]
fn a_registry_that_asks_for_the_impossible() {
    // A pause beyond all time, and answers that drip.
    let scripted = Scripted::start(Content::default(), |_, _| Answer {
        status: 503,
        headers: vec![("Retry-After".into(), u64::MAX.to_string())],
        delay: Duration::from_millis(300),
        ..Answer::default()
    });
    let dir = Dir::new();
    configure(&dir, &scripted.endpoint(), 4);
    dir.write("sources.list", IMAGE);
    ace_dt(&dir, &["mirror", "archive", "-q", "sources.list", "out.tar"]).fails(1, &["503"]);
    drop(scripted);
    for status in ["403 x", "200 OK"] {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                std::thread::spawn(move || {
                    let mut stream = stream.unwrap();
                    let _ = std::io::Read::read(&mut stream, &mut [0; 4096]);
                    let head = format!("HTTP/1.1 {status}\r\nContent-Length: 100000\r\n\r\n");
                    let _ = std::io::Write::write_all(&mut stream, head.as_bytes());
                    while std::io::Write::write_all(&mut stream, b" ").is_ok() {
                        std::thread::sleep(Duration::from_millis(20));
                    }
                });
            }
        });
        configure(&dir, &format!("http://127.0.0.1:{port}"), 4);
        let begun = std::time::Instant::now();
        let words = ["mirror", "archive", "-q", "--http-timeout", "100ms", "--retries", "0", "sources.list", "out.tar"];
        ace_dt(&dir, &words).fails(1, &[if status == "200 OK" { "comes too slowly" } else { "403" }]);
        assert!(begun.elapsed() < Duration::from_secs(20));
    }
}
