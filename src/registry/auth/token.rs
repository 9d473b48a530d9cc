//! What answers a challenge: Basic credentials, or a Bearer token by the CNCF distribution token
//! protocol.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use ureq::http::{Method, StatusCode, header};

use super::{
    challenge::Challenge,
    login::{Login, redacted},
};
use crate::{
    error::{Context, Error, Result},
    registry::transport::{
        http::{HttpAgent, Payload, Request, Response},
        url::{encoded, shown, with_parameter},
    },
};

/// The protocol's default for a token that does not say how long it lives.
const TOKEN_LIFE: Duration = Duration::from_secs(60);
const TOKEN_ANSWER_MAX: u64 = 1 << 20;

/// What a token is asked for with.
pub struct TokenAsk<'a> {
    /// Who we are, if anybody knows.
    pub login: Option<&'a Login>,
    /// What the token must allow.
    pub scope: &'a str,
    /// From a secure server no password goes on to a token server that is not.
    pub secure: bool,
}

/// The `Authorization` header for one scope, fetched once for all threads.
#[derive(Default)]
pub struct TokenSlot {
    state: Mutex<SlotState>,
    /// Whether credentials were offered to a registry that did not ask for them, and it has answered.
    pub offer: Mutex<bool>,
}

#[derive(Default)]
struct SlotState {
    grant: Option<Grant>,
    /// What the server wanted last.
    challenge: Option<Challenge>,
    /// When and why it could not be answered.
    failed: Option<(Instant, Error)>,
}

/// What answers a challenge, for some time.
pub struct Grant {
    header: String,
    expires: Option<Instant>,
}

impl Grant {
    /// The `Authorization` header.
    pub fn header(&self) -> &str {
        &self.header
    }

    fn is_live(&self) -> bool {
        self.expires.is_none_or(|at| Instant::now() < at)
    }
}

impl TokenSlot {
    /// The header, if there is one that still holds.
    pub fn header(&self) -> Option<String> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.grant.as_ref().filter(|g| g.is_live()).map(|g| g.header.clone())
    }

    /// The challenge that a request without a header will meet, if there was one before.
    pub fn challenge(&self) -> Option<Challenge> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).challenge.clone()
    }

    /// This answers the server's challenge from now on.
    pub fn keep(&self, grant: Grant, challenge: Challenge) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.grant, state.challenge) = (Some(grant), Some(challenge));
    }

    /// Answers a challenge that came although `used` was sent. The first thread that comes here
    /// fetches the token; those behind it wait and get it too.
    ///
    /// # Errors
    /// If the challenge cannot be answered, or the token server refuses.
    pub fn renew<'a>(
        &self,
        used: Option<&str>,
        challenge: &Challenge,
        ask: &TokenAsk,
        agent: impl Fn(&str) -> &'a HttpAgent,
    ) -> Result<String> {
        let asked = Instant::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(newer) = state.grant.as_ref().filter(|g| g.is_live() && Some(g.header.as_str()) != used) {
            return Ok(newer.header.clone());
        }
        // What failed while we waited would fail again.
        if let Some((_, e)) = state.failed.as_ref().filter(|(at, _)| *at >= asked) {
            return Err(e.clone());
        }
        state.challenge = Some(challenge.clone());
        match answered(challenge, ask, agent) {
            Ok(grant) => Ok(state.grant.insert(grant).header.clone()),
            Err(e) => {
                state.failed = Some((Instant::now(), e.clone()));
                Err(e)
            }
        }
    }
}

/// Fetches what answers a challenge.
///
/// # Errors
/// If it cannot be answered, or the token server refuses.
pub fn answered<'a>(challenge: &Challenge, ask: &TokenAsk, agent: impl Fn(&str) -> &'a HttpAgent) -> Result<Grant> {
    let TokenAsk { login, scope, secure } = *ask;
    if let Some(Login::Bearer(token)) = login {
        return Ok(Grant { header: format!("Bearer {token}"), expires: None });
    }
    let Challenge::Bearer { realm, service, scope: wanted } = challenge else {
        return Ok(Grant { header: basic(login)?, expires: None });
    };
    let doing = || format!("getting a token from {}", shown(realm));
    if secure && login.is_some() && !realm.starts_with("https://") {
        return Err(Error::new("it would get the password in the clear").doing(doing()));
    }
    let request = TokenRequest {
        agent: agent(realm),
        realm,
        service: service.as_deref().unwrap_or(""),
        scope: &scope_for(scope, wanted.as_deref()),
    };
    match login {
        Some(Login::Identity(token)) => request.exchange(token),
        Some(login) => basic(Some(login)).and_then(|header| request.get(Some(header))),
        None => request.get(None),
    }
    .doing(doing)
}

/// The scope to ask for: what the registry wants, but no less than what the requests to come need,
/// as long as both speak of the same resource.
fn scope_for(needed: &str, wanted: Option<&str>) -> String {
    let resource = |scope: &str| scope.rsplit_once(':').map(|(resource, _)| resource.to_string());
    match wanted {
        Some(wanted) if wanted.split(' ').any(|w| !needed.split(' ').any(|n| resource(n) == resource(w))) => {
            wanted.into()
        }
        _ => needed.into(),
    }
}

fn basic(login: Option<&Login>) -> Result<String> {
    match login {
        Some(Login::Password { user, password }) => {
            Ok(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
        }
        Some(Login::Identity(_) | Login::Bearer(_)) => {
            Err(Error::new("the registry wants a user name and a password; there is only a token"))
        }
        None => Err(Error::new("the registry wants a user name and a password")),
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    /// Seconds; servers write it in several ways.
    expires_in: Option<serde_json::Value>,
}

/// What a token server is asked for.
struct TokenRequest<'a> {
    agent: &'a HttpAgent,
    realm: &'a str,
    service: &'a str,
    /// Several are separated by spaces; may be empty.
    scope: &'a str,
}

impl TokenRequest<'_> {
    /// By GET: anonymous, or with Basic credentials.
    fn get(&self, header: Option<String>) -> Result<Grant> {
        let mut url = self.realm.to_string();
        for scope in self.scope.split(' ').filter(|scope| !scope.is_empty()) {
            url = with_parameter(&url, "scope", scope);
        }
        if !self.service.is_empty() {
            url = with_parameter(&url, "service", self.service);
        }
        let mut request = Request::get(&url);
        let known = header.is_some();
        if let Some(header) = header {
            request = request.with(header::AUTHORIZATION, header);
        }
        grant(known, || self.agent.send(request))
    }

    /// By OAuth2's POST: a refresh token for an access token (RFC 6749, section 6).
    fn exchange(&self, identity: &str) -> Result<Grant> {
        let (service, scope) = (encoded(self.service), encoded(self.scope));
        let identity = encoded(identity);
        let form = format!(
            "grant_type=refresh_token&client_id=ace-dt&service={service}&scope={scope}&refresh_token={identity}"
        );
        let request = Request::new(Method::POST, self.realm.into())
            .with(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        grant(true, || self.agent.send_with(&request, Payload::Bytes(form.as_bytes())))
    }
}

/// `known` says whether we said who we are.
fn grant(known: bool, ask: impl FnOnce() -> Result<Response>) -> Result<Grant> {
    let asked = Instant::now();
    let response = ask()?.unless_busy()?;
    let refused = response.status() == StatusCode::UNAUTHORIZED;
    let bytes = response.expect_ok().map_err(|e| if refused && known { e.hint("wrong credentials") } else { e })?;
    let bytes = bytes.bytes(TOKEN_ANSWER_MAX)?;
    let answer: TokenAnswer = serde_json::from_slice(&bytes)
        .map_err(|e| Error::new(format!("the answer is not a token: {}", redacted(&e))))?;
    let token = [answer.token, answer.access_token].into_iter().flatten().find(|token| !token.is_empty());
    let token = token.ok_or_else(|| Error::new("the answer holds no token"))?;
    let seconds = answer.expires_in.and_then(|value| match value {
        serde_json::Value::String(text) => text.parse().ok(),
        number => number.as_f64(),
    });
    let life = seconds.filter(|s| *s > 0.0).and_then(|s| Duration::try_from_secs_f64(s).ok()).unwrap_or(TOKEN_LIFE);
    Ok(Grant { header: format!("Bearer {token}"), expires: asked.checked_add(life.mul_f32(0.9)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes() {
        let (pull, push) = ("repository:a:pull", "repository:a:pull,push");
        assert_eq!(scope_for(push, Some(pull)), push);
        assert_eq!(scope_for(pull, None), pull);
        assert_eq!(scope_for(pull, Some("repository:inside/a:pull")), "repository:inside/a:pull");
        let mount = "repository:a:pull,push repository:b:pull";
        assert_eq!(scope_for(mount, Some("repository:b:pull repository:a:pull,push")), mount);
    }
}
