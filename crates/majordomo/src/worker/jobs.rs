//! The worker's side of the protocol as pure state: its conversation with the broker, and the requests it has.
//!
//! No clock, no I/O: instants, messages and what handlers came to go in; messages, requests to handle, what the driver is
//! to do, and the next deadline come out. After any call that changes something, drain
//! [`poll_action`](Jobs::poll_action), [`poll_transmit`](Jobs::poll_transmit) and [`poll_event`](Jobs::poll_event).
//!
//! A conversation begins with READY, heartbeats go out while nothing else does, and it ends when the broker says so, is
//! silent for too long, or is gone (RFC 7, "Reliability"). What the worker had then is the broker's to give to another:
//! handlers are told, and what they come to is dropped and counted.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use slab::Slab;
use tidings_zmtp::Message;

use super::error::{Failure, PartialError};
use crate::client::Outgoing;
use crate::conversation::{Action, ConversationId, Loss, Retry, Waits};
use crate::wire::{Body, ReadyOptions, ServiceName, Status, Wire, WorkerCommand, WorkerOrder};

/// What a worker has to do, and with whom it talks
#[derive(Debug)]
pub struct Jobs {
    config: JobsConfig,
    state: State,
    waits: Waits,
    jobs: Slab<Job>,
    running: usize,
    /// Jobs for which no handler is free: those of a conversation before may still run
    waiting: VecDeque<JobId>,
    // Chosen by the broker, which may give us as few requests as it likes anyway
    tokens: HashMap<Bytes, JobId, foldhash::fast::RandomState>,
    deadlines: BTreeSet<(Instant, JobId)>,
    transmits: VecDeque<Outgoing>,
    actions: VecDeque<Action>,
    events: VecDeque<JobEvent>,
    next_serial: u64,
    next_conversation: u64,
    counts: WorkerCounts,
}

/// What a worker is and how it behaves
#[derive(Clone, Debug)]
pub struct JobsConfig {
    /// What it answers for
    pub service: ServiceName,
    /// The wire for brokers that don't announce ours. Default: MDP 0.1
    pub wire: Wire,
    /// How many requests it takes at once; only our own wire can say more than one. Default: 1
    pub concurrency: u32,
    /// How often the broker hears from it. Default: 1 s
    pub heartbeat_interval: Duration,
    /// How many intervals of silence end a conversation. Default: 4
    pub liveness: u32,
    /// How long a silence ends it instead; if `None`, on other wires than ours 10 s at least, since those brokers have
    /// intervals of their own (2.5 s by custom). Default: `None`
    pub silence: Option<Duration>,
    /// When a conversation is tried again
    pub retry: Retry,
}

impl JobsConfig {
    /// Defaults, for a service
    #[must_use]
    pub fn new(service: ServiceName) -> Self {
        Self {
            service,
            wire: Wire::Mdp01,
            concurrency: 1,
            heartbeat_interval: Duration::from_secs(1),
            liveness: 4,
            silence: None,
            retry: Retry::default(),
        }
    }
}

/// Names a request for as long as the worker lives
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(u64);

impl JobId {
    /// A small number that no other request has at the same time
    #[must_use]
    pub fn index(self) -> usize {
        (self.0 & INDEX_MASK) as usize
    }
}

/// What becomes of requests, and of the worker
#[derive(Debug)]
pub enum JobEvent {
    /// A handler is to take this on
    Start(NewJob),
    /// Nobody waits for the result any longer; a handler may stop
    Cancel {
        /// The request
        job: JobId,
        /// Why
        cause: CancelCause,
    },
    /// The broker has registered the worker, on this wire; brokers other than ours don't say so, and are believed to
    Ready(Wire),
    /// A conversation ended or did not come about; another one follows
    Lost(Loss),
    /// The worker is done for good
    Ended(EndReason),
}

/// A request for a handler
#[derive(Debug)]
pub struct NewJob {
    /// Its name here
    pub id: JobId,
    /// What is asked
    pub body: Body,
    /// When nobody waits for the reply any longer
    pub deadline: Option<Instant>,
    /// Which try it is, from 1
    pub attempt: u32,
    /// The idempotency key, if the client gave one
    pub key: Option<Bytes>,
    /// Whether its reply may come in parts
    pub takes_parts: bool,
}

/// Why a request's result is wanted no longer
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CancelCause {
    /// The client took it back
    Client,
    /// Its time is over
    Deadline,
    /// The conversation that it came in is over; the broker may have given it to another worker
    Lost,
    /// The worker was stopped, and did not wait for it any longer
    Stopped,
}

/// Why a worker is done for good
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndReason {
    /// It was stopped here
    Stopped,
    /// The broker asked it to finish and not come back
    Drained,
}

/// What a worker has done
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct WorkerCounts {
    /// Requests received
    pub requests: u64,
    /// Replies sent
    pub replies: u64,
    /// Parts of replies sent
    pub partials: u64,
    /// Requests that a handler refused or failed at
    pub failed: u64,
    /// Requests refused because there were more than the worker had said it takes
    pub excess: u64,
    /// Requests whose result was wanted no longer while they were handled
    pub cancelled: u64,
    /// Results that could not be sent, since their conversation was over
    pub lost: u64,
    /// Messages of the broker that could not be read
    pub malformed: u64,
    /// Conversations that came about
    pub conversations: u64,
    /// Requests that handlers have now
    pub running: usize,
}

#[derive(Debug)]
enum State {
    /// The next conversation is begun then
    Waiting {
        until: Instant,
    },
    /// The driver is at it
    Opening {
        id: ConversationId,
    },
    Open(Open),
    Ended,
}

#[derive(Debug)]
struct Open {
    id: ConversationId,
    wire: Wire,
    /// The broker has answered READY, or never does
    is_registered: bool,
    /// When the broker is taken for dead
    silent_at: Instant,
    /// Whether it was given one interval more, because this side may have been asleep
    was_spared: bool,
    beat_at: Instant,
    /// Requests of this conversation that are not answered
    unanswered: usize,
    /// It takes no more, and ends with the last answer
    draining: Option<EndReason>,
}

#[derive(Debug)]
struct Job {
    id: JobId,
    conversation: ConversationId,
    token: Bytes,
    deadline: Option<Instant>,
    /// Why its result is wanted no longer
    cancelled: Option<CancelCause>,
    /// Until a handler has it
    waiting: Option<NewJob>,
}

impl Jobs {
    /// A worker that begins its first conversation now; `seed` spreads the waits between conversations
    #[must_use]
    pub fn new(config: JobsConfig, seed: u64) -> Self {
        let mut jobs = Self {
            state: State::Ended,
            waits: Waits::new(config.retry, seed),
            config: JobsConfig { concurrency: config.concurrency.clamp(1, MOST_JOBS), ..config },
            jobs: Slab::new(),
            running: 0,
            waiting: VecDeque::new(),
            tokens: HashMap::default(),
            deadlines: BTreeSet::new(),
            transmits: VecDeque::new(),
            actions: VecDeque::new(),
            events: VecDeque::new(),
            next_serial: 1,
            next_conversation: 1,
            counts: WorkerCounts::default(),
        };
        jobs.open();
        jobs
    }

    /// The handshake of a conversation is done; `announced` is the wire that the broker named there, if it did
    pub fn handle_open(&mut self, now: Instant, conversation: ConversationId, announced: Option<Wire>) {
        if !matches!(self.state, State::Opening { id } if id == conversation) {
            return;
        }
        let wire = announced.unwrap_or(self.config.wire);
        let open = Open {
            id: conversation,
            wire,
            is_registered: !wire.is_numbered(),
            silent_at: now + self.silence(wire),
            was_spared: false,
            beat_at: now + self.config.heartbeat_interval,
            unanswered: 0,
            draining: None,
        };
        self.state = State::Open(open);
        self.waits.on_open(now);
        self.counts.conversations += 1;
        let options =
            ReadyOptions { concurrency: self.config.concurrency, heartbeat: Some(self.config.heartbeat_interval) };
        self.say(now, WorkerCommand::Ready { service: self.config.service.clone(), options });
        if !wire.is_numbered() {
            self.events.push_back(JobEvent::Ready(wire));
        }
    }

    /// The conversation ended by itself, or did not come about
    pub fn handle_lost(&mut self, now: Instant, conversation: ConversationId, loss: Loss) {
        match &self.state {
            State::Opening { id } | State::Open(Open { id, .. }) if *id == conversation => self.lose(now, loss),
            _ => {}
        }
    }

    /// A message of the broker
    pub fn handle_message(&mut self, now: Instant, conversation: ConversationId, message: Message) {
        let State::Open(open) = &mut self.state else { return };
        if open.id != conversation {
            return;
        }
        let wire = open.wire;
        let order = WorkerOrder::decode(message, wire);
        let Ok(order) = order else {
            self.counts.malformed += 1;
            return;
        };
        // Anything is as good as a heartbeat (RFC 7)
        let silent_at = now + self.silence(wire);
        if let State::Open(open) = &mut self.state {
            (open.silent_at, open.was_spared) = (silent_at, false);
        }
        if order != WorkerOrder::Disconnect {
            self.waits.on_heard();
            self.on_registered(wire);
        }
        match order {
            WorkerOrder::Disconnect => self.lose(now, Loss::Disconnected),
            WorkerOrder::Heartbeat => {}
            WorkerOrder::Cancel { token } => self.on_cancel(now, &token),
            WorkerOrder::Drain => self.drain(now, EndReason::Drained),
            WorkerOrder::Request { token, options, body } => {
                let deadline = options.deadline.and_then(|time| now.checked_add(time));
                let (attempt, key) = (options.attempt, options.key);
                let takes_parts = wire.has_partial_replies();
                self.on_request(now, token, NewJob { id: JobId(0), body, deadline, attempt, key, takes_parts });
            }
        }
    }

    /// A handler is done; whatever it came to goes to the broker, if that still waits for it
    pub fn handle_done(&mut self, now: Instant, job: JobId, result: Result<Body, Failure>) {
        let Some(job) = self.remove(job) else { return };
        self.running -= 1;
        self.answer(now, &job, result);
        self.start_waiting();
        self.end_if_drained(now);
    }

    /// A part of a reply, as the message that has to be sent before anything else of the same request
    ///
    /// # Errors
    /// [`PartialError`].
    pub fn partial(&mut self, now: Instant, job: JobId, body: Body) -> Result<Outgoing, PartialError> {
        let known = self.jobs.get(job.index()).filter(|known| known.id == job);
        let State::Open(open) = &mut self.state else { return Err(PartialError::Gone) };
        let Some(job) = known.filter(|job| job.conversation == open.id && job.cancelled.is_none()) else {
            return Err(PartialError::Gone);
        };
        let command = WorkerCommand::Partial { token: job.token.clone(), body };
        let message = command.encode(open.wire).map_err(PartialError::NotOnThisWire)?;
        open.beat_at = now + self.config.heartbeat_interval;
        self.counts.partials += 1;
        Ok(Outgoing { conversation: open.id, message })
    }

    /// Takes no more, finishes what it has, and ends
    pub fn stop(&mut self, now: Instant) {
        match &self.state {
            State::Ended => {}
            State::Open(_) => {
                self.say(now, WorkerCommand::Draining);
                self.drain(now, EndReason::Stopped);
            }
            _ => self.end(EndReason::Stopped),
        }
    }

    /// Ends now: what it has is handed back to the broker, and handlers are told
    pub fn abandon(&mut self, now: Instant) {
        if matches!(self.state, State::Ended) {
            return;
        }
        self.say(now, WorkerCommand::Disconnect);
        self.forget_waiting();
        self.cancel_all(CancelCause::Stopped);
        self.end(EndReason::Stopped);
    }

    /// Time has passed
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((deadline, id)) = self.deadlines.first().copied()
            && deadline <= now
        {
            self.deadlines.pop_first();
            self.expire(now, id);
        }
        match &mut self.state {
            State::Waiting { until } if *until <= now => self.open(),
            State::Open(open) => {
                let (interval, is_frozen) = (self.config.heartbeat_interval, is_frozen(open));
                let is_silent = !is_frozen && open.silent_at <= now;
                // Who looks so late was asleep, and what came meanwhile may not have been read yet
                if is_silent && !open.was_spared && now.saturating_duration_since(open.silent_at) > interval {
                    (open.was_spared, open.silent_at) = (true, now + interval);
                } else if is_silent {
                    let silence = self.silence_now();
                    self.say(now, WorkerCommand::Disconnect);
                    return self.lose(now, Loss::Silent(silence));
                }
                if matches!(&self.state, State::Open(open) if open.beat_at <= now) {
                    self.say(now, WorkerCommand::Heartbeat);
                }
            }
            _ => {}
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

    /// What is to be handled next
    pub fn poll_event(&mut self) -> Option<JobEvent> {
        self.events.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called at the latest
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let own = match &self.state {
            State::Waiting { until } => Some(*until),
            State::Open(open) if is_frozen(open) => Some(open.beat_at),
            State::Open(open) => Some(open.beat_at.min(open.silent_at)),
            State::Opening { .. } | State::Ended => None,
        };
        own.into_iter().chain(self.deadlines.first().map(|(deadline, _)| *deadline)).min()
    }

    /// The wire that is spoken, while there is a conversation
    #[must_use]
    pub fn wire(&self) -> Option<Wire> {
        match &self.state {
            State::Open(open) => Some(open.wire),
            _ => None,
        }
    }

    /// Whether the result of a request that a handler has is wanted no longer; `None` if it has ended
    #[must_use]
    pub fn is_cancelled(&self, job: JobId) -> Option<bool> {
        self.jobs.get(job.index()).filter(|known| known.id == job).map(|known| known.cancelled.is_some())
    }

    /// Whether the broker has registered it, as far as its wire tells
    #[must_use]
    pub fn is_registered(&self) -> bool {
        matches!(&self.state, State::Open(open) if open.is_registered)
    }

    /// Whether it is done for good
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// What it has done and has
    #[must_use]
    pub fn counts(&self) -> WorkerCounts {
        WorkerCounts { running: self.running, ..self.counts }
    }

    fn silence(&self, wire: Wire) -> Duration {
        let own = self.config.heartbeat_interval.saturating_mul(self.config.liveness.max(1));
        match (self.config.silence, wire) {
            (Some(silence), _) => silence,
            (None, Wire::Tidings) => own,
            (None, _) => own.max(FOREIGN_SILENCE),
        }
    }

    fn silence_now(&self) -> Duration {
        self.wire().map(|wire| self.silence(wire)).unwrap_or_default()
    }

    /// Sends a command if the wire has a word for it, which is as good as a heartbeat
    fn say(&mut self, now: Instant, command: WorkerCommand) {
        let State::Open(open) = &mut self.state else { return };
        if let Ok(message) = command.encode(open.wire) {
            open.beat_at = now + self.config.heartbeat_interval;
            self.transmits.push_back(Outgoing { conversation: open.id, message });
        }
    }

    /// Brokers of ours answer READY with a heartbeat, or with a request at once
    fn on_registered(&mut self, wire: Wire) {
        if let State::Open(open) = &mut self.state
            && !std::mem::replace(&mut open.is_registered, true)
        {
            self.events.push_back(JobEvent::Ready(wire));
        }
    }

    fn on_request(&mut self, now: Instant, token: Bytes, new: NewJob) {
        self.counts.requests += 1;
        let State::Open(open) = &mut self.state else { return };
        let conversation = open.id;
        open.unanswered += 1;
        let is_excess =
            open.unanswered > self.config.concurrency as usize + SLACK || self.jobs.len() >= MOST_JOBS as usize;
        let entry = self.jobs.vacant_entry();
        let id = JobId(self.next_serial << INDEX_BITS | entry.key() as u64);
        self.next_serial += 1;
        let deadline = new.deadline;
        let job = Job { id, conversation, token: token.clone(), deadline, cancelled: None, waiting: None };
        if is_excess {
            self.counts.excess += 1;
            let failure = Failure::new(Status::UNAVAILABLE, "the worker has as many requests as it takes");
            return self.answer(now, &job, Err(failure));
        }
        entry.insert(Job { waiting: Some(NewJob { id, ..new }), ..job });
        self.tokens.insert(token, id);
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, id));
        }
        self.waiting.push_back(id);
        self.start_waiting();
    }

    fn start_waiting(&mut self) {
        while self.running < self.config.concurrency as usize
            && let Some(id) = self.waiting.pop_front()
        {
            let job = self.jobs.get_mut(id.index()).filter(|job| job.id == id);
            if let Some(new) = job.and_then(|job| job.waiting.take()) {
                self.running += 1;
                self.events.push_back(JobEvent::Start(new));
            }
        }
    }

    fn on_cancel(&mut self, now: Instant, token: &Bytes) {
        if let Some(id) = self.tokens.get(token).copied() {
            self.cancel(now, id, CancelCause::Client, Status::CANCELLED);
        }
    }

    fn expire(&mut self, now: Instant, id: JobId) {
        self.cancel(now, id, CancelCause::Deadline, Status::DEADLINE_PASSED);
    }

    /// Tells the handler, or the broker at once if no handler has it yet
    fn cancel(&mut self, now: Instant, id: JobId, cause: CancelCause, status: Status) {
        let Some(job) = self.jobs.get_mut(id.index()).filter(|job| job.id == id && job.cancelled.is_none()) else {
            return;
        };
        job.cancelled = Some(cause);
        self.counts.cancelled += 1;
        if job.waiting.is_none() {
            self.events.push_back(JobEvent::Cancel { job: id, cause });
        } else if let Some(job) = self.remove(id) {
            self.waiting.retain(|waiting| *waiting != id);
            self.answer(now, &job, Err(Failure::new(status, "before a handler was free")));
            self.end_if_drained(now);
        }
    }

    fn cancel_all(&mut self, cause: CancelCause) {
        for (_, job) in self.jobs.iter_mut().filter(|(_, job)| job.cancelled.is_none()) {
            job.cancelled = Some(cause);
            self.counts.cancelled += 1;
            self.events.push_back(JobEvent::Cancel { job: job.id, cause });
        }
        self.deadlines.clear();
        self.tokens.clear();
    }

    /// Drops what no handler has begun; the broker has it back with the end of the conversation
    fn forget_waiting(&mut self) {
        for id in std::mem::take(&mut self.waiting) {
            self.remove(id);
        }
    }

    fn remove(&mut self, id: JobId) -> Option<Job> {
        self.jobs.get(id.index()).filter(|job| job.id == id)?;
        let job = self.jobs.remove(id.index());
        if self.tokens.get(&job.token) == Some(&id) {
            self.tokens.remove(&job.token);
        }
        if let Some(deadline) = job.deadline {
            self.deadlines.remove(&(deadline, id));
        }
        Some(job)
    }

    /// Says what became of a request that is no longer among the jobs
    fn answer(&mut self, now: Instant, job: &Job, result: Result<Body, Failure>) {
        let State::Open(open) = &mut self.state else {
            self.counts.lost += 1;
            return;
        };
        if open.id != job.conversation {
            self.counts.lost += 1;
            return;
        }
        open.unanswered = open.unanswered.saturating_sub(1);
        // Where nothing was to be heard while it worked, the silence begins now
        let wire = open.wire;
        if open.unanswered == 0 && !wire.is_numbered() {
            let silent_at = now + self.silence(wire);
            if let State::Open(open) = &mut self.state {
                open.silent_at = open.silent_at.max(silent_at);
            }
        }
        let token = job.token.clone();
        let command = match result {
            Ok(body) => {
                self.counts.replies += 1;
                WorkerCommand::Final { token, body }
            }
            Err(failure) => {
                self.counts.failed += 1;
                let text = Bytes::copy_from_slice(failure.text().as_bytes());
                let status = match (job.cancelled, failure.status()) {
                    // The handler knows that it was to stop, and not why
                    (Some(CancelCause::Deadline), Status::CANCELLED) => Status::DEADLINE_PASSED,
                    (_, status) => status,
                };
                match wire.is_numbered() {
                    true => WorkerCommand::Refused { token, status, text },
                    // These wires can't refuse, and a client that hears nothing would wait for nothing
                    false => WorkerCommand::Final { token, body: failure.into_body() },
                }
            }
        };
        self.say(now, command);
    }

    fn drain(&mut self, now: Instant, reason: EndReason) {
        if let State::Open(open) = &mut self.state {
            open.draining.get_or_insert(reason);
        }
        self.end_if_drained(now);
    }

    fn end_if_drained(&mut self, now: Instant) {
        if let State::Open(Open { draining: Some(reason), unanswered: 0, .. }) = self.state {
            self.say(now, WorkerCommand::Disconnect);
            self.end(reason);
        }
    }

    fn end(&mut self, reason: EndReason) {
        self.close_conversation();
        self.state = State::Ended;
        self.events.push_back(JobEvent::Ended(reason));
    }

    fn lose(&mut self, now: Instant, loss: Loss) {
        self.close_conversation();
        self.forget_waiting();
        self.cancel_all(CancelCause::Lost);
        if let State::Open(Open { draining: Some(reason), .. }) = self.state {
            // It was not to come back anyway
            return self.end(reason);
        }
        self.state = State::Waiting { until: self.waits.next(now, &loss) };
        self.events.push_back(JobEvent::Lost(loss));
    }

    fn close_conversation(&mut self) {
        if let State::Opening { id } | State::Open(Open { id, .. }) = self.state {
            self.actions.push_back(Action::Close(id));
        }
    }

    fn open(&mut self) {
        let id = ConversationId(self.next_conversation);
        self.next_conversation += 1;
        self.state = State::Opening { id };
        self.actions.push_back(Action::Open(id));
    }
}

/// Whether the broker's silence means nothing: majortomo's and Domogik's say nothing to a worker that is at work
fn is_frozen(open: &Open) -> bool {
    !open.wire.is_numbered() && open.unanswered > 0
}

/// Places for requests: a million
const INDEX_BITS: u32 = 20;
const INDEX_MASK: u64 = (1 << INDEX_BITS) - 1;
const MOST_JOBS: u32 = INDEX_MASK as u32;
/// Requests beyond the declared number that a broker may be ahead of us by, before it is told
const SLACK: usize = 16;
/// Four intervals of 2.5 s, the Guide's and majortomo's
const FOREIGN_SILENCE: Duration = Duration::from_secs(10);
