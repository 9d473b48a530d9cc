//! The flags of buffers, tapes, credentials, progress, registries and the program itself.

use crate::cli::{
    args::{self, Args, ListFormat},
    flag_table::{FLAG, yes},
    schema::{Flag, FlagGroup, Value},
};
use crate::{log::Level, util::units};

/// What writes an archive.
const ARCHIVES: &[&str] = &["mirror archive", "mirror serialize"];
/// What shows progress.
const PROGRESS: &[&str] = &[
    "mirror archive",
    "mirror batch-deserialize",
    "mirror batch-serialize",
    "mirror clone",
    "mirror deserialize",
    "mirror gather",
    "mirror plan",
    "mirror scatter",
    "mirror serialize",
    "mirror unarchive",
    "mirror verify",
    "util mbuffer",
];
/// What shows how it went.
const CHARTS: &[&str] =
    &["mirror archive", "mirror deserialize", "mirror serialize", "mirror unarchive", "util mbuffer"];
/// What reads archives that may go on on another tape.
const READS: &[&str] = &["mirror deserialize", "mirror list", "mirror unarchive", "mirror verify"];

/// How something is printed that has no form as CSV.
///
/// # Errors
/// If it is none of the two.
pub(super) fn table_or_json(args: &mut Args, text: &str) -> Result<(), String> {
    args.output = match text.parse()? {
        ListFormat::Csv => return Err(format!("{text:?} is none of table, json")),
        format => format,
    };
    Ok(())
}

/// These flags, in the order in which they are shown, behind those of [`super::flag_table`].
pub static GENERAL_FLAGS: &[Flag] = &[
    Flag {
        long: "input",
        group: FlagGroup::Device,
        brief: "read this file or device",
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
        group: FlagGroup::Device,
        brief: "write this file or device",
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
        group: FlagGroup::Device,
        brief: "write at most so many bytes a second",
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
        group: FlagGroup::Device,
        brief: "end a run that is stuck for so long",
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
        group: FlagGroup::Output,
        brief: "append messages to this file",
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
        group: FlagGroup::Output,
        brief: "print the SHA-256 of what went through",
        on: &["util mbuffer"],
        text: "Print the SHA-256 of what went through on standard error.",
        set: |a, _| yes(&mut a.sha256),
        ..FLAG
    },
    Flag {
        long: "force",
        group: FlagGroup::Device,
        brief: "write over a file, or a labelled tape",
        on: &["util mbuffer"],
        text: "Write over an `--output` that is a regular file and not empty, or a tape with a label.",
        set: |a, _| yes(&mut a.force),
        ..FLAG
    },
    Flag {
        long: "output",
        group: FlagGroup::Output,
        brief: "how the list is printed",
        choices: &["csv", "json", "table"],
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
        long: "output",
        group: FlagGroup::Output,
        brief: "how it is printed",
        choices: &["json", "table"],
        short: Some('o'),
        value: Value::Required("FORMAT"),
        default: "table",
        on: &["mirror archive", "mirror verify"],
        text: "How what is found, or with `--dry-run` the plan, is printed: lines for people (`table`), or `json`: for `ace-dt mirror verify` an array of objects with `kind` (the word that begins the line) and `text`, or `reference`, `digest` and `brokenParts` of an image; for a plan one object with its `sources`, `root`, counts and `size`.",
        set: table_or_json,
        ..FLAG
    },
    Flag {
        long: "tree",
        group: FlagGroup::Output,
        brief: "draw indexes, platforms, layers, referrers",
        on: &["mirror list"],
        text: "Draw what is in the archive as a tree in place of the list: sources, indexes, platforms, configurations, layers and referrers, each with media type, bytes and digest; by how many manifests a thing is shared, and what is not in the archive.",
        set: |a, _| yes(&mut a.tree),
        ..FLAG
    },
    Flag {
        long: "volume-command",
        group: FlagGroup::Device,
        brief: "puts the next tape into the drive",
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
        group: FlagGroup::Device,
        brief: "begin each tape with this label",
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
        group: FlagGroup::Device,
        brief: "puts the next tape into the drive",
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
        group: FlagGroup::GoingOn,
        brief: "the file that records what was sent",
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
        group: FlagGroup::Registry,
        brief: "who is to be logged in",
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
        group: FlagGroup::Registry,
        brief: "read the password from standard input",
        on: &["login"],
        required_by: &["login"],
        text: "Read the password, or an access token, from standard input; on a terminal it is asked for, and not shown. There is no other way to give it: the arguments of a process can be seen by others.",
        ..FLAG
    },
    Flag {
        long: "sample",
        group: FlagGroup::Output,
        brief: "print a commented sample",
        on: &["config"],
        text: "Print a sample in place of the configuration in effect: every key, explained, with the value that counts without it.",
        set: |a, _| yes(&mut a.sample),
        ..FLAG
    },
    Flag {
        long: "quiet",
        group: FlagGroup::Output,
        brief: "no progress",
        short: Some('q'),
        on: &[
            "login",
            "logout",
            "mirror archive",
            "mirror batch-deserialize",
            "mirror batch-serialize",
            "mirror clone",
            "mirror deserialize",
            "mirror gather",
            "mirror list",
            "mirror plan",
            "mirror scatter",
            "mirror serialize",
            "mirror unarchive",
            "mirror verify",
            "util mbuffer",
            "util serve",
            "util prune",
        ],
        text: "Show no progress. Warnings and errors are still told.",
        set: |a, _| yes(&mut a.progress.quiet),
        ..FLAG
    },
    Flag {
        long: "no-term",
        group: FlagGroup::Output,
        brief: "progress as plain lines",
        on: PROGRESS,
        text: "Show progress as plain lines, even on a terminal.",
        set: |a, _| yes(&mut a.progress.no_term),
        ..FLAG
    },
    Flag {
        long: "progress",
        group: FlagGroup::Output,
        brief: "how progress is shown",
        choices: &["auto", "json", "plain"],
        value: Value::Required("STYLE"),
        default: "auto",
        on: PROGRESS,
        text: "How progress is shown on standard error: `auto` (redrawn on a terminal, a line every ten seconds elsewhere), `plain`, or `json` (an object a line, every second, as `ace-dt-progress(5)` has it).",
        set: |a, v| {
            a.progress.style = v.parse()?;
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "chart",
        group: FlagGroup::Output,
        brief: "draw how the run went, as SVG",
        value: Value::Required("FILE"),
        on: CHARTS,
        text: "Write a picture of the run into this file when it ends, however it ends: SVG that stands alone, with the fill of the buffer, its mark, when the device was written to, and the rates in and out over the time. A run of any length makes at most 100 kilobytes. A delivery has no buffer to be drawn. A chart that is there is replaced, and anything else is not.",
        set: |a, v| {
            a.progress.chart = Some(args::file(v)?);
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "metrics",
        group: FlagGroup::Output,
        brief: "write figures for Prometheus",
        value: Value::Required("FILE"),
        on: CHARTS,
        text: "Write how the run stands into this file every five seconds and at the end, for the textfile collector of Prometheus's node exporter; its name must end in `.prom` for that. It is replaced as a whole each time.",
        set: |a, v| {
            a.progress.metrics = Some(args::file(v)?);
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "debug",
        group: FlagGroup::Output,
        brief: "write progress to logs.txt in here",
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
        group: FlagGroup::Registry,
        brief: "read the configuration from this file",
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
        group: FlagGroup::Output,
        brief: "how much is told",
        choices: &["debug", "error", "info", "warn"],
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
        group: FlagGroup::Registry,
        brief: "give up a registry that is silent for so long",
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
        group: FlagGroup::Registry,
        brief: "try a request again so often",
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
        group: FlagGroup::Registry,
        brief: "give up a request after so long",
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
        group: FlagGroup::Program,
        brief: "write the man page",
        value: Value::Required("WHAT"),
        text: "Print the man page of the command (`man`), or write the pages of the command and all below it into a directory (`man:DIR`).",
        ..FLAG
    },
    Flag { long: "version", brief: "print the version", text: "Print the version.", ..FLAG },
    Flag {
        long: "help",
        short: Some('h'),
        brief: "this; --help is all of it",
        text: "Print the help of the command: `-h` a line a flag, `--help` all of it.",
        ..FLAG
    },
];
