//! Services: names that requests queue under, in bounded number.

use std::collections::HashMap;
use std::time::Instant;

use slab::Slab;
use smallvec::SmallVec;

use super::counters::Refusals;
use super::list::{Link, List};
use super::wheel::TimerId;
use super::{Broker, Counter, Latency, PeerKey};
use crate::wire::{ServiceName, Status};

/// One service
pub(super) struct Service {
    pub(super) name: ServiceName,
    /// Its number, which no other service gets
    pub(super) serial: u64,
    /// Requests that wait, the next one first
    pub(super) queue: List,
    pub(super) waiting_octets: usize,
    pub(super) workers: List,
    /// Workers with room, by how many requests they have
    pub(super) available: Available,
    /// Since when it has no worker
    pub(super) absent_since: Instant,
    pub(super) absence_timer: Option<TimerId>,
    pub(super) is_draining: bool,
    /// Whether its workers were told so, which they are when nothing waits any more
    pub(super) is_told_to_drain: bool,
    had_worker: bool,
    /// Its place among those that are only remembered, or among those that never had a worker
    rank: Link,
    is_vacant: bool,
    /// Whose first request made it, as long as it never had a worker
    asked_for_by: Option<Option<PeerKey>>,
    pub(super) counts: ServiceCounts,
}

impl Service {
    /// Whether only requests made it
    pub(super) fn is_unserved(&self) -> bool {
        self.asked_for_by.is_some()
    }

    /// Whether a request for it may be answered
    pub(super) fn is_served(&self) -> bool {
        !self.workers.is_empty() && !self.is_draining
    }
}

/// What is counted for a service
#[derive(Default)]
pub(super) struct ServiceCounts {
    pub(super) requests: u64,
    pub(super) replies: u64,
    pub(super) refused: Refusals,
    pub(super) expired: u64,
    pub(super) cancelled: u64,
    pub(super) client_gone: u64,
    pub(super) retried: u64,
    pub(super) late: u64,
    pub(super) latency: Option<Latency>,
}

/// Workers with room, in lists by how many requests they have, longest unused first
#[derive(Debug, Default)]
pub(super) struct Available {
    lists: SmallVec<[List; 2]>,
    /// A bit for each list that isn't empty
    occupied: u64,
}

impl Available {
    /// The first worker of the first list
    #[inline]
    pub(super) fn first(&self) -> Option<u32> {
        self.lists.get(self.occupied.trailing_zeros() as usize)?.front()
    }

    /// How many there are
    pub(super) fn len(&self) -> usize {
        self.lists.iter().map(List::len).sum()
    }

    pub(super) fn push_back<T>(
        &mut self,
        bucket: u8,
        items: &mut Slab<T>,
        index: u32,
        link: impl Fn(&mut T) -> &mut Link,
    ) {
        let place = usize::from(bucket);
        if self.lists.len() <= place {
            self.lists.resize(place + 1, List::default());
        }
        if let Some(list) = self.lists.get_mut(place) {
            list.push_back_by(items, index, link);
            self.occupied |= 1 << bucket;
        }
    }

    pub(super) fn remove<T>(
        &mut self,
        bucket: u8,
        items: &mut Slab<T>,
        index: u32,
        link: impl Fn(&mut T) -> &mut Link,
    ) {
        if let Some(list) = self.lists.get_mut(usize::from(bucket)) {
            list.remove_by(items, index, link);
            if list.is_empty() {
                self.occupied &= !(1 << bucket);
            }
        }
    }
}

/// Beyond so many requests of one worker, which has fewer is not looked at
pub(super) const LAST_BUCKET: u8 = 63;

/// All services
pub(super) struct Services {
    services: Slab<Service>,
    // Peers choose the names, so the hash is keyed (std's is)
    by_name: HashMap<ServiceName, u32>,
    /// Those without worker and request, remembered for their counters, longest first
    vacant: List,
    /// Those that only requests made, longest first
    unserved: List,
    next_serial: u64,
    most: usize,
}

impl Services {
    pub(super) fn new(most: usize) -> Self {
        Self {
            services: Slab::new(),
            by_name: HashMap::new(),
            vacant: List::default(),
            unserved: List::default(),
            next_serial: 1,
            most,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.services.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Service)> {
        self.services.iter().map(|(index, service)| (index as u32, service))
    }

    #[inline]
    pub(super) fn get(&self, index: u32) -> Option<&Service> {
        self.services.get(index as usize)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut Service> {
        self.services.get_mut(index as usize)
    }

    pub(super) fn find(&self, name: &ServiceName) -> Option<(u32, &Service)> {
        let index = *self.by_name.get(name)?;
        self.services.get(index as usize).map(|service| (index, service))
    }

    pub(super) fn find_mut(&mut self, name: &ServiceName) -> Option<(u32, &mut Service)> {
        let index = *self.by_name.get(name)?;
        self.services.get_mut(index as usize).map(|service| (index, service))
    }

    /// As `find`, knowing where it was the last time
    #[inline]
    pub(super) fn find_again(&self, name: &ServiceName, last: Option<(u32, u64)>) -> Option<(u32, u64)> {
        if let Some((index, serial)) = last
            && let Some(service) = self.services.get(index as usize)
            && service.serial == serial
            && service.name == *name
        {
            return last;
        }
        self.find(name).map(|(index, service)| (index, service.serial))
    }

    /// How many there are that never had a worker
    pub(super) fn unserved(&self) -> usize {
        self.unserved.len()
    }

    /// The one of those that a worker's service may take the place of, if one has to go
    fn in_the_way(&self) -> Option<u32> {
        let is_full = self.services.len() >= self.most && self.vacant.is_empty();
        self.unserved.front().filter(|_| is_full)
    }

    /// Makes a service, in place of the one that is remembered for longest if there are too many; `None` if all are in use
    fn make(&mut self, name: &ServiceName, now: Instant) -> Option<u32> {
        if self.services.len() >= self.most {
            let index = self.vacant.front()?;
            self.remove(index);
        }
        let serial = self.next_serial;
        self.next_serial += 1;
        let service = Service {
            name: name.detached(),
            serial,
            queue: List::default(),
            waiting_octets: 0,
            workers: List::default(),
            available: Available::default(),
            absent_since: now,
            absence_timer: None,
            is_draining: false,
            is_told_to_drain: false,
            had_worker: false,
            rank: Link::default(),
            is_vacant: false,
            asked_for_by: None,
            counts: ServiceCounts::default(),
        };
        let name = service.name.clone();
        let index = self.services.insert(service) as u32;
        self.by_name.insert(name, index);
        Some(index)
    }

    /// It has a worker or a request, and is not only remembered
    pub(super) fn occupy(&mut self, index: u32) {
        if let Some(service) = self.services.get_mut(index as usize) {
            service.had_worker |= !service.workers.is_empty();
            if std::mem::take(&mut service.is_vacant) {
                self.vacant.remove_by(&mut self.services, index, |service| &mut service.rank);
            }
        }
    }

    /// It has a worker, or is no more; whose first request made it, if it never had one
    fn leave_unserved(&mut self, index: u32) -> Option<PeerKey> {
        let asked_for_by = self.services.get_mut(index as usize)?.asked_for_by.take()?;
        self.unserved.remove_by(&mut self.services, index, |service| &mut service.rank);
        asked_for_by
    }

    /// It has neither worker nor request: one that had a worker once is remembered
    fn vacate(&mut self, index: u32) {
        let Some(service) = self.services.get_mut(index as usize) else { return };
        if service.is_vacant {
            return;
        }
        if service.had_worker {
            service.is_vacant = true;
            self.vacant.push_back_by(&mut self.services, index, |service| &mut service.rank);
        } else {
            self.remove(index);
        }
    }

    fn remove(&mut self, index: u32) {
        let Some(service) = self.services.get_mut(index as usize) else { return };
        if service.is_vacant {
            self.vacant.remove_by(&mut self.services, index, |service| &mut service.rank);
        }
        let service = self.services.remove(index as usize);
        self.by_name.remove(&service.name);
    }
}

impl Broker {
    /// A service that a request is the first to ask for: a client makes few of them, and all clients not all
    pub(super) fn make_for_request(&mut self, name: &ServiceName, peer: Option<u32>) -> Option<u32> {
        let asked_for = peer.and_then(|peer| self.peers.get(peer as usize)).map_or(0, |peer| peer.asked_for);
        if self.services.unserved() >= self.config.max_unserved || asked_for >= self.config.max_unserved_of_client {
            return None;
        }
        let index = self.services.make(name, self.started)?;
        let mut key = None;
        if let Some(peer) = peer.and_then(|peer| self.peers.get_mut(peer as usize)) {
            peer.asked_for += 1;
            key = Some(peer.key);
        }
        let Services { services, unserved, .. } = &mut self.services;
        if let Some(service) = services.get_mut(index as usize) {
            service.asked_for_by = Some(key);
            unserved.push_back_by(services, index, |service| &mut service.rank);
        }
        Some(index)
    }

    /// A service that a worker is the first to work for: it takes the place of one that nobody ever worked for, whose
    /// requests are refused
    pub(super) fn make_for_worker(&mut self, now: Instant, name: &ServiceName) -> Option<u32> {
        if let Some(index) = self.services.in_the_way() {
            self.refuse_queue(now, index, Status::UNAVAILABLE.words(), Counter::ServicePushedOut);
        }
        self.services.make(name, now)
    }

    /// A service has a worker, or is about to be let go
    pub(super) fn note_served(&mut self, index: u32) {
        if let Some(key) = self.services.leave_unserved(index)
            && let Some(peer) = self.peer_by_key.get(&key)
            && let Some(peer) = self.peers.get_mut(*peer as usize)
        {
            // The number of a connection may be heard of again after its end
            peer.asked_for = peer.asked_for.saturating_sub(1);
        }
    }

    /// Lets go of a service that has neither worker nor request
    pub(super) fn tidy_service(&mut self, index: u32) {
        let Some(service) = self.services.get_mut(index) else { return };
        if service.queue.is_empty() && service.workers.is_empty() {
            if let Some(timer) = service.absence_timer.take() {
                self.timers.remove(timer);
            }
            self.note_served(index);
            self.services.vacate(index);
        }
    }
}
