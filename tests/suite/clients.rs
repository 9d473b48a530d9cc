//! What Debian's other clients pull from `util serve`: podman and containerd; and the archives of Docker, which they and
//! skopeo write, served.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
    process::{Command, Stdio},
};

use ace_dt::oci::Digest;
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};

use crate::{
    registry::golden,
    serving::{Running, Serving},
    util::{Dir, ace_dt, free_port, noise, peer, wait_for},
};

/// Images among the golden sources; the last two are an index in an index, which podman does not take, and an artifact.
const IMAGES: [&str; 5] = [
    "gold/library/alpha:v1",
    "gold/library/beta:1.2",
    "gold/library/gamma:latest",
    "gold/library/eta@sha256:23a82168074844d631f959c5bb1263d6a48bdd67a2deff42f7a029f5bb160a8e",
    "gold/nested/zeta:v1",
];

/// Whether this process may mount, as what unpacks images does.
fn may_mount() -> bool {
    let may = Command::new("unshare").args(["--mount", "true"]).stderr(Stdio::null()).status();
    may.is_ok_and(|status| status.success())
}

const ALPHA: &str = "sha256:359c6557c802b767417706a055efbd9dd87ef46cfe01d4fb79dd86ad0bb0a91d";

fn serve_golden(dir: &Dir) -> Serving {
    fs::copy(golden().join("archives/plain.tar"), dir.join("plain.tar")).unwrap();
    Serving::start(dir, &["plain.tar"])
}

/// podman unpacks every image. It runs as root, and where it may mount: without that it pulls from nobody.
#[test]
fn podman_pulls_images() {
    if !may_mount() {
        return eprintln!("podman cannot run here: mounting is not allowed");
    }
    let dir = Dir::new();
    let serving = serve_golden(&dir);
    let place = |name: &str| dir.join(name).display().to_string();
    let (root, run) = (place("root"), place("run"));
    let podman = |words: &[&str]| {
        let own = ["--root", &root, "--runroot", &run, "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"];
        peer(&dir, "podman", &[&own[..], &["--events-backend", "none"], words].concat())
    };
    for image in &IMAGES[..4] {
        podman(&["pull", "-q", "--tls-verify=false", &format!("{}/{image}", serving.host)]);
    }
    let images: Value = serde_json::from_slice(&podman(&["images", "--format", "json"])).unwrap();
    assert_eq!(images.as_array().unwrap().len(), 4, "{images}");
    // What podman saves is served, in each of its forms.
    let beta = format!("{}/{}", serving.host, IMAGES[1]);
    for (format, name) in [("docker-archive", "docker.tar"), ("oci-archive", "oci.tar")] {
        podman(&["save", "-q", "--format", format, "-o", name, &beta]);
        let saved = Serving::start(&dir, &[name]);
        assert!(saved.said.is_empty(), "{}", saved.said);
        let image = format!("{}/gold/library/beta:1.2", saved.host);
        podman(&["pull", "-q", "--tls-verify=false", &image]);
    }
}

/// containerd fetches every image and unpacks what is one, and checks each digest. Without mounting it only fetches.
#[test]
fn containerd_pulls_images() {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return eprintln!("containerd cannot run here: it must be root");
    }
    let dir = Dir::new();
    let serving = serve_golden(&dir);
    let place = |name: &str| dir.join(name).display().to_string();
    dir.write(
        "containerd.toml",
        format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = {:?}\n",
            place("root"),
            place("state"),
            place("socket")
        ),
    );
    let mut containerd = Command::new("containerd");
    containerd.args(["-c", &place("containerd.toml")]).stdout(Stdio::null()).stderr(Stdio::null());
    let _running = Running(containerd.spawn().expect("containerd: `make test` installs it"));
    wait_for("containerd", || dir.join("socket").exists());
    let ctr = |words: &[&str]| {
        let text = peer(&dir, "ctr", &[&["-a", &place("socket")], words].concat());
        String::from_utf8(text).unwrap()
    };
    for image in IMAGES {
        let image = format!("{}/{image}", serving.host);
        let unpacks = may_mount() && !image.contains("zeta");
        match unpacks {
            true => ctr(&["images", "pull", "--plain-http", "--snapshotter", "native", "--all-platforms", &image]),
            false => ctr(&["content", "fetch", "--plain-http", "--all-platforms", &image]),
        };
        let digest = image.rsplit_once('@').map(|(_, digest)| digest.to_string()).unwrap_or_else(|| {
            let (name, tag) = image.split_once('/').unwrap().1.rsplit_once(':').unwrap();
            let answer = serving.get(&format!("/v2/{name}/manifests/{tag}"), "");
            answer.field("docker-content-digest").unwrap().to_string()
        });
        assert!(ctr(&["content", "ls", "-q"]).contains(&digest), "{image}");
    }
}

/// Writes the units of a page into `dir`, has systemd look at them, and returns their names.
pub fn units_of(dir: &Dir, page: &str) -> Vec<String> {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("man").join(page)).unwrap();
    let (mut units, mut name) = (Vec::new(), None);
    for line in page.lines() {
        match line.strip_prefix("# ").filter(|name| name.starts_with("ace-dt-") && name.contains('.')) {
            Some(unit) => {
                name = Some(unit.to_string());
                units.push(unit.to_string());
                dir.write(unit, "");
            }
            None if line.starts_with('.') => name = None,
            None => {
                let Some(name) = &name else { continue };
                let line = line.replace("/usr/local/bin/ace-dt", env!("CARGO_BIN_EXE_ace-dt"));
                let line = line.replace("/srv/images", &dir.display().to_string());
                let line = line.replace("User=images", "User=root").replace("User=tape", "User=root");
                dir.write(name, dir.text(name) + &line + "\n");
            }
        }
    }
    for unit in &units {
        let verify =
            Command::new("systemd-analyze").args(["verify", &format!("./{unit}")]).current_dir(&**dir).output();
        let verify = verify.unwrap_or_else(|e| panic!("systemd-analyze: {e}; `make test` installs it"));
        let said = String::from_utf8_lossy(&verify.stderr).into_owned();
        assert!(verify.status.success() && !said.contains(unit.as_str()), "{unit}: {said}");
    }
    units
}

/// The units of the recipes are well-formed, and the service answers behind a socket that systemd's own program passes.
#[test]
fn units_of_systemd() {
    let dir = Dir::new();
    fs::copy(golden().join("archives/plain.tar"), dir.join("week-48.tar")).unwrap();
    dir.write("nightly.sh", "exit 0\n");
    assert_eq!(units_of(&dir, "ace-dt-recipes.7").len(), 4);
    let service = dir.text("ace-dt-serve.service");
    let command = service.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let address = format!("127.0.0.1:{}", free_port());
    let mut activate = Command::new("systemd-socket-activate");
    activate.args(["-l", &address]).args(command.split(' ')).stderr(Stdio::null()).stdout(Stdio::null());
    let _running = Running(activate.spawn().unwrap());
    let mut page = Vec::new();
    wait_for("the socket", || {
        let Ok(mut socket) = std::net::TcpStream::connect(&address) else { return false };
        write!(socket, "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
        socket.read_to_end(&mut page).is_ok()
    });
    assert!(String::from_utf8_lossy(&page).contains("h/gold/library/alpha:v1"));
}

/// A TAR archive of files, and of links to files.
fn tar(files: &[(&str, Result<&[u8], &str>)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        match content {
            Ok(bytes) => {
                header.set_size(bytes.len() as u64);
                tar.append_data(&mut header, name, *bytes).unwrap();
            }
            Err(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_size(0);
                tar.append_link(&mut header, name, target).unwrap();
            }
        }
    }
    tar.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    std::io::Write::write_all(&mut gzip, bytes).unwrap();
    gzip.finish().unwrap()
}

/// As `docker save` wrote it before version 25, with a layer that is a link to the one of another image, and as crane
/// writes it, with layers in gzip.
#[test]
fn archives_of_docker_save_and_crane() {
    let dir = Dir::new();
    let layers: Vec<Vec<u8>> = (1..4).map(|seed| tar(&[("file", Ok(&noise(seed, 50_000)))])).collect();
    let config = |layers: &[&Vec<u8>]| -> Vec<u8> {
        let diff_ids: Vec<String> = layers.iter().map(|layer| Digest::of(layer).to_string()).collect();
        let rootfs = json!({"type": "layers", "diff_ids": diff_ids});
        json!({"architecture": "amd64", "os": "linux", "rootfs": rootfs}).to_string().into_bytes()
    };
    let hex = |bytes: &[u8]| Digest::of(bytes).to_string().replace("sha256:", "");
    let (one, two) = (config(&[&layers[0], &layers[1]]), config(&[&layers[0], &layers[2]]));
    let names = [format!("{}.json", hex(&one)), format!("{}.json", hex(&two))];
    let of = |n: &str| format!("{}/layer.tar", n.repeat(64));
    let manifest = json!([
        {"Config": names[0], "RepoTags": ["alpine:3", "team/app:v1"], "Layers": [of("a"), of("b")]},
        {"Config": names[1], "RepoTags": null, "Layers": [of("c"), of("d")]},
    ]);
    let manifest = manifest.to_string();
    let target = format!("../{}", of("a"));
    let docker = tar(&[
        (&names[0], Ok(&one)),
        (&of("a"), Ok(&layers[0])),
        (&of("b"), Ok(&layers[1])),
        (&names[1], Ok(&two)),
        (&of("c"), Err(&target)),
        (&of("d"), Ok(&layers[2])),
        ("manifest.json", Ok(manifest.as_bytes())),
    ]);
    let packed = gzip(&layers[2]);
    let three = config(&[&layers[2]]);
    let (layer, config) = (format!("{}.tar.gz", hex(&packed)), format!("sha256:{}", hex(&three)));
    let odd = json!([{"Config": config, "RepoTags": ["reg.example.com/x:1"], "Layers": [layer, "other.tar.gz"]}]);
    let crane = json!([{"Config": config, "RepoTags": ["reg.example.com/x:1"], "Layers": [layer]}]).to_string();
    let crane = tar(&[(&config, Ok(&three)), (&layer, Ok(&packed)), ("manifest.json", Ok(crane.as_bytes()))]);
    dir.write("docker.tar", &docker);
    dir.write("docker.tar.gz", gzip(&docker));
    dir.write("crane.tar", crane);
    for archives in [&["docker.tar", "crane.tar"][..], &["docker.tar.gz", "crane.tar"], &["crane.tar", "docker.tar.gz"]]
    {
        let serving = Serving::start(&dir, archives);
        for (name, layers) in [
            ("library/alpine/manifests/3", &[&layers[0], &layers[1]][..]),
            ("docker.io/team/app/manifests/v1", &[&layers[0], &layers[1]]),
            ("x/manifests/1", &[&packed]),
        ] {
            let manifest = serving.get(&format!("/v2/{name}"), "").json();
            let listed = manifest["layers"].as_array().unwrap();
            assert_eq!(listed.len(), layers.len());
            for (listed, layer) in listed.iter().zip(layers) {
                let media_type = listed["mediaType"].as_str().unwrap();
                assert_eq!(media_type.ends_with("+gzip"), layer[0] == 0x1f);
                let digest = listed["digest"].as_str().unwrap();
                for _ in 0..2 {
                    assert!(&serving.get(&format!("/v2/x/blobs/{digest}"), "").body == *layer, "{name} {digest}");
                }
            }
        }
        // The image without a name is there by its digest, with the layer that is a link.
        let text = String::from_utf8(serving.get("/", "").body).unwrap();
        assert!(text.contains("serves 3 images"), "{text}");
        let all = serving.named();
        assert!(all.iter().any(|(name, tags)| name == "docker" && tags.is_empty()), "{all:?}");
    }
    // What lacks a layer is told, and the rest is served.
    let listed =
        tar(&[(&config, Ok(&three)), (&layer, Ok(&packed)), ("manifest.json", Ok(odd.to_string().as_bytes()))]);
    dir.write("lacks.tar", listed);
    let serving = Serving::start(&dir, &["lacks.tar", "docker.tar"]);
    assert!(serving.said.contains("is not served: it has 2 layers"), "{}", serving.said);
    let alone = ace_dt(&dir, &["util", "serve", "--address", "127.0.0.1:0", "lacks.tar"]);
    assert!(alone.err.contains("is not served: it has 2 layers"), "{}", alone.err);
    alone.fails(1, &["no image"]);
}

/// Of an archive in gzip an index of frames is kept when that is asked for, is used from then on, and not when the archive
/// was changed.
#[test]
fn an_index_of_frames_is_kept_and_used() {
    let dir = Dir::new();
    fs::copy(golden().join("archives/gzip.tar.gz"), dir.join("go.tar.gz")).unwrap();
    let from = serve_golden(&dir);
    crate::registry::configure(&dir, &format!("http://{}", from.host), 25);
    fs::copy(golden().join("sources.list"), dir.join("s")).unwrap();
    ace_dt(&dir, &["mirror", "archive", "-q", "--compression", "gzip", "s", "x.tar.gz"]).ok();
    let said = |words: &[&str]| {
        let serving = Serving::start(&dir, words);
        let manifest = serving.get("/v2/gold/library/alpha/manifests/v1", "");
        assert_eq!((manifest.status, Digest::of(&manifest.body).to_string()), (200, ALPHA.into()));
        serving.said.clone()
    };
    for archive in ["x.tar.gz", "go.tar.gz"] {
        let index = format!("{archive}.frames");
        assert!(said(&[archive]).contains("are decompressed once") && !dir.join(&index).exists());
        assert!(said(&["--frame-index", archive]).contains("are decompressed once") && dir.join(&index).exists());
        assert!(!said(&[archive]).contains("are decompressed once"));
        // An index of this very archive that is none is not believed.
        let kept = dir.read(&index);
        for ends in [json!([]), json!([[100, 5], [90, 6]]), json!([[1_000_000_000, 5]])] {
            let mut wrong: Value = serde_json::from_slice(&kept).unwrap();
            wrong["ends"] = ends;
            dir.write(&index, wrong.to_string());
            assert!(said(&[archive]).contains("it is no index of this archive"));
        }
        // Nor one that does not fit it.
        let total = dir.read(archive).len();
        for ends in [json!([[total, 1000]]), json!([[1, 1], [2, 2], [total, total]])] {
            let mut wrong: Value = serde_json::from_slice(&kept).unwrap();
            wrong["ends"] = ends;
            dir.write(&index, wrong.to_string());
            assert!(said(&[archive]).contains("does not fit it"));
        }
        dir.write(&index, &kept);
        // Neither another archive nor another file is believed.
        fs::File::open(dir.join(archive)).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        let told = said(&[archive]);
        assert!(told.contains("was changed since") && told.contains("are decompressed once"), "{told}");
        for wrong in [&b"{}"[..], b"", &kept[..kept.len() / 2], br#"{"version":1,"files":[],"ends":[]}"#] {
            dir.write(&index, wrong);
            assert!(said(&[archive]).contains("are decompressed once"));
        }
    }
}

/// What skopeo writes for `docker load` is served, and skopeo pulls the same image.
#[test]
fn a_docker_archive_of_skopeo() {
    let dir = Dir::new();
    let from = serve_golden(&dir);
    let of = |serving: &Serving| format!("docker://{}/gold/library/beta:1.2", serving.host);
    let copy = |from: &str, to: &str| {
        peer(&dir, "skopeo", &["copy", "-q", "--src-tls-verify=false", from, to]);
    };
    copy(&of(&from), "docker-archive:docker.tar:reg.example.com/gold/library/beta:1.2");
    copy("docker-archive:docker.tar", "dir:first");
    let serving = Serving::start(&dir, &["docker.tar"]);
    copy(&of(&serving), "dir:second");
    let of = |name: &str| -> Vec<String> {
        let manifest: Value = serde_json::from_slice(&dir.read(&format!("{name}/manifest.json"))).unwrap();
        let layers = manifest["layers"].as_array().unwrap().iter().map(|layer| layer["digest"].to_string());
        layers.chain([manifest["config"]["digest"].to_string()]).collect()
    };
    assert_eq!(of("first"), of("second"));
}
