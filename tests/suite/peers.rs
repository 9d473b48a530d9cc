//! Other tools read our archives.

use std::fs;

use crate::{
    registry::{Registry, Storage, golden},
    util::{Dir, ace_dt, peer},
};

fn archived(words: &[&str]) -> Dir {
    let dir = Dir::new();
    Storage::golden(&dir.join("storage"));
    let registry = Registry::start(&dir.join("storage"));
    registry.configure(&dir, "http", 25);
    fs::copy(golden().join("sources.list"), dir.join("sources.list")).unwrap();
    ace_dt(&dir, &[&["mirror", "archive", "-q", "sources.list", "out.tar"], words].concat()).ok();
    dir
}

#[test]
fn gnu_tar_unpacks_it_and_every_blob_has_its_digest() {
    let dir = archived(&["-r"]);
    peer(&dir, "mkdir", &["unpacked"]);
    peer(&dir, "tar", &["-xf", "out.tar", "-C", "unpacked"]);
    let mut blobs = 0;
    for entry in fs::read_dir(dir.join("unpacked/blobs/sha256")).unwrap() {
        let path = entry.unwrap().path();
        let sum = String::from_utf8(peer(&dir, "sha256sum", &[path.to_str().unwrap()])).unwrap();
        assert_eq!(sum.split_whitespace().next().unwrap(), path.file_name().unwrap().to_str().unwrap());
        blobs += 1;
    }
    let listed = peer(&dir, "tar", &["-tf", "out.tar"]);
    let listed = String::from_utf8(listed).unwrap().lines().filter(|l| l.starts_with("blobs/sha256/")).count();
    assert_eq!(blobs, listed);
    assert!(blobs > 35);
}

#[test]
fn skopeo_copies_an_image_out_of_it() {
    let dir = archived(&[]);
    peer(&dir, "mkdir", &["layout"]);
    peer(&dir, "tar", &["-xf", "out.tar", "-C", "layout"]);
    let name = "reg.example.com/gold/library/alpha:v1";
    for (n, from) in [format!("oci-archive:out.tar:{name}"), format!("oci:layout:{name}")].iter().enumerate() {
        let to = format!("dir:copied-{n}");
        peer(
            &dir,
            "skopeo",
            &["--insecure-policy", "--tmpdir", ".", "--override-arch", "amd64", "copy", "-q", from, &to],
        );
        let manifest = dir.read(&format!("copied-{n}/manifest.json"));
        let digest = ace_dt::oci::Digest::of(&manifest).to_string();
        assert_eq!(digest, "sha256:deac04c05a941d1ad97b3119e5cebc31a4edf7e08fb3b4bb6159b78c8026122b");
    }
    let index = peer(&dir, "skopeo", &["--tmpdir", ".", "inspect", "--raw", "oci-archive:out.tar:latest"]);
    assert!(String::from_utf8(index).unwrap().contains("application/vnd.act3-ace.data.gather+json"));
}
