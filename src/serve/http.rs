//! HTTP/1.1 as it is spoken here (RFC 9110 and 9112): requests without a body, answers with a known length.
//!
//! What could be understood in two ways ends the connection: then nothing can be smuggled behind a request.

use std::io::{self, ErrorKind as IoErrorKind, Read, Write};

use crate::oci::json;

/// The longest head of a request, in bytes.
pub const HEAD_MAX: usize = 16 << 10;
/// The most header fields.
const FIELDS_MAX: usize = 64;

/// A request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientRequest {
    /// `GET`.
    pub method: String,
    /// As it was sent, for the log: path and query.
    pub target: String,
    /// The path, its percent signs taken out.
    pub path: String,
    /// What stands behind the question mark, in order, decoded.
    pub query: Vec<(String, String)>,
    /// Header fields, with names in lower case.
    pub fields: Vec<(String, String)>,
    /// The version is 1.0.
    pub is_old: bool,
}

/// Why a request is not answered as it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Status.
    pub status: u16,
    /// In words.
    pub why: &'static str,
}

impl ClientRequest {
    /// A header field, if it was sent once.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut all = self.fields.iter().filter(|(own, _)| own == name).map(|(_, value)| value.as_str());
        all.next().filter(|_| all.next().is_none())
    }

    /// A parameter of the query: the first of its name.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// Whether a header field holds this word in its list.
    fn lists(&self, name: &str, word: &str) -> bool {
        let all = self.fields.iter().filter(|(own, _)| own == name).flat_map(|(_, value)| value.split(','));
        all.map(str::trim).any(|value| value.eq_ignore_ascii_case(word))
    }

    /// Whether the connection ends with this request.
    pub fn is_last(&self) -> bool {
        self.is_old || self.lists("connection", "close")
    }

    /// Whether a body follows, or something that might be one.
    fn has_body(&self) -> bool {
        let mut lengths = self.fields.iter().filter(|(name, _)| name == "content-length");
        self.fields.iter().any(|(name, _)| name == "transfer-encoding") || lengths.any(|(_, value)| value != "0")
    }

    /// Reads a request whose head is all of `head`.
    ///
    /// # Errors
    /// If it is none.
    pub fn parse(head: &[u8]) -> Result<ClientRequest, Refusal> {
        let refusal = |status, why| Err(Refusal { status, why });
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut parsed = httparse::Request::new(&mut fields);
        match parsed.parse(head) {
            Ok(httparse::Status::Complete(length)) if length == head.len() => {}
            Err(httparse::Error::TooManyHeaders) => return refusal(431, "there are too many header fields"),
            Err(httparse::Error::Version) => return refusal(505, "only HTTP/1.1 and 1.0 are spoken here"),
            _ => return refusal(400, "the request is malformed"),
        }
        let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version) else {
            return refusal(400, "the request is malformed");
        };
        let mut request = ClientRequest {
            method: method.into(),
            target: target.into(),
            is_old: version == 0,
            ..ClientRequest::default()
        };
        for field in parsed.headers.iter() {
            let Ok(value) = std::str::from_utf8(field.value) else {
                return refusal(400, "a header field is no text");
            };
            request.fields.push((field.name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_string()));
        }
        let hosts = request.fields.iter().filter(|(name, _)| name == "host").count();
        if hosts > 1 || hosts == 0 && !request.is_old {
            return refusal(400, "one header field Host is needed");
        }
        // RFC 9112, section 3.2.2: a proxy is told the whole URL.
        let target = match target.split_once("://") {
            Some((scheme, rest)) if !target.starts_with('/') && scheme.bytes().all(|c| c.is_ascii_alphabetic()) => {
                rest.find('/').map_or("/", |at| &rest[at..])
            }
            _ => target,
        };
        if !target.starts_with('/') {
            return refusal(400, "the target is no path");
        }
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let Some(path) = decoded(path, false) else {
            return refusal(400, "the path is malformed");
        };
        request.path = path;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (Some(name), Some(value)) = (decoded(name, true), decoded(value, true)) else {
                return refusal(400, "the query is malformed");
            };
            request.query.push((name, value));
        }
        Ok(request)
    }

    /// Why it is refused whatever it asks for.
    pub fn refusal(&self) -> Option<Refusal> {
        self.has_body().then_some(Refusal { status: 413, why: "no request has a body here" })
    }
}

/// Text without its percent signs, if it is UTF-8 without control characters then.
fn decoded(text: &str, is_query: bool) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::new(), text.bytes());
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                let digits = std::str::from_utf8(&digits).ok().filter(|d| d.bytes().all(|c| c.is_ascii_hexdigit()))?;
                u8::from_str_radix(digits, 16).ok()?
            }
            b'+' if is_query => b' ',
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok().filter(|text| !text.chars().any(char::is_control))
}

/// Reads requests from a connection, one after the other.
#[derive(Default)]
pub struct RequestReader {
    /// What was read and is not used.
    buffer: Vec<u8>,
}

impl RequestReader {
    /// The next request; `None` if the connection ends before one.
    ///
    /// # Errors
    /// If the connection fails or ends in a request, or that is none: the second says what to answer.
    pub fn next(&mut self, from: &mut impl Read) -> io::Result<Option<Result<ClientRequest, Refusal>>> {
        loop {
            // Section 2.2: an empty line before a request is left out.
            let empty = self.buffer.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            self.buffer.drain(..empty);
            // Somebody speaks something else, such as TLS, and waits for an answer.
            if self.buffer.first().is_some_and(|byte| !byte.is_ascii_alphabetic()) {
                return Ok(Some(Err(Refusal { status: 400, why: "the request is malformed" })));
            }
            if let Some(end) = end_of_head(&self.buffer) {
                let head: Vec<u8> = self.buffer.drain(..end).collect();
                return Ok(Some(ClientRequest::parse(&head)));
            }
            if self.buffer.len() >= HEAD_MAX {
                let has_line = self.buffer.contains(&b'\n');
                let (status, why) = match has_line {
                    true => (431, "the header fields are too long"),
                    false => (414, "the target is too long"),
                };
                return Ok(Some(Err(Refusal { status, why })));
            }
            let mut piece = [0; 4096];
            let most = piece.len().min(HEAD_MAX - self.buffer.len());
            match from.read(&mut piece[..most]) {
                Ok(0) if self.buffer.is_empty() => return Ok(None),
                Ok(0) => return Err(IoErrorKind::UnexpectedEof.into()),
                Ok(n) => self.buffer.extend_from_slice(&piece[..n]),
                Err(e) if e.kind() == IoErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
}

/// Behind the empty line that ends a head.
fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let mut line = 0;
    for (n, byte) in bytes.iter().enumerate() {
        if *byte == b'\n' {
            if n == line || n == line + 1 && bytes[line] == b'\r' {
                return Some(n + 1);
            }
            line = n + 1;
        }
    }
    None
}

/// The beginning of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnswerHead {
    /// Status.
    pub status: u16,
    /// Header fields, but for those that the connection needs.
    pub fields: Vec<(&'static str, String)>,
}

impl AnswerHead {
    /// One without header fields.
    pub fn new(status: u16) -> AnswerHead {
        AnswerHead { status, fields: Vec::new() }
    }

    /// The same with a header field. A value that is more than one line is left out.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> AnswerHead {
        let value = value.into();
        if !value.chars().any(char::is_control) {
            self.fields.push((name, value));
        }
        self
    }

    /// Writes it. A body of `length` bytes follows, or would follow if it had been asked for; none has one with status 304.
    ///
    /// # Errors
    /// If the connection fails.
    pub fn write(&self, to: &mut impl Write, length: u64, is_last: bool) -> io::Result<()> {
        let mut text = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        text.push_str(&format!("Date: {}\r\n", httpdate::fmt_http_date(std::time::SystemTime::now())));
        for (name, value) in &self.fields {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if self.status != 304 {
            text.push_str(&format!("Content-Length: {length}\r\n"));
        }
        if is_last {
            text.push_str("Connection: close\r\n");
        }
        text.push_str("\r\n");
        to.write_all(text.as_bytes())
    }
}

/// What a status means (RFC 9110, section 15).
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        416 => "Range Not Satisfiable",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Status",
    }
}

/// An error as the distribution specification has it ("Error Codes").
pub fn error_json(code: &str, message: &str) -> Vec<u8> {
    let mut text = json::compact(&serde_json::json!({ "errors": [{ "code": code, "message": message }] }));
    text.push(b'\n');
    text
}

/// A part of a body, as `Range` asks for it (RFC 9110, section 14).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All.
    Whole,
    /// From an offset on, so many bytes.
    Bytes(u64, u64),
    /// None of it is there.
    Nothing,
}

/// The part of `size` bytes that a field `Range` asks for. What is malformed, in other units, or of several parts asks for
/// all.
pub fn part_of(range: Option<&str>, size: u64) -> Part {
    let Some(range) = range.and_then(|range| range.trim().strip_prefix("bytes=")) else { return Part::Whole };
    let Some((first, last)) = range.trim().split_once('-').filter(|(_, last)| !last.contains([',', '-'])) else {
        return Part::Whole;
    };
    let number = |text: &str| match text.bytes().all(|c| c.is_ascii_digit()) {
        true if !text.is_empty() => Some(text.parse::<u64>().unwrap_or(u64::MAX)),
        _ => None,
    };
    match (number(first.trim()), number(last.trim())) {
        (Some(first), None) if last.trim().is_empty() => match first < size {
            true => Part::Bytes(first, size - first),
            false => Part::Nothing,
        },
        (Some(first), Some(last)) if first <= last => match first < size {
            true => Part::Bytes(first, last.min(size - 1) - first + 1),
            false => Part::Nothing,
        },
        (None, Some(0)) if first.trim().is_empty() => Part::Nothing,
        (None, Some(_)) if first.trim().is_empty() && size == 0 => Part::Nothing,
        (None, Some(last)) if first.trim().is_empty() => Part::Bytes(size - last.min(size), last.min(size)),
        _ => Part::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Vec<Result<ClientRequest, u16>> {
        let (mut reader, mut from, mut all) = (RequestReader::default(), bytes, Vec::new());
        while let Ok(Some(request)) = reader.next(&mut from) {
            let is_refused = request.is_err();
            all.push(request.map_err(|refusal| refusal.status));
            if is_refused {
                break;
            }
        }
        all
    }

    #[test]
    fn requests_follow_each_other() {
        let all = read(
            b"GET /a%2Fb?n=1&last=x%3Ay+z HTTP/1.1\r\nHost: h\r\n\r\n\r\nHEAD http://h:1/v2/?q HTTP/1.0\nA: b\n\nGET /",
        );
        let requests: Vec<&ClientRequest> = all.iter().map(|one| one.as_ref().unwrap()).collect();
        assert_eq!(
            (requests.len(), requests[0].path.as_str(), requests[0].parameter("last")),
            (2, "/a/b", Some("x:y z"))
        );
        assert!(!requests[0].is_last() && requests[1].is_last());
        assert_eq!((requests[1].path.as_str(), requests[1].target.as_str()), ("/v2/", "http://h:1/v2/?q"));
    }

    #[test]
    fn what_is_no_request() {
        for (bytes, status) in [
            (&b"GET / HTTP/1.1\r\n\r\n"[..], 400),
            (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
            (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
            (b"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            (b"GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            (b"GET /%ff HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
            (b"\x16\x03\x01\x02\x00\x01\x00\n\n", 400),
        ] {
            assert_eq!(read(bytes), [Err(status)], "{}", String::from_utf8_lossy(bytes));
        }
        assert_eq!(read(b"\x16\x03\x01"), [Err(400)], "before anything else comes");
        assert_eq!(read(&vec![b'a'; 20_000]), [Err(414)]);
        assert_eq!(
            read(format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(20_000)).as_bytes()),
            [Err(431)]
        );
        assert_eq!(read(format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(100)).as_bytes()), [Err(431)]);
    }

    #[test]
    fn bodies_are_refused() {
        for (fields, is_refused) in [
            ("Content-Length: 0", false),
            ("Content-Length: 5", true),
            ("Content-Length: 0\r\nContent-Length: 7", true),
            ("Content-Length: +0", true),
            ("Transfer-Encoding: chunked", true),
            ("Transfer-Encoding: identity\r\nContent-Length: 0", true),
            ("Accept: */*", false),
        ] {
            let request =
                ClientRequest::parse(format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n").as_bytes()).unwrap();
            assert_eq!(request.refusal().is_some(), is_refused, "{fields}");
        }
    }

    #[test]
    fn ranges() {
        for (range, part) in [
            ("bytes=0-0", Part::Bytes(0, 1)),
            ("bytes=2-", Part::Bytes(2, 8)),
            ("bytes=2-100", Part::Bytes(2, 8)),
            ("bytes=-3", Part::Bytes(7, 3)),
            ("bytes=-100", Part::Bytes(0, 10)),
            ("bytes=-0", Part::Nothing),
            ("bytes=10-", Part::Nothing),
            ("bytes=99999999999999999999-", Part::Nothing),
            ("bytes=5-2", Part::Whole),
            ("bytes=0-1,3-4", Part::Whole),
            ("bytes=a-b", Part::Whole),
            ("bytes=-", Part::Whole),
            ("items=0-1", Part::Whole),
            ("bytes=--1", Part::Whole),
        ] {
            assert_eq!(part_of(Some(range), 10), part, "{range}");
        }
        assert_eq!((part_of(None, 10), part_of(Some("bytes=-1"), 0)), (Part::Whole, Part::Nothing));
    }
}
