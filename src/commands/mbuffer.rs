//! `util mbuffer`: one stream through the ring, from standard input, a file or a tape to standard
//! output, files and tapes.

use std::{
    io::{self, IsTerminal},
    path::Path,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use ace_dt_ring::Bounds;

use super::{path_conflicts, report, setup::is_dash};
use crate::{
    cli::{options::MbufferOptions, progress::Progress},
    error::{Error, Result},
    log,
    media::{
        block_reader::BlockReader,
        destination::Destination,
        file_sink::MediumKind,
        sink::{Sink, Volumes},
        tape::sink::TapeOptions,
        tee::{Overview, Tee},
        throttle::{self, Throttle},
    },
    stream::{
        pipeline::{self, Geometry, Snapshot, StreamJob},
        pump::InputPump,
        watchdog::{Side, Watchdog},
    },
};

/// A drive takes no smaller blocks in earnest.
const SMALL_BLOCK: usize = 512;

/// # Errors
/// If a side fails or is stuck.
pub fn run(options: &MbufferOptions) -> Result<()> {
    check_paths(options)?;
    if let Some(path) = &options.log {
        log::also_to(path)?;
    }
    let input = open(&options.input)?;
    let input_name = input.name.clone();
    let mut outputs = Outputs::open(options)?;
    let geometry = options.geometry;
    if geometry.block < SMALL_BLOCK && outputs.all.iter().any(|(_, kind, _)| *kind == MediumKind::Tape) {
        let bytes = geometry.block;
        log::warn(format_args!(
            "blocks of {bytes} bytes: -b is the size of a block here; in mbuffer(1) it is how many there are"
        ));
    }
    let pump = Mutex::new(InputPump::new(input, options.sha256));
    let progress = Progress::new(&options.progress)?;
    let job = StreamJob {
        geometry,
        from: 0,
        preserve_until: 0,
        bounds: Bounds::open(),
        producers: 1,
        // There is one segment, so nobody waits for the lock.
        produce: &|segment| pump.lock().unwrap_or_else(PoisonError::into_inner).run(segment),
        // A read that blocks ends when its thread is interrupted.
        on_cancel: &|| {},
    };
    let pause = options.rate.map_or(Duration::ZERO, |rate| throttle::time_of(geometry.block, rate));
    let mut watchdog = Watchdog::new(Instant::now());
    let (overview, sink) = (&outputs.overview, &mut *outputs.sink);
    let output_name = sink.name().to_string();
    let (last, outcome) = pipeline::run(job, sink, &mut |now: &Snapshot| {
        progress.writing(now, None);
        let Some(timeout) = options.io_timeout else { return Ok(()) };
        let changing = options.changer.is_changing();
        let stuck = match watchdog.look(now, changing, timeout + pause, Instant::now()) {
            None => return Ok(()),
            Some(Side::Input) => format!("{input_name} has given nothing"),
            Some(Side::Output) => format!("{} has taken nothing", overview.stuck().unwrap_or(output_name.clone())),
        };
        Err(Error::new(format!("{stuck} for {} s", timeout.as_secs_f64())).hint("--io-timeout"))
    });
    let pump = pump.into_inner().unwrap_or_else(PoisonError::into_inner);
    match outcome.and_then(|()| pump.finish()) {
        Ok(digest) => {
            outputs.tell(&last, geometry, &progress);
            if let Some(digest) = digest {
                log::line(format_args!("{digest}"));
            }
            outputs.check()
        }
        Err(e) => {
            progress.clear();
            let written = || format!("{} bytes were written", last.accepted);
            Err(if last.capacity > 0 { e.after(written()) } else { e })
        }
    }
}

/// No file has two parts in the run.
fn check_paths(options: &MbufferOptions) -> Result<()> {
    let mut written: Vec<_> = options.outputs.iter().map(|path| ("--output", path.as_path())).collect();
    // A device such as /dev/null may have several parts, but not the same one twice.
    let mut outputs = options.outputs.iter().enumerate();
    if let Some((_, path)) = outputs.find(|(n, path)| options.outputs[..*n].contains(path)) {
        return Err(Error::usage(format!("{path:?} is named twice by --output")));
    }
    written.extend(options.log.iter().map(|path| ("--log", path.as_path())));
    written.extend(options.progress.written());
    path_conflicts::check(&[("--input", &options.input)], &written)
}

fn open(path: &Path) -> Result<BlockReader> {
    if is_dash(path) && io::stdin().is_terminal() {
        return Err(Error::usage("standard input is a terminal").hint("feed it from a pipe or a file"));
    }
    BlockReader::open(path, None)
}

/// Where the stream goes to.
struct Outputs {
    sink: Box<dyn Sink>,
    /// Of each: its name, what it is, and its tapes.
    all: Vec<(String, MediumKind, Volumes)>,
    overview: Overview,
}

impl Outputs {
    fn open(options: &MbufferOptions) -> Result<Outputs> {
        let (mut sinks, mut all, mut overview) = (Vec::new(), Vec::new(), Overview::default());
        for path in &options.outputs {
            let destination =
                if is_dash(path) { Destination::stdout()? } else { Destination::open(path, options.force)? };
            let kind = destination.kind();
            let tape = TapeOptions { changer: options.changer.clone(), force: options.force, ..TapeOptions::default() };
            let sink = destination.into_sink(tape);
            all.push((sink.name().to_string(), kind, sink.volumes()));
            sinks.push(sink);
        }
        let mut sink = if sinks.len() > 1 {
            let tee = Tee::new(sinks, options.geometry.block)?;
            overview = tee.overview();
            Box::new(tee)
        } else {
            sinks.remove(0)
        };
        if let Some(rate) = options.rate {
            sink = Box::new(Throttle::new(sink, rate));
        }
        Ok(Outputs { sink, all, overview })
    }

    /// The summary.
    fn tell(&self, last: &Snapshot, geometry: Geometry, progress: &Progress) {
        let mut text = last.stats.in_words();
        for (name, _, volumes) in &self.all {
            text.push_str(&report::on_tape(Some(name.as_str()).filter(|_| self.all.len() > 1), volumes));
        }
        let (empty, full) = (last.stats.starts.saturating_sub(1), last.full);
        progress.done(last, Some(format!("{text}; the buffer was {empty} times empty, {full} times full")));
        if self.all.iter().any(|(_, kind, _)| *kind == MediumKind::Tape) {
            report::advise(last, geometry, MediumKind::Tape);
        }
    }

    /// # Errors
    /// If an output was left behind.
    fn check(&self) -> Result<()> {
        let failed = self.overview.failed();
        let Some(first) = failed.first() else { return Ok(()) };
        let why = format!("{} of {} outputs failed, and the others have all", failed.len(), self.all.len());
        Err(first.clone().after(why))
    }
}
