//! The one table of commands and flags.
//!
//! Texts are for help and man pages alike: paragraphs are separated by an empty line, words in
//! backquotes are set as what they are (`--flag`, `OPERAND`, `$VARIABLE`, `path/`, `literal`), and
//! a paragraph that is indented stands as it is.

use super::args::{self, Args};
use crate::{commands, error::Result, log::Level, units};

/// A command, or a group of commands.
pub struct Command {
    /// The words behind the program's name; empty for the program itself.
    pub name: &'static str,
    /// One line, without a full stop.
    pub summary: &'static str,
    pub operands: &'static [Operand],
    pub description: &'static str,
    /// Further sections of the man page: title and text.
    pub sections: &'static [(&'static str, &'static str)],
    /// `None` for a group.
    pub run: Option<fn(&Args) -> Result<()>>,
}

pub struct Operand {
    pub name: &'static str,
    pub count: Count,
    pub text: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Count {
    One,
    Any,
}

pub enum Value {
    None,
    /// The name of the value in texts.
    Required(&'static str),
    /// Likewise, and whether a word is such a value.
    Optional(&'static str, fn(&str) -> bool),
}

/// A flag, and the commands that take it.
pub struct Flag {
    pub long: &'static str,
    pub short: Option<char>,
    pub value: Value,
    /// In words; empty where nothing is the default.
    pub default: &'static str,
    /// The environment variable that stands in for it, or empty.
    pub env: &'static str,
    /// Whether the parser applies the variable; the configuration applies the others.
    pub env_sets_it: bool,
    /// Names of commands; none means all.
    pub on: &'static [&'static str],
    pub required_by: &'static [&'static str],
    pub text: &'static str,
    pub set: fn(&mut Args, &str) -> Result<(), String>,
}

const ARCHIVE: &[&str] = &["mirror archive"];
/// What begins with a list of sources.
const GATHERS: &[&str] = &["mirror archive", "mirror gather"];
/// What writes an archive.
const ARCHIVES: &[&str] = &["mirror archive", "mirror serialize"];
/// What writes archives, one or many.
const SERIALIZES: &[&str] = &["mirror archive", "mirror batch-serialize", "mirror serialize"];
/// What writes a device.
const WRITES: &[&str] = &["mirror archive", "mirror batch-serialize", "mirror serialize", "util mbuffer", "util mux"];
/// What writes a device through the ring.
const BUFFERS: &[&str] = &["mirror archive", "mirror batch-serialize", "mirror serialize", "util mbuffer"];
/// What copies referrers.
const RECURSIVE: &[&str] = &["mirror archive", "mirror batch-serialize", "mirror gather", "mirror serialize"];
/// What shows progress.
const PROGRESS: &[&str] =
    &["mirror archive", "mirror batch-serialize", "mirror gather", "mirror serialize", "util mbuffer"];

/// What most flags are.
const FLAG: Flag = Flag {
    long: "",
    short: None,
    value: Value::None,
    default: "",
    env: "",
    env_sets_it: false,
    on: &[],
    required_by: &[],
    text: "",
    set: |_, _| Ok(()),
};

/// All flags, in the order in which they are shown.
pub static FLAGS: &[Flag] = &[
    Flag {
        long: "annotations",
        short: Some('a'),
        value: Value::Required("MAP"),
        on: GATHERS,
        text: "Put these annotations on the gather index: `key=value`, several separated by commas. A pair that holds a comma is quoted as in CSV. May be repeated.",
        set: |a, v| args::map(v, &mut a.annotations),
        ..FLAG
    },
    Flag {
        long: "block-size",
        short: Some('b'),
        value: Value::Required("SIZE"),
        default: "1Mi",
        on: WRITES,
        text: "Write blocks of this size. Every write is exactly one block, except the last. For `ace-dt util mux` the most that a frame holds, and 32Ki if it is not given.",
        set: |a, v| {
            a.block_size = match units::parse_size(v)? {
                0 => return Err("a block must hold something".into()),
                size => size,
            };
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "buffer-size",
        short: Some('m'),
        value: Value::Required("SIZE"),
        default: "0",
        on: BUFFERS,
        required_by: &["util mbuffer"],
        text: "Size of the buffer in memory between the network (or standard input) and the device. With 0 there is only a small one, and no high-water mark.",
        set: |a, v| {
            a.buffer_size = units::parse_size(v)?;
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "hwm",
        value: Value::Required("PERCENT"),
        default: "90",
        on: BUFFERS,
        text: "High-water mark: start to write, at first and whenever the buffer ran dry, only when it is filled to this percentage. A drive so runs in long strokes instead of stopping again and again. A file needs no strokes: there a low mark, such as 10, is quickest.",
        set: |a, v| {
            let percent = v.trim_end_matches('%').parse().ok().filter(|p| (1..=100).contains(p));
            a.hwm = percent.ok_or_else(|| format!("{v:?} is not a percentage from 1 to 100"))?;
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "checkpoint",
        value: Value::Required("FILE"),
        on: ARCHIVES,
        text: "Write a ledger of what the archive holds up to which offset, one line for each blob, while the archive is written. A `FILE` that is there is replaced when the device takes the first block. A line stands in it only when the kernel has taken the bytes that it speaks of.",
        set: |a, v| {
            a.checkpoint = Some(args::file(v)?);
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "existing-from-checkpoint",
        value: Value::Required("FILE:OFFSET"),
        on: ARCHIVES,
        text: "Leave out every blob that the ledger `FILE` says is on the media already, up to and including `OFFSET`. The last colon separates. Several are separated by commas; may be repeated.",
        set: |a, v| {
            for part in args::list(v)? {
                a.existing_from_checkpoint.push(args::ledger(&part)?);
            }
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "resume",
        on: ARCHIVES,
        text: "Go on with an interrupted `DEST-FILE`, by its ledger: give the same command again, with `--checkpoint` and this. What is there is compared with the plan, but blobs that the ledger speaks of are not read again: damage to the file since then is not found. What is whole is not fetched again, and of the blob that the run stopped in only the rest. The end is the very archive that an uninterrupted run makes. If the sources have moved on meanwhile, the error says which, and nothing is changed. If `DEST-FILE` is not there or empty, the run starts from the beginning. Only for regular files.",
        set: |a, _| {
            a.resume = true;
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "compression",
        value: Value::Required("FORMAT"),
        default: "none",
        on: SERIALIZES,
        text: "Compress the archive with `zstd` or `gzip`, by as many threads as there are processors; the key `compressionLevel` of the configuration (`min`, `normal`, `max`) says how much. A frame ends at the latest where a blob ends, so that the ledger's offsets are true. What does not shrink is passed at little cost.",
        set: |a, v| {
            a.compression = if v == "none" { None } else { Some(v.parse()?) };
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "index-fallback",
        on: GATHERS,
        text: "Move indexes out of the gather index's manifests into an annotation, for registries that take no nested indexes.",
        set: |a, _| {
            a.index_fallback = true;
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "manifest-json",
        on: SERIALIZES,
        text: "Add a `manifest.json`, so that `docker load` and `ctr images import` read the archive.",
        set: |a, _| {
            a.manifest_json = true;
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "platforms",
        short: Some('p'),
        value: Value::Required("LIST"),
        default: "all",
        on: GATHERS,
        text: "Take only these platforms out of multi-platform images: `os/arch`, `os/arch/variant`, each with an optional `:osversion`. Variant and version are compared only where they are given. Artifacts that are no images always come along. Separated by commas; may be repeated.",
        set: |a, v| {
            for part in args::list(v)? {
                a.platforms.push(part.parse()?);
            }
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "reference",
        value: Value::Required("REF"),
        default: "latest",
        on: ARCHIVE,
        text: "Name of the gather index in the archive's `index.json`.",
        set: |a, v| {
            if v.is_empty() {
                return Err("it is empty".into());
            }
            a.reference = v.into();
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "recursive",
        short: Some('r'),
        on: RECURSIVE,
        text: "Copy referrers too, of every manifest: signatures, SBOMs, attestations.",
        set: |a, _| {
            a.recursive = true;
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "referrer-types",
        value: Value::Required("LIST"),
        default: "all",
        on: RECURSIVE,
        text: "With `--recursive`, copy only referrers of these artifact types, such as `application/vnd.dev.cosign.artifact.sig.v1+json`. Separated by commas; may be repeated.",
        set: |a, v| {
            a.referrer_types.extend(args::list(v)?);
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "continue",
        on: GATHERS,
        text: "Leave out sources that fail, go on with the others, and exit with 1 at the end. Every blob is looked for before the first is fetched.",
        set: |a, _| {
            a.keep_going = true;
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "report",
        value: Value::Required("FILE"),
        on: GATHERS,
        text: "Write a JSON array with each source and its outcome (`archived`, `gathered`, `planned`, `unmatched`, `failed` or `incomplete`), digest, bytes and error.",
        set: |a, v| {
            a.report = Some(args::file(v)?);
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "dry-run",
        on: ARCHIVE,
        text: "Resolve everything and print the plan: images, blobs, and the archive's exact size. Write nothing.",
        set: |a, _| {
            a.dry_run = true;
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "force",
        on: ARCHIVES,
        text: "Write over a `DEST-FILE` that is a regular file and not empty.",
        set: |a, _| {
            a.force = true;
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "cache",
        value: Value::Required("DIR"),
        env: "ACE_DT_CACHE_PATH",
        on: &["mirror archive", "mirror batch-serialize", "mirror gather", "mirror serialize", "util prune"],
        text: "Keep what registries give in this directory, an OCI image layout, and take from it what is there. Everything taken is hashed first. Several runs may use it at the same time. The key `cachePath` of the configuration does the same.",
        set: |a, v| {
            a.cache = Some(args::file(v)?);
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "tracker-filename",
        value: Value::Required("NAME"),
        default: "record-keeping.csv",
        on: &["mirror batch-serialize"],
        text: "Name of the tracker file in `SYNC-DIRECTORY`.",
        set: |a, v| {
            if v.is_empty() || v.contains('/') {
                return Err(format!("{v:?} is no name of a file"));
            }
            a.tracker_filename = v.into();
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "username",
        short: Some('u'),
        value: Value::Required("NAME"),
        on: &["login"],
        required_by: &["login"],
        text: "Who is to be logged in.",
        set: |a, v| {
            a.username = Some(v.into());
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "password-stdin",
        on: &["login"],
        required_by: &["login"],
        text: "Read the password, or an access token, from standard input; on a terminal it is asked for, and not shown. There is no other way to give it: the arguments of a process can be seen by others.",
        ..FLAG
    },
    Flag {
        long: "quiet",
        short: Some('q'),
        on: &[
            "login",
            "logout",
            "mirror archive",
            "mirror batch-serialize",
            "mirror gather",
            "mirror serialize",
            "util mbuffer",
            "util prune",
        ],
        text: "Show no progress. Warnings and errors are still told.",
        set: |a, _| {
            a.progress.quiet = true;
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "no-term",
        on: PROGRESS,
        text: "Show progress as plain lines, even on a terminal.",
        set: |a, _| {
            a.progress.no_term = true;
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "progress",
        value: Value::Required("STYLE"),
        default: "auto",
        on: PROGRESS,
        text: "How progress is shown on standard error: `auto` (redrawn on a terminal, a line every ten seconds elsewhere), `plain`, or `json` (an object a line, every second; sizes in bytes, times in seconds).",
        set: |a, v| {
            a.progress.style = v.parse()?;
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "debug",
        value: Value::Required("DIR"),
        on: PROGRESS,
        text: "Write every progress event to `logs.txt` in this directory, a JSON object a line.",
        set: |a, v| {
            a.progress.debug = Some(v.into());
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "config",
        value: Value::Required("FILE"),
        env: "ACE_DT_CONFIG",
        text: "Read the configuration from this file, instead of the usual ones; the manual of `ace-dt` names them. If it is given several times, the first file that is there is used.",
        set: |a, v| {
            a.config.push(v.into());
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "verbosity",
        short: Some('v'),
        value: Value::Optional("LEVEL", |word| word.parse::<Level>().is_ok()),
        default: "warn",
        env: "ACE_DT_VERBOSITY",
        env_sets_it: true,
        text: "How much is told on standard error: `error` (0), `warn` (4), `info` (8) or `debug` (12). Without a level it is `warn`.",
        set: |a, v| {
            a.verbosity = if v.is_empty() { Level::Warn } else { v.parse()? };
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "http-timeout",
        value: Value::Required("DURATION"),
        default: "60s",
        text: "Give up on a registry that has been silent for so long: `500ms`, `2s`, `5m`. A body that moves is never given up; see `--retries` for what happens then.",
        set: |a, v| {
            a.patience.idle = units::parse_duration(v)?;
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "retries",
        value: Value::Required("N"),
        default: "5",
        text: "Try a request again so often when the connection fails or the registry answers 408, 429 or 5xx, with growing pauses, or with those that the registry asks for. A body that breaks is taken up where it broke; tries count only while they make no progress.",
        set: |a, v| {
            a.patience.retries = v.parse().map_err(|_| format!("{v:?} is not a number"))?;
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "retry-time",
        value: Value::Required("DURATION"),
        default: "5m",
        text: "Give up a request when its tries have made no progress for so long.",
        set: |a, v| {
            a.patience.total = units::parse_duration(v)?;
            Ok(())
        },
        ..FLAG
    },
    Flag { long: "version", text: "Print the version.", ..FLAG },
    Flag { long: "help", short: Some('h'), text: "Print the help of the command.", ..FLAG },
];

const NO_OPERANDS: &[Operand] = &[];
const FILES_OPERAND: Operand =
    Operand { name: "FILE", count: Count::One, text: "The file of stream 0; those of the others follow." };
const MORE_FILES: Operand = Operand { name: "FILE", count: Count::Any, text: "The files of the other streams." };
const REGISTRY: Operand = Operand {
    name: "REGISTRY",
    count: Count::One,
    text: "The registry's name as it stands in references: a host, with a port if need be.",
};

/// All commands, groups before what is in them.
pub static COMMANDS: &[Command] = &[
    Command {
        name: "",
        summary: "carry container images and other OCI artifacts across an air gap",
        operands: NO_OPERANDS,
        description: "`ace-dt` gathers images from many registries into one TAR archive, in a file or straight on a tape drive, at the drive's full speed and without staging a byte on disk.\n\n\
            Images are named by fully qualified references, `registry/repository[:tag][@digest]`; without a tag it is `latest`. `oci:DIR[:ref]` names an image in an OCI image layout in a directory.\n\n\
            Sizes are written with SI or IEC suffixes: `64k` is 64,000, `1M` is 1,000,000, `1Mi` or `1MiB` is 1,048,576. Fractions, a space before the suffix, and any case are allowed.",
        sections: &[
            ("ENVIRONMENT", ENVIRONMENT),
            ("FILES", FILES),
            ("EXIT STATUS", EXIT_STATUS),
            (
                "DIAGNOSTICS",
                "Errors go to standard error, one line each, and begin with the name of the program. They say what was being done, on what, and why it failed. Data goes to standard output only.",
            ),
        ],
        run: None,
    },
    Command {
        name: "mirror",
        summary: "gather images and write archives of them",
        operands: NO_OPERANDS,
        description: "The commands that carry images.",
        sections: &[],
        run: None,
    },
    Command {
        name: "mirror archive",
        summary: "gather images from registries and write one TAR archive of them",
        operands: &[
            Operand {
                name: "SOURCES-FILE",
                count: Count::One,
                text: "One image a line: its reference, then labels, as CSV. `-` is standard input.",
            },
            Operand {
                name: "DEST-FILE",
                count: Count::One,
                text: "A file, FIFO, or tape device. `-` is standard output.",
            },
            Operand {
                name: "EXISTING-IMAGE",
                count: Count::Any,
                text: "Leave out the blobs (not the manifests) of these images: they are at the destination already.",
            },
        ],
        description: "Resolves every source, fetches all manifests, and so knows the whole archive to the byte before the first layer is fetched. Then the layers go from the registries through a buffer in memory onto the device. No layer is ever stored on disk.\n\n\
            A line of `SOURCES-FILE` is a reference, followed by labels `key=value` in Kubernetes syntax, separated by commas. Empty lines and lines that begin with `#` are ignored.\n\n\
            The archive is one OCI image layout in a TAR stream. Its root is a gather index over all sources. Each blob is in it once. The same sources give the same archive, byte for byte.\n\n\
            Every blob is checked against its digest before it counts. If one is wrong, or a registry fails, the run ends with an error, and the ledger says truly what the device holds.\n\n\
            On a tape every write is one physical block, and the last one is padded with zeros.",
        sections: &[
            ("ENVIRONMENT", ENVIRONMENT),
            ("FILES", FILES),
            ("EXIT STATUS", EXIT_STATUS),
            (
                "EXAMPLES",
                "Archive what `sources.list` names to a tape, with a buffer of 4 GiB, and keep a ledger:\n\n    \
                 ace-dt mirror archive -m 4Gi --checkpoint monday.ledger sources.list /dev/nst0\n\n\
                 See how large the archive would be:\n\n    \
                 ace-dt mirror archive --dry-run sources.list week.tar\n\n\
                 Archive for two platforms, signatures included:\n\n    \
                 ace-dt mirror archive -r -p linux/amd64,linux/arm64 sources.list week.tar\n\n\
                 Go on with a file after a run that was interrupted:\n\n    \
                 ace-dt mirror archive --checkpoint week.ledger --resume sources.list week.tar\n\n\
                 Go on after a tape that ended at offset 323072; the second tape carries what is missing on the first:\n\n    \
                 ace-dt mirror archive --checkpoint 2.ledger --existing-from-checkpoint 1.ledger:323072 sources.list week-2.tar\n\n\
                 Unpack both, as one OCI image layout, up to that offset of the first:\n\n    \
                 (head -c 323072 week.tar; cat week-2.tar) | tar -xf - -C layout\n\n\
                 List the archive while it is written:\n\n    \
                 ace-dt mirror archive -q sources.list - | tar -tvf -",
            ),
            (
                "DIAGNOSTICS",
                "When SIGINT or SIGTERM ends a run, the error says how many blobs the device holds whole, up to which offset, and gives the command that goes on with what is missing, or that starts again if there is no ledger. A second signal ends the program at once.\n\n\
                 A source of which no manifest matches `--platforms` gets a warning that names the platforms it has.",
            ),
        ],
        run: Some(commands::archive::run),
    },
    Command {
        name: "mirror serialize",
        summary: "write a TAR archive of one image or gathered artifact",
        operands: &[
            Operand {
                name: "IMAGE",
                count: Count::One,
                text: "What is to be archived, such as the artifact that `ace-dt mirror gather` made.",
            },
            Operand {
                name: "DEST-FILE",
                count: Count::One,
                text: "A file, FIFO, or tape device. `-` is standard output.",
            },
            Operand {
                name: "EXISTING-IMAGE",
                count: Count::Any,
                text: "Leave out the blobs (not the manifests) of these images: they are at the destination already.",
            },
        ],
        description: "Fetches all manifests below `IMAGE`, which so fixes the archive to the byte, and carries the blobs onto the device as `ace-dt mirror archive` does. The root of the archive is `IMAGE` itself; its name in `index.json` is the tag or digest of `IMAGE`.",
        sections: &[
            ("ENVIRONMENT", ENVIRONMENT),
            ("FILES", FILES),
            ("EXIT STATUS", EXIT_STATUS),
            (
                "EXAMPLES",
                "Archive a gathered artifact, without what the last one held:\n\n    \
                 ace-dt mirror serialize reg.example.com/mirror/week:2026-48 week-48.tar reg.example.com/mirror/week:2026-47",
            ),
            (
                "DIAGNOSTICS",
                "When a run ends early, the error says how many blobs the device holds whole, up to which offset, and gives the command that goes on, or that starts again if there is no ledger.",
            ),
        ],
        run: Some(commands::serialize::run),
    },
    Command {
        name: "mirror gather",
        summary: "gather images from registries into one artifact in a registry",
        operands: &[
            Operand {
                name: "SOURCES-FILE",
                count: Count::One,
                text: "One image a line: its reference, then labels, as CSV. `-` is standard input.",
            },
            Operand {
                name: "IMAGE",
                count: Count::One,
                text: "Where to: `registry/repository[:tag]`; without a tag it is `latest`.",
            },
        ],
        description: "A line of `SOURCES-FILE` is a reference, followed by labels `key=value` in Kubernetes syntax, separated by commas. Empty lines and lines that begin with `#` are ignored.\n\n\
            Resolves every source as `ace-dt mirror archive` does, and pushes what they hold to the one repository of `IMAGE`: first the blobs, then the manifests, each after all that it refers to, and last the gather index, under the tag. A run that fails leaves nothing that is not whole, and the tag is not touched; the same command again sends only what is missing.\n\n\
            A blob that the repository has is not sent, and one that lies in another repository of the same registry is mounted from there if the registry allows it. Large blobs are uploaded in chunks of `chunkSize`. An upload that breaks is taken up where the registry says that it broke. Every blob is checked against its digest on the way.\n\n\
            Where the registry has no referrers API, the index at the subject's referrers tag is kept up to date.\n\n\
            Prints the reference of the gather index with its digest.",
        sections: &[
            ("ENVIRONMENT", ENVIRONMENT),
            ("FILES", FILES),
            ("EXIT STATUS", EXIT_STATUS),
            (
                "EXAMPLES",
                "Gather what `sources.list` names, with signatures and other referrers:\n\n    \
                 ace-dt mirror gather -r sources.list reg.example.com/mirror/week:2026-48",
            ),
            (
                "DIAGNOSTICS",
                "A source of which no manifest matches `--platforms` gets a warning that names the platforms it has.",
            ),
        ],
        run: Some(commands::gather::run),
    },
    Command {
        name: "mirror batch-serialize",
        summary: "write an archive of each artifact of a list that was not sent yet",
        operands: &[
            Operand {
                name: "BATCH-LIST",
                count: Count::One,
                text: "CSV with the header `name,artifact`: a name for the series, and a reference. `-` is standard input.",
            },
            Operand { name: "SYNC-DIRECTORY", count: Count::One, text: "Where archives and tracker file are kept." },
        ],
        description: "Serializes, one after the other, each artifact that the tracker file does not record with the digest that it has now, to `NNNNNN-name.tar` (`.tar.zst`, `.tar.gz`) in `SYNC-DIRECTORY`. The numbers go on from one run to the next. What was sent under the same name before counts as existing images: their blobs are left out.\n\n\
            An archive has another name until it is whole and on the disk, and is recorded then; whatever ends a run, the tracker is right, and the next run goes on with what is missing.\n\n\
            The tracker file is CSV with the header `sync_name,artifact,digest`.",
        sections: &[
            ("ENVIRONMENT", ENVIRONMENT),
            ("FILES", FILES),
            ("EXIT STATUS", EXIT_STATUS),
            (
                "EXAMPLES",
                "Archive what is new of the artifacts in `batch.csv`:\n\n    \
                 ace-dt mirror batch-serialize --compression zstd batch.csv outgoing",
            ),
        ],
        run: Some(commands::batch::run),
    },
    Command {
        name: "login",
        summary: "check and keep the credentials for a registry",
        operands: &[REGISTRY],
        description: "Asks the registry whether it takes the user's name and password, and keeps them if it does: in the auth file that holds credentials for this registry already, else in the first of the auth files that is there, else in `~/.docker/config.json`. The file is replaced as a whole, and only its owner can read it. If it names a credential helper for the registry (`credHelpers`, `credsStore`), the helper keeps them instead.\n\n\
            If the registry asks for no credentials, a warning says that they could not be checked.",
        sections: &[
            ("ENVIRONMENT", ENVIRONMENT),
            ("FILES", FILES),
            ("EXIT STATUS", EXIT_STATUS),
            (
                "EXAMPLES",
                "Log in with a password from a file:\n\n    \
                 ace-dt login reg.example.com -u robot --password-stdin < password",
            ),
        ],
        run: Some(commands::login::login),
    },
    Command {
        name: "logout",
        summary: "remove the credentials for a registry",
        operands: &[REGISTRY],
        description: "Takes the credentials for the registry out of every auth file and of the helper that one names. Entries for repositories of it (`registry/repository`) stay. If there are none, that is an error.",
        sections: &[("ENVIRONMENT", ENVIRONMENT), ("FILES", FILES), ("EXIT STATUS", EXIT_STATUS)],
        run: Some(commands::login::logout),
    },
    Command {
        name: "util",
        summary: "tools for pipelines",
        operands: NO_OPERANDS,
        description: "Small tools for shell pipelines.",
        sections: &[],
        run: None,
    },
    Command {
        name: "util mbuffer",
        summary: "buffer a pipeline in memory",
        operands: NO_OPERANDS,
        description: "Copies standard input to standard output through a buffer in memory. Reading and writing go on at the same time; every write is one block of `--block-size`, except the last.",
        sections: &[
            ("EXIT STATUS", EXIT_STATUS),
            (
                "EXAMPLES",
                "Feed a tape drive in long strokes from a TAR stream that comes in gushes:\n\n    \
                 tar -cf - dir | ace-dt util mbuffer -m 4Gi -b 256Ki --hwm 95 > /dev/nst0",
            ),
        ],
        run: Some(commands::mbuffer::run),
    },
    Command {
        name: "util mux",
        summary: "send several streams through one pipe",
        operands: &[FILES_OPERAND, MORE_FILES],
        description: "Reads all files at the same time, FIFOs too, and writes what it reads to standard output, each piece in a frame of its own: the number of the stream (32 bits, from 0, in the order of the operands), the length of the data in bytes (64 bits), both little endian, and the data.",
        sections: &[
            ("EXIT STATUS", EXIT_STATUS),
            (
                "EXAMPLES",
                "Send two files through one connection:\n\n    \
                 ace-dt util mux a.tar b.tar | ssh host ace-dt util demux a.tar b.tar",
            ),
        ],
        run: Some(commands::mux::mux),
    },
    Command {
        name: "util demux",
        summary: "take apart what `util mux` has put together",
        operands: &[FILES_OPERAND, MORE_FILES],
        description: "Reads frames from standard input and appends their data to the files: that of stream 0 to the first, and so on. A file that is not there is created. Frames of a stream for which no file is named, and frames that are cut short, are errors; what came before them is in the files.",
        sections: &[("EXIT STATUS", EXIT_STATUS)],
        run: Some(commands::mux::demux),
    },
    Command {
        name: "util prune",
        summary: "bring the cache down to its limit",
        operands: NO_OPERANDS,
        description: "Removes from the cache what was not used for longest, with the manifests that refer to it, until it has no more bytes than the key `cachePruneMax` of the configuration (or `$ACE_DT_CACHE_PRUNE_MAX`) allows, 500Mi if neither is given, and what interrupted runs have left. While another run uses the cache, that is an error.",
        sections: &[("FILES", FILES), ("EXIT STATUS", EXIT_STATUS)],
        run: Some(commands::prune::run),
    },
    Command {
        name: "version",
        summary: "print the version",
        operands: NO_OPERANDS,
        description: "Prints the program's name and version.",
        sections: &[],
        run: Some(commands::version),
    },
];

const EXIT_STATUS: &str =
    "0 on success, 1 if the operation failed, 2 on wrong usage, 130 after SIGINT, 143 after SIGTERM.";

const ENVIRONMENT: &str = "`$ACE_DT_CONFIG` names the configuration file, `$ACE_DT_VERBOSITY` is as `--verbosity`, and `$ACE_DT_CONCURRENT_HTTP`, `$ACE_DT_CHUNK_SIZE`, `$ACE_DT_CACHE_PATH` and `$ACE_DT_CACHE_PRUNE_MAX` are as the keys of the configuration of those names.\n\n\
    `$ACE_DT_REGISTRY_AUTH_FILE`, `$REGISTRY_AUTH_FILE` and `$DOCKER_CONFIG` (a file, or a directory with a `config.json`) name the file with credentials; the first that is set is used.\n\n\
    `$HTTPS_PROXY` and `$HTTP_PROXY` name the proxy for registries with HTTPS and HTTP, and `$ALL_PROXY` that for both: `http://[user:password@]host:port` (which must take CONNECT), `https://...`, or `socks5://...`. The proxy looks up the registry's name. `$NO_PROXY` lists what is reached directly, separated by commas: domains with all below them (`example.com`), only what is below (`.example.com`), addresses, networks (`10.0.0.0/8`), each with an optional port, or `*`. All may be written in lower case; upper case goes first. Loopback addresses are always reached directly.\n\n\
    `$SSL_CERT_FILE` and `$SSL_CERT_DIR` replace the system's certificate authorities.\n\n\
    `$ACE_DT_VERSION` is written into archives in place of this program's version, to make an archive of another version again byte for byte.";

const FILES: &str = "The configuration is the first of `ace-dt-config.yaml`, `$XDG_CONFIG_HOME/ace/dt/config.yaml` (without the variable `~/.config/ace/dt/config.yaml`) and `/etc/ace/dt/config.yaml` that is there:\n\n    \
    apiVersion: config.dt.act3-ace.io/v1alpha1\n    \
    kind: Configuration\n    \
    concurrentHTTP: 25\n    \
    chunkSize: 100Mi\n    \
    cachePath: /var/cache/ace-dt\n    \
    cachePruneMax: 500Mi\n    \
    compressionLevel: normal\n    \
    registryConfig:\n    \
    \x20 registries:\n    \
    \x20   reg.example.com:\n    \
    \x20     endpoints:\n    \
    \x20       - http://127.0.0.1:5000\n    \
    \x20     rewritePull:\n    \
    \x20       \"^library/(.*)$\": mirror/$1\n    \
    \x20 endpointConfig:\n    \
    \x20   http://127.0.0.1:5000:\n    \
    \x20     supportsReferrers: auto\n\n\
    A path that begins with `~/` lies in the home directory. `concurrentHTTP` is the number of requests in flight. A blob of more than `chunkSize` bytes is uploaded in several requests; with 0 every blob is one. The endpoints of a registry are tried in order, and the first that answers is used; each is a URL under which the API's `/v2/` lies. A registry without configuration is reached by HTTPS, and one on a loopback address by HTTP if nobody there speaks TLS and no certificates are set up for it. `rewritePull` changes the repository's name for its endpoints, when pulling. `supportsReferrers` is `api`, `tag` or `auto`. An endpoint's `tls` may have `insecureSkipVerify: true`.\n\n\
    Credentials are read from the auth file that the environment or else the key `registryAuthFile` names, or else from `$XDG_RUNTIME_DIR/containers/auth.json`, `~/.config/containers/auth.json` and `~/.docker/config.json`: the first that has some for the registry counts. In it, what `credHelpers` names for the registry is asked first; then the entry in `auths` of the longest path that leads to the repository counts; then what `credsStore` names is asked. A helper `NAME` is a program `docker-credential-NAME` in `$PATH`.\n\n\
    Certificate authorities (`ca.pem`, `*.crt`) and a client certificate (`cert.pem` with `key.pem`, or `*.cert` with `*.key`) for a registry are read from the first of `/etc/containerd/certs.d`, `/etc/docker/certs.d` and `~/.docker/certs.d` that has a directory of the registry's name, port included.";

/// The program itself.
pub fn root() -> &'static Command {
    &COMMANDS[0]
}

/// The command `name` within `group`.
pub fn below(group: &Command, name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|c| c.group() == Some(group.name) && c.name.rsplit(' ').next() == Some(name))
}

impl Command {
    /// The name of the group that it is in; the program itself is in none.
    fn group(&self) -> Option<&'static str> {
        match self.name.rsplit_once(' ') {
            Some((group, _)) => Some(group),
            None => (!self.name.is_empty()).then_some(""),
        }
    }

    /// With the program's name.
    pub fn full_name(&self) -> String {
        format!("ace-dt {}", self.name).trim_end().to_string()
    }

    /// The name of its man page.
    pub fn page(&self) -> String {
        self.full_name().replace(' ', "-")
    }

    pub fn commands(&self) -> impl Iterator<Item = &'static Command> {
        COMMANDS.iter().filter(|c| c.group() == Some(self.name))
    }

    pub fn flags(&self) -> impl Iterator<Item = &'static Flag> {
        FLAGS.iter().filter(|f| f.on.is_empty() || f.on.contains(&self.name))
    }

    /// Whether what was given to it may be a secret in the wrong place.
    pub fn takes_secrets(&self) -> bool {
        self.flags().any(|flag| flag.long == "password-stdin")
    }

    /// Least and most operands.
    pub fn operand_counts(&self) -> (usize, usize) {
        let least = self.operands.iter().filter(|o| o.count == Count::One).count();
        let any = self.operands.iter().any(|o| o.count == Count::Any);
        (least, if any { usize::MAX } else { least })
    }
}

impl Flag {
    /// The name of its value, if it has one.
    pub fn value_name(&self) -> Option<&'static str> {
        match self.value {
            Value::None => None,
            Value::Required(name) | Value::Optional(name, _) => Some(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_name_is_given_twice_and_every_name_exists() {
        let mut names = HashSet::new();
        for flag in FLAGS {
            assert!(names.insert(flag.long.to_string()), "--{}", flag.long);
            assert!(flag.short.is_none_or(|c| names.insert(c.to_string())), "-{:?}", flag.short);
            assert!(!flag.text.is_empty() && flag.text.ends_with('.'), "--{}", flag.long);
            for name in flag.on.iter().chain(flag.required_by) {
                assert!(COMMANDS.iter().any(|c| c.name == *name && c.run.is_some()), "--{}: {name}", flag.long);
            }
        }
        for command in COMMANDS {
            assert!(names.insert(command.full_name()), "{}", command.name);
            assert!(command.run.is_some() || command.commands().next().is_some(), "{}", command.name);
            assert!(!command.summary.ends_with('.'));
        }
    }

    #[test]
    fn defaults_in_words_are_the_defaults() {
        for flag in FLAGS.iter().filter(|f| !f.default.is_empty() && f.default != "all") {
            let (plain, mut set) = (Args::default(), Args::default());
            (flag.set)(&mut set, flag.default).unwrap();
            assert_eq!(format!("{plain:?}"), format!("{set:?}"), "--{}", flag.long);
        }
    }
}
