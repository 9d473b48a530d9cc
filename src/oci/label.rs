//! Labels, as Kubernetes has them ("Labels and Selectors" in its documentation).

/// Whether a key is one: `[prefix/]name`, the name of at most 63 letters, digits, `-`, `_` and `.`, with a letter or digit
/// at either end, the prefix a DNS name of at most 253.
pub fn is_key(key: &str) -> bool {
    let is_dns = |s: &str| s.len() <= 253 && s.split('.').all(|part| is_word(part) && !part.contains('_'));
    match key.split_once('/') {
        Some((prefix, name)) => is_dns(prefix) && is_word(name),
        None => is_word(key),
    }
}

/// Whether a value is one: empty, or as the name of a key.
pub fn is_value(value: &str) -> bool {
    value.is_empty() || is_word(value)
}

fn is_word(word: &str) -> bool {
    let is_edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    word.len() <= 63
        && is_edge(word.chars().next())
        && is_edge(word.chars().last())
        && word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}
