//! TLS below ureq: the transport that carries HTTP over a `rustls` connection of ours.
//!
//! ureq's own would build its configuration itself, and so could not say why a certificate is
//! refused. This is the place that follows ureq's `unversioned` interface.

use std::{
    fmt,
    io::{self, Read, Write},
    sync::{Arc, OnceLock},
};

use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};
use ureq::{
    Error,
    unversioned::{
        resolver::DefaultResolver,
        transport::{
            Buffers, ConnectProxyConnector, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout,
            SocksConnector, Transport, TransportAdapter,
        },
    },
};

use super::{
    tcp::TcpConnector,
    tls::{Malformed, Material},
};

/// An agent whose connections go through the configured proxy, if there is one, and speak TLS
/// where the URL wants it.
pub fn agent(config: ureq::config::Config, material: Arc<Material>) -> ureq::Agent {
    let chain = ().chain(SocksConnector::default()).chain(ConnectProxyConnector::default());
    let chain = chain.chain(TcpConnector).chain(TlsConnector { material, config: OnceLock::new() });
    ureq::Agent::with_parts(config, chain, DefaultResolver::default())
}

/// Puts TLS over a connection.
struct TlsConnector {
    material: Arc<Material>,
    /// Made for the first connection: reading the system's certificates takes time.
    config: OnceLock<Result<Arc<ClientConfig>, Malformed>>,
}

impl fmt::Debug for TlsConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsConnector")
    }
}

impl<In: Transport> Connector<In> for TlsConnector {
    type Out = Either<In, Tls>;

    fn connect(&self, details: &ConnectionDetails, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        let Some(below) = chained else { return Ok(None) };
        if !details.needs_tls() || below.is_tls() {
            return Ok(Some(Either::A(below)));
        }
        let host = details.uri.host().unwrap_or("").trim_start_matches('[').trim_end_matches(']');
        let name =
            ServerName::try_from(host.to_string()).map_err(|_| Error::BadUri(format!("{host:?} is no host name")))?;
        let config = self.config.get_or_init(|| self.material.config().map(Arc::new).map_err(Malformed));
        let config = config.clone().map_err(io::Error::other)?;
        let mut connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
        let mut line = TransportAdapter::new(below.boxed(), details.current_time.clone());
        line.set_timeout(details.timeout);
        connection.complete_io(&mut line)?;
        let buffers = LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(Either::B(Tls { buffers, stream: StreamOwned::new(connection, line) })))
    }
}

struct Tls {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl Transport for Tls {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.get_mut().set_timeout(timeout);
        self.stream.write_all(&self.buffers.output()[..amount])?;
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.get_mut().set_timeout(timeout);
        let amount = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.get_mut().get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}
