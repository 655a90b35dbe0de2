//! The database: its tables, how it is opened, and how its format is told.
//!
//! One file, `queue.db`, with SQLite's log beside it. Everything that decides stands in it: who opens it next, another
//! program too, sees what is true.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::error::Sql;
use crate::{StoreError, StoreOptions};

/// The database's file in a store's directory
pub(crate) fn file_in(directory: &Path) -> PathBuf {
    directory.join("queue.db")
}

/// Opens the database for its owner, and makes it where there is none
pub(crate) fn open_owner(directory: &Path, options: &StoreOptions) -> Result<Connection, StoreError> {
    let path = file_in(directory);
    if let Some(what) = unfinished_repair(directory) {
        return Err(StoreError::Damaged { path, what });
    }
    // SQLite gives its log the same permissions; bodies are nobody else's business
    let made = fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    made.map_err(|error| StoreError::io("open", &path, error))?;
    let connection = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let opened = prepare(&connection, options).map_err(|error| StoreError::engine(&path, &error))?;
    match opened {
        Opened::Ready => Ok(connection),
        Opened::Foreign => Err(StoreError::Foreign(path)),
        Opened::TooNew(found) => Err(StoreError::TooNew { path, found, known: FORMAT }),
    }
}

/// Opens the database of a store that another process may own
pub(crate) fn open_guest(directory: &Path) -> Result<Connection, StoreError> {
    let path = file_in(directory);
    if !path.exists() {
        return Err(StoreError::Missing(directory.to_owned()));
    }
    let connection = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let recognized = recognize(&connection).map_err(|error| StoreError::engine(&path, &error))?;
    let tuned = connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0;");
    tuned.map_err(|error| StoreError::engine(&path, &error))?;
    match recognized {
        Recognized::Ours => Ok(connection),
        Recognized::Empty | Recognized::Foreign => Err(StoreError::Foreign(path)),
        Recognized::TooNew(found) => Err(StoreError::TooNew { path, found, known: FORMAT }),
    }
}

/// What says that a repair was cut short: an empty store must not take the place of the damaged one in silence
fn unfinished_repair(directory: &Path) -> Option<String> {
    if fresh_in(directory).exists() {
        return Some("a repair of it was not finished".to_owned());
    }
    let aside = || directory.read_dir().ok()?.flatten().find(|file| is_aside(&file.file_name()));
    if file_in(directory).exists() {
        return None;
    }
    aside().map(|file| format!("it is gone, and there is {}", file.file_name().display()))
}

/// Where a repair makes the new file
pub(crate) fn fresh_in(directory: &Path) -> PathBuf {
    directory.join("queue.db.new")
}

/// The beginning of the names of damaged files that were put aside
pub(crate) const ASIDE: &str = "queue.db.damaged-";

fn is_aside(name: &std::ffi::OsStr) -> bool {
    name.to_string_lossy().starts_with(ASIDE)
}

/// The directory of a store, which nobody else may read
pub(crate) fn make_directory(directory: &Path) -> Result<(), StoreError> {
    if let Ok(there) = fs::metadata(directory) {
        let mode = there.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            tracing::warn!(
                store = %directory.display(),
                "others may look into the store's directory (mode {mode:o}): chmod 700 keeps them out"
            );
        }
        return Ok(());
    }
    let made: Vec<&Path> =
        directory.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists()).collect();
    let tried = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
    tried.map_err(|error| StoreError::io("make", directory, error))?;
    // A directory is there after a power failure when the one above it is synced
    for path in made {
        let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let synced = fs::File::open(above).and_then(|above| above.sync_all());
        synced.map_err(|error| StoreError::io("sync", above, error))?;
    }
    Ok(())
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, StoreError> {
    let connected = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX);
    let connection = connected.map_err(|error| StoreError::engine(path, &error))?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.busy_timeout(BUSY).map_err(|error| StoreError::engine(path, &error))?;
    let guarded = connection.execute_batch("PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;");
    guarded.map_err(|error| StoreError::engine(path, &error))?;
    // Otherwise statements whose plan might depend on a parameter are parsed anew whenever that changes: 40 µs for a lease
    let stable = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true);
    let defensive = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true);
    stable.and(defensive).map_err(|error| StoreError::engine(path, &error))?;
    Ok(connection)
}

enum Opened {
    Ready,
    Foreign,
    TooNew(i64),
}

enum Recognized {
    Ours,
    Empty,
    Foreign,
    TooNew(i64),
}

fn recognize(connection: &Connection) -> Sql<Recognized> {
    let integer = |pragma: &str| connection.query_row(pragma, [], |row| row.get::<_, i64>(0));
    let (application, format) = (integer("PRAGMA application_id")?, integer("PRAGMA user_version")?);
    let tables = integer("SELECT count(*) FROM sqlite_schema")?;
    Ok(match (application, format) {
        (APPLICATION, FORMAT) => Recognized::Ours,
        (APPLICATION, newer) if newer > FORMAT => Recognized::TooNew(newer),
        (0, 0) if tables == 0 => Recognized::Empty,
        _ => Recognized::Foreign,
    })
}

fn prepare(connection: &Connection, options: &StoreOptions) -> Sql<Opened> {
    match recognize(connection)? {
        Recognized::Foreign => return Ok(Opened::Foreign),
        Recognized::TooNew(found) => return Ok(Opened::TooNew(found)),
        Recognized::Empty => {
            connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")?;
            connection.execute_batch(&format!(
                "BEGIN IMMEDIATE; {TABLES}
                 INSERT INTO store VALUES (1, 1, 0, 0, 0, 0, 0, 0, 0, 1);
                 {}
                 COMMIT;",
                mark()
            ))?;
        }
        Recognized::Ours => {}
    }
    // NORMAL keeps the database whole, but a power failure may take commits: the writer syncs the log itself where that
    // was promised otherwise (`Writer::make_durable`)
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 0;
         PRAGMA journal_size_limit = 134217728; PRAGMA cache_size = -16384; PRAGMA temp_store = MEMORY;",
    )?;
    let page_size: u64 = connection.query_row("PRAGMA page_size", [], |row| row.get::<_, i64>(0))?.unsigned_abs();
    if let Some(octets) = options.max_file_octets {
        let pages = (octets / page_size.max(1)).clamp(1, u64::from(u32::MAX) - 2);
        connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_row| Ok(()))?;
    }
    let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    connection.execute(
        "UPDATE store SET dedup_window = ?1, keep_results = ?2, keep_dead = ?3
         WHERE (dedup_window, keep_results, keep_dead) IS NOT (?1, ?2, ?3)",
        [millis(options.dedup_window), millis(options.keep_results), millis(options.keep_dead)],
    )?;
    Ok(Opened::Ready)
}

/// What marks a database as a store of this format
pub(crate) fn mark() -> String {
    format!("PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {FORMAT};")
}

/// What marks the file as ours: "TIDQ"
const APPLICATION: i64 = 0x5449_4451;

/// The format of the tables below; it counts up with every change of them
const FORMAT: i64 = 1;

/// How long a transaction waits for that of another process; a purge takes the lock for milliseconds at a time
const BUSY: Duration = Duration::from_secs(5);

/// Largest body that lies in its entry's row; changing the state of an entry writes its row anew, so larger ones lie apart
pub(crate) const INLINE: usize = 1024;

/// The tables, format 1
///
/// * `store` has one row. `octets` and `entries` sum up `queue`'s; `latest` is the last moment that was seen; `seen_octets`
///   is what `seen` counts for; `clean` is 0 while an owner has it open, and after one that did not end in order.
/// * `queue` counts its entries by state.
/// * `entry`: `due_at` is 0 while an entry waits for nothing, the moment from which it may be handed out (again) while it
///   waits or is leased. `flags`: 1 the id was given, 2 the body lies in `large`, 4 the key is brief. `weight` is what it counts for.
/// * `seen` remembers keys (`k…`) and given ids (`i…`) of entries that are gone.
/// * `item` is for small tables.
pub(crate) const TABLES: &str = "
CREATE TABLE store (
    one INTEGER PRIMARY KEY CHECK (one = 1), next_seq INTEGER NOT NULL, latest INTEGER NOT NULL,
    entries INTEGER NOT NULL, octets INTEGER NOT NULL,
    dedup_window INTEGER NOT NULL, keep_results INTEGER NOT NULL, keep_dead INTEGER NOT NULL,
    seen_octets INTEGER NOT NULL DEFAULT 0, clean INTEGER NOT NULL DEFAULT 1
) STRICT;
CREATE TABLE queue (
    queue INTEGER PRIMARY KEY AUTOINCREMENT, name BLOB NOT NULL UNIQUE,
    waiting INTEGER NOT NULL DEFAULT 0, leased INTEGER NOT NULL DEFAULT 0,
    done INTEGER NOT NULL DEFAULT 0, dead INTEGER NOT NULL DEFAULT 0, octets INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE entry (
    seq INTEGER PRIMARY KEY, queue INTEGER NOT NULL, id BLOB NOT NULL, state INTEGER NOT NULL,
    attempt INTEGER NOT NULL, max_attempts INTEGER NOT NULL, due_at INTEGER NOT NULL,
    enqueued_at INTEGER NOT NULL, changed_at INTEGER NOT NULL, expires_at INTEGER, ttl INTEGER,
    key BLOB, flags INTEGER NOT NULL, cause INTEGER, note TEXT,
    weight INTEGER NOT NULL, checksum INTEGER NOT NULL, body BLOB
) STRICT;
CREATE UNIQUE INDEX entry_id ON entry (id);
CREATE INDEX entry_due ON entry (queue, due_at, seq) WHERE state <= 1;
CREATE INDEX entry_done ON entry (queue, seq) WHERE state = 2;
CREATE INDEX entry_dead ON entry (queue, seq) WHERE state = 3;
CREATE UNIQUE INDEX entry_key ON entry (queue, key) WHERE key IS NOT NULL;
CREATE INDEX entry_expiry ON entry (expires_at) WHERE expires_at IS NOT NULL;
CREATE TABLE large (seq INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;
CREATE TABLE result (seq INTEGER PRIMARY KEY, checksum INTEGER NOT NULL, body BLOB NOT NULL) STRICT;
CREATE TABLE seen (
    queue INTEGER NOT NULL, key BLOB NOT NULL, seq INTEGER NOT NULL, id BLOB NOT NULL,
    checksum INTEGER NOT NULL, until INTEGER NOT NULL, PRIMARY KEY (queue, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX seen_until ON seen (until);
CREATE TABLE item (
    name BLOB NOT NULL, key BLOB NOT NULL, checksum INTEGER NOT NULL, value BLOB NOT NULL, PRIMARY KEY (name, key)
) STRICT, WITHOUT ROWID;
";
