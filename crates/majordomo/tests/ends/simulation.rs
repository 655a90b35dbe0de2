//! The states of clients, workers and broker on one virtual clock, with everything between them going wrong.
//!
//! Messages take their time, connections fail and are cut with messages on the way, the broker is restarted, handlers are
//! slow or never end, clients lose patience. Whatever happens: a request ends once and in time, with its own reply and
//! nobody else's; what is not repeatable is begun once; no worker runs more than it declared; and when the trouble is
//! over everybody is served. `SIMULATION_SEED=7` runs one seed, `SIMULATIONS=100000` more of them.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use testkit::{Clock, Random};
use tidings_majordomo::broker::{Broker, BrokerConfig, PeerKey};
use tidings_majordomo::client::{NewRequest, Outgoing, RequestId, Requests, RequestsConfig};
use tidings_majordomo::wire::{Body, RequestOptions, Status, Wire};
use tidings_majordomo::worker::{JobEvent, JobId, Jobs, JobsConfig};
use tidings_majordomo::{Action, ConversationId, Failure, Loss, RequestError};
use tidings_socket::Message;

#[test]
fn every_request_ends_once_whatever_happens_between() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIMULATIONS").unwrap_or(DEFAULT_SEEDS),
    };
    let is_one = seeds.end - seeds.start == 1;
    let mut totals = BTreeMap::new();
    for seed in seeds {
        let ended = std::panic::catch_unwind(|| World::new(seed).run());
        let ended = ended.unwrap_or_else(|_| panic!("seed {seed}: run it again with SIMULATION_SEED={seed}"));
        ended.into_iter().for_each(|(name, count)| *totals.entry(name).or_insert(0) += count);
    }
    println!("{totals:#?}");
    // What never happens is not tested
    for name in ["replied", "refused", "expired", "lost", "given-up", "late", "resent", "cut", "restart", "failed-open"]
    {
        assert!(is_one || totals.get(name).is_some_and(|count| *count > 0), "'{name}' never happened: {totals:#?}");
    }
}

/// Whose conversation
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum End {
    Client(usize),
    Worker(usize),
}

#[derive(Debug)]
enum Happening {
    /// The transport is there and the handshake done, or not
    Opened(End, ConversationId, bool),
    ToBroker(PeerKey, Message),
    ToEnd(PeerKey, Message),
    /// The broker notices that a connection is gone
    Gone(PeerKey),
    Cut,
    Restart,
    Ask(usize),
    GiveUp(usize, RequestId),
    Done(usize, JobId),
}

/// A request that a client made, and what became of it
#[derive(Debug)]
struct Asked {
    body: u64,
    due: Duration,
}

struct World {
    random: Random,
    clock: Clock,
    wire: Wire,
    broker: Broker,
    clients: Vec<Requests>,
    workers: Vec<Jobs>,
    concurrency: Vec<u32>,
    /// What each worker's handlers have: the body to echo
    running: Vec<HashMap<JobId, Body>>,
    asked: Vec<HashMap<RequestId, Asked>>,
    connections: HashMap<PeerKey, (End, ConversationId)>,
    /// Messages of a connection stay in order, each way
    last: HashMap<(PeerKey, bool), Duration>,
    queue: BTreeMap<(Duration, u64), Happening>,
    serial: u64,
    bodies: u64,
    once: HashMap<u64, u32>,
    totals: BTreeMap<&'static str, u64>,
    is_troubled: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::seeded(seed);
        let clock = Clock::new();
        let wire = Wire::ALL[random.within(0..=8).min(5) as usize];
        let clients = (0..random.within(1..=3)).map(|index| {
            let config = RequestsConfig { wire, max_conversations: 3, ..RequestsConfig::default() };
            Requests::new(config, seed ^ index)
        });
        let clients: Vec<_> = clients.collect();
        let concurrency: Vec<u32> = (0..random.within(1..=3)).map(|_| random.within(1..=4) as u32).collect();
        let workers = concurrency.iter().map(|concurrency| {
            let config = JobsConfig { wire, concurrency: *concurrency, ..JobsConfig::new("echo".parse().unwrap()) };
            Jobs::new(config, random.next_u64())
        });
        let workers: Vec<_> = workers.collect();
        let mut world = Self {
            broker: Broker::new(BrokerConfig::default(), seed, clock.now()),
            wire,
            asked: clients.iter().map(|_| HashMap::new()).collect(),
            running: workers.iter().map(|_| HashMap::new()).collect(),
            clients,
            workers,
            concurrency,
            connections: HashMap::new(),
            last: HashMap::new(),
            queue: BTreeMap::new(),
            serial: 0,
            bodies: 0,
            once: HashMap::new(),
            totals: BTreeMap::new(),
            is_troubled: true,
            random,
            clock,
        };
        for _ in 0..world.random.within(10..=60) {
            let (at, client) = (world.within(0..=TROUBLE), world.random.within(0..=2) as usize % world.clients.len());
            world.at(at, Happening::Ask(client));
        }
        for _ in 0..world.random.within(0..=6) {
            let at = world.within(0..=TROUBLE);
            world.at(at, Happening::Cut);
        }
        for _ in 0..world.random.within(0..=2) {
            let at = world.within(0..=TROUBLE);
            world.at(at, Happening::Restart);
        }
        world
    }

    fn run(mut self) -> BTreeMap<&'static str, u64> {
        self.settle();
        while self.clock.elapsed() < Duration::from_millis(TROUBLE) {
            self.step();
        }
        // The trouble is over, and whatever was asked in it ends
        self.is_troubled = false;
        let quiet = self.clock.elapsed() + Duration::from_secs(120);
        while self.clock.elapsed() < quiet {
            self.step();
        }
        for (client, asked) in self.asked.iter().enumerate() {
            assert!(asked.is_empty(), "{asked:?}");
            assert_eq!(self.clients[client].counts().in_flight, 0);
        }
        // And everybody is served
        for client in 0..self.clients.len() {
            let before = self.count("replied");
            self.ask(client, false);
            let until = self.clock.elapsed() + Duration::from_secs(20);
            while self.clock.elapsed() < until && !self.asked[client].is_empty() {
                self.step();
            }
            assert_eq!(self.count("replied"), before + 1, "client {client} is not served on {}", self.wire);
        }
        let counts: Vec<_> = self.clients.iter().map(Requests::counts).collect();
        self.totals.insert("late", counts.iter().map(|counts| counts.late_replies).sum());
        self.totals.insert("resent", counts.iter().map(|counts| counts.resent).sum());
        assert!(counts.iter().all(|counts| counts.malformed == 0));
        self.totals
    }

    fn count(&self, name: &str) -> u64 {
        self.totals.get(name).copied().unwrap_or_default()
    }

    fn tally(&mut self, name: &'static str) {
        *self.totals.entry(name).or_default() += 1;
    }

    fn within(&mut self, millis: std::ops::RangeInclusive<u64>) -> Duration {
        Duration::from_millis(self.random.within(millis))
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.random.within(1..=100) <= percent
    }

    fn at(&mut self, time: Duration, happening: Happening) {
        self.serial += 1;
        self.queue.insert((time, self.serial), happening);
    }

    fn after(&mut self, time: Duration, happening: Happening) {
        self.at(self.clock.elapsed() + time, happening);
    }

    /// Goes to whatever is next: something that happens, or a deadline of one of the states
    fn step(&mut self) {
        let ends = self.clients.iter().filter_map(Requests::poll_timeout);
        let ends = ends.chain(self.workers.iter().filter_map(Jobs::poll_timeout)).chain(self.broker.poll_timeout());
        let due = ends.min().map(|due| due.max(self.clock.now()) - self.clock.now() + self.clock.elapsed());
        let happens = self.queue.first_key_value().map(|((time, _), _)| *time);
        if let Some(happens) = happens.filter(|happens| due.is_none_or(|due| *happens <= due)) {
            self.clock.advance(happens.saturating_sub(self.clock.elapsed()));
            let (_, happening) = self.queue.pop_first().unwrap();
            self.happen(happening);
        } else {
            let due = due.expect("a client looks for its broker, or a worker beats");
            self.clock.advance(due.saturating_sub(self.clock.elapsed()));
            let now = self.clock.now();
            self.clients.iter_mut().for_each(|client| client.handle_timeout(now));
            self.workers.iter_mut().for_each(|worker| worker.handle_timeout(now));
            if self.broker.poll_timeout().is_some_and(|due| due <= now) {
                self.broker.handle_timeout(now);
            }
        }
        self.settle();
    }

    fn happen(&mut self, happening: Happening) {
        let now = self.clock.now();
        match happening {
            Happening::Opened(end, id, true) => {
                self.serial += 1;
                let peer = PeerKey(self.serial);
                self.connections.insert(peer, (end, id));
                let announced = (self.wire == Wire::Tidings).then_some(Wire::Tidings);
                match end {
                    End::Client(index) => self.clients[index].handle_open(now, id, announced),
                    End::Worker(index) => self.workers[index].handle_open(now, id, announced),
                }
            }
            Happening::Opened(end, id, false) => {
                self.tally("failed-open");
                self.lose(end, id);
            }
            Happening::ToBroker(peer, message) => self.broker.handle_message(now, peer, message),
            Happening::ToEnd(peer, message) => match self.connections.get(&peer).copied() {
                Some((End::Client(index), id)) => self.clients[index].handle_message(now, id, message),
                Some((End::Worker(index), id)) => self.workers[index].handle_message(now, id, message),
                None => {}
            },
            Happening::Gone(peer) => self.broker.handle_gone(now, peer),
            Happening::Cut => {
                let mut all: Vec<_> = self.connections.keys().copied().collect();
                all.sort_unstable();
                if !all.is_empty() {
                    let index = self.random.within(0..=all.len() as u64 - 1) as usize;
                    self.cut(all[index]);
                }
            }
            Happening::Restart => {
                self.tally("restart");
                let mut all: Vec<_> = self.connections.keys().copied().collect();
                all.sort_unstable();
                all.into_iter().for_each(|peer| self.cut(peer));
                self.queue.retain(|_, happening| !matches!(happening, Happening::ToBroker(..) | Happening::Gone(_)));
                self.broker = Broker::new(BrokerConfig::default(), self.random.next_u64(), now);
            }
            Happening::Ask(client) => {
                let once = self.chance(20);
                self.ask(client, once);
            }
            Happening::GiveUp(client, id) => {
                if self.asked[client].remove(&id).is_some() {
                    self.tally("given-up");
                    self.clients[client].cancel(now, id);
                }
            }
            Happening::Done(worker, job) => {
                if let Some(body) = self.running[worker].remove(&job) {
                    let fails = self.is_troubled && self.wire == Wire::Tidings && self.chance(10);
                    let failure = Failure::new(Status::WORKER_FAILED, "as the dice fell");
                    self.workers[worker].handle_done(now, job, if fails { Err(failure) } else { Ok(body) });
                }
            }
        }
    }

    fn ask(&mut self, client: usize, once: bool) {
        self.bodies += 1;
        let body = self.bodies;
        let time = if self.is_troubled { self.within(50..=8000) } else { Duration::from_secs(19) };
        // Action and JSON, as Domogik's wire needs them
        let frames = [format!("do.{body}"), format!("{{\"n\":{body}}}")];
        let options = RequestOptions { deadline: Some(time), repeatable: !once, ..RequestOptions::default() };
        let new = NewRequest {
            service: "echo".parse().unwrap(),
            body: frames.into_iter().map(Into::into).collect(),
            options,
        };
        if once {
            self.once.insert(body, 0);
        }
        let id = self.clients[client].request(self.clock.now(), new).unwrap();
        self.asked[client].insert(id, Asked { body, due: self.clock.elapsed() + time });
        if self.is_troubled && self.chance(15) {
            let patience = self.within(0..=2000);
            self.after(patience, Happening::GiveUp(client, id));
        }
    }

    /// Cuts a connection with all that is on the way
    fn cut(&mut self, peer: PeerKey) {
        let Some((end, id)) = self.connections.remove(&peer) else { return };
        self.tally("cut");
        self.queue.retain(|_, happening| match happening {
            Happening::ToBroker(of, _) | Happening::ToEnd(of, _) => *of != peer,
            _ => true,
        });
        let notice = self.within(0..=300);
        self.after(notice, Happening::Gone(peer));
        self.lose(end, id);
    }

    fn lose(&mut self, end: End, id: ConversationId) {
        let (now, loss) = (self.clock.now(), Loss::Connection("cut".into()));
        match end {
            End::Client(index) => self.clients[index].handle_lost(now, id, &loss),
            End::Worker(index) => self.workers[index].handle_lost(now, id, loss),
        }
    }

    /// Does what the states ask for, until they ask for nothing more
    fn settle(&mut self) {
        for index in 0..self.clients.len() {
            while let Some(outgoing) = self.clients[index].poll_transmit() {
                self.send(End::Client(index), outgoing);
            }
            while let Some(action) = self.clients[index].poll_action() {
                self.act(End::Client(index), action);
            }
            while let Some(id) = self.clients[index].poll_news() {
                self.collect(index, id);
            }
        }
        for index in 0..self.workers.len() {
            while let Some(outgoing) = self.workers[index].poll_transmit() {
                self.send(End::Worker(index), outgoing);
            }
            while let Some(action) = self.workers[index].poll_action() {
                self.act(End::Worker(index), action);
            }
            while let Some(event) = self.workers[index].poll_event() {
                self.on_job(index, event);
            }
        }
        while let Some(transmit) = self.broker.poll_transmit() {
            self.deliver(transmit.to, false, transmit.message);
        }
        while self.broker.poll_event().is_some() {}
    }

    fn send(&mut self, end: End, outgoing: Outgoing) {
        let known = self.connections.iter().find(|(_, of)| **of == (end, outgoing.conversation));
        if let Some((peer, _)) = known {
            self.deliver(*peer, true, outgoing.message);
        }
    }

    /// Puts a message on its way, behind what is on it already
    fn deliver(&mut self, peer: PeerKey, to_broker: bool, message: Message) {
        let slow = if self.is_troubled && self.chance(5) { 400 } else { 3 };
        let arrives = self.clock.elapsed() + self.within(0..=slow);
        let last = self.last.entry((peer, to_broker)).or_default();
        *last = (*last).max(arrives);
        let arrives = *last;
        let happening = if to_broker { Happening::ToBroker(peer, message) } else { Happening::ToEnd(peer, message) };
        self.at(arrives, happening);
    }

    fn act(&mut self, end: End, action: Action) {
        match action {
            Action::Open(id) => {
                let (time, fails) = (self.within(0..=20), self.is_troubled && self.chance(20));
                self.after(time, Happening::Opened(end, id, !fails));
            }
            Action::Close(id) => {
                self.queue.retain(
                    |_, happening| !matches!(happening, Happening::Opened(of, about, _) if (*of, *about) == (end, id)),
                );
                let known = self.connections.iter().find(|(_, of)| **of == (end, id)).map(|(peer, _)| *peer);
                if let Some(peer) = known {
                    self.connections.remove(&peer);
                    // What it said last arrives before its end does
                    let last = self.last.get(&(peer, true)).copied().unwrap_or_default();
                    self.at(last.max(self.clock.elapsed()), Happening::Gone(peer));
                }
            }
        }
    }

    fn collect(&mut self, client: usize, id: RequestId) {
        let Some(outcome) = self.clients[client].take_outcome(id) else { return };
        assert!(self.clients[client].take_outcome(id).is_none(), "a request ends once");
        let asked = self.asked[client].remove(&id).expect("nobody waits for it");
        assert!(self.clock.elapsed() <= asked.due + Duration::from_millis(1), "{asked:?} ended late");
        match outcome.result {
            Ok(body) => {
                assert_eq!(body[0], format!("do.{}", asked.body), "another request's reply on {}", self.wire);
                self.tally("replied");
            }
            Err(RequestError::Refused { .. }) => self.tally("refused"),
            Err(RequestError::DeadlinePassed { .. }) => self.tally("expired"),
            Err(RequestError::ConnectionLost) => {
                assert!(self.once.contains_key(&asked.body), "{asked:?} might have been sent again");
                self.tally("lost");
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn on_job(&mut self, worker: usize, event: JobEvent) {
        match event {
            JobEvent::Start(job) => {
                let number: u64 = std::str::from_utf8(&job.body[0]).unwrap().trim_start_matches("do.").parse().unwrap();
                if let Some(times) = self.once.get_mut(&number) {
                    *times += 1;
                    // Only our own wire tells the broker
                    assert!(*times == 1 || self.wire != Wire::Tidings, "{number} was begun twice");
                }
                self.running[worker].insert(job.id, job.body);
                let running = self.running[worker].len();
                assert!(running <= self.concurrency[worker] as usize, "{running} at once");
                let time = match self.is_troubled && self.chance(10) {
                    true => self.within(1000..=15_000),
                    false => self.within(0..=100),
                };
                self.after(time, Happening::Done(worker, job.id));
            }
            JobEvent::Cancel { job, .. } if self.chance(50) => self.after(Duration::ZERO, Happening::Done(worker, job)),
            JobEvent::Ended(reason) => panic!("{reason:?}: nobody wanted that"),
            _ => {}
        }
    }
}

/// Milliseconds in which things go wrong
const TROUBLE: u64 = 20_000;
/// As many as run in a few seconds without optimisation
const DEFAULT_SEEDS: u64 = 150;
