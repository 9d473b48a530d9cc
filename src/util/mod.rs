//! Small helpers that know nothing of images, archives or tapes.

pub mod atomic_file;
pub mod csv;
pub mod markup;
pub mod nearest;
pub mod parallel;
#[cfg(test)]
pub mod scratch;
pub mod units;
