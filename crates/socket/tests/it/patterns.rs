//! What each socket type does with a message (RFC 28 to 31).

use tidings_socket::SocketType::{self, Dealer, Pair, Pub, Pull, Push, Rep, Req, Router, Sub};
use tidings_socket::{ConnectError, Context, Message, Options, RecvError, SendFailure};

use crate::support::*;

#[tokio::test]
async fn req_and_rep_go_in_lockstep() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let (rep, req) = (socket(&context, Rep), socket(&context, Req));
        link(transport, &rep, &req).await;

        assert!(matches!(req.try_recv(), Err(RecvError::WrongState(_))), "{transport}: nothing was asked");
        let error = rep.try_send("early".into()).unwrap_err();
        assert!(matches!(error.reason, SendFailure::WrongState(_)), "{transport}: nobody asked");
        assert_eq!(text(&error.message), "early", "{transport}: the message comes back");

        for round in 0..3 {
            send(&req, &format!("question|{round}")).await;
            let error = req.try_send("another".into()).unwrap_err();
            assert!(matches!(error.reason, SendFailure::WrongState(_)), "{transport}");
            assert_eq!(receive(&rep, transport).await, format!("question|{round}"));
            assert!(matches!(rep.try_recv(), Err(RecvError::WrongState(_))), "{transport}: a reply is due");
            send(&rep, &format!("answer||{round}")).await;
            assert_eq!(receive(&req, transport).await, format!("answer||{round}"));
        }
    }
}

#[tokio::test]
async fn a_req_asks_its_peers_in_turn() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let req = socket(&context, Req);
        let mut reps = Vec::new();
        for _ in 0..3 {
            let rep = socket(&context, Rep);
            link(transport, &rep, &req).await;
            reps.push(rep);
        }
        for _ in 0..2 {
            for (number, rep) in reps.iter().enumerate() {
                send(&req, "whose turn?").await;
                assert_eq!(receive(rep, format!("{transport}: peer {number}")).await, "whose turn?");
                send(rep, &number.to_string()).await;
                assert_eq!(receive(&req, transport).await, number.to_string());
            }
        }
    }
}

#[tokio::test]
async fn a_rep_drops_what_is_no_request() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let (rep, dealer) = (socket(&context, Rep), socket(&context, Dealer));
        link(transport, &rep, &dealer).await;
        for frames in ["bare", "id|", "id||real"] {
            send(&dealer, frames).await;
        }
        assert_eq!(receive(&rep, transport).await, "real");
        assert_eq!(rep.stats().unrouted, 2, "{transport}");
        send(&rep, "reply").await;
        assert_eq!(receive(&dealer, transport).await, "id||reply");
    }
}

#[tokio::test]
async fn a_reply_to_a_peer_that_is_gone_is_dropped_and_counted() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let (rep, req, other) = (socket(&context, Rep), socket(&context, Req), socket(&context, Req));
        let at = link(transport, &rep, &req).await;
        send(&req, "question").await;
        assert_eq!(receive(&rep, transport).await, "question");
        req.close(LONG).await;
        eventually("the peer is gone", || connected(&rep) == 0).await;
        send(&rep, "to nobody").await;
        assert_eq!(rep.stats().unrouted, 1, "{transport}");

        connect(&other, &rep, &at).await;
        send(&other, "still there?").await;
        assert_eq!(receive(&rep, transport).await, "still there?");
    }
}

#[tokio::test]
async fn push_and_dealer_deal_in_turn() {
    for transport in TRANSPORTS {
        for (sends, receives) in [(Push, Pull), (Dealer, Dealer), (Dealer, Router)] {
            let label = format!("{sends}/{receives} over {transport}");
            let context = Context::new();
            let sender = socket(&context, sends);
            let at = bind(&sender, transport).await;
            let mut receivers = Vec::new();
            for _ in 0..3 {
                let receiver = socket(&context, receives);
                connect(&receiver, &sender, &at).await;
                receivers.push(receiver);
            }
            for number in 0..9 {
                send(&sender, &number.to_string()).await;
            }
            for (place, receiver) in receivers.iter().enumerate() {
                let mine = receive_many(receiver, 3, &label).await;
                let expected: Vec<String> = (0..3).map(|round| (round * 3 + place).to_string()).collect();
                let bodies: Vec<&str> = mine.iter().map(|text| text.rsplit('|').next().unwrap()).collect();
                assert_eq!(bodies, expected, "{label}, peer {place}");
            }
        }
    }
}

#[tokio::test]
async fn a_dead_peer_loses_its_turn() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let push = socket(&context, Push);
        let at = bind(&push, transport).await;
        let (stays, goes) = (socket(&context, Pull), socket(&context, Pull));
        connect(&stays, &push, &at).await;
        connect(&goes, &push, &at).await;
        goes.close(LONG).await;
        eventually("one peer is gone", || connected(&push) == 1).await;
        for number in 0..4 {
            send(&push, &number.to_string()).await;
        }
        assert_eq!(receive_many(&stays, 4, transport).await, ["0", "1", "2", "3"]);
    }
}

#[tokio::test]
async fn peers_are_heard_in_turn() {
    for transport in TRANSPORTS {
        for (sends, receives) in [(Push, Pull), (Dealer, Router), (Dealer, Dealer)] {
            let label = format!("{sends}/{receives} over {transport}");
            let context = Context::new();
            let receiver = socket(&context, receives);
            let at = bind(&receiver, transport).await;
            let mut senders = Vec::new();
            for name in ["a", "b", "c"] {
                let sender = socket(&context, sends);
                connect(&sender, &receiver, &at).await;
                for _ in 0..10 {
                    send(&sender, name).await;
                }
                senders.push(sender);
            }
            // Over inproc the queue of the sender is one with the receiver's: nothing waits to come
            eventually(&label, || transport == "inproc" || receiver.stats().received == 30).await;
            for round in 0..10 {
                let mut names: Vec<String> = receive_many(&receiver, 3, &label)
                    .await
                    .iter()
                    .map(|text| text.rsplit('|').next().unwrap().to_owned())
                    .collect();
                names.sort();
                assert_eq!(names, ["a", "b", "c"], "{label}, round {round}");
            }
        }
    }
}

#[tokio::test]
async fn a_router_drops_what_it_can_not_route_or_says_so() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let (router, dealer) = (socket(&context, Router), socket_with(&context, Dealer, named("gate")));
        link(transport, &router, &dealer).await;
        send(&router, "nobody|lost").await;
        assert_eq!(router.stats().unrouted, 1, "{transport}");
        let error = router.try_send("gate".into()).unwrap_err();
        assert!(matches!(error.reason, SendFailure::Invalid(_)), "{transport}: an id alone is no message");

        router.set_options(|options| options.router_mandatory(true));
        let error = router.try_send(message("nobody|back")).unwrap_err();
        assert_eq!((error.reason, text(&error.message)), (SendFailure::Unroutable, "nobody|back".to_owned()));

        send(&router, "gate|found").await;
        assert_eq!(receive(&dealer, transport).await, "found");
    }
}

#[tokio::test]
async fn a_mandatory_router_waits_for_a_full_peer() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let options = Options::new().send_hwm(2).router_mandatory(true);
        let router = socket_with(&context, Router, options);
        let at = free_endpoint(&context, transport).await;
        let connecting = router.connect_as(&at, "late").unwrap();
        for number in 0..2 {
            router.try_send(message(&format!("late|{number}"))).unwrap();
        }
        let error = router.try_send(message("late|2")).unwrap_err();
        assert_eq!((error.reason, text(&error.message)), (SendFailure::WouldBlock, "late|2".to_owned()), "{transport}");

        let waiting = tokio::spawn({
            let router = router.clone();
            async move { router.send(message("late|2")).await }
        });
        let dealer = socket(&context, Dealer);
        dealer.bind(&at).unwrap().await.unwrap();
        soon("connect", connecting).await.unwrap();
        assert_eq!(receive_many(&dealer, 3, transport).await, ["0", "1", "2"]);
        soon("the send that waited", waiting).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_router_numbers_peers_without_a_name() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let (router, dealer) = (socket(&context, Router), socket(&context, Dealer));
        link(transport, &router, &dealer).await;
        send(&dealer, "hello").await;
        let mut received = soon(transport, router.recv()).await.unwrap();
        let id = received.pop_front().unwrap();
        assert_eq!((id.len(), id.first()), (5, Some(&0)), "{transport}: a zero octet and a number");
        router.try_send(Message::multipart([id, "hello yourself".into()])).unwrap();
        assert_eq!(receive(&dealer, transport).await, "hello yourself");
    }
}

#[tokio::test]
async fn two_peers_of_one_name() {
    for transport in TRANSPORTS {
        for handover in [false, true] {
            let label = format!("{transport}, handover {handover}");
            let context = Context::new();
            let router = socket_with(&context, Router, Options::new().router_handover(handover));
            let at = bind(&router, transport).await;
            let first = socket_with(&context, Dealer, named("gate"));
            connect(&first, &router, &at).await;
            let mut events = router.events();

            let second = socket_with(&context, Dealer, named("gate").reconnect_interval(None));
            let connecting = second.connect(&at).unwrap();
            event(&mut events, "duplicate-routing-id").await;
            event(&mut events, if handover { "disconnected" } else { "handshake-failed" }).await;
            let (stays, goes) = if handover { (&second, &first) } else { (&first, &second) };
            if handover {
                soon(&label, connecting).await.unwrap();
            }
            eventually(&label, || connected(goes) == 0).await;
            let reason = if handover { "taken-over" } else { "duplicate-routing-id" };
            eventually(&label, || router.stats().closes.get(reason) == Some(&1)).await;
            send(&router, "gate|who is it?").await;
            assert_eq!(receive(stays, &label).await, "who is it?");
        }
    }
}

#[tokio::test]
async fn a_pair_has_one_peer() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let (bound, first, second) = (socket(&context, Pair), socket(&context, Pair), socket(&context, Pair));
        let at = link(transport, &bound, &first).await;
        let connecting = second.connect(&at).unwrap();
        eventually(transport, || bound.stats().closes.contains_key("pair-taken")).await;
        if transport == "inproc" {
            let error = soon(transport, connecting).await.unwrap_err();
            assert!(matches!(&error, ConnectError::Refused { code, .. } if code == "pair-taken"), "{error}");
        }
        send(&first, "ping").await;
        assert_eq!(receive(&bound, transport).await, "ping");
        send(&bound, "pong").await;
        assert_eq!(receive(&first, transport).await, "pong");
        second.close(LONG).await;

        // The next one is welcome when the first has gone
        first.close(LONG).await;
        eventually(transport, || connected(&bound) == 0).await;
        let third = socket(&context, Pair);
        connect(&third, &bound, &at).await;
        send(&third, "me now").await;
        assert_eq!(receive(&bound, transport).await, "me now");
    }
}

#[tokio::test]
async fn a_pair_that_disconnects_may_connect_elsewhere() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let (here, there, pair) = (socket(&context, Pair), socket(&context, Pair), socket(&context, Pair));
        let first = link(transport, &here, &pair).await;
        send(&pair, "last word").await;
        pair.disconnect(&first).unwrap();
        link(transport, &there, &pair).await;
        send(&pair, "first word").await;
        assert_eq!(receive(&there, transport).await, "first word");
        assert_eq!(receive(&here, transport).await, "last word");
    }
}

#[tokio::test]
async fn types_refuse_what_they_do_not_do() {
    let context = Context::new();
    for socket_type in [Pull, Sub] {
        let error = socket(&context, socket_type).try_send("x".into()).unwrap_err();
        assert!(matches!(error.reason, SendFailure::NotSupported(_)), "{socket_type}");
    }
    for socket_type in [Push, Pub] {
        let error = socket(&context, socket_type).try_recv().unwrap_err();
        assert!(matches!(error, RecvError::NotSupported(_)), "{socket_type}");
    }
    for socket_type in [Pull, Push, Pair, Dealer, Router, Rep] {
        assert!(socket(&context, socket_type).subscribe("x").is_err(), "{socket_type}");
    }
}

#[tokio::test]
async fn every_frame_arrives_as_it_was() {
    for transport in TRANSPORTS {
        for (sends, receives) in [(Push, Pull), (Pair, Pair), (Dealer, Dealer)] {
            let label = format!("{sends}/{receives} over {transport}");
            let context = Context::new();
            let (receiver, sender) = (socket(&context, receives), socket(&context, sends));
            link(transport, &receiver, &sender).await;
            let frames: Vec<Vec<u8>> =
                [0, 1, 255, 256, 8192, 65_536, 10 << 20].iter().map(|len| vec![b'x'; *len]).collect();
            for frame in &frames {
                sender.send(frame.clone().into()).await.unwrap();
            }
            sender.send(Message::multipart(frames.clone())).await.unwrap();
            sender.send(Message::multipart(vec![Vec::new(); 1000])).await.unwrap();
            for frame in &frames {
                let received = soon(&label, receiver.recv()).await.unwrap();
                assert!(received == Message::from(frame.clone()), "{label}: {} octets", frame.len());
            }
            let received = soon(&label, receiver.recv()).await.unwrap();
            assert!(received == Message::multipart(frames.clone()), "{label}: all in one");
            assert_eq!(soon(&label, receiver.recv()).await.unwrap().frame_count(), 1000, "{label}");
        }
    }
}

#[tokio::test]
async fn every_legal_pair_of_types_talks_and_no_other() {
    use SocketType::{Xpub, Xsub};
    const ALL: [SocketType; 11] = [Req, Rep, Dealer, Router, Pub, Sub, Xpub, Xsub, Push, Pull, Pair];
    let legal = |a, b| {
        matches!(
            (a, b),
            (Req, Rep | Router)
                | (Rep, Req | Dealer)
                | (Dealer, Rep | Dealer | Router)
                | (Router, Req | Dealer | Router)
                | (Pub | Xpub, Sub | Xsub)
                | (Sub | Xsub, Pub | Xpub)
                | (Push, Pull)
                | (Pull, Push)
                | (Pair, Pair)
        )
    };
    for transport in TRANSPORTS {
        for bound in ALL {
            for connecting in ALL {
                let label = format!("{connecting} to {bound} over {transport}");
                let context = Context::new();
                let (server, client) = (socket(&context, bound), socket(&context, connecting));
                let at = bind(&server, transport).await;
                let outcome = soon(&label, client.connect(&at).unwrap()).await;
                match outcome {
                    Ok(peer) => {
                        assert!(legal(bound, connecting), "{label} should be refused");
                        assert_eq!(peer.socket_type, Some(bound), "{label}");
                    }
                    Err(ConnectError::Refused { code, .. }) => {
                        assert!(!legal(bound, connecting), "{label} should talk");
                        let fits = code == "incompatible-socket-type" || code.starts_with("incompatible-socket-types:");
                        assert!(fits, "{label}: {code}");
                    }
                    Err(error) => panic!("{label}: {error}"),
                }
            }
        }
    }
}

fn named(name: &'static str) -> Options {
    Options::new().routing_id(name.into())
}

#[tokio::test]
async fn frames_that_come_in_pieces_from_several_peers_are_not_mixed() {
    // Connections that wait lend each other the buffer that they read into
    let victim = Victim::new(Options::new()).await;
    let (mut peers, mut all) = (Vec::new(), Vec::new());
    for letter in [b'a', b'b', b'c'] {
        let long = [&[2, 0, 0, 0, 0, 0, 0, 3, 232][..], &[letter; 1000]].concat();
        peers.push((RawPeer::handshaken(&victim.at, "PUSH").await, [frame(0, &[letter; 90]), long].concat()));
    }
    let mut sent = 0;
    for end in [1, 2, 60, 93, 100, 110, 612, 613, 614, 1100] {
        for (peer, octets) in &mut peers {
            peer.write(&octets[sent..end]).await;
        }
        // Goes the same way after them, so that they have been read when it is here
        send(&victim.good, "here").await;
        loop {
            match receive(&victim.pull, format!("after {end} octets")).await {
                text if text == "here" => break,
                text => all.push(text),
            }
        }
        sent = end;
    }
    for (peer, octets) in &mut peers {
        peer.write(&octets[sent..]).await;
    }
    while all.len() < 6 {
        all.push(receive(&victim.pull, "the rest").await);
    }
    all.sort_by_key(|text| (text.len(), text.clone()));
    let expected = [90, 1000].into_iter().flat_map(|length| ["a", "b", "c"].map(|letter| letter.repeat(length)));
    assert_eq!(all, expected.collect::<Vec<_>>());
}
