//! The descriptor: media type, digest, size, and what else is said of a piece of content.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    Digest, Platform,
    json::{few_entries, few_items, or_default},
};

/// Sorted by key, as Go writes maps.
pub type Annotations = BTreeMap<String, String>;

/// An OCI content descriptor. Fields stand in the order in which Go's `specs-go` writes them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the content is.
    #[serde(default, deserialize_with = "or_default")]
    pub media_type: String,
    /// What it hashes to.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    /// Where else it can be had.
    #[serde(default, deserialize_with = "few_items", skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// What else is said of it.
    #[serde(default, deserialize_with = "few_entries", skip_serializing_if = "Annotations::is_empty")]
    pub annotations: Annotations,
    /// The content itself, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// What it runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// What a manifest is of, if that is no image.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub artifact_type: String,
}

impl Descriptor {
    /// A descriptor that says no more than this.
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Descriptor {
        Descriptor {
            media_type: media_type.into(),
            digest,
            size,
            urls: Vec::new(),
            annotations: Annotations::new(),
            data: None,
            platform: None,
            artifact_type: String::new(),
        }
    }

    /// Whether it says nothing beyond media type, digest and size.
    pub fn is_bare(&self) -> bool {
        self.urls.is_empty()
            && self.annotations.is_empty()
            && self.data.is_none()
            && self.platform.is_none()
            && self.artifact_type.is_empty()
    }

    /// The inline content, if there is any and it is what the descriptor promises.
    pub fn inline(&self) -> Option<Vec<u8>> {
        use base64::Engine as _;
        let bytes = base64::engine::general_purpose::STANDARD.decode(self.data.as_ref()?).ok()?;
        (bytes.len() as u64 == self.size && self.digest.matches(&bytes)).then_some(bytes)
    }
}
