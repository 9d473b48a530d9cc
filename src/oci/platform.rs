//! Platforms (`os/arch[/variant]`) and which of them are wanted.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::json::{few_items, or_default};

/// A platform of an index entry or an image configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// As Go names it: `amd64`.
    #[serde(default, deserialize_with = "or_default")]
    pub architecture: String,
    /// As Go names it: `linux`.
    #[serde(default, deserialize_with = "or_default")]
    pub os: String,
    /// For Windows.
    #[serde(rename = "os.version", default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    /// For Windows.
    #[serde(rename = "os.features", default, deserialize_with = "few_items", skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    /// Of the architecture: `v7`.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
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

impl Platform {
    /// Whether it says anything.
    pub fn is_named(&self) -> bool {
        !self.os.is_empty() || !self.architecture.is_empty()
    }

    /// Operating system, architecture and variant as they are written by default: other names that uname(1) and Debian
    /// have for an architecture are the same, and so is the variant that an architecture has if none is named (as
    /// containerd normalizes them).
    fn canonical(&self) -> (String, String, String) {
        let (os, variant) = (self.os.to_ascii_lowercase(), self.variant.to_ascii_lowercase());
        let os = if os == "macos" { "darwin".into() } else { os };
        let architecture = self.architecture.to_ascii_lowercase();
        let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
            ("i386" | "i486" | "i586" | "i686" | "x86", _) => ("386", ""),
            ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
            ("x86_64" | "x86-64", variant) => ("amd64", variant),
            ("aarch64" | "arm64", "8" | "v8") => ("arm64", ""),
            ("aarch64", variant) => ("arm64", variant),
            ("armhf", _) | ("arm", "" | "7") => ("arm", "v7"),
            ("armel", _) | ("arm", "6") => ("arm", "v6"),
            ("arm", "5") => ("arm", "v5"),
            ("arm", "8") => ("arm", "v8"),
            (architecture, variant) => (architecture, variant),
        };
        (os, architecture.into(), variant.into())
    }
}

/// A platform asked for: `os/arch`, `os/arch/variant`, optionally `:osversion`. Variant and
/// version are compared only where they are given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformFilter(Platform);

impl PlatformFilter {
    /// Whether a platform is what is asked for.
    pub fn matches(&self, platform: &Platform) -> bool {
        let (wanted, is) = (self.0.canonical(), platform.canonical());
        let named = !self.0.variant.is_empty() || matches!(self.0.architecture.as_str(), "armhf" | "armel");
        (&wanted.0, &wanted.1) == (&is.0, &is.1)
            && (!named || wanted.2 == is.2)
            && (self.0.os_version.is_empty() || self.0.os_version == platform.os_version)
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
        let of = |architecture: &str, variant: &str| Platform {
            os: "linux".into(),
            architecture: architecture.into(),
            variant: variant.into(),
            ..Platform::default()
        };
        for (text, is) in [
            ("linux/arm64/v8", of("arm64", "")),
            ("linux/aarch64", of("arm64", "v8")),
            ("linux/arm/v7", of("arm", "")),
            ("linux/arm", of("arm", "v6")),
            ("linux/armhf", of("arm", "v7")),
            ("linux/amd64/v1", of("amd64", "")),
            ("Linux/x86_64", of("amd64", "")),
            ("linux/i686", of("386", "")),
        ] {
            assert!(wanted(text).matches(&is), "{text} {is}");
        }
        for (text, is) in [
            ("linux/arm64/v8", of("arm64", "v9")),
            ("linux/arm/v6", of("arm", "")),
            ("linux/armhf", of("arm", "v6")),
            ("linux/amd64/v3", of("amd64", "")),
        ] {
            assert!(!wanted(text).matches(&is), "{text} {is}");
        }
        for bad in ["", "linux", "linux/", "/amd64", "a/b/c/d", "a/b/"] {
            assert!(bad.parse::<PlatformFilter>().is_err(), "{bad}");
        }
    }
}
