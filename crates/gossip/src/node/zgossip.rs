//! Links with nodes that speak ZGP: the machine of the original, both sides of it.
//!
//! What the node calls, all on [`Node`](super::Node):
//! - `zgossip_link_up(now, link)`, `zgossip_link_down(now, link)`: the link is in `self.links` then, and still;
//! - `handle_zgossip(now, link, message)`: whatever came on a link whose wire is `ZGossip`;
//! - `zgossip_changed(now, key)`: the visible value of a key is another, or is gone, whoever caused it; never for reserved keys;
//! - `zgossip_writable(now, link)`: the socket takes frames again. While `self.is_blocked(link)` nothing should be made for it but a
//!   note of which keys are dirty;
//! - `zgossip_turn(now)`: the turn ends (input is drained): what is dirty may be sent now. Called before transmits are given out;
//! - `zgossip_timeout(now)` and `zgossip_next()`: its timers; `zgossip_role(link)`: for listings.
//!
//! What it uses: `self.write(now, key, value, lifetime, Origin::Link(link))` (None, a quota or the clock refused it and that is counted), `self.visible(key)`,
//! `self.table.visible()` in key order, `self.table.dead_value(key)` (hash of what a tombstone has removed), `self.send(link, frame)`,
//! `self.refuse(now, link, cause)`, `self.hang_up(link, why)`, `self.tell(event)`, `self.settle`.

use std::time::Instant;

use bytes::Bytes;
use tidings_zmtp::Message;

use super::Node;
use crate::config::LinkId;

mod held;
mod machine;

/// What is remembered of all ZGP links
#[derive(Default)]
pub(super) struct ZGossip {}

impl Node {
    pub(super) fn zgossip_link_up(&mut self, _now: Instant, _link: LinkId) {}

    pub(super) fn zgossip_link_down(&mut self, _now: Instant, _link: LinkId) {}

    pub(super) fn handle_zgossip(&mut self, _now: Instant, _link: LinkId, _message: Message) {}

    pub(super) fn zgossip_changed(&mut self, _now: Instant, _key: &Bytes) {}

    pub(super) fn zgossip_writable(&mut self, _now: Instant, _link: LinkId) {}

    pub(super) fn zgossip_turn(&mut self, _now: Instant) {}

    pub(super) fn zgossip_timeout(&mut self, _now: Instant) {}

    /// The state of the link's machine, for listings: `start`, `connected`
    pub(super) fn zgossip_role(&self, _link: LinkId) -> &'static str {
        "start"
    }

    pub(super) fn zgossip_next(&self) -> Option<Instant> {
        None
    }
}
