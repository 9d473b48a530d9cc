//! One HTTP request and its answer, with errors in words.

use std::{
    collections::HashMap,
    io::{self, Read},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use ureq::{
    AsSendBody, SendBody,
    http::{self, Method, StatusCode, header},
};

use super::{
    encoding::decoded,
    failure::{body_reason, explain, is_refused, no_connection, passes, speaks_no_tls},
    proxy::Proxies,
    tcp,
    tls::Material,
    tls_connector, url,
};
use crate::{
    error::{Error, ErrorKind, Result},
    log,
};

/// A body that is being read. After the last byte, read on to give the connection back.
pub type Body = Box<dyn Read + Send>;

/// What is read of an error's body.
const REFUSAL_MAX: u64 = 64 << 10;
/// What is read of a body that nobody wants, so that its connection can be used again.
const DRAIN_MAX: u64 = 64 << 10;
/// Request heads are small; a Bearer token may have some KiB.
const OUTPUT_BUFFER: usize = 64 << 10;
const REDIRECTS_MAX: usize = 10;
/// Connect time-out; a reachable host answers sooner.
const CONNECT_MAX: Duration = Duration::from_secs(15);
/// A server that has much to do may take so many times as long.
const SLOW: u32 = 10;
/// How long a body is worth waiting for that nobody wants: to connect anew takes little longer.
const DRAIN_TIME: Duration = Duration::from_millis(250);
/// How long the words of an error are worth waiting for.
const REFUSAL_TIME: Duration = Duration::from_secs(1);

const USER_AGENT: &str = concat!("ace-dt/", env!("CARGO_PKG_VERSION"));

/// A request.
pub struct Request {
    /// What to do.
    pub method: Method,
    /// With whom.
    pub url: String,
    /// What else is said.
    pub headers: Vec<(header::HeaderName, String)>,
    /// The server has much to do before it answers, such as to hash a blob.
    pub slow: bool,
}

/// What goes with a request.
pub enum Payload<'a> {
    /// Nothing.
    None,
    /// These bytes.
    Bytes(&'a [u8]),
    /// As many bytes as the number says.
    Stream(&'a mut dyn Read, u64),
}

impl Request {
    /// A request without headers.
    pub fn new(method: Method, url: String) -> Request {
        Request { method, url, headers: Vec::new(), slow: false }
    }

    /// A GET without headers.
    pub fn get(url: &str) -> Request {
        Request::new(Method::GET, url.into())
    }

    /// The same with another header.
    pub fn with(mut self, name: header::HeaderName, value: impl Into<String>) -> Request {
        self.headers.push((name, value.into()));
        self
    }
}

/// Pools of connections with one TLS configuration, one for each proxy.
pub struct HttpAgent {
    tls: Arc<Material>,
    idle: Duration,
    connections: usize,
    proxies: Arc<Proxies>,
    pools: Mutex<Pools>,
    /// For other servers than that which the TLS configuration is of.
    elsewhere: Option<Box<HttpAgent>>,
}

#[derive(Default)]
struct Pools {
    closed: bool,
    by_proxy: HashMap<Option<ureq::Proxy>, ureq::Agent>,
}

impl HttpAgent {
    /// `idle` is the longest silence on a line, `connections` how many are kept for later requests.
    pub fn new(idle: Duration, connections: usize, tls: Material, proxies: Arc<Proxies>) -> HttpAgent {
        // Others get our authorities, but neither our certificate nor blind trust.
        let elsewhere = tls.elsewhere().map(|tls| Box::new(HttpAgent::new(idle, connections, tls, proxies.clone())));
        HttpAgent { tls: Arc::new(tls), idle, connections, proxies, pools: Mutex::default(), elsewhere }
    }

    /// The agent for other servers.
    pub fn elsewhere(&self) -> &HttpAgent {
        self.elsewhere.as_deref().unwrap_or(self)
    }

    fn agent(&self, url: &str) -> Result<ureq::Agent> {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if pools.closed {
            return Err(Error::new("the run is ending"));
        }
        let proxy = self.proxies.of(url).cloned();
        let agent = pools.by_proxy.entry(proxy.clone()).or_insert_with(|| self.make(proxy));
        Ok(agent.clone())
    }

    fn make(&self, proxy: Option<ureq::Proxy>) -> ureq::Agent {
        let config = ureq::Agent::config_builder()
            .proxy(proxy)
            .http_status_as_error(false)
            .user_agent(USER_AGENT)
            // Redirects are followed here, where it is known who may see which header.
            .max_redirects(0)
            .timeout_per_read(Some(self.idle))
            .timeout_per_write(Some(self.idle))
            // Neither can be ended by a signal.
            .timeout_connect(Some(self.idle.min(CONNECT_MAX)))
            .timeout_resolve(Some(self.idle.min(CONNECT_MAX)))
            .max_idle_connections(self.connections)
            .max_idle_connections_per_host(self.connections)
            .output_buffer_size(OUTPUT_BUFFER);
        tls_connector::agent(config.build(), self.tls.clone())
    }

    /// Sends a request without a body. A GET or HEAD follows redirects; to another server it goes
    /// on without the `Authorization` header.
    ///
    /// # Errors
    /// If no answer comes, or redirects lead nowhere.
    pub fn send(&self, mut request: Request) -> Result<Response> {
        let mut agent = self;
        for _ in 0..REDIRECTS_MAX {
            let response = agent.send_with(&request, Payload::None)?;
            let follows = matches!(request.method, Method::GET | Method::HEAD);
            let target = match response.status().as_u16() {
                301 | 302 | 303 | 307 | 308 if follows => response.header("location"),
                _ => return Ok(response),
            };
            let Some(target) = target.and_then(|to| url::resolve(&request.url, to)) else {
                return Err(response.refusal().doing("a redirect without a usable Location"));
            };
            response.drain();
            if !url::same_origin(&target, &request.url) {
                agent = self.elsewhere();
                request.headers.retain(|(name, _)| name != header::AUTHORIZATION);
            }
            request.url = target;
        }
        Err(Error::new(format!("more than {REDIRECTS_MAX} redirects")).doing(url::shown(&request.url)))
    }

    /// Sends a request as it is.
    ///
    /// # Errors
    /// If no answer comes.
    pub fn send_with(&self, request: &Request, payload: Payload) -> Result<Response> {
        let sent = match &payload {
            Payload::None => 0,
            Payload::Bytes(bytes) => bytes.len() as u64,
            Payload::Stream(_, length) => *length,
        };
        let mut exchange = Exchange {
            name: format!("{} {}", request.method, url::shown(&request.url)),
            status: None,
            sent,
            received: 0,
            begun: Instant::now(),
        };
        let mut builder = http::Request::builder().method(&request.method).uri(&request.url);
        // Without it anything may come (RFC 9110, section 12.5.3), and digests are of the bytes as they are stored.
        builder = builder.header(header::ACCEPT_ENCODING, "identity");
        for (name, value) in &request.headers {
            builder = builder.header(name, value);
        }
        if !matches!(payload, Payload::None) {
            builder = builder.header(header::CONTENT_LENGTH, sent);
        }
        let agent = self.agent(&request.url).map_err(|e| e.doing(&exchange.name))?;
        let patience = self.idle.saturating_mul(if request.slow { SLOW } else { 1 });
        let outcome = match payload {
            Payload::None => run(&agent, builder, (), patience),
            Payload::Bytes(bytes) => run(&agent, builder, bytes, patience),
            Payload::Stream(reader, _) => run(&agent, builder, SendBody::from_reader(reader), patience),
        };
        match outcome {
            Ok(inner) => {
                exchange.status = Some(inner.status());
                Ok(Response { inner, exchange, url: request.url.clone(), idle: self.idle })
            }
            Err(e) => {
                let proxy = self.proxies.of(&request.url);
                let proxy =
                    proxy.map(|p| format!(" (through the proxy {}:{})", p.host(), p.port())).unwrap_or_default();
                let why = explain(&e) + &proxy;
                log::debug(format_args!("{}: {why} after {} ms", exchange.name, exchange.begun.elapsed().as_millis()));
                let mut error = Error::new(why).doing(&exchange.name);
                if speaks_no_tls(&e) {
                    let plain = request.url.replacen("https", "http", 1);
                    let plain = url::origin(&plain);
                    error = error
                        .of(ErrorKind::Unreachable)
                        .hint(format_args!("for plain HTTP, configure the endpoint {plain}"));
                } else if proxy.is_empty() && no_connection(&e) {
                    error = error.of(ErrorKind::Unreachable);
                }
                if is_refused(&e) {
                    error = error.away();
                }
                Err(if passes(&e) { error.transient(Duration::ZERO) } else { error })
            }
        }
    }

    /// Ends every request, now and later.
    pub fn shutdown(&self) {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.closed = true;
        pools.by_proxy.drain().for_each(|(_, agent)| agent.shutdown());
        self.elsewhere.iter().for_each(|agent| agent.shutdown());
    }
}

/// Sends what was built, and waits for the head of the answer with this patience.
fn run(
    agent: &ureq::Agent,
    request: http::request::Builder,
    body: impl AsSendBody,
    patience: Duration,
) -> Result<http::Response<ureq::Body>, ureq::Error> {
    let request = request.body(body).map_err(ureq::Error::Http)?;
    agent.run(agent.configure_request(request).timeout_recv_response(Some(patience)).build())
}

/// One request and its answer, for the log: told when the body is done with.
struct Exchange {
    /// Method and URL.
    name: String,
    status: Option<StatusCode>,
    sent: u64,
    received: u64,
    begun: Instant,
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let Some(status) = self.status.filter(|_| log::enabled(log::Level::Debug)) else { return };
        let sent = if self.sent > 0 { format!("{} bytes sent, ", self.sent) } else { String::new() };
        let took = self.begun.elapsed().as_millis();
        log::debug(format_args!("{}: {status}, {sent}{} bytes received in {took} ms", self.name, self.received));
    }
}

/// The head of an answer; its body is still on the line.
pub struct Response {
    inner: http::Response<ureq::Body>,
    exchange: Exchange,
    url: String,
    idle: Duration,
}

impl Response {
    /// How it went.
    pub fn status(&self) -> StatusCode {
        self.inner.status()
    }

    /// Where the answer came from, redirects followed.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.inner.headers().get(name)?.to_str().ok()
    }

    /// All headers of this name.
    pub fn headers<'a>(&'a self, name: &'static str) -> impl Iterator<Item = &'a str> {
        self.inner.headers().get_all(name).iter().filter_map(|value| value.to_str().ok())
    }

    /// A body for which there is no limit but that it moves.
    pub fn body(self) -> Body {
        Box::new(self.line(None))
    }

    /// A body that must be there within some time: one that drips would keep us for ever.
    fn line(self, within: Option<Duration>) -> Line {
        let until = within.map(|within| Instant::now() + within);
        Line { reader: self.inner.into_body().into_reader(), exchange: self.exchange, until }
    }

    /// The whole body, if it has at most `max` bytes. One that was compressed on the way, though nobody asked for
    /// that, is decompressed.
    ///
    /// # Errors
    /// If it breaks off, is longer, comes too slowly, or was compressed as nobody knows how.
    pub fn bytes(self, max: u64) -> Result<Vec<u8>> {
        let (name, within) = (self.exchange.name.clone(), self.idle.saturating_mul(SLOW));
        let encoding = self.encoding();
        let mut bytes = Vec::new();
        let read = self.line(Some(within)).take(max + 1).read_to_end(&mut bytes);
        read.map_err(|e| Error::new(e).doing(&name).transient(Duration::ZERO))?;
        if let Some(encoding) = encoding {
            bytes = decoded(&encoding, bytes, max + 1).map_err(|e| e.doing(&name))?;
        }
        if bytes.len() as u64 > max {
            return Err(Error::new(format!("the body is longer than {max} bytes")).doing(name));
        }
        Ok(bytes)
    }

    /// How the body was encoded for the way (RFC 9110, section 8.4), in lower case, though it was asked for as it is.
    pub fn encoding(&self) -> Option<String> {
        let encoding = self.header("content-encoding")?.trim().to_ascii_lowercase();
        Some(encoding).filter(|encoding| !matches!(encoding.as_str(), "" | "identity"))
    }

    /// The length that it states (RFC 9110, section 8.6).
    pub fn length(&self) -> Option<u64> {
        self.header("content-length")?.trim().parse().ok()
    }

    /// The body is a page for people, by its media type: that of a login, a proxy or a portal.
    pub fn is_page(&self) -> bool {
        let kind = self.header("content-type").unwrap_or("").to_ascii_lowercase();
        kind.starts_with("text/html") || kind.starts_with("application/xhtml")
    }

    /// The answer, if it is a success.
    ///
    /// # Errors
    /// If it is not: with the words that the server found.
    pub fn expect_ok(self) -> Result<Response> {
        if self.status().is_success() { Ok(self) } else { Err(self.refusal()) }
    }

    /// The answer, unless it says that the server cannot answer now.
    ///
    /// # Errors
    /// If it does: one that passes.
    pub fn unless_busy(self) -> Result<Response> {
        if !matches!(self.status().as_u16(), 408 | 429 | 500 | 502 | 503 | 504) {
            return Ok(self);
        }
        let pause = self.header("retry-after").and_then(retry_after).unwrap_or_default();
        let is_away = matches!(self.status().as_u16(), 429 | 502 | 503 | 504);
        let refusal = self.refusal().transient(pause);
        Err(if is_away { refusal.away() } else { refusal })
    }

    /// The answer as an error, with the words that the registry found for it.
    pub fn refusal(self) -> Error {
        let (name, status) = (self.exchange.name.clone(), self.status());
        let mut bytes = Vec::new();
        let read = || self.line(Some(REFUSAL_TIME)).take(REFUSAL_MAX).read_to_end(&mut bytes);
        let _ = tcp::hurried(REFUSAL_TIME, read);
        let said = said(&bytes).map(|said| format!(" ({said})")).unwrap_or_default();
        Error::new(format!("{name}: {status}{said}"))
    }

    /// Reads what is left, so that the connection can be used again.
    pub fn drain(self) {
        let drain = || io::copy(&mut self.line(Some(DRAIN_TIME)).take(DRAIN_MAX), &mut io::sink());
        let _ = tcp::hurried(DRAIN_TIME, drain);
    }
}

/// A body on its line, with errors in words.
struct Line {
    reader: ureq::BodyReader<'static>,
    exchange: Exchange,
    until: Option<Instant>,
}

impl Read for Line {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.until.is_some_and(|until| Instant::now() > until) {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the body comes too slowly"));
        }
        match self.reader.read(buffer) {
            Ok(n) => {
                self.exchange.received += n as u64;
                Ok(n)
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Err(e),
            Err(e) => Err(io::Error::new(e.kind(), body_reason(&e))),
        }
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

/// Where the next page lies by a `Link` header (RFC 8288, section 3): there may be several links in
/// it, and commas and semicolons in each.
pub fn next_page(header: &str) -> Option<String> {
    let mut rest = header;
    while let Some((_, after)) = rest.split_once('<') {
        let (url, parameters) = after.split_once('>')?;
        let (mut is_next, mut left) = (false, parameters);
        // Parameters, up to the comma in front of the next link.
        while let Some(parameter) = left.trim_start().strip_prefix(';') {
            let end = parameter.find([';', ',', '=']).unwrap_or(parameter.len());
            let (name, value) = parameter.split_at(end);
            let Some(value) = value.strip_prefix('=').map(str::trim_start) else {
                left = value;
                continue;
            };
            let (value, after) = match value.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
                None => value.split_at(value.find([';', ',']).unwrap_or(value.len())),
            };
            let relations = || value.split_ascii_whitespace().any(|rel| rel.eq_ignore_ascii_case("next"));
            is_next |= name.trim().eq_ignore_ascii_case("rel") && relations();
            left = after;
        }
        if is_next {
            return Some(url.to_string());
        }
        rest = left;
    }
    None
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_pages() {
        assert_eq!(next_page(r#"</v2/x?n=1&last=a>; rel="next""#).as_deref(), Some("/v2/x?n=1&last=a"));
        assert_eq!(next_page(r#"<a>; rel="prev", <b>; rel=next"#).as_deref(), Some("b"));
        for none in ["<a>", "", "a; rel=next", "<a>; rel=\"nextest\"", "<a>; title=\"rel=next\"", "<a", "<a>;;;,"] {
            assert_eq!(next_page(none), None, "{none}");
        }
        for (header, wanted) in [
            ("<a?x=1,2;3>; rel=\"next\"", "a?x=1,2;3"),
            ("<a>; Rel = \"last NEXT\"", "a"),
            ("<b>; title=\"x, <y>; z\"; rel=prev, <a> ; rel=next ; x", "a"),
        ] {
            assert_eq!(next_page(header).as_deref(), Some(wanted), "{header}");
        }
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
