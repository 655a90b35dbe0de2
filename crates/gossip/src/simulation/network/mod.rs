//! The network itself: nodes as they are in the product, connections between them, and time that jumps.
//!
//! A node is given what arrives in a turn of 100 µs together, as a driver drains its input before it answers. Its clock may
//! run fast or slow and tell another time than others' do. A connection keeps the order of its messages.

mod connections;
mod lives;
mod operations;
mod turns;

use std::time::{Duration, Instant};

use slab::Slab;
use tidings_zmtp::Message;

use self::connections::{Connect, Connection, DialUnderWay, Flight};
use self::lives::{Make, Party, Who};
use super::agenda::{Agenda, Micros};
use super::links::LinkModel;
use super::random::Random;
use super::traffic::{Count, Traffic};
use super::watch::{Spread, Watches};
use crate::config::{LinkId, LinkInfo, NodeConfig};
use crate::event::{Event, HangUp};
use crate::node::{Node, Transmit};
use crate::record::NodeId;

/// Names one party of a network, in the order in which they were added
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartyId(pub usize);

/// Somebody on the network who is no node of ours
pub trait Participant: Send {
    /// A connection was made
    fn handle_link_up(&mut self, now: Instant, link: LinkId, info: LinkInfo);
    /// A connection ended
    fn handle_link_down(&mut self, now: Instant, link: LinkId);
    /// A message came
    fn handle_message(&mut self, now: Instant, link: LinkId, message: Message);
    /// Time has passed
    fn handle_timeout(&mut self, now: Instant);
    /// The next frame to send
    fn poll_transmit(&mut self) -> Option<Transmit>;
    /// When [`handle_timeout`](Self::handle_timeout) is due
    fn poll_timeout(&self) -> Option<Instant>;
    /// For those who put it there, to look at it
    fn as_any(&mut self) -> &mut dyn std::any::Any;
}

/// Makes a [`Participant`] for each of its lives
pub type MakeParticipant = Box<dyn Fn() -> Box<dyn Participant> + Send>;

/// Nodes, their connections, and a clock
pub struct Network {
    model: LinkModel,
    random: Random,
    beginning: Instant,
    now: Micros,
    agenda: Agenda,
    parties: Vec<Party>,
    running: usize,
    connections: Vec<Connection>,
    flights: Slab<Flight>,
    dials: Slab<DialUnderWay>,
    traffic: Traffic,
    lost: Count,
    watches: Watches,
    happenings: Option<Vec<Happening>>,
    hang_ups: Vec<(HangUp, u64)>,
}

/// An event of a node
#[derive(Clone, Debug, PartialEq)]
pub struct Happening {
    /// Since the network began
    pub at: Duration,
    /// Whose
    pub party: PartyId,
    /// In which of its lives, from 0
    pub life: u32,
    /// What
    pub event: Event,
}

/// How a party's clock differs from the network's
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LocalClock {
    /// By how much its wall clock is ahead, or behind
    pub ahead_micros: i64,
    /// By how many millionths it runs fast, or slow
    pub drift_ppm: i64,
}

/// How a party ends
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It says goodbye first
    Leave,
    /// Its process ends; the system ends its connections
    Kill,
    /// It is gone from one moment to the next, and nobody is told
    Vanish,
}

impl Network {
    /// An empty network; what chance decides comes from the seed alone
    #[must_use]
    pub fn new(seed: u64, model: LinkModel) -> Self {
        Self {
            model,
            random: Random::seeded(seed),
            beginning: Instant::now(),
            now: 0,
            agenda: Agenda::default(),
            parties: Vec::new(),
            running: 0,
            connections: Vec::new(),
            flights: Slab::new(),
            dials: Slab::new(),
            traffic: Traffic::default(),
            lost: Count::default(),
            watches: Watches::default(),
            happenings: None,
            hang_ups: Vec::new(),
        }
    }

    /// Adds a node, which begins its first life at once; its id comes from chance
    pub fn add(&mut self, config: NodeConfig, clock: LocalClock) -> PartyId {
        let id = NodeId(self.random.next_u64());
        self.add_party(Make::Node(Box::new(config), id), clock)
    }

    /// Adds somebody else, who speaks ZGP
    pub fn add_other(&mut self, make: MakeParticipant) -> PartyId {
        self.add_party(Make::Other(make), LocalClock::default())
    }

    fn add_party(&mut self, make: Make, clock: LocalClock) -> PartyId {
        let party = PartyId(self.parties.len());
        self.parties.push(Party {
            who: None,
            make,
            life: 0,
            incarnation: 0,
            clock,
            connects: Vec::new(),
            links: Vec::new(),
            scheduled: None,
            busy_until: 0,
            group: 0,
            sent: Count::default(),
        });
        self.begin_life(party.0);
        self.settle(party.0);
        party
    }

    /// Tells a party to be connected with another, from now on and in all its lives
    pub fn connect(&mut self, from: PartyId, to: PartyId) {
        let connects = &mut self.parties[from.0].connects;
        let number = connects.len() as u32;
        connects.push(Connect { to: to.0 as u32, tries: 0, is_wanted: true });
        self.try_connect(from.0, number);
    }

    /// Since the network began
    #[must_use]
    pub fn now(&self) -> Duration {
        Duration::from_micros(self.now)
    }

    /// How many parties there are, stopped ones included
    #[must_use]
    pub fn len(&self) -> usize {
        self.parties.len()
    }

    /// Whether there is none
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parties.is_empty()
    }

    /// How many of them run
    #[must_use]
    pub fn running(&self) -> usize {
        self.running
    }

    /// Whether that one runs
    #[must_use]
    pub fn runs(&self, party: PartyId) -> bool {
        self.parties[party.0].who.is_some()
    }

    /// Which of its lives it is in, from 0; for one that is stopped, the last
    #[must_use]
    pub fn life(&self, party: PartyId) -> u32 {
        self.parties[party.0].life
    }

    /// The node there, if it is one and runs
    #[must_use]
    pub fn node(&self, party: PartyId) -> Option<&Node> {
        match self.parties[party.0].who.as_ref()? {
            Who::Node(node) => Some(node),
            Who::Other(_) => None,
        }
    }

    /// The other participant there, if it is one and runs
    pub fn other(&mut self, party: PartyId) -> Option<&mut dyn Participant> {
        match self.parties[party.0].who.as_mut()? {
            Who::Node(_) => None,
            Who::Other(other) => Some(other.as_mut()),
        }
    }

    /// What a party's own clock says
    #[must_use]
    pub fn local_now(&self, party: PartyId) -> Instant {
        self.local(party.0)
    }

    /// All nodes that run
    pub fn nodes(&self) -> impl Iterator<Item = (PartyId, &Node)> {
        (0..self.parties.len()).filter_map(|party| Some((PartyId(party), self.node(PartyId(party))?)))
    }

    /// What was sent so far
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// What of it got lost
    #[must_use]
    pub fn lost(&self) -> Count {
        self.lost
    }

    /// What one party sent, in all its lives
    #[must_use]
    pub fn sent(&self, party: PartyId) -> Count {
        self.parties[party.0].sent
    }

    /// Connections that are open
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.parties.iter().map(|party| party.links.len()).sum::<usize>() / 2
    }

    /// How often nodes hung up, by reason
    #[must_use]
    pub fn hang_ups(&self) -> &[(HangUp, u64)] {
        &self.hang_ups
    }

    /// Keeps all events from now on, for [`take_happenings`](Self::take_happenings)
    pub fn keep_happenings(&mut self) {
        self.happenings.get_or_insert_default();
    }

    /// The events since this was last called, in their order
    pub fn take_happenings(&mut self) -> Vec<Happening> {
        self.happenings.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// How many nodes know the watched write of that number
    #[must_use]
    pub fn knowing(&self, watch: usize) -> usize {
        self.watches.knowing(watch)
    }

    /// How the watched write of that number spread
    #[must_use]
    pub fn spread(&self, watch: usize) -> Spread {
        self.watches.spread(watch)
    }

    /// Forgets what was watched; the numbers of before mean nothing any more
    pub fn clear_watches(&mut self) {
        self.watches.clear();
    }

    /// Lets that much time pass, with all that happens in it
    pub fn run_for(&mut self, time: Duration) {
        self.run_until(self.now() + time);
    }

    /// Lets time pass until then
    pub fn run_until(&mut self, until: Duration) {
        // Up to a whole microsecond, so that it is then at least that late
        let until = micros(until + Duration::from_nanos(999));
        while let Some(first) = self.agenda.pop_until(until) {
            self.turn(first);
        }
        self.now = self.now.max(until);
    }

    /// Lets time pass until that is so, looking every `step`; whether it came to be so within `limit`
    pub fn run_while(&mut self, limit: Duration, step: Duration, mut goes_on: impl FnMut(&mut Self) -> bool) -> bool {
        let end = self.now() + limit;
        while goes_on(self) {
            if self.now() >= end {
                return false;
            }
            self.run_until((self.now() + step).min(end));
        }
        true
    }

    /// Whether all running nodes that can reach each other have the same digest of all that they know
    #[must_use]
    pub fn agrees(&self) -> bool {
        let mut roots: Vec<(u32, u64)> = Vec::new();
        self.nodes().all(|(party, node)| {
            let group = self.parties[party.0].group;
            match roots.iter().find(|(known, _)| *known == group) {
                Some((_, root)) => *root == node.root(),
                None => {
                    roots.push((group, node.root()));
                    true
                }
            }
        })
    }

    /// The share of running nodes whose digest is the one that most have
    #[must_use]
    pub fn agreement(&self) -> f64 {
        let mut counts = std::collections::HashMap::<u64, usize>::new();
        self.nodes().for_each(|(_, node)| *counts.entry(node.root()).or_default() += 1);
        let all: usize = counts.values().sum();
        counts.values().max().map_or(1.0, |most| *most as f64 / all as f64)
    }
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Network")
            .field("now", &self.now())
            .field("parties", &self.parties.len())
            .field("running", &self.running)
            .finish_non_exhaustive()
    }
}

fn micros(time: Duration) -> Micros {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// How long a node gathers what comes before it answers; latencies are rounded up to it
const TURN: Micros = 100;

#[cfg(test)]
mod tests;
