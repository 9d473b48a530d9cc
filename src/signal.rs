//! SIGINT and SIGTERM: noticed by a thread of their own, told to whoever waits.
//!
//! Both are blocked in every thread and read from a signalfd (signalfd(2)). When one arrives, the
//! hooks run once (they end HTTP requests), [`requested`] says so from then on, and the main thread
//! gets SIGUSR1 again and again, so that no blocking call outlives the request: its handler does
//! nothing, but is installed without SA_RESTART, so that the call ends with EINTR (signal(7)). A
//! second signal ends the process at once.

use std::{
    os::{fd::AsFd, unix::process::CommandExt},
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI32, Ordering},
    },
    thread,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        pthread::{Pthread, pthread_kill, pthread_self},
        signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction},
        signalfd::{SfdFlags, SignalFd},
    },
};

use crate::error::{Context, Error, ErrorKind, Result};

static ARRIVED: AtomicI32 = AtomicI32::new(0);
static HUNG_UP: AtomicBool = AtomicBool::new(false);
static HOOKS: Mutex<Vec<Box<dyn Fn() + Send>>> = Mutex::new(Vec::new());

/// Names a thread whose blocking call can be interrupted.
#[derive(Clone, Copy, Debug)]
pub struct ThreadId(Pthread);

// SAFETY: it is a name that only pthread_kill(3) takes, from any thread; nothing is reached through it.
// (musl declares it as a pointer, which Rust keeps on one thread.)
unsafe impl Send for ThreadId {}
// SAFETY: as above.
unsafe impl Sync for ThreadId {}

impl ThreadId {
    /// The calling thread.
    pub fn current() -> ThreadId {
        ThreadId(pthread_self())
    }

    /// Ends a blocking call of the thread with EINTR. The thread must not have been joined.
    pub fn interrupt(self) {
        let _ = pthread_kill(self.0, Signal::SIGUSR1);
    }
}

/// Tells that a run is given up. Clones tell of the same run.
#[derive(Clone, Debug, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    /// The run is given up, from now on.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether the run is given up.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// For whoever was interrupted in a blocking call: whether to go on.
    ///
    /// # Errors
    /// If a signal asks to stop, or the run is given up.
    pub fn check(&self) -> Result<()> {
        check()?;
        if self.is_cancelled() {
            return Err(Error::new("the run was given up"));
        }
        Ok(())
    }
}

/// Makes the process ready. Call it on the main thread, before any other thread runs.
///
/// # Errors
/// If the kernel refuses a signal handler, a signalfd, or a thread.
pub fn install() -> Result<()> {
    allow_interrupts()?;
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]);
    signals.thread_block().doing(|| "blocking signals")?;
    let fd = SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
        .doing(|| "opening a signalfd")?;
    let main = ThreadId::current();
    thread::Builder::new()
        .name("signals".into())
        .stack_size(64 << 10)
        .spawn(move || listen(&fd, main))
        .doing(|| "starting a thread")?;
    Ok(())
}

/// From now on [`ThreadId::interrupt`] ends blocking calls, and not the process.
///
/// # Errors
/// If the kernel refuses the handler.
pub fn allow_interrupts() -> Result<()> {
    extern "C" fn nothing(_: i32) {}
    let nothing = SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing at all, so it is async-signal-safe.
    unsafe {
        sigaction(Signal::SIGUSR1, &nothing)
            // A write beyond the limit of a file's size is to fail with EFBIG, as any other (setrlimit(2)).
            .and_then(|_| sigaction(Signal::SIGXFSZ, &nothing))
    }
    .doing(|| "installing a signal handler")
    .map(drop)
}

/// From now on SIGHUP is noted, and does not end the process.
///
/// # Errors
/// If the kernel refuses the handler.
pub fn catch_hangup() -> Result<()> {
    extern "C" fn note(_: i32) {
        HUNG_UP.store(true, Ordering::SeqCst);
    }
    let note = SigAction::new(SigHandler::Handler(note), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler only stores into an atomic, which is async-signal-safe (signal-safety(7)).
    unsafe { sigaction(Signal::SIGHUP, &note) }.doing(|| "installing a signal handler").map(drop)
}

/// Whether SIGHUP has arrived since this was asked last.
pub fn has_hung_up() -> bool {
    HUNG_UP.swap(false, Ordering::SeqCst)
}

fn listen(fd: &SignalFd, main: ThreadId) {
    loop {
        let timeout = if requested().is_some() { PollTimeout::from(20u8) } else { PollTimeout::NONE };
        let _ = poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], timeout);
        if let Ok(Some(signal)) = fd.read_signal() {
            let number = signal.ssi_signo as i32;
            if ARRIVED.swap(number, Ordering::SeqCst) != 0 {
                std::process::exit(128 + number);
            }
            HOOKS.lock().unwrap_or_else(|e| e.into_inner()).iter().for_each(|hook| hook());
        }
        if requested().is_some() {
            main.interrupt();
        }
    }
}

/// Lets a program that is to be started be ended by signals: those that are blocked here would be
/// blocked there.
pub fn unblocked(command: &mut Command) -> &mut Command {
    // SAFETY: between fork and exec it only calls pthread_sigmask, which is async-signal-safe
    // (signal-safety(7)) and allocates nothing.
    unsafe { command.pre_exec(|| Ok(SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]).thread_unblock()?)) }
}

/// The signal that has arrived, as a kind of error, if one has.
pub fn requested() -> Option<ErrorKind> {
    match ARRIVED.load(Ordering::SeqCst) {
        0 => None,
        n if n == Signal::SIGTERM as i32 => Some(ErrorKind::Terminated),
        _ => Some(ErrorKind::Interrupted),
    }
}

/// For whoever was interrupted: whether to go on.
///
/// # Errors
/// If a signal has arrived.
pub fn check() -> Result<()> {
    match requested() {
        Some(kind @ ErrorKind::Terminated) => Err(Error::new("terminated by SIGTERM").of(kind)),
        Some(kind) => Err(Error::new("interrupted by SIGINT").of(kind)),
        None => Ok(()),
    }
}

/// Runs `hook` when a signal arrives, or now if one has. Hooks live as long as the process.
pub fn on_request(hook: impl Fn() + Send + 'static) {
    let mut hooks = HOOKS.lock().unwrap_or_else(|e| e.into_inner());
    if requested().is_some() {
        hook();
    }
    hooks.push(Box::new(hook));
}
