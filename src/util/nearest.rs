//! What was meant by a word that is misspelt.

/// Of some words the nearest to `word`, if one is near enough to be what was meant.
pub fn nearest<'a>(word: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let most = (word.chars().count() / 3).clamp(1, 3);
    let near = words.into_iter().map(|other| (strsim::damerau_levenshtein(word, other), other));
    near.filter(|(distance, _)| *distance <= most).min_by_key(|(distance, _)| *distance).map(|(_, other)| other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word() {
        let words = ["archive", "serialize", "deserialize", "verify", "list"];
        for (word, near) in [
            ("archve", Some("archive")),
            ("arhcive", Some("archive")),
            ("serialise", Some("serialize")),
            ("lst", Some("list")),
            ("frob", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, words), near, "{word}");
        }
    }
}
