//! Blobs that are JSON: manifests, and the configurations of images.

use serde::Deserialize;

use crate::oci::{Manifest, Platform};

/// What was made of the JSON in a blob.
#[derive(Clone, Debug)]
pub enum Document {
    /// A manifest or index, and how many bytes it has.
    Manifest(Box<Manifest>, u64),
    /// The platform that the configuration of an image names.
    Config(Platform),
}

/// Reads a blob that may be a manifest or the configuration of an image.
pub fn parse(bytes: &[u8]) -> Option<Document> {
    #[derive(Deserialize)]
    struct Shape {
        #[serde(rename = "schemaVersion")]
        version: Option<serde::de::IgnoredAny>,
    }
    if bytes.first() != Some(&b'{') {
        return None;
    }
    if let Ok(manifest) = serde_json::from_slice::<Manifest>(bytes) {
        let refers = manifest.config.is_some()
            || !manifest.layers.is_empty()
            || !manifest.blobs.is_empty()
            || !manifest.manifests.is_empty();
        let is_one = refers
            || !manifest.media_type.is_empty()
            || serde_json::from_slice::<Shape>(bytes).is_ok_and(|shape| shape.version.is_some());
        if is_one {
            return Some(Document::Manifest(Box::new(manifest), bytes.len() as u64));
        }
    }
    serde_json::from_slice::<Platform>(bytes).ok().filter(|p| !p.os.is_empty()).map(Document::Config)
}
