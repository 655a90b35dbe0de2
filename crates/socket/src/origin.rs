//! Where a message came from: what is known of the connection that brought it.
//!
//! Kept once for a connection and shared by all its messages. What a plain receive costs does not change.

use std::sync::Arc;

use bytes::Bytes;
use tidings_transport::{PeerAddress, Stream, TlsPeer};
use tidings_zmtp::{CurvePublicKey, Message, Properties, SocketType};

use crate::events::ConnectionId;

/// A message, and where it came from
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Received {
    /// The message
    pub message: Message,
    /// The connection that brought it
    pub from: Arc<Origin>,
    /// Whether the socket itself says it: the peer came or went (`router_notify`, `stream_notify`). A peer may send an empty
    /// message, too
    pub is_notice: bool,
}

/// What is known of the peer at the other end of one connection
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Origin {
    /// The connection, as events name it; a reconnection is another one
    pub connection: ConnectionId,
    /// The peer's address, as in events
    pub address: Arc<str>,
    /// Its socket type, where its protocol version tells it
    pub socket_type: Option<SocketType>,
    /// The security mechanism of the connection; `none` where there is no handshake
    pub mechanism: &'static str,
    /// The peer's permanent key, where the mechanism is CURVE: it has proved to hold the secret half
    pub curve_key: Option<CurvePublicKey>,
    /// Whom the authenticator took the peer for; empty where none was asked or it gave no name
    pub user_id: Bytes,
    /// The name that the peer is known by, from its handshake or from the authenticator; mostly empty
    pub routing_id: Bytes,
    /// What TLS has found out about the peer, its certificate foremost, where there is TLS
    pub tls: Option<Arc<TlsPeer>>,
    pub(crate) peer_address: Bytes,
    /// From the authenticator
    pub(crate) granted: Properties,
    /// From the peer's handshake
    pub(crate) announced: Properties,
}

impl Origin {
    /// A peer of which nothing but its connection is known
    pub(crate) fn anonymous(connection: ConnectionId, address: Arc<str>) -> Self {
        Self {
            connection,
            address,
            socket_type: None,
            mechanism: "none",
            curve_key: None,
            user_id: Bytes::new(),
            routing_id: Bytes::new(),
            tls: None,
            peer_address: Bytes::new(),
            granted: Properties::new(),
            announced: Properties::new(),
        }
    }

    /// A property of the connection, by its name in whatever case
    ///
    /// `Peer-Address` (the address without a port) and `User-Id` come first, then what the authenticator said, then
    /// what the peer said of itself in its handshake: a peer can't take the place of what is known of it. libzmq sets
    /// the metadata of messages in the same order.
    #[must_use]
    pub fn property(&self, name: &str) -> Option<&Bytes> {
        let known = [("Peer-Address", &self.peer_address), ("User-Id", &self.user_id)];
        let known = known.into_iter().find(|(own, value)| own.eq_ignore_ascii_case(name) && !value.is_empty());
        known.map(|(_, value)| value).or_else(|| self.granted.value(name)).or_else(|| self.announced.value(name))
    }
}

/// A peer's address as authenticators know it: the IP address alone, or `:uid:gid:pid` of a local peer, as libzmq has it
pub(crate) fn zap_address(peer: PeerAddress, stream: &Stream) -> String {
    match peer {
        PeerAddress::Tcp(address) => address.ip().to_string(),
        PeerAddress::Ipc { pid: Some(pid), uid: Some(uid) } => match local_group(stream) {
            Some(gid) => format!(":{uid}:{gid}:{pid}"),
            None => String::new(),
        },
        _ => String::new(),
    }
}

fn local_group(stream: &Stream) -> Option<u32> {
    match stream {
        #[cfg(unix)]
        Stream::Unix(stream) => stream.peer_cred().ok().map(|credentials| credentials.gid()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_we_know_comes_before_what_the_peer_says() {
        let properties = |pairs: &[(&str, &'static str)]| {
            let mut properties = Properties::new();
            pairs.iter().for_each(|(name, value)| properties.insert(*name, *value).unwrap());
            properties
        };
        let mut origin = Origin::anonymous(ConnectionId::fresh(), "127.0.0.1:9".into());
        origin.announced =
            properties(&[("User-Id", "root"), ("Peer-Address", "10.0.0.1"), ("X-Site", "moon"), ("X-A", "a")]);
        assert_eq!(origin.property("user-id").unwrap(), "root", "nobody else said anything");
        origin.user_id = "joe".into();
        origin.peer_address = "127.0.0.1".into();
        origin.granted = properties(&[("X-Site", "north"), ("User-Id", "jim")]);
        for (name, value) in [("user-id", "joe"), ("Peer-Address", "127.0.0.1"), ("x-site", "north"), ("X-A", "a")] {
            assert_eq!(origin.property(name).unwrap(), value, "{name}");
        }
        assert_eq!(origin.property("X-B"), None);
    }
}
