//! A line for each request, in the common log format (as the Apache server's documentation has it):
//! `HOST - USER [DAY/MONTH/YEAR:TIME +0000] "REQUEST" STATUS BYTES`.

use std::{
    fs::File,
    io::Write as _,
    net::IpAddr,
    path::Path,
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use nix::fcntl::OFlag;

use crate::{
    error::{Context, Result},
    fd, log,
};

/// The log of requests.
pub struct AccessLog {
    file: Mutex<File>,
}

/// One request that was answered.
pub struct LoggedRequest<'a> {
    /// Who sent it.
    pub from: IpAddr,
    /// By which name, if access is restricted.
    pub user: Option<&'a str>,
    /// Method, target and version; nothing of a request that was none.
    pub request: &'a str,
    /// Of the answer.
    pub status: u16,
    /// Of the answer's body, as far as they were sent.
    pub bytes: u64,
}

impl AccessLog {
    /// Goes on with the file, or begins it.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(path: &Path) -> Result<AccessLog> {
        let flags = OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_CREAT;
        Ok(AccessLog { file: fd::open(path, flags).doing(|| format!("opening the log {path:?}"))?.into() })
    }

    /// Writes a line. That it cannot be written stops nothing.
    pub fn note(&self, request: &LoggedRequest) {
        let line = line(request, SystemTime::now());
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(e) = file.write_all(line.as_bytes()) {
            log::warn(format_args!("writing the log: {e}"));
        }
    }
}

fn line(logged: &LoggedRequest, time: SystemTime) -> String {
    let LoggedRequest { from, user, request, status, bytes } = logged;
    // `Fri, 27 Nov 2026 06:40:00 GMT`.
    let date = httpdate::fmt_http_date(time);
    let parts: Vec<&str> = date.split(' ').collect();
    let date = format!("{}/{}/{}:{} +0000", parts[1], parts[2], parts[3], parts[4]);
    let bytes = if *bytes == 0 { "-".into() } else { bytes.to_string() };
    format!("{from} - {} [{date}] \"{}\" {status} {bytes}\n", escaped(user.unwrap_or("-")), escaped(request))
}

/// Text that cannot be taken for anything else in a line.
fn escaped(text: &str) -> String {
    let escape = |c: char| match c {
        '"' | '\\' => format!("\\{c}"),
        c if c.is_control() || c == '\u{2028}' || c == '\u{2029}' => format!("\\x{:02x}", c as u32),
        c => c.to_string(),
    };
    text.chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn lines() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_766_400);
        let mut logged = LoggedRequest {
            from: "127.0.0.1".parse().unwrap(),
            user: None,
            request: "GET /v2/ HTTP/1.1",
            status: 200,
            bytes: 3,
        };
        let text = "127.0.0.1 - - [27/Nov/2026:08:00:00 +0000] \"GET /v2/ HTTP/1.1\" 200 3\n";
        assert_eq!(line(&logged, time), text);
        (logged.user, logged.request, logged.bytes) = (Some("a\"n"), "GET /\n\"", 0);
        assert!(line(&logged, time).ends_with("- a\\\"n [27/Nov/2026:08:00:00 +0000] \"GET /\\x0a\\\"\" 200 -\n"));
    }
}
