//! Who may take part, publish and read: the rules of the configuration, asked about a connection.

use std::sync::{PoisonError, RwLock};

use tidings::Origin;
use tidings_gossip::driver::Access;

use crate::config::{AccessRule, Settings};
use crate::serve::access::{allows, allows_all, roles_of};

/// The rules in force; a reload exchanges them
#[derive(Debug)]
pub(super) struct Rules(RwLock<Lists>);

#[derive(Debug, Default)]
struct Lists {
    publish: Vec<AccessRule>,
    read: Vec<AccessRule>,
    /// Roles; empty: everybody
    join: Vec<String>,
    /// Roles; empty: everybody who may join
    relay: Vec<String>,
}

impl Rules {
    pub(super) fn new(settings: &Settings) -> Self {
        let rules = Self(RwLock::default());
        rules.change(settings);
        rules
    }

    /// Decides by other rules from now on; whoever has joined stays
    pub(super) fn change(&self, settings: &Settings) {
        let lists = Lists {
            publish: settings.gossip_publish.value.clone(),
            read: settings.gossip_read.value.clone(),
            join: settings.gossip_join.value.0.clone(),
            relay: settings.gossip_relay.value.0.clone(),
        };
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = lists;
    }

    /// Whether the peer at the other end of a connection may
    pub(super) fn may(&self, origin: &Origin, access: Access, key: &[u8]) -> bool {
        self.judge(roles_of(origin), access, key)
    }

    /// The same by its roles; `None` for one that is not known
    fn judge(&self, roles: Option<&str>, access: Access, key: &[u8]) -> bool {
        let lists = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let by = |rules: &[AccessRule], key: &[u8]| rules.is_empty() || allows(rules, roles, key);
        let has = |wanted: &String| match roles {
            Some(roles) => roles.split(',').any(|own| own == wanted),
            None => wanted == ANONYMOUS,
        };
        let has_one = |wanted: &[String]| wanted.is_empty() || wanted.iter().any(has);
        match access {
            Access::Join => has_one(&lists.join),
            Access::Relay => has_one(&lists.relay),
            Access::Write => by(&lists.publish, key),
            Access::Read => by(&lists.read, key),
            Access::List => lists.read.is_empty() || allows_all(&lists.read, roles, key),
            // The nodes tell such things of themselves
            Access::Inspect => lists.read.is_empty() || allows_all(&lists.read, roles, OWN_KEYS),
            // What later versions ask for is not allowed by rules that don't know it
            _ => lists.publish.is_empty() && lists.read.is_empty() && lists.join.is_empty(),
        }
    }
}

/// The keystore's word for peers without a key
const ANONYMOUS: &str = "anonymous";

/// How the nodes' own keys begin
const OWN_KEYS: &[u8] = b"$tidings/";

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(settings: &[(&str, &str)]) -> Rules {
        let mut sources = crate::config::Sources::default();
        settings.iter().for_each(|(key, value)| sources.flag("--set", key, *value));
        Rules::new(&sources.load().unwrap())
    }

    #[test]
    fn without_rules_all_that_were_let_in_may_everything() {
        let rules = rules(&[]);
        for access in [Access::Join, Access::Relay, Access::Write, Access::Read, Access::List, Access::Inspect] {
            assert!(rules.judge(None, access, b"x") && rules.judge(Some("sensor"), access, b"x"), "{access:?}");
        }
    }

    #[test]
    fn each_kind_of_rule_is_about_its_own() {
        let rules = rules(&[
            ("gossip.publish", "operator config/*,* status/*"),
            ("gossip.read", "operator *,sensor config/*,sensor rate"),
            ("gossip.join", "node, anonymous"),
            ("gossip.relay", "node"),
        ]);
        let (operator, sensor) = (Some("operator"), Some("sensor,other"));
        for (roles, access, key, expected) in [
            (operator, Access::Write, "config/rate", true),
            (operator, Access::Write, "endpoint/x/y", false),
            (sensor, Access::Write, "config/rate", false),
            (sensor, Access::Write, "status/me", true),
            (None, Access::Write, "status/me", true),
            (operator, Access::List, "", true),
            (sensor, Access::Read, "config/rate", true),
            (sensor, Access::List, "config/", true),
            (sensor, Access::List, "config/r", true),
            (sensor, Access::List, "config", false),
            (sensor, Access::List, "", false),
            // A rule of one key says nothing of those that begin like it
            (sensor, Access::Read, "rate", true),
            (sensor, Access::Read, "rate-secret", false),
            (sensor, Access::List, "rate", false),
            (operator, Access::Inspect, "", true),
            (sensor, Access::Inspect, "", false),
            (Some("node"), Access::Join, "", true),
            (Some("node"), Access::Relay, "", true),
            (None, Access::Relay, "", false),
            (None, Access::Join, "", true),
            (sensor, Access::Join, "", false),
        ] {
            assert_eq!(rules.judge(roles, access, key.as_bytes()), expected, "{roles:?} {access:?} {key}");
        }
    }
}
