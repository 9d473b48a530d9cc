//! A registry in this process that takes what is pushed, strictly by the distribution specification.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use ace_dt::oci::{Digest, Manifest};

use crate::scripted::{Answer, Request};

/// How it behaves.
#[derive(Clone, Copy, Default)]
pub struct Manners {
    /// Has the referrers API.
    pub referrers_api: bool,
    /// The least chunk that it takes, but for the last.
    pub least_chunk: usize,
    /// Forgets a session whose connection breaks.
    pub forgetful: bool,
    /// Mounts nothing.
    pub mounts_nothing: bool,
}

#[derive(Default)]
pub struct Receiver {
    manners: Manners,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By repository and digest.
    blobs: HashMap<(String, Digest), Vec<u8>>,
    /// By repository, and tag or digest: media type and bytes.
    manifests: HashMap<(String, String), (String, Vec<u8>)>,
    /// By number.
    sessions: HashMap<u64, Vec<u8>>,
    next: u64,
    received: usize,
}

fn header(name: &str, value: impl ToString) -> (String, String) {
    (name.into(), value.to_string())
}

fn status(status: u16) -> Answer {
    Answer { status, ..Answer::default() }
}

fn refused(status: u16, code: &str) -> Answer {
    let body = format!(r#"{{"errors":[{{"code":"{code}"}}]}}"#).into_bytes();
    Answer { status, body, ..Answer::default() }
}

impl Receiver {
    pub fn new(manners: Manners) -> Arc<Receiver> {
        Arc::new(Receiver { manners, state: Mutex::default() })
    }

    /// Bytes of blobs that came in, those that were sent twice counted twice.
    pub fn received(&self) -> usize {
        self.state.lock().unwrap().received
    }

    pub fn blob(&self, repository: &str, digest: &Digest) -> Option<Vec<u8>> {
        self.state.lock().unwrap().blobs.get(&(repository.into(), digest.clone())).cloned()
    }

    pub fn manifest(&self, repository: &str, target: &str) -> Option<Vec<u8>> {
        Some(self.state.lock().unwrap().manifests.get(&(repository.into(), target.into()))?.1.clone())
    }

    /// Forgets the session that a path names.
    pub fn forget(&self, path: &str) {
        let number = path.split_once("/uploads/").and_then(|(_, rest)| rest.split('?').next()?.parse().ok());
        number.map(|number: u64| self.state.lock().unwrap().sessions.remove(&number));
    }

    /// What is not there of all that lies below a manifest, or does not match its digest.
    pub fn missing_below(&self, repository: &str, target: &str) -> Vec<String> {
        let state = self.state.lock().unwrap();
        let (mut missing, mut left) = (Vec::new(), vec![target.to_string()]);
        while let Some(target) = left.pop() {
            if let Some((media_type, bytes)) = state.manifests.get(&(repository.into(), target.clone())) {
                let manifest = Manifest::parse(media_type, bytes).unwrap();
                left.extend(manifest.successors().unwrap().iter().map(|d| d.digest.to_string()));
                continue;
            }
            let digest: Digest = target.parse().unwrap();
            if !state.blobs.get(&(repository.into(), digest.clone())).is_some_and(|bytes| digest.matches(bytes)) {
                missing.push(target);
            }
        }
        missing
    }

    /// The digests of a repository's manifests, but for indexes of referrers.
    pub fn digests(&self, repository: &str) -> Vec<String> {
        let state = self.state.lock().unwrap();
        let tagged: Vec<&Vec<u8>> = state
            .manifests
            .iter()
            .filter(|((_, target), _)| target.starts_with("sha256-"))
            .map(|(_, (_, bytes))| bytes)
            .collect();
        let own = state.manifests.iter().filter(|((name, target), (_, bytes))| {
            name == repository && target.starts_with("sha256:") && !tagged.contains(&bytes)
        });
        own.map(|((_, target), _)| target.clone()).collect()
    }

    pub fn open_sessions(&self) -> usize {
        self.state.lock().unwrap().sessions.len()
    }

    pub fn hook(self: &Arc<Receiver>) -> impl Fn(&Request, Answer) -> Answer + Send + Sync + 'static {
        let receiver = self.clone();
        move |request, _| receiver.answer(request)
    }

    pub fn answer(&self, request: &Request) -> Answer {
        let mut state = self.state.lock().unwrap();
        let (path, query) = request.path.split_once('?').unwrap_or((request.path, ""));
        let path = path.strip_prefix("/v2/").unwrap();
        let parameter = |name: &str| query.split('&').find_map(|p| p.strip_prefix(name)?.strip_prefix('='));
        if let Some((repository, session)) = path.split_once("/blobs/uploads/") {
            return match session.parse() {
                Ok(number) => self.upload(&mut state, request, repository, number, parameter("digest")),
                Err(_) => self.begin(&mut state, repository, parameter("mount"), parameter("from")),
            };
        }
        if let Some((repository, digest)) = path.split_once("/blobs/") {
            return match state.blobs.get(&(repository.into(), digest.parse().unwrap())) {
                Some(bytes) => Answer { status: 200, body: bytes.clone(), ..Answer::default() },
                None => status(404),
            };
        }
        if let Some((repository, target)) = path.split_once("/manifests/") {
            return self.manifests(&mut state, request, repository, target);
        }
        status(404)
    }

    fn begin(&self, state: &mut State, repository: &str, mount: Option<&str>, from: Option<&str>) -> Answer {
        if let (Some(digest), Some(from), false) = (mount, from, self.manners.mounts_nothing) {
            let digest: Digest = digest.parse().unwrap();
            if let Some(bytes) = state.blobs.get(&(from.to_string(), digest.clone())).cloned() {
                state.blobs.insert((repository.into(), digest), bytes);
                return status(201);
            }
        }
        state.next += 1;
        let number = state.next;
        state.sessions.insert(number, Vec::new());
        self.at(202, repository, number, 0)
    }

    fn at(&self, status: u16, repository: &str, number: u64, length: usize) -> Answer {
        let mut headers = vec![
            header("Location", format!("/v2/{repository}/blobs/uploads/{number}?state={length}")),
            header("Range", format!("0-{}", length.saturating_sub(1))),
        ];
        if self.manners.least_chunk > 0 {
            headers.push(header("OCI-Chunk-Min-Length", self.manners.least_chunk));
        }
        Answer { status, headers, ..Answer::default() }
    }

    fn upload(
        &self,
        state: &mut State,
        request: &Request,
        repository: &str,
        number: u64,
        digest: Option<&str>,
    ) -> Answer {
        state.received += request.body.len();
        let Some(session) = state.sessions.get_mut(&number) else { return refused(404, "BLOB_UPLOAD_UNKNOWN") };
        let announced: usize = request.headers.get("content-length").map_or(0, |v| v.parse().unwrap());
        let broken = request.body.len() < announced;
        match request.method {
            "GET" => return self.at(204, repository, number, session.len()),
            "DELETE" => {
                state.sessions.remove(&number);
                return status(204);
            }
            "PATCH" => {
                let range = &request.headers["content-range"];
                let (first, last) = range.split_once('-').unwrap();
                let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
                assert_eq!(last + 1 - first, announced, "the range is that of the body");
                if first != session.len() {
                    return refused(416, "BLOB_UPLOAD_INVALID");
                }
                session.extend_from_slice(request.body);
                if !broken {
                    return self.at(202, repository, number, session.len());
                }
            }
            "PUT" => session.extend_from_slice(request.body),
            method => panic!("{method} to an upload"),
        }
        if broken {
            if self.manners.forgetful {
                state.sessions.remove(&number);
            }
            return status(500);
        }
        let bytes = state.sessions.remove(&number).unwrap();
        let digest: Digest = digest.unwrap().parse().unwrap();
        if !digest.matches(&bytes) {
            return refused(400, "DIGEST_INVALID");
        }
        state.blobs.insert((repository.into(), digest), bytes);
        status(201)
    }

    fn manifests(&self, state: &mut State, request: &Request, repository: &str, target: &str) -> Answer {
        let key = |target: &str| (repository.to_string(), target.to_string());
        if request.method != "PUT" {
            let Some((media_type, bytes)) = state.manifests.get(&key(target)) else {
                return refused(404, "MANIFEST_UNKNOWN");
            };
            let headers = vec![header("Content-Type", media_type)];
            return Answer { status: 200, headers, body: bytes.clone(), ..Answer::default() };
        }
        if request.headers["content-length"] != request.body.len().to_string() {
            return status(500);
        }
        let media_type = &request.headers["content-type"];
        let manifest = Manifest::parse(media_type, request.body).unwrap();
        let subject = manifest.subject.clone();
        for below in manifest.successors().unwrap() {
            let is_subject = subject.as_ref().is_some_and(|s| s.digest == below.digest);
            let there = state.blobs.contains_key(&(repository.into(), below.digest.clone()))
                || state.manifests.contains_key(&key(&below.digest.to_string()));
            // An index at a referrers tag lists what is there, and a subject may come later.
            if !there && !is_subject {
                return refused(400, "MANIFEST_BLOB_UNKNOWN");
            }
        }
        let digest = Digest::of(request.body);
        for target in [target.to_string(), digest.to_string()] {
            state.manifests.insert(key(&target), (media_type.clone(), request.body.to_vec()));
        }
        let mut headers = vec![header("Docker-Content-Digest", &digest)];
        if let Some(subject) = subject.filter(|_| self.manners.referrers_api) {
            headers.push(header("OCI-Subject", subject.digest));
        }
        Answer { status: 201, headers, ..Answer::default() }
    }
}
