//! `mirror deserialize`: from archives into a registry.

use std::cell::OnceCell;

use serde::Serialize;

use super::{
    deliver::{DeliveredTo, DeliveryJob},
    result_files::{self, ResultFiles},
    setup::Setup,
    wanted::WantedSource,
};
use crate::{
    cli::{deliver_options::DeserializeOptions, progress::Progress},
    delivery::{images::DeliveredImage, outcome::DeliveryOutcome, way_of},
    error::Result,
    oci::Digest,
    shards::plan_file::SharedPlan,
};

/// # Errors
/// If not all could be delivered.
pub fn run(options: &DeserializeOptions) -> Result<()> {
    let run = &options.run;
    result_files::check_paths(run, "SOURCE-FILE")?;
    let files = ResultFiles::open(run)?;
    let setup = Setup::new(&run.deliver.connection)?;
    let progress = Progress::new(&run.deliver.progress)?;
    let shared = run.plan.as_deref().map(SharedPlan::read).transpose()?;
    let to = DeliveredTo::Image(&options.image);
    let job = DeliveryJob::of(run, to, shared.as_ref(), &setup, &progress);
    let outcome = job.run().map_err(|e| if e.is_signal() { e.hint(run.go_on()) } else { e })?;
    let concluded = job.conclude(&outcome);
    let images = OnceCell::new();
    let images = || images.get_or_init(|| outcome.images());
    files.write(&outcome, concluded, || Some(wanted_of(images())), || records(images(), &outcome, run.deliver.dry_run))
}

fn wanted_of(images: &[DeliveredImage]) -> Vec<WantedSource<'_>> {
    let lacking = images.iter().filter(|image| !image.lacking.is_empty()).map(|image| WantedSource {
        source: image.source.as_deref(),
        digest: &image.digest,
        labels: image.labels.as_deref(),
    });
    lacking.collect()
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
    let blobs = outcome.tracker.blobs().iter().enumerate().map(|(n, blob)| DeliveryRecord::Blob {
        blob: &blob.digest,
        bytes: blob.size,
        outcome: way_of(blob.state, outcome.mounted.contains(&n), dry_run),
    });
    images.iter().map(of_image).chain(blobs).collect()
}
