//! Whom we trust and who we are over TLS: the system's authorities, and what the `certs.d`
//! directories of containerd and Docker hold for a registry.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

use crate::{
    config::env_path,
    error::{Context, Error, Result},
    log,
};

/// What one registry needs beyond the system's authorities.
#[derive(Default)]
pub struct Material {
    pub insecure: bool,
    authorities: Vec<Certificate<'static>>,
    client: Option<ClientCert>,
}

impl Material {
    /// Reads the first of the `certs.d` directories that has something for `registry`, a host name
    /// with an optional port.
    ///
    /// # Errors
    /// If a file cannot be read, or a certificate has no key.
    pub fn load(registry: &str) -> Result<Material> {
        let places = [
            Some(PathBuf::from("/etc/containerd/certs.d")),
            Some(PathBuf::from("/etc/docker/certs.d")),
            env_path("HOME").map(|home| home.join(".docker/certs.d")),
        ];
        match places.into_iter().flatten().map(|dir| dir.join(registry)).find(|dir| dir.is_dir()) {
            Some(dir) => Material::read(&dir).doing(|| format!("reading the certificates in {dir:?}")),
            None => Ok(Material::default()),
        }
    }

    /// `ca.pem`, `cert.pem` and `key.pem`, or Docker's `*.crt`, `*.cert` and `*.key`.
    fn read(dir: &Path) -> Result<Material> {
        let mut material = Material::default();
        let mut files = Vec::new();
        for entry in fs::read_dir(dir).doing(|| "listing")? {
            files.push(entry.doing(|| "listing")?.path());
        }
        files.sort();
        for path in files {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let key = match name.as_str() {
                "ca.pem" => None,
                "cert.pem" => Some(path.with_file_name("key.pem")),
                _ => match path.extension().and_then(|e| e.to_str()) {
                    Some("crt") => None,
                    Some("cert") => Some(path.with_extension("key")),
                    _ => continue,
                },
            };
            match key {
                None => material.authorities.extend(certificates(&path)?),
                Some(_) if material.client.is_some() => return Err(Error::new("there are two client certificates")),
                Some(key) => {
                    let pem = fs::read(&key).doing(|| format!("{name} needs the key {key:?}"))?;
                    let key = PrivateKey::from_pem(&pem).map_err(|e| Error::new(e).doing(format!("{key:?}")))?;
                    material.client = Some(ClientCert::new_with_certs(&certificates(&path)?, key));
                }
            }
        }
        Ok(material)
    }

    /// For an agent.
    pub fn config(&self) -> TlsConfig {
        let roots = match self.authorities.is_empty() {
            true => system(),
            false => RootCerts::from(match system() {
                RootCerts::Specific(roots) => roots.iter().cloned().chain(self.authorities.clone()).collect::<Vec<_>>(),
                _ => self.authorities.clone(),
            }),
        };
        let config = TlsConfig::builder().root_certs(roots).client_cert(self.client.clone());
        config.disable_verification(self.insecure).build()
    }
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>> {
    let pem = fs::read(path).doing(|| format!("{path:?}"))?;
    let mut found = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|e| Error::new(e).doing(format!("{path:?}")))? {
            found.push(certificate);
        }
    }
    match found.is_empty() {
        true => Err(Error::new("it holds no certificate in PEM").doing(format!("{path:?}"))),
        false => Ok(found),
    }
}

/// The system's certificates, or those in `SSL_CERT_FILE` and `SSL_CERT_DIR`.
fn system() -> RootCerts {
    static ROOTS: OnceLock<RootCerts> = OnceLock::new();
    ROOTS
        .get_or_init(|| {
            let found = rustls_native_certs::load_native_certs();
            for error in &found.errors {
                log::warn(format_args!("reading the system's certificates: {error}"));
            }
            found.certs.iter().map(|c| Certificate::from_der(c.as_ref()).to_owned()).collect::<Vec<_>>().into()
        })
        .clone()
}
