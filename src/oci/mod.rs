//! The nouns of the OCI image specification: digest, descriptor, manifest, index, reference,
//! platform; and JSON as Go's encoder writes it, since digests depend on every byte.
//!
//! Pure data: nothing here opens a file or a connection.

pub mod descriptor;
pub mod digest;
pub mod json;
pub mod label;
pub mod layout;
pub mod manifest;
pub mod media;
pub mod platform;
pub mod reference;

pub use crate::oci::descriptor::{Annotations, Descriptor};
pub use crate::oci::digest::{Digest, Hasher};
pub use crate::oci::manifest::Manifest;
pub use crate::oci::platform::{Platform, PlatformFilter};
pub use crate::oci::reference::{Reference, Repository, is_loopback, split_port};

/// Names of annotations, from the OCI image specification and from the archive format.
pub mod annotation {
    /// An image's name in an index (OCI image specification).
    pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
    /// The reference of a source, as it was written.
    pub const SOURCE: &str = "vnd.act3-ace.manifest.source";
    /// The labels of a source, as JSON.
    pub const LABELS: &str = "data.act3-ace.io/labels";
    /// The index that a manifest was picked out of, as it was.
    pub const SOURCE_INDEX: &str = "data.act3-ace.io/source-index";
    /// The manifests of an index that are not in the archive, as a JSON list of digests: `--sparse-index` left them out.
    pub const LEFT_OUT: &str = "vnd.act3-ace.data.sparse.left-out";
    /// The version of the tool that made it.
    pub const VERSION: &str = "vnd.act3-ace.data.version";
    /// Bytes of blobs, as often as they are met.
    pub const SIZE_TOTAL: &str = "vnd.act3-ace.data.layer.size.total";
    /// Bytes of blobs, each digest once.
    pub const SIZE_DEDUPLICATED: &str = "vnd.act3-ace.data.layer.size.deduplicated";
    /// Indexes that are not among the manifests, as JSON.
    pub const EXTRA_MANIFESTS: &str = "vnd.act3-ace.data.extra-manifests";
    /// The version of the archive format.
    pub const SERIALIZATION_VERSION: &str = "vnd.act3-ace.data.serialization.version";
    /// Where a blob ends in the archive.
    pub const OFFSET: &str = "vnd.act3-ace.data.offset";
    /// On which tape of several a blob ends, counted from 1.
    pub const VOLUME: &str = "vnd.act3-ace.data.volume";
    /// Where the archive begins on that tape: `offset=N,file=N,block=N,position=N,size=N` (see `archive::checkpoint`).
    pub const VOLUME_BEGIN: &str = "vnd.act3-ace.data.volume.begin";
    /// Blocks that the tape is known by: `NUMBER:CRC,...`, in hexadecimal the latter.
    pub const VOLUME_BLOCKS: &str = "vnd.act3-ace.data.volume.blocks";
}
