//! The flags of what brings sources to where a map says.

use crate::{
    cli::{
        args::{self, OnExistingTag},
        flag_table::{FLAG, yes},
        schema::{Flag, FlagGroup, Value},
    },
    mapper::selector,
};

/// What takes a mapper.
const MAPS: &[&str] = &["mirror clone", "mirror scatter", "mirror unarchive"];
/// What copies from registry to registry.
const COPIES: &[&str] = &["mirror clone", "mirror scatter"];

/// These flags, in the order in which they are shown.
pub static MAP_FLAGS: &[Flag] = &[
    Flag {
        long: "selector",
        group: FlagGroup::Take,
        brief: "only sources with these labels",
        short: Some('l'),
        value: Value::Required("LIST"),
        on: MAPS,
        text: "Take only sources whose labels one of these selectors selects, in Kubernetes' syntax: `=`, `==`, `!=`, `in (a,b)`, `notin (a,b)`, `key`, `!key`, and `>` and `<` with whole numbers. Commas separate selectors of which one must hold; may be repeated, which adds further ones. Where several must hold together they are one quoted field: `-l '\"env=prod,tier>2\"'`.",
        set: |a, v| {
            a.selectors.extend(selector::parse_list(v)?);
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "subset",
        group: FlagGroup::Take,
        brief: "only the sources in this list",
        value: Value::Required("SOURCES-FILE"),
        on: MAPS,
        text: "Take only sources whose whole name stands in this list. Labels there do not count. A name that no source has is warned of.",
        set: |a, v| {
            a.subset = Some(args::file(v)?);
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "check",
        group: FlagGroup::GoingOn,
        brief: "print where sources go, and send nothing",
        on: MAPS,
        text: "Print every source and its destination, with a tab between them, and send nothing. Nothing is sent, so that `--report` cannot be given with it.",
        set: |a, _| yes(&mut a.check),
        ..FLAG
    },
    Flag {
        long: "recursive",
        group: FlagGroup::Take,
        brief: "signatures, SBOMs and other referrers, too",
        short: Some('r'),
        on: MAPS,
        text: "Deliver signatures, SBOMs and other referrers, too: of every manifest that is delivered, of those inside an index and of other referrers as well. Where the destination has no referrers API, the index at the subject's referrers tag is kept up to date.",
        set: |a, _| yes(&mut a.recursive),
        ..FLAG
    },
    Flag {
        long: "on-existing-tag",
        group: FlagGroup::Registry,
        brief: "what is done with a tag that is taken",
        choices: &["fail", "keep", "overwrite"],
        value: Value::Required("WHAT"),
        default: "overwrite",
        on: MAPS,
        text: "What is done where a destination's tag names another image already: `overwrite` moves the tag, `keep` leaves the destination out, and `fail` ends the run before anything is sent. `--check` does not look at tags. The same image under the tag is always a success, also where the registry changes no tags.",
        set: |a, v| {
            a.on_existing_tag = match v {
                "overwrite" => OnExistingTag::Overwrite,
                "keep" => OnExistingTag::Keep,
                "fail" => OnExistingTag::Fail,
                _ => return Err(format!("{v:?} is none of overwrite, keep, fail")),
            };
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "reference",
        group: FlagGroup::Output,
        brief: "has no effect",
        value: Value::Required("REF"),
        default: "latest",
        on: &["mirror unarchive"],
        text: "Has no effect: each image has the tag that its destination says.",
        set: |a, v| {
            a.reference = v.into();
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "continue",
        group: FlagGroup::GoingOn,
        brief: "leave out what fails",
        on: COPIES,
        text: "Leave out what cannot be fetched or sent, or whose destination is none, deliver the rest, and exit with 1 at the end.",
        set: |a, _| yes(&mut a.keep_going),
        ..FLAG
    },
    Flag {
        long: "report",
        group: FlagGroup::Output,
        brief: "write what became of each image, as JSON",
        value: Value::Required("FILE"),
        on: COPIES,
        text: "Write a JSON array with each source and destination and its outcome (`delivered`, `kept`, `unmapped`, `unmatched` by `--platforms`, `incomplete` or `failed`, with what is missing or why), and each blob (`sent`, `mounted`, `present`, `missing` or `failed`), with digest and bytes. A file that holds anything but a report is not written over.",
        set: |a, v| {
            a.report = Some(args::file(v)?);
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "platforms",
        group: FlagGroup::Take,
        brief: "only these, os/arch[/variant]",
        short: Some('p'),
        value: Value::Required("LIST"),
        default: "all",
        on: &["mirror clone"],
        text: "Only these platforms, as `os/arch[/variant]`. Of an image for several of them the destination gets an index of those that were taken. Destinations are worked out before platforms are selected.",
        set: |a, v| {
            for part in args::list(v)? {
                a.platforms.push(part.parse()?);
            }
            Ok(())
        },
        ..FLAG
    },
];
