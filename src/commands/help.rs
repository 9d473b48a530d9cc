//! `help`: that of a command.

use crate::{
    cli::{help, output, program_options::HelpOptions},
    error::Result,
};

/// # Errors
/// If standard output cannot be written.
pub fn run(options: &HelpOptions) -> Result<()> {
    output::print(&help::full(options.command))
}
