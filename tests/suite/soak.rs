//! What passes is borne: broken lines, busy registries. `make soak` is the long run.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    dealer::{self, Dealer},
    receiver::{Manners, Receiver},
    registry::configure,
    scripted::{Answer, Content, Request, Scripted},
    util::{Dir, ace_dt, noise},
};

const IMAGE: &str = "reg.example.com/app:v1";

fn content() -> Content {
    let mut content = Content::default();
    let layers: Vec<Vec<u8>> = (0..12).map(|n| noise(n + 1, 1000 + 30_000 * n as usize)).collect();
    content.image("app", "v1", &layers);
    content.image("big", "v1", &[noise(99, 3 << 20)]);
    content
}

fn archive(dir: &Dir, words: &[&str]) -> crate::util::Outcome {
    let all = ["mirror", "archive", "-q", "--force", "sources.list", "out.tar", "--http-timeout", "150ms"];
    ace_dt(dir, &[&all[..], words].concat())
}

#[test]
fn a_body_that_breaks_is_taken_up_where_it_broke() {
    for ranges in [true, false] {
        let cuts = Arc::new(AtomicUsize::new(0));
        let seen = cuts.clone();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = asked.clone();
        let scripted = Scripted::start(content(), move |request, mut answer| {
            if request.path.contains("/big/blobs/") && answer.body.len() > 1000 {
                let range = request.headers.get("range").cloned();
                noted.lock().unwrap().push(range.clone());
                if !ranges && range.is_some() {
                    answer = Answer { status: 200, headers: vec![], body: noise(99, 3 << 20), ..Answer::default() };
                }
                // Each answer brings a MiB more than the last, then the line breaks.
                let reach = if ranges { 1 << 20 } else { (1 + seen.load(Ordering::SeqCst)) << 20 };
                if answer.body.len() > reach {
                    seen.fetch_add(1, Ordering::SeqCst);
                    answer.announced = Some(answer.body.len());
                    answer.body.truncate(reach);
                    answer.close = true;
                }
            }
            answer
        });
        let dir = Dir::new();
        configure(&dir, &scripted.endpoint(), 4);
        dir.write("sources.list", "reg.example.com/big:v1");
        let outcome = archive(&dir, &[]).ok();
        assert!(
            outcome.err.contains("at byte 1048576 of 3145728") && outcome.err.contains("trying again"),
            "{}",
            outcome.err
        );
        assert_eq!(cuts.load(Ordering::SeqCst), 2);
        let asked = asked.lock().unwrap();
        assert_eq!(*asked, [None, Some("bytes=1048576-".into()), Some("bytes=2097152-".into())]);
    }
}

#[test]
fn content_that_changes_meanwhile_is_found_out() {
    let scripted = Scripted::start(content(), move |request, mut answer| {
        if request.path.contains("/big/blobs/") && answer.body.len() > 1000 {
            if request.headers.contains_key("range") {
                answer.body.iter_mut().for_each(|b| *b ^= 0xFF);
            } else {
                answer.announced = Some(answer.body.len());
                answer.body.truncate(1 << 20);
                answer.close = true;
            }
        }
        answer
    });
    let dir = Dir::new();
    configure(&dir, &scripted.endpoint(), 4);
    dir.write("sources.list", "reg.example.com/big:v1");
    archive(&dir, &["-m", "1Mi", "-b", "4Ki"]).fails(1, &["digest mismatch"]);
}

#[test]
fn a_busy_registry_is_asked_again_when_it_says() {
    let busy = AtomicUsize::new(2);
    let scripted = Scripted::start(content(), move |_, answer| {
        if busy.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok() {
            return Answer { status: 429, headers: vec![("Retry-After".into(), "1".into())], ..Answer::default() };
        }
        answer
    });
    let dir = Dir::new();
    configure(&dir, &scripted.endpoint(), 4);
    dir.write("sources.list", IMAGE);
    let begun = Instant::now();
    let outcome = archive(&dir, &[]).ok();
    assert!(begun.elapsed() >= Duration::from_secs(2), "it came back too early");
    assert!(outcome.err.contains("429") && outcome.err.contains("trying again in 1.0 s"), "{}", outcome.err);
    // What will not change is not tried again.
    dir.write("sources.list", "reg.example.com/none:v1");
    archive(&dir, &[]).fails(1, &["404"]);
    assert_eq!(scripted.requests().iter().filter(|r| r.contains("/none/")).count(), 1);
}

#[test]
fn patience_ends() {
    let scripted = Scripted::start(content(), |_, _| Answer { status: 503, ..Answer::default() });
    let dir = Dir::new();
    configure(&dir, &scripted.endpoint(), 4);
    dir.write("sources.list", IMAGE);
    archive(&dir, &["--retries", "2"]).fails(1, &["503", "given up after 3 tries"]);
    assert_eq!(scripted.requests().len(), 3);
    archive(&dir, &["--retries", "0"]).fails(1, &["503"]);
    assert_eq!(scripted.requests().len(), 4);
}

/// Faults come by chance, a few for each path, so that every run has an end.
struct Faults {
    content: Content,
    seed: AtomicU64,
    left: Mutex<HashMap<String, u32>>,
    dealt: [AtomicUsize; KINDS],
}

const KINDS: usize = 9;
const NAMES: [&str; KINDS] = [
    "cut bodies",
    "resets before headers",
    "resets after headers",
    "stalls",
    "429",
    "503",
    "lengths too short",
    "wrong bytes",
    "ignored ranges",
];
/// A run that meets one of these may be refused.
const WRONG: [usize; 2] = [6, 7];

impl Faults {
    fn deal(&self, request: &Request, mut answer: Answer) -> Answer {
        let random = noise(self.seed.fetch_add(1, Ordering::SeqCst), 16);
        let ranged = request.headers.contains_key("range");
        let mut left = self.left.lock().unwrap();
        let left = left.entry(request.path.into()).or_insert(3);
        if random[0] > 90 || *left == 0 || answer.body.is_empty() {
            return answer;
        }
        *left -= 1;
        let kind = match usize::from(random[1]) % 64 {
            n if n < 1 => 6,
            n if n < 2 => 7,
            n => [0, 1, 2, 3, 4, 5, 8][n % 7],
        };
        if kind == 8 && !ranged {
            return answer;
        }
        self.dealt[kind].fetch_add(1, Ordering::SeqCst);
        let cut = (usize::from(random[2]) << 8 | usize::from(random[3])) % answer.body.len();
        let whole = answer.body.len();
        match kind {
            0 => {
                answer.announced = Some(whole);
                answer.body.truncate(cut);
                answer.close = true;
            }
            1 => answer.reset = true,
            2 => {
                answer.announced = Some(whole);
                answer.body.clear();
                answer.close = true;
            }
            3 => {
                answer.announced = Some(whole);
                answer.body.truncate(cut);
                answer.hold = Duration::from_millis(400);
                answer.close = true;
            }
            4 => return Answer { status: 429, headers: vec![("Retry-After".into(), "0".into())], ..Answer::default() },
            5 => return Answer { status: 503, ..Answer::default() },
            6 => answer.body.truncate(cut),
            7 => answer.body[cut] ^= 1,
            _ => {
                answer.status = 200;
                answer.headers.clear();
                answer.body = self.content.body(request.path).unwrap().to_vec();
            }
        }
        answer
    }
}

#[test]
#[ignore = "long: make soak"]
fn soak_through_faults() {
    const RUNS: usize = 200;
    let dir = Dir::new();
    dir.write("sources.list", "reg.example.com/app:v1\nreg.example.com/big:v1");
    let honest = Scripted::honest(content());
    configure(&dir, &honest.endpoint(), 8);
    archive(&dir, &[]).ok();
    let golden = dir.read("out.tar");
    drop(honest);
    let (mut identical, mut refused, mut slowest) = (0, 0, Duration::ZERO);
    let mut total = [0; KINDS];
    for run in 0..RUNS {
        let faults = Arc::new(Faults {
            content: content(),
            seed: AtomicU64::new(run as u64 * 1_000_003 + 1),
            left: Mutex::default(),
            dealt: Default::default(),
        });
        let dealer = faults.clone();
        let scripted = Scripted::start(content(), move |request, answer| dealer.deal(request, answer));
        configure(&dir, &scripted.endpoint(), 8);
        let begun = Instant::now();
        let buffer = ["0", "1Mi", "64Mi"][run % 3];
        let outcome = archive(&dir, &["-m", buffer, "-b", "4Ki", "--retries", "8"]);
        slowest = slowest.max(begun.elapsed());
        drop(scripted);
        let dealt: Vec<usize> = faults.dealt.iter().map(|n| n.load(Ordering::SeqCst)).collect();
        dealt.iter().zip(&mut total).for_each(|(n, total)| *total += n);
        if outcome.status == 0 {
            assert!(dir.read("out.tar") == golden, "run {run}: another archive, and nobody said so");
            identical += 1;
        } else {
            assert!(
                WRONG.iter().any(|&kind| dealt[kind] > 0),
                "run {run}: refused though no bytes were wrong: {}",
                outcome.err
            );
            let words =
                ["digest mismatch", "it ended after", "its descriptor says", "is not a manifest", "is no manifest"];
            assert!(words.iter().any(|w| outcome.err.contains(w)), "run {run}: {}", outcome.err);
            refused += 1;
        }
    }
    let dealt: Vec<String> = NAMES.iter().zip(total).map(|(name, n)| format!("{n} {name}")).collect();
    println!(
        "{RUNS} archives: {identical} identical, {refused} refused where bytes were wrong, slowest {:.1} s",
        slowest.as_secs_f64()
    );
    println!("faults: {}", dealt.join(", "));
    assert!(identical > RUNS / 2 && total.iter().all(|n| *n > 0));
}

#[test]
#[ignore = "long: make soak"]
fn soak_uploads_through_faults() {
    const RUNS: u64 = 100;
    let dir = Dir::new();
    dir.write("sources.list", "reg.example.com/app:v1\nreg.example.com/big:v1");
    let source = Scripted::honest(content());
    let (mut total, mut slowest) = ([0; dealer::NAMES.len()], Duration::ZERO);
    for run in 0..RUNS {
        let receiver = Receiver::new(Manners { forgetful: run % 4 == 3, ..Manners::default() });
        let faults = Dealer::new(run, 20, 20);
        let dest = faults.registry(&receiver, |_| None);
        dir.write(
            "ace-dt-config.yaml",
            format!(
                "concurrentHTTP: 8\nchunkSize: {}\nregistryConfig:\n  registries:\n    reg.example.com: {{endpoints: [\"{}\"]}}\n    \
                dest.example.com: {{endpoints: [\"{}\"]}}\n",
                ["0", "50k", "1Mi"][run as usize % 3],
                source.endpoint(),
                dest.endpoint()
            ),
        );
        let begun = Instant::now();
        let words = ["mirror", "gather", "-q", "--http-timeout", "150ms", "--retries", "30", "sources.list"];
        let outcome = ace_dt(&dir, &[&words[..], &["dest.example.com/copy:v1"]].concat()).ok();
        slowest = slowest.max(begun.elapsed());
        let root = outcome.text().trim().rsplit_once('@').unwrap().1.to_string();
        assert_eq!(receiver.missing_below("copy", &root), Vec::<String>::new(), "run {run}");
        faults.dealt().iter().zip(&mut total).for_each(|(n, total)| *total += n);
    }
    let dealt = dealer::in_words(&total);
    println!("{RUNS} gathers, all whole, slowest {:.1} s; faults: {dealt}", slowest.as_secs_f64());
    assert!(total.iter().all(|n| *n > 0));
}

#[test]
#[ignore = "long: make soak"]
fn soak_deliveries_through_faults() {
    const RUNS: u64 = 200;
    let too_large = Arc::new(AtomicUsize::new(0));
    let dir = Dir::new();
    let source = Scripted::honest(content());
    configure(&dir, &source.endpoint(), 8);
    dir.write("sources.list", "reg.example.com/app:v1\nreg.example.com/big:v1");
    archive(&dir, &[]).ok();
    let bytes = dir.read("out.tar");
    let (mut total, mut slowest) = ([0; dealer::NAMES.len()], Duration::ZERO);
    for run in 0..RUNS {
        let receiver = Receiver::new(Manners { forgetful: run % 4 == 3, ..Manners::default() });
        let (faults, refused) = (Dealer::new(run, 12, 15), too_large.clone());
        // A proxy that takes no large bodies: but what is sent in chunks may be smaller.
        let dest = faults.registry(&receiver, move |request| {
            let is_large = request.method == "PATCH" && request.body.len() > 2 << 20;
            is_large.then(|| {
                refused.fetch_add(1, Ordering::SeqCst);
                Answer { status: 413, ..Answer::default() }
            })
        });
        dir.write(
            "ace-dt-config.yaml",
            format!(
                "concurrentHTTP: 8\nchunkSize: {}\nregistryConfig:\n  registries:\n    \
                dest.example.com: {{endpoints: [\"{}\"]}}\n",
                ["0", "50k", "2500k"][run as usize % 3],
                dest.endpoint()
            ),
        );
        let begun = Instant::now();
        let words = ["mirror", "deserialize", "-q", "--http-timeout", "150ms", "--retries", "30"];
        let outcome = match run % 2 {
            0 => ace_dt(&dir, &[&words[..], &["out.tar", "dest.example.com/copy:v1"]].concat()),
            // Out of a buffer that holds the largest blob.
            _ => crate::util::ace_dt_with(
                &dir,
                &[&words[..], &["-m", "8Mi", "-", "dest.example.com/copy:v1"]].concat(),
                &bytes,
            ),
        };
        assert_eq!(outcome.status, 0, "run {run}: {}", outcome.err);
        slowest = slowest.max(begun.elapsed());
        assert_eq!(receiver.missing_below("copy", "v1"), Vec::<String>::new(), "run {run}");
        faults.dealt().iter().zip(&mut total).for_each(|(n, total)| *total += n);
    }
    let large = too_large.load(Ordering::SeqCst);
    let (slowest, dealt) = (slowest.as_secs_f64(), dealer::in_words(&total));
    println!("{RUNS} deliveries, all whole, slowest {slowest:.1} s; faults: {dealt}, {large} 413");
    assert!(total.iter().all(|n| *n > 0) && large > 0);
}
