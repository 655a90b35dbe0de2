//! RADIO: to every peer that joined the message's group (RFC 48, "The RADIO Socket Type").

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use smallvec::SmallVec;

use crate::options::Options;

/// Who is in which group
///
/// A member is the number of a pipe. Groups match exactly, so this is a table where a publisher has a trie.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    // Peers choose these keys, so the hash must not be foreseeable: std's SipHash
    members: HashMap<Bytes, SmallVec<[u32; 4]>>,
    held: HashMap<u32, Held>,
}

/// What one member is in
#[derive(Debug, Default)]
struct Held {
    groups: HashSet<Bytes>,
    octets: usize,
}

impl Groups {
    /// Enters a member; nothing happens if it is in the group
    pub(crate) fn join(&mut self, group: &Bytes, member: u32) {
        let held = self.held.entry(member).or_default();
        if held.groups.insert(group.clone()) {
            held.octets += group.len();
            self.members.entry(group.clone()).or_default().push(member);
        }
    }

    /// Takes a member out of one group; nothing happens if it isn't in it
    pub(crate) fn leave(&mut self, group: &[u8], member: u32) {
        let Some(held) = self.held.get_mut(&member) else {
            return;
        };
        if held.groups.remove(group) {
            held.octets -= group.len();
            if held.groups.is_empty() {
                self.held.remove(&member);
            }
            self.strike(group, member);
        }
    }

    /// Takes a member out of all its groups
    pub(crate) fn forget(&mut self, member: u32) {
        let held = self.held.remove(&member).unwrap_or_default();
        held.groups.iter().for_each(|group| self.strike(group, member));
    }

    fn strike(&mut self, group: &[u8], member: u32) {
        if let Some(members) = self.members.get_mut(group) {
            members.retain(|known| *known != member);
            if members.is_empty() {
                self.members.remove(group);
            }
        }
    }

    /// The members of exactly this group
    pub(crate) fn members(&self, group: &[u8]) -> &[u32] {
        self.members.get(group).map_or(&[], |members| members)
    }

    /// How many are in any group
    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    /// How many groups a member is in
    pub(crate) fn held_by(&self, member: u32) -> usize {
        self.held.get(&member).map_or(0, |held| held.groups.len())
    }

    /// Whether a member may be in one more group; libzmq sets no bound here
    pub(crate) fn has_room(&self, member: u32, group: &[u8], options: &Options) -> bool {
        let Some(held) = self.held.get(&member) else {
            return true;
        };
        let octets = (held.octets + group.len()) as u64;
        held.groups.contains(group)
            || (held.groups.len() < options.max_subscriptions as usize
                && (options.max_subscription_octets == 0 || octets <= options.max_subscription_octets))
    }
}

/// Whether octets can name a group: RFC 48 and `zmq.h` have up to 255, none of them zero
pub(crate) fn is_group(octets: &[u8]) -> bool {
    octets.len() <= GROUP_LIMIT && !octets.contains(&0)
}

/// Most octets of a group's name (ZMQ_GROUP_MAX_LENGTH)
const GROUP_LIMIT: usize = 255;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Join(u8, u32),
        Leave(u8, u32),
        Forget(u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            5 => (0u8..6, 0u32..5).prop_map(|(group, member)| Step::Join(group, member)),
            3 => (0u8..6, 0u32..5).prop_map(|(group, member)| Step::Leave(group, member)),
            1 => (0u32..5).prop_map(Step::Forget),
        ]
    }

    /// Of lengths 0 to 5, so that each is a prefix of the next and the first is empty
    fn name(group: u8) -> Bytes {
        Bytes::from(vec![b'g'; group.into()])
    }

    proptest! {
        #[test]
        fn the_table_is_a_set_of_pairs(steps in prop::collection::vec(step(), 0..200)) {
            let mut groups = Groups::default();
            let mut pairs = BTreeSet::new();
            for step in steps {
                match step {
                    Step::Join(group, member) => {
                        groups.join(&name(group), member);
                        pairs.insert((group, member));
                    }
                    Step::Leave(group, member) => {
                        groups.leave(&name(group), member);
                        pairs.remove(&(group, member));
                    }
                    Step::Forget(member) => {
                        groups.forget(member);
                        pairs.retain(|(_, known)| *known != member);
                    }
                }
                for group in 0..7 {
                    let mut members = groups.members(&name(group)).to_vec();
                    members.sort_unstable();
                    let expected: Vec<u32> = pairs.iter().filter(|(g, _)| *g == group).map(|(_, m)| *m).collect();
                    prop_assert_eq!(members, expected);
                }
                for member in 0..5 {
                    let mine: Vec<u8> = pairs.iter().filter(|(_, m)| *m == member).map(|(g, _)| *g).collect();
                    prop_assert_eq!(groups.held_by(member), mine.len());
                    let octets = groups.held.get(&member).map_or(0, |held| held.octets);
                    prop_assert_eq!(octets, mine.iter().map(|group| usize::from(*group)).sum::<usize>());
                }
                let present: BTreeSet<u32> = pairs.iter().map(|(_, member)| *member).collect();
                prop_assert_eq!(groups.len(), present.len());
                let named: BTreeSet<u8> = pairs.iter().map(|(group, _)| *group).collect();
                prop_assert_eq!(groups.members.len(), named.len(), "nothing is kept for groups without members");
            }
        }
    }

    #[test]
    fn a_member_may_hold_as_much_as_the_options_say() {
        let options = Options::new().max_subscriptions(2).max_subscription_octets(5);
        let mut groups = Groups::default();
        groups.join(&Bytes::from("abcd"), 1);
        assert!(groups.has_room(1, b"e", &options));
        assert!(!groups.has_room(1, b"ef", &options), "octets");
        groups.join(&Bytes::new(), 1);
        assert!(!groups.has_room(1, b"e", &options), "groups");
        assert!(groups.has_room(1, b"abcd", &options), "what it has it may ask for again");
        assert!(groups.has_room(2, b"abcde", &options), "another one");
    }

    #[test]
    fn names_have_up_to_255_octets_and_no_zero() {
        assert!(is_group(b"") && is_group(&[1; 255]));
        assert!(!is_group(&[1; 256]) && !is_group(b"t\0v"));
    }
}
