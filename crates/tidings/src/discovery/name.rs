//! `gossip:NAME`, which stands where an address could.

use std::fmt;

/// A name that nodes announce the address of
///
/// `gossip:services` is whatever is announced as that: the tuples `endpoint/services/NODE` of all nodes, in the order of
/// their keys, so that all who look for one find the same. `gossip:services/hub` is the one of a certain node. A tuple whose
/// key is the name itself counts, too: networks that were there before ours name their endpoints so.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Name(String);

impl Name {
    /// The name, if the text has the form; what is wrong with it, if it is wrong
    pub(crate) fn read(text: &str) -> Option<Result<Self, (String, Option<String>)>> {
        let name = text.strip_prefix(SCHEME)?;
        let fault = if name.starts_with("//") {
            let name = name.trim_start_matches('/');
            Some(("a name has no // before it", format!("write {SCHEME}{name}")))
        } else if name.is_empty() {
            Some(("the name is missing", format!("write {SCHEME}NAME, such as {SCHEME}services")))
        } else if name.len() > LONGEST {
            Some(("the name is too long", format!("a name has up to {LONGEST} octets")))
        } else if name.chars().any(|c| c.is_whitespace() || c.is_control())
            || name.starts_with('/')
            || name.ends_with('/')
        {
            Some(("a name has no blanks, and no / at its ends", format!("write {SCHEME}NAME or {SCHEME}NAME/NODE")))
        } else {
            None
        };
        Some(match fault {
            Some((message, hint)) => Err((format!("'{text}': {message}"), Some(hint))),
            None => Ok(Self(name.to_owned())),
        })
    }

    /// The beginnings of all keys that can tell its address
    pub(crate) fn prefixes(&self) -> [String; 2] {
        [format!("{ANNOUNCED}{}", self.0), self.0.clone()]
    }

    /// How good a key is for it: the lower, the better; `None` if it is about something else
    pub(super) fn rank(&self, key: &str) -> Option<u8> {
        match key.strip_prefix(ANNOUNCED).and_then(|rest| rest.strip_prefix(self.0.as_str())) {
            Some("") => Some(0),
            Some(rest) if rest.starts_with('/') => Some(1),
            _ if key == self.0 => Some(2),
            _ => None,
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", self.0)
    }
}

/// The key under which a node announces what it serves
pub(crate) fn key_of(name: &str, node: &str) -> String {
    format!("{ANNOUNCED}{name}/{node}")
}

const SCHEME: &str = "gossip:";

/// How the keys of announcements begin
pub(crate) const ANNOUNCED: &str = "endpoint/";

/// A key has 255 octets (ZGP's string), and the announcement's beginning is part of it
const LONGEST: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::read(text).unwrap().unwrap()
    }

    #[test]
    fn addresses_are_no_names_and_bad_names_are_told() {
        assert!(Name::read("tcp://127.0.0.1:1").is_none());
        for (text, part) in [
            ("gossip:", "missing"),
            ("gossip://services", "no // before it"),
            ("gossip:a b", "blanks"),
            ("gossip:a/", "at its ends"),
            ("gossip:\u{1}", "blanks"),
        ] {
            let (message, hint) = Name::read(text).unwrap().unwrap_err();
            assert!(message.contains(part) && hint.is_some(), "{text}: {message}");
        }
        assert!(Name::read(&format!("gossip:{}", "x".repeat(201))).unwrap().is_err());
        assert_eq!(name("gossip:services/hub").to_string(), "gossip:services/hub");
    }

    #[test]
    fn announcements_come_before_keys_of_others() {
        let services = name("gossip:services");
        assert_eq!(services.rank("endpoint/services/hub"), Some(1));
        assert_eq!(services.rank("endpoint/services"), Some(0));
        assert_eq!(services.rank("services"), Some(2));
        for other in ["endpoint/services2/hub", "service", "endpoint/", "x", "endpoint/events-in/hub"] {
            assert_eq!(services.rank(other), None, "{other}");
        }
        assert_eq!(name("gossip:services/hub").rank(&key_of("services", "hub")), Some(0));
    }
}
