//! Where the stream is cut into segments.

/// Where a waiter sleeps on nothing, or a stream has no known end.
pub(crate) const NEVER: u64 = u64::MAX;

/// Where the stream is cut into segments: ascending offsets in bytes, the first 0, the last the
/// length of the stream, or [`Bounds::open`] for one segment whose end its producer declares.
pub struct Bounds(pub(crate) Box<[u64]>);

impl Bounds {
    /// `offsets` must ascend from 0, strictly.
    ///
    /// # Panics
    /// If they do not: two producers would share a segment.
    pub fn new(offsets: impl IntoIterator<Item = u64>) -> Bounds {
        let offsets: Box<[u64]> = offsets.into_iter().collect();
        assert!(offsets.first() == Some(&0) && offsets.is_sorted_by(|a, b| a < b), "bounds must ascend from 0");
        Bounds(offsets)
    }

    /// One segment of unknown length.
    pub fn open() -> Bounds {
        Bounds(Box::new([0, NEVER]))
    }

    pub(crate) fn len(&self) -> u64 {
        self.0[self.0.len() - 1]
    }

    /// Bytes of the whole stream, if they are known.
    pub fn total(&self) -> Option<u64> {
        Some(self.len()).filter(|&len| len != NEVER)
    }
}
