//! The ZeroMQ socket types, natively: REQ, REP, DEALER, ROUTER, PUB, SUB, XPUB, XSUB, PUSH, PULL, PAIR, STREAM,
//! and the later ones: CLIENT, SERVER, RADIO, DISH, SCATTER, GATHER, PEER, CHANNEL.
//!
//! Take a [`Context`], make one of the typed sockets, bind or connect it, send and receive. Handles
//! are `Send + Sync` and cheap to clone; `send` and `recv` are cancel-safe and exist as async, `try_`
//! and `_blocking`. Semantics are those of RFC 28 to 31, 41, 48, 49, 51 and 52 and of libzmq, whose defaults hold.
//!
//! ```
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use tidings_socket::{Context, PullSocket, PushSocket};
//!
//! let context = Context::new();
//! let pull = PullSocket::new(&context)?;
//! let endpoint = pull.bind("tcp://127.0.0.1:*")?.await?;
//! let push = PushSocket::new(&context)?;
//! push.connect(endpoint)?.await?;
//! push.send("hello".into()).await?;
//! assert_eq!(pull.recv().await?.first(), b"hello");
//! # Ok(())
//! # }
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(example()).unwrap();
//! ```
//!
//! How it works inside: an application's call changes the state under one lock; a connection is one
//! task that moves octets between that state and a byte stream. ARCHITECTURE.md shows the way of a
//! message through the files.

mod context;
pub use context::{Context, ContextBuilder};

mod socket;
pub use socket::{Binding, CloseReport, Connecting, IntoEndpoint, Receiving, Sending, Socket, Unflushed};

#[macro_use]
mod typed;
pub use typed::{
    DealerSocket, PairSocket, PubSocket, PullSocket, PushSocket, RepSocket, ReqSocket, RouterSocket, StreamSocket,
    SubSocket, XpubSocket, XsubSocket,
};

mod later;
pub use later::{
    ChannelSocket, ClientSocket, ConnectingPeer, DishSocket, GatherSocket, PeerSocket, RadioSocket, ScatterSocket,
    ServerSocket,
};

mod options;
pub use options::{OPTIONS, OptionError, OptionKind, OptionRow, OptionValue, Options, Overflow};

mod secret;
pub use secret::Secret;

mod security;
pub use security::{SecurityError, SystemEntropy};

mod auth;
pub use auth::{AuthRequest, Authenticator};

mod error;
pub use error::{
    BindError, ConnectError, NotFound, NotReady, RecvError, RequestError, SendError, SendFailure, SocketError,
};

mod events;
pub use events::{ConnectionId, Event, EventKind, EventStream, SocketId};

mod origin;
pub use origin::{Origin, Received};

mod stats;
pub use stats::{PeerStats, SocketStats};

mod proxy;
pub use proxy::{Flow, Proxy, ProxyError, ProxyHandle, ProxyState, ProxyStatistics};

mod trie;
pub use trie::{Change, SubscriptionTrie};

mod dialer;
pub use dialer::Peer;

pub use bytes::Bytes;
pub use tidings_transport::{Endpoint, EndpointError, PeerCertificate, TlsError, TlsPeer, TlsStatus};
pub use tidings_zmtp::{
    AuthVerdict, CloseReason, Credentials, CurvePublicKey, CurveSecretKey, DenyCode, Frames, Message, Properties,
    SocketType,
};

mod backoff;
#[doc(hidden)]
pub use backoff::Backoff;
mod blocking;
#[doc(hidden)]
pub use blocking::block_on;

mod connection;
mod half_open;
mod inproc;
mod listener;
mod patterns;
mod pipe;
mod rotation;
mod shared;
mod state;
mod suggest;
mod udp;
mod zap;
