//! The command line: one table ([`schema`]) of commands ([`command_table`]) and flags ([`flag_table`]),
//! from which come the parser, `--help`, and the man pages.
//!
//! [`args`] holds what was given, as plain data; [`options`] and [`deliver_options`] make of it what each command takes. What is
//! shown goes through [`output`] and [`progress`].

pub mod archive_options;
pub mod args;
pub mod chart;
pub mod command_line;
pub mod command_table;
pub mod complete;
pub mod deliver_flags;
pub mod deliver_options;
pub mod flag_table;
pub mod general_flags;
pub mod help;
pub mod man;
pub mod map_flags;
pub mod map_options;
pub mod meant;
pub mod metrics;
pub mod options;
pub mod output;
pub mod parse;
pub mod program_options;
pub mod progress;
pub mod progress_event;
pub mod run_record;
pub mod schema;
pub mod sections;
pub mod serve_flags;
pub mod serve_options;
pub mod shard_flags;
pub mod status_lines;
pub mod tape_flags;
