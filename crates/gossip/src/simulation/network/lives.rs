//! Parties, their lives and their clocks.

use std::time::{Duration, Instant, SystemTime};

use super::super::agenda::Micros;
use super::super::traffic::Count;
use super::connections::{Connect, endpoint};
use super::{LocalClock, MakeParticipant, Network, Participant};
use crate::config::{Identity, NodeConfig};
use crate::node::Node;
use crate::record::{Incarnation, NodeId};

pub(super) struct Party {
    pub(super) who: Option<Who>,
    pub(super) make: Make,
    pub(super) life: u32,
    pub(super) incarnation: u64,
    pub(super) clock: LocalClock,
    /// Whom it is told to be connected with
    pub(super) connects: Vec<Connect>,
    /// Its connections, as far as it knows
    pub(super) links: Vec<u32>,
    /// The earliest deadline on the agenda
    pub(super) scheduled: Option<Micros>,
    pub(super) busy_until: Micros,
    /// Parties of different groups do not reach each other
    pub(super) group: u32,
    pub(super) sent: Count,
}

pub(super) enum Who {
    Node(Box<Node>),
    Other(Box<dyn Participant>),
}

pub(super) enum Make {
    Node(Box<NodeConfig>, NodeId),
    Other(MakeParticipant),
}

impl Network {
    /// Whether there was none
    pub(super) fn begin_life(&mut self, party: usize) -> bool {
        let wall = SystemTime::UNIX_EPOCH + EPOCH + self.now();
        let beginning = &mut self.parties[party];
        if beginning.who.is_some() {
            return false;
        }
        let ahead = Duration::from_micros(beginning.clock.ahead_micros.unsigned_abs());
        let wall = if beginning.clock.ahead_micros < 0 { wall - ahead } else { wall + ahead };
        let millis = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        beginning.life += u32::from(beginning.incarnation > 0);
        // As a driver with a state directory makes it, whatever the wall clock says
        beginning.incarnation = millis.max(beginning.incarnation + 1);
        let incarnation = Incarnation(beginning.incarnation);
        let now = self.local(party);
        let seed = self.random.next_u64();
        let beginning = &mut self.parties[party];
        beginning.who = Some(match &beginning.make {
            Make::Node(config, id) => {
                let identity = Identity { id: *id, incarnation };
                let mut node = Node::new(config.as_ref().clone(), identity, seed, now, wall);
                node.set_endpoints(now, vec![endpoint(party)]);
                Who::Node(Box::new(node))
            }
            Make::Other(make) => Who::Other(make()),
        });
        self.running += 1;
        self.watches.forget(self.now, party, self.running);
        for number in 0..self.parties[party].connects.len() {
            self.parties[party].connects[number].tries = 0;
            self.try_connect(party, number as u32);
        }
        true
    }

    /// What a party's clock says now
    pub(super) fn local(&self, party: usize) -> Instant {
        let drift = self.parties[party].clock.drift_ppm;
        let elapsed = self.now as i128 + self.now as i128 * i128::from(drift) / 1_000_000;
        self.beginning + Duration::from_micros(elapsed.max(0) as u64)
    }

    /// When a party's clock will say that
    pub(super) fn global(&self, party: usize, at: Instant) -> Micros {
        let drift = i128::from(self.parties[party].clock.drift_ppm);
        let local = at.saturating_duration_since(self.beginning).as_nanos().div_ceil(1000) as i128;
        // One more, so that rounding doesn't bring it there too early
        let global = if drift == 0 { local } else { local * 1_000_000 / (1_000_000 + drift) + 1 };
        global.clamp(0, i128::from(u64::MAX / 2)) as Micros
    }
}

/// What the wall clock says when a network begins: 2026-01-01, so that two runs are alike
const EPOCH: Duration = Duration::from_secs(1_767_225_600);
