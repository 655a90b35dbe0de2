//! `access.toml`: who may come in, from where, and as what.
//!
//! ```toml
//! default-key = "hub"                 # which of several own keys, where nobody says
//!
//! [addresses]                         # of IP peers; a denied range wins, an allow list is exclusive
//! allow = ["192.0.2.0/24", "::1"]
//! deny = ["192.0.2.66"]
//!
//! [policy]
//! anonymous = "local"                 # NULL without a client certificate: "deny", "local" (loopback, ipc, inproc), "allow"
//! unknown-keys = "deny"               # CURVE keys that are in no file: "deny", or "allow" for encryption alone
//! unknown-certificates = "deny"       # TLS certificates of a trusted authority that no rule names: "deny", "allow"
//!
//! [users.alice]                       # PLAIN; then nobody else may read this file
//! password = "open sesame"            # or  password-hash = "pbkdf2-sha256:…", from `tidings key password`
//! roles = ["operator"]
//!
//! [keys.node]                         # more roles for a key in trusted/, and where it may come from
//! roles = ["sensor"]
//! addresses = ["192.0.2.0/24"]
//!
//! [tls.gateway]                       # a TLS client certificate, by what is in it
//! common-name = "gateway.example.org" # or  fingerprint = "ba78 16bf …"
//! roles = ["sensor"]
//!
//! [domains.plant]                     # what the sockets of one ZAP domain ask for besides
//! mechanisms = ["CURVE"]
//! names = ["node"]                    # let in: these names, and whoever has one of these roles
//! roles = ["sensor"]
//! allow = ["192.0.2.0/25"]
//! deny = []
//! ```

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use ipnet::IpNet;
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use zeroize::Zeroizing;

use crate::addresses::{AddressRules, parse_range};
use crate::error::nearest;
use crate::password::Password;
use crate::{AccessProblem, Fingerprint, KeyName, KeystoreError};

/// The rules of a keystore
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AccessRules {
    /// Which of several own keys to use, where nobody says
    pub default_key: Option<KeyName>,
    /// Where peers may come from
    pub addresses: AddressRules,
    /// What happens to those whom nothing names
    pub policy: Policy,
    pub(crate) users: BTreeMap<String, User>,
    /// Whether any user's password is a hash
    pub(crate) hashed: bool,
    pub(crate) keys: BTreeMap<KeyName, KeyRule>,
    pub(crate) tls: BTreeMap<KeyName, TlsRule>,
    pub(crate) domains: BTreeMap<String, DomainRule>,
}

/// What happens to those whom nothing names
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Policy {
    /// NULL peers without a client certificate
    pub anonymous: Anonymous,
    /// Whether CURVE keys that are in no file are let in, without a name
    pub unknown_keys: bool,
    /// Whether TLS client certificates of a trusted authority are let in where no rule names them, without a name
    pub unknown_certificates: bool,
}

/// Who may come without saying who they are
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Anonymous {
    /// Nobody
    Deny,
    /// Those on this host: loopback, ipc, inproc
    #[default]
    Local,
    /// Everyone
    Allow,
}

impl Default for Policy {
    /// Nobody from outside whom nothing names
    fn default() -> Self {
        Self { anonymous: Anonymous::Local, unknown_keys: false, unknown_certificates: false }
    }
}

/// A PLAIN user
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct User {
    pub(crate) password: Password,
    pub(crate) roles: Vec<String>,
}

/// More about a key in `trusted/`
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct KeyRule {
    pub(crate) roles: Vec<String>,
    pub(crate) addresses: AddressRules,
}

/// A TLS client certificate, and who its holder is
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct TlsRule {
    pub(crate) fingerprint: Option<Fingerprint>,
    pub(crate) common_name: Option<String>,
    pub(crate) roles: Vec<String>,
}

/// What the sockets of one domain ask for
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct DomainRule {
    pub(crate) mechanisms: Option<Vec<String>>,
    /// `None` where the rule asks for neither
    pub(crate) members: Option<Members>,
    pub(crate) addresses: AddressRules,
}

/// Who may enter a domain: these names, and those roles
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Members {
    pub(crate) names: Vec<String>,
    pub(crate) roles: Vec<String>,
}

impl AccessRules {
    /// Reads the text of `access.toml`
    ///
    /// # Errors
    /// All problems, each with line and column.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, KeystoreError> {
        let mut reader = Reader { path, text, problems: Vec::new() };
        let mut rules = Self::default();
        match DeTable::parse(text) {
            Ok(root) => rules.read(&mut reader, root.get_ref()),
            Err(error) => reader.problem(error.span().unwrap_or(0..0), error.message(), None),
        }
        // Tables come in the order of their keys; people read from top to bottom
        reader.problems.sort_by_key(|problem| (problem.line, problem.column));
        KeystoreError::all(reader.problems.into_iter().map(KeystoreError::Access).collect())?;
        rules.hashed = rules.users.values().any(|user| matches!(user.password, Password::Hash { .. }));
        Ok(rules)
    }

    /// Whether others must not read the file
    pub(crate) fn has_passwords(&self) -> bool {
        !self.users.is_empty()
    }

    fn read(&mut self, reader: &mut Reader<'_>, root: &DeTable<'_>) {
        const SECTIONS: &[&str] = &["default-key", "addresses", "policy", "users", "keys", "tls", "domains"];
        for (key, value) in root {
            match key.get_ref().as_ref() {
                "default-key" => self.default_key = reader.string(value).and_then(|text| reader.name(value, text)),
                "addresses" => self.addresses = reader.addresses(value),
                "policy" => self.policy = reader.policy(value),
                "users" => self.users = reader.named(value, Reader::user, |name| Ok(name.to_owned())),
                "keys" => self.keys = reader.named(value, Reader::key_rule, str::parse),
                "tls" => self.tls = reader.named(value, Reader::tls_rule, str::parse),
                "domains" => self.domains = reader.named(value, Reader::domain_rule, |name| Ok(name.to_owned())),
                _ => reader.unknown(key, "access.toml", SECTIONS),
            }
        }
    }
}

type Key<'a> = Spanned<Cow<'a, str>>;
type Value<'a> = Spanned<DeValue<'a>>;

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    problems: Vec<AccessProblem>,
}

impl Reader<'_> {
    fn problem(&mut self, span: Range<usize>, message: impl Into<String>, hint: Option<String>) {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        self.problems.push(AccessProblem {
            path: self.path.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
            message: message.into(),
            hint,
        });
    }

    fn unknown(&mut self, key: &Key<'_>, place: &str, known: &[&str]) {
        let hint = match nearest(key.get_ref(), known.iter().copied()) {
            Some(near) => format!("did you mean '{near}'?"),
            None => format!("there are {}", known.join(", ")),
        };
        self.problem(key.span(), format!("unknown key '{}' in {place}", key.get_ref().escape_debug()), Some(hint));
    }

    /// The keys of a table, each with its value; a problem if it is none
    fn table<'v, 'd>(&mut self, value: &'v Value<'d>) -> Vec<(&'v Key<'d>, &'v Value<'d>)> {
        match value.get_ref() {
            DeValue::Table(table) => table.iter().collect(),
            _ => {
                let hint = Some("write its name in brackets on a line of its own, and its keys below".to_owned());
                self.problem(value.span(), "a section is expected here", hint);
                Vec::new()
            }
        }
    }

    /// A table of tables, each beneath a name
    fn named<N: Ord, T>(
        &mut self,
        value: &Value<'_>,
        read: fn(&mut Self, &Value<'_>) -> Option<T>,
        name_of: fn(&str) -> Result<N, crate::NameError>,
    ) -> BTreeMap<N, T> {
        let mut all = BTreeMap::new();
        for (key, value) in self.table(value) {
            let name = name_of(key.get_ref());
            let rule = read(self, value);
            match (name, rule) {
                (Ok(name), Some(rule)) => drop(all.insert(name, rule)),
                (Err(error), _) => self.problem(key.span(), error.to_string(), None),
                (Ok(_), None) => {}
            }
        }
        all
    }

    fn string<'v>(&mut self, value: &'v Value<'_>) -> Option<&'v str> {
        let text = value.get_ref().as_str();
        if text.is_none() {
            self.problem(value.span(), "a string is expected here", None);
        }
        text
    }

    fn name(&mut self, value: &Value<'_>, text: &str) -> Option<KeyName> {
        let name = text.parse();
        name.map_err(|error: crate::NameError| self.problem(value.span(), error.to_string(), None)).ok()
    }

    /// Strings, each of which is read; a single one is taken for a list of one
    fn list<T>(&mut self, value: &Value<'_>, read: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        let single = std::slice::from_ref(value);
        let items: Vec<&Value<'_>> = match value.get_ref() {
            DeValue::Array(array) => array.iter().collect(),
            _ => single.iter().collect(),
        };
        let mut all = Vec::new();
        for item in items {
            let Some(text) = self.string(item) else { continue };
            match read(text) {
                Ok(read) => all.push(read),
                Err(message) => self.problem(item.span(), message, None),
            }
        }
        all
    }

    fn ranges(&mut self, value: &Value<'_>) -> Vec<IpNet> {
        self.list(value, parse_range)
    }

    fn roles(&mut self, value: &Value<'_>) -> Vec<String> {
        self.list(value, |text| match text.parse::<KeyName>() {
            Ok(role) => Ok(role.to_string()),
            Err(_) => Err(format!("'{}' is not a role: use letters, digits and . _ -", text.escape_debug())),
        })
    }

    /// One of some words
    fn choice<T: Copy>(&mut self, value: &Value<'_>, choices: &[(&str, T)]) -> Option<T> {
        let text = self.string(value)?;
        let found = choices.iter().find(|(word, _)| *word == text).map(|(_, choice)| *choice);
        if found.is_none() {
            let words: Vec<String> = choices.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            let message = format!("'{}' is none of {}", text.escape_debug(), words.join(", "));
            self.problem(value.span(), message, None);
        }
        found
    }

    fn addresses(&mut self, value: &Value<'_>) -> AddressRules {
        let mut rules = AddressRules::default();
        for (key, value) in self.table(value) {
            match key.get_ref().as_ref() {
                "allow" => rules.allow = self.ranges(value),
                "deny" => rules.deny = self.ranges(value),
                _ => self.unknown(key, "[addresses]", &["allow", "deny"]),
            }
        }
        rules
    }

    fn policy(&mut self, value: &Value<'_>) -> Policy {
        const DENY_ALLOW: &[(&str, bool)] = &[("deny", false), ("allow", true)];
        let anonymous = [("deny", Anonymous::Deny), ("local", Anonymous::Local), ("allow", Anonymous::Allow)];
        let mut policy = Policy::default();
        for (key, value) in self.table(value) {
            match key.get_ref().as_ref() {
                "anonymous" => policy.anonymous = self.choice(value, &anonymous).unwrap_or_default(),
                "unknown-keys" => policy.unknown_keys = self.choice(value, DENY_ALLOW).unwrap_or_default(),
                "unknown-certificates" => {
                    policy.unknown_certificates = self.choice(value, DENY_ALLOW).unwrap_or_default();
                }
                _ => self.unknown(key, "[policy]", &["anonymous", "unknown-keys", "unknown-certificates"]),
            }
        }
        policy
    }

    fn user(&mut self, value: &Value<'_>) -> Option<User> {
        let (mut password, mut roles) = (None, Vec::new());
        let before = self.problems.len();
        for (key, value) in self.table(value) {
            match key.get_ref().as_ref() {
                "password" | "password-hash" if password.is_some() => {
                    self.problem(key.span(), "a user has either password or password-hash", None);
                }
                "password" => {
                    password = self.string(value).map(|text| Password::Text(Zeroizing::new(text.to_owned())));
                }
                "password-hash" => {
                    let read = self.string(value).map(Password::from_hash_text);
                    password = read.and_then(|read| read.map_err(|why| self.problem(value.span(), why, None)).ok());
                }
                "roles" => roles = self.roles(value),
                _ => self.unknown(key, "[users.NAME]", &["password", "password-hash", "roles"]),
            }
        }
        if password.is_none() && self.problems.len() == before {
            let hint = "write  password-hash = \"…\"  with what `tidings key password` prints".to_owned();
            self.problem(value.span(), "this user has no password", Some(hint));
        }
        Some(User { password: password?, roles })
    }

    fn key_rule(&mut self, value: &Value<'_>) -> Option<KeyRule> {
        let mut rule = KeyRule::default();
        for (key, value) in self.table(value) {
            match key.get_ref().as_ref() {
                "roles" => rule.roles = self.roles(value),
                "addresses" => rule.addresses.allow = self.ranges(value),
                _ => self.unknown(key, "[keys.NAME]", &["roles", "addresses"]),
            }
        }
        Some(rule)
    }

    fn tls_rule(&mut self, value: &Value<'_>) -> Option<TlsRule> {
        let mut rule = TlsRule::default();
        let before = self.problems.len();
        for (key, value) in self.table(value) {
            match key.get_ref().as_ref() {
                "common-name" => rule.common_name = self.string(value).map(ToOwned::to_owned),
                "fingerprint" => {
                    rule.fingerprint = self.string(value).and_then(Fingerprint::from_hex);
                    if rule.fingerprint.is_none() {
                        let hint = "it is the SHA-256 of the certificate: 64 hexadecimal digits".to_owned();
                        self.problem(value.span(), "this is no fingerprint", Some(hint));
                    }
                }
                "roles" => rule.roles = self.roles(value),
                _ => self.unknown(key, "[tls.NAME]", &["common-name", "fingerprint", "roles"]),
            }
        }
        if rule.common_name.is_none() && rule.fingerprint.is_none() && self.problems.len() == before {
            self.problem(value.span(), "a TLS rule needs a common-name or a fingerprint", None);
        }
        Some(rule)
    }

    fn domain_rule(&mut self, value: &Value<'_>) -> Option<DomainRule> {
        let mut rule = DomainRule::default();
        let mut members = Members::default();
        let mut has_members = false;
        for (key, value) in self.table(value) {
            match key.get_ref().as_ref() {
                "mechanisms" => {
                    rule.mechanisms = Some(self.list(value, |text| match MECHANISMS.contains(&text) {
                        true => Ok(text.to_owned()),
                        false => Err(format!("'{}' is none of {}", text.escape_debug(), MECHANISMS.join(", "))),
                    }));
                }
                "names" => (has_members, members.names) = (true, self.list(value, |text| Ok(text.to_owned()))),
                "roles" => (has_members, members.roles) = (true, self.roles(value)),
                "allow" => rule.addresses.allow = self.ranges(value),
                "deny" => rule.addresses.deny = self.ranges(value),
                _ => self.unknown(key, "[domains.NAME]", &["mechanisms", "names", "roles", "allow", "deny"]),
            }
        }
        rule.members = has_members.then_some(members);
        Some(rule)
    }
}

/// `TLS` is NULL inside of TLS with a client certificate
const MECHANISMS: &[&str] = &["NULL", "PLAIN", "CURVE", "TLS"];

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<AccessRules, String> {
        AccessRules::parse(Path::new("access.toml"), text).map_err(|error| error.to_string())
    }

    /// The example of the documentation above
    fn example() -> String {
        let lines = include_str!("access.rs").lines().skip_while(|line| *line != "//! ```toml").skip(1);
        let lines = lines.take_while(|line| *line != "//! ```");
        let lines: Vec<&str> = lines.map(|line| line.trim_start_matches("//!").trim_start()).collect();
        lines.join("\n")
    }

    #[test]
    fn the_documented_example_is_right() {
        let rules = parse(&example()).unwrap();
        assert_eq!(rules.default_key.map(|name| name.to_string()), Some("hub".to_owned()));
        assert_eq!(rules.addresses.allow.len(), 2);
        assert_eq!(rules.policy, Policy::default());
        assert_eq!(rules.users["alice"].roles, ["operator"]);
        assert_eq!(rules.keys["node"].roles, ["sensor"]);
        assert_eq!(rules.tls["gateway"].common_name.as_deref(), Some("gateway.example.org"));
        let plant = &rules.domains["plant"];
        assert_eq!(plant.mechanisms.as_deref(), Some(&["CURVE".to_owned()][..]));
        assert_eq!(plant.members.as_ref().unwrap().names, ["node"]);
    }

    #[test]
    fn what_is_wrong_has_its_line_and_column_and_what_to_write() {
        for (text, start, part) in [
            ("[adresses]\nallow = []\n", "access.toml:1:2: unknown key 'adresses'", "did you mean 'addresses'?"),
            ("[addresses]\nalow = []\n", "access.toml:2:1: unknown key 'alow'", "did you mean 'allow'?"),
            ("[addresses]\nallow = [\"::1\", \"10.0.0.1/8\"]\n", "access.toml:2:17:", "write 10.0.0.0/8"),
            ("addresses = 3\n", "access.toml:1:13: a section is expected", "brackets"),
            ("[policy]\nanonymous = \"maybe\"\n", "access.toml:2:13: 'maybe' is none of", "\"local\""),
            ("[users.a]\nroles = [\"x\"]\n", "access.toml:1:1: this user has no password", "password-hash"),
            ("[users.a]\npassword = 3\n", "access.toml:2:12: a string is expected", ""),
            ("[users.a]\npassword-hash = \"x\"\n", "access.toml:2:17: write pbkdf2-sha256", ""),
            ("[keys.\"a/b\"]\n", "access.toml:1:7: 'a/b' is not a name", ""),
            ("[keys.a]\nroles = [\"a b\"]\n", "access.toml:2:10: 'a b' is not a role", ""),
            ("[tls.a]\n", "access.toml:1:1: a TLS rule needs", ""),
            ("[tls.a]\nfingerprint = \"12\"\n", "access.toml:2:15: this is no fingerprint", "64"),
            ("[domains.a]\nmechanisms = [\"curve\"]\n", "access.toml:2:15: 'curve' is none of", "CURVE"),
            ("[addresses\n", "access.toml:1:11:", ""),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(start), "{text:?}: {error}");
            assert!(error.contains(part), "{text:?}: {error}");
        }
    }

    #[test]
    fn all_problems_are_told_and_no_password() {
        let error =
            parse("[users.a]\npassword = \"hush\"\npasword = \"hush\"\n\n[policy]\nnull = \"x\"\n").unwrap_err();
        assert!(error.starts_with("2 problems"), "{error}");
        assert!(error.contains("access.toml:3:1") && error.contains("access.toml:6:1"), "{error}");
        assert!(!error.contains("hush"), "{error}");
    }
}
