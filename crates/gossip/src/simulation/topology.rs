//! Who dials whom.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use super::random::Random;

/// The shape of a network as it was configured: who dials whom at the start
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topology {
    /// Each dials the next, the last the first
    Ring,
    /// All dial the first
    Star,
    /// Each has about so many links, to others by chance; all hang together
    Mesh(usize),
    /// Each is linked with each
    Full,
    /// All dial the first, and find others through it by themselves
    Overlay,
}

impl Topology {
    /// The links of a network of that many nodes, as (who dials, who is dialled)
    pub fn wiring(self, nodes: usize, random: &mut Random) -> Vec<(usize, usize)> {
        match self {
            Self::Ring if nodes > 2 => (0..nodes).map(|node| (node, (node + 1) % nodes)).collect(),
            Self::Ring | Self::Star | Self::Overlay => {
                (1..nodes).map(|node| (node, if self == Self::Ring { node - 1 } else { 0 })).collect()
            }
            Self::Full => (0..nodes).flat_map(|one| (one + 1..nodes).map(move |other| (one, other))).collect(),
            Self::Mesh(degree) => mesh(nodes, degree, random),
        }
    }

    /// How many links that makes for that many nodes, about
    pub fn link_count(self, nodes: usize) -> usize {
        match self {
            Self::Ring | Self::Star | Self::Overlay => nodes,
            Self::Mesh(degree) => nodes * degree / 2,
            Self::Full => nodes * nodes.saturating_sub(1) / 2,
        }
    }
}

/// Random links until each node has about its degree, then more until all hang together
fn mesh(nodes: usize, degree: usize, random: &mut Random) -> Vec<(usize, usize)> {
    let degree = degree.clamp(1, nodes.saturating_sub(1).max(1));
    let mut links = BTreeSet::new();
    let mut groups = Groups::new(nodes);
    let mut degrees = vec![0; nodes];
    // Each node as often as it wants links, in pairs as they come
    let mut ends: Vec<usize> = (0..nodes).flat_map(|node| std::iter::repeat_n(node, degree)).collect();
    for _ in 0..ROUNDS {
        random.shuffle(&mut ends);
        let mut left = Vec::new();
        for pair in ends.chunks(2) {
            match *pair {
                [one, other] if one != other && links.insert((one.min(other), one.max(other))) => {
                    groups.join(one, other);
                    degrees[one] += 1;
                    degrees[other] += 1;
                }
                _ => left.extend_from_slice(pair),
            }
        }
        ends = left;
    }
    let mut wiring: Vec<(usize, usize)> =
        links.into_iter().map(|(one, other)| if random.chance(0.5) { (one, other) } else { (other, one) }).collect();
    for node in 1..nodes {
        if groups.join(0, node) {
            wiring.push((node, random.index(node)));
        }
    }
    wiring
}

/// Which nodes hang together
struct Groups(Vec<usize>);

impl Groups {
    fn new(nodes: usize) -> Self {
        Self((0..nodes).collect())
    }

    fn of(&mut self, node: usize) -> usize {
        let mut at = node;
        while self.0[at] != at {
            self.0[at] = self.0[self.0[at]];
            at = self.0[at];
        }
        at
    }

    /// Whether they were apart before
    fn join(&mut self, one: usize, other: usize) -> bool {
        let (one, other) = (self.of(one), self.of(other));
        self.0[one] = other;
        one != other
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ring => f.write_str("ring"),
            Self::Star => f.write_str("star"),
            Self::Mesh(degree) => write!(f, "mesh of degree {degree}"),
            Self::Full => f.write_str("full mesh"),
            Self::Overlay => f.write_str("overlay from one seed"),
        }
    }
}

impl FromStr for Topology {
    type Err = TopologyError;

    /// `mesh` alone has [`DEGREE`](Self::DEGREE); `mesh:6` says which
    fn from_str(text: &str) -> Result<Self, TopologyError> {
        let wrong = || TopologyError { text: text.to_owned() };
        match text {
            "ring" => Ok(Self::Ring),
            "star" => Ok(Self::Star),
            "mesh" => Ok(Self::Mesh(Self::DEGREE)),
            "full" => Ok(Self::Full),
            "overlay" => Ok(Self::Overlay),
            _ => {
                let degree = text.strip_prefix("mesh:").and_then(|degree| degree.parse().ok());
                degree.filter(|degree| *degree > 0).map(Self::Mesh).ok_or_else(wrong)
            }
        }
    }
}

impl Topology {
    /// The links of a node in a mesh that says nothing else
    pub const DEGREE: usize = 6;
}

/// A text that is no topology
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not a topology: write ring, star, mesh, mesh:8, full or overlay")]
pub struct TopologyError {
    text: String,
}

/// How often what could not be paired is shuffled and tried again
const ROUNDS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn hangs_together(nodes: usize, wiring: &[(usize, usize)]) -> bool {
        let mut groups = Groups::new(nodes);
        wiring.iter().filter(|(one, other)| groups.join(*one, *other)).count() + 1 == nodes
    }

    #[test]
    fn all_hang_together_and_no_link_is_made_twice() {
        for seed in 0..50 {
            let mut random = Random::seeded(seed);
            let nodes = random.within(2..=60) as usize;
            let degree = random.within(1..=8) as usize;
            for topology in [Topology::Ring, Topology::Star, Topology::Mesh(degree), Topology::Full, Topology::Overlay]
            {
                let wiring = topology.wiring(nodes, &mut random);
                assert!(hangs_together(nodes, &wiring), "{topology} of {nodes}: {wiring:?}");
                let pairs: BTreeSet<_> = wiring.iter().map(|(a, b)| (a.min(b), a.max(b))).collect();
                assert_eq!(pairs.len(), wiring.len(), "{topology} of {nodes}");
                assert!(wiring.iter().all(|(one, other)| one != other), "{topology} of {nodes}");
            }
        }
    }

    #[test]
    fn a_mesh_has_its_degree() {
        let wiring = Topology::Mesh(6).wiring(1000, &mut Random::seeded(1));
        let mut degrees = vec![0; 1000];
        wiring.iter().for_each(|(one, other)| {
            degrees[*one] += 1;
            degrees[*other] += 1;
        });
        assert!(degrees.iter().filter(|degree| **degree == 6).count() > 980, "{degrees:?}");
    }

    #[test]
    fn topologies_are_read() {
        assert_eq!("mesh:8".parse(), Ok(Topology::Mesh(8)));
        assert_eq!("mesh".parse(), Ok(Topology::Mesh(6)));
        assert!(["", "mesh:0", "mesh:x", "Ring"].iter().all(|text| text.parse::<Topology>().is_err()));
    }
}
