//! A running node: one ROUTER that others connect to, a DEALER for each connection of its own, and one loop around a
//! [`Node`].
//!
//! ```
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use tidings_gossip::driver::{Change, Gossip};
//! use tidings_socket::Context;
//!
//! let context = Context::new();
//! let alpha = Gossip::builder(&context).name("alpha").start()?;
//! let at = alpha.bind("tcp://127.0.0.1:*").await?;
//! let beta = Gossip::builder(&context).name("beta").start()?;
//! beta.connect(at)?;
//! alpha.put("colour", "blue").await?;
//! let mut watch = beta.watch("");
//! let value = loop {
//!     if let Some(Change::Put { tuple, .. }) = watch.next().await {
//!         break tuple.value;
//!     }
//! };
//! assert_eq!(value, "blue");
//! # Ok(())
//! # }
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(example()).unwrap();
//! ```

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidings_socket::{BindError, ConnectError, Context, Endpoint, EndpointError, IntoEndpoint, NotFound, Options};
use tokio::sync::{broadcast, watch as single};

use crate::event::{Event, LinkState, Member};
use crate::node::{Node, NodeStats, PutError, ViewState, Written};
use crate::record::{Lifetime, NodeId, Tuple};

mod builder;
pub use builder::GossipBuilder;
mod guest;
pub(crate) use guest::reply;
mod house;
pub use house::Counts;
mod log;
mod options;
pub use options::{ConnectOptions, PROPERTY, PROPERTY_VALUE};
mod permit;
pub use permit::{Access, PermitPeer};
mod remote;
use remote::Outcome;
mod report;
pub use report::{Graph, GraphNode, MemberRow, PeerRow, Status, figures};
mod run;
mod shared;
pub(crate) use shared::Shared;
use shared::{now, random};
pub(crate) mod text;
mod watch;
pub(crate) use watch::{Bound, Entry, Queue, is_reserved};
pub use watch::{Change, Watch};

/// A node that runs
///
/// Cheap to clone. When the last handle is dropped the node says goodbye and ends in the background; [`stop`](Self::stop) waits
/// for that.
#[derive(Clone, Debug)]
pub struct Gossip {
    handle: Arc<Handle>,
    ended: single::Receiver<Option<StopReport>>,
}

/// Stops the node when it is dropped
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
}

/// What was left when a node stopped
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct StopReport {
    /// Links that were up
    pub links: usize,
    /// Messages to clients that could not be written any more
    pub unsent: u64,
}

/// Why an endpoint could not be connected to or bound
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The text isn't an endpoint, or not one that can be connected to
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The node connects there already; [`disconnect`](Gossip::disconnect) first to connect in another way
    #[error("the node is connected to {0} already")]
    Known(Endpoint),
    /// The node has stopped
    #[error("the node has stopped")]
    Stopped,
}

/// A connection that was asked for: await it for the first completed handshake or a definite refusal
///
/// Dropping it changes nothing; the node goes on.
#[derive(Debug)]
pub struct Linking {
    outcome: single::Receiver<Option<Outcome>>,
}

impl IntoFuture for Linking {
    type Output = Result<(), ConnectError>;
    type IntoFuture = std::pin::Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(mut self) -> Self::IntoFuture {
        Box::pin(async move {
            let told = self.outcome.wait_for(Option::is_some).await;
            told.ok().and_then(|outcome| outcome.clone()).unwrap_or(Err(ConnectError::Closed))
        })
    }
}

impl Gossip {
    /// A node of this context, yet to be set up and started
    pub fn builder(context: &Context) -> GossipBuilder {
        GossipBuilder::new(context)
    }

    /// Listens on an endpoint; returns it with its real port or path
    ///
    /// With a key ([`GossipBuilder::curve`]) it asks for CURVE.
    ///
    /// # Errors
    /// [`BindError`].
    ///
    /// # Cancel safety
    /// The endpoint is bound all the same, but others are not told of it.
    #[allow(clippy::result_large_err, reason = "told once for a bind")]
    pub async fn bind(&self, endpoint: impl IntoEndpoint) -> Result<Endpoint, BindError> {
        self.bind_to(endpoint.into_endpoint()?, None).await
    }

    /// As [`bind`](Self::bind), with options of this endpoint alone in place of the node's: its security foremost
    ///
    /// # Errors
    /// As `bind`.
    ///
    /// # Cancel safety
    /// As `bind`.
    #[allow(clippy::result_large_err, reason = "told once for a bind")]
    pub async fn bind_with(&self, endpoint: impl IntoEndpoint, options: Options) -> Result<Endpoint, BindError> {
        self.bind_to(endpoint.into_endpoint()?, Some(options)).await
    }

    #[allow(clippy::result_large_err, reason = "told once for a bind")]
    async fn bind_to(&self, endpoint: Endpoint, options: Option<Options>) -> Result<Endpoint, BindError> {
        let shared = self.shared();
        let actual = shared.router.bind_with(endpoint, shared.terms.of_bind(options))?.await?;
        shared.with(|house, now| house.set_bound(now, &shared.router));
        Ok(actual)
    }

    /// Stops to listen on an endpoint, named as it was given or with its real port; links stay
    ///
    /// # Errors
    /// [`NotFound`] when the node isn't bound to it.
    pub fn unbind(&self, endpoint: &Endpoint) -> Result<(), NotFound> {
        let shared = self.shared();
        shared.router.unbind(endpoint)?;
        shared.with(|house, now| house.set_bound(now, &shared.router));
        Ok(())
    }

    /// Connects to a node, and again whenever the connection is lost
    ///
    /// Await the [`Linking`] for the first handshake, or leave it.
    ///
    /// # Errors
    /// [`LinkError`].
    pub fn connect(&self, endpoint: impl IntoEndpoint) -> Result<Linking, LinkError> {
        self.connect_with(endpoint, ConnectOptions::default())
    }

    /// As [`connect`](Self::connect), with the server's key or options of this endpoint alone
    ///
    /// # Errors
    /// As `connect`.
    pub fn connect_with(&self, endpoint: impl IntoEndpoint, how: ConnectOptions) -> Result<Linking, LinkError> {
        let endpoint = endpoint.into_endpoint()?;
        endpoint.for_connect()?;
        let outcome = self.shared().connect(endpoint.clone(), how, true);
        match outcome {
            Some(outcome) => Ok(Linking { outcome }),
            None if self.shared().house().is_over => Err(LinkError::Stopped),
            None => Err(LinkError::Known(endpoint)),
        }
    }

    /// Gives up an endpoint that was connected to
    ///
    /// # Errors
    /// [`NotFound`] when the node doesn't connect there.
    pub fn disconnect(&self, endpoint: &Endpoint) -> Result<(), NotFound> {
        let removed = self.shared().house().remotes.remove(&endpoint.to_string());
        match removed {
            Some(remote) => {
                remote.stop.stop();
                Ok(())
            }
            None => Err(NotFound { endpoint: endpoint.clone() }),
        }
    }

    /// Gives a key a value, until somebody gives it another or takes it away
    ///
    /// Done when this returns; that others know it is not awaited.
    ///
    /// # Errors
    /// [`PutError`]: it is too long, reserved, or there is no room.
    ///
    /// # Cancel safety
    /// Polled once, it is done.
    pub async fn put(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Result<Written, PutError> {
        self.put_with(key, value, Lifetime::Permanent).await
    }

    /// As [`put`](Self::put), for a time or for as long as this node lives
    ///
    /// # Errors
    /// As `put`.
    ///
    /// # Cancel safety
    /// As `put`.
    pub async fn put_with(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
        lifetime: Lifetime,
    ) -> Result<Written, PutError> {
        let written = self.shared().with(|house, now| house.put(now, key, value, lifetime));
        // Whoever puts many lets the node's own task run in between
        tokio::task::coop::consume_budget().await;
        written
    }

    /// Takes a key's value away, whosever it is; `false` if it has none
    ///
    /// # Errors
    /// [`PutError`]: the key is too long or reserved.
    pub fn remove(&self, key: impl AsRef<[u8]>) -> Result<bool, PutError> {
        self.shared().with(|house, now| house.node.remove(now, key.as_ref()))
    }

    /// What a key has
    #[must_use]
    pub fn get(&self, key: impl AsRef<[u8]>) -> Option<Tuple> {
        self.shared().look(|node, now| node.get(now, key.as_ref()))
    }

    /// All tuples whose keys begin so, in the order of their keys; the nodes' own only if `prefix` begins with `$`
    #[must_use]
    pub fn list(&self, prefix: impl AsRef<[u8]>) -> Vec<Tuple> {
        self.shared().look(|node, now| node.tuples(now, prefix.as_ref()).collect())
    }

    /// How many tuples are known, without the nodes' own
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared().look(|node, _| node.len())
    }

    /// Whether no tuple is known
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is known under a prefix, then every change of it
    #[must_use]
    pub fn watch(&self, prefix: impl AsRef<[u8]>) -> Watch {
        self.watch_within(prefix, Bound::default())
    }

    /// As [`watch`](Self::watch), with this many changes at most that wait to be fetched. Default: 8192
    #[must_use]
    pub fn watch_bounded(&self, prefix: impl AsRef<[u8]>, changes: usize) -> Watch {
        self.watch_within(prefix, Bound { changes: changes.max(1), ..Bound::default() })
    }

    fn watch_within(&self, prefix: impl AsRef<[u8]>, bound: Bound) -> Watch {
        let queue = Queue::new(Bytes::copy_from_slice(prefix.as_ref()), bound);
        self.shared().enter(&queue);
        Watch::new(self.shared().clone(), queue)
    }

    /// Members, links, contested keys and refusals as they come, go and happen; tuples are [`watch`](Self::watch)'s
    #[must_use]
    pub fn events(&self) -> Events {
        Events { receiver: self.shared().house().events() }
    }

    /// All members, this node included
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        self.shared().look(Node::members)
    }

    /// All links
    #[must_use]
    pub fn peers(&self) -> Vec<LinkState> {
        self.shared().look(|node, _| node.links())
    }

    /// Its state and figures, as `STATUS` shows them
    #[must_use]
    pub fn status(&self) -> Status {
        self.shared().with_house(|house, _| Status::of(house))
    }

    /// Its figures
    #[must_use]
    pub fn stats(&self) -> NodeStats {
        self.shared().look(|node, _| node.stats())
    }

    /// What its driver counted
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.shared().house().counts
    }

    /// The network as it knows it
    #[must_use]
    pub fn graph(&self) -> Graph {
        self.shared().with_house(|house, now| Graph::of(house, now))
    }

    /// Whom it could connect to
    #[must_use]
    pub fn view(&self) -> ViewState {
        self.shared().look(|node, _| node.view())
    }

    /// Who it is
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.shared().look(|node, _| node.identity().id)
    }

    /// A digest of all that is known: equal on nodes that agree
    #[must_use]
    pub fn root(&self) -> u64 {
        self.shared().look(|node, _| node.root())
    }

    /// The endpoints it listens on, with their real ports and paths
    #[must_use]
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.shared().router.endpoints()
    }

    /// Where others can connect to it, in the order of preference, in place of the endpoints that it binds
    pub fn advertise(&self, endpoints: impl IntoIterator<Item = impl Into<String>>) {
        let endpoints = endpoints.into_iter().map(Into::into).collect();
        self.shared().with(|house, now| house.advertise(now, endpoints));
    }

    /// What else this node tells of itself: replaces what was told before
    pub fn describe(&self, description: serde_json::Map<String, serde_json::Value>) {
        self.shared().with(|house, now| house.describe(now, description));
    }

    /// After how long a silent client that speaks ZGP is forgotten; `None` for never while it is connected. For those that come
    /// from now on
    pub fn set_server_timeout(&self, timeout: Option<Duration>) {
        self.shared().with(|house, _| house.node.set_server_timeout(timeout));
    }

    /// Says goodbye: others learn that it has left; then closes its connections
    ///
    /// # Cancel safety
    /// The node stops all the same; [`ended`](Self::ended) tells when.
    pub async fn stop(&self, deadline: Duration) -> StopReport {
        self.shared().stop(deadline);
        self.ended().await
    }

    /// Waits until it has stopped, or its context was closed
    ///
    /// # Cancel safety
    /// Safe: it only waits.
    pub async fn ended(&self) -> StopReport {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(report) => (*report).unwrap_or_default(),
            // The runtime was shut down with the loop in it
            Err(_) => StopReport::default(),
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.stop(options::FAREWELL);
    }
}

/// What happens to a node, besides tuples
#[derive(Debug)]
pub struct Events {
    receiver: broadcast::Receiver<Event>,
}

impl Events {
    /// The next event; `None` when the node has ended. [`Event::Missed`] where they were not fetched in time
    ///
    /// # Cancel safety
    /// Safe: an event is taken only when it is returned.
    pub async fn next(&mut self) -> Option<Event> {
        match self.receiver.recv().await {
            Ok(event) => Some(event),
            Err(broadcast::error::RecvError::Lagged(count)) => Some(Event::Missed { count }),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }

    /// The next event if there is one already
    pub fn try_next(&mut self) -> Option<Event> {
        match self.receiver.try_recv() {
            Ok(event) => Some(event),
            Err(broadcast::error::TryRecvError::Lagged(count)) => Some(Event::Missed { count }),
            Err(_) => None,
        }
    }
}
