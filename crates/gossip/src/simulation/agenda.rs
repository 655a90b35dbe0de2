//! What happens when: the order of a simulated network's events.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Microseconds since the network began
pub(super) type Micros = u64;

/// What happens to a party
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    /// A message arrives: the flight of that number
    Arrival(u32),
    /// A deadline of its own may be due
    Deadline,
    /// A connection is down, at its end
    Down(u32),
    /// A connection takes frames again
    Writable(u32),
    /// It tries the connection that it was told to keep
    Connect(u32),
    /// What it dialled answers, or doesn't: the dial of that number
    Dialled(u32),
    /// It begins a new life
    Start,
}

/// One event; those of a party at one time are a turn
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Item {
    pub(super) at: Micros,
    pub(super) party: u32,
    /// What was put down first happens first
    order: u64,
    pub(super) what: What,
}

/// Everything that lies ahead
#[derive(Debug, Default)]
pub(super) struct Agenda {
    heap: BinaryHeap<Reverse<Item>>,
    order: u64,
}

impl Agenda {
    pub(super) fn add(&mut self, at: Micros, party: usize, what: What) {
        self.order += 1;
        // Parties are counted by u32: see `Network::add`
        self.heap.push(Reverse(Item { at, party: party as u32, order: self.order, what }));
    }

    /// The next item until then
    pub(super) fn pop_until(&mut self, until: Micros) -> Option<Item> {
        self.heap.peek().filter(|Reverse(item)| item.at <= until)?;
        self.heap.pop().map(|Reverse(item)| item)
    }

    /// The next item, if it is of the same turn
    pub(super) fn pop_same(&mut self, at: Micros, party: u32) -> Option<Item> {
        self.heap.peek().filter(|Reverse(item)| item.at == at && item.party == party)?;
        self.heap.pop().map(|Reverse(item)| item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_comes_together_and_in_order() {
        let mut agenda = Agenda::default();
        for (at, party, number) in [(20, 1, 0), (10, 2, 1), (10, 1, 2), (10, 2, 3), (10, 1, 4)] {
            agenda.add(at, party, What::Arrival(number));
        }
        let first = agenda.pop_until(15).unwrap();
        assert_eq!((first.at, first.party, first.what), (10, 1, What::Arrival(2)));
        assert_eq!(agenda.pop_same(10, 1).map(|item| item.what), Some(What::Arrival(4)));
        assert_eq!(agenda.pop_same(10, 1), None);
        assert_eq!(agenda.pop_until(15).map(|item| item.what), Some(What::Arrival(1)));
        assert_eq!(agenda.pop_until(15).map(|item| item.what), Some(What::Arrival(3)));
        assert_eq!(agenda.pop_until(15), None);
        assert_eq!(agenda.heap.peek().map(|Reverse(item)| item.at), Some(20));
    }
}
