//! `mirror serialize`: one image, or all that was gathered into it, to an archive on a device.

use super::{
    path_conflicts,
    retry_hint::{self, RetryHint},
    setup::{self, NamedRoot, Setup},
};
use crate::{
    archive::write::{existing::ExistingContent, session::WriteSession},
    cli::{options::SerializeOptions, output, progress::Progress},
    error::{Context, Result},
    oci::Descriptor,
    store::Locator,
};

/// # Errors
/// With what fails.
pub fn run(options: &SerializeOptions) -> Result<()> {
    check_paths(options)?;
    let image = &options.image;
    let mut existing = ExistingContent::by_checkpoints(&options.existing.checkpoints)?;
    let setup = Setup::new(&options.connection)?;
    let (store, threads) = (&*setup.store, setup.threads);
    let write = options.output.at_level(setup.level);
    let dest = write.open()?;
    let progress = Progress::new(&options.progress)?;
    existing.add_images(&options.existing.images, options.recursive, store, threads)?;
    let (graph, root) = setup::fetch(store, image, options.recursive, threads, &progress)?;
    let name = name(image, &root);
    let named = NamedRoot { root: &root, name: &name, version: &output::version() };
    let plan = setup::plan(&graph, named, &existing, options.recursive, options.manifest_json);
    let plan = plan.doing(|| format!("planning the archive of {image}"))?;
    let session = WriteSession { options: &write, plan: &plan, store, threads, begins: &|| Ok(()) };
    let hint = RetryHint { line: &options.line, options: &write };
    let outcome = retry_hint::write(&session, dest, &progress, Some(&hint)).outcome;
    store.keep(&graph, &[(Some(&image.to_string()), &root)], options.recursive);
    outcome
}

/// No file has two parts in the run.
fn check_paths(options: &SerializeOptions) -> Result<()> {
    let checkpoints =
        options.existing.checkpoints.iter().map(|(path, _)| ("--existing-from-checkpoint", path.as_path()));
    let images = std::iter::once(&options.image).chain(&options.existing.images);
    let read = checkpoints.chain(images.filter_map(Locator::archive).map(|path| ("a source", path)));
    let mut written = vec![("DEST-FILE", options.output.dest())];
    written.extend(options.output.checkpoint().map(|path| ("--checkpoint", path)));
    written.extend(options.progress.written());
    path_conflicts::check(&read.collect::<Vec<_>>(), &written)
}

/// The tag or digest of an image, or its name in a layout.
fn name(image: &Locator, root: &Descriptor) -> String {
    match image {
        Locator::Registry(reference) => reference.target(),
        Locator::Layout(_, Some(name)) | Locator::Archive(_, Some(name)) => name.clone(),
        Locator::Layout(_, None) | Locator::Archive(_, None) => root.digest.to_string(),
    }
}
