//! What a node tells of what happens, and what it counts.

use std::time::Duration;

use bytes::Bytes;

use crate::config::{LinkId, Side, Wire};
use crate::record::{Incarnation, NodeId, Tuple};

/// Something that happened to a node
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A key has a new value; a refreshed tuple with the value that it had is none. The nodes' own keys, which begin with
    /// `$tidings/`, are told of as well: to be kept from applications that did not ask for them
    Put {
        /// What is known now
        tuple: Tuple,
        /// The value that the key had
        previous: Option<Bytes>,
    },
    /// A key has no value any more
    Removed {
        /// Which
        key: Bytes,
        /// Why
        cause: RemovalCause,
    },
    /// A member came, went, or is doubted
    Member(MemberChange),
    /// A link came or went
    Link(LinkChange),
    /// Nodes that know no order of writes keep overwriting a key: it is held at one value until they stop
    Contested {
        /// Which
        key: Bytes,
        /// What it is given, in octet order, of each the first 256 octets
        values: Vec<Bytes>,
        /// What it is held at
        winner: Bytes,
    },
    /// A contested key is so no longer
    Settled {
        /// Which
        key: Bytes,
    },
    /// What a peer sent was not taken; at most one of a cause a second
    Refused {
        /// Whose
        link: LinkId,
        /// Why
        cause: Refusal,
        /// How often since the last of these
        count: u64,
    },
    /// Events were dropped because nobody fetched them: what is known has to be read anew
    Missed {
        /// How many
        count: u64,
    },
}

/// Why a key has no value any more
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RemovalCause {
    /// Somebody removed it
    Deleted,
    /// Its time was over
    Expired,
    /// It lives as long as its owner, who is gone for now
    OwnerGone,
    /// It was dead elsewhere already, and this node learnt so from a digest
    Superseded,
}

impl RemovalCause {
    /// Its name in logs and on the wire of the actor
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Deleted => "deleted",
            Self::Expired => "expired",
            Self::OwnerGone => "owner-gone",
            Self::Superseded => "superseded",
        }
    }
}

/// What is believed of a member
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MemberStatus {
    /// It answers
    Up,
    /// Somebody doesn't hear from it; it has some time to say otherwise
    Suspect,
    /// It is taken for dead
    Gone,
    /// It said goodbye
    Left,
    /// It was gone for so long that it is listed no longer
    Forgotten,
}

impl MemberStatus {
    /// Its name in logs and listings
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Suspect => "suspect",
            Self::Gone => "gone",
            Self::Left => "left",
            Self::Forgotten => "forgotten",
        }
    }
}

/// A member's status is another
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberChange {
    /// Whose
    pub id: NodeId,
    /// In which life
    pub incarnation: Incarnation,
    /// What it is called, as far as it is known
    pub name: String,
    /// What it is now
    pub status: MemberStatus,
    /// What it was; `None` for a new one
    pub previous: Option<MemberStatus>,
    /// Who says so, if it is not this node itself
    pub accuser: Option<NodeId>,
}

/// A member, as it is known now
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Who
    pub id: NodeId,
    /// In which life
    pub incarnation: Incarnation,
    /// What it is called, as far as it is known
    pub name: String,
    /// Where it may be connected to, as it says
    pub endpoints: Vec<String>,
    /// What is believed of it
    pub status: MemberStatus,
    /// For how long
    pub since: Duration,
    /// Whether it is at the other end of a link
    pub is_neighbour: bool,
}

/// How far a node trusts its own senses: 0 is well, 8 is the worst
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Health(pub u8);

/// What happened to a link
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkChange {
    /// Which
    pub link: LinkId,
    /// Where to
    pub endpoint: String,
    /// Who is at the other end; `None` for a peer that speaks ZGP, or that has said nothing yet
    pub node: Option<NodeId>,
    /// What is spoken
    pub wire: Wire,
    /// Whether it is up; otherwise why it is not
    pub state: Result<(), String>,
}

/// A link, as it is now
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkState {
    /// Which
    pub link: LinkId,
    /// Where to
    pub endpoint: String,
    /// Our end of it
    pub side: Side,
    /// What is spoken
    pub wire: Wire,
    /// Who is at the other end; `None` for a peer that speaks ZGP, or that has said nothing yet
    pub node: Option<NodeId>,
    /// What the peer is called, as it says
    pub name: String,
    /// Whether changes go over it, rather than digests alone
    pub is_active: bool,
    /// What it is for the spreading: `unproven`, `tree`, `lazy`, `resting`; for ZGP the state of its machine: `start`, `connected`
    pub role: &'static str,
    /// Frames sent
    pub frames_out: u64,
    /// Octets sent, without ZMTP's own
    pub octets_out: u64,
    /// Frames received
    pub frames_in: u64,
    /// Octets received
    pub octets_in: u64,
    /// Messages that were refused
    pub refused: u64,
}

/// Why a node wants a connection ended
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HangUp {
    /// The peer sent too much that is malformed
    Malformed,
    /// The peer has the id of this node
    SameId,
    /// The peer's id is not of its CURVE key
    ForgedId,
    /// There is another link to the same node already
    Duplicate,
    /// There are more links than [`max_links`](crate::NodeConfig::max_links); the peer was told of others
    Crowded,
    /// The node leaves
    Leaving,
    /// The peer said goodbye
    Left,
    /// The peer took nothing for too long
    Stuck,
}

impl HangUp {
    /// Its name in logs
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::SameId => "same-id",
            Self::ForgedId => "forged-id",
            Self::Duplicate => "duplicate",
            Self::Crowded => "crowded",
            Self::Leaving => "leaving",
            Self::Left => "left",
            Self::Stuck => "stuck",
        }
    }
}

macro_rules! refusals {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)+) => {
        /// Why something that a peer sent was not taken
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Refusal { $($(#[$doc])* $variant,)+ }

        impl Refusal {
            /// All there are
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Its name in logs and metrics
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

refusals! {
    /// The message has more than one frame, or none
    Frames = "frames",
    /// The signature is of no wire that is spoken
    Signature = "signature",
    /// The version is another
    Version = "version",
    /// There is no such message
    UnknownMessage = "unknown-message",
    /// It ends early, or holds a number that can't be
    Malformed = "malformed",
    /// A key of more than 255 octets, or a value of more than is allowed
    Oversized = "oversized",
    /// More tuples than there may be
    KeyQuota = "key-quota",
    /// More octets than there may be
    OctetQuota = "octet-quota",
    /// More owners than there may be
    OwnerQuota = "owner-quota",
    /// A record that only its owner may write, or one of ours that we never wrote
    ForgedOwner = "forged-owner",
    /// An id that is ours, or not of the peer's CURVE key
    ForgedId = "forged-id",
    /// A stamp that is far ahead
    ClockLift = "clock-lift",
    /// A digest of things that its sender doesn't have
    LyingDigest = "lying-digest",
    /// A message before HELLO, or one that its sender may not send
    OutOfState = "out-of-state",
    /// A reserved key from a peer that speaks ZGP
    ReservedKey = "reserved-key",
    /// A value of a contested key that is not the one that it is held at
    Contested = "contested",
    /// A value that was deleted, sent again by a peer that doesn't know
    Deleted = "deleted",
    /// A value that was overwritten, sent again by a peer that doesn't know
    Stale = "stale",
    /// More messages of a kind than anybody needs
    Flood = "flood",
    /// A link with a node that has another already
    Duplicate = "duplicate",
}

/// How often each [`Refusal`] happened
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    counts: [u64; Refusal::ALL.len()],
}

impl Refusals {
    /// How often this one did
    #[must_use]
    pub fn count(&self, cause: Refusal) -> u64 {
        self.counts.get(cause as usize).copied().unwrap_or(0)
    }

    /// Each of them
    pub fn iter(&self) -> impl Iterator<Item = (Refusal, u64)> + '_ {
        Refusal::ALL.iter().map(|cause| (*cause, self.count(*cause)))
    }

    pub(crate) fn add(&mut self, cause: Refusal, count: u64) {
        if let Some(counter) = self.counts.get_mut(cause as usize) {
            *counter += count;
        }
    }
}
