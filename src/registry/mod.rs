//! Registries over HTTP and HTTPS: the client side of the OCI distribution specification 1.1.
//!
//! Whatever a server says is bounded when it is read and checked before it counts. A manifest's
//! digest is always computed from its bytes.

pub mod auth;
pub mod client;
mod host;
mod pull;
pub mod push;
mod resuming_body;
pub mod transport;
