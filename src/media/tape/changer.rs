//! From one tape to the next: a command changes it, or somebody at the terminal does.

use std::{
    fs::File,
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    os::fd::AsFd,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::{
    error::{Context, Error, Result},
    log, signal,
};

const LOOK: Duration = Duration::from_millis(50);
/// As much of a command's last words is kept.
const WORDS_MAX: usize = 500;

/// Who changes the tape.
#[derive(Clone, Debug, Default)]
pub struct Changer {
    /// Run by `/bin/sh -c` for each further volume; without one the terminal is asked.
    pub command: Option<String>,
    /// How many tapes are being changed.
    changing: Arc<AtomicUsize>,
}

/// One question at a time stands at the terminal.
static ASKING: Mutex<()> = Mutex::new(());

impl Changer {
    /// By this command, or by whoever is at the terminal.
    pub fn new(command: Option<String>) -> Changer {
        Changer { command, changing: Arc::default() }
    }

    /// Whether a tape is being changed, by this or a clone of it.
    pub fn is_changing(&self) -> bool {
        self.changing.load(Ordering::Relaxed) > 0
    }

    /// Whether there is anybody to change a tape.
    pub fn is_there(&self) -> bool {
        self.command.is_some() || terminal().is_ok()
    }

    /// Has volume number `volume` put into the drive `device`, which must be closed. `verb` says what
    /// it is for.
    ///
    /// # Errors
    /// If the command fails, with the last it said; if nobody answers, or somebody declines.
    pub fn change(&self, device: &Path, volume: usize, verb: &str) -> Result<()> {
        self.changing.fetch_add(1, Ordering::Relaxed);
        let changed = match &self.command {
            Some(command) => run(command, device, volume, verb),
            None => ask(device, volume, verb),
        };
        self.changing.fetch_sub(1, Ordering::Relaxed);
        changed.doing(|| format!("changing to volume {volume} in {device:?}"))
    }
}

fn run(command: &str, device: &Path, volume: usize, verb: &str) -> Result<()> {
    log::info(format_args!("volume {volume}: running {command:?}"));
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", command]).env("ACE_DT_VOLUME", volume.to_string()).env("ACE_DT_DEVICE", device);
    shell.env("ACE_DT_ACTION", verb);
    // Standard output may be carrying data.
    shell.stdin(Stdio::null()).stdout(std::io::stderr()).stderr(Stdio::piped());
    let mut child = signal::unblocked(&mut shell).spawn().doing(|| format!("starting {command:?}"))?;
    let from = child.stderr.take().expect("it is a pipe");
    // Ends with the pipe. It is not joined: a child that the command left behind may hold it open.
    let last = Arc::new(Mutex::new(String::new()));
    let words = last.clone();
    let teller = thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok).filter(|line| !line.trim().is_empty()) {
            log::line(format_args!("{line}"));
            *words.lock().unwrap_or_else(PoisonError::into_inner) = line.chars().take(WORDS_MAX).collect();
        }
    });
    let status = loop {
        match child.try_wait().doing(|| format!("waiting for {command:?}"))? {
            Some(status) => break status,
            None if signal::requested().is_some() => {
                let _ = child.kill();
                let _ = child.wait();
                signal::check()?;
            }
            None => thread::sleep(LOOK),
        }
    };
    for _ in 0..10 {
        if !teller.is_finished() {
            thread::sleep(LOOK);
        }
    }
    if status.success() {
        return Ok(());
    }
    let words = last.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let why = if words.is_empty() { String::new() } else { format!(": {words}") };
    Err(Error::new(format!("{command:?} ended with {status}{why}")))
}

fn terminal() -> std::io::Result<File> {
    File::options().read(true).write(true).open("/dev/tty")
}

fn ask(device: &Path, volume: usize, verb: &str) -> Result<()> {
    let _one = ASKING.lock().unwrap_or_else(PoisonError::into_inner);
    let nobody = "there is no --volume-command, and no terminal to ask at";
    let mut terminal = terminal().map_err(|_| Error::new(nobody))?;
    let _asking = log::asking();
    let question = format!(
        "ace-dt: put the tape of volume {volume} into {}, to {verb} it, and press Return (q and Return: give up): ",
        device.display()
    );
    terminal.write_all(question.as_bytes()).doing(|| "asking at the terminal")?;
    let (mut answer, mut piece) = (Vec::new(), [0; 64]);
    while !answer.contains(&b'\n') {
        signal::check()?;
        let mut ready = [PollFd::new(terminal.as_fd(), PollFlags::POLLIN)];
        if poll(&mut ready, PollTimeout::from(100u8)).unwrap_or(0) == 0 {
            continue;
        }
        match terminal.read(&mut piece) {
            Ok(0) => return Err(Error::new("the terminal was closed")),
            Ok(n) => answer.extend_from_slice(&piece[..n]),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e).doing(|| "asking at the terminal"),
        }
    }
    match answer.trim_ascii_start().first() {
        Some(b'q' | b'Q') => Err(Error::new("given up at the terminal")),
        _ => Ok(()),
    }
}
