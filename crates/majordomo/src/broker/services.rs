//! Services: names that requests queue under, in bounded number.

use std::collections::HashMap;
use std::time::Instant;

use slab::Slab;
use smallvec::SmallVec;

use super::counters::Refusals;
use super::list::{Link, List};
use super::wheel::TimerId;
use super::{Broker, Latency};
use crate::wire::ServiceName;

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
    had_worker: bool,
    /// Its place among those that are only remembered
    vacant: Link,
    is_vacant: bool,
    pub(super) counts: ServiceCounts,
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
    next_serial: u64,
    most: usize,
}

impl Services {
    pub(super) fn new(most: usize) -> Self {
        Self { services: Slab::new(), by_name: HashMap::new(), vacant: List::default(), next_serial: 1, most }
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

    /// Makes a service, in place of the one that is remembered for longest if there are too many; `None` if all are in use
    pub(super) fn make(&mut self, name: &ServiceName, now: Instant) -> Option<u32> {
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
            had_worker: false,
            vacant: Link::default(),
            is_vacant: false,
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
                self.vacant.remove_by(&mut self.services, index, |service| &mut service.vacant);
            }
        }
    }

    /// It has neither worker nor request: one that had a worker once is remembered
    fn vacate(&mut self, index: u32) {
        let Some(service) = self.services.get_mut(index as usize) else { return };
        if service.is_vacant {
            return;
        }
        if service.had_worker {
            service.is_vacant = true;
            self.vacant.push_back_by(&mut self.services, index, |service| &mut service.vacant);
        } else {
            self.remove(index);
        }
    }

    fn remove(&mut self, index: u32) {
        let Some(service) = self.services.get_mut(index as usize) else { return };
        if service.is_vacant {
            self.vacant.remove_by(&mut self.services, index, |service| &mut service.vacant);
        }
        let service = self.services.remove(index as usize);
        self.by_name.remove(&service.name);
    }
}

impl Broker {
    /// Lets go of a service that has neither worker nor request
    pub(super) fn tidy_service(&mut self, index: u32) {
        let Some(service) = self.services.get_mut(index) else { return };
        if service.queue.is_empty() && service.workers.is_empty() {
            if let Some(timer) = service.absence_timer.take() {
                self.timers.remove(timer);
            }
            self.services.vacate(index);
        }
    }
}
