//! `--cache`: a layout that other tools read, that survives whatever happens to a run.

use std::{fs, path::Path, thread, time::Duration};

use ace_dt::oci::{Digest, Manifest, media};

use crate::{
    registry::{configure, golden},
    scripted::{Content, Scripted},
    util::{Dir, ace_dt, finish, noise, peer, tool},
};

const ARCHIVE: [&str; 8] = ["mirror", "archive", "-q", "--force", "--cache", "cache", "s", "out.tar"];

/// Asserts that all that stands in the layout is what its name says, and that every manifest has all
/// that it refers to; how many blobs there are.
fn is_whole(dir: &Path) -> usize {
    let mut count = 0;
    let blobs = dir.join("blobs/sha256");
    for entry in fs::read_dir(&blobs).into_iter().flatten() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap().to_string();
        assert_eq!(Digest::of(&bytes).hex(), name);
        count += 1;
        let Ok(manifest) = serde_json::from_slice::<Manifest>(&bytes) else { continue };
        if media::is_manifest(&manifest.media_type) {
            for below in manifest.successors().unwrap() {
                assert!(blobs.join(below.digest.hex()).exists(), "{name} lacks {}", below.digest);
            }
        }
    }
    count
}

#[test]
fn what_is_kept_is_not_fetched_again_and_others_read_it() {
    let registry = Scripted::honest(Content::golden());
    let dir = Dir::new();
    configure(&dir, &registry.endpoint(), 8);
    fs::copy(golden().join("sources.list"), dir.join("s")).unwrap();
    ace_dt(&dir, &ARCHIVE).ok();
    let (first, fetched) = (dir.read("out.tar"), registry.requests().len());
    assert!(is_whole(&dir.join("cache")) > 30);
    assert_eq!(fs::read_dir(dir.join("cache/.unfinished")).unwrap().count(), 0);
    ace_dt(&dir, &ARCHIVE).ok();
    assert!(dir.read("out.tar") == first);
    let again = registry.requests().split_off(fetched);
    // Only where the references point to is asked again.
    assert_eq!(again.len(), 7, "{again:?}");
    let name = "oci:cache:reg.example.com/gold/library/alpha:v1";
    let words = ["--insecure-policy", "--tmpdir", ".", "--override-arch", "amd64", "copy", "-q", name, "dir:copied"];
    peer(&dir, "skopeo", &words);
    // It is a source like any other.
    drop(registry);
    dir.write("from-cache", format!("{name}\n"));
    ace_dt(&dir, &["mirror", "archive", "-q", "from-cache", "alpha.tar"]).ok();
}

#[test]
fn what_has_changed_is_fetched_again() {
    let mut content = Content::default();
    let layers: Vec<Vec<u8>> = (0..4).map(|n| noise(n + 1, 3_000_000)).collect();
    content.image("app", "v1", &layers);
    let registry = Scripted::honest(content);
    let dir = Dir::new();
    configure(&dir, &registry.endpoint(), 4);
    dir.write("s", "reg.example.com/app:v1");
    ace_dt(&dir, &ARCHIVE).ok();
    let first = dir.read("out.tar");
    let path = |n: usize| dir.join("cache").join(Digest::of(&layers[n]).path());
    let mut turned = layers[0].clone();
    turned[2_000_000] ^= 1;
    fs::write(path(0), turned).unwrap();
    fs::write(path(1), &layers[1][..1000]).unwrap();
    fs::remove_file(path(2)).unwrap();
    let before = registry.requests().len();
    let outcome = ace_dt(&dir, &[&ARCHIVE[..], &["-m", "64Mi"]].concat()).ok();
    assert!(outcome.err.contains("holds something else"), "{}", outcome.err);
    assert!(dir.read("out.tar") == first);
    let again = registry.requests().split_off(before);
    assert_eq!(again.iter().filter(|r| r.contains("/blobs/")).count(), 3, "{again:?}");
    is_whole(&dir.join("cache"));
    // A cache that cannot be written is told, and the run goes on.
    fs::remove_dir_all(dir.join("cache/blobs")).unwrap();
    dir.write("cache/blobs", "in the way");
    let outcome = ace_dt(&dir, &ARCHIVE).ok();
    assert!(outcome.err.contains("cannot keep everything"), "{}", outcome.err);
    assert!(dir.read("out.tar") == first);
}

#[test]
fn two_runs_at_once_and_kills_at_any_moment() {
    let registry = Scripted::start(Content::golden(), |_, mut answer| {
        answer.delay = Duration::from_millis(3);
        answer
    });
    let dir = Dir::new();
    configure(&dir, &registry.endpoint(), 4);
    fs::copy(golden().join("sources.list"), dir.join("s")).unwrap();
    for n in 0..15 {
        let mut killed = tool(&dir, &ARCHIVE).spawn().unwrap();
        let other = ["mirror", "archive", "-q", "--force", "--cache", "cache", "s", "other.tar"];
        let other = (n % 3 == 0).then(|| tool(&dir, &other).spawn().unwrap());
        thread::sleep(Duration::from_millis(7 * n));
        killed.kill().unwrap();
        killed.wait().unwrap();
        is_whole(&dir.join("cache"));
        other.into_iter().for_each(|child| drop(finish(child).ok()));
        if n % 5 == 4 {
            fs::remove_dir_all(dir.join("cache/blobs")).unwrap();
        }
    }
    let (a, b) = (tool(&dir, &ARCHIVE).spawn().unwrap(), {
        let other = ["mirror", "archive", "-q", "--force", "--cache", "cache", "s", "other.tar"];
        tool(&dir, &other).spawn().unwrap()
    });
    finish(a).ok();
    finish(b).ok();
    assert!(dir.read("out.tar") == dir.read("other.tar"));
    assert!(is_whole(&dir.join("cache")) > 30);
}

#[test]
fn pruning_leaves_whole_images() {
    let mut content = Content::default();
    for n in 0..6 {
        content.image(&format!("app{n}"), "v1", &[noise(n, 100_000), noise(99, 50_000)]);
    }
    let registry = Scripted::honest(content);
    let dir = Dir::new();
    configure(&dir, &registry.endpoint(), 4);
    for n in 0..6 {
        dir.write("s", format!("reg.example.com/app{n}:v1"));
        ace_dt(&dir, &ARCHIVE).ok();
        thread::sleep(Duration::from_millis(20));
    }
    dir.write("cache/.unfinished/1-1", noise(1, 1000));
    let prune = |max: &str| {
        let words = ["util", "prune", "--cache", "cache"];
        finish(tool(&dir, &words).env("ACE_DT_CACHE_PRUNE_MAX", max).spawn().unwrap())
    };
    let files = is_whole(&dir.join("cache"));
    let outcome = prune("500Mi").ok();
    assert!(outcome.err.contains("removed 1 files"), "{}", outcome.err);
    assert_eq!(is_whole(&dir.join("cache")), files);
    // The configuration and the layer of all are older than the other layers, but were used since.
    let outcome = prune("400000").ok();
    let left = is_whole(&dir.join("cache"));
    assert!(left < files && left > 3, "{}", outcome.err);
    let index = dir.text("cache/index.json");
    assert!(index.contains("app5:v1") && !index.contains("app0:v1"), "{index}");
    prune("0").ok();
    assert_eq!(is_whole(&dir.join("cache")), 0);
    // Not while somebody uses it.
    let slow = Scripted::start(Content::default(), |_, mut answer| {
        answer.delay = Duration::from_secs(60);
        answer
    });
    configure(&dir, &slow.endpoint(), 4);
    let mut user = tool(&dir, &ARCHIVE).spawn().unwrap();
    crate::util::wait_for("the run to ask", || !slow.requests().is_empty());
    prune("0").fails(1, &["pruning the cache \"cache\"", "another run is using it"]);
    user.kill().unwrap();
    user.wait().unwrap();
    ace_dt(&dir, &["util", "prune"]).fails(2, &["which cache?"]);
    ace_dt(&dir, &["util", "prune", "--cache", "none"]).fails(1, &["no OCI image layout"]);
}
