//! Entries: what is put into a queue, what comes out, and the states between.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use crate::{Durability, StoreError, Timestamp};

/// An entry to be stored
#[derive(Clone, Debug, Default)]
pub struct NewEntry {
    pub(crate) body: Vec<Bytes>,
    pub(crate) id: Option<Uuid>,
    pub(crate) key: Option<Bytes>,
    pub(crate) key_is_brief: bool,
    pub(crate) queues_for_new: Option<u64>,
    pub(crate) ttl: Option<Duration>,
    pub(crate) max_attempts: Option<u32>,
    pub(crate) not_before: Option<Timestamp>,
}

impl NewEntry {
    /// An entry of these frames
    pub fn new(body: impl IntoIterator<Item = impl Into<Bytes>>) -> Self {
        Self { body: body.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// Its id, by which a second arrival is told; otherwise it gets one that can't be guessed
    #[must_use]
    pub fn id(mut self, id: Uuid) -> Self {
        self.id = Some(id);
        self
    }

    /// A key of 1 to 1024 octets, by which a second arrival in the same queue is told
    #[must_use]
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// The same with a key that was made for one call and its repetitions: it is remembered for ten minutes
    #[must_use]
    pub fn brief_key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self.key_is_brief = true;
        self
    }

    /// A new queue is made for it only while there are fewer than so many (default: the store's bound)
    #[must_use]
    pub fn queues_for_new(mut self, queues: u64) -> Self {
        self.queues_for_new = Some(queues);
        self
    }

    /// How long it may wait: it is a dead letter afterwards (default: for ever)
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// How often it is handed out before it is a dead letter (default: the store's)
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = Some(attempts.max(1));
        self
    }

    /// It is handed out from then on (default: at once)
    #[must_use]
    pub fn not_before(mut self, moment: Timestamp) -> Self {
        self.not_before = Some(moment);
        self
    }
}

/// The acknowledgement of an entry
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enqueued {
    /// Its number in the store, never given again
    pub seq: u64,
    /// Its id
    pub id: Uuid,
    /// It had been stored before, and this arrival changed nothing
    pub duplicate: bool,
    /// What this acknowledgement means
    pub durability: Durability,
}

/// An entry that was handed out, for as long as its lease lasts
#[derive(Clone, Debug)]
pub struct Entry {
    /// Says which entry and which attempt is meant, to [`Queue`](crate::Queue)'s methods
    pub ticket: Ticket,
    /// Its id
    pub id: Uuid,
    /// Its frames
    pub body: Vec<Bytes>,
    /// The key it came with
    pub key: Option<Bytes>,
    /// How often it is handed out at most
    pub max_attempts: u32,
    /// When it was stored
    pub enqueued_at: Timestamp,
    /// When it stops being of use
    pub expires_at: Option<Timestamp>,
}

impl Entry {
    /// Its number in the store
    pub fn seq(&self) -> u64 {
        self.ticket.seq
    }

    /// Which attempt this is; 1 is the first
    pub fn attempt(&self) -> u32 {
        self.ticket.attempt
    }
}

/// One handing out of one entry
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    /// Which entry
    pub seq: u64,
    /// Which attempt; 1 is the first
    pub attempt: u32,
}

/// What was handed out
#[derive(Clone, Debug, Default)]
pub struct Leased {
    /// The entries, oldest redelivery first, then in the order of their arrival
    pub entries: Vec<Entry>,
    /// When the next of those that remain may be handed out, in the past if one may be now; `None` if none remains
    pub next_due: Option<Timestamp>,
}

/// What becomes of an entry whose attempt failed
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Retry {
    /// It waits as [`StoreOptions::backoff`](crate::StoreOptions::backoff) says, longer each time
    Backoff,
    /// It waits so long
    After(Duration),
    /// It waits so long and the attempt counts for none: nobody had a look at it
    Release(Duration),
    /// It is a dead letter at once: no attempt would do better
    Never,
}

/// Where an entry stands
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// It is or will be due
    Waiting,
    /// It is handed out
    Leased,
    /// It has its result
    Done,
    /// It will not be handed out again
    Dead,
}

impl State {
    /// All of them, in the order in which they are counted
    pub const ALL: [Self; 4] = [Self::Waiting, Self::Leased, Self::Done, Self::Dead];

    pub(crate) fn column(self) -> i64 {
        match self {
            Self::Waiting => 0,
            Self::Leased => 1,
            Self::Done => 2,
            Self::Dead => 3,
        }
    }

    pub(crate) fn from_column(column: i64) -> Option<Self> {
        Self::ALL.get(usize::try_from(column).ok()?).copied()
    }

    /// In one word
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Leased => "leased",
            Self::Done => "done",
            Self::Dead => "dead",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why an entry is a dead letter
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// The last attempt that it may have has failed
    Attempts,
    /// It was not done within its lifetime
    Expired,
    /// Whoever had it said that no attempt would do better
    Refused,
    /// Its checksum does not match
    Damaged,
}

impl Cause {
    /// All of them
    pub const ALL: [Self; 4] = [Self::Attempts, Self::Expired, Self::Refused, Self::Damaged];

    pub(crate) fn column(self) -> i64 {
        match self {
            Self::Attempts => 1,
            Self::Expired => 2,
            Self::Refused => 3,
            Self::Damaged => 4,
        }
    }

    pub(crate) fn from_column(column: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.column() == column)
    }

    /// A stable name, for tables and counters
    pub fn name(self) -> &'static str {
        match self {
            Self::Attempts => "attempts",
            Self::Expired => "expired",
            Self::Refused => "refused",
            Self::Damaged => "damaged",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Attempts => "its last attempt failed",
            Self::Expired => "its lifetime ended",
            Self::Refused => "it was refused for good",
            Self::Damaged => "its checksum does not match",
        })
    }
}

/// What is known under an id
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing, or nothing any more
    Unknown,
    /// It has no result yet: waiting or handed out
    Pending {
        /// Its number
        seq: u64,
        /// How often it was handed out
        attempts: u32,
        /// What was said when it was given back the last time
        note: Option<String>,
    },
    /// This is its result, and will be
    Done {
        /// Its number
        seq: u64,
        /// The result's frames
        result: Vec<Bytes>,
    },
    /// It will have no result
    Dead {
        /// Its number
        seq: u64,
        /// Why
        cause: Cause,
        /// What whoever had it last said
        note: String,
    },
}

/// What an operation on an entry came to
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It is done
    Done,
    /// The entry was in another state by then, or is gone: nothing was changed
    Late,
}

impl Settled {
    /// Whether it is done
    pub fn is_done(self) -> bool {
        self == Self::Done
    }
}

/// The name of a queue or table, or a key: 1 to 255 octets of any kind
pub(crate) fn checked_name(what: &'static str, name: &[u8]) -> Result<(), StoreError> {
    match name.len() {
        1..=255 => Ok(()),
        octets => Err(StoreError::BadName { what, octets, max: 255 }),
    }
}

/// The key of an entry: 1 to 1024 octets, for somebody may put whose it is in front of somebody's own 255
pub(crate) fn checked_key(key: &[u8]) -> Result<(), StoreError> {
    match key.len() {
        1..=1024 => Ok(()),
        octets => Err(StoreError::BadName { what: "key", octets, max: 1024 }),
    }
}

/// An id that can't be guessed and sorts by time: a UUID of version 7
pub(crate) fn fresh_id(now: Timestamp) -> Result<Uuid, getrandom::Error> {
    let mut random = [0; 10];
    getrandom::fill(&mut random)?;
    Ok(uuid::Builder::from_unix_timestamp_millis(now.as_millis(), &random).into_uuid())
}

/// Octets that an entry counts for besides its body: its row, its places in the indices
pub(crate) const OVERHEAD: u64 = 256;
