//! Platforms (`os/arch[/variant]`) and which of them are wanted.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::json::or_default;

/// A platform of an index entry or an image configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// As Go names it: `amd64`.
    #[serde(default)]
    pub architecture: String,
    /// As Go names it: `linux`.
    #[serde(default)]
    pub os: String,
    /// For Windows.
    #[serde(rename = "os.version", default, skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    /// For Windows.
    #[serde(rename = "os.features", default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    /// Of the architecture: `v7`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if !self.variant.is_empty() {
            write!(f, "/{}", self.variant)?;
        }
        if !self.os_version.is_empty() {
            write!(f, ":{}", self.os_version)?;
        }
        Ok(())
    }
}

/// A platform asked for: `os/arch`, `os/arch/variant`, optionally `:osversion`. Variant and
/// version are compared only where they are given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformFilter(Platform);

impl PlatformFilter {
    /// Whether a platform is what is asked for.
    pub fn matches(&self, platform: &Platform) -> bool {
        let given = |wanted: &str, is: &str| wanted.is_empty() || wanted == is;
        self.0.os == platform.os
            && self.0.architecture == platform.architecture
            && given(&self.0.variant, &platform.variant)
            && given(&self.0.os_version, &platform.os_version)
    }
}

impl fmt::Display for PlatformFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for PlatformFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<PlatformFilter, String> {
        let (path, version) = text.split_once(':').unwrap_or((text, ""));
        let parts: Vec<&str> = path.split('/').collect();
        let (os, architecture, variant) = match parts[..] {
            [os, arch] => (os, arch, ""),
            [os, arch, variant] if !variant.is_empty() => (os, arch, variant),
            _ => ("", "", ""),
        };
        if os.is_empty() || architecture.is_empty() {
            return Err(format!("{text:?} is not a platform such as linux/amd64 or linux/arm/v7"));
        }
        Ok(PlatformFilter(Platform {
            os: os.into(),
            architecture: architecture.into(),
            variant: variant.into(),
            os_version: version.into(),
            os_features: Vec::new(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variant_and_version_count_only_where_wanted() {
        let v8 =
            Platform { os: "linux".into(), architecture: "arm64".into(), variant: "v8".into(), ..Platform::default() };
        let wanted = |text: &str| text.parse::<PlatformFilter>().unwrap();
        assert!(wanted("linux/arm64").matches(&v8));
        assert!(wanted("linux/arm64/v8").matches(&v8));
        assert!(!wanted("linux/arm64/v7").matches(&v8));
        assert!(!wanted("linux/amd64").matches(&v8));
        let server = Platform {
            os: "windows".into(),
            architecture: "amd64".into(),
            os_version: "10.0.1".into(),
            ..Platform::default()
        };
        assert!(wanted("windows/amd64").matches(&server));
        assert!(wanted("windows/amd64:10.0.1").matches(&server));
        assert!(!wanted("windows/amd64:10.0.2").matches(&server));
        for bad in ["", "linux", "linux/", "/amd64", "a/b/c/d", "a/b/"] {
            assert!(bad.parse::<PlatformFilter>().is_err(), "{bad}");
        }
    }
}
