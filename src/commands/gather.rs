//! `mirror gather`: from a list of sources to one artifact in a registry.

use crate::{
    cli::{args::Args, output, progress::Progress},
    copy::push_graph::{Target, publish},
    error::{Error, Result},
    oci::Reference,
};
use crate::{
    commands::{
        Setup,
        report::{self, Outcome},
        set_up,
    },
    gather::collect::{self, Collector},
};

pub fn run(args: &Args) -> Result<()> {
    let image = image(args)?;
    let sources = collect::read(args.path(0))?;
    args.report.as_deref().map_or(Ok(()), report::prepare)?;
    let Setup { store, threads, .. } = set_up(args)?;

    let progress = Progress::new(&args.progress)?;
    let collector = Collector { args, store: &*store, threads, progress: &progress };
    let mut found = collector.collect(sources, &|_| false)?;
    let outcome = found.index(args).and_then(|(root, failed)| {
        let target = Target {
            registries: store.registries(),
            registry: &image.registry,
            repository: &image.repository,
            tag: image.tag.as_deref().unwrap_or("latest"),
        };
        // Each thread has a request to either side in flight.
        let threads = (threads / 2).max(1);
        let told = |now, blobs, bytes| progress.pushing(now, blobs, bytes);
        let pushed = publish(&*store, &found.graph, &root, args.recursive, &target, threads, &told);
        progress.clear();
        found.reached(if pushed.is_ok() { Outcome::Gathered } else { Outcome::Incomplete });
        let again = "the same command again sends only what is missing";
        progress.pushed(pushed.map_err(|e| e.hint(again))?);
        let Target { registry, repository, tag, .. } = target;
        output::print(&format!("{registry}/{repository}:{tag}@{}\n", root.digest))?;
        failed.map_or(Ok(()), Err)
    });
    store.keep(&found.graph, &found.roots(), args.recursive);
    match &args.report {
        Some(path) => outcome.and(report::write(path, &found.records)),
        None => outcome,
    }
}

/// The destination: a repository and a tag.
fn image(args: &Args) -> Result<Reference> {
    let wrong = |why: String| Error::usage(why).doing("IMAGE");
    let written = args.operands[1].to_str().ok_or_else(|| wrong("it is not UTF-8".into()))?;
    let image: Reference = written.parse().map_err(wrong)?;
    match image.digest {
        Some(_) => Err(wrong(format!("{written:?} has a digest, but what is gathered gets its own"))),
        None => Ok(image),
    }
}
