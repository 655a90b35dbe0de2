//! What is known of one life of an owner.

use std::collections::BTreeMap;

use super::digest;
use crate::context::Ranges;
use crate::record::{Incarnation, NodeId, Stamp};
use crate::wire::tidings::LifeEntry;

/// One life: what was seen of it, and which of that is in the table
pub(super) struct Life {
    pub(super) owner: NodeId,
    pub(super) incarnation: Incarnation,
    pub(super) totals: u32,
    pub(super) seen: Ranges,
    /// Its entries by their numbers. They may come in any order, so that no place in it may cost more than another
    index: BTreeMap<u64, u32>,
    live_hash: u64,
    live_count: u64,
    pub(super) last_stamp: Stamp,
    /// Its part of the digests as they are
    pub(super) sum: u64,
    seed: u64,
    /// Whether its owner is there: otherwise its Session tuples are hidden
    pub(super) is_present: bool,
    /// Whether its Session tuples are dead, as its owner lives another life
    pub(super) is_ended: bool,
}

impl Life {
    pub(super) fn new(owner: NodeId, incarnation: Incarnation, totals: u32) -> Self {
        Self {
            owner,
            incarnation,
            totals,
            seen: Ranges::new(),
            index: BTreeMap::new(),
            live_hash: 0,
            live_count: 0,
            last_stamp: Stamp(0),
            sum: 0,
            seed: digest::of_life(owner, incarnation),
            is_present: true,
            is_ended: false,
        }
    }

    /// An entry of it is in the table
    pub(super) fn add(&mut self, seq: u64, slot: u32, is_hashed: bool) {
        self.index.insert(seq, slot);
        if is_hashed {
            self.live_hash = self.live_hash.wrapping_add(digest::of_dot(self.seed, seq));
            self.live_count += 1;
        }
    }

    /// An entry of it is there no longer
    pub(super) fn drop(&mut self, seq: u64, was_hashed: bool) {
        self.index.remove(&seq);
        if was_hashed {
            self.live_hash = self.live_hash.wrapping_sub(digest::of_dot(self.seed, seq));
            self.live_count -= 1;
        }
    }

    /// Where the write of that number is
    pub(super) fn find(&self, seq: u64) -> Option<u32> {
        self.index.get(&seq).copied()
    }

    /// Where the writes from `first` to `last` are that are there
    pub(super) fn between(&self, first: u64, last: u64) -> impl Iterator<Item = u32> + '_ {
        // An empty range would be a panic
        let range = (first <= last).then(|| self.index.range(first..=last));
        range.into_iter().flatten().map(|(_, slot)| *slot)
    }

    /// Where all are that are there
    pub(super) fn slots(&self) -> impl Iterator<Item = u32> + '_ {
        self.index.values().copied()
    }

    /// How many are there
    pub(super) fn entries(&self) -> usize {
        self.index.len()
    }

    pub(super) fn digest(&self) -> u64 {
        digest::of_knowledge(self.seed, &self.seen, self.live_hash)
    }

    /// As other nodes are told
    pub(super) fn entry(&self, clock: Stamp) -> LifeEntry {
        LifeEntry {
            owner: self.owner,
            incarnation: self.incarnation,
            seen: self.seen.clone(),
            live_hash: self.live_hash,
            live_count: self.live_count,
            age: clock.0.saturating_sub(self.last_stamp.0) / 1_000_000,
        }
    }

    /// Its numbers in the index, for checking
    pub(super) fn numbers(&self) -> impl Iterator<Item = (u64, u32)> + '_ {
        self.index.iter().map(|(seq, slot)| (*seq, *slot))
    }

    /// The sum over its entries that digests speak of, for checking
    pub(super) fn hash_of(&self, seqs: impl Iterator<Item = u64>) -> (u64, u64) {
        seqs.fold((0, 0), |(sum, count): (u64, u64), seq| (sum.wrapping_add(digest::of_dot(self.seed, seq)), count + 1))
    }

    pub(super) fn live(&self) -> (u64, u64) {
        (self.live_hash, self.live_count)
    }
}
