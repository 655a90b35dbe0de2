//! The options that are no queue's: timeouts, immediate, routing ids, probes, notifications.

use std::time::Duration;

use tidings_socket::SocketType::{Dealer, Pull, Push, Rep, Req, Router};
use tidings_socket::{Context, EventKind, Options, RecvError, SendFailure};

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn timeouts_end_waits_on_time() {
    for timeout in [Duration::ZERO, Duration::from_secs(3600)] {
        let context = Context::new();
        let options = Options::new().send_timeout(Some(timeout)).recv_timeout(Some(timeout));
        let dealer = socket_with(&context, Dealer, options);
        let start = tokio::time::Instant::now();
        let error = dealer.send("back".into()).await.unwrap_err();
        assert_eq!((error.reason, text(&error.message)), (SendFailure::TimedOut(timeout), "back".to_owned()));
        assert_eq!(dealer.recv().await, Err(RecvError::TimedOut(timeout)));
        assert_eq!(dealer.recv_many(&mut Vec::new(), 10).await, Err(RecvError::TimedOut(timeout)));
        let mut messages = vec!["a".into(), "b".into()];
        assert_eq!(dealer.send_many(&mut messages).await, Err(SendFailure::TimedOut(timeout)));
        assert_eq!(messages.len(), 2);
        assert!(start.elapsed() >= timeout * 4 && start.elapsed() < timeout * 4 + Duration::from_secs(1));
    }
}

#[tokio::test]
async fn immediate_queues_for_nobody_that_is_not_there() {
    for transport in ["tcp", "ipc"] {
        let context = Context::new();
        let at = free_endpoint(&context, transport).await;
        let push = socket_with(&context, Push, Options::new().immediate(true).reconnect_interval(Some(QUICK)));
        let connecting = push.connect(&at).unwrap();
        assert_eq!(push.try_send("x".into()).unwrap_err().reason, SendFailure::WouldBlock, "{transport}");
        let pull = socket(&context, Pull);
        soon(transport, pull.bind(&at).unwrap()).await.unwrap();
        soon(transport, connecting).await.unwrap();
        send(&push, "now").await;
        assert_eq!(receive(&pull, transport).await, "now");
        pull.close(LONG).await;
        eventually(transport, || push.stats().peers.is_empty()).await;
        assert!(push.try_send("x".into()).is_err(), "{transport}");
    }
}

#[tokio::test]
async fn a_router_can_name_an_immediate_peer() {
    for immediate in [false, true] {
        let context = Context::new();
        let (router, dealer) =
            (socket_with(&context, Router, Options::new().immediate(immediate)), socket(&context, Dealer));
        let at = bind(&dealer, "tcp").await;
        soon("connect", router.connect_as(&at, "gate").unwrap()).await.unwrap();
        send(&router, "gate|hello").await;
        assert_eq!(receive(&dealer, format!("immediate {immediate}")).await, "hello");
        assert!(soon("a name", socket(&context, Dealer).connect_as(&at, "x").unwrap()).await.is_err());
    }
}

#[tokio::test]
async fn a_probe_introduces() {
    for transport in TRANSPORTS {
        for probing in [Req, Dealer, Router] {
            let label = format!("{probing} over {transport}");
            let context = Context::new();
            let router = socket(&context, Router);
            let prober = socket_with(&context, probing, Options::new().probe_router(true).routing_id("me".into()));
            link(transport, &router, &prober).await;
            assert_eq!(receive(&router, &label).await, "me|");
        }
    }
}

#[tokio::test]
async fn a_router_can_tell_who_comes_and_goes() {
    for transport in TRANSPORTS {
        for notify in 0..=3 {
            let label = format!("{notify} over {transport}");
            let context = Context::new();
            let router = socket_with(&context, Router, Options::new().router_notify(notify));
            let dealer = socket_with(&context, Dealer, Options::new().routing_id("me".into()));
            link(transport, &router, &dealer).await;
            send(&dealer, "hello").await;
            eventually(&label, || router.stats().received > 0).await;
            dealer.close(LONG).await;
            eventually(&label, || connected(&router) == 0).await;
            let expected: Vec<&str> = [(notify & 1 != 0, "me|"), (true, "me|hello"), (notify & 2 != 0, "me|")]
                .into_iter()
                .filter_map(|(due, text)| due.then_some(text))
                .collect();
            assert_eq!(receive_all(&router), expected, "{label}");
        }
    }
}

#[tokio::test]
async fn an_empty_message_is_told_from_a_notice() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let router = socket_with(&context, Router, Options::new().router_notify(3));
        let dealer = socket_with(&context, Dealer, Options::new().routing_id("me".into()));
        link(transport, &router, &dealer).await;
        send(&dealer, "").await;
        eventually(transport, || router.stats().received > 0).await;
        dealer.close(LONG).await;
        eventually(transport, || connected(&router) == 0).await;
        let (mut received, mut notices) = (Vec::new(), Vec::new());
        while notices.len() < 3 && router.try_recv_many_from(&mut received, 10).is_ok() {
            for of in received.drain(..) {
                assert_eq!((of.message.frame_count(), of.message.octets()), (2, 2), "{transport}");
                notices.push(of.is_notice);
            }
        }
        assert_eq!(notices, [true, false, true], "{transport}");
    }
}

#[tokio::test]
async fn a_router_may_hang_up() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let router = socket_with(&context, Router, Options::new().router_notify(2));
        let dealer = socket_with(&context, Dealer, Options::new().routing_id("me".into()));
        link(transport, &router, &dealer).await;
        send(&dealer, "hello").await;
        let hello = soon("hello", router.recv_from()).await.unwrap();
        assert!(router.hang_up(hello.from.connection), "{transport}");
        let notice = soon("a notice", router.recv_from()).await.unwrap();
        assert_eq!((notice.is_notice, notice.from.connection), (true, hello.from.connection), "{transport}");
        assert_eq!(router.stats().closes.get("too-slow"), Some(&1), "{transport}");
        assert!(!router.hang_up(hello.from.connection), "{transport}: it has ended");
        // Whoever connected comes again
        eventually(transport, || dealer.stats().closes.values().sum::<u64>() > 0 && connected(&dealer) == 1).await;
        send(&dealer, "again").await;
        let again = soon("again", router.recv_from()).await.unwrap();
        assert_ne!(again.from.connection, hello.from.connection, "{transport}");
    }
}

#[tokio::test]
async fn a_router_may_give_a_peer_up_and_have_it_hear_the_end() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let router = socket_with(&context, Router, Options::new().router_notify(2).router_mandatory(true));
        let options = Options::new().routing_id("me".into()).reconnect_interval(None);
        let dealer = socket_with(&context, Dealer, options);
        link(transport, &router, &dealer).await;
        send(&dealer, "hello").await;
        let hello = soon("hello", router.recv_from()).await.unwrap();
        for word in ["that", "is", "all"] {
            send(&router, &format!("me|{word}")).await;
        }
        assert!(router.dismiss(hello.from.connection), "{transport}");
        assert_eq!(receive_many(&dealer, 3, transport).await, ["that", "is", "all"], "{transport}");
        let notice = soon("a notice", router.recv_from()).await.unwrap();
        assert_eq!((notice.is_notice, notice.from.connection), (true, hello.from.connection), "{transport}");
        assert!(!router.dismiss(hello.from.connection), "{transport}: it has ended");
        assert!(router.try_send(message("me|more")).is_err(), "{transport}");
    }
}

#[tokio::test]
async fn correlated_requests_carry_a_number() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let (router, req) = (socket(&context, Router), socket_with(&context, Req, Options::new().req_correlate(true)));
        link(transport, &router, &req).await;
        send(&req, "question").await;
        let request = soon(transport, router.recv()).await.unwrap();
        assert_eq!(
            (request.frame_count(), request.frame(1).unwrap().len(), request.frame(2).unwrap().len()),
            (4, 4, 0),
            "{transport}"
        );
        let reply = |number: Option<&[u8]>, body: &'static str| {
            let mut frames = vec![request.frame(0).unwrap().to_vec()];
            frames.extend(number.map(<[u8]>::to_vec));
            frames.extend([Vec::new(), body.into()]);
            tidings_socket::Message::multipart(frames)
        };
        router.try_send(reply(Some(&[9, 9, 9, 9]), "another's")).unwrap();
        router.try_send(reply(None, "nobody's")).unwrap();
        router.try_send(reply(request.frame(1), "right")).unwrap();
        assert_eq!(receive(&req, transport).await, "right");
        assert_eq!(req.stats().unrouted, 2, "{transport}: late ones are counted");
    }
}

#[tokio::test]
async fn a_relaxed_req_may_ask_again() {
    for transport in TRANSPORTS {
        let context = Context::new();
        // Its queue for replies holds one: what is dropped unread must make room
        let options = Options::new().req_relaxed(true).req_correlate(true).recv_hwm(1);
        let (rep, req) = (socket(&context, Rep), socket_with(&context, Req, options));
        link(transport, &rep, &req).await;
        for round in 0..5 {
            send(&req, &format!("unread {round}")).await;
            assert_eq!(receive(&rep, transport).await, format!("unread {round}"));
            send(&rep, "never fetched").await;
            eventually(transport, || req.stats().received > round).await;
        }
        send(&req, "last").await;
        assert_eq!(receive(&rep, transport).await, "last");
        send(&rep, "fetched").await;
        assert_eq!(receive(&req, transport).await, "fetched");
    }
}

#[tokio::test]
async fn metadata_reaches_the_peer() {
    for transport in ["tcp", "ipc"] {
        let context = Context::new();
        let pull = socket_with(&context, Pull, Options::new().metadata("X-Site:north\nX-Rack:7".into()));
        let push = socket(&context, Push);
        let at = bind(&pull, transport).await;
        let mut events = push.events();
        let peer = soon(transport, push.connect(&at).unwrap()).await.unwrap();
        assert_eq!(peer.properties.value("x-site").map(|value| &value[..]), Some(&b"north"[..]), "{transport}");
        let EventKind::Handshaken { properties, peer_type, .. } = event(&mut events, "handshaken").await.kind else {
            unreachable!()
        };
        assert_eq!(peer_type, Some("PULL"));
        assert_eq!(properties.len(), 2, "{transport}: {properties:?}");
    }
}

const QUICK: Duration = Duration::from_millis(10);
