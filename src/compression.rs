//! The compressed formats that an archive can have, and how hard to compress.

use std::str::FromStr;

use serde::Deserialize;

/// A compressed format; one frame (zstd, RFC 8878) or member (gzip, RFC 1952) behind the other is
/// part of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// RFC 8878.
    Zstd,
    /// RFC 1952.
    Gzip,
}

impl Format {
    /// By the first bytes of a stream: the magic of a zstd frame, skippable or not (RFC 8878), or of a
    /// gzip member (RFC 1952).
    pub fn of(magic: &[u8]) -> Option<Format> {
        match magic {
            [0x28, 0xB5, 0x2F, 0xFD, ..] | [0x50..=0x5F, 0x2A, 0x4D, 0x18, ..] => Some(Format::Zstd),
            [0x1F, 0x8B, ..] => Some(Format::Gzip),
            _ => None,
        }
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Format, String> {
        match text {
            "zstd" => Ok(Format::Zstd),
            "gzip" => Ok(Format::Gzip),
            _ => Err(format!("{text:?} is none of zstd, gzip")),
        }
    }
}

/// How hard to compress.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CompressionLevel {
    /// As fast as it goes.
    Min,
    /// As fast as most drives.
    #[default]
    Normal,
    /// Small, whatever time it takes.
    Max,
}

/// How to compress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Codec {
    /// What the stream becomes.
    pub format: Format,
    /// How hard.
    pub level: CompressionLevel,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_by_their_magic() {
        assert_eq!(Format::of(&[0x28, 0xB5, 0x2F, 0xFD, 0]), Some(Format::Zstd));
        assert_eq!(Format::of(&[0x5A, 0x2A, 0x4D, 0x18]), Some(Format::Zstd), "a skippable frame");
        assert_eq!(Format::of(&[0x1F, 0x8B]), Some(Format::Gzip));
        assert_eq!(Format::of(b"blobs"), None);
        assert_eq!(Format::of(&[]), None);
    }
}
