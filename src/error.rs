//! The one error a user sees: what was being done, on what, why it failed, and what to do.
//!
//! Modules make an [`Error`] where they know the most (the file, the offset, the image, the blob)
//! and callers add what they know with [`Context::doing`]. Printed, it is one line.

use std::{fmt, time::Duration};

/// How the process ends. The numbers are the exit statuses of the command line's contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The operation failed.
    Failed = 1,
    /// The command line or the configuration was wrong; nothing was begun.
    Usage = 2,
    /// SIGINT arrived.
    Interrupted = 130,
    /// SIGTERM arrived.
    Terminated = 143,
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error for users. `Display` gives `what: why (what to do)` on one line.
#[derive(Clone, Debug)]
pub struct Error {
    status: Status,
    message: String,
    hint: Option<String>,
    /// Trying again can help, but not before so long.
    again: Option<Duration>,
    /// Nobody was there who could have answered.
    unanswered: bool,
    /// What was written before this happened is of no use.
    spoilt: bool,
    /// The medium is full.
    full: bool,
}

impl Error {
    /// The operation failed, for the reason given.
    pub fn new(why: impl fmt::Display) -> Self {
        Error {
            status: Status::Failed,
            message: one_line(&why.to_string()),
            hint: None,
            again: None,
            unanswered: false,
            spoilt: false,
            full: false,
        }
    }

    /// The user asked for something that the tool does not take.
    pub fn usage(why: impl fmt::Display) -> Self {
        Error { status: Status::Usage, ..Error::new(why) }
    }

    /// A signal ended the run; `status` says which.
    pub fn signal(status: Status, why: impl fmt::Display) -> Self {
        Error { status, ..Error::new(why) }
    }

    /// What the user can do about it. The first hint given is kept: it was given nearest the cause.
    pub fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint.get_or_insert_with(|| one_line(&hint.to_string()));
        self
    }

    /// Trying again can help, after `pause` at the least.
    pub fn transient(mut self, pause: Duration) -> Self {
        self.again = Some(pause);
        self
    }

    /// Trying again cannot help, or was tried enough.
    pub fn settled(mut self) -> Self {
        self.again = None;
        self
    }

    /// How long to wait before trying again, if that can help.
    pub fn again(&self) -> Option<Duration> {
        self.again
    }

    /// Nobody was there who could have answered: somebody elsewhere may.
    pub fn unanswered(mut self) -> Self {
        self.unanswered = true;
        self
    }

    /// What was written of it before this happened is of no use.
    pub fn spoilt(mut self) -> Self {
        self.spoilt = true;
        self
    }

    pub fn is_spoilt(&self) -> bool {
        self.spoilt
    }

    /// The medium has no more room: to go on takes another.
    pub fn full(mut self) -> Self {
        self.full = true;
        self
    }

    pub fn is_full(&self) -> bool {
        self.full
    }

    pub fn is_unanswered(&self) -> bool {
        self.unanswered
    }

    /// Says what was being done when this happened.
    pub fn doing(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{}: {}", one_line(&what.to_string()), self.message);
        self
    }

    /// The same, as wrong usage: nothing was begun.
    pub fn into_usage(self) -> Self {
        Error { status: Status::Usage, ..self }
    }

    /// Says what stands after this happened.
    pub fn after(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{}; {}", self.message, one_line(&what.to_string()));
        self
    }

    pub fn status(&self) -> Status {
        self.status
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

/// Adds what was being done to the error of any fallible call.
pub trait Context<T> {
    /// On failure, `what: ` comes before the reason. `what` is only built on failure.
    fn doing<D: fmt::Display>(self, what: impl FnOnce() -> D) -> Result<T>;
}

impl<T> Context<T> for Result<T> {
    fn doing<D: fmt::Display>(self, what: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|e| e.doing(what()))
    }
}

impl<T> Context<T> for std::io::Result<T> {
    fn doing<D: fmt::Display>(self, what: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|e| Error::new(io_reason(&e)).doing(what()))
    }
}

impl<T> Context<T> for nix::Result<T> {
    fn doing<D: fmt::Display>(self, what: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|e| Error::new(e.desc()).doing(what()))
    }
}

impl<T> Context<T> for serde_json::Result<T> {
    fn doing<D: fmt::Display>(self, what: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|e| Error::new(e).doing(what()))
    }
}

/// The reason in an [`std::io::Error`], without the number that Rust appends.
pub fn io_reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error ") {
        Some(at) => text[..at].to_string(),
        None => text,
    }
}

/// Foreign text (file names, servers' answers) may hold line breaks and escape sequences: a
/// terminal must see neither.
pub fn one_line(text: &str) -> String {
    if !text.chars().any(char::is_control) {
        return text.to_string();
    }
    text.chars()
        .map(|c| match c {
            '\n' | '\t' | '\r' => ' ',
            c if c.is_control() => '\u{FFFD}',
            c => c,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_one_line_from_the_outermost_to_the_cause() {
        let failed: std::io::Result<()> = Err(std::io::Error::from_raw_os_error(28));
        let error = failed.doing(|| "writing \"a.tar\" at offset 512").unwrap_err();
        let error = error.doing("archiving").hint("free some space");
        assert_eq!(
            error.to_string(),
            "archiving: writing \"a.tar\" at offset 512: No space left on device (free some space)"
        );
        assert_eq!(error.status() as i32, 1);
    }

    #[test]
    fn foreign_text_cannot_reach_the_terminal_raw() {
        assert_eq!(Error::new("a\nb\x1b[2J").to_string(), "a b\u{FFFD}[2J");
    }
}
