//! Archives planned and written.

pub mod compress;
pub mod existing;
pub mod plan;
pub mod producer;
pub mod resume;
pub mod session;
