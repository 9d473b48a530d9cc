//! What the commands have in common that bring archives into a registry: archives opened and read, and what became of
//! them told.

use std::{
    io::BufRead as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use super::setup::Setup;
use crate::{
    archive::read::{
        decompress::Decompressed,
        events::{Event, EventReader},
        open::groups,
    },
    cli::{
        deliver_options::{ArchiveRunOptions, DeliverOptions},
        output,
        progress::Progress,
    },
    compression::Format,
    delivery::{
        Delivery, DeliveryOptions, ReadingFrom, Route, Routing,
        archive_set::ArchiveSet,
        checkpoint::DeliveryCheckpoint,
        homes::{Homes, MakeTarget},
        outcome::DeliveryOutcome,
    },
    error::{Context, Error, Result},
    log,
    media::{
        files::Files,
        files_cursor::FilesCursor,
        input::Input,
        source::MediaSource,
        stream_input::{InputOptions, StreamInput},
    },
    oci::{Digest, Manifest, Reference, Repository, media},
    shards::plan_file::SharedPlan,
    store::target::{RegistryTarget, Rehearsal, Target},
    util::units::grouped,
};

const TICK: Duration = Duration::from_millis(100);
/// How often is recorded what is delivered.
const RECORD_EVERY: Duration = Duration::from_secs(2);

/// One image's archives, and where they go.
pub struct DeliveryJob<'a> {
    /// How.
    pub options: &'a DeliverOptions,
    /// What is read.
    pub archives: &'a [PathBuf],
    /// Where to.
    pub to: DeliveredTo<'a>,
    /// The registries.
    pub setup: &'a Setup,
    /// Who hears how far it is.
    pub progress: &'a Progress,
    /// Where is recorded what is delivered, and whether to go on where that ends.
    pub checkpoint: Option<(&'a Path, bool)>,
    /// The archives are the shards of this plan.
    pub shared: Option<&'a SharedPlan>,
}

/// Where archives go.
#[derive(Clone, Copy)]
pub enum DeliveredTo<'a> {
    /// All to one repository, and the root under a tag.
    Image(&'a Reference),
    /// The sources of the root to where a map says.
    Mapped(&'a MappedDestinations<'a>),
}

/// Where a map says that sources go.
pub struct MappedDestinations<'a> {
    /// Says so.
    pub route: &'a Route<'a>,
    /// In words, for errors.
    pub name: &'a str,
    /// For a checkpoint: the same again goes to the same places.
    pub fingerprint: String,
    /// Referrers, too.
    pub recursive: bool,
}

/// An input, and from where on it is read.
struct OpenedInput {
    input: Input,
    from: ReadingFrom,
    /// What it is called, where there are several.
    name: Option<Arc<str>>,
}

impl<'a> DeliveryJob<'a> {
    /// One run to `to`, with its record.
    pub fn of(
        run: &'a ArchiveRunOptions,
        to: DeliveredTo<'a>,
        shared: Option<&'a SharedPlan>,
        setup: &'a Setup,
        progress: &'a Progress,
    ) -> DeliveryJob<'a> {
        let (options, archives, checkpoint) = (&run.deliver, &*run.archives, run.recorded());
        DeliveryJob { options, archives, to, setup, progress, checkpoint, shared }
    }

    /// Reads the archives, delivers what they hold, and tells of what is missing.
    ///
    /// # Errors
    /// If an archive cannot be opened, or a signal asks to stop. All else is in the outcome.
    pub fn run(&self) -> Result<DeliveryOutcome> {
        let record = self.record()?;
        let inputs = self.open(record.as_ref())?;
        if record.is_none() {
            self.check_digest(&inputs)?;
            self.check_files_of_set(&inputs)?;
        }
        let make = |repository: &Repository| target(self.setup, repository, self.options.dry_run);
        let make: &MakeTarget = &make;
        let homes = Homes::new(make);
        if let DeliveredTo::Image(image) = self.to {
            homes.number(&image.repository);
        }
        let rereads = self.archives.iter().all(|path| is_file(path));
        let (destination, routing, recursive) = match self.to {
            DeliveredTo::Image(image) => (image.repository.to_string(), Routing::All, true),
            DeliveredTo::Mapped(to) => (to.fingerprint.clone(), Routing::ByRoot(to.route), to.recursive),
        };
        let delivery = Delivery::new(DeliveryOptions {
            homes,
            destination,
            routing,
            recursive,
            rereads,
            keeps_nothing: false,
            looks_again: self.options.verify,
            digest: self.digest().cloned(),
            set: self.shared.map(set_of),
            threads: self.setup.threads,
            keep_going: self.options.keep_going,
            strict: self.options.strict,
            check_all: self.options.dry_run,
            has_checkpoint: self.checkpoint.is_some(),
        });
        record.map_or(Ok(()), |record| delivery.resume(&record))?;
        delivery.begin_set().doing(|| self.doing())?;
        let size = |opened: &OpenedInput| match &opened.input {
            Input::Files(files) => Some(files.total()),
            Input::Stream(_) => None,
        };
        let (total, begun): (Option<u64>, _) = (inputs.iter().map(size).sum(), Instant::now());
        let outcome = thread::scope(|scope| {
            let (done, over) = mpsc::channel::<()>();
            let (delivery, progress) = (&delivery, self.progress);
            let checkpoint = self.checkpoint.map(|(path, _)| path);
            let ticker = scope.spawn(move || {
                let mut recorded = Instant::now();
                while let Err(RecvTimeoutError::Timeout) = over.recv_timeout(TICK) {
                    progress.delivering(&delivery.tally(), total, begun.elapsed());
                    if let Some(path) = checkpoint.filter(|_| recorded.elapsed() >= RECORD_EVERY) {
                        record_progress(delivery.checkpoint().as_ref(), path);
                        recorded = Instant::now();
                    }
                }
            });
            let outcome = delivery.run(self.tag(), || {
                inputs.into_iter().try_for_each(|input| read(delivery, input))?;
                // What was wanted only when it had passed by is read once more.
                while rereads && delivery.has_missed()? {
                    self.open(None)?.into_iter().try_for_each(|input| read(delivery, input))?;
                }
                Ok(())
            });
            drop(done);
            // What it records is not the last word.
            let _ = ticker.join();
            if let Some(path) = checkpoint {
                match &outcome {
                    // Nothing is left to go on with.
                    Ok(outcome) if outcome.is_complete() => drop(std::fs::remove_file(path)),
                    Ok(outcome) => record_progress(outcome.checkpoint.as_ref(), path),
                    Err(_) => record_progress(delivery.checkpoint().as_ref(), path),
                }
            }
            outcome.map_err(|e| e.after(delivery.tally().in_words()))
        });
        self.progress.clear();
        let outcome = outcome?;
        if !self.options.dry_run {
            self.progress.delivered(&outcome.tally, begun.elapsed(), outcome.is_complete());
        }
        Ok(outcome)
    }

    /// The record that the run goes on with, if it is to; where one will be written is found out.
    fn record(&self) -> Result<Option<DeliveryCheckpoint>> {
        let Some((path, resume)) = self.checkpoint else { return Ok(None) };
        let record = DeliveryCheckpoint::read(path)?;
        DeliveryCheckpoint::check(path)?;
        if resume && record.is_none() {
            log::warn(format_args!("there is no record {path:?} to go on with: the run starts from the beginning"));
        }
        Ok(record.filter(|_| resume))
    }

    /// Opens what is to be read; of what an earlier run has delivered, nothing.
    fn open(&self, record: Option<&DeliveryCheckpoint>) -> Result<Vec<OpenedInput>> {
        let first = record.map(|record| record.position).unwrap_or_default();
        let mut inputs = Vec::new();
        let groups = groups(self.archives)?;
        let is_one_of_several = groups.len() > 1;
        for (archive, group) in groups.iter().enumerate().skip(first.archive) {
            let mut options = self.options.input.clone();
            let mut from = ReadingFrom { archive, ..ReadingFrom::default() };
            if record.is_some() && archive == first.archive {
                (from.start, from.offset) = (first.start, first.offset);
                options.start = first.on_tape();
            }
            let is_on_tape = options.start.is_some();
            let input = Input::open(group, options)?;
            match &input {
                // It is read from its beginning: what is delivered is known to be there when it passes.
                Input::Stream(_) if !is_on_tape => from.offset = 0,
                Input::Stream(_) => {}
                Input::Files(files) if from.offset > 0 && from.start == 0 && archive == 0 && self.shared.is_none() => {
                    let root = record.and_then(|record| record.root.as_ref()).map(|root| &root.digest);
                    if first_root(files)?.as_ref() != root {
                        let error = Error::new("the record is of another archive").doing(self.doing());
                        return Err(error.hint("without --resume it is delivered from its beginning"));
                    }
                }
                Input::Files(_) => {}
            }
            let name = is_one_of_several.then(|| format!("{:?}", group[0]).into());
            inputs.push(OpenedInput { input, from, name });
        }
        Ok(inputs)
    }

    /// The tag that the root gets.
    fn tag(&self) -> Option<&str> {
        let DeliveredTo::Image(image) = self.to else { return None };
        match (&image.tag, &image.digest) {
            (Some(tag), _) => Some(tag),
            (None, None) => Some("latest"),
            (None, Some(_)) => None,
        }
    }

    /// The digest that the root must have.
    fn digest(&self) -> Option<&'a Digest> {
        match self.to {
            DeliveredTo::Image(image) => image.digest.as_ref(),
            DeliveredTo::Mapped(_) => None,
        }
    }

    /// With a digest: in a file the `index.json` is found before anything is sent, wherever it stands.
    fn check_digest(&self, inputs: &[OpenedInput]) -> Result<()> {
        if let (Some(wanted), Some(shared)) = (self.digest(), self.shared)
            && *wanted != shared.plan.root
        {
            let why = format!("the root of the plan is {}, and not {wanted}", shared.plan.root);
            return Err(Error::new(why).doing(self.doing()));
        }
        let is_alone = self.shared.is_none();
        let (Some(wanted), Some(Input::Files(files))) =
            (self.digest().filter(|_| is_alone), inputs.first().map(|opened| &opened.input))
        else {
            return Ok(());
        };
        match first_root(files)? {
            Some(root) if root != *wanted => {
                Err(Error::new(format!("the archive holds {root}, and not {wanted}")).doing(self.doing()))
            }
            _ => Ok(()),
        }
    }

    /// Shards in files are looked at before anything is sent: all must be there.
    fn check_files_of_set(&self, inputs: &[OpenedInput]) -> Result<()> {
        let Some(shared) = self.shared else { return Ok(()) };
        let mut roots = Vec::new();
        for (OpenedInput { input, .. }, group) in inputs.iter().zip(groups(self.archives)?) {
            // What is on a tape or in a pipe is found out as it comes.
            let Input::Files(files) = input else { return Ok(()) };
            roots.push((format!("{:?}", group[0]), first_root(files)?));
        }
        shared.check_set(&roots).doing(|| self.doing())
    }

    /// For errors.
    pub fn doing(&self) -> String {
        let archives: Vec<String> = self.archives.iter().map(|path| format!("{path:?}")).collect();
        let to = match self.to {
            DeliveredTo::Image(image) => image.to_string(),
            DeliveredTo::Mapped(to) => to.name.to_string(),
        };
        format!("delivering {} to {to}", archives.join(", "))
    }

    fn print_plan(&self, outcome: &DeliveryOutcome) -> Result<()> {
        let tally = &outcome.tally;
        output::print(&format!(
            "to send: {} blobs and {} manifests, {} bytes\nthere already: {} blobs, {} bytes\n",
            tally.sent,
            tally.manifests,
            grouped(tally.bytes),
            tally.present + tally.mounted,
            grouped(tally.spared)
        ))
    }

    /// What is told at the end; the error if not all is there.
    ///
    /// # Errors
    /// If something is missing or wrong.
    pub fn conclude(&self, outcome: &DeliveryOutcome) -> Result<()> {
        let failed = |e: Error| Err(e.doing(self.doing()));
        if let Some(e) = &outcome.stop {
            return failed(e.clone());
        }
        outcome.tell_lacking();
        if let Some(missing) = self.shared.and_then(|shared| shared.missing(&|root| outcome.met_roots.contains(root))) {
            return failed(missing);
        }
        if self.options.dry_run {
            self.print_plan(outcome)?;
        }
        match outcome.lacking.len() {
            0 if outcome.is_wrong => return failed(Error::new("the archive is not what it should be")),
            0 => {}
            n => {
                let tag = if self.tag().is_some() { "; no tag was set" } else { "" };
                let tag = if outcome.tagged.is_some() { "" } else { tag };
                let tag = if matches!(self.to, DeliveredTo::Mapped(_)) { "" } else { tag };
                let what = if n == 1 { "one thing is".into() } else { format!("{} things are", grouped(n as u64)) };
                return failed(Error::new(format!("{what} missing or cannot be pushed{tag}")));
            }
        }
        let Some(root) = &outcome.root else { return failed(Error::new("the archive lists no image")) };
        if self.options.dry_run {
            return Ok(());
        }
        if let DeliveredTo::Image(image) = self.to {
            let tag = outcome.tagged.as_ref().map_or(String::new(), |tag| format!(":{tag}"));
            self.progress.say(&format!("{}{tag}@{}", image.repository, root.digest));
        }
        Ok(())
    }
}

/// The shards of a plan, as a delivery sees them.
fn set_of(shared: &SharedPlan) -> ArchiveSet {
    let (root, bytes) = shared.root();
    let members = shared.plan.shards.iter().filter_map(|shard| shard.root.clone());
    ArchiveSet { root, bytes: bytes.into(), members: members.collect() }
}

/// The target of a repository; with `dry_run` nothing is sent there.
pub fn target<'a>(setup: &'a Setup, repository: &Repository, dry_run: bool) -> Box<dyn Target + 'a> {
    let target = RegistryTarget::new(setup.store.registries(), repository.clone());
    if dry_run { Box::new(Rehearsal::new(target)) } else { Box::new(target) }
}

/// Records how far a delivery is. That it cannot be recorded does not end it.
fn record_progress(record: Option<&DeliveryCheckpoint>, path: &Path) {
    if let Some(Err(e)) = record.map(|record| record.write(path)) {
        log::warn(e);
    }
}

/// Reads archives one after the other, until `look` has seen enough.
///
/// # Errors
/// If one cannot be opened or read, or `look` fails.
pub fn look_through(
    archives: &[PathBuf],
    options: &InputOptions,
    look: &mut dyn FnMut(&mut EventReader) -> Result<bool>,
) -> Result<()> {
    for group in groups(archives)? {
        let is_enough = match Input::open(&group, options.clone())? {
            Input::Files(files) => look(&mut EventReader::new(&mut FilesCursor::new(files, 0), true))?,
            Input::Stream(mut stream) => {
                let format = Format::of(stream.fill_buf().map_err(Error::from_io).doing(|| "reading the archive")?);
                match format {
                    None => look(&mut EventReader::new(&mut *stream, true))?,
                    Some(format) => {
                        let capacity = stream.ring().capacity();
                        let plain = Decompressed::new(&mut *stream, format, capacity, |_, _| ());
                        look(&mut EventReader::new(&mut plain.doing(|| "making the buffer")?, true))?
                    }
                }
            }
        };
        if is_enough {
            break;
        }
    }
    Ok(())
}

/// Reads all archives of an input.
fn read(delivery: &Delivery, OpenedInput { input, mut from, name }: OpenedInput) -> Result<()> {
    match input {
        Input::Files(files) => {
            while from.start < files.total() || from.start == 0 {
                let cursor = FilesCursor::new(files.clone(), from.start + from.offset);
                let mut cursor = cursor.passing_holes(delivery.keeps_going());
                let mut events = EventReader::at(&mut cursor, true, from.offset).called(name.clone());
                let ended = delivery.read(&mut events, from, None)?;
                let Some(end) = ended.and_then(|ended| ended.end) else { break };
                (from.start, from.offset) = (files.part_end(from.start + end), 0);
            }
            Ok(())
        }
        Input::Stream(mut stream) => {
            let mut all = || {
                while read_stream(delivery, &mut stream, from, name.as_ref())?
                    && stream.next_file().map_err(Error::from_io)?
                {
                    from = ReadingFrom { is_further: true, offset: 0, ..from };
                }
                Ok(())
            };
            let read = all();
            delivery.has_waited(stream.ring().full());
            read
        }
    }
}

/// Reads the next archive of a stream. `false`: it has no end.
fn read_stream(
    delivery: &Delivery,
    stream: &mut StreamInput,
    mut from: ReadingFrom,
    name: Option<&Arc<str>>,
) -> Result<bool> {
    let ring = stream.ring();
    let format = Format::of(stream.fill_buf().map_err(Error::from_io).doing(|| "reading the archive")?);
    from.is_compressed = format.is_some();
    let read = |source: &mut dyn MediaSource, ring| {
        let mut events = EventReader::at(source, true, from.offset).called(name.cloned());
        delivery.read(&mut events, from, Some(ring))
    };
    let ended = match format.filter(|_| !stream.began_further_on()) {
        None => read(stream, &ring)?,
        Some(format) => {
            // What is decompressed takes as much memory as the compressed stream does.
            let plain = Decompressed::new(stream, format, ring.capacity(), |_, _| ());
            let mut plain = plain.doing(|| "making the buffer")?;
            let ring = plain.ring();
            read(&mut plain, &ring)?
        }
    };
    Ok(ended.is_some_and(|ended| ended.end.is_some()))
}

/// The first descriptor of the first `index.json` in files.
fn first_root(files: &Arc<Files>) -> Result<Option<Digest>> {
    let mut cursor = FilesCursor::new(files.clone(), 0);
    let mut events = EventReader::new(&mut cursor, false);
    loop {
        match events.next_event()? {
            Event::Index(file) => {
                let index = file.bytes.and_then(|bytes| Manifest::parse(media::INDEX, &bytes).ok());
                return Ok(index.and_then(|index| index.manifests.first().map(|root| root.digest.clone())));
            }
            Event::End(_) => return Ok(None),
            _ => {}
        }
    }
}

/// Whether a name is that of a file in `dir`.
pub fn is_file(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.is_file())
}
