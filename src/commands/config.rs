//! `config`: the configuration in effect, or a sample.

use crate::{
    cli::{output, program_options::ConfigOptions},
    config_text,
    error::Result,
};

/// # Errors
/// If the configuration cannot be read, or standard output cannot be written.
pub fn run(options: &ConfigOptions) -> Result<()> {
    match options.sample {
        true => output::print(config_text::SAMPLE),
        false => output::print(&config_text::in_effect(&options.files)?),
    }
}
