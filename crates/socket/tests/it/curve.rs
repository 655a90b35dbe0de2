//! CURVE between sockets of our own: what passes, and who is refused how.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidings_socket::SocketType::{Dealer, Pub, Pull, Push, Rep, Req, Router, Sub};
use tidings_socket::{
    AuthRequest, AuthVerdict, Authenticator, ConnectError, Context, Credentials, CurvePublicKey, CurveSecretKey,
    EventKind, Message, Options, Properties, SystemEntropy,
};

use crate::support::*;

#[tokio::test]
async fn messages_of_every_size_and_pattern_pass_sealed() {
    let (server, client) = (key(), key());
    for transport in ["tcp", "ipc"] {
        let context = Context::new();
        let options = || server_options(&server);
        let (dealer, router) =
            (socket_with(&context, Dealer, client_options(&client, &server)), socket_with(&context, Router, options()));
        link(transport, &router, &dealer).await;
        for size in [0, 1, 255, 256, 65_535, 65_536, 10 << 20] {
            let body: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
            let sent = Message::multipart([&b"head"[..], b"", &body].map(<[u8]>::to_vec));
            soon(size, dealer.send(sent.clone())).await.unwrap();
            let mut received = soon(size, router.recv()).await.unwrap();
            soon(size, router.send(received.clone())).await.unwrap();
            received.pop_front();
            assert!(received == sent, "{size} over {transport}");
            assert!(soon(size, dealer.recv()).await.unwrap() == sent, "{size} back over {transport}");
        }

        let (publisher, subscriber) =
            (socket_with(&context, Pub, options()), socket_with(&context, Sub, client_options(&client, &server)));
        link(transport, &publisher, &subscriber).await;
        subscriber.subscribe("a").unwrap();
        soon("a subscription", publisher.ready(1, LONG)).await.unwrap();
        send(&publisher, "b").await;
        send(&publisher, "ab").await;
        assert_eq!(receive(&subscriber, transport).await, "ab");

        // The server of CURVE may be the side that connects
        let (req, rep) =
            (socket_with(&context, Req, client_options(&client, &server)), socket_with(&context, Rep, options()));
        link(transport, &req, &rep).await;
        send(&req, "question").await;
        let question = soon(transport, rep.recv_from()).await.unwrap();
        assert_eq!((text(&question.message).as_str(), question.from.curve_key), ("question", Some(client.public())));
        send(&rep, "answer").await;
        let answer = soon(transport, req.recv_from()).await.unwrap();
        assert_eq!((text(&answer.message).as_str(), answer.from.curve_key), ("answer", Some(server.public())));
    }
}

#[tokio::test]
async fn many_messages_both_ways_keep_their_order() {
    let (server, client) = (key(), key());
    let context = Context::new();
    let beats = |options: Options| options.heartbeat_interval(Some(Duration::from_millis(5)));
    let near = socket_with(&context, Dealer, beats(server_options(&server)));
    let far = socket_with(&context, Dealer, beats(client_options(&client, &server)));
    link("tcp", &near, &far).await;
    let ping_pong = async {
        for number in 0..5000 {
            soon("send", near.send(format!("{number}").into())).await.unwrap();
            soon("send", far.send(format!("{number}").into())).await.unwrap();
            if number % 16 == 15 {
                for expected in number - 15..=number {
                    assert_eq!(receive(&near, expected).await, expected.to_string());
                    assert_eq!(receive(&far, expected).await, expected.to_string());
                }
            }
        }
    };
    ping_pong.await;
}

#[tokio::test]
async fn an_authenticator_knows_clients_by_their_keys_and_may_stop_knowing_them() {
    let (server, joe, jim) = (key(), key(), key());
    let context = Context::new();
    let list = Arc::new(List { known: Mutex::new(vec![joe.public()]) });
    context.set_authenticator(Some(list.clone()));
    let pull = socket_with(&context, Pull, server_options(&server));
    let push = socket_with(&context, Push, client_options(&joe, &server));
    let at = link("tcp", &pull, &push).await;
    send(&push, "hello").await;
    let received = soon("a message", pull.recv_from()).await.unwrap();
    assert_eq!((received.from.mechanism, &received.from.user_id[..]), ("CURVE", joe.public().to_string().as_bytes()));
    assert_eq!(received.from.curve_key, Some(joe.public()), "and by what it has proved to hold");

    let mut events = pull.events();
    for (label, client) in [("unknown", &jim), ("revoked", &joe)] {
        if label == "revoked" {
            list.known.lock().unwrap().clear();
        }
        let refused = socket_with(&context, Push, client_options(client, &server));
        let error = soon(label, refused.connect(&at).unwrap()).await.unwrap_err();
        assert!(matches!(&error, ConnectError::Refused { code, .. } if code == "400"), "{label}: {error}");
        let EventKind::Denied { user, mechanism, .. } = event(&mut events, "denied").await.kind else { unreachable!() };
        assert_eq!((user, mechanism), (client.public().to_string(), "CURVE"), "{label}");
    }
    send(&push, "still here").await;
    assert_eq!(receive(&pull, "who was in stays in").await, "still here");
}

#[tokio::test]
async fn a_wrong_server_key_is_told_from_what_can_be_seen() {
    let (server, other, client) = (key(), key(), key());
    let context = Context::new();
    let pull = socket_with(&context, Pull, server_options(&server));
    let at = bind(&pull, "tcp").await;
    let options = client_options(&client, &other).reconnect_interval(Some(Duration::from_millis(5)));
    let push = socket_with(&context, Push, options);
    let error = soon("an outcome", push.connect(&at).unwrap()).await.unwrap_err();
    let ConnectError::Refused { reason, .. } = &error else { panic!("{error}") };
    assert!(reason.contains("curve_server_key is not that server's key"), "{error}");
    eventually("the server counts it", || pull.stats().closes.get("hello-not-opened") >= Some(&3)).await;
    assert!(!format!("{error} {:?} {push:?}", push.options()).contains(client.to_z85().as_str()), "no secret is shown");

    // Nobody comes in without the mechanism
    let plain = socket(&context, Push);
    let error = soon("a refusal", plain.connect(&at).unwrap()).await.unwrap_err();
    assert!(matches!(&error, ConnectError::Refused { code, .. } if code == "mechanism-mismatch"), "{error}");
}

#[derive(Debug)]
struct List {
    known: Mutex<Vec<CurvePublicKey>>,
}

impl Authenticator for List {
    fn authenticate(&self, request: &AuthRequest<'_>) -> AuthVerdict {
        match request.credentials {
            Credentials::Curve { public_key } if self.known.lock().unwrap().contains(public_key) => {
                AuthVerdict::Allow { user_id: public_key.to_string().into(), metadata: Properties::new() }
            }
            _ => AuthVerdict::deny("unknown key"),
        }
    }
}

pub(crate) fn key() -> CurveSecretKey {
    CurveSecretKey::generate(&SystemEntropy).unwrap()
}

fn server_options(own: &CurveSecretKey) -> Options {
    Options::new().curve_server(true).curve_secret_key(Some(own.clone()))
}

fn client_options(own: &CurveSecretKey, server: &CurveSecretKey) -> Options {
    Options::new().curve_secret_key(Some(own.clone())).curve_server_key(Some(server.public()))
}
