//! The flags of what reads archives: how they are read, and what becomes of what is damaged or missing.

use crate::cli::{
    args,
    flag_table::{FLAG, yes},
    schema::{Flag, FlagGroup, Value},
};
use crate::util::units;

/// What brings an archive into a registry.
const DELIVERS: &[&str] = &["mirror batch-deserialize", "mirror deserialize", "mirror unarchive"];
const DESERIALIZES: &[&str] = &["mirror batch-deserialize", "mirror deserialize"];
/// What delivers an archive that is named.
const ARCHIVES: &[&str] = &["mirror deserialize", "mirror unarchive"];
/// What can look again.
const LOOKS: &[&str] =
    &["mirror batch-deserialize", "mirror clone", "mirror deserialize", "mirror scatter", "mirror unarchive"];
const BATCH: &[&str] = &["mirror batch-deserialize"];
const DIFF: &[&str] = &["mirror diff"];
const VERIFY: &[&str] = &["mirror verify"];

/// What a read asks for with `--block-size 0`.
const READ_SIZE: u64 = 64 << 10;
const READ_SIZE_MAX: u64 = 1 << 30;

/// These flags, in the order in which they are shown.
pub static DELIVER_FLAGS: &[Flag] = &[
    Flag {
        long: "block-size",
        group: FlagGroup::Device,
        brief: "read so much at once",
        short: Some('b'),
        value: Value::Required("SIZE"),
        on: DELIVERS,
        text: "Read so much at once, up to 1Gi; 0 stands for 64Ki. A tape needs no such hint: the size of its blocks is found out.",
        set: |a, v| {
            a.block_size = match units::parse_size(v)? {
                0 => READ_SIZE,
                size if size > READ_SIZE_MAX => return Err("a read has at most 1Gi".into()),
                size => size,
            };
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "buffer-size",
        group: FlagGroup::Device,
        brief: "the buffer in memory",
        short: Some('m'),
        value: Value::Required("SIZE"),
        default: "0",
        on: DELIVERS,
        text: "Size of the buffer in memory between a tape, pipe or compressed file and the registry. What a tape cannot give twice is sent again out of the buffer. With 0 there is only a small one, and no low-water mark. An uncompressed file needs none: it is read where its blobs lie.",
        set: |a, v| {
            a.buffer_size = units::parse_size(v)?;
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "lwm",
        group: FlagGroup::Device,
        brief: "empty the buffer so far before reading",
        value: Value::Required("PERCENT"),
        default: "10",
        on: DELIVERS,
        text: "Low-water mark: when the buffer was full, read on only when it has run down to this percentage. A drive so runs in long strokes instead of stopping again and again.",
        set: |a, v| {
            let percent = v.trim_end_matches('%').parse().ok().filter(|p| *p < 100);
            a.lwm = percent.ok_or_else(|| format!("{v:?} is not a percentage from 0 to 99"))?;
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "strict",
        group: FlagGroup::Take,
        brief: "only archives in the order of this tool",
        on: DELIVERS,
        text: "Take only archives whose members stand in the order that this tool writes: `oci-layout`, `index.json`, the blobs, `index.json` again, and `manifest.json` if it is there.",
        set: |a, _| yes(&mut a.strict),
        ..FLAG
    },
    Flag {
        long: "recursive",
        group: FlagGroup::Take,
        brief: "has no effect: referrers are always taken",
        short: Some('r'),
        on: DESERIALIZES,
        text: "Makes no difference: signatures, SBOMs and other referrers in an archive are always delivered.",
        set: |a, _| yes(&mut a.recursive),
        ..FLAG
    },
    Flag {
        long: "continue",
        group: FlagGroup::GoingOn,
        brief: "go on behind what is damaged",
        on: ARCHIVES,
        text: "Go on behind what is damaged or cannot be read, and without what the registry does not take. Every image that is whole is delivered; what is missing of the others is told, and the exit status is 1.",
        set: |a, _| yes(&mut a.keep_going),
        ..FLAG
    },
    Flag {
        long: "continue",
        group: FlagGroup::GoingOn,
        brief: "go on with the other files if one fails",
        on: BATCH,
        text: "Go on with the other files if one fails, and within a file as `ace-dt mirror deserialize` does; exit with 1 at the end.",
        set: |a, _| yes(&mut a.keep_going),
        ..FLAG
    },
    Flag {
        long: "continue",
        group: FlagGroup::GoingOn,
        brief: "go on behind what cannot be read",
        on: VERIFY,
        text: "Go on behind blocks of a tape, or pages of a file, that cannot be read.",
        set: |a, _| yes(&mut a.keep_going),
        ..FLAG
    },
    Flag {
        long: "wanted",
        group: FlagGroup::GoingOn,
        brief: "write a list of what must be sent again",
        value: Value::Required("FILE"),
        on: ARCHIVES,
        text: "Write a list of what must be sent again: a line for each source that is not whole, by its digest and with its labels, as `ace-dt mirror archive` takes it. If nothing is missing it holds a comment only. Behind damage that ends the run everything is missing: give `--continue`, too. What holds anything but such a list is not written over.",
        set: |a, v| {
            a.wanted = Some(args::file(v)?);
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "wanted",
        group: FlagGroup::GoingOn,
        brief: "write a list of what must be sent again",
        value: Value::Required("FILE"),
        on: VERIFY,
        text: "Write a list of what must be sent again: a line for each source that is not whole, by its digest and with its labels, as `ace-dt mirror archive` takes it. What holds anything but such a list is not written over.",
        set: |a, v| {
            a.wanted = Some(args::file(v)?);
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "subset",
        group: FlagGroup::Take,
        brief: "check only this share of the blobs, 1/4",
        value: Value::Required("I/N"),
        on: VERIFY,
        text: "Check the digests of share `I` of `N` of the blobs only, and of all manifests where they stand; what is missing is found all the same. A blob's own digest decides in which share it is, so that the `N` shares together are all blobs: a shelf of tapes can be checked a share a month.",
        set: |a, v| {
            a.share = Some(v.parse()?);
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "root",
        group: FlagGroup::Take,
        brief: "the root that the archive must have",
        value: Value::Required("DIGEST"),
        on: VERIFY,
        text: "The root that the archive must have, as it was announced: anything else is wrong. Of several archives the first is meant.",
        set: |a, v| {
            a.root = Some(v.parse().map_err(|why| format!("{v:?} is no digest: {why}"))?);
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "report",
        group: FlagGroup::Output,
        brief: "write what became of each image, as JSON",
        value: Value::Required("FILE"),
        on: ARCHIVES,
        text: "Write a JSON array with each image and its outcome (`delivered`, `planned` or `incomplete`, with what is missing), and each blob (`sent`, `mounted`, `present`, `planned`, `missing` or `failed`), with digest and bytes. Of what a map says there is an object for each source and destination; a source may also be `failed`, `unmapped`, or `kept` if the destination has another image under that tag. A file that holds anything but a report is not written over.",
        set: |a, v| {
            a.report = Some(args::file(v)?);
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "dry-run",
        group: FlagGroup::GoingOn,
        brief: "print what would be sent, to the byte",
        on: DELIVERS,
        text: "Read and check all, find out what the registry has, and print what would be sent, to the byte. Send nothing.",
        set: |a, _| yes(&mut a.dry_run),
        ..FLAG
    },
    Flag {
        long: "verify",
        group: FlagGroup::GoingOn,
        brief: "look again when all is delivered",
        on: LOOKS,
        text: "Look again when all is delivered: every manifest is asked for wherever it should be, and every tag. What differs is an error.",
        set: |a, _| yes(&mut a.verify),
        ..FLAG
    },
    Flag {
        long: "checkpoint",
        group: FlagGroup::GoingOn,
        brief: "record what is delivered",
        value: Value::Required("FILE"),
        on: ARCHIVES,
        text: "Record now and then up to which place of the archive all is delivered, and what waits for something behind it. A `FILE` that is there must be such a record, or empty; when all is delivered it is removed.",
        set: |a, v| {
            a.checkpoint = Some(args::file(v)?);
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "resume",
        group: FlagGroup::GoingOn,
        brief: "go on where that record ends",
        on: ARCHIVES,
        text: "Go on where the record that `--checkpoint` names ends: a tape is brought to that block, a file is read from there, and a pipe or a compressed archive from its beginning, past what is there. The record of another archive is refused, if the root can be read. On a tape the volume that the record names must be in the drive. Without a record the run starts from the beginning.",
        set: |a, _| yes(&mut a.resume),
        ..FLAG
    },
    Flag {
        long: "output",
        group: FlagGroup::Output,
        brief: "how the list is printed, or into which file",
        choices: &["csv", "json", "table"],
        short: Some('o'),
        value: Value::Required("FORMAT"),
        on: DIFF,
        text: "How the list is printed: `table` for people, `json` (an array of objects, on one line), or `csv` with a header. `FORMAT=FILE` writes it to a file, which is cut off first. Several are separated by commas; may be repeated. Without it a table is printed.",
        set: |a, v| {
            for part in args::list(v)? {
                let (format, file) = match part.split_once('=') {
                    Some((format, file)) => (format, Some(args::file(file)?)),
                    None => (part.as_str(), None),
                };
                a.listings.push((format.parse()?, file));
            }
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "expand",
        group: FlagGroup::Take,
        brief: "take gathered artifacts apart",
        on: DIFF,
        text: "Replace a gathered artifact among the sources by its own sources, at any depth.",
        set: |a, _| yes(&mut a.expand),
        ..FLAG
    },
    Flag {
        long: "bytes",
        group: FlagGroup::Output,
        brief: "tell the bytes that each source adds",
        on: DIFF,
        text: "Tell how many bytes each source adds to the existing images and to the sources before it: what an increment would carry. All manifests are fetched for that.",
        set: |a, _| yes(&mut a.bytes),
        ..FLAG
    },
    Flag {
        long: "sync-filename",
        group: FlagGroup::GoingOn,
        brief: "the file that records what was delivered",
        value: Value::Required("NAME"),
        default: "successful-syncs.csv",
        on: BATCH,
        text: "Name of the file in `SYNC-DIRECTORY` that records what was delivered.",
        set: |a, v| {
            if v.is_empty() || v.contains('/') {
                return Err(format!("{v:?} is no name of a file"));
            }
            a.sync_filename = v.into();
            Ok(())
        },
        ..FLAG
    },
];
