//! `--chart`: a run as a picture in SVG 1.1 that stands alone, in light or dark as the reader's system is: how full the
//! buffer was, when the device was written to, and the rates in and out.

use std::fmt::Write as _;

use super::run_record::{RunRecord, RunSpan};
use crate::util::{
    markup::escaped,
    units::{grouped, human_size, human_time},
};

const WIDTH: f64 = 960.0;
/// The panels lie between these.
const LEFT: f64 = 80.0;
const RIGHT: f64 = 940.0;
const PANEL: f64 = 170.0;
const GAP: f64 = 56.0;
const TOP: f64 = 78.0;
/// The strip that shows when the device was written to.
const STRIP: f64 = 12.0;
/// Points of a line, at the most: what is drawn is not larger for a long run.
const POINTS_MAX: usize = 600;

const STYLE: &str = "svg{color-scheme:light dark;background:#fff;--ink:#222;--grid:#ddd;--in:#0b6fc2;--out:#c2500b;--fill:#7a9;}\
    @media(prefers-color-scheme:dark){svg{background:#181818;--ink:#ddd;--grid:#3a3a3a;--in:#5ab0ff;--out:#ffa05a;--fill:#586}}\
    text{font:13px sans-serif;fill:var(--ink)}.h{font-size:16px;font-weight:bold}.grid{stroke:var(--grid)}\
    .in{stroke:var(--in);fill:none;stroke-width:1.5}.out{stroke:var(--out);fill:none;stroke-width:1.5}\
    .fill{fill:var(--fill);fill-opacity:.35;stroke:var(--fill)}.mark{stroke:var(--out);stroke-dasharray:5 4}\
    .strip{fill:var(--out)}.right{text-anchor:end}.mid{text-anchor:middle}";

/// A panel: where it stands, and what its axis ends at.
struct Panel {
    top: f64,
    most: f64,
}

impl Panel {
    fn y(&self, value: f64) -> f64 {
        self.top + PANEL * (1.0 - (value / self.most).clamp(0.0, 1.0))
    }
}

/// The picture of a run. `title` says what it was.
pub fn svg(title: &str, record: &RunRecord) -> String {
    let mut spans = thinned(record.spans());
    // It began with nothing.
    spans.insert(0, RunSpan::default());
    let last = record.last();
    let seconds = last.elapsed.as_secs_f64().max(0.001);
    let x = |elapsed: f64| LEFT + (RIGHT - LEFT) * elapsed / seconds;
    let has_buffer = last.capacity > 0;
    let rates_top = if has_buffer { TOP + PANEL + GAP } else { TOP };
    let height = rates_top + PANEL + 72.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
        role=\"img\">\n<title>{}</title>\n<style>{STYLE}</style>\n<text class=\"h\" x=\"{LEFT}\" y=\"24\">{}</text>\n",
        escaped(title),
        escaped(title)
    );
    let mut sum = format!("{} in, {} out, {}", human_size(last.received), human_size(last.sent), time(seconds));
    if has_buffer {
        let stops = last.starts.saturating_sub(1);
        let _ = write!(
            sum,
            "; buffer {}, {}, {}",
            human_size(last.capacity),
            many(last.starts, "start"),
            many(stops, "stop")
        );
    }
    if !last.is_done {
        sum.push_str("; it has not come to its end");
    }
    let _ = writeln!(out, "<text x=\"{LEFT}\" y=\"44\">{}</text>", escaped(&sum));
    if has_buffer {
        buffer(&mut out, &spans, &x, last.capacity as f64, last.mark as f64);
    }
    rates(&mut out, &spans, &x, rates_top);
    time_axis(&mut out, seconds, &x, height - 40.0);
    let _ = write!(
        out,
        "<line class=\"in\" x1=\"{LEFT}\" x2=\"{:.0}\" y1=\"{1:.0}\" y2=\"{1:.0}\"/><text x=\"{2:.0}\" y=\"{3:.0}\">in</text>\
        <line class=\"out\" x1=\"{4:.0}\" x2=\"{5:.0}\" y1=\"{1:.0}\" y2=\"{1:.0}\"/><text x=\"{6:.0}\" y=\"{3:.0}\">out</text>",
        LEFT + 24.0,
        height - 12.0,
        LEFT + 30.0,
        height - 8.0,
        LEFT + 60.0,
        LEFT + 84.0,
        LEFT + 90.0
    );
    if has_buffer {
        let _ = write!(
            out,
            "<rect class=\"strip\" x=\"{:.0}\" y=\"{:.0}\" width=\"24\" height=\"{STRIP}\"/><text x=\"{:.0}\" y=\"{:.0}\">\
            the device is written to</text>",
            LEFT + 130.0,
            height - 19.0,
            LEFT + 160.0,
            height - 8.0
        );
    }
    out.push_str("\n</svg>\n");
    out
}

/// How full the buffer was, the mark, and the strip below.
fn buffer(out: &mut String, spans: &[RunSpan], x: &dyn Fn(f64) -> f64, capacity: f64, mark: f64) {
    let panel = Panel { top: TOP, most: capacity };
    for percent in [0, 25, 50, 75, 100] {
        grid(out, panel.y(capacity * f64::from(percent) / 100.0), &format!("{percent} %"));
    }
    let _ = writeln!(out, "<text x=\"{LEFT}\" y=\"{:.0}\">fill of the buffer</text>", TOP - 5.0);
    let point = |time: f64, fill: f64| format!("{:.1},{:.1}", x(time), panel.y(fill));
    let end = spans.last().map_or(0.0, |span| span.last.elapsed.as_secs_f64());
    // What was surely there is drawn darker than what was there at times.
    let most = spans.iter().map(|span| point(span.last.elapsed.as_secs_f64(), span.most as f64));
    let least = spans.iter().map(|span| point(span.last.elapsed.as_secs_f64(), span.least as f64));
    for line in [most.collect::<Vec<_>>(), least.collect()] {
        let points = [vec![point(0.0, 0.0)], line, vec![point(end, 0.0)]].concat();
        let _ = writeln!(out, "<polygon class=\"fill\" points=\"{}\"/>", points.join(" "));
    }
    if mark > 0.0 {
        let y = panel.y(mark);
        let _ = writeln!(
            out,
            "<line class=\"mark\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
            <text class=\"right\" x=\"{RIGHT}\" y=\"{:.1}\">high-water mark</text>",
            y - 4.0
        );
    }
    let (mut begin, mut from) = (0.0, None);
    let top = TOP + PANEL + 6.0;
    let mut strip = |from: f64, to: f64| {
        let (from, to) = (x(from), x(to));
        let width = (to - from).max(0.6);
        let _ = writeln!(
            out,
            "<rect class=\"strip\" x=\"{from:.1}\" y=\"{top}\" width=\"{width:.1}\" height=\"{STRIP}\"/>"
        );
    };
    for span in spans {
        let end = span.last.elapsed.as_secs_f64();
        match (span.writing() >= 0.5, from) {
            (true, None) => from = Some(begin),
            (false, Some(since)) => {
                strip(since, begin);
                from = None;
            }
            _ => {}
        }
        begin = end;
    }
    if let Some(since) = from {
        strip(since, begin);
    }
}

/// What came in and went out a second.
fn rates(out: &mut String, spans: &[RunSpan], x: &dyn Fn(f64) -> f64, top: f64) {
    let rate = |select: &dyn Fn(&RunSpan) -> u64| -> Vec<(f64, f64)> {
        let (mut before, mut begin) = (0, 0.0);
        let each = spans.iter().skip(1).map(|span| {
            let (now, end) = (select(span), span.last.elapsed.as_secs_f64());
            let rate = now.saturating_sub(before) as f64 / (end - begin).max(0.001);
            (before, begin) = (now, end);
            (end, rate)
        });
        let mut line: Vec<(f64, f64)> = each.collect();
        line.first().map(|(_, rate)| (0.0, *rate)).into_iter().for_each(|first| line.insert(0, first));
        line
    };
    let (received, sent) = (rate(&|span| span.last.received), rate(&|span| span.last.sent));
    let most = received.iter().chain(&sent).map(|(_, rate)| *rate).fold(1.0, f64::max);
    let step = nice(most / 4.0);
    let panel = Panel { top, most: step * (most / step).ceil() };
    let _ = writeln!(out, "<text x=\"{LEFT}\" y=\"{:.0}\">rate</text>", top - 5.0);
    let mut value = 0.0;
    while value <= panel.most * 1.001 {
        let text = if value == 0.0 { "0".into() } else { format!("{}/s", human_size(value as u64)) };
        grid(out, panel.y(value), &text);
        value += step;
    }
    for (class, line) in [("in", received), ("out", sent)] {
        let points: Vec<String> =
            line.iter().map(|(time, rate)| format!("{:.1},{:.1}", x(*time), panel.y(*rate))).collect();
        let _ = writeln!(out, "<polyline class=\"{class}\" points=\"{}\"/>", points.join(" "));
    }
}

/// A horizontal line, and what it stands for.
fn grid(out: &mut String, y: f64, text: &str) {
    let _ = writeln!(
        out,
        "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
        <text class=\"right\" x=\"{:.0}\" y=\"{:.1}\">{text}</text>",
        LEFT - 6.0,
        y + 4.0
    );
}

fn time_axis(out: &mut String, seconds: f64, x: &dyn Fn(f64) -> f64, y: f64) {
    let steps = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0];
    let longer = (1..).map(|n| 7200.0 * f64::from(n));
    let step = steps.into_iter().chain(longer).find(|step| seconds / step <= 9.0).unwrap_or(seconds);
    let mut at = 0.0;
    while at <= seconds * 1.0001 {
        let _ = writeln!(out, "<text class=\"mid\" x=\"{:.1}\" y=\"{y:.0}\">{}</text>", x(at), time(at));
        at += step;
    }
}

fn many(n: u64, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{} {what}s", grouped(n)) }
}

/// Seconds in words.
fn time(seconds: f64) -> String {
    if seconds < 10.0 && seconds.fract() > 0.001 { format!("{seconds:.1} s") } else { human_time(seconds as u64) }
}

/// A step between lines of an axis of bytes: 1, 2 or 5 times a power of ten of the unit that is shown.
fn nice(step: f64) -> f64 {
    let unit = [1024_f64.powi(3), 1024_f64.powi(2), 1024.0, 1.0].into_iter().find(|unit| step >= *unit).unwrap_or(1.0);
    let power = 10_f64.powf((step / unit).log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|n| n * power * unit).find(|nice| *nice >= step).unwrap_or(step)
}

/// Not more spans than can be told from each other.
fn thinned(spans: &[RunSpan]) -> Vec<RunSpan> {
    let every = spans.len().div_ceil(POINTS_MAX).max(1);
    spans.chunks(every).map(RunSpan::merged).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cli::run_record::RunFigures;

    #[test]
    fn a_long_run_is_no_larger_picture() {
        let mut record = RunRecord::default();
        for n in 0..200_000_u64 {
            record.note(RunFigures {
                elapsed: Duration::from_millis(n * 100),
                received: n * 30_000_000 + n % 7 * 1_000_000,
                sent: n * 29_000_000,
                fill: n * 7919 % 1_000_000_000,
                capacity: 1_000_000_000,
                mark: 900_000_000,
                is_writing: n % 100 < 60,
                starts: n / 100,
                ..RunFigures::default()
            });
        }
        let text = svg("a <run> & more", &record);
        assert!(text.len() < 100_000, "{}", text.len());
        assert!(text.contains("a &lt;run&gt; &amp; more") && text.contains("1,999 starts, 1,998 stops"));
        assert!(text.contains("high-water mark") && text.contains("prefers-color-scheme"));
    }

    #[test]
    fn steps_are_round() {
        for (step, nice_step) in [(90e6, 100.0 * 1048576.0), (1.5, 2.0), (3000.0, 5.0 * 1024.0)] {
            assert_eq!(nice(step), nice_step);
        }
    }
}
