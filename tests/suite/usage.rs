//! The command line, configuration, sources and credentials.

use std::fs;

use crate::{
    registry::{Registry, Storage, configure},
    scripted::{Content, Scripted},
    util::{Dir, Signal, ace_dt, ace_dt_with, noise, peer, send, tool},
};

const IMAGE: &str = "reg.example.com/app:v1";

#[test]
fn wrong_usage_is_2_and_touches_nothing() {
    let dir = Dir::new();
    dir.write("s", IMAGE);
    dir.write("old.tar", "something");
    dir.write("checkpoint", "");
    for (words, named) in [
        (&["mirror", "archive", "s"][..], "DEST-FILE is missing"),
        (&["mirror", "archive", "s", "o", "-b", "x"], "--block-size: \"x\" is not a size"),
        (&["mirror", "archive", "s", "s"], "\"s\" is both SOURCES-FILE and DEST-FILE"),
        (&["mirror", "archive", "s", "o", "--checkpoint", "o"], "\"o\" is both DEST-FILE and --checkpoint"),
        (&["mirror", "archive", "s", "o", "--checkpoint", "./o"], "\"./o\" is both DEST-FILE and --checkpoint"),
        (
            &[
                "mirror",
                "archive",
                "s",
                "o",
                "--checkpoint",
                "checkpoint",
                "--existing-from-checkpoint",
                "checkpoint:1",
            ],
            "\"checkpoint\" is both --existing-from-checkpoint and --checkpoint",
        ),
        (&["mirror", "archive", "s", "o", "--config", "none.yaml"], "\"none.yaml\""),
        (&["mirror", "archive", "checkpoint", "o"], "it lists no sources"),
        (&["mirror", "archive", "s", "o", "-m", "1Ki"], "smaller than one block"),
        (&["frob"], "no command \"frob\""),
    ] {
        ace_dt(&dir, words).fails(2, &[named]);
    }
    ace_dt(&dir, &["mirror", "archive", "none", "o"]).fails(1, &["reading the sources file \"none\"", "No such file"]);
    ace_dt(&dir, &["mirror", "archive", "s", "old.tar"]).fails(1, &["old.tar", "9 bytes already", "--force"]);
    assert_eq!(dir.text("old.tar"), "something");
    assert!(!dir.join("o").exists());
    dir.write("s", "alpine:3\nreg.example.com/UP\n");
    ace_dt(&dir, &["mirror", "archive", "s", "o"]).fails(2, &["line 1", "docker.io/library/alpine:3", "line 2", "UP"]);
    dir.write("ace-dt-config.yaml", "kind: Configuration\nconcurrentHTTP: [1]\n");
    ace_dt(&dir, &["mirror", "archive", "s", "o"]).fails(2, &["line"]);
    dir.write("s", IMAGE);
    ace_dt(&dir, &["mirror", "archive", "s", "o"]).fails(2, &["\"ace-dt-config.yaml\"", "line 2"]);
}

#[test]
fn version_and_help_go_to_standard_output() {
    let dir = Dir::new();
    assert_eq!(ace_dt(&dir, &["version"]).ok().text(), "ace-dt (devel)\n");
    assert_eq!(ace_dt(&dir, &["mirror", "archive", "--version"]).ok().text(), "ace-dt (devel)\n");
    let help = ace_dt(&dir, &["util", "mbuffer", "-h"]).ok();
    assert!(help.text().contains("--buffer-size SIZE") && !help.text().contains("--recursive"));
    assert!(ace_dt(&dir, &["mirror", "--help"]).ok().text().contains("\n  archive  "));
}

#[test]
fn a_signal_ends_a_wait_for_the_sources() {
    let dir = Dir::new();
    let mut child =
        tool(&dir, &["mirror", "archive", "-", "out.tar"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
    let kept = child.stdin.take();
    std::thread::sleep(std::time::Duration::from_millis(200));
    send(&child, Signal::SIGINT);
    crate::util::finish(child).fails(130, &["interrupted by SIGINT"]);
    drop(kept);
}

#[test]
fn both_files_may_be_standard_streams() {
    let scripted = Scripted::honest(Content::small());
    let dir = Dir::new();
    configure(&dir, &scripted.endpoint(), 4);
    dir.write("s", IMAGE);
    ace_dt(&dir, &["mirror", "archive", "-q", "s", "file.tar"]).ok();
    let streamed = ace_dt_with(&dir, &["mirror", "archive", "-", "-"], IMAGE.as_bytes()).ok();
    assert!(streamed.out == dir.read("file.tar"));
    assert!(streamed.err.starts_with("wrote "), "{}", streamed.err);
    // A second archive into the same file is refused; with --force it replaces the first.
    ace_dt(&dir, &["mirror", "archive", "-q", "s", "file.tar"]).fails(1, &["--force"]);
    ace_dt(&dir, &["mirror", "archive", "-q", "s", "file.tar", "--force"]).ok();
    assert!(streamed.out == dir.read("file.tar"));
}

#[test]
fn a_dry_run_knows_the_size_and_writes_nothing() {
    let scripted = Scripted::honest(Content::small());
    let dir = Dir::new();
    configure(&dir, &scripted.endpoint(), 4);
    dir.write("s", IMAGE);
    let plan = ace_dt(&dir, &["mirror", "archive", "s", "file.tar", "--dry-run", "--report", "report"]).ok();
    assert!(!dir.join("file.tar").exists());
    assert!(dir.text("report").contains("\"planned\""));
    assert!(!scripted.requests().iter().any(|r| r.contains("/blobs/")), "{:?}", scripted.requests());
    ace_dt(&dir, &["mirror", "archive", "-q", "s", "file.tar"]).ok();
    let size = fs::metadata(dir.join("file.tar")).unwrap().len();
    assert!(plan.text().contains(&format!("archive size: {size} bytes")), "{}", plan.text());
    assert!(plan.text().contains("images: 1\n") && plan.text().contains(IMAGE));
}

#[test]
fn where_nothing_fails_there_is_one_request_for_each_manifest_and_blob() {
    let scripted = Scripted::honest(Content::golden());
    let dir = Dir::new();
    configure(&dir, &scripted.endpoint(), 8);
    fs::copy(crate::registry::golden().join("sources.list"), dir.join("s")).unwrap();
    ace_dt(&dir, &["mirror", "archive", "-q", "s", "file.tar"]).ok();
    let mut requests = scripted.requests();
    let all = requests.len();
    requests.sort();
    requests.dedup();
    assert_eq!(requests.len(), all, "something was asked for twice");
}

#[test]
fn a_layout_in_a_directory_is_a_source() {
    let dir = Dir::new();
    Storage::golden(&dir.join("storage"));
    let registry = Registry::start(&dir.join("storage"));
    let from = format!("docker://127.0.0.1:{}/gold/library/alpha:v1", registry.port);
    let words =
        ["--insecure-policy", "--tmpdir", ".", "copy", "-q", "--all", "--src-tls-verify=false", &from, "oci:lay:v1"];
    peer(&dir, "skopeo", &words);
    drop(registry);
    dir.write("s", "oci:lay:v1,kind=base");
    ace_dt(&dir, &["mirror", "archive", "-q", "s", "file.tar"]).ok();
    let listing = peer(&dir, "tar", &["-xOf", "file.tar", "index.json"]);
    let listing = String::from_utf8(listing).unwrap();
    assert!(listing.contains("\"vnd.act3-ace.manifest.source\": \"oci:lay:v1\""), "{listing}");
    assert!(listing.contains("sha256:359c6557c802b767417706a055efbd9dd87ef46cfe01d4fb79dd86ad0bb0a91d"));
    dir.write("s", "oci:lay:v2");
    ace_dt(&dir, &["mirror", "archive", "-q", "s", "other.tar"])
        .fails(1, &["oci:lay:v2", "no image \"v2\"", "it has v1"]);
    dir.write("s", "oci:none");
    ace_dt(&dir, &["mirror", "archive", "-q", "s", "other.tar"]).fails(2, &["line 1", "oci:none", "no such directory"]);
}

#[test]
fn platforms_that_match_nothing_are_told() {
    let scripted = Scripted::honest(Content::golden());
    let dir = Dir::new();
    configure(&dir, &scripted.endpoint(), 4);
    dir.write("s", "reg.example.com/gold/library/alpha:v1\nreg.example.com/gold/library/beta:1.2\n");
    let outcome = ace_dt(&dir, &["mirror", "archive", "-q", "s", "out.tar", "-p", "plan9/mips"]);
    assert_eq!(outcome.status, 1);
    for words in [
        "alpha:v1: no manifest matches --platforms; it has linux/amd64, linux/arm/v7, linux/arm64/v8",
        "nothing is left: no source has a manifest",
    ] {
        assert!(outcome.err.contains(words), "{}", outcome.err);
    }
    assert!(!dir.join("out.tar").exists());
    // A Docker schema 2 image and an artifact, which the Go tool cannot filter.
    dir.write("s", "reg.example.com/gold/library/beta:1.2\nreg.example.com/gold/charts/delta:0.1.0\nreg.example.com/gold/nested/zeta:v1\n");
    ace_dt(&dir, &["mirror", "archive", "-q", "s", "out.tar", "-p", "linux/amd64", "--manifest-json"]).ok();
    let images = String::from_utf8(peer(&dir, "tar", &["-xOf", "out.tar", "manifest.json"])).unwrap();
    assert!(images.contains("gold/nested/zeta:v1") && images.contains("gold/library/beta:1.2"), "{images}");
}

#[test]
fn endpoints_are_tried_in_order_and_repositories_rewritten() {
    let mut content = Content::default();
    content.image("mirror/app", "v1", &[noise(1, 3000)]);
    let scripted = Scripted::honest(content);
    let dir = Dir::new();
    let free = crate::util::free_port();
    dir.write(
        "ace-dt-config.yaml",
        format!(
            "kind: Configuration\nfrob: 1\nregistryConfig:\n  registries:\n    reg.example.com:\n      endpoints:\n        \
            - http://127.0.0.1:{free}\n        - {}/\n      rewritePull:\n        '^(.*)$': mirror/$1\n",
            scripted.endpoint()
        ),
    );
    dir.write("s", IMAGE);
    let outcome = ace_dt(&dir, &["mirror", "archive", "-q", "s", "out.tar"]).ok();
    assert!(outcome.err.contains("unknown key frob"), "{}", outcome.err);
    let index = String::from_utf8(peer(&dir, "tar", &["-xOf", "out.tar", "index.json"])).unwrap();
    assert!(index.contains(IMAGE) && !index.contains("mirror/app"), "the name that the user wrote is lost");
}

#[test]
fn referrers_are_found_in_every_repository_that_has_the_image() {
    let mut content = Content::default();
    let image = |content: &mut Content, repository: &str| {
        content.image(repository, "v1", &[noise(1, 3000)]);
        content.body(&format!("/v2/{repository}/manifests/v1")).unwrap().to_vec()
    };
    let manifest = image(&mut content, "first");
    assert_eq!(image(&mut content, "second"), manifest);
    let digest = ace_dt::oci::Digest::of(&manifest);
    let subject = crate::registry::descriptor(crate::registry::MANIFEST, &digest, manifest.len());
    let config = crate::registry::descriptor("application/vnd.oci.empty.v1+json", &content.blob("second", b"{}"), 2);
    let signature = serde_json::json!({
        "schemaVersion": 2, "mediaType": crate::registry::MANIFEST, "config": config, "layers": [], "subject": subject,
    });
    let signature = signature.to_string().into_bytes();
    let signed = content.manifest("second", crate::registry::MANIFEST, &signature, None);
    let listed = crate::registry::descriptor(crate::registry::MANIFEST, &signed, signature.len());
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [listed]});
    let tag = format!("sha256-{}", digest.hex());
    content.manifest("second", "application/vnd.oci.image.index.v1+json", index.to_string().as_bytes(), Some(&tag));
    let scripted = Scripted::honest(content);
    let dir = Dir::new();
    configure(&dir, &scripted.endpoint(), 4);
    for sources in
        ["reg.example.com/first:v1\nreg.example.com/second:v1", "reg.example.com/second:v1\nreg.example.com/first:v1"]
    {
        dir.write("s", sources);
        ace_dt(&dir, &["mirror", "archive", "-q", "--force", "-r", "s", "out.tar"]).ok();
        let listing = String::from_utf8(peer(&dir, "tar", &["-tf", "out.tar"])).unwrap();
        assert!(listing.contains(&signed.path()), "the signature is lost: {sources}");
    }
}

#[test]
fn progress_as_json_and_in_a_file() {
    let scripted = Scripted::honest(Content::small());
    let dir = Dir::new();
    configure(&dir, &scripted.endpoint(), 4);
    dir.write("s", IMAGE);
    let words = ["mirror", "archive", "s", "out.tar", "--progress", "json", "--debug", "events"];
    let outcome = ace_dt(&dir, &words).ok();
    let last: serde_json::Value = serde_json::from_str(outcome.err.lines().last().unwrap()).unwrap();
    let size = fs::metadata(dir.join("out.tar")).unwrap().len();
    assert_eq!((last["event"].as_str(), last["accepted"].as_u64()), (Some("done"), Some(size)));
    assert!(dir.text("events/logs.txt").lines().all(|l| serde_json::from_str::<serde_json::Value>(l).is_ok()));
    assert!(dir.text("events/logs.txt").contains("\"event\":\"writing\""));
}
