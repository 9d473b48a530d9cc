//! The commands: what was given on the command line becomes files opened, defaults resolved, and
//! the parts of the tool put together.

pub mod archive;
pub mod mbuffer;
mod report;

use crate::{
    cli::{self, args::Args},
    error::Result,
};

/// `version`.
pub fn version(_: &Args) -> Result<()> {
    cli::print(&format!("ace-dt {}\n", cli::version()))
}
