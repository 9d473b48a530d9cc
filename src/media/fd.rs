//! Opens and waits for descriptors so that signals are heard.

use std::{fs::File, os::fd::AsFd, path::Path};

use nix::{
    errno::Errno,
    fcntl::{self, FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::stat::Mode,
};

use crate::{
    error::{Error, Result},
    signal,
};

/// open(2), which a signal that asks to stop ends: a FIFO keeps it waiting for the other side, and the
/// standard library would go on waiting.
///
/// # Errors
/// That of open(2), or a signal.
pub fn open(path: &Path, flags: OFlag) -> Result<File> {
    loop {
        match fcntl::open(path, flags | OFlag::O_CLOEXEC, Mode::from_bits_truncate(0o644)) {
            Err(Errno::EINTR) => signal::check()?,
            other => return other.map(File::from).map_err(Error::from_errno),
        }
    }
}

/// Waits a moment for a file that somebody has set to O_NONBLOCK.
pub fn wait_until(file: &File, ready: PollFlags) {
    let _ = poll(&mut [PollFd::new(file.as_fd(), ready)], PollTimeout::from(100u8));
}

/// Gives a pipe as much room as an unprivileged process may ask for (pipe(7)); for anything else
/// it does nothing.
pub fn enlarge_pipe(file: &File) {
    let _ = fcntl(file, FcntlArg::F_SETPIPE_SZ(1 << 20));
}
