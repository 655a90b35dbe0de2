//! Our own wire, which nodes speak that know each other by the property `X-Gossip: tidings/1`.

use crate::event::MemberStatus;
use crate::record::{Incarnation, NodeId};

/// What is believed of a member, as nodes tell each other
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusUpdate {
    /// Of whom
    pub id: NodeId,
    /// In which of its lives
    pub incarnation: Incarnation,
    /// How often it has contradicted in that life
    pub refutation: u64,
    /// What; never `Forgotten`
    pub status: MemberStatus,
    /// Who was the first to say so
    pub accuser: NodeId,
}

/// A node that somebody could connect to
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Who
    pub id: NodeId,
    /// Where
    pub endpoint: String,
}
