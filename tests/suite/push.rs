//! `mirror gather`: what is pushed arrives whole, by mounts, whole uploads and chunks, through
//! broken sessions, into registries with and without a referrers API.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use ace_dt::oci::{Digest, Manifest, media};

use crate::{
    receiver::{Manners, Receiver},
    registry::{Registry, Storage, golden},
    scripted::{Answer, Content, Scripted},
    util::{Dir, Outcome, ace_dt, finish, noise, peer, tool},
};

/// Serves `reg.example.com` and `dest.example.com`.
pub fn configure(dir: &Dir, from: &str, to: &str) {
    dir.write(
        "ace-dt-config.yaml",
        format!(
            "concurrentHTTP: 8\nregistryConfig:\n  registries:\n    reg.example.com: {{endpoints: [\"{from}\"]}}\n    \
            dest.example.com: {{endpoints: [\"{to}\"]}}\n"
        ),
    );
}

/// Every digest that the archive of a list holds, and the digest of its root.
fn archived(dir: &Dir, list: &str) -> (Vec<String>, String) {
    ace_dt(dir, &["mirror", "archive", "-q", "-r", "--force", list, "check.tar"]).ok();
    let names = String::from_utf8(peer(dir, "tar", &["-tf", "check.tar"])).unwrap();
    let mut names: Vec<String> = names.lines().filter(|l| l.starts_with("blobs/sha256/")).map(String::from).collect();
    names.sort();
    let index = String::from_utf8(peer(dir, "tar", &["-xOf", "check.tar", "index.json"])).unwrap();
    let root = index.split("\"digest\": \"").nth(1).unwrap().split('"').next().unwrap().to_string();
    (names, root)
}

/// Gathers the golden images, referrers included, into a registry, and finds all of them there.
pub fn golden_images_into(dir: &Dir, endpoint: &str) -> String {
    let source = Scripted::honest(Content::golden());
    configure(dir, &source.endpoint(), endpoint);
    fs::copy(golden().join("sources.list"), dir.join("s")).unwrap();
    let words = ["mirror", "gather", "-r", "-v", "debug", "--report", "report", "s", "dest.example.com/week:1"];
    let outcome = ace_dt(dir, &words).ok();
    let (wanted, root) = archived(dir, "s");
    assert_eq!(outcome.text(), format!("dest.example.com/week:1@{root}\n"), "not the index that archive makes");
    assert!(dir.text("report").contains("\"gathered\""));
    drop(source);
    dir.write("copied", "dest.example.com/week:1");
    let (found, _) = archived(dir, "copied");
    let missing: Vec<&String> = wanted.iter().filter(|name| !found.contains(name)).collect();
    assert_eq!(missing, Vec::<&String>::new());
    outcome.err
}

#[test]
fn into_dockers_registry_which_lists_referrers_by_tag() {
    let dir = Dir::new();
    fs::create_dir_all(dir.join("storage")).unwrap();
    let registry = Registry::start(&dir.join("storage"));
    let log = golden_images_into(&dir, &format!("http://127.0.0.1:{}", registry.port));
    assert!(log.contains("/manifests/sha256-"), "no referrers tag was written: {log}");
    // A second time nothing is sent, and no referrer is listed twice.
    let words = ["mirror", "gather", "-r", "-v", "debug", "copied", "dest.example.com/again:1"];
    let again = ace_dt(&dir, &words).ok();
    let sent = again.err.lines().filter(|l| l.contains("/blobs/uploads/") && l.contains("bytes sent")).count();
    assert_eq!(sent, 0, "everything can be mounted: {}", again.err);
    assert!(again.err.contains("mount="), "{}", again.err);
    let again = ace_dt(&dir, &words).ok();
    assert_eq!(again.err.matches("POST").count(), 0, "everything is there: {}", again.err);
    assert_eq!(again.err.lines().filter(|l| l.contains("PUT") && l.contains("/manifests/sha256-")).count(), 0);
}

#[test]
fn into_a_registry_with_the_referrers_api() {
    let dir = Dir::new();
    let receiver = Receiver::new(Manners { referrers_api: true, ..Manners::default() });
    let dest = Scripted::start(Content::default(), receiver.hook());
    let source = Scripted::honest(Content::golden());
    configure(&dir, &source.endpoint(), &dest.endpoint());
    fs::copy(golden().join("sources.list"), dir.join("s")).unwrap();
    ace_dt(&dir, &["mirror", "gather", "-q", "-r", "s", "dest.example.com/week:1"]).ok();
    let requests = dest.requests();
    assert!(!requests.iter().any(|r| r.contains("/manifests/sha256-")), "{requests:?}");
    // Each blob is looked for, begun and sent once, each manifest put once, but the root also by its tag.
    let mut once: Vec<&String> = requests.iter().filter(|r| !r.starts_with("POST")).collect();
    let all = once.len();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), all);
    assert_eq!(receiver.open_sessions(), 0);
}

#[test]
fn blobs_of_many_sizes_in_chunks() {
    let dir = Dir::new();
    fs::create_dir_all(dir.join("storage")).unwrap();
    let registry = Registry::start(&dir.join("storage"));
    let mut content = Content::default();
    let layers: Vec<Vec<u8>> = [0, 1, 65_535, 65_536, 65_537, 300_000].map(|len| noise(len as u64 + 1, len)).into();
    content.image("app", "v1", &layers);
    let source = Scripted::honest(content);
    configure(&dir, &source.endpoint(), &format!("http://127.0.0.1:{}", registry.port));
    dir.write("s", "reg.example.com/app:v1");
    let gather = |chunk: &str, image: &str| {
        let words = ["mirror", "gather", "-v", "debug", "s", image];
        let outcome = finish(tool(&dir, &words).env("ACE_DT_CHUNK_SIZE", chunk).spawn().unwrap()).ok();
        outcome.err.lines().filter(|l| l.contains("PATCH") && l.contains("202")).count()
    };
    assert_eq!(gather("64Ki", "dest.example.com/a:1"), 2 + 5, "65,537 bytes in two, 300,000 in five");
    assert_eq!(gather("0", "dest.example.com/b:1"), 0, "each in one request");
    let storage = Storage::new(&dir.join("storage"));
    layers.iter().for_each(|layer| assert!(fs::read(storage.data(&Digest::of(layer))).unwrap() == *layer));
    // The registry serves what was pushed.
    dir.write("copied", "dest.example.com/a:1");
    ace_dt(&dir, &["mirror", "archive", "-q", "copied", "out.tar"]).ok();
}

/// Gathers an image of one layer of 300,000 bytes in chunks of 64 KiB into `receiver`.
fn one_layer(
    receiver: &Arc<Receiver>,
    hook: impl Fn(&crate::scripted::Request) -> Option<Answer> + Send + Sync + 'static,
    cut: impl Fn(&str, &str, usize) -> Option<usize> + Send + Sync + 'static,
    chunk: &str,
) -> (Outcome, Vec<String>) {
    let dir = Dir::new();
    let mut content = Content::default();
    content.image("app", "v1", &[noise(1, 300_000)]);
    let source = Scripted::honest(content);
    let honest = receiver.clone();
    let dest = Scripted::cutting(
        Content::default(),
        move |request, _| hook(request).unwrap_or_else(|| honest.answer(request)),
        cut,
    );
    configure(&dir, &source.endpoint(), &dest.endpoint());
    dir.write("s", "reg.example.com/app:v1");
    let words = ["mirror", "gather", "-q", "--retries", "2", "s", "dest.example.com/copy:v1"];
    let outcome = finish(tool(&dir, &words).env("ACE_DT_CHUNK_SIZE", chunk).spawn().unwrap());
    (outcome, dest.requests())
}

fn is_whole(receiver: &Receiver) {
    let layer = noise(1, 300_000);
    assert!(receiver.blob("copy", &Digest::of(&layer)).is_some_and(|found| found == layer), "the layer is not there");
    assert!(receiver.manifest("copy", "v1").is_some());
    assert_eq!(receiver.open_sessions(), 0);
}

/// True the first `times` times.
fn times(times: usize) -> impl Fn() -> bool + Send + Sync {
    let left = AtomicUsize::new(times);
    move || left.try_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok()
}

#[test]
fn an_upload_that_breaks_goes_on_where_it_broke() {
    // In one request, and in the third of five chunks; twice.
    for (chunk, broken, at) in [("0", "PUT", 100_000), ("64Ki", "PATCH", 30_000)] {
        let receiver = Receiver::new(Manners::default());
        let (met, twice) = (AtomicUsize::new(0), times(2));
        let cut = move |method: &str, path: &str, length: usize| {
            let large = path.contains("/uploads/") && length > at && ["PUT", "PATCH"].contains(&method);
            let due = large && (method == broken || broken == "PUT") && met.fetch_add(1, Ordering::SeqCst) != 0;
            (large && (due || broken == "PUT") && twice()).then_some(at)
        };
        let (outcome, requests) = one_layer(&receiver, |_| None, cut, chunk);
        let warnings = outcome.ok().err.matches("trying again").count();
        assert_eq!(warnings, 2);
        is_whole(&receiver);
        assert_eq!(receiver.received(), 300_000 + 37, "bytes were sent twice");
        assert_eq!(requests.iter().filter(|r| r.starts_with("GET ") && r.contains("/uploads/")).count(), 2);
        assert_eq!(requests.iter().filter(|r| r.starts_with("POST ")).count(), 2, "one session a blob: {requests:?}");
    }
}

#[test]
fn an_upload_whose_session_is_lost_begins_again() {
    let receiver = Receiver::new(Manners { forgetful: true, ..Manners::default() });
    let once = times(1);
    let cut = move |method: &str, _: &str, length: usize| (method == "PATCH" && length > 9 && once()).then_some(9);
    let (outcome, requests) = one_layer(&receiver, |_| None, cut, "64Ki");
    outcome.ok();
    is_whole(&receiver);
    assert_eq!(requests.iter().filter(|r| r.starts_with("POST ")).count(), 3);
}

#[test]
fn an_upload_at_the_wrong_offset_asks_for_the_right_one() {
    let receiver = Receiver::new(Manners::default());
    let (once, honest) = (times(1), receiver.clone());
    // The registry takes the chunk, and the client hears that it did not.
    let hook = move |request: &crate::scripted::Request| {
        (request.method == "PATCH" && once()).then(|| {
            honest.answer(request);
            Answer { status: 416, ..Answer::default() }
        })
    };
    let (outcome, _) = one_layer(&receiver, hook, |_, _, _| None, "64Ki");
    assert!(outcome.ok().err.contains("416"));
    is_whole(&receiver);
    assert_eq!(receiver.received(), 300_000 + 37, "bytes were sent twice");
}

/// The registry takes a request, and the answer is lost.
fn losing(
    receiver: &Arc<Receiver>,
    what: impl Fn(&crate::scripted::Request) -> bool + Send + Sync + 'static,
) -> impl Fn(&crate::scripted::Request) -> Option<Answer> + Send + Sync + 'static {
    let honest = receiver.clone();
    move |request| {
        what(request).then(|| {
            honest.answer(request);
            Answer { reset: true, ..Answer::default() }
        })
    }
}

#[test]
fn an_answer_that_is_lost_costs_nothing() {
    // That to the last chunk, and that to the end of the upload.
    let (last, end) = (times(1), times(1));
    let of_chunk = move |r: &crate::scripted::Request| {
        r.method == "PATCH" && r.headers["content-range"].ends_with("-299999") && last()
    };
    let of_end = move |r: &crate::scripted::Request| r.method == "PUT" && r.path.contains("/uploads/") && end();
    let receiver = Receiver::new(Manners::default());
    let hook = losing(&receiver, of_chunk);
    one_layer(&receiver, hook, |_, _, _| None, "64Ki").0.ok();
    is_whole(&receiver);
    assert_eq!(receiver.received(), 300_000 + 37, "bytes were sent twice");
    let receiver = Receiver::new(Manners::default());
    let hook = losing(&receiver, of_end);
    one_layer(&receiver, hook, |_, _, _| None, "64Ki").0.ok();
    is_whole(&receiver);
    assert!(receiver.received() <= 300_000 + 2 * 37, "the layer was sent twice");
}

#[test]
fn a_registry_that_is_away_for_a_while_is_asked_again_how_far_it_came() {
    let receiver = Receiver::new(Manners::default());
    let (away, once) = (times(2), times(1));
    let hook = move |request: &crate::scripted::Request| {
        let asked = request.method == "GET" && request.path.contains("/uploads/");
        (asked && away()).then(|| Answer { status: 503, ..Answer::default() })
    };
    let cut = move |method: &str, _: &str, length: usize| (method == "PATCH" && length > 9 && once()).then_some(30_000);
    let (outcome, _) = one_layer(&receiver, hook, cut, "64Ki");
    // One break and twice away are more tries than two.
    outcome.fails(1, &["503", "given up after 3 tries"]);
    let receiver = Receiver::new(Manners::default());
    let (away, once) = (times(1), times(1));
    let hook = move |request: &crate::scripted::Request| {
        let asked = request.method == "GET" && request.path.contains("/uploads/");
        (asked && away()).then(|| Answer { status: 503, ..Answer::default() })
    };
    let cut = move |method: &str, _: &str, length: usize| (method == "PATCH" && length > 9 && once()).then_some(30_000);
    one_layer(&receiver, hook, cut, "64Ki").0.ok();
    is_whole(&receiver);
    assert_eq!(receiver.received(), 300_000 + 37, "bytes were sent twice");
}

#[test]
fn the_tag_comes_last() {
    // A referrer of the root that is an index with manifests below it lies higher than the root.
    let dir = Dir::new();
    let mut content = Content::default();
    content.image("app", "v1", &[noise(1, 1000)]);
    let image = content.body("/v2/app/manifests/v1").unwrap().to_vec();
    let subject = crate::registry::descriptor(media::MANIFEST, &Digest::of(&image), image.len());
    let below = crate::registry::descriptor(media::MANIFEST, &Digest::of(&image), image.len());
    let index = serde_json::json!({
        "schemaVersion": 2, "mediaType": media::INDEX, "manifests": [below], "subject": subject,
    });
    let index = index.to_string().into_bytes();
    let listed =
        crate::registry::descriptor(media::INDEX, &content.manifest("app", media::INDEX, &index, None), index.len());
    let tag = format!("sha256-{}", Digest::of(&image).hex());
    let referrers = serde_json::json!({"schemaVersion": 2, "mediaType": media::INDEX, "manifests": [listed]});
    content.manifest("app", media::INDEX, referrers.to_string().as_bytes(), Some(&tag));
    let source = Scripted::honest(content);
    let receiver = Receiver::new(Manners { referrers_api: true, ..Manners::default() });
    let (honest, refused) = (receiver.clone(), Digest::of(&index).to_string());
    let dest = Scripted::start(Content::default(), move |request, _| match request.path.ends_with(&refused) {
        true => Answer { status: 403, ..Answer::default() },
        false => honest.answer(request),
    });
    configure(&dir, &source.endpoint(), &dest.endpoint());
    dir.write("s", "reg.example.com/app:v1");
    let outcome = ace_dt(&dir, &["mirror", "gather", "-q", "-r", "s", "dest.example.com/copy:v1"]);
    outcome.fails(1, &["pushing manifest", "403", "sends only what is missing"]);
    assert!(receiver.manifest("copy", "v1").is_none(), "the tag is there, and something is missing");
}

#[test]
fn a_blob_of_another_size_is_not_taken_for_the_same() {
    let dir = Dir::new();
    let mut content = Content::default();
    content.image("app", "v1", &[noise(1, 1000)]);
    let source = Scripted::honest(content);
    let receiver = Receiver::new(Manners::default());
    let honest = receiver.clone();
    let dest = Scripted::start(Content::default(), move |request, _| match request.method {
        "HEAD" => Answer { status: 200, body: vec![0; 11], ..Answer::default() },
        _ => honest.answer(request),
    });
    configure(&dir, &source.endpoint(), &dest.endpoint());
    dir.write("s", "reg.example.com/app:v1");
    ace_dt(&dir, &["mirror", "gather", "-q", "s", "dest.example.com/copy:v1"]).ok();
    assert_eq!(receiver.blob("copy", &Digest::of(&noise(1, 1000))).unwrap(), noise(1, 1000));
}

/// Whatever a registry says to HEAD, what counts is what it says to the request itself.
#[test]
fn head_that_is_refused_tells_nothing() {
    for status in [400, 403, 404, 405, 501, 200] {
        let dir = Dir::new();
        let mut content = Content::default();
        content.image("app", "v1", &[noise(1, 1000)]);
        let refuse = move |request: &crate::scripted::Request, answer: Answer| {
            let is_blob = request.method == "HEAD" && request.path.contains("/blobs/");
            if is_blob { Answer { status, ..Answer::default() } } else { answer }
        };
        let source = Scripted::start(content, refuse);
        let receiver = Receiver::new(Manners::default());
        let honest = receiver.clone();
        let dest = Scripted::start(Content::default(), move |request, _| refuse(request, honest.answer(request)));
        configure(&dir, &source.endpoint(), &dest.endpoint());
        dir.write("s", "reg.example.com/app:v1");
        ace_dt(&dir, &["mirror", "gather", "-q", "--continue", "s", "dest.example.com/copy:v1"]).ok();
        assert!(receiver.manifest("copy", "v1").is_some(), "HEAD {status}");
    }
}

/// A registry whose chunks misbehave gets the blob again in one request, with one warning.
#[test]
fn chunks_that_are_refused_or_lost_become_one_request() {
    for status in [400, 404, 405, 413, 416, 501] {
        let receiver = Receiver::new(Manners::default());
        let refuse = move |request: &crate::scripted::Request| {
            (request.method == "PATCH").then(|| Answer { status, ..Answer::default() })
        };
        let (outcome, requests) = one_layer(&receiver, refuse, |_, _, _| None, "64Ki");
        assert_eq!(outcome.ok().err.matches("takes no chunks").count(), 1, "{status}");
        is_whole(&receiver);
        assert!(requests.iter().filter(|r| r.starts_with("PATCH ")).count() <= 2, "{status}: {requests:?}");
    }
    // It takes chunks, and says of each that it has no more than the first, or counts from the chunk.
    let receiver = Receiver::new(Manners::default());
    let honest = receiver.clone();
    let stuck = move |request: &crate::scripted::Request| {
        (request.method == "PATCH").then(|| {
            let mut answer = honest.answer(request);
            answer.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("range"));
            answer.headers.push(("Range".into(), "0-65535".into()));
            answer
        })
    };
    let (outcome, _) = one_layer(&receiver, stuck, |_, _, _| None, "64Ki");
    assert_eq!(outcome.ok().err.matches("takes no chunks").count(), 1);
    is_whole(&receiver);
}

/// A registry that refuses chunks as too large, and wants larger ones.
#[test]
fn what_a_registry_wants_of_chunks_may_be_impossible() {
    let receiver = Receiver::new(Manners { least_chunk: 200_000, ..Manners::default() });
    let refuse = |request: &crate::scripted::Request| {
        (request.method == "PATCH").then(|| Answer { status: 413, ..Answer::default() })
    };
    let (outcome, requests) = one_layer(&receiver, refuse, |_, _, _| None, "64Ki");
    outcome.ok();
    is_whole(&receiver);
    assert!(requests.len() < 20, "{requests:?}");
}

/// A proxy in front of a registry takes bodies of 1 MiB and a half.
#[test]
fn chunks_that_are_too_large_are_made_smaller() {
    let dir = Dir::new();
    let mut content = Content::default();
    content.image("app", "v1", &[noise(1, 5 << 20), noise(2, 4 << 20)]);
    let source = Scripted::honest(content);
    let receiver = Receiver::new(Manners::default());
    let honest = receiver.clone();
    let dest = Scripted::start(Content::default(), move |request, _| match request.body.len() > 3 << 19 {
        true => Answer { status: 413, ..Answer::default() },
        false => honest.answer(request),
    });
    configure(&dir, &source.endpoint(), &dest.endpoint());
    dir.write("s", "reg.example.com/app:v1");
    ace_dt(&dir, &["mirror", "gather", "-q", "s", "dest.example.com/copy:v1"]).ok();
    assert!(receiver.manifest("copy", "v1").is_some());
    assert!(dest.requests().iter().any(|request| request.starts_with("PATCH ")));
}

#[test]
fn a_tag_that_may_not_change_is_right_if_it_is_the_same() {
    let dir = Dir::new();
    let mut content = Content::default();
    content.image("app", "v1", &[noise(1, 1000)]);
    content.image("app", "v2", &[noise(2, 1000)]);
    let source = Scripted::honest(content);
    let receiver = Receiver::new(Manners::default());
    let honest = receiver.clone();
    let dest = Scripted::start(Content::default(), move |request, _| {
        let is_tag = request.method == "PUT" && request.path == "/v2/copy/manifests/week";
        match is_tag && honest.manifest("copy", "week").is_some() {
            true => Answer { status: 409, ..Answer::default() },
            false => honest.answer(request),
        }
    });
    configure(&dir, &source.endpoint(), &dest.endpoint());
    dir.write("s", "reg.example.com/app:v1");
    let gather = || ace_dt(&dir, &["mirror", "gather", "-q", "s", "dest.example.com/copy:week"]);
    gather().ok();
    gather().ok();
    dir.write("s", "reg.example.com/app:v2");
    let outcome = gather().fails(1, &["does not change it", "409", "give another tag"]);
    assert!(!outcome.err.contains("same command again"), "{}", outcome.err);
}

#[test]
fn a_mount_that_is_refused_becomes_an_upload() {
    for status in [202, 401, 403, 405] {
        let dir = Dir::new();
        let mut content = Content::default();
        let layer = noise(1, 10_000);
        content.image("app", "v1", std::slice::from_ref(&layer));
        let receiver = Receiver::new(Manners::default());
        let honest = receiver.clone();
        // One registry that holds the source, and takes what is pushed to `copy`.
        let both = Scripted::start(content, move |request, answer| match request.path {
            path if path.starts_with("/v2/app/") => answer,
            path if path.contains("mount=") && status != 202 => Answer { status, ..Answer::default() },
            _ => honest.answer(request),
        });
        configure(&dir, &both.endpoint(), &both.endpoint());
        dir.write("s", "reg.example.com/app:v1");
        ace_dt(&dir, &["mirror", "gather", "-q", "s", "reg.example.com/copy:v1"]).ok();
        assert!(receiver.blob("copy", &Digest::of(&layer)).is_some());
        assert_eq!(receiver.open_sessions(), 0);
        assert!(both.requests().iter().any(|r| r.contains("mount=")));
    }
}

#[test]
fn a_busy_registry_and_one_that_wants_large_chunks() {
    let receiver = Receiver::new(Manners { least_chunk: 200_000, ..Manners::default() });
    let busy = times(2);
    let hook = move |request: &crate::scripted::Request| {
        let answer = Answer { status: 503, headers: vec![("Retry-After".into(), "0".into())], ..Answer::default() };
        (request.method == "PATCH" && busy()).then_some(answer)
    };
    let (outcome, requests) = one_layer(&receiver, hook, |_, _, _| None, "64Ki");
    outcome.ok();
    is_whole(&receiver);
    assert_eq!(requests.iter().filter(|r| r.starts_with("PATCH ")).count(), 2 + 2);
}

#[test]
fn what_a_registry_refuses_is_told_and_left_clean() {
    for (method, status, named) in [
        ("POST", 403, "pushing blob sha256:"),
        ("PATCH", 403, "pushing blob sha256:"),
        ("PUT", 400, "pushing blob sha256:"),
    ] {
        let receiver = Receiver::new(Manners::default());
        let hook = move |request: &crate::scripted::Request| {
            (request.method == method && request.path.contains("/blobs/")).then(|| Answer {
                status,
                body: br#"{"errors":[{"message":"no"}]}"#.to_vec(),
                ..Answer::default()
            })
        };
        let (outcome, requests) = one_layer(&receiver, hook, |_, _, _| None, "64Ki");
        outcome.fails(1, &[named, "dest.example.com/copy", method, &status.to_string(), "(no)"]);
        assert!(receiver.manifest("copy", "v1").is_none());
        // Nothing that failed in earnest was tried again, but what had gone up in chunks.
        assert!(requests.iter().filter(|r| r.starts_with(&format!("{method} "))).count() <= 3, "{requests:?}");
    }
    // A registry that never answers, and one that breaks off for ever.
    let receiver = Receiver::new(Manners::default());
    let cut = |method: &str, _: &str, _: usize| (method == "PATCH").then_some(0);
    let (outcome, _) = one_layer(&receiver, |_| None, cut, "64Ki");
    outcome.fails(1, &["pushing blob sha256:", "given up after 3 tries"]);
}

#[test]
fn a_source_that_is_wrong_is_not_pushed() {
    for (what, word) in [("bits", "digest mismatch"), ("end", "its descriptor says")] {
        let dir = Dir::new();
        let mut content = Content::default();
        let layer = noise(1, 300_000);
        content.image("app", "v1", std::slice::from_ref(&layer));
        let digest = Digest::of(&layer);
        let bad = format!("/v2/app/blobs/{digest}");
        let source = Scripted::start(content, move |request, mut answer| {
            if request.path == bad {
                match what {
                    "bits" => answer.body[200_000] ^= 1,
                    _ => answer.body.truncate(200_000),
                }
            }
            answer
        });
        let receiver = Receiver::new(Manners::default());
        let dest = Scripted::start(Content::default(), receiver.hook());
        configure(&dir, &source.endpoint(), &dest.endpoint());
        dir.write("s", "reg.example.com/app:v1");
        for chunk in ["0", "64Ki"] {
            let words = ["mirror", "gather", "-q", "s", "dest.example.com/copy:v1"];
            let outcome = finish(tool(&dir, &words).env("ACE_DT_CHUNK_SIZE", chunk).spawn().unwrap());
            outcome.fails(1, &["pushing blob sha256:", word]);
        }
        assert!(receiver.blob("copy", &digest).is_none() && receiver.manifest("copy", "v1").is_none());
    }
}

#[test]
fn no_secret_goes_where_an_upload_is_sent_elsewhere() {
    let dir = Dir::new();
    let mut content = Content::default();
    content.image("app", "v1", &[noise(1, 1000)]);
    let source = Scripted::honest(content);
    let receiver = Receiver::new(Manners::default());
    let (at_storage, heard) = (receiver.clone(), Arc::new(AtomicUsize::new(0)));
    let noted = heard.clone();
    let storage = Scripted::start(Content::default(), move |request, _| {
        noted.fetch_add(usize::from(request.headers.contains_key("authorization")), Ordering::SeqCst);
        at_storage.answer(request)
    });
    let (honest, elsewhere) = (receiver.clone(), storage.endpoint());
    let dest = Scripted::start(Content::default(), move |request, _| {
        if !request.headers.contains_key("authorization") {
            let challenge = ("WWW-Authenticate".into(), "Basic realm=x".into());
            return Answer { status: 401, headers: vec![challenge], ..Answer::default() };
        }
        let mut answer = honest.answer(request);
        for (name, value) in &mut answer.headers {
            if name == "Location" {
                *value = format!("{elsewhere}{value}&sig=s1gnature");
            }
        }
        answer
    });
    configure(&dir, &source.endpoint(), &dest.endpoint());
    dir.write(".docker/config.json", r#"{"auths":{"dest.example.com":{"username":"alice","password":"s3cret"}}}"#);
    dir.write("s", "reg.example.com/app:v1");
    let outcome = ace_dt(&dir, &["mirror", "gather", "-v", "debug", "s", "dest.example.com/copy:v1"]).ok();
    assert!(!storage.requests().is_empty() && receiver.manifest("copy", "v1").is_some());
    assert_eq!(heard.load(Ordering::SeqCst), 0, "credentials went elsewhere");
    assert!(!outcome.err.contains("s1gnature"), "{}", outcome.err);
}

#[test]
fn only_the_referrers_that_are_wanted() {
    let dir = Dir::new();
    let source = Scripted::honest(Content::golden());
    configure(&dir, &source.endpoint(), "http://127.0.0.1:9");
    fs::copy(golden().join("sources.list"), dir.join("s")).unwrap();
    let count = |types: &str| {
        let words = ["mirror", "archive", "-q", "--force", "-r", "s", "out.tar", "--referrer-types", types];
        ace_dt(&dir, &words).ok();
        String::from_utf8(peer(&dir, "tar", &["-tf", "out.tar"])).unwrap().lines().count()
    };
    let (all, _) = archived(&dir, "s");
    let none = count("application/none");
    let with: Vec<usize> = types(&dir).iter().map(|t| count(t)).collect();
    assert!(!with.is_empty() && with.iter().all(|n| *n > none), "{none}: {with:?}");
    assert!(all.len() > none - 4);
}

/// The artifact types of the golden referrers.
fn types(dir: &Dir) -> Vec<String> {
    let mut types = Vec::new();
    peer(dir, "mkdir", &["-p", "unpacked"]);
    peer(dir, "tar", &["-xf", "check.tar", "-C", "unpacked"]);
    for entry in fs::read_dir(dir.join("unpacked/blobs/sha256")).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        let Ok(manifest) = Manifest::parse(media::MANIFEST, &bytes) else { continue };
        if manifest.subject.is_some() && !manifest.artifact_type.is_empty() {
            types.push(manifest.artifact_type);
        }
    }
    types.sort();
    types.dedup();
    types
}
