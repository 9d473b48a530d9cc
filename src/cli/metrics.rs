//! `--metrics`: how a run stands, in the text format of Prometheus, as the textfile collector of its node exporter reads it.

use std::{
    fmt::Write as _,
    time::{SystemTime, UNIX_EPOCH},
};

use super::run_record::RunFigures;

/// The figures as a file.
pub fn text(now: &RunFigures) -> String {
    let mut out = String::new();
    let mut metric = |name: &str, kind: &str, help: &str, value: f64| {
        let _ = write!(out, "# HELP ace_dt_{name} {help}\n# TYPE ace_dt_{name} {kind}\nace_dt_{name} {value}\n");
    };
    metric("received_bytes_total", "counter", "Bytes that came in.", now.received as f64);
    metric("sent_bytes_total", "counter", "Bytes that the device or the registries took.", now.sent as f64);
    if let Some(total) = now.total {
        metric("planned_bytes", "gauge", "Bytes of the whole run.", total as f64);
    }
    if now.capacity > 0 {
        metric("buffer_fill_bytes", "gauge", "Bytes in the buffer.", now.fill as f64);
        metric("buffer_capacity_bytes", "gauge", "Bytes that the buffer holds.", now.capacity as f64);
        metric("buffer_mark_bytes", "gauge", "What the buffer is filled to before a start.", now.mark as f64);
        metric("device_writing", "gauge", "1 while the device is written to.", f64::from(u8::from(now.is_writing)));
        metric("device_starts_total", "counter", "How often the device was started.", now.starts as f64);
        metric("device_writing_seconds_total", "counter", "Time in strokes.", now.writing.as_secs_f64());
        metric("device_waiting_seconds_total", "counter", "Time between strokes.", now.waiting.as_secs_f64());
    }
    metric("elapsed_seconds", "gauge", "Since the run began.", now.elapsed.as_secs_f64());
    metric("finished", "gauge", "1 when all went well and is over.", f64::from(u8::from(now.is_done)));
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    metric("updated_timestamp_seconds", "gauge", "When this was written.", time.as_secs() as f64);
    out
}
