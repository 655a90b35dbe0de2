//! What happens in a network of a few nodes: made by chance, printable, and made shorter when it fails.

use std::fmt;
use std::time::{Duration, Instant};

use tidings_gossip::NodeConfig;
use tidings_gossip::simulation::{Ending, Latency, LinkModel, Random, Setup, Topology};

/// A small network and what is done to it
#[derive(Clone, Debug)]
pub(crate) struct Story {
    pub(crate) setup: Setup,
    /// When, from the beginning, and what; in order
    pub(crate) deeds: Vec<(Duration, Deed)>,
}

/// Something that is done to the network; nodes and keys by their numbers
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Deed {
    Put {
        node: usize,
        key: u8,
    },
    PutFor {
        node: usize,
        key: u8,
        time: Duration,
    },
    PutSession {
        node: usize,
        key: u8,
    },
    /// The value that it put last, if it was for a time, for that time again
    Refresh {
        node: usize,
    },
    Remove {
        node: usize,
        key: u8,
    },
    /// Two write at the same time
    Conflict {
        one: usize,
        other: usize,
        key: u8,
    },
    /// Many small changes in one turn
    Burst {
        node: usize,
        count: u8,
    },
    Stop {
        node: usize,
        ending: Ending,
    },
    Start {
        node: usize,
    },
    /// Starts with a wall clock that is behind by so much
    StartBehind {
        node: usize,
        millis: u64,
    },
    Cut {
        one: usize,
        other: usize,
    },
    Stall {
        one: usize,
        other: usize,
        time: Duration,
    },
    Pause {
        node: usize,
        time: Duration,
    },
    /// Nodes whose bit is set are apart from the others
    Partition {
        mask: u32,
    },
    Heal,
    Loss {
        percent: u8,
    },
}

impl Story {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::seeded(seed);
        let nodes = random.within(2..=7) as usize;
        let topology = match random.within(0..=5) {
            0 => Topology::Ring,
            1 => Topology::Star,
            2 => Topology::Full,
            3 => Topology::Overlay,
            _ => Topology::Mesh(random.within(1..=3) as usize),
        };
        let mut setup = Setup::new(nodes, topology, seed);
        setup.link = LinkModel {
            latency: match random.within(0..=3) {
                0 => Latency::Fixed(Duration::ZERO),
                1 => Latency::Uniform(Duration::from_millis(1), Duration::from_millis(300)),
                _ => Latency::LogNormal(Duration::from_millis(random.within(1..=50))),
            },
            loss: [0.0, 0.0, 0.05, 0.2][random.index(4)],
            bandwidth: random.chance(0.2).then(|| random.within(5_000..=100_000)),
            queue: if random.chance(0.5) { 2000 } else { 1 << 20 },
        };
        setup.clocks_apart = Duration::from_millis([0, 100, 3000][random.index(3)]);
        setup.node = NodeConfig {
            fan_out: random.within(1..=4) as usize,
            // So that deletions are forgotten while things go on
            tombstone_time: Duration::from_secs([3, 10, 3600][random.index(3)]),
            degree: random.within(1..=4) as usize,
            ..NodeConfig::default()
        };
        let mut story = Self { setup, deeds: Vec::new() };
        let keys = random.within(1..=6) as u8;
        let mut at = Duration::ZERO;
        let hurry = [50, 400, 3000][random.index(3)];
        let end = Duration::from_secs(40);
        while at < end {
            at += Duration::from_millis(random.within(0..=hurry * 2));
            let deed = story.deed(keys, &mut random);
            story.deeds.push((at, deed));
        }
        story
    }

    fn deed(&self, keys: u8, random: &mut Random) -> Deed {
        let nodes = self.setup.nodes;
        let node = random.index(nodes);
        let (one, other) = (node, random.index(nodes));
        let key = random.index(keys.into()) as u8;
        let mut millis = |most: u64| Duration::from_millis(random.within(1..=most));
        match millis(100).as_millis() {
            0..=29 => Deed::Put { node, key },
            30..=37 => Deed::PutFor { node, key, time: millis(10_000) },
            38..=42 => Deed::Refresh { node },
            43..=47 => Deed::PutSession { node, key },
            48..=62 => Deed::Remove { node, key },
            63..=67 => Deed::Conflict { one, other, key },
            68..=69 => Deed::Burst { node, count: random.within(10..=150) as u8 },
            70..=75 => {
                let ending = [Ending::Leave, Ending::Kill, Ending::Vanish][random.index(3)];
                Deed::Stop { node, ending }
            }
            76..=82 => Deed::Start { node },
            83 => Deed::StartBehind { node, millis: random.within(0..=5000) },
            84..=87 => Deed::Cut { one, other },
            88..=90 => Deed::Stall { one, other, time: millis(8000) },
            91..=92 => Deed::Pause { node, time: millis(4000) },
            93..=95 => Deed::Partition { mask: random.next_u64() as u32 & ((1 << nodes) - 1) },
            96..=98 => Deed::Heal,
            _ => Deed::Loss { percent: [0, 5, 20, 50][random.index(4)] },
        }
    }

    /// With as few deeds as still fail
    pub(crate) fn shortened(&self, fails: impl Fn(&Self) -> bool) -> Self {
        let mut story = self.clone();
        let began = Instant::now();
        let mut chunk = story.deeds.len();
        while chunk > 0 && began.elapsed() < PATIENCE {
            let mut from = 0;
            while from < story.deeds.len() && began.elapsed() < PATIENCE {
                let mut shorter = story.clone();
                shorter.deeds.drain(from..(from + chunk).min(shorter.deeds.len()));
                if fails(&shorter) {
                    story = shorter;
                } else {
                    from += chunk;
                }
            }
            chunk /= 2;
        }
        story
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Setup { nodes, topology, link, clocks_apart, node, .. } = &self.setup;
        writeln!(f, "{nodes} nodes, {topology}; {link:?}; clocks {clocks_apart:?} apart")?;
        writeln!(f, "fan-out {}, degree {}, tombstones {:?}", node.fan_out, node.degree, node.tombstone_time)?;
        self.deeds.iter().try_for_each(|(at, deed)| writeln!(f, "{:>9.3} {deed:?}", at.as_secs_f64()))
    }
}

/// How long a story is made shorter
const PATIENCE: Duration = Duration::from_secs(15);
