//! One HTTP request and its answer, with errors in words.

use std::{
    io::{self, Read},
    sync::OnceLock,
    time::{Duration, Instant, SystemTime},
};

use ureq::{ResponseExt, http::StatusCode};

use super::{Body, tls};
use crate::{
    error::{Error, Result, io_reason},
    log,
};

/// What is read of an error's body.
const REFUSAL_MAX: u64 = 64 << 10;
/// What is read of a body that nobody wants, so that its connection can be used again.
const DRAIN_MAX: u64 = 64 << 10;
/// Request heads are small; a Bearer token may have some KiB.
const OUTPUT_BUFFER: usize = 32 << 10;

const USER_AGENT: &str = concat!("ace-dt/", env!("CARGO_PKG_VERSION"));

/// A request to a registry: `path` below the repository.
pub struct Request {
    pub path: String,
    pub accept: Option<&'static str>,
    /// Ask for the body from this byte on; 0 asks for all of it.
    pub from: u64,
}

impl Request {
    pub fn new(path: String, accept: Option<&'static str>) -> Request {
        Request { path, accept, from: 0 }
    }
}

/// A pool of connections with one TLS configuration.
pub struct Agent {
    tls: tls::Material,
    idle: Duration,
    connections: usize,
    /// Made at the first request: reading the system's certificates takes time.
    agent: OnceLock<ureq::Agent>,
}

impl Agent {
    /// `idle` is the longest silence on a line, `connections` how many are kept for later requests.
    pub fn new(idle: Duration, connections: usize, tls: tls::Material) -> Agent {
        Agent { tls, idle, connections, agent: OnceLock::new() }
    }

    fn agent(&self) -> &ureq::Agent {
        self.agent.get_or_init(|| {
            ureq::Agent::config_builder()
                .http_status_as_error(false)
                .tls_config(self.tls.config())
                .user_agent(USER_AGENT)
                // "Same host" would take another port for the same server.
                .redirect_auth_headers(ureq::config::RedirectAuthHeaders::Never)
                .timeout_per_read(Some(self.idle))
                .timeout_per_write(Some(self.idle))
                .timeout_connect(Some(self.idle))
                .timeout_resolve(Some(self.idle))
                .timeout_recv_response(Some(self.idle))
                .max_idle_connections(self.connections)
                .max_idle_connections_per_host(self.connections)
                .output_buffer_size(OUTPUT_BUFFER)
                .build()
                .new_agent()
        })
    }

    pub fn get(&self, url: &str, headers: &[(&str, &str)]) -> Result<Response> {
        self.run("GET", self.agent().get(url), url, headers)
    }

    pub fn head(&self, url: &str, headers: &[(&str, &str)]) -> Result<Response> {
        self.run("HEAD", self.agent().head(url), url, headers)
    }

    fn run(
        &self,
        method: &'static str,
        mut request: ureq::RequestBuilder<ureq::typestate::WithoutBody>,
        url: &str,
        headers: &[(&str, &str)],
    ) -> Result<Response> {
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let begun = Instant::now();
        let outcome = request.call();
        if log::enabled(log::Level::Debug) {
            let status = match &outcome {
                Ok(response) => response.status().to_string(),
                Err(e) => explain(e),
            };
            log::debug(format_args!("{method} {url}: {status} after {} ms", begun.elapsed().as_millis()));
        }
        match outcome {
            Ok(inner) => Ok(Response { inner, request: format!("{method} {url}") }),
            Err(e) => {
                let error = Error::new(explain(&e)).doing(format!("{method} {url}"));
                Err(if passes(&e) { error.transient(Duration::ZERO) } else { error })
            }
        }
    }

    /// Ends every request, now and later.
    pub fn shutdown(&self) {
        // An agent that was never used is made only to be shut, so that it cannot be used any more.
        self.agent().clone().shutdown();
    }
}

/// The head of an answer; its body is still on the line.
pub struct Response {
    inner: ureq::http::Response<ureq::Body>,
    request: String,
}

impl Response {
    pub fn status(&self) -> StatusCode {
        self.inner.status()
    }

    /// Where the answer came from, redirects followed.
    pub fn url(&self) -> String {
        self.inner.get_uri().to_string()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.inner.headers().get(name)?.to_str().ok()
    }

    pub fn headers<'a>(&'a self, name: &'static str) -> impl Iterator<Item = &'a str> {
        self.inner.headers().get_all(name).iter().filter_map(|value| value.to_str().ok())
    }

    pub fn body(self) -> Body {
        Box::new(Line(self.inner.into_body().into_reader()))
    }

    /// The whole body, if it has at most `max` bytes.
    pub fn bytes(self, max: u64) -> Result<Vec<u8>> {
        let Response { inner, request } = self;
        let mut bytes = Vec::new();
        let mut body = inner.into_body().into_reader().take(max + 1);
        let broken = |e| Error::new(body_reason(&e)).doing(&request).transient(Duration::ZERO);
        body.read_to_end(&mut bytes).map_err(broken)?;
        if bytes.len() as u64 > max {
            return Err(Error::new(format!("the body is longer than {max} bytes")).doing(request));
        }
        Ok(bytes)
    }

    /// The answer, if it is a success.
    pub fn expect_ok(self) -> Result<Response> {
        if self.status().is_success() { Ok(self) } else { Err(self.refusal()) }
    }

    /// The answer, unless it says that the server cannot answer now.
    pub fn unless_busy(self) -> Result<Response> {
        if !matches!(self.status().as_u16(), 408 | 429 | 500 | 502 | 503 | 504) {
            return Ok(self);
        }
        let pause = self.header("retry-after").and_then(retry_after).unwrap_or_default();
        Err(self.refusal().transient(pause))
    }

    /// The answer as an error, with the words that the registry found for it.
    pub fn refusal(self) -> Error {
        let Response { inner, request } = self;
        let status = inner.status();
        let mut bytes = Vec::new();
        let _ = inner.into_body().into_reader().take(REFUSAL_MAX).read_to_end(&mut bytes);
        let said = said(&bytes).map(|said| format!(" ({said})")).unwrap_or_default();
        Error::new(format!("{request}: {status}{said}"))
    }

    /// Reads what is left, so that the connection can be used again.
    pub fn drain(self) {
        let _ = io::copy(&mut self.inner.into_body().into_reader().take(DRAIN_MAX), &mut io::sink());
    }
}

/// A body on its line, with errors in words.
struct Line(ureq::BodyReader<'static>);

impl Read for Line {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|e| match e.kind() {
            io::ErrorKind::Interrupted => e,
            kind => io::Error::new(kind, body_reason(&e)),
        })
    }
}

/// The message in a registry's error: `{"errors":[{"code":…,"message":…}]}`.
fn said(body: &[u8]) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    let error = body.get("errors")?.get(0)?;
    let text = |key: &str| error.get(key).and_then(|v| v.as_str()).filter(|v| !v.is_empty());
    let said = text("message").or_else(|| text("code"))?;
    Some(said.chars().take(200).collect())
}

/// The path of the next page in a `Link` header (RFC 8288).
pub fn next_page(link: &str) -> Option<String> {
    link.split(',').find_map(|part| {
        let (url, parameters) = part.trim().strip_prefix('<')?.split_once('>')?;
        let is_next = parameters.split(';').any(|p| matches!(p.trim(), r#"rel="next""# | "rel=next"));
        is_next.then(|| url.to_string())
    })
}

/// `Retry-After`, in seconds or as a date (RFC 9110, section 10.2.3).
fn retry_after(value: &str) -> Option<Duration> {
    match value.trim().parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(value.trim())
            .ok()
            .map(|at| at.duration_since(SystemTime::now()).unwrap_or_default()),
    }
}

/// Whether a later try may fare better.
fn passes(error: &ureq::Error) -> bool {
    match error {
        // rustls reports what it makes of a certificate as invalid data.
        ureq::Error::Io(e) => e.kind() != io::ErrorKind::InvalidData,
        ureq::Error::Timeout(_) | ureq::Error::ConnectionFailed | ureq::Error::Protocol(_) => true,
        _ => false,
    }
}

fn explain(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Io(e) => body_reason(e),
        ureq::Error::Timeout(_) => "no answer within the time that --http-timeout allows".into(),
        ureq::Error::HostNotFound => "there is no such host".into(),
        other => other.to_string(),
    }
}

/// Why reading a body failed.
fn body_reason(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>()) {
        Some(inner) => explain(inner),
        None => io_reason(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_pages() {
        assert_eq!(next_page(r#"</v2/x?n=1&last=a>; rel="next""#).as_deref(), Some("/v2/x?n=1&last=a"));
        assert_eq!(next_page(r#"<a>; rel="prev", <b>; rel=next"#).as_deref(), Some("b"));
        assert_eq!(next_page("<a>"), None);
    }

    #[test]
    fn pauses_that_servers_ask_for() {
        assert_eq!(retry_after(" 7"), Some(Duration::from_secs(7)));
        let later = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(100));
        assert!((90..=100).contains(&retry_after(&later).unwrap().as_secs()));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        assert_eq!(retry_after("soon"), None);
    }

    #[test]
    fn what_registries_say() {
        assert_eq!(
            said(br#"{"errors":[{"code":"X","message":"manifest unknown"}]}"#).as_deref(),
            Some("manifest unknown")
        );
        assert_eq!(said(b"<html>"), None);
    }
}
