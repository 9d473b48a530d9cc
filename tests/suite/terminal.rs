//! A real terminal, by tmux(1).

use std::{path::Path, process::Command, thread, time::Duration};

use crate::util::Dir;

/// A terminal with a program in it; it ends with this.
pub struct Terminal {
    socket: String,
}

impl Terminal {
    /// Runs `command` by sh(1) in a terminal of so many columns and lines, with what tests run in front in its PATH.
    pub fn start(dir: &Dir, columns: u32, lines: u32, command: &str) -> Terminal {
        let terminal = Terminal { socket: dir.join("tmux").display().to_string() };
        let tool = Path::new(env!("CARGO_BIN_EXE_ace-dt")).parent().unwrap();
        let path = format!("PATH={}:{}", tool.display(), std::env::var("PATH").unwrap());
        let home = format!("HOME={}", dir.display());
        let size = ["-x", &columns.to_string(), "-y", &lines.to_string()].map(String::from);
        let mut tmux = terminal.tmux();
        tmux.args(["new-session", "-d"]).args(size).args(["env", &path, &home, "PS1=READY$ ", "sh", "-c", command]);
        let output = tmux.env("LANG", "C.UTF-8").current_dir(&**dir).output();
        let output = output.unwrap_or_else(|e| panic!("tmux: {e}; `make test` installs it"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        terminal
    }

    fn tmux(&self) -> Command {
        let mut tmux = Command::new("tmux");
        tmux.args(["-S", &self.socket, "-f", "/dev/null"]);
        tmux
    }

    /// Types keys, as tmux(1) names them, or text.
    pub fn keys(&self, keys: &[&str]) {
        assert!(self.tmux().arg("send-keys").args(keys).status().unwrap().success());
    }

    /// Gives it another width.
    pub fn resize(&self, columns: u32) {
        let words = ["resize-window", "-x", &columns.to_string()].map(String::from);
        assert!(self.tmux().args(words).status().unwrap().success());
    }

    /// What stands in it.
    pub fn text(&self) -> String {
        let output = self.tmux().args(["capture-pane", "-p", "-J"]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Waits until something stands in it.
    ///
    /// # Panics
    /// If it does not for half a minute.
    #[track_caller]
    pub fn wait_for(&self, wanted: &str) -> String {
        for _ in 0..600 {
            let text = self.text();
            if text.contains(wanted) {
                return text;
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("{wanted:?} does not come: {}", self.text());
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.tmux().arg("kill-server").status();
    }
}
