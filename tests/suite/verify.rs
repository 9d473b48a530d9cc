//! `mirror verify` and `mirror list`: every archive that is whole is found so, and every damage is
//! found out and named.

use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use crate::{
    registry::{Registry, Storage, golden},
    util::{Dir, Outcome, Signal, ace_dt, ace_dt_with, finish, noise, peer, send, tool},
};

fn archive(name: &str) -> Vec<u8> {
    fs::read(golden().join("archives").join(name)).unwrap()
}

fn verify(dir: &Dir, words: &[&str]) -> Outcome {
    ace_dt(dir, &[&["mirror", "verify", "-q"], words].concat())
}

/// A member of a TAR archive: header and padded content.
#[derive(Clone)]
pub struct Member {
    pub name: String,
    pub header: Vec<u8>,
    pub content: Vec<u8>,
}

/// Takes an archive apart that has neither PAX nor GNU headers.
fn members(archive: &[u8]) -> Vec<Member> {
    let (mut all, mut at) = (Vec::new(), 0);
    while archive[at] != 0 {
        let header = archive[at..at + 512].to_vec();
        let name = String::from_utf8(header[..100].split(|b| *b == 0).next().unwrap().to_vec()).unwrap();
        let size = std::str::from_utf8(&header[124..135]).unwrap();
        let size = usize::from_str_radix(size, 8).unwrap().next_multiple_of(512);
        let content = archive[at + 512..at + 512 + size].to_vec();
        at += 512 + size;
        all.push(Member { name, header, content });
    }
    all
}

fn join(members: &[Member]) -> Vec<u8> {
    let mut all: Vec<u8> = members.iter().flat_map(|m| [&m.header[..], &m.content].concat()).collect();
    all.resize(all.len() + 1024, 0);
    all
}

/// Makes a header's checksum right.
fn sum(header: &mut [u8]) {
    header[148..156].fill(b' ');
    let sum: u32 = header[..512].iter().map(|b| u32::from(*b)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

impl Member {
    pub fn new(name: &str, kind: u8, size: u64, content: &[u8]) -> Member {
        let mut header = vec![0; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..108].copy_from_slice(b"0000644\0");
        header[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
        header[156] = kind;
        header[257..265].copy_from_slice(b"ustar\x0000");
        sum(&mut header);
        let mut content = content.to_vec();
        content.resize(content.len().next_multiple_of(512), 0);
        Member { name: name.into(), header, content }
    }

    fn rename(&mut self, name: &str) {
        self.header[..100].fill(0);
        self.header[..name.len()].copy_from_slice(name.as_bytes());
        sum(&mut self.header);
    }

    fn resize(&mut self, size: u64) {
        self.header[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
        sum(&mut self.header);
    }
}

#[test]
fn archives_of_the_go_tool_are_whole_with_their_checkpoints() {
    let dir = Dir::new();
    std::os::unix::fs::symlink(golden(), dir.join("golden")).unwrap();
    let mut found = 0;
    for entry in fs::read_dir(golden().join("archives")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Some((stem, _)) = name.split_once(".tar") else { continue };
        found += 1;
        let (path, checkpoint) = (format!("golden/archives/{name}"), format!("golden/archives/{stem}.checkpoint"));
        let mut words = vec![path.as_str()];
        let has_checkpoint = dir.join(&checkpoint).exists();
        if has_checkpoint {
            words.extend(["--checkpoint", &checkpoint]);
        }
        let elsewhere = match stem {
            "ser-existing" => "golden/archives/plain.tar",
            "ser-resumed" | "ser-resumed-plus1" => "golden/archives/ser-all.checkpoint",
            _ => "",
        };
        if !elsewhere.is_empty() {
            let outcome = verify(&dir, &words).fails(1, &["verifying", "wrong"]);
            assert!(outcome.text().contains("\nmissing ") || outcome.text().starts_with("missing "));
            words.extend(["--existing", elsewhere]);
        }
        let outcome = verify(&dir, &words).ok();
        assert!(outcome.text().ends_with("; all is whole\n"), "{name}: {}", outcome.text());
        assert!(!outcome.text().contains("broken"), "{name}: {}", outcome.text());
        assert!(!has_checkpoint || outcome.text().contains(": true\n"), "{name}: {}", outcome.text());
        // From a pipe it is the same, and so is a list.
        let (bytes, list) = (fs::read(dir.join(&path)).unwrap(), ["mirror", "list", "-q", &path]);
        let piped = ace_dt_with(&dir, &["mirror", "list", "-q", "-"], &bytes);
        assert_eq!(ace_dt(&dir, &list).out, piped.out, "{name}");
        if elsewhere.is_empty() {
            let piped = ace_dt_with(&dir, &["mirror", "verify", "-q", "-"], &bytes).ok();
            assert!(outcome.text().ends_with(piped.text().rsplit_once("archive").unwrap().1), "{name}");
        }
    }
    assert!(found >= 15, "only {found} archives");
}

#[test]
fn a_list_has_every_image_with_its_platform_and_size() {
    let dir = Dir::new();
    dir.write("a.tar", archive("plain.tar"));
    let table = ace_dt(&dir, &["mirror", "list", "a.tar"]).ok();
    assert!(table.text().starts_with("REFERENCE"));
    let csv = ace_dt(&dir, &["mirror", "list", "-o", "csv", "a.tar"]).ok();
    let lines: Vec<&str> = csv.text().lines().collect();
    assert_eq!(lines[0], "reference,platform,digest,size");
    let beta: Vec<&&str> =
        lines.iter().filter(|line| line.starts_with("reg.example.com/gold/library/beta:1.2,")).collect();
    let wanted = "reg.example.com/gold/library/beta:1.2,linux/amd64,sha256:42fc5ec6ffaa0d013d16b896a0ad1c1cc0bac15b1f15b94e85a7beefb52a0f25,191800";
    assert_eq!(beta, [&wanted]);
    let alpha = |platform: &str| lines.iter().filter(|l| l.contains(&format!("alpha:v1,{platform},"))).count();
    assert_eq!((alpha("index"), alpha("linux/amd64"), alpha("linux/arm/v7")), (1, 1, 1));
    let json = ace_dt(&dir, &["mirror", "list", "-o", "json", "a.tar"]).ok();
    let json: serde_json::Value = serde_json::from_slice(&json.out).unwrap();
    assert_eq!(json.as_array().unwrap().len(), lines.len() - 1);
    assert!(json.as_array().unwrap().iter().all(|image| image["size"].as_u64() > Some(0)));
    ace_dt(&dir, &["mirror", "list", "-o", "yaml", "a.tar"]).fails(2, &["--output", "yaml"]);
    dir.write("half.tar", &archive("plain.tar")[..300_000]);
    ace_dt(&dir, &["mirror", "list", "half.tar"]).fails(1, &["half.tar", "the archive ends at offset 300,000"]);
}

/// 200 archives, each damaged in one way, and a word that its verdict must hold.
fn damaged() -> Vec<(String, Vec<u8>, String)> {
    let whole = archive("manifest-json.tar");
    let all = members(&whole);
    let blobs: Vec<usize> = (0..all.len()).filter(|n| all[*n].name.len() > 70).collect();
    let name = |n: usize| all[n].name.rsplit('/').next().unwrap().to_string();
    let mut random = noise(6, 4000)
        .chunks_exact(8)
        .map(|b| u64::from_le_bytes(b.try_into().unwrap()))
        .collect::<Vec<_>>()
        .into_iter();
    let mut below = move |n: usize| (random.next().unwrap() % n as u64) as usize;
    let mut cases = Vec::new();
    for _ in 0..60 {
        let at = below(whole.len() - 1);
        cases.push((format!("cut at {at}"), whole[..at].to_vec(), "the archive ends at offset".to_string()));
    }
    for _ in 0..60 {
        let (at, bit) = (below(whole.len() - 1024), below(8));
        // A checksum may begin with a space as well as with a zero.
        if (148..156).contains(&(at % 512)) {
            continue;
        }
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << bit;
        cases.push((format!("bit {bit} of {at}"), bytes, String::new()));
    }
    for n in 0..15 {
        let (blob, mut changed) = (blobs[below(blobs.len())], all.clone());
        let by = [512, 1, 1 << 20, 8 << 30, 100][n % 5];
        let real = u64::from_str_radix(std::str::from_utf8(&all[blob].header[124..135]).unwrap(), 8).unwrap();
        changed[blob].resize(if n % 2 == 0 { (real + by).min((8 << 30) - 1) } else { real.saturating_sub(by) });
        cases.push((format!("size of {} lies", name(blob)), join(&changed), name(blob)));
    }
    for &blob in blobs.iter().take(38) {
        let mut changed = all.clone();
        changed.remove(blob);
        cases.push((format!("{} is missing", name(blob)), join(&changed), format!("sha256:{}", name(blob))));
    }
    for n in 0..12 {
        let (blob, mut changed) = (blobs[below(blobs.len())], all.clone());
        let to = match n % 3 {
            0 => format!("blobs/sha256/{}", "0".repeat(64)),
            1 => "elsewhere".into(),
            _ => format!("blobs/sha256/{}", name(blobs[(below(blobs.len() - 1) + 1 + blob) % blobs.len()])),
        };
        if to == all[blob].name {
            continue;
        }
        changed[blob].rename(&to);
        cases.push((format!("{n}: {} is called {to}", name(blob)), join(&changed), format!("sha256:{}", name(blob))));
    }
    for (file, word) in [("oci-layout", "oci-layout"), ("index.json", "index.json")] {
        let at = all.iter().position(|m| m.name == file).unwrap();
        let mut changed = all.clone();
        changed.remove(at);
        cases.push((format!("no {file}"), join(&changed), word.into()));
    }
    let last = all.iter().rposition(|m| m.name == "index.json").unwrap();
    let mut changed = all.clone();
    changed.remove(last);
    cases.push(("no last index.json".into(), join(&changed), "index.json behind the blobs".into()));
    for (kind, word) in [
        (b'1', "hard link"),
        (b'2', "symbolic link"),
        (b'3', "character device"),
        (b'4', "block device"),
        (b'6', "FIFO"),
        (b'S', "sparse"),
        (b'x' - 1, "unknown type"),
    ] {
        let mut changed = all.clone();
        changed.insert(below(all.len()), Member::new("something", kind, 0, b""));
        cases.push((format!("a member of type {kind}"), join(&changed), word.into()));
    }
    for out in ["../out", "/etc/passwd", "blobs/../../x", "blobs/sha256/../../../x"] {
        let mut changed = all.clone();
        changed.insert(below(all.len()), Member::new(out, b'0', 5, b"hello"));
        cases.push((out.into(), join(&changed), "leads out of the archive".into()));
    }
    for wrong in ["blobs/sha256/abc", "blobs/md5/d41d8cd98f00b204e9800998ecf8427e"] {
        let mut changed = all.clone();
        changed.push(Member::new(wrong, b'0', 5, b"hello"));
        cases.push((wrong.into(), join(&changed), "no name of a blob".into()));
    }
    let mut appended = whole.clone();
    appended.extend(&whole);
    cases.push(("a second archive".into(), appended, "behind the end of the archive".into()));
    let mut huge = all.clone();
    huge.push(Member::new("long", b'L', 1 << 31, b""));
    cases.push(("a long name of 2 GiB".into(), join(&huge), "claims 2,147,483,648 bytes".into()));
    let mut lone = all.clone();
    lone.insert(5, Member { name: String::new(), header: vec![0; 512], content: Vec::new() });
    cases.push(("a lone block of zeros".into(), join(&lone), "lone block of zeros".into()));
    cases.push(("no archive".into(), noise(1, 100_000), "no header".into()));
    cases.push(("nothing".into(), Vec::new(), "the archive ends at offset 0".into()));
    cases
}

#[test]
fn damage_of_every_kind_is_found_out_and_named() {
    let dir = Dir::new();
    let cases = damaged();
    let mut count = 0;
    for (what, bytes, word) in &cases {
        dir.write("x.tar", bytes);
        for piped in [false, true] {
            let outcome = match piped {
                false => verify(&dir, &["x.tar"]),
                true => ace_dt_with(&dir, &["mirror", "verify", "-q", "-"], bytes),
            };
            assert_eq!(outcome.status, 1, "{what}: {}{}", outcome.text(), outcome.err);
            assert!(outcome.text().contains(word.as_str()), "{what}: {word:?} is not in: {}", outcome.text());
            let named = ["damaged ", "missing ", "wrong "].iter().any(|word| outcome.text().contains(word));
            assert!(named, "{what}: {}", outcome.text());
        }
        count += 1;
    }
    assert!(count >= 200, "only {count}");
    println!("{count} damaged archives, each found out and named, from a file and from a pipe");
}

/// An increment and its base are whole together, in any order, and each is told of under its name.
#[test]
fn several_archives_are_one_set() {
    let dir = Dir::new();
    dir.write("base.tar", archive("ser-all.tar"));
    dir.write("more.tar", archive("ser-resumed-plus1.tar"));
    verify(&dir, &["more.tar"]).fails(1, &["verifying"]);
    for words in [["base.tar", "more.tar"], ["more.tar", "base.tar"]] {
        let outcome = verify(&dir, &words).ok();
        for name in words {
            assert_eq!(outcome.text().matches(&format!("in       {name:?}")).count(), 1, "{}", outcome.text());
        }
        assert!(outcome.text().contains("in other archives of these: "), "{}", outcome.text());
    }
    let outcome = verify(&dir, &["--existing", "base.tar", "more.tar"]).ok();
    assert!(outcome.text().contains("elsewhere, and not read: "), "{}", outcome.text());
    // What is damaged in one is missing in the other.
    let mut bytes = archive("ser-all.tar");
    let at = members(&bytes)
        .iter()
        .scan(0, |at, m| Some(std::mem::replace(at, *at + 512 + m.content.len())))
        .nth(4)
        .unwrap();
    bytes[at + 512] ^= 1;
    dir.write("base.tar", bytes);
    let outcome = verify(&dir, &["base.tar", "more.tar"]).fails(1, &["verifying"]);
    assert!(outcome.text().contains("damaged "), "{}", outcome.text());
    // A first part that was cut off counts as far as it goes.
    dir.write("cut.tar", &archive("ser-all.tar")[..325_000]);
    let outcome = verify(&dir, &["--existing", "cut.tar", "more.tar"]).ok();
    assert!(outcome.err.contains("as far as it goes"), "{}", outcome.err);
    dir.write("no.tar", noise(1, 2000));
    verify(&dir, &["--existing", "no.tar", "more.tar"]).fails(1, &["reading what exists already"]);
}

/// What every TAR reader takes alike is no fault.
#[test]
fn what_others_write_is_not_damaged() {
    let dir = Dir::new();
    let all = members(&archive("plain.tar"));
    let blob = all.iter().position(|member| member.name.len() > 70).unwrap();
    let mut twice = all.clone();
    twice.insert(all.len() - 1, all[blob].clone());
    dir.write("twice.tar", join(&twice));
    verify(&dir, &["twice.tar"]).ok();
    let mut left = all.clone();
    for name in ["blobs/sha256/._abc", "blobs/sha256/.DS_Store", "._index.json"] {
        left.insert(1, Member::new(name, b'0', 3, b"mac"));
    }
    dir.write("left.tar", join(&left));
    let outcome = verify(&dir, &["left.tar"]).ok();
    assert_eq!(outcome.text().matches("note ").count(), 1, "{}", outcome.text());
    let mut empty = all.clone();
    let directory = empty.iter_mut().find(|member| member.header[156] == b'5').unwrap();
    directory.header[124..136].fill(0);
    sum(&mut directory.header);
    dir.write("empty.tar", join(&empty));
    verify(&dir, &["empty.tar"]).ok();
}

/// What GNU tar, Go's reader and this one may take in different ways is told.
#[test]
fn what_is_read_in_two_ways_is_told() {
    let dir = Dir::new();
    let all = members(&archive("plain.tar"));
    let with = |extra: Vec<Member>| {
        let mut changed = all.clone();
        changed.splice(1..1, extra);
        join(&changed)
    };
    let record = |text: &str| {
        let length = (text.len() + 1..).find(|n| *n == n.to_string().len() + text.len() + 2).unwrap();
        format!("{length} {text}\n").into_bytes()
    };
    let extended = |kind: u8, records: &[&str]| {
        let content: Vec<u8> = records.iter().flat_map(|text| record(text)).collect();
        Member::new("PaxHeaders.0/x", kind, content.len() as u64, &content)
    };
    let junk = || Member::new("junk", b'0', 4, b"junk");
    // Without the magic, so that the first part of a name is none.
    let changed = |at: usize, bytes: &[u8]| {
        let mut member = junk();
        member.header[257..265].fill(0);
        member.header[at..at + bytes.len()].copy_from_slice(bytes);
        sum(&mut member.header);
        member
    };
    let cases = [
        ("a name holds a NUL", vec![extended(b'x', &["path=index.json\0x"]), junk()]),
        ("a name holds a NUL", vec![Member::new("././@LongLink", b'L', 14, b"index.json\0zz\0"), junk()]),
        ("a global header", vec![extended(b'g', &["path=index.json"]), junk()]),
        ("a global header", vec![extended(b'g', &["size=0"]), junk()]),
        ("second extended header", vec![extended(b'x', &["path=a"]), extended(b'x', &["mtime=0"]), junk()]),
        ("a directory claims", vec![Member::new("blobs", b'5', 4, b"")]),
        ("a sparse file", vec![extended(b'x', &["GNU.sparse.major=1", "GNU.sparse.name=x"]), junk()]),
        ("a sparse file", vec![Member::new("x", b'S', 4, b"junk")]),
        ("tar -M", vec![Member::new("x", b'M', 4, b"junk")]),
        ("a name is empty", vec![extended(b'x', &["path="]), junk()]),
        ("a name is empty", vec![Member::new("././@LongLink", b'L', 1, b"\0"), junk()]),
        ("between a header and its member", vec![extended(b'x', &["path=a"]), extended(b'g', &["comment=b"]), junk()]),
        ("no number", vec![extended(b'x', &["mtime=now"]), junk()]),
        ("in the place of a file", vec![Member::new("index.json", b'5', 0, b"")]),
        ("in the place of a file", vec![Member::new("./oci-layout/", b'0', 0, b"")]),
        ("where the layout has none", vec![Member::new("blobs/sha256", b'0', 4, b"junk")]),
        ("where the layout has none", vec![Member::new("index.json/x", b'0', 4, b"junk")]),
        ("no name of a file", vec![Member::new("index.json/.", b'0', 4, b"junk")]),
        ("a label", vec![Member::new("index.json", b'V', 0, b"")]),
        ("a number in the header is none", vec![changed(100, b"00x0644\0")]),
        ("first part of a name", vec![changed(345, b"blobs")]),
        ("the size in the header is not a number", vec![changed(124, b"\0\x30\x30\x34")]),
    ];
    for (word, extra) in cases {
        dir.write("x.tar", with(extra));
        let outcome = verify(&dir, &["x.tar"]);
        assert_eq!(outcome.status, 1, "{word}: {}", outcome.text());
        assert!(outcome.text().contains(word), "{word}: {}", outcome.text());
    }
    // What changes nothing is none of anybody's business.
    let lines = extended(b'x', &["comment=two\nlines", "mtime=1.5"]);
    dir.write("x.tar", with(vec![extended(b'g', &["comment=by git"]), lines, junk()]));
    verify(&dir, &["x.tar"]).ok();
}

#[test]
fn compressed_archives_are_checked_to_their_last_byte() {
    let dir = Dir::new();
    for (name, magic) in [("zstd.tar.zst", "zst"), ("gzip.tar.gz", "gz")] {
        let whole = archive(name);
        for at in [0, 1, 3, 100, whole.len() / 3, whole.len() / 2, whole.len() - 20, whole.len() - 1] {
            dir.write(&format!("cut.{magic}"), &whole[..at]);
            verify(&dir, &[&format!("cut.{magic}")]).fails(1, &["verifying"]);
        }
        for at in [10, whole.len() / 3, whole.len() / 2, whole.len() - 3] {
            let mut bytes = whole.clone();
            bytes[at] ^= 16;
            dir.write(&format!("flip.{magic}"), &bytes);
            verify(&dir, &[&format!("flip.{magic}")]).fails(1, &["verifying"]);
        }
        // A tape pads with zeros; anything else is not seen by any reader.
        let padded = [&whole[..], &[0; 5000]].concat();
        dir.write("padded", &padded);
        verify(&dir, &["padded"]).ok();
        dir.write("more", [&whole[..], b"more"].concat());
        verify(&dir, &["more"]).fails(1, &["verifying"]);
    }
}

#[test]
fn our_own_archives_are_whole_with_their_checkpoints() {
    let dir = Dir::new();
    Storage::golden(&dir.join("storage"));
    let registry = Registry::start(&dir.join("storage"));
    registry.configure(&dir, "http", 10);
    dir.write("s.list", fs::read(golden().join("sources.list")).unwrap());
    for (words, name) in [
        (&[][..], "a.tar"),
        (&["--compression", "zstd"], "a.zst"),
        (&["--compression", "gzip", "-r"], "a.gz"),
        (&["--manifest-json", "--index-fallback"], "b.tar"),
    ] {
        let archive = [&["mirror", "archive", "-q", "--checkpoint", "l", "s.list", name], words].concat();
        let made = ace_dt(&dir, &archive);
        if words.contains(&"--manifest-json") && made.status != 0 {
            continue;
        }
        made.ok();
        let outcome = verify(&dir, &["--checkpoint", "l", name]).ok();
        assert!(
            outcome.text().contains("checkpoint ") && outcome.text().ends_with("all is whole\n"),
            "{}",
            outcome.text()
        );
        // A checkpoint that promises too much.
        let checkpoint = dir.text("l");
        let offset =
            checkpoint.lines().nth(3).unwrap().split("data.offset\":\"").nth(1).unwrap().split('"').next().unwrap();
        let lie = checkpoint.replacen(&format!("offset\":\"{offset}\""), "offset\":\"512\"", 1);
        dir.write("lie", lie);
        let outcome = verify(&dir, &["--checkpoint", "lie", name]).fails(1, &["one thing is wrong"]);
        assert!(outcome.text().contains("the checkpoint says in record 4"), "{}", outcome.text());
    }
}

#[test]
fn parts_of_an_archive_are_read_one_behind_the_other() {
    let dir = Dir::new();
    let whole = archive("plain.tar");
    let summary = |outcome: &Outcome| outcome.text().rsplit_once("archive").unwrap().1.to_string();
    dir.write("whole", &whole);
    let wanted = summary(&verify(&dir, &["whole"]).ok());
    for cut in [512, 1000, 323_072, 400_001, whole.len() - 600] {
        dir.write("1", &whole[..cut]);
        dir.write("2", &whole[cut..]);
        assert_eq!(summary(&verify(&dir, &["1", "2"]).ok()), wanted, "{cut}");
        let outcome = verify(&dir, &["1"]).fails(1, &["wrong"]);
        assert!(outcome.text().contains("the archive ends at offset"), "{}", outcome.text());
    }
    let packed = archive("zstd.tar.zst");
    dir.write("1", &packed[..5000]);
    dir.write("2", &packed[5000..]);
    verify(&dir, &["1", "2"]).ok();
    // Two archives are two.
    dir.write("other", archive("ser-image.tar"));
    let outcome = verify(&dir, &["whole", "other"]).ok();
    assert_eq!(outcome.text().lines().filter(|line| line.starts_with("archive ")).count(), 2);
    dir.write("bad", &whole[..1000]);
    verify(&dir, &["other", "bad"]).fails(1, &["wrong"]);
    ace_dt(&dir, &["mirror", "verify", "whole", "nowhere"]).fails(1, &["opening \"nowhere\"", "No such file"]);
    ace_dt(&dir, &["mirror", "verify", "."]).fails(1, &["directory"]);
}

/// Memory does not follow claims: neither those of headers nor those of manifests.
#[test]
fn an_interrupted_check_tells_of_no_damage() {
    let dir = Dir::new();
    let bytes = archive("ser-all.tar");
    let mut child = tool(&dir, &["mirror", "verify", "-q", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&bytes[..bytes.len() / 2]).unwrap();
    thread::sleep(Duration::from_millis(300));
    send(&child, Signal::SIGINT);
    let outcome = finish(child).fails(130, &["interrupted by SIGINT"]);
    assert_eq!(outcome.text(), "");
    drop(stdin);
}

#[test]
fn bombs_take_time_and_no_memory() {
    let dir = Dir::new();
    let mut all = members(&archive("ser-image.tar"));
    let zero = format!("blobs/sha256/{}", "0".repeat(64));
    // A gigabyte of zeros in a few bytes.
    all.push(Member::new(&zero, b'0', 1 << 30, b""));
    let mut bomb = join(&all);
    bomb.truncate(bomb.len() - 1024);
    dir.write("head", &bomb);
    peer(&dir, "sh", &["-c", "(cat head; head -c 1073742848 /dev/zero) | zstd -q > bomb.zst"]);
    // Nested as deep as it goes, and a manifest of nothing but references.
    let mut all = members(&archive("ser-image.tar"));
    let deep = ["{\"layers\":".to_string(), "[".repeat(1 << 20)].concat();
    all.push(Member::new(&zero, b'0', deep.len() as u64, deep.as_bytes()));
    dir.write("deep.tar", join(&all));
    for (file, word) in [("bomb.zst", "sha256:0000"), ("deep.tar", "sha256:0000")] {
        let program = env!("CARGO_BIN_EXE_ace-dt");
        let limited = format!("ulimit -v 500000; exec {program} mirror verify -q {file}");
        let output = Command::new("sh").args(["-c", &limited]).current_dir(&*dir).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{file}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(String::from_utf8_lossy(&output.stdout).contains(word), "{file}");
    }
}

#[test]
fn skopeo_archives_are_whole() {
    let dir = Dir::new();
    Storage::golden(&dir.join("storage"));
    let registry = Registry::start(&dir.join("storage"));
    let source = format!("docker://127.0.0.1:{}/gold/library/beta:1.2", registry.port);
    let words = ["copy", "-q", "--src-tls-verify=false", &source, "oci-archive:s.tar:beta"];
    peer(&dir, "skopeo", &words);
    let outcome = verify(&dir, &["s.tar"]).ok();
    assert!(outcome.text().contains("whole    beta "), "{}", outcome.text());
    let list = ace_dt(&dir, &["mirror", "list", "-o", "csv", "s.tar"]).ok();
    assert!(list.text().lines().nth(1).unwrap().starts_with("beta,linux/amd64,"), "{}", list.text());
    delivered(&dir, "s.tar", &format!("127.0.0.1:{}/copy/skopeo:v1", registry.port));
    // Docker's own format is refused, and what to run is said.
    peer(&dir, "skopeo", &["copy", "-q", "--src-tls-verify=false", &source, "docker-archive:d.tar:reg.io/beta:1"]);
    let image = format!("127.0.0.1:{}/copy/docker:v1", registry.port);
    let outcome = ace_dt(&dir, &["mirror", "deserialize", "-q", "d.tar", &image]).fails(1, &["docker-archive"]);
    assert!(outcome.err.contains("skopeo copy docker-archive:FILE oci-archive:FILE"), "{}", outcome.err);
    peer(&dir, "skopeo", &["copy", "-q", "docker-archive:d.tar", "oci-archive:o.tar"]);
    delivered(&dir, "o.tar", &image);
}

/// Delivers an archive, and finds all of it at the destination.
fn delivered(dir: &Dir, archive: &str, image: &str) {
    ace_dt(dir, &["mirror", "deserialize", "-q", archive, image]).ok();
    ace_dt(dir, &["mirror", "serialize", "-q", "--force", image, "back.tar"]).ok();
    verify(dir, &["back.tar"]).ok();
}

#[test]
#[ignore = "make test-second"]
fn archives_of_crane_oras_and_regctl_are_whole() {
    let dir = Dir::new();
    Storage::golden(&dir.join("storage"));
    let registry = Registry::start(&dir.join("storage"));
    let tool = |name: &str| format!("{}/target/tools/{name}", env!("CARGO_MANIFEST_DIR"));
    let at = format!("127.0.0.1:{}/gold", registry.port);
    for image in ["library/beta:1.2", "library/alpha:v1", "nested/zeta:v1", "charts/delta:0.1.0"] {
        let from = format!("{at}/{image}");
        peer(&dir, "rm", &["-rf", "layout", "a.tar", "b.tar", "c.tar", "home"]);
        peer(&dir, &tool("crane"), &["pull", "--insecure", "--format=oci", &from, "layout"]);
        peer(&dir, "tar", &["-cf", "a.tar", "-C", "layout", "."]);
        peer(
            &dir,
            &tool("regctl"),
            &["image", "export", "--host", &format!("reg=127.0.0.1:{},tls=disabled", registry.port), &from, "b.tar"],
        );
        peer(&dir, &tool("oras"), &["backup", "--plain-http", "--output", "c.tar", &from]);
        for (file, by) in [("a.tar", "crane"), ("b.tar", "regctl"), ("c.tar", "oras")] {
            let outcome = verify(&dir, &[file]).ok();
            assert!(outcome.text().ends_with("all is whole\n"), "{by}: {}", outcome.text());
            let list = ace_dt(&dir, &["mirror", "list", "-o", "csv", file]).ok();
            assert!(list.text().lines().count() > 1, "{by}: {}", list.text());
            println!("{by}, {image}: {}", outcome.text().lines().last().unwrap());
            let name = image.split(':').next().unwrap();
            delivered(&dir, file, &format!("127.0.0.1:{}/copy/{by}/{name}:v1", registry.port));
        }
    }
}

/// Every damage is found by one share of the blobs and by no other, in a file and in a pipe; what is missing by all.
#[test]
fn shares_together_are_all() {
    let dir = Dir::new();
    let whole = archive("recursive.tar");
    dir.write("whole.tar", &whole);
    let mut checked = 0;
    for share in ["1/3", "2/3", "3/3"] {
        let said = verify(&dir, &["--subset", share, "whole.tar"]).ok();
        let text = said.text().split(&format!("share {share}: the digest was checked of ")).nth(1).unwrap().to_string();
        checked += text.split(' ').next().unwrap().parse::<usize>().unwrap();
    }
    let all = members(&whole);
    let blobs: Vec<usize> = (0..all.len()).filter(|n| all[*n].name.len() > 64 && all[*n].content.len() > 1).collect();
    // An empty blob has nothing that could be damaged.
    let count = all.iter().filter(|member| member.name.len() > 64).count();
    assert!(checked == count && blobs.len() > 20, "{checked} {count}");
    for n in blobs.iter().step_by(3) {
        let mut damaged = all.clone();
        damaged[*n].content[0] ^= 1;
        dir.write("bad.tar", join(&damaged));
        let finds = |share: &str| {
            let words = ["mirror", "verify", "-q", "--subset", share];
            let file = ace_dt(&dir, &[&words[..], &["bad.tar"]].concat());
            let pipe = ace_dt_with(&dir, &[&words[..], &["-"]].concat(), &dir.read("bad.tar"));
            assert_eq!(file.text(), pipe.text());
            file.text().contains("have the digest") || file.text().contains("has the digest")
        };
        let found = ["1/3", "2/3", "3/3"].iter().filter(|share| finds(share)).count();
        // A manifest is read by all.
        let is_manifest = all[*n].content.starts_with(b"{") && found == 3 || all[*n].content.starts_with(b"z");
        assert!(found == 1 || is_manifest, "{}: by {found}", all[*n].name);
    }
    verify(&dir, &["--subset", "4/3", "whole.tar"]).fails(2, &["\"4/3\" is no share"]);
}
