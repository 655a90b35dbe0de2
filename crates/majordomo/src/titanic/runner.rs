//! Executing what is stored: which service's turn it is, how much of it, and what comes of an attempt.
//!
//! A service has a runner while its queue has something. Nothing is taken from the queue without a worker to give it to:
//! what is taken is at most what the workers take at once, so that stored requests crowd out nobody.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tidings_store::{Leased, Retry, Settled, StoreError, StoreStats, Ticket, Timestamp, Uuid};

use super::{Happened, Titanic};
use crate::broker::{Broker, LocalRequestId};
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
        if room == 0 {
            // The next that ends brings us here
            return;
        }
        let Ok(queue) = self.store.queue(service.bytes().clone()) else { return };
        runner.is_leasing = true;
        runner.due = Due::Nothing;
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
        let Some(runner) = self.runners.get_mut(service) else { return };
        runner.is_leasing = false;
        // What was stored meanwhile is due at once
        if runner.due != Due::Now
            && let Some(due) = due
        {
            runner.due = if due <= now { Due::Now } else { Due::At(due) };
        }
        let entries = result.map(|leased| leased.entries).unwrap_or_default();
        runner.in_flight += entries.len() as u32;
        self.stats.attempts += entries.len() as u64;
        for entry in entries {
            // The broker need not repeat it after a worker's death: that is done here, with a wait between
            let options = RequestOptions { repeatable: false, attempt: entry.attempt(), ..RequestOptions::default() };
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
        let (service, ticket) = (running.service, running.ticket);
        if running.octets > MAX_GATHERED {
            let note = format!("the parts of its reply have {} octets, more than {MAX_GATHERED}", running.octets);
            return self.give_back(service, ticket, Retry::Never, note);
        }
        let Ok(queue) = self.store.queue(service.bytes().clone()) else { return };
        let frames: Vec<Bytes> = running.parts.into_iter().chain(body).collect();
        self.ask(queue.complete(ticket, &frames), move |settled| Happened::Completed(service, ticket, settled));
    }

    pub(super) fn on_completed(&mut self, service: &ServiceName, ticket: Ticket, result: Result<Settled, StoreError>) {
        match result {
            Ok(Settled::Done) => self.stats.completed += 1,
            Ok(Settled::Late) => self.stats.late += 1,
            Err(error) => {
                self.stats.store_errors += 1;
                // Work that was done is lost if its result can't be kept; it is done again when there is room
                let retry = if matches!(error, StoreError::TooLarge { .. }) { Retry::Never } else { Retry::Backoff };
                self.give_back(service.clone(), ticket, retry, format!("its result was not kept: {error}"));
            }
        }
    }

    pub(super) fn handle_refused(&mut self, _now: Instant, request: LocalRequestId, status: Status, text: &[u8]) {
        let Some(running) = self.end(request) else { return };
        let retry = match status {
            // Nobody had a look at it: there was no worker, no room or no time
            Status::NO_SUCH_SERVICE
            | Status::TOO_MANY
            | Status::CANCELLED
            | Status::UNAVAILABLE
            | Status::DEADLINE_PASSED => Retry::Release(NOT_NOW),
            status if status.code() >= 500 => Retry::Backoff,
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
        self.running_by_id.remove(&running.id);
        if let Some(runner) = self.runners.get_mut(&running.service) {
            runner.in_flight = runner.in_flight.saturating_sub(1);
        }
        self.touch(&running.service);
        Some(running)
    }

    /// Keeps what is under way, and takes back what has taken too long
    pub(super) fn extend(&mut self, broker: &mut Broker, now: Instant) {
        self.next_extension = (!self.running.is_empty()).then(|| now + self.config.lease / 3);
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
        let held: Vec<_> = self.running.values().map(|running| (running.service.clone(), running.ticket)).collect();
        for (service, ticket) in held {
            if let Ok(queue) = self.store.queue(service.into_bytes()) {
                self.ask(queue.extend(ticket, self.config.lease), |_late_or_not| Happened::Extended);
            }
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

/// Partial replies of one request that are kept
const MAX_GATHERED: usize = 64 << 20;

/// The store is asked again after that, whatever it said
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
