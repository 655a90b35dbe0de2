//! A stage for short stories: a broker, a clock that stands still, and peers that say and hear things.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use testkit::Clock;
use tidings_zmtp::Message;

use super::super::*;
use crate::wire::{Body, ClientReply, ReadyOptions, RequestOptions, Wire, WorkerCommand};

pub(super) struct Stage {
    pub(super) broker: Broker,
    clock: Clock,
    inboxes: BTreeMap<PeerKey, VecDeque<Message>>,
    next_peer: u64,
}

/// A peer and its wire
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Actor {
    pub(super) peer: PeerKey,
    pub(super) wire: Wire,
}

pub(super) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) fn name(service: &str) -> ServiceName {
    service.parse().unwrap()
}

pub(super) fn body(text: &str) -> Body {
    [Bytes::copy_from_slice(text.as_bytes())].into_iter().collect()
}

pub(super) fn no_options() -> RequestOptions {
    RequestOptions::default()
}

pub(super) fn in_time(deadline: Duration) -> RequestOptions {
    RequestOptions { deadline: Some(deadline), ..Default::default() }
}

pub(super) fn keyed(key: &'static str) -> RequestOptions {
    RequestOptions { key: Some(key.into()), ..Default::default() }
}

pub(super) fn once() -> RequestOptions {
    RequestOptions { repeatable: false, ..Default::default() }
}

/// The usual one, except that it loses hope sooner
pub(super) fn config() -> BrokerConfig {
    BrokerConfig { absence: secs(1), ..BrokerConfig::default() }
}

impl Stage {
    /// A broker that was started long enough ago for unknown services to be unknown
    pub(super) fn new() -> Self {
        Self::with(config())
    }

    pub(super) fn with(config: BrokerConfig) -> Self {
        let mut stage = Self::just_started(config);
        stage.wait(secs(2));
        stage
    }

    pub(super) fn just_started(config: BrokerConfig) -> Self {
        let clock = Clock::new();
        let broker = Broker::new(config, 1, clock.now());
        Self { broker, clock, inboxes: BTreeMap::new(), next_peer: 1 }
    }

    pub(super) fn now(&self) -> Instant {
        self.clock.now()
    }

    pub(super) fn peer(&mut self, wire: Wire) -> Actor {
        let peer = PeerKey(self.next_peer);
        self.next_peer += 1;
        Actor { peer, wire }
    }

    /// A worker that has registered
    pub(super) fn worker(&mut self, wire: Wire, service: &str, concurrency: u32) -> Actor {
        let worker = self.peer(wire);
        self.ready(worker, service, concurrency);
        worker
    }

    pub(super) fn ready(&mut self, worker: Actor, service: &str, concurrency: u32) {
        let options = ReadyOptions { concurrency, heartbeat: None };
        self.work(worker, WorkerCommand::Ready { service: name(service), options });
    }

    /// A message as it is
    pub(super) fn say(&mut self, from: Actor, message: Message) {
        self.broker.handle_message(self.clock.now(), from.peer, message);
        self.collect();
    }

    pub(super) fn work(&mut self, worker: Actor, command: WorkerCommand) {
        self.say(worker, command.encode(worker.wire).unwrap());
    }

    pub(super) fn beat(&mut self, worker: Actor) {
        self.work(worker, WorkerCommand::Heartbeat);
    }

    pub(super) fn ask(&mut self, client: Actor, id: u64, service: &str, options: RequestOptions, text: &str) {
        let command = ClientCommand::Request { id, service: name(service), options, body: body(text) };
        self.say(client, command.encode(client.wire).unwrap());
    }

    pub(super) fn cancel(&mut self, client: Actor, id: u64) {
        self.say(client, ClientCommand::Cancel { id }.encode(client.wire).unwrap());
    }

    pub(super) fn answer(&mut self, worker: Actor, token: &Bytes, text: &str) {
        self.work(worker, WorkerCommand::Final { token: token.clone(), body: body(text) });
    }

    pub(super) fn leave(&mut self, actor: Actor) {
        self.broker.handle_gone(self.clock.now(), actor.peer);
        self.collect();
    }

    /// Lets time pass, with every timeout on the way
    pub(super) fn wait(&mut self, time: Duration) {
        let until = self.clock.now() + time;
        while let Some(next) = self.broker.poll_timeout().filter(|next| *next <= until) {
            self.clock.advance_to(next);
            self.broker.handle_timeout(self.clock.now());
            self.collect();
        }
        self.clock.advance_to(until);
        self.broker.handle_timeout(until);
        self.collect();
    }

    /// Time passes, and the broker sees it only afterwards
    pub(super) fn pause(&mut self, time: Duration) {
        self.clock.advance(time);
        self.broker.handle_timeout(self.clock.now());
        self.collect();
    }

    /// As `wait`, while workers go on beating
    pub(super) fn wait_beating(&mut self, time: Duration, workers: &[Actor]) {
        let until = self.clock.now() + time;
        while self.clock.now() < until {
            self.wait(Duration::from_millis(500).min(until - self.clock.now()));
            workers.iter().for_each(|worker| self.beat(*worker));
        }
    }

    pub(super) fn collect(&mut self) {
        while let Some(transmit) = self.broker.poll_transmit() {
            self.inboxes.entry(transmit.to).or_default().push_back(transmit.message);
        }
    }

    pub(super) fn messages(&mut self, of: Actor) -> Vec<Message> {
        self.collect();
        self.inboxes.remove(&of.peer).unwrap_or_default().into()
    }

    /// What a worker has heard, heartbeats left out
    pub(super) fn orders(&mut self, worker: Actor) -> Vec<WorkerOrder> {
        let orders =
            self.messages(worker).into_iter().map(|message| WorkerOrder::decode(message, worker.wire).unwrap());
        orders.filter(|order| *order != WorkerOrder::Heartbeat).collect()
    }

    /// The one request that a worker was given: its token and its text
    pub(super) fn given(&mut self, worker: Actor) -> (Bytes, String) {
        let (token, text, _) = self.given_with_options(worker);
        (token, text)
    }

    pub(super) fn given_with_options(&mut self, worker: Actor) -> (Bytes, String, RequestOptions) {
        let orders = self.orders(worker);
        let [WorkerOrder::Request { token, body, options }] = &orders[..] else { panic!("{orders:?}") };
        (token.clone(), String::from_utf8(body[0].to_vec()).unwrap(), options.clone())
    }

    pub(super) fn replies(&mut self, client: Actor) -> Vec<ClientReply> {
        let replies = self.messages(client).into_iter();
        replies.map(|message| ClientReply::decode(message, client.wire).unwrap()).collect()
    }

    /// The texts of final replies, refusals as their status
    pub(super) fn answers(&mut self, client: Actor) -> Vec<(u64, String)> {
        let replies = self.replies(client).into_iter();
        let text = |body: &Body| body.iter().map(|frame| String::from_utf8_lossy(frame).into_owned()).collect();
        replies
            .map(|reply| match reply {
                ClientReply::Final { id, body, .. } => (id, text(&body)),
                ClientReply::Partial { id, body, .. } => (id, format!("{}..", text(&body))),
                ClientReply::Refused { id, status, .. } => (id, status.code().to_string()),
            })
            .collect()
    }

    pub(super) fn counted(&self, counter: Counter) -> u64 {
        self.broker.counter(counter)
    }

    pub(super) fn events(&mut self) -> Vec<BrokerEvent> {
        std::iter::from_fn(|| self.broker.poll_event()).collect()
    }

    pub(super) fn locals(&mut self) -> Vec<Local> {
        std::iter::from_fn(|| self.broker.poll_local()).collect()
    }

    pub(super) fn service(&self, service: &str) -> ServiceStats {
        let stats = self.broker.stats(self.clock.now());
        stats.services.into_iter().find(|stats| stats.service == name(service)).unwrap()
    }

    /// Nobody waits, and nothing is kept
    pub(super) fn is_at_rest(&self) -> bool {
        let stats = self.broker.stats(self.clock.now());
        stats.outstanding == 0 && stats.requests == 0 && stats.octets == 0
    }
}
