//! Trying again: how often, how long, and with what pauses between.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    error::{Error, Result},
    log, signal,
};

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// That a server is away is told no more often.
const BETWEEN_WARNINGS: Duration = Duration::from_secs(1);
/// How often a pause looks whether the run has ended.
const LOOK: Duration = Duration::from_millis(20);

/// How much is borne before a request is given up.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// The longest silence on a line.
    pub idle: Duration,
    /// Tries after the first that make no progress.
    pub retries: u32,
    /// All tries together, as long as they make no progress.
    pub total: Duration,
    /// Tries of a server that is away or asks for patience, as long as they make no progress: they are not counted. Zero:
    /// they are as others.
    pub away: Duration,
}

/// How often something was tried again in this run.
static TRIED_AGAIN: AtomicU64 = AtomicU64::new(0);

/// How often something was tried again in this run.
pub fn count() -> u64 {
    TRIED_AGAIN.load(Ordering::Relaxed)
}

/// The tries of one request.
pub struct RetryBudget<'a> {
    policy: RetryPolicy,
    closed: &'a AtomicBool,
    failed: u32,
    begun: Instant,
}

impl<'a> RetryBudget<'a> {
    /// `closed` ends every pause.
    pub fn new(policy: RetryPolicy, closed: &'a AtomicBool) -> RetryBudget<'a> {
        RetryBudget { policy, closed, failed: 0, begun: Instant::now() }
    }

    /// There was progress: count anew.
    pub fn progressed(&mut self) {
        (self.failed, self.begun) = (0, Instant::now());
    }

    /// Pauses before the next try, longer each time, and tells of it; `about` begins the line.
    ///
    /// # Errors
    /// `failure` itself, if trying again cannot help or the patience is at its end.
    pub fn again(&mut self, about: &str, failure: Error) -> Result<()> {
        let Some(least) = failure.retry_after() else { return Err(failure) };
        self.failed += 1;
        let pause = least.max(jittered(FIRST_PAUSE.saturating_mul(1 << (self.failed - 1).min(16)).min(LONGEST_PAUSE)));
        let RetryPolicy { retries, total, away, .. } = self.policy;
        let time = self.begun.elapsed().saturating_add(pause);
        let given_up = match failure.is_away() && !failure.was_never_met() && !away.is_zero() {
            true => time > away,
            false => self.failed > retries || time > total,
        };
        if given_up || is_over(self.closed) {
            return Err(match self.failed {
                1 => failure,
                n => failure.hint(format_args!("given up after {n} tries")),
            });
        }
        TRIED_AGAIN.fetch_add(1, Ordering::Relaxed);
        let line = format!("{about}{failure}; trying again in {:.1} s", pause.as_secs_f64());
        // All that ask a server hear the same at the same time.
        match failure.is_away() && !is_news() {
            true => log::debug(line),
            false => log::warn(line),
        }
        match self::pause(pause, self.closed) {
            true => Ok(()),
            false => Err(failure),
        }
    }
}

/// Sleeps, unless the run ends before: then the answer is false.
pub fn pause(length: Duration, closed: &AtomicBool) -> bool {
    let until = Instant::now() + length;
    while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        if is_over(closed) {
            return false;
        }
        thread::sleep(left.min(LOOK));
    }
    true
}

/// Whether so long has passed since this was asked that a warning is in place again.
fn is_news() -> bool {
    static TOLD: Mutex<Option<Instant>> = Mutex::new(None);
    let (mut told, now) = (TOLD.lock().unwrap_or_else(PoisonError::into_inner), Instant::now());
    let is_news = told.is_none_or(|before| now - before >= BETWEEN_WARNINGS);
    if is_news {
        *told = Some(now);
    }
    is_news
}

fn is_over(closed: &AtomicBool) -> bool {
    closed.load(Ordering::Relaxed) || signal::requested().is_some()
}

/// Half to all of `pause`, so that many clients do not come back at once.
fn jittered(pause: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish() as u32;
    pause.mul_f64(0.5 + 0.5 * f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tries(retries: u32, total: Duration, closed: &AtomicBool) -> RetryBudget<'_> {
        RetryBudget::new(RetryPolicy { idle: Duration::ZERO, retries, total, away: Duration::ZERO }, closed)
    }

    #[test]
    fn limits() {
        let closed = AtomicBool::new(false);
        let busy = || Error::new("busy").transient(Duration::ZERO);
        let mut two = tries(2, Duration::from_secs(60), &closed);
        assert!(two.again("", Error::new("refused")).is_err(), "what cannot change is not tried again");
        assert!(two.again("", busy()).is_ok() && two.again("", busy()).is_ok());
        assert!(two.again("", busy()).unwrap_err().to_string().contains("given up after 3 tries"));
        two.progressed();
        assert!(two.again("", busy()).is_ok());
        let mut patient = tries(0, Duration::ZERO, &closed);
        patient.policy.away = Duration::from_secs(60);
        assert!(patient.again("", busy().away()).is_ok() && patient.again("", busy().away()).is_ok());
        assert!(patient.again("", busy()).is_err(), "what is not away is counted");
        let mut brief = tries(9, Duration::from_secs(1), &closed);
        assert!(brief.again("", Error::new("busy").transient(Duration::from_secs(2))).is_err());
        closed.store(true, Ordering::Relaxed);
        two.progressed();
        assert!(two.again("", busy()).is_err());
    }
}
