//! Looking without touching: what queues hold, single entries, and why one is not handed out.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use uuid::Uuid;

use crate::Timestamp;
use crate::batch::{BODY, EntryRow, entry_and_body_where};
use crate::entry::{Cause, State};
use crate::error::Sql;
use crate::frames;

/// The columns that [`QueueStats`] reads, and what to look for
macro_rules! queue_where {
    ($rest:literal) => {
        concat!(
            "SELECT name, waiting, leased, done, dead, octets, \
             (SELECT min(due_at) FROM entry e WHERE e.queue = queue.queue AND e.state <= 1), \
             (SELECT enqueued_at FROM entry e WHERE e.queue = queue.queue AND e.state <= 1 AND e.due_at = 0 \
              ORDER BY e.due_at, e.seq LIMIT 1) FROM queue ",
            $rest
        )
    };
}

/// What one queue holds
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueStats {
    /// Its name
    pub name: Bytes,
    /// Entries that are or will be due
    pub waiting: u64,
    /// Entries that are handed out
    pub leased: u64,
    /// Entries with a result
    pub done: u64,
    /// Dead letters
    pub dead: u64,
    /// Octets that all of them count for
    pub octets: u64,
    /// When the next entry may be handed out; the epoch if one waits for nothing
    pub next_due: Option<Timestamp>,
    /// When the oldest of those that have never come back arrived
    pub oldest: Option<Timestamp>,
}

impl QueueStats {
    pub(crate) fn empty(name: Bytes) -> Self {
        Self { name, waiting: 0, leased: 0, done: 0, dead: 0, octets: 0, next_due: None, oldest: None }
    }

    /// Entries in this state
    pub fn count(&self, state: State) -> u64 {
        match state {
            State::Waiting => self.waiting,
            State::Leased => self.leased,
            State::Done => self.done,
            State::Dead => self.dead,
        }
    }

    fn read(row: &Row<'_>) -> Sql<Self> {
        let count = |at: usize| row.get::<_, i64>(at).map(|count| u64::try_from(count).unwrap_or(0));
        Ok(Self {
            name: row.get::<_, Vec<u8>>(0)?.into(),
            waiting: count(1)?,
            leased: count(2)?,
            done: count(3)?,
            dead: count(4)?,
            octets: count(5)?,
            next_due: row.get::<_, Option<i64>>(6)?.map(Timestamp::from_column),
            oldest: row.get::<_, Option<i64>>(7)?.map(Timestamp::from_column),
        })
    }
}

/// An entry as an operator sees it
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EntryView {
    /// Its number
    pub seq: u64,
    /// Its id
    pub id: Uuid,
    /// Its queue
    pub queue: Bytes,
    /// Where it stands
    pub state: State,
    /// How often it was handed out
    pub attempts: u32,
    /// How often it may be
    pub max_attempts: u32,
    /// From when it may be handed out (again): the end of its wait or lease, `None` if it waits for nothing or is settled
    pub due_at: Option<Timestamp>,
    /// When it was stored
    pub enqueued_at: Timestamp,
    /// When its state last changed
    pub changed_at: Timestamp,
    /// When it becomes a dead letter, or if it is settled, when it is deleted
    pub expires_at: Option<Timestamp>,
    /// The key it came with
    pub key: Option<Bytes>,
    /// Why it is a dead letter
    pub cause: Option<Cause>,
    /// What was said of its last failure
    pub note: Option<String>,
    /// Octets that it counts for
    pub octets: u64,
    /// Its frames; `None` if its checksum does not match
    pub body: Option<Vec<Bytes>>,
    /// What came of it; `None` if nothing has, or its checksum does not match
    pub result: Option<Vec<Bytes>>,
}

/// Why an entry is where it is, in words
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Whether it would be handed out to whoever asked now
    pub due: bool,
    /// The same for people, one fact in each
    pub sentences: Vec<String>,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentences.join(" "))
    }
}

impl EntryView {
    /// Why it is not handed out, or that it is
    pub fn explain(&self, now: Timestamp) -> Explanation {
        let attempts = format!("{} of {}", self.attempts, self.max_attempts);
        let mut sentences = Vec::new();
        let mut due = false;
        let ended = self.expires_at.is_some_and(|moment| moment <= now);
        match self.state {
            State::Waiting | State::Leased if self.body.is_none() => {
                sentences.push(
                    "Its body does not match its checksum: it becomes a dead letter when its turn comes.".to_owned(),
                );
            }
            State::Waiting if ended => {
                sentences.push("Its lifetime has ended: it is about to become a dead letter.".to_owned());
            }
            State::Waiting => match self.due_at.filter(|moment| *moment > now) {
                Some(moment) if self.attempts > 0 => {
                    let wait = words(moment.since(now));
                    sentences.push(format!("It waits for {wait} more, since attempt {attempts} failed."));
                }
                Some(moment) => {
                    sentences.push(format!("It is not to be handed out before {} from now.", words(moment.since(now))));
                }
                None => {
                    due = true;
                    let next = self.attempts.saturating_add(1);
                    sentences.push(format!(
                        "It is due, as attempt {next} of {}, and waits for somebody to take it.",
                        self.max_attempts
                    ));
                }
            },
            State::Leased => match self.due_at.filter(|moment| *moment > now) {
                Some(moment) => {
                    let (held, left) = (words(now.since(self.changed_at)), words(moment.since(now)));
                    sentences
                        .push(format!("It is handed out, attempt {attempts}, since {held}; the lease ends in {left}."));
                }
                None if self.attempts >= self.max_attempts => {
                    sentences.push(format!(
                        "The lease of attempt {attempts} has ended: it is about to become a dead letter."
                    ));
                }
                None => {
                    due = true;
                    sentences
                        .push(format!("The lease of attempt {attempts} has ended without a word: it is due again."));
                }
            },
            State::Done => {
                let ago = words(now.since(self.changed_at));
                sentences.push(format!("It was done {ago} ago, by attempt {attempts}, and its result is kept."));
            }
            State::Dead => {
                let cause = self.cause.map_or_else(
                    || "for a cause that is not known here".to_owned(),
                    |cause| format!("because {cause}"),
                );
                let ago = words(now.since(self.changed_at));
                sentences.push(format!("It has been a dead letter for {ago}, {cause} (attempt {attempts})."));
            }
        }
        if let Some(note) = self.note.as_deref().filter(|note| !note.is_empty()) {
            sentences.push(format!("The last failure: {note}."));
        }
        if let Some(left) = self.expires_at.filter(|moment| *moment > now).map(|moment| words(moment.since(now))) {
            sentences.push(match self.state {
                State::Waiting | State::Leased => format!("Its lifetime ends in {left}."),
                State::Done | State::Dead => format!("It is deleted in {left}."),
            });
        }
        Explanation { due, sentences }
    }

    fn read(connection: &Connection, queue: &[u8], row: &Row<'_>) -> Sql<Self> {
        let entry = EntryRow::read(row)?;
        let body: Option<Vec<u8>> = row.get(BODY)?;
        let result = match entry.state {
            State::Done => result(connection, entry.seq)?,
            _ => None,
        };
        Ok(Self {
            seq: entry.seq.unsigned_abs(),
            id: entry.id,
            queue: Bytes::copy_from_slice(queue),
            state: entry.state,
            attempts: entry.attempt,
            max_attempts: entry.max_attempts,
            due_at: (entry.due_at > 0).then(|| Timestamp::from_column(entry.due_at)),
            enqueued_at: entry.enqueued_at,
            changed_at: entry.changed_at,
            expires_at: entry.expires_at,
            key: entry.key.map(Into::into),
            cause: entry.cause,
            note: entry.note,
            octets: u64::try_from(entry.weight).unwrap_or(0),
            body: body.and_then(|body| frames::unpack(&body, entry.checksum)),
            result,
        })
    }
}

/// The result of an entry; `None` if there is none that its checksum stands for
pub(crate) fn result(connection: &Connection, seq: i64) -> Sql<Option<Vec<Bytes>>> {
    let mut select = connection.prepare_cached("SELECT checksum, body FROM result WHERE seq = ?1")?;
    let found = select.query_row([seq], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?))).optional()?;
    Ok(found.and_then(|(checksum, body)| frames::unpack(&body, u32::try_from(checksum).ok()?)))
}

/// What every queue holds, by name
pub(crate) fn queues(connection: &Connection) -> Sql<Vec<QueueStats>> {
    let mut select = connection.prepare_cached(queue_where!("ORDER BY name"))?;
    select.query_map([], QueueStats::read)?.collect()
}

/// What one queue holds
pub(crate) fn queue(connection: &Connection, name: &[u8]) -> Sql<Option<QueueStats>> {
    let mut select = connection.prepare_cached(queue_where!("WHERE name = ?1"))?;
    select.query_row([name], QueueStats::read).optional()
}

/// Up to `max` entries of a queue in the order of their numbers, after one of them
pub(crate) fn entries(
    connection: &Connection,
    name: &[u8],
    state: Option<State>,
    after: u64,
    max: usize,
) -> Sql<Vec<EntryView>> {
    let look = match state {
        Some(State::Waiting | State::Leased) => {
            entry_and_body_where!(
                // Numbers are sorted, and bodies are read of those that are wanted only
                "WHERE seq IN (SELECT seq FROM entry WHERE queue = (SELECT queue FROM queue WHERE name = ?1)
                     AND state <= 1 AND state = ?2 AND seq > ?3 ORDER BY seq LIMIT ?4) ORDER BY seq"
            )
        }
        Some(State::Done) => {
            entry_and_body_where!(
                "WHERE queue = (SELECT queue FROM queue WHERE name = ?1) AND state = 2 AND ?2 AND seq > ?3
                 ORDER BY seq LIMIT ?4"
            )
        }
        Some(State::Dead) => {
            entry_and_body_where!(
                "WHERE queue = (SELECT queue FROM queue WHERE name = ?1) AND state = 3 AND ?2 AND seq > ?3
                 ORDER BY seq LIMIT ?4"
            )
        }
        None => {
            entry_and_body_where!(
                "WHERE queue = (SELECT queue FROM queue WHERE name = ?1) AND ?2 AND seq > ?3 ORDER BY seq LIMIT ?4"
            )
        }
    };
    let mut select = connection.prepare_cached(look)?;
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let max = i64::try_from(max).unwrap_or(i64::MAX);
    let state = state.map_or(1, State::column);
    select.query_map(params![name, state, after, max], |row| EntryView::read(connection, name, row))?.collect()
}

/// Which entry
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKey {
    /// The one of this number
    Seq(u64),
    /// The one of this id
    Id(Uuid),
}

/// One entry
pub(crate) fn entry(connection: &Connection, key: EntryKey) -> Sql<Option<EntryView>> {
    let read = |row: &Row<'_>| {
        let mut select = connection.prepare_cached("SELECT name FROM queue WHERE queue = ?1")?;
        let name: Option<Vec<u8>> = select.query_row([row.get::<_, i64>(1)?], |row| row.get(0)).optional()?;
        EntryView::read(connection, &name.unwrap_or_default(), row)
    };
    match key {
        EntryKey::Seq(seq) => {
            let seq = i64::try_from(seq).unwrap_or(i64::MAX);
            connection.prepare_cached(entry_and_body_where!("WHERE seq = ?1"))?.query_row([seq], read).optional()
        }
        EntryKey::Id(id) => {
            let id = id.as_bytes().as_slice();
            connection.prepare_cached(entry_and_body_where!("WHERE id = ?1"))?.query_row([id], read).optional()
        }
    }
}

/// The present moment of the store, for who has a clock that may be behind
pub(crate) fn latest(connection: &Connection) -> Sql<Timestamp> {
    connection.query_row("SELECT latest FROM store", [], |row| row.get(0)).map(Timestamp::from_column)
}

/// What can't be so, among what can be seen at a glance
pub(crate) fn doubt(connection: &Connection) -> Sql<Option<String>> {
    let (entries, octets, counted, counted_octets, lowest): (i64, i64, i64, i64, i64) = connection.query_row(
        "SELECT s.entries, s.octets, coalesce(sum(q.waiting + q.leased + q.done + q.dead), 0), coalesce(sum(q.octets), 0),
         coalesce(min(min(q.waiting, q.leased, q.done, q.dead, q.octets)), 0) FROM store s LEFT JOIN queue q",
        [],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)),
    )?;
    let highest: i64 = connection.query_row("SELECT coalesce(max(seq), 0) FROM entry", [], |row| row.get(0))?;
    let next: i64 = connection.query_row("SELECT next_seq FROM store", [], |row| row.get(0))?;
    Ok(if (entries, octets) != (counted, counted_octets) || lowest < 0 {
        Some("its counts contradict each other".to_owned())
    } else if next <= highest {
        Some("its next number has been given already".to_owned())
    } else {
        None
    })
}

/// A length of time as people say it, to two units
fn words(time: Duration) -> String {
    let millis = time.as_millis();
    let seconds = millis / 1000;
    let two = |large: u128, unit: &str, small: u128, part: &str| match small {
        0 => format!("{large} {unit}"),
        _ => format!("{large} {unit} {small} {part}"),
    };
    match seconds {
        0 => format!("{millis} ms"),
        1..60 => two(seconds, "s", millis % 1000, "ms"),
        60..3600 => two(seconds / 60, "min", seconds % 60, "s"),
        3600..86_400 => two(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_told_in_two_units() {
        let said =
            [(0, "0 ms"), (1500, "1 s 500 ms"), (60_000, "1 min"), (3_723_000, "1 h 2 min"), (90_000_000, "1 d 1 h")];
        for (millis, text) in said {
            assert_eq!(words(Duration::from_millis(millis)), text);
        }
    }
}
