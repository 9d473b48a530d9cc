//! What streams are read from and written to: files, pipes and tapes, in blocks.

pub mod block_reader;
pub mod file_sink;
pub mod input;
pub mod sink;
#[allow(unsafe_code)]
pub mod tape;
pub mod tee;
pub mod throttle;
