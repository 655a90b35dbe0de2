//! `make-keys`: keys for one benchmark, so that every side encrypts with the same ones.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use dryoc::classic::crypto_box::crypto_box_keypair;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use serde_json::{Value, json};

use crate::keys::Keys;

/// Writes pairs of CURVE keys and certificates of one authority into the folder `keys`
///
/// `server` and `client`, each as `.public` and `.secret` (Z85) and as `.crt` and `.key` (PEM, ECDSA with P-256);
/// `authority.crt`. The server's certificate is for 127.0.0.1 and localhost.
pub(crate) fn make_keys(mut keys: Keys) -> Result<Value> {
    let folder = keys.folder("keys")?;
    keys.finish()?;
    fs::create_dir_all(&folder).with_context(|| format!("making the folder {}", folder.display()))?;
    for name in ["server", "client"] {
        let (public, secret) = crypto_box_keypair();
        write(&folder, &format!("{name}.public"), &z85(&public))?;
        write(&folder, &format!("{name}.secret"), &z85(&secret))?;
    }

    let mut authority = CertificateParams::default();
    authority.distinguished_name.push(DnType::CommonName, "benchmark authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    write(&folder, "authority.crt", &authority.pem())?;
    for name in ["server", "client"] {
        let key = KeyPair::generate()?;
        let mut certificate = CertificateParams::new(["127.0.0.1".to_owned(), "localhost".to_owned()])?;
        certificate.distinguished_name.push(DnType::CommonName, format!("benchmark {name}"));
        certificate.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        certificate.use_authority_key_identifier_extension = true;
        write(&folder, &format!("{name}.crt"), &certificate.signed_by(&key, &authority)?.pem())?;
        write(&folder, &format!("{name}.key"), &key.serialize_pem())?;
    }
    Ok(json!({ "keys": folder }))
}

/// Writes a file that its owner alone may read
fn write(folder: &Path, name: &str, text: &str) -> Result<()> {
    let path = folder.join(name);
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).with_context(|| format!("writing {}", path.display()))
}

/// Five characters for each four octets (RFC 32)
fn z85(octets: &[u8; 32]) -> String {
    let digits = octets.as_chunks::<4>().0.iter().flat_map(|four| {
        let number = u32::from_be_bytes(*four);
        [4, 3, 2, 1, 0].map(|place| ALPHABET[(number / 85u32.pow(place) % 85) as usize])
    });
    digits.map(char::from).collect()
}

const ALPHABET: &[u8; 85] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_written_as_rfc_32_has_it() {
        // The test key of RFC 26
        let key = [
            0xBB, 0x88, 0x47, 0x1D, 0x65, 0xE2, 0x65, 0x9B, 0x30, 0xC5, 0x5A, 0x53, 0x21, 0xCE, 0xBB, 0x5A, 0xAB, 0x2B,
            0x70, 0xA3, 0x98, 0x64, 0x5C, 0x26, 0xDC, 0xA2, 0xB2, 0xFC, 0xB4, 0x3F, 0xC5, 0x18,
        ];
        assert_eq!(z85(&key), "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID");
    }
}
