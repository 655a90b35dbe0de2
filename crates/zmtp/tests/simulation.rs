//! Two connections on a simulated network: what happens over time, whatever the network does.
//!
//! Octets and states are tested beside their code; here stand the stories that need a clock and a peer.

use std::time::Duration;

use testkit::{End, Network};
use tidings_zmtp::{CloseReason, Config, Heartbeat, Message, SocketType};

const SEEDS: std::ops::Range<u64> = 0..50;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn beating(socket_type: SocketType, interval: u64, timeout: u64, ttl: u64) -> Config {
    let heartbeat = Heartbeat { interval: Some(seconds(interval)), timeout: Some(seconds(timeout)), ttl: seconds(ttl) };
    Config::new(socket_type).heartbeat(heartbeat)
}

/// A peer that speaks at most some version, and carries one message
struct OlderPeer {
    version: (u8, u8),
    /// Its opening, and the message "hi"
    says: Vec<u8>,
    /// What it must hear when the answer is "yo"
    hears: Vec<u8>,
}

fn older_peers() -> Vec<OlderPeer> {
    let greeting = |minor: u8| {
        let mut octets = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03".to_vec();
        octets.push(minor);
        octets.extend(b"NULL");
        octets.resize(64, 0);
        octets
    };
    let ready = b"\x04\x29\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\0";
    let signature = &b"\xff\0\0\0\0\0\0\0\x01\x7f"[..];
    let modern = |minor| [&greeting(minor)[..], ready].concat();
    let peer =
        |version, says: &[&[u8]], hears: &[&[u8]]| OlderPeer { version, says: says.concat(), hears: hears.concat() };
    vec![
        peer((3, 1), &[&modern(1), b"\0\x02hi"], &[&modern(1), b"\0\x02yo"]),
        peer((3, 0), &[&modern(0), b"\0\x02hi"], &[&modern(1), b"\0\x02yo"]),
        peer((2, 0), &[signature, b"\x01\x05\0\x03BOB\0\x02hi"], &[signature, b"\x03\x05\0\0\0\x02yo"]),
        peer((1, 0), &[signature, b"\0\x05\x04\0BOB\x03\0hi"], &[signature, b"\x03\x05\x01\0\x03\0yo"]),
        peer((1, 0), &[b"\x04\0BOB\x03\0hi"], &[signature, b"\x03\0yo"]),
    ]
}

#[test]
fn any_two_compatible_sockets_meet_and_talk() {
    for seed in SEEDS {
        for one in SocketType::ALL {
            for other in SocketType::ALL.into_iter().filter(|other| one.accepts(*other)) {
                let mut network = Network::seeded(seed);
                let (a, b) = network.link(Config::new(one), Config::new(other));
                network.send(a, Message::multipart(["", "hello"]));
                network.send(b, "world");
                network.run_until_quiet();
                assert_eq!(network.peer(a).and_then(|peer| peer.socket_type), Some(other));
                assert_eq!(network.peer(b).and_then(|peer| peer.socket_type), Some(one));
                assert_eq!(network.received(a), [Message::from("world")]);
                assert_eq!(network.received(b), [Message::multipart(["", "hello"])]);
                assert_eq!((network.closed(a), network.closed(b)), (None, None));
            }
        }
    }
}

#[test]
fn peers_of_every_version_meet_and_talk() {
    for seed in SEEDS {
        for OlderPeer { version, says, hears } in older_peers() {
            let mut network = Network::seeded(seed);
            let (ours, theirs) = network.link_to_script(Config::new(SocketType::Dealer));
            network.send(ours, "yo");
            network.say(theirs, &says);
            network.run_until_quiet();
            assert_eq!(network.peer(ours).map(|peer| peer.version), Some(version));
            assert_eq!(network.received(ours), [Message::from("hi")], "{version:?}");
            assert_eq!(network.heard(theirs), hears, "{version:?}");
        }
    }
}

#[test]
fn incompatible_sockets_both_learn_why() {
    for seed in SEEDS {
        let mut network = Network::seeded(seed);
        let (a, b) = network.link(Config::new(SocketType::Req), Config::new(SocketType::Pub));
        network.run_until_idle();
        for (end, ours, theirs) in [(a, SocketType::Req, "PUB"), (b, SocketType::Pub, "REQ")] {
            let reason = network.closed(end).map(|(_, reason)| reason);
            let theirs = theirs.to_owned();
            assert_eq!(reason, Some(CloseReason::IncompatibleSocketType { ours, theirs }));
        }
    }
}

#[test]
fn a_peer_that_says_nothing_runs_into_the_handshake_timeout() {
    let mut network = Network::seeded(1);
    let (ours, theirs) = network.link_to_script(Config::new(SocketType::Pull).handshake_timeout(seconds(7)));
    network.say(theirs, b"\xff\0\0\0\0\0\0\0\x01\x7f\x03");
    network.run_until_idle();
    assert_eq!(network.closed(ours), Some((seconds(7), CloseReason::HandshakeTimedOut { after: seconds(7) })));
}

/// A subscriber with heartbeats and a publisher, met
fn beating_pair(seed: u64, subscriber: Config) -> (Network, End, End) {
    let mut network = Network::seeded(seed);
    let (subscriber, publisher) = network.link(subscriber, Config::new(SocketType::Pub));
    network.run_until_quiet();
    assert!(network.peer(subscriber).is_some() && network.peer(publisher).is_some());
    (network, subscriber, publisher)
}

#[test]
fn heartbeats_keep_an_idle_connection_for_ever() {
    for seed in SEEDS {
        let (mut network, subscriber, publisher) = beating_pair(seed, beating(SocketType::Sub, 5, 2, 10));
        network.run_for(seconds(1000));
        assert_eq!((network.closed(subscriber), network.closed(publisher)), (None, None));
    }
}

#[test]
fn a_frozen_peer_is_noticed_within_interval_and_timeout() {
    for seed in SEEDS {
        let (mut network, subscriber, publisher) = beating_pair(seed, beating(SocketType::Sub, 5, 2, 0));
        network.run_for(seconds(60));
        network.freeze(publisher);
        let frozen = network.elapsed();
        network.run_for(seconds(60));
        let (closed, reason) = network.closed(subscriber).expect("noticed");
        assert_eq!(reason, CloseReason::HeartbeatTimedOut { after: seconds(2) });
        assert!(closed - frozen <= seconds(7), "{:?}", closed - frozen);
        let told = network.closed(publisher).map(|(_, reason)| reason);
        assert_eq!(told, Some(CloseReason::PeerClosed { mid_frame: false, mid_handshake: false }));
    }
}

#[test]
fn a_promise_to_live_binds_the_peer_that_gave_it() {
    for seed in SEEDS {
        // The publisher has no heartbeat of its own: it acts on what the subscriber's PING promised.
        let (mut network, subscriber, publisher) = beating_pair(seed, beating(SocketType::Sub, 5, 60, 8));
        network.run_for(seconds(31));
        network.freeze(subscriber);
        let frozen = network.elapsed();
        network.run_for(seconds(30));
        let (closed, reason) = network.closed(publisher).expect("noticed");
        assert_eq!(reason, CloseReason::TtlExpired { after: seconds(8) });
        assert!(closed - frozen <= seconds(8), "{:?}", closed - frozen);
    }
}

#[test]
fn a_thaw_in_time_is_no_alarm() {
    for seed in SEEDS {
        let (mut network, subscriber, publisher) = beating_pair(seed, beating(SocketType::Sub, 5, 20, 30));
        for _ in 0..10 {
            network.freeze(publisher);
            network.run_for(seconds(15));
            network.thaw(publisher);
            network.run_for(seconds(15));
        }
        assert_eq!((network.closed(subscriber), network.closed(publisher)), (None, None));
    }
}

#[test]
fn no_alarm_while_we_do_not_read() {
    for seed in SEEDS {
        let (mut network, subscriber, publisher) = beating_pair(seed, beating(SocketType::Sub, 5, 2, 0));
        network.set_reading(subscriber, false);
        network.send(publisher, "meanwhile");
        network.run_for(seconds(300));
        assert_eq!(network.closed(subscriber), None);
        assert_eq!(network.received(subscriber), []);
        network.set_reading(subscriber, true);
        network.run_for(seconds(300));
        assert_eq!(network.closed(subscriber), None);
        assert_eq!(network.received(subscriber), [Message::from("meanwhile")]);
    }
}

#[test]
fn a_peer_that_is_gone_when_we_read_again_is_noticed() {
    let (mut network, subscriber, publisher) = beating_pair(1, beating(SocketType::Sub, 5, 2, 0));
    network.set_reading(subscriber, false);
    network.run_for(seconds(100));
    network.freeze(publisher);
    network.set_reading(subscriber, true);
    let resumed = network.elapsed();
    network.run_for(seconds(100));
    let expected = (resumed + seconds(2), CloseReason::HeartbeatTimedOut { after: seconds(2) });
    assert_eq!(network.closed(subscriber), Some(expected));
}

#[test]
fn a_cut_shows_where_it_struck() {
    let opening = 64 + 2 + 5 + 1 + 1 + 11 + 4 + 4;
    for seed in SEEDS {
        // Two messages of one frame and one of two, five octets a frame.
        for (octets, mid_handshake, mid_frame, whole) in [
            (0, true, false, 0),
            (63, true, true, 0),
            (opening - 1, true, true, 0),
            (opening, false, false, 0),
            (opening + 4, false, true, 0),
            (opening + 5, false, false, 1),
            (opening + 10, false, false, 2),
            (opening + 15, false, true, 2),
            (opening + 20, false, false, 3),
        ] {
            let mut network = Network::seeded(seed);
            let (push, pull) = network.link(Config::new(SocketType::Push), Config::new(SocketType::Pull));
            network.cut_after(push, octets);
            network.send(push, "one");
            network.send(push, "two");
            network.send(push, Message::multipart(["abc", "def"]));
            network.run_until_idle();
            let reason = network.closed(pull).map(|(_, reason)| reason);
            assert_eq!(reason, Some(CloseReason::PeerClosed { mid_frame, mid_handshake }), "after {octets} octets");
            assert_eq!(network.received(pull).len(), whole, "after {octets} octets");
        }
    }
}

#[test]
fn a_cut_loses_what_is_under_way_and_both_ends_see_it() {
    let mut network = Network::seeded(1);
    let (push, pull) = network.link(Config::new(SocketType::Push), Config::new(SocketType::Pull));
    network.run_until_quiet();
    network.freeze(push);
    network.send(push, "lost");
    network.run_until_quiet();
    network.thaw(push);
    network.cut(push);
    network.run_until_idle();
    let closed = Some(CloseReason::PeerClosed { mid_frame: false, mid_handshake: false });
    assert_eq!(network.closed(pull).map(|(_, reason)| reason), closed);
    assert_eq!(network.closed(push).map(|(_, reason)| reason), closed);
    assert_eq!(network.received(pull), []);
}
