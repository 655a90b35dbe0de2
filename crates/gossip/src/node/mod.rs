//! A node as pure state: messages and instants go in, messages and events come out.
//!
//! There is no I/O, no clock and no randomness in here but what a seed gives. A driver takes all input that waits
//! (`handle_*`, and what the application asks for), then drains [`poll_transmit`](Node::poll_transmit),
//! [`poll_action`](Node::poll_action) and [`poll_event`](Node::poll_event): what came in one turn is sent on together. It calls
//! [`handle_timeout`](Node::handle_timeout) when [`poll_timeout`](Node::poll_timeout) says.

use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use tidings_zmtp::Message;

use crate::config::{Identity, LinkId, LinkInfo, NodeConfig};
use crate::event::{Event, HangUp, Health, LinkState, Member, Refusals};
use crate::record::{Dot, Lifetime, NodeId, Stamp, Tuple};

mod presence;
mod repair;
mod settle;
mod spread;
mod view;
mod zgossip;

/// A frame for a link
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Which
    pub link: LinkId,
    /// The one frame of the message
    pub frame: Bytes,
}

/// What the driver is asked to do
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Connect to there; a link that comes of it isn't explicit
    Dial {
        /// Where
        endpoint: String,
        /// Who should be there
        node: Option<NodeId>,
    },
    /// End a link, after what was transmitted on it before; `handle_link_down` needn't follow
    HangUp {
        /// Which
        link: LinkId,
        /// Why
        reason: HangUp,
    },
}

/// What became of a write
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// The write that the key has its value from
    pub dot: Dot,
    /// How it is ordered among others
    pub stamp: Stamp,
    /// Whether anything was written: the same permanent value again is not
    pub is_new: bool,
}

/// Why something was not written
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PutError {
    /// A key has up to 255 octets
    #[error("the key has {0} octets, of at most 255")]
    KeyTooLong(usize),
    /// A value has up to [`max_value`](crate::Quotas::max_value) octets
    #[error("the value has {octets} octets, of at most {limit} (max_value)")]
    ValueTooLong {
        /// Of the value
        octets: usize,
        /// That it may have
        limit: usize,
    },
    /// Keys that begin with `$tidings/` are the nodes' own
    #[error("keys that begin with $tidings/ are reserved")]
    Reserved,
    /// There are too many tuples, or octets of them; remove some, or raise the quota of that name
    #[error("the node holds all that it may ({0})")]
    Quota(&'static str),
    /// Nodes that do not take writes of this life any more, as it left
    #[error("the node has left the network")]
    Left,
}

/// Figures of a node
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeStats {
    /// Tuples that are visible, without reserved ones
    pub tuples: usize,
    /// Octets of all keys and values that are held
    pub octets: usize,
    /// Session tuples whose owner is gone
    pub hidden: usize,
    /// Deletions that are remembered with their keys
    pub tombstones: usize,
    /// Owners' lives of which something is known
    pub owners: usize,
    /// Links that are up
    pub links: usize,
    /// Links to nodes of ours that changes go over
    pub active_links: usize,
    /// Records that came
    pub records_in: u64,
    /// Records that came and were new
    pub records_new: u64,
    /// Records sent
    pub records_out: u64,
    /// Frames that came
    pub frames_in: u64,
    /// Octets that came
    pub octets_in: u64,
    /// Frames sent
    pub frames_out: u64,
    /// Octets sent, without ZMTP's own
    pub octets_out: u64,
    /// Of them in digests that found nothing to repair
    pub octets_digest: u64,
    /// Exchanges that repaired something
    pub repairs: u64,
    /// Things asked for
    pub wants: u64,
    /// Things that were asked for and didn't come in time
    pub want_timeouts: u64,
    /// Links that were grafted to the tree
    pub grafts: u64,
    /// Links that were pruned from it
    pub prunes: u64,
    /// Events that nobody fetched in time
    pub missed_events: u64,
    /// Keys that are contested now
    pub contested: usize,
    /// How far it trusts its own senses
    pub health: Health,
    /// What was refused, by cause
    pub refusals: Refusals,
}

/// Whom a node could connect to
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ViewState {
    /// A sample of the network: who, and where
    pub samples: Vec<(NodeId, String)>,
}

/// A gossip node as pure state
pub struct Node {
    config: NodeConfig,
    identity: Identity,
    zgossip: zgossip::ZGossip,
    settle: settle::Settle,
    members: presence::Members,
    view: view::View,
}

impl Node {
    /// A node without links and tuples; what is random in it comes from `seed` alone, and `wall` is what the clock on the wall says `now`
    #[must_use]
    pub fn new(config: NodeConfig, identity: Identity, seed: u64, now: Instant, wall: SystemTime) -> Self {
        let _ = wall;
        Self {
            zgossip: zgossip::ZGossip::default(),
            settle: settle::Settle::default(),
            members: presence::Members::new(&config, identity, now),
            view: view::View::new(&config, identity.id, seed, now),
            identity,
            config,
        }
    }

    /// A connection was made, and its handshake is over
    pub fn handle_link_up(&mut self, now: Instant, link: LinkId, info: LinkInfo) {
        let _ = (now, link, info);
    }

    /// A connection ended
    pub fn handle_link_down(&mut self, now: Instant, link: LinkId, reason: &str) {
        let _ = (now, link, reason);
    }

    /// A message came, of any number of frames, without the routing id
    pub fn handle_message(&mut self, now: Instant, link: LinkId, message: Message) {
        let _ = (now, link, message);
    }

    /// A frame of [`poll_transmit`](Self::poll_transmit) was not taken: nothing more is given out for the link until
    /// [`handle_writable`](Self::handle_writable)
    pub fn handle_unsent(&mut self, now: Instant, link: LinkId, frame: Bytes) {
        let _ = (now, link, frame);
    }

    /// A link takes frames again
    pub fn handle_writable(&mut self, now: Instant, link: LinkId) {
        let _ = (now, link);
    }

    /// A [`Dial`](Action::Dial) came to nothing
    pub fn handle_dial_failed(&mut self, now: Instant, endpoint: &str) {
        let _ = (now, endpoint);
    }

    /// Time has passed
    pub fn handle_timeout(&mut self, now: Instant) {
        let _ = now;
    }

    /// The next frame to send
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        None
    }

    /// The next thing to do
    pub fn poll_action(&mut self) -> Option<Action> {
        None
    }

    /// The next thing that happened
    pub fn poll_event(&mut self) -> Option<Event> {
        None
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// Gives a key a value, as its owner from now on
    ///
    /// The same permanent value that it has already is not written again. A `Ttl` or `Session` value is, if it is ours to refresh.
    ///
    /// # Errors
    /// The key or value is too long or reserved, or there is no room.
    pub fn put(
        &mut self,
        now: Instant,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
        lifetime: Lifetime,
    ) -> Result<Written, PutError> {
        let _ = (now, key.into(), value.into(), lifetime);
        Err(PutError::Left)
    }

    /// Takes a key's value away, whosever it is; `false` if it has none
    ///
    /// # Errors
    /// The key is too long or reserved.
    pub fn remove(&mut self, now: Instant, key: &[u8]) -> Result<bool, PutError> {
        let _ = (now, key);
        Ok(false)
    }

    /// What a key has
    #[must_use]
    pub fn get(&self, now: Instant, key: &[u8]) -> Option<Tuple> {
        let _ = (now, key);
        None
    }

    /// All tuples whose keys begin so, in the order of their keys; reserved ones only if `prefix` begins with `$`
    pub fn tuples(&self, now: Instant, prefix: &[u8]) -> impl Iterator<Item = Tuple> + '_ {
        let _ = (now, prefix);
        std::iter::empty()
    }

    /// As [`tuples`](Self::tuples), those behind a key: a list can be read on where it was left
    pub fn tuples_after<'a>(
        &'a self,
        now: Instant,
        prefix: &'a [u8],
        after: Option<&'a [u8]>,
    ) -> impl Iterator<Item = Tuple> + 'a {
        self.tuples(now, prefix).skip_while(move |tuple| after.is_some_and(|after| tuple.key <= after))
    }

    /// How many tuples are visible, without reserved ones
    #[must_use]
    pub fn len(&self) -> usize {
        0
    }

    /// Whether no tuple is
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Who this is
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Its times and bounds
    #[must_use]
    pub fn config(&self) -> &NodeConfig {
        &self.config
    }

    /// A digest of all that is known and live: equal on nodes that agree
    #[must_use]
    pub fn root(&self) -> u64 {
        0
    }

    /// All members, itself included, by id
    #[must_use]
    pub fn members(&self, now: Instant) -> Vec<Member> {
        self.members.list(now)
    }

    /// All links, by their numbers
    #[must_use]
    pub fn links(&self) -> Vec<LinkState> {
        Vec::new()
    }

    /// Its figures
    #[must_use]
    pub fn stats(&self) -> NodeStats {
        NodeStats::default()
    }

    /// Whom it could connect to
    #[must_use]
    pub fn view(&self) -> ViewState {
        self.view.state()
    }

    /// Where others can connect to this node, which it tells them; in the order of preference
    pub fn set_endpoints(&mut self, now: Instant, endpoints: Vec<String>) {
        let _ = (now, endpoints);
    }

    /// What else this node tells of itself in its `$tidings/node/` record: the members of this object are put there
    pub fn set_description(&mut self, now: Instant, description: serde_json::Map<String, serde_json::Value>) {
        let _ = (now, description);
    }

    /// Replaces [`server_timeout`](NodeConfig::server_timeout) for ZGP clients that come from now on
    pub fn set_server_timeout(&mut self, timeout: Option<Duration>) {
        self.config.server_timeout = timeout;
    }

    /// Says goodbye: its Session tuples go, members learn that it has left, and each link is hung up
    pub fn leave(&mut self, now: Instant) {
        let _ = now;
    }
}
