//! The tuples, and what is known to be dead.
//!
//! Of each owner's life the table remembers which writes it has *seen*. A write that was seen and isn't in the table is *dead*:
//! overwritten, deleted, or expired. Dead is for ever; nothing that was seen is ever applied again. This is why a deletion may
//! be forgotten: what it has removed stays dead for as long as the life's context is remembered.
//!
//! What has to be true, and [`check`](Table::check) says whether it is:
//! - a key has one entry at most, the greatest by (stamp, owner, incarnation, seq) of all that were applied;
//! - each entry's write was seen; each life's index has its entries and no others, in the order of their numbers;
//! - `live_hash` is the sum over the life's entries that are puts without TTL, and each bucket the sum over its lives;
//! - memory is what the entries take, deletions within their time among them, and a bounded amount for each life that is remembered.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::{Duration, Instant};

use bytes::Bytes;
use slab::Slab;
use smallvec::SmallVec;

use crate::config::Quotas;
use crate::context::{MOST_RANGES, Ranges};
use crate::event::{Refusal, RemovalCause};
use crate::record::{Dot, Incarnation, Lifetime, NodeId, Stamp, Tuple};
use crate::wire::tidings::{Body, LifeEntry, Mask, Record, records::MOST_BEATS};

mod check;
mod digest;
pub(crate) use digest::{bucket_of, key_hash, value_hash};
mod life;
use life::Life;
#[cfg(test)]
mod tests;

/// What a life is known by in the table; of another one when it is forgotten
pub(crate) type LifeIndex = u32;

/// All tuples and contexts
pub(crate) struct Table {
    quotas: Quotas,
    tombstone_time: Duration,
    lives: Slab<Life>,
    by_life: BTreeMap<(NodeId, Incarnation), LifeIndex>,
    totals: Slab<Totals>,
    entries: Slab<Entry>,
    by_key: BTreeMap<Bytes, u32>,
    timers: BTreeSet<(Instant, u32)>,
    /// Those of deletions, which may have to go before their time
    graves: BTreeSet<(Instant, u32)>,
    buckets: Box<[u64; 256]>,
    root: u64,
    octets: usize,
    tombstones: usize,
    visible: usize,
    hidden: usize,
    reserved: usize,
    changes: Vec<Change>,
}

/// What one owner has, in all its lives
struct Totals {
    tuples: usize,
    octets: usize,
    lives: usize,
}

/// The write that a key has now
struct Entry {
    key: Bytes,
    content: Content,
    life: LifeIndex,
    seq: u64,
    stamp: Stamp,
    /// What it has put an end to, as its owner said
    beats: Dots,
    /// What else lost against it, here
    lost: Dots,
}

type Dots = Option<Box<SmallVec<[Dot; 1]>>>;

enum Content {
    Put { value: Bytes, kept: Kept },
    Deleted { value_hash: u64, until: Instant },
}

#[derive(Clone, Copy)]
enum Kept {
    Permanent,
    Ttl { given: Duration, until: Instant },
    Session,
}

/// A key's visible value has changed, or has a new time to live
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) key: Bytes,
    /// What it was; the same as it is now if only the time to live is new
    pub(crate) before: Option<Bytes>,
    /// Why it has none, if it has none
    pub(crate) cause: RemovalCause,
}

/// What became of a record
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    /// It was seen before
    Old,
    /// It is seen now, and lives
    Lives,
    /// It is seen now, and was dead on arrival
    Dead,
    /// There are too many gaps before it: it has to come again
    TooEarly,
    /// It may not be here; it counts as not seen
    Refused(Refusal),
}

/// A write that the table makes for its own node
pub(crate) struct Write {
    pub(crate) seq: u64,
    pub(crate) stamp: Stamp,
    /// The lifetime and the value; `None` deletes
    pub(crate) put: Option<(Lifetime, Bytes)>,
}

impl Table {
    pub(crate) fn new(quotas: Quotas, tombstone_time: Duration) -> Self {
        Self {
            quotas,
            tombstone_time,
            lives: Slab::new(),
            by_life: BTreeMap::new(),
            totals: Slab::new(),
            entries: Slab::new(),
            by_key: BTreeMap::new(),
            timers: BTreeSet::new(),
            graves: BTreeSet::new(),
            buckets: Box::new([0; 256]),
            root: 0,
            octets: 0,
            tombstones: 0,
            visible: 0,
            hidden: 0,
            reserved: 0,
            changes: Vec::new(),
        }
    }

    /// Applies a peer's record
    pub(crate) fn apply(&mut self, now: Instant, life: LifeIndex, record: &Record<'_>) -> Applied {
        let Some(of) = self.lives.get(life as usize) else { return Applied::TooEarly };
        if of.seen.contains(record.seq) {
            return Applied::Old;
        }
        if !of.seen.has_room(record.seq, MOST_RANGES) {
            return Applied::TooEarly;
        }
        let is_ended = of.is_ended && matches!(record.body, Body::Put(Lifetime::Session, _));
        let place = match self.judge(life, record.seq, record.stamp, record.key) {
            Ok(Some(beaten)) if is_ended => {
                // It has overwritten this before it ended, wherever it was known in time
                self.remove(beaten, RemovalCause::Superseded);
                self.see(life, record.seq, record.stamp);
                return Applied::Dead;
            }
            Ok(place) if !is_ended => place,
            lost => {
                if let Err(winner) = lost {
                    let dot = self.dot(life, record.seq);
                    self.note_lost(winner, dot);
                }
                self.see(life, record.seq, record.stamp);
                return Applied::Dead;
            }
        };
        let content = match record.body {
            Body::Delete => None,
            Body::Put(lifetime, value) => {
                if let Err(cause) = self.check_room(life, place, record.key.len(), value.len()) {
                    return Applied::Refused(cause);
                }
                Some((lifetime, value))
            }
        };
        let (key, put) = self.copied(place, record.key, content);
        let beats = (!record.beats.is_empty()).then(|| Box::new(record.beats.clone()));
        self.place(now, life, place, key, Write { seq: record.seq, stamp: record.stamp, put }, beats);
        for dot in &record.beats {
            if let Ok(life) = self.open_life(dot.owner, dot.incarnation) {
                self.see_dead(life, dot.seq, record.stamp);
            }
        }
        Applied::Lives
    }

    /// What a key's next write will have put an end to
    pub(crate) fn beaten_by_next(&self, life: LifeIndex, key: &[u8]) -> SmallVec<[Dot; 1]> {
        let mut beats = SmallVec::new();
        let Some(entry) = self.by_key.get(key).and_then(|slot| self.entries.get(*slot as usize)) else { return beats };
        beats.push(self.dot(entry.life, entry.seq));
        let own = self.lives.get(life as usize).map(|life| (life.owner, life.incarnation));
        let others = [&entry.lost, &entry.beats].into_iter().flatten().flat_map(|dots| dots.iter());
        for dot in others.filter(|dot| Some((dot.owner, dot.incarnation)) != own) {
            if beats.len() < MOST_BEATS && !beats.contains(dot) {
                beats.push(*dot);
            }
        }
        beats
    }

    /// Makes a write of this node's own; its stamp has to be greater than the key's
    ///
    /// # Errors
    /// There is no room for it.
    pub(crate) fn write(&mut self, now: Instant, life: LifeIndex, key: Bytes, write: Write) -> Result<(), Refusal> {
        let place = self.by_key.get(&key).copied();
        if let Some((_, value)) = &write.put {
            self.check_room(life, place, key.len(), value.len())?;
        }
        let beats = self.beaten_by_next(life, &key);
        let beats = (!beats.is_empty()).then(|| Box::new(beats));
        let Write { seq, stamp, put } = write;
        let put = put.as_ref().map(|(lifetime, value)| (*lifetime, &value[..]));
        let (key, put) = self.copied(place, &key, put);
        self.place(now, life, place, key, Write { seq, stamp, put }, beats);
        Ok(())
    }

    /// A key and value that share their octets with nobody, neither with what else a frame held nor with what the key had
    /// before; but small ones, which are one allocation, with each other
    fn copied(
        &self,
        place: Option<u32>,
        key: &[u8],
        put: Option<(Lifetime, &[u8])>,
    ) -> (Bytes, Option<(Lifetime, Bytes)>) {
        let known = place.and_then(|slot| self.entries.get(slot as usize)).map(|entry| entry.key.clone());
        match (known, put) {
            (None, Some((lifetime, value))) if value.len() <= SMALL => {
                let mut both = Vec::with_capacity(key.len() + value.len());
                both.extend_from_slice(key);
                both.extend_from_slice(value);
                let mut value = Bytes::from(both);
                let key = value.split_to(key.len());
                (key, Some((lifetime, value)))
            }
            (known, put) => {
                let key = known.unwrap_or_else(|| Bytes::copy_from_slice(key));
                (key, put.map(|(lifetime, value)| (lifetime, Bytes::copy_from_slice(value))))
            }
        }
    }

    /// The life of that name, which is remembered from now on
    ///
    /// # Errors
    /// There are too many.
    pub(crate) fn open_life(&mut self, owner: NodeId, incarnation: Incarnation) -> Result<LifeIndex, Refusal> {
        if let Some(index) = self.by_life.get(&(owner, incarnation)) {
            return Ok(*index);
        }
        if self.lives.len() >= self.quotas.max_owners {
            return Err(Refusal::OwnerQuota);
        }
        let others = self.by_life.range((owner, Incarnation(0))..=(owner, Incarnation(u64::MAX)));
        let others = others.map(|(_, index)| *index).collect::<SmallVec<[u32; 4]>>();
        // One node that begins again and again, or says so, takes no other's place
        if others.len() >= (self.quotas.max_owners / 16).max(LEAST_LIVES) {
            return Err(Refusal::OwnerQuota);
        }
        let totals = others.first().and_then(|index| self.lives.get(*index as usize)).map(|life| life.totals);
        let totals = totals.unwrap_or_else(|| self.totals.insert(Totals { tuples: 0, octets: 0, lives: 0 }) as u32);
        if let Some(totals) = self.totals.get_mut(totals as usize) {
            totals.lives += 1;
        }
        let index = self.lives.insert(Life::new(owner, incarnation, totals)) as LifeIndex;
        self.by_life.insert((owner, incarnation), index);
        // Session tuples die with the next life of their owner
        for other in others {
            let Some(life) = self.lives.get(other as usize) else { continue };
            if life.incarnation < incarnation {
                if life.is_ended {
                    continue;
                }
                self.end_sessions(other, RemovalCause::Superseded);
            } else if let Some(life) = self.lives.get_mut(index as usize) {
                life.is_ended = true;
            }
        }
        Ok(index)
    }

    /// The life of that name, if it is remembered
    pub(crate) fn find_life(&self, owner: NodeId, incarnation: Incarnation) -> Option<LifeIndex> {
        self.by_life.get(&(owner, incarnation)).copied()
    }

    /// Whose a life is
    pub(crate) fn life_name(&self, life: LifeIndex) -> (NodeId, Incarnation) {
        self.lives.get(life as usize).map(|life| (life.owner, life.incarnation)).unwrap_or_default()
    }

    /// Which of its writes were seen
    pub(crate) fn seen(&self, life: LifeIndex) -> Option<&Ranges> {
        self.lives.get(life as usize).map(|life| &life.seen)
    }

    /// Takes these for seen and dead, as far as they weren't seen, and gives those; `now` is when they were written at the latest
    pub(crate) fn see_all_dead(&mut self, life: LifeIndex, ranges: &Ranges, now: Stamp) -> Ranges {
        let Some(of) = self.lives.get_mut(life as usize) else { return Ranges::new() };
        let mut new = ranges.without(&of.seen);
        if new.is_empty() {
            return new;
        }
        if of.last_stamp == Stamp(0) {
            of.last_stamp = now;
        }
        let mut taken = Ranges::new();
        for (first, last) in new.iter() {
            // Where it would make one range too many it has to be learnt again, when gaps are filled
            if of.seen.range_count() < MOST_RANGES
                || of.seen.has_room(first, MOST_RANGES)
                || of.seen.has_room(last, MOST_RANGES)
            {
                of.seen.insert_range(first, last);
                taken.insert_range(first, last);
            }
        }
        new = taken;
        self.sum_up(life);
        new
    }

    /// A write that lives here is dead elsewhere: it is dead here, too
    pub(crate) fn bury(&mut self, life: LifeIndex, seq: u64, cause: RemovalCause) {
        if let Some(slot) = self.lives.get(life as usize).and_then(|life| life.find(seq)) {
            self.remove(slot, cause);
        }
    }

    /// Shows or hides the Session tuples of a life
    pub(crate) fn set_present(&mut self, owner: NodeId, incarnation: Incarnation, is_present: bool) {
        let Some(index) = self.find_life(owner, incarnation) else { return };
        let Some(life) = self.lives.get_mut(index as usize) else { return };
        if life.is_present == is_present {
            return;
        }
        life.is_present = is_present;
        if is_present && life.is_ended {
            // It was taken for over, and goes on unless another has begun
            let later = (Bound::Excluded((owner, incarnation)), Bound::Included((owner, Incarnation(u64::MAX))));
            life.is_ended = self.by_life.range(later).next().is_some();
        }
        let slots = life.slots().collect::<Vec<_>>();
        for slot in slots {
            let Some(entry) = self.entries.get(slot as usize) else { continue };
            let Content::Put { value, kept: Kept::Session } = &entry.content else { continue };
            let (key, value) = (entry.key.clone(), value.clone());
            let before = (!is_present).then_some(value);
            let is_reserved = is_reserved(&key);
            self.count_visible(is_reserved, is_present, true);
            self.count_visible(is_reserved, !is_present, false);
            self.changes.push(Change { key, before, cause: RemovalCause::OwnerGone });
        }
    }

    /// Ends the Session tuples of a life that won't come back
    pub(crate) fn end_life(&mut self, owner: NodeId, incarnation: Incarnation) {
        if let Some(life) = self.find_life(owner, incarnation) {
            self.end_sessions(life, RemovalCause::OwnerGone);
        }
    }

    /// Removes what has expired, and forgets deletions that are old
    pub(crate) fn expire(&mut self, now: Instant) {
        while let Some((_, slot)) = self.timers.first().copied().filter(|(until, _)| *until <= now) {
            self.remove(slot, RemovalCause::Expired);
        }
        while let Some((_, slot)) = self.graves.first().copied().filter(|(until, _)| *until <= now) {
            self.remove(slot, RemovalCause::Expired);
        }
    }

    /// When something expires
    pub(crate) fn next_expiry(&self) -> Option<Instant> {
        self.timers.first().into_iter().chain(self.graves.first()).map(|(until, _)| *until).min()
    }

    /// Forgets lives of which nothing is here and whose last write is older than `oldest`
    pub(crate) fn forget_lives(&mut self, oldest: Stamp, own: LifeIndex) {
        let old = self
            .lives
            .iter()
            .filter(|(index, life)| *index != own as usize && life.entries() == 0 && life.last_stamp < oldest);
        for index in old.map(|(index, _)| index).collect::<Vec<_>>() {
            let Some(life) = self.lives.try_remove(index) else { continue };
            self.by_life.remove(&(life.owner, life.incarnation));
            if let Some(sum) = self.buckets.get_mut(usize::from(bucket_of(life.owner))) {
                *sum = sum.wrapping_sub(life.sum);
            }
            self.root = self.root.wrapping_sub(life.sum);
            if let Some(totals) = self.totals.get_mut(life.totals as usize) {
                totals.lives -= 1;
                if totals.lives == 0 {
                    self.totals.remove(life.totals as usize);
                }
            }
        }
    }

    /// A life's last write is at least this late
    pub(crate) fn note_stamp(&mut self, life: LifeIndex, stamp: Stamp) {
        if let Some(life) = self.lives.get_mut(life as usize) {
            life.last_stamp = life.last_stamp.max(stamp);
        }
    }

    /// The next change of what is visible
    pub(crate) fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// What a key has, as far as it is shown
    pub(crate) fn tuple(&self, now: Instant, key: &[u8]) -> Option<Tuple> {
        let entry = self.entries.get(*self.by_key.get(key)? as usize)?;
        self.as_tuple(now, entry)
    }

    /// The value that is shown
    pub(crate) fn value(&self, key: &[u8]) -> Option<&Bytes> {
        let entry = self.entries.get(*self.by_key.get(key)? as usize)?;
        match &entry.content {
            Content::Put { value, kept } if self.is_shown(entry.life, *kept) => Some(value),
            _ => None,
        }
    }

    /// How the write that a key has is ordered, a deletion too
    pub(crate) fn stamp(&self, key: &[u8]) -> Option<Stamp> {
        Some(self.entries.get(*self.by_key.get(key)? as usize)?.stamp)
    }

    /// Whose write a key has, and how long it lives
    pub(crate) fn holder(&self, key: &[u8]) -> Option<(LifeIndex, Lifetime)> {
        let entry = self.entries.get(*self.by_key.get(key)? as usize)?;
        match &entry.content {
            Content::Put { kept, .. } => Some((entry.life, kept.lifetime())),
            Content::Deleted { .. } => None,
        }
    }

    /// The hash of the value that a deletion has taken away, within its time
    pub(crate) fn dead_value(&self, key: &[u8]) -> Option<u64> {
        match self.entries.get(*self.by_key.get(key)? as usize)?.content {
            Content::Deleted { value_hash, .. } => Some(value_hash),
            Content::Put { .. } => None,
        }
    }

    /// All tuples that are shown whose keys begin so, by key
    pub(crate) fn tuples(
        &self,
        now: Instant,
        prefix: &[u8],
        after: Option<&[u8]>,
    ) -> impl Iterator<Item = Tuple> + use<'_> {
        let prefix = Bytes::copy_from_slice(prefix);
        let from = match after.filter(|after| **after >= *prefix) {
            Some(after) => Bound::Excluded(Bytes::copy_from_slice(after)),
            None => Bound::Included(prefix.clone()),
        };
        self.by_key
            .range((from, Bound::Unbounded))
            .take_while(move |(key, _)| key.starts_with(&prefix))
            .filter_map(move |(_, slot)| self.as_tuple(now, self.entries.get(*slot as usize)?))
    }

    /// All keys and values that are shown to everybody, by key, after this one
    pub(crate) fn visible_after(&self, key: Option<&Bytes>) -> impl Iterator<Item = (&Bytes, &Bytes)> + '_ {
        let after = key.map_or(Bound::Unbounded, |key| Bound::Excluded(key.clone()));
        self.by_key.range((after, Bound::Unbounded)).filter(|(key, _)| !is_reserved(key)).filter_map(|(key, slot)| {
            let entry = self.entries.get(*slot as usize)?;
            match &entry.content {
                Content::Put { value, kept } if self.is_shown(entry.life, *kept) => Some((key, value)),
                _ => None,
            }
        })
    }

    /// Tuples of a life that are here, as (number, is it a Session, key)
    pub(crate) fn tuples_of(&self, life: LifeIndex) -> impl Iterator<Item = (u64, Lifetime, &Bytes, &Bytes)> + '_ {
        let slots = self.lives.get(life as usize).into_iter().flat_map(|life| life.slots());
        slots.filter_map(|slot| {
            let entry = self.entries.get(slot as usize)?;
            match &entry.content {
                Content::Put { value, kept } => Some((entry.seq, kept.lifetime(), &entry.key, value)),
                Content::Deleted { .. } => None,
            }
        })
    }

    /// The records of a life among these that live, in the order of their numbers
    pub(crate) fn records<'a>(
        &'a self,
        now: Instant,
        life: LifeIndex,
        ranges: &'a Ranges,
    ) -> impl Iterator<Item = Record<'a>> + 'a {
        let found = self.lives.get(life as usize);
        let slots = ranges
            .iter()
            .flat_map(move |(first, last)| found.into_iter().flat_map(move |life| life.between(first, last)));
        slots.filter_map(move |slot| self.entries.get(slot as usize).map(|entry| entry.as_record(now)))
    }

    /// Of a life's writes those that were seen and those of them that live, in windows of up to `most` ranges; deletions and what has a
    /// TTL are not among those that live
    pub(crate) fn live(&self, life: LifeIndex, most: usize) -> Vec<(Ranges, Ranges)> {
        let Some(of) = self.lives.get(life as usize) else { return Vec::new() };
        let (mut windows, mut from, mut live) = (Vec::new(), 1, Ranges::new());
        for slot in of.slots() {
            let Some(entry) = self.entries.get(slot as usize).filter(|entry| entry.is_hashed()) else { continue };
            if !live.has_room(entry.seq, most) {
                windows.push((of.seen.common(&Ranges::of(from, entry.seq - 1)), std::mem::take(&mut live)));
                from = entry.seq;
            }
            live.insert(entry.seq);
        }
        windows.push((of.seen.common(&Ranges::of(from, u64::MAX)), live));
        windows
    }

    /// Which of these writes of a life live, as [`live`](Self::live) speaks of them
    pub(crate) fn live_among(&self, life: LifeIndex, ranges: &Ranges) -> Ranges {
        let mut live = Ranges::new();
        let Some(of) = self.lives.get(life as usize) else { return live };
        for slot in ranges.iter().flat_map(|(first, last)| of.between(first, last)) {
            if let Some(entry) = self.entries.get(slot as usize).filter(|entry| entry.is_hashed()) {
                live.insert(entry.seq);
            }
        }
        live
    }

    /// Equal where the same is known
    pub(crate) fn root(&self) -> u64 {
        self.root
    }

    /// The sums of the 256 buckets
    pub(crate) fn buckets(&self) -> &[u64; 256] {
        &self.buckets
    }

    /// Lives that are remembered
    pub(crate) fn life_count(&self) -> usize {
        self.lives.len()
    }

    /// What is known of the lives in these buckets, by owner and incarnation
    pub(crate) fn life_entries(&self, mask: &Mask, clock: Stamp) -> Vec<LifeEntry> {
        let here = self.by_life.iter().filter(|((owner, _), _)| mask.has(bucket_of(*owner)));
        let lives = here.filter_map(|(_, index)| self.lives.get(*index as usize));
        lives.filter(|life| !life.seen.is_empty()).map(|life| life.entry(clock)).collect()
    }

    /// How many lives there are in each bucket
    pub(crate) fn lives_by_bucket(&self) -> [usize; 256] {
        let mut counts = [0; 256];
        for (_, life) in self.lives.iter().filter(|(_, life)| !life.seen.is_empty()) {
            if let Some(count) = counts.get_mut(usize::from(bucket_of(life.owner))) {
                *count += 1;
            }
        }
        counts
    }

    /// How many tuples, and octets, the owner of a life has
    pub(crate) fn totals_of(&self, life: LifeIndex) -> (usize, usize) {
        let totals = self.lives.get(life as usize).and_then(|life| self.totals.get(life.totals as usize));
        totals.map_or((0, 0), |totals| (totals.tuples, totals.octets))
    }

    /// How many writes of a life are here
    pub(crate) fn entries_of(&self, life: LifeIndex) -> usize {
        self.lives.get(life as usize).map_or(0, Life::entries)
    }

    /// What is known of one life
    pub(crate) fn life_entry(&self, life: LifeIndex, clock: Stamp) -> Option<LifeEntry> {
        self.lives.get(life as usize).map(|life| life.entry(clock))
    }

    pub(crate) fn visible_count(&self) -> usize {
        self.visible
    }

    pub(crate) fn hidden_count(&self) -> usize {
        self.hidden
    }

    pub(crate) fn tombstone_count(&self) -> usize {
        self.tombstones
    }

    pub(crate) fn octets(&self) -> usize {
        self.octets
    }

    /// Where a write of this order goes: its key's entry, or a new one; or which entry it loses against
    fn judge(&self, life: LifeIndex, seq: u64, stamp: Stamp, key: &[u8]) -> Result<Option<u32>, u32> {
        let Some(slot) = self.by_key.get(key).copied() else { return Ok(None) };
        let Some(entry) = self.entries.get(slot as usize) else { return Ok(None) };
        let order = |life, seq, stamp| {
            let (owner, incarnation) = self.life_name(life);
            (stamp, owner, incarnation, seq)
        };
        if order(entry.life, entry.seq, entry.stamp) < order(life, seq, stamp) { Ok(Some(slot)) } else { Err(slot) }
    }

    /// Whether there is room for a put in the place of an entry
    fn check_room(&self, life: LifeIndex, place: Option<u32>, key: usize, value: usize) -> Result<(), Refusal> {
        let quotas = &self.quotas;
        if value > quotas.max_value {
            return Err(Refusal::Oversized);
        }
        let totals = self.lives.get(life as usize).map(|life| life.totals);
        let replaced = place.and_then(|slot| self.entries.get(slot as usize));
        let (freed, was_put) = replaced.map_or((0, false), |entry| (entry.octets(), entry.is_put()));
        let of_same =
            replaced.is_some_and(|entry| self.lives.get(entry.life as usize).map(|life| life.totals) == totals);
        let octets = key + value;
        if self.octets - freed + octets > quotas.max_octets {
            return Err(Refusal::OctetQuota);
        }
        let tuples = self.visible + self.hidden + self.reserved - usize::from(was_put);
        if tuples >= quotas.max_tuples {
            return Err(Refusal::KeyQuota);
        }
        let Some(totals) = totals.and_then(|totals| self.totals.get(totals as usize)) else { return Ok(()) };
        if totals.octets - if of_same { freed } else { 0 } + octets > quotas.max_octets_per_owner {
            return Err(Refusal::OctetQuota);
        }
        if totals.tuples - usize::from(of_same && was_put) >= quotas.max_tuples_per_owner {
            return Err(Refusal::KeyQuota);
        }
        Ok(())
    }

    /// Puts a write in its place
    fn place(&mut self, now: Instant, life: LifeIndex, place: Option<u32>, key: Bytes, write: Write, beats: Dots) {
        let (before, lost, before_hash, ended) = match place.and_then(|slot| self.take_out(slot)) {
            Some((entry, shown)) => {
                let dot = self.dot(entry.life, entry.seq);
                let is_beaten = beats.as_ref().is_some_and(|beats| beats.contains(&dot));
                let ended = entry.until();
                let mut lost = entry.lost;
                if !is_beaten {
                    add_dot(&mut lost, dot);
                }
                let hash = match &entry.content {
                    Content::Put { value, .. } => value_hash(value),
                    Content::Deleted { value_hash, .. } => *value_hash,
                };
                (shown, lost, hash, ended)
            }
            None => (None, None, 0, None),
        };
        let content = match write.put {
            None => {
                // What would have ended by itself is nothing that digests speak of: its deletion is remembered for as long
                let until = now + self.tombstone_time.min(FOR_EVER);
                Content::Deleted { value_hash: before_hash, until: ended.map_or(until, |ended| until.max(ended)) }
            }
            Some((lifetime, value)) => Content::Put {
                value,
                kept: match lifetime {
                    Lifetime::Permanent => Kept::Permanent,
                    Lifetime::Ttl(given) => Kept::Ttl { given, until: now + given.min(FOR_EVER) },
                    Lifetime::Session => Kept::Session,
                },
            },
        };
        let entry = Entry { key, content, life, seq: write.seq, stamp: write.stamp, beats, lost };
        let (is_put, octets, hashed, timer) = (entry.is_put(), entry.octets(), entry.is_hashed(), entry.until());
        let is_reserved = is_reserved(&entry.key);
        let after = match &entry.content {
            Content::Put { value, kept } if self.is_shown(life, *kept) => Some(value),
            _ => None,
        };
        let is_shown = after.is_some();
        let is_refreshed = is_shown && timer.is_some();
        let key = (before.as_ref() != after || is_refreshed).then(|| entry.key.clone());
        let slot = match place {
            Some(slot) => {
                if let Some(place) = self.entries.get_mut(slot as usize) {
                    *place = entry;
                }
                slot
            }
            None => {
                let key = entry.key.clone();
                let slot = self.entries.insert(entry) as u32;
                self.by_key.insert(key, slot);
                slot
            }
        };
        self.octets += octets;
        if is_put {
            self.count_visible(is_reserved, is_shown, true);
        } else {
            self.tombstones += 1;
        }
        if let Some(of) = self.lives.get_mut(life as usize) {
            of.add(write.seq, slot, hashed);
            of.last_stamp = of.last_stamp.max(write.stamp);
            if let Some(totals) = self.totals.get_mut(of.totals as usize) {
                totals.octets += octets;
                totals.tuples += usize::from(is_put);
            }
        }
        if let Some(until) = timer {
            self.timers_of(is_put).insert((until, slot));
        }
        self.see(life, write.seq, write.stamp);
        if let Some(key) = key {
            self.changes.push(Change {
                key,
                before,
                cause: if is_put { RemovalCause::OwnerGone } else { RemovalCause::Deleted },
            });
        }
        if self.tombstones > (self.quotas.max_tuples / 4).max(16) {
            self.forget_oldest_tombstone();
        }
    }

    /// Takes an entry's content out of all sums, its place is still there; what it showed comes with it
    fn take_out(&mut self, slot: u32) -> Option<(Entry, Option<Bytes>)> {
        let place = self.entries.get_mut(slot as usize)?;
        let empty = Entry {
            key: place.key.clone(),
            content: Content::Put { value: Bytes::new(), kept: Kept::Permanent },
            life: place.life,
            seq: place.seq,
            stamp: place.stamp,
            beats: None,
            lost: None,
        };
        let entry = std::mem::replace(place, empty);
        let octets = entry.octets();
        let is_put = entry.is_put();
        self.octets -= octets;
        if let Some(until) = entry.until() {
            self.timers_of(is_put).remove(&(until, slot));
        }
        let shown = match &entry.content {
            Content::Put { value, kept } => {
                let is_shown = self.is_shown(entry.life, *kept);
                self.count_visible(is_reserved(&entry.key), is_shown, false);
                is_shown.then(|| value.clone())
            }
            Content::Deleted { .. } => {
                self.tombstones -= 1;
                None
            }
        };
        if let Some(life) = self.lives.get_mut(entry.life as usize) {
            life.drop(entry.seq, entry.is_hashed());
            if let Some(totals) = self.totals.get_mut(life.totals as usize) {
                totals.octets -= octets;
                totals.tuples -= usize::from(is_put);
            }
        }
        self.sum_up(entry.life);
        Some((entry, shown))
    }

    /// Removes an entry: its write is dead from now on
    fn remove(&mut self, slot: u32, cause: RemovalCause) {
        let Some((entry, shown)) = self.take_out(slot) else { return };
        self.by_key.remove(&entry.key);
        self.entries.try_remove(slot as usize);
        if shown.is_some() {
            self.changes.push(Change { key: entry.key, before: shown, cause });
        }
    }

    fn forget_oldest_tombstone(&mut self) {
        if let Some((_, slot)) = self.graves.first().copied() {
            self.remove(slot, RemovalCause::Expired);
        }
    }

    fn timers_of(&mut self, is_put: bool) -> &mut BTreeSet<(Instant, u32)> {
        if is_put { &mut self.timers } else { &mut self.graves }
    }

    fn end_sessions(&mut self, life: LifeIndex, cause: RemovalCause) {
        let Some(of) = self.lives.get_mut(life as usize) else { return };
        of.is_ended = true;
        let slots = of.slots().collect::<Vec<_>>();
        for slot in slots {
            let content = self.entries.get(slot as usize).map(|entry| &entry.content);
            if matches!(content, Some(Content::Put { kept: Kept::Session, .. })) {
                self.remove(slot, cause);
            }
        }
    }

    fn see(&mut self, life: LifeIndex, seq: u64, stamp: Stamp) {
        if let Some(of) = self.lives.get_mut(life as usize) {
            of.seen.insert(seq);
            of.last_stamp = of.last_stamp.max(stamp);
        }
        self.sum_up(life);
    }

    fn see_dead(&mut self, life: LifeIndex, seq: u64, stamp: Stamp) {
        let Some(of) = self.lives.get_mut(life as usize) else { return };
        of.last_stamp = of.last_stamp.max(stamp);
        if of.seen.has_room(seq, MOST_RANGES) && of.seen.insert(seq) {
            self.sum_up(life);
        }
    }

    /// Brings the life's part in the digests up to date
    fn sum_up(&mut self, life: LifeIndex) {
        let Some(life) = self.lives.get_mut(life as usize) else { return };
        let (before, after) = (life.sum, life.digest());
        life.sum = after;
        let change = after.wrapping_sub(before);
        if let Some(sum) = self.buckets.get_mut(usize::from(bucket_of(life.owner))) {
            *sum = sum.wrapping_add(change);
        }
        self.root = self.root.wrapping_add(change);
    }

    fn note_lost(&mut self, winner: u32, dot: Dot) {
        if let Some(entry) = self.entries.get_mut(winner as usize) {
            add_dot(&mut entry.lost, dot);
        }
    }

    fn dot(&self, life: LifeIndex, seq: u64) -> Dot {
        let (owner, incarnation) = self.life_name(life);
        Dot { owner, incarnation, seq }
    }

    fn is_shown(&self, life: LifeIndex, kept: Kept) -> bool {
        !matches!(kept, Kept::Session) || self.lives.get(life as usize).is_some_and(|life| life.is_present)
    }

    fn count_visible(&mut self, is_reserved: bool, is_shown: bool, is_more: bool) {
        let count = match (is_reserved, is_shown) {
            (true, _) => &mut self.reserved,
            (false, true) => &mut self.visible,
            (false, false) => &mut self.hidden,
        };
        *count = if is_more { *count + 1 } else { *count - 1 };
    }

    fn as_tuple(&self, now: Instant, entry: &Entry) -> Option<Tuple> {
        let Content::Put { value, kept } = &entry.content else { return None };
        self.is_shown(entry.life, *kept).then(|| Tuple {
            key: entry.key.clone(),
            value: value.clone(),
            dot: self.dot(entry.life, entry.seq),
            stamp: entry.stamp,
            lifetime: kept.lifetime(),
            remaining: kept.until().map(|until| until.saturating_duration_since(now)),
        })
    }
}

impl Entry {
    fn octets(&self) -> usize {
        self.key.len()
            + match &self.content {
                Content::Put { value, .. } => value.len(),
                Content::Deleted { .. } => 0,
            }
    }

    fn is_put(&self) -> bool {
        matches!(self.content, Content::Put { .. })
    }

    /// Whether the digests speak of it
    fn is_hashed(&self) -> bool {
        matches!(self.content, Content::Put { kept: Kept::Permanent | Kept::Session, .. })
    }

    fn until(&self) -> Option<Instant> {
        match &self.content {
            Content::Put { kept, .. } => kept.until(),
            Content::Deleted { until, .. } => Some(*until),
        }
    }

    fn as_record(&self, now: Instant) -> Record<'_> {
        let body = match &self.content {
            Content::Deleted { .. } => Body::Delete,
            Content::Put { value, kept } => {
                let lifetime = match kept {
                    Kept::Ttl { until, .. } => Lifetime::Ttl(until.saturating_duration_since(now)),
                    other => other.lifetime(),
                };
                Body::Put(lifetime, value)
            }
        };
        let beats = self.beats.as_ref().map(|beats| (**beats).clone()).unwrap_or_default();
        Record { seq: self.seq, stamp: self.stamp, key: &self.key, body, beats }
    }
}

impl Kept {
    fn lifetime(self) -> Lifetime {
        match self {
            Self::Permanent => Lifetime::Permanent,
            Self::Ttl { given, .. } => Lifetime::Ttl(given),
            Self::Session => Lifetime::Session,
        }
    }

    fn until(self) -> Option<Instant> {
        match self {
            Self::Ttl { until, .. } => Some(until),
            _ => None,
        }
    }
}

/// Whether a key is the nodes' own
pub(crate) fn is_reserved(key: &[u8]) -> bool {
    key.starts_with(RESERVED)
}

/// Keys of the nodes themselves begin so
pub(crate) const RESERVED: &[u8] = b"$tidings/";

fn add_dot(dots: &mut Dots, dot: Dot) {
    let dots = dots.get_or_insert_default();
    if !dots.contains(&dot) {
        // The latest are the likeliest to come again
        if dots.len() >= MOST_BEATS {
            dots.remove(0);
        }
        dots.push(dot);
    }
}

/// Lives of one owner, at least
const LEAST_LIVES: usize = 16;
/// A value of so many octets may stay when the key has another, as it is one allocation with the key
const SMALL: usize = 256;
/// Longer than any node runs, and no instant is beyond the clock's
const FOR_EVER: Duration = Duration::from_secs(100 * 366 * 24 * 3600);
