//! A second registry implementation beside Docker's: go-containerregistry's, which `crane registry
//! serve` runs. `make test-second` builds it.

use std::{
    collections::BTreeSet,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use crate::{
    push::{configure, golden_images_into},
    registry::{Registry, Storage, golden},
    scripted::{Content, Scripted},
    serving::Serving,
    util::{Dir, Signal, ace_dt, ace_dt_with, peer, wait_for},
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
            let port = crate::util::free_port();
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

/// What the conformance program of the distribution specification lays down in Docker's registry, and the sources that name
/// it: by tag, and by digest.
fn laid_down(dir: &Dir) -> (Registry, Vec<String>) {
    std::fs::create_dir_all(dir.join("storage")).unwrap();
    let registry = Registry::start(&dir.join("storage"));
    let address = format!("127.0.0.1:{}", registry.port);
    // It fails where this registry is not as the specification has it; what it pushed counts.
    let deletes = ["BLOBS", "MANIFESTS", "TAGS"].map(|what| (format!("OCI_API_{what}_DELETE"), "false".into()));
    let _ = conformance(dir, &address, &deletes);
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
    (registry, sources)
}

/// Runs the conformance program on a registry. What it says counts: of read-only data it cannot write its YAML, and ends
/// with a panic.
fn conformance(dir: &Dir, address: &str, settings: &[(String, String)]) -> String {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/conformance");
    let output = Command::new(program)
        .current_dir(&**dir)
        .envs([("OCI_REGISTRY", address), ("OCI_TLS", "disabled"), ("OCI_LOG", "error")])
        .envs(settings.iter().cloned())
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What the program lays down is served from an archive as the specification has it: its own read-only tests pass.
#[test]
#[ignore = "make test-second"]
fn what_is_served_conforms_to_the_specification() {
    let dir = Dir::new();
    let (registry, sources) = laid_down(&dir);
    let repository = format!("127.0.0.1:{}/conformance/repo1", registry.port);
    let sources: Vec<&String> = sources.iter().filter(|source| source.starts_with(&repository)).collect();
    let behind = |mark: &str| -> Vec<String> {
        let all = sources.iter().filter_map(|source| source[repository.len()..].strip_prefix(mark));
        all.map(String::from).collect()
    };
    let (tags, manifests) = (behind(":"), behind("@"));
    dir.write("s", sources.iter().map(|source| format!("{source}\n")).collect::<String>());
    for format in ["none", "zstd", "gzip"] {
        let words = ["mirror", "archive", "-q", "-r", "--force", "s", "x.tar", "--compression", format];
        ace_dt(&dir, if format == "none" { &words[..7] } else { &words }).ok();
        let serving = Serving::start(&dir, &["x.tar"]);
        let list = ["mirror", "verify", "-q", "x.tar"];
        ace_dt(&dir, &list).ok();
        let names = String::from_utf8(peer(&dir, "tar", &["-tf", "x.tar"])).unwrap();
        let digests = names.lines().filter_map(|name| name.strip_prefix("blobs/")).filter(|name| !name.ends_with('/'));
        let blobs: Vec<String> = digests.filter(|name| name.contains('/')).map(|name| name.replace('/', ":")).collect();
        let with_referrers = manifests.iter().filter(|digest| {
            let found = serving.get(&format!("/v2/conformance/repo1/referrers/{digest}"), "").json();
            !found["manifests"].as_array().unwrap().is_empty()
        });
        let subjects: Vec<String> = with_referrers.cloned().collect();
        assert!(!tags.is_empty() && !subjects.is_empty() && blobs.len() > 20);
        let mut settings = vec![
            ("OCI_REPO1".to_string(), "conformance/repo1".to_string()),
            ("OCI_API_PUSH".into(), "false".into()),
            ("OCI_API_BLOBS_DIGEST_HEADER".into(), "true".into()),
            ("OCI_RESULTS_DIR".into(), "results".into()),
        ];
        settings.extend(["BLOBS", "MANIFESTS", "TAGS"].map(|what| (format!("OCI_API_{what}_DELETE"), "false".into())));
        for (what, all) in [("TAGS", &tags), ("MANIFESTS", &manifests), ("BLOBS", &blobs), ("REFERRERS", &subjects)] {
            settings.push((format!("OCI_RO_DATA_{what}"), all.join(" ")));
        }
        let said = conformance(&dir, &serving.host, &settings);
        let passed = said.matches(": Pass").count();
        let least = 2 * (tags.len() + manifests.len() + blobs.len()) + subjects.len();
        assert!(!said.contains(": FAIL") && passed >= least, "{format}: {passed} of {least} at the least: {said}");
        println!(
            "{format}: the conformance program reads {} tags, {} manifests, {} blobs and {} lists of referrers: {passed} passed",
            tags.len(),
            manifests.len(),
            blobs.len(),
            subjects.len()
        );
        assert_eq!(serving.end(Signal::SIGTERM).0, Some(0));
    }
}

/// Other programs pull every image of an archive.
#[test]
#[ignore = "make test-second"]
fn other_programs_pull_what_is_served() {
    let dir = Dir::new();
    std::fs::create_dir_all(dir.join("storage")).unwrap();
    Storage::golden(&dir.join("storage"));
    let registry = Registry::start(&dir.join("storage"));
    registry.configure(&dir, "http", 25);
    std::fs::copy(golden().join("sources.list"), dir.join("s")).unwrap();
    ace_dt(&dir, &["mirror", "archive", "-q", "-r", "s", "x.tar"]).ok();
    let serving = Serving::start(&dir, &["x.tar"]);
    let tool = |name: &str, words: &[&str]| {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools").join(name);
        let output = Command::new(program).args(words).current_dir(&*dir).env("HOME", &*dir).output().unwrap();
        assert!(output.status.success(), "{name} {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    tool("regctl", &["registry", "set", "--tls", "disabled", &serving.host]);
    let mut pulled = 0;
    for (name, tags) in serving.named() {
        for tag in tags {
            let image = format!("{}/{name}:{tag}", serving.host);
            tool("crane", &["pull", "--insecure", "--format", "oci", &image, &format!("crane-{pulled}")]);
            tool("regctl", &["image", "copy", &image, &format!("ocidir://regctl-{pulled}:x")]);
            tool("oras", &["copy", "--from-plain-http", &image, "--to-oci-layout", &format!("oras-{pulled}:x")]);
            pulled += 1;
        }
    }
    assert!(pulled >= 10);
    println!("{pulled} names: each pulled by crane, regctl and oras");
    // What crane writes for `docker load` is served, too.
    let image = format!("{}/gold/library/beta:1.2", serving.host);
    tool("crane", &["pull", "--insecure", &image, "crane.tar"]);
    let again = Serving::start(&dir, &["crane.tar"]);
    let (name, tags) = again.named().into_iter().find(|(name, _)| name.ends_with("beta")).unwrap();
    let (name, tag) = (format!("{}/{name}", again.host), &tags[0]);
    tool("crane", &["pull", "--insecure", &format!("{name}:{tag}"), "again.tar"]);
    let config = |archive: &str| -> String {
        let bytes = peer(&dir, "tar", &["-xOf", archive, "manifest.json"]);
        serde_json::from_slice::<serde_json::Value>(&bytes).unwrap()[0]["Config"].to_string()
    };
    assert_eq!(config("crane.tar"), config("again.tar"));
}

/// All that the conformance program of the distribution specification lays down in Docker's registry: artifacts with and
/// without subjects that are there, nested indexes, inline data, SHA-512, layers that nobody may distribute.
#[test]
#[ignore = "make test-second"]
fn what_the_conformance_program_pushes_is_carried() {
    let dir = Dir::new();
    let (registry, sources) = laid_down(&dir);
    let address = format!("127.0.0.1:{}", registry.port);
    dir.write("s", sources.join("\n"));
    ace_dt(&dir, &["mirror", "archive", "-q", "-r", "s", "out.tar", "--checkpoint", "checkpoint"]).ok();
    let verdict = ace_dt(&dir, &["mirror", "verify", "-q", "out.tar", "--checkpoint", "checkpoint"]).ok();
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
    let blobs = round_trips(&dir, &sources.join("\n"), &format!("{address}/"), &format!("{address}/trip/"), 1);
    println!(
        "by every way to repositories of their own: {blobs} blobs; a second round sends one manifest, which is a blob, too"
    );
}

/// Lists what lies under the destinations of a list of sources, and archives it with referrers: the blobs.
fn under(dir: &Dir, list: &str, from: &str, to: &str) -> BTreeSet<String> {
    let moved: Vec<String> = list.lines().map(|line| line.replacen(from, to, 1)).collect();
    dir.write("moved", moved.join("\n"));
    ace_dt(dir, &["mirror", "archive", "-q", "-r", "--force", "moved", "moved.tar"]).ok();
    ace_dt(dir, &["mirror", "verify", "-q", "moved.tar"]).ok();
    let root = root_of(dir, "moved.tar");
    blobs_of(dir, "moved.tar").into_iter().filter(|name| !name.ends_with(&root[7..])).collect()
}

fn root_of(dir: &Dir, archive: &str) -> String {
    let index = String::from_utf8(peer(dir, "tar", &["-xOf", archive, "index.json"])).unwrap();
    index.split("\"digest\": \"").nth(1).unwrap().split('"').next().unwrap().to_string()
}

fn blobs_of(dir: &Dir, archive: &str) -> BTreeSet<String> {
    let names = String::from_utf8(peer(dir, "tar", &["-tf", archive])).unwrap();
    names.lines().filter(|name| name.starts_with("blobs/sha")).map(String::from).collect()
}

/// Runs a command with all that it tells, and counts what it sends.
fn sends(dir: &Dir, words: &[&str]) -> usize {
    let log = ace_dt(dir, &[&["mirror", "-v", "debug", "-q"], words].concat()).ok().err;
    let sent =
        log.lines().filter(|line| ["POST http", "PUT http", "PATCH http"].iter().any(|word| line.contains(word)));
    sent.inspect(|line| println!("{line}")).count()
}

/// What a list names goes by every way to its destinations below `to`, and all of it is there, referrers too; then again,
/// which sends at most `again` manifests: of what is a manifest to one and a blob to another a registry does not say
/// whether it has it as a manifest, and it is put again.
fn round_trips(dir: &Dir, list: &str, from: &str, to: &str, again: usize) -> usize {
    dir.write("list", list);
    ace_dt(dir, &["mirror", "archive", "-q", "-r", "--force", "list", "all.tar"]).ok();
    let root = root_of(dir, "all.tar");
    let all: BTreeSet<String> =
        blobs_of(dir, "all.tar").into_iter().filter(|name| !name.ends_with(&root[7..])).collect();
    let map = |name: &str| dir.write(&format!("{name}.csv"), format!("{from},{to}{name}/\n"));
    for name in ["unarchive", "scatter", "clone", "pipe"] {
        map(name);
    }
    ace_dt(dir, &["mirror", "deserialize", "-q", "all.tar", &format!("{to}gathered:v1")]).ok();
    ace_dt(dir, &["mirror", "gather", "-q", "-r", "list", &format!("{to}again:v1")]).ok();
    let archive = dir.read("all.tar");
    ace_dt_with(dir, &["mirror", "unarchive", "-q", "-r", "-", "first-prefix=pipe.csv"], &archive).ok();
    let gathered = format!("{to}gathered:v1");
    let ways = [
        ["unarchive", "-r", "all.tar", "first-prefix=unarchive.csv"],
        ["scatter", "-r", &gathered, "first-prefix=scatter.csv"],
        ["clone", "-r", "list", "first-prefix=clone.csv"],
    ];
    for way in ways {
        ace_dt(dir, &[&["mirror"], &way[..], &["-q", "--verify"]].concat()).ok();
    }
    for name in ["unarchive", "scatter", "clone", "pipe"] {
        assert_eq!(under(dir, list, from, &format!("{to}{name}/")), all, "{name} to {to}");
    }
    for way in ways {
        assert!(sends(dir, &way) <= again, "{way:?} again sends something");
    }
    all.len()
}

/// The golden images, and an increment, by every way to Docker's registry and to go-containerregistry's.
#[test]
#[ignore = "make test-second"]
fn second_registry_round_trips() {
    let dir = Dir::new();
    let low = dir.join("low");
    std::fs::create_dir_all(&low).unwrap();
    Storage::golden(&low);
    let low = Registry::start(&low);
    std::fs::create_dir_all(dir.join("high")).unwrap();
    let (docker, crane) = (Registry::start(&dir.join("high")), Crane::start(&dir, "crane"));
    let endpoint = |port: u16| format!("{{endpoints: [\"http://127.0.0.1:{port}\"]}}");
    dir.write(
        "ace-dt-config.yaml",
        format!(
            "registryConfig:\n  registries:\n    reg.example.com: {}\n    docker.example.com: {}\n    crane.example.com: {}\n",
            endpoint(low.port),
            endpoint(docker.port),
            endpoint(crane.port)
        ),
    );
    let list = std::fs::read_to_string(crate::registry::golden().join("sources.list")).unwrap();
    let images: Vec<&str> = list.lines().filter(|line| line.starts_with("reg.example.com/")).collect();
    let names: Vec<&str> = images.iter().map(|line| line.split(',').next().unwrap()).collect();
    for registry in ["docker.example.com", "crane.example.com"] {
        let blobs = round_trips(&dir, &names.join("\n"), "reg.example.com/", &format!("{registry}/trip/"), 0);
        println!(
            "{registry}: {} sources, {blobs} blobs by each way, referrers too; a second round sends nothing",
            names.len()
        );
        // An increment: what it leaves out is at the destinations.
        dir.write("old", names[..names.len() / 2].join("\n"));
        dir.write("new", names.join("\n"));
        let nest = format!("nest={registry}/increment");
        ace_dt(&dir, &["mirror", "archive", "-q", "--force", "--checkpoint", "old.checkpoint", "old", "old.tar"]).ok();
        let existing = "--existing-from-checkpoint=old.checkpoint";
        ace_dt(&dir, &["mirror", "archive", "-q", "--force", existing, "new", "new.tar"]).ok();
        assert!(blobs_of(&dir, "new.tar").len() < blobs_of(&dir, "all.tar").len());
        ace_dt(&dir, &["mirror", "unarchive", "-q", "old.tar", &nest]).ok();
        ace_dt(&dir, &["mirror", "unarchive", "-q", "--verify", "new.tar", &nest]).ok();
        // And some platforms only.
        let nest = format!("nest={registry}/platforms");
        let words = ["mirror", "archive", "-q", "--force", "-p", "linux/amd64", "new", "amd64.tar"];
        ace_dt(&dir, &words).ok();
        ace_dt(&dir, &["mirror", "unarchive", "-q", "--verify", "amd64.tar", &nest]).ok();
        ace_dt(&dir, &["mirror", "clone", "-q", "--verify", "-p", "linux/amd64", "new", &nest]).ok();
    }
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
