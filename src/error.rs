//! The one error a user sees: what was being done, on what, why it failed, and what to do.
//!
//! Modules make an [`Error`] where they know the most (the file, the offset, the image, the blob)
//! and callers add what they know with [`Context::doing`]. Printed, it is one line. Its [`ErrorKind`]
//! is for those who decide by it; the operating system's number and the error below stay with it.

use std::{fmt, io, sync::Arc, time::Duration};

/// How the process ends. The numbers are the exit statuses of the command line's contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// The operation failed.
    Failed = 1,
    /// The command line or the configuration was wrong; nothing was begun.
    Usage = 2,
    /// The same again may succeed, without anybody's help: sysexits(3)'s EX_TEMPFAIL.
    TryAgain = 75,
    /// SIGINT arrived.
    Interrupted = 130,
    /// SIGTERM arrived.
    Terminated = 143,
}

/// What sort of failure it is, for those who decide by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Anything else.
    Failed,
    /// The user asked for something that the tool does not take; nothing was begun.
    Usage,
    /// SIGINT ended the run.
    Interrupted,
    /// SIGTERM ended the run.
    Terminated,
    /// The medium has no more room: to go on takes another.
    Full,
    /// Content is not what its digest or its descriptor promises; what was written of it is of no use.
    Corrupt,
    /// There is no such content where it was looked for.
    Missing,
    /// No endpoint could be reached: another one may answer.
    Unreachable,
    /// A later try may fare better.
    Transient,
    /// Another run has what this one needs.
    Busy,
    /// The whole run may be made again, by whoever schedules it.
    TryAgain,
}

/// A result whose error is one for users.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error for users. `Display` gives `what: why (what to do)` on one line.
///
/// ```
/// use ace_dt::error::{Context, Error, ErrorKind};
///
/// let failed: std::io::Result<()> = Err(std::io::Error::from_raw_os_error(28));
/// let error = failed.doing(|| "writing \"a.tar\"").unwrap_err().hint("free some space");
/// assert_eq!(error.to_string(), "writing \"a.tar\": No space left on device (free some space)");
/// assert_eq!(error.os_error(), Some(28));
/// assert_eq!(error.kind(), ErrorKind::Failed);
/// assert!(std::error::Error::source(&error).is_some());
/// ```
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    /// Trying again can help, but not before so long.
    retry_after: Option<Duration>,
    /// The other side is away, or asks for patience.
    is_away: bool,
    /// It has never answered.
    was_never_met: bool,
    os_error: Option<i32>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// The operation failed, for the reason given.
    pub fn new(why: impl fmt::Display) -> Self {
        Error {
            kind: ErrorKind::Failed,
            message: one_line(&why.to_string()),
            hint: None,
            retry_after: None,
            is_away: false,
            was_never_met: false,
            os_error: None,
            source: None,
        }
    }

    /// The user asked for something that the tool does not take.
    pub fn usage(why: impl fmt::Display) -> Self {
        Error::new(why).of(ErrorKind::Usage)
    }

    /// The operation failed because of another library's error, in its words.
    pub fn caused_by(source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Error { message: one_line(&source.to_string()), source: Some(Arc::new(source)), ..Error::new("") }
    }

    /// An error of the operating system or of a reader. One of ours that has travelled through a
    /// [`std::io::Read`] comes out as it went in, its hint a part of the reason.
    pub fn from_io(error: io::Error) -> Self {
        match error.downcast::<Error>() {
            Ok(ours) => Error { message: ours.to_string(), hint: None, ..ours },
            Err(error) => Error {
                os_error: error.raw_os_error(),
                message: one_line(&io_reason(&error)),
                source: Some(Arc::new(error)),
                ..Error::new("")
            },
        }
    }

    /// An error number of the kernel, in nix's words.
    pub fn from_errno(errno: nix::errno::Errno) -> Self {
        let source = io::Error::from(errno);
        Error { os_error: Some(errno as i32), source: Some(Arc::new(source)), ..Error::new(errno.desc()) }
    }

    /// The same, of another kind; but a signal stays one.
    pub fn of(self, kind: ErrorKind) -> Self {
        if self.is_signal() { self } else { Error { kind, ..self } }
    }

    /// What the user can do about it. The first hint given is kept: it was given nearest the cause.
    pub fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint.get_or_insert_with(|| one_line(&hint.to_string()));
        self
    }

    /// What the user should rather do about it, whatever was said before.
    pub fn hint_instead(self, hint: impl fmt::Display) -> Self {
        Error { hint: Some(one_line(&hint.to_string())), ..self }
    }

    /// Trying again can help, after `pause` at the least.
    pub fn transient(mut self, pause: Duration) -> Self {
        self.retry_after = Some(pause);
        if self.kind == ErrorKind::Failed {
            self.kind = ErrorKind::Transient;
        }
        self
    }

    /// The other side is away, or asks for patience: that may take minutes.
    pub fn away(self) -> Self {
        Error { is_away: true, ..self }
    }

    /// The other side has never answered: to wait for minutes would hardly help.
    pub fn never_met(self) -> Self {
        Error { was_never_met: true, ..self }
    }

    /// Whether the other side has never answered.
    pub fn was_never_met(&self) -> bool {
        self.was_never_met
    }

    /// Whether the other side is away, or asks for patience.
    pub fn is_away(&self) -> bool {
        self.is_away
    }

    /// Trying again cannot help, or was tried enough.
    pub fn settled(mut self) -> Self {
        self.retry_after = None;
        if self.kind == ErrorKind::Transient {
            self.kind = ErrorKind::Failed;
        }
        self
    }

    /// Whether the same again may succeed, without anybody's help.
    pub fn may_pass(&self) -> bool {
        let is_passing =
            matches!(self.kind, ErrorKind::Transient | ErrorKind::Unreachable | ErrorKind::Busy | ErrorKind::TryAgain);
        is_passing || self.is_away || self.retry_after.is_some() || self.os_error == Some(nix::libc::EBUSY)
    }

    /// Trying the same again cannot help.
    pub fn for_good(self) -> Error {
        let kind = if self.may_pass() { ErrorKind::Failed } else { self.kind };
        Error { is_away: false, retry_after: None, os_error: None, ..self }.of(kind)
    }

    /// For a scheduler: what may pass is told by the exit status.
    pub fn for_scheduler(self) -> Error {
        if self.may_pass() { self.of(ErrorKind::TryAgain) } else { self }
    }

    /// What sort of failure it is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether it is of this kind.
    pub fn is(&self, kind: ErrorKind) -> bool {
        self.kind == kind
    }

    /// Whether a signal ended the run.
    pub fn is_signal(&self) -> bool {
        matches!(self.kind, ErrorKind::Interrupted | ErrorKind::Terminated)
    }

    /// How long to wait before trying again, if that can help.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The operating system's error number (errno(3)), if it gave one.
    pub fn os_error(&self) -> Option<i32> {
        self.os_error
    }

    /// Says what was being done when this happened.
    pub fn doing(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{}: {}", one_line(&what.to_string()), self.message);
        self
    }

    /// Says what stands after this happened.
    pub fn after(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{}; {}", self.message, one_line(&what.to_string()));
        self
    }

    /// The exit status of a process that ends with this.
    pub fn status(&self) -> ExitStatus {
        match self.kind {
            ErrorKind::Usage => ExitStatus::Usage,
            ErrorKind::Interrupted => ExitStatus::Interrupted,
            ErrorKind::Terminated => ExitStatus::Terminated,
            ErrorKind::TryAgain => ExitStatus::TryAgain,
            _ => ExitStatus::Failed,
        }
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

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}

impl From<Error> for io::Error {
    /// For readers: [`Error::from_io`] gives it back.
    fn from(error: Error) -> io::Error {
        io::Error::other(error)
    }
}

/// Adds what was being done to the error of any fallible call.
pub trait Context<T> {
    /// On failure, `what: ` comes before the reason. `what` is only built on failure.
    ///
    /// # Errors
    /// Those of the call itself.
    fn doing<D: fmt::Display>(self, what: impl FnOnce() -> D) -> Result<T>;
}

impl<T> Context<T> for Result<T> {
    fn doing<D: fmt::Display>(self, what: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|e| e.doing(what()))
    }
}

impl<T> Context<T> for io::Result<T> {
    fn doing<D: fmt::Display>(self, what: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|e| Error::from_io(e).doing(what()))
    }
}

impl<T> Context<T> for nix::Result<T> {
    fn doing<D: fmt::Display>(self, what: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|e| Error::from_errno(e).doing(what()))
    }
}

impl<T> Context<T> for serde_json::Result<T> {
    fn doing<D: fmt::Display>(self, what: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|e| Error::caused_by(e).doing(what()))
    }
}

/// The reason in an [`io::Error`], without the number that Rust appends.
pub fn io_reason(error: &io::Error) -> String {
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
        let failed: io::Result<()> = Err(io::Error::from_raw_os_error(28));
        let error = failed.doing(|| "writing \"a.tar\" at offset 512").unwrap_err();
        let error = error.doing("archiving").hint("free some space").hint("a later hint");
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

    #[test]
    fn an_error_that_has_travelled_through_a_reader_is_itself() {
        let corrupt = Error::new("wrong").of(ErrorKind::Corrupt).hint("fetch it again");
        let back = Error::from_io(io::Error::from(corrupt));
        assert!(back.is(ErrorKind::Corrupt));
        assert_eq!(back.hint("start again").to_string(), "wrong (fetch it again) (start again)");
    }

    #[test]
    fn transience_keeps_a_kind_that_says_more() {
        let pause = Duration::from_secs(1);
        assert!(Error::new("busy").transient(pause).is(ErrorKind::Transient));
        assert!(Error::new("busy").transient(pause).settled().is(ErrorKind::Failed));
        let nobody = Error::new("refused").of(ErrorKind::Unreachable).transient(pause);
        assert_eq!((nobody.kind(), nobody.retry_after()), (ErrorKind::Unreachable, Some(pause)));
        assert_eq!(nobody.settled().kind(), ErrorKind::Unreachable);
    }
}
