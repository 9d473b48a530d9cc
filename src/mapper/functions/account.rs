//! What a function is, and what all of them together may make in one run of a template.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use gotmpl::Value;

/// A function of templates.
pub(super) type TemplateFunction = fn(&[Value]) -> Made;
/// What it makes, or why not.
pub(super) type Made = Result<Value, String>;
/// A name, least and most arguments, and the function.
pub(super) type NamedFunction = (&'static str, usize, usize, TemplateFunction);

/// Any number of arguments.
pub(super) const ANY: usize = usize::MAX;

/// Bytes of one value, its parts counted, and how deep they are nested.
pub(super) const VALUE_MAX: usize = 64 << 10;
const DEPTH_MAX: usize = 100;
/// What functions and pipelines make in one run, in bytes of memory.
const MADE_MAX: u64 = 64 << 20;

/// Memory of a string, of a part of a list or map, and of a map, beside what is in it.
const TEXT_COST: usize = 32;
const PART_COST: usize = 24;
const MAP_COST: usize = 500;
/// How long one run may take.
const TIME_MAX: Duration = Duration::from_secs(1);

thread_local! {
    /// When the run must be over.
    static END: Cell<Option<Instant>> = const { Cell::new(None) };
    /// What may still be made in this run.
    static LEFT: Cell<u64> = const { Cell::new(MADE_MAX) };
}

/// A run begins.
pub(in crate::mapper) fn begin() {
    LEFT.set(MADE_MAX);
    END.set(Some(Instant::now() + TIME_MAX));
}

/// Whether the run may go on.
///
/// # Errors
/// If it takes too long.
pub(in crate::mapper) fn check_time() -> Result<(), String> {
    match END.get().is_some_and(|end| Instant::now() > end) {
        true => Err(format!("it takes longer than {} s", TIME_MAX.as_secs())),
        false => Ok(()),
    }
}

/// Takes so much from what may still be made.
///
/// # Errors
/// If so much is not left.
pub(super) fn spend(bytes: u64) -> Result<(), String> {
    let left = LEFT.get();
    LEFT.set(left.saturating_sub(bytes));
    if left < bytes { Err("it makes too much".into()) } else { Ok(()) }
}

/// Accounts for a value that was made.
///
/// # Errors
/// If it is too large, or the run has made too much.
pub(in crate::mapper) fn account(value: &Value) -> Result<(), String> {
    let size = size_of(value, 0)?;
    spend(size as u64)
}

/// Bytes of a value.
fn size_of(value: &Value, depth: usize) -> Result<usize, String> {
    if depth > DEPTH_MAX {
        return Err(format!("a value is nested more than {DEPTH_MAX} deep"));
    }
    let mut size = 0;
    let add = |size: &mut usize, more: usize| {
        *size += more;
        if *size > VALUE_MAX { Err(format!("a value has more than {VALUE_MAX} bytes")) } else { Ok(()) }
    };
    match value {
        Value::String(text) => add(&mut size, TEXT_COST + text.len())?,
        Value::List(list) => {
            for part in list.iter() {
                add(&mut size, PART_COST + size_of(part, depth + 1)?)?;
            }
        }
        Value::Map(map) => {
            add(&mut size, if map.is_empty() { 0 } else { MAP_COST })?;
            for (key, part) in map.iter() {
                add(&mut size, PART_COST + TEXT_COST + key.len() + size_of(part, depth + 1)?)?;
            }
        }
        _ => {}
    }
    Ok(size)
}

/// Whether so many bytes may be made at once.
///
/// # Errors
/// If they may not.
pub(super) fn room(bytes: Option<usize>) -> Result<(), String> {
    match bytes {
        Some(bytes) if bytes <= VALUE_MAX => Ok(()),
        _ => Err(format!("a value has more than {VALUE_MAX} bytes")),
    }
}

/// Text.
pub(super) fn string(text: impl AsRef<str>) -> Value {
    Value::String(text.as_ref().into())
}
