//! The commands: options become files opened and parts put together, and results are shown.

mod archive;
mod archive_run;
mod archive_shard;
mod batch_deserialize;
mod batch_serialize;
mod clone;
mod completion;
mod config;
mod copy;
mod deliver;
mod deserialize;
mod diff;
mod gather;
mod help;
mod list;
mod login;
mod mbuffer;
mod merge_reports;
mod mux;
mod path_conflicts;
mod plan;
mod prune;
mod report;
mod result_files;
mod retry_hint;
mod routing;
mod scatter;
mod serialize;
mod serve;
mod setup;
mod tape;
mod unarchive;
mod verdict_lines;
mod verify;
mod wanted;

use crate::{
    cli::{
        args::Args,
        options::FromArgs,
        output,
        schema::{Action, Command},
    },
    error::Result,
};

/// Runs the command that was given.
///
/// # Errors
/// With what it fails.
pub fn run(command: &Command, args: Args) -> Result<()> {
    match command.action {
        Some(Action::Archive) => with(command, args, archive::run),
        Some(Action::BatchDeserialize) => with(command, args, batch_deserialize::run),
        Some(Action::Clone) => with(command, args, clone::run),
        Some(Action::Scatter) => with(command, args, scatter::run),
        Some(Action::Unarchive) => with(command, args, unarchive::run),
        Some(Action::Deserialize) => with(command, args, deserialize::run),
        Some(Action::Diff) => with(command, args, diff::run),
        Some(Action::BatchSerialize) => with(command, args, batch_serialize::run),
        Some(Action::Gather) => with(command, args, gather::run),
        Some(Action::MergeReports) => with(command, args, merge_reports::run),
        Some(Action::Plan) => with(command, args, plan::run),
        Some(Action::List) => with(command, args, list::run),
        Some(Action::Serialize) => with(command, args, serialize::run),
        Some(Action::Verify) => with(command, args, verify::run),
        Some(Action::Completion) => with(command, args, completion::run),
        Some(Action::Config) => with(command, args, config::run),
        Some(Action::Help) => with(command, args, help::run),
        Some(Action::Login) => with(command, args, login::login),
        Some(Action::Logout) => with(command, args, login::logout),
        Some(Action::Demux) => with(command, args, mux::demux),
        Some(Action::Mbuffer) => with(command, args, mbuffer::run),
        Some(Action::Mux) => with(command, args, mux::mux),
        Some(Action::Prune) => with(command, args, prune::run),
        Some(Action::Serve) => with(command, args, serve::run),
        Some(Action::Tape) => with(command, args, tape::run),
        Some(Action::Version) => output::print(&output::version_line()),
        None => Ok(()),
    }
}

/// Answers a shell that asks how words may go on.
///
/// # Errors
/// If standard output cannot be written.
pub fn complete(words: &[String]) -> Result<()> {
    completion::answer(words)
}

/// Makes the options of a command, and runs it with them.
fn with<O: FromArgs>(command: &Command, args: Args, run: fn(&O) -> Result<()>) -> Result<()> {
    run(&O::from_args(args, command.name)?)
}
