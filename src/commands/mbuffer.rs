//! `util mbuffer`: one stream through the ring, from standard input or a file to standard output, a
//! file or a tape.

use std::{
    fs::File,
    io::{self, ErrorKind, IsTerminal, Read},
    os::fd::AsFd,
    path::Path,
    sync::{Mutex, PoisonError},
};

use nix::poll::PollFlags;

use super::{files, report};
use crate::{
    cli::args::Args,
    device::{self, Device},
    drive,
    error::{Context, Error, Result, io_reason},
    log,
    oci::Hasher,
    pipeline::{self, Geometry, Halt, Job},
    progress::Progress,
    ring::{Bounds, Segment},
    volumes::Changer,
};

pub fn run(args: &Args) -> Result<()> {
    let geometry = Geometry::new(args.block_size, args.buffer_size, args.hwm)?;
    let (input, name) = open(args.input.as_deref())?;
    device::enlarge_pipe(&input);
    let output = args.output_file.as_deref();
    if let (Some(input), Some(output)) = (&args.input, output)
        && files::is_same_file(input, output)
    {
        return Err(Error::usage(format!("{output:?} is both --input and --output")));
    }
    let device = match output {
        Some(path) => Device::open(path, args.force)?,
        None => Device::stdout()?,
    };
    let kind = device.kind();
    let options =
        drive::Options { changer: Changer { command: args.volume_command.clone() }, ..drive::Options::default() };
    let mut device = device.into_sink(output, options)?;
    let volumes = device.volumes();
    let hasher = args.sha256.then(|| Mutex::new(Hasher::Sha256(Default::default())));
    let progress = Progress::new(&args.progress)?;
    let job = Job {
        geometry,
        from: 0,
        keep: 0,
        bounds: Bounds::open(),
        producers: 1,
        produce: &|segment| pump(&input, &name, hasher.as_ref(), segment),
        // A read that blocks ends when its thread is nudged.
        cancel: &|| {},
    };
    let (last, outcome) = pipeline::run(job, &mut *device, &mut |now| {
        progress.writing(now, None);
        Ok(())
    });
    match outcome {
        Ok(()) => {
            let (strokes, full) = (report::strokes(&last, &volumes), last.full);
            let empty = last.strokes.starts.saturating_sub(1);
            progress.done(&last, Some(format!("{strokes}; the buffer was {empty} times empty, {full} times full")));
            report::advise(&last, geometry, kind);
            if let Some(hasher) = hasher {
                log::line(format_args!("{}", hasher.into_inner().unwrap_or_else(PoisonError::into_inner).finish()));
            }
        }
        Err(_) => progress.clear(),
    }
    outcome.map_err(|e| if last.capacity > 0 { e.after(format!("{} bytes were written", last.accepted)) } else { e })
}

/// The input, and its name.
fn open(path: Option<&Path>) -> Result<(File, String)> {
    if let Some(path) = path {
        return Ok((File::open(path).doing(|| format!("opening {path:?}"))?, format!("{path:?}")));
    }
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return Err(Error::usage("standard input is a terminal").hint("feed it from a pipe or a file"));
    }
    let input = stdin.as_fd().try_clone_to_owned().doing(|| "opening standard input")?;
    Ok((File::from(input), "standard input".into()))
}

/// Reads all there is into the one segment, and hashes it.
fn pump(mut input: &File, name: &str, hasher: Option<&Mutex<Hasher>>, mut segment: Segment) -> Result<(), Halt> {
    // There is one segment, so nobody waits for this.
    let mut hasher = hasher.map(|hasher| hasher.lock().unwrap_or_else(PoisonError::into_inner));
    loop {
        let window = segment.window()?;
        match input.read(window) {
            Ok(0) => {
                segment.end_stream();
                return Ok(());
            }
            Ok(n) => {
                if let Some(hasher) = &mut hasher {
                    hasher.update(&window[..n]);
                }
                segment.advance(n);
                segment.publish();
            }
            // Stopped, perhaps: `window` knows.
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => device::wait_until(input, PollFlags::POLLIN),
            Err(e) => return Err(Error::new(io_reason(&e)).doing(format!("reading {name}")).into()),
        }
    }
}
