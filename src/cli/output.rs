//! Standard output, and the version: what the program says of itself and hands on as data.

use std::io::Write;

use crate::error::{Error, Result};

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
/// If it cannot be written; but a reader that has seen enough is none.
pub fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::from_io(e).doing("writing to standard output"))
        }
        _ => Ok(()),
    }
}
