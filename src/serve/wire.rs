//! A connection, encrypted or not.

use std::{
    io::{self, ErrorKind as IoErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::{
    error::{Error, Result},
    registry::transport::tls::Identity,
};

/// What a client still sends after an answer that ends the connection is read for so long.
const LINGERING: Duration = Duration::from_secs(1);

/// A socket of which reading ends at a time.
pub struct Socket {
    /// The connection.
    pub socket: Arc<TcpStream>,
    /// When reading ends.
    pub deadline: Option<Instant>,
}

impl Read for Socket {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if let Some(deadline) = self.deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(IoErrorKind::TimedOut.into());
            }
            self.socket.set_read_timeout(Some(left))?;
        }
        match (&*self.socket).read(into) {
            Err(e) if e.kind() == IoErrorKind::WouldBlock => Err(IoErrorKind::TimedOut.into()),
            other => other,
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self.socket).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A connection, encrypted or not.
pub enum Wire {
    /// It is not.
    Plain(Socket),
    /// By TLS.
    Tls(Box<StreamOwned<ServerConnection, Socket>>),
}

impl Wire {
    /// A connection, which is encrypted with a configuration of TLS.
    ///
    /// # Errors
    /// If TLS cannot begin.
    pub fn new(socket: Arc<TcpStream>, tls: Option<&Arc<ServerConfig>>) -> Result<Wire> {
        let socket = Socket { socket, deadline: None };
        Ok(match tls {
            None => Wire::Plain(socket),
            Some(config) => {
                let connection = ServerConnection::new(config.clone()).map_err(Error::new)?;
                Wire::Tls(StreamOwned::new(connection, socket).into())
            }
        })
    }

    /// What it goes over.
    pub fn socket(&mut self) -> &mut Socket {
        match self {
            Wire::Plain(socket) => socket,
            Wire::Tls(stream) => &mut stream.sock,
        }
    }

    /// Ends the connection so that the client gets the answer, even if it is still sending.
    pub fn linger(&mut self) {
        if let Wire::Tls(stream) = self {
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
        let socket = self.socket();
        socket.deadline = Some(Instant::now() + LINGERING);
        if socket.socket.shutdown(Shutdown::Write).is_err() {
            return;
        }
        let mut piece = [0; 4096];
        while let Ok(1..) = socket.read(&mut piece) {}
    }
}

impl Read for Wire {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Wire::Plain(socket) => socket.read(into),
            Wire::Tls(stream) => stream.read(into),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Wire::Plain(socket) => socket.write(bytes),
            Wire::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Wire::Plain(_) => Ok(()),
            Wire::Tls(stream) => stream.flush(),
        }
    }
}

/// The configuration of TLS of a server with a certificate.
///
/// # Errors
/// If the key is not that of the certificate, or of a kind that is not known.
pub fn tls_config(Identity { chain, key }: Identity) -> Result<Arc<ServerConfig>> {
    let config = ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .map_err(Error::new)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(Error::new)?;
    Ok(config.into())
}
