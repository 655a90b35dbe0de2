//! Nodes on a simulated network.

use std::time::Duration;

use bytes::Bytes;

use crate::config::NodeConfig;
use crate::record::Lifetime;
use crate::simulation::{Count, Latency, LinkModel, Network, PartyId, Setup, Topology};

mod spreading;

/// A network of that shape whose links take 1 ms and lose nothing, some seconds after its start
fn settled(nodes: usize, topology: Topology, node: NodeConfig) -> Network {
    let link = LinkModel { latency: Latency::Fixed(Duration::from_millis(1)), ..LinkModel::default() };
    let setup = Setup { link, node, ..Setup::new(nodes, topology, 7) };
    let mut network = setup.network();
    network.run_for(secs(15));
    network
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Lets time pass until all agree, and says how long that took
fn agree(network: &mut Network, limit: Duration) -> Duration {
    let start = network.now();
    let limit_reached = !network.run_while(limit, Duration::from_millis(1), |network| !network.agrees());
    assert!(!limit_reached, "no agreement in {limit:?}: {}", network.agreement());
    check(network);
    network.now() - start
}

fn check(network: &Network) {
    for (party, node) in network.nodes() {
        node.check().unwrap_or_else(|wrong| panic!("{party:?}: {wrong}"));
    }
}

/// What was sent since, in octets
fn sent_since(network: &Network, before: Count) -> u64 {
    network.traffic().total().octets - before.octets
}
