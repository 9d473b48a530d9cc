//! `util mbuffer`, as pipelines use it.

use std::{fs::File, io::Write, process::Stdio, thread, time::Duration};

use crate::util::{Dir, ace_dt_with, finish, noise, tool};

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
    std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    finish(child).fails(130, &["0 bytes were written", "interrupted by SIGINT"]);
    drop(kept);
}

#[test]
fn files_in_place_of_standard_streams() {
    let dir = Dir::new();
    let bytes = noise(4, (2 << 20) + 5);
    dir.write("in", &bytes);
    let words = ["util", "mbuffer", "-m", "1Mi", "-b", "64Ki", "-i", "in", "-o", "out", "--sha256"];
    let outcome = crate::util::ace_dt(&dir, &words).ok();
    assert!(dir.read("out") == bytes && outcome.out.is_empty());
    let sum = String::from_utf8(crate::util::peer(&dir, "sha256sum", &["in"])).unwrap();
    assert!(outcome.err.contains(&format!("sha256:{}", sum.split(' ').next().unwrap())), "{}", outcome.err);
    assert!(outcome.err.contains("times empty") && outcome.err.contains("33 blocks"), "{}", outcome.err);
    crate::util::ace_dt(&dir, &words).fails(1, &["\"out\"", "--force"]);
    crate::util::ace_dt(&dir, &[&words[..], &["--force"]].concat()).ok();
    crate::util::ace_dt(&dir, &["util", "mbuffer", "-m", "1Mi", "-i", "in", "-o", "in", "--force"])
        .fails(2, &["both --input and --output"]);
    assert!(dir.read("in") == bytes);
    crate::util::ace_dt(&dir, &["util", "mbuffer", "-m", "1Mi", "-i", "nowhere"]).fails(1, &["opening \"nowhere\""]);
}
