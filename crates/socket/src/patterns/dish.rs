//! DISH: the groups it joined, told to every RADIO (RFC 48, "The DISH Socket Type").

use std::collections::BTreeSet;

use bytes::Bytes;
use tidings_zmtp::Message;

use crate::patterns::radio::is_group;
use crate::pipe::Control;

/// The groups of a socket: state, so they reach every RADIO at every connection
#[derive(Debug, Default)]
pub(crate) struct Dish {
    groups: BTreeSet<Bytes>,
}

impl Dish {
    /// Joins or leaves a group
    ///
    /// # Errors
    /// What is wrong with it, where libzmq says EINVAL: a group is joined once, not counted.
    pub(crate) fn apply(&mut self, control: &Control) -> Result<(), &'static str> {
        if !is_group(&control.topic) {
            return Err(BAD_GROUP_NAME);
        }
        match control.subscribe {
            true if !self.groups.insert(control.topic.clone()) => Err(JOINED_ALREADY),
            false if !self.groups.remove(&control.topic) => Err(NOT_JOINED),
            _ => Ok(()),
        }
    }

    /// Whether a message is wanted, by its group
    pub(crate) fn wants(&self, group: &[u8]) -> bool {
        self.groups.contains(group)
    }

    /// All that a RADIO must be told when a connection to it is new
    pub(crate) fn all(&self) -> impl Iterator<Item = Control> {
        self.groups.iter().map(|group| Control { subscribe: true, topic: group.clone() })
    }

    /// How many groups
    pub(crate) fn len(&self) -> usize {
        self.groups.len()
    }
}

/// Whether a message has the form that RADIO and DISH exchange: a group and a body (RFC 48)
pub(crate) fn is_group_and_body(message: &Message) -> bool {
    message.frame_count() == 2 && is_group(message.first())
}

pub(crate) const BAD_GROUP_NAME: &str = "a group has up to 255 octets, none of them zero";
const JOINED_ALREADY: &str = "the socket is in this group already; a group is joined once";
const NOT_JOINED: &str = "the socket is not in this group";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_joined_once_and_left_once() {
        let mut dish = Dish::default();
        let mut apply = |subscribe| dish.apply(&Control { subscribe, topic: Bytes::from("tv") });
        assert_eq!([true, true, false, false].map(&mut apply), [Ok(()), Err(JOINED_ALREADY), Ok(()), Err(NOT_JOINED)]);
    }

    #[test]
    fn groups_match_exactly() {
        let mut dish = Dish::default();
        dish.apply(&Control { subscribe: true, topic: Bytes::from("tv") }).unwrap();
        assert!(dish.wants(b"tv"));
        assert!(!dish.wants(b"t") && !dish.wants(b"tv1") && !dish.wants(b""));
    }
}
