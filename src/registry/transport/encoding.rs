//! Bodies that are not what was asked for: compressed on the way, or a page for people.

use std::io::Read as _;

use crate::{
    compression::Format,
    error::{Error, Result},
};

/// A body without the encoding that it was given on the way, up to `max` bytes of it. A label on a body that is not
/// compressed means nothing.
///
/// # Errors
/// If it cannot be decompressed.
pub fn decoded(encoding: &str, bytes: Vec<u8>, max: u64) -> Result<Vec<u8>> {
    let mut plain = Vec::new();
    let read = match encoding {
        "gzip" | "x-gzip" if Format::of(&bytes) == Some(Format::Gzip) => {
            flate2::read::MultiGzDecoder::new(&bytes[..]).take(max).read_to_end(&mut plain)
        }
        "deflate" if bytes.starts_with(&[0x78]) => {
            flate2::read::ZlibDecoder::new(&bytes[..]).take(max).read_to_end(&mut plain)
        }
        "zstd" if Format::of(&bytes) == Some(Format::Zstd) => {
            zstd::Decoder::new(&bytes[..]).and_then(|mut zstd| zstd.by_ref().take(max).read_to_end(&mut plain))
        }
        "br" | "compress" | "x-compress" => return Err(compressed(encoding)),
        _ => return Ok(bytes),
    };
    read.map_err(|e| Error::new(e).doing(format!("decompressing its Content-Encoding {encoding:?}")))?;
    Ok(plain)
}

/// A body was compressed on the way, and cannot be used so.
pub fn compressed(encoding: &str) -> Error {
    let why = format!("it comes compressed (Content-Encoding: {encoding}), though it was asked for as it is");
    Error::new(why).hint("a proxy or a CDN in front of the registry does that")
}

/// What a body is that should be a manifest or a token, if it is none, in words.
pub fn looks_like(bytes: &[u8]) -> Option<&'static str> {
    let start = bytes.trim_ascii_start();
    match (start, Format::of(start)) {
        ([], _) => Some("empty"),
        ([b'<', ..], _) => Some("a page in HTML or XML, such as that of a login or a proxy"),
        (_, Some(Format::Gzip)) => Some("compressed by gzip"),
        (_, Some(Format::Zstd)) => Some("compressed by zstd"),
        (_, None) => None,
    }
}
