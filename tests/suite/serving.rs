//! `util serve` running, for tests.

use std::{
    io::{BufRead as _, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, ChildStderr},
    time::Duration,
};

use serde_json::Value;

use crate::util::{Signal, send, tool};

/// A process that ends with this.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The tool, serving.
pub struct Serving {
    pub running: Running,
    pub host: String,
    /// What it said before it served.
    pub said: String,
    err: BufReader<ChildStderr>,
}

impl Serving {
    /// Serves on a port that the kernel chooses.
    pub fn start(dir: &Path, words: &[&str]) -> Serving {
        let words = [&["util", "serve", "--address", "127.0.0.1:0"][..], words].concat();
        let mut running = Running(tool(dir, &words).spawn().unwrap());
        let mut err = BufReader::new(running.0.stderr.take().unwrap());
        let mut said = String::new();
        loop {
            let mut line = String::new();
            assert!(err.read_line(&mut line).unwrap() > 0, "it does not serve: {said}");
            if let Some((_, host)) = line.trim().split_once("://") {
                let host = host.trim_end_matches('/').to_string();
                return Serving { running, host, said, err };
            }
            said.push_str(&line);
        }
    }

    /// Sends bytes, and reads all that comes.
    pub fn raw(&self, bytes: &[u8]) -> Vec<u8> {
        let mut socket = TcpStream::connect(&self.host).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let _ = socket.write_all(bytes);
        let mut all = Vec::new();
        let _ = socket.read_to_end(&mut all);
        all
    }

    /// Asks for something, with further header fields.
    pub fn get(&self, path: &str, fields: &str) -> Reply {
        self.ask("GET", path, fields)
    }

    pub fn ask(&self, method: &str, path: &str, fields: &str) -> Reply {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: h.example\r\nConnection: close\r\n{fields}\r\n");
        Reply::of(&self.raw(request.as_bytes()))
    }

    /// Every repository, with its tags.
    pub fn named(&self) -> Vec<(String, Vec<String>)> {
        let list = |path: &str, key: &str| -> Vec<String> {
            let all = self.get(path, "").json()[key].as_array().unwrap().clone();
            all.iter().map(|name| name.as_str().unwrap().to_string()).collect()
        };
        let names = list("/v2/_catalog", "repositories").into_iter();
        names.map(|name| (name.clone(), list(&format!("/v2/{name}/tags/list"), "tags"))).collect()
    }

    /// Ends it with a signal, and waits for that; its exit status, and what it said meanwhile.
    pub fn end(mut self, signal: Signal) -> (Option<i32>, String) {
        send(&self.running.0, signal);
        let mut said = String::new();
        self.err.read_to_string(&mut said).unwrap();
        (self.running.0.wait().unwrap().code(), said)
    }
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn of(bytes: &[u8]) -> Reply {
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or_else(|| {
            panic!("it is no answer: {}", String::from_utf8_lossy(bytes));
        });
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Reply { status, head, body: bytes[end + 4..].to_vec() }
    }

    /// A header field.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The code of an error.
    pub fn code(&self) -> String {
        self.json()["errors"][0]["code"].as_str().unwrap().to_string()
    }
}
