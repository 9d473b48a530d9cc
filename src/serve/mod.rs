//! Archives and layouts as a registry that is only read, as they lie there: the pull side of the distribution
//! specification (version 1.1), with nothing unpacked.
//!
//! [`shelf`] opens what is served: where each blob lies ([`content`], [`frames`], [`frame_index`]), and what is listed; of
//! archives that list no manifests [`docker_archive`] makes some. A [`library`] knows all shelves as one, with the names of
//! images. [`routes`] answers a request, [`server`] takes connections, and [`http`] is what is spoken on them.

pub mod access;
pub mod access_log;
pub mod connections;
pub mod content;
pub mod docker_archive;
pub mod frame_index;
pub mod frames;
pub mod http;
pub mod library;
pub mod names;
pub mod page;
pub mod routes;
pub mod sending;
pub mod server;
pub mod shelf;
pub mod wire;
