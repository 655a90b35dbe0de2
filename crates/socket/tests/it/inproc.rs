//! What only sockets of one context can do to each other.

use tidings_socket::SocketType::{Dealer, Pair, Pull, Push, Rep, Req, Router};
use tidings_socket::{Bytes, Context, Options};

use crate::support::*;

#[tokio::test]
async fn payloads_are_handed_over_not_copied() {
    let context = Context::new();
    let (pull, push) = (socket(&context, Pull), socket(&context, Push));
    link("inproc", &pull, &push).await;
    let payload = Bytes::from(vec![7; 100]);
    push.try_send(payload.clone().into()).unwrap();
    let received = soon("the payload", pull.recv()).await.unwrap();
    assert_eq!(received.first().as_ptr(), payload.as_ptr());
}

/// Messages gather with their sender while a receiver is busy; who waits meanwhile must be brought them
#[tokio::test]
async fn a_receiver_that_leaves_does_not_strand_another_that_waits() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let (pull, push) = (socket(&context, Pull), socket(&context, Push));
        link(transport, &pull, &push).await;
        let mut waiting: Vec<_> = (0..3)
            .map(|_| {
                let pull = pull.clone();
                tokio::spawn(async move { pull.recv().await.unwrap() })
            })
            .collect();
        // They share this thread, so each of them now sleeps in its receive
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        for number in ["one", "two", "three"] {
            push.try_send(number.into()).unwrap();
            let ended = || waiting.iter().position(tokio::task::JoinHandle::is_finished);
            eventually(transport, || ended().is_some()).await;
            let receiver = waiting.swap_remove(ended().unwrap());
            assert_eq!(receiver.await.unwrap().first(), number.as_bytes(), "{transport}");
        }
    }
}

#[tokio::test]
async fn a_huge_queue_takes_messages() {
    let context = Context::new();
    let (pull, push) = (socket_with(&context, Pull, Options::new().recv_hwm(100_000)), socket(&context, Push));
    link("inproc", &pull, &push).await;
    for number in 0..5000 {
        soon("room", push.send(format!("{number}").into())).await.unwrap();
        assert_eq!(receive(&pull, "huge").await, format!("{number}"));
    }
}

/// Fair queueing holds for a peer that was silent while others were not
#[tokio::test]
async fn a_peer_that_floods_does_not_starve_another() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let (pull, quiet, loud) = (socket(&context, Pull), socket(&context, Push), socket(&context, Push));
        link("inproc", &pull, &quiet).await;
        send(&quiet, "first").await;
        // Taken while it is the only peer, so that nothing else is there
        assert_eq!(receive(&pull, transport).await, "first");
        let endpoint = pull.bind(if transport == "inproc" { "inproc://loud" } else { "tcp://127.0.0.1:*" }).unwrap();
        let endpoint = soon("bind", endpoint.into_future()).await.unwrap();
        soon("connect", loud.connect(&endpoint).unwrap().into_future()).await.unwrap();
        let flood = tokio::spawn(async move { while loud.send("more".into()).await.is_ok() {} });
        assert_eq!(receive(&pull, transport).await, "more");
        send(&quiet, "second").await;
        let mut before = 0;
        while receive(&pull, transport).await != "second" {
            before += 1;
            assert!(before < 10_000, "{transport}: it is passed over");
        }
        flood.abort();
    }
}

/// They are for threads without a runtime, but must not hang on one that has it
#[tokio::test]
async fn a_blocking_receive_on_a_runtime_ends() {
    let context = Context::new();
    let (pull, push) = (socket(&context, Pull), socket(&context, Push));
    link("inproc", &pull, &push).await;
    let sending = std::thread::spawn(move || {
        for number in 0..1000 {
            push.send_blocking(format!("{number}").into()).unwrap();
            std::thread::yield_now();
        }
        push
    });
    for number in 0..1000 {
        assert_eq!(pull.recv_blocking().unwrap().first(), format!("{number}").as_bytes());
    }
    sending.join().unwrap();
}

#[tokio::test]
async fn names_belong_to_a_context() {
    let (here, there) = (Context::new(), Context::new());
    let (pull, push) = (socket(&here, Pull), socket(&there, Push));
    soon("bind", pull.bind("inproc://name").unwrap()).await.unwrap();
    let mut connecting = push.connect("inproc://name").unwrap().into_future();
    tokio::select! {
        biased;
        outcome = &mut connecting => panic!("connected across contexts: {outcome:?}"),
        () = std::future::ready(()) => {}
    }
    let same = socket(&there, Pull);
    soon("bind", same.bind("inproc://name").unwrap()).await.unwrap();
    soon("connect", connecting).await.unwrap();
}

#[tokio::test]
async fn a_name_can_be_bound_again_and_who_waited_is_joined() {
    let context = Context::new();
    let push = socket(&context, Push);
    drop(push.connect("inproc://again").unwrap());
    for round in 0..5 {
        let pull = socket(&context, Pull);
        soon("bind", pull.bind("inproc://again").unwrap()).await.unwrap();
        send(&push, &round.to_string()).await;
        assert_eq!(receive(&pull, "again").await, round.to_string());
        pull.close(LONG).await;
        eventually("parted", || connected(&push) == 0).await;
    }
}

#[tokio::test]
async fn a_pair_may_wait_for_a_name_and_give_it_up() {
    let context = Context::new();
    let pair = socket(&context, Pair);
    for name in ["one", "two", "three"] {
        let at = format!("inproc://{name}").parse().unwrap();
        drop(pair.connect(&at).unwrap());
        pair.disconnect(&at).unwrap();
    }
    assert!(pair.stats().peers.is_empty());
    let other = socket(&context, Pair);
    link("inproc", &other, &pair).await;
    send(&pair, "hello").await;
    assert_eq!(receive(&other, "pair").await, "hello");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn names_come_and_go_under_load() {
    let context = Context::new();
    let push = socket_with(&context, Push, Options::new().send_hwm(10));
    drop(push.connect("inproc://load").unwrap());
    let sending = tokio::spawn(async move {
        let mut sent = 0u64;
        while push.send(sent.to_string().into()).await.is_ok() {
            sent += 1;
        }
    });
    for round in 0..200 {
        let pull = socket_with(&context, Pull, Options::new().recv_hwm(3));
        soon("bind", pull.bind("inproc://load").unwrap()).await.unwrap();
        for _ in 0..20 {
            receive(&pull, format!("round {round}")).await;
        }
        pull.close(LONG).await;
    }
    sending.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_threads_that_talk_both_ways_do_not_lock_each_other_out() {
    let context = Context::new();
    let small = Options::new().send_hwm(2).recv_hwm(2);
    let (one, two) = (socket_with(&context, Dealer, small.clone()), socket_with(&context, Dealer, small));
    link("inproc", &one, &two).await;
    let mut tasks = Vec::new();
    for socket in [&one, &two] {
        let (sends, receives) = (socket.clone(), socket.clone());
        tasks.push(tokio::spawn(async move {
            for number in 0..50_000u32 {
                sends.send(number.to_string().into()).await.unwrap();
            }
        }));
        tasks.push(tokio::spawn(async move {
            for number in 0..50_000u32 {
                assert_eq!(text(&receives.recv().await.unwrap()), number.to_string());
            }
        }));
    }
    for task in tasks {
        soon("both ways", task).await.unwrap();
    }
}

#[tokio::test]
async fn request_and_reply_across_a_chain() {
    let context = Context::new();
    let (router, dealer) = (socket(&context, Router), socket(&context, Dealer));
    let (req, rep) = (socket(&context, Req), socket(&context, Rep));
    link("inproc", &router, &req).await;
    link("inproc", &dealer, &rep).await;
    for round in 0..100 {
        send(&req, &round.to_string()).await;
        let request = soon("router", router.recv()).await.unwrap();
        dealer.try_send(request).unwrap();
        assert_eq!(receive(&rep, "rep").await, round.to_string());
        send(&rep, "reply").await;
        let reply = soon("dealer", dealer.recv()).await.unwrap();
        router.try_send(reply).unwrap();
        assert_eq!(receive(&req, "req").await, "reply");
    }
}
