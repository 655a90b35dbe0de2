//! The options of PUB, XPUB and XSUB.

use tidings_socket::SocketType::{Pub, Sub, Xpub, Xsub};
use tidings_socket::{Context, Options, SendFailure, Socket};

use crate::support::*;

#[tokio::test]
async fn a_publication_goes_to_who_wants_it() {
    for transport in TRANSPORTS {
        for (publishes, subscribes) in [(Pub, Sub), (Xpub, Sub), (Pub, Xsub), (Xpub, Xsub)] {
            let label = format!("{publishes}/{subscribes} over {transport}");
            let context = Context::new();
            let publisher = socket(&context, publishes);
            let at = bind(&publisher, transport).await;
            let mut subscribers = Vec::new();
            for topic in ["a", "ab", "b", ""] {
                let subscriber = socket(&context, subscribes);
                subscriber.subscribe(topic).unwrap();
                connect(&subscriber, &publisher, &at).await;
                subscribers.push(subscriber);
            }
            publisher.ready(4, LONG).await.unwrap();
            for frames in ["a|1", "ab|2", "abc|3", "b|4", "|5", "c|6"] {
                send(&publisher, frames).await;
            }
            let expected = [
                &["a|1", "ab|2", "abc|3"][..],
                &["ab|2", "abc|3"],
                &["b|4"],
                &["a|1", "ab|2", "abc|3", "b|4", "|5", "c|6"],
            ];
            for (subscriber, expected) in subscribers.iter().zip(expected) {
                assert_eq!(receive_many(subscriber, expected.len(), &label).await, expected, "{label}");
                assert!(subscriber.try_recv().is_err(), "{label}");
            }
        }
    }
}

#[tokio::test]
async fn an_xpub_hears_of_subscriptions() {
    for transport in TRANSPORTS {
        for (options, expected) in [
            (Options::new(), vec!["01a", "00a"]),
            (Options::new().xpub_verbose(true), vec!["01a", "01a", "01a", "00a"]),
            (Options::new().xpub_verboser(true), vec!["01a", "01a", "01a", "00a", "00a"]),
        ] {
            let label = format!("{expected:?} over {transport}");
            let context = Context::new();
            let publisher = socket_with(&context, Xpub, options);
            let at = bind(&publisher, transport).await;
            let (one, two) = (socket(&context, Xsub), socket(&context, Xsub));
            connect(&one, &publisher, &at).await;
            connect(&two, &publisher, &at).await;
            // One by one, so that their order is known. A repeated one of the same peer is told with verbose.
            let steps = [
                (&one, "\u{1}a"),
                (&one, "\u{1}a"),
                (&two, "\u{1}a"),
                (&one, "\u{0}a"),
                (&one, "\u{0}a"),
                (&two, "\u{0}a"),
            ];
            for (place, (subscriber, frames)) in steps.iter().enumerate() {
                let told = publisher.stats().received;
                send(subscriber, frames).await;
                // The end of the first of two like subscriptions is not sent
                let is_sent = place != 3;
                let shows =
                    is_sent && (expected.len() == 5 || place == 0 || place == 5 || (place < 3 && expected.len() == 4));
                if shows {
                    eventually(&label, || publisher.stats().received > told).await;
                } else {
                    // What comes behind on the same way tells that this was heard
                    send(subscriber, "mark").await;
                    eventually(&label, || publisher.stats().received > told).await;
                }
            }
            let heard: Vec<String> =
                receive_all(&publisher).iter().map(|text| as_shown(text)).filter(|text| text != "mark").collect();
            assert_eq!(heard, expected, "{label}");
        }
    }
}

#[tokio::test]
async fn an_xpub_hears_that_a_subscriber_left() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let (publisher, subscriber) = (socket(&context, Xpub), socket(&context, Sub));
        subscriber.subscribe("x").unwrap();
        link(transport, &publisher, &subscriber).await;
        assert_eq!(receive(&publisher, transport).await, "0178");
        subscriber.close(LONG).await;
        assert_eq!(receive(&publisher, transport).await, "0078");
        eventually(transport, || publisher.stats().peers.is_empty()).await;
    }
}

#[tokio::test]
async fn an_xsub_talks_upstream() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let (publisher, subscriber) = (socket(&context, Xpub), socket(&context, Xsub));
        link(transport, &publisher, &subscriber).await;
        send(&subscriber, "please|resend").await;
        assert_eq!(receive(&publisher, transport).await, "please|resend");
        send(&subscriber, "\u{1}topic|of two frames is a message").await;
        assert!(receive(&publisher, transport).await.ends_with("|of two frames is a message"));
        let quiet = socket(&context, Pub);
        link(transport, &quiet, &subscriber).await;
        send(&subscriber, "to both").await;
        assert_eq!(receive(&publisher, transport).await, "to both");
    }
}

#[tokio::test]
async fn a_manual_xpub_decides_itself() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let publisher = socket_with(&context, Xpub, Options::new().xpub_manual(true));
        let subscriber = socket(&context, Xsub);
        link(transport, &publisher, &subscriber).await;
        send(&subscriber, "\u{1}a").await;
        assert_eq!(receive(&publisher, transport).await, "0161");
        send(&publisher, "a|nobody is subscribed").await;
        publisher.subscribe("b").unwrap();
        for frames in ["a|no", "b|yes"] {
            send(&publisher, frames).await;
        }
        assert_eq!(receive(&subscriber, transport).await, "b|yes");
        send(&subscriber, "\u{0}a").await;
        assert_eq!(receive(&publisher, transport).await, "0061");
        publisher.unsubscribe("b").unwrap();
        send(&publisher, "b|gone").await;
        assert_eq!(publisher.stats().unrouted, 3, "{transport}");
    }
}

#[tokio::test]
async fn newcomers_are_welcomed() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let publisher = socket_with(&context, Xpub, Options::new().xpub_welcome_message("welcome".into()));
        let subscriber = socket(&context, Sub);
        subscriber.subscribe("w").unwrap();
        link(transport, &publisher, &subscriber).await;
        assert_eq!(receive(&subscriber, transport).await, "welcome");
    }
}

#[tokio::test]
async fn a_publisher_can_wait_instead_of_dropping() {
    let context = Context::new();
    let publisher = socket_with(&context, Pub, Options::new().send_hwm(3).xpub_nodrop(true));
    let at = bind(&publisher, "inproc").await;
    let subscribers: Vec<Socket> = (0..2).map(|_| socket_with(&context, Sub, Options::new().recv_hwm(3))).collect();
    for subscriber in &subscribers {
        subscriber.subscribe("").unwrap();
        connect(subscriber, &publisher, &at).await;
    }
    publisher.ready(2, LONG).await.unwrap();
    for number in 0..6 {
        publisher.try_send(number.to_string().into()).unwrap();
    }
    assert_eq!(receive_many(&subscribers[0], 6, "first").await.len(), 6);
    let error = publisher.try_send("6".into()).unwrap_err();
    assert_eq!(error.reason, SendFailure::WouldBlock, "the other one is full");
    let waiting = tokio::spawn({
        let publisher = publisher.clone();
        async move { publisher.send("6".into()).await }
    });
    let all: Vec<String> = (0..7).map(|number| number.to_string()).collect();
    assert_eq!(receive_many(&subscribers[1], 7, "second").await, all);
    soon("the send that waited", waiting).await.unwrap().unwrap();
    assert_eq!(receive(&subscribers[0], "first").await, "6", "each once, however often it was tried");
    assert!(subscribers[0].try_recv().is_err());
    assert_eq!(publisher.stats().dropped, 0);
}

#[tokio::test]
async fn an_xsub_that_waits_sends_to_all_or_none() {
    let context = Context::new();
    let subscriber =
        socket_with(&context, Xsub, Options::new().send_hwm(1).overflow(Some(tidings_socket::Overflow::Block)));
    let publishers: Vec<Socket> = (0..2).map(|_| socket_with(&context, Xpub, Options::new().recv_hwm(1))).collect();
    for publisher in &publishers {
        link("inproc", publisher, &subscriber).await;
    }
    send(&subscriber, "one").await;
    send(&subscriber, "two").await;
    assert_eq!(receive_many(&publishers[0], 2, "first").await, ["one", "two"]);
    assert!(subscriber.try_send("three".into()).is_err());
    assert_eq!(receive_many(&publishers[1], 2, "second").await, ["one", "two"]);
    send(&subscriber, "three").await;
    for publisher in &publishers {
        assert_eq!(receive(publisher, "three").await, "three");
        assert!(publisher.try_recv().is_err(), "once");
    }
}

/// `0161` as `01a`
fn as_shown(text: &str) -> String {
    match text.as_bytes() {
        [b'0', kind, ..] => {
            let octets: Vec<u8> =
                (2..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect();
            format!("0{}{}", char::from(*kind), String::from_utf8(octets).unwrap())
        }
        _ => text.to_owned(),
    }
}
