//! TCP below TLS and HTTP: connections whose answers are acknowledged at once, and of which a body that
//! nobody wants is not waited for.
//!
//! A server that sends head and body of a small answer in two packets waits for the acknowledgement of the
//! first before it sends the second (Nagle's algorithm, RFC 896), and the kernel delays acknowledgements by 40 ms
//! (tcp(7), TCP_QUICKACK). ureq's own transport shows nobody its socket.

use std::{
    cell::Cell,
    fmt,
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use ureq::{
    Error, Timeout,
    unversioned::transport::{
        Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, ShutdownHandle, Transport,
    },
};

use crate::fd;

/// The least time that one of several addresses of a host gets.
const LEAST_PER_ADDRESS: Duration = Duration::from_millis(10);

thread_local! {
    /// When this thread stops waiting for input.
    static UNTIL: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Reads from connections as long as `within`, whatever their own time-outs allow: this thread's, in `work`.
pub fn hurried<T>(within: Duration, work: impl FnOnce() -> T) -> T {
    let before = UNTIL.replace(Some(Instant::now() + within));
    let done = work();
    UNTIL.set(before);
    done
}

/// Opens a connection, unless a proxy's is there already.
#[derive(Debug)]
pub struct TcpConnector;

impl<In: Transport> Connector<In> for TcpConnector {
    type Out = Either<In, TcpTransport>;

    fn connect(&self, details: &ConnectionDetails, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        if let Some(below) = chained {
            return Ok(Some(Either::A(below)));
        }
        let stream = Arc::new(connect(&details.addrs, details.timeout)?);
        stream.set_nodelay(details.config.no_delay())?;
        (details.register_shutdown)(Arc::downgrade(&stream) as Weak<dyn ShutdownHandle>)?;
        let buffers = LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(Either::B(TcpTransport { stream, buffers })))
    }
}

/// Connects to the first address that answers. Each gets half of the time that is left, the last all of it.
fn connect(addresses: &[SocketAddr], timeout: NextTimeout) -> Result<TcpStream, Error> {
    use ErrorKind::{AddrNotAvailable, ConnectionRefused, HostUnreachable, NetworkDown, NetworkUnreachable, TimedOut};
    let until = timeout.not_zero().map(|after| Instant::now() + *after);
    let mut failed = io::Error::from(ConnectionRefused);
    for (n, address) in addresses.iter().enumerate() {
        let opened = match until {
            Some(until) => {
                let left = until.saturating_duration_since(Instant::now());
                let share = if n + 1 < addresses.len() { left / 2 } else { left };
                TcpStream::connect_timeout(address, share.max(LEAST_PER_ADDRESS))
            }
            None => TcpStream::connect(address),
        };
        match opened {
            Ok(stream) => return Ok(stream),
            Err(e) => failed = e,
        }
        let is_of_address = matches!(
            failed.kind(),
            ConnectionRefused | HostUnreachable | NetworkUnreachable | NetworkDown | AddrNotAvailable | TimedOut
        );
        if !is_of_address {
            break;
        }
    }
    Err(if failed.kind() == TimedOut { Error::Timeout(Timeout::Connect) } else { Error::Io(failed) })
}

/// A connection.
pub struct TcpTransport {
    /// Shared with whoever may shut it down.
    stream: Arc<TcpStream>,
    buffers: LazyBuffers,
}

impl fmt::Debug for TcpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TcpTransport").field(&self.stream.peer_addr().ok()).finish()
    }
}

impl Transport for TcpTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let timeout = timeout.for_write();
        self.stream.set_write_timeout(timeout.not_zero().map(|after| *after))?;
        let sent = (&*self.stream).write_all(&self.buffers.output()[..amount]);
        sent.map_err(|e| in_words(e, timeout.reason))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let timeout = timeout.for_read();
        let allowed = timeout.not_zero().map(|after| Instant::now() + *after);
        let until = [allowed, UNTIL.get()].into_iter().flatten().min();
        let input = self.buffers.input_append_buf();
        let (room, amount) = (input.len(), read(&self.stream, input, until).map_err(|e| in_words(e, timeout.reason))?);
        self.buffers.input_appended(amount);
        // What did not fill the room may be all that comes before it is acknowledged.
        if amount > 0 && amount < room {
            fd::acknowledge_at_once(&*self.stream);
        }
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        // Nothing may wait there: no answer is due.
        let is_silent = || -> io::Result<bool> {
            self.stream.set_nonblocking(true)?;
            let silent = matches!((&*self.stream).read(&mut [0]), Err(e) if e.kind() == ErrorKind::WouldBlock);
            self.stream.set_nonblocking(false)?;
            Ok(silent)
        };
        is_silent().unwrap_or(false)
    }
}

/// Reads what comes first, until then.
fn read(mut stream: &TcpStream, buffer: &mut [u8], until: Option<Instant>) -> io::Result<usize> {
    loop {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Err(ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(left)?;
        match stream.read(buffer) {
            Err(e) if e.kind() == ErrorKind::Interrupted && until.is_some() => {}
            other => return other,
        }
    }
}

/// A time-out is WouldBlock to read(2) and write(2).
fn in_words(error: io::Error, reason: Timeout) -> Error {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Error::Timeout(reason),
        _ => Error::Io(error),
    }
}
