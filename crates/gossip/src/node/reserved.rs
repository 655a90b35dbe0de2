//! The nodes' own keys: what each tells of itself in `$tidings/node/`, and of its neighbours in `$tidings/links/`.
//!
//! Both are Session tuples, which only the node of that id may write. They don't go to peers that speak ZGP, and the
//! application isn't told of them.

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Map, Value};

use super::Node;
use crate::config::{Presence, Wire};
use crate::record::{Lifetime, NodeId};

/// What this node says of itself
#[derive(Default)]
pub(super) struct Reserved {
    pub(super) endpoints: Vec<String>,
    pub(super) description: Map<String, Value>,
    is_description_told: bool,
    /// When the neighbours are told, and when they were
    links_at: Option<Instant>,
    links_told: Option<Instant>,
}

impl Reserved {
    pub(super) fn note_description(&mut self) {
        self.is_description_told = false;
    }

    /// Neighbours came or went: that is told in a moment, and not often
    pub(super) fn note_links(&mut self, now: Instant) {
        let earliest = self.links_told.map_or(now, |told| told + LINKS_PAUSE);
        self.links_at.get_or_insert(earliest.max(now + LINKS_DELAY));
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.links_at
    }
}

impl Node {
    /// Writes what has changed of what this node says of itself
    pub(super) fn write_reserved(&mut self, now: Instant) {
        if self.config.presence == Presence::Links {
            self.reserved.links_at = None;
            return;
        }
        // A node without links has nobody to tell, and may have other endpoints when it has
        let has_links = self.links.values().any(|link| link.is_ready());
        if self.has_left || !has_links {
            if self.reserved.links_at.is_some_and(|at| at <= now) {
                self.reserved.links_at = None;
            }
            return;
        }
        if !self.reserved.is_description_told {
            self.reserved.is_description_told = true;
            let mut description = self.reserved.description.clone();
            description.insert("name".to_owned(), self.config.name.clone().into());
            description.insert("endpoints".to_owned(), self.reserved.endpoints.clone().into());
            description.insert("version".to_owned(), env!("CARGO_PKG_VERSION").into());
            self.put_reserved(now, NODE, Value::Object(description));
            // A node is its own member
            let (name, endpoints) = (self.config.name.clone(), self.reserved.endpoints.clone());
            self.members.on_member(now, self.identity.id, self.identity.incarnation, &name, &endpoints);
        }
        if self.reserved.links_at.is_some_and(|at| at <= now) {
            self.reserved.links_at = None;
            self.reserved.links_told = Some(now);
            let neighbours = self.links.values().filter_map(|link| link.peer.as_ref()).map(|peer| peer.id);
            let neighbours = neighbours.collect::<std::collections::BTreeSet<_>>();
            let neighbours = neighbours.iter().map(|id| Value::String(id.to_string()));
            // Those who speak ZGP don't tell of themselves
            let foreign = self.links.values().filter(|link| link.info.wire == Wire::ZGossip);
            let foreign = foreign.take(MOST_FOREIGN).map(|link| serde_json::json!({ "zgossip": link.info.endpoint }));
            let neighbours = neighbours.chain(foreign).collect();
            self.put_reserved(now, LINKS, Value::Array(neighbours));
        }
    }

    fn put_reserved(&mut self, now: Instant, kind: &str, value: Value) {
        let key = Bytes::from(format!("{kind}{}", self.identity.id));
        let value = Bytes::from(value.to_string());
        let is_ours = self.table.holder(&key).is_some_and(|(life, _)| life == self.own);
        if !is_ours || self.table.value(&key) != Some(&value) {
            // A node that holds all it may still is one
            let _ = self.append(now, key, Some((Lifetime::Session, value)));
            self.process_changes(now);
        }
    }

    /// A reserved key has changed
    pub(super) fn on_reserved(&mut self, now: Instant, key: &[u8]) {
        // What a former life wrote, by a clock that was ahead, may be later
        let is_lost = || self.table.holder(key).is_none_or(|(life, _)| life != self.own);
        if let Some(id) = key.strip_prefix(LINKS.as_bytes()).and_then(parse_id) {
            if id == self.identity.id && is_lost() {
                self.reserved.note_links(now);
            }
            return self.on_neighbours(now, key, id);
        }
        let Some(id) = key.strip_prefix(NODE.as_bytes()).and_then(parse_id) else { return };
        if id == self.identity.id {
            if is_lost() {
                self.reserved.note_description();
            }
            return;
        }
        let Some(tuple) = self.table.tuple(now, key) else {
            if self.table.holder(key).is_none() {
                self.members.on_member_dead(now, id);
            }
            return;
        };
        let Ok(Value::Object(description)) = serde_json::from_slice(&tuple.value) else { return };
        // As in HELLO: whoever says more is not heard out, since a name goes with each event
        let is_short = |text: &&str| text.len() <= 255;
        let name = description.get("name").and_then(Value::as_str).filter(is_short).unwrap_or_default();
        let endpoints = description.get("endpoints").and_then(Value::as_array).into_iter().flatten();
        let endpoints =
            endpoints.filter_map(Value::as_str).filter(is_short).take(16).map(str::to_owned).collect::<Vec<_>>();
        self.members.on_member(now, id, tuple.dot.incarnation, name, &endpoints);
        // It may have told of its neighbours before it told of itself
        let links = format!("{LINKS}{id}");
        self.on_neighbours(now, links.as_bytes(), id);
    }

    fn on_neighbours(&mut self, now: Instant, key: &[u8], id: NodeId) {
        let Some(tuple) = self.table.tuple(now, key) else { return };
        let Ok(Value::Array(neighbours)) = serde_json::from_slice(&tuple.value) else { return };
        let neighbours = neighbours.iter().filter_map(Value::as_str).filter_map(|id| parse_id(id.as_bytes()));
        self.members.on_neighbours(now, id, tuple.dot.incarnation, neighbours.take(MOST_NEIGHBOURS).collect());
    }
}

/// Who may write a reserved key
pub(super) fn owner_of(key: &[u8]) -> Option<NodeId> {
    key.strip_prefix(NODE.as_bytes()).or_else(|| key.strip_prefix(LINKS.as_bytes())).and_then(parse_id)
}

fn parse_id(digits: &[u8]) -> Option<NodeId> {
    let text = std::str::from_utf8(digits).ok().filter(|text| text.len() == 16)?;
    text.parse().ok().filter(|id: &NodeId| id.to_string() == text)
}

/// More peers than this that speak ZGP are not told of: each may be a stranger's
const MOST_FOREIGN: usize = 256;
const NODE: &str = "$tidings/node/";
const LINKS: &str = "$tidings/links/";
/// Of one node
const MOST_NEIGHBOURS: usize = 65_536;
/// Neighbours are told at most so often
const LINKS_PAUSE: Duration = Duration::from_secs(10);
/// And not before it is likely that all that come at first are there
const LINKS_DELAY: Duration = Duration::from_secs(2);
