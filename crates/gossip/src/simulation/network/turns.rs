//! Turns: what happens to a party at one time, and what it says to that.

use std::time::Duration;

use super::super::agenda::{Item, What};
use super::lives::Who;
use super::{Happening, Network, PartyId, TURN};
use crate::node::Transmit;

impl Network {
    pub(super) fn turn(&mut self, first: Item) {
        self.now = self.now.max(first.at);
        let party = first.party as usize;
        let busy_until = self.parties[party].busy_until;
        let mut next = Some(first);
        while let Some(item) = next {
            match item.what {
                // It comes later to what it can't do now
                what if busy_until > self.now && self.parties[party].who.is_some() => {
                    self.agenda.add(busy_until, party, what);
                    if what == What::Deadline {
                        self.parties[party].scheduled = Some(busy_until);
                    }
                }
                what => self.handle(party, what),
            }
            next = self.agenda.pop_same(first.at, first.party);
        }
        if busy_until <= self.now {
            self.settle(party);
        }
    }

    pub(super) fn handle(&mut self, party: usize, what: What) {
        match what {
            What::Arrival(flight) => self.arrive(party, flight),
            What::Deadline => {
                if self.parties[party].scheduled == Some(self.now) {
                    self.parties[party].scheduled = None;
                }
                let now = self.local(party);
                match &mut self.parties[party].who {
                    Some(Who::Node(node)) if node.poll_timeout().is_some_and(|at| at <= now) => {
                        node.handle_timeout(now);
                    }
                    Some(Who::Other(other)) if other.poll_timeout().is_some_and(|at| at <= now) => {
                        other.handle_timeout(now);
                    }
                    _ => {}
                }
            }
            What::Down(connection) => self.tell_down(party, connection),
            What::Writable(connection) => self.tell_writable(party, connection),
            What::Connect(number) => self.try_connect(party, number),
            What::Dialled(dial) => self.answer_dial(party, dial),
            What::Start => {
                self.begin_life(party);
            }
        }
    }

    /// Collects what a party wants after a turn
    pub(super) fn settle(&mut self, party: usize) {
        let mut transmits = Vec::new();
        let mut actions = Vec::new();
        let life = self.parties[party].life;
        loop {
            match &mut self.parties[party].who {
                Some(Who::Node(node)) => {
                    transmits.extend(std::iter::from_fn(|| node.poll_transmit()));
                    actions.extend(std::iter::from_fn(|| node.poll_action()));
                    let has_to_tell = self.happenings.is_some() || !self.watches.is_empty();
                    while let Some(event) = node.poll_event() {
                        if has_to_tell {
                            self.watches.note(self.now, party, &event, self.running);
                            if let Some(happenings) = &mut self.happenings {
                                let at = Duration::from_micros(self.now);
                                happenings.push(Happening { at, party: PartyId(party), life, event });
                            }
                        }
                    }
                }
                Some(Who::Other(other)) => transmits.extend(std::iter::from_fn(|| other.poll_transmit())),
                None => return,
            }
            if transmits.is_empty() && actions.is_empty() {
                break;
            }
            for Transmit { link, frame } in transmits.drain(..) {
                self.send(party, link, frame);
            }
            for action in actions.drain(..) {
                self.act(party, action);
            }
        }
        self.schedule(party);
    }

    pub(super) fn schedule(&mut self, party: usize) {
        let due = match &self.parties[party].who {
            Some(Who::Node(node)) => node.poll_timeout(),
            Some(Who::Other(other)) => other.poll_timeout(),
            None => None,
        };
        let Some(due) = due else { return };
        // One that is due already is due in the next turn: time goes on, whatever a node says
        let at = self.global(party, due).max(self.now + 1).next_multiple_of(TURN);
        if self.parties[party].scheduled.is_none_or(|scheduled| at < scheduled) {
            self.parties[party].scheduled = Some(at);
            self.agenda.add(at, party, What::Deadline);
        }
    }
}
