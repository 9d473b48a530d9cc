//! `mirror unarchive`: from archives to where a map says.

use std::collections::HashMap;

use super::{
    deliver::{self, DeliveredTo, DeliveryJob, MappedDestinations},
    path_conflicts,
    report::ReportFile,
    routing::Router,
    setup::Setup,
    wanted::WantedFile,
};
use crate::{
    archive::read::{
        document::Document,
        events::{Event, EventReader, ManifestEvent},
    },
    cli::{map_options::UnarchiveOptions, progress::Progress},
    delivery::homes::Homes,
    error::{Error, Result},
    log,
    mapper::assign::sources_of,
    oci::{Digest, Manifest, media},
};

/// # Errors
/// If not all could be delivered.
pub fn run(options: &UnarchiveOptions) -> Result<()> {
    let read: Vec<_> = options.archives.iter().map(|path| ("TAR-FILE", path.as_path())).collect();
    let mut written: Vec<_> = options.map.report.iter().map(|path| ("--report", path.as_path())).collect();
    written.extend(options.wanted.iter().map(|path| ("--wanted", path.as_path())));
    written.extend(options.checkpoint.iter().map(|path| ("--checkpoint", path.as_path())));
    path_conflicts::check(&read, &written)?;
    let setup = Setup::new(&options.deliver.connection)?;
    let router = Router::read(&options.map, &setup)?;
    if options.map.check {
        return router.print(&sources_of(&find_gather(options)?)?);
    }
    let report = options.map.report.as_deref().map(ReportFile::open).transpose()?;
    let wanted = options.wanted.as_deref().map(WantedFile::open).transpose()?;
    let progress = Progress::new(&options.deliver.progress)?;
    let route = |gather: &Manifest, homes: &Homes| router.route(&sources_of(gather)?, homes);
    let to = MappedDestinations {
        route: &route,
        name: &options.map.mapper,
        fingerprint: router.fingerprint(),
        recursive: options.map.recursive,
    };
    let job = DeliveryJob {
        options: &options.deliver,
        archives: &options.archives,
        to: DeliveredTo::Mapped(&to),
        setup: &setup,
        progress: &progress,
        checkpoint: options
            .checkpoint
            .as_deref()
            .filter(|_| !options.deliver.dry_run)
            .map(|path| (path, options.resume)),
    };
    let outcome = job.run().map_err(|e| if e.is_signal() { e.hint(go_on(options)) } else { e })?;
    if outcome.stop.is_none() {
        router.tell_incomplete(&outcome);
    }
    let concluded = job.conclude(&outcome).and_then(|()| match &outcome.roots {
        Some(_) => router.conclude(),
        None => Err(Error::new("its gather index is not in the archive").doing(job.doing())),
    });
    if concluded.is_ok() && !options.deliver.dry_run {
        progress.say(&router.summary(&outcome));
    }
    let records = router.records(&outcome, options.deliver.dry_run);
    // What a registry refuses is not missing in the archive.
    let wanted = wanted.filter(|_| !outcome.is_refused);
    let assigned = router.take_assigned();
    let listed = wanted.map_or(Ok(()), |file| file.write(router.wanted(&outcome, &assigned).into_iter()));
    if let (Err(_), Err(e)) = (&concluded, &listed) {
        log::error(e);
    }
    let concluded = concluded.and(listed);
    match report {
        Some(report) => report.write(&records, concluded, "all was delivered"),
        None => concluded,
    }
}

/// The command that goes on with an interrupted run.
fn go_on(options: &UnarchiveOptions) -> String {
    let resume = options.checkpoint.as_ref().map(|_| ("resume", String::new()));
    format!("to go on: {}", options.line.with(resume.as_slice()))
}

/// Reads archives up to the gather index of the first.
fn find_gather(options: &UnarchiveOptions) -> Result<Manifest> {
    let (mut root, mut gathers): (Option<Digest>, HashMap<Digest, Manifest>) = Default::default();
    let mut found: Option<Manifest> = None;
    deliver::look_through(&options.archives, &options.deliver.input, &mut |events: &mut EventReader| {
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
