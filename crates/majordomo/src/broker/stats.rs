//! What a broker says of itself, for metrics, `mmi.stats` and people.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::counters::{Counter, Refusals};
use super::services::Service;
use super::workers::Worker;
use super::{Broker, Latency, PeerKey, WorkerAt};
use crate::wire::{Malformed, ServiceName, Wire};

/// The state of a broker at one moment, and what it counted since it was made
#[derive(Clone, Debug, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct BrokerStats {
    /// Since when, in milliseconds
    #[serde(rename = "uptime-ms", serialize_with = "millis")]
    pub uptime: Duration,
    /// Connections that have said something
    pub peers: usize,
    /// Workers
    pub workers: usize,
    /// Requests that somebody waits for
    pub outstanding: usize,
    /// Requests in memory, those included that only a worker still owes an answer
    pub requests: usize,
    /// Octets of their bodies
    pub octets: usize,
    /// Idempotency keys
    pub keys: usize,
    /// Octets of keys and of replies kept for them
    pub key_octets: usize,
    /// What was counted, by name
    pub counters: BTreeMap<&'static str, u64>,
    /// Malformed messages by cause
    pub malformed: BTreeMap<&'static str, u64>,
    /// Refused requests by status
    pub refused: Refusals,
    /// Its services, by name
    pub services: Vec<ServiceStats>,
}

/// One service
#[derive(Clone, Debug, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct ServiceStats {
    /// Its name
    pub service: ServiceName,
    /// Its workers
    pub workers: usize,
    /// Those of them that could take a request now
    pub idle: usize,
    /// Requests at workers
    pub running: usize,
    /// Requests that wait
    pub waiting: usize,
    /// Their octets
    pub waiting_octets: usize,
    /// How long the next one has waited, in milliseconds
    #[serde(rename = "oldest-waiting-ms", serialize_with = "millis")]
    pub oldest_waiting: Duration,
    /// Whether it runs dry
    pub draining: bool,
    /// Requests that came for it
    pub requests: u64,
    /// Those that ended in a reply
    pub replies: u64,
    /// Those that were refused, by status
    pub refused: Refusals,
    /// Those whose time was over first
    pub expired: u64,
    /// Those that were taken back
    pub cancelled: u64,
    /// Those whose client went away
    pub client_gone: u64,
    /// How often one was given to another worker
    pub retried: u64,
    /// Replies that nobody waited for any more
    pub late: u64,
    /// From a request's arrival to its reply
    pub latency: Latency,
}

/// One worker
#[derive(Clone, Debug, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct WorkerStats {
    /// Its number
    pub worker: u64,
    /// Its service
    pub service: ServiceName,
    /// Where it is; `None` in the same process
    #[serde(skip)]
    pub peer: Option<PeerKey>,
    /// Its wire; `local` in the same process
    pub wire: &'static str,
    /// How many requests it takes at once
    pub concurrency: u32,
    /// How many it has
    pub running: usize,
    /// Whether it is given nothing more
    pub leaving: bool,
    /// How long nothing was heard from it, in milliseconds
    #[serde(rename = "silent-ms", serialize_with = "millis")]
    pub silent: Duration,
    /// Requests given to it
    pub given: u64,
    /// Those that it answered
    pub answered: u64,
}

fn millis<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(time.as_millis() as u64)
}

impl Broker {
    /// Its state now
    #[must_use]
    pub fn stats(&self, now: Instant) -> BrokerStats {
        let mut services: Vec<_> = self.services.iter().map(|(_, service)| self.service_stats(now, service)).collect();
        services.sort_by(|a, b| a.service.cmp(&b.service));
        self.stats_with(now, services)
    }

    /// As `stats`, of one service only
    pub(super) fn stats_of_one(&self, now: Instant, service: &ServiceName) -> BrokerStats {
        let services = self.services.find(service).map(|(_, service)| self.service_stats(now, service));
        self.stats_with(now, services.into_iter().collect())
    }

    fn stats_with(&self, now: Instant, services: Vec<ServiceStats>) -> BrokerStats {
        BrokerStats {
            uptime: now.saturating_duration_since(self.started),
            peers: self.peers.len(),
            workers: self.workers.len(),
            outstanding: self.open,
            requests: self.requests.len(),
            octets: self.octets,
            keys: self.keys.len(),
            key_octets: self.keys.octets(),
            counters: Counter::ALL.iter().map(|counter| (counter.name(), self.counters.value(*counter))).collect(),
            malformed: self.counters.malformed().map(|(cause, count)| (Malformed::name(cause), count)).collect(),
            refused: self.counters.refused.clone(),
            services,
        }
    }

    /// What was counted under one name
    #[must_use]
    pub fn counter(&self, counter: Counter) -> u64 {
        self.counters.value(counter)
    }

    /// Its workers, of one service if that is given
    #[must_use]
    pub fn worker_stats(&self, now: Instant, of: Option<&ServiceName>) -> Vec<WorkerStats> {
        let Some(wanted) = of else {
            let workers = self.workers.iter();
            let stats = |worker: &Worker| Some(stats_of(now, worker, &self.services.get(worker.service)?.name));
            return workers.filter_map(|(_, worker)| stats(worker)).collect();
        };
        let Some((_, service)) = self.services.find(wanted) else { return Vec::new() };
        let (mut found, mut next) = (Vec::with_capacity(service.workers.len()), service.workers.front());
        while let Some(worker) = next.and_then(|index| self.workers.get(index as usize)) {
            found.push(stats_of(now, worker, &service.name));
            next = worker.of_service.next();
        }
        found
    }

    fn service_stats(&self, now: Instant, service: &Service) -> ServiceStats {
        let (mut running, mut next) = (0, service.workers.front());
        while let Some(worker) = next.and_then(|index| self.workers.get(index as usize)) {
            running += worker.jobs.len();
            next = worker.of_service.next();
        }
        let oldest = service.queue.front().and_then(|index| self.requests.get(index as usize));
        ServiceStats {
            service: service.name.clone(),
            workers: service.workers.len(),
            idle: service.available.len(),
            running,
            waiting: service.queue.len(),
            waiting_octets: service.waiting_octets,
            oldest_waiting: oldest.map(|oldest| now.saturating_duration_since(oldest.arrived)).unwrap_or_default(),
            draining: service.is_draining,
            requests: service.counts.requests,
            replies: service.counts.replies,
            refused: service.counts.refused.clone(),
            expired: service.counts.expired,
            cancelled: service.counts.cancelled,
            client_gone: service.counts.client_gone,
            retried: service.counts.retried,
            late: service.counts.late,
            latency: service.counts.latency.clone().unwrap_or_default(),
        }
    }
}

fn stats_of(now: Instant, worker: &Worker, service: &ServiceName) -> WorkerStats {
    WorkerStats {
        worker: worker.number,
        service: service.clone(),
        peer: match worker.at() {
            WorkerAt::Peer(peer) => Some(peer),
            WorkerAt::Local(_) => None,
        },
        wire: worker.wire().map_or("local", Wire::name),
        concurrency: worker.concurrency,
        running: worker.jobs.len(),
        leaving: worker.is_leaving,
        silent: now.saturating_duration_since(worker.heard),
        given: worker.given,
        answered: worker.answered,
    }
}
