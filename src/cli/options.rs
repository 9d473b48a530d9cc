//! What each command takes: operands named, defaults resolved, conflicts refused. Nothing is opened yet.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    args::{Args, ListFormat},
    command_line::CommandLine,
    progress::ProgressOptions,
};
use crate::{
    archive::{read::scan::BlobShare, write::session::WriteOptions},
    compression::{Codec, CompressionLevel, Format},
    config::{self, Config},
    error::{Error, Result},
    media::{stream_input::InputOptions, tape::changer::Changer},
    oci::{Digest, Reference},
    registry::transport::retry::RetryPolicy,
    store::Locator,
    stream::pipeline::Geometry,
};

/// What `util mux` reads of one stream at once if nothing else is asked for.
const MUX_BLOCK: u64 = 32 << 10;
/// The largest piece that `util mux` keeps in memory.
const MUX_BLOCK_MAX: u64 = 1 << 30;

/// How registries are reached.
#[derive(Clone, Debug)]
pub struct ConnectionOptions {
    config: Vec<PathBuf>,
    cache: Option<PathBuf>,
    /// How much is borne of registries.
    pub policy: RetryPolicy,
    /// Artifact types of referrers; none means all.
    pub referrer_types: Vec<String>,
}

impl ConnectionOptions {
    /// Of `args`.
    pub(super) fn new(args: &Args) -> ConnectionOptions {
        ConnectionOptions {
            config: args.config.clone(),
            cache: args.cache.clone(),
            policy: args.policy,
            referrer_types: args.referrer_types.clone(),
        }
    }

    /// The configuration in effect: the file's, with what the flags say of it.
    ///
    /// # Errors
    /// If it cannot be read, or makes no sense: wrong usage.
    pub fn load_config(&self) -> Result<Config> {
        let mut config = config::load(&self.config)?;
        config.cache = self.cache.clone().or(config.cache);
        Ok(config)
    }
}

/// How an archive is written, but for what the configuration says of compression.
#[derive(Clone, Debug)]
pub struct OutputOptions {
    format: Option<Format>,
    write: WriteOptions,
}

impl OutputOptions {
    /// Of `args`, onto `dest`.
    ///
    /// # Errors
    /// If the buffer cannot be laid out so.
    pub(super) fn new(args: &Args, dest: &Path) -> Result<OutputOptions> {
        if args.demands.room && args.compression.is_some() {
            let why = "--require-room: how large a compressed archive will be is not known beforehand";
            return Err(Error::usage(why));
        }
        let write = WriteOptions {
            dest: dest.into(),
            force: args.force,
            resume: args.resume,
            checkpoint: args.checkpoint.clone(),
            sync_interval: args.checkpoint_interval,
            label: args.label.clone(),
            changer: Changer::new(args.volume_command.clone()),
            demands: args.demands,
            geometry: geometry(args)?,
            codec: None,
        };
        Ok(OutputOptions { format: args.compression, write })
    }

    /// The format that the archive is compressed in.
    pub fn format(&self) -> Option<Format> {
        self.format
    }

    /// Where to.
    pub fn dest(&self) -> &Path {
        &self.write.dest
    }

    /// Write over what is there.
    pub fn force(&self) -> bool {
        self.write.force
    }

    /// Where is recorded what the medium holds.
    pub fn checkpoint(&self) -> Option<&Path> {
        self.write.checkpoint.as_deref()
    }

    /// All of it, compressing as hard as the configuration says.
    pub fn at_level(&self, level: CompressionLevel) -> WriteOptions {
        let codec = self.format.map(|format| Codec { format, level });
        WriteOptions { codec, ..self.write.clone() }
    }
}

/// What is at the destination already.
#[derive(Clone, Debug, Default)]
pub struct ExistingOptions {
    /// Checkpoints, each with the offset up to which it is believed; without one all of it is.
    pub checkpoints: Vec<(PathBuf, Option<u64>)>,
    /// Images whose blobs are left out.
    pub images: Vec<Locator>,
}

impl ExistingOptions {
    /// Of `args`, of which the operands from `first` on are images.
    ///
    /// # Errors
    /// If one is no image.
    pub(super) fn new(args: &Args, first: usize) -> Result<ExistingOptions> {
        let images = args.operands.iter().skip(first).map(|operand| locator(operand, "existing image"));
        Ok(ExistingOptions {
            checkpoints: args.existing_from_checkpoint.clone(),
            images: images.collect::<Result<_>>()?,
        })
    }
}

/// For `mirror serialize`.
#[derive(Clone, Debug)]
pub struct SerializeOptions {
    /// How registries are reached.
    pub connection: ConnectionOptions,
    /// How progress is shown.
    pub progress: ProgressOptions,
    /// What is archived.
    pub image: Locator,
    /// Referrers too.
    pub recursive: bool,
    /// How, and whereto.
    pub output: OutputOptions,
    /// What is left out.
    pub existing: ExistingOptions,
    /// Add a `manifest.json`.
    pub manifest_json: bool,
    /// To be given again.
    pub line: CommandLine,
}

/// For `mirror batch-serialize`.
#[derive(Clone, Debug)]
pub struct BatchOptions {
    /// How registries are reached.
    pub connection: ConnectionOptions,
    /// How progress is shown.
    pub progress: ProgressOptions,
    /// The list; `-` is standard input.
    pub list: PathBuf,
    /// Where archives and tracker are kept.
    pub directory: PathBuf,
    /// The tracker's name in it.
    pub tracker: String,
    /// Referrers too.
    pub recursive: bool,
    /// How archives are written.
    pub output: OutputOptions,
    /// Add a `manifest.json`.
    pub manifest_json: bool,
    /// Go on with others if an artifact fails.
    pub keep_going: bool,
    /// Where is told what became of each artifact.
    pub report: Option<PathBuf>,
    /// Only plan.
    pub dry_run: bool,
}

/// For `mirror verify`.
#[derive(Clone, Debug)]
pub struct VerifyOptions {
    /// How progress is shown.
    pub progress: ProgressOptions,
    /// What is checked, one behind the other.
    pub archives: Vec<PathBuf>,
    /// Checked against the first archive.
    pub checkpoint: Option<PathBuf>,
    /// Checkpoints and archives that have what is left out.
    pub existing: Vec<PathBuf>,
    /// The root that the first archive must have.
    pub root: Option<Digest>,
    /// Where what must be sent again is listed.
    pub wanted: Option<PathBuf>,
    /// How it is read.
    pub input: InputOptions,
    /// Only these blobs are hashed.
    pub share: Option<BlobShare>,
    /// The archives are the shards of this plan.
    pub plan: Option<PathBuf>,
    /// How it is printed.
    pub format: ListFormat,
}

/// For `mirror list`.
#[derive(Clone, Debug)]
pub struct ListOptions {
    /// What is listed, one behind the other.
    pub archives: Vec<PathBuf>,
    /// They are the shards of this plan.
    pub plan: Option<PathBuf>,
    /// How it is read.
    pub input: InputOptions,
    /// How it is printed.
    pub format: ListFormat,
    /// A tree is drawn.
    pub tree: bool,
}

/// For `login`.
#[derive(Clone, Debug)]
pub struct LoginOptions {
    /// How the registry is reached.
    pub connection: ConnectionOptions,
    /// Its name.
    pub registry: String,
    /// Who is to be logged in.
    pub user: String,
    /// Say nothing if all went well.
    pub quiet: bool,
}

/// For `logout`.
#[derive(Clone, Debug)]
pub struct LogoutOptions {
    /// How the registry is reached.
    pub connection: ConnectionOptions,
    /// Its name.
    pub registry: String,
    /// Say nothing if all went well.
    pub quiet: bool,
}

/// For `util mbuffer`.
#[derive(Clone, Debug)]
pub struct MbufferOptions {
    /// How progress is shown.
    pub progress: ProgressOptions,
    /// How the ring is laid out.
    pub geometry: Geometry,
    /// `-` is standard input.
    pub input: PathBuf,
    /// `-` is standard output.
    pub outputs: Vec<PathBuf>,
    /// Write over files that are not empty.
    pub force: bool,
    /// Print the digest of what went through.
    pub sha256: bool,
    /// Most bytes a second that are written.
    pub rate: Option<u64>,
    /// Every message goes there too.
    pub log: Option<PathBuf>,
    /// How long a side may be stuck.
    pub io_timeout: Option<Duration>,
    /// Who puts in the next tape.
    pub changer: Changer,
}

/// For `util mux`.
#[derive(Clone, Debug)]
pub struct MuxOptions {
    /// The streams, by their numbers.
    pub files: Vec<PathBuf>,
    /// The most that a frame holds, in bytes.
    pub block_size: usize,
}

/// For `util demux`.
#[derive(Clone, Debug)]
pub struct DemuxOptions {
    /// The streams, by their numbers.
    pub files: Vec<PathBuf>,
}

/// For `util prune`.
#[derive(Clone, Debug)]
pub struct PruneOptions {
    /// Which configuration names the cache.
    pub connection: ConnectionOptions,
    /// Say nothing if all went well.
    pub quiet: bool,
}

/// For `util tape`.
#[derive(Clone, Debug)]
pub struct TapeOfOptions {
    /// The drive.
    pub device: PathBuf,
    /// How it is printed.
    pub format: ListFormat,
}

/// Options that a command line makes.
pub trait FromArgs: Sized {
    /// Of `args`, given to the command of this name.
    ///
    /// # Errors
    /// Wrong usage: operands and flags that make no sense.
    fn from_args(args: Args, command: &'static str) -> Result<Self>;
}

impl FromArgs for SerializeOptions {
    fn from_args(args: Args, command: &'static str) -> Result<SerializeOptions> {
        let output = OutputOptions::new(&args, path(&args, 1))?;
        check_resume(&args, output.dest())?;
        Ok(SerializeOptions {
            connection: ConnectionOptions::new(&args),
            image: locator(&args.operands[0], "IMAGE")?,
            recursive: args.recursive,
            output,
            existing: ExistingOptions::new(&args, 2)?,
            manifest_json: args.manifest_json,
            line: CommandLine { command, flags: args.given, operands: args.operands, dest: 1 },
            progress: args.progress,
        })
    }
}

impl FromArgs for BatchOptions {
    fn from_args(args: Args, _: &'static str) -> Result<BatchOptions> {
        Ok(BatchOptions {
            connection: ConnectionOptions::new(&args),
            list: path(&args, 0).into(),
            directory: path(&args, 1).into(),
            recursive: args.recursive,
            output: OutputOptions::new(&args, path(&args, 1))?,
            manifest_json: args.manifest_json,
            tracker: args.tracker_filename,
            keep_going: args.keep_going,
            report: args.report,
            dry_run: args.dry_run,
            progress: args.progress,
        })
    }
}

impl FromArgs for VerifyOptions {
    fn from_args(args: Args, _: &'static str) -> Result<VerifyOptions> {
        Ok(VerifyOptions {
            archives: files(&args),
            input: input(&args),
            checkpoint: args.checkpoint,
            existing: args.existing,
            root: args.root,
            wanted: args.wanted,
            share: args.share,
            plan: args.plan,
            format: args.output,
            progress: args.progress,
        })
    }
}

impl FromArgs for ListOptions {
    fn from_args(args: Args, _: &'static str) -> Result<ListOptions> {
        Ok(ListOptions {
            archives: files(&args),
            input: input(&args),
            plan: args.plan,
            format: args.output,
            tree: args.tree,
        })
    }
}

impl FromArgs for LoginOptions {
    fn from_args(args: Args, _: &'static str) -> Result<LoginOptions> {
        let registry = registry(&args)?;
        let user = args.username.clone().unwrap_or_default();
        if user.is_empty() || user.contains(':') {
            return Err(Error::usage("a user name is not empty, and holds no colon").doing("--username"));
        }
        Ok(LoginOptions { connection: ConnectionOptions::new(&args), registry, user, quiet: args.progress.quiet })
    }
}

impl FromArgs for LogoutOptions {
    fn from_args(args: Args, _: &'static str) -> Result<LogoutOptions> {
        let registry = registry(&args)?;
        Ok(LogoutOptions { connection: ConnectionOptions::new(&args), registry, quiet: args.progress.quiet })
    }
}

impl FromArgs for MbufferOptions {
    fn from_args(args: Args, _: &'static str) -> Result<MbufferOptions> {
        let geometry = geometry(&args)?;
        let dash = || PathBuf::from("-");
        Ok(MbufferOptions {
            geometry,
            input: args.input.unwrap_or_else(dash),
            outputs: if args.outputs.is_empty() { vec![dash()] } else { args.outputs },
            force: args.force,
            sha256: args.sha256,
            rate: args.rate,
            log: args.log,
            io_timeout: args.io_timeout,
            changer: Changer::new(args.volume_command),
            progress: args.progress,
        })
    }
}

impl FromArgs for MuxOptions {
    fn from_args(args: Args, _: &'static str) -> Result<MuxOptions> {
        let block = if args.was_given("block-size") { args.block_size } else { MUX_BLOCK };
        if block > MUX_BLOCK_MAX {
            return Err(Error::usage(format!("--block-size {block}: a frame has at most {MUX_BLOCK_MAX} bytes")));
        }
        Ok(MuxOptions { files: files(&args), block_size: block as usize })
    }
}

impl FromArgs for DemuxOptions {
    fn from_args(args: Args, _: &'static str) -> Result<DemuxOptions> {
        Ok(DemuxOptions { files: files(&args) })
    }
}

impl FromArgs for TapeOfOptions {
    fn from_args(args: Args, _: &'static str) -> Result<TapeOfOptions> {
        Ok(TapeOfOptions { device: path(&args, 0).into(), format: args.output })
    }
}

impl FromArgs for PruneOptions {
    fn from_args(args: Args, _: &'static str) -> Result<PruneOptions> {
        Ok(PruneOptions { connection: ConnectionOptions::new(&args), quiet: args.progress.quiet })
    }
}

/// The operand at `n`, as a path.
pub(super) fn path(args: &Args, n: usize) -> &Path {
    Path::new(&args.operands[n])
}

/// All operands, as paths.
fn files(args: &Args) -> Vec<PathBuf> {
    args.operands.iter().map(PathBuf::from).collect()
}

fn geometry(args: &Args) -> Result<Geometry> {
    Geometry::new(args.block_size, args.buffer_size, args.hwm)
}

/// How archives are read.
pub(super) fn input(args: &Args) -> InputOptions {
    let read_size = args.was_given("block-size").then_some(args.block_size);
    InputOptions {
        read_size,
        buffer: args.buffer_size,
        lwm: args.lwm,
        passes_holes: args.keep_going,
        changer: Changer::new(args.volume_command.clone()),
        start: None,
    }
}

/// What can be resumed, as far as flags tell.
///
/// # Errors
/// If there is nothing to resume by, or nothing that can be taken up again.
pub(super) fn check_resume(args: &Args, dest: &Path) -> Result<()> {
    if args.resume && dest == Path::new("-") {
        return Err(Error::usage("--resume: standard output cannot be taken up again"));
    }
    if args.resume && args.checkpoint.is_none() {
        return Err(Error::usage("--resume goes by the checkpoint: give the --checkpoint of the interrupted run"));
    }
    Ok(())
}

/// An operand as text.
///
/// # Errors
/// If it is not UTF-8.
pub(super) fn utf8(operand: &OsString) -> Result<&str, String> {
    operand.to_str().ok_or_else(|| "it is not UTF-8".into())
}

/// An image that an operand names; `what` is told of one that does not.
///
/// # Errors
/// If it is no image's name.
pub(super) fn locator(operand: &OsString, what: &str) -> Result<Locator> {
    let written = operand.to_str().ok_or_else(|| Error::usage(format!("{operand:?} is not UTF-8")))?;
    written.parse().map_err(|why: String| Error::usage(why).doing(what))
}

/// The operand: a host, with a port if need be.
fn registry(args: &Args) -> Result<String> {
    let wrong = |why: String| Error::usage(why).doing("REGISTRY");
    let written = utf8(&args.operands[0]).map_err(wrong)?;
    if written.contains('@') {
        return Err(wrong("it holds no user name; give that with --username".into()));
    }
    if let Some((_, rest)) = written.split_once("://") {
        return Err(wrong(format!("{written:?} is a URL; write the registry's name, {}", rest.trim_end_matches('/'))));
    }
    // What stands before the first slash of a reference.
    match format!("{written}/name").parse::<Reference>() {
        Ok(reference) if reference.repository.registry == written => Ok(written.into()),
        _ => Err(wrong(format!("{written:?} is no registry such as reg.example.com or localhost:5000"))),
    }
}
