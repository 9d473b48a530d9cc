//! A small registry in this process, which answers as a test tells it to.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use ace_dt::oci::Digest;
use serde_json::{Value, json};

use crate::registry::{CONFIG, LAYER, MANIFEST, descriptor};

/// One answer.
#[derive(Clone, Default)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Send the body so often more: content that is made on the way.
    pub more: usize,
    /// The length to announce, if not the body's.
    pub announced: Option<usize>,
    /// Wait so long before the answer.
    pub delay: Duration,
    /// Wait so long after the body, with the connection open.
    pub hold: Duration,
    /// Close the connection after the body.
    pub close: bool,
    /// Close the connection instead of an answer.
    pub reset: bool,
    /// Send head and body in one packet.
    pub together: bool,
    /// Wait for the acknowledgement of one packet before the next, as servers do that leave Nagle's algorithm on.
    pub nagle: bool,
}

/// A request.
pub struct Request<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub headers: &'a HashMap<String, String>,
    pub body: &'a [u8],
}

/// Changes the answer that an honest registry gives.
type Hook = dyn Fn(&Request, Answer) -> Answer + Send + Sync;
/// By method, path and length of the body, how many of its bytes are read before the connection is
/// closed without an answer.
type Cut = dyn Fn(&str, &str, usize) -> Option<usize> + Send + Sync;

/// Blobs and manifests by path.
#[derive(Default)]
pub struct Content {
    held: HashMap<String, (String, Vec<u8>)>,
}

impl Content {
    pub fn blob(&mut self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        self.put(&format!("/v2/{repository}/blobs/{digest}"), "application/octet-stream", bytes);
        digest
    }

    pub fn put(&mut self, path: &str, media_type: &str, bytes: &[u8]) {
        self.held.insert(path.into(), (media_type.into(), bytes.into()));
    }

    pub fn manifest(&mut self, repository: &str, media_type: &str, bytes: &[u8], tag: Option<&str>) -> Digest {
        let digest = Digest::of(bytes);
        for name in [Some(digest.to_string().as_str()), tag].into_iter().flatten() {
            self.put(&format!("/v2/{repository}/manifests/{name}"), media_type, bytes);
        }
        digest
    }

    /// An image of these layers; the digests of the layers.
    pub fn image(&mut self, repository: &str, tag: &str, layers: &[Vec<u8>]) -> Vec<Digest> {
        let digests: Vec<Digest> = layers.iter().map(|layer| self.blob(repository, layer)).collect();
        let layers: Vec<Value> = digests.iter().zip(layers).map(|(d, l)| descriptor(LAYER, d, l.len())).collect();
        let config = br#"{"architecture":"amd64","os":"linux"}"#;
        let config = descriptor(CONFIG, &self.blob(repository, config), config.len());
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        self.manifest(repository, MANIFEST, manifest.to_string().as_bytes(), Some(tag));
        digests
    }

    /// What lies at a path.
    pub fn body(&self, path: &str) -> Option<&[u8]> {
        Some(&self.held.get(path)?.1)
    }

    /// `app:v1`, one small layer.
    #[allow(dead_code, reason = "the benches do without it")]
    pub fn small() -> Content {
        let mut content = Content::default();
        content.image("app", "v1", &[crate::util::noise(1, 3000)]);
        content
    }

    /// The golden images.
    pub fn golden() -> Content {
        let golden = crate::registry::golden().join("registry");
        let index = std::fs::read(golden.join("repositories.json")).unwrap();
        let index: Value = serde_json::from_slice(&index).unwrap();
        let read =
            |digest: &str| std::fs::read(golden.join("blobs/sha256").join(digest.split_once(':').unwrap().1)).unwrap();
        let mut content = Content::default();
        for (repository, held) in index.as_object().unwrap() {
            for blob in held["blobs"].as_array().unwrap() {
                content.blob(repository, &read(blob.as_str().unwrap()));
            }
            let manifests = held["manifests"].as_object().unwrap();
            for (digest, media_type) in manifests {
                content.manifest(repository, media_type.as_str().unwrap(), &read(digest), None);
            }
            for (tag, digest) in held["tags"].as_object().unwrap() {
                let digest = digest.as_str().unwrap();
                content.manifest(repository, manifests[digest].as_str().unwrap(), &read(digest), Some(tag));
            }
        }
        content
    }
}

/// A running registry; its threads end when this goes.
pub struct Scripted {
    pub port: u16,
    shared: Arc<Shared>,
    acceptor: Option<thread::JoinHandle<()>>,
}

struct Shared {
    content: Content,
    hook: Box<Hook>,
    cut: Box<Cut>,
    /// Method and path of every request.
    requests: Mutex<Vec<String>>,
    /// By number; those that are closed are gone.
    connections: Mutex<HashMap<usize, TcpStream>>,
    ending: AtomicBool,
}

impl Scripted {
    /// An honest registry.
    pub fn honest(content: Content) -> Scripted {
        Scripted::start(content, |_, answer| answer)
    }

    pub fn start(content: Content, hook: impl Fn(&Request, Answer) -> Answer + Send + Sync + 'static) -> Scripted {
        Scripted::cutting(content, hook, |_, _, _| None)
    }

    /// One that also breaks off what it is sent.
    pub fn cutting(
        content: Content,
        hook: impl Fn(&Request, Answer) -> Answer + Send + Sync + 'static,
        cut: impl Fn(&str, &str, usize) -> Option<usize> + Send + Sync + 'static,
    ) -> Scripted {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            content,
            hook: Box::new(hook),
            cut: Box::new(cut),
            requests: Mutex::default(),
            connections: Mutex::default(),
            ending: AtomicBool::new(false),
        });
        let of_acceptor = shared.clone();
        let acceptor = thread::spawn(move || {
            let mut serving = Vec::new();
            for (number, stream) in listener.incoming().enumerate() {
                if of_acceptor.ending.load(Ordering::SeqCst) {
                    break;
                }
                let stream = stream.unwrap();
                stream.set_nodelay(true).unwrap();
                of_acceptor.connections.lock().unwrap().insert(number, stream.try_clone().unwrap());
                let shared = of_acceptor.clone();
                // The stack of a thread that has ended is freed with its handle.
                serving.retain(|thread: &thread::JoinHandle<()>| !thread.is_finished());
                serving.push(thread::spawn(move || {
                    // The other side may go at any time.
                    let _ = serve(&shared, stream);
                    shared.connections.lock().unwrap().remove(&number);
                }));
            }
            serving.into_iter().for_each(|t| t.join().unwrap());
        });
        Scripted { port, shared, acceptor: Some(acceptor) }
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn requests(&self) -> Vec<String> {
        self.shared.requests.lock().unwrap().clone()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.shared.ending.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        for connection in self.shared.connections.lock().unwrap().values() {
            let _ = connection.shutdown(std::net::Shutdown::Both);
        }
        self.acceptor.take().unwrap().join().unwrap();
    }
}

fn serve(shared: &Shared, mut stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        // A TLS handshake has no lines.
        if reader.fill_buf()?.first().is_none_or(|first| !first.is_ascii_uppercase()) {
            return stream.shutdown(std::net::Shutdown::Both);
        }
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let mut words = line.split_whitespace();
        let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let mut headers = HashMap::new();
        loop {
            let mut header = String::new();
            reader.read_line(&mut header)?;
            match header.trim().split_once(':') {
                Some((name, value)) => headers.insert(name.to_ascii_lowercase(), value.trim().to_string()),
                None => break,
            };
        }
        shared.requests.lock().unwrap().push(format!("{method} {path}"));
        let length = headers.get("content-length").map_or(0, |v| v.parse().unwrap());
        let cut = (shared.cut)(method, path, length);
        let mut body = vec![0; cut.unwrap_or(length)];
        reader.read_exact(&mut body)?;
        let honest = honest(shared.content.held.get(path), headers.get("range"));
        let answer = (shared.hook)(&Request { method, path, headers: &headers, body: &body }, honest);
        pause(shared, answer.delay);
        if answer.reset || cut.is_some() {
            return stream.shutdown(std::net::Shutdown::Both);
        }
        let mut head = format!(
            "HTTP/1.1 {} x\r\nContent-Length: {}\r\n",
            answer.status,
            answer.announced.unwrap_or(answer.body.len() * (1 + answer.more))
        );
        for (name, value) in &answer.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        stream.set_nodelay(!answer.nagle)?;
        if answer.together && method != "HEAD" {
            stream.write_all(&[head.as_bytes(), &answer.body].concat())?;
            continue;
        }
        stream.write_all(head.as_bytes())?;
        for _ in 0..if method == "HEAD" { 0 } else { 1 + answer.more } {
            stream.write_all(&answer.body)?;
        }
        pause(shared, answer.hold);
        if answer.close {
            return stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

/// What an honest registry answers.
fn honest(held: Option<&(String, Vec<u8>)>, range: Option<&String>) -> Answer {
    let Some((media_type, body)) = held else {
        let body = br#"{"errors":[{"code":"UNKNOWN","message":"not known here"}]}"#.to_vec();
        return Answer { status: 404, body, ..Answer::default() };
    };
    let digest = Digest::of(body).to_string();
    let mut headers = vec![("Content-Type".to_string(), media_type.clone()), ("Docker-Content-Digest".into(), digest)];
    let start = range.and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    match start.filter(|start| *start < body.len()) {
        Some(start) => {
            headers.push(("Content-Range".into(), format!("bytes {start}-{}/{}", body.len() - 1, body.len())));
            Answer { status: 206, headers, body: body[start..].to_vec(), ..Answer::default() }
        }
        None => Answer { status: 200, headers, body: body.clone(), ..Answer::default() },
    }
}

fn pause(shared: &Shared, time: Duration) {
    let until = std::time::Instant::now() + time;
    while std::time::Instant::now() < until && !shared.ending.load(Ordering::SeqCst) {
        thread::sleep(Duration::from_millis(5).min(until.saturating_duration_since(std::time::Instant::now())));
    }
}
