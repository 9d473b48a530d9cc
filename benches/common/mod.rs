//! What benches have in common: the servers of the tests, programs run, and registries that keep all in memory or are far
//! away.

#[path = "../../tests/suite/receiver.rs"]
#[allow(dead_code)]
pub mod receiver;
#[path = "../../tests/suite/registry.rs"]
#[allow(dead_code)]
pub mod registry;
#[path = "../../tests/suite/scripted.rs"]
#[allow(dead_code)]
pub mod scripted;
#[path = "../../tests/suite/serving.rs"]
#[allow(dead_code)]
pub mod serving;
#[path = "../../tests/suite/util.rs"]
#[allow(dead_code)]
pub mod util;

use std::{
    env, fs,
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use registry::Registry;

pub const MIB: usize = 1 << 20;
pub const TOOL: &str = env!("CARGO_BIN_EXE_ace-dt");

/// Runs the benches that the command line names, or all.
pub fn run(benches: &[(&str, fn())]) {
    let only: Vec<String> = env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    for (name, bench) in benches {
        if only.is_empty() || only.iter().any(|o| o == name) {
            bench();
        }
    }
}

pub fn must(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}; `make bench-deliver` installs it"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn tool(dir: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(TOOL);
    command.args(words).current_dir(dir).env("HOME", dir);
    command
}

pub fn built(name: &str) -> String {
    format!("{}/target/tools/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// A registry whose storage is in memory.
pub struct InMemory {
    registry: Option<Registry>,
    /// Where it keeps it.
    pub dir: PathBuf,
}

impl InMemory {
    pub fn start() -> InMemory {
        InMemory::with(|_| ())
    }

    /// With what `fill` puts there first.
    pub fn with(fill: impl FnOnce(&Path)) -> InMemory {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let n = NEXT.fetch_add(1, Ordering::SeqCst);
        let dir = PathBuf::from(format!("/dev/shm/ace-dt-bench-{}-{n}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        fill(&dir);
        InMemory { registry: Some(Registry::start(&dir)), dir }
    }

    /// How long its processors have worked so far (proc_pid_stat(5)).
    pub fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.registry.as_ref().unwrap().pid())).unwrap();
        let behind_name = stat.rsplit(')').next().unwrap();
        let ticks = |field: usize| behind_name.split_whitespace().nth(field - 3).unwrap().parse::<u32>().unwrap();
        // Ticks of user space, and of the kernel, 100 a second.
        Duration::from_millis(10) * (ticks(14) + ticks(15))
    }

    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.registry.as_ref().unwrap().port)
    }
}

impl Drop for InMemory {
    fn drop(&mut self) {
        self.registry = None;
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A server's place at some distance: whatever it answers arrives later.
pub struct Distant {
    port: u16,
    ending: Arc<AtomicBool>,
}

impl Distant {
    /// In front of the server at `host`.
    pub fn new(host: String, delay: Duration) -> Distant {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let (port, ending) = (listener.local_addr().unwrap().port(), Arc::new(AtomicBool::new(false)));
        let over = ending.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(server) = TcpStream::connect(&host) else { return };
                let (client_in, server_out) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || pass_on(client_in, server_out, Duration::ZERO));
                thread::spawn(move || pass_on(server, client, delay));
            }
        });
        Distant { port, ending }
    }

    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Distant {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, delay: Duration) {
    let _ = to.set_nodelay(true);
    let mut piece = vec![0; 256 << 10];
    while let Ok(n @ 1..) = from.read(&mut piece) {
        thread::sleep(delay);
        if to.write_all(&piece[..n]).is_err() {
            break;
        }
    }
    let _ = (to.shutdown(Shutdown::Write), from.shutdown(Shutdown::Read));
}

/// The header of a file in a TAR archive.
pub fn tar_header(name: &str, size: usize) -> Vec<u8> {
    let mut header = vec![0; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    let size = format!("{size:011o}");
    for (at, text) in [
        (100, "0000666"),
        (108, "0000000"),
        (116, "0000000"),
        (124, size.as_str()),
        (136, "00000000000"),
        (156, "0"),
        (257, "ustar"),
        (263, "00"),
    ] {
        header[at..at + text.len()].copy_from_slice(text.as_bytes());
    }
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}
