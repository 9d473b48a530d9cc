//! Takes connections, a thread each, and answers what is asked on them.

use std::{
    io::{self, ErrorKind as IoErrorKind, Read, Write},
    net::{IpAddr, TcpListener, TcpStream},
    os::fd::AsFd,
    panic::AssertUnwindSafe,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustls::ServerConfig;

use super::{
    access::PasswordFile,
    access_log::{AccessLog, LoggedRequest},
    connections::{ConnectionPlace, Connections},
    http::{ClientRequest, Refusal, RequestReader},
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
const TAKING: Duration = Duration::from_secs(10);
/// Requests that are in work when a signal asks to stop may take so long.
const ENDING: Duration = Duration::from_secs(10);
/// How often is looked whether a signal has arrived.
const TICK: u16 = 500;
/// Threads need little.
const STACK: usize = 256 << 10;

/// What is served, and how. All of it is opened anew on SIGHUP.
pub struct Served {
    /// The images.
    pub library: Library,
    /// For connections that are encrypted.
    pub tls: Option<Arc<ServerConfig>>,
    /// Who may read; without it, everybody.
    pub access: Option<PasswordFile>,
    /// Where requests are noted.
    pub log: Option<AccessLog>,
}

/// A registry that is only read.
pub struct Server {
    listener: TcpListener,
    served: RwLock<Arc<Served>>,
    connections: Connections,
}

/// A request that was read, or what it is refused with.
type ReadRequest = std::result::Result<ClientRequest, Refusal>;

impl Server {
    /// One to which clients come at `listener`.
    pub fn new(listener: TcpListener, served: Served) -> Server {
        let connections = Connections::new(OPEN_MAX, BUSY_MAX);
        Server { listener, served: RwLock::new(served.into()), connections }
    }

    /// Serves until a signal asks to stop. SIGHUP has everything opened anew by `reopen`; if that fails, what was served
    /// before stays.
    ///
    /// # Errors
    /// If no connection can be taken.
    pub fn run(&self, reopen: impl Fn() -> Result<Served> + Sync) -> Result<()> {
        self.listener.set_nonblocking(true).doing(|| "listening")?;
        let is_reopening = AtomicBool::new(false);
        thread::scope(|scope| {
            while signal::requested().is_none() {
                // It may take a while, and nobody waits for it.
                if !is_reopening.load(Ordering::SeqCst) && signal::has_hung_up() {
                    is_reopening.store(true, Ordering::SeqCst);
                    let (reopen, is_reopening) = (&reopen, &is_reopening);
                    scope.spawn(move || {
                        self.reopen(reopen);
                        is_reopening.store(false, Ordering::SeqCst);
                    });
                }
                let _ = poll(&mut [PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)], PollTimeout::from(TICK));
                match self.listener.accept() {
                    Ok((socket, from)) => self.take(scope, socket, from.ip()),
                    Err(e) if e.kind() == IoErrorKind::WouldBlock || e.kind() == IoErrorKind::Interrupted => {}
                    // Descriptors or memory have run out for a while, or the client is gone again.
                    Err(e) => {
                        log::warn(format_args!("taking a connection: {e}"));
                        self.connections.make_room();
                        thread::sleep(Duration::from_millis(100));
                    }
                }
            }
            let (unanswered, open) = self.connections.close(ENDING);
            match unanswered {
                0 => {}
                1 => log::warn("one request was not answered to its end"),
                left => log::warn(format_args!("{left} requests were not answered to their end")),
            }
            if open > 0 {
                // What keeps their threads nobody can end; nothing is written that could be lost.
                std::process::exit(0);
            }
        });
        Ok(())
    }

    fn reopen(&self, reopen: impl Fn() -> Result<Served>) {
        match reopen() {
            Ok(served) => *self.served.write().unwrap_or_else(PoisonError::into_inner) = served.into(),
            Err(e) => log::error(e.after("what was served before is served on")),
        }
    }

    fn served(&self) -> Arc<Served> {
        self.served.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn take<'s>(&'s self, scope: &'s thread::Scope<'s, '_>, socket: TcpStream, from: IpAddr) {
        let ready = socket.set_nonblocking(false).and_then(|()| socket.set_nodelay(true));
        if let Err(e) = ready.and_then(|()| socket.set_write_timeout(Some(TAKING))) {
            return log::debug(format_args!("a connection was lost: {e}"));
        }
        let (socket, served) = (Arc::new(socket), self.served());
        let Some(place) = self.connections.admit(&socket) else {
            // The answer is not worth a wait.
            if served.tls.is_none() && socket.set_nonblocking(true).is_ok() {
                let _ = ServedAnswer::busy().head.write(&mut &*socket, 0, true);
            }
            return;
        };
        let serve = move || {
            // One connection does not end the others.
            let served = AssertUnwindSafe(|| self.serve(socket, &served, from, &place));
            if std::panic::catch_unwind(served).is_err() {
                log::warn(format_args!("a connection of {from} was ended by an error in this program"));
            }
        };
        let started = thread::Builder::new().name("connection".into()).stack_size(STACK).spawn_scoped(scope, serve);
        if let Err(e) = started {
            log::warn(format_args!("starting a thread: {e}"));
        }
    }

    fn serve(&self, socket: Arc<TcpStream>, served: &Served, from: IpAddr, place: &ConnectionPlace) {
        let mut wire = match Wire::new(socket, served.tls.as_ref()) {
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
        let request = match (read, head.begun) {
            (Ok(Some(request)), _) => request,
            (Ok(None), _) => return Err(IoErrorKind::UnexpectedEof.into()),
            (Err(e), Some(_)) if e.kind() == IoErrorKind::TimedOut => {
                Err(Refusal { status: 408, why: "the request took too long" })
            }
            (Err(e), _) => return Err(e),
        };
        let served = self.served();
        // To check a password takes a while, and nobody else waits for it.
        let user = self.user(&served, &request);
        let has_begun = place.begin();
        let refusal = request.as_ref().map_or_else(|refusal| Some(*refusal), ClientRequest::refusal);
        let answer = match (&request, refusal, &user) {
            _ if !has_begun => ServedAnswer::busy(),
            (Err(refusal), ..) => ServedAnswer::refusal(*refusal),
            (Ok(request), Some(refusal), _) => ServedAnswer::refused(request, refusal),
            (Ok(_), None, Err(())) => ServedAnswer::unauthorized(),
            (Ok(request), None, Ok(_)) => answer(&served.library, request),
        };
        let goes_on = refusal.is_none() && request.as_ref().is_ok_and(|request| !request.is_last());
        let is_last = !has_begun || !goes_on || place.is_closing();
        let head_only = request.as_ref().is_ok_and(|request| request.method == "HEAD");
        let (sent, bytes, status) = send(wire, answer, head_only, is_last, place);
        let is_closing = has_begun && place.end();
        if let Some(log) = &served.log {
            let text = request.as_ref().map_or(String::new(), |request| {
                let version = if request.is_old { "1.0" } else { "1.1" };
                format!("{} {} HTTP/{version}", request.method, request.target)
            });
            let user = user.as_ref().ok().and_then(Option::as_deref);
            log.note(&LoggedRequest { from, user, request: &text, status, bytes });
        }
        sent.map(|()| !is_last && !is_closing)
    }

    /// Who sent a request; nobody, if everybody may read.
    fn user(&self, served: &Served, request: &ReadRequest) -> std::result::Result<Option<String>, ()> {
        match (&served.access, request) {
            (Some(access), Ok(request)) => access.user(request.field("authorization")).map(Some).ok_or(()),
            _ => Ok(None),
        }
    }
}

/// Sends an answer. Returns how many bytes of its body were sent, and its status, too.
fn send(
    wire: &mut Wire,
    answer: ServedAnswer,
    head_only: bool,
    is_last: bool,
    place: &ConnectionPlace,
) -> (io::Result<()>, u64, u16) {
    let mut answer = answer.with_common_fields();
    let mut head = Vec::new();
    let has_body = !head_only && answer.head.status != 304;
    let mut part = match &answer.body {
        AnswerBody::Blob(digest, held, from, len) if has_body => match BlobPart::open(digest, held, *from, *len) {
            Ok(part) => Some(part),
            Err(e) => {
                log::warn(format_args!("blob {digest} cannot be served: {e}"));
                let failed = ServedAnswer::error(500, "BLOB_UNKNOWN", "the blob cannot be read");
                answer = failed.with_common_fields();
                None
            }
        },
        _ => None,
    };
    let mut write = || {
        answer.head.write(&mut head, answer.body.len(), is_last)?;
        if let (AnswerBody::Bytes(bytes), true) = (&answer.body, has_body) {
            head.extend_from_slice(bytes);
        }
        wire.write_all(&head)?;
        if let Some(part) = &mut part {
            part.send(wire, place)?;
        }
        wire.flush()
    };
    let outcome = write();
    let sent = match (&answer.body, part) {
        (_, Some(part)) => part.sent(),
        (AnswerBody::Bytes(bytes), None) if has_body && outcome.is_ok() => bytes.len() as u64,
        _ => 0,
    };
    (outcome, sent, answer.head.status)
}

impl ServedAnswer {
    /// There are too many connections or requests.
    fn busy() -> ServedAnswer {
        let mut answer = ServedAnswer::error(503, "TOOMANYREQUESTS", "there are too many requests; try again");
        answer.head = answer.head.with("Retry-After", "1");
        answer
    }

    /// Only those are served who have a password.
    fn unauthorized() -> ServedAnswer {
        let why = "the user or the password is wrong, or there is none";
        let mut answer = ServedAnswer::error(401, "UNAUTHORIZED", why);
        answer.head = answer.head.with("WWW-Authenticate", "Basic realm=\"ace-dt\"");
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
