//! One entry of the plan into its segment of the ring: header, content, padding.
//!
//! A blob is hashed while its bytes are still in the cache. Its last bytes are given to the writer
//! only after the digest has proved right, so no record of the checkpoint can speak of a wrong blob.
//! A small blob is held back whole until then, and fetched again if it is wrong.

use std::io::{ErrorKind as IoErrorKind, Read};

use ace_dt_ring::{Segment, Stopped};

use crate::{
    archive::END_LEN,
    archive::write::plan::{EntryBody, Plan},
    error::{Context, Error, ErrorKind, Result},
    log,
    oci::{Descriptor, Digest, Hasher},
    signal,
    store::Store,
    stream::pipeline::Halt,
};

/// A blob is held back if it fills at most this part of the ring: the rest must keep the writer busy.
const HELD_PART: u64 = 4;
/// How often a blob that is held back is fetched before it is given up.
const TRIES: usize = 3;
/// No entry has more padding.
const ZEROS: [u8; END_LEN as usize] = [0; END_LEN as usize];

/// Where in the plan's stream producing begins: at its start, or where an interrupted run is resumed.
#[derive(Default)]
pub struct StartPoint {
    /// Offset in the plan's stream.
    pub offset: u64,
    /// What the stream holds from there on, up to the end of a blob: it was read from the medium.
    pub overlap: Vec<u8>,
    /// What the medium holds of the stream in front of it.
    pub prefix: Option<Box<dyn WrittenPrefix>>,
}

/// The part of the stream that is on the medium already: for the digest of the blob that it breaks off in.
pub trait WrittenPrefix: Sync {
    /// Reads it from an offset of the plan's stream on.
    ///
    /// # Errors
    /// If the medium cannot be read there.
    fn read_from(&self, offset: u64) -> Result<Box<dyn Read>>;
}

/// Makes the plan's stream.
pub struct EntryProducer<'a> {
    /// What it is to hold.
    pub plan: &'a Plan,
    /// Where blobs come from.
    pub store: &'a dyn Store,
    /// Where it begins.
    pub start: StartPoint,
}

impl EntryProducer<'_> {
    /// Fills one segment of the stream: an entry, or what is left of the first.
    ///
    /// # Errors
    /// If a blob cannot be had whole, or somebody else has stopped the ring.
    pub fn fill(&self, mut segment: Segment) -> Result<(), Halt> {
        let offset = self.start.offset;
        let entry = self.plan.entry(self.plan.entry_at(offset) + segment.index());
        let at = entry.start.saturating_sub(offset) as usize;
        if let Some(overlap) = self.start.overlap.get(at..at + segment.remaining() as usize) {
            segment.put(overlap)?;
            segment.complete();
            return Ok(());
        }
        let mut skip = offset.saturating_sub(entry.start);
        segment.put(rest(&entry.header, &mut skip))?;
        match entry.body {
            EntryBody::Bytes(bytes) => segment.put(rest(&bytes, &mut skip))?,
            EntryBody::Fetched(blob) => self.fetch(blob, skip, &mut segment)?,
        }
        // What is left is padding, or the end marker.
        let left = segment.remaining() as usize;
        segment.put(&ZEROS[..left])?;
        segment.complete();
        Ok(())
    }

    /// Fetches a blob, of which the first `skip` bytes are on the medium.
    fn fetch(&self, blob: u32, skip: u64, segment: &mut Segment) -> Result<(), Halt> {
        let descriptor = self.plan.descriptor(blob);
        let (origin, present) = (self.plan.origin(blob), skip.min(descriptor.size));
        if present == descriptor.size && present > 0 {
            return Ok(());
        }
        let hold = descriptor.size <= segment.capacity() / HELD_PART;
        let name = |e: Error| e.doing(format!("fetching blob {} of {origin}", descriptor.digest));
        for tries_left in (0..TRIES).rev() {
            let hasher = self.hash_of_the_first(present, &descriptor).map_err(name)?;
            let body = self.store.blob(origin, &descriptor, present)?;
            let position = segment.position();
            match copy(body, &descriptor, hasher, present, segment, hold) {
                Ok(()) => return Ok(()),
                Err(Failure::Halt(Halt::Failed(e))) => return Err(Halt::Failed(name(e))),
                Err(Failure::Halt(stopped)) => return Err(stopped),
                Err(Failure::Wrong(why)) => {
                    // What the writer has, it has for good.
                    if !hold || tries_left == 0 || !segment.rewind(position) {
                        return Err(name(why).of(ErrorKind::Corrupt).into());
                    }
                    log::warn(format_args!("{}; fetching it again", name(why)));
                }
            }
        }
        unreachable!("the last try returns")
    }

    /// Hashes what the archive holds of a blob: it ends where producing begins.
    fn hash_of_the_first(&self, present: u64, descriptor: &Descriptor) -> Result<Hasher> {
        let mut hasher = descriptor.digest.hasher();
        let Some(prefix) = self.start.prefix.as_ref().filter(|_| present > 0) else { return Ok(hasher) };
        let reading = || "reading what the archive holds of it";
        let mut from = prefix.read_from(self.start.offset - present).doing(reading)?.take(present);
        let (mut piece, mut hashed) = (vec![0; 1 << 20], 0);
        loop {
            match from.read(&mut piece) {
                Ok(0) => break,
                Ok(n) => {
                    hasher.update(&piece[..n]);
                    hashed += n as u64;
                }
                Err(e) if e.kind() == IoErrorKind::Interrupted => signal::check()?,
                Err(e) => return Err(e).doing(reading),
            }
        }
        match hashed == present {
            true => Ok(hasher),
            false => Err(Error::new(format!("it holds {hashed} bytes instead of {present}")).doing(reading())),
        }
    }
}

/// What follows the first `skip` bytes, which are taken off it.
fn rest<'a>(bytes: &'a [u8], skip: &mut u64) -> &'a [u8] {
    let from = bytes.len().min(usize::try_from(*skip).unwrap_or(usize::MAX));
    *skip -= from as u64;
    &bytes[from..]
}

/// Why one try at a blob failed.
enum Failure {
    Halt(Halt),
    /// The bytes are not what the descriptor promises.
    Wrong(Error),
}

impl From<Stopped> for Failure {
    fn from(stopped: Stopped) -> Failure {
        Failure::Halt(stopped.into())
    }
}

/// Copies as many bytes as the descriptor says, less those that are `present`, and checks them all.
fn copy(
    mut body: impl Read,
    descriptor: &Descriptor,
    mut hasher: Hasher,
    present: u64,
    segment: &mut Segment,
    hold: bool,
) -> Result<(), Failure> {
    let mut left = descriptor.size - present;
    while left > 0 {
        if !hold {
            segment.publish();
        }
        let window = segment.window()?;
        let n = window.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let n = read(&mut body, &mut window[..n])?;
        if n == 0 {
            let why = format!("it ended after {} of {} bytes", descriptor.size - left, descriptor.size);
            return Err(Failure::Wrong(Error::new(why)));
        }
        hasher.update(&window[..n]);
        segment.advance(n);
        left -= n as u64;
    }
    // The read after the last byte also gives the connection back to its pool.
    if read(&mut body, &mut [0])? > 0 {
        return Err(Failure::Wrong(Error::new(format!(
            "it is longer than the {} bytes that its descriptor says",
            descriptor.size
        ))));
    }
    check(hasher.finish(), &descriptor.digest)
}

fn read(body: &mut impl Read, into: &mut [u8]) -> Result<usize, Failure> {
    loop {
        match body.read(into) {
            Ok(n) => return Ok(n),
            Err(e) if e.kind() == IoErrorKind::Interrupted => {
                signal::check().map_err(|e| Failure::Halt(e.into()))?;
            }
            Err(e) => return Err(Failure::Halt(Error::from_io(e).into())),
        }
    }
}

fn check(found: Digest, wanted: &Digest) -> Result<(), Failure> {
    if found == *wanted {
        return Ok(());
    }
    Err(Failure::Wrong(Error::new(format!("digest mismatch: its content has {found}"))))
}
