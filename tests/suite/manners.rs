//! Registries, and what people leave on their machines, as they are met: each situation was reported by users of such
//! tools.

use std::{fs, os::unix::fs::PermissionsExt as _};

use ace_dt::oci::Digest;
use serde_json::{Value, json};

use crate::{
    registry::{CONFIG, LAYER, MANIFEST, Registry, Storage, configure, descriptor},
    scripted::{Answer, Content, Request, Scripted},
    util::{Dir, Outcome, ace_dt, finish, noise, tool},
};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

const ARTIFACTS: [&str; 2] =
    ["application/vnd.oci.artifact.manifest.v1+json", "application/vnd.cncf.oras.artifact.manifest.v1+json"];

/// Archives `app:v1` from a registry that answers so.
fn archive(content: Content, hook: impl Fn(&Request, Answer) -> Answer + Send + Sync + 'static, words: &[&str]) -> Run {
    let (dir, source) = (Dir::new(), Scripted::start(content, hook));
    configure(&dir, &source.endpoint(), 4);
    dir.write("s", "reg.example.com/app:v1");
    run(dir, words)
}

/// What became of a run, and where.
struct Run {
    dir: Dir,
    outcome: Outcome,
}

fn run(dir: Dir, words: &[&str]) -> Run {
    let mut all = vec!["mirror", "archive", "-q", "--force", "--retries", "1", "s", "out.tar"];
    all.extend(words);
    let outcome = ace_dt(&dir, &all);
    Run { dir, outcome }
}

impl Run {
    /// The archive is whole, and holds these bytes.
    fn holds(mut self, bytes: &[u8]) -> Run {
        self.outcome = self.outcome.ok();
        let archive = self.dir.read("out.tar");
        assert!(archive.windows(bytes.len()).any(|window| window == bytes), "they are not in the archive");
        let verdict = ace_dt(&self.dir, &["mirror", "verify", "-q", "out.tar"]);
        assert_eq!(verdict.status, 0, "{}{}", verdict.text(), verdict.err);
        self
    }
}

/// Docker's auth file.
fn logins(dir: &Dir, text: impl AsRef<[u8]>) {
    fs::create_dir(dir.join(".docker")).unwrap();
    dir.write(".docker/config.json", text);
}

fn small() -> Content {
    Content::small()
}

fn index(manifests: &[Value]) -> Vec<u8> {
    json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}).to_string().into()
}

/// The digest and size of `app:v1`.
fn app(content: &Content) -> (Digest, usize) {
    let bytes = content.body("/v2/app/manifests/v1").unwrap();
    (Digest::of(bytes), bytes.len())
}

/// `app:v1` with a signature whose manifest is of this type and has this subject; what is signed with.
fn signed(content: &mut Content, kind: &str, field: &str, subject: &Value) -> Value {
    let signature = b"the signature itself";
    let blob = descriptor("application/jose+json", &content.blob("app", signature), signature.len());
    let mut manifest = json!({"schemaVersion": 2, "mediaType": kind, "artifactType": "application/vnd.example.sig", field: [blob], "subject": subject});
    if kind == MANIFEST {
        let empty = descriptor("application/vnd.oci.empty.v1+json", &content.blob("app", b"{}"), 2);
        manifest["config"] = empty;
    }
    let bytes = manifest.to_string();
    let digest = content.manifest("app", kind, bytes.as_bytes(), Some("sig"));
    let mut listed = descriptor(kind, &digest, bytes.len());
    listed["artifactType"] = "application/vnd.example.sig".into();
    listed
}

#[test]
fn what_is_no_list_of_referrers_lists_none() {
    // Each answer to the tag sha256-HEX that is not the index of the specification.
    let content = small();
    let own = content.body("/v2/app/manifests/v1").unwrap().to_vec();
    let odd: [(&str, Vec<u8>); 5] = [
        (MANIFEST, own),
        ("text/html", b"<html>sign in</html>".to_vec()),
        (INDEX, b"".to_vec()),
        (INDEX, b"[]".to_vec()),
        ("application/json", b"{}".to_vec()),
    ];
    for (kind, body) in odd {
        let is_manifest = kind == MANIFEST;
        let hook = move |request: &Request, answer: Answer| match request.path {
            path if path.contains("/referrers/") => Answer { status: 404, ..Answer::default() },
            path if path.contains("/manifests/sha256-") => {
                let headers = vec![("Content-Type".into(), kind.into())];
                Answer { status: 200, headers, body: body.clone(), ..Answer::default() }
            }
            _ => answer,
        };
        let run = archive(small(), hook, &["-r"]).holds(&noise(1, 3000));
        assert_eq!(run.outcome.err.contains("should list referrers"), !is_manifest, "{kind}: {}", run.outcome.err);
    }
}

#[test]
fn an_api_that_is_refused_or_no_index_is_gone_round_by_the_tag() {
    for status in [400, 401, 403, 404, 405, 406, 501, 200] {
        let mut content = small();
        let (digest, size) = app(&content);
        let listed = signed(&mut content, MANIFEST, "layers", &descriptor(MANIFEST, &digest, size));
        // The subject never lists itself.
        let both = [descriptor(MANIFEST, &digest, size), listed];
        content.manifest("app", INDEX, &index(&both), Some(&digest.to_string().replace(':', "-")));
        let hook = move |request: &Request, answer: Answer| match request.path.contains("/referrers/") {
            true => Answer { status, body: b"<html>".to_vec(), ..Answer::default() },
            false => answer,
        };
        let run = archive(content, hook, &["-r"]).holds(b"the signature itself");
        let told = run.outcome.err.matches("referrers are found by tag").count();
        assert_eq!(told, usize::from(status != 404), "{status}: {}", run.outcome.err);
    }
}

#[test]
fn artifact_manifests_are_carried_with_their_blobs() {
    for kind in ARTIFACTS {
        for also_as_blob in [false, true] {
            let mut content = small();
            let (digest, size) = app(&content);
            let listed = signed(&mut content, kind, "blobs", &descriptor(MANIFEST, &digest, size));
            let signature = listed["digest"].as_str().unwrap().to_string();
            let bytes = content.body(&format!("/v2/app/manifests/{signature}")).unwrap().to_vec();
            if also_as_blob {
                content.blob("app", &bytes);
            }
            let (own, none) = (index(&[listed]), index(&[]));
            let hook = move |request: &Request, answer: Answer| match request.path.contains("/referrers/") {
                true => {
                    let body = if request.path.ends_with(&digest.to_string()) { own.clone() } else { none.clone() };
                    Answer { status: 200, body, ..Answer::default() }
                }
                false => answer,
            };
            archive(content, hook, &["-r"]).holds(b"the signature itself");
        }
    }
}

#[test]
fn a_subject_that_is_nowhere_is_a_warning() {
    let gone = Digest::of(b"gone");
    for words in [&[][..], &["-r"], &["--continue"]] {
        let mut content = small();
        signed(&mut content, MANIFEST, "layers", &descriptor(MANIFEST, &gone, 123));
        let (dir, source) = (Dir::new(), Scripted::honest(content));
        configure(&dir, &source.endpoint(), 4);
        dir.write("s", "reg.example.com/app:v1\nreg.example.com/app:sig\n");
        let run = run(dir, words).holds(b"the signature itself");
        assert!(run.outcome.err.contains(&gone.to_string()), "{}", run.outcome.err);
    }
    // What an index lists must be there.
    let mut content = small();
    content.manifest("app", INDEX, &index(&[descriptor(MANIFEST, &gone, 123)]), Some("v1"));
    archive(content, |_, answer| answer, &[]).outcome.fails(1, &[&gone.to_string(), "404"]);
}

#[test]
fn referrers_without_end_end() {
    let mut content = small();
    let (_, first) = app(&content);
    let known = std::sync::Mutex::new(std::collections::HashMap::<String, Vec<u8>>::new());
    let config = br#"{"architecture":"amd64","os":"linux"}"#;
    let config = descriptor(CONFIG, &content.blob("app", config), config.len());
    let hook = move |request: &Request, answer: Answer| {
        let mut known = known.lock().unwrap();
        let name = request.path.rsplit('/').next().unwrap().to_string();
        let ok = |kind: &str, body: Vec<u8>| {
            let headers = vec![("Content-Type".into(), kind.into())];
            Answer { status: 200, headers, body, ..Answer::default() }
        };
        if request.path.contains("/referrers/") {
            let size = known.get(&name).map_or(first, Vec::len);
            let subject = json!({"mediaType": MANIFEST, "digest": name, "size": size});
            let manifest =
                json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [], "subject": subject});
            let manifest = manifest.to_string().into_bytes();
            let digest = Digest::of(&manifest);
            let listed = index(&[descriptor(MANIFEST, &digest, manifest.len())]);
            known.insert(digest.to_string(), manifest);
            return ok(INDEX, listed);
        }
        match known.get(&name) {
            Some(manifest) => ok(MANIFEST, manifest.clone()),
            None => answer,
        }
    };
    archive(content, hook, &["-r"]).outcome.fails(1, &["more than 64 manifests deep"]);
}

#[test]
fn credentials_are_offered_where_nobody_asks() {
    // What a stranger is told, and what the API's root says: its status, and whether it has a challenge.
    for (status, ping, challenge) in
        [(404, 401, true), (403, 401, true), (404, 200, true), (401, 401, true), (403, 200, false), (404, 404, false)]
    {
        let (dir, content) = (Dir::new(), small());
        let source = Scripted::start(content, move |request, answer| {
            let known = request.headers.get("authorization").is_some_and(|value| value == "Basic dTpw");
            let headers = vec![("WWW-Authenticate".into(), "Basic realm=\"x\"".into())];
            match (known, request.path == "/v2/") {
                (true, _) => answer,
                (false, true) if challenge => Answer { status: ping, headers, ..Answer::default() },
                (false, true) => Answer { status: ping, ..Answer::default() },
                (false, false) => Answer { status, ..Answer::default() },
            }
        });
        configure(&dir, &source.endpoint(), 4);
        // Unasked, only what is kept for the endpoint itself is sent.
        let name = if challenge { "reg.example.com".to_string() } else { format!("127.0.0.1:{}", source.port) };
        logins(&dir, json!({"auths": {name: {"auth": "dTpw"}}}).to_string());
        dir.write("s", "reg.example.com/app:v1\nreg.example.com/app:v1");
        run(dir, &[]).holds(&noise(1, 3000));
    }
    // Credentials that are wrong, or of no use, spoil nothing that everybody may have.
    for entry in [json!({"auth": "dTpw"}), json!({"identitytoken": "t"})] {
        let (dir, content) = (Dir::new(), small());
        let source = Scripted::start(content, |request, answer| match request.headers.contains_key("authorization") {
            true => {
                let headers = vec![("WWW-Authenticate".into(), "Basic realm=\"x\"".into())];
                Answer { status: 401, headers, ..Answer::default() }
            }
            false => answer,
        });
        configure(&dir, &source.endpoint(), 4);
        let name = format!("127.0.0.1:{}", source.port);
        logins(&dir, json!({"auths": {name: entry}}).to_string());
        dir.write("s", "reg.example.com/app:v1");
        run(dir, &["-r"]).holds(&noise(1, 3000));
    }
    // What passes is no answer.
    let (dir, content) = (Dir::new(), small());
    let busy = std::sync::atomic::AtomicUsize::new(0);
    let source = Scripted::start(content, move |request, answer| {
        let known = request.headers.get("authorization").is_some_and(|value| value == "Basic dTpw");
        let headers = vec![("WWW-Authenticate".into(), "Basic realm=\"x\"".into())];
        match request.path {
            _ if known => answer,
            "/v2/" if busy.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0 => {
                Answer { status: 503, headers: vec![("Retry-After".into(), "0".into())], ..Answer::default() }
            }
            "/v2/" => Answer { status: 401, headers, ..Answer::default() },
            _ => Answer { status: 404, ..Answer::default() },
        }
    });
    configure(&dir, &source.endpoint(), 4);
    logins(&dir, r#"{"auths":{"reg.example.com":{"auth":"dTpw"}}}"#);
    dir.write("s", "reg.example.com/app:v1");
    run(dir, &[]).holds(&noise(1, 3000));
}

#[test]
fn a_mirror_is_asked_by_its_own_name_first() {
    let dir = Dir::new();
    let source = Scripted::start(small(), |request, answer| {
        match request.headers.get("authorization").is_some_and(|value| value == "Basic dTpw") {
            true => answer,
            false => {
                let headers = vec![("WWW-Authenticate".into(), "Basic realm=\"x\"".into())];
                Answer { status: 401, headers, ..Answer::default() }
            }
        }
    });
    configure(&dir, &source.endpoint(), 4);
    let mirror = format!("127.0.0.1:{}", source.port);
    let auths = json!({"auths": {mirror: {"auth": "dTpw"}, "reg.example.com": {"auth": "eDp5"}}});
    logins(&dir, auths.to_string());
    dir.write("s", "reg.example.com/app:v1");
    run(dir, &[]).holds(&noise(1, 3000));
}

#[test]
fn what_others_left_in_auth_files_matters_to_nobody_else() {
    let helper = "#!/bin/sh\ncat > /dev/null\necho 'not a registry of ours'\nexit 1\n";
    for file in [
        r#"{"credsStore":"desktop"}"#,
        r#"{"credsStore":"cloud"}"#,
        r#"{"credHelpers":{"reg.example.com":"cloud"}}"#,
        r#"{"credsStore":null,"credHelpers":null,"auths":null}"#,
        r#"{"auths":{"reg.example.com":null,"b.io":"odd","c.io":{"auth":"!"},"d.io":{"auth":null,"identitytoken":null}}}"#,
        r#"{"auths":{"reg.example.com":{"auth":"!"}}}"#,
    ] {
        let dir = Dir::new();
        let source = Scripted::start(small(), |request, answer| {
            if request.path.starts_with("/token") {
                return Answer { status: 200, body: br#"{"token":"anonymous"}"#.to_vec(), ..Answer::default() };
            }
            if request.headers.get("authorization").is_some_and(|value| value == "Bearer anonymous") {
                return answer;
            }
            let realm = format!("Bearer realm=\"http://{}/token\",service=\"s\"", request.headers["host"]);
            Answer { status: 401, headers: vec![("WWW-Authenticate".into(), realm)], ..Answer::default() }
        });
        configure(&dir, &source.endpoint(), 4);
        fs::create_dir(dir.join("bin")).unwrap();
        let path = dir.write("bin/docker-credential-cloud", helper);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        logins(&dir, file);
        dir.write("s", "reg.example.com/app:v1");
        let search = format!("{}:{}", dir.join("bin").display(), std::env::var("PATH").unwrap());
        let words = ["mirror", "archive", "-q", "s", "out.tar"];
        let outcome = finish(tool(&dir, &words).env("PATH", search).spawn().unwrap());
        let outcome = outcome.ok();
        let warns = file.contains("Store\":\"") || file.contains("cloud") || file.contains("reg.example.com\":{");
        assert_eq!(outcome.err.contains("is asked without credentials"), warns, "{file}: {}", outcome.err);
    }
}

#[test]
fn bodies_that_do_not_come_are_not_waited_for() {
    for status in [307, 401] {
        let (dir, storage) = (Dir::new(), Scripted::honest(small()));
        let elsewhere = storage.endpoint();
        let source = Scripted::start(small(), move |request, answer| {
            let hold = std::time::Duration::from_secs(30);
            let unasked = !request.headers.contains_key("authorization");
            let header = match status {
                307 if request.path.contains("/blobs/") => ("Location".into(), format!("{elsewhere}{}", request.path)),
                401 if unasked => ("WWW-Authenticate".into(), "Basic realm=x".into()),
                _ => return answer,
            };
            Answer { status, headers: vec![header], announced: Some(180), hold, ..Answer::default() }
        });
        configure(&dir, &source.endpoint(), 4);
        logins(&dir, r#"{"auths":{"reg.example.com":{"auth":"dTpw"}}}"#);
        dir.write("s", "reg.example.com/app:v1");
        // It ends by itself, and not by a time-out of 60 s.
        run(dir, &["--http-timeout", "60s", "--retry-time", "5s"]).holds(&noise(1, 3000));
    }
}

#[test]
fn what_comes_compressed_is_decompressed_or_named() {
    use std::io::Write as _;
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let encoded = |answer: Answer, name: &str| {
        let mut headers = answer.headers;
        headers.push(("Content-Encoding".into(), name.into()));
        Answer { headers, ..answer }
    };
    let hook = move |request: &Request, answer: Answer| match request.path.contains("/manifests/") {
        true => Answer { body: gzip(&answer.body), ..encoded(answer, "gzip") },
        // A label that means nothing.
        false => encoded(answer, "x-gzip"),
    };
    archive(small(), hook, &[]).holds(&noise(1, 3000));
    let hook = move |request: &Request, answer: Answer| match request.path.contains("/blobs/") {
        true => Answer { body: gzip(&answer.body), ..encoded(answer, "gzip") },
        false => answer,
    };
    archive(small(), hook, &[]).outcome.fails(1, &["Content-Encoding: gzip"]);
    let hook = move |_: &Request, answer: Answer| encoded(answer, "br");
    archive(small(), hook, &[]).outcome.fails(1, &["Content-Encoding: br"]);
}

#[test]
fn a_page_in_html_is_called_so() {
    for (part, word) in [("/manifests/", "page in HTML"), ("/blobs/", "page in HTML")] {
        let hook = move |request: &Request, answer: Answer| match request.path.contains(part) {
            true => {
                let headers = vec![("Content-Type".into(), "text/html; charset=utf-8".into())];
                Answer { status: 200, headers, body: b"<!DOCTYPE html><p>Sign in".to_vec(), ..Answer::default() }
            }
            false => answer,
        };
        archive(small(), hook, &[]).outcome.fails(1, &[word]);
    }
}

#[test]
fn a_manifest_without_a_type_is_told_by_its_content() {
    for kind in ["", "application/json", "text/plain; charset=utf-8"] {
        let mut content = small();
        let bytes = content.body("/v2/app/manifests/v1").unwrap();
        let mut manifest: Value = serde_json::from_slice(bytes).unwrap();
        manifest["mediaType"] = Value::Null;
        content.manifest("app", kind, manifest.to_string().as_bytes(), Some("v1"));
        archive(content, |_, answer| answer, &[]).holds(&noise(1, 3000));
    }
}

#[test]
fn null_is_absence() {
    let mut content = small();
    let (digest, size) = app(&content);
    let mut listed = descriptor(MANIFEST, &digest, size);
    listed["platform"] =
        json!({"os": "linux", "architecture": "amd64", "variant": null, "os.version": null, "os.features": null});
    listed["annotations"] = json!({"a": null});
    listed["urls"] = Value::Null;
    listed["artifactType"] = Value::Null;
    content.manifest("app", INDEX, &index(&[listed]), Some("v1"));
    archive(content, |_, answer| answer, &["-p", "linux/amd64"]).holds(&noise(1, 3000));
}

#[test]
fn entries_that_are_no_manifests_have_no_platform() {
    let mut content = small();
    let (digest, size) = app(&content);
    let mut image = descriptor(MANIFEST, &digest, size);
    image["platform"] = json!({"os": "linux", "architecture": "amd64"});
    let layer = descriptor(LAYER, &content.blob("app", b"a layer of a cache"), 18);
    let config = descriptor("application/vnd.buildkit.cacheconfig.v0", &content.blob("app", b"{}"), 2);
    content.manifest("app", INDEX, &index(&[layer, config, image]), Some("v1"));
    let body = content.body("/v2/app/manifests/v1").unwrap().to_vec();
    let again = || {
        let mut content = small();
        content.blob("app", b"a layer of a cache");
        content.blob("app", b"{}");
        content.manifest("app", INDEX, &body, Some("v1"));
        content
    };
    let run = archive(again(), |_, answer| answer, &["-p", "linux/amd64"]).holds(&noise(1, 3000));
    assert!(run.outcome.err.contains("2 entries of its index are no manifests"), "{}", run.outcome.err);
    let run = archive(again(), |_, answer| answer, &[]).holds(b"a layer of a cache");
    let list = ace_dt(&run.dir, &["mirror", "list", "out.tar"]).ok();
    assert!(!list.err.contains("not in it"), "{}", list.err);
}

/// `app:v1` for two platforms, the index signed; its digest.
fn two_platforms(content: &mut Content) -> Digest {
    let mut listed = Vec::new();
    for (n, architecture) in [(5, "amd64"), (6, "arm64")] {
        content.image("app", architecture, &[noise(n, 3000)]);
        let bytes = content.body(&format!("/v2/app/manifests/{architecture}")).unwrap();
        let mut image = descriptor(MANIFEST, &Digest::of(bytes), bytes.len());
        image["platform"] = json!({"os": "linux", "architecture": architecture});
        listed.push(image);
    }
    let bytes = index(&listed);
    let top = content.manifest("app", INDEX, &bytes, Some("v1"));
    let signature = signed(content, MANIFEST, "layers", &descriptor(INDEX, &top, bytes.len()));
    content.manifest("app", INDEX, &index(&[signature]), Some(&top.to_string().replace(':', "-")));
    top
}

#[test]
fn a_sparse_index_keeps_its_digest_and_what_refers_to_it() {
    let mut content = Content::default();
    let top = two_platforms(&mut content);
    let words = ["-r", "-p", "linux/amd64", "--sparse-index"];
    let run = archive(content, |_, answer| answer, &words).holds(b"the signature itself").holds(&noise(5, 3000));
    let bytes = run.dir.read("out.tar");
    let has = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
    assert!(has(top.hex().as_bytes()) && !has(&noise(6, 3000)), "the index is there, and arm64 is not");
    let verdict = ace_dt(&run.dir, &["mirror", "verify", "-q", "out.tar"]).ok();
    assert!(verdict.text().contains("left out of a sparse index: 1 manifest"), "{}", verdict.text());
    let list = ace_dt(&run.dir, &["mirror", "list", "out.tar"]).ok();
    assert!(!list.err.contains("not in it") && list.text().contains(&top.to_string()), "{}{}", list.text(), list.err);
    // What was not left out on purpose is missing.
    let mut content = Content::default();
    two_platforms(&mut content);
    let run = archive(content, |_, answer| answer, &["-p", "linux/amd64"]).holds(&noise(5, 3000));
    let bytes = run.dir.read("out.tar");
    assert!(!bytes.windows(15).any(|window| window == b"sparse.left-out"));
}

/// One digest for two platforms, of which one is wanted; and an attestation that is listed and refers.
#[test]
fn a_sparse_index_leaves_out_nothing_that_is_wanted() {
    let mut content = small();
    let (digest, size) = app(&content);
    let listed = ["amd64", "arm64"].map(|architecture| {
        let mut image = descriptor(MANIFEST, &digest, size);
        image["platform"] = json!({"os": "linux", "architecture": architecture});
        image
    });
    let mut other = listed[1].clone();
    let attestation = signed(&mut content, MANIFEST, "layers", &descriptor(MANIFEST, &digest, size));
    let mut unknown = attestation.clone();
    unknown["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    content.manifest("app", INDEX, &index(&[listed[0].clone(), other.clone(), unknown]), Some("v1"));
    // Another index lists the same as what nobody wants.
    other["platform"]["architecture"] = "s390x".into();
    content.image("app", "other", &[noise(7, 3000)]);
    let bytes = content.body("/v2/app/manifests/other").unwrap();
    let mut wanted = descriptor(MANIFEST, &Digest::of(bytes), bytes.len());
    wanted["platform"] = json!({"os": "linux", "architecture": "amd64"});
    content.manifest("app", INDEX, &index(&[other, wanted]), Some("v2"));
    content.manifest("app", INDEX, &index(&[attestation]), Some(&digest.to_string().replace(':', "-")));
    let (dir, source) = (Dir::new(), Scripted::honest(content));
    configure(&dir, &source.endpoint(), 4);
    dir.write("s", "reg.example.com/app:v1\nreg.example.com/app:v2\n");
    let words = ["-r", "-p", "linux/amd64", "--sparse-index", "--manifest-json"];
    let run = run(dir, &words).holds(&noise(1, 3000)).holds(&noise(7, 3000)).holds(b"the signature itself");
    // Such an archive is a source, and is whole where it goes.
    let again = ["mirror", "serialize", "-q", "oci-archive:out.tar", "again.tar"];
    ace_dt(&run.dir, &again).ok();
    ace_dt(&run.dir, &["mirror", "verify", "-q", "again.tar"]).ok();
    ace_dt(&run.dir, &["mirror", "archive", "-q", "--sparse-index", "s", "x.tar"]).fails(2, &["--platforms"]);
}

#[test]
fn digest_tags_come_along_as_sources() {
    let mut content = Content::default();
    let top = two_platforms(&mut content);
    let amd64 = Digest::of(content.body("/v2/app/manifests/amd64").unwrap());
    // As cosign lays them out: with the configuration of an image, which names no platform.
    let mut tags = vec!["v1".to_string(), "latest".into(), format!("sha256-{}.sig", "0".repeat(64))];
    let mut lay = |content: &mut Content, digest: &Digest, ending: &str, text: &[u8]| {
        let config = descriptor(CONFIG, &content.blob("app", br#"{"architecture":"","os":""}"#), 27);
        let layer =
            descriptor("application/vnd.dev.cosign.simplesigning.v1+json", &content.blob("app", text), text.len());
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
        let tag = format!("sha256-{}.{ending}", digest.hex());
        tags.push(tag.clone());
        content.manifest("app", MANIFEST, manifest.to_string().as_bytes(), Some(&tag))
    };
    let of_index = lay(&mut content, &top, "sig", b"signature of the index");
    lay(&mut content, &amd64, "att", b"attestation of amd64");
    // One that is signed itself.
    lay(&mut content, &of_index, "sig", b"signature of a signature");
    // In two pages, with null for an empty one.
    let rest = tags.split_off(3);
    let hook = move |request: &Request, answer: Answer| {
        let page = |tags: Option<&[String]>, next: Option<&str>| {
            let link = next.map(|next| ("Link".to_string(), format!("<{next}>; rel=\"next\"")));
            let body = json!({"name": "app", "tags": tags}).to_string().into_bytes();
            Answer { status: 200, headers: link.into_iter().collect(), body, ..Answer::default() }
        };
        match request.path {
            "/v2/app/tags/list" => page(Some(&tags), Some("/v2/app/tags/list?last=x")),
            "/v2/app/tags/list?last=x" => page(None, Some("/v2/app/tags/list?last=y")),
            "/v2/app/tags/list?last=y" => page(Some(&rest), None),
            _ => answer,
        }
    };
    let words = ["-p", "linux/amd64", "--digest-tags", "--report", "report"];
    let run = archive(content, hook, &words)
        .holds(b"signature of the index")
        .holds(b"attestation of amd64")
        .holds(b"signature of a signature");
    let list = ace_dt(&run.dir, &["mirror", "list", "out.tar"]).ok();
    for (digest, ending) in [(&top, "sig"), (&amd64, "att"), (&of_index, "sig")] {
        let name = format!("reg.example.com/app:sha256-{}.{ending}", digest.hex());
        assert!(list.text().contains(&name) && run.dir.text("report").contains(&name), "{name}");
    }
    assert!(!list.text().contains(&"0".repeat(64)), "of a manifest that is not taken");
    // Where tags are not listed, the source fails.
    let mut content = Content::default();
    two_platforms(&mut content);
    archive(content, |_, answer| answer, &["--digest-tags"]).outcome.fails(1, &["digest tags", "tags/list", "404"]);
}

#[test]
fn what_platforms_leave_out_is_told() {
    let mut content = small();
    let (digest, size) = app(&content);
    let mut image = descriptor(MANIFEST, &digest, size);
    image["platform"] = json!({"os": "linux", "architecture": "amd64"});
    let bytes = index(&[image]);
    let top = content.manifest("app", INDEX, &bytes, Some("v1"));
    let listed = signed(&mut content, MANIFEST, "layers", &descriptor(INDEX, &top, bytes.len()));
    let (own, none) = (index(&[listed]), index(&[]));
    let hook = move |request: &Request, answer: Answer| match request.path.contains("/referrers/") {
        true => {
            let body = if request.path.ends_with(&top.to_string()) { own.clone() } else { none.clone() };
            Answer { status: 200, body, ..Answer::default() }
        }
        false => answer,
    };
    let run = archive(content, hook, &["-r", "-p", "linux/amd64,linux/arm64"]).holds(&noise(1, 3000));
    let told = &run.outcome.err;
    assert!(told.contains("nothing for linux/arm64; it has linux/amd64"), "{told}");
    assert!(told.contains("1 of type \"application/vnd.example.sig\""), "{told}");
    // A configuration that names no platform is no "/".
    let mut content = Content::default();
    let config = descriptor(CONFIG, &content.blob("app", b"{}"), 2);
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": []});
    content.manifest("app", MANIFEST, manifest.to_string().as_bytes(), Some("v1"));
    let run = archive(content, |_, answer| answer, &["-p", "linux/amd64"]);
    let outcome = run.outcome.fails(1, &["nothing is left"]);
    assert!(outcome.err.contains("names no platform"), "{}", outcome.err);
}

/// The same from Docker's registry, which lists its tags itself and has no referrers API.
#[test]
fn dockers_registry_gives_tags_platforms_and_signatures() {
    let dir = Dir::new();
    let storage = Storage::new(&dir.join("storage"));
    let mut listed = Vec::new();
    for (n, architecture) in [(5, "amd64"), (6, "arm64")] {
        let digest = storage.image("app", architecture, &[noise(n, 3000)]);
        let size = fs::metadata(storage.data(&digest)).unwrap().len() as usize;
        let mut image = descriptor(MANIFEST, &digest, size);
        image["platform"] = json!({"os": "linux", "architecture": architecture});
        listed.push(image);
    }
    let bytes = index(&listed);
    let top = storage.manifest("app", &bytes, Some("v1"));
    let lay = |text: &[u8], subject: Option<Value>, tag: Option<&str>| {
        let config = descriptor(CONFIG, &storage.blob("app", br#"{"architecture":"","os":""}"#), 27);
        let kind = "application/vnd.dev.cosign.simplesigning.v1+json";
        let layer = descriptor(kind, &storage.blob("app", text), text.len());
        let mut manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
        if let Some(subject) = subject {
            (manifest["subject"], manifest["artifactType"]) = (subject, "application/vnd.example.sig".into());
        }
        let bytes = manifest.to_string();
        let digest = storage.manifest("app", bytes.as_bytes(), tag);
        descriptor(MANIFEST, &digest, bytes.len())
    };
    lay(b"under a tag of cosign", None, Some(&format!("sha256-{}.sig", top.hex())));
    let mut signature = lay(b"under the referrers tag", Some(descriptor(INDEX, &top, bytes.len())), None);
    signature["artifactType"] = "application/vnd.example.sig".into();
    storage.manifest("app", &index(&[signature]), Some(&format!("sha256-{}", top.hex())));
    let registry = Registry::start(&dir.join("storage"));
    registry.configure(&dir, "http", 4);
    dir.write("s", "reg.example.com/app:v1");
    let run = run(dir, &["-r", "-p", "linux/amd64,linux/s390x", "--digest-tags"]).holds(b"under a tag of cosign");
    let told = &run.outcome.err;
    assert!(told.contains("nothing for linux/s390x; it has linux/amd64, linux/arm64"), "{told}");
    assert!(told.contains("1 of type \"application/vnd.example.sig\""), "{told}");
    self::run(run.dir, &["-r", "-p", "linux/amd64", "--sparse-index"]).holds(b"under the referrers tag");
    drop(registry);
}
