//! `make bench-shards`: two shards onto two drives, at the same time and one after the other, as a ratio within one run.

#[allow(dead_code)]
mod common;

use std::{fs, time::Instant};

use common::{
    InMemory, must,
    registry::Storage,
    tool,
    util::{Dir, noise},
};
#[allow(unused_imports)]
use common::{registry, scripted, util};
use nix::{sys::stat::Mode, unistd::mkfifo};

const IMAGES: u64 = 12;
const LAYERS: u64 = 24;
const LAYER_LEN: usize = 4_000_000;
/// What each drive takes in a second.
const RATE: &str = "100M";

fn main() {
    common::run(&[("drives", drives)]);
}

/// The drives are FIFOs, of which `util mbuffer` takes so much a second, and keeps nothing.
fn drives() {
    let registry = InMemory::with(|dir| {
        let stored = Storage::new(dir);
        for image in 0..IMAGES {
            let layers: Vec<Vec<u8>> = (0..LAYERS).map(|n| noise(image * LAYERS + n + 1, LAYER_LEN)).collect();
            stored.image(&format!("team/app{image}"), "v1", &layers);
        }
    });
    let dir = Dir::new();
    registry::configure(&dir, &format!("http://{}", registry.host()), 8);
    let sources: String = (0..IMAGES).map(|image| format!("reg.example.com/team/app{image}:v1\n")).collect();
    dir.write("s", sources);
    must(&mut tool(&dir, &["mirror", "plan", "-q", "--shards", "2", "-o", "p", "s"]));
    let timed = |rounds: &[&[u32]]| {
        let begun = Instant::now();
        for together in rounds {
            let mut running = Vec::new();
            for n in *together {
                let fifo = dir.join(format!("fifo{n}"));
                let _ = fs::remove_file(&fifo);
                mkfifo(&fifo, Mode::from_bits_truncate(0o600)).unwrap();
                let (fifo, shard) = (fifo.to_str().unwrap().to_string(), format!("{n}/2"));
                let drive = ["util", "mbuffer", "-q", "-m", "8M", "-R", RATE, "-i", &fifo, "-o", "/dev/null"];
                let archive = ["mirror", "archive", "-q", "-m", "32M", "--plan", "p", "--shard", &shard, &fifo];
                running.extend([&drive[..], &archive].map(|words| tool(&dir, words).spawn().unwrap()));
            }
            for mut child in running {
                assert!(child.wait().unwrap().success());
            }
        }
        begun.elapsed().as_secs_f64()
    };
    let (one_by_one, together) = (timed(&[&[1], &[2]]), timed(&[&[1, 2]]));
    println!(
        "two shards onto two drives of {RATE}B/s: {one_by_one:.2} s one after the other, {together:.2} s at the same time, {:.2} of it",
        together / one_by_one
    );
}
