//! A second registry implementation beside Docker's: go-containerregistry's, which `crane registry
//! serve` runs. `make test-second` builds it.

use std::{
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
};

use crate::{
    push::{configure, golden_images_into},
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
