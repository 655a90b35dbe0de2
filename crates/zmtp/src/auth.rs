//! Authentication: what a peer shows of itself, and what the connection's owner makes of it.
//!
//! Who decides, and by what, is the owner's affair: ZAP (RFC 27), a key store, anything.

use std::fmt;

use bytes::Bytes;
use zeroize::Zeroizing;

use crate::{keys::CurvePublicKey, properties::Properties};

/// What a peer shows to be let in, by its mechanism
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Credentials {
    /// Nothing: whoever can reach us
    Null,
    /// A name and a password (RFC 24)
    Plain {
        /// 0 to 255 octets, of whatever kind
        username: Bytes,
        /// 0 to 255 octets, wiped when dropped
        password: Zeroizing<Vec<u8>>,
    },
    /// A key that it has proved to hold the secret half of (RFC 26)
    Curve {
        /// Its permanent key
        public_key: CurvePublicKey,
    },
}

impl Credentials {
    /// The name of the mechanism, as ZAP has it (RFC 27)
    pub const fn mechanism(&self) -> &'static str {
        match self {
            Self::Null => "NULL",
            Self::Plain { .. } => "PLAIN",
            Self::Curve { .. } => "CURVE",
        }
    }
}

/// Without the password
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("Null"),
            Self::Plain { username, .. } => write!(f, "Plain {{ username: {username:?}, password: … }}"),
            Self::Curve { public_key } => write!(f, "Curve {{ public_key: {public_key:?} }}"),
        }
    }
}

/// What the owner answers to [`Event::Authenticate`](crate::Event::Authenticate)
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuthVerdict {
    /// The peer is let in
    Allow {
        /// Whom the owner takes it for; may be empty
        user_id: Bytes,
        /// What else the owner knows of it; not sent to the peer
        metadata: Properties,
    },
    /// The peer is not let in
    Deny {
        /// What it is told
        code: DenyCode,
        /// For our own events and logs; not sent to the peer
        reason: String,
    },
}

impl AuthVerdict {
    /// Lets the peer in, under no name
    pub fn allow() -> Self {
        Self::Allow { user_id: Bytes::new(), metadata: Properties::new() }
    }

    /// Refuses the peer for good
    pub fn deny(reason: impl Into<String>) -> Self {
        Self::Deny { code: DenyCode::Denied, reason: reason.into() }
    }
}

/// How a peer is refused (RFC 27, "Status Codes")
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DenyCode {
    /// It may try again: the connection is closed and nothing said
    Temporary = 300,
    /// It has no business here: ERROR "400"
    Denied = 400,
    /// The authenticator failed: ERROR "500"
    Internal = 500,
}

impl DenyCode {
    /// The code as a number
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// What ERROR says; nothing where the peer may try again, for an ERROR would keep it from that
    pub(crate) const fn told(self) -> Option<&'static [u8]> {
        match self {
            Self::Temporary => None,
            Self::Denied => Some(b"400"),
            Self::Internal => Some(b"500"),
        }
    }
}
