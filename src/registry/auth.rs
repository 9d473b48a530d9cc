//! Challenges (RFC 9110, section 11.6) and what answers them: Basic credentials, or a Bearer token
//! by the CNCF distribution token protocol.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;

use super::{credentials::Login, http};
use crate::error::{Context, Error, Result};

/// The protocol's default for a token that does not say how long it lives.
const TOKEN_LIFE: Duration = Duration::from_secs(60);
const TOKEN_ANSWER_MAX: u64 = 1 << 20;

/// What a server wants with its 401.
pub enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

impl Challenge {
    /// The challenge of a response that can be answered, Bearer before Basic.
    pub fn of(response: &http::Response) -> Option<Challenge> {
        let all: Vec<Challenge> = response.headers("www-authenticate").filter_map(Challenge::parse).collect();
        let is_bearer = |c: &Challenge| matches!(c, Challenge::Bearer { .. });
        let first = all.iter().position(is_bearer).unwrap_or(0);
        all.into_iter().nth(first)
    }

    fn parse(header: &str) -> Option<Challenge> {
        let (scheme, parameters) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Challenge::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service, mut scope) = (None, None, None);
        for (key, value) in self::parameters(parameters) {
            match key.to_ascii_lowercase().as_str() {
                "realm" => realm = Some(value),
                "service" => service = Some(value),
                "scope" => scope = Some(value),
                _ => {}
            }
        }
        Some(Challenge::Bearer { realm: realm?, service, scope })
    }
}

/// `key="value", key=value`; a quoted value may hold commas and escaped quotes.
fn parameters(mut rest: &str) -> Vec<(&str, String)> {
    let mut found = Vec::new();
    while let Some((key, after)) = rest.split_once('=') {
        let key = key.trim_matches([' ', ',', '\t']);
        let mut value = String::new();
        match after.strip_prefix('"') {
            Some(quoted) => {
                let mut chars = quoted.char_indices();
                let mut end = quoted.len();
                while let Some((at, c)) = chars.next() {
                    match c {
                        '"' => {
                            end = at + 1;
                            break;
                        }
                        '\\' => value.extend(chars.next().map(|(_, c)| c)),
                        c => value.push(c),
                    }
                }
                rest = &quoted[end..];
            }
            None => {
                let end = after.find(',').unwrap_or(after.len());
                value.push_str(after[..end].trim());
                rest = &after[end..];
            }
        }
        found.push((key, value));
    }
    found
}

/// The `Authorization` header for one repository, fetched once for all threads.
#[derive(Default)]
pub struct Slot {
    grant: Mutex<Option<Grant>>,
}

struct Grant {
    header: String,
    expires: Option<Instant>,
}

impl Grant {
    fn is_live(&self) -> bool {
        self.expires.is_none_or(|at| Instant::now() < at)
    }
}

impl Slot {
    /// The header, if there is one that still holds.
    pub fn header(&self) -> Option<String> {
        let grant = self.grant.lock().unwrap_or_else(PoisonError::into_inner);
        grant.as_ref().filter(|g| g.is_live()).map(|g| g.header.clone())
    }

    /// Answers a challenge that came although `used` was sent. The first thread that comes here
    /// fetches the token; those behind it wait and get it too. From a `secure` server no password
    /// goes on to a token server that is not.
    pub fn renew<'a>(
        &self,
        used: Option<&str>,
        challenge: &Challenge,
        login: Option<&Login>,
        scope: &str,
        secure: bool,
        agent: impl Fn(&str) -> &'a http::Agent,
    ) -> Result<String> {
        let mut grant = self.grant.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(newer) = grant.as_ref().filter(|g| g.is_live() && Some(g.header.as_str()) != used) {
            return Ok(newer.header.clone());
        }
        let new = match challenge {
            Challenge::Basic => {
                let login = login.ok_or_else(|| Error::new("the registry wants a user name and a password"))?;
                Grant { header: basic(login), expires: None }
            }
            Challenge::Bearer { realm, service, scope: wanted } => {
                let scope = wanted.as_deref().unwrap_or(scope);
                let doing = || format!("getting a token from {realm}");
                if secure && login.is_some() && !realm.starts_with("https://") {
                    return Err(Error::new("it would get the password in the clear").doing(doing()));
                }
                token(agent(realm), realm, service.as_deref(), scope, login).doing(doing)?
            }
        };
        Ok(grant.insert(new).header.clone())
    }
}

fn basic(login: &Login) -> String {
    format!("Basic {}", STANDARD.encode(format!("{}:{}", login.user, login.password)))
}

#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    expires_in: Option<u64>,
}

fn token(agent: &http::Agent, realm: &str, service: Option<&str>, scope: &str, login: Option<&Login>) -> Result<Grant> {
    let mut url = format!("{realm}{}scope={}", if realm.contains('?') { '&' } else { '?' }, encoded(scope));
    if let Some(service) = service {
        url.push_str(&format!("&service={}", encoded(service)));
    }
    let header = login.map(basic);
    let headers: Vec<(&str, &str)> = header.iter().map(|value| ("authorization", value.as_str())).collect();
    let asked = Instant::now();
    let bytes = agent.get(&url, &headers)?.expect_ok()?.bytes(TOKEN_ANSWER_MAX)?;
    let answer: TokenAnswer =
        serde_json::from_slice(&bytes).map_err(|e| Error::new(format!("the answer is not a token: {}", place(&e))))?;
    let token = if answer.token.is_empty() { answer.access_token } else { answer.token };
    if token.is_empty() {
        return Err(Error::new("the answer holds no token"));
    }
    let life = answer.expires_in.filter(|&s| s > 0).map_or(TOKEN_LIFE, Duration::from_secs);
    Ok(Grant { header: format!("Bearer {token}"), expires: asked.checked_add(life.mul_f32(0.9)) })
}

/// Where JSON is wrong, without what stands there: it may be a secret.
pub fn place(error: &serde_json::Error) -> String {
    format!("malformed at line {} column {}", error.line(), error.column())
}

/// A query value (RFC 3986, section 2.3).
fn encoded(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 16);
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b':' => out.push(byte.into()),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges() {
        let header = r#"Bearer realm="https://a/token",service="s, t",scope="repository:x:pull,push""#;
        let Some(Challenge::Bearer { realm, service, scope }) = Challenge::parse(header) else { panic!() };
        assert_eq!((realm.as_str(), service.as_deref()), ("https://a/token", Some("s, t")));
        assert_eq!(scope.as_deref(), Some("repository:x:pull,push"));
        assert!(matches!(Challenge::parse("basic realm=x"), Some(Challenge::Basic)));
        assert!(Challenge::parse("Negotiate").is_none());
        assert!(Challenge::parse("Bearer realm").is_none());
        assert_eq!(parameters(r#"a="x\"y" , b=c"#), [("a", "x\"y".to_string()), ("b", "c".to_string())]);
    }

    #[test]
    fn query_values() {
        assert_eq!(encoded("repository:a/b:pull x&y"), "repository:a/b:pull%20x%26y");
    }
}
