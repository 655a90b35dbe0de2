//! What the application and ZGP peers write, as writes of this node's life.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Node, Origin, PutError, Written};
use crate::context::Ranges;
use crate::event::Refusal;
use crate::record::{Dot, Lifetime, Stamp};
use crate::table::{self, Write};

impl Node {
    /// Gives a key a value, as its owner from now on
    ///
    /// The same permanent value that it has already is not written again. A `Ttl` value is, as that refreshes it: others are told nothing
    /// but the new time.
    ///
    /// # Errors
    /// The key or value is too long or reserved, or there is no room.
    pub fn put(
        &mut self,
        now: Instant,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
        lifetime: Lifetime,
    ) -> Result<Written, PutError> {
        let (key, value) = (key.into(), value.into());
        if table::is_reserved(&key) {
            return Err(PutError::Reserved);
        }
        self.write(now, key, value, lifetime, Origin::Local)
    }

    /// Takes a key's value away, whosever it is; `false` if it has none
    ///
    /// # Errors
    /// The key is too long or reserved.
    pub fn remove(&mut self, now: Instant, key: &[u8]) -> Result<bool, PutError> {
        self.now = now;
        if table::is_reserved(key) {
            return Err(PutError::Reserved);
        }
        if key.len() > MOST_KEY {
            return Err(PutError::KeyTooLong(key.len()));
        }
        if self.has_left {
            return Err(PutError::Left);
        }
        if self.table.value(key).is_none() {
            return Ok(false);
        }
        self.append(now, Bytes::copy_from_slice(key), None)?;
        self.process_changes(now);
        Ok(true)
    }

    /// Writes a tuple as one of this life; what is known already isn't written
    ///
    /// A refusal by quota is the caller's to count, as it knows whose value that was.
    pub(super) fn write(
        &mut self,
        now: Instant,
        key: Bytes,
        value: Bytes,
        lifetime: Lifetime,
        origin: Origin,
    ) -> Result<Written, PutError> {
        self.now = now;
        if key.len() > MOST_KEY {
            return Err(PutError::KeyTooLong(key.len()));
        }
        let limit = self.config.quotas.max_value;
        if value.len() > limit {
            return Err(PutError::ValueTooLong { octets: value.len(), limit });
        }
        if self.has_left {
            return Err(PutError::Left);
        }
        if self.table.value(&key) == Some(&value)
            && let Some((life, held)) = self.table.holder(&key)
            && held == lifetime
            && (lifetime == Lifetime::Permanent || (lifetime == Lifetime::Session && life == self.own))
            && let Some(tuple) = self.table.tuple(now, &key)
        {
            return Ok(Written { dot: tuple.dot, stamp: tuple.stamp, is_new: false });
        }
        let stamp = match origin {
            Origin::Local => self.clock.tick(now),
            Origin::Relay => self.stamp_after(&key, Stamp(self.clock.wall(now).saturating_sub(RELAY_MICROS))),
            Origin::Replay => self.stamp_after(&key, Stamp(1)),
        };
        let written = self.append_early(now, key, Some((lifetime, value)), stamp)?;
        self.process_changes(now);
        Ok(written)
    }

    /// The next write of this life, ordered as if it had been made at another time
    fn append_early(
        &mut self,
        now: Instant,
        key: Bytes,
        put: Option<(Lifetime, Bytes)>,
        stamp: Stamp,
    ) -> Result<Written, PutError> {
        let written = self.append_at(now, key, put, stamp)?;
        // However early it is ordered, this life has written now
        self.table.note_stamp(self.own, Stamp(self.clock.wall(now)));
        Ok(written)
    }

    /// The next write of this life, later than all others
    pub(super) fn append(
        &mut self,
        now: Instant,
        key: Bytes,
        put: Option<(Lifetime, Bytes)>,
    ) -> Result<Written, PutError> {
        let stamp = self.clock.tick(now);
        self.append_at(now, key, put, stamp)
    }

    /// A stamp that is no earlier than this, and wins over what the key has
    fn stamp_after(&self, key: &[u8], earliest: Stamp) -> Stamp {
        self.table.stamp(key).map_or(earliest, |has| earliest.max(Stamp(has.0.saturating_add(1))))
    }

    /// Until when what peers that speak ZGP say of a key may be older than what it has: it was written a moment ago, by one of ours
    pub(super) fn relay_end(&self, now: Instant, key: &[u8]) -> Option<Instant> {
        let written = self.table.stamp(key)?.0;
        let age = self.clock.wall(now).saturating_sub(written);
        // A clock that is ahead doesn't make it last longer
        RELAY_MICROS.checked_sub(age).filter(|rest| *rest > 0).map(|rest| now + Duration::from_micros(rest))
    }

    fn append_at(
        &mut self,
        now: Instant,
        key: Bytes,
        put: Option<(Lifetime, Bytes)>,
        stamp: Stamp,
    ) -> Result<Written, PutError> {
        let seq = self.own_seq + 1;
        let written = self.table.write(now, self.own, key, Write { seq, stamp, put });
        written.map_err(|cause| match cause {
            Refusal::OctetQuota => PutError::Quota("octets"),
            _ => PutError::Quota("tuples"),
        })?;
        self.own_seq = seq;
        self.spread.note_new(self.own, seq, seq, None);
        let dot = Dot { owner: self.identity.id, incarnation: self.identity.incarnation, seq };
        Ok(Written { dot, stamp, is_new: true })
    }

    /// Writes of this life are dead elsewhere: Session tuples among them are made again
    ///
    /// Others end them when they take this node for gone for good, and it isn't. They keep their stamps: if it wasn't that but a
    /// later write that has ended one, of which nothing has been heard here yet, that one wins. Of a permanent tuple nobody else says
    /// so who doesn't know of a deletion.
    pub(super) fn write_sessions_again(&mut self, now: Instant, dead: &Ranges) {
        let again = self
            .table
            .tuples_of(self.own)
            .filter(|(seq, lifetime, ..)| *lifetime == Lifetime::Session && dead.contains(*seq));
        let again = again.map(|(_, lifetime, key, value)| (key.clone(), value.clone(), lifetime)).collect::<Vec<_>>();
        for (key, value, lifetime) in again {
            // Nobody else writes a node's own records
            let has = if table::is_reserved(&key) { Some(self.clock.tick(now)) } else { self.table.stamp(&key) };
            let Some(stamp) = has else { continue };
            // There was room for it, and still is
            let _ = self.append_early(now, key, Some((lifetime, value)), stamp);
        }
    }

    /// Somebody else has written in the name of this life: another begins, in which all that is ours is written again
    ///
    /// At most once a minute, so that who forges makes little work.
    pub(super) fn begin_again(&mut self, now: Instant, after: crate::record::Incarnation) {
        let is_recent = self.reborn.is_some_and(|at| now.saturating_duration_since(at) < REBIRTH_PAUSE);
        if is_recent || self.has_left || !self.clock.is_plausible(now, after) {
            return;
        }
        let old = self.own;
        let incarnation = self.clock.next_life(now, after.max(self.identity.incarnation));
        // Session tuples of the old life die with it, so that they have to be known before
        let ours = self.table.tuples_of(old).map(|(_, lifetime, key, value)| {
            // It has the time that it had: nobody has renewed it
            let remaining = self.table.tuple(now, key).and_then(|tuple| tuple.remaining);
            (key.clone(), value.clone(), remaining.map_or(lifetime, Lifetime::Ttl))
        });
        let ours = ours.collect::<Vec<_>>();
        let Ok(own) = self.table.open_life(self.identity.id, incarnation) else { return };
        self.reborn = Some(now);
        self.identity.incarnation = incarnation;
        (self.own, self.own_seq) = (own, 0);
        for (key, value, lifetime) in ours {
            let _ = self.append(now, key, Some((lifetime, value)));
        }
        self.process_changes(now);
        self.members.on_rebirth(now, incarnation);
        let links = self.links.iter().filter(|(_, link)| link.is_tidings() && !link.is_ending);
        for link in links.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.send_hello(now, link);
        }
    }

    /// Removes this life's Session tuples, which would else be hidden everywhere until they are forgotten
    pub(super) fn remove_own_sessions(&mut self, now: Instant) {
        let own = self
            .table
            .tuples_of(self.own)
            .filter(|(_, lifetime, key, _)| *lifetime == Lifetime::Session && !table::is_reserved(key));
        for key in own.map(|(_, _, key, _)| key.clone()).collect::<Vec<_>>() {
            // What others have written meanwhile, not knowing of it, is not what ends now
            let stamp = self.stamp_after(&key, Stamp(1));
            let _ = self.append_early(now, key, None, stamp);
        }
        self.process_changes(now);
    }
}

pub(super) const MOST_KEY: usize = 255;
const REBIRTH_PAUSE: std::time::Duration = std::time::Duration::from_secs(60);
/// How long news may take from one node of ours to another through nodes that aren't: 300 ms, several times around the world
pub(super) const RELAY_MICROS: u64 = 300_000;
