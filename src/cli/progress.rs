//! Progress on standard error: redrawn on a terminal, a plain line now and then elsewhere.
//!
//! It tells what the device has accepted, never what producers have fetched.

use std::{
    collections::VecDeque,
    fs::File,
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
    str::FromStr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use nix::fcntl::OFlag;

use super::{
    chart, metrics,
    progress_event::ProgressEvent,
    run_record::{RunFigures, RunRecord},
    status_lines::StatusLines,
};
use crate::{
    copy::push_graph::PushTally,
    delivery::outcome::DeliveryTally,
    error::{Context, Error, Result},
    fd, log,
    stream::pipeline::Snapshot,
    util::atomic_file,
};

/// The rate is taken over so long a time.
const RATE_SPAN: Duration = Duration::from_secs(5);
const REDRAW: Duration = Duration::from_millis(200);
const LINE_EVERY: Duration = Duration::from_secs(10);
const JSON_EVERY: Duration = Duration::from_secs(1);
const METRICS_EVERY: Duration = Duration::from_secs(5);
/// Over the chart.
const TITLE: &str = "ace-dt: how the run went";

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
    /// Where the picture of the run goes.
    pub chart: Option<PathBuf>,
    /// Where the metrics of the run go.
    pub metrics: Option<PathBuf>,
}

impl ProgressOptions {
    /// The files that it writes, with the flags that name them.
    pub fn written(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let named = [("--chart", &self.chart), ("--metrics", &self.metrics)];
        named.into_iter().filter_map(|(flag, path)| Some((flag, path.as_deref()?)))
    }
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
    chart: Option<PathBuf>,
    metrics: Option<PathBuf>,
    state: Mutex<ProgressState>,
}

struct ProgressState {
    events: Option<File>,
    due: Instant,
    /// Time since the start of writing, and bytes received and accepted by then.
    recent: VecDeque<(Duration, u64, u64)>,
    /// All of the run, if somebody wants to see it.
    record: RunRecord,
    metrics_due: Instant,
    lines: StatusLines,
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
            ProgressStyle::Auto if !options.no_term && may_redraw() => Shown::Redrawn,
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
        let now = Instant::now();
        let state = ProgressState {
            events,
            due: now + first,
            recent: VecDeque::new(),
            record: RunRecord::default(),
            metrics_due: now,
            lines: StatusLines::default(),
        };
        // Where a link leads to is replaced, and not the link.
        let place = |path: &Option<PathBuf>| path.as_ref().map(|path| path.canonicalize().unwrap_or(path.clone()));
        let (chart, metrics) = (place(&options.chart), place(&options.metrics));
        // What cannot be written is told before anything else is done.
        [(&chart, "<svg "), (&metrics, "# HELP ace_dt_")]
            .into_iter()
            .filter_map(|(path, begins)| Some((path.as_deref()?, begins)))
            .try_for_each(|(path, begins)| may_replace(path, begins))?;
        let progress = Progress { shown, chart, metrics, state: Mutex::new(state) };
        progress.write_files(&progress.state())?;
        Ok(progress)
    }

    fn state(&self) -> MutexGuard<'_, ProgressState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the chart and the metrics, each as a whole.
    fn write_files(&self, state: &ProgressState) -> Result<()> {
        let replace = |path: &Path, text: String| {
            atomic_file::replace(path, text.as_bytes(), false).doing(|| format!("writing {path:?}"))
        };
        if let Some(path) = &self.chart {
            replace(path, chart::svg(TITLE, &state.record))?;
        }
        match &self.metrics {
            Some(path) => replace(path, metrics::text(&state.record.last())),
            None => Ok(()),
        }
    }

    /// Notes how the run stands.
    fn note(&self, figures: RunFigures) {
        let mut state = self.state();
        state.lines.note(&figures);
        if self.chart.is_none() && self.metrics.is_none() {
            return;
        }
        state.record.note(figures);
        let now = Instant::now();
        if let Some(path) = self.metrics.as_ref().filter(|_| now >= state.metrics_due) {
            state.metrics_due = now + METRICS_EVERY;
            // The run is worth more than what is told of it.
            let _ = atomic_file::replace(path, metrics::text(&figures).as_bytes(), false);
        }
    }

    /// Sources are being resolved.
    pub fn resolving(&self, resolved: usize, sources: usize, manifests: usize) {
        self.tell(false, |_| ProgressEvent::Resolving { sources, resolved, manifests });
    }

    /// Bytes are on their way; `total` is known from the plan.
    pub fn writing(&self, now: &Snapshot, total: Option<u64>) {
        let figures = RunFigures::of_stream(now, total);
        self.note(figures);
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
                device: figures.device(),
                elapsed: now.elapsed.as_secs_f64(),
                figures,
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
        self.note(RunFigures::of_delivery(now, total, elapsed));
        let DeliveryTally { sent, present, manifests, bytes, read, .. } = *now;
        let elapsed = elapsed.as_secs_f64();
        self.tell(false, |_| ProgressEvent::Delivering { read, total, sent, present, manifests, bytes, elapsed });
    }

    /// All that could be delivered is in the registry; whether that is all of it.
    pub fn delivered(&self, all: &DeliveryTally, elapsed: Duration, is_all: bool) {
        self.clear();
        self.note(RunFigures { is_done: is_all, ..RunFigures::of_delivery(all, None, elapsed) });
        let DeliveryTally { sent, present, manifests, bytes, waits, .. } = *all;
        let elapsed = elapsed.as_secs_f64();
        self.tell(true, |_| ProgressEvent::Delivered { sent, present, manifests, bytes, waits, elapsed });
    }

    /// All is written. `report` says more in words.
    pub fn done(&self, last: &Snapshot, report: Option<String>) {
        self.clear();
        self.note(RunFigures { starts: last.stats.starts, is_done: true, ..RunFigures::of_stream(last, None) });
        let stats = &last.stats;
        self.tell(true, |_| ProgressEvent::Done {
            accepted: last.accepted,
            from: last.from,
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
            log::status("");
        }
    }

    fn tell(&self, at_once: bool, event: impl FnOnce(&mut ProgressState) -> ProgressEvent) {
        let mut state = self.state();
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
                log::status(&event.on_terminal(&state.lines));
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

impl Drop for Progress {
    fn drop(&mut self) {
        let written = self.write_files(&self.state());
        written.unwrap_or_else(|e| log::warn(format_args!("{e}")));
    }
}

/// Only what an earlier run has written is replaced: a file that is empty, or begins like this.
fn may_replace(path: &Path, begins: &str) -> Result<()> {
    let refused = |why: &str| Err(Error::new(why).doing(format!("writing {path:?}")));
    match std::fs::metadata(path) {
        Err(_) => Ok(()),
        Ok(meta) if !meta.is_file() => refused("it is no regular file"),
        Ok(_) => {
            let mut found = vec![0; begins.len()];
            let file = fd::open_to_read(path)?;
            let n = fd::fill(file, &mut found).doing(|| format!("reading {path:?}"))?;
            match n == 0 || found == begins.as_bytes() {
                true => Ok(()),
                false => refused("it holds something else, and is not written over"),
            }
        }
    }
}

/// Whether standard error is a terminal whose lines can be redrawn (terminfo(5): `dumb` has no such thing).
fn may_redraw() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let mut state = ProgressState {
            events: None,
            due: Instant::now(),
            recent: VecDeque::new(),
            record: RunRecord::default(),
            metrics_due: Instant::now(),
            lines: StatusLines::default(),
        };
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
