//! The sources file: which images to gather, one a line, with labels.

use std::{collections::BTreeMap, path::Path};

use crate::{
    error::{Context, Error, Result},
    fd,
    oci::label,
    store::Locator,
    util::csv,
};

/// One line of a sources file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatherSource {
    /// The reference as written; it stands so in every annotation and message.
    pub written: String,
    /// Where the image is.
    pub locator: Locator,
    /// In Kubernetes' syntax.
    pub labels: BTreeMap<String, String>,
}

/// Reads a sources file; `-` is standard input.
///
/// # Errors
/// Names file and line of everything that is wrong with it, not of the first only.
pub fn read(path: &Path) -> Result<Vec<GatherSource>> {
    let doing = || format!("reading the sources file {path:?}");
    let bytes = match path == Path::new("-") {
        true => fd::stdin().and_then(fd::read_to_end).doing(|| "reading the sources from standard input")?,
        false => fd::read_file(path).doing(doing)?,
    };
    let text = String::from_utf8(bytes).map_err(|_| Error::usage("it is not UTF-8").doing(doing()))?;
    parse(&text).map_err(|why| Error::usage(why).doing(doing()))
}

/// The sources in the text of a file.
///
/// # Errors
/// Every line that is wrong, with its number.
pub(crate) fn parse(text: &str) -> std::result::Result<Vec<GatherSource>, String> {
    let (mut sources, mut wrong) = (Vec::new(), Vec::new());
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match source(line) {
            Ok(source) => sources.push(source),
            Err(why) => wrong.push(format!("line {}: {why}", number + 1)),
        }
    }
    if wrong.is_empty() { Ok(sources) } else { Err(wrong.join("; ")) }
}

fn source(line: &str) -> std::result::Result<GatherSource, String> {
    let fields = csv::fields(line)?;
    let (written, rest) = fields.split_first().expect("a record has at least one field");
    let mut labels = BTreeMap::new();
    for field in rest.iter().filter(|f| !f.is_empty()) {
        let (key, value) = field.split_once('=').ok_or_else(|| format!("{field:?} is not a label key=value"))?;
        check_label(key, value)?;
        if labels.insert(key.to_string(), value.to_string()).is_some() {
            return Err(format!("label {key:?} is given twice"));
        }
    }
    Ok(GatherSource { locator: written.parse()?, written: written.clone(), labels })
}

fn check_label(key: &str, value: &str) -> std::result::Result<(), String> {
    match (label::is_key(key), label::is_value(value)) {
        (false, _) => Err(format!("{key:?} is not a label key (letters, digits, - _ . and an optional DNS prefix/)")),
        (_, false) => Err(format!("{value:?} is not a value for label {key:?} (at most 63 letters, digits, - _ .)")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_labels_and_comments() {
        let text = "# a comment\n\n reg.io/a:1 , kind=chart,\"example.com/team=ops\"\r\nreg.io/b\n";
        let sources = parse(text).unwrap();
        assert_eq!(sources.len(), 2);
        assert_eq!(sources[0].written, "reg.io/a:1");
        assert_eq!(
            sources[0].labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>(),
            ["example.com/team=ops", "kind=chart"]
        );
        assert!(sources[1].labels.is_empty());
    }

    #[test]
    fn every_bad_line_is_named() {
        let why = parse("reg.io/a,x\nalpine\nreg.io/b,-k=v\nreg.io/c,k=a b\nreg.io/d,k=1,k=2").unwrap_err();
        for n in 1..=5 {
            assert!(why.contains(&format!("line {n}: ")), "{why}");
        }
    }
}
