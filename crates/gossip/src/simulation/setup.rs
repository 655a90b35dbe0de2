//! What network is simulated.

use std::time::Duration;

use super::links::LinkModel;
use super::network::{LocalClock, Network, PartyId};
use super::random::Random;
use super::topology::Topology;
use crate::config::{NodeConfig, Presence};

/// A network as it is at its start
#[derive(Clone, Debug)]
pub struct Setup {
    /// How many nodes
    pub nodes: usize,
    /// Who dials whom
    pub topology: Topology,
    /// What links do to messages
    pub link: LinkModel,
    /// How far wall clocks are apart at most; each is somewhere within
    pub clocks_apart: Duration,
    /// By how many millionths clocks run fast or slow at most
    pub drift_ppm: u32,
    /// Of every node; its `presence` and `overlay` are decided by [`network`](Self::network)
    pub node: NodeConfig,
    /// Whom nodes know as members; `None`: all in networks of up to [`ALL_KNOWN`](Self::ALL_KNOWN), neighbours in larger ones
    pub presence: Option<Presence>,
    /// Decides all that chance does
    pub seed: u64,
}

impl Setup {
    /// The most nodes that all know each other as members, unless it is asked for
    pub const ALL_KNOWN: usize = 2000;

    /// A network of that shape: latencies around 20 ms, no loss, clocks up to 100 ms apart and 50 millionths wrong
    #[must_use]
    pub fn new(nodes: usize, topology: Topology, seed: u64) -> Self {
        Self {
            nodes: nodes.max(2),
            topology,
            link: LinkModel::default(),
            clocks_apart: Duration::from_millis(100),
            drift_ppm: 50,
            node: NodeConfig::default(),
            presence: None,
            seed,
        }
    }

    /// Whom its nodes know
    #[must_use]
    pub fn presence(&self) -> Presence {
        let usual = if self.nodes > Self::ALL_KNOWN { Presence::Links } else { Presence::All };
        self.presence.unwrap_or(usual)
    }

    /// A round: the interval of digests on an active link
    #[must_use]
    pub fn round(&self) -> Duration {
        self.node.digest_interval
    }

    /// All nodes, told to connect; nothing has happened yet
    #[must_use]
    pub fn network(&self) -> Network {
        let mut random = Random::seeded(self.seed ^ WIRING);
        let mut network = Network::new(self.seed, self.link);
        for number in 0..self.nodes {
            let config = NodeConfig {
                name: format!("node-{number}"),
                presence: self.presence(),
                overlay: self.topology == Topology::Overlay,
                ..self.node.clone()
            };
            network.add(config, self.clock(&mut random));
        }
        for (from, to) in self.topology.wiring(self.nodes, &mut random) {
            network.connect(PartyId(from), PartyId(to));
        }
        network
    }

    fn clock(&self, random: &mut Random) -> LocalClock {
        let apart = self.clocks_apart.as_micros() as u64;
        let drift = u64::from(self.drift_ppm);
        LocalClock {
            ahead_micros: random.within(0..=apart) as i64 - apart as i64 / 2,
            drift_ppm: random.within(0..=2 * drift) as i64 - drift as i64,
        }
    }
}

/// So that who dials whom is not decided by the same numbers as what happens then
const WIRING: u64 = 0x5eed_51aa;
