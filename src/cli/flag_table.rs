//! The flags of the table: names, values, defaults, the commands that take them, and their texts.

use crate::cli::{
    args,
    schema::{Flag, Value},
};
use crate::{log::Level, util::units};

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
    &["mirror archive", "mirror batch-serialize", "mirror gather", "mirror serialize", "mirror verify", "util mbuffer"];
/// What reads archives.
const READS: &[&str] = &["mirror list", "mirror verify"];

/// A flag without a value was given.
fn yes(flag: &mut bool) -> Result<(), String> {
    *flag = true;
    Ok(())
}

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
        long: "block-size",
        short: Some('b'),
        value: Value::Required("SIZE"),
        on: READS,
        text: "Read so much at once. A tape needs no such hint: the size of its blocks is found out.",
        set: |a, v| {
            a.block_size = match units::parse_size(v)? {
                0 => return Err("a read must ask for something".into()),
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
        on: BUFFERS,
        text: "High-water mark: start to write, at first and whenever the buffer ran dry, only when it is filled to this percentage. A drive so runs in long strokes instead of stopping again and again. Without this flag the mark is 90 for a tape or a pipe; a regular file needs no strokes, and is written as the bytes come.",
        set: |a, v| {
            let percent = v.trim_end_matches('%').parse().ok().filter(|p| (1..=100).contains(p));
            a.hwm = Some(percent.ok_or_else(|| format!("{v:?} is not a percentage from 1 to 100"))?);
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "checkpoint",
        value: Value::Required("FILE"),
        on: ARCHIVES,
        text: "Write a ledger of what the archive holds up to which offset, one line for each blob, while the archive is written. A `FILE` that is there must be a ledger; it is cut off when it is sure that there is room, before anything of `DEST-FILE` is. A line stands in it only when the kernel has taken the bytes that it speaks of; on a tape, when they are on it, as `--checkpoint-interval` says.",
        set: |a, v| {
            a.checkpoint = Some(args::file(v)?);
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "checkpoint-interval",
        value: Value::Required("SIZE"),
        default: "1Gi",
        on: ARCHIVES,
        text: "On a tape, with `--checkpoint`: have the drive bring all that it has in its buffer onto the tape each time so much was written. Only then does the ledger speak of it. A drive may stop for it, so a small interval costs time.",
        set: |a, v| {
            a.checkpoint_interval = match units::parse_size(v)? {
                0 => return Err("an interval must hold something".into()),
                size => size,
            };
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "checkpoint",
        value: Value::Required("FILE"),
        on: &["mirror verify"],
        text: "Check the ledger `FILE` too: each of its blobs must be in the archive, and end where the ledger says. Of several archives the first is meant.",
        set: |a, v| {
            a.checkpoint = Some(args::file(v)?);
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "existing",
        value: Value::Required("FILE"),
        on: &["mirror verify"],
        text: "What an incremental archive leaves out: a blob that the ledger or archive `FILE` names is not missing. May be repeated.",
        set: |a, v| {
            a.existing.push(args::file(v)?);
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "existing-from-checkpoint",
        value: Value::Required("FILE[:OFFSET]"),
        on: ARCHIVES,
        text: "Leave out every blob that the ledger `FILE` says is on the media already, up to and including `OFFSET`; without one all of them. The last colon separates. The end of a run with `--checkpoint` tells the offset; one beyond the ledger's last is refused. Several are separated by commas; may be repeated.",
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
        text: "Go on with an interrupted `DEST-FILE`, by its ledger: give the same command again, with `--checkpoint` and this. What is there is compared with the plan, but blobs that the ledger speaks of are not read again: damage to the file since then is not found. What is whole is not fetched again, and of the blob that the run stopped in only the rest. The end is the very archive that an uninterrupted run makes. If the sources have moved on meanwhile, the error says which, and nothing is changed. If `DEST-FILE` is not there or empty, the run starts from the beginning. For regular files and tapes. A tape is rewound and brought to the block in which the last blob ends that the ledger speaks of; of several tapes that one must be in the drive on which the ledger says that it ends. That it is the right tape is proved first: by its label, by blocks whose CRC-32 the ledger has, and on the first volume by the archive's beginning. If something else stands behind the archive, it is told, and lost only with `--force`; an archive that is whole is left as it is. If the ledger speaks of nothing yet, the archive begins where the tape stands.",
        set: |a, _| yes(&mut a.resume),
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
        set: |a, _| yes(&mut a.index_fallback),
        ..FLAG
    },
    Flag {
        long: "manifest-json",
        on: SERIALIZES,
        text: "Add a `manifest.json`, so that `docker load`, `podman load` and `ctr images import` read the archive. They take names with a tag only: a source that is named by its digest alone is loaded without a name, where the Go tool of this name writes a name that they refuse.",
        set: |a, _| yes(&mut a.manifest_json),
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
        set: |a, _| yes(&mut a.recursive),
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
        set: |a, _| yes(&mut a.keep_going),
        ..FLAG
    },
    Flag {
        long: "report",
        value: Value::Required("FILE"),
        on: GATHERS,
        text: "Write a JSON array with each source and its outcome (`archived`, `gathered`, `planned`, `unmatched`, `failed` or `incomplete`), digest, bytes and error. A file that holds anything but a report is not written over.",
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
        set: |a, _| yes(&mut a.dry_run),
        ..FLAG
    },
    Flag {
        long: "force",
        on: ARCHIVES,
        text: "Write over a `DEST-FILE` that is a regular file and not empty, or a tape with the label of another series. With `--resume`: give up what stands on the tape behind the archive.",
        set: |a, _| yes(&mut a.force),
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
        long: "input",
        short: Some('i'),
        value: Value::Required("FILE"),
        on: &["util mbuffer"],
        text: "Read this file or device in place of standard input, which is `-`. Of a tape one file is read, up to the filemark; the size of its blocks is found out.",
        set: |a, v| {
            a.input = Some(args::file_or_dash(v)?);
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "output",
        short: Some('o'),
        value: Value::Required("FILE"),
        on: &["util mbuffer"],
        text: "Write this file or device in place of standard output, which is `-`. A tape ends with a filemark, and can be changed when it is full; see `--volume-command`. May be repeated: every output gets all, at the pace of the slowest. One that cannot be opened ends the run before anything is read; one that fails later is left behind, the others go on, and the exit status is 1 at the end.",
        set: |a, v| {
            a.outputs.push(args::file_or_dash(v)?);
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "rate",
        short: Some('R'),
        value: Value::Required("SIZE"),
        on: &["util mbuffer"],
        text: "Write at most so many bytes a second.",
        set: |a, v| {
            a.rate = match units::parse_size(v)? {
                0 => return Err("nothing would ever be written".into()),
                rate => Some(rate),
            };
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "io-timeout",
        value: Value::Required("DURATION"),
        on: &["util mbuffer"],
        text: "End the run when the input has given nothing for so long though there was room in the buffer, or an output has taken nothing of what it was given: `30s`, `5m`. The error names the side. Time in which a tape is changed does not count; a drive that goes back to the last block may need some seconds. Without this it waits for ever.",
        set: |a, v| {
            a.io_timeout = Some(units::parse_duration(v)?);
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "log",
        value: Value::Required("FILE"),
        on: &["util mbuffer"],
        text: "Append every message that goes to standard error to this file too, each with the time, and the summary even with `--quiet`.",
        set: |a, v| {
            a.log = Some(args::file(v)?);
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "sha256",
        on: &["util mbuffer"],
        text: "Print the SHA-256 of what went through on standard error.",
        set: |a, _| yes(&mut a.sha256),
        ..FLAG
    },
    Flag {
        long: "force",
        on: &["util mbuffer"],
        text: "Write over an `--output` that is a regular file and not empty, or a tape with a label.",
        set: |a, _| yes(&mut a.force),
        ..FLAG
    },
    Flag {
        long: "output",
        short: Some('o'),
        value: Value::Required("FORMAT"),
        default: "table",
        on: &["mirror list"],
        text: "How the list is printed: `table` for people, `json` (an array of objects), or `csv` with a header.",
        set: |a, v| {
            a.output = v.parse()?;
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "volume-command",
        value: Value::Required("COMMAND"),
        on: &["mirror archive", "mirror serialize", "util mbuffer"],
        text: "When a tape is full, have `/bin/sh` run this, which must put the next one into the drive; then the stream goes on there. `$ACE_DT_VOLUME` is its number (2 for the second), `$ACE_DT_DEVICE` the drive, and `$ACE_DT_ACTION` `write`. The drive is closed meanwhile. Each further volume begins at the beginning of its tape; a tape that this run wrote already is refused. If the command fails, what it last printed is told, and the run ends. Without it the terminal is asked, if there is one.",
        set: |a, v| {
            a.volume_command = Some(v.into());
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "label",
        value: Value::Required("TEXT"),
        on: ARCHIVES,
        text: "Begin each tape with a block of its own that holds `TEXT` and the number of the volume, so that volumes cannot be mixed up when they are read. It is a TAR member of the type that GNU tar has for such labels.",
        set: |a, v| {
            if v.is_empty() || v.len() > 80 || v.chars().any(char::is_control) {
                return Err(format!("{v:?} is no label: 1 to 80 bytes, on one line"));
            }
            a.label = Some(v.into());
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "volume-command",
        value: Value::Required("COMMAND"),
        on: READS,
        text: "When a tape ends before the archive does, have `/bin/sh` run this, which must put the next one into the drive; `$ACE_DT_VOLUME` is its number (2 for the second), `$ACE_DT_DEVICE` the drive, and `$ACE_DT_ACTION` `read`. If it fails, what it last printed is told. Without it the terminal is asked, if there is one.",
        set: |a, v| {
            a.volume_command = Some(v.into());
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
            "mirror list",
            "mirror serialize",
            "mirror verify",
            "util mbuffer",
            "util prune",
        ],
        text: "Show no progress. Warnings and errors are still told.",
        set: |a, _| yes(&mut a.progress.quiet),
        ..FLAG
    },
    Flag {
        long: "no-term",
        on: PROGRESS,
        text: "Show progress as plain lines, even on a terminal.",
        set: |a, _| yes(&mut a.progress.no_term),
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
            a.policy.idle = units::parse_duration(v)?;
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
            a.policy.retries = v.parse().map_err(|_| format!("{v:?} is not a number"))?;
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
            a.policy.total = units::parse_duration(v)?;
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "generate",
        value: Value::Required("WHAT"),
        text: "Print the man page of the command (`man`), or write the pages of the command and all below it into a directory (`man:DIR`).",
        ..FLAG
    },
    Flag { long: "version", text: "Print the version.", ..FLAG },
    Flag { long: "help", short: Some('h'), text: "Print the help of the command.", ..FLAG },
];
