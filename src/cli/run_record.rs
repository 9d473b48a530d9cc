//! How a run went, kept in little memory however long it takes: for its chart, its metrics, and the line that shows it.

use std::time::Duration;

use crate::{delivery::outcome::DeliveryTally, stream::pipeline::Snapshot};

/// So many spans are kept; beyond that two become one.
const SPANS_MAX: usize = 1024;
/// The first span.
const SPAN: Duration = Duration::from_millis(100);

/// What is known of a run at one time. Sizes in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunFigures {
    /// Since the run began.
    pub elapsed: Duration,
    /// What came in.
    pub received: u64,
    /// What went out, to a device or to registries.
    pub sent: u64,
    /// What is to go out in all, if that is known.
    pub total: Option<u64>,
    /// In the buffer, and how much it holds; 0 if there is none to be looked at.
    pub fill: u64,
    /// How much it holds.
    pub capacity: u64,
    /// What it is filled to before the device is started; 0 is no mark.
    pub mark: u64,
    /// The device is being written to.
    pub is_writing: bool,
    /// The device has all, and brings it to the medium.
    pub is_syncing: bool,
    /// How often it was started.
    pub starts: u64,
    /// Time in which it was written to, and in which it waited.
    pub writing: Duration,
    /// And in which it waited.
    pub waiting: Duration,
    /// All went well, and is over.
    pub is_done: bool,
}

impl RunFigures {
    /// Of an archive that is written, or a pipeline.
    pub fn of_stream(now: &Snapshot, total: Option<u64>) -> RunFigures {
        RunFigures {
            elapsed: now.elapsed,
            received: now.received,
            sent: now.accepted - now.from.min(now.accepted),
            total: total.map(|total| total.saturating_sub(now.from)),
            fill: now.fill,
            capacity: now.capacity,
            mark: now.mark,
            is_writing: now.writing,
            is_syncing: now.finishing,
            starts: now.stats.starts + u64::from(now.writing && !now.finishing),
            writing: now.stats.writing,
            waiting: now.stats.waiting,
            is_done: false,
        }
    }

    /// What the device does, in a word.
    pub fn device(&self) -> &'static str {
        match self {
            RunFigures { is_syncing: true, .. } => "syncing",
            RunFigures { is_writing: true, .. } => "writing",
            _ => "waiting",
        }
    }

    /// Of an archive that is delivered.
    pub fn of_delivery(now: &DeliveryTally, total: Option<u64>, elapsed: Duration) -> RunFigures {
        RunFigures { elapsed, received: now.read, sent: now.bytes, total, ..RunFigures::default() }
    }
}

/// A span of a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunSpan {
    /// The last figures in it.
    pub last: RunFigures,
    /// The least and the most that was in the buffer.
    pub least: u64,
    /// And the most.
    pub most: u64,
    /// How often somebody looked, and how often the device was written to then.
    looks: u32,
    writing: u32,
}

impl RunSpan {
    fn of(now: RunFigures) -> RunSpan {
        RunSpan { last: now, least: now.fill, most: now.fill, looks: 1, writing: now.is_writing.into() }
    }

    fn add(&mut self, next: &RunSpan) {
        self.last = next.last;
        (self.least, self.most) = (self.least.min(next.least), self.most.max(next.most));
        (self.looks, self.writing) = (self.looks + next.looks, self.writing + next.writing);
    }

    /// Several that follow each other as one.
    ///
    /// # Panics
    /// If there are none.
    pub fn merged(spans: &[RunSpan]) -> RunSpan {
        let mut all = spans[0];
        spans[1..].iter().for_each(|span| all.add(span));
        all
    }

    /// The share of the span in which the device was written to, from 0 to 1.
    pub fn writing(&self) -> f64 {
        f64::from(self.writing) / f64::from(self.looks.max(1))
    }
}

/// A run from its beginning.
#[derive(Debug)]
pub struct RunRecord {
    spans: Vec<RunSpan>,
    span: Duration,
}

impl Default for RunRecord {
    fn default() -> RunRecord {
        RunRecord { spans: Vec::new(), span: SPAN }
    }
}

impl RunRecord {
    /// Notes how it stands.
    pub fn note(&mut self, now: RunFigures) {
        let number = |figures: &RunFigures, span: Duration| figures.elapsed.as_nanos() / span.as_nanos().max(1);
        match self.spans.last_mut().filter(|last| number(&last.last, self.span) == number(&now, self.span)) {
            Some(last) => last.add(&RunSpan::of(now)),
            None => self.spans.push(RunSpan::of(now)),
        }
        while self.spans.len() > SPANS_MAX {
            self.span *= 2;
            let mut merged: Vec<RunSpan> = Vec::with_capacity(SPANS_MAX);
            for span in &self.spans {
                match merged.last_mut().filter(|last| number(&last.last, self.span) == number(&span.last, self.span)) {
                    Some(last) => last.add(span),
                    None => merged.push(*span),
                }
            }
            self.spans = merged;
        }
    }

    /// Its spans, in their order.
    pub fn spans(&self) -> &[RunSpan] {
        &self.spans
    }

    /// How it stood last.
    pub fn last(&self) -> RunFigures {
        self.spans.last().map(|span| span.last).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_run_needs_no_more_memory() {
        let mut record = RunRecord::default();
        let at = |n: u64| RunFigures {
            elapsed: Duration::from_millis(n * 100),
            received: n * 10,
            fill: n % 1000,
            is_writing: n.is_multiple_of(2),
            ..RunFigures::default()
        };
        (0..1_000_000).for_each(|n| record.note(at(n)));
        assert!((SPANS_MAX / 2..=SPANS_MAX).contains(&record.spans().len()), "{}", record.spans().len());
        assert_eq!(record.last().received, 9_999_990);
        assert!(record.spans().is_sorted_by_key(|span| span.last.elapsed));
        assert!(record.spans().iter().all(|span| span.most >= 990 && (span.writing() - 0.5).abs() < 0.01));
    }
}
