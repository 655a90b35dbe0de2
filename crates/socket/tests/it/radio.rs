//! RADIO and DISH: groups (RFC 48).

use tidings_socket::SocketType::{Dish, Radio};
use tidings_socket::{ConnectError, Context, DishSocket, Message, Options, Proxy, RadioSocket, SendFailure};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use crate::support::*;

#[tokio::test]
async fn a_body_goes_to_exactly_its_group() {
    let long = "g".repeat(255);
    for transport in TRANSPORTS {
        for radio_binds in [true, false] {
            let label = format!("over {transport}, {}", if radio_binds { "the RADIO binds" } else { "the DISH binds" });
            let context = Context::new();
            let radio = RadioSocket::new(&context).unwrap();
            let groups = ["tv", "t", "", &long];
            let mut dishes = Vec::new();
            let at = if radio_binds { Some(bind(radio.as_socket(), transport).await) } else { None };
            for group in groups {
                let dish = DishSocket::new(&context).unwrap();
                dish.join(group).unwrap();
                match &at {
                    Some(at) => connect(dish.as_socket(), radio.as_socket(), at).await,
                    None => {
                        link(transport, dish.as_socket(), radio.as_socket()).await;
                    }
                }
                dishes.push(dish);
            }
            radio.ready(4, LONG).await.unwrap();
            for (number, group) in ["tv", "tv1", "t", "", "TV", &long, &long[..254]].iter().enumerate() {
                radio.send(group, number.to_string()).await.unwrap();
            }
            radio.send("tv", "").await.unwrap();
            for (dish, (group, bodies)) in
                dishes.iter().zip([("tv", &["0", ""][..]), ("t", &["2"]), ("", &["3"]), (&long, &["5"])])
            {
                for body in bodies {
                    let (told, received) = soon(&label, dish.recv()).await.unwrap();
                    assert_eq!((&told[..], &received[..]), (group.as_bytes(), body.as_bytes()), "{label}");
                }
                assert!(dish.try_recv().is_err(), "{label}: {group} has no more");
            }
            assert_eq!(radio.stats().unrouted, 3, "{label}");
        }
    }
}

#[tokio::test]
async fn a_dish_comes_and_goes() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let (radio, dish) = (socket(&context, Radio), socket(&context, Dish));
        link(transport, &radio, &dish).await;
        assert_eq!(radio.ready(1, std::time::Duration::ZERO).await.unwrap_err().ready, 0, "{transport}: in no group");
        dish.join("a").unwrap();
        dish.join("b").unwrap();
        eventually(transport, || radio.stats().peers[0].subscriptions == 2).await;
        dish.leave("a").unwrap();
        eventually(transport, || radio.stats().peers[0].subscriptions == 1).await;
        send(&radio, "a|left").await;
        send(&radio, "b|stayed").await;
        assert_eq!(receive(&dish, transport).await, "b|stayed");
        dish.close(LONG).await;
        eventually(transport, || connected(&radio) == 0).await;
        send(&radio, "b|nobody").await;
        assert_eq!(radio.stats().unrouted, 2, "{transport}");
    }
}

#[tokio::test]
async fn a_group_is_joined_once() {
    let context = Context::new();
    let dish = DishSocket::new(&context).unwrap();
    dish.join("tv").unwrap();
    for (outcome, expected) in [
        (dish.join("tv"), "in this group already"),
        (dish.leave("radio"), "not in this group"),
        (dish.join([b'x'; 256]), "up to 255 octets"),
        (dish.join(b"t\0v"), "none of them zero"),
    ] {
        let error = outcome.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    dish.leave("tv").unwrap();
    dish.join("tv").unwrap();
    dish.join("").unwrap();
    dish.join([b'x'; 255]).unwrap();
    dish.close(LONG).await;
    assert_eq!(dish.join("late").unwrap_err(), tidings_socket::SocketError::Closed);
}

#[tokio::test]
async fn a_radio_sends_a_group_and_a_body_and_nothing_else() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let (radio, dish) = (socket(&context, Radio), socket(&context, Dish));
        dish.join("tv").unwrap();
        link(transport, &radio, &dish).await;
        radio.ready(1, LONG).await.unwrap();
        let long = format!("{}|body", "g".repeat(256));
        for frames in ["tv", "tv|two|bodies", &long, "t\0v|body"] {
            let error = radio.try_send(message(frames)).unwrap_err();
            assert!(matches!(error.reason, SendFailure::Invalid(_)), "{transport}: {error}");
            assert_eq!(error.message, message(frames), "{transport}");
        }
        send(&radio, "tv|good").await;
        assert_eq!(receive(&dish, transport).await, "tv|good");
    }
}

#[tokio::test]
async fn every_new_radio_is_told_of_all_groups() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let at = free_endpoint(&context, transport).await;
        let options = Options::of(Dish).reconnect_interval(Some(std::time::Duration::from_millis(10)));
        let dish = socket_with(&context, Dish, options);
        dish.join("before").unwrap();
        dish.connect(&at).unwrap();
        for round in 0..3 {
            let radio = socket(&context, Radio);
            soon(transport, radio.bind(&at).unwrap()).await.unwrap();
            radio.ready(1, LONG).await.unwrap();
            if round == 0 {
                dish.join("after").unwrap();
            }
            eventually(transport, || radio.stats().peers[0].subscriptions == 2).await;
            send(&radio, "before|1").await;
            send(&radio, "after|2").await;
            assert_eq!(receive_many(&dish, 2, transport).await, ["before|1", "after|2"], "round {round}");
            radio.close(LONG).await;
            eventually(transport, || connected(&dish) == 0).await;
        }
    }
}

#[tokio::test]
async fn a_dish_hears_several_radios() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let dish = socket(&context, Dish);
        dish.join("tv").unwrap();
        let at = bind(&dish, transport).await;
        for number in 0..3 {
            let radio = socket(&context, Radio);
            connect(&radio, &dish, &at).await;
            radio.ready(1, LONG).await.unwrap();
            send(&radio, &format!("tv|{number}")).await;
            assert_eq!(receive(&dish, transport).await, format!("tv|{number}"));
            radio.close(LONG).await;
        }
    }
}

#[tokio::test]
async fn a_full_dish_misses_what_it_has_no_room_for() {
    let context = Context::new();
    let radio = socket_with(&context, Radio, Options::new().send_hwm(2));
    let dish = socket_with(&context, Dish, Options::of(Dish).recv_hwm(2));
    dish.join("tv").unwrap();
    link("inproc", &radio, &dish).await;
    radio.ready(1, LONG).await.unwrap();
    let mut events = radio.events();
    for number in 0..10 {
        send(&radio, &format!("tv|{number}")).await;
    }
    assert_eq!(receive_all(&dish), ["tv|0", "tv|1", "tv|2", "tv|3"]);
    assert_eq!(radio.stats().dropped, 6);
    event(&mut events, "dropped").await;
}

#[tokio::test]
async fn a_proxy_carries_groups_that_its_dish_joined() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let (radio, dish) = (socket(&context, Radio), socket(&context, Dish));
        let (inner_dish, inner_radio) = (socket(&context, Dish), socket(&context, Radio));
        inner_dish.join("tv").unwrap();
        dish.join("tv").unwrap();
        link(transport, &inner_dish, &radio).await;
        link(transport, &inner_radio, &dish).await;
        radio.ready(1, LONG).await.unwrap();
        inner_radio.ready(1, LONG).await.unwrap();
        let proxy = Proxy::new(inner_dish, inner_radio).spawn().unwrap();
        send(&radio, "tv|through").await;
        assert_eq!(receive(&dish, transport).await, "tv|through");
        proxy.terminate();
        assert_eq!(soon("the end", proxy.join()).await.back.messages, 0, "nothing comes back");
    }
}

// On the wire

#[tokio::test]
async fn groups_on_the_wire() {
    let context = Context::new();
    let radio = RadioSocket::new(&context).unwrap();
    let at = bind(radio.as_socket(), "tcp").await;
    let mut raw = RawPeer::handshaken(&at, "DISH").await;
    raw.write(b"\x04\x07\x04JOINtv\x04\x05\x04JOIN").await;
    eventually("two groups", || radio.stats().peers.iter().any(|peer| peer.subscriptions == 2)).await;
    radio.send("tv", "hello").await.unwrap();
    radio.send("", "x").await.unwrap();
    let mut octets = [0; 16];
    soon("the messages", raw.stream.read_exact(&mut octets)).await.unwrap();
    assert_eq!(&octets, b"\x01\x02tv\x00\x05hello\x01\x00\x00\x01x");
    raw.write(b"\x04\x08\x05LEAVEtv").await;
    eventually("one group", || radio.stats().peers[0].subscriptions == 1).await;
    radio.send("tv", "unheard").await.unwrap();
    radio.send("", "y").await.unwrap();
    let mut octets = [0; 5];
    soon("the message", raw.stream.read_exact(&mut octets)).await.unwrap();
    assert_eq!(&octets, b"\x01\x00\x00\x01y");
}

#[tokio::test]
async fn joining_on_the_wire() {
    let context = Context::new();
    let dish = DishSocket::new(&context).unwrap();
    dish.join("tv").unwrap();
    let at = bind(dish.as_socket(), "tcp").await;
    let mut raw = RawPeer::handshaken(&at, "RADIO").await;
    let mut octets = [0; 9];
    soon("JOIN", raw.stream.read_exact(&mut octets)).await.unwrap();
    assert_eq!(&octets, b"\x04\x07\x04JOINtv");
    dish.leave("tv").unwrap();
    dish.join([b'g'; 255]).unwrap();
    let mut octets = [0; 10 + 9 + 5 + 255];
    soon("LEAVE and JOIN", raw.stream.read_exact(&mut octets)).await.unwrap();
    assert_eq!(&octets[..24], b"\x04\x08\x05LEAVEtv\x06\0\0\0\0\0\0\x01\x04\x04JOIN");
    // What it did not join, or has left, does not reach the application, whoever sends it
    let sent = [frame(1, b"tv"), frame(0, b"left"), frame(1, &[b'g'; 254]), frame(0, b"near"), frame(1, &[b'g'; 255])];
    raw.write(&[&sent.concat()[..], &frame(0, b"hit")].concat()).await;
    let (group, body) = soon("the message", dish.recv()).await.unwrap();
    assert_eq!((&group[..], &body[..]), (&[b'g'; 255][..], &b"hit"[..]));
}

#[tokio::test]
async fn a_dish_parts_from_who_is_no_radio() {
    for (label, octets) in [
        ("one frame", frame(0, b"tv")),
        ("three frames", [frame(1, b"tv"), frame(1, b"body"), frame(0, b"more")].concat()),
        ("a group too long", [&[3, 0, 0, 0, 0, 0, 0, 1, 0][..], &[b'g'; 256], &frame(0, b"body")].concat()),
        ("a zero in the group", [frame(1, b"t\0v"), frame(0, b"body")].concat()),
    ] {
        let context = Context::new();
        let dish = socket(&context, Dish);
        dish.join("tv").unwrap();
        let at = bind(&dish, "tcp").await;
        let mut events = dish.events();
        let (mut bad, mut good) = (RawPeer::handshaken(&at, "RADIO").await, RawPeer::handshaken(&at, "RADIO").await);
        let sound = [frame(1, b"tv"), frame(0, b"sound")].concat();
        bad.write(&[&sound[..], &octets, &sound].concat()).await;
        bad.read_to_end().await;
        let ended = serde_json::to_value(event(&mut events, "disconnected").await).unwrap();
        assert_eq!(ended["reason"], "not-group-and-body", "{label}");
        assert_eq!(dish.stats().closes.get("not-group-and-body"), Some(&1), "{label}");
        assert_eq!(receive(&dish, label).await, "tv|sound", "{label}: what came before counts");
        assert!(dish.try_recv().is_err(), "{label}: what came behind doesn't");
        good.write(&sound).await;
        assert_eq!(receive(&dish, label).await, "tv|sound", "{label}: others notice nothing");
    }
}

#[tokio::test]
async fn a_radio_that_is_none_is_not_dialled_again() {
    let context = Context::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dish = socket(&context, Dish);
    let mut events = dish.events();
    let connecting = dish.connect(format!("tcp://{}", listener.local_addr().unwrap())).unwrap();
    let (stream, _) = soon("the connection", listener.accept()).await.unwrap();
    let mut raw = RawPeer { stream };
    raw.write(&[opening("RADIO"), frame(0, b"no group")].concat()).await;
    soon("the handshake", connecting).await.unwrap();
    let ended = serde_json::to_value(event(&mut events, "disconnected").await).unwrap();
    assert_eq!((&ended["reason"], &ended["retry_in_ms"]), (&"not-group-and-body".into(), &serde_json::Value::Null));
    eventually("the endpoint is forgotten", || dish.stats().peers.is_empty()).await;
}

#[tokio::test]
async fn a_radio_bounds_what_a_dish_joins() {
    for (label, options, octets, reason) in [
        ("groups", Options::new().max_subscriptions(2), joins(&["a", "b", "b", "c"]), "too-many-subscriptions"),
        ("octets", Options::new().max_subscription_octets(4), joins(&["abc", "ab"]), "too-many-subscriptions"),
        ("length", Options::new(), joins(&[&"g".repeat(256)]), "bad-group"),
        ("a zero", Options::new(), joins(&["t\0v"]), "bad-group"),
    ] {
        let context = Context::new();
        let radio = socket_with(&context, Radio, options);
        let at = bind(&radio, "tcp").await;
        let mut raw = RawPeer::handshaken(&at, "DISH").await;
        raw.write(&octets).await;
        raw.read_to_end().await;
        eventually(label, || radio.stats().closes.get(reason) == Some(&1)).await;
    }
}

#[tokio::test]
async fn what_a_dish_sends_besides_is_counted() {
    let context = Context::new();
    let radio = socket(&context, Radio);
    let at = bind(&radio, "tcp").await;
    let mut raw = RawPeer::handshaken(&at, "DISH").await;
    raw.write(&[frame(0, b"hello"), frame(1, b"\x01two"), frame(0, b"frames"), joins(&["tv"])].concat()).await;
    radio.ready(1, LONG).await.unwrap();
    assert_eq!(radio.stats().unrouted, 2);
}

#[tokio::test]
async fn groups_have_their_own_types() {
    let context = Context::new();
    let (radio, other) = (socket(&context, Radio), socket(&context, tidings_socket::SocketType::Sub));
    let at = bind(&radio, "inproc").await;
    let refused = soon("the refusal", other.connect(&at).unwrap()).await.unwrap_err();
    assert!(matches!(refused, ConnectError::Refused { .. }), "{refused}");
    let message = Message::multipart(["a", "b"]);
    assert!(radio.try_send(message).is_ok(), "to nobody");
}

fn joins(groups: &[&str]) -> Vec<u8> {
    let join = |group: &&str| {
        let body = [b"\x04JOIN", group.as_bytes()].concat();
        let long = [&[6, 0, 0, 0, 0, 0, 0][..], &(body.len() as u16).to_be_bytes()].concat();
        let header = if body.len() < 256 { vec![4, body.len() as u8] } else { long };
        [header, body].concat()
    };
    groups.iter().flat_map(join).collect()
}
