//! What happens in a simulated network, and what is measured of it.
//!
//! A run goes through phases: all begin and fetch tuples, a rest, then whatever the [`Plan`] says, one after the other, each on
//! a network that has come to agreement (or ran out of time for it).

use std::time::{Duration, Instant};

use serde::Serialize;

use super::network::{Ending, Network, PartyId};
use super::random::Random;
use super::setup::Setup;
use super::traffic::{Count, Traffic};
use super::watch::Spread;
use crate::record::Lifetime;

/// What is done to a network
#[derive(Clone, Debug)]
pub struct Plan {
    /// Tuples that there are before anything is measured
    pub tuples: usize,
    /// Single changes on a network at rest
    pub changes: usize,
    /// By how many different nodes
    pub writers: usize,
    /// Octets of each value
    pub value: usize,
    /// Then as many changes a second by chance, for [`LOAD`](Self::LOAD); 0: none
    pub load: f64,
    /// Then that many nodes write one key at the same time; 0: none
    pub conflict: usize,
    /// Then the network is in two halves for so long, with changes in both
    pub partition: Option<Duration>,
    /// Then half of the nodes are killed and start again
    pub restart_half: bool,
    /// Then so many restarts a minute for [`CHURN`](Self::CHURN), with changes meanwhile; 0: none
    pub churn: f64,
    /// How long each phase may take to come to agreement
    pub limit: Duration,
    /// Rounds in which what it costs at rest is measured; before, it has two thirds as many to come to rest
    pub rest_rounds: u32,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            tuples: 100,
            changes: 20,
            writers: 20,
            value: 32,
            load: 0.0,
            conflict: 0,
            partition: None,
            restart_half: false,
            churn: 0.0,
            limit: Duration::from_secs(120),
            rest_rounds: 48,
        }
    }
}

impl Plan {
    /// How long changes go on at the rate of `load`
    pub const LOAD: Duration = Duration::from_secs(20);
    /// How long nodes come and go
    pub const CHURN: Duration = Duration::from_secs(60);
}

/// What a run found
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Nodes
    pub nodes: usize,
    /// The shape of the network
    pub topology: String,
    /// The share of messages lost
    pub loss: f64,
    /// Latency of the links
    pub latency: String,
    /// Whom nodes know as members
    pub presence: String,
    /// Decides all that chance did
    pub seed: u64,
    /// Seconds of a round
    pub round_seconds: f64,
    /// Links when all had settled
    pub links: usize,
    /// Of them, those that changes go over
    pub active_links: usize,
    /// Whether all agreed before anything was measured
    pub settled: bool,
    /// What a node sends a second at rest
    pub rest: Cost,
    /// At rest, of each kind of message
    pub rest_kinds: Vec<KindCost>,
    /// Each phase
    pub phases: Vec<Phase>,
    /// Seconds of the simulated network
    pub simulated_seconds: f64,
    /// Seconds that the run took
    pub took_seconds: f64,
}

/// Messages and octets, as parts of something
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Cost {
    /// Messages
    pub messages: f64,
    /// Octets, ZMTP's headers included
    pub octets: f64,
}

/// What one kind of message costs
#[derive(Clone, Debug, Serialize)]
pub struct KindCost {
    /// As the wire names it
    pub kind: &'static str,
    /// In the unit of what it is a part of
    pub cost: Cost,
}

/// What one phase found
#[derive(Clone, Debug, Serialize)]
pub struct Phase {
    /// What happened
    pub name: String,
    /// Whether all knew everything in the end
    pub complete: bool,
    /// Seconds until half, 99 % and all of the nodes knew: the median of the changes
    pub seconds: [Option<f64>; 3],
    /// The same of the slowest change
    pub slowest: [Option<f64>; 3],
    /// What each node sent for each change beyond what it sends at rest
    pub per_change: Option<Cost>,
    /// Of that, what carries, announces and asks for changes: no digests, no probes
    pub spreading: Option<Cost>,
    /// Of each kind of message for each change, rest included
    pub kinds: Vec<KindCost>,
    /// What each node sent a second meanwhile, rest included
    pub per_second: Cost,
    /// Seconds, and the share of nodes that knew by then: the mean of the changes
    pub curve: Vec<(f64, f64)>,
}

/// How far a run has come
#[derive(Clone, Debug)]
pub struct Progress {
    /// What is going on
    pub doing: String,
    /// Time in the network
    pub simulated: Duration,
}

/// Runs a network through a plan; `tell` is called some times a second
pub fn run(setup: &Setup, plan: &Plan, tell: &mut dyn FnMut(&Progress)) -> Outcome {
    let began = Instant::now();
    let mut network = setup.network();
    let mut run = Run {
        random: Random::seeded(setup.seed ^ DEEDS),
        setup,
        plan,
        tell,
        told: began,
        rest: Cost::default(),
        written: 0,
        phases: Vec::new(),
    };
    let settled = run.settle(&mut network);
    let rest_kinds = run.measure_rest(&mut network);
    let (links, active) = link_counts(&network);
    run.go(&mut network);
    Outcome {
        nodes: setup.nodes,
        topology: setup.topology.to_string(),
        loss: setup.link.loss,
        latency: setup.link.latency.to_string(),
        presence: format!("{:?}", setup.presence()).to_lowercase(),
        seed: setup.seed,
        round_seconds: setup.round().as_secs_f64(),
        links,
        active_links: active,
        settled,
        rest: run.rest,
        rest_kinds,
        phases: run.phases,
        simulated_seconds: network.now().as_secs_f64(),
        took_seconds: began.elapsed().as_secs_f64(),
    }
}

struct Run<'a> {
    setup: &'a Setup,
    plan: &'a Plan,
    random: Random,
    tell: &'a mut dyn FnMut(&Progress),
    told: Instant,
    rest: Cost,
    written: usize,
    phases: Vec<Phase>,
}

impl Run<'_> {
    fn go(&mut self, network: &mut Network) {
        if self.plan.changes > 0 {
            self.single_changes(network);
        }
        if self.plan.load > 0.0 {
            self.load(network);
        }
        if self.plan.conflict > 0 {
            self.conflict(network);
        }
        if let Some(time) = self.plan.partition {
            self.partition(network, time);
        }
        if self.plan.restart_half {
            self.restart_half(network);
        }
        if self.plan.churn > 0.0 {
            self.churn(network);
        }
    }

    /// All connect, and fetch what is put by many of them during the first rounds
    fn settle(&mut self, network: &mut Network) -> bool {
        self.pass(network, self.setup.round() * 5, "connecting");
        for number in 0..self.plan.tuples {
            let writer = self.node(network);
            let value = self.value();
            // Quotas are far above; what is refused is seen by the count of tuples
            network.put(writer, format!("kept/{number}"), value, Lifetime::Permanent).ok();
            let pause = self.setup.round() * 10 / self.plan.tuples as u32;
            self.pass(network, pause, "putting tuples");
        }
        self.agree(network, "settling")
    }

    /// What goes over the links while nothing changes, a node and second
    fn measure_rest(&mut self, network: &mut Network) -> Vec<KindCost> {
        let time = self.setup.round() * self.plan.rest_rounds.max(1);
        self.pass(network, time * 2 / 3, "coming to rest");
        let before = network.traffic();
        self.pass(network, time, "measuring the rest");
        let sent = network.traffic() - before;
        let parts = time.as_secs_f64() * network.running() as f64;
        self.rest = cost(sent.total(), parts);
        kinds(sent, parts)
    }

    /// One change after the other, each when the last is known to all
    fn single_changes(&mut self, network: &mut Network) {
        let writers: Vec<PartyId> = (0..self.plan.writers.max(1)).map(|_| self.node(network)).collect();
        let began = (network.now(), network.traffic());
        let mut spreads = Vec::new();
        for number in 0..self.plan.changes {
            let writer = writers[number % writers.len()];
            self.change(network, writer, |run, network, watch| {
                let doing = format!("change {} of {}", number + 1, run.plan.changes);
                run.until_known(network, &[watch], &doing);
                // What it costs to tell those who know already is a part of it
                run.pass(network, run.setup.round() * 2, &doing);
                spreads.push(network.spread(watch));
            });
            network.clear_watches();
        }
        let name = "single changes".to_owned();
        self.report(network, name, &spreads, began, Some(self.plan.changes));
    }

    /// Changes by chance, many at once
    fn load(&mut self, network: &mut Network) {
        let began = (network.now(), network.traffic());
        let mut watches = Vec::new();
        let every = Duration::from_secs_f64(1.0 / self.plan.load);
        let end = network.now() + Plan::LOAD;
        while network.now() < end {
            let writer = self.node(network);
            self.change(network, writer, |_, _, watch| watches.push(watch));
            self.pass(network, every, "changes at a rate");
        }
        self.until_known(network, &watches, "changes at a rate");
        self.pass(network, self.setup.round() * 2, "changes at a rate");
        let spreads: Vec<Spread> = watches.iter().map(|watch| network.spread(*watch)).collect();
        network.clear_watches();
        self.report(network, format!("{} changes a second", self.plan.load), &spreads, began, Some(watches.len()));
    }

    /// Many nodes write one key at once
    fn conflict(&mut self, network: &mut Network) {
        let began = (network.now(), network.traffic());
        let key = self.key();
        for _ in 0..self.plan.conflict {
            let writer = self.node(network);
            let value = self.value();
            network.put(writer, key.clone(), value, Lifetime::Permanent).ok();
        }
        let agreement = self.until_agreed(network, "conflicting writers");
        self.pass(network, self.setup.round() * 2, "conflicting writers");
        self.report(network, format!("{} writers of a key", self.plan.conflict), &[agreement], began, Some(1));
    }

    /// Two halves, both of which change, and then are joined
    fn partition(&mut self, network: &mut Network, time: Duration) {
        let half = self.setup.nodes / 2;
        network.partition(|party| u32::from(party.0 >= half));
        let changes = self.plan.changes.max(2);
        for _ in 0..changes {
            let writer = self.node(network);
            let (key, value) = (self.key(), self.value());
            network.put(writer, key, value, Lifetime::Permanent).ok();
            self.pass(network, time / changes as u32, "partition");
        }
        network.heal();
        let began = (network.now(), network.traffic());
        let agreement = self.until_agreed(network, "after the partition");
        self.pass(network, self.setup.round() * 2, "after the partition");
        let name = format!("healed after {time:?}");
        self.report(network, name, &[agreement], began, Some(changes));
    }

    /// Half of the nodes are killed at once, and start again two seconds later with nothing
    fn restart_half(&mut self, network: &mut Network) {
        let mut all: Vec<usize> = (0..self.setup.nodes).collect();
        self.random.shuffle(&mut all);
        for party in &all[..self.setup.nodes / 2] {
            network.stop(PartyId(*party), Ending::Kill);
        }
        self.pass(network, Duration::from_secs(2), "half of them are down");
        for party in &all[..self.setup.nodes / 2] {
            network.start(PartyId(*party));
        }
        let began = (network.now(), network.traffic());
        let agreement = self.until_agreed(network, "after the restart");
        self.pass(network, self.setup.round() * 2, "after the restart");
        self.report(network, "half restarted".to_owned(), &[agreement], began, None);
    }

    /// Nodes are killed and start again, while others change things
    fn churn(&mut self, network: &mut Network) {
        let began = (network.now(), network.traffic());
        let mut watches = Vec::new();
        let every = Duration::from_secs_f64(60.0 / self.plan.churn);
        let end = network.now() + Plan::CHURN;
        let (mut next_change, mut next_stop) = (network.now(), network.now());
        while network.now() < end {
            if network.now() >= next_stop {
                next_stop += every;
                let stopped = PartyId(self.random.index(self.setup.nodes));
                if network.runs(stopped) && network.running() > self.setup.nodes / 2 {
                    network.stop(stopped, Ending::Kill);
                    network.start_after(stopped, Duration::from_secs(2));
                }
            }
            if network.now() >= next_change {
                next_change += Duration::from_secs(1);
                let writer = self.node(network);
                self.change(network, writer, |_, _, watch| watches.push(watch));
            }
            let next = next_change.min(next_stop).min(end);
            let time = next.saturating_sub(network.now()).max(Duration::from_millis(1));
            self.pass(network, time, "churn");
        }
        self.pass(network, Duration::from_secs(3), "churn");
        self.until_known(network, &watches, "churn");
        let spreads: Vec<Spread> = watches.iter().map(|watch| network.spread(*watch)).collect();
        network.clear_watches();
        self.report(network, format!("{} restarts a minute", self.plan.churn), &spreads, began, Some(watches.len()));
    }

    /// A change by that node, which is watched
    fn change(&mut self, network: &mut Network, writer: PartyId, then: impl FnOnce(&mut Self, &mut Network, usize)) {
        let (key, value) = (self.key(), self.value());
        if let Ok(watch) = network.put_watched(writer, key, value) {
            then(self, network, watch);
        }
    }

    fn until_known(&mut self, network: &mut Network, watches: &[usize], doing: &str) -> bool {
        let limit = self.plan.limit;
        network.run_while(limit, STEP, |network| {
            self.say(network, doing);
            watches.iter().any(|watch| network.knowing(*watch) < network.running())
        })
    }

    fn agree(&mut self, network: &mut Network, doing: &str) -> bool {
        network.run_while(self.plan.limit, STEP, |network| {
            self.say(network, doing);
            !network.agrees()
        })
    }

    /// The share of nodes that have what most have, until it is all of them
    fn until_agreed(&mut self, network: &mut Network, doing: &str) -> Spread {
        let began = network.now();
        let mut spread = Spread::default();
        network.run_while(self.plan.limit, STEP, |network| {
            self.say(network, doing);
            // What all have in the end is not told before: the largest part may change
            let share = network.agreement();
            spread.steps.push((network.now() - began, share));
            share < 1.0
        });
        spread
    }

    fn pass(&mut self, network: &mut Network, time: Duration, doing: &str) {
        let end = network.now() + time;
        while network.now() < end {
            self.say(network, doing);
            network.run_until((network.now() + STEP * 5).min(end));
        }
    }

    fn say(&mut self, network: &Network, doing: &str) {
        if self.told.elapsed() >= TELL {
            self.told = Instant::now();
            (self.tell)(&Progress { doing: doing.to_owned(), simulated: network.now() });
        }
    }

    fn report(
        &mut self,
        network: &Network,
        name: String,
        spreads: &[Spread],
        (since, before): (Duration, Traffic),
        changes: Option<usize>,
    ) {
        let sent = network.traffic() - before;
        let nodes = network.running().max(1) as f64;
        let time = (network.now() - since).as_secs_f64().max(f64::EPSILON);
        let all = cost(sent.total(), nodes);
        let per_change = changes.map(|changes| {
            let (rest, changes) = (self.rest, changes.max(1) as f64);
            Cost {
                messages: (all.messages - rest.messages * time).max(0.0) / changes,
                octets: (all.octets - rest.octets * time).max(0.0) / changes,
            }
        });
        let spreading = SPREADING.iter().fold(Count::default(), |sum, kind| sum + sent.of(kind));
        self.phases.push(Phase {
            name,
            spreading: changes.map(|changes| cost(spreading, nodes * changes.max(1) as f64)),
            complete: !spreads.is_empty() && spreads.iter().all(|spread| spread.until(1.0).is_some()),
            seconds: SHARES.map(|share| median(spreads, share)),
            slowest: SHARES.map(|share| slowest(spreads, share)),
            per_change,
            kinds: kinds(sent, nodes * changes.unwrap_or(1).max(1) as f64),
            per_second: cost(sent.total(), nodes * time),
            curve: mean_curve(spreads),
        });
    }

    /// One that runs, by chance
    fn node(&mut self, network: &Network) -> PartyId {
        loop {
            let party = PartyId(self.random.index(self.setup.nodes));
            if network.runs(party) || network.running() == 0 {
                return party;
            }
        }
    }

    fn key(&mut self) -> String {
        self.written += 1;
        format!("service/{}", self.written)
    }

    fn value(&mut self) -> Vec<u8> {
        let mut value = Vec::with_capacity(self.plan.value + 8);
        while value.len() < self.plan.value {
            value.extend_from_slice(&self.random.next_u64().to_be_bytes());
        }
        value.truncate(self.plan.value);
        value
    }
}

fn link_counts(network: &Network) -> (usize, usize) {
    let active: usize = network.nodes().map(|(_, node)| node.stats().active_links).sum();
    (network.open_connections(), active / 2)
}

fn cost(count: Count, parts: f64) -> Cost {
    Cost { messages: count.messages as f64 / parts, octets: count.octets as f64 / parts }
}

fn kinds(traffic: Traffic, parts: f64) -> Vec<KindCost> {
    traffic.kinds().map(|(kind, count)| KindCost { kind, cost: cost(count, parts) }).collect()
}

/// Of the changes, and `None` if half of them never came so far
fn median(spreads: &[Spread], share: f64) -> Option<f64> {
    let mut times: Vec<Duration> = spreads.iter().map(|spread| spread.until(share).unwrap_or(Duration::MAX)).collect();
    times.sort();
    times.get(times.len() / 2).filter(|time| **time < Duration::MAX).map(Duration::as_secs_f64)
}

/// Of the changes, and `None` if one of them never came so far
fn slowest(spreads: &[Spread], share: f64) -> Option<f64> {
    let times: Option<Vec<Duration>> = spreads.iter().map(|spread| spread.until(share)).collect();
    times?.into_iter().max().map(|time| time.as_secs_f64())
}

fn mean_curve(spreads: &[Spread]) -> Vec<(f64, f64)> {
    let last = spreads.iter().filter_map(|spread| spread.steps.last()).map(|(at, _)| *at).max().unwrap_or_default();
    let mean = |at: Duration| spreads.iter().map(|spread| spread.at(at)).sum::<f64>() / spreads.len().max(1) as f64;
    (0..=POINTS)
        .map(|point| {
            // Points lie closer together at the beginning, where curves are steep
            let share = point as f64 / POINTS as f64;
            last.mul_f64(share * share)
        })
        .map(|at| (at.as_secs_f64(), mean(at)))
        .collect()
}

/// What is asked of each change: when so many knew it
const SHARES: [f64; 3] = [0.5, 0.99, 1.0];
/// The kinds of message that changes themselves travel by
const SPREADING: [&str; 4] = ["records", "have", "want", "prune"];
/// So that what is done is not decided by the same numbers as what happens then
const DEEDS: u64 = 0xdeed_dead_5eed;
/// How often it is looked whether all know
const STEP: Duration = Duration::from_millis(50);
/// How often progress is told
const TELL: Duration = Duration::from_millis(200);
/// Points of a curve
const POINTS: usize = 200;
