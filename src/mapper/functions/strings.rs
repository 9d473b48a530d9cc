//! Strings.

use std::collections::HashSet;

use gotmpl::Value;

use super::{
    account::{ANY, Made, NamedFunction, room, string},
    cast::{index_of, shown, string_list, string_of, strings_of, text_of},
};

/// These functions.
pub(super) static FUNCTIONS: &[NamedFunction] = &[
    ("hello", 0, 0, |_| Ok(string("Hello!"))),
    ("abbrev", 2, 2, |a| abbreviate(string_of(&a[1])?, 0, index_of(&a[0])?)),
    ("abbrevboth", 3, 3, |a| abbreviate(string_of(&a[2])?, index_of(&a[0])?, index_of(&a[1])?)),
    ("trunc", 2, 2, |a| truncate(index_of(&a[0])?, string_of(&a[1])?)),
    ("trim", 1, 1, |a| Ok(string(string_of(&a[0])?.trim()))),
    ("upper", 1, 1, |a| Ok(string(string_of(&a[0])?.to_uppercase()))),
    ("lower", 1, 1, |a| Ok(string(string_of(&a[0])?.to_lowercase()))),
    ("title", 1, 1, |a| Ok(string(titled(string_of(&a[0])?)))),
    ("untitle", 1, 1, |a| Ok(string(untitled(string_of(&a[0])?)))),
    ("substr", 3, 3, |a| substring(index_of(&a[0])?, index_of(&a[1])?, string_of(&a[2])?)),
    ("repeat", 2, 2, |a| repeated(index_of(&a[0])?, string_of(&a[1])?)),
    ("trimall", 2, 2, trim_all),
    ("trimAll", 2, 2, trim_all),
    ("trimSuffix", 2, 2, |a| {
        let (end, text) = (string_of(&a[0])?, string_of(&a[1])?);
        Ok(string(text.strip_suffix(end).unwrap_or(text)))
    }),
    ("trimPrefix", 2, 2, |a| {
        let (begin, text) = (string_of(&a[0])?, string_of(&a[1])?);
        Ok(string(text.strip_prefix(begin).unwrap_or(text)))
    }),
    ("nospace", 1, 1, |a| Ok(string(string_of(&a[0])?.split_whitespace().collect::<String>()))),
    ("initials", 1, 1, |a| {
        Ok(string(string_of(&a[0])?.split_whitespace().filter_map(|word| word.chars().next()).collect::<String>()))
    }),
    ("swapcase", 1, 1, |a| Ok(string(string_of(&a[0])?.chars().map(swapped).collect::<String>()))),
    ("snakecase", 1, 1, |a| Ok(string(joined_words(string_of(&a[0])?, '_')))),
    ("kebabcase", 1, 1, |a| Ok(string(joined_words(string_of(&a[0])?, '-')))),
    ("camelcase", 1, 1, |a| Ok(string(pascal(string_of(&a[0])?)))),
    ("wrap", 2, 2, |a| wrap(string_of(&a[1])?, index_of(&a[0])?, "\n", false)),
    ("wrapWith", 3, 3, |a| wrap(string_of(&a[2])?, index_of(&a[0])?, string_of(&a[1])?, true)),
    ("contains", 2, 2, |a| Ok(Value::Bool(string_of(&a[1])?.contains(string_of(&a[0])?)))),
    ("hasPrefix", 2, 2, |a| Ok(Value::Bool(string_of(&a[1])?.starts_with(string_of(&a[0])?)))),
    ("hasSuffix", 2, 2, |a| Ok(Value::Bool(string_of(&a[1])?.ends_with(string_of(&a[0])?)))),
    ("quote", 0, ANY, |a| each(a, quoted)),
    ("squote", 0, ANY, |a| each(a, |text| format!("'{text}'"))),
    ("cat", 0, ANY, |a| each(a, |text| text.to_string())),
    ("indent", 2, 2, |a| indented(index_of(&a[0])?, string_of(&a[1])?, "")),
    ("nindent", 2, 2, |a| indented(index_of(&a[0])?, string_of(&a[1])?, "\n")),
    ("replace", 3, 3, |a| {
        let (old, new, text) = (string_of(&a[0])?, string_of(&a[1])?, string_of(&a[2])?);
        let count = if old.is_empty() { text.chars().count() + 1 } else { text.len() / old.len() };
        room(count.checked_mul(new.len()).and_then(|n| n.checked_add(text.len())))?;
        Ok(string(text.replace(old, new)))
    }),
    ("plural", 3, 3, |a| Ok(a[usize::from(index_of(&a[2])? != 1)].clone())),
    ("toString", 1, 1, |a| Ok(string(text_of(&a[0])))),
    ("toStrings", 1, 1, |a| Ok(string_list(strings_of(&a[0])))),
    ("join", 2, 2, |a| {
        let (between, all) = (string_of(&a[0])?, strings_of(&a[1]));
        let size: usize = all.iter().map(String::len).sum();
        room(all.len().checked_mul(between.len()).and_then(|n| n.checked_add(size)))?;
        Ok(string(all.join(between)))
    }),
    ("sortAlpha", 1, 1, |a| {
        let mut all = strings_of(&a[0]);
        all.sort_unstable();
        Ok(string_list(all))
    }),
    ("splitList", 2, 2, |a| Ok(string_list(split(string_of(&a[1])?, string_of(&a[0])?, None)))),
    ("split", 2, 2, |a| Ok(numbered(split(string_of(&a[1])?, string_of(&a[0])?, None)))),
    ("splitn", 3, 3, |a| {
        let most = usize::try_from(index_of(&a[1])?).ok();
        Ok(numbered(split(string_of(&a[2])?, string_of(&a[0])?, most)))
    }),
];

/// Each argument that is not nil, in a form, with spaces between.
fn each(arguments: &[Value], form: impl Fn(&str) -> String) -> Made {
    let mut out = String::new();
    for (n, argument) in arguments.iter().filter(|argument| !matches!(argument, Value::Nil)).enumerate() {
        out += if n > 0 { " " } else { "" };
        out += &form(&text_of(argument));
        room(Some(out.len()))?;
    }
    Ok(string(out))
}

/// As Go quotes a string (`%q`).
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            c if (c as u32) < 0x20 || c == '\u{7f}' => out.push_str(&format!("\\x{:02x}", c as u32)),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The bytes of a string from one place to another, which must not lie within a character.
fn bytes(text: &str, from: i64, to: i64) -> Result<&str, String> {
    let (Ok(from), Ok(to)) = (usize::try_from(from), usize::try_from(to)) else {
        return Err(format!("there is no byte {from} to {to} in {}", shown(&string(text))));
    };
    text.get(from..to).ok_or_else(|| format!("there are no bytes {from} to {to} in {}", shown(&string(text))))
}

fn truncate(length: i64, text: &str) -> Made {
    let size = text.len() as i64;
    Ok(string(match length {
        _ if length < 0 && size + length > 0 => bytes(text, size + length, size)?,
        _ if length >= 0 && size > length => bytes(text, 0, length)?,
        _ => text,
    }))
}

fn substring(from: i64, to: i64, text: &str) -> Made {
    let size = text.len() as i64;
    Ok(string(match () {
        () if from < 0 => bytes(text, 0, to)?,
        () if to < 0 || to > size => bytes(text, from, size)?,
        () => bytes(text, from, to)?,
    }))
}

/// At most `width` characters, with an ellipsis for what is left out, before `offset` too.
fn abbreviate(text: &str, offset: i64, width: i64) -> Made {
    let all: Vec<char> = text.chars().collect();
    let size = all.len() as i64;
    if width < 4 || offset > 0 && width < 7 || size <= width {
        return Ok(string(text));
    }
    let take = |from: i64, to: i64| all[from as usize..to as usize].iter().collect::<String>();
    let offset = offset.clamp(0, size).min(size - (width - 3));
    if offset <= 4 {
        return Ok(string(take(0, width - 3) + "..."));
    }
    if offset + width - 3 < size {
        return Ok(string(format!("...{}...", take(offset, offset + width - 6))));
    }
    Ok(string(format!("...{}", take(size - (width - 3), size))))
}

fn repeated(count: i64, text: &str) -> Made {
    let count = usize::try_from(count).map_err(|_| format!("{count} is less than none"))?;
    room(count.checked_mul(text.len()))?;
    Ok(string(text.repeat(count)))
}

fn trim_all(a: &[Value]) -> Made {
    let (set, text) = (string_of(&a[0])?, string_of(&a[1])?);
    let set: HashSet<char> = set.chars().collect();
    Ok(string(text.trim_matches(|c| set.contains(&c))))
}

/// The first letter of each word in upper case.
fn titled(text: &str) -> String {
    let mut before = ' ';
    let mut out = String::new();
    for c in text.chars() {
        let begins = !(before.is_alphanumeric() || before == '_' || before == '\'');
        if begins {
            out.extend(c.to_uppercase())
        } else {
            out.push(c)
        }
        before = c;
    }
    out
}

/// The first letter of each word in lower case.
fn untitled(text: &str) -> String {
    let mut begins = true;
    let mut out = String::new();
    for c in text.chars() {
        if begins {
            out.extend(c.to_lowercase())
        } else {
            out.push(c)
        }
        begins = c.is_whitespace();
    }
    out
}

fn swapped(c: char) -> char {
    let other = if c.is_uppercase() { c.to_lowercase().next() } else { c.to_uppercase().next() };
    other.unwrap_or(c)
}

fn is_connector(c: char) -> bool {
    matches!(c, '-' | '_') || c.is_whitespace()
}

/// The words of a name, in lower case, joined: a word begins with an upper-case letter, behind a connector, or with digits
/// that a lower-case letter follows.
fn joined_words(text: &str, connector: char) -> String {
    let all: Vec<char> = text.chars().collect();
    let mut out = String::new();
    let mut began_with_digit = false;
    for (at, &c) in all.iter().enumerate() {
        if is_connector(c) {
            out.push(connector);
            continue;
        }
        let before = at.checked_sub(1).map(|at| all[at]).filter(|before| !is_connector(*before));
        let begins = match before {
            None => true,
            Some(before) if c.is_uppercase() => {
                let is_last_of_run = all.get(at + 1).is_some_and(|next| next.is_lowercase());
                !before.is_uppercase() || is_last_of_run
            }
            Some(before) if c.is_ascii_digit() && !before.is_ascii_digit() && !began_with_digit => {
                all[at..].iter().find(|c| !c.is_ascii_digit()).is_some_and(|next| next.is_lowercase())
            }
            _ => false,
        };
        if begins {
            if before.is_some() {
                out.push(connector);
            }
            began_with_digit = c.is_ascii_digit();
        }
        out.extend(c.to_lowercase());
    }
    out
}

/// The words of a name run together, each with an upper-case letter in front. Connectors at the ends stay, and of several
/// in a row all but one.
fn pascal(text: &str) -> String {
    let all: Vec<char> = text.chars().collect();
    let first = all.iter().position(|c| !is_connector(*c)).unwrap_or(all.len());
    let mut out: String = all[..first].iter().collect();
    let (mut begins, mut was_upper) = (true, false);
    for at in first..all.len() {
        let c = all[at];
        if is_connector(c) {
            // The last of several stands for the boundary between words; at the end there is none.
            let next = all.get(at + 1);
            if next.is_none_or(|next| is_connector(*next)) {
                out.push(c);
            }
            begins = true;
            continue;
        }
        if begins {
            was_upper = c.is_uppercase();
            out.extend(c.to_uppercase());
        } else if was_upper && c.is_uppercase() {
            out.extend(c.to_lowercase());
        } else {
            was_upper = false;
            out.push(c);
        }
        begins = false;
    }
    out
}

/// Lines of at most `width` characters, broken at spaces; a longer word only if `breaks_words`.
fn wrap(text: &str, width: i64, newline: &str, breaks_words: bool) -> Made {
    let width = usize::try_from(width).unwrap_or(1).max(1);
    let newline = if newline.is_empty() { "\n" } else { newline };
    let all: Vec<char> = text.chars().collect();
    room((all.len() / width + all.len() + 1).checked_mul(newline.len().max(4)))?;
    let (mut out, mut at) = (String::new(), 0);
    while all.len() - at > width {
        if all[at] == ' ' {
            at += 1;
            continue;
        }
        let space = (at..=at + width).rev().find(|n| all[*n] == ' ');
        let end = match space {
            Some(space) => space,
            None if breaks_words => at + width,
            None => match (at + width..all.len()).find(|n| all[*n] == ' ') {
                Some(space) => space,
                None => break,
            },
        };
        out.extend(&all[at..end]);
        out.push_str(newline);
        at = if all[end] == ' ' { end + 1 } else { end };
    }
    out.extend(&all[at..]);
    Ok(string(out))
}

fn indented(count: i64, text: &str, before: &str) -> Made {
    let count = usize::try_from(count).map_err(|_| format!("{count} is less than none"))?;
    room(count.checked_mul(text.lines().count() + 1).and_then(|n| n.checked_add(text.len())))?;
    let pad = " ".repeat(count);
    Ok(string(format!("{before}{pad}{}", text.replace('\n', &format!("\n{pad}")))))
}

/// The parts of a string, at most so many.
fn split<'a>(text: &'a str, at: &str, most: Option<usize>) -> Vec<&'a str> {
    if at.is_empty() {
        // Each character by itself.
        let ends: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        return ends.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
    }
    match most {
        Some(most) => text.splitn(most, at).collect(),
        None => text.split(at).collect(),
    }
}

/// Parts as a dict, with the keys `_0`, `_1` and so on.
fn numbered(parts: Vec<&str>) -> Value {
    let entries = parts.iter().enumerate().map(|(n, part)| (format!("_{n}").into(), string(part)));
    Value::Map(std::sync::Arc::new(entries.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_other_forms() {
        for (name, snake) in [
            ("FirstName", "first_name"),
            ("HTTPServer", "http_server"),
            ("GO_PATH", "go_path"),
            ("http2xx", "http_2xx"),
            ("HTTP20xOK", "http_20x_ok"),
            ("Duration2m3s", "duration_2m3s"),
            ("Bld4Floor3rd", "bld4_floor_3rd"),
        ] {
            assert_eq!(joined_words(name, '_'), snake);
        }
        assert_eq!(pascal("some_words"), "SomeWords");
        assert_eq!(pascal("GOLANG_IS_GREAT"), "GolangIsGreat");
    }
}
