//! A destination that is given no more than so many bytes a second.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    error::{Error, Result},
    media::sink::{GivenUp, Sink, Volumes},
    signal,
};

/// What was not used of the rate can be made up for so long.
const SLACK: Duration = Duration::from_millis(100);
const LOOK: Duration = Duration::from_millis(50);

/// A sink, and the rate in bytes a second at which it is written to.
pub struct Paced {
    sink: Box<dyn Sink>,
    rate: u64,
    /// When the next block may be written.
    due: Instant,
}

impl Paced {
    pub fn new(sink: Box<dyn Sink>, rate: u64) -> Paced {
        Paced { sink, rate, due: Instant::now() }
    }
}

/// Time that so many bytes take at a rate in bytes a second.
pub fn time_of(bytes: usize, rate: u64) -> Duration {
    Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64)
}

impl Sink for Paced {
    fn begin(&mut self, block: usize, from: u64, keep: u64, expected: Option<u64>) -> Result<()> {
        self.sink.begin(block, from, keep, expected)
    }

    fn write_block(&mut self, block: &[u8], full: usize, given_up: GivenUp) -> Result<()> {
        let now = Instant::now();
        self.due = self.due.max(now.checked_sub(SLACK).unwrap_or(now));
        loop {
            let left = self.due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            signal::check()?;
            if given_up() {
                return Err(Error::new("the run was given up"));
            }
            thread::sleep(left.min(LOOK));
        }
        self.due += time_of(block.len(), self.rate);
        self.sink.write_block(block, full, given_up)
    }

    fn finish(&mut self) -> Result<()> {
        self.sink.finish()
    }

    fn accepted(&self) -> u64 {
        self.sink.accepted()
    }

    fn sure(&self) -> u64 {
        self.sink.sure()
    }

    fn cut(&mut self, length: u64) -> Result<()> {
        self.sink.cut(length)
    }

    fn name(&self) -> &str {
        self.sink.name()
    }

    fn volumes(&self) -> Volumes {
        self.sink.volumes()
    }
}
