//! What has to be true of a broker at any time, for the simulation and the fuzzer.

use super::requests::{Asker, Held, Place};
use super::{Broker, Counter, WorkerSide};

macro_rules! ensure {
    ($holds:expr, $($said:tt)+) => {
        if !$holds {
            return Err(format!($($said)+));
        }
    };
}

impl Broker {
    /// Looks at everything
    ///
    /// # Errors
    /// What is not as it has to be.
    #[doc(hidden)]
    pub fn check(&self) -> Result<(), String> {
        self.check_endings()?;
        let waiting = self.check_services()?;
        let running = self.check_workers()?;
        let joined = self.check_requests()?;
        let all = self.requests.len();
        ensure!(waiting + running + joined == all, "{waiting} wait, {running} run, {joined} joined, of {all}");
        self.keys.check(&self.requests)
    }

    /// Every request ends in exactly one way, or has not ended
    fn check_endings(&self) -> Result<(), String> {
        let count = |counter| self.counters.value(counter);
        let came = count(Counter::Requests);
        let ends = [Counter::Replies, Counter::Refused, Counter::Expired, Counter::Cancelled, Counter::ClientGone];
        let ended = ends.into_iter().map(count).sum::<u64>() + count(Counter::DuplicateId);
        ensure!(came == ended + self.open as u64, "{came} requests, {ended} ended, {} open", self.open);
        let refused = self.counters.refused.total();
        ensure!(refused == count(Counter::Refused), "{refused} refused by status");
        let wanted = self.requests.iter().filter(|(_, request)| request.is_wanted()).count();
        ensure!(wanted == self.open, "{wanted} requests are wanted, not {}", self.open);
        Ok(())
    }

    fn check_services(&self) -> Result<usize, String> {
        let mut all = 0;
        for (index, service) in self.services.iter() {
            let name = &service.name;
            // The one promise of dispatch
            let idle = service.available.len();
            ensure!(service.queue.is_empty() || idle == 0, "{} wait for {name} with {idle} idle", service.queue.len());
            let (mut next, mut count, mut octets) = (service.queue.front(), 0, 0);
            while let Some(request) = next.and_then(|at| self.requests.get(at as usize)) {
                let is_here = request.place == Place::Queue && request.service == index;
                ensure!(is_here, "a request in the queue of {name} is elsewhere");
                ensure!(!matches!(request.body, Held::Spent | Held::Fresh(_)), "a request waits without its body");
                let is_shared = request.key.is_some_and(|key| self.keys.has_joiners(key));
                ensure!(request.timer.is_some() || is_shared, "a request waits for {name} for ever");
                ensure!(request.is_wanted() || is_shared, "nobody wants a request that waits for {name}");
                count += 1;
                octets += request.octets;
                next = request.link.next();
            }
            ensure!(count == service.queue.len(), "{count} in the queue of {name}, not {}", service.queue.len());
            ensure!(
                octets == service.waiting_octets,
                "{octets} octets wait for {name}, not {}",
                service.waiting_octets
            );
            ensure!(!service.is_draining || !service.workers.is_empty(), "{name} drains without workers");
            let is_told = !service.is_draining || !service.queue.is_empty() || service.is_told_to_drain;
            ensure!(is_told, "nothing waits for {name}, which drains, and its workers don't know");
            let workers = self.workers.iter().filter(|(_, worker)| worker.service == index).count();
            ensure!(workers == service.workers.len(), "{name} has {workers} workers, not {}", service.workers.len());
            let with_room = self.workers.iter().filter(|(_, worker)| worker.service == index && worker.has_room());
            ensure!(with_room.count() == idle, "{name} has not {idle} workers with room");
            let found = self.services.find(name).map(|(found, _)| found);
            ensure!(found == Some(index), "{name} is found at {found:?}");
            all += count;
        }
        let unserved = self.services.iter().filter(|(_, service)| service.is_unserved());
        let unserved = unserved.map(|(_, service)| service.workers.len()).collect::<Vec<_>>();
        ensure!(unserved.iter().all(|workers| *workers == 0), "a service with workers counts as one without");
        let listed = self.services.unserved();
        ensure!(unserved.len() == listed, "{listed} services never had a worker, not {}", unserved.len());
        ensure!(listed <= self.config.max_unserved, "{listed} services never had a worker");
        ensure!(self.services.len() <= self.config.max_services.max(1), "{} services", self.services.len());
        Ok(all)
    }

    fn check_workers(&self) -> Result<usize, String> {
        let mut all = 0;
        for (index, worker) in &self.workers {
            let (number, jobs) = (worker.number, worker.jobs.len());
            ensure!(jobs <= worker.concurrency as usize, "worker {number} has {jobs} requests");
            let (mut next, mut count) = (worker.jobs.front(), 0);
            while let Some(request) = next.and_then(|at| self.requests.get(at as usize)) {
                ensure!(request.place == Place::Worker(index as u32), "a request of worker {number} is elsewhere");
                count += 1;
                next = request.link.next();
            }
            ensure!(count == jobs, "worker {number} has {count} requests, not {jobs}");
            ensure!(worker.bucket.is_some() == worker.has_room(), "worker {number} is not where it belongs");
            ensure!(jobs > 0 || worker.excused_until.is_none(), "worker {number} is excused without a request");
            if let super::workers::Linked::Peer { peer, .. } = worker.link {
                let side = self.peers.get(peer as usize).map(|peer| peer.worker);
                ensure!(side == Some(WorkerSide::Registered(index as u32)), "worker {number} is {side:?}");
            }
            all += count;
        }
        Ok(all)
    }

    fn check_requests(&self) -> Result<usize, String> {
        let (mut joined, mut octets, mut numbered, mut of_peers) = (0, 0, 0, 0);
        for (index, request) in &self.requests {
            ensure!(request.place != Place::Nowhere, "request {index} is nowhere");
            joined += usize::from(matches!(request.place, Place::Joined(_)));
            octets += request.octets;
            ensure!(request.is_wanted() || request.timer.is_none(), "request {index} has ended and has a timer");
            ensure!(
                request.deadline.is_none() || request.timer.is_some() || !request.is_wanted(),
                "request {index} has a deadline and no timer"
            );
            if let Some(number) = request.asker.number() {
                numbered += 1;
                let found = self.by_client_id.get(&number).copied();
                ensure!(found == Some(index as u32), "request {index} is found at {found:?}");
            }
            of_peers += usize::from(matches!(request.asker, Asker::Peer { .. }));
        }
        ensure!(octets == self.octets, "{octets} octets, not {}", self.octets);
        ensure!(numbered == self.by_client_id.len(), "{numbered} numbers, not {}", self.by_client_id.len());
        let listed: usize = self.peers.iter().map(|(_, peer)| peer.requests.len()).sum();
        ensure!(listed == of_peers, "{of_peers} requests of peers, not {listed}");
        ensure!(self.peers.len() == self.peer_by_key.len(), "peers and their keys differ");
        Ok(joined)
    }
}
