//! A second registry implementation beside Docker's: go-containerregistry's, which `crane registry
//! serve` runs. `make test-second` builds it.

use std::{
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use crate::{
    push::{configure, golden_images_into},
    registry::Registry,
    scripted::{Content, Scripted},
    util::{Dir, ace_dt, peer, wait_for},
};

struct Crane {
    child: Child,
    port: u16,
}

fn program() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/crane").display().to_string()
}

impl Crane {
    fn start(dir: &Dir, disk: &str) -> Crane {
        peer(dir, "mkdir", &[disk]);
        for _ in 0..10 {
            let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
            let mut child = Command::new(program())
                .args(["registry", "serve", "--address", &format!("127.0.0.1:{port}"), "--disk", disk])
                .current_dir(&**dir)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap_or_else(|e| panic!("crane: {e}; `make test-second` builds it"));
            let mut ended = false;
            wait_for("crane", || {
                ended = child.try_wait().unwrap().is_some();
                ended || TcpStream::connect(("127.0.0.1", port)).is_ok()
            });
            if !ended {
                return Crane { child, port };
            }
        }
        panic!("crane could not be started");
    }
}

impl Drop for Crane {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "make test-second"]
fn second_registry_takes_the_golden_images_and_gives_them_back() {
    let dir = Dir::new();
    let crane = Crane::start(&dir, "first");
    let log = golden_images_into(&dir, &format!("http://127.0.0.1:{}", crane.port));
    println!("{}", log.lines().last().unwrap());
    let image = format!("127.0.0.1:{}/week:1", crane.port);
    peer(&dir, &program(), &["validate", "--remote", &image]);
    // It lists referrers by the API.
    dir.write("pushed", &image);
    let blobs = |words: &[&str]| -> usize {
        ace_dt(&dir, &[&["mirror", "archive", "-q", "--force", "pushed", "out.tar"], words].concat()).ok();
        let verdict = ace_dt(&dir, &["mirror", "verify", "-q", "out.tar"]).ok();
        let words: Vec<&str> = verdict.text().lines().last().unwrap().split_whitespace().collect();
        words[1].parse().unwrap()
    };
    let (all, without) = (blobs(&["-r"]), blobs(&[]));
    assert!(all > without, "{all} blobs with referrers, {without} without");
    drop(crane);
    // In chunks, and again: then everything is there.
    let crane = Crane::start(&dir, "second");
    let source = Scripted::honest(Content::golden());
    configure(&dir, &source.endpoint(), &format!("http://127.0.0.1:{}", crane.port));
    let words = ["mirror", "gather", "-v", "debug", "s", "dest.example.com/chunks:1"];
    let chunked = crate::util::tool(&dir, &words).env("ACE_DT_CHUNK_SIZE", "10k").spawn().unwrap();
    let log = crate::util::finish(chunked).ok().err;
    assert!(log.lines().filter(|l| l.contains("PATCH") && l.contains(": 202 ")).count() > 10, "{log}");
    peer(&dir, &program(), &["validate", "--remote", &format!("127.0.0.1:{}/chunks:1", crane.port)]);
    let again = ace_dt(&dir, &words).ok();
    assert_eq!(again.err.matches("POST").count(), 0, "{}", again.err);
}

/// All that the conformance program of the distribution specification lays down in Docker's registry: artifacts with and
/// without subjects that are there, nested indexes, inline data, SHA-512, layers that nobody may distribute.
#[test]
#[ignore = "make test-second"]
fn what_the_conformance_program_pushes_is_carried() {
    let dir = Dir::new();
    std::fs::create_dir_all(dir.join("storage")).unwrap();
    let registry = Registry::start(&dir.join("storage"));
    let address = format!("127.0.0.1:{}", registry.port);
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/conformance");
    // It fails where this registry is not as the specification has it; what it pushed counts.
    let _ = Command::new(program)
        .current_dir(&*dir)
        .envs([("OCI_REGISTRY", address.as_str()), ("OCI_TLS", "disabled"), ("OCI_LOG", "error")])
        .envs(["BLOBS", "MANIFESTS", "TAGS"].map(|what| (format!("OCI_API_{what}_DELETE"), "false")))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    let mut sources = Vec::new();
    for repository in ["conformance/repo1", "conformance/repo2"] {
        let manifests = dir.join("storage/docker/registry/v2/repositories").join(repository).join("_manifests");
        let names = |path: PathBuf| -> Vec<String> {
            let entries = std::fs::read_dir(path).into_iter().flatten();
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
        };
        sources.extend(names(manifests.join("tags")).iter().map(|tag| format!("{address}/{repository}:{tag}")));
        for algorithm in names(manifests.join("revisions")) {
            let digests = names(manifests.join("revisions").join(&algorithm));
            sources.extend(digests.iter().map(|hex| format!("{address}/{repository}@{algorithm}:{hex}")));
        }
    }
    sources.sort();
    assert!(sources.len() > 20, "the program pushed next to nothing: {sources:?}");
    dir.write("s", sources.join("\n"));
    ace_dt(&dir, &["mirror", "archive", "-q", "-r", "s", "out.tar", "--checkpoint", "ledger"]).ok();
    let verdict = ace_dt(&dir, &["mirror", "verify", "-q", "out.tar", "--checkpoint", "ledger"]).ok();
    println!("{} sources; {}", sources.len(), verdict.text().lines().last().unwrap());
    let list = ace_dt(&dir, &["mirror", "list", "-o", "csv", "out.tar"]).ok();
    for source in &sources {
        assert!(list.text().contains(source.as_str()), "{source} is not listed");
    }
    ace_dt(&dir, &["mirror", "gather", "-q", "-r", "s", &format!("{address}/copy:all")]).ok();
    // And back: the same archive comes out of what is delivered.
    ace_dt(&dir, &["mirror", "deserialize", "-q", "out.tar", &format!("{address}/back:all")]).ok();
    let root = |archive: &str| {
        let index = String::from_utf8(peer(&dir, "tar", &["-xOf", archive, "index.json"])).unwrap();
        index.split("\"digest\": \"").nth(1).unwrap().split('"').next().unwrap().to_string()
    };
    let names = |archive: &str| -> std::collections::BTreeSet<String> {
        let names = String::from_utf8(peer(&dir, "tar", &["-tf", archive])).unwrap();
        names.lines().filter(|name| name.starts_with("blobs/sha")).map(String::from).collect()
    };
    ace_dt(&dir, &["mirror", "serialize", "-q", "-r", &format!("{address}/back:all"), "back.tar"]).ok();
    assert_eq!(root("out.tar"), root("back.tar"));
    assert_eq!(names("out.tar"), names("back.tar"), "the same digests");
    println!("delivered, and archived again: the same {} blobs", names("back.tar").len());
}

/// The golden archives into go-containerregistry's registry, and back: the same root, and all that it had.
#[test]
#[ignore = "make test-second"]
fn second_registry_takes_the_golden_archives() {
    let dir = Dir::new();
    let crane = Crane::start(&dir, "disk");
    let mut delivered = 0;
    for entry in std::fs::read_dir(crate::registry::golden().join("archives")).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        // These go on with others.
        if !name.contains(".tar") || name.starts_with("ser-resumed") || name.starts_with("ser-existing") {
            continue;
        }
        let (path, image) = (entry.path(), format!("127.0.0.1:{}/golden/{delivered}:v1", crane.port));
        ace_dt(&dir, &["mirror", "deserialize", "-q", path.to_str().unwrap(), &image]).ok();
        peer(&dir, &program(), &["validate", "--remote", &image]);
        ace_dt(&dir, &["mirror", "serialize", "-q", "-r", "--force", &image, "back.tar"]).ok();
        ace_dt(&dir, &["mirror", "verify", "-q", "back.tar"]).ok();
        delivered += 1;
    }
    println!("{delivered} golden archives delivered to go-containerregistry's registry, and whole");
    assert!(delivered > 10);
}
