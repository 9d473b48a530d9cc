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
const COMPILED_MAX: usize = 64 << 10;
/// Of a pattern.
const PATTERN_MAX: usize = 1 << 10;
/// And of what it is held against: many times what a reference has.
const TEXT_MAX: usize = 4 << 10;

/// An expression, and the text that it is held against.
fn regex<'a>(pattern: &Value, text: &'a Value) -> Result<(Regex, &'a str), String> {
    let (pattern, text) = (string_of(pattern)?, string_of(text)?);
    // Each byte of the text may be held against each part of the pattern.
    if pattern.len() > PATTERN_MAX || text.len() > TEXT_MAX {
        return Err(format!("a pattern has at most {PATTERN_MAX} bytes, and what it is held against {TEXT_MAX}"));
    }
    spend((pattern.len() as u64 + 16) * (text.len() as u64 + 16) / 16)?;
    let regex = RegexBuilder::new(&plainly(pattern)).size_limit(COMPILED_MAX).build();
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
        most => parts(&regex, text, most),
    }))
}

/// As Go splits: an empty match at the beginning or at the end makes no part.
fn parts<'a>(regex: &Regex, text: &'a str, most: usize) -> Vec<&'a str> {
    let (mut all, mut at) = (Vec::new(), 0);
    for found in regex.find_iter(text) {
        if all.len() + 1 == most {
            break;
        }
        if found.end() != 0 {
            if found.start() == text.len() && found.end() == at {
                continue;
            }
            all.push(&text[at..found.start()]);
        }
        at = found.end();
    }
    if at != text.len() || all.is_empty() {
        all.push(&text[at..]);
    }
    all
}

/// A pattern as `regex-lite` reads it: it refuses some that Go takes. A dash behind a class within brackets is a dash, a
/// bracket in brackets is one, a brace that counts nothing is one, and between `\Q` and `\E` all is as it stands.
fn plainly(pattern: &str) -> String {
    let (mut out, mut in_class, mut at) = (String::new(), false, 0);
    let all: Vec<char> = pattern.chars().collect();
    let counts = |from: usize| {
        let end = all[from..].iter().position(|c| *c == '}').map(|n| from + n);
        let inner: Option<String> = end.map(|end| all[from + 1..end].iter().collect());
        inner.is_some_and(|inner| {
            let (least, most) = inner.split_once(',').unwrap_or((&inner, ""));
            let is_number = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
            !least.is_empty() && is_number(least) && is_number(most)
        })
    };
    while at < all.len() {
        let (c, next) = (all[at], all.get(at + 1).copied());
        match c {
            '\\' if next == Some('Q') => {
                let rest: String = all[at + 2..].iter().collect();
                let (quoted, length) = match rest.split_once("\\E") {
                    Some((quoted, _)) => (quoted.to_string(), quoted.chars().count() + 2),
                    None => (rest.clone(), rest.chars().count()),
                };
                out += &regex_lite::escape(&quoted);
                at += 2 + length;
                continue;
            }
            '\\' => {
                out.push(c);
                out.extend(next);
                at += 2;
                let is_class = next.is_some_and(|next| "dDsSwW".contains(next));
                if in_class && is_class && all.get(at) == Some(&'-') && all.get(at + 1) != Some(&']') {
                    out += "\\-";
                    at += 1;
                }
                continue;
            }
            '[' if in_class && next != Some(':') => out += "\\[",
            '[' if !in_class => {
                in_class = true;
                out.push(c);
                // A bracket right behind stands for itself.
                for first in ['^', ']'] {
                    if all.get(at + 1) == Some(&first) {
                        at += 1;
                        out += if first == ']' { "\\]" } else { "^" };
                    }
                }
            }
            ']' if in_class && !(at > 0 && all[at - 1] == ':' && out.contains("[:")) => {
                in_class = false;
                out.push(c);
            }
            '{' if !(in_class || counts(at) || at > 1 && matches!(all[at - 1], 'x' | 'p' | 'P')) => out += "\\{",
            _ => out.push(c),
        }
        at += 1;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_that_go_takes() {
        let clean = |pattern: &str, text: &str| {
            let made = replace_literally(&[string(pattern), string(text), string("_")]).unwrap();
            made.as_str().unwrap().to_string()
        };
        assert_eq!(clean(r"[^\w-.]", "a/b:c"), "a_b_c");
        assert_eq!(clean(r"\Qa.b\E", "axb a.b"), "axb _");
        assert_eq!(clean("{x}", "a{x}"), "a_");
        assert_eq!(clean("[a[b]", "[ab]"), "___]");
        assert_eq!(clean("[]x]+", "a]x"), "a_");
        assert_eq!(clean("a{2}", "aaa"), "_a");
        assert_eq!(clean("[[:digit:]]+", "a12"), "a_");
        let parts_of = |pattern: &str, text| parts(&Regex::new(pattern).unwrap(), text, usize::MAX);
        assert_eq!(parts_of("", "abc"), ["a", "b", "c"]);
        assert_eq!(parts_of("a*", "baaac"), ["b", "c"]);
        assert_eq!(parts_of("z+", "pizza"), ["pi", "a"]);
    }
}
