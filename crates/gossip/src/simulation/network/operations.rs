//! What is done to a network from outside: writes, stops and starts, faults.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::super::agenda::What;
use super::connections::Connection;
use super::lives::Who;
use super::{Ending, LocalClock, Network, PartyId, micros};
use crate::node::{Node, PutError, Written};
use crate::record::Lifetime;

impl Network {
    /// Has a node put a tuple
    ///
    /// # Errors
    /// As [`Node::put`]; and one that doesn't run is told that it has left.
    pub fn put(
        &mut self,
        party: PartyId,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
        lifetime: Lifetime,
    ) -> Result<Written, PutError> {
        let now = self.local(party.0);
        let Some(Who::Node(node)) = &mut self.parties[party.0].who else { return Err(PutError::Left) };
        let written = node.put(now, key, value, lifetime);
        self.settle(party.0);
        written
    }

    /// Has a node put a permanent tuple, and watches how it spreads
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn put_watched(
        &mut self,
        party: PartyId,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
    ) -> Result<usize, PutError> {
        let key = key.into();
        let written = self.put(party, key.clone(), value, Lifetime::Permanent)?;
        let write = Some((written.stamp, written.dot.owner));
        Ok(self.watches.add(self.now, key, write, party.0, self.running))
    }

    /// Has a node remove a key; `false` if it has none
    ///
    /// # Errors
    /// As [`Node::remove`]; and one that doesn't run is told that it has left.
    pub fn remove(&mut self, party: PartyId, key: &[u8]) -> Result<bool, PutError> {
        let now = self.local(party.0);
        let Some(Who::Node(node)) = &mut self.parties[party.0].who else { return Err(PutError::Left) };
        let removed = node.remove(now, key);
        self.settle(party.0);
        removed
    }

    /// Has a node remove a key, and watches how that spreads
    ///
    /// # Errors
    /// As [`remove`](Self::remove).
    pub fn remove_watched(&mut self, party: PartyId, key: impl Into<Bytes>) -> Result<usize, PutError> {
        let key = key.into();
        self.remove(party, &key)?;
        Ok(self.watches.add(self.now, key, None, party.0, self.running))
    }

    /// Lets the application of a node do what it likes with it
    pub fn with_node<T>(&mut self, party: PartyId, act: impl FnOnce(&mut Node, Instant) -> T) -> Option<T> {
        let now = self.local(party.0);
        let Some(Who::Node(node)) = &mut self.parties[party.0].who else { return None };
        let done = act(node, now);
        self.settle(party.0);
        Some(done)
    }

    /// Lets a test do what it likes with another participant
    pub fn with_other<T: 'static, R>(&mut self, party: PartyId, act: impl FnOnce(&mut T, Instant) -> R) -> Option<R> {
        let now = self.local(party.0);
        let Some(Who::Other(other)) = &mut self.parties[party.0].who else { return None };
        let done = act(other.as_any().downcast_mut::<T>()?, now);
        self.settle(party.0);
        Some(done)
    }

    /// Ends a party's life; nothing happens to one that doesn't run
    pub fn stop(&mut self, party: PartyId, ending: Ending) {
        if !self.runs(party) {
            return;
        }
        if ending == Ending::Leave {
            self.with_node(party, |node, now| node.leave(now));
        }
        let ended = &mut self.parties[party.0];
        ended.who = None;
        ended.scheduled = None;
        let links = std::mem::take(&mut ended.links);
        self.running -= 1;
        for connection in links {
            let end = usize::from(self.connections[connection as usize].ends[0] != party.0 as u32);
            self.connections[connection as usize].knows[end] = false;
            match ending {
                Ending::Vanish => {
                    self.connections[connection as usize].is_silent = true;
                    self.end_later(connection);
                }
                Ending::Leave | Ending::Kill => self.end(connection, "reset"),
            }
        }
        self.watches.forget(self.now, party.0, self.running);
    }

    /// Begins a party's next life after that time; it has forgotten everything but who it is
    pub fn start_after(&mut self, party: PartyId, time: Duration) {
        self.agenda.add(self.now + micros(time), party.0, What::Start);
    }

    /// Begins a party's next life now, if it doesn't run; it has forgotten everything but who it is
    pub fn start(&mut self, party: PartyId) {
        if self.begin_life(party.0) {
            self.settle(party.0);
        }
    }

    /// Sets a party's wall clock for its next life
    pub fn set_clock(&mut self, party: PartyId, clock: LocalClock) {
        self.parties[party.0].clock.ahead_micros = clock.ahead_micros;
    }

    /// Has a party do nothing for that time; what arrives waits
    pub fn pause(&mut self, party: PartyId, time: Duration) {
        self.parties[party.0].busy_until = self.now + micros(time);
    }

    /// Divides the network: those of different groups don't reach each other. Nobody is told: what is sent is lost, and connections
    /// end after a while
    pub fn partition(&mut self, group_of: impl Fn(PartyId) -> u32) {
        for party in 0..self.parties.len() {
            self.parties[party].group = group_of(PartyId(party));
        }
        for connection in 0..self.connections.len() as u32 {
            if self.is_divided(connection) && self.connections[connection as usize].is_open {
                self.end_later(connection);
            }
        }
    }

    /// Joins what was divided
    pub fn heal(&mut self) {
        self.parties.iter_mut().for_each(|party| party.group = 0);
    }

    /// Whether two parties can reach each other
    #[must_use]
    pub fn reaches(&self, one: PartyId, other: PartyId) -> bool {
        self.parties[one.0].group == self.parties[other.0].group
    }

    /// Cuts a connection between the two, if there is one; those that were told to be connected dial again
    pub fn cut(&mut self, one: PartyId, other: PartyId) -> bool {
        let between = |connection: &u32| {
            let Connection { ends, is_open, .. } = &self.connections[*connection as usize];
            *is_open && ends.contains(&(one.0 as u32)) && ends.contains(&(other.0 as u32))
        };
        let found = self.parties[one.0].links.iter().copied().find(between);
        found.inspect(|connection| self.end(*connection, "cut")).is_some()
    }

    /// Has connections from one to the other take nothing for that time
    pub fn stall(&mut self, one: PartyId, other: PartyId, time: Duration) {
        let until = self.now + micros(time);
        for connection in self.parties[one.0].links.clone() {
            let stalled = &mut self.connections[connection as usize];
            let end = usize::from(stalled.ends[0] != one.0 as u32);
            if stalled.ends[1 - end] == other.0 as u32 {
                stalled.stalled_until[end] = until;
            }
        }
    }

    /// Ends the agreement that a party be connected with another; a connection that there is ends
    pub fn disconnect(&mut self, from: PartyId, to: PartyId) {
        for number in 0..self.parties[from.0].connects.len() {
            let connect = &mut self.parties[from.0].connects[number];
            if connect.to == to.0 as u32 {
                connect.is_wanted = false;
                self.cut(from, to);
            }
        }
    }

    /// Has links lose that share of messages from now on
    pub fn set_loss(&mut self, loss: f64) {
        self.model.loss = loss;
    }
}
