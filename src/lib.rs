//! `ace-dt`: container images and other OCI artifacts across an air gap, onto tape.
//!
//! `src/README.md` is the architecture on one page.

#![deny(unsafe_code)]

pub mod archive;
pub mod cli;
pub mod commands;
pub mod compression;
pub mod config;
pub mod copy;
pub mod error;
pub mod gather;
pub mod log;
pub mod media;
pub mod oci;
pub mod registry;
#[allow(unsafe_code)]
pub mod signal;
pub mod store;
pub mod stream;
pub mod util;

use std::process::ExitCode;

use cli::{help, output, parse, parse::Parsed};

/// Runs the command that the arguments of this process name, and says how it went.
pub fn main() -> ExitCode {
    let outcome = match parse::parse(std::env::args_os().skip(1)) {
        Ok(Parsed::Help(command)) => output::print(&help::text(command)),
        Ok(Parsed::Version) => output::print(&output::version_line()),
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
