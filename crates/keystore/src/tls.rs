//! Certificates of TLS and CMS: a private authority, certificates that it signs, and what is in those that are there.
//!
//! One certificate serves both: it is X.509 version 3 (webpki refuses version 1), and its extended key usage has
//! `serverAuth`, `clientAuth` and `emailProtection` (OpenSSL refuses a CMS signer that lacks the last).

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    RsaKeySize,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::extensions::GeneralName;

use crate::files::{self, Access};
use crate::{Fingerprint, KeyName, KeystoreError};

/// A certificate of TLS or CMS in a file
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PemCertificate {
    /// Its file
    pub path: PathBuf,
    /// The file's name without its ending
    pub name: String,
    /// The subject, as `CN=hub, O=example`
    pub subject: String,
    /// The subject's common name
    pub common_name: Option<String>,
    /// DNS names and IP addresses that it is for
    pub names: Vec<String>,
    /// Whether it may sign others
    pub is_authority: bool,
    /// From when it is good
    pub not_before: SystemTime,
    /// To when
    pub not_after: SystemTime,
    /// The SHA-256 of its DER form
    pub fingerprint: Fingerprint,
    /// Whether it is ours, and its secret key lies beside it
    pub has_key: bool,
}

impl PemCertificate {
    /// Reads the first certificate of a PEM file, which is the holder's own where a chain follows
    ///
    /// # Errors
    /// Files that can't be read or are no certificate.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, KeystoreError> {
        let path = path.as_ref();
        Self::parse(path, files::read(path, Access::Public)?.as_bytes())
    }

    /// Reads a certificate of our own; if a key file lies beside it, its permissions are checked, and that it belongs to
    /// the certificate
    ///
    /// # Errors
    /// As [`PemCertificate::load`], and a key that others may read, or of another certificate.
    pub(crate) fn load_own(path: &Path) -> Result<Self, KeystoreError> {
        let text = files::read(path, Access::Public)?;
        let mut certificate = Self::parse(path, text.as_bytes())?;
        let key_path = path.with_extension("key");
        if files::exists(&key_path) {
            certificate.has_key = true;
            let key = files::read(&key_path, Access::Secret)?;
            // Kinds of keys that rcgen does not know are left for TLS to judge
            if let Ok(key) = KeyPair::from_pem(&key)
                && !belongs(&key, text.as_bytes())
            {
                let why = format!("does not belong to the certificate {}", path.display());
                return Err(KeystoreError::Pem { path: key_path, why });
            }
        }
        Ok(certificate)
    }

    fn parse(path: &Path, pem: &[u8]) -> Result<Self, KeystoreError> {
        let wrong = |why: String| KeystoreError::Pem { path: path.to_owned(), why };
        let der = first_certificate(pem).map_err(wrong)?;
        let (_, x509) = x509_parser::parse_x509_certificate(&der)
            .map_err(|error| wrong(format!("its certificate can't be read: {error}")))?;
        let text = |text: &str| text.escape_debug().to_string();
        let common_name = x509.subject().iter_common_name().next().and_then(|name| name.as_str().ok()).map(text);
        let names = match x509.subject_alternative_name() {
            Ok(Some(names)) => names.value.general_names.iter().filter_map(name_text).map(|name| text(&name)).collect(),
            _ => Vec::new(),
        };
        Ok(Self {
            path: path.to_owned(),
            name: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            subject: text(&x509.subject().to_string()),
            common_name,
            names,
            is_authority: x509.is_ca(),
            not_before: instant(x509.validity().not_before.timestamp()),
            not_after: instant(x509.validity().not_after.timestamp()),
            fingerprint: Fingerprint::of(&der),
            has_key: false,
        })
    }
}

/// The kind of key that a certificate is made for
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum TlsAlgorithm {
    /// ECDSA on the curve P-256: fast, for TLS
    #[default]
    EcdsaP256,
    /// RSA with 3072 bits: slower, for CMS too, where old peers encrypt to nothing else
    Rsa3072,
}

/// What a certificate is to say
#[derive(Clone, Debug)]
pub struct TlsRequest {
    /// The common name, and the name of the files
    pub name: KeyName,
    /// DNS names and IP addresses that clients will dial
    pub hosts: Vec<String>,
    /// For how long
    pub valid: Duration,
    /// The kind of key
    pub algorithm: TlsAlgorithm,
}

/// Makes `ca.crt` and `ca.key` in a folder
///
/// # Errors
/// Those of writing; an authority that is there already is not overwritten.
pub(crate) fn make_authority(folder: &Path, name: &str, valid: Duration) -> Result<(), KeystoreError> {
    let path = folder.join(AUTHORITY);
    if files::exists(&path) {
        let remedy = format!("{} signs certificates as it is", path.display());
        return Err(KeystoreError::Exists { kind: "authority", name: "ca".to_owned(), remedy });
    }
    let mut params = dated(Vec::new(), name, valid)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = make_key(TlsAlgorithm::EcdsaP256)?;
    let certificate = params.self_signed(&key).map_err(making)?;
    write_pair(&path, &certificate.pem(), &key)
}

/// Makes `NAME.crt` and `NAME.key` in the folder `to`, signed by the authority in the folder `authority`
///
/// # Errors
/// Those of reading and writing; a certificate that is there already is not overwritten.
pub(crate) fn issue(authority: &Path, to: &Path, request: &TlsRequest) -> Result<PemCertificate, KeystoreError> {
    let path = to.join(format!("{}.crt", request.name));
    if files::exists(&path) {
        let remedy = "take another name, or move it away".to_owned();
        return Err(KeystoreError::Exists { kind: "certificate", name: request.name.to_string(), remedy });
    }
    let issuer_path = authority.join(AUTHORITY);
    let issuer_text = files::read(&issuer_path, Access::Public)?;
    let key_text = files::read(&issuer_path.with_extension("key"), Access::Secret)?;
    let key = KeyPair::from_pem(&key_text).map_err(|error| KeystoreError::Pem {
        path: issuer_path.with_extension("key"),
        why: format!("its key can't be read: {error}"),
    })?;
    let issuer = Issuer::from_ca_cert_pem(&issuer_text, key)
        .map_err(|error| KeystoreError::Pem { path: issuer_path, why: format!("can't sign: {error}") })?;
    let mut params = dated(request.hosts.clone(), request.name.as_str(), request.valid)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.key_usages.push(match request.algorithm {
        TlsAlgorithm::EcdsaP256 => KeyUsagePurpose::KeyAgreement,
        TlsAlgorithm::Rsa3072 => KeyUsagePurpose::KeyEncipherment,
    });
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
        ExtendedKeyUsagePurpose::EmailProtection,
    ];
    let key = make_key(request.algorithm)?;
    let certificate = params.signed_by(&key, &issuer).map_err(making)?;
    write_pair(&path, &certificate.pem(), &key)?;
    PemCertificate::load_own(&path)
}

/// Good from five minutes ago, so that a peer whose clock is a little behind takes it
fn dated(hosts: Vec<String>, common_name: &str, valid: Duration) -> Result<CertificateParams, KeystoreError> {
    let mut params = CertificateParams::new(hosts).map_err(making)?;
    let now = SystemTime::now();
    let end = now.checked_add(valid.min(LONGEST)).unwrap_or(now);
    params.not_before = (now - Duration::from_secs(300)).into();
    params.not_after = end.into();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    Ok(params)
}

fn make_key(algorithm: TlsAlgorithm) -> Result<KeyPair, KeystoreError> {
    let key = match algorithm {
        TlsAlgorithm::EcdsaP256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
        TlsAlgorithm::Rsa3072 => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_3072),
    };
    key.map_err(making)
}

/// The key first: a certificate without its key would be taken for someone else's
fn write_pair(path: &Path, certificate: &str, key: &KeyPair) -> Result<(), KeystoreError> {
    let text = zeroize::Zeroizing::new(key.serialize_pem());
    files::write(&path.with_extension("key"), &text, Access::Secret)?;
    files::write(path, certificate, Access::Public)
}

fn making(error: rcgen::Error) -> KeystoreError {
    KeystoreError::Making(error.to_string())
}

fn belongs(key: &KeyPair, pem: &[u8]) -> bool {
    let Ok(der) = first_certificate(pem) else { return false };
    let Ok((_, x509)) = x509_parser::parse_x509_certificate(&der) else { return false };
    x509.public_key().subject_public_key.data.as_ref() == key.public_key_raw()
}

fn first_certificate(pem: &[u8]) -> Result<CertificateDer<'static>, String> {
    CertificateDer::from_pem_slice(pem).map_err(|_| "holds no PEM certificate (-----BEGIN CERTIFICATE-----)".to_owned())
}

fn name_text(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(octets) => match **octets {
            [a, b, c, d] => Some(IpAddr::from([a, b, c, d]).to_string()),
            _ => <[u8; 16]>::try_from(*octets).ok().map(|octets| IpAddr::from(octets).to_string()),
        },
        _ => None,
    }
}

fn instant(seconds: i64) -> SystemTime {
    let span = Duration::from_secs(seconds.unsigned_abs());
    let instant =
        if seconds < 0 { SystemTime::UNIX_EPOCH.checked_sub(span) } else { SystemTime::UNIX_EPOCH.checked_add(span) };
    instant.unwrap_or(SystemTime::UNIX_EPOCH)
}

/// The authority's certificate
pub(crate) const AUTHORITY: &str = "ca.crt";

/// A hundred years: the dates of X.509 end with the year 9999
const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::date::DAY;

    fn request(name: &str, algorithm: TlsAlgorithm) -> TlsRequest {
        let hosts = vec!["hub.example.org".to_owned(), "192.0.2.7".to_owned(), "::1".to_owned()];
        TlsRequest { name: name.parse().unwrap(), hosts, valid: 30 * DAY, algorithm }
    }

    #[test]
    fn an_authority_signs_certificates_for_tls_and_cms() {
        let folder = tempfile::tempdir().unwrap();
        make_authority(folder.path(), "test authority", 365 * DAY).unwrap();
        assert!(matches!(make_authority(folder.path(), "again", DAY), Err(KeystoreError::Exists { .. })));
        let hub = issue(folder.path(), folder.path(), &request("hub", TlsAlgorithm::EcdsaP256)).unwrap();
        assert_eq!(hub.common_name.as_deref(), Some("hub"));
        assert_eq!(hub.names, ["hub.example.org", "192.0.2.7", "::1"]);
        assert!(hub.has_key && !hub.is_authority);
        let left = hub.not_after.duration_since(SystemTime::now()).unwrap();
        assert!(left > 29 * DAY && left <= 30 * DAY, "{left:?}");
        assert!(issue(folder.path(), folder.path(), &request("hub", TlsAlgorithm::EcdsaP256)).is_err());

        let pem = fs::read(&hub.path).unwrap();
        let der = first_certificate(&pem).unwrap();
        let (_, x509) = x509_parser::parse_x509_certificate(&der).unwrap();
        assert_eq!(x509.version().0, 2, "version 3 is written as 2");
        let usage = x509.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.server_auth && usage.client_auth && usage.email_protection && !usage.any);
        let authority = PemCertificate::load(folder.path().join(AUTHORITY)).unwrap();
        assert!(authority.is_authority && authority.subject.contains("test authority"));
    }

    #[test]
    fn keys_are_checked() {
        let folder = tempfile::tempdir().unwrap();
        make_authority(folder.path(), "test authority", DAY).unwrap();
        let hub = issue(folder.path(), folder.path(), &request("hub", TlsAlgorithm::EcdsaP256)).unwrap();
        let key = hub.path.with_extension("key");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(PemCertificate::load_own(&hub.path).unwrap_err().to_string().contains("chmod 600"));
        let other = fs::read(folder.path().join("ca.key")).unwrap();
        fs::write(&key, other).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(PemCertificate::load_own(&hub.path).unwrap_err().to_string().contains("does not belong"));
        fs::write(&hub.path, "no certificate").unwrap();
        assert!(PemCertificate::load_own(&hub.path).unwrap_err().to_string().contains("no PEM certificate"));
    }
}
