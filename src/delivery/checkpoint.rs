//! The record of an unfinished delivery: up to where in the archive all is delivered, and what waits for something
//! behind it. A JSON document, replaced as a whole.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use base64::Engine as _;
use serde::{Deserialize, Serialize};

use super::Delivery;
use crate::{
    archive::read::tar::StreamPosition,
    error::{Context, Error, Result},
    fd,
    media::{stream_input::StartAt, tape::locate::Place},
    oci::{Descriptor, Digest, Reference, json},
    util::atomic_file,
};

/// The version of the document.
const VERSION: u32 = 1;

/// A place in the archives of a run at which a member begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryPosition {
    /// Which of the archives that were named, counted from 0; of several that stand one behind the other in one file, the
    /// first is meant.
    pub archive: usize,
    /// Where that begins in its files, in bytes.
    pub start: u64,
    /// Offset in its TAR stream, in bytes.
    pub offset: u64,
    /// Which block of a tape, from where the archive begins on it, and which byte of that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block: Option<u64>,
    /// Which byte of that block.
    pub byte: usize,
    /// The volume, counted from 1, and where the archive begins on it: file and block as the driver counts them, and the
    /// drive's own address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tape: Option<TapeBegin>,
}

/// Where an archive begins on a volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TapeBegin {
    volume: usize,
    file: Option<u32>,
    block: Option<u32>,
    position: Option<u64>,
}

impl DeliveryPosition {
    /// Where a member begins.
    pub fn of(archive: usize, start: u64, place: StreamPosition) -> DeliveryPosition {
        let tape = place.medium.begin;
        let Place { file, block, position } = tape.unwrap_or_default();
        DeliveryPosition {
            archive,
            start,
            offset: place.offset,
            block: place.medium.block,
            byte: place.medium.byte,
            tape: tape.map(|_| TapeBegin { volume: place.medium.volume.max(1), file, block, position }),
        }
    }

    /// The same where a tape cannot be brought there.
    pub fn without_tape(self) -> DeliveryPosition {
        DeliveryPosition { block: None, byte: 0, tape: None, ..self }
    }

    /// Where reading a tape begins that goes on there.
    pub fn on_tape(&self) -> Option<StartAt> {
        let TapeBegin { volume, file, block, position } = self.tape?;
        Some(StartAt { volume, first: Place { file, block, position }, block: self.block?, byte: self.byte })
    }
}

/// The document.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryCheckpoint {
    /// Always 1.
    ace_dt_delivery: u32,
    /// Where to: a repository, or the digest of all destinations.
    pub repository: String,
    /// All before it is delivered.
    pub position: DeliveryPosition,
    /// The root.
    pub root: Option<Descriptor>,
    /// What `index.json` lists.
    pub listed: Vec<Descriptor>,
    /// Manifests that wait for something, with their content; without it they are at the destination, as blobs.
    pub manifests: Vec<Descriptor>,
    /// Upload sessions that are open, by repository and blob: `repository@digest`.
    pub sessions: BTreeMap<String, String>,
}

impl DeliveryCheckpoint {
    /// Reads the record at `path`; `None` if there is none.
    ///
    /// # Errors
    /// If it cannot be read, or is something else.
    pub fn read(path: &Path) -> Result<Option<DeliveryCheckpoint>> {
        let reading = || format!("reading the record {path:?}");
        if !path.exists() {
            return Ok(None);
        }
        let bytes = fd::read_file(path).doing(reading)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        match serde_json::from_slice::<DeliveryCheckpoint>(&bytes) {
            Ok(record) if record.ace_dt_delivery == VERSION => Ok(Some(record)),
            _ => Err(Error::new("it is no record of a delivery, and is not written over").doing(reading())),
        }
    }

    /// Finds out whether a record can be written there.
    ///
    /// # Errors
    /// If it cannot.
    pub fn check(path: &Path) -> Result<()> {
        let (probe, _) = atomic_file::create_beside(path, 0o600).doing(|| format!("writing the record {path:?}"))?;
        std::fs::remove_file(&probe).doing(|| format!("removing {probe:?}"))
    }

    /// Writes it, for good.
    ///
    /// # Errors
    /// If it cannot be written; then the one before stays.
    pub fn write(&self, path: &Path) -> Result<()> {
        atomic_file::replace(path, &json::compact(self), false).doing(|| format!("writing the record {path:?}"))
    }
}

impl Delivery<'_> {
    /// How far it is; `None` if it cannot be said just now.
    pub fn checkpoint(&self) -> Option<DeliveryCheckpoint> {
        let sessions = self.options.homes.sessions().into_iter();
        let sessions = sessions.map(|(repository, digest, url)| (format!("{repository}@{digest}"), url)).collect();
        let state = self.state();
        // What is on its way to be kept is neither here nor there.
        if state.queue.is_keeping() || state.has_lost {
            return None;
        }
        let position = state.unfinished.first_key_value().map(|(position, _)| *position).into_iter();
        let position = position.chain(state.reading).min()?;
        let leftover = state.tracker.leftover().into_iter();
        let manifests = leftover.map(|(descriptor, bytes)| with_content(descriptor, &bytes));
        Some(DeliveryCheckpoint {
            ace_dt_delivery: VERSION,
            repository: self.options.destination.clone(),
            position,
            root: state.root.clone().map(|root| self.with_sources(root, state.root_bytes.as_deref())),
            listed: state.listed.clone(),
            manifests: manifests.collect(),
            sessions,
        })
    }

    /// Goes on where an earlier run ended.
    ///
    /// # Errors
    /// If the record contradicts itself, or is of another destination.
    pub fn resume(&self, record: &DeliveryCheckpoint) -> Result<()> {
        if record.repository != self.options.destination {
            return Err(Error::new(format!("the record is of a delivery to {}", record.repository)));
        }
        if let (Some(wanted), Some(root)) = (&self.options.digest, &record.root)
            && *wanted != root.digest
        {
            return Err(Error::new(format!("the record is of the archive of {}, and not of {wanted}", root.digest)));
        }
        let mut state = self.state();
        let state = &mut *state;
        state.listed = record.listed.clone();
        state.root = record.root.clone();
        let root = record.root.as_ref().filter(|_| record.position.archive == 0 && self.options.set.is_none());
        if self.options.set.is_some() {
            state.met_roots = record.listed.iter().map(|listed| listed.digest.clone()).collect();
        }
        state.resumed = root.map(|root| (0, root.digest.clone()));
        let wrong = |why: String| Error::new(why).doing("going on by the record");
        match (&record.root, self.is_routed()) {
            (Some(root), false) => drop(state.tracker.set_root(root).map_err(wrong)?),
            (Some(root), true) => {
                let bytes = root.inline().ok_or_else(|| wrong("it does not hold the root".into()))?;
                state.root_bytes = Some(bytes.clone().into());
                self.route(state, &bytes);
            }
            (None, _) => {}
        }
        // The destinations are known now.
        let sessions = record.sessions.iter().filter_map(|(at, url)| {
            let (repository, digest) = at.rsplit_once('@')?;
            let Reference { repository, .. } = repository.parse().ok()?;
            Some((repository, digest.parse().ok()?, url.clone()))
        });
        self.options.homes.take_up(sessions.collect());
        for descriptor in record.listed.iter().filter(|_| !self.is_routed()) {
            state.tracker.list(descriptor).map_err(wrong)?;
        }
        for descriptor in &record.manifests {
            let Some(bytes) = descriptor.inline() else { continue };
            let bytes: Arc<[u8]> = bytes.into();
            state.note_root(&descriptor.digest, &bytes);
            let digest: &Digest = &descriptor.digest;
            state.tracker.document(digest, &bytes);
        }
        self.act(state);
        Ok(())
    }

    /// With a route the root's content is recorded, too: it says what goes where.
    fn with_sources(&self, root: Descriptor, bytes: Option<&[u8]>) -> Descriptor {
        match bytes.filter(|_| self.is_routed()) {
            Some(bytes) => with_content(root, bytes),
            None => root,
        }
    }
}

/// A descriptor that holds what it describes.
fn with_content(mut descriptor: Descriptor, bytes: &[u8]) -> Descriptor {
    descriptor.data = Some(base64::engine::general_purpose::STANDARD.encode(bytes));
    descriptor
}
