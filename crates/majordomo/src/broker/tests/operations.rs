//! Any sequence of messages, losses and time: the books are right after every step, and everything ends.
//!
//! As the fuzz target `majordomo_broker`, with chance instead of coverage.

use std::collections::BTreeMap;
use std::time::Duration;

use testkit::{Clock, Random};
use tidings_zmtp::Message;

use super::super::*;
use crate::wire::{Body, ReadyOptions, RequestOptions, Wire, WorkerCommand};

struct Operations {
    random: Random,
    clock: Clock,
    broker: Broker,
    tokens: BTreeMap<PeerKey, Vec<Bytes>>,
    local_tokens: Vec<(LocalWorkerId, u64)>,
    locals: Vec<LocalWorkerId>,
    last: Option<(PeerKey, TransmitKind)>,
}

impl Operations {
    fn new(seed: u64) -> Self {
        let (mut random, clock) = (Random::seeded(seed), Clock::new());
        let config = BrokerConfig {
            max_waiting: 8,
            max_waiting_octets: 2000,
            max_total_octets: 6000,
            max_requests: 32,
            max_services: 4,
            max_unserved: 3,
            max_unserved_of_client: 2,
            max_workers: 5,
            max_concurrency: 4,
            max_per_client: 6,
            max_attempts: 2,
            max_keys: 4,
            max_key_octets: 4000,
            max_body: 400,
            max_events: 8,
            request_age: Duration::from_secs(5),
            ..BrokerConfig::default()
        };
        let mut broker = Broker::new(config, random.next_u64(), clock.now());
        broker.set_permit(Box::new(|peer: PeerKey, _, service: &ServiceName| {
            peer != PeerKey(5) || service.as_bytes() != [b's', 4]
        }));
        let (tokens, local_tokens, locals, last) = Default::default();
        Self { random, clock, broker, tokens, local_tokens, locals, last }
    }

    fn below(&mut self, most: u64) -> u64 {
        self.random.within(0..=most - 1)
    }

    fn peer(&mut self) -> PeerKey {
        PeerKey(self.below(6))
    }

    fn wire(&mut self) -> Wire {
        match self.below(12) {
            place @ 0..6 => Wire::ALL[place as usize],
            _ => Wire::Tidings,
        }
    }

    fn service(&mut self) -> ServiceName {
        ServiceName::new(vec![b's', self.below(6).saturating_sub(1) as u8]).unwrap()
    }

    fn body(&mut self) -> Body {
        (0..self.below(3)).map(|_| Bytes::from(vec![b'x'; self.below(160) as usize])).collect()
    }

    fn options(&mut self) -> RequestOptions {
        RequestOptions {
            deadline: (self.below(2) == 0).then(|| Duration::from_millis(self.below(9000))),
            key: (self.below(3) == 0).then(|| vec![b'k', self.below(3) as u8].into()),
            repeatable: self.below(4) > 0,
            attempt: 1,
        }
    }

    fn step(&mut self) {
        let (now, peer, wire) = (self.clock.now(), self.peer(), self.wire());
        let message = match self.below(100) {
            0..3 => Message::multipart((0..self.below(8)).map(|_| match self.below(4) {
                0 => Bytes::new(),
                1 => ["MDPC01", "MDPW01", "MDPC02", "MDPW02", "MDPCT1", "MDPWT1"][self.below(6) as usize].into(),
                _ => vec![self.below(10) as u8; self.below(10) as usize].into(),
            })),
            3..15 => {
                let options = ReadyOptions {
                    concurrency: 1 + self.below(5) as u32,
                    heartbeat: (self.below(3) == 0).then(|| Duration::from_millis(1 + self.below(2000))),
                };
                WorkerCommand::Ready { service: self.service(), options }.encode(wire).unwrap()
            }
            15..45 => {
                let (id, service) = (self.below(8), self.service());
                // The same key mostly comes with the same body
                let options = self.options();
                let body = match &options.key {
                    Some(key) if self.below(8) > 0 => [key.clone()].into_iter().collect(),
                    _ => self.body(),
                };
                ClientCommand::Request { id, service, options, body }.encode(wire).unwrap()
            }
            45..49 => ClientCommand::Cancel { id: self.below(8) }.encode(Wire::Tidings).unwrap(),
            49..69 => {
                // Its own, or now and then another worker's
                let owner = if self.below(40) == 0 { self.peer() } else { peer };
                let known = self.tokens.get(&owner).cloned().unwrap_or_default();
                let recent = known.len().saturating_sub(1 + self.below(4) as usize);
                let Some(token) = known.get(recent).cloned() else { return };
                let (body, text) = (self.body(), Bytes::new());
                let answer = match self.below(5) {
                    0 => WorkerCommand::Partial { token, body },
                    1 => WorkerCommand::Refused { token, status: Status::WORKER_FAILED, text },
                    _ => WorkerCommand::Final { token, body },
                };
                let registered = self.broker.worker_stats(now, None).into_iter().find(|of| of.peer == Some(peer));
                let wire = registered.and_then(|of| Wire::from_name(of.wire)).unwrap_or(wire);
                match answer.encode(wire) {
                    Ok(message) => message,
                    Err(_) => return,
                }
            }
            69..72 => WorkerCommand::Heartbeat.encode(wire).unwrap(),
            72 => WorkerCommand::Disconnect.encode(wire).unwrap(),
            73 => WorkerCommand::Draining.encode(Wire::Tidings).unwrap(),
            74..79 => return self.broker.handle_gone(now, peer),
            79..82 => {
                let why = if self.below(2) == 0 { Unsent::Full } else { Unsent::Gone };
                let (to, kind) = self.last.take().unwrap_or((peer, TransmitKind::Reply));
                return self.broker.handle_unsent(now, to, kind, why);
            }
            82..88 => {
                let most = [50, 1000, 10_000][self.below(3) as usize];
                self.clock.advance(Duration::from_millis(self.random.within(0..=most)));
                self.broker.handle_timeout(self.clock.now());
                let next = self.broker.poll_timeout();
                assert!(next.is_none_or(|next| next > self.clock.now()), "time would stand still");
                return;
            }
            88 => {
                let service = self.service();
                return self.locals.extend(self.broker.add_local_worker(now, &service, 2));
            }
            89..92 => {
                let (service, options, body) = (self.service(), self.options(), self.body());
                self.broker.local_request(now, &service, options, body);
                return;
            }
            92..95 => {
                if let Some((worker, token)) = self.local_tokens.pop() {
                    let reply = LocalReply::Final(self.body());
                    self.broker.local_reply(now, worker, token, reply);
                }
                return;
            }
            95 => {
                if let Some(worker) = self.locals.pop() {
                    self.broker.remove_local_worker(now, worker);
                }
                return;
            }
            96..98 => {
                let names = ["mmi.service", "mmi.services", "mmi.workers", "mmi.stats", "mmi.drain", "mmi.x"];
                let (service, about) = (names[self.below(6) as usize].parse().unwrap(), self.service());
                let body = [about.into_bytes()].into_iter().collect();
                ClientCommand::Request { id: 99, service, options: RequestOptions::default(), body }
                    .encode(wire)
                    .unwrap()
            }
            98 => {
                let service = self.service();
                self.broker.drain(now, &service);
                return;
            }
            _ => match self.below(30) {
                0 => {
                    self.broker.finish_stop(now);
                    return assert_eq!(self.broker.outstanding(), 0);
                }
                1 => return self.broker.begin_stop(now),
                _ => return,
            },
        };
        self.broker.handle_message(now, peer, message);
    }

    fn settle(&mut self) {
        while let Some(transmit) = self.broker.poll_transmit() {
            self.last = Some((transmit.to, transmit.kind));
            if let TransmitKind::Request(token) = transmit.kind {
                self.tokens.entry(transmit.to).or_default().push(token.to_be_bytes().to_vec().into());
            }
        }
        while let Some(local) = self.broker.poll_local() {
            if let Local::Request { worker, token, .. } = local {
                self.local_tokens.push((worker, token));
            }
        }
        while self.broker.poll_event().is_some() {}
        self.broker.check().unwrap();
    }

    fn run(mut self) {
        for _ in 0..400 {
            self.step();
            self.settle();
        }
        // Whatever happened, time ends it all, but for what workers in this process owe
        for worker in std::mem::take(&mut self.locals) {
            self.broker.remove_local_worker(self.clock.now(), worker);
            self.settle();
        }
        for _ in 0..40 {
            self.clock.advance(Duration::from_secs(100));
            self.broker.handle_timeout(self.clock.now());
            self.settle();
        }
        assert_eq!((self.broker.outstanding(), self.broker.stats(self.clock.now()).requests), (0, 0));
    }
}

#[test]
fn any_sequence_of_operations_leaves_the_books_right() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let (first, seeds) = (number("OPERATIONS_SEED"), number("OPERATIONS").unwrap_or(300));
    for seed in first.map_or(0..seeds, |seed| seed..seed + 1) {
        let outcome = std::panic::catch_unwind(|| Operations::new(seed).run());
        assert!(outcome.is_ok(), "seed {seed}: run it again with OPERATIONS_SEED={seed}");
    }
}
