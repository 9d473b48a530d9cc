//! A real registry: Debian's `docker-registry` (CNCF distribution) on a free loopback port.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use ace_dt::oci::Digest;
use serde_json::{Value, json};

use crate::util::{self, Dir};

/// Where the golden images and archives lie.
pub fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// What a registry stores, in the layout of its filesystem driver.
pub struct Storage {
    root: PathBuf,
}

impl Storage {
    pub fn new(dir: &Path) -> Storage {
        Storage { root: dir.join("docker/registry/v2") }
    }

    /// All the golden images.
    pub fn golden(dir: &Path) -> Storage {
        let storage = Storage::new(dir);
        let blobs = golden().join("registry/blobs/sha256");
        let index = fs::read(golden().join("registry/repositories.json")).unwrap();
        let index: Value = serde_json::from_slice(&index).unwrap();
        let content = |digest: &str| fs::read(blobs.join(digest.split_once(':').unwrap().1)).unwrap();
        for (repository, held) in index.as_object().unwrap() {
            for blob in held["blobs"].as_array().unwrap() {
                storage.blob(repository, &content(blob.as_str().unwrap()));
            }
            for digest in held["manifests"].as_object().unwrap().keys() {
                storage.manifest(repository, &content(digest), None);
            }
            for (tag, digest) in held["tags"].as_object().unwrap() {
                storage.manifest(repository, &content(digest.as_str().unwrap()), Some(tag));
            }
        }
        storage
    }

    fn link(&self, path: PathBuf, digest: &Digest) {
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("link"), digest.to_string()).unwrap();
    }

    /// Where the bytes of a blob lie.
    pub fn data(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.root.join("blobs/sha256").join(&hex[..2]).join(&hex).join("data")
    }

    fn store(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let data = self.data(&digest);
        if !data.exists() {
            fs::create_dir_all(data.parent().unwrap()).unwrap();
            fs::write(data, bytes).unwrap();
        }
        digest
    }

    pub fn blob(&self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = self.store(bytes);
        self.link(self.root.join("repositories").join(repository).join("_layers/sha256").join(digest.hex()), &digest);
        digest
    }

    pub fn manifest(&self, repository: &str, bytes: &[u8], tag: Option<&str>) -> Digest {
        let digest = self.store(bytes);
        let manifests = self.root.join("repositories").join(repository).join("_manifests");
        self.link(manifests.join("revisions/sha256").join(digest.hex()), &digest);
        if let Some(tag) = tag {
            self.link(manifests.join("tags").join(tag).join("current"), &digest);
            self.link(manifests.join("tags").join(tag).join("index/sha256").join(digest.hex()), &digest);
        }
        digest
    }

    /// A golden manifest, with everything under it.
    pub fn golden_tree(&self, repository: &str, digest: &str, tag: Option<&str>) {
        let content = golden_content;
        let bytes = content(digest);
        let manifest: Value = serde_json::from_slice(&bytes).unwrap();
        let below = |key: &str| manifest[key].as_array().cloned().unwrap_or_default();
        for blob in below("layers").iter().chain([&manifest["config"]]).filter_map(|d| d["digest"].as_str()) {
            self.blob(repository, &content(blob));
        }
        let extra = manifest["annotations"]["vnd.act3-ace.data.extra-manifests"].as_str();
        let extra: Vec<Value> = extra.map(|text| serde_json::from_str(text).unwrap()).unwrap_or_default();
        for child in below("manifests").iter().chain(&extra).filter_map(|d| d["digest"].as_str()) {
            self.golden_tree(repository, child, None);
        }
        self.manifest(repository, &bytes, tag);
    }

    /// What repositories hold: of each its tags, and the digests of its manifests.
    pub fn held(&self) -> BTreeMap<String, Held> {
        let mut all = BTreeMap::new();
        let mut queue = vec![self.root.join("repositories")];
        while let Some(dir) = queue.pop() {
            for entry in fs::read_dir(&dir).into_iter().flatten().map(Result::unwrap) {
                let name = entry.file_name().into_string().unwrap();
                if !name.starts_with('_') {
                    queue.push(entry.path());
                } else if name == "_manifests" {
                    let repository = dir.strip_prefix(self.root.join("repositories")).unwrap();
                    all.insert(repository.to_str().unwrap().to_string(), self.held_in(&entry.path()));
                }
            }
        }
        all
    }

    fn held_in(&self, manifests: &Path) -> Held {
        let names = |dir: PathBuf| {
            let entries = fs::read_dir(dir).into_iter().flatten().map(Result::unwrap);
            entries.map(|entry| entry.file_name().into_string().unwrap()).collect::<Vec<_>>()
        };
        let mut held = Held::default();
        for hex in names(manifests.join("revisions/sha256")) {
            held.manifests.insert(format!("sha256:{hex}"));
        }
        for tag in names(manifests.join("tags")) {
            let digest = fs::read_to_string(manifests.join("tags").join(&tag).join("current/link")).unwrap();
            let is_referrers_tag = tag.starts_with("sha256-") && !tag.contains('.');
            let bytes = fs::read(self.data(&digest.parse().unwrap())).unwrap_or_default();
            let index: Value = serde_json::from_slice(&bytes).unwrap_or_default();
            if let Some(listed) = index["manifests"].as_array().filter(|_| is_referrers_tag) {
                let listed = listed.iter().map(|d| d["digest"].as_str().unwrap().to_string()).collect();
                held.referrers.insert(tag, listed);
                held.indexes.push(digest);
            } else {
                held.tags.insert(tag, digest);
            }
        }
        // An index of referrers that another has replaced stays, untagged.
        held.manifests.retain(|digest| {
            let bytes = fs::read(self.data(&digest.parse().unwrap())).unwrap();
            !held.indexes.contains(digest) && !is_referrers_index(&bytes, &held.referrers)
        });
        held
    }

    /// An image of these layers.
    pub fn image(&self, repository: &str, tag: &str, layers: &[Vec<u8>]) -> Digest {
        let layers: Vec<Value> =
            layers.iter().map(|layer| descriptor(LAYER, &self.blob(repository, layer), layer.len())).collect();
        self.image_with(repository, tag, &layers)
    }

    /// An image of layers that are stored already, all of one size.
    #[allow(dead_code, reason = "the benches use it")]
    pub fn image_of(&self, repository: &str, tag: &str, layers: &[Digest], size: usize) -> Digest {
        let layers: Vec<Value> = layers.iter().map(|digest| descriptor(LAYER, digest, size)).collect();
        self.image_with(repository, tag, &layers)
    }

    fn image_with(&self, repository: &str, tag: &str, layers: &[Value]) -> Digest {
        let config = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
        let config = descriptor(CONFIG, &self.blob(repository, config), config.len());
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        self.manifest(repository, manifest.to_string().as_bytes(), Some(tag))
    }
}

/// Content of the golden images, or a manifest of the golden cases that none of these has.
pub fn golden_content(digest: &str) -> Vec<u8> {
    fs::read(golden().join("registry/blobs/sha256").join(&digest[7..])).unwrap_or_else(|_| extra(digest))
}

/// A manifest of the golden cases that no golden image has.
fn extra(digest: &str) -> Vec<u8> {
    let texts: Vec<String> = serde_json::from_slice(&fs::read(golden().join("high/extra.json")).unwrap()).unwrap();
    let found = texts.into_iter().find(|text| Digest::of(text.as_bytes()).to_string() == digest);
    found.unwrap_or_else(|| panic!("{digest} is nowhere")).into_bytes()
}

/// Whether an index lists some of what a referrers tag lists, and nothing else.
fn is_referrers_index(bytes: &[u8], referrers: &BTreeMap<String, BTreeSet<String>>) -> bool {
    let index: Value = serde_json::from_slice(bytes).unwrap();
    let Some(listed) = index["manifests"].as_array() else { return false };
    let listed: Vec<&str> = listed.iter().filter_map(|d| d["digest"].as_str()).collect();
    !listed.is_empty() && referrers.values().any(|all| listed.iter().all(|digest| all.contains(*digest)))
}

/// What a repository holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// With the digest of each.
    pub tags: BTreeMap<String, String>,
    /// Referrers tags, with what each lists.
    pub referrers: BTreeMap<String, BTreeSet<String>>,
    /// All but those that a referrers tag points to.
    pub manifests: BTreeSet<String>,
    /// Those.
    indexes: Vec<String>,
}

pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

pub fn descriptor(media_type: &str, digest: &Digest, size: usize) -> Value {
    json!({"mediaType": media_type, "digest": digest.to_string(), "size": size})
}

/// How a registry is set up.
#[derive(Default)]
pub struct Setup<'a> {
    /// An htpasswd file.
    pub htpasswd: Option<&'a Path>,
    /// Certificate and key.
    pub tls: Option<(&'a Path, &'a Path)>,
    /// The `auth` of a token server.
    pub tokens: Option<Value>,
    /// Who signs the certificates of its clients.
    pub client_authority: Option<&'a Path>,
}

/// A running registry; it is stopped when this goes.
pub struct Registry {
    child: Child,
    pub port: u16,
}

impl Registry {
    /// Serves what `Storage::new(dir)` stored.
    pub fn start(dir: &Path) -> Registry {
        Registry::start_as(dir, &Setup::default())
    }

    /// Its process.
    #[allow(dead_code)]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn start_as(dir: &Path, setup: &Setup) -> Registry {
        // Another process may take the port between the two; then the registry ends, and we try again.
        for _ in 0..10 {
            let port = util::free_port();
            let mut config = json!({
                "version": 0.1,
                "log": {"level": "error", "accesslog": {"disabled": true}},
                "storage": {"filesystem": {"rootdirectory": dir}, "delete": {"enabled": true}},
                "http": {"addr": format!("127.0.0.1:{port}")},
            });
            if let Some(path) = setup.htpasswd {
                config["auth"] = json!({"htpasswd": {"realm": "tests", "path": path}});
            }
            if let Some(access) = &setup.tokens {
                config["auth"] = access.clone();
            }
            if let Some((certificate, key)) = setup.tls {
                config["http"]["tls"] = json!({"certificate": certificate, "key": key});
            }
            if let Some(path) = setup.client_authority {
                config["http"]["tls"]["clientcas"] = json!([path]);
            }
            // JSON is YAML.
            let path = dir.join(format!("registry-{port}.yml"));
            fs::write(&path, config.to_string()).unwrap();
            let log = fs::File::create(dir.join(format!("registry-{port}.log"))).unwrap();
            let child = Command::new("docker-registry")
                .arg("serve")
                .arg(&path)
                .stdin(Stdio::null())
                .stdout(log.try_clone().unwrap())
                .stderr(log)
                .spawn()
                .unwrap_or_else(|e| panic!("docker-registry: {e}; `make test` installs it"));
            let mut registry = Registry { child, port };
            let mut ended = false;
            util::wait_for("docker-registry", || {
                ended = registry.child.try_wait().unwrap().is_some();
                ended || TcpStream::connect(("127.0.0.1", port)).is_ok()
            });
            if !ended {
                return registry;
            }
        }
        panic!("no registry could be started");
    }

    /// A configuration that serves `reg.example.com` from here.
    pub fn configure(&self, dir: &Dir, scheme: &str, concurrent: usize) {
        configure(dir, &format!("{scheme}://127.0.0.1:{}", self.port), concurrent);
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A configuration that serves `reg.example.com` at `endpoint`.
pub fn configure(dir: &Dir, endpoint: &str, concurrent: usize) {
    dir.write(
        "ace-dt-config.yaml",
        format!(
            "apiVersion: config.dt.act3-ace.io/v1alpha1\nkind: Configuration\nconcurrentHTTP: {concurrent}\n\
            registryConfig:\n  registries:\n    reg.example.com:\n      endpoints: [\"{endpoint}\"]\n"
        ),
    );
}
