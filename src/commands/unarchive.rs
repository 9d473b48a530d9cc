//! `mirror unarchive`: from archives to where a map says.

use std::collections::HashMap;

use super::{
    deliver::{self, DeliveredTo, DeliveryJob, MappedDestinations},
    result_files::{self, ResultFiles},
    routing::{self, Router},
    setup::Setup,
};
use crate::{
    archive::read::{
        document::Document,
        events::{Event, EventReader, ManifestEvent},
    },
    cli::{deliver_options::ArchiveRunOptions, map_options::UnarchiveOptions, progress::Progress},
    delivery::homes::Homes,
    error::{Error, Result},
    mapper::assign::sources_of,
    oci::{Digest, Manifest, media},
    shards::plan_file::SharedPlan,
};

/// # Errors
/// If not all could be delivered.
pub fn run(options: &UnarchiveOptions) -> Result<()> {
    let (run, map) = (&options.run, &options.map);
    result_files::check_paths(run, "TAR-FILE")?;
    let shared = run.plan.as_deref().map(SharedPlan::read).transpose()?;
    let setup = Setup::new(&run.deliver.connection)?;
    let router = Router::read(map, &setup)?;
    if map.check {
        let gather = shared.as_ref().map_or_else(|| find_gather(run), |shared| Ok(shared.gather().clone()));
        return router.print(&sources_of(&gather?)?);
    }
    let files = ResultFiles::open(run)?;
    let progress = Progress::new(&run.deliver.progress)?;
    let route = |gather: &Manifest, homes: &Homes| router.route(&sources_of(gather)?, homes);
    let to = MappedDestinations {
        route: &route,
        name: &map.mapper,
        fingerprint: router.fingerprint(),
        recursive: map.recursive,
    };
    let job = DeliveryJob::of(run, DeliveredTo::Mapped(&to), shared.as_ref(), &setup, &progress);
    let outcome = job.run().map_err(|e| if e.is_signal() { e.hint(run.go_on()) } else { e })?;
    if outcome.stop.is_none() {
        router.tell_incomplete(&outcome);
    }
    let concluded = job.conclude(&outcome).and_then(|()| match &outcome.roots {
        Some(_) => router.conclude(),
        None => Err(Error::new("its gather index is not in the archive").doing(job.doing())),
    });
    let dry_run = run.deliver.dry_run;
    if concluded.is_ok() && !dry_run {
        progress.say(&router.summary(&outcome));
    }
    let assigned = router.assigned();
    files.write(
        &outcome,
        concluded,
        || outcome.roots.is_some().then(|| routing::wanted(&outcome, &assigned)),
        || routing::records(&outcome, &assigned, dry_run),
    )
}

/// Reads archives up to the gather index of the first.
fn find_gather(run: &ArchiveRunOptions) -> Result<Manifest> {
    let (mut root, mut gathers): (Option<Digest>, HashMap<Digest, Manifest>) = Default::default();
    let mut found: Option<Manifest> = None;
    deliver::look_through(&run.archives, &run.deliver.input, &mut |events: &mut EventReader| {
        loop {
            match events.next_event()? {
                Event::Index(file) if root.is_none() => {
                    let index = file.bytes.and_then(|bytes| Manifest::parse(media::INDEX, &bytes).ok());
                    root = index.and_then(|index| index.manifests.first().map(|listed| listed.digest.clone()));
                }
                Event::Manifest(ManifestEvent { blob, content, document: Document::Manifest(..) }) => {
                    let bytes = content.in_memory().unwrap_or_default();
                    let gather = Manifest::parse(media::INDEX, bytes).ok();
                    let is_right = blob.digest.matches(bytes);
                    let gather = gather.filter(|index| index.artifact_type == media::GATHER && is_right);
                    gathers.extend(gather.map(|gather| (blob.digest.clone(), gather)));
                }
                Event::End(_) => return Ok(false),
                _ => {}
            }
            if let Some(gather) = root.as_ref().and_then(|root| gathers.remove(root)) {
                found = Some(gather);
                return Ok(true);
            }
        }
    })?;
    found.ok_or_else(|| match root {
        Some(root) => Error::new(format!("{root} is no gathered artifact, or is not in the archive"))
            .hint("ace-dt mirror deserialize delivers what is none"),
        None => Error::new("the archive lists no image"),
    })
}
