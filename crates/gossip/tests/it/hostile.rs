//! Frames that stop a CZMQ node (the sheet, section 8), and worse: that link has the damage, the node goes on.

use tidings_gossip::{Gossip, NodeConfig, Quotas, Refusal};
use tidings_socket::{Context, DealerSocket, Message, Options, RouterSocket, SocketType};

use crate::support::*;

/// Each as frames of one message
fn malformed() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let long = |key_len: u8, value_len: u32| {
        let mut frame = b"\xaa\xa0\x02\x01".to_vec();
        frame.push(key_len);
        frame.extend(b"k");
        frame.extend(value_len.to_be_bytes());
        frame
    };
    vec![
        ("another protocol", vec![b"\xaa\xa1\x01\x01".to_vec()]),
        ("no signature", vec![b"\x00\x00\x01\x01".to_vec()]),
        ("a second frame", vec![PING.to_vec(), b"more".to_vec()]),
        ("an unknown id", vec![b"\xaa\xa0\x09\x01".to_vec()]),
        ("id zero", vec![b"\xaa\xa0\x00\x01".to_vec()]),
        ("another version", vec![b"\xaa\xa0\x01\x02".to_vec()]),
        ("nothing", vec![Vec::new()]),
        ("one octet", vec![b"\xaa".to_vec()]),
        ("no version", vec![b"\xaa\xa0\x01".to_vec()]),
        ("no key", vec![b"\xaa\xa0\x02\x01".to_vec()]),
        ("a key that ends early", vec![b"\xaa\xa0\x02\x01\xffk".to_vec()]),
        ("a value of 4 GiB", vec![long(1, u32::MAX)]),
        ("a value that ends early", vec![long(1, 100)]),
        ("no ttl", vec![publish("k", "v")[..publish("k", "v").len() - 4].to_vec()]),
        ("our own wire, unannounced", vec![b"\xaa\xa7\x01\x01".to_vec()]),
        ("text in small letters", vec![b"get".to_vec(), b"k".to_vec()]),
    ]
}

#[tokio::test]
async fn what_stops_a_czmq_node_does_not_stop_ours() {
    let context = Context::new();
    let (alpha, beta, at) = pair(&context, "tcp://127.0.0.1:*").await;
    for (what, frames) in malformed() {
        let dealer = dealer(&context, &at).await;
        say(&dealer, HELLO.to_vec()).await;
        say(&dealer, Message::multipart(frames)).await;
        let answer = async {
            loop {
                match dealer.recv().await {
                    Ok(message) if message.first() == INVALID => return,
                    Ok(message) => assert_ne!(message.first(), b"", "{what}"),
                    Err(error) => panic!("{what}: {error}"),
                }
            }
        };
        soon(format!("INVALID for {what}"), answer).await;
        // It may begin anew
        say(&dealer, HELLO.to_vec()).await;
        say(&dealer, PING.to_vec()).await;
        soon(what, async { while dealer.recv().await.unwrap().first() != PONG {} }).await;
    }
    put(&alpha, "after", "all").await;
    has(&beta, "after", "all").await;
    let refusals = alpha.stats().refusals;
    for cause in [Refusal::Signature, Refusal::Frames, Refusal::UnknownMessage, Refusal::Version, Refusal::Malformed] {
        assert!(refusals.count(cause) > 0, "{} is counted", cause.name());
    }
}

/// The same from a server that ours connected to: it is hung up when it doesn't stop
#[tokio::test]
async fn a_server_that_speaks_nonsense_is_hung_up() {
    let context = Context::new();
    let router = RouterSocket::new(&context).unwrap();
    let at = soon("bind", router.bind("tcp://127.0.0.1:*").unwrap()).await.unwrap();
    let node = node(&context, "alpha");
    node.connect(&at).unwrap();
    let hello = soon("HELLO", router.recv()).await.unwrap();
    assert_eq!(hello.frame(1).unwrap(), HELLO);
    let id = hello.first().to_vec();
    let mut events = node.events();
    for (_, frames) in malformed() {
        let mut message = Message::multipart(frames);
        message.push_front(id.clone());
        soon("sending", router.send(message)).await.unwrap();
    }
    event(
        &mut events,
        "the link is down",
        |event| matches!(event, tidings_gossip::Event::Link(change) if change.state.is_err()),
    )
    .await;
    put(&node, "still", "there").await;
    assert_eq!(node.len(), 1);
}

/// A peer that says it is of ours, and isn't
#[tokio::test]
async fn frames_of_our_own_wire_that_are_forged() {
    let context = Context::new();
    let (alpha, beta, at) = pair(&context, "tcp://127.0.0.1:*").await;
    let mut frames: Vec<Vec<u8>> = Vec::new();
    for id in 0..=0x12_u8 {
        for tail in [&b""[..], b"\x00", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", &[0x80; 64], &[1; 300]] {
            frames.push([&[0xaa, 0xa7, id, 1], tail].concat());
        }
        frames.push(vec![0xaa, 0xa7, id, 2]);
    }
    frames.extend(malformed().into_iter().flat_map(|(_, frames)| frames));
    let liar = |context: &Context| {
        let options = Options::new().metadata("X-Gossip:tidings/1".into()).reconnect_interval(None);
        let dealer = context.socket_with(SocketType::Dealer, options).unwrap();
        drop(dealer.connect(&at).unwrap());
        dealer
    };
    for (number, frame) in frames.iter().enumerate() {
        let dealer = liar(&context);
        soon(number, dealer.send(frame.clone().into())).await.unwrap();
        soon(number, dealer.send(vec![frame.clone(), frame.clone()].into_iter().collect::<Message>())).await.unwrap();
        // Either it is still heard, or its connection has ended
        let settled = async {
            let ping = async {
                dealer.send("STATUS".into()).await.unwrap();
                loop {
                    let reply = dealer.recv().await.unwrap();
                    if reply.first() == b"STATUS" {
                        return;
                    }
                }
            };
            tokio::select! {
                () = ping => {}
                () = dealer.deserted() => {}
            }
        };
        soon(format!("after {frame:02x?}"), settled).await;
    }
    put(&beta, "after", "all").await;
    has(&alpha, "after", "all").await;
    assert_eq!(alpha.len(), 1);
}

#[tokio::test]
async fn a_flood_of_keys_is_bounded_counted_and_told() {
    let context = Context::new();
    let quotas = Quotas { max_tuples_per_owner: 100, max_value: 1000, ..Quotas::default() };
    let config = NodeConfig { name: "alpha".into(), quotas, ..NodeConfig::default() };
    let alpha = Gossip::builder(&context).config(config).start().unwrap();
    let at = bind(&alpha, "tcp://127.0.0.1:*").await;
    let mut events = alpha.events();
    let flood: DealerSocket = dealer(&context, &at).await;
    say(&flood, HELLO.to_vec()).await;
    for number in 0..1000 {
        say(&flood, publish(&format!("flood/{number}"), "x")).await;
    }
    event(&mut events, "a refusal", |event| {
        matches!(event, tidings_gossip::Event::Refused { cause: Refusal::KeyQuota, .. })
    })
    .await;
    say(&flood, publish("large", &"x".repeat(1001))).await;
    event(&mut events, "a refusal", |event| {
        matches!(event, tidings_gossip::Event::Refused { cause: Refusal::Oversized, .. })
    })
    .await;
    assert_eq!(alpha.len(), 75, "a quarter is left for what is put at the node itself");
    // Other nodes are not concerned
    let beta = node(&context, "beta");
    soon("connect", beta.connect(&at).unwrap()).await.unwrap();
    put(&beta, "other", "x").await;
    has(&alpha, "other", "x").await;
}
