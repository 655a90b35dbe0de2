//! What the broker answers itself: MMI (RFC 8), and Domogik's and our own commands of that kind.
//!
//! | service | request | reply |
//! |---|---|---|
//! | `mmi.service` | a service | `200` if it has a worker and doesn't drain, else `404` |
//! | `mmi.services` | | the names of such services, joined by `, ` (Domogik) |
//! | `mmi.workers` | a service, or nothing | JSON: the workers |
//! | `mmi.stats` | a service, or nothing | JSON: state and counters |
//! | `mmi.drain` | a service | `200` or `404`; on our own wire, if the driver permits it and the service is not reserved |
//! | any other | | `501` |
//!
//! A few octets may ask for megabytes. So a large answer is made once and given again for [`ANSWER_AGE`].

use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};

use super::requests::Asker;
use super::stats::BrokerStats;
use super::{Access, Broker, Counter};
use crate::wire::{Body, ServiceName, Status, Wire, domogik};

/// A large answer
pub(super) struct Answer {
    to: ServiceName,
    about: Option<ServiceName>,
    made: Instant,
    text: Bytes,
}

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
                let found =
                    service.and_then(|service| self.services.find(&service).map(|(_, found)| found.is_served()));
                digits(if found.unwrap_or_default() { FOUND } else { NOT_FOUND })
            }
            (b"mmi.services", _) => self.answer_again(now, name, None, |broker, _| broker.service_list()),
            (b"mmi.workers", service) => {
                self.answer_again(now, name, service, |broker, service| json(&broker.worker_stats(now, service)))
            }
            (b"mmi.stats", service) => {
                self.answer_again(now, name, service, |broker, service| json(&broker.stats_about(now, service)))
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

    /// An answer that may be large: the one that was made a moment ago, if it was
    fn answer_again(
        &mut self,
        now: Instant,
        to: &ServiceName,
        about: Option<ServiceName>,
        make: impl FnOnce(&Self, Option<&ServiceName>) -> Bytes,
    ) -> Bytes {
        self.answers.retain(|answer| now < answer.made + ANSWER_AGE);
        let made = self.answers.iter().find(|answer| answer.to == *to && answer.about == about);
        if let Some(made) = made {
            return made.text.clone();
        }
        let text = make(self, about.as_ref());
        if text.len() > LARGE && self.answers.len() < MOST_ANSWERS {
            let (to, about) = (to.detached(), about.map(|about| about.detached()));
            self.answers.push(Answer { to, about, made: now, text: text.clone() });
        }
        text
    }

    fn stats_about(&self, now: Instant, service: Option<&ServiceName>) -> BrokerStats {
        match service {
            Some(service) => self.stats_of_one(now, service),
            None => self.stats(now),
        }
    }

    fn refuse_mmi(&mut self, asker: &Asker, name: &ServiceName, status: Status, why: Counter) {
        self.refuse_unplaced(asker, name, super::requests::Refusal { status, why });
    }

    /// One entry for each service; Domogik's broker repeats one that has several workers
    fn service_list(&self) -> Bytes {
        let mut list = BytesMut::new();
        let mut names: Vec<_> = self.services.iter().filter(|(_, service)| service.is_served()).collect();
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
/// How old a large answer may be
const ANSWER_AGE: Duration = Duration::from_millis(100);
/// An answer of some hundred services is made in less time than it takes to send
const LARGE: usize = 64 * 1024;
/// Large answers that are kept
const MOST_ANSWERS: usize = 8;
