//! Pass, capture, pause, count, end.

use std::time::Duration;

use tidings_socket::SocketType::{Dealer, Pair, Pub, Pull, Push, Rep, Req, Router, Sub, Xpub, Xsub};
use tidings_socket::{Bytes, Context, Options, Proxy, ProxyError, ProxyState};

use crate::support::*;

#[tokio::test]
async fn subscriptions_go_one_way_and_events_the_other() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let (xsub, xpub) = (socket(&context, Xsub), socket(&context, Xpub));
        let (publisher, subscriber) = (socket(&context, Pub), socket(&context, Sub));
        link(transport, &xsub, &publisher).await;
        let proxy = Proxy::new(xsub, xpub.clone()).spawn().unwrap();
        subscriber.subscribe("news").unwrap();
        let at = link(transport, &xpub, &subscriber).await;
        publisher.ready(1, LONG).await.unwrap();
        for frames in ["sports|no", "news|yes"] {
            send(&publisher, frames).await;
        }
        assert_eq!(receive(&subscriber, transport).await, "news|yes");

        // A second one of the same topic, and then both leave: the publisher hears of the last only
        let second = socket(&context, Sub);
        second.subscribe("news").unwrap();
        connect(&second, &xpub, &at).await;
        eventually(transport, || xpub.stats().peers.iter().all(|peer| peer.subscriptions == 1)).await;
        subscriber.close(LONG).await;
        send(&publisher, "news|still").await;
        assert_eq!(receive(&second, transport).await, "news|still");
        second.close(LONG).await;
        eventually(transport, || publisher.stats().peers[0].subscriptions == 0).await;
        proxy.terminate();
        soon(transport, proxy.join()).await;
    }
}

#[tokio::test]
async fn requests_pass_and_replies_find_back() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let (router, dealer) = (socket(&context, Router), socket(&context, Dealer));
        let clients: Vec<_> = (0..3).map(|_| socket(&context, Req)).collect();
        let at = bind(&router, transport).await;
        for client in &clients {
            connect(client, &router, &at).await;
        }
        let rep = socket(&context, Rep);
        link(transport, &dealer, &rep).await;
        let proxy = Proxy::new(router, dealer).spawn().unwrap();
        for (number, client) in clients.iter().enumerate() {
            send(client, &number.to_string()).await;
        }
        for _ in 0..3 {
            let question = receive(&rep, transport).await;
            send(&rep, &format!("re {question}")).await;
        }
        for (number, client) in clients.iter().enumerate() {
            assert_eq!(receive(client, transport).await, format!("re {number}"));
        }
        proxy.terminate();
        let figures = soon(transport, proxy.join()).await;
        assert_eq!((figures.forward.messages, figures.back.messages), (3, 3), "{transport}");
        assert_eq!((figures.forward.refused, figures.state), (0, ProxyState::Terminated), "{transport}");
    }
}

#[tokio::test]
async fn it_pauses_resumes_counts_and_captures() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let (front, back, tap) = (socket(&context, Pull), socket(&context, Push), socket(&context, Pair));
        let (source, sink, listener) = (socket(&context, Push), socket(&context, Pull), socket(&context, Pair));
        link(transport, &front, &source).await;
        link(transport, &back, &sink).await;
        link("inproc", &tap, &listener).await;
        let proxy = Proxy::new(front.clone(), back).capture(tap).spawn().unwrap();
        send(&source, "1234").await;
        assert_eq!(receive(&sink, transport).await, "1234");
        assert_eq!(receive(&listener, transport).await, "1234");

        proxy.pause();
        assert_eq!(proxy.statistics().state, ProxyState::Paused);
        // The direction that runs notices at its next turn
        tokio::task::yield_now().await;
        let before = front.stats().received;
        send(&source, "waits").await;
        // An inproc peer keeps it until it is asked for
        let is_kept = || source.stats().peers.iter().any(|peer| peer.queued_out > 0);
        eventually(transport, || front.stats().received > before || is_kept()).await;
        assert!(sink.try_recv().is_err(), "{transport}");
        proxy.resume();
        assert_eq!(receive(&sink, transport).await, "waits");
        eventually(transport, || proxy.statistics().forward.messages == 2).await;
        let figures = proxy.statistics();
        assert_eq!((figures.forward.octets, figures.uncaptured), (9, 0), "{transport}");

        // Closing either side ends it
        front.close(LONG).await;
        assert_eq!(soon(transport, proxy.join()).await.state, ProxyState::Terminated, "{transport}");
        proxy.resume();
        assert_eq!(proxy.statistics().state, ProxyState::Terminated, "{transport}: for good");
    }
}

#[tokio::test]
async fn it_can_be_ended_although_a_side_is_full() {
    let context = Context::new();
    let (front, back) = (socket(&context, Pull), socket(&context, Push));
    let source = socket(&context, Push);
    link("inproc", &front, &source).await;
    let proxy = Proxy::new(front.clone(), back.clone()).spawn().unwrap();
    send(&source, "to nobody").await;
    eventually("the proxy holds it", || front.stats().received == 1 && front.stats().peers[0].queued_in == 0).await;
    tokio::task::yield_now().await;
    proxy.terminate();
    let figures = soon("the end", proxy.join()).await;
    assert_eq!((figures.forward.messages, figures.forward.refused), (0, 1));
}

#[tokio::test]
async fn timeouts_of_its_sockets_do_not_concern_it() {
    let context = Context::new();
    let at_once = || Options::new().send_timeout(Some(Duration::ZERO)).recv_timeout(Some(Duration::ZERO));
    let (front, back) = (socket_with(&context, Pull, at_once()), socket_with(&context, Push, at_once()));
    let (source, sink) = (socket(&context, Push), socket(&context, Pull));
    link("inproc", &front, &source).await;
    let proxy = Proxy::new(front, back.clone()).spawn().unwrap();
    send(&source, "patience").await;
    link("inproc", &back, &sink).await;
    assert_eq!(receive(&sink, "later").await, "patience");
    proxy.terminate();
    assert_eq!(soon("the end", proxy.join()).await.forward.refused, 0);
}

#[tokio::test]
async fn payloads_pass_without_a_copy() {
    let context = Context::new();
    let (front, back) = (socket(&context, Pull), socket(&context, Push));
    let (source, sink) = (socket(&context, Push), socket(&context, Pull));
    link("inproc", &front, &source).await;
    link("inproc", &back, &sink).await;
    let proxy = Proxy::new(front, back).spawn().unwrap();
    let payload = Bytes::from(vec![7; 64]);
    source.try_send(payload.clone().into()).unwrap();
    assert_eq!(soon("the payload", sink.recv()).await.unwrap().first().as_ptr(), payload.as_ptr());
    proxy.terminate();
}

#[tokio::test]
async fn sockets_that_do_not_fit_are_refused() {
    let context = Context::new();
    let error = Proxy::new(socket(&context, Push), socket(&context, Push)).spawn().unwrap_err();
    assert!(matches!(error, ProxyError::NothingToPass { .. }), "{error}");
    let proxy = Proxy::new(socket(&context, Pull), socket(&context, Push)).capture(socket(&context, Sub));
    assert!(matches!(proxy.spawn(), Err(ProxyError::Capture(Sub))));
}
