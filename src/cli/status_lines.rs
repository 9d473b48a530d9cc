//! The lines that are redrawn on a terminal while a run goes on: a bar, and the buffer with its history.

use std::{collections::VecDeque, env, time::Duration};

use super::run_record::RunFigures;
use crate::util::units::{counted, human_size, human_time};

/// The bar's cells.
const BAR: usize = 24;
/// The history of the buffer's fill: a cell every so often.
const HISTORY: usize = 24;
const HISTORY_EVERY: Duration = Duration::from_secs(1);

/// What was shown lately.
#[derive(Debug, Default)]
pub struct StatusLines {
    /// How full the buffer was, in eighths.
    history: VecDeque<u8>,
    next: Duration,
}

/// Rates, in bytes a second, and the time that is left, in seconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunRates {
    /// What comes in.
    pub received: u64,
    /// What goes out.
    pub sent: u64,
    /// Until all has gone out.
    pub left: Option<u64>,
}

impl StatusLines {
    /// Notes how full the buffer is.
    pub fn note(&mut self, now: &RunFigures) {
        if now.capacity > 0 && now.elapsed >= self.next {
            self.next = now.elapsed + HISTORY_EVERY;
            self.history.push_back((now.fill.saturating_mul(8) / now.capacity).min(8) as u8);
            if self.history.len() > HISTORY {
                self.history.pop_front();
            }
        }
    }

    /// The lines for a stream to a device.
    pub fn of_stream(&self, now: &RunFigures, rates: RunRates, retries: u64) -> String {
        let is_utf8 = speaks_utf8();
        let mut first = bar(now, is_utf8);
        first.push_str(&format!(", {}/s", human_size(rates.sent)));
        if let Some(left) = rates.left {
            first.push_str(&format!(", {} left", human_time(left)));
        }
        let device = now.device();
        let full = now.fill * 100 / now.capacity.max(1);
        let starts = if now.starts == 1 { "1 start".into() } else { format!("{} starts", now.starts) };
        let mut second = format!(
            "buffer {} {full:>3} %, in {}/s, device {device}",
            self.sparkline(is_utf8),
            human_size(rates.received)
        );
        second.push_str(&format!(", {starts}"));
        if retries > 0 {
            second.push_str(&format!(", {}", counted(retries, "retry")));
        }
        format!("{first}\n{second}")
    }

    fn sparkline(&self, is_utf8: bool) -> String {
        let cells = if is_utf8 {
            [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█']
        } else {
            [' ', '.', '.', ':', ':', '-', '=', '+', '#']
        };
        let drawn: String = self.history.iter().map(|eighths| cells[usize::from(*eighths)]).collect();
        format!("[{drawn:<HISTORY$}]")
    }
}

/// A bar, the percentage, and the bytes; without a total the bytes alone.
pub fn bar(now: &RunFigures, is_utf8: bool) -> String {
    let Some(total) = now.total else { return human_size(now.sent) };
    let share = now.sent.min(total) as f64 / total.max(1) as f64;
    let (full, empty) = if is_utf8 { ('█', '░') } else { ('#', '-') };
    let cells = (share * BAR as f64) as usize;
    let drawn: String = (0..BAR).map(|cell| if cell < cells { full } else { empty }).collect();
    format!("[{drawn}] {:>3} %, {} of {}", (share * 100.0) as u64, human_size(now.sent), human_size(total))
}

/// Whether the terminal is said to take UTF-8 (locale(7)).
pub fn speaks_utf8() -> bool {
    let names = ["LC_ALL", "LC_CTYPE", "LANG"];
    let named = names.iter().filter_map(|name| env::var(name).ok()).find(|value| !value.is_empty());
    named.is_some_and(|value| value.to_ascii_lowercase().replace('-', "").contains("utf8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_stream() {
        let mut lines = StatusLines::default();
        let now = |n: u64| RunFigures {
            elapsed: Duration::from_secs(n),
            sent: 1 << 30,
            total: Some(4 << 30),
            fill: n,
            capacity: 8,
            starts: 1,
            ..RunFigures::default()
        };
        (0..=8).for_each(|n| lines.note(&now(n)));
        assert_eq!(bar(&now(0), false), "[######------------------]  25 %, 1.00 GiB of 4.00 GiB");
        assert_eq!(lines.sparkline(true), "[ ▁▂▃▄▅▆▇█               ]");
        let rates = RunRates { received: 80 << 20, sent: 100 << 20, left: Some(31) };
        let text = lines.of_stream(&now(2), rates, 3);
        assert!(text.contains("100 MiB/s, 0:31 left\nbuffer ["), "{text}");
        assert!(text.ends_with(" 25 %, in 80.0 MiB/s, device waiting, 1 start, 3 retries"), "{text}");
    }
}
