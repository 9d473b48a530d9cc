//! `make bench-serve`: pulling from `util serve`, and from Docker's registry with the same content in memory, by the same
//! client; how soon the first answer comes, and how much memory it takes.
//!
//! Both take turns, and what is compared is the median.

#[allow(dead_code)]
mod common;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use ace_dt::oci::Digest;
use common::{
    InMemory, MIB, must,
    registry::{CONFIG, LAYER, MANIFEST, Storage, descriptor},
    serving::Serving,
    tool,
    util::{Dir, noise},
};
#[allow(unused_imports)]
use common::{registry, scripted, util};
use serde_json::json;

const ROUNDS: usize = 5;

fn main() {
    common::run(&[("large", large), ("small", small), ("begin", begin)]);
}

/// The most memory that it had, in KiB (proc_pid_status(5)).
fn peak(serving: &Serving) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", serving.running.0.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Gets blobs over so many connections, each kept for the next blob, and throws the bytes away. Returns the bytes.
fn pull(host: &str, repository: &str, digests: &[Digest], connections: usize) -> usize {
    let (next, total) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..connections {
            scope.spawn(|| {
                let socket = TcpStream::connect(host).unwrap();
                socket.set_nodelay(true).unwrap();
                let mut from = BufReader::with_capacity(256 << 10, socket);
                while let Some(digest) = digests.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let request = format!("GET /v2/{repository}/blobs/{digest} HTTP/1.1\r\nHost: {host}\r\n\r\n");
                    from.get_mut().write_all(request.as_bytes()).unwrap();
                    total.fetch_add(read_answer(&mut from), Ordering::SeqCst);
                }
            });
        }
    });
    total.into_inner()
}

fn read_answer(from: &mut BufReader<TcpStream>) -> usize {
    let (mut line, mut length) = (String::new(), 0);
    from.read_line(&mut line).unwrap();
    assert!(line.contains(" 200 "), "{line}");
    loop {
        line.clear();
        from.read_line(&mut line).unwrap();
        match line.trim().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.parse().unwrap(),
            Some(_) => {}
            None => break,
        }
    }
    let mut left = length;
    let mut piece = vec![0; 256 << 10];
    while left > 0 {
        let most = left.min(piece.len());
        let n = from.read(&mut piece[..most]).unwrap();
        assert!(n > 0, "it breaks off");
        left -= n;
    }
    length
}

/// An archive in memory, and Docker's registry with the same, pulled in turns.
fn compare(what: &str, blobs: usize, len: usize) {
    let mut digests = Vec::new();
    let registry = InMemory::with(|dir| {
        let storage = Storage::new(dir);
        digests = (0..blobs).map(|n| storage.blob("app", &noise(n as u64 + 1, len))).collect();
        storage.image_of("app", "v1", &digests, len);
    });
    let dir = Dir::new();
    let archive = registry.dir.join("x.tar");
    must(&mut tool(
        &dir,
        &["mirror", "serialize", "-q", &format!("{}/app:v1", registry.host()), archive.to_str().unwrap()],
    ));
    let (mut ours, mut first, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    let time = |host: &str, repository: &str, times: &mut Vec<Duration>| {
        let begun = Instant::now();
        assert_eq!(pull(host, repository, &digests, 4), blobs * len);
        times.push(begun.elapsed());
    };
    time(&registry.host(), "app", &mut Vec::new());
    for _ in 0..ROUNDS {
        let serving = Serving::start(&dir, &[archive.to_str().unwrap()]);
        time(&serving.host, "x", &mut first);
        time(&serving.host, "x", &mut ours);
        time(&registry.host(), "app", &mut theirs);
    }
    println!("{what}, four connections, median of {ROUNDS}:");
    let median = |times: &mut Vec<Duration>| {
        times.sort();
        times[ROUNDS / 2].as_secs_f64()
    };
    let base = median(&mut ours);
    for (name, times) in [
        ("util serve", &mut ours),
        ("util serve, the first time: digests checked", &mut first),
        ("docker-registry", &mut theirs),
    ] {
        let took = median(times);
        println!("  {name:<44} {:8.1} ms  {:.3} times the time of util serve", took * 1e3, took / base);
    }
}

fn large() {
    compare("2 GiB in 8 blobs", 8, 256 * MIB);
}

fn small() {
    compare("1,000 blobs of 1 KB", 1000, 1000);
}

/// An archive of 10 GB, most of it a hole: when the first answer comes, and how much memory 64 connections cost.
fn begin() {
    const LAYERS: usize = 20;
    const LAYER_LEN: usize = 500_000_000;
    let dir = Dir::new();
    let layers: Vec<Digest> = (0..LAYERS).map(|n| Digest::of(n.to_string().as_bytes())).collect();
    write_sparse(&dir.join("big.tar"), &layers, LAYER_LEN);
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let serving = Serving::start(&dir, &["big.tar"]);
        let mut socket = TcpStream::connect(&serving.host).unwrap();
        write!(socket, "GET /v2/big/manifests/v1 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
        let mut all = String::new();
        socket.read_to_string(&mut all).unwrap();
        assert!(all.contains(" 200 OK"), "{all}");
        times.push(begun.elapsed());
    }
    times.sort();
    println!(
        "an archive of 10 GB: the first answer {:.0} ms after the start, median of {ROUNDS}",
        times[ROUNDS / 2].as_secs_f64() * 1e3
    );
    let blobs: Vec<Vec<u8>> = (0..64).map(|n| noise(n + 1, 8 * MIB)).collect();
    let registry = InMemory::with(|at| {
        let storage = Storage::new(at);
        storage.image("app", "v1", &blobs);
    });
    let image = format!("{}/app:v1", registry.host());
    let digests: Vec<Digest> = blobs.iter().map(|blob| Digest::of(blob)).collect();
    for format in ["none", "zstd", "gzip"] {
        let words = ["mirror", "serialize", "-q", &image, "y.tar", "--force", "--compression", format];
        let words = if format == "none" { &words[..6] } else { &words[..] };
        must(&mut tool(&dir, words));
        let serving = Serving::start(&dir, &["y.tar"]);
        for _ in 0..3 {
            pull(&serving.host, "y", &digests, 64);
        }
        println!(
            "  compression {format:<4}: 64 connections pull 64 blobs of 8 MiB, thrice: peak memory {} KiB",
            peak(&serving)
        );
    }
}

/// An archive whose layers are holes.
fn write_sparse(path: &Path, layers: &[Digest], len: usize) {
    let config = br#"{"architecture":"amd64","os":"linux"}"#;
    let listed: Vec<_> = layers.iter().map(|digest| descriptor(LAYER, digest, len)).collect();
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST,
        "config": descriptor(CONFIG, &Digest::of(config), config.len()), "layers": listed})
    .to_string();
    let mut root = descriptor(MANIFEST, &Digest::of(manifest.as_bytes()), manifest.len());
    root["annotations"] = json!({"org.opencontainers.image.ref.name": "v1"});
    let index = json!({"schemaVersion": 2, "manifests": [root]}).to_string();
    let mut file = fs::File::create(path).unwrap();
    let mut at = 0;
    let mut put = |name: &str, len: usize, bytes: &[u8]| {
        use std::os::unix::fs::FileExt;
        file.write_all_at(&common::tar_header(name, len), at).unwrap();
        file.write_all_at(bytes, at + 512).unwrap();
        at += 512 + len.next_multiple_of(512) as u64;
    };
    let mut member = |name: &str, bytes: &[u8]| put(name, bytes.len(), bytes);
    member("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
    member("index.json", index.as_bytes());
    member(&Digest::of(manifest.as_bytes()).path(), manifest.as_bytes());
    member(&Digest::of(config).path(), config);
    layers.iter().for_each(|digest| put(&digest.path(), len, b""));
    file.set_len(at + 1024).unwrap();
    file.flush().unwrap();
}
