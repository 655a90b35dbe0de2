//! One type per pattern, with the calls that the pattern has: what is illegal does not compile.
//!
//! Each is the dynamic [`Socket`] with fewer methods; [`as_socket`](PushSocket::as_socket) leads to it.

use std::time::Duration;

use bytes::Bytes;
use tidings_transport::{Endpoint, EndpointError};
use tidings_zmtp::{Message, SocketType};

use crate::context::Context;
use crate::error::{NotFound, NotReady, RecvError, RequestError, SendError, SendFailure, SocketError};
use crate::events::EventStream;
use crate::options::Options;
use crate::origin::Received;
use crate::socket::{Binding, CloseReport, Connecting, IntoEndpoint, Receiving, Sending, Socket};
use crate::stats::SocketStats;

macro_rules! typed {
    ($(#[doc = $doc:literal])+ $name:ident, $socket_type:ident: $($ability:ident)*) => {
        $(#[doc = $doc])+
        ///
        /// Cheap to clone; every clone may be used from any task or thread at the same time.
        #[derive(Clone, Debug)]
        pub struct $name(Socket);

        impl $name {
            /// A socket with libzmq's defaults
            ///
            /// # Errors
            /// The context is closed or has as many sockets as it may.
            pub fn new(context: &Context) -> Result<Self, SocketError> {
                context.socket(SocketType::$socket_type).map(Self)
            }

            /// A socket with these options
            ///
            /// # Errors
            /// As [`new`](Self::new).
            pub fn with_options(context: &Context, options: Options) -> Result<Self, SocketError> {
                context.socket_with(SocketType::$socket_type, options).map(Self)
            }

            /// Starts to listen; see [`Socket::bind`]
            ///
            /// # Errors
            /// The text isn't an endpoint, or not one that can be bound.
            pub fn bind(&self, endpoint: impl IntoEndpoint) -> Result<Binding, EndpointError> {
                self.0.bind(endpoint)
            }

            /// Starts to connect; see [`Socket::connect`]
            ///
            /// # Errors
            /// The text isn't an endpoint, or not one that can be connected to.
            pub fn connect(&self, endpoint: impl IntoEndpoint) -> Result<Connecting, EndpointError> {
                self.0.connect(endpoint)
            }

            /// Starts to listen, with options of this endpoint alone; see [`Socket::bind_with`]
            ///
            /// # Errors
            /// The text isn't an endpoint, or not one that can be bound.
            pub fn bind_with(&self, endpoint: impl IntoEndpoint, options: Options) -> Result<Binding, EndpointError> {
                self.0.bind_with(endpoint, options)
            }

            /// Starts to connect, with options of this endpoint alone; see [`Socket::connect_with`]
            ///
            /// # Errors
            /// The text isn't an endpoint, or not one that can be connected to.
            pub fn connect_with(
                &self,
                endpoint: impl IntoEndpoint,
                options: Options,
            ) -> Result<Connecting, EndpointError> {
                self.0.connect_with(endpoint, options)
            }

            /// Stops to listen; see [`Socket::unbind`]
            ///
            /// # Errors
            /// [`NotFound`] when the socket isn't bound to it.
            pub fn unbind(&self, endpoint: &Endpoint) -> Result<(), NotFound> {
                self.0.unbind(endpoint)
            }

            /// Gives up an endpoint; see [`Socket::disconnect`]
            ///
            /// # Errors
            /// [`NotFound`] when the socket isn't connected to it.
            pub fn disconnect(&self, endpoint: &Endpoint) -> Result<(), NotFound> {
                self.0.disconnect(endpoint)
            }

            /// What it has done and holds; see [`Socket::stats`]
            #[must_use]
            pub fn stats(&self) -> SocketStats {
                self.0.stats()
            }

            /// Its lifecycle events from now on; see [`Socket::events`]
            #[must_use]
            pub fn events(&self) -> EventStream {
                self.0.events()
            }

            /// Closes it and says what was not sent; see [`Socket::close`], also for cancel safety
            pub async fn close(&self, deadline: Duration) -> CloseReport {
                self.0.close(deadline).await
            }

            /// As [`close`](Self::close), for threads without a runtime
            pub fn close_blocking(&self, deadline: Duration) -> CloseReport {
                self.0.close_blocking(deadline)
            }

            /// The dynamic socket beneath
            #[must_use]
            pub fn as_socket(&self) -> &Socket {
                &self.0
            }

            $(ability!($ability);)*
        }

        impl From<$name> for Socket {
            fn from(socket: $name) -> Self {
                socket.0
            }
        }
    };
}

macro_rules! ability {
    (sends) => {
        /// Queues a message, waiting for room where the pattern does that; see [`Socket::send`]
        ///
        /// # Errors
        /// [`SendError`] hands the message back.
        ///
        /// # Cancel safety
        /// Safe: when dropped before it completes, nothing was queued.
        pub fn send(&self, message: Message) -> Sending<'_> {
            self.0.send(message)
        }

        /// Queues a message if there is room now
        ///
        /// # Errors
        /// [`SendError`] hands the message back.
        pub fn try_send(&self, message: Message) -> Result<(), SendError> {
            self.0.try_send(message)
        }

        /// As [`send`](Self::send), for threads without a runtime
        ///
        /// # Errors
        /// [`SendError`] hands the message back.
        pub fn send_blocking(&self, message: Message) -> Result<(), SendError> {
            self.0.send_blocking(message)
        }
    };
    (sends_many) => {
        /// Queues as many messages from the front of `messages` as there is room for; see [`Socket::send_many`]
        ///
        /// # Errors
        /// Why not even the first could be queued.
        ///
        /// # Cancel safety
        /// Safe: when dropped before it completes, nothing was queued.
        pub async fn send_many(&self, messages: &mut Vec<Message>) -> Result<usize, SendFailure> {
            self.0.send_many(messages).await
        }

        /// As [`send_many`](Self::send_many), without waiting
        ///
        /// # Errors
        /// Why not even the first could be queued.
        pub fn try_send_many(&self, messages: &mut Vec<Message>) -> Result<usize, SendFailure> {
            self.0.try_send_many(messages)
        }

        /// As [`send_many`](Self::send_many), for threads without a runtime
        ///
        /// # Errors
        /// Why not even the first could be queued.
        pub fn send_many_blocking(&self, messages: &mut Vec<Message>) -> Result<usize, SendFailure> {
            self.0.send_many_blocking(messages)
        }
    };
    (receives) => {
        /// Receives a message, waiting for one; see [`Socket::recv`]
        ///
        /// # Errors
        /// [`RecvError`].
        ///
        /// # Cancel safety
        /// Safe: a message is taken only when it is returned.
        pub fn recv(&self) -> Receiving<'_> {
            self.0.recv()
        }

        /// Receives a message if one is there
        ///
        /// # Errors
        /// [`RecvError::WouldBlock`] if none is.
        pub fn try_recv(&self) -> Result<Message, RecvError> {
            self.0.try_recv()
        }

        /// As [`recv`](Self::recv), for threads without a runtime
        ///
        /// # Errors
        /// [`RecvError`].
        pub fn recv_blocking(&self) -> Result<Message, RecvError> {
            self.0.recv_blocking()
        }
    };
    (tells_origin) => {
        /// As [`recv`](Self::recv), and tells where the message came from; see [`Socket::recv_from`]
        ///
        /// # Errors
        /// [`RecvError`].
        ///
        /// # Cancel safety
        /// Safe: a message is taken only when it is returned.
        pub async fn recv_from(&self) -> Result<Received, RecvError> {
            self.0.recv_from().await
        }

        /// Receives a message if one is there, and tells where it came from
        ///
        /// # Errors
        /// [`RecvError`].
        pub fn try_recv_from(&self) -> Result<Received, RecvError> {
            self.0.try_recv_from()
        }

        /// As [`recv_from`](Self::recv_from), for threads without a runtime
        ///
        /// # Errors
        /// [`RecvError`].
        pub fn recv_from_blocking(&self) -> Result<Received, RecvError> {
            self.0.recv_from_blocking()
        }
    };
    (receives_many) => {
        /// Receives up to `max` messages, waiting for one at least; see [`Socket::recv_many`]
        ///
        /// # Errors
        /// [`RecvError`].
        ///
        /// # Cancel safety
        /// Safe: messages are taken only when it completes.
        pub async fn recv_many(&self, into: &mut Vec<Message>, max: usize) -> Result<usize, RecvError> {
            self.0.recv_many(into, max).await
        }

        /// As [`recv_many`](Self::recv_many), without waiting
        ///
        /// # Errors
        /// [`RecvError::WouldBlock`] if no message is there.
        pub fn try_recv_many(&self, into: &mut Vec<Message>, max: usize) -> Result<usize, RecvError> {
            self.0.try_recv_many(into, max)
        }

        /// As [`recv_many`](Self::recv_many), for threads without a runtime
        ///
        /// # Errors
        /// [`RecvError`].
        pub fn recv_many_blocking(&self, into: &mut Vec<Message>, max: usize) -> Result<usize, RecvError> {
            self.0.recv_many_blocking(into, max)
        }
    };
    (requests) => {
        /// Sends a request and waits for its own reply; can't wedge; see [`Socket::request`]
        ///
        /// # Errors
        /// [`RequestError`].
        ///
        /// # Cancel safety
        /// Safe: a reply that comes after is dropped and counted.
        pub async fn request(&self, message: Message, deadline: Duration) -> Result<Message, RequestError> {
            self.0.request(message, deadline).await
        }

        /// As [`request`](Self::request), for threads without a runtime
        ///
        /// # Errors
        /// [`RequestError`].
        pub fn request_blocking(&self, message: Message, deadline: Duration) -> Result<Message, RequestError> {
            self.0.request_blocking(message, deadline)
        }
    };
    (subscribes) => {
        /// Subscribes to messages whose first frame begins with `topic`; empty means all
        pub fn subscribe(&self, topic: impl AsRef<[u8]>) {
            // This type has subscriptions, so there is no error
            self.0.subscribe(topic).ok();
        }

        /// Ends a subscription, exactly as it was made
        pub fn unsubscribe(&self, topic: impl AsRef<[u8]>) {
            self.0.unsubscribe(topic).ok();
        }
    };
    (decides) => {
        /// With `xpub_manual`: enters a subscription for the peer whose request was received last
        ///
        /// # Errors
        /// [`SocketError::NotSupported`] without that option.
        pub fn subscribe(&self, topic: impl AsRef<[u8]>) -> Result<(), SocketError> {
            self.0.subscribe(topic)
        }

        /// With `xpub_manual`: ends a subscription of the peer whose request was received last
        ///
        /// # Errors
        /// [`SocketError::NotSupported`] without that option.
        pub fn unsubscribe(&self, topic: impl AsRef<[u8]>) -> Result<(), SocketError> {
            self.0.unsubscribe(topic)
        }
    };
    (awaits_peers) => {
        /// Waits for `wanted` peers, for a publisher with a subscription each; see [`Socket::ready`]
        ///
        /// # Errors
        /// [`NotReady`] tells how many there were at the deadline.
        ///
        /// # Cancel safety
        /// Safe: it only looks.
        pub async fn ready(&self, wanted: usize, deadline: Duration) -> Result<usize, NotReady> {
            self.0.ready(wanted, deadline).await
        }

        /// As [`ready`](Self::ready), for threads without a runtime
        ///
        /// # Errors
        /// [`NotReady`] tells how many there were at the deadline.
        pub fn ready_blocking(&self, wanted: usize, deadline: Duration) -> Result<usize, NotReady> {
            self.0.ready_blocking(wanted, deadline)
        }
    };
    (names_peers) => {
        /// Connects and gives the peer a name to route to; see [`Socket::connect_as`]
        ///
        /// # Errors
        /// The text isn't an endpoint, or not one that can be connected to.
        pub fn connect_as(
            &self,
            endpoint: impl IntoEndpoint,
            routing_id: impl Into<Bytes>,
        ) -> Result<Connecting, EndpointError> {
            self.0.connect_as(endpoint, routing_id)
        }
    };
}

typed! {
    /// REQ: sends a request, receives its reply (RFC 28); or [`request`](Self::request), which can't wedge
    ReqSocket, Req: sends receives tells_origin requests awaits_peers
}
typed! {
    /// REP: receives a request, sends its reply (RFC 28)
    RepSocket, Rep: sends receives tells_origin awaits_peers
}
typed! {
    /// DEALER: sends to its peers in turn, receives from all of them (RFC 28)
    DealerSocket, Dealer: sends sends_many receives tells_origin receives_many awaits_peers
}
typed! {
    /// ROUTER: sends to the peer named by the first frame, receives with that frame in front (RFC 28)
    RouterSocket, Router: sends sends_many receives tells_origin receives_many awaits_peers names_peers
}
typed! {
    /// PUB: sends to every subscriber of the message's topic (RFC 29)
    PubSocket, Pub: sends sends_many awaits_peers
}
typed! {
    /// SUB: receives what it subscribed to (RFC 29)
    SubSocket, Sub: receives tells_origin receives_many subscribes awaits_peers
}
typed! {
    /// XPUB: as PUB, and receives the subscriptions (RFC 29)
    ///
    /// Receive them: when as many of a peer's as `recv_hwm` allows wait unread, nothing more is read from
    /// that peer, and its further subscriptions have no effect until then. A PUB has no such bound.
    XpubSocket, Xpub: sends sends_many receives tells_origin receives_many awaits_peers decides
}
typed! {
    /// XSUB: as SUB, and subscribes by sending (RFC 29)
    XsubSocket, Xsub: sends sends_many receives tells_origin receives_many subscribes awaits_peers
}
typed! {
    /// PUSH: sends to its peers in turn (RFC 30)
    PushSocket, Push: sends sends_many awaits_peers
}
typed! {
    /// PULL: receives from all its peers in turn (RFC 30)
    PullSocket, Pull: receives tells_origin receives_many awaits_peers
}
typed! {
    /// PAIR: talks with one peer (RFC 31)
    PairSocket, Pair: sends sends_many receives tells_origin receives_many awaits_peers
}
typed! {
    /// STREAM: raw TCP peers, named by the first frame (libzmq's ZMQ_STREAM)
    StreamSocket, Stream: sends sends_many receives tells_origin receives_many awaits_peers names_peers
}
