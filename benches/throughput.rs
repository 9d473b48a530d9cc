//! `make bench-archive`: ratios within one run, against other programs on the same machine.
//!
//! Programs take turns, and what is compared is the median. Nothing here is a test: a figure that
//! disappoints is printed like any other.

#[allow(dead_code)]
mod common;

use std::{
    fs::{self, File},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use common::{
    MIB, TOOL,
    registry::{Registry, Storage, configure},
    scripted::{Content, Scripted},
    util::{Dir, noise},
};
#[allow(unused_imports)]
use common::{registry, scripted, util};

const ROUNDS: usize = 5;

/// Something to be timed.
struct Runner<'a> {
    name: &'a str,
    run: Box<dyn Fn() + 'a>,
}

fn runner<'a>(name: &'a str, run: impl Fn() + 'a) -> Runner<'a> {
    Runner { name, run: Box::new(run) }
}

/// Times all in turn, after a round that does not count, and prints how the others compare with the first.
fn compare(what: &str, bytes: usize, runners: &[Runner]) {
    let mut times = vec![Vec::new(); runners.len()];
    for round in 0..=ROUNDS {
        for (runner, times) in runners.iter().zip(&mut times) {
            let begun = Instant::now();
            (runner.run)();
            if round > 0 {
                times.push(begun.elapsed());
            }
        }
    }
    let medians: Vec<Duration> = times
        .iter_mut()
        .map(|times| {
            times.sort();
            times[times.len() / 2]
        })
        .collect();
    println!("{what}, median of {ROUNDS}:");
    for ((runner, median), times) in runners.iter().zip(&medians).zip(&times) {
        let rate = if bytes > 0 {
            format!(" {:7.0} MiB/s", (bytes / MIB) as f64 / median.as_secs_f64())
        } else {
            String::new()
        };
        let ratio = median.as_secs_f64() / medians[0].as_secs_f64();
        let (least, most) = (times[0].as_secs_f64() * 1e3, times[times.len() - 1].as_secs_f64() * 1e3);
        println!(
            "  {:<28} {:9.2} ms ({least:.2} to {most:.2}){rate}  ace-dt is {ratio:.2} times as fast",
            runner.name,
            median.as_secs_f64() * 1e3
        );
    }
}

fn must(command: &mut Command) {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}; `make bench` installs it"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn tool(dir: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(TOOL);
    command.args(words).current_dir(dir).env("HOME", dir);
    command
}

/// A tool that `make bench` builds.
fn built(name: &str) -> String {
    format!("{}/target/tools/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn main() {
    common::run(&[
        ("start", start_up),
        ("latency", latency),
        ("packets", packets),
        ("mbuffer", mbuffer),
        ("archive", archive),
        ("parts", parts),
        ("verify", verify),
        ("compression", compression),
        ("plan", plan),
    ]);
}

fn start_up() {
    let dir = Dir::new();
    compare(
        "start-up, 20 times --help",
        0,
        &[
            runner("ace-dt --help", || (0..20).for_each(|_| must(&mut tool(&dir, &["mirror", "archive", "--help"])))),
            runner("true(1)", || (0..20).for_each(|_| must(&mut Command::new("true")))),
        ],
    );
}

/// Every answer of the registry comes 20 ms late.
fn latency() {
    const DELAY: Duration = Duration::from_millis(20);
    const BLOBS: usize = 1000;
    let mut content = Content::default();
    let layers: Vec<Vec<u8>> = (0..BLOBS as u64 - 1).map(|n| noise(n + 1, 1000)).collect();
    content.image("app", "v1", &layers);
    let scripted = Scripted::start(content, |_, mut answer| {
        answer.delay = DELAY;
        answer
    });
    let dir = Dir::new();
    configure(&dir, &scripted.endpoint(), 25);
    dir.write("sources.list", "reg.example.com/app:v1");
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let begun = Instant::now();
            must(&mut tool(&dir, &["mirror", "archive", "-q", "--force", "sources.list", "out.tar"]));
            begun.elapsed()
        })
        .collect();
    times.sort();
    let median = times[ROUNDS / 2];
    let part = median.as_secs_f64() / (DELAY.as_secs_f64() * BLOBS as f64);
    println!(
        "latency, {BLOBS} blobs of 1 KB from a registry that answers {} ms late, median of {ROUNDS}:\n  {:.0} ms, {part:.3} of {BLOBS} round trips",
        DELAY.as_millis(),
        median.as_secs_f64() * 1e3
    );
}

/// A registry 20 ms away that sends head and body in two packets, the second when the first is acknowledged, beside
/// one that sends them in one.
fn packets() {
    const BLOBS: u64 = 151;
    let registry = |together: bool| {
        let mut content = Content::default();
        let layers: Vec<Vec<u8>> = (0..BLOBS - 1).map(|n| noise(n + 1, 1000)).collect();
        content.image("app", "v1", &layers);
        Scripted::start(content, move |_, answer| scripted::Answer {
            delay: Duration::from_millis(20),
            together,
            nagle: true,
            ..answer
        })
    };
    let (one, two) = (registry(true), registry(false));
    let archive = |scripted: &Scripted| {
        let dir = Dir::new();
        configure(&dir, &scripted.endpoint(), 4);
        dir.write("sources.list", "reg.example.com/app:v1");
        must(&mut tool(&dir, &["mirror", "archive", "-q", "--force", "sources.list", "out.tar"]));
    };
    compare(
        "151 blobs of 1 KB from a registry 20 ms away",
        0,
        &[
            runner("head and body in one packet", || archive(&one)),
            runner("in two, with Nagle's algorithm", || archive(&two)),
        ],
    );
}

fn mbuffer() {
    const LEN: usize = 4096 * MIB;
    let dir = Dir::new();
    let input = dir.join("input");
    {
        use std::io::Write;
        let mut file = File::create(&input).unwrap();
        let piece = noise(1, 16 * MIB);
        (0..LEN / piece.len()).for_each(|_| file.write_all(&piece).unwrap());
    }
    let null = || File::options().write(true).open("/dev/null").unwrap();
    let ours = || tool(&dir, &["util", "mbuffer", "-q", "-m", "256Mi"]);
    let theirs = || {
        let mut command = Command::new("mbuffer");
        command.args(["-q", "-m", "256M"]);
        command
    };
    let from_file =
        |mut command: Command| must(command.stdin(File::open(&input).unwrap()).stdout(null()).stderr(Stdio::piped()));
    compare(
        "file to null device, 4 GiB through 256 MiB",
        LEN,
        &[
            runner("ace-dt util mbuffer", || from_file(ours())),
            runner("mbuffer", || from_file(theirs())),
            runner("mbuffer -s 1M", || {
                let mut command = theirs();
                command.args(["-s", "1M"]);
                from_file(command)
            }),
        ],
    );
    let piped = |command: &str| {
        let script = format!("head -c {LEN} /dev/zero | {command} | tail -c 1 > /dev/null");
        must(Command::new("bash").args(["-o", "pipefail", "-c", &script]).current_dir(&*dir))
    };
    let ours = format!("{TOOL} util mbuffer -q -m 256Mi");
    compare(
        "pipe to pipe, 4 GiB through 256 MiB",
        LEN,
        &[
            runner("ace-dt util mbuffer", || piped(&ours)),
            runner("mbuffer", || piped("mbuffer -q -m 256M")),
            runner("mbuffer -s 1M", || piped("mbuffer -q -m 256M -s 1M")),
        ],
    );
}

/// One image of incompressible layers, from a real registry to a file.
fn archive() {
    const LAYERS: usize = 8;
    const LAYER: usize = 128 * MIB;
    let dir = Dir::new();
    let storage = Storage::new(&dir.join("storage"));
    let layers: Vec<Vec<u8>> = (0..LAYERS as u64).map(|n| noise(n + 1, LAYER)).collect();
    storage.image("app", "v1", &layers);
    drop(layers);
    let registry = Registry::start(&dir.join("storage"));
    registry.configure(&dir, "http", 25);
    dir.write("sources.list", "reg.example.com/app:v1");
    let image = format!("127.0.0.1:{}/app:v1", registry.port);
    must(
        Command::new(built("regctl"))
            .args(["registry", "set", "--tls", "disabled", &format!("127.0.0.1:{}", registry.port)])
            .env("HOME", &*dir),
    );
    let other = |name: &str, words: &[&str], out: &str| {
        let _ = fs::remove_file(dir.join(out));
        must(Command::new(built(name)).args(words).current_dir(&*dir).env("HOME", &*dir).env("TMPDIR", &*dir));
    };
    compare(
        "registry to file, 1 GiB in 8 layers",
        LAYERS * LAYER,
        &[
            // A file needs no long strokes: a low mark lets writing begin early.
            runner("ace-dt -m 256Mi --hwm 10", || {
                let _ = fs::remove_file(dir.join("out.tar"));
                must(&mut tool(
                    &dir,
                    &["mirror", "archive", "-q", "-m", "256Mi", "--hwm", "10", "sources.list", "out.tar"],
                ));
            }),
            runner("regctl image export", || other("regctl", &["image", "export", &image, "regctl.tar"], "regctl.tar")),
            runner("oras backup", || {
                other("oras", &["backup", "--plain-http", "--output", "oras.tar", &image], "oras.tar")
            }),
        ],
    );
}

fn shell(dir: &Path, script: &str) {
    must(Command::new("sh").args(["-euc", script]).current_dir(dir).env("HOME", dir));
}

/// 2 GiB of incompressible layers from a registry to a file, and what its parts cost alone.
fn parts() {
    const LAYERS: usize = 16;
    const LAYER: usize = 128 * MIB;
    let dir = Dir::new();
    let storage = Storage::new(&dir.join("storage"));
    let mut urls = String::new();
    let mut digests = Vec::new();
    for n in 0..LAYERS as u64 {
        digests.push(storage.blob("app", &noise(n + 1, LAYER)));
    }
    storage.image_of("app", "v1", &digests, LAYER);
    let registry = Registry::start(&dir.join("storage"));
    registry.configure(&dir, "http", 25);
    for digest in &digests {
        urls.push_str(&format!("http://127.0.0.1:{}/v2/app/blobs/{digest}\n", registry.port));
    }
    dir.write("urls", urls);
    dir.write("sources.list", "reg.example.com/app:v1");
    let image = format!("docker://127.0.0.1:{}/app:v1", registry.port);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let each = |what: &str| format!("xargs -P {cores} -I URL sh -c '{what}' < urls > /dev/null");
    let archive = |out: &str| {
        let words = ["mirror", "archive", "-q", "--force", "-m", "64Mi", "--hwm", "10", "sources.list", out];
        must(&mut tool(&dir, &words));
    };
    let fresh = |name: &str| drop(fs::remove_file(dir.join(name)));
    compare(
        "registry to file, 2 GiB in 16 layers, and its parts",
        LAYERS * LAYER,
        &[
            runner("ace-dt to a file", || {
                fresh("out.tar");
                archive("out.tar");
            }),
            runner("fetch and hash (curl|openssl)", || shell(&dir, &each("curl -sS URL | openssl sha256"))),
            runner("ace-dt to /dev/null", || archive("/dev/null")),
            runner("fetch alone (curl)", || shell(&dir, &each("curl -sS -o /dev/null URL"))),
            runner("hash alone (openssl)", || {
                let all = "find storage -name data -size +1M -print0";
                shell(&dir, &format!("{all} | xargs -0 -P {cores} -n 1 openssl sha256 > /dev/null"));
            }),
            runner("write alone (dd direct)", || {
                fresh("dd.out");
                shell(&dir, "dd if=/dev/zero of=dd.out bs=1M count=2048 oflag=direct 2> /dev/null");
            }),
            runner("skopeo copy, then GNU tar", || {
                let _ = fs::remove_dir_all(dir.join("layout"));
                fresh("skopeo.tar");
                shell(
                    &dir,
                    &format!(
                        "skopeo --insecure-policy --tmpdir . copy -q --src-tls-verify=false {image} oci:layout:v1 && tar -cf skopeo.tar -C layout ."
                    ),
                );
            }),
        ],
    );
}

/// An archive of 2 GB in a file is checked and listed. The hash of one core bounds what all can do.
fn verify() {
    const LAYERS: usize = 16;
    const LAYER: usize = 128 * MIB;
    let dir = Dir::new();
    let storage = Storage::new(&dir.join("storage"));
    let digests: Vec<_> = (0..LAYERS as u64).map(|n| storage.blob("app", &noise(n + 1, LAYER))).collect();
    storage.image_of("app", "v1", &digests, LAYER);
    let registry = Registry::start(&dir.join("storage"));
    registry.configure(&dir, "http", 25);
    dir.write("sources.list", "reg.example.com/app:v1");
    must(&mut tool(&dir, &["mirror", "archive", "-q", "sources.list", "out.tar"]));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    compare(
        &format!("an archive of 2 GiB in a file, checked by {cores} cores"),
        LAYERS * LAYER,
        &[
            runner("ace-dt mirror verify", || must(&mut tool(&dir, &["mirror", "verify", "-q", "out.tar"]))),
            runner("openssl sha256 on one core", || shell(&dir, "openssl sha256 out.tar > /dev/null")),
            runner("ace-dt mirror list", || must(&mut tool(&dir, &["mirror", "list", "-q", "out.tar"]))),
        ],
    );
}

/// Compressed archives of incompressible layers, and of text.
fn compression() {
    const LAYERS: usize = 8;
    const LAYER: usize = 128 * MIB;
    let dir = Dir::new();
    let storage = Storage::new(&dir.join("storage"));
    let mut noises = Vec::new();
    for n in 0..LAYERS as u64 {
        noises.push(storage.blob("noise", &noise(n + 1, LAYER)));
    }
    storage.image_of("noise", "v1", &noises, LAYER);
    let texts: Vec<_> = (0..LAYERS as u64).map(|n| storage.blob("text", &text(n + 1, LAYER))).collect();
    storage.image_of("text", "v1", &texts, LAYER);
    let registry = Registry::start(&dir.join("storage"));
    registry.configure(&dir, "http", 25);
    for name in ["noise", "text"] {
        dir.write(&format!("{name}.list"), format!("reg.example.com/{name}:v1"));
        let plain = format!("{name}.tar");
        must(&mut tool(&dir, &["mirror", "archive", "-q", "--force", &format!("{name}.list"), &plain]));
    }
    // zstd(1) reads a file, so the text comes from a layout of files, not through a registry.
    shell(&dir, "mkdir layout && tar -xf text.tar -C layout");
    let serialize = |format: &str| {
        let _ = fs::remove_file(dir.join("text.out"));
        let words = ["mirror", "serialize", "-q", "--compression", format, "-m", "64Mi", "--hwm", "10"];
        must(&mut tool(&dir, &[&words[..], &["oci:layout:latest", "text.out"]].concat()));
    };
    let archive = |name: &str, format: &str| {
        let (list, out) = (format!("{name}.list"), format!("{name}.out"));
        let _ = fs::remove_file(dir.join(&out));
        let words = ["mirror", "archive", "-q", "--compression", format, "-m", "64Mi", "--hwm", "10", &list, &out];
        must(&mut tool(&dir, &words));
    };
    let size = |name: &str| fs::metadata(dir.join(name)).unwrap().len();
    compare(
        "incompressible layers, 1 GiB, from the registry, compressed",
        LAYERS * LAYER,
        &[
            runner("ace-dt --compression zstd", || archive("noise", "zstd")),
            runner("zstd -11, one thread, a file", || shell(&dir, "zstd -q -f -11 -T1 noise.tar -o noise.zst")),
            runner("ace-dt --compression gzip", || archive("noise", "gzip")),
        ],
    );
    archive("noise", "zstd");
    let larger = size("noise.out") as f64 / size("noise.zst") as f64 * 100.0 - 100.0;
    println!("  the file of ace-dt is {larger:+.3} % larger");
    compare(
        "text layers, 1 GiB, from files, compressed",
        LAYERS * LAYER,
        &[
            runner("ace-dt --compression zstd", || serialize("zstd")),
            runner("zstd -3 -T0, a file", || shell(&dir, "zstd -q -f -3 -T0 text.tar -o text.zst")),
            runner("ace-dt from the registry", || archive("text", "zstd")),
            runner("ace-dt --compression gzip", || serialize("gzip")),
        ],
    );
    serialize("zstd");
    println!("  {} bytes by ace-dt, {} by zstd -3", size("text.out"), size("text.zst"));
}

/// Lines such as a layer of text has: words of many lengths, some often, some seldom.
fn text(seed: u64, len: usize) -> Vec<u8> {
    let words: Vec<String> = noise(1, 4000)
        .chunks(4)
        .map(|c| format!("{:x}", u32::from_le_bytes(c.try_into().unwrap()) >> (c[0] % 24)))
        .collect();
    let mut bytes = Vec::with_capacity(len + 64);
    for pair in noise(seed, len / 2).chunks(2) {
        let drawn = usize::from(pair[0]) * usize::from(pair[1]) % words.len();
        bytes.extend(words[drawn].as_bytes());
        bytes.push(if pair[0] % 9 == 0 { b'\n' } else { b' ' });
        if bytes.len() >= len {
            break;
        }
    }
    bytes.resize(len, b' ');
    bytes
}

/// Plans of many blobs: time for each must not grow with their number, and memory must be bounded.
fn plan() {
    const IMAGES: usize = 1000;
    println!("dry runs of {IMAGES} images:");
    let mut first = None;
    for blobs in [10_000, 100_000, 1_000_000] {
        let mut content = Content::default();
        let mut list = String::new();
        for image in 0..IMAGES {
            let layers: Vec<_> = (0..blobs / IMAGES - 1)
                .map(|n| {
                    let digest = ace_dt::oci::Digest::of(format!("{image} {n}").as_bytes());
                    registry::descriptor(registry::LAYER, &digest, 1000)
                })
                .collect();
            let config = ace_dt::oci::Digest::of(format!("config {image}").as_bytes());
            let manifest = serde_json::json!({
                "schemaVersion": 2, "mediaType": registry::MANIFEST,
                "config": registry::descriptor(registry::CONFIG, &config, 100), "layers": layers,
            });
            let repository = format!("app{image}");
            content.manifest(&repository, registry::MANIFEST, manifest.to_string().as_bytes(), Some("v1"));
            list.push_str(&format!("reg.example.com/{repository}:v1\n"));
        }
        let scripted = Scripted::honest(content);
        let dir = Dir::new();
        configure(&dir, &scripted.endpoint(), 25);
        dir.write("sources.list", list);
        let mut times = Vec::new();
        let mut memory = 0;
        for _ in 0..ROUNDS {
            let begun = Instant::now();
            let mut child = tool(&dir, &["mirror", "archive", "-q", "--dry-run", "sources.list", "out.tar"])
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            // The peak of the resident set, as long as the process is there to tell.
            while child.try_wait().unwrap().is_none() {
                let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
                let peak =
                    status.lines().find_map(|l| l.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
                memory = memory.max(peak.unwrap_or(0));
                std::thread::sleep(Duration::from_millis(1));
            }
            assert!(child.wait().unwrap().success());
            times.push(begun.elapsed());
        }
        times.sort();
        let each = times[ROUNDS / 2].as_secs_f64() * 1e6 / blobs as f64;
        let first = *first.get_or_insert(each);
        println!(
            "  {blobs:>9} blobs {:9.0} ms, {each:6.2} us a blob ({:.2} of the first), peak {} KiB",
            times[ROUNDS / 2].as_secs_f64() * 1e3,
            each / first,
            memory
        );
    }
}
