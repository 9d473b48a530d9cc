//! Standard output, and the version: what the program says of itself and hands on as data.

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

/// Data for standard output.
///
/// # Errors
/// If it is closed or cannot be written, or a signal asks to stop; but a reader that has seen enough is none.
pub fn print(text: &str) -> Result<()> {
    match fd::stdout().and_then(|out| fd::write_all(out, text.as_bytes())) {
        Err(e) if e.os_error() == Some(Errno::EPIPE as i32) => Ok(()),
        other => other.doing(|| "writing to standard output"),
    }
}
