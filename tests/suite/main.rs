//! The tool as its users see it: the real program, real registries, real peers.

mod access;
mod architecture;
mod batch;
mod big;
mod cache;
mod content;
mod documents;
mod errors;
mod failures;
mod golden;
mod mbuffer;
mod owners;
mod peers;
mod proxies;
mod push;
mod receiver;
mod registry;
mod resume;
mod scripted;
mod second;
mod soak;
mod tls;
mod tokens;
mod usage;
mod util;
mod verify;
