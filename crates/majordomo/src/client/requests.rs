//! The client's side of the protocol as pure state: requests under way, and the conversations that carry them.
//!
//! No clock, no I/O: instants and messages go in; messages, outcomes, what the driver is to do, and the next deadline come
//! out. After any call that changes something, drain [`poll_action`](Requests::poll_action),
//! [`poll_transmit`](Requests::poll_transmit) and [`poll_news`](Requests::poll_news).
//!
//! On our own wire requests are numbered and all share one conversation. The others have no numbers, so a conversation
//! there carries one request at a time: more wait for their turn, or get conversations of their own up to a bound. Who
//! gives a request up on such a wire needs a new conversation, or its late reply would pass for the next one's (RFC 7,
//! "Reliability").

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use slab::Slab;
use tidings_zmtp::Message;

use super::error::RequestError;
use crate::conversation::{Action, ConversationId, Loss, Retry, Waits};
use crate::wire::{Body, ClientCommand, ClientReply, RequestOptions, ServiceName, Status, Wire};

/// What a client has under way
#[derive(Debug)]
pub struct Requests {
    config: RequestsConfig,
    seed: u64,
    lanes: Vec<Lane>,
    pending: Slab<Pending>,
    /// Those that no conversation has taken yet, in the order of their turn; some may have been given up meanwhile
    waiting: VecDeque<RequestId>,
    deadlines: BTreeSet<(Instant, RequestId)>,
    transmits: VecDeque<Outgoing>,
    actions: VecDeque<Action>,
    news: VecDeque<RequestId>,
    next_serial: u64,
    next_conversation: u64,
    /// When one conversation more may be tried, after one was lost
    spare_not_before: Option<Instant>,
    /// Why the broker does not want us, until it is asked again
    refusal: Option<String>,
    is_closed: bool,
    counts: ClientCounts,
}

/// Bounds and times of a client
#[derive(Clone, Copy, Debug)]
pub struct RequestsConfig {
    /// The wire for brokers that don't announce ours. Default: MDP 0.1
    pub wire: Wire,
    /// Most requests under way, those included that wait for a conversation. Default: 10,000
    pub max_in_flight: usize,
    /// Most conversations at a time on wires that number no requests. Default: 8
    pub max_conversations: usize,
    /// Most parts of one reply that wait to be taken. Default: 10,000
    pub max_parts: usize,
    /// Most octets of those parts. Default: 64 MiB
    pub max_part_octets: usize,
    /// When a conversation is tried again
    pub retry: Retry,
}

impl Default for RequestsConfig {
    fn default() -> Self {
        Self {
            wire: Wire::Mdp01,
            max_in_flight: 10_000,
            max_conversations: 8,
            max_parts: 10_000,
            max_part_octets: 64 << 20,
            retry: Retry::default(),
        }
    }
}

/// Names a request for as long as the client lives; its number on our own wire
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(u64);

impl RequestId {
    /// A place below [`RequestsConfig::max_in_flight`] that no other request has at the same time
    #[must_use]
    pub fn index(self) -> usize {
        (self.0 & INDEX_MASK) as usize
    }
}

/// A request as it is given in
#[derive(Clone, Debug)]
pub struct NewRequest {
    /// For which service
    pub service: ServiceName,
    /// What is asked
    pub body: Body,
    /// How long there is for it, its key, and whether it may be sent again
    pub options: RequestOptions,
}

/// A message for the broker
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The conversation that it belongs to
    pub conversation: ConversationId,
    /// What to send
    pub message: Message,
}

/// How a request ended
#[derive(Debug)]
pub struct Outcome {
    /// Parts of the reply that were not taken before
    pub parts: VecDeque<Body>,
    /// The reply, or its last part; or why there is none
    pub result: Result<Body, RequestError>,
}

/// What a client has done
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct ClientCounts {
    /// Requests made
    pub requests: u64,
    /// Replies handed over
    pub replies: u64,
    /// Parts of replies received
    pub partials: u64,
    /// Requests refused by the broker or a worker, with a status
    pub refused: u64,
    /// Requests whose time was over first
    pub expired: u64,
    /// Requests given up by the caller
    pub cancelled: u64,
    /// Requests that may have been executed when their connection was lost, and were not to be repeated
    pub lost: u64,
    /// Times that a request was sent again in another conversation
    pub resent: u64,
    /// Replies that nobody waited for any longer
    pub late_replies: u64,
    /// Messages of the broker that could not be read
    pub malformed: u64,
    /// Conversations that came about
    pub conversations: u64,
    /// Requests under way
    pub in_flight: usize,
    /// Those of them that no conversation has taken yet
    pub waiting: usize,
}

#[derive(Debug)]
struct Lane {
    state: LaneState,
    waits: Waits,
}

#[derive(Debug)]
enum LaneState {
    /// The next conversation is begun then
    Waiting {
        until: Instant,
    },
    /// The driver is at it
    Opening {
        id: ConversationId,
    },
    Open {
        id: ConversationId,
        wire: Wire,
        busy: Option<RequestId>,
    },
}

impl LaneState {
    fn conversation(&self) -> Option<ConversationId> {
        match self {
            Self::Waiting { .. } => None,
            Self::Opening { id } | Self::Open { id, .. } => Some(*id),
        }
    }
}

#[derive(Debug)]
struct Pending {
    id: RequestId,
    service: ServiceName,
    /// Empty once it was sent and may not be sent again
    body: Body,
    key: Option<Bytes>,
    is_repeatable: bool,
    given: Option<Duration>,
    deadline: Option<Instant>,
    /// Where it is; `None` while it waits
    sent: Option<ConversationId>,
    was_sent: bool,
    parts: VecDeque<Body>,
    part_octets: usize,
    part_was_taken: bool,
    is_in_news: bool,
    outcome: Option<Result<Body, RequestError>>,
}

impl Requests {
    /// A client that begins its first conversation now; `seed` spreads the waits between conversations
    #[must_use]
    pub fn new(config: RequestsConfig, seed: u64) -> Self {
        let mut requests = Self {
            config: RequestsConfig {
                max_in_flight: config.max_in_flight.clamp(1, INDEX_MASK as usize),
                max_conversations: config.max_conversations.max(1),
                ..config
            },
            seed,
            lanes: Vec::new(),
            pending: Slab::new(),
            waiting: VecDeque::new(),
            deadlines: BTreeSet::new(),
            transmits: VecDeque::new(),
            actions: VecDeque::new(),
            news: VecDeque::new(),
            next_serial: 1,
            next_conversation: 1,
            spare_not_before: None,
            refusal: None,
            is_closed: false,
            counts: ClientCounts::default(),
        };
        requests.add_lane();
        requests
    }

    /// Takes a request, and sends it if a conversation is free for it
    ///
    /// # Errors
    /// [`RequestError::TooManyInFlight`], [`RequestError::Unreachable`], [`RequestError::Key`] and
    /// [`RequestError::Closed`]; then nothing was sent.
    pub fn request(&mut self, now: Instant, request: NewRequest) -> Result<RequestId, RequestError> {
        if self.is_closed {
            return Err(RequestError::Closed);
        }
        if let Some(reason) = &self.refusal {
            return Err(RequestError::Unreachable { reason: reason.clone() });
        }
        if self.pending.len() >= self.config.max_in_flight {
            return Err(RequestError::TooManyInFlight { most: self.config.max_in_flight });
        }
        let NewRequest { service, body, options } = request;
        if let Some(key) = &options.key
            && !(1..=255).contains(&key.len())
        {
            return Err(RequestError::Key { octets: key.len() });
        }
        self.counts.requests += 1;
        let entry = self.pending.vacant_entry();
        let id = RequestId(self.next_serial << INDEX_BITS | entry.key() as u64);
        self.next_serial += 1;
        let deadline = options.deadline.and_then(|time| now.checked_add(time));
        entry.insert(Pending {
            id,
            service,
            body,
            key: options.key,
            is_repeatable: options.repeatable,
            given: options.deadline,
            deadline,
            sent: None,
            was_sent: false,
            parts: VecDeque::new(),
            part_octets: 0,
            part_was_taken: false,
            is_in_news: false,
            outcome: None,
        });
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, id));
        }
        self.waiting.push_back(id);
        self.dispatch(now);
        Ok(id)
    }

    /// The next part of a reply that was not taken yet
    pub fn take_part(&mut self, id: RequestId) -> Option<Body> {
        let pending = self.find(id)?;
        let part = pending.parts.pop_front()?;
        pending.part_octets -= octets(&part);
        pending.part_was_taken = true;
        Some(part)
    }

    /// How a request ended, if it has; it is then forgotten
    pub fn take_outcome(&mut self, id: RequestId) -> Option<Outcome> {
        let result = self.find(id)?.outcome.take()?;
        let parts = self.remove(id)?.parts;
        Some(Outcome { parts, result })
    }

    /// Forgets a request, and takes it back if it is under way
    pub fn cancel(&mut self, now: Instant, id: RequestId) {
        let Some(pending) = self.remove(id) else { return };
        if pending.outcome.is_none() {
            self.counts.cancelled += 1;
            self.give_up(now, id, pending.sent);
        }
        // Those that wait are looked through now and then, so that giving up stays cheap and memory bounded
        if self.waiting.len() > 2 * self.pending.len() + SLACK {
            let pending = &self.pending;
            self.waiting.retain(|id| pending.get(id.index()).is_some_and(|pending| pending.id == *id));
        }
    }

    /// The handshake of a conversation is done; `announced` is the wire that the broker named there, if it did
    pub fn handle_open(&mut self, now: Instant, conversation: ConversationId, announced: Option<Wire>) {
        let wire = announced.unwrap_or(self.config.wire);
        let Some(lane) = self.lane_of(conversation) else { return };
        lane.state = LaneState::Open { id: conversation, wire, busy: None };
        lane.waits.on_open(now);
        self.counts.conversations += 1;
        self.refusal = None;
        self.dispatch(now);
    }

    /// A conversation ended by itself, or did not come about
    pub fn handle_lost(&mut self, now: Instant, conversation: ConversationId, loss: &Loss) {
        let Some(lane) = self.lane_of(conversation) else { return };
        let until = lane.waits.next(now, loss);
        lane.state = LaneState::Waiting { until };
        self.spare_not_before = Some(until);
        self.actions.push_back(Action::Close(conversation));
        self.return_requests(conversation);
        if let Loss::Refused(reason) = loss {
            self.refusal = Some(reason.clone());
            let all: Vec<RequestId> = self.unended().collect();
            all.into_iter().for_each(|id| self.end(id, Err(RequestError::Unreachable { reason: reason.clone() })));
        }
        self.drop_spare_lanes();
        self.dispatch(now);
    }

    /// A message of the broker
    pub fn handle_message(&mut self, now: Instant, conversation: ConversationId, message: Message) {
        let Some(lane) = self.lane_of(conversation) else { return };
        let LaneState::Open { wire, busy, .. } = lane.state else { return };
        let Ok(reply) = ClientReply::decode(message, wire) else {
            self.counts.malformed += 1;
            return;
        };
        lane.waits.on_heard();
        let (id, service) = match &reply {
            ClientReply::Partial { id, service, .. } | ClientReply::Final { id, service, .. } => (*id, Some(service)),
            ClientReply::Refused { id, .. } => (*id, None),
        };
        let id = if wire.is_numbered() { Some(RequestId(id)) } else { busy };
        let is_wanted = |pending: &&mut Pending| {
            let is_same = service.is_none_or(|service| service.is_empty() || service == pending.service.as_bytes());
            pending.sent == Some(conversation) && pending.outcome.is_none() && is_same
        };
        let Some(pending) = id.and_then(|id| self.find(id)).filter(is_wanted) else {
            // A refusal may well cross the caller's own giving up; it is no reply
            self.counts.late_replies += u64::from(service.is_some());
            return;
        };
        let id = pending.id;
        match reply {
            ClientReply::Partial { body, .. } => self.add_part(now, id, body),
            ClientReply::Final { body, .. } => {
                self.free(conversation);
                self.counts.replies += 1;
                self.end(id, Ok(body));
            }
            ClientReply::Refused { status, text, .. } => {
                self.free(conversation);
                let text = String::from_utf8_lossy(&text).into_owned();
                self.end(id, Err(refused(status, text)));
            }
        }
        if !wire.is_numbered() {
            self.dispatch(now);
        }
    }

    /// Time has passed
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((deadline, id)) = self.deadlines.first().copied()
            && deadline <= now
        {
            self.deadlines.pop_first();
            let Some(pending) = self.find(id).filter(|pending| pending.outcome.is_none()) else { continue };
            let (sent, was_sent, after) = (pending.sent, pending.was_sent, pending.given.unwrap_or_default());
            self.end(id, Err(RequestError::DeadlinePassed { after, sent: was_sent }));
            // The broker has the same deadline on our wire, and needs no CANCEL
            if sent.is_some_and(|sent| self.wire_of(sent).is_some_and(|wire| !wire.is_numbered())) {
                self.give_up(now, id, sent);
            }
        }
        self.open_due_lanes(now);
    }

    /// Ends everything: what is under way fails with [`RequestError::Closed`]
    pub fn close(&mut self) {
        self.is_closed = true;
        let all: Vec<RequestId> = self.unended().collect();
        for id in all {
            if let Some(conversation) = self.find(id).and_then(|pending| pending.sent) {
                self.send_cancel(id, conversation);
            }
            self.end(id, Err(RequestError::Closed));
        }
        for lane in self.lanes.drain(..) {
            self.actions.extend(lane.state.conversation().map(Action::Close));
        }
    }

    /// What the driver is to do next
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Whether the driver has anything to do
    #[must_use]
    pub fn has_actions(&self) -> bool {
        !self.actions.is_empty()
    }

    /// What is to be sent next
    pub fn poll_transmit(&mut self) -> Option<Outgoing> {
        self.transmits.pop_front()
    }

    /// A request that has ended, or has a new part
    pub fn poll_news(&mut self) -> Option<RequestId> {
        let id = self.news.pop_front()?;
        if let Some(pending) = self.find(id) {
            pending.is_in_news = false;
        }
        Some(id)
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called at the latest
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let waiting = self.lanes.iter().filter_map(|lane| match lane.state {
            LaneState::Waiting { until } => Some(until),
            _ => None,
        });
        waiting.chain(self.deadlines.first().map(|(deadline, _)| *deadline)).min()
    }

    /// The wire that is spoken, once a conversation has come about
    #[must_use]
    pub fn wire(&self) -> Option<Wire> {
        self.lanes.iter().find_map(|lane| match lane.state {
            LaneState::Open { wire, .. } => Some(wire),
            _ => None,
        })
    }

    /// Why the broker does not want us, if it said so the last time
    #[must_use]
    pub fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    /// Whether it was closed
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// What it has done and holds
    #[must_use]
    pub fn counts(&self) -> ClientCounts {
        let waiting = self.pending.iter().filter(|(_, pending)| pending.outcome.is_none() && pending.sent.is_none());
        ClientCounts { in_flight: self.unended().count(), waiting: waiting.count(), ..self.counts }
    }

    fn unended(&self) -> impl Iterator<Item = RequestId> {
        self.pending.iter().filter(|(_, pending)| pending.outcome.is_none()).map(|(_, pending)| pending.id)
    }

    fn find(&mut self, id: RequestId) -> Option<&mut Pending> {
        self.pending.get_mut(id.index()).filter(|pending| pending.id == id)
    }

    fn remove(&mut self, id: RequestId) -> Option<Pending> {
        self.find(id)?;
        let pending = self.pending.remove(id.index());
        if let Some(deadline) = pending.deadline {
            self.deadlines.remove(&(deadline, id));
        }
        Some(pending)
    }

    fn tell(&mut self, id: RequestId) {
        if let Some(pending) = self.find(id)
            && !std::mem::replace(&mut pending.is_in_news, true)
        {
            self.news.push_back(id);
        }
    }

    fn end(&mut self, id: RequestId, outcome: Result<Body, RequestError>) {
        match &outcome {
            Err(RequestError::Refused { .. }) => self.counts.refused += 1,
            Err(RequestError::DeadlinePassed { .. }) => self.counts.expired += 1,
            Err(RequestError::ConnectionLost) => self.counts.lost += 1,
            _ => {}
        }
        let Some(pending) = self.find(id) else { return };
        pending.outcome = Some(outcome);
        pending.body = Body::new();
        if let Some(deadline) = pending.deadline.take() {
            self.deadlines.remove(&(deadline, id));
        }
        self.tell(id);
    }

    fn add_part(&mut self, now: Instant, id: RequestId, body: Body) {
        self.counts.partials += 1;
        let (most, most_octets) = (self.config.max_parts, self.config.max_part_octets);
        let Some(pending) = self.find(id) else { return };
        let total = pending.part_octets + octets(&body);
        if pending.parts.len() < most && total <= most_octets {
            pending.parts.push_back(body);
            pending.part_octets = total;
            return self.tell(id);
        }
        let (parts, sent) = (pending.parts.len(), pending.sent);
        self.end(id, Err(RequestError::TooManyParts { parts, octets: total }));
        self.give_up(now, id, sent);
    }

    /// Has the broker and, through it, the worker know that a request is wanted no longer
    fn give_up(&mut self, now: Instant, id: RequestId, sent: Option<ConversationId>) {
        let Some(conversation) = sent else { return };
        if self.send_cancel(id, conversation) {
            return;
        }
        // What comes in this conversation now may be the reply to this request, and must not pass for another's
        let Some(lane) = self.lane_of(conversation) else { return };
        lane.state = LaneState::Waiting { until: now };
        self.actions.push_back(Action::Close(conversation));
        self.drop_spare_lanes();
        self.dispatch(now);
        // Not as after a failure: nothing is wrong with the broker
        self.open_due_lanes(now);
    }

    fn open_due_lanes(&mut self, now: Instant) {
        for index in 0..self.lanes.len() {
            let is_due = |lane: &Lane| matches!(lane.state, LaneState::Waiting { until } if until <= now);
            if self.lanes.get(index).is_some_and(is_due) {
                self.open(index);
            }
        }
    }

    fn send_cancel(&mut self, id: RequestId, conversation: ConversationId) -> bool {
        let Some(wire) = self.wire_of(conversation).filter(|wire| wire.is_numbered()) else { return false };
        let Ok(message) = (ClientCommand::Cancel { id: id.0 }).encode(wire) else { return false };
        self.transmits.push_back(Outgoing { conversation, message });
        true
    }

    /// Gives what a conversation has not answered to the next one, as far as that is allowed
    fn return_requests(&mut self, conversation: ConversationId) {
        let of_it = |pending: &Pending| pending.sent == Some(conversation) && pending.outcome.is_none();
        let mut returned: Vec<RequestId> =
            self.pending.iter().filter(|(_, pending)| of_it(pending)).map(|(_, pending)| pending.id).collect();
        // The oldest is the first again
        returned.sort_unstable_by(|one, other| other.cmp(one));
        for id in returned {
            let Some(pending) = self.find(id) else { continue };
            pending.sent = None;
            if !pending.is_repeatable || pending.part_was_taken {
                self.end(id, Err(RequestError::ConnectionLost));
                continue;
            }
            // Its parts come once more
            pending.parts.clear();
            pending.part_octets = 0;
            self.waiting.push_front(id);
        }
    }

    /// Sends what waits as far as conversations are free; called after every change
    fn dispatch(&mut self, now: Instant) {
        while let Some(id) = self.waiting.front().copied() {
            if self.find(id).is_none_or(|pending| pending.outcome.is_some() || pending.sent.is_some()) {
                self.waiting.pop_front();
                continue;
            }
            let Some((conversation, wire)) = self.take_lane(id) else {
                self.add_lane_if_worthwhile(now);
                return;
            };
            self.waiting.pop_front();
            self.send(now, id, conversation, wire);
        }
    }

    fn send(&mut self, now: Instant, id: RequestId, conversation: ConversationId, wire: Wire) {
        let Some(pending) = self.find(id) else { return };
        let was_sent = std::mem::replace(&mut pending.was_sent, true);
        pending.sent = Some(conversation);
        let body = if pending.is_repeatable { pending.body.clone() } else { std::mem::take(&mut pending.body) };
        let command = ClientCommand::Request {
            id: id.0,
            service: pending.service.clone(),
            options: RequestOptions {
                deadline: pending.deadline.map(|deadline| deadline.saturating_duration_since(now)),
                key: pending.key.clone(),
                repeatable: pending.is_repeatable,
                attempt: 1,
            },
            body,
        };
        self.counts.resent += u64::from(was_sent);
        // Every wire has a word for a request
        if let Ok(message) = command.encode(wire) {
            self.transmits.push_back(Outgoing { conversation, message });
        }
    }

    /// A conversation that can take the request now, and has it then
    fn take_lane(&mut self, id: RequestId) -> Option<(ConversationId, Wire)> {
        self.lanes.iter_mut().find_map(|lane| match &mut lane.state {
            LaneState::Open { id, wire, .. } if wire.is_numbered() => Some((*id, *wire)),
            LaneState::Open { id: conversation, wire, busy: busy @ None } => {
                *busy = Some(id);
                Some((*conversation, *wire))
            }
            _ => None,
        })
    }

    /// The request of a conversation that has one at a time is done
    fn free(&mut self, conversation: ConversationId) {
        if let Some(Lane { state: LaneState::Open { busy, .. }, .. }) = self.lane_of(conversation) {
            *busy = None;
        }
    }

    /// One more conversation if all are busy, and not just being opened
    fn add_lane_if_worthwhile(&mut self, now: Instant) {
        let is_busy = |lane: &Lane| matches!(lane.state, LaneState::Open { busy: Some(_), .. });
        let may_try = self.spare_not_before.is_none_or(|time| time <= now);
        if may_try && self.lanes.len() < self.config.max_conversations && self.lanes.iter().all(is_busy) {
            self.add_lane();
        }
    }

    fn add_lane(&mut self) {
        let seed = self.seed.wrapping_add(self.next_conversation).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let id = self.fresh_conversation();
        self.lanes.push(Lane { state: LaneState::Opening { id }, waits: Waits::new(self.config.retry, seed) });
        self.actions.push_back(Action::Open(id));
    }

    fn open(&mut self, index: usize) {
        let id = self.fresh_conversation();
        if let Some(lane) = self.lanes.get_mut(index) {
            lane.state = LaneState::Opening { id };
            self.actions.push_back(Action::Open(id));
        }
    }

    fn fresh_conversation(&mut self) -> ConversationId {
        let id = ConversationId(self.next_conversation);
        self.next_conversation += 1;
        id
    }

    /// Only one conversation is begun anew for its own sake; more come with requests
    fn drop_spare_lanes(&mut self) {
        let mut spare = self.lanes.len().saturating_sub(1);
        self.lanes.retain(|lane| {
            let is_spare = spare > 0 && matches!(lane.state, LaneState::Waiting { .. });
            spare -= usize::from(is_spare);
            !is_spare
        });
    }

    fn lane_of(&mut self, conversation: ConversationId) -> Option<&mut Lane> {
        self.lanes.iter_mut().find(|lane| lane.state.conversation() == Some(conversation))
    }

    fn wire_of(&mut self, conversation: ConversationId) -> Option<Wire> {
        match self.lane_of(conversation)?.state {
            LaneState::Open { wire, .. } => Some(wire),
            _ => None,
        }
    }
}

fn refused(status: Status, text: String) -> RequestError {
    RequestError::Refused { status, text }
}

fn octets(body: &Body) -> usize {
    body.iter().map(Bytes::len).sum()
}

/// Places for requests: a million, the bound of [`RequestsConfig::max_in_flight`]
const INDEX_BITS: u32 = 20;
const INDEX_MASK: u64 = (1 << INDEX_BITS) - 1;
/// Requests given up that may stand among those that wait
const SLACK: usize = 64;
