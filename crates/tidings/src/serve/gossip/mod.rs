//! The gossip node: what it listens on and connects to, who may do what with it, and what it announces.

mod announce;
mod identity;
mod rules;

pub(super) use announce::Served;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tidings::{Context, Endpoint, Options, SocketType};
use tidings_gossip::driver::{ConnectOptions, Gossip, LinkError, MemberRow, PeerRow, Status};
use tidings_gossip::{NodeConfig, NodeId, Presence, Quotas};

use self::announce::{Announcements, Way};
use self::identity::NodeIdentity;
use self::rules::Rules;
use super::connections::{Connections, Connects};
use super::keys::NodeKeys;
use super::side::{Bound, Side};
use super::status::Health;
use crate::cli::{Exit, Failure};
use crate::config::{Octets, PresenceScope, Protection, Settings, Target};

/// A running node
pub(super) struct GossipNode {
    side: Side<Gossip>,
    connections: Connections,
    rules: Arc<Rules>,
    name: String,
    announcements: Announcements,
    /// Kept for as long as the node lives
    _identity: NodeIdentity,
}

/// What the page knows the node by
#[derive(Clone)]
pub(super) struct GossipView(Gossip);

impl GossipNode {
    /// Starts the node; it listens and connects
    ///
    /// # Errors
    /// What can't be listened on, and what to do about it.
    pub(super) async fn start(
        context: &Context,
        settings: &Settings,
        keys: Option<&NodeKeys>,
        health: &Health,
    ) -> Result<Self, Failure> {
        // A keystore may have certificates alone; a listener that needs a key says so itself
        let own = keys.and_then(|keys| keys.own().inspect_err(|failure| tracing::debug!("{failure}")).ok());
        for listener in &settings.gossip_listen.value {
            // Others take a node for the one whose key they see
            if let (Protection::Curve(Some(name)), Some(own)) = (&listener.protection, &own)
                && own.name.to_string() != *name
            {
                let message = format!("gossip.listen: a node has one key, and that is '{}', not '{name}'", own.name);
                return Err(Failure::usage(message).hint("write curve = true, or name the key with security.key"));
            }
        }
        let of_key = own.as_ref().map(|own| NodeId::of_key(own.public_key.as_octets()));
        let identity = NodeIdentity::find(settings, of_key);
        let name = node_name(settings);
        let rules = Arc::new(Rules::new(settings));
        let mut builder =
            Gossip::builder(context).config(config(settings, &name)).id(identity.id).incarnation(identity.incarnation);
        if let Some(own) = &own {
            builder = builder.curve(own.secret.clone());
        }
        builder = builder.permit({
            let rules = Arc::clone(&rules);
            move |origin, access, key| rules.may(origin, access, key)
        });
        let gossip = builder.start().map_err(|error| Failure::new(Exit::Usage, "gossip", error))?;
        let mut side = Side::new("gossip.listen", "--gossip", gossip.clone(), keys);
        side.listen(&settings.gossip_listen.value).await?;
        let mut connections = Connections::new("gossip.connect", gossip.clone(), keys, Some(&gossip));
        connections.settle(&settings.gossip_connect.value);
        let announcements = Announcements::new(&gossip);
        health.gossips(GossipView(gossip));
        tracing::info!(node = %identity.id, name, "the gossip node runs");
        Ok(Self { side, connections, rules, name, announcements, _identity: identity })
    }

    /// The node itself, for those that look names up
    pub(super) fn gossip(&self) -> &Gossip {
        &self.side.socket
    }

    /// Where it really listens
    pub(super) fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.side.endpoints()
    }

    /// Tells others where everything is, or no longer does, as the settings say; and where the node itself is
    pub(super) async fn announce(&mut self, settings: &Settings, mut served: Vec<Served>) {
        let own: Vec<Endpoint> = self.endpoints().cloned().collect();
        let is_near = |target: &Target| match target {
            Target::Address(text) => text.parse::<Endpoint>().is_ok_and(|endpoint| endpoint.is_loopback_or_local()),
            // Where it leads is not known yet; those that are announced are reached
            Target::Named(_) => true,
        };
        let connects_locally = settings.gossip_connect.value.iter().all(|connection| is_near(&connection.target));
        let way = Way::new(&settings.gossip_advertise.value, &own, connects_locally);
        self.gossip().advertise(own.iter().filter_map(|endpoint| way.to(endpoint)));
        served.push(("gossip", own));
        if !settings.gossip_announce.value {
            served.clear();
        }
        let gossip = self.side.socket.clone();
        self.announcements.publish(&gossip, &self.name, &served, &way).await;
        let serves: serde_json::Map<String, Value> = self
            .announcements
            .published()
            .iter()
            .filter_map(|(key, value)| Some((key.split('/').nth(1)?.to_owned(), Value::from(value.as_str()))))
            .collect();
        let mut description = serde_json::Map::new();
        description.insert("version".to_owned(), env!("CARGO_PKG_VERSION").into());
        description.insert("serves".to_owned(), serves.into());
        gossip.describe(description);
    }

    /// Listens where a reload wants it to besides: all of it or, on an error, nothing
    ///
    /// # Errors
    /// What can't be listened on; everything is as it was.
    pub(super) async fn bind_new(&self, settings: &Settings) -> Result<Bound, Failure> {
        self.side.bind_new(&settings.gossip_listen.value).await
    }

    /// Applies the rest of what a reload may change
    pub(super) fn settle(&mut self, added: Bound, settings: &Settings) {
        self.side.settle(added, &settings.gossip_listen.value);
        self.connections.settle(&settings.gossip_connect.value);
        self.rules.change(settings);
        self.gossip().set_server_timeout(server_timeout(settings));
    }

    /// Waits for the end of the node, which only comes on its own if something is wrong
    pub(super) async fn ended(&self) {
        self.gossip().ended().await;
    }

    /// Says goodbye, so that nobody takes the node for dead
    pub(super) async fn stop(self, deadline: Duration) {
        let gossip = self.side.socket.clone();
        // Names are followed no more: nothing is connected again
        drop(self.connections);
        drop(self.announcements);
        let report = gossip.stop(deadline).await;
        tracing::info!(links = report.links, unsent = report.unsent, "the gossip node said goodbye");
    }
}

impl Connects for Gossip {
    fn options(&self) -> Options {
        Options::of(SocketType::Dealer)
    }

    fn connect(&self, endpoint: &Endpoint, options: Options) -> Result<(), String> {
        match self.connect_with(endpoint, ConnectOptions::default().options(options)) {
            // By another name, or by an address besides: one connection is enough
            Ok(_) | Err(LinkError::Known(_)) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn disconnect(&self, endpoint: &Endpoint) {
        if let Err(error) = Gossip::disconnect(self, endpoint) {
            tracing::debug!(%error, "already given up");
        }
    }
}

impl GossipView {
    /// Its state and figures
    pub(super) fn status(&self) -> Status {
        self.0.status()
    }

    /// How many members there are in each state
    pub(super) fn members_by_status(&self) -> BTreeMap<&'static str, u64> {
        let mut counts = BTreeMap::from([("up", 0), ("suspect", 0), ("gone", 0), ("left", 0)]);
        for member in self.0.members() {
            *counts.entry(member.status.name()).or_default() += 1;
        }
        counts
    }

    /// How many links speak which wire
    pub(super) fn links_by_wire(&self) -> BTreeMap<&'static str, u64> {
        let mut counts = BTreeMap::from([("tidings", 0), ("zgossip", 0)]);
        for link in self.0.peers() {
            *counts.entry(link.wire.name()).or_default() += 1;
        }
        counts
    }

    /// For `/status.json`: members and peers in bounded number, those that are not well first
    pub(super) fn to_json(&self) -> Value {
        let (mut members, peers) = (self.0.members(), self.0.peers());
        members.sort_by_key(|member| std::cmp::Reverse(member.status));
        let left_out = (members.len().saturating_sub(SHOWN), peers.len().saturating_sub(SHOWN));
        let members: Vec<MemberRow> = members.into_iter().take(SHOWN).map(MemberRow::from).collect();
        let peers: Vec<PeerRow> = peers.into_iter().take(SHOWN).map(PeerRow::from).collect();
        json!({
            "node": self.status(), "by-status": self.members_by_status(), "members": members, "peers": peers,
            "members-left-out": left_out.0, "peers-left-out": left_out.1,
        })
    }
}

/// What the settings say of times and bounds
fn config(settings: &Settings, name: &str) -> NodeConfig {
    let usual = NodeConfig::default();
    let octets = |Octets(octets): Octets| usize::try_from(octets).unwrap_or(usize::MAX);
    let interval = settings.gossip_interval.value;
    // The two have a fixed relation: resting links are ten times as lazy
    let resting_interval = interval.saturating_mul(10);
    NodeConfig {
        name: name.to_owned(),
        digest_interval: interval,
        resting_interval,
        fan_out: settings.gossip_fan_out.value.get() as usize,
        presence: match settings.gossip_presence.value {
            PresenceScope::All => Presence::All,
            PresenceScope::Links => Presence::Links,
        },
        overlay: settings.gossip_overlay.value,
        server_timeout: server_timeout(settings),
        quotas: Quotas {
            max_tuples: settings.gossip_max_tuples.value.get() as usize,
            max_octets: octets(settings.gossip_max_octets.value),
            max_tuples_per_owner: settings.gossip_max_tuples_per_owner.value.get() as usize,
            max_octets_per_owner: octets(settings.gossip_max_octets_per_owner.value),
            max_value: octets(settings.gossip_max_value.value),
            ..usual.quotas
        },
        ..usual
    }
}

fn server_timeout(settings: &Settings) -> Option<Duration> {
    Some(settings.gossip_server_timeout.value).filter(|timeout| !timeout.is_zero())
}

/// What the node is called: as configured, or as the host is
fn node_name(settings: &Settings) -> String {
    let configured = settings.gossip_name.value.as_str();
    if !configured.is_empty() {
        return configured.to_owned();
    }
    let system = rustix::system::uname();
    let host = system.nodename().to_string_lossy();
    let usable: String = host.chars().filter(|c| !c.is_control() && !c.is_whitespace() && *c != '/').take(64).collect();
    if usable.is_empty() { "node".to_owned() } else { usable }
}

/// Most members and peers on the page
const SHOWN: usize = 100;
