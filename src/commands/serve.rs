//! `util serve`: archives as a registry that is only read.

use std::net::TcpListener;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

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
        server::{Served, Server},
        shelf::stem,
        wire::tls_config,
    },
    shards::plan_file::SharedPlan,
    signal,
    util::units::counted,
};

/// Connections and files that are open at a time need no more descriptors.
const DESCRIPTORS: u64 = 4096;

/// # Errors
/// If what is to be served cannot be opened, or the address is taken.
pub fn run(options: &ServeOptions) -> Result<()> {
    signal::catch_hangup()?;
    let listener = match fd::passed_listener()? {
        Some(passed) => passed,
        None => TcpListener::bind(options.address).doing(|| format!("listening on {}", options.address))?,
    };
    let address = listener.local_addr().doing(|| "listening")?;
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < DESCRIPTORS
    {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard.min(DESCRIPTORS), hard);
    }
    let scheme = if options.tls.is_some() { "https" } else { "http" };
    let say = |what: &str, served: &Served| {
        let images = counted(served.library.images().len(), "image");
        if !options.quiet {
            log::line(format_args!("{what} {images} on {scheme}://{address}/"));
        }
    };
    let served = open(options)?;
    if !address.ip().is_loopback() && served.tls.is_none() {
        log::warn(format_args!("{address} can be reached by others, and what they read and send is not encrypted"));
    }
    say("serving", &served);
    Server::new(listener, served).run(|| open(options).inspect(|served| say("opened anew: serving", served)))
}

/// Opens all that is served, and what says how.
fn open(options: &ServeOptions) -> Result<Served> {
    let tls = options.tls.as_ref().map(|(certificate, key)| tls::identity(certificate, key)).transpose()?;
    let mapper = options.mapper.as_deref().map(Mapper::read).transpose()?;
    let shared = options.plan.as_deref().map(|path| Ok((stem(path), SharedPlan::read(path)?))).transpose()?;
    let plan = shared.as_ref().map(|(stem, shared)| (&**stem, shared));
    Ok(Served {
        tls: tls.map(tls_config).transpose()?,
        access: options.htpasswd.as_deref().map(PasswordFile::read).transpose()?,
        log: options.log.as_deref().map(AccessLog::open).transpose()?,
        library: Library::open(&options.archives, plan, mapper.as_ref(), options.frame_index)?,
    })
}
