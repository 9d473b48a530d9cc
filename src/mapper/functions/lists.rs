//! Lists, and what is said of any value.

use std::sync::Arc;

use gotmpl::Value;

use super::{
    account::{ANY, Made, NamedFunction, room, string},
    cast::{KIND, index_of, kind_of, list_of, string_of},
};

/// These functions.
pub(super) static FUNCTIONS: &[NamedFunction] = &[
    ("list", 0, ANY, |a| Ok(Value::List(a.into()))),
    ("tuple", 0, ANY, |a| Ok(Value::List(a.into()))),
    ("append", 2, 2, appended),
    ("mustAppend", 2, 2, appended),
    ("push", 2, 2, appended),
    ("mustPush", 2, 2, appended),
    ("prepend", 2, 2, prepended),
    ("mustPrepend", 2, 2, prepended),
    ("first", 1, 1, first),
    ("mustFirst", 1, 1, first),
    ("last", 1, 1, last),
    ("mustLast", 1, 1, last),
    ("rest", 1, 1, rest),
    ("mustRest", 1, 1, rest),
    ("initial", 1, 1, initial),
    ("mustInitial", 1, 1, initial),
    ("reverse", 1, 1, reversed),
    ("mustReverse", 1, 1, reversed),
    ("uniq", 1, 1, uniq),
    ("mustUniq", 1, 1, uniq),
    ("without", 1, ANY, without),
    ("mustWithout", 1, ANY, without),
    ("has", 2, 2, has),
    ("mustHas", 2, 2, has),
    ("slice", 1, ANY, slice),
    ("mustSlice", 1, ANY, slice),
    ("concat", 0, ANY, |a| {
        let mut all = Vec::new();
        for list in a {
            all.extend(list_of(list)?.iter().cloned());
            room(all.len().checked_mul(16))?;
        }
        Ok(Value::List(all.into()))
    }),
    ("chunk", 2, 2, chunks),
    ("mustChunk", 2, 2, chunks),
    ("compact", 1, 1, compact),
    ("mustCompact", 1, 1, compact),
    ("default", 1, 2, |a| Ok(a.get(1).filter(|given| !is_empty(given)).unwrap_or(&a[0]).clone())),
    ("empty", 1, 1, |a| Ok(Value::Bool(is_empty(&a[0])))),
    ("coalesce", 0, ANY, |a| Ok(a.iter().find(|value| !is_empty(value)).cloned().unwrap_or(Value::Nil))),
    ("all", 0, ANY, |a| Ok(Value::Bool(!a.iter().any(is_empty)))),
    ("any", 0, ANY, |a| Ok(Value::Bool(!a.iter().all(is_empty)))),
    ("ternary", 3, 3, |a| match &a[2] {
        Value::Bool(chosen) => Ok(a[usize::from(!chosen)].clone()),
        _ => Err("the last argument is neither true nor false".into()),
    }),
    ("deepCopy", 1, 1, |a| Ok(a[0].clone())),
    ("mustDeepCopy", 1, 1, |a| Ok(a[0].clone())),
    ("deepEqual", 2, 2, |a| Ok(Value::Bool(is_equal(&a[0], &a[1])))),
    ("typeOf", 1, 1, |a| Ok(string(type_of(&a[0])))),
    ("typeIs", 2, 2, |a| Ok(Value::Bool(string_of(&a[0])? == type_of(&a[1])))),
    ("typeIsLike", 2, 2, |a| Ok(Value::Bool(string_of(&a[0])?.trim_start_matches('*') == type_of(&a[1])))),
    ("kindOf", 1, 1, |a| Ok(string(kind(&a[0])))),
    ("kindIs", 2, 2, |a| Ok(Value::Bool(string_of(&a[0])? == kind(&a[1])))),
    ("fail", 1, 1, |a| Err(string_of(&a[0])?.to_string())),
];

/// Whether a value is nothing of its type.
pub(super) fn is_empty(value: &Value) -> bool {
    !value.is_truthy()
}

/// Whether both are the same, types included.
pub(super) fn is_equal(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::List(a), Value::List(b)) => a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| is_equal(a, b)),
        (Value::Map(a), Value::Map(b)) => {
            a.len() == b.len() && a.iter().zip(b.iter()).all(|((k, a), (l, b))| k == l && is_equal(a, b))
        }
        (Value::Nil, Value::Nil) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Int(a), Value::Int(b)) => a == b,
        (Value::Uint(a), Value::Uint(b)) => a == b,
        (Value::Float(a), Value::Float(b)) => a == b,
        (Value::String(a), Value::String(b)) => a == b,
        _ => false,
    }
}

/// The name of a value's type in Go (`%T`).
pub(super) fn type_of(value: &Value) -> String {
    if let Some(kind) = kind_of(value) {
        return kind.into();
    }
    match value {
        Value::Nil => "<nil>",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int",
        Value::Uint(_) => "uint8",
        Value::Float(_) => "float64",
        Value::String(_) => "string",
        Value::List(_) => "[]interface {}",
        Value::Map(_) => "map[string]interface {}",
        _ => "func",
    }
    .into()
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Nil => "invalid",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int",
        Value::Uint(_) => "uint8",
        Value::Float(_) => "float64",
        Value::String(_) => "string",
        Value::List(_) => "slice",
        Value::Map(map) if map.contains_key(KIND) => "struct",
        Value::Map(_) => "map",
        _ => "func",
    }
}

fn appended(a: &[Value]) -> Made {
    Ok(Value::List(list_of(&a[0])?.iter().chain([&a[1]]).cloned().collect()))
}

fn prepended(a: &[Value]) -> Made {
    Ok(Value::List([&a[1]].into_iter().chain(list_of(&a[0])?.iter()).cloned().collect()))
}

fn first(a: &[Value]) -> Made {
    Ok(list_of(&a[0])?.first().cloned().unwrap_or(Value::Nil))
}

fn last(a: &[Value]) -> Made {
    Ok(list_of(&a[0])?.last().cloned().unwrap_or(Value::Nil))
}

fn rest(a: &[Value]) -> Made {
    Ok(Value::List(list_of(&a[0])?.iter().skip(1).cloned().collect()))
}

fn initial(a: &[Value]) -> Made {
    let list = list_of(&a[0])?;
    Ok(Value::List(list[..list.len().saturating_sub(1)].into()))
}

fn reversed(a: &[Value]) -> Made {
    Ok(Value::List(list_of(&a[0])?.iter().rev().cloned().collect()))
}

fn uniq(a: &[Value]) -> Made {
    let mut seen: Vec<Value> = Vec::new();
    for value in list_of(&a[0])?.iter() {
        super::account::spend(seen.len() as u64)?;
        if !seen.iter().any(|known| is_equal(known, value)) {
            seen.push(value.clone());
        }
    }
    Ok(Value::List(seen.into()))
}

fn without(a: &[Value]) -> Made {
    let list = list_of(&a[0])?;
    super::account::spend((list.len() * a.len()) as u64)?;
    let is_left = |value: &&Value| !a[1..].iter().any(|gone| is_equal(gone, value));
    Ok(Value::List(list.iter().filter(is_left).cloned().collect()))
}

fn has(a: &[Value]) -> Made {
    match &a[1] {
        Value::Nil => Ok(Value::Bool(false)),
        list => Ok(Value::Bool(list_of(list)?.iter().any(|value| is_equal(value, &a[0])))),
    }
}

fn slice(a: &[Value]) -> Made {
    let list = list_of(&a[0])?;
    let index = |n: usize, or: usize| -> Result<usize, String> {
        let Some(value) = a.get(n) else { return Ok(or) };
        let at = index_of(value)?;
        usize::try_from(at).map_err(|_| format!("there is no place {at} in a list"))
    };
    let (from, to) = (index(1, 0)?, index(2, list.len())?);
    let part = list.get(from..to).ok_or_else(|| format!("a list of {} has no {from} to {to}", list.len()))?;
    Ok(Value::List(part.into()))
}

fn chunks(a: &[Value]) -> Made {
    let size = index_of(&a[0])?;
    let size = usize::try_from(size).ok().filter(|size| *size > 0).ok_or_else(|| format!("{size} is no size"))?;
    let parts = list_of(&a[1])?.chunks(size).map(|part| Value::List(part.into()));
    Ok(Value::List(parts.collect::<Arc<[Value]>>()))
}

fn compact(a: &[Value]) -> Made {
    Ok(Value::List(list_of(&a[0])?.iter().filter(|value| !is_empty(value)).cloned().collect()))
}
