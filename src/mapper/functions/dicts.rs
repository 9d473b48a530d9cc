//! Dicts: maps with strings as keys. They are values: what changes one makes another, and the pass over a template (see
//! [`super::super::template`]) puts that into the variable that was named.

use std::{collections::BTreeMap, sync::Arc};

use gotmpl::Value;

use super::{
    account::{ANY, Made, NamedFunction, string},
    cast::{map_of, string_of, text_of},
    lists::is_empty,
};

type Dict = BTreeMap<Arc<str>, Value>;

/// These functions.
pub(super) static FUNCTIONS: &[NamedFunction] = &[
    ("dict", 0, ANY, |a| {
        let pairs = a.chunks(2).map(|pair| (key_of(&pair[0]), pair.get(1).cloned().unwrap_or(string(""))));
        Ok(dict(pairs.collect()))
    }),
    ("get", 2, 2, |a| Ok(map_of(&a[0])?.get(string_of(&a[1])?).cloned().unwrap_or(string("")))),
    ("set", 3, 3, |a| {
        let mut map = map_of(&a[0])?.clone();
        map.insert(key_of(&string(string_of(&a[1])?)), a[2].clone());
        Ok(dict(map))
    }),
    ("unset", 2, 2, |a| {
        let mut map = map_of(&a[0])?.clone();
        map.remove(string_of(&a[1])?);
        Ok(dict(map))
    }),
    ("hasKey", 2, 2, |a| Ok(Value::Bool(map_of(&a[0])?.contains_key(string_of(&a[1])?)))),
    ("pluck", 1, ANY, |a| {
        let key = string_of(&a[0])?;
        let maps = a[1..].iter().map(map_of).collect::<Result<Vec<_>, _>>()?;
        Ok(Value::List(maps.iter().filter_map(|map| map.get(key)).cloned().collect()))
    }),
    ("keys", 0, ANY, |a| {
        let maps = a.iter().map(map_of).collect::<Result<Vec<_>, _>>()?;
        Ok(Value::List(maps.iter().flat_map(|map| map.keys()).map(string).collect()))
    }),
    ("values", 1, 1, |a| Ok(Value::List(map_of(&a[0])?.values().cloned().collect()))),
    ("pick", 1, ANY, |a| chosen(a, true)),
    ("omit", 1, ANY, |a| chosen(a, false)),
    ("merge", 1, ANY, |a| merged(a, false)),
    ("mustMerge", 1, ANY, |a| merged(a, false)),
    ("mergeOverwrite", 1, ANY, |a| merged(a, true)),
    ("mustMergeOverwrite", 1, ANY, |a| merged(a, true)),
    ("dig", 3, ANY, |a| {
        let (keys, fallback) = (&a[..a.len() - 2], &a[a.len() - 2]);
        let mut at = a[a.len() - 1].clone();
        for key in keys {
            let next = map_of(&at)?.get(string_of(key)?).cloned();
            at = match next {
                Some(next) => next,
                None => return Ok(fallback.clone()),
            };
        }
        Ok(at)
    }),
];

fn dict(map: Dict) -> Value {
    Value::Map(Arc::new(map))
}

/// A key: any value, printed. A key that begins with NUL is none that a template can write.
fn key_of(value: &Value) -> Arc<str> {
    text_of(value).trim_start_matches('\0').into()
}

fn chosen(a: &[Value], keeps: bool) -> Made {
    let keys = a[1..].iter().map(string_of).collect::<Result<Vec<_>, _>>()?;
    let mut map = map_of(&a[0])?.clone();
    super::account::spend((map.len() * keys.len()) as u64)?;
    map.retain(|key, _| keys.contains(&&**key) == keeps);
    Ok(dict(map))
}

/// All dicts in one: of two values the first counts, or the last that is not empty; dicts within are merged likewise.
fn merged(a: &[Value], overwrites: bool) -> Made {
    let mut all = map_of(&a[0])?.clone();
    for other in &a[1..] {
        merge(&mut all, map_of(other)?, overwrites)?;
    }
    Ok(dict(all))
}

fn merge(into: &mut Dict, from: &Dict, overwrites: bool) -> Result<(), String> {
    super::account::spend(from.len() as u64)?;
    for (key, value) in from {
        let merged = match (into.get(key), value) {
            (Some(Value::Map(known)), Value::Map(other)) => {
                let mut known = (**known).clone();
                merge(&mut known, other, overwrites)?;
                dict(known)
            }
            (Some(known), _) if !overwrites && !is_empty(known) => continue,
            (None, Value::Nil) if !overwrites => continue,
            _ => value.clone(),
        };
        into.insert(key.clone(), merged);
    }
    Ok(())
}
