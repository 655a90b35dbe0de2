//! What a node is made of, before it runs.

use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use tidings_socket::{Context, CurveSecretKey, Options, Origin, SocketError, SocketType};
use tokio::sync::{Notify, mpsc, watch};

use super::house::House;
use super::options::Terms;
use super::permit::{Access, Permit};
use super::run::Driver;
use super::{Gossip, Handle, Shared, now, random};
use crate::config::{Identity, NodeConfig};
use crate::node::Node;
use crate::record::{Incarnation, NodeId};

/// Chooses what a node has that can't be changed later
///
/// Made by [`Gossip::builder`].
#[derive(Clone)]
#[must_use]
pub struct GossipBuilder {
    context: Context,
    config: NodeConfig,
    id: Option<NodeId>,
    incarnation: Option<Incarnation>,
    terms: Terms,
    permit: Permit,
    advertised: Option<Vec<String>>,
}

impl GossipBuilder {
    pub(super) fn new(context: &Context) -> Self {
        Self {
            context: context.clone(),
            config: NodeConfig::default(),
            id: None,
            incarnation: None,
            terms: Terms::default(),
            permit: Permit::default(),
            advertised: None,
        }
    }

    /// What people call it; up to 255 octets. Default: nothing
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.config.name = name.into();
        self
    }

    /// Times and bounds; the name in it counts as well
    pub fn config(mut self, config: NodeConfig) -> Self {
        self.config = config;
        self
    }

    /// Who it is: the same in each life. Default: [`NodeId::of_key`] with [`curve`](Self::curve), else a random one
    ///
    /// Where CURVE is used, others refuse a node whose id is not that of its key.
    pub fn id(mut self, id: NodeId) -> Self {
        self.id = Some(id);
        self
    }

    /// Which life this is: greater in each. Default: now, in Unix milliseconds
    pub fn incarnation(mut self, incarnation: Incarnation) -> Self {
        self.incarnation = Some(incarnation);
        self
    }

    /// The node's own key for CURVE: what it binds asks for CURVE, and it can connect to nodes whose key it is told
    ///
    /// Which keys are let in is the context's authenticator's affair; without one all are.
    pub fn curve(mut self, secret_key: CurveSecretKey) -> Self {
        self.terms.curve = Some(secret_key);
        self
    }

    /// What authenticators (ZAP) are told that the endpoints belong to. Default: nothing
    pub fn zap_domain(mut self, domain: impl Into<String>) -> Self {
        self.terms.zap_domain = Some(domain.into());
        self
    }

    /// Options of its sockets: TLS files, times of reconnection, heartbeats. Queues and what makes the pattern are set by the
    /// node
    pub fn options(mut self, options: Options) -> Self {
        self.terms.options = options;
        self
    }

    /// Where others can connect to it, in the order of preference, in place of the endpoints that it binds
    pub fn advertise(mut self, endpoints: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.advertised = Some(endpoints.into_iter().map(Into::into).collect());
        self
    }

    /// Asks this what a peer of the ROUTER may do; see [`Access`]. Default: everybody may do everything
    ///
    /// It runs under the node's lock: it must answer at once, and not call the node.
    pub fn permit(mut self, permit: impl Fn(&Origin, Access, &[u8]) -> bool + Send + Sync + 'static) -> Self {
        self.permit = Permit::new(permit);
        self
    }

    /// Starts the node, with no endpoints yet
    ///
    /// # Errors
    /// The context is closed or has as many sockets as it may.
    pub fn start(self) -> Result<Gossip, SocketError> {
        let Self { context, config, id, incarnation, mut terms, permit, advertised } = self;
        let of_key = || terms.curve.as_ref().map(|secret| NodeId::of_key(secret.public().as_octets()));
        let id = id.or_else(of_key).unwrap_or_else(|| NodeId(random()));
        let wall = SystemTime::now();
        let unix_ms = wall.duration_since(SystemTime::UNIX_EPOCH).map(|since| since.as_millis()).unwrap_or_default();
        let incarnation = incarnation.unwrap_or_else(|| Incarnation(u64::try_from(unix_ms).unwrap_or(u64::MAX).max(1)));
        // A value, its key and what is around them; what is batched is smaller
        terms.max_message_size = u64::try_from(config.quotas.max_value).unwrap_or(u64::MAX).saturating_add(MARGIN);
        let router = context.socket_with(SocketType::Router, terms.of_router())?;
        let (name, key) = (config.name.clone(), terms.curve.as_ref().map(CurveSecretKey::public));
        let mut node = Node::new(config, Identity { id, incarnation }, random(), now(), wall);
        let mut description = serde_json::Map::new();
        if let Some(key) = key {
            // Those whom the network tells of this node can connect to it
            description.insert(CURVE_KEY.to_owned(), key.to_string().into());
        }
        node.set_description(now(), description.clone());
        if let Some(endpoints) = &advertised {
            node.set_endpoints(now(), endpoints.clone());
        }
        let (running, remotes) = mpsc::channel(1);
        let (end, ended) = watch::channel(None);
        let shared = Arc::new(Shared {
            context: context.clone(),
            router,
            terms,
            house: Mutex::new(House::new(node, permit, advertised, description)),
            touched: Notify::new(),
            stop: Mutex::default(),
            running: Mutex::new(Some(running)),
        });
        tracing::debug!(node = %id, name, "a gossip node starts");
        let driver = Driver::new(shared.clone(), remotes);
        context.spawn(async move {
            let report = driver.run().await;
            end.send_replace(Some(report));
        });
        Ok(Gossip { handle: Arc::new(Handle { shared }), ended })
    }
}

impl std::fmt::Debug for GossipBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GossipBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}

/// The member of a node's description that has its CURVE public key
pub(super) const CURVE_KEY: &str = "curve-key";
/// Octets of a frame beyond the largest value
const MARGIN: u64 = 512 << 10;
