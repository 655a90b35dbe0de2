//! Close reasons: why a connection ended, sorted by who must act.

use std::{io, time::Duration};

use crate::{
    command::CommandError, entropy::EntropyError, frame::FrameError, greeting::Version, properties::MetadataError,
    socket_type::SocketType,
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
    /// Another command in the handshake than the one that was due, or ERROR
    #[error("peer sent {name:?} where {due} was due{}",
        if name == "HELLO" { ", as one does that is a client of its mechanism as we are" } else { "" })]
    UnexpectedCommand {
        /// The command's name, escaped
        name: String,
        /// The name of the one that should have come
        due: &'static str,
    },
    /// A handshake command of a size that it never has; the peer's encoder is broken
    #[error("peer sent {command} with {octets} octets, a size that it never has")]
    WrongSize {
        /// The command's name
        command: &'static str,
        /// Octets of its body
        octets: usize,
    },
    /// HELLO asks for another version of CURVE than 1.0, the only one there is
    #[error("peer speaks CURVE {major}.{minor}, we 1.0")]
    CurveVersion {
        /// Major version
        major: u8,
        /// Minor version
        minor: u8,
    },
    /// The padding of HELLO is not zero; the peer's encoder is broken
    #[error("the padding of the peer's HELLO is not zero")]
    HelloPadding,
    /// A box does not open: it was made with another key, or altered on its way
    #[error("the peer's {} can't be opened: {}", _0.name(), _0.suspicion())]
    NotOpened(SealedCommand),
    /// INITIATE came with a cookie that this connection has not given
    #[error("the peer brought back a cookie that was altered, or given on another connection")]
    CookieNotOurs,
    /// The client did not prove that it holds the permanent key it claims
    #[error("the peer can't vouch for its key: it does not hold the secret half")]
    VouchNotOpened,
    /// The client's proof is good, but for another connection or another server
    #[error("the peer's vouch was made for another connection or another server")]
    VouchForAnother,
    /// A sealed frame was played again, or out of order
    #[error("peer sent nonce {nonce} after {last}: a frame was played again, or out of order")]
    Replayed {
        /// What came
        nonce: u64,
        /// The highest before
        last: u64,
    },
    /// Something came in clear that only counts when sealed
    #[error("a frame came in clear on a sealed connection; somebody may have put it in")]
    NotSealed,
    /// A sealed frame has flags that mean nothing; the peer's encoder is broken
    #[error("a sealed frame has the flags {flags:#04x}, of which we know 0x03")]
    UnknownFlags {
        /// The octet
        flags: u8,
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
    /// We refuse the peer, since the owner's verdict was so
    #[error("refused with {code}: {reason}")]
    Denied {
        /// 300, 400 or 500 (RFC 27, "Status Codes")
        code: u16,
        /// The authenticator's words
        reason: String,
    },
    /// The server's key is one with which no secret can be shared: no server has it
    #[error("the server's public key is one that no server has")]
    WeakKey,
    /// The counter of frames has come to its end; dial again for a new one
    #[error("as many frames were sealed as one connection can have")]
    NonceExhausted,
    /// Without randomness there are no keys
    #[error("{0}")]
    NoEntropy(#[from] EntropyError),
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
    /// What came was altered, played again, or made with another key: whoever gave out the keys, or whoever sits between
    ///
    /// That may be anybody on the way, so it says nothing of the peer.
    Untrusted,
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
            | Self::RoutingIdTooLong { .. }
            | Self::WrongSize { .. }
            | Self::HelloPadding
            | Self::UnknownFlags { .. } => Family::PeerMisbehaved,
            Self::NotOpened(_)
            | Self::CookieNotOurs
            | Self::VouchNotOpened
            | Self::VouchForAnother
            | Self::Replayed { .. }
            | Self::NotSealed => Family::Untrusted,
            Self::MechanismMismatch { .. }
            | Self::IncompatibleSocketType { .. }
            | Self::VersionTooOld { .. }
            | Self::CurveVersion { .. }
            | Self::WeakKey => Family::PeerIncompatible,
            Self::ErrorReceived { .. } | Self::Denied { .. } => Family::Refused,
            Self::HandshakeTimedOut { .. }
            | Self::HeartbeatTimedOut { .. }
            | Self::TtlExpired { .. }
            | Self::PeerClosed { .. }
            | Self::TransportFailed(_) => Family::TransportLost,
            Self::ClosedLocally | Self::NonceExhausted | Self::NoEntropy(_) => Family::Local,
        }
    }

    /// Whether dialling again can't help until somebody changes something
    pub const fn is_definite(&self) -> bool {
        match self.family() {
            Family::PeerMisbehaved | Family::PeerIncompatible | Family::Refused => true,
            // Whoever can alter what passes could otherwise keep us from the peer for good.
            Family::Untrusted | Family::TransportLost | Family::Local => false,
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
            Self::WrongSize { .. } => "wrong-size",
            Self::CurveVersion { .. } => "curve-version",
            Self::HelloPadding => "hello-padding",
            Self::NotOpened(SealedCommand::Hello) => "hello-not-opened",
            Self::NotOpened(SealedCommand::Welcome) => "welcome-not-opened",
            Self::NotOpened(SealedCommand::Initiate) => "initiate-not-opened",
            Self::NotOpened(SealedCommand::Ready) => "ready-not-opened",
            Self::NotOpened(SealedCommand::Message) => "message-not-opened",
            Self::CookieNotOurs => "cookie-not-ours",
            Self::VouchNotOpened => "vouch-not-opened",
            Self::VouchForAnother => "vouch-for-another",
            Self::Replayed { .. } => "replayed",
            Self::NotSealed => "not-sealed",
            Self::UnknownFlags { .. } => "unknown-flags",
            Self::Denied { .. } => "denied",
            Self::WeakKey => "weak-key",
            Self::NonceExhausted => "nonce-exhausted",
            Self::NoEntropy(_) => "no-entropy",
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

/// The commands of CURVE that come in a box (RFC 26)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SealedCommand {
    /// The client's first
    Hello,
    /// The server's answer, with the cookie
    Welcome,
    /// The client shows who it is
    Initiate,
    /// The server lets it in
    Ready,
    /// A frame of a message, or a command in traffic
    Message,
}

impl SealedCommand {
    const fn name(self) -> &'static str {
        match self {
            Self::Hello => "HELLO",
            Self::Welcome => "WELCOME",
            Self::Initiate => "INITIATE",
            Self::Ready => "READY",
            Self::Message => "MESSAGE",
        }
    }

    /// What is most likely behind it
    const fn suspicion(self) -> &'static str {
        match self {
            Self::Hello => "it was made for a server with another key, or altered on its way",
            Self::Welcome => {
                "it was made by a server with another key than the one we were told, or altered on its way"
            }
            Self::Initiate | Self::Ready | Self::Message => "it was altered on its way",
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
