//! The archive format: TAR entries, the index and manifest files in them, and the ledger beside.

pub mod checkpoint;
pub mod documents;
pub mod read;
pub mod tar_header;
pub mod write;

/// `oci-layout`'s content.
pub const OCI_LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// Bytes of a TAR block: headers and padded contents are multiples of it.
pub const TAR_BLOCK: u64 = 512;

/// Two zero blocks end an archive.
pub const END: [u8; 1024] = [0; 1024];

/// `size` rounded up to whole TAR blocks.
pub fn padded(size: u64) -> Option<u64> {
    size.checked_next_multiple_of(TAR_BLOCK)
}
