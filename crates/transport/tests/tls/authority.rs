//! Authorities of our own, and the files that they issue.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData, date_time_ymd,
};
use tempfile::TempDir;
use tidings_transport::{TlsSettings, TlsSettingsBuilder};

/// Who issues certificates, with the certificates that lead from it to its root
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate, if it is not a root: to be sent with what it issues
    chain: String,
    pem: String,
}

/// A certificate with its key, for either side
pub(crate) struct Identity {
    /// The certificate itself, and then the intermediate ones
    pub(crate) chain: String,
    pub(crate) key: String,
    /// The SHA-256 of its SubjectPublicKeyInfo
    pub(crate) pin: [u8; 32],
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dates {
    Valid,
    Expired,
    NotYet,
}

impl Authority {
    pub(crate) fn root(name: &str) -> Self {
        let (params, key) = authority_params(name);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), chain: String::new(), pem }
    }

    /// An authority below this one
    pub(crate) fn intermediate(&self, name: &str) -> Self {
        let (params, key) = authority_params(name);
        let pem = params.signed_by(&key, &self.issuer).unwrap().pem();
        Self { issuer: Issuer::new(params, key), chain: format!("{pem}{}", self.chain), pem }
    }

    /// Its own certificate
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    pub(crate) fn issue(&self, names: &[&str], dates: Dates) -> Identity {
        let (params, key) = leaf_params(names, dates);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity { chain: format!("{}{}", certificate.pem(), self.chain), pin: pin(&key), key: key.serialize_pem() }
    }

    /// A certificate that says it is for one purpose alone
    pub(crate) fn issue_for(&self, names: &[&str], purpose: ExtendedKeyUsagePurpose) -> Identity {
        let (mut params, key) = leaf_params(names, Dates::Valid);
        params.extended_key_usages = vec![purpose];
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity { chain: format!("{}{}", certificate.pem(), self.chain), pin: pin(&key), key: key.serialize_pem() }
    }
}

impl Identity {
    pub(crate) fn self_signed(names: &[&str], dates: Dates) -> Self {
        let (params, key) = leaf_params(names, dates);
        let chain = params.self_signed(&key).unwrap().pem();
        Self { chain, pin: pin(&key), key: key.serialize_pem() }
    }

    /// The certificates between it and the root
    pub(crate) fn intermediates(&self) -> &str {
        let end = self.chain.find(END).unwrap() + END.len();
        &self.chain[end..]
    }

    /// The certificate alone
    pub(crate) fn without_intermediates(self) -> Self {
        let end = self.chain.find(END).unwrap() + END.len();
        Self { chain: self.chain[..end].to_owned(), ..self }
    }

    /// Writes `NAME.pem` and `NAME.key`
    pub(crate) fn write(&self, folder: &Folder, name: &str) -> (PathBuf, PathBuf) {
        let certificate = folder.write(&format!("{name}.pem"), &self.chain);
        (certificate, folder.write(&format!("{name}.key"), &self.key))
    }

    pub(crate) fn server(&self, folder: &Folder, name: &str) -> TlsSettingsBuilder {
        let (certificate, key) = self.write(folder, name);
        TlsSettings::server().certificate(certificate).key(key)
    }

    pub(crate) fn client(&self, folder: &Folder, name: &str) -> TlsSettingsBuilder {
        let (certificate, key) = self.write(folder, name);
        TlsSettings::client().certificate(certificate).key(key)
    }
}

/// A folder for one test's files, closed to others
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// A file that replaces one of that name in one step, as an operator's tool would do it
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let (path, fresh) = (self.0.path().join(name), self.0.path().join(format!("{name}.new")));
        fs::write(&fresh, text).unwrap();
        fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(&fresh, &path).unwrap();
        path
    }
}

fn authority_params(name: &str) -> (CertificateParams, KeyPair) {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2120, 1, 1));
    (params, KeyPair::generate().unwrap())
}

fn leaf_params(names: &[&str], dates: Dates) -> (CertificateParams, KeyPair) {
    let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    let name = names.first().copied().unwrap_or("nameless");
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let (from, until) = match dates {
        Dates::Valid => (2020, 2120),
        Dates::Expired => (2020, 2021),
        Dates::NotYet => (2110, 2120),
    };
    (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(until, 1, 1));
    (params, KeyPair::generate().unwrap())
}

fn pin(key: &KeyPair) -> [u8; 32] {
    let public_key = key.subject_public_key_info();
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &public_key).as_ref().try_into().unwrap()
}

const END: &str = "-----END CERTIFICATE-----\n";
