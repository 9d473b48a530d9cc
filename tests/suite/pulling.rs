//! `util serve` for long: clients that pull at random, and others that break off.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, TcpStream},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use ace_dt::oci::Digest;

use crate::{
    registry::configure,
    scripted::{Content, Scripted},
    serving::Serving,
    util::{Dir, Signal, ace_dt, noise, send},
};

const CLIENTS: u64 = 32;
/// The sizes of the layers of each archive.
const SIZES: [usize; 8] = [0, 1, 1000, 65_536, 65_537, 1_000_000, 3_000_000, 10_000_000];

/// A generator of numbers that only need to differ (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end.max(1)
    }
}

/// What clients did.
#[derive(Default)]
struct Pulled {
    whole: AtomicU64,
    parts: AtomicU64,
    broken_off: AtomicU64,
    bytes: AtomicU64,
}

/// Memory in KiB and open descriptors (proc_pid_status(5), proc_pid_fd(5)).
fn holds(serving: &Serving) -> (u64, usize) {
    let process = format!("/proc/{}", serving.running.0.id());
    let status = fs::read_to_string(format!("{process}/status")).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let resident = resident.split_whitespace().next().unwrap().parse().unwrap();
    (resident, fs::read_dir(format!("{process}/fd")).unwrap().count())
}

/// Asks for a blob, or a part of it, over connections that are kept for a while, and checks what comes.
fn client(seed: u64, host: &str, blobs: &[(Digest, Vec<u8>)], until: &AtomicBool, pulled: &Pulled) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    while !until.load(Ordering::Relaxed) {
        let socket = TcpStream::connect(host).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut from = BufReader::new(socket);
        for _ in 0..=random.below(8) {
            let (digest, content) = &blobs[random.below(blobs.len() as u64) as usize];
            let begin = random.below(content.len() as u64) as usize;
            let range = (content.len() > 1 && random.below(3) == 0).then(|| begin..content.len().min(begin + 500_000));
            let field = range.clone().map_or(String::new(), |r| format!("Range: bytes={}-{}\r\n", r.start, r.end - 1));
            let wanted = &content[range.clone().unwrap_or(0..content.len())];
            write!(from.get_mut(), "GET /v2/all/blobs/{digest} HTTP/1.1\r\nHost: h\r\n{field}\r\n").unwrap();
            if random.below(6) == 0 {
                // Before the answer, in its middle, or with half of a request behind it.
                let _ = match random.below(3) {
                    0 => Ok(()),
                    1 => from.read_exact(&mut vec![0; random.below(wanted.len() as u64 / 2) as usize]),
                    _ => from.get_mut().write_all(b"GET /v2/ HTT"),
                };
                let _ = from.get_mut().shutdown(Shutdown::Both);
                pulled.broken_off.fetch_add(1, Ordering::Relaxed);
                break;
            }
            let (mut head, mut line) = (String::new(), String::new());
            while line.trim() != "" || head.is_empty() {
                head.push_str(&line);
                line.clear();
                assert!(from.read_line(&mut line).unwrap() > 0, "the connection ended in a head: {head}");
            }
            assert!(head.starts_with(if range.is_some() { "HTTP/1.1 206 " } else { "HTTP/1.1 200 " }), "{head}");
            let mut found = vec![0; wanted.len()];
            from.read_exact(&mut found).unwrap();
            assert!(found == wanted, "other bytes of {digest}, {field}");
            let count = if range.is_some() { &pulled.parts } else { &pulled.whole };
            count.fetch_add(1, Ordering::Relaxed);
            pulled.bytes.fetch_add(found.len() as u64, Ordering::Relaxed);
            // A machine has more to do than this.
            thread::sleep(Duration::from_millis(random.below(1000)));
        }
    }
}

/// For `PULL_SECONDS`, 60 if it is not set: neither memory nor descriptors grow, and every byte is right.
#[test]
#[ignore = "long: make soak, make soak-serve"]
fn soak_clients_that_pull_at_random_and_break_off() {
    let seconds = std::env::var("PULL_SECONDS").map_or(60, |text| text.parse().unwrap());
    let (mut blobs, dir) = (Vec::new(), Dir::new());
    for (number, (name, compress)) in [("plain", "none"), ("zstd", "zstd"), ("gzip", "gzip")].iter().enumerate() {
        let layers: Vec<Vec<u8>> =
            SIZES.iter().enumerate().map(|(n, size)| noise((number * 100 + n) as u64 + 1, *size)).collect();
        let mut content = Content::default();
        content.image("all", name, &layers);
        let source = Scripted::honest(content);
        configure(&dir, &source.endpoint(), 8);
        dir.write("s", format!("reg.example.com/all:{name}\n"));
        ace_dt(&dir, &["mirror", "archive", "-q", "--compression", compress, "s", &format!("{name}.tar")]).ok();
        blobs.extend(layers.into_iter().map(|layer| (Digest::of(&layer), layer)));
    }
    let serving = Serving::start(&dir, &["plain.tar", "zstd.tar", "gzip.tar"]);
    let (_, idle) = holds(&serving);
    let (pulled, until) = (Pulled::default(), AtomicBool::new(false));
    let begun = Instant::now();
    let mut seen = Vec::new();
    thread::scope(|scope| {
        for n in 0..CLIENTS {
            let (host, blobs, until, pulled) = (&serving.host, &blobs, &until, &pulled);
            scope.spawn(move || client(n + 1, host, blobs, until, pulled));
        }
        let (mut told, end) = (0, begun + Duration::from_secs(seconds));
        while Instant::now() < end {
            thread::sleep(Duration::from_secs(1).min(end - Instant::now()));
            seen.push(holds(&serving));
            // Now and then all is opened anew.
            if seen.len() % 30 == 0 {
                send(&serving.running.0, Signal::SIGHUP);
            }
            if begun.elapsed().as_secs() / 60 > told {
                told += 1;
                let (resident, descriptors) = seen[seen.len() - 1];
                println!("minute {told}: {resident} KiB, {descriptors} descriptors");
            }
        }
        until.store(true, Ordering::Relaxed);
    });
    // Connections that are idle end by themselves; one that has ended is noticed at once.
    let ended = Instant::now();
    while holds(&serving).1 > idle && ended.elapsed() < Duration::from_secs(20) {
        thread::sleep(Duration::from_millis(100));
    }
    let (resident, descriptors) = holds(&serving);
    assert_eq!(serving.end(Signal::SIGTERM).0, Some(0));
    let quarter = seen.len() / 4;
    let most = |seen: &[(u64, usize)]| seen.iter().copied().fold((0, 0), |(a, b), (c, d)| (a.max(c), b.max(d)));
    let (early, late) = (most(&seen[..quarter]), most(&seen[seen.len() - quarter..]));
    println!(
        "{seconds} s, {CLIENTS} clients: {} blobs whole, {} parts, {} broken off, {} bytes; \
        at most {} KiB and {} descriptors in the first quarter, {} and {} in the last, {resident} and {descriptors} behind it \
        ({idle} before)",
        pulled.whole.into_inner(),
        pulled.parts.into_inner(),
        pulled.broken_off.into_inner(),
        pulled.bytes.into_inner(),
        early.0,
        early.1,
        late.0,
        late.1
    );
    assert!(late.0 <= early.0 + early.0 / 10 && late.0 < 64 << 10, "memory grows");
    assert!(late.1 <= early.1 + 8 && descriptors == idle, "descriptors are lost");
}
