//! What happens to the connections of a socket, as typed events with stable ids.
//!
//! An application that watches these knows why a message does not arrive. Streams are bounded
//! rings: a reader that lags is told how many events it missed, and nothing waits for it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use serde::{Serialize, Serializer};
use tidings_zmtp::SocketType;
use tokio::sync::broadcast;

/// Names a socket for as long as the process lives
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct SocketId(pub(crate) u64);

/// Names a connection for as long as the process lives; a reconnection is another connection
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct ConnectionId(u64);

impl SocketId {
    pub(crate) fn fresh() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl ConnectionId {
    pub(crate) fn fresh() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl ConnectionId {
    /// The number in it, by which a connection may be told from all others of the process
    #[must_use]
    pub fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "socket {}", self.0)
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection {}", self.0)
    }
}

/// One thing that happened to a socket or to one of its connections
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Event {
    /// When, in wall-clock time; serialised as RFC 3339 in UTC with milliseconds
    #[serde(serialize_with = "rfc3339")]
    pub at: SystemTime,
    /// The socket
    pub socket: SocketId,
    /// Its type
    #[serde(serialize_with = "type_name")]
    pub socket_type: SocketType,
    /// The connection, where it is about one
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection: Option<ConnectionId>,
    /// The endpoint as it was configured
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The peer's address
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// What happened
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What happened
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case", rename_all_fields = "snake_case")]
#[non_exhaustive]
pub enum EventKind {
    /// A bound endpoint accepts connections
    Listening {
        /// The endpoint with its real port or path
        endpoint: String,
    },
    /// An endpoint could not be bound
    BindFailed {
        /// Why, and what to do
        error: String,
    },
    /// A bound endpoint was given up
    Unbound,
    /// A peer's transport connected to a bound endpoint; the handshake follows
    Accepted,
    /// A connection could not be accepted; others are not concerned
    AcceptFailed {
        /// The system's reason
        error: String,
    },
    /// No descriptors or memory for more connections: accepting waits, the backlog holds newcomers
    AcceptPaused {
        /// The system's reason
        error: String,
        /// When accepting is tried again
        retry_in_ms: u64,
    },
    /// Accepting goes on
    AcceptResumed,
    /// The transport to a peer is up; the handshake follows
    Connected,
    /// An attempt to reach the peer failed
    ConnectFailed {
        /// Why
        error: String,
        /// When the next attempt is made; `None`: never
        retry_in_ms: Option<u64>,
    },
    /// The handshake is complete and messages flow
    Handshaken {
        /// The peer's socket type, where its protocol version tells it
        peer_type: Option<&'static str>,
        /// The name under which the peer wants to be known, hexadecimal if it isn't text
        routing_id: String,
        /// The version of ZMTP spoken, as `3.1`
        version: String,
        /// The security mechanism
        mechanism: &'static str,
        /// The peer's metadata besides type and routing id
        properties: Vec<(String, String)>,
    },
    /// The connection ended before the handshake did
    HandshakeFailed {
        /// The reason's name, stable
        reason: &'static str,
        /// The reason in words
        detail: String,
        /// When the connection is tried again; `None`: never, or it was the peer who connected
        retry_in_ms: Option<u64>,
    },
    /// We said no to a peer because of who it is: an authenticator's verdict, or none could be had
    Denied {
        /// 300 (for now), 400 (for good) or 500 (the authenticator failed), as in RFC 27
        code: String,
        /// The authenticator's words
        reason: String,
        /// The security mechanism
        mechanism: &'static str,
        /// Whom the peer claimed to be: a name with PLAIN, a public key with CURVE, nobody with NULL
        user: String,
    },
    /// The peer or we said no: trying again as we are can't help until somebody changes something
    ///
    /// What was refused for who it is, is tried again at `refused_retry_interval`; what does not fit at all, never.
    Refused {
        /// The code the peer gave, such as `400`, or the reason's name
        code: String,
        /// The reason in words
        reason: String,
    },
    /// A connection on which messages flowed ended
    Disconnected {
        /// The reason's name, stable
        reason: &'static str,
        /// The reason in words
        detail: String,
        /// Messages that were queued or partly written and wait for the next connection
        requeued: u64,
        /// Messages that were queued or partly written and are dropped with the connection
        lost: u64,
        /// When the connection is tried again; `None`: never, or it was the peer who connected
        retry_in_ms: Option<u64>,
    },
    /// A peer's queue filled up for the first time since it was last empty
    Slow {
        /// Messages waiting for the peer
        queued: u64,
    },
    /// Messages for a peer were dropped; said once at the first and then once a second at the most
    Dropped {
        /// Since the last such event
        count: u64,
        /// Since the connection's beginning
        total: u64,
    },
    /// Datagrams that were none of the pattern's were dropped; said once a second at the most
    Malformed {
        /// Since the last such event of this endpoint
        count: u64,
        /// Since the socket's beginning
        total: u64,
    },
    /// A peer came with the routing id of another one
    DuplicateRoutingId {
        /// The id, hexadecimal if it isn't text
        routing_id: String,
        /// `refused` or `taken-over`
        action: &'static str,
    },
    /// This side's TLS certificate ends within 14 days, or has ended; said when an endpoint is bound or connected to, and
    /// once a day while it goes on
    CertificateEnds {
        /// The certificate's subject, as `CN=hub`
        subject: String,
        /// Seconds until then; below zero when it has ended
        ends_in_s: i64,
    },
    /// The socket is closed
    Closed,
    /// The reader of this stream was too slow and this many events passed it by
    Missed {
        /// How many
        count: u64,
    },
}

impl EventKind {
    /// The kind's name as in JSON
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Listening { .. } => "listening",
            Self::BindFailed { .. } => "bind-failed",
            Self::Unbound => "unbound",
            Self::Accepted => "accepted",
            Self::AcceptFailed { .. } => "accept-failed",
            Self::AcceptPaused { .. } => "accept-paused",
            Self::AcceptResumed => "accept-resumed",
            Self::Connected => "connected",
            Self::ConnectFailed { .. } => "connect-failed",
            Self::Handshaken { .. } => "handshaken",
            Self::HandshakeFailed { .. } => "handshake-failed",
            Self::Denied { .. } => "denied",
            Self::Refused { .. } => "refused",
            Self::Disconnected { .. } => "disconnected",
            Self::Slow { .. } => "slow",
            Self::Dropped { .. } => "dropped",
            Self::Malformed { .. } => "malformed",
            Self::DuplicateRoutingId { .. } => "duplicate-routing-id",
            Self::CertificateEnds { .. } => "certificate-ends",
            Self::Closed => "closed",
            Self::Missed { .. } => "missed",
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let retry = |f: &mut fmt::Formatter<'_>, ms: &Option<u64>| match ms {
            Some(ms) => write!(f, "; next try in {ms} ms"),
            None => Ok(()),
        };
        f.write_str(self.name())?;
        match self {
            Self::Listening { endpoint } => write!(f, " on {endpoint}"),
            Self::BindFailed { error } | Self::AcceptFailed { error } => write!(f, ": {error}"),
            Self::AcceptPaused { error, retry_in_ms } => {
                write!(f, ": {error}; again in {retry_in_ms} ms")
            }
            Self::ConnectFailed { error, retry_in_ms } => {
                write!(f, ": {error}")?;
                retry(f, retry_in_ms)
            }
            Self::Handshaken { peer_type, routing_id, version, mechanism, .. } => {
                write!(f, " with {} over ZMTP {version} {mechanism}", peer_type.unwrap_or("a peer of unknown type"))?;
                if routing_id.is_empty() { Ok(()) } else { write!(f, ", routing id {routing_id}") }
            }
            Self::HandshakeFailed { detail, retry_in_ms, .. } => {
                write!(f, ": {detail}")?;
                retry(f, retry_in_ms)
            }
            Self::Denied { code, reason, mechanism, user } => {
                write!(f, " ({code}) by {mechanism}{}{user}: {reason}", if user.is_empty() { "" } else { " to " })
            }
            Self::Refused { code, reason } => write!(f, " ({code}): {reason}"),
            Self::Disconnected { detail, requeued, lost, retry_in_ms, .. } => {
                write!(f, ": {detail}")?;
                if *requeued > 0 {
                    write!(f, "; {requeued} messages wait")?;
                }
                if *lost > 0 {
                    write!(f, "; {lost} messages lost")?;
                }
                retry(f, retry_in_ms)
            }
            Self::Slow { queued } => write!(f, ": {queued} messages wait"),
            Self::Dropped { count, total } => write!(f, ": {count} messages, {total} in all"),
            Self::Malformed { count, total } => write!(f, ": {count} datagrams, {total} in all"),
            Self::DuplicateRoutingId { routing_id, action } => write!(f, " {routing_id}: {action}"),
            Self::CertificateEnds { subject, ends_in_s } if *ends_in_s < 0 => {
                write!(f, ": {subject} has ended, {} hours ago", ends_in_s.unsigned_abs() / 3600)
            }
            Self::CertificateEnds { subject, ends_in_s } => write!(f, ": {subject}, in {} hours", ends_in_s / 3600),
            Self::Missed { count } => write!(f, ": {count} events"),
            Self::Unbound | Self::Accepted | Self::AcceptResumed | Self::Connected | Self::Closed => Ok(()),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.socket_type, self.socket)?;
        if let Some(connection) = self.connection {
            write!(f, " {connection}")?;
        }
        match (&self.endpoint, &self.address) {
            (Some(endpoint), Some(address)) => write!(f, " {endpoint} ({address})")?,
            (Some(one), None) | (None, Some(one)) => write!(f, " {one}")?,
            (None, None) => {}
        }
        write!(f, " {}", self.kind)
    }
}

/// Events as they happen, of one socket or of a whole context
#[derive(Debug)]
pub struct EventStream {
    receiver: broadcast::Receiver<Event>,
    /// Only this socket's, if one is named
    socket: Option<(SocketId, SocketType)>,
}

impl EventStream {
    /// The next event; `None` when no more can come because the context is gone
    ///
    /// # Cancel safety
    /// Safe: an event is taken only when it is returned.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            let event = match self.receiver.recv().await {
                Ok(event) => event,
                Err(broadcast::error::RecvError::Lagged(count)) => return Some(self.missed(count)),
                Err(broadcast::error::RecvError::Closed) => return None,
            };
            if self.socket.is_none_or(|(id, _)| id == event.socket) {
                return Some(event);
            }
        }
    }

    /// The next event if there is one already
    pub fn try_next(&mut self) -> Option<Event> {
        loop {
            let event = match self.receiver.try_recv() {
                Ok(event) => event,
                Err(broadcast::error::TryRecvError::Lagged(count)) => {
                    return Some(self.missed(count));
                }
                Err(_) => return None,
            };
            if self.socket.is_none_or(|(id, _)| id == event.socket) {
                return Some(event);
            }
        }
    }

    fn missed(&self, count: u64) -> Event {
        let (socket, socket_type) = self.socket.unwrap_or((SocketId(0), SocketType::Pair));
        Event {
            at: SystemTime::now(),
            socket,
            socket_type,
            connection: None,
            endpoint: None,
            address: None,
            kind: EventKind::Missed { count },
        }
    }
}

/// Where the sockets of a context put their events
#[derive(Clone, Debug)]
pub(crate) struct EventSink(broadcast::Sender<Event>);

impl EventSink {
    pub(crate) fn new() -> Self {
        Self(broadcast::Sender::new(RING))
    }

    /// One that nobody can listen to
    pub(crate) fn silent() -> Self {
        Self(broadcast::Sender::new(1))
    }

    pub(crate) fn emit(&self, event: impl FnOnce() -> Event) {
        if self.0.receiver_count() > 0 {
            // An error says that the last reader has just gone
            self.0.send(event()).ok();
        }
    }

    pub(crate) fn stream(&self, socket: Option<(SocketId, SocketType)>) -> EventStream {
        EventStream { receiver: self.0.subscribe(), socket }
    }
}

/// Octets as text if they are that, else hexadecimal
pub(crate) fn readable(octets: &[u8]) -> String {
    match std::str::from_utf8(octets) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => octets.iter().fold(String::from("0x"), |text, octet| text + &format!("{octet:02x}")),
    }
}

fn type_name<S: Serializer>(socket_type: &SocketType, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(socket_type.name())
}

fn rfc3339<S: Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    let stamp = jiff::Timestamp::try_from(*at).map_err(serde::ser::Error::custom)?;
    serializer.collect_str(&format_args!("{stamp:.3}"))
}

/// Events that a slow reader may fall behind before it misses some: a few hundred octets each
const RING: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: EventKind) -> Event {
        Event {
            at: SystemTime::UNIX_EPOCH,
            socket: SocketId(3),
            socket_type: SocketType::Push,
            connection: Some(ConnectionId(9)),
            endpoint: Some("tcp://a:1".into()),
            address: None,
            kind,
        }
    }

    #[test]
    fn an_event_is_one_flat_json_object() {
        let kind = EventKind::Disconnected {
            reason: "peer-closed",
            detail: "the peer closed the connection".into(),
            requeued: 2,
            lost: 0,
            retry_in_ms: Some(80),
        };
        let event = event(kind);
        assert_eq!(
            serde_json::to_value(&event).unwrap(),
            serde_json::json!({
                "at": "1970-01-01T00:00:00.000Z", "socket": 3, "socket_type": "PUSH", "connection": 9,
                "endpoint": "tcp://a:1", "event": "disconnected", "reason": "peer-closed",
                "detail": "the peer closed the connection", "requeued": 2, "lost": 0, "retry_in_ms": 80,
            })
        );
        assert_eq!(
            event.to_string(),
            "PUSH socket 3 connection 9 tcp://a:1 disconnected: the peer closed the connection; 2 messages wait; next try in 80 ms"
        );
    }

    #[tokio::test]
    async fn a_reader_that_lags_is_told_how_much_it_missed() {
        let sink = EventSink::new();
        let mut stream = sink.stream(Some((SocketId(3), SocketType::Push)));
        for _ in 0..RING + 10 {
            sink.emit(|| event(EventKind::Accepted));
        }
        assert_eq!(stream.next().await.map(|event| event.kind), Some(EventKind::Missed { count: 10 }));
        assert_eq!(stream.next().await.map(|event| event.kind), Some(EventKind::Accepted));
    }
}
