//! PLAIN and CURVE between two connections: golden octets, verdicts, order, and what a lost connection costs.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use testkit::{Attendee, Meeting, Network, SeededEntropy, Speaker};
use tidings_zmtp::{
    AuthVerdict, CloseReason, Config, Connection, CredentialTooLong, Credentials, CurveClient, CurvePublicKey,
    CurveSecretKey, CurveServer, DenyCode, Entropy, EntropyError, Event, Family, Heartbeat, MechanismConfig, Message,
    PlainClient, Properties, SocketType, Version, WriteQueue,
};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn server_key() -> CurveSecretKey {
    CurveSecretKey::from_octets([0x42; 32])
}

fn client_key() -> CurveSecretKey {
    CurveSecretKey::from_octets([0x17; 32])
}

fn curve_client(config: Config, seed: u64) -> Config {
    let client = CurveClient::new(client_key(), server_key().public(), SeededEntropy::seeded(seed));
    config.mechanism(MechanismConfig::CurveClient(client))
}

fn curve_server(config: Config, seed: u64) -> Config {
    config.mechanism(MechanismConfig::CurveServer(CurveServer::new(server_key(), SeededEntropy::seeded(seed))))
}

fn plain_client(config: Config) -> Config {
    let shown = PlainClient::new("admin", "secret").map(MechanismConfig::PlainClient);
    config.mechanism(shown.unwrap_or_default())
}

fn plain_server(config: Config) -> Config {
    config.mechanism(MechanismConfig::PlainServer)
}

/// DEALER "BOB" and ROUTER, by CURVE
fn curve_meeting() -> Meeting {
    let client = curve_client(Config::new(SocketType::Dealer).routing_id("BOB"), 1);
    Meeting::new(client, curve_server(Config::new(SocketType::Router), 2))
}

fn curve_pair(client: SocketType, server: SocketType) -> Meeting {
    Meeting::new(curve_client(Config::new(client), 1), curve_server(Config::new(server), 2))
}

fn plain_pair() -> Meeting {
    let client = plain_client(Config::new(SocketType::Dealer).routing_id("BOB"));
    Meeting::new(client, plain_server(Config::new(SocketType::Router)))
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// FNV-1a, which is enough to see that octets are the same as ever
fn fingerprint(octets: &[u8]) -> u64 {
    octets.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &octet| (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3))
}

// Golden octets

#[test]
fn plain_says_what_the_sheet_says() {
    let mut meeting = plain_pair();
    meeting.run();
    let client = [
        b"\x05HELLO\x05admin\x06secret".to_vec(),
        b"\x08INITIATE\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\x03BOB".to_vec(),
    ];
    assert_eq!(meeting.client_said, client);
    let server = [b"\x07WELCOME".to_vec(), b"\x05READY\x0bSocket-Type\0\0\0\x06ROUTER\x08Identity\0\0\0\0".to_vec()];
    assert_eq!(meeting.server_said, server);
    let peer = meeting.server.peer.unwrap();
    assert_eq!((peer.mechanism, &peer.routing_id[..]), ("PLAIN", &b"BOB"[..]));
    assert!(meeting.client.peer.is_some() && meeting.client.connection.is_passthrough());
}

#[test]
fn curve_says_octets_of_the_sheets_sizes_and_always_the_same() {
    let mut meeting = curve_meeting();
    meeting.client.send("x");
    meeting.server.send("y");
    meeting.run();
    let sizes = |said: &[Vec<u8>]| said.iter().map(Vec::len).collect::<Vec<_>>();
    assert_eq!(sizes(&meeting.client_said), [200, 295, 34]);
    assert_eq!(sizes(&meeting.server_said), [168, 65, 34]);
    let [hello, initiate, message] = &meeting.client_said[..] else { panic!() };
    let [welcome, ready, answer] = &meeting.server_said[..] else { panic!() };
    assert!(hello.starts_with(b"\x05HELLO\x01\0") && hello[8..80] == [0; 72] && hello[112..120] == 1u64.to_be_bytes());
    assert!(initiate.starts_with(b"\x08INITIATE") && initiate[105..113] == 2u64.to_be_bytes());
    assert!(message.starts_with(b"\x07MESSAGE") && message[8..16] == 3u64.to_be_bytes());
    assert!(welcome.starts_with(b"\x07WELCOME"));
    assert!(ready.starts_with(b"\x05READY") && ready[6..14] == 1u64.to_be_bytes());
    assert!(answer.starts_with(b"\x07MESSAGE") && answer[8..16] == 2u64.to_be_bytes());
    // What libzmq was seen to understand; keys and seeds are fixed.
    let said = meeting.client_said.iter().chain(&meeting.server_said);
    let fingerprints: Vec<u64> = said.map(|octets| fingerprint(octets)).collect();
    assert_eq!(hex(&hello[80..112]), GOLDEN_TRANSIENT);
    assert_eq!(hex(message), GOLDEN_MESSAGE);
    assert_eq!(fingerprints, GOLDEN);
    let (at_server, at_client) = meeting.received();
    assert_eq!((at_server, at_client), (vec![Message::from("x")], vec![Message::from("y")]));
}

const GOLDEN_TRANSIENT: &str = "3766b869d6c3f48a847f3dd5281304d621c2069c78522b8c4dc606470cfd006b";
const GOLDEN_MESSAGE: &str = "074d455353414745000000000000000341322af2e6309ef39d68d7cb9edff113f0fe";
const GOLDEN: [u64; 6] = [
    0x65f1_c930_71c5_dac3,
    0xbbb0_2502_3c61_4895,
    0xdeb0_db4b_3dd2_8fb0,
    0xbed0_c326_22e8_681b,
    0xb23b_8587_d621_d293,
    0x008a_2a43_2b1d_fd77,
];

#[test]
fn the_greeting_goes_out_at_once_and_says_who_is_the_server() {
    for (config, name, as_server) in [
        (plain_client(Config::new(SocketType::Sub)), "PLAIN", 0),
        (plain_server(Config::new(SocketType::Sub)), "PLAIN", 1),
        (curve_client(Config::new(SocketType::Sub), 1), "CURVE", 0),
        (curve_server(Config::new(SocketType::Sub), 1), "CURVE", 1),
    ] {
        let said = Attendee::new(config).says();
        assert_eq!(
            (said.len(), &said[10..17], said[32]),
            (64, &[b"\x03\x01", name.as_bytes()].concat()[..], as_server)
        );
    }
}

// Versions

/// The greeting of a 3.0 peer
fn older_greeting(mechanism: &str) -> Vec<u8> {
    let mut greeting = [b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\0", mechanism.as_bytes()].concat();
    greeting.resize(64, 0);
    greeting
}

#[test]
fn subscriptions_to_a_3_0_peer_are_messages_in_their_boxes() {
    for minor in [0, 1] {
        let mut client = Attendee::new(curve_client(Config::new(SocketType::Sub), 1));
        let mut server = Attendee::new(curve_server(Config::new(SocketType::Xpub), 2));
        server.says();
        let mut greeting = older_greeting("CURVE");
        greeting[11] = minor;
        client.hears(&greeting);
        server.hears(&client.says());
        client.hears(&server.says());
        server.hears(&client.says());
        client.hears(&server.says());
        assert_eq!(client.peer.as_ref().map(|peer| peer.version), Some((3, minor)));
        client.connection.subscribe(b"topic");
        client.connection.cancel(b"topic");
        let said = client.says();
        let (subscribe, cancel) = [(2 + 33 + 6, 2 + 33 + 6), (2 + 33 + 15, 2 + 33 + 12)][usize::from(minor)];
        assert_eq!(said.len(), subscribe + cancel, "3.{minor}");
        server.hears(&said);
        assert_eq!(server.received, [Message::from("\x01topic"), Message::from("\0topic")], "3.{minor}");
    }
}

#[test]
fn nobody_is_talked_out_of_a_mechanism() {
    let configs = [
        plain_client(Config::new(SocketType::Sub)),
        plain_server(Config::new(SocketType::Sub)),
        curve_client(Config::new(SocketType::Sub), 1),
        curve_server(Config::new(SocketType::Sub), 1),
        Config::new(SocketType::Sub).authenticate(true),
    ];
    for config in configs {
        let older = [(Version::V1_0, &b"\x01\0"[..]), (Version::V2_0, b"\xff\0\0\0\0\0\0\0\x01\x7f\x01\x01\0\0")];
        for (theirs, octets) in older {
            let mut side = Attendee::new(config.clone());
            side.hears(octets);
            assert_eq!(side.closed, Some(CloseReason::VersionTooOld { theirs, oldest: Version::V3_0 }));
        }
        let mut side = Attendee::new(config.clone());
        side.hears(&older_greeting("GSSAPI"));
        assert!(matches!(side.closed, Some(CloseReason::MechanismMismatch { .. })), "{:?}", side.closed);
    }
}

#[test]
fn two_clients_and_two_servers_do_not_meet() {
    let mut meeting =
        Meeting::new(curve_client(Config::new(SocketType::Pair), 1), curve_client(Config::new(SocketType::Pair), 2));
    meeting.run();
    let reason = CloseReason::UnexpectedCommand { name: "HELLO".into(), due: "WELCOME" };
    assert!(reason.to_string().contains("client of its mechanism as we are"), "{reason}");
    assert_eq!(meeting.server.closed, Some(reason));
    let mut network = Network::seeded(1);
    let server = || plain_server(Config::new(SocketType::Pair)).handshake_timeout(seconds(3));
    let (one, other) = network.link(server(), server());
    network.run_until_idle();
    for end in [one, other] {
        assert_eq!(network.closed(end), Some((seconds(3), CloseReason::HandshakeTimedOut { after: seconds(3) })));
    }
}

// Who may come in

/// For each mechanism that asks: who meets, and what the server is shown
fn asking() -> Vec<(Meeting, Credentials)> {
    let null = Config::new(SocketType::Router).authenticate(true);
    let curve = curve_server(Config::new(SocketType::Router), 2).authenticate(true);
    let dealer = || Config::new(SocketType::Dealer).oldest_version(Version::V3_0);
    let plain = Credentials::Plain { username: "admin".into(), password: b"secret".to_vec().into() };
    vec![
        (Meeting::new(dealer(), null), Credentials::Null),
        (plain_pair(), plain),
        (Meeting::new(curve_client(dealer(), 1), curve), Credentials::Curve { public_key: client_key().public() }),
    ]
}

#[test]
fn whoever_is_let_in_has_a_name_that_it_does_not_learn() {
    for (mut meeting, shown) in asking() {
        meeting.server.verdict = |_| {
            let mut metadata = Properties::new();
            metadata.insert("X-Role", "node").ok()?;
            Some(AuthVerdict::Allow { user_id: "joe".into(), metadata })
        };
        meeting.client.send("hello");
        meeting.run();
        let name = shown.mechanism();
        assert_eq!(meeting.server.asked, Some(shown));
        let peer = meeting.server.peer.as_ref().expect(name);
        assert_eq!((&peer.user_id[..], peer.mechanism), (&b"joe"[..], name));
        assert_eq!(peer.metadata.value("X-Role"), Some(&Bytes::from("node")));
        assert_eq!(peer.properties.value("X-Role"), None);
        let told = meeting.client.peer.as_ref().expect(name);
        assert!(told.user_id.is_empty() && told.metadata.is_empty() && told.properties.value("X-Role").is_none());
        assert_eq!(meeting.received().0, [Message::from("hello")]);
        assert_eq!(meeting.client.asked, None);
    }
}

#[test]
fn the_authenticator_may_name_a_peer_that_has_no_name() {
    for (id, known) in [("BOB", "BOB"), ("", "alice")] {
        let client = curve_client(Config::new(SocketType::Dealer).routing_id(id), 1);
        let server = curve_server(Config::new(SocketType::Router), 2).authenticate(true);
        let mut meeting = Meeting::new(client, server);
        meeting.server.verdict = |_| {
            let mut metadata = Properties::new();
            metadata.insert("Identity", "alice").ok()?;
            Some(AuthVerdict::Allow { user_id: Bytes::new(), metadata })
        };
        meeting.run();
        assert_eq!(meeting.server.peer.unwrap().routing_id, known);
    }
}

#[test]
fn whoever_is_refused_is_told_at_once_unless_it_may_try_again() {
    for (code, told) in
        [(DenyCode::Temporary, None), (DenyCode::Denied, Some("400")), (DenyCode::Internal, Some("500"))]
    {
        for (mut meeting, shown) in asking() {
            meeting.server.verdict = |_| None;
            meeting.client.send("hello");
            meeting.run();
            assert_eq!(meeting.server.closed, None, "no verdict yet");
            meeting.server.decide(AuthVerdict::Deny { code, reason: "not on the list".into() });
            let said = meeting.server.says();
            let expected = told.map(|code| [b"\x04\x0a\x05ERROR\x03", code.as_bytes()].concat());
            assert_eq!(said, expected.unwrap_or_default(), "{shown:?}");
            let reason = CloseReason::Denied { code: code.number(), reason: "not on the list".into() };
            assert_eq!((reason.name(), reason.family(), reason.is_definite()), ("denied", Family::Refused, true));
            assert_eq!(meeting.server.closed, Some(reason));
            meeting.client.hears(&said);
            meeting.client.hears_the_end();
            let refused = told.map(|reason| CloseReason::ErrorReceived { reason: reason.into() });
            let lost = CloseReason::PeerClosed { mid_frame: false, mid_handshake: true };
            assert_eq!(meeting.client.closed, Some(refused.unwrap_or(lost)), "{shown:?}");
            assert!(meeting.client.peer.is_none() && meeting.server.peer.is_none());
            assert!(meeting.server.received.is_empty() && meeting.client.queue.messages() == 1);
        }
    }
}

#[test]
fn nothing_is_read_while_the_verdict_is_awaited_and_the_time_goes_on() {
    let now = Instant::now();
    let config = Config::new(SocketType::Pull).authenticate(true).handshake_timeout(seconds(3));
    let mut connection = Connection::new(config, now);
    let mut input = BytesMut::from(&older_greeting("NULL")[..]);
    input.extend_from_slice(b"\x04\x06\x05READY\0\x01a");
    connection.handle_input(now, &mut input, 10);
    assert_eq!(connection.poll_event(), Some(Event::Authenticate(Credentials::Null)));
    assert!(connection.awaits_verdict() && input.len() == 11);
    assert_eq!(connection.poll_transmit().map(|octets| octets.len()), Some(64), "the greeting, and no READY");
    connection.handle_input(now, &mut input, 10);
    assert_eq!((connection.poll_event(), input.len(), connection.poll_timeout()), (None, 11, Some(now + seconds(3))));
    connection.handle_verdict(now, AuthVerdict::allow());
    assert!(!connection.awaits_verdict());
    assert_eq!(connection.poll_transmit().unwrap()[..8], *b"\x04\x1a\x05READY");
    connection.handle_input(now, &mut input, 10);
    assert!(matches!(connection.poll_event(), Some(Event::Handshaken(_))));
    assert_eq!(connection.messages().pop_front(), Some(Message::from("a")));
    connection.handle_verdict(now, AuthVerdict::deny("too late"));
    assert!(connection.is_handshaken(), "a second verdict counts for nothing");

    let config = plain_server(Config::new(SocketType::Pull)).handshake_timeout(seconds(3));
    let mut late = Connection::new(config, now);
    late.handle_input(now, &mut BytesMut::from(&older_greeting("PLAIN")[..]), 10);
    late.handle_input(now, &mut BytesMut::from(&b"\x04\x08\x05HELLO\0\0"[..]), 10);
    late.handle_timeout(now + seconds(3));
    assert_eq!(late.poll_event(), Some(Event::Closed(CloseReason::HandshakeTimedOut { after: seconds(3) })));
    late.handle_verdict(now + seconds(3), AuthVerdict::allow());
    assert_eq!((late.poll_event(), late.awaits_verdict(), late.is_handshaken()), (None, false, false));
}

#[test]
fn libzmqs_misspelt_error_is_understood() {
    let mut client = Attendee::new(plain_client(Config::new(SocketType::Dealer)));
    client.hears(&older_greeting("PLAIN"));
    client.hears(b"\x04\x09^RROR\x03400");
    assert_eq!(client.closed, Some(CloseReason::ErrorReceived { reason: "400".into() }));
    let mut server = Attendee::new(plain_server(Config::new(SocketType::Dealer)));
    server.hears(&older_greeting("PLAIN"));
    server.hears(b"\x04\x09^RROR\x03400");
    assert_eq!(server.closed.map(|reason| reason.name()), Some("malformed-command"), "no server is told so");
}

#[test]
fn credentials_of_any_octets_fit_up_to_255() {
    let too_long = |username: Vec<u8>, password: Vec<u8>| PlainClient::new(username, password).err();
    assert_eq!(too_long(vec![0; 255], vec![0xff; 255]), None);
    assert_eq!(too_long(vec![0; 256], vec![]), Some(CredentialTooLong { octets: 256 }));
    assert_eq!(too_long(vec![], vec![0; 300]), Some(CredentialTooLong { octets: 300 }));
    let longest = PlainClient::new(vec![0; 255], vec![0xff; 255]).unwrap();
    let client = Config::new(SocketType::Pair).mechanism(MechanismConfig::PlainClient(longest));
    let mut meeting = Meeting::new(client, plain_server(Config::new(SocketType::Pair)));
    meeting.run();
    let password = vec![0xff; 255].into();
    assert_eq!(meeting.server.asked, Some(Credentials::Plain { username: vec![0; 255].into(), password }));
    assert!(meeting.client.peer.is_some());
}

#[test]
fn secrets_stay_out_of_what_is_printed() {
    let mut meeting = plain_pair();
    let client = format!("{:?}", meeting.client);
    meeting.run();
    let shown = format!("{client}{meeting:?}");
    assert!(shown.contains("admin"));
    let spelt = format!("{:?}", b"secret");
    let said = format!("{:?}", meeting.client_said);
    assert!(
        !shown.replace(&said, "").contains("secret") && !shown.replace(&said, "").contains(&spelt[1..spelt.len() - 1])
    );
    let mut curve = curve_meeting();
    curve.run();
    let shown = format!("{:?} {:?}", curve.client.connection, curve.server.connection);
    assert!(shown.contains(&client_key().public().to_string()) && !shown.contains("66, 66"), "{shown}");
}

// Keys

#[test]
fn a_key_that_no_server_has_is_refused_before_anything_is_said() {
    let client = CurveClient::new(client_key(), CurvePublicKey::from_octets([0; 32]), SeededEntropy::seeded(1));
    let config = Config::new(SocketType::Pair).mechanism(MechanismConfig::CurveClient(client));
    let mut client = Attendee::new(config);
    client.says();
    client.hears(&older_greeting("CURVE"));
    assert_eq!((client.closed.clone(), client.says()), (Some(CloseReason::WeakKey), vec![]));
    assert_eq!(
        client.closed.map(|reason| (reason.name(), reason.family())),
        Some(("weak-key", Family::PeerIncompatible))
    );
}

#[derive(Debug)]
struct Dry;

impl Entropy for Dry {
    fn fill(&self, _: &mut [u8]) -> Result<(), EntropyError> {
        Err(EntropyError::new("the well is dry"))
    }
}

#[test]
fn without_randomness_there_is_no_handshake() {
    let client = CurveClient::new(client_key(), server_key().public(), Arc::new(Dry));
    let mut client = Attendee::new(Config::new(SocketType::Pair).mechanism(MechanismConfig::CurveClient(client)));
    client.hears(&older_greeting("CURVE"));
    let dry = CloseReason::NoEntropy(EntropyError::new("the well is dry"));
    assert_eq!((dry.name(), dry.family()), ("no-entropy", Family::Local));
    assert_eq!(client.closed, Some(dry.clone()));
    let server = MechanismConfig::CurveServer(CurveServer::new(server_key(), Arc::new(Dry)));
    let config = Config::new(SocketType::Pair);
    let mut meeting = Meeting::new(curve_client(config.clone(), 1), config.mechanism(server));
    meeting.run();
    assert_eq!(meeting.server.closed, Some(dry));
}

#[test]
fn the_wrong_servers_key_shows_where_hello_is_opened() {
    let other = CurveClient::new(client_key(), client_key().public(), SeededEntropy::seeded(1));
    let client = Config::new(SocketType::Pair).mechanism(MechanismConfig::CurveClient(other));
    let mut meeting = Meeting::new(client, curve_server(Config::new(SocketType::Pair), 2));
    meeting.run();
    let reason = meeting.server.closed.unwrap();
    assert_eq!((reason.name(), reason.family(), reason.is_definite()), ("hello-not-opened", Family::Untrusted, false));
    assert_eq!(
        reason.to_string(),
        "the peer's HELLO can't be opened: it was made for a server with another key, or altered on its way"
    );
    assert_eq!(meeting.server_said.len(), 0, "nothing is said to whoever can't open a box");
}

// Order

#[test]
fn commands_and_messages_are_numbered_as_they_are_written() {
    let beating = Heartbeat { interval: Some(seconds(1)), timeout: Some(seconds(10_000)), ttl: seconds(0) };
    let client = curve_client(Config::new(SocketType::Xsub).heartbeat(beating), 1);
    let server = curve_server(Config::new(SocketType::Xpub).heartbeat(beating), 2);
    let mut meeting = Meeting::new(client, server);
    meeting.run();
    let mut now = Instant::now();
    let (mut queue, mut sealed, mut wire) = (WriteQueue::new(), WriteQueue::new(), Vec::new());
    let connection = &mut meeting.client.connection;
    let mut sent = 0;
    for round in 0..2000u32 {
        for _ in 0..round % 7 {
            queue.push(&[], &Message::from(format!("message {sent}")));
            sent += 1;
        }
        if round % 5 == 0 {
            connection.subscribe(&round.to_be_bytes());
        }
        if round % 3 == 0 {
            now += seconds(1);
            connection.handle_timeout(now);
        }
        connection.seal(&queue, &mut sealed, 300);
        assert_eq!(connection.poll_transmit(), None, "all that is said goes the same way");
        // The transport takes what it likes
        let piece = sealed.contiguous().unwrap();
        let count = piece.len().min(round as usize * 31 % 211);
        wire.extend_from_slice(&piece[..count]);
        let written = sealed.advance(count);
        queue.advance_messages(written);
    }
    while !(queue.is_empty() && sealed.is_empty()) {
        connection.seal(&queue, &mut sealed, 1 << 20);
        assert!(!sealed.is_empty());
        wire.extend_from_slice(sealed.contiguous().unwrap());
        let written = sealed.advance(usize::MAX);
        queue.advance_messages(written);
    }
    meeting.server.hears(&wire);
    assert_eq!(meeting.server.closed, None);
    let (commands, messages): (Vec<_>, Vec<_>) =
        meeting.received().0.into_iter().partition(|message| message.first()[0] == 1);
    assert_eq!(commands.len(), 400);
    let expected: Vec<_> = (0..sent).map(|index| Message::from(format!("message {index}"))).collect();
    assert_eq!(messages, expected);
    assert!(!meeting.server.says().is_empty(), "PINGs are answered");
}

#[test]
fn pings_and_pongs_that_nobody_collects_do_not_pile_up() {
    let beating = Heartbeat { interval: Some(seconds(1)), timeout: Some(seconds(10_000)), ttl: seconds(0) };
    let mut meeting = Meeting::new(
        curve_client(Config::new(SocketType::Push).heartbeat(beating), 1),
        curve_server(Config::new(SocketType::Pull), 2),
    );
    meeting.run();
    let mut now = Instant::now();
    let mut sealed = WriteQueue::new();
    for _ in 0..3000 {
        now += seconds(1);
        meeting.client.connection.handle_timeout(now);
        meeting.client.connection.seal(&WriteQueue::new(), &mut sealed, 1000);
        assert!(sealed.octets() < 100, "one PING at a time");
        let ping = sealed.contiguous().unwrap().to_vec();
        sealed.advance(usize::MAX);
        meeting.server.hears(&ping);
    }
    let said = meeting.server.says().len();
    assert!(said > 0 && said < 64 * 1024, "{said}");
}

#[test]
fn what_the_transport_cuts_up_arrives_whole() {
    for seed in [1, 2, 3] {
        let mut network = Network::seeded(seed);
        let (client, server) = network.link(
            curve_client(Config::new(SocketType::Push), seed),
            curve_server(Config::new(SocketType::Pull), seed + 9),
        );
        let mut expected = Vec::new();
        for length in [0, 1, 79, 80, 81, 221, 222, 223, 255, 256, 4095, 4096, 4097, 70_000] {
            let payload: Vec<u8> = (0..length).map(|index| index as u8).collect();
            expected.push(Message::from(payload.clone()));
            expected.push(Message::multipart([payload.clone(), vec![], payload]));
        }
        for message in &expected {
            network.send(client, message.clone());
        }
        network.set_longest_piece(if seed == 1 { 7 } else { 5000 });
        network.run_until_idle();
        assert_eq!(network.received(server), expected);
        assert_eq!(network.closed(server), None);
    }
}

// Bounds

#[test]
fn bounds_hold_for_what_is_in_the_boxes() {
    let pull = || Config::new(SocketType::Pull);
    let cases: [(Config, Message, CloseReason); 4] = [
        (pull().max_frame(100), vec![0; 101].into(), CloseReason::FrameTooLarge { octets: 134, ceiling: 133 }),
        (pull().max_message(100), vec![0; 101].into(), CloseReason::MessageTooLarge { octets: 101, ceiling: 100 }),
        (
            pull().max_message(100),
            Message::multipart([vec![0; 60], vec![0; 60]]),
            CloseReason::MessageTooLarge { octets: 120, ceiling: 100 },
        ),
        (
            pull().max_frames_per_message(2),
            Message::multipart(["a", "b", "c"]),
            CloseReason::TooManyFrames { ceiling: 2 },
        ),
    ];
    for (server, message, reason) in cases {
        let mut meeting = Meeting::new(curve_client(Config::new(SocketType::Push), 1), curve_server(server, 2));
        meeting.client.send("fits");
        meeting.client.send(message);
        meeting.run();
        assert_eq!(meeting.received().0, [Message::from("fits")]);
        assert_eq!(meeting.server.closed, Some(reason));
    }
}

#[test]
fn a_message_too_large_is_not_waited_for_and_commands_are_not_messages() {
    let server = curve_server(Config::new(SocketType::Xpub).max_message(5), 2);
    let mut meeting = Meeting::new(curve_client(Config::new(SocketType::Xsub), 1), server);
    meeting.run();
    meeting.client.connection.subscribe(&[b't'; 200]);
    meeting.run();
    assert_eq!(meeting.received().0.len(), 1);
    meeting.server.hears(b"\x02\0\0\0\0\x01\0\0\0\x07MESSAGE");
    let octets = (1 << 24) - 33;
    assert_eq!(meeting.server.closed, Some(CloseReason::MessageTooLarge { octets, ceiling: 5 }));
}

#[test]
fn without_room_nothing_is_opened_and_nothing_is_lost() {
    let mut meeting = curve_pair(SocketType::Push, SocketType::Pull);
    meeting.run();
    for index in 0..5u8 {
        meeting.client.send(vec![index; 60 + 10 * usize::from(index)]);
    }
    let mut input = BytesMut::from(&meeting.client.says()[..]);
    let connection = &mut meeting.server.connection;
    let now = Instant::now();
    let whole = input.len();
    connection.handle_input(now, &mut input, 0);
    assert_eq!((connection.messages().len(), input.len()), (0, whole));
    for taken in [2, 4, 5] {
        connection.handle_input(now, &mut input, 2);
        assert!(connection.messages().len() <= 2);
        let _ = taken;
        for message in connection.messages().drain(..) {
            assert_eq!(message.octets(), 60 + 10 * usize::from(message.first()[0]));
            meeting.server.received.push(message);
        }
        assert_eq!(meeting.server.received.len(), taken);
    }
    assert!(input.is_empty());
}

#[test]
fn the_read_hint_says_what_of_a_sealed_frame_is_missing() {
    let mut meeting = curve_pair(SocketType::Push, SocketType::Pull);
    meeting.run();
    meeting.client.send(vec![1; 10_000]);
    let said = meeting.client.says();
    meeting.server.hears(&said[..100]);
    assert_eq!(meeting.server.connection.read_hint(), said.len() - 100);
    meeting.server.hears(&said[100..]);
    assert_eq!((meeting.server.connection.read_hint(), meeting.received().0.len()), (0, 1));
}

// A lost connection

#[test]
fn a_lost_connection_costs_no_unwritten_message() {
    let mut queue = WriteQueue::new();
    for index in 0..100 {
        queue.push(&[], &Message::from(format!("message {index} {}", "x".repeat(index * 3))));
    }
    let before = queue.octets();
    let mut arrived = Vec::new();
    let mut seed = 1;
    let mut written_octets = 0;
    while !queue.is_empty() {
        let mut meeting = Meeting::new(
            curve_client(Config::new(SocketType::Push), seed),
            curve_server(Config::new(SocketType::Pull), seed + 50),
        );
        meeting.run();
        let mut sealed = WriteQueue::new();
        meeting.client.connection.seal(&queue, &mut sealed, 2000);
        assert_eq!(queue.messages() + arrived.len(), 100, "sealing takes nothing away");
        // The transport takes a part, then the connection is gone
        let count = (seed as usize * 577 % 2000).min(sealed.octets());
        meeting.server.hears(&sealed.contiguous().unwrap()[..count]);
        let written = sealed.advance(count);
        written_octets += queue.advance_messages(written);
        arrived.extend(meeting.received().0);
        assert_eq!(queue.messages() + arrived.len(), 100);
        seed += 1;
    }
    assert_eq!(written_octets, before);
    for (index, message) in arrived.iter().enumerate() {
        assert!(message.first().starts_with(format!("message {index} ").as_bytes()));
    }
}

// What is kept of a half-open client

#[test]
fn a_half_open_connection_is_small() {
    assert!(size_of::<Connection>() <= 576, "{}", size_of::<Connection>());
    assert!(size_of::<Config>() <= 256, "{}", size_of::<Config>());
}

#[test]
fn an_initiate_played_to_another_connection_is_refused() {
    let config = curve_server(Config::new(SocketType::Router), 2);
    let mut meeting = Meeting::new(curve_client(Config::new(SocketType::Dealer), 1), config.clone());
    let mut recorded = Vec::new();
    meeting.run_altered(|speaker, _, frames| {
        if speaker == Speaker::Client {
            recorded.append(&mut frames.clone());
        }
    });
    let mut other = Attendee::new(config);
    other.hears(&older_greeting("CURVE"));
    for frame in recorded {
        other.hears(&frame);
    }
    assert_eq!(other.closed, Some(CloseReason::CookieNotOurs));
}
