//! Handing entries out, and what becomes of them.

use std::time::Duration;

use rusqlite::params;

use super::{BODY, Batch, EntryRow, is_odd_row};
use crate::entry::{Cause, Entry, Leased, Retry, Settled, State, Ticket};
use crate::error::Sql;
use crate::frames::{self, Stored};
use crate::{StoreError, Timestamp};

impl Batch<'_> {
    /// Hands out at most `max` entries that are due, for so long
    ///
    /// What came back goes first, so that a queue that never runs empty keeps nobody waiting for ever.
    pub(crate) fn lease(&mut self, queue: &[u8], max: usize, time: Duration) -> Sql<Leased> {
        let mut leased = Leased::default();
        let Some(queue) = self.queue(queue)? else { return Ok(leased) };
        let mut octets = 0;
        'looks: for look in [
            entry_and_body_where!(
                "WHERE queue = ?1 AND state <= 1 AND due_at BETWEEN 1 AND ?2 ORDER BY due_at, seq LIMIT ?3"
            ),
            entry_and_body_where!(
                "WHERE queue = ?1 AND state <= 1 AND due_at = 0 AND ?2 ORDER BY due_at, seq LIMIT ?3"
            ),
        ] {
            // Each round hands out or buries every entry that it finds, and so comes to an end
            for _round in 0..MAX_ROUNDS {
                let room = max.saturating_sub(leased.entries.len());
                if room == 0 || octets >= MAX_OCTETS {
                    break 'looks;
                }
                let found = self.due(look, queue, room.min(MAX_ROWS), MAX_OCTETS - octets)?;
                if found.is_empty() {
                    break;
                }
                for (entry, body) in found {
                    octets += body.len();
                    if let Some(entry) = self.hand_out(&entry, &body, time)? {
                        leased.entries.push(entry);
                    }
                }
            }
        }
        leased.next_due = self.next_due(queue)?;
        Ok(leased)
    }

    /// Entries with their bodies, at least one if there is one
    fn due(&mut self, look: &str, queue: i64, max: usize, max_octets: usize) -> Sql<Vec<(EntryRow, Vec<u8>)>> {
        let mut select = self.connection.prepare_cached(look)?;
        let max = i64::try_from(max).unwrap_or(i64::MAX);
        let mut rows = select.query(params![queue, self.now.column(), max])?;
        let (mut found, mut odd, mut octets) = (Vec::new(), Vec::new(), 0);
        while let Some(row) = rows.next()? {
            // No body where there should be one: its checksum will tell
            let body: Vec<u8> = row.get::<_, Option<Vec<u8>>>(BODY)?.unwrap_or_default();
            octets += body.len();
            match EntryRow::read(row) {
                Ok(entry) => found.push((entry, body)),
                // It must not keep all others waiting
                Err(error) if is_odd_row(&error) => odd.push(row.get(0)?),
                Err(error) => return Err(error),
            }
            if octets >= max_octets {
                break;
            }
        }
        drop(rows);
        for seq in odd {
            self.bury_odd(seq)?;
        }
        Ok(found)
    }

    /// `None` if it is a dead letter instead
    fn hand_out(&mut self, entry: &EntryRow, body: &[u8], time: Duration) -> Sql<Option<Entry>> {
        if entry.expires_at.is_some_and(|moment| moment <= self.now) {
            if entry.expires_at.is_some_and(|moment| moment > self.believed()) {
                // Nobody knows yet whether its time is over
                let mut update = self
                    .connection
                    .prepare_cached("UPDATE entry SET state = 0, due_at = ?2, changed_at = ?3 WHERE seq = ?1")?;
                update.execute(params![entry.seq, self.now.after(DOUBT).column(), self.now.column()])?;
                self.count(entry.queue, Some(entry.state), Some(State::Waiting), 0);
                return Ok(None);
            }
            self.bury(entry, Cause::Expired, entry.note.as_deref().unwrap_or_default())?;
            return Ok(None);
        }
        if entry.attempt >= entry.max_attempts {
            let note = entry.note.as_deref().unwrap_or("its lease ended without a word");
            self.bury(entry, Cause::Attempts, note)?;
            return Ok(None);
        }
        let Some(body) = frames::unpack(body, entry.checksum) else {
            self.bury(entry, Cause::Damaged, "found when it was to be handed out")?;
            return Ok(None);
        };
        let attempt = entry.attempt + 1;
        let mut update = self
            .connection
            .prepare_cached("UPDATE entry SET state = 1, attempt = ?2, due_at = ?3, changed_at = ?4 WHERE seq = ?1")?;
        let ends = self.now.after(time.max(SHORTEST_LEASE));
        update.execute(params![entry.seq, attempt, ends.column(), self.now.column()])?;
        self.count(entry.queue, Some(entry.state), Some(State::Leased), 0);
        Ok(Some(Entry {
            ticket: Ticket { seq: entry.seq.unsigned_abs(), attempt },
            id: entry.id,
            body,
            key: entry.key.clone().map(Into::into),
            max_attempts: entry.max_attempts,
            enqueued_at: entry.enqueued_at,
            expires_at: entry.expires_at,
        }))
    }

    /// When the first of a queue's entries is due, or its lease ends
    pub(crate) fn next_due(&self, queue: i64) -> Sql<Option<Timestamp>> {
        let mut select =
            self.connection.prepare_cached("SELECT min(due_at) FROM entry WHERE queue = ?1 AND state <= 1")?;
        let due: Option<i64> = select.query_row([queue], |row| row.get(0))?;
        Ok(due.map(Timestamp::from_column))
    }

    /// It has been done and is of no further use
    pub(crate) fn ack(&mut self, ticket: Ticket) -> Sql<Settled> {
        match self.entry(column(ticket.seq))? {
            // Also when its lease has ended: what is done need not be done again
            Some(entry) if matches!(entry.state, State::Waiting | State::Leased) => {
                self.forget(&entry)?;
                Ok(Settled::Done)
            }
            _ => Ok(Settled::Late),
        }
    }

    /// It has been done, and this is what came of it: the first result stays
    pub(crate) fn complete(&mut self, ticket: Ticket, result: &Stored) -> Sql<Result<Settled, StoreError>> {
        let open = |entry: &EntryRow| matches!(entry.state, State::Waiting | State::Leased);
        let Some(entry) = self.entry(column(ticket.seq))?.filter(open) else { return Ok(Ok(Settled::Late)) };
        let octets = u64::try_from(self.octets).unwrap_or(0);
        let bound = self.limits.max_octets.saturating_add(self.limits.max_octets / 4);
        if octets + result.octets.len() as u64 > bound {
            return Ok(Err(StoreError::Full { octets, max_octets: self.limits.max_octets }));
        }
        self.forget_seen(result.octets.len() as u64, bound)?;
        let mut insert = self.connection.prepare_cached("INSERT OR REPLACE INTO result VALUES (?1, ?2, ?3)")?;
        insert.execute(params![entry.seq, i64::from(result.checksum), result.octets])?;
        let more = i64::try_from(result.octets.len()).unwrap_or(i64::MAX);
        let mut update = self.connection.prepare_cached(
            "UPDATE entry SET state = 2, due_at = 0, changed_at = ?2, expires_at = ?3, weight = weight + ?4 WHERE seq = ?1",
        )?;
        let expires = self.now.column().saturating_add(self.keep_results);
        update.execute(params![entry.seq, self.now.column(), expires, more])?;
        self.count(entry.queue, Some(entry.state), Some(State::Done), more);
        Ok(Ok(Settled::Done))
    }

    /// This attempt has failed
    pub(crate) fn nak(&mut self, ticket: Ticket, retry: &Retry, note: &str) -> Sql<Settled> {
        let Some(entry) = self.held(ticket)? else { return Ok(Settled::Late) };
        let (attempt, due_at) = match retry {
            Retry::Never => {
                self.bury(&entry, Cause::Refused, note)?;
                return Ok(Settled::Done);
            }
            Retry::Release(wait) => {
                let due_at = if wait.is_zero() { 0 } else { self.now.after(*wait).column() };
                (entry.attempt.saturating_sub(1), due_at)
            }
            Retry::Backoff | Retry::After(_) if entry.attempt >= entry.max_attempts => {
                self.bury(&entry, Cause::Attempts, note)?;
                return Ok(Settled::Done);
            }
            Retry::Backoff => (entry.attempt, self.now.after(self.limits.backoff.wait(entry.attempt)).column()),
            Retry::After(wait) => (entry.attempt, self.now.after(*wait).column()),
        };
        let note: String = note.chars().take(super::MAX_NOTE).collect();
        let mut update = self.connection.prepare_cached(
            "UPDATE entry SET state = 0, attempt = ?2, due_at = ?3, changed_at = ?4, note = ?5 WHERE seq = ?1",
        )?;
        update.execute(params![entry.seq, attempt, due_at, self.now.column(), note])?;
        self.count(entry.queue, Some(entry.state), Some(State::Waiting), 0);
        self.woke = true;
        Ok(Settled::Done)
    }

    /// The lease lasts so long from now
    pub(crate) fn extend(&mut self, ticket: Ticket, time: Duration) -> Sql<Settled> {
        let Some(entry) = self.held(ticket)? else { return Ok(Settled::Late) };
        let mut update = self.connection.prepare_cached("UPDATE entry SET due_at = ?2 WHERE seq = ?1")?;
        update.execute(params![entry.seq, self.now.after(time.max(SHORTEST_LEASE)).column()])?;
        Ok(Settled::Done)
    }

    /// The entry, if this attempt is the one that has it
    fn held(&self, ticket: Ticket) -> Sql<Option<EntryRow>> {
        let entry = self.entry(column(ticket.seq))?;
        Ok(entry.filter(|entry| entry.state == State::Leased && entry.attempt == ticket.attempt))
    }
}

fn column(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

/// Entries looked at in one round
const MAX_ROWS: usize = 1024;

/// Rounds that may find dead letters only, before others get their turn
const MAX_ROUNDS: usize = 8;

/// Octets of bodies handed out at once
const MAX_OCTETS: usize = 64 << 20;

/// How long an entry waits that has outlived its use by a clock that may be wrong
const DOUBT: Duration = Duration::from_secs(10);

/// A lease is a moment in the future, whatever was asked for
const SHORTEST_LEASE: Duration = Duration::from_millis(1);
