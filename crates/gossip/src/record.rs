//! What is spread: tuples, and the names of nodes, lives and writes.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;

/// Who a node is, for as long as it has the same key or the same state directory; shown as 16 hexadecimal digits
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u64);

impl NodeId {
    /// The id of the node that has this CURVE public key: the first 8 octets of its SHA-256
    #[must_use]
    pub fn of_key(public_key: &[u8; 32]) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, public_key);
        let first = digest.as_ref().first_chunk().copied().unwrap_or_default();
        Self(u64::from_be_bytes(first))
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for NodeId {
    type Err = std::num::ParseIntError;

    /// Up to 16 hexadecimal digits
    ///
    /// # Errors
    /// The text is something else.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

/// One life of a node: Unix milliseconds of when it began, so that it is greater in each life
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Incarnation(pub u64);

/// When a write was made, as all nodes order it: microseconds since the Unix epoch, or more where clocks disagree
///
/// A hybrid logical clock: a node's next stamp is its own wall clock, or one more than the greatest stamp that it has seen.
/// Of two writes to one key the greater (stamp, owner) wins everywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stamp(pub u64);

/// One write of one node's life; `seq` counts 1, 2, 3 … without gaps
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Dot {
    /// Who wrote
    pub owner: NodeId,
    /// In which life
    pub incarnation: Incarnation,
    /// Its how-manieth write in that life
    pub seq: u64,
}

/// How long a tuple lives
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Lifetime {
    /// Until it is overwritten or deleted
    #[default]
    Permanent,
    /// This long, unless its owner writes it again before; a node that hears of it counts what remains on its own clock. Whole milliseconds
    Ttl(Duration),
    /// As long as this life of its owner: hidden while the owner is gone, dead when it begins another
    Session,
}

/// A key, its value, and whose it is
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tuple {
    /// Up to 255 octets
    pub key: Bytes,
    /// What was put
    pub value: Bytes,
    /// The write that it is from
    pub dot: Dot,
    /// How the write is ordered among others
    pub stamp: Stamp,
    /// As it was given when it was put; for a tuple of others, `Ttl` holds what remained when it came
    pub lifetime: Lifetime,
    /// What remains of a `Ttl`, when this was made
    pub remaining: Option<Duration>,
}
