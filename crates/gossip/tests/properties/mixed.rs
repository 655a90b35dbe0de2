//! Networks of CZMQ's nodes and ours: nothing is lost, and the livelock of the original dies at ours.

use std::collections::BTreeMap;
use std::time::Duration;

use tidings_gossip::simulation::{Ending, Latency, LinkModel, LocalClock, Network, PartyId, Random, Topology};
use tidings_gossip::{Lifetime, NodeConfig};

use crate::czmq::Czmq;
use crate::number;

type Tuples = BTreeMap<Vec<u8>, Vec<u8>>;

/// Nodes of either kind, joined by that topology
fn network(is_ours: &[bool], topology: Topology, link: LinkModel, seed: u64) -> Network {
    joined(is_ours, &topology.wiring(is_ours.len(), &mut Random::seeded(seed)), link, seed)
}

fn joined(is_ours: &[bool], wiring: &[(usize, usize)], link: LinkModel, seed: u64) -> Network {
    let mut network = Network::new(seed, link);
    for is_ours in is_ours {
        match is_ours {
            true => network.add(NodeConfig::default(), LocalClock::default()),
            false => network.add_other(Czmq::make()),
        };
    }
    for (from, to) in wiring {
        network.connect(PartyId(*from), PartyId(*to));
    }
    network
}

/// Of each link one end at least is ours, by chance which: between two of CZMQ's a tuple is lost when a client was silent for a
/// second, and values chase each other, whoever else there is
fn one_end_of_each(topology: Topology, nodes: usize, seed: u64, random: &mut Random) -> Vec<bool> {
    let mut is_ours: Vec<bool> = (0..nodes).map(|_| random.chance(0.3)).collect();
    for (from, to) in topology.wiring(nodes, &mut Random::seeded(seed)) {
        is_ours[from] |= !is_ours[to];
    }
    is_ours
}

fn publish(network: &mut Network, party: PartyId, key: &[u8], value: &[u8]) {
    if network.with_other(party, |czmq: &mut Czmq, _| czmq.publish(key, value)).is_none() {
        network.put(party, key.to_vec(), value.to_vec(), Lifetime::Permanent).unwrap();
    }
}

fn tuples(network: &mut Network, party: PartyId) -> Tuples {
    if let Some(tuples) = network.with_other(party, |czmq: &mut Czmq, _| czmq.tuples.clone()) {
        return tuples;
    }
    let node = network.node(party).unwrap();
    let tuples = node.tuples(network.local_now(party), b"");
    tuples.map(|tuple| (tuple.key.to_vec(), tuple.value.to_vec())).collect()
}

fn all_have(network: &mut Network, expected: &Tuples) -> bool {
    (0..network.len()).all(|party| tuples(network, PartyId(party)) == *expected)
}

fn assert_alive(network: &mut Network) {
    for party in 0..network.len() {
        let deadly = network.with_other(PartyId(party), |czmq: &mut Czmq, _| czmq.deadly.clone()).unwrap_or_default();
        assert!(deadly.is_empty(), "these would have stopped node {party}: {deadly:02x?}");
    }
}

fn quick() -> LinkModel {
    LinkModel {
        latency: Latency::Uniform(Duration::from_micros(100), Duration::from_millis(3)),
        ..LinkModel::default()
    }
}

/// The sheet's measurement: this is what the model has to do for the rest to mean anything
#[test]
fn among_themselves_conflicting_values_chase_each_other() {
    let mut network = network(&[false; 3], Topology::Ring, quick(), 1);
    network.run_for(Duration::from_secs(1));
    for party in 0..3 {
        publish(&mut network, PartyId(party), b"key", &[b'0' + party as u8]);
    }
    network.run_for(Duration::from_secs(10));
    let before = network.traffic().total().messages;
    network.run_for(Duration::from_secs(10));
    let endless = network.traffic().total().messages - before;
    assert!(endless > 1000, "{endless} messages in ten seconds, long after the last change");
}

#[test]
fn the_livelock_dies_at_ours() {
    for seed in 0..number("SIMULATIONS").unwrap_or(60) {
        let mut random = Random::seeded(seed);
        let nodes = random.within(2..=6) as usize;
        let topology = [Topology::Ring, Topology::Star, Topology::Full, Topology::Mesh(2)][random.index(4)];
        let is_ours = one_end_of_each(topology, nodes, seed, &mut random);
        let mut network = network(&is_ours, topology, quick(), seed);
        let told = format!("seed {seed}: {topology}, ours: {is_ours:?}");
        // Before CZMQ's nodes forget their silent clients
        network.run_for(Duration::from_millis(300));
        for party in 0..nodes {
            publish(&mut network, PartyId(party), b"key", &[b'0' + party as u8]);
        }
        network.run_for(Duration::from_secs(40));
        let value = tuples(&mut network, PartyId(0));
        let values: Vec<Tuples> = (0..nodes).map(|party| tuples(&mut network, PartyId(party))).collect();
        assert!(all_have(&mut network, &value), "{told}: they don't agree after 40 s: {values:?}");
        let before = network.traffic().of("zgp");
        network.run_for(Duration::from_secs(10));
        let messages = (network.traffic().of("zgp") - before).messages;
        // PING and PONG on each link, three or four times a second
        let most = 90 * network.open_connections() as u64;
        assert!(messages <= most, "{told}: {messages} messages of ZGP in ten seconds of peace");
        assert_alive(&mut network);
        // And it can still be changed from either side
        for party in [0, nodes - 1] {
            publish(&mut network, PartyId(party), b"key", format!("new {party}").as_bytes());
            network.run_for(Duration::from_secs(20));
            let expected = Tuples::from([(b"key".to_vec(), format!("new {party}").into_bytes())]);
            assert!(all_have(&mut network, &expected), "{told}: a new value of node {party} is not taken");
        }
    }
}

/// What two of CZMQ's do to each other can't be stopped from outside, but doesn't spread through ours
#[test]
fn a_storm_between_others_is_not_passed_on() {
    for seed in 0..number("SIMULATIONS").unwrap_or(3) {
        // 0 and 1 are CZMQ's, which are linked; 2 is ours, linked with both; 3 is ours and 4 is CZMQ's, both behind 2
        let wiring = [(0, 1), (0, 2), (2, 1), (3, 2), (4, 2)];
        let mut network = joined(&[false, false, true, true, false], &wiring, quick(), seed);
        network.run_for(Duration::from_millis(300));
        publish(&mut network, PartyId(0), b"key", b"0");
        publish(&mut network, PartyId(1), b"key", b"1");
        network.run_for(Duration::from_secs(30));
        let sent = |network: &Network| (2..5).map(|party| network.sent(PartyId(party)).messages).sum::<u64>();
        let (ours, all) = (sent(&network), network.traffic().total().messages);
        network.run_for(Duration::from_secs(10));
        let (ours, all) = (sent(&network) - ours, network.traffic().total().messages - all);
        println!("seed {seed}: ours and those behind {ours} messages in ten seconds, all {all}");
        assert!(ours < 400, "seed {seed}: {ours} of {all} messages in ten seconds");
        assert_eq!(tuples(&mut network, PartyId(3)), tuples(&mut network, PartyId(4)), "seed {seed}");
        assert_alive(&mut network);
    }
}

#[test]
fn nothing_is_lost_among_both() {
    for seed in 0..number("SIMULATIONS").unwrap_or(60) {
        let mut random = Random::seeded(seed);
        let nodes = random.within(2..=6) as usize;
        let topology = [Topology::Ring, Topology::Star, Topology::Mesh(2), Topology::Full][random.index(4)];
        let is_ours = one_end_of_each(topology, nodes, seed, &mut random);
        let mut network = network(&is_ours, topology, quick(), seed);
        let told = format!("seed {seed}: {topology}, ours: {is_ours:?}");
        let mut expected = Tuples::new();
        for number in 0..30_u32 {
            // Now and then long enough for CZMQ to forget whoever is silent
            let longest = [20, 3000][random.index(2)];
            network.run_for(Duration::from_millis(random.within(0..=longest)));
            // CZMQ's keys are C strings
            let key = number.to_string().into_bytes();
            publish(&mut network, PartyId(random.index(nodes)), &key, &key);
            expected.insert(key.to_vec(), key.to_vec());
        }
        network.run_for(Duration::from_secs(10));
        for party in 0..nodes {
            assert_eq!(tuples(&mut network, PartyId(party)), expected, "{told}: node {party}");
        }
        assert_alive(&mut network);
    }
}

#[test]
fn restarts_of_either_side_are_repaired() {
    for seed in 0..number("SIMULATIONS").unwrap_or(30) {
        let mut random = Random::seeded(seed);
        let is_ours = [true, random.chance(0.5), false, random.chance(0.5)];
        let mut network = network(&is_ours, Topology::Star, quick(), seed);
        let mut expected = Tuples::new();
        for number in 0..12_u32 {
            let stopped = PartyId(random.index(4));
            network.run_for(Duration::from_secs(3));
            network.stop(stopped, Ending::Kill);
            network.run_for(Duration::from_millis(random.within(0..=3000)));
            network.start(stopped);
            network.run_for(Duration::from_secs(10));
            // CZMQ's keys are C strings
            let key = number.to_string().into_bytes();
            publish(&mut network, PartyId(random.index(4)), &key, b"value");
            expected.insert(key.to_vec(), b"value".to_vec());
        }
        network.run_for(Duration::from_secs(20));
        assert!(all_have(&mut network, &expected), "seed {seed}: ours: {is_ours:?}");
        assert_alive(&mut network);
    }
}

#[test]
fn idle_clients_and_servers_of_czmq_stay_subscribed() {
    // Both directions: ours dials CZMQ's, and CZMQ's dials ours
    let mut network = network(&[true, false, false], Topology::Star, quick(), 1);
    network.connect(PartyId(0), PartyId(1));
    network.disconnect(PartyId(1), PartyId(0));
    network.run_for(Duration::from_secs(3600));
    let before = network.traffic().total();
    for party in [1, 2, 0] {
        publish(&mut network, PartyId(party), &[b'0' + party as u8], b"after an hour");
        network.run_for(Duration::from_secs(2));
    }
    let expected: Tuples = (0..3).map(|party| (vec![b'0' + party], b"after an hour".to_vec())).collect();
    assert!(all_have(&mut network, &expected));
    assert!((network.traffic().total() - before).messages < 100, "no snapshots again and again");
}
