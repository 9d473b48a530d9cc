//! The bytes of the ring: anonymous pages, shared between threads as a raw mapping.
//!
//! Nothing here knows who may touch which byte: that is the ring's argument (see `super`). Under
//! loom each byte has a cell beside it, so that the model finds two threads on the same byte.

use std::io;

/// Anonymous pages.
#[cfg(not(loom))]
pub struct Memory {
    map: memmap2::MmapRaw,
}

#[cfg(not(loom))]
impl Memory {
    /// Maps `len` bytes, page-aligned, zeroed, in huge pages where the kernel has them.
    ///
    /// # Errors
    /// If the kernel does not give it.
    pub fn new(len: usize) -> io::Result<Memory> {
        let map = memmap2::MmapMut::map_anon(len)?;
        // Advice only: without huge pages the ring is the same, with more page faults.
        #[cfg(all(target_os = "linux", not(miri)))]
        let _ = map.advise(memmap2::Advice::HugePage);
        Ok(Memory { map: memmap2::MmapRaw::from(map) })
    }

    /// Where byte `at` lies. `at` must be below the length.
    pub fn at(&self, at: usize) -> *mut u8 {
        debug_assert!(at < self.map.len());
        self.map.as_mut_ptr().wrapping_add(at)
    }

    /// Tells the model of a write; nothing here.
    pub fn will_write(&self, _at: usize, _len: usize) {}
    /// Tells the model of a read; nothing here.
    pub fn will_read(&self, _at: usize, _len: usize) {}
}

/// Bytes that the model watches.
#[cfg(loom)]
pub struct Memory {
    bytes: Box<[loom::cell::UnsafeCell<u8>]>,
    raw: std::cell::UnsafeCell<Box<[u8]>>,
}

// SAFETY: the model's accesses go through the loom cells, which report what is not synchronized.
#[cfg(loom)]
unsafe impl Sync for Memory {}

#[cfg(loom)]
impl Memory {
    /// As much memory.
    ///
    /// # Errors
    /// None.
    pub fn new(len: usize) -> io::Result<Memory> {
        Ok(Memory {
            bytes: (0..len).map(|_| loom::cell::UnsafeCell::new(0)).collect(),
            raw: std::cell::UnsafeCell::new(vec![0; len].into()),
        })
    }

    /// Where byte `at` lies.
    pub fn at(&self, at: usize) -> *mut u8 {
        // SAFETY: only the pointer is made; no reference to the bytes lives on.
        unsafe { (*self.raw.get()).as_mut_ptr().wrapping_add(at) }
    }

    /// Tells the model of a write.
    pub fn will_write(&self, at: usize, len: usize) {
        self.bytes[at..at + len].iter().for_each(|cell| cell.with_mut(|_| ()));
    }

    /// Tells the model of a read.
    pub fn will_read(&self, at: usize, len: usize) {
        self.bytes[at..at + len].iter().for_each(|cell| cell.with(|_| ()));
    }
}
