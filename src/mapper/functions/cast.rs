//! Values taken as something else, as sprig does it (with spf13/cast and fmt).

use std::{collections::BTreeMap, sync::Arc};

use gotmpl::Value;

/// The name under which a map says what it stands for: a key that no template can write.
pub(in crate::mapper) const KIND: &str = "\0kind";

/// The name under which such a map says how it is printed, if that is not by its fields.
pub(super) const TEXT: &str = "\0text";

/// What a map stands for, if it is not just a map.
pub(in crate::mapper) fn kind_of(value: &Value) -> Option<&str> {
    match value {
        Value::Map(map) => map.get(KIND).and_then(Value::as_str),
        _ => None,
    }
}

/// A value as it is printed (`%v`).
pub(in crate::mapper) fn text_of(value: &Value) -> String {
    if let Some(text) = value.field(TEXT).and_then(Value::as_str) {
        return text.into();
    }
    match kind_of(value) {
        Some("v1.Platform") => {
            // The fields in the order of Go's struct.
            let of = |name: &str| value.field(name).map(text_of).unwrap_or_default();
            let fields = ["Architecture", "OS", "OSVersion", "OSFeatures", "Variant"].map(of);
            format!("{{{}}}", fields.join(" "))
        }
        Some("v1.Descriptor") => {
            let of = |name: &str| value.field(name).map(text_of).unwrap_or_default();
            let fields = ["MediaType", "Digest", "Size", "URLs", "Annotations", "Data"].map(of);
            format!("{{{} {}}}", fields.join(" "), of("ArtifactType"))
        }
        _ => match value {
            Value::List(list) => format!("[{}]", list.iter().map(text_of).collect::<Vec<_>>().join(" ")),
            Value::Map(map) => {
                let parts: Vec<String> = map.iter().map(|(key, part)| format!("{key}:{}", text_of(part))).collect();
                format!("map[{}]", parts.join(" "))
            }
            Value::Float(number) => float_text(*number),
            plain => plain.to_string(),
        },
    }
}

/// A number as Go prints it: with an exponent if that is less than -4, or more than 5.
pub(super) fn float_text(number: f64) -> String {
    if !number.is_finite() {
        return if number.is_nan() { "NaN".into() } else { format!("{}Inf", if number < 0.0 { '-' } else { '+' }) };
    }
    let text = format!("{number:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    match exponent.parse::<i32>().unwrap_or(0) {
        0 => number.to_string(),
        exponent if (-4..6).contains(&exponent) => number.to_string(),
        exponent => format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs()),
    }
}

/// A string.
///
/// # Errors
/// If it is none.
pub(super) fn string_of(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| format!("{} is no string", shown(value)))
}

/// A value for a message.
pub(super) fn shown(value: &Value) -> String {
    let text: String = text_of(value).chars().take(40).collect();
    format!("{text:?}")
}

/// A whole number, or 0.
pub(super) fn int_of(value: &Value) -> i64 {
    match value {
        Value::Int(n) => *n,
        Value::Uint(n) => *n as i64,
        Value::Float(f) => *f as i64,
        Value::Bool(b) => i64::from(*b),
        Value::String(text) => parse_int(text).unwrap_or(0),
        _ => 0,
    }
}

/// A whole number as Go writes it: `0x`, `0o`, `0b` and a leading zero say the base.
fn parse_int(text: &str) -> Option<i64> {
    let text = match text.split_once('.') {
        Some((whole, zeros)) if zeros.bytes().all(|b| b == b'0') => whole,
        _ => text,
    };
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (base, digits) = match &lower {
        d if d.starts_with("0x") => (16, &d[2..]),
        d if d.starts_with("0o") => (8, &d[2..]),
        d if d.starts_with("0b") => (2, &d[2..]),
        d if d.len() > 1 && d.starts_with('0') => (8, &d[1..]),
        d => (10, d.as_str()),
    };
    let digits = digits.replace('_', "");
    i64::from_str_radix(&digits, base).ok().and_then(|n| n.checked_mul(sign))
}

/// A number, or 0.
pub(super) fn float_of(value: &Value) -> f64 {
    match value {
        Value::Float(f) => *f,
        Value::String(text) => text.parse().unwrap_or(0.0),
        other => int_of(other) as f64,
    }
}

/// A size or an index.
///
/// # Errors
/// If it is none.
pub(super) fn index_of(value: &Value) -> Result<i64, String> {
    match value {
        Value::Int(n) => Ok(*n),
        Value::Uint(n) => i64::try_from(*n).map_err(|_| format!("{n} is too large")),
        other => Err(format!("{} is no whole number", shown(other))),
    }
}

/// A list.
///
/// # Errors
/// If it is none.
pub(super) fn list_of(value: &Value) -> Result<&Arc<[Value]>, String> {
    match value {
        Value::List(list) => Ok(list),
        other => Err(format!("{} is no list", shown(other))),
    }
}

/// A map with strings as keys.
///
/// # Errors
/// If it is none.
pub(super) fn map_of(value: &Value) -> Result<&BTreeMap<Arc<str>, Value>, String> {
    match value {
        Value::Map(map) if kind_of(value).is_none() => Ok(map),
        other => Err(format!("{} is no dict", shown(other))),
    }
}

/// Every part of a list as a string, without what is nil; anything else is a list of itself.
pub(super) fn strings_of(value: &Value) -> Vec<String> {
    match value {
        Value::List(list) => list.iter().filter(|part| !matches!(part, Value::Nil)).map(text_of).collect(),
        Value::Nil => Vec::new(),
        other => vec![text_of(other)],
    }
}

/// A list of strings.
pub(super) fn string_list(all: impl IntoIterator<Item = impl AsRef<str>>) -> Value {
    Value::List(all.into_iter().map(super::account::string).collect())
}
