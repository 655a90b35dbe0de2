//! What can go wrong with a store: what, where, and what to do next.

use std::io;
use std::path::PathBuf;

use rusqlite::ErrorCode;
use uuid::Uuid;

/// Why a store can't be opened, or an operation was not done
///
/// An operation that fails has changed nothing, whatever others were written with it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The directory or its database is not there
    #[error("there is no store at {}: `tidings serve` with durable requests makes one, or name another directory", .0.display())]
    Missing(PathBuf),
    /// Another process is its owner: stop that, or let it do the work
    #[error("the store at {} is in use by process {owner}: one process at a time may own it", directory.display())]
    InUse {
        /// The store
        directory: PathBuf,
        /// Its process id, as it wrote it down
        owner: String,
    },
    /// The system refused
    #[error("can't {doing} {}: {source}", path.display())]
    Io {
        /// What was tried: `open`, `lock`
        doing: &'static str,
        /// On what
        path: PathBuf,
        /// What it said
        source: std::sync::Arc<io::Error>,
    },
    /// The file is no database of ours, or its octets make no sense
    #[error("{} is damaged ({what}): run  tidings queue fsck --store {}", path.display(), directory(path).display())]
    Damaged {
        /// The file
        path: PathBuf,
        /// What SQLite, or we, found
        what: String,
    },
    /// The file belongs to another program
    #[error("{} is an SQLite database, but not a store of tidings: name another directory", .0.display())]
    Foreign(PathBuf),
    /// The file was written by a later version
    #[error("{} has format {found}, and this program knows {known}: use a newer tidings", path.display())]
    TooNew {
        /// The file
        path: PathBuf,
        /// Its format
        found: i64,
        /// The newest that is known here
        known: i64,
    },
    /// The queues hold what they may: take from them, purge, or allow more
    #[error("the store is full: {octets} of {max_octets} octets are in use")]
    Full {
        /// What is held
        octets: u64,
        /// What may be
        max_octets: u64,
    },
    /// The disk, its quota, or the file's own bound gives no more room
    #[error("no room for {} on its disk: {what}", path.display())]
    DiskFull {
        /// The file
        path: PathBuf,
        /// What SQLite said
        what: String,
    },
    /// More than one body may have
    #[error("a body of {octets} octets is larger than the {max} that may be stored")]
    TooLarge {
        /// Its size
        octets: usize,
        /// What is allowed
        max: usize,
    },
    /// As many queues as there may be hold something
    #[error("there are {0} queues already, as many as there may be")]
    TooManyQueues(u64),
    /// A name has no octets or more than 255, or a key has none or more than 1024
    #[error("a {what} has 1 to {max} octets, and this one {octets}")]
    BadName {
        /// `queue's name`, `key`
        what: &'static str,
        /// Its size
        octets: usize,
        /// What is allowed
        max: usize,
    },
    /// The key or id stands for an entry with another body
    #[error("the key or id belongs to another entry: {id}")]
    Conflict {
        /// That entry's
        id: Uuid,
    },
    /// A body's checksum does not match: it is not handed out
    #[error("entry {seq} is damaged: its checksum does not match; `tidings queue fsck` tells more")]
    DamagedEntry {
        /// Which
        seq: u64,
    },
    /// Another process kept the database locked for too long: try again
    #[error("{} is kept locked by another process", .0.display())]
    Busy(PathBuf),
    /// SQLite failed otherwise
    #[error("{}: {what}", path.display())]
    Engine {
        /// The file
        path: PathBuf,
        /// What it said
        what: String,
    },
    /// The store has been closed
    #[error("the store has been closed")]
    Closed,
}

impl StoreError {
    pub(crate) fn io(doing: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io { doing, path: path.into(), source: std::sync::Arc::new(source) }
    }

    /// What an error of SQLite means for the file
    pub(crate) fn engine(path: impl Into<PathBuf>, error: &rusqlite::Error) -> Self {
        let path = path.into();
        let what = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged { path, what },
            Some(ErrorCode::DiskFull) => Self::DiskFull { path, what },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy(path),
            // A column of another type than the schema gives it
            None if matches!(
                error,
                rusqlite::Error::InvalidColumnType(..)
                    | rusqlite::Error::FromSqlConversionFailure(..)
                    | rusqlite::Error::Utf8Error(..)
            ) =>
            {
                Self::Damaged { path, what }
            }
            _ => Self::Engine { path, what },
        }
    }
}

fn directory(path: &std::path::Path) -> &std::path::Path {
    path.parent().unwrap_or(path)
}

/// What an operation comes to inside a transaction; the error is SQLite's and undoes it
pub(crate) type Sql<T> = Result<T, rusqlite::Error>;
