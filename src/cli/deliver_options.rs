//! What the commands of the high side take: those that bring archives into a registry, and that look at what was gathered.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    args::{Args, ListFormat},
    command_line::CommandLine,
    options::{ConnectionOptions, FromArgs, input, locator, path, utf8},
    progress::ProgressOptions,
};
use crate::{
    error::{Error, Result},
    media::stream_input::InputOptions,
    oci::Reference,
    store::Locator,
};

/// A registry may be away for so long.
const AWAY: Duration = Duration::from_secs(600);

/// How archives are brought into a registry.
#[derive(Clone, Debug)]
pub struct DeliverOptions {
    /// How the registry is reached.
    pub connection: ConnectionOptions,
    /// How progress is shown.
    pub progress: ProgressOptions,
    /// How archives are read.
    pub input: InputOptions,
    /// Members must stand in the order of the format.
    pub strict: bool,
    /// Go on behind what is damaged.
    pub keep_going: bool,
    /// Send nothing.
    pub dry_run: bool,
    /// Look again at the end.
    pub verify: bool,
}

impl DeliverOptions {
    /// Of `args`.
    pub(super) fn new(args: &Args) -> DeliverOptions {
        let mut connection = ConnectionOptions::new(args);
        if !args.was_given("retries") {
            // The drive waits meanwhile; what a tape has passed cannot be had again.
            connection.policy.away = if args.was_given("retry-time") { args.policy.total } else { AWAY };
        }
        DeliverOptions {
            connection,
            progress: args.progress.clone(),
            input: input(args),
            strict: args.strict,
            keep_going: args.keep_going,
            dry_run: args.dry_run,
            verify: args.verify,
        }
    }
}

/// One run over archives, and the files that it leaves.
#[derive(Clone, Debug)]
pub struct ArchiveRunOptions {
    /// How.
    pub deliver: DeliverOptions,
    /// What is read, one behind the other.
    pub archives: Vec<PathBuf>,
    /// Where what must be sent again is listed.
    pub wanted: Option<PathBuf>,
    /// Where is told what became of each image and blob.
    pub report: Option<PathBuf>,
    /// Where is recorded what is delivered.
    pub checkpoint: Option<PathBuf>,
    /// Go on where that ends.
    pub resume: bool,
    /// The archives are the shards of this plan.
    pub plan: Option<PathBuf>,
    /// To be given again.
    line: CommandLine,
}

impl ArchiveRunOptions {
    /// Of `args`, whose last operand is where archives go.
    ///
    /// # Errors
    /// If there is nothing to resume by.
    pub(super) fn new(args: Args, command: &'static str) -> Result<ArchiveRunOptions> {
        if args.resume && args.checkpoint.is_none() {
            return Err(Error::usage("--resume goes by a record: give the --checkpoint of the interrupted run"));
        }
        Ok(ArchiveRunOptions {
            deliver: DeliverOptions::new(&args),
            archives: args.operands[..args.operands.len() - 1].iter().map(PathBuf::from).collect(),
            wanted: args.wanted,
            report: args.report,
            checkpoint: args.checkpoint,
            resume: args.resume,
            plan: args.plan,
            line: CommandLine { command, flags: args.given, dest: args.operands.len() - 1, operands: args.operands },
        })
    }

    /// Where is recorded what is delivered, if anything is, and whether to go on where that ends.
    pub fn recorded(&self) -> Option<(&Path, bool)> {
        self.checkpoint.as_deref().filter(|_| !self.deliver.dry_run).map(|path| (path, self.resume))
    }

    /// The command that goes on with an interrupted run.
    pub fn go_on(&self) -> String {
        let resume = self.checkpoint.as_ref().map(|_| ("resume", String::new()));
        format!("to go on: {}", self.line.with(resume.as_slice()))
    }
}

/// For `mirror deserialize`.
#[derive(Clone, Debug)]
pub struct DeserializeOptions {
    /// What is read, and how.
    pub run: ArchiveRunOptions,
    /// Where to.
    pub image: Reference,
}

/// For `mirror batch-deserialize`.
#[derive(Clone, Debug)]
pub struct BatchDeserializeOptions {
    /// How.
    pub deliver: DeliverOptions,
    /// Where the archives are.
    pub directory: PathBuf,
    /// Where to: a repository.
    pub destination: Reference,
    /// Name of the file in the directory that records what was delivered.
    pub sync_filename: String,
}

/// For `mirror diff`.
#[derive(Clone, Debug)]
pub struct DiffOptions {
    /// How registries are reached.
    pub connection: ConnectionOptions,
    /// Whose sources are listed.
    pub image: Locator,
    /// What is there already.
    pub existing: Vec<Locator>,
    /// Replace nested gathers by their sources.
    pub expand: bool,
    /// Count what would be carried.
    pub bytes: bool,
    /// How the list is written, and whereto; `None` is standard output.
    pub outputs: Vec<(ListFormat, Option<PathBuf>)>,
}

impl FromArgs for DeserializeOptions {
    fn from_args(args: Args, command: &'static str) -> Result<DeserializeOptions> {
        let image = reference(&args, args.operands.len() - 1, "IMAGE")?;
        Ok(DeserializeOptions { run: ArchiveRunOptions::new(args, command)?, image })
    }
}

impl FromArgs for BatchDeserializeOptions {
    fn from_args(args: Args, _: &'static str) -> Result<BatchDeserializeOptions> {
        let destination = reference(&args, 1, "DESTINATION")?;
        if destination.tag.is_some() || destination.digest.is_some() {
            let why = format!("{destination} has a tag or a digest, but each file gets a tag of its own");
            return Err(Error::usage(why).doing("DESTINATION"));
        }
        Ok(BatchDeserializeOptions {
            deliver: DeliverOptions::new(&args),
            directory: path(&args, 0).into(),
            destination,
            sync_filename: args.sync_filename,
        })
    }
}

impl FromArgs for DiffOptions {
    fn from_args(args: Args, _: &'static str) -> Result<DiffOptions> {
        // An archive or a layout is named by its path alone, too.
        let image = |operand: &OsString| match std::fs::metadata(operand) {
            Ok(meta) if meta.is_dir() => Ok(Locator::Layout(operand.into(), None)),
            Ok(_) => Ok(Locator::Archive(operand.into(), None)),
            Err(_) => locator(operand, "IMAGE"),
        };
        let outputs = if args.listings.is_empty() { vec![(ListFormat::Table, None)] } else { args.listings.clone() };
        Ok(DiffOptions {
            connection: ConnectionOptions::new(&args),
            image: image(&args.operands[0])?,
            existing: args.operands[1..].iter().map(image).collect::<Result<_>>()?,
            expand: args.expand,
            bytes: args.bytes,
            outputs,
        })
    }
}

/// The operand at `n`: an image in a registry.
fn reference(args: &Args, n: usize, what: &str) -> Result<Reference> {
    let wrong = |why: String| Error::usage(why).doing(what);
    utf8(&args.operands[n]).map_err(wrong)?.parse().map_err(wrong)
}
