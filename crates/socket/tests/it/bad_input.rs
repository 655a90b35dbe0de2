//! Peers that break the protocol, or say nothing: each loses its own connection, and nobody else anything.

use std::time::Duration;

use testkit::Random;
use tidings_socket::SocketType::{Dealer, Pub, Pull, Push, Rep, Router, Xpub};
use tidings_socket::{Context, Options, SocketType};
use tokio::io::AsyncReadExt;

use crate::support::*;

#[tokio::test]
async fn each_mistake_has_its_reason() {
    let options = Options::new().max_message_size(Some(1000)).max_message_frames(5);
    let mut victim = Victim::new(options).await;
    let after_opening = |rest: &[u8]| [&opening("PUSH")[..], rest].concat();
    let in_handshake = |rest: &[u8]| [&opening("PUSH")[..64], rest].concat();
    let mut mechanism = opening("PUSH");
    mechanism[12..16].copy_from_slice(b"KRYP");
    let command = |body: &[u8]| frame(4, body);
    for (label, octets, reason) in [
        ("a long frame", after_opening(&[&[2, 0, 0, 0, 0, 0, 0, 3, 233][..], &[0; 1001]].concat()), "frame-too-large"),
        ("a huge announcement", after_opening(&[2, 0x7f, 255, 255, 255, 255, 255, 255, 255]), "frame-too-large"),
        ("a negative length", after_opening(&[2, 255, 255, 255, 255, 255, 255, 255, 255]), "frame-too-large"),
        ("too many frames", after_opening(&frame(1, b"x").repeat(6)), "too-many-frames"),
        ("a wrong type", opening("PULL"), "incompatible-socket-type"),
        ("an invented type", opening("TELEPATHY"), "incompatible-socket-type"),
        ("another mechanism", mechanism, "mechanism-mismatch"),
        ("a short PING", after_opening(&command(b"\x04PING\x01")), "malformed-command"),
        ("ERROR in traffic", after_opening(&command(b"\x05ERROR\x04busy")), "error-received"),
        ("ERROR for READY", in_handshake(&command(b"\x05ERROR\x03400")), "error-received"),
        ("a message for READY", in_handshake(&command(b"\x05HELLO")), "unexpected-command"),
        ("half a property", in_handshake(&command(b"\x05READY\x0bSocket-Type\0\0\0\x09PU")), "malformed-metadata"),
        ("a stray octet", in_handshake(&command(b"\x05READY\x0bSocket-Type\0\0\0\x04PUSH\x01")), "malformed-metadata"),
        ("a READY without end", in_handshake(&[6, 0, 0, 0, 0, 0x10, 0, 0, 0]), "frame-too-large"),
    ] {
        refuses(&mut victim, label, &octets, reason).await;
    }
}

#[tokio::test]
async fn a_handshake_cut_off_anywhere_ends_that_connection_only() {
    let mut victim = Victim::new(Options::new()).await;
    let whole = [opening("PUSH"), frame(1, b"first of two"), frame(0, b"second")].concat();
    for cut in 0..whole.len() {
        let mut peer = RawPeer::connect(&victim.at).await;
        peer.write(&whole[..cut]).await;
        drop(peer);
        // Closing with our greeting unread resets the connection
        eventually(format!("cut at {cut}"), || {
            victim.closes("peer-closed") + victim.closes("transport-failed") == cut as u64 + 1
        })
        .await;
        if cut % 20 == 0 {
            victim.still_serves(&format!("cut at {cut}")).await;
        }
    }
    assert!(victim.pull.try_recv().is_err(), "half a message is none");
}

#[tokio::test]
async fn random_octets_disturb_nobody() {
    for seed in 0..200 {
        let mut random = Random::seeded(seed);
        let context = Context::new();
        let types = [Pull, Rep, Router, Dealer, Pub, Xpub];
        let socket_type = types[random.within(0..=5) as usize];
        let server =
            socket_with(&context, socket_type, Options::new().handshake_interval(Some(Duration::from_millis(50))));
        let at = bind(&server, "tcp").await;
        let mut peer = RawPeer::connect(&at).await;
        // Some of them get through the greeting or the handshake before they go mad
        let good = match socket_type {
            Pull => opening("PUSH"),
            Rep | Router | Dealer => opening("DEALER"),
            _ => opening("SUB"),
        };
        let start = match random.within(0..=3) {
            0 => 0,
            1 => 10,
            2 => 64,
            _ => good.len(),
        };
        let mut octets = good[..start].to_vec();
        for _ in 0..random.within(1..=2000) {
            octets.push(random.next_u64() as u8);
        }
        for piece in octets.chunks(random.within(1..=500) as usize) {
            peer.write(piece).await;
            tokio::task::yield_now().await;
        }
        drop(peer);
        let label = format!("seed {seed}, {socket_type}, {start} good octets");
        eventually(&label, || server.stats().closes.values().sum::<u64>() == 1).await;
        assert_eq!(connected(&server), 0, "{label}");
    }
}

#[tokio::test]
async fn octets_that_pass_for_zmtp_1_0_are_kept_out_where_that_is_too_old() {
    let mut options = Options::new();
    options.set("oldest_version", "2.0").unwrap();
    let mut victim = Victim::new(options).await;
    // Without a signature anything is a frame of 1.0: here an empty routing id and a message
    refuses(&mut victim, "ZMTP 1.0", b"\x01\x00\x06\x00hello", "version-too-old").await;
    refuses(&mut victim, "a browser", b"GET / HTTP/1.1\r\n\r\n", "version-too-old").await;
}

#[tokio::test]
async fn silent_and_slow_peers_are_shown_out() {
    let mut victim = Victim::new(Options::new().handshake_interval(Some(Duration::from_millis(50)))).await;
    let mut events = victim.pull.events();
    let silent = RawPeer::connect(&victim.at).await;
    let mut slow = RawPeer::connect(&victim.at).await;
    slow.write(&opening("PUSH")[..70]).await;
    for _ in 0..2 {
        let failed = event(&mut events, "handshake-failed").await;
        assert!(failed.to_string().contains("handshake was not done"), "{failed}");
    }
    assert_eq!(victim.closes("handshake-timed-out"), 2);
    victim.still_serves("after the silent").await;
    drop((silent, slow));
}

#[tokio::test]
async fn a_peer_that_stops_in_a_frame_is_found_out_by_heartbeats() {
    let options = Options::new()
        .heartbeat_interval(Some(Duration::from_millis(20)))
        .heartbeat_timeout(Some(Duration::from_millis(100)));
    let mut victim = Victim::new(options).await;
    let mut events = victim.pull.events();
    let mut peer = RawPeer::handshaken(&victim.at, "PUSH").await;
    peer.write(&[2, 0, 0, 0, 0, 0, 0x10, 0, 0, b'x', b'x']).await;
    let ended = event(&mut events, "disconnected").await;
    assert!(ended.to_string().contains("after a PING"), "{ended}");
    assert_eq!(victim.closes("heartbeat-timed-out"), 1);
    victim.still_serves("after the one that stopped").await;
}

#[tokio::test]
async fn a_bad_server_is_refused_and_forgotten_unless_it_may_relent() {
    for (label, octets, code, forgotten) in [
        ("wrong type", opening("PUSH"), "incompatible-socket-type", true),
        ("ERROR", [&opening("PULL")[..64], &frame(4, b"\x05ERROR\x03400")].concat(), "400", false),
        ("a bad command", [&opening("PULL")[..64], &frame(4, b"\x05NOISE")].concat(), "unexpected-command", true),
    ] {
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let context = Context::new();
        let push = socket(&context, Push);
        let connecting = push.connect(format!("tcp://{}", server.local_addr().unwrap())).unwrap();
        let (stream, _) = soon(label, server.accept()).await.unwrap();
        let mut peer = RawPeer { stream };
        peer.write(&octets).await;
        let error = soon(label, connecting).await.unwrap_err();
        let tidings_socket::ConnectError::Refused { code: told, .. } = &error else { panic!("{label}: {error}") };
        assert_eq!(told, code, "{label}");
        match forgotten {
            true => eventually(label, || push.stats().peers.is_empty()).await,
            // Refused for who we are: tried again, but not soon
            false => assert_eq!(push.stats().peers.len(), 1, "{label}"),
        }
    }
}

#[tokio::test]
async fn no_type_of_socket_minds_a_message_out_of_place() {
    // What each of these hears is legal on the wire and senseless for the pattern
    for (server, client) in [(SocketType::Push, "PULL"), (SocketType::Pub, "SUB"), (SocketType::Req, "REP")] {
        let context = Context::new();
        let socket = socket(&context, server);
        let at = bind(&socket, "tcp").await;
        let mut peer = RawPeer::handshaken(&at, client).await;
        eventually(server, || connected(&socket) == 1).await;
        let noise = [frame(1, b""), frame(0, b"unasked"), frame(0, b"\x07user"), frame(4, b"\x07UNKNOWN")];
        peer.write(&noise.concat()).await;
        peer.write(&frame(4, b"\x04PING\0\0done")).await;
        match server {
            // No delimiter: a REQ hangs up
            SocketType::Req => eventually(server, || socket.stats().closes.contains_key("no-delimiter")).await,
            _ => {
                let mut pong = [0; 11];
                soon(server, peer.stream.read_exact(&mut pong)).await.unwrap();
                assert_eq!(&pong[..], b"\x04\x09\x04PONGdone");
                assert_eq!(connected(&socket), 1);
            }
        }
    }
}

/// Octets from a raw peer must end its connection for this reason, in the events and in the figures
async fn refuses(victim: &mut Victim, label: &str, octets: &[u8], reason: &str) {
    let before = victim.closes(reason);
    let mut events = victim.pull.events();
    let mut peer = RawPeer::connect(&victim.at).await;
    peer.write(octets).await;
    peer.read_to_end().await;
    eventually(format!("{label} closes with {reason}: {:?}", victim.pull.stats().closes), || {
        victim.closes(reason) == before + 1
    })
    .await;
    loop {
        let event = soon(label, events.next()).await.unwrap();
        if let "handshake-failed" | "disconnected" = event.kind.name() {
            let told = serde_json::to_value(&event).unwrap();
            assert_eq!(told["reason"], reason, "{label}");
            break;
        }
    }
    victim.still_serves(label).await;
}
