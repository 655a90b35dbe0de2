//! Clients on a connection.

use std::time::Duration;

use tidings_majordomo::wire::{ClientCommand, Command, Status, Wire};
use tidings_majordomo::{BlockingClient, Client, ClientOptions, Message, OpenError, Part, RequestError};
use tidings_socket::{Context, Message as Frames, Options, PubSocket};

use crate::scripted::{DEADLINE, Scripted};

fn options() -> ClientOptions {
    ClientOptions::default().timeout(Some(DEADLINE)).reconnect(Duration::from_millis(1), Duration::from_millis(20))
}

async fn ours() -> (Context, Scripted, Client) {
    let context = Context::new();
    let broker = Scripted::ours(&context).await;
    let client = Client::connect(&context, &broker.endpoint, options()).await.unwrap();
    (context, broker, client)
}

#[tokio::test]
async fn the_wire_is_agreed_in_the_handshake() {
    let (context, _broker, client) = ours().await;
    assert_eq!(client.wire(), Some(Wire::Tidings));
    let broker = Scripted::foreign(&context).await;
    for wire in Wire::ALL {
        let client = Client::connect(&context, &broker.endpoint, options().wire(wire)).await.unwrap();
        assert_eq!(client.wire(), Some(wire));
        let asking = tokio::spawn(client.request("echo", Frames::multipart(["get", "{}"])).into_future());
        let heard = broker.hear().await;
        assert_eq!((heard.wire(), heard.request().1.as_str()), (wire, "echo"));
        broker.answer(&heard, "hi").await;
        assert_eq!(asking.await.unwrap().unwrap().body, "hi".into());
    }
}

#[tokio::test]
async fn many_requests_share_a_connection_and_find_their_own_replies() {
    let (_context, broker, client) = ours().await;
    let asking: Vec<_> =
        (0..100).map(|number: u32| tokio::spawn(client.request("echo", number.to_string()).into_future())).collect();
    let mut heard = Vec::new();
    for _ in 0..100 {
        heard.push(broker.hear().await);
    }
    assert!(heard.iter().all(|request| request.peer == heard[0].peer));
    for request in heard.iter().rev() {
        broker.answer(request, request.body().to_vec()).await;
    }
    for (number, asking) in asking.into_iter().enumerate() {
        assert_eq!(asking.await.unwrap().unwrap().body, number.to_string().into());
    }
}

#[tokio::test]
async fn a_dropped_request_is_taken_back() {
    let (_context, broker, client) = ours().await;
    let asking = tokio::spawn(client.request("echo", "x").into_future());
    let heard = broker.hear().await;
    asking.abort();
    let cancel = broker.hear().await;
    assert_eq!(cancel.incoming.command, Command::Client(ClientCommand::Cancel { id: heard.id() }));
    assert_eq!((client.counts().cancelled, client.counts().in_flight), (1, 0));
    broker.answer(&heard, "late").await;
    let asking = tokio::spawn(client.request("echo", "y").into_future());
    let heard = broker.hear().await;
    broker.answer(&heard, "z").await;
    assert_eq!(asking.await.unwrap().unwrap().body, "z".into());
    assert_eq!(client.counts().late_replies, 1);
}

#[tokio::test]
async fn a_request_that_nobody_polls_harms_no_other() {
    let (_context, broker, client) = ours().await;
    let mut first = Box::pin(client.request("echo", "1").into_future());
    // It is sent, and then left lying
    let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(first.as_mut().poll(cx).is_pending())).await;
    assert!(polled);
    let heard = broker.hear().await;
    let second = client.request("echo", "2");
    let (reply, ()) = tokio::join!(second, async {
        let other = broker.hear().await;
        broker.answer(&heard, "one").await;
        broker.answer(&other, "two").await;
    });
    assert_eq!(reply.unwrap().body, "two".into());
    assert_eq!(first.await.unwrap().body, "one".into());
}

#[tokio::test]
async fn refusals_deadlines_and_options_travel() {
    let (_context, broker, client) = ours().await;
    let call = client.request("bank", "pay").key("k1").not_repeatable().deadline(Duration::from_secs(20));
    let asking = tokio::spawn(call.into_future());
    let heard = broker.hear().await;
    let (_, _, options, _) = heard.request();
    assert_eq!((options.key.as_deref(), options.repeatable), (Some(&b"k1"[..]), false));
    let left = options.deadline.unwrap();
    assert!(left <= Duration::from_secs(20) && left > Duration::from_secs(10), "{left:?}");
    broker.refuse(&heard, Status::UNAVAILABLE, "queue full").await;
    let error = asking.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "refused: 503 no room or draining: queue full");
    let error = client.request("bank", "pay").deadline(Duration::from_millis(10)).await.unwrap_err();
    assert!(matches!(error, RequestError::DeadlinePassed { sent: true, .. }), "{error}");
    for (service, says) in [(String::new(), "empty"), ("x".repeat(256), "255")] {
        let error = client.request(&service, "x").await.unwrap_err();
        assert!(matches!(error, RequestError::Service(_)) && error.to_string().contains(says), "{error}");
    }
}

#[tokio::test]
async fn parts_come_as_a_stream_and_with_the_reply() {
    let (_context, broker, client) = ours().await;
    let mut parts = client.request("list", "x").parts();
    let broker = std::sync::Arc::new(broker);
    let other = broker.clone();
    let serving = tokio::spawn(async move {
        for _ in 0..2 {
            let heard = other.hear().await;
            other.part(&heard, "1").await;
            other.part(&heard, "2").await;
            other.answer(&heard, "3").await;
        }
    });
    let mut seen = Vec::new();
    while let Some(part) = parts.next().await {
        seen.push(part.unwrap());
    }
    assert_eq!(seen, [Part::Partial("1".into()), Part::Partial("2".into()), Part::Final("3".into())]);
    assert!(parts.next().await.is_none());
    let reply = client.request("list", "x").await.unwrap();
    assert_eq!((reply.parts, reply.body), (vec!["1".into(), "2".into()], "3".into()));
    serving.await.unwrap();
    // Taken back with its stream
    let mut parts = client.request("list", "y").parts();
    let (first, heard) = tokio::join!(parts.next(), async {
        let heard = broker.hear().await;
        broker.part(&heard, "1").await;
        heard
    });
    assert_eq!(first.unwrap().unwrap(), Part::Partial("1".into()));
    drop(parts);
    assert_eq!(broker.hear().await.incoming.command, Command::Client(ClientCommand::Cancel { id: heard.id() }));
}

#[tokio::test]
async fn a_restarted_broker_gets_what_is_unanswered_again() {
    let (context, broker, client) = ours().await;
    let asking = tokio::spawn(client.request("echo", "x").into_future());
    let once = tokio::spawn(client.request("echo", "once").not_repeatable().into_future());
    let first = broker.hear().await;
    broker.hear().await;
    let endpoint = broker.endpoint.clone();
    broker.die().await;
    let error = once.await.unwrap().unwrap_err();
    assert!(matches!(error, RequestError::ConnectionLost), "{error}");
    let broker = Scripted::bind(&context, &endpoint, true).await;
    let again = broker.hear().await;
    assert_eq!((again.body(), again.id()), (&b"x"[..], first.id()));
    broker.answer(&again, "y").await;
    assert_eq!(asking.await.unwrap().unwrap().body, "y".into());
    assert_eq!((client.counts().resent, client.counts().lost), (1, 1));
}

#[tokio::test]
async fn the_next_broker_may_be_of_another_make() {
    let (context, broker, client) = ours().await;
    let endpoint = broker.endpoint.clone();
    broker.die().await;
    let broker = Scripted::bind(&context, &endpoint, false).await;
    let asking = tokio::spawn(client.request("echo", "x").into_future());
    let heard = broker.hear().await;
    assert_eq!(heard.wire(), Wire::Mdp01);
    broker.answer(&heard, "y").await;
    assert_eq!(asking.await.unwrap().unwrap().body, "y".into());
}

#[tokio::test]
async fn without_numbers_several_connections_carry_several_requests() {
    let context = Context::new();
    let broker = Scripted::foreign(&context).await;
    let client = Client::connect(&context, &broker.endpoint, options().max_conversations(3)).await.unwrap();
    let asking: Vec<_> =
        (0..5).map(|number: u32| tokio::spawn(client.request("echo", number.to_string()).into_future())).collect();
    let mut heard = vec![broker.hear().await, broker.hear().await, broker.hear().await];
    let peers: std::collections::HashSet<_> = heard.iter().map(|request| request.peer.clone()).collect();
    assert_eq!(peers.len(), 3);
    for still_to_come in [true, true, false, false, false] {
        let request = heard.pop().unwrap();
        broker.answer(&request, request.body().to_vec()).await;
        if still_to_come {
            // On the connection that has just become free
            let next = broker.hear().await;
            assert_eq!(next.peer, request.peer);
            heard.push(next);
        }
    }
    for (number, asking) in asking.into_iter().enumerate() {
        assert_eq!(asking.await.unwrap().unwrap().body, number.to_string().into());
    }
}

#[tokio::test]
async fn actions_are_asked_and_answered() {
    let (_context, broker, client) = ours().await;
    let request = Message::new("config.get", serde_json::json!({"id": "diskfree"}));
    let (answer, heard) = tokio::join!(client.ask("dbmanager", &request), async {
        let heard = broker.hear().await;
        let answer = Message::new("config.result", serde_json::json!({"value": 7})).encode();
        let service = "dbmanager".into();
        let body = answer.into_frames();
        let reply = tidings_majordomo::wire::ClientReply::Final { id: heard.id(), service, body };
        broker.reply(&heard, reply).await;
        heard
    });
    assert_eq!(heard.request().3[..], ["config.get", r#"{"id":"diskfree"}"#]);
    let answer = answer.unwrap();
    assert_eq!((answer.action.as_str(), answer.value("value")), ("config.result", Some(&serde_json::json!(7))));
}

#[tokio::test]
async fn a_broker_that_can_t_be_one_is_told_at_once() {
    let context = Context::new();
    // A client's DEALER and a PUB can't talk
    let publisher = PubSocket::new(&context).unwrap();
    let endpoint = publisher.bind("tcp://127.0.0.1:*").unwrap().await.unwrap();
    let error = Client::connect(&context, &endpoint, options()).await.unwrap_err();
    assert!(matches!(error, OpenError::Unreachable { .. }), "{error}");
    let client = Client::new(&context, &endpoint, options()).unwrap();
    let error = client.request("echo", "x").await.unwrap_err();
    assert!(matches!(error, RequestError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn no_broker_is_told_when_the_time_is_over() {
    let context = Context::new();
    let broker = Scripted::ours(&context).await;
    let endpoint = broker.endpoint.clone();
    broker.die().await;
    let brief = options().timeout(Some(Duration::from_millis(50)));
    let error = Client::connect(&context, &endpoint, brief.clone()).await.unwrap_err();
    assert!(matches!(error, OpenError::TimedOut { .. }), "{error}");
    let client = Client::new(&context, &endpoint, brief).unwrap();
    let error = client.request("echo", "x").await.unwrap_err();
    assert!(matches!(error, RequestError::DeadlinePassed { sent: false, .. }), "{error}");
    assert!(matches!(Client::new(&context, "tcp://nowhere", options()), Err(OpenError::Endpoint(_))));
}

#[tokio::test]
async fn closing_fails_what_is_under_way() {
    let (_context, broker, client) = ours().await;
    let asking = tokio::spawn(client.request("echo", "x").into_future());
    let heard = broker.hear().await;
    client.close();
    assert!(matches!(asking.await.unwrap(), Err(RequestError::Closed)));
    assert_eq!(broker.hear().await.incoming.command, Command::Client(ClientCommand::Cancel { id: heard.id() }));
    assert!(matches!(client.request("echo", "x").await, Err(RequestError::Closed)));
}

#[tokio::test]
async fn the_last_clone_closes_its_connection() {
    let (_context, broker, client) = ours().await;
    let clone = client.clone();
    drop(client);
    let asking = tokio::spawn(clone.request("echo", "x").into_future());
    let heard = broker.hear().await;
    broker.answer(&heard, "y").await;
    asking.await.unwrap().unwrap();
    assert_eq!(broker.socket.stats().peers.len(), 1);
    drop(clone);
    tokio::time::timeout(DEADLINE, broker.socket.as_socket().deserted()).await.unwrap();
}

#[tokio::test]
async fn large_bodies_and_a_slow_broker_lose_nothing() {
    let context = Context::new();
    let broker = Scripted::ours(&context).await;
    // Hardly any room, so that most wait for it
    let narrow = options().socket(Options::new().send_hwm_octets(64 << 10).send_buffer(16 << 10));
    let client = Client::connect(&context, &broker.endpoint, narrow).await.unwrap();
    let asking: Vec<_> =
        (0..200u8).map(|number| tokio::spawn(client.request("echo", vec![number; 32 << 10]).into_future())).collect();
    for _ in 0..200 {
        let heard = broker.hear().await;
        broker.answer(&heard, heard.body().to_vec()).await;
    }
    for (number, asking) in asking.into_iter().enumerate() {
        assert_eq!(asking.await.unwrap().unwrap().body.first(), vec![number as u8; 32 << 10]);
    }
}

#[test]
fn threads_ask_without_a_runtime() {
    let context = Context::builder().build().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (broker, serving) = runtime.block_on(async {
        let broker = Scripted::ours(&context).await;
        (broker.endpoint.clone(), broker)
    });
    let endpoint = broker;
    let asking = std::thread::spawn(move || {
        let client = BlockingClient::connect(&context, &endpoint, options()).unwrap();
        let mut replies = Vec::new();
        for number in 0..3 {
            replies.push(client.request("echo", number.to_string()).unwrap().body);
        }
        let mut parts = client.call("echo", "x").parts();
        let first = parts.next_blocking().unwrap().unwrap();
        let error = client.call("echo", "y").deadline(Duration::from_millis(20)).blocking().unwrap_err();
        (replies, first, error.to_string())
    });
    runtime.block_on(async {
        for _ in 0..4 {
            let heard = serving.hear().await;
            serving.answer(&heard, heard.body().to_vec()).await;
        }
    });
    let (replies, first, error) = asking.join().unwrap();
    assert_eq!(replies, ["0", "1", "2"].map(Frames::from));
    assert_eq!(first, Part::Final("x".into()));
    assert_eq!(error, "no reply within 20ms");
}

#[tokio::test]
async fn inproc_needs_to_be_told_the_wire() {
    let context = Context::new();
    let broker = Scripted::bind(&context, "inproc://broker", true).await;
    let client = Client::connect(&context, "inproc://broker", options().wire(Wire::Tidings)).await.unwrap();
    let asking: Vec<_> =
        (0..50).map(|number: u32| tokio::spawn(client.request("echo", number.to_string()).into_future())).collect();
    for _ in 0..50 {
        let heard = broker.hear().await;
        broker.answer(&heard, heard.body().to_vec()).await;
    }
    for (number, asking) in asking.into_iter().enumerate() {
        assert_eq!(asking.await.unwrap().unwrap().body, number.to_string().into());
    }
}
