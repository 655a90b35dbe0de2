//! Messages of several frames between the later types, where the RFCs have one frame only.
//!
//! RFC 41, 49, 51 and 52 keep CLIENT, SERVER, SCATTER, GATHER, PEER and CHANNEL to messages of one frame, and
//! libzmq drops others as they arrive, without a word. On the wire nothing is ambiguous about them, so sockets of
//! ours take them, and say so in READY. To a peer that does not say it a message of several frames is not sent.

use tidings_zmtp::{Properties, SocketType};

/// The property in READY by which a peer says that it takes messages of several frames; its value is `1`
pub(crate) const PROPERTY: &str = "X-Multipart";

/// Whether the RFCs have messages of one frame for this type
pub(crate) fn concerns(socket_type: SocketType) -> bool {
    use SocketType::{Channel, Client, Gather, Peer, Scatter, Server};
    matches!(socket_type, Client | Server | Scatter | Gather | Peer | Channel)
}

/// Whether a peer said that it takes them
pub(crate) fn is_announced(properties: &Properties) -> bool {
    properties.value(PROPERTY).is_some_and(|value| &value[..] == b"1")
}

pub(crate) const NO_MULTIPART: &str = "the peer takes messages of one frame only: libzmq's CLIENT, SERVER, SCATTER, GATHER, PEER and CHANNEL drop others; put the parts into one frame";
