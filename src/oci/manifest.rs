//! Manifests: what they refer to, and in which order.

use serde::{Deserialize, Serialize, de::IgnoredAny};

use super::{
    Annotations, Descriptor, Digest, annotation,
    json::{few_entries, or_default},
    media,
};

/// An image manifest or an index, OCI's or Docker's. What we do not need is not kept: manifests
/// travel as their exact bytes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Manifest {
    /// What it says of itself; empty if nothing.
    #[serde(deserialize_with = "or_default")]
    pub media_type: String,
    /// What it is of, if that is no image.
    #[serde(deserialize_with = "or_default")]
    pub artifact_type: String,
    /// What it refers to from outside: a referrer has one.
    pub subject: Option<Descriptor>,
    /// The configuration of an image.
    pub config: Option<Descriptor>,
    /// The layers of an image, or the content of an artifact.
    #[serde(deserialize_with = "or_default")]
    pub layers: Vec<Descriptor>,
    /// The content of an artifact manifest, as they were in 2022 and 2023 (see [`media::is_artifact`]).
    #[serde(deserialize_with = "or_default")]
    pub blobs: Vec<Descriptor>,
    /// What an index lists.
    #[serde(deserialize_with = "or_default")]
    pub manifests: Vec<Descriptor>,
    /// What else is said of it.
    #[serde(deserialize_with = "few_entries")]
    pub annotations: Annotations,
}

impl Manifest {
    /// Reads a manifest of the given media type. A body that says it is of another type is refused.
    ///
    /// # Errors
    /// If it is no manifest, or one of another type or of Docker's schema 1.
    pub fn parse(media_type: &str, bytes: &[u8]) -> Result<Manifest, String> {
        if media::is_schema1(media_type) {
            return Err(
                "it is a Docker schema 1 manifest, which states no sizes; pull and push it again with a current tool"
                    .into(),
            );
        }
        let manifest: Manifest = serde_json::from_slice(bytes).map_err(|e| format!("it is not a manifest: {e}"))?;
        if !manifest.media_type.is_empty() && manifest.media_type != media_type {
            return Err(format!("it says it is {}, but was announced as {media_type}", manifest.media_type));
        }
        Ok(manifest)
    }

    /// Descriptors in the order of the archive: `subject`, `config`, `layers`; of an artifact manifest `subject`,
    /// `blobs`; of an index `subject`, `manifests`, then those in the extra-manifests annotation.
    ///
    /// # Errors
    /// If the annotation with extra manifests is malformed.
    pub fn successors(mut self) -> Result<Vec<Descriptor>, String> {
        let extra = self.extra_manifests()?;
        let mut all = Vec::with_capacity(2 + self.layers.len() + self.manifests.len() + extra.len());
        all.extend(self.subject.take());
        all.extend(self.config.take());
        all.append(&mut self.layers);
        all.append(&mut self.blobs);
        all.append(&mut self.manifests);
        all.extend(extra);
        Ok(all)
    }

    /// The media type of a manifest by its own words, or else by what is in it. `None`: it shows no type, or is no
    /// JSON object.
    pub fn own_media_type(bytes: &[u8]) -> Option<String> {
        let Shape { media_type, schema_version, config, layers, manifests, fs_layers } =
            serde_json::from_slice(bytes).ok()?;
        if !media_type.is_empty() {
            return Some(media_type);
        }
        let own = match config {
            _ if schema_version == Some(1) || fs_layers.is_some() => media::SCHEMA1,
            _ if manifests.is_some() => media::INDEX,
            Some(config) if config.media_type == media::DOCKER_CONFIG => media::DOCKER_MANIFEST,
            Some(_) => media::MANIFEST,
            None if layers.is_some() => media::MANIFEST,
            None => return None,
        };
        Some(own.into())
    }

    /// The digest of the subject of a document, if it has one.
    pub fn subject_of(bytes: &[u8]) -> Option<Digest> {
        let OnlySubject { subject } = serde_json::from_slice(bytes).ok()?;
        subject.map(|subject| subject.digest)
    }

    /// What a gather index says that `--sparse-index` left out: each index that it lists, with each such manifest. An
    /// annotation that is malformed says nothing.
    pub fn left_out(&self) -> Vec<(Digest, Digest)> {
        if self.artifact_type != media::GATHER {
            return Vec::new();
        }
        let of = |index: &Descriptor| {
            let text = index.annotations.get(annotation::LEFT_OUT)?;
            let digests: Vec<Digest> = serde_json::from_str(text).ok()?;
            let index = index.digest.clone();
            Some(digests.into_iter().map(move |digest| (index.clone(), digest)))
        };
        let extra = self.extra_manifests().unwrap_or_default();
        self.manifests.iter().chain(&extra).filter_map(of).flatten().collect()
    }

    /// Its descriptor as its subject's referrers list it (distribution specification, "Listing Referrers").
    pub fn as_referrer(self, descriptor: &Descriptor) -> Descriptor {
        let mut referrer = Descriptor::new(descriptor.media_type.clone(), descriptor.digest.clone(), descriptor.size);
        referrer.artifact_type = match self.artifact_type {
            own if !own.is_empty() => own,
            _ => self.config.map(|config| config.media_type).unwrap_or_default(),
        };
        referrer.annotations = self.annotations;
        referrer
    }

    /// The indexes that `--index-fallback` moved out of `manifests`.
    ///
    /// # Errors
    /// If the annotation is malformed.
    pub fn extra_manifests(&self) -> Result<Vec<Descriptor>, String> {
        match self.annotations.get(annotation::EXTRA_MANIFESTS) {
            Some(json) => serde_json::from_str(json)
                .map_err(|e| format!("its annotation {} is malformed: {e}", annotation::EXTRA_MANIFESTS)),
            None => Ok(Vec::new()),
        }
    }
}

/// A document, as far as it says what it refers to from outside.
#[derive(Deserialize)]
struct OnlySubject {
    #[serde(default)]
    subject: Option<Descriptor>,
}

/// What shows the type of a manifest that states none.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Shape {
    #[serde(deserialize_with = "or_default")]
    media_type: String,
    schema_version: Option<u64>,
    config: Option<Descriptor>,
    layers: Option<IgnoredAny>,
    manifests: Option<IgnoredAny>,
    fs_layers: Option<IgnoredAny>,
}

/// An index of ours, as Go's structs order it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// That of an index.
    pub media_type: &'static str,
    /// Empty for an ordinary index.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub artifact_type: &'static str,
    /// What it lists.
    pub manifests: Vec<Descriptor>,
    /// What else is said of it.
    #[serde(skip_serializing_if = "Annotations::is_empty")]
    pub annotations: Annotations,
}

impl Index {
    /// An index of schema version 2.
    pub fn new(artifact_type: &'static str, manifests: Vec<Descriptor>, annotations: Annotations) -> Index {
        Index { schema_version: 2, media_type: media::INDEX, artifact_type, manifests, annotations }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_of_successors_and_nulls() {
        let d = |c: char| format!(r#"{{"mediaType":"m","digest":"sha256:{}","size":1}}"#, c.to_string().repeat(64));
        let text = format!(
            r#"{{"layers":[{},{}],"config":{},"subject":{},"annotations":null}}"#,
            d('a'),
            d('b'),
            d('c'),
            d('d')
        );
        let order: String = Manifest::parse(media::MANIFEST, text.as_bytes())
            .unwrap()
            .successors()
            .unwrap()
            .iter()
            .map(|d| d.digest.hex().remove(0))
            .collect();
        assert_eq!(order, "dcab");
        assert!(Manifest::parse(media::INDEX, br#"{"manifests":null}"#).unwrap().successors().unwrap().is_empty());
    }

    #[test]
    fn types_that_nobody_states() {
        let own = |text: &str| Manifest::own_media_type(text.as_bytes());
        let config = |kind: &str| {
            let digest = format!("sha256:{}", "a".repeat(64));
            format!(
                r#"{{"mediaType":null,"config":{{"mediaType":"{kind}","digest":"{digest}","size":1}},"layers":[]}}"#
            )
        };
        assert_eq!(own(r#"{"manifests":[]}"#).as_deref(), Some(media::INDEX));
        assert_eq!(own(&config(media::CONFIG)).as_deref(), Some(media::MANIFEST));
        assert_eq!(own(&config(media::DOCKER_CONFIG)).as_deref(), Some(media::DOCKER_MANIFEST));
        assert_eq!(own(r#"{"schemaVersion":1,"fsLayers":[]}"#).as_deref(), Some(media::SCHEMA1));
        assert_eq!(own(r#"{"mediaType":"text/plain"}"#).as_deref(), Some("text/plain"));
        for none in ["{}", "[]", "<html>", ""] {
            assert_eq!(own(none), None, "{none}");
        }
    }

    #[test]
    fn refusals_say_why() {
        let schema1 = "application/vnd.docker.distribution.manifest.v1+prettyjws";
        assert!(Manifest::parse(schema1, b"{}").unwrap_err().contains("schema 1"));
        let other = format!(r#"{{"mediaType":"{}"}}"#, media::INDEX);
        assert!(Manifest::parse(media::MANIFEST, other.as_bytes()).unwrap_err().contains("announced"));
        assert!(Manifest::parse(media::MANIFEST, b"[").is_err());
    }
}
