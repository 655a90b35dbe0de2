//! What can be wrong with a message, by name.

use super::{Role, Wire};

/// Why a message is no command of any wire
///
/// Each cause has a [`name`](Self::name) that counters bear; it doesn't change from release to release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// No frame says which protocol it is
    #[error(
        "no frame names a protocol; the first or the one behind an empty frame should be MDPC01, MDPW01 or the like"
    )]
    UnknownHeader,
    /// More routing ids stand in front than a way back may have, or longer ones
    #[error("more than 8 routing ids stand in front of the empty frame, or one of more than 255 octets")]
    PathTooLong,
    /// The empty frame in front of MDP 0.1's header is missing
    #[error("the empty frame in front of the header is missing; a DEALER has to send it itself")]
    NoDelimiter,
    /// A worker's message has routing ids in front
    #[error("a worker can't come through a proxy: liveness is that of a connection")]
    WorkerBehindProxy,
    /// Nothing follows the header
    #[error("no command follows the header")]
    NoCommand,
    /// The command's code is none of the protocol's
    #[error("the command code is none that the protocol has")]
    UnknownCommand,
    /// The command is one that the other side sends
    #[error("the command is one that only the other side sends")]
    UnexpectedCommand,
    /// The service is missing or its name empty
    #[error("the name of the service is missing or empty")]
    NoService,
    /// The service's name has more than 255 octets
    #[error("the name of the service has more than 255 octets")]
    ServiceTooLong,
    /// A reply doesn't say whose
    #[error("the reply does not name the request it answers")]
    NoAddress,
    /// The empty frame between address and body is missing
    #[error("the empty frame behind the address is missing")]
    NoAddressDelimiter,
    /// More frames than the command has
    #[error("more frames follow than the command has")]
    TrailingFrames,
    /// A number isn't as long as it should be
    #[error("the number of the request does not have 8 octets")]
    BadId,
    /// The status isn't three digits
    #[error("the status is not three digits")]
    BadStatus,
    /// An option is cut short, unknown, said twice or out of place
    #[error("an option is cut short, not known, said twice or out of place")]
    BadOptions,
    /// The one frame of a zproto message is not what its signature promises
    #[error("the frame with zproto's signature is cut short or does not fit together")]
    BadZproto,
}

impl Malformed {
    /// All causes
    pub const ALL: [Self; 16] = [
        Self::UnknownHeader,
        Self::PathTooLong,
        Self::NoDelimiter,
        Self::WorkerBehindProxy,
        Self::NoCommand,
        Self::UnknownCommand,
        Self::UnexpectedCommand,
        Self::NoService,
        Self::ServiceTooLong,
        Self::NoAddress,
        Self::NoAddressDelimiter,
        Self::TrailingFrames,
        Self::BadId,
        Self::BadStatus,
        Self::BadOptions,
        Self::BadZproto,
    ];

    /// Its name in counters and events
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnknownHeader => "unknown-header",
            Self::PathTooLong => "path-too-long",
            Self::NoDelimiter => "no-delimiter",
            Self::WorkerBehindProxy => "worker-behind-proxy",
            Self::NoCommand => "no-command",
            Self::UnknownCommand => "unknown-command",
            Self::UnexpectedCommand => "unexpected-command",
            Self::NoService => "no-service",
            Self::ServiceTooLong => "service-too-long",
            Self::NoAddress => "no-address",
            Self::NoAddressDelimiter => "no-address-delimiter",
            Self::TrailingFrames => "trailing-frames",
            Self::BadId => "bad-id",
            Self::BadStatus => "bad-status",
            Self::BadOptions => "bad-options",
            Self::BadZproto => "bad-zproto",
        }
    }
}

/// A message that a broker can't read, and whose it is as far as can be told
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{cause}")]
pub struct Rejected {
    /// What is wrong with it
    #[source]
    pub cause: Malformed,
    /// The wire, and the side that speaks, if the header told
    pub from: Option<(Wire, Role)>,
    /// The client's number for the request, where there is one that can be refused
    pub id: Option<u64>,
}

impl Rejected {
    pub(super) fn of(cause: Malformed, wire: Wire, role: Role) -> Self {
        Self { cause, from: Some((wire, role)), id: None }
    }
}

impl From<Malformed> for Rejected {
    fn from(cause: Malformed) -> Self {
        Self { cause, from: None, id: None }
    }
}

/// The wire has no word for it
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{wire} has no word for '{what}'")]
pub struct NotOnThisWire {
    /// What was to be said
    pub what: &'static str,
    /// The wire
    pub wire: Wire,
}
