//! Members of whole networks: who crashes, sleeps, leaves or returns, and what becomes of what it put for its lifetime.

use super::*;
use crate::event::{MemberStatus, RemovalCause};
use crate::simulation::Ending;

use MemberStatus::{Gone, Left, Suspect, Up};

/// What was told of a member, by everybody else
fn told_of(network: &mut Network, party: usize) -> Vec<(usize, MemberStatus)> {
    let id = network.node(PartyId(party)).map_or_else(NodeId::default, |node| node.identity().id);
    told(network).into_iter().filter(|(_, of, _)| *of == id).map(|(at, _, status)| (at, status)).collect()
}

fn told(network: &mut Network) -> Vec<(usize, NodeId, MemberStatus)> {
    let change = |happening: crate::simulation::Happening| match happening.event {
        Event::Member(change) => Some((happening.party.0, change.id, change.status)),
        _ => None,
    };
    network.take_happenings().into_iter().filter_map(change).collect()
}

fn session(network: &mut Network, party: usize) -> String {
    let key = format!("endpoint/{party}");
    network.put(PartyId(party), key.clone(), "tcp://10.0.0.1:1", Lifetime::Session).unwrap();
    agree(network, secs(10));
    network.keep_happenings();
    key
}

#[test]
fn everybody_knows_everybody() {
    let network = settled(30, Topology::Mesh(4), NodeConfig::default());
    for (_, node) in network.nodes() {
        let now = network.local_now(PartyId(0));
        let members = node.members(now);
        assert_eq!(members.len(), 30);
        assert!(members.iter().all(|member| member.status == Up && member.name.starts_with("node-")));
    }
}

#[test]
fn who_vanishes_is_gone_for_all_and_so_is_what_lived_as_long() {
    let mut network = settled(20, Topology::Mesh(4), NodeConfig::default());
    let key = session(&mut network, 7);
    let id = network.node(PartyId(7)).unwrap().identity().id;
    network.stop(PartyId(7), Ending::Vanish);
    network.run_for(secs(40));
    let told = told(&mut network);
    for party in (0..20).filter(|party| *party != 7) {
        let of = |status| told.iter().filter(|change| **change == (party, id, status)).count();
        assert_eq!((of(Suspect), of(Gone)), (1, 1), "node {party}");
        assert_eq!(get(&network, party, &key), None);
    }
    assert!(told.iter().all(|(_, of, _)| *of == id), "nobody else is doubted: {told:?}");
    network.start(PartyId(7));
    network.run_for(secs(10));
    assert_eq!(told_of(&mut network, 7).iter().filter(|(_, status)| *status == Up).count(), 19);
    assert_eq!(get(&network, 3, &key), None, "it lives as long as that life of its owner");
    agree(&mut network, secs(10));
}

#[test]
fn who_leaves_says_so_and_nobody_is_suspected() {
    let mut network = settled(20, Topology::Mesh(4), NodeConfig::default());
    let key = session(&mut network, 7);
    let id = network.node(PartyId(7)).unwrap().identity().id;
    network.stop(PartyId(7), Ending::Leave);
    network.run_for(secs(2));
    let told = told(&mut network);
    let left = told.iter().filter(|(_, of, status)| (*of, *status) == (id, Left)).count();
    assert_eq!((left, told.len()), (19, 19), "{told:?}");
    assert!((0..20).filter(|party| *party != 7).all(|party| get(&network, party, &key).is_none()));
}

#[test]
fn a_busy_node_accuses_nobody() {
    let mut network = settled(12, Topology::Mesh(4), NodeConfig::default());
    network.keep_happenings();
    for turn in 0..40 {
        network.pause(PartyId(turn % 3), millis(1_200));
        network.run_for(millis(2_500));
    }
    assert_eq!(told(&mut network), []);
    network.pause(PartyId(0), secs(60));
    network.run_for(secs(90));
    let sleeper = network.node(PartyId(0)).unwrap().identity().id;
    let told = told(&mut network);
    assert!(told.iter().all(|(at, of, _)| *at != 0 && *of == sleeper), "only the sleeper is doubted: {told:?}");
    for party in 1..12 {
        let of = told.iter().filter(|(at, ..)| *at == party).map(|(.., status)| *status).collect::<Vec<_>>();
        assert_eq!(of, [Suspect, Gone, Up], "node {party}");
    }
}

#[test]
fn what_lived_as_long_as_a_sleeper_is_back_when_it_wakes() {
    let mut network = settled(6, Topology::Full, NodeConfig::default());
    let key = session(&mut network, 2);
    network.pause(PartyId(2), secs(40));
    network.run_for(secs(35));
    assert_eq!(get(&network, 4, &key), None);
    network.run_for(secs(30));
    assert!((0..6).all(|party| get(&network, party, &key).is_some()));
    let told = network.take_happenings();
    for party in (0..6).filter(|party| *party != 2) {
        let of = |is_meant: &dyn Fn(&Event) -> bool| {
            told.iter().filter(|happening| happening.party.0 == party && is_meant(&happening.event)).count()
        };
        let is_gone = |event: &Event| matches!(event, Event::Removed { key: gone, cause: RemovalCause::OwnerGone } if *gone == key);
        let is_back = |event: &Event| matches!(event, Event::Put { tuple, .. } if tuple.key == key);
        assert_eq!((of(&is_gone), of(&is_back)), (1, 1), "node {party}");
    }
}

#[test]
fn in_a_lossy_network_hardly_anybody_is_suspected_and_nobody_gone() {
    for (loss, most) in [(0.05, 4), (0.2, 150)] {
        let mut network = lossy(20, Topology::Mesh(4), NodeConfig::default(), loss);
        network.keep_happenings();
        network.run_for(secs(300));
        let told = told(&mut network);
        let suspected = told.iter().filter(|(.., status)| *status == Suspect).count();
        assert!(told.iter().all(|(.., status)| *status != Gone), "{loss}: {told:?}");
        assert!(suspected <= most, "{loss}: {suspected}");
    }
}

#[test]
fn when_the_hub_of_a_star_is_lost_its_leaves_doubt_nobody() {
    let mut network = settled(10, Topology::Star, NodeConfig::default());
    network.keep_happenings();
    network.stop(PartyId(0), Ending::Vanish);
    network.run_for(secs(25));
    assert_eq!(told(&mut network), []);
    network.start(PartyId(0));
    network.run_for(secs(60));
    let told = told(&mut network);
    assert!(told.iter().all(|(.., status)| *status == Up), "the hub's next life: {told:?}");
    agree(&mut network, secs(10));
}

#[test]
fn halves_of_a_network_lose_each_other_and_meet_again() {
    let mut network = settled(16, Topology::Full, NodeConfig::default());
    let key = session(&mut network, 1);
    network.partition(|party| (party.0 % 2) as u32);
    network.run_for(secs(120));
    for party in 0..16 {
        let now = network.local_now(PartyId(party));
        let gone = network.node(PartyId(party)).unwrap().members(now).iter().filter(|one| one.status == Gone).count();
        assert_eq!(gone, 8, "node {party}");
        assert_eq!(get(&network, party, &key).is_some(), party % 2 == 1);
    }
    network.heal();
    network.run_for(secs(120));
    for party in 0..16 {
        let now = network.local_now(PartyId(party));
        let up = network.node(PartyId(party)).unwrap().members(now).iter().filter(|one| one.status == Up).count();
        assert_eq!(up, 16, "node {party}");
        assert!(get(&network, party, &key).is_some());
    }
    agree(&mut network, secs(10));
}

#[test]
fn an_overlay_finds_its_links_and_mends_them() {
    let mut network = settled(40, Topology::Overlay, NodeConfig { max_links: 16, ..NodeConfig::default() });
    network.run_for(secs(120));
    let degrees = |network: &Network| -> Vec<usize> { network.nodes().map(|(_, node)| node.stats().links).collect() };
    let before = degrees(&network);
    assert!(before.iter().skip(1).all(|links| *links >= 3), "{before:?}");
    network.stop(PartyId(0), Ending::Vanish);
    for party in [5, 6, 7, 8, 9, 10] {
        network.stop(PartyId(party), Ending::Kill);
    }
    network.run_for(secs(60));
    put(&mut network, 20, "after", "value");
    agree(&mut network, secs(20));
    let after = degrees(&network);
    assert!(after.iter().filter(|links| **links >= 3).count() * 10 >= after.len() * 9, "{after:?}");
}

#[test]
fn halves_that_have_forgotten_each_other_meet_again() {
    let node = NodeConfig { forget_after: secs(60), ..NodeConfig::default() };
    let mut network = settled(6, Topology::Full, node);
    let key = session(&mut network, 1);
    network.partition(|party| (party.0 % 2) as u32);
    network.run_for(secs(300));
    let listed = |network: &Network, party: usize| {
        let now = network.local_now(PartyId(party));
        let members = network.node(PartyId(party)).unwrap().members(now);
        members.iter().map(|member| member.status).collect::<Vec<_>>()
    };
    for party in 0..6 {
        assert_eq!(listed(&network, party), [Up; 3], "node {party}: the others are forgotten");
    }
    network.heal();
    network.run_for(secs(60));
    for party in 0..6 {
        assert_eq!(listed(&network, party), [Up; 6], "node {party}");
        assert!(get(&network, party, &key).is_some(), "node {party}: its owner has never stopped");
    }
    agree(&mut network, secs(10));
    let before = network.traffic();
    network.run_for(secs(30));
    assert_eq!(since(&network, &before, "records").0 + since(&network, &before, "live").0, 0, "and that is it");
}

#[test]
fn a_member_whose_record_is_dead_is_gone_and_forgotten() {
    let mut stage = Stage::new(NodeConfig { forget_after: secs(100), ..NodeConfig::default() });
    let link = stage.peer(2);
    let far = Identity { id: NodeId(3), incarnation: Incarnation(5) };
    let key = "$tidings/node/0000000000000003";
    stage.hear(link, hostile::session_of(far, 1, key, r#"{"name":"far"}"#));
    let status = |stage: &Stage| {
        let members = stage.node.members(stage.now);
        members.iter().find(|member| member.id == far.id).map(|member| (member.status, member.name.clone()))
    };
    assert_eq!(status(&stage), Some((Up, "far".to_owned())));
    // Others have forgotten it meanwhile: its record is dead there
    stage.hear(link, hostile::dead_of(far, 1));
    assert_eq!(status(&stage).map(|(status, _)| status), Some(Gone));
    // If it goes on it writes it again
    stage.hear(link, hostile::session_of(far, 2, key, r#"{"name":"far"}"#));
    assert_eq!(status(&stage).map(|(status, _)| status), Some(Up));
    stage.hear(link, hostile::dead_of(far, 2));
    stage.wait(secs(101));
    assert_eq!(status(&stage), None);
}

#[test]
fn names_are_short() {
    let mut stage = Stage::new(NodeConfig::default());
    let link = stage.peer(2);
    let far = Identity { id: NodeId(3), incarnation: Incarnation(5) };
    let long = "x".repeat(100_000);
    let value = format!(r#"{{"name":"{long}","endpoints":["tcp://{long}","tcp://10.0.0.1:1"]}}"#);
    stage.hear(link, hostile::session_of(far, 1, "$tidings/node/0000000000000003", &value));
    let members = stage.node.members(stage.now);
    let member = members.iter().find(|member| member.id == far.id).unwrap();
    assert_eq!((member.name.as_str(), &member.endpoints[..]), ("", &["tcp://10.0.0.1:1".to_owned()][..]));
}

#[test]
fn who_is_accused_of_what_it_never_contradicted_begins_again() {
    let mut stage = Stage::new(NodeConfig::default());
    let link = stage.peer(2);
    let lie = tidings::StatusUpdate {
        id: OWN.id,
        incarnation: OWN.incarnation,
        refutation: 1 << 40,
        status: Gone,
        accuser: NodeId(2),
    };
    stage.hear(link, tidings::status(&[lie]));
    let life = stage.node.identity();
    assert!(life.incarnation > OWN.incarnation, "else nobody could doubt it any more");
    // A suspicion of what it has said is contradicted, and that is all
    stage.wait(secs(61));
    stage.hear(link, tidings::status(&[tidings::StatusUpdate { incarnation: life.incarnation, refutation: 0, ..lie }]));
    assert_eq!(stage.node.identity(), life);
}

#[test]
fn who_is_sent_elsewhere_is_not_lost() {
    let link = LinkModel { latency: Latency::LogNormal(millis(20)), loss: 0.05, ..LinkModel::default() };
    let setup = Setup { link, presence: Some(crate::Presence::All), ..Setup::new(90, Topology::Overlay, 1) };
    let mut network = setup.network();
    network.run_for(secs(40));
    let before = network.traffic();
    network.run_for(secs(10));
    // The one that all know sends most of them elsewhere, again and again
    assert!(since(&network, &before, "bye").0 > 50);
    let (updates, _) = since(&network, &before, "status");
    assert!(updates < 1000, "{updates} messages about members that nobody has lost");
}
