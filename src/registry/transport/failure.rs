//! Why a request failed, in words, and whether another try may help.

use std::io;

use super::tls;
use crate::error::io_reason;

/// Whether a later try may fare better.
pub fn passes(error: &ureq::Error) -> bool {
    match error {
        // What a handshake ends with does not change by itself.
        ureq::Error::Io(e) => {
            let lasts = cause::<rustls::Error>(e).is_some()
                || cause::<tls::Malformed>(e).is_some()
                || e.kind() == io::ErrorKind::PermissionDenied;
            !lasts && lookup(e).is_none_or(|why| why.contains("Temporary") || why.contains("Try again"))
        }
        ureq::Error::Timeout(_) | ureq::Error::ConnectionFailed | ureq::Error::Protocol(_) => true,
        _ => false,
    }
}

/// Whether what answered knows nothing of TLS.
pub fn speaks_no_tls(error: &ureq::Error) -> bool {
    let ureq::Error::Io(e) = error else { return false };
    matches!(cause::<rustls::Error>(e), Some(rustls::Error::InvalidMessage(_)))
}

/// Whether nobody listens, or whoever does hangs up.
pub fn no_connection(error: &ureq::Error) -> bool {
    use io::ErrorKind::*;
    matches!(error, ureq::Error::Io(e) if matches!(e.kind(), ConnectionRefused | ConnectionReset | UnexpectedEof))
}

/// Whether nobody listens.
pub fn is_refused(error: &ureq::Error) -> bool {
    matches!(error, ureq::Error::Io(e) if e.kind() == io::ErrorKind::ConnectionRefused)
}

/// Why a request failed.
pub fn explain(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Io(e) => body_reason(e),
        ureq::Error::Timeout(_) => "no answer within the time that --http-timeout allows".into(),
        ureq::Error::HostNotFound => "there is no such host".into(),
        ureq::Error::ConnectProxyFailed(why) => {
            let status = why.strip_prefix("proxy server responded ").and_then(|s| s.split('/').next());
            let hint = match status {
                Some("401" | "407") => "; it wants http://user:password@...",
                Some("403") => "; it must allow CONNECT to that port",
                _ => "",
            };
            let said = status.map_or(why.clone(), |status| format!("it answered {status}"));
            format!("the proxy does not connect: {said}{hint}")
        }
        other => other.to_string(),
    }
}

/// Why reading a body failed.
pub fn body_reason(error: &io::Error) -> String {
    if let Some(inner) = cause::<ureq::Error>(error) {
        return explain(inner);
    }
    match (cause::<rustls::Error>(error), lookup(error)) {
        (Some(inner), _) => tls::explain(inner),
        (_, Some(why)) => format!("the host's name cannot be looked up: {why}"),
        _ => io_reason(error),
    }
}

/// Why a name could not be looked up, in the words of getaddrinfo(3), if that is what failed.
fn lookup(error: &io::Error) -> Option<String> {
    error.to_string().strip_prefix("failed to lookup address information: ").map(String::from)
}

/// What an I/O error carries.
fn cause<E: std::error::Error + 'static>(error: &io::Error) -> Option<&E> {
    error.get_ref()?.downcast_ref()
}
