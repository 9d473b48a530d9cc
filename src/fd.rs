//! Files opened, and descriptors read and written, so that signals are heard, a standard stream that is
//! closed is told, and O_NONBLOCK changes nothing.

use std::{
    fs::File,
    io,
    net::TcpListener,
    os::fd::{AsFd, AsRawFd, FromRawFd},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use nix::{
    errno::Errno,
    fcntl::{self, FcntlArg, OFlag, fcntl},
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::stat::Mode,
    unistd,
};

use crate::{
    error::{Context, Error, Result},
    signal,
};

/// No list or configuration is longer.
const READ_MAX: usize = 1 << 30;

/// Whether standard input, output and error were closed when the process began.
static CLOSED: [AtomicBool; 3] = [const { AtomicBool::new(false) }; 3];

/// Looks at the standard streams before the Rust runtime puts `/dev/null` in the place of those that are closed.
#[used]
#[unsafe(link_section = ".init_array")]
static AT_START: extern "C" fn() = note_closed;

extern "C" fn note_closed() {
    for (fd, closed) in (0..).zip(&CLOSED) {
        // SAFETY: F_GETFD takes no pointer, and is defined for any number (fcntl(2)).
        closed.store(unsafe { libc::fcntl(fd, libc::F_GETFD) } == -1, Ordering::Relaxed);
    }
}

/// Standard input, as a file of its own.
///
/// # Errors
/// If it is closed.
pub fn stdin() -> Result<File> {
    standard(io::stdin()).doing(|| "opening standard input")
}

/// Standard output, as a file of its own.
///
/// # Errors
/// If it is closed.
pub fn stdout() -> Result<File> {
    standard(io::stdout()).doing(|| "opening standard output")
}

fn standard(stream: impl AsFd + AsRawFd) -> Result<File> {
    if CLOSED[stream.as_raw_fd() as usize].load(Ordering::Relaxed) {
        return Err(Error::from_io(io::Error::from_raw_os_error(libc::EBADF)));
    }
    stream.as_fd().try_clone_to_owned().map(File::from).map_err(Error::from_io)
}

/// open(2), which a signal that asks to stop ends: a FIFO keeps it waiting for the other side, and the
/// standard library would go on waiting.
///
/// # Errors
/// That of open(2), or a signal.
pub fn open(path: &Path, flags: OFlag) -> Result<File> {
    loop {
        match fcntl::open(path, flags | OFlag::O_CLOEXEC, Mode::from_bits_truncate(0o666)) {
            Err(Errno::EINTR) => signal::check()?,
            other => return other.map(File::from).map_err(Error::from_errno),
        }
    }
}

/// Opens a file to be read.
///
/// # Errors
/// As [`open`].
pub fn open_to_read(path: &Path) -> Result<File> {
    open(path, OFlag::O_RDONLY)
}

/// All that a file holds.
///
/// # Errors
/// If it cannot be opened or read, or a signal asks to stop.
pub fn read_file(path: &Path) -> Result<Vec<u8>> {
    read_to_end(&open_to_read(path)?)
}

/// All that there is to read of a list or a configuration.
///
/// # Errors
/// If a read fails, there is more than a gibibyte, or a signal asks to stop.
pub fn read_to_end(from: impl AsFd) -> Result<Vec<u8>> {
    let (mut all, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        match read_once(&from, &mut piece)? {
            Some(0) => return Ok(all),
            Some(n) if all.len() + n > READ_MAX => {
                return Err(Error::new(format!("it has more than {READ_MAX} bytes")));
            }
            Some(n) => all.extend_from_slice(&piece[..n]),
            None => signal::check()?,
        }
    }
}

/// Fills the buffer, as far as there is something to read.
///
/// # Errors
/// If a read fails, or a signal asks to stop.
pub fn fill(from: impl AsFd, buffer: &mut [u8]) -> Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match read_once(&from, &mut buffer[filled..])? {
            Some(0) => break,
            Some(n) => filled += n,
            None => signal::check()?,
        }
    }
    Ok(filled)
}

/// One read(2). One that was interrupted gives `None`, and so does one that had to wait.
///
/// # Errors
/// If it fails.
pub fn read_once(from: impl AsFd, into: &mut [u8]) -> Result<Option<usize>> {
    once(unistd::read(&from, into), from, PollFlags::POLLIN)
}

/// Writes all bytes.
///
/// # Errors
/// If a write fails or takes nothing, or a signal asks to stop.
pub fn write_all(to: impl AsFd, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match write_once(&to, bytes)? {
            Some(0) => return Err(Error::new("it took no bytes")),
            Some(n) => bytes = &bytes[n..],
            None => signal::check()?,
        }
    }
    Ok(())
}

/// One write(2). One that was interrupted gives `None`, and so does one that had to wait.
///
/// # Errors
/// If it fails.
pub fn write_once(to: impl AsFd, bytes: &[u8]) -> Result<Option<usize>> {
    once(unistd::write(&to, bytes), to, PollFlags::POLLOUT)
}

fn once(outcome: nix::Result<usize>, file: impl AsFd, ready: PollFlags) -> Result<Option<usize>> {
    match outcome {
        Ok(n) => Ok(Some(n)),
        Err(Errno::EINTR) => Ok(None),
        Err(Errno::EAGAIN) => {
            wait_until(file, ready);
            Ok(None)
        }
        Err(e) => Err(Error::from_errno(e)),
    }
}

/// Waits a moment for a file that somebody has set to O_NONBLOCK.
pub fn wait_until(file: impl AsFd, ready: PollFlags) {
    let _ = poll(&mut [PollFd::new(file.as_fd(), ready)], PollTimeout::from(100u8));
}

/// Acknowledges what came over a TCP connection at once (tcp(7), TCP_QUICKACK); for anything else it does nothing.
pub fn acknowledge_at_once(connection: impl AsFd) {
    let on: libc::c_int = 1;
    let length = size_of_val(&on) as libc::socklen_t;
    // SAFETY: the pointer is to an integer of that length, which outlives the call (setsockopt(2)).
    unsafe {
        libc::setsockopt(
            connection.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_QUICKACK,
            (&raw const on).cast(),
            length,
        )
    };
}

/// The listening socket that systemd passes to a service (sd_listen_fds(3)), if it does: descriptor 3.
///
/// # Errors
/// If there are several, or it is no socket that listens.
pub fn passed_listener() -> Result<Option<TcpListener>> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    if number("LISTEN_PID") != Some(std::process::id()) {
        return Ok(None);
    }
    let doing = || "taking the socket that systemd passes";
    match number("LISTEN_FDS") {
        Some(1) => {}
        Some(n) if n > 1 => return Err(Error::new(format!("there are {n}, and one is served")).doing(doing())),
        _ => return Ok(None),
    }
    // SAFETY: systemd passes the descriptor to this process, and nobody else takes it: this is called once.
    let listener = unsafe { TcpListener::from_raw_fd(3) };
    fcntl(&listener, FcntlArg::F_SETFD(fcntl::FdFlag::FD_CLOEXEC)).doing(doing)?;
    listener.local_addr().doing(doing)?;
    Ok(Some(listener))
}

/// Gives a pipe as much room as an unprivileged process may ask for (pipe(7)); for anything else
/// it does nothing.
pub fn enlarge_pipe(file: &File) {
    let _ = fcntl(file, FcntlArg::F_SETPIPE_SZ(1 << 20));
}
