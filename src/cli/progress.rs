//! Progress on standard error: redrawn on a terminal, a plain line now and then elsewhere.
//!
//! It tells what the device has accepted, never what producers have fetched.

use std::{
    collections::VecDeque,
    fs::File,
    io::{IsTerminal, Write},
    path::PathBuf,
    str::FromStr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use nix::fcntl::OFlag;
use serde::Serialize;

use crate::{
    copy::push_graph::PushTally,
    delivery::outcome::DeliveryTally,
    error::{Context, Result},
    fd, log,
    stream::pipeline::Snapshot,
    util::units::{human_size, human_time},
};

/// The rate is taken over so long a time.
const RATE_SPAN: Duration = Duration::from_secs(5);
const REDRAW: Duration = Duration::from_millis(200);
const LINE_EVERY: Duration = Duration::from_secs(10);
const JSON_EVERY: Duration = Duration::from_secs(1);

/// How progress is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProgressStyle {
    /// Redrawn on a terminal, plain elsewhere.
    #[default]
    Auto,
    /// A line every ten seconds.
    Plain,
    /// An object a line.
    Json,
}

impl FromStr for ProgressStyle {
    type Err = String;

    fn from_str(text: &str) -> Result<ProgressStyle, String> {
        match text {
            "auto" => Ok(ProgressStyle::Auto),
            "plain" => Ok(ProgressStyle::Plain),
            "json" => Ok(ProgressStyle::Json),
            _ => Err(format!("{text:?} is none of auto, plain, json")),
        }
    }
}

/// What the user wants to see.
#[derive(Clone, Debug, Default)]
pub struct ProgressOptions {
    /// Not at all.
    pub quiet: bool,
    /// Plain lines, even on a terminal.
    pub no_term: bool,
    /// As what.
    pub style: ProgressStyle,
    /// Where every event is written to, in `logs.txt`.
    pub debug: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    Nothing,
    Redrawn,
    Lines,
    Json,
}

/// Tells the user how a run goes. Any thread may tell it something.
pub struct Progress {
    shown: Shown,
    state: Mutex<ProgressState>,
}

struct ProgressState {
    events: Option<File>,
    due: Instant,
    /// Time since the start of writing, and bytes received and accepted by then.
    recent: VecDeque<(Duration, u64, u64)>,
}

/// One event, as `--progress json` and `--debug` write it. Sizes in bytes, times in seconds.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "camelCase", rename_all_fields = "camelCase")]
enum ProgressEvent {
    Resolving {
        sources: usize,
        resolved: usize,
        manifests: usize,
    },
    Writing {
        accepted: u64,
        total: Option<u64>,
        received: u64,
        /// Bytes a second, in and out.
        rate_in: u64,
        rate: u64,
        left: Option<u64>,
        fill: u64,
        capacity: u64,
        device: &'static str,
        elapsed: f64,
    },
    Reading {
        read: u64,
        total: Option<u64>,
        elapsed: f64,
    },
    Pushing {
        blobs: usize,
        of: usize,
        manifests: usize,
        bytes: u64,
        total: u64,
    },
    Pushed {
        blobs: usize,
        spared: usize,
        manifests: usize,
        bytes: u64,
    },
    Delivering {
        /// Of the archive.
        read: u64,
        total: Option<u64>,
        /// Blobs that were sent, and that were there.
        sent: usize,
        present: usize,
        manifests: usize,
        /// Sent.
        bytes: u64,
        elapsed: f64,
    },
    Delivered {
        sent: usize,
        present: usize,
        manifests: usize,
        bytes: u64,
        /// How often the reader of a stream waited because the buffer was full.
        waits: u64,
        elapsed: f64,
    },
    Done {
        accepted: u64,
        rate: u64,
        /// How often the device was started, and the blocks that it took.
        starts: u64,
        blocks: u64,
        /// Seconds in which it was written to, and in which it waited.
        writing: f64,
        waiting: f64,
        /// Bytes a second of a stroke, and of the slowest.
        stroke_rate: u64,
        slowest: u64,
        elapsed: f64,
        /// The report in words, for people.
        #[serde(skip)]
        report: Option<String>,
    },
}

impl Progress {
    /// Shows progress as the user wants it.
    ///
    /// # Errors
    /// If the file for the events cannot be created.
    pub fn new(options: &ProgressOptions) -> Result<Progress> {
        let shown = match options.style {
            _ if options.quiet => Shown::Nothing,
            ProgressStyle::Json => Shown::Json,
            ProgressStyle::Auto if !options.no_term && std::io::stderr().is_terminal() => Shown::Redrawn,
            _ => Shown::Lines,
        };
        let events = match &options.debug {
            Some(dir) => {
                std::fs::create_dir_all(dir).doing(|| format!("creating the directory {dir:?}"))?;
                let path = dir.join("logs.txt");
                let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC;
                Some(fd::open(&path, flags).doing(|| format!("creating {path:?}"))?)
            }
            None => None,
        };
        let first = match shown {
            Shown::Lines => LINE_EVERY,
            _ => Duration::ZERO,
        };
        let state = ProgressState { events, due: Instant::now() + first, recent: VecDeque::new() };
        Ok(Progress { shown, state: Mutex::new(state) })
    }

    /// Sources are being resolved.
    pub fn resolving(&self, resolved: usize, sources: usize, manifests: usize) {
        self.tell(false, |_| ProgressEvent::Resolving { sources, resolved, manifests });
    }

    /// Bytes are on their way; `total` is known from the plan.
    pub fn writing(&self, now: &Snapshot, total: Option<u64>) {
        self.tell(false, |state| {
            let (rate_in, rate) = state.rates(now);
            // A device that waits for the mark takes nothing: what comes in tells how long it will be.
            let (done, rate_left) = if now.writing { (now.accepted, rate) } else { (now.from + now.received, rate_in) };
            let left = total.and_then(|total| total.saturating_sub(done).checked_div(rate_left));
            ProgressEvent::Writing {
                accepted: now.accepted,
                total,
                received: now.received,
                rate_in,
                rate,
                left,
                fill: now.fill,
                capacity: now.capacity,
                device: if now.writing { "writing" } else { "waiting" },
                elapsed: now.elapsed.as_secs_f64(),
            }
        });
    }

    /// An archive is read; `total` is known of files.
    pub fn reading(&self, read: u64, total: Option<u64>, elapsed: Duration) {
        self.tell(false, |_| ProgressEvent::Reading { read, total, elapsed: elapsed.as_secs_f64() });
    }

    /// Blobs and manifests go to a registry.
    pub fn pushing(&self, now: PushTally, of: usize, total: u64) {
        let PushTally { blobs, manifests, bytes, .. } = now;
        // What had to be sent again counts once.
        self.tell(false, |_| ProgressEvent::Pushing { blobs, of, manifests, bytes: bytes.min(total), total });
    }

    /// All is in the registry.
    pub fn pushed(&self, all: PushTally) {
        let PushTally { blobs, spared, manifests, bytes } = all;
        self.tell(true, |_| ProgressEvent::Pushed { blobs, spared, manifests, bytes });
    }

    /// What an archive holds goes to a registry; `total` is known of files.
    pub fn delivering(&self, now: &DeliveryTally, total: Option<u64>, elapsed: Duration) {
        let DeliveryTally { sent, present, manifests, bytes, read, .. } = *now;
        let elapsed = elapsed.as_secs_f64();
        self.tell(false, |_| ProgressEvent::Delivering { read, total, sent, present, manifests, bytes, elapsed });
    }

    /// All that could be delivered is in the registry.
    pub fn delivered(&self, all: &DeliveryTally, elapsed: Duration) {
        self.clear();
        let DeliveryTally { sent, present, manifests, bytes, waits, .. } = *all;
        let elapsed = elapsed.as_secs_f64();
        self.tell(true, |_| ProgressEvent::Delivered { sent, present, manifests, bytes, waits, elapsed });
    }

    /// All is written. `report` says more in words.
    pub fn done(&self, last: &Snapshot, report: Option<String>) {
        self.clear();
        let stats = &last.stats;
        self.tell(true, |_| ProgressEvent::Done {
            accepted: last.accepted,
            rate: ((last.accepted - last.from) as f64 / last.elapsed.as_secs_f64().max(1e-3)) as u64,
            starts: stats.starts,
            blocks: stats.blocks,
            writing: stats.writing.as_secs_f64(),
            waiting: stats.waiting.as_secs_f64(),
            stroke_rate: stats.rate(),
            slowest: stats.slowest.unwrap_or(0),
            elapsed: last.elapsed.as_secs_f64(),
            report,
        });
    }

    /// Says something for whoever looks on; in the log if nobody does.
    pub fn say(&self, text: &str) {
        match self.shown {
            Shown::Nothing | Shown::Json => log::note(text),
            Shown::Redrawn | Shown::Lines => log::line(format_args!("{text}")),
        }
    }

    /// Takes the status line away, so that what follows stands alone.
    pub fn clear(&self) {
        if self.shown == Shown::Redrawn {
            log::status(String::new());
        }
    }

    fn tell(&self, at_once: bool, event: impl FnOnce(&mut ProgressState) -> ProgressEvent) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let due = at_once || self.shown != Shown::Nothing && Instant::now() >= state.due;
        if !due && state.events.is_none() {
            return;
        }
        let event = event(&mut state);
        if let Some(file) = &mut state.events {
            // Whoever asked for this can do without it; the archive cannot.
            let _ = serde_json::to_writer(&mut *file, &event)
                .map_err(std::io::Error::from)
                .and_then(|()| file.write_all(b"\n"));
        }
        if !due {
            return;
        }
        let every = match self.shown {
            Shown::Nothing => {
                log::note(&event.in_words());
                return;
            }
            Shown::Redrawn if at_once => {
                log::line(format_args!("{}", event.in_words()));
                REDRAW
            }
            Shown::Redrawn => {
                log::status(event.in_words());
                REDRAW
            }
            Shown::Lines => {
                log::line(format_args!("{}", event.in_words()));
                LINE_EVERY
            }
            Shown::Json => {
                log::line(format_args!("{}", serde_json::to_string(&event).expect("numbers and names only")));
                JSON_EVERY
            }
        };
        state.due = Instant::now() + every;
    }
}

impl ProgressState {
    /// Bytes a second that came in lately, and that the device took.
    fn rates(&mut self, now: &Snapshot) -> (u64, u64) {
        self.recent.push_back((now.elapsed, now.received, now.accepted));
        while self.recent.len() > 2 && now.elapsed - self.recent[1].0 >= RATE_SPAN {
            self.recent.pop_front();
        }
        let (time, received, accepted) =
            if self.recent.len() > 1 { self.recent[0] } else { (Duration::ZERO, 0, now.from) };
        let span = now.elapsed.saturating_sub(time).as_secs_f64();
        let rate = |bytes: u64| if span > 0.0 { (bytes as f64 / span) as u64 } else { 0 };
        (rate(now.received - received), rate(now.accepted - accepted))
    }
}

impl ProgressEvent {
    fn in_words(&self) -> String {
        match self {
            ProgressEvent::Resolving { sources, resolved, manifests } => {
                format!("resolving: {resolved} of {sources} sources, {manifests} manifests")
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
                text.push_str(&format!(", sent {sent} blobs and {manifests} manifests, {bytes}, {rate}/s"));
                text.push_str(&format!("; {present} blobs were there"));
                text
            }
            ProgressEvent::Delivered { sent, present, manifests, bytes, waits, elapsed } => {
                let rate = human_size((*bytes as f64 / elapsed.max(1e-3)) as u64);
                let bytes = human_size(*bytes);
                let mut text =
                    format!("sent {sent} blobs and {manifests} manifests, {bytes} in {elapsed:.1} s, {rate}/s");
                text.push_str(&format!("; {present} blobs were there"));
                if *waits > 0 {
                    text.push_str(&format!("; the buffer was {waits} times full"));
                }
                text
            }
            ProgressEvent::Done { accepted, rate, elapsed, report, .. } => {
                let time = if *elapsed < 60.0 { format!("{elapsed:.1} s") } else { human_time(*elapsed as u64) };
                let text = format!("wrote {} in {time}, {}/s", human_size(*accepted), human_size(*rate));
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
        };
        assert_eq!(
            event.in_words(),
            "1.00 GiB of 4.00 GiB (25 %), in 80.0 MiB/s, out 100 MiB/s, 0:31 left, buffer 25 %, device waiting"
        );
    }

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let mut state = ProgressState { events: None, due: Instant::now(), recent: VecDeque::new() };
        let at = |seconds, accepted, received| Snapshot {
            elapsed: Duration::from_secs(seconds),
            accepted,
            received,
            ..Snapshot::default()
        };
        assert_eq!(state.rates(&at(1, 100, 200)), (200, 100));
        (2..=20).for_each(|s| {
            state.rates(&at(s, 100, 200));
        });
        assert_eq!(state.rates(&at(21, 600, 200)), (0, 100));
    }
}
