//! Prefixes, counts, many of them, and again after a reconnection.

use tidings_socket::SocketType::{Pub, Sub, Xpub};
use tidings_socket::{Context, Options};

use crate::support::*;

#[tokio::test]
async fn ten_thousand_subscriptions_and_each_matches_alone() {
    for transport in TRANSPORTS {
        let context = Context::new();
        // A publication may go to a subscriber whose queue is full while it is still telling what it wants
        let (publisher, subscriber) = (socket_with(&context, Pub, Options::new().send_hwm(0)), socket(&context, Sub));
        for number in 0..5_000 {
            subscriber.subscribe(format!("topic-{number:05}.")).unwrap();
        }
        link(transport, &publisher, &subscriber).await;
        for number in 5_000..10_000 {
            subscriber.subscribe(format!("topic-{number:05}.")).unwrap();
        }
        eventually(transport, || publisher.stats().peers[0].subscriptions == 10_000).await;
        for number in [0, 1, 4_999, 5_000, 9_999, 10_000, 12_345] {
            send(&publisher, &format!("topic-{number:05}.x|{number}")).await;
        }
        let heard = receive_many(&subscriber, 5, transport).await;
        assert_eq!(heard.last().unwrap(), "topic-09999.x|9999");
        assert_eq!(publisher.stats().unrouted, 2, "{transport}");
        for number in 0..10_000 {
            subscriber.unsubscribe(format!("topic-{number:05}.")).unwrap();
        }
        eventually(transport, || publisher.stats().peers[0].subscriptions == 0).await;
    }
}

#[tokio::test]
async fn a_topic_ends_with_its_last_subscription() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let (publisher, subscriber) = (socket(&context, Xpub), socket(&context, Sub));
        link(transport, &publisher, &subscriber).await;
        subscriber.subscribe("a").unwrap();
        subscriber.subscribe("a").unwrap();
        subscriber.subscribe("b").unwrap();
        subscriber.unsubscribe("a").unwrap();
        subscriber.unsubscribe("never").unwrap();
        assert_eq!(receive_many(&publisher, 2, transport).await, ["0161", "0162"]);
        send(&publisher, "a|still").await;
        assert_eq!(receive(&subscriber, transport).await, "a|still");
        subscriber.unsubscribe("a").unwrap();
        assert_eq!(receive(&publisher, transport).await, "0061");
        send(&publisher, "a|no more").await;
        send(&publisher, "b|but this").await;
        assert_eq!(receive(&subscriber, transport).await, "b|but this");
    }
}

#[tokio::test]
async fn what_was_published_before_a_cancellation_arrived_is_filtered_here() {
    let context = Context::new();
    let (publisher, subscriber) = (socket(&context, Pub), socket(&context, Sub));
    subscriber.subscribe("").unwrap();
    link("tcp", &publisher, &subscriber).await;
    publisher.ready(1, LONG).await.unwrap();
    // Unsubscribing reaches the publisher later than this message is sent
    subscriber.subscribe("b").unwrap();
    subscriber.unsubscribe("").unwrap();
    send(&publisher, "a").await;
    send(&publisher, "b").await;
    assert_eq!(receive(&subscriber, "b").await, "b");
}

#[tokio::test]
async fn inverted_matching_sends_the_rest() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let options = Options::new().invert_matching(true);
        let (publisher, subscriber) =
            (socket_with(&context, Pub, options.clone()), socket_with(&context, Sub, options));
        subscriber.subscribe("noise").unwrap();
        link(transport, &publisher, &subscriber).await;
        publisher.ready(1, LONG).await.unwrap();
        for frames in ["noise|1", "music|2", "nois|3", "noises|4"] {
            send(&publisher, frames).await;
        }
        assert_eq!(receive_many(&subscriber, 2, transport).await, ["music|2", "nois|3"]);
        assert!(subscriber.try_recv().is_err(), "{transport}");
    }
}

#[tokio::test]
async fn subscriptions_are_told_again_after_a_reconnection() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let at = free_endpoint(&context, transport).await;
        let subscriber = socket(&context, Sub);
        subscriber.subscribe("kept").unwrap();
        subscriber.subscribe("given up").unwrap();
        drop(subscriber.connect(&at).unwrap());
        for round in 0..3 {
            let label = format!("{transport}, round {round}");
            let publisher = socket(&context, Pub);
            soon(&label, publisher.bind(&at).unwrap()).await.unwrap();
            publisher.ready(1, LONG).await.unwrap();
            eventually(&label, || publisher.stats().peers[0].subscriptions == 2).await;
            send(&publisher, &format!("kept|{round}")).await;
            assert_eq!(receive(&subscriber, &label).await, format!("kept|{round}"));
            publisher.close(LONG).await;
            eventually(&label, || connected(&subscriber) == 0).await;
            // What changes while nobody is there is told to the next
            subscriber.unsubscribe(if round == 0 { "given up" } else { "new" }).unwrap();
            subscriber.subscribe("new").unwrap();
        }
    }
}

#[tokio::test]
async fn a_peer_may_not_hold_more_subscriptions_than_allowed() {
    let few = Options::new().max_subscriptions(10);
    let short = Options::new().max_subscription_octets(10);
    for (transport, options) in TRANSPORTS.into_iter().flat_map(|transport| [(transport, &few), (transport, &short)]) {
        let context = Context::new();
        let publisher = socket_with(&context, Pub, options.clone());
        let at = bind(&publisher, transport).await;
        let modest = socket(&context, Sub);
        modest.subscribe("").unwrap();
        connect(&modest, &publisher, &at).await;
        let greedy = socket_with(&context, Sub, Options::new().reconnect_interval(None));
        (0..11).for_each(|number| greedy.subscribe(number.to_string()).unwrap());
        drop(greedy.connect(&at).unwrap());
        eventually(transport, || publisher.stats().closes.contains_key("too-many-subscriptions")).await;
        eventually(transport, || connected(&publisher) == 1).await;
        send(&publisher, "for the modest").await;
        assert_eq!(receive(&modest, transport).await, "for the modest");
    }
}
