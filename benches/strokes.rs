//! `make strokes`: a simulated tape drive behind `util mbuffer`, and behind mbuffer(1).
//!
//! The source gives up to 600 MB/s or nothing, as its schedule says, which is the same in every run. The
//! drive takes 400 MB/s from a small buffer of its own. When that is empty the drive stops, and needs 3 s
//! to stop, go back and run up again; it starts when its buffer is full. Both are processes of their own
//! at the ends of two pipes, in real time.

use std::{
    env,
    io::{Read, Write},
    os::fd::AsFd,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

const TOOL: &str = env!("CARGO_BIN_EXE_ace-dt");
/// Bytes a second that the drive takes while it runs (LTO-9).
const RATE: f64 = 400e6;
const BACK_HITCH: Duration = Duration::from_secs(3);
/// Bytes in the drive's own buffer.
const OWN: f64 = 32e6;
/// The most that the source gives, in bytes a second.
const MOST: u64 = 600_000_000;
const TOTAL: u64 = 12_000_000_000;
const SLICE: Duration = Duration::from_millis(10);

fn main() {
    let words: Vec<String> = env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    match words.first().map(String::as_str) {
        Some("source") => source(),
        Some("drive") => drive(),
        _ => table(&words),
    }
}

/// When the source changes its rate, and to what: times since the start, bytes a second. A third of the
/// time it gives nothing.
fn schedule() -> impl Iterator<Item = (Duration, u64)> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = move |below: u64| {
        // xorshift64*, Vigna 2016.
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % below
    };
    let mut until = Duration::ZERO;
    std::iter::from_fn(move || {
        until += Duration::from_millis(300 + draw(2700));
        let rate = if draw(3) == 0 { 0 } else { MOST / 3 + draw(MOST * 2 / 3) };
        Some((until, rate))
    })
}

fn source() {
    let mut out = std::io::stdout().lock();
    let piece = vec![0x5a; MOST as usize / 100];
    let (begun, mut schedule, mut left) = (Instant::now(), schedule(), TOTAL);
    let (mut until, mut rate) = schedule.next().unwrap();
    while left > 0 {
        let slice = Instant::now();
        while slice - begun >= until {
            (until, rate) = schedule.next().unwrap();
        }
        let n = left.min(rate / 100);
        if out.write_all(&piece[..n as usize]).is_err() {
            return;
        }
        left -= n;
        // What a full pipe held up is not made up.
        thread::sleep(SLICE.saturating_sub(slice.elapsed()));
    }
}

/// Reads as the drive takes, and prints how often it started, and the seconds until all was on the tape.
fn drive() {
    let mut input = std::io::stdin().lock();
    let mut piece = vec![0; 1 << 20];
    let (begun, mut seen) = (Instant::now(), Instant::now());
    let (mut level, mut running, mut starts, mut ended) = (0.0, false, 0, false);
    let mut ready_at = begun;
    while !ended || level > 0.0 {
        let now = Instant::now();
        if running {
            level -= RATE * (now - seen).as_secs_f64();
            if level <= 0.0 {
                (level, running, ready_at) = (0.0, false, now + BACK_HITCH);
            }
        } else if now >= ready_at && (level + piece.len() as f64 > OWN || ended && level > 0.0) {
            (running, starts) = (true, starts + 1);
        }
        seen = now;
        if ended || level + piece.len() as f64 > OWN {
            thread::sleep(Duration::from_micros(500));
            continue;
        }
        // Not longer than until the buffer is empty.
        let left = if running { (level / RATE * 1e3) as u16 + 1 } else { 50 };
        let stdin = std::io::stdin();
        if poll(&mut [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)], PollTimeout::from(left)).unwrap_or(0) > 0 {
            let n = input.read(&mut piece).expect("reading what the buffer gives");
            ended = n == 0;
            level += n as f64;
        }
    }
    println!("{starts} {:.1}", begun.elapsed().as_secs_f64());
}

/// Starts of the drive, and seconds.
fn run(mut buffer: Command) -> (u64, f64) {
    let me = env::current_exe().unwrap();
    let mut source = Command::new(&me).arg("source").stdout(Stdio::piped()).spawn().unwrap();
    let from = source.stdout.take().unwrap();
    let mut buffer = buffer.stdin(from).stdout(Stdio::piped()).spawn().expect("`make strokes` installs it");
    let from = buffer.stdout.take().unwrap();
    let drive = Command::new(&me).arg("drive").stdin(from).output().unwrap();
    assert!(source.wait().unwrap().success() && buffer.wait().unwrap().success() && drive.status.success());
    let text = String::from_utf8(drive.stdout).unwrap();
    let (starts, seconds) = text.trim().split_once(' ').unwrap();
    (starts.parse().unwrap(), seconds.parse().unwrap())
}

/// The words choose buffers: `1Gi`, `0`; none means all.
fn table(only: &[String]) {
    let ours = |size: &str, mark: u32| {
        let mut command = Command::new(TOOL);
        command.args(["util", "mbuffer", "-q", "-m", size, "--hwm", &mark.to_string()]);
        command
    };
    let theirs = |size: &str, mark: u32| {
        let mut command = Command::new("mbuffer");
        command.args(["-q", "-s", "1M", "-m", size]);
        if mark > 0 {
            command.args(["-P", &mark.to_string()]);
        }
        command
    };
    println!(
        "a drive of {} MB/s with {} MB of its own and a back-hitch of {} s, {} MB from a source of 0 to {} MB/s:",
        RATE / 1e6,
        OWN / 1e6,
        BACK_HITCH.as_secs(),
        TOTAL / 1_000_000,
        MOST / 1_000_000
    );
    println!("  {:>6} {:>5}  {:<21}  {:<21}", "buffer", "mark", "ace-dt util mbuffer", "mbuffer(1)");
    let show = |(starts, seconds): (u64, f64)| format!("{starts:>3} starts {seconds:>6.1} s");
    for (size, other) in [("0", "8M"), ("64Mi", "64M"), ("256Mi", "256M"), ("1Gi", "1G"), ("4Gi", "4G")] {
        if !only.is_empty() && !only.iter().any(|word| word == size) {
            continue;
        }
        // Without a buffer there is no mark.
        let marks: &[u32] = if size == "0" { &[90] } else { &[10, 50, 90, 100] };
        for &mark in marks {
            let (a, b) = (run(ours(size, mark)), run(theirs(other, if size == "0" { 0 } else { mark })));
            let mark = if size == "0" { "-".to_string() } else { mark.to_string() };
            println!("  {size:>6} {mark:>5}  {:<21}  {:<21}", show(a), show(b));
        }
    }
}
