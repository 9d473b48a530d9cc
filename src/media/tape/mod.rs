//! SCSI tapes under Linux (st(4)).
//!
//! [`drive`] is what a drive can do, [`mtio`] the ioctls by which a real one does it, `fake` a
//! scripted one for tests. [`sink`] writes, [`reader`] reads, [`locate`] finds where an interrupted
//! archive goes on, [`changer`] has volumes changed, and [`label`] tells them apart.

pub mod changer;
pub mod drive;
#[cfg(test)]
pub mod fake;
pub mod label;
pub mod locate;
#[allow(unsafe_code)]
pub mod mtio;
pub mod reader;
pub mod sink;
