//! Completion in real shells, and what is said of words that are misspelt.

use crate::{
    terminal::Terminal,
    util::{Dir, ace_dt},
};

/// Completes a flag, a choice, a file and a registry with a port, each by the tabulator.
fn completes(shell: &str, begin: &[&str]) {
    let dir = Dir::new();
    dir.write("my-list.txt", "");
    dir.write(".docker/config.json", r#"{"auths": {"reg.example.com:5000": {"auth": "dTpw"}}}"#);
    let terminal = Terminal::start(&dir, 150, 30, shell);
    for line in begin {
        terminal.keys(&[line, "Enter"]);
    }
    terminal.keys(&["clear", "Enter"]);
    terminal.keys(&["echo started", "Enter"]);
    terminal.wait_for("\nstarted");
    let becomes = |typed: &str, wanted: &str| {
        terminal.keys(&["-l", typed]);
        terminal.keys(&["Tab"]);
        terminal.wait_for(wanted);
    };
    for (typed, wanted) in [
        ("ace-dt mirror arch", "mirror archive"),
        // Some shells put a blank behind a word, and two are as good as one.
        (" --compr", "--compression"),
        (" zs", "zstd"),
        (" my-l", "my-list.txt"),
    ] {
        becomes(typed, wanted);
    }
    terminal.keys(&["C-c"]);
    for (typed, wanted) in [
        ("ace-dt login reg.example.com:", "ace-dt login reg.example.com:5000"),
        ("ace-dt help util mb", "help util mbuffer"),
    ] {
        becomes(typed, wanted);
        terminal.keys(&["C-c"]);
    }
}

#[test]
fn bash_completes() {
    completes("bash --norc --noprofile -i", &["source <(ace-dt completion bash)"]);
}

#[test]
fn zsh_completes() {
    completes("zsh -f -i", &["autoload -U compinit && compinit -u -D", "source <(ace-dt completion zsh)"]);
}

#[test]
fn fish_completes() {
    completes("fish --no-config -i", &["ace-dt completion fish | source"]);
}

/// Help in two lengths, and by its own command.
#[test]
fn help_in_two_lengths() {
    let dir = Dir::new();
    let brief = ace_dt(&dir, &["mirror", "archive", "-h"]).ok();
    let full = ace_dt(&dir, &["mirror", "archive", "--help"]).ok();
    assert!(brief.text().lines().count() < 60 && full.text().lines().count() > 150);
    assert_eq!(ace_dt(&dir, &["help", "mirror", "archive"]).ok().out, full.out);
    assert_eq!(ace_dt(&dir, &["help"]).ok().out, ace_dt(&dir, &["--help"]).ok().out);
    for title in ["What to take:", "The device:", "Going on:", "Output:", "Registries:"] {
        assert!(brief.text().contains(&format!("\n{title}\n")), "{title}");
    }
    ace_dt(&dir, &["help", "miror"]).fails(2, &["no command \"miror\"", "is ace-dt mirror meant?"]);
    ace_dt(&dir, &["completion", "tcsh"]).fails(2, &["\"tcsh\" is none of bash, fish, zsh"]);
}

/// The configuration in effect is one itself, and says where each value comes from; so is the sample.
#[test]
fn the_configuration_in_effect() {
    let dir = Dir::new();
    let plain = ace_dt(&dir, &["config"]).ok();
    assert!(plain.text().contains("# There is no file.") && plain.text().contains("concurrentHTTP: 25"));
    dir.write("sample.yaml", &ace_dt(&dir, &["config", "--sample"]).ok().out);
    let sample = ace_dt(&dir, &["config", "--config", "sample.yaml"]).ok();
    assert!(sample.err.is_empty(), "{}", sample.err);
    // The sample's values are those that count without it.
    let values = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.starts_with([' ', 'r']));
        lines.map(|line| line.split('#').next().unwrap().trim().to_string()).collect()
    };
    assert_eq!(values(sample.text()), values(plain.text()));
    // With what is commented out it is one, too.
    let mut example = dir.text("sample.yaml").replace("registries: {}", "registries:");
    example = example.replace("endpointConfig: {}", "endpointConfig:").replace("# cachePath", "cachePath");
    example = example.replace("  #   ", "    ");
    dir.write("example.yaml", &example);
    let example = ace_dt(&dir, &["config", "--config", "example.yaml"]).ok();
    assert!(example.err.is_empty() && example.text().contains("https://mirror.example.com"), "{}", example.err);
    dir.write("ace-dt-config.yaml", "chunkSize: 5Mi\nconcurentHTTP: 3\nregistryAuthFile: ~/auth.json\n");
    let child = crate::util::tool(&dir, &["config"]).env("ACE_DT_CONCURRENT_HTTP", "7").spawn().unwrap();
    let mine = crate::util::finish(child).ok();
    assert!(mine.err.contains("unknown key concurentHTTP at line 2: is concurrentHTTP meant?"), "{}", mine.err);
    for (key, origin) in [
        ("concurrentHTTP: 7 ", "# $ACE_DT_CONCURRENT_HTTP"),
        ("chunkSize: 5242880 ", "# ace-dt-config.yaml"),
        ("cachePruneMax: 524288000 ", "# default"),
        ("registryAuthFile: ", "# ace-dt-config.yaml"),
    ] {
        let line = mine.text().lines().find(|line| line.starts_with(key)).unwrap_or_else(|| panic!("{}", mine.text()));
        assert!(line.ends_with(origin), "{line}");
    }
    dir.write("again.yaml", &mine.out);
    let child = crate::util::tool(&dir, &["config", "--config", "again.yaml"]).spawn().unwrap();
    let again = crate::util::finish(child).ok();
    assert!(again.err.is_empty() && again.text().contains("concurrentHTTP: 7 "), "{}", again.text());
}
