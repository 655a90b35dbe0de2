//! What a reload changed, by name; never a secret.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::access::AccessRules;
use crate::keyset::{KeySet, OwnKey, RevokedKey, TrustedKey};

/// What a reload changed
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Changes {
    /// What was not there before
    pub added: Vec<Changed>,
    /// What is there no longer
    pub removed: Vec<Changed>,
    /// What is there still, and different
    pub changed: Vec<Changed>,
}

/// One thing that changed
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Changed {
    /// `own key`, `trusted key`, `revoked key`, `TLS certificate`, `user`, `rule`, …
    pub kind: &'static str,
    /// Its name
    pub name: String,
}

impl Changes {
    /// Whether all is as it was
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }

    /// What makes `new` of `old`
    pub(crate) fn between(old: &KeySet, new: &KeySet) -> Self {
        let (old, new) = (inventory(old), inventory(new));
        let mut changes = Self::default();
        for (changed, look) in &new {
            match old.get(changed) {
                None => changes.added.push(changed.clone()),
                Some(before) if before != look => changes.changed.push(changed.clone()),
                Some(_) => {}
            }
        }
        changes.removed = old.into_keys().filter(|changed| !new.contains_key(changed)).collect();
        changes
    }
}

impl fmt::Display for Changes {
    /// One line for each change, or `nothing changed`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signs = [("+", &self.added), ("-", &self.removed), ("~", &self.changed)];
        let lines: Vec<String> = signs
            .into_iter()
            .flat_map(|(sign, all)| all.iter().map(move |one| format!("{sign} {} {}", one.kind, one.name)))
            .collect();
        if lines.is_empty() { f.write_str("nothing changed") } else { f.write_str(&lines.join("\n")) }
    }
}

/// Everything that has a name, and what it looks like: two alike are the same
///
/// No look has a secret in it; a secret that changed shows by its public key. Of passwords, which have
/// no public side, there is a keyed trace.
fn inventory(keys: &KeySet) -> BTreeMap<Changed, String> {
    let mut all = BTreeMap::new();
    let mut put = |kind, name: String, look: String| drop(all.insert(Changed { kind, name }, look));
    for key in keys.own_keys() {
        let OwnKey { name, generation, public_key, metadata, .. } = &**key;
        put("own key", name.stem(*generation), format!("{public_key} {metadata:?}"));
    }
    for key in keys.trusted() {
        let TrustedKey { name, generation, public_key, roles, expires, metadata, .. } = &**key;
        put("trusted key", name.stem(*generation), format!("{public_key} {roles:?} {expires:?} {metadata:?}"));
    }
    for key in keys.revoked() {
        let RevokedKey { public_key, revocation, path, .. } = &**key;
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        put("revoked key", stem, format!("{public_key} {revocation:?}"));
    }
    for (folder, certificate) in keys.certificates() {
        let look = format!("{} {}", certificate.fingerprint, certificate.has_key);
        put("certificate", format!("{folder}/{}", certificate.name), look);
    }
    let AccessRules { default_key, addresses, policy, users, hashed: _, keys: key_rules, tls, domains } = &keys.access;
    for (name, user) in users {
        put("user", name.clone(), format!("{:?} {}", user.roles, user.password.trace()));
    }
    for (name, rule) in key_rules {
        put("rule", format!("keys.{name}"), format!("{rule:?}"));
    }
    for (name, rule) in tls {
        put("rule", format!("tls.{name}"), format!("{rule:?}"));
    }
    for (name, rule) in domains {
        put("rule", format!("domains.{name}"), format!("{rule:?}"));
    }
    put("rule", "default-key".to_owned(), format!("{default_key:?}"));
    put("rule", "addresses".to_owned(), format!("{addresses:?}"));
    put("rule", "policy".to_owned(), format!("{policy:?}"));
    all
}
