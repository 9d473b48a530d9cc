//! Lines on standard error, and in a file if there is to be one, and the status lines that are redrawn
//! below them on a terminal.

use std::{
    fmt,
    fs::File,
    io::Write as _,
    path::Path,
    str::FromStr,
    sync::{
        Mutex,
        atomic::{AtomicU8, Ordering},
    },
    time::SystemTime,
};

use nix::fcntl::OFlag;

use crate::{
    error::{Context, Result, one_line},
    fd, signal,
};

/// How much is told. The numbers are those that `--verbosity` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Error = 0,
    Warn = 4,
    Info = 8,
    Debug = 12,
}

impl FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Level, String> {
        match text.to_ascii_lowercase().as_str() {
            "error" | "0" => Ok(Level::Error),
            "warn" | "4" => Ok(Level::Warn),
            "info" | "8" => Ok(Level::Info),
            "debug" | "12" => Ok(Level::Debug),
            _ => Err(format!("{text:?} is none of error, warn, info, debug (0, 4, 8, 12)")),
        }
    }
}

struct Status {
    /// The status lines that stand on the terminal now, as they were printed.
    drawn: String,
    /// A question stands there.
    asking: bool,
}

impl Status {
    /// Lines are cut at the terminal's edge (DECAWM off), since one that wraps cannot be redrawn.
    fn draw(&mut self, text: &str) {
        let text =
            if text.is_empty() { String::new() } else { format!("\x1b[?7l{}\x1b[?7h", text.replace('\n', "\r\n")) };
        print(&format!("{}{text}", self.taken_away()));
        self.drawn = text;
    }

    /// What takes the lines away: up to the first of them, and clear to the end of the screen.
    fn taken_away(&self) -> String {
        match self.drawn.matches('\n').count() {
            0 => "\r\x1b[K".into(),
            above => format!("\r\x1b[{above}A\x1b[J"),
        }
    }
}

static LEVEL: AtomicU8 = AtomicU8::new(Level::Warn as u8);
static STATUS: Mutex<Status> = Mutex::new(Status { drawn: String::new(), asking: false });

/// Where every line goes too.
static FILE: Mutex<Option<File>> = Mutex::new(None);

/// Appends every line that follows to the file at `path` too, each with the time.
///
/// # Errors
/// If it cannot be opened.
pub fn also_to(path: &Path) -> Result<()> {
    let file = fd::open(path, OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_CREAT);
    let file = file.doing(|| format!("opening the log {path:?}"))?;
    *FILE.lock().unwrap_or_else(|e| e.into_inner()) = Some(file);
    Ok(())
}

/// From now on so much is told.
pub fn set_level(level: Level) {
    LEVEL.store(level as u8, Ordering::Relaxed);
}

/// Whether lines of this level are told.
pub fn enabled(level: Level) -> bool {
    level as u8 <= LEVEL.load(Ordering::Relaxed)
}

/// Prints an error. Errors are always told.
pub fn error(what: impl fmt::Display) {
    line(format_args!("ace-dt: {what}"));
}

/// Prints a warning, unless only errors are wanted.
pub fn warn(what: impl fmt::Display) {
    if enabled(Level::Warn) {
        line(format_args!("ace-dt: warning: {what}"));
    }
}

/// Prints what an admin may want to know.
pub fn info(what: impl fmt::Display) {
    if enabled(Level::Info) {
        line(format_args!("ace-dt: {what}"));
    }
}

/// Prints what helps to find a fault.
pub fn debug(what: impl fmt::Display) {
    if enabled(Level::Debug) {
        line(format_args!("ace-dt: debug: {what}"));
    }
}

/// Prints one line, above the status line if there is one. Nowhere to print to is no failure.
pub fn line(what: fmt::Arguments) {
    let what = one_line(&what.to_string());
    note(&what);
    let status = STATUS.lock().unwrap_or_else(|e| e.into_inner());
    match status.drawn.as_str() {
        "" => print(&format!("{what}\n")),
        drawn => print(&format!("{}{what}\r\n{drawn}", status.taken_away())),
    }
}

/// So often a line is tried again after a signal.
const WAITS_MAX: usize = 10;

/// Writes to standard error, whatever interrupts it.
fn print(text: &str) {
    let (mut rest, mut waited) = (text.as_bytes(), 0);
    while !rest.is_empty() {
        match fd::write_once(std::io::stderr(), rest) {
            Ok(Some(n)) if n > 0 => rest = &rest[n..],
            Ok(None) if signal::requested().is_none() => {}
            // Nobody reads, and the process is to end.
            Ok(None) if waited < WAITS_MAX => waited += 1,
            Ok(_) | Err(_) => return,
        }
    }
}

/// A line for the file alone.
pub fn note(what: &str) {
    if let Some(file) = &mut *FILE.lock().unwrap_or_else(|e| e.into_inner()) {
        let time = httpdate::fmt_http_date(SystemTime::now());
        // The stream is worth more than what is told of it.
        let _ = file.write_all(format!("{time}: {what}\n").as_bytes());
    }
}

/// Draws the status lines anew, unless a question stands there; an empty text takes them away.
pub fn status(text: &str) {
    let mut status = STATUS.lock().unwrap_or_else(|e| e.into_inner());
    if !status.asking {
        status.draw(text);
    }
}

/// Keeps the status line away from a question on the terminal.
pub struct Asking(());

/// Takes the status line away, until what is returned is dropped.
pub fn asking() -> Asking {
    let mut status = STATUS.lock().unwrap_or_else(|e| e.into_inner());
    status.draw("");
    status.asking = true;
    Asking(())
}

impl Drop for Asking {
    fn drop(&mut self) {
        STATUS.lock().unwrap_or_else(|e| e.into_inner()).asking = false;
    }
}
