//! Datagrams: RADIO and DISH, PUSH and PULL over udp (RFC 48).

use std::time::Duration;

use tidings_socket::SocketType::{self, Dish, Pull, Push, Radio};
use tidings_socket::{
    BindError, ConnectError, Context, DishSocket, Endpoint, Message, Options, RadioSocket, SendFailure,
};
use tokio::net::UdpSocket;

use crate::support::*;

/// What libzmq sends for the group "tv" and the body "HELLO"
const GOLDEN: &[u8] = b"\x02tvHELLO";

#[tokio::test]
async fn a_radio_sends_a_group_and_a_body_in_one_datagram() {
    let raw = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let context = Context::new();
    let radio = RadioSocket::new(&context).unwrap();
    radio.connect(udp_to(&raw)).unwrap();
    // At once: there is no handshake to be waited for
    radio.send("tv", "HELLO").await.unwrap();
    radio.send("", "").await.unwrap();
    radio.send([b'g'; 255], "x").await.unwrap();
    assert_eq!(datagram(&raw).await, GOLDEN);
    assert_eq!(datagram(&raw).await, b"\0");
    let long = [&[255][..], &[b'g'; 255], b"x"].concat();
    assert_eq!(datagram(&raw).await, long);
    assert_eq!(soon("ready", radio.ready(1, LONG)).await.unwrap(), 1);
    assert!(radio.close(LONG).await.is_complete());
}

#[tokio::test]
async fn a_dish_receives_what_it_joined() {
    let context = Context::new();
    let dish = DishSocket::new(&context).unwrap();
    dish.join("tv").unwrap();
    let at = soon("bind", dish.bind("udp://127.0.0.1:*").unwrap()).await.unwrap();
    let raw = raw_to(&at).await;
    for octets in [b"\x05radiono", &b"\x01tno"[..], b"\x03tv1no", b"\0no", GOLDEN, b"\x02tv"] {
        raw.send(octets).await.unwrap();
    }
    assert_eq!(soon("HELLO", dish.recv()).await.unwrap(), ("tv".into(), "HELLO".into()));
    assert_eq!(soon("an empty body", dish.recv()).await.unwrap(), ("tv".into(), "".into()));
    dish.leave("tv").unwrap();
    dish.join("").unwrap();
    raw.send(GOLDEN).await.unwrap();
    raw.send(b"\0yes").await.unwrap();
    assert_eq!(soon("the empty group", dish.recv()).await.unwrap(), ("".into(), "yes".into()));
    assert!(dish.try_recv().is_err());
    let stats = dish.stats();
    assert_eq!((stats.malformed, stats.dropped, stats.received), (0, 0, 3), "what nobody joined is no loss");
}

#[tokio::test]
async fn each_pair_talks_to_one_and_to_a_group() {
    for (sends, receives) in [(Radio, Dish), (Push, Pull)] {
        for address in ["127.0.0.1:*", "127.0.0.1;239.7.7.7:*"] {
            let label = format!("{sends} to udp://{address}");
            let context = Context::new();
            let (sender, receiver) = (socket(&context, sends), socket(&context, receives));
            let at = soon(&label, receiver.bind(format!("udp://{address}")).unwrap()).await.unwrap();
            let peer = soon(&label, sender.connect(&at).unwrap()).await.unwrap();
            assert_eq!(peer.endpoint, at.to_string());
            let messages = match sends {
                Radio => {
                    receiver.join("g").unwrap();
                    ["g|one", "g|", "g|three"]
                }
                _ => ["one", "", "three"],
            };
            for frames in messages {
                send(&sender, frames).await;
                assert_eq!(receive(&receiver, &label).await, frames);
            }
            assert!(sender.close(LONG).await.is_complete(), "{label}");
        }
    }
}

#[tokio::test]
async fn a_group_of_hosts_reaches_all_of_them() {
    let context = Context::new();
    let (radio, one, two) = (socket(&context, Radio), socket(&context, Dish), socket(&context, Dish));
    let at = soon("bind", one.bind("udp://127.0.0.1;239.7.7.8:*").unwrap()).await.unwrap();
    soon("bind", two.bind(&at).unwrap()).await.unwrap();
    for dish in [&one, &two] {
        dish.join("tv").unwrap();
    }
    soon("connect", radio.connect(&at).unwrap()).await.unwrap();
    send(&radio, "tv|to all").await;
    for dish in [&one, &two] {
        assert_eq!(receive(dish, "a member").await, "tv|to all");
    }
}

#[tokio::test]
async fn a_radio_serves_datagrams_and_connections_at_once() {
    let context = Context::new();
    let (radio, dish) = (socket(&context, Radio), socket(&context, Dish));
    dish.join("tv").unwrap();
    let raw = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    link("tcp", &radio, &dish).await;
    radio.ready(1, LONG).await.unwrap();
    soon("connect", radio.connect(udp_to(&raw)).unwrap()).await.unwrap();
    send(&radio, "tv|HELLO").await;
    send(&radio, "other|unjoined").await;
    assert_eq!(receive(&dish, "by tcp").await, "tv|HELLO");
    assert_eq!(datagram(&raw).await, GOLDEN);
    assert_eq!(datagram(&raw).await, b"\x05otherunjoined", "the receiver filters");
}

#[tokio::test]
async fn what_does_not_fit_is_refused_with_size_and_limit() {
    let raw = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let context = Context::new();
    let (push, radio) = (socket(&context, Push), socket(&context, Radio));
    for socket in [&push, &radio] {
        soon("connect", socket.connect(udp_to(&raw)).unwrap()).await.unwrap();
    }
    let error = push.try_send(message("two|frames")).unwrap_err();
    assert!(matches!(error.reason, SendFailure::Invalid(_)), "{error}");
    assert!(error.to_string().contains("one frame"), "{error}");
    let large = Message::from(vec![b'x'; 65_508]);
    let error = push.try_send(large.clone()).unwrap_err();
    assert_eq!(error.reason, SendFailure::TooLarge { octets: 65_508, most: 65_507 });
    assert_eq!(error.message, large);
    assert!(error.to_string().contains("65508 octets is larger than the 65507"), "{error}");
    let grouped = |octets: usize| Message::multipart([vec![b'g'; 2], vec![b'x'; octets]]);
    let error = soon("send", radio.send(grouped(65_505))).await.unwrap_err();
    assert_eq!(error.reason, SendFailure::TooLarge { octets: 65_508, most: 65_507 });
    // The largest of all goes through
    push.try_send(Message::from(vec![b'x'; 65_507])).unwrap();
    assert_eq!(datagram(&raw).await.len(), 65_507);
    radio.try_send(grouped(65_504)).unwrap();
    assert_eq!(datagram(&raw).await.len(), 65_507);
}

#[tokio::test]
async fn other_types_are_told_which_may() {
    let context = Context::new();
    for socket_type in SocketType::ALL {
        let socket = socket(&context, socket_type);
        let bound = soon(socket_type, socket.bind("udp://127.0.0.1:*").unwrap()).await;
        match socket_type {
            Dish | Pull => assert!(bound.is_ok(), "{socket_type}"),
            _ => {
                let BindError::Listen { reason, .. } = bound.unwrap_err() else { panic!("{socket_type}") };
                assert!(reason.starts_with("only DISH and PULL bind udp"), "{socket_type}: {reason}");
            }
        }
        let connected = soon(socket_type, socket.connect("udp://127.0.0.1:9").unwrap()).await;
        match socket_type {
            Radio | Push => assert!(connected.is_ok(), "{socket_type}"),
            _ => {
                let ConnectError::Refused { reason, code, .. } = connected.unwrap_err() else {
                    panic!("{socket_type}")
                };
                assert!(reason.starts_with("only RADIO and PUSH connect to udp"), "{socket_type}: {reason}");
                assert_eq!(code, "refused-here");
            }
        }
    }
}

#[tokio::test]
async fn what_asks_for_security_is_not_sent_in_the_clear() {
    let raw = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let context = Context::new();
    for secured in [Options::new().plain_username("joe".into()), Options::new().zap_domain("inner".to_owned())] {
        let (push, pull) = (socket_with(&context, Push, secured.clone()), socket_with(&context, Pull, secured));
        let refused = soon("connect", push.connect(udp_to(&raw)).unwrap()).await.unwrap_err();
        assert!(refused.to_string().contains("neither encrypt nor ask"), "{refused}");
        let refused = soon("bind", pull.bind("udp://127.0.0.1:*").unwrap()).await.unwrap_err();
        assert!(refused.to_string().contains("neither encrypt nor ask"), "{refused}");
        // Unless this endpoint is meant to be open
        let at = soon("bind", pull.bind_with("udp://127.0.0.1:*", Options::new()).unwrap()).await.unwrap();
        soon("connect", push.connect_with(at, Options::new()).unwrap()).await.unwrap();
        send(&push, "in the clear").await;
        assert_eq!(receive(&pull, "the job").await, "in the clear");
    }
}

#[tokio::test]
async fn malformed_datagrams_are_counted_and_said() {
    let context = Context::new();
    let dish = socket(&context, Dish);
    dish.join("tv").unwrap();
    let at = soon("bind", dish.bind("udp://127.0.0.1:*").unwrap()).await.unwrap();
    let mut events = dish.events();
    let raw = raw_to(&at).await;
    for octets in [&b""[..], b"\x03tv", b"\xff", b"\x02t\0body"] {
        raw.send(octets).await.unwrap();
    }
    raw.send(GOLDEN).await.unwrap();
    assert_eq!(receive(&dish, "what is sound").await, "tv|HELLO");
    assert_eq!(dish.stats().malformed, 4);
    let told = event(&mut events, "malformed").await;
    assert_eq!(told.address, Some(raw.local_addr().unwrap().to_string()));
    assert!(told.to_string().ends_with("malformed: 1 datagrams, 1 in all"), "{told}");
    while let Some(next) = events.try_next() {
        assert_ne!(next.kind.name(), "malformed", "the others came within the same second");
    }
}

#[tokio::test]
async fn what_finds_the_queue_full_is_dropped_and_counted() {
    for (receives, octets) in [(Dish, GOLDEN), (Pull, b"job")] {
        let context = Context::new();
        let receiver = socket_with(&context, receives, Options::of(receives).recv_hwm(3));
        if receives == Dish {
            receiver.join("tv").unwrap();
        }
        let at = soon("bind", receiver.bind("udp://127.0.0.1:*").unwrap()).await.unwrap();
        let mut events = receiver.events();
        let raw = raw_to(&at).await;
        for _ in 0..10 {
            raw.send(octets).await.unwrap();
        }
        eventually(receives, || receiver.stats().dropped == 7).await;
        event(&mut events, "dropped").await;
        assert_eq!(receive_all(&receiver).len(), 3, "{receives}");
        raw.send(octets).await.unwrap();
        receive(&receiver, "there is room again").await;
        assert_eq!(receiver.stats().received, 4, "{receives}");
    }
}

#[tokio::test]
async fn a_message_tells_who_sent_it() {
    let context = Context::new();
    let pull = socket(&context, Pull);
    let at = soon("bind", pull.bind("udp://127.0.0.1:*").unwrap()).await.unwrap();
    let senders = [raw_to(&at).await, raw_to(&at).await];
    for place in [0, 1, 1, 0] {
        senders[place].send(&[place as u8]).await.unwrap();
    }
    for place in [0, 1, 1, 0] {
        let received = soon("a datagram", pull.recv_from()).await.unwrap();
        assert_eq!(received.message.first(), [place as u8]);
        assert_eq!(*received.from.address, *senders[place].local_addr().unwrap().to_string());
        assert_eq!(received.from.property("Peer-Address").unwrap(), "127.0.0.1");
    }
}

#[tokio::test]
async fn a_host_that_says_nobody_is_there_is_counted() {
    let context = Context::new();
    let push = socket(&context, Push);
    let mut events = push.events();
    let nobody = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let at = udp_to(&nobody);
    drop(nobody);
    soon("connect", push.connect(at).unwrap()).await.unwrap();
    let mut sent = 0;
    while push.stats().dropped == 0 {
        send(&push, "anybody?").await;
        sent += 1;
        assert!(sent < 100_000, "loopback tells at once");
        tokio::task::yield_now().await;
    }
    event(&mut events, "dropped").await;
}

#[tokio::test]
async fn an_endpoint_is_given_up_behind_what_is_queued() {
    let raw = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let context = Context::new();
    let push = socket(&context, Push);
    let at: Endpoint = udp_to(&raw).parse().unwrap();
    let mut events = push.events();
    soon("connect", push.connect(&at).unwrap()).await.unwrap();
    for number in 0..100 {
        push.try_send(number.to_string().into()).unwrap();
    }
    push.disconnect(&at).unwrap();
    for number in 0..100 {
        assert_eq!(datagram(&raw).await, number.to_string().as_bytes());
    }
    let parted = serde_json::to_value(event(&mut events, "disconnected").await).unwrap();
    assert_eq!((&parted["reason"], &parted["lost"]), (&"closed-here".into(), &0.into()));
    assert!(push.stats().peers.is_empty());
    assert!(push.disconnect(&at).is_err());
    assert_eq!(push.try_send("nobody".into()).unwrap_err().reason, SendFailure::WouldBlock);
}

#[tokio::test]
async fn an_unbound_endpoint_receives_no_more_and_keeps_what_came() {
    let context = Context::new();
    let pull = socket(&context, Pull);
    let at = soon("bind", pull.bind("udp://127.0.0.1:*").unwrap()).await.unwrap();
    assert_eq!(pull.endpoints(), std::slice::from_ref(&at));
    let raw = raw_to(&at).await;
    raw.send(b"before").await.unwrap();
    eventually("it came", || pull.stats().received == 1).await;
    let mut events = pull.events();
    pull.unbind(&at).unwrap();
    event(&mut events, "unbound").await;
    assert_eq!(receive(&pull, "what came before").await, "before");
    assert!(pull.stats().peers.is_empty());
    // Its port is free again
    soon("bind", pull.bind(&at).unwrap()).await.unwrap();
}

#[tokio::test]
async fn what_can_not_be_opened_is_tried_again() {
    let context = Context::new();
    let radio = socket(&context, Radio);
    let mut events = radio.events();
    radio.connect("udp://no-such-interface0;239.7.7.7:5").unwrap();
    let failed = event(&mut events, "connect-failed").await;
    assert!(failed.to_string().contains("no-such-interface0"), "{failed}");
    assert!(failed.to_string().contains("next try in"), "{failed}");
    send(&radio, "tv|waits").await;
    assert_eq!(radio.stats().peers[0].queued_out, 1);
    let report = radio.close(Duration::from_millis(10)).await;
    assert_eq!(report.unflushed.len(), 1, "{report:?}");

    let dish = socket(&context, Dish);
    let refused = soon("bind", dish.bind("udp://no-such-interface0;239.7.7.7:*").unwrap()).await.unwrap_err();
    assert!(refused.to_string().contains("no-such-interface0"), "{refused}");
}

#[tokio::test]
async fn high_water_marks_hold_while_nothing_can_leave() {
    for (sends, expected) in [(Push, None), (Radio, Some(3))] {
        let context = Context::new();
        let sender = socket_with(&context, sends, Options::new().send_hwm(2));
        // There is no way to it, so that all stays queued
        sender.connect("udp://no-such-interface0;239.7.7.7:5").unwrap();
        let frames = if sends == Radio { "tv|x" } else { "x" };
        let outcomes: Vec<bool> = (0..5).map(|_| sender.try_send(message(frames)).is_ok()).collect();
        match expected {
            None => assert_eq!(outcomes, [true, true, false, false, false], "{sends} waits"),
            Some(dropped) => {
                assert_eq!((outcomes, sender.stats().dropped), (vec![true; 5], dropped), "{sends} drops");
            }
        }
    }
}

fn udp_to(raw: &UdpSocket) -> String {
    format!("udp://{}", raw.local_addr().unwrap())
}

async fn raw_to(at: &Endpoint) -> UdpSocket {
    let raw = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    raw.connect(at.to_string().trim_start_matches("udp://")).await.unwrap();
    raw
}

async fn datagram(raw: &UdpSocket) -> Vec<u8> {
    let mut octets = vec![0; 65_536];
    let len = soon("a datagram", raw.recv(&mut octets)).await.unwrap();
    octets.truncate(len);
    octets
}
