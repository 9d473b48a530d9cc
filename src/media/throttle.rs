//! A destination that is given no more than so many bytes a second.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    error::Result,
    media::sink::{Sink, SinkStart, Volumes},
    signal::CancelToken,
};

/// What was not used of the rate can be made up for so long.
const SLACK: Duration = Duration::from_millis(100);
const LOOK: Duration = Duration::from_millis(50);

/// A sink, and the rate in bytes a second at which it is written to.
pub struct Throttle {
    sink: Box<dyn Sink>,
    rate: u64,
    /// When the next block may be written.
    due: Instant,
    cancel: CancelToken,
}

impl Throttle {
    /// Writes at most `rate` bytes a second.
    pub fn new(sink: Box<dyn Sink>, rate: u64) -> Throttle {
        Throttle { sink, rate, due: Instant::now(), cancel: CancelToken::default() }
    }
}

/// Time that so many bytes take at a rate in bytes a second.
pub fn time_of(bytes: usize, rate: u64) -> Duration {
    Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64)
}

impl Sink for Throttle {
    fn prepare(&mut self, start: &SinkStart) -> Result<()> {
        self.sink.prepare(start)
    }

    fn begin(&mut self, start: &SinkStart) -> Result<()> {
        self.cancel = start.cancel.clone();
        self.sink.begin(start)
    }

    fn write_block(&mut self, block: &[u8]) -> Result<()> {
        let now = Instant::now();
        self.due = self.due.max(now.checked_sub(SLACK).unwrap_or(now));
        loop {
            let left = self.due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            self.cancel.check()?;
            thread::sleep(left.min(LOOK));
        }
        self.due += time_of(block.len(), self.rate);
        self.sink.write_block(block)
    }

    fn finish(&mut self) -> Result<()> {
        self.sink.finish()
    }

    fn accepted(&self) -> u64 {
        self.sink.accepted()
    }

    fn synced(&self) -> u64 {
        self.sink.synced()
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
