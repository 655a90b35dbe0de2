//! Hashes that are equal where the same is known. They are sums, so that each change costs the same however much is known.
//!
//! They guard against loss, not against malice: who can make two sets with one sum only delays what would be repaired.

use std::hash::{BuildHasher, Hasher};
use std::sync::LazyLock;

use foldhash::quality::FixedState;

use crate::context::Ranges;
use crate::record::{Incarnation, NodeId};

/// The finalizer of SplitMix64: each bit of the input moves half of the output's
pub(crate) const fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// Which of the 256 buckets an owner's lives are in
pub(crate) const fn bucket_of(owner: NodeId) -> u8 {
    (mix(owner.0) >> 56) as u8
}

pub(super) const fn of_life(owner: NodeId, incarnation: Incarnation) -> u64 {
    mix(mix(owner.0).wrapping_add(incarnation.0))
}

pub(super) const fn of_dot(life: u64, seq: u64) -> u64 {
    mix(life.wrapping_add(seq.wrapping_mul(0xd6e8_feb8_6659_fd93)))
}

pub(super) fn of_knowledge(life: u64, seen: &Ranges, live_hash: u64) -> u64 {
    if seen.is_empty() {
        return 0;
    }
    seen.iter().fold(mix(life ^ live_hash), |sum, (first, last)| mix(sum ^ first).wrapping_add(last))
}

/// The hash of a value, for comparing within one process
pub(crate) fn value_hash(value: &[u8]) -> u64 {
    hash(&VALUES, value)
}

/// What stands for a key where there may be very many, within one process
pub(crate) fn key_hash(key: &[u8]) -> u64 {
    hash(&KEYS, key)
}

fn hash(state: &FixedState, octets: &[u8]) -> u64 {
    let mut hasher = state.build_hasher();
    hasher.write(octets);
    hasher.finish()
}

/// Nobody foresees which octets have one hash. Nothing that is sent or told depends on these numbers, only whether two are equal
static VALUES: LazyLock<FixedState> = LazyLock::new(seeded);
static KEYS: LazyLock<FixedState> = LazyLock::new(seeded);

fn seeded() -> FixedState {
    FixedState::with_seed(std::collections::hash_map::RandomState::new().build_hasher().finish())
}
