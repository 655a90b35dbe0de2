//! Examining a store, and putting right what can be.
//!
//! Three layers: SQLite's pages and indices (`PRAGMA integrity_check`), the checksum of each body, result and value, and
//! what must hold between the rows. Repair goes the same way: rows are saved from damaged pages into a new file, indices
//! are made anew, damaged entries become dead letters, and counts are counted.

mod repair;

use std::path::Path;

use rusqlite::Connection;

pub use repair::{Repair, repair};

use crate::error::Sql;
use crate::{StoreError, frames};

/// How far an examination is
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being looked at: `pages`, `entries`, `results`, `tables`, `counts`
    pub stage: &'static str,
    /// How many of them have been
    pub done: u64,
    /// How many there are, as far as known
    pub of: Option<u64>,
}

/// What an examination found
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FsckReport {
    /// Entries examined
    pub entries: u64,
    /// Octets of bodies, results and values whose checksums were made
    pub octets: u64,
    /// What is wrong, at most [`MAX_PROBLEMS`](Self::MAX_PROBLEMS) of them
    pub problems: Vec<Problem>,
}

impl FsckReport {
    /// An examination stops after so many
    pub const MAX_PROBLEMS: usize = 1000;

    /// Whether nothing is wrong
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    fn add(&mut self, kind: ProblemKind, what: impl Into<String>) {
        if self.problems.len() < Self::MAX_PROBLEMS {
            self.problems.push(Problem { kind, what: what.into() });
        }
    }

    fn is_full(&self) -> bool {
        self.problems.len() >= Self::MAX_PROBLEMS
    }
}

/// Something that is wrong with a store
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {what}", kind.name())]
pub struct Problem {
    /// Of which kind
    pub kind: ProblemKind,
    /// What exactly
    pub what: String,
}

/// Kinds of damage
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ProblemKind {
    /// The file is no database any more, or its pages and indices contradict each other
    Pages,
    /// A body, result or value is not what its checksum was made of
    Checksum,
    /// A row says what can't be
    Row,
    /// A row belongs to none, or lacks the one that belongs to it
    Orphan,
    /// A count is wrong
    Count,
}

impl ProblemKind {
    /// A stable name
    pub fn name(self) -> &'static str {
        match self {
            Self::Pages => "pages",
            Self::Checksum => "checksum",
            Self::Row => "row",
            Self::Orphan => "orphan",
            Self::Count => "count",
        }
    }
}

/// Examines a database in one read transaction: its owner may go on
pub(crate) fn examine(
    connection: &Connection,
    path: &Path,
    mut progress: impl FnMut(Progress),
) -> Result<FsckReport, StoreError> {
    let mut report = FsckReport::default();
    let fresh = path.parent().map(crate::schema::fresh_in).filter(|fresh| fresh.exists());
    if let Some(fresh) = fresh {
        report.add(ProblemKind::Pages, format!("a repair was not finished: {}", fresh.display()));
    }
    let ran = connection.execute_batch("BEGIN").and_then(|()| {
        let examined = pages(connection, &mut report, &mut progress)
            .and_then(|()| checksums(connection, &mut report, &mut progress))
            .and_then(|()| rows(connection, &mut report))
            .and_then(|()| counts(connection, &mut report, &mut progress));
        crate::batch::roll_back(connection);
        examined
    });
    match ran.map_err(|error| StoreError::engine(path, &error)) {
        Ok(()) => Ok(report),
        // That it can't be read to the end is what was to be found out
        Err(StoreError::Damaged { what, .. }) => {
            report.add(ProblemKind::Pages, what);
            Ok(report)
        }
        Err(error) => Err(error),
    }
}

fn pages(connection: &Connection, report: &mut FsckReport, progress: &mut impl FnMut(Progress)) -> Sql<()> {
    let pages: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
    progress(Progress { stage: "pages", done: 0, of: Some(pages.unsigned_abs()) });
    let mut check = connection.prepare(&format!("PRAGMA integrity_check({})", FsckReport::MAX_PROBLEMS))?;
    let mut lines = check.query([])?;
    while let Some(line) = lines.next()? {
        let line: String = line.get(0)?;
        if line != "ok" {
            report.add(ProblemKind::Pages, line);
        }
    }
    progress(Progress { stage: "pages", done: pages.unsigned_abs(), of: Some(pages.unsigned_abs()) });
    Ok(())
}

/// A stage, what it calls a row, and the query for its key, checksum and octets
struct Sums {
    stage: &'static str,
    query: &'static str,
    count: &'static str,
    /// Whether the octets are frames
    packed: bool,
}

fn checksums(connection: &Connection, report: &mut FsckReport, progress: &mut impl FnMut(Progress)) -> Sql<()> {
    for sums in SUMS {
        let of: i64 = connection.query_row(sums.count, [], |row| row.get(0))?;
        let of = Some(of.unsigned_abs());
        let mut select = connection.prepare(sums.query)?;
        let mut rows = select.query([])?;
        let mut done = 0;
        while let Some(row) = rows.next()? {
            let (name, checksum): (String, i64) = (row.get(0)?, row.get(1)?);
            match row.get::<_, Option<Vec<u8>>>(2)? {
                None => report.add(ProblemKind::Orphan, format!("{name} has no body")),
                Some(octets) => {
                    report.octets += octets.len() as u64;
                    let checksum = u32::try_from(checksum).ok();
                    let sound = match sums.packed {
                        true => checksum.is_some_and(|checksum| frames::unpack(&octets, checksum).is_some()),
                        false => checksum == Some(crc32fast::hash(&octets)),
                    };
                    if !sound {
                        report.add(ProblemKind::Checksum, format!("{name} is not what was stored"));
                    }
                }
            }
            done += 1;
            if done % 4096 == 0 {
                progress(Progress { stage: sums.stage, done, of });
            }
            if report.is_full() {
                return Ok(());
            }
        }
        if sums.stage == "entries" {
            report.entries = done;
        }
        progress(Progress { stage: sums.stage, done, of });
    }
    Ok(())
}

fn rows(connection: &Connection, report: &mut FsckReport) -> Sql<()> {
    for (kind, query) in ROWS {
        let mut select = connection.prepare(query)?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            report.add(*kind, row.get::<_, String>(0)?);
            if report.is_full() {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn counts(connection: &Connection, report: &mut FsckReport, progress: &mut impl FnMut(Progress)) -> Sql<()> {
    progress(Progress { stage: "counts", done: 0, of: None });
    let mut select = connection.prepare(
        "SELECT q.name, q.waiting, q.leased, q.done, q.dead, q.octets,
         count(e.seq) FILTER (WHERE e.state = 0), count(e.seq) FILTER (WHERE e.state = 1),
         count(e.seq) FILTER (WHERE e.state = 2), count(e.seq) FILTER (WHERE e.state = 3), coalesce(sum(e.weight), 0)
         FROM queue q LEFT JOIN entry e ON e.queue = q.queue GROUP BY q.queue",
    )?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        // Any octets are a name
        let name: Vec<u8> = row.get(0)?;
        for (at, what) in ["waiting", "leased", "done", "dead", "octets"].into_iter().enumerate() {
            let (said, counted): (i64, i64) = (row.get(at + 1)?, row.get(at + 6)?);
            if said != counted {
                report.add(
                    ProblemKind::Count,
                    format!("queue \"{}\" says {said} {what}, and has {counted}", name.escape_ascii()),
                );
            }
        }
    }
    let (said, counted): (i64, i64) = connection.query_row(
        "SELECT seen_octets, (SELECT coalesce(sum(?1 + length(key)), 0) FROM seen) FROM store",
        [crate::batch::SEEN_OVERHEAD],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    if said != counted {
        report.add(ProblemKind::Count, format!("the memory of keys says {said} octets, and has {counted}"));
    }
    if let Some(doubt) = crate::view::doubt(connection)? {
        report.add(ProblemKind::Count, doubt);
    }
    Ok(())
}

const SUMS: [Sums; 3] = [
    Sums {
        stage: "entries",
        query: "SELECT 'entry ' || seq, checksum,
                CASE WHEN flags & 2 THEN (SELECT body FROM large WHERE large.seq = entry.seq) ELSE body END FROM entry",
        count: "SELECT count(*) FROM entry",
        packed: true,
    },
    Sums {
        stage: "results",
        query: "SELECT 'the result of entry ' || seq, checksum, body FROM result",
        count: "SELECT count(*) FROM result",
        packed: true,
    },
    Sums {
        stage: "tables",
        query: "SELECT 'key ' || quote(key) || ' of table ' || quote(name), checksum, value FROM item",
        count: "SELECT count(*) FROM item",
        packed: false,
    },
];

/// What must not be, each as a query for sentences about it
const ROWS: &[(ProblemKind, &str)] = &[
    (
        ProblemKind::Row,
        "SELECT 'entry ' || seq || ' has state ' || state || ', attempt ' || attempt || ' of ' || max_attempts FROM entry
         WHERE state NOT BETWEEN 0 AND 3 OR attempt < 0 OR attempt > max_attempts OR max_attempts < 1 OR due_at < 0
         OR length(id) != 16 OR weight < 0",
    ),
    (ProblemKind::Row, "SELECT 'entry ' || seq || ' is leased without an end' FROM entry WHERE state = 1 AND due_at = 0"),
    (ProblemKind::Row, "SELECT 'entry ' || seq || ' is dead without a cause' FROM entry WHERE state = 3 AND cause IS NULL"),
    (
        ProblemKind::Orphan,
        "SELECT 'entry ' || seq || ' is in no queue' FROM entry WHERE queue NOT IN (SELECT queue FROM queue)",
    ),
    (
        ProblemKind::Orphan,
        "SELECT 'entry ' || seq || ' is done and has no result' FROM entry
         WHERE state = 2 AND seq NOT IN (SELECT seq FROM result)",
    ),
    (
        ProblemKind::Orphan,
        "SELECT 'a result belongs to no entry: ' || seq FROM result
         WHERE seq NOT IN (SELECT seq FROM entry WHERE state = 2)",
    ),
    (
        ProblemKind::Orphan,
        "SELECT 'a body belongs to no entry: ' || seq FROM large
         WHERE seq NOT IN (SELECT seq FROM entry WHERE flags & 2)",
    ),
];
