//! Whom we trust and who we are over TLS: the system's authorities, and what the `certs.d`
//! directories of containerd and Docker hold for a registry. A certificate that is refused is
//! refused in words: whose it is, for which names, by whom it is signed, and where an authority
//! would be put.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::{Duration, UNIX_EPOCH},
};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{self, CryptoProvider},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use webpki::EndEntityCert;

use crate::{
    config::env_path,
    error::{Context, Error, Result},
    log,
};

/// What one registry needs beyond the system's authorities.
#[derive(Clone, Debug, Default)]
pub struct Material {
    /// Where authorities are put, for errors.
    place: String,
    /// Take any certificate.
    pub insecure: bool,
    authorities: Vec<CertificateDer<'static>>,
    client: Option<Identity>,
}

/// The certificate chain of a client or server, and its key.
pub struct Identity {
    /// Its own certificate first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The private key.
    pub key: PrivateKeyDer<'static>,
}

impl Clone for Identity {
    fn clone(&self) -> Identity {
        Identity { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({} certificates)", self.chain.len())
    }
}

impl Material {
    /// Reads the first of the `certs.d` directories that has something for `registry`, a host name
    /// with an optional port.
    ///
    /// # Errors
    /// If a file cannot be read, a certificate has no key, or a key is another certificate's.
    pub fn load(registry: &str) -> Result<Material> {
        let places = [
            Some(PathBuf::from("/etc/containerd/certs.d")),
            Some(PathBuf::from("/etc/docker/certs.d")),
            env_path("HOME").map(|home| home.join(".docker/certs.d")),
        ];
        let places = places.into_iter().flatten().map(|dir| dir.join(registry));
        for dir in places.clone().filter(|dir| dir.is_dir()) {
            let mut material = Material::read(&dir).doing(|| format!("reading the certificates in {dir:?}"))?;
            if material.is_configured() {
                log::debug(format_args!("{registry}: certificates from {}", dir.display()));
                material.place = dir.join("ca.pem").display().to_string();
                return Ok(material);
            }
        }
        let all = places.map(|dir| dir.join("ca.pem").display().to_string()).collect::<Vec<_>>();
        Ok(Material { place: all.join(" or "), ..Material::default() })
    }

    /// What is for other servers than the registry, if that is not all.
    pub fn elsewhere(&self) -> Option<Material> {
        let all = !self.insecure && self.client.is_none();
        (!all).then(|| Material { place: String::new(), authorities: self.authorities.clone(), ..Material::default() })
    }

    /// Whether there is anything for the registry.
    pub fn is_configured(&self) -> bool {
        !self.authorities.is_empty() || self.client.is_some()
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
                Some(key) => material.client = Some(identity(&path, &key)?),
            }
        }
        Ok(material)
    }

    /// For connections.
    ///
    /// # Errors
    /// If an authority is malformed.
    pub fn config(&self) -> Result<ClientConfig> {
        let provider = Arc::new(crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(Error::new)?;
        let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(self.verifier(&provider)?));
        match &self.client {
            Some(client) => {
                builder.with_client_auth_cert(client.chain.clone(), client.key.clone_key()).map_err(Error::new)
            }
            None => Ok(builder.with_no_client_auth()),
        }
    }

    fn verifier(&self, provider: &Arc<CryptoProvider>) -> Result<CertificateVerifier> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(system().iter().cloned());
        for authority in &self.authorities {
            roots
                .add(authority.clone())
                .map_err(Error::new)
                .doing(|| format!("reading the certificate authority in {}", self.place))?;
        }
        let chains = match roots.is_empty() || self.insecure {
            true => None,
            false => Some(
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                    .build()
                    .map_err(Error::new)?,
            ),
        };
        Ok(CertificateVerifier {
            place: self.place.clone(),
            insecure: self.insecure,
            chains,
            pinned: self.authorities.clone(),
            provider: provider.clone(),
        })
    }
}

/// Reads a certificate chain and its key, both in PEM.
///
/// # Errors
/// If a file cannot be read or holds no such thing, or the key is not that of the certificate.
pub fn identity(path: &Path, key: &Path) -> Result<Identity> {
    let chain = certificates(path)?;
    let pem = fs::read(key).doing(|| format!("{path:?} needs the key {key:?}"))?;
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
        let why = "it holds no private key in PEM, or one that is encrypted";
        Error::new(why).doing(format!("{key:?}"))
    })?;
    let provider = crypto::ring::default_provider();
    rustls::sign::CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider).map_err(|e| {
        let why = match &e {
            rustls::Error::InconsistentKeys(_) => "the key is not that of the certificate".into(),
            rustls::Error::InvalidCertificate(why) => in_words(why),
            other => other.to_string(),
        };
        Error::new(why).doing(format!("{path:?} with its key"))
    })?;
    Ok(Identity { chain, key })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let pem = fs::read(path).doing(|| format!("{path:?}"))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let found = found.map_err(|e| Error::new(e).doing(format!("{path:?}")))?;
    match found.is_empty() {
        true => Err(Error::new("it holds no certificate in PEM").doing(format!("{path:?}"))),
        false => Ok(found),
    }
}

/// The system's certificates, or those in `SSL_CERT_FILE` and `SSL_CERT_DIR`.
fn system() -> &'static [CertificateDer<'static>] {
    static ROOTS: OnceLock<Vec<CertificateDer<'static>>> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            log::warn(format_args!("reading the system's certificates: {error}"));
        }
        found.certs
    })
}

/// Decides on a server's certificate.
#[derive(Debug)]
struct CertificateVerifier {
    place: String,
    insecure: bool,
    /// Follows chains to an authority; `None` if there is no authority.
    chains: Option<Arc<WebPkiServerVerifier>>,
    /// An authority that a server presents as its own certificate is trusted: so do those set up
    /// their registries who sign one certificate by itself.
    pinned: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for CertificateVerifier {
    fn verify_server_cert(
        &self,
        presented: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.insecure {
            return Ok(ServerCertVerified::assertion());
        }
        let outcome = match &self.chains {
            Some(chains) => chains.verify_server_cert(presented, intermediates, name, ocsp, now),
            None => Err(CertificateError::UnknownIssuer.into()),
        };
        let Err(why) = outcome else { return outcome };
        let rustls::Error::InvalidCertificate(why) = why else { return Err(why) };
        // Its dates were looked at before these two are said.
        let only_unsigned = is_unsigned(&why);
        let certificate = EndEntityCert::try_from(presented).ok();
        if let Some(certificate) = certificate.as_ref().filter(|_| only_unsigned && self.pinned.contains(presented)) {
            match certificate.verify_is_valid_for_subject_name(name) {
                Ok(()) => return Ok(ServerCertVerified::assertion()),
                Err(_) => return Err(self.refuse(Some(certificate), name, &CertificateError::NotValidForName)),
            }
        }
        Err(self.refuse(certificate.as_ref(), name, &why))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl CertificateVerifier {
    fn refuse(
        &self,
        certificate: Option<&EndEntityCert<'_>>,
        name: &ServerName<'_>,
        why: &CertificateError,
    ) -> rustls::Error {
        let own = certificate.is_some_and(|c| c.issuer() == c.subject());
        let issuer = certificate.and_then(|c| common_name(c.issuer())).map(|name| format!("{name:?}"));
        let signer = match issuer {
            _ if own => "itself".into(),
            Some(name) => name,
            None => "an authority without a name".into(),
        };
        let ends = |at: &UnixTime| httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(at.as_secs()));
        let clock = || Some("if that is not so, look at this machine's clock".to_string());
        let (reason, hint) = match why {
            why if is_unsigned(why) => (
                format!("it is signed by {signer}, which is not trusted"),
                Some(match self.place.as_str() {
                    "" => "put the certificate of who signed it among the system's".into(),
                    place => format!("put the certificate of who signed it into {place}, or among the system's"),
                }),
            ),
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                let presented = match why {
                    CertificateError::NotValidForNameContext { presented, .. } => presented.clone(),
                    _ => certificate.map(|c| c.valid_dns_names().map(String::from).collect()).unwrap_or_default(),
                };
                // `DnsName("a")` and `IpAddress(1.2.3.4)`, as rustls writes them.
                let bare = |name: &String| {
                    let inner = name.split_once('(').map_or(name.as_str(), |(_, inner)| inner.trim_end_matches(')'));
                    inner.trim_matches('"').to_string()
                };
                let presented = presented.iter().map(bare).collect::<Vec<_>>().join(", ");
                let presented = if presented.is_empty() { "no name at all".into() } else { presented };
                (format!("it is not for that name, but for {presented}"), None)
            }
            CertificateError::ExpiredContext { not_after, .. } => {
                (format!("it was valid until {}", ends(not_after)), clock())
            }
            CertificateError::NotValidYetContext { not_before, .. } => {
                (format!("it is valid from {} on", ends(not_before)), clock())
            }
            CertificateError::Expired => ("it has run out".into(), clock()),
            other => (in_words(other), None),
        };
        let hint = hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
        let text = format!("the certificate of {} is refused: {reason}{hint}", name.to_str());
        rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Refused(text)))))
    }
}

/// Whether all that is wrong with a certificate is that nobody we trust signed it.
fn is_unsigned(why: &CertificateError) -> bool {
    match why {
        CertificateError::UnknownIssuer => true,
        CertificateError::Other(OtherError(other)) => {
            matches!(other.downcast_ref::<webpki::Error>(), Some(webpki::Error::CaUsedAsEndEntity))
        }
        _ => false,
    }
}

/// What is wrong with a certificate itself.
fn in_words(why: &CertificateError) -> String {
    let CertificateError::Other(OtherError(other)) = why else { return why.to_string() };
    match other.downcast_ref::<webpki::Error>() {
        Some(webpki::Error::UnsupportedCertVersion) => "it is of X.509 version 1, and must be of version 3".into(),
        _ => other.to_string(),
    }
}

/// A certificate that was refused, in words.
#[derive(Debug)]
struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

/// Certificates of ours that cannot be used.
#[derive(Clone, Debug)]
pub struct Malformed(pub Error);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Malformed {}

/// A failed handshake in words.
pub fn explain(error: &rustls::Error) -> String {
    use rustls::AlertDescription::*;
    match error {
        rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(refused))) => refused.to_string(),
        rustls::Error::AlertReceived(
            CertificateRequired | BadCertificate | UnknownCA | CertificateUnknown | AccessDenied,
        ) => {
            "the server wants a client certificate that it trusts (cert.pem and key.pem in a certs.d directory)".into()
        }
        rustls::Error::InvalidMessage(_) => "what the server speaks is not TLS".into(),
        other => format!("TLS: {other}"),
    }
}

/// The common name in an X.501 name (RFC 5280, section 4.1.2.4), in DER without the outer header;
/// without one, the organization.
fn common_name(mut name: &[u8]) -> Option<String> {
    const COMMON_NAME: &[u8] = &[0x55, 4, 3];
    const ORGANIZATION: &[u8] = &[0x55, 4, 10];
    let mut organization = None;
    while let Some((set, rest)) = element(name) {
        name = rest;
        let (attribute, _) = element(set)?;
        let (kind, value) = element(attribute)?;
        let value = String::from_utf8_lossy(element(value)?.0).into_owned();
        match kind {
            COMMON_NAME => return Some(value),
            ORGANIZATION => organization = Some(value),
            _ => {}
        }
    }
    organization
}

/// The content of the first DER element (X.690, section 8.1), and what follows it.
fn element(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&length, rest) = der.get(1..)?.split_first()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        0x81 => (usize::from(*rest.first()?), &rest[1..]),
        0x82 => (usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?])), &rest[2..]),
        _ => return None,
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_der() {
        // C=DE, O=Example, CN=Example CA
        let der = b"\x31\x0b\x30\x09\x06\x03\x55\x04\x06\x13\x02DE\x31\x10\x30\x0e\x06\x03\x55\x04\x0a\x0c\x07Example\
            \x31\x13\x30\x11\x06\x03\x55\x04\x03\x0c\x0aExample CA";
        assert_eq!(common_name(der).as_deref(), Some("Example CA"));
        assert_eq!(common_name(&der[..31]).as_deref(), Some("Example"));
        assert_eq!(common_name(&der[..13]), None);
        for end in 0..der.len() {
            let _ = common_name(&der[..end]);
        }
    }
}
