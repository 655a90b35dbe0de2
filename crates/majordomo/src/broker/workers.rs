//! Workers: how they come, what they may say, and how they go.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::counters::Counter;
use super::list::{Link, Links, List};
use super::local::LocalWorkerId;
use super::requests::{Asker, Place, Request};
use super::wheel::TimerId;
use super::{Access, Broker, BrokerEvent, Departure, Local, PeerKey, Timer, Transmit, TransmitKind, WorkerAt, token};
use crate::wire::{Body, ReadyOptions, ServiceName, Status, Wire, WorkerCommand, WorkerOrder};

/// A registered worker
pub(super) struct Worker {
    /// Its number, which no other worker gets
    pub(super) number: u64,
    pub(super) link: Linked,
    pub(super) service: u32,
    /// Its place among its service's
    pub(super) of_service: Link,
    pub(super) concurrency: u32,
    /// Requests that it owes an answer
    pub(super) jobs: List,
    /// Its place among those with room, and in which list
    pub(super) room: Link,
    pub(super) bucket: Option<u8>,
    /// Whether it is given nothing more
    pub(super) is_leaving: bool,
    /// Whether its connection didn't take a request, and nothing was heard of it since
    is_stalled: bool,
    pub(super) heard: Instant,
    pub(super) last_sent: Instant,
    /// Until when a classic worker that has a request may be silent
    pub(super) excused_until: Option<Instant>,
    pub(super) interval: Duration,
    timer: Option<TimerId>,
    pub(super) given: u64,
    pub(super) answered: u64,
}

/// How a worker is reached
#[derive(Clone, Copy, Debug)]
pub(super) enum Linked {
    Peer { peer: u32, key: PeerKey, wire: Wire },
    Local(LocalWorkerId),
}

/// What a connection is as a worker
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WorkerSide {
    /// It has said nothing that only workers say
    None,
    /// It is one
    Registered(u32),
    /// It was taken for dead; if it says something it is sent DISCONNECT, so that it begins anew
    Lost,
    /// It said or was sent DISCONNECT: nothing more is sent to it (RFC 7)
    Dismissed,
}

/// What a worker says to a request
enum Answer {
    Partial(Body),
    Final(Body),
    Refused(Status, Bytes),
}

impl Links for Worker {
    fn link(&mut self) -> &mut Link {
        &mut self.of_service
    }
}

impl Worker {
    pub(super) fn has_room(&self) -> bool {
        !self.is_leaving && !self.is_stalled && self.jobs.len() < self.concurrency as usize
    }

    /// Whether a request's options reach it
    pub(super) fn takes_options(&self) -> bool {
        match self.link {
            Linked::Peer { wire, .. } => wire.is_numbered(),
            Linked::Local(_) => true,
        }
    }

    pub(super) fn at(&self) -> WorkerAt {
        match self.link {
            Linked::Peer { key, .. } => WorkerAt::Peer(key),
            Linked::Local(id) => WorkerAt::Local(id),
        }
    }

    pub(super) fn wire(&self) -> Option<Wire> {
        match self.link {
            Linked::Peer { wire, .. } => Some(wire),
            Linked::Local(_) => None,
        }
    }

    /// When it is dead unless it is heard from
    fn silent_at(&self, liveness: u32, awake_since: Instant) -> Instant {
        let since = self.excused_until.map_or(self.heard, |until| self.heard.max(until)).max(awake_since);
        since + self.interval * liveness.max(1)
    }
}

impl Broker {
    pub(super) fn handle_worker_command(&mut self, now: Instant, peer: u32, wire: Wire, command: WorkerCommand) {
        let Some(side) = self.peers.get(peer as usize).map(|peer| peer.worker) else { return };
        let worker = match (side, &command) {
            (WorkerSide::Registered(worker), WorkerCommand::Ready { .. }) => {
                self.counters.count(Counter::ReadyTwice);
                return self.dismiss(now, worker, Departure::ReadyTwice);
            }
            (WorkerSide::Registered(worker), _) => worker,
            (WorkerSide::Dismissed, _) => return self.counters.count(Counter::AfterDisconnect),
            (WorkerSide::None, WorkerCommand::Ready { service, options }) => {
                return self.handle_ready(now, peer, wire, service, *options);
            }
            // Allowed at any time (RFC 7, "DISCONNECT")
            (WorkerSide::None | WorkerSide::Lost, WorkerCommand::Disconnect) => {
                return self.set_side(peer, WorkerSide::Dismissed);
            }
            (WorkerSide::None | WorkerSide::Lost, _) => return self.handle_stranger(now, peer, wire),
        };
        if self.workers.get(worker as usize).is_some_and(|worker| worker.wire() != Some(wire)) {
            self.counters.count_malformed(crate::wire::Malformed::UnexpectedCommand);
            return self.dismiss(now, worker, Departure::Malformed);
        }
        // A worker that takes no more is given no more, not even because it was heard from
        if matches!(command, WorkerCommand::Disconnect | WorkerCommand::Draining) {
            self.set_leaving(worker);
        }
        self.hear(now, worker);
        match command {
            WorkerCommand::Heartbeat | WorkerCommand::Draining | WorkerCommand::Ready { .. } => {}
            WorkerCommand::Partial { token, body } => self.handle_answer(now, worker, &token, Answer::Partial(body)),
            WorkerCommand::Final { token, body } => self.handle_answer(now, worker, &token, Answer::Final(body)),
            WorkerCommand::Refused { token, status, text } => {
                self.handle_answer(now, worker, &token, Answer::Refused(status, text));
            }
            WorkerCommand::Disconnect => {
                self.set_side(peer, WorkerSide::Dismissed);
                self.remove_worker(now, worker, Departure::Disconnected);
            }
        }
    }

    /// RFC 7, "READY": once, and first
    fn handle_ready(&mut self, now: Instant, peer: u32, wire: Wire, name: &ServiceName, options: ReadyOptions) {
        let found = self.services.find(name).map(|(index, service)| (index, service.serial));
        let draining = |service: u32| self.services.get(service).is_some_and(|service| service.is_draining);
        let turned_away = if self.is_reserved(name) {
            Some(Counter::ReadyReserved)
        } else if self.is_stopping || found.is_some_and(|(service, _)| draining(service)) {
            Some(Counter::ReadyDraining)
        } else if self.workers.len() >= self.config.max_workers {
            Some(Counter::ReadyNoRoom)
        } else if self.permit.is_some() && !self.may(peer, Access::Work, name, found.map(|(_, serial)| serial)) {
            Some(Counter::ReadyNotPermitted)
        } else {
            None
        };
        let service = match (turned_away, found) {
            (Some(why), _) => Err(why),
            (None, Some((service, _))) => Ok(service),
            (None, None) => self.make_for_worker(now, name).ok_or(Counter::ReadyNoRoom),
        };
        let Some(key) = self.peer_key(peer) else { return };
        match service {
            Ok(service) => {
                let worker = self.register(now, Linked::Peer { peer, key, wire }, service, options);
                self.set_side(peer, WorkerSide::Registered(worker));
                if wire.is_numbered() {
                    // READY has no answer in any specification; workers of ours know by this that they are registered
                    self.send_order(worker, WorkerOrder::Heartbeat);
                }
                self.dispatch(now, service);
            }
            Err(why) => {
                self.counters.count(why);
                self.tell(|| BrokerEvent::WorkerTurnedAway { peer: key, service: name.clone(), why });
                self.say_disconnect(peer, wire);
            }
        }
    }

    pub(super) fn register(&mut self, now: Instant, link: Linked, service: u32, options: ReadyOptions) -> u32 {
        let number = self.next_worker;
        self.next_worker += 1;
        let interval = options.heartbeat.unwrap_or(self.config.heartbeat_interval);
        let worker = Worker {
            number,
            link,
            service,
            of_service: Link::default(),
            concurrency: options.concurrency.clamp(1, self.config.max_concurrency.max(1)),
            jobs: List::default(),
            room: Link::default(),
            bucket: None,
            is_leaving: false,
            is_stalled: false,
            heard: now,
            last_sent: now,
            excused_until: None,
            interval: interval.clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL),
            timer: None,
            given: 0,
            answered: 0,
        };
        let (at, wire, concurrency) = (worker.at(), worker.wire(), worker.concurrency);
        let interval = worker.interval;
        let index = self.workers.insert(worker) as u32;
        let mut name = None;
        if let Some(service) = self.services.get_mut(service) {
            let is_first = service.workers.is_empty();
            service.workers.push_back(&mut self.workers, index);
            // One in the same process may still come while others leave
            service.is_told_to_drain = false;
            name = Some((service.name.clone(), is_first));
            if let Some(timer) = service.absence_timer.take() {
                self.timers.remove(timer);
            }
        }
        self.services.occupy(service);
        self.note_served(service);
        self.counters.count(Counter::WorkerReady);
        if let Some((service, is_first)) = name {
            if self.tells_workers {
                self.locals.push_back(Local::Ready { service: service.clone() });
            }
            if is_first {
                let service = service.clone();
                self.tell(|| BrokerEvent::ServiceUp { service });
            }
            self.tell(|| BrokerEvent::WorkerReady { worker: at, service, concurrency, wire });
        }
        if wire.is_some() {
            let timer = self.timers.insert(now + interval, Timer::Worker(index));
            if let Some(worker) = self.workers.get_mut(index as usize) {
                worker.timer = Some(timer);
            }
        }
        self.refresh(index);
        index
    }

    /// Any command but DISCONNECT says that the worker lives (RFC 7, "HEARTBEAT")
    fn hear(&mut self, now: Instant, worker: u32) {
        let Some(heard) = self.workers.get_mut(worker as usize) else { return };
        heard.heard = now;
        if std::mem::take(&mut heard.is_stalled) {
            let service = heard.service;
            self.refresh(worker);
            self.dispatch(now, service);
        }
    }

    fn handle_answer(&mut self, now: Instant, worker: u32, token: &[u8], answer: Answer) {
        match token::from_frame(token).and_then(|token| self.find_job(worker, token)) {
            Some(index) => self.answer_job(now, worker, index, answer),
            // Not its own, or answered before: "valid but unexpected" (RFC 7)
            None => {
                self.counters.count(Counter::ReplyUnknown);
                self.dismiss(now, worker, Departure::ReplyUnknown);
            }
        }
    }

    /// The request that a token of that worker names
    fn find_job(&self, worker: u32, token: u64) -> Option<u32> {
        let (secret, index) = token::read(token);
        let request = self.requests.get(index as usize)?;
        (request.secret == secret && request.place == Place::Worker(worker)).then_some(index)
    }

    fn answer_job(&mut self, now: Instant, worker: u32, index: u32, answer: Answer) {
        let Some(request) = self.requests.get(index as usize) else { return };
        let (service, key) = (request.service, request.key);
        match answer {
            Answer::Partial(body) => {
                if let Some(key) = key {
                    self.share_part(key, &body);
                }
                return self.answer_partly(index, body);
            }
            Answer::Final(body) => {
                if let Some(key) = key {
                    self.share_reply(now, key, &body);
                    if let Some(request) = self.requests.get_mut(index as usize) {
                        request.key = None;
                    }
                }
                self.answer(now, index, body);
            }
            Answer::Refused(status, text) => match request.asker {
                Asker::Nobody(late) if key.is_none() => self.count_late(service, late),
                _ => {
                    let until = request.given_until;
                    self.take_out(worker, index);
                    match until {
                        Some(until) if gives_up(now, until, status) => self.handle_given_up(now, index),
                        _ => self.refuse(now, index, status, text, Counter::WorkerRefused),
                    }
                    if let Some(worker) = self.workers.get_mut(worker as usize) {
                        worker.answered += 1;
                    }
                    return self.after_job(now, worker, service);
                }
            },
        }
        if let Some(worker) = self.workers.get_mut(worker as usize) {
            worker.answered += 1;
        }
        self.discard(index);
        self.after_job(now, worker, service);
    }

    /// A worker's time for a request was over: so is that of those who gave it, but others may have joined who have more
    fn handle_given_up(&mut self, now: Instant, index: u32) {
        let Some(request) = self.requests.get(index as usize) else { return };
        let (key, number) = (request.key, request.number);
        let until = now + AHEAD;
        let is_over = |request: &Request| request.deadline.is_some_and(|deadline| deadline <= until);
        let (mut next, mut over) = (key.and_then(|key| self.keys.first_joiner(key)), Vec::new());
        while let Some(joiner) = next.and_then(|joiner| self.requests.get(joiner as usize)) {
            over.extend(next.filter(|_| is_over(joiner)));
            next = joiner.link.next();
        }
        if is_over(request) {
            over.push(index);
        }
        over.into_iter().for_each(|index| self.end_for_client(now, index, Counter::Expired));
        let Some(request) = self.requests.get(index as usize).filter(|request| request.number == number) else {
            return;
        };
        let is_shared = key.is_some_and(|key| self.keys.has_joiners(key));
        if !request.is_wanted() && !is_shared {
            return self.discard(index);
        }
        self.try_again(now, index);
    }

    /// A worker has one request less
    fn after_job(&mut self, now: Instant, worker: u32, service: u32) {
        self.refresh(worker);
        self.dispatch(now, service);
        self.dismiss_if_drained(now, worker);
    }

    /// Takes a request away from its worker, whose place is free then
    pub(super) fn release(&mut self, worker: u32, index: u32) {
        if let Some(worker) = self.workers.get_mut(worker as usize) {
            worker.jobs.remove(&mut self.requests, index);
            if worker.jobs.is_empty() {
                worker.excused_until = None;
            }
        }
    }

    /// As `release`, and the request is nowhere
    fn take_out(&mut self, worker: u32, index: u32) {
        self.release(worker, index);
        if let Some(request) = self.requests.get_mut(index as usize) {
            request.place = Place::Nowhere;
        }
    }

    /// A worker is one no longer: what it had goes back to the front of the queue, in order, or is refused
    pub(super) fn remove_worker(&mut self, now: Instant, index: u32, why: Departure) {
        let Some(worker) = self.workers.get_mut(index as usize) else { return };
        let (service, timer, at, link) = (worker.service, worker.timer.take(), worker.at(), worker.link);
        worker.is_leaving = true;
        let unanswered = worker.jobs.len();
        if let Some(timer) = timer {
            self.timers.remove(timer);
        }
        self.refresh(index);
        match link {
            Linked::Peer { peer, .. } => {
                if let Some(peer) = self.peers.get_mut(peer as usize)
                    && peer.worker == WorkerSide::Registered(index)
                {
                    peer.worker = if why.is_said() { WorkerSide::Dismissed } else { WorkerSide::Lost };
                }
                if why.is_said() {
                    self.send_order(index, WorkerOrder::Disconnect);
                }
            }
            Linked::Local(id) => {
                self.local_workers.remove(&id);
            }
        }
        let name = self.services.get(service).map(|service| service.name.clone());
        self.counters.count(why.counter());
        if let Some(service) = name.clone() {
            self.tell(|| BrokerEvent::WorkerLeft { worker: at, service, why, unanswered });
        }
        while let Some(job) = self.workers.get(index as usize).and_then(|worker| worker.jobs.back()) {
            self.take_out(index, job);
            self.reconsider(now, job);
        }
        if let Some(found) = self.services.get_mut(service) {
            found.workers.remove(&mut self.workers, index);
            if found.workers.is_empty() {
                self.on_last_worker_gone(now, service);
            }
        }
        self.workers.remove(index as usize);
        self.dispatch(now, service);
        self.tidy_service(service);
    }

    fn on_last_worker_gone(&mut self, now: Instant, index: u32) {
        let Some(service) = self.services.get_mut(index) else { return };
        service.absent_since = now;
        service.is_told_to_drain = false;
        let (name, waiting) = (service.name.clone(), service.queue.len());
        if waiting > 0 && service.absence_timer.is_none() {
            service.absence_timer = Some(self.timers.insert(now + self.config.absence, Timer::Absence(index)));
        }
        let was_draining = std::mem::take(&mut service.is_draining);
        let down = name.clone();
        self.tell(|| BrokerEvent::ServiceDown { service: down, waiting });
        if was_draining {
            self.tell(|| BrokerEvent::ServiceDrained { service: name });
        }
        if self.is_stopping {
            self.refuse_queue(now, index, super::STOPS, Counter::Draining);
        }
    }

    /// What becomes of a request whose worker is gone: another try if that is allowed
    fn reconsider(&mut self, now: Instant, index: u32) {
        let Some(request) = self.requests.get(index as usize) else { return };
        let is_shared = request.key.is_some_and(|key| self.keys.has_joiners(key));
        if !request.is_wanted() && !is_shared {
            return self.discard(index);
        }
        self.try_again(now, index);
    }

    /// Gives a request that somebody waits for to another worker, if it may be
    fn try_again(&mut self, now: Instant, index: u32) {
        let Some(request) = self.requests.get(index as usize) else { return };
        let gone = Bytes::from_static(Status::WORKER_GONE.words().as_bytes());
        if !request.is_repeatable || request.has_partial {
            return self.refuse(now, index, Status::WORKER_GONE, gone, Counter::NotRepeated);
        }
        if request.attempts >= self.config.max_attempts {
            return self.refuse(now, index, Status::WORKER_GONE, gone, Counter::OutOfAttempts);
        }
        self.counters.count(Counter::Retried);
        let attempts = request.attempts;
        let name = self.requeue(now, index);
        if let Some(service) = name {
            self.tell(|| BrokerEvent::RequestRetried { service, attempts });
        }
    }

    /// Puts a request back to the front of its queue, behind those that came before it
    fn requeue(&mut self, now: Instant, index: u32) -> Option<ServiceName> {
        let request = self.requests.get_mut(index as usize)?;
        request.place = Place::Queue;
        let (octets, key, service, number) = (request.octets, request.key, request.service, request.number);
        let needs_timer = request.is_wanted() && request.timer.is_none();
        let service = self.services.get_mut(service)?;
        // What a worker leaves comes back the newest first; only where several leave at once there is more than a step
        let mut next = service.queue.front();
        for _ in 0..MOST_STEPS {
            let Some(at) = next.and_then(|at| self.requests.get(at as usize)) else { break };
            if at.number > number {
                break;
            }
            next = at.link.next();
        }
        service.queue.insert_before(&mut self.requests, index, next);
        service.waiting_octets += octets;
        service.counts.retried += 1;
        let name = service.name.clone();
        let age = now + self.config.request_age;
        if needs_timer {
            self.set_request_timer(index, Some(age));
        }
        if let Some(key) = key {
            self.limit_joiners(key, age);
        }
        Some(name)
    }

    /// Somebody more waits for what a worker does: a classic one may be silent until then, too
    pub(super) fn excuse(&mut self, worker: u32, until: Instant) {
        if let Some(worker) = self.workers.get_mut(worker as usize)
            && let Some(excused_until) = &mut worker.excused_until
        {
            *excused_until = until.max(*excused_until);
        }
    }

    /// A worker's connection is full: the request goes to another, and this one gets nothing until it is heard from
    pub(super) fn handle_request_unsent(&mut self, now: Instant, peer: PeerKey, token: u64) {
        let side = self.peer_by_key.get(&peer).and_then(|peer| self.peers.get(*peer as usize)).map(|peer| peer.worker);
        let Some(WorkerSide::Registered(worker)) = side else { return };
        let Some(index) = self.find_job(worker, token) else { return };
        self.take_out(worker, index);
        if let Some(worker) = self.workers.get_mut(worker as usize) {
            worker.is_stalled = true;
        }
        self.refresh(worker);
        let Some(request) = self.requests.get_mut(index as usize) else { return };
        let service = request.service;
        // It never got there
        request.attempts = request.attempts.saturating_sub(1);
        let is_shared = request.key.is_some_and(|key| self.keys.has_joiners(key));
        match request.body {
            _ if !request.is_wanted() && !is_shared => self.discard(index),
            super::requests::Held::Spent => {
                let words = Bytes::from_static(Status::UNAVAILABLE.words().as_bytes());
                self.refuse(now, index, Status::UNAVAILABLE, words, Counter::NotRepeated);
            }
            _ => {
                self.requeue(now, index);
            }
        }
        self.dispatch(now, service);
    }

    pub(super) fn on_worker_timer(&mut self, now: Instant, index: u32) {
        let Some(worker) = self.workers.get_mut(index as usize) else { return };
        worker.timer = None;
        let silent_at = worker.silent_at(self.config.liveness, self.awake_since);
        if now >= silent_at {
            return self.remove_worker(now, index, Departure::Silent);
        }
        // "Not while other traffic flows" (RFC 7)
        let is_due = now >= worker.last_sent + worker.interval;
        if is_due {
            worker.last_sent = now;
        }
        let next = silent_at.min(worker.last_sent + worker.interval);
        let timer = self.timers.insert(next, Timer::Worker(index));
        worker.timer = Some(timer);
        if is_due {
            self.send_order(index, WorkerOrder::Heartbeat);
        }
    }

    pub(super) fn on_absence_timer(&mut self, now: Instant, index: u32) {
        let Some(service) = self.services.get_mut(index) else { return };
        service.absence_timer = None;
        if !service.workers.is_empty() {
            return;
        }
        let mut next = service.queue.front();
        let mut hopeless = Vec::new();
        while let Some(request) = next.and_then(|index| self.requests.get(index as usize)) {
            if request.asker.can_be_refused() {
                hopeless.extend(next);
            }
            next = request.link.next();
        }
        hopeless.into_iter().for_each(|request| self.refuse_for_want_of_workers(now, request));
    }

    /// Tells a client that no worker is there for its request, or that the one it was given to has not come back
    pub(super) fn refuse_for_want_of_workers(&mut self, now: Instant, request: u32) {
        let was_tried = self.requests.get(request as usize).is_some_and(|request| request.attempts > 0);
        let (status, why) = match was_tried {
            true => (Status::WORKER_GONE, Counter::NoWorkerLeft),
            false => (Status::NO_SUCH_SERVICE, Counter::NoSuchService),
        };
        self.refuse(now, request, status, Bytes::from_static(status.words().as_bytes()), why);
    }

    /// All workers of a service that runs dry and has nothing waiting, once
    pub(super) fn drain_workers(&mut self, now: Instant, service: u32) {
        let Some(found) = self.services.get_mut(service) else { return };
        // Each that goes brings us back here
        if std::mem::replace(&mut found.is_told_to_drain, true) {
            return;
        }
        let mut next = found.workers.front();
        let mut told = Vec::new();
        while let Some(worker) = next.and_then(|index| self.workers.get(index as usize)) {
            if !worker.is_leaving {
                told.extend(next);
            }
            next = worker.of_service.next();
        }
        // None of them is given anything while others go
        told.iter().for_each(|worker| self.set_leaving(*worker));
        for worker in told {
            self.send_order(worker, WorkerOrder::Drain);
            self.dismiss_if_drained(now, worker);
        }
    }

    fn set_leaving(&mut self, worker: u32) {
        if let Some(leaving) = self.workers.get_mut(worker as usize) {
            leaving.is_leaving = true;
        }
        self.refresh(worker);
    }

    /// A classic worker has no word for an end in good order, so it is disconnected once it is idle
    fn dismiss_if_drained(&mut self, now: Instant, index: u32) {
        let Some(worker) = self.workers.get(index as usize) else { return };
        if worker.is_leaving && worker.jobs.is_empty() && worker.wire().is_some_and(|wire| !wire.is_numbered()) {
            self.dismiss(now, index, Departure::Drained);
        }
    }

    fn handle_stranger(&mut self, now: Instant, peer: u32, wire: Wire) {
        self.counters.count(Counter::Stranger);
        if let Some(peer) = self.peer_key(peer) {
            self.tell(|| BrokerEvent::Stranger { peer });
        }
        self.dismiss_peer(now, peer, wire, Departure::Malformed);
    }

    /// Sends DISCONNECT to whoever speaks like a worker, once
    pub(super) fn dismiss_peer(&mut self, now: Instant, peer: u32, wire: Wire, why: Departure) {
        match self.peers.get(peer as usize).map(|peer| peer.worker) {
            Some(WorkerSide::Registered(worker)) => self.dismiss(now, worker, why),
            Some(WorkerSide::None | WorkerSide::Lost) => self.say_disconnect(peer, wire),
            Some(WorkerSide::Dismissed) => self.counters.count(Counter::AfterDisconnect),
            None => {}
        }
    }

    fn dismiss(&mut self, now: Instant, worker: u32, why: Departure) {
        self.remove_worker(now, worker, why);
    }

    fn say_disconnect(&mut self, peer: u32, wire: Wire) {
        self.set_side(peer, WorkerSide::Dismissed);
        let Some(to) = self.peer_key(peer) else { return };
        if let Ok(message) = WorkerOrder::Disconnect.encode(wire) {
            self.transmits.push_back(Transmit { to, message, kind: TransmitKind::Order });
        }
    }

    fn set_side(&mut self, peer: u32, side: WorkerSide) {
        if let Some(peer) = self.peers.get_mut(peer as usize) {
            peer.worker = side;
        }
    }

    pub(super) fn local_worker(&self, worker: u32) -> Option<LocalWorkerId> {
        match self.workers.get(worker as usize)?.link {
            Linked::Local(id) => Some(id),
            Linked::Peer { .. } => None,
        }
    }

    pub(super) fn answer_local(&mut self, now: Instant, worker: u32, token: u64, reply: super::LocalReply) -> bool {
        let Some(index) = self.find_job(worker, token) else {
            self.counters.count(Counter::ReplyUnknown);
            return false;
        };
        let answer = match reply {
            super::LocalReply::Partial(body) => Answer::Partial(body),
            super::LocalReply::Final(body) => Answer::Final(body),
            super::LocalReply::Refused { status, text } => Answer::Refused(status, text),
        };
        self.answer_job(now, worker, index, answer);
        true
    }
}

/// Whether a refusal only says that there was no more time
fn gives_up(now: Instant, until: Instant, status: Status) -> bool {
    now >= until || now + AHEAD >= until && [Status::CANCELLED, Status::DEADLINE_PASSED].contains(&status)
}

/// So much a worker's clock may be ahead of ours at a deadline
const AHEAD: Duration = Duration::from_millis(20);
/// Requests that are looked at to find the place of one that comes back
const MOST_STEPS: usize = 256;
/// A worker can't make the broker busier than that
const SHORTEST_INTERVAL: Duration = Duration::from_millis(20);
const LONGEST_INTERVAL: Duration = Duration::from_secs(60 * 60);
