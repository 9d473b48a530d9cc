//! How a device was kept streaming. A stroke is what is written from one start to the next stop; on a
//! tape each start after a stop is a back-hitch, in which the drive stops, goes back and runs up again
//! (shoe-shining, if it happens all the time).

use std::time::Duration;

use crate::util::units::{grouped, human_size};

/// A drive that stops more often than each time it has taken so many bytes is told of.
const STROKE_WANTED: u64 = 10 << 30;

/// Figures over all strokes so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StreamingStats {
    /// How often the device was started.
    pub starts: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Blocks written.
    pub blocks: u64,
    /// Time in strokes.
    pub writing: Duration,
    /// Before and between stats.
    pub waiting: Duration,
    /// Of the slowest stroke, in bytes a second.
    pub slowest: Option<u64>,
}

impl StreamingStats {
    /// Adds a stroke that was waited for so long.
    pub fn add(&mut self, waited: Duration, took: Duration, bytes: u64, blocks: u64) {
        self.starts += 1;
        self.bytes += bytes;
        self.blocks += blocks;
        self.writing += took;
        self.waiting += waited;
        let rate = rate(bytes, took);
        self.slowest = Some(self.slowest.map_or(rate, |slowest| slowest.min(rate)));
    }

    /// Bytes a second while the device was written to.
    pub fn rate(&self) -> u64 {
        rate(self.bytes, self.writing)
    }

    /// The report at the end.
    pub fn in_words(&self) -> String {
        let starts = if self.starts == 1 { "1 start".into() } else { format!("{} starts", grouped(self.starts)) };
        format!(
            "{} blocks, {starts} of the device, writing {:.1} s, waiting {:.1} s, in a stroke {}/s, in the slowest {}/s",
            grouped(self.blocks),
            self.writing.as_secs_f64(),
            self.waiting.as_secs_f64(),
            human_size(self.rate()),
            human_size(self.slowest.unwrap_or(0)),
        )
    }

    /// What to try if a drive had to stop more often than every 10 GiB. `buffer` is the size of the
    /// buffer, `mark` what it is filled to before a start, both in bytes; a mark of 0 is none.
    ///
    /// A stroke's length grows with the mark: the drive empties the buffer faster than it is filled.
    pub fn advice(&self, buffer: u64, mark: u64) -> Option<String> {
        let stops = self.starts.saturating_sub(1);
        if stops == 0 || self.bytes / stops >= STROKE_WANTED {
            return None;
        }
        let each = (self.bytes / self.starts).max(1);
        let times = if stops == 1 { "once".into() } else { format!("{} times", grouped(stops)) };
        let told = format!("the drive had to stop {times}, about every {}", human_size(each));
        // Room for strokes as long as is wanted, by the rule of three, and at the least for the mark.
        let factor = (STROKE_WANTED as f64 / each as f64).clamp(1.0, 1024.0);
        Some(match mark {
            0 => format!("{told}: give it a --buffer-size, such as 4Gi, which has a high-water mark"),
            _ if mark < buffer / 10 * 8 => format!("{told}: a higher --hwm, such as 90, makes longer strokes"),
            _ => {
                let gib = (buffer as f64 * factor / f64::from(1 << 30)).ceil();
                format!("{told}: a --buffer-size of {gib} GiB or more would make strokes of 10 GiB")
            }
        })
    }
}

fn rate(bytes: u64, time: Duration) -> u64 {
    (bytes as f64 / time.as_secs_f64().max(1e-6)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn the_report_has_every_figure() {
        let mut stats = StreamingStats::default();
        stats.add(S * 3, S * 2, 400 << 20, 400);
        stats.add(S, S, 100 << 20, 100);
        assert_eq!(
            stats.in_words(),
            "500 blocks, 2 starts of the device, writing 3.0 s, waiting 4.0 s, in a stroke 167 MiB/s, in the slowest 100 MiB/s"
        );
    }

    #[test]
    fn advice_is_given_where_strokes_are_short() {
        let mut stats = StreamingStats::default();
        stats.add(S, S, 1 << 30, 1024);
        assert_eq!(stats.advice(1 << 30, 9 << 27), None, "one stroke is none too many");
        stats.add(S, S, 1 << 30, 1024);
        let told = |buffer, mark| stats.advice(buffer, mark).unwrap();
        assert!(told(1 << 30, 15 << 26).ends_with("a --buffer-size of 10 GiB or more would make strokes of 10 GiB"));
        assert!(told(1 << 30, 1 << 29).contains("--hwm"));
        assert!(told(8 << 20, 0).contains("--buffer-size, such as 4Gi"));
        assert!(told(1, 0).starts_with("the drive had to stop once, about every 1.00 GiB"));
        let mut long = StreamingStats::default();
        (0..3).for_each(|_| long.add(S, S, 20 << 30, 1));
        assert_eq!(long.advice(1, 1), None);
    }
}
