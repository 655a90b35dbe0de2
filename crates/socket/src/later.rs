//! The later types: CLIENT, SERVER, RADIO, DISH, SCATTER, GATHER, PEER, CHANNEL (RFC 41, 48, 49, 51, 52).
//!
//! CLIENT, SERVER, SCATTER, GATHER, PEER and CHANNEL have messages of one frame in the RFCs. Between sockets of ours
//! they may have several. libzmq's drop such messages without a word, so to a peer that is none of ours they are not
//! sent: [`SendFailure::Invalid`] says so, and until a first connection tells who the peer is, sending them waits.
//! Should a peer of ours be replaced by another that takes one frame only, what waits for it and has several is
//! dropped, counted and said in an event.

use std::future::IntoFuture;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use tidings_transport::{Endpoint, EndpointError};
use tidings_zmtp::{Message, SocketType};

use crate::context::Context;
use crate::error::{ConnectError, NotFound, NotReady, RecvError, SendError, SendFailure, SocketError};
use crate::events::EventStream;
use crate::options::Options;
use crate::origin::Received;
use crate::socket::{Binding, CloseReport, Connecting, IntoEndpoint, Receiving, Sending, Socket};
use crate::stats::SocketStats;

typed! {
    /// CLIENT: sends to its SERVERs in turn, receives from all of them (RFC 41)
    ClientSocket, Client: sends sends_many receives tells_origin receives_many awaits_peers
}
typed! {
    /// SERVER: numbers its CLIENTs, and sends to the one that is named (RFC 41)
    ///
    /// The ids are this socket's own and not on the wire: from a random start, one up for each peer, never zero and
    /// never one in use. A peer that the socket connected to keeps its id over reconnections; one that connected
    /// gets a new one each time. Who it is, [`Socket::recv_from`] of the dynamic socket tells with the message.
    ServerSocket, Server: awaits_peers
}
typed! {
    /// PEER: as SERVER, among its like (RFC 51); [`connect_peer`](Self::connect_peer) tells the id of whom it connects to
    PeerSocket, Peer: awaits_peers
}
typed! {
    /// SCATTER: sends to its GATHERs in turn (RFC 49)
    ScatterSocket, Scatter: sends sends_many awaits_peers
}
typed! {
    /// GATHER: receives from all its SCATTERs in turn (RFC 49)
    GatherSocket, Gather: receives tells_origin receives_many awaits_peers
}
typed! {
    /// CHANNEL: talks with one peer (RFC 52)
    ChannelSocket, Channel: sends sends_many receives tells_origin receives_many awaits_peers
}
typed! {
    /// RADIO: sends a body to every DISH that joined its group (RFC 48)
    ///
    /// As with PUB, a peer whose queue is full misses the message, which is counted.
    RadioSocket, Radio: awaits_peers
}
typed! {
    /// DISH: receives what is sent to the groups it joined (RFC 48)
    DishSocket, Dish: awaits_peers
}

macro_rules! addresses_peers {
    ($name:ident) => {
        impl $name {
            /// Queues a message for the peer with this id, waiting for room
            ///
            /// On the dynamic [`Socket`] the id is the first frame: four octets, the highest first.
            ///
            /// # Errors
            /// [`SendError`] hands the message back: with [`SendFailure::Unroutable`] when no peer has the id, with
            /// [`SendFailure::Invalid`] when it has several frames and the peer takes one only.
            ///
            /// # Cancel safety
            /// Safe: when dropped before it completes, nothing was queued.
            pub async fn send_to(&self, id: u32, message: Message) -> Result<(), SendError> {
                self.0.send(addressed(id, message)).await.map_err(without_id)
            }

            /// Queues a message for the peer with this id if there is room now
            ///
            /// # Errors
            /// As [`send_to`](Self::send_to), and with [`SendFailure::WouldBlock`] when there is no room.
            pub fn try_send_to(&self, id: u32, message: Message) -> Result<(), SendError> {
                self.0.try_send(addressed(id, message)).map_err(without_id)
            }

            /// As [`send_to`](Self::send_to), for threads without a runtime
            ///
            /// # Errors
            /// As `send_to`.
            pub fn send_to_blocking(&self, id: u32, message: Message) -> Result<(), SendError> {
                self.0.send_blocking(addressed(id, message)).map_err(without_id)
            }

            /// Receives a message and the id of the peer it came from, waiting for one
            ///
            /// # Errors
            /// [`RecvError`].
            ///
            /// # Cancel safety
            /// Safe: a message is taken only when it is returned.
            pub async fn recv_from(&self) -> Result<(u32, Message), RecvError> {
                self.0.recv().await.map(parted)
            }

            /// Receives a message and the id of the peer it came from if one is there
            ///
            /// # Errors
            /// [`RecvError::WouldBlock`] if none is.
            pub fn try_recv_from(&self) -> Result<(u32, Message), RecvError> {
                self.0.try_recv().map(parted)
            }

            /// As [`recv_from`](Self::recv_from), for threads without a runtime
            ///
            /// # Errors
            /// As `recv_from`.
            pub fn recv_from_blocking(&self) -> Result<(u32, Message), RecvError> {
                self.0.recv_blocking().map(parted)
            }
        }
    };
}

addresses_peers!(ServerSocket);
addresses_peers!(PeerSocket);

impl PeerSocket {
    /// Starts to connect; await it for the id of the peer once it is connected
    ///
    /// The id stays the same over reconnections, until the endpoint is disconnected.
    ///
    /// # Errors
    /// The text isn't an endpoint, or not one that can be connected to.
    pub fn connect_peer(&self, endpoint: impl IntoEndpoint) -> Result<ConnectingPeer, EndpointError> {
        self.0.connect(endpoint).map(ConnectingPeer)
    }
}

/// A connect of a PEER under way: await it for the id of the peer, or a definite refusal
///
/// Dropping it changes nothing; the socket goes on.
#[derive(Debug)]
pub struct ConnectingPeer(Connecting);

impl ConnectingPeer {
    /// Waits on a thread without a runtime
    ///
    /// # Errors
    /// [`ConnectError`]; [`ConnectError::TimedOut`] when the time is over, while attempts go on.
    #[allow(clippy::result_large_err, reason = "told once for a connect")]
    pub fn blocking(self, timeout: Duration) -> Result<u32, ConnectError> {
        match self.0.blocking(timeout) {
            // A peer is connected only once it has its id
            Ok(peer) => peer.id.ok_or(ConnectError::Closed),
            Err(error) => Err(error),
        }
    }
}

impl IntoFuture for ConnectingPeer {
    type Output = Result<u32, ConnectError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            match self.0.await {
                Ok(peer) => peer.id.ok_or(ConnectError::Closed),
                Err(error) => Err(error),
            }
        })
    }
}

impl RadioSocket {
    /// Queues a body for every DISH that joined exactly this group: of up to 255 octets, none of them zero
    ///
    /// # Errors
    /// [`SendError`] hands the message back, as the group and the body; with [`SendFailure::Invalid`] when the group
    /// can't be one.
    ///
    /// # Cancel safety
    /// Safe: when dropped before it completes, nothing was queued.
    pub fn send(&self, group: impl AsRef<[u8]>, body: impl Into<Bytes>) -> Sending<'_> {
        self.0.send(grouped(group.as_ref(), body.into()))
    }

    /// As [`send`](Self::send), if there is room now under the overflow policy in force
    ///
    /// # Errors
    /// As `send`.
    pub fn try_send(&self, group: impl AsRef<[u8]>, body: impl Into<Bytes>) -> Result<(), SendError> {
        self.0.try_send(grouped(group.as_ref(), body.into()))
    }

    /// As [`send`](Self::send), for threads without a runtime
    ///
    /// # Errors
    /// As `send`.
    pub fn send_blocking(&self, group: impl AsRef<[u8]>, body: impl Into<Bytes>) -> Result<(), SendError> {
        self.0.send_blocking(grouped(group.as_ref(), body.into()))
    }
}

impl DishSocket {
    /// Joins a group; see [`Socket::join`]
    ///
    /// # Errors
    /// [`SocketError::Invalid`] when the socket is in the group already, or the group can't be one.
    pub fn join(&self, group: impl AsRef<[u8]>) -> Result<(), SocketError> {
        self.0.join(group)
    }

    /// Leaves a group; see [`Socket::leave`]
    ///
    /// # Errors
    /// [`SocketError::Invalid`] when the socket is not in the group.
    pub fn leave(&self, group: impl AsRef<[u8]>) -> Result<(), SocketError> {
        self.0.leave(group)
    }

    /// Receives a group and a body, waiting for them
    ///
    /// # Errors
    /// [`RecvError`].
    ///
    /// # Cancel safety
    /// Safe: a message is taken only when it is returned.
    pub async fn recv(&self) -> Result<(Bytes, Bytes), RecvError> {
        self.0.recv().await.map(group_and_body)
    }

    /// Receives a group and a body if they are there
    ///
    /// # Errors
    /// [`RecvError::WouldBlock`] if none are.
    pub fn try_recv(&self) -> Result<(Bytes, Bytes), RecvError> {
        self.0.try_recv().map(group_and_body)
    }

    /// As [`recv`](Self::recv), for threads without a runtime
    ///
    /// # Errors
    /// As `recv`.
    pub fn recv_blocking(&self) -> Result<(Bytes, Bytes), RecvError> {
        self.0.recv_blocking().map(group_and_body)
    }
}

fn addressed(id: u32, mut message: Message) -> Message {
    message.push_front(Bytes::copy_from_slice(&id.to_be_bytes()));
    message
}

fn without_id(mut error: SendError) -> SendError {
    error.message.pop_front();
    error
}

fn parted(mut message: Message) -> (u32, Message) {
    // The socket puts the id in front of all that it hands out
    let id = message.pop_front().and_then(|id| id[..].try_into().ok());
    (id.map(u32::from_be_bytes).unwrap_or_default(), message)
}

fn grouped(group: &[u8], body: Bytes) -> Message {
    Message::multipart([Bytes::copy_from_slice(group), body])
}

fn group_and_body(message: Message) -> (Bytes, Bytes) {
    // Nothing but messages of two frames gets as far as this
    let mut frames = message.into_frames().into_iter();
    (frames.next().unwrap_or_default(), frames.next().unwrap_or_default())
}
