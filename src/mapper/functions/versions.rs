//! Semantic versions, and constraints on them, as Masterminds/semver 3.3 has them.

use std::{cmp::Ordering, sync::Arc};

use gotmpl::Value;

use super::{
    account::{Made, NamedFunction, string},
    cast::{KIND, TEXT, string_of},
};

/// What a map stands for that is a version.
pub(in crate::mapper) const VERSION: &str = "*semver.Version";

/// These functions.
pub(super) static FUNCTIONS: &[NamedFunction] = &[
    ("semver", 1, 1, |a| Ok(Version::parse(string_of(&a[0])?)?.to_value())),
    ("semverCompare", 2, 2, |a| {
        let version = Version::parse(string_of(&a[1])?)?;
        Ok(Value::Bool(allows(string_of(&a[0])?, &version)?))
    }),
];

#[derive(Clone, Debug, PartialEq, Eq)]
struct Version {
    numbers: [u64; 3],
    prerelease: String,
    metadata: String,
    /// How many of the numbers were written.
    written: usize,
}

/// A part of a version.
///
/// # Errors
/// If there is none.
pub(in crate::mapper) fn field(value: &Value, name: &str) -> Made {
    match value.field(name) {
        Some(part) if !name.starts_with('\0') => Ok(part.clone()),
        _ => Err(format!("a version has no {name}")),
    }
}

/// Letters, digits and dashes, in parts with dots between.
fn is_identifier(text: &str) -> bool {
    text.split('.').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'))
}

impl Version {
    /// Reads `[v]1[.2[.3]][-prerelease][+metadata]`.
    fn parse(text: &str) -> Result<Version, String> {
        let wrong = || format!("{text:?} is no version");
        let rest = text.strip_prefix('v').unwrap_or(text);
        let (rest, metadata) = rest.split_once('+').map_or((rest, None), |(rest, part)| (rest, Some(part)));
        let (rest, prerelease) = rest.split_once('-').map_or((rest, None), |(rest, part)| (rest, Some(part)));
        if !prerelease.is_none_or(is_identifier) || !metadata.is_none_or(is_identifier) {
            return Err(wrong());
        }
        let parts: Vec<&str> = rest.split('.').collect();
        if parts.len() > 3 {
            return Err(wrong());
        }
        let mut numbers = [0; 3];
        for (number, part) in numbers.iter_mut().zip(&parts) {
            let is_number = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            *number = part.parse().ok().filter(|_| is_number).ok_or_else(wrong)?;
        }
        let (prerelease, metadata) = (prerelease.unwrap_or_default().into(), metadata.unwrap_or_default().into());
        Ok(Version { numbers, prerelease, metadata, written: parts.len() })
    }

    fn to_value(&self) -> Value {
        let [major, minor, patch] = self.numbers;
        let mut text = format!("{major}.{minor}.{patch}");
        for (sign, part) in [('-', &self.prerelease), ('+', &self.metadata)] {
            if !part.is_empty() {
                text += &format!("{sign}{part}");
            }
        }
        let entries = [
            (KIND, string(VERSION)),
            ("Major", Value::Int(major as i64)),
            ("Minor", Value::Int(minor as i64)),
            ("Patch", Value::Int(patch as i64)),
            ("Prerelease", string(&self.prerelease)),
            ("Metadata", string(&self.metadata)),
            ("String", string(&text)),
            (TEXT, string(text)),
        ];
        Value::Map(Arc::new(entries.into_iter().map(|(key, value)| (key.into(), value)).collect()))
    }

    /// Precedence (semantic versioning 2.0, item 11).
    fn compare(&self, other: &Version) -> Ordering {
        self.numbers.cmp(&other.numbers).then_with(|| match (self.prerelease.as_str(), other.prerelease.as_str()) {
            ("", "") => Ordering::Equal,
            ("", _) => Ordering::Greater,
            (_, "") => Ordering::Less,
            (one, other) => {
                let (mut one, mut other) = (one.split('.'), other.split('.'));
                loop {
                    let order = match (one.next(), other.next()) {
                        (None, None) => return Ordering::Equal,
                        (None, _) => return Ordering::Less,
                        (_, None) => return Ordering::Greater,
                        (Some(a), Some(b)) => match (a.parse::<u64>(), b.parse::<u64>()) {
                            (Ok(a), Ok(b)) => a.cmp(&b),
                            (Ok(_), Err(_)) => Ordering::Less,
                            (Err(_), Ok(_)) => Ordering::Greater,
                            (Err(_), Err(_)) => a.cmp(b),
                        },
                    };
                    if order.is_ne() {
                        return order;
                    }
                }
            }
        })
    }

    /// The first version that has another number at this place.
    fn above(&self, place: usize) -> Version {
        let mut numbers = self.numbers;
        numbers[place] = numbers[place].saturating_add(1);
        numbers[place + 1..].fill(0);
        Version { numbers, prerelease: String::new(), metadata: String::new(), written: 3 }
    }
}

/// Whether a constraint allows a version: alternatives are separated by `||`, and what must hold together by commas or
/// spaces.
fn allows(constraint: &str, version: &Version) -> Result<bool, String> {
    let mut any = false;
    for alternative in constraint.split("||") {
        let mut all = true;
        for (operator, operand) in requirements(alternative).map_err(|why| format!("{constraint:?}: {why}"))? {
            all &= holds(&operator, &operand, version).map_err(|why| format!("{constraint:?}: {why}"))?;
        }
        any |= all;
    }
    Ok(any)
}

/// Operators and versions; `1.2 - 1.4` is a range.
fn requirements(text: &str) -> Result<Vec<(String, String)>, String> {
    let spaced: Vec<&str> =
        text.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty()).collect();
    let (mut all, mut at) = (Vec::new(), 0);
    while at < spaced.len() {
        let word = spaced[at];
        if spaced.get(at + 1) == Some(&"-") {
            let to = spaced.get(at + 2).ok_or("a range has no end")?;
            all.extend([(">=".to_string(), word.to_string()), ("<=".to_string(), to.to_string())]);
            at += 3;
            continue;
        }
        let operator: String = word.chars().take_while(|c| "=!<>~^".contains(*c)).collect();
        let mut operand = word[operator.len()..].to_string();
        at += 1;
        if operand.is_empty() {
            operand = spaced.get(at).ok_or("an operator has no version")?.to_string();
            at += 1;
        }
        all.push((operator, operand));
    }
    if all.is_empty() { Err("it says nothing".into()) } else { Ok(all) }
}

fn holds(operator: &str, operand: &str, version: &Version) -> Result<bool, String> {
    // Wild cards stand for numbers that are not written.
    let is_wild = |part: &str| matches!(part, "x" | "X" | "*");
    let bare = operand.strip_prefix('v').unwrap_or(operand);
    let (bare, prerelease) = bare.split_once('-').unwrap_or((bare, ""));
    let numbers: Vec<&str> = bare.split('.').take_while(|part| !is_wild(part)).collect();
    let has_wild = bare.split('.').any(is_wild);
    let wanted = match (has_wild, numbers.is_empty()) {
        (true, true) => Version { numbers: [0; 3], prerelease: String::new(), metadata: String::new(), written: 0 },
        (true, false) => Version { prerelease: prerelease.into(), ..Version::parse(&numbers.join("."))? },
        (false, _) => Version::parse(operand)?,
    };
    // Without a prerelease in the constraint none is meant.
    if !version.prerelease.is_empty() && wanted.prerelease.is_empty() && (operator != "!=" || wanted.written < 3) {
        return Ok(false);
    }
    let order = version.compare(&wanted);
    let is_partial = wanted.written < 3;
    // Versions that begin with the numbers written lie from `wanted` to before this.
    let end = wanted.written.checked_sub(1).map(|place| wanted.above(place));
    let is_below = |end: &Option<Version>| end.as_ref().is_none_or(|end| version.compare(end).is_lt());
    Ok(match operator {
        "" | "=" | "==" if is_partial => order.is_ge() && is_below(&end),
        "" | "=" | "==" => order.is_eq(),
        "!=" if is_partial => !(order.is_ge() && is_below(&end)),
        "!=" => order.is_ne(),
        ">" if is_partial => !is_below(&end),
        ">" => order.is_gt(),
        "<" => order.is_lt(),
        ">=" | "=>" => order.is_ge(),
        "<=" | "=<" if is_partial => is_below(&end),
        "<=" | "=<" => order.is_le(),
        "~" | "~>" => {
            let place = wanted.written.saturating_sub(1).min(1);
            order.is_ge() && (wanted.written == 0 || version.numbers < wanted.above(place).numbers)
        }
        "^" => {
            let first = wanted.numbers.iter().position(|number| *number > 0);
            let place = first.unwrap_or(2).min(wanted.written.saturating_sub(1));
            order.is_ge() && (wanted.written == 0 || version.numbers < wanted.above(place).numbers)
        }
        other => return Err(format!("{other:?} is no comparison")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constraints() {
        for (constraint, version, is_allowed) in [
            ("^1.2.0", "1.9.3", true),
            ("^1.2.0", "2.0.0", false),
            ("^0.2.3", "0.2.9", true),
            ("^0.2.3", "0.3.0", false),
            ("^0.0.3", "0.0.4", false),
            ("~1.2", "1.2.99", true),
            ("~1.2.3", "1.3.0", false),
            ("~1", "1.9.0", true),
            (">=2", "1.9", false),
            ("1.2.x", "1.2.7", true),
            ("*", "3.0.0", true),
            (">1", "1.5.0", false),
            (">1", "2.0.0", true),
            ("<=1", "1.5.0", true),
            (">= 1.2, < 3.0.0 || >= 4.2.3", "4.2.3", true),
            ("1.2 - 1.4.5", "1.4.6", false),
            ("!=1.2", "1.2.5", false),
            (">=1.0.0", "1.1.0-beta", false),
            (">=1.0.0-0", "1.1.0-beta", true),
            (">=1.8.x-0", "1.8.0-rc1", true),
            ("^1.19-0", "2.0.0-rc1", false),
            ("~1.2-0", "1.3.0-rc1", false),
            ("!=1.2", "2.0.0-rc1", false),
            ("<1.0.0-beta.11", "1.0.0-beta.2", true),
        ] {
            assert_eq!(allows(constraint, &Version::parse(version).unwrap()), Ok(is_allowed), "{constraint} {version}");
        }
        for bad in ["", "1.2.3.4", ">", "a", "1.-", "1..2", "^^1"] {
            assert!(allows(bad, &Version::parse("1.0.0").unwrap()).is_err(), "{bad}");
        }
    }
}
