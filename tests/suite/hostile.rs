//! Archives that cost as much as they can: time and memory must grow with their size alone. `make test-big` runs it.

use std::{fs, time::Instant};

use ace_dt::oci::Digest;
use serde_json::{Value, json};

use crate::{
    registry::{CONFIG, LAYER, MANIFEST, descriptor},
    util::{Dir, tool},
    verify::Member,
};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const GATHER: &str = "application/vnd.act3-ace.data.gather+json";
const REF: &str = "org.opencontainers.image.ref.name";
const SIZE: usize = 10_000_000;
/// Bytes of memory that every archive may cost, and so many for each of its own.
const MEMORY: (u64, u64) = (64 << 20, 8);
const SECONDS: f64 = 10.0;

/// A TAR archive in the making.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn new() -> Tar {
        let mut tar = Tar::default();
        tar.put("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
        tar
    }

    fn put(&mut self, name: &str, bytes: &[u8]) {
        let Member { header, content, .. } = Member::new(name, b'0', bytes.len() as u64, bytes);
        self.0.extend(header);
        self.0.extend(content);
    }

    /// A blob; its descriptor.
    fn blob(&mut self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes);
        self.put(&digest.path(), bytes);
        descriptor(media_type, &digest, bytes.len())
    }

    fn image(&mut self, layers: &[Value]) -> Value {
        let config = self.blob(CONFIG, br#"{"os":"linux","architecture":"amd64"}"#);
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        self.blob(MANIFEST, manifest.to_string().as_bytes())
    }

    fn index(&mut self, manifests: &[Value]) -> Value {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
        self.blob(INDEX, index.to_string().as_bytes())
    }

    /// The archive, with what its `index.json` lists.
    fn end(mut self, manifests: &[Value]) -> Vec<u8> {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
        self.put("index.json", index.to_string().as_bytes());
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

fn fake(n: usize, media_type: &str) -> Value {
    json!({"mediaType": media_type, "digest": format!("sha256:{n:064x}"), "size": 1})
}

/// Archives of some 10 MB, by what is hostile in them.
fn archives() -> Vec<(&'static str, Vec<u8>)> {
    let mut all = Vec::new();
    let mut tar = Tar::new();
    let layers: Vec<Value> = (0..SIZE / 2 / 150).map(|n| fake(n, LAYER)).collect();
    let image = tar.image(&layers);
    let index = tar.index(&vec![image; SIZE / 2 / 160]);
    all.push(("one manifest of many layers, listed often", tar.end(&[index])));

    let mut tar = Tar::new();
    let mut image = tar.image(&layers);
    let index: Vec<Value> = (0..SIZE / 2 / 160)
        .map(|n| {
            image["size"] = n.into();
            image.clone()
        })
        .collect();
    let index = tar.index(&index);
    all.push(("one manifest, of another size each time", tar.end(&[index])));

    let mut tar = Tar::new();
    let image = tar.image(&[]);
    let said = |key: &str| -> Vec<Value> {
        let mut image = image.clone();
        let one = |n| {
            image["annotations"] = json!({key: format!("{n}")});
            image.clone()
        };
        (0..SIZE / 2 / 190).map(one).collect()
    };
    let index = tar.index(&said("a"));
    let root = [vec![index], said("b")].concat();
    let ours =
        json!({"schemaVersion": 2, "manifests": root, "annotations": {"vnd.act3-ace.data.serialization.version": "2"}});
    tar.put("index.json", ours.to_string().as_bytes());
    all.push(("many things said of one manifest", tar.end(&[])));

    let mut tar = Tar::new();
    let mut next = tar.image(&[]);
    for _ in 0..SIZE / 1024 {
        next = tar.index(&[next]);
    }
    all.push(("an index in an index in an index", tar.end(&[next])));

    let mut tar = Tar::new();
    let shared: Vec<Value> = (0..SIZE / 2 / 150).map(|n| fake(n, MANIFEST)).collect();
    let shared = tar.index(&shared);
    let many: Vec<Value> = (0..SIZE / 2 / 1024)
        .map(|n| {
            let mut own = shared.clone();
            own["annotations"] = json!({"n": n.to_string()});
            tar.index(&[own])
        })
        .collect();
    all.push(("many indexes over one large index", tar.end(&many)));

    let mut tar = Tar::new();
    let image = tar.image(&[]);
    let mut index = tar.index(&vec![image; SIZE / 2 / 160]);
    index["annotations"] = json!({REF: "A".repeat(SIZE / 2)});
    all.push(("a long name for many images", tar.end(&[index])));

    let mut tar = Tar::new();
    for _ in 0..2 {
        let list = format!(
            r#"{{"schemaVersion":2,"x":{},"manifests":[{{"urls":[{}""]}}]}}"#,
            tar.0.len(),
            r#""","#.repeat(SIZE / 8)
        );
        tar.blob(INDEX, list.as_bytes());
    }
    tar.put("oci-layout", format!(r#"{{"imageLayoutVersion":[{}0]}}"#, "[],".repeat(SIZE / 12)).as_bytes());
    tar.put("manifest.json", format!(r#"[{{"Config":"","Layers":[{}""]}}]"#, r#""","#.repeat(SIZE / 12)).as_bytes());
    all.push(("lists of nothing", tar.end(&[])));

    let mut tar = Tar::new();
    let listed: Vec<Value> = (0..SIZE / 130)
        .map(|n| json!({"digest": format!("sha256:{n:064x}"), "size": 0, "annotations": {"": ""}, "platform": {}}))
        .collect();
    let gather = json!({"schemaVersion": 2, "artifactType": GATHER, "manifests": listed});
    let gather = tar.blob(INDEX, gather.to_string().as_bytes());
    all.push(("small descriptors in a gather index", tar.end(&[gather])));

    let mut tar = Tar::new();
    (0..SIZE / 1024).for_each(|n| drop(tar.blob(LAYER, n.to_string().as_bytes())));
    all.push(("blobs of a few bytes", tar.end(&[])));
    all
}

#[test]
#[ignore = "long: make test-big"]
fn hostile_archives_cost_by_their_size_alone() {
    let dir = Dir::new();
    for (what, bytes) in archives() {
        let path = dir.write("x.tar", &bytes);
        let most = MEMORY.0 + MEMORY.1 * bytes.len() as u64;
        for words in [&["verify", "-q"][..], &["list"], &["list", "-o", "json"]] {
            let begun = Instant::now();
            let all = [&["mirror"], words, &["x.tar"]].concat();
            let null = || std::process::Stdio::null();
            let mut child = tool(&dir, &all).stdin(null()).stdout(null()).stderr(null()).spawn().unwrap();
            let mut peak = 0;
            let status = loop {
                let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
                let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
                let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
                peak = peak.max(kib.unwrap_or(0) << 10);
                if let Some(status) = child.try_wait().unwrap() {
                    break status;
                }
                std::thread::sleep(std::time::Duration::from_millis(1));
            };
            let took = begun.elapsed().as_secs_f64();
            println!("{what}, {} bytes, {}: {took:.2} s, {} MiB", bytes.len(), words.join(" "), peak >> 20);
            assert!(status.code().is_some_and(|code| code <= 1), "{what}: {status}");
            assert!(peak <= most, "{what}: {peak} bytes of memory, {most} are allowed");
            assert!(took <= SECONDS, "{what}: {took} s");
        }
        fs::remove_file(path).unwrap();
    }
}
