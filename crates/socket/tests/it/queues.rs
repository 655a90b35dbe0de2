//! High-water marks, overflow policies, back-pressure, and the depth of queues.

use tidings_socket::SocketType::{Dealer, Pair, Pub, Pull, Push, Router, Sub};
use tidings_socket::{Bytes, Context, EventKind, Message, Options, Overflow, SendFailure, Socket};

use crate::support::*;

#[tokio::test]
async fn over_inproc_both_marks_add_up() {
    for (sends, receives) in [(Push, Pull), (Dealer, Dealer), (Pair, Pair)] {
        for (send_hwm, recv_hwm) in [(1, 1), (2, 3), (3, 2), (10, 1), (1, 10), (1000, 1000)] {
            let label = format!("{sends}: {send_hwm} and {recv_hwm}");
            let context = Context::new();
            let receiver = socket_with(&context, receives, Options::new().recv_hwm(recv_hwm));
            let sender = socket_with(&context, sends, Options::new().send_hwm(send_hwm));
            link("inproc", &receiver, &sender).await;
            let all = (send_hwm + recv_hwm) as usize;
            assert_eq!(fill(&sender), all, "{label}");
            let expected: Vec<String> = (0..all).map(|number| number.to_string()).collect();
            assert_eq!(receive_many(&receiver, all, &label).await, expected, "{label}");
            assert_eq!(fill(&sender), all, "{label}: and again, when all was received");
        }
    }
}

#[tokio::test]
async fn a_mark_of_zero_is_no_limit() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let unlimited = Options::new().send_hwm(0).recv_hwm(0);
        let (pull, push) = (socket_with(&context, Pull, unlimited.clone()), socket_with(&context, Push, unlimited));
        link(transport, &pull, &push).await;
        for number in 0..20_000 {
            push.try_send(number.to_string().into()).unwrap();
        }
        for number in 0..20_000 {
            assert_eq!(receive(&pull, transport).await, number.to_string());
        }
    }
}

#[tokio::test]
async fn a_sender_goes_on_when_half_has_drained() {
    let context = Context::new();
    let pull = socket_with(&context, Pull, Options::new().recv_hwm(10));
    let push = socket_with(&context, Push, Options::new().send_hwm(10));
    link("inproc", &pull, &push).await;
    assert_eq!(fill(&push), 20);
    // The inbox drains to half of its mark, then takes in five; the outbox is at half of its own then
    for received in 1..=5 {
        assert!(push.try_send("early".into()).is_err(), "after {received}");
        pull.try_recv().unwrap();
    }
    push.try_send("now".into()).unwrap();
}

/// For those who send to many without waiting for one of them
#[tokio::test]
async fn a_socket_tells_when_it_is_worth_trying_again() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let dealer = socket_with(&context, Dealer, Options::new().recv_hwm(10));
        let options = Options::new().send_hwm(10).router_mandatory(true).send_buffer(4096);
        let router = socket_with(&context, Router, options);
        link(transport, &router, &dealer).await;
        send(&dealer, "hello").await;
        let hello = soon(transport, router.recv()).await.unwrap();
        let to = |body: Vec<u8>| Message::multipart([Bytes::copy_from_slice(hello.first()), body.into()]);
        for _ in 0..20 {
            let writable = loop {
                let writable = router.writable();
                match router.try_send(to(vec![b'x'; 10_000])) {
                    Ok(()) => {}
                    Err(full) => {
                        assert_eq!(full.reason, SendFailure::WouldBlock, "{transport}");
                        break writable;
                    }
                }
            };
            let reading = async {
                loop {
                    dealer.recv().await.unwrap();
                }
            };
            let room = async {
                tokio::select! {
                    () = writable => {}
                    () = reading => {}
                }
            };
            soon(transport, room).await;
        }
    }
}

#[tokio::test]
async fn a_peer_that_does_not_read_makes_the_sender_wait() {
    for transport in ["tcp", "ipc"] {
        for (sends, receives) in [(Push, Pull), (Dealer, Dealer), (Pair, Pair)] {
            let label = format!("{sends} over {transport}");
            let context = Context::new();
            let small = Options::new().send_hwm(10).recv_hwm(10).send_buffer(8192).recv_buffer(8192);
            let (receiver, sender) =
                (socket_with(&context, receives, small.clone()), socket_with(&context, sends, small));
            link(transport, &receiver, &sender).await;

            let body = |number: usize| Message::from(format!("{number:05}{}", "x".repeat(10_000)));
            let mut sent = 0;
            while let Ok(Ok(())) = tokio::time::timeout(STUCK, sender.send(body(sent))).await {
                sent += 1;
                assert!(sent < 1000, "{label}: nothing holds the sender up");
            }
            let queued = sender.stats().peers[0].queued_out;
            assert!((6..=10).contains(&queued), "{label}: {queued} wait, more than half of the mark");
            assert!(receiver.stats().peers[0].queued_in <= 10, "{label}");

            // When the reader goes on, everything comes, in order
            let last = tokio::spawn({
                let (sender, message) = (sender.clone(), body(sent));
                async move { sender.send(message).await }
            });
            for number in 0..=sent {
                assert_eq!(receive(&receiver, &label).await[..5], format!("{number:05}"), "{label}");
            }
            soon(&label, last).await.unwrap().unwrap();
        }
    }
}

#[tokio::test]
async fn marks_in_octets_hold_too() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let at = free_endpoint(&context, transport).await;
        let push = socket_with(&context, Push, Options::new().send_hwm_octets(1000));
        drop(push.connect(&at).unwrap());
        push.try_send(vec![0; 5000].into()).expect("one message is always let in");
        assert!(push.try_send("x".into()).is_err(), "{transport}");

        let at = free_endpoint(&context, transport).await;
        let push = socket_with(&context, Push, Options::new().send_hwm_octets(1000));
        drop(push.connect(&at).unwrap());
        assert_eq!(std::iter::repeat_with(|| push.try_send(vec![0; 300].into())).take_while(Result::is_ok).count(), 4);
    }
}

#[tokio::test]
async fn a_reader_with_a_mark_in_octets_holds_the_sender_up() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let pull = socket_with(&context, Pull, Options::new().recv_hwm(0).recv_hwm_octets(50_000).recv_buffer(8192));
        let push = socket_with(&context, Push, Options::new().send_hwm(4).send_buffer(8192));
        link(transport, &pull, &push).await;
        let mut sent = 0;
        while let Ok(Ok(())) = tokio::time::timeout(STUCK, push.send(vec![0; 10_000].into())).await {
            sent += 1;
            assert!(sent < 1000, "{transport}: nothing holds the sender up");
        }
        let held = pull.stats().peers[0].queued_in_octets;
        // What one read brought in may stand above the mark
        assert!((50_000..400_000).contains(&held), "{transport}: {held}");
        receive_many(&pull, sent, transport).await;
    }
}

/// What each policy keeps of 25 messages in a queue of 10, and how many it drops
#[tokio::test]
async fn policies_keep_and_drop_what_they_say() {
    for transport in TRANSPORTS {
        for socket_type in [Push, Dealer, Pair, Router] {
            for policy in [Overflow::Block, Overflow::DropNew, Overflow::DropOld, Overflow::Latest] {
                let label = format!("{socket_type}, {policy} over {transport}");
                let context = Context::new();
                let at = free_endpoint(&context, transport).await;
                let options = Options::new().send_hwm(10).overflow(Some(policy));
                let sender = socket_with(&context, socket_type, options);
                let mut events = sender.events();
                let (connecting, prefix) = match socket_type {
                    Router => (sender.connect_as(&at, "peer").unwrap(), "peer|"),
                    _ => (sender.connect(&at).unwrap(), ""),
                };
                let mut refused = 0;
                for number in 0..25 {
                    match sender.try_send(message(&format!("{prefix}{number}"))) {
                        Ok(()) => {}
                        Err(error) => {
                            assert_eq!(error.reason, SendFailure::WouldBlock, "{label}");
                            assert_eq!(text(&error.message), format!("{prefix}{number}"), "{label}");
                            refused += 1;
                        }
                    }
                }
                let (kept, dropped) = match policy {
                    Overflow::Block | Overflow::DropNew => (0..10, 15),
                    Overflow::DropOld => (15..25, 15),
                    _ => (24..25, 24),
                };
                let stats = sender.stats();
                let blocks = policy == Overflow::Block;
                assert_eq!(refused, if blocks { 15 } else { 0 }, "{label}");
                assert_eq!(stats.dropped, if blocks { 0 } else { dropped }, "{label}");
                assert_eq!(stats.peers[0].dropped, stats.dropped, "{label}");
                assert_eq!(stats.peers[0].queued_out, kept.len() as u64, "{label}");
                if matches!(policy, Overflow::DropNew | Overflow::DropOld) {
                    let told = event(&mut events, "dropped").await;
                    assert_eq!(
                        told.kind,
                        EventKind::Dropped { count: 1, total: 1 },
                        "{label}: the first is told at once"
                    );
                }

                let receiver = socket(&context, if socket_type == Push { Pull } else { socket_type });
                let receiver = if socket_type == Router { socket(&context, Dealer) } else { receiver };
                soon(&label, receiver.bind(&at).unwrap()).await.unwrap();
                soon(&label, connecting).await.unwrap();
                let expected: Vec<String> = kept.map(|number| number.to_string()).collect();
                assert_eq!(receive_many(&receiver, expected.len(), &label).await, expected, "{label}");
                assert!(receiver.try_recv().is_err(), "{label}: nothing else comes");
            }
        }
    }
}

#[tokio::test]
async fn a_publisher_drops_for_the_slow_subscriber_alone() {
    for policy in [Overflow::DropNew, Overflow::DropOld] {
        let context = Context::new();
        let publisher = socket_with(&context, Pub, Options::new().send_hwm(5).overflow(Some(policy)));
        let at = bind(&publisher, "inproc").await;
        let mut events = publisher.events();
        let subscribers: Vec<Socket> = (0..2).map(|_| socket_with(&context, Sub, Options::new().recv_hwm(5))).collect();
        for subscriber in &subscribers {
            subscriber.subscribe("").unwrap();
            connect(subscriber, &publisher, &at).await;
        }
        publisher.ready(2, LONG).await.unwrap();
        let [slow, quick] = &subscribers[..] else { unreachable!("there are two") };
        let mut heard = Vec::new();
        for number in 0..25 {
            publisher.try_send(number.to_string().into()).unwrap();
            heard.extend(receive_all(quick));
        }
        assert_eq!(heard, (0..25).map(|number| number.to_string()).collect::<Vec<_>>(), "{policy}");
        let stats = publisher.stats();
        assert_eq!(stats.dropped, 15, "{policy}");
        let mut per_peer: Vec<u64> = stats.peers.iter().map(|peer| peer.dropped).collect();
        per_peer.sort_unstable();
        assert_eq!(per_peer, [0, 15], "{policy}");
        assert_eq!(event(&mut events, "dropped").await.kind, EventKind::Dropped { count: 1, total: 1 });
        assert!(matches!(event(&mut events, "slow").await.kind, EventKind::Slow { queued: 5 }));

        let late = if policy == Overflow::DropNew { 5..10 } else { 20..25 };
        let expected: Vec<String> = (0..5).chain(late).map(|number| number.to_string()).collect();
        assert_eq!(receive_many(slow, 10, policy).await, expected, "{policy}");
    }
}

#[tokio::test]
async fn who_is_too_slow_can_be_disconnected() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let options = Options::new().send_hwm(5).send_buffer(8192).overflow(Some(Overflow::Disconnect));
        let publisher = socket_with(&context, Pub, options);
        let at = bind(&publisher, transport).await;
        let options = Options::new().recv_hwm(5).recv_buffer(8192).reconnect_interval(None);
        let slow = socket_with(&context, Sub, options);
        slow.subscribe("").unwrap();
        connect(&slow, &publisher, &at).await;
        publisher.ready(1, LONG).await.unwrap();
        let mut events = publisher.events();
        let publishing = async {
            while !publisher.stats().closes.contains_key("too-slow") {
                publisher.send(vec![0; 10_000].into()).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        soon(transport, publishing).await;
        let ended = event(&mut events, "disconnected").await;
        assert!(matches!(ended.kind, EventKind::Disconnected { reason: "too-slow", .. }), "{transport}: {ended}");
        assert!(publisher.stats().dropped > 0, "{transport}");
    }
}

#[tokio::test]
async fn a_conflating_reader_keeps_the_newest() {
    for transport in TRANSPORTS {
        let context = Context::new();
        // However small its mark is
        let pull = socket_with(&context, Pull, Options::new().conflate(true).recv_hwm(1));
        let push = socket(&context, Push);
        link(transport, &pull, &push).await;
        for number in 0..100 {
            send(&push, &number.to_string()).await;
        }
        eventually(transport, || pull.stats().received == 100).await;
        assert_eq!(receive(&pull, transport).await, "99", "{transport}");
        assert!(pull.try_recv().is_err(), "{transport}");
        assert_eq!(pull.stats().dropped, 99, "{transport}");
        send(&push, "more").await;
        assert_eq!(receive(&pull, transport).await, "more", "{transport}");
    }
}

#[tokio::test]
async fn depth_can_be_read_at_any_time() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let at = free_endpoint(&context, transport).await;
        let (push, pull) = (socket(&context, Push), socket(&context, Pull));
        let connecting = push.connect(&at).unwrap();
        for _ in 0..7 {
            push.try_send("12345678".into()).unwrap();
        }
        let peer = &push.stats().peers[0];
        assert!(!peer.connected && peer.connection.is_none(), "{transport}");
        let octets = if transport == "inproc" { 7 * 8 } else { 7 * 10 };
        assert_eq!((peer.queued_out, peer.queued_out_octets, peer.sent), (7, octets, 7), "{transport}");

        soon(transport, pull.bind(&at).unwrap()).await.unwrap();
        soon(transport, connecting).await.unwrap();
        eventually(transport, || pull.stats().received == 7).await;
        let peer = &pull.stats().peers[0];
        assert_eq!((peer.queued_in, peer.queued_in_octets, peer.received), (7, 56, 7), "{transport}");
        eventually(transport, || push.stats().peers[0].queued_out == 0).await;
        receive_many(&pull, 7, transport).await;
        let peer = &pull.stats().peers[0];
        assert_eq!((peer.queued_in, peer.queued_in_octets), (0, 0), "{transport}");

        // Figures outlive the peer
        push.close(LONG).await;
        eventually(transport, || connected(&pull) == 0).await;
        let stats = pull.stats();
        assert_eq!((stats.received, stats.received_octets, stats.peers.len()), (7, 56, 0), "{transport}");
    }
}

#[tokio::test]
async fn messages_of_a_peer_that_is_gone_can_still_be_received() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let (pull, push) = (socket(&context, Pull), socket(&context, Push));
        link(transport, &pull, &push).await;
        for number in 0..5 {
            send(&push, &number.to_string()).await;
        }
        let report = push.close(LONG).await;
        assert!(report.is_complete() && report.flushed == 5, "{transport}: {report:?}");
        eventually(transport, || connected(&pull) == 0).await;
        assert_eq!(receive_many(&pull, 5, transport).await, ["0", "1", "2", "3", "4"]);
    }
}

#[tokio::test]
async fn bounds_can_be_moved_while_messages_wait() {
    let context = Context::new();
    for transport in TRANSPORTS {
        let at = free_endpoint(&context, transport).await;
        let push = socket_with(&context, Push, Options::new().send_hwm(2));
        drop(push.connect(&at).unwrap());
        assert_eq!(fill(&push), 2, "{transport}");
        push.set_options(|options| options.send_hwm(5));
        assert_eq!(fill(&push), 3, "{transport}");
        push.set_options(|options| options.send_hwm(1).overflow(Some(Overflow::DropNew)));
        push.try_send("dropped".into()).unwrap();
        assert_eq!(push.stats().dropped, 1, "{transport}");
    }
}

/// Sends numbers until there is no room; how many went in
fn fill(socket: &Socket) -> usize {
    (0..100_000).take_while(|number: &usize| socket.try_send(number.to_string().into()).is_ok()).count()
}

/// So long nothing moves: the sender waits. No test needs it to be long enough, only the loops to end.
const STUCK: std::time::Duration = std::time::Duration::from_millis(300);

/// A send that was awaited to its end does not send again, however it is polled
#[tokio::test]
async fn a_send_that_is_done_sends_nothing_more() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let (pull, push) = (socket(&context, Pull), socket(&context, Push));
        link(transport, &pull, &push).await;
        let mut sending = push.send("once".into());
        (&mut sending).await.unwrap();
        let mut again = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(std::pin::Pin::new(&mut sending).poll(&mut again).is_pending(), "{transport}");
        drop(sending);
        send(&push, "twice").await;
        assert_eq!(receive(&pull, transport).await, "once");
        assert_eq!(receive(&pull, transport).await, "twice", "{transport}");
    }
}
