//! SCSI tapes under Linux (st(4)).
//!
//! [`drive`] is what a drive can do, [`mtio`] the ioctls by which a real one does it, `fake` a
//! scripted one for tests. [`sink`] writes, and [`reader`] reads. [`locate`] brings a tape to a place, [`look`] finds
//! out what stands there, and [`cartridge`] by that whether it is the right tape. [`changer`] has volumes changed,
//! and [`label`] tells them apart. [`scsi`] asks a drive what it knows of itself, and
//! [`watch`] does so before and behind a run.

pub mod cartridge;
pub mod changer;
pub mod drive;
#[cfg(test)]
pub mod fake;
pub mod label;
pub mod locate;
pub mod look;
#[allow(unsafe_code)]
pub mod mtio;
pub mod reader;
pub mod scsi;
pub mod sink;
pub mod watch;
