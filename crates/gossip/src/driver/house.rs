//! What the loop, the connections' tasks and the handles share, under one lock: the node, and where its links lead.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use serde_json::{Map, Value};
use tidings_socket::{CurvePublicKey, Endpoint, Message, Origin, Socket};
use tokio::sync::{Notify, broadcast};

use super::builder::CURVE_KEY;
use super::guest::{Guest, Served};
use super::log::Log;
use super::options::{PROPERTY, PROPERTY_VALUE};
use super::permit::{Access, Permit};
use super::remote::Remote;
use super::text;
use super::watch::{Queue, Watches};
use crate::config::{LinkId, LinkInfo, Side, Wire};
use crate::event::{Event, HangUp};
use crate::node::{Action, Node, PutError, Transmit, Written};
use crate::record::{Lifetime, NodeId};
use crate::wire::zgossip::{self, ZgossipMessage};

/// A node and its connections
pub(crate) struct House {
    pub(super) node: Node,
    outlets: HashMap<LinkId, Outlet, foldhash::fast::RandomState>,
    /// The ROUTER's connections, by their numbers
    peers: HashMap<u64, Peer, foldhash::fast::RandomState>,
    /// Endpoints that are connected to, as text
    pub(super) remotes: BTreeMap<String, Remote>,
    /// Links of the ROUTER whose queue was full
    blocked: HashSet<LinkId, foldhash::fast::RandomState>,
    /// Peers for whom replies or watches are under way
    guests: HashSet<u64, foldhash::fast::RandomState>,
    /// Whether the queue of one of them was full
    guest_waits: bool,
    pub(super) watches: Watches,
    /// `None` when the loop has ended
    events: Option<broadcast::Sender<Event>>,
    pub(super) permit: Permit,
    pub(super) counts: Counts,
    pub(super) log: Log,
    /// Where it listens, as text
    pub(super) bound: Vec<String>,
    /// What it tells of where it can be reached, if not that
    advertised: Option<Vec<String>>,
    /// What it always tells of itself
    description: Map<String, Value>,
    /// The loop has ended
    pub(super) is_over: bool,
    next_link: u64,
    next_remote: u64,
}

/// What the driver itself counts
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Counts {
    /// Text commands answered
    pub commands: u64,
    /// Commands, tuples and peers that the permit refused
    pub not_permitted: u64,
    /// Peers of text commands that were hung up since they read no replies
    pub slow_guests: u64,
    /// Times that a frame found its connection's queue full, and waits in the node
    pub blocked: u64,
}

/// Where a link leads
enum Outlet {
    /// A client of our ROUTER
    Client(u64),
    /// A server that a DEALER of ours is connected to
    Server { socket: Socket, signals: Arc<Signals> },
}

/// What the loop tells the task of a connection that was dialled
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// A frame was not taken
    pub(super) stuck: Notify,
    pub(super) hang_up: std::sync::Mutex<Option<HangUp>>,
    pub(super) hung_up: Notify,
}

/// A connection of the ROUTER
struct Peer {
    routing_id: Bytes,
    origin: Arc<Origin>,
    link: Option<LinkId>,
    wire: Wire,
    /// Nothing more is heard from it: its connection is about to end
    is_ended: bool,
    guest: Option<Guest>,
}

impl House {
    pub(super) fn new(
        node: Node,
        permit: Permit,
        advertised: Option<Vec<String>>,
        description: Map<String, Value>,
    ) -> Self {
        Self {
            node,
            outlets: HashMap::default(),
            peers: HashMap::default(),
            remotes: BTreeMap::new(),
            blocked: HashSet::default(),
            guests: HashSet::default(),
            guest_waits: false,
            watches: Watches::default(),
            events: Some(broadcast::Sender::new(EVENTS)),
            permit,
            counts: Counts::default(),
            log: Log::default(),
            bound: Vec::new(),
            advertised,
            description,
            is_over: false,
            next_link: 0,
            next_remote: 0,
        }
    }

    // ---- What the ROUTER receives ----

    /// A peer came or went
    pub(super) fn handle_notice(&mut self, now: Instant, router: &Socket, routing_id: Bytes, origin: &Arc<Origin>) {
        let number = origin.connection.number();
        if let Some(peer) = self.peers.remove(&number) {
            self.guests.remove(&number);
            if let Some(link) = peer.link {
                self.forget(link);
                self.node.handle_link_down(now, link, "disconnected");
            }
            return;
        }
        let ours = origin.property(PROPERTY).is_some_and(|value| value == PROPERTY_VALUE);
        let wire = if ours { Wire::Tidings } else { Wire::ZGossip };
        let peer = Peer { routing_id, origin: origin.clone(), link: None, wire, is_ended: false, guest: None };
        self.peers.insert(number, peer);
        if ours {
            match self.permit.allows(origin, Access::Join, b"") {
                // Both of us say HELLO at once
                true => drop(self.open(now, number)),
                false => self.turn_away(now, router, number, Access::Join, b""),
            }
        }
    }

    /// A peer said something
    pub(super) fn handle_received(&mut self, now: Instant, router: &Socket, origin: &Origin, message: Message) {
        let number = origin.connection.number();
        let Some(peer) = self.peers.get(&number).filter(|peer| !peer.is_ended) else { return };
        // A REQ puts an empty frame in front
        let is_request = message.frame_count() > 1 && message.first().is_empty();
        let first = if is_request { message.frame(1).unwrap_or_default() } else { message.first() };
        if text::is_command(first) {
            self.handle_command(now, router, number, message, is_request);
            return;
        }
        let link = match (peer.link, peer.wire) {
            (Some(link), _) => link,
            // Its first word makes a ZGP peer a client; before that it may be anybody
            (None, Wire::ZGossip) => match self.open(now, number) {
                Some(link) => link,
                None => return,
            },
            (None, Wire::Tidings) => return,
        };
        if self.may_say(now, router, number, &message) {
            self.node.handle_message(now, link, message);
        }
    }

    /// Whether the permit has nothing against what a ZGP client says
    fn may_say(&mut self, now: Instant, router: &Socket, number: u64, message: &Message) -> bool {
        let Some(peer) = self.peers.get(&number).filter(|_| !self.permit.is_open()) else { return true };
        if peer.wire == Wire::Tidings || message.frame_count() != 1 {
            return true;
        }
        match zgossip::decode(message) {
            Ok(ZgossipMessage::Publish { key, .. }) => {
                let allowed = self.permit.allows(&peer.origin, Access::Write, &key);
                if !allowed {
                    // ZGP has no word for it
                    self.counts.not_permitted += 1;
                    self.log.not_permitted(now, &peer.origin, Access::Write, &key);
                }
                allowed
            }
            Ok(ZgossipMessage::Hello) if !self.permit.allows(&peer.origin, Access::List, b"") => {
                self.turn_away(now, router, number, Access::List, b"");
                false
            }
            _ => true,
        }
    }

    fn turn_away(&mut self, now: Instant, router: &Socket, number: u64, access: Access, key: &[u8]) {
        self.counts.not_permitted += 1;
        let Some(peer) = self.peers.get_mut(&number) else { return };
        self.log.not_permitted(now, &peer.origin, access, key);
        peer.is_ended = true;
        router.dismiss(peer.origin.connection);
        if let Some(link) = peer.link.take() {
            self.forget(link);
            self.node.handle_link_down(now, link, "not permitted");
        }
    }

    /// A client of the ROUTER becomes a link
    fn open(&mut self, now: Instant, number: u64) -> Option<LinkId> {
        let link = self.fresh_link();
        // Whoever makes links by itself is held to a number of them
        let explicit = !self.node.config().overlay;
        let peer = self.peers.get_mut(&number)?;
        peer.link = Some(link);
        let info = LinkInfo {
            side: Side::Server,
            wire: peer.wire,
            endpoint: peer.origin.address.to_string(),
            key: peer.origin.curve_key.map(|key| *key.as_octets()),
            explicit,
            is_leaf: !self.permit.allows(&peer.origin, Access::Relay, b""),
        };
        self.outlets.insert(link, Outlet::Client(number));
        self.node.handle_link_up(now, link, info);
        Some(link)
    }

    // ---- Connections that were dialled ----

    /// A connection that was dialled is up
    pub(super) fn open_server(
        &mut self,
        now: Instant,
        socket: &Socket,
        signals: &Arc<Signals>,
        info: LinkInfo,
    ) -> LinkId {
        let link = self.fresh_link();
        self.outlets.insert(link, Outlet::Server { socket: socket.clone(), signals: signals.clone() });
        self.node.handle_link_up(now, link, info);
        link
    }

    /// A connection that was dialled is over
    pub(super) fn close_server(&mut self, now: Instant, link: LinkId, why: &str) {
        if self.forget(link) {
            self.node.handle_link_down(now, link, why);
        }
    }

    fn fresh_link(&mut self) -> LinkId {
        self.next_link += 1;
        LinkId(self.next_link)
    }

    /// Whether the link was still known
    fn forget(&mut self, link: LinkId) -> bool {
        self.blocked.remove(&link);
        self.outlets.remove(&link).is_some()
    }

    // ---- What comes of it ----

    /// Whether a client's queue was full: the ROUTER's room is then worth waiting for
    pub(super) fn is_blocked(&self) -> bool {
        !self.blocked.is_empty() || self.guest_waits
    }

    /// The ROUTER may have room again
    pub(super) fn handle_writable(&mut self, now: Instant) {
        for link in self.blocked.drain() {
            self.node.handle_writable(now, link);
        }
    }

    /// Tells, sends and does all that the node wants told, sent and done; endpoints to dial come back
    pub(super) fn flush(&mut self, now: Instant, router: &Socket) -> Vec<(String, Option<NodeId>)> {
        let mut dials = Vec::new();
        loop {
            self.tell(now);
            while let Some(transmit) = self.node.poll_transmit() {
                self.send(now, router, transmit);
            }
            let Some(action) = self.node.poll_action() else { break };
            match action {
                Action::Dial { endpoint, node } => dials.push((endpoint, node)),
                Action::HangUp { link, reason } => {
                    self.hang_up(router, link, reason);
                    self.node.handle_link_down(now, link, reason.name());
                }
            }
        }
        self.serve_guests(now, router);
        dials
    }

    /// Hands the node's events on, in order
    pub(crate) fn tell(&mut self, now: Instant) {
        while let Some(event) = self.node.poll_event() {
            match &event {
                Event::Put { .. } | Event::Removed { .. } => self.watches.tell(&event),
                Event::Missed { .. } => self.watches.tell(&event),
                _ => self.log.tell(now, &event),
            }
            if !matches!(&event, Event::Put { .. } | Event::Removed { .. })
                && let Some(events) = &self.events
            {
                // An error says that nobody listens
                events.send(event).ok();
            }
        }
    }

    /// What is told from now on, but for tuples
    pub(super) fn events(&self) -> broadcast::Receiver<Event> {
        match &self.events {
            Some(events) => events.subscribe(),
            None => broadcast::Sender::new(1).subscribe(),
        }
    }

    /// The loop has ended: whoever waits for something learns that, also where handles are left
    pub(super) fn end(&mut self) {
        self.is_over = true;
        self.watches.end();
        self.events = None;
    }

    fn send(&mut self, now: Instant, router: &Socket, transmit: Transmit) {
        let Transmit { link, frame } = transmit;
        let sent = match self.outlets.get(&link) {
            Some(Outlet::Client(number)) => {
                let Some(peer) = self.peers.get(number) else { return };
                let mut message = Message::from(frame.clone());
                message.push_front(peer.routing_id.clone());
                router.try_send(message)
            }
            Some(Outlet::Server { socket, .. }) => socket.try_send(Message::from(frame.clone())),
            // It has ended, and the node learns that or knows it
            None => return,
        };
        match sent {
            Ok(()) => {}
            Err(failure) if failure.reason == tidings_socket::SendFailure::WouldBlock => {
                self.counts.blocked += 1;
                self.node.handle_unsent(now, link, frame);
                match self.outlets.get(&link) {
                    Some(Outlet::Server { signals, .. }) => signals.stuck.notify_one(),
                    _ => drop(self.blocked.insert(link)),
                }
            }
            // The connection is over; its end is on its way
            Err(_) => {}
        }
    }

    fn hang_up(&mut self, router: &Socket, link: LinkId, reason: HangUp) {
        let Some(outlet) = self.outlets.remove(&link) else { return };
        self.blocked.remove(&link);
        match outlet {
            Outlet::Client(number) => {
                let Some(peer) = self.peers.get_mut(&number) else { return };
                (peer.link, peer.is_ended) = (None, true);
                match reason {
                    HangUp::Stuck => router.hang_up(peer.origin.connection),
                    _ => router.dismiss(peer.origin.connection),
                };
            }
            Outlet::Server { signals, .. } => {
                *signals.hang_up.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(reason);
                signals.hung_up.notify_one();
            }
        }
    }

    // ---- Text commands ----

    fn handle_command(&mut self, now: Instant, router: &Socket, number: u64, mut message: Message, is_request: bool) {
        if is_request {
            message.pop_front();
        }
        let Some(peer) = self.peers.get_mut(&number) else { return };
        let guest = peer.guest.get_or_insert_with(Guest::default);
        let frames: Vec<Bytes> = message.into_frames().into_iter().collect();
        if guest.enter(frames, is_request) {
            self.guests.insert(number);
            return;
        }
        self.counts.slow_guests += 1;
        self.log.slow_guest(now, &peer.origin);
        peer.is_ended = true;
        router.hang_up(peer.origin.connection);
        self.guests.remove(&number);
        if let Some(link) = peer.link.take() {
            self.forget(link);
            self.node.handle_link_down(now, link, "too slow");
        }
    }

    /// Answers those who asked something, as far as their queues allow
    fn serve_guests(&mut self, now: Instant, router: &Socket) {
        self.guest_waits = false;
        for number in self.guests.iter().copied().collect::<Vec<u64>>() {
            // Out of the list, for what is asked concerns the list as well
            let served = match self.peers.remove(&number) {
                Some(mut peer) => {
                    let (mut guest, routing_id) = (peer.guest.take(), peer.routing_id.clone());
                    let send = |mut message: Message| {
                        message.push_front(routing_id.clone());
                        router.try_send(message).map_err(|failure| failure.reason)
                    };
                    let served = guest.as_mut().map(|guest| guest.serve(self, now, &peer.origin, send));
                    peer.guest = guest;
                    self.peers.insert(number, peer);
                    served.unwrap_or(Served::Idle)
                }
                None => Served::Idle,
            };
            match served {
                Served::Idle => drop(self.guests.remove(&number)),
                Served::Listens => {}
                Served::Waits => self.guest_waits = true,
            }
        }
    }

    // ---- What handles and actors ask ----

    pub(crate) fn put(
        &mut self,
        now: Instant,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
        lifetime: Lifetime,
    ) -> Result<Written, PutError> {
        self.node.put(now, key, value, lifetime)
    }

    /// How many tuples are known, without the nodes' own
    pub(crate) fn len(&self) -> usize {
        self.node.len()
    }

    /// Adds a watch, which first tells what is known
    pub(super) fn watch(&mut self, now: Instant, queue: &Arc<Queue>) {
        // What has happened is part of what is known
        self.tell(now);
        match self.is_over {
            true => queue.end(),
            false => self.watches.add(queue),
        }
    }

    /// More of what is known for a watch
    pub(super) fn refill(&mut self, now: Instant, queue: &Queue) {
        self.tell(now);
        queue.refill(|after, tell| {
            // Of keys that begin so the shortest comes first
            let known = self.node.tuples_after(now, queue.prefix(), after);
            let mut known = known.take_while(|tuple| queue.covers(&tuple.key));
            while known.next().is_some_and(&mut *tell) {}
        });
    }

    // ---- What it tells of itself ----

    /// The ROUTER listens elsewhere
    pub(super) fn set_bound(&mut self, now: Instant, router: &Socket) {
        let bound = router.endpoints();
        self.bound = bound.iter().map(ToString::to_string).collect();
        if self.advertised.is_none() {
            let reachable = bound.iter().filter(|endpoint| is_reachable(endpoint));
            self.node.set_endpoints(now, reachable.map(ToString::to_string).collect());
        }
    }

    pub(super) fn advertise(&mut self, now: Instant, endpoints: Vec<String>) {
        self.node.set_endpoints(now, endpoints.clone());
        self.advertised = Some(endpoints);
    }

    pub(super) fn describe(&mut self, now: Instant, mut description: Map<String, Value>) {
        description.extend(self.description.clone());
        self.node.set_description(now, description);
    }

    /// The CURVE public key of a node, as it tells it, if its id is of that key
    pub(super) fn key_of(&self, now: Instant, node: NodeId) -> Option<CurvePublicKey> {
        let record = self.node.get(now, format!("$tidings/node/{node}").as_bytes())?;
        let record: Value = serde_json::from_slice(&record.value).ok()?;
        let key: CurvePublicKey = record.get(CURVE_KEY)?.as_str()?.parse().ok()?;
        (NodeId::of_key(key.as_octets()) == node).then_some(key)
    }

    pub(super) fn next_remote(&mut self) -> u64 {
        self.next_remote += 1;
        self.next_remote
    }
}

/// Whether others can connect to an endpoint by its text: those of other processes, and other hosts if it has an address
fn is_reachable(endpoint: &Endpoint) -> bool {
    let text = endpoint.to_string();
    let host = text.split_once("://").map_or("", |(_, rest)| rest);
    !matches!(endpoint, Endpoint::Inproc(_)) && !["*", "0.0.0.0:", "[::]:"].iter().any(|any| host.starts_with(any))
}

/// Events that somebody who listens may fall behind
const EVENTS: usize = 1024;
