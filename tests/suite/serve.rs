//! `util serve`: archives as a registry that is only read.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::fd::OwnedFd,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use ace_dt::oci::Digest;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::json;

use crate::{
    registry::{INDEX, MANIFEST, Registry, Storage, configure, descriptor, golden},
    scripted::{Content, Scripted},
    serving::{Reply, Running, Serving},
    tls::authority,
    util::{Dir, Signal, ace_dt, noise, peer, send, wait_for},
};

/// A directory with the archive `x.tar` of what the golden data have, with referrers, and its list `s`.
fn archived() -> (Dir, Registry) {
    let dir = Dir::new();
    fs::create_dir_all(dir.join("storage")).unwrap();
    Storage::golden(&dir.join("storage"));
    let registry = Registry::start(&dir.join("storage"));
    registry.configure(&dir, "http", 25);
    fs::copy(golden().join("sources.list"), dir.join("s")).unwrap();
    ace_dt(&dir, &["mirror", "archive", "-q", "-r", "s", "x.tar"]).ok();
    (dir, registry)
}

/// An archive of one image with three layers, `x.tar`, and its layers' digests.
fn one_image(layers: &[Vec<u8>]) -> (Dir, Vec<Digest>) {
    let mut content = Content::default();
    content.image("team/app", "v1", layers);
    let (dir, source) = (Dir::new(), Scripted::honest(content));
    configure(&dir, &source.endpoint(), 25);
    dir.write("s", "reg.example.com/team/app:v1\n");
    ace_dt(&dir, &["mirror", "archive", "-q", "s", "x.tar"]).ok();
    (dir, layers.iter().map(|layer| Digest::of(layer)).collect())
}

/// A connection on which the answer with a blob has begun, and its first bytes. It stays open behind that.
fn half_answered(serving: &Serving, digest: &Digest) -> (TcpStream, Vec<u8>) {
    let mut socket = TcpStream::connect(&serving.host).unwrap();
    write!(socket, "GET /v2/team/app/blobs/{digest} HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let mut first = vec![0; 1000];
    socket.read_exact(&mut first).unwrap();
    (socket, first)
}

/// The archive of what is served is the archive that is served, byte for byte, however it is compressed.
#[test]
fn what_is_archived_from_it_is_what_it_serves() {
    let (dir, _registry) = archived();
    for format in ["zstd", "gzip"] {
        let out = format!("x.tar.{format}");
        ace_dt(&dir, &["mirror", "archive", "-q", "-r", "--compression", format, "s", &out]).ok();
    }
    fs::create_dir(dir.join("layout")).unwrap();
    peer(&dir, "tar", &["-xf", "x.tar", "-C", "layout"]);
    for archive in ["x.tar", "x.tar.zstd", "x.tar.gzip", "layout"] {
        let serving = Serving::start(&dir, &[archive]);
        let other = Dir::new();
        configure(&other, &format!("http://{}", serving.host), 25);
        fs::copy(dir.join("s"), other.join("s")).unwrap();
        ace_dt(&other, &["mirror", "archive", "-q", "-r", "s", "again.tar"]).ok();
        assert!(other.read("again.tar") == dir.read("x.tar"), "{archive}");
        // The same once more, from what was checked by now.
        ace_dt(&other, &["mirror", "archive", "-q", "-r", "s", "again2.tar"]).ok();
        assert!(other.read("again2.tar") == dir.read("x.tar"), "{archive}");
        let gathered = ace_dt(&other, &["mirror", "serialize", "-q", &format!("{}/x:latest", serving.host), "x.tar"]);
        if archive == "x.tar" {
            gathered.ok();
        }
        assert_eq!(serving.end(Signal::SIGTERM).0, Some(0), "{archive}");
    }
}

/// Every image can be pulled by another program, under both names.
#[test]
fn skopeo_pulls_every_image() {
    let (dir, _) = archived();
    let serving = Serving::start(&dir, &["x.tar"]);
    let mut pulled = 0;
    for line in String::from_utf8(dir.read("s")).unwrap().lines() {
        let source = line.split(',').next().unwrap().trim();
        // An index in an index skopeo does not take.
        if source.is_empty() || source.starts_with('#') || source.contains('@') || source.contains("nested") {
            continue;
        }
        for name in [source, source.split_once('/').unwrap().1] {
            let from = format!("docker://{}/{name}", serving.host);
            let to = format!("dir:{}", dir.join(format!("pulled-{pulled}")).display());
            peer(&dir, "skopeo", &["copy", "-q", "--all", "--src-tls-verify=false", &from, &to]);
            pulled += 1;
        }
    }
    assert!(pulled >= 10, "{pulled}");
}

#[test]
fn the_pull_side_of_the_specification() {
    let layers = [noise(1, 1000), noise(2, 300_000), Vec::new()];
    let (dir, digests) = one_image(&layers);
    let serving = Serving::start(&dir, &["x.tar"]);
    let api = serving.get("/v2/", "");
    assert_eq!((api.status, api.field("docker-distribution-api-version")), (200, Some("registry/2.0")));
    // Manifests.
    let manifest = serving.get("/v2/team/app/manifests/v1", "");
    let digest = Digest::of(&manifest.body).to_string();
    assert_eq!((manifest.status, manifest.field("docker-content-digest")), (200, Some(digest.as_str())));
    assert_eq!(manifest.field("content-type"), Some("application/vnd.oci.image.manifest.v1+json"));
    for path in [format!("team/app/manifests/{digest}"), format!("reg.example.com/team/app/manifests/{digest}")] {
        assert_eq!(serving.get(&format!("/v2/{path}"), "").body, manifest.body);
        let head = serving.ask("HEAD", &format!("/v2/{path}"), "");
        assert_eq!((head.status, head.body.len()), (200, 0));
        assert_eq!(head.field("content-length"), Some(manifest.body.len().to_string().as_str()));
        let tag = format!("If-None-Match: \"other\", \"{digest}\"\r\n");
        let known = serving.get(&format!("/v2/{path}"), &tag);
        assert_eq!((known.status, known.body.len()), (304, 0));
    }
    // containerd says which registry it mirrors.
    assert_eq!(serving.get("/v2/team/app/manifests/v1?ns=reg.example.com", "").status, 200);
    // Blobs, when nobody has read them, and when somebody has.
    for _ in 0..2 {
        for (layer, digest) in layers.iter().zip(&digests) {
            let path = format!("/v2/team/app/blobs/{digest}");
            let encoded = path.replace(':', "%3A");
            assert!(serving.get(&encoded, "").body == *layer);
            let size = layer.len();
            for (range, from, to) in [("0-0", 0, 1), ("-7", size.saturating_sub(7), size), ("5-", 5, size)] {
                let part = serving.get(&path, &format!("Range: bytes={range}\r\n"));
                match size {
                    0 => assert_eq!((part.status, part.field("content-range")), (416, Some("bytes */0"))),
                    _ => {
                        assert_eq!(part.status, 206, "{range}");
                        assert!(part.body == layer[from..to], "{range}");
                        let range = format!("bytes {from}-{}/{size}", to - 1);
                        assert_eq!(part.field("content-range"), Some(range.as_str()));
                    }
                }
            }
            let beyond = serving.get(&path, &format!("Range: bytes={size}-\r\n"));
            assert_eq!(beyond.status, 416);
            let head = serving.ask("HEAD", &path, "Range: bytes=0-0\r\n");
            assert_eq!((head.status, head.field("content-length")), (200, Some(size.to_string().as_str())));
            assert_eq!(serving.get(&path, &format!("If-None-Match: \"{digest}\"\r\n")).status, 304);
            let other = serving.get(&path, "Range: bytes=0-0\r\nIf-Range: \"other\"\r\n");
            assert_eq!((other.status, other.body.len()), (200, size));
        }
    }
    // What is not there.
    let nothing = Digest::of(b"nothing");
    for (path, status, code) in [
        ("/v2/team/app/manifests/v2".to_string(), 404, "MANIFEST_UNKNOWN"),
        (format!("/v2/team/app/manifests/{nothing}"), 404, "MANIFEST_UNKNOWN"),
        // A blob is no manifest.
        (format!("/v2/team/app/manifests/{}", digests[0]), 404, "MANIFEST_UNKNOWN"),
        ("/v2/team/app/manifests/sha256:zz".into(), 400, "DIGEST_INVALID"),
        (format!("/v2/team/app/blobs/{nothing}"), 404, "BLOB_UNKNOWN"),
        ("/v2/team/app/blobs/nonsense".into(), 400, "DIGEST_INVALID"),
        ("/v2/team/other/tags/list".into(), 404, "NAME_UNKNOWN"),
        (format!("/v2/team/other/blobs/{}", digests[0]), 404, "NAME_UNKNOWN"),
        ("/v2/Team/App/tags/list".into(), 404, "NAME_INVALID"),
        ("/v2/../etc/passwd".into(), 404, "NAME_UNKNOWN"),
        ("/v2/..%2f..%2fetc/manifests/passwd".into(), 404, "NAME_INVALID"),
        ("/etc/passwd".into(), 404, "NAME_UNKNOWN"),
        ("/v2/team/app/tags/list?n=x".into(), 400, "PAGINATION_NUMBER_INVALID"),
    ] {
        let reply = serving.get(&path, "");
        assert_eq!((reply.status, reply.code().as_str()), (status, code), "{path}");
    }
    // Nothing is written.
    for (method, path) in
        [("POST", "blobs/uploads/"), ("PUT", "manifests/v9"), ("DELETE", "manifests/v1"), ("PATCH", "x")]
    {
        let reply = serving.ask(method, &format!("/v2/team/app/{path}"), "Content-Length: 0\r\n");
        assert_eq!((reply.status, reply.code().as_str()), (405, "UNSUPPORTED"), "{method}");
    }
}

#[test]
fn lists_have_pages() {
    let (dir, _) = archived();
    let serving = Serving::start(&dir, &["x.tar"]);
    let all = serving.get("/v2/_catalog", "").json()["repositories"].clone();
    let mut names = Vec::new();
    let mut next = Some("/v2/_catalog?n=2".to_string());
    while let Some(path) = next {
        let page = serving.get(&path, "");
        names.extend(page.json()["repositories"].as_array().unwrap().clone());
        next = page.field("link").map(|link| link.split(['<', '>']).nth(1).unwrap().to_string());
    }
    assert!(json!(names) == all && names.len() > 4, "{names:?}");
    for name in names {
        let name = name.as_str().unwrap();
        let tags = serving.get(&format!("/v2/{name}/tags/list"), "").json();
        assert_eq!(tags["name"], name);
        let (mut one_by_one, mut last) = (Vec::new(), String::new());
        loop {
            let page = serving.get(&format!("/v2/{name}/tags/list?n=1&last={last}"), "").json();
            let Some(tag) = page["tags"].as_array().unwrap().first().cloned() else { break };
            last = tag.as_str().unwrap().to_string();
            one_by_one.push(tag);
        }
        assert_eq!(json!(one_by_one), tags["tags"]);
        let none = serving.get(&format!("/v2/{name}/tags/list?n=0"), "");
        assert_eq!((none.json()["tags"].clone(), none.field("link")), (json!([]), None));
    }
}

#[test]
fn referrers_by_api_and_by_tag() {
    let mut content = Content::default();
    content.image("app", "v1", &[b"layer".to_vec()]);
    let image = content.body("/v2/app/manifests/v1").unwrap().to_vec();
    let subject = descriptor(MANIFEST, &Digest::of(&image), image.len());
    let empty = descriptor("application/vnd.oci.empty.v1+json", &content.blob("app", b"{}"), 2);
    let mut listed = Vec::new();
    for kind in ["application/example.sbom", "application/example.signature"] {
        let referrer = json!({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": kind, "config": empty,
            "layers": [empty], "subject": subject, "annotations": {"kind": kind}})
        .to_string();
        let digest = content.manifest("app", MANIFEST, referrer.as_bytes(), None);
        let mut found = descriptor(MANIFEST, &digest, referrer.len());
        (found["artifactType"], found["annotations"]) = (json!(kind), json!({"kind": kind}));
        listed.push(found);
    }
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": listed});
    content.put(&format!("/v2/app/referrers/{}", Digest::of(&image)), INDEX, index.to_string().as_bytes());
    let (dir, source) = (Dir::new(), Scripted::honest(content));
    configure(&dir, &source.endpoint(), 25);
    dir.write("s", "reg.example.com/app:v1\n");
    ace_dt(&dir, &["mirror", "archive", "-q", "-r", "s", "x.tar"]).ok();
    let serving = Serving::start(&dir, &["x.tar"]);
    let digest = serving.get("/v2/app/manifests/v1", "").field("docker-content-digest").unwrap().to_string();
    let all = serving.get(&format!("/v2/app/referrers/{digest}"), "");
    assert_eq!(all.field("content-type"), Some("application/vnd.oci.image.index.v1+json"));
    assert_eq!((all.json()["manifests"].clone(), all.field("oci-filters-applied")), (json!(listed), None));
    let some = serving.get(&format!("/v2/app/referrers/{digest}?artifactType=application%2Fexample.sbom"), "");
    assert_eq!(some.field("oci-filters-applied"), Some("artifactType"));
    let some = some.json()["manifests"].clone();
    assert_eq!((some.as_array().unwrap().len(), &some[0]["artifactType"]), (1, &json!("application/example.sbom")));
    let tag = digest.replace(':', "-");
    let by_tag = serving.get(&format!("/v2/app/manifests/{tag}"), "");
    assert_eq!(by_tag.body, all.body);
    let none = serving.get(&format!("/v2/app/referrers/{}", Digest::of(b"")), "");
    assert_eq!((none.status, none.json()["manifests"].clone()), (200, json!([])));
}

/// Never wrong bytes with a whole length: neither all of the blob, nor a part of it.
#[test]
fn what_is_damaged_ends_short() {
    let layers = [noise(1, 500_000), noise(2, 2000)];
    let (dir, digests) = one_image(&layers);
    let mut bytes = dir.read("x.tar");
    let at = bytes.windows(64).position(|window| window == &layers[0][..64]).unwrap();
    bytes[at + 400_000] ^= 1;
    dir.write("bad.tar", &bytes);
    peer(&dir, "zstd", &["-q", "bad.tar", "-o", "bad.tar.zst"]);
    let bad = format!("/v2/team/app/blobs/{}", digests[0]);
    for archive in ["bad.tar", "bad.tar.zst"] {
        for fields in ["", "Range: bytes=0-9\r\n", "Range: bytes=-5\r\n"] {
            let serving = Serving::start(&dir, &[archive]);
            let reply = serving.get(&bad, fields);
            let whole: usize = reply.field("content-length").unwrap().parse().unwrap();
            assert!(reply.body.len() < whole, "{archive}, {fields}: {} of {whole}", reply.body.len());
            let again = serving.get(&bad, fields);
            assert_eq!((again.status, again.code().as_str()), (500, "BLOB_UNKNOWN"));
            assert!(
                serving.get(&format!("/v2/team/app/blobs/{}", digests[1]), "").body == layers[1],
                "others are served"
            );
            let (status, said) = serving.end(Signal::SIGINT);
            assert!(status == Some(0) && said.contains("is damaged"), "{said}");
        }
    }
}

/// Of what is damaged in one archive the copy in another is served.
#[test]
fn a_sound_copy_takes_the_place_of_a_damaged_one() {
    let layers = [noise(1, 500_000), noise(2, 300_000)];
    let (dir, digests) = one_image(&layers);
    let sound = dir.read("x.tar");
    let mut bytes = sound.clone();
    for layer in &layers {
        let at = bytes.windows(64).position(|window| window == &layer[..64]).unwrap();
        bytes[at + 200_000] ^= 1;
    }
    let manifest = sound.windows(16).position(|window| window == b"{\"config\":{\"dige").unwrap();
    bytes[manifest + 20] ^= 1;
    dir.write("bad.tar", &bytes);
    let serving = Serving::start(&dir, &["bad.tar", "x.tar"]);
    assert_eq!(serving.get("/v2/team/app/manifests/v1", "").status, 200, "{}", serving.said);
    for (digest, layer) in digests.iter().zip(&layers) {
        let path = format!("/v2/team/app/blobs/{digest}");
        let part = if *digest == digests[0] { "" } else { "Range: bytes=7-200000\r\n" };
        let first = serving.get(&path, part);
        // Of a part nothing was sent when the damage was found.
        let whole: usize = first.field("content-length").unwrap().parse().unwrap();
        assert_eq!(first.body.len() == whole, !part.is_empty());
        assert!(serving.get(&path, "Range: bytes=7-99\r\n").body == layer[7..100]);
        assert!(serving.get(&path, "").body == *layer);
    }
    let (status, said) = serving.end(Signal::SIGINT);
    assert!(status == Some(0) && said.matches("another copy of it is read").count() == 2, "{said}");
}

/// So is that of one that was cut short, or is not there any more.
#[test]
fn a_sound_copy_takes_the_place_of_one_that_is_shorter() {
    let layers = [noise(1, 5000), noise(2, 3000), noise(3, 2000)];
    let (dir, digests) = one_image(&layers);
    fs::create_dir(dir.join("layout")).unwrap();
    peer(&dir, "tar", &["-xf", "x.tar", "-C", "layout"]);
    let file = |n: usize| dir.join(format!("layout/blobs/sha256/{}", digests[n].to_string().replace("sha256:", "")));
    fs::write(file(0), b"").unwrap();
    fs::write(file(1), &layers[1][..100]).unwrap();
    let serving = Serving::start(&dir, &["layout", "x.tar"]);
    fs::remove_file(file(2)).unwrap();
    for (n, layer) in layers.iter().enumerate() {
        let path = format!("/v2/team/app/blobs/{}", digests[n]);
        let first = serving.get(&path, "");
        let whole = first.field("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        assert!(first.body == *layer || first.status != 200 || first.body.len() < whole, "{n}: {}", first.head);
        assert!(serving.get(&path, "").body == *layer, "{n}");
    }
}

/// Volumes, increments, and what two archives call alike.
#[test]
fn several_archives_are_one() {
    let mut content = Content::default();
    content.image("base", "v1", &[noise(1, 5000)]);
    content.image("base", "v2", &[noise(1, 5000), noise(2, 5000)]);
    let (dir, source) = (Dir::new(), Scripted::honest(content));
    configure(&dir, &source.endpoint(), 25);
    dir.write("s1", "reg.example.com/base:v1\n");
    dir.write("s2", "reg.example.com/base:v2\n");
    ace_dt(&dir, &["mirror", "archive", "-q", "s1", "one.tar"]).ok();
    ace_dt(&dir, &["mirror", "archive", "-q", "s2", "two.tar", "oci-archive:one.tar"]).ok();
    let all = dir.read("one.tar");
    dir.write("one.1", &all[..4000]);
    dir.write("one.2", &all[4000..]);
    let serving = Serving::start(&dir, &["one.1", "one.2", "two.tar"]);
    assert_eq!(serving.get("/v2/base/tags/list", "").json()["tags"], json!(["v1", "v2"]));
    for seed in [1, 2] {
        let blob = noise(seed, 5000);
        assert!(serving.get(&format!("/v2/base/blobs/{}", Digest::of(&blob)), "").body == blob);
    }
    let to = format!("dir:{}", dir.join("pulled").display());
    peer(&dir, "skopeo", &["copy", "-q", "--src-tls-verify=false", &format!("docker://{}/base:v2", serving.host), &to]);
    // The first keeps its name.
    let mut content = Content::default();
    content.image("base", "v1", &[b"another".to_vec()]);
    let other = Scripted::honest(content);
    configure(&dir, &other.endpoint(), 25);
    ace_dt(&dir, &["mirror", "archive", "-q", "s1", "other.tar"]).ok();
    let before = serving.get("/v2/base/manifests/v1", "").body;
    drop(serving);
    let serving = Serving::start(&dir, &["one.tar", "other.tar"]);
    assert_eq!(serving.get("/v2/base/manifests/v1", "").body, before);
    assert_ne!(serving.get("/v2/other/manifests/latest", "").body, before, "it can be had from its gather");
}

#[test]
fn a_map_gives_other_names() {
    let (dir, _) = one_image(&[noise(1, 100)]);
    dir.write("map.csv", "reg.example.com/team/,high.example.com:5000/mirror/\n");
    for (map, path) in [
        ("nest=high.example.com/deep", "deep/reg.example.com/team/app"),
        ("first-prefix=map.csv", "mirror/app"),
        ("first-prefix=map.csv", "high.example.com_5000/mirror/app"),
    ] {
        let serving = Serving::start(&dir, &["--map", map, "x.tar"]);
        assert_eq!(serving.get(&format!("/v2/{path}/manifests/v1"), "").status, 200, "{map}");
        assert_eq!(serving.get("/v2/team/app/manifests/v1", "").status, 404);
    }
}

#[test]
fn the_page_says_how_to_pull() {
    let (dir, _) = one_image(&[noise(1, 5_000_000)]);
    let serving = Serving::start(&dir, &["x.tar"]);
    let text = serving.get("/", "");
    assert_eq!(text.field("content-type"), Some("text/plain; charset=utf-8"));
    let text = String::from_utf8(text.body).unwrap();
    assert!(text.contains("h.example/team/app:v1  linux/amd64    4.77 MiB"), "{text}");
    let html = serving.get("/", "Accept: text/html,*/*;q=0.8\r\nHost: x\r\n");
    assert_eq!(html.status, 400, "two hosts are none");
    let html = serving.get("/", "Accept: text/html,*/*;q=0.8\r\n");
    assert_eq!(html.field("content-type"), Some("text/html; charset=utf-8"));
    let html = String::from_utf8(html.body).unwrap();
    assert!(html.contains("<code>docker pull h.example/team/app:v1</code>") && !html.contains("<script"), "{html}");
}

#[test]
fn tls_and_passwords() {
    let (dir, digests) = one_image(&[noise(1, 700_000)]);
    let (_, certificate, key) = authority(&dir, "DNS:localhost");
    peer(&dir, "htpasswd", &["-cbB", "users", "ann", "secret"]);
    let words = ["--tls-cert", &certificate, "--tls-key", &key, "--htpasswd", "users", "--log", "log", "x.tar"];
    let serving = Serving::start(&dir, &words);
    let port = serving.host.rsplit(':').next().unwrap();
    let url = format!("https://localhost:{port}/v2/team/app/blobs/{}", digests[0]);
    let curl = |user: &[&str], out: &str| {
        let words = [&["-sS", "--cacert", "ca.pem", "-o", out, "-w", "%{http_code}", url.as_str()][..], user].concat();
        String::from_utf8(peer(&dir, "curl", &words)).unwrap()
    };
    assert_eq!(curl(&[], "refused"), "401");
    assert_eq!(curl(&["-u", "ann:wrong"], "refused"), "401");
    for _ in 0..2 {
        assert_eq!(curl(&["-u", "ann:secret"], "got"), "200");
        assert!(dir.read("got") == noise(1, 700_000));
    }
    // Who does not speak TLS gets nothing, and stops nobody.
    let _ = serving.raw(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(curl(&["-u", "ann:secret"], "got"), "200");
    let log = String::from_utf8(dir.read("log")).unwrap();
    let path = format!("\"GET /v2/team/app/blobs/{} HTTP/1.1\"", digests[0]);
    assert!(log.contains(&path) && log.contains(" 200 700000\n") && log.contains("- ann [") && log.contains(" 401 "));
    drop(serving);
    ace_dt(&dir, &["util", "serve", "--tls-cert", &certificate, "x.tar"]).fails(2, &["--tls-key"]);
    ace_dt(&dir, &["util", "serve", "--htpasswd", "x.tar", "x.tar"]).fails(1, &["x.tar"]);
}

#[test]
fn signals_and_sockets() {
    let (dir, digests) = one_image(&[noise(1, 8_000_000)]);
    fs::copy(dir.join("x.tar"), dir.join("served.tar")).unwrap();
    // A socket that systemd passes; the shell takes its process's number.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let script = format!(
        "export LISTEN_PID=$$ LISTEN_FDS=1; exec {} util serve -q served.tar 3<&0 </dev/null",
        env!("CARGO_BIN_EXE_ace-dt")
    );
    let mut command = Command::new("sh");
    command.args(["-c", &script]).current_dir(&*dir).stdin(Stdio::from(OwnedFd::from(listener)));
    let mut running = Running(command.spawn().unwrap());
    let child = &mut running.0;
    drop(command);
    let get = |path: &str| {
        let mut socket = TcpStream::connect(&host).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        write!(socket, "GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
        let mut all = Vec::new();
        socket.read_to_end(&mut all).unwrap();
        Reply::of(&all)
    };
    assert_eq!(get("/v2/team/app/manifests/v1").status, 200);
    // Another archive in its place.
    let mut content = Content::default();
    content.image("team/new", "v2", &[b"new".to_vec()]);
    let source = Scripted::honest(content);
    configure(&dir, &source.endpoint(), 25);
    dir.write("s", "reg.example.com/team/new:v2\n");
    ace_dt(&dir, &["mirror", "archive", "-q", "s", "new.tar"]).ok();
    fs::rename(dir.join("new.tar"), dir.join("served.tar")).unwrap();
    send(child, Signal::SIGHUP);
    wait_for("the new archive", || get("/v2/team/new/manifests/v2").status == 200);
    assert_eq!(get("/v2/team/app/manifests/v1").status, 404);
    // What cannot be opened changes nothing.
    dir.write("nonsense", "nonsense");
    fs::rename(dir.join("nonsense"), dir.join("served.tar")).unwrap();
    send(child, Signal::SIGHUP);
    thread::sleep(Duration::from_millis(700));
    assert_eq!(get("/v2/team/new/manifests/v2").status, 200);
    send(child, Signal::SIGTERM);
    assert_eq!(child.wait().unwrap().code(), Some(0));

    // A request that is in work when the signal comes is answered to its end.
    let serving = Serving::start(&dir, &["x.tar"]);
    let (mut socket, first) = half_answered(&serving, &digests[0]);
    send(&serving.running.0, Signal::SIGTERM);
    thread::sleep(Duration::from_millis(700));
    let mut all = first;
    socket.read_to_end(&mut all).unwrap();
    assert!(Reply::of(&all).body == noise(1, 8_000_000));
    drop(serving);
}

/// Requests that are none, or that are meant to be understood in two ways: each is answered, or its connection ends, and
/// others are served all the while.
#[test]
fn hostile_requests() {
    let (dir, digests) = one_image(&[noise(1, 100_000)]);
    let serving = Serving::start(&dir, &["x.tar"]);
    let good = format!("GET /v2/team/app/blobs/{} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", digests[0]);
    let with = |fields: &str, rest: &str| format!("GET /v2/ HTTP/1.1\r\nHost: h\r\n{fields}\r\n{rest}");
    let long = "x".repeat(1 << 20);
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";
    let hostile: Vec<Vec<u8>> = [
        "\r\n\r\n\r\n".into(),
        "GET".into(),
        "GET /\r\n\r\n".into(),
        "GET / HTTP/9.9\r\nHost: h\r\n\r\n".into(),
        "GET / HTTP/1.1\r\n\r\n".into(),
        "GET /v2/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".into(),
        "GET ../../etc/passwd HTTP/1.1\r\nHost: h\r\n\r\n".into(),
        "GET /../../etc/passwd HTTP/1.1\r\nHost: h\r\n\r\n".into(),
        "GET /v2/../../../etc/passwd/blobs/x HTTP/1.1\r\nHost: h\r\n\r\n".into(),
        "GET /v2/%2e%2e/%2e%2e/blobs/%2fetc%2fpasswd HTTP/1.1\r\nHost: h\r\n\r\n".into(),
        "GET /v2/a/blobs/sha256:../../../etc/passwd HTTP/1.1\r\nHost: h\r\n\r\n".into(),
        "GET /v2/a%00b/tags/list HTTP/1.1\r\nHost: h\r\n\r\n".into(),
        "GET /% HTTP/1.1\r\nHost: h\r\n\r\n".into(),
        "GET /%zz HTTP/1.1\r\nHost: h\r\n\r\n".into(),
        "GET /v2/\u{0}/ HTTP/1.1\r\nHost: h\r\n\r\n".into(),
        "GET /v2/ü HTTP/1.1\r\nHost: h\r\n\r\n".into(),
        "GET http://other/v2/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".into(),
        "GET //evil.example/v2/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".into(),
        "CONNECT evil.example:443 HTTP/1.1\r\nHost: h\r\n\r\n".into(),
        "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n".into(),
        "TRACE / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".into(),
        "G\u{1}T / HTTP/1.1\r\nHost: h\r\n\r\n".into(),
        with("Content-Length: 5\r\n", "hello"),
        with("Content-Length: 37\r\n", smuggled),
        with("Content-Length: 0\r\nContent-Length: 37\r\n", smuggled),
        with("Content-Length: 0, 37\r\n", smuggled),
        with("Content-Length: -1\r\n", smuggled),
        with("Content-Length: 0x10\r\n", smuggled),
        with("Content-Length: 99999999999999999999\r\n", smuggled),
        with("Transfer-Encoding: chunked\r\n", &format!("0\r\n\r\n{smuggled}")),
        with("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", &format!("0\r\n\r\n{smuggled}")),
        with("Transfer-Encoding: xchunked\r\n", smuggled),
        with("Transfer-Encoding : chunked\r\n", smuggled),
        with(" Transfer-Encoding: chunked\r\n", smuggled),
        with("X: a\r\n Transfer-Encoding: chunked\r\n", smuggled),
        with("Transfer-Encoding:\tchunked\r\n", smuggled),
        with("Expect: 100-continue\r\nContent-Length: 37\r\n", smuggled),
        with("X: a\rTransfer-Encoding: chunked\r\n", smuggled),
        with("X: \u{0}\r\n", ""),
        with(&format!("X: {long}\r\n"), ""),
        with(&"X: y\r\n".repeat(5000), ""),
        format!("GET /{long} HTTP/1.1\r\nHost: h\r\n\r\n"),
        long.clone(),
        with("Range: bytes=0-18446744073709551615\r\nConnection: close\r\n", ""),
        with(&format!("Range: bytes={}\r\nConnection: close\r\n", "0-1,".repeat(1000)), ""),
        with("Authorization: Basic \u{ff}\u{fe}\r\nConnection: close\r\n", ""),
        format!("POST /v2/team/app/blobs/uploads/ HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{long}", long.len()),
    ]
    .map(|text: String| text.into_bytes())
    .into();
    let tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\n".to_vec();
    assert!(hostile.len() >= 45);
    for bytes in hostile.iter().chain([&tls]) {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(120)]).into_owned();
        let mut socket = TcpStream::connect(&serving.host).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let _ = socket.write_all(bytes);
        let _ = socket.shutdown(std::net::Shutdown::Write);
        let mut all = Vec::new();
        let _ = socket.read_to_end(&mut all);
        let text = String::from_utf8_lossy(&all);
        assert!(!text.contains("root:"), "{shown}");
        assert!(!text.contains("100 Continue"), "{shown}");
        let is_allowed = shown.contains("\r\nX: a\r\n") || !shown.contains("smuggled");
        assert!(is_allowed || text.matches("HTTP/1.1").count() <= 1, "it was answered twice: {shown}: {text}");
        assert_eq!(Reply::of(&serving.raw(good.as_bytes())).status, 200, "{shown}");
    }
    // Pipelined requests are answered in their order.
    let pipelined =
        format!("{}{good}", "GET /v2/ HTTP/1.1\r\nHost: h\r\n\r\nHEAD /none HTTP/1.1\r\nHost: h\r\n\r\n".repeat(20));
    let all = serving.raw(pipelined.as_bytes());
    let text = String::from_utf8_lossy(&all);
    assert_eq!(text.matches("HTTP/1.1 200 OK").count() + text.matches("HTTP/1.1 404 Not Found").count(), 41);
    assert!(all.ends_with(&noise(1, 100_000)));
    assert!(serving.end(Signal::SIGTERM).0 == Some(0));
}

/// A thousand clients that say nothing, half a request, or take nothing, do not keep others from being served.
#[test]
fn clients_that_hold_on() {
    let (dir, digests) = one_image(&[noise(1, 6_000_000)]);
    let serving = Serving::start(&dir, &["x.tar"]);
    let get = format!("GET /v2/team/app/blobs/{} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", digests[0]);
    // Other tests of this process need descriptors, too.
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let soft = soft.max(hard.min(8192));
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    let clients = 1000.min(soft as usize / 2);
    let mut held = Vec::new();
    for n in 0..clients {
        let Ok(mut socket) = TcpStream::connect(&serving.host) else { continue };
        let _ = match n % 10 {
            0 => socket.write_all(get.as_bytes()),
            1..5 => socket.write_all(b"GET /v2/ HT"),
            _ => Ok(()),
        };
        held.push(socket);
    }
    let begun = Instant::now();
    let body = loop {
        let all = serving.raw(get.as_bytes());
        if !all.is_empty() && Reply::of(&all).status == 200 {
            break Reply::of(&all).body;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "nobody is served any more");
    };
    assert!(body == noise(1, 6_000_000));
    assert!(held.len() > clients * 9 / 10);
}

/// What was checked is checked again when its file was changed.
#[test]
fn a_file_that_was_changed_is_not_what_it_was() {
    let layer = noise(1, 50_000);
    let (dir, digests) = one_image(std::slice::from_ref(&layer));
    let serving = Serving::start(&dir, &["x.tar"]);
    let path = format!("/v2/team/app/blobs/{}", digests[0]);
    assert!(serving.get(&path, "").body == layer && serving.get(&path, "").body == layer);
    let bytes = dir.read("x.tar");
    let at = bytes.windows(64).position(|window| window == &layer[..64]).unwrap();
    let file = fs::OpenOptions::new().write(true).open(dir.join("x.tar")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"YYYY", at as u64).unwrap();
    let reply = serving.get(&path, "");
    assert!(reply.status == 500 || reply.body.len() < layer.len(), "wrong bytes with a whole length");
    assert_eq!(serving.get(&path, "").status, 500);
    // A file that is gone, or is cut, is an error, too.
    file.set_len(at as u64).unwrap();
    let reply = serving.get(&path, "");
    assert!(reply.status == 500 || reply.body.len() < layer.len());
}

/// A layout holds what lies in it: links lead elsewhere, and what is no file has no content.
#[test]
fn links_lead_out_of_a_layout() {
    let (dir, digests) = one_image(&[noise(1, 500)]);
    fs::create_dir_all(dir.join("layout")).unwrap();
    peer(&dir, "tar", &["-xf", "x.tar", "-C", "layout"]);
    let secret = Digest::of(b"secret");
    dir.write("secret", "secret");
    std::os::unix::fs::symlink(dir.join("secret"), dir.join("layout").join(secret.path())).unwrap();
    let serving = Serving::start(&dir, &["layout"]);
    assert_eq!(serving.get(&format!("/v2/team/app/blobs/{secret}"), "").status, 404);
    let blob = dir.join("layout").join(digests[0].path());
    fs::remove_file(&blob).unwrap();
    let path = format!("/v2/team/app/blobs/{}", digests[0]);
    assert_eq!(serving.get(&path, "").status, 500, "it is gone");
    peer(&dir, "mkfifo", &[blob.to_str().unwrap()]);
    assert_eq!(serving.get(&path, "").status, 500, "nobody waits for a FIFO");
    std::os::unix::fs::symlink(dir.join("secret"), dir.join("link")).unwrap();
    fs::rename(dir.join("link"), &blob).unwrap();
    assert_eq!(serving.get(&path, "").status, 500);
}

/// What archives call things is shown in one line, without what a terminal or a browser would obey.
#[test]
fn names_are_shown_and_not_obeyed() {
    let mut content = Content::default();
    let config =
        json!({"architecture": "amd64", "os": format!("linux\u{1b}]0;x\u{7}<b>\nfake {}", "l".repeat(70_000))});
    let config = content.blob("app", config.to_string().as_bytes());
    let size = content.body(&format!("/v2/app/blobs/{config}")).unwrap().len();
    let config = descriptor("application/vnd.oci.image.config.v1+json", &config, size);
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": []});
    content.manifest("app", MANIFEST, manifest.to_string().as_bytes(), Some("v1"));
    let (dir, source) = (Dir::new(), Scripted::honest(content));
    configure(&dir, &source.endpoint(), 25);
    dir.write("s", "reg.example.com/app:v1\n");
    ace_dt(&dir, &["mirror", "archive", "-q", "s", "x.tar"]).ok();
    let serving = Serving::start(&dir, &["x.tar"]);
    let text = String::from_utf8(serving.get("/", "").body).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.len() == 6 && !text.contains('\u{1b}') && text.len() < 5000, "{text}");
    let html = String::from_utf8(serving.get("/", "Accept: text/html\r\n").body).unwrap();
    assert!(!html.contains("<b>") && html.len() < 8000, "{html}");
}

/// A connection that is kept open does not hold up the end.
#[test]
fn who_has_his_answer_is_not_waited_for() {
    let (dir, digests) = one_image(&[noise(1, 8_000_000)]);
    let serving = Serving::start(&dir, &["x.tar"]);
    let (mut socket, _) = half_answered(&serving, &digests[0]);
    send(&serving.running.0, Signal::SIGTERM);
    let reading = thread::spawn(move || {
        thread::sleep(Duration::from_millis(700));
        let mut rest = Vec::new();
        let _ = socket.read_to_end(&mut rest);
        rest.len()
    });
    let begun = Instant::now();
    let (status, said) = serving.end(Signal::SIGHUP);
    assert_eq!((status, said.contains("not answered")), (Some(0), false), "{said}");
    assert!(reading.join().unwrap() > 7_900_000 && begun.elapsed() < Duration::from_secs(8));
}

#[test]
fn what_cannot_be_served() {
    let (dir, _) = one_image(&[b"x".to_vec()]);
    dir.write("nonsense", noise(1, 5000));
    dir.write("empty", "");
    fs::create_dir(dir.join("directory")).unwrap();
    for (words, why) in [
        (&["missing.tar"][..], "missing.tar"),
        (&["nonsense"], "nonsense"),
        (&["empty"], "empty"),
        (&["directory"], "index.json"),
        (&["/dev/null"], "no regular file"),
        (&["--map", "nest", "x.tar"], "KIND=ARGUMENT"),
        (&["--map", "digests=missing.csv", "x.tar"], "missing.csv"),
    ] {
        let words = [&["util", "serve", "--address", "127.0.0.1:0"][..], words].concat();
        let outcome = ace_dt(&dir, &words);
        assert!(outcome.status != 0 && outcome.err.contains(why), "{words:?}: {}", outcome.err);
    }
    ace_dt(&dir, &["util", "serve", "--address", "nowhere", "x.tar"]).fails(2, &["nowhere"]);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    ace_dt(&dir, &["util", "serve", "--address", &address, "x.tar"]).fails(1, &[&address, "in use"]);
}
