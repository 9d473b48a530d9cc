//! What streams are read from and written to: files, pipes and tapes, in blocks.
//!
//! [`sink`] is the interface of all that is written to, [`source`] that of all that a TAR stream is
//! read from. [`destination`] opens a sink by its name, [`input`] a source.

pub mod block_reader;
pub mod destination;
pub mod file_sink;
pub mod files;
pub mod files_cursor;
pub mod input;
#[cfg(any(test, fuzzing))]
pub mod memory_source;
pub mod sink;
pub mod source;
pub mod stream_input;
pub mod tape;
pub mod tee;
pub mod throttle;
