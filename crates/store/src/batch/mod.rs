//! One transaction: everything that changes a store happens here, between `begin` and `finish`.
//!
//! No thread, no channel and no clock: a connection, a moment and limits go in. The writer runs many operations in one
//! batch, an inspector one. Counts are kept as differences and written once at the end, so that two processes add up.
//!
//! An operation has two kinds of no: [`Sql`]'s error, which undoes the whole batch, and a [`StoreError`] inside,
//! which concerns nobody else in it and after which nothing of this operation is left behind.

/// The columns that [`EntryRow::read`] reads, and what to look for
macro_rules! entry_where {
    ($rest:literal) => {
        concat!(
            "SELECT seq, queue, id, state, attempt, max_attempts, due_at, enqueued_at, changed_at, expires_at, ttl, key, \
             flags, cause, note, weight, checksum FROM entry ",
            $rest
        )
    };
}

/// The same, and in the column [`BODY`] the body
macro_rules! entry_and_body_where {
    ($rest:literal) => {
        concat!(
            "SELECT seq, queue, id, state, attempt, max_attempts, due_at, enqueued_at, changed_at, expires_at, ttl, key, \
             flags, cause, note, weight, checksum, \
             CASE WHEN flags & 2 THEN (SELECT body FROM large WHERE large.seq = entry.seq) ELSE body END FROM entry ",
            $rest
        )
    };
}
pub(crate) use entry_and_body_where;

mod care;
mod enqueue;
mod items;
mod lease;

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use uuid::Uuid;

pub(crate) use care::{Doomed, Step};
pub(crate) use enqueue::Packed;

use crate::entry::{Cause, State};
use crate::error::Sql;
use crate::view::{self, QueueStats};
use crate::{Backoff, StoreError, StoreOptions, Timestamp};

/// A transaction that has begun
pub(crate) struct Batch<'c> {
    connection: &'c Connection,
    /// The moment at which all of it happens
    pub(crate) now: Timestamp,
    /// The latest moment that the store has seen
    latest: Timestamp,
    limits: Limits,
    next_seq: i64,
    entries: i64,
    octets: i64,
    /// What the memory of keys and ids counts for
    seen_octets: i64,
    dedup_window: i64,
    keep_results: i64,
    keep_dead: i64,
    /// Rows that the connection had changed before
    changed: u64,
    /// Differences by queue
    counted: BTreeMap<i64, Counts>,
    /// The queue that was found last, and its name: rows of queues are deleted by no batch that stores entries
    found: Option<(Vec<u8>, i64)>,
    /// Something may be handed out that couldn't be before
    pub(crate) woke: bool,
}

/// What a batch needs of the options
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) max_octets: u64,
    pub(crate) max_queues: u64,
    pub(crate) max_attempts: u32,
    pub(crate) backoff: Backoff,
    pub(crate) durability: crate::Durability,
    /// The clock is not to be believed: it doesn't move the store's own time, and ends no lifetime
    pub(crate) doubts_clock: bool,
}

impl From<&StoreOptions> for Limits {
    fn from(options: &StoreOptions) -> Self {
        Self {
            max_octets: options.max_octets,
            max_queues: options.max_queues,
            max_attempts: options.max_attempts,
            backoff: options.backoff,
            durability: options.durability,
            doubts_clock: false,
        }
    }
}

/// Differences of one queue's counts
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    states: [i64; 4],
    octets: i64,
}

/// A row of `entry`, but for its body
#[derive(Clone, Debug)]
pub(crate) struct EntryRow {
    pub(crate) seq: i64,
    pub(crate) queue: i64,
    pub(crate) id: Uuid,
    pub(crate) state: State,
    pub(crate) attempt: u32,
    pub(crate) max_attempts: u32,
    pub(crate) due_at: i64,
    pub(crate) enqueued_at: Timestamp,
    pub(crate) changed_at: Timestamp,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) ttl: Option<i64>,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) flags: i64,
    pub(crate) cause: Option<Cause>,
    pub(crate) note: Option<String>,
    pub(crate) weight: i64,
    pub(crate) checksum: u32,
}

impl<'c> Batch<'c> {
    /// Begins, at `clock`'s moment or the latest that the store has seen
    pub(crate) fn begin(connection: &'c Connection, limits: Limits, clock: Timestamp) -> Sql<Self> {
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let mut select = connection.prepare_cached(
            "SELECT next_seq, latest, entries, octets, dedup_window, keep_results, keep_dead, seen_octets FROM store",
        )?;
        let begun = select.query_row([], |row| {
            let latest = Timestamp::from_column(row.get(1)?);
            Ok(Self {
                connection,
                now: clock.max(latest),
                latest,
                limits,
                next_seq: row.get(0)?,
                entries: row.get(2)?,
                octets: row.get(3)?,
                dedup_window: row.get(4)?,
                keep_results: row.get(5)?,
                keep_dead: row.get(6)?,
                seen_octets: row.get(7)?,
                changed: connection.total_changes(),
                counted: BTreeMap::new(),
                found: None,
                woke: false,
            })
        });
        if begun.is_err() {
            roll_back(connection);
        }
        begun
    }

    /// Writes the counts and commits; true if something may be handed out that couldn't be before
    pub(crate) fn finish(self) -> Sql<bool> {
        for (queue, counts) in &self.counted {
            let [waiting, leased, done, dead] = counts.states;
            let mut update = self.connection.prepare_cached(
                "UPDATE queue SET waiting = waiting + ?2, leased = leased + ?3, done = done + ?4, dead = dead + ?5,
                 octets = octets + ?6 WHERE queue = ?1",
            )?;
            update.execute(params![queue, waiting, leased, done, dead, counts.octets])?;
        }
        // What only looked writes nothing
        if self.connection.total_changes() != self.changed {
            let mut update = self.connection.prepare_cached(
                "UPDATE store SET next_seq = ?1, latest = ?2, entries = ?3, octets = ?4, seen_octets = ?5",
            )?;
            let latest = self.believed().column();
            update.execute(params![self.next_seq, latest, self.entries, self.octets, self.seen_octets])?;
        }
        self.connection.prepare_cached("COMMIT")?.execute([])?;
        Ok(self.woke)
    }

    /// The moment by which lifetimes end
    fn believed(&self) -> Timestamp {
        if self.limits.doubts_clock { self.latest } else { self.now }
    }

    /// How long the connection waits for other processes
    #[cfg(test)]
    pub(crate) fn wait_for_others(&self, time: std::time::Duration) -> Sql<()> {
        self.connection.busy_timeout(time)
    }

    /// Entries and octets in all queues
    pub(crate) fn total(&self) -> (u64, u64) {
        (u64::try_from(self.entries).unwrap_or(0), u64::try_from(self.octets).unwrap_or(0))
    }

    /// What every queue holds
    pub(crate) fn queues(&self) -> Sql<Vec<QueueStats>> {
        view::queues(self.connection)
    }

    /// What one queue holds
    pub(crate) fn queue_stats(&self, name: &[u8]) -> Sql<Option<QueueStats>> {
        view::queue(self.connection, name)
    }

    /// The number of the queue of this name, if there is one
    pub(crate) fn queue(&self, name: &[u8]) -> Sql<Option<i64>> {
        let mut select = self.connection.prepare_cached("SELECT queue FROM queue WHERE name = ?1")?;
        select.query_row([name], |row| row.get(0)).optional()
    }

    /// Makes a queue
    fn new_queue(&self, name: &[u8], max: Option<u64>) -> Sql<Result<i64, StoreError>> {
        let mut count = self.connection.prepare_cached("SELECT count(*) FROM queue")?;
        let queues = count.query_row([], |row| row.get::<_, i64>(0))?.unsigned_abs();
        if queues >= max.unwrap_or(u64::MAX).min(self.limits.max_queues) {
            return Ok(Err(StoreError::TooManyQueues(queues)));
        }
        self.connection.prepare_cached("INSERT INTO queue (name) VALUES (?1)")?.execute([name])?;
        Ok(Ok(self.connection.last_insert_rowid()))
    }

    pub(crate) fn entry(&self, seq: i64) -> Sql<Option<EntryRow>> {
        let mut select = self.connection.prepare_cached(entry_where!("WHERE seq = ?1"))?;
        select.query_row([seq], EntryRow::read).optional()
    }

    pub(crate) fn entry_by_id(&self, id: Uuid) -> Sql<Option<EntryRow>> {
        let mut select = self.connection.prepare_cached(entry_where!("WHERE id = ?1"))?;
        select.query_row([id.as_bytes().as_slice()], EntryRow::read).optional()
    }

    /// Notes that an entry of `queue` has come, changed its state, or gone
    fn count(&mut self, queue: i64, from: Option<State>, to: Option<State>, octets: i64) {
        let counts = self.counted.entry(queue).or_default();
        for (state, by) in [(from, -1), (to, 1)] {
            if let Some(count) = state.and_then(|state| counts.states.get_mut(state as usize)) {
                *count += by;
            }
        }
        counts.octets += octets;
        self.octets += octets;
        self.entries += i64::from(to.is_some()) - i64::from(from.is_some());
    }

    /// The entry will not be handed out again; it is kept for whoever wants to know
    fn bury(&mut self, entry: &EntryRow, cause: Cause, note: &str) -> Sql<()> {
        let note: String = note.chars().take(MAX_NOTE).collect();
        let mut update = self.connection.prepare_cached(
            "UPDATE entry SET state = 3, due_at = 0, changed_at = ?2, expires_at = ?3, cause = ?4, note = ?5
             WHERE seq = ?1",
        )?;
        let expires = self.now.column().saturating_add(self.keep_dead);
        update.execute(params![entry.seq, self.now.column(), expires, cause.column(), note])?;
        self.count(entry.queue, Some(entry.state), Some(State::Dead), 0);
        Ok(())
    }

    /// The same for one whose row says what can't be
    ///
    /// It gets a new id if it has none; what its body was is lost.
    fn bury_odd(&mut self, seq: i64) -> Sql<()> {
        let mut select = self.connection.prepare_cached("SELECT queue, state FROM entry WHERE seq = ?1")?;
        let (queue, state): (i64, i64) = select.query_row([seq], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let mut update = self.connection.prepare_cached(
            "UPDATE entry SET state = 3, due_at = 0, changed_at = ?2, expires_at = ?3, cause = ?4,
             note = 'its row was damaged', id = CASE WHEN length(id) = 16 THEN id ELSE randomblob(16) END,
             flags = CASE WHEN checksum BETWEEN 0 AND 4294967295 THEN flags ELSE flags & ~2 END,
             body = CASE WHEN checksum BETWEEN 0 AND 4294967295 THEN body ELSE x'' END,
             checksum = CASE WHEN checksum BETWEEN 0 AND 4294967295 THEN checksum ELSE 0 END WHERE seq = ?1",
        )?;
        let expires = self.now.column().saturating_add(self.keep_dead);
        update.execute(params![seq, self.now.column(), expires, Cause::Damaged.column()])?;
        tracing::warn!(entry = seq, "an entry's row is damaged: it is a dead letter; `tidings queue fsck` tells more");
        let counts = self.counted.entry(queue).or_default();
        counts.states[State::Dead as usize] += 1;
        if let Some(count) = usize::try_from(state).ok().and_then(|state| counts.states.get_mut(state)) {
            *count -= 1;
        }
        Ok(())
    }

    /// Deletes an entry with all that belongs to it, but remembers by what it is told from a second arrival
    fn forget(&mut self, entry: &EntryRow) -> Sql<()> {
        let window = match entry.flags & KEY_BRIEF {
            0 => self.dedup_window,
            _ => self.dedup_window.min(BRIEF_MILLIS),
        };
        let until = entry.enqueued_at.column().saturating_add(window);
        if until > self.believed().column() {
            let given = (entry.flags & ID_GIVEN != 0).then(|| seen_id(entry.id));
            let key = entry.key.as_deref().map(seen_key);
            for name in given.into_iter().chain(key) {
                let queue = if name.first() == Some(&b'i') { ANY_QUEUE } else { entry.queue };
                let mut delete = self.connection.prepare_cached("DELETE FROM seen WHERE queue = ?1 AND key = ?2")?;
                let earlier = delete.execute(params![queue, name])?;
                let mut insert = self.connection.prepare_cached("INSERT INTO seen VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
                let id = entry.id.as_bytes().as_slice();
                insert.execute(params![queue, name, entry.seq, id, i64::from(entry.checksum), until])?;
                if earlier == 0 {
                    self.seen_octets += seen_weight(name.len());
                }
            }
        }
        self.connection.prepare_cached("DELETE FROM entry WHERE seq = ?1")?.execute([entry.seq])?;
        if entry.flags & BODY_APART != 0 {
            self.connection.prepare_cached("DELETE FROM large WHERE seq = ?1")?.execute([entry.seq])?;
        }
        if entry.state == State::Done {
            self.connection.prepare_cached("DELETE FROM result WHERE seq = ?1")?.execute([entry.seq])?;
        }
        self.count(entry.queue, Some(entry.state), None, -entry.weight);
        Ok(())
    }
}

impl EntryRow {
    /// Reads what `entry_where` selects
    pub(crate) fn read(row: &Row<'_>) -> Sql<Self> {
        let integer = |at: usize| row.get::<_, i64>(at);
        let id: Vec<u8> = row.get(2)?;
        let invalid = |at: usize| {
            rusqlite::Error::FromSqlConversionFailure(at, rusqlite::types::Type::Blob, "no value of this column".into())
        };
        Ok(Self {
            seq: integer(0)?,
            queue: integer(1)?,
            id: Uuid::from_slice(&id).map_err(|_length| invalid(2))?,
            state: State::from_column(integer(3)?).ok_or_else(|| invalid(3))?,
            attempt: u32::try_from(integer(4)?).unwrap_or(u32::MAX),
            max_attempts: u32::try_from(integer(5)?).unwrap_or(u32::MAX),
            due_at: integer(6)?,
            enqueued_at: Timestamp::from_column(integer(7)?),
            changed_at: Timestamp::from_column(integer(8)?),
            expires_at: row.get::<_, Option<i64>>(9)?.map(Timestamp::from_column),
            ttl: row.get(10)?,
            key: row.get(11)?,
            flags: integer(12)?,
            cause: row.get::<_, Option<i64>>(13)?.and_then(Cause::from_column),
            note: row.get(14)?,
            weight: integer(15)?,
            checksum: u32::try_from(integer(16)?).map_err(|_range| invalid(16))?,
        })
    }
}

/// The column of the body in what `entry_and_body_where` selects
pub(crate) const BODY: usize = 17;

/// Ends a transaction without a trace, if one is open: some errors of SQLite have ended it already
pub(crate) fn roll_back(connection: &Connection) {
    if !connection.is_autocommit() {
        // It fails only if there is nothing to undo
        let _undone = connection.execute_batch("ROLLBACK");
    }
}

fn seen_key(key: &[u8]) -> Vec<u8> {
    [b"k", key].concat()
}

fn seen_id(id: Uuid) -> Vec<u8> {
    [b"i", id.as_bytes().as_slice()].concat()
}

/// What the memory of a key or an id of so many octets counts for
fn seen_weight(octets: usize) -> i64 {
    SEEN_OVERHEAD + i64::try_from(octets).unwrap_or(i64::MAX / 2)
}

/// Whether a row has a value that its column can't have; others may be as they should
pub(crate) fn is_odd_row(error: &rusqlite::Error) -> bool {
    use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType, Utf8Error};
    matches!(error, FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..) | Utf8Error(..))
}

/// Octets that the memory of a key or id counts for besides its own
pub(crate) const SEEN_OVERHEAD: i64 = 128;

/// How long a key is remembered that was made for one call and its repetitions: 10 minutes
const BRIEF_MILLIS: i64 = 600_000;

/// Ids are known in all queues
const ANY_QUEUE: i64 = 0;

/// `entry.flags`: whoever stored it named the id
pub(crate) const ID_GIVEN: i64 = 1;

/// `entry.flags`: the body lies in `large`
pub(crate) const BODY_APART: i64 = 2;

/// `entry.flags`: its key was made for one call
pub(crate) const KEY_BRIEF: i64 = 4;

/// Characters of a dead letter's note
const MAX_NOTE: usize = 1024;
