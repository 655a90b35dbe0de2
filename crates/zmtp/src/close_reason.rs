//! Close reasons: why a connection ended, sorted by who must act.

use std::{io, time::Duration};

use crate::{
    command::CommandError, frame::FrameError, greeting::Version, properties::MetadataError, socket_type::SocketType,
};

/// Why a connection ended, with the facts
///
/// What a peer sent appears escaped and cut, so that the text is safe to log.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// A frame announced more octets than [`Config::max_frame`](crate::Config::max_frame), or than a handshake
    /// may take; raise the ceiling if the peer is in the right
    #[error("peer announced a frame of {octets} octets where {ceiling} are accepted")]
    FrameTooLarge {
        /// Octets of the frame's body
        octets: u64,
        /// The most accepted at that point
        ceiling: u64,
    },
    /// The frames of one message came to more than [`Config::max_message`](crate::Config::max_message)
    #[error("peer sent a message of {octets} octets or more where {ceiling} are accepted")]
    MessageTooLarge {
        /// Octets of the message up to the frame that was one too many
        octets: u64,
        /// The most accepted
        ceiling: u64,
    },
    /// A message had more frames than [`Config::max_frames_per_message`](crate::Config::max_frames_per_message)
    #[error("peer sent a message of more than {ceiling} frames")]
    TooManyFrames {
        /// The most accepted
        ceiling: usize,
    },
    /// A frame header no version of the protocol has; the peer probably isn't one
    #[error("peer sent a malformed frame: {0}")]
    MalformedFrame(FrameError),
    /// A command that ends too early; the peer's encoder is broken
    #[error("peer sent a malformed command: {0}")]
    MalformedCommand(CommandError),
    /// READY with metadata that can't be read; the peer's encoder is broken
    #[error("peer sent malformed metadata: {0}")]
    MalformedMetadata(MetadataError),
    /// Something else than READY or ERROR in the NULL handshake
    #[error("peer sent {name:?} where READY was due")]
    UnexpectedCommand {
        /// The command's name, escaped
        name: String,
    },
    /// A routing id longer than the protocol allows
    #[error("peer announced a routing id of {octets} octets where 255 are allowed")]
    RoutingIdTooLong {
        /// Octets of the routing id
        octets: u64,
    },
    /// The peer wants another security mechanism; configure both sides alike
    #[error("peer uses mechanism {theirs:?}, we use {ours}")]
    MechanismMismatch {
        /// Our mechanism
        ours: &'static str,
        /// The peer's, escaped
        theirs: String,
    },
    /// Sockets of these types don't talk; one side connects to the wrong endpoint
    #[error("a {ours} socket has no use for a {theirs} peer")]
    IncompatibleSocketType {
        /// Our type
        ours: SocketType,
        /// What the peer called itself, escaped
        theirs: String,
    },
    /// The peer speaks an older version than we accept
    #[error("peer speaks ZMTP {}.{}, the oldest accepted is {}.{}",
        theirs.numbers().0, theirs.numbers().1, oldest.numbers().0, oldest.numbers().1)]
    VersionTooOld {
        /// What the peer speaks
        theirs: Version,
        /// [`Config::oldest_version`](crate::Config::oldest_version), or 3.0 where the mechanism needs it
        oldest: Version,
    },
    /// The peer said ERROR: it refuses us, and asking again won't help
    #[error("peer refused: {reason:?}")]
    ErrorReceived {
        /// What the peer said, escaped
        reason: String,
    },
    /// The handshake took too long; dialling again may help
    #[error("the handshake was not done after {after:?}")]
    HandshakeTimedOut {
        /// [`Config::handshake_timeout`](crate::Config::handshake_timeout)
        after: Duration,
    },
    /// Nothing was heard after a PING; dialling again may help
    #[error("nothing heard for {after:?} after a PING")]
    HeartbeatTimedOut {
        /// The heartbeat's timeout
        after: Duration,
    },
    /// Nothing was heard for as long as the peer itself had promised to speak; dialling again may help
    #[error("nothing heard for {after:?}, the time to live that the peer had announced")]
    TtlExpired {
        /// What the last PING had announced
        after: Duration,
    },
    /// The peer closed the byte stream; dialling again may help
    #[error("peer closed the connection{}{}",
        if *mid_handshake {
            " during the handshake, as one does that has no use for this socket's type or mechanism"
        } else {
            ""
        },
        if *mid_frame { ", in the middle of a frame or message" } else { "" })]
    PeerClosed {
        /// A frame, or a message of several, was begun and not ended: it is lost
        mid_frame: bool,
        /// The handshake was not done
        mid_handshake: bool,
    },
    /// The byte stream failed; dialling again may help
    #[error("the transport failed: {0}")]
    TransportFailed(io::ErrorKind),
    /// Our own side ended it
    #[error("closed by us")]
    ClosedLocally,
}

/// Who must act on a [`CloseReason`]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Family {
    /// The peer broke the protocol or our ceilings: whoever wrote it
    PeerMisbehaved,
    /// The peer is sound, but not for us: whoever configured the two
    PeerIncompatible,
    /// The peer said no: whoever runs it
    Refused,
    /// The way to the peer is gone: time, mostly
    TransportLost,
    /// Nobody: we ended it
    Local,
}

impl CloseReason {
    /// Who must act
    pub const fn family(&self) -> Family {
        match self {
            Self::FrameTooLarge { .. }
            | Self::MessageTooLarge { .. }
            | Self::TooManyFrames { .. }
            | Self::MalformedFrame(_)
            | Self::MalformedCommand(_)
            | Self::MalformedMetadata(_)
            | Self::UnexpectedCommand { .. }
            | Self::RoutingIdTooLong { .. } => Family::PeerMisbehaved,
            Self::MechanismMismatch { .. } | Self::IncompatibleSocketType { .. } | Self::VersionTooOld { .. } => {
                Family::PeerIncompatible
            }
            Self::ErrorReceived { .. } => Family::Refused,
            Self::HandshakeTimedOut { .. }
            | Self::HeartbeatTimedOut { .. }
            | Self::TtlExpired { .. }
            | Self::PeerClosed { .. }
            | Self::TransportFailed(_) => Family::TransportLost,
            Self::ClosedLocally => Family::Local,
        }
    }

    /// Whether dialling again can't help until somebody changes something
    pub const fn is_definite(&self) -> bool {
        match self.family() {
            Family::PeerMisbehaved | Family::PeerIncompatible | Family::Refused => true,
            Family::TransportLost | Family::Local => false,
        }
    }

    /// A label for metrics and matching, that never changes
    pub const fn name(&self) -> &'static str {
        match self {
            Self::FrameTooLarge { .. } => "frame-too-large",
            Self::MessageTooLarge { .. } => "message-too-large",
            Self::TooManyFrames { .. } => "too-many-frames",
            Self::MalformedFrame(_) => "malformed-frame",
            Self::MalformedCommand(_) => "malformed-command",
            Self::MalformedMetadata(_) => "malformed-metadata",
            Self::UnexpectedCommand { .. } => "unexpected-command",
            Self::RoutingIdTooLong { .. } => "routing-id-too-long",
            Self::MechanismMismatch { .. } => "mechanism-mismatch",
            Self::IncompatibleSocketType { .. } => "incompatible-socket-type",
            Self::VersionTooOld { .. } => "version-too-old",
            Self::ErrorReceived { .. } => "error-received",
            Self::HandshakeTimedOut { .. } => "handshake-timed-out",
            Self::HeartbeatTimedOut { .. } => "heartbeat-timed-out",
            Self::TtlExpired { .. } => "ttl-expired",
            Self::PeerClosed { .. } => "peer-closed",
            Self::TransportFailed(_) => "transport-failed",
            Self::ClosedLocally => "closed-locally",
        }
    }
}

impl From<FrameError> for CloseReason {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::TooLong { octets, ceiling } => Self::FrameTooLarge { octets, ceiling },
            FrameError::ZeroLength => Self::MalformedFrame(error),
        }
    }
}

impl From<CommandError> for CloseReason {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::Metadata(error) => Self::MalformedMetadata(error),
            CommandError::Name | CommandError::Ping => Self::MalformedCommand(error),
        }
    }
}

/// A peer's octets as text that is safe to log: escaped, and cut to 255 octets
pub(crate) fn printable(octets: &[u8]) -> String {
    octets.get(..255).unwrap_or(octets).escape_ascii().to_string()
}
