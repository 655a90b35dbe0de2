//! What a certificate says: names, dates, fingerprints.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{ASN1Time, FromDer, GeneralName, X509Certificate, X509Version};

/// What the peer's certificate says of it
///
/// It was verified as the settings ask, so the peer holds its key. The texts are the issuer's, with control characters
/// escaped.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerCertificate {
    /// The whole subject, such as `O=Example, CN=hub`
    pub subject: String,
    /// The subject's common name, the first if there are several
    pub common_name: Option<String>,
    /// The alternative names: DNS names, addresses, URIs and mail addresses
    pub names: Vec<String>,
    /// The SHA-256 of the certificate (DER)
    pub fingerprint: [u8; 32],
    /// The SHA-256 of its SubjectPublicKeyInfo (DER): what is pinned, and stays when a certificate is renewed for the
    /// same key
    pub public_key_sha256: [u8; 32],
    /// When it expires
    pub not_after: SystemTime,
}

impl fmt::Debug for PeerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerCertificate")
            .field("subject", &self.subject)
            .field("names", &self.names)
            .field("fingerprint", &hex(&self.fingerprint))
            .field("public_key_sha256", &hex(&self.public_key_sha256))
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

impl PeerCertificate {
    /// Reads a certificate; the error is a sentence about it
    pub(super) fn read(der: &CertificateDer<'_>) -> Result<Self, String> {
        let parsed = Parsed::read(der)?;
        let certificate = &parsed.certificate;
        let mut common_names = certificate.subject().iter_common_name();
        Ok(Self {
            subject: printable(&certificate.subject().to_string()),
            common_name: common_names.find_map(|name| name.as_str().ok()).map(printable),
            names: parsed.names(),
            fingerprint: sha256(der),
            public_key_sha256: parsed.public_key_sha256(),
            not_after: system_time(certificate.validity().not_after),
        })
    }
}

/// A certificate of version 3, taken apart
pub(super) struct Parsed<'a> {
    certificate: X509Certificate<'a>,
}

impl<'a> Parsed<'a> {
    pub(super) fn read(der: &'a CertificateDer<'_>) -> Result<Self, String> {
        let (rest, certificate) =
            X509Certificate::from_der(der).map_err(|_| "it is not an X.509 certificate; make it anew".to_owned())?;
        if !rest.is_empty() {
            return Err("octets follow the certificate; make it anew".to_owned());
        }
        if certificate.version() != X509Version::V3 {
            return Err("it is of X.509 version 1 and TLS here needs version 3: make it with extensions \
                        (openssl x509 -req -extfile …, with a subjectAltName)"
                .to_owned());
        }
        Ok(Self { certificate })
    }

    pub(super) fn public_key_sha256(&self) -> [u8; 32] {
        sha256(self.certificate.public_key().raw)
    }

    /// From when and until when, in seconds since 1970
    pub(super) fn validity(&self) -> (i64, i64) {
        let validity = self.certificate.validity();
        (validity.not_before.timestamp(), validity.not_after.timestamp())
    }

    fn names(&self) -> Vec<String> {
        let Ok(Some(names)) = self.certificate.subject_alternative_name() else { return Vec::new() };
        let names = names.value.general_names.iter();
        names
            .filter_map(|name| match name {
                GeneralName::DNSName(name) | GeneralName::URI(name) | GeneralName::RFC822Name(name) => {
                    Some(printable(name))
                }
                GeneralName::IPAddress(octets) => address(octets).map(|address| address.to_string()),
                _ => None,
            })
            .collect()
    }
}

/// SHA-256 as `hex` digits in pairs, for people to compare
pub(super) fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn sha256(octets: &[u8]) -> [u8; 32] {
    let mut sum = [0; 32];
    sum.copy_from_slice(digest::digest(&digest::SHA256, octets).as_ref());
    sum
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(octets) {
        return Some(octets.into());
    }
    <[u8; 16]>::try_from(octets).ok().map(IpAddr::from)
}

fn system_time(time: ASN1Time) -> SystemTime {
    let since = Duration::from_secs(time.timestamp().unsigned_abs());
    let time = match time.timestamp() < 0 {
        true => SystemTime::UNIX_EPOCH.checked_sub(since),
        false => SystemTime::UNIX_EPOCH.checked_add(since),
    };
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}

/// A certificate's text, with what a terminal would take for an order made visible
fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|letter| match letter.is_control() {
            true => letter.escape_default().collect::<Vec<_>>(),
            false => vec![letter],
        })
        .collect()
}
