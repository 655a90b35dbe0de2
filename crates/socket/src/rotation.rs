//! Taking turns among pipes: round robin over those that are ready, in constant time.
//!
//! Two lists through one table: the ready ones and the others. Whoever becomes ready goes behind all
//! that are, so no pipe is passed over, however often others come and go in between. Sending turns
//! over the pipes that have room, receiving over those that have messages (RFC 28-30: "round-robin",
//! "fair-queuing").

/// A round robin over the ready part of a set of pipes
#[derive(Debug, Default)]
pub(crate) struct Rotation {
    /// By key
    places: Vec<Place>,
    ready: List,
    waiting: List,
}

/// Where a key stands
#[derive(Clone, Copy, Debug)]
struct Place {
    standing: Standing,
    before: u32,
    behind: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Absent,
    Waiting,
    Ready,
}

#[derive(Debug)]
struct List {
    first: u32,
    last: u32,
    len: usize,
}

impl Rotation {
    /// The pipe whose turn it is
    pub(crate) fn current(&self) -> Option<u32> {
        (self.ready.len > 0).then_some(self.ready.first)
    }

    /// Gives the turn to the next ready pipe
    pub(crate) fn advance(&mut self) {
        if self.ready.len > 1 {
            self.put(self.ready.first, Standing::Ready);
        }
    }

    /// Any member that isn't ready, for policies that make room by force; turns among them
    pub(crate) fn next_waiting(&mut self) -> Option<u32> {
        let first = (self.waiting.len > 0).then_some(self.waiting.first)?;
        self.put(first, Standing::Waiting);
        Some(first)
    }

    /// Adds a pipe, not ready; nothing happens if it is there
    pub(crate) fn add(&mut self, key: u32) {
        if self.standing(key) == Standing::Absent {
            self.put(key, Standing::Waiting);
        }
    }

    /// Makes a pipe ready, adding it if need be
    pub(crate) fn activate(&mut self, key: u32) {
        if self.standing(key) != Standing::Ready {
            self.put(key, Standing::Ready);
        }
    }

    /// Makes a pipe not ready
    pub(crate) fn deactivate(&mut self, key: u32) {
        if self.standing(key) == Standing::Ready {
            self.put(key, Standing::Waiting);
        }
    }

    /// Takes a pipe out
    pub(crate) fn remove(&mut self, key: u32) {
        self.unlink(key);
    }

    /// How many are ready
    pub(crate) fn ready(&self) -> usize {
        self.ready.len
    }

    fn standing(&self, key: u32) -> Standing {
        self.places.get(key as usize).map_or(Standing::Absent, |place| place.standing)
    }

    /// Puts a key at the end of a list, from wherever it stands
    fn put(&mut self, key: u32, standing: Standing) {
        self.unlink(key);
        if self.places.len() <= key as usize {
            self.places.resize(key as usize + 1, ABSENT);
        }
        let list = if standing == Standing::Ready { &mut self.ready } else { &mut self.waiting };
        let before = list.last;
        list.last = key;
        list.len += 1;
        if list.len == 1 {
            list.first = key;
        }
        if let Some(place) = self.places.get_mut(before as usize) {
            place.behind = key;
        }
        if let Some(place) = self.places.get_mut(key as usize) {
            *place = Place { standing, before, behind: NOBODY };
        }
    }

    fn unlink(&mut self, key: u32) {
        let Some(place) = self.places.get_mut(key as usize) else {
            return;
        };
        let Place { standing, before, behind } = std::mem::replace(place, ABSENT);
        let list = match standing {
            Standing::Absent => return,
            Standing::Waiting => &mut self.waiting,
            Standing::Ready => &mut self.ready,
        };
        list.len -= 1;
        match self.places.get_mut(before as usize) {
            Some(place) => place.behind = behind,
            None => list.first = behind,
        }
        match self.places.get_mut(behind as usize) {
            Some(place) => place.before = before,
            None => list.last = before,
        }
    }
}

impl Default for List {
    fn default() -> Self {
        Self { first: NOBODY, last: NOBODY, len: 0 }
    }
}

/// Keys are a pipe's place in a slab, which refuses this one
const NOBODY: u32 = u32::MAX;
const ABSENT: Place = Place { standing: Standing::Absent, before: NOBODY, behind: NOBODY };

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_ready_pipe_gets_its_turn() {
        let mut rotation = Rotation::default();
        (0..4).for_each(|key| rotation.activate(key));
        rotation.deactivate(2);
        let mut turns = Vec::new();
        for _ in 0..6 {
            turns.extend(rotation.current());
            rotation.advance();
        }
        turns.sort_unstable();
        assert_eq!(turns, [0, 0, 1, 1, 3, 3]);
    }

    #[test]
    fn pipes_that_come_and_go_pass_nobody_over() {
        let mut rotation = Rotation::default();
        (0..3).for_each(|key| rotation.activate(key));
        let mut turns = Vec::new();
        for _ in 0..9 {
            let key = rotation.current().unwrap();
            turns.push(key);
            match key {
                1 => rotation.advance(),
                _ => {
                    rotation.deactivate(key);
                    rotation.activate(key);
                }
            }
        }
        assert_eq!(turns, [0, 1, 2, 0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn waiting_ones_take_turns_too() {
        let mut rotation = Rotation::default();
        (0..3).for_each(|key| rotation.add(key));
        let turns: Vec<_> = (0..6).filter_map(|_| rotation.next_waiting()).collect();
        assert_eq!(turns, [0, 1, 2, 0, 1, 2]);
    }

    proptest! {
        #[test]
        fn holds_what_was_put_in(steps in prop::collection::vec((0u8..5, 0u32..12), 0..200)) {
            let mut rotation = Rotation::default();
            let (mut members, mut ready) = (BTreeSet::new(), BTreeSet::new());
            for (step, key) in steps {
                match step {
                    0 => { rotation.add(key); members.insert(key); }
                    1 => { rotation.activate(key); members.insert(key); ready.insert(key); }
                    2 => { rotation.deactivate(key); ready.remove(&key); }
                    3 => { rotation.remove(key); members.remove(&key); ready.remove(&key); }
                    _ => rotation.advance(),
                }
                prop_assert_eq!(rotation.ready(), ready.len());
                prop_assert_eq!(rotation.current().is_some(), !ready.is_empty());
                let mut seen = BTreeSet::new();
                for _ in 0..ready.len() {
                    seen.extend(rotation.current());
                    rotation.advance();
                }
                prop_assert_eq!(&seen, &ready, "a round visits each ready one");
                let mut held = seen;
                while let Some(key) = rotation.next_waiting().filter(|key| !held.contains(key)) {
                    held.insert(key);
                }
                prop_assert_eq!(&held, &members);
            }
        }
    }
}
