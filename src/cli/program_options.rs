//! What the commands take that are about the program itself: `help`, `completion`, `config`.

use std::path::PathBuf;

use super::{
    args::Args,
    complete::SHELLS,
    options::FromArgs,
    parse::unknown_command,
    schema::{self, Command},
};
use crate::error::{Error, Result};

/// For `config`.
#[derive(Clone, Debug)]
pub struct ConfigOptions {
    /// Print a sample.
    pub sample: bool,
    /// The files that `--config` names.
    pub files: Vec<PathBuf>,
}

/// For `completion`.
#[derive(Clone, Debug)]
pub struct CompletionOptions {
    /// One of [`SHELLS`].
    pub shell: &'static str,
}

/// For `help`.
#[derive(Clone, Copy)]
pub struct HelpOptions {
    /// What the help is of.
    pub command: &'static Command,
}

impl FromArgs for ConfigOptions {
    fn from_args(args: Args, _: &'static str) -> Result<ConfigOptions> {
        Ok(ConfigOptions { sample: args.sample, files: args.config })
    }
}

impl FromArgs for CompletionOptions {
    fn from_args(args: Args, _: &'static str) -> Result<CompletionOptions> {
        let wanted = args.operands[0].to_string_lossy();
        let shell = SHELLS.iter().find(|shell| **shell == wanted);
        let shell = shell.ok_or_else(|| Error::usage(format!("{wanted:?} is none of {}", SHELLS.join(", "))))?;
        Ok(CompletionOptions { shell })
    }
}

impl FromArgs for HelpOptions {
    fn from_args(args: Args, _: &'static str) -> Result<HelpOptions> {
        let command = args.operands.iter().try_fold(schema::root(), |group, word| {
            schema::below(group, &word.to_string_lossy()).ok_or_else(|| unknown_command(group, word))
        })?;
        Ok(HelpOptions { command })
    }
}
