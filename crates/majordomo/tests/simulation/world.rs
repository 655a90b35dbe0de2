//! The world of one seed: connections that delay and cut, a broker that is restarted, and time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::{Duration, Instant};

use testkit::{Clock, Random};
use tidings_majordomo::broker::{
    Broker, BrokerConfig, BrokerEvent, Counter, PeerKey, Transmit, TransmitKind, Unsent, WorkerAt,
};
use tidings_majordomo::wire::{Command, ServiceName, Wire, WorkerCommand, WorkerOrder, decode};
use tidings_socket::{Bytes, Message};

use crate::clients::Client;
use crate::workers::Worker;

pub(crate) const SERVICES: [&str; 3] = ["echo", "count", "slow"];

pub(crate) struct World {
    pub(crate) clock: Clock,
    pub(crate) random: Random,
    pub(crate) totals: Totals,
    broker: Broker,
    config: BrokerConfig,
    restarts: u64,
    events: BinaryHeap<Reverse<(Instant, u64, Event)>>,
    made: u64,
    connections: Vec<Connection>,
    clients: Vec<Client>,
    workers: Vec<Worker>,
    /// What the broker's messages say of workers: service, concurrency, and the tokens they owe an answer
    registered: BTreeMap<PeerKey, Registered>,
    /// Those that said or were sent DISCONNECT, or were taken for dead: they are no workers any more
    dismissed: BTreeSet<PeerKey>,
    /// Nothing goes wrong any more
    pub(crate) is_calm: bool,
    /// Until when the broker does nothing
    stalled_until: Option<Instant>,
    is_told: bool,
}

struct Registered {
    service: ServiceName,
    concurrency: usize,
    owes: BTreeSet<Bytes>,
    /// Its connection didn't take a request, and it was not heard from since
    is_stalled: bool,
}

/// What happens at an instant
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Event {
    /// The next message of a connection arrives at the broker
    AtBroker(usize),
    /// The next message of a connection arrives at the peer
    AtPeer(usize),
    BrokerSeesGone(usize),
    PeerSeesGone(usize),
    Client(usize),
    Worker(usize),
    /// A worker has something to say about a job
    Job(usize, u64),
    Beat(usize, usize),
    /// Somebody lets a service run dry
    Drain(usize),
    /// The broker is not scheduled for a while
    Stall,
    Restart,
    Calm,
}

/// One connection: messages keep their order, and are lost when it is cut
struct Connection {
    owner: Owner,
    to_broker: std::collections::VecDeque<Message>,
    to_peer: std::collections::VecDeque<Message>,
    last_to_broker: Instant,
    last_to_peer: Instant,
    is_open: bool,
    /// The broker that it leads to
    of_broker: u64,
    is_known_gone: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Client(usize),
    Worker(usize),
}

macro_rules! totals {
    ($($name:ident)+) => {
        /// What happened in all seeds
        #[derive(Debug, Default)]
        pub(crate) struct Totals { $(pub(crate) $name: u64,)+ }

        impl Totals {
            pub(crate) fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)+
            }

            pub(crate) fn counts(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)+]
            }
        }
    };
}

totals! {
    steps requests replies refusals partials expired cancelled client_gone retried late restarts cuts repeated joined
    replayed died_idle died_at_work died_after_a_part hung refused_by_worker answered_twice drained turned_away stalled
    out_of_attempts not_repeated queue_full duplicate_ids no_such_service silent
    slow_clients pushed_out stalls dried gave_up
}

impl World {
    pub(crate) fn new(seed: u64, is_told: bool) -> Self {
        let mut random = Random::seeded(seed);
        let clock = Clock::new();
        let config = config(&mut random);
        let broker = Broker::new(config.clone(), random.next_u64(), clock.now());
        let clients = (0..random.within(1..=5)).map(|_| Client::new(&mut random)).collect();
        let workers = (0..random.within(1..=6)).map(|_| Worker::new(&mut random)).collect();
        let mut world = Self {
            clock,
            random,
            totals: Totals::default(),
            broker,
            config,
            restarts: 0,
            events: BinaryHeap::new(),
            made: 0,
            connections: Vec::new(),
            clients,
            workers,
            registered: BTreeMap::new(),
            dismissed: BTreeSet::new(),
            is_calm: false,
            stalled_until: None,
            is_told,
        };
        (0..world.clients.len()).for_each(|client| world.soon(1000, Event::Client(client)));
        (0..world.workers.len()).for_each(|worker| world.soon(3000, Event::Worker(worker)));
        for _ in 0..world.random.within(0..=2) {
            world.soon(STORM_MILLIS, Event::Restart);
        }
        for _ in 0..world.random.within(0..=1) {
            world.soon(STORM_MILLIS, Event::Stall);
            let service = world.random.within(0..=2) as usize;
            world.soon(STORM_MILLIS, Event::Drain(service));
        }
        world.after(Duration::from_millis(STORM_MILLIS), Event::Calm);
        world
    }

    pub(crate) fn run(mut self) -> Totals {
        let end = self.clock.now() + Duration::from_millis(STORM_MILLIS + CALM_MILLIS);
        loop {
            let event = self.events.peek().map(|Reverse((at, ..))| *at);
            let timer = self.broker.poll_timeout();
            let next = [event, timer].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            // Whatever is due meanwhile is seen afterwards, and timers may be looked at first
            let stalled_until = self.stalled_until.take();
            let next = stalled_until.map_or(next, |until| until.max(next));
            self.clock.advance_to(next);
            if timer.is_some_and(|timer| timer <= next) {
                let silent = self.broker.counter(Counter::WorkerSilent);
                self.broker.handle_timeout(self.clock.now());
                let now_silent = self.broker.counter(Counter::WorkerSilent);
                assert!(stalled_until.is_none() || silent == now_silent, "it was the broker that was silent");
                self.settle();
            }
            while self.events.peek().is_some_and(|Reverse((at, ..))| *at <= next) {
                let Some(Reverse((_, _, event))) = self.events.pop() else { break };
                self.tell(|| format!("{event:?}"));
                self.handle(event);
                self.settle();
            }
        }
        self.check_end();
        self.totals
    }

    pub(crate) fn tell(&self, what: impl FnOnce() -> String) {
        if self.is_told {
            println!("{:>9.3} {}", self.clock.elapsed().as_secs_f64(), what());
        }
    }

    /// One chance in so many, while things go wrong
    pub(crate) fn chance(&mut self, of: u64) -> bool {
        !self.is_calm && self.random.within(1..=of) == 1
    }

    pub(crate) fn after(&mut self, time: Duration, event: Event) {
        self.made += 1;
        self.events.push(Reverse((self.clock.now() + time, self.made, event)));
    }

    /// Within so many milliseconds
    pub(crate) fn soon(&mut self, millis: u64, event: Event) {
        let time = Duration::from_micros(self.random.within(0..=millis * 1000));
        self.after(time, event);
    }

    pub(crate) fn connect(&mut self, owner: Owner) -> usize {
        let now = self.clock.now();
        self.connections.push(Connection {
            owner,
            to_broker: Default::default(),
            to_peer: Default::default(),
            last_to_broker: now,
            last_to_peer: now,
            is_open: true,
            of_broker: self.restarts,
            is_known_gone: false,
        });
        self.connections.len() - 1
    }

    pub(crate) fn is_open(&self, connection: usize) -> bool {
        self.connections[connection].is_open
    }

    /// A peer says something
    pub(crate) fn say(&mut self, connection: usize, message: Message) {
        let delay = self.delay();
        let to = &mut self.connections[connection];
        if !to.is_open {
            return;
        }
        to.to_broker.push_back(message);
        to.last_to_broker = to.last_to_broker.max(self.clock.now() + delay);
        let at = to.last_to_broker - self.clock.now();
        self.after(at, Event::AtBroker(connection));
    }

    /// The peer ends a connection, or it breaks; what is on the way may be lost
    pub(crate) fn cut(&mut self, connection: usize) {
        let loses = self.random.within(0..=1) == 0;
        let delay = self.delay();
        let now = self.clock.now();
        let cut = &mut self.connections[connection];
        if !std::mem::replace(&mut cut.is_open, false) {
            return;
        }
        cut.to_peer.clear();
        if loses {
            let kept = cut.to_broker.len() / 2;
            cut.to_broker.truncate(kept);
        }
        let gone = cut.last_to_broker.max(now + delay) - now;
        self.totals.cuts += 1;
        self.after(gone, Event::BrokerSeesGone(connection));
    }

    fn delay(&mut self) -> Duration {
        let slowest = if self.random.within(0..=9) == 0 { 700_000 } else { 3_000 };
        Duration::from_micros(self.random.within(50..=slowest))
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::AtBroker(connection) => self.handle_at_broker(connection),
            Event::AtPeer(connection) => {
                let from = &mut self.connections[connection];
                let (owner, is_open) = (from.owner, from.is_open);
                if let Some(message) = from.to_peer.pop_front()
                    && is_open
                {
                    match owner {
                        Owner::Client(client) => {
                            self.with_client(client, |of, world| of.hear(world, client, connection, message))
                        }
                        Owner::Worker(worker) => {
                            self.with_worker(worker, |of, world| of.hear(world, worker, connection, message))
                        }
                    }
                }
            }
            Event::BrokerSeesGone(connection) => {
                let gone = &mut self.connections[connection];
                if gone.of_broker == self.restarts && !std::mem::replace(&mut gone.is_known_gone, true) {
                    self.registered.remove(&PeerKey(connection as u64));
                    self.broker.handle_gone(self.clock.now(), PeerKey(connection as u64));
                }
            }
            Event::PeerSeesGone(connection) => match self.connections[connection].owner {
                Owner::Client(client) => self.with_client(client, |of, world| of.lost(world, client, connection)),
                Owner::Worker(worker) => self.with_worker(worker, |of, world| of.lost(world, worker, connection)),
            },
            Event::Client(client) => self.with_client(client, |of, world| of.act(world, client)),
            Event::Worker(worker) => self.with_worker(worker, |of, world| of.act(world, worker)),
            Event::Job(worker, job) => self.with_worker(worker, |of, world| of.work(world, worker, job)),
            Event::Beat(worker, connection) => self.with_worker(worker, |of, world| of.beat(world, worker, connection)),
            Event::Drain(service) => {
                let name = SERVICES[service].parse().unwrap();
                self.totals.dried += u64::from(self.broker.drain(self.clock.now(), &name));
            }
            Event::Stall => {
                self.totals.stalls += 1;
                let millis = self.random.within(2000..=6000);
                self.stalled_until = Some(self.clock.now() + Duration::from_millis(millis));
            }
            Event::Restart => self.restart(),
            Event::Calm => {
                self.is_calm = true;
                (0..self.workers.len()).for_each(|worker| self.soon(500, Event::Worker(worker)));
            }
        }
    }

    fn with_client(&mut self, index: usize, act: impl FnOnce(&mut Client, &mut Self)) {
        let mut client = std::mem::take(&mut self.clients[index]);
        act(&mut client, self);
        self.clients[index] = client;
    }

    fn with_worker(&mut self, index: usize, act: impl FnOnce(&mut Worker, &mut Self)) {
        let mut worker = std::mem::take(&mut self.workers[index]);
        act(&mut worker, self);
        self.workers[index] = worker;
    }

    fn handle_at_broker(&mut self, connection: usize) {
        let from = &mut self.connections[connection];
        let Some(message) = from.to_broker.pop_front() else { return };
        if from.of_broker != self.restarts || from.is_known_gone {
            return;
        }
        let peer = PeerKey(connection as u64);
        self.note_heard(peer, &message);
        self.broker.handle_message(self.clock.now(), peer, message);
    }

    /// What a worker's message to the broker means for what it owes
    fn note_heard(&mut self, peer: PeerKey, message: &Message) {
        let Ok(Command::Worker(command)) = decode(message.clone()).map(|incoming| incoming.command) else { return };
        let mut worker = self.registered.get_mut(&peer);
        if let Some(worker) = &mut worker {
            worker.is_stalled = false;
        }
        match (command, worker) {
            (WorkerCommand::Ready { service, options }, None) if !self.dismissed.contains(&peer) => {
                let concurrency = options.concurrency as usize;
                self.registered
                    .insert(peer, Registered { service, concurrency, owes: BTreeSet::new(), is_stalled: false });
            }
            (WorkerCommand::Final { token, .. } | WorkerCommand::Refused { token, .. }, Some(worker)) => {
                worker.owes.remove(&token);
            }
            (WorkerCommand::Disconnect, _) => self.dismiss(peer),
            // It is no worker for us, but may not begin anew
            (WorkerCommand::Draining, Some(_)) => self.dismiss(peer),
            _ => {}
        }
    }

    fn dismiss(&mut self, peer: PeerKey) {
        self.registered.remove(&peer);
        self.dismissed.insert(peer);
    }

    /// What a message to a worker means
    fn note_sent(&mut self, peer: PeerKey, wire: Wire, message: &Message) {
        let Ok(order) = WorkerOrder::decode(message.clone(), wire) else { return };
        match order {
            WorkerOrder::Request { token, options, .. } => {
                assert!(options.attempt <= self.config.max_attempts, "it was given to enough workers");
                let worker = self.registered.get_mut(&peer).expect("a worker that registered and is there");
                assert!(worker.owes.insert(token), "a token is used twice");
                assert!(
                    worker.owes.len() <= worker.concurrency,
                    "a worker of {} that takes {} has {}",
                    worker.service,
                    worker.concurrency,
                    worker.owes.len()
                );
            }
            WorkerOrder::Disconnect | WorkerOrder::Drain => self.dismiss(peer),
            WorkerOrder::Heartbeat | WorkerOrder::Cancel { .. } => {}
        }
    }

    /// Carries away what the broker says, and looks at its books
    fn settle(&mut self) {
        self.totals.steps += 1;
        while let Some(Transmit { to, message, kind }) = self.broker.poll_transmit() {
            let connection = to.0 as usize;
            let owner = self.connections[connection].owner;
            if self.connections[connection].is_known_gone {
                continue;
            }
            // A connection that is full
            if kind != TransmitKind::Order && self.chance(60) {
                self.totals.stalled += 1;
                self.tell(|| format!("       {to:?} does not take {kind:?}"));
                self.broker.handle_unsent(self.clock.now(), to, kind, Unsent::Full);
                if let (TransmitKind::Request(_), Some(worker)) = (kind, self.registered.get_mut(&to)) {
                    worker.is_stalled = true;
                }
                // As the driver does: a client that doesn't read is disconnected
                if let (TransmitKind::Reply, Owner::Client(_)) = (kind, owner) {
                    self.connections[connection].is_known_gone = true;
                    self.cut(connection);
                    self.soon(700, Event::PeerSeesGone(connection));
                }
                continue;
            }
            if let Owner::Worker(worker) = owner {
                let wire = self.workers[worker].wire;
                self.note_sent(to, wire, &message);
            }
            let delay = self.delay();
            let from = &mut self.connections[connection];
            if from.is_open {
                from.to_peer.push_back(message);
                from.last_to_peer = from.last_to_peer.max(self.clock.now() + delay);
                let at = from.last_to_peer - self.clock.now();
                self.after(at, Event::AtPeer(connection));
            }
        }
        while let Some(event) = self.broker.poll_event() {
            self.tell(|| format!("       {event:?}"));
            if let BrokerEvent::WorkerLeft { worker: WorkerAt::Peer(peer), .. }
            | BrokerEvent::WorkerTurnedAway { peer, .. } = event
            {
                self.dismiss(peer);
            }
        }
        if let Err(wrong) = self.broker.check() {
            panic!("{wrong}");
        }
        for service in SERVICES {
            let name: ServiceName = service.parse().unwrap();
            let waiting = self.broker.waiting(&name);
            let has_room = |worker: &&Registered| {
                worker.service == name && worker.owes.len() < worker.concurrency && !worker.is_stalled
            };
            let idle = self.registered.values().find(has_room);
            assert!(waiting == 0 || idle.is_none(), "{waiting} wait for {service} while a worker has room");
        }
    }

    fn restart(&mut self) {
        self.count_endings();
        self.totals.restarts += 1;
        self.restarts += 1;
        self.broker = Broker::new(self.config.clone(), self.random.next_u64(), self.clock.now());
        self.registered.clear();
        for connection in 0..self.connections.len() {
            let cut = &mut self.connections[connection];
            if std::mem::replace(&mut cut.is_open, false) {
                self.soon(50, Event::PeerSeesGone(connection));
            }
        }
    }

    fn count_endings(&mut self) {
        let count = |counter| self.broker.counter(counter);
        let totals = &mut self.totals;
        totals.expired += count(Counter::Expired);
        totals.cancelled += count(Counter::Cancelled);
        totals.client_gone += count(Counter::ClientGone);
        totals.retried += count(Counter::Retried);
        totals.late += count(Counter::LateReply) + count(Counter::ReplyAfterCancel) + count(Counter::ReplyToGoneClient);
        totals.joined += count(Counter::KeyJoined);
        totals.replayed += count(Counter::KeyReplayed);
        totals.turned_away += count(Counter::AfterDisconnect) + count(Counter::ReplyUnknown);
        totals.out_of_attempts += count(Counter::OutOfAttempts);
        totals.not_repeated += count(Counter::NotRepeated);
        totals.queue_full += count(Counter::QueueFull);
        totals.duplicate_ids += count(Counter::DuplicateId);
        totals.no_such_service += count(Counter::NoSuchService);
        totals.silent += count(Counter::WorkerSilent);
        totals.slow_clients += count(Counter::SlowClient);
        totals.pushed_out += count(Counter::ServicePushedOut);
    }

    fn check_end(&mut self) {
        self.count_endings();
        assert_eq!(self.broker.outstanding(), 0, "everything has ended at the broker");
        for (index, client) in self.clients.iter().enumerate() {
            client.check_end(index);
        }
        let stats = self.broker.stats(self.clock.now());
        assert_eq!((stats.requests, stats.octets), (0, 0), "and nothing is kept");
    }
}

fn config(random: &mut Random) -> BrokerConfig {
    let mut few = |most: u64| if random.within(0..=3) == 0 { random.within(1..=most) as usize } else { 10_000 };
    BrokerConfig {
        max_waiting: few(4),
        max_waiting_octets: few(6) * 400,
        max_per_client: few(3),
        max_services: few(3),
        max_workers: few(4),
        max_keys: few(3),
        max_requests: few(10),
        max_attempts: few(3) as u32,
        absence: Duration::from_millis(few(2000) as u64 % 3000),
        key_ttl: Duration::from_millis(few(3000) as u64 + 100),
        request_age: REQUEST_AGE,
        max_deadline: REQUEST_AGE,
        heartbeat_interval: Duration::from_millis(500),
        ..BrokerConfig::default()
    }
}

/// How long requests wait that say nothing else
pub(crate) const REQUEST_AGE: Duration = Duration::from_secs(5);
/// How long things go wrong
const STORM_MILLIS: u64 = 10_000;
/// How long there is then for all to end: longer than a request and a silent worker last together
const CALM_MILLIS: u64 = 14_000;
