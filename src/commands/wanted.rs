//! `--wanted`: a list of what must be sent again, which `mirror archive` takes as it is.

use std::{collections::HashSet, path::Path};

use super::report::ResultFile;
use crate::{
    error::Result,
    oci::{Digest, Reference},
    util::csv,
};

/// The first line of such a list.
const HEADER: &str = "# What must be sent again: ace-dt mirror archive takes this list.\n";

/// A list that is to be written at the end of a run.
pub struct WantedFile(ResultFile);

/// Something that must be sent again.
pub struct WantedSource<'a> {
    /// The name of its source, if that is known.
    pub source: Option<&'a str>,
    /// What of it.
    pub digest: &'a Digest,
    /// Its labels, a JSON object.
    pub labels: Option<&'a str>,
}

impl WantedFile {
    /// As [`ResultFile::open`].
    ///
    /// # Errors
    /// As that.
    pub fn open(path: &Path) -> Result<WantedFile> {
        ResultFile::open(path, "the list", |bytes| bytes.starts_with(HEADER.as_bytes())).map(WantedFile)
    }

    /// Writes the list, each line once.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write<'a>(self, wanted: impl Iterator<Item = WantedSource<'a>>) -> Result<()> {
        let mut met = HashSet::new();
        let lines: Vec<String> = wanted.map(|source| line(&source)).filter(|line| met.insert(line.clone())).collect();
        self.0.write("the list", format!("{HEADER}{}", lines.concat()).as_bytes())
    }
}

fn line(WantedSource { source, digest, labels }: &WantedSource) -> String {
    let pinned = match source {
        None => return format!("# {digest}: nothing says which source it is of\n"),
        Some(source) => match source.parse::<Reference>() {
            Ok(Reference { repository, tag, .. }) => {
                format!("{repository}{}@{digest}", tag.map_or(String::new(), |tag| format!(":{tag}")))
            }
            // A layout or an archive of the low side.
            Err(_) => source.to_string(),
        },
    };
    let labels: serde_json::Map<String, serde_json::Value> =
        labels.and_then(|labels| serde_json::from_str(labels).ok()).unwrap_or_default();
    let labels = labels.iter().map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
    let fields: Vec<String> = [pinned].into_iter().chain(labels).collect();
    csv::line(&fields.iter().map(String::as_str).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_pin_a_source_and_keep_its_labels() {
        let digest = Digest::of(b"");
        let line = |source, labels| line(&WantedSource { source, digest: &digest, labels });
        assert_eq!(line(Some("reg.io/a/b:v1"), None), format!("reg.io/a/b:v1@{digest}\n"));
        let other = format!("reg.io/a/b@{}", Digest::of(b"x"));
        assert_eq!(line(Some(&other), Some(r#"{"env":"prod"}"#)), format!("reg.io/a/b@{digest},env=prod\n"));
        assert!(line(None, None).starts_with("# sha256:"));
    }
}
