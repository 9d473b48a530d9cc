//! The configuration in words: what is in effect and where it comes from, and a sample.

use std::{
    env,
    fmt::Write as _,
    path::{Path, PathBuf},
};

use crate::{
    compression::CompressionLevel,
    config::{self, env_path},
    error::Result,
};

/// A commented sample: every key, with what is in effect without it.
pub const SAMPLE: &str = include_str!("config_sample.yaml");

/// The configuration in effect, as YAML that is one itself: `named` are the files of `--config`. Behind each key stands
/// where its value comes from.
///
/// # Errors
/// As [`config::load`].
pub fn in_effect(named: &[PathBuf]) -> Result<String> {
    let found = config::find(named)?;
    let config = config::of_file(found.as_ref())?;
    let tree: serde_yaml::Value =
        found.as_ref().and_then(|(_, text)| serde_yaml::from_str(text).ok()).unwrap_or_default();
    let file = found.as_ref().map(|(path, _)| path.as_path());
    let mut out = match file {
        Some(path) => format!("# The file is {}.\n", path.display()),
        None => "# There is no file.\n".into(),
    };
    let origin = ValueOrigin { tree: &tree, file };
    let mut line = |key: &str, value: &str, variables: &[&'static str]| {
        let comment = origin.of(key, variables);
        let _ = writeln!(out, "{:<44} # {comment}", format!("{key}: {value}"));
    };
    line("apiVersion", config::API_VERSION, &[]);
    line("kind", config::KIND, &[]);
    line("concurrentHTTP", &config.concurrent_http.to_string(), &["ACE_DT_CONCURRENT_HTTP"]);
    line("chunkSize", &config.chunk_size.to_string(), &["ACE_DT_CHUNK_SIZE"]);
    let level = match config.compression_level {
        CompressionLevel::Min => "min",
        CompressionLevel::Normal => "normal",
        CompressionLevel::Max => "max",
    };
    line("compressionLevel", level, &[]);
    match &config.cache {
        Some(path) => line("cachePath", &quoted(path), &["ACE_DT_CACHE_PATH"]),
        None => line("# cachePath", "", &[]),
    }
    line("cachePruneMax", &config.cache_prune_max.to_string(), &["ACE_DT_CACHE_PRUNE_MAX"]);
    let auth = ["ACE_DT_REGISTRY_AUTH_FILE", "REGISTRY_AUTH_FILE", "DOCKER_CONFIG"];
    match &config.auth_file {
        Some(named) => line("registryAuthFile", &quoted(&named.path), &auth),
        None => line("# registryAuthFile", "", &[]),
    }
    let registries = tree.get("registryConfig").filter(|registries| !registries.is_null());
    if let Some(text) = registries.and_then(|registries| serde_yaml::to_string(registries).ok()) {
        let _ = writeln!(out, "{:<44} # {}", "registryConfig:", origin.of("registryConfig", &[]));
        text.lines().for_each(|line| out.push_str(&format!("  {line}\n")));
    }
    Ok(out)
}

/// Where values come from.
struct ValueOrigin<'a> {
    tree: &'a serde_yaml::Value,
    file: Option<&'a Path>,
}

impl ValueOrigin<'_> {
    /// In words, of a key that these environment variables may stand in for.
    fn of(&self, key: &str, variables: &[&'static str]) -> String {
        let is_set = |name: &&&str| env_path(name).is_some();
        if let Some(variable) = variables.iter().find(is_set) {
            return format!("${variable}");
        }
        match self.file.filter(|_| self.tree.get(key).is_some_and(|value| !value.is_null())) {
            Some(path) => path.display().to_string(),
            None if key.starts_with('#') => "not set".into(),
            None => "default".into(),
        }
    }
}

/// A path as YAML reads it back.
fn quoted(path: &Path) -> String {
    let absolute = if path.is_absolute() { path.into() } else { env::current_dir().unwrap_or_default().join(path) };
    serde_json::Value::from(absolute.to_string_lossy().into_owned()).to_string()
}
