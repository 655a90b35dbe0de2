//! What a node shows of itself: figures, links, members, and the network as a graph; as values, and as JSON for text commands.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use serde::Serialize;
use serde_json::Value;

use super::house::{Counts, House};
use crate::config::Side;
use crate::event::{LinkState, Member};
use crate::node::NodeStats;

/// A node's state and figures
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Status {
    /// Its id, 16 hexadecimal digits
    pub id: String,
    /// Its life: Unix milliseconds of when it began
    pub incarnation: u64,
    /// What it is called
    pub name: String,
    /// Where it listens
    pub endpoints: Vec<String>,
    /// Where it connects to
    pub connects: Vec<String>,
    /// Equal on nodes that agree; 16 hexadecimal digits
    pub root: String,
    /// Figures, by name
    pub figures: BTreeMap<&'static str, u64>,
    /// What was refused, by cause; causes that happened
    pub refused: BTreeMap<&'static str, u64>,
    /// What the driver counted
    pub driver: Counts,
}

impl Status {
    pub(super) fn of(house: &House) -> Self {
        let (node, stats) = (&house.node, house.node.stats());
        Self {
            id: node.identity().id.to_string(),
            incarnation: node.identity().incarnation.0,
            name: node.config().name.clone(),
            endpoints: house.bound.clone(),
            connects: house.remotes.keys().cloned().collect(),
            root: format!("{:016x}", node.root()),
            figures: figures(&stats),
            refused: stats.refusals.iter().filter(|(_, n)| *n > 0).map(|(cause, n)| (cause.name(), n)).collect(),
            driver: house.counts,
        }
    }
}

/// A node's figures by their names in metrics
pub fn figures(stats: &NodeStats) -> BTreeMap<&'static str, u64> {
    let size = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    BTreeMap::from([
        ("tuples", size(stats.tuples)),
        ("octets", size(stats.octets)),
        ("hidden", size(stats.hidden)),
        ("tombstones", size(stats.tombstones)),
        ("owners", size(stats.owners)),
        ("links", size(stats.links)),
        ("active-links", size(stats.active_links)),
        ("records-in", stats.records_in),
        ("records-new", stats.records_new),
        ("records-out", stats.records_out),
        ("frames-in", stats.frames_in),
        ("octets-in", stats.octets_in),
        ("frames-out", stats.frames_out),
        ("octets-out", stats.octets_out),
        ("octets-digest", stats.octets_digest),
        ("repairs", stats.repairs),
        ("wants", stats.wants),
        ("want-timeouts", stats.want_timeouts),
        ("grafts", stats.grafts),
        ("prunes", stats.prunes),
        ("missed-events", stats.missed_events),
        ("contested", size(stats.contested)),
        ("health", u64::from(stats.health.0)),
    ])
}

/// A link
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct PeerRow {
    /// Its number
    pub link: u64,
    /// Where to, or where from
    pub endpoint: String,
    /// `server`: a client of ours; `remote`: a server that we connected to
    pub side: &'static str,
    /// `tidings` or `zgossip`
    pub wire: &'static str,
    /// Who is there, 16 hexadecimal digits; empty where it isn't known
    pub node: String,
    /// What it is called
    pub name: String,
    /// Whether changes go over it
    pub active: bool,
    /// What it is for the spreading, or its state in ZGP
    pub role: &'static str,
    /// Frames sent
    pub frames_out: u64,
    /// Octets sent
    pub octets_out: u64,
    /// Frames received
    pub frames_in: u64,
    /// Octets received
    pub octets_in: u64,
    /// Messages refused
    pub refused: u64,
}

impl From<LinkState> for PeerRow {
    fn from(link: LinkState) -> Self {
        Self {
            link: link.link.0,
            endpoint: link.endpoint,
            side: match link.side {
                Side::Server => "server",
                Side::Remote => "remote",
            },
            wire: link.wire.name(),
            node: link.node.map(|node| node.to_string()).unwrap_or_default(),
            name: link.name,
            active: link.is_active,
            role: link.role,
            frames_out: link.frames_out,
            octets_out: link.octets_out,
            frames_in: link.frames_in,
            octets_in: link.octets_in,
            refused: link.refused,
        }
    }
}

/// A member
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct MemberRow {
    /// Its id, 16 hexadecimal digits
    pub id: String,
    /// Its life
    pub incarnation: u64,
    /// What it is called
    pub name: String,
    /// Where it may be connected to
    pub endpoints: Vec<String>,
    /// `up`, `suspect`, `gone`, `left`
    pub status: &'static str,
    /// For how long
    pub since_ms: u64,
    /// Whether there is a link to it
    pub neighbour: bool,
}

impl From<Member> for MemberRow {
    fn from(member: Member) -> Self {
        Self {
            id: member.id.to_string(),
            incarnation: member.incarnation.0,
            name: member.name,
            endpoints: member.endpoints,
            status: member.status.name(),
            since_ms: u64::try_from(member.since.as_millis()).unwrap_or(u64::MAX),
            neighbour: member.is_neighbour,
        }
    }
}

/// The network as this node knows it
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Graph {
    /// The nodes of ours, and one for each peer that speaks ZGP
    pub nodes: Vec<GraphNode>,
    /// Who is linked to whom, each pair once: ids of nodes
    pub edges: Vec<(String, String)>,
}

/// A node in a [`Graph`]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct GraphNode {
    /// Its id; for a peer that speaks ZGP its address
    pub id: String,
    /// What it is called
    pub name: String,
    /// `up`, `suspect`, `gone`, `left`; `zgossip` for a peer that speaks ZGP
    pub status: &'static str,
    /// Whether it is the node that was asked
    pub own: bool,
}

impl Graph {
    pub(super) fn of(house: &House, now: Instant) -> Self {
        let own = house.node.identity().id.to_string();
        let members = house.node.members(now);
        let mut nodes: Vec<GraphNode> = members
            .iter()
            .map(|member| GraphNode {
                id: member.id.to_string(),
                name: member.name.clone(),
                status: member.status.name(),
                own: member.id.to_string() == own,
            })
            .collect();
        let mut edges = BTreeSet::new();
        let mut edge = |one: &str, other: &str| {
            let (one, other) = if one <= other { (one, other) } else { (other, one) };
            edges.insert((one.to_owned(), other.to_owned()));
        };
        for link in house.node.links() {
            match link.node {
                Some(node) => edge(&own, &node.to_string()),
                None if link.wire == crate::Wire::ZGossip => {
                    edge(&own, &link.endpoint);
                    nodes.push(GraphNode { id: link.endpoint, name: link.name, status: "zgossip", own: false });
                }
                None => {}
            }
        }
        // What the others say of their own links
        for tuple in house.node.tuples(now, LINKS) {
            let Some(id) = tuple.key.strip_prefix(LINKS).and_then(|id| std::str::from_utf8(id).ok()) else { continue };
            let (of_ours, foreign) = neighbours(&tuple.value);
            of_ours.iter().for_each(|neighbour| edge(id, neighbour));
            for endpoint in foreign.into_iter().filter(|_| id != own) {
                edge(id, &endpoint);
                if !nodes.iter().any(|node| node.id == endpoint) {
                    nodes.push(GraphNode { id: endpoint, name: String::new(), status: "zgossip", own: false });
                }
            }
        }
        let known: BTreeSet<&str> = nodes.iter().map(|node| &node.id[..]).collect();
        edges.retain(|(one, other)| known.contains(&one[..]) && known.contains(&other[..]));
        Self { edges: edges.into_iter().collect(), nodes }
    }
}

/// What a `$tidings/links/` record says: the ids of nodes of ours, and the addresses of peers that speak ZGP
fn neighbours(value: &[u8]) -> (Vec<String>, Vec<String>) {
    let Ok(Value::Array(list)) = serde_json::from_slice::<Value>(value) else { return Default::default() };
    let of_ours = list.iter().filter_map(Value::as_str).map(ToOwned::to_owned).collect();
    let foreign = list.iter().filter_map(|one| one.get("zgossip")?.as_str()).take(MOST_FOREIGN).map(ToOwned::to_owned);
    (of_ours, foreign.collect())
}

pub(super) fn peers(house: &House) -> Vec<PeerRow> {
    house.node.links().into_iter().map(PeerRow::from).collect()
}

pub(super) fn members(house: &House, now: Instant) -> Vec<MemberRow> {
    house.node.members(now).into_iter().map(MemberRow::from).collect()
}

/// These values have no maps with keys other than text, so that it can't fail
pub(super) fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

const LINKS: &[u8] = b"$tidings/links/";
/// More peers of one node that speak ZGP are not shown
const MOST_FOREIGN: usize = 256;
