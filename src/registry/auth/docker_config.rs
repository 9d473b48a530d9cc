//! Who we are at which registry: the auth files of containers and Docker, and the credential
//! helpers that they name.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use nix::fcntl::{Flock, FlockArg};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    credential_helper::CredentialHelper,
    login::{Login, redacted},
};
use crate::{
    config::{NamedAuthFile, env_path},
    error::{Context, Error, Result},
    fd, log,
    oci::json::or_default,
    util::atomic_file,
};

/// A login, and where it is kept, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownLogin {
    /// What proves who we are.
    pub login: Login,
    /// A file, or a helper.
    pub place: String,
}

/// All that is known of logins.
#[derive(Debug, Default)]
pub struct Credentials {
    /// In the order in which they are asked.
    files: Vec<AuthFile>,
    /// What helpers have said, by helper and registry: each is asked once.
    said: Mutex<HashMap<(String, String), HelperReply>>,
}

/// What a helper said of a registry.
type HelperReply = Result<Option<Login>>;
/// The same, with the place.
type HelperLogin = Result<Option<KnownLogin>>;

/// One auth file.
#[derive(Debug, Default)]
struct AuthFile {
    path: PathBuf,
    /// By registry, or by registry and repository path. An entry that cannot be read matters to its registry only.
    logins: BTreeMap<String, Result<Login>>,
    /// Names of helpers by registry.
    helpers: BTreeMap<String, String>,
    /// The helper for all other registries.
    store: Option<String>,
}

/// An auth file, as it is written. Go takes keys in any case.
#[derive(Default, Deserialize)]
#[serde(default)]
struct AuthFileJson {
    #[serde(deserialize_with = "or_default")]
    auths: BTreeMap<String, Value>,
    #[serde(deserialize_with = "or_default")]
    credhelpers: BTreeMap<String, Option<String>>,
    #[serde(deserialize_with = "or_default")]
    credsstore: String,
}

/// One entry of an auth file.
#[derive(Default, Deserialize)]
#[serde(default)]
struct AuthEntry {
    #[serde(deserialize_with = "or_default")]
    auth: String,
    #[serde(deserialize_with = "or_default")]
    username: String,
    #[serde(deserialize_with = "or_default")]
    password: String,
    #[serde(deserialize_with = "or_default")]
    identitytoken: String,
    #[serde(deserialize_with = "or_default")]
    registrytoken: String,
}

/// A JSON object whose own keys are in lower case.
fn lower_keys(value: Value) -> Value {
    match value {
        Value::Object(map) => map.into_iter().map(|(key, value)| (key.to_ascii_lowercase(), value)).collect(),
        other => other,
    }
}

impl Credentials {
    /// Those in the text of one auth file.
    ///
    /// # Errors
    /// If it is no auth file.
    #[cfg(any(test, fuzzing))]
    pub fn of_text(text: &[u8]) -> Result<Credentials> {
        Ok(Credentials { files: vec![AuthFile::parse(Path::new("auth.json"), text)?], said: Mutex::default() })
    }

    /// Reads the one file that is `named`, or else all of the usual ones that are there.
    ///
    /// # Errors
    /// If a file cannot be read, or is no auth file.
    pub fn load(named: Option<&NamedAuthFile>) -> Result<Credentials> {
        let mut credentials = Credentials::default();
        for path in places(named) {
            if named.is_some_and(|named| named.required) || path.is_file() {
                log::debug(format_args!("credentials from {}", path.display()));
                credentials.files.push(AuthFile::read(&path)?);
            }
        }
        Ok(credentials)
    }

    /// The registries and repositories that have a login or a helper of their own.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.iter().flat_map(|file| file.logins.keys().chain(file.helpers.keys()).map(String::as_str))
    }

    /// Only this login.
    pub fn only(registry: &str, login: Login) -> Credentials {
        let logins = BTreeMap::from([(key(registry), Ok(login))]);
        Credentials { files: vec![AuthFile { logins, ..AuthFile::default() }], said: Mutex::default() }
    }

    /// The login for a repository, from the first file that has one: from its helper for this very
    /// registry, of the longest path that leads to the repository, or from its helper for all. What fails is passed
    /// over, as long as there is another.
    ///
    /// # Errors
    /// If there is none, and a helper failed or an entry cannot be read.
    pub fn find(&self, registry: &str, repository: &str) -> Result<Option<KnownLogin>> {
        let registry = key(registry);
        let mut failed = None;
        for file in &self.files {
            let own = || file.helpers.get(&registry).map_or(Ok(None), |name| self.ask(file, name, &registry));
            let in_file = || match file.longest(&registry, repository) {
                Some(Ok(login)) => {
                    Ok(Some(KnownLogin { login: login.clone(), place: file.path.display().to_string() }))
                }
                Some(Err(e)) => Err(e.clone().doing(file.doing())),
                None => Ok(None),
            };
            let store = || file.store.as_ref().map_or(Ok(None), |name| self.ask(file, name, &registry));
            for way in [&own as &dyn Fn() -> HelperLogin, &in_file, &store] {
                match way() {
                    Ok(Some(found)) => return Ok(Some(found)),
                    Ok(None) => {}
                    Err(e) => failed = failed.or(Some(e)),
                }
            }
        }
        failed.map_or(Ok(None), Err)
    }

    /// Threads that come while a helper is being asked wait for its answer.
    fn ask(&self, file: &AuthFile, name: &str, registry: &str) -> HelperLogin {
        let helper = CredentialHelper::new(name);
        let known = |login| KnownLogin { login, place: helper.to_string() };
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = (name.to_string(), registry.to_string());
        if let Some(answer) = said.get(&asked) {
            return Ok(answer.clone()?.map(known));
        }
        let answer = helper.get(&server(registry)).doing(|| file.doing());
        said.insert(asked, answer.clone());
        Ok(answer?.map(known))
    }
}

/// Where auth files are: the one that is named, or containers-auth.json(5), then Docker's.
fn places(named: Option<&NamedAuthFile>) -> Vec<PathBuf> {
    if let Some(named) = named {
        return vec![named.path.clone()];
    }
    let home = |rest: &str| env_path("HOME").map(|home| home.join(rest));
    let places = [
        env_path("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json")),
        home(".config/containers/auth.json"),
        home(".docker/config.json"),
    ];
    places.into_iter().flatten().collect()
}

impl AuthFile {
    fn read(path: &Path) -> Result<AuthFile> {
        let file = AuthFile { path: path.into(), ..AuthFile::default() };
        let doing = || file.doing();
        let text = fd::read_file(path).doing(doing)?;
        AuthFile::parse(path, &text).doing(doing)
    }

    fn doing(&self) -> String {
        format!("reading the auth file {:?}", self.path)
    }

    fn parse(path: &Path, text: &[u8]) -> Result<AuthFile> {
        if text.trim_ascii().is_empty() {
            return Ok(AuthFile { path: path.into(), ..AuthFile::default() });
        }
        let no_auth_file = |e| Error::new(format!("it is no auth file, but {}", redacted(&e)));
        let written: Value = serde_json::from_slice(text).map_err(no_auth_file)?;
        let written: AuthFileJson = serde_json::from_value(lower_keys(written)).map_err(no_auth_file)?;
        let mut logins = BTreeMap::new();
        for (name, entry) in written.auths {
            if let Some(login) = login(entry).map_err(|e| e.doing(format!("the entry for {name}"))).transpose() {
                logins.insert(key(&name), login);
            }
        }
        let helpers = written.credhelpers.into_iter().map(|(name, helper)| (name, helper.unwrap_or_default()));
        let helpers = helpers.filter(|(_, helper)| !helper.is_empty());
        Ok(AuthFile {
            path: path.into(),
            logins,
            helpers: helpers.map(|(name, helper)| (key(&name), helper)).collect(),
            store: Some(written.credsstore).filter(|name| !name.is_empty()),
        })
    }

    /// The login of the longest path that leads to a repository, down to the registry.
    fn longest(&self, registry: &str, repository: &str) -> Option<&Result<Login>> {
        let mut path = format!("{registry}/{repository}");
        loop {
            if let Some(login) = self.logins.get(&path) {
                return Some(login);
            }
            path.truncate(path.rfind('/')?);
        }
    }

    /// The helper that keeps the login of a registry.
    fn helper(&self, registry: &str) -> Option<CredentialHelper> {
        self.helpers.get(registry).or(self.store.as_ref()).map(|name| CredentialHelper::new(name))
    }

    /// Rewrites the entries of the file as a whole: it is there with all of its content, or as it
    /// was before. Only its owner can read it.
    fn rewrite(&self, change: impl FnOnce(&mut Map<String, Value>)) -> Result<()> {
        let doing = || format!("writing the auth file {:?}", self.path);
        // A link stays a link.
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        if fs::metadata(&path).is_ok_and(|meta| !meta.is_file()) {
            return Err(Error::new("it is no regular file").doing(doing()));
        }
        let dir = atomic_file::directory(&path);
        fs::create_dir_all(dir).doing(doing)?;
        // Two logins at once must not lose one.
        let alone = Flock::lock(fs::File::open(dir).doing(doing)?, FlockArg::LockExclusive);
        let _alone = alone.map_err(|(_, e)| Error::new(e.desc()).doing(doing()))?;
        let text = match fs::read(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            other => other.doing(doing)?,
        };
        let mut file: Map<String, Value> = match text.trim_ascii() {
            [] => Map::new(),
            text => serde_json::from_slice(text).map_err(|e| Error::new(redacted(&e)).doing(doing()))?,
        };
        let auths = file.entry("auths").or_insert_with(|| json!({}));
        change(auths.as_object_mut().ok_or_else(|| Error::new("its \"auths\" is no object").doing(doing()))?);
        let mut text = serde_json::to_vec_pretty(&file).expect("a map of JSON values is JSON");
        text.push(b'\n');
        atomic_file::replace(&path, &text, true).doing(doing)
    }

    /// Takes a registry's entries out of the file.
    fn forget(&self, registry: &str) -> Result<()> {
        self.rewrite(|auths| auths.retain(|name, _| key(name) != registry))
    }
}

/// Stores a login where it will be found: in the file that has one for the registry already, else
/// in the first that is there, else in Docker's; or with the helper that this file names. Returns
/// the place, in words.
///
/// # Errors
/// If an auth file cannot be read or written, or the helper fails.
pub fn store(named: Option<&NamedAuthFile>, registry: &str, user: &str, password: &str) -> Result<String> {
    let registry = key(registry);
    let places = places(named);
    let files = places.iter().filter(|path| path.is_file()).map(|path| AuthFile::read(path));
    let files = files.collect::<Result<Vec<_>>>()?;
    let knows = |file: &&AuthFile| file.logins.contains_key(&registry) || file.helpers.contains_key(&registry);
    let new = places.last().map(|path| AuthFile { path: path.clone(), ..AuthFile::default() });
    let file = files.iter().find(knows).or(files.first()).or(new.as_ref());
    let file = file.ok_or_else(|| Error::new("there is no place for an auth file: $HOME is not set"))?;
    if let Some(helper) = file.helper(&registry) {
        helper.store(&server(&registry), user, password)?;
        if file.logins.contains_key(&registry) {
            // It would be found first.
            file.forget(&registry)?;
        }
        return Ok(helper.to_string());
    }
    let auth = STANDARD.encode(format!("{user}:{password}"));
    file.rewrite(|auths| {
        auths.retain(|name, _| key(name) != registry);
        auths.insert(server(&registry), json!({"auth": auth}));
    })?;
    Ok(file.path.display().to_string())
}

/// Takes the login for a registry out of every auth file and its helper. Returns the places, in
/// words; none if there was no login.
///
/// # Errors
/// If an auth file cannot be read or written, or the helper fails.
pub fn erase(named: Option<&NamedAuthFile>, registry: &str) -> Result<Vec<String>> {
    let registry = key(registry);
    let mut places = Vec::new();
    for file in Credentials::load(named)?.files {
        let helper = file.helper(&registry);
        if let Some(helper) = helper.filter(|h| !matches!(h.get(&server(&registry)), Ok(None))) {
            helper.erase(&server(&registry))?;
            places.push(helper.to_string());
        }
        if file.logins.contains_key(&registry) {
            file.forget(&registry)?;
            places.push(file.path.display().to_string());
        }
    }
    Ok(places)
}

/// The login in an entry, if it holds one.
fn login(entry: Value) -> Result<Option<Login>> {
    let no_entry = |e| Error::new(format!("it is no entry of an auth file, but {}", redacted(&e)));
    let entry: Option<AuthEntry> = serde_json::from_value(lower_keys(entry)).map_err(no_entry)?;
    let AuthEntry { auth, username, password, identitytoken, registrytoken } = entry.unwrap_or_default();
    if !registrytoken.is_empty() {
        return Ok(Some(Login::Bearer(registrytoken)));
    }
    if !identitytoken.is_empty() {
        return Ok(Some(Login::Identity(identitytoken)));
    }
    if auth.is_empty() {
        return Ok((!username.is_empty()).then_some(Login::Password { user: username, password }));
    }
    let decoded = STANDARD.decode(auth.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let decoded = decoded.ok_or_else(|| Error::new("its \"auth\" is not base64"))?;
    let (user, password) = decoded.split_once(':').ok_or_else(|| Error::new("its \"auth\" holds no user:password"))?;
    let password = password.trim_end_matches('\0').to_string();
    Ok(match user {
        "<token>" => Some(Login::Identity(password)),
        user => Some(Login::Password { user: user.into(), password }),
    })
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

/// The name under which helpers and Docker keep a registry.
fn server(registry: &str) -> String {
    if registry == "docker.io" { "https://index.docker.io/v1/".into() } else { registry.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_path_wins() {
        let auth = |text: &str| STANDARD.encode(text);
        let text = format!(
            r#"{{"auths":{{"reg.io":{{"auth":"{}"}},"reg.io/team":{{"auth":"{}"}},"https://index.docker.io/v1/":{{"username":"d","password":"p"}},"empty.io":{{}},"id.io":{{"auth":"{}","identitytoken":"t"}}}}}}"#,
            auth("a:1:2"),
            auth("b:2"),
            auth("c:")
        );
        let credentials = Credentials::of_text(text.as_bytes()).unwrap();
        let find = |registry: &str, repository: &str| Some(credentials.find(registry, repository).unwrap()?.login);
        let login = |user: &str, password: &str| Some(Login::Password { user: user.into(), password: password.into() });
        assert_eq!(find("reg.io", "x"), login("a", "1:2"));
        assert_eq!(find("reg.io", "team/x"), login("b", "2"));
        assert_eq!(find("reg.io", "teams/x"), login("a", "1:2"));
        assert_eq!(find("docker.io", "library/x"), login("d", "p"));
        assert_eq!(find("id.io", "x"), Some(Login::Identity("t".into())));
        assert_eq!(find("empty.io", "x"), None);
        assert_eq!(find("other.io", "x"), None);
    }

    #[test]
    fn secrets_are_not_shown() {
        let login = Login::Password { user: "u".into(), password: "secret".into() };
        assert!(!format!("{login:?}{:?}", Login::Identity("secret".into())).contains("secret"));
        let of = |entry: &str| {
            let credentials =
                Credentials::of_text(format!(r#"{{"auths":{{"a.io":{entry},"b.io":null}}}}"#).as_bytes()).unwrap();
            assert_eq!(credentials.find("b.io", "x").unwrap(), None, "an entry matters to its registry only");
            credentials.find("a.io", "x").unwrap_err().to_string()
        };
        let misplaced = of(r#""c2VjcmV0""#);
        assert!(misplaced.contains("the entry for a.io") && !misplaced.contains("c2VjcmV0"), "{misplaced}");
        assert!(of(r#"{"auth":"!"}"#).contains("the entry for a.io"));
    }
}
