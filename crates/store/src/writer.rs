//! The writer: one thread that owns the connection, and commits what has gathered as one transaction.
//!
//! While a commit is on its way to the disk, the next jobs gather; so a batch is as large as the load makes it, and a
//! lone caller waits for nobody. A job is answered after the COMMIT that holds it, and not before.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

use crate::batch::{Batch, Limits, is_odd_row, roll_back};
use crate::checkpoint::Checkpointer;
use crate::error::Sql;
use crate::time::Onwards;
use crate::{Clock as _, Durability, StoreError, Timestamp};

/// Something to be done inside a transaction, and told after it
pub(crate) trait Job: Send {
    /// Does it; again, if the transaction that it was part of came to nothing
    fn run(&mut self, batch: &mut Batch<'_>) -> Sql<()>;
    /// Tells whoever waits
    fn tell(self: Box<Self>, outcome: Result<(), StoreError>);
    /// Its being told promises that it is on the disk
    fn promises(&self) -> bool;
    /// Octets that it carries
    fn octets(&self) -> usize;
}

/// A job from a closure
pub(crate) struct Work<T, F> {
    pub(crate) run: F,
    pub(crate) outcome: Option<Result<T, StoreError>>,
    pub(crate) reply: oneshot::Sender<Result<T, StoreError>>,
    pub(crate) promises: bool,
    pub(crate) octets: usize,
    /// Its place among what waits, given back when it is told
    pub(crate) _room: OwnedSemaphorePermit,
}

impl<T, F> Job for Work<T, F>
where
    T: Send,
    F: FnMut(&mut Batch<'_>) -> Sql<Result<T, StoreError>> + Send,
{
    fn run(&mut self, batch: &mut Batch<'_>) -> Sql<()> {
        self.outcome = Some((self.run)(batch)?);
        Ok(())
    }

    fn tell(self: Box<Self>, outcome: Result<(), StoreError>) {
        let told = match (outcome, self.outcome) {
            (Ok(()), Some(outcome)) => outcome,
            (Ok(()), None) => Err(StoreError::Closed),
            (Err(error), _) => Err(error),
        };
        // Nobody need wait for it any more
        let _unheard = self.reply.send(told);
    }

    fn promises(&self) -> bool {
        self.promises
    }

    fn octets(&self) -> usize {
        self.octets
    }
}

/// Where jobs gather
#[derive(Default)]
pub(crate) struct Inbox {
    gathered: Mutex<Gathered>,
    filled: Condvar,
}

#[derive(Default)]
struct Gathered {
    jobs: Vec<Box<dyn Job>>,
    closed: bool,
}

impl Inbox {
    /// Takes a job in; dropped if the store is closed, which whoever waits for it learns
    pub(crate) fn push(&self, job: Box<dyn Job>) {
        let mut gathered = self.lock();
        if !gathered.closed {
            gathered.jobs.push(job);
            if gathered.jobs.len() == 1 {
                self.filled.notify_one();
            }
        }
    }

    /// Whether it takes no more
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Takes no more; what is there will be done
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_one();
    }

    /// What has gathered, after at most `wait`; `None` when closed and empty
    fn take(&self, wait: Duration) -> Option<Vec<Box<dyn Job>>> {
        let idle = |gathered: &mut Gathered| gathered.jobs.is_empty() && !gathered.closed;
        let waited = self.filled.wait_timeout_while(self.lock(), wait, idle);
        let (mut gathered, _timed_out) = waited.unwrap_or_else(PoisonError::into_inner);
        let jobs = std::mem::take(&mut gathered.jobs);
        (!jobs.is_empty() || !gathered.closed).then_some(jobs)
    }

    fn lock(&self) -> MutexGuard<'_, Gathered> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the writer has done, for whoever counts
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) commits: AtomicU64,
    pub(crate) jobs: AtomicU64,
    pub(crate) failed: AtomicU64,
    /// The disk has failed
    pub(crate) broken: AtomicBool,
}

/// The thread's state
pub(crate) struct Writer {
    pub(crate) connection: Connection,
    pub(crate) path: PathBuf,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) clock: Arc<Onwards>,
    pub(crate) limits: Limits,
    pub(crate) checkpointer: Checkpointer,
    pub(crate) changes: watch::Sender<u64>,
    pub(crate) outside: watch::Sender<u64>,
    pub(crate) counters: Arc<Counters>,
    /// The disk has failed, and what is in the log is not known: only opening it again tells
    pub(crate) broken: Option<StoreError>,
    /// When a clock that may be wrong is believed after all
    pub(crate) doubts_until: Timestamp,
    pub(crate) swept_at: Timestamp,
    /// There are more lifetimes to be ended
    pub(crate) has_more: bool,
    pub(crate) tidied_at: Timestamp,
    pub(crate) data_version: i64,
    pub(crate) looked_at: Instant,
}

impl Writer {
    /// Works until the inbox is closed and empty, then leaves a database without a log
    pub(crate) fn run(mut self) {
        let inbox = Arc::clone(&self.inbox);
        let _closing = CloseAtEnd(&inbox);
        while let Some(jobs) = inbox.take(if self.has_more { Duration::ZERO } else { TICK }) {
            self.look_outside();
            let mut jobs = jobs.into_iter().peekable();
            while jobs.peek().is_some() {
                self.commit(jobs.by_ref().take(MAX_BATCH).collect());
            }
            if self.broken.is_none() {
                self.sweep();
            }
        }
        if self.broken.is_none() {
            self.note_clean();
        }
        self.checkpointer.finish(&self.connection);
    }

    fn commit(&mut self, mut jobs: Vec<Box<dyn Job>>) {
        if let Some(broken) = &self.broken {
            return jobs.into_iter().for_each(|job| job.tell(Err(broken.clone())));
        }
        match self.attempt(&mut jobs) {
            Ok(()) => {
                let durable = self.make_durable(jobs.iter().any(|job| job.promises()));
                jobs.into_iter().for_each(|job| job.tell(durable.clone()));
            }
            // One of them can't be done, and the others need not suffer for it
            Err(error) if jobs.len() > 1 && concerns_one(&error) => {
                for mut job in jobs {
                    let outcome = self.attempt(std::slice::from_mut(&mut job)).map_err(|error| self.failure(&error));
                    let promises = job.promises();
                    job.tell(outcome.and_then(|()| self.make_durable(promises)));
                }
            }
            Err(error) => {
                let error = self.failure(&error);
                jobs.into_iter().for_each(|job| job.tell(Err(error.clone())));
            }
        }
    }

    fn attempt(&mut self, jobs: &mut [Box<dyn Job>]) -> Sql<()> {
        let mut run = || {
            let now = self.clock.now();
            let mut batch = self.begin(now)?;
            if batch.now > now {
                self.clock.go_on_from(batch.now);
            }
            for job in jobs.iter_mut() {
                job.run(&mut batch)?;
            }
            batch.finish()
        };
        let woke = run().inspect_err(|_error| roll_back(&self.connection))?;
        self.counters.commits.fetch_add(1, Ordering::Relaxed);
        self.counters.jobs.fetch_add(jobs.len() as u64, Ordering::Relaxed);
        if woke {
            self.changes.send_modify(|generation| *generation += 1);
        }
        let octets = jobs.iter().fold(0, |sum, job| sum + job.octets() + JOB_OCTETS);
        self.checkpointer.on_commit(&self.connection, octets);
        Ok(())
    }

    /// Another process that keeps the lock for long fails nothing yet
    fn begin(&self, now: Timestamp) -> Sql<Batch<'_>> {
        let mut tries = 1;
        loop {
            match Batch::begin(&self.connection, self.limits, now) {
                Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && tries < BUSY_TRIES => {
                    tracing::warn!(database = %self.path.display(), "another process keeps the store locked");
                    tries += 1;
                }
                begun => return begun,
            }
        }
    }

    /// The next owner may know that this one has ended in order
    fn note_clean(&self) {
        let run = || {
            let mut batch = Batch::begin(&self.connection, self.limits, self.clock.now())?;
            batch.set_clean(true)?;
            batch.finish()
        };
        if let Err(error) = run() {
            roll_back(&self.connection);
            tracing::warn!(database = %self.path.display(), %error, "the store was not closed in order");
        }
    }

    /// Has the disk take what was committed, if anybody was promised that
    ///
    /// That of leases alone need not be waited for: the next that is takes the log up to its own end. SQLite does not
    /// sync by itself (`synchronous = NORMAL`), but orders log and database at checkpoints, so that nothing is
    /// ever torn.
    fn make_durable(&mut self, promises: bool) -> Result<(), StoreError> {
        if !promises || self.limits.durability != Durability::Fsync {
            return Ok(());
        }
        self.checkpointer.sync().map_err(|error| {
            // The system may have thrown away what it could not write, and say of the next attempt that all is well
            let error = StoreError::io("sync the log of", &self.path, error);
            self.break_off(error.clone());
            error
        })
    }

    /// Ends lifetimes, now and then
    fn sweep(&mut self) {
        let now = self.clock.now();
        if !self.has_more && now.since(self.swept_at) < SWEEP && now >= self.swept_at {
            return;
        }
        self.swept_at = now;
        if self.limits.doubts_clock && now >= self.doubts_until {
            tracing::info!(%now, "the clock is believed: lifetimes end by it again");
            self.limits.doubts_clock = false;
        }
        let tidy = now.since(self.tidied_at) >= TIDY || now < self.tidied_at;
        let run = || {
            let mut batch = Batch::begin(&self.connection, self.limits, now)?;
            let more = batch.sweep(SWEEP_ROWS)?;
            if tidy {
                batch.drop_empty_queues()?;
            }
            batch.finish().map(|_woke| more)
        };
        match run() {
            Ok(more) => {
                // The rest comes after what has gathered meanwhile
                self.has_more = more;
                if tidy {
                    self.tidied_at = now;
                }
            }
            Err(error) => {
                roll_back(&self.connection);
                self.has_more = false;
                let error = self.failure(&error);
                tracing::warn!(%error, "lifetimes were not ended: trying again");
            }
        }
    }

    /// Another process may have put entries back into their queues
    fn look_outside(&mut self) {
        if self.looked_at.elapsed() < TICK {
            return;
        }
        self.looked_at = Instant::now();
        let version =
            self.connection.query_row("PRAGMA data_version", [], |row| row.get(0)).unwrap_or(self.data_version);
        if version != self.data_version {
            self.data_version = version;
            self.changes.send_modify(|generation| *generation += 1);
            self.outside.send_modify(|generation| *generation += 1);
        }
    }

    fn failure(&mut self, error: &rusqlite::Error) -> StoreError {
        self.counters.failed.fetch_add(1, Ordering::Relaxed);
        let told = StoreError::engine(&self.path, error);
        if error.sqlite_error_code() == Some(ErrorCode::SystemIoFailure) {
            self.break_off(told.clone());
        }
        told
    }

    /// The disk has failed: nothing is done any more
    fn break_off(&mut self, error: StoreError) {
        if self.broken.is_none() {
            tracing::error!(%error, "the disk fails: the store takes nothing more until it is opened again");
            self.counters.broken.store(true, Ordering::Release);
            self.has_more = false;
            self.broken = Some(error);
        }
    }
}

/// Whatever ends the thread, nobody waits for it afterwards
struct CloseAtEnd<'a>(&'a Inbox);

impl Drop for CloseAtEnd<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("the store's writer has failed: the store is closed");
        }
        let mut gathered = self.0.lock();
        gathered.closed = true;
        gathered.jobs.clear();
    }
}

/// Not an error of the disk or the file, which the next job would only meet again
fn concerns_one(error: &rusqlite::Error) -> bool {
    is_odd_row(error)
        || matches!(
            error.sqlite_error_code(),
            Some(ErrorCode::DiskFull | ErrorCode::TooBig | ErrorCode::ConstraintViolation | ErrorCode::OutOfMemory)
        )
}

/// Jobs in one transaction. Beyond some hundred a larger batch saves nothing that can be measured
const MAX_BATCH: usize = 4096;

/// How often an idle writer looks whether other processes, or time, have changed anything
const TICK: Duration = Duration::from_secs(1);

/// How often lifetimes are ended
const SWEEP: Duration = Duration::from_secs(1);

/// How often the writer asks for the lock, 5 s each time
const BUSY_TRIES: u32 = 6;

/// How many at once
const SWEEP_ROWS: usize = 1000;

/// How often queues that are empty lose their rows
const TIDY: Duration = Duration::from_secs(60);

/// What a job writes to the log besides its body, as a rough mean
const JOB_OCTETS: usize = 512;
