//! `mirror scatter`: the sources of a gathered artifact to where a map says.

use super::{
    copy::{CopyJob, CopySources},
    path_conflicts,
    report::ReportFile,
    routing::Router,
    setup::Setup,
};
use crate::{
    cli::{map_options::ScatterOptions, progress::Progress},
    error::{Context, Error, Result},
    mapper::assign::sources_of,
    oci::{Manifest, media},
    store::{Store as _, graph::Graph},
};

/// # Errors
/// If not all could be delivered.
pub fn run(options: &ScatterOptions) -> Result<()> {
    let map = &options.copy.map;
    let read: Vec<_> = options.image.archive().map(|file| ("IMAGE", file)).into_iter().collect();
    let written: Vec<_> = options.copy.report.iter().map(|path| ("--report", path.as_path())).collect();
    path_conflicts::check(&read, &written)?;
    let setup = Setup::new(&options.copy.connection)?;
    let router = Router::read(map, &setup)?;
    let (root, bytes) = setup.store.resolve(&options.image).doing(|| format!("resolving {}", options.image))?;
    let gather = match media::is_index(&root.media_type) {
        true => Some(Manifest::parse(&root.media_type, &bytes).map_err(Error::new)?),
        false => None,
    };
    let Some(gather) = gather.filter(|index| index.artifact_type == media::GATHER) else {
        return Err(Error::new(format!("{} is no gathered artifact, but {}", options.image, root.media_type)));
    };
    let sources = sources_of(&gather)?;
    if map.check {
        return router.print(&sources);
    }
    let report = options.copy.report.as_deref().map(ReportFile::open).transpose()?;
    let progress = Progress::new(&options.copy.progress)?;
    let job = CopyJob { options: &options.copy, setup: &setup, router: &router, progress: &progress };
    let mut graph = Graph::default();
    graph.leave_out(gather.left_out());
    job.run(
        CopySources { sources: &sources, origin: Some(options.image.origin()), graph, failed: &[], unmatched: &[] },
        report,
    )
}
