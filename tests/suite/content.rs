//! Every kind of content that a registry may hold, and how its references may be written.

use std::{net::TcpListener, sync::Arc};

use ace_dt::oci::Digest;
use serde_json::{Value, json};

use crate::{
    receiver::{Manners, Receiver},
    registry::{CONFIG, LAYER, MANIFEST, configure, descriptor},
    scripted::{Answer, Content, Scripted},
    util::{Dir, ace_dt, noise, peer},
};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

fn sha512(bytes: &[u8]) -> Digest {
    let any: Digest = format!("sha512:{}", "0".repeat(128)).parse().unwrap();
    let mut hasher = any.hasher();
    hasher.update(bytes);
    hasher.finish()
}

/// Archives and gathers `reg.example.com/app:v1`; the digests of both must be these, with the root.
fn carried(source: &Scripted, digests: &[Digest]) {
    let dir = Dir::new();
    let receiver = Receiver::new(Manners { referrers_api: true, ..Manners::default() });
    let dest = Scripted::start(Content::default(), receiver.hook());
    dir.write(
        "ace-dt-config.yaml",
        format!(
            "registryConfig:\n  registries:\n    reg.example.com: {{endpoints: [\"{}\"]}}\n    \
            dest.example.com: {{endpoints: [\"{}\"]}}\n",
            source.endpoint(),
            dest.endpoint()
        ),
    );
    dir.write("s", "reg.example.com/app:v1");
    ace_dt(&dir, &["mirror", "archive", "-q", "s", "out.tar"]).ok();
    let listing = String::from_utf8(peer(&dir, "tar", &["-tf", "out.tar"])).unwrap();
    let outcome = ace_dt(&dir, &["mirror", "gather", "-q", "s", "dest.example.com/copy:v1"]).ok();
    let root = outcome.text().trim().rsplit_once('@').unwrap().1.to_string();
    assert_eq!(receiver.missing_below("copy", &root), Vec::<String>::new());
    for digest in digests {
        let there = receiver.blob("copy", digest).is_some() || receiver.manifest("copy", &digest.to_string()).is_some();
        assert!(there, "{digest} was not pushed");
        assert!(listing.contains(&digest.path()), "{digest} is not in the archive");
    }
}

#[test]
fn sha512_inline_data_and_content_that_is_empty() {
    let mut content = Content::default();
    let layer = noise(1, 5000);
    let long = sha512(&layer);
    content.put(&format!("/v2/app/blobs/{long}"), "application/octet-stream", &layer);
    let nothing = content.blob("app", b"");
    // The configuration is nowhere but in its descriptor.
    let inline = Digest::of(b"{}");
    let mut config = descriptor(EMPTY, &inline, 2);
    config["data"] = "e30=".into();
    let layers = [descriptor(LAYER, &long, layer.len()), descriptor(LAYER, &nothing, 0)];
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
    let manifest = manifest.to_string().into_bytes();
    let digest = content.manifest("app", MANIFEST, &manifest, Some("v1"));
    carried(&Scripted::honest(content), &[long, nothing, inline, digest]);
}

#[test]
fn nested_indexes_attestations_and_artifacts_without_layers() {
    let mut content = Content::default();
    let empty = content.blob("app", b"{}");
    let artifact = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/x", "config": descriptor(EMPTY, &empty, 2),
        "layers": [],
    });
    let artifact = artifact.to_string().into_bytes();
    let artifact_digest = content.manifest("app", MANIFEST, &artifact, None);
    let statement = content.blob("app", br#"{"_type":"statement"}"#);
    let attestation = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(CONFIG, &empty, 2),
        "layers": [descriptor("application/vnd.in-toto+json", &statement, 21)],
    });
    let attestation = attestation.to_string().into_bytes();
    let attestation_digest = content.manifest("app", MANIFEST, &attestation, None);
    let mut listed = descriptor(MANIFEST, &attestation_digest, attestation.len());
    listed["platform"] = json!({"architecture": "unknown", "os": "unknown"});
    listed["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
    let index = |manifests: &[Value]| {
        json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}).to_string().into_bytes()
    };
    let inner = index(&[descriptor(MANIFEST, &artifact_digest, artifact.len()), listed]);
    let inner_digest = content.manifest("app", INDEX, &inner, None);
    let outer = index(&[descriptor(INDEX, &inner_digest, inner.len())]);
    let outer_digest = content.manifest("app", INDEX, &outer, Some("v1"));
    let all = [empty, artifact_digest, statement, attestation_digest, inner_digest, outer_digest];
    carried(&Scripted::honest(content), &all);
}

#[test]
fn a_foreign_layer_is_fetched_from_its_urls() {
    let layer = noise(1, 5000);
    let mut elsewhere = Content::default();
    elsewhere.put("/files/layer", "application/octet-stream", &layer);
    let elsewhere = Scripted::honest(elsewhere);
    let mut content = Content::default();
    let config = content.blob("app", b"{}");
    let mut foreign = descriptor(LAYER, &Digest::of(&layer), layer.len());
    foreign["urls"] =
        json!([format!("{}/none", elsewhere.endpoint()), format!("{}/files/layer", elsewhere.endpoint())]);
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(CONFIG, &config, 2), "layers": [foreign],
    });
    content.manifest("app", MANIFEST, manifest.to_string().as_bytes(), Some("v1"));
    carried(&Scripted::honest(content), &[Digest::of(&layer)]);
}

#[test]
fn schema_1_is_refused() {
    let mut content = Content::default();
    let media_type = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    content.put("/v2/app/manifests/v1", media_type, br#"{"schemaVersion":1,"fsLayers":[]}"#);
    let source = Scripted::honest(content);
    let dir = Dir::new();
    configure(&dir, &source.endpoint(), 4);
    dir.write("s", "reg.example.com/app:v1");
    ace_dt(&dir, &["mirror", "archive", "-q", "s", "out.tar"]).fails(1, &["reg.example.com/app:v1", "schema 1"]);
}

#[test]
fn referrers_come_in_pages_and_are_filtered() {
    let mut content = Content::default();
    content.image("app", "v1", &[noise(1, 1000)]);
    let image = content.body("/v2/app/manifests/v1").unwrap().to_vec();
    let subject = descriptor(MANIFEST, &Digest::of(&image), image.len());
    let empty = content.blob("app", b"{}");
    let mut referrers = Vec::new();
    for n in 0..6 {
        let kind = format!("application/kind-{}", n % 2);
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": kind, "config": descriptor(EMPTY, &empty, 2),
            "layers": [], "subject": subject, "annotations": {"n": n.to_string()},
        });
        let bytes = manifest.to_string().into_bytes();
        let mut listed = descriptor(MANIFEST, &content.manifest("app", MANIFEST, &bytes, None), bytes.len());
        listed["artifactType"] = kind.into();
        referrers.push(listed);
    }
    let listed = referrers.clone();
    let path = format!("/v2/app/referrers/{}", Digest::of(&image));
    // Two a page; this registry does not filter, and the page after the last is a relative link.
    let source = Scripted::start(content, move |request, answer| {
        let Some(query) = request.path.strip_prefix(path.as_str()) else { return answer };
        let page: usize = query.split("page=").nth(1).map_or(0, |n| n.parse().unwrap());
        let part: Vec<&Value> = listed.iter().skip(2 * page).take(2).collect();
        let body = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": part}).to_string().into_bytes();
        let next = match page {
            0 => Some(format!("<{path}?page=1>; rel=\"next\"")),
            1 => Some("<?page=2>; rel=\"next\"".to_string()),
            _ => None,
        };
        let headers = next.map(|link| ("Link".to_string(), link)).into_iter().collect();
        Answer { status: 200, headers, body, ..Answer::default() }
    });
    let dir = Dir::new();
    configure(&dir, &source.endpoint(), 4);
    dir.write("s", "reg.example.com/app:v1");
    let found = |words: &[&str]| {
        ace_dt(&dir, &[&["mirror", "archive", "-q", "--force", "-r", "s", "out.tar"], words].concat()).ok();
        let listing = String::from_utf8(peer(&dir, "tar", &["-tf", "out.tar"])).unwrap();
        let path = |d: &Value| d["digest"].as_str().unwrap().parse::<Digest>().unwrap().path();
        let found = referrers.iter().enumerate().filter(|(_, d)| listing.contains(&path(d)));
        found.map(|(n, _)| n).collect::<Vec<_>>()
    };
    assert_eq!(found(&[]), [0, 1, 2, 3, 4, 5]);
    assert_eq!(found(&["--referrer-types", "application/kind-1"]), [1, 3, 5]);
    assert_eq!(found(&["--referrer-types", "application/kind-1,application/kind-0"]), [0, 1, 2, 3, 4, 5]);
    let asked = source.requests();
    assert!(asked.iter().any(|r| r.ends_with("?artifactType=application/kind-1")), "{asked:?}");
}

#[test]
fn a_subject_of_sha512_and_a_repository_without_the_api() {
    let mut content = Content::default();
    let empty = content.blob("b", b"{}");
    let image = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(EMPTY, &empty, 2), "layers": [],
    });
    let image = image.to_string().into_bytes();
    let long = sha512(&image);
    content.put(&format!("/v2/b/manifests/{long}"), MANIFEST, &image);
    content.put("/v2/a/manifests/v1", MANIFEST, &image);
    content.blob("a", b"{}");
    let referrer = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/x", "config": descriptor(EMPTY, &empty, 2),
        "layers": [], "subject": descriptor(MANIFEST, &long, image.len()),
    });
    let referrer = referrer.to_string().into_bytes();
    let digest = content.manifest("b", MANIFEST, &referrer, None);
    let index =
        json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor(MANIFEST, &digest, referrer.len())]});
    let index = index.to_string().into_bytes();
    // Repository a has no API; b has one for all but what it lists by tag.
    content.put(&format!("/v2/b/manifests/sha512-{}", &long.hex()[..64]), INDEX, &index);
    let source = Scripted::honest(content);
    let dir = Dir::new();
    configure(&dir, &source.endpoint(), 1);
    dir.write("s", format!("reg.example.com/a:v1\nreg.example.com/b@{long}"));
    ace_dt(&dir, &["mirror", "archive", "-q", "-r", "s", "out.tar"]).ok();
    let listing = String::from_utf8(peer(&dir, "tar", &["-tf", "out.tar"])).unwrap();
    assert!(listing.contains(&digest.path()), "the signature is lost");
    for repository in ["a", "b"] {
        let asked = format!("GET /v2/{repository}/referrers/");
        assert_eq!(source.requests().iter().filter(|r| r.starts_with(&asked)).count(), 1, "{repository} was not asked");
    }
}

#[test]
fn addresses_of_version_6_and_references_with_tag_and_digest() {
    let Ok(listener) = TcpListener::bind(("::1", 0)) else {
        return eprintln!("skipped: this machine has no IPv6");
    };
    let port = listener.local_addr().unwrap().port();
    let mut content = Content::default();
    content.image("app", "v1", &[noise(1, 1000)]);
    let digest = Digest::of(content.body("/v2/app/manifests/v1").unwrap());
    let source = Arc::new(Scripted::honest(content));
    crate::tls::pass_on(listener, source.port);
    let dir = Dir::new();
    let name = format!("[::1]:{port}/app:v1@{digest}");
    // No endpoint is configured: on this machine HTTP is tried after HTTPS.
    dir.write("s", &name);
    let outcome = ace_dt(&dir, &["mirror", "archive", "-q", "-v", "debug", "s", "out.tar"]).ok();
    assert!(
        outcome.err.contains(&format!("GET http://[::1]:{port}/v2/app/manifests/{digest}: 200")),
        "{}",
        outcome.err
    );
    let index = String::from_utf8(peer(&dir, "tar", &["-xOf", "out.tar", "index.json"])).unwrap();
    assert!(index.contains(&name));
}
