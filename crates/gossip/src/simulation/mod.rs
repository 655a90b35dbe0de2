//! Networks of thousands of nodes on a virtual clock: the real [`Node`](crate::Node), no model of it.
//!
//! Time jumps from event to event, so a node that waits costs nothing, and a network of ten thousand runs on one core. What
//! chance decides comes from a seed: the same seed, the same run.

mod agenda;
mod links;
pub use links::{Latency, LatencyError, LinkModel};
mod network;
pub use network::{Ending, Happening, LocalClock, MakeParticipant, Network, Participant, PartyId};
pub mod plot;
mod random;
pub use random::Random;
pub mod report;
mod scenario;
pub use scenario::{Cost, KindCost, Outcome, Phase, Plan, Progress, run};
mod setup;
pub use setup::Setup;
mod suite;
pub use suite::{Case, run_all, suite};
mod topology;
pub use topology::{Topology, TopologyError};
mod traffic;
pub use traffic::{Count, Traffic};
mod watch;
pub use watch::Spread;
