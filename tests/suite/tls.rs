//! TLS: authorities, client certificates, what is said of a certificate that is refused, and how
//! many handshakes there are.

use std::{
    fs,
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use crate::{
    registry::{Registry, Setup, Storage, configure},
    util::{Dir, ace_dt, noise, peer, tool},
};

const IMAGE: &str = "reg.example.com/app:v1";

#[test]
fn https_with_a_private_authority() {
    let dir = Dir::new();
    Storage::new(&dir.join("storage")).image("app", "v1", &[noise(1, 3000)]);
    let (ca, certificate, key) = authority(&dir, "IP:127.0.0.1,DNS:localhost");
    let tls = Some((dir.join(&certificate), dir.join(&key)));
    let tls = tls.as_ref().map(|(c, k)| (c.as_path(), k.as_path()));
    let registry = Registry::start_as(&dir.join("storage"), &Setup { tls, ..Setup::default() });
    registry.configure(&dir, "https", 4);
    dir.write("s", IMAGE);
    let words = ["mirror", "archive", "-q", "--force", "s", "out.tar"];
    let put = "put the certificate of who signed it into /etc/containerd/certs.d/reg.example.com/ca.pem or";
    let refused = "the certificate of 127.0.0.1 is refused: it is signed by \"tests-authority\", which is not trusted";
    ace_dt(&dir, &words).fails(1, &["resolving reg.example.com/app:v1", refused, put]);
    let trusting = tool(&dir, &words).env("SSL_CERT_FILE", dir.join(&ca)).spawn().unwrap();
    crate::util::finish(trusting).ok();
    let config = dir.text("ace-dt-config.yaml");
    let endpoint = format!(
        "  endpointConfig:\n    https://127.0.0.1:{}:\n      tls:\n        insecureSkipVerify: true\n",
        registry.port
    );
    dir.write("ace-dt-config.yaml", config + &endpoint);
    ace_dt(&dir, &words).ok();
}

#[test]
fn client_certificates_come_from_certs_d() {
    let dir = Dir::new();
    Storage::new(&dir.join("storage")).image("app", "v1", &[noise(1, 3000)]);
    let (ca, certificate, key) = authority(&dir, "IP:127.0.0.1,DNS:localhost");
    let (ca, certificate, key) = (dir.join(ca), dir.join(certificate), dir.join(key));
    let setup = Setup { tls: Some((&certificate, &key)), client_authority: Some(&ca), ..Setup::default() };
    let registry = Registry::start_as(&dir.join("storage"), &setup);
    registry.configure(&dir, "https", 4);
    dir.write("s", IMAGE);
    let words = ["mirror", "archive", "-q", "--force", "s", "out.tar"];
    let certs = dir.join(".docker/certs.d/reg.example.com");
    fs::create_dir_all(&certs).unwrap();
    ace_dt(&dir, &words).fails(1, &["certificate"]);
    // An authority alone: we trust the registry, and it does not trust us.
    fs::copy(&ca, certs.join("ca.crt")).unwrap();
    ace_dt(&dir, &words).fails(1, &["the server wants a client certificate"]);
    for (cert_name, key_name) in [("client.cert", "client.key"), ("cert.pem", "key.pem")] {
        fs::copy(&certificate, certs.join(cert_name)).unwrap();
        ace_dt(&dir, &words).fails(1, &["certs.d/reg.example.com", cert_name, key_name, "No such file"]);
        fs::copy(&key, certs.join(key_name)).unwrap();
        ace_dt(&dir, &words).ok();
        fs::remove_file(certs.join(cert_name)).unwrap();
    }
}

#[test]
fn a_certificate_that_is_refused_is_told() {
    let dir = Dir::new();
    Storage::new(&dir.join("storage")).image("app", "v1", &[noise(1, 3000)]);
    let (ca, certificate, key) = authority(&dir, "DNS:other.example.com,DNS:third.example.com");
    let certs = dir.join(".docker/certs.d/reg.example.com");
    fs::create_dir_all(&certs).unwrap();
    fs::copy(dir.join(&ca), certs.join("ca.pem")).unwrap();
    let serve = |certificate: &str, key: &str| {
        let (certificate, key) = (dir.join(certificate), dir.join(key));
        let setup = Setup { tls: Some((certificate.as_path(), key.as_path())), ..Setup::default() };
        let registry = Registry::start_as(&dir.join("storage"), &setup);
        registry.configure(&dir, "https", 4);
        registry
    };
    dir.write("s", IMAGE);
    let words = ["mirror", "archive", "-q", "--force", "s", "out.tar"];
    let registry = serve(&certificate, &key);
    let names = "it is not for that name, but for ";
    ace_dt(&dir, &words).fails(1, &["certificate of 127.0.0.1", names, "other.example.com", "third.example.com"]);
    drop(registry);
    // One that ran out long ago.
    dir.write("db", "");
    dir.write("serial", "01");
    dir.write("ca.cnf", "[ca]\ndefault_ca=c\n[c]\ndatabase=db\nnew_certs_dir=.\ndefault_md=sha256\npolicy=p\nserial=serial\n[p]\ncommonName=supplied\n");
    openssl(
        &dir,
        "ca -batch -notext -config ca.cnf -cert ca.pem -keyfile ca.key -in reg.csr -out old.pem -extfile ext -startdate 20200101000000Z -enddate 20200201000000Z",
    );
    let registry = serve("old.pem", &key);
    ace_dt(&dir, &words).fails(
        1,
        &["certificate of 127.0.0.1", "it was valid until Sat, 01 Feb 2020 00:00:00 GMT", "this machine's clock"],
    );
    drop(registry);
    // A registry's own certificate, signed by itself, is trusted where it was put by an admin.
    openssl(
        &dir,
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=self -addext subjectAltName=IP:127.0.0.1 -keyout self.key -out self.pem",
    );
    let registry = serve("self.pem", "self.key");
    ace_dt(&dir, &words).fails(1, &["it is signed by itself, which is not trusted"]);
    fs::copy(dir.join("self.pem"), certs.join("self.crt")).unwrap();
    ace_dt(&dir, &words).ok();
    // Nor is a wrong file taken in silence, and a key that is another certificate's.
    fs::copy(dir.join("reg.pem"), certs.join("client.cert")).unwrap();
    fs::copy(dir.join("self.key"), certs.join("client.key")).unwrap();
    ace_dt(&dir, &words).fails(1, &["certs.d/reg.example.com", "client.cert", "with its key"]);
    fs::write(certs.join("client.key"), "-----BEGIN nonsense").unwrap();
    ace_dt(&dir, &words).fails(1, &["client.key", "no private key"]);
    fs::remove_file(certs.join("client.cert")).unwrap();
    fs::write(certs.join("ca.pem"), "nothing").unwrap();
    ace_dt(&dir, &words).fails(1, &["certs.d/reg.example.com", "ca.pem", "no certificate"]);
    drop(registry);
}

/// Passes the connections of a listener on to a port of this machine, and counts them. Its threads
/// end with the connections, the acceptor with the process.
pub fn pass_on(listener: TcpListener, to: u16) -> Arc<AtomicUsize> {
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            counted.fetch_add(1, Ordering::SeqCst);
            let (near, far) = (stream.unwrap(), TcpStream::connect(("127.0.0.1", to)).unwrap());
            pass(near.try_clone().unwrap(), far.try_clone().unwrap());
            pass(far, near);
        }
    });
    connections
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    thread::spawn(move || {
        let mut piece = vec![0; 64 << 10];
        while let Ok(n @ 1..) = from.read(&mut piece) {
            if to.write_all(&piece[..n]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
}

#[test]
fn a_thousand_blobs_over_tls_take_no_more_handshakes_than_requests_at_a_time() {
    const AT_A_TIME: usize = 8;
    let dir = Dir::new();
    let layers: Vec<Vec<u8>> = (0..1000).map(|n| noise(n + 1, 500)).collect();
    Storage::new(&dir.join("storage")).image("app", "v1", &layers);
    let (ca, certificate, key) = authority(&dir, "IP:127.0.0.1");
    let (certificate, key) = (dir.join(certificate), dir.join(key));
    let setup = Setup { tls: Some((certificate.as_path(), key.as_path())), ..Setup::default() };
    let registry = Registry::start_as(&dir.join("storage"), &setup);
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    configure(&dir, &format!("https://127.0.0.1:{}", listener.local_addr().unwrap().port()), AT_A_TIME);
    let connections = pass_on(listener, registry.port);
    dir.write("s", IMAGE);
    let words = ["mirror", "archive", "-q", "-v", "debug", "s", "out.tar"];
    let child = tool(&dir, &words).env("SSL_CERT_FILE", dir.join(&ca)).spawn().unwrap();
    let outcome = crate::util::finish(child).ok();
    let blobs = outcome.err.lines().filter(|l| l.contains("/blobs/") && l.contains(": 200 OK, ")).count();
    assert_eq!(blobs, 1001);
    let handshakes = connections.load(Ordering::SeqCst);
    assert!((1..=AT_A_TIME).contains(&handshakes), "{handshakes} handshakes");
}

fn openssl(dir: &Path, words: &str) {
    peer(dir, "openssl", &words.split_whitespace().collect::<Vec<_>>());
}

/// A certificate authority, and a certificate of its for these names: names of the files.
pub fn authority(dir: &Dir, names: &str) -> (String, String, String) {
    openssl(
        dir,
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=tests-authority -keyout ca.key -out ca.pem",
    );
    openssl(dir, "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=reg -keyout reg.key -out reg.csr");
    dir.write("ext", format!("subjectAltName={names}\n"));
    openssl(dir, "x509 -req -in reg.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out reg.pem");
    ("ca.pem".into(), "reg.pem".into(), "reg.key".into())
}
