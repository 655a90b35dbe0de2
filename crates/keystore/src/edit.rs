//! What `tidings key` does to a keystore: each change whole or not at all, under the directory's lock, then read again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tidings_socket::{CurveSecretKey, SystemEntropy};

use crate::certificate::{EXPIRES, ROLES, VALID_FROM, secret_path};
use crate::date::{DAY, display_date};
use crate::files::{self, Access};
use crate::keyset::{KEY_ENDING, OWN, REVOKED, Standing, TLS, TRUSTED};
use crate::tls::{self, AUTHORITY};
use crate::{
    Certificate, KeyName, Keystore, KeystoreError, OwnKey, PemCertificate, Revocation, TlsRequest, Trust, TrustedKey,
};

/// What a new key of our own tells about itself
#[derive(Clone, Debug, Default)]
pub struct NewKey {
    /// The roles that it wishes for; whoever trusts it decides
    pub roles: Vec<String>,
    /// To when it is good; `None` for as long as nobody says otherwise
    pub expires: Option<SystemTime>,
    /// Further words for others: `email`, `organization`, …
    pub words: Vec<(String, String)>,
}

/// The two keys of a rotation
#[derive(Clone, Debug)]
pub struct Rotation {
    /// The one in use until the grace period ends
    pub old: Arc<OwnKey>,
    /// The one in use from then on
    pub new: Arc<OwnKey>,
    /// When the one takes over from the other
    pub changes_on: SystemTime,
}

impl Keystore {
    /// Makes a key pair in `curve/`
    ///
    /// # Errors
    /// There is one of that name; those of writing.
    pub fn make_key(&self, name: &KeyName, new: &NewKey) -> Result<Arc<OwnKey>, KeystoreError> {
        let _lock = files::lock(self.directory())?;
        let path = self.key_path(OWN, name, 1);
        if files::exists(&path) || files::exists(&secret_path(&path)) {
            let remedy = format!("`tidings key rotate {name}` makes its successor");
            return Err(KeystoreError::Exists { kind: "key of our own", name: name.to_string(), remedy });
        }
        own_certificate(name, new)?.save(&path)?;
        self.reload()?;
        self.own_generation(name, 1)
    }

    /// Trusts a key: its owner is let in as `name` with these roles, until `expires` or the end that the owner says
    ///
    /// A key that is trusted by that name already gets the new roles and end. If the name has another key, then with
    /// `grace` both are trusted until that long after the new one's `valid-from` (or now); without it is an error.
    ///
    /// # Errors
    /// The key is revoked, or trusted by another name; the name has another key; those of writing.
    pub fn trust(
        &self,
        certificate: &Certificate,
        name: &KeyName,
        roles: Vec<String>,
        expires: Option<SystemTime>,
        grace: Option<Duration>,
    ) -> Result<Arc<TrustedKey>, KeystoreError> {
        let _lock = files::lock(self.directory())?;
        self.reload()?;
        let keys = self.keys();
        let mut generation =
            keys.trusted.get(name.as_str()).and_then(|all| all.last()).map_or(1, |last| last.generation + 1);
        match keys.by_key.get(&certificate.public_key) {
            Some(Standing::Revoked(revoked)) => {
                let remedy = format!("it was revoked; remove {} to trust it again", revoked.path.display());
                return Err(KeystoreError::Exists { kind: "revoked key", name: revoked.name.to_string(), remedy });
            }
            Some(Standing::Trusted(known)) if known.name != *name => {
                let remedy = format!("this is that key; `tidings key revoke {}` would end that", known.name);
                return Err(KeystoreError::Exists { kind: "trusted key", name: known.name.to_string(), remedy });
            }
            Some(Standing::Trusted(known)) => generation = known.generation,
            None if generation > 1 => {
                let Some(grace) = grace else {
                    let remedy = "--replace trusts the new key, and the old one for a while; or take another name";
                    let (name, remedy) = (name.to_string(), remedy.to_owned());
                    return Err(KeystoreError::Exists { kind: "trusted key", name, remedy });
                };
                let now = SystemTime::now();
                let end = certificate.valid_from().unwrap_or(now).max(now) + grace;
                for old in keys.trusted.get(name.as_str()).into_iter().flatten() {
                    let mut old_certificate = Certificate::load_public(&old.path)?;
                    let ends = old_certificate.trust.expires;
                    old_certificate.trust.expires = Some(ends.map_or(end, |ends| ends.min(end)));
                    old_certificate.save(&old.path)?;
                }
            }
            None => {}
        }
        let trusted = Certificate {
            public_key: certificate.public_key,
            secret_key: None,
            metadata: certificate.metadata.clone(),
            trust: Trust { roles, expires, since: Some(SystemTime::now()) },
            revoked: None,
        };
        files::make_directory(&self.directory().join(TRUSTED))?;
        trusted.save(self.key_path(TRUSTED, name, generation))?;
        self.reload()?;
        let keys = self.keys();
        let found = keys.trusted().find(|key| key.public_key == certificate.public_key).cloned();
        found.ok_or_else(|| self.vanished(TRUSTED, name))
    }

    /// Trusts a TLS client certificate: its holder is let in as `name`, until the certificate's end
    ///
    /// # Errors
    /// There is one of that name; the file is no certificate; those of writing.
    pub fn trust_certificate(&self, file: &Path, name: &KeyName) -> Result<PemCertificate, KeystoreError> {
        let _lock = files::lock(self.directory())?;
        let text = files::read(file, Access::Public)?;
        let certificate = PemCertificate::load(file)?;
        self.reload()?;
        let revoked = &self.keys().revoked_certificates;
        if let Some(revoked) = revoked.iter().find(|revoked| revoked.fingerprint == certificate.fingerprint) {
            let remedy = format!("it was revoked; remove {} to trust it again", revoked.path.display());
            return Err(KeystoreError::Exists { kind: "revoked certificate", name: revoked.name.clone(), remedy });
        }
        let path = self.directory().join(TRUSTED).join(format!("{name}.crt"));
        if files::exists(&path) && PemCertificate::load(&path)?.fingerprint != certificate.fingerprint {
            let remedy = format!("remove {} or take another name", path.display());
            return Err(KeystoreError::Exists { kind: "trusted certificate", name: name.to_string(), remedy });
        }
        files::make_directory(&self.directory().join(TRUSTED))?;
        files::write(&path, &text, Access::Public)?;
        self.reload()?;
        PemCertificate::load(&path)
    }

    /// Revokes all keys that are trusted by this name: they are never let in again; returns how many
    ///
    /// Who is connected stays so until the connection ends.
    ///
    /// # Errors
    /// There is none of that name; those of writing.
    pub fn revoke(&self, name: &KeyName, reason: &str) -> Result<usize, KeystoreError> {
        let _lock = files::lock(self.directory())?;
        self.reload()?;
        let keys = self.keys();
        let trusted: Vec<_> = keys.trusted.get(name.as_str()).into_iter().flatten().collect();
        let certificate = keys.trusted_certificates.iter().find(|(holder, _)| holder == name);
        if trusted.is_empty() && certificate.is_none() {
            let own = keys.own.contains_key(name.as_str());
            let near = crate::error::nearest(name.as_str(), keys.trusted.keys().map(KeyName::as_str));
            let suggestion = match near {
                _ if own => Some(format!("a key of our own is replaced with  tidings key rotate {name} --grace 0")),
                near => near.map(|near| format!("did you mean '{near}'?")),
            };
            return Err(KeystoreError::NoSuchKey { kind: "trusted key", name: name.to_string(), suggestion });
        }
        files::make_directory(&self.directory().join(REVOKED))?;
        let count = trusted.len() + usize::from(certificate.is_some());
        for key in trusted {
            let mut revoked = Certificate::load_public(&key.path)?;
            revoked.revoked = Some(Revocation { on: SystemTime::now(), reason: reason.to_owned() });
            let free = (1..=u32::MAX).map(|generation| self.key_path(REVOKED, name, generation));
            let Some(path) = free.into_iter().find(|path| !files::exists(path)) else { continue };
            // First there, then no longer here: between the two, revoked wins
            revoked.save(path)?;
            files::remove(&key.path)?;
        }
        if let Some((_, certificate)) = certificate {
            let folder = self.directory().join(REVOKED);
            let free = (1..=u32::MAX).map(|count| folder.join(format!("{}.crt", name.stem(count))));
            if let Some(path) = free.into_iter().find(|path| !files::exists(path)) {
                files::write(&path, &files::read(&certificate.path, Access::Public)?, Access::Public)?;
                files::remove(&certificate.path)?;
            }
        }
        self.reload()?;
        Ok(count)
    }

    /// Makes the successor of a key of our own, which takes over after a grace period
    ///
    /// Until then the old key stays in use, and peers have time to trust the new one; both are listed. The change
    /// itself needs nobody. With no grace the new key is in use at once.
    ///
    /// # Errors
    /// There is no such key, or its successor is there already; those of writing.
    pub fn rotate(
        &self,
        name: &KeyName,
        grace: Duration,
        expires: Option<SystemTime>,
    ) -> Result<Rotation, KeystoreError> {
        let _lock = files::lock(self.directory())?;
        self.reload()?;
        let (keys, now) = (self.keys(), SystemTime::now());
        let last = match keys.own.get(name.as_str()).and_then(|all| all.last()) {
            Some(last) => last,
            None => return Err(keys.own(name.as_str(), now).err().unwrap_or_else(|| self.vanished(OWN, name))),
        };
        if let Some(start) = last.valid_from.filter(|start| *start > now) {
            let remedy = format!("it takes over on {}; remove its two files to take that back", display_date(start));
            return Err(KeystoreError::Exists { kind: "successor", name: name.stem(last.generation), remedy });
        }
        let changes_on = now + grace;
        let mut old = Certificate::load(&last.path)?;
        let mut words = old.metadata.clone();
        words.retain(|(word, _)| !matches!(word.as_str(), EXPIRES | VALID_FROM | CREATED | ROLES | "name"));
        words.push((VALID_FROM.to_owned(), display_date(changes_on)));
        let new = own_certificate(name, &NewKey { roles: old.wished_roles(), expires, words })?;
        new.save(self.key_path(OWN, name, last.generation + 1))?;
        // Rounded to seconds by the file: never after the new one has begun
        let end = old.expires().map_or(changes_on, |end| end.min(changes_on));
        old.set_word(EXPIRES, display_date(end));
        old.save(&last.path)?;
        self.reload()?;
        Ok(Rotation {
            old: self.own_generation(name, last.generation)?,
            new: self.own_generation(name, last.generation + 1)?,
            changes_on,
        })
    }

    /// Makes a certificate in `tls/`, signed by the private authority there, which is made first if there is none
    ///
    /// # Errors
    /// There is one of that name, or an authority whose key lies elsewhere; those of writing.
    pub fn make_certificate(&self, request: &TlsRequest) -> Result<PemCertificate, KeystoreError> {
        let _lock = files::lock(self.directory())?;
        let folder = self.directory().join(TLS);
        self.make_authority(&folder, request)?;
        let certificate = tls::issue(&folder, &folder, request)?;
        self.reload()?;
        Ok(certificate)
    }

    /// Makes a certificate for another keystore, signed by our authority, and puts it and the authority's certificate
    /// into the other's `tls/`; the authority's key stays here
    ///
    /// # Errors
    /// As [`Keystore::make_certificate`].
    pub fn make_certificate_for(
        &self,
        other: &Keystore,
        request: &TlsRequest,
    ) -> Result<PemCertificate, KeystoreError> {
        let (_lock, _other) = (files::lock(self.directory())?, files::lock(other.directory())?);
        let (folder, to) = (self.directory().join(TLS), other.directory().join(TLS));
        self.make_authority(&folder, request)?;
        files::make_directory(&to)?;
        let certificate = tls::issue(&folder, &to, request)?;
        let authority = files::read(&folder.join(AUTHORITY), Access::Public)?;
        files::write(&to.join(AUTHORITY), &authority, Access::Public)?;
        other.reload()?;
        Ok(certificate)
    }

    fn make_authority(&self, folder: &Path, request: &TlsRequest) -> Result<(), KeystoreError> {
        files::make_directory(folder)?;
        if files::exists(&folder.join(AUTHORITY)) {
            return Ok(());
        }
        // Ten years, or as long as the first certificate: what it signs must not outlive it
        tls::make_authority(folder, &format!("private authority of {}", request.name), request.valid.max(3650 * DAY))
    }

    fn key_path(&self, folder: &str, name: &KeyName, generation: u32) -> PathBuf {
        self.directory().join(folder).join(format!("{}{KEY_ENDING}", name.stem(generation)))
    }

    fn own_generation(&self, name: &KeyName, generation: u32) -> Result<Arc<OwnKey>, KeystoreError> {
        let keys = self.keys();
        let found = keys.own_keys().find(|key| key.name == *name && key.generation == generation).cloned();
        found.ok_or_else(|| self.vanished(OWN, name))
    }

    /// Somebody removed it while it was being read
    fn vanished(&self, folder: &str, name: &KeyName) -> KeystoreError {
        KeystoreError::Misplaced { path: self.key_path(folder, name, 1), why: "has just been removed".to_owned() }
    }
}

fn own_certificate(name: &KeyName, new: &NewKey) -> Result<Certificate, KeystoreError> {
    let secret = CurveSecretKey::generate(&SystemEntropy).map_err(|error| KeystoreError::Entropy(error.to_string()))?;
    let mut certificate = Certificate::own(secret);
    certificate.set_word("name", name.as_str());
    if !new.roles.is_empty() {
        certificate.set_word(ROLES, new.roles.join(", "));
    }
    certificate.set_word(CREATED, display_date(SystemTime::now()));
    if let Some(expires) = new.expires {
        certificate.set_word(EXPIRES, display_date(expires));
    }
    for (word, value) in &new.words {
        certificate.set_word(word, value.clone());
    }
    Ok(certificate)
}

const CREATED: &str = "created";
