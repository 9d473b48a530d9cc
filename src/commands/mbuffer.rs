//! `util mbuffer`: standard input to standard output through the ring.

use std::{
    fs::File,
    io::{self, ErrorKind, IsTerminal, Read},
    os::fd::AsFd,
};

use nix::poll::PollFlags;

use crate::{
    cli::args::Args,
    device::{self, Device},
    drive,
    error::{Context, Error, Result, io_reason},
    pipeline::{self, Geometry, Halt, Job},
    progress::Progress,
    ring::{Bounds, Segment},
};

pub fn run(args: &Args) -> Result<()> {
    let geometry = Geometry::new(args.block_size, args.buffer_size, args.hwm)?;
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return Err(Error::usage("standard input is a terminal").hint("feed it from a pipe or a file"));
    }
    let input = File::from(stdin.as_fd().try_clone_to_owned().doing(|| "opening standard input")?);
    device::enlarge_pipe(&input);
    let mut device = Device::stdout()?.into_sink(None, drive::Options::default())?;
    let progress = Progress::new(&args.progress)?;
    let job = Job {
        geometry,
        from: 0,
        keep: 0,
        bounds: Bounds::open(),
        producers: 1,
        produce: &|segment| pump(&input, segment),
        // A read that blocks ends when its thread is nudged.
        cancel: &|| {},
    };
    let (last, outcome) = pipeline::run(job, &mut *device, &mut |now| {
        progress.writing(now, None);
        Ok(())
    });
    match outcome {
        Ok(()) => progress.done(&last, None),
        Err(_) => progress.clear(),
    }
    outcome.map_err(|e| if last.capacity > 0 { e.after(format!("{} bytes were written", last.accepted)) } else { e })
}

/// Reads all there is into the one segment.
fn pump(mut input: &File, mut segment: Segment) -> Result<(), Halt> {
    loop {
        let window = segment.window()?;
        match input.read(window) {
            Ok(0) => {
                segment.end_stream();
                return Ok(());
            }
            Ok(n) => {
                segment.advance(n);
                segment.publish();
            }
            // Stopped, perhaps: `window` knows.
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => device::wait_until(input, PollFlags::POLLIN),
            Err(e) => return Err(Error::new(io_reason(&e)).doing("reading standard input").into()),
        }
    }
}
