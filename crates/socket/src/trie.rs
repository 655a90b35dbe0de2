//! Subscriptions by topic prefix: a trie that says who wants a message.
//!
//! Matching walks down the topic once and visits only nodes on its path, so its cost grows with the
//! length of the topic and the number of matches, not with the number of other subscriptions.
//! Nodes live in one arena and every walk is a loop: a peer that subscribes to ever longer prefixes
//! makes the trie deep, and nothing here may use the stack for that.

use std::collections::{HashMap, HashSet};

use slab::Slab;
use smallvec::SmallVec;

/// Which subscribers hold which topic prefixes
///
/// A subscriber is a small number, the key of its pipe. Each holds a prefix once, however often it
/// asked for it: libzmq's PUB keeps one entry per connection and prefix (RFC 29 says additive).
#[derive(Debug)]
pub struct SubscriptionTrie {
    nodes: Slab<Node>,
    /// The nodes at which a subscriber is listed, so that one that leaves costs what it held
    held: HashMap<u32, Held, Hasher>,
    prefixes: usize,
}

/// What one subscriber holds
#[derive(Debug, Default)]
struct Held {
    nodes: HashSet<usize, Hasher>,
    /// Of the prefixes, each counted whole
    octets: usize,
}

/// What a change to the trie meant to the set of topics as a whole
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The first subscriber of this prefix came, or the last one left
    Topic,
    /// A subscriber came or left, others hold the same prefix
    Subscriber,
    /// Nothing changed: already subscribed, or not subscribed at all
    None,
}

#[derive(Debug, Default)]
struct Node {
    /// The octets between the parent and this node; empty only at the root
    label: Box<[u8]>,
    parent: usize,
    /// Sorted
    subscribers: SmallVec<[u32; 4]>,
    children: Children,
}

/// Children by the first octet of their labels: a short list, a map when there are many
#[derive(Debug)]
enum Children {
    Few(Vec<(u8, usize)>),
    Many(HashMap<u8, usize, Hasher>),
}

type Hasher = foldhash::fast::RandomState;

/// The node that stands for the empty prefix; never removed
const ROOT: usize = 0;

impl Default for SubscriptionTrie {
    fn default() -> Self {
        let mut nodes = Slab::new();
        nodes.insert(Node::default());
        Self { nodes, held: HashMap::default(), prefixes: 0 }
    }
}

impl SubscriptionTrie {
    /// An empty trie
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many prefixes are held, each subscriber's counted
    #[must_use]
    pub fn len(&self) -> usize {
        self.prefixes
    }

    /// Whether nobody is subscribed to anything
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.prefixes == 0
    }

    /// How many prefixes a subscriber holds
    #[must_use]
    pub fn held_by(&self, subscriber: u32) -> usize {
        self.held.get(&subscriber).map_or(0, |held| held.nodes.len())
    }

    /// How many octets the prefixes have that a subscriber holds
    #[must_use]
    pub fn octets_held_by(&self, subscriber: u32) -> usize {
        self.held.get(&subscriber).map_or(0, |held| held.octets)
    }

    /// How many subscribers hold at least one prefix
    #[must_use]
    pub fn subscribers(&self) -> usize {
        self.held.len()
    }

    /// Adds a prefix for a subscriber
    pub fn insert(&mut self, prefix: &[u8], subscriber: u32) -> Change {
        let key = self.make(prefix);
        let Some(node) = self.nodes.get_mut(key) else {
            return Change::None;
        };
        let Err(at) = node.subscribers.binary_search(&subscriber) else {
            return Change::None;
        };
        node.subscribers.insert(at, subscriber);
        let change = if node.subscribers.len() == 1 { Change::Topic } else { Change::Subscriber };
        let held = self.held.entry(subscriber).or_default();
        held.nodes.insert(key);
        held.octets += prefix.len();
        self.prefixes += 1;
        change
    }

    /// Takes a prefix away from a subscriber
    pub fn remove(&mut self, prefix: &[u8], subscriber: u32) -> Change {
        match self.find(prefix) {
            Some(key) => self.remove_at(key, subscriber, prefix.len()),
            None => Change::None,
        }
    }

    /// Whether a subscriber holds exactly this prefix
    #[must_use]
    pub fn contains(&self, prefix: &[u8], subscriber: u32) -> bool {
        self.find(prefix)
            .and_then(|key| self.nodes.get(key))
            .is_some_and(|node| node.subscribers.binary_search(&subscriber).is_ok())
    }

    /// Takes everything away from a subscriber that left; `each` gets every prefix that it was the last to hold
    pub fn remove_subscriber(&mut self, subscriber: u32, mut each: impl FnMut(Vec<u8>)) {
        for key in self.nodes_of(subscriber) {
            let prefix = self.prefix_of(key);
            if self.remove_at(key, subscriber, prefix.len()) == Change::Topic {
                each(prefix);
            }
        }
    }

    /// As [`remove_subscriber`](Self::remove_subscriber), where nobody wants to know the prefixes
    pub fn drop_subscriber(&mut self, subscriber: u32) {
        for key in self.nodes_of(subscriber) {
            self.remove_at(key, subscriber, 0);
        }
    }

    fn nodes_of(&self, subscriber: u32) -> Vec<usize> {
        self.held.get(&subscriber).map_or_else(Vec::new, |held| held.nodes.iter().copied().collect())
    }

    /// Calls `each` for every subscriber of a prefix of `topic`; one with several matching prefixes is named several times
    pub fn matches(&self, topic: &[u8], mut each: impl FnMut(u32)) {
        self.walk(topic, |subscribers| {
            subscribers.iter().for_each(|subscriber| each(*subscriber));
            true
        });
    }

    /// Whether anybody holds a prefix of `topic`
    #[must_use]
    pub fn matches_any(&self, topic: &[u8]) -> bool {
        let mut found = false;
        self.walk(topic, |_| {
            found = true;
            false
        });
        found
    }

    /// Every prefix that somebody holds, in no particular order
    pub fn topics(&self) -> impl Iterator<Item = Vec<u8>> {
        let held = self.nodes.iter().filter(|(_, node)| !node.subscribers.is_empty());
        held.map(|(key, _)| self.prefix_of(key))
    }

    /// Visits the subscribers of each prefix of `topic`, shortest first, until `each` says false
    fn walk(&self, topic: &[u8], mut each: impl FnMut(&[u32]) -> bool) {
        let mut rest = topic;
        let mut key = ROOT;
        while let Some(node) = self.nodes.get(key) {
            let Some(left) = behind(rest, &node.label) else {
                return;
            };
            if !node.subscribers.is_empty() && !each(&node.subscribers) {
                return;
            }
            rest = left;
            let Some(child) = rest.first().and_then(|first| node.children.find(*first)) else {
                return;
            };
            key = child;
        }
    }

    fn find(&self, prefix: &[u8]) -> Option<usize> {
        let mut rest = prefix;
        let mut key = ROOT;
        loop {
            let node = self.nodes.get(key)?;
            rest = behind(rest, &node.label)?;
            match rest.first() {
                None => return Some(key),
                Some(first) => key = node.children.find(*first)?,
            }
        }
    }

    /// The node of a prefix, made where it is missing
    fn make(&mut self, prefix: &[u8]) -> usize {
        let mut rest = prefix;
        let mut key = ROOT;
        loop {
            let Some(first) = rest.first().copied() else {
                return key;
            };
            let Some(child) = self.nodes.get(key).and_then(|node| node.children.find(first)) else {
                let leaf = Node { label: rest.into(), parent: key, ..Node::default() };
                let leaf = self.nodes.insert(leaf);
                self.adopt(key, first, leaf);
                return leaf;
            };
            let label = self.nodes.get(child).map_or(&[][..], |node| &*node.label);
            let shared = label.iter().zip(rest).take_while(|(a, b)| a == b).count();
            key = if shared < label.len() { self.split(child, shared) } else { child };
            rest = rest.get(shared..).unwrap_or_default();
        }
    }

    /// Puts a new node above `lower`, at `at` octets of its label; `lower` keeps its key
    fn split(&mut self, lower: usize, at: usize) -> usize {
        let Some(node) = self.nodes.get_mut(lower) else {
            return lower;
        };
        let (head, tail) = node.label.split_at(at.min(node.label.len()));
        let (head, tail): (Box<[u8]>, Box<[u8]>) = (head.into(), tail.into());
        let (first, below) = (head.first().copied(), tail.first().copied());
        let parent = node.parent;
        node.label = tail;
        let upper = self.nodes.insert(Node { label: head, parent, ..Node::default() });
        if let (Some(first), Some(below)) = (first, below) {
            self.adopt(parent, first, upper);
            self.adopt(upper, below, lower);
        }
        upper
    }

    fn adopt(&mut self, parent: usize, first: u8, child: usize) {
        if let Some(node) = self.nodes.get_mut(parent) {
            node.children.insert(first, child);
        }
        if let Some(node) = self.nodes.get_mut(child) {
            node.parent = parent;
        }
    }

    fn remove_at(&mut self, key: usize, subscriber: u32, octets: usize) -> Change {
        let Some(node) = self.nodes.get_mut(key) else {
            return Change::None;
        };
        let Ok(at) = node.subscribers.binary_search(&subscriber) else {
            return Change::None;
        };
        node.subscribers.remove(at);
        let change = if node.subscribers.is_empty() { Change::Topic } else { Change::Subscriber };
        self.prefixes -= 1;
        if let Some(held) = self.held.get_mut(&subscriber) {
            held.nodes.remove(&key);
            held.octets = held.octets.saturating_sub(octets);
            if held.nodes.is_empty() {
                self.held.remove(&subscriber);
            }
        }
        if change == Change::Topic {
            self.tidy(key);
        }
        change
    }

    /// Takes out a node that holds nobody and joins nothing, and its parent if that is then the same
    fn tidy(&mut self, key: usize) {
        let mut key = key;
        while key != ROOT {
            let Some(node) = self.nodes.get(key) else {
                return;
            };
            if !node.subscribers.is_empty() || node.children.len() > 1 {
                return;
            }
            let parent = node.parent;
            let first = node.label.first().copied();
            let gone = self.nodes.remove(key);
            let (Some(first), Some(above)) = (first, self.nodes.get_mut(parent)) else {
                return;
            };
            match gone.children.only() {
                None => above.children.remove(first),
                Some(child) => {
                    above.children.insert(first, child);
                    if let Some(child) = self.nodes.get_mut(child) {
                        child.label = [&*gone.label, &*child.label].concat().into();
                        child.parent = parent;
                    }
                    return;
                }
            }
            key = parent;
        }
    }

    fn prefix_of(&self, key: usize) -> Vec<u8> {
        let mut labels = Vec::new();
        let mut key = key;
        while let Some(node) = self.nodes.get(key) {
            labels.push(&*node.label);
            if key == ROOT {
                break;
            }
            key = node.parent;
        }
        labels.reverse();
        labels.concat()
    }
}

impl Default for Children {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl Children {
    fn len(&self) -> usize {
        match self {
            Self::Few(list) => list.len(),
            Self::Many(map) => map.len(),
        }
    }

    fn find(&self, first: u8) -> Option<usize> {
        match self {
            Self::Few(list) => list.iter().find(|(octet, _)| *octet == first).map(|(_, key)| *key),
            Self::Many(map) => map.get(&first).copied(),
        }
    }

    fn only(&self) -> Option<usize> {
        match self {
            Self::Few(list) => list.first().map(|(_, key)| *key),
            Self::Many(map) => map.values().next().copied(),
        }
    }

    /// Adds a child, or replaces the one under the same octet
    fn insert(&mut self, first: u8, key: usize) {
        match self {
            Self::Many(map) => drop(map.insert(first, key)),
            Self::Few(list) => match list.iter().position(|(octet, _)| *octet == first) {
                Some(place) => list.splice(place..=place, [(first, key)]).for_each(drop),
                None if list.len() < FEW => list.push((first, key)),
                None => {
                    let mut map: HashMap<_, _, Hasher> = std::mem::take(list).into_iter().collect();
                    map.insert(first, key);
                    *self = Self::Many(map);
                }
            },
        }
    }

    fn remove(&mut self, first: u8) {
        match self {
            Self::Few(list) => list.retain(|(octet, _)| *octet != first),
            Self::Many(map) => drop(map.remove(&first)),
        }
    }
}

/// Beyond this many children a map is faster than a scan; a guess, not measured
const FEW: usize = 8;

/// What comes behind a label in front of a topic
///
/// The empty label is not compared: its address is nobody's, and to touch that, if only for no octets, makes a wide
/// comparison trap inside the processor, which costs as much as hundreds of instructions.
#[inline]
fn behind<'a>(topic: &'a [u8], label: &[u8]) -> Option<&'a [u8]> {
    if label.is_empty() { Some(topic) } else { topic.strip_prefix(label) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn matching(trie: &SubscriptionTrie, topic: &[u8]) -> BTreeSet<u32> {
        let mut found = BTreeSet::new();
        trie.matches(topic, |subscriber| {
            found.insert(subscriber);
        });
        found
    }

    #[test]
    fn prefixes_match_and_others_do_not() {
        let mut trie = SubscriptionTrie::new();
        assert_eq!(trie.insert(b"weather.", 1), Change::Topic);
        assert_eq!(trie.insert(b"weather.", 2), Change::Subscriber);
        assert_eq!(trie.insert(b"weather.", 2), Change::None);
        trie.insert(b"weather.oslo", 3);
        trie.insert(b"", 4);
        assert_eq!(matching(&trie, b"weather.oslo.1"), [1, 2, 3, 4].into());
        assert_eq!(matching(&trie, b"weather.bonn"), [1, 2, 4].into());
        assert_eq!(matching(&trie, b"weather"), [4].into());
        assert_eq!(trie.remove(b"weather.", 1), Change::Subscriber);
        assert_eq!(trie.remove(b"weather.", 2), Change::Topic);
        assert_eq!(trie.remove(b"weather.", 2), Change::None);
        assert_eq!(matching(&trie, b"weather.bonn"), [4].into());
        assert_eq!(matching(&trie, b"weather.oslo"), [3, 4].into());
    }

    #[test]
    fn a_subscriber_that_leaves_takes_its_prefixes_along() {
        let mut trie = SubscriptionTrie::new();
        for topic in ["a", "ab", "abc", "b"] {
            trie.insert(topic.as_bytes(), 1);
        }
        trie.insert(b"ab", 2);
        let mut gone = BTreeSet::new();
        trie.remove_subscriber(1, |topic| {
            gone.insert(topic);
        });
        assert_eq!(gone, [b"a".to_vec(), b"abc".to_vec(), b"b".to_vec()].into());
        assert_eq!((trie.len(), trie.is_empty()), (1, false));
    }

    #[test]
    fn depth_does_not_use_the_stack() {
        let topic = vec![b'a'; 6_000];
        let mut trie = SubscriptionTrie::new();
        for length in 0..topic.len() {
            trie.insert(&topic[..length], 1);
        }
        assert_eq!(matching(&trie, &topic), [1].into());
        let mut gone = 0;
        trie.remove_subscriber(1, |_| gone += 1);
        assert_eq!((gone, trie.len(), trie.nodes.len()), (topic.len(), 0, 1), "only the root is left");
    }

    #[test]
    fn a_subscriber_can_be_dropped_without_a_word() {
        let mut trie = SubscriptionTrie::new();
        for topic in ["a", "ab", "b"] {
            trie.insert(topic.as_bytes(), 1);
        }
        trie.insert(b"ab", 2);
        trie.drop_subscriber(1);
        assert_eq!((trie.len(), trie.octets_held_by(1), trie.octets_held_by(2), trie.nodes.len()), (1, 0, 2, 2));
        assert_eq!(matching(&trie, b"abc"), [2].into());
    }

    proptest! {
        /// Against the plain definition: a set of pairs, searched whole
        #[test]
        fn behaves_as_a_set_of_prefixes(
            steps in prop::collection::vec((any::<bool>(), prop::collection::vec(0u8..12, 0..5), 0u32..4), 1..200),
            topics in prop::collection::vec(prop::collection::vec(0u8..12, 0..7), 1..20),
        ) {
            let mut trie = SubscriptionTrie::new();
            let mut model = BTreeSet::new();
            for (insert, prefix, subscriber) in steps {
                let others = model.iter().any(|(p, s)| *p == prefix && *s != subscriber);
                let changed = match insert {
                    true => model.insert((prefix.clone(), subscriber)),
                    false => model.remove(&(prefix.clone(), subscriber)),
                };
                let change = match insert {
                    true => trie.insert(&prefix, subscriber),
                    false => trie.remove(&prefix, subscriber),
                };
                let expected = match (changed, others) {
                    (false, _) => Change::None,
                    (true, true) => Change::Subscriber,
                    (true, false) => Change::Topic,
                };
                prop_assert_eq!(change, expected);
                prop_assert_eq!(trie.len(), model.len());
                prop_assert_eq!(trie.contains(&prefix, subscriber), insert);
                let octets: usize = model.iter().filter(|(_, s)| *s == subscriber).map(|(p, _)| p.len()).sum();
                prop_assert_eq!(trie.octets_held_by(subscriber), octets);
            }
            for topic in topics {
                let expected: BTreeSet<u32> = model.iter().filter(|(p, _)| topic.starts_with(p)).map(|(_, s)| *s).collect();
                prop_assert_eq!(trie.matches_any(&topic), !expected.is_empty());
                prop_assert_eq!(matching(&trie, &topic), expected);
            }
        }
    }
}
