//! The works of `cargo xtask bench gossip`: networks in one process, ours and of CZMQ's zgossip, and what they cost until
//! every node knows everything, and at rest.

use super::script::{Contestant, Part, Side, Step};
use super::statistics::Unit;
use super::works::{Kind, OURS, Pick, Work, absolute, of};

/// One network
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Gossip {
    nodes: usize,
    topology: Topology,
    /// How many tuples each node publishes
    each: usize,
    /// How long it is looked at when everything is everywhere
    rest_seconds: u64,
}

/// Who connects to whom
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Topology {
    /// Each to the next
    Ring,
    /// All to the first
    Star,
    /// At random, connected, so that a node has four links on average
    Mesh,
}

/// In the order of the table
pub(super) fn gossip_works() -> Vec<Work> {
    let mut works = Vec::new();
    for (group, each) in [(IN_ALL, None), (EACH, Some(TUPLES))] {
        for topology in [Topology::Ring, Topology::Star, Topology::Mesh] {
            for nodes in [5, 20, 50] {
                let network = Gossip { nodes, topology, each: each.unwrap_or(TUPLES / nodes), rest_seconds: 0 };
                let name = match each {
                    None => format!("{} of {nodes}", topology.name()),
                    Some(_) => format!("{} of {nodes}, 1,000 tuples a node", topology.name()),
                };
                let work = Work::new(group, name, Kind::Gossip(network))
                    .ask(CONVERGENCE, Unit::Seconds, Pick::MayTell("seconds"), [of(CZMQ, 0.5)])
                    .ask(
                        "on the wire",
                        Unit::Octets,
                        Pick::Told("octets"),
                        (topology == Topology::Mesh).then(|| of(CZMQ, 0.25)),
                    );
                works.push(if nodes == 20 || (nodes, topology) == (50, Topology::Mesh) && each.is_none() {
                    work.quick()
                } else {
                    work
                });
            }
        }
    }
    let at_rest = |nodes, topology: Topology, each, tuples: &str| {
        let network = Gossip { nodes, topology, each, rest_seconds: REST_SECONDS };
        Work::new(AT_REST, format!("{} of {nodes} at rest, {tuples}", topology.name()), Kind::Gossip(network)).ask(
            "a node and second",
            Unit::Octets,
            Pick::Told("rest_octets_a_node_and_second"),
            [absolute(DIGESTS)],
        )
    };
    works.extend([
        at_rest(50, Topology::Ring, 20, "1,000 tuples"),
        at_rest(50, Topology::Star, 20, "1,000 tuples"),
        at_rest(50, Topology::Mesh, 20, "1,000 tuples").quick(),
        at_rest(20, Topology::Mesh, 50, "1,000 tuples"),
        at_rest(20, Topology::Mesh, 1000, "20,000 tuples"),
    ]);
    works
}

impl Gossip {
    /// Who takes part, in the order of their turns
    pub(super) fn contestants(self) -> Vec<Contestant> {
        let mut all = vec![Contestant { side: Side::Ours, label: OURS }, Contestant { side: Side::Czmq, label: CZMQ }];
        if self.rest_seconds == 0 {
            all.push(Contestant { side: Side::Czmq, label: CZMQ_DEFAULTS });
        }
        all
    }

    pub(super) fn steps(self, contestant: Contestant) -> Vec<Step> {
        let Self { nodes, each, rest_seconds, .. } = self;
        let links: Vec<String> = self.links().iter().map(|(from, to)| format!("{from}-{to}")).collect();
        let more = match contestant.label {
            CZMQ => format!(" timeout=0 deadline={DEADLINE}"),
            CZMQ_DEFAULTS => format!(" deadline={DEADLINE_OF_DEFAULTS}"),
            _ => format!(" deadline={DEADLINE}"),
        };
        let network = format!("nodes={nodes} links={} each={each} size=20 quiet={QUIET_MS}", links.join(","));
        let arguments = format!("{network} rest={rest_seconds}{more}");
        vec![Step::new(contestant.side, Part::Connects, "gossip", &arguments).tells()]
    }

    /// Each as who connects and to whom; the same for every side and every run
    fn links(self) -> Vec<(usize, usize)> {
        let nodes = self.nodes;
        match self.topology {
            Topology::Ring => (0..nodes).map(|node| (node, (node + 1) % nodes)).collect(),
            Topology::Star => (1..nodes).map(|node| (node, 0)).collect(),
            Topology::Mesh => {
                let mut draws = Draws(SEED);
                // A tree first, so that it is connected
                let mut links: Vec<_> = (1..nodes).map(|node| (node, draws.below(node))).collect();
                let wanted = (nodes * MEAN_DEGREE / 2).min(nodes * (nodes - 1) / 2);
                while links.len() < wanted {
                    let (from, to) = (draws.below(nodes), draws.below(nodes));
                    if from != to && !links.iter().any(|link| [(from, to), (to, from)].contains(link)) {
                        links.push((from, to));
                    }
                }
                links
            }
        }
    }
}

impl Topology {
    fn name(self) -> &'static str {
        match self {
            Self::Ring => "ring",
            Self::Star => "star",
            Self::Mesh => "mesh",
        }
    }
}

/// Numbers that look random and are the same each time: Steele, Lea and Flood's SplitMix64
struct Draws(u64);

impl Draws {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}

/// With `server/timeout` 0: clients that were quiet are not forgotten
pub(super) const CZMQ: &str = "CZMQ";
/// As it comes: whoever was quiet for a second is forgotten
pub(super) const CZMQ_DEFAULTS: &str = "CZMQ, defaults";

const IN_ALL: &str = "1,000 tuples in all";
const EACH: &str = "1,000 tuples a node";
const AT_REST: &str = "At rest";
const CONVERGENCE: &str = "until all know all";
const TUPLES: usize = 1000;
const MEAN_DEGREE: usize = 4;
const SEED: u64 = 6;
const REST_SECONDS: u64 = 10;
/// How long a network stands before there is news: CZMQ's nodes forget each other after a second
const QUIET_MS: u64 = 2000;
/// In seconds
const DEADLINE: u64 = 120;
const DEADLINE_OF_DEFAULTS: u64 = 10;
/// What digests and probes may take, headers of TCP and IP included
const DIGESTS: f64 = 2000.0;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn networks_are_connected_and_as_dense_as_they_say() {
        for (nodes, topology, count) in [
            (5, Topology::Ring, 5),
            (20, Topology::Star, 19),
            (5, Topology::Mesh, 10),
            (20, Topology::Mesh, 40),
            (50, Topology::Mesh, 100),
        ] {
            let links = Gossip { nodes, topology, each: 1, rest_seconds: 0 }.links();
            assert_eq!(links.len(), count, "{topology:?} of {nodes}");
            let mut known = HashSet::from([0]);
            for _ in 0..nodes {
                for (from, to) in &links {
                    if known.contains(from) || known.contains(to) {
                        known.extend([*from, *to]);
                    }
                }
            }
            assert_eq!(known.len(), nodes, "{topology:?} of {nodes}");
        }
    }

    #[test]
    fn both_sides_get_the_same_network() {
        for work in gossip_works() {
            let Kind::Gossip(network) = work.kind else { panic!("{}", work.name) };
            let told: Vec<String> = network
                .contestants()
                .into_iter()
                .map(|one| {
                    let steps = network.steps(one);
                    steps[0]
                        .arguments
                        .iter()
                        .filter(|word| !word.starts_with("timeout") && !word.starts_with("deadline"))
                        .cloned()
                        .collect::<Vec<_>>()
                        .join(" ")
                })
                .collect();
            assert!(told.iter().all(|words| *words == told[0]), "{}", work.name);
        }
    }
}
