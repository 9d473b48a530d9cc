//! A login: what proves who we are.

use std::fmt;

/// What proves who we are. It has no `Display`, and `Debug` hides the secret.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// A user name and a password or access token.
    Password {
        /// Who we are.
        user: String,
        /// What proves it.
        password: String,
    },
    /// An OAuth2 refresh token.
    Identity(String),
    /// A token for the registry itself (Docker's `registrytoken`).
    Bearer(String),
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Login::Password { user, .. } => write!(f, "Password({user:?})"),
            Login::Identity(_) => f.write_str("Identity"),
            Login::Bearer(_) => f.write_str("Bearer"),
        }
    }
}

/// Where JSON is wrong, without what stands there: it may be a secret.
pub fn redacted(error: &serde_json::Error) -> String {
    match error.line() {
        0 => "malformed".into(),
        line => format!("malformed at line {line} column {}", error.column()),
    }
}
