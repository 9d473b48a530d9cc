//! What the commands take that bring sources to where a map says.

use std::path::PathBuf;

use super::{
    args::{Args, OnExistingTag},
    deliver_options::ArchiveRunOptions,
    options::{ConnectionOptions, FromArgs, locator, path, utf8},
    progress::ProgressOptions,
};
use crate::{
    error::{Error, Result},
    mapper::selector::Selector,
    oci::PlatformFilter,
    store::Locator,
};

/// Which sources are taken, and where they go.
#[derive(Clone, Debug)]
pub struct MapOptions {
    /// `KIND=ARGUMENT`.
    pub mapper: String,
    /// Sources whose labels one of these selects; without any, all.
    pub selectors: Vec<Selector>,
    /// A list of sources.
    pub subset: Option<PathBuf>,
    /// Print destinations only.
    pub check: bool,
    /// Referrers, too.
    pub recursive: bool,
    /// Leave out what fails.
    pub keep_going: bool,
    /// Where a destination's tag names another image.
    pub on_existing_tag: OnExistingTag,
}

impl MapOptions {
    fn new(args: &Args, operand: usize) -> Result<MapOptions> {
        if args.check && args.report.is_some() {
            return Err(Error::usage("--check sends nothing, so that --report has nothing to tell"));
        }
        let mapper = utf8(&args.operands[operand]).map_err(|why| Error::usage(why).doing("MAPPER"))?;
        Ok(MapOptions {
            mapper: mapper.into(),
            selectors: args.selectors.clone(),
            subset: args.subset.clone(),
            check: args.check,
            recursive: args.recursive,
            keep_going: args.keep_going,
            on_existing_tag: args.on_existing_tag,
        })
    }
}

/// How content goes from registry to registry.
#[derive(Clone, Debug)]
pub struct CopyOptions {
    /// How registries are reached.
    pub connection: ConnectionOptions,
    /// How progress is shown.
    pub progress: ProgressOptions,
    /// What goes where.
    pub map: MapOptions,
    /// Look again at the end.
    pub verify: bool,
    /// Where is told what became of each source and blob.
    pub report: Option<PathBuf>,
}

impl CopyOptions {
    fn new(args: &Args) -> Result<CopyOptions> {
        Ok(CopyOptions {
            connection: ConnectionOptions::new(args),
            progress: args.progress.clone(),
            map: MapOptions::new(args, 1)?,
            verify: args.verify,
            report: args.report.clone(),
        })
    }
}

/// For `mirror scatter`.
#[derive(Clone, Debug)]
pub struct ScatterOptions {
    /// How.
    pub copy: CopyOptions,
    /// What was gathered.
    pub image: Locator,
}

/// For `mirror clone`.
#[derive(Clone, Debug)]
pub struct CloneOptions {
    /// How.
    pub copy: CopyOptions,
    /// The list; `-` is standard input.
    pub sources: PathBuf,
    /// None means all.
    pub platforms: Vec<PlatformFilter>,
}

/// For `mirror unarchive`.
#[derive(Clone, Debug)]
pub struct UnarchiveOptions {
    /// What is read, and how.
    pub run: ArchiveRunOptions,
    /// What goes where.
    pub map: MapOptions,
}

impl FromArgs for ScatterOptions {
    fn from_args(args: Args, _: &'static str) -> Result<ScatterOptions> {
        Ok(ScatterOptions { copy: CopyOptions::new(&args)?, image: locator(&args.operands[0], "IMAGE")? })
    }
}

impl FromArgs for CloneOptions {
    fn from_args(args: Args, _: &'static str) -> Result<CloneOptions> {
        let (copy, sources) = (CopyOptions::new(&args)?, path(&args, 0).into());
        Ok(CloneOptions { copy, sources, platforms: args.platforms })
    }
}

impl FromArgs for UnarchiveOptions {
    fn from_args(args: Args, command: &'static str) -> Result<UnarchiveOptions> {
        let map = MapOptions::new(&args, args.operands.len() - 1)?;
        Ok(UnarchiveOptions { run: ArchiveRunOptions::new(args, command)?, map })
    }
}
