//! Several destinations of one stream. Each has a thread, all write a block at the same time, and the
//! slowest sets the pace. One that fails is left behind, and the others go on.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, Sender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{
    error::{Context, Error, Result},
    log,
    media::sink::{Sink, SinkStart},
    signal::{self, CancelToken, ThreadId},
};
use memmap2::MmapMut;

const LOOK: Duration = Duration::from_millis(20);

/// Writes each block to several sinks.
pub struct Tee {
    /// What is to be written to, until it begins.
    sinks: Vec<Box<dyn Sink>>,
    /// What is written to and has not failed.
    lanes: Vec<Lane>,
    /// The block that all write: memory of whole pages, which direct writes need.
    block: Arc<MmapMut>,
    to: Sender<Outcome>,
    outcomes: Receiver<Outcome>,
    /// The run is given up.
    cancel: CancelToken,
    /// The threads give up what they are at.
    abandoned: CancelToken,
    overview: Overview,
    name: String,
    needs_strokes: bool,
    accepted: u64,
}

/// What others may know of a [`Tee`] while it writes.
#[derive(Clone, Default)]
pub struct Overview(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    busy: Vec<String>,
    failed: Vec<Error>,
}

impl Overview {
    /// Names the sinks that have not yet taken a block which the others have taken, if it takes long.
    pub fn stuck(&self) -> Option<String> {
        let names = self.0.lock().unwrap_or_else(PoisonError::into_inner).busy.join(" and ");
        (!names.is_empty()).then_some(names)
    }

    /// Why sinks were left behind.
    pub fn failed(&self) -> Vec<Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).failed.clone()
    }
}

#[derive(Clone)]
enum Task {
    /// So many bytes of a block.
    Write(Arc<MmapMut>, usize),
    Finish,
}

/// What became of a task.
struct Outcome {
    lane: usize,
    result: Result<()>,
    /// What the sink has accepted by then.
    accepted: u64,
}

/// A sink, and the thread that writes to it.
struct Lane {
    number: usize,
    name: String,
    tasks: Sender<Task>,
    id: ThreadId,
    thread: JoinHandle<()>,
    /// It is at a task.
    busy: bool,
    failed: Option<Error>,
    accepted: u64,
}

impl Lane {
    fn start(number: usize, mut sink: Box<dyn Sink>, to: Sender<Outcome>) -> Result<Lane> {
        let (tasks, todo) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        let (name, accepted) = (sink.name().to_string(), sink.accepted());
        let work = move || {
            let _ = tell.send(ThreadId::current());
            for task in todo {
                let result = match task {
                    Task::Write(block, len) => sink.write_block(&block[..len]),
                    Task::Finish => sink.finish(),
                };
                let _ = to.send(Outcome { lane: number, result, accepted: sink.accepted() });
            }
        };
        let thread = thread::Builder::new().name(format!("writer {number}")).spawn(work);
        let thread = thread.doing(|| format!("starting a thread for {name}"))?;
        let id = told.recv().map_err(|_| Error::new("a thread did not start").doing(&name))?;
        Ok(Lane { number, name, tasks, id, thread, busy: false, failed: None, accepted })
    }
}

impl Tee {
    /// Writes to all of these, in blocks of `block` bytes.
    ///
    /// # Errors
    /// If there is no memory.
    pub fn new(sinks: Vec<Box<dyn Sink>>, block: usize) -> Result<Tee> {
        let name = sinks.iter().map(|sink| sink.name()).collect::<Vec<_>>().join(" and ");
        let needs_strokes = sinks.iter().any(|sink| sink.needs_strokes());
        let (to, outcomes) = mpsc::channel();
        let memory = MmapMut::map_anon(block).doing(|| format!("taking {block} bytes of memory"))?;
        Ok(Tee {
            sinks,
            lanes: Vec::new(),
            block: Arc::new(memory),
            to,
            outcomes,
            cancel: CancelToken::default(),
            abandoned: CancelToken::default(),
            overview: Overview::default(),
            name,
            needs_strokes,
            accepted: 0,
        })
    }

    /// What others may know while it writes.
    pub fn overview(&self) -> Overview {
        self.overview.clone()
    }

    fn show(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.overview.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Has all do it at the same time, and leaves behind those that fail.
    ///
    /// # Errors
    /// If the run is given up meanwhile, or none is left.
    fn all(&mut self, task: Task) -> Result<()> {
        for lane in &mut self.lanes {
            lane.busy = true;
            // A thread that is gone is found below.
            let _ = lane.tasks.send(task.clone());
        }
        drop(task);
        while self.lanes.iter().any(|lane| lane.busy) {
            match self.outcomes.recv_timeout(LOOK) {
                Ok(outcome) => {
                    for lane in self.lanes.iter_mut().filter(|lane| lane.number == outcome.lane) {
                        (lane.busy, lane.accepted) = (false, outcome.accepted);
                        lane.failed = outcome.result.as_ref().err().cloned();
                    }
                }
                Err(_) => self.look_after(),
            }
        }
        if self.abandoned.is_cancelled() {
            signal::check()?;
            return Err(Error::new("the run was given up").doing(format!("writing {}", self.name)));
        }
        self.leave_behind()
    }

    /// Something takes long: tells what, and ends it if the run is given up.
    fn look_after(&mut self) {
        for lane in self.lanes.iter_mut().filter(|lane| lane.busy && lane.thread.is_finished()) {
            lane.busy = false;
            lane.failed = Some(Error::new("its thread panicked; this is a fault of ace-dt").doing(&lane.name));
        }
        let busy = || self.lanes.iter().filter(|lane| lane.busy);
        self.show(|seen| seen.busy = busy().map(|lane| lane.name.clone()).collect());
        if self.cancel.is_cancelled() || signal::requested().is_some() {
            self.abandoned.cancel();
            busy().filter(|lane| !lane.thread.is_finished()).for_each(|lane| lane.id.interrupt());
        }
    }

    fn leave_behind(&mut self) -> Result<()> {
        let (mut failed, left): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.lanes).into_iter().partition(|lane| lane.failed.is_some());
        self.lanes = left;
        let last = if self.lanes.is_empty() { failed.pop().and_then(|lane| lane.failed) } else { None };
        for error in failed.into_iter().filter_map(|lane| lane.failed) {
            log::warn(format_args!("{error}; this output is left behind"));
            self.show(|seen| seen.failed.push(error));
        }
        match last {
            Some(error) => Err(error),
            None => {
                self.accepted = self.lanes.iter().map(|lane| lane.accepted).min().unwrap_or(self.accepted);
                Ok(())
            }
        }
    }
}

impl Sink for Tee {
    fn prepare(&mut self, start: &SinkStart) -> Result<()> {
        self.sinks.iter_mut().try_for_each(|sink| sink.prepare(start))
    }

    fn begin(&mut self, start: &SinkStart) -> Result<()> {
        self.cancel = start.cancel.clone();
        for sink in &mut self.sinks {
            sink.begin(&SinkStart { cancel: self.abandoned.clone(), ..start.clone() })?;
        }
        for (number, sink) in std::mem::take(&mut self.sinks).into_iter().enumerate() {
            self.lanes.push(Lane::start(number, sink, self.to.clone())?);
        }
        self.accepted = start.from;
        Ok(())
    }

    fn write_block(&mut self, block: &[u8]) -> Result<()> {
        // Each thread lets go of it before it tells the outcome.
        let held = || Error::new("a thread still holds the block before").doing(&self.name);
        let memory = Arc::get_mut(&mut self.block).ok_or_else(held)?;
        memory[..block.len()].copy_from_slice(block);
        self.all(Task::Write(self.block.clone(), block.len()))
    }

    fn finish(&mut self) -> Result<()> {
        // What was accepted is brought to the media even if the run is given up.
        self.cancel = CancelToken::default();
        self.all(Task::Finish)
    }

    fn accepted(&self) -> u64 {
        self.accepted
    }

    fn needs_strokes(&self) -> bool {
        self.needs_strokes
    }

    fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Tee {
    /// Waits for the threads: each lets go of its sink when there are no more tasks.
    fn drop(&mut self) {
        for Lane { tasks, thread, .. } in std::mem::take(&mut self.lanes) {
            drop(tasks);
            let _ = thread.join();
        }
    }
}
