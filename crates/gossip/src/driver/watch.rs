//! Watches: what is known under a prefix, then every change of it, in order.
//!
//! A node waits for nobody. What a watch has not fetched waits in a bounded queue; when that is full it is emptied, and
//! the watch begins anew with what is known then. So a slow reader sees fewer states of a key than there were, but always ends
//! with the last.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use tidings_zmtp::Message;
use tokio::sync::Notify;

use super::Shared;
use crate::event::{Event, RemovalCause};
use crate::record::Tuple;

/// Something that a watch tells
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// A key has this value: from what was known already until [`Current`](Self::Current), then whenever it has another
    Put {
        /// What is known now
        tuple: Tuple,
        /// The value that the key had, where that is a change
        previous: Option<Bytes>,
    },
    /// A key has no value any more
    Removed {
        /// Which
        key: Bytes,
        /// Why
        cause: RemovalCause,
    },
    /// All that was known has been told; what follows are changes
    Current,
    /// So many changes were not fetched in time and are left out; all that is known follows, up to the next [`Current`](Self::Current).
    /// Keys that it does not name have no value any more
    Missed {
        /// How many
        count: u64,
    },
}

/// What is known under a prefix, then every change of it
///
/// Made by [`Gossip::watch`](super::Gossip::watch); ends when it is dropped or the node has stopped.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
}

impl Watch {
    pub(super) fn new(shared: Arc<Shared>, queue: Arc<Queue>) -> Self {
        Self { shared, queue }
    }

    /// The next change; `None` when the node has stopped and all was told
    ///
    /// # Cancel safety
    /// Safe: nothing is lost.
    pub async fn next(&mut self) -> Option<Change> {
        loop {
            // A permit of `told` stays until it is taken: what comes after the look wakes this
            match self.try_next() {
                Some(change) => return Some(change),
                None if self.queue.has_ended() => return None,
                None => self.queue.told.notified().await,
            }
        }
    }

    /// The next change, if there is one already
    pub fn try_next(&mut self) -> Option<Change> {
        if self.queue.is_due() {
            self.shared.refill(&self.queue);
        }
        self.queue.pop()
    }

    /// How many changes wait to be fetched
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }
}

/// What waits for one watch, or for an actor's pipe
#[derive(Debug)]
pub(crate) struct Queue {
    prefix: Bytes,
    /// Whether it is of the key of that name alone
    is_exact: bool,
    bound: Bound,
    inner: Mutex<Inner>,
    /// Whoever reads it waits here; the same one may read several
    told: Arc<Notify>,
}

/// What waits in a queue
#[derive(Debug)]
pub(crate) enum Entry {
    Change(Change),
    /// A reply, among the changes where it was made; never left out
    Reply(Message),
    /// All tuples under a prefix, to be read when its turn comes
    List {
        prefix: Bytes,
        is_long: bool,
    },
}

/// How much may wait for a watch
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound {
    pub(crate) changes: usize,
    pub(crate) octets: usize,
}

impl Default for Bound {
    /// Some seconds of a busy network; octets are mostly shared with the node itself
    fn default() -> Self {
        Self { changes: 8192, octets: 32 << 20 }
    }
}

#[derive(Debug)]
struct Inner {
    entries: VecDeque<Entry>,
    octets: usize,
    /// How many of the entries are changes
    changes: usize,
    /// How many of the changes, the first, are what is known: they don't count for the bound
    known: usize,
    /// Of what is known, the keys up to this one were told; `None` when all were
    ///
    /// What is known is told in pieces, when the queue is empty: it takes no memory, and changes of keys that are still to be told
    /// need not wait for it.
    told_to: Option<Option<Bytes>>,
    /// Left out since the queue was full
    missed: u64,
    ended: bool,
}

impl Queue {
    /// One that first tells what is known
    pub(crate) fn new(prefix: Bytes, bound: Bound) -> Arc<Self> {
        Self::at(prefix, bound, Some(None), Arc::default(), false)
    }

    /// One of a single key
    pub(crate) fn of_key(key: Bytes, bound: Bound) -> Arc<Self> {
        Self::at(key, bound, Some(None), Arc::default(), true)
    }

    /// The same, read by somebody who waits for others as well
    pub(crate) fn beside(prefix: Bytes, bound: Bound, told: Arc<Notify>) -> Arc<Self> {
        Self::at(prefix, bound, Some(None), told, false)
    }

    /// One that tells changes alone, unless it was full
    pub(crate) fn of_changes(prefix: Bytes, bound: Bound, told: Arc<Notify>) -> Arc<Self> {
        Self::at(prefix, bound, None, told, false)
    }

    fn at(prefix: Bytes, bound: Bound, told_to: Option<Option<Bytes>>, told: Arc<Notify>, is_exact: bool) -> Arc<Self> {
        let (entries, octets, changes, known, missed, ended) = Default::default();
        let inner = Inner { entries, octets, changes, known, told_to, missed, ended };
        Arc::new(Self { prefix, is_exact, bound, inner: Mutex::new(inner), told })
    }

    pub(crate) fn prefix(&self) -> &Bytes {
        &self.prefix
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether changes of this key are for it; reserved keys only for those who ask for them
    fn concerns(&self, key: &[u8]) -> bool {
        key.starts_with(&self.prefix) && self.covers(key) && (!is_reserved(key) || self.prefix.first() == key.first())
    }

    /// Whether it is of all keys that begin so, or this is the one
    pub(crate) fn covers(&self, key: &[u8]) -> bool {
        !self.is_exact || self.prefix == key
    }

    fn push(&self, key: &[u8], change: Change) {
        let mut inner = self.lock();
        if inner.told_to.as_ref().is_some_and(|to| to.as_ref().is_none_or(|to| key > &to[..])) {
            // It will be told as it is when its turn comes
            return;
        }
        // One is always let in, however large
        let waiting = inner.changes - inner.known;
        if waiting >= self.bound.changes || (waiting > 0 && inner.octets + size(&change) > self.bound.octets) {
            inner.begin_anew(1);
        } else {
            inner.add(change);
        }
        drop(inner);
        self.told.notify_one();
    }

    /// Adds a reply behind the changes that there are
    pub(crate) fn reply(&self, reply: Entry) {
        self.lock().entries.push_back(reply);
        self.told.notify_one();
    }

    /// The next change, of a queue that has nothing else; `None` when there is none, or what is known has to be asked for first
    pub(crate) fn pop(&self) -> Option<Change> {
        match self.pop_entry()? {
            Entry::Change(change) => Some(change),
            Entry::Reply(_) | Entry::List { .. } => None,
        }
    }

    /// The next entry; `None` when there is none, or what is known has to be asked for first
    pub(crate) fn pop_entry(&self) -> Option<Entry> {
        let mut inner = self.lock();
        let entry = inner.entries.pop_front()?;
        if let Entry::Change(change) = &entry {
            inner.changes -= 1;
            inner.known = inner.known.saturating_sub(1);
            inner.octets = inner.octets.saturating_sub(size(change));
        }
        Some(entry)
    }

    /// How many replies wait
    pub(crate) fn replies(&self) -> usize {
        let inner = self.lock();
        inner.entries.len() - inner.changes
    }

    /// Whether [`refill`](Self::refill) has something to add
    pub(crate) fn is_due(&self) -> bool {
        let inner = self.lock();
        inner.entries.is_empty() && inner.told_to.is_some()
    }

    /// Adds more of what is known: `known` gives the tuples behind a key, in order, for as long as it is told to go on; called where
    /// no change can come in between
    pub(crate) fn refill(&self, known: impl FnOnce(Option<&[u8]>, &mut dyn FnMut(Tuple) -> bool)) {
        let mut inner = self.lock();
        if !inner.entries.is_empty() {
            return;
        }
        let Some(told_to) = inner.told_to.take() else { return };
        if inner.missed > 0 {
            let count = std::mem::take(&mut inner.missed);
            inner.add(Change::Missed { count });
        }
        let (mut octets, mut count, mut last) = (0, 0, None);
        known(told_to.as_deref(), &mut |tuple| {
            last = Some(tuple.key.clone());
            let change = Change::Put { tuple, previous: None };
            octets += size(&change);
            count += 1;
            inner.add(change);
            count < PIECE && octets < PIECE_OCTETS
        });
        match last {
            Some(last) => inner.told_to = Some(Some(last)),
            None => inner.add(Change::Current),
        }
        inner.known = inner.changes;
    }

    pub(crate) fn end(&self) {
        self.lock().ended = true;
        self.told.notify_one();
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.lock().ended
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().changes
    }

    /// Who waits for it
    pub(crate) fn told(&self) -> &Arc<Notify> {
        &self.told
    }
}

impl Inner {
    fn add(&mut self, change: Change) {
        self.octets += size(&change);
        self.changes += 1;
        self.entries.push_back(Entry::Change(change));
    }

    /// Empties the queue of changes, and has all be told that is known
    fn begin_anew(&mut self, missed: u64) {
        self.missed += missed;
        self.entries.retain(|entry| match entry {
            Entry::Change(change) => {
                self.missed += match change {
                    Change::Put { .. } | Change::Removed { .. } => 1,
                    Change::Missed { count } => *count,
                    Change::Current => 0,
                };
                false
            }
            Entry::Reply(_) | Entry::List { .. } => true,
        });
        (self.octets, self.changes, self.known) = (0, 0, 0);
        self.told_to = Some(None);
    }
}

/// All watches of a node; told under its lock, so that all see the same order
#[derive(Debug, Default)]
pub(super) struct Watches {
    queues: Vec<Weak<Queue>>,
}

impl Watches {
    pub(super) fn add(&mut self, queue: &Arc<Queue>) {
        self.queues.retain(|queue| queue.strong_count() > 0);
        self.queues.push(Arc::downgrade(queue));
    }

    /// Tells those whom it concerns of a change of a tuple
    pub(super) fn tell(&self, event: &Event) {
        let queues = self.queues.iter().filter_map(Weak::upgrade);
        match event {
            Event::Put { tuple, previous } => queues.filter(|queue| queue.concerns(&tuple.key)).for_each(|queue| {
                queue.push(&tuple.key, Change::Put { tuple: tuple.clone(), previous: previous.clone() });
            }),
            Event::Removed { key, cause } => queues
                .filter(|queue| queue.concerns(key))
                .for_each(|queue| queue.push(key, Change::Removed { key: key.clone(), cause: *cause })),
            // The node itself dropped some: everybody begins anew
            Event::Missed { count } => queues.for_each(|queue| {
                queue.lock().begin_anew((*count).max(1));
                queue.told.notify_one();
            }),
            _ => {}
        }
    }

    pub(super) fn end(&mut self) {
        self.queues.drain(..).filter_map(|queue| queue.upgrade()).for_each(|queue| queue.end());
    }
}

/// Whether a key is of the nodes themselves
pub(crate) fn is_reserved(key: &[u8]) -> bool {
    key.starts_with(RESERVED)
}

fn size(change: &Change) -> usize {
    match change {
        Change::Put { tuple, .. } => tuple.key.len() + tuple.value.len(),
        Change::Removed { key, .. } => key.len(),
        Change::Current | Change::Missed { .. } => 0,
    }
}

const RESERVED: &[u8] = b"$tidings/";
/// Tuples that are known, told at a time
const PIECE: usize = 256;
/// Octets of them, about
const PIECE_OCTETS: usize = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Dot, Lifetime, Stamp};

    fn tuple(key: &'static str, value: &'static str) -> Tuple {
        let (key, value) = (Bytes::from_static(key.as_bytes()), Bytes::from_static(value.as_bytes()));
        Tuple {
            key,
            value,
            dot: Dot::default(),
            stamp: Stamp::default(),
            lifetime: Lifetime::Permanent,
            remaining: None,
        }
    }

    fn put(key: &'static str) -> Event {
        Event::Put { tuple: tuple(key, "v"), previous: None }
    }

    fn told(queue: &Queue) -> Vec<String> {
        std::iter::from_fn(|| queue.pop())
            .map(|change| match change {
                Change::Put { tuple, .. } => format!("put {}", tuple.key.escape_ascii()),
                Change::Removed { key, cause } => format!("{} {}", cause.name(), key.escape_ascii()),
                Change::Current => "current".to_owned(),
                Change::Missed { count } => format!("missed {count}"),
            })
            .collect()
    }

    fn watch(watches: &mut Watches, prefix: &'static str, changes: usize, octets: usize) -> Arc<Queue> {
        let queue = Queue::new(Bytes::from_static(prefix.as_bytes()), Bound { changes, octets });
        watches.add(&queue);
        queue
    }

    #[test]
    fn a_prefix_sees_its_own_and_reserved_keys_only_who_asks() {
        let mut watches = Watches::default();
        let (all, a) = (watch(&mut watches, "", 9, 99), watch(&mut watches, "a/", 9, 99));
        let reserved = watch(&mut watches, "$tidings/", 9, 99);
        for queue in [&all, &a, &reserved] {
            refill(queue, &[]);
            assert_eq!(told(queue), ["current"]);
        }
        for key in ["a/1", "b", "$tidings/node/1", "$own"] {
            watches.tell(&put(key));
        }
        watches.tell(&Event::Removed { key: Bytes::from_static(b"a/1"), cause: RemovalCause::Expired });
        assert_eq!(told(&all), ["put a/1", "put b", "put $own", "expired a/1"]);
        assert_eq!(told(&a), ["put a/1", "expired a/1"]);
        assert_eq!(told(&reserved), ["put $tidings/node/1"]);
    }

    /// As a node would be asked
    fn refill(queue: &Queue, known: &[&'static str]) {
        queue.refill(|after, tell| {
            let mut later = known.iter().filter(|key| after.is_none_or(|after| key.as_bytes() > after));
            while later.next().is_some_and(|key| tell(tuple(key, "v"))) {}
        });
    }

    #[test]
    fn what_is_known_comes_in_pieces_and_changes_of_it_in_order() {
        let mut watches = Watches::default();
        let keys: Vec<&'static str> = (0..PIECE + 9).map(|n| &*format!("{n:05}").leak()).collect();
        let queue = watch(&mut watches, "", 9, 9999);
        watches.tell(&put(keys[0]));
        assert_eq!(told(&queue), [""; 0], "it will be told as it is then");
        refill(&queue, &keys);
        watches.tell(&Event::Removed { key: Bytes::from_static(b"00003"), cause: RemovalCause::Deleted });
        watches.tell(&put(keys[PIECE + 1]));
        let first = told(&queue);
        assert_eq!((first.len(), &first[0][..], &first[PIECE][..]), (PIECE + 1, "put 00000", "deleted 00003"));
        refill(&queue, &keys);
        assert_eq!(told(&queue).len(), 9);
        assert!(queue.is_due());
        refill(&queue, &keys);
        assert_eq!(told(&queue), ["current"]);
        assert!(!queue.is_due());
    }

    #[test]
    fn who_is_slow_begins_anew() {
        let mut watches = Watches::default();
        let queue = Queue::of_changes(Bytes::new(), Bound { changes: 3, octets: 1000 }, Arc::default());
        watches.add(&queue);
        for key in ["1", "2", "3"] {
            watches.tell(&put(key));
        }
        assert!(!queue.is_due());
        watches.tell(&put("4"));
        watches.tell(&put("5"));
        assert!(queue.is_due());
        assert_eq!(told(&queue), [""; 0], "nothing is told before what is known");
        refill(&queue, &["5"]);
        watches.tell(&put("5"));
        assert_eq!(told(&queue), ["missed 4", "put 5", "put 5"]);
        refill(&queue, &["5"]);
        watches.tell(&put("6"));
        assert_eq!(told(&queue), ["current", "put 6"]);
    }

    #[test]
    fn octets_are_bounded_too_and_are_given_back() {
        let mut watches = Watches::default();
        let queue = Queue::of_changes(Bytes::new(), Bound { changes: 1000, octets: 10 }, Arc::default());
        watches.add(&queue);
        for _ in 0..20 {
            watches.tell(&put("1234"));
            watches.tell(&put("1234"));
            assert_eq!(told(&queue).len(), 2);
        }
        watches.tell(&put("a key of more octets than may wait"));
        assert_eq!(told(&queue), ["put a key of more octets than may wait"]);
        for _ in 0..3 {
            watches.tell(&put("1234"));
        }
        assert!(queue.is_due());
    }

    #[test]
    fn what_a_node_drops_makes_everybody_begin_anew() {
        let mut watches = Watches::default();
        let queue = Queue::of_changes(Bytes::new(), Bound::default(), Arc::default());
        watches.add(&queue);
        watches.tell(&put("1"));
        watches.tell(&Event::Missed { count: 4 });
        refill(&queue, &[]);
        assert_eq!(told(&queue), ["missed 5", "current"]);
    }
}
