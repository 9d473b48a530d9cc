//! Archives read back, whoever wrote them.

pub mod catalog;
pub mod decompress;
pub mod open;
pub mod scan;
pub mod tar;
