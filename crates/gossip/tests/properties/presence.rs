//! Nobody who lives and can be reached is declared gone; whoever is dead is, everywhere and soon.

use std::time::Duration;

use tidings_gossip::simulation::{Ending, Network, PartyId, Random, Setup, Topology};
use tidings_gossip::{Event, Lifetime, MemberStatus};

use crate::number;

fn network(nodes: usize, loss: f64, seed: u64) -> Network {
    let mut setup = Setup::new(nodes, Topology::Mesh(4), seed);
    setup.link.loss = loss;
    let mut network = setup.network();
    network.run_for(Duration::from_secs(20));
    network.keep_happenings();
    network
}

fn statuses(network: &mut Network, wanted: MemberStatus) -> Vec<(Duration, PartyId, String)> {
    let happenings = network.take_happenings();
    let of = happenings.into_iter().filter_map(|happening| match happening.event {
        Event::Member(change) if change.status == wanted => Some((happening.at, happening.party, change.name)),
        _ => None,
    });
    of.collect()
}

#[test]
fn a_lossy_network_declares_nobody_gone() {
    for seed in 0..number("SIMULATIONS").unwrap_or(12) {
        let mut network = network(12, 0.05, seed);
        network.run_for(Duration::from_secs(300));
        let gone = statuses(&mut network, MemberStatus::Gone);
        assert_eq!(gone, [], "seed {seed}");
    }
}

/// Lifeguard's case: a node that does not get to run for a while is no reason to accuse the others
#[test]
fn a_node_that_was_busy_accuses_nobody_for_good() {
    for seed in 0..number("SIMULATIONS").unwrap_or(12) {
        let mut random = Random::seeded(seed);
        let mut network = network(12, 0.0, seed);
        for _ in 0..10 {
            let busy = PartyId(random.index(12));
            network.pause(busy, Duration::from_millis(random.within(500..=3500)));
            network.run_for(Duration::from_secs(10));
        }
        let gone = statuses(&mut network, MemberStatus::Gone);
        assert_eq!(gone, [], "seed {seed}: nobody was away for long enough");
    }
}

#[test]
fn the_dead_are_gone_everywhere_and_their_sessions_with_them() {
    for seed in 0..number("SIMULATIONS").unwrap_or(12) {
        let mut random = Random::seeded(seed);
        let mut network = network(12, 0.0, seed);
        let dead = PartyId(random.index(12));
        network.put(dead, "session", "value", Lifetime::Session).unwrap();
        network.put(dead, "permanent", "value", Lifetime::Permanent).unwrap();
        network.run_for(Duration::from_secs(5));
        let name = format!("node-{}", dead.0);
        let ending = [Ending::Kill, Ending::Vanish, Ending::Leave][random.index(3)];
        network.take_happenings();
        network.stop(dead, ending);
        let stopped = network.now();
        network.run_for(Duration::from_secs(60));
        let wanted = if ending == Ending::Leave { MemberStatus::Left } else { MemberStatus::Gone };
        let told = statuses(&mut network, wanted);
        assert_eq!(told.len(), 11, "seed {seed}, {ending:?}: all are told once: {told:?}");
        assert!(told.iter().all(|(_, _, gone)| *gone == name), "seed {seed}: {told:?}");
        let last = told.iter().map(|(at, ..)| *at).max().unwrap() - stopped;
        let limit = if ending == Ending::Leave { 2 } else { 30 };
        assert!(last < Duration::from_secs(limit), "seed {seed}, {ending:?}: after {last:?}");
        for (party, node) in network.nodes() {
            let now = network.local_now(party);
            assert_eq!(node.get(now, b"session"), None, "seed {seed}, {ending:?}: node {}", party.0);
            assert!(node.get(now, b"permanent").is_some(), "seed {seed}: node {}", party.0);
        }
        network.start(dead);
        network.run_for(Duration::from_secs(10));
        for (party, node) in network.nodes() {
            let members = node.members(network.local_now(party));
            let status = members.iter().find(|member| member.name == name).map(|member| member.status);
            assert_eq!(status, Some(MemberStatus::Up), "seed {seed}: node {}", party.0);
        }
    }
}
