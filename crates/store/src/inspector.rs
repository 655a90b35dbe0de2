//! A second look at a store: for operators and their tools, while its owner runs or while nobody does.
//!
//! It has its own connection and no part in the owner's lock. It changes little, in short transactions, and always the
//! database itself, so that the owner finds it at once.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::batch::{Batch, Doomed, Limits, Step, roll_back};
use crate::entry::State;
use crate::error::Sql;
use crate::fsck::{self, FsckReport, Progress};
use crate::schema;
use crate::view::{self, EntryKey, EntryView, Explanation, QueueStats};
use crate::{Clock, StoreError, StoreOptions, SystemClock, Timestamp};

/// A store seen by somebody who does not own it
///
/// All of it blocks for as long as the disk takes.
pub struct Inspector {
    connection: Connection,
    path: PathBuf,
    clock: Arc<dyn Clock>,
}

impl Inspector {
    /// Opens the store in `directory`
    ///
    /// # Errors
    /// There is none; it is damaged, of another program or a later version; the system refuses.
    pub fn open(directory: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_with(directory, Arc::new(SystemClock::new()))
    }

    /// The same with another clock
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(directory: impl AsRef<Path>, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let connection = schema::open_guest(directory.as_ref())?;
        Ok(Self { connection, path: schema::file_in(directory.as_ref()), clock })
    }

    /// What every queue holds, by name
    ///
    /// # Errors
    /// The database is damaged or can't be read; so for all that follow.
    pub fn queues(&self) -> Result<Vec<QueueStats>, StoreError> {
        self.look(view::queues)
    }

    /// What one queue holds
    ///
    /// # Errors
    /// As [`queues`](Self::queues).
    pub fn queue(&self, name: &[u8]) -> Result<Option<QueueStats>, StoreError> {
        self.look(|connection| view::queue(connection, name))
    }

    /// Up to `max` entries of a queue, with their bodies, in the order of their numbers; those after the number `after`
    ///
    /// # Errors
    /// As [`queues`](Self::queues).
    pub fn entries(
        &self,
        queue: &[u8],
        state: Option<State>,
        after: u64,
        max: usize,
    ) -> Result<Vec<EntryView>, StoreError> {
        self.look(|connection| view::entries(connection, queue, state, after, max))
    }

    /// One entry
    ///
    /// # Errors
    /// As [`queues`](Self::queues).
    pub fn entry(&self, key: EntryKey) -> Result<Option<EntryView>, StoreError> {
        self.look(|connection| view::entry(connection, key))
    }

    /// One entry, and why it is not handed out
    ///
    /// # Errors
    /// As [`queues`](Self::queues).
    pub fn explain(&self, key: EntryKey) -> Result<Option<(EntryView, Explanation)>, StoreError> {
        let now = self.now()?;
        let entry = self.entry(key)?;
        Ok(entry.map(|entry| {
            let explanation = entry.explain(now);
            (entry, explanation)
        }))
    }

    /// The present moment, as the store sees it
    ///
    /// # Errors
    /// As [`queues`](Self::queues).
    pub fn now(&self) -> Result<Timestamp, StoreError> {
        Ok(self.look(view::latest)?.max(self.clock.now()))
    }

    /// Deletes all entries of a queue in one state, a thousand or 8 MiB at a time; how many those were
    ///
    /// `progress` hears how many are gone so far. Ids and keys stay known as duplicates for the rest of their window.
    ///
    /// # Errors
    /// As [`queues`](Self::queues), or its owner keeps the database busy; what is gone by then stays gone.
    pub fn purge(&self, queue: &[u8], state: State, progress: impl FnMut(u64)) -> Result<u64, StoreError> {
        self.in_steps(queue, progress, |batch, queue| batch.purge(queue, Doomed::All(state), STEP))
    }

    /// Deletes one entry of a queue; whether it was there
    ///
    /// # Errors
    /// As [`purge`](Self::purge).
    pub fn purge_one(&self, queue: &[u8], seq: u64) -> Result<bool, StoreError> {
        let seq = i64::try_from(seq).unwrap_or(i64::MAX);
        self.change(queue, |batch, queue| batch.purge(queue, Doomed::One(seq), 1)).map(|gone| gone.done > 0)
    }

    /// Has all dead letters of a queue begin anew, a thousand at a time; how many those were
    ///
    /// # Errors
    /// As [`purge`](Self::purge).
    pub fn requeue(&self, queue: &[u8], progress: impl FnMut(u64)) -> Result<u64, StoreError> {
        self.in_steps(queue, progress, |batch, queue| batch.requeue(queue, Doomed::All(State::Dead), STEP))
    }

    /// Has one dead letter of a queue begin anew; whether it was one
    ///
    /// # Errors
    /// As [`purge`](Self::purge).
    pub fn requeue_one(&self, queue: &[u8], seq: u64) -> Result<bool, StoreError> {
        let seq = i64::try_from(seq).unwrap_or(i64::MAX);
        self.change(queue, |batch, queue| batch.requeue(queue, Doomed::One(seq), 1)).map(|back| back.done > 0)
    }

    /// Examines all of it: SQLite's own check, every checksum, every count, every state
    ///
    /// `progress` hears how far it is. The owner may go on meanwhile, but its log grows until this ends.
    ///
    /// # Errors
    /// It can't be read at all. What is wrong with it is in the report.
    pub fn fsck(&self, progress: impl FnMut(Progress)) -> Result<FsckReport, StoreError> {
        fsck::examine(&self.connection, &self.path, progress)
    }

    fn look<T>(&self, look: impl FnOnce(&Connection) -> Sql<T>) -> Result<T, StoreError> {
        look(&self.connection).map_err(|error| StoreError::engine(&self.path, &error))
    }

    fn in_steps(
        &self,
        queue: &[u8],
        mut progress: impl FnMut(u64),
        mut step: impl FnMut(&mut Batch<'_>, i64) -> Sql<Step>,
    ) -> Result<u64, StoreError> {
        let mut all = 0;
        loop {
            let began = Instant::now();
            let step = self.change(queue, &mut step)?;
            all += step.done as u64;
            if !step.more {
                return Ok(all);
            }
            progress(all);
            // As long for the owner as it took here
            std::thread::sleep(began.elapsed().clamp(SHORTEST_PAUSE, LONGEST_PAUSE));
        }
    }

    fn change(&self, queue: &[u8], change: impl FnOnce(&mut Batch<'_>, i64) -> Sql<Step>) -> Result<Step, StoreError> {
        // Of the limits none matters to what takes away or puts back
        let mut limits = Limits::from(&StoreOptions::default());
        // The owner's time is the store's: it may go after another clock than this process
        limits.doubts_clock = true;
        let run = || {
            let mut batch = Batch::begin(&self.connection, limits, self.clock.now())?;
            let changed = match batch.queue(queue)? {
                Some(queue) => change(&mut batch, queue)?,
                None => Step::default(),
            };
            batch.finish().map(|_woke| changed)
        };
        run().map_err(|error| {
            roll_back(&self.connection);
            StoreError::engine(&self.path, &error)
        })
    }
}

impl fmt::Debug for Inspector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inspector").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Entries in one transaction: some milliseconds of the owner's time
const STEP: usize = 1000;

/// Between two of them
const SHORTEST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
