//! The layers of `src/`: the table in `src/README.md` is the picture, and every `use` line is held
//! against it. Also what documentation and length every file has.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

fn src() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))
}

/// Every source file but the ring's, by its path below `src/`, without its tests.
fn files() -> BTreeMap<String, String> {
    fn add(dir: &Path, files: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(src()).unwrap().to_str().unwrap().to_string();
            if path.is_dir() && name != "ring" {
                add(&path, files);
            } else if name.ends_with(".rs") {
                let text = fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]\nmod tests").next().unwrap().to_string();
                files.insert(name, code);
            }
        }
    }
    let mut all = BTreeMap::new();
    add(src(), &mut all);
    all
}

/// The floors of the table, from the ground up: folders and files.
fn floors() -> Vec<Vec<String>> {
    let text = fs::read_to_string(src().join("README.md")).unwrap();
    let table = text.split("| floor, from the ground up |").nth(1).unwrap();
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let cell = |row: &str| row.split('|').nth(1).unwrap().to_string();
    rows.map(|row| cell(row).split('`').skip(1).step_by(2).map(String::from).collect()).collect()
}

/// The floor that a file stands on: that of the longest folder that holds it.
fn floor_of(file: &str, floors: &[Vec<String>]) -> usize {
    let holds = |place: &String| file == place || place.ends_with('/') && file.starts_with(place.as_str());
    let places = floors.iter().enumerate().flat_map(|(n, all)| all.iter().map(move |place| (n, place)));
    let longest = places.filter(|(_, place)| holds(place)).max_by_key(|(_, place)| place.len());
    longest.unwrap_or_else(|| panic!("{file} stands on no floor of the table in src/README.md")).0
}

/// The module of a file, as a path: `media::tape::sink`.
fn module_of(file: &str) -> Vec<String> {
    let path = file.trim_end_matches(".rs").trim_end_matches("/mod");
    if path == "lib" { Vec::new() } else { path.split('/').map(String::from).collect() }
}

/// The paths of a `use` tree, each as its segments.
fn leaves(tree: &str, prefix: &[String], all: &mut Vec<Vec<String>>) {
    let tree = tree.trim();
    let (head, group) = match tree.split_once('{') {
        Some((head, rest)) => (head, rest.strip_suffix('}')),
        None => (tree, None),
    };
    let mut path = prefix.to_vec();
    let words = head.split("::").map(|word| word.split(" as ").next().unwrap().trim());
    path.extend(words.filter(|word| !word.is_empty() && *word != "self").map(String::from));
    let Some(group) = group else { return all.push(path) };
    let (mut depth, mut from) = (0, 0);
    for (at, c) in group.char_indices().chain([(group.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if !group[from..at].trim().is_empty() {
                    leaves(&group[from..at], &path, all);
                }
                from = at + 1;
            }
            _ => {}
        }
    }
}

/// What a file refers to in this crate, as absolute paths; and what it hands on (`pub use`).
fn references(file: &str, code: &str) -> (Vec<Vec<String>>, Vec<Vec<String>>) {
    let module = module_of(file);
    let absolute = |path: Vec<String>| -> Option<Vec<String>> {
        let supers = path.iter().take_while(|word| *word == "super").count();
        match path.first().map(String::as_str) {
            Some("crate") => Some(path[1..].to_vec()),
            Some("super") => Some([&module[..module.len() - supers], &path[supers..]].concat()),
            _ => None,
        }
    };
    let (mut used, mut handed_on) = (Vec::new(), Vec::new());
    for statement in code.split("\nuse ").skip(1).map(|rest| rest.split(';').next().unwrap()) {
        leaves(statement, &[], &mut used);
    }
    let mut used: Vec<_> = used.into_iter().filter_map(absolute).collect();
    for statement in code.split("\npub use ").skip(1).map(|rest| rest.split(';').next().unwrap()) {
        let mut paths = Vec::new();
        leaves(statement, &[], &mut paths);
        handed_on.extend(paths.into_iter().map(|path| absolute(path.clone()).unwrap_or([&module[..], &path].concat())));
    }
    // Paths in the code itself, documentation aside.
    for line in code.lines().filter(|line| !line.trim_start().starts_with("//") && !line.contains("use ")) {
        for rest in line.split("crate::").skip(1) {
            let path = rest.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).next().unwrap();
            used.push(path.split("::").filter(|word| !word.is_empty()).map(String::from).collect());
        }
    }
    (used, handed_on)
}

/// Which files each file knows.
fn arrows() -> BTreeMap<String, BTreeSet<String>> {
    let files = files();
    let file_of: BTreeMap<Vec<String>, &String> = files.keys().map(|file| (module_of(file), file)).collect();
    let found: BTreeMap<&String, _> = files.iter().map(|(file, code)| (file, references(file, code))).collect();
    // A name that a `mod.rs` hands on stands for the file that it comes from.
    let mut handed_on: BTreeMap<Vec<String>, Vec<String>> = BTreeMap::new();
    for (file, (_, paths)) in &found {
        for path in paths {
            handed_on.insert([module_of(file), path[path.len() - 1..].to_vec()].concat(), path.clone());
        }
    }
    let resolve = |path: &Vec<String>| {
        let path = (1..=path.len()).find_map(|n| handed_on.get(&path[..n])).unwrap_or(path);
        (1..=path.len()).rev().find_map(|n| file_of.get(&path[..n]).map(|file| file.to_string()))
    };
    let mut arrows = BTreeMap::new();
    for (file, (used, _)) in &found {
        let known = used.iter().filter_map(resolve).filter(|other| other != *file);
        arrows.insert(file.to_string(), known.collect());
    }
    arrows
}

#[test]
fn no_arrow_runs_up() {
    let (floors, arrows) = (floors(), arrows());
    assert!(floors.len() > 10 && arrows.values().map(BTreeSet::len).sum::<usize>() > 200, "{floors:?}");
    let up = arrows.iter().flat_map(|(file, known)| known.iter().map(move |other| (file, other)));
    let up: Vec<_> = up.filter(|(file, other)| floor_of(other, &floors) > floor_of(file, &floors)).collect();
    assert!(up.is_empty(), "these know what stands above them: {up:?}");
}

#[test]
fn no_two_files_know_each_other_in_a_circle() {
    fn visit(
        file: &str,
        arrows: &BTreeMap<String, BTreeSet<String>>,
        way: &mut Vec<String>,
        done: &mut BTreeSet<String>,
    ) {
        if let Some(at) = way.iter().position(|other| other == file) {
            panic!("a circle: {} -> {file}", way[at..].join(" -> "));
        }
        if !done.insert(file.into()) {
            return;
        }
        way.push(file.into());
        // `done` is for speed only: what is on the way is looked at first.
        for other in &arrows[file] {
            if way.contains(other) || !done.contains(other) {
                visit(other, arrows, way, done);
            }
        }
        way.pop();
    }
    let (arrows, mut done) = (arrows(), BTreeSet::new());
    for file in arrows.keys() {
        visit(file, &arrows, &mut Vec::new(), &mut done);
    }
}

#[test]
fn every_floor_has_its_folder() {
    for place in floors().iter().flatten() {
        assert!(src().join(place).exists(), "src/README.md speaks of {place}");
    }
    for file in files().keys() {
        floor_of(file, &floors());
    }
}

#[test]
fn no_file_is_too_long() {
    let ring = ["lib", "memory", "sync", "waiter", "bounds", "tests"].map(|name| format!("ring/{name}.rs"));
    let long: Vec<_> = files()
        .into_keys()
        .chain(ring)
        .map(|file| (file.clone(), fs::read_to_string(src().join(file)).unwrap().lines().count()))
        .filter(|(_, lines)| *lines > 600)
        .collect();
    assert!(long.is_empty(), "{long:?}");
}

/// A name stands for one thing.
#[test]
fn no_two_types_share_a_name() {
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for (file, code) in files() {
        for line in code.lines() {
            let item = line.trim_start_matches("pub ").trim_start_matches("pub(super) ");
            let kind = ["struct ", "enum ", "trait ", "type "].iter().find_map(|kind| item.strip_prefix(kind));
            let Some(name) = kind.and_then(|rest| rest.split(|c: char| !c.is_alphanumeric()).next()) else { continue };
            if let Some(other) = seen.insert(name.into(), file.clone()) {
                panic!("{name} is a type of {other} and of {file}");
            }
        }
    }
    assert!(seen.len() > 150, "{}", seen.len());
}

/// rustc and clippy check the documentation of what they count as public; this checks what other
/// modules see, whose modules are private.
#[test]
fn what_others_see_is_documented() {
    let (mut items, mut fallible, mut bare) = (0, 0, Vec::new());
    for (file, code) in files() {
        let lines: Vec<&str> = code.lines().collect();
        for (n, line) in lines.iter().enumerate() {
            let Some(item) = line.trim_start().strip_prefix("pub ").or(line.trim_start().strip_prefix("pub(super) "))
            else {
                continue;
            };
            if item.starts_with("mod ") || item.starts_with("use ") {
                continue;
            }
            items += 1;
            let above = lines[..n].iter().rev().map(|line| line.trim_start());
            let above: Vec<&str> = above.take_while(|line| line.starts_with("///") || line.starts_with("#[")).collect();
            let docs: Vec<&&str> = above.iter().filter(|line| line.starts_with("///")).collect();
            if docs.is_empty() {
                bare.push(format!("{file}:{}: no documentation: {item}", n + 1));
            }
            let end = lines[n..].iter().position(|line| line.ends_with([';', '{'])).unwrap_or(0);
            let signature = lines[n..=n + end].join(" ");
            let fails = signature.split_once("->").is_some_and(|(_, result)| result.contains("Result<"));
            if item.contains("fn ") && fails {
                fallible += 1;
                if !docs.iter().any(|line| line.contains("# Errors")) {
                    bare.push(format!("{file}:{}: no section on errors: {item}", n + 1));
                }
            }
        }
    }
    println!("{items} public items, {fallible} fallible functions, {} without what they must have", bare.len());
    assert!(items > 500 && fallible > 100);
    assert!(bare.is_empty(), "{}", bare.join("\n"));
}
