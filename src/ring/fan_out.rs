//! The ring turned round: one filler, many readers.
//!
//! Memory is cut into slots of one size. The [`Filler`] takes a free slot, fills it, and makes a [`Filled`] of it, which
//! can be cloned and sent to other threads; the slot is free again when the last of them is gone. Slots are taken in
//! whatever order they come free, so that a reader who holds one for long keeps nobody from the others.
//!
//! # Why this is sound
//!
//! *Who touches a slot:* `holders` of a slot is 0 while it is free. Only the filler takes a free slot, and there is only
//! one filler, so [`Slot`] is the only access to it. `Slot::publish` gives up the mutable access for shared ones.
//!
//! *Readers and filler:* a reader that goes decrements `holders` (Release); the filler takes a slot only after it saw 0
//! there (Acquire). Decrements are read-modify-writes, so that load synchronizes with all of them.
//!
//! *How many are free:* `free` is incremented after `holders` became 0, and decremented before a slot is taken, so it is
//! never more than the number of slots with no holder: a filler that saw one finds one.
//!
//! *Sleeping:* as in the ring (see `super`).
//!
//! ```
//! let (mut filler, _stopper) = ace_dt_ring::fan_out(4, 2).unwrap();
//! let mut slot = filler.slot().unwrap();
//! slot[..3].copy_from_slice(b"abc");
//! let filled = slot.publish(3);
//! let other = filled.clone();
//! drop(filled);
//! assert_eq!(&other[..], b"abc");
//! ```

use std::{
    fmt, io,
    ops::{Deref, DerefMut},
};

use crate::{
    Padded, Stopped,
    bounds::NEVER,
    memory::Memory,
    sync::{self, Arc, AtomicBool, AtomicU64, AtomicUsize, Ordering, fence},
    waiter::Waiter,
};

struct Shared {
    memory: Memory,
    /// Bytes of a slot.
    size: usize,
    /// How many hold each slot.
    holders: Box<[AtomicUsize]>,
    /// Slots without a holder.
    free: Padded<AtomicU64>,
    /// How often the filler had to wait for a free slot.
    full: AtomicU64,
    stopped: AtomicBool,
    filler: Waiter,
}

impl Shared {
    /// One holder of a slot fewer.
    fn release(&self, slot: usize) {
        // Partner: the Acquire load in `Filler::take`.
        if self.holders[slot].fetch_sub(1, Ordering::Release) > 1 {
            return;
        }
        let free = self.free.fetch_add(1, Ordering::Release) + 1;
        // Partner: the fence in `Waiter::sleep_until`.
        fence(Ordering::SeqCst);
        let need = self.filler.need.load(Ordering::Relaxed);
        if need != NEVER && need <= free {
            self.filler.wake();
        }
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        // Partner: the fence in `Waiter::sleep_until`.
        fence(Ordering::SeqCst);
        self.filler.wake();
    }
}

/// Makes a ring of `slots` slots of `size` bytes each.
///
/// # Errors
/// If the memory cannot be mapped.
///
/// # Panics
/// If `size` or `slots` is 0.
pub fn fan_out(size: usize, slots: usize) -> io::Result<(Filler, FillerStopper)> {
    assert!(size > 0 && slots > 0, "a ring needs room");
    let len = size.checked_mul(slots).ok_or(io::ErrorKind::OutOfMemory)?;
    let mut holders = Vec::new();
    holders.try_reserve_exact(slots).map_err(|_| io::ErrorKind::OutOfMemory)?;
    holders.extend((0..slots).map(|_| AtomicUsize::new(0)));
    let shared = Arc::new(Shared {
        memory: Memory::new(len)?,
        size,
        holders: holders.into_boxed_slice(),
        free: Padded(AtomicU64::new(slots as u64)),
        full: AtomicU64::new(0),
        stopped: AtomicBool::new(false),
        filler: Waiter::new(),
    });
    Ok((Filler { shared: shared.clone(), next: 0, mark: 1 }, FillerStopper { shared }))
}

/// The side that fills slots. Registers the thread of its first wait as the one to wake.
pub struct Filler {
    shared: Arc<Shared>,
    /// Where a free slot is looked for first.
    next: usize,
    /// Slots that must be free before it goes on after it found none.
    mark: u64,
}

impl Filler {
    /// When no slot was free, waits until `slots` are: the low-water mark, counted from the top. At least 1, at most
    /// all. Whoever holds slots until more is filled must give them up when [`FillerStopper::is_waiting`], or both wait
    /// for ever.
    pub fn set_mark(&mut self, slots: usize) {
        self.mark = slots.clamp(1, self.shared.holders.len()) as u64;
    }

    /// Bytes of a slot.
    pub fn slot_size(&self) -> usize {
        self.shared.size
    }

    /// A free slot, waiting for one if need be.
    ///
    /// # Errors
    /// If the ring was stopped.
    pub fn slot(&mut self) -> Result<Slot, Stopped> {
        let shared = &*self.shared;
        if shared.stopped.load(Ordering::Acquire) {
            return Err(Stopped);
        }
        if shared.free.load(Ordering::Acquire) == 0 {
            shared.full.fetch_add(1, Ordering::Relaxed);
            shared.filler.thread.get_or_init(sync::current);
            let mark = self.mark;
            shared.filler.sleep_until(mark, || {
                shared.stopped.load(Ordering::Acquire) || shared.free.load(Ordering::Acquire) >= mark
            });
            if shared.stopped.load(Ordering::Acquire) {
                return Err(Stopped);
            }
        }
        shared.free.fetch_sub(1, Ordering::Relaxed);
        let slot = self.take();
        Ok(Slot { shared: self.shared.clone(), slot })
    }

    /// Takes a slot that nobody holds; there is one.
    fn take(&mut self) -> usize {
        let slots = self.shared.holders.len();
        loop {
            let slot = self.next % slots;
            self.next = slot + 1;
            // Partner: the Release decrement in `Shared::release`.
            if self.shared.holders[slot].load(Ordering::Acquire) == 0 {
                self.shared.holders[slot].store(1, Ordering::Relaxed);
                return slot;
            }
        }
    }
}

/// A slot that is being filled. What it holds is old data. Dropped, it is free again.
pub struct Slot {
    shared: Arc<Shared>,
    slot: usize,
}

impl Slot {
    /// Makes the first `len` bytes readable, and gives up the slot.
    ///
    /// # Panics
    /// If the slot is smaller.
    pub fn publish(self, len: usize) -> Filled {
        assert!(len <= self.shared.size, "published past the slot");
        let filled = Filled { shared: self.shared.clone(), slot: self.slot, len };
        // Its count goes over to `filled`.
        self.shared.holders[self.slot].fetch_add(1, Ordering::Relaxed);
        drop(self);
        filled
    }
}

impl Deref for Slot {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let at = self.slot * self.shared.size;
        self.shared.memory.will_read(at, self.shared.size);
        // SAFETY: this is the only access to the slot (see the module), within the mapping.
        unsafe { std::slice::from_raw_parts(self.shared.memory.at(at), self.shared.size) }
    }
}

impl DerefMut for Slot {
    fn deref_mut(&mut self) -> &mut [u8] {
        let at = self.slot * self.shared.size;
        self.shared.memory.will_write(at, self.shared.size);
        // SAFETY: this is the only access to the slot, within the mapping; readers of the last lap are gone (Acquire in
        // `Filler::take`). The slice borrows `self` mutably.
        unsafe { std::slice::from_raw_parts_mut(self.shared.memory.at(at), self.shared.size) }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.shared.release(self.slot);
    }
}

/// A slot that was filled. Its memory is used again when the last clone is gone.
pub struct Filled {
    shared: Arc<Shared>,
    slot: usize,
    len: usize,
}

impl Deref for Filled {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let at = self.slot * self.shared.size;
        if self.len == 0 {
            return &[];
        }
        self.shared.memory.will_read(at, self.len);
        // SAFETY: whoever filled the slot gave up its access when it made the first of these, and nobody gets a new one
        // before the last of them is gone; `len` bytes lie within the mapping.
        unsafe { std::slice::from_raw_parts(self.shared.memory.at(at), self.len) }
    }
}

impl Clone for Filled {
    fn clone(&self) -> Filled {
        // As an `Arc` counts: whoever clones holds one already.
        self.shared.holders[self.slot].fetch_add(1, Ordering::Relaxed);
        Filled { shared: self.shared.clone(), slot: self.slot, len: self.len }
    }
}

impl Drop for Filled {
    fn drop(&mut self) {
        self.shared.release(self.slot);
    }
}

impl fmt::Debug for Filled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Filled({} bytes)", self.len)
    }
}

/// Stops the ring from outside, and tells how full it is.
#[derive(Clone)]
pub struct FillerStopper {
    shared: Arc<Shared>,
}

impl FillerStopper {
    /// Ends every wait for a slot, now and later, with [`Stopped`].
    pub fn stop(&self) {
        self.shared.stop();
    }

    /// Bytes of memory.
    pub fn capacity(&self) -> u64 {
        (self.shared.size * self.shared.holders.len()) as u64
    }

    /// Bytes of the slots that are held.
    pub fn fill(&self) -> u64 {
        let free = self.shared.free.load(Ordering::Relaxed) * self.shared.size as u64;
        self.capacity().saturating_sub(free)
    }

    /// Whether the filler waits for slots.
    pub fn is_waiting(&self) -> bool {
        self.shared.filler.need.load(Ordering::Relaxed) != NEVER
    }

    /// How often the filler had to wait.
    pub fn full(&self) -> u64 {
        self.shared.full.load(Ordering::Relaxed)
    }
}
