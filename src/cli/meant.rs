//! What is meant by flags of other programs.

/// The flags of mbuffer(1) and of other programs' logins that mean something else here or nothing, and what is meant, by
/// command.
const MEANT: &[(&str, &str, &str)] = &[
    ("util mbuffer", "-s", "the size of a block is --block-size (-b)"),
    ("util mbuffer", "-P", "the high-water mark is --hwm"),
    ("util mbuffer", "-p", "reading goes on as soon as there is room"),
    ("util mbuffer", "-r", "the rate is that of the output: --rate (-R)"),
    ("util mbuffer", "-l", "messages are appended to a file by --log"),
    ("util mbuffer", "-a", "the next tape is put into the drive by --volume-command"),
    ("util mbuffer", "-A", "the next tape is put into the drive by --volume-command"),
    ("util mbuffer", "-n", "a tape is followed by the next until all is written: --volume-command"),
    ("util mbuffer", "-H", "the digest is printed by --sha256"),
    ("util mbuffer", "--hash", "the digest is printed by --sha256"),
    ("util mbuffer", "--md5", "the digest is printed by --sha256"),
    ("util mbuffer", "-f", "a file is written over by --force"),
    ("util mbuffer", "-W", "a run that is stuck is ended by --io-timeout"),
    ("util mbuffer", "-t", "the buffer is in memory only"),
    ("util mbuffer", "-T", "the buffer is in memory only"),
    ("util mbuffer", "-I", "there is no network input: use ssh(1) and a pipe"),
    ("util mbuffer", "-O", "there is no network output: use ssh(1) and a pipe"),
    ("login", "-p", "a password is read with --password-stdin"),
    ("login", "--password", "a password is read with --password-stdin"),
];

/// Commands of other programs, and those of this one that do the same.
const COMMANDS_MEANT: &[(&str, &str)] = &[
    ("copy", "mirror clone"),
    ("inspect", "mirror list"),
    ("load", "mirror deserialize"),
    ("ls", "mirror list"),
    ("pull", "mirror archive"),
    ("push", "mirror deserialize"),
    ("save", "mirror archive"),
    ("sync", "mirror clone"),
];

/// The command that does what one of another program does.
pub fn meant_command(word: &str) -> Option<&'static str> {
    COMMANDS_MEANT.iter().find(|(name, _)| *name == word).map(|(_, own)| *own)
}

/// What somebody means who gives this flag to a command that has not got it.
pub fn meant(command: &str, flag: &str) -> Option<&'static str> {
    MEANT.iter().find(|(on, name, _)| *on == command && *name == flag).map(|(.., text)| *text)
}
