//! `make bench-deliver`: archives into registries, as ratios within one run, against other programs on the same machine,
//! and how often a drive has to stop before a slow registry.
//!
//! Programs take turns, and what is compared is the median.

#[allow(dead_code)]
mod common;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use ace_dt::oci::Digest;
use common::{
    InMemory, MIB, built, must,
    receiver::{Manners, Receiver},
    registry::{CONFIG, LAYER, MANIFEST, Registry, Storage, configure, descriptor},
    scripted::{Content, Scripted},
    tar_header, tool,
    util::{Dir, noise},
};
#[allow(unused_imports)]
use common::{registry, scripted, util};
use serde_json::json;

const ROUNDS: usize = 5;

fn main() {
    common::run(&[("large", large), ("small", small), ("drive", drive)]);
}

/// 2 GiB in 8 layers from a file into Docker's registry, its storage in memory.
fn large() {
    const LAYERS: u64 = 8;
    const LAYER_LEN: usize = 256 * MIB;
    let dir = Dir::new();
    {
        let storage = Storage::new(&dir.join("storage"));
        let digests: Vec<Digest> = (0..LAYERS).map(|n| storage.blob("app", &noise(n + 1, LAYER_LEN))).collect();
        storage.image_of("app", "v1", &digests, LAYER_LEN);
        let registry = Registry::start(&dir.join("storage"));
        let image = format!("127.0.0.1:{}/app:v1", registry.port);
        must(&mut tool(&dir, &["mirror", "serialize", "-q", &image, "x.tar"]));
        let mut list = String::new();
        for digest in &digests {
            list.push_str(&format!("{} {digest}\n", storage.data(digest).display()));
        }
        dir.write("blobs", list);
    }
    must(Command::new("sh").args(["-c", "mkdir layout && tar -xf x.tar -C layout"]).current_dir(&*dir));
    dir.write(
        "up",
        "L=$(curl -sS -o /dev/null -D - -X POST $U/v2/c/x/blobs/uploads/ | tr -d '\\r' | sed -n 's/^[Ll]ocation: //p')\n\
        curl -sS -f -o /dev/null -H 'Content-Type: application/octet-stream' -T \"$1\" \"$L&digest=$2\"\n",
    );
    let shell = |host: &str, script: &str| {
        must(
            Command::new("sh")
                .args(["-euc", script])
                .current_dir(&*dir)
                .env("HOME", &*dir)
                .env("U", format!("http://{host}")),
        );
    };
    let curl = |host: &str, many: usize| shell(host, &format!("xargs -P {many} -L 1 sh -eu up < blobs"));
    let other = |name: String, words: &[&str]| {
        must(Command::new(name).args(words).current_dir(&*dir).env("HOME", &*dir).env("TMPDIR", &*dir));
    };
    let ours = |image: &str| must(&mut tool(&dir, &["mirror", "deserialize", "-q", "x.tar", image]));
    type Run<'a> = (&'a str, Box<dyn Fn(&str) + 'a>);
    let runs: Vec<Run> = vec![
        ("ace-dt mirror deserialize", Box::new(|host| drop(ours(&format!("{host}/m/x:v1"))))),
        ("curl -T, four at a time", Box::new(|host| curl(host, 4))),
        ("curl -T, one at a time", Box::new(|host| curl(host, 1))),
        (
            "skopeo copy oci-archive:",
            Box::new(|host| {
                other(
                    "skopeo".into(),
                    &["copy", "-q", "--dest-tls-verify=false", "oci-archive:x.tar", &format!("docker://{host}/m/x:v1")],
                );
            }),
        ),
        (
            "regctl image import",
            Box::new(|host| {
                other(built("regctl"), &["registry", "set", "--tls", "disabled", host]);
                other(built("regctl"), &["image", "import", &format!("{host}/m/x:v1"), "x.tar"]);
            }),
        ),
        (
            "oras restore",
            Box::new(|host| {
                other(built("oras"), &["restore", "--plain-http", "--input", "x.tar", &format!("{host}/m/x:v1")]);
            }),
        ),
        (
            "crane push (a layout)",
            Box::new(|host| {
                other(built("crane"), &["push", "--insecure", "layout", &format!("{host}/m/x:v1")]);
            }),
        ),
    ];
    let mut times = vec![Vec::new(); runs.len() + 1];
    let mut cpu = Vec::new();
    for round in 0..=ROUNDS {
        for (n, (_, run)) in runs.iter().enumerate() {
            let registry = InMemory::start();
            let begun = Instant::now();
            run(&registry.host());
            let took = begun.elapsed();
            if round > 0 {
                times[n].push(took);
            }
            if n == 0 {
                cpu.push(registry.cpu());
                let begun = Instant::now();
                ours(&format!("{}/m/x:v1", registry.host()));
                if round > 0 {
                    times[runs.len()].push(begun.elapsed());
                }
            }
        }
    }
    times.iter_mut().for_each(|times| times.sort());
    let median = |n: usize| times[n][ROUNDS / 2].as_secs_f64();
    println!("2 GiB in 8 layers from a file to a registry in memory, median of {ROUNDS}:");
    let names = runs.iter().map(|(name, _)| *name).chain(["ace-dt again: all is there"]);
    for (n, name) in names.enumerate() {
        let (least, most) = (times[n][0].as_secs_f64() * 1e3, times[n][ROUNDS - 1].as_secs_f64() * 1e3);
        let ratio = median(n) / median(0);
        println!(
            "  {name:<28} {:9.0} ms ({least:.0} to {most:.0})  {ratio:.3} times the time of ace-dt",
            median(n) * 1e3
        );
    }
    cpu.sort();
    let (cpu, processors) = (cpu[cpu.len() / 2], thread::available_parallelism().unwrap().get());
    println!(
        "  whoever sends it, the registry needs {:.1} s of {processors} processors, which is {:.0} ms of all of them",
        cpu.as_secs_f64(),
        cpu.as_secs_f64() * 1e3 / processors as f64
    );
}

/// 1,000 small blobs into a registry of which every answer comes 20 ms late.
fn small() {
    const DELAY: Duration = Duration::from_millis(20);
    const BLOBS: u64 = 1000;
    let mut content = Content::default();
    let layers: Vec<Vec<u8>> = (0..BLOBS - 1).map(|n| noise(n + 1, 1000)).collect();
    content.image("app", "v1", &layers);
    let (dir, source) = (Dir::new(), Scripted::honest(content));
    configure(&dir, &source.endpoint(), 25);
    dir.write("s", "reg.example.com/app:v1");
    must(&mut tool(&dir, &["mirror", "archive", "-q", "s", "x.tar"]));
    let (mut first, mut second, mut requests) = (Vec::new(), Vec::new(), 0);
    for _ in 0..ROUNDS {
        let receiver = Receiver::new(Manners::default());
        let honest = receiver.clone();
        let dest = Scripted::start(Content::default(), move |request, _| {
            let mut answer = honest.answer(request);
            answer.delay = DELAY;
            answer
        });
        configure(&dir, &dest.endpoint(), 25);
        for times in [&mut first, &mut second] {
            let begun = Instant::now();
            must(&mut tool(&dir, &["mirror", "deserialize", "-q", "x.tar", "reg.example.com/m:v1"]));
            times.push(begun.elapsed());
            if requests == 0 {
                requests = dest.requests().len();
            }
        }
        assert_eq!(receiver.missing_below("m", "v1"), Vec::<String>::new());
    }
    first.sort();
    second.sort();
    let (median, again) = (first[ROUNDS / 2].as_secs_f64(), second[ROUNDS / 2].as_secs_f64());
    let trip = DELAY.as_secs_f64();
    println!(
        "{BLOBS} blobs of 1 KB into a registry that answers {} ms late, median of {ROUNDS}:\n  {:.0} ms, {requests} requests: \
        {:.3} of their round trips one by one, {:.3} of one round trip a blob; again, all there: {:.0} ms",
        DELAY.as_millis(),
        median * 1e3,
        median / (trip * requests as f64),
        median / (trip * BLOBS as f64),
        again * 1e3
    );
}

/// A registry that takes blobs no faster than its schedule says, and keeps nothing.
struct SlowRegistry {
    port: u16,
    ending: Arc<AtomicBool>,
}

impl SlowRegistry {
    /// `rate` gives bytes a second at each time since the start.
    fn start(rate: impl Fn(Duration) -> f64 + Send + Sync + 'static) -> SlowRegistry {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let (port, ending) = (listener.local_addr().unwrap().port(), Arc::new(AtomicBool::new(false)));
        let bucket = Arc::new((Mutex::new((Instant::now(), 0.0_f64)), Instant::now(), rate));
        let over = ending.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let bucket = bucket.clone();
                thread::spawn(move || {
                    let may_take = |n: usize| {
                        let (state, begun, rate) = &*bucket;
                        loop {
                            let mut state = state.lock().unwrap();
                            let now = Instant::now();
                            let more = (now - state.0).as_secs_f64() * rate(now - *begun);
                            *state = (now, (state.1 + more).min(8e6));
                            if state.1 > 0.0 {
                                state.1 -= n as f64;
                                return;
                            }
                            drop(state);
                            thread::sleep(Duration::from_millis(1));
                        }
                    };
                    let _ = serve_slowly(stream, &may_take);
                });
            }
        });
        SlowRegistry { port, ending }
    }
}

impl Drop for SlowRegistry {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve_slowly(stream: TcpStream, may_take: &dyn Fn(usize)) -> std::io::Result<()> {
    let (mut reader, mut out) = (BufReader::with_capacity(1 << 20, stream.try_clone()?), stream);
    let mut number = 0;
    loop {
        let (mut line, mut length) = (String::new(), 0_usize);
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        loop {
            let mut header = String::new();
            reader.read_line(&mut header)?;
            match header.trim().split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.trim().parse().unwrap()
                }
                Some(_) => {}
                None => break,
            }
        }
        let mut left = length;
        while left > 0 {
            let n = reader.fill_buf()?.len().min(left);
            if n == 0 {
                return Ok(());
            }
            may_take(n);
            reader.consume(n);
            left -= n;
        }
        number += 1;
        let head = match line.split(' ').next() {
            Some("HEAD" | "GET") => "404 x".to_string(),
            Some("POST" | "PATCH") => format!("202 x\r\nLocation: /v2/m/blobs/uploads/{number}"),
            _ => "201 x".into(),
        };
        write!(out, "HTTP/1.1 {head}\r\nContent-Length: 0\r\n\r\n")?;
    }
}

/// The archive that the drive gives: its headers and small members, and layers that are made on the way.
struct Stream {
    begin: Vec<u8>,
    layers: Vec<(Vec<u8>, u64)>,
}

const DRIVE_LAYER: usize = 512_000_000;

impl Stream {
    fn new(layers: u64) -> Stream {
        let content = |n: u64| Stream::layer(n);
        let digests: Vec<Digest> = (0..layers)
            .map(|n| {
                let mut hasher = Digest::of(b"").hasher();
                content(n).iter().for_each(|piece| hasher.update(piece));
                hasher.finish()
            })
            .collect();
        let config = br#"{"architecture":"amd64","os":"linux"}"#;
        let listed: Vec<_> = digests.iter().map(|digest| descriptor(LAYER, digest, DRIVE_LAYER)).collect();
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST,
            "config": descriptor(CONFIG, &Digest::of(config), config.len()), "layers": listed})
        .to_string();
        let root = descriptor(MANIFEST, &Digest::of(manifest.as_bytes()), manifest.len());
        let index = json!({"schemaVersion": 2, "manifests": [root]}).to_string();
        let mut begin = Vec::new();
        let mut put = |name: &str, bytes: &[u8]| {
            begin.extend(tar_header(name, bytes.len()));
            begin.extend(bytes);
            begin.resize(begin.len().next_multiple_of(512), 0);
        };
        put("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
        put("index.json", index.as_bytes());
        put(&Digest::of(manifest.as_bytes()).path(), manifest.as_bytes());
        put(&Digest::of(config).path(), config);
        let layers = digests.iter().zip(0..).map(|(digest, n)| (tar_header(&digest.path(), DRIVE_LAYER), n)).collect();
        Stream { begin, layers }
    }

    /// A layer: all zeros but for its number.
    fn layer(n: u64) -> [Vec<u8>; 2] {
        [n.to_le_bytes().to_vec(), vec![0; DRIVE_LAYER - 8]]
    }

    /// Gives it at the rate of the drive.
    fn feed(&self, out: &mut impl Write) {
        let mut fed = 0.0;
        let mut begun = Instant::now();
        let mut give = |mut bytes: &[u8]| -> std::io::Result<()> {
            while !bytes.is_empty() {
                let n = bytes.len().min(4 << 20);
                let before = Instant::now();
                out.write_all(&bytes[..n])?;
                bytes = &bytes[n..];
                fed += n as f64;
                let due = Duration::from_secs_f64(fed / 400e6);
                thread::sleep(due.saturating_sub(begun.elapsed()));
                // What a full pipe held up is not made up.
                if before.elapsed() > Duration::from_millis(100) {
                    (fed, begun) = (0.0, Instant::now());
                }
            }
            Ok(())
        };
        let all = || -> std::io::Result<()> {
            give(&self.begin)?;
            let zeros = vec![0; DRIVE_LAYER - 8];
            for (header, n) in &self.layers {
                give(header)?;
                give(&n.to_le_bytes())?;
                give(&zeros)?;
            }
            give(&[0; 1024])
        };
        let mut all = all;
        let _ = all();
    }
}

/// A drive that gives 400 MB/s, before a registry that takes 300, and before one that jumps between 0 and 600: how often it
/// has to stop.
fn drive() {
    let dir = Dir::new();
    println!("12 GB from a drive of 400 MB/s: how often the drive starts, and the seconds until all is delivered");
    let stream = Arc::new(Stream::new(24));
    type Rate = fn(Duration) -> f64;
    let rates: [(&str, Rate); 2] = [
        ("300 MB/s", |_| 300e6),
        ("0 to 600 MB/s", |time| [600e6, 0.0, 450e6, 150e6, 600e6, 300e6, 0.0][time.as_secs() as usize / 2 % 7]),
    ];
    for (name, rate) in rates {
        for buffer in ["64Mi", "256Mi", "1Gi", "4Gi"] {
            let registry = SlowRegistry::start(rate);
            configure(&dir, &format!("http://127.0.0.1:{}", registry.port), 25);
            let begun = Instant::now();
            let words = ["mirror", "deserialize", "--progress", "json", "-m", buffer, "-", "reg.example.com/m:v1"];
            let mut child = tool(&dir, &words).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            let (mut input, feeding) = (child.stdin.take().unwrap(), stream.clone());
            let feeder = thread::spawn(move || feeding.feed(&mut input));
            let mut said = String::new();
            child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
            let status = child.wait().unwrap();
            feeder.join().unwrap();
            let waits =
                said.split("\"waits\":").nth(1).and_then(|rest| rest.split([',', '}']).next()?.parse::<u64>().ok());
            assert!(status.success() && waits.is_some(), "{said}");
            println!(
                "  registry of {name:<14} buffer {buffer:>5}: {:3} starts, {:.0} s",
                waits.unwrap() + 1,
                begun.elapsed().as_secs_f64()
            );
        }
    }
}
