//! Archives and checkpoints of the Go tool: ours must be the same, byte for byte.

use std::{
    fs,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::{
    registry::{self, Registry, Storage, golden},
    scripted::{Content, Scripted},
    util::{Dir, ace_dt, noise},
};

/// Golden archive, sources file, further words.
const CASES: &[(&str, &str, &[&str])] = &[
    ("plain", "sources.list", &[]),
    ("annotated", "sources.list", &["-a", "org.example.sync=45,team=ops", "--reference", "sync-45"]),
    ("index-fallback", "sources.list", &["--index-fallback"]),
    ("recursive", "sources.list", &["-r"]),
    ("manifest-json", "sources-flat.list", &["--manifest-json"]),
    ("index-fallback-flat", "sources-flat.list", &["--index-fallback"]),
    // The Go tool made these in two steps, gather and serialize; in one go they are the same.
    ("platforms", "sources-oci.list", &["-p", "linux/amd64", "-p", "linux/arm64", "--reference", "s1"]),
    ("platforms-v8", "sources-oci.list", &["-p", "linux/arm64/v8", "--reference", "s1"]),
    ("ser-all", "sources.list", &["--reference", "s1"]),
    ("ser-fallback", "sources-flat.list", &["--index-fallback", "-a", "k=v", "--reference", "s1"]),
    (
        "ser-resumed-plus1",
        "sources.list",
        &["--reference", "s1", "--existing-from-checkpoint", "golden/archives/ser-all.checkpoint:323072"],
    ),
];

fn prepare() -> Dir {
    let dir = Dir::new();
    std::os::unix::fs::symlink(golden(), dir.join("golden")).unwrap();
    dir
}

/// Makes the archive again and compares it and its checkpoint.
fn check(dir: &Dir, name: &str, sources: &str, words: &[&str], operands: &[&str]) {
    let sources = format!("golden/{sources}");
    let mut all = vec!["mirror", "archive", "-q", "--force", sources.as_str(), "out.tar"];
    all.extend(operands);
    all.extend(["--checkpoint", "out.checkpoint"]);
    all.extend(words);
    ace_dt(dir, &all).ok();
    for (ours, theirs) in [("out.tar", format!("{name}.tar")), ("out.checkpoint", format!("{name}.checkpoint"))] {
        let (ours, golden) = (dir.read(ours), fs::read(golden().join("archives").join(&theirs)).unwrap());
        let differ = ours.iter().zip(&golden).position(|(a, b)| a != b);
        assert!(
            ours == golden,
            "{theirs} {words:?}: {} bytes instead of {}, differ at {differ:?}",
            ours.len(),
            golden.len()
        );
    }
}

#[test]
fn every_golden_archive_is_made_again() {
    let dir = prepare();
    Storage::golden(&dir.join("storage"));
    let registry = Registry::start(&dir.join("storage"));
    registry.configure(&dir, "http", 25);
    for (name, sources, words) in CASES {
        check(&dir, name, sources, words, &[]);
    }
    let existing = ["reg.example.com/gold/library/alpha:v1", "reg.example.com/gold/library/beta:1.2"];
    check(&dir, "ser-existing", "sources.list", &["--reference", "s1"], &existing);
}

#[test]
fn buffers_blocks_and_producers_change_nothing() {
    let dir = prepare();
    Storage::golden(&dir.join("storage"));
    let registry = Registry::start(&dir.join("storage"));
    for producers in [1, 30] {
        registry.configure(&dir, "http", producers);
        for shape in
            [&["-m", "1Mi", "-b", "4Ki", "--hwm", "50"][..], &["-m", "0"], &["-b", "512"], &["-m", "64Ki", "-b", "7"]]
        {
            for (name, sources, words) in CASES {
                check(&dir, name, sources, &[words, shape].concat(), &[]);
            }
        }
    }
}

#[test]
fn a_registry_that_answers_in_random_order_changes_nothing() {
    let seed = AtomicU64::new(1);
    let scripted = Scripted::start(Content::golden(), move |_, mut answer| {
        let random = noise(seed.fetch_add(1, Ordering::Relaxed), 1)[0];
        answer.delay = Duration::from_millis(u64::from(random) / 8);
        answer
    });
    let dir = prepare();
    registry::configure(&dir, &scripted.endpoint(), 25);
    for (name, sources, words) in CASES {
        check(&dir, name, sources, words, &[]);
    }
}
