//! Takes connections, a thread each, and answers what is asked on them.

use std::{
    io::{self, ErrorKind as IoErrorKind, Read, Write},
    net::{IpAddr, TcpListener, TcpStream},
    os::fd::AsFd,
    sync::{Arc, PoisonError, RwLock},
    thread,
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustls::ServerConfig;

use super::{
    access::PasswordFile,
    access_log::{AccessLog, LoggedRequest},
    connections::{ConnectionPlace, Connections},
    http::{ClientRequest, RequestReader},
    library::Library,
    routes::{AnswerBody, ServedAnswer, answer},
    sending::BlobPart,
    wire::Wire,
};
use crate::{
    error::{Context, Result},
    log, signal,
};

/// Connections that are open at a time, and requests that are answered at a time.
const OPEN_MAX: usize = 512;
const BUSY_MAX: usize = 256;
/// A connection without a request stays open for so long.
const IDLE: Duration = Duration::from_secs(30);
/// The head of a request comes within so long.
const HEAD: Duration = Duration::from_secs(10);
/// A client that takes nothing for so long is given up.
const TAKING: Duration = Duration::from_secs(30);
/// Requests that are in work when a signal asks to stop may take so long.
const ENDING: Duration = Duration::from_secs(10);
/// How often is looked whether a signal has arrived.
const TICK: u16 = 500;
/// Threads need little.
const STACK: usize = 256 << 10;

/// How it is served.
pub struct ServerOptions {
    /// Where clients come.
    pub listener: TcpListener,
    /// For connections that are encrypted.
    pub tls: Option<Arc<ServerConfig>>,
    /// Who may read; without it, everybody.
    pub access: Option<PasswordFile>,
    /// Where requests are noted.
    pub log: Option<AccessLog>,
}

/// A registry that is only read.
pub struct Server {
    options: ServerOptions,
    library: RwLock<Arc<Library>>,
    connections: Connections,
}

impl Server {
    /// One that serves `library`.
    pub fn new(options: ServerOptions, library: Library) -> Server {
        let connections = Connections::new(OPEN_MAX, BUSY_MAX);
        Server { options, library: RwLock::new(library.into()), connections }
    }

    /// Serves until a signal asks to stop. SIGHUP has everything opened anew by `reopen`; if that fails, what was served
    /// before stays.
    ///
    /// # Errors
    /// If no connection can be taken.
    pub fn run(&self, reopen: impl Fn() -> Result<Library>) -> Result<()> {
        self.options.listener.set_nonblocking(true).doing(|| "listening")?;
        thread::scope(|scope| {
            while signal::requested().is_none() {
                if signal::has_hung_up() {
                    self.reopen(&reopen);
                }
                let listener = self.options.listener.as_fd();
                let _ = poll(&mut [PollFd::new(listener, PollFlags::POLLIN)], PollTimeout::from(TICK));
                match self.options.listener.accept() {
                    Ok((socket, from)) => self.take(scope, socket, from.ip()),
                    Err(e) if e.kind() == IoErrorKind::WouldBlock || e.kind() == IoErrorKind::Interrupted => {}
                    // Descriptors or memory have run out for a while, or the client is gone again.
                    Err(e) => {
                        log::warn(format_args!("taking a connection: {e}"));
                        thread::sleep(Duration::from_millis(100));
                    }
                }
            }
            match self.connections.close(ENDING) {
                0 => {}
                left => log::warn(format_args!("{left} requests were not answered to their end")),
            }
        });
        Ok(())
    }

    fn reopen(&self, reopen: impl Fn() -> Result<Library>) {
        match reopen() {
            Ok(library) => {
                log::info(format_args!("{} images are served", library.images().len()));
                *self.library.write().unwrap_or_else(PoisonError::into_inner) = library.into();
            }
            Err(e) => log::error(e.after("what was served before is served on")),
        }
    }

    fn take<'s>(&'s self, scope: &'s thread::Scope<'s, '_>, socket: TcpStream, from: IpAddr) {
        let ready = socket.set_nonblocking(false).and_then(|()| socket.set_nodelay(true));
        let ready = ready.and_then(|()| socket.set_write_timeout(Some(TAKING)));
        let place = ready.and_then(|()| self.connections.admit(&socket));
        match place {
            Ok(Some(place)) => {
                let serve = move || self.serve(socket, from, &place);
                let started =
                    thread::Builder::new().name("connection".into()).stack_size(STACK).spawn_scoped(scope, serve);
                if let Err(e) = started {
                    log::warn(format_args!("starting a thread: {e}"));
                }
            }
            // The answer is not worth a wait.
            Ok(None) => {
                let _ = socket.set_nonblocking(true);
                let _ = ServedAnswer::busy().head.write(&mut &socket, 0, true);
            }
            Err(e) => log::debug(format_args!("a connection was lost: {e}")),
        }
    }

    fn serve(&self, socket: TcpStream, from: IpAddr, place: &ConnectionPlace) {
        let mut wire = match Wire::new(socket, self.options.tls.as_ref()) {
            Ok(wire) => wire,
            Err(e) => return log::warn(e),
        };
        let mut reader = RequestReader::default();
        while let Ok(goes_on) = self.serve_next(&mut wire, &mut reader, from, place) {
            if !goes_on {
                wire.linger();
                break;
            }
        }
    }

    /// Answers the next request. Returns whether another may follow.
    ///
    /// # Errors
    /// If the connection ends.
    fn serve_next(
        &self,
        wire: &mut Wire,
        reader: &mut RequestReader,
        from: IpAddr,
        place: &ConnectionPlace,
    ) -> io::Result<bool> {
        let mut head = HeadReader { wire, begun: None, idle: Instant::now() + IDLE, place };
        let read = reader.next(&mut head);
        let was_begun = head.begun.is_some();
        let request = match read {
            Ok(Some(request)) => request,
            Ok(None) => return Err(IoErrorKind::UnexpectedEof.into()),
            Err(e) if e.kind() == IoErrorKind::TimedOut && was_begun => {
                let answer = ServedAnswer::error(408, "UNSUPPORTED", "the request took too long");
                self.send(wire, &answer, false, true, place).0?;
                return Ok(false);
            }
            Err(e) => return Err(e),
        };
        if !place.begin() {
            let answer = ServedAnswer::busy();
            self.send(wire, &answer, false, true, place).0?;
            return Ok(false);
        }
        let mut user = None;
        let (answer, is_last, head_only) = match &request {
            Err(refusal) => (ServedAnswer::refusal(*refusal), true, false),
            Ok(request) => {
                let (answer, refused) = self.answer(request, &mut user);
                (answer, refused || request.is_last() || place.is_closing(), request.method == "HEAD")
            }
        };
        let (sent, bytes) = self.send(wire, &answer, head_only, is_last, place);
        place.end();
        if let Some(log) = &self.options.log {
            let text = request.as_ref().map_or(String::new(), |request| {
                let version = if request.is_old { "1.0" } else { "1.1" };
                format!("{} {} HTTP/{version}", request.method, request.target)
            });
            let (status, user) = (answer.head.status, user.as_deref());
            log.note(&LoggedRequest { from, user, request: &text, status, bytes });
        }
        sent.map(|()| !is_last)
    }

    /// What a request is answered with, and whether it ends the connection.
    fn answer(&self, request: &ClientRequest, user: &mut Option<String>) -> (ServedAnswer, bool) {
        if let Some(refusal) = request.refusal() {
            let is_write = !matches!(request.method.as_str(), "GET" | "HEAD");
            let library = Library::default();
            return (if is_write { answer(&library, request) } else { ServedAnswer::refusal(refusal) }, true);
        }
        if let Some(access) = &self.options.access {
            *user = access.user(request.field("authorization"));
            if user.is_none() {
                let mut answer = ServedAnswer::error(401, "UNAUTHORIZED", "a user and a password are needed");
                answer.head = answer.head.with("WWW-Authenticate", "Basic realm=\"ace-dt\"");
                return (answer, false);
            }
        }
        let library = self.library.read().unwrap_or_else(PoisonError::into_inner).clone();
        (answer(&library, request), false)
    }

    /// Sends an answer. Returns how many bytes of its body were sent, too.
    fn send(
        &self,
        wire: &mut Wire,
        answer: &ServedAnswer,
        head_only: bool,
        is_last: bool,
        place: &ConnectionPlace,
    ) -> (io::Result<()>, u64) {
        let mut sent = 0;
        let mut send = || {
            let mut head = Vec::new();
            answer.head.write(&mut head, answer.body.len(), is_last)?;
            if head_only || answer.head.status == 304 {
                return wire.write_all(&head).and_then(|()| wire.flush());
            }
            match &answer.body {
                AnswerBody::Bytes(bytes) => {
                    head.extend_from_slice(bytes);
                    wire.write_all(&head)?;
                    sent = bytes.len() as u64;
                }
                AnswerBody::Blob(digest, held, from, len) => {
                    wire.write_all(&head)?;
                    let mut part = BlobPart { digest, held, from: *from, len: *len, sent: 0 };
                    let outcome = part.send(wire, place);
                    sent = part.sent;
                    outcome?;
                }
            }
            wire.flush()
        };
        (send(), sent)
    }
}

impl ServedAnswer {
    /// There are too many connections or requests.
    fn busy() -> ServedAnswer {
        let mut answer = ServedAnswer::error(503, "TOOMANYREQUESTS", "there are too many requests; try again");
        answer.head = answer.head.with("Retry-After", "1");
        answer
    }
}

/// Reads the head of a request within its time.
struct HeadReader<'a, 'p> {
    wire: &'a mut Wire,
    /// When its first byte came.
    begun: Option<Instant>,
    /// Until when one may come.
    idle: Instant,
    place: &'a ConnectionPlace<'p>,
}

impl Read for HeadReader<'_, '_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.wire.socket().deadline = Some(self.begun.map_or(self.idle, |begun| begun + HEAD));
        let n = self.wire.read(into)?;
        if n > 0 && self.begun.is_none() {
            self.begun = Some(Instant::now());
            self.place.is_active();
        }
        Ok(n)
    }
}
