//! Label selectors, as Kubernetes writes them ("Labels and Selectors" in its documentation).

use std::collections::BTreeMap;

/// A selector: all of its requirements must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: LabelTest,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum LabelTest {
    Exists,
    Lacks,
    In(Vec<String>),
    NotIn(Vec<String>),
    Above(i64),
    Below(i64),
}

/// Whether one of the selectors holds, or there is none.
pub fn selects(selectors: &[Selector], labels: &BTreeMap<String, String>) -> bool {
    selectors.is_empty() || selectors.iter().any(|selector| selector.holds(labels))
}

impl Selector {
    /// Reads `env=prod,tier in (a,b),!x`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Selector, String> {
        let parts = split(text)?;
        let all = parts.iter().map(|part| requirement(part).map_err(|why| format!("{text:?} is no selector: {why}")));
        all.collect::<Result<Vec<_>, _>>().map(Selector)
    }

    /// Whether it holds for something with these labels.
    pub fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|requirement| {
            let value = labels.get(&requirement.key);
            let number = || value.and_then(|value| value.parse::<i64>().ok());
            match &requirement.test {
                LabelTest::Exists => value.is_some(),
                LabelTest::Lacks => value.is_none(),
                LabelTest::In(values) => value.is_some_and(|value| values.contains(value)),
                LabelTest::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
                LabelTest::Above(least) => number().is_some_and(|number| number > *least),
                LabelTest::Below(most) => number().is_some_and(|number| number < *most),
            }
        })
    }
}

/// The list of a flag: fields as CSV, but a comma within parentheses does not split.
///
/// # Errors
/// What is wrong with the quotes or parentheses.
pub fn parse_list(text: &str) -> Result<Vec<Selector>, String> {
    // A quoted field is one selector, whatever is in it.
    let (mut fields, mut field, mut depth, mut is_quoted) = (Vec::new(), String::new(), 0usize, false);
    let mut was_quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if is_quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' if is_quoted => (is_quoted, was_quoted) = (false, true),
            '"' if field.trim().is_empty() => {
                is_quoted = true;
                field.clear();
            }
            '"' => return Err(format!("a bare quote in {text:?}")),
            ',' if !is_quoted && depth == 0 => {
                fields.push(std::mem::take(&mut field));
                was_quoted = false;
            }
            _ if was_quoted && !is_quoted && !c.is_whitespace() => {
                return Err(format!("{c:?} after a closing quote in {text:?}"));
            }
            _ => {
                match c {
                    '(' => depth += 1,
                    ')' => depth = depth.saturating_sub(1),
                    _ => {}
                }
                field.push(c);
            }
        }
    }
    if is_quoted {
        return Err(format!("a quote in {text:?} is never closed"));
    }
    fields.push(field);
    fields.iter().map(|field| Selector::parse(field)).collect()
}

/// The requirements of a selector: what commas outside of parentheses separate.
fn split(text: &str) -> Result<Vec<String>, String> {
    let (mut parts, mut depth, mut from) = (Vec::new(), 0i32, 0);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(text[from..at].trim().to_string());
                from = at + 1;
            }
            _ => {}
        }
        if !(0..=1).contains(&depth) {
            return Err(format!("{text:?} is no selector: its parentheses do not match"));
        }
    }
    if depth != 0 {
        return Err(format!("{text:?} is no selector: a parenthesis is never closed"));
    }
    parts.push(text[from..].trim().to_string());
    Ok(parts)
}

fn requirement(text: &str) -> Result<Requirement, String> {
    if let Some(key) = text.strip_prefix('!') {
        return Ok(Requirement { key: key_of(key)?, test: LabelTest::Lacks });
    }
    // `!=` and `==` before `=`.
    for (operator, negated) in [("!=", true), ("==", false), ("=", false)] {
        if let Some((key, value)) = text.split_once(operator) {
            let values = vec![value_of(value)?];
            let test = if negated { LabelTest::NotIn(values) } else { LabelTest::In(values) };
            return Ok(Requirement { key: key_of(key)?, test });
        }
    }
    for (operator, above) in [(">", true), ("<", false)] {
        if let Some((key, value)) = text.split_once(operator) {
            let number = value.trim().parse().map_err(|_| format!("{value:?} is no whole number"))?;
            let test = if above { LabelTest::Above(number) } else { LabelTest::Below(number) };
            return Ok(Requirement { key: key_of(key)?, test });
        }
    }
    if let Some((left, values)) = text.split_once('(') {
        let values = values.trim().strip_suffix(')').ok_or("a parenthesis is never closed")?;
        let mut words = left.split_whitespace();
        let (Some(key), Some(operator), None) = (words.next(), words.next(), words.next()) else {
            return Err(format!("{text:?} is not KEY in (…) nor KEY notin (…)"));
        };
        let values = values.split(',').map(value_of).collect::<Result<Vec<_>, _>>()?;
        let test = match operator {
            "in" => LabelTest::In(values),
            "notin" => LabelTest::NotIn(values),
            other => return Err(format!("{other:?} is neither in nor notin")),
        };
        return Ok(Requirement { key: key_of(key)?, test });
    }
    Ok(Requirement { key: key_of(text)?, test: LabelTest::Exists })
}

fn key_of(key: &str) -> Result<String, String> {
    let key = key.trim();
    match crate::oci::label::is_key(key) {
        true => Ok(key.into()),
        false => Err(format!("{key:?} is not a label key (letters, digits, - _ . and an optional DNS prefix/)")),
    }
}

fn value_of(value: &str) -> Result<String, String> {
    let value = value.trim();
    match crate::oci::label::is_value(value) {
        true => Ok(value.into()),
        false => Err(format!("{value:?} is not a label value (at most 63 letters, digits, - _ .)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> BTreeMap<String, String> {
        let pairs = text.split_whitespace().filter_map(|pair| pair.split_once('='));
        pairs.map(|(key, value)| (key.into(), value.into())).collect()
    }

    #[test]
    fn what_holds() {
        for (selector, with, holds) in [
            ("env=prod", "env=prod", true),
            ("env==prod", "env=dev", false),
            ("env!=prod", "", true),
            ("env!=prod", "env=prod", false),
            ("env in (prod, dev)", "env=dev", true),
            ("env notin (prod,dev)", "", true),
            ("env", "env=", true),
            ("!env", "env=x", false),
            ("!env", "", true),
            ("tier>2", "tier=10", true),
            ("tier<2", "tier=x", false),
            ("env=prod,tier>2", "env=prod tier=2", false),
            ("env=prod,tier in (1,2)", "env=prod tier=2", true),
            ("env=", "env=", true),
        ] {
            assert_eq!(Selector::parse(selector).unwrap().holds(&labels(with)), holds, "{selector} on {with:?}");
        }
    }

    #[test]
    fn lists_are_alternatives() {
        assert_eq!(parse_list("a=b,c=d").unwrap().len(), 2);
        assert_eq!(parse_list("\"a=b,c=d\"").unwrap().len(), 1);
        assert_eq!(parse_list("env in (a,b),c=d").unwrap().len(), 2);
        assert_eq!(parse_list(" \"env in (a,b)\" , x").unwrap().len(), 2);
        assert!(selects(&parse_list("a=b,c=d").unwrap(), &labels("c=d")));
        assert!(selects(&[], &labels("")));
    }

    #[test]
    fn refusals() {
        for bad in [
            "",
            "env=(",
            "env in prod",
            "env in (a",
            "env > x",
            "env within (a)",
            "-k=v",
            "k=a b",
            "a=b,",
            "\"a",
            "tier>x",
            "env,(",
        ] {
            assert!(parse_list(bad).is_err(), "{bad}");
        }
    }
}
