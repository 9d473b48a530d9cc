//! Sections of man pages that several commands have.

/// EXIT STATUS of most.
pub const EXIT_STATUS: &str =
    "0 on success, 1 if the operation failed, 2 on wrong usage, 130 after SIGINT, 143 after SIGTERM.";

/// EXIT STATUS of `mirror archive`.
pub const ARCHIVE_STATUS: &str = "0 on success, 1 if the operation failed, 2 on wrong usage, 130 after SIGINT, 143 after SIGTERM. With a plan 75 if the same command may succeed later without anybody's help: a registry is away, or somebody else has the device; see `ace-dt-shards(7)`.";

/// EXIT STATUS of what delivers archives.
pub const DELIVER_STATUS: &str = "0 if all is delivered, 1 if anything is missing, wrong or cannot be sent, 2 on wrong usage, 130 after SIGINT, 143 after SIGTERM.";

/// EXIT STATUS of what checks archives.
pub const VERIFY_STATUS: &str = "0 if all is whole, 1 if anything is wrong or cannot be read, 2 on wrong usage, 130 after SIGINT, 143 after SIGTERM.";

/// TAPE DRIVES that are written.
pub const TAPES: &str = "`/dev/nst0` is the node of a drive that leaves the tape where it was written last; `/dev/st0` rewinds it when it is closed, of which a warning tells. The archive begins where the tape stands (`mt -f /dev/nst0 rewind`, or `eod` to write behind what is there), and a filemark ends it. What stands there is looked at first: a warning tells how many files of the tape are written over, and a label (`--label`) of another series is an error without `--force`. At the end it is told from which block to which it reaches.\n\n\
    In variable-block mode (`mt -f /dev/nst0 setblk 0`) each write of `--block-size` bytes is one block of the tape. In fixed-block mode (`setblk N`) it must be a multiple of `N`, and is so many blocks. What the drive cannot take is refused before anything is written, with the sizes that it takes. The last block is filled up with zeros.\n\n\
    A full tape is ended with a filemark, and the archive goes on with the next block on the next tape, which `--volume-command` or somebody at the terminal puts into the drive. With a changer:\n\n    \
    ace-dt mirror archive --label week-48 --volume-command 'mtx -f /dev/sg3 next' sources.list /dev/nst0\n\n\
    If there is neither, the run ends. What is on the tape is told, and how to go on on another one with what is missing; so it is if a write fails, or the tape cannot be changed. A write that succeeded only means that the drive has the block in its buffer: the checkpoint speaks of what the drive was made to bring to the tape, every `--checkpoint-interval` and at the end.\n\n\
    After an interruption give the same command again with `--resume`; the tape on which the checkpoint ends must be in the drive. Another one is refused, and nothing is written to it.";

/// TAPE DRIVES that are read.
pub const TAPES_READ: &str = "A tape is read from where it stands to the next filemark, which is passed: first `mt -f /dev/nst0 rewind`, and for the second archive on it `mt -f /dev/nst0 fsf 1`. The size of its blocks need not be known. A drive that is set to fixed blocks of another size is set to blocks of any size meanwhile. A blank tape, the end of data, or a filemark where an archive should begin is an error that says so. Of a block that cannot be read the number is told, and all before it is given.\n\n\
    At the end of a tape on which an archive does not end, the next volume is asked for: by `--volume-command`, or at the terminal. A label (`--label` of `ace-dt mirror archive`) tells whether it is the right one. Volumes can also be read from files, one `TAR-FILE` behind the other, such as `ace-dt util mbuffer -i /dev/nst0 -o volume1` makes.";

/// ENVIRONMENT of what speaks with registries.
pub const ENVIRONMENT: &str = "`$ACE_DT_CONFIG` names the configuration file, `$ACE_DT_VERBOSITY` is as `--verbosity`, and `$ACE_DT_CONCURRENT_HTTP`, `$ACE_DT_CHUNK_SIZE`, `$ACE_DT_CACHE_PATH` and `$ACE_DT_CACHE_PRUNE_MAX` are as the keys of the configuration of those names.\n\n\
    `$ACE_DT_REGISTRY_AUTH_FILE`, `$REGISTRY_AUTH_FILE` and `$DOCKER_CONFIG` (a file, or a directory with a `config.json`) name the file with credentials; the first that is set is used.\n\n\
    `$HTTPS_PROXY` and `$HTTP_PROXY` name the proxy for registries with HTTPS and HTTP, and `$ALL_PROXY` that for both: `http://[user:password@]host:port` (which must take CONNECT), `https://...`, or `socks5://...`. The proxy looks up the registry's name. `$NO_PROXY` lists what is reached directly, separated by commas: domains with all below them (`example.com`), only what is below (`.example.com`), addresses, networks (`10.0.0.0/8`), each with an optional port, or `*`. All may be written in lower case; upper case goes first. Loopback addresses are always reached directly.\n\n\
    `$SSL_CERT_FILE` and `$SSL_CERT_DIR` replace the system's certificate authorities.\n\n\
    `$ACE_DT_VERSION` is written into archives in place of this program's version, to make an archive of another version again byte for byte.";

/// FILES of what speaks with registries.
pub const FILES: &str = "The configuration is the first of `ace-dt-config.yaml`, `$XDG_CONFIG_HOME/ace/dt/config.yaml` (without the variable `~/.config/ace/dt/config.yaml`) and `/etc/ace/dt/config.yaml` that is there. Credentials are read from the auth files of Docker, podman and skopeo, and certificates from their `certs.d` directories. See `ace-dt-config.yaml(5)`.";
