//! What tuples say of a name: where it is, and what of it can't be used.

use std::collections::BTreeMap;

use tidings::Endpoint;

use super::{Name, Sighting};
use crate::cli::output::escape;

/// The tuples about one name, as far as they have come
#[derive(Clone, Debug)]
pub(crate) struct Known {
    name: Name,
    /// By rank and key
    places: BTreeMap<(u8, String), String>,
}

/// Where something is
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Place {
    /// The key that says so
    pub(crate) key: String,
    pub(crate) endpoint: Endpoint,
}

impl Known {
    /// Nothing is known yet
    pub(crate) fn new(name: Name) -> Self {
        Self { name, places: BTreeMap::new() }
    }

    /// Takes a tuple in; whether it is about this name
    pub(crate) fn put(&mut self, key: &[u8], value: &[u8]) -> bool {
        let Some((key, rank)) = self.key(key) else { return false };
        // What is no text is no address either; it is counted with those that can't be used
        let value = String::from_utf8_lossy(value.get(..LONGEST_VALUE).unwrap_or(value)).into_owned();
        if self.places.len() < MOST_PLACES || self.places.contains_key(&(rank, key.clone())) {
            self.places.insert((rank, key), value);
        }
        true
    }

    /// Forgets a tuple; whether it was about this name
    pub(crate) fn remove(&mut self, key: &[u8]) -> bool {
        self.key(key).is_some_and(|(key, rank)| self.places.remove(&(rank, key)).is_some())
    }

    /// Forgets everything, before it is told anew
    pub(crate) fn clear(&mut self) {
        self.places.clear();
    }

    /// All places that can be connected to, in the order that all nodes see
    ///
    /// Of several addresses of one node the first is taken that is one.
    pub(crate) fn places(&self) -> Vec<Place> {
        let place = |((_, key), value): (&(u8, String), &String)| {
            let endpoint = value.split_ascii_whitespace().find_map(usable)?;
            Some(Place { key: key.clone(), endpoint })
        };
        self.places.iter().filter_map(place).collect()
    }

    /// Keys that are about the name and tell no address
    pub(crate) fn unusable(&self) -> Vec<&str> {
        let all = self.places.iter();
        all.filter(|(_, value)| !value.split_ascii_whitespace().any(|text| usable(text).is_some()))
            .map(|((_, key), _)| key.as_str())
            .collect()
    }

    /// What is known now
    pub(crate) fn sighting(&self, is_complete: bool) -> Sighting {
        let unusable = self.unusable().into_iter().map(|key| escape(key.as_bytes())).collect();
        Sighting { is_complete, places: self.places(), unusable, obstacle: None }
    }

    fn key(&self, key: &[u8]) -> Option<(String, u8)> {
        let key = std::str::from_utf8(key).ok()?;
        Some((key.to_owned(), self.name.rank(key)?))
    }
}

/// An address that another process can connect to
fn usable(text: &str) -> Option<Endpoint> {
    let endpoint: Endpoint = text.parse().ok()?;
    endpoint.for_connect().ok()?;
    (!matches!(endpoint, Endpoint::Inproc(_) | Endpoint::Udp(_))).then_some(endpoint)
}

/// More nodes than this that serve the same are not looked at: they come in order, so all see the same ones
const MOST_PLACES: usize = 10_000;

/// No list of addresses is longer
const LONGEST_VALUE: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn known(tuples: &[(&str, &str)]) -> Known {
        let mut known = Known::new(Name::read("gossip:services").unwrap().unwrap());
        for (key, value) in tuples {
            known.put(key.as_bytes(), value.as_bytes());
        }
        known
    }

    fn endpoints(known: &Known) -> Vec<String> {
        known.places().iter().map(|place| place.endpoint.to_string()).collect()
    }

    #[test]
    fn all_find_the_same_first() {
        let tuples = [
            ("services", "tcp://192.0.2.9:1"),
            ("endpoint/services/beta", "tcp://192.0.2.2:1"),
            ("endpoint/services/alpha", "tcp://192.0.2.1:1"),
            ("endpoint/servicesx/alpha", "tcp://192.0.2.7:1"),
        ];
        let mut known = known(&tuples);
        assert_eq!(endpoints(&known), ["tcp://192.0.2.1:1", "tcp://192.0.2.2:1", "tcp://192.0.2.9:1"]);
        assert!(known.remove(b"endpoint/services/alpha") && !known.remove(b"endpoint/servicesx/alpha"));
        assert_eq!(endpoints(&known)[0], "tcp://192.0.2.2:1");
        known.clear();
        assert!(known.places().is_empty());
    }

    #[test]
    fn what_is_no_address_is_told_and_not_used() {
        let mut known = known(&[
            ("endpoint/services/a", "nonsense"),
            ("endpoint/services/b", "inproc://x tls://hub:1 tcp://hub:2"),
            ("endpoint/services/c", "tcp://*:1"),
        ]);
        known.put(b"endpoint/services/d", b"\xff\xfe");
        assert_eq!(endpoints(&known), ["tls://hub:1"]);
        assert_eq!(known.unusable(), ["endpoint/services/a", "endpoint/services/c", "endpoint/services/d"]);
        assert!(!known.put(b"\xff", b"tcp://a:1"));
    }
}
