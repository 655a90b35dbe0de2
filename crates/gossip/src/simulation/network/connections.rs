//! Connections: dialled, told, cut, dialled again; and the messages that are under way on them.

use std::time::Duration;

use bytes::Bytes;
use tidings_zmtp::Message;

use super::super::agenda::{Micros, What};
use super::super::traffic::Count;
use super::lives::{Make, Who};
use super::{Network, TURN, micros};
use crate::config::{LinkId, LinkInfo, Side, Wire};
use crate::event::HangUp;
use crate::node::Action;

pub(super) struct Connection {
    /// Who dialled, and who was dialled
    pub(super) ends: [u32; 2],
    pub(super) lives: [u32; 2],
    /// The place among the dialler's `connects`, if it was told to
    pub(super) connect: Option<u32>,
    pub(super) is_open: bool,
    pub(super) since: Micros,
    /// Which ends have been told that it is up, and not yet that it is down
    pub(super) knows: [bool; 2],
    pub(super) reason: &'static str,
    /// For each end's sending: when the last message arrives
    pub(super) last_arrival: [Micros; 2],
    /// For each end's sending: until when the line is in use
    pub(super) in_use: [Micros; 2],
    pub(super) stalled_until: [Micros; 2],
    /// Nothing goes over it, and nobody knows
    pub(super) is_silent: bool,
}

pub(super) struct Flight {
    pub(super) connection: u32,
    pub(super) to_end: u8,
    pub(super) frame: Bytes,
}

pub(super) struct DialUnderWay {
    pub(super) from: u32,
    pub(super) life: u32,
    pub(super) to: Option<u32>,
    pub(super) endpoint: String,
    pub(super) connect: Option<u32>,
}

/// An agreement to be connected
pub(super) struct Connect {
    pub(super) to: u32,
    /// Attempts that failed, or didn't last, in a row
    pub(super) tries: u32,
    pub(super) is_wanted: bool,
}

impl Network {
    pub(super) fn send(&mut self, party: usize, link: LinkId, frame: Bytes) {
        let (number, end) = split(link);
        let Some(connection) = self.connections.get_mut(number) else { return };
        if !connection.is_open || !connection.knows[end] || connection.ends[end] != party as u32 {
            return;
        }
        let backlog = self.model.bandwidth.map(|bandwidth| {
            let waiting = connection.in_use[end].saturating_sub(self.now) as u128;
            (waiting * u128::from(bandwidth) / 1_000_000) as usize
        });
        let is_stalled = connection.stalled_until[end] > self.now;
        if is_stalled || backlog.is_some_and(|backlog| backlog > self.model.queue) {
            let drained = match self.model.bandwidth {
                Some(bandwidth) if !is_stalled => {
                    let half = self.model.queue as u64 / 2 * 1_000_000 / bandwidth.max(1);
                    connection.in_use[end].saturating_sub(half)
                }
                _ => connection.stalled_until[end],
            };
            let at = drained.max(self.now + 1).next_multiple_of(TURN);
            self.agenda.add(at, party, What::Writable(number as u32));
            let now = self.local(party);
            if let Some(Who::Node(node)) = &mut self.parties[party].who {
                node.handle_unsent(now, link, frame);
            }
            return;
        }
        let octets = self.traffic.note(&frame);
        let count = Count { messages: 1, octets };
        self.parties[party].sent = self.parties[party].sent + count;
        if let Some(bandwidth) = self.model.bandwidth {
            let takes = (u128::from(octets) * 1_000_000).div_ceil(u128::from(bandwidth.max(1))) as u64;
            connection.in_use[end] = connection.in_use[end].max(self.now) + takes;
        }
        let is_silent = connection.is_silent;
        let leaves = connection.in_use[end].max(self.now);
        let is_lost = is_silent || self.random.chance(self.model.loss) || self.is_divided(number as u32);
        let arrives = leaves + micros(self.model.latency.draw(&mut self.random));
        if is_lost {
            self.lost = self.lost + count;
            return;
        }
        let connection = &mut self.connections[number];
        let at = arrives.max(connection.last_arrival[end]).max(self.now + 1).next_multiple_of(TURN);
        connection.last_arrival[end] = at;
        let to = connection.ends[1 - end] as usize;
        let flight = Flight { connection: number as u32, to_end: 1 - end as u8, frame };
        let flight = self.flights.insert(flight) as u32;
        self.agenda.add(at, to, What::Arrival(flight));
    }

    pub(super) fn arrive(&mut self, party: usize, flight: u32) {
        let Flight { connection, to_end, frame } = self.flights.remove(flight as usize);
        let end = usize::from(to_end);
        let through = &self.connections[connection as usize];
        if !through.knows[end] || through.lives[end] != self.parties[party].life || self.is_divided(connection) {
            self.lost = self.lost + Count { messages: 1, octets: frame.len() as u64 };
            return;
        }
        let now = self.local(party);
        let link = link_id(connection, end);
        match &mut self.parties[party].who {
            Some(Who::Node(node)) => node.handle_message(now, link, Message::from(frame)),
            Some(Who::Other(other)) => other.handle_message(now, link, Message::from(frame)),
            None => {}
        }
    }

    pub(super) fn act(&mut self, party: usize, action: Action) {
        match action {
            Action::Dial { endpoint, .. } => {
                let to = number_of(&endpoint).filter(|to| (*to as usize) < self.parties.len());
                self.dial(party, to, endpoint, None);
            }
            Action::HangUp { link, reason } => {
                match self.hang_ups.iter_mut().find(|(known, _)| *known == reason) {
                    Some((_, count)) => *count += 1,
                    None => self.hang_ups.push((reason, 1)),
                }
                let (number, end) = split(link);
                let Some(connection) = self.connections.get_mut(number) else { return };
                if connection.knows[end] {
                    connection.knows[end] = false;
                    self.parties[party].links.retain(|known| *known != number as u32);
                    self.redial(number as u32, end, wait_after(reason));
                }
                if self.connections[number].is_open {
                    self.end(number as u32, reason.name());
                }
            }
        }
    }

    /// Both ends that don't know it are told after what is under way
    pub(super) fn end(&mut self, number: u32, reason: &'static str) {
        let connection = &mut self.connections[number as usize];
        if !std::mem::replace(&mut connection.is_open, false) {
            return;
        }
        connection.reason = reason;
        for end in [0, 1] {
            let connection = &self.connections[number as usize];
            if connection.knows[end] {
                let latency = micros(self.model.latency.draw(&mut self.random));
                let at = (self.now + latency).max(connection.last_arrival[1 - end]).max(self.now + 1);
                let party = connection.ends[end] as usize;
                self.agenda.add(at.next_multiple_of(TURN), party, What::Down(number));
            }
        }
    }

    /// The ends notice by and by that nothing comes through any more
    pub(super) fn end_later(&mut self, number: u32) {
        for end in [0, 1] {
            let connection = &self.connections[number as usize];
            if connection.knows[end] {
                let spread = self.random.within(0..=micros(NOTICED) / 2);
                let at = (self.now + micros(NOTICED) + spread).next_multiple_of(TURN);
                self.agenda.add(at, connection.ends[end] as usize, What::Down(number));
            }
        }
    }

    pub(super) fn tell_up(&mut self, party: usize, number: u32) {
        let connection = &mut self.connections[number as usize];
        let end = usize::from(connection.ends[0] != party as u32);
        if !connection.is_open || connection.lives[end] != self.parties[party].life {
            return;
        }
        connection.knows[end] = true;
        let explicit = end == 0 && connection.connect.is_some();
        let is_ours = |party: u32| matches!(self.parties[party as usize].make, Make::Node(..));
        let wire = if connection.ends.into_iter().all(is_ours) { Wire::Tidings } else { Wire::ZGossip };
        let side = if end == 0 { Side::Remote } else { Side::Server };
        let other = connection.ends[1 - end] as usize;
        let endpoint = if end == 0 { endpoint(other) } else { from_endpoint(other, number) };
        let info = LinkInfo { side, wire, endpoint, key: None, explicit, is_leaf: false };
        let now = self.local(party);
        self.parties[party].links.push(number);
        match &mut self.parties[party].who {
            Some(Who::Node(node)) => node.handle_link_up(now, link_id(number, end), info),
            Some(Who::Other(other)) => other.handle_link_up(now, link_id(number, end), info),
            None => {}
        }
    }

    pub(super) fn tell_down(&mut self, party: usize, number: u32) {
        let connection = &self.connections[number as usize];
        let end = usize::from(connection.ends[0] != party as u32);
        // One that was only divided may be whole again
        let is_dead = !connection.is_open || connection.is_silent || self.is_divided(number);
        if !is_dead || !connection.knows[end] || connection.lives[end] != self.parties[party].life {
            return;
        }
        let connection = &mut self.connections[number as usize];
        let reason = if connection.is_open { "silent" } else { connection.reason };
        connection.knows[end] = false;
        if std::mem::replace(&mut connection.is_open, false) && connection.knows[1 - end] && !connection.is_silent {
            // The other end hears of it as soon as anything gets through
            connection.is_silent = true;
        }
        let now = self.local(party);
        self.parties[party].links.retain(|known| *known != number);
        match &mut self.parties[party].who {
            Some(Who::Node(node)) => node.handle_link_down(now, link_id(number, end), reason),
            Some(Who::Other(other)) => other.handle_link_down(now, link_id(number, end)),
            None => {}
        }
        self.redial(number, end, Duration::ZERO);
    }

    pub(super) fn tell_writable(&mut self, party: usize, number: u32) {
        let connection = &self.connections[number as usize];
        let end = usize::from(connection.ends[0] != party as u32);
        if connection.knows[end] && connection.lives[end] == self.parties[party].life {
            let now = self.local(party);
            if let Some(Who::Node(node)) = &mut self.parties[party].who {
                node.handle_writable(now, link_id(number, end));
            }
        }
    }

    /// Has the dialler of a connection that ended dial again after that time at least, if it was told to keep it
    pub(super) fn redial(&mut self, number: u32, end: usize, least: Duration) {
        let connection = &self.connections[number as usize];
        let party = connection.ends[0] as usize;
        let (Some(connect), 0) = (connection.connect, end) else { return };
        if self.now - connection.since >= micros(RECONNECT_MAX) {
            self.parties[party].connects[connect as usize].tries = 0;
        }
        self.connect_later(party, connect, least);
    }

    /// As a socket does it: longer after each failure, from the upper half of the wait by chance
    pub(super) fn connect_later(&mut self, party: usize, number: u32, least: Duration) {
        let connect = &mut self.parties[party].connects[number as usize];
        let doubled = RECONNECT.saturating_mul(1 << connect.tries.min(10)).min(RECONNECT_MAX).max(least);
        connect.tries += 1;
        let wait = micros(doubled);
        let at = self.now + self.random.within(wait / 2..=wait);
        self.agenda.add(at.max(self.now + 1).next_multiple_of(TURN), party, What::Connect(number));
    }

    pub(super) fn try_connect(&mut self, party: usize, number: u32) {
        let Some(connect) = self.parties[party].connects.get(number as usize) else { return };
        if connect.is_wanted && self.parties[party].who.is_some() && !self.is_connected(party, number) {
            let to = connect.to;
            self.dial(party, Some(to), endpoint(to as usize), Some(number));
        }
    }

    /// Whether there is or comes a connection of that agreement
    pub(super) fn is_connected(&self, party: usize, number: u32) -> bool {
        let is_of = |link: &u32| {
            let connection = &self.connections[*link as usize];
            connection.ends[0] == party as u32 && connection.connect == Some(number)
        };
        let life = self.parties[party].life;
        self.parties[party].links.iter().any(is_of)
            || self
                .dials
                .iter()
                .any(|(_, dial)| dial.connect == Some(number) && dial.life == life && dial.from == party as u32)
    }

    pub(super) fn dial(&mut self, party: usize, to: Option<u32>, endpoint: String, connect: Option<u32>) {
        // TCP's handshake and ZMTP's greeting and READY: two ways there and back
        let takes: Micros = (0..4).map(|_| micros(self.model.latency.draw(&mut self.random))).sum();
        let is_reachable = to.is_some_and(|to| self.parties[to as usize].group == self.parties[party].group);
        let takes = if is_reachable { takes } else { micros(DIAL_TIMEOUT) };
        let life = self.parties[party].life;
        let dial = self.dials.insert(DialUnderWay { from: party as u32, life, to, endpoint, connect });
        let at = (self.now + takes).max(self.now + 1).next_multiple_of(TURN);
        self.agenda.add(at, party, What::Dialled(dial as u32));
    }

    pub(super) fn answer_dial(&mut self, party: usize, dial: u32) {
        let DialUnderWay { life, to, endpoint, connect, .. } = self.dials.remove(dial as usize);
        if self.parties[party].who.is_none() || self.parties[party].life != life {
            return;
        }
        let answers = |to: &u32| {
            let there = &self.parties[*to as usize];
            there.who.is_some() && there.group == self.parties[party].group
        };
        if let Some(to) = to.filter(answers) {
            let number = self.connections.len() as u32;
            self.connections.push(Connection {
                ends: [party as u32, to],
                lives: [life, self.parties[to as usize].life],
                connect,
                is_open: true,
                since: self.now,
                knows: [false; 2],
                reason: "",
                last_arrival: [0; 2],
                in_use: [0; 2],
                stalled_until: [0; 2],
                is_silent: false,
            });
            // The dialled end is up with the dialler's READY, before anything else can come
            self.tell_up(to as usize, number);
            self.settle(to as usize);
            self.tell_up(party, number);
            return;
        }
        match connect {
            Some(number) => self.connect_later(party, number, Duration::ZERO),
            None => {
                let now = self.local(party);
                if let Some(Who::Node(node)) = &mut self.parties[party].who {
                    node.handle_dial_failed(now, &endpoint);
                }
            }
        }
    }

    pub(super) fn is_divided(&self, number: u32) -> bool {
        let [one, other] = self.connections[number as usize].ends;
        self.parties[one as usize].group != self.parties[other as usize].group
    }
}

/// How long until it is dialled again that a node hung up on, at least: as the driver does it
fn wait_after(reason: HangUp) -> Duration {
    match reason {
        HangUp::Left | HangUp::Leaving | HangUp::Crowded | HangUp::Stuck => Duration::ZERO,
        _ => REFUSED,
    }
}

fn link_id(connection: u32, end: usize) -> LinkId {
    LinkId(u64::from(connection) * 2 + end as u64)
}

fn split(link: LinkId) -> (usize, usize) {
    ((link.0 / 2) as usize, (link.0 % 2) as usize)
}

/// Where a party listens: an address as long as real ones
pub(super) fn endpoint(party: usize) -> String {
    let [_, a, b, c] = (party as u32).to_be_bytes();
    format!("tcp://10.{a}.{b}.{c}:4833")
}

fn from_endpoint(party: usize, connection: u32) -> String {
    let [_, a, b, c] = (party as u32).to_be_bytes();
    format!("tcp://10.{a}.{b}.{c}:{}", 32_768 + connection % 28_000)
}

fn number_of(endpoint: &str) -> Option<u32> {
    let address = endpoint.strip_prefix("tcp://10.")?.strip_suffix(":4833")?;
    let mut octets = address.split('.').map(|octet| octet.parse::<u8>().ok());
    let [a, b, c] = [octets.next()??, octets.next()??, octets.next()??];
    octets.next().is_none().then(|| u32::from_be_bytes([0, a, b, c]))
}

/// The first and the longest wait before a connection that was asked for is tried again
const RECONNECT: Duration = Duration::from_millis(100);
const RECONNECT_MAX: Duration = Duration::from_secs(2);
/// How long a dial into the dark takes
const DIAL_TIMEOUT: Duration = Duration::from_secs(3);
/// How long until an end notices that nothing comes through, at least; half as much more at most
const NOTICED: Duration = Duration::from_secs(15);
/// How long a dialler stays away from where something has to change first
const REFUSED: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_read_back() {
        for party in [0, 1, 255, 256, 70_000, 9_999_999] {
            assert_eq!(number_of(&endpoint(party)), Some(party as u32));
        }
        assert_eq!(number_of("tcp://10.0.0.1:9"), None);
        assert_eq!(number_of("tcp://10.0.0.1.2:4833"), None);
    }
}
