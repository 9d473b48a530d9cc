//! Man pages and README: current, well-formed, and true.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use crate::util::{Dir, ace_dt, peer};

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
    // Below the ports that the kernel gives to connections of other tests (ip(7), ip_local_port_range).
    let begin = 10_000 + (std::process::id() % 20_000) as u16;
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let free = (begin..begin + 1000).find(is_free).unwrap();
    run(block("sh", 2).replace("5000", &free.to_string()));
    run(block("sh", 3).replace("5000", &free.to_string()));
    peer(&dir, "zstd", &["-tq", "week.tar.zst"]);
    let planned = run(block("sh", 4).replace("5000", &free.to_string()));
    assert!(planned.starts_with("to send: "), "{planned}");
    assert!(dir.join("storage/docker/registry/v2/repositories/high/week/_manifests/tags/48").exists());
    let ledger = fs::read_to_string(dir.join("hello.ledger")).unwrap();
    assert_eq!(ledger.lines().count(), 4);
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
