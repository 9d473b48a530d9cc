//! A blob's body that survives its connection.
//!
//! When the line breaks or goes silent, the body is asked for again from the byte reached. A server
//! that does not know ranges sends all of it, and what we have is read past. Whether the content is
//! still the same shows in its digest, which whoever reads goes on to compute.

use std::io::{self, ErrorKind, Read};

use ureq::http::{Method, StatusCode, header::RANGE};

use super::{
    client::{Access, Call, Registries, RepositoryAccess},
    transport::{
        encoding::compressed,
        http::{Body, Response},
        retry::RetryBudget,
    },
};
use crate::{
    error::{Error, Result},
    oci::{Descriptor, Digest, Repository},
};

/// Reads a blob, taking up again what breaks.
pub struct ResumingBody<'a> {
    registries: &'a Registries,
    repository: Repository,
    digest: Digest,
    size: u64,
    /// Where the next byte stands in the blob.
    at: u64,
    /// The line, while there is one.
    line: Option<Body>,
    /// The body has a stated length, so that its end is no accident.
    framed: bool,
    budget: RetryBudget<'a>,
}

impl<'a> ResumingBody<'a> {
    /// A body that is not asked for yet, from the byte `from` on.
    pub fn new(
        registries: &'a Registries,
        repository: &Repository,
        descriptor: &Descriptor,
        from: u64,
    ) -> ResumingBody<'a> {
        ResumingBody {
            registries,
            repository: repository.clone(),
            digest: descriptor.digest.clone(),
            size: descriptor.size,
            at: from,
            line: None,
            framed: false,
            budget: registries.budget(),
        }
    }

    /// Asks for all from the byte reached on. The inner error says that there is no such blob.
    ///
    /// # Errors
    /// If the registry cannot be asked, or its answer is none.
    pub fn open(&mut self, access: &RepositoryAccess) -> Result<Result<()>> {
        let mut call = Call::new(Method::GET, format!("blobs/{}", self.digest));
        if self.at > 0 {
            call = call.with(RANGE, format!("bytes={}-", self.at));
        }
        let response = self.registries.send(access, &call)?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(Err(response.refusal().doing("there is no such blob")));
        }
        let response = response.expect_ok()?;
        self.framed = is_framed(&response);
        self.check_whole(&response)?;
        if response.status() == StatusCode::PARTIAL_CONTENT {
            let range = response.header("content-range").unwrap_or("").to_string();
            let start = range.strip_prefix("bytes ").and_then(|r| r.split('-').next()?.parse().ok());
            if start != Some(self.at) {
                return Err(Error::new(format!(
                    "asked for the bytes from {} on, the registry sent {range:?}",
                    self.at
                )));
            }
            self.line = Some(response.body());
            return Ok(Ok(()));
        }
        let mut body = response.body();
        match io::copy(&mut (&mut body).take(self.at), &mut io::sink()) {
            Ok(n) if n == self.at => self.line = Some(body),
            Ok(n) => {
                return Err(Error::new(format!("the registry sent {n} bytes where it had sent {} before", self.at)));
            }
            Err(e) => return Err(Error::from_io(e).transient(Default::default())),
        }
        Ok(Ok(()))
    }

    /// Whether an answer with the whole blob can be that, by its length.
    fn check_whole(&self, response: &Response) -> Result<()> {
        let length = response.length().filter(|_| response.status() != StatusCode::PARTIAL_CONTENT);
        let Some(length) = length.filter(|length| *length != self.size) else { return Ok(()) };
        if let Some(encoding) = response.encoding() {
            return Err(compressed(&encoding));
        }
        let what = if response.is_page() { "a page in HTML, such as that of a login or a proxy," } else { "a body" };
        let size = self.size;
        Err(Error::new(format!("the registry sends {what} of {length} bytes, and its descriptor says {size}")))
    }

    /// Asks for the rest.
    fn reopen(&mut self) -> Result<()> {
        let repository = self.repository.clone();
        let access = self.registries.access(&repository, Access::Pull)?;
        self.open(&access)?
    }

    fn broken(&mut self, failure: Error) -> io::Result<()> {
        self.line = None;
        let failure = failure.doing(format!("at byte {} of {}", self.at, self.size));
        let about = format!("blob {} of {}: ", self.digest, self.repository);
        self.budget.again(&about, failure).map_err(Into::into)
    }
}

fn is_framed(response: &Response) -> bool {
    response.header("content-length").is_some() || response.header("transfer-encoding").is_some()
}

impl Read for ResumingBody<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let line = match &mut self.line {
                Some(line) => line,
                None if self.at >= self.size => return Ok(0),
                None => {
                    if let Err(e) = self.reopen() {
                        self.broken(e)?;
                    }
                    continue;
                }
            };
            let failure = match line.read(buffer) {
                Ok(0) if self.at < self.size && !self.framed => Error::new("the connection was closed"),
                Ok(n) => {
                    if n > 0 {
                        self.at += n as u64;
                        self.budget.progressed();
                    }
                    return Ok(n);
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => return Err(e),
                // All is here; what happens to the connection now is of no concern.
                Err(_) if self.at >= self.size => return Ok(0),
                Err(e) => Error::from_io(e),
            };
            self.broken(failure.transient(Default::default()))?;
        }
    }
}
