//! Who we are at which registry: the auth files of containers and Docker.

use std::{collections::BTreeMap, fmt, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;

use super::auth::place;
use crate::{
    config::env_path,
    error::{Context, Error, Result},
};

/// A user's name and password. It has no `Display`, and `Debug` hides the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    pub user: String,
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login({:?})", self.user)
    }
}

/// Logins by registry, or by registry and repository path.
#[derive(Debug, Default)]
pub struct Credentials {
    logins: BTreeMap<String, Login>,
}

#[derive(Deserialize)]
struct AuthFile {
    #[serde(default)]
    auths: BTreeMap<String, AuthEntry>,
}

#[derive(Deserialize)]
struct AuthEntry {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
}

impl Credentials {
    /// Reads the one file that is `named`, or else the first of the usual places that is there:
    /// containers-auth.json(5), then Docker's.
    pub fn load(named: Option<&Path>) -> Result<Credentials> {
        let path = match named {
            Some(path) => path.to_path_buf(),
            None => {
                let home = |rest: &str| env_path("HOME").map(|home| home.join(rest));
                let places = [
                    env_path("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json")),
                    home(".config/containers/auth.json"),
                    home(".docker/config.json"),
                ];
                match places.into_iter().flatten().find(|path| path.is_file()) {
                    Some(path) => path,
                    None => return Ok(Credentials::default()),
                }
            }
        };
        let doing = || format!("reading the auth file {path:?}");
        let text = std::fs::read(&path).doing(doing)?;
        Credentials::parse(&text).doing(doing)
    }

    fn parse(text: &[u8]) -> Result<Credentials> {
        let file: AuthFile = serde_json::from_slice(text).map_err(|e| Error::new(place(&e)))?;
        let mut logins = BTreeMap::new();
        for (name, entry) in file.auths {
            let login = entry.login().map_err(|why| Error::new(why).doing(format!("the entry for {name}")))?;
            if let Some(login) = login {
                logins.insert(key(&name), login);
            }
        }
        Ok(Credentials { logins })
    }

    /// The login for a repository: that of the longest path that leads to it, down to the registry.
    pub fn find(&self, registry: &str, repository: &str) -> Option<&Login> {
        let mut path = format!("{}/{repository}", key(registry));
        loop {
            if let Some(login) = self.logins.get(&path) {
                return Some(login);
            }
            path.truncate(path.rfind('/')?);
        }
    }
}

impl AuthEntry {
    fn login(self) -> std::result::Result<Option<Login>, &'static str> {
        if self.auth.is_empty() {
            let login = Login { user: self.username, password: self.password };
            return Ok(Some(login).filter(|login| !login.user.is_empty()));
        }
        let decoded = STANDARD.decode(self.auth.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let decoded = decoded.ok_or("its \"auth\" is not base64")?;
        let (user, password) = decoded.split_once(':').ok_or("its \"auth\" holds no user:password")?;
        Ok(Some(Login { user: user.into(), password: password.trim_end_matches('\0').into() }))
    }
}

/// The name under which a registry is looked up: without scheme, without Docker's `/v1/`, and all
/// of Docker Hub's names as one.
fn key(name: &str) -> String {
    let name = name.strip_prefix("https://").or_else(|| name.strip_prefix("http://")).unwrap_or(name);
    let name = name.trim_end_matches('/');
    let name = name.strip_suffix("/v1").or_else(|| name.strip_suffix("/v2")).unwrap_or(name);
    match name {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".into(),
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_path_wins() {
        let auth = |text: &str| STANDARD.encode(text);
        let text = format!(
            r#"{{"auths":{{"reg.io":{{"auth":"{}"}},"reg.io/team":{{"auth":"{}"}},"https://index.docker.io/v1/":{{"username":"d","password":"p"}},"empty.io":{{}}}}}}"#,
            auth("a:1:2"),
            auth("b:2")
        );
        let credentials = Credentials::parse(text.as_bytes()).unwrap();
        let user = |registry: &str, repository: &str| credentials.find(registry, repository).map(|l| l.user.clone());
        assert_eq!(user("reg.io", "x").as_deref(), Some("a"));
        assert_eq!(credentials.find("reg.io", "x").unwrap().password, "1:2");
        assert_eq!(user("reg.io", "team/x").as_deref(), Some("b"));
        assert_eq!(user("reg.io", "teams/x").as_deref(), Some("a"));
        assert_eq!(user("docker.io", "library/x").as_deref(), Some("d"));
        assert_eq!(user("empty.io", "x"), None);
        assert_eq!(user("other.io", "x"), None);
    }

    #[test]
    fn passwords_are_not_shown() {
        let login = Login { user: "u".into(), password: "secret".into() };
        assert!(!format!("{login:?}").contains("secret"));
        let misplaced = Credentials::parse(br#"{"auths":{"a":"c2VjcmV0"}}"#).unwrap_err().to_string();
        assert!(misplaced.contains("line 1") && !misplaced.contains("c2VjcmV0"), "{misplaced}");
        assert!(
            Credentials::parse(br#"{"auths":{"a":{"auth":"!"}}}"#).unwrap_err().to_string().contains("the entry for a")
        );
    }
}
