//! A store: the directory that one process owns, the threads that serve it, and what it holds altogether.

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Semaphore, oneshot, watch};
use uuid::Uuid;

use crate::batch::{Batch, Limits, Packed, roll_back};
use crate::checkpoint::Checkpointer;
use crate::entry::{Enqueued, Found, NewEntry, Settled, checked_key, checked_name, fresh_id};
use crate::error::Sql;
use crate::frames::{Stored, packed_len};
use crate::schema;
use crate::time::Onwards;
use crate::view::{self, QueueStats};
use crate::writer::{Counters, Inbox, Work, Writer};
use crate::{Clock, Durability, Inspector, Pending, Queue, StoreError, StoreOptions, SystemClock, Table, Timestamp};

/// Durable queues and small tables in one directory, owned by one process at a time
///
/// Cheap to clone. When the last handle, queue or table is dropped, or with [`close`](Self::close), what is under way is
/// finished and the database left without a log.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

struct Shared {
    directory: PathBuf,
    options: StoreOptions,
    clock: Arc<Onwards>,
    inbox: Arc<Inbox>,
    /// Kibioctets that may wait for the writer
    room: Arc<Semaphore>,
    writer: Mutex<Option<JoinHandle<()>>>,
    changes: watch::Receiver<u64>,
    outside: watch::Receiver<u64>,
    counters: Arc<Counters>,
    released: usize,
    /// Held until the writer has ended
    lock: Mutex<Option<File>>,
}

/// What a store holds and has done since it was opened
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreStats {
    /// Entries in all queues
    pub entries: u64,
    /// Octets that they count for
    pub octets: u64,
    /// Octets that they may
    pub max_octets: u64,
    /// Each queue
    pub queues: Vec<QueueStats>,
    /// Transactions
    pub commits: u64,
    /// Operations in them
    pub operations: u64,
    /// Transactions that failed
    pub failed: u64,
}

impl Store {
    /// Opens the store in `directory`, and makes it where there is none, with the system's clock
    ///
    /// What a process had leased when it ended waits again. Blocks for as long as the disk takes.
    ///
    /// # Errors
    /// Another process owns it; it is damaged, of another program or a later version; the system refuses.
    pub fn open(directory: impl AsRef<Path>, options: StoreOptions) -> Result<Self, StoreError> {
        Self::open_with(directory, options, Arc::new(SystemClock::new()))
    }

    /// The same with another clock
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(
        directory: impl AsRef<Path>,
        options: StoreOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StoreError> {
        let directory = directory.as_ref().to_owned();
        schema::make_directory(&directory)?;
        let lock = lock(&directory)?;
        let path = schema::file_in(&directory);
        let connection = schema::open_owner(&directory, &options)?;
        let clock = Arc::new(Onwards::new(clock));
        let mut limits = Limits::from(&options);
        let begin = |limits: &mut Limits| {
            let seen = view::latest(&connection)?;
            // The system's clock may not be set yet, or wrong by years: what is stored must not be lost by that
            limits.doubts_clock = seen > Timestamp::default() && clock.now().since(seen) > JUMP;
            clock.go_on_from(seen);
            let mut batch = Batch::begin(&connection, *limits, clock.now())?;
            batch.set_waits_back()?;
            let was_clean = batch.set_clean(false)?;
            let (released, now, doubt) = (batch.release_all(was_clean)?, batch.now, view::doubt(&connection)?);
            batch.finish()?;
            let data_version = connection.query_row("PRAGMA data_version", [], |row| row.get(0))?;
            Ok((released, now, doubt, data_version))
        };
        let begun: Sql<_> = begin(&mut limits);
        let (released, now, doubt, data_version) = begun.map_err(|error| {
            roll_back(&connection);
            StoreError::engine(&path, &error)
        })?;
        if let Some(what) = doubt {
            return Err(StoreError::Damaged { path, what });
        }
        let checkpointer = Checkpointer::start(schema::open_guest(&directory)?, &path, options.durability)?;
        let (inbox, counters) = (Arc::new(Inbox::default()), Arc::new(Counters::default()));
        let (changes, changed) = watch::channel(0);
        let (outside, changed_outside) = watch::channel(0);
        if limits.doubts_clock {
            tracing::warn!(
                store = %directory.display(), now = %now,
                "the clock is far ahead of the store's last change: no lifetime ends for ten minutes; if the clock is \
                 wrong, stop this program, set it and start again"
            );
        }
        let writer = Writer {
            connection,
            path: path.clone(),
            inbox: Arc::clone(&inbox),
            clock: Arc::clone(&clock),
            limits,
            checkpointer,
            changes,
            outside,
            counters: Arc::clone(&counters),
            broken: None,
            doubts_until: now.after(GRACE),
            swept_at: Timestamp::default(),
            has_more: false,
            tidied_at: now,
            data_version,
            looked_at: std::time::Instant::now(),
        };
        let spawned = std::thread::Builder::new().name("store-writer".to_owned()).spawn(move || writer.run());
        let writer = spawned.map_err(|error| StoreError::io("start a thread for", &path, error))?;
        let shared = Shared {
            directory,
            options,
            clock,
            inbox,
            room: Arc::new(Semaphore::new(ROOM)),
            writer: Mutex::new(Some(writer)),
            changes: changed,
            outside: changed_outside,
            counters,
            released,
            lock: Mutex::new(Some(lock)),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The queue of this name, of 1 to 255 octets; it comes to be with its first entry
    ///
    /// # Errors
    /// [`StoreError::BadName`].
    pub fn queue(&self, name: impl Into<Bytes>) -> Result<Queue, StoreError> {
        let name = name.into();
        checked_name("queue's name", &name)?;
        Ok(Queue::new(self.clone(), name))
    }

    /// The table of this name, of 1 to 255 octets
    ///
    /// # Errors
    /// [`StoreError::BadName`].
    pub fn table(&self, name: impl Into<Bytes>) -> Result<Table, StoreError> {
        let name = name.into();
        checked_name("table's name", &name)?;
        Ok(Table::new(self.clone(), name))
    }

    /// What is known under an entry's id, in whichever queue it is
    pub fn find(&self, id: Uuid) -> Pending<Found> {
        self.submit(false, 0, move |batch| batch.find(id))
    }

    /// Stores entries of several queues, each given with its queue's name, in one go; each has an outcome of its own
    ///
    /// Many at once cost less than each by itself.
    ///
    /// # Errors
    /// None of them is stored.
    pub fn enqueue_many(
        &self,
        entries: impl IntoIterator<Item = (Bytes, NewEntry)>,
    ) -> Pending<Vec<Result<Enqueued, StoreError>>> {
        let pack = |(name, entry): (Bytes, NewEntry)| {
            let packed = checked_name("queue's name", &name).and_then(|()| self.pack(&entry));
            (name, packed)
        };
        let packed: Arc<[(Bytes, Result<Packed, StoreError>)]> = entries.into_iter().map(pack).collect();
        let store = self.clone();
        Pending::new(async move {
            let many = packed.len();
            match store.enqueue_packed(packed.clone(), 0..many).await {
                // One of them can't be done, and the others need not suffer for it
                Err(StoreError::DiskFull { .. } | StoreError::Damaged { .. } | StoreError::Engine { .. })
                    if many > 1 =>
                {
                    let mut outcomes = Vec::with_capacity(many);
                    for place in 0..many {
                        match store.enqueue_packed(packed.clone(), place..place + 1).await {
                            Ok(outcome) => outcomes.extend(outcome),
                            Err(error) => outcomes.push(Err(error)),
                        }
                    }
                    Ok(outcomes)
                }
                outcome => outcome,
            }
        })
    }

    fn enqueue_packed(
        &self,
        packed: Arc<[(Bytes, Result<Packed, StoreError>)]>,
        which: std::ops::Range<usize>,
    ) -> Pending<Vec<Result<Enqueued, StoreError>>> {
        let these = packed.get(which.clone()).unwrap_or_default();
        let octets = these.iter().flat_map(|(_, packed)| packed).map(|packed| packed.body.octets.len()).sum();
        self.submit(true, octets, move |batch| {
            let mut store = |(name, packed): &(Bytes, Result<Packed, StoreError>)| match packed {
                Ok(packed) => batch.enqueue(name, packed),
                Err(error) => Ok(Err(error.clone())),
            };
            let these = packed.get(which.clone()).unwrap_or_default();
            these.iter().map(&mut store).collect::<Result<Vec<_>, _>>().map(Ok)
        })
    }

    pub(crate) fn pack(&self, entry: &NewEntry) -> Result<Packed, StoreError> {
        let (octets, max) = (packed_len(&entry.body), self.shared.options.max_body);
        if octets > max {
            return Err(StoreError::TooLarge { octets, max });
        }
        if let Some(key) = &entry.key {
            checked_key(key)?;
        }
        let fresh = || {
            fresh_id(self.now()).map_err(|error| {
                StoreError::io("draw an id in", self.directory(), std::io::Error::other(error.to_string()))
            })
        };
        let (id, id_given) = match entry.id {
            Some(id) => (id, true),
            None => (fresh()?, false),
        };
        Ok(Packed {
            id,
            id_given,
            key: entry.key.clone(),
            key_is_brief: entry.key_is_brief,
            queues_for_new: entry.queues_for_new,
            ttl: entry.ttl.map(|ttl| i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX)),
            max_attempts: entry.max_attempts,
            not_before: entry.not_before,
            body: Stored::pack(&entry.body),
        })
    }

    /// Deletes the entry of this id with its result, in whichever queue and state; [`Settled::Late`] if there is none
    pub fn remove(&self, id: Uuid) -> Pending<Settled> {
        self.submit(true, 0, move |batch| batch.remove(id).map(Ok))
    }

    /// Ends the lifetimes that are over; it happens by itself once a second
    pub fn sweep(&self) -> Pending<()> {
        self.submit(false, 0, |batch| {
            while batch.sweep(1000)? {}
            Ok(Ok(()))
        })
    }

    /// What it holds
    pub fn stats(&self) -> Pending<StoreStats> {
        let (max_octets, counters) = (self.shared.options.max_octets, Arc::clone(&self.shared.counters));
        self.submit(false, 0, move |batch| {
            let (entries, octets) = batch.total();
            Ok(Ok(StoreStats {
                entries,
                octets,
                max_octets,
                queues: batch.queues()?,
                commits: counters.commits.load(Ordering::Relaxed),
                operations: counters.jobs.load(Ordering::Relaxed),
                failed: counters.failed.load(Ordering::Relaxed),
            }))
        })
    }

    /// Tells when something may be handed out that couldn't be before, but for time that passes
    ///
    /// What another process puts back is told within a second.
    pub fn changes(&self) -> Changes {
        Changes(self.shared.changes.clone())
    }

    /// Tells when another process has changed anything, within a second: it may have put entries back, or purged them
    pub fn outside_changes(&self) -> Changes {
        Changes(self.shared.outside.clone())
    }

    /// Looks at the same directory with a connection of its own, as another process would
    ///
    /// # Errors
    /// As [`Inspector::open`].
    pub fn inspect(&self) -> Result<Inspector, StoreError> {
        let clock: Arc<dyn Clock> = self.shared.clock.clone();
        Inspector::open_with(&self.shared.directory, clock)
    }

    /// The present moment, as the store sees it
    pub fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    /// Whether it takes operations: not after it was closed, or its disk or its writer has failed
    pub fn is_open(&self) -> bool {
        !self.shared.inbox.is_closed() && !self.shared.counters.broken.load(Ordering::Acquire)
    }

    /// Where it lies
    pub fn directory(&self) -> &Path {
        &self.shared.directory
    }

    /// Queues that may hold something
    pub fn max_queues(&self) -> u64 {
        self.shared.options.max_queues
    }

    /// What its acknowledgements mean
    pub fn durability(&self) -> Durability {
        self.shared.options.durability
    }

    /// Entries that its last owner had leased when it ended, and that wait again
    pub fn released(&self) -> usize {
        self.shared.released
    }

    /// Finishes what is under way, and lets go of the directory
    ///
    /// Blocks until that is done. Other handles answer [`StoreError::Closed`] from then on.
    pub fn close(&self) {
        self.shared.close();
    }

    pub(crate) fn max_body(&self) -> usize {
        self.shared.options.max_body
    }

    /// Has the writer do `run` in its next transaction; `octets` is what it carries
    pub(crate) fn submit<T, F>(&self, promises: bool, octets: usize, run: F) -> Pending<T>
    where
        T: Send + 'static,
        F: FnMut(&mut Batch<'_>) -> Sql<Result<T, StoreError>> + Send + 'static,
    {
        let shared = Arc::clone(&self.shared);
        Pending::new(async move {
            let wanted = u32::try_from(1 + octets / 1024).unwrap_or(u32::MAX).min(ROOM as u32);
            let acquired = Arc::clone(&shared.room).acquire_many_owned(wanted).await;
            let room = acquired.map_err(|_closed| StoreError::Closed)?;
            let (reply, told) = oneshot::channel();
            shared.inbox.push(Box::new(Work { run, outcome: None, reply, promises, octets, _room: room }));
            told.await.unwrap_or(Err(StoreError::Closed))
        })
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("directory", &self.shared.directory).finish_non_exhaustive()
    }
}

impl Shared {
    fn close(&self) {
        self.inbox.close();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            // A panic of it has been reported by then
            let _ended = writer.join();
            *self.lock.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.close();
    }
}

/// Tells of changes since the last time it was asked
#[derive(Clone, Debug)]
pub struct Changes(watch::Receiver<u64>);

impl Changes {
    /// Waits for the next; true for ever once the store is closed would help nobody, so that is false
    ///
    /// # Cancel safety
    /// No change is lost by dropping the future.
    pub async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }
}

/// Makes this process the directory's owner until the file is dropped
pub(crate) fn lock(directory: &Path) -> Result<File, StoreError> {
    let path = directory.join("lock");
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let mut file = opened.map_err(|error| StoreError::io("open", &path, error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut owner = String::new();
            // Only for the message; the owner may be just about to write it
            let _unread = file.take(20).read_to_string(&mut owner);
            let owner = if owner.trim().is_empty() { "unknown".to_owned() } else { owner.trim().to_owned() };
            return Err(StoreError::InUse { directory: directory.to_owned(), owner });
        }
        Err(TryLockError::Error(error)) => return Err(StoreError::io("lock", &path, error)),
    }
    let written = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    written.map_err(|error| StoreError::io("write", &path, error))?;
    Ok(file)
}

/// A clock that is so far ahead of the store's last change may be wrong
const JUMP: Duration = Duration::from_secs(24 * 3600);

/// How long no lifetime is ended by a clock that may be wrong
const GRACE: Duration = Duration::from_secs(600);

/// Kibioctets that may wait for the writer, of bodies and one for each operation: 64 MiB, more than a batch
const ROOM: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), StoreOptions::default()).unwrap();
        (directory, store)
    }

    #[test]
    fn a_writer_that_fails_is_noticed() {
        let (_directory, store) = open();
        assert!(store.is_open());
        let failed = store.submit(false, 0, |_batch| -> Sql<Result<(), StoreError>> { panic!("by this test") });
        assert!(matches!(failed.wait(), Err(StoreError::Closed)));
        while store.is_open() {
            // The thread is about to end
            std::thread::yield_now();
        }
        assert!(matches!(store.sweep().wait(), Err(StoreError::Closed)));
    }

    #[test]
    fn another_process_that_keeps_the_lock_for_long_fails_nothing() {
        let (directory, store) = open();
        let busy = Duration::from_millis(100);
        let shortened = store.submit(false, 0, move |batch| batch.wait_for_others(busy).map(Ok));
        shortened.wait().unwrap();
        let other = rusqlite::Connection::open(schema::file_in(directory.path())).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let queue = store.queue("work").unwrap();
        let (told, stored) = std::sync::mpsc::channel();
        std::thread::spawn(move || told.send(queue.enqueue(NewEntry::new(["one"])).wait()));
        assert!(stored.recv_timeout(busy * 2).is_err(), "it was told before the lock was free");
        other.execute_batch("ROLLBACK").unwrap();
        stored.recv().unwrap().unwrap();
    }
}
