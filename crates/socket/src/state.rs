//! What a socket knows: its pipes, whose turn it is, and its pattern's own state.
//!
//! Nothing here waits, reads a clock to decide, or touches the network. Sockets call in from the
//! application's side, connections and inproc links from the other; what must happen outside the
//! lock (waking somebody, moving an inproc link) is left in [`Signals`].

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use slab::Slab;
use tidings_zmtp::{Message, SocketType, WriteQueue};
use tokio::sync::oneshot;

use crate::error::{RecvError, SendFailure, SocketError};
use crate::events::{ConnectionId, Event, EventKind, EventSink, SocketId, readable};
use crate::inproc::Link;
use crate::options::{Options, Overflow};
use crate::origin::{Origin, Received};
use crate::patterns::multipart::{self, NO_MULTIPART};
use crate::patterns::{BAD_GROUP_NAME, Pattern, Reply, Verdict, id_of, is_group, is_group_and_body};
use crate::pipe::{BATCH, Control, Counts, Driver, Load, Outbox, Pipe, PipeKey, Room};
use crate::rotation::Rotation;
use crate::zap;

mod addressed;
mod datagrams;
mod grouped;
mod several;

/// The state of one socket, behind its lock
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) socket_type: SocketType,
    pub(crate) options: Options,
    overflow: Overflow,
    pipes: Slab<Pipe>,
    next_serial: u32,
    /// Pipes that have room, for the types that turn over their peers
    sending: Rotation,
    /// Pipes that have messages
    receiving: Rotation,
    pattern: Pattern,
    pub(crate) phase: Phase,
    /// Pipes without a peer that hold messages still to be received
    departed: usize,
    pub(crate) signals: Signals,
    /// Pipes to sockets of the same context, and some that are no longer
    linked: Vec<u32>,
    /// Whether any task waits in a receive, as the receive under way has found
    pub(crate) receivers_wait: bool,
    /// What pipes that are gone have counted
    retired: Counts,
    /// Messages that went nowhere: no peer, or one that is gone
    unrouted: u64,
    pub(crate) closes: BTreeMap<&'static str, u64>,
    reporter: Reporter,
    /// A strict REQ whose peer went away with the request
    peer_gone: bool,
    scratch: Vec<u32>,
    /// How many peers the last publication went to
    pub(crate) copies: u32,
    /// Pipes that send datagrams, and what each of those may hold
    datagrams: Vec<(u32, usize)>,
    /// Datagrams that were none of the pattern's
    pub(crate) malformed: u64,
}

/// How far a socket is on its way out
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Open,
    /// Closed for the application; what is queued is still being sent
    Draining,
    /// Connections close without another word
    Closed,
}

/// What is to be done once the lock is released
#[derive(Debug, Default)]
pub(crate) struct Signals {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// Peers or subscriptions came or went
    pub(crate) changed: bool,
    /// The socket is closing: whoever waits for anything must look
    pub(crate) closing: bool,
    pub(crate) links: Vec<Arc<Link>>,
}

/// What a connection must do next
#[derive(Clone, Copy, Debug)]
pub(crate) struct Orders {
    /// How many messages may be handed over next time; 0: stop reading until woken
    pub(crate) room: usize,
    /// Close, for this reason
    pub(crate) close: Option<&'static str>,
    /// Nothing more will be queued: end for this reason when all that was taken is written
    pub(crate) drain: Option<&'static str>,
}

/// What became of a pipe's messages when its connection ended
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Aftermath {
    /// Wait for the next connection
    pub(crate) requeued: u64,
    /// Are gone with the peer
    pub(crate) lost: u64,
}

/// Whom a new connection leads to
#[derive(Debug)]
pub(crate) struct Newcomer {
    pub(crate) routing_id: Bytes,
    pub(crate) connection: Option<ConnectionId>,
    pub(crate) endpoint: Arc<str>,
    pub(crate) address: Option<Arc<str>>,
    pub(crate) driver: Driver,
    /// What the application calls the peer (connect_as); empty if it doesn't
    pub(crate) name: Bytes,
    /// Whether it takes messages of several frames, for the types that otherwise have one
    pub(crate) takes_multipart: bool,
    pub(crate) origin: Arc<Origin>,
}

/// Says what happens, on behalf of one socket
#[derive(Clone, Debug)]
pub(crate) struct Reporter {
    pub(crate) sink: EventSink,
    pub(crate) socket: SocketId,
    pub(crate) socket_type: SocketType,
}

impl Reporter {
    pub(crate) fn say(
        &self,
        connection: Option<ConnectionId>,
        endpoint: Option<&str>,
        address: Option<&str>,
        kind: impl FnOnce() -> EventKind,
    ) {
        self.sink.emit(|| Event {
            at: SystemTime::now(),
            socket: self.socket,
            socket_type: self.socket_type,
            connection,
            endpoint: endpoint.map(str::to_owned),
            address: address.map(str::to_owned),
            kind: kind(),
        });
    }
}

impl State {
    pub(crate) fn new(options: Options, reporter: Reporter, seed: u32) -> Self {
        let socket_type = reporter.socket_type;
        Self {
            socket_type,
            overflow: options.overflow_for(socket_type),
            options,
            pipes: Slab::new(),
            next_serial: 0,
            sending: Rotation::default(),
            receiving: Rotation::default(),
            pattern: Pattern::of(socket_type, seed),
            phase: Phase::Open,
            departed: 0,
            signals: Signals::default(),
            linked: Vec::new(),
            receivers_wait: false,
            retired: Counts::default(),
            unrouted: 0,
            closes: BTreeMap::new(),
            reporter,
            peer_gone: false,
            scratch: Vec::new(),
            copies: 0,
            datagrams: Vec::new(),
            malformed: 0,
        }
    }

    /// Replaces the options; bounds and policies hold at once, the rest for new connections
    pub(crate) fn set_options(&mut self, options: Options) {
        self.overflow = options.overflow_for(self.socket_type);
        self.options = options;
        self.signals.writable = true;
        let indices: Vec<usize> = self.pipes.iter().map(|(index, _)| index).collect();
        for index in indices {
            self.refresh_sending(index);
            self.wake(index);
        }
    }

    // ---- Pipes ----

    /// A pipe for an endpoint that is connected to; messages may be queued before it is up
    pub(crate) fn add_pipe(
        &mut self,
        endpoint: Arc<str>,
        driver: Driver,
        local: bool,
    ) -> Result<PipeKey, &'static str> {
        let outbox = match (local, self.socket_type) {
            (true, _) => Outbox::local(),
            (false, SocketType::Stream) => Outbox::Raw(WriteQueue::new()),
            (false, _) => Outbox::Wire(WriteQueue::new()),
        };
        let serial = self.next_serial;
        self.next_serial = self.next_serial.wrapping_add(1);
        let entry = self.pipes.vacant_entry();
        let index = u32::try_from(entry.key()).map_err(|_| TOO_MANY)?;
        let key = PipeKey { index, serial };
        if let Pattern::Pair(owner) = &mut self.pattern {
            // RFC 31: "SHALL accept only one connection at a time"
            if owner.is_some() {
                return Err(PAIR_TAKEN);
            }
            *owner = Some(key);
        }
        let mut pipe = Pipe::new(serial, outbox, driver, endpoint, true);
        // What is in this process takes whatever we take
        pipe.takes_multipart = local.then_some(true);
        entry.insert(pipe);
        self.refresh_sending(index as usize);
        self.signals.writable = true;
        Ok(key)
    }

    /// A peer's connection is complete: `key` names the pipe that waited for it, if one did
    ///
    /// # Errors
    /// The name of the reason for which the socket does not want this peer.
    pub(crate) fn attach(
        &mut self,
        key: Option<PipeKey>,
        newcomer: Newcomer,
        local: bool,
    ) -> Result<PipeKey, &'static str> {
        if self.phase != Phase::Open && key.is_none() {
            return Err(SOCKET_CLOSED);
        }
        if self.departed > MOST_DEPARTED {
            return Err(UNREAD);
        }
        let accepted = key.is_none();
        let key = match key {
            Some(key) => key,
            None => self.add_pipe(newcomer.endpoint.clone(), Driver::None, local)?,
        };
        let gone = self.end_reason();
        let Some(pipe) = self.pipe_mut(key).filter(|pipe| !pipe.departed && !pipe.leaving) else {
            return Err(gone);
        };
        pipe.persistent &= !accepted;
        pipe.connection = newcomer.connection;
        pipe.address = newcomer.address;
        pipe.driver = newcomer.driver;
        if matches!(pipe.driver, Driver::Link(..)) && !self.linked.contains(&key.index) {
            self.linked.push(key.index);
        }
        let Some(pipe) = self.pipe_mut(key) else {
            return Err(gone);
        };
        pipe.attached = true;
        pipe.set_origin(newcomer.origin);
        pipe.doomed = None;
        pipe.reading_paused = false;
        pipe.control.clear();
        pipe.control_reduced = 0;
        let known_as = mem::replace(&mut pipe.routing_id, newcomer.routing_id);
        let kept_id = if known_as.is_empty() { newcomer.name } else { known_as.clone() };
        self.learn_multipart(key, newcomer.takes_multipart);
        if let Err(reason) = self.introduce(key, kept_id) {
            match accepted {
                true => self.discard(key),
                false => self.turn_away(key, known_as),
            }
            return Err(reason);
        }
        self.refresh_sending(key.index as usize);
        self.signals.writable = true;
        self.signals.changed = true;
        self.wake(key.index as usize);
        // No peer is the only one any more, and none may count on a receive that finds nothing
        self.ask_links(true);
        Ok(key)
    }

    /// What a pattern does when a peer appears
    fn introduce(&mut self, key: PipeKey, kept_id: Bytes) -> Result<(), &'static str> {
        let index = key.index as usize;
        match &mut self.pattern {
            Pattern::Subscriber(subscriber) => {
                let all: Vec<Control> = subscriber.all().collect();
                all.into_iter().for_each(|control| self.tell(index, control));
            }
            Pattern::Publisher(publisher) => {
                // A peer that comes again tells its subscriptions again
                let told = publisher.forget(key, self.socket_type == SocketType::Xpub);
                told.into_iter().for_each(|message| self.append(index, message));
                let welcome = self.options.xpub_welcome_message.clone();
                if !welcome.is_empty() {
                    self.enqueue(index, &[], &mut Message::from(welcome));
                }
            }
            Pattern::Router(_) => self.enter_routing_table(key, kept_id)?,
            Pattern::Server(_) => self.enter_by_id(key, kept_id),
            Pattern::Radio(groups) => groups.forget(key.index),
            Pattern::Dish(dish) => {
                let all: Vec<Control> = dish.all().collect();
                all.into_iter().for_each(|control| self.tell(index, control));
            }
            _ => {}
        }
        let probes = matches!(self.socket_type, SocketType::Req | SocketType::Dealer | SocketType::Router);
        if self.options.probe_router && probes {
            self.enqueue(index, &[], &mut Message::default());
        }
        Ok(())
    }

    fn enter_routing_table(&mut self, key: PipeKey, kept_id: Bytes) -> Result<(), &'static str> {
        let Some(pipe) = self.pipes.get(key.index as usize) else {
            return Ok(());
        };
        let Pattern::Router(router) = &mut self.pattern else {
            return Ok(());
        };
        let (mut id, connection, endpoint) = (pipe.routing_id.clone(), pipe.connection, pipe.endpoint.clone());
        // A name given with connect_as, or the automatic one of an earlier connection, stays
        let named_here = !kept_id.is_empty();
        if named_here {
            id = kept_id;
        } else if id.is_empty() {
            id = router.fresh_id();
        }
        let holder = router.find(&id).filter(|holder| *holder != key);
        if let Some(holder) = holder {
            let takes_over = self.options.router_handover;
            self.reporter.say(connection, Some(&endpoint), None, || EventKind::DuplicateRoutingId {
                routing_id: readable(&id),
                action: if takes_over { "taken-over" } else { "refused" },
            });
            if !takes_over {
                return Err(DUPLICATE_ID);
            }
            self.doom(holder, TAKEN_OVER);
        }
        let Pattern::Router(router) = &mut self.pattern else {
            return Ok(());
        };
        router.insert(id.clone(), key);
        if let Some(pipe) = self.pipes.get_mut(key.index as usize) {
            pipe.routing_id = id;
        }
        self.notify(key, NOTIFY_CONNECT);
        Ok(())
    }

    /// ROUTER and STREAM: an empty message from a peer that came or went, if the application wants one
    fn notify(&mut self, key: PipeKey, what: u8) {
        let notifies = match (&self.pattern, self.socket_type) {
            (Pattern::Router(_), SocketType::Stream) => self.options.stream_notify,
            (Pattern::Router(_), _) => self.options.router_notify & what != 0,
            _ => false,
        };
        if notifies && self.phase == Phase::Open {
            if let Some(pipe) = self.pipe_mut(key) {
                pipe.mark_notice();
            }
            self.append(key.index as usize, Message::default());
        }
    }

    /// Names the peer that a pipe will lead to (CONNECT_ROUTING_ID)
    ///
    /// # Errors
    /// The reason, when another peer has that id.
    pub(crate) fn name_peer(&mut self, key: PipeKey, id: Bytes) -> Result<(), &'static str> {
        let Pattern::Router(router) = &mut self.pattern else {
            return Err("only ROUTER and STREAM name their peers");
        };
        if router.find(&id).is_some() {
            return Err("another peer has this routing id");
        }
        router.insert(id.clone(), key);
        if let Some(pipe) = self.pipe_mut(key) {
            pipe.routing_id = id;
        }
        Ok(())
    }

    /// A connection ended; `unwritten` is what it had taken and not handed to the kernel whole
    pub(crate) fn detach(&mut self, key: PipeKey, mut unwritten: WriteQueue) -> Aftermath {
        let closed = self.phase == Phase::Closed;
        self.signals.changed = true;
        let Some(pipe) = self.pipe_mut(key).filter(|pipe| !pipe.departed) else {
            return Aftermath::default();
        };
        let was_attached = mem::replace(&mut pipe.attached, false);
        pipe.driver = Driver::None;
        pipe.in_flight = Load::default();
        pipe.reading_paused = false;
        if let Outbox::Wire(queue) | Outbox::Raw(queue) = &mut pipe.outbox {
            unwritten.rewind();
            unwritten.append(queue);
            mem::swap(queue, &mut unwritten);
        }
        let waiting = pipe.outbox.load().messages;
        let keeps = pipe.persistent && !pipe.leaving && !closed;
        if was_attached {
            self.notify(key, NOTIFY_DISCONNECT);
        }
        if keeps && let Some(pipe) = self.pipe_mut(key) {
            let unsent = pipe.counts.sent.messages.saturating_sub(waiting);
            self.lose_requests(key, unsent);
            self.refresh_sending(key.index as usize);
            return Aftermath { requeued: waiting, lost: 0 };
        }
        self.retire(key);
        Aftermath { requeued: 0, lost: waiting }
    }

    /// Drops a pipe for good; what it holds unread can still be received
    pub(crate) fn retire(&mut self, key: PipeKey) {
        let index = key.index as usize;
        let Some(pipe) = self.pipe_mut(key).filter(|pipe| !pipe.departed) else {
            return;
        };
        let lost = pipe.waiting().messages;
        pipe.departed = true;
        pipe.attached = false;
        pipe.persistent = false;
        pipe.counts.dropped += lost;
        pipe.counts.discarded += lost;
        pipe.outbox = Outbox::local();
        pipe.in_flight = Load::default();
        pipe.driver = Driver::None;
        let id = pipe.routing_id.clone();
        self.sending.remove(key.index);
        self.forget_datagrams(key);
        self.lose_requests(key, u64::MAX);
        let mut told = Vec::new();
        match &mut self.pattern {
            Pattern::Publisher(publisher) => {
                told = publisher.forget(key, self.socket_type == SocketType::Xpub && self.phase == Phase::Open);
            }
            Pattern::Pair(owner) if *owner == Some(key) => *owner = None,
            Pattern::Router(router) => router.remove(&id, key),
            Pattern::Server(server) => id_of(&id).into_iter().for_each(|id| server.remove(id)),
            Pattern::Radio(groups) => groups.forget(key.index),
            _ => {}
        }
        if self.socket_type != SocketType::Pub && self.phase == Phase::Open {
            told.into_iter().for_each(|message| self.append(index, message));
        }
        match self.pipes.get(index).is_some_and(|pipe| pipe.inbox.is_empty()) {
            true => self.remove(index),
            false => self.departed += 1,
        }
        self.signals.changed = true;
        self.signals.writable = true;
    }

    /// Drops a pipe whose peer is not wanted, as if it had never been there
    fn discard(&mut self, key: PipeKey) {
        if let Pattern::Pair(owner) = &mut self.pattern
            && *owner == Some(key)
        {
            *owner = None;
        }
        if self.pipe_mut(key).is_some() {
            self.remove(key.index as usize);
        }
    }

    /// Has a pipe of ours wait for another connection: the socket does not want this one
    fn turn_away(&mut self, key: PipeKey, routing_id: Bytes) {
        if let Some(pipe) = self.pipe_mut(key) {
            pipe.attached = false;
            pipe.driver = Driver::None;
            pipe.connection = None;
            pipe.address = None;
            pipe.routing_id = routing_id;
        }
    }

    fn remove(&mut self, index: usize) {
        let number = u32::try_from(index).unwrap_or(u32::MAX);
        self.sending.remove(number);
        self.receiving.remove(number);
        if let Some(pipe) = self.pipes.try_remove(index) {
            self.retired.sent.messages += pipe.counts.sent.messages;
            self.retired.sent.octets += pipe.counts.sent.octets;
            self.retired.received.messages += pipe.counts.received.messages;
            self.retired.received.octets += pipe.counts.received.octets;
            self.retired.dropped += pipe.counts.dropped;
            self.retired.discarded += pipe.counts.discarded;
        }
    }

    fn lose_requests(&mut self, key: PipeKey, unsent: u64) {
        if let Pattern::Req(req) = &mut self.pattern
            && req.lost(key, unsent)
        {
            self.peer_gone = true;
            self.signals.readable = true;
        }
    }

    // ---- The connection's side ----

    /// What a connection calls after each round of its work, under one lock
    ///
    /// It hands over the messages it decoded and the load that the kernel took, and takes what is
    /// queued if it has nothing left to write.
    pub(crate) fn exchange(
        &mut self,
        key: PipeKey,
        decoded: &mut VecDeque<Message>,
        written: Load,
        batch: &mut WriteQueue,
        control: &mut Vec<Control>,
    ) -> Orders {
        if !decoded.is_empty() {
            self.deliver(key, decoded);
        }
        let index = key.index as usize;
        let phase = self.phase;
        if written != Load::default() {
            self.credit(index, written);
        }
        // A socket that closes has no use for what comes in, and must not miss that the peer closes too
        let bound = if phase == Phase::Open { self.recv_bound() } else { Load::default() };
        let reason = self.end_reason();
        let Some(pipe) = self.pipe_mut(key) else {
            return Orders { room: 0, close: Some(reason), drain: None };
        };
        if batch.is_empty() && !pipe.outbox.is_empty() {
            let load = pipe.outbox.load();
            pipe.outbox.take_encoded(batch);
            pipe.in_flight.messages += load.messages;
            pipe.in_flight.octets += load.octets;
        }
        control.append(&mut pipe.control);
        pipe.control_reduced = 0;
        let room = pipe.reading_room(bound);
        pipe.reading_paused = room == 0;
        let drains = (phase != Phase::Open || pipe.leaving) && pipe.outbox.is_empty();
        let drain = drains.then_some(reason);
        let close = if phase == Phase::Closed { Some(reason) } else { pipe.doomed };
        Orders { room, close, drain }
    }

    /// What a connection hands over at its end: the last messages and what the kernel took
    pub(crate) fn hand_over(&mut self, key: PipeKey, decoded: &mut VecDeque<Message>, written: Load) {
        self.deliver(key, decoded);
        self.credit(key.index as usize, written);
    }

    /// The application gives a peer up: what is queued is still written, then its connection ends
    pub(crate) fn leave(&mut self, key: PipeKey) {
        let Some(pipe) = self.pipe_mut(key).filter(|pipe| !pipe.departed) else {
            return;
        };
        pipe.leaving = true;
        let attached = pipe.attached;
        if let Pattern::Pair(owner) = &mut self.pattern
            && *owner == Some(key)
        {
            *owner = None;
        }
        self.sending.remove(key.index);
        match attached {
            true => self.wake(key.index as usize),
            false => self.retire(key),
        }
    }

    /// Why a connection ends that has nothing left to do
    pub(crate) fn end_reason(&self) -> &'static str {
        if self.phase == Phase::Open { CLOSED_HERE } else { SOCKET_CLOSED }
    }

    /// The kernel took what the connection had taken
    fn credit(&mut self, index: usize, written: Load) {
        let bound = self.send_bound();
        let Some(pipe) = self.pipes.get_mut(index) else {
            return;
        };
        pipe.in_flight.messages = pipe.in_flight.messages.saturating_sub(written.messages);
        pipe.in_flight.octets = pipe.in_flight.octets.saturating_sub(written.octets);
        if pipe.waiting().messages == 0 {
            pipe.slow_said = false;
        }
        let drained = pipe.has_drained(bound);
        if drained {
            self.refresh_sending(index);
            self.signals.writable = true;
        }
        self.signals.changed |= self.phase != Phase::Open;
    }

    /// Takes in what a peer sent, all of it
    pub(crate) fn deliver(&mut self, key: PipeKey, messages: &mut VecDeque<Message>) {
        let index = key.index as usize;
        if self.pipe_mut(key).is_none() || self.phase != Phase::Open {
            messages.clear();
            return;
        }
        match &mut self.pattern {
            Pattern::Pull
            | Pattern::Dealer
            | Pattern::Rep(_)
            | Pattern::Pair(_)
            | Pattern::Router(_)
            | Pattern::Client
            | Pattern::Server(_) => self.append_all(index, messages),
            Pattern::Subscriber(subscriber) => {
                // What an XSUB's own subscribers want is told elsewhere
                if self.socket_type == SocketType::Sub {
                    let invert = self.options.invert_matching;
                    messages.retain(|message| subscriber.wants(message.first()) != invert);
                }
                self.append_all(index, messages);
            }
            Pattern::Publisher(_) => messages.drain(..).for_each(|message| self.handle_upstream(key, message)),
            Pattern::Req(_) => messages.drain(..).for_each(|message| self.handle_reply(key, message)),
            Pattern::Radio(_) => messages.drain(..).for_each(|message| self.handle_membership(key, &message)),
            Pattern::Dish(_) => self.handle_radiated(key, messages),
            // RFC 30: a PUSH "SHALL NOT receive messages"
            Pattern::Push | Pattern::PushDatagrams | Pattern::Scatter => {
                self.unrouted += messages.drain(..).len() as u64
            }
        }
    }

    /// Puts messages into a pipe's inbox: by an exchange of buffers where nothing waits in it
    fn append_all(&mut self, index: usize, messages: &mut VecDeque<Message>) {
        let Some(pipe) = self.pipes.get_mut(index).filter(|_| !messages.is_empty()) else {
            return;
        };
        let octets: u64 = messages.iter().map(|message| message.octets() as u64).sum();
        pipe.counts.received.messages += messages.len() as u64;
        pipe.counts.received.octets += octets;
        pipe.inbox_octets += octets;
        if pipe.inbox.is_empty() {
            mem::swap(&mut pipe.inbox, messages);
            self.receiving.activate(u32::try_from(index).unwrap_or(u32::MAX));
        } else {
            pipe.inbox.append(messages);
        }
        if self.overflow == Overflow::Latest && self.options.conflate {
            while pipe.inbox.len() > 1 && pipe.pop_into(&mut Message::default()) {
                pipe.counts.dropped += 1;
            }
        }
        self.signals.readable = true;
    }

    fn append(&mut self, index: usize, message: Message) {
        let Some(pipe) = self.pipes.get_mut(index) else {
            return;
        };
        if self.overflow == Overflow::Latest && self.options.conflate {
            self.append_all(index, &mut VecDeque::from([message]));
            return;
        }
        let octets = message.octets() as u64;
        pipe.counts.received.messages += 1;
        pipe.counts.received.octets += octets;
        pipe.inbox_octets += octets;
        pipe.inbox.push_back(message);
        if pipe.inbox.len() == 1 {
            self.receiving.activate(u32::try_from(index).unwrap_or(u32::MAX));
        }
        self.signals.readable = true;
    }

    /// A publisher's peer subscribes, cancels, or sends a message upstream
    fn handle_upstream(&mut self, key: PipeKey, message: Message) {
        let is_xpub = self.socket_type == SocketType::Xpub;
        let Some(control) = Control::of(&message) else {
            if is_xpub {
                self.append(key.index as usize, message);
            }
            return;
        };
        let Pattern::Publisher(publisher) = &mut self.pattern else {
            return;
        };
        if control.subscribe && !publisher.has_room(key, &control.topic, &self.options) {
            self.doom(key, TOO_MANY_SUBSCRIPTIONS);
            return;
        }
        let tells = publisher.handle(key, &control, &self.options);
        self.signals.changed = true;
        if is_xpub && tells {
            self.append(key.index as usize, message);
        }
    }

    fn handle_reply(&mut self, key: PipeKey, message: Message) {
        let Pattern::Req(req) = &mut self.pattern else {
            return;
        };
        match req.handle(key, message) {
            Verdict::Deliver(message) => self.append(key.index as usize, message),
            Verdict::Done => {}
            Verdict::Malformed => self.doom(key, NO_DELIMITER),
        }
    }

    /// Has the connection of that number closed as too slow; whether there is one
    pub(crate) fn hang_up(&mut self, connection: ConnectionId) -> bool {
        let key = self.key_of(connection);
        key.into_iter().for_each(|key| self.doom(key, TOO_SLOW));
        key.is_some()
    }

    /// The application gives the peer of a connection up; false if there is none of that number
    pub(crate) fn dismiss(&mut self, connection: ConnectionId) -> bool {
        let key = self.key_of(connection);
        key.into_iter().for_each(|key| self.leave(key));
        key.is_some()
    }

    fn key_of(&self, connection: ConnectionId) -> Option<PipeKey> {
        let mut pipes = self.pipes.iter();
        let (index, pipe) = pipes.find(|(_, pipe)| pipe.attached && pipe.connection == Some(connection))?;
        Some(PipeKey { index: u32::try_from(index).ok()?, serial: pipe.serial })
    }

    /// Has a connection closed
    pub(crate) fn doom(&mut self, key: PipeKey, reason: &'static str) {
        if let Some(pipe) = self.pipe_mut(key).filter(|pipe| pipe.attached) {
            pipe.doomed = Some(reason);
            self.wake(key.index as usize);
        }
    }

    // ---- The link's side (inproc) ----

    /// How many messages an inproc peer may hand over
    pub(crate) fn room_for(&mut self, key: PipeKey) -> Room {
        let bound = self.recv_bound();
        let Some(pipe) = self.pipe_mut(key) else {
            return Room::default();
        };
        let most = pipe.reading_room(bound);
        // Of a huge queue no more can be handed over at once anyway
        let quarter = if bound.messages < SMALL_QUEUE { 0 } else { (bound.messages / 4).min(BATCH as u64) };
        let is_low = (most as u64) < quarter;
        pipe.reading_paused = is_low || most == 0;
        Room { most, is_low }
    }

    /// Takes up to `room` messages for an inproc peer
    ///
    /// # Errors
    /// The name of the reason for which the link ends, after what was taken.
    pub(crate) fn take_local(
        &mut self,
        key: PipeKey,
        room: Room,
        into: &mut VecDeque<Message>,
    ) -> Result<(), &'static str> {
        let (phase, reason) = (self.phase, self.end_reason());
        let Some(pipe) = self.pipe_mut(key).filter(|_| phase != Phase::Closed) else {
            return Err(reason);
        };
        if let Some(doom) = pipe.doomed {
            return Err(doom);
        }
        let leaves = phase != Phase::Open || pipe.leaving;
        pipe.outbox.take_local(if room.is_low && !leaves { 0 } else { room.most }, into);
        let ends = leaves && pipe.outbox.is_empty();
        if pipe.outbox.is_empty()
            && let Driver::Link(link, end) = &pipe.driver
        {
            link.set_loaded(*end, false);
        }
        self.credit(key.index as usize, Load::default());
        if ends { Err(reason) } else { Ok(()) }
    }

    /// Whether a pipe has its peer
    pub(crate) fn is_attached(&self, key: PipeKey) -> bool {
        self.pipe(key).is_some_and(|pipe| pipe.attached)
    }

    /// Whether the application, when it receives what waits here, takes an inproc peer's next messages along
    ///
    /// Not where messages take effect before they are received, or in place of those that wait.
    pub(crate) fn comes_for_more(&self, key: PipeKey) -> bool {
        let at_once = matches!(self.pattern, Pattern::Publisher(_) | Pattern::Req(_) | Pattern::Radio(_))
            || self.overflow == Overflow::Latest;
        !at_once && self.pipe(key).is_some_and(|pipe| !pipe.inbox.is_empty())
    }

    // ---- The application's side ----

    /// Queues a message; on success what is left in `message` means nothing, on failure it is as it was
    #[inline]
    pub(crate) fn send(&mut self, message: &mut Message) -> Result<(), SendFailure> {
        if self.phase != Phase::Open {
            return Err(SendFailure::Closed);
        }
        match &mut self.pattern {
            Pattern::Push | Pattern::Dealer => self.send_balanced(&[], message).map(drop),
            Pattern::Pair(owner) => match *owner {
                Some(_) if self.socket_type == SocketType::Channel => self.send_later(message),
                Some(key) => self.offer(key.index as usize, &[], message, self.overflow),
                None => self.refuse_or_drop(),
            },
            Pattern::Publisher(_) => self.publish(message),
            Pattern::Router(_) => self.send_routed(message),
            Pattern::Rep(rep) => match rep.current.take() {
                Some((key, envelope)) => {
                    self.reply(key, &envelope, message);
                    Ok(())
                }
                None => Err(SendFailure::WrongState(REP_SENDS)),
            },
            Pattern::Req(req) => {
                if req.is_waiting() && !self.options.req_relaxed {
                    return Err(SendFailure::WrongState(REQ_SENDS));
                }
                self.ask(message)
            }
            Pattern::Subscriber(_) => self.send_upstream(message),
            Pattern::Pull if self.socket_type == SocketType::Pull => Err(SendFailure::NotSupported(PULL_SENDS)),
            _ => self.send_later(message),
        }
    }

    /// The later types, apart from `send` so that it stays small where it is inlined
    #[inline(never)]
    fn send_later(&mut self, message: &mut Message) -> Result<(), SendFailure> {
        match &self.pattern {
            Pattern::Client | Pattern::Scatter if message.frame_count() > 1 => self.send_multipart(message),
            Pattern::Client | Pattern::Scatter => self.send_in_turn(message),
            Pattern::Server(_) => self.send_by_id(message),
            Pattern::PushDatagrams => self.push_datagram(message),
            Pattern::Radio(_) => self.radiate(message),
            Pattern::Pair(Some(key)) => {
                let key = *key;
                if message.frame_count() > 1 {
                    self.check_multipart(key)?;
                }
                self.offer(key.index as usize, &[], message, self.overflow)
            }
            Pattern::Dish(_) => Err(SendFailure::NotSupported(DISH_SENDS)),
            _ => Err(SendFailure::NotSupported(GATHER_SENDS)),
        }
    }

    /// `send_balanced` for those whom a call costs nothing in comparison
    #[inline(never)]
    fn send_in_turn(&mut self, message: &mut Message) -> Result<(), SendFailure> {
        self.send_balanced(&[], message).map(drop)
    }

    /// To the next peer with room; returns its pipe and the message's place among all sent to it
    ///
    /// Where PUSH and DEALER spend their time: it is part of their `send`, however many others call it.
    #[inline(always)]
    fn send_balanced(&mut self, envelope: &[Bytes], message: &mut Message) -> Result<(PipeKey, u64), SendFailure> {
        let bound = self.send_bound();
        while let Some(number) = self.sending.current() {
            let index = number as usize;
            let Some(pipe) = self.pipes.get_mut(index) else {
                self.sending.remove(number);
                continue;
            };
            if self.overflow == Overflow::Latest {
                conflate(pipe);
            } else if !pipe.has_room(bound) {
                self.note_slow(index);
                self.sending.deactivate(number);
                continue;
            }
            let place = pipe.counts.sent.messages;
            let key = PipeKey { index: number, serial: pipe.serial };
            if pipe.enqueue(envelope, message, bound) {
                self.wake(index);
            }
            self.sending.advance();
            return Ok((key, place));
        }
        self.send_to_full(envelope, message)
    }

    /// With no peer that has room
    #[cold]
    fn send_to_full(&mut self, envelope: &[Bytes], message: &mut Message) -> Result<(PipeKey, u64), SendFailure> {
        if self.overflow == Overflow::Block {
            return Err(SendFailure::WouldBlock);
        }
        match self.sending.next_waiting() {
            Some(number) => {
                let index = number as usize;
                let pipe = self.pipes.get(index);
                let key = PipeKey { index: number, serial: pipe.map_or(0, |pipe| pipe.serial) };
                let place = pipe.map_or(0, |pipe| pipe.counts.sent.messages);
                self.offer(index, envelope, message, self.overflow).map(|()| (key, place))
            }
            None => self.refuse_or_drop().map(|()| (PipeKey { index: u32::MAX, serial: 0 }, 0)),
        }
    }

    /// With nobody to send to: wait under `block`, drop and count under the other policies
    fn refuse_or_drop(&mut self) -> Result<(), SendFailure> {
        if self.overflow == Overflow::Block {
            return Err(SendFailure::WouldBlock);
        }
        self.unrouted += 1;
        Ok(())
    }

    /// To one peer, under a policy for when its queue is full
    fn offer(
        &mut self,
        index: usize,
        envelope: &[Bytes],
        message: &mut Message,
        policy: Overflow,
    ) -> Result<(), SendFailure> {
        let bound = self.send_bound();
        let Some(pipe) = self.pipes.get_mut(index) else {
            self.unrouted += 1;
            return Ok(());
        };
        if policy == Overflow::Latest {
            conflate(pipe);
        }
        if policy == Overflow::Latest || pipe.has_room(bound) {
            if pipe.enqueue(envelope, message, bound) {
                self.wake(index);
            }
            return Ok(());
        }
        match policy {
            Overflow::Block => {
                self.note_slow(index);
                return Err(SendFailure::WouldBlock);
            }
            Overflow::DropOld => {
                let mut dropped = 0;
                while !pipe.has_room(bound) && pipe.discard_front() {
                    dropped += 1;
                }
                self.count_drops(index, dropped);
                self.enqueue(index, envelope, message);
            }
            Overflow::Disconnect => {
                let key = PipeKey { index: u32::try_from(index).unwrap_or(u32::MAX), serial: pipe.serial };
                self.count_drops(index, 1);
                self.doom(key, TOO_SLOW);
            }
            Overflow::DropNew | Overflow::Latest => self.count_drops(index, 1),
        }
        self.note_slow(index);
        Ok(())
    }

    fn publish(&mut self, message: &mut Message) -> Result<(), SendFailure> {
        let Pattern::Publisher(publisher) = &mut self.pattern else {
            return self.refuse_or_drop();
        };
        publisher.round += 1;
        let round = publisher.round;
        let mut chosen = mem::take(&mut self.scratch);
        chosen.clear();
        publisher.trie.matches(message.first(), |number| {
            if let Some(pipe) = self.pipes.get_mut(number as usize)
                && pipe.chosen != round
                && !pipe.leaving
            {
                pipe.chosen = round;
                chosen.push(number);
            }
        });
        if self.options.invert_matching {
            let others = self.pipes.iter().filter(|(_, pipe)| pipe.chosen != round && pipe.attached && !pipe.leaving);
            chosen = others.filter_map(|(index, _)| u32::try_from(index).ok()).collect();
        }
        self.send_copies(chosen, message)
    }

    /// To each of these peers, which is the scratch list and becomes it again
    #[inline]
    fn send_copies(&mut self, chosen: Vec<u32>, message: &mut Message) -> Result<(), SendFailure> {
        self.copies = u32::try_from(chosen.len()).unwrap_or(u32::MAX);
        let mut outcome = Ok(());
        if let Some(full) = self.blocked(chosen.iter().map(|number| *number as usize)) {
            self.note_slow(full);
            outcome = Err(SendFailure::WouldBlock);
        } else if let Some((last, others)) = chosen.split_last() {
            for number in others {
                let index = *number as usize;
                // Only an inproc peer needs a copy of its own: for the others the message is encoded
                outcome = match self.pipes.get(index).is_some_and(|pipe| matches!(pipe.outbox, Outbox::Local { .. })) {
                    true => self.offer(index, &[], &mut message.clone(), self.overflow),
                    false => self.offer(index, &[], message, self.overflow),
                };
            }
            outcome = outcome.and(self.offer(*last as usize, &[], message, self.overflow));
        } else {
            self.unrouted += 1;
        }
        self.scratch = chosen;
        outcome
    }

    /// Under `block`: the first of these peers that has no room; all get a message or none
    fn blocked(&self, mut indices: impl Iterator<Item = usize>) -> Option<usize> {
        let bound = self.send_bound();
        match self.overflow {
            Overflow::Block => indices.find(|index| self.pipes.get(*index).is_some_and(|pipe| !pipe.has_room(bound))),
            _ => None,
        }
    }

    /// ROUTER: the first frame names the peer
    fn send_routed(&mut self, message: &mut Message) -> Result<(), SendFailure> {
        let Pattern::Router(router) = &mut self.pattern else {
            return Ok(());
        };
        let found = router.find(message.first());
        let is_stream = self.socket_type == SocketType::Stream;
        let reachable = found.filter(|key| self.pipe(*key).is_some_and(Pipe::is_addressable));
        let Some(key) = reachable else {
            if self.options.router_mandatory || is_stream {
                return Err(SendFailure::Unroutable);
            }
            // RFC 28: "SHALL silently drop" what can't be routed; here it is counted
            self.unrouted += 1;
            return Ok(());
        };
        let Some(id) = message.pop_front() else {
            return Err(SendFailure::Invalid(NO_BODY));
        };
        if is_stream && message.octets() == 0 {
            // libzmq: an empty message to a STREAM peer closes its connection, behind what was sent before
            self.leave(key);
            return Ok(());
        }
        self.offer(key.index as usize, &[], message, self.overflow).inspect_err(|_| message.push_front(id))
    }

    /// REP: back to the peer that asked, if it is still there and listens
    fn reply(&mut self, key: PipeKey, envelope: &[Bytes], message: &mut Message) {
        let index = key.index as usize;
        match self.pipe(key).map(Pipe::is_addressable) {
            // RFC 28: a REP "SHALL silently discard the reply" when its peer is gone, and never waits
            Some(true) => self.offer(index, envelope, message, Overflow::DropNew).ok(),
            _ => {
                self.unrouted += 1;
                None
            }
        };
    }

    /// REQ, the strict way
    fn ask(&mut self, message: &mut Message) -> Result<(), SendFailure> {
        let numbered = self.options.req_correlate;
        let Pattern::Req(req) = &mut self.pattern else {
            return self.refuse_or_drop();
        };
        let (id, envelope) = req.envelope(numbered);
        let envelope = if numbered { &envelope[..] } else { &envelope[1..] };
        let (key, place) = self.send_balanced(envelope, message)?;
        let Pattern::Req(req) = &mut self.pattern else {
            return Ok(());
        };
        req.asked(key, place, id);
        self.peer_gone = false;
        // An old reply that the application did not fetch must not answer the new request
        let stale: Vec<usize> = self.pipes.iter().filter(|(_, pipe)| !pipe.inbox.is_empty()).map(|(i, _)| i).collect();
        stale.into_iter().for_each(|index| self.drop_inbox(index));
        Ok(())
    }

    fn drop_inbox(&mut self, index: usize) {
        if let Some(pipe) = self.pipes.get_mut(index) {
            pipe.inbox.clear();
            pipe.inbox_octets = 0;
            self.after_taking(u32::try_from(index).unwrap_or(u32::MAX));
        }
    }

    /// REQ, the way that can't wedge: the reply arrives at `reply`, which is taken with success; returns the
    /// request's number
    pub(crate) fn request(
        &mut self,
        message: &mut Message,
        reply: &mut Option<oneshot::Sender<Reply>>,
    ) -> Result<u32, SendFailure> {
        if self.phase != Phase::Open {
            return Err(SendFailure::Closed);
        }
        let Pattern::Req(req) = &mut self.pattern else {
            return Err(SendFailure::NotSupported("only a REQ socket makes requests"));
        };
        let (id, envelope) = req.envelope(true);
        let id = id.unwrap_or_default();
        let (key, place) = self.send_balanced(&envelope, message)?;
        if let (Pattern::Req(req), Some(reply)) = (&mut self.pattern, reply.take()) {
            req.asked_numbered(key, place, id, reply);
        }
        Ok(id)
    }

    /// Nobody waits for this request any more; a late reply is dropped and counted
    pub(crate) fn give_up(&mut self, id: u32) {
        if let Pattern::Req(req) = &mut self.pattern {
            req.give_up(id);
        }
    }

    /// XSUB: a subscription in message form, or a message to every publisher
    fn send_upstream(&mut self, message: &mut Message) -> Result<(), SendFailure> {
        if self.socket_type == SocketType::Sub {
            return Err(SendFailure::NotSupported(SUB_SENDS));
        }
        if let Some(control) = Control::of(message) {
            self.change_subscription(control);
            return Ok(());
        }
        let reachable = self.pipes.iter().filter(|(_, pipe)| pipe.attached && !pipe.leaving);
        let indices: Vec<usize> = reachable.map(|(index, _)| index).collect();
        if indices.is_empty() {
            self.unrouted += 1;
        }
        if let Some(full) = self.blocked(indices.iter().copied()) {
            self.note_slow(full);
            return Err(SendFailure::WouldBlock);
        }
        indices.into_iter().try_for_each(|index| self.offer(index, &[], &mut message.clone(), self.overflow))
    }

    /// SUB and XSUB: adds or ends a subscription. XPUB with `xpub_manual`: decides on the one asked for last.
    pub(crate) fn change_subscription(&mut self, control: Control) -> bool {
        match &mut self.pattern {
            Pattern::Subscriber(subscriber) => {
                if subscriber.apply(&control) {
                    self.tell_all(&control);
                }
                true
            }
            Pattern::Publisher(publisher) if self.options.xpub_manual => {
                if let Some(key) = publisher.asking {
                    publisher.apply(key, &control);
                    self.signals.changed = true;
                }
                true
            }
            _ => false,
        }
    }

    /// Takes the next message, and puts it in the place of `into`
    ///
    /// # Errors
    /// Why there is none; `into` is then as it was.
    #[inline]
    pub(crate) fn recv(&mut self, into: &mut Message) -> Result<(), RecvError> {
        self.recv_noting(into, |_| {})
    }

    /// As `recv`, and whom the message is from
    pub(crate) fn recv_from(&mut self) -> Result<Received, RecvError> {
        let (mut message, mut from, mut is_notice) = (Message::default(), None, false);
        self.recv_noting(&mut message, |pipe| {
            from = Some(pipe.origin_of_next());
            is_notice = pipe.next_is_notice();
        })?;
        // Nothing is received but from a pipe
        let from = from.unwrap_or_else(|| Arc::new(Origin::anonymous(ConnectionId::fresh(), "".into())));
        Ok(Received { message, from, is_notice })
    }

    /// `note` sees each pipe before a message is taken from it: the last one is the message's
    #[inline(always)]
    fn recv_noting(&mut self, into: &mut Message, mut note: impl FnMut(&Pipe)) -> Result<(), RecvError> {
        let is_plain = match &self.pattern {
            Pattern::Pull | Pattern::Dealer | Pattern::Pair(_) | Pattern::Subscriber(_) => true,
            Pattern::Client | Pattern::Dish(_) => true,
            _ => {
                self.check_may_recv()?;
                false
            }
        };
        loop {
            let Some(number) = self.receiving.current() else {
                self.ask_links(self.receivers_wait);
                return Err(if self.phase == Phase::Open { RecvError::WouldBlock } else { RecvError::Closed });
            };
            let Some(pipe) = self.pipes.get_mut(number as usize) else {
                self.receiving.remove(number);
                continue;
            };
            note(pipe);
            if !pipe.pop_into(into) {
                self.receiving.deactivate(number);
                continue;
            }
            let key = PipeKey { index: number, serial: pipe.serial };
            if let Pattern::Router(_) | Pattern::Server(_) = &self.pattern {
                into.push_front(pipe.routing_id.clone());
            }
            let (is_empty, was_paused) = (pipe.inbox.is_empty(), pipe.reading_paused);
            if !is_empty {
                self.receiving.advance();
            }
            if is_empty || was_paused {
                self.after_taking(number);
            }
            if is_plain || self.accept(key, into) {
                return Ok(());
            }
        }
    }

    /// Has inproc peers that hold something hand it over and, if `brings`, bring by themselves what comes next
    fn ask_links(&mut self, brings: bool) {
        let Self { linked, pipes, signals, .. } = self;
        linked.retain(|number| {
            let Some(Driver::Link(link, end)) = pipes.get(*number as usize).map(|pipe| &pipe.driver) else {
                return false;
            };
            if link.peer_is_loaded(*end) | (brings && link.set_hungry(*end)) {
                signals.links.push(link.clone());
            }
            true
        });
    }

    /// Whether messages come from other threads of this process, so that looking again soon is worth more than sleeping
    pub(crate) fn has_links(&self) -> bool {
        !self.linked.is_empty()
    }

    /// Whether the pattern and the socket's phase allow to receive
    ///
    /// # Errors
    /// Why they don't.
    fn check_may_recv(&mut self) -> Result<(), RecvError> {
        if self.phase != Phase::Open && !self.has_messages() {
            return Err(RecvError::Closed);
        }
        match &self.pattern {
            Pattern::Push | Pattern::PushDatagrams => Err(RecvError::NotSupported(PUSH_RECEIVES)),
            Pattern::Scatter => Err(RecvError::NotSupported(SCATTER_RECEIVES)),
            Pattern::Radio(_) => Err(RecvError::NotSupported(RADIO_RECEIVES)),
            Pattern::Publisher(_) if self.socket_type == SocketType::Pub => Err(RecvError::NotSupported(PUB_RECEIVES)),
            Pattern::Rep(rep) if rep.current.is_some() => Err(RecvError::WrongState(REP_RECEIVES)),
            Pattern::Req(_) if mem::take(&mut self.peer_gone) => Err(RecvError::PeerGone),
            Pattern::Req(req) if !req.is_waiting() => Err(RecvError::WrongState(REQ_RECEIVES)),
            _ => Ok(()),
        }
    }

    /// What a pattern with a state of its own makes of a message that is being received; whether it is for the
    /// application
    fn accept(&mut self, key: PipeKey, message: &mut Message) -> bool {
        match &mut self.pattern {
            Pattern::Rep(rep) => {
                let accepted = rep.accept(key, message);
                self.unrouted += u64::from(!accepted);
                return accepted;
            }
            Pattern::Req(req) => req.answered(),
            Pattern::Publisher(publisher) if Control::of(message).is_some() => publisher.asking = Some(key),
            _ => {}
        }
        true
    }

    /// Whether a receive would find something
    pub(crate) fn has_messages(&self) -> bool {
        self.receiving.ready() > 0
    }

    /// Messages of a pipe's inbox were taken: its connection may read on, an inproc peer must bring the
    /// next one, and a pipe without a peer ends with its last message
    fn after_taking(&mut self, number: u32) {
        let index = number as usize;
        let (bound, is_one_of_many) = (self.recv_bound(), self.pipes.len() > 1);
        let Some(pipe) = self.pipes.get_mut(index) else {
            return;
        };
        let is_empty = pipe.inbox.is_empty();
        let gone = is_empty && pipe.departed;
        let resumes = pipe.reading_paused && pipe.reading_may_resume(bound);
        pipe.reading_paused &= !resumes;
        if is_empty && let Driver::Link(link, end) = &pipe.driver {
            // Where other pipes may keep the receiver busy, or another receiver waits, this pipe's peer must bring the
            // next message itself. Else the next receive finds nothing and sees to it, and until then messages gather.
            let brings = is_one_of_many || self.receivers_wait;
            if link.peer_is_loaded(*end) | (brings && link.set_hungry(*end)) {
                self.signals.links.push(link.clone());
            }
        }
        if is_empty {
            self.receiving.deactivate(number);
        }
        if resumes {
            self.wake(index);
        }
        if gone {
            self.departed = self.departed.saturating_sub(1);
            self.remove(index);
        }
    }

    // ---- Closing ----

    /// The application is done; queues are still written
    pub(crate) fn begin_close(&mut self) {
        if self.phase == Phase::Open {
            self.phase = Phase::Draining;
            self.announce_end();
        }
    }

    /// Whatever is left is dropped; whether the socket was open or draining until now
    pub(crate) fn end_close(&mut self) -> bool {
        let ends = mem::replace(&mut self.phase, Phase::Closed) != Phase::Closed;
        if ends {
            self.announce_end();
        }
        ends
    }

    fn announce_end(&mut self) {
        self.signals.closing = true;
        let indices: Vec<usize> = self.pipes.iter().map(|(index, _)| index).collect();
        indices.into_iter().for_each(|index| self.wake(index));
    }

    /// What is queued and not handed to the kernel, by peer
    pub(crate) fn unflushed(&self) -> Vec<(Arc<str>, Load)> {
        let waiting = self.pipes.iter().map(|(_, pipe)| (pipe.endpoint.clone(), pipe.waiting()));
        waiting.filter(|(_, load)| load.messages > 0).collect()
    }

    /// Whether a connection closed in haste could cost a peer something that was written to it
    ///
    /// Not where the peer has answered all of it, and not where nothing but subscriptions was written.
    pub(crate) fn must_part(&self) -> bool {
        match (&self.pattern, self.socket_type) {
            (Pattern::Req(req), _) => req.expects_replies() || self.options.req_relaxed,
            (Pattern::Pull, _) | (_, SocketType::Sub | SocketType::Dish) => false,
            _ => true,
        }
    }

    /// What still waits to be sent through a pipe
    pub(crate) fn waiting_in(&self, key: PipeKey) -> u64 {
        self.pipe(key).map_or(0, |pipe| pipe.waiting().messages)
    }

    /// Whether a pipe still has something for its peer
    pub(crate) fn has_unsent(&self, key: PipeKey) -> bool {
        self.pipe(key).is_some_and(|pipe| pipe.waiting().messages > 0)
    }

    /// The pipes that still have something for their peers
    pub(crate) fn unsent(&self) -> Vec<PipeKey> {
        let unsent = self.pipes.iter().filter(|(_, pipe)| pipe.waiting().messages > 0);
        let key =
            |(index, pipe): (usize, &Pipe)| Some(PipeKey { index: u32::try_from(index).ok()?, serial: pipe.serial });
        unsent.filter_map(key).collect()
    }

    /// Whether something waits for an inproc peer: such are sent without a task
    pub(crate) fn has_unsent_local(&self) -> bool {
        self.phase != Phase::Closed
            && self.pipes.iter().any(|(_, pipe)| matches!(pipe.outbox, Outbox::Local { .. }) && !pipe.outbox.is_empty())
    }

    /// Whether an inproc pipe is to be joined again when its name is bound
    pub(crate) fn is_waiting_for_peer(&self, key: PipeKey) -> bool {
        let waits = |pipe: &Pipe| match self.phase {
            Phase::Open => pipe.persistent && !pipe.attached && !pipe.leaving,
            Phase::Draining => pipe.persistent && !pipe.attached && !pipe.outbox.is_empty(),
            Phase::Closed => false,
        };
        self.pipe(key).is_some_and(waits)
    }

    // ---- Counting ----

    /// Peers that count for `ready`: subscribers for publishers, complete connections for the others
    pub(crate) fn ready_peers(&self) -> usize {
        match &self.pattern {
            Pattern::Publisher(publisher) => publisher.trie.subscribers(),
            Pattern::Radio(groups) => groups.len() + self.datagrams.len(),
            _ => self.pipes.iter().filter(|(_, pipe)| pipe.attached).count(),
        }
    }

    pub(crate) fn pipes(&self) -> impl Iterator<Item = (&Pipe, usize)> {
        self.pipes.iter().filter(|(_, pipe)| pipe.attached || pipe.persistent).map(|(index, pipe)| {
            let subscriptions = match &self.pattern {
                Pattern::Publisher(publisher) => publisher.trie.held_by(u32::try_from(index).unwrap_or(u32::MAX)),
                Pattern::Subscriber(subscriber) => subscriber.len(),
                Pattern::Radio(groups) => groups.held_by(u32::try_from(index).unwrap_or(u32::MAX)),
                Pattern::Dish(dish) => dish.len(),
                _ => 0,
            };
            (pipe, subscriptions)
        })
    }

    /// All that was ever counted: by pipes that are there and by those that are gone; and what went nowhere
    pub(crate) fn totals(&self) -> (Counts, u64) {
        let mut sum = self.retired;
        for (_, pipe) in &self.pipes {
            sum.sent.messages += pipe.counts.sent.messages;
            sum.sent.octets += pipe.counts.sent.octets;
            sum.received.messages += pipe.counts.received.messages;
            sum.received.octets += pipe.counts.received.octets;
            sum.dropped += pipe.counts.dropped;
            sum.discarded += pipe.counts.discarded;
        }
        let late = if let Pattern::Req(req) = &self.pattern { req.late } else { 0 };
        (sum, self.unrouted + late)
    }

    pub(crate) fn count_close(&mut self, reason: &'static str) {
        *self.closes.entry(reason).or_default() += 1;
    }

    // ---- Helpers ----

    fn enqueue(&mut self, index: usize, envelope: &[Bytes], message: &mut Message) {
        let bound = self.send_bound();
        if self.pipes.get_mut(index).is_some_and(|pipe| pipe.enqueue(envelope, message, bound)) {
            self.wake(index);
        }
    }

    /// Tells every peer of a subscription
    fn tell_all(&mut self, control: &Control) {
        let attached = self.pipes.iter().filter(|(_, pipe)| pipe.attached).map(|(index, _)| index);
        attached.collect::<Vec<usize>>().into_iter().for_each(|index| self.tell(index, control.clone()));
    }

    /// Tells a publisher of a subscription
    fn tell(&mut self, index: usize, control: Control) {
        // Nobody is told by datagrams (RFC 48)
        let Some(pipe) = self.pipes.get_mut(index).filter(|pipe| !pipe.is_datagrams) else {
            return;
        };
        match &mut pipe.outbox {
            Outbox::Local { .. } => drop(pipe.outbox.push(&[], &mut control.to_message())),
            _ => {
                // Twice what was left the last time, so that many different topics don't cost a pass each
                if pipe.control.len() >= COMPACT_CONTROL.max(2 * pipe.control_reduced) {
                    compact(&mut pipe.control);
                    pipe.control_reduced = pipe.control.len();
                }
                pipe.control.push(control);
            }
        }
        self.wake(index);
    }

    fn wake(&mut self, index: usize) {
        if let Some(pipe) = self.pipes.get(index) {
            match &pipe.driver {
                Driver::Task(waker) => waker.wake(),
                Driver::Link(link, _) => self.signals.links.push(link.clone()),
                Driver::None => {}
            }
        }
    }

    /// Puts a pipe where it belongs in the turns of sending
    fn refresh_sending(&mut self, index: usize) {
        let takes_turns = matches!(
            self.pattern,
            Pattern::Push
                | Pattern::PushDatagrams
                | Pattern::Dealer
                | Pattern::Req(_)
                | Pattern::Client
                | Pattern::Scatter
        );
        if !takes_turns {
            return;
        }
        let (number, bound) = (u32::try_from(index).unwrap_or(u32::MAX), self.send_bound());
        match self.pipes.get(index) {
            Some(pipe) if pipe.leaving => {}
            Some(pipe) if pipe.has_room(bound) => self.sending.activate(number),
            Some(_) => self.sending.add(number),
            None => {}
        }
    }

    fn note_slow(&mut self, index: usize) {
        if let Some(pipe) = self.pipes.get_mut(index)
            && !mem::replace(&mut pipe.slow_said, true)
        {
            let queued = pipe.waiting().messages;
            self.reporter
                .say(pipe.connection, Some(&pipe.endpoint), pipe.address.as_deref(), || EventKind::Slow { queued });
        }
    }

    fn count_drops(&mut self, index: usize, count: u64) {
        let Some(pipe) = self.pipes.get_mut(index) else {
            return;
        };
        pipe.counts.dropped += count;
        let total = pipe.counts.dropped;
        let due = match pipe.drops_said {
            None => true,
            // The clock is read for one drop in 64 only: drops come by the million
            Some((at, said)) => {
                total - said >= 64 && total / 64 != (total - count) / 64 && at.elapsed() >= DROP_EVENTS_APART
            }
        };
        if due && count > 0 {
            let said = pipe.drops_said.replace((Instant::now(), total)).map_or(0, |(_, said)| said);
            self.reporter.say(pipe.connection, Some(&pipe.endpoint), pipe.address.as_deref(), || EventKind::Dropped {
                count: total - said,
                total,
            });
        }
    }

    fn send_bound(&self) -> Load {
        Load { messages: u64::from(self.options.send_hwm), octets: self.options.send_hwm_octets }
    }

    fn recv_bound(&self) -> Load {
        if self.options.conflate && self.overflow == Overflow::Latest {
            // One message is kept, and it can be the newest only if reading goes on (libzmq ignores the mark too)
            return Load::default();
        }
        Load { messages: u64::from(self.options.recv_hwm), octets: self.options.recv_hwm_octets }
    }

    fn pipe(&self, key: PipeKey) -> Option<&Pipe> {
        self.pipes.get(key.index as usize).filter(|pipe| pipe.serial == key.serial)
    }

    fn pipe_mut(&mut self, key: PipeKey) -> Option<&mut Pipe> {
        self.pipes.get_mut(key.index as usize).filter(|pipe| pipe.serial == key.serial)
    }
}

/// Under `latest` a queue holds one message: the newest
fn conflate(pipe: &mut Pipe) {
    while pipe.discard_front() {
        pipe.counts.dropped += 1;
    }
}

/// Keeps the last word on each topic
fn compact(control: &mut Vec<Control>) {
    let last: BTreeMap<Bytes, bool> = control.drain(..).map(|control| (control.topic, control.subscribe)).collect();
    control.extend(last.into_iter().map(|(topic, subscribe)| Control { subscribe, topic }));
}

// Reasons for closing a connection that are the socket's own; names in events and metrics
pub(crate) const PAIR_TAKEN: &str = "pair-taken";
pub(crate) const DUPLICATE_ID: &str = "duplicate-routing-id";
pub(crate) const TAKEN_OVER: &str = "taken-over";
pub(crate) const TOO_SLOW: &str = "too-slow";
pub(crate) const NO_DELIMITER: &str = "no-delimiter";
pub(crate) const SOCKET_CLOSED: &str = "socket-closed";
pub(crate) const CLOSED_HERE: &str = "closed-here";
pub(crate) const TOO_MANY: &str = "too-many-peers";
pub(crate) const TOO_MANY_SUBSCRIPTIONS: &str = "too-many-subscriptions";
pub(crate) const UNREAD: &str = "unread-messages";
pub(crate) const CROWDED_OUT: &str = "too-many-handshakes";
pub(crate) const NOT_GROUP_AND_BODY: &str = "not-group-and-body";
pub(crate) const BAD_GROUP: &str = "bad-group";

/// Whether a peer that was parted from for this reason would only give it again
///
/// libzmq forgets the endpoint of a peer that breaks the pattern's rules, too.
pub(crate) fn is_definite(reason: &str) -> bool {
    [NO_DELIMITER, NOT_GROUP_AND_BODY, BAD_GROUP].contains(&reason)
}

/// What those reasons mean, for people
pub(crate) fn explain(reason: &str) -> &'static str {
    match reason {
        PAIR_TAKEN => "this PAIR or CHANNEL socket has its one peer already",
        DUPLICATE_ID => "another connected peer has the same routing id; set router_handover to let the newcomer in",
        TAKEN_OVER => "a newcomer with the same routing id took over",
        TOO_SLOW => "the peer could not keep up, and is disconnected then",
        NO_DELIMITER => "the peer answered a REQ without an empty delimiter frame",
        SOCKET_CLOSED => "the socket was closed",
        CLOSED_HERE => "the application closed this connection",
        TOO_MANY => "no more peers can be numbered",
        TOO_MANY_SUBSCRIPTIONS => "the peer holds as much as max_subscriptions or max_subscription_octets allows",
        NOT_GROUP_AND_BODY => "the peer sent a DISH something else than a group and a body",
        BAD_GROUP => BAD_GROUP_NAME,
        UNREAD => "too many peers left messages that this socket has not received yet",
        CROWDED_OUT => "so many connections are at their handshake that the oldest gives way; see max_handshakes",
        _ => zap::explain(reason),
    }
}

const REQ_SENDS: &str = "a REQ socket must receive the reply to its last request before it sends the next; or set req_relaxed, or use request";
const REQ_RECEIVES: &str = "a REQ socket has nothing to receive before it has sent a request";
const REP_SENDS: &str = "a REP socket must receive a request before it can reply";
const REP_RECEIVES: &str = "a REP socket must reply to the last request before it receives the next";
const PULL_SENDS: &str = "a PULL socket only receives";
const SUB_SENDS: &str = "a SUB socket only receives";
const GATHER_SENDS: &str = "a GATHER socket only receives";
const DISH_SENDS: &str = "a DISH socket only receives";
const SCATTER_RECEIVES: &str = "a SCATTER socket only sends";
const RADIO_RECEIVES: &str = "a RADIO socket only sends";
const PUSH_RECEIVES: &str = "a PUSH socket only sends";
const PUB_RECEIVES: &str = "a PUB socket only sends";
const NO_BODY: &str = "a message needs a body behind the routing id";

/// Bits of the option `router_notify`
const NOTIFY_CONNECT: u8 = 1;
const NOTIFY_DISCONNECT: u8 = 2;

/// High-water marks below this are kept to the message, however small the steps
const SMALL_QUEUE: u64 = 64;
const DROP_EVENTS_APART: Duration = Duration::from_secs(1);
/// Departed peers with unread messages; more and newcomers are turned away until the application reads
const MOST_DEPARTED: usize = 10_000;
/// Subscription changes that wait for a connection before they are reduced to the last word on each topic
const COMPACT_CONTROL: usize = 65_536;
