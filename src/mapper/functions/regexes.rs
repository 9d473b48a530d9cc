//! Regular expressions. The crate `regex-lite` has the syntax of Go's, but for classes of Unicode, and runs in time that
//! grows with pattern and text.

use gotmpl::Value;
use regex_lite::{Regex, RegexBuilder};

use super::{
    account::{Made, NamedFunction, room, spend, string},
    cast::{index_of, string_list, string_of},
};

/// These functions.
pub(super) static FUNCTIONS: &[NamedFunction] = &[
    ("regexMatch", 2, 2, matches),
    ("mustRegexMatch", 2, 2, matches),
    ("regexFind", 2, 2, find),
    ("mustRegexFind", 2, 2, find),
    ("regexFindAll", 3, 3, find_all),
    ("mustRegexFindAll", 3, 3, find_all),
    ("regexReplaceAll", 3, 3, replace),
    ("mustRegexReplaceAll", 3, 3, replace),
    ("regexReplaceAllLiteral", 3, 3, replace_literally),
    ("mustRegexReplaceAllLiteral", 3, 3, replace_literally),
    ("regexSplit", 3, 3, split),
    ("mustRegexSplit", 3, 3, split),
    ("regexQuoteMeta", 1, 1, |a| {
        let mut out = String::new();
        for c in string_of(&a[0])?.chars() {
            if r"\.+*?()|[]{}^$".contains(c) {
                out.push('\\');
            }
            out.push(c);
        }
        Ok(string(out))
    }),
];

/// Bytes of a compiled expression.
const COMPILED_MAX: usize = 256 << 10;

/// An expression, and the text that it is held against.
fn regex<'a>(pattern: &Value, text: &'a Value) -> Result<(Regex, &'a str), String> {
    let (pattern, text) = (string_of(pattern)?, string_of(text)?);
    // Each byte of the text may be held against each part of the pattern.
    spend((pattern.len() as u64 + 16) * (text.len() as u64 + 16) / 16)?;
    let regex = RegexBuilder::new(pattern).size_limit(COMPILED_MAX).build();
    Ok((regex.map_err(|e| format!("{pattern:?} is no regular expression: {e}"))?, text))
}

/// At most so many; less than none means all.
fn most(value: &Value) -> Result<usize, String> {
    Ok(usize::try_from(index_of(value)?).unwrap_or(usize::MAX))
}

fn matches(a: &[Value]) -> Made {
    let (regex, text) = regex(&a[0], &a[1])?;
    Ok(Value::Bool(regex.is_match(text)))
}

fn find(a: &[Value]) -> Made {
    let (regex, text) = regex(&a[0], &a[1])?;
    Ok(string(regex.find(text).map_or("", |found| found.as_str())))
}

fn find_all(a: &[Value]) -> Made {
    let (regex, text) = regex(&a[0], &a[1])?;
    Ok(string_list(regex.find_iter(text).take(most(&a[2])?).map(|found| found.as_str())))
}

fn replace(a: &[Value]) -> Made {
    let (regex, text) = regex(&a[0], &a[1])?;
    let (by, mut out, mut at) = (string_of(&a[2])?, String::new(), 0);
    for found in regex.captures_iter(text) {
        let Some(all) = found.get(0) else { continue };
        out.push_str(&text[at..all.start()]);
        at = all.end();
        // What a group holds may stand in it many times.
        let groups = by.bytes().filter(|byte| *byte == b'$').count();
        room(groups.checked_mul(all.len()).and_then(|n| n.checked_add(by.len() + out.len())))?;
        found.expand(by, &mut out);
        room(Some(out.len()))?;
    }
    out.push_str(&text[at..]);
    Ok(string(out))
}

fn replace_literally(a: &[Value]) -> Made {
    let (regex, text) = regex(&a[0], &a[1])?;
    let (by, mut out, mut at) = (string_of(&a[2])?, String::new(), 0);
    for found in regex.find_iter(text) {
        out.push_str(&text[at..found.start()]);
        out.push_str(by);
        room(Some(out.len()))?;
        at = found.end();
    }
    out.push_str(&text[at..]);
    Ok(string(out))
}

fn split(a: &[Value]) -> Made {
    let (regex, text) = regex(&a[0], &a[1])?;
    Ok(string_list(match most(&a[2])? {
        0 => Vec::new(),
        usize::MAX => regex.split(text).collect::<Vec<_>>(),
        most => regex.splitn(text, most).collect(),
    }))
}
