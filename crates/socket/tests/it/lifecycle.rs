//! Events and outcomes of binding, connecting, refusing, parting and returning.

use std::time::Duration;

use tidings_socket::SocketType::{Dealer, Pull, Push, Rep, Router, Sub};
use tidings_socket::{BindError, ConnectError, Context, EventKind, Options};

use crate::support::*;

#[tokio::test]
async fn a_connect_before_the_bind_tries_until_somebody_is_there() {
    for transport in ["tcp", "ipc"] {
        let context = Context::new();
        let at = free_endpoint(&context, transport).await;
        let push = socket_with(&context, Push, quick());
        let mut events = push.events();
        let connecting = push.connect(&at).unwrap();
        push.try_send("early".into()).unwrap();
        for _ in 0..2 {
            let failed = event(&mut events, "connect-failed").await;
            assert_eq!(failed.endpoint, Some(at.to_string()), "{transport}");
            assert!(matches!(failed.kind, EventKind::ConnectFailed { retry_in_ms: Some(1..=10), .. }), "{failed}");
        }
        let pull = socket(&context, Pull);
        let mut bound_events = pull.events();
        assert_eq!(soon(transport, pull.bind(&at).unwrap()).await.unwrap(), at);
        let peer = soon(transport, connecting).await.unwrap();
        assert_eq!((peer.socket_type, peer.version), (Some(Pull), (3, 1)), "{transport}");
        let connected = event(&mut events, "connected").await;
        let handshaken = event(&mut events, "handshaken").await;
        assert_eq!(connected.connection, Some(peer.connection), "{transport}: one connection, one id");
        assert_eq!(handshaken.connection, Some(peer.connection), "{transport}");
        assert_eq!(event_names(&mut bound_events, 3).await, ["listening", "accepted", "handshaken"]);
        assert_eq!(receive(&pull, transport).await, "early");
    }
}

#[tokio::test]
async fn inproc_connects_before_the_bind() {
    let context = Context::new();
    let push = socket(&context, Push);
    let mut events = push.events();
    let connecting = push.connect("inproc://later").unwrap();
    push.try_send("early".into()).unwrap();
    let pull = socket(&context, Pull);
    let mut bound_events = pull.events();
    soon("bind", pull.bind("inproc://later").unwrap()).await.unwrap();
    soon("connect", connecting).await.unwrap();
    assert_eq!(receive(&pull, "inproc").await, "early");
    assert_eq!(event_names(&mut events, 1).await, ["handshaken"]);
    let mut names = event_names(&mut bound_events, 2).await;
    names.sort_unstable();
    assert_eq!(names, ["handshaken", "listening"]);
}

#[tokio::test]
async fn a_wrong_type_is_refused_for_good_on_both_sides() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let (pull, sub) = (socket(&context, Pull), socket_with(&context, Sub, quick()));
        let at = bind(&pull, transport).await;
        let (mut bound_events, mut events) = (pull.events(), sub.events());
        let error = soon(transport, sub.connect(&at).unwrap()).await.unwrap_err();
        assert!(matches!(error, ConnectError::Refused { .. }), "{transport}: {error}");
        assert!(error.to_string().contains(&at.to_string()), "{error}");
        let refused = event(&mut events, "refused").await;
        let EventKind::Refused { reason, .. } = &refused.kind else { unreachable!("it has that name") };
        assert!(reason.contains("SUB") || reason.contains("PULL"), "{transport}: {reason}");
        event(&mut bound_events, "refused").await;
        eventually(transport, || sub.stats().peers.is_empty()).await;
        assert!(sub.disconnect(&at).is_err(), "{transport}: the endpoint is forgotten");
        assert_eq!(pull.stats().closes.values().sum::<u64>(), 1, "{transport}: it is not tried again");

        // The one that refused goes on
        let push = socket(&context, Push);
        connect(&push, &pull, &at).await;
        send(&push, "hello").await;
        assert_eq!(receive(&pull, transport).await, "hello");
    }
}

#[tokio::test]
async fn a_peer_that_dies_and_returns_is_the_same_endpoint_and_another_connection() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let at = free_endpoint(&context, transport).await;
        let push = socket_with(&context, Push, quick());
        let mut events = push.events();
        let first = push.connect(&at).unwrap();
        let pull = socket(&context, Pull);
        soon(transport, pull.bind(&at).unwrap()).await.unwrap();
        let first = soon(transport, first).await.unwrap();
        send(&push, "one").await;
        assert_eq!(receive(&pull, transport).await, "one");
        assert!(pull.close(LONG).await.is_complete());

        let lost = event(&mut events, "disconnected").await;
        assert_eq!(lost.connection, Some(first.connection), "{transport}");
        let EventKind::Disconnected { requeued, lost, retry_in_ms, .. } = lost.kind else { unreachable!() };
        assert_eq!((requeued, lost, retry_in_ms.is_some()), (0, 0, transport != "inproc"), "{transport}");
        push.try_send("two".into()).unwrap();

        let pull = socket(&context, Pull);
        soon(transport, pull.bind(&at).unwrap()).await.unwrap();
        assert_eq!(receive(&pull, transport).await, "two");
        let again = event(&mut events, "handshaken").await;
        assert_ne!(again.connection, Some(first.connection), "{transport}");
        assert_eq!(again.socket, push.id(), "{transport}");
    }
}

#[tokio::test]
async fn a_socket_tells_when_its_last_peer_is_gone() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let push = socket_with(&context, Push, quick().reconnect_interval(None));
        soon(transport, push.deserted()).await;
        let pulls = [socket(&context, Pull), socket(&context, Pull)];
        for pull in &pulls {
            let at = bind(pull, transport).await;
            soon(transport, push.connect(&at).unwrap()).await.unwrap();
        }
        let watching = push.clone();
        let watching = tokio::spawn(async move { watching.deserted().await });
        let [one, other] = &pulls;
        one.close(LONG).await;
        eventually(transport, || connected(&push) == 1).await;
        assert!(!watching.is_finished(), "{transport}: one is left");
        other.close(LONG).await;
        soon(transport, watching).await.unwrap();
        // And when it is closed itself
        let pull = socket(&context, Pull);
        let at = bind(&pull, transport).await;
        soon(transport, push.connect(&at).unwrap()).await.unwrap();
        push.close(LONG).await;
        soon(transport, push.deserted()).await;
    }
}

#[tokio::test]
async fn an_address_in_use_can_not_be_bound() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let (holder, other) = (socket(&context, Pull), socket(&context, Pull));
        let at = bind(&holder, transport).await;
        let mut events = other.events();
        let error = soon(transport, other.bind(&at).unwrap()).await.unwrap_err();
        assert!(matches!(error, BindError::Listen { .. }), "{transport}: {error}");
        assert!(error.to_string().contains(&at.to_string()), "{error}");
        event(&mut events, "bind-failed").await;
        assert!(other.endpoints().is_empty() && other.unbind(&at).is_err(), "{transport}");
    }
}

#[tokio::test]
async fn unbinding_frees_the_endpoint_and_leaves_peers_alone() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let (pull, push) = (socket(&context, Pull), socket(&context, Push));
        let at = link(transport, &pull, &push).await;
        let mut events = pull.events();
        assert_eq!(pull.endpoints(), std::slice::from_ref(&at), "{transport}");
        pull.unbind(&at).unwrap();
        event(&mut events, "unbound").await;
        assert!(pull.endpoints().is_empty() && pull.unbind(&at).is_err(), "{transport}");
        send(&push, "still here").await;
        assert_eq!(receive(&pull, transport).await, "still here");
        let next = socket(&context, Pull);
        soon(transport, next.bind(&at).unwrap()).await.unwrap();
    }
}

#[tokio::test]
async fn each_of_several_wildcard_binds_is_its_own() {
    for transport in ["tcp://127.0.0.1:*", "ipc://*"] {
        let context = Context::new();
        let pull = socket(&context, Pull);
        let bindings: Vec<_> = (0..8).map(|_| pull.bind(transport).unwrap()).collect();
        let mut endpoints = Vec::new();
        for binding in bindings {
            endpoints.push(soon(transport, binding).await.unwrap());
        }
        let mut events = pull.events();
        let gone = endpoints.pop().unwrap();
        pull.unbind(&gone).unwrap();
        assert_eq!(event(&mut events, "unbound").await.endpoint, Some(gone.to_string()), "{transport}");
        let push = socket(&context, Push);
        for at in &endpoints {
            connect(&push, &pull, at).await;
        }
    }
}

#[tokio::test]
async fn disconnecting_sends_what_is_queued_first() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let (pull, push) = (socket_with(&context, Pull, Options::new().recv_hwm(10)), socket(&context, Push));
        let at = link(transport, &pull, &push).await;
        for number in 0..500 {
            send(&push, &number.to_string()).await;
        }
        push.disconnect(&at).unwrap();
        assert!(push.disconnect(&at).is_err(), "{transport}: once");
        assert_eq!(push.try_send("nobody left".into()).unwrap_err().reason.to_string(), "no peer has room for it now");
        for number in 0..500 {
            assert_eq!(receive(&pull, transport).await, number.to_string());
        }
        eventually(transport, || push.stats().peers.is_empty() && connected(&pull) == 0).await;
        assert_eq!(push.stats().closes.get("closed-here"), Some(&1), "{transport}");
    }
}

#[tokio::test]
async fn disconnecting_from_where_nobody_is_drops_and_counts() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let at = free_endpoint(&context, transport).await;
        let push = socket(&context, Push);
        let connecting = push.connect(&at).unwrap();
        (0..3).for_each(|_| push.try_send("lost".into()).unwrap());
        push.disconnect(&at).unwrap();
        assert!(matches!(soon(transport, connecting).await, Err(ConnectError::Closed)), "{transport}");
        let stats = push.stats();
        assert_eq!((stats.peers.len(), stats.dropped), (0, 3), "{transport}");
        // A pipe left behind would take the next message
        assert!(push.try_send("nobody".into()).is_err(), "{transport}");
    }
}

#[tokio::test]
async fn a_dropped_handle_does_not_cancel() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let (pull, push) = (socket(&context, Pull), socket(&context, Push));
        let at = free_endpoint(&context, transport).await;
        drop(push.connect(&at).unwrap());
        drop(pull.bind(&at).unwrap());
        send(&push, "hello").await;
        assert_eq!(receive(&pull, transport).await, "hello");
    }
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_tried_again() {
    let context = Context::new();
    let push = socket_with(&context, Push, quick());
    let mut events = push.events();
    drop(push.connect("tcp://no-such-host.invalid:5555").unwrap());
    for _ in 0..2 {
        let failed = event(&mut events, "connect-failed").await;
        let EventKind::ConnectFailed { error, retry_in_ms } = failed.kind else { unreachable!() };
        assert!(error.contains("no-such-host.invalid"), "{error}");
        assert!(retry_in_ms.is_some());
    }
}

#[tokio::test]
async fn without_reconnecting_the_first_failure_is_the_outcome() {
    for transport in ["tcp", "ipc"] {
        let context = Context::new();
        let at = free_endpoint(&context, transport).await;
        let push = socket_with(&context, Push, Options::new().reconnect_interval(None));
        let error = soon(transport, push.connect(&at).unwrap()).await.unwrap_err();
        assert!(matches!(error, ConnectError::GaveUp { .. }), "{transport}: {error}");
        eventually(transport, || push.stats().peers.is_empty()).await;
        // And connecting anew is a new try
        let pull = socket(&context, Pull);
        soon(transport, pull.bind(&at).unwrap()).await.unwrap();
        soon(transport, push.connect(&at).unwrap()).await.unwrap();
    }
}

#[tokio::test]
async fn connecting_twice_is_once_or_twice_as_the_type_has_it() {
    let context = Context::new();
    for (server, client, connections) in [(Router, Dealer, 1), (Pull, Push, 2)] {
        let (bound, connecting) = (socket(&context, server), socket(&context, client));
        let at = bind(&bound, "tcp").await;
        for _ in 0..2 {
            soon("connect", connecting.connect(&at).unwrap()).await.unwrap();
        }
        assert_eq!(connected(&connecting), connections, "{client}");
        for _ in 0..connections {
            connecting.disconnect(&at).unwrap();
        }
        assert!(connecting.disconnect(&at).is_err(), "{client}");
        eventually(client, || connecting.stats().peers.is_empty()).await;
    }
}

#[tokio::test]
async fn two_immediate_connects_to_one_endpoint_are_two() {
    let context = Context::new();
    let (pull, push) = (socket(&context, Pull), socket_with(&context, Push, quick().immediate(true)));
    let at = bind(&pull, "tcp").await;
    for _ in 0..2 {
        soon("connect", push.connect(&at).unwrap()).await.unwrap();
    }
    push.disconnect(&at).unwrap();
    eventually("one is left", || connected(&push) == 1).await;
    push.disconnect(&at).unwrap();
    eventually("none is left", || connected(&push) == 0).await;
    // A dialler that nobody could stop would be here again
    assert!(push.close(LONG).await.is_complete());
}

#[tokio::test]
async fn a_router_that_meets_a_name_twice_tries_again() {
    for transport in ["tcp", "ipc"] {
        let context = Context::new();
        let router = socket_with(&context, Router, quick());
        let named = |name: &'static str| socket_with(&context, Dealer, Options::new().routing_id(name.into()));
        let (first, second) = (named("gate"), named("gate"));
        let (one, two) = (bind(&first, transport).await, bind(&second, transport).await);
        soon(transport, router.connect(&one).unwrap()).await.unwrap();
        let mut events = router.events();
        let connecting = router.connect(&two).unwrap();
        for _ in 0..2 {
            let failed = event(&mut events, "handshake-failed").await;
            assert!(
                matches!(failed.kind, EventKind::HandshakeFailed { reason: "duplicate-routing-id", .. }),
                "{failed}"
            );
        }
        router.disconnect(&one).unwrap();
        soon(transport, connecting).await.unwrap();
        send(&router, "gate|hello").await;
        assert_eq!(receive(&second, transport).await, "hello");
    }
}

#[tokio::test]
async fn a_slow_watcher_is_told_what_it_missed() {
    let context = Context::new();
    let mut events = context.events();
    let socket = socket(&context, Rep);
    for number in 0..5000 {
        let at = format!("inproc://busy-{number}").parse().unwrap();
        socket.bind(&at).unwrap().await.unwrap();
        socket.unbind(&at).unwrap();
    }
    let first = soon("an event", events.next()).await.unwrap();
    assert!(matches!(first.kind, EventKind::Missed { count: 1.. }), "{first}");
}

#[tokio::test]
async fn waits_grow_while_nobody_answers() {
    let context = Context::new();
    let at = free_endpoint(&context, "tcp").await;
    let options = Options::new()
        .reconnect_interval(Some(Duration::from_millis(2)))
        .reconnect_interval_max(Duration::from_millis(16));
    let push = socket_with(&context, Push, options);
    let mut events = push.events();
    drop(push.connect(&at).unwrap());
    for due in [2, 4, 8, 16, 16] {
        let failed = event(&mut events, "connect-failed").await;
        let EventKind::ConnectFailed { retry_in_ms: Some(ms), .. } = failed.kind else { panic!("{failed}") };
        assert!((due / 2..=due).contains(&ms), "{ms} where {due} was due");
    }
}

/// So that a second try comes soon
fn quick() -> Options {
    Options::new().reconnect_interval(Some(Duration::from_millis(10)))
}
