//! A clean directory, and the tool run in it.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    ops::Deref,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

pub use nix::sys::signal::Signal;
use nix::{sys::signal::kill, unistd::Pid};

/// No run of a test takes longer; one that does hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// A directory that goes with the test.
pub struct Dir(PathBuf);

impl Dir {
    pub fn new() -> Dir {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{n}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Dir(path)
    }

    /// In memory where that can be, since a registry syncs all that it stores.
    pub fn in_memory() -> Dir {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = Path::new("/dev/shm").join(format!("ace-dt-test-{}-{n}", std::process::id()));
        fs::create_dir(&path).map_or_else(|_| Dir::new(), |()| Dir(path))
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.0.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    pub fn text(&self, name: &str) -> String {
        String::from_utf8(self.read(name)).unwrap()
    }
}

impl Deref for Dir {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What a run left behind.
#[derive(Debug)]
pub struct Outcome {
    pub status: i32,
    pub out: Vec<u8>,
    pub err: String,
}

impl Outcome {
    /// # Panics
    /// If the run failed.
    #[track_caller]
    pub fn ok(self) -> Outcome {
        assert_eq!(self.status, 0, "{}", self.err);
        self
    }

    /// # Panics
    /// If the run did not end with `status` and one line of error that holds all of `words`.
    #[track_caller]
    pub fn fails(self, status: i32, words: &[&str]) -> Outcome {
        assert_eq!(self.status, status, "{}", self.err);
        let errors: Vec<&str> = self.err.lines().filter(|l| !l.starts_with("ace-dt: warning: ")).collect();
        assert!(errors.len() == 1 && errors[0].starts_with("ace-dt: "), "not one line of error: {}", self.err);
        for word in words {
            assert!(errors[0].contains(word), "{word:?} is not in: {}", errors[0]);
        }
        self
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.out).unwrap()
    }
}

/// The tool, to be run in `dir`, with nothing of this machine's configuration.
pub fn tool(dir: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ace-dt"));
    command.args(words).current_dir(dir).env_clear();
    command.env("HOME", dir).env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("ACE_DT_VERSION", "(devel)");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs the tool in `dir` to its end.
pub fn ace_dt(dir: &Path, words: &[&str]) -> Outcome {
    finish(tool(dir, words).spawn().unwrap())
}

/// Runs the tool in `dir`, with `input` on its standard input.
pub fn ace_dt_with(dir: &Path, words: &[&str], input: &[u8]) -> Outcome {
    let mut child = tool(dir, words).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = thread::spawn(move || stdin.write_all(&input));
    let outcome = finish(child);
    let _ = writer.join().unwrap();
    outcome
}

/// Waits for a run to end, and collects what it says.
///
/// # Panics
/// If it hangs.
pub fn finish(mut child: Child) -> Outcome {
    fn collect(from: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
        thread::spawn(move || {
            let mut all = Vec::new();
            if let Some(mut from) = from {
                from.read_to_end(&mut all).unwrap();
            }
            all
        })
    }
    let (out, err) = (collect(child.stdout.take()), collect(child.stderr.take()));
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if begun.elapsed() > PATIENCE {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("the run hangs: {}", String::from_utf8_lossy(&err.join().unwrap()));
        }
        thread::sleep(Duration::from_millis(2));
    };
    let err = String::from_utf8(err.join().unwrap()).unwrap();
    assert!(!err.contains("panicked"), "{err}");
    Outcome { status: status.code().unwrap_or(-1), out: out.join().unwrap(), err }
}

/// Sends a signal to a run.
pub fn send(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id() as i32), signal).unwrap();
}

/// Waits until `done`.
///
/// # Panics
/// If it takes too long.
#[track_caller]
pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Runs a peer to its end; its standard output.
///
/// # Panics
/// If it fails.
#[track_caller]
pub fn peer(dir: &Path, program: &str, words: &[&str]) -> Vec<u8> {
    let output = Command::new(program).args(words).current_dir(dir).output();
    let output = output.unwrap_or_else(|e| panic!("{program}: {e}; `make test` installs it"));
    assert!(output.status.success(), "{program} {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A port that nobody listens on, and that neither the kernel (ip(7), ip_local_port_range) nor this function gives to another.
pub fn free_port() -> u16 {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 20_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = (FIRST + (std::process::id() * 50 + next) % COUNT) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// `len` bytes that do not compress, the same for the same seed.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
