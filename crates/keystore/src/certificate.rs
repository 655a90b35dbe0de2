//! CURVE certificates as files: those of CZMQ's `zcert`, with a section of our own for what we grant to the key.
//!
//! `FILE` holds the public key and may go to anyone; `FILE_secret` holds both keys and stays. Either is ZPL:
//!
//! | section | property | what it says | who says it |
//! |---|---|---|---|
//! | `metadata` | any | what the owner tells about the key; of these `expires` and `valid-from` are obeyed | the key's owner |
//! | `curve` | `public-key` | 40 characters of Z85 | |
//! | `curve` | `secret-key` | likewise, in the secret twin only | |
//! | `trust` | `roles` | the roles that we grant, separated by commas | we, with `tidings key trust` |
//! | `trust` | `expires`, `since` | until when we trust it, and since when | we |
//! | `revoked` | `on`, `reason` | when and why we stopped trusting it | we, with `tidings key revoke` |
//!
//! CZMQ reads past the sections that it does not know. What the owner writes into `metadata` never grants anything:
//! its `roles` are a wish that `tidings key trust` shows.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tidings_socket::{CurvePublicKey, CurveSecretKey};
use zeroize::Zeroizing;

use crate::date::{display_date, parse_date};
use crate::error::nearest;
use crate::files::{self, Access};
use crate::{Fingerprint, KeyName, KeystoreError, Property, UnwritableValue, Zpl, ZplError};

/// A CURVE key with what its owner says about it, and what we grant to it
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The public key
    pub public_key: CurvePublicKey,
    /// The secret key, if this is our own
    pub secret_key: Option<CurveSecretKey>,
    /// The owner's words in the order of the file; of equal names the first counts, as with CZMQ
    pub metadata: Vec<(String, String)>,
    /// What we grant to it, if we trust it
    pub trust: Trust,
    /// When and why we stopped trusting it
    pub revoked: Option<Revocation>,
}

/// What we grant to a key
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Trust {
    /// The roles of its owner
    pub roles: Vec<String>,
    /// Until when we trust it; its owner may say an earlier end
    pub expires: Option<SystemTime>,
    /// Since when
    pub since: Option<SystemTime>,
}

/// When and why we stopped trusting a key
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Revocation {
    /// When
    pub on: SystemTime,
    /// Why, in our words; for our log only
    pub reason: String,
}

impl Certificate {
    /// A certificate of a public key, with nothing said about it
    pub fn new(public_key: CurvePublicKey) -> Self {
        Self { public_key, secret_key: None, metadata: Vec::new(), trust: Trust::default(), revoked: None }
    }

    /// A certificate of our own
    pub fn own(secret_key: CurveSecretKey) -> Self {
        Self { secret_key: Some(secret_key.clone()), ..Self::new(secret_key.public()) }
    }

    /// Reads either file's text
    ///
    /// # Errors
    /// The line, and what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, CertificateError> {
        let zpl = Zpl::parse(text)?;
        let public = zpl.find("curve/public-key").ok_or_else(|| wrong(0, "has no public-key in a section curve"))?;
        let public_key: CurvePublicKey =
            public.value.parse().map_err(|error| wrong(public.line, format!("public-key: {error}")))?;
        let mut certificate = Self::new(public_key);
        if let Some(secret) = zpl.find("curve/secret-key") {
            let key: CurveSecretKey =
                secret.value.parse().map_err(|error| wrong(secret.line, format!("secret-key: {error}")))?;
            if key.public() != public_key {
                return Err(wrong(secret.line, "the secret-key does not belong to the public-key above it"));
            }
            certificate.secret_key = Some(key);
        }
        for property in section(&zpl, "metadata") {
            let known = certificate.metadata.iter().any(|(name, _)| *name == property.name);
            if !known {
                certificate.metadata.push((property.name.clone(), property.value.clone()));
            }
            if matches!(property.name.as_str(), EXPIRES | VALID_FROM) && !known {
                date(property)?;
            }
        }
        for property in section(&zpl, "trust") {
            match property.name.as_str() {
                ROLES => certificate.trust.roles = roles(property)?,
                EXPIRES => certificate.trust.expires = Some(date(property)?),
                "since" => certificate.trust.since = Some(date(property)?),
                _ => return Err(unknown(property, "trust", &[ROLES, EXPIRES, "since"])),
            }
        }
        if let Some(revoked) = zpl.find("revoked") {
            let mut revocation = Revocation { on: SystemTime::UNIX_EPOCH, reason: String::new() };
            for property in &revoked.children {
                match property.name.as_str() {
                    "on" => revocation.on = date(property)?,
                    "reason" => revocation.reason.clone_from(&property.value),
                    _ => return Err(unknown(property, "revoked", &["on", "reason"])),
                }
            }
            certificate.revoked = Some(revocation);
        }
        Ok(certificate)
    }

    /// Reads a certificate as `zcert_load` does: with its secret twin if that is there, else the public file alone
    ///
    /// # Errors
    /// Files that can't be read, a twin that others may read, and what is wrong in which line.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, KeystoreError> {
        let path = path.as_ref();
        let twin = secret_path(path);
        if !files::exists(&twin) {
            return Self::load_public(path);
        }
        let certificate = Self::load_file(&twin, Access::Secret)?;
        if certificate.secret_key.is_none() {
            return Err(wrong(0, "has no secret-key in its section curve").at(&twin));
        }
        if files::exists(path) && Self::load_public(path)?.public_key != certificate.public_key {
            let why = "holds another public key than its secret twin: restore the one or remove the other";
            return Err(wrong(0, why).at(path));
        }
        Ok(certificate)
    }

    /// Reads a public certificate; a secret key in it is an error, for such a file may go to anyone
    ///
    /// # Errors
    /// As [`Certificate::load`].
    pub fn load_public(path: impl AsRef<Path>) -> Result<Self, KeystoreError> {
        let path = path.as_ref();
        let certificate = Self::load_file(path, Access::Public)?;
        match certificate.secret_key {
            None => Ok(certificate),
            Some(_) => {
                Err(wrong(0, "holds a secret key: this belongs into a file whose name ends in _secret").at(path))
            }
        }
    }

    fn load_file(path: &Path, access: Access) -> Result<Self, KeystoreError> {
        Self::parse(&files::read(path, access)?).map_err(|error| error.at(path))
    }

    /// Writes the public file, and the secret twin (mode 0600) if there is a secret key
    ///
    /// Each file is written whole or not at all; the secret one first, so that no public key is ever without it.
    ///
    /// # Errors
    /// Those of the system, and values that ZPL can't hold.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), KeystoreError> {
        let path = path.as_ref();
        if let Some(text) = self.secret_text()? {
            files::write(&secret_path(path), &text, Access::Secret)?;
        }
        files::write(path, &self.public_text()?, Access::Public)
    }

    /// The text of the public file
    ///
    /// # Errors
    /// Values that ZPL can't hold.
    pub fn public_text(&self) -> Result<String, UnwritableValue> {
        Ok(format!("{PUBLIC_COMMENT}\n{}", Zpl { properties: self.sections() }.render()?))
    }

    /// The text of the secret twin, if there is a secret key
    ///
    /// # Errors
    /// Values that ZPL can't hold.
    pub fn secret_text(&self) -> Result<Option<Zeroizing<String>>, UnwritableValue> {
        let Some(secret) = &self.secret_key else { return Ok(None) };
        let public = Zpl { properties: self.sections() }.render()?;
        // Z85 has no quotes, so that this line needs no more than a pair of them
        let secret = secret.to_z85();
        let len = SECRET_COMMENT.len() + public.len() + secret.len() + 64;
        let mut text = Zeroizing::new(String::with_capacity(len));
        for part in [SECRET_COMMENT, "\n", &public, "    secret-key = \"", &secret, "\"\n"] {
            text.push_str(part);
        }
        Ok(Some(text))
    }

    /// All sections, `curve` last
    fn sections(&self) -> Vec<Property> {
        let words = self.metadata.iter().map(|(name, value)| Property::new(name, value)).collect();
        let mut sections = vec![Property::section("metadata", words)];
        let mut trust = Vec::new();
        if !self.trust.roles.is_empty() {
            trust.push(Property::new(ROLES, self.trust.roles.join(", ")));
        }
        trust.extend(self.trust.expires.map(|date| Property::new(EXPIRES, display_date(date))));
        trust.extend(self.trust.since.map(|date| Property::new("since", display_date(date))));
        if !trust.is_empty() {
            sections.push(Property::section("trust", trust));
        }
        if let Some(revoked) = &self.revoked {
            let on = Property::new("on", display_date(revoked.on));
            sections.push(Property::section("revoked", vec![on, Property::new("reason", &revoked.reason)]));
        }
        let public_key = Property::new("public-key", self.public_key.to_string());
        sections.push(Property::section("curve", vec![public_key]));
        // `metadata = ""` would be a property for CZMQ
        sections.retain(|section| !section.children.is_empty());
        sections
    }

    /// What the owner says under this name
    pub fn word(&self, name: &str) -> Option<&str> {
        self.metadata.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Says something under this name, in place of what was said
    pub fn set_word(&mut self, name: &str, value: impl Into<String>) {
        let value = value.into();
        match self.metadata.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.metadata.push((name.to_owned(), value)),
        }
    }

    /// The end: the owner's or ours, whichever is earlier
    pub fn expires(&self) -> Option<SystemTime> {
        [self.word_date(EXPIRES), self.trust.expires].into_iter().flatten().min()
    }

    /// From when its owner uses it, if that was said
    pub fn valid_from(&self) -> Option<SystemTime> {
        self.word_date(VALID_FROM)
    }

    /// The roles that its owner wishes for
    pub fn wished_roles(&self) -> Vec<String> {
        self.word(ROLES).and_then(|text| parse_roles(text).ok()).unwrap_or_default()
    }

    /// The fingerprint of the public key
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.public_key.as_octets())
    }

    fn word_date(&self, name: &str) -> Option<SystemTime> {
        self.word(name).and_then(|text| parse_date(text).ok())
    }
}

/// Why a text is no certificate
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum CertificateError {
    /// It is no ZPL
    Zpl(ZplError),
    /// It is ZPL, but no certificate
    Content {
        /// Counted from 1; 0 where the whole text is meant
        line: usize,
        /// What is wrong, and what is expected; never the value itself, which may be a secret
        why: String,
    },
}

impl CertificateError {
    pub(crate) fn at(self, path: &Path) -> KeystoreError {
        match self {
            Self::Zpl(source) => KeystoreError::Zpl { path: path.to_owned(), source },
            Self::Content { line, why } => KeystoreError::Certificate { path: path.to_owned(), line, why },
        }
    }
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zpl(error) => error.fmt(f),
            Self::Content { line: 0, why } => f.write_str(why),
            Self::Content { line, why } => write!(f, "line {line}: {why}"),
        }
    }
}

impl std::error::Error for CertificateError {}

impl From<ZplError> for CertificateError {
    fn from(error: ZplError) -> Self {
        Self::Zpl(error)
    }
}

/// The secret twin's path: `FILE_secret`
pub(crate) fn secret_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(SECRET_ENDING);
    name.into()
}

/// Reads roles separated by commas or blanks
///
/// # Errors
/// Says which is none.
pub fn parse_roles(text: &str) -> Result<Vec<String>, String> {
    let words = text.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty());
    let mut roles: Vec<String> = Vec::new();
    for word in words {
        if word.parse::<KeyName>().is_err() {
            return Err(format!("'{}' is not a role: use letters, digits and . _ -", word.escape_debug()));
        }
        if !roles.iter().any(|role| role == word) {
            roles.push(word.to_owned());
        }
    }
    Ok(roles)
}

fn section<'a>(zpl: &'a Zpl, name: &str) -> impl Iterator<Item = &'a Property> {
    zpl.find(name).into_iter().flat_map(|section| &section.children)
}

fn date(property: &Property) -> Result<SystemTime, CertificateError> {
    parse_date(&property.value).map_err(|error| wrong(property.line, format!("{}: {error}", property.name)))
}

fn roles(property: &Property) -> Result<Vec<String>, CertificateError> {
    parse_roles(&property.value).map_err(|error| wrong(property.line, error))
}

fn unknown(property: &Property, section: &str, known: &[&str]) -> CertificateError {
    let hint = match nearest(&property.name, known.iter().copied()) {
        Some(near) => format!("did you mean '{near}'?"),
        None => format!("there are {}", known.join(", ")),
    };
    wrong(property.line, format!("unknown property '{}' in section {section}: {hint}", property.name))
}

fn wrong(line: usize, why: impl Into<String>) -> CertificateError {
    CertificateError::Content { line, why: why.into() }
}

pub(crate) const EXPIRES: &str = "expires";
pub(crate) const VALID_FROM: &str = "valid-from";
pub(crate) const ROLES: &str = "roles";

/// CZMQ's ending of secret twins
pub(crate) const SECRET_ENDING: &str = "_secret";

const PUBLIC_COMMENT: &str = "\
#   ZeroMQ CURVE public certificate
#   Whoever is to trust this key needs this file. Compare the fingerprint over another way.
";

const SECRET_COMMENT: &str = "\
#   ZeroMQ CURVE **secret** certificate
#   Give this file to nobody, and leave its permissions as they are.
";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As CZMQ 4.2.1 wrote it
    const ZCERT: &str = concat!(
        "#   ****  Generated on 2026-11-21 12:17:40 by CZMQ  ****\n",
        "#   ZeroMQ CURVE **Secret** Certificate\n",
        "#   DO NOT PROVIDE THIS FILE TO OTHER USERS nor change its permissions.\n",
        "\n",
        "metadata\n",
        "    name = \"alpha \"q\" # x\"\n",
        "    empty = \"\"\n",
        "    email = \"a@b.c\"\n",
        "curve\n",
        "    public-key = \"x+NFrla0HPKdj>q1=FyBuNIUR/V8-sB)zkeL:(R>\"\n",
        "    secret-key = \"J[B}SthK^=26:ZDU+G]i4X]2M@iDj&WnUPe}-.oM\"\n",
    );

    fn own() -> Certificate {
        let mut certificate = Certificate::own(CurveSecretKey::from_octets([7; 32]));
        certificate.set_word("name", "north");
        certificate.set_word("expires", "2027-01-31");
        certificate
    }

    #[test]
    fn reads_what_czmq_writes() {
        let certificate = Certificate::parse(ZCERT).unwrap();
        assert_eq!(certificate.public_key.to_string(), "x+NFrla0HPKdj>q1=FyBuNIUR/V8-sB)zkeL:(R>");
        assert_eq!(certificate.secret_key.as_ref().unwrap().public(), certificate.public_key);
        assert_eq!(certificate.word("name"), Some("alpha \"q\" # x"));
        assert_eq!(certificate.word("empty"), Some(""));
        assert_eq!(certificate.expires(), None);
    }

    #[test]
    fn saved_and_loaded_with_its_twin() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("north.key");
        let mut certificate = own();
        certificate.trust.roles = vec!["a".to_owned(), "b".to_owned()];
        certificate.trust.expires = Some(parse_date("2027-01-01").unwrap());
        certificate.revoked = Some(Revocation { on: parse_date("2026-12-01").unwrap(), reason: "lost".to_owned() });
        certificate.save(&path).unwrap();
        let read = Certificate::load(&path).unwrap();
        assert_eq!(
            (&read.metadata, &read.trust, &read.revoked),
            (&certificate.metadata, &certificate.trust, &certificate.revoked)
        );
        assert!(read.secret_key.is_some());
        assert_eq!(read.expires(), certificate.trust.expires);

        let secret = certificate.secret_key.unwrap().to_z85();
        assert!(!std::fs::read_to_string(&path).unwrap().contains(secret.as_str()));
        assert!(Certificate::load_public(&path).unwrap().secret_key.is_none());
        assert!(Certificate::load_public(secret_path(&path)).is_err(), "a secret in a public file");
    }

    #[test]
    fn a_foreign_twin_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("north.key");
        own().save(&path).unwrap();
        let other = Certificate::own(CurveSecretKey::from_octets([8; 32]));
        other.save(directory.path().join("south.key")).unwrap();
        std::fs::copy(directory.path().join("south.key"), &path).unwrap();
        assert!(Certificate::load(&path).unwrap_err().to_string().contains("another public key"));
    }

    #[test]
    fn what_is_wrong_has_its_line_and_no_secret() {
        let key = "public-key = \"x+NFrla0HPKdj>q1=FyBuNIUR/V8-sB)zkeL:(R>\"";
        for (text, line, part) in [
            ("metadata\n".to_owned(), 0, "no public-key"),
            ("curve\n    public-key = \"short\"".to_owned(), 2, "public-key"),
            (format!("curve\n    {key}\n    secret-key = \"short\""), 3, "secret-key"),
            (ZCERT.replace("J[B}", "K[B}"), 11, "does not belong"),
            (format!("metadata\n    expires = \"soon\"\ncurve\n    {key}"), 2, "'soon' is not a date"),
            (format!("trust\n    rols = \"a\"\ncurve\n    {key}"), 2, "did you mean 'roles'?"),
            (format!("trust\n    roles = \"a, b/c\"\ncurve\n    {key}"), 2, "'b/c' is not a role"),
            (format!("revoked\n    when = \"a\"\ncurve\n    {key}"), 2, "unknown property 'when'"),
        ] {
            let error = Certificate::parse(&text).unwrap_err();
            let CertificateError::Content { line: found, why } = &error else { panic!("{error:?}") };
            assert_eq!(*found, line, "{error}");
            assert!(why.contains(part), "{error}");
            assert!(!error.to_string().contains("SthK"), "{error}");
        }
        assert!(matches!(Certificate::parse("a\n b"), Err(CertificateError::Zpl(_))));
    }

    #[test]
    fn debug_hides_the_secret() {
        let certificate = own();
        let secret = certificate.secret_key.as_ref().unwrap().to_z85();
        assert!(!format!("{certificate:?}").contains(secret.as_str()));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn altered_files_are_refused_by_line_or_read_back(
            at in 0..ZCERT.len(), cut in 0_usize..60, insert in "[ #=\"'a-z\t\r\n\u{0}\u{e9}]{0,6}"
        ) {
            let end = (at + cut).min(ZCERT.len());
            let text = format!("{}{insert}{}", &ZCERT[..at], &ZCERT[end..]);
            let lines = text.split(['\n', '\r']).count();
            match Certificate::parse(&text) {
                Ok(certificate) => if let Ok(written) = certificate.public_text() {
                    let again = Certificate::parse(&written).unwrap();
                    prop_assert_eq!(again.public_key, certificate.public_key);
                    prop_assert_eq!(again.metadata, certificate.metadata);
                    prop_assert!(again.secret_key.is_none());
                },
                Err(CertificateError::Zpl(error)) => prop_assert!((1..=lines).contains(&error.line), "{}", error),
                Err(CertificateError::Content { line, .. }) => prop_assert!(line <= lines),
            }
        }
    }
}
