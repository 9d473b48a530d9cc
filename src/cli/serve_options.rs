//! What `util serve` takes.

use std::{net::SocketAddr, path::PathBuf};

use super::{args::Args, options::FromArgs};
use crate::error::{Error, Result};

/// For `util serve`.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// What is served, one behind the other.
    pub archives: Vec<PathBuf>,
    /// They are the shards of this plan.
    pub plan: Option<PathBuf>,
    /// Where clients come, unless systemd passes a socket.
    pub address: SocketAddr,
    /// `KIND=ARGUMENT`.
    pub mapper: Option<String>,
    /// A certificate chain and its key.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Users and their passwords.
    pub htpasswd: Option<PathBuf>,
    /// Where requests are noted.
    pub log: Option<PathBuf>,
    /// Keep beside an archive where its frames end.
    pub frame_index: bool,
    /// Say nothing if all goes well.
    pub quiet: bool,
}

impl FromArgs for ServeOptions {
    fn from_args(args: Args, _: &'static str) -> Result<ServeOptions> {
        let tls = match (args.tls_cert, args.tls_key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) => return Err(Error::usage("--tls-cert needs --tls-key, too")),
            (None, Some(_)) => return Err(Error::usage("--tls-key needs --tls-cert, too")),
        };
        Ok(ServeOptions {
            archives: args.operands.iter().map(PathBuf::from).collect(),
            plan: args.plan,
            address: args.address,
            mapper: args.map,
            tls,
            htpasswd: args.htpasswd,
            log: args.log,
            frame_index: args.frame_index,
            quiet: args.progress.quiet,
        })
    }
}
