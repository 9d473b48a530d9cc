//! The commands: what was given on the command line becomes files opened, defaults resolved, and
//! the parts of the tool put together.

pub mod archive;
pub mod batch;
mod collect;
mod files;
pub mod gather;
pub mod login;
pub mod mbuffer;
pub mod mux;
pub mod prune;
mod report;
mod resume;
pub mod serialize;
mod there;
mod transfer;

use crate::{cli::args::Args, error::Result, output};

/// `version`.
pub fn version(_: &Args) -> Result<()> {
    output::print(&output::version_line())
}
