//! `ace-dt`: container images and other OCI artifacts across an air gap, onto tape.
//!
//! `src/README.md` is the architecture on one page.

#![deny(unsafe_code)]
#![deny(missing_docs, clippy::missing_docs_in_private_items, clippy::missing_errors_doc)]
#![deny(clippy::too_many_lines, clippy::too_many_arguments)]

mod archive;
mod cli;
mod commands;
mod compression;
mod config;
mod config_text;
mod copy;
mod delivery;
pub mod error;
#[allow(unsafe_code)]
mod fd;
#[cfg(fuzzing)]
pub mod fuzzing;
mod gather;
mod log;
mod mapper;
mod media;
pub mod oci;
mod owned_file;
mod registry;
mod serve;
mod shards;
#[allow(unsafe_code)]
mod signal;
mod store;
mod stream;
mod util;

use std::process::ExitCode;

use cli::{
    help, man, output,
    parse::{self, Generate, Parsed},
};

/// Runs the command that the arguments of this process name, and says how it went.
pub fn main() -> ExitCode {
    let outcome = match parse::parse(std::env::args_os().skip(1)) {
        Ok(Parsed::Brief(command)) => output::print(&help::brief(command)),
        Ok(Parsed::Help(command)) => output::print(&help::full(command)),
        Ok(Parsed::Complete(words)) => commands::complete(&words),
        Ok(Parsed::Version) => output::print(&output::version_line()),
        Ok(Parsed::Generate(command, Generate::ManPage)) => output::print(&man::page(command)),
        Ok(Parsed::Generate(command, Generate::ManPages(dir))) => man::write_all(command, &dir),
        Ok(Parsed::Run(command, args)) => {
            log::set_level(args.verbosity);
            signal::install().and_then(|()| commands::run(command, *args))
        }
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
