//! What was given on the command line: plain data, checked word by word, nothing opened yet.

use std::{
    ffi::OsString,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use crate::{
    archive::read::scan::BlobShare,
    cli::progress::ProgressOptions,
    compression::Format,
    log::Level,
    mapper::selector::Selector,
    media::tape::watch::DriveDemands,
    oci::{Annotations, Digest, PlatformFilter},
    registry::transport::retry::RetryPolicy,
    shards::choice::ShardChoice,
    util::csv,
};

/// How a list is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListFormat {
    /// For people.
    Table,
    /// An array of objects.
    Json,
    /// With a header.
    Csv,
}

impl FromStr for ListFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<ListFormat, String> {
        match text {
            "table" => Ok(ListFormat::Table),
            "json" => Ok(ListFormat::Json),
            "csv" => Ok(ListFormat::Csv),
            _ => Err(format!("{text:?} is none of table, json, csv")),
        }
    }
}

/// What is done where a destination's tag names another image already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnExistingTag {
    /// The tag is moved.
    #[default]
    Overwrite,
    /// The destination is left out.
    Keep,
    /// Nothing is sent at all.
    Fail,
}

/// Every flag's value, or its default, and the operands.
#[derive(Clone, Debug)]
pub struct Args {
    /// Configuration files, the first that is there counts.
    pub config: Vec<PathBuf>,
    /// How much is told.
    pub verbosity: Level,
    /// How much is borne of registries.
    pub policy: RetryPolicy,
    /// How progress is shown.
    pub progress: ProgressOptions,
    /// Copy referrers too.
    pub recursive: bool,
    /// `--sparse-index`.
    pub sparse_index: bool,
    /// `--digest-tags`.
    pub digest_tags: bool,
    /// Artifact types of referrers; none means all.
    pub referrer_types: Vec<String>,
    /// For the gather index.
    pub annotations: Annotations,
    /// Bytes of a block, or of a read.
    pub block_size: u64,
    /// Bytes of the ring; 0 for a small one without a mark.
    pub buffer_size: u64,
    /// Percent.
    pub hwm: Option<u64>,
    /// Percent.
    pub lwm: u64,
    /// Members of an archive must stand in the order of the format.
    pub strict: bool,
    /// `--verify`.
    pub verify: bool,
    /// Where what must be sent again is listed.
    pub wanted: Option<PathBuf>,
    /// The root that an archive must have.
    pub root: Option<Digest>,
    /// Name of the file in the sync directory that records what was delivered.
    pub sync_filename: String,
    /// A checkpoint to write or check.
    pub checkpoint: Option<PathBuf>,
    /// Checkpoints, each with the offset up to which it is believed.
    pub existing_from_checkpoint: Vec<(PathBuf, Option<u64>)>,
    /// List indexes in an annotation.
    pub index_fallback: bool,
    /// Add a `manifest.json`.
    pub manifest_json: bool,
    /// None means all.
    pub platforms: Vec<PlatformFilter>,
    /// Name of the gather index.
    pub reference: String,
    /// Write over files that are not empty.
    pub force: bool,
    /// Go on with an interrupted archive.
    pub resume: bool,
    /// None means plain.
    pub compression: Option<Format>,
    /// Leave out sources that fail.
    pub keep_going: bool,
    /// Where the report goes.
    pub report: Option<PathBuf>,
    /// Only plan.
    pub dry_run: bool,
    /// Directory of the cache.
    pub cache: Option<PathBuf>,
    /// Who is to be logged in.
    pub username: Option<String>,
    /// Checkpoints and archives that tell what is at the destination already.
    pub existing: Vec<PathBuf>,
    /// How a list is printed.
    pub output: ListFormat,
    /// How lists are written, and whereto.
    pub listings: Vec<(ListFormat, Option<PathBuf>)>,
    /// Replace nested gathers by their sources.
    pub expand: bool,
    /// Count what would be carried.
    pub bytes: bool,
    /// Sources whose labels one of them selects.
    pub selectors: Vec<Selector>,
    /// A list of sources.
    pub subset: Option<PathBuf>,
    /// Print destinations only.
    pub check: bool,
    /// Where a destination's tag names another image.
    pub on_existing_tag: OnExistingTag,
    /// Changes tapes.
    pub volume_command: Option<String>,
    /// What the label of each tape says.
    pub label: Option<String>,
    /// Read and written by `util mbuffer` in place of standard input and output.
    pub input: Option<PathBuf>,
    /// Written in place of standard output.
    pub outputs: Vec<PathBuf>,
    /// Print the digest of what went through.
    pub sha256: bool,
    /// Every message goes there too.
    pub log: Option<PathBuf>,
    /// Most bytes a second that are written.
    pub rate: Option<u64>,
    /// How long a side may be stuck.
    pub io_timeout: Option<Duration>,
    /// Bytes between syncs of a tape.
    pub checkpoint_interval: u64,
    /// Where `util serve` listens.
    pub address: SocketAddr,
    /// What names what is served.
    pub map: Option<String>,
    /// The certificate chain of a server, and its key.
    pub tls_cert: Option<PathBuf>,
    /// The key.
    pub tls_key: Option<PathBuf>,
    /// An index of frames is kept beside an archive.
    pub frame_index: bool,
    /// A sample of the configuration is wanted.
    pub sample: bool,
    /// A tree is wanted.
    pub tree: bool,
    /// A share of the blobs.
    pub share: Option<BlobShare>,
    /// Users and their passwords.
    pub htpasswd: Option<PathBuf>,
    /// Name of the tracker file in the sync directory.
    pub tracker_filename: String,
    /// What is asked of a tape drive before the first byte.
    pub demands: DriveDemands,
    /// A plan that several hosts share.
    pub plan: Option<PathBuf>,
    /// Which shard of it.
    pub shard: Option<ShardChoice>,
    /// Among how many shards a list is divided.
    pub shards: usize,
    /// Percent.
    pub balance: u64,
    /// Bytes of a cartridge.
    pub volume_size: Option<u64>,
    /// Where a plan or a merged report is written; `-` is standard output.
    pub dest: Option<PathBuf>,
    /// What stands beside the flags.
    pub operands: Vec<OsString>,
    /// The flags as they were given, for a command that goes on with an interrupted one.
    pub given: Vec<(&'static str, Option<String>)>,
}

/// Where `util serve` listens if nothing else is said.
const DEFAULT_ADDRESS: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 5000));

impl Default for Args {
    fn default() -> Args {
        Args {
            config: Vec::new(),
            verbosity: Level::Warn,
            policy: RetryPolicy {
                idle: Duration::from_secs(60),
                retries: 5,
                total: Duration::from_secs(300),
                away: Duration::ZERO,
            },
            progress: ProgressOptions::default(),
            recursive: false,
            sparse_index: false,
            digest_tags: false,
            referrer_types: Vec::new(),
            annotations: Annotations::new(),
            block_size: 1 << 20,
            buffer_size: 0,
            hwm: None,
            lwm: 10,
            strict: false,
            verify: false,
            wanted: None,
            root: None,
            sync_filename: "successful-syncs.csv".into(),
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
            output: ListFormat::Table,
            listings: Vec::new(),
            selectors: Vec::new(),
            subset: None,
            check: false,
            on_existing_tag: OnExistingTag::Overwrite,
            expand: false,
            bytes: false,
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
            demands: DriveDemands::default(),
            plan: None,
            shard: None,
            shards: 1,
            balance: 5,
            volume_size: None,
            dest: None,
            operands: Vec::new(),
            address: DEFAULT_ADDRESS,
            map: None,
            tls_cert: None,
            frame_index: false,
            share: None,
            tree: false,
            sample: false,
            tls_key: None,
            htpasswd: None,
            given: Vec::new(),
        }
    }
}

impl Args {
    /// Whether a flag was given.
    pub fn was_given(&self, flag: &str) -> bool {
        self.given.iter().any(|(name, _)| *name == flag)
    }
}

/// Splits `a,b` as CSV; empty parts are left out.
///
/// # Errors
/// What is no CSV.
pub fn list(text: &str) -> Result<Vec<String>, String> {
    Ok(csv::fields(text)?.into_iter().filter(|part| !part.is_empty()).collect())
}

/// A file to write, which cannot be a standard stream.
///
/// # Errors
/// If it names none.
pub fn file(text: &str) -> Result<PathBuf, String> {
    match text {
        "" | "-" => Err(format!("{text:?} names no file")),
        path => Ok(path.into()),
    }
}

/// A file, or `-` for a standard stream.
///
/// # Errors
/// If it is empty.
pub fn file_or_dash(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("\"\" names no file".into()) } else { Ok(text.into()) }
}

/// Reads `key=value[,key=value]` into `map`.
///
/// # Errors
/// Names what is no such pair.
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

/// Reads `FILE`, or `FILE:OFFSET`; a file's name may hold colons, but what stands behind the last of them must not look
/// like an offset.
///
/// # Errors
/// If it is written otherwise.
pub fn checkpoint(text: &str) -> Result<(PathBuf, Option<u64>), String> {
    match text.rsplit_once(':') {
        Some((path, offset)) if path.is_empty() || offset.is_empty() => Err(format!("{text:?} is not FILE[:OFFSET]")),
        Some((path, offset)) if offset.bytes().all(|byte| byte.is_ascii_digit()) => {
            let offset = offset.parse().map_err(|_| format!("{text:?}: there is no such offset"))?;
            Ok((path.into(), Some(offset)))
        }
        _ if text.is_empty() => Err("the name of a file is missing".into()),
        _ => Ok((text.into(), None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_maps_and_checkpoints() {
        assert_eq!(list("a,,b").unwrap(), ["a", "b"]);
        let mut annotations = Annotations::new();
        map(r#"a=1,"b=2,3",c==,a=4"#, &mut annotations).unwrap();
        let pairs: Vec<_> = annotations.iter().map(|(k, v)| format!("{k}:{v}")).collect();
        assert_eq!(pairs, ["a:4", "b:2,3", "c:="]);
        assert!(map("a", &mut annotations).is_err() && map("=b", &mut annotations).is_err());
        assert_eq!(checkpoint("/a:b/c:12").unwrap(), ("/a:b/c".into(), Some(12)));
        assert_eq!(checkpoint("/a:b/c").unwrap(), ("/a:b/c".into(), None));
        for bad in ["", "a:", ":1", "a:99999999999999999999"] {
            assert!(checkpoint(bad).is_err(), "{bad}");
        }
    }
}
