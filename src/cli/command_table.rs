//! The commands of the table: operands, descriptions, and the further sections of their man pages.

use super::{
    schema::{Action, Command, Count, Operand},
    sections::{ARCHIVE_STATUS, DELIVER_STATUS, ENVIRONMENT, EXIT_STATUS, FILES, TAPES, TAPES_READ, VERIFY_STATUS},
    serve_flags::SERVE_COMMAND,
    shard_flags::{MERGE_COMMAND, PLAN_COMMAND, REPORT_COMMAND},
    tape_flags::TAPE_COMMAND,
};

const NO_OPERANDS: &[Operand] = &[];
const FILES_OPERAND: Operand =
    Operand { name: "FILE", count: Count::One, text: "The file of stream 0; those of the others follow." };
const MORE_FILES: Operand = Operand { name: "FILE", count: Count::Any, text: "The files of the other streams." };
const REGISTRY: Operand = Operand {
    name: "REGISTRY",
    count: Count::One,
    text: "The registry's name as it stands in references: a host, with a port if need be.",
};

const PLANNED_SOURCES: Operand = Operand {
    count: Count::OneUnless("plan"),
    text: "One image a line: its reference, then labels, as CSV. `-` is standard input. With `--plan` there is none.",
    ..SOURCES_FILE
};
const SOURCES_FILE: Operand = Operand {
    name: "SOURCES-FILE",
    count: Count::One,
    text: "One image a line: its reference, then labels, as CSV. `-` is standard input.",
};
const DEST_FILE: Operand =
    Operand { name: "DEST-FILE", count: Count::One, text: "A file, FIFO, or tape device. `-` is standard output." };
const EXISTING_IMAGE: Operand = Operand {
    name: "EXISTING-IMAGE",
    count: Count::Any,
    text: "Leave out the blobs (not the manifests) of these images: they are at the destination already.",
};
const TAR_FILE: Operand =
    Operand { name: "TAR-FILE", count: Count::One, text: "A file, FIFO, or tape device. `-` is standard input." };

const SOURCE_FILE: Operand =
    Operand { name: "SOURCE-FILE", count: Count::One, text: "A file, FIFO, or tape device. `-` is standard input." };
const MORE_TAR_FILES: Operand = Operand { name: "TAR-FILE", count: Count::Any, text: "Further ones." };
const MORE_SOURCE_FILES: Operand = Operand { name: "SOURCE-FILE", count: Count::Any, text: "Further ones." };
const DELIVERED_IMAGE: Operand = Operand {
    name: "IMAGE",
    count: Count::One,
    text: "Where to: `registry/repository[:tag][@digest]`; with neither tag nor digest, the tag is `latest`.",
};

const MAPPER: Operand =
    Operand { name: "MAPPER", count: Count::One, text: "Where images go: `KIND=ARGUMENT`, as under `MAPPERS`." };
const MAPPERS: &str = "A mapper says where a source goes. The name of a source is its reference as it stands in the sources file; it is taken as it is, so that `x` and `x:latest` are two names.\n\n    \
     nest=PREFIX          PREFIX, a slash, and the name\n    \
     first-prefix=FILE    by the first line whose first field the name begins with\n    \
     longest-prefix=FILE  by the line with the longest such field\n    \
     all-prefix=FILE      by every such line\n    \
     digests=FILE         by every line whose first field is the digest\n    \
     go-template=FILE     by each line of a template's output\n\n\
     A name whose registry has a port makes no repository with `nest`, as no repository holds a colon: `longest-prefix` gives it another name.\n\n\
     `FILE` is CSV with two fields a line; lines that begin with `#` are comments. With a prefix the destination is the second field with the rest of the name behind it; nothing is put between them, and a prefix may end anywhere. An empty first field stands for every name with `longest-prefix`, and is passed over with the others.\n\n\
     A destination is `registry/repository[:tag][@digest]`. With a tag the image gets that, with a digest alone none, and with neither `latest`.\n\n\
     Of several lines with the same prefix `longest-prefix` takes the last, and `first-prefix` the first.\n\n\
     A template is Go's text/template, executed for each source on its descriptor: `.MediaType`, `.ArtifactType`, `.Digest` (with `.Digest.Algorithm` and `.Digest.Encoded`), `.Size`, `.Annotations`, `.Platform`, `.URLs` and `.Data`. The annotation `vnd.act3-ace.manifest.source` is the name of the source, and `data.act3-ace.io/labels` its labels, as JSON; an image without labels lacks it. `.Platform` has `.OS`, `.Architecture`, `.Variant`, `.OSVersion` and `.OSFeatures`, but only an image that was taken out of an index with `--platforms` has a platform; of all others it is nothing (nil), which `with` tells.\n\n\
     Its functions are those of sprig 3.3 that depend on neither time, chance nor environment, and four that take a reference apart. Of `reg.example.com/a/b:v1@sha256:...` `Registry` is `reg.example.com`, `Repository` is `a/b`, and `Package` is all behind the registry, with tag and digest. `Tag` is the digest if there is one, else the tag, else empty. These functions of sprig are left out: `ago`, `bcrypt`, `buildCustomCert`, `encryptAES`, `genCA`, `genCAWithKey`, `genPrivateKey`, `genSelfSignedCert`, `genSelfSignedCertWithKey`, `genSignedCert`, `genSignedCertWithKey`, `htpasswd`, `randInt`, `shuffle`. A dict is changed in place (`set`, `unset`, `merge`) if a variable is named. A dict is a value otherwise: a second variable for it is another dict. Regular expressions have no classes of Unicode. A template may take a second for each source, and its output, loops and values are bounded. Each image to a team by its label, under its own name:\n\n    \
     {{ $name := index .Annotations \"vnd.act3-ace.manifest.source\" -}}\n    \
     {{ $labels := index .Annotations \"data.act3-ace.io/labels\" | default \"{}\" | fromJson -}}\n    \
     high.example.com/{{ get $labels \"team\" | default \"common\" }}/{{ Package $name }}";

/// All commands, groups before what is in them.
pub static COMMANDS: &[Command] = &[
    Command {
        name: "",
        summary: "carry container images and other OCI artifacts across an air gap",
        operands: NO_OPERANDS,
        description: "`ace-dt` gathers images from many registries into one TAR archive, in a file or straight on a tape drive, at the drive's full speed and without staging a byte on disk. On the other side it delivers what the archive holds to a registry, in one pass.\n\n\
            Images are named by fully qualified references, `registry/repository[:tag][@digest]`; without a tag it is `latest`. `oci:DIR[:ref]` names an image in an OCI image layout in a directory, and `oci-archive:FILE[:ref]` one in an uncompressed archive; without a name, that is all that was gathered into the archive, or into one that was unpacked to the layout.\n\n\
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
        action: None,
    },
    Command {
        name: "mirror",
        summary: "gather images, write, check and deliver archives of them",
        operands: NO_OPERANDS,
        description: "The commands that carry images.",
        sections: &[],
        action: None,
    },
    Command {
        name: "mirror archive",
        summary: "gather images from registries into one TAR archive",
        operands: &[PLANNED_SOURCES, DEST_FILE, EXISTING_IMAGE],
        description: "Resolves every source, fetches all manifests, and so knows the whole archive to the byte before the first layer is fetched. Then the layers go from the registries through a buffer in memory onto the device. No layer is ever stored on disk.\n\n\
            A line of `SOURCES-FILE` is a reference, followed by labels `key=value` in Kubernetes syntax, separated by commas. Empty lines and lines that begin with `#` are ignored.\n\n\
            The archive is one OCI image layout in a TAR stream. Its root is a gather index over all sources. Each blob is in it once. The same sources give the same archive, byte for byte.\n\n\
            Every blob is checked against its digest before it counts. If one is wrong, or a registry fails, the run ends with an error, and the checkpoint says truly what the device holds.\n\n\
            On a tape every write is one physical block, and the last one is padded with zeros.",
        sections: &[
            ("TAPE DRIVES", TAPES),
            ("ENVIRONMENT", ENVIRONMENT),
            ("FILES", FILES),
            ("EXIT STATUS", ARCHIVE_STATUS),
            (
                "EXAMPLES",
                "Archive what `sources.list` names to a tape, with a buffer of 4 GiB, and keep a checkpoint:\n\n    \
                 ace-dt mirror archive -m 4Gi --checkpoint monday.checkpoint sources.list /dev/nst0\n\n\
                 See how large the archive would be:\n\n    \
                 ace-dt mirror archive --dry-run sources.list week.tar\n\n\
                 Archive for two platforms, with all signatures: of the images, of the indexes that list them, and those under cosign's tags:\n\n    \
                 ace-dt mirror archive -r --sparse-index --digest-tags -p linux/amd64,linux/arm64 sources.list week.tar\n\n\
                 Go on with a file after a run that was interrupted:\n\n    \
                 ace-dt mirror archive --checkpoint week.checkpoint --resume sources.list week.tar\n\n\
                 Go on after a tape that ended at offset 323072; the second tape carries what is missing on the first:\n\n    \
                 ace-dt mirror archive --checkpoint 2.checkpoint --existing-from-checkpoint 1.checkpoint:323072 sources.list week-2.tar\n\n\
                 Unpack both, as one OCI image layout, up to that offset of the first:\n\n    \
                 (head -c 323072 week.tar; cat week-2.tar) | tar -xf - -C layout\n\n\
                 List the archive while it is written:\n\n    \
                 ace-dt mirror archive -q sources.list - | tar -tvf -",
            ),
            (
                "DIAGNOSTICS",
                "When SIGINT or SIGTERM ends a run, the error says how many blobs the device holds whole, up to which offset, and gives the command that goes on with what is missing, or that starts again if there is no checkpoint. A second signal ends the program at once.\n\n\
                 With `--platforms`, a source that lacks one of them gets a warning that names those it has. An index of which only some manifests are taken is not in the archive itself, and what refers to it stays behind: a warning says what, and `--sparse-index` takes it along.",
            ),
        ],
        action: Some(Action::Archive),
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
            DEST_FILE,
            EXISTING_IMAGE,
        ],
        description: "Fetches all manifests below `IMAGE`, which so fixes the archive to the byte, and carries the blobs onto the device as `ace-dt mirror archive` does. The root of the archive is `IMAGE` itself; its name in `index.json` is the tag or digest of `IMAGE`.",
        sections: &[
            ("TAPE DRIVES", TAPES),
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
                "When a run ends early, the error says how many blobs the device holds whole, up to which offset, and gives the command that goes on, or that starts again if there is no checkpoint.",
            ),
        ],
        action: Some(Action::Serialize),
    },
    Command {
        name: "mirror gather",
        summary: "gather images into one artifact in a registry",
        operands: &[
            SOURCES_FILE,
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
        action: Some(Action::Gather),
    },
    PLAN_COMMAND,
    REPORT_COMMAND,
    MERGE_COMMAND,
    Command {
        name: "mirror batch-serialize",
        summary: "write an archive of each new artifact of a list",
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
        action: Some(Action::BatchSerialize),
    },
    Command {
        name: "mirror deserialize",
        summary: "deliver what archives hold to a repository",
        operands: &[SOURCE_FILE, MORE_SOURCE_FILES, DELIVERED_IMAGE],
        description: "Reads archives from end to end, once, and pushes what they hold to the repository of `IMAGE`: every blob, and every manifest after all that it refers to. The root, which is the first that `index.json` lists, gets the tag of `IMAGE` last of all, so that a tag never points to something that is not whole. Nothing is staged on disk.\n\n\
            Which blobs the registry has is asked as soon as a manifest names them, long before they pass by. What is there is not sent: in a file it is passed over, from a tape or pipe it is read past. If the registry is the one that the source was gathered from, and the source's repository still has the blob, it is mounted from there; what other repositories have is not known. So the same command again sends only what is missing. Every blob that is sent is checked against its digest; those that the registry has are not, so whether an archive is whole `ace-dt mirror verify` tells.\n\n\
            Takes what `ace-dt mirror verify` takes: any OCI image layout in a TAR stream, compressed with zstd or gzip or not, its members in any order. A file that ends in the middle of an archive is continued by the next `SOURCE-FILE`, and a tape by the next volume (see `--volume-command`); one that begins with `oci-layout` is an archive of its own. Several are delivered together: what one leaves out may be in another, and the root is that of the first. What is in none of them is looked for in the repository: an increment needs there what it leaves out.\n\n\
            With a digest in `IMAGE` the root must have it; then there is a tag only if `IMAGE` has one too. That is found out before anything is sent, but from a pipe or tape only where `index.json` comes first, as it does in archives of this tool.\n\n\
            A manifest of which parts are missing is kept in the repository as a blob, where a later run finds it, and the error names what is missing. What is damaged ends the run, unless `--continue` is given. A registry that is away (nobody listens, or it answers 429, 502, 503 or 504) is waited for up to ten minutes, or as long as `--retry-time` says, if it has answered before in this run, and all requests to it are made more slowly for a while; with `--retries` such tries are counted like others. A blob that the registry does not take in the end counts as missing, and the rest is delivered. Referrers are always delivered; where the registry has no referrers API, the index at the subject's referrers tag is kept up to date.",
        sections: &[
            ("TAPE DRIVES", TAPES_READ),
            ("ENVIRONMENT", ENVIRONMENT),
            ("FILES", FILES),
            ("EXIT STATUS", DELIVER_STATUS),
            (
                "EXAMPLES",
                "Deliver an archive, under a tag:\n\n    \
                 ace-dt mirror deserialize week-48.tar high.example.com/mirror/week:2026-48\n\n\
                 From a tape, from its beginning, with a buffer of 4 GiB:\n\n    \
                 mt -f /dev/nst0 rewind && ace-dt mirror deserialize -m 4Gi /dev/nst0 high.example.com/mirror/week:2026-48\n\n\
                 See what would be sent:\n\n    \
                 ace-dt mirror deserialize --dry-run week-48.tar high.example.com/mirror/week:2026-48\n\n\
                 Take what can be had of a damaged archive, and list what must be sent again:\n\n    \
                 ace-dt mirror deserialize --continue --wanted again.list week-48.tar high.example.com/mirror/week:2026-48\n\n\
                 On the low side, archive that:\n\n    \
                 ace-dt mirror archive again.list again.tar\n\n\
                 Then deliver both together, which completes the first:\n\n    \
                 ace-dt mirror deserialize --continue week-48.tar again.tar high.example.com/mirror/week:2026-48",
            ),
            (
                "DIAGNOSTICS",
                "`is missing, which ... needs`: the archive does not hold it, and the repository does not have it. Deliver the archive that holds it, or give both. `digest mismatch`: the archive is damaged there. A registry that stays away, or refuses something, ends the run; then nothing is missing in the archive, `--wanted` writes nothing, and the same command again goes on.",
            ),
        ],
        action: Some(Action::Deserialize),
    },
    Command {
        name: "mirror batch-deserialize",
        summary: "deliver each new archive of a directory",
        operands: &[
            Operand {
                name: "SYNC-DIRECTORY",
                count: Count::One,
                text: "Where the archives are that `ace-dt mirror batch-serialize` made.",
            },
            Operand {
                name: "DESTINATION",
                count: Count::One,
                text: "The repository: `registry/repository`, without a tag.",
            },
        ],
        description: "Delivers the files `N-NAME.tar` (`.tar.zst`, `.tar.gz`) of `SYNC-DIRECTORY`, in the order of their names, each as `ace-dt mirror deserialize` does, to `DESTINATION:NAME`. `NAME` is all between the first dash and `.tar`, and must be a tag. Of several files of one name the last has the tag in the end.\n\n\
            Each success is recorded at once in `successful-syncs.csv`: `filename,artifact,timestamp`. What is recorded there is not read again, wherever it was delivered to: `--sync-filename` keeps a record for each destination. The first failure ends the run, unless `--continue` is given.\n\n\
            Subdirectories and `*.csv` are passed over, and so is any other file that has no such name, with a warning.",
        sections: &[
            ("ENVIRONMENT", ENVIRONMENT),
            ("FILES", FILES),
            ("EXIT STATUS", EXIT_STATUS),
            (
                "EXAMPLES",
                "Deliver what has arrived:\n\n    \
                 ace-dt mirror batch-deserialize incoming high.example.com/mirror/batch",
            ),
        ],
        action: Some(Action::BatchDeserialize),
    },
    Command {
        name: "mirror unarchive",
        summary: "deliver the images of archives to where a map says",
        operands: &[TAR_FILE, MORE_TAR_FILES, MAPPER],
        description: "Reads archives from end to end, once, and delivers the images that were gathered into the first to the repositories and registries that `MAPPER` names, each with all below it. Nothing is staged, neither on disk nor in a registry between. Where all goes is worked out and checked before anything is sent, and a tag is set when all is there that it points to.\n\n\
            In each registry a blob is sent once, to the first repository that needs it, and mounted from there into the others. A registry that does not mount gets it again: out of the file, out of the buffer, to several repositories at once, or out of the repository that has it. What no image needs that was selected is passed over, in a file without reading it.\n\n\
            Archives are taken as `ace-dt mirror deserialize` takes them, and damage, missing blobs, and registries that are away are dealt with alike. The gather index must stand in front of the blobs, as it does in archives of this tool; a file in which it stands behind them is read all the same, and from a pipe or tape such an archive is refused. What an increment leaves out is looked for at every destination of the run, and mounted from there; with `--recursive` that goes for referrers, too.\n\n\
            Without `--recursive`, signatures and other referrers in the archive are left out. An image for which the mapper names no destination is left out with a warning; that is no failure, unless it is so of all.",
        sections: &[
            ("MAPPERS", MAPPERS),
            ("TAPE DRIVES", TAPES_READ),
            ("ENVIRONMENT", ENVIRONMENT),
            ("FILES", FILES),
            ("EXIT STATUS", DELIVER_STATUS),
            (
                "EXAMPLES",
                "See where everything would go:\n\n    \
                 ace-dt mirror unarchive --check week-48.tar nest=high.example.com/mirror\n\n\
                 Deliver it, with signatures:\n\n    \
                 ace-dt mirror unarchive -r week-48.tar nest=high.example.com/mirror\n\n\
                 Only what is labelled for production, by a map:\n\n    \
                 ace-dt mirror unarchive -l env=prod week-48.tar longest-prefix=map.csv\n\n\
                 From a tape, from its beginning, with a buffer of 4 GiB:\n\n    \
                 mt -f /dev/nst0 rewind && ace-dt mirror unarchive -m 4Gi /dev/nst0 longest-prefix=map.csv",
            ),
            (
                "DIAGNOSTICS",
                "`the mapper names no destination`: the image is left out; if that is so of all, the run fails. `would be the destination of`: two images would get one tag. `line N took no source that was selected`: its prefix or digest is that of none, or other lines came before it; perhaps it is misspelt. `is missing, which ... needs`: neither the archive nor the destination has it.",
            ),
        ],
        action: Some(Action::Unarchive),
    },
    Command {
        name: "mirror scatter",
        summary: "copy images of a gathered artifact to where a map says",
        operands: &[
            Operand {
                name: "IMAGE",
                count: Count::One,
                text: "A gathered artifact, as `ace-dt mirror gather` and `ace-dt mirror deserialize` leave it in a registry, or in an archive (`oci-archive:FILE`) or a layout (`oci:DIR`).",
            },
            MAPPER,
        ],
        description: "Copies every source of `IMAGE` to the repositories and registries that `MAPPER` names, each with all below it. Blobs stream from registry to registry and are checked on the way; none is stored. A blob that the destination has is not sent, one that another repository of its registry has is mounted from there, and any other is fetched once and sent once to each registry. Where all goes is worked out and checked before anything is sent. A tag is set when all is there that it points to.\n\n\
            Of a source that was gathered for several platforms the destination gets an index of these.\n\n\
            The same command again sends only what is missing.",
        sections: &[
            ("MAPPERS", MAPPERS),
            ("ENVIRONMENT", ENVIRONMENT),
            ("FILES", FILES),
            ("EXIT STATUS", EXIT_STATUS),
            (
                "EXAMPLES",
                "See where everything would go:\n\n    \
                 ace-dt mirror scatter --check high.example.com/mirror/week:2026-48 nest=high.example.com/images\n\n\
                 Copy it there, with signatures and other referrers:\n\n    \
                 ace-dt mirror scatter -r high.example.com/mirror/week:2026-48 nest=high.example.com/images",
            ),
            (
                "DIAGNOSTICS",
                "`is no gathered artifact`: an image or index was named that `ace-dt mirror gather` did not make; `ace-dt mirror clone` copies such. `the mapper names no destination`: the source is left out; if that is so of all, the run fails. `would be the destination of`: two sources would get one tag. `line N took no source that was selected`: its prefix or digest is that of none, or other lines came before it; perhaps it is misspelt.",
            ),
        ],
        action: Some(Action::Scatter),
    },
    Command {
        name: "mirror clone",
        summary: "copy images of a list to where a map says",
        operands: &[SOURCES_FILE, MAPPER],
        description: "Resolves every source of the list as `ace-dt mirror archive` does, and copies it to the repositories and registries that `MAPPER` names, as `ace-dt mirror scatter` does with the sources of a gathered artifact. Images that share blobs have them copied once.",
        sections: &[
            ("MAPPERS", MAPPERS),
            ("ENVIRONMENT", ENVIRONMENT),
            ("FILES", FILES),
            ("EXIT STATUS", EXIT_STATUS),
            (
                "EXAMPLES",
                "Copy what `sources.list` names, for two platforms:\n\n    \
                 ace-dt mirror clone -p linux/amd64,linux/arm64 sources.list nest=high.example.com/mirror",
            ),
            (
                "DIAGNOSTICS",
                "`the mapper names no destination`: the source is left out; if that is so of all, the run fails. `would be the destination of`: two sources would get one tag. `line N took no source that was selected`: its prefix or digest is that of none, or other lines came before it; perhaps it is misspelt.",
            ),
        ],
        action: Some(Action::Clone),
    },
    Command {
        name: "mirror diff",
        summary: "list the sources that other artifacts do not have",
        operands: &[
            Operand {
                name: "IMAGE",
                count: Count::One,
                text: "A gathered artifact: a reference, or the path of an uncompressed archive or of a layout.",
            },
            Operand { name: "EXISTING-IMAGE", count: Count::Any, text: "What is there already, named likewise." },
        ],
        description: "Lists reference and digest of every source of `IMAGE`, sorted, each once, without those whose digest is that of an `EXISTING-IMAGE` or of one of its sources, those of gathered artifacts in it too.",
        sections: &[
            ("ENVIRONMENT", ENVIRONMENT),
            ("FILES", FILES),
            ("EXIT STATUS", EXIT_STATUS),
            (
                "EXAMPLES",
                "What is new this week, and how many bytes an increment would carry:\n\n    \
                 ace-dt mirror diff --bytes week-48.tar week-47.tar\n\n\
                 The same of artifacts in a registry, for a script:\n\n    \
                 ace-dt mirror diff -o csv reg.example.com/mirror/week:48 reg.example.com/mirror/week:47",
            ),
        ],
        action: Some(Action::Diff),
    },
    Command {
        name: "mirror verify",
        summary: "check that an archive or a tape is whole",
        operands: &[TAR_FILE, MORE_TAR_FILES],
        description: "Reads archives from end to end, without a registry, and checks the digest of every blob, every reference from `index.json` on, and that the end of the archive is there, with nothing but zeros behind it. Takes archives of other tools too: any OCI image layout in a TAR stream, compressed with zstd or gzip or not, its members in any order.\n\n\
            Prints a line for each image, `whole` or `broken` (with `--subset` also `found`: it is all there, and not all of it was read), and for all that is wrong: `damaged` (a blob has not its digest, or something cannot be read), `missing` (something is referred to and not there), `wrong` (anything else), with the offset in the TAR stream, and on a tape the block. The last line sums up.\n\n\
            A file that ends in the middle of an archive is continued by the next `TAR-FILE`, and a tape by the next volume (see `--volume-command`); behind the end of an archive the next `TAR-FILE` is an archive of its own. Several archives are one set: what one leaves out may be in another, so that an increment and its base are whole together. Each is told of under its own name. From a tape it reads one file, up to the filemark, with blocks of any size; the drive is not rewound first.",
        sections: &[
            ("TAPE DRIVES", TAPES_READ),
            ("EXIT STATUS", VERIFY_STATUS),
            (
                "EXAMPLES",
                "Check an archive and the checkpoint that was written with it:\n\n    \
                 ace-dt mirror verify --checkpoint week.checkpoint week.tar\n\n\
                 Check a tape, from its beginning:\n\n    \
                 mt -f /dev/nst0 rewind && ace-dt mirror verify /dev/nst0\n\n\
                 Check an archive that leaves out what an earlier one holds:\n\n    \
                 ace-dt mirror verify --existing week-47.tar week-48.tar\n\n\
                 Check both, as one set:\n\n    \
                 ace-dt mirror verify week-47.tar week-48.tar",
            ),
            (
                "DIAGNOSTICS",
                "Where a header is damaged, the next one is looked for, so that all that can be read is checked. What cannot be checked because it is not there is told as `missing`, each digest once.",
            ),
        ],
        action: Some(Action::Verify),
    },
    Command {
        name: "mirror list",
        summary: "list the images in archives",
        operands: &[TAR_FILE, MORE_TAR_FILES],
        description: "Prints reference, platform, digest and size of every image in an archive. Of an image for several platforms there is a line for its index (`index`) and one for each platform; what is no image for a platform has `-`. The size is that of all that the image consists of, each blob once.\n\n\
            Passes over blobs in a file without reading them; a pipe, a compressed archive or a tape is read once. Digests are not checked: `ace-dt mirror verify` does that.",
        sections: &[
            ("TAPE DRIVES", TAPES_READ),
            ("EXIT STATUS", EXIT_STATUS),
            (
                "EXAMPLES",
                "List what an archive holds:\n\n    \
                 ace-dt mirror list week.tar\n\n\
                 The references only:\n\n    \
                 ace-dt mirror list -o csv week.tar | cut -d, -f1 | sort -u",
            ),
        ],
        action: Some(Action::List),
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
        action: Some(Action::Login),
    },
    Command {
        name: "logout",
        summary: "remove the credentials for a registry",
        operands: &[REGISTRY],
        description: "Takes the credentials for the registry out of every auth file and of the helper that one names. Entries for repositories of it (`registry/repository`) stay. If there are none, that is an error.",
        sections: &[("ENVIRONMENT", ENVIRONMENT), ("FILES", FILES), ("EXIT STATUS", EXIT_STATUS)],
        action: Some(Action::Logout),
    },
    Command {
        name: "util",
        summary: "tools for pipelines",
        operands: NO_OPERANDS,
        description: "Small tools for shell pipelines.",
        sections: &[],
        action: None,
    },
    Command {
        name: "util mbuffer",
        summary: "buffer a pipeline in memory",
        operands: NO_OPERANDS,
        description: "Copies standard input, or a file or tape, through a buffer in memory to standard output, or to one or several files and tapes. Reading and writing go on at the same time; every write is one block of `--block-size`, except the last.\n\n\
            While it runs, it shows the rates at which data come in and go out over the last five seconds, how much was written, how full the buffer is, and whether the output is written to or waits for the high-water mark. At the end it tells how often the output was started, how long it was written to and waited, how fast, and how often the buffer was empty and full.",
        sections: &[
            ("EXIT STATUS", EXIT_STATUS),
            (
                "EXAMPLES",
                "Feed a tape drive in long strokes from a TAR stream that comes in gushes:\n\n    \
                 tar -cf - dir | ace-dt util mbuffer -m 4Gi -b 256Ki --hwm 95 > /dev/nst0\n\n\
                 Two copies on two drives, and the digest:\n\n    \
                 ace-dt util mbuffer -m 4Gi -i week.tar -o /dev/nst0 -o /dev/nst1 --sha256\n\n\
                 Read a tape back, and give up if the drive hangs:\n\n    \
                 ace-dt util mbuffer -m 1Gi -i /dev/nst0 -o week.tar --io-timeout 10m",
            ),
        ],
        action: Some(Action::Mbuffer),
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
        action: Some(Action::Mux),
    },
    Command {
        name: "util demux",
        summary: "take apart what `util mux` has put together",
        operands: &[FILES_OPERAND, MORE_FILES],
        description: "Reads frames from standard input and appends their data to the files: that of stream 0 to the first, and so on. A file that is not there is created. Frames of a stream for which no file is named, and frames that are cut short, are errors; what came before them is in the files.",
        sections: &[("EXIT STATUS", EXIT_STATUS)],
        action: Some(Action::Demux),
    },
    Command {
        name: "util prune",
        summary: "bring the cache down to its limit",
        operands: NO_OPERANDS,
        description: "Removes from the cache what was not used for longest, with the manifests that refer to it, until it has no more bytes than the key `cachePruneMax` of the configuration (or `$ACE_DT_CACHE_PRUNE_MAX`) allows, 500Mi if neither is given, and what interrupted runs have left. While another run uses the cache, that is an error.",
        sections: &[("FILES", FILES), ("EXIT STATUS", EXIT_STATUS)],
        action: Some(Action::Prune),
    },
    SERVE_COMMAND,
    TAPE_COMMAND,
    Command {
        name: "help",
        summary: "print the help of a command",
        operands: &[Operand {
            name: "COMMAND",
            count: Count::Any,
            text: "The words of the command, such as `mirror archive`; without them the help of the program itself is printed.",
        }],
        description: "Prints what `--help` of the command prints. `-h` prints a line a flag. The manual says more: `man ace-dt-mirror-archive`.",
        sections: &[],
        action: Some(Action::Help),
    },
    Command {
        name: "completion",
        summary: "print what completes command lines in a shell",
        operands: &[Operand { name: "SHELL", count: Count::One, text: "`bash`, `fish` or `zsh`." }],
        description: "Prints a script for the shell: commands, flags, what flags choose from, files, and the names of registries and repositories in the auth files and in the configuration. `make install` puts the scripts where shells look for them.",
        sections: &[(
            "EXAMPLES",
            "In `~/.bashrc`, `~/.zshrc` (behind compinit), and `~/.config/fish/config.fish`:\n\n    \
             source <(ace-dt completion bash)\n    \
             source <(ace-dt completion zsh)\n    \
             ace-dt completion fish | source",
        )],
        action: Some(Action::Completion),
    },
    Command {
        name: "config",
        summary: "print the configuration in effect",
        operands: NO_OPERANDS,
        description: "Prints the configuration in effect as YAML, and behind each key where its value comes from: the file, an environment variable, or nowhere. What is printed is a configuration itself. Keys that nobody knows are warned of, with the line and the key that is nearest.",
        sections: &[
            ("FILES", "See `ace-dt-config.yaml(5)`."),
            ("EXIT STATUS", EXIT_STATUS),
            (
                "EXAMPLES",
                "Begin with a configuration in which every key stands and is explained:\n\n    \
                 ace-dt config --sample > ace-dt-config.yaml\n\n    \
                 ace-dt config",
            ),
        ],
        action: Some(Action::Config),
    },
    Command {
        name: "version",
        summary: "print the version",
        operands: NO_OPERANDS,
        description: "Prints the program's name and version.",
        sections: &[],
        action: Some(Action::Version),
    },
];
