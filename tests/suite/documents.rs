//! Man pages and README: current, well-formed, and true.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use crate::{
    registry::{Registry, Storage, golden},
    util::{Dir, ace_dt, free_port, peer},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The pages that are installed are those that the program writes of itself.
#[test]
fn man_pages_are_current() {
    let dir = Dir::new();
    ace_dt(&dir, &["--generate", "man:pages"]).ok();
    let names = |dir: &Path| -> BTreeSet<String> {
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    let (committed, pages) = (names(&root().join("man")), names(&dir.join("pages")));
    assert_eq!(committed, pages, "`make man` writes the pages");
    for name in pages {
        let committed = fs::read_to_string(root().join("man").join(&name)).unwrap();
        assert!(committed == dir.text(&format!("pages/{name}")), "man/{name} is not current: `make man` writes it");
    }
    let page = ace_dt(&dir, &["mirror", "list", "--generate", "man"]).ok();
    assert_eq!(page.out, dir.read("pages/ace-dt-mirror-list.1"));
    ace_dt(&dir, &["mirror", "--generate=man:some"]).ok();
    assert!(names(&dir.join("some")).iter().all(|name| name.starts_with("ace-dt-mirror")));
    ace_dt(&dir, &["--generate", "pdf"]).fails(2, &["--generate", "\"pdf\" is neither man nor man:DIR"]);
}

#[test]
fn mandoc_has_nothing_to_say() {
    let said = Command::new("mandoc")
        .args(["-Tlint", "-Wstyle"])
        .args(fs::read_dir(root().join("man")).unwrap().map(|e| e.unwrap().path()))
        .output();
    let said = said.unwrap_or_else(|e| panic!("mandoc: {e}; `make test` installs it"));
    let lines = String::from_utf8(said.stdout).unwrap();
    // A page refers to pages that are not installed here; mandoc wants a date of its system's form.
    let lines: Vec<&str> = lines.lines().filter(|l| !l.contains("referenced manual not found")).collect();
    assert!(lines.is_empty(), "{}", lines.join("\n"));
    let text = peer(root(), "mandoc", &["-Tmarkdown", "man/ace-dt-mirror-archive.1"]);
    assert!(String::from_utf8(text).unwrap().contains("# EXIT STATUS"));
}

/// Runs the examples of a page that begin with `$ `, in their order, in `dir`. A file stands for the tape, and this
/// machine for others.
fn run_examples(dir: &Dir, page: &str) -> usize {
    let text = fs::read_to_string(root().join("man").join(page)).unwrap();
    let tool = Path::new(env!("CARGO_BIN_EXE_ace-dt")).parent().unwrap();
    let path = format!("{}:{}:{}", dir.join("bin").display(), tool.display(), std::env::var("PATH").unwrap());
    let mut run = 0;
    for block in text.split(".Bd -literal -offset indent\n").skip(1) {
        let block = block.split(".Ed\n").next().unwrap();
        if !block.starts_with("$ ") {
            continue;
        }
        let lines = block.lines().map(|line| line.strip_prefix("$ ").unwrap_or(line));
        let script = lines.collect::<Vec<_>>().join("\n").replace("\\e", "\\");
        // A file for each shard stands for the drives.
        let script = script.replace("/dev/nst$(({%}-1))", "four-{}.tar");
        let script = script.replace("/dev/nst0", "nst0").replace("-m 4Gi", "-m 64Mi").replace("-m 1Gi", "-m 64Mi");
        if page.contains("recipes") {
            let _ = fs::remove_file(dir.join("nst0"));
        }
        let mut shell = Command::new("timeout");
        shell.args(["100", "bash", "-euo", "pipefail", "-c", &script]).current_dir(&**dir);
        shell.env("HOME", &**dir).env("PATH", &path).env_remove("ACE_DT_VERSION");
        let output = shell.output().unwrap();
        assert!(output.status.success(), "{page}: {script}\n{}", String::from_utf8_lossy(&output.stderr));
        run += 1;
    }
    run
}

/// The pages with examples, and how many blocks of them are run at the least.
const PAGES: [(&str, usize); 6] = [
    ("ace-dt-archive.5", 2),
    ("ace-dt-airgap.7", 12),
    ("ace-dt-tape.7", 2),
    ("ace-dt-recipes.7", 4),
    ("ace-dt-shards.7", 5),
    ("ace-dt-plan.5", 1),
];

/// Every example of the pages of sections 5 and 7 that needs neither a drive nor what Debian has not works as it stands.
#[test]
fn the_examples_of_the_manual_work() {
    use std::os::unix::fs::PermissionsExt as _;
    for (page, least) in PAGES {
        let dir = Dir::new();
        fs::create_dir_all(dir.join("storage")).unwrap();
        Storage::golden(&dir.join("storage"));
        let registry = Registry::start(&dir.join("storage"));
        registry.configure(&dir, "http", 25);
        let config = dir.text("ace-dt-config.yaml");
        let endpoint = format!("    high.example.com:\n      endpoints: [\"http://127.0.0.1:{}\"]\n", registry.port);
        dir.write("ace-dt-config.yaml", config + &endpoint);
        fs::copy(golden().join("archives/plain.tar"), dir.join("week-48.tar")).unwrap();
        dir.write("sources.list", "reg.example.com/gold/library/alpha:v1\nreg.example.com/gold/library/beta:1.2\n");
        for (name, text) in [("mt", "exit 0"), ("ssh", "shift; exec sh -c \"$*\"")] {
            let program = dir.write(&format!("bin/{name}"), format!("#!/bin/sh\n{text}\n"));
            fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let run = run_examples(&dir, page);
        assert!(run >= least, "{page}: {run}");
    }
}

/// The configuration that the manual shows is one, and every key that it names is known.
#[test]
fn the_configuration_of_the_manual_is_one() {
    let text = fs::read_to_string(root().join("man/ace-dt-config.yaml.5")).unwrap();
    let block = text.split(".Bd -literal -offset indent\n").nth(1).unwrap().split(".Ed\n").next().unwrap();
    let dir = Dir::new();
    dir.write("ace-dt-config.yaml", block);
    let shown = ace_dt(&dir, &["config"]).ok();
    assert!(shown.err.is_empty() && shown.text().contains("https://mirror.example.com"), "{}", shown.err);
    let sample = ace_dt(&dir, &["config", "--sample"]).ok();
    for line in text.lines().filter_map(|line| line.strip_prefix(".It Cm ")) {
        for key in line.split([' ', '.', ',']).filter(|key| !key.is_empty()) {
            assert!(sample.text().contains(&format!("{key}:")), "{key}");
        }
    }
}

/// Every flag of every command stands in its page and in the help.
#[test]
fn every_flag_stands_in_its_page() {
    let dir = Dir::new();
    let mut flags = 0;
    for entry in fs::read_dir(root().join("man")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Some(command) = name.strip_suffix(".1").and_then(|name| name.strip_prefix("ace-dt")) else { continue };
        let page = String::from_utf8(peer(root(), "mandoc", &["-Tascii", &format!("man/{name}")])).unwrap();
        let page = page.replace('\u{8}', "").replace(['_', '\n'], " ");
        // The words of a command, of which some hold a dash themselves.
        let known = ["batch-serialize", "batch-deserialize"];
        let words: Vec<String> = match known.iter().find(|known| command.ends_with(*known)) {
            Some(known) => vec!["mirror".into(), known.to_string()],
            None => command.split('-').filter(|word| !word.is_empty()).map(String::from).collect(),
        };
        let words: Vec<&str> = words.iter().map(String::as_str).chain(["-h"]).collect();
        let brief = ace_dt(&dir, &words).ok();
        for flag in brief.text().split_whitespace().filter(|word| word.starts_with("--")) {
            let flag = flag.trim_end_matches([',', ';']);
            // Bold text is each letter twice.
            let bold: String = flag.chars().flat_map(|c| [c, c]).collect();
            assert!(page.contains(&bold) || page.contains(flag), "{name}: {flag}");
            flags += 1;
        }
    }
    assert!(flags > 200, "{flags}");
}

/// The README's commands, without the build, on what lies in the repository.
#[test]
fn the_examples_of_the_readme_work() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let block = |language: &str, n: usize| {
        let fence = format!("```{language}\n");
        readme.split(&fence).nth(n).unwrap().split("```").next().unwrap().trim().to_string()
    };
    let dir = Dir::new();
    std::os::unix::fs::symlink(root().join("tests"), dir.join("tests")).unwrap();
    let run = |command: String| {
        let command = command.replace("target/release/ace-dt", env!("CARGO_BIN_EXE_ace-dt"));
        // What waits for a registry that cannot start would wait for ever.
        let mut shell = Command::new("timeout");
        shell.args(["100", "sh", "-euc", &command]).current_dir(&*dir).env("HOME", &*dir).env_remove("ACE_DT_VERSION");
        let output = shell.output().unwrap();
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let first = block("sh", 1);
    let build = "cargo build --release && ";
    let shown = run(first.strip_prefix(build).unwrap_or_else(|| panic!("it begins with {build:?}")).into());
    assert_eq!(shown.trim(), block("text", 1));
    let free = free_port();
    run(block("sh", 3).replace("5000", &free.to_string()));
    run(block("sh", 4).replace("5000", &free.to_string()));
    peer(&dir, "zstd", &["-tq", "week.tar.zst"]);
    let planned = run(block("sh", 5).replace("5000", &free.to_string()));
    assert!(planned.starts_with("to send: "), "{planned}");
    run(block("sh", 6).replace("5000", &free.to_string()));
    assert!(dir.join("storage/docker/registry/v2/repositories/team/hello/_manifests/tags/v1").exists());
    assert!(dir.join("storage/docker/registry/v2/repositories/high/week/_manifests/tags/48").exists());
    let checkpoint = fs::read_to_string(dir.join("hello.checkpoint")).unwrap();
    assert_eq!(checkpoint.lines().count(), 4);
    let listed = String::from_utf8(peer(&dir, "tar", &["-tf", "from-registry.tar"])).unwrap();
    assert!(listed.contains("blobs/sha256/1a013ea23249cd60118c65a593e419727ab1ede03cb72161076fba5a7cfaf63e"));
}

#[test]
fn every_test_that_the_table_of_conformance_names_is_there() {
    let table = fs::read_to_string(root().join("tests/conformance.md")).unwrap();
    let mut named = 0;
    for name in table.split('`').skip(1).step_by(2).filter(|name| name.contains("::")) {
        let (module, test) = name.split_once("::").unwrap();
        let text = fs::read_to_string(root().join(format!("tests/suite/{module}.rs"))).unwrap();
        assert!(text.contains(&format!("#[test]\nfn {test}()")), "there is no test {name}");
        named += 1;
    }
    assert!(named > 20);
}
