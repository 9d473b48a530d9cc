//! The functions of templates: those of sprig 3.3 (`HermeticTxtFuncMap`) that depend on neither time nor chance, and four
//! that take a reference apart. What each does is known from sprig's documentation and from `tests/golden/high`.
//!
//! A function sees values and makes one. What all of them make in one run of a template is bounded (see [`account()`]).

mod account;
mod cast;
mod crypto;
mod decimal;
mod dicts;
mod encoding;
mod lists;
mod numbers;
mod paths;
mod printing;
mod references;
mod regexes;
mod strings;
mod times;
mod versions;

use std::sync::Arc;

use gotmpl::{FuncMap, TemplateError, Value, ValueFunc};

use account::{ANY, NamedFunction};
pub(super) use account::{account, begin, check_time};
pub(super) use cast::{KIND, kind_of, text_of};
pub(super) use times::{TIME, method as time_method};
pub(super) use versions::{VERSION, field as version_field};

fn tables() -> impl Iterator<Item = &'static NamedFunction> {
    [
        strings::FUNCTIONS,
        numbers::FUNCTIONS,
        lists::FUNCTIONS,
        dicts::FUNCTIONS,
        encoding::FUNCTIONS,
        crypto::FUNCTIONS,
        paths::FUNCTIONS,
        regexes::FUNCTIONS,
        times::FUNCTIONS,
        versions::FUNCTIONS,
        references::FUNCTIONS,
        printing::FUNCTIONS,
    ]
    .into_iter()
    .flatten()
}

/// All functions, by name.
pub(super) fn all() -> FuncMap {
    let checked = |&(name, least, most, function): &'static NamedFunction| -> (String, ValueFunc) {
        let call = move |arguments: &[Value]| {
            let made = match arguments.len() {
                _ if check_time().is_err() => check_time().map(|()| Value::Nil),
                n if n < least || n > most => Err(format!("it takes {}, and got {n}", in_words(least, most))),
                _ => function(arguments),
            };
            let made = made.and_then(|made| account(&made).map(|()| made));
            made.map_err(|why| TemplateError::Exec(format!("{name}: {why}")))
        };
        (name.to_string(), Arc::new(call))
    };
    tables().map(checked).collect()
}

/// A number of arguments.
fn in_words(least: usize, most: usize) -> String {
    match (least, most) {
        (1, 1) => "one argument".into(),
        _ if least == most => format!("{least} arguments"),
        (_, ANY) => format!("at least {least} arguments"),
        _ => format!("{least} to {most} arguments"),
    }
}

/// Functions that the template language itself has, but for those that are here, too.
const BUILT_IN: [&str; 11] = ["and", "call", "eq", "ge", "gt", "le", "len", "lt", "ne", "not", "or"];

/// Whether the template language itself has it.
pub(super) fn is_built_in(name: &str) -> bool {
    BUILT_IN.contains(&name)
}

/// Whether there is such a function.
pub(super) fn is_known(name: &str) -> bool {
    BUILT_IN.contains(&name) || tables().any(|function| function.0 == name)
}

/// Functions of sprig that are not here.
const LEFT_OUT: [&str; 31] = [
    "ago",
    "bcrypt",
    "buildCustomCert",
    "date",
    "dateInZone",
    "dateModify",
    "date_in_zone",
    "date_modify",
    "encryptAES",
    "env",
    "expandenv",
    "genCA",
    "genCAWithKey",
    "genPrivateKey",
    "genSelfSignedCert",
    "genSelfSignedCertWithKey",
    "genSignedCert",
    "genSignedCertWithKey",
    "getHostByName",
    "htmlDate",
    "htmlDateInZone",
    "htpasswd",
    "now",
    "randAlpha",
    "randAlphaNum",
    "randAscii",
    "randBytes",
    "randInt",
    "randNumeric",
    "shuffle",
    "uuidv4",
];

/// What is told of a function that is not there: the nearest one that is.
pub(super) fn unknown(name: &str) -> String {
    if LEFT_OUT.contains(&name) {
        return format!("function {name:?} is left out: what it makes depends on time, chance or the host");
    }
    let names = tables().map(|function| function.0).chain(BUILT_IN);
    let nearest = names.map(|other| (distance(name, other), other)).min();
    match nearest {
        Some((distance, other)) if distance <= name.len().div_ceil(3) => {
            format!("function {name:?} is not defined; the nearest is {other:?}")
        }
        _ => format!("function {name:?} is not defined"),
    }
}

/// How many letters must be changed, added or left out to make one word of the other.
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) =
        (one.to_lowercase().chars().collect(), other.to_lowercase().chars().collect());
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let changed = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_function_stands_once() {
        let mut names: Vec<&str> = tables().map(|function| function.0).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(count > 180, "{count}");
    }

    #[test]
    fn the_nearest_name() {
        assert!(unknown("trimPrefx").contains("\"trimPrefix\""));
        assert!(unknown("Trimprefix").contains("\"trimPrefix\""));
        assert!(!unknown("zzzzzzzzzz").contains("nearest"));
    }
}
