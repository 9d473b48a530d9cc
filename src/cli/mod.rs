//! The command line: one table of commands and flags ([`table`]), from which come the parser,
//! `--help`, and the man pages.
//!
//! [`args`] holds what was given, as plain data; [`crate::commands`] turn it into files opened and
//! defaults resolved.

pub mod args;
pub mod help;
pub mod man;
pub mod parse;
pub mod table;

use std::{io::Write, process::ExitCode};

use crate::{error::Error, log, stop};
use args::Args;
use parse::Parsed;

/// The version in archives and in `version`. The environment variable is for making again, byte
/// for byte, an archive that another version wrote.
pub fn version() -> String {
    std::env::var("ACE_DT_VERSION").ok().filter(|v| !v.is_empty()).unwrap_or_else(|| env!("CARGO_PKG_VERSION").into())
}

/// Runs the command that the arguments of this process name, and says how it went.
pub fn main() -> ExitCode {
    let outcome = match parse::parse(std::env::args_os().skip(1)) {
        Ok(Parsed::Help(command)) => print(&help::text(command)),
        Ok(Parsed::Version) => print(&format!("ace-dt {}\n", version())),
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

fn run(command: &table::Command, args: Args) -> Result<(), Error> {
    log::set_level(args.verbosity);
    stop::install()?;
    let run = command.run.expect("the parser gives only commands that run");
    run(&args)
}

/// Data for standard output.
///
/// # Errors
/// If it cannot be written; but a reader that has seen enough is none.
pub fn print(text: &str) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::new(crate::error::io_reason(&e)).doing("writing to standard output"))
        }
        _ => Ok(()),
    }
}
