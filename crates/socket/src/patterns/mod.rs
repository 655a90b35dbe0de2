//! What makes a socket type that type: where a message goes and what of it the application sees.
//!
//! One file per family; `state.rs` holds what they share, the pipes and their turns.

mod dish;
pub(crate) mod multipart;
mod publisher;
mod radio;
mod rep;
mod req;
mod router;
mod server;
mod subscriber;

pub(crate) use dish::{BAD_GROUP_NAME, Dish, is_group_and_body};
pub(crate) use publisher::Publisher;
pub(crate) use radio::{Groups, is_group};
pub(crate) use rep::Rep;
pub(crate) use req::{Reply, Req, Verdict};
pub(crate) use router::Router;
pub(crate) use server::{Server, id_of};
pub(crate) use subscriber::Subscriber;

use tidings_zmtp::SocketType;

use crate::pipe::PipeKey;

/// The state that a socket type adds to its pipes
#[derive(Debug)]
pub(crate) enum Pattern {
    /// REQ (RFC 28)
    Req(Req),
    /// REP (RFC 28)
    Rep(Rep),
    /// DEALER (RFC 28): turns among peers, nothing added
    Dealer,
    /// ROUTER (RFC 28), and STREAM (RFC 32's neighbour in libzmq: the same with raw TCP peers)
    Router(Router),
    /// PUB and XPUB (RFC 29)
    Publisher(Publisher),
    /// SUB and XSUB (RFC 29)
    Subscriber(Subscriber),
    /// PUSH (RFC 30)
    Push,
    /// PUSH that has been connected to udp: as before, but for what does not fit into a datagram
    PushDatagrams,
    /// PULL (RFC 30) and GATHER (RFC 49)
    Pull,
    /// PAIR (RFC 31) and CHANNEL (RFC 52): the one peer
    Pair(Option<PipeKey>),
    /// CLIENT (RFC 41): as DEALER, but for messages of several frames
    Client,
    /// SERVER (RFC 41) and PEER (RFC 51)
    Server(Server),
    /// SCATTER (RFC 49): as PUSH, but for messages of several frames
    Scatter,
    /// RADIO (RFC 48)
    Radio(Groups),
    /// DISH (RFC 48)
    Dish(Dish),
}

impl Pattern {
    pub(crate) fn of(socket_type: SocketType, seed: u32) -> Self {
        match socket_type {
            SocketType::Req => Self::Req(Req::new(seed)),
            SocketType::Rep => Self::Rep(Rep::default()),
            SocketType::Dealer => Self::Dealer,
            SocketType::Router | SocketType::Stream => Self::Router(Router::new(seed)),
            SocketType::Pub | SocketType::Xpub => Self::Publisher(Publisher::default()),
            SocketType::Sub | SocketType::Xsub => Self::Subscriber(Subscriber::default()),
            SocketType::Push => Self::Push,
            SocketType::Pull | SocketType::Gather => Self::Pull,
            SocketType::Client => Self::Client,
            SocketType::Server | SocketType::Peer => Self::Server(Server::new(seed)),
            SocketType::Scatter => Self::Scatter,
            SocketType::Radio => Self::Radio(Groups::default()),
            SocketType::Dish => Self::Dish(Dish::default()),
            // A type that a later version of the protocol crate adds starts out as the plainest one
            _ => Self::Pair(None),
        }
    }
}
