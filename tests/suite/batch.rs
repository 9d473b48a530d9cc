//! `mirror batch-serialize`: what was sent is not sent again, whatever ended a run.

use std::{fs, process::Command, thread, time::Duration};

use crate::{
    registry::{Registry, Storage, configure, golden},
    scripted::{Content, Scripted},
    util::{Dir, Outcome, ace_dt, noise, peer, tool},
};

#[test]
fn a_batch_is_the_golden_one() {
    let dir = Dir::new();
    Storage::golden(&dir.join("storage"));
    let registry = Registry::start(&dir.join("storage"));
    // The golden batch names the registry where it was.
    let endpoint = format!("{{endpoints: [\"http://127.0.0.1:{}\"]}}", registry.port);
    dir.write(
        "ace-dt-config.yaml",
        format!(
            "registryConfig:\n  registries:\n    reg.example.com: {endpoint}\n    \"127.0.0.1:5001\": {endpoint}\n"
        ),
    );
    std::os::unix::fs::symlink(golden(), dir.join("golden")).unwrap();
    let r = "127.0.0.1:5001/gold";
    ace_dt(&dir, &["mirror", "gather", "-q", "golden/sources.list", &format!("{r}/sync/all:s1")]).ok();
    let flat = ["--index-fallback", "-a", "k=v", "golden/sources-flat.list"];
    ace_dt(&dir, &[&["mirror", "gather", "-q"], &flat[..], &[&format!("{r}/sync/flat:s1")]].concat()).ok();
    let batch = ["mirror", "batch-serialize", "-q", "batch.csv", "out"];
    dir.write("batch.csv", format!("name,artifact\ntools,{r}/sync/all:s1\nops,{r}/sync/flat:s1\n"));
    ace_dt(&dir, &batch).ok();
    dir.write("batch.csv", format!("name,artifact\ntools,{r}/sync/all:s1\nops,{r}/library/beta:1.2\n"));
    ace_dt(&dir, &batch).ok();
    ace_dt(&dir, &batch).ok();
    for name in ["000001-tools.tar", "000002-ops.tar", "000003-ops.tar"] {
        let theirs = fs::read(golden().join("archives/batch").join(name)).unwrap();
        assert!(dir.read(&format!("out/{name}")) == theirs, "{name}");
    }
    let theirs = fs::read_to_string(golden().join("archives/batch/record-keeping.csv")).unwrap();
    assert_eq!(dir.text("out/record-keeping.csv"), theirs);
    assert_eq!(fs::read_dir(dir.join("out")).unwrap().count(), 4, "something was left behind");
}

#[test]
fn a_tag_that_moves_is_sent_again_without_what_was_sent() {
    let dir = Dir::new();
    let mut content = Content::default();
    content.image("app", "v1", &[noise(1, 50_000)]);
    let first = Scripted::honest(content);
    configure(&dir, &first.endpoint(), 4);
    dir.write("batch.csv", "name,artifact\na-b.c,reg.example.com/app:v1\n");
    let batch = ["mirror", "batch-serialize", "-q", "--compression", "zstd", "batch.csv", "out"];
    ace_dt(&dir, &batch).ok();
    drop(first);
    // The tag has moved on; the first image is still there under its digest.
    let mut content = Content::default();
    content.image("app", "old", &[noise(1, 50_000)]);
    content.image("app", "v1", &[noise(1, 50_000), noise(2, 5_000)]);
    let second = Scripted::honest(content);
    configure(&dir, &second.endpoint(), 4);
    ace_dt(&dir, &batch).ok();
    ace_dt(&dir, &batch).ok();
    assert_eq!(dir.text("out/record-keeping.csv").lines().count(), 3);
    let sizes = ["000001-a-b.c.tar.zst", "000002-a-b.c.tar.zst"].map(|name| dir.read(&format!("out/{name}")).len());
    assert!(sizes[0] > 50_000 && sizes[1] < 10_000, "{sizes:?}");
}

#[test]
fn what_becomes_of_each_artifact_is_told() {
    let dir = Dir::new();
    let mut content = Content::default();
    content.image("a", "v1", &[noise(1, 50_000)]);
    content.image("b", "v1", &[noise(2, 50_000)]);
    let registry = Scripted::honest(content);
    configure(&dir, &registry.endpoint(), 4);
    let list = ["a:v1", "gone:v1", "b:v1"].map(|name| format!("{},reg.example.com/{name}\n", &name[..1]));
    dir.write("batch.csv", format!("name,artifact\n{}", list.concat()));
    let batch = |words: &[&str]| {
        let all = ["mirror", "batch-serialize", "--report", "report", "batch.csv", "out"];
        let outcome = ace_dt(&dir, &[&all[..], words].concat());
        let report: serde_json::Value = serde_json::from_str(&dir.text("report")).unwrap();
        let told = report.as_array().unwrap().iter();
        (outcome, told.map(|record| record["outcome"].as_str().unwrap().to_string()).collect::<Vec<_>>())
    };
    let (outcome, told) = batch(&["--continue", "--dry-run"]);
    let left_out = |outcome: &Outcome| {
        assert_eq!(outcome.status, 1, "{}", outcome.err);
        assert!(outcome.err.contains("1 of 3 artifacts were left out: reg.example.com/gone:v1"), "{}", outcome.err);
    };
    left_out(&outcome);
    assert_eq!(told, ["planned", "failed", "planned"]);
    assert!(!dir.join("out").exists(), "a dry run wrote something");
    let (failed, told) = batch(&[]);
    assert_eq!(failed.status, 1, "{}", failed.err);
    assert_eq!(told, ["archived", "failed", "incomplete"]);
    let (failed, told) = batch(&["--continue"]);
    left_out(&failed);
    assert_eq!(told, ["present", "failed", "archived"]);
    for line in outcome.text().lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let size = dir.read(&format!("out/{}", words[0])).len().to_string();
        assert_eq!(words[1], size, "the dry run said another size: {line}");
    }
    dir.write("batch.csv", format!("name,artifact\n{}{}", list[0], list[2]));
    let (nothing, told) = batch(&[]);
    assert!(nothing.ok().err.contains("nothing is new: all 2 artifacts were sent already"));
    assert_eq!(told, ["present", "present"]);
}

#[test]
fn a_run_that_is_killed_leaves_nothing_that_is_called_whole() {
    let dir = Dir::new();
    let mut content = Content::default();
    for n in 0..4 {
        content.image(&format!("app{n}"), "v1", &[noise(n, 1_000_000), noise(n + 9, 100_000)]);
    }
    let registry = Scripted::start(content, |_, mut answer| {
        answer.delay = Duration::from_millis(10);
        answer
    });
    configure(&dir, &registry.endpoint(), 4);
    let list: Vec<String> = (0..4).map(|n| format!("series,reg.example.com/app{n}:v1\n")).collect();
    dir.write("batch.csv", format!("name,artifact\n{}", list.concat()));
    for n in 0..12 {
        let mut child = tool(&dir, &["mirror", "batch-serialize", "-q", "batch.csv", "out"]).spawn().unwrap();
        thread::sleep(Duration::from_millis(15 * n));
        child.kill().unwrap();
        child.wait().unwrap();
        let Ok(tracker) = fs::read_to_string(dir.join("out/record-keeping.csv")) else { continue };
        for line in tracker.lines().skip(1) {
            let name = line.split(',').next().unwrap();
            peer(&dir, "tar", &["-tf", &format!("out/{name}")]);
        }
    }
    ace_dt(&dir, &["mirror", "batch-serialize", "-q", "batch.csv", "out"]).ok();
    let tracker = dir.text("out/record-keeping.csv");
    let names: Vec<&str> = tracker.lines().skip(1).map(|l| l.split(',').next().unwrap()).collect();
    assert_eq!(names, ["000001-series.tar", "000002-series.tar", "000003-series.tar", "000004-series.tar"]);
    let left: Vec<_> = fs::read_dir(dir.join("out")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.len() <= 6, "{left:?}");
}

#[test]
fn lists_and_trackers_that_are_wrong() {
    let dir = Dir::new();
    let run = || ace_dt(&dir, &["mirror", "batch-serialize", "-q", "batch.csv", "out"]);
    run().fails(2, &["batch.csv", "No such file"]);
    dir.write("batch.csv", "artifact,name\n");
    run().fails(2, &["batch.csv", "line 1", "the header is not name,artifact"]);
    dir.write("batch.csv", "name,artifact\na/b,reg.example.com/x:1\n");
    run().fails(2, &["line 2", "\"a/b\" is no name for a file"]);
    dir.write("batch.csv", "name,artifact\na,alpine\n");
    run().fails(2, &["line 2", "docker.io/library/alpine"]);
    dir.write("batch.csv", "name,artifact\na,reg.example.com/x:1\n");
    dir.write("out/record-keeping.csv", "sync_name,artifact,digest\n000001-a.tar,reg.example.com/x:1,sha256:0\n");
    run().fails(1, &["record-keeping.csv", "line 2", "is not a digest"]);
}

#[test]
fn streams_through_one_pipe_and_apart_again() {
    let dir = Dir::new();
    let contents = [noise(1, 1_000_000), Vec::new(), noise(2, 70_000), b"short".to_vec()];
    contents.iter().enumerate().for_each(|(n, bytes)| drop(dir.write(&format!("in{n}"), bytes)));
    // The third is a FIFO whose writer comes late.
    peer(&dir, "sh", &["-c", "mv in2 late; mkfifo in2"]);
    dir.write("out3", "before ");
    let tool = env!("CARGO_BIN_EXE_ace-dt");
    for block in ["", "-b 1", "-b 100k"] {
        let script = format!(
            "(sleep 0.1; cat late > in2) & {tool} util mux {block} in0 in1 in2 in3 | {tool} util demux out0 out1 out2 out3; wait"
        );
        if block == "-b 1" {
            dir.write("in0", b"abc");
        }
        ["out0", "out1", "out2"].iter().for_each(|f| drop(fs::remove_file(dir.join(f))));
        peer(&dir, "sh", &["-ec", &script]);
        assert!(dir.read("out0") == dir.read("in0") && dir.read("out2") == dir.read("late"), "{block}");
        assert!(dir.read("out1").is_empty());
    }
    assert_eq!(dir.text("out3"), "before shortshortshort", "demux appends");
    // One frame, byte by byte.
    let framed = Command::new(tool).args(["util", "mux", "in3"]).current_dir(&*dir).output().unwrap().stdout;
    assert_eq!(framed, b"\0\0\0\0\x05\0\0\0\0\0\0\0short");
    let demux = |input: &[u8]| crate::util::ace_dt_with(&dir, &["util", "demux", "x"], input);
    demux(&framed[..5]).fails(1, &["after 5 bytes of a frame's head"]);
    demux(&framed[..14]).fails(1, &["3 bytes before the end of a frame", "at byte 14"]);
    demux(b"\x01\0\0\0\x05\0\0\0\0\0\0\0short").fails(1, &["a frame of stream 1, and 1 files to write"]);
    ace_dt(&dir, &["util", "mux", "in0", "none"]).fails(1, &["opening \"none\"", "No such file"]);
    ace_dt(&dir, &["util", "mux"]).fails(2, &["FILE is missing"]);
}
