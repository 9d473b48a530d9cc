//! Media types, and which of them are manifests.

/// An OCI image index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// An OCI image manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The configuration of an OCI image.
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Docker's manifest list.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker's image manifest, schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// The configuration of Docker's image.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// An artifact manifest as drafts of OCI's image specification 1.1 had it, which zot and notation kept.
pub const ARTIFACT: &str = "application/vnd.oci.artifact.manifest.v1+json";
/// An artifact manifest of ORAS, which ACR and MAR kept.
pub const ORAS_ARTIFACT: &str = "application/vnd.cncf.oras.artifact.manifest.v1+json";
/// Docker's image manifest, schema 1, signed.
pub const SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";
/// The artifact type of a gather index.
pub const GATHER: &str = "application/vnd.act3-ace.data.gather+json";

/// What a registry is asked for, the preferred first.
pub const ACCEPT: &str = concat!(
    "application/vnd.oci.image.index.v1+json, ",
    "application/vnd.oci.image.manifest.v1+json, ",
    "application/vnd.docker.distribution.manifest.list.v2+json, ",
    "application/vnd.docker.distribution.manifest.v2+json, ",
    "application/vnd.oci.artifact.manifest.v1+json, ",
    "application/vnd.cncf.oras.artifact.manifest.v1+json"
);

/// An image index or Docker's manifest list.
pub fn is_index(media_type: &str) -> bool {
    matches!(media_type, INDEX | DOCKER_LIST)
}

/// An artifact manifest of before the image specification 1.1: a subject and blobs.
pub fn is_artifact(media_type: &str) -> bool {
    matches!(media_type, ARTIFACT | ORAS_ARTIFACT)
}

/// Anything with successors: an index, an image manifest or an artifact manifest. Docker's schema 1 is among them only
/// so that it can be refused by name (see [`is_schema1`]).
pub fn is_manifest(media_type: &str) -> bool {
    is_index(media_type)
        || matches!(media_type, MANIFEST | DOCKER_MANIFEST)
        || is_artifact(media_type)
        || is_schema1(media_type)
}

/// Docker's schema 1, which states no sizes and cannot be planned.
pub fn is_schema1(media_type: &str) -> bool {
    media_type.starts_with("application/vnd.docker.distribution.manifest.v1+")
}

/// The configuration of a runnable image, as opposed to an artifact's.
pub fn is_image_config(media_type: &str) -> bool {
    matches!(media_type, CONFIG | DOCKER_CONFIG)
}
