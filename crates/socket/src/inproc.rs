//! inproc: two sockets of one context, joined without a byte stream.
//!
//! A link moves messages from one socket's outbox to the other's inbox. There is no task: whoever
//! queues the first message, or makes room by receiving, moves them, holding one socket's lock at
//! a time and never both.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, TryLockError, Weak};

use bytes::Bytes;
use tidings_zmtp::{Message, Properties, SocketType, WriteQueue};
use tokio::sync::watch;

use crate::dialer::{Outcome, Peer};
use crate::error::ConnectError;
use crate::events::{ConnectionId, EventKind, readable};
use crate::origin::Origin;
use crate::pipe::{Driver, PipeKey};
use crate::shared::{Shared, lock};
use crate::state::{Newcomer, SOCKET_CLOSED, TOO_SLOW, explain};

/// The names that sockets of a context are bound to, and who waits for one
#[derive(Debug, Default)]
pub(crate) struct Names {
    bound: HashMap<String, Weak<Shared>>,
    waiting: HashMap<String, Vec<Waiting>>,
}

/// A socket that connected to a name before it was bound
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    pub(crate) shared: Weak<Shared>,
    pub(crate) key: PipeKey,
    pub(crate) outcome: watch::Sender<Option<Outcome>>,
}

impl Waiting {
    /// The connect is refused for good: its pipe ends, and whoever awaits it is told
    fn give_up(&self, connecting: &Shared, error: ConnectError) {
        connecting.with(|state| state.retire(self.key));
        connecting.endpoints().dialed.retain(|dialed| dialed.key != Some(self.key));
        self.outcome.send_replace(Some(Err(error)));
    }
}

impl Names {
    /// Binds a name; returns who waited for it, or `None` if another socket has it
    pub(crate) fn bind(&mut self, name: &str, shared: &Arc<Shared>) -> Option<Vec<Waiting>> {
        if self.bound.get(name).is_some_and(|holder| holder.strong_count() > 0) {
            return None;
        }
        self.bound.insert(name.to_owned(), Arc::downgrade(shared));
        Some(self.waiting.remove(name).unwrap_or_default())
    }

    /// The socket bound to a name; if there is none yet, `waiting` is kept until there is
    pub(crate) fn find_or_wait(&mut self, name: &str, waiting: &Waiting) -> Option<Arc<Shared>> {
        let found = self.bound.get(name).and_then(Weak::upgrade);
        if found.is_none() {
            let list = self.waiting.entry(name.to_owned()).or_default();
            list.retain(|waiting| waiting.shared.strong_count() > 0);
            list.push(waiting.clone());
        }
        found
    }

    /// The type of the socket bound to a name
    pub(crate) fn holder(&self, name: &str) -> Option<SocketType> {
        self.bound.get(name).and_then(Weak::upgrade).map(|shared| shared.reporter.socket_type)
    }

    /// Frees a name, if this socket has it
    pub(crate) fn unbind(&mut self, name: &str, shared: &Shared) {
        if self.bound.get(name).is_some_and(|holder| std::ptr::eq(holder.as_ptr(), shared)) {
            self.bound.remove(name);
        }
    }

    /// Frees all names of a socket
    pub(crate) fn unbind_all(&mut self, shared: &Shared) {
        self.bound.retain(|_, holder| !std::ptr::eq(holder.as_ptr(), shared));
    }

    /// Forgets what a socket waits for, except for these pipes
    pub(crate) fn stop_all_waiting(&mut self, shared: &Shared, except: &[PipeKey]) {
        for list in self.waiting.values_mut() {
            list.retain(|waiting| !std::ptr::eq(waiting.shared.as_ptr(), shared) || except.contains(&waiting.key));
        }
        self.waiting.retain(|_, list| !list.is_empty());
    }

    /// Forgets one pipe that waits for a name
    pub(crate) fn stop_waiting(&mut self, name: &str, key: PipeKey, shared: &Shared) {
        if let Some(list) = self.waiting.get_mut(name) {
            list.retain(|waiting| waiting.key != key || !std::ptr::eq(waiting.shared.as_ptr(), shared));
            if list.is_empty() {
                self.waiting.remove(name);
            }
        }
    }
}

/// What joins two sockets
#[derive(Debug)]
pub(crate) struct Link {
    name: String,
    /// First the side that connected, then the one that is bound
    ends: [(Weak<Shared>, Mutex<Option<PipeKey>>); 2],
    connections: [ConnectionId; 2],
    outcome: watch::Sender<Option<Outcome>>,
    /// What is being moved each way: kept so that the queues of both ends change places with it, and nothing is allocated
    moving: Mutex<[VecDeque<Message>; 2]>,
    /// Somebody asked for a move while one was under way
    again: AtomicBool,
    /// By end: it waits for messages, so a sender has to bring what it queues. One that is busy comes for more
    /// itself, and the two threads leave each other's locks alone. Written under that end's lock only.
    hungry: [AtomicBool; 2],
    /// By end: something is queued there. A hint, so that the other end need not look for nothing; written under that
    /// end's lock only.
    loaded: [AtomicBool; 2],
    is_cut: AtomicBool,
}

/// What one end tells the other of itself, as a handshake would: its name and its metadata
struct Told {
    id: Bytes,
    properties: Properties,
}

impl Link {
    /// Joins a socket that connects to the one that is bound
    pub(crate) fn join(name: &str, waiting: &Waiting, bound: &Arc<Shared>) {
        let Some(connecting) = waiting.shared.upgrade() else {
            return;
        };
        let types = [connecting.reporter.socket_type, bound.reporter.socket_type];
        let address: Arc<str> = format!("inproc://{name}").into();
        if let Err(error) = compatible(types, &address) {
            for (shared, other) in [(&connecting, types[1]), (bound, types[0])] {
                shared.say(&address, || EventKind::Refused {
                    code: INCOMPATIBLE.to_owned(),
                    reason: format!("a {} socket does not talk to a {other}", shared.reporter.socket_type),
                });
                shared.with(|state| state.count_close(INCOMPATIBLE));
            }
            waiting.give_up(&connecting, error);
            return;
        }
        let link = Arc::new(Self {
            name: name.to_owned(),
            ends: [
                (Arc::downgrade(&connecting), Mutex::new(Some(waiting.key))),
                (Arc::downgrade(bound), Mutex::new(None)),
            ],
            connections: [ConnectionId::fresh(), ConnectionId::fresh()],
            outcome: waiting.outcome.clone(),
            moving: Mutex::default(),
            again: AtomicBool::new(false),
            hungry: [AtomicBool::new(true), AtomicBool::new(true)],
            loaded: [AtomicBool::new(true), AtomicBool::new(true)],
            is_cut: AtomicBool::new(false),
        });
        let told = [&connecting, bound].map(|shared| {
            shared.with(|state| Told { id: state.options.routing_id.clone(), properties: state.options.announced() })
        });
        // Both ends stand before anything moves
        let guard = lock(&link.moving);
        let [by_connecting, by_bound] = told;
        let attached = link.attach(1, bound, by_connecting).and_then(|()| link.attach(0, &connecting, by_bound));
        drop(guard);
        match attached {
            Ok(()) => link.pump(),
            Err(SOCKET_CLOSED) => {
                // It closed after it was found: without the name, the next cut can't find it again
                bound.context.names().unbind(name, bound);
                link.cut(SOCKET_CLOSED);
            }
            Err(reason) => {
                let refused = |endpoint| {
                    let (code, reason) = (reason.to_owned(), explain(reason).to_owned());
                    ConnectError::Refused { endpoint, code, reason }
                };
                waiting.give_up(&connecting, address.parse().map_or(ConnectError::Closed, refused));
                link.report_failure(reason);
                link.cut(reason);
            }
        }
    }

    /// Says why the ends that did not come about did not
    fn report_failure(&self, reason: &'static str) {
        let address = format!("inproc://{}", self.name);
        for (end, connection) in self.connections.iter().enumerate() {
            let Some((shared, key)) =
                self.ends.get(end).and_then(|(shared, key)| Some((shared.upgrade()?, *lock(key))))
            else {
                continue;
            };
            if key.is_some_and(|key| shared.with(|state| state.is_attached(key))) {
                continue;
            }
            shared.with(|state| state.count_close(reason));
            let say = |kind| shared.reporter.say(Some(*connection), Some(&address), None, || kind);
            let detail = explain(reason).to_owned();
            say(EventKind::HandshakeFailed { reason, detail: detail.clone(), retry_in_ms: None });
            if end == 0 {
                say(EventKind::Refused { code: reason.to_owned(), reason: detail });
            }
        }
    }

    fn attach(self: &Arc<Self>, end: usize, shared: &Arc<Shared>, peer: Told) -> Result<(), &'static str> {
        let Some(((_, key), connection)) = self.ends.get(end).zip(self.connections.get(end)) else {
            return Ok(());
        };
        let address: Arc<str> = format!("inproc://{}", self.name).into();
        let known = *lock(key);
        let peer_type =
            self.ends.get(1 - end).and_then(|(peer, _)| peer.upgrade()).map(|peer| peer.reporter.socket_type);
        let mut origin = Origin::anonymous(*connection, address.clone());
        let Told { id: peer_id, properties } = peer;
        (origin.socket_type, origin.routing_id, origin.announced) = (peer_type, peer_id.clone(), properties.clone());
        let newcomer = Newcomer {
            routing_id: peer_id.clone(),
            connection: Some(*connection),
            endpoint: address.clone(),
            address: Some(address.clone()),
            driver: Driver::Link(self.clone(), end),
            name: Bytes::new(),
            takes_multipart: true,
            origin: Arc::new(origin),
        };
        let attached = shared.with(|state| state.attach(known, newcomer, true))?;
        *lock(key) = Some(attached);
        shared.reporter.say(Some(*connection), Some(&address), None, || EventKind::Handshaken {
            peer_type: peer_type.map(|peer_type| peer_type.name()),
            routing_id: readable(&peer_id),
            version: "inproc".to_owned(),
            mechanism: "none",
            properties: properties.iter().map(|(name, value)| (name.to_owned(), readable(value))).collect(),
        });
        if end == 0 {
            self.outcome.send_replace(Some(Ok(Peer {
                connection: *connection,
                endpoint: address.to_string(),
                address: address.to_string(),
                socket_type: peer_type,
                routing_id: peer_id,
                version: (0, 0),
                properties,
                id: shared.with(|state| state.id_of_peer(attached)),
            })));
        }
        Ok(())
    }

    /// Moves what can be moved, both ways; if somebody is at it, has them go round once more
    pub(crate) fn pump(self: &Arc<Self>) {
        self.again.store(true, Ordering::Release);
        loop {
            let mut moving = match self.moving.try_lock() {
                Ok(guard) => guard,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return,
            };
            let mut outcome = Ok(());
            while outcome.is_ok() && self.again.swap(false, Ordering::AcqRel) {
                let [forth, back] = &mut *moving;
                outcome = self.carry(0, 1, forth).and_then(|()| self.carry(1, 0, back));
            }
            drop(moving);
            if let Err(reason) = outcome {
                self.cut(reason);
                return;
            }
            if !self.again.load(Ordering::Acquire) {
                return;
            }
        }
    }

    /// Moves messages one way; an error is the reason why the link ends
    fn carry(&self, from: usize, to: usize, batch: &mut VecDeque<Message>) -> Result<(), &'static str> {
        if self.is_cut.load(Ordering::Acquire) {
            return Ok(());
        }
        let (Some((source, source_key)), Some((target, target_key))) = (self.end(from), self.end(to)) else {
            return Err(SOCKET_CLOSED);
        };
        let room = target.with(|state| state.room_for(target_key));
        let taken = source.with(|state| state.take_local(source_key, room, batch));
        if !batch.is_empty() {
            if batch.len() == room.most {
                // Full now: the next round finds that out and has the receiver ask for more
                self.again.store(true, Ordering::Release);
            }
            target.with(|state| {
                state.deliver(target_key, batch);
                if state.comes_for_more(target_key)
                    && let Some(hungry) = self.hungry.get(to)
                {
                    hungry.store(false, Ordering::Release);
                }
            });
        }
        taken
    }

    /// An end is about to wait for messages; false if it had said so already. Called under that end's lock; the link is
    /// to be pumped then.
    pub(crate) fn set_hungry(&self, end: usize) -> bool {
        self.hungry.get(end).is_some_and(|hungry| !hungry.swap(true, Ordering::AcqRel))
    }

    /// Notes whether something is queued at an end. Called under that end's lock.
    pub(crate) fn set_loaded(&self, end: usize, is_loaded: bool) {
        if let Some(loaded) = self.loaded.get(end) {
            loaded.store(is_loaded, Ordering::Release);
        }
    }

    /// Whether the peer of an end has something for it, as far as can be told without its lock
    pub(crate) fn peer_is_loaded(&self, end: usize) -> bool {
        self.loaded.get(1 - end.min(1)).is_some_and(|loaded| loaded.load(Ordering::Acquire))
    }

    /// Whether the peer of an end waits to be brought something. Called under that end's lock, after queuing:
    /// either the peer's next look into the queue finds the message, or this finds the peer hungry.
    pub(crate) fn peer_is_hungry(&self, end: usize) -> bool {
        self.hungry.get(1 - end.min(1)).is_some_and(|hungry| hungry.load(Ordering::Acquire))
    }

    fn end(&self, end: usize) -> Option<(Arc<Shared>, PipeKey)> {
        let (shared, key) = self.ends.get(end)?;
        Some((shared.upgrade()?, (*lock(key))?))
    }

    /// Parts the two; the side that connected waits for the name to be bound again
    fn cut(self: &Arc<Self>, reason: &'static str) {
        if self.is_cut.swap(true, Ordering::AcqRel) {
            return;
        }
        let address = format!("inproc://{}", self.name);
        for end in [1, 0] {
            let Some((shared, key)) = self.end(end) else {
                continue;
            };
            let aftermath = shared.with(|state| {
                let was_attached = state.is_attached(key);
                let aftermath = state.detach(key, WriteQueue::new());
                if was_attached {
                    state.count_close(reason);
                }
                was_attached.then_some(aftermath)
            });
            if let Some(aftermath) = aftermath {
                let connection = self.connections.get(end).copied();
                shared.reporter.say(connection, Some(&address), None, || EventKind::Disconnected {
                    reason,
                    detail: explain(reason).to_owned(),
                    requeued: aftermath.requeued,
                    lost: aftermath.lost,
                    retry_in_ms: None,
                });
            }
            if end == 0 && ![SOCKET_CLOSED, TOO_SLOW].contains(&reason) {
                // To join again at once would only repeat it, and two that take over from each other never end
                shared.with(|state| state.retire(key));
                shared.endpoints().dialed.retain(|dialed| dialed.key != Some(key));
            } else if end == 0 && shared.with(|state| state.is_waiting_for_peer(key)) {
                let waiting = Waiting { shared: Arc::downgrade(&shared), key, outcome: self.outcome.clone() };
                // A socket that closes gives up its names first, so this does not find the same one again
                shared.context.connect_inproc(&self.name, &waiting);
            }
        }
    }
}

#[allow(clippy::result_large_err, reason = "told once for a connect")]
fn compatible(types: [SocketType; 2], address: &str) -> Result<(), ConnectError> {
    let [connecting, bound] = types;
    if connecting.accepts(bound) && bound.accepts(connecting) {
        return Ok(());
    }
    Err(ConnectError::Refused {
        endpoint: address.parse().map_err(|_| ConnectError::Closed)?,
        code: INCOMPATIBLE.to_owned(),
        reason: format!("a {connecting} socket does not talk to a {bound}"),
    })
}

const INCOMPATIBLE: &str = "incompatible-socket-type";
