//! The tool as its users see it: the real program, real registries, real peers.

mod big;
mod documents;
mod failures;
mod golden;
mod mbuffer;
mod peers;
mod registry;
mod scripted;
mod soak;
mod usage;
mod util;
