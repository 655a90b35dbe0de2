//! The broker: services, workers and waiting requests as pure state.
//!
//! Messages and instants go in, messages and events come out; there is no I/O, no clock and no randomness in here. After
//! any `handle_*` or local call, drain [`poll_transmit`](Broker::poll_transmit) and [`poll_local`](Broker::poll_local);
//! call [`handle_timeout`](Broker::handle_timeout) when [`poll_timeout`](Broker::poll_timeout) says.
//!
//! A request waits in its service's queue or is at one worker, and ends exactly once: in a reply, in a refusal, in expiry,
//! or because its client took it back or went away. What a worker still owes after that keeps the worker's place taken
//! and is counted when it comes. `dispatch` is the one function that joins requests and workers; it runs after every
//! change of a service.
//!
//! That a worker lives and how long its job takes are two things: a worker is dead when its connection ends, when it says
//! so, or when nothing was heard of it for `liveness` intervals. A classic worker, which may block while it works, is not
//! expected to be heard from until its request's time is over.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use slab::Slab;
use tidings_zmtp::Message;

use crate::wire::{self, ClientCommand, Command, Incoming, ReturnPath, Role, ServiceName, Status, WorkerOrder};

mod check;
mod config;
pub use config::{Balance, BrokerConfig};
mod counters;
use counters::Counters;
pub use counters::{Counter, Refusals};
mod dispatch;
mod event;
use event::Events;
pub use event::{BrokerEvent, Departure, WorkerAt};
mod kept;
mod keys;
use keys::Keys;
mod latency;
pub use latency::{BUCKETS, Latency};
mod list;
use list::List;
mod local;
use local::Reserved;
pub use local::{Local, LocalReply, LocalRequestId, LocalWorkerId, Refuser};
mod mmi;
mod permit;
pub use permit::{Access, Permit};
mod requests;
use requests::{Asker, Request};
mod services;
use services::Services;
mod stats;
pub use stats::{BrokerStats, ServiceStats, WorkerStats};
mod token;
use token::Tokens;
mod wheel;
use wheel::Wheel;
mod workers;
use workers::{Worker, WorkerSide};

#[cfg(test)]
mod tests;

/// What a driver knows a connection by; never used again for another one
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerKey(pub u64);

/// A message for a peer
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Whose
    pub to: PeerKey,
    /// The message, without the routing id
    pub message: Message,
    /// What it is, which matters if it can't be sent
    pub kind: TransmitKind,
}

/// What a message to a peer is
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransmitKind {
    /// A request for a worker, by its token
    Request(u64),
    /// A reply to a client
    Reply,
    /// A heartbeat for a worker
    Heartbeat,
    /// Another order for a worker
    Order,
}

/// Why a message could not be sent
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unsent {
    /// The peer's queue is full
    Full,
    /// The peer is there no longer
    Gone,
}

/// A Majordomo broker as pure state
pub struct Broker {
    config: BrokerConfig,
    permit: Option<Box<dyn Permit>>,
    started: Instant,
    is_stopping: bool,
    peers: Slab<Peer>,
    // The driver makes these keys, so nobody can choose ones that collide
    peer_by_key: HashMap<PeerKey, u32, foldhash::fast::RandomState>,
    services: Services,
    workers: Slab<Worker>,
    next_worker: u64,
    local_workers: HashMap<LocalWorkerId, u32>,
    next_local_request: u64,
    tells_workers: bool,
    reserved: Vec<Reserved>,
    requests: Slab<Request>,
    /// Requests by their clients' numbers; clients choose those, so that the hash has to be keyed (std's is)
    // A client chooses half of the key, but not the seed, and has a bounded number of them
    by_client_id: HashMap<(u32, u64), u32, foldhash::quality::RandomState>,
    keys: Keys,
    keys_timer: Option<(wheel::TimerId, Instant)>,
    timers: Wheel<Timer>,
    tokens: Tokens,
    /// Requests that somebody waits for
    open: usize,
    /// Octets of all requests, and of the bodies that are kept for them
    octets: usize,
    next_request: u64,
    /// Since when it is called in time: before, nobody may have been heard who spoke
    awake_since: Instant,
    was_late: bool,
    /// Large answers about itself, given again for a moment
    answers: Vec<mmi::Answer>,
    counters: Counters,
    transmits: VecDeque<Transmit>,
    locals: VecDeque<Local>,
    events: Events,
}

/// One connection
struct Peer {
    key: PeerKey,
    worker: WorkerSide,
    /// Its requests that have not ended
    requests: List,
    /// The service it asked for last, by index and serial number
    last: Option<(u32, u64)>,
    /// Services that only its requests made
    asked_for: usize,
    /// Who it is, as the driver says; empty for anybody
    principal: Bytes,
    permits: permit::Cache,
}

/// What a timer is for
#[derive(Clone, Copy, Debug)]
enum Timer {
    /// A request's time is over
    Request(u32),
    /// A worker is to be sent a heartbeat, or is dead
    Worker(u32),
    /// A service has been without workers for long enough
    Absence(u32),
    /// The oldest reply kept for its key has been kept for long enough
    Keys,
}

impl Broker {
    /// A broker without services; `seed` has to be unforeseeable, as workers' tokens come from it
    #[must_use]
    pub fn new(config: BrokerConfig, seed: u64, now: Instant) -> Self {
        Self {
            permit: None,
            started: now,
            is_stopping: false,
            peers: Slab::new(),
            peer_by_key: HashMap::default(),
            services: Services::new(config.max_services),
            workers: Slab::new(),
            next_worker: 1,
            local_workers: HashMap::new(),
            next_local_request: 1,
            tells_workers: false,
            reserved: Vec::new(),
            requests: Slab::new(),
            by_client_id: HashMap::default(),
            keys: Keys::new(seed),
            keys_timer: None,
            timers: Wheel::new(now),
            tokens: Tokens::new(seed),
            open: 0,
            octets: 0,
            next_request: 1,
            awake_since: now,
            was_late: false,
            answers: Vec::new(),
            counters: Counters::default(),
            transmits: VecDeque::new(),
            locals: VecDeque::new(),
            events: Events::new(config.max_events),
            config,
        }
    }

    /// Asks this before a peer calls a service or works for one, from now on; without it everyone may everything but
    /// `mmi.drain`
    pub fn set_permit(&mut self, permit: Box<dyn Permit>) {
        self.permit = Some(permit);
        self.forget_permits();
    }

    /// Its times and bounds
    #[must_use]
    pub fn config(&self) -> &BrokerConfig {
        &self.config
    }

    /// A message came from a peer, without its routing id
    pub fn handle_message(&mut self, now: Instant, peer: PeerKey, message: Message) {
        let peer = self.enter(peer);
        match wire::decode(message) {
            Ok(Incoming { wire, path, command: Command::Client(command) }) => match command {
                ClientCommand::Request { id, service, options, body } => {
                    let asker = Asker::Peer { peer, wire, path, id };
                    self.handle_request(now, asker, service, options, body);
                }
                ClientCommand::Cancel { id } => self.handle_cancel(now, peer, id),
            },
            Ok(Incoming { wire, command: Command::Worker(command), .. }) => {
                self.handle_worker_command(now, peer, wire, command);
            }
            Err(rejected) => self.handle_malformed(now, peer, rejected),
        }
    }

    /// A connection was made; that it is said is not needed
    pub fn handle_connected(&mut self, peer: PeerKey) {
        self.enter(peer);
    }

    /// Who is at the other end of a connection, as far as it was authenticated
    ///
    /// Idempotency keys are of one principal: nobody gets the reply to another one's request. Who is not identified is anybody.
    pub fn identify(&mut self, peer: PeerKey, principal: Bytes) {
        let index = self.enter(peer);
        if let Some(peer) = self.peers.get_mut(index as usize) {
            peer.principal = principal;
        }
    }

    /// Whom [`identify`](Self::identify) has named; empty for anybody
    #[must_use]
    pub fn principal_of(&self, peer: PeerKey) -> &[u8] {
        let peer = self.peer_by_key.get(&peer).and_then(|index| self.peers.get(*index as usize));
        peer.map_or(&[], |peer| &peer.principal)
    }

    /// A connection ended: its worker is dead, its requests are wanted no longer
    pub fn handle_gone(&mut self, now: Instant, peer: PeerKey) {
        let Some(index) = self.peer_by_key.remove(&peer) else { return };
        if let Some(WorkerSide::Registered(worker)) = self.peers.get(index as usize).map(|peer| peer.worker) {
            self.remove_worker(now, worker, Departure::Gone);
        }
        while let Some(request) = self.peers.get(index as usize).and_then(|peer| peer.requests.front()) {
            self.end_for_client(now, request, Counter::ClientGone);
        }
        self.peers.try_remove(index as usize);
    }

    /// A transmit was not taken
    ///
    /// A client whose reply or part of one doesn't fit counts as gone: what it would still get could look whole and isn't. The
    /// driver has to end its connection, so that it notices.
    pub fn handle_unsent(&mut self, now: Instant, to: PeerKey, kind: TransmitKind, why: Unsent) {
        match kind {
            TransmitKind::Request(_) => self.counters.count(Counter::RequestUnsent),
            TransmitKind::Reply if why == Unsent::Full => self.counters.count(Counter::SlowClient),
            TransmitKind::Reply => self.counters.count(Counter::ReplyUnsent),
            TransmitKind::Heartbeat | TransmitKind::Order => self.counters.count(Counter::OrderUnsent),
        }
        match (why, kind) {
            (Unsent::Gone, _) => self.handle_gone(now, to),
            (Unsent::Full, TransmitKind::Request(token)) => self.handle_request_unsent(now, to, token),
            (Unsent::Full, TransmitKind::Reply) => {
                self.tell(|| BrokerEvent::SlowClient { peer: to });
                self.handle_gone(now, to);
            }
            (Unsent::Full, TransmitKind::Heartbeat | TransmitKind::Order) => {}
        }
    }

    /// Time has passed
    ///
    /// When this is called late by a heartbeat's interval, workers have as long again to be heard: what they said may wait.
    pub fn handle_timeout(&mut self, now: Instant) {
        let late = self.timers.next().map_or(Duration::ZERO, |next| now.saturating_duration_since(next));
        let is_late = late > self.config.heartbeat_interval;
        // Not time and again: a dead worker has to be found even by a broker that is always late
        if is_late && !self.was_late {
            self.awake_since = now;
        }
        self.was_late = is_late;
        while let Some(timer) = self.timers.pop(now) {
            match timer {
                Timer::Request(request) => self.on_request_timer(now, request),
                Timer::Worker(worker) => self.on_worker_timer(now, worker),
                Timer::Absence(service) => self.on_absence_timer(now, service),
                Timer::Keys => self.on_keys_timer(now),
            }
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called, unless something else happens first
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// A message to send
    #[inline]
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// Something for a worker or a client in the same process
    #[inline]
    pub fn poll_local(&mut self) -> Option<Local> {
        self.locals.pop_front()
    }

    /// Something worth a line in a log
    pub fn poll_event(&mut self) -> Option<BrokerEvent> {
        self.events.pop()
    }

    /// Requests that somebody waits for
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.open
    }

    /// Workers there are, those in the same process included
    #[must_use]
    pub fn worker_count(&self) -> usize {
        self.workers.len()
    }

    /// Requests that wait for a service
    #[must_use]
    pub fn waiting(&self, service: &ServiceName) -> usize {
        self.services.find(service).map_or(0, |(_, service)| service.queue.len())
    }

    /// Whether a peer has registered as a worker
    pub(crate) fn is_worker(&self, peer: PeerKey) -> bool {
        let peer = self.peer_by_key.get(&peer).and_then(|index| self.peers.get(*index as usize));
        peer.is_some_and(|peer| matches!(peer.worker, WorkerSide::Registered(_)))
    }

    /// Whether a service has a worker now
    #[must_use]
    pub fn has_worker(&self, service: &ServiceName) -> bool {
        self.services.find(service).is_some_and(|(_, service)| !service.workers.is_empty())
    }

    /// Lets a service run dry: it takes no more requests, and when none waits its workers are told to finish and go
    ///
    /// A worker of ours doesn't come back by itself; a classic one, which has no word for that, is disconnected when it is idle
    /// and is let in again when all are gone. Returns whether there was a worker to tell. Services that are reserved for
    /// workers in the same process are not drained: they end with the broker.
    pub fn drain(&mut self, now: Instant, service: &ServiceName) -> bool {
        if self.is_reserved(service) {
            return false;
        }
        let Some((index, found)) = self.services.find_mut(service) else { return false };
        if found.workers.is_empty() {
            return false;
        }
        found.is_draining = true;
        self.dispatch(now, index);
        true
    }

    /// Takes no new requests and no new workers from now on: whoever can be told is told `503`, as are those who wait for
    /// services that have no workers
    pub fn begin_stop(&mut self, now: Instant) {
        self.is_stopping = true;
        let unserved = self.services.iter().filter(|(_, service)| service.workers.is_empty());
        let unserved: Vec<u32> = unserved.map(|(index, _)| index).collect();
        unserved.into_iter().for_each(|service| self.refuse_queue(now, service, STOPS, Counter::Draining));
    }

    /// Whether it takes no new requests any more
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.is_stopping
    }

    /// Ends what is left: requests with `503`, workers with DISCONNECT
    pub fn finish_stop(&mut self, now: Instant) {
        self.is_stopping = true;
        let open: Vec<u32> = self.requests.iter().map(|(index, _)| index as u32).collect();
        for index in open {
            if self.requests.get(index as usize).is_some_and(Request::is_wanted) {
                self.refuse(now, index, Status::UNAVAILABLE, Bytes::from_static(STOPS.as_bytes()), Counter::Draining);
            }
        }
        let workers: Vec<u32> = self.workers.iter().map(|(index, _)| index as u32).collect();
        workers.into_iter().for_each(|worker| self.remove_worker(now, worker, Departure::Stopped));
    }

    /// The place of a peer, which is made if it is new
    fn enter(&mut self, key: PeerKey) -> u32 {
        if let Some(index) = self.peer_by_key.get(&key) {
            return *index;
        }
        let peer = Peer {
            key,
            worker: WorkerSide::None,
            requests: List::default(),
            last: None,
            asked_for: 0,
            principal: Bytes::new(),
            permits: permit::Cache::default(),
        };
        let index = self.peers.insert(peer) as u32;
        self.peer_by_key.insert(key, index);
        index
    }

    fn peer_key(&self, peer: u32) -> Option<PeerKey> {
        self.peers.get(peer as usize).map(|peer| peer.key)
    }

    /// RFC 7, "Invalid messages": dropped, and a worker that sends one is no worker any more
    fn handle_malformed(&mut self, now: Instant, peer: u32, rejected: wire::Rejected) {
        self.counters.count_malformed(rejected.cause);
        if let Some(key) = self.peer_key(peer) {
            self.tell(|| BrokerEvent::MalformedMessage { peer: key, cause: rejected.cause });
        }
        match rejected.from {
            Some((wire, Role::Worker)) => self.dismiss_peer(now, peer, wire, Departure::Malformed),
            Some((wire, Role::Client)) => {
                if let Some(id) = rejected.id {
                    let asker = Asker::Peer { peer, wire, path: ReturnPath::direct(), id };
                    self.send_refusal(
                        &asker,
                        Refuser::Broker { was_running: false },
                        Status::MALFORMED,
                        rejected.cause.to_string().into(),
                    );
                }
            }
            None => {}
        }
    }

    /// Queues an event; it is not even made when there is no room for it
    fn tell(&mut self, event: impl FnOnce() -> BrokerEvent) {
        match self.events.has_room() {
            true => self.events.push(event()),
            false => self.counters.count(Counter::EventsDropped),
        }
    }

    fn send_order(&mut self, worker: u32, order: WorkerOrder) -> bool {
        let Some(Worker { link: workers::Linked::Peer { key, wire, .. }, .. }) = self.workers.get(worker as usize)
        else {
            return false;
        };
        let kind = match order {
            WorkerOrder::Heartbeat => TransmitKind::Heartbeat,
            _ => TransmitKind::Order,
        };
        let (to, wire) = (*key, *wire);
        match order.encode(wire) {
            Ok(message) => self.transmits.push_back(Transmit { to, message, kind }),
            Err(_) => return false,
        }
        true
    }
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker")
            .field("services", &self.services.len())
            .field("workers", &self.workers.len())
            .field("requests", &self.requests.len())
            .finish_non_exhaustive()
    }
}

/// What a client is told when the broker stops
const STOPS: &str = "the broker stops; try again, or at another one";
