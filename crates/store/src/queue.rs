//! A queue as its users see it: entries in, entries out, and what became of them.

use std::time::Duration;

use bytes::Bytes;

use crate::entry::{Enqueued, Leased, NewEntry, Retry, Settled, Ticket};
use crate::frames::{Stored, packed_len};
use crate::view::QueueStats;
use crate::{Pending, Store, StoreError};

/// One queue of a [`Store`]
///
/// Entries are handed out in the order of their arrival, those that came back before the others, and each to one holder
/// at a time until its lease ends: at least once, in other words.
#[derive(Clone, Debug)]
pub struct Queue {
    store: Store,
    name: Bytes,
}

impl Queue {
    pub(crate) fn new(store: Store, name: Bytes) -> Self {
        Self { store, name }
    }

    /// Its name
    pub fn name(&self) -> &Bytes {
        &self.name
    }

    /// Stores an entry, and says so when it is as durable as the store's [`Durability`](crate::Durability) promises
    ///
    /// An entry whose key, or given id, has arrived within the window already is not stored again, and the first is named.
    ///
    /// # Errors
    /// The store or the disk is full; the body is too large; the key or id belongs to an entry with another body.
    pub fn enqueue(&self, entry: NewEntry) -> Pending<Enqueued> {
        let (name, octets) = (self.name.clone(), packed_len(&entry.body));
        match self.store.pack(&entry) {
            Ok(packed) => self.store.submit(true, octets, move |batch| batch.enqueue(&name, &packed)),
            Err(error) => Pending::new(async { Err(error) }),
        }
    }

    /// Stores several entries in one go; each has an outcome of its own. See [`Store::enqueue_many`]
    ///
    /// # Errors
    /// None of them is stored.
    pub fn enqueue_many(&self, entries: Vec<NewEntry>) -> Pending<Vec<Result<Enqueued, StoreError>>> {
        self.store.enqueue_many(entries.into_iter().map(|entry| (self.name.clone(), entry)))
    }

    /// Hands out up to `max` entries, and at most 64 MiB of them, for so long
    ///
    /// Whoever has one settles it by [`ack`](Self::ack), [`complete`](Self::complete) or [`nak`](Self::nak), or asks for
    /// more time by [`extend`](Self::extend); otherwise it is handed out again when the lease ends.
    pub fn lease(&self, max: usize, time: Duration) -> Pending<Leased> {
        let name = self.name.clone();
        self.store.submit(false, 0, move |batch| batch.lease(&name, max, time).map(Ok))
    }

    /// It is done and needed no more. [`Settled::Late`] if it is gone, or a dead letter
    pub fn ack(&self, ticket: Ticket) -> Pending<Settled> {
        self.store.submit(true, 0, move |batch| batch.ack(ticket).map(Ok))
    }

    /// The same for several
    pub fn ack_many(&self, tickets: Vec<Ticket>) -> Pending<Vec<Settled>> {
        self.store.submit(true, 0, move |batch| {
            tickets.iter().map(|ticket| batch.ack(*ticket)).collect::<Result<_, _>>().map(Ok)
        })
    }

    /// It is done, and the result is kept for [`Store::find`]. The first result stays: a second is [`Settled::Late`]
    ///
    /// # Errors
    /// The store is full by a quarter more than it may be; the result is too large.
    pub fn complete(&self, ticket: Ticket, result: &[Bytes]) -> Pending<Settled> {
        let (octets, max) = (packed_len(result), self.store.max_body());
        if octets > max {
            return Pending::new(async move { Err(StoreError::TooLarge { octets, max }) });
        }
        let result = Stored::pack(result);
        self.store.submit(true, octets, move |batch| batch.complete(ticket, &result))
    }

    /// This attempt has failed, and `note` says why. [`Settled::Late`] if it has been handed out anew meanwhile
    pub fn nak(&self, ticket: Ticket, retry: Retry, note: impl Into<String>) -> Pending<Settled> {
        let note = note.into();
        self.store.submit(true, 0, move |batch| batch.nak(ticket, &retry, &note).map(Ok))
    }

    /// The lease lasts so long from now. [`Settled::Late`] if it has ended and somebody else has the entry
    pub fn extend(&self, ticket: Ticket, time: Duration) -> Pending<Settled> {
        self.store.submit(false, 0, move |batch| batch.extend(ticket, time).map(Ok))
    }

    /// What it holds
    pub fn stats(&self) -> Pending<QueueStats> {
        let name = self.name.clone();
        self.store.submit(false, 0, move |batch| {
            Ok(Ok(batch.queue_stats(&name)?.unwrap_or_else(|| QueueStats::empty(name.clone()))))
        })
    }
}
