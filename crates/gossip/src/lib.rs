//! Gossip: keys and values that spread through a loose network without a server.
//!
//! Every node holds all tuples. What one node puts reaches every other that is connected, over any route; what was lost on
//! the way is found by comparing digests and repaired; what is deleted or has expired stays away. Towards peers that speak
//! ZGossip (ZGP 1, CZMQ's `zgossip`) a node is a client or a server like theirs, octet for octet. Nodes of tidings know each other by the
//! property `X-Gossip` of the handshake and speak a wire of their own.
//!
//! [`Node`] decides, without clock and without I/O: messages and instants go in, messages and events come out.

pub mod record;
pub use record::{Dot, Incarnation, Lifetime, NodeId, Stamp, Tuple};
pub mod config;
pub use config::{Identity, LinkId, LinkInfo, NodeConfig, Presence, Quotas, Side, Wire};
pub mod event;
pub use event::{
    Event, HangUp, Health, LinkChange, LinkState, Member, MemberChange, MemberStatus, Refusal, Refusals, RemovalCause,
};
pub mod node;
pub use node::{Action, Node, NodeStats, PutError, Transmit, ViewState, Written};

pub mod actor;
pub use actor::{Actor, ActorEnded};
mod context;
pub use context::Ranges;
pub mod driver;
pub use driver::{Access, Change, ConnectOptions, Events, Gossip, GossipBuilder, LinkError, StopReport, Watch};
pub mod simulation;
mod table;
pub mod wire;
