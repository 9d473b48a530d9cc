//! Archives planned and written.
//!
//! [`plan`] fixes every byte; [`producer`] makes them, and [`compress`] makes frames of them, as
//! [`encoding`] decides; [`session`] carries them onto the medium, from where [`resume`] finds that an
//! interrupted run can go on.

pub mod compress;
pub mod encoding;
pub mod existing;
pub mod frame;
pub mod plan;
pub mod producer;
pub mod resume;
pub mod session;
