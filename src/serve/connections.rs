//! The connections that are open, and which of them goes when there are too many.

use std::{
    collections::HashMap,
    net::{Shutdown, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// A client that has taken nothing for so long gives its place to another.
const STALE: Duration = Duration::from_secs(5);
/// So long a connection that was given up may take to end.
const ENDING: Duration = Duration::from_secs(1);

/// Open connections, and requests that are being answered.
pub struct Connections {
    open_max: usize,
    busy_max: usize,
    all: Mutex<OpenConnections>,
    /// One has ended.
    ended: Condvar,
}

#[derive(Default)]
struct OpenConnections {
    next: u64,
    open: HashMap<u64, OpenConnection>,
    /// No more requests are taken.
    is_closing: bool,
}

struct OpenConnection {
    socket: Arc<TcpStream>,
    /// A request is being answered.
    is_busy: bool,
    /// When something went over it.
    active: Instant,
    /// It was given up.
    is_given_up: bool,
}

/// A place among the open ones. It is free when this goes.
pub struct ConnectionPlace<'a> {
    connections: &'a Connections,
    number: u64,
}

impl Connections {
    /// At most `open_max` connections, and `busy_max` requests at a time.
    pub fn new(open_max: usize, busy_max: usize) -> Connections {
        Connections { open_max, busy_max, all: Mutex::default(), ended: Condvar::new() }
    }

    fn all(&self) -> MutexGuard<'_, OpenConnections> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a connection in. If there are too many, the one that was idle for longest goes; `None` if none is.
    pub fn admit(&self, socket: &Arc<TcpStream>) -> Option<ConnectionPlace<'_>> {
        let socket = socket.clone();
        let mut all = self.all();
        if all.open.len() >= self.open_max {
            all.give_up_one(OpenConnection::may_go);
            let is_full = |all: &mut OpenConnections| all.open.len() >= self.open_max;
            all = self.ended.wait_timeout_while(all, ENDING, is_full).unwrap_or_else(PoisonError::into_inner).0;
            if all.open.len() >= self.open_max {
                return None;
            }
        }
        all.next += 1;
        let number = all.next;
        let connection = OpenConnection { socket, is_busy: false, active: Instant::now(), is_given_up: false };
        all.open.insert(number, connection);
        Some(ConnectionPlace { connections: self, number })
    }

    /// Descriptors have run out: ends the connection that was idle for longest.
    pub fn make_room(&self) {
        self.all().give_up_one(OpenConnection::may_go);
    }

    /// Takes no more requests, and waits until those are answered that are in work, for at most so long. Returns how many
    /// are not, and how many connections do not end.
    pub fn close(&self, most: Duration) -> (usize, usize) {
        let mut all = self.all();
        all.is_closing = true;
        all.open.values_mut().filter(|one| !one.is_busy).for_each(OpenConnection::give_up);
        let is_open = |all: &mut OpenConnections| !all.open.is_empty();
        all = self.ended.wait_timeout_while(all, most, is_open).unwrap_or_else(PoisonError::into_inner).0;
        let left = all.busy();
        all.open.values_mut().for_each(OpenConnection::give_up);
        all = self.ended.wait_timeout_while(all, ENDING, is_open).unwrap_or_else(PoisonError::into_inner).0;
        (left, all.open.len())
    }
}

impl OpenConnections {
    /// How many requests are being answered.
    fn busy(&self) -> usize {
        self.open.values().filter(|one| one.is_busy).count()
    }

    /// Of the connections that may go, ends the one on which nothing went for longest.
    fn give_up_one(&mut self, may_go: impl Fn(&OpenConnection) -> bool) {
        let may_go = |one: &&mut OpenConnection| !one.is_given_up && may_go(one);
        if let Some(one) = self.open.values_mut().filter(may_go).min_by_key(|one| one.active) {
            one.give_up();
        }
    }
}

impl OpenConnection {
    /// Its client has a request in work, and takes nothing of the answer.
    fn is_stale(&self) -> bool {
        self.is_busy && self.active.elapsed() > STALE
    }

    fn may_go(&self) -> bool {
        !self.is_busy || self.is_stale()
    }

    fn give_up(&mut self) {
        self.is_given_up = true;
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

impl ConnectionPlace<'_> {
    /// A request is to be answered. `false`: there are too many.
    pub fn begin(&self) -> bool {
        let mut all = self.connections.all();
        if all.busy() >= self.connections.busy_max {
            // Whoever takes nothing goes, and the next finds its place.
            all.give_up_one(OpenConnection::is_stale);
            return false;
        }
        self.set(&mut all, true);
        true
    }

    /// The request was answered. Returns whether no further one is taken.
    pub fn end(&self) -> bool {
        let mut all = self.connections.all();
        self.set(&mut all, false);
        all.is_closing
    }

    /// Something went over the connection.
    pub fn is_active(&self) {
        let mut all = self.connections.all();
        all.open.get_mut(&self.number).into_iter().for_each(|one| one.active = Instant::now());
    }

    /// Whether it was given up: nobody waits for what is done for it.
    pub fn is_given_up(&self) -> bool {
        self.connections.all().open.get(&self.number).is_none_or(|one| one.is_given_up)
    }

    /// Whether no further request is taken.
    pub fn is_closing(&self) -> bool {
        self.connections.all().is_closing
    }

    fn set(&self, all: &mut OpenConnections, is_busy: bool) {
        if let Some(one) = all.open.get_mut(&self.number) {
            (one.is_busy, one.active) = (is_busy, Instant::now());
        }
    }
}

impl Drop for ConnectionPlace<'_> {
    fn drop(&mut self) {
        self.connections.all().open.remove(&self.number);
        self.connections.ended.notify_all();
    }
}
