//! `mirror deserialize`: from archives into a registry.

use serde::Serialize;

use super::{
    deliver::{DeliveredTo, DeliveryJob},
    path_conflicts,
    report::ReportFile,
    setup::Setup,
    wanted::{WantedFile, WantedSource},
};
use crate::{
    cli::{deliver_options::DeserializeOptions, progress::Progress},
    delivery::{images::DeliveredImage, outcome::DeliveryOutcome, way_of},
    error::Result,
    log,
    oci::Digest,
};

/// # Errors
/// If not all could be delivered.
pub fn run(options: &DeserializeOptions) -> Result<()> {
    let read: Vec<_> = options.archives.iter().map(|path| ("SOURCE-FILE", path.as_path())).collect();
    let mut written: Vec<_> = options.report.iter().map(|path| ("--report", path.as_path())).collect();
    written.extend(options.wanted.iter().map(|path| ("--wanted", path.as_path())));
    written.extend(options.checkpoint.iter().map(|path| ("--checkpoint", path.as_path())));
    path_conflicts::check(&read, &written)?;
    let report = options.report.as_deref().map(ReportFile::open).transpose()?;
    let wanted = options.wanted.as_deref().map(WantedFile::open).transpose()?;
    let setup = Setup::new(&options.deliver.connection)?;
    let progress = Progress::new(&options.deliver.progress)?;
    let job = DeliveryJob {
        options: &options.deliver,
        archives: &options.archives,
        to: DeliveredTo::Image(&options.image),
        setup: &setup,
        progress: &progress,
        checkpoint: options
            .checkpoint
            .as_deref()
            .filter(|_| !options.deliver.dry_run)
            .map(|path| (path, options.resume)),
    };
    let outcome = job.run().map_err(|e| if e.is_signal() { e.hint(go_on(options)) } else { e })?;
    let concluded = job.conclude(&outcome);
    let images = if report.is_some() || wanted.is_some() { outcome.images() } else { Vec::new() };
    // What a registry refuses is not missing in the archive.
    let wanted = wanted.filter(|_| !outcome.is_refused);
    let listed = wanted.map_or(Ok(()), |file| file.write(wanted_of(&images)));
    if let (Err(_), Err(e)) = (&concluded, &listed) {
        log::error(e);
    }
    let concluded = concluded.and(listed);
    match report {
        Some(report) => {
            report.write(&records(&images, &outcome, options.deliver.dry_run), concluded, "all was delivered")
        }
        None => concluded,
    }
}

/// The command that goes on with an interrupted run.
fn go_on(options: &DeserializeOptions) -> String {
    let resume = options.checkpoint.as_ref().map(|_| ("resume", String::new()));
    format!("to go on: {}", options.line.with(resume.as_slice()))
}

fn wanted_of(images: &[DeliveredImage]) -> impl Iterator<Item = WantedSource<'_>> {
    images.iter().filter(|image| !image.lacking.is_empty()).map(|image| WantedSource {
        source: image.source.as_deref(),
        digest: &image.digest,
        labels: image.labels.as_deref(),
    })
}

/// One object of the report.
#[derive(Serialize)]
#[serde(untagged)]
enum DeliveryRecord<'a> {
    Image {
        source: Option<&'a str>,
        digest: &'a Digest,
        outcome: &'static str,
        #[serde(skip_serializing_if = "<[Digest]>::is_empty")]
        missing: &'a [Digest],
    },
    Blob {
        blob: &'a Digest,
        bytes: u64,
        outcome: &'static str,
    },
}

fn records<'a>(images: &'a [DeliveredImage], outcome: &'a DeliveryOutcome, dry_run: bool) -> Vec<DeliveryRecord<'a>> {
    let of_image = |image: &'a DeliveredImage| DeliveryRecord::Image {
        source: image.source.as_deref(),
        digest: &image.digest,
        outcome: match image.lacking.is_empty() {
            true if dry_run => "planned",
            true => "delivered",
            false => "incomplete",
        },
        missing: &image.lacking,
    };
    let blobs = outcome.tracker.blobs().iter().map(|blob| DeliveryRecord::Blob {
        blob: &blob.digest,
        bytes: blob.size,
        outcome: way_of(blob.state, false, dry_run),
    });
    images.iter().map(of_image).chain(blobs).collect()
}
