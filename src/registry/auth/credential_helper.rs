//! Credential helpers: programs `docker-credential-NAME` that keep logins elsewhere
//! (docker-credential-helpers' protocol: one word as argument, the rest by standard input and
//! output).

use std::{
    fmt,
    io::{ErrorKind, Read, Write},
    process::{Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde_json::json;

use super::login::{Login, redacted};
use crate::{
    error::{Context, Error, Result},
    log, signal,
};

/// Longer than a person takes to unlock a key.
const PATIENCE: Duration = Duration::from_secs(120);
/// After so long it is told what is waited for.
const QUIET: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(20);
const ANSWER_MAX: u64 = 1 << 20;
/// What a helper says of a registry that it does not know.
const UNKNOWN: &str = "credentials not found";

/// One of these programs.
pub struct CredentialHelper {
    program: String,
}

impl fmt::Display for CredentialHelper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.program)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    secret: String,
}

impl CredentialHelper {
    /// The program `docker-credential-NAME`.
    pub fn new(name: &str) -> CredentialHelper {
        CredentialHelper { program: format!("docker-credential-{name}") }
    }

    /// The login for a server, if the helper has one.
    ///
    /// # Errors
    /// If the program is not there, does not answer, or fails.
    pub fn get(&self, server: &str) -> Result<Option<Login>> {
        let doing = || format!("asking {self} for the login at {server}");
        let (success, text) = self.run("get", server.as_bytes()).doing(doing)?;
        if !success {
            return match said(&text).to_ascii_lowercase().contains(UNKNOWN) {
                true => Ok(None),
                false => Err(Error::new(said(&text)).doing(doing())),
            };
        }
        let malformed = |e| Error::new(format!("what it says is {}", redacted(&e))).doing(doing());
        let Answer { username, secret } = serde_json::from_slice(&text).map_err(malformed)?;
        Ok(match username.as_str() {
            _ if secret.is_empty() => None,
            "<token>" => Some(Login::Identity(secret)),
            _ => Some(Login::Password { user: username, password: secret }),
        })
    }

    /// Has it keep a login.
    ///
    /// # Errors
    /// As [`CredentialHelper::get`].
    pub fn store(&self, server: &str, user: &str, password: &str) -> Result<()> {
        let text = json!({"ServerURL": server, "Username": user, "Secret": password}).to_string();
        self.tell("store", &text, password).doing(|| format!("storing the login at {server} by {self}"))
    }

    /// Has it forget the login for a server.
    ///
    /// # Errors
    /// As [`CredentialHelper::get`].
    pub fn erase(&self, server: &str) -> Result<()> {
        self.tell("erase", server, "\0").doing(|| format!("erasing the login at {server} by {self}"))
    }

    /// `secret` is not repeated in an error.
    fn tell(&self, verb: &str, text: &str, secret: &str) -> Result<()> {
        match self.run(verb, text.as_bytes())? {
            (true, _) => Ok(()),
            (false, text) => {
                Err(Error::new(if said(&text).contains(secret) { "it failed".into() } else { said(&text) }))
            }
        }
    }

    /// Whether it succeeded, and what it printed.
    fn run(&self, verb: &str, input: &[u8]) -> Result<(bool, Vec<u8>)> {
        if self.program.contains('/') {
            return Err(Error::new("the name of a helper holds no slash"));
        }
        let mut command = Command::new(&self.program);
        command.arg(verb).stdin(Stdio::piped()).stdout(Stdio::piped());
        let spawned = signal::unblocked(&mut command).spawn();
        let mut child = match spawned {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return Err(Error::new(format!("there is no program {self} in $PATH")));
            }
            other => other.doing(|| "starting it")?,
        };
        let (mut to, from) = (child.stdin.take().expect("it is a pipe"), child.stdout.take().expect("it is a pipe"));
        let input = input.to_vec();
        let (tell, told) = mpsc::channel();
        // The thread ends with the pipes.
        thread::spawn(move || {
            // One that does not read what it is told may still answer.
            let _ = to.write_all(&input);
            drop(to);
            let mut text = Vec::new();
            let read = from.take(ANSWER_MAX).read_to_end(&mut text);
            let _ = tell.send(read.map(|_| text));
        });
        let (until, mut told_of_waiting) = (Instant::now() + PATIENCE, false);
        let mut text = None;
        let outcome = loop {
            match told.recv_timeout(LOOK) {
                Ok(read) => text = Some(read),
                Err(RecvTimeoutError::Disconnected) => thread::sleep(LOOK),
                Err(RecvTimeoutError::Timeout) => {}
            }
            match (child.try_wait(), &text) {
                (Ok(Some(status)), Some(_)) => break Ok(status.success()),
                (Err(e), _) => break Err(e).doing(|| "waiting for it"),
                _ => {}
            }
            if signal::requested().is_some() {
                break signal::check().map(|()| false);
            }
            if !told_of_waiting && Instant::now() + PATIENCE > until + QUIET {
                log::warn(format_args!("waiting for {self}"));
                told_of_waiting = true;
            }
            if Instant::now() > until {
                break Err(Error::new(format!("it did not answer within {} s", PATIENCE.as_secs())));
            }
        };
        if outcome.is_err() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let text = text.transpose().doing(|| "reading what it says")?.unwrap_or_default();
        Ok((outcome?, text))
    }
}

/// The reason that a helper prints when it fails.
fn said(text: &[u8]) -> String {
    // What is no sentence may be a secret.
    if text.trim_ascii().starts_with(b"{") {
        return "it failed".into();
    }
    let text: String = String::from_utf8_lossy(text).trim().chars().take(200).collect();
    if text.is_empty() { "it failed and gave no reason".into() } else { text }
}
