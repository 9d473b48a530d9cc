//! What the template language itself has, where it must know more of values than `gotmpl` does: printing and indexing.

use gotmpl::{Template, Value};

use super::{
    account::{ANY, Made, NamedFunction, room, string},
    cast::{index_of, kind_of, shown, string_of, text_of},
    lists::type_of,
};

/// These functions.
pub(super) static FUNCTIONS: &[NamedFunction] = &[
    ("print", 0, ANY, |a| printed(a).map(string)),
    ("println", 0, ANY, |a| {
        let mut out = String::new();
        for (n, value) in a.iter().enumerate() {
            out += if n > 0 { " " } else { "" };
            out += &text_of(value);
            room(Some(out.len()))?;
        }
        Ok(string(out + "\n"))
    }),
    ("html", 0, ANY, |a| Ok(string(gotmpl::html_escape(&printed(a)?)))),
    ("js", 0, ANY, |a| Ok(string(gotmpl::js_escape(&printed(a)?)))),
    ("urlquery", 0, ANY, |a| Ok(string(gotmpl::url_encode(&printed(a)?)))),
    ("printf", 1, ANY, |a| formatted(string_of(&a[0])?, &a[1..])),
    ("index", 1, ANY, |a| a[1..].iter().try_fold(a[0].clone(), |value, at| indexed(&value, at))),
];

/// As Go's `fmt.Sprint`: a space between two of which none is a string.
fn printed(a: &[Value]) -> Result<String, String> {
    let mut out = String::new();
    for (n, value) in a.iter().enumerate() {
        let is_text = |value: &Value| matches!(value, Value::String(_));
        if n > 0 && !is_text(value) && !is_text(&a[n - 1]) {
            out.push(' ');
        }
        out += &text_of(value);
        room(Some(out.len()))?;
    }
    Ok(out)
}

/// As Go's `fmt.Sprintf`: `gotmpl` has it, but for types (`%T`), bytes as text, and what is more than a map.
fn formatted(format: &str, a: &[Value]) -> Made {
    let mut arguments = a.to_vec();
    let (mut plain, mut next, mut rest) = (String::new(), 0, format);
    while let Some(at) = rest.find('%') {
        let (before, verb) = rest.split_at(at);
        plain += before;
        let flags = verb[1..].find(|c: char| !"+-# 0123456789.*[]".contains(c)).map_or(verb.len(), |n| n + 1);
        let letter = verb[flags..].chars().next();
        rest = &verb[(flags + letter.map_or(0, char::len_utf8)).min(verb.len())..];
        // Arguments that are numbered, or say how wide others are, are left to it.
        let is_plain = !verb[..flags].contains(['*', '[']);
        match letter {
            Some('%') => {}
            Some('T') if is_plain && next < a.len() => {
                arguments[next] = string(type_of(&a[next]));
                plain += &verb[..flags];
                plain.push('s');
                next += 1;
                continue;
            }
            Some(letter) if is_plain && next < a.len() => {
                arguments[next] = plainly(&a[next], letter);
                // What is text now is printed as such.
                if matches!(arguments[next], Value::String(_)) && letter == 'd' && !matches!(a[next], Value::String(_))
                {
                    plain += &verb[..flags];
                    plain.push('s');
                    next += 1;
                    continue;
                }
                next += 1;
            }
            _ => {}
        }
        plain += &verb[..verb.len() - rest.len()];
    }
    plain += rest;
    let names: Vec<String> = (0..arguments.len()).map(|n| format!("a{n}")).collect();
    let text =
        format!("{{{{ printf .f {} }}}}", names.iter().map(|name| format!(".{name}")).collect::<Vec<_>>().join(" "));
    let entries = names.iter().map(|name| name.as_str().into()).zip(arguments).chain([("f".into(), string(plain))]);
    let data = Value::Map(std::sync::Arc::new(entries.collect()));
    let printed = Template::new("").parse(&text).and_then(|template| template.execute_to_string(&data));
    printed.map(string).map_err(|e| e.to_string())
}

/// A value as `gotmpl` prints it right.
fn plainly(value: &Value, letter: char) -> Value {
    match value {
        Value::List(list) if matches!(letter, 's' | 'q' | 'x') && list.iter().all(|b| matches!(b, Value::Uint(_))) => {
            let bytes: Vec<u8> = list.iter().map(|b| b.as_int().unwrap_or(0) as u8).collect();
            string(String::from_utf8_lossy(&bytes))
        }
        Value::Float(_) if letter == 'v' => string(text_of(value)),
        Value::List(_) | Value::Map(_) if matches!(letter, 's' | 'v' | 'd') => string(text_of(value)),
        value => value.clone(),
    }
}

/// What stands at a place. In a map of strings, nothing is an empty string.
fn indexed(value: &Value, at: &Value) -> Made {
    match value {
        Value::Map(map) if kind_of(value).is_none() => {
            let missing = || match map.values().all(|part| matches!(part, Value::String(_))) {
                true => string(""),
                false => Value::Nil,
            };
            Ok(map.get(string_of(at)?).cloned().unwrap_or_else(missing))
        }
        Value::List(list) => {
            let found = usize::try_from(index_of(at)?).ok().and_then(|at| list.get(at));
            found.cloned().ok_or_else(|| format!("there is no place {} in a list of {}", text_of(at), list.len()))
        }
        Value::String(text) => {
            let found = usize::try_from(index_of(at)?).ok().and_then(|at| text.as_bytes().get(at));
            found.map(|byte| Value::Uint((*byte).into())).ok_or_else(|| format!("there is no byte {}", text_of(at)))
        }
        other => Err(format!("{} has no places", shown(other))),
    }
}
