//! The file of a mapper: lines of two fields, as CSV.

use std::path::{Path, PathBuf};

use crate::{
    error::{Context, Error, Result},
    fd,
    util::csv,
};

/// So many lines that are wrong are told.
const TOLD_MAX: usize = 20;

/// A destination of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappedName {
    /// A reference, unchecked.
    pub destination: String,
    /// The line of the mapper's file that says so, counted from 1.
    pub line: Option<usize>,
}

/// One line.
struct MapLine {
    number: usize,
    key: String,
    value: String,
}

/// A file that says where sources go.
pub struct MapFile {
    path: PathBuf,
    text: String,
    lines: Vec<MapLine>,
}

impl MapFile {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// If it cannot be read, or a line of it has not two fields; then every such line is named.
    pub fn read(path: &Path) -> Result<MapFile> {
        let doing = || format!("reading the map {path:?}");
        let bytes = fd::read_file(path).doing(doing)?;
        let text = String::from_utf8(bytes).map_err(|_| Error::new("it is not UTF-8").doing(doing()))?;
        MapFile::parse(path, &text).map_err(|why| Error::new(why).doing(doing()))
    }

    /// The lines of a text.
    ///
    /// # Errors
    /// What is wrong with which lines.
    pub fn parse(path: &Path, text: &str) -> std::result::Result<MapFile, String> {
        let (mut lines, mut wrong) = (Vec::new(), Vec::new());
        for (n, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let number = n + 1;
            match csv::fields(line).map(<[String; 2]>::try_from) {
                Ok(Ok([key, value])) => lines.push(MapLine { number, key, value }),
                Ok(Err(fields)) => {
                    let count = fields.len();
                    wrong
                        .push(format!("line {number}: {line:?} has {count} fields, not two with a comma between them"));
                }
                Err(why) => wrong.push(format!("line {number}: {why}")),
            }
        }
        let more = wrong.len().saturating_sub(TOLD_MAX);
        wrong.truncate(TOLD_MAX);
        if more > 0 {
            wrong.push(format!("and {more} more"));
        }
        if wrong.is_empty() {
            Ok(MapFile { path: path.into(), text: text.into(), lines })
        } else {
            Err(wrong.join("; "))
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All of it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The numbers of its lines, counted from 1.
    pub fn lines(&self) -> impl Iterator<Item = usize> {
        self.lines.iter().map(|line| line.number)
    }

    /// Every line whose first field `name` begins with: that field, and the second with the rest of the name.
    pub fn prefixes(&self, name: &str) -> impl Iterator<Item = (&str, MappedName)> {
        self.lines.iter().filter_map(move |line| {
            let rest = name.strip_prefix(line.key.as_str())?;
            let destination = format!("{}{rest}", line.value);
            Some((line.key.as_str(), MappedName { destination, line: Some(line.number) }))
        })
    }

    /// The second field of every line whose first is `key`.
    pub fn with_key(&self, key: &str) -> impl Iterator<Item = MappedName> {
        let lines = self.lines.iter().filter(move |line| line.key == key);
        lines.map(|line| MappedName { destination: line.value.clone(), line: Some(line.number) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_fields_a_line() {
        let map = MapFile::parse(Path::new("m"), "#c\r\n\"a,b\" , c\r\n\nx,\n").unwrap();
        let lines: Vec<_> = map.lines.iter().map(|l| (l.number, l.key.as_str(), l.value.as_str())).collect();
        assert_eq!(lines, [(2, "a,b", "c"), (4, "x", "")]);
        let why = MapFile::parse(Path::new("m"), "a\nb,c\n #x\nd,e,f\n\"g").err().unwrap();
        for part in ["line 1: \"a\" has 1 fields", "line 3: ", "line 4: \"d,e,f\" has 3 fields", "line 5: "] {
            assert!(why.contains(part), "{why}");
        }
    }
}
