//! The flags and commands of lists that several drives or hosts share.

use super::{
    args,
    flag_table::FLAG,
    schema::{Action, Command, Count, Flag, FlagGroup, Operand, Value},
    sections::{ARCHIVE_STATUS, ENVIRONMENT, FILES},
};
use crate::{
    shards::{choice::ShardChoice, partition::SHARDS_MAX},
    util::units,
};

const PLAN: &[&str] = &["mirror plan"];

/// These flags, in the order in which they are shown.
pub static SHARD_FLAGS: &[Flag] = &[
    Flag {
        long: "shards",
        group: FlagGroup::Take,
        brief: "divide among so many",
        value: Value::Required("N"),
        default: "1",
        on: PLAN,
        text: "Divide the sources among so many shards, from 1 to 4096: one for each drive, or for each job of a scheduler.",
        set: |a, v| {
            let shards = v.parse().ok().filter(|shards| (1..=SHARDS_MAX).contains(shards));
            a.shards = shards.ok_or_else(|| format!("{v:?} is not a number from 1 to {SHARDS_MAX}"))?;
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "balance",
        group: FlagGroup::Take,
        brief: "how uneven shards may be",
        value: Value::Required("PERCENT"),
        default: "5",
        on: PLAN,
        text: "The largest shard may be larger by so many percent than in the evenest division found, from 0 to 1000, where so fewer bytes are stored twice.",
        set: |a, v| {
            let percent = v.trim_end_matches('%').parse().ok().filter(|percent| *percent <= 1000);
            a.balance = percent.ok_or_else(|| format!("{v:?} is not a percentage from 0 to 1000"))?;
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "volume-size",
        group: FlagGroup::Device,
        brief: "what a cartridge holds",
        value: Value::Required("SIZE"),
        on: PLAN,
        text: "What a cartridge holds, such as `18T`: how many each shard takes is told.",
        set: |a, v| {
            a.volume_size = match units::parse_size(v)? {
                0 => return Err("a cartridge must hold something".into()),
                size => Some(size),
            };
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "output",
        short: Some('o'),
        group: FlagGroup::Output,
        brief: "write the plan there",
        value: Value::Required("FILE"),
        on: PLAN,
        text: "Write the plan to `FILE`, replaced as a whole; what is there must be a plan. With `-` it goes to standard output, and the table to standard error. Without this flag only the table is printed.",
        set: |a, v| {
            a.dest = Some(args::file_or_dash(v)?);
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "output",
        short: Some('o'),
        group: FlagGroup::Output,
        brief: "write the merged report there",
        value: Value::Required("FILE"),
        default: "-",
        on: &["mirror report merge"],
        text: "Write the merged report to `FILE`, replaced as a whole; what is there must be a report. `-` is standard output.",
        set: |a, v| {
            a.dest = Some(args::file_or_dash(v)?).filter(|dest| dest.as_os_str() != "-");
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "plan",
        group: FlagGroup::Take,
        brief: "archive a shard of this plan",
        value: Value::Required("PLAN"),
        on: &["mirror archive"],
        text: "Archive a shard of the plan that `ace-dt mirror plan` made, in place of a `SOURCES-FILE`: `--shard` says which. Nothing is resolved anew, so that every host sees the same, and the archive is the same wherever it is made. In `DEST-FILE`, `--checkpoint`, `--report`, `--label`, `--chart` and `--metrics` each `{shard}` stands for the number of the shard. If the checkpoint says that the shard is whole, and it is there, nothing is written, and the exit status is 0: an uncompressed file is looked at without asking any registry.",
        set: |a, v| {
            a.plan = Some(args::file(v)?);
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "plan",
        group: FlagGroup::Take,
        brief: "these are all the shards of this plan",
        value: Value::Required("PLAN"),
        on: &["mirror deserialize", "mirror list", "mirror unarchive", "mirror verify", "util serve"],
        text: "What is given are the archives of all shards of a plan that `ace-dt mirror plan` made, in any order: each must be there once, and no other. They are taken as one archive of all sources: its root is the gather index over all, which the plan has.",
        set: |a, v| {
            a.plan = Some(args::file(v)?);
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "shard",
        group: FlagGroup::Take,
        brief: "which shard, counted from 1",
        value: Value::Required("I/N"),
        on: &["mirror archive"],
        text: "With `--plan`: make shard `I` of `N`. The first shard is 1, and not 0. Without this flag a scheduler says which: `$SLURM_ARRAY_TASK_ID` with `$SLURM_ARRAY_TASK_MIN` and `$SLURM_ARRAY_TASK_COUNT`, whose smallest task makes shard 1; or `$JOB_COMPLETION_INDEX` of Kubernetes, which counts from 0. If both are set, or the plan has not so many shards, that is an error.",
        set: |a, v| {
            a.shard = Some(ShardChoice::parse(v)?);
            Ok(())
        },
        ..FLAG
    },
];

/// `mirror plan`.
pub const PLAN_COMMAND: Command = Command {
    name: "mirror plan",
    summary: "divide a list among several drives or hosts",
    operands: &[
        Operand {
            name: "SOURCES-FILE",
            count: Count::One,
            text: "One image a line: its reference, then labels, as CSV. `-` is standard input.",
        },
        Operand {
            name: "EXISTING-IMAGE",
            count: Count::Any,
            text: "Leave out the blobs (not the manifests) of these images: they are at the destination already.",
        },
    ],
    description: "Resolves every source once, as `ace-dt mirror archive` does, and divides the sources among `--shards` shards. `ace-dt mirror archive --plan` then makes the archive of one shard, on whichever host. Tags may move meanwhile: the plan has the digests, and every host goes by them.\n\n\
        The shards have nearly the same bytes, and sources that share blobs stay together as far as that allows. A source is in one shard with all that it consists of: an index with its platforms, with `--recursive` all that refers to it, and with it what lies under cosign's tags (`--digest-tags`). The same sources are always divided in the same way.\n\n\
        Prints a line for each shard: sources, blobs, bytes of the archive, how many of these other shards hold too, with `--volume-size` the cartridges that it takes; and below what is stored more than once because of the division, and the root of all, which is to be announced. More shards than there are sources, or than they can be divided among, leave some without any: of these no archive is made.\n\n\
        The plan is JSON, as `ace-dt-plan(5)` has it. It holds no secrets. It goes with the archives: on the other side `--plan` proves that all shards have arrived, and delivers them as one.",
    sections: &[
        ("ENVIRONMENT", ENVIRONMENT),
        ("FILES", FILES),
        ("EXIT STATUS", ARCHIVE_STATUS),
        (
            "EXAMPLES",
            "See how four drives would share a list, on cartridges of 18 TB:\n\n    \
             ace-dt mirror plan --shards 4 --volume-size 18T sources.list\n\n\
             Make the plan, and on each of two hosts the archive of its shard:\n\n    \
             ace-dt mirror plan -r --shards 2 -o week.plan sources.list\n    \
             ace-dt mirror archive --plan week.plan --shard 1/2 --checkpoint 1.checkpoint week-1.tar\n    \
             ace-dt mirror archive --plan week.plan --shard 2/2 --checkpoint 2.checkpoint week-2.tar\n\n\
             Check on the other side that both are there and whole:\n\n    \
             ace-dt mirror verify --plan week.plan week-1.tar week-2.tar",
        ),
        (
            "DIAGNOSTICS",
            "With `--continue`, sources that fail are left out of the plan, and the exit status is 1; the plan of what is left is written all the same.",
        ),
    ],
    action: Some(Action::Plan),
};

/// `mirror report`.
pub const REPORT_COMMAND: Command = Command {
    name: "mirror report",
    summary: "reports of runs",
    operands: &[],
    description: "What is done with the files that `--report` writes.",
    sections: &[],
    action: None,
};

/// `mirror report merge`.
pub const MERGE_COMMAND: Command = Command {
    name: "mirror report merge",
    summary: "make one report of those of all shards",
    operands: &[
        Operand { name: "REPORT", count: Count::One, text: "What `ace-dt mirror archive --plan --report` wrote." },
        Operand { name: "REPORT", count: Count::Any, text: "Those of the other shards, in any order." },
    ],
    description: "Makes one report of the reports of all shards of a plan: a JSON array with an object for each shard, in their order, and then one for each source, in the order of their names. Every shard must be there once, and all must be of the same plan; otherwise nothing is written.",
    sections: &[
        (
            "EXIT STATUS",
            "0 if all sources are in an archive, 1 if something is not, or if the reports do not belong together, 2 on wrong usage.",
        ),
        (
            "EXAMPLES",
            "Merge what four jobs have left:\n\n    \
             ace-dt mirror report merge -o week.json 1.json 2.json 3.json 4.json",
        ),
    ],
    action: Some(Action::MergeReports),
};
