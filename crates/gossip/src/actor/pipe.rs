//! What goes out of an actor: deliveries, and replies among them where they were made.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tidings_zmtp::Message;
use tokio::sync::Notify;

use crate::driver::text::{self, message, word};
use crate::driver::{Bound, Change, Entry, Queue, Shared, is_reserved};

/// The way out of an actor
#[derive(Debug)]
pub(super) struct Pipe {
    main: Arc<Queue>,
    told: Arc<Notify>,
    /// Somebody read
    room: Notify,
    /// Nobody is going to read, or to ask for more
    is_closed: AtomicBool,
    state: Mutex<State>,
    pub(super) is_verbose: AtomicBool,
    prefix: String,
}

#[derive(Debug, Default)]
struct State {
    /// A list that is being read
    reading: Option<Reading>,
    watches: Vec<Watching>,
    /// Where to read from; none before there is a node
    shared: Option<Arc<Shared>>,
}

#[derive(Debug)]
struct Reading {
    prefix: Bytes,
    is_long: bool,
    after: Option<Bytes>,
    count: u64,
}

#[derive(Debug)]
struct Watching {
    queue: Arc<Queue>,
    /// How many were told of what is known; `None` when all were
    counted: Option<u64>,
    is_long: bool,
}

impl Pipe {
    pub(super) fn new(prefix: String) -> Self {
        let told = Arc::new(Notify::new());
        let bound = Bound { changes: DELIVERIES, ..Bound::default() };
        Self {
            main: Queue::of_changes(Bytes::new(), bound, told.clone()),
            told,
            room: Notify::new(),
            is_closed: AtomicBool::new(false),
            state: Mutex::default(),
            is_verbose: AtomicBool::new(false),
            prefix,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The queue that deliveries and replies come by
    pub(super) fn main(&self) -> &Arc<Queue> {
        &self.main
    }

    /// Reads from this node from now on; `None` when there is none any more
    pub(super) fn set_node(&self, shared: Option<Arc<Shared>>) {
        self.lock().shared = shared;
    }

    /// A reply that comes after all that was delivered before
    pub(super) fn reply(&self, reply: Message) {
        self.main.reply(Entry::Reply(reply));
    }

    /// A watch beside the deliveries; `None` if there are too many
    pub(super) fn watch(&self, prefix: Bytes, is_long: bool) -> Option<Arc<Queue>> {
        let mut state = self.lock();
        if state.watches.len() >= MOST_WATCHES {
            return None;
        }
        let queue = Queue::beside(prefix, Bound::default(), self.told.clone());
        state.watches.push(Watching { queue: queue.clone(), counted: Some(0), is_long });
        Some(queue)
    }

    /// Waits for something to read; what came since the last look counts
    pub(super) async fn told(&self) {
        self.told.notified().await;
    }

    /// Wakes whoever waits for something to read
    pub(super) fn tell(&self) {
        self.told.notify_one();
    }

    /// Waits until few enough replies are unread, or it is closed
    pub(super) async fn has_room(&self) {
        while self.main.replies() >= MOST_REPLIES && !self.is_closed.load(Ordering::Acquire) {
            self.room.notified().await;
        }
    }

    /// The end is near: no command waits for room any more
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.room.notify_one();
    }

    /// The queues of the watches beside the deliveries
    pub(super) fn watches(&self) -> Vec<Arc<Queue>> {
        self.lock().watches.iter().map(|watching| watching.queue.clone()).collect()
    }

    /// The next message out
    pub(super) fn next(&self) -> Option<Message> {
        let mut state = self.lock();
        let state = &mut *state;
        loop {
            if let Some(reading) = &mut state.reading {
                let next = reading.next(state.shared.as_deref());
                if next.first() == b"END" {
                    state.reading = None;
                }
                return Some(next);
            }
            if self.main.is_due()
                && let Some(shared) = &state.shared
            {
                shared.refill(&self.main);
            }
            match self.main.pop_entry() {
                Some(Entry::Change(Change::Put { tuple, .. })) if !is_reserved(&tuple.key) => {
                    if self.is_verbose.load(Ordering::Relaxed) {
                        let (actor, key) = (&self.prefix, tuple.key.escape_ascii());
                        tracing::info!(%actor, %key, octets = tuple.value.len(), "deliver");
                    }
                    return Some(message([word("DELIVER"), tuple.key, tuple.value]));
                }
                // The original has no word for what goes
                Some(Entry::Change(_)) => {}
                Some(Entry::Reply(reply)) => {
                    self.room.notify_one();
                    return Some(reply);
                }
                Some(Entry::List { prefix, is_long }) => {
                    self.room.notify_one();
                    state.reading = Some(Reading { prefix, is_long, after: None, count: 0 });
                }
                None => break,
            }
        }
        let shared = state.shared.as_deref();
        state.watches.iter_mut().find_map(|watching| watching.next(shared))
    }
}

impl Reading {
    fn next(&mut self, shared: Option<&Shared>) -> Message {
        let next = shared.and_then(|shared| shared.tuple_after(&self.prefix, self.after.as_deref()));
        match next {
            Some(tuple) => {
                self.count += 1;
                let message = text::tuple("TUPLE", &tuple, self.is_long);
                self.after = Some(tuple.key);
                message
            }
            None => message([word("END"), Bytes::from(self.count.to_string())]),
        }
    }
}

impl Watching {
    fn next(&mut self, shared: Option<&Shared>) -> Option<Message> {
        if self.queue.is_due()
            && let Some(shared) = shared
        {
            shared.refill(&self.queue);
        }
        let change = self.queue.pop()?;
        Some(text::change(&change, &mut self.counted, self.is_long))
    }
}

/// Deliveries that may wait to be read
const DELIVERIES: usize = 65_536;
/// Replies that may wait to be read before no further command is carried out
const MOST_REPLIES: usize = 1024;
const MOST_WATCHES: usize = 64;
