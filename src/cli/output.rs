//! Standard output, and the version: what the program says of itself and hands on as data.

use std::fs::File;

use nix::errno::Errno;

use crate::{
    error::{Context, Result},
    fd,
};

/// The version in archives and in `version`. The environment variable is for making again, byte
/// for byte, an archive that another version wrote.
pub fn version() -> String {
    std::env::var("ACE_DT_VERSION").ok().filter(|v| !v.is_empty()).unwrap_or_else(|| env!("CARGO_PKG_VERSION").into())
}

/// What `version` and `--version` print.
pub fn version_line() -> String {
    format!("ace-dt {}\n", version())
}

/// Data for standard output that is made piece by piece.
pub struct Printer {
    out: File,
    held: String,
    /// The reader has seen enough.
    is_over: bool,
}

impl Printer {
    /// So many bytes are written at once.
    const HELD: usize = 64 << 10;

    /// Nothing is written yet.
    ///
    /// # Errors
    /// If standard output is closed.
    pub fn new() -> Result<Printer> {
        Ok(Printer { out: fd::stdout()?, held: String::new(), is_over: false })
    }

    /// Adds to what is written.
    ///
    /// # Errors
    /// As [`print()`].
    pub fn put(&mut self, text: &str) -> Result<()> {
        self.held.push_str(text);
        if self.held.len() < Printer::HELD { Ok(()) } else { self.flush() }
    }

    /// Writes what is left.
    ///
    /// # Errors
    /// As [`print()`].
    pub fn finish(mut self) -> Result<()> {
        self.flush()
    }

    fn flush(&mut self) -> Result<()> {
        let held = std::mem::take(&mut self.held);
        if self.is_over {
            return Ok(());
        }
        match fd::write_all(&self.out, held.as_bytes()) {
            Err(e) if e.os_error() == Some(Errno::EPIPE as i32) => self.is_over = true,
            other => other.doing(|| "writing to standard output")?,
        }
        Ok(())
    }
}

/// Data for standard output.
///
/// # Errors
/// If it is closed or cannot be written, or a signal asks to stop; but a reader that has seen enough is none.
pub fn print(text: &str) -> Result<()> {
    let mut out = Printer::new()?;
    out.put(text)?;
    out.finish()
}
