//! Connections of a listener whose handshake is not done: a bounded number, so that who says nothing keeps nobody out.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use atomic_waker::AtomicWaker;

use crate::shared::lock;

/// Those of one listener, oldest first
#[derive(Debug, Default)]
pub(crate) struct HalfOpen {
    places: Mutex<Places>,
}

#[derive(Debug, Default)]
struct Places {
    next: u64,
    held: BTreeMap<u64, (Arc<AtomicBool>, Arc<AtomicWaker>)>,
}

/// A connection's place among them; given up when dropped
#[derive(Debug)]
pub(crate) struct Place {
    all: Arc<HalfOpen>,
    number: u64,
    is_lost: Arc<AtomicBool>,
}

impl HalfOpen {
    /// A place for a newcomer, whose task `waker` wakes; the oldest lose theirs to keep within `most`
    ///
    /// The oldest, for a client that means it is done within moments.
    pub(crate) fn enter(self: &Arc<Self>, waker: Arc<AtomicWaker>, most: usize) -> Place {
        let is_lost = Arc::new(AtomicBool::new(false));
        let mut places = lock(&self.places);
        let number = places.next;
        places.next += 1;
        places.held.insert(number, (is_lost.clone(), waker));
        let excess = places.held.len().saturating_sub(most.max(1));
        places.evict(excess);
        drop(places);
        Place { all: self.clone(), number, is_lost }
    }

    /// Has the oldest give up, a quarter of all: the system has no descriptors left, and they hold some
    pub(crate) fn make_room(&self) {
        let mut places = lock(&self.places);
        let quarter = places.held.len().div_ceil(4);
        places.evict(quarter);
    }
}

impl Places {
    fn evict(&mut self, count: usize) {
        for (is_lost, waker) in (0..count).map_while(|_| self.held.pop_first()).map(|(_, place)| place) {
            is_lost.store(true, Ordering::Release);
            waker.wake();
        }
    }
}

impl Place {
    /// Whether a newcomer needed it
    pub(crate) fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Acquire)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.all.places).held.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_gives_way() {
        let all = Arc::new(HalfOpen::default());
        let enter = || all.enter(Arc::default(), 3);
        let mut places: Vec<Place> = (0..5).map(|_| enter()).collect();
        assert_eq!(places.iter().map(Place::is_lost).collect::<Vec<_>>(), [true, true, false, false, false]);
        drop(places.remove(2));
        places.push(enter());
        assert!(!places[2].is_lost(), "a handshake that was done made room");
        all.make_room();
        assert_eq!(places.iter().filter(|place| place.is_lost()).count(), 3);
        drop(places);
        assert!(lock(&all.places).held.is_empty());
    }
}
