//! The way of the bytes through the ring, and who watches it.

pub mod pipeline;
pub mod pump;
pub mod stats;
pub mod watchdog;
