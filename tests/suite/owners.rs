//! Who owns what is written: nothing is overwritten by two, and a checkpoint never speaks of what is not there.

use std::{
    fs::{self, File},
    os::{
        fd::AsRawFd,
        unix::{
            fs::{OpenOptionsExt, symlink},
            process::CommandExt,
        },
    },
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    libc,
    sys::{
        resource::{Resource, setrlimit},
        signal::{Signal, kill},
    },
    unistd::Pid,
};

use ace_dt::oci::Digest;
use serde_json::{Value, json};

use crate::util::{Dir, Outcome, ace_dt, finish, noise, peer, tool, wait_for};

/// A directory with the layouts `small` and `large`, and lists of them.
fn prepare() -> Dir {
    let dir = Dir::new();
    image(&dir, "small", &[3000, 2000, 70_001]);
    image(&dir, "large", &[2_000_000, 1000, 1000, 3_000_000]);
    for name in ["small", "large"] {
        dir.write(&format!("{name}.list"), format!("oci:{name}:v1\n"));
    }
    dir
}

/// An OCI layout with one image, `v1`, of layers of these sizes.
fn image(dir: &Dir, name: &str, layers: &[usize]) {
    let blob = |media_type: &str, bytes: Vec<u8>| -> Value {
        let digest = Digest::of(&bytes);
        dir.write(&format!("{name}/blobs/{}", digest.to_string().replace(':', "/")), &bytes);
        json!({ "mediaType": media_type, "digest": digest.to_string(), "size": bytes.len() })
    };
    let layer = |(n, size): (usize, &usize)| blob("application/vnd.oci.image.layer.v1.tar", noise(n as u64, *size));
    let layers: Vec<Value> = layers.iter().enumerate().map(layer).collect();
    let config = blob("application/vnd.oci.image.config.v1+json", format!("{{\"os\":\"{name}\"}}").into());
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({ "schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers });
    let mut root = blob(media_type, manifest.to_string().into());
    root["annotations"] = json!({ "org.opencontainers.image.ref.name": "v1" });
    dir.write(&format!("{name}/oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#);
    dir.write(&format!("{name}/index.json"), json!({ "schemaVersion": 2, "manifests": [root] }).to_string());
}

fn start(dir: &Path, words: &[&str]) -> Child {
    tool(dir, words).spawn().unwrap()
}

/// A run that waits for its sources on a FIFO, its destination open.
fn waiting(dir: &Dir, words: &[&str]) -> (Child, File) {
    peer(dir, "mkfifo", &["feed"]);
    let child = start(dir, words);
    let feed = File::options().write(true).open(dir.join("feed")).unwrap();
    (child, feed)
}

/// The offset that the last whole line of a checkpoint speaks of.
fn last_offset(checkpoint: &str) -> u64 {
    let lines: Vec<&str> = checkpoint.split_inclusive('\n').filter(|line| line.ends_with('\n')).collect();
    let Some(last) = lines.last() else { return 0 };
    let record: serde_json::Value = serde_json::from_str(last).unwrap();
    record["annotations"]["vnd.act3-ace.data.offset"].as_str().unwrap().parse().unwrap()
}

#[test]
fn of_two_runs_on_one_output_the_second_is_refused_and_told_who_has_it() {
    let dir = prepare();
    let (first, feed) = waiting(&dir, &["util", "mbuffer", "-q", "-m", "1Mi", "-i", "feed", "-o", "out.tar"]);
    let held = format!("process {} ", first.id());
    wait_for("the output", || dir.join("out.tar").exists());
    let refused = |words: &[&str]| ace_dt(&dir, words).fails(1, &["\"out.tar\"", &held, "is writing it"]);
    refused(&["mirror", "archive", "-q", "small.list", "out.tar"]);
    refused(&["mirror", "archive", "-q", "--force", "small.list", "out.tar"]);
    refused(&["mirror", "archive", "-q", "small.list", "x.tar", "--checkpoint", "out.tar"]);
    refused(&["mirror", "serialize", "-q", "oci:small:v1", "out.tar"]);
    refused(&["util", "mbuffer", "-q", "-m", "1Mi", "-i", "small.list", "-o", "out.tar"]);
    refused(&["util", "demux", "out.tar"]);
    symlink("out.tar", dir.join("link")).unwrap();
    ace_dt(&dir, &["mirror", "archive", "-q", "small.list", "link"]).fails(1, &["\"link\"", &held]);
    drop(feed);
    finish(first).ok();
    assert!(!dir.join("x.tar").exists() && dir.join("link").is_symlink());
    ace_dt(&dir, &["mirror", "archive", "-q", "small.list", "out.tar"]).ok();
}

#[test]
fn a_run_that_fails_takes_only_its_own_empty_file_away() {
    let dir = prepare();
    dir.write("none.list", "oci:small:none\n");
    let fails = |dest: &str| ace_dt(&dir, &["mirror", "archive", "-q", "none.list", dest]).fails(1, &["none"]);
    fails("new.tar");
    assert!(!dir.join("new.tar").exists());
    dir.write("empty.tar", "");
    fails("empty.tar");
    assert!(dir.join("empty.tar").exists(), "it was there before");
    symlink("target.tar", dir.join("link.tar")).unwrap();
    fails("link.tar");
    assert!(dir.join("link.tar").is_symlink());
}

#[test]
fn without_room_the_archive_and_its_checkpoint_stay_as_they_are() {
    let dir = prepare();
    ace_dt(&dir, &["mirror", "archive", "-q", "--checkpoint", "led", "small.list", "x.tar"]).ok();
    let before = (dir.read("x.tar"), dir.read("led"));
    let words = ["mirror", "archive", "-q", "--force", "--checkpoint", "led", "large.list", "x.tar"];
    limited(&dir, &words, 1 << 20).fails(1, &["reserving", "File too large"]);
    assert!((dir.read("x.tar"), dir.read("led")) == before);
    let words = ["util", "mbuffer", "-q", "-m", "1Mi", "-i", "x.tar", "-o", "copy"];
    limited(&dir, &words, 4096).fails(1, &["\"copy\"", "File too large"]);
}

/// A run whose files may have so many bytes.
fn limited(dir: &Path, words: &[&str], bytes: u64) -> Outcome {
    let mut command = tool(dir, words);
    let set = move || setrlimit(Resource::RLIMIT_FSIZE, bytes, bytes);
    // SAFETY: between fork and exec it only calls setrlimit, which is async-signal-safe.
    unsafe { command.pre_exec(move || set().map_err(Into::into)) };
    finish(command.spawn().unwrap())
}

#[test]
fn whenever_a_run_is_killed_its_checkpoint_speaks_of_nothing_that_is_not_there() {
    let dir = prepare();
    for (n, how) in ["--force", "--resume", "--force", "--resume"].iter().cycle().take(40).enumerate() {
        let _ = (fs::remove_file(dir.join("x.tar")), fs::remove_file(dir.join("led")));
        ace_dt(&dir, &["mirror", "archive", "-q", "--checkpoint", "led", "large.list", "x.tar"]).ok();
        if *how == "--resume" {
            // As a run leaves it that is killed after the records of the first blobs.
            let lines: String = dir.text("led").split_inclusive('\n').take(4).collect();
            let cut = last_offset(&lines) + 700;
            File::options().write(true).open(dir.join("x.tar")).unwrap().set_len(cut).unwrap();
            dir.write("led", lines);
        }
        let sources = if *how == "--force" { "small.list" } else { "large.list" };
        let old = fs::metadata(dir.join("x.tar")).unwrap().len();
        let mut run = start(&dir, &["mirror", "archive", "-q", how, "--checkpoint", "led", sources, "x.tar"]);
        let begun = Instant::now();
        while run.try_wait().unwrap().is_none() {
            let now = fs::metadata(dir.join("x.tar")).unwrap().len();
            if now != old || begun.elapsed() > Duration::from_millis(n as u64) * 2 {
                break;
            }
        }
        let _ = run.kill();
        run.wait().unwrap();
        let (said, there) = (last_offset(&dir.text("led")), fs::metadata(dir.join("x.tar")).unwrap().len());
        assert!(said <= there, "{how}: the checkpoint speaks of {said} bytes, and there are {there}");
    }
}

#[test]
fn a_standard_stream_that_is_closed_is_an_error() {
    let dir = prepare();
    ace_dt(&dir, &["mirror", "archive", "-q", "small.list", "x.tar"]).ok();
    let closed = |fd: i32, words: &[&str]| {
        let mut command = tool(&dir, words);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        // SAFETY: between fork and exec it only calls close, which is async-signal-safe.
        unsafe { command.pre_exec(move || nix::unistd::close(fd).map_err(Into::into)) };
        finish(command.spawn().unwrap()).fails(1, &["Bad file descriptor"]);
    };
    for words in [
        &["mirror", "archive", "-q", "--checkpoint", "led", "small.list", "-"][..],
        &["mirror", "archive", "--dry-run", "small.list", "x"],
        &["mirror", "serialize", "-q", "oci:small:v1", "-"],
        &["mirror", "list", "x.tar"],
        &["mirror", "verify", "-q", "x.tar"],
        &["util", "mbuffer", "-q", "-m", "1Mi", "-i", "x.tar"],
        &["util", "mux", "x.tar"],
        &["version"],
        &["--help"],
    ] {
        closed(1, words);
    }
    assert!(!dir.join("led").exists() || dir.read("led").is_empty(), "nothing is recorded");
    for words in [
        &["mirror", "archive", "-q", "-", "y.tar"][..],
        &["mirror", "verify", "-q", "-"],
        &["util", "mbuffer", "-q", "-m", "1Mi", "-o", "y"],
        &["util", "demux", "y"],
        &["login", "127.0.0.1:1", "-u", "me", "--password-stdin"],
    ] {
        closed(0, words);
    }
}

#[test]
fn what_is_found_and_cannot_be_printed_is_an_error() {
    let dir = prepare();
    ace_dt(&dir, &["mirror", "archive", "-q", "small.list", "x.tar"]).ok();
    for words in [&["mirror", "verify", "-q", "x.tar"][..], &["mirror", "list", "x.tar"], &["version"]] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let run = tool(&dir, words).stdin(Stdio::null()).stdout(full).stderr(Stdio::piped()).spawn().unwrap();
        finish(run).fails(1, &["writing to standard output", "No space left on device"]);
    }
}

#[test]
fn streams_that_do_not_block_change_nothing() {
    let dir = prepare();
    ace_dt(&dir, &["mirror", "archive", "-q", "large.list", "x.tar"]).ok();
    let tar = dir.read("x.tar");
    for words in [&["util", "mbuffer", "-q", "-m", "64Ki", "-b", "4Ki"][..], &["util", "mux", "/dev/stdin"]] {
        // Both sides are slow pipes that do not block.
        let (from, to) = (pipe(libc::O_NONBLOCK), pipe(libc::O_NONBLOCK));
        let mut feeder = Command::new("sh")
            .args(["-c", "sleep 0.2; dd if=x.tar bs=64k status=none"])
            .current_dir(&*dir)
            .stdin(Stdio::null())
            .stdout(blocking(from.1))
            .spawn()
            .unwrap();
        let run = tool(&dir, words).stdin(from.0).stdout(to.1).stderr(Stdio::piped()).spawn().unwrap();
        let out = Command::new("sh")
            .args(["-c", "sleep 0.2; cat"])
            .stdin(blocking(to.0))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = out.wait_with_output().unwrap().stdout;
        finish(run).ok();
        feeder.wait().unwrap();
        let carried = if words[1] == "mux" { taken_apart(&out) } else { out };
        assert!(carried == tar, "{words:?}: {} bytes of {}", carried.len(), tar.len());
    }
}

/// Reading end, writing end.
fn pipe(flags: i32) -> (File, File) {
    let (from, to) = nix::unistd::pipe2(nix::fcntl::OFlag::from_bits_retain(flags | libc::O_CLOEXEC)).unwrap();
    (from.into(), to.into())
}

/// The same pipe's end, opened anew so that it blocks.
fn blocking(file: File) -> File {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let is_reader =
        nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_GETFL).unwrap() & libc::O_ACCMODE == libc::O_RDONLY;
    File::options().read(is_reader).write(!is_reader).custom_flags(libc::O_CLOEXEC).open(path).unwrap()
}

/// The data in frames of `util mux`.
fn taken_apart(mut frames: &[u8]) -> Vec<u8> {
    let mut data = Vec::new();
    while let Some((head, rest)) = frames.split_first_chunk::<12>() {
        let len = u64::from_le_bytes(head[4..].try_into().unwrap()) as usize;
        data.extend(&rest[..len]);
        frames = &rest[len..];
    }
    data
}

#[test]
fn a_signal_ends_whatever_is_being_opened() {
    let dir = prepare();
    peer(&dir, "mkfifo", &["ff", "gg"]);
    for words in [
        &["mirror", "archive", "-q", "small.list", "ff"][..],
        &["mirror", "archive", "-q", "ff", "z"],
        &["mirror", "archive", "-q", "--checkpoint", "ff", "small.list", "z"],
        &["mirror", "archive", "-q", "--existing-from-checkpoint", "ff:5", "small.list", "z"],
        &["mirror", "archive", "-q", "--report", "ff", "small.list", "z"],
        &["mirror", "archive", "-q", "--config", "ff", "small.list", "z"],
        &["mirror", "serialize", "-q", "oci:small:v1", "ff"],
        &["mirror", "gather", "-q", "ff", "127.0.0.1:1/a:v1"],
        &["mirror", "batch-serialize", "-q", "ff", "out"],
        &["mirror", "verify", "-q", "--checkpoint", "ff", "small.list"],
        &["mirror", "verify", "-q", "--existing", "ff", "small.list"],
        &["mirror", "verify", "-q", "ff"],
        &["mirror", "list", "ff"],
        &["util", "mbuffer", "-q", "-m", "1Mi", "--log", "ff", "-i", "small.list", "-o", "z"],
        &["util", "mbuffer", "-q", "-m", "1Mi", "-i", "ff", "-o", "z"],
        &["util", "mbuffer", "-q", "-m", "1Mi", "-i", "small.list", "-o", "ff"],
        &["util", "mux", "ff"],
        &["util", "demux", "ff", "gg"],
    ] {
        let run = start(&dir, words);
        std::thread::sleep(Duration::from_millis(150));
        let begun = Instant::now();
        kill(Pid::from_raw(run.id() as i32), Signal::SIGTERM).unwrap();
        let outcome = finish(run);
        assert!(begun.elapsed() < Duration::from_secs(1), "{words:?}: {:?}", begun.elapsed());
        assert_eq!(outcome.status, 143, "{words:?}: {}", outcome.err);
    }
    assert!(!dir.join("z").exists());
}

#[test]
fn a_stream_that_is_redirected_to_a_file_is_that_file() {
    let dir = prepare();
    let held = dir.read("small/index.json");
    dir.write("f", &held);
    let run = |words: &[&str], from: &str, to: &str| {
        let from = File::open(dir.join(from)).unwrap();
        let to = File::options().append(true).create(true).open(dir.join(to)).unwrap();
        finish(tool(&dir, words).stdin(from).stdout(to).stderr(Stdio::piped()).spawn().unwrap())
    };
    let same = &["\"f\" is both"][..];
    run(&["util", "mbuffer", "-q", "-m", "1Mi", "--force", "-o", "f"], "f", "x").fails(2, same);
    run(&["util", "mbuffer", "-q", "-m", "1Mi", "-i", "f"], "x", "f").fails(2, same);
    run(&["util", "mbuffer", "-q", "-m", "1Mi"], "f", "f")
        .fails(2, &["standard input is both --input and standard output"]);
    run(&["util", "mux", "x", "f"], "x", "f").fails(2, same);
    run(&["util", "demux", "x", "f"], "f", "x").fails(2, same);
    run(&["mirror", "archive", "-q", "--force", "-", "f"], "f", "x").fails(2, same);
    run(&["mirror", "archive", "-q", "f", "-"], "x", "f").fails(2, same);
    run(&["mirror", "list", "f"], "x", "f").fails(2, same);
    run(&["mirror", "verify", "f"], "x", "f").fails(2, same);
    assert_eq!(dir.read("f"), held);
    // An archive that is a source is read while the destination is written.
    ace_dt(&dir, &["mirror", "archive", "-q", "small.list", "a.tar"]).ok();
    fs::hard_link(dir.join("a.tar"), dir.join("b.tar")).unwrap();
    dir.write("a.list", "oci-archive:a.tar\n");
    ace_dt(&dir, &["mirror", "archive", "-q", "--force", "a.list", "b.tar"]).fails(2, &["\"b.tar\" is both a source"]);
    ace_dt(&dir, &["mirror", "serialize", "-q", "--force", "oci-archive:a.tar", "b.tar"]).fails(2, &["\"b.tar\""]);
}

#[test]
fn a_resumed_archive_is_the_very_archive_or_an_error() {
    let dir = prepare();
    ace_dt(&dir, &["mirror", "archive", "-q", "-b", "512", "--checkpoint", "led", "small.list", "good.tar"]).ok();
    let (good, checkpoint) = (dir.read("good.tar"), dir.text("led"));
    let end = last_offset(&checkpoint) as usize;
    let resume = |damage: &[u8], at: usize, length: usize, checkpoint: Option<&str>| {
        let mut bytes = good[..length].to_vec();
        bytes.resize(length.max(at + damage.len()), 0);
        bytes[at..at + damage.len()].copy_from_slice(damage);
        dir.write("x.tar", bytes);
        let _ = fs::remove_file(dir.join("x.led"));
        checkpoint.map(|text| dir.write("x.led", text));
        let outcome = ace_dt(
            &dir,
            &["mirror", "archive", "-q", "-b", "512", "--resume", "--checkpoint", "x.led", "small.list", "x.tar"],
        );
        assert!(outcome.status != 0 || dir.read("x.tar") == good, "{at} {length}");
        outcome
    };
    let whole = good.len();
    resume(&[], 0, whole, Some(&checkpoint)).ok();
    for (bytes, at) in [(vec![b'X'; 1024], whole - 1024), (vec![b'X'], whole - 1)] {
        resume(&bytes, at, whole, None).fails(1, &["not what is planned"]);
        // The checkpoint proves what is in front of it: the rest may never have reached the disk.
        resume(&bytes, at, whole, Some(&checkpoint)).ok();
    }
    for checkpoint in [None, Some(&*checkpoint)] {
        resume(&[b'X'; 8], end - 8, whole, checkpoint).fails(1, &["not what is planned"]);
        resume(&[b'X'; 100], end - 100, end - 100, checkpoint).fails(1, &["not what is planned"]);
    }
    // A last line may be torn, or never have reached the disk; anything else is damage, or no checkpoint.
    let torn = &checkpoint[..checkpoint.len() - 40];
    for ending in [torn.to_string(), format!("{checkpoint}\0\0\0\0"), format!("{torn}\0\0\0")] {
        resume(&[], 0, whole - 600, Some(&ending)).ok();
    }
    for (damaged, why) in [
        ("precious, and no checkpoint".to_string(), "it is no checkpoint, and is not written over"),
        ("{\"precious\": 1}".into(), "it is no checkpoint, and is not written over"),
        ("\0".repeat(5000), "it is no checkpoint, and is not written over"),
        ("{\"precious\": 1}\n".into(), "it is no checkpoint, and is not written over"),
        (format!("{checkpoint}precious"), "it is not a descriptor"),
        (format!("{checkpoint}precious\n{checkpoint}"), "it is not a descriptor"),
    ] {
        resume(&[], 0, whole - 600, Some(&damaged)).fails(1, &["x.led", why]);
        assert_eq!(dir.text("x.led"), damaged);
    }
    ace_dt(&dir, &["mirror", "verify", "-q", "--checkpoint", "/dev/zero", "x.tar"])
        .fails(1, &["more than 16777216 bytes"]);
    ace_dt(&dir, &["mirror", "archive", "-q", "small.list", "/dev/no-such-tape"])
        .fails(1, &["there is no such device"]);
    dir.write("precious", "no checkpoint\n");
    ace_dt(&dir, &["mirror", "archive", "-q", "--force", "--checkpoint", "precious", "small.list", "x.tar"])
        .fails(1, &["\"precious\"", "it is no checkpoint, and is not written over"]);
    assert_eq!(dir.text("precious"), "no checkpoint\n");
}

#[test]
fn a_buffer_that_cannot_be_had_is_an_error() {
    let dir = prepare();
    for (block, buffer) in [("1", "1Ti"), ("1", "100Gi"), ("1Mi", "64Ti")] {
        ace_dt(&dir, &["util", "mbuffer", "-q", "-b", block, "-m", buffer, "-i", "small.list", "-o", "o"])
            .fails(1, &["of memory for the buffer"]);
        assert!(!dir.join("o").exists());
    }
}

#[test]
fn one_run_at_a_time_has_a_batch_directory() {
    let dir = prepare();
    peer(&dir, "mkfifo", &["feed"]);
    dir.write("batch.csv", "name,artifact\na,oci:large:v1\n");
    fs::create_dir(dir.join("out")).unwrap();
    let held = File::open(dir.join("out")).unwrap();
    held.try_lock().unwrap();
    ace_dt(&dir, &["mirror", "batch-serialize", "-q", "batch.csv", "out"])
        .fails(1, &["opening the directory \"out\"", "is writing it"]);
    drop(held);
    ace_dt(&dir, &["mirror", "batch-serialize", "-q", "batch.csv", "out"]).ok();
}

#[test]
fn a_report_is_written_over_reports_only() {
    let dir = prepare();
    ace_dt(&dir, &["mirror", "archive", "-q", "--report", "r.json", "--checkpoint", "led", "small.list", "a.tar"]).ok();
    for name in ["a.tar", "led"] {
        let before = dir.read(name);
        ace_dt(&dir, &["mirror", "archive", "-q", "--report", name, "small.list", "b.tar"])
            .fails(1, &["opening the report", name, "is no report, and is not written over"]);
        assert!(dir.read(name) == before && !dir.join("b.tar").exists());
    }
    ace_dt(&dir, &["mirror", "archive", "-q", "--report", "r.json", "small.list", "b.tar"]).ok();
}

#[test]
fn nothing_is_written_into_the_layout_of_a_source() {
    let dir = prepare();
    let layout = dir.text("small.list").trim().trim_start_matches("oci:").rsplit_once(':').unwrap().0.to_string();
    let inside = format!("{layout}/index.json");
    let before = dir.read(&inside);
    for words in [vec!["small.list", &inside, "--force"], vec!["small.list", "b.tar", "--report", &inside]] {
        ace_dt(&dir, &[&["mirror", "archive", "-q"][..], &words].concat())
            .fails(2, &[&inside, "lies in the layout of a source"]);
        assert!(dir.read(&inside) == before && !dir.join("b.tar").exists());
    }
}
