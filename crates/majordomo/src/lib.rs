//! Services by name over the Majordomo Protocol: a broker, clients and workers.
//!
//! A client asks for a service by its name and gets an answer, or learns why not. Workers register for a service; the broker
//! between them gives each request to a worker that is free. Spoken on one socket: MDP 0.1 (RFC 7) and Domogik's dialect of
//! it, MDP 0.2 (RFC 18) in the three forms that exist, and a wire of tidings' own, which both sides agree on by a
//! property of the handshake. What a broker says of itself is MMI (RFC 8).
//!
//! A worker that takes an action with data and answers with another, and a client that asks it:
//!
//! ```
//! use serde_json::json;
//! use tidings_majordomo::{Actions, Client, ClientOptions, Failure, Message, Worker};
//! # use tidings_majordomo::{Server, broker::BrokerConfig};
//! # use tidings_socket::{Context, RouterSocket};
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! # let context = Context::new();
//! # let socket = RouterSocket::new(&context)?;
//! # let _server = Server::start(socket.clone(), BrokerConfig::default());
//! # let endpoint = socket.bind("tcp://127.0.0.1:*")?.await?;
//!
//! let actions = Actions::new().on("foo.this.do", async |message: Message| {
//!     let value = message.value("a_key").cloned();
//!     Ok::<_, Failure>(("foo.this.result", json!({"another_key": value})))
//! });
//! let worker = Worker::builder(&context, &endpoint, "test_rep").serve(actions)?;
//! worker.ready().await;
//!
//! let client = Client::connect(&context, &endpoint, ClientOptions::default()).await?;
//! let request = Message::new("foo.this.do", json!({"a_key": 7}));
//! let answer = client.ask("test_rep", &request).await?;
//! assert_eq!(answer, Message::new("foo.this.result", json!({"another_key": 7})));
//! # Ok(())
//! # }
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(example()).unwrap();
//! ```
//!
//! [`Client`] and [`BlockingClient`] ask, a [`Worker`] has a [`Handler`] answer, a [`Server`] is the broker between. Each has
//! a part that decides, without clock and without I/O ([`client::Requests`], [`worker::Jobs`], [`broker::Broker`]), and a
//! driver that does as it is told.

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
