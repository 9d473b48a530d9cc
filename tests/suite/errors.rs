//! The texts that users see: every line that these commands print on standard error, and the exit status,
//! stand in `errors.txt`. `UPDATE_SNAPSHOTS=1 cargo test --test suite errors` writes it anew.

use std::{fmt::Write as _, fs, path::Path};

use crate::util::{Dir, ace_dt_with};

/// Commands, as a shell would split them; `@` stands for an empty word.
const COMMANDS: &str = "
@
mirror
mirror frob
mirror archive
mirror archive s.list
mirror archive s.list out.tar --frob
mirror archive s.list out.tar --hwm 101
mirror archive s.list out.tar --block-size 0
mirror archive s.list out.tar --block-size 1X
mirror archive s.list out.tar -m 1 -b 2
mirror archive s.list out.tar --annotations key
mirror archive s.list out.tar --platforms linux
mirror archive s.list out.tar --compression xz
mirror archive s.list out.tar --reference=
mirror archive s.list out.tar --existing-from-checkpoint a
mirror archive s.list out.tar --label=
mirror archive s.list out.tar --http-timeout 0s
mirror archive s.list out.tar --retries many
mirror archive s.list out.tar --progress fancy
mirror archive s.list out.tar --verbosity=loud
mirror archive s.list s.list
mirror archive s.list out.tar --checkpoint out.tar
mirror archive s.list out.tar --report s.list
mirror archive s.list - --resume --checkpoint l
mirror archive s.list out.tar --resume
mirror archive s.list dir --resume --checkpoint l
mirror archive nowhere.list out.tar
mirror archive empty.list out.tar
mirror archive bad.list out.tar
mirror archive s.list mine.tar
mirror archive s.list dir
mirror archive s.list nowhere/out.tar
mirror archive s.list out.tar alpine
mirror archive s.list out.tar oci:nowhere
mirror archive s.list out.tar --config nowhere.yaml
mirror archive s.list out.tar --config bad.yaml
mirror archive s.list out.tar --existing-from-checkpoint nowhere:1
mirror archive s.list out.tar --existing-from-checkpoint s.list:1
mirror archive gone.list out.tar
mirror archive refused.list out.tar --retries 0
mirror archive several.list several.tar -q --continue --retries 0
mirror archive s.list none.tar -q -p plan9/mips
mirror archive whole.list whole.tar -q --checkpoint whole.checkpoint
mirror archive whole.list whole.tar -q
mirror archive whole.list /dev/full -q
mirror serialize alpine out.tar
mirror serialize oci:layout:nowhere none.tar
mirror serialize 127.0.0.1:1/a:v1 none.tar --retries 0
mirror gather s.list alpine
mirror gather s.list 127.0.0.1:1/a@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
mirror gather whole.list 127.0.0.1:1/a:v1 -q --retries 0
mirror batch-serialize s.list out
mirror batch-serialize batch.csv out -q --tracker-filename a/b
mirror batch-serialize batch.csv out -q --retries 0
mirror verify nowhere.tar
mirror verify dir
mirror verify mine.tar
mirror verify whole.tar --checkpoint s.list
mirror verify whole.tar --existing nowhere
mirror list
mirror list mine.tar
mirror list whole.tar -o yaml
login
login a@b -u me --password-stdin
login https://a -u me --password-stdin
login alpine -u me --password-stdin
login reg.example.com -u a:b --password-stdin
login reg.example.com -u me --password-stdin --http-timeout 1
logout reg.example.com
util mbuffer
util mbuffer -m 1M one-too-many
util mbuffer -m 1Mi -i nowhere
util mbuffer -m 1Mi -i s.list -o s.list
util mbuffer -m 1Mi -i s.list -o out -o out
util mbuffer -m 1Mi -i s.list -o mine.tar
util mbuffer -m 1Mi -i s.list -o /dev/full -q
util mbuffer -m 100M -b 200M
util mbuffer -m 1Mi -R 0
util mux
util mux nowhere
util mux s.list -b 2Gi
util demux out
util prune
util prune --cache dir
version -r
--generate pdf
";

fn prepare(dir: &Dir) {
    std::os::unix::fs::symlink(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/layout"), dir.join("layout")).unwrap();
    fs::create_dir(dir.join("dir")).unwrap();
    let sources = [
        ("s.list", "oci:layout:v1\n"),
        ("whole.list", "oci:layout:v1\n"),
        ("empty.list", "# nothing\n"),
        ("bad.list", "alpine\nreg.io/a,x\nreg.io/b,-k=v\n"),
        ("gone.list", "oci:layout:nowhere\n"),
        ("refused.list", "127.0.0.1:1/a:v1\n"),
        ("several.list", "oci:layout:v1\n127.0.0.1:1/a:v1\noci:layout:nowhere\n"),
        ("batch.csv", "name,artifact\na,127.0.0.1:1/a:v1\n"),
        ("bad.yaml", "kind: Configuration\nconcurrentHTTP: many\n"),
        ("mine.tar", "this is no archive\n"),
        // Of several blobs, the first one is told of.
        ("ace-dt-config.yaml", "kind: Configuration\nconcurrentHTTP: 1\n"),
    ];
    sources.iter().for_each(|(name, text)| drop(dir.write(name, text)));
}

#[test]
fn the_texts_of_errors_are_those_of_the_snapshot() {
    let dir = Dir::new();
    prepare(&dir);
    let mut found = String::new();
    for command in COMMANDS.trim().lines() {
        let words: Vec<&str> = command.split_whitespace().filter(|word| *word != "@").collect();
        let outcome = ace_dt_with(&dir, &words, b"");
        let text = outcome.err.replace(dir.to_str().unwrap(), "DIR");
        let _ = writeln!(found, "$ ace-dt {}\n{text}exit status {}\n", words.join(" "), outcome.status);
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/errors.txt");
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::write(&path, &found).unwrap();
    }
    let wanted = fs::read_to_string(&path).unwrap();
    for (found, wanted) in found.split("\n\n").zip(wanted.split("\n\n")) {
        assert_eq!(found, wanted);
    }
    assert!(found == wanted, "there are more commands, or fewer, than in the snapshot");
}
