//! What the commands have in common that bring sources to where a map says: destinations worked out and looked at before
//! anything is sent, and what became of them told.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::Serialize;

use super::{setup::Setup, wanted::WantedSource};
use crate::{
    cli::{args::OnExistingTag, map_options::MapOptions, output},
    delivery::{AssignedRoot, homes::Homes, outcome::DeliveryOutcome, way_of},
    error::{Context, Error, ErrorKind, Result},
    gather::sources,
    log,
    mapper::{
        Mapper,
        assign::{Assigned, Assigner, Assignment, SourceManifest},
    },
    oci::{Digest, json},
    store::{Locator, Store as _},
    util::parallel,
    util::units::counted,
};

/// So many destinations are told one by one.
const TOLD_MAX: usize = 100;

/// A map that was read, and what it says.
pub struct Router<'a> {
    options: &'a MapOptions,
    setup: &'a Setup,
    mapper: Mapper,
    subset: Option<HashSet<String>>,
    assigned: Mutex<Assigned>,
}

impl<'a> Router<'a> {
    /// Reads the map, and the list of a subset.
    ///
    /// # Errors
    /// If either cannot be read or is malformed.
    pub fn read(options: &'a MapOptions, setup: &'a Setup) -> Result<Router<'a>> {
        let mapper = Mapper::read(&options.mapper)?;
        let subset = match &options.subset {
            Some(path) => {
                let names: HashSet<String> = sources::read(path)?.into_iter().map(|source| source.written).collect();
                if names.is_empty() {
                    return Err(Error::new("it lists no sources").doing(format!("reading the subset {path:?}")));
                }
                Some(names)
            }
            None => None,
        };
        Ok(Router { options, setup, mapper, subset, assigned: Mutex::default() })
    }

    fn assigner(&self) -> Assigner<'_> {
        Assigner {
            mapper: &self.mapper,
            selectors: &self.options.selectors,
            subset: self.subset.as_ref(),
            keep_going: self.options.keep_going,
        }
    }

    /// Which sources of a list are taken, by their labels and names.
    pub fn takes(&self, source: &sources::GatherSource) -> bool {
        let is_named = self.subset.as_ref().is_none_or(|subset| subset.contains(&source.written));
        is_named && crate::mapper::selector::selects(&self.options.selectors, &source.labels)
    }

    /// Prints where each source would go.
    ///
    /// # Errors
    /// As a run would fail before it sends anything.
    pub fn print(&self, sources: &[SourceManifest]) -> Result<()> {
        let assigned = self.assigner().assign(sources)?;
        let lines: Vec<String> = assigned.all.iter().map(|a| format!("{}\t{}\n", a.source, a.destination)).collect();
        output::print(&lines.concat())?;
        self.failure(&assigned).map_or(Ok(()), Err)
    }

    /// Works out where each source goes, and looks at the tags that are there.
    ///
    /// # Errors
    /// If a source cannot be delivered and none may be left out, or a tag is there that must not be.
    pub fn route(&self, sources: &[SourceManifest], homes: &Homes) -> Result<Vec<AssignedRoot>> {
        let assigned = self.assigner().assign(sources)?;
        let kept = self.look_at_tags(&assigned.all)?;
        let roots = assigned.all.iter().zip(kept).map(|(assignment, is_kept)| AssignedRoot {
            descriptor: assignment.manifest.clone(),
            bytes: assignment.made.clone(),
            at: homes.number(&assignment.destination.repository),
            tag: assignment.tag().map(String::from),
            is_settled: is_kept,
        });
        let roots = roots.collect();
        *self.assigned.lock().unwrap_or_else(PoisonError::into_inner) = assigned;
        Ok(roots)
    }

    /// Which destinations are kept as they are.
    fn look_at_tags(&self, all: &[Assignment]) -> Result<Vec<bool>> {
        if self.options.on_existing_tag == OnExistingTag::Overwrite {
            return Ok(vec![false; all.len()]);
        }
        let found = parallel::map(all.len(), self.setup.threads, |n| {
            let assignment = &all[n];
            if assignment.tag().is_none() {
                return Ok(None);
            }
            let mut reference = assignment.destination.clone();
            reference.digest = None;
            match self.setup.store.resolve(&Locator::Registry(reference)) {
                Ok((found, _)) => Ok(Some(found.digest).filter(|found| *found != assignment.manifest.digest)),
                Err(e) if e.is(ErrorKind::Missing) => Ok(None),
                Err(e) => Err(e).doing(|| format!("looking at {}", assignment.destination)),
            }
        });
        let (mut kept, mut there) = (Vec::new(), Vec::new());
        for (assignment, found) in all.iter().zip(found) {
            let other = found?;
            kept.push(other.is_some());
            if let Some(other) = other {
                log::info(format_args!("{} is {other} there, and is kept", assignment.destination));
                there.push(format!("{} is {other}", assignment.destination));
            }
        }
        if self.options.on_existing_tag == OnExistingTag::Fail && !there.is_empty() {
            let why = format!("--on-existing-tag fail: {} already; nothing was sent", there.join(", "));
            return Err(Error::new(why));
        }
        Ok(kept)
    }

    /// What a run ends with if sources were left out.
    fn failure(&self, assigned: &Assigned) -> Option<Error> {
        let failed = assigned.failed.len();
        (failed > 0).then(|| left_out(failed))
    }

    /// What a run ends with if sources were left out.
    ///
    /// # Errors
    /// That.
    pub fn conclude(&self) -> Result<()> {
        let assigned = self.assigned();
        self.failure(&assigned).map_or(Ok(()), Err)
    }

    /// Where all goes, for a checkpoint.
    pub fn fingerprint(&self) -> String {
        let options = self.options;
        let said =
            (&options.mapper, self.mapper.text(), format!("{:?}{:?}", options.selectors, self.options.recursive));
        let mut subset: Vec<&String> = self.subset.iter().flatten().collect();
        subset.sort_unstable();
        Digest::of(&json::compact(&(said, subset))).to_string()
    }

    /// What was worked out.
    pub fn assigned(&self) -> MutexGuard<'_, Assigned> {
        self.assigned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells which destinations are incomplete.
    pub fn tell_incomplete(&self, outcome: &DeliveryOutcome) {
        let assigned = self.assigned.lock().unwrap_or_else(PoisonError::into_inner);
        let roots = outcome.roots.as_deref().unwrap_or_default();
        let incomplete = assigned.all.iter().zip(roots).filter(|(_, root)| !root.lacking.is_empty());
        let all: Vec<String> = incomplete.map(|(a, _)| format!("{} at {}", a.source, a.destination)).collect();
        all.iter().take(TOLD_MAX).for_each(|one| log::error(Error::new(format!("incomplete: {one}"))));
        if all.len() > TOLD_MAX {
            log::error(Error::new(format!("and {} more destinations are incomplete", all.len() - TOLD_MAX)));
        }
    }

    /// How many sources are at how many destinations, in words.
    pub fn summary(&self, outcome: &DeliveryOutcome) -> String {
        let assigned = self.assigned.lock().unwrap_or_else(PoisonError::into_inner);
        let mut places: HashMap<&str, usize> = HashMap::new();
        let roots = outcome.roots.iter().flatten();
        for (assignment, root) in assigned.all.iter().zip(roots) {
            if root.lacking.is_empty() && !root.root.is_settled {
                *places.entry(&assignment.source).or_default() += 1;
            }
        }
        let (sources, destinations) = (places.len(), places.values().sum::<usize>());
        let kept = outcome.roots.iter().flatten().filter(|root| root.root.is_settled).count();
        let kept =
            if kept > 0 { format!(", {} kept as they were", counted(kept, "destination")) } else { String::new() };
        let unmapped = match assigned.unmapped.len() {
            0 => String::new(),
            n => format!("; {} without a destination", counted(n, "source")),
        };
        format!("{} delivered to {}{kept}{unmapped}", counted(sources, "source"), counted(destinations, "destination"))
    }
}

/// What became of each, for a report.
pub fn records(outcome: &DeliveryOutcome, assigned: &Assigned, dry_run: bool) -> Vec<RouteRecord> {
    let roots = outcome.roots.as_deref().unwrap_or_default();
    let mut records: Vec<RouteRecord> = Vec::new();
    for (assignment, root) in assigned.all.iter().zip(roots) {
        let became = match (root.root.is_settled, root.lacking.is_empty() && root.is_tagged) {
            (true, _) => "kept",
            (_, true) if dry_run => "planned",
            (_, true) => "delivered",
            (_, false) => "incomplete",
        };
        records.push(RouteRecord::Source {
            source: assignment.source.clone(),
            digest: Some(assignment.manifest.digest.clone()),
            destination: Some(assignment.destination.to_string()),
            outcome: became,
            missing: root.lacking.clone(),
            error: None,
        });
    }
    records.extend(assigned.failed.iter().map(|(source, why)| RouteRecord::of(source, "failed", Some(why))));
    records.extend(assigned.unmapped.iter().map(|source| RouteRecord::of(source, "unmapped", None)));
    records.extend(outcome.tracker.blobs().iter().enumerate().filter(|(n, _)| outcome.tracker.is_wanted(*n)).map(
        |(n, blob)| RouteRecord::Blob {
            blob: blob.digest.clone(),
            bytes: blob.size,
            outcome: way_of(blob.state, outcome.mounted.contains(&n), dry_run),
        },
    ));
    records
}

/// What must be sent again.
pub fn wanted<'r>(outcome: &'r DeliveryOutcome, assigned: &'r Assigned) -> Vec<WantedSource<'r>> {
    let roots = outcome.roots.as_deref().unwrap_or_default();
    let lacking = assigned.all.iter().zip(roots).filter(|(_, root)| !root.lacking.is_empty());
    let all = lacking.flat_map(|(assignment, root)| {
        let digests = match assignment.made {
            None => vec![&assignment.manifest.digest],
            // The low side has never seen it.
            Some(_) => assignment.carried.iter().filter(|d| !outcome.tracker.lacking_below(d).is_empty()).collect(),
        };
        let digests = if digests.is_empty() { root.lacking.iter().collect() } else { digests };
        digests.into_iter().map(|digest| WantedSource {
            source: Some(&*assignment.source),
            digest,
            labels: assignment.labels.as_deref(),
        })
    });
    all.collect()
}

/// What a run ends with if so many sources were left out.
pub fn left_out(count: usize) -> Error {
    Error::new(format!("left out: {}", counted(count, "source")))
}

/// One object of the report.
#[derive(Serialize)]
#[serde(untagged)]
pub enum RouteRecord {
    /// A source, and one of its destinations.
    Source {
        /// Its name.
        source: String,
        /// What is delivered.
        digest: Option<Digest>,
        /// Where to.
        #[serde(skip_serializing_if = "Option::is_none")]
        destination: Option<String>,
        /// What became of it.
        outcome: &'static str,
        /// What is missing of it.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        missing: Vec<Digest>,
        /// Why it cannot be delivered.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// A blob.
    Blob {
        /// Its digest.
        blob: Digest,
        /// How many.
        bytes: u64,
        /// How it came to where it is.
        outcome: &'static str,
    },
}

impl RouteRecord {
    /// A source that goes nowhere.
    pub fn of(source: &str, outcome: &'static str, why: Option<&Error>) -> RouteRecord {
        let error = why.map(ToString::to_string);
        RouteRecord::Source {
            source: source.into(),
            digest: None,
            destination: None,
            outcome,
            missing: Vec::new(),
            error,
        }
    }
}
