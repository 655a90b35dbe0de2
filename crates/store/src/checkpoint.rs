//! Checkpoints: what the log holds is carried over into the database, while the writer goes on.
//!
//! A second connection does it in a thread of its own, so that no commit waits for the 20 ms that it takes. Only
//! the last bit, and only when the log has become long, is the writer's: a log that is appended to without
//! pause never ends otherwise. The same thread syncs the log where the durability is an interval.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;

use crate::{Durability, StoreError};

/// The writer's side
pub(crate) struct Checkpointer {
    wanted: Option<SyncSender<()>>,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// Octets written since the last one was wanted
    written: usize,
    /// Octets written since the log was begun anew, as far as the writer knows
    log: usize,
    log_path: PathBuf,
    log_file: Option<File>,
}

#[derive(Default)]
struct Shared {
    /// Held while the thread is at it
    at_work: Mutex<()>,
    /// The log has grown past what it should, and most of it is carried over
    long: AtomicBool,
    /// Something was written since the log was last synced
    unsynced: AtomicBool,
}

impl Checkpointer {
    /// Starts the threads; `connection` is a second one to the database at `path`
    pub(crate) fn start(connection: Connection, path: &Path, durability: Durability) -> Result<Self, StoreError> {
        let shared = Arc::new(Shared::default());
        let (wanted, wishes) = sync_channel(1);
        let mut threads = Vec::new();
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(run);
            spawned.map_err(|error| StoreError::io("start a thread for", path, error))
        };
        let own = Arc::clone(&shared);
        threads.push(spawn("store-checkpoint", Box::new(move || carry_over(&connection, &wishes, &own)))?);
        if let Durability::Interval(every) = durability {
            let (own, log) = (Arc::downgrade(&shared), log_of(path));
            let run = move || {
                // It ends with the writer's side, a moment later
                while let Some(shared) = own.upgrade() {
                    shared.sync(&log);
                    drop(shared);
                    std::thread::park_timeout(every);
                }
            };
            threads.push(spawn("store-sync", Box::new(run))?);
        }
        Ok(Self { wanted: Some(wanted), shared, threads, written: 0, log: 0, log_path: log_of(path), log_file: None })
    }

    /// Waits until the disk has the log up to its end
    ///
    /// The log is the same file as long as the database is open: SQLite begins it anew in place.
    pub(crate) fn sync(&mut self) -> std::io::Result<()> {
        if self.log_file.is_none() {
            self.log_file = Some(File::open(&self.log_path)?);
        }
        // On Linux fdatasync, which leaves the file system's journal alone unless the file has grown. SQLite as it is bundled
        // knows only fsync, that commits the journal for the time stamp alone, with all that other programs have in it
        self.log_file.as_ref().map_or(Ok(()), File::sync_data)
    }

    /// A commit wrote about so many octets to the log
    pub(crate) fn on_commit(&mut self, connection: &Connection, octets: usize) {
        self.shared.unsynced.store(true, Ordering::Release);
        self.written += octets + COMMIT_OCTETS;
        self.log += octets + COMMIT_OCTETS;
        // Whoever writes faster than the disk takes it over has to wait here
        let too_long = self.log >= LONGEST_LOG;
        if self.shared.long.swap(false, Ordering::AcqRel) || too_long {
            let _at_work = too_long.then(|| self.shared.at_work.lock().unwrap_or_else(PoisonError::into_inner));
            // The rest of it, while nothing is appended: the next commit begins the log anew
            match checkpoint(connection, "PRAGMA wal_checkpoint(PASSIVE)") {
                Some(Log { whole: true, .. }) => self.log = 0,
                // Somebody reads what is in it: again when as much has come as now
                _ if too_long => self.log = 0,
                _ => {}
            }
        }
        if self.written >= EVERY {
            self.written = 0;
            if let Some(wanted) = &self.wanted {
                // One wish at a time is enough
                let _wanted_already = wanted.try_send(());
            }
        }
    }

    /// Ends the threads and leaves a database without a log
    pub(crate) fn finish(mut self, connection: &Connection) {
        self.wanted = None;
        drop(self.shared);
        for thread in self.threads {
            thread.thread().unpark();
            // A panic of it has been reported by then
            let _ended = thread.join();
        }
        checkpoint(connection, "PRAGMA wal_checkpoint(TRUNCATE)");
    }
}

impl Shared {
    fn sync(&self, log: &Path) {
        if self.unsynced.swap(false, Ordering::AcqRel)
            && let Err(_failed) = File::open(log).and_then(|log| log.sync_data())
        {
            self.unsynced.store(true, Ordering::Release);
        }
    }
}

fn carry_over(connection: &Connection, wishes: &Receiver<()>, shared: &Shared) {
    loop {
        match wishes.recv_timeout(LATEST) {
            Err(RecvTimeoutError::Disconnected) => return,
            Ok(()) | Err(RecvTimeoutError::Timeout) => {}
        }
        let _at_work = shared.at_work.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(log) = checkpoint(connection, "PRAGMA wal_checkpoint(PASSIVE)") {
            shared.long.store(log.pages > LONG_LOG, Ordering::Release);
        }
    }
}

/// The log after a checkpoint
struct Log {
    pages: i64,
    /// All of it has been carried over
    whole: bool,
}

/// A checkpoint that fails is tried again with the next
fn checkpoint(connection: &Connection, pragma: &str) -> Option<Log> {
    let log = connection.query_row(pragma, [], |row| {
        let (pages, carried): (i64, i64) = (row.get(1)?, row.get(2)?);
        Ok(Log { pages, whole: pages >= 0 && pages == carried })
    });
    log.inspect_err(|error| tracing::warn!(%error, "the log was not carried over into the database: trying again")).ok()
}

/// SQLite's log of a database
pub(crate) fn log_of(path: &Path) -> PathBuf {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    log.into()
}

/// Octets of log between checkpoints, roughly. SQLite's own default of 4 MB would have one many times a second, each of which
/// makes commits wait for the disk; longer logs write a page that changes often less often
const EVERY: usize = 24 << 20;

/// Pages (of 4 KiB) of log from which the writer itself finishes a checkpoint: 48 MiB
const LONG_LOG: i64 = 12_288;

/// Octets of log, roughly, from which the writer waits for the checkpoint
const LONGEST_LOG: usize = 96 << 20;

/// What a commit writes besides its jobs: the pages of the counts, and parts of pages of the entries and indices
const COMMIT_OCTETS: usize = 16_384;

/// An idle store's log is carried over after so long
const LATEST: Duration = Duration::from_secs(5);
