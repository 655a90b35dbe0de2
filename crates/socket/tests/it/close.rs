//! What a close sends, drops, reports and wakes.

use std::time::Duration;

use tidings_socket::SocketType::{self, Dealer, Pair, Pub, Pull, Push, Rep, Req, Router, Sub};
use tidings_socket::{BindError, ConnectError, Context, Options, RecvError, SendFailure, SocketError};

use crate::support::*;

#[tokio::test]
async fn everything_queued_is_sent_before_a_close_ends() {
    for transport in TRANSPORTS {
        for (sends, receives) in [(Push, Pull), (Dealer, Dealer), (Pair, Pair)] {
            for sender_binds in [false, true] {
                let label = format!("{sends} over {transport}, bound {sender_binds}");
                let context = Context::new();
                let options = Options::new().send_hwm(0).recv_hwm(0);
                let (sender, receiver) =
                    (socket_with(&context, sends, options.clone()), socket_with(&context, receives, options));
                let (server, client) = if sender_binds { (&sender, &receiver) } else { (&receiver, &sender) };
                link(transport, server, client).await;
                for number in 0..20_000 {
                    sender.try_send(number.to_string().into()).unwrap();
                }
                let report = sender.close(LONG).await;
                assert!(report.is_complete(), "{label}: {report:?}");
                assert_eq!(report.flushed, 20_000, "{label}");
                for number in 0..20_000 {
                    assert_eq!(receive(&receiver, &label).await, number.to_string());
                }
            }
        }
    }
}

#[tokio::test]
async fn what_could_not_be_sent_is_listed() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let at = free_endpoint(&context, transport).await;
        let push = socket(&context, Push);
        let mut events = push.events();
        let connecting = push.connect(&at).unwrap();
        for _ in 0..3 {
            push.try_send("12345".into()).unwrap();
        }
        let report = soon(transport, push.close(Duration::from_millis(50))).await;
        assert!(!report.is_complete() && report.flushed == 0, "{transport}: {report:?}");
        assert_eq!((&report.unflushed[0].endpoint, report.unflushed[0].messages), (&at.to_string(), 3), "{transport}");
        assert!(matches!(soon(transport, connecting).await, Err(ConnectError::Closed)), "{transport}");
        event(&mut events, "closed").await;
        drop(push);
        drop(context);
        while let Some(event) = soon(transport, events.next()).await {
            assert_ne!(event.kind.name(), "closed", "{transport}: it closes once");
        }
    }
}

#[tokio::test]
async fn a_close_without_peers_or_messages_is_quick() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let at = free_endpoint(&context, transport).await;
        let push = socket(&context, Push);
        drop(push.connect(&at).unwrap());
        let pull = socket(&context, Pull);
        drop(pull.bind(endpoint(transport)).unwrap());
        for socket in [push, pull] {
            let report = tokio::time::timeout(LONG / 4, socket.close(LONG)).await.unwrap();
            assert!(report.is_complete(), "{transport}: {report:?}");
        }
    }
}

#[tokio::test]
async fn a_peer_that_never_reads_holds_a_close_up_until_its_deadline() {
    for transport in ["tcp", "ipc"] {
        let context = Context::new();
        let small = Options::new().recv_hwm(1).recv_buffer(8192).send_buffer(8192);
        let (pull, push) = (socket_with(&context, Pull, small.clone()), socket_with(&context, Push, small));
        link(transport, &pull, &push).await;
        for _ in 0..100 {
            push.try_send(vec![0; 10_000].into()).unwrap();
        }
        let report = soon(transport, push.close(Duration::from_millis(100))).await;
        assert_eq!(report.unflushed.len(), 1, "{transport}: {report:?}");
        assert_eq!(report.flushed + report.unflushed[0].messages, 100, "{transport}: {report:?}");
    }
}

/// The application has stopped reading, and the peer is gone: nothing may wait for either
#[tokio::test]
async fn a_close_with_a_full_inbox_sees_that_the_peer_is_gone() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let small = Options::new().recv_hwm(1).send_hwm(0).recv_buffer(8192).send_buffer(8192);
        let (near, far) = (socket_with(&context, Dealer, small.clone()), socket_with(&context, Dealer, small));
        link(transport, &near, &far).await;
        for _ in 0..100 {
            far.try_send(vec![0; 10_000].into()).unwrap();
            near.try_send(vec![0; 10_000].into()).unwrap();
        }
        eventually(transport, || near.stats().received > 0).await;
        let close = tokio::spawn(async move { near.close(LONG * 10).await });
        far.close(Duration::ZERO).await;
        let report = soon(transport, close).await.unwrap();
        // How much of it the leaving peer still read is a matter of luck
        assert!(report.flushed <= 100 && report.is_complete(), "{transport}: {report:?}");
    }
}

#[tokio::test]
async fn who_waits_is_told_that_the_socket_closed() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let at = free_endpoint(&context, transport).await;
        let dealer = socket_with(&context, Dealer, Options::new().send_hwm(1));
        drop(dealer.connect(&at).unwrap());
        dealer.try_send("fills the queue".into()).unwrap();
        let receiving = tokio::spawn({
            let dealer = dealer.clone();
            async move { dealer.recv().await }
        });
        let sending = tokio::spawn({
            let dealer = dealer.clone();
            async move { dealer.send("waits".into()).await }
        });
        let readying = tokio::spawn({
            let dealer = dealer.clone();
            async move { dealer.ready(1, Duration::from_millis(200)).await }
        });
        tokio::task::yield_now().await;
        dealer.close(Duration::ZERO).await;
        assert_eq!(soon(transport, receiving).await.unwrap(), Err(RecvError::Closed), "{transport}");
        let error = soon(transport, sending).await.unwrap().unwrap_err();
        assert_eq!((error.reason, text(&error.message)), (SendFailure::Closed, "waits".to_owned()), "{transport}");
        assert!(soon(transport, readying).await.unwrap().is_err(), "{transport}");
        assert_eq!(dealer.try_recv(), Err(RecvError::Closed));
        assert_eq!(dealer.try_send("x".into()).unwrap_err().reason, SendFailure::Closed);
    }
}

#[tokio::test]
async fn nothing_is_bound_or_connected_behind_a_close() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let (pull, other) = (socket(&context, Pull), socket(&context, Pull));
        let at = free_endpoint(&context, transport).await;
        pull.close(LONG).await;
        assert!(matches!(soon(transport, pull.bind(&at).unwrap()).await, Err(BindError::Closed)), "{transport}");
        assert!(matches!(soon(transport, pull.connect(&at).unwrap()).await, Err(ConnectError::Closed)), "{transport}");
        soon(transport, other.bind(&at).unwrap()).await.expect("the endpoint is free");
        assert!(pull.stats().bound.is_empty() && pull.stats().peers.is_empty(), "{transport}");
    }
}

#[tokio::test]
async fn the_last_handle_lingers_until_all_is_sent() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let at = free_endpoint(&context, transport).await;
        let push = socket(&context, Push);
        drop(push.connect(&at).unwrap());
        for number in 0..3 {
            push.try_send(number.to_string().into()).unwrap();
        }
        drop(push);
        let pull = socket(&context, Pull);
        soon(transport, pull.bind(&at).unwrap()).await.unwrap();
        assert_eq!(receive_many(&pull, 3, transport).await, ["0", "1", "2"]);
        eventually(transport, || context.sockets().len() == 1).await;
    }
}

#[tokio::test]
async fn without_linger_a_drop_drops() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let at = free_endpoint(&context, transport).await;
        let mut events = context.events();
        for linger in [Duration::ZERO, Duration::from_millis(20)] {
            let push = socket_with(&context, Push, Options::new().linger(Some(linger)));
            drop(push.connect(&at).unwrap());
            push.try_send("dropped".into()).unwrap();
            drop(push);
            event(&mut events, "closed").await;
        }
        eventually(transport, || context.sockets().is_empty()).await;
    }
}

#[tokio::test]
async fn an_endpoint_that_was_given_up_holds_nobody() {
    for transport in ["tcp", "ipc"] {
        let context = Context::new();
        let pull = socket(&context, Pull);
        let at = bind(&pull, transport).await;
        let push = socket_with(&context, Push, Options::new().reconnect_interval(None).send_buffer(8192));
        connect(&push, &pull, &at).await;
        drop(push);
        eventually(transport, || context.sockets().len() == 1).await;
        pull.close(LONG).await;
    }
}

#[tokio::test]
async fn a_context_closes_all_its_sockets_together() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let (pull, push) = (socket(&context, Pull), socket(&context, Push));
        link(transport, &pull, &push).await;
        let lonely = socket(&context, Push);
        let nowhere = free_endpoint(&context, transport).await;
        drop(lonely.connect(&nowhere).unwrap());
        lonely.try_send("unsent".into()).unwrap();
        send(&push, "sent").await;
        eventually(transport, || pull.stats().received == 1).await;
        let report = soon(transport, context.close(Duration::from_millis(100))).await;
        assert_eq!(report.unflushed.len(), 1, "{transport}: {report:?}");
        assert!(matches!(context.socket(Push), Err(SocketError::Closed)));
        for socket in [&push, &lonely] {
            assert_eq!(socket.try_send("x".into()).unwrap_err().reason, SendFailure::Closed);
        }
        drop((pull, push, lonely));
        eventually(transport, || context.sockets().is_empty()).await;
    }
}

/// Sockets of every type close while they are connected to each other, in any order, and nothing hangs or stays
#[tokio::test]
async fn every_type_lets_go() {
    const PAIRS: [(SocketType, SocketType); 8] = [
        (Rep, Req),
        (Router, Dealer),
        (Router, Router),
        (Pub, Sub),
        (SocketType::Xpub, SocketType::Xsub),
        (Pull, Push),
        (Pair, Pair),
        (Dealer, Rep),
    ];
    for transport in TRANSPORTS {
        for (server, client) in PAIRS {
            for server_first in [false, true] {
                let label = format!("{server} and {client} over {transport}, server first {server_first}");
                let context = Context::new();
                let (server, client) = (socket(&context, server), socket(&context, client));
                link(transport, &server, &client).await;
                let (first, second) = if server_first { (server, client) } else { (client, server) };
                for socket in [first, second] {
                    let report = tokio::time::timeout(LONG / 4, socket.close(LONG)).await;
                    assert!(report.unwrap_or_else(|_| panic!("{label}")).is_complete(), "{label}");
                }
                eventually(&label, || context.sockets().is_empty()).await;
            }
        }
    }
}
