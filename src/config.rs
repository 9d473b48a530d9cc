//! The configuration file and the environment variables that override it.
//!
//! The first file of the search order that is present is used. A file that cannot be read as a
//! configuration is an error that names file and line; a key that nobody knows is a warning.

use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
};

use regex_lite::Regex;
use serde::{Deserialize, Deserializer, de};

use crate::{
    compression::CompressionLevel,
    error::{Context, Error, ErrorKind, Result},
    fd, log,
    oci::{Reference, is_loopback, json::or_default, split_port},
    util::{nearest::nearest, units},
};

/// What a configuration says that it is.
pub const API_VERSION: &str = "config.dt.act3-ace.io/v1alpha1";
/// And of which kind.
pub const KIND: &str = "Configuration";
const CONCURRENT_HTTP: usize = 25;
const CHUNK_SIZE: u64 = 100 << 20;
const CACHE_PRUNE_MAX: u64 = 500 << 20;
/// More threads than this serve nobody, and the limit keeps a typing error from exhausting memory.
const CONCURRENT_HTTP_MAX: usize = 1000;

/// Keys that concern other programs that share the file.
const FOREIGN: [&str; 8] =
    ["editor", "telemetry", "keys", "hideProgress", "compression", "metadata", "viewers", "userAgent"];

/// An endpoint's URL as it is compared: without a slash at the end, and without the API's version, which others write
/// there.
pub fn endpoint_base(url: &str) -> &str {
    let base = url.trim_end_matches('/');
    base.strip_suffix("/v2").unwrap_or(base)
}

/// Where a registry without configuration is: `https`, and on this very machine also `http`.
pub fn usual_endpoints(name: &str) -> Vec<String> {
    let name = if matches!(name, "docker.io" | "index.docker.io") { "registry-1.docker.io" } else { name };
    let mut urls = vec![format!("https://{name}")];
    if is_loopback(split_port(name).0) {
        urls.push(format!("http://{name}"));
    }
    urls
}

/// The configuration in effect.
#[derive(Clone, Debug)]
pub struct Config {
    /// Most HTTP requests in flight.
    pub concurrent_http: usize,
    /// The one auth file to use, instead of those in the usual places.
    pub auth_file: Option<NamedAuthFile>,
    /// Bytes of the largest chunk of a blob upload; 0: a blob is one request.
    pub chunk_size: u64,
    /// How hard archives are compressed.
    pub compression_level: CompressionLevel,
    /// The directory of the cache, if one is to be used.
    pub cache: Option<PathBuf>,
    /// What pruning brings the cache down to, in bytes.
    pub cache_prune_max: u64,
    /// By registry name, as it stands in references.
    pub registries: BTreeMap<String, RegistryOptions>,
    /// By endpoint URL, without a slash at the end.
    pub endpoints: BTreeMap<String, EndpointOptions>,
}

/// An auth file that was named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedAuthFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its absence is an error.
    pub required: bool,
}

/// How one registry is reached.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RegistryOptions {
    /// URLs, tried in order.
    #[serde(deserialize_with = "or_default")]
    pub endpoints: Vec<String>,
    /// Applied to the repository, in the order of the keys.
    #[serde(deserialize_with = "rewrites")]
    pub rewrite_pull: Vec<(Regex, String)>,
    // `noncompliant` (ask for a token for each repository afresh) is accepted and changes nothing:
    // a token never serves more than one repository here.
}

/// What is special about one endpoint.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointOptions {
    /// About its certificate.
    #[serde(deserialize_with = "or_default")]
    pub tls: TlsOptions,
    /// How it lists referrers.
    pub supports_referrers: ReferrersSupport,
}

/// What is special about TLS to an endpoint.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TlsOptions {
    /// Take any certificate.
    pub insecure_skip_verify: bool,
}

/// By what means an endpoint lists referrers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReferrersSupport {
    /// By the API, else by tags.
    #[default]
    Auto,
    /// By the API.
    Api,
    /// By tags.
    Tag,
}

/// A configuration file, as it is written.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ConfigFile {
    api_version: Option<String>,
    kind: Option<String>,
    #[serde(rename = "concurrentHTTP")]
    concurrent_http: Option<usize>,
    chunk_size: Option<String>,
    #[serde(deserialize_with = "or_default")]
    compression_level: CompressionLevel,
    cache_path: Option<PathBuf>,
    cache_prune_max: Option<String>,
    registry_auth_file: Option<PathBuf>,
    #[serde(deserialize_with = "or_default")]
    registry_config: RegistryConfig,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RegistryConfig {
    #[serde(deserialize_with = "nulls")]
    registries: BTreeMap<String, RegistryOptions>,
    #[serde(deserialize_with = "nulls")]
    endpoint_config: BTreeMap<String, EndpointOptions>,
}

/// A map whose values, and it itself, may be left empty.
fn nulls<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(d: D) -> Result<BTreeMap<String, T>, D::Error> {
    let map: BTreeMap<String, Option<T>> = or_default(d)?;
    Ok(map.into_iter().map(|(key, value)| (key, value.unwrap_or_default())).collect())
}

fn rewrites<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<(Regex, String)>, D::Error> {
    let map: BTreeMap<String, String> = or_default(d)?;
    map.into_iter()
        .map(|(pattern, replacement)| match Regex::new(&pattern) {
            Ok(regex) => Ok((regex, replacement)),
            Err(why) => Err(de::Error::custom(format!("{pattern:?} is not a regular expression: {why}"))),
        })
        .collect()
}

/// Every key that a configuration may have; `*` stands for any name.
const KNOWN: [&str; 19] = [
    "apiVersion",
    "kind",
    "cachePath",
    "cachePruneMax",
    "compressionLevel",
    "chunkSize",
    "concurrentHTTP",
    "registryAuthFile",
    "registryConfig",
    "registryConfig.registries",
    "registryConfig.registries.*",
    "registryConfig.registries.*.endpoints",
    "registryConfig.registries.*.rewritePull",
    "registryConfig.registries.*.noncompliant",
    "registryConfig.endpointConfig",
    "registryConfig.endpointConfig.*",
    "registryConfig.endpointConfig.*.tls",
    "registryConfig.endpointConfig.*.tls.insecureSkipVerify",
    "registryConfig.endpointConfig.*.supportsReferrers",
];

/// Finds and reads the configuration. `named` are the files of `--config`, if it was given.
///
/// # Errors
/// If none of the files named is there, one cannot be read as a configuration, or a value makes no
/// sense. All are wrong usage.
pub fn load(named: &[PathBuf]) -> Result<Config> {
    of_file(find(named)?.as_ref())
}

/// The configuration in a file that was found, or without one.
///
/// # Errors
/// If it is no configuration, or a value makes no sense.
pub fn of_file(found: Option<&(PathBuf, String)>) -> Result<Config> {
    let Some((path, text)) = found else { return resolve(ConfigFile::default()) };
    log::debug(format_args!("configuration from {}", path.display()));
    let file = parse(text, &mut |key| log::warn(format_args!("{}: unknown key {key}", path.display())));
    file.map_err(Error::usage).and_then(resolve).doing(|| reading(path))
}

fn reading(path: &Path) -> String {
    format!("reading the configuration file {path:?}")
}

/// The configuration file that counts, and its text; none if there is none. `named` are the files of `--config`.
///
/// # Errors
/// If none of the files named is there, or it cannot be read.
pub fn find(named: &[PathBuf]) -> Result<Option<(PathBuf, String)>> {
    let named: Vec<PathBuf> = match (named.is_empty(), env_path("ACE_DT_CONFIG")) {
        (true, Some(path)) => vec![path],
        _ => named.to_vec(),
    };
    let candidates = if named.is_empty() { usual_places() } else { named.clone() };
    let Some(path) = candidates.iter().find(|path| path.exists()) else {
        if named.is_empty() {
            return Ok(None);
        }
        let names: Vec<String> = named.iter().map(|p| format!("{p:?}")).collect();
        return Err(Error::usage(format!("none of the configuration files is there: {}", names.join(", "))));
    };
    let bytes = fd::read_file(path).doing(|| reading(path)).map_err(|e| e.of(ErrorKind::Usage))?;
    let text = String::from_utf8(bytes).map_err(|e| Error::usage(e.utf8_error()).doing(reading(path)))?;
    Ok(Some((path.clone(), text)))
}

/// Applies the environment and checks what is left to check.
///
/// # Errors
/// If a value makes no sense.
pub(crate) fn resolve(file: ConfigFile) -> Result<Config> {
    let concurrent_http = match env::var("ACE_DT_CONCURRENT_HTTP") {
        Ok(text) if !text.is_empty() => {
            text.parse().map_err(|_| Error::usage(format!("ACE_DT_CONCURRENT_HTTP={text}: it is not a number")))?
        }
        _ => file.concurrent_http.unwrap_or(CONCURRENT_HTTP),
    };
    if !(1..=CONCURRENT_HTTP_MAX).contains(&concurrent_http) {
        let name = if env::var("ACE_DT_CONCURRENT_HTTP").is_ok() { "ACE_DT_CONCURRENT_HTTP" } else { "concurrentHTTP" };
        let why = format!("{name} is {concurrent_http}, but must be from 1 to {CONCURRENT_HTTP_MAX}");
        return Err(Error::usage(why));
    }
    let size = |name: &str, text: &str| {
        units::parse_size(text).map_err(|why| Error::usage(why).doing(format!("{name}={text}")))
    };
    let either = |variable: &str, key: &str, in_file: &Option<String>, usual: u64| match (env::var(variable), in_file) {
        (Ok(text), _) if !text.is_empty() => size(variable, &text),
        (_, Some(text)) => size(key, text),
        _ => Ok(usual),
    };
    let chunk_size = either("ACE_DT_CHUNK_SIZE", "chunkSize", &file.chunk_size, CHUNK_SIZE)?;
    let cache_prune_max = either("ACE_DT_CACHE_PRUNE_MAX", "cachePruneMax", &file.cache_prune_max, CACHE_PRUNE_MAX)?;
    let required = |path| NamedAuthFile { path, required: true };
    let docker = || {
        let path = env_path("DOCKER_CONFIG")?;
        // A directory that holds no credentials, or is not there yet, is no mistake.
        let is_file = path.is_file() || path.extension().is_some_and(|e| e == "json");
        Some(if is_file { required(path) } else { NamedAuthFile { path: path.join("config.json"), required: false } })
    };
    let auth_file = env_path("ACE_DT_REGISTRY_AUTH_FILE").or_else(|| env_path("REGISTRY_AUTH_FILE")).map(required);
    let auth_file = auth_file.or_else(docker).or(file.registry_auth_file.map(|path| required(at_home(path))));
    for (name, registry) in &file.registry_config.registries {
        for url in &registry.endpoints {
            let (scheme, rest) = url.split_once("://").unwrap_or(("", ""));
            if rest.split('/').next().is_some_and(|host| host.contains('@')) {
                let why =
                    format!("an endpoint of registry {name} holds a user name; credentials belong in the auth file");
                return Err(Error::usage(why));
            }
            if !matches!(scheme, "http" | "https") || rest.trim_matches('/').is_empty() {
                let why = format!("the endpoint {url:?} of registry {name} is not a URL such as https://{name}");
                return Err(Error::usage(why));
            }
        }
    }
    check_endpoint_keys(&file.registry_config)?;
    let endpoints = file.registry_config.endpoint_config.into_iter();
    Ok(Config {
        concurrent_http,
        auth_file,
        chunk_size,
        compression_level: file.compression_level,
        cache: env_path("ACE_DT_CACHE_PATH").or(file.cache_path.map(at_home)),
        cache_prune_max,
        registries: file.registry_config.registries,
        endpoints: endpoints.map(|(url, endpoint)| (endpoint_base(&url).to_string(), endpoint)).collect(),
    })
}

/// What is said of an endpoint that no registry has would have no effect, and nobody would see it.
fn check_endpoint_keys(config: &RegistryConfig) -> Result<()> {
    let configured = |base: &str| {
        config.registries.values().flat_map(|registry| &registry.endpoints).any(|url| endpoint_base(url) == base)
    };
    // A registry is where it usually is unless it has endpoints.
    let usual = |base: &str| {
        let name = base.split_once("://").map_or("", |(_, name)| name);
        let is_moved = config.registries.get(name).is_some_and(|registry| !registry.endpoints.is_empty());
        is_registry(name) && !is_moved && usual_endpoints(name).iter().any(|url| url == base)
    };
    for url in config.endpoint_config.keys() {
        let base = endpoint_base(url);
        if !configured(base) && !usual(base) {
            let why = format!("endpointConfig has {url:?}, which is no endpoint of a registry: it matches nothing");
            return Err(
                Error::usage(why).hint("it must be as it stands in \"endpoints\", or https:// and the registry")
            );
        }
    }
    let Some(name) = config.registries.keys().find(|name| !is_registry(name)) else { return Ok(()) };
    let why = format!("registries has {name:?}, which no reference can begin with: it matches nothing");
    Err(Error::usage(why).hint("it must be a host with an optional port, such as reg.example.com:5000"))
}

/// Whether a reference can name a registry so.
fn is_registry(name: &str) -> bool {
    format!("{name}/x").parse::<Reference>().is_ok_and(|reference| reference.repository.registry == name)
}

/// Reads the text of a configuration. `unknown` hears of keys that nobody knows.
///
/// # Errors
/// If it is none, with the line.
pub(crate) fn parse(text: &str, unknown: &mut dyn FnMut(&str)) -> std::result::Result<ConfigFile, String> {
    let tree: serde_yaml::Value = serde_yaml::from_str(text).map_err(|e| e.to_string())?;
    if tree.is_null() {
        return Ok(ConfigFile::default());
    }
    let file: ConfigFile = serde_yaml::from_str(text).map_err(|e| plainly(&e.to_string()))?;
    for (key, found, wanted) in [("apiVersion", &file.api_version, API_VERSION), ("kind", &file.kind, KIND)] {
        if let Some(found) = found.as_deref().filter(|found| *found != wanted) {
            let line = 1 + text.lines().take_while(|l| !l.starts_with(key)).count();
            return Err(format!("{key} is {found:?}, but must be {wanted} at line {line}"));
        }
    }
    let mut keys = Vec::new();
    tell_unknown(&tree, "", "", &mut |key, pattern| keys.push((key.to_string(), pattern.to_string())));
    for (key, pattern) in keys {
        let line = line_of(text, &key).map_or(String::new(), |line| format!(" at line {line}"));
        let (parent, own) = pattern.rsplit_once('.').unwrap_or(("", &pattern));
        let siblings = KNOWN.iter().filter_map(|known| match known.rsplit_once('.') {
            Some((of, last)) => (of == parent && last != "*").then_some(last),
            None => parent.is_empty().then_some(*known),
        });
        let near = nearest(own, siblings);
        let elsewhere =
            || KNOWN.into_iter().find(|known| known.rsplit('.').next() == Some(own) && !known.contains('*'));
        let near = near.or_else(elsewhere);
        let near = near.map_or(String::new(), |near| format!(": is {near} meant?"));
        unknown(&format!("{key}{line}{near}"));
    }
    Ok(file)
}

/// What a parser expects, in words for those who write the file.
fn plainly(text: &str) -> String {
    let Some((before, behind)) = text.split_once("expected ") else { return text.into() };
    let end = behind.find(" at line ").unwrap_or(behind.len());
    let (expected, place) = behind.split_at(end);
    let expected = match expected {
        "usize" | "u64" | "u32" => "a whole number",
        "path string" | "a string" => "text",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        _ if expected.starts_with("struct ") || expected == "a map" => "a mapping of keys to values",
        other => other,
    };
    format!("{before}expected {expected}{place}")
}

/// The line in which a key stands, if its map is written in lines: each part of its path behind that of the one before.
fn line_of(text: &str, path: &str) -> Option<usize> {
    let is_key = |line: &str, key: &str| {
        let line = line.trim_start().trim_start_matches(['"', '\'']);
        line.strip_prefix(key).is_some_and(|rest| rest.trim_start_matches(['"', '\'']).trim_start().starts_with(':'))
    };
    let mut lines = text.lines().enumerate();
    let (mut at, mut rest, mut deeper) = (None, path, 0);
    // A name such as that of a registry holds full stops itself.
    while !rest.is_empty() {
        let mut taken = lines.clone();
        let ends = rest.match_indices('.').map(|(end, _)| end).chain([rest.len()]);
        let (line, end, next) = ends
            .filter_map(|end| {
                let (line, text) = taken.clone().find(|(_, line)| is_key(line, &rest[..end]))?;
                let indent = text.len() - text.trim_start().len();
                (indent >= deeper).then_some((line, end, indent + 1))
            })
            .next()?;
        taken.by_ref().find(|(number, _)| *number == line)?;
        (lines, at, rest, deeper) = (taken, Some(line + 1), rest[end..].trim_start_matches('.'), next);
    }
    at
}

/// Walks the keys; `pattern` is the path with `*` where any name may stand.
fn tell_unknown(tree: &serde_yaml::Value, path: &str, pattern: &str, unknown: &mut dyn FnMut(&str, &str)) {
    let Some(map) = tree.as_mapping() else { return };
    let join = |path: &str, key: &str| if path.is_empty() { key.to_string() } else { format!("{path}.{key}") };
    let any = matches!(pattern, "registryConfig.registries" | "registryConfig.endpointConfig");
    for (key, value) in map {
        let key = match key.as_str() {
            Some("") => "(an empty key)",
            Some(key) => key,
            None => "(a key that is no string)",
        };
        let here = join(pattern, if any { "*" } else { key });
        let named = join(path, key);
        match KNOWN.contains(&here.as_str()) {
            true if here.ends_with("rewritePull") => {}
            true => tell_unknown(value, &named, &here, unknown),
            false if path.is_empty() && FOREIGN.contains(&key) => {}
            false => unknown(&named, &here),
        }
    }
}

/// A path of the configuration; `~/` is the home directory.
fn at_home(path: PathBuf) -> PathBuf {
    match (path.strip_prefix("~"), env_path("HOME")) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path,
    }
}

fn usual_places() -> Vec<PathBuf> {
    let home = env_path("XDG_CONFIG_HOME").or_else(|| env_path("HOME").map(|home| home.join(".config")));
    let mut places = vec![PathBuf::from("ace-dt-config.yaml")];
    places.extend(home.map(|home| home.join("ace/dt/config.yaml")));
    places.push(Path::new("/etc/ace/dt/config.yaml").into());
    places
}

/// An environment variable that holds a path; an empty one counts as not set.
pub fn env_path(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> std::result::Result<(ConfigFile, Vec<String>), String> {
        let mut unknown = Vec::new();
        let file = parse(text, &mut |key| unknown.push(key.to_string()))?;
        Ok((file, unknown))
    }

    #[test]
    fn usual_endpoints_of_registries() {
        assert_eq!(usual_endpoints("docker.io"), ["https://registry-1.docker.io"]);
        assert_eq!(usual_endpoints("reg.io:5000"), ["https://reg.io:5000"]);
        assert_eq!(usual_endpoints("[::1]:5000"), ["https://[::1]:5000", "http://[::1]:5000"]);
        assert_eq!(usual_endpoints("127.0.0.2"), ["https://127.0.0.2", "http://127.0.0.2"]);
    }

    #[test]
    fn keys_that_can_match_nothing_are_refused() {
        let check = |registries: &str, endpoint: &str| {
            let text = format!("registryConfig:\n  registries: {registries}\n  endpointConfig: {{{endpoint}: null}}\n");
            check_endpoint_keys(&read(&text).unwrap().0.registry_config)
        };
        let mirrored = "{reg.io: {endpoints: [\"http://mirror:5000/v2/\"]}}";
        for (registries, endpoint) in [
            (mirrored, "http://mirror:5000"),
            (mirrored, "http://mirror:5000/"),
            ("null", "https://reg.io"),
            ("{}", "http://127.0.0.1:5000"),
        ] {
            assert!(check(registries, endpoint).is_ok(), "{registries} {endpoint}");
        }
        for (registries, endpoint) in [
            (mirrored, "https://reg.io"),
            ("{}", "reg.io"),
            ("{}", "http://reg.io"),
            ("{\"https://reg.io\": {}}", "https://reg.io"),
            ("{reg.io/team: {}}", "https://reg.io"),
        ] {
            assert!(check(registries, endpoint).unwrap_err().to_string().contains("matches nothing"), "{endpoint}");
        }
    }

    #[test]
    fn reads_all_keys_and_warns_of_the_unknown() {
        let text = "apiVersion: config.dt.act3-ace.io/v1alpha1\nkind: Configuration\nconcurrentHTTP: 3\neditor: vi\n\
            wrong: 1\nregistryConfig:\n  registries:\n    reg.io:\n      endpoints: [http://a:1]\n      rewritePull:\n        \
            '^(.*)$': mirror/$1\n      also: 1\n  endpointConfig:\n    http://a:1:\n      supportsReferrers: tag\n      tls:\n        \
            insecureSkipVerify: true\n";
        let (file, unknown) = read(text).unwrap();
        assert_eq!(unknown, ["wrong at line 5", "registryConfig.registries.reg.io.also at line 12"]);
        assert_eq!(file.concurrent_http, Some(3));
        let registry = &file.registry_config.registries["reg.io"];
        let (pattern, replacement) = &registry.rewrite_pull[0];
        assert_eq!(pattern.replace("library/x", replacement.as_str()), "mirror/library/x");
        let endpoint = &file.registry_config.endpoint_config["http://a:1"];
        assert_eq!(endpoint.supports_referrers, ReferrersSupport::Tag);
        assert!(endpoint.tls.insecure_skip_verify);
    }

    #[test]
    fn unknown_keys_are_told_with_line_and_nearest_key() {
        let text = "kind: Configuration\nconcurentHTTP: 3\nregistryConfig:\n  registries:\n    reg.io:\n      \
            endpoint: [http://a:1]\n    other.io: {rewritePul: {}}\n";
        let (_, unknown) = read(text).unwrap();
        let wanted = [
            "concurentHTTP at line 2: is concurrentHTTP meant?",
            "registryConfig.registries.reg.io.endpoint at line 6: is endpoints meant?",
            "registryConfig.registries.other.io.rewritePul: is rewritePull meant?",
        ];
        assert_eq!(unknown, wanted);
    }

    #[test]
    fn keys_that_are_none_are_told() {
        let (_, unknown) = read("'': 1\n7: 1\n").unwrap();
        assert_eq!(unknown, ["(an empty key)", "(a key that is no string)"]);
    }

    #[test]
    fn errors_name_the_line() {
        for (text, line) in [
            ("a: [\n", "line 2"),
            ("kind: Configuration\nconcurrentHTTP: many\n", "line 2"),
            ("\nkind: Pod\n", "line 2"),
            ("registryConfig:\n  registries:\n    a:\n      rewritePull:\n        '(': x\n", "line 4"),
        ] {
            let why = read(text).err().unwrap();
            assert!(why.contains(line), "{why}");
        }
        assert!(read("").is_ok());
    }
}
