//! Requests: how they are let in, and how each ends exactly once.

use std::time::Instant;

use bytes::Bytes;
use tidings_zmtp::Message;

use super::counters::Counter;
use super::kept::{self, Kept};
use super::list::{Link, Links};
use super::local::LocalRequestId;
use super::wheel::TimerId;
use super::{Access, Broker, BrokerEvent, Local, PeerKey, Refuser, Timer, Transmit, TransmitKind, token};
use crate::wire::{Body, ClientReply, RequestOptions, ReturnPath, ServiceName, Status, Wire, WorkerOrder};

/// A request that has not ended, or whose worker still owes an answer
pub(super) struct Request {
    pub(super) asker: Asker,
    /// Its place among its client's
    pub(super) of_client: Link,
    pub(super) place: Place,
    /// Its place in the list that `place` names
    pub(super) link: Link,
    pub(super) service: u32,
    /// Its place in the order of arrival
    pub(super) number: u64,
    pub(super) body: Held,
    /// What it counts for; less when its body is kept no longer
    pub(super) octets: usize,
    /// When its time is over, if it says so itself
    pub(super) deadline: Option<Instant>,
    /// Until when the worker that has it was given, which is longer if others joined who have more time
    pub(super) given_until: Option<Instant>,
    pub(super) timer: Option<TimerId>,
    pub(super) arrived: Instant,
    /// The idempotency key, if it is the one that is executed
    pub(super) key: Option<u32>,
    pub(super) is_repeatable: bool,
    /// Whether a part of the reply was passed on, so that nobody else can begin anew
    pub(super) has_partial: bool,
    /// How many workers it was given to
    pub(super) attempts: u32,
    /// The number in the token of the worker that has it
    pub(super) secret: u32,
}

/// Who waits for a request
#[derive(Clone, Debug)]
pub(super) enum Asker {
    /// A client at the end of a connection, by the connection's place
    Peer { peer: u32, wire: Wire, path: ReturnPath, id: u64 },
    /// A client in the same process
    Local(LocalRequestId),
    /// Nobody any longer: it has ended; a reply that comes all the same counts as this
    Nobody(Counter),
}

/// Where a request is
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In its service's queue
    Queue,
    /// At a worker
    Worker(u32),
    /// With another request that has the same idempotency key
    Joined(u32),
    /// Taken out of where it was, about to be put elsewhere or to end
    Nowhere,
}

/// The body of a request
#[derive(Debug)]
pub(super) enum Held {
    /// As it came, on its way to a worker
    Fresh(Body),
    /// For as long as it may be needed
    Kept(Kept),
    /// It won't be sent again
    Spent,
}

/// Why a request is not let in
pub(super) struct Refusal {
    pub(super) status: Status,
    pub(super) why: Counter,
}

impl Links for Request {
    fn link(&mut self) -> &mut Link {
        &mut self.link
    }
}

impl Request {
    /// Whether somebody waits for it
    pub(super) fn is_wanted(&self) -> bool {
        !matches!(self.asker, Asker::Nobody(_))
    }
}

impl Asker {
    /// Whether it can be told of a refusal
    pub(super) fn can_be_refused(&self) -> bool {
        match self {
            Self::Peer { wire, .. } => wire.is_numbered(),
            Self::Local(_) => true,
            Self::Nobody(_) => false,
        }
    }

    /// What a request of it counts for besides its body
    pub(super) fn octets(&self) -> usize {
        match self {
            Self::Peer { path, .. } => REQUEST_OCTETS + path.octets(),
            Self::Local(_) | Self::Nobody(_) => REQUEST_OCTETS,
        }
    }

    /// By which it can be found again to be taken back
    pub(super) fn number(&self) -> Option<(u32, u64)> {
        match self {
            Self::Peer { peer, wire, id, .. } if wire.is_numbered() => Some((*peer, *id)),
            Self::Local(LocalRequestId(id)) => Some((LOCAL, *id)),
            _ => None,
        }
    }
}

impl Broker {
    pub(super) fn handle_request(
        &mut self,
        now: Instant,
        asker: Asker,
        name: ServiceName,
        options: RequestOptions,
        body: Body,
    ) {
        self.counters.count(Counter::Requests);
        if let Some(number) = asker.number()
            && self.by_client_id.contains_key(&number)
        {
            // The same request once more; the one under way is answered, and nothing else may end it
            return self.counters.count(Counter::DuplicateId);
        }
        if name.as_bytes().starts_with(MMI) {
            return self.handle_mmi(now, asker, &name, &body);
        }
        let last = match &asker {
            Asker::Peer { peer, .. } => self.peers.get(*peer as usize).and_then(|peer| peer.last),
            _ => None,
        };
        let found = self.services.find_again(&name, last);
        let octets = kept::octets(&body);
        if let Some(refusal) = self.judge_client(&asker, &name, found, octets) {
            return self.refuse_unplaced(&asker, &name, refusal);
        }
        if let Some(key) = options.key.clone() {
            return self.handle_keyed_request(now, asker, name, found, options, key, body);
        }
        if let Err((asker, refusal)) = self.place(now, asker, &name, found, &options, None, body, octets) {
            self.refuse_unplaced(&asker, &name, refusal);
        }
    }

    /// Puts a request into its service's queue, and hands it out if a worker has room
    #[expect(clippy::too_many_arguments, reason = "they are what a request is")]
    pub(super) fn place(
        &mut self,
        now: Instant,
        asker: Asker,
        name: &ServiceName,
        found: Option<(u32, u64)>,
        options: &RequestOptions,
        key: Option<u32>,
        body: Body,
        octets: usize,
    ) -> Result<u32, (Asker, Refusal)> {
        let deadline = options.deadline.map(|left| now + left.min(self.config.max_deadline));
        let octets = octets + asker.octets();
        let service = match self.judge_service(now, &asker, name, found, octets) {
            Ok(service) => service,
            Err(refusal) => return Err((asker, refusal)),
        };
        let request = Request {
            asker,
            of_client: Link::default(),
            place: Place::Queue,
            link: Link::default(),
            service,
            number: 0,
            body: Held::Fresh(body),
            octets,
            deadline,
            given_until: None,
            timer: None,
            arrived: now,
            key,
            is_repeatable: options.repeatable,
            has_partial: false,
            attempts: 0,
            secret: 0,
        };
        let index = self.insert(request);
        if let Some(service) = self.services.get_mut(service) {
            service.counts.requests += 1;
            service.waiting_octets += octets;
            service.queue.push_back(&mut self.requests, index);
        }
        self.services.occupy(service);
        if deadline.is_some() {
            self.set_request_timer(index, deadline);
        }
        self.dispatch(now, service);
        self.settle(now, index);
        Ok(index)
    }

    /// Enters a request among its client's, and what it counts for
    pub(super) fn insert(&mut self, mut request: Request) -> u32 {
        let number = request.asker.number();
        let peer = match request.asker {
            Asker::Peer { peer, .. } => Some(peer),
            _ => None,
        };
        request.number = self.next_request;
        self.next_request += 1;
        self.octets += request.octets;
        self.open += usize::from(request.is_wanted());
        let index = self.requests.insert(request) as u32;
        if let Some(peer) = peer.and_then(|peer| self.peers.get_mut(peer as usize)) {
            peer.requests.push_back_by(&mut self.requests, index, |request| &mut request.of_client);
        }
        if let Some(number) = number {
            self.by_client_id.insert(number, index);
        }
        index
    }

    /// What waits after all is kept in little room and for a bounded time
    fn settle(&mut self, now: Instant, index: u32) {
        let Some(request) = self.requests.get_mut(index as usize) else { return };
        if request.place != Place::Queue {
            return;
        }
        if let Held::Fresh(body) = &request.body {
            request.body = Held::Kept(Kept::pack(body));
        }
        if request.deadline.is_none() && request.timer.is_none() {
            let age = now + self.config.request_age;
            self.set_request_timer(index, Some(age));
        }
        self.await_workers(now, index);
    }

    /// What concerns the client alone
    fn judge_client(
        &mut self,
        asker: &Asker,
        name: &ServiceName,
        found: Option<(u32, u64)>,
        octets: usize,
    ) -> Option<Refusal> {
        let refusal = |status, why| Some(Refusal { status, why });
        if let Asker::Peer { peer, .. } = asker {
            if self.permit.is_some() && !self.may(*peer, Access::Call, name, found.map(|(_, serial)| serial)) {
                return refusal(Status::NOT_PERMITTED, Counter::NotPermitted);
            }
            let client = self.peers.get_mut(*peer as usize)?;
            client.last = found;
            if client.requests.len() >= self.config.max_per_client {
                return refusal(Status::TOO_MANY, Counter::TooManyOfClient);
            }
        }
        if octets > self.config.max_body {
            return refusal(Status::TOO_LARGE, Counter::TooLarge);
        }
        if self.is_stopping {
            return refusal(Status::UNAVAILABLE, Counter::Draining);
        }
        None
    }

    /// The service that a request may wait for, which is made if it may
    fn judge_service(
        &mut self,
        now: Instant,
        asker: &Asker,
        name: &ServiceName,
        found: Option<(u32, u64)>,
        octets: usize,
    ) -> Result<u32, Refusal> {
        let no_room = |why| Err(Refusal { status: Status::UNAVAILABLE, why });
        if self.requests.len() >= self.config.max_requests {
            return no_room(Counter::TooManyRequests);
        }
        if self.octets + octets > self.config.max_total_octets {
            return no_room(Counter::TotalOctets);
        }
        let Some((index, service)) = found.and_then(|(index, _)| Some((index, self.services.get(index)?))) else {
            // Workers of a broker that was just started may be on their way back
            if asker.can_be_refused() && now >= self.started + self.config.absence {
                return Err(Refusal { status: Status::NO_SUCH_SERVICE, why: Counter::NoSuchService });
            }
            let peer = match asker {
                Asker::Peer { peer, .. } => Some(*peer),
                _ => None,
            };
            return match self.make_for_request(name, peer) {
                Some(index) => Ok(index),
                None => no_room(Counter::TooManyServices),
            };
        };
        if service.is_draining {
            return no_room(Counter::Draining);
        }
        if service.workers.is_empty() && asker.can_be_refused() && now >= service.absent_since + self.config.absence {
            return Err(Refusal { status: Status::NO_SUCH_SERVICE, why: Counter::NoSuchService });
        }
        if service.available.first().is_none() || !service.queue.is_empty() {
            if service.queue.len() >= self.config.max_waiting {
                return no_room(Counter::QueueFull);
            }
            if service.waiting_octets + octets > self.config.max_waiting_octets {
                return no_room(Counter::QueueOctets);
            }
            // One connection leaves room for others. All that it has is counted: that it waits here need not be known then
            let share = self.config.max_waiting.div_ceil(2);
            if service.queue.len() >= share
                && let Asker::Peer { peer, .. } = asker
                && self.peers.get(*peer as usize).is_some_and(|peer| peer.requests.len() >= share)
            {
                return Err(Refusal { status: Status::TOO_MANY, why: Counter::TooManyOfClient });
            }
        }
        Ok(index)
    }

    /// Refuses a request that was never let in
    pub(super) fn refuse_unplaced(&mut self, asker: &Asker, name: &ServiceName, refusal: Refusal) {
        let Refusal { status, why } = refusal;
        if let Some((_, service)) = self.services.find_mut(name) {
            service.counts.requests += 1;
            service.counts.refused.count(status);
        }
        self.count_refusal(asker, name, status, why);
        let by = Refuser::Broker { was_running: false };
        self.send_refusal(asker, by, status, Bytes::from_static(status.words().as_bytes()));
    }

    fn count_refusal(&mut self, asker: &Asker, name: &ServiceName, status: Status, why: Counter) {
        self.counters.count(Counter::Refused);
        self.counters.count(why);
        self.counters.refused.count(status);
        let (client, is_told) = (self.client_of(asker), asker.can_be_refused());
        self.tell(|| BrokerEvent::RequestRefused { client, service: name.clone(), status, why, is_told });
    }

    /// A client takes a request back (our own wire, CANCEL)
    pub(super) fn handle_cancel(&mut self, now: Instant, peer: u32, id: u64) {
        match self.by_client_id.get(&(peer, id)) {
            Some(index) => self.end_for_client(now, *index, Counter::Cancelled),
            None => self.counters.count(Counter::CancelUnknown),
        }
    }

    pub(super) fn cancel_local(&mut self, now: Instant, request: LocalRequestId) {
        match self.by_client_id.get(&(LOCAL, request.0)) {
            Some(index) => self.end_for_client(now, *index, Counter::Cancelled),
            None => self.counters.count(Counter::CancelUnknown),
        }
    }

    pub(super) fn on_request_timer(&mut self, now: Instant, index: u32) {
        let Some(request) = self.requests.get_mut(index as usize) else { return };
        request.timer = None;
        if let Some(deadline) = request.deadline.filter(|deadline| now < *deadline) {
            return self.on_deadline_near(now, index, deadline);
        }
        // Without a time of its own it is only waiting that ends
        if let (Place::Joined(key), None) = (request.place, request.deadline)
            && self.keys.executing(key).is_some_and(|executing| self.is_at_worker(executing))
        {
            return;
        }
        self.end_for_client(now, index, Counter::Expired);
    }

    /// A request that waited for workers to come is refused while its client still listens
    fn on_deadline_near(&mut self, now: Instant, index: u32, deadline: Instant) {
        let waits = |request: &&Request| {
            request.place == Place::Queue && request.key.is_none_or(|key| !self.keys.has_joiners(key))
        };
        let waiting = self.requests.get(index as usize).filter(waits);
        let service = waiting.and_then(|request| self.services.get(request.service));
        if service.is_some_and(|service| service.workers.is_empty()) {
            return self.refuse_for_want_of_workers(now, index);
        }
        self.set_request_timer(index, Some(deadline));
    }

    pub(super) fn is_at_worker(&self, index: u32) -> bool {
        self.requests.get(index as usize).is_some_and(|request| matches!(request.place, Place::Worker(_)))
    }

    /// Ends a request for a reason that is its client's: its time is over, it was taken back, the client is gone
    ///
    /// The worker goes on if others wait for the same reply, or will want it under the same key.
    pub(super) fn end_for_client(&mut self, now: Instant, index: u32, why: Counter) {
        let late = match why {
            Counter::Expired => Counter::LateReply,
            Counter::Cancelled => Counter::ReplyAfterCancel,
            _ => Counter::ReplyToGoneClient,
        };
        let Some(asker) = self.part(index, late) else { return };
        let Some(request) = self.requests.get(index as usize) else { return };
        let (place, key, service) = (request.place, request.key, request.service);
        self.counters.count(why);
        if let Some(service) = self.services.get_mut(service) {
            match why {
                Counter::Expired => service.counts.expired += 1,
                Counter::Cancelled => service.counts.cancelled += 1,
                _ => service.counts.client_gone += 1,
            }
        }
        if why == Counter::Expired {
            // A worker that gives up has just had it
            let was_running = matches!(place, Place::Worker(_) | Place::Nowhere);
            let name = self.services.get(service).map(|service| service.name.clone());
            let (client, is_told) = (self.client_of(&asker), asker.can_be_refused());
            if let Some(service) = name {
                self.tell(|| BrokerEvent::RequestExpired { client, service, was_running, is_told });
            }
            let words = Bytes::from_static(Status::DEADLINE_PASSED.words().as_bytes());
            let by = Refuser::Broker { was_running };
            self.send_refusal(&asker, by, Status::DEADLINE_PASSED, words);
        }
        let is_shared = key.is_some_and(|key| self.keys.has_joiners(key));
        match place {
            _ if is_shared => {}
            Place::Joined(key) => {
                self.discard(index);
                self.settle_shared(now, key);
            }
            Place::Queue | Place::Nowhere => {
                self.discard(index);
                self.dispatch(now, service);
            }
            Place::Worker(_) if key.is_some() && why != Counter::Cancelled => {}
            Place::Worker(worker) => self.take_back(index, worker),
        }
    }

    /// Refuses all that wait for a service
    pub(super) fn refuse_queue(&mut self, now: Instant, service: u32, text: &'static str, why: Counter) {
        while let Some(request) = self.services.get(service).and_then(|service| service.queue.front()) {
            self.refuse(now, request, Status::UNAVAILABLE, Bytes::from_static(text.as_bytes()), why);
        }
    }

    /// Whoever executed for others is left alone with it: nobody waits any more
    fn settle_shared(&mut self, now: Instant, key: u32) {
        let Some(index) = self.keys.executing(key).filter(|_| !self.keys.has_joiners(key)) else { return };
        let Some(request) = self.requests.get(index as usize) else { return };
        if !request.is_wanted() && request.place == Place::Queue {
            let service = request.service;
            self.discard(index);
            self.dispatch(now, service);
        }
    }

    /// Tells a worker that its reply isn't wanted; its place stays taken until it answers
    fn take_back(&mut self, index: u32, worker: u32) {
        self.let_go_of_body(index);
        let Some(request) = self.requests.get_mut(index as usize) else { return };
        let key = request.key.take();
        let token = token::whole(index, request.secret);
        if let Some(key) = key {
            self.forget_key(key);
        }
        self.send_cancel(worker, token);
    }

    /// A request that waits nowhere won't be sent again
    pub(super) fn let_go_of_body(&mut self, index: u32) {
        let Some(request) = self.requests.get_mut(index as usize) else { return };
        request.body = Held::Spent;
        let left = request.asker.octets();
        self.octets -= request.octets.saturating_sub(left);
        request.octets = request.octets.min(left);
    }

    /// Refuses a request, and all that joined it
    pub(super) fn refuse(&mut self, now: Instant, index: u32, status: Status, text: Bytes, why: Counter) {
        let Some(request) = self.requests.get(index as usize) else { return };
        let (service, key, place) = (request.service, request.key, request.place);
        let Some(name) = self.services.get(service).map(|service| service.name.clone()) else { return };
        self.refuse_asker(index, &name, status, &text, why);
        if let Some(key) = key {
            while let Some(joiner) = self.keys.first_joiner(key) {
                self.refuse_asker(joiner, &name, status, &text, why);
                self.discard(joiner);
            }
        }
        if let (Place::Worker(worker), Counter::Draining) = (place, why) {
            return self.take_back(index, worker);
        }
        self.discard(index);
        if let Place::Joined(key) = place {
            self.settle_shared(now, key);
        }
    }

    fn refuse_asker(&mut self, index: u32, name: &ServiceName, status: Status, text: &Bytes, why: Counter) {
        let Some(request) = self.requests.get(index as usize) else { return };
        let service = request.service;
        let by = match why {
            Counter::WorkerRefused => Refuser::Worker,
            _ => Refuser::Broker { was_running: matches!(request.place, Place::Worker(_)) },
        };
        let Some(asker) = self.part(index, Counter::LateReply) else { return };
        if let Some(service) = self.services.get_mut(service) {
            service.counts.refused.count(status);
        }
        self.count_refusal(&asker, name, status, why);
        self.send_refusal(&asker, by, status, text.clone());
    }

    /// Answers whoever waits for a request; it has ended then, and is still where it was
    pub(super) fn answer(&mut self, now: Instant, index: u32, body: Body) {
        let Some(request) = self.requests.get(index as usize) else { return };
        let (service, arrived) = (request.service, request.arrived);
        let late = match request.asker {
            Asker::Nobody(late) => Some(late),
            _ => None,
        };
        match self.part(index, Counter::LateReply) {
            Some(asker) => {
                self.counters.count(Counter::Replies);
                let Some(service) = self.services.get_mut(service) else { return };
                service.counts.replies += 1;
                service.counts.latency.get_or_insert_default().record(now.saturating_duration_since(arrived));
                let name = service.name.bytes().clone();
                self.send_reply(&asker, name, true, body);
            }
            None => self.count_late(service, late.unwrap_or(Counter::LateReply)),
        }
    }

    /// Passes a part of a reply on
    pub(super) fn answer_partly(&mut self, index: u32, body: Body) {
        let Some(request) = self.requests.get_mut(index as usize) else { return };
        let service = request.service;
        // Whoever joined got it too, so that nobody else can begin anew even if the first has left
        request.has_partial = true;
        if let Asker::Nobody(late) = request.asker {
            return self.count_late(service, late);
        }
        let asker = request.asker.clone();
        let name = self.services.get(service).map(|service| service.name.bytes().clone()).unwrap_or_default();
        self.send_reply(&asker, name, false, body);
    }

    pub(super) fn count_late(&mut self, service: u32, counter: Counter) {
        self.counters.count(counter);
        if let Some(service) = self.services.get_mut(service) {
            service.counts.late += 1;
        }
    }

    /// Parts a request from its client, whom it owes an ending from then on; `None` if it has none any more
    fn part(&mut self, index: u32, late: Counter) -> Option<Asker> {
        let request = self.requests.get_mut(index as usize).filter(|request| request.is_wanted())?;
        let asker = std::mem::replace(&mut request.asker, Asker::Nobody(late));
        if let Some(timer) = request.timer.take() {
            self.timers.remove(timer);
        }
        self.open = self.open.saturating_sub(1);
        if let Asker::Peer { peer, .. } = &asker
            && let Some(peer) = self.peers.get_mut(*peer as usize)
        {
            peer.requests.remove_by(&mut self.requests, index, |request| &mut request.of_client);
        }
        if let Some(number) = asker.number() {
            self.by_client_id.remove(&number);
        }
        Some(asker)
    }

    /// Removes a request that nobody waits for from wherever it is
    pub(super) fn discard(&mut self, index: u32) {
        let Some(request) = self.requests.get(index as usize) else { return };
        let (place, service, octets, key) = (request.place, request.service, request.octets, request.key);
        match place {
            Place::Queue => {
                if let Some(service) = self.services.get_mut(service) {
                    service.queue.remove(&mut self.requests, index);
                    service.waiting_octets -= octets;
                }
            }
            Place::Worker(worker) => self.release(worker, index),
            Place::Joined(key) => self.keys.part(key, &mut self.requests, index),
            Place::Nowhere => {}
        }
        self.octets -= octets;
        self.requests.remove(index as usize);
        if let Some(key) = key {
            self.forget_key(key);
        }
        if place == Place::Queue {
            self.tidy_service(service);
        }
    }

    pub(super) fn set_request_timer(&mut self, index: u32, at: Option<Instant>) {
        let Some(request) = self.requests.get_mut(index as usize) else { return };
        if let Some(timer) = request.timer.take() {
            self.timers.remove(timer);
        }
        if let Some(at) = at {
            request.timer = Some(self.timers.insert(at, Timer::Request(index)));
        }
    }

    pub(super) fn client_of(&self, asker: &Asker) -> Option<PeerKey> {
        match asker {
            Asker::Peer { peer, .. } => self.peer_key(*peer),
            _ => None,
        }
    }

    pub(super) fn send_reply(&mut self, asker: &Asker, service: Bytes, is_last: bool, body: Body) {
        if !is_last {
            self.counters.count(Counter::PartialReplies);
        }
        match asker {
            Asker::Peer { peer, wire, path, id } => {
                let reply = match is_last {
                    true => ClientReply::Final { id: *id, service, body },
                    false => ClientReply::Partial { id: *id, service, body },
                };
                match reply.encode(*wire, path) {
                    Ok(message) => self.send_to_client(*peer, message),
                    Err(_) => self.counters.count(Counter::PartialUnsupported),
                }
            }
            Asker::Local(request) => self.locals.push_back(match is_last {
                true => Local::Final { request: *request, body },
                false => Local::Partial { request: *request, body },
            }),
            Asker::Nobody(_) => {}
        }
    }

    pub(super) fn send_refusal(&mut self, asker: &Asker, by: Refuser, status: Status, text: Bytes) {
        match asker {
            Asker::Peer { peer, wire, path, id } => {
                // Only our own wire has a word for it
                if let Ok(message) = (ClientReply::Refused { id: *id, status, text }).encode(*wire, path) {
                    self.send_to_client(*peer, message);
                }
            }
            Asker::Local(request) => self.locals.push_back(Local::Refused { request: *request, by, status, text }),
            Asker::Nobody(_) => {}
        }
    }

    fn send_to_client(&mut self, peer: u32, message: Message) {
        if let Some(to) = self.peer_key(peer) {
            self.transmits.push_back(Transmit { to, message, kind: TransmitKind::Reply });
        }
    }

    fn send_cancel(&mut self, worker: u32, token: u64) {
        if let Some(id) = self.local_worker(worker) {
            return self.locals.push_back(Local::Cancel { worker: id, token });
        }
        // Classic workers have no word for it and go on
        let token = self.tokens.frame(token);
        self.send_order(worker, WorkerOrder::Cancel { token });
    }
}

/// What a request counts for by itself: about what it takes in tables and lists
pub(super) const REQUEST_OCTETS: usize = 256;
const _: () = assert!(size_of::<Request>() <= REQUEST_OCTETS, "it counts for at least what it takes");
/// The number of the connection that local clients are on
const LOCAL: u32 = u32::MAX;
/// What the broker answers itself begins so (RFC 8)
pub(super) const MMI: &[u8] = b"mmi.";
