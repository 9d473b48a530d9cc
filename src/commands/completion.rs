//! `completion`: the script for a shell; and what the scripts ask.

use crate::{
    cli::{
        complete::{complete, script, words_of_line},
        output,
        program_options::CompletionOptions,
    },
    config,
    error::Result,
    registry::auth::docker_config::Credentials,
};

/// # Errors
/// If standard output cannot be written.
pub fn run(options: &CompletionOptions) -> Result<()> {
    output::print(script(options.shell))
}

/// Answers a script: the first word is the shell, and for bash its line and the cursor's place in it follow, for others the
/// words of the line.
///
/// # Errors
/// If standard output cannot be written.
pub fn answer(words: &[String]) -> Result<()> {
    let words = match words {
        [shell, line, point] if shell == "bash" => words_of_line(line, point.parse().unwrap_or(usize::MAX)),
        [_, words @ ..] => words.to_vec(),
        [] => Vec::new(),
    };
    output::print(&complete(&words, &known).lines())
}

/// Names of registries and repositories in auth files and in the configuration. What cannot be read has none.
fn known() -> Vec<String> {
    let Ok(config) = config::load(&[]) else { return Vec::new() };
    let credentials = Credentials::load(config.auth_file.as_ref()).unwrap_or_default();
    let mut names: Vec<String> = credentials.names().map(String::from).chain(config.registries.into_keys()).collect();
    // What a shell would take for something else is no name.
    names.retain(|name| name.chars().all(|c| c.is_ascii_alphanumeric() || ".:/_-".contains(c)));
    names.sort_unstable();
    names.dedup();
    names
}
