//! JSON, base64, base32, and hashes.

use std::{collections::BTreeMap, sync::Arc};

use base64::Engine as _;
use gotmpl::Value;
use serde_json::Value as Json;
use sha2::{Digest as _, Sha256, Sha512};

use super::{
    account::{Made, NamedFunction, room, string},
    cast::{kind_of, string_of, text_of},
};

/// These functions.
pub(super) static FUNCTIONS: &[NamedFunction] = &[
    ("fromJson", 1, 1, |a| Ok(from_json(&a[0]).unwrap_or(Value::Nil))),
    ("mustFromJson", 1, 1, |a| from_json(&a[0])),
    ("toJson", 1, 1, |a| to_json(&a[0], "", true)),
    ("mustToJson", 1, 1, |a| to_json(&a[0], "", true)),
    ("toPrettyJson", 1, 1, |a| to_json(&a[0], "  ", true)),
    ("mustToPrettyJson", 1, 1, |a| to_json(&a[0], "  ", true)),
    ("toRawJson", 1, 1, |a| to_json(&a[0], "", false)),
    ("mustToRawJson", 1, 1, |a| to_json(&a[0], "", false)),
    ("b64enc", 1, 1, |a| Ok(string(base64::engine::general_purpose::STANDARD.encode(string_of(&a[0])?)))),
    ("b64dec", 1, 1, |a| {
        let decoded = base64::engine::general_purpose::STANDARD.decode(string_of(&a[0])?);
        text_in(decoded.map_err(|e| format!("it is no base64: {e}"))?)
    }),
    ("b32enc", 1, 1, |a| Ok(string(base32(string_of(&a[0])?.as_bytes())))),
    ("b32dec", 1, 1, |a| text_in(from_base32(string_of(&a[0])?).ok_or("it is no base32")?)),
    ("sha1sum", 1, 1, |a| Ok(string(hex(&sha1::Sha1::digest(string_of(&a[0])?))))),
    ("sha256sum", 1, 1, |a| Ok(string(hex(&Sha256::digest(string_of(&a[0])?))))),
    ("sha512sum", 1, 1, |a| Ok(string(hex(&Sha512::digest(string_of(&a[0])?))))),
    ("adler32sum", 1, 1, |a| {
        let (low, high) = string_of(&a[0])?.bytes().fold((1u32, 0u32), |(low, high), byte| {
            let low = (low + u32::from(byte)) % 65_521;
            (low, (high + low) % 65_521)
        });
        Ok(string((high << 16 | low).to_string()))
    }),
];

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes that are text.
///
/// # Errors
/// If they are none.
pub(super) fn text_in(bytes: Vec<u8>) -> Made {
    String::from_utf8(bytes).map(string).map_err(|_| "what it decodes to is no text".into())
}

fn from_json(value: &Value) -> Made {
    let json = serde_json::from_str(string_of(value)?).map_err(|e| format!("it is no JSON: {e}"))?;
    Ok(of_json(json))
}

/// Numbers are floating-point, as in Go.
fn of_json(json: Json) -> Value {
    match json {
        Json::Null => Value::Nil,
        Json::Bool(b) => Value::Bool(b),
        Json::Number(n) => Value::Float(n.as_f64().unwrap_or(0.0)),
        Json::String(text) => string(text),
        Json::Array(all) => Value::List(all.into_iter().map(of_json).collect()),
        Json::Object(all) => {
            // A key that begins with NUL would say what the map stands for.
            let entries = all.into_iter().map(|(key, value)| (key.trim_start_matches('\0').into(), of_json(value)));
            Value::Map(Arc::new(entries.collect()))
        }
    }
}

/// As Go's encoder writes it; with `escapes`, `<`, `>` and `&` too are written by number.
fn to_json(value: &Value, indent: &str, escapes: bool) -> Made {
    let mut out = String::new();
    write_json(value, indent, 0, escapes, &mut out)?;
    Ok(string(out))
}

fn write_json(value: &Value, indent: &str, depth: usize, escapes: bool, out: &mut String) -> Result<(), String> {
    room(Some(out.len()))?;
    let newline = |out: &mut String, depth: usize| {
        if !indent.is_empty() {
            out.push('\n');
            out.push_str(&indent.repeat(depth));
        }
    };
    let mut parts =
        |open: char, close: char, count: usize, part: &mut dyn FnMut(usize, &mut String) -> Result<(), String>| {
            out.push(open);
            for n in 0..count {
                if n > 0 {
                    out.push(',');
                }
                newline(out, depth + 1);
                part(n, out)?;
            }
            if count > 0 {
                newline(out, depth);
            }
            out.push(close);
            Ok(())
        };
    match value {
        Value::Map(map) if kind_of(value).is_some_and(|kind| kind.starts_with("v1.")) => {
            let (names, all) = (named_by_tags(map), map);
            return parts('{', '}', names.len(), &mut |n, out| {
                write_string(names[n].1, escapes, out);
                out.push_str(if indent.is_empty() { ":" } else { ": " });
                write_json(&all[names[n].0], indent, depth + 1, escapes, out)
            });
        }
        _ if kind_of(value).is_some() => write_string(&text_of(value), escapes, out),
        Value::List(list) => {
            return parts('[', ']', list.len(), &mut |n, out| write_json(&list[n], indent, depth + 1, escapes, out));
        }
        Value::Map(map) => {
            let entries: Vec<_> = map.iter().filter(|(key, _)| !key.starts_with('\0')).collect();
            return parts('{', '}', entries.len(), &mut |n, out| {
                write_string(entries[n].0, escapes, out);
                out.push_str(if indent.is_empty() { ":" } else { ": " });
                write_json(entries[n].1, indent, depth + 1, escapes, out)
            });
        }
        Value::Nil => out.push_str("null"),
        Value::String(text) => write_string(text, escapes, out),
        Value::Float(f) if !f.is_finite() => return Err(format!("JSON has no {f}")),
        Value::Float(f) => out.push_str(&float_text(*f)),
        other => out.push_str(&other.to_string()),
    }
    Ok(())
}

/// The fields of Go's descriptor and platform as JSON has them, in their order, without those that are empty.
fn named_by_tags(map: &BTreeMap<Arc<str>, Value>) -> Vec<(&'static str, &'static str)> {
    const TAGS: [(&str, &str); 12] = [
        ("MediaType", "mediaType"),
        ("Digest", "digest"),
        ("Size", "size"),
        ("URLs", "urls"),
        ("Annotations", "annotations"),
        ("Platform", "platform"),
        ("ArtifactType", "artifactType"),
        ("Architecture", "architecture"),
        ("OS", "os"),
        ("OSVersion", "os.version"),
        ("OSFeatures", "os.features"),
        ("Variant", "variant"),
    ];
    TAGS.into_iter().filter(|(field, _)| map.get(*field).is_some_and(Value::is_truthy)).collect()
}

/// A number as Go's JSON encoder writes it: with an exponent if it is very small or large.
fn float_text(number: f64) -> String {
    let size = number.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{number:e}");
        return match text.split_once('e') {
            Some((digits, exponent)) if !exponent.starts_with('-') => format!("{digits}e+{exponent}"),
            _ => text,
        };
    }
    number.to_string()
}

fn write_string(text: &str, escapes: bool, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '<' | '>' | '&' if escapes => out.push_str(&format!("\\u{:04x}", c as u32)),
            '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c if (c as u32) < 0x20 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
}

const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// RFC 4648, section 6.
fn base32(bytes: &[u8]) -> String {
    let mut out = String::new();
    for group in bytes.chunks(5) {
        let bits = (0..5).fold(0u64, |bits, n| bits << 8 | u64::from(group.get(n).copied().unwrap_or(0)));
        let letters = (group.len() * 8).div_ceil(5);
        for n in 0..8 {
            let letter = BASE32[(bits >> (35 - 5 * n) & 31) as usize] as char;
            out.push(if n < letters { letter } else { '=' });
        }
    }
    out
}

fn from_base32(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(8) {
        return None;
    }
    let mut out = Vec::new();
    for (n, group) in text.as_bytes().chunks(8).enumerate() {
        let letters = group.iter().position(|b| *b == b'=').unwrap_or(8);
        let is_last = (n + 1) * 8 == text.len();
        let is_padded = group[letters..].iter().all(|b| *b == b'=');
        if !is_padded || !matches!(letters, 2 | 4 | 5 | 7 | 8) || letters < 8 && !is_last {
            return None;
        }
        let mut bits = 0u64;
        for at in 0..8 {
            let value = match group.get(at).filter(|_| at < letters) {
                Some(letter) => BASE32.iter().position(|b| b == letter)? as u64,
                None => 0,
            };
            bits = bits << 5 | value;
        }
        out.extend(&bits.to_be_bytes()[3..3 + letters * 5 / 8]);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base32_there_and_back() {
        for (text, encoded) in [("", ""), ("f", "MY======"), ("fo", "MZXQ===="), ("foobar", "MZXW6YTBOI======")] {
            assert_eq!(base32(text.as_bytes()), encoded);
            assert_eq!(from_base32(encoded).unwrap(), text.as_bytes());
        }
        for bad in ["M", "MY=====", "M1======", "=Y======", "MY======MY======"] {
            assert!(from_base32(bad).is_none(), "{bad}");
        }
    }
}
