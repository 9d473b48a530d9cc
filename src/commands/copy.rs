//! What `mirror scatter` and `mirror clone` have in common: what a store has goes to where a map says.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    deliver,
    report::ReportFile,
    routing::{self, RouteRecord, Router, left_out},
    setup::Setup,
};
use crate::{
    cli::{map_options::CopyOptions, progress::Progress},
    delivery::{
        AssignedRoot, Delivery, DeliveryOptions, Routing, feed::StoreFeed, homes::Homes, homes::MakeTarget,
        outcome::DeliveryOutcome,
    },
    error::{Error, Result},
    mapper::assign::SourceManifest,
    oci::{Descriptor, Repository},
    signal,
    store::{
        Origin,
        graph::{self, FetchOptions, Graph},
    },
};

const TICK: Duration = Duration::from_millis(100);

/// One run.
pub struct CopyJob<'a> {
    /// How.
    pub options: &'a CopyOptions,
    /// The registries.
    pub setup: &'a Setup,
    /// What goes where.
    pub router: &'a Router<'a>,
    /// Who hears how far it is.
    pub progress: &'a Progress,
}

/// What is copied.
pub struct CopySources<'a> {
    /// What there is.
    pub sources: &'a [SourceManifest],
    /// Where manifests are fetched that `graph` has not.
    pub origin: Option<Origin>,
    /// Manifests that were fetched already.
    pub graph: Graph,
    /// Sources that could not be had, with why.
    pub failed: &'a [(String, Error)],
    /// Sources that have none of the platforms that are wanted.
    pub unmatched: &'a [String],
}

impl CopyJob<'_> {
    /// Copies sources to where the map says, and tells what became of them.
    ///
    /// # Errors
    /// If not all could be delivered.
    pub fn run(&self, copied: CopySources, report: Option<ReportFile>) -> Result<()> {
        let make = |repository: &Repository| deliver::target(self.setup, repository, false);
        let make: &MakeTarget = &make;
        let homes = Homes::new(make);
        let roots = self.router.route(copied.sources, &homes)?;
        let mut graph = copied.graph;
        // An index that was made is not fetched.
        let made = roots.iter().filter_map(|root| Some((&root.descriptor.digest, root.bytes.as_ref()?)));
        made.for_each(|(digest, bytes)| graph.insert(digest.clone(), bytes.clone(), &Origin::Memory));
        if let Some(origin) = copied.origin {
            graph = self.fetch(graph, &origin, &roots)?;
        }
        let outcome = self.deliver(homes, &graph, roots)?;
        let concluded = self.conclude(&outcome, copied.failed);
        match report {
            Some(report) => {
                let mut records = routing::records(&outcome, &self.router.assigned(), false);
                let failed = copied.failed.iter();
                records.extend(failed.map(|(source, why)| RouteRecord::of(source, "failed", Some(why))));
                records.extend(copied.unmatched.iter().map(|source| RouteRecord::of(source, "unmatched", None)));
                report.write(&records, concluded, "all was delivered")
            }
            None => concluded,
        }
    }

    /// Fetches every manifest below the roots.
    fn fetch(&self, graph: Graph, origin: &Origin, roots: &[AssignedRoot]) -> Result<Graph> {
        let fetched = AtomicUsize::new(0);
        let tell = || self.progress.resolving(1, 1, fetched.fetch_add(1, Ordering::Relaxed) + 1);
        let wanted = roots.iter().filter(|root| !root.is_settled);
        let wanted: Vec<(Origin, Descriptor)> = wanted.map(|root| (origin.clone(), root.descriptor.clone())).collect();
        let options =
            FetchOptions { recursive: self.options.map.recursive, threads: self.setup.threads, fetched: &tell };
        let graph = graph::fetch(&*self.setup.store, graph, wanted, &options);
        self.progress.clear();
        signal::check()?;
        Ok(graph)
    }

    fn deliver(&self, homes: Homes, graph: &Graph, roots: Vec<AssignedRoot>) -> Result<DeliveryOutcome> {
        let (map, begun) = (&self.options.map, Instant::now());
        let delivery = Delivery::new(DeliveryOptions {
            homes,
            destination: String::new(),
            routing: Routing::Given,
            recursive: map.recursive,
            rereads: true,
            keeps_nothing: true,
            looks_again: self.options.verify,
            digest: None,
            set: None,
            threads: self.setup.threads,
            keep_going: map.keep_going,
            strict: false,
            check_all: false,
            has_checkpoint: false,
        });
        let read = Arc::new(AtomicU64::new(0));
        let feed = StoreFeed { store: self.setup.store.clone(), graph, read: read.clone() };
        let outcome = thread::scope(|scope| {
            let (done, over) = mpsc::channel::<()>();
            let (delivery, progress) = (&delivery, self.progress);
            scope.spawn(move || {
                while let Err(RecvTimeoutError::Timeout) = over.recv_timeout(TICK) {
                    let mut tally = delivery.tally();
                    tally.read = read.load(Ordering::Relaxed);
                    progress.delivering(&tally, None, begun.elapsed());
                }
            });
            let outcome = delivery.run(None, || delivery.feed(&feed, roots));
            drop(done);
            let again = "the same command again sends only what is missing";
            outcome.map_err(|e| e.after(delivery.tally().in_words()).hint(again))
        });
        self.progress.clear();
        let outcome = outcome?;
        self.progress.delivered(&outcome.tally, begun.elapsed(), outcome.stop.is_none() && outcome.lacking.is_empty());
        Ok(outcome)
    }

    fn conclude(&self, outcome: &DeliveryOutcome, failed: &[(String, Error)]) -> Result<()> {
        if let Some(e) = &outcome.stop {
            return Err(e.clone().hint("the same command again sends only what is missing"));
        }
        outcome.tell_lacking();
        self.router.tell_incomplete(outcome);
        let roots = outcome.roots.iter().flatten();
        let incomplete = roots.filter(|root| !root.root.is_settled && (!root.lacking.is_empty() || !root.is_tagged));
        match incomplete.count() {
            0 if outcome.is_wrong => return Err(Error::new("not all is where it should be")),
            0 => {}
            1 => return Err(Error::new("one destination is incomplete")),
            n => return Err(Error::new(format!("{n} destinations are incomplete"))),
        }
        self.router.conclude()?;
        match failed.len() {
            0 => self.progress.say(&self.router.summary(outcome)),
            n => return Err(left_out(n)),
        }
        Ok(())
    }
}
