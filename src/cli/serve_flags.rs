//! `util serve`, and its flags.

use crate::cli::{
    args,
    flag_table::FLAG,
    schema::{Action, Command, Count, Flag, FlagGroup, Operand, Value},
};

const SERVE: &[&str] = &["util serve"];

/// The command.
pub const SERVE_COMMAND: Command = Command {
    name: "util serve",
    summary: "serve archives as a registry",
    operands: &[
        Operand {
            name: "ARCHIVE",
            count: Count::One,
            text: "A file that `ace-dt mirror archive` or `ace-dt mirror serialize` wrote, or another tool that writes image layouts into TAR archives, or archives for `docker load`, compressed or not; or a directory with an image layout.",
        },
        Operand {
            name: "ARCHIVE",
            count: Count::Any,
            text: "More of them. A file that begins neither with `oci-layout` nor as archives for `docker load` do goes on with the one before, as volumes do. What an increment leaves out is taken from the others.",
        },
    ],
    description: "Serves what archives hold as a registry that can only be read, as it lies there: nothing is unpacked, and nothing is written unless `--frame-index` asks for it. `docker pull`, containerd, `skopeo` and every other client of the distribution specification 1.1 can pull from it, and so can `ace-dt mirror archive`: an `endpoints` entry for `reg.example.com` with this address keeps the names.\n\n\
        Every source is served under its own repository and tag, without its registry and with it: `reg.example.com/library/alpha:v1` is `HOST/library/alpha:v1` and `HOST/reg.example.com/library/alpha:v1` (a colon in front of a port becomes `_`). What was gathered is itself served under the name of the file, without directory and ending, with its own tag; what a repository's name cannot hold becomes small or a dash. containerd's `ns` parameter is understood: with it only that registry's images are found. An image that is called by a tag alone is a tag of the name of the file. What `docker save`, podman and crane write for `docker load` lists no manifests: they are made, and names without a registry are of `docker.io`. If two images have one name, that which comes first keeps it, and a warning says so. `--map` gives other names. Content is found by its digest in every repository. `http://ADDRESS/` lists all images, for people.\n\n\
        A plain archive is ready at once: headers are read, and manifests. One that this tool compressed with zstd is found by the headers of its frames, and a blob is decompressed from the frame on in which it begins. Of gzip, and of what other programs compressed, all is decompressed once when it is opened (`--frame-index` keeps what was found); and if it is one frame, for each blob all that stands before it.\n\n\
        The digest of a blob is checked when it is read for the first time. The last byte of the answer is sent when it proves right; if it does not, the connection ends before that, and the blob is an error from then on. The first answer to a `Range` waits until all of the blob was read, once for all that ask. A file that was changed since is checked again.\n\n\
        SIGHUP opens everything anew: archives, map, passwords, certificate, log; clients notice nothing, and if something cannot be opened, all stays as it was. Replace an archive by renaming a new file to its name (`mv`): one that is written over where it lies is neither what it was nor what it will be. SIGTERM and SIGINT end it when the requests in work are answered, after ten seconds at the latest. A client is given up that sends no whole request within ten seconds, sends none for thirty, or takes nothing for half a minute. At most 512 connections are open and 256 requests in work; beyond that the connection that was idle for longest ends, or the answer is 503.",
    sections: &[
        (
            "SYSTEMD",
            "A socket that systemd passes (sd_listen_fds(3)) is served in place of `--address`:\n\n    \
             # ace-dt-serve.socket\n    \
             [Socket]\n    \
             ListenStream=127.0.0.1:5000\n    \
             [Install]\n    \
             WantedBy=sockets.target\n\n    \
             # ace-dt-serve.service\n    \
             [Service]\n    \
             ExecStart=/usr/local/bin/ace-dt util serve -q /srv/images/week-48.tar\n    \
             ExecReload=/bin/kill -HUP $MAINPID\n    \
             DynamicUser=yes\n    \
             ProtectSystem=strict",
        ),
        ("EXIT STATUS", "0 when a signal has ended it, 1 if it cannot begin, 2 on wrong usage."),
        (
            "EXAMPLES",
            "Serve an archive, and look what is in it:\n\n    \
             ace-dt util serve week-48.tar\n\n    \
             curl http://127.0.0.1:5000/\n\n\
             An archive with its increment, under other names, with TLS, for those who have a password:\n\n    \
             ace-dt util serve --address 0.0.0.0:443 --tls-cert host.pem --tls-key host.key --htpasswd users --map nest=any.example.com/mirror week-48.tar week-49.tar",
        ),
        (
            "DIAGNOSTICS",
            "`which comes later`: two images have one name, and the second has it not; the long name, or `--map`, tells them apart. `are decompressed once`: the archive says not where its frames end. `was not compressed by this tool`: pulling from it is slow; decompress it first. `is damaged; its connection was ended`: `ace-dt mirror verify` tells all.",
        ),
    ],
    action: Some(Action::Serve),
};

/// These flags, in the order in which they are shown.
pub static SERVE_FLAGS: &[Flag] = &[
    Flag {
        long: "address",
        group: FlagGroup::Serving,
        brief: "listen here",
        value: Value::Required("ADDRESS:PORT"),
        on: SERVE,
        default: "127.0.0.1:5000",
        text: "Listen on this address. `0.0.0.0:5000` is every address of this machine; without `--tls-cert` a warning is given for any that is not loopback. With port 0 the kernel chooses one. A socket that systemd passes takes its place.",
        set: |a, v| {
            let why = || format!("{v:?} is no address with a port, such as 127.0.0.1:5000 or [::1]:5000");
            let localhost = v.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
            a.address = localhost.as_deref().unwrap_or(v).parse().map_err(|_| why())?;
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "map",
        group: FlagGroup::Serving,
        brief: "name images as this mapper says",
        value: Value::Required("MAPPER"),
        on: SERVE,
        text: "Serve images under the repositories and tags that `MAPPER` names, `KIND=ARGUMENT` as `ace-dt mirror unarchive` takes it, and not under the names of their sources. A destination begins with a registry, which may be any: it is served without that, and with it. What was gathered keeps its name.",
        set: |a, v| {
            a.map = Some(v.into());
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "tls-cert",
        group: FlagGroup::Serving,
        brief: "speak TLS with this certificate",
        value: Value::Required("FILE"),
        on: SERVE,
        text: "Speak TLS, with the certificate in this file (PEM), and those that lead from it to an authority behind it.",
        set: |a, v| {
            a.tls_cert = Some(args::file(v)?);
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "tls-key",
        group: FlagGroup::Serving,
        brief: "and this key",
        value: Value::Required("FILE"),
        on: SERVE,
        text: "The private key of the certificate (PEM), without a password.",
        set: |a, v| {
            a.tls_key = Some(args::file(v)?);
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "htpasswd",
        group: FlagGroup::Serving,
        brief: "only for those whose password is in here",
        value: Value::Required("FILE"),
        on: SERVE,
        text: "Serve only those whose name and password are in this file, as `htpasswd -B` writes it (bcrypt). Without TLS passwords can be read on the way.",
        set: |a, v| {
            a.htpasswd = Some(args::file(v)?);
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "frame-index",
        group: FlagGroup::Serving,
        brief: "keep where frames end, in ARCHIVE.frames",
        on: SERVE,
        text: "When an archive is decompressed once to find what is in it, write beside it, into `ARCHIVE.frames`, where its frames end. If that file is there, and the archive was not changed since, nothing has to be decompressed, with this flag or without.",
        set: |a, _| {
            a.frame_index = true;
            Ok(())
        },
        ..FLAG
    },
    Flag {
        long: "log",
        group: FlagGroup::Serving,
        brief: "write a line for each request",
        value: Value::Required("FILE"),
        on: SERVE,
        text: "Write a line for each request into this file, behind what it holds, in the common log format.",
        set: |a, v| {
            a.log = Some(args::file(v)?);
            Ok(())
        },
        ..FLAG
    },
];
