//! Workers and clients in the broker's own process, without a socket between.

use std::time::Instant;

use bytes::Bytes;

use super::requests::{Asker, MMI};
use super::workers::Linked;
use super::{Access, Broker, Departure, PeerKey};
use crate::wire::{Body, ReadyOptions, RequestOptions, ServiceName, Status};

/// A worker in the same process
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LocalWorkerId(u64);

/// A request of a client in the same process
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LocalRequestId(pub(super) u64);

/// Something for a worker or a client in the same process
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Local {
    /// For a worker: answer this with [`Broker::local_reply`]
    Request {
        /// Who
        worker: LocalWorkerId,
        /// By which the reply finds back
        token: u64,
        /// The worker's service
        service: ServiceName,
        /// Whose request it is, for [`Broker::may_call`]; `None` for a client in the same process
        client: Option<PeerKey>,
        /// How long there is for it, and whether it was tried before
        options: RequestOptions,
        /// What is asked
        body: Body,
    },
    /// For a worker: the reply isn't wanted any longer, but the request has to be ended all the same
    Cancel {
        /// Who
        worker: LocalWorkerId,
        /// The request
        token: u64,
    },
    /// For whoever asked by [`Broker::tell_workers`]: a service has a worker more
    Ready {
        /// Which
        service: ServiceName,
    },
    /// For a client: a part of the reply
    Partial {
        /// The request
        request: LocalRequestId,
        /// The part
        body: Body,
    },
    /// For a client: the reply, or the last of its parts
    Final {
        /// The request
        request: LocalRequestId,
        /// The reply
        body: Body,
    },
    /// For a client: there will be no reply
    Refused {
        /// The request
        request: LocalRequestId,
        /// Who says so
        by: Refuser,
        /// Why
        status: Status,
        /// Why, in words
        text: Bytes,
    },
}

/// Who refused a request of a client in the same process
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refuser {
    /// The worker that had it
    Worker,
    /// The broker
    Broker {
        /// While a worker had it
        was_running: bool,
    },
}

/// What a worker in the same process answers
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalReply {
    /// A part of the reply; more follows
    Partial(Body),
    /// The reply, or the last of its parts
    Final(Body),
    /// There will be none
    Refused {
        /// Why
        status: Status,
        /// Why, in words
        text: Bytes,
    },
}

/// Services for workers in the broker's own process alone; they are chosen by the program, and few
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reserved {
    Name(ServiceName),
    Beginning(Box<str>),
}

impl Broker {
    /// Registers a worker in the same process; its service is reserved from then on, also when the worker has gone, and
    /// peers that are workers of it are disconnected
    ///
    /// Returns `None` when there are too many services or workers, or the broker stops.
    pub fn add_local_worker(&mut self, now: Instant, service: &ServiceName, concurrency: u32) -> Option<LocalWorkerId> {
        if self.is_stopping || self.workers.len() >= self.config.max_workers {
            return None;
        }
        let index = match self.services.find(service) {
            Some((index, _)) => index,
            None => self.make_for_worker(now, service)?,
        };
        let id = LocalWorkerId(self.next_worker);
        let options = ReadyOptions { concurrency, heartbeat: None };
        let worker = self.register(now, Linked::Local(id), index, options);
        self.local_workers.insert(id, worker);
        if !self.is_reserved(service) {
            self.reserved.push(Reserved::Name(service.detached()));
        }
        let mut next = self.services.get(index).and_then(|service| service.workers.front());
        let mut strangers = Vec::new();
        while let Some(worker) = next.and_then(|index| self.workers.get(index as usize)) {
            if worker.wire().is_some() {
                strangers.extend(next);
            }
            next = worker.of_service.next();
        }
        for stranger in strangers {
            self.counters.count(super::Counter::ReadyReserved);
            self.remove_worker(now, stranger, Departure::Reserved);
        }
        self.dispatch(now, index);
        Some(id)
    }

    /// Reserves all services whose names begin so for workers in the same process: a peer that says READY for one is turned
    /// away, and nobody drains them. `mmi.` is reserved always
    pub fn reserve(&mut self, beginning: &str) {
        self.reserved.push(Reserved::Beginning(beginning.into()));
    }

    /// Whether no peer may work for a service, or drain it
    pub(super) fn is_reserved(&self, service: &ServiceName) -> bool {
        let is_covered = |reserved: &Reserved| match reserved {
            Reserved::Name(name) => name == service,
            Reserved::Beginning(beginning) => service.as_bytes().starts_with(beginning.as_bytes()),
        };
        service.as_bytes().starts_with(MMI) || self.reserved.iter().any(is_covered)
    }

    /// Ends a worker in the same process; what it has not answered is given to another
    pub fn remove_local_worker(&mut self, now: Instant, worker: LocalWorkerId) {
        if let Some(index) = self.local_workers.get(&worker).copied() {
            self.remove_worker(now, index, Departure::Disconnected);
        }
    }

    /// Answers [`Local::Request`]; `false` if there is no such request of that worker
    pub fn local_reply(&mut self, now: Instant, worker: LocalWorkerId, token: u64, reply: LocalReply) -> bool {
        match self.local_workers.get(&worker).copied() {
            Some(index) => self.answer_local(now, index, token, reply),
            None => false,
        }
    }

    /// A request of a client in the same process; its outcome comes by [`poll_local`](Self::poll_local), also if it is
    /// refused at once
    pub fn local_request(
        &mut self,
        now: Instant,
        service: &ServiceName,
        options: RequestOptions,
        body: Body,
    ) -> LocalRequestId {
        let id = LocalRequestId(self.next_local_request);
        self.next_local_request += 1;
        self.handle_request(now, Asker::Local(id), service.clone(), options, body);
        id
    }

    /// Has [`Local::Ready`] told of every worker that registers from now on
    pub fn tell_workers(&mut self) {
        self.tells_workers = true;
    }

    /// Whether a peer may call a service; for a worker that passes requests on in its own name
    pub fn may_call(&mut self, peer: PeerKey, service: &ServiceName) -> bool {
        let Some(index) = self.peer_by_key.get(&peer).copied() else { return false };
        let serial = self.services.find(service).map(|(_, service)| service.serial);
        self.may(index, Access::Call, service, serial)
    }

    /// How many requests the workers of a service take at once, those they have included; none of a service that is draining
    #[must_use]
    pub fn places(&self, service: &ServiceName) -> u32 {
        let Some((_, found)) = self.services.find(service).filter(|(_, service)| !service.is_draining) else {
            return 0;
        };
        let (mut places, mut next) = (0_u32, found.workers.front());
        while let Some(worker) = next.and_then(|index| self.workers.get(index as usize)) {
            if !worker.is_leaving {
                places = places.saturating_add(worker.concurrency);
            }
            next = worker.of_service.next();
        }
        places
    }

    /// Takes a request back; nothing more comes for it
    pub fn cancel_local_request(&mut self, now: Instant, request: LocalRequestId) {
        self.cancel_local(now, request);
    }
}
