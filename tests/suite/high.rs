//! The way back, case by case: `tests/golden/high` says what is in the registry before and after.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::symlink,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use ace_dt::oci::Digest;
use serde_json::Value;

use crate::{
    registry::{Held, Registry, Storage, golden, golden_content},
    scripted::{Content, Scripted},
    util::{Dir, ace_dt, ace_dt_with, noise, peer},
};

fn golden_json(name: &str) -> Value {
    serde_json::from_slice(&fs::read(golden().join("high").join(name)).unwrap()).unwrap()
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().map(|all| all.iter().map(|v| v.as_str().unwrap()).collect()).unwrap_or_default()
}

/// A member as the recipes of `archives.json` have it; a directory if there is no content.
fn member(name: &str, content: Option<&[u8]>) -> Vec<u8> {
    let (kind, mode) = if content.is_some() { ("0", "0000666") } else { ("5", "0000777") };
    let content = content.unwrap_or_default();
    let mut header = vec![0; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    let size = format!("{:011o}", content.len());
    let fields = [(100, mode), (108, "0000000"), (116, "0000000"), (124, size.as_str()), (136, "00000000000")];
    for (at, text) in
        fields.into_iter().chain([(156, kind), (257, "ustar"), (263, "00"), (329, "0000000"), (337, "0000000")])
    {
        header[at..at + text.len()].copy_from_slice(text.as_bytes());
    }
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header.extend(content);
    header.resize(header.len().next_multiple_of(512), 0);
    header
}

/// An archive made by its recipe, or as the Go tool made it.
pub fn archive(name: &str) -> Vec<u8> {
    let recipes = golden_json("archives.json");
    let Some(recipe) = recipes.get(name.trim_end_matches(".tar")) else {
        return fs::read(golden().join("archives").join(name)).unwrap();
    };
    let mut all = Vec::new();
    for entry in recipe["entries"].as_array().unwrap() {
        let name = entry[0].as_str().unwrap();
        let content = match &entry[1]["text"] {
            Value::String(text) => Some(text.clone().into_bytes()),
            _ if entry[1] == "dir" => None,
            _ => Some(golden_content(&format!("sha256:{}", name.rsplit('/').next().unwrap()))),
        };
        all.extend(member(name, content.as_deref()));
    }
    all.resize(all.len() + 1024, 0);
    assert_eq!(Digest::of(&all).hex(), recipe["sha256"].as_str().unwrap(), "{name} is not what it should be");
    all
}

/// What a repository should hold, as a case has it. With a list of two either will do.
fn wanted(expected: &Value) -> Vec<BTreeMap<String, Held>> {
    let one = |registries: &Value| {
        let repositories = registries["high.example.com"].as_object().cloned().unwrap_or_default();
        repositories.into_iter().map(|(name, content)| (name, held(&content))).collect()
    };
    match expected {
        Value::Array(either) => either.iter().map(one).collect(),
        one_only => vec![one(one_only)],
    }
}

fn held(content: &Value) -> Held {
    let mut held = Held::default();
    for (tag, target) in content["tags"].as_object().unwrap() {
        match &target["referrers"] {
            // Any index of these manifests will do.
            Value::Null if target["index"].is_object() => {
                drop(held.tags.insert(tag.clone(), index_in_words(&target["index"])));
            }
            Value::Null => drop(held.tags.insert(tag.clone(), target.as_str().unwrap().into())),
            listed => drop(held.referrers.insert(tag.clone(), texts(listed).into_iter().map(String::from).collect())),
        }
    }
    held.manifests = texts(&content["manifests"]).into_iter().map(String::from).collect();
    held
}

/// Media type and manifests of an index.
fn index_in_words(index: &Value) -> String {
    let digests: Vec<&str> = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|listed| listed.as_str().or(listed["digest"].as_str()).unwrap())
        .collect();
    format!("{} of {}", index["mediaType"].as_str().unwrap(), digests.join(", "))
}

/// What a registry holds before a case.
fn storage(dir: &Path, case: &Value, registry: &str) -> Storage {
    fs::create_dir_all(dir).unwrap();
    let mut storage = Storage::new(dir);
    let state = case["before"][registry].as_str().map(|state| golden_json("states.json")[state].clone());
    for entry in state.iter().flat_map(|state| state.as_array().unwrap()) {
        match entry.as_str() {
            Some(_) => storage = Storage::golden(dir),
            None => {
                let (repository, tag) = (entry[0].as_str().unwrap(), entry[1].as_str());
                storage.golden_tree(repository, entry[2].as_str().unwrap(), tag);
            }
        }
    }
    storage
}

fn prepare(case: &Value) -> (Dir, Storage) {
    let dir = Dir::in_memory();
    let storage = storage(&dir.join("storage"), case, "high.example.com");
    fs::create_dir(dir.join("archives")).unwrap();
    for entry in fs::read_dir(golden().join("archives")).unwrap().map(Result::unwrap) {
        symlink(entry.path(), dir.join("archives").join(entry.file_name())).unwrap();
    }
    for name in golden_json("archives.json").as_object().unwrap().keys() {
        dir.write(&format!("archives/{name}.tar"), archive(&format!("{name}.tar")));
    }
    for (name, content) in case["files"].as_object().into_iter().flatten() {
        let mut bytes = match content {
            Value::String(text) => text.clone().into_bytes(),
            other => archive(other["archive"].as_str().unwrap()),
        };
        bytes.truncate(content["bytes"].as_u64().map_or(bytes.len(), |n| n as usize));
        dir.write(name, bytes);
    }
    (dir, storage)
}

/// Runs a case; what is wrong.
fn run(case: &Value) -> Vec<String> {
    let (dir, storage) = prepare(case);
    let registry = Registry::start(&dir.join("storage"));
    let low = case["before"]["reg.example.com"].as_str().map(|_| {
        self::storage(&dir.join("low"), case, "reg.example.com");
        Registry::start(&dir.join("low"))
    });
    let ports = [("high.example.com", Some(&registry)), ("reg.example.com", low.as_ref())];
    let mut config =
        "apiVersion: config.dt.act3-ace.io/v1alpha1\nkind: Configuration\nregistryConfig:\n  registries:\n".to_string();
    for (name, registry) in ports {
        let port = registry.map_or(1, |registry| registry.port);
        config.push_str(&format!("    {name}:\n      endpoints: [\"http://127.0.0.1:{port}\"]\n"));
    }
    dir.write("ace-dt-config.yaml", config);
    let (mut wrong, before, mut last) = (Vec::new(), storage.held(), String::new());
    let expected = &case["expected"];
    for (command, exit) in case["commands"].as_array().unwrap().iter().zip(expected["exit"].as_array().unwrap()) {
        let words = texts(command);
        let outcome = match case["stdin"].as_str().or(case["stdin"]["archive"].as_str()) {
            Some(name) => ace_dt_with(&dir, &words, &archive(name)),
            None => ace_dt(&dir, &words),
        };
        last.clone_from(&outcome.text().to_string());
        let is = Value::from(outcome.status);
        if *exit != is && !exit.as_array().is_some_and(|any| any.contains(&is)) {
            wrong.push(format!("{words:?} exits with {is}, not {exit}: {}", outcome.err));
        }
        let said = |line: &str| !line.contains("; trying again in ") && !line.contains(": warning: ");
        if outcome.status == 0 && outcome.err.lines().any(said) {
            wrong.push(format!("{words:?} says {:?}", outcome.err));
        }
        if outcome.status != 0 && !outcome.err.contains("ace-dt: ") {
            wrong.push(format!("{words:?} does not say why it fails: {:?}", outcome.err));
        }
    }
    let compare = expected["compare"].as_str().unwrap_or("all");
    let found = storage.held();
    let differs = |wanted: &BTreeMap<String, Held>| {
        let mut wrong = Vec::new();
        for (repository, is) in &found {
            let none = Held::default();
            let should = wanted.get(repository).or(before.get(repository)).unwrap_or(&none);
            let tag_is = |tag: &String, wanted: &String| match is.tags.get(tag) {
                Some(digest) if wanted.contains(" of ") => {
                    let content = fs::read(storage.data(&digest.parse().unwrap())).unwrap();
                    index_in_words(&serde_json::from_slice(&content).unwrap()) == *wanted
                }
                found => found == Some(wanted),
            };
            let tags =
                is.tags.len() == should.tags.len() && should.tags.iter().all(|(tag, wanted)| tag_is(tag, wanted));
            let same =
                tags && (compare == "tags" || is.manifests == should.manifests && is.referrers == should.referrers);
            if !same {
                wrong.push(format!("{repository} is {is:?}, and should be {should:?}"));
            }
        }
        let absent = wanted.iter().filter(|(name, held)| !found.contains_key(*name) && !held.tags.is_empty());
        wrong.extend(absent.map(|(name, _)| format!("{name} is not there")));
        wrong
    };
    if compare != "none" {
        let all: Vec<_> = wanted(&expected["after"]).iter().map(differs).collect();
        if !all.iter().any(Vec::is_empty) {
            wrong.extend(all.into_iter().next().unwrap());
        }
    }
    wrong.extend(wrong_output(&expected["output"], &last));
    for (name, content) in expected["files"].as_object().into_iter().flatten() {
        if let Some(text) = content.as_str() {
            if fs::read_to_string(dir.join(name)).unwrap_or_default() != text {
                wrong.push(format!("{name} is not {text:?}"));
            }
            continue;
        }
        let columns = content["columns"].as_u64().unwrap() as usize;
        let text = fs::read_to_string(dir.join(name)).unwrap_or_default();
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').take(columns).collect()).collect();
        let should: Vec<Vec<&str>> = content["rows"].as_array().unwrap().iter().map(texts).collect();
        if rows != should {
            wrong.push(format!("{name} holds {rows:?}, not {should:?}"));
        }
    }
    wrong
}

/// What is wrong with what a command prints.
fn wrong_output(expected: &Value, text: &str) -> Option<String> {
    let rows: Vec<Vec<&str>> = expected["rows"].as_array()?.iter().map(texts).collect();
    let found: Vec<Vec<String>> = match expected["kind"].as_str().unwrap() {
        "json" => {
            let objects: Vec<BTreeMap<String, String>> = serde_json::from_str(text).ok()?;
            objects.iter().map(|object| vec![object["reference"].clone(), object["digest"].clone()]).collect()
        }
        "pairs" => text.lines().map(|line| line.split('\t').map(String::from).collect()).collect(),
        "csv" => text.lines().skip(1).map(|line| line.split(',').map(String::from).collect()).collect(),
        _ => text.lines().skip(1).map(|line| line.split_whitespace().map(String::from).collect()).collect(),
    };
    (found != rows).then(|| format!("it prints {found:?}, and should print {rows:?}"))
}

#[test]
fn the_golden_cases() {
    let cases = golden_json("cases.json");
    let cases = cases.as_array().unwrap();
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let name = case["name"].as_str().unwrap();
                    let found = run(case);
                    wrong.lock().unwrap().extend(found.into_iter().map(|why| format!("{name}: {why}")));
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} things are wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(cases.len() > 200, "only {} cases", cases.len());
}

#[test]
fn archives_and_layouts_are_compared_as_registries_are() {
    let dir = Dir::new();
    let mut content = Content::default();
    let layer = |n: u64| noise(n, 1000 * n as usize);
    content.image("one", "v1", &[layer(1), layer(2)]);
    content.image("two", "v1", &[layer(2), layer(3)]);
    let manifest = content.body("/v2/two/manifests/v1").unwrap().to_vec();
    let scripted = Scripted::honest(content);
    crate::registry::configure(&dir, &scripted.endpoint(), 4);
    dir.write("old.list", "reg.example.com/one:v1");
    dir.write("new.list", "reg.example.com/one:v1\nreg.example.com/two:v1");
    for name in ["old", "new"] {
        ace_dt(&dir, &["mirror", "archive", "-q", &format!("{name}.list"), &format!("{name}.tar")]).ok();
    }
    fs::create_dir(dir.join("layout")).unwrap();
    peer(&dir, "tar", &["-xf", "old.tar", "-C", "layout"]);
    drop(scripted);
    // The second layer and the configuration are there already.
    let bytes = 3000 + manifest.len();
    let wanted = format!("reference,digest,bytes\nreg.example.com/two:v1,{},{bytes}\n", Digest::of(&manifest));
    for existing in ["old.tar", "layout", "oci-archive:old.tar", "oci:layout"] {
        let outcome = ace_dt(&dir, &["mirror", "diff", "--bytes", "-o", "csv", "new.tar", existing]).ok();
        assert_eq!(outcome.text(), wanted, "{existing}");
    }
    let outcome = ace_dt(&dir, &["mirror", "diff", "--bytes", "new.tar", "old.tar"]).ok();
    let total = outcome.text().lines().last().unwrap().trim().replace(',', "");
    assert_eq!(total, bytes.to_string(), "{}", outcome.text());
    let files = ["-o", "json=x.json,csv=x.csv", "new.tar", "new.tar"];
    let outcome = ace_dt(&dir, &[&["mirror", "diff"], &files[..]].concat()).ok();
    assert_eq!(
        (outcome.text(), dir.text("x.json"), dir.text("x.csv")),
        ("", "[]\n".into(), "reference,digest\n".into())
    );
    ace_dt(&dir, &["mirror", "diff", "new.list"]).fails(1, &["new.list"]);
    ace_dt(&dir, &["mirror", "diff", "-o", "csv=new.tar", "new.tar"]).fails(2, &["IMAGE"]);
}
