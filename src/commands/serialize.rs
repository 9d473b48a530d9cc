//! `mirror serialize`: one image, or all that was gathered into it, to an archive on a device.

use std::{
    ffi::OsString,
    sync::atomic::{AtomicUsize, Ordering},
};

use crate::{
    archive::write::{
        existing::There,
        session::{self, Transfer},
    },
    commands::{path_conflicts, set_up},
};
use crate::{
    cli::{args::Args, progress::Progress},
    error::{Context, Error, Result},
    oci::Descriptor,
    signal,
    store::{
        Locator, Store,
        graph::{self, Graph},
    },
    stream::pipeline::Geometry,
};

pub fn run(args: &Args) -> Result<()> {
    let geometry = Geometry::new(args.block_size, args.buffer_size, args.hwm)?;
    path_conflicts::check(args, None)?;
    let image = locator(&args.operands[0])?;
    let mut there = There::by_ledgers(args)?;
    let setup = set_up(args)?;
    let (store, threads) = (&*setup.store, setup.threads);
    let dest = session::open(args, args.path(1))?;
    let progress = Progress::new(&args.progress)?;
    there.add_images(&args.operands[2..], args, store, threads)?;
    let (graph, root) = fetch(args, store, &image, threads, &progress)?;
    let plan = session::plan(args, &graph, &root, &name(&image, &root), &there);
    let plan = plan.doing(|| format!("planning the archive of {image}"))?;
    let transfer = Transfer::new("mirror serialize", args, &setup, geometry, &progress);
    let outcome = transfer.run(&plan, dest);
    store.keep(&graph, &[(Some(&image.to_string()), &root)], args.recursive);
    outcome
}

/// What an operand names.
pub fn locator(operand: &OsString) -> Result<Locator> {
    let written = operand.to_str().ok_or_else(|| Error::usage(format!("{operand:?} is not UTF-8")))?;
    written.parse().map_err(|why: String| Error::usage(why).doing("IMAGE"))
}

/// Fetches the manifests of an image.
pub fn fetch(
    args: &Args,
    store: &dyn Store,
    image: &Locator,
    threads: usize,
    progress: &Progress,
) -> Result<(Graph, Descriptor)> {
    let (root, bytes) = store.resolve(image).doing(|| format!("resolving {image}"))?;
    let mut graph = Graph::default();
    graph.insert(root.digest.clone(), bytes, &image.origin());
    let fetched = AtomicUsize::new(1);
    let tell = || progress.resolving(1, 1, fetched.fetch_add(1, Ordering::Relaxed));
    let roots = vec![(image.origin(), root.clone())];
    let graph = graph::fetch(store, graph, roots, args.recursive, threads, &tell);
    progress.clear();
    signal::check()?;
    Ok((graph, root))
}

/// The tag or digest of an image, or its name in a layout.
fn name(image: &Locator, root: &Descriptor) -> String {
    match image {
        Locator::Registry(reference) => reference.target(),
        Locator::Layout(_, Some(name)) => name.clone(),
        Locator::Layout(_, None) => root.digest.to_string(),
    }
}
