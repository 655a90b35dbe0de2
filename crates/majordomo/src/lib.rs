//! Services by name over the Majordomo Protocol: a broker, clients and workers.
//!
//! A client asks for a service by its name and gets an answer, or learns why not. Workers register for a service; the broker
//! between them gives each request to a worker that is free. Spoken on one socket: MDP 0.1 (RFC 7) and Domogik's dialect of
//! it, MDP 0.2 (RFC 18) in the three forms that exist, and a wire of tidings' own, which both sides agree on by a
//! property of the handshake. What a broker says of itself is MMI (RFC 8).

pub mod broker;
pub mod server;
pub use server::Server;
pub mod wire;

mod message;
pub use message::{Message, MessageError};
mod event;
pub use event::{EVENT_VERSION, Event, EventError};

pub mod client;
pub use client::{
    BlockingClient, Call, Calling, Client, ClientCounts, ClientOptions, OpenError, Part, Parts, Reply, RequestError,
};
pub mod worker;
pub use worker::{
    Actions, Failure, Handler, PartialError, Request, ServeError, Worker, WorkerBuilder, WorkerCounts, WorkerEnd,
    blocking,
};
mod conversation;
pub use conversation::{Action, ConversationId, Loss, Retry};
mod inline;
pub mod titanic;
pub use titanic::client::{Durable, DurableError};
pub use titanic::{DurableRequests, Titanic, TitanicConfig, TitanicStats};

/// A number that nobody outside can foresee, to seed waits with
fn random() -> u64 {
    std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0)
}
