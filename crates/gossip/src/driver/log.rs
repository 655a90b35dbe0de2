//! What a node tells goes to the log, but not faster than people read.

use std::time::{Duration, Instant};

use tidings_socket::Origin;

use super::permit::Access;
use super::text::shown;
use crate::event::{Event, MemberStatus};

/// Lets so many lines through in a second, and says how many it kept back
#[derive(Debug, Default)]
pub(super) struct Log {
    since: Option<Instant>,
    lines: u32,
    kept_back: u64,
}

impl Log {
    pub(super) fn tell(&mut self, now: Instant, event: &Event) {
        if !self.allows(now) {
            return;
        }
        match event {
            Event::Member(change) => {
                let (node, name, status) = (change.id, &change.name, change.status.name());
                match change.status {
                    MemberStatus::Suspect | MemberStatus::Gone => tracing::warn!(%node, name, status, "member"),
                    _ => tracing::info!(%node, name, status, "member"),
                }
            }
            Event::Link(change) => {
                let (endpoint, wire) = (&change.endpoint, change.wire.name());
                let node = change.node.map(|node| node.to_string()).unwrap_or_default();
                match &change.state {
                    Ok(()) => tracing::info!(endpoint, wire, node, "link up"),
                    Err(why) => tracing::info!(endpoint, wire, node, why, "link down"),
                }
            }
            Event::Contested { key, winner, values } => {
                let (key, winner, values) = (key.escape_ascii(), shown(winner), values.len());
                tracing::warn!(%key, %winner, values, "nodes that know no order keep overwriting a key: it is held");
            }
            Event::Settled { key } => tracing::info!(key = %key.escape_ascii(), "a contested key has settled"),
            Event::Refused { link, cause, count } => {
                tracing::warn!(link = link.0, cause = cause.name(), count, "refused what a peer sent");
            }
            Event::Missed { count } => tracing::warn!(count, "a node had more events than it may hold"),
            _ => {}
        }
    }

    pub(super) fn not_permitted(&mut self, now: Instant, origin: &Origin, access: Access, key: &[u8]) {
        if self.allows(now) {
            let (peer, user) = (&origin.address, origin.user_id.escape_ascii());
            let key = shown(key);
            tracing::warn!(event = "not-permitted", %peer, %user, access = access.name(), %key, "a peer may not do that");
        }
    }

    pub(super) fn slow_guest(&mut self, now: Instant, origin: &Origin) {
        if self.allows(now) {
            tracing::warn!(peer = %origin.address, "a peer that doesn't read its replies was disconnected");
        }
    }

    pub(super) fn dial(&mut self, now: Instant, endpoint: &str, why: &str) {
        if self.allows(now) {
            tracing::info!(endpoint, why, "not connected");
        }
    }

    fn allows(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= PERIOD) {
            if self.kept_back > 0 {
                tracing::warn!(lines = self.kept_back, "more happened at the node than is logged; see the counters");
            }
            *self = Self { since: Some(now), ..Self::default() };
        }
        self.lines += 1;
        if self.lines > LINES {
            self.kept_back += 1;
        }
        self.lines <= LINES
    }
}

const PERIOD: Duration = Duration::from_secs(1);
const LINES: u32 = 100;
