//! `tidings key show`: all about a key but its secret; and the lines that other verbs show of one, too.

use std::io::IsTerminal as _;
use std::time::{Duration, SystemTime};

use clap::Args;
use serde_json::{Value, json};
use tidings_keystore::{
    CurvePublicKey, Fingerprint, KeySet, KeystoreError, OwnKey, PemCertificate, RevokedKey, TrustedKey, display_date,
    display_expiry,
};

use super::place::{Place, failure};
use crate::cli::{Failure, Talk, nearest, printed};

/// What `key show` is given
#[derive(Args, Debug)]
pub(crate) struct ShowArgs {
    /// The key's name; without it, the key of our own
    name: Option<String>,
    #[command(flatten)]
    place: Place,
}

/// One key or certificate, as all verbs show it
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// `own`, `trusted`, `revoked`, `tls`, `cms`, `trusted tls`, `revoked tls`
    pub(super) kind: &'static str,
    pub(super) name: String,
    /// What is shown: the name, with the generation where there are several
    pub(super) label: String,
    pub(super) public_key: Option<CurvePublicKey>,
    pub(super) fingerprint: Fingerprint,
    pub(super) roles: Vec<String>,
    pub(super) expires: Option<SystemTime>,
    pub(super) state: String,
    /// The owner's own words, and what else there is to say
    words: Vec<(String, String)>,
    file: String,
}

/// `tidings key show [NAME]`
///
/// # Errors
/// There is no such key, or the keystore can't be read.
pub(crate) fn run(args: &ShowArgs, talk: Talk) -> Result<(), Failure> {
    let keystore = args.place.open()?;
    let (keys, now) = (keystore.keys(), SystemTime::now());
    let entries = entries(&keys, now);
    let name = match &args.name {
        Some(name) => name.clone(),
        None => keys.own_default(now).map_err(failure)?.name.to_string(),
    };
    let found: Vec<&Entry> = entries.iter().filter(|entry| entry.name == name || entry.label == name).collect();
    if found.is_empty() {
        let suggestion = nearest(&name, entries.iter().map(|entry| entry.name.as_str()));
        let suggestion = suggestion.map(|near| format!("did you mean '{near}'?"));
        return Err(failure(KeystoreError::NoSuchKey { kind: "key", name, suggestion }));
    }
    let outcome = if talk.json {
        talk.data(json!({ "ok": true, "keys": found.iter().map(|entry| entry.to_json(now)).collect::<Value>() }))
    } else {
        let texts: Vec<String> = found.iter().map(|entry| entry.describe(now, Paint::stdout())).collect();
        talk.data(texts.join("\n\n"))
    };
    printed(outcome).map(|_| ())
}

/// All keys and certificates of a keystore
pub(super) fn entries(keys: &KeySet, now: SystemTime) -> Vec<Entry> {
    let own = keys.own_keys().map(|key| Entry::own(keys, key, now));
    let trusted = keys.trusted().map(|key| Entry::trusted(key, now));
    let revoked = keys.revoked().map(|key| Entry::revoked(key));
    let certificates = keys.certificates().map(|(folder, certificate)| Entry::certificate(folder, certificate, now));
    own.chain(trusted).chain(revoked).chain(certificates).collect()
}

impl Entry {
    pub(super) fn own(keys: &KeySet, key: &OwnKey, now: SystemTime) -> Self {
        let current = keys.own(key.name.as_str(), now).is_ok_and(|current| current.generation == key.generation);
        let state = match (key.valid_from.filter(|start| *start > now), key.expires) {
            (Some(start), _) => format!("takes over on {}", display_date(start)),
            (None, Some(end)) if end <= now => "expired".to_owned(),
            _ if current => "in use".to_owned(),
            _ => "replaced".to_owned(),
        };
        Self {
            kind: "own",
            name: key.name.to_string(),
            label: label(key.name.as_str(), key.generation),
            public_key: Some(key.public_key),
            fingerprint: key.fingerprint,
            roles: word(&key.metadata, "roles")
                .and_then(|roles| tidings_keystore::parse_roles(roles).ok())
                .unwrap_or_default(),
            expires: key.expires,
            state,
            words: other_words(&key.metadata),
            file: key.path.display().to_string(),
        }
    }

    pub(super) fn trusted(key: &TrustedKey, now: SystemTime) -> Self {
        let expired = key.expires.is_some_and(|end| end <= now);
        Self {
            kind: "trusted",
            name: key.name.to_string(),
            label: label(key.name.as_str(), key.generation),
            public_key: Some(key.public_key),
            fingerprint: key.fingerprint,
            roles: key.roles.clone(),
            expires: key.expires,
            state: if expired { "expired" } else { "let in" }.to_owned(),
            words: other_words(&key.metadata),
            file: key.path.display().to_string(),
        }
    }

    fn revoked(key: &RevokedKey) -> Self {
        let reason = &key.revocation.reason;
        let on = display_date(key.revocation.on);
        Self {
            kind: "revoked",
            name: key.name.to_string(),
            label: key.path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            public_key: Some(key.public_key),
            fingerprint: key.fingerprint,
            roles: Vec::new(),
            expires: None,
            state: if reason.is_empty() { format!("revoked on {on}") } else { format!("revoked on {on}: {reason}") },
            words: Vec::new(),
            file: key.path.display().to_string(),
        }
    }

    pub(super) fn certificate(folder: &'static str, certificate: &PemCertificate, now: SystemTime) -> Self {
        let mut words = vec![("subject".to_owned(), certificate.subject.clone())];
        if !certificate.names.is_empty() {
            words.push(("for".to_owned(), certificate.names.join(", ")));
        }
        let state = match certificate {
            _ if folder == "revoked" => "revoked",
            expired if expired.not_after <= now => "expired",
            early if early.not_before > now => "not good yet",
            authority if authority.is_authority && authority.has_key => "authority, with its key",
            authority if authority.is_authority => "authority",
            own if own.has_key => "in use",
            _ if folder == "trusted" => "let in",
            _ => "without its key",
        };
        Self {
            kind: match folder {
                "trusted" => "trusted tls",
                "revoked" => "revoked tls",
                own => own,
            },
            name: certificate.name.clone(),
            label: certificate.name.clone(),
            public_key: None,
            fingerprint: certificate.fingerprint,
            roles: Vec::new(),
            expires: Some(certificate.not_after),
            state: state.to_owned(),
            words,
            file: certificate.path.display().to_string(),
        }
    }

    /// The lines of `show`: picture, and all that is known
    pub(super) fn describe(&self, now: SystemTime, paint: Paint) -> String {
        let mut lines = vec![format!("{} ({})", self.label, self.kind)];
        let title = if self.public_key.is_some() { "CURVE" } else { "X.509" };
        lines.push(self.fingerprint.picture(title));
        let mut fact = |what: &str, value: &str| lines.push(format!("{what:<12} {value}"));
        fact("fingerprint", &self.fingerprint.words());
        let digits = self.fingerprint.to_string();
        let (first, second) = digits.split_at_checked(39).unwrap_or((&digits, ""));
        fact("", first);
        fact("", second.trim());
        if let Some(public_key) = self.public_key {
            fact("public key", &public_key.to_string());
        }
        if !self.roles.is_empty() {
            fact(if self.kind == "own" { "asks to be" } else { "roles" }, &self.roles.join(", "));
        }
        fact("expires", &self.expiry(now, paint));
        fact("state", &self.state);
        for (word, value) in self.words.iter().filter(|(word, value)| !(word == "name" && *value == self.name)) {
            fact(&shown(word), &shown(value));
        }
        fact("file", &self.file);
        lines.join("\n")
    }

    /// The end in words, and when it is
    pub(super) fn expiry(&self, now: SystemTime, paint: Paint) -> String {
        match self.expires {
            None => "never".to_owned(),
            Some(end) => paint.soon(end, now, &format!("{}: {}", display_date(end), display_expiry(end, now))),
        }
    }

    pub(super) fn to_json(&self, now: SystemTime) -> Value {
        let left = self.expires.map(|end| match end.duration_since(now) {
            Ok(left) => i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            Err(past) => i64::try_from(past.duration().as_secs()).map_or(i64::MIN, |seconds| -seconds),
        });
        json!({
            "kind": self.kind,
            "name": self.name,
            "label": self.label,
            "public_key": self.public_key.map(|key| key.to_string()),
            "fingerprint": self.fingerprint.to_string().replace(' ', ""),
            "words": self.fingerprint.words(),
            "roles": self.roles,
            "expires": self.expires.map(display_date),
            "seconds_left": left,
            "state": self.state,
            "metadata": self.words.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
            "file": self.file,
        })
    }
}

/// Colour, where it is welcome
#[derive(Clone, Copy, Debug)]
pub(super) struct Paint(bool);

impl Paint {
    /// For data on stdout
    pub(super) fn stdout() -> Self {
        Self(std::io::stdout().is_terminal() && welcome())
    }

    /// Red for what has ended, or ends within two weeks
    pub(super) fn soon(self, end: SystemTime, now: SystemTime, text: &str) -> String {
        let soon = end.duration_since(now).is_ok_and(|left| left < SOON) || end <= now;
        if self.0 && soon { format!("\x1b[31m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// As for talk: no NO_COLOR (no-color.org), and not a dumb terminal
fn welcome() -> bool {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    set("NO_COLOR").is_none() && set("TERM").is_none_or(|term| term != "dumb")
}

fn label(name: &str, generation: u32) -> String {
    if generation > 1 { format!("{name}~{generation}") } else { name.to_owned() }
}

fn word<'a>(words: &'a [(String, String)], name: &str) -> Option<&'a str> {
    words.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// The words that are not shown elsewhere
fn other_words(words: &[(String, String)]) -> Vec<(String, String)> {
    words.iter().filter(|(word, _)| !matches!(word.as_str(), "roles" | "expires")).cloned().collect()
}

/// A peer's words, unable to steer the terminal
fn shown(text: &str) -> String {
    crate::cli::output::escape(text.as_bytes())
}

/// The issue of a key's end begins to be pressing
const SOON: Duration = Duration::from_secs(14 * 86_400);

pub(super) const EXAMPLES: &str = "\
Examples:
  tidings key show                 the key of our own
  tidings key show north           whatever has this name
  tidings key show --json hub | jq -r .keys[0].words";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_ends_soon_is_red() {
        let now = SystemTime::now();
        let day = Duration::from_secs(86_400);
        assert_eq!(Paint(true).soon(now + 15 * day, now, "x"), "x");
        assert_eq!(Paint(true).soon(now + 13 * day, now, "x"), "\x1b[31mx\x1b[0m");
        assert_eq!(Paint(true).soon(now - day, now, "x"), "\x1b[31mx\x1b[0m");
        assert_eq!(Paint(false).soon(now, now, "x"), "x");
    }
}
