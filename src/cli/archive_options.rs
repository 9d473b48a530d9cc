//! What the commands take that begin with a list of sources, or with a plan that was made of one.

use std::path::{Path, PathBuf};

use super::{
    args::{Args, ListFormat},
    command_line::CommandLine,
    options::{ConnectionOptions, ExistingOptions, FromArgs, OutputOptions, check_resume, path, utf8},
    progress::ProgressOptions,
};
use crate::{
    error::{Error, Result},
    oci::{Annotations, PlatformFilter, Reference},
    shards::choice::ShardChoice,
};

/// What stands for the number of the shard in the names of files.
const SHARD: &str = "{shard}";
/// Flags that say what is taken: a plan says so already.
const PLANNED: &[&str] = &[
    "annotations",
    "continue",
    "digest-tags",
    "existing-from-checkpoint",
    "index-fallback",
    "platforms",
    "recursive",
    "referrer-types",
    "sparse-index",
];

/// What is taken of a list of sources, and what is said of it.
#[derive(Clone, Debug)]
pub struct SelectionOptions {
    /// The list; `-` is standard input.
    pub sources: PathBuf,
    /// None means all.
    pub platforms: Vec<PlatformFilter>,
    /// Take an index as it is, with the content of these platforms only.
    pub sparse_index: bool,
    /// Referrers too.
    pub recursive: bool,
    /// What lies under cosign's tags, too.
    pub digest_tags: bool,
    /// Leave out sources that fail.
    pub keep_going: bool,
    /// For the gather index.
    pub annotations: Annotations,
    /// List indexes in an annotation.
    pub index_fallback: bool,
}

impl SelectionOptions {
    fn new(args: &Args) -> Result<SelectionOptions> {
        if args.sparse_index && args.platforms.is_empty() {
            return Err(Error::usage(
                "--sparse-index says what becomes of an index with --platforms, which is not given",
            ));
        }
        Ok(SelectionOptions {
            sources: path(args, 0).into(),
            platforms: args.platforms.clone(),
            sparse_index: args.sparse_index,
            recursive: args.recursive,
            digest_tags: args.digest_tags,
            keep_going: args.keep_going,
            annotations: args.annotations.clone(),
            index_fallback: args.index_fallback,
        })
    }
}

/// A shard of a plan.
#[derive(Clone, Debug)]
pub struct ShardOptions {
    /// The plan.
    pub plan: PathBuf,
    /// Which.
    pub choice: ShardChoice,
}

/// What is archived.
#[derive(Clone, Debug)]
pub enum ArchiveInput {
    /// What a list names, without what exists.
    List(Box<SelectionOptions>, ExistingOptions),
    /// What a plan has put together.
    Shard(ShardOptions),
}

/// For `mirror archive`.
#[derive(Clone, Debug)]
pub struct ArchiveOptions {
    /// How registries are reached.
    pub connection: ConnectionOptions,
    /// How progress is shown.
    pub progress: ProgressOptions,
    /// What is archived.
    pub input: ArchiveInput,
    /// How, and whereto.
    pub output: OutputOptions,
    /// Name of the gather index.
    pub reference: String,
    /// Add a `manifest.json`.
    pub manifest_json: bool,
    /// Only plan.
    pub dry_run: bool,
    /// To be given again.
    pub line: CommandLine,
    /// How the plan is printed.
    pub format: ListFormat,
    /// Where is told what became of each source.
    pub report: Option<PathBuf>,
}

/// For `mirror gather`.
#[derive(Clone, Debug)]
pub struct GatherOptions {
    /// How registries are reached.
    pub connection: ConnectionOptions,
    /// How progress is shown.
    pub progress: ProgressOptions,
    /// What is gathered.
    pub selection: SelectionOptions,
    /// Where to: it has no digest.
    pub image: Reference,
    /// Where is told what became of each source.
    pub report: Option<PathBuf>,
}

/// For `mirror plan`.
#[derive(Clone, Debug)]
pub struct PlanOptions {
    /// How registries are reached.
    pub connection: ConnectionOptions,
    /// How progress is shown.
    pub progress: ProgressOptions,
    /// What is planned.
    pub selection: SelectionOptions,
    /// What is left out.
    pub existing: ExistingOptions,
    /// How many shards.
    pub shards: usize,
    /// The largest may be larger by so many percent.
    pub balance: u64,
    /// Bytes of a cartridge.
    pub volume_size: Option<u64>,
    /// Where the plan is written; `-` is standard output.
    pub dest: Option<PathBuf>,
    /// Where is told what became of each source.
    pub report: Option<PathBuf>,
}

/// For `mirror report merge`.
#[derive(Clone, Debug)]
pub struct MergeOptions {
    /// What is merged.
    pub reports: Vec<PathBuf>,
    /// Where it is written; standard output without one.
    pub dest: Option<PathBuf>,
}

impl FromArgs for ArchiveOptions {
    fn from_args(mut args: Args, command: &'static str) -> Result<ArchiveOptions> {
        let shard = shard_of(&args)?;
        if let Some(shard) = &shard {
            put_number(&mut args, shard.choice.number);
        }
        let at = if shard.is_some() { 0 } else { 1 };
        let dest = path(&args, at).to_path_buf();
        check_resume(&args, &dest)?;
        let input = match shard {
            Some(shard) => ArchiveInput::Shard(shard),
            None => ArchiveInput::List(Box::new(SelectionOptions::new(&args)?), ExistingOptions::new(&args, 2)?),
        };
        Ok(ArchiveOptions {
            connection: ConnectionOptions::new(&args),
            input,
            output: OutputOptions::new(&args, &dest)?,
            dry_run: args.dry_run,
            manifest_json: args.manifest_json,
            report: args.report,
            line: CommandLine { command, flags: args.given, operands: args.operands, dest: at },
            progress: args.progress,
            reference: args.reference,
            format: args.output,
        })
    }
}

/// The shard that is asked for, if a plan is given.
fn shard_of(args: &Args) -> Result<Option<ShardOptions>> {
    let Some(plan) = args.plan.clone() else {
        return match args.was_given("shard") {
            true => Err(Error::usage("--shard is a part of a plan: give --plan, too")),
            false => Ok(None),
        };
    };
    if let Some(flag) = PLANNED.iter().find(|flag| args.was_given(flag)) {
        let why = format!("--{flag} is said when the plan is made, and cannot be given with --plan");
        return Err(Error::usage(why).hint("ace-dt mirror plan takes it"));
    }
    if let Some(extra) = args.operands.get(1) {
        let why =
            format!("{extra:?} is one operand too many: with --plan there is no SOURCES-FILE and no EXISTING-IMAGE");
        return Err(Error::usage(why));
    }
    let choice = match args.shard.clone() {
        Some(choice) => choice,
        None => ShardChoice::of_scheduler(&|name| std::env::var(name).ok())?.ok_or_else(|| {
            let hint = "--shard I/N says it, or a scheduler: $SLURM_ARRAY_TASK_ID or $JOB_COMPLETION_INDEX";
            Error::usage("--plan needs the number of a shard").hint(hint)
        })?,
    };
    Ok(Some(ShardOptions { plan, choice }))
}

/// Puts the number of the shard into the names that have a place for it.
fn put_number(args: &mut Args, number: u32) {
    let number = number.to_string();
    let put = |path: &PathBuf| path.to_str().map_or_else(|| path.clone(), |text| text.replace(SHARD, &number).into());
    let progress = &mut args.progress;
    for path in [&mut args.checkpoint, &mut args.report, &mut progress.chart, &mut progress.metrics] {
        *path = path.as_ref().map(put);
    }
    args.label = args.label.as_ref().map(|label| label.replace(SHARD, &number));
    if let Some(dest) = args.operands.first_mut() {
        *dest = put(&PathBuf::from(&*dest)).into();
    }
}

impl FromArgs for GatherOptions {
    fn from_args(args: Args, _: &'static str) -> Result<GatherOptions> {
        let wrong = |why: String| Error::usage(why).doing("IMAGE");
        let written = utf8(&args.operands[1]).map_err(wrong)?;
        let image: Reference = written.parse().map_err(wrong)?;
        if image.digest.is_some() {
            return Err(wrong(format!("{written:?} has a digest, but what is gathered gets its own")));
        }
        Ok(GatherOptions {
            connection: ConnectionOptions::new(&args),
            selection: SelectionOptions::new(&args)?,
            image,
            progress: args.progress,
            report: args.report,
        })
    }
}

impl FromArgs for PlanOptions {
    fn from_args(args: Args, _: &'static str) -> Result<PlanOptions> {
        Ok(PlanOptions {
            connection: ConnectionOptions::new(&args),
            selection: SelectionOptions::new(&args)?,
            existing: ExistingOptions::new(&args, 1)?,
            shards: args.shards,
            balance: args.balance,
            volume_size: args.volume_size,
            dest: args.dest,
            progress: args.progress,
            report: args.report,
        })
    }
}

impl FromArgs for MergeOptions {
    fn from_args(args: Args, _: &'static str) -> Result<MergeOptions> {
        Ok(MergeOptions {
            reports: args.operands.iter().map(|operand| Path::new(operand).into()).collect(),
            dest: args.dest.filter(|dest| dest != Path::new("-")),
        })
    }
}
