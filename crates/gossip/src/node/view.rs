//! Whom a node could connect to: a sample of the network, exchanged with neighbours, and links made from it.
//!
//! Pure state: the node calls it and then collects [`Output`]s with `poll()`. It is called with
//! - `on_link_up(now, link, id, endpoints, explicit)` when HELLO of a link with a node of ours came, `on_link_down(now, link)`;
//! - `on_shuffle(now, link, samples)`, and with what a BYE brought: `on_samples(now, samples)`;
//! - `on_unreachable(now, endpoint)`: a dial failed;
//! - `handle_timeout(now)` when `next()` says. Randomness is given by `seed` alone.
//!
//! Which links are *active* is not its matter (`spread.rs` chooses); it makes and ends them.

use std::time::Instant;

use super::ViewState;
use crate::config::{LinkId, NodeConfig};
use crate::record::NodeId;
use crate::wire::tidings::Sample;

/// What the view wants done
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Output {
    /// SHUFFLE on a link
    Shuffle(LinkId, Vec<Sample>),
    /// Connect there
    Dial(Sample),
    /// Say BYE with these and hang up: there are too many links
    Bye(LinkId, Vec<Sample>),
}

/// A sample of the network
pub(super) struct View {}

impl View {
    pub(super) fn new(_config: &NodeConfig, _id: NodeId, _seed: u64, _now: Instant) -> Self {
        Self {}
    }

    pub(super) fn on_link_up(
        &mut self,
        _now: Instant,
        _link: LinkId,
        _id: NodeId,
        _endpoints: &[String],
        _explicit: bool,
    ) {
    }

    pub(super) fn on_link_down(&mut self, _now: Instant, _link: LinkId) {}

    pub(super) fn on_shuffle(&mut self, _now: Instant, _link: LinkId, _samples: Vec<Sample>) {}

    pub(super) fn on_samples(&mut self, _now: Instant, _samples: Vec<Sample>) {}

    pub(super) fn on_unreachable(&mut self, _now: Instant, _endpoint: &str) {}

    pub(super) fn handle_timeout(&mut self, _now: Instant) {}

    pub(super) fn next(&self) -> Option<Instant> {
        None
    }

    pub(super) fn poll(&mut self) -> Option<Output> {
        None
    }

    pub(super) fn state(&self) -> ViewState {
        ViewState::default()
    }
}
