//! What was given on the command line: plain data, checked word by word, nothing opened yet.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use crate::{
    archive::write::compress::{Codec, Format},
    cli::progress,
    config::{self, Config},
    error::Error,
    log::Level,
    oci::{Annotations, Wanted},
    registry::client::Patience,
    util::csv,
};

/// How a list is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    Table,
    Json,
    Csv,
}

impl FromStr for Output {
    type Err = String;

    fn from_str(text: &str) -> Result<Output, String> {
        match text {
            "table" => Ok(Output::Table),
            "json" => Ok(Output::Json),
            "csv" => Ok(Output::Csv),
            _ => Err(format!("{text:?} is none of table, json, csv")),
        }
    }
}

/// Every flag's value, or its default, and the operands.
#[derive(Clone, Debug)]
pub struct Args {
    pub config: Vec<PathBuf>,
    pub verbosity: Level,
    pub patience: Patience,
    pub progress: progress::Options,
    pub recursive: bool,
    /// Artifact types of referrers; none means all.
    pub referrer_types: Vec<String>,
    pub annotations: Annotations,
    pub block_size: u64,
    pub buffer_size: u64,
    pub hwm: u64,
    pub checkpoint: Option<PathBuf>,
    /// Ledgers, each with the offset up to which it is believed.
    pub existing_from_checkpoint: Vec<(PathBuf, u64)>,
    pub index_fallback: bool,
    pub manifest_json: bool,
    pub platforms: Vec<Wanted>,
    pub reference: String,
    pub force: bool,
    pub resume: bool,
    pub compression: Option<Format>,
    pub keep_going: bool,
    pub report: Option<PathBuf>,
    pub dry_run: bool,
    pub cache: Option<PathBuf>,
    pub username: Option<String>,
    /// Ledgers and archives that tell what is at the destination already.
    pub existing: Vec<PathBuf>,
    pub output: Output,
    pub volume_command: Option<String>,
    pub label: Option<String>,
    /// Read and written by `util mbuffer` in place of standard input and output.
    pub input: Option<PathBuf>,
    pub outputs: Vec<PathBuf>,
    pub sha256: bool,
    /// Every message goes there too.
    pub log: Option<PathBuf>,
    /// Most bytes a second that are written.
    pub rate: Option<u64>,
    /// How long a side may be stuck.
    pub io_timeout: Option<Duration>,
    pub checkpoint_interval: u64,
    /// Name of the tracker file in the sync directory.
    pub tracker_filename: String,
    pub operands: Vec<OsString>,
    /// The flags as they were given, for a command that goes on with an interrupted one.
    pub given: Vec<(&'static str, Option<String>)>,
}

impl Default for Args {
    fn default() -> Args {
        Args {
            config: Vec::new(),
            verbosity: Level::Warn,
            patience: Patience { idle: Duration::from_secs(60), retries: 5, total: Duration::from_secs(300) },
            progress: progress::Options::default(),
            recursive: false,
            referrer_types: Vec::new(),
            annotations: Annotations::new(),
            block_size: 1 << 20,
            buffer_size: 0,
            hwm: 90,
            checkpoint: None,
            existing_from_checkpoint: Vec::new(),
            index_fallback: false,
            manifest_json: false,
            platforms: Vec::new(),
            reference: "latest".into(),
            force: false,
            resume: false,
            compression: None,
            keep_going: false,
            report: None,
            dry_run: false,
            cache: None,
            username: None,
            existing: Vec::new(),
            output: Output::Table,
            volume_command: None,
            label: None,
            input: None,
            outputs: Vec::new(),
            sha256: false,
            log: None,
            rate: None,
            io_timeout: None,
            checkpoint_interval: 1 << 30,
            tracker_filename: "record-keeping.csv".into(),
            operands: Vec::new(),
            given: Vec::new(),
        }
    }
}

impl Args {
    /// The operand at `n`, as a path.
    pub fn path(&self, n: usize) -> &Path {
        Path::new(&self.operands[n])
    }

    /// How an archive is to be compressed, if at all.
    pub fn codec(&self, config: &Config) -> Option<Codec> {
        self.compression.map(|format| Codec { format, level: config.compression_level })
    }

    /// The configuration in effect: the file's, with what the flags say of it.
    pub fn load_config(&self) -> Result<Config, Error> {
        let mut config = config::load(&self.config)?;
        config.cache = self.cache.clone().or(config.cache);
        Ok(config)
    }

    pub fn was_given(&self, flag: &str) -> bool {
        self.given.iter().any(|(name, _)| *name == flag)
    }
}

/// Splits `a,b` as CSV; empty parts are left out.
pub fn list(text: &str) -> Result<Vec<String>, String> {
    Ok(csv::fields(text)?.into_iter().filter(|part| !part.is_empty()).collect())
}

/// A file to write, which cannot be a standard stream.
pub fn file(text: &str) -> Result<PathBuf, String> {
    match text {
        "" | "-" => Err(format!("{text:?} names no file")),
        path => Ok(path.into()),
    }
}

/// A file, or `-` for a standard stream.
pub fn file_or_dash(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("\"\" names no file".into()) } else { Ok(text.into()) }
}

/// Reads `key=value[,key=value]` into `map`.
pub fn map(text: &str, map: &mut Annotations) -> Result<(), String> {
    for pair in list(text)? {
        let (key, value) = pair.split_once('=').ok_or_else(|| format!("{pair:?} is not key=value"))?;
        if key.is_empty() {
            return Err(format!("{pair:?} has no key"));
        }
        map.insert(key.into(), value.into());
    }
    Ok(())
}

/// Reads `FILE:OFFSET`; a file's name may hold colons.
pub fn ledger(text: &str) -> Result<(PathBuf, u64), String> {
    let malformed = || format!("{text:?} is not FILE:OFFSET");
    let (path, offset) = text.rsplit_once(':').filter(|(path, _)| !path.is_empty()).ok_or_else(malformed)?;
    let offset = offset.parse().map_err(|_| format!("{text:?} is not FILE:OFFSET: {offset:?} is not a number"))?;
    Ok((path.into(), offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_maps_and_ledgers() {
        assert_eq!(list("a,,b").unwrap(), ["a", "b"]);
        let mut annotations = Annotations::new();
        map(r#"a=1,"b=2,3",c==,a=4"#, &mut annotations).unwrap();
        let pairs: Vec<_> = annotations.iter().map(|(k, v)| format!("{k}:{v}")).collect();
        assert_eq!(pairs, ["a:4", "b:2,3", "c:="]);
        assert!(map("a", &mut annotations).is_err() && map("=b", &mut annotations).is_err());
        assert_eq!(ledger("/a:b/c:12").unwrap(), ("/a:b/c".into(), 12));
        for bad in ["a", "a:", "a:-1", ":1"] {
            assert!(ledger(bad).is_err(), "{bad}");
        }
    }
}
