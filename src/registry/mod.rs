//! Registries over HTTP and HTTPS: the client side of the OCI distribution specification 1.1.
//!
//! [`client`] sends a request to the endpoint of a registry that answers ([`host`]); [`pull`], [`push`],
//! [`upload`], [`tags`] and [`referrers`] are what is asked of one. [`transport`] lies below, and [`auth`] answers
//! challenges.
//!
//! Whatever a server says is bounded when it is read and checked before it counts. A manifest's
//! digest is always computed from its bytes.

pub mod auth;
pub mod client;
mod host;
mod pull;
mod push;
mod referrers;
mod resuming_body;
mod tags;
pub mod transport;
pub mod upload;
