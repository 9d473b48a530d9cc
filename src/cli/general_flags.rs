//! The flags of buffers, tapes, credentials, progress, registries and the program itself.

use crate::cli::{
    args,
    flag_table::{FLAG, yes},
    schema::{Flag, Value},
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
    "mirror scatter",
    "mirror serialize",
    "mirror unarchive",
    "mirror verify",
    "util mbuffer",
];
/// What reads archives that may go on on another tape.
const READS: &[&str] = &["mirror deserialize", "mirror list", "mirror unarchive", "mirror verify"];

/// These flags, in the order in which they are shown, behind those of [`super::flag_table`].
pub static GENERAL_FLAGS: &[Flag] = &[
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
            "mirror batch-deserialize",
            "mirror batch-serialize",
            "mirror clone",
            "mirror deserialize",
            "mirror gather",
            "mirror list",
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
