//! Looking entries up, and what operators and time do to them.

use rusqlite::params;
use uuid::Uuid;

use super::{Batch, EntryRow, is_odd_row};
use crate::StoreError;
use crate::entry::{Cause, Found, Settled, State};
use crate::error::Sql;
use crate::view;

/// Entries that an operator means
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doomed {
    /// The one of this number
    One(i64),
    /// All in this state
    All(State),
}

impl Batch<'_> {
    /// What is known under `id`
    pub(crate) fn find(&self, id: Uuid) -> Sql<Result<Found, StoreError>> {
        let Some(entry) = self.entry_by_id(id)? else { return Ok(Ok(Found::Unknown)) };
        let seq = entry.seq.unsigned_abs();
        Ok(match entry.state {
            State::Waiting | State::Leased => Ok(Found::Pending { seq, attempts: entry.attempt, note: entry.note }),
            State::Dead => {
                let (cause, note) = (entry.cause.unwrap_or(Cause::Damaged), entry.note.unwrap_or_default());
                Ok(Found::Dead { seq, cause, note })
            }
            State::Done => match view::result(self.connection, entry.seq)? {
                Some(result) => Ok(Found::Done { seq, result }),
                None => Err(StoreError::DamagedEntry { seq }),
            },
        })
    }

    /// Deletes the entry of this id, in whichever state
    pub(crate) fn remove(&mut self, id: Uuid) -> Sql<Settled> {
        let Some(entry) = self.entry_by_id(id)? else { return Ok(Settled::Late) };
        self.forget(&entry)?;
        Ok(Settled::Done)
    }

    /// Deletes up to `max` entries of a queue, and no more octets than a step may write; how many those were
    pub(crate) fn purge(&mut self, queue: i64, which: Doomed, max: usize) -> Sql<Step> {
        let found = self.doomed(queue, which, max)?;
        let mut octets = 0;
        for (done, entry) in found.iter().enumerate() {
            if octets >= STEP_OCTETS {
                return Ok(Step { done, more: true });
            }
            octets += entry.weight;
            self.forget(entry)?;
        }
        Ok(Step { done: found.len(), more: found.len() >= max })
    }

    /// Has up to `max` dead letters of a queue begin anew; how many those were
    pub(crate) fn requeue(&mut self, queue: i64, which: Doomed, max: usize) -> Sql<Step> {
        let mut found = self.doomed(queue, which, max)?;
        let more = found.len() >= max;
        found.retain(|entry| entry.state == State::Dead);
        for entry in &found {
            let expires = entry.ttl.map(|ttl| self.now.column().saturating_add(ttl));
            let mut update = self.connection.prepare_cached(
                "UPDATE entry SET state = 0, attempt = 0, due_at = 0, changed_at = ?2, expires_at = ?3, cause = NULL,
                 note = NULL WHERE seq = ?1",
            )?;
            update.execute(params![entry.seq, self.now.column(), expires])?;
            self.count(entry.queue, Some(State::Dead), Some(State::Waiting), 0);
            self.woke = true;
        }
        Ok(Step { done: found.len(), more })
    }

    fn doomed(&self, queue: i64, which: Doomed, max: usize) -> Sql<Vec<EntryRow>> {
        let max = i64::try_from(max).unwrap_or(i64::MAX);
        let (look, which) = match which {
            Doomed::One(seq) => (entry_where!("WHERE queue = ?1 AND seq = ?2 LIMIT ?3"), seq),
            // In the words of the indices' conditions, so that they are used
            Doomed::All(state @ (State::Waiting | State::Leased)) => (
                entry_where!("WHERE queue = ?1 AND state <= 1 AND state = ?2 ORDER BY due_at, seq LIMIT ?3"),
                state.column(),
            ),
            Doomed::All(State::Done) => {
                (entry_where!("WHERE queue = ?1 AND state = 2 AND ?2 ORDER BY seq LIMIT ?3"), 1)
            }
            Doomed::All(State::Dead) => {
                (entry_where!("WHERE queue = ?1 AND state = 3 AND ?2 ORDER BY seq LIMIT ?3"), 1)
            }
        };
        let mut select = self.connection.prepare_cached(look)?;
        select.query_map(params![queue, which, max], EntryRow::read)?.collect()
    }

    /// Ends up to `max` lifetimes: what waits becomes a dead letter, what was kept goes; true if more may have ended
    pub(crate) fn sweep(&mut self, max: usize) -> Sql<bool> {
        let limit = i64::try_from(max).unwrap_or(i64::MAX);
        let mut select = self.connection.prepare_cached(entry_where!(
            // A leased one may still be done in time
            "WHERE expires_at <= ?1 AND NOT (state = 1 AND due_at > ?1) ORDER BY expires_at LIMIT ?2"
        ))?;
        let (mut ended, mut odd) = (Vec::new(), Vec::new());
        let mut rows = select.query(params![self.believed().column(), limit])?;
        while let Some(row) = rows.next()? {
            match EntryRow::read(row) {
                Ok(entry) => ended.push(entry),
                Err(error) if is_odd_row(&error) => odd.push(row.get(0)?),
                Err(error) => return Err(error),
            }
        }
        drop(rows);
        for seq in odd {
            self.bury_odd(seq)?;
        }
        let mut octets = 0;
        for entry in &ended {
            if octets >= STEP_OCTETS {
                return Ok(true);
            }
            octets += entry.weight;
            match entry.state {
                State::Waiting | State::Leased => {
                    self.bury(entry, Cause::Expired, entry.note.as_deref().unwrap_or_default())?;
                }
                State::Done | State::Dead => self.forget(entry)?,
            }
        }
        let forgotten = self.drop_seen(self.believed().column(), limit)?;
        Ok(ended.len() >= max || forgotten >= max)
    }

    /// Queues that hold and remember nothing give their places to others
    pub(crate) fn drop_empty_queues(&mut self) -> Sql<()> {
        let mut delete = self.connection.prepare_cached(
            "DELETE FROM queue WHERE waiting + leased + done + dead = 0
             AND NOT EXISTS (SELECT 1 FROM entry WHERE entry.queue = queue.queue AND entry.state <= 1)
             AND NOT EXISTS (SELECT 1 FROM seen WHERE seen.queue = queue.queue)",
        )?;
        delete.execute([]).map(drop)
    }

    /// What was put off by a clock that has been set back since waits as long as was meant, from now
    ///
    /// Only for the owner, when it opens the store.
    pub(crate) fn set_waits_back(&mut self) -> Sql<()> {
        let mut update = self.connection.prepare_cached(
            "UPDATE entry SET due_at = max(1, due_at - (changed_at - ?1)), changed_at = ?1
             WHERE state <= 1 AND due_at > ?1 AND changed_at > ?1",
        )?;
        update.execute([self.now.column()]).map(drop)
    }

    /// Notes whether the owner has ended in order, and tells whether its predecessor had
    pub(crate) fn set_clean(&mut self, clean: bool) -> Sql<bool> {
        let was = self.connection.query_row("SELECT clean FROM store", [], |row| row.get(0))?;
        self.connection.prepare_cached("UPDATE store SET clean = ?1 WHERE clean != ?1")?.execute([clean])?;
        Ok(was)
    }

    /// What a process had when it ended is nobody's: it waits again
    ///
    /// Only for the owner, when it opens the store. If the last one ended in order, the attempt counts for none; otherwise
    /// what it held may be what ended it.
    pub(crate) fn release_all(&mut self, was_clean: bool) -> Sql<usize> {
        let mut select = self
            .connection
            .prepare_cached("SELECT queue, count(*) FROM entry WHERE state <= 1 AND state = 1 GROUP BY queue")?;
        let held: Vec<(i64, i64)> = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Sql<_>>()?;
        for (queue, entries) in held {
            let counts = self.counted.entry(queue).or_default();
            counts.states[State::Leased as usize] -= entries;
            counts.states[State::Waiting as usize] += entries;
        }
        let mut update = self.connection.prepare_cached(
            "UPDATE entry SET state = 0, attempt = max(attempt - ?2, 0), due_at = 0, changed_at = ?1
             WHERE state <= 1 AND state = 1",
        )?;
        update.execute([self.now.column(), i64::from(was_clean)])
    }
}

/// How far a change of many entries is
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) done: usize,
    /// There may be more
    pub(crate) more: bool,
}

/// Octets that one transaction deletes, or little more: what others wait for meanwhile is counted in milliseconds
const STEP_OCTETS: i64 = 8 << 20;
