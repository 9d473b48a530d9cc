//! What is told of a run while it goes on: as an object, in words, and as lines of a terminal.

use serde::Serialize;

use super::{
    run_record::RunFigures,
    status_lines::{RunRates, StatusLines, bar, speaks_utf8},
};
use crate::{
    registry::transport::retry,
    util::units::{counted, human_size, human_time},
};

/// One event, as `--progress json` and `--debug` write it. Sizes in bytes, times in seconds.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum ProgressEvent {
    /// Manifests are fetched.
    Resolving {
        /// How many there are.
        sources: usize,
        /// So many of them are resolved.
        resolved: usize,
        /// So many.
        manifests: usize,
    },
    /// A stream goes to a device.
    Writing {
        /// What the device has taken.
        accepted: u64,
        /// Of the whole.
        total: Option<u64>,
        /// What came in.
        received: u64,
        /// Bytes a second, in and out.
        rate_in: u64,
        /// And out.
        rate: u64,
        /// Time until the end.
        left: Option<u64>,
        /// In the buffer.
        fill: u64,
        /// What the buffer holds.
        capacity: u64,
        /// `writing`, `waiting` or `syncing`.
        device: &'static str,
        /// Since the beginning.
        elapsed: f64,
        /// For the lines that are redrawn.
        #[serde(skip)]
        figures: RunFigures,
    },
    /// An archive is read.
    Reading {
        /// So much.
        read: u64,
        /// Of the whole.
        total: Option<u64>,
        /// Since the beginning.
        elapsed: f64,
    },
    /// Content goes to a registry.
    Pushing {
        /// So many.
        blobs: usize,
        /// Of so many.
        of: usize,
        /// So many.
        manifests: usize,
        /// So much.
        bytes: u64,
        /// Of the whole.
        total: u64,
    },
    /// All of it is there.
    Pushed {
        /// So many.
        blobs: usize,
        /// So many were there.
        spared: usize,
        /// So many.
        manifests: usize,
        /// So much.
        bytes: u64,
    },
    /// An archive is delivered.
    Delivering {
        /// Of the archive.
        read: u64,
        /// Of the whole.
        total: Option<u64>,
        /// Blobs that were sent, and that were there.
        sent: usize,
        /// Blobs that were there.
        present: usize,
        /// So many.
        manifests: usize,
        /// Sent.
        bytes: u64,
        /// Since the beginning.
        elapsed: f64,
    },
    /// It was.
    Delivered {
        /// Blobs that were sent.
        sent: usize,
        /// Blobs that were there.
        present: usize,
        /// So many.
        manifests: usize,
        /// So much.
        bytes: u64,
        /// How often the reader of a stream waited because the buffer was full.
        waits: u64,
        /// Since the beginning.
        elapsed: f64,
    },
    /// A stream was written.
    Done {
        /// What the device has taken.
        accepted: u64,
        /// Where this run began.
        from: u64,
        /// And out.
        rate: u64,
        /// How often the device was started, and the blocks that it took.
        starts: u64,
        /// Blocks that it took.
        blocks: u64,
        /// Seconds in which it was written to, and in which it waited.
        writing: f64,
        /// And in which it waited.
        waiting: f64,
        /// Bytes a second of a stroke, and of the slowest.
        stroke_rate: u64,
        /// Of the slowest.
        slowest: u64,
        /// Since the beginning.
        elapsed: f64,
        /// The report in words, for people.
        #[serde(skip)]
        report: Option<String>,
    },
}

impl ProgressEvent {
    /// The lines that are redrawn.
    pub fn on_terminal(&self, lines: &StatusLines) -> String {
        match self {
            ProgressEvent::Writing { rate_in, rate, left, figures, .. } => {
                let rates = RunRates { received: *rate_in, sent: *rate, left: *left };
                lines.of_stream(figures, rates, retry::count())
            }
            ProgressEvent::Reading { read, total: Some(total), elapsed } => {
                let figures = RunFigures { sent: *read, total: Some(*total), ..RunFigures::default() };
                let rate = human_size((*read as f64 / elapsed.max(1e-3)) as u64);
                format!("{}, {rate}/s", bar(&figures, speaks_utf8()))
            }
            ProgressEvent::Delivering { read, total: Some(total), .. } => {
                let figures = RunFigures { sent: *read, total: Some(*total), ..RunFigures::default() };
                let (words, retries) = (self.in_words(), retry::count());
                let behind = words.split_once(", sent ").map_or(words.as_str(), |(_, behind)| behind);
                let retries = if retries > 0 { format!(", {}", counted(retries, "retry")) } else { String::new() };
                format!("{}\nsent {behind}{retries}", bar(&figures, speaks_utf8()))
            }
            _ => self.in_words(),
        }
    }

    /// A line for people.
    pub fn in_words(&self) -> String {
        match self {
            ProgressEvent::Resolving { sources, resolved, manifests } => {
                let (sources, manifests) = (counted(*sources, "source"), counted(*manifests, "manifest"));
                format!("resolving: {resolved} of {sources}, {manifests}")
            }
            ProgressEvent::Writing { accepted, total, rate_in, rate, left, fill, capacity, device, .. } => {
                let mut text = human_size(*accepted);
                if let Some(total) = total {
                    let percent = accepted * 100 / (*total).max(1);
                    text.push_str(&format!(" of {} ({percent} %)", human_size(*total)));
                }
                text.push_str(&format!(", in {}/s, out {}/s", human_size(*rate_in), human_size(*rate)));
                if let Some(left) = left {
                    text.push_str(&format!(", {} left", human_time(*left)));
                }
                let full = fill * 100 / (*capacity).max(1);
                text.push_str(&format!(", buffer {full} %, device {device}"));
                text
            }
            ProgressEvent::Reading { read, total, elapsed } => {
                let mut text = format!("read {}", human_size(*read));
                if let Some(total) = total {
                    let percent = read * 100 / (*total).max(1);
                    text.push_str(&format!(" of {} ({percent} %)", human_size(*total)));
                }
                let rate = *read as f64 / elapsed.max(1e-3);
                text.push_str(&format!(", {}/s", human_size(rate as u64)));
                text
            }
            ProgressEvent::Pushing { blobs, of, manifests, bytes, total } => {
                let percent = bytes * 100 / (*total).max(1);
                let (bytes, total) = (human_size(*bytes), human_size(*total));
                format!("pushing: {blobs} of {of} blobs, {manifests} manifests, {bytes} of {total} ({percent} %)")
            }
            ProgressEvent::Pushed { blobs, spared, manifests, bytes } => {
                let (bytes, sent) = (human_size(*bytes), blobs - spared);
                format!("{blobs} blobs and {manifests} manifests are there, {bytes}; {sent} blobs were sent")
            }
            ProgressEvent::Delivering { read, total, sent, present, manifests, bytes, elapsed } => {
                let mut text = format!("read {}", human_size(*read));
                if let Some(total) = total {
                    let percent = read * 100 / (*total).max(1);
                    text.push_str(&format!(" of {} ({percent} %)", human_size(*total)));
                }
                let rate = human_size((*bytes as f64 / elapsed.max(1e-3)) as u64);
                let bytes = human_size(*bytes);
                let (sent, manifests) = (counted(*sent, "blob"), counted(*manifests, "manifest"));
                text.push_str(&format!(", sent {sent} and {manifests}, {bytes}, {rate}/s"));
                text.push_str(&format!("; there already: {}", counted(*present, "blob")));
                text
            }
            ProgressEvent::Delivered { sent, present, manifests, bytes, waits, elapsed } => {
                let rate = human_size((*bytes as f64 / elapsed.max(1e-3)) as u64);
                let bytes = human_size(*bytes);
                let (sent, manifests) = (counted(*sent, "blob"), counted(*manifests, "manifest"));
                let mut text = format!("sent {sent} and {manifests}, {bytes} in {elapsed:.1} s, {rate}/s");
                text.push_str(&format!("; there already: {}", counted(*present, "blob")));
                if *waits > 0 {
                    text.push_str(&format!("; the buffer was full {}", counted(*waits, "time")));
                }
                text
            }
            ProgressEvent::Done { accepted, from, rate, elapsed, report, .. } => {
                let time = if *elapsed < 60.0 { format!("{elapsed:.1} s") } else { human_time(*elapsed as u64) };
                let rate = human_size(*rate);
                let text = match from {
                    0 => format!("wrote {} in {time}, {rate}/s", human_size(*accepted)),
                    from => {
                        let (more, all) = (human_size(accepted.saturating_sub(*from)), human_size(*accepted));
                        format!("wrote {more} more in {time}, {rate}/s, {all} in all")
                    }
                };
                match report {
                    Some(report) => format!("{text}; {report}"),
                    None => text,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_words() {
        let event = ProgressEvent::Writing {
            accepted: 1 << 30,
            total: Some(4 << 30),
            received: 1 << 30,
            rate_in: 80 << 20,
            rate: 100 << 20,
            left: Some(31),
            fill: 1,
            capacity: 4,
            device: "waiting",
            elapsed: 1.0,
            figures: RunFigures::default(),
        };
        assert_eq!(
            event.in_words(),
            "1.00 GiB of 4.00 GiB (25 %), in 80.0 MiB/s, out 100 MiB/s, 0:31 left, buffer 25 %, device waiting"
        );
    }
}
