//! `make bench-clone`: from registry to registry, and from an archive into many repositories, as ratios within one run,
//! against other programs on the same machine.
//!
//! Programs take turns, and what is compared is the median.

#[allow(dead_code)]
mod common;

use std::{
    process::Command,
    time::{Duration, Instant},
};

use ace_dt::oci::Digest;
use common::{
    Distant, InMemory, MIB, built, must,
    registry::Storage,
    tool,
    util::{Dir, noise},
};
#[allow(unused_imports)]
use common::{registry, scripted, util};

const ROUNDS: usize = 3;
const IMAGES: usize = 20;
const LAYER_LEN: usize = 25 * MIB;

fn main() {
    common::run(&[("clone", clone), ("small", small), ("unarchive", unarchive)]);
}

/// Images of four layers each, two of their own and two that all share: 2 GB as often as they are met.
fn images() -> InMemory {
    InMemory::with(|dir| {
        let storage = Storage::new(dir);
        for n in 0..IMAGES {
            let repository = format!("team/app{n}");
            let own = [n * 2, n * 2 + 1].map(|seed| seed as u64 + 10);
            let digests: Vec<Digest> =
                own.into_iter().chain([1, 2]).map(|seed| storage.blob(&repository, &noise(seed, LAYER_LEN))).collect();
            storage.image_of(&repository, "v1", &digests, LAYER_LEN);
        }
    })
}

fn other(dir: &Dir, name: &str, words: &[&str]) {
    must(Command::new(name).args(words).current_dir(&**dir).env("HOME", &**dir).env("TMPDIR", &**dir));
}

/// Copies images one by one with another program, each from `FROM/NAME` to `TO/NAME`.
fn copy_each(dir: &Dir, program: &str, names: &[String], from: &str, to: &str) {
    for name in names {
        let (from, to) = (format!("{from}/{name}"), format!("{to}/{name}"));
        match program {
            "regctl" => other(dir, &built("regctl"), &["image", "copy", &from, &to]),
            "crane" => other(dir, &built("crane"), &["copy", "--insecure", &from, &to]),
            "oras" => other(dir, &built("oras"), &["copy", "--from-plain-http", "--to-plain-http", &from, &to]),
            _ => {
                let (from, to) = (format!("docker://{from}"), format!("docker://{to}"));
                let plain = ["--src-tls-verify=false", "--dest-tls-verify=false"];
                other(dir, "skopeo", &["copy", "-q", plain[0], plain[1], &from, &to]);
            }
        }
    }
}

fn told(times: &mut [Duration], name: &str, ours: f64) -> f64 {
    times.sort();
    let median = times[times.len() / 2].as_secs_f64();
    let (least, most) = (times[0].as_secs_f64() * 1e3, times[times.len() - 1].as_secs_f64() * 1e3);
    let ratio = if ours > 0.0 { median / ours } else { 1.0 };
    println!("  {name:<28} {:9.0} ms ({least:.0} to {most:.0})  {ratio:.3} times the time of ace-dt", median * 1e3);
    median
}

/// 2 GB in 20 images that share half their layers, from one registry in memory to another.
fn clone() {
    let (dir, source) = (Dir::new(), images());
    let names: Vec<String> = (0..IMAGES).map(|n| format!("team/app{n}:v1")).collect();
    let list: Vec<String> = names.iter().map(|name| format!("{}/{name}", source.host())).collect();
    dir.write("s", list.join("\n"));
    let repositories: Vec<String> =
        names.iter().map(|name| format!("      {}: [v1]\n", name.trim_end_matches(":v1"))).collect();
    dir.write("sync.yml", format!("{}:\n    tls-verify: false\n    images:\n{}", source.host(), repositories.concat()));
    let ours = |host: &str, words: &[&str]| {
        dir.write("map.csv", format!("{}/,{host}/\n", source.host()));
        must(&mut tool(&dir, &[&["mirror", "clone", "s", "first-prefix=map.csv"], words].concat()))
    };
    let programs = ["ace-dt mirror clone", "regctl", "crane", "skopeo sync", "oras"];
    let mut times = vec![Vec::new(); programs.len()];
    for round in 0..=ROUNDS {
        for (n, program) in programs.iter().enumerate() {
            let dest = InMemory::start();
            if *program == "regctl" {
                set_plain(&dir, &[&dest.host(), &source.host()]);
            }
            let begun = Instant::now();
            match *program {
                "ace-dt mirror clone" => drop(ours(&dest.host(), &["-q"])),
                "skopeo sync" => {
                    let words = ["sync", "--dest-tls-verify=false", "--src", "yaml", "--dest", "docker", "sync.yml"];
                    other(&dir, "skopeo", &[&words[..], &[&dest.host()]].concat());
                }
                program => copy_each(&dir, program, &names, &source.host(), &dest.host()),
            }
            if round > 0 {
                times[n].push(begun.elapsed());
            }
        }
    }
    println!("2 GB in {IMAGES} images that share half their layers, to a registry in memory, median of {ROUNDS}:");
    let ours_took = told(&mut times[0], programs[0], 0.0);
    for n in 1..programs.len() {
        told(&mut times[n], programs[n], ours_took);
    }
    let dest = InMemory::start();
    let log = ours(&dest.host(), &["-v", "debug"]);
    let count = |words: [&str; 2]| log.lines().filter(|line| words.iter().all(|word| line.contains(word))).count();
    let blobs = IMAGES * 2 + 2 + 1;
    println!(
        "  of {blobs} blobs {} were fetched and {} sent, and {} were mounted",
        count(["GET ", "/blobs/sha256"]),
        count(["PUT ", "digest="]),
        count(["mount=", ": 201 "])
    );
}

/// 200 small images from a registry to another, of which every answer comes 20 ms late.
fn small() {
    const DELAY: Duration = Duration::from_millis(20);
    const SMALL: usize = 200;
    let names: Vec<String> = (0..SMALL).map(|n| format!("app{n}:v1")).collect();
    let source = InMemory::with(|dir| {
        let storage = Storage::new(dir);
        for n in 0..SMALL {
            storage.image(&format!("app{n}"), "v1", &[noise(n as u64 + 1, 2000)]);
        }
    });
    let (dir, from) = (Dir::new(), source.host());
    dir.write("s", names.iter().map(|name| format!("{from}/{name}\n")).collect::<String>());
    println!("{SMALL} small images to a registry that answers {} ms late:", DELAY.as_millis());
    let mut ours = 0.0;
    for program in ["ace-dt mirror clone", "regctl", "crane", "skopeo copy", "oras"] {
        // The others take minutes.
        let rounds = if ours == 0.0 { ROUNDS } else { 1 };
        let mut times = Vec::new();
        for _ in 0..rounds {
            let registry = InMemory::start();
            let dest = Distant::new(registry.host(), DELAY);
            let to = dest.host();
            dir.write("map.csv", format!("{from}/,{to}/\n"));
            if program == "regctl" {
                set_plain(&dir, &[&from, &to]);
            }
            let begun = Instant::now();
            match program {
                "ace-dt mirror clone" => {
                    drop(must(&mut tool(&dir, &["mirror", "clone", "-q", "s", "first-prefix=map.csv"])));
                }
                program => copy_each(&dir, program, &names, &from, &to),
            }
            times.push(begun.elapsed());
            must(&mut tool(&dir, &["mirror", "clone", "-q", "--verify", "s", "first-prefix=map.csv"]));
        }
        let took = told(&mut times, program, ours);
        ours = if ours == 0.0 { took } else { ours };
    }
}

/// Has regctl speak plain HTTP.
fn set_plain(dir: &Dir, hosts: &[&str]) {
    hosts.iter().for_each(|host| other(dir, &built("regctl"), &["registry", "set", "--tls", "disabled", host]));
}

/// An archive of 2 GB: into one repository, and into 20.
fn unarchive() {
    const TIMES: usize = 5;
    let dir = Dir::new();
    let from = {
        let source = images();
        let list: Vec<String> = (0..IMAGES).map(|n| format!("{}/team/app{n}:v1", source.host())).collect();
        dir.write("s", list.join("\n"));
        must(&mut tool(&dir, &["mirror", "archive", "-q", "s", "x.tar"]));
        source.host()
    };
    let (mut one, mut many) = (Vec::new(), Vec::new());
    for round in 0..=TIMES {
        for into_many in [false, true] {
            let dest = InMemory::start();
            dir.write("map.csv", format!("{from}/,{}/\n", dest.host()));
            let image = format!("{}/all:v1", dest.host());
            let words = match into_many {
                false => ["mirror", "deserialize", "-q", "x.tar", &image],
                true => ["mirror", "unarchive", "-q", "x.tar", "first-prefix=map.csv"],
            };
            let begun = Instant::now();
            must(&mut tool(&dir, &words));
            if round > 0 {
                if into_many { &mut many } else { &mut one }.push(begun.elapsed());
            }
        }
    }
    println!("an archive of 20 images, 1.05 GB, to a registry in memory, median of {TIMES}:");
    let base = told(&mut one, "deserialize, one repository", 0.0);
    let took = told(&mut many, "unarchive, 20 repositories", base);
    println!("  unarchive takes {:.3} times the time of deserialize", took / base);
}
