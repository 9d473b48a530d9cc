//! What is seen of a run: lines in a real terminal, charts, metrics, objects.

use std::{fs, os::unix::fs::FileTypeExt as _};

use serde_json::Value;

use crate::{
    registry::configure,
    scripted::{Content, Scripted},
    terminal::Terminal,
    util::{Dir, ace_dt, noise, peer},
};

/// Two lines are redrawn, whatever becomes of the terminal's width, and a signal leaves none of them behind.
#[test]
fn lines_are_redrawn_in_a_terminal() {
    let dir = Dir::new();
    let run = "exec sh -c 'trap : INT; ace-dt util mbuffer -m 4Mi -b 64Ki -R 1Mi -i /dev/zero > /dev/null; echo status $?; cat'";
    let terminal = Terminal::start(&dir, 100, 12, run);
    let text = terminal.wait_for("device writing");
    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines[0].contains("MiB/s") && lines[1].starts_with("buffer ["), "{text}");
    // They are redrawn, not added to.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert_eq!(terminal.text().matches("buffer [").count(), 1, "{}", terminal.text());
    for width in [30, 5, 200] {
        terminal.resize(width);
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
    terminal.wait_for("device writing");
    terminal.keys(&["C-c"]);
    let text = terminal.wait_for("status 130");
    assert!(text.contains("interrupted by SIGINT"), "{text}");
    // Where nothing was resized no line is left behind.
    drop(terminal);
    let dir = Dir::new();
    let terminal = Terminal::start(&dir, 100, 12, run);
    terminal.wait_for("device writing");
    terminal.keys(&["C-c"]);
    let text = terminal.wait_for("status 130");
    assert!(!text.contains("buffer ["), "{text}");
}

#[test]
fn a_dumb_terminal_gets_plain_lines() {
    let dir = Dir::new();
    let run = "TERM=dumb ace-dt util mbuffer -m 4Mi -R 4Mi -i in > /dev/null 2> said; script -qc 'TERM=dumb ace-dt util mbuffer \
               -m 4Mi -b 64Ki -i in -o out' typed; echo over; cat";
    dir.write("in", noise(1, 1_000_000));
    let terminal = Terminal::start(&dir, 100, 12, run);
    terminal.wait_for("over");
    let typed = dir.text("typed");
    assert!(typed.contains("wrote 977 KiB") && !typed.contains("\x1b["), "{typed}");
}

/// The picture and the figures of a run say what it was, and those of one that failed that it did.
#[test]
fn charts_and_metrics() {
    let dir = Dir::new();
    dir.write("in", noise(1, 5_000_000));
    let words = ["util", "mbuffer", "-q", "-m", "1Mi", "-b", "64Ki", "-R", "10M", "-i", "in", "-o", "out"];
    ace_dt(&dir, &[&words[..], &["--chart", "run.svg", "--metrics", "run.prom"]].concat()).ok();
    let chart = dir.text("run.svg");
    assert!(chart.starts_with("<svg ") && chart.ends_with("</svg>\n") && chart.len() < 100_000);
    assert!(chart.contains("4.77 MiB in, 4.77 MiB out") && chart.contains("1 start, 0 stops"), "{chart}");
    let metrics = dir.text("run.prom");
    let value = |name: &str| -> f64 {
        let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("ace_dt_{name} ")));
        line.unwrap_or_else(|| panic!("{name}: {metrics}")).parse().unwrap()
    };
    assert_eq!((value("sent_bytes_total"), value("finished")), (5e6, 1.0));
    assert_eq!((value("received_bytes_total"), value("buffer_capacity_bytes")), (5e6, 1_048_576.0));
    assert!(value("elapsed_seconds") > 0.3 && value("device_writing_seconds_total") > 0.2);
    // Each metric is explained in the manual.
    let manual = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/man/ace-dt-progress.5")).unwrap();
    for line in metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ace_dt_")) {
        assert!(manual.contains(line.split(' ').next().unwrap()), "{line}");
    }
    fs::remove_file(dir.join("out")).unwrap();
    let failing = ["-o", "/dev/full", "--chart", "failed.svg", "--metrics", "failed.prom"];
    ace_dt(&dir, &[&words[..words.len() - 2], &failing].concat()).fails(1, &["No space left"]);
    assert!(dir.text("failed.svg").contains("it has not come to its end"));
    assert!(dir.text("failed.prom").contains("ace_dt_finished 0\n"));
    // A delivery that fails is not finished either; what is no chart and no metrics is not written over.
    dir.write("s", "oci:layout:v1\n");
    let layout = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/layout");
    std::os::unix::fs::symlink(layout, dir.join("layout")).unwrap();
    ace_dt(&dir, &["mirror", "archive", "-q", "s", "x.tar"]).ok();
    let nowhere = format!("127.0.0.1:{}/a:b", crate::util::free_port());
    let deliver = ["mirror", "deserialize", "-q", "--retries", "0", "x.tar", &nowhere];
    let failed = ace_dt(&dir, &[&deliver[..], &["--metrics", "d.prom", "--chart", "d.svg"]].concat());
    assert_eq!(failed.status, 1, "{}", failed.err);
    assert!(dir.text("d.prom").contains("ace_dt_finished 0\n") && dir.text("d.svg").contains("not come to its end"));
    // A FIFO stands for a device: nothing of the machine is at stake.
    peer(&dir, "mkfifo", &["fifo"]);
    for path in ["x.tar", "fifo", "layout"] {
        for flag in ["--chart", "--metrics"] {
            let outcome = ace_dt(&dir, &[&deliver[..], &[flag, path]].concat());
            assert!(outcome.status != 0 && outcome.err.contains(path), "{flag} {path}: {}", outcome.err);
        }
    }
    ace_dt(&dir, &["mirror", "verify", "-q", "x.tar"]).ok();
    assert!(fs::metadata(dir.join("fifo")).unwrap().file_type().is_fifo());
    // What cannot be written is told before anything is.
    ace_dt(&dir, &[&words[..], &["--chart", "none/run.svg"]].concat()).fails(1, &["none/run.svg"]);
    ace_dt(&dir, &[&words[..], &["--metrics", "in"]].concat()).fails(2, &["\"in\" is both --input and --metrics"]);
    assert!(dir.read("in").len() == 5_000_000);
}

/// An archive, what is delivered of it, and the objects on the way: every member is explained in the manual.
#[test]
fn objects_for_programs() {
    let mut content = Content::default();
    content.image("app", "v1", &[noise(1, 3_000_000)]);
    let (dir, source) = (Dir::new(), Scripted::honest(content));
    configure(&dir, &source.endpoint(), 4);
    dir.write("s", "reg.example.com/app:v1\n");
    let manual = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/man/ace-dt-progress.5")).unwrap();
    // Every word that is set as a member.
    let cm: Vec<&str> = manual
        .lines()
        .filter_map(|line| line.split_once("Cm "))
        .flat_map(|(_, words)| words.split([' ', ',']))
        .collect();
    let archive = ["mirror", "archive", "--progress", "json", "--debug", "events", "s", "x.tar", "--chart", "x.svg"];
    let outcome = ace_dt(&dir, &archive).ok();
    let mut events = Vec::new();
    for line in outcome.err.lines().chain(dir.text("events/logs.txt").lines()).filter(|line| line.starts_with('{')) {
        let object: Value = serde_json::from_str(line).unwrap();
        for (key, value) in object.as_object().unwrap() {
            assert!(key == "event" || cm.contains(&key.as_str()), "{key}");
            if key == "event" {
                assert!(manual.contains(&format!("Cm {}", value.as_str().unwrap())), "{value}");
                events.push(value.as_str().unwrap().to_string());
            }
        }
    }
    assert!(events.contains(&"resolving".into()) && events.contains(&"done".into()), "{events:?}");
    assert!(dir.text("x.svg").contains("2.87 MiB in, 2.87 MiB out"), "{}", dir.text("x.svg"));
    // The summary has the root's digest.
    fs::remove_file(dir.join("x.tar")).unwrap();
    let said = ace_dt(&dir, &["mirror", "archive", "s", "x.tar"]).ok().err;
    let root = said.split("root ").nth(1).unwrap().split([';', '\n']).next().unwrap();
    ace_dt(&dir, &["mirror", "verify", "-q", "--root", root, "x.tar"]).ok();
}

/// A plan, a verdict and a list as objects, and a list as a tree.
#[test]
fn lists_for_programs_and_trees() {
    let mut content = Content::default();
    content.image("app", "v1", &[noise(1, 3000), noise(2, 2000)]);
    content.image("app", "v2", &[noise(1, 3000)]);
    let (dir, source) = (Dir::new(), Scripted::honest(content));
    configure(&dir, &source.endpoint(), 4);
    dir.write("s", "reg.example.com/app:v1,team=web\nreg.example.com/app:v2\n");
    let plan = ace_dt(&dir, &["mirror", "archive", "-q", "--dry-run", "-o", "json", "s", "x.tar"]).ok();
    let plan: Value = serde_json::from_slice(&plan.out).unwrap();
    ace_dt(&dir, &["mirror", "archive", "-q", "s", "x.tar"]).ok();
    assert_eq!(plan["size"].as_u64().unwrap(), dir.read("x.tar").len() as u64);
    assert_eq!(plan["sources"][0]["reference"], "reg.example.com/app:v1");
    let json = |words: &[&str]| -> Value { serde_json::from_slice(&ace_dt(&dir, words).out).unwrap() };
    let verdict = json(&["mirror", "verify", "-q", "-o", "json", "x.tar"]);
    let kinds: Vec<&str> = verdict.as_array().unwrap().iter().map(|one| one["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["whole", "whole", "archive"]);
    assert_eq!(verdict[0]["reference"], "reg.example.com/app:v1");
    let root = plan["root"].as_str().unwrap();
    ace_dt(&dir, &["mirror", "verify", "-q", "--root", root, "x.tar"]).ok();
    assert_eq!(json(&["mirror", "list", "-o", "json", "x.tar"])[0]["labels"]["team"], "web");
    let tree = ace_dt(&dir, &["mirror", "list", "--tree", "x.tar"]).ok();
    let lines: Vec<&str> = tree.text().lines().collect();
    assert!(lines[0].starts_with("latest  gather index, ") && lines[0].ends_with(root), "{}", tree.text());
    assert!(lines[1].starts_with("|-- reg.example.com/app:v1  manifest, "), "{}", tree.text());
    assert!(tree.text().contains("|   |-- layer  application/vnd.oci.image.layer.v1.tar+gzip, 2.93 KiB, "));
    assert_eq!(tree.text().matches(", shared by 2").count(), 4, "{}", tree.text());
    let mut bytes = dir.read("x.tar");
    let at = bytes.windows(64).position(|window| window == &noise(2, 2000)[..64]).unwrap();
    bytes[at] ^= 1;
    dir.write("bad.tar", &bytes);
    let verdict = json(&["mirror", "verify", "-q", "-o", "json", "bad.tar"]);
    let kinds: Vec<&str> = verdict.as_array().unwrap().iter().map(|one| one["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["damaged", "broken", "whole", "archive"], "{verdict}");
    assert_eq!(verdict[1]["brokenParts"], 1);
}
