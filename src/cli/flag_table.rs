//! The flags of what is taken, left out, written and gone on with: names, values, defaults, the commands that take them,
//! and their texts. Those of everything else are in [`super::general_flags`].

use crate::cli::{
    args,
    schema::{Flag, FlagGroup, Value},
};
use crate::util::units;

const ARCHIVE: &[&str] = &["mirror archive"];
const BATCH: &[&str] = &["mirror batch-serialize"];
/// What begins with a list of sources.
const GATHERS: &[&str] = &["mirror archive", "mirror gather", "mirror plan"];
/// What writes an archive.
const ARCHIVES: &[&str] = &["mirror archive", "mirror serialize"];
/// What writes archives, one or many.
const SERIALIZES: &[&str] = &["mirror archive", "mirror batch-serialize", "mirror serialize"];
/// What writes a device.
const WRITES: &[&str] = &["mirror archive", "mirror batch-serialize", "mirror serialize", "util mbuffer", "util mux"];
/// What writes a device through the ring.
const BUFFERS: &[&str] = &["mirror archive", "mirror batch-serialize", "mirror serialize", "util mbuffer"];
/// What copies referrers.
const RECURSIVE: &[&str] =
    &["mirror archive", "mirror batch-serialize", "mirror gather", "mirror plan", "mirror serialize"];
/// What looks for referrers in registries.
const REFERRERS: &[&str] = &[
    "mirror archive",
    "mirror batch-serialize",
    "mirror clone",
    "mirror gather",
    "mirror plan",
    "mirror scatter",
    "mirror serialize",
];
/// What reads archives.
const READS: &[&str] = &["mirror list", "mirror verify"];

/// A flag without a value was given.
///
/// # Errors
/// None.
pub(super) fn yes(flag: &mut bool) -> Result<(), String> {
    *flag = true;
    Ok(())
}

/// What most flags are.
pub(super) const FLAG: Flag = Flag {
    long: "",
    short: None,
    group: FlagGroup::Program,
    brief: "",
    choices: &[],
    value: Value::None,
    default: "",
    env: "",
    env_sets_it: false,
    on: &[],
    required_by: &[],
    text: "",
    set: |_, _| Ok(()),
};

/// These flags, in the order in which they are shown.
pub static FLAGS: &[Flag] = &[
    Flag {
        long: "annotations",
        group: FlagGroup::Take,
        brief: "annotations of the gather index, key=value",
        short: Some('a'),
        value: Value::Required("MAP"),
        on: GATHERS,
        text: "Put these annotations on the gather index: `key=value`, several separated by commas. A pair that holds a comma is quoted as in CSV. May be repeated.",
        set: |a, v| args::map(v, &mut a.annotations),
        ..FLAG
    },
    Flag {
        long: "block-size",
        group: FlagGroup::Device,
        brief: "bytes of a block",
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
        group: FlagGroup::Device,
        brief: "read so much at once",
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
        group: FlagGroup::Device,
        brief: "the buffer in memory",
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
        group: FlagGroup::Device,
        brief: "fill the buffer so far before writing",
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
        group: FlagGroup::GoingOn,
        brief: "write a checkpoint of what the archive holds",
        value: Value::Required("FILE"),
        on: ARCHIVES,
        text: "Write a checkpoint of what the archive holds up to which offset, one line for each blob, while the archive is written. A `FILE` that is there must be a checkpoint; it is cut off when it is sure that there is room, before anything of `DEST-FILE` is. A line stands in it only when the kernel has taken the bytes that it speaks of; on a tape, when they are on it, as `--checkpoint-interval` says.",
        set: |a, v| {
            a.checkpoint = Some(args::file(v)?);
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "checkpoint-interval",
        group: FlagGroup::Device,
        brief: "bring a tape up to date each time",
        value: Value::Required("SIZE"),
        default: "1Gi",
        on: ARCHIVES,
        text: "On a tape, with `--checkpoint`: have the drive bring all that it has in its buffer onto the tape each time so much was written. Only then does the checkpoint speak of it. A drive may stop for it, so a small interval costs time.",
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
        group: FlagGroup::GoingOn,
        brief: "check this checkpoint, too",
        value: Value::Required("FILE"),
        on: &["mirror verify"],
        text: "Check the checkpoint `FILE` too: each of its blobs must be in the archive, and end where the checkpoint says. Of several archives the first is meant.",
        set: |a, v| {
            a.checkpoint = Some(args::file(v)?);
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "existing",
        group: FlagGroup::Take,
        brief: "what an increment leaves out is in here",
        value: Value::Required("FILE"),
        on: &["mirror verify"],
        text: "What an incremental archive leaves out: a blob that the checkpoint or archive `FILE` names is not missing. It is not read again. An archive that was cut off counts as far as it goes. May be repeated.",
        set: |a, v| {
            a.existing.push(args::file(v)?);
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "existing-from-checkpoint",
        group: FlagGroup::Take,
        brief: "leave out what this checkpoint has",
        value: Value::Required("FILE[:OFFSET]"),
        on: &["mirror archive", "mirror plan", "mirror serialize"],
        text: "Leave out every blob that the checkpoint `FILE` says is on the media already, up to and including `OFFSET`; without one all of them. The last colon separates. The end of a run with `--checkpoint` tells the offset; one beyond the checkpoint's last is refused. Several are separated by commas; may be repeated.",
        set: |a, v| {
            for part in args::list(v)? {
                a.existing_from_checkpoint.push(args::checkpoint(&part)?);
            }
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "resume",
        group: FlagGroup::GoingOn,
        brief: "go on with an interrupted archive",
        on: ARCHIVES,
        text: "Go on with an interrupted `DEST-FILE`, by its checkpoint: give the same command again, with `--checkpoint` and this. What is there is compared with the plan, but blobs that the checkpoint speaks of are not read again: damage to the file since then is not found. What is whole is not fetched again, and of the blob that the run stopped in only the rest. The end is the very archive that an uninterrupted run makes. If the sources have moved on meanwhile, the error says which, and nothing is changed. If `DEST-FILE` is not there or empty, the run starts from the beginning. For regular files and tapes. A tape is rewound and brought to the block in which the last blob ends that the checkpoint speaks of; of several tapes that one must be in the drive on which the checkpoint says that it ends. That it is the right tape is proved first: by its label, by blocks whose CRC-32 the checkpoint has, and on the first volume by the archive's beginning. If something else stands behind the archive, it is told, and lost only with `--force`; an archive that is whole is left as it is. If the checkpoint speaks of nothing yet, the archive begins where the tape stands.",
        set: |a, _| yes(&mut a.resume),
        ..FLAG
    },
    Flag {
        long: "compression",
        group: FlagGroup::Device,
        brief: "compress the archive",
        choices: &["gzip", "zstd"],
        value: Value::Required("FORMAT"),
        default: "none",
        on: SERIALIZES,
        text: "Compress the archive with `zstd` or `gzip`, by as many threads as there are processors; the key `compressionLevel` of the configuration (`min`, `normal`, `max`) says how much. A frame ends at the latest where a blob ends, so that the checkpoint's offsets are true. What does not shrink is passed at little cost.",
        set: |a, v| {
            a.compression = if v == "none" { None } else { Some(v.parse()?) };
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "index-fallback",
        group: FlagGroup::Take,
        brief: "for registries without nested indexes",
        on: GATHERS,
        text: "Move indexes out of the gather index's manifests into an annotation, for registries that take no nested indexes.",
        set: |a, _| yes(&mut a.index_fallback),
        ..FLAG
    },
    Flag {
        long: "manifest-json",
        group: FlagGroup::Output,
        brief: "so that docker load can read it",
        on: SERIALIZES,
        text: "Add a `manifest.json`, so that `docker load`, `podman load` and `ctr images import` read the archive. They take names with a tag only: a source that is named by its digest alone is loaded without a name, where the Go tool of this name writes a name that they refuse. Of an image for several platforms it names the one for linux/amd64, or else the first. They need all of its blobs: with what is left out because it exists already they cannot load it.",
        set: |a, _| yes(&mut a.manifest_json),
        ..FLAG
    },
    Flag {
        long: "platforms",
        group: FlagGroup::Take,
        brief: "only these, os/arch[/variant]",
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
        group: FlagGroup::Output,
        brief: "name of the gather index",
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
        group: FlagGroup::Take,
        brief: "signatures, SBOMs and other referrers, too",
        short: Some('r'),
        on: RECURSIVE,
        text: "Copy referrers too, of every manifest: signatures, SBOMs, attestations. What lies under tags of cosign is no referrer: `ace-dt mirror archive` and `ace-dt mirror gather` find it by `--digest-tags`.",
        set: |a, _| yes(&mut a.recursive),
        ..FLAG
    },
    Flag {
        long: "digest-tags",
        group: FlagGroup::Take,
        brief: "what lies under tags made of digests, too",
        on: GATHERS,
        text: "Take along what lies under tags that are made of a manifest's digest, `sha256-HEX.sig`, `.att`, `.sbom` and whatever else stands behind the dot, for every manifest of every source in a registry or a layout: most signatures of cosign lie there, and `--recursive` does not find them. The tags of each repository are listed once; each tag becomes a source of its own, as if the list named it.",
        set: |a, _| yes(&mut a.digest_tags),
        ..FLAG
    },
    Flag {
        long: "sparse-index",
        group: FlagGroup::Take,
        brief: "indexes as they are, other platforms not",
        on: GATHERS,
        text: "With `--platforms`, take an index as it is, with its digest and what refers to it, but only the content of these platforms. The archive says what is left out, and `mirror verify` finds it whole. A registry may refuse such an index when it is pushed: Docker's registry does before version 3, and Harbor, which is built on it; version 3 takes it if its configuration has `validation.manifests.indexes.platforms: none`.",
        set: |a, _| yes(&mut a.sparse_index),
        ..FLAG
    },
    Flag {
        long: "referrer-types",
        group: FlagGroup::Take,
        brief: "only referrers of these artifact types",
        value: Value::Required("LIST"),
        default: "all",
        on: REFERRERS,
        text: "With `--recursive`, copy only referrers of these artifact types, such as `application/vnd.dev.cosign.artifact.sig.v1+json`. Separated by commas; may be repeated.",
        set: |a, v| {
            a.referrer_types.extend(args::list(v)?);
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "continue",
        group: FlagGroup::GoingOn,
        brief: "leave out sources that fail",
        on: GATHERS,
        text: "Leave out sources that fail, go on with the others, and exit with 1 at the end. Every blob is looked for before the first is fetched.",
        set: |a, _| yes(&mut a.keep_going),
        ..FLAG
    },
    Flag {
        long: "report",
        group: FlagGroup::Output,
        brief: "write what became of each source, as JSON",
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
        long: "continue",
        group: FlagGroup::GoingOn,
        brief: "go on with the others if one fails",
        on: BATCH,
        text: "Go on with the other artifacts if one fails, and exit with 1 at the end.",
        set: |a, _| yes(&mut a.keep_going),
        ..FLAG
    },
    Flag {
        long: "report",
        group: FlagGroup::Output,
        brief: "write what became of each artifact, as JSON",
        value: Value::Required("FILE"),
        on: BATCH,
        text: "Write a JSON array with each artifact and its outcome (`archived`, `planned`, `present` if it was sent already, `failed` or `incomplete`), its archive, digest, bytes and error. A file that holds anything but a report is not written over.",
        set: |a, v| {
            a.report = Some(args::file(v)?);
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "dry-run",
        group: FlagGroup::GoingOn,
        brief: "print what would be archived",
        on: BATCH,
        text: "Resolve everything and print a line for each artifact that would be archived: the archive's name, its exact size, and the reference. Write nothing.",
        set: |a, _| yes(&mut a.dry_run),
        ..FLAG
    },
    Flag {
        long: "dry-run",
        group: FlagGroup::GoingOn,
        brief: "print the plan and the exact size",
        on: ARCHIVE,
        text: "Resolve everything and print the plan: images, blobs, and the archive's exact size. Write nothing.",
        set: |a, _| yes(&mut a.dry_run),
        ..FLAG
    },
    Flag {
        long: "force",
        group: FlagGroup::Device,
        brief: "write over a file, or a labelled tape",
        on: ARCHIVES,
        text: "Write over a `DEST-FILE` that is a regular file and not empty, or a tape with the label of another series. With `--resume`: give up what stands on the tape behind the archive.",
        set: |a, _| yes(&mut a.force),
        ..FLAG
    },
    Flag {
        long: "cache",
        group: FlagGroup::Registry,
        brief: "keep what registries give in this directory",
        value: Value::Required("DIR"),
        env: "ACE_DT_CACHE_PATH",
        on: &[
            "mirror archive",
            "mirror batch-serialize",
            "mirror gather",
            "mirror plan",
            "mirror serialize",
            "util prune",
        ],
        text: "Keep what registries give in this directory, an OCI image layout, and take from it what is there. Everything taken is hashed first. Several runs may use it at the same time. The key `cachePath` of the configuration does the same.",
        set: |a, v| {
            a.cache = Some(args::file(v)?);
            Ok(())
        },
        ..FLAG
    },
];
