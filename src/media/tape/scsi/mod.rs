//! What a tape drive knows of itself and of its cartridge, asked by SCSI commands.
//!
//! [`command`] makes the commands, [`answer`] reads what comes back, and both know nothing of a device: they are functions of
//! bytes, by the layouts of SPC-4 (INQUIRY, MODE SENSE, LOG SENSE, READ ATTRIBUTE, SECURITY PROTOCOL IN) and SSC-4 (READ
//! BLOCK LIMITS, READ POSITION, log and mode pages of tapes). [`alert`] has TapeAlert's flags in words. [`facts`] asks a
//! device for all of it, and keeps what could not be had, and why; [`node`] is the device under Linux. [`change`] is what became of it during a run.

pub mod alert;
pub mod answer;
pub mod change;
pub mod command;
pub mod facts;
pub mod node;
