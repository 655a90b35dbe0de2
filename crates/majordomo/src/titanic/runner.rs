//! Executing what is stored: which service's turn it is, how much of it, and what comes of an attempt.
//!
//! A service has a runner while its queue has something. Nothing is taken from the queue without a worker to give it to:
//! what is taken is at most what the workers take at once, so that stored requests crowd out nobody.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tidings_store::{Leased, Retry, Settled, StoreError, StoreStats, Ticket, Timestamp, Uuid};

use super::{Happened, Titanic};
use crate::broker::{Broker, LocalRequestId, Refuser};
use crate::wire::{Body, RequestOptions, ServiceName, Status};

/// What is done for one service
#[derive(Debug, Default)]
pub(super) struct Runner {
    /// Requests at its workers
    in_flight: u32,
    /// Whether the store was asked for more
    is_leasing: bool,
    due: Due,
    /// Whether it is among those to be looked at
    is_dirty: bool,
    pub(super) timer: Option<Instant>,
}

/// When its queue has something to hand out
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Due {
    #[default]
    Nothing,
    Now,
    At(Instant),
}

/// A stored request at a worker
#[derive(Debug)]
pub(super) struct Running {
    service: ServiceName,
    id: Uuid,
    ticket: Ticket,
    started: Instant,
    /// Frames of partial replies
    parts: Vec<Bytes>,
    octets: usize,
}

/// A result that is to be kept
#[derive(Clone, Debug)]
pub(super) struct Finished {
    service: ServiceName,
    id: Uuid,
    ticket: Ticket,
    frames: Vec<Bytes>,
    octets: usize,
}

impl Titanic {
    /// Something of this service may be handed out
    pub(super) fn on_due(&mut self, service: &ServiceName) {
        if self.is_stopping {
            return;
        }
        match self.runners.get_mut(service) {
            Some(runner) => runner.due = Due::Now,
            None => {
                let runner = Runner { due: Due::Now, ..Runner::default() };
                self.runners.insert(service.detached(), runner);
            }
        }
        self.touch(service);
    }

    /// Has a service looked at by [`pump`](Self::pump)
    pub(super) fn touch(&mut self, service: &ServiceName) {
        if let Some(runner) = self.runners.get_mut(service)
            && !runner.is_dirty
        {
            runner.is_dirty = true;
            self.dirty.push_back(service.detached());
        }
    }

    /// Looks at each service where something has changed
    pub(super) fn pump(&mut self, broker: &Broker, now: Instant) {
        while let Some(service) = self.dirty.pop_front() {
            self.look(broker, now, service);
        }
    }

    fn look(&mut self, broker: &Broker, now: Instant, service: ServiceName) {
        let Some(runner) = self.runners.get_mut(&service) else { return };
        runner.is_dirty = false;
        if let Some(timer) = runner.timer.take() {
            self.timers.remove(&(timer, service.clone()));
        }
        if runner.is_leasing || self.is_stopping {
            return;
        }
        match runner.due {
            Due::Nothing => {
                if runner.in_flight == 0 {
                    self.runners.remove(&service);
                    self.blocked.remove(&service);
                }
                return;
            }
            Due::At(moment) if moment > now => {
                runner.timer = Some(moment);
                self.timers.insert((moment, service));
                return;
            }
            Due::At(_) | Due::Now => {}
        }
        let places = broker.places(&service).min(self.config.concurrency);
        if places == 0 {
            self.blocked.insert(service);
            // Events may be dropped, so that they can't be all there is
            self.look_at_blocked.get_or_insert(now + LOOK_AT_BLOCKED);
            return;
        }
        let room = places.saturating_sub(runner.in_flight);
        if self.unkept_octets >= MAX_UNKEPT {
            // More work would only make more results that can't be kept
            self.blocked.insert(service);
            self.look_at_blocked.get_or_insert(now + LOOK_AT_BLOCKED);
            return;
        }
        if room == 0 {
            // The next that ends brings us here
            return;
        }
        let Ok(queue) = self.store.queue(service.bytes().clone()) else { return };
        runner.is_leasing = true;
        runner.due = Due::Nothing;
        self.leasing += 1;
        let lease = queue.lease(room as usize, self.config.lease);
        self.ask(lease, move |leased| Happened::Leased(service, leased));
    }

    pub(super) fn on_leased(
        &mut self,
        broker: &mut Broker,
        now: Instant,
        service: &ServiceName,
        result: Result<Leased, StoreError>,
    ) {
        let due = match &result {
            Ok(leased) => leased.next_due.map(|due| self.moment(now, due)),
            // A store that can't be read now may be later
            Err(_unreadable) => {
                self.stats.store_errors += 1;
                Some(now + AFTER_ERROR)
            }
        };
        self.leasing -= 1;
        let closed = match self.leasing {
            0 => std::mem::take(&mut self.closed),
            _ => self.closed.clone(),
        };
        let Some(runner) = self.runners.get_mut(service) else { return };
        runner.is_leasing = false;
        // What was stored meanwhile is due at once
        if runner.due != Due::Now
            && let Some(due) = due
        {
            runner.due = if due <= now { Due::Now } else { Due::At(due) };
        }
        let mut entries = result.map(|leased| leased.entries).unwrap_or_default();
        entries.retain(|entry| {
            let running = self.running_by_id.get(&entry.id).and_then(|request| self.running.get_mut(request));
            // Its lease ended, as the store could not extend it; it is under way all the same, or done
            let held = running.map(|running| &mut running.ticket);
            let held = held.or_else(|| self.unkept.get_mut(&entry.id).map(|finished| &mut finished.ticket));
            match held {
                Some(ticket) => *ticket = entry.ticket,
                None => return !closed.contains(&entry.id),
            }
            false
        });
        runner.in_flight += entries.len() as u32;
        self.stats.attempts += entries.len() as u64;
        for entry in entries {
            // The broker need not repeat it after a worker's death: that is done here, with a wait between
            let options = RequestOptions {
                deadline: Some(self.config.time_limit.unwrap_or(LONGEST_ATTEMPT)),
                repeatable: false,
                attempt: entry.attempt(),
                ..RequestOptions::default()
            };
            let request = broker.local_request(now, service, options, Body::from_vec(entry.body));
            let (id, ticket) = (entry.id, entry.ticket);
            let service = service.clone();
            self.running_by_id.insert(id, request);
            let running = Running { service, id, ticket, started: now, parts: Vec::new(), octets: 0 };
            self.running.insert(request, running);
        }
        if !self.running.is_empty() {
            self.next_extension.get_or_insert(now + self.config.lease / 3);
        }
        self.touch(service);
    }

    pub(super) fn handle_partial(&mut self, request: LocalRequestId, body: Body) {
        if let Some(running) = self.running.get_mut(&request) {
            running.octets += body.iter().map(|frame| frame.len() + 4).sum::<usize>();
            // What is too large to be kept need not be gathered; its size is told below
            if running.octets <= MAX_GATHERED {
                running.parts.extend(body);
            }
        }
    }

    pub(super) fn handle_final(&mut self, request: LocalRequestId, body: Body) {
        let Some(running) = self.end(request) else { return };
        let Running { service, id, ticket, .. } = running;
        if running.octets > MAX_GATHERED {
            let note = format!("the parts of its reply have {} octets, more than {MAX_GATHERED}", running.octets);
            return self.give_back(service, ticket, Retry::Never, note);
        }
        let frames: Vec<Bytes> = running.parts.into_iter().chain(body).collect();
        let octets = frames.iter().map(|frame| frame.len() + 4).sum();
        self.keep(Finished { service, id, ticket, frames, octets });
    }

    fn keep(&mut self, finished: Finished) {
        let Ok(queue) = self.store.queue(finished.service.bytes().clone()) else { return };
        let complete = queue.complete(finished.ticket, &finished.frames);
        self.ask(complete, move |settled| Happened::Completed(finished, settled));
    }

    pub(super) fn on_completed(&mut self, now: Instant, finished: Finished, result: Result<Settled, StoreError>) {
        let error = match result {
            Ok(settled) => {
                match settled {
                    Settled::Done => self.stats.completed += 1,
                    Settled::Late => self.stats.late += 1,
                }
                return self.drop_unkept(finished.id);
            }
            Err(error) => error,
        };
        self.stats.store_errors += 1;
        let Finished { service, id, ticket, .. } = &finished;
        let note = || format!("its result was not kept: {error}");
        match error {
            StoreError::TooLarge { .. } => {
                let (service, ticket, note) = (service.clone(), *ticket, note());
                self.drop_unkept(*id);
                self.give_back(service, ticket, Retry::Never, note);
            }
            // Nobody is there to keep it, and the next who is does the work again
            StoreError::Closed => self.drop_unkept(*id),
            _ if self.unkept.contains_key(id) => {
                self.look_at_unkept.get_or_insert(now + AFTER_ERROR);
            }
            _ if self.unkept_octets + finished.octets > MOST_UNKEPT => {
                tracing::warn!(%service, entry = ticket.seq, %error, "the result of a durable request is lost: it is done again");
                let (service, ticket, note) = (service.clone(), *ticket, note());
                self.give_back(service, ticket, Retry::Backoff, note);
            }
            // What was done is not to be done again: the result waits for the store
            _ => {
                tracing::warn!(%service, entry = ticket.seq, %error, "the result of a durable request is not kept yet: trying again");
                self.unkept_octets += finished.octets;
                self.unkept.insert(*id, finished);
                self.look_at_unkept.get_or_insert(now + AFTER_ERROR);
                self.next_extension.get_or_insert(now + self.config.lease / 3);
            }
        }
    }

    /// Hands the store again what it could not keep
    pub(super) fn keep_again(&mut self) {
        self.look_at_unkept = None;
        let finished: Vec<Finished> = self.unkept.values().cloned().collect();
        for finished in finished {
            self.keep(finished);
        }
    }

    /// A result is kept, or nobody's
    pub(super) fn drop_unkept(&mut self, id: Uuid) {
        if let Some(finished) = self.unkept.remove(&id) {
            self.unkept_octets -= finished.octets;
        }
    }

    pub(super) fn handle_refused(&mut self, request: LocalRequestId, by: Refuser, status: Status, text: &[u8]) {
        let Some(running) = self.end(request) else { return };
        let retry = match (by, status) {
            // Nobody had a look at it: there was no worker, no room or no time
            (Refuser::Broker { was_running: false }, Status::DEADLINE_PASSED)
            | (
                Refuser::Broker { .. },
                Status::NO_SUCH_SERVICE | Status::TOO_MANY | Status::CANCELLED | Status::UNAVAILABLE,
            ) => Retry::Release(NOT_NOW),
            (Refuser::Worker, Status::TOO_MANY) => Retry::Backoff,
            (_, status) if status.code() >= 500 => Retry::Backoff,
            _ => Retry::Never,
        };
        let text = String::from_utf8_lossy(text);
        let note = if text.is_empty() { status.to_string() } else { format!("{status}: {text}") };
        self.give_back(running.service, running.ticket, retry, note);
    }

    fn give_back(&mut self, service: ServiceName, ticket: Ticket, retry: Retry, note: String) {
        let Ok(queue) = self.store.queue(service.bytes().clone()) else { return };
        let given_up = retry == Retry::Never;
        if given_up {
            tracing::info!(%service, entry = ticket.seq, note, "a durable request is a dead letter");
        }
        let returned = queue.nak(ticket, retry, note);
        self.ask(returned, move |settled| Happened::Returned(service, given_up, settled));
    }

    pub(super) fn on_returned(&mut self, service: &ServiceName, given_up: bool, result: Result<Settled, StoreError>) {
        match result {
            Ok(Settled::Done) if given_up => self.stats.given_up += 1,
            Ok(Settled::Done) => {
                self.stats.retried += 1;
                // The store knows when; asking it costs one look
                self.on_due(service);
            }
            Ok(Settled::Late) => self.stats.late += 1,
            // Its lease will end
            Err(_unwritten) => self.stats.store_errors += 1,
        }
    }

    /// A request is no longer under way
    pub(super) fn end(&mut self, request: LocalRequestId) -> Option<Running> {
        let running = self.running.remove(&request)?;
        if self.running_by_id.get(&running.id) == Some(&request) {
            self.running_by_id.remove(&running.id);
        }
        if let Some(runner) = self.runners.get_mut(&running.service) {
            runner.in_flight = runner.in_flight.saturating_sub(1);
        }
        self.touch(&running.service);
        Some(running)
    }

    /// Keeps what is under way, and takes back what has taken too long
    pub(super) fn extend(&mut self, broker: &mut Broker, now: Instant) {
        let is_any = !self.running.is_empty() || !self.unkept.is_empty();
        self.next_extension = is_any.then(|| now + self.config.lease / 3);
        let limit = self.config.time_limit;
        let over =
            |running: &Running| limit.is_some_and(|limit| now.saturating_duration_since(running.started) >= limit);
        let overdue: Vec<_> = self.running.iter().filter(|(_, running)| over(running)).map(|(id, _)| *id).collect();
        for request in overdue {
            broker.cancel_local_request(now, request);
            if let Some(running) = self.end(request) {
                let note = format!("it took longer than {} s", limit.unwrap_or_default().as_secs());
                self.give_back(running.service, running.ticket, Retry::Backoff, note);
            }
        }
        let running = self.running.values().map(|running| (running.service.clone(), running.ticket));
        let unkept = self.unkept.values().map(|finished| (finished.service.clone(), finished.ticket));
        let held: Vec<_> = running.chain(unkept).collect();
        for (service, ticket) in held {
            if let Ok(queue) = self.store.queue(service.into_bytes()) {
                self.ask(queue.extend(ticket, self.config.lease), Happened::Extended);
            }
        }
    }

    /// A late one needs nothing: what came of the request is told when it ends
    pub(super) fn on_extended(&mut self, result: &Result<Settled, StoreError>) {
        if let Err(error) = result {
            // It is tried again before the lease ends
            self.stats.store_errors += 1;
            tracing::warn!(%error, "the lease of a durable request was not extended");
        }
    }

    /// Another process may have put something back, or it is the start
    pub(super) fn on_surveyed(&mut self, stats: &StoreStats) {
        for queue in &stats.queues {
            if queue.next_due.is_some()
                && let Ok(service) = ServiceName::new(queue.name.clone())
            {
                self.on_due(&service);
            }
        }
    }

    /// The store's moment on the driver's clock
    fn moment(&self, now: Instant, due: Timestamp) -> Instant {
        // The store counts whole milliseconds: it is due then and not before
        match due.since(self.store.now()) {
            Duration::ZERO => now,
            wait => now + wait.min(LONGEST_WAIT) + Duration::from_millis(1),
        }
    }
}

/// How often services without workers are looked at, in case that their workers' coming was not told
const LOOK_AT_BLOCKED: Duration = Duration::from_secs(1);

/// How long what could not be done now waits
const NOT_NOW: Duration = Duration::from_secs(1);

/// How long a store that could not be read is left alone
const AFTER_ERROR: Duration = Duration::from_secs(1);

/// How long an attempt may take that has no limit
const LONGEST_ATTEMPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// Octets of results that the store could not keep, from which on nothing more is begun
const MAX_UNKEPT: usize = 64 << 20;

/// Octets of such results beyond which they are let go
const MOST_UNKEPT: usize = 256 << 20;

/// Partial replies of one request that are kept
const MAX_GATHERED: usize = 64 << 20;

/// The store is asked again after that, whatever it said
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
