//! Finds out that one side of a pipeline is stuck.

use std::time::{Duration, Instant};

use crate::stream::pipeline::Snapshot;

/// A side of the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// It gave nothing, though there was room.
    Input,
    /// It took nothing, though it was offered some.
    Output,
}

/// Looks at a pipeline now and then.
pub struct Watchdog {
    input: Counter,
    output: Counter,
}

/// A count of bytes, and since when it stands still.
struct Counter {
    bytes: u64,
    since: Instant,
}

impl Counter {
    /// For how long it has stood still. A side that nobody waits for does not.
    fn still(&mut self, bytes: u64, waited_for: bool, now: Instant) -> Duration {
        if bytes != self.bytes || !waited_for {
            *self = Counter { bytes, since: now };
        }
        now - self.since
    }
}

impl Watchdog {
    /// Nothing has moved yet.
    pub fn new(now: Instant) -> Watchdog {
        Watchdog { input: Counter { bytes: 0, since: now }, output: Counter { bytes: 0, since: now } }
    }

    /// Which side, if any, has not moved for so long. While a tape is changed, or all is brought to the medium, no
    /// output is expected.
    pub fn look(&mut self, seen: &Snapshot, changing: bool, patience: Duration, now: Instant) -> Option<Side> {
        let input = self.input.still(seen.received, !seen.ended && seen.fill < seen.capacity, now);
        let output = self.output.still(seen.accepted, seen.writing && !seen.finishing && !changing, now);
        if output >= patience {
            Some(Side::Output)
        } else if input >= patience {
            Some(Side::Input)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn only_a_side_that_is_waited_for_is_stuck() {
        let begun = Instant::now();
        let seen = |received, accepted, fill, writing| Snapshot {
            received,
            accepted,
            fill,
            writing,
            capacity: 10,
            ..Snapshot::default()
        };
        let mut dog = Watchdog::new(begun);
        let mut look = |seconds, seen: Snapshot, changing| dog.look(&seen, changing, S * 5, begun + S * seconds);
        assert_eq!(look(4, seen(0, 0, 0, false), false), None);
        assert_eq!(look(5, seen(0, 0, 0, false), false), Some(Side::Input));
        assert_eq!(look(6, seen(9, 0, 9, false), false), None, "it moved");
        assert_eq!(look(9, seen(10, 0, 10, true), false), None);
        assert_eq!(look(13, seen(10, 0, 10, true), true), None, "a tape is changed");
        assert_eq!(look(17, seen(10, 0, 10, true), false), None);
        assert_eq!(look(18, seen(10, 0, 10, true), false), Some(Side::Output));
        assert_eq!(look(19, seen(10, 1, 9, true), false), None, "it moved");
        let finishing = Snapshot { finishing: true, ..seen(19, 19, 0, true) };
        assert_eq!(look(60, finishing, false), None, "it only syncs");
        let ended = Snapshot { ended: true, ..seen(10, 10, 0, false) };
        assert_eq!(look(99, ended, false), None, "nothing more is to come");
    }
}
