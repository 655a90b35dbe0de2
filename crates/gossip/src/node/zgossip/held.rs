//! What one ZGP peer has: by key, a hash of the value that it was last sent, or that it sent.
//!
//! A CZMQ node says every tuple that it takes to all its peers, the one that it has it from included. Such an echo is no
//! write. A value that was sent is *in flight* until its echo comes; a link keeps order, so an echo of one in flight also
//! ends what was sent before it. Nobody has to echo: after [`ECHO_TIME`] a value is taken to have arrived without one.
//! A value that comes while another is in flight was sent before the peer read ours, which it goes on to take: then it has ours.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use smallvec::SmallVec;

/// What a value that came from a peer is
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// What it was sent a moment ago
    Echo,
    /// What it has from elsewhere
    Told,
}

/// What a peer has, by hashes of keys and values that nobody else can foresee
#[derive(Default)]
pub(super) struct Held {
    keys: HashMap<u64, Has, foldhash::fast::FixedState>,
    /// All that is in flight, oldest first, and some that is not any more
    flights: VecDeque<Flight>,
    next_flight: u32,
}

struct Has {
    value: u64,
    /// The peer itself has said so; otherwise it may never have taken it
    is_confirmed: bool,
    /// What it was sent last was news
    is_news: bool,
    in_flight: SmallVec<[(u32, u64); 1]>,
}

struct Flight {
    ends: Instant,
    key: u64,
    number: u32,
}

impl Held {
    /// The value that the peer has, as far as is known
    pub(super) fn has(&self, key: u64) -> Option<u64> {
        self.keys.get(&key).map(|has| has.value)
    }

    /// The value that the peer has said to have, or was sent so long ago that it must have read it
    pub(super) fn knows(&mut self, now: Instant, key: u64) -> Option<u64> {
        self.expire(now);
        self.keys.get(&key).filter(|has| has.in_flight.is_empty()).map(|has| has.value)
    }

    /// Whether news of the key are under way, which the peer will take
    pub(super) fn is_in_flight(&mut self, now: Instant, key: u64) -> bool {
        self.expire(now);
        self.keys.get(&key).is_some_and(|has| has.is_news && !has.in_flight.is_empty())
    }

    /// Whatever the peer has, it is to be sent the key again
    pub(super) fn forget(&mut self, key: u64) {
        self.keys.remove(&key);
    }

    /// The peer was sent a value, as news or because it may know nothing
    pub(super) fn on_sent(&mut self, now: Instant, key: u64, value: u64, is_news: bool) {
        self.expire(now);
        let number = self.next_flight;
        self.next_flight = number.wrapping_add(1);
        let has = self.keys.entry(key).or_insert_with(|| Has::new(value));
        (has.value, has.is_confirmed, has.is_news) = (value, false, is_news);
        if has.in_flight.len() == MAX_IN_FLIGHT {
            has.in_flight.remove(0);
        }
        has.in_flight.push((number, value));
        if self.flights.len() == MAX_FLIGHTS {
            self.end_flight();
        }
        self.flights.push_back(Flight { ends: now + ECHO_TIME, key, number });
    }

    /// The peer sent a value
    pub(super) fn on_heard(&mut self, now: Instant, key: u64, value: u64) -> Heard {
        self.expire(now);
        let has = self.keys.entry(key).or_insert_with(|| Has::new(value));
        if let Some(at) = has.in_flight.iter().position(|(_, sent)| *sent == value) {
            has.in_flight.drain(..=at);
            has.is_confirmed |= has.in_flight.is_empty();
            return Heard::Echo;
        }
        if has.in_flight.is_empty() {
            (has.value, has.is_confirmed) = (value, true);
        }
        Heard::Told
    }

    /// What was sent may not have been taken: only what the peer has said to have is known
    pub(super) fn on_lost(&mut self) {
        self.keys.retain(|_, has| {
            has.in_flight.clear();
            has.is_confirmed
        });
        self.flights.clear();
    }

    /// How many keys are remembered
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    fn expire(&mut self, now: Instant) {
        while self.flights.front().is_some_and(|flight| flight.ends <= now) {
            self.end_flight();
        }
    }

    fn end_flight(&mut self) {
        let Some(flight) = self.flights.pop_front() else { return };
        if let Some(has) = self.keys.get_mut(&flight.key) {
            has.in_flight.retain(|(number, _)| *number != flight.number);
        }
    }
}

impl Has {
    fn new(value: u64) -> Self {
        Self { value, is_confirmed: false, is_news: false, in_flight: SmallVec::new() }
    }
}

/// How long an echo may take; a peer that is busier than this is taken to have heard of a value elsewhere
pub(super) const ECHO_TIME: Duration = Duration::from_secs(5);
/// Values of one key in flight; of more the oldest are forgotten
const MAX_IN_FLIGHT: usize = 8;
/// Values of all keys in flight; of more the oldest are forgotten
const MAX_FLIGHTS: usize = 1 << 18;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_is_told_from_a_write_even_if_it_is_late() {
        let (mut held, now) = (Held::default(), Instant::now());
        held.on_sent(now, 1, 10, true);
        held.on_sent(now, 1, 11, true);
        assert_eq!((held.has(1), held.knows(now, 1)), (Some(11), None));
        assert_eq!(held.on_heard(now, 1, 10), Heard::Echo);
        assert_eq!((held.has(1), held.knows(now, 1)), (Some(11), None), "the second is under way");
        assert_eq!(held.on_heard(now, 1, 11), Heard::Echo);
        assert_eq!(held.knows(now, 1), Some(11));
        assert_eq!(held.on_heard(now, 1, 10), Heard::Told, "nothing is in flight any more");
        assert_eq!(held.knows(now, 1), Some(10));
    }

    #[test]
    fn what_crosses_ours_on_the_way_is_overwritten_by_ours() {
        let (mut held, now) = (Held::default(), Instant::now());
        held.on_sent(now, 1, 10, true);
        assert_eq!(held.on_heard(now, 1, 20), Heard::Told);
        assert_eq!(held.has(1), Some(10));
        assert_eq!(held.on_heard(now, 1, 10), Heard::Echo);
        assert_eq!(held.knows(now, 1), Some(10));
    }

    #[test]
    fn nobody_has_to_echo() {
        let (mut held, now) = (Held::default(), Instant::now());
        held.on_sent(now, 1, 10, true);
        let later = now + ECHO_TIME;
        assert_eq!((held.knows(now, 1), held.knows(later, 1)), (None, Some(10)));
        assert_eq!(
            held.on_heard(later, 1, 10),
            Heard::Told,
            "which is why it is a write if the key has another value by now"
        );
        assert!(held.flights.is_empty());
    }

    #[test]
    fn of_what_may_be_lost_only_the_confirmed_is_known() {
        let (mut held, now) = (Held::default(), Instant::now());
        held.on_sent(now, 1, 10, true);
        held.on_sent(now, 2, 10, true);
        held.on_heard(now, 2, 10);
        held.on_lost();
        assert_eq!((held.has(1), held.has(2)), (None, Some(10)));
    }

    #[test]
    fn memory_is_bounded_if_a_key_changes_for_ever() {
        let (mut held, now) = (Held::default(), Instant::now());
        for value in 0..(2 * MAX_FLIGHTS as u64) {
            held.on_sent(now, 1, value, true);
        }
        assert_eq!(held.len(), 1);
        assert_eq!(held.flights.len(), MAX_FLIGHTS);
        assert_eq!(held.keys[&1].in_flight.len(), MAX_IN_FLIGHT);
    }
}
