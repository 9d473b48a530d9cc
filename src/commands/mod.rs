//! The commands: what was given on the command line becomes files opened, defaults resolved, and
//! the parts of the tool put together.

pub mod archive;
pub mod batch;
mod collect;
mod files;
pub mod gather;
pub mod list;
pub mod login;
mod look;
pub mod mbuffer;
pub mod mux;
pub mod prune;
mod report;
mod resume;
pub mod serialize;
mod there;
mod transfer;
pub mod verify;

use std::sync::Arc;

use crate::{cli::args::Args, compress::Codec, error::Result, origins::Origins, output, stop, store::Store};

/// What the flags and the configuration make of a run.
pub struct Setup {
    store: Arc<Origins>,
    /// Requests at a time.
    threads: usize,
    codec: Option<Codec>,
}

/// Reads the configuration, and makes ready for requests; a signal ends them.
fn set_up(args: &Args) -> Result<Setup> {
    let config = args.load_config()?;
    let (threads, codec) = (config.concurrent_http, args.codec(&config));
    let store = Arc::new(Origins::new(config, args.patience, args.referrer_types.clone())?);
    let shut = store.clone();
    stop::on_request(move || shut.shutdown());
    Ok(Setup { store, threads, codec })
}

/// `version`.
pub fn version(_: &Args) -> Result<()> {
    output::print(&output::version_line())
}
