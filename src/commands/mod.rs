//! The commands: what was given on the command line becomes files opened, defaults resolved, and
//! the parts of the tool put together.

pub mod archive;
pub mod batch_serialize;
pub mod gather;
pub mod list;
pub mod login;
pub mod mbuffer;
pub mod mux;
pub mod path_conflicts;
pub mod prune;
pub mod report;
pub mod serialize;
pub mod verify;

use std::sync::Arc;

use crate::{
    archive::write::compress::Codec,
    cli::{args::Args, output},
    error::Result,
    signal,
    store::{Store, router::Origins},
};

/// What the flags and the configuration make of a run.
pub struct Setup {
    pub store: Arc<Origins>,
    /// Requests at a time.
    pub threads: usize,
    pub codec: Option<Codec>,
}

/// Reads the configuration, and makes ready for requests; a signal ends them.
fn set_up(args: &Args) -> Result<Setup> {
    let config = args.load_config()?;
    let (threads, codec) = (config.concurrent_http, args.codec(&config));
    let store = Arc::new(Origins::new(config, args.patience, args.referrer_types.clone())?);
    let shut = store.clone();
    signal::on_request(move || shut.shutdown());
    Ok(Setup { store, threads, codec })
}

/// `version`.
pub fn version(_: &Args) -> Result<()> {
    output::print(&output::version_line())
}
