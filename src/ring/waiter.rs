//! A thread that sleeps until the other side wakes it.

use std::sync::OnceLock;

use crate::{
    bounds::NEVER,
    sync::{self, AtomicU64, Ordering, Thread, fence},
};

/// A thread that may sleep on the ring.
pub struct Waiter {
    /// What it sleeps for, [`NEVER`] while it is awake. The consumer sleeps for the number of a
    /// block, a producer for the offset that must come into the window.
    pub need: AtomicU64,
    /// Who it is, once it has registered.
    pub thread: OnceLock<Thread>,
}

impl Waiter {
    /// Awake.
    pub fn new() -> Waiter {
        Waiter { need: AtomicU64::new(NEVER), thread: OnceLock::new() }
    }

    /// Wakes the thread, if it is known.
    pub fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// Sleeps until `ready()`, which is asked again after each wake-up. `what` is published for
    /// the other side to find.
    pub fn sleep_until(&self, what: u64, ready: impl Fn() -> bool) {
        loop {
            self.need.store(what, Ordering::Relaxed);
            // Partner: the fences in `Shared::publish` and `Consumer::release`.
            fence(Ordering::SeqCst);
            if ready() {
                break;
            }
            sync::park();
        }
        self.need.store(NEVER, Ordering::Relaxed);
    }
}
