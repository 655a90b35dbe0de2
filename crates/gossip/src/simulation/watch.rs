//! Who knows a write, and since when.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;

use super::agenda::Micros;
use crate::event::Event;
use crate::record::{NodeId, Stamp};

/// How a write spread: the share of running nodes that knew it, over time
#[derive(Clone, Debug, Default)]
pub struct Spread {
    /// When the share changed, since the write, and to what; 0 to 1
    pub steps: Vec<(Duration, f64)>,
}

impl Spread {
    /// When so many first knew it; `None` if never
    #[must_use]
    pub fn until(&self, share: f64) -> Option<Duration> {
        // A share is a quotient of small numbers, and so is what is asked for
        self.steps.iter().find(|(_, known)| *known >= share - 1e-9).map(|(at, _)| *at)
    }

    /// The share at that time
    #[must_use]
    pub fn at(&self, time: Duration) -> f64 {
        let later = self.steps.partition_point(|(at, _)| *at <= time);
        later.checked_sub(1).map_or(0.0, |last| self.steps[last].1)
    }
}

/// All writes that are watched
#[derive(Debug, Default)]
pub(super) struct Watches {
    watches: Vec<Watch>,
    by_key: HashMap<Bytes, Vec<usize>, foldhash::fast::FixedState>,
}

#[derive(Debug)]
struct Watch {
    since: Micros,
    /// What a node has to know for the key: this write or a later one; `None` for a removal
    write: Option<(Stamp, NodeId)>,
    knows: Vec<bool>,
    knowing: usize,
    steps: Vec<(Micros, f64)>,
}

impl Watches {
    /// Watches a write from now on, which the party `by` made
    pub(super) fn add(
        &mut self,
        at: Micros,
        key: Bytes,
        write: Option<(Stamp, NodeId)>,
        by: usize,
        running: usize,
    ) -> usize {
        let number = self.watches.len();
        self.by_key.entry(key).or_default().push(number);
        self.watches.push(Watch { since: at, write, knows: Vec::new(), knowing: 0, steps: Vec::new() });
        self.watches[number].learn(at, by, running);
        number
    }

    pub(super) fn is_empty(&self) -> bool {
        self.watches.is_empty()
    }

    /// What an event of a party says of the writes
    pub(super) fn note(&mut self, at: Micros, party: usize, event: &Event, running: usize) {
        let (key, is_it): (_, &dyn Fn(&Watch) -> bool) = match event {
            Event::Put { tuple, .. } => (&tuple.key, &|watch: &Watch| match watch.write {
                Some((stamp, owner)) => (tuple.stamp, tuple.dot.owner) >= (stamp, owner),
                None => false,
            }),
            Event::Removed { key, .. } => (key, &|watch: &Watch| watch.write.is_none()),
            _ => return,
        };
        let Some(numbers) = self.by_key.get(key) else { return };
        for number in numbers {
            let watch = &mut self.watches[*number];
            if is_it(watch) {
                watch.learn(at, party, running);
            }
        }
    }

    /// A party began or ended a life: it knows nothing
    pub(super) fn forget(&mut self, at: Micros, party: usize, running: usize) {
        for watch in &mut self.watches {
            if let Some(knows) = watch.knows.get_mut(party).filter(|knows| **knows) {
                *knows = false;
                watch.knowing -= 1;
            }
            if watch.steps.last().is_none_or(|(_, share)| *share < 1.0) || watch.knowing < running {
                watch.step(at, running);
            }
        }
    }

    /// How many know it
    pub(super) fn knowing(&self, number: usize) -> usize {
        self.watches.get(number).map_or(0, |watch| watch.knowing)
    }

    pub(super) fn spread(&self, number: usize) -> Spread {
        let Some(watch) = self.watches.get(number) else { return Spread::default() };
        let since = |at: &Micros| Duration::from_micros(at.saturating_sub(watch.since));
        Spread { steps: watch.steps.iter().map(|(at, share)| (since(at), *share)).collect() }
    }

    /// Watches nothing any more; the numbers of before mean nothing
    pub(super) fn clear(&mut self) {
        self.watches.clear();
        self.by_key.clear();
    }
}

impl Watch {
    fn learn(&mut self, at: Micros, party: usize, running: usize) {
        if self.knows.len() <= party {
            self.knows.resize(party + 1, false);
        }
        if !std::mem::replace(&mut self.knows[party], true) {
            self.knowing += 1;
            self.step(at, running);
        }
    }

    fn step(&mut self, at: Micros, running: usize) {
        let share = self.knowing as f64 / running.max(1) as f64;
        match self.steps.last_mut() {
            Some(last) if last.0 == at => last.1 = share,
            _ => self.steps.push((at, share)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Dot, Lifetime, Tuple};

    fn put(key: &'static str, stamp: u64, owner: u64) -> Event {
        let dot = Dot { owner: NodeId(owner), ..Dot::default() };
        let (value, lifetime) = (Bytes::new(), Lifetime::Permanent);
        let tuple = Tuple {
            key: Bytes::from_static(key.as_bytes()),
            value,
            dot,
            stamp: Stamp(stamp),
            lifetime,
            remaining: None,
        };
        Event::Put { tuple, previous: None }
    }

    #[test]
    fn a_later_write_is_as_good_and_a_restart_forgets() {
        let mut watches = Watches::default();
        let key = Bytes::from_static(b"k");
        let number = watches.add(1000, key, Some((Stamp(5), NodeId(1))), 0, 4);
        watches.note(1500, 1, &put("k", 4, 9), 4);
        watches.note(1600, 1, &put("other", 5, 1), 4);
        assert_eq!(watches.knowing(number), 1);
        watches.note(2000, 1, &put("k", 5, 1), 4);
        watches.note(2000, 2, &put("k", 6, 0), 4);
        watches.note(3000, 2, &put("k", 7, 0), 4);
        watches.forget(4000, 2, 3);
        watches.note(5000, 3, &put("k", 5, 1), 3);
        let spread = watches.spread(number);
        let millis = |millis: u64| Duration::from_micros(millis * 1000);
        assert_eq!(spread.until(0.25), Some(millis(0)));
        assert_eq!(spread.until(0.5), Some(millis(1)));
        assert_eq!(spread.until(1.0), Some(millis(4)));
        assert_eq!(spread.at(millis(3)), 2.0 / 3.0);
        assert_eq!(spread.at(millis(60)), 1.0);
    }

    #[test]
    fn a_removal_is_known_by_removals() {
        let mut watches = Watches::default();
        let number = watches.add(0, Bytes::from_static(b"k"), None, 0, 2);
        watches.note(10, 1, &put("k", 5, 1), 2);
        assert_eq!(watches.knowing(number), 1);
        let cause = crate::event::RemovalCause::Deleted;
        watches.note(20, 1, &Event::Removed { key: Bytes::from_static(b"k"), cause }, 2);
        assert_eq!(watches.spread(number).until(1.0), Some(Duration::from_micros(20)));
    }
}
