//! What is lost, deleted, expired or written twice: all nodes agree in the end, and the dead stay dead.

use super::*;
use crate::event::RemovalCause;
use crate::simulation::Ending;

#[test]
fn a_partition_heals() {
    let mut network = settled(20, Topology::Mesh(4), NodeConfig::default());
    put(&mut network, 3, "doomed", "value");
    put(&mut network, 4, "contended", "before");
    agree(&mut network, secs(5));
    network.partition(|party| (party.0 % 2) as u32);
    network.run_for(secs(20));
    put(&mut network, 0, "even", "value");
    put(&mut network, 1, "odd", "value");
    put(&mut network, 0, "contended", "even");
    network.run_for(secs(1));
    put(&mut network, 1, "contended", "odd");
    network.remove(PartyId(0), b"doomed").unwrap();
    network.run_for(secs(20));
    network.heal();
    agree(&mut network, secs(30));
    for party in 0..20 {
        assert_eq!(get(&network, party, "even"), Some(Bytes::from("value")));
        assert_eq!(get(&network, party, "odd"), Some(Bytes::from("value")));
        assert_eq!(get(&network, party, "contended"), Some(Bytes::from("odd")), "the later write");
        assert_eq!(get(&network, party, "doomed"), None);
    }
}

#[test]
fn the_deleted_stay_away_when_the_deletion_is_forgotten() {
    let node = NodeConfig { tombstone_time: secs(5), ..NodeConfig::default() };
    let mut network = settled(6, Topology::Ring, node);
    put(&mut network, 3, "doomed", "value");
    agree(&mut network, secs(5));
    network.partition(|party| u32::from(party.0 >= 3));
    network.run_for(secs(20));
    network.remove(PartyId(0), b"doomed").unwrap();
    network.run_for(secs(60));
    assert!(network.nodes().all(|(_, node)| node.stats().tombstones == 0), "they are forgotten");
    assert!(get(&network, 4, "doomed").is_some());
    network.keep_happenings();
    network.heal();
    agree(&mut network, secs(60));
    for party in 0..6 {
        assert_eq!(get(&network, party, "doomed"), None);
    }
    let told = network.take_happenings();
    let has_returned = |event: &Event| matches!(event, Event::Put { tuple, .. } if tuple.key == "doomed");
    assert!(!told.iter().any(|happening| happening.party.0 < 3 && has_returned(&happening.event)), "not for a moment");
    let is_removed = |event: &Event| matches!(event, Event::Removed { cause: RemovalCause::Superseded, .. });
    assert_eq!(told.iter().filter(|happening| is_removed(&happening.event)).count(), 3);
}

#[test]
fn a_restarted_node_gets_what_it_had() {
    let mut network = settled(10, Topology::Mesh(4), NodeConfig::default());
    for party in 0..10 {
        network.put(PartyId(party), format!("key-{party}"), "value", Lifetime::Permanent).unwrap();
        network.put(PartyId(party), format!("session-{party}"), "value", Lifetime::Session).unwrap();
    }
    agree(&mut network, secs(5));
    for party in 0..5 {
        network.stop(PartyId(party), Ending::Kill);
    }
    network.run_for(secs(1));
    for party in 0..5 {
        network.start(PartyId(party));
    }
    network.run_for(secs(5));
    agree(&mut network, secs(60));
    for party in 0..10 {
        for other in 0..10 {
            assert!(get(&network, party, &format!("key-{other}")).is_some(), "key-{other} at {party}");
            // Those who restarted haven't put them again
            assert_eq!(get(&network, party, &format!("session-{other}")).is_some(), other >= 5, "{other} at {party}");
        }
    }
}

#[test]
fn writers_of_one_key_agree() {
    let mut network = settled(10, Topology::Mesh(4), NodeConfig::default());
    for party in 0..10 {
        network.put(PartyId(party), "key", format!("value-{party}"), Lifetime::Permanent).unwrap();
    }
    let took = agree(&mut network, secs(10));
    assert!(took < secs(1), "{took:?}");
    let values = (0..10).map(|party| get(&network, party, "key").unwrap()).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(values.len(), 1);
    // What was pushed twice arrives, too
    network.run_for(millis(100));
    let before = network.traffic();
    network.run_for(secs(10));
    assert_eq!(since(&network, &before, "records"), (0, 0), "and that is it");
}

#[test]
fn many_lives_are_compared_by_buckets() {
    let mut network = settled(160, Topology::Mesh(4), NodeConfig::default());
    network.partition(|party| u32::from(party.0 == 0));
    network.run_for(secs(2));
    put(&mut network, 5, "key", "value");
    network.run_for(secs(5));
    let before = network.traffic();
    network.heal();
    agree(&mut network, secs(60));
    let (buckets, _) = since(&network, &before, "buckets");
    let (_, owners) = since(&network, &before, "owners");
    assert!(buckets > 0, "more than 128 lives");
    assert!(owners < 20_000, "{owners} octets for one change of one life");
    assert!(get(&network, 0, "key").is_some());
}

#[test]
fn a_life_of_which_nothing_is_left_is_forgotten() {
    let node = NodeConfig { context_time: secs(80), tombstone_time: secs(10), ..NodeConfig::default() };
    let mut network = settled(3, Topology::Ring, NodeConfig { presence: crate::config::Presence::Links, ..node });
    put(&mut network, 0, "doomed", "value");
    put(&mut network, 1, "stays", "value");
    agree(&mut network, secs(5));
    network.remove(PartyId(0), b"doomed").unwrap();
    agree(&mut network, secs(5));
    network.stop(PartyId(0), Ending::Kill);
    network.run_for(secs(30));
    assert_eq!(network.node(PartyId(2)).unwrap().stats().owners, 3, "its own, and two that wrote");
    network.run_for(secs(200));
    assert_eq!(network.node(PartyId(2)).unwrap().stats().owners, 2);
    assert_eq!(get(&network, 2, "stays"), Some(Bytes::from("value")));
    assert!(network.agrees());
}

#[test]
fn what_expires_is_gone_everywhere() {
    let mut network = settled(10, Topology::Mesh(4), NodeConfig::default());
    network.put(PartyId(0), "key", "value", Lifetime::Ttl(secs(3))).unwrap();
    network.run_for(secs(1));
    assert!((0..10).all(|party| get(&network, party, "key").is_some()));
    network.run_for(secs(3));
    assert!((0..10).all(|party| get(&network, party, "key").is_none()));
    assert!(network.agrees());
}

#[test]
fn a_life_of_which_nothing_lives_is_learnt_from_those_who_only_heard_of_it() {
    let node = NodeConfig { tombstone_time: secs(3), ..NodeConfig::default() };
    let mut network = settled(4, Topology::Full, node);
    put(&mut network, 1, "key", "value");
    assert!(network.remove(PartyId(1), b"key").unwrap());
    network.run_for(secs(10));
    network.stop(PartyId(1), Ending::Kill);
    // Each learns of that life from one who has nothing of it but that it was
    for party in [0, 2, 3, 0] {
        network.stop(PartyId(party), Ending::Kill);
        network.run_for(secs(1));
        network.start(PartyId(party));
        network.run_for(secs(10));
        agree(&mut network, secs(20));
    }
}

#[test]
fn what_changes_twice_in_a_turn_is_told_once() {
    let mut network = settled(2, Topology::Ring, NodeConfig::default());
    put(&mut network, 0, "put before", "old");
    network.run_for(secs(1));
    network.keep_happenings();
    network.with_node(PartyId(0), |node, now| {
        for (key, values) in [("put twice", ["a", "b"]), ("put before", ["new", "old"])] {
            for value in values {
                node.put(now, key, value, Lifetime::Permanent).unwrap();
            }
        }
        node.put(now, "put and removed", "value", Lifetime::Permanent).unwrap();
        node.remove(now, b"put and removed").unwrap();
    });
    network.run_for(secs(1));
    let events = network.take_happenings().into_iter().filter(|happening| happening.party == PartyId(1));
    let told = events.map(|happening| happening.event).collect::<Vec<_>>();
    let [Event::Put { tuple, previous: None }] = &told[..] else { panic!("{told:?}") };
    assert_eq!((&tuple.key[..], &tuple.value[..]), (&b"put twice"[..], &b"b"[..]));
}

#[test]
fn nobody_lies_who_forgets_a_bit_sooner() {
    let node = NodeConfig { context_time: secs(400), tombstone_time: secs(10), ..NodeConfig::default() };
    let mut network = settled(3, Topology::Full, NodeConfig { presence: crate::config::Presence::Links, ..node });
    put(&mut network, 0, "doomed", "value");
    put(&mut network, 1, "stays", "value");
    agree(&mut network, secs(5));
    network.remove(PartyId(0), b"doomed").unwrap();
    agree(&mut network, secs(5));
    network.stop(PartyId(0), Ending::Kill);
    network.run_for(secs(200));
    // One that begins later looks for what it may forget at other times
    network.stop(PartyId(2), Ending::Kill);
    network.run_for(secs(13));
    network.start(PartyId(2));
    network.run_for(secs(400));
    for (party, node) in network.nodes() {
        assert_eq!(node.stats().refusals.count(Refusal::LyingDigest), 0, "{party:?}");
        assert!(node.stats().owners <= 2, "{party:?} has forgotten the first");
    }
    assert!(network.agrees());
}

#[test]
fn the_deletion_of_a_ttl_is_remembered_as_long() {
    let node = NodeConfig { tombstone_time: secs(5), ..NodeConfig::default() };
    let mut network = settled(6, Topology::Ring, node);
    network.put(PartyId(3), "lease", "value", Lifetime::Ttl(secs(3600))).unwrap();
    agree(&mut network, secs(5));
    network.partition(|party| u32::from(party.0 >= 3));
    network.run_for(secs(20));
    network.remove(PartyId(0), b"lease").unwrap();
    network.run_for(secs(60));
    network.heal();
    network.run_for(secs(30));
    for party in 0..6 {
        assert_eq!(get(&network, party, "lease"), None, "node {party}");
    }
}
