//! One entry of the plan into its segment of the ring: header, content, padding.
//!
//! A blob is hashed while its bytes are still in the cache. Its last bytes are given to the writer
//! only after the digest has proved right, so no record of the ledger can speak of a wrong blob.
//! A small blob is held back whole until then, and fetched again if it is wrong.

use std::io::{ErrorKind, Read};

use crate::{
    archive::TAR_BLOCK,
    error::{Error, Result, io_reason},
    log,
    oci::{Descriptor, Digest},
    pipeline::Halt,
    plan::{Content, Plan},
    ring::{Segment, Stopped},
    stop,
    store::Store,
};

/// A blob is held back if it fills at most this part of the ring: the rest must keep the writer busy.
const HELD_PART: u64 = 4;
/// How often a blob that is held back is fetched before it is given up.
const TRIES: usize = 3;
const ZEROS: [u8; 2 * TAR_BLOCK as usize] = [0; 2 * TAR_BLOCK as usize];

/// Fills the segment of one entry.
pub fn fill(plan: &Plan, store: &dyn Store, mut segment: Segment) -> Result<(), Halt> {
    let entry = segment.index();
    segment.put(&plan.header(entry))?;
    match plan.content(entry) {
        Content::Directory(_) | Content::End => {}
        Content::File(_, bytes) | Content::Held(_, bytes) => segment.put(bytes)?,
        Content::Fetched(blob) => fetch(plan, store, *blob, &mut segment)?,
    }
    // What is left is padding, or the end marker.
    let left = segment.remaining() as usize;
    segment.put(&ZEROS[..left])?;
    segment.complete();
    Ok(())
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

fn fetch(plan: &Plan, store: &dyn Store, blob: u32, segment: &mut Segment) -> Result<(), Halt> {
    let descriptor = plan.descriptor(blob);
    let origin = plan.origin(blob);
    let hold = descriptor.size <= segment.capacity() / HELD_PART;
    let name = |e: Error| e.doing(format!("fetching blob {} of {origin}", descriptor.digest));
    for tries_left in (0..TRIES).rev() {
        let body = store.blob(origin, &descriptor, 0)?;
        let begin = segment.position();
        match copy(body, &descriptor, segment, hold) {
            Ok(()) => return Ok(()),
            Err(Failure::Halt(Halt::Failed(e))) => return Err(Halt::Failed(name(e))),
            Err(Failure::Halt(stopped)) => return Err(stopped),
            Err(Failure::Wrong(why)) => {
                // What the writer has, it has for good.
                if !hold || tries_left == 0 || !segment.rewind(begin) {
                    return Err(name(why).into());
                }
                log::warn(format_args!("{}; fetching it again", name(why)));
            }
        }
    }
    unreachable!("the last try returns")
}

/// Copies exactly as many bytes as the descriptor says, and checks them.
fn copy(mut body: impl Read, descriptor: &Descriptor, segment: &mut Segment, hold: bool) -> Result<(), Failure> {
    let mut hasher = descriptor.digest.hasher();
    let mut left = descriptor.size;
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
                stop::check().map_err(|e| Failure::Halt(e.into()))?;
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
