//! Joining requests and workers: one function, run after every change of a service.
//!
//! When it returns, no request waits for a service while one of its workers has room.

use std::time::{Duration, Instant};

use super::kept::Kept;
use super::requests::{Asker, Held, Place, Request};
use super::services::LAST_BUCKET;
use super::workers::Linked;
use super::{Balance, Broker, Local, Timer, Transmit, TransmitKind};
use crate::wire::{RequestOptions, WorkerOrder};

impl Broker {
    /// Gives waiting requests, the oldest first, to workers that have room
    #[inline]
    pub(super) fn dispatch(&mut self, now: Instant, service: u32) {
        loop {
            let Some(found) = self.services.get(service) else { return };
            let Some(request) = found.queue.front() else {
                if found.is_draining {
                    self.drain_workers(now, service);
                }
                return;
            };
            let Some(worker) = found.available.first() else { return };
            self.assign(now, service, request, worker);
        }
    }

    fn assign(&mut self, now: Instant, service: u32, index: u32, worker: u32) {
        let until = self.latest_deadline(index);
        let Some(found) = self.services.get_mut(service) else { return };
        let Some(to) = self.workers.get_mut(worker as usize) else { return };
        found.queue.remove(&mut self.requests, index);
        to.jobs.push_back(&mut self.requests, index);
        let Some(request) = self.requests.get_mut(index as usize) else { return };
        found.waiting_octets -= request.octets;
        let body = match std::mem::replace(&mut request.body, Held::Spent) {
            Held::Fresh(body) => {
                if request.is_repeatable {
                    request.body = Held::Kept(Kept::pack(&body));
                }
                body
            }
            Held::Kept(kept) => {
                let body = kept.unpack();
                if request.is_repeatable {
                    request.body = Held::Kept(kept);
                }
                body
            }
            Held::Spent => Default::default(),
        };
        if !request.is_repeatable {
            let left = request.asker.octets();
            self.octets -= request.octets.saturating_sub(left);
            request.octets = request.octets.min(left);
        }
        request.given_until = until;
        request.place = Place::Worker(worker);
        request.attempts += 1;
        let (token, secret) = self.tokens.make(index);
        request.secret = secret;
        // How long it may wait has been decided; how long it may take is only what it says itself
        if request.deadline.is_none()
            && let Some(timer) = request.timer.take()
        {
            self.timers.remove(timer);
        }
        to.given += 1;
        to.last_sent = now;
        let is_ours = to.takes_options();
        if !is_ours {
            // RFC 7 has no word for a worker's patience; guide-style ones are deaf and mute while they work
            let age = now + self.config.request_age;
            to.excused_until = Some(until.unwrap_or(age));
        }
        let options = match is_ours {
            true => RequestOptions {
                deadline: until.map(|until| until.saturating_duration_since(now)),
                key: request.key.and_then(|key| self.keys.name(key)),
                repeatable: request.is_repeatable,
                attempt: request.attempts,
            },
            false => RequestOptions::default(),
        };
        match to.link {
            Linked::Local(id) => {
                let service = found.name.clone();
                let client = match &request.asker {
                    Asker::Peer { peer, .. } => self.peers.get(*peer as usize).map(|peer| peer.key),
                    Asker::Local(_) | Asker::Nobody(_) => None,
                };
                self.locals.push_back(Local::Request { worker: id, token, service, client, options, body });
            }
            Linked::Peer { key, wire, .. } => {
                let order = WorkerOrder::Request { token: self.tokens.frame(token), options, body };
                // Every wire has a word for a request
                if let Ok(message) = order.encode(wire) {
                    self.transmits.push_back(Transmit { to: key, message, kind: TransmitKind::Request(token) });
                }
            }
        }
        self.refresh(worker);
    }

    /// When the time of all is over who wait for a request, those that joined it included; `None` if somebody has no such time
    #[inline]
    fn latest_deadline(&self, index: u32) -> Option<Instant> {
        let request = self.requests.get(index as usize)?;
        match request.key.and_then(|key| self.keys.first_joiner(key)) {
            None => request.deadline,
            Some(first) => self.latest_of_all(request, first),
        }
    }

    fn latest_of_all(&self, request: &Request, first: u32) -> Option<Instant> {
        let mut latest = self.requests.get(first as usize)?.deadline?;
        if request.is_wanted() {
            latest = latest.max(request.deadline?);
        }
        let mut next = Some(first);
        while let Some(joiner) = next.and_then(|index| self.requests.get(index as usize)) {
            latest = latest.max(joiner.deadline?);
            next = joiner.link.next();
        }
        Some(latest)
    }

    /// Puts a worker where it belongs among those that have room; it is the one used last
    pub(super) fn refresh(&mut self, index: u32) {
        let Some(worker) = self.workers.get_mut(index as usize) else { return };
        let was_in = worker.bucket.take();
        let belongs_in = worker.has_room().then(|| match self.config.balance {
            Balance::LeastRecentlyUsed => 0,
            Balance::LeastOutstanding => {
                u8::try_from(worker.jobs.len()).map_or(LAST_BUCKET, |jobs| jobs.min(LAST_BUCKET))
            }
        });
        worker.bucket = belongs_in;
        let Some(service) = self.services.get_mut(worker.service) else { return };
        if let Some(bucket) = was_in {
            service.available.remove(bucket, &mut self.workers, index, |worker| &mut worker.room);
        }
        if let Some(bucket) = belongs_in {
            service.available.push_back(bucket, &mut self.workers, index, |worker| &mut worker.room);
        }
    }

    /// A service that has no workers yet, or no longer, keeps clients that can be told waiting only for a while
    pub(super) fn await_workers(&mut self, now: Instant, index: u32) {
        let Some(request) = self.requests.get(index as usize).filter(|request| request.asker.can_be_refused()) else {
            return;
        };
        let (service_index, deadline) = (request.service, request.deadline);
        let Some(service) = self.services.get_mut(service_index).filter(|service| service.workers.is_empty()) else {
            return;
        };
        let at = (service.absent_since + self.config.absence).max(now);
        if service.absence_timer.is_none() {
            service.absence_timer = Some(self.timers.insert(at, Timer::Absence(service_index)));
        }
        if let Some(deadline) = deadline.filter(|deadline| *deadline <= at) {
            // Told at its deadline it would hear nothing: its client has given up by then
            let margin = (deadline.saturating_duration_since(now) / 4).min(MARGIN);
            self.set_request_timer(index, Some(deadline - margin));
        }
    }
}

/// How long before its deadline a request is refused for want of workers
const MARGIN: Duration = Duration::from_millis(500);
