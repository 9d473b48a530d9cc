//! `make test-big`: a 2 GB archive from a real registry, watched.

use std::{collections::BTreeMap, fs, process::Command, thread, time::Duration};

use crate::{
    registry::{CONFIG, LAYER as LAYER_TYPE, MANIFEST, Registry, Storage, configure, descriptor},
    scripted::{Answer, Content, Scripted},
    util::{Dir, noise, tool},
};

const LAYERS: usize = 8;
const LAYER: usize = 250_000_000;
const BUFFER: u64 = 64 << 20;
const BLOCK: u64 = 1 << 20;
/// What the tool may take beyond its buffer.
const OVERHEAD: u64 = 24 << 20;

const WORDS: [&str; 9] =
    ["mirror", "archive", "-q", "-m", "64Mi", "--force", "sources.list", "out.tar", "--checkpoint=checkpoint"];

fn prepare() -> (Dir, Registry) {
    let dir = Dir::new();
    let storage = Storage::new(&dir.join("storage"));
    let layers: Vec<Vec<u8>> = (0..LAYERS as u64).map(|n| noise(n + 1, LAYER)).collect();
    storage.image("app", "v1", &layers);
    let registry = Registry::start(&dir.join("storage"));
    registry.configure(&dir, "http", 25);
    dir.write("sources.list", "reg.example.com/app:v1");
    (dir, registry)
}

#[test]
#[ignore = "long: make test-big"]
fn big_archive_stays_within_its_memory() {
    let (dir, _registry) = prepare();
    let mut child = tool(&dir, &WORDS).spawn().unwrap();
    // VmHWM never falls, so the last reading is the peak, but for the last millisecond.
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let kib = status
            .lines()
            .find_map(|l| l.strip_prefix("VmHWM:"))
            .and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok());
        peak = peak.max(kib.unwrap_or(0) << 10);
        thread::sleep(Duration::from_millis(1));
    }
    assert!(child.wait().unwrap().success());
    let size = fs::metadata(dir.join("out.tar")).unwrap().len();
    println!(
        "{size} bytes archived with -m 64Mi: peak memory {} KiB, buffer and {} KiB",
        peak >> 10,
        peak.saturating_sub(BUFFER) >> 10
    );
    assert!(size > (LAYERS * LAYER) as u64);
    assert!(peak > BUFFER, "the peak was not seen");
    assert!(peak <= BUFFER + OVERHEAD, "{peak} bytes");
}

#[test]
#[ignore = "long: make test-big"]
fn big_archive_writes_whole_blocks_and_nothing_else() {
    let (dir, _registry) = prepare();
    let inner = tool(&dir, &WORDS);
    let mut strace = Command::new("strace");
    strace.args(["-f", "-y", "-qq", "-s", "0", "-o", "trace", "-e"]);
    strace.arg("trace=openat,open,creat,read,pread64,readv,mmap,write,pwrite64,writev,pwritev,pwritev2,sendfile,splice,copy_file_range,io_uring_setup");
    strace.arg(inner.get_program()).args(inner.get_args()).current_dir(&*dir).env("HOME", &*dir);
    let output = strace.output().unwrap_or_else(|e| panic!("strace: {e}; `make test-big` installs it"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let here = fs::canonicalize(&*dir).unwrap();
    let archive = here.join("out.tar").display().to_string();
    let (mut blocks, mut elsewhere, mut read): (Vec<u64>, BTreeMap<String, u64>, u64) = Default::default();
    let mut pending: BTreeMap<String, String> = BTreeMap::new();
    for line in dir.text("trace").lines() {
        let (thread, rest) = line.split_once(' ').unwrap();
        let rest = rest.trim();
        // A call that another thread interrupts stands on two lines.
        let call = if let Some(begun) = rest.strip_suffix("<unfinished ...>") {
            pending.insert(thread.into(), begun.into());
            continue;
        } else if let Some((_, end)) = rest.split_once("resumed>") {
            pending.remove(thread).unwrap_or_default() + end
        } else {
            rest.to_string()
        };
        let Some((name, arguments)) = call.split_once('(') else { continue };
        let result =
            call.rsplit_once("= ").and_then(|(_, r)| r.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0);
        let path = arguments
            .split_once('<')
            .and_then(|(fd, p)| fd.chars().all(|c| c.is_ascii_digit()).then(|| p.split('>').next().unwrap()));
        match (name, path) {
            ("write", Some(path)) if path == archive => blocks.push(result),
            ("write" | "pwrite64" | "writev" | "pwritev" | "pwritev2", Some(path)) if path.starts_with('/') => {
                *elsewhere.entry(path.into()).or_default() += result;
            }
            ("read" | "pread64" | "readv", Some(path)) if path.starts_with(here.to_str().unwrap()) => read += result,
            ("open" | "openat" | "creat", _)
                if ["O_WRONLY", "O_RDWR", "O_TMPFILE"].iter().any(|f| arguments.contains(f)) =>
            {
                let known =
                    ["out.tar", "checkpoint", "/dev/null"].iter().any(|name| arguments.contains(&format!("{name}\"")));
                assert!(known, "a file is opened for writing: {call}");
            }
            ("sendfile" | "splice" | "copy_file_range" | "io_uring_setup", _) => panic!("bytes go another way: {call}"),
            _ => {}
        }
    }
    let size = fs::metadata(dir.join("out.tar")).unwrap().len();
    let (last, whole) = blocks.split_last().unwrap();
    let checkpoint = fs::metadata(dir.join("checkpoint")).unwrap().len();
    println!(
        "{size} bytes archived: {} writes of {BLOCK} bytes and one of {last}; {checkpoint} bytes of checkpoint, {read} bytes read from files of the run",
        whole.len()
    );
    assert!(whole.iter().all(|n| *n == BLOCK), "a write was not one block");
    assert_eq!(blocks.iter().sum::<u64>(), size);
    let checkpoint_path = here.join("checkpoint").display().to_string();
    assert_eq!(elsewhere, BTreeMap::from([(checkpoint_path, checkpoint)]), "something else was written");
    assert!(read < 100_000, "layers were read from a disk");
}

/// A blob of 8 GiB and a MiB, made on the way, for which a TAR header has no room.
#[test]
#[ignore = "long: make test-big"]
fn big_blobs_over_8_gib_have_headers_that_others_read() {
    const PIECES: usize = 8 * 1024 + 1;
    let piece = noise(1, 1 << 20);
    let mut hasher = ace_dt::oci::Digest::of(b"").hasher();
    (0..PIECES).for_each(|_| hasher.update(&piece));
    let digest = hasher.finish();
    let size = PIECES << 20;
    let mut content = Content::default();
    let config = content.blob("app", b"{}");
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(CONFIG, &config, 2),
        "layers": [descriptor(LAYER_TYPE, &digest, size)],
    });
    content.manifest("app", MANIFEST, manifest.to_string().as_bytes(), Some("v1"));
    let large = format!("/v2/app/blobs/{digest}");
    let registry = Scripted::start(content, move |request, answer| match request.path == large {
        true => Answer { status: 200, body: piece.clone(), more: PIECES - 1, ..Answer::default() },
        false => answer,
    });
    let dir = Dir::new();
    configure(&dir, &registry.endpoint(), 4);
    dir.write("s", "reg.example.com/app:v1");
    let words = ["mirror", "archive", "-q", "-m", "64Mi", "--checkpoint", "checkpoint", "s", "/dev/null"];
    crate::util::ace_dt(&dir, &words).ok();
    let records = dir.text("checkpoint");
    assert!(records.lines().last().unwrap().contains(&digest.to_string()));
    let through = |reader: &str| {
        let script = format!("{} mirror archive -q -m 64Mi s - | {reader}", env!("CARGO_BIN_EXE_ace-dt"));
        String::from_utf8(crate::util::peer(&dir, "bash", &["-o", "pipefail", "-c", &script])).unwrap()
    };
    let tar = through("tar -tvf -");
    let python = through(
        "python3 -c 'import sys,tarfile\nfor e in tarfile.open(fileobj=sys.stdin.buffer,mode=\"r|\"): print(e.size,e.name)'",
    );
    for listing in [&tar, &python] {
        let line = listing.lines().find(|l| l.ends_with(&digest.path())).unwrap_or_else(|| panic!("{listing}"));
        assert!(line.contains(&size.to_string()), "{line}");
        // What follows it is found.
        assert!(listing.lines().last().unwrap().ends_with("index.json"), "{listing}");
    }
    println!("a blob of {size} bytes: GNU tar and Python's tarfile read the archive");
}

/// Runs the tool to its end, fed by `feed`; its peak memory in bytes.
fn peak_of(mut child: std::process::Child, feed: impl FnOnce(std::process::ChildStdin) + Send + 'static) -> u64 {
    let feeder = child.stdin.take().map(|input| thread::spawn(move || feed(input)));
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        peak = peak.max(kib.unwrap_or(0) << 10);
        thread::sleep(Duration::from_millis(1));
    }
    feeder.into_iter().for_each(|feeder| feeder.join().unwrap());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    peak
}

/// A registry that takes everything, and keeps of blobs only those that may be manifests.
fn sink() -> Scripted {
    let kept = std::sync::Mutex::new(std::collections::HashMap::<String, Vec<u8>>::new());
    Scripted::start(Content::default(), move |request, answer| {
        let taken = |status| {
            let path = request.path.split("uploads/").next().unwrap();
            Answer { status, headers: vec![("Location".into(), format!("{path}uploads/1"))], ..Answer::default() }
        };
        let digest = request.path.rsplit(['=', '/']).next().unwrap().replace("%3A", ":");
        match request.method {
            "POST" | "PATCH" => taken(202),
            "PUT" => {
                if request.body.starts_with(b"{") && !request.path.contains("/manifests/") {
                    kept.lock().unwrap().insert(digest, request.body.to_vec());
                }
                taken(201)
            }
            _ => match kept.lock().unwrap().get(&digest).filter(|_| request.path.contains("/blobs/")) {
                Some(body) => Answer { status: 200, body: body.clone(), ..Answer::default() },
                None => answer,
            },
        }
    })
}

/// A member's header, and zeros behind its content.
fn member(name: &str, size: u64) -> (Vec<u8>, usize) {
    let mut header = vec![0; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    let mut octal = format!("{size:011o}").into_bytes();
    if octal.len() > 11 {
        // In base 256, as GNU tar has it.
        octal = [&[0x80, 0, 0, 0][..], &size.to_be_bytes()].concat();
    }
    let fields: [(usize, &[u8]); 8] = [
        (100, b"0000666"),
        (108, b"0000000"),
        (116, b"0000000"),
        (124, &octal),
        (136, b"00000000000"),
        (156, b"0"),
        (257, b"ustar"),
        (263, b"00"),
    ];
    for (at, text) in fields {
        header[at..at + text.len()].copy_from_slice(text);
    }
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    (header, (size.next_multiple_of(512) - size) as usize)
}

fn put(archive: &mut Vec<u8>, name: &str, bytes: &[u8]) {
    let (header, padding) = member(name, bytes.len() as u64);
    archive.extend(header);
    archive.extend(bytes);
    archive.resize(archive.len() + padding, 0);
}

#[test]
#[ignore = "long: make test-big"]
fn big_blob_is_delivered_within_the_buffer() {
    use std::io::Write as _;
    const LEN: u64 = 8 << 30;
    let piece = vec![0; 16 << 20];
    let mut hasher = ace_dt::oci::Digest::of(b"").hasher();
    (0..LEN / piece.len() as u64).for_each(|_| hasher.update(&piece));
    let layer = hasher.finish();
    let config = br#"{"architecture":"amd64","os":"linux"}"#;
    let config_digest = ace_dt::oci::Digest::of(config);
    let manifest = serde_json::json!({"schemaVersion": 2, "mediaType": MANIFEST,
        "config": descriptor(CONFIG, &config_digest, config.len()), "layers": [descriptor(LAYER_TYPE, &layer, LEN as usize)]})
    .to_string();
    let digest = ace_dt::oci::Digest::of(manifest.as_bytes());
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [descriptor(MANIFEST, &digest, manifest.len())]});
    let mut begin = Vec::new();
    put(&mut begin, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
    put(&mut begin, "index.json", index.to_string().as_bytes());
    put(&mut begin, &digest.path(), manifest.as_bytes());
    put(&mut begin, &config_digest.path(), config);
    begin.extend(member(&layer.path(), LEN).0);
    let (dir, registry) = (Dir::new(), sink());
    configure(&dir, &registry.endpoint(), 25);
    let words = ["mirror", "deserialize", "-q", "-m", "64Mi", "-", "reg.example.com/m:v1"];
    let child = tool(&dir, &words).stdin(std::process::Stdio::piped()).spawn().unwrap();
    let peak = peak_of(child, move |mut input| {
        input.write_all(&begin).unwrap();
        (0..LEN / piece.len() as u64).for_each(|_| input.write_all(&piece).unwrap());
        input.write_all(&[0; 1024]).unwrap();
    });
    println!(
        "a blob of {LEN} bytes delivered from a pipe with -m 64Mi: peak memory {} KiB, buffer and {} KiB",
        peak >> 10,
        peak.saturating_sub(BUFFER) >> 10
    );
    assert!(peak > BUFFER && peak <= BUFFER + OVERHEAD, "{peak} bytes");
}

#[test]
#[ignore = "long: make test-big"]
fn big_plan_is_delivered_within_its_memory() {
    const IMAGES: u64 = 1000;
    const LAYERS: u64 = 1000;
    const MOST: u64 = 400_000_000;
    let dir = Dir::new();
    let (mut archive, mut images) = (Vec::new(), Vec::new());
    put(&mut archive, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
    let config = br#"{"architecture":"amd64","os":"linux"}"#;
    let config_digest = ace_dt::oci::Digest::of(config);
    put(&mut archive, &config_digest.path(), config);
    for image in 0..IMAGES {
        let content: Vec<[u8; 8]> = (0..LAYERS).map(|n| (image * LAYERS + n).to_le_bytes()).collect();
        let digests: Vec<_> = content.iter().map(|bytes| ace_dt::oci::Digest::of(bytes)).collect();
        let layers: Vec<_> = digests.iter().map(|digest| descriptor(LAYER_TYPE, digest, 8)).collect();
        let manifest = serde_json::json!({"schemaVersion": 2, "mediaType": MANIFEST,
            "config": descriptor(CONFIG, &config_digest, config.len()), "layers": layers})
        .to_string();
        let digest = ace_dt::oci::Digest::of(manifest.as_bytes());
        put(&mut archive, &digest.path(), manifest.as_bytes());
        images.push(descriptor(MANIFEST, &digest, manifest.len()));
        digests.iter().zip(&content).for_each(|(digest, bytes)| put(&mut archive, &digest.path(), bytes));
    }
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": images});
    let index = index.to_string();
    let digest = ace_dt::oci::Digest::of(index.as_bytes());
    put(&mut archive, &digest.path(), index.as_bytes());
    let root = descriptor("application/vnd.oci.image.index.v1+json", &digest, index.len());
    put(
        &mut archive,
        "index.json",
        serde_json::json!({"schemaVersion": 2, "manifests": [root]}).to_string().as_bytes(),
    );
    archive.resize(archive.len() + 1024, 0);
    dir.write("x.tar", &archive);
    drop(archive);
    let registry = sink();
    configure(&dir, &registry.endpoint(), 25);
    let begun = std::time::Instant::now();
    let words = ["mirror", "deserialize", "-q", "x.tar", "reg.example.com/m:v1"];
    let peak = peak_of(tool(&dir, &words).spawn().unwrap(), drop);
    println!(
        "{} blobs in {IMAGES} images, index.json last, delivered in {:.0} s: peak memory {} KiB",
        IMAGES * LAYERS,
        begun.elapsed().as_secs_f64(),
        peak >> 10
    );
    assert!(peak <= MOST, "{peak} bytes");
}

/// A list of 1,000 images with a million layers, of which a quarter is in two images each, divided among 16 shards.
#[test]
#[ignore = "long: make test-big"]
fn big_list_is_divided_within_its_memory() {
    const IMAGES: u64 = 1000;
    const LAYERS: u64 = 1250;
    const SHARED: u64 = 500;
    const MOST: u64 = 400_000_000;
    let dir = Dir::new();
    let blob = |bytes: &[u8]| {
        let digest = ace_dt::oci::Digest::of(bytes);
        dir.write(&format!("layout/{}", digest.path()), bytes);
        digest
    };
    dir.write("layout/oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
    let config = br#"{"architecture":"amd64","os":"linux"}"#;
    let config_digest = blob(config);
    let (mut listed, mut sources) = (Vec::new(), String::new());
    for image in 0..IMAGES {
        // Layers of its own, and those of a base that one other image has.
        let own = (0..LAYERS - SHARED).map(|n| image * LAYERS + n);
        let shared = (0..SHARED).map(|n| (1 << 40) + image / 2 * SHARED + n);
        let layers = own.chain(shared).map(|content| {
            let digest = ace_dt::oci::Digest::of(&content.to_le_bytes());
            descriptor(LAYER_TYPE, &digest, 1_000_000 + content as usize % 1_000_000)
        });
        let manifest = serde_json::json!({"schemaVersion": 2, "mediaType": MANIFEST,
            "config": descriptor(CONFIG, &config_digest, config.len()), "layers": layers.collect::<Vec<_>>()})
        .to_string();
        let mut entry = descriptor(MANIFEST, &blob(manifest.as_bytes()), manifest.len());
        entry["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": format!("i{image}")});
        listed.push(entry);
        sources.push_str(&format!("oci:layout:i{image}\n"));
    }
    let index = serde_json::json!({"schemaVersion": 2, "manifests": listed});
    dir.write("layout/index.json", index.to_string());
    dir.write("s", sources);
    let begun = std::time::Instant::now();
    let words = ["mirror", "plan", "-q", "--shards", "16", "--volume-size", "18T", "-o", "p", "s"];
    let peak = peak_of(tool(&dir, &words).spawn().unwrap(), drop);
    let seconds = begun.elapsed().as_secs_f64();
    let plan: serde_json::Value = serde_json::from_slice(&dir.read("p")).unwrap();
    let sizes: Vec<u64> = plan["shards"].as_array().unwrap().iter().map(|s| s["size"].as_u64().unwrap()).collect();
    let (total, largest) = (sizes.iter().sum::<u64>(), sizes.iter().max().unwrap());
    println!(
        "{} blobs in {IMAGES} images divided among {} shards in {seconds:.1} s: peak memory {} KiB; the largest has {:.2} % more than a sixteenth; {} bytes stored twice",
        IMAGES * (LAYERS - SHARED) + IMAGES / 2 * SHARED,
        sizes.len(),
        peak >> 10,
        100.0 * (*largest as f64 * 16.0 / total as f64 - 1.0),
        plan["storedTwice"]
    );
    assert!(peak <= MOST, "{peak} bytes");
}
