//! What a node is told of itself and of its links.

use std::time::Duration;

use crate::record::{Incarnation, NodeId};

/// Who a node is in this life
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The same in each life
    pub id: NodeId,
    /// Greater in each life
    pub incarnation: Incarnation,
}

/// A connection, as the driver numbers them; never used again for another one
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId(pub u64);

/// Which end of a link a node is
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Of a client that connected to a ROUTER of ours
    Server,
    /// Of a server that a DEALER of ours connected to
    Remote,
}

/// What is spoken on a link
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wire {
    /// ZGP 1, with nodes that are not ours
    ZGossip,
    /// Our own, with a peer whose READY bore `X-Gossip: tidings/1`
    Tidings,
}

impl Wire {
    /// Its name in logs and listings
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ZGossip => "zgossip",
            Self::Tidings => "tidings",
        }
    }
}

/// What a driver knows of a link when it is up
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkInfo {
    /// Our end of it
    pub side: Side,
    /// What is spoken
    pub wire: Wire,
    /// Of the peer: what was connected to, or where it comes from
    pub endpoint: String,
    /// The peer's CURVE public key; its id has to be [`NodeId::of_key`] of this
    pub key: Option<[u8; 32]>,
    /// Whether somebody asked for this very link, rather than the node itself by a [`Dial`](crate::Action::Dial); such links are never given up
    pub explicit: bool,
    /// Whether the peer may only write as itself: of what it says of others' writes, deaths and status nothing is believed. A node that
    /// is a leaf on all its links still takes part in everything
    pub is_leaf: bool,
}

/// Whom a node knows as a member
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Presence {
    /// Every node of the network, by its `$tidings/node/` record
    #[default]
    All,
    /// Those at the other ends of its links; for networks of very many nodes
    Links,
}

/// What peers may make a node hold
#[derive(Clone, Debug)]
pub struct Quotas {
    /// Tuples at once: 1,000,000
    pub max_tuples: usize,
    /// Octets of keys and values: 256 MiB
    pub max_octets: usize,
    /// Tuples of one owner, and of those brought in by one ZGP link: 100,000. What ZGP peers have brought in is owned by the node that
    /// heard it: they have three quarters of this, so that its application has the rest
    pub max_tuples_per_owner: usize,
    /// Octets of keys and values of one owner, and of those brought in by one ZGP link: 64 MiB, three quarters for ZGP peers
    pub max_octets_per_owner: usize,
    /// Octets of one value: 4 MiB
    pub max_value: usize,
    /// Lives of owners that are remembered: 100,000, and a sixteenth of that of one owner
    pub max_owners: usize,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            max_tuples: 1_000_000,
            max_octets: 256 << 20,
            max_tuples_per_owner: 100_000,
            max_octets_per_owner: 64 << 20,
            max_value: 4 << 20,
            max_owners: 100_000,
        }
    }
}

/// A node's times and bounds
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// What people call it; empty is none. Up to 255 octets
    pub name: String,
    /// How long it takes at most until changes are announced on links that don't get them at once: 100 ms. Less where round trips are
    /// short and nothing new comes: sixteen of them, 8 ms at least
    pub announce_interval: Duration,
    /// How often digests are exchanged on an active link: 1 s, and up to eight times as long while nothing changes
    pub digest_interval: Duration,
    /// How often digests are exchanged on a resting link: 10 s
    pub resting_interval: Duration,
    /// How long after something was asked for it is asked elsewhere: 500 ms
    pub want_timeout: Duration,
    /// How many links to nodes of ours it wants active; the others' rest: 4
    pub fan_out: usize,
    /// Whom it knows as members
    pub presence: Presence,
    /// How often a silent neighbour is sent a PING: 1 s
    pub probe_interval: Duration,
    /// How long its ACK may take: 500 ms
    pub probe_timeout: Duration,
    /// The least time from suspect to gone: 5 s
    pub suspicion: Duration,
    /// How long a member that is gone is listed: 1 h
    pub forget_after: Duration,
    /// Whether it makes links itself, to nodes that its neighbours know
    pub overlay: bool,
    /// How many live links to nodes of ours it has to have before it makes none: 4
    pub degree: usize,
    /// Links that it lets others make before it sends the newest elsewhere, if `overlay` is on: 64. Nodes that make no links
    /// themselves have nowhere else to go, and all are let in
    pub max_links: usize,
    /// How often a ZGP server is sent a PING: 300 ms, as the original forgets clients after 1 s
    pub ping_interval: Duration,
    /// After how long a silent ZGP client is forgotten, as the original does; `None`, the default, for never while it is connected
    pub server_timeout: Option<Duration>,
    /// How long a deletion is remembered with its key: 1 h. That the deleted write is dead is remembered longer
    pub tombstone_time: Duration,
    /// How long the context of an owner's life is remembered after its last change when nothing of it is live: 7 days
    pub context_time: Duration,
    /// What peers may make it hold
    pub quotas: Quotas,
    /// Events that wait to be fetched: 65,536; later ones are counted and dropped
    pub max_events: usize,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            announce_interval: Duration::from_millis(100),
            digest_interval: Duration::from_secs(1),
            resting_interval: Duration::from_secs(10),
            want_timeout: Duration::from_millis(500),
            fan_out: 4,
            presence: Presence::All,
            probe_interval: Duration::from_secs(1),
            probe_timeout: Duration::from_millis(500),
            suspicion: Duration::from_secs(5),
            forget_after: Duration::from_secs(3600),
            overlay: false,
            degree: 4,
            max_links: 64,
            ping_interval: Duration::from_millis(300),
            server_timeout: None,
            tombstone_time: Duration::from_secs(3600),
            context_time: Duration::from_secs(7 * 24 * 3600),
            quotas: Quotas::default(),
            max_events: 65_536,
        }
    }
}
