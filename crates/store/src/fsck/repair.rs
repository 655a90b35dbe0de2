//! Putting a store right, as far as its octets still tell how.

use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, Row, Rows, params_from_iter, types::Value};

use super::{FsckReport, ProblemKind, Progress, examine};
use crate::error::Sql;
use crate::schema::{self, TABLES};
use crate::store::lock;
use crate::{Clock as _, StoreError, StoreOptions, SystemClock, frames};

/// What a repair did
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Repair {
    /// What was wrong
    pub before: FsckReport,
    /// What is wrong still; nothing, if it succeeded
    pub after: FsckReport,
    /// Entries that are dead letters now, because their bodies are lost
    pub buried: u64,
    /// Rows that could be read from a file whose pages are damaged
    pub saved: u64,
    /// Entries that its index still lists and that could not be read
    pub lost: u64,
    /// Where the damaged file was put aside
    pub aside: Option<PathBuf>,
}

/// Puts the store in `directory` right, and tells what that took
///
/// Nothing is thrown away: a file with damaged pages is put aside, entries with lost bodies become dead letters.
///
/// # Errors
/// Another process owns the store; there is none; the system refuses.
pub fn repair(directory: impl AsRef<Path>, mut progress: impl FnMut(Progress)) -> Result<Repair, StoreError> {
    let directory = directory.as_ref();
    let path = schema::file_in(directory);
    if !path.exists() {
        return Err(StoreError::Missing(directory.to_owned()));
    }
    let _lock = lock(directory)?;
    let mut repair = Repair::default();
    let fail = |error: rusqlite::Error| StoreError::engine(&path, &error);
    let opened = schema::open_guest(directory);
    let mut connection = match opened {
        Ok(connection) => {
            repair.before = examine(&connection, &path, &mut progress)?;
            if repair.before.is_clean() {
                return Ok(repair);
            }
            Some(connection)
        }
        Err(StoreError::Damaged { what, .. }) => {
            repair.before.add(ProblemKind::Pages, what);
            None
        }
        Err(error) => return Err(error),
    };
    if repair.before.problems.iter().any(|problem| problem.kind == ProblemKind::Pages) {
        drop(connection.take());
        let (saved, lost, aside) = save(directory, &path, &mut progress)?;
        (repair.saved, repair.lost, repair.aside) = (saved, lost, Some(aside));
    }
    let connection = match connection {
        Some(connection) => connection,
        None => schema::open_guest(directory)?,
    };
    connection.execute_batch("BEGIN IMMEDIATE").map_err(fail)?;
    let mended = mend(&connection).inspect_err(|_error| crate::batch::roll_back(&connection)).map_err(fail)?;
    repair.buried = mended;
    connection.execute_batch("COMMIT; PRAGMA wal_checkpoint(TRUNCATE)").map_err(fail)?;
    repair.after = examine(&connection, &path, &mut progress)?;
    Ok(repair)
}

/// Puts right what contradicts between the rows; how many entries are dead letters for it
fn mend(connection: &Connection) -> Sql<u64> {
    let now = SystemClock::new().now().column();
    connection.execute_batch(
        "DELETE FROM result WHERE seq NOT IN (SELECT seq FROM entry WHERE state = 2);
         DELETE FROM large WHERE seq NOT IN (SELECT seq FROM entry WHERE flags & 2);
         INSERT OR IGNORE INTO queue (queue, name)
             SELECT DISTINCT queue, CAST('lost+found-' || queue AS BLOB) FROM entry
             WHERE queue NOT IN (SELECT queue FROM queue);
         UPDATE entry SET attempt = max(0, min(attempt, max_attempts)), max_attempts = max(1, max_attempts),
             due_at = max(0, due_at), weight = max(0, weight)
             WHERE attempt NOT BETWEEN 0 AND max_attempts OR max_attempts < 1 OR due_at < 0 OR weight < 0;
         UPDATE entry SET id = randomblob(16) WHERE length(id) != 16;
         UPDATE entry SET state = 0 WHERE state = 1 AND due_at = 0;
         UPDATE entry SET cause = 4 WHERE state = 3 AND cause IS NULL;",
    )?;
    let mut buried = 0;
    for seq in unsound(connection)? {
        buried += connection.execute(
            "UPDATE entry SET state = 3, due_at = 0, changed_at = ?2, cause = 4, note = 'found by fsck',
             expires_at = ?2 + (SELECT keep_dead FROM store) WHERE seq = ?1 AND state != 3",
            [seq, now],
        )? as u64;
    }
    buried += connection.execute(
        "UPDATE entry SET state = 3, due_at = 0, changed_at = ?1, cause = 4, note = 'found by fsck: its result is lost',
         expires_at = ?1 + (SELECT keep_dead FROM store)
         WHERE state NOT BETWEEN 0 AND 3 OR state = 2 AND seq NOT IN (SELECT seq FROM result)",
        [now],
    )? as u64;
    connection.execute_batch(
        "DELETE FROM result WHERE seq NOT IN (SELECT seq FROM entry WHERE state = 2);
         UPDATE queue SET (waiting, leased, done, dead, octets) = (
             SELECT count(*) FILTER (WHERE state = 0), count(*) FILTER (WHERE state = 1),
                    count(*) FILTER (WHERE state = 2), count(*) FILTER (WHERE state = 3), coalesce(sum(weight), 0)
             FROM entry WHERE entry.queue = queue.queue);
         UPDATE store SET entries = (SELECT count(*) FROM entry), octets = (SELECT coalesce(sum(octets), 0) FROM queue),
             seen_octets = (SELECT coalesce(sum(128 + length(key)), 0) FROM seen),
             next_seq = max(next_seq, (SELECT coalesce(max(seq), 0) + 1 FROM entry));",
    )?;
    drop_unsound_items(connection)?;
    Ok(buried)
}

/// Entries whose body or result is not what it was, and their lost octets emptied so that a checksum stands for them
fn unsound(connection: &Connection) -> Sql<Vec<i64>> {
    let mut found = Vec::new();
    let bodies = "SELECT seq, checksum,
        CASE WHEN flags & 2 THEN (SELECT body FROM large WHERE large.seq = entry.seq) ELSE body END FROM entry";
    for (query, update) in [
        (bodies, "UPDATE entry SET checksum = 0, body = x'', flags = flags & ~2 WHERE seq = ?1"),
        ("SELECT seq, checksum, body FROM result", "DELETE FROM result WHERE seq = ?1"),
    ] {
        let mut lost = Vec::new();
        let mut select = connection.prepare(query)?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let (checksum, octets): (i64, Option<Vec<u8>>) = (row.get(1)?, row.get(2)?);
            let sound = octets.zip(u32::try_from(checksum).ok()).and_then(|(octets, sum)| frames::unpack(&octets, sum));
            if sound.is_none() {
                lost.push(row.get::<_, i64>(0)?);
            }
        }
        for seq in &lost {
            connection.execute(update, [seq])?;
        }
        found.extend(lost);
    }
    connection.execute("DELETE FROM large WHERE seq NOT IN (SELECT seq FROM entry WHERE flags & 2)", [])?;
    Ok(found)
}

fn drop_unsound_items(connection: &Connection) -> Sql<()> {
    let mut select = connection.prepare("SELECT name, key, checksum, value FROM item")?;
    let mut rows = select.query([])?;
    let mut lost: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    while let Some(row) = rows.next()? {
        let (checksum, value): (i64, Vec<u8>) = (row.get(2)?, row.get(3)?);
        if checksum != i64::from(crc32fast::hash(&value)) {
            lost.push((row.get(0)?, row.get(1)?));
        }
    }
    for (name, key) in lost {
        connection.execute("DELETE FROM item WHERE name = ?1 AND key = ?2", [name, key])?;
    }
    Ok(())
}

/// Makes a new database of all rows that can be read from a damaged one, which is put aside
///
/// How many rows were saved and how many entries lost, and where the damaged one is.
fn save(directory: &Path, path: &Path, progress: &mut impl FnMut(Progress)) -> Result<(u64, u64, PathBuf), StoreError> {
    let fresh = schema::fresh_in(directory);
    for leftover in [fresh.clone(), with_suffix(&fresh, "-wal"), with_suffix(&fresh, "-shm")] {
        if leftover.exists() {
            fs::remove_file(&leftover).map_err(|error| StoreError::io("remove", &leftover, error))?;
        }
    }
    let made = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh);
    made.map_err(|error| StoreError::io("make", &fresh, error))?;
    let (saved, lost) = copy_rows(path, &fresh, progress).map_err(|error| StoreError::engine(&fresh, &error))?;
    let aside = (0..).map(|n| directory.join(format!("{}{n}", schema::ASIDE))).find(|path| !path.exists());
    let aside = aside.unwrap_or_else(|| directory.join("queue.db.damaged"));
    let sync = || {
        let synced = fs::File::open(directory).and_then(|directory| directory.sync_all());
        synced.map_err(|error| StoreError::io("sync", directory, error))
    };
    // A second name first, so that there is a database at any moment; the new one beside it says that this was not finished
    fs::hard_link(path, &aside).map_err(|error| StoreError::io("link", &aside, error))?;
    sync()?;
    // The log goes with its database: it belongs to no other
    for suffix in ["-wal", "-shm"] {
        let from = with_suffix(path, suffix);
        if from.exists() {
            let moved = fs::rename(&from, with_suffix(&aside, suffix));
            moved.map_err(|error| StoreError::io("rename", &from, error))?;
        }
    }
    sync()?;
    fs::rename(&fresh, path).map_err(|error| StoreError::io("rename", &fresh, error))?;
    sync()?;
    Ok((saved, lost, aside))
}

fn copy_rows(path: &Path, fresh: &Path, progress: &mut impl FnMut(Progress)) -> Sql<(u64, u64)> {
    let new = Connection::open(fresh)?;
    new.execute_batch(&format!("PRAGMA synchronous = FULL; BEGIN; {TABLES}"))?;
    new.execute_batch("INSERT INTO store VALUES (1, 1, 0, 0, 0, 0, 0, 0, 0, 0)")?;
    let (mut saved, mut lost) = (0, 0);
    // A file that is no database has no rows to save, and a new store begins empty
    if let Ok(old) = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE) {
        for table in ["store", "queue", "entry", "large", "result", "seen", "item"] {
            saved += copy_table(&old, &new, table, progress);
        }
        lost = count_lost(&old, &new);
    }
    let options = StoreOptions::default();
    let millis = |time: std::time::Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    new.execute(
        "UPDATE store SET dedup_window = ?1, keep_results = ?2, keep_dead = ?3 WHERE keep_dead = 0",
        [millis(options.dedup_window), millis(options.keep_results), millis(options.keep_dead)],
    )?;
    new.execute_batch(&schema::mark())?;
    new.execute_batch("COMMIT; PRAGMA journal_mode = WAL;")?;
    new.close().map_err(|(_connection, error)| error)?;
    Ok((saved, lost))
}

/// Copies the rows of a table, and where pages are damaged those before and behind them
fn copy_table(old: &Connection, new: &Connection, table: &str, progress: &mut impl FnMut(Progress)) -> u64 {
    let columns = new.prepare(&format!("SELECT * FROM {table}")).map_or(0, |select| select.column_count());
    let holes = vec!["?"; columns].join(", ");
    // `store` has its row already; other rows may have been saved from the other end
    let verb = if table == "store" { "INSERT OR REPLACE" } else { "INSERT OR IGNORE" };
    let Ok(mut insert) = new.prepare(&format!("{verb} INTO {table} VALUES ({holes})")) else { return 0 };
    let mut saved = 0;
    let mut save = |row: &Row<'_>| {
        let values: Sql<Vec<Value>> = (0..columns).map(|column| row.get(column)).collect();
        let inserted = values.and_then(|values| insert.execute(params_from_iter(values)));
        saved += inserted.unwrap_or(0) as u64;
        if saved % 4096 == 0 {
            progress(Progress { stage: "saving", done: saved, of: None });
        }
    };
    match table {
        "seen" | "item" => copy_from_both_ends(old, table, &mut save),
        _ => copy_by_number(old, table, &mut save),
    }
    saved
}

/// Rows without a number, from the first to what is damaged and from the last to there
fn copy_from_both_ends(old: &Connection, table: &str, save: &mut impl FnMut(&Row<'_>)) {
    for order in ["", "ORDER BY 1 DESC, 2 DESC"] {
        let Ok(mut select) = old.prepare(&format!("SELECT * FROM {table} NOT INDEXED {order}")) else { continue };
        let Ok(mut rows) = select.query([]) else { continue };
        if each(&mut rows, |row| save(row)).is_ok() {
            return;
        }
    }
}

/// Rows by number: behind each damaged page the search goes on
fn copy_by_number(old: &Connection, table: &str, save: &mut impl FnMut(&Row<'_>)) {
    // `NOT INDEXED`: the indices may be what is damaged
    let from = format!("SELECT * FROM {table} NOT INDEXED WHERE rowid >= ?1 ORDER BY rowid");
    let (Ok(mut select), Ok(mut probe)) = (old.prepare(&from), old.prepare(&format!("{from} LIMIT 1"))) else { return };
    let mut from = 0_i64;
    loop {
        let mut next = from;
        let read = select.query([from]).and_then(|mut rows| {
            each(&mut rows, |row| {
                // Each table's first column is its number
                next = row.get::<_, i64>(0).unwrap_or(next).saturating_add(1).max(next);
                save(row);
            })
        });
        if read.is_ok() {
            return;
        }
        let mut reads = |at: i64| probe.query([at]).and_then(|mut rows| rows.next().map(drop)).is_ok();
        match behind_hole(next, &mut reads) {
            Some(good) => from = good,
            None => return,
        }
    }
}

/// The first number behind `from` at which reading succeeds again
///
/// One by one at first, so that the rows between two damaged pages are found; then in steps that double, and back by
/// halves.
fn behind_hole(from: i64, reads: &mut impl FnMut(i64) -> bool) -> Option<i64> {
    let near = from.saturating_add(ONE_BY_ONE);
    if let Some(good) = (from.saturating_add(1)..near).find(|at| reads(*at)) {
        return Some(good);
    }
    let (mut bad, mut step) = (near.saturating_sub(1), ONE_BY_ONE);
    let mut good = loop {
        let at = bad.checked_add(step)?;
        if reads(at) {
            break at;
        }
        (bad, step) = (at, step.checked_mul(2)?);
    };
    while good - bad > 1 {
        let middle = bad + (good - bad) / 2;
        if reads(middle) {
            good = middle;
        } else {
            bad = middle;
        }
    }
    Some(good)
}

fn each(rows: &mut Rows<'_>, mut look: impl FnMut(&Row<'_>)) -> Sql<()> {
    while let Some(row) = rows.next()? {
        look(row);
    }
    Ok(())
}

/// Entries that the index of ids lists and that were not saved, as far as that can be read
fn count_lost(old: &Connection, new: &Connection) -> u64 {
    let Ok(mut saved) = new.prepare("SELECT 1 FROM entry WHERE seq = ?1") else { return 0 };
    let (mut lost, mut reached) = (0, None::<Vec<u8>>);
    for order in ["", "DESC"] {
        let query = format!("SELECT id, seq FROM entry INDEXED BY entry_id ORDER BY id {order}");
        let Ok(mut select) = old.prepare(&query) else { continue };
        let Ok(mut rows) = select.query([]) else { continue };
        let (end, mut last) = (reached.take(), None);
        loop {
            let row = match rows.next() {
                Ok(Some(row)) => row,
                Ok(None) => return lost,
                Err(_damaged) => break,
            };
            let (Ok(id), Ok(seq)) = (row.get::<_, Vec<u8>>(0), row.get::<_, i64>(1)) else { continue };
            // Those before it have been counted from the other end
            if end.as_ref().is_some_and(|end| id <= *end) {
                return lost;
            }
            lost += u64::from(!saved.exists([seq]).unwrap_or(true));
            last = Some(id);
        }
        reached = last;
    }
    lost
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// Numbers that are looked at one by one behind a damaged page
const ONE_BY_ONE: i64 = 4096;
