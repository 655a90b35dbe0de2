//! Reading certificates and keys from files: PEM, its size, and who may read a key.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::time::SystemTime;

use rustls::RootCertStore;
use rustls_pki_types::pem::{Error as PemError, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use super::certificate::PeerCertificate;
use super::settings::TlsSettingsError;

/// A file as it was when it was last looked at; what differs was changed
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    size: u64,
    modified: Option<SystemTime>,
    /// Device, number, and when the file's entry itself changed, in seconds and nanoseconds
    identity: [i128; 4],
}

impl Stamp {
    /// `None` if there is no such file, or it can't be asked
    pub(super) fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        #[cfg(unix)]
        let identity = {
            use std::os::unix::fs::MetadataExt;
            [metadata.dev().into(), metadata.ino().into(), metadata.ctime().into(), metadata.ctime_nsec().into()]
        };
        #[cfg(not(unix))]
        let identity = [0; 4];
        Some(Self { size: metadata.len(), modified: metadata.modified().ok(), identity })
    }
}

/// The certificates of a PEM file, in its order: at least one, each of X.509 version 3
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsSettingsError> {
    let wrong = |reason: String| TlsSettingsError::File { path: path.to_owned(), reason };
    let text = read(&mut open(path)?, path)?;
    let certificates = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| wrong(pem_problem(&error).to_owned()))?;
    if certificates.is_empty() {
        return Err(wrong("it has no certificate; it must begin with -----BEGIN CERTIFICATE-----".to_owned()));
    }
    for (n, certificate) in certificates.iter().enumerate() {
        PeerCertificate::read(certificate).map_err(|problem| wrong(format!("certificate {}: {problem}", n + 1)))?;
    }
    Ok(certificates)
}

/// The authorities of several PEM files
pub(super) fn authorities<'a>(paths: impl Iterator<Item = &'a Path>) -> Result<RootCertStore, TlsSettingsError> {
    let mut roots = RootCertStore::empty();
    for path in paths {
        for certificate in certificates(path)? {
            roots.add(certificate).map_err(|error| TlsSettingsError::File {
                path: path.to_owned(),
                reason: format!("it can't serve as an authority: {error}"),
            })?;
        }
    }
    Ok(roots)
}

/// The one private key of a PEM file (PKCS#8, PKCS#1 or SEC1) that only its owner, and its group for reading, can open
pub(super) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsSettingsError> {
    let mut file = open(path)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let metadata = file.metadata().map_err(|error| unreadable(path, &error))?;
        let mode = metadata.permissions().mode() & 0o7777;
        // Nothing for others, and no writing for the group
        if mode & 0o027 != 0 {
            return Err(TlsSettingsError::KeyPermissions { path: path.to_owned(), mode });
        }
    }
    let text = Zeroizing::new(read(&mut file, path)?);
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        let reason = match error {
            PemError::NoItemsFound if text.windows(17).any(|part| part == b"ENCRYPTED PRIVATE") => {
                "the key is encrypted, and a program can't be asked for its passphrase; decrypt it with openssl pkey"
            }
            PemError::NoItemsFound => "it has no private key; it must have -----BEGIN PRIVATE KEY----- or the like",
            error => pem_problem(&error),
        };
        TlsSettingsError::File { path: path.to_owned(), reason: reason.to_owned() }
    })
}

fn open(path: &Path) -> Result<File, TlsSettingsError> {
    // A pipe would wait for its other end
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => {
            Err(TlsSettingsError::File { path: path.to_owned(), reason: "it is not a file; name one".to_owned() })
        }
        Ok(_) => File::open(path).map_err(|error| unreadable(path, &error)),
        Err(error) => Err(unreadable(path, &error)),
    }
}

/// The whole file; grown once only, so that no part of a key is left behind in memory that was given back
///
/// No longer than the file either: wiping what might have been a key takes its time.
fn read(file: &mut File, path: &Path) -> Result<Vec<u8>, TlsSettingsError> {
    let length = file.metadata().map_err(|error| unreadable(path, &error))?.len().min(FILE_LIMIT as u64) as usize;
    let mut octets = Vec::with_capacity(length + 1);
    file.take(length as u64 + 1).read_to_end(&mut octets).map_err(|error| unreadable(path, &error))?;
    match octets.len() > length {
        true => Err(TlsSettingsError::File {
            path: path.to_owned(),
            reason: match length {
                FILE_LIMIT => format!("it is longer than {FILE_LIMIT} octets; name a PEM file"),
                _ => "it grew while it was read; try again".to_owned(),
            },
        }),
        false => Ok(octets),
    }
}

fn unreadable(path: &Path, error: &io::Error) -> TlsSettingsError {
    TlsSettingsError::File {
        path: path.to_owned(),
        reason: format!("it can't be read: {error}; check its path and rights"),
    }
}

/// Without what stands in the file: it may be a key
fn pem_problem(error: &PemError) -> &'static str {
    match error {
        PemError::MissingSectionEnd { .. } => "a section has no end line (-----END …-----); the file may be cut short",
        PemError::IllegalSectionStart { .. } => "a line that should begin a section (-----BEGIN …-----) is malformed",
        PemError::Base64Decode(_) => "a section is not base64; the file may be damaged",
        _ => "it is not PEM",
    }
}

/// 1 MiB: several times the authorities that a distribution ships
const FILE_LIMIT: usize = 1 << 20;
