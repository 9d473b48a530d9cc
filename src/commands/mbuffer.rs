//! `util mbuffer`: one stream through the ring, from standard input, a file or a tape to standard
//! output, files and tapes.

use std::{
    io::{self, ErrorKind, IsTerminal, Read},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use nix::poll::PollFlags;

use crate::commands::{path_conflicts, report};
use crate::{
    cli::{args::Args, progress::Progress},
    error::{Error, Result, io_reason},
    log,
    media::{
        block_reader::Medium,
        file_sink::{self, Device, Kind},
        sink::{Sink, Volumes},
        tape::{changer::Changer, sink},
        tee::{Overview, Tee},
        throttle::{self, Paced},
    },
    oci::Hasher,
    stream::{
        pipeline::{self, Geometry, Halt, Job, Snapshot},
        watchdog::{Side, Watchdog},
    },
};
use ace_dt_ring::{Bounds, Segment};

pub fn run(args: &Args) -> Result<()> {
    let geometry = Geometry::new(args.block_size, args.buffer_size, args.hwm)?;
    check(args)?;
    if let Some(path) = &args.log {
        log::also_to(path)?;
    }
    let input = open(args.input.as_deref())?;
    let input_name = input.name.clone();
    let changer = Changer::new(args.volume_command.clone());
    let mut outputs = Outputs::open(args, geometry, &changer)?;
    let hasher = args.sha256.then(|| Hasher::Sha256(Default::default()));
    let source = Mutex::new(Source { medium: input, hasher });
    let progress = Progress::new(&args.progress)?;
    let job = Job {
        geometry,
        from: 0,
        keep: 0,
        bounds: Bounds::open(),
        producers: 1,
        // There is one segment, so nobody waits for the lock.
        produce: &|segment| source.lock().unwrap_or_else(PoisonError::into_inner).pump(segment),
        // A read that blocks ends when its thread is nudged.
        cancel: &|| {},
    };
    let pause = args.rate.map_or(Duration::ZERO, |rate| throttle::time_of(geometry.block, rate));
    let mut watchdog = Watchdog::new(Instant::now());
    let (overview, sink) = (&outputs.overview, &mut *outputs.sink);
    let output_name = sink.name().to_string();
    let (last, outcome) = pipeline::run(job, sink, &mut |now| {
        progress.writing(now, None);
        let Some(timeout) = args.io_timeout else { return Ok(()) };
        let stuck = match watchdog.look(now, changer.is_changing(), timeout + pause, Instant::now()) {
            None => return Ok(()),
            Some(Side::Input) => format!("{input_name} has given nothing"),
            Some(Side::Output) => format!("{} has taken nothing", overview.stuck().unwrap_or(output_name.clone())),
        };
        Err(Error::new(format!("{stuck} for {} s", timeout.as_secs_f64())).hint("--io-timeout"))
    });
    match outcome {
        Ok(()) => {
            outputs.tell(&last, geometry, &progress);
            if let Some(hasher) = source.into_inner().unwrap_or_else(PoisonError::into_inner).hasher {
                log::line(format_args!("{}", hasher.finish()));
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
fn check(args: &Args) -> Result<()> {
    let dash = Path::new("-");
    let input = args.input.iter().map(|path| ("--input", path));
    let outputs = args.outputs.iter().map(|path| ("--output", path));
    let log = args.log.iter().map(|path| ("--log", path));
    let all: Vec<(&str, &PathBuf)> = input.chain(outputs).chain(log).collect();
    for (n, (part, path)) in all.iter().enumerate() {
        for (other_part, other) in &all[..n] {
            let same = if *path == dash || *other == dash {
                path == other && part == other_part
            } else {
                path == other || path_conflicts::is_same_file(path, other)
            };
            if same && part == other_part {
                return Err(Error::usage(format!("{path:?} is named twice by {part}")));
            }
            if same {
                return Err(Error::usage(format!("{path:?} is both {other_part} and {part}")));
            }
        }
    }
    Ok(())
}

fn open(path: Option<&Path>) -> Result<Medium> {
    let path = path.unwrap_or(Path::new("-"));
    if path == Path::new("-") && io::stdin().is_terminal() {
        return Err(Error::usage("standard input is a terminal").hint("feed it from a pipe or a file"));
    }
    Medium::open(path, None)
}

/// What the stream is read from, and what hashes it on the way.
struct Source {
    medium: Medium,
    hasher: Option<Hasher>,
}

impl Source {
    /// Reads all there is into the one segment.
    fn pump(&mut self, segment: Segment) -> Result<(), Halt> {
        if !self.medium.tape {
            return self.pump_bytes(segment);
        }
        let outcome = self.pump_blocks(segment);
        self.medium.restore();
        outcome
    }

    fn pump_bytes(&mut self, mut segment: Segment) -> Result<(), Halt> {
        let mut file = &self.medium.file;
        loop {
            let window = segment.window()?;
            match file.read(window) {
                Ok(0) => {
                    segment.end_stream();
                    return Ok(());
                }
                Ok(n) => {
                    if let Some(hasher) = &mut self.hasher {
                        hasher.update(&window[..n]);
                    }
                    segment.advance(n);
                    segment.publish();
                }
                // Stopped, perhaps: `window` knows.
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => file_sink::wait_until(file, PollFlags::POLLIN),
                Err(e) => return Err(Error::new(io_reason(&e)).doing(format!("reading {}", self.medium.name)).into()),
            }
        }
    }

    /// A tape's blocks are read whole, whatever room there is.
    fn pump_blocks(&mut self, mut segment: Segment) -> Result<(), Halt> {
        let mut piece = Vec::new();
        while let Some((bytes, _)) = self.medium.read(piece)? {
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&bytes);
            }
            segment.put(&bytes)?;
            segment.publish();
            piece = bytes;
        }
        segment.end_stream();
        Ok(())
    }
}

/// Where the stream goes to.
struct Outputs {
    sink: Box<dyn Sink>,
    /// Of each: its name, what it is, and its tapes.
    all: Vec<(String, Kind, Volumes)>,
    overview: Overview,
}

impl Outputs {
    fn open(args: &Args, geometry: Geometry, changer: &Changer) -> Result<Outputs> {
        let stdout = [PathBuf::from("-")];
        let paths = if args.outputs.is_empty() { &stdout[..] } else { &args.outputs };
        let (mut sinks, mut all, mut overview) = (Vec::new(), Vec::new(), Overview::default());
        for path in paths {
            let path = Some(path.as_path()).filter(|path| *path != Path::new("-"));
            let device = match path {
                Some(path) => Device::open(path, args.force)?,
                None => Device::stdout()?,
            };
            let kind = device.kind();
            let options = sink::Options { changer: changer.clone(), ..sink::Options::default() };
            let sink = device.into_sink(path, options)?;
            all.push((sink.name().to_string(), kind, sink.volumes()));
            sinks.push(sink);
        }
        let mut sink = if sinks.len() > 1 {
            let tee = Tee::new(sinks, geometry.block)?;
            overview = tee.overview();
            Box::new(tee)
        } else {
            sinks.remove(0)
        };
        if let Some(rate) = args.rate {
            sink = Box::new(Paced::new(sink, rate));
        }
        Ok(Outputs { sink, all, overview })
    }

    /// The summary.
    fn tell(&self, last: &Snapshot, geometry: Geometry, progress: &Progress) {
        let mut text = last.strokes.in_words();
        for (name, _, volumes) in &self.all {
            text.push_str(&report::on_tape(Some(name.as_str()).filter(|_| self.all.len() > 1), volumes));
        }
        let (empty, full) = (last.strokes.starts.saturating_sub(1), last.full);
        progress.done(last, Some(format!("{text}; the buffer was {empty} times empty, {full} times full")));
        if self.all.iter().any(|(_, kind, _)| *kind == Kind::Tape) {
            report::advise(last, geometry, Kind::Tape);
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
