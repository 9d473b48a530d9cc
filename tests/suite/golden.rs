//! Archives and checkpoints of the Go tool: ours must be the same, byte for byte.

use std::{
    fs,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::{
    registry::{self, Registry, Storage, golden},
    scripted::{Content, Scripted},
    util::{Dir, ace_dt, noise, peer},
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

/// The same, with a registry that has the golden images.
fn served() -> (Dir, Registry) {
    let dir = prepare();
    Storage::golden(&dir.join("storage"));
    let registry = Registry::start(&dir.join("storage"));
    (dir, registry)
}

/// Makes the archive again and compares it and its checkpoint.
fn check(dir: &Dir, name: &str, sources: &str, words: &[&str], operands: &[&str]) {
    let sources = format!("golden/{sources}");
    let mut all = vec!["mirror", "archive", "-q", "--force", sources.as_str(), "out.tar"];
    all.extend(operands);
    all.extend(["--checkpoint", "out.checkpoint"]);
    all.extend(words);
    ace_dt(dir, &all).ok();
    compare(dir, name, words);
}

/// The archive with a `manifest.json` that loads: Docker and Podman refuse names that hold a digest, as the Go tool
/// writes them.
fn loadable(archive: &[u8]) -> Vec<u8> {
    let at = archive.windows(14).position(|window| window == b"manifest.json\0").unwrap();
    let size = std::str::from_utf8(&archive[at + 124..at + 135]).unwrap();
    let size = usize::from_str_radix(size, 8).unwrap();
    #[derive(serde::Serialize, serde::Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Image {
        config: String,
        repo_tags: Vec<String>,
        layers: Vec<String>,
    }
    let mut images: Vec<Image> = serde_json::from_slice(&archive[at + 512..at + 512 + size]).unwrap();
    let before: usize = images.iter().map(|image| image.repo_tags.len()).sum();
    images.iter_mut().for_each(|image| image.repo_tags.retain(|name| !name.contains('@')));
    let dropped = before - images.iter().map(|image| image.repo_tags.len()).sum::<usize>();
    assert!(dropped > 0, "there is nothing to change");
    let content = serde_json::to_vec_pretty(&images).unwrap();
    let mut header = archive[at..at + 512].to_vec();
    header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let padding = vec![0; content.len().next_multiple_of(512) - content.len()];
    let rest = &archive[at + 512 + size.next_multiple_of(512)..];
    [&archive[..at], &header, &content, &padding, rest].concat()
}

/// Compares `out.tar` and its checkpoint with a golden archive.
fn compare(dir: &Dir, name: &str, words: &[&str]) {
    for (ours, theirs) in [("out.tar", format!("{name}.tar")), ("out.checkpoint", format!("{name}.checkpoint"))] {
        let (ours, mut golden) = (dir.read(ours), fs::read(golden().join("archives").join(&theirs)).unwrap());
        if theirs == "manifest-json.tar" {
            golden = loadable(&golden);
        }
        let differ = ours.iter().zip(&golden).position(|(a, b)| a != b);
        assert!(
            ours == golden,
            "{theirs} {words:?}: {} bytes instead of {}, differ at {differ:?}",
            ours.len(),
            golden.len()
        );
    }
}

/// Skopeo reads what Podman loads, by the same library: an image by its name, and one that has only a digest.
#[test]
fn what_docker_load_reads_is_read_by_skopeo() {
    let (dir, registry) = served();
    registry.configure(&dir, "http", 4);
    ace_dt(&dir, &["mirror", "archive", "-q", "golden/sources-flat.list", "out.tar", "--manifest-json"]).ok();
    let listed = peer(&dir, "tar", &["-xOf", "out.tar", "manifest.json"]);
    let listed: Vec<serde_json::Value> = serde_json::from_slice(&listed).unwrap();
    let nameless = listed.iter().position(|image| image["RepoTags"].as_array().unwrap().is_empty()).unwrap();
    for (n, which) in ["reg.example.com/gold/library/alpha:v1".to_string(), format!("@{nameless}")].iter().enumerate() {
        let (from, to) = (format!("docker-archive:out.tar:{which}"), format!("dir:copy{n}"));
        peer(&dir, "skopeo", &["--insecure-policy", "--tmpdir", ".", "copy", "-q", &from, &to]);
    }
}

#[test]
fn every_golden_archive_is_made_again() {
    let (dir, registry) = served();
    registry.configure(&dir, "http", 25);
    for (name, sources, words) in CASES {
        check(&dir, name, sources, words, &[]);
    }
    let existing = ["reg.example.com/gold/library/alpha:v1", "reg.example.com/gold/library/beta:1.2"];
    check(&dir, "ser-existing", "sources.list", &["--reference", "s1"], &existing);
}

#[test]
fn buffers_blocks_and_producers_change_nothing() {
    let (dir, registry) = served();
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

#[test]
fn gathered_and_serialized_it_is_the_golden_archive() {
    let (dir, registry) = served();
    registry.configure(&dir, "http", 25);
    let image = |name: &str| format!("reg.example.com/gold/{name}");
    for (sources, to, words) in [
        ("sources-oci.list", "sync/platforms:s1", &["-p", "linux/amd64", "-p", "linux/arm64"][..]),
        ("sources-oci.list", "sync/v8:s1", &["-p", "linux/arm64/v8"]),
        ("sources.list", "sync/all:s1", &[]),
        ("sources-flat.list", "sync/flat:s1", &["--index-fallback", "-a", "k=v"]),
    ] {
        let sources = format!("golden/{sources}");
        ace_dt(&dir, &[&["mirror", "gather", "-q", &sources, &image(to)], words].concat()).ok();
    }
    let (alpha, beta) = (image("library/alpha:v1"), image("library/beta:1.2"));
    let resumed = ["--existing-from-checkpoint", "golden/archives/ser-all.checkpoint:323072"];
    for (name, from, words) in [
        ("platforms", "sync/platforms:s1", &[][..]),
        ("platforms-v8", "sync/v8:s1", &[]),
        ("ser-all", "sync/all:s1", &[]),
        ("ser-existing", "sync/all:s1", &[&*alpha, &*beta]),
        ("ser-image", "library/beta:1.2", &[]),
        ("ser-fallback", "sync/flat:s1", &[]),
        ("ser-recursive", "charts/delta:0.1.0", &["-r"]),
        ("ser-resumed-plus1", "sync/all:s1", &resumed),
    ] {
        let image = image(from);
        let first = ["mirror", "serialize", "-q", "--force", "--checkpoint", "out.checkpoint", &image, "out.tar"];
        ace_dt(&dir, &[&first[..], words].concat()).ok();
        compare(&dir, name, words);
    }
}

#[test]
fn an_archive_is_a_source_like_a_registry() {
    let dir = prepare();
    for (name, image, words) in [
        ("plain", "latest", &[][..]),
        ("recursive", "latest", &["-r"]),
        ("index-fallback", "latest", &[]),
        ("platforms", "s1", &[]),
        ("annotated", "sync-45", &[]),
        ("ser-all", "s1", &[]),
        ("ser-image", "1.2", &[]),
        ("ser-recursive", "0.1.0", &["-r"]),
    ] {
        let image = format!("oci-archive:golden/archives/{name}.tar:{image}");
        let first = ["mirror", "serialize", "-q", "--force", "--checkpoint", "out.checkpoint", &image, "out.tar"];
        ace_dt(&dir, &[&first[..], words].concat()).ok();
        compare(&dir, name, words);
    }
    // Without a name it is all that was gathered; by the name of one image, that one.
    let all = list(&dir, "golden/archives/plain.tar");
    ace_dt(&dir, &["mirror", "serialize", "-q", "--force", "oci-archive:golden/archives/plain.tar", "all.tar"]).ok();
    assert_eq!(list(&dir, "all.tar"), all);
    let beta = "oci-archive:golden/archives/plain.tar:reg.example.com/gold/library/beta:1.2";
    dir.write("list", format!("{beta},component=core\n"));
    ace_dt(&dir, &["mirror", "archive", "-q", "list", "beta.tar"]).ok();
    let held = list(&dir, "beta.tar");
    let of_beta: Vec<_> = all.lines().filter(|line| line.contains("beta:1.2")).collect();
    assert_eq!(of_beta.len(), 1);
    let [_, rest @ ..] = &*of_beta[0].split_whitespace().collect::<Vec<_>>() else { panic!("{of_beta:?}") };
    let last: Vec<_> = held.lines().last().unwrap().split_whitespace().collect();
    assert_eq!((last[0], &last[1..]), (beta, rest));
}

#[test]
fn an_archive_that_cannot_be_a_source_says_why() {
    let dir = prepare();
    let archive = fs::read(golden().join("archives/plain.tar")).unwrap();
    dir.write("cut.tar", &archive[..archive.len() / 2]);
    dir.write("text", "no archive");
    for (image, why) in [
        ("oci-archive:", "IMAGE: \"oci-archive:\" names no file"),
        ("oci-archive:gone.tar:v1", "IMAGE: \"oci-archive:gone.tar:v1\": there is no such file"),
        ("oci-archive:golden/archives/plain.tar:v9", "there is no image \"v9\" in the archive"),
        ("oci-archive:golden/archives/zstd.tar.zst", "it is no regular file, or is compressed"),
        ("oci-archive:cut.tar:latest", "opening the archive \"cut.tar\": "),
        ("oci-archive:text", "opening the archive \"text\": "),
    ] {
        ace_dt(&dir, &["mirror", "serialize", "-q", image, "out.tar"])
            .fails(if why.starts_with("IMAGE: ") { 2 } else { 1 }, &[why]);
        assert!(!dir.join("out.tar").exists(), "{image}");
    }
    // A blob that is damaged there is told of, and the archive is not called whole.
    let mut damaged = archive;
    let at = damaged.len() / 2;
    damaged[at] ^= 1;
    dir.write("damaged.tar", damaged);
    ace_dt(&dir, &["mirror", "serialize", "-q", "oci-archive:damaged.tar", "out.tar"])
        .fails(1, &["damaged.tar", "sha256:"]);
}

#[test]
fn compressed_it_decompresses_to_the_golden_archive() {
    let (dir, registry) = served();
    registry.configure(&dir, "http", 25);
    let config = dir.text("ace-dt-config.yaml");
    for level in ["min", "normal", "max"] {
        dir.write("ace-dt-config.yaml", format!("{config}compressionLevel: {level}\n"));
        for (format, program) in [("zstd", "zstd"), ("gzip", "gzip")] {
            for buffer in [&["-m", "0"][..], &["-m", "1Mi", "-b", "4Ki"], &["-b", "7"]] {
                let words =
                    ["mirror", "archive", "-q", "--force", "--checkpoint", "checkpoint", "--compression", format];
                ace_dt(&dir, &[&words, buffer, &["golden/sources.list", "out"]].concat()).ok();
                assert!(peer(&dir, program, &["-dc", "out"]) == fs::read(golden().join("archives/plain.tar")).unwrap());
                records_are_true(&dir, program);
            }
        }
    }
    let theirs = peer(&dir, "gzip", &["-dc", "golden/archives/gzip.tar.gz"]);
    assert!(theirs == fs::read(golden().join("archives/plain.tar")).unwrap(), "the Go tool's is the same");
}

fn list(dir: &Dir, archive: &str) -> String {
    ace_dt(dir, &["mirror", "list", archive]).ok().text().into()
}

/// Each record's prefix of the compressed archive decompresses to one that holds the blob whole.
fn records_are_true(dir: &Dir, program: &str) {
    let archive = dir.read("out");
    let plain = fs::read_to_string(golden().join("archives/plain.checkpoint")).unwrap();
    let checkpoint = dir.text("checkpoint");
    let record = |line: &str| -> (String, usize) {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        let offset = record["annotations"]["vnd.act3-ace.data.offset"].as_str().unwrap().parse().unwrap();
        (record["digest"].as_str().unwrap().into(), offset)
    };
    assert_eq!(checkpoint.lines().count(), plain.lines().count());
    for (n, (ours, planned)) in checkpoint.lines().zip(plain.lines()).enumerate() {
        let ((digest, offset), (same, end)) = (record(ours), record(planned));
        assert_eq!(digest, same);
        // Every seventh is enough for a quick test.
        if n % 7 == 0 {
            dir.write("part", &archive[..offset]);
            assert_eq!(peer(dir, program, &["-dc", "part"]).len(), end, "blob {n} {digest}");
        }
    }
}
