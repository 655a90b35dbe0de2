//! All that one reading of the directory found: it never changes, a reload makes another one.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use tidings_socket::{CurvePublicKey, CurveSecretKey, Properties};

use crate::access::AccessRules;
use crate::certificate::{Certificate, Revocation, SECRET_ENDING};
use crate::date::display_date;
use crate::error::nearest;
use crate::files::{self, Access};
use crate::{Fingerprint, KeyName, KeystoreError, PemCertificate};

/// The keys and rules of a keystore as they stood at one time
#[derive(Debug, Default)]
pub struct KeySet {
    pub(crate) own: BTreeMap<KeyName, Vec<Arc<OwnKey>>>,
    pub(crate) trusted: BTreeMap<KeyName, Vec<Arc<TrustedKey>>>,
    pub(crate) revoked: Vec<Arc<RevokedKey>>,
    pub(crate) tls: Vec<PemCertificate>,
    pub(crate) cms: Vec<PemCertificate>,
    /// Client certificates in `trusted/`, each with the name of its holder
    pub(crate) trusted_certificates: Vec<(KeyName, PemCertificate)>,
    /// Those in `revoked/`
    pub(crate) revoked_certificates: Vec<PemCertificate>,
    pub(crate) access: AccessRules,
    /// Public keys are compared as any value is: they are no secret, and so neither is how far two are alike
    pub(crate) by_key: HashMap<CurvePublicKey, Standing, foldhash::fast::RandomState>,
    pub(crate) holders: HashMap<Fingerprint, Arc<Holder>>,
    pub(crate) holders_by_name: HashMap<String, Arc<Holder>>,
}

/// A key pair of our own
#[derive(Clone, Debug)]
pub struct OwnKey {
    /// Its name, which is its file's
    pub name: KeyName,
    /// 1 for the first of that name; each `tidings key rotate` makes the next
    pub generation: u32,
    /// The public half
    pub public_key: CurvePublicKey,
    /// The secret half
    pub secret: CurveSecretKey,
    /// What the certificate tells others
    pub metadata: Vec<(String, String)>,
    /// From when it is to be used
    pub valid_from: Option<SystemTime>,
    /// To when
    pub expires: Option<SystemTime>,
    /// Of the public half
    pub fingerprint: Fingerprint,
    /// Its public file
    pub path: PathBuf,
}

/// The public key of a peer that we trust
#[derive(Clone, Debug)]
pub struct TrustedKey {
    /// What we call its owner: the file's name, and the peer's user id
    pub name: KeyName,
    /// 1 for the first of that name; an owner who rotates the key has two for a while
    pub generation: u32,
    /// The key
    pub public_key: CurvePublicKey,
    /// What we grant to it, in the file and in `access.toml`
    pub roles: Vec<String>,
    /// From when its owner uses it; it is let in earlier too
    pub valid_from: Option<SystemTime>,
    /// To when it is let in
    pub expires: Option<SystemTime>,
    /// What its owner tells about it
    pub metadata: Vec<(String, String)>,
    /// Of the key
    pub fingerprint: Fingerprint,
    /// Its file
    pub path: PathBuf,
    /// The metadata of its connections, ready to be given away
    pub(crate) properties: Properties,
}

/// A public key that is never let in again
#[derive(Clone, Debug)]
pub struct RevokedKey {
    /// What we called its owner
    pub name: KeyName,
    /// The key
    pub public_key: CurvePublicKey,
    /// When and why
    pub revocation: Revocation,
    /// Of the key
    pub fingerprint: Fingerprint,
    /// Its file
    pub path: PathBuf,
}

/// What we think of a CURVE key
#[derive(Clone, Debug)]
pub(crate) enum Standing {
    Trusted(Arc<TrustedKey>),
    Revoked(Arc<RevokedKey>),
}

/// Who holds a TLS client certificate
#[derive(Clone, Debug)]
pub(crate) struct Holder {
    pub(crate) name: KeyName,
    pub(crate) properties: Properties,
    pub(crate) roles: Vec<String>,
}

impl KeySet {
    /// Reads all files of the directory
    ///
    /// # Errors
    /// All that is wrong, not only the first: [`KeystoreError::Several`].
    pub(crate) fn read(directory: &Path) -> Result<Self, KeystoreError> {
        if !files::exists(directory) {
            return Err(KeystoreError::Missing(directory.to_owned()));
        }
        files::check_directory(directory)?;
        let mut reader = Reader { directory, errors: Vec::new() };
        let mut keys = Self { access: reader.access(), ..Self::default() };
        for (name, generation, path) in reader.keys(OWN) {
            if let Some(key) = reader.keep(own_key(name, generation, path)) {
                keys.own.entry(key.name.clone()).or_default().push(Arc::new(key));
            }
        }
        for (name, generation, path) in reader.keys(TRUSTED) {
            let rule = keys.access.keys.get(&name);
            if let Some(key) = reader.keep(trusted_key(name.clone(), generation, path, rule.map(|rule| &*rule.roles))) {
                keys.trusted.entry(name).or_default().push(Arc::new(key));
            }
        }
        for (name, _, path) in reader.keys(REVOKED) {
            if let Some(key) = reader.keep(revoked_key(name, path)) {
                keys.revoked.push(Arc::new(key));
            }
        }
        keys.tls = reader.certificates(TLS);
        keys.cms = reader.certificates(CMS);
        for certificate in reader.certificates(TRUSTED) {
            match certificate.name.parse() {
                Ok(name) => keys.trusted_certificates.push((name, certificate)),
                Err(error) => reader.errors.push(misplaced(&certificate.path, error)),
            }
        }
        keys.revoked_certificates = reader.certificates(REVOKED);
        keys.own.values_mut().for_each(|list| list.sort_by_key(|key| key.generation));
        keys.trusted.values_mut().for_each(|list| list.sort_by_key(|key| key.generation));
        keys.index_keys(&mut reader.errors);
        keys.index_holders();
        KeystoreError::all(reader.errors)?;
        Ok(keys)
    }

    fn index_keys(&mut self, errors: &mut Vec<KeystoreError>) {
        for key in self.trusted.values().flatten() {
            if let Some(Standing::Trusted(first)) =
                self.by_key.insert(key.public_key, Standing::Trusted(Arc::clone(key)))
            {
                errors.push(KeystoreError::SameKey { first: first.path.clone(), second: key.path.clone() });
            }
        }
        // Last, so that what is revoked stays so, whatever else is said of it
        for key in &self.revoked {
            self.by_key.insert(key.public_key, Standing::Revoked(Arc::clone(key)));
        }
    }

    fn index_holders(&mut self) {
        for (name, certificate) in &self.trusted_certificates {
            let roles = self.access.keys.get(name).map(|rule| rule.roles.clone()).unwrap_or_default();
            self.holders.insert(certificate.fingerprint, Arc::new(Holder::new(name, roles)));
        }
        for (name, rule) in &self.access.tls {
            let holder = Arc::new(Holder::new(name, rule.roles.clone()));
            if let Some(fingerprint) = rule.fingerprint {
                self.holders.insert(fingerprint, Arc::clone(&holder));
            } else if let Some(common_name) = &rule.common_name {
                self.holders_by_name.insert(common_name.clone(), holder);
            }
        }
    }

    /// The key of our own with this name that is to be used now
    ///
    /// Of several generations it is the newest that has begun. So a rotated key comes into use by itself, when its day comes.
    ///
    /// # Errors
    /// There is none of that name, or it has expired.
    pub fn own(&self, name: &str, now: SystemTime) -> Result<&Arc<OwnKey>, KeystoreError> {
        let Some((known, generations)) = self.own.get_key_value(name) else {
            let near = nearest(name, self.own.keys().map(KeyName::as_str));
            let suggestion = near.map(|near| format!("did you mean '{near}'?"));
            let suggestion = suggestion.unwrap_or_else(|| format!("make it with  tidings key new {name}"));
            return Err(KeystoreError::NoSuchKey {
                kind: "key of our own",
                name: name.to_owned(),
                suggestion: Some(suggestion),
            });
        };
        let key = current(generations, now, |key| (key.valid_from, key.expires));
        match key {
            Some(key) if key.expires.is_none_or(|expires| now < expires) => Ok(key),
            other => {
                let on = other.and_then(|key| key.expires).map(display_date).unwrap_or_default();
                let remedy = format!("run  tidings key rotate {known} --grace 0");
                Err(KeystoreError::Expired { name: known.to_string(), on, remedy })
            }
        }
    }

    /// The key of our own that is to be used where none is named: the only one, or `default-key` of `access.toml`
    ///
    /// # Errors
    /// There is none, or several and no default; or it has expired.
    pub fn own_default(&self, now: SystemTime) -> Result<&Arc<OwnKey>, KeystoreError> {
        let mut names = self.own.keys();
        match (&self.access.default_key, names.next(), names.next()) {
            (Some(name), _, _) => self.own(name.as_str(), now),
            (None, Some(only), None) => self.own(only.as_str(), now),
            (None, None, _) => Err(KeystoreError::NoSuchKey {
                kind: "key of our own",
                name: "default".to_owned(),
                suggestion: Some("make one with  tidings key new".to_owned()),
            }),
            (None, Some(first), Some(_)) => {
                let all: Vec<&str> = self.own.keys().map(KeyName::as_str).collect();
                let hint = format!("there are {}: write  default-key = \"{first}\"  into access.toml", all.join(", "));
                Err(KeystoreError::NoSuchKey {
                    kind: "key of our own",
                    name: "default".to_owned(),
                    suggestion: Some(hint),
                })
            }
        }
    }

    /// The key that the peer of this name uses now: what a client expects of its server
    ///
    /// # Errors
    /// There is none of that name, or it has expired.
    pub fn peer(&self, name: &str, now: SystemTime) -> Result<&Arc<TrustedKey>, KeystoreError> {
        let Some((known, generations)) = self.trusted.get_key_value(name) else {
            let near = nearest(name, self.trusted.keys().map(KeyName::as_str));
            let suggestion = near.map(|near| format!("did you mean '{near}'?"));
            let suggestion =
                suggestion.unwrap_or_else(|| format!("trust it with  tidings key trust FILE --name {name}"));
            return Err(KeystoreError::NoSuchKey {
                kind: "trusted key",
                name: name.to_owned(),
                suggestion: Some(suggestion),
            });
        };
        let key = current(generations, now, |key| (key.valid_from, key.expires));
        if let Some(Standing::Revoked(revoked)) = key.and_then(|key| self.by_key.get(&key.public_key)) {
            return Err(KeystoreError::Revoked { name: known.to_string(), on: display_date(revoked.revocation.on) });
        }
        match key {
            Some(key) if key.expires.is_none_or(|expires| now < expires) => Ok(key),
            other => {
                let on = other.and_then(|key| key.expires).map(display_date).unwrap_or_default();
                let remedy =
                    format!("ask its owner for a new one, and run  tidings key trust FILE --name {known} --replace");
                Err(KeystoreError::Expired { name: known.to_string(), on, remedy })
            }
        }
    }

    /// All key pairs of our own, by name and generation
    pub fn own_keys(&self) -> impl Iterator<Item = &Arc<OwnKey>> {
        self.own.values().flatten()
    }

    /// All keys that we trust, by name and generation
    pub fn trusted(&self) -> impl Iterator<Item = &Arc<TrustedKey>> {
        self.trusted.values().flatten()
    }

    /// All keys that are never let in again
    pub fn revoked(&self) -> impl Iterator<Item = &Arc<RevokedKey>> {
        self.revoked.iter()
    }

    /// Certificates in `tls/`, `cms/`, `trusted/` and `revoked/`, each with the folder it lies in
    pub fn certificates(&self) -> impl Iterator<Item = (&'static str, &PemCertificate)> {
        let trusted = self.trusted_certificates.iter().map(|(_, certificate)| (TRUSTED, certificate));
        let tls = self.tls.iter().map(|certificate| (TLS, certificate));
        let revoked = self.revoked_certificates.iter().map(|certificate| (REVOKED, certificate));
        tls.chain(self.cms.iter().map(|certificate| (CMS, certificate))).chain(trusted).chain(revoked)
    }

    /// The rules
    pub fn access(&self) -> &AccessRules {
        &self.access
    }

    /// The next end of a key or certificate of ours or of a peer that is still good, with its name
    pub fn next_expiry(&self, now: SystemTime) -> Option<(String, SystemTime)> {
        let own = self.own_keys().filter_map(|key| Some((key.name.to_string(), key.expires?)));
        let trusted = self.trusted().filter_map(|key| Some((key.name.to_string(), key.expires?)));
        let certificates = self.certificates().filter(|(folder, _)| *folder != REVOKED);
        let certificates = certificates.map(|(folder, cert)| (format!("{folder}/{}", cert.name), cert.not_after));
        own.chain(trusted).chain(certificates).filter(|(_, end)| *end > now).min_by_key(|(_, end)| *end)
    }
}

impl Holder {
    fn new(name: &KeyName, roles: Vec<String>) -> Self {
        Self { name: name.clone(), properties: properties(name.as_str(), &roles, &[]), roles }
    }
}

struct Reader<'a> {
    directory: &'a Path,
    errors: Vec<KeystoreError>,
}

impl Reader<'_> {
    fn keep<T>(&mut self, read: Result<T, KeystoreError>) -> Option<T> {
        read.map_err(|error| self.errors.push(error)).ok()
    }

    fn access(&mut self) -> AccessRules {
        let path = self.directory.join(ACCESS);
        if !files::exists(&path) {
            return AccessRules::default();
        }
        let read = || {
            let rules = AccessRules::parse(&path, &files::read(&path, Access::Public)?)?;
            if rules.has_passwords() {
                files::read(&path, Access::Secret)?;
            }
            Ok(rules)
        };
        self.keep(read()).unwrap_or_default()
    }

    /// The certificates in a folder: what their files are called, and where they are
    fn keys(&mut self, folder: &str) -> Vec<(KeyName, u32, PathBuf)> {
        let paths = self.list(folder, KEY_ENDING);
        // A secret without its public file would otherwise be passed over
        for twin in self.list(folder, &format!("{KEY_ENDING}{SECRET_ENDING}")) {
            let public = twin.to_string_lossy().strip_suffix(SECRET_ENDING).map(PathBuf::from).unwrap_or_default();
            let why = match (folder, files::exists(&public)) {
                (OWN, true) => continue,
                (OWN, false) => format!("has lost its public file {}", public.display()),
                _ => format!("holds a secret key, and those belong into {OWN}/"),
            };
            self.errors.push(KeystoreError::Misplaced { path: twin, why });
        }
        let mut keys = Vec::new();
        for path in paths {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            match KeyName::from_stem(&stem) {
                Ok((name, generation)) => keys.push((name, generation, path)),
                Err(error) => self.errors.push(misplaced(&path, error)),
            }
        }
        keys
    }

    fn certificates(&mut self, folder: &str) -> Vec<PemCertificate> {
        let paths = self.list(folder, ".crt");
        // In trusted/, NAME.key beside NAME.crt is that peer's CURVE key
        let load = |path: PathBuf| match folder {
            TRUSTED | REVOKED => PemCertificate::load(path),
            _ => PemCertificate::load_own(&path),
        };
        let read: Vec<_> = paths.into_iter().map(load).collect();
        read.into_iter().filter_map(|certificate| self.keep(certificate)).collect()
    }

    fn list(&mut self, folder: &str, ending: &str) -> Vec<PathBuf> {
        let folder = self.directory.join(folder);
        if files::exists(&folder)
            && let Err(error) = files::check_directory(&folder)
        {
            // Once is enough, however often the folder is listed
            if !self.errors.iter().any(|known| known.path() == Some(&folder)) {
                self.errors.push(error);
            }
            return Vec::new();
        }
        let listed = files::list(&folder, ending);
        self.keep(listed).unwrap_or_default()
    }
}

fn own_key(name: KeyName, generation: u32, path: PathBuf) -> Result<OwnKey, KeystoreError> {
    let certificate = Certificate::load(&path)?;
    let Some(secret) = certificate.secret_key.clone() else {
        let why = format!(
            "has no secret twin {}: a peer's key belongs into {TRUSTED}/",
            crate::certificate::secret_path(&path).display()
        );
        return Err(KeystoreError::Misplaced { path, why });
    };
    Ok(OwnKey {
        name,
        generation,
        public_key: certificate.public_key,
        secret,
        valid_from: certificate.valid_from(),
        expires: certificate.expires(),
        fingerprint: certificate.fingerprint(),
        metadata: certificate.metadata,
        path,
    })
}

fn trusted_key(
    name: KeyName,
    generation: u32,
    path: PathBuf,
    more_roles: Option<&[String]>,
) -> Result<TrustedKey, KeystoreError> {
    let certificate = Certificate::load_public(&path)?;
    let mut roles = certificate.trust.roles.clone();
    roles.extend(more_roles.unwrap_or_default().iter().filter(|role| !certificate.trust.roles.contains(role)).cloned());
    Ok(TrustedKey {
        public_key: certificate.public_key,
        properties: properties(name.as_str(), &roles, &certificate.metadata),
        roles,
        valid_from: certificate.valid_from(),
        expires: certificate.expires(),
        fingerprint: certificate.fingerprint(),
        metadata: certificate.metadata,
        name,
        generation,
        path,
    })
}

fn revoked_key(name: KeyName, path: PathBuf) -> Result<RevokedKey, KeystoreError> {
    let certificate = Certificate::load_public(&path)?;
    let unknown = Revocation { on: SystemTime::UNIX_EPOCH, reason: "its file lies in revoked/".to_owned() };
    Ok(RevokedKey {
        name,
        public_key: certificate.public_key,
        fingerprint: certificate.fingerprint(),
        revocation: certificate.revoked.unwrap_or(unknown),
        path,
    })
}

fn misplaced(path: &Path, error: impl fmt::Display) -> KeystoreError {
    KeystoreError::Misplaced { path: path.to_owned(), why: error.to_string() }
}

/// The newest generation that has begun and not ended; else the one that begins next; else the last that ended
fn current<K>(
    generations: &[Arc<K>],
    now: SystemTime,
    span: impl Fn(&K) -> (Option<SystemTime>, Option<SystemTime>),
) -> Option<&Arc<K>> {
    let good = |key: &&Arc<K>| span(key).1.is_none_or(|end| now < end);
    let begun = |key: &&Arc<K>| span(key).0.is_none_or(|start| start <= now);
    let newest = generations.iter().rev().find(|key| good(key) && begun(key));
    newest.or_else(|| generations.iter().find(good)).or_else(|| generations.last())
}

/// What the authenticator tells of a peer: `Name`, `Roles`, and the owner's own words where they are not about to be
/// taken for ours or for the protocol's
///
/// Words whose names ZMTP can't carry (`$`, `@`, `&`, `/`) are left out.
pub(crate) fn properties(name: &str, roles: &[String], words: &[(String, String)]) -> Properties {
    let mut properties = Properties::new();
    properties.insert("Name", name.to_owned()).ok();
    properties.insert("Roles", roles.join(",")).ok();
    for (word, value) in words {
        if !RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(word)) {
            properties.insert(word.clone(), value.clone()).ok();
        }
    }
    properties
}

/// Names with a meaning of their own (RFC 23, "Metadata"; libzmq's message properties)
const RESERVED: &[&str] =
    &["Name", "Roles", "User-Id", "Identity", "Routing-Id", "Socket-Type", "Resource", "Peer-Address", "Hello-Msg"];

pub(crate) const OWN: &str = "curve";
pub(crate) const TRUSTED: &str = "trusted";
pub(crate) const REVOKED: &str = "revoked";
pub(crate) const TLS: &str = "tls";
pub(crate) const CMS: &str = "cms";
pub(crate) const ACCESS: &str = "access.toml";
pub(crate) const KEY_ENDING: &str = ".key";
