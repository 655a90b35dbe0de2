//! One socket in many tasks, and futures dropped half-way.

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use testkit::Random;
use tidings_socket::SocketType::{Dealer, Pair, Pull, Push, Router};
use tidings_socket::{Context, Message, Options, Socket};
use tokio::sync::mpsc;

use crate::support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn eight_send_and_eight_receive_and_nothing_is_lost_or_doubled() {
    const EACH: u64 = 5_000;
    for transport in TRANSPORTS {
        for (sends, receives) in [(Push, Pull), (Dealer, Dealer), (Pair, Pair), (Dealer, Router)] {
            let label = format!("{sends}/{receives} over {transport}");
            let context = Context::new();
            // Small queues, so that both sides wait a lot
            let small = Options::new().send_hwm(50).recv_hwm(50);
            let (receiver, sender) =
                (socket_with(&context, receives, small.clone()), socket_with(&context, sends, small));
            link(transport, &receiver, &sender).await;
            for task in 0..8 {
                let sender = sender.clone();
                tokio::spawn(async move {
                    for number in 0..EACH {
                        sender.send((task * EACH + number).to_string().into()).await.unwrap();
                    }
                });
            }
            let (found, mut all) = mpsc::unbounded_channel();
            for task in 0..8 {
                let (receiver, found) = (receiver.clone(), found.clone());
                tokio::spawn(async move {
                    let mut batch = Vec::new();
                    loop {
                        // Half of them take many at once
                        let received = match task % 2 {
                            0 => receiver.recv().await.map(|message| batch.push(message)),
                            _ => receiver.recv_many(&mut batch, 7).await.map(drop),
                        };
                        for message in batch.drain(..) {
                            // An error says that all were found
                            found.send(number(&message)).ok();
                        }
                        if received.is_err() {
                            break;
                        }
                    }
                });
            }
            let mut seen = vec![0u8; 8 * EACH as usize];
            for count in 0..seen.len() {
                let number = soon(format!("{label}, after {count}"), all.recv()).await.unwrap();
                seen[number] += 1;
            }
            assert!(seen.iter().all(|times| *times == 1), "{label}");
            receiver.close(LONG).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn dropped_receives_lose_nothing() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let (pull, push) = (socket(&context, Pull), socket(&context, Push));
        link(transport, &pull, &push).await;
        const ALL: usize = 100_000;
        tokio::spawn(async move {
            for number in 0..ALL {
                push.send(number.to_string().into()).await.unwrap();
            }
            // Held until all has been sent
            push.close(LONG).await;
        });
        let mut random = Random::seeded(7);
        let mut batch = Vec::new();
        let mut next = 0;
        let mut dropped = 0;
        while next < ALL {
            let patience = random.within(0..=3);
            let one_by_one = random.within(0..=1) == 0;
            tokio::select! {
                biased;
                () = give_up_after(patience) => dropped += 1,
                received = pull.recv(), if one_by_one => batch.push(received.unwrap()),
                received = pull.recv_many(&mut batch, 100), if !one_by_one => drop(received.unwrap()),
            }
            for message in batch.drain(..) {
                assert_eq!(number(&message), next, "{transport}, after {dropped} dropped");
                next += 1;
            }
        }
        assert!(dropped > 0, "{transport}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn dropped_sends_queue_nothing() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let small = Options::new().send_hwm(10).recv_hwm(10);
        let (pull, push) = (socket_with(&context, Pull, small.clone()), socket_with(&context, Push, small));
        link(transport, &pull, &push).await;
        const ALL: usize = 100_000;
        let sending = tokio::spawn(async move {
            let mut random = Random::seeded(11);
            let (mut next, mut dropped) = (0, 0);
            while next < ALL {
                let patience = random.within(0..=2);
                // Whoever does not see it complete may send it again: nothing was queued
                tokio::select! {
                    biased;
                    sent = push.send(next.to_string().into()) => {
                        sent.unwrap();
                        next += 1;
                    }
                    () = give_up_after(patience) => dropped += 1,
                }
            }
            (push, dropped)
        });
        for expected in 0..ALL {
            let message = soon(transport, pull.recv()).await.unwrap();
            assert_eq!(number(&message), expected, "{transport}");
        }
        let (_push, dropped) = soon(transport, sending).await.unwrap();
        assert!(dropped > 0, "{transport}");
        assert!(pull.try_recv().is_err(), "{transport}");
    }
}

/// A send that lets others run does so before it queues
#[tokio::test]
async fn a_send_that_gave_way_and_was_dropped_queued_nothing() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let push = socket_with(&context, Push, Options::new().send_hwm(0));
        let at = free_endpoint(&context, transport).await;
        drop(push.connect(&at).unwrap());
        let (mut sent, mut dropped) = (0, 0);
        // In one turn of this task, so that its budget runs out
        while dropped < 3 {
            let mut sending = pin!(push.send("x".into()));
            match std::future::poll_fn(|cx| Poll::Ready(sending.as_mut().poll(cx))).await {
                Poll::Ready(done) => {
                    done.unwrap();
                    sent += 1;
                }
                Poll::Pending => dropped += 1,
            }
            assert!(sent < 1_000_000, "{transport}: it never gives way");
        }
        assert_eq!(push.stats().sent, sent, "{transport}");
        push.close(Duration::ZERO).await;
    }
}

/// Waiters that leave take no wake-up along
#[tokio::test]
async fn a_receiver_that_leaves_passes_its_turn_on() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let (pull, push) = (socket(&context, Pull), socket(&context, Push));
        link(transport, &pull, &push).await;
        for round in 0..100 {
            let leaves = {
                let pull = pull.clone();
                tokio::spawn(async move { pull.recv().await })
            };
            let stays = {
                let pull = pull.clone();
                tokio::spawn(async move { pull.recv().await })
            };
            tokio::task::yield_now().await;
            send(&push, "one").await;
            leaves.abort();
            if let Ok(received) = leaves.await {
                received.unwrap();
                send(&push, "another").await;
            }
            soon(format!("{transport}, round {round}"), stays).await.unwrap().unwrap();
        }
    }
}

#[tokio::test]
async fn a_sender_that_never_waits_lets_others_run() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let unlimited = Options::new().send_hwm(0).recv_hwm(0);
        let (pull, push) = (socket_with(&context, Pull, unlimited.clone()), socket_with(&context, Push, unlimited));
        link(transport, &pull, &push).await;
        let endless = tokio::spawn(async move {
            loop {
                push.send("more".into()).await.unwrap();
            }
        });
        // On this one thread
        assert_eq!(receive(&pull, transport).await, "more");
        endless.abort();
    }
}

#[tokio::test]
async fn batches_keep_their_order() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let small = Options::new().send_hwm(64).recv_hwm(64);
        let (pull, push) = (socket_with(&context, Pull, small.clone()), socket_with(&context, Push, small));
        link(transport, &pull, &push).await;
        let sending = tokio::spawn(async move {
            let mut messages: Vec<Message> = (0..10_000).map(|number: u32| number.to_string().into()).collect();
            let mut sent = 0;
            while !messages.is_empty() {
                sent += push.send_many(&mut messages).await.unwrap();
            }
            assert_eq!(sent, 10_000);
            push
        });
        let mut received = Vec::new();
        while received.len() < 10_000 {
            assert!(soon(transport, pull.recv_many(&mut received, 100)).await.unwrap() <= 100);
        }
        assert!(received.iter().enumerate().all(|(place, message)| number(message) == place), "{transport}");
        drop(sending.await.unwrap());
    }
}

#[test]
fn handles_can_go_anywhere() {
    fn is_shared<T: Send + Sync + Clone>() {}
    is_shared::<Socket>();
    is_shared::<Context>();
}

/// Ends at once, or when others had some turns
async fn give_up_after(turns: u64) {
    match turns {
        3 => tokio::time::sleep(Duration::from_micros(50)).await,
        turns => {
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
        }
    }
}

fn number(message: &Message) -> usize {
    text(message).rsplit('|').next().unwrap().parse().unwrap()
}
