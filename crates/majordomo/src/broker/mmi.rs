//! What the broker answers itself: MMI (RFC 8), and Domogik's and our own commands of that kind.
//!
//! | service | request | reply |
//! |---|---|---|
//! | `mmi.service` | a service | `200` if it has a worker, else `404` |
//! | `mmi.services` | | the names of services with workers, joined by `, ` (Domogik) |
//! | `mmi.workers` | a service, or nothing | JSON: the workers |
//! | `mmi.stats` | a service, or nothing | JSON: state and counters |
//! | `mmi.drain` | a service | `200` or `404`; on our own wire, if the driver permits it and the service is not reserved |
//! | any other | | `501` |

use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};

use super::requests::Asker;
use super::{Access, Broker, Counter};
use crate::wire::{Body, ServiceName, Status, Wire, domogik};

impl Broker {
    pub(super) fn handle_mmi(&mut self, now: Instant, asker: Asker, name: &ServiceName, body: &Body) {
        self.counters.count(Counter::Mmi);
        let may_call = match &asker {
            Asker::Peer { peer, .. } => self.may(*peer, Access::Call, name, None),
            _ => true,
        };
        if !may_call {
            return self.refuse_mmi(&asker, name, Status::NOT_PERMITTED, Counter::NotPermitted);
        }
        let about = subject(&asker, body);
        let service = about.and_then(|about| ServiceName::new(about.clone()).ok());
        let reply = match (name.as_bytes(), service) {
            (b"mmi.service", service) => {
                digits(if service.is_some_and(|service| self.has_worker(&service)) { FOUND } else { NOT_FOUND })
            }
            (b"mmi.services", _) => self.service_list(),
            (b"mmi.workers", service) => json(&self.worker_stats(now, service.as_ref())),
            (b"mmi.stats", service) => {
                let mut stats = self.stats(now);
                stats.services.retain(|found| service.as_ref().is_none_or(|wanted| found.service == *wanted));
                json(&stats)
            }
            (b"mmi.drain", service) if asker.can_be_refused() => {
                let Some(service) = service else {
                    return self.refuse_mmi(&asker, name, Status::MALFORMED, Counter::NoSuchService);
                };
                if let Asker::Peer { peer, .. } = &asker
                    && !self.may(*peer, Access::Administer, &service, None)
                {
                    return self.refuse_mmi(&asker, name, Status::NOT_PERMITTED, Counter::NotPermitted);
                }
                if self.is_reserved(&service) {
                    return self.refuse_mmi(&asker, name, Status::NOT_PERMITTED, Counter::NotPermitted);
                }
                digits(if self.drain(now, &service) { FOUND } else { NOT_FOUND })
            }
            _ if asker.can_be_refused() => {
                return self.refuse_mmi(&asker, name, Status::NOT_IMPLEMENTED, Counter::NoSuchService);
            }
            _ => digits(NOT_IMPLEMENTED),
        };
        self.counters.count(Counter::Replies);
        self.send_reply(&asker, name.bytes().clone(), true, [reply].into_iter().collect());
    }

    fn refuse_mmi(&mut self, asker: &Asker, name: &ServiceName, status: Status, why: Counter) {
        self.refuse_unplaced(asker, name, super::requests::Refusal { status, why });
    }

    /// One entry for each service; Domogik's broker repeats one that has several workers
    fn service_list(&self) -> Bytes {
        let mut list = BytesMut::new();
        let mut names: Vec<_> = self.services.iter().filter(|(_, service)| !service.workers.is_empty()).collect();
        names.sort_by(|(_, a), (_, b)| a.name.cmp(&b.name));
        for (_, service) in names {
            if !list.is_empty() {
                list.put_slice(b", ");
            }
            list.put_slice(service.name.as_bytes());
        }
        list.freeze()
    }
}

/// What the request is about: its first frame, or the one behind the timeout of a Domogik client
fn subject<'a>(asker: &Asker, body: &'a Body) -> Option<&'a Bytes> {
    match (asker, &body[..]) {
        (Asker::Peer { wire: Wire::Mdp01, .. }, [timeout, about]) if domogik::is_timeout(timeout) => Some(about),
        (_, [about, ..]) => Some(about),
        _ => None,
    }
}

fn digits(code: &'static str) -> Bytes {
    Bytes::from_static(code.as_bytes())
}

/// JSON of what can always be written
fn json<T: serde::Serialize>(what: &T) -> Bytes {
    serde_json::to_vec(what).map(Bytes::from).unwrap_or_default()
}

const FOUND: &str = "200";
const NOT_FOUND: &str = "404";
const NOT_IMPLEMENTED: &str = "501";
