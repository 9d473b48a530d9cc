//! `util mbuffer`, as pipelines use it.

use std::{fs::File, io::Write, process::Stdio, thread, time::Duration};

use crate::util::{Dir, Signal, ace_dt, ace_dt_with, finish, noise, send, tool};

#[test]
fn what_goes_in_comes_out() {
    let dir = Dir::new();
    for len in [0, 1, 511, 512, 4096, 1 << 20, (3 << 20) + 17] {
        let input = noise(len as u64, len);
        for words in [
            &["-m", "1Mi"][..],
            &["-m", "64Ki", "-b", "4Ki", "--hwm", "50"],
            &["-m", "100", "-b", "7", "--hwm", "100"],
            &["-m", "16Mi", "--hwm", "1"],
        ] {
            if words[1] == "100" && len > 4096 {
                continue;
            }
            let words = [&["util", "mbuffer", "-q"], words].concat();
            let outcome = ace_dt_with(&dir, &words, &input).ok();
            assert!(outcome.out == input, "{words:?} changed {len} bytes");
            assert_eq!(outcome.err, "");
        }
    }
}

#[test]
fn a_slow_source_is_passed_on_when_it_ends() {
    let dir = Dir::new();
    let mut child = tool(&dir, &["util", "mbuffer", "-m", "1Mi"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writer = thread::spawn(move || {
        for n in 0..5 {
            stdin.write_all(&[n; 1000]).unwrap();
            thread::sleep(Duration::from_millis(20));
        }
    });
    let outcome = finish(child).ok();
    writer.join().unwrap();
    assert_eq!(outcome.out.len(), 5000);
    assert!(outcome.err.contains("wrote 4.88 KiB in"), "{}", outcome.err);
}

#[test]
fn failures_are_named() {
    let dir = Dir::new();
    let run = |stdin: Stdio, stdout: Stdio| {
        finish(tool(&dir, &["util", "mbuffer", "-m", "1Mi"]).stdin(stdin).stdout(stdout).spawn().unwrap())
    };
    dir.write("in", noise(1, 3 << 20));
    let input = || Stdio::from(File::open(dir.join("in")).unwrap());
    let full = File::options().write(true).open("/dev/full").unwrap();
    run(input(), full.into())
        .fails(1, &["0 bytes were written", "writing standard output at offset 0", "No space left"]);
    let directory = File::open(&*dir).unwrap();
    run(directory.into(), Stdio::piped()).fails(1, &["reading standard input", "Is a directory"]);
    let words = ["util", "mbuffer", "-m", "1Ki", "-b", "1Mi"];
    ace_dt_with(&dir, &words, b"").fails(2, &["--buffer-size 1024 is smaller than one block of 1048576 bytes"]);
}

#[test]
fn a_signal_ends_it_though_the_source_is_silent() {
    let dir = Dir::new();
    let mut child = tool(&dir, &["util", "mbuffer", "-m", "1Mi"]).stdin(Stdio::piped()).spawn().unwrap();
    let kept = child.stdin.take();
    thread::sleep(Duration::from_millis(200));
    send(&child, Signal::SIGINT);
    finish(child).fails(130, &["0 bytes were written", "interrupted by SIGINT"]);
    drop(kept);
}

#[test]
fn files_in_place_of_standard_streams() {
    let dir = Dir::new();
    let bytes = noise(4, (2 << 20) + 5);
    dir.write("in", &bytes);
    let words = ["util", "mbuffer", "-m", "1Mi", "-b", "64Ki", "-i", "in", "-o", "out", "--sha256"];
    let outcome = ace_dt(&dir, &words).ok();
    assert!(dir.read("out") == bytes && outcome.out.is_empty());
    let sum = String::from_utf8(crate::util::peer(&dir, "sha256sum", &["in"])).unwrap();
    assert!(outcome.err.contains(&format!("sha256:{}", sum.split(' ').next().unwrap())), "{}", outcome.err);
    assert!(outcome.err.contains("times empty") && outcome.err.contains("33 blocks"), "{}", outcome.err);
    ace_dt(&dir, &words).fails(1, &["\"out\"", "--force"]);
    ace_dt(&dir, &[&words[..], &["--force"]].concat()).ok();
    ace_dt(&dir, &["util", "mbuffer", "-m", "1Mi", "-i", "in", "-o", "in", "--force"])
        .fails(2, &["both --input and --output"]);
    assert!(dir.read("in") == bytes);
    ace_dt(&dir, &["util", "mbuffer", "-m", "1Mi", "-i", "nowhere"]).fails(1, &["opening \"nowhere\""]);
}

#[test]
fn several_outputs_get_all_and_one_that_fails_is_left_behind() {
    let dir = Dir::new();
    let bytes = noise(5, (3 << 20) + 7);
    dir.write("in", &bytes);
    let words = ["util", "mbuffer", "-q", "-m", "1Mi", "-b", "64Ki", "-i", "in", "--force", "--sha256"];
    let run = |outputs: &[&str]| {
        let outputs: Vec<&str> = outputs.iter().flat_map(|output| ["-o", output]).collect();
        ace_dt(&dir, &[&words[..], &outputs].concat())
    };
    let outcome = run(&["a", "-", "b"]).ok();
    assert!(outcome.out == bytes && dir.read("a") == bytes && dir.read("b") == bytes);
    let outcome = run(&["a", "/dev/full", "b"]);
    assert!(outcome.status == 1 && outcome.err.contains("sha256:"), "{}", outcome.err);
    for words in [
        "ace-dt: warning: writing \"/dev/full\" at offset 0: No space left on device; this output is left behind",
        "ace-dt: writing \"/dev/full\" at offset 0: No space left on device; 1 of 3 outputs failed, and the others have all",
    ] {
        assert!(outcome.err.contains(words), "{}", outcome.err);
    }
    assert!(dir.read("a") == bytes && dir.read("b") == bytes);
    run(&["/dev/full", "/dev/full"]).fails(2, &["\"/dev/full\" is named twice by --output"]);
    run(&["a", "./a"]).fails(2, &["named twice"]);
    run(&["a", "in"]).fails(2, &["both --input and --output"]);
    run(&["new", "no/such"]).fails(1, &["opening the destination \"no/such\""]);
    assert!(!dir.join("new").exists(), "nothing was begun");
    std::os::unix::fs::symlink("/dev/full", dir.join("full")).unwrap();
    run(&["/dev/full", "full"]).fails(1, &["0 bytes were written", "No space left"]);
}

/// A FIFO that nobody reads any more, and the thread that keeps it open.
fn fifo(dir: &Dir, name: &str) -> File {
    nix::unistd::mkfifo(&dir.join(name), nix::sys::stat::Mode::S_IRWXU).unwrap();
    File::options().read(true).write(true).open(dir.join(name)).unwrap()
}

#[test]
fn a_stuck_side_is_named_and_ends_the_run() {
    let dir = Dir::new();
    let bytes = noise(6, 8 << 20);
    dir.write("in", &bytes);
    let _silent = fifo(&dir, "silent");
    let _unread = fifo(&dir, "unread");
    let words = ["util", "mbuffer", "-q", "-m", "1Mi", "-b", "64Ki", "--io-timeout", "500ms"];
    ace_dt(&dir, &[&words[..], &["-i", "silent", "-o", "out"]].concat())
        .fails(1, &["\"silent\" has given nothing for 0.5 s", "--io-timeout", "0 bytes were written"]);
    ace_dt(&dir, &[&words[..], &["-i", "in", "-o", "unread"]].concat())
        .fails(1, &["\"unread\" has taken nothing for 0.5 s"]);
    ace_dt(&dir, &[&words[..], &["-i", "in", "-o", "a", "-o", "unread", "--force"]].concat())
        .fails(1, &["ace-dt: \"unread\" has taken nothing for 0.5 s"]);
    // A side that is slow is not stuck, nor is one that waits for a rate.
    let slow = ["-i", "in", "-o", "b", "-R", "1Mi", "-b", "1Mi", "-m", "1Mi"];
    ace_dt(&dir, &[&words[..], &slow].concat()).ok();
    assert!(dir.read("b") == bytes);
}

#[test]
fn a_signal_ends_it_wherever_it_waits() {
    let dir = Dir::new();
    dir.write("in", noise(7, 8 << 20));
    let _unread = fifo(&dir, "unread");
    nix::unistd::mkfifo(&dir.join("alone"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for words in [
        &["-i", "alone", "-o", "a"][..],
        &["-i", "in", "-o", "alone"],
        &["-i", "in", "-o", "unread"],
        &["-i", "in", "-o", "unread", "-o", "b"],
        &["-i", "in", "-o", "c", "-R", "1"],
    ] {
        let words = [&["util", "mbuffer", "-q", "-m", "1Mi", "-b", "64Ki", "--force"], words].concat();
        let child = tool(&dir, &words).spawn().unwrap();
        thread::sleep(Duration::from_millis(300));
        send(&child, Signal::SIGINT);
        finish(child).fails(130, &["interrupted by SIGINT"]);
    }
}

#[test]
fn the_log_has_what_was_told_and_the_rate_is_kept() {
    let dir = Dir::new();
    dir.write("in", noise(8, 3 << 20));
    let words = ["util", "mbuffer", "-q", "-m", "1Mi", "-b", "64Ki", "-i", "in", "-o", "out", "--log", "log"];
    let began = std::time::Instant::now();
    let outcome = ace_dt(&dir, &[&words[..], &["-R", "2Mi", "--sha256"]].concat()).ok();
    assert!(began.elapsed() >= Duration::from_millis(1300), "{:?} for 3 MiB at 2 MiB a second", began.elapsed());
    ace_dt(&dir, &words).fails(1, &["--force"]);
    let log = String::from_utf8(dir.read("log")).unwrap();
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines.len(), 3, "{log}");
    assert!(lines.iter().all(|line| line.contains(" GMT: ")), "{log}");
    assert!(lines[0].contains("wrote 3.00 MiB in") && lines[0].contains("times full"), "{log}");
    assert!(lines[1].ends_with(outcome.err.trim()) && lines[2].contains("--force writes over it"), "{log}");
    ace_dt(&dir, &["util", "mbuffer", "-m", "1Mi", "-i", "in", "-o", "x", "--log", "x"])
        .fails(2, &["both --output and --log"]);
    ace_dt(&dir, &["util", "mbuffer", "-m", "1Mi", "-R", "0"]).fails(2, &["--rate"]);
}
