//! SUB and XSUB: what is subscribed to, told to every publisher (RFC 29, "The SUB Socket Type", "The XSUB Socket Type").

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::pipe::Control;
use crate::trie::SubscriptionTrie;

/// The subscriptions of a socket: state, so they reach every publisher at every connection
#[derive(Debug, Default)]
pub(crate) struct Subscriber {
    counts: BTreeMap<Bytes, u64>,
    trie: SubscriptionTrie,
}

impl Subscriber {
    /// Adds or ends a subscription; whether publishers are told
    ///
    /// Every subscription is sent and a cancellation when the last of its topic is gone, as libzmq
    /// does: a proxy's XPUB counts on repeated ones.
    pub(crate) fn apply(&mut self, control: &Control) -> bool {
        if control.subscribe {
            *self.counts.entry(control.topic.clone()).or_default() += 1;
            self.trie.insert(&control.topic, SELF);
            return true;
        }
        match self.counts.get_mut(&control.topic) {
            None => false,
            Some(count) if *count > 1 => {
                *count -= 1;
                false
            }
            Some(_) => {
                self.counts.remove(&control.topic);
                self.trie.remove(&control.topic, SELF);
                true
            }
        }
    }

    /// Whether a message is wanted, by its first frame
    pub(crate) fn wants(&self, topic: &[u8]) -> bool {
        self.trie.matches_any(topic)
    }

    /// All that a publisher must be told when a connection to it is new
    pub(crate) fn all(&self) -> impl Iterator<Item = Control> {
        self.counts.keys().map(|topic| Control { subscribe: true, topic: topic.clone() })
    }

    /// How many topics
    pub(crate) fn len(&self) -> usize {
        self.counts.len()
    }
}

/// The trie's one subscriber here
const SELF: u32 = 0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subscription_is_told_and_the_last_cancellation() {
        let mut subscriber = Subscriber::default();
        let mut apply = |subscribe| subscriber.apply(&Control { subscribe, topic: Bytes::from("a") });
        assert_eq!([true, true, false, false, false].map(&mut apply), [true, true, false, true, false]);
        assert!(!subscriber.wants(b"abc"));
    }
}
