//! One entry of the plan into its segment of the ring: header, content, padding.
//!
//! A blob is hashed while its bytes are still in the cache. Its last bytes are given to the writer
//! only after the digest has proved right, so no record of the ledger can speak of a wrong blob.
//! A small blob is held back whole until then, and fetched again if it is wrong.

use std::io::{ErrorKind, Read};

use crate::{
    archive::{
        TAR_BLOCK,
        write::plan::{Content, Plan},
    },
    error::{Context, Error, Result, io_reason},
    log,
    oci::{Descriptor, Digest, digest::Hasher},
    signal,
    store::Store,
    stream::pipeline::Halt,
};
use ace_dt_ring::{Segment, Stopped};

/// A blob is held back if it fills at most this part of the ring: the rest must keep the writer busy.
const HELD_PART: u64 = 4;
/// How often a blob that is held back is fetched before it is given up.
const TRIES: usize = 3;
const ZEROS: [u8; 2 * TAR_BLOCK as usize] = [0; 2 * TAR_BLOCK as usize];

/// Where in the plan's stream producing begins: at its start, or where an interrupted run is taken up.
#[derive(Default)]
pub struct Begin<'a> {
    pub offset: u64,
    /// What the stream holds from there on, up to the end of a blob: it was read from the medium.
    pub kept: &'a [u8],
    /// Reads what the medium holds of the stream, from an offset on: for the digest of the blob that
    /// it breaks off in.
    pub behind: Option<Box<dyn Behind>>,
}

/// The part of the stream that is on the medium already.
pub trait Behind: Sync {
    fn read_from(&self, offset: u64) -> Result<Box<dyn Read>>;
}

/// Fills one segment of the stream: an entry, or what is left of the first.
pub fn fill(plan: &Plan, store: &dyn Store, begin: &Begin, mut segment: Segment) -> Result<(), Halt> {
    let first = plan.entry_at(begin.offset);
    let entry = first + segment.index();
    let at = plan.start(entry).saturating_sub(begin.offset) as usize;
    if let Some(kept) = begin.kept.get(at..at + segment.remaining() as usize) {
        segment.put(kept)?;
        segment.complete();
        return Ok(());
    }
    let mut skip = begin.offset.saturating_sub(plan.start(entry));
    segment.put(rest(&plan.header(entry), &mut skip))?;
    match plan.content(entry) {
        Content::Directory(_) | Content::End => {}
        Content::File(_, bytes) | Content::Held(_, bytes) => segment.put(rest(&bytes, &mut skip))?,
        Content::Fetched(blob) => fetch(plan, store, blob, begin, skip, &mut segment)?,
    }
    // What is left is padding, or the end marker.
    let left = segment.remaining() as usize;
    segment.put(&ZEROS[..left])?;
    segment.complete();
    Ok(())
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

/// Fetches a blob, of which the first `skip` bytes are on the medium.
fn fetch(
    plan: &Plan,
    store: &dyn Store,
    blob: u32,
    begin: &Begin,
    skip: u64,
    segment: &mut Segment,
) -> Result<(), Halt> {
    let descriptor = plan.descriptor(blob);
    let (origin, there) = (plan.origin(blob), skip.min(descriptor.size));
    if there == descriptor.size && there > 0 {
        return Ok(());
    }
    let hold = descriptor.size <= segment.capacity() / HELD_PART;
    let name = |e: Error| e.doing(format!("fetching blob {} of {origin}", descriptor.digest));
    for tries_left in (0..TRIES).rev() {
        let hasher = hash_of_the_first(there, begin, &descriptor).map_err(name)?;
        let body = store.blob(origin, &descriptor, there)?;
        let position = segment.position();
        match copy(body, &descriptor, hasher, there, segment, hold) {
            Ok(()) => return Ok(()),
            Err(Failure::Halt(Halt::Failed(e))) => return Err(Halt::Failed(name(e))),
            Err(Failure::Halt(stopped)) => return Err(stopped),
            Err(Failure::Wrong(why)) => {
                // What the writer has, it has for good.
                if !hold || tries_left == 0 || !segment.rewind(position) {
                    return Err(name(why).spoilt().into());
                }
                log::warn(format_args!("{}; fetching it again", name(why)));
            }
        }
    }
    unreachable!("the last try returns")
}

/// Hashes what the archive holds of a blob: it ends where producing begins.
fn hash_of_the_first(there: u64, begin: &Begin, descriptor: &Descriptor) -> Result<Hasher> {
    let mut hasher = descriptor.digest.hasher();
    let Some(behind) = begin.behind.as_ref().filter(|_| there > 0) else { return Ok(hasher) };
    let reading = || "reading what the archive holds of it";
    let mut from = behind.read_from(begin.offset - there).doing(reading)?.take(there);
    let (mut piece, mut hashed) = (vec![0; 1 << 20], 0);
    loop {
        match from.read(&mut piece) {
            Ok(0) => break,
            Ok(n) => {
                hasher.update(&piece[..n]);
                hashed += n as u64;
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => signal::check()?,
            Err(e) => return Err(e).doing(reading),
        }
    }
    match hashed == there {
        true => Ok(hasher),
        false => Err(Error::new(format!("it holds {hashed} bytes instead of {there}")).doing(reading())),
    }
}

/// Copies as many bytes as the descriptor says, less those that are `there`, and checks them all.
fn copy(
    mut body: impl Read,
    descriptor: &Descriptor,
    mut hasher: Hasher,
    there: u64,
    segment: &mut Segment,
    hold: bool,
) -> Result<(), Failure> {
    let mut left = descriptor.size - there;
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
            Err(e) if e.kind() == ErrorKind::Interrupted => {
                signal::check().map_err(|e| Failure::Halt(e.into()))?;
            }
            Err(e) => return Err(Failure::Halt(Error::new(io_reason(&e)).into())),
        }
    }
}

fn check(found: Digest, wanted: &Digest) -> Result<(), Failure> {
    if found == *wanted {
        return Ok(());
    }
    Err(Failure::Wrong(Error::new(format!("digest mismatch: its content has {found}"))))
}
