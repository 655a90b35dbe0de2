//! Where a message came from, on every type that receives.

use tidings_socket::SocketType::{Dealer, Pair, Pub, Pull, Push, Rep, Req, Router, Sub, Xpub, Xsub};
use tidings_socket::{ConnectionId, Context, Options, RecvError, Socket};

use crate::support::*;

#[tokio::test]
async fn every_type_that_receives_tells_from_whom() {
    for transport in TRANSPORTS {
        for (receiving, sending) in [
            (Pull, Push),
            (Dealer, Dealer),
            (Pair, Pair),
            (Router, Dealer),
            (Rep, Req),
            (Sub, Pub),
            (Xsub, Pub),
            (Xpub, Sub),
        ] {
            let label = format!("{receiving} over {transport}");
            let context = Context::new();
            let named = Options::new().routing_id("sender".into()).metadata("X-Site:north".into());
            let (server, client) = (socket(&context, receiving), socket_with(&context, sending, named));
            let mut events = server.events();
            link(transport, &server, &client).await;
            match receiving {
                Sub | Xsub => {
                    server.subscribe("").unwrap();
                    soon(&label, client.ready(1, LONG)).await.unwrap();
                    send(&client, "hello").await;
                }
                Xpub => client.subscribe("hello").unwrap(),
                _ => send(&client, "hello").await,
            }
            let received = soon(&label, server.recv_from()).await.unwrap();
            let last = received.message.frames().last().unwrap();
            assert!(last.ends_with(b"hello"), "{label}: {received:?}");
            let handshaken = event(&mut events, "handshaken").await;
            assert_eq!(Some(received.from.connection), handshaken.connection, "{label}");
            assert_eq!(received.from.socket_type, Some(sending), "{label}");
            let announces = transport == "inproc" || matches!(sending, Req | Dealer);
            assert_eq!(received.from.routing_id, if announces { "sender" } else { "" }, "{label}");
            let (site, address) = (received.from.property("x-site"), received.from.property("Peer-Address"));
            match transport {
                "tcp" => assert_eq!(address.unwrap(), "127.0.0.1", "{label}"),
                "ipc" => assert!(address.unwrap().ends_with(format!(":{}", std::process::id()).as_bytes()), "{label}"),
                _ => assert_eq!(address, None, "{label}"),
            }
            assert_eq!(site.unwrap(), "north", "{label}");
            assert_eq!(received.from.mechanism, if transport == "inproc" { "none" } else { "NULL" }, "{label}");
            assert_eq!(received.from.user_id, "", "{label}");
            assert!(matches!(server.try_recv_from(), Err(RecvError::WouldBlock | RecvError::WrongState(_))), "{label}");
        }
    }
}

#[tokio::test]
async fn a_reply_tells_from_whom() {
    let context = Context::new();
    let (rep, req) = (socket(&context, Rep), socket(&context, Req));
    let at = bind(&rep, "tcp").await;
    let peer = soon("connect", req.connect(&at).unwrap()).await.unwrap();
    send(&req, "question").await;
    assert_eq!(receive(&rep, "a question").await, "question");
    send(&rep, "answer").await;
    let answer = soon("an answer", req.recv_from()).await.unwrap();
    assert_eq!((text(&answer.message), answer.from.connection), ("answer".to_owned(), peer.connection));
    assert_eq!(answer.from.property("Socket-Type").unwrap(), "REP");
}

/// A pipe that stays over reconnections holds messages of several: each is the connection's that brought it
#[tokio::test]
async fn what_waits_stays_the_connections_that_brought_it() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let at = free_endpoint(&context, transport).await;
        let pull = socket_with(&context, Pull, Options::new().reconnect_interval(Some(QUICK)));
        let mut events = pull.events();
        drop(pull.connect(&at).unwrap());
        let mut expected: Vec<(String, ConnectionId)> = Vec::new();
        for round in 0..5u64 {
            let push = socket(&context, Push);
            soon(transport, push.bind(&at).unwrap()).await.unwrap();
            let connection = event(&mut events, "handshaken").await.connection.unwrap();
            // Those that bring nothing leave no trace
            for number in 0..[2, 0, 1, 0, 3][round as usize] {
                let body = format!("{round}-{number}");
                send(&push, &body).await;
                expected.push((body, connection));
            }
            assert!(push.close(LONG).await.is_complete());
            event(&mut events, "disconnected").await;
            if round == 2 {
                // Part of what waits is received meanwhile, without asking whose it is
                assert_eq!(receive(&pull, transport).await, expected.remove(0).0);
            }
        }
        let received: Vec<(String, ConnectionId)> = std::iter::from_fn(|| next(&pull)).collect();
        assert_eq!(received, expected, "{transport}");
    }
}

fn next(socket: &Socket) -> Option<(String, ConnectionId)> {
    let received = socket.try_recv_from().ok()?;
    Some((text(&received.message), received.from.connection))
}

const QUICK: std::time::Duration = std::time::Duration::from_millis(5);
