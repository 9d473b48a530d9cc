//! `util serve`: archives as a registry that is only read.

use std::net::TcpListener;

use crate::{
    cli::serve_options::ServeOptions,
    error::{Context, Result},
    fd, log,
    mapper::Mapper,
    registry::transport::tls,
    serve::{
        access::PasswordFile,
        access_log::AccessLog,
        library::Library,
        server::{Server, ServerOptions},
        wire::tls_config,
    },
    signal,
};

/// # Errors
/// If what is to be served cannot be opened, or the address is taken.
pub fn run(options: &ServeOptions) -> Result<()> {
    signal::catch_hangup()?;
    let tls = options.tls.as_ref().map(|(certificate, key)| tls::identity(certificate, key)).transpose()?;
    let tls = tls.map(tls_config).transpose()?;
    let access = options.htpasswd.as_deref().map(PasswordFile::read).transpose()?;
    let log = options.log.as_deref().map(AccessLog::open).transpose()?;
    let listener = match fd::passed_listener()? {
        Some(passed) => passed,
        None => TcpListener::bind(options.address).doing(|| format!("listening on {}", options.address))?,
    };
    let address = listener.local_addr().doing(|| "listening")?;
    if !address.ip().is_loopback() && tls.is_none() {
        log::warn(format_args!("{address} can be reached by others, and what they read and send is not encrypted"));
    }
    let scheme = if tls.is_some() { "https" } else { "http" };
    // The map is read anew, too.
    let open = || {
        let mapper = options.mapper.as_deref().map(Mapper::read).transpose()?;
        Library::open(&options.archives, mapper.as_ref())
    };
    let library = open()?;
    if !options.quiet {
        log::line(format_args!("serving {} images on {scheme}://{address}/", library.images().len()));
    }
    Server::new(ServerOptions { listener, tls, access, log }, library).run(open)
}
