//! Timers: setting and stopping one costs the same however many there are.
//!
//! A hashed wheel: a ring of slots, each a list of the timers that are due in its tick, in this round of the ring or a
//! later one. Nothing is sorted, and no heap is touched. The price is a grain of [`TICK`] and a look at far timers once a
//! round.

use std::time::{Duration, Instant};

use slab::Slab;

use super::list::{Link, Links, List};

/// Names a timer that is set
pub(super) type TimerId = u32;

/// Timers that carry a `T` each
pub(super) struct Wheel<T> {
    /// Where ticks are counted from
    start: Instant,
    /// Every slot up to this tick was looked at
    done: u64,
    slots: Box<[List]>,
    /// A bit for each slot that isn't empty
    occupied: [u64; SLOTS / 64],
    /// Timers whose time has come, in order
    due: List,
    timers: Slab<Timer<T>>,
}

struct Timer<T> {
    /// Ticks after which it is due; `None` when it is in the list of those that are
    tick: Option<u64>,
    link: Link,
    what: T,
}

impl<T> Links for Timer<T> {
    fn link(&mut self) -> &mut Link {
        &mut self.link
    }
}

impl<T: Copy> Wheel<T> {
    pub(super) fn new(start: Instant) -> Self {
        let slots = vec![List::default(); SLOTS].into_boxed_slice();
        Self { start, done: 0, slots, occupied: [0; SLOTS / 64], due: List::default(), timers: Slab::new() }
    }

    /// Sets a timer that is due at that instant or up to a [`TICK`] later, never earlier
    pub(super) fn insert(&mut self, at: Instant, what: T) -> TimerId {
        let tick = ticks(at.saturating_duration_since(self.start), true).max(self.done + 1);
        let id = self.timers.insert(Timer { tick: Some(tick), link: Link::default(), what }) as u32;
        let slot = slot_of(tick);
        if let Some(list) = self.slots.get_mut(slot) {
            list.push_back(&mut self.timers, id);
        }
        self.mark(slot, true);
        id
    }

    /// Stops a timer
    pub(super) fn remove(&mut self, id: TimerId) {
        let Some(timer) = self.timers.get(id as usize) else { return };
        match timer.tick.map(slot_of) {
            None => self.due.remove(&mut self.timers, id),
            Some(slot) => {
                if let Some(list) = self.slots.get_mut(slot) {
                    list.remove(&mut self.timers, id);
                    let is_empty = list.is_empty();
                    self.mark(slot, !is_empty);
                }
            }
        }
        self.timers.remove(id as usize);
    }

    /// A timer whose time has come; it is set no longer
    pub(super) fn pop(&mut self, now: Instant) -> Option<T> {
        if self.due.is_empty() {
            self.advance(now);
        }
        let id = self.due.pop_front(&mut self.timers)?;
        Some(self.timers.remove(id as usize).what)
    }

    /// When to look again; it may turn out that nothing is due yet
    pub(super) fn next(&self) -> Option<Instant> {
        if !self.due.is_empty() {
            return Some(self.start + TICK * u32::try_from(self.done).unwrap_or(u32::MAX));
        }
        let distance = self.next_occupied(slot_of(self.done + 1))?;
        Some(self.start + Duration::from_nanos((self.done + 1 + distance as u64).saturating_mul(TICK_NANOS)))
    }

    /// How many are set
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.timers.len()
    }

    /// Collects what is due by then
    fn advance(&mut self, now: Instant) {
        let target = ticks(now.saturating_duration_since(self.start), false);
        // After a long sleep each slot is looked at once
        let mut tick = self.done.max(target.saturating_sub(SLOTS as u64));
        while tick < target {
            let from = slot_of(tick + 1);
            let Some(distance) = self.next_occupied(from) else { break };
            tick += 1 + distance as u64;
            if tick > target {
                break;
            }
            self.collect(slot_of(tick), target);
        }
        self.done = self.done.max(target);
    }

    fn collect(&mut self, slot: usize, target: u64) {
        let Some(list) = self.slots.get_mut(slot) else { return };
        let mut next = list.front();
        while let Some(id) = next {
            let Some(timer) = self.timers.get(id as usize) else { break };
            next = timer.link.next();
            if timer.tick.is_some_and(|tick| tick <= target) {
                list.remove(&mut self.timers, id);
                self.due.push_back(&mut self.timers, id);
                if let Some(timer) = self.timers.get_mut(id as usize) {
                    timer.tick = None;
                }
            }
        }
        let is_empty = list.is_empty();
        self.mark(slot, !is_empty);
    }

    /// How far from a slot the next one is that isn't empty, around the ring
    fn next_occupied(&self, from: usize) -> Option<usize> {
        let words = self.occupied.len();
        let (first, bit) = (from / 64, from % 64);
        for step in 0..=words {
            let index = (first + step) % words;
            let mut word = self.occupied.get(index).copied().unwrap_or_default();
            if step == 0 {
                word &= u64::MAX << bit;
            }
            if word != 0 {
                let slot = index * 64 + word.trailing_zeros() as usize;
                return Some((slot + SLOTS - from) % SLOTS);
            }
        }
        None
    }

    fn mark(&mut self, slot: usize, is_occupied: bool) {
        if let Some(word) = self.occupied.get_mut(slot / 64) {
            let bit = 1 << (slot % 64);
            *word = if is_occupied { *word | bit } else { *word & !bit };
        }
    }
}

/// Whole ticks in a length of time
fn ticks(time: Duration, round_up: bool) -> u64 {
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    if round_up { nanos.div_ceil(TICK_NANOS) } else { nanos / TICK_NANOS }
}

fn slot_of(tick: u64) -> usize {
    (tick % SLOTS as u64) as usize
}

const TICK_NANOS: u64 = 4_000_000;
/// The grain: fine enough for deadlines that people and networks notice; not measured against others
const TICK: Duration = Duration::from_nanos(TICK_NANOS);
/// A round of 16 s: heartbeats and most deadlines are looked at once
const SLOTS: usize = 4096;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn is_never_early_and_at_most_a_tick_late() {
        let start = Instant::now();
        for millis in [0, 1, 3, 4, 5, 4000, 16_383, 16_384, 16_385, 100_000] {
            let at = start + Duration::from_millis(millis);
            let mut wheel = Wheel::new(start);
            wheel.insert(at, ());
            let mut now = start;
            let mut wakes = 0;
            while wheel.pop(now).is_none() {
                now = wheel.next().unwrap();
                wakes += 1;
            }
            assert!(now >= at && now <= at + TICK, "{millis} {:?}", now - start);
            assert!(wakes <= 1 + millis / 16_000, "woken {wakes} times for {millis}");
            assert_eq!((wheel.next(), wheel.len()), (None, 0));
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u64),
        Remove(usize),
        Advance(u64),
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0u64..40_000).prop_map(Step::Insert),
            any::<usize>().prop_map(Step::Remove),
            prop_oneof![0u64..50, 0u64..60_000].prop_map(Step::Advance),
        ]
    }

    proptest! {
        #[test]
        fn does_what_a_sorted_set_does(steps in prop::collection::vec(any_step(), 1..200)) {
            let start = Instant::now();
            let (mut wheel, mut model, mut ids) = (Wheel::new(start), BTreeSet::new(), Vec::new());
            let mut millis = 0;
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Insert(delay) => {
                        ids.push((wheel.insert(start + Duration::from_millis(millis + delay), number), millis + delay, number));
                        model.insert((millis + delay, number));
                    }
                    Step::Remove(which) if !ids.is_empty() => {
                        let (id, at, number) = ids.swap_remove(which % ids.len());
                        wheel.remove(id);
                        model.remove(&(at, number));
                    }
                    Step::Remove(_) => {}
                    Step::Advance(delay) => {
                        millis += delay;
                        while let Some(number) = wheel.pop(start + Duration::from_millis(millis)) {
                            let place = ids.iter().position(|(_, _, known)| *known == number).unwrap();
                            let (_, at, _) = ids.swap_remove(place);
                            prop_assert!(at <= millis);
                            model.remove(&(at, number));
                        }
                        let missed = model.first().filter(|(at, _)| at + 4 < millis);
                        prop_assert_eq!(missed, None);
                    }
                }
                prop_assert_eq!(wheel.len(), model.len());
                let next = wheel.next();
                prop_assert_eq!(next.is_some(), !model.is_empty());
                if let (Some(next), Some((at, _))) = (next, model.first()) {
                    let at = start + Duration::from_millis((*at).max(millis)) + TICK;
                    prop_assert!(next <= at, "a timer would be missed");
                }
            }
        }
    }
}
