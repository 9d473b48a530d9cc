//! The names and limits of an OCI image layout (OCI image specification, "Image Layout"), in a
//! directory or in a TAR stream.

/// The file that marks a layout.
pub const LAYOUT_FILE: &str = "oci-layout";
/// Its content.
pub const LAYOUT_CONTENT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
/// The file that lists the roots.
pub const INDEX_FILE: &str = "index.json";
/// The directory of the blobs: `blobs/<algorithm>/<hex>`.
pub const BLOBS: &str = "blobs";

/// No manifest or index has more bytes, whatever claims so.
pub const MANIFEST_SIZE_MAX: u64 = 64 << 20;
/// Manifests nested deeper than this are refused: no honest image comes near it.
pub const DEPTH_MAX: usize = 64;
