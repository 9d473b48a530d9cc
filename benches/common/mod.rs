//! What benches have in common: programs run, and a registry that keeps all in memory.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
};

use crate::registry::Registry;

pub const MIB: usize = 1 << 20;
const TOOL: &str = env!("CARGO_BIN_EXE_ace-dt");

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
