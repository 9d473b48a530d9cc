//! Numbers.

use gotmpl::Value;

use super::{
    account::{ANY, Made, NamedFunction, VALUE_MAX, string},
    cast::{float_of, index_of, int_of, string_of, text_of},
    decimal::Decimal,
};

/// These functions.
pub(super) static FUNCTIONS: &[NamedFunction] = &[
    ("atoi", 1, 1, |a| Ok(Value::Int(string_of(&a[0])?.parse().unwrap_or(0)))),
    ("int", 1, 1, |a| Ok(Value::Int(int_of(&a[0])))),
    ("int64", 1, 1, |a| Ok(Value::Int(int_of(&a[0])))),
    ("float64", 1, 1, |a| Ok(Value::Float(float_of(&a[0])))),
    ("toDecimal", 1, 1, |a| Ok(Value::Int(i64::from_str_radix(&text_of(&a[0]), 8).unwrap_or(0)))),
    ("add1", 1, 1, |a| Ok(Value::Int(int_of(&a[0]).wrapping_add(1)))),
    ("add", 0, ANY, |a| Ok(Value::Int(a.iter().map(int_of).fold(0, i64::wrapping_add)))),
    ("sub", 2, 2, |a| Ok(Value::Int(int_of(&a[0]).wrapping_sub(int_of(&a[1]))))),
    ("mul", 1, ANY, |a| Ok(Value::Int(a.iter().map(int_of).fold(1, i64::wrapping_mul)))),
    ("div", 2, 2, |a| divided(int_of(&a[0]), int_of(&a[1]), i64::checked_div)),
    ("mod", 2, 2, |a| divided(int_of(&a[0]), int_of(&a[1]), i64::checked_rem)),
    ("add1f", 1, 1, |a| calculated(&[a[0].clone(), Value::Int(1)], Decimal::plus)),
    ("addf", 1, ANY, |a| calculated(a, Decimal::plus)),
    ("subf", 1, ANY, |a| calculated(a, Decimal::minus)),
    ("mulf", 1, ANY, |a| calculated(a, Decimal::times)),
    ("divf", 1, ANY, |a| calculated(a, Decimal::divided_by)),
    ("biggest", 1, ANY, |a| Ok(Value::Int(a.iter().map(int_of).fold(i64::MIN, i64::max)))),
    ("max", 1, ANY, |a| Ok(Value::Int(a.iter().map(int_of).fold(i64::MIN, i64::max)))),
    ("min", 1, ANY, |a| Ok(Value::Int(a.iter().map(int_of).fold(i64::MAX, i64::min)))),
    ("maxf", 1, ANY, |a| Ok(Value::Float(a.iter().map(float_of).fold(f64::NEG_INFINITY, f64::max)))),
    ("minf", 1, ANY, |a| Ok(Value::Float(a.iter().map(float_of).fold(f64::INFINITY, f64::min)))),
    ("ceil", 1, 1, |a| Ok(Value::Float(float_of(&a[0]).ceil()))),
    ("floor", 1, 1, |a| Ok(Value::Float(float_of(&a[0]).floor()))),
    ("round", 2, 3, round),
    ("until", 1, 1, |a| {
        let to = index_of(&a[0])?;
        steps(0, to, if to < 0 { -1 } else { 1 }).map(list)
    }),
    ("untilStep", 3, 3, |a| steps(index_of(&a[0])?, index_of(&a[1])?, index_of(&a[2])?).map(list)),
    ("seq", 0, 3, sequence),
];

fn divided(one: i64, other: i64, by: fn(i64, i64) -> Option<i64>) -> Made {
    match other {
        0 => Err("division by zero".into()),
        _ => Ok(Value::Int(by(one, other).unwrap_or(0))),
    }
}

/// From left to right, in decimal, as people count: 0.1 and 0.2 are 0.3.
fn calculated(a: &[Value], by: fn(Decimal, Decimal) -> Result<Decimal, String>) -> Made {
    let mut all = a.iter().map(|value| Decimal::of(float_of(value)));
    let first = all.next().unwrap_or(Decimal::of(0.0));
    let result = all.try_fold(first, by)?;
    Ok(Value::Float(result.to_float()))
}

/// To so many places; from 0.5 on, or another part that is given, up.
fn round(a: &[Value]) -> Made {
    let from = a.get(2).map_or(0.5, float_of);
    let power = 10f64.powi(int_of(&a[1]).clamp(-300, 300) as i32);
    let shifted = float_of(&a[0]) * power;
    let rounded = if shifted.fract() >= from { shifted.ceil() } else { shifted.floor() };
    Ok(Value::Float(rounded / power))
}

/// The numbers from one to before another.
fn steps(from: i64, to: i64, step: i64) -> Result<Vec<i64>, String> {
    let is_empty = step == 0 || (step > 0) != (to > from) || from == to;
    if is_empty {
        return Ok(Vec::new());
    }
    let count = to.abs_diff(from).div_ceil(step.unsigned_abs());
    if count > VALUE_MAX as u64 / 16 {
        return Err(format!("a list has {count} numbers"));
    }
    Ok((0..count as i64).map(|n| from + n * step).collect())
}

fn list(numbers: Vec<i64>) -> Value {
    Value::List(numbers.into_iter().map(Value::Int).collect())
}

/// As seq(1) prints it, with spaces.
fn sequence(a: &[Value]) -> Made {
    let all: Vec<i64> = a.iter().map(index_of).collect::<Result<_, _>>()?;
    let towards = |from: i64, to: i64| if to < from { -1 } else { 1 };
    let numbers = match all[..] {
        [to] => steps(1, to.saturating_add(towards(1, to)), towards(1, to))?,
        [from, to] => steps(from, to.saturating_add(towards(from, to)), towards(from, to))?,
        [from, step, to] if to < from && step > 0 => steps(from, from, step)?,
        [from, step, to] => steps(from, to.saturating_add(towards(from, to)), step)?,
        _ => Vec::new(),
    };
    Ok(string(numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")))
}
