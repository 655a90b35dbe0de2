//! Putting entries in: duplicates told, bounds kept.

use bytes::Bytes;
use rusqlite::{OptionalExtension as _, params};
use uuid::Uuid;

use super::{ANY_QUEUE, BODY_APART, Batch, ID_GIVEN, KEY_BRIEF, seen_id, seen_key};
use crate::entry::{Enqueued, OVERHEAD, State};
use crate::error::Sql;
use crate::frames::Stored;
use crate::schema::INLINE;
use crate::{StoreError, Timestamp};

/// A new entry, ready to be written
#[derive(Clone, Debug)]
pub(crate) struct Packed {
    pub(crate) id: Uuid,
    pub(crate) id_given: bool,
    pub(crate) key: Option<Bytes>,
    pub(crate) key_is_brief: bool,
    pub(crate) queues_for_new: Option<u64>,
    pub(crate) ttl: Option<i64>,
    pub(crate) max_attempts: Option<u32>,
    pub(crate) not_before: Option<Timestamp>,
    pub(crate) body: Stored,
}

impl Batch<'_> {
    /// Stores `new` in the queue, unless it is there already
    pub(crate) fn enqueue(&mut self, queue: &[u8], new: &Packed) -> Sql<Result<Enqueued, StoreError>> {
        let (name, queue) = match &self.found {
            Some((name, found)) if *name == queue => (queue, Some(*found)),
            _ => (queue, self.queue(queue)?),
        };
        if let Some((seq, id, checksum)) = self.earlier(queue, new)? {
            let same = checksum == i64::from(new.body.checksum);
            let earlier = Enqueued { seq, id, duplicate: true, durability: self.limits.durability };
            return Ok(if same { Ok(earlier) } else { Err(StoreError::Conflict { id }) });
        }
        let weight = OVERHEAD + new.body.octets.len() as u64;
        self.forget_seen(weight, self.limits.max_octets)?;
        let octets = u64::try_from(self.octets + self.seen_octets).unwrap_or(0);
        if octets + weight > self.limits.max_octets {
            return Ok(Err(StoreError::Full { octets, max_octets: self.limits.max_octets }));
        }
        let queue = match queue {
            Some(queue) => queue,
            None => match self.new_queue(name, new.queues_for_new)? {
                Ok(queue) => queue,
                Err(error) => return Ok(Err(error)),
            },
        };
        if self.found.as_ref().is_none_or(|(found, _)| *found != name) {
            self.found = Some((name.to_vec(), queue));
        }
        let seq = self.next_seq;
        self.next_seq += 1;
        let apart = new.body.octets.len() > INLINE;
        let flags = if new.id_given { ID_GIVEN } else { 0 }
            | if apart { BODY_APART } else { 0 }
            | if new.key_is_brief { KEY_BRIEF } else { 0 };
        let now = self.now.column();
        let due_at = new.not_before.filter(|moment| *moment > self.now).map_or(0, Timestamp::column);
        let weight = i64::try_from(weight).unwrap_or(i64::MAX);
        let mut insert = self.connection.prepare_cached(
            "INSERT INTO entry (seq, queue, id, state, attempt, max_attempts, due_at, enqueued_at, changed_at, expires_at,
             ttl, key, flags, weight, checksum, body)
             VALUES (?1, ?2, ?3, 0, 0, ?4, ?5, ?6, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        )?;
        insert.execute(params![
            seq,
            queue,
            new.id.as_bytes().as_slice(),
            new.max_attempts.unwrap_or(self.limits.max_attempts),
            due_at,
            now,
            new.ttl.map(|ttl| now.saturating_add(ttl)),
            new.ttl,
            new.key.as_deref(),
            flags,
            weight,
            i64::from(new.body.checksum),
            (!apart).then_some(&new.body.octets),
        ])?;
        if apart {
            let mut insert = self.connection.prepare_cached("INSERT INTO large VALUES (?1, ?2)")?;
            insert.execute(params![seq, new.body.octets])?;
        }
        self.count(queue, None, Some(State::Waiting), weight);
        self.woke = true;
        let durability = self.limits.durability;
        Ok(Ok(Enqueued { seq: seq.unsigned_abs(), id: new.id, duplicate: false, durability }))
    }

    /// What came earlier by the same key or given id: its number, id and checksum
    fn earlier(&self, queue: Option<i64>, new: &Packed) -> Sql<Option<(u64, Uuid, i64)>> {
        if new.id_given {
            if let Some(entry) = self.entry_by_id(new.id)? {
                return Ok(Some((entry.seq.unsigned_abs(), entry.id, i64::from(entry.checksum))));
            }
            let seen = self.seen(ANY_QUEUE, &seen_id(new.id))?;
            if seen.is_some() {
                return Ok(seen);
            }
        }
        let (Some(key), Some(queue)) = (new.key.as_deref(), queue) else { return Ok(None) };
        let mut select = self.connection.prepare_cached(entry_where!("WHERE queue = ?1 AND key = ?2"))?;
        let entry = select.query_row(params![queue, key], super::EntryRow::read).optional()?;
        match entry {
            Some(entry) => Ok(Some((entry.seq.unsigned_abs(), entry.id, i64::from(entry.checksum)))),
            None => self.seen(queue, &seen_key(key)),
        }
    }

    /// Gives up the oldest memories where there is no room for `weight` octets more beside them
    pub(super) fn forget_seen(&mut self, weight: u64, max: u64) -> Sql<()> {
        let max = i64::try_from(max).unwrap_or(i64::MAX);
        let weight = i64::try_from(weight).unwrap_or(i64::MAX);
        while self.seen_octets > 0 && self.octets.saturating_add(self.seen_octets).saturating_add(weight) > max {
            if self.octets.saturating_add(weight) > max || self.drop_seen(i64::MAX, 64)? == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Drops up to `limit` memories that end by then, the oldest first; how many those were
    pub(super) fn drop_seen(&mut self, until: i64, limit: i64) -> Sql<usize> {
        let mut delete = self.connection.prepare_cached(
            "DELETE FROM seen WHERE (queue, key) IN (SELECT queue, key FROM seen WHERE until <= ?1 ORDER BY until LIMIT ?2)
             RETURNING length(key)",
        )?;
        let (mut dropped, mut octets) = (0, 0);
        let mut rows = delete.query(params![until, limit])?;
        while let Some(row) = rows.next()? {
            octets += super::seen_weight(row.get::<_, i64>(0)?.unsigned_abs() as usize);
            dropped += 1;
        }
        self.seen_octets -= octets;
        Ok(dropped)
    }

    fn seen(&self, queue: i64, key: &[u8]) -> Sql<Option<(u64, Uuid, i64)>> {
        // Each that is remembered counts for something
        if self.seen_octets <= 0 {
            return Ok(None);
        }
        let mut select = self
            .connection
            .prepare_cached("SELECT seq, id, checksum FROM seen WHERE queue = ?1 AND key = ?2 AND until > ?3")?;
        let seen = select.query_row(params![queue, key, self.believed().column()], |row| {
            let (seq, id): (i64, Vec<u8>) = (row.get(0)?, row.get(1)?);
            Ok((seq.unsigned_abs(), Uuid::from_slice(&id).unwrap_or_default(), row.get(2)?))
        });
        seen.optional()
    }
}
