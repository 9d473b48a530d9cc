//! `ace-dt`: container images and other OCI artifacts across an air gap, onto tape.

#![deny(unsafe_code)]

pub mod archive;
pub mod cli;
pub mod commands;
pub mod config;
pub mod copy;
pub mod error;
pub mod gather;
pub mod log;
pub mod media;
pub mod oci;
pub mod registry;
#[allow(unsafe_code)]
pub mod signal;
pub mod store;
pub mod stream;
pub mod util;
