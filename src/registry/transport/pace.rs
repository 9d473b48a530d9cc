//! How fast requests to one host may follow each other, when it has asked for patience: all threads of a run slow down
//! together, and speed comes back slowly.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Between two requests, after a host has asked for patience once.
const FIRST: Duration = Duration::from_millis(10);
/// And at the most.
const LONGEST: Duration = Duration::from_secs(1);
/// No host keeps all requests waiting for longer: the one that it has answered waits by itself.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Below it nothing is waited for.
const LEAST: Duration = Duration::from_millis(1);
/// Complaints within so long of each other are one: they are of requests that were sent together.
const TOGETHER: Duration = Duration::from_millis(200);

/// The pace of requests to one host.
#[derive(Debug, Default)]
pub struct Pace(Mutex<PaceState>);

#[derive(Debug, Default)]
struct PaceState {
    /// Between two requests.
    interval: Duration,
    /// No request is made before.
    next: Option<Instant>,
    /// When the host has last asked for patience.
    complained: Option<Instant>,
}

impl Pace {
    fn state(&self) -> std::sync::MutexGuard<'_, PaceState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the next request may be made, from now on.
    pub fn turn(&self) -> Duration {
        let (mut state, now) = (self.state(), Instant::now());
        let Some(next) = state.next else { return Duration::ZERO };
        let at = next.max(now);
        state.next = if state.interval.is_zero() && next <= now { None } else { Some(at + state.interval) };
        at - now
    }

    /// The host asks for patience: no request for so long, and then fewer.
    pub fn complained(&self, pause: Duration) {
        let (mut state, now, pause) = (self.state(), Instant::now(), pause.min(PAUSE_MAX));
        let is_new = state.complained.is_none_or(|before| now - before > TOGETHER);
        if is_new {
            state.interval = (state.interval * 2).clamp(FIRST, LONGEST);
            state.complained = Some(now);
        }
        state.next = Some(state.next.unwrap_or(now).max(now + pause));
    }

    /// The host has answered: it may be asked a little faster.
    pub fn answered(&self) {
        let mut state = self.state();
        if !state.interval.is_zero() {
            let faster = state.interval * 19 / 20;
            state.interval = if faster < LEAST { Duration::ZERO } else { faster };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_slow_down_together_and_speed_comes_back_slowly() {
        let pace = Pace::default();
        assert!(pace.turn().is_zero() && pace.turn().is_zero());
        pace.complained(Duration::from_secs(5));
        // Of another thread, at the same time.
        pace.complained(Duration::from_secs(1));
        let (first, second) = (pace.turn(), pace.turn());
        assert!(first > Duration::from_millis(4900) && first <= Duration::from_secs(5), "{first:?}");
        assert!(second - first > FIRST / 2 && second - first <= FIRST, "once slower: {first:?}, {second:?}");
        (0..10).for_each(|_| pace.answered());
        assert!(pace.state().interval > FIRST / 2, "not at once");
        (0..100).for_each(|_| pace.answered());
        assert!(pace.state().interval.is_zero());
    }
}
