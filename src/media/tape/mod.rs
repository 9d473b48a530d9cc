//! SCSI tapes under Linux (st(4)).

pub mod changer;
pub mod locate;
pub mod mtio;
pub mod sink;
