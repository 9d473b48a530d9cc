//! Proxies: tinyproxy(8) by CONNECT, microsocks(1) by SOCKS5. Each has a hosts(5) of its own (nss_wrapper(1)), which
//! alone knows the registry's name, so that whoever reaches it went through the proxy.

use std::{
    fs,
    net::TcpStream,
    process::{Child, Command, Stdio},
};

use crate::{
    registry::{Registry, Setup, Storage},
    tls::authority,
    util::{Dir, Outcome, finish, noise, tool, wait_for},
};

struct Proxy {
    child: Child,
    port: u16,
}

impl Proxy {
    fn start(dir: &Dir, command: impl Fn(u16) -> String) -> Proxy {
        dir.write("hosts", "127.0.0.1 reg.test\n");
        for _ in 0..10 {
            let port = crate::util::free_port();
            let script = format!("exec {}", command(port));
            let log = fs::File::create(dir.join("proxy.log")).unwrap();
            let child = Command::new("sh")
                .args(["-c", &script])
                .current_dir(&**dir)
                .env("LD_PRELOAD", "libnss_wrapper.so")
                .env("NSS_WRAPPER_HOSTS", dir.join("hosts"))
                .stdin(Stdio::null())
                .stdout(log.try_clone().unwrap())
                .stderr(log)
                .spawn()
                .unwrap();
            let mut proxy = Proxy { child, port };
            let mut ended = false;
            wait_for("the proxy", || {
                ended = proxy.child.try_wait().unwrap().is_some();
                ended || TcpStream::connect(("127.0.0.1", port)).is_ok()
            });
            if !ended {
                return proxy;
            }
        }
        panic!("no proxy could be started: {}", dir.text("proxy.log"));
    }

    fn tinyproxy(dir: &Dir) -> Proxy {
        Proxy::start(dir, |port| {
            let config =
                format!("Port {port}\nListen 127.0.0.1\nMaxClients 50\nAllow 127.0.0.1\nBasicAuth us3r pr0xy\n");
            dir.write("tinyproxy.conf", config);
            "tinyproxy -d -c tinyproxy.conf".into()
        })
    }

    fn microsocks(dir: &Dir, access: &str) -> Proxy {
        Proxy::start(dir, |port| format!("microsocks -i 127.0.0.1 -p {port} {access}"))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A registry with TLS that is known as `reg.test`.
fn registry(dir: &Dir) -> Registry {
    Storage::new(&dir.join("storage")).image("app", "v1", &[noise(1, 300_000)]);
    let (ca, certificate, key) = authority(dir, "DNS:reg.test");
    let (certificate, key) = (dir.join(certificate), dir.join(key));
    let setup = Setup { tls: Some((certificate.as_path(), key.as_path())), ..Setup::default() };
    let registry = Registry::start_as(&dir.join("storage"), &setup);
    dir.write(&format!(".docker/certs.d/reg.test:{}/ca.pem", registry.port), dir.read(&ca));
    dir.write("s", format!("reg.test:{}/app:v1", registry.port));
    registry
}

fn through(dir: &Dir, variables: &[(&str, &str)]) -> Outcome {
    let words = ["mirror", "archive", "-q", "--force", "--retries", "1", "-v", "debug", "s", "out.tar"];
    let outcome = finish(tool(dir, &words).envs(variables.iter().copied()).spawn().unwrap());
    assert!(!outcome.err.contains("pr0xy"), "a secret is told: {}", outcome.err);
    outcome
}

/// Fails with the last line holding all of `words`.
#[track_caller]
fn refused(outcome: &Outcome, words: &[&str]) {
    assert_eq!(outcome.status, 1, "{}", outcome.err);
    let last = outcome.err.lines().last().unwrap();
    words.iter().for_each(|word| assert!(last.contains(word), "{word:?} is not in: {last}"));
}

#[test]
fn an_http_proxy_by_connect() {
    let dir = Dir::new();
    let registry = registry(&dir);
    let proxy = Proxy::tinyproxy(&dir);
    let url = format!("http://us3r:pr0xy@127.0.0.1:{}", proxy.port);
    through(&dir, &[("HTTPS_PROXY", &url)]).ok();
    through(&dir, &[("https_proxy", &url["http://".len()..])]).ok();
    through(&dir, &[("ALL_PROXY", &url)]).ok();
    refused(&through(&dir, &[("HTTP_PROXY", &url)]), &["the host's name cannot be looked up"]);
    refused(
        &through(&dir, &[("HTTPS_PROXY", &url), ("NO_PROXY", "a.io, reg.test")]),
        &["the host's name cannot be looked up"],
    );
    let wrong = format!("http://us3r:pr0xy2@127.0.0.1:{}", proxy.port);
    refused(&through(&dir, &[("HTTPS_PROXY", &wrong)]), &["the proxy does not connect", "401"]);
    drop(proxy);
    refused(&through(&dir, &[("HTTPS_PROXY", &url)]), &["reg.test", "Connection refused"]);
    drop(registry);
}

#[test]
fn a_socks_proxy() {
    let dir = Dir::new();
    let registry = registry(&dir);
    for (access, user) in [("", ""), ("-u us3r -P pr0xy", "us3r:pr0xy@")] {
        let proxy = Proxy::microsocks(&dir, access);
        for scheme in ["socks5", "socks5h"] {
            through(&dir, &[("ALL_PROXY", &format!("{scheme}://{user}127.0.0.1:{}", proxy.port))]).ok();
        }
        let wrong = format!("socks5://us3r:pr0xy2@127.0.0.1:{}", proxy.port);
        if !access.is_empty() {
            refused(&through(&dir, &[("ALL_PROXY", &wrong)]), &["password authentication failed"]);
        }
    }
    drop(registry);
    let outcome = through(&dir, &[("ALL_PROXY", "gopher://us3r:pr0xy@127.0.0.1:70")]);
    assert_eq!(outcome.status, 2, "{}", outcome.err);
    assert!(outcome.err.contains("$ALL_PROXY: it is no proxy's URL"), "{}", outcome.err);
}
