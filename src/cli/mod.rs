//! The command line: one table ([`table`]) of commands ([`commands`]) and [`flags`], from which come
//! the parser, `--help`, and the man pages.
//!
//! [`args`] holds what was given, as plain data; [`crate::commands`] turn it into files opened and
//! defaults resolved.

pub mod args;
pub mod command_table;
pub mod flag_table;
pub mod help;
pub mod man;
pub mod output;
pub mod parse;
pub mod progress;
pub mod schema;

use std::process::ExitCode;

use crate::cli::args::Args;
use crate::cli::parse::Parsed;
use crate::{cli::output::print, error::Error, log, signal};

/// Runs the command that the arguments of this process name, and says how it went.
pub fn main() -> ExitCode {
    let outcome = match parse::parse(std::env::args_os().skip(1)) {
        Ok(Parsed::Help(command)) => print(&help::text(command)),
        Ok(Parsed::Version) => print(&output::version_line()),
        Ok(Parsed::Run(command, args)) => run(command, *args),
        Err(e) => Err(e),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            log::error(&e);
            ExitCode::from(e.status() as u8)
        }
    }
}

fn run(command: &schema::Command, args: Args) -> Result<(), Error> {
    log::set_level(args.verbosity);
    signal::install()?;
    let run = command.run.expect("the parser gives only commands that run");
    run(&args)
}
