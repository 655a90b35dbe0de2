//! Who is up, suspect and gone: a detector in the manner of SWIM, with Lifeguard's doubt of itself.
//!
//! Pure state: the node calls it and then collects [`Output`]s with `poll()` until there are none. It is called with
//! - `on_link_up(now, link, neighbour)` when HELLO of a link with a node of ours came, `on_link_down(now, link, said_goodbye)`;
//! - `on_heard(now, link)` for each message of such a link;
//! - `on_ping`, `on_ack`, `on_status`, `on_probe`, `on_vouch`: those messages;
//! - `on_member(now, id, incarnation, name, endpoints)`: its `$tidings/node/` record is live in the table, or it said HELLO; and
//!   `on_member_dead(now, id, incarnation)`: its record is dead;
//! - `handle_timeout(now)` when `next()` says.
//!
//! `root()` goes into each DIGEST; a peer whose root differs is sent `snapshot()` as STATUS.

use std::time::Instant;

use crate::config::{Identity, LinkId, NodeConfig};
use crate::event::{Health, Member, MemberChange};
use crate::record::{Incarnation, NodeId};
use crate::wire::tidings::StatusUpdate;

/// What the members' part wants done
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Output {
    /// PING on a link
    Ping(LinkId, u64),
    /// ACK on a link
    Ack(LinkId, u64),
    /// PROBE: does the peer hear this one?
    Probe(LinkId, NodeId),
    /// The answer, when it does
    Vouch(LinkId, NodeId),
    /// STATUS on one link
    Status(LinkId, Vec<StatusUpdate>),
    /// STATUS on every active link but this one
    Flood(Vec<StatusUpdate>, Option<LinkId>),
    /// Session tuples of an owner are hidden from now on, or shown again
    Present(NodeId, Incarnation, bool),
    /// An event
    Changed(MemberChange),
}

/// All members
pub(super) struct Members {}

impl Members {
    pub(super) fn new(_config: &NodeConfig, _identity: Identity, _now: Instant) -> Self {
        Self {}
    }

    pub(super) fn on_link_up(&mut self, _now: Instant, _link: LinkId, _id: NodeId, _incarnation: Incarnation) {}

    pub(super) fn on_link_down(&mut self, _now: Instant, _link: LinkId, _said_goodbye: bool) {}

    pub(super) fn on_heard(&mut self, _now: Instant, _link: LinkId) {}

    pub(super) fn on_ping(&mut self, _now: Instant, _link: LinkId, _nonce: u64) {}

    pub(super) fn on_ack(&mut self, _now: Instant, _link: LinkId, _nonce: u64) {}

    pub(super) fn on_probe(&mut self, _now: Instant, _link: LinkId, _about: NodeId) {}

    pub(super) fn on_vouch(&mut self, _now: Instant, _link: LinkId, _about: NodeId) {}

    pub(super) fn on_status(&mut self, _now: Instant, _link: LinkId, _updates: Vec<StatusUpdate>) {}

    /// `endpoints` and `name` as the member itself gives them
    pub(super) fn on_member(
        &mut self,
        _now: Instant,
        _id: NodeId,
        _incarnation: Incarnation,
        _name: &str,
        _endpoints: &[String],
    ) {
    }

    pub(super) fn on_member_dead(&mut self, _now: Instant, _id: NodeId, _incarnation: Incarnation) {}

    pub(super) fn handle_timeout(&mut self, _now: Instant) {}

    pub(super) fn next(&self) -> Option<Instant> {
        None
    }

    pub(super) fn poll(&mut self) -> Option<Output> {
        None
    }

    /// A digest of all that is believed: equal where the same is
    pub(super) fn root(&self) -> u64 {
        0
    }

    pub(super) fn snapshot(&self) -> Vec<StatusUpdate> {
        Vec::new()
    }

    pub(super) fn list(&self, _now: Instant) -> Vec<Member> {
        Vec::new()
    }

    pub(super) fn health(&self) -> Health {
        Health::default()
    }

    /// This node leaves: Left is flooded
    pub(super) fn leave(&mut self, _now: Instant) {}
}
