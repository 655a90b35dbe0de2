//! PUB and XPUB: to every peer that is subscribed (RFC 29, "The PUB Socket Type", "The XPUB Socket Type").

use bytes::Bytes;
use tidings_zmtp::Message;

use crate::options::Options;
use crate::pipe::{Control, PipeKey};
use crate::trie::{Change, SubscriptionTrie};

/// Who is subscribed to what
#[derive(Debug, Default)]
pub(crate) struct Publisher {
    pub(crate) trie: SubscriptionTrie,
    /// XPUB with `xpub_manual`: whose subscription the application received last
    pub(crate) asking: Option<PipeKey>,
    /// Numbers the messages, so that a pipe with several matching prefixes is chosen once
    pub(crate) round: u64,
}

impl Publisher {
    /// A peer subscribed or cancelled; whether an XPUB's application is told
    pub(crate) fn handle(&mut self, pipe: PipeKey, control: &Control, options: &Options) -> bool {
        if options.xpub_manual {
            return true;
        }
        let change = self.apply(pipe, control);
        match control.subscribe {
            // libzmq passes on what changes its own upstream view, and with the verbose options all
            true => change == Change::Topic || options.xpub_verbose || options.xpub_verboser,
            false => change == Change::Topic || options.xpub_verboser,
        }
    }

    /// Enters a subscription or takes it out
    pub(crate) fn apply(&mut self, pipe: PipeKey, control: &Control) -> Change {
        match control.subscribe {
            true => self.trie.insert(&control.topic, pipe.index),
            false => self.trie.remove(&control.topic, pipe.index),
        }
    }

    /// Whether a pipe may hold one more subscription; libzmq sets no bound here
    pub(crate) fn has_room(&self, pipe: PipeKey, topic: &[u8], options: &Options) -> bool {
        let octets = (self.trie.octets_held_by(pipe.index) + topic.len()) as u64;
        self.trie.held_by(pipe.index) < options.max_subscriptions as usize
            && (options.max_subscription_octets == 0 || octets <= options.max_subscription_octets)
    }

    /// Forgets a pipe; returns what an XPUB's application is told about it, and nothing for a PUB's
    pub(crate) fn forget(&mut self, pipe: PipeKey, tells: bool) -> Vec<Message> {
        let mut told = Vec::new();
        if tells {
            self.trie.remove_subscriber(pipe.index, |topic| {
                told.push(Control { subscribe: false, topic: Bytes::from(topic) }.to_message());
            });
        } else {
            self.trie.drop_subscriber(pipe.index);
        }
        if self.asking == Some(pipe) {
            self.asking = None;
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: PipeKey = PipeKey { index: 0, serial: 1 };
    const TWO: PipeKey = PipeKey { index: 1, serial: 2 };

    fn told(options: &Options) -> Vec<bool> {
        let mut publisher = Publisher::default();
        let steps = [(ONE, true), (ONE, true), (TWO, true), (TWO, false), (ONE, false), (ONE, false)];
        let control = |subscribe| Control { subscribe, topic: Bytes::from("a") };
        steps.map(|(pipe, subscribe)| publisher.handle(pipe, &control(subscribe), options)).to_vec()
    }

    #[test]
    fn the_application_is_told_of_the_first_and_the_last() {
        assert_eq!(told(&Options::new()), [true, false, false, false, true, false]);
    }

    #[test]
    fn verbose_tells_of_every_subscription_and_verboser_of_cancellations_too() {
        assert_eq!(told(&Options::new().xpub_verbose(true)), [true, true, true, false, true, false]);
        assert_eq!(told(&Options::new().xpub_verboser(true)), [true; 6]);
    }

    #[test]
    fn a_peer_that_leaves_cancels_what_only_it_wanted() {
        let mut publisher = Publisher::default();
        for (pipe, topic) in [(ONE, "a"), (ONE, "b"), (TWO, "b")] {
            publisher.handle(pipe, &Control { subscribe: true, topic: topic.into() }, &Options::new());
        }
        assert_eq!(publisher.forget(ONE, true), [Message::from(&b"\x00a"[..])]);
        assert_eq!(publisher.trie.len(), 1);
    }
}
