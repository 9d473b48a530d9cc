//! `ace-dt`: container images and other OCI artifacts across an air gap, onto tape.
//!
//! The way of the data: [`sources`] name images; [`gather`] resolves them through a [`store`] and
//! keeps their manifests in a [`graph`]; a [`plan`] fixes every byte of the archive; the
//! [`pipeline`] carries those bytes from producers through the [`ring`] onto a [`device`]. [`publish`]
//! puts a graph into a [`registry`].

#![deny(unsafe_code)]

pub mod archive;
pub mod cache;
pub mod cli;
pub mod commands;
pub mod compress;
pub mod config;
pub mod csv;
pub mod device;
pub mod drive;
pub mod error;
pub mod gather;
pub mod graph;
pub mod layout;
pub mod log;
pub mod medium;
pub mod oci;
pub mod origins;
pub mod output;
pub mod paced;
pub mod parallel;
pub mod pipeline;
pub mod plan;
pub mod position;
pub mod producer;
pub mod progress;
pub mod publish;
pub mod reader;
pub mod registry;
pub mod replace;
#[allow(unsafe_code)]
pub mod ring;
pub mod sink;
pub mod sources;
#[allow(unsafe_code)]
pub mod stop;
pub mod store;
pub mod strokes;
#[allow(unsafe_code)]
pub mod tape;
pub mod tee;
pub mod units;
pub mod volumes;
pub mod watchdog;
