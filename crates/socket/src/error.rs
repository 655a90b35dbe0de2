//! What can go wrong, sorted by who must act.

use std::time::Duration;

use tidings_transport::{Endpoint, EndpointError};
use tidings_zmtp::Message;

use crate::security::SecurityError;

/// A message that was not sent, handed back with the reason
#[derive(Debug, thiserror::Error)]
#[error("message not sent: {reason}")]
pub struct SendError {
    /// The message, whole
    pub message: Message,
    /// Why it was not sent
    #[source]
    pub reason: SendFailure,
}

/// Why a message was not sent
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendFailure {
    /// No peer has room; try again, or use the waiting form
    #[error("no peer has room for it now")]
    WouldBlock,
    /// No peer had room for as long as `send_timeout` allows
    #[error("no peer had room for it within {0:?}")]
    TimedOut(Duration),
    /// ROUTER with `router_mandatory`, STREAM, SERVER or PEER: no peer has this routing id
    #[error("no connected peer has this routing id")]
    Unroutable,
    /// The pattern does not allow sending now
    #[error("{0}")]
    WrongState(&'static str),
    /// The socket type never sends
    #[error("{0}")]
    NotSupported(&'static str),
    /// The message does not have the form that the socket type needs
    #[error("{0}")]
    Invalid(&'static str),
    /// It does not fit into a datagram to every endpoint that is connected to: split it, or use tcp
    #[error("a datagram of {octets} octets is larger than the {most} that can be sent; split the message or use tcp")]
    TooLarge {
        /// Octets of the datagram
        octets: usize,
        /// The most that a datagram to the endpoint may have
        most: usize,
    },
    /// The socket is closed
    #[error("the socket is closed")]
    Closed,
}

/// Why nothing was received
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// No message is there; try again, or use the waiting form
    #[error("no message is there")]
    WouldBlock,
    /// No message came for as long as `recv_timeout` allows
    #[error("no message came within {0:?}")]
    TimedOut(Duration),
    /// The pattern does not allow receiving now
    #[error("{0}")]
    WrongState(&'static str),
    /// The socket type never receives
    #[error("{0}")]
    NotSupported(&'static str),
    /// REQ: the peer that had the request is gone; the socket may send again
    #[error("the peer that had the request is gone")]
    PeerGone,
    /// The socket is closed
    #[error("the socket is closed")]
    Closed,
}

/// Why a request has no reply
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The deadline passed; whether a peer did the work is unknown if it was sent
    #[error("no reply within {after:?}{}", if *sent { "" } else { ": no peer took the request" })]
    TimedOut {
        /// The deadline that was given
        after: Duration,
        /// Whether the request had been queued for a peer
        sent: bool,
    },
    /// The connection to the peer that had the request was lost; whether it did the work is unknown
    #[error("the peer that had the request is gone")]
    PeerGone,
    /// The request could not be sent
    #[error(transparent)]
    Send(#[from] SendError),
    /// The socket is closed
    #[error("the socket is closed")]
    Closed,
}

/// Why an endpoint could not be bound
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The endpoint can't be bound as it is written
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The system or another listener did not let it
    #[error("can't bind {endpoint}: {reason}")]
    Listen {
        /// The endpoint
        endpoint: Endpoint,
        /// Why, and what to do
        reason: String,
    },
    /// The options of security don't go together
    #[error("can't bind {endpoint}: {error}")]
    Security {
        /// The endpoint
        endpoint: Endpoint,
        /// What is wrong with them, and what to set
        #[source]
        error: SecurityError,
    },
    /// The socket was closed first
    #[error("the socket is closed")]
    Closed,
}

/// Why an endpoint will not be connected to
///
/// Passing trouble is none of these: the connection is tried again, and events tell of every attempt.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The options of security don't go together
    #[error("can't connect to {endpoint}: {error}")]
    Security {
        /// The endpoint
        endpoint: Endpoint,
        /// What is wrong with them, and what to set
        #[source]
        error: SecurityError,
    },
    /// The peer or this side said no: trying again as we are can't help
    ///
    /// If it is for who we are (code `400`, a wrong key, a certificate), the endpoint is tried again all the same, but
    /// only at `refused_retry_interval`, and what is queued for it waits. Otherwise it is given up.
    #[error("{endpoint} refused the connection ({code}): {reason}")]
    Refused {
        /// The endpoint
        endpoint: Endpoint,
        /// The code the peer gave, or the reason's name
        code: String,
        /// The reason in words
        reason: String,
    },
    /// The first attempt failed and `reconnect_interval` is -1
    #[error("can't connect to {endpoint}: {reason}")]
    GaveUp {
        /// The endpoint
        endpoint: Endpoint,
        /// What the attempt ended in
        reason: String,
        /// Whether the peer was reached, and broke off during the handshake as it does when a key is wrong, or when it is
        /// just stopping
        breaks_off: bool,
    },
    /// Not connected within the time that was given; attempts go on
    #[error("not connected to {endpoint} within {after:?}")]
    TimedOut {
        /// The endpoint
        endpoint: Endpoint,
        /// The time that was given
        after: Duration,
    },
    /// The socket was closed, or the endpoint disconnected, first
    #[error("the socket is closed or the endpoint was disconnected")]
    Closed,
}

/// Why a socket can't be made or can't do what was asked
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SocketError {
    /// The context has as many sockets as it may
    #[error("the context has {most} sockets, the most it may have; close some or raise max_sockets")]
    TooManySockets {
        /// The bound
        most: usize,
    },
    /// The socket type doesn't do this
    #[error("{0}")]
    NotSupported(&'static str),
    /// What was asked can't be done as it stands
    #[error("{0}")]
    Invalid(&'static str),
    /// The context or the socket is closed
    #[error("the context or the socket is closed")]
    Closed,
}

/// The endpoint is not one of the socket's
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{endpoint} is not an endpoint of this socket")]
pub struct NotFound {
    /// The endpoint
    pub endpoint: Endpoint,
}

/// Fewer peers were ready at the deadline than were waited for
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{ready} of {wanted} peers were ready within {after:?}")]
pub struct NotReady {
    /// How many were
    pub ready: usize,
    /// How many were waited for
    pub wanted: usize,
    /// The deadline that was given
    pub after: Duration,
}
