//! The archive format: TAR entries, the index and manifest files in them, and the checkpoint beside.

pub mod checkpoint;
pub mod documents;
pub mod read;
pub mod tar_header;
pub mod write;

/// Bytes of a TAR block: headers and padded contents are multiples of it.
pub const TAR_BLOCK: u64 = 512;

/// Bytes of the zero blocks that end an archive.
pub const END_LEN: u64 = 2 * TAR_BLOCK;

/// `size` rounded up to whole TAR blocks; `None` if that is more than 2^64.
pub fn padded(size: u64) -> Option<u64> {
    size.checked_next_multiple_of(TAR_BLOCK)
}
