//! Contested keys: values that nodes without an order of writes keep chasing over each other are held at one of them.
//!
//! Pure state, without I/O. `zgossip.rs` asks it what to do with each value that a ZGP peer sends, and the node gives it time:
//! `handle_timeout(now)`, `next()`; `poll()` gives what is to be told, `Contested` and `Settled`.

use std::time::Instant;

use crate::event::Event;

/// Which keys are contested
#[derive(Default)]
pub(super) struct Settle {}

impl Settle {
    pub(super) fn handle_timeout(&mut self, _now: Instant) {}

    pub(super) fn next(&self) -> Option<Instant> {
        None
    }

    /// What there is to tell
    pub(super) fn poll(&mut self) -> Option<Event> {
        None
    }
}
