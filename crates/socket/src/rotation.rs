//! Taking turns among pipes: round robin over those that are ready, in constant time.
//!
//! The ready ones stand in front of the others in one list. Sending turns over the pipes that have
//! room, receiving over those that have messages (RFC 28-30: "round-robin", "fair-queuing").

/// A round robin over the ready part of a set of pipes
#[derive(Debug, Default)]
pub(crate) struct Rotation {
    keys: Vec<u32>,
    /// Where each key stands in `keys`; `ABSENT` where it does not
    places: Vec<usize>,
    ready: usize,
    current: usize,
}

impl Rotation {
    /// The pipe whose turn it is
    pub(crate) fn current(&self) -> Option<u32> {
        if self.ready == 0 { None } else { self.keys.get(self.current).copied() }
    }

    /// Gives the turn to the next ready pipe
    pub(crate) fn advance(&mut self) {
        self.current += 1;
        if self.current >= self.ready {
            self.current = 0;
        }
    }

    /// Any member that isn't ready, for policies that make room by force; turns among them
    pub(crate) fn next_waiting(&mut self) -> Option<u32> {
        let waiting = self.keys.get(self.ready..)?;
        let first = *waiting.first()?;
        // The one served goes behind the other waiting ones
        if let Some(place) = self.place(first) {
            self.keys.remove(place);
            self.keys.push(first);
            self.renumber(place);
        }
        Some(first)
    }

    /// Adds a pipe, not ready; nothing happens if it is there
    pub(crate) fn add(&mut self, key: u32) {
        if self.place(key).is_none() {
            if self.places.len() <= key as usize {
                self.places.resize(key as usize + 1, ABSENT);
            }
            self.keys.push(key);
            self.renumber(self.keys.len() - 1);
        }
    }

    /// Makes a pipe ready, adding it if need be
    pub(crate) fn activate(&mut self, key: u32) {
        self.add(key);
        if let Some(place) = self.place(key)
            && place >= self.ready
        {
            self.swap(place, self.ready);
            self.ready += 1;
        }
    }

    /// Makes a pipe not ready
    pub(crate) fn deactivate(&mut self, key: u32) {
        let Some(place) = self.place(key).filter(|place| *place < self.ready) else {
            return;
        };
        self.ready -= 1;
        self.swap(place, self.ready);
        if self.current >= self.ready {
            self.current = 0;
        }
    }

    /// Takes a pipe out
    pub(crate) fn remove(&mut self, key: u32) {
        self.deactivate(key);
        if let Some(place) = self.place(key) {
            let last = self.keys.len() - 1;
            self.swap(place, last);
            self.keys.pop();
            if let Some(place) = self.places.get_mut(key as usize) {
                *place = ABSENT;
            }
        }
    }

    /// How many are ready
    pub(crate) fn ready(&self) -> usize {
        self.ready
    }

    fn place(&self, key: u32) -> Option<usize> {
        self.places.get(key as usize).copied().filter(|place| *place != ABSENT)
    }

    fn swap(&mut self, a: usize, b: usize) {
        if a != b {
            self.keys.swap(a, b);
            self.note(a);
            self.note(b);
        }
    }

    fn renumber(&mut self, from: usize) {
        (from..self.keys.len()).for_each(|place| self.note(place));
    }

    fn note(&mut self, place: usize) {
        if let Some(key) = self.keys.get(place)
            && let Some(noted) = self.places.get_mut(*key as usize)
        {
            *noted = place;
        }
    }
}

const ABSENT: usize = usize::MAX;

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
                prop_assert_eq!(rotation.keys.iter().copied().collect::<BTreeSet<_>>(), members.clone());
            }
        }
    }
}
