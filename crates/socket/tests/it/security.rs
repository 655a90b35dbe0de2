//! Who is let in, by whom that is decided, and what either side is told: NULL with a domain, and PLAIN.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidings_socket::SocketType::{Dealer, Pull, Push, Rep, Router, Server};
use tidings_socket::{
    AuthRequest, AuthVerdict, Authenticator, BindError, ConnectError, Context, Credentials, EventKind, Message,
    Options, Properties, Socket, SocketType,
};
use tokio::io::AsyncReadExt;

use crate::support::*;

#[tokio::test]
async fn an_authenticator_names_who_comes_in() {
    for transport in ["tcp", "ipc"] {
        for (server, client, claimed) in [
            (Options::new().zap_domain("hall".into()), Options::new(), "NULL"),
            (Options::new().plain_server(true).zap_domain("hall".into()), joe("wonder"), "PLAIN joe wonder"),
        ] {
            let label = format!("{claimed} over {transport}");
            let context = Context::new();
            let doorman = Doorman::new(|_| {
                let mut metadata = Properties::new();
                metadata.insert("X-Rank", "7").unwrap();
                AuthVerdict::Allow { user_id: "JOE".into(), metadata }
            });
            context.set_authenticator(Some(doorman.clone()));
            let (pull, push) = (socket_with(&context, Pull, server), socket_with(&context, Push, client));
            link(transport, &pull, &push).await;
            send(&push, "hello").await;
            let received = soon(&label, pull.recv_from()).await.unwrap();
            let mechanism = claimed.split(' ').next().unwrap();
            assert_eq!((received.from.user_id.as_ref(), received.from.mechanism), (&b"JOE"[..], mechanism), "{label}");
            assert_eq!(received.from.property("X-Rank").unwrap(), "7", "{label}");
            assert_eq!(received.from.property("User-Id").unwrap(), "JOE", "{label}");
            let asked = doorman.asked.lock().unwrap().clone();
            let pid = std::process::id();
            let address = if transport == "tcp" { "127.0.0.1".to_owned() } else { format!(":pid={pid}") };
            assert_eq!(asked.len(), 1, "{label}: {asked:?}");
            assert!(asked[0].starts_with("hall ") && asked[0].ends_with(claimed), "{label}: {asked:?}");
            assert!(asked[0].contains(&address), "{label}: {asked:?}");
            assert_eq!(asked[0].contains("Some(127.0.0.1)"), transport == "tcp", "{label}: {asked:?}");
        }
    }
}

#[tokio::test]
async fn whoever_is_refused_is_told_so_at_once_and_both_sides_count_it() {
    let context = Context::new();
    context.set_authenticator(Some(Doorman::new(|request| match request.credentials {
        Credentials::Plain { password, .. } if password.as_slice() == b"wonder" => AuthVerdict::allow(),
        _ => AuthVerdict::deny("no such password"),
    })));
    let pull = socket_with(&context, Pull, Options::new().plain_server(true));
    let push = socket_with(&context, Push, joe("wander"));
    let at = bind(&pull, "tcp").await;
    let (mut bound_events, mut events) = (pull.events(), push.events());
    let error = soon("a refusal", push.connect(&at).unwrap()).await.unwrap_err();
    let ConnectError::Refused { code, reason, .. } = &error else { panic!("{error}") };
    assert_eq!((code.as_str(), reason.as_str()), ("400", "peer refused: \"400\""));
    let EventKind::HandshakeFailed { reason, retry_in_ms, .. } = event(&mut events, "handshake-failed").await.kind
    else {
        unreachable!()
    };
    assert_eq!(reason, "error-received");
    assert!((30_000..=60_000).contains(&retry_in_ms.unwrap()), "{retry_in_ms:?}");
    assert!(matches!(event(&mut events, "refused").await.kind, EventKind::Refused { code, .. } if code == "400"));
    let denied = event(&mut bound_events, "denied").await;
    assert_eq!(
        denied.kind,
        EventKind::Denied {
            code: "400".into(),
            reason: "no such password".into(),
            mechanism: "PLAIN",
            user: "joe".into()
        }
    );
    assert!(denied.to_string().ends_with("denied (400) by PLAIN to joe: no such password"), "{denied}");
    event(&mut bound_events, "handshake-failed").await;
    assert_eq!(pull.stats().closes.get("denied"), Some(&1));
    assert_eq!(push.stats().closes.get("error-received"), Some(&1));
    assert!(!format!("{denied} {denied:?} {error} {:?}", push.options()).contains("wander"), "no secret is shown");
}

/// The first wait is the slow one, what is queued meanwhile stays, and a change of mind is noticed
#[tokio::test]
async fn a_refusal_is_tried_again_but_rarely() {
    let context = Context::new();
    let relents = Arc::new(AtomicBool::new(false));
    let door = relents.clone();
    context.set_authenticator(Some(Doorman::new(move |_| match door.load(Ordering::SeqCst) {
        true => AuthVerdict::allow(),
        false => AuthVerdict::deny("not yet"),
    })));
    let pull = socket_with(&context, Pull, Options::new().zap_domain("hall".into()));
    let at = bind(&pull, "tcp").await;
    let options =
        Options::new().reconnect_interval(Some(QUICK)).refused_retry_interval(Some(Duration::from_millis(200)));
    let push = socket_with(&context, Push, options.clone());
    let mut events = push.events();
    let connecting = push.connect(&at).unwrap();
    send(&push, "early").await;
    assert!(matches!(soon("a refusal", connecting).await, Err(ConnectError::Refused { .. })));
    for _ in 0..2 {
        let failed = event(&mut events, "handshake-failed").await;
        let EventKind::HandshakeFailed { retry_in_ms: Some(100..=200), .. } = failed.kind else { panic!("{failed}") };
    }
    send(&push, "later").await;
    relents.store(true, Ordering::SeqCst);
    assert_eq!(receive_many(&pull, 2, "after it relented").await, ["early", "later"]);

    relents.store(false, Ordering::SeqCst);
    let never = socket_with(&context, Push, options.refused_retry_interval(None));
    soon("a refusal", never.connect(&at).unwrap()).await.unwrap_err();
    eventually("it is forgotten", || never.stats().peers.is_empty()).await;
}

/// The ZAP sheet, section 5: what happens where nobody is there to ask
#[tokio::test]
async fn without_anybody_to_ask() {
    let domain = |options: Options| options.zap_domain("hall".into());
    let enforced = |options: Options| domain(options).zap_enforce_domain(true);
    let plain = || Options::new().plain_server(true);
    for (label, server, client, lets_in) in [
        ("NULL", Options::new(), Options::new(), true),
        ("NULL with a domain", domain(Options::new()), Options::new(), true),
        ("NULL, enforced", enforced(Options::new()), Options::new(), false),
        ("PLAIN", plain(), joe("x"), false),
        ("PLAIN with a domain", domain(plain()), joe("x"), false),
        ("PLAIN, enforced", enforced(plain()), joe("x"), false),
    ] {
        let context = Context::new();
        let (pull, push) = (socket_with(&context, Pull, server), socket_with(&context, Push, client));
        let at = bind(&pull, "tcp").await;
        let mut events = pull.events();
        match soon(label, push.connect(&at).unwrap()).await {
            Ok(_) => assert!(lets_in, "{label}"),
            Err(ConnectError::Refused { code, .. }) => {
                assert_eq!((code.as_str(), lets_in), ("500", false), "{label}");
                event(&mut events, "denied").await;
                eventually(label, || pull.stats().closes.get("no-authenticator") == Some(&1)).await;
            }
            Err(error) => panic!("{label}: {error}"),
        }
    }
}

#[tokio::test]
async fn a_handler_bound_in_the_context_is_asked_instead() {
    for handler in [Rep, Router, Server] {
        for (server, client, credentials) in [
            (Options::new(), Options::new(), "NULL"),
            (Options::new().plain_server(true), joe("wonder"), "PLAIN|joe|wonder"),
        ] {
            let label = format!("{credentials} by a {handler}");
            let context = Context::new();
            context.set_authenticator(Some(Doorman::new(|_| AuthVerdict::deny("not asked"))));
            let zap = ZapHandler::bind(&context, handler).await;
            let options = server.zap_domain("hall".into()).routing_id("SRVID".into());
            let (dealer, other) = (socket_with(&context, Dealer, options), socket_with(&context, Router, client));
            let at = bind(&dealer, "tcp").await;
            for round in 1..=2 {
                let connecting = other.connect(&at).unwrap();
                let request = zap.request(&label).await;
                let expected = format!("1.0|{round}|hall|127.0.0.1|SRVID|{credentials}");
                assert_eq!(text(&request.body), expected, "{label}");
                zap.reply(&request, &["1.0", &round.to_string(), "200", "OK", "JOE", "\u{3}X-m\0\0\0\u{2}yo"]).await;
                soon(&label, connecting).await.unwrap();
                send(&other, "SRVID|hello").await;
                let received = soon(&label, dealer.recv_from()).await.unwrap();
                assert_eq!(received.from.user_id, "JOE", "{label}");
                assert_eq!(received.from.property("x-m").unwrap(), "yo", "{label}");
                other.disconnect(&at).unwrap();
                eventually(&label, || connected(&other) == 0).await;
            }
        }
    }
}

#[tokio::test]
async fn the_handler_may_name_the_peer_unless_it_names_itself() {
    let context = Context::new();
    let zap = ZapHandler::bind(&context, Rep).await;
    let router = socket_with(&context, Router, Options::new().zap_domain("hall".into()));
    let at = bind(&router, "tcp").await;
    for (own, expected) in [("", "gate"), ("mine", "mine")] {
        let dealer = socket_with(&context, Dealer, Options::new().routing_id(own.into()));
        let connecting = dealer.connect(&at).unwrap();
        let request = zap.request(own).await;
        let id = text(&request.body).split('|').nth(1).unwrap().to_owned();
        zap.reply(&request, &["1.0", &id, "200", "", "", "\u{8}Identity\0\0\0\u{4}gate"]).await;
        soon(own, connecting).await.unwrap();
        send(&dealer, "hello").await;
        assert_eq!(receive(&router, own).await, format!("{expected}|hello"));
        dealer.close(LONG).await;
        eventually(own, || connected(&router) == 0).await;
    }
}

/// 300 closes at once and says nothing, so that the client comes back as usual; 400 and 500 say ERROR
#[tokio::test]
async fn every_status_has_its_effect() {
    let context = Context::new();
    let zap = ZapHandler::bind(&context, Router).await;
    let pull = socket_with(&context, Pull, Options::new().zap_domain("hall".into()));
    let at = bind(&pull, "tcp").await;
    let mut events = pull.events();
    for (status, said) in [("300", None), ("400", Some("400")), ("500", Some("500"))] {
        let mut peer = RawPeer::connect(&at).await;
        peer.write(&opening("PUSH")).await;
        let request = zap.request(status).await;
        let id = text(&request.body).split('|').nth(1).unwrap().to_owned();
        zap.reply(&request, &["1.0", &id, status, "because", "", ""]).await;
        let heard = peer.read_to_end().await;
        let error = said.map(|code| frame(4, format!("\x05ERROR\x03{code}").as_bytes())).unwrap_or_default();
        assert_eq!(heard[64..], error, "{status}");
        let denied = event(&mut events, "denied").await;
        assert!(matches!(denied.kind, EventKind::Denied { code, reason, .. } if code == status && reason == "because"));
    }
    // Of 300 a client of ours hears nothing, and comes back as usual until it is let in
    let push = socket_with(&context, Push, Options::new().reconnect_interval(Some(QUICK)));
    let connecting = push.connect(&at).unwrap();
    for status in ["300", "300", "300", "300", "200"] {
        let request = zap.request(status).await;
        let id = text(&request.body).split('|').nth(1).unwrap().to_owned();
        zap.reply(&request, &["1.0", &id, status, "", "", ""]).await;
    }
    soon("it is let in", connecting).await.unwrap();
}

/// Each named, and told to the peer as 500
#[tokio::test]
async fn a_handler_that_answers_wrongly_lets_nobody_in() {
    let context = Context::new();
    let zap = ZapHandler::bind(&context, Router).await;
    let pull = socket_with(&context, Pull, Options::new().zap_domain("hall".into()));
    let at = bind(&pull, "tcp").await;
    let good = ["", "1.0", "ID", "200", "OK", "joe", ""];
    let altered = |index: usize, frame: &'static str| {
        let mut frames = good.to_vec();
        frames[index] = frame;
        frames
    };
    for (frames, reason) in [
        (good[..6].to_vec(), "zap-reply-frames"),
        ([&good[..], &[""]].concat(), "zap-reply-frames"),
        (altered(0, "x"), "zap-reply-delimiter"),
        (altered(1, "2.0"), "zap-reply-version"),
        (altered(2, "0"), "zap-reply-request-id"),
        (altered(3, "201"), "zap-reply-status"),
        (altered(6, "\u{7f}"), "zap-reply-metadata"),
    ] {
        let mut events = pull.events();
        let mut peer = RawPeer::connect(&at).await;
        peer.write(&opening("PUSH")).await;
        let request = zap.request(reason).await;
        let id = text(&request.body).split('|').nth(1).unwrap().to_owned();
        let frames: Vec<String> = frames.iter().map(|part| part.replace("ID", &id)).collect();
        let message: Message =
            [request.from.clone()].into_iter().chain(frames.iter().map(|f| f.clone().into())).collect();
        zap.socket.send(message).await.unwrap();
        assert_eq!(peer.read_to_end().await[64..], *b"\x04\x0a\x05ERROR\x03500", "{reason}");
        let failed = event(&mut events, "handshake-failed").await;
        assert!(matches!(failed.kind, EventKind::HandshakeFailed { reason: told, .. } if told == reason), "{failed}");
        eventually(reason, || pull.stats().closes.contains_key(reason)).await;
    }
}

#[tokio::test]
async fn a_handler_of_another_type_lets_nobody_in() {
    let context = Context::new();
    let handler = socket(&context, Pull);
    soon("bind", handler.bind("inproc://zeromq.zap.01").unwrap()).await.unwrap();
    let pull = socket_with(&context, Pull, Options::new().zap_domain("hall".into()));
    let at = bind(&pull, "tcp").await;
    let push = socket(&context, Push);
    assert!(soon("a refusal", push.connect(&at).unwrap()).await.is_err());
    eventually("it is counted", || pull.stats().closes.contains_key("zap-handler")).await;
}

#[tokio::test]
async fn a_silent_handler_ends_with_the_handshakes_deadline() {
    let context = Context::new();
    let zap = ZapHandler::bind(&context, Rep).await;
    let options = Options::new().zap_domain("hall".into()).handshake_interval(Some(Duration::from_millis(100)));
    let pull = socket_with(&context, Pull, options);
    let at = bind(&pull, "tcp").await;
    let mut peer = RawPeer::connect(&at).await;
    peer.write(&opening("PUSH")).await;
    let late = zap.request("the request").await;
    assert_eq!(peer.read_to_end().await.len(), 64, "the greeting, and no READY");
    assert_eq!(pull.stats().closes.get("handshake-timed-out"), Some(&1));
    // Its late answer harms nobody
    zap.reply(&late, &["1.0", "1", "200", "", "", ""]).await;
    let push = socket(&context, Push);
    let connecting = push.connect(&at).unwrap();
    let request = zap.request("the next").await;
    zap.reply(&request, &["1.0", "2", "200", "", "", ""]).await;
    soon("it is let in", connecting).await.unwrap();
}

/// They have no place for it, and would slip by
#[tokio::test]
async fn peers_of_old_versions_are_refused_where_somebody_is_asked() {
    for options in [Options::new().zap_domain("hall".into()), Options::new().plain_server(true)] {
        let context = Context::new();
        context.set_authenticator(Some(Doorman::new(|_| AuthVerdict::allow())));
        let pull = socket_with(&context, Pull, options);
        let at = bind(&pull, "tcp").await;
        let old: [&[u8]; 3] =
            [b"\x01\0\x06\0hello", b"\xff\0\0\0\0\0\0\0\x01\x7f\x01\x08\0\0", b"\xff\0\0\0\0\0\0\0\x01\x7f\0\x08\0\0"];
        for (count, octets) in (1..).zip(old) {
            let mut peer = RawPeer::connect(&at).await;
            peer.write(octets).await;
            peer.read_to_end().await;
            eventually("it is counted", || pull.stats().closes.get("version-too-old") == Some(&count)).await;
        }
        assert_eq!(pull.stats().received, 0);
    }
}

/// Requests beyond what a handler should have at a time wait for their turn
#[tokio::test]
async fn a_slow_handler_is_not_flooded() {
    let context = Context::new();
    let zap = ZapHandler::bind(&context, Router).await;
    let options = Options::new().zap_domain("hall".into()).backlog(4096);
    let pull = socket_with(&context, Pull, options);
    let at = bind(&pull, "tcp").await;
    let mut peers = Vec::new();
    for _ in 0..1100 {
        let mut peer = RawPeer::connect(&at).await;
        peer.write(&opening("PUSH")).await;
        // Its greeting is answered when its READY was read or soon will be
        let mut greeting = [0; 64];
        soon("a greeting", peer.stream.read_exact(&mut greeting)).await.unwrap();
        peers.push(peer);
    }
    let mut requests = Vec::new();
    for number in 0..1024 {
        requests.push(zap.request(number).await);
    }
    for _ in 0..100 {
        tokio::task::yield_now().await;
        assert!(zap.socket.try_recv().is_err(), "1,024 at a time");
    }
    let mut answered = 0;
    while answered < peers.len() {
        for request in std::mem::take(&mut requests) {
            let id = text(&request.body).split('|').nth(1).unwrap().to_owned();
            zap.reply(&request, &["1.0", &id, "200", "", "", ""]).await;
            answered += 1;
        }
        if answered < peers.len() {
            requests.push(zap.request(answered).await);
        }
    }
    eventually("all are let in", || connected(&pull) == peers.len()).await;
}

#[tokio::test]
async fn an_endpoint_may_have_options_of_its_own() {
    let context = Context::new();
    context.set_authenticator(Some(Doorman::new(|_| AuthVerdict::allow())));
    let pull = socket(&context, Pull);
    let open = bind(&pull, "tcp").await;
    let guarded = pull.bind_with(endpoint("tcp"), Options::new().plain_server(true)).unwrap();
    let guarded = soon("bind", guarded).await.unwrap();
    let push = socket(&context, Push);
    soon("in the clear", push.connect(&open).unwrap()).await.unwrap();
    let error = soon("NULL where PLAIN is due", push.connect(&guarded).unwrap()).await.unwrap_err();
    assert!(matches!(&error, ConnectError::Refused { code, .. } if code == "mechanism-mismatch"), "{error}");
    push.disconnect(&guarded).unwrap();
    soon("with a password", push.connect_with(&guarded, joe("x")).unwrap()).await.unwrap();
    eventually("both are there", || connected(&pull) == 2).await;
    send(&push, "one").await;
    send(&push, "two").await;
    let mut mechanisms = Vec::new();
    for _ in 0..2 {
        mechanisms.push(soon("a message", pull.recv_from()).await.unwrap().from.mechanism);
    }
    mechanisms.sort_unstable();
    assert_eq!(mechanisms, ["NULL", "PLAIN"]);
}

#[tokio::test]
async fn contradictions_are_told_when_binding_and_connecting() {
    let context = Context::new();
    let contradictory = Options::new().curve_server(true);
    let pull = socket_with(&context, Pull, contradictory.clone());
    let mut events = pull.events();
    let error = soon("bind", pull.bind("tcp://127.0.0.1:*").unwrap()).await.unwrap_err();
    assert!(matches!(error, BindError::Security { .. }), "{error}");
    assert!(error.to_string().ends_with("a CURVE server needs a key of its own: set curve_secret_key"), "{error}");
    event(&mut events, "bind-failed").await;
    let error = soon("connect", pull.connect("tcp://127.0.0.1:9").unwrap()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Security { .. }), "{error}");
    event(&mut events, "connect-failed").await;
    assert_eq!((pull.stats().peers.len(), pull.endpoints().len()), (0, 0));
    // Nobody minds on an endpoint with good options of its own
    soon("bind", pull.bind_with("tcp://127.0.0.1:*", Options::new()).unwrap()).await.unwrap();
}

/// A server that closes without a word is not hammered, and whoever waits for the connection is told what it may be
#[tokio::test]
async fn silence_in_a_secured_handshake_is_taken_for_a_refusal_after_a_while() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = format!("tcp://{}", listener.local_addr().unwrap());
    let context = Context::new();
    let options = joe("x")
        .reconnect_interval(Some(Duration::from_millis(8)))
        .refused_retry_interval(Some(Duration::from_millis(100)));
    let push = socket_with(&context, Push, options);
    let mut events = push.events();
    let connecting = push.connect(at).unwrap();
    let hang_up = async {
        for _ in 0..6 {
            let (stream, _) = listener.accept().await.unwrap();
            let mut peer = RawPeer { stream };
            peer.write(&greeting("PLAIN")).await;
            let mut said = [0; 64 + 14];
            peer.stream.read_exact(&mut said).await.unwrap();
        }
    };
    soon("it comes again", hang_up).await;
    let error = soon("an outcome", connecting).await.unwrap_err();
    let ConnectError::Refused { code, reason, .. } = &error else { panic!("{error}") };
    assert!(code == "peer-closed" && reason.contains("PLAIN handshake without a word"), "{error}");
    for due in [8, 16, 32, 64, 100, 100] {
        let failed = event(&mut events, "handshake-failed").await;
        let EventKind::HandshakeFailed { retry_in_ms: Some(ms), .. } = failed.kind else { panic!("{failed}") };
        assert!((due / 2..=due).contains(&ms), "{ms} where {due} was due");
    }
}

/// Who says nothing makes room for who does
#[tokio::test]
async fn the_oldest_unfinished_handshake_gives_way() {
    let context = Context::new();
    let pull = socket_with(&context, Pull, Options::new().max_handshakes(3));
    let at = bind(&pull, "tcp").await;
    let mut silent = Vec::new();
    let mut events = pull.events();
    for _ in 0..5 {
        silent.push(RawPeer::connect(&at).await);
        event(&mut events, "accepted").await;
    }
    for peer in &mut silent[..2] {
        peer.read_to_end().await;
    }
    assert_eq!(pull.stats().closes.get("too-many-handshakes"), Some(&2));
    let push = socket(&context, Push);
    connect(&push, &pull, &at).await;
    // That one is done, so that the place it took is free again
    silent[2].read_to_end().await;
    assert_eq!(pull.stats().closes.get("too-many-handshakes"), Some(&3));
    let _another = RawPeer::connect(&at).await;
    event(&mut events, "accepted").await;
    connect(&socket(&context, Push), &pull, &at).await;
    send(&push, "hello").await;
    assert_eq!(receive(&pull, "who is in").await, "hello");
}

/// Says what it is told to, and notes what it is asked
struct Doorman {
    decide: Box<dyn Fn(&AuthRequest<'_>) -> AuthVerdict + Send + Sync>,
    asked: Mutex<Vec<String>>,
}

impl Doorman {
    fn new(decide: impl Fn(&AuthRequest<'_>) -> AuthVerdict + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { decide: Box::new(decide), asked: Mutex::default() })
    }
}

impl std::fmt::Debug for Doorman {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Doorman")
    }
}

impl Authenticator for Doorman {
    fn authenticate(&self, request: &AuthRequest<'_>) -> AuthVerdict {
        let claimed = match request.credentials {
            Credentials::Plain { username, password } => {
                format!("PLAIN {} {}", username.escape_ascii(), password.escape_ascii())
            }
            other => other.mechanism().to_owned(),
        };
        let asked = format!("{} {} {:?} {claimed}", request.domain, request.address, request.ip);
        self.asked.lock().unwrap().push(asked);
        (self.decide)(request)
    }
}

/// A handler as anybody may write it
struct ZapHandler {
    socket: Socket,
}

struct Request {
    /// The routing id in front, with ROUTER and SERVER
    from: bytes::Bytes,
    body: Message,
}

impl ZapHandler {
    async fn bind(context: &Context, socket_type: SocketType) -> Self {
        let socket = socket(context, socket_type);
        soon("bind", socket.bind("inproc://zeromq.zap.01").unwrap()).await.unwrap();
        Self { socket }
    }

    async fn request(&self, label: impl std::fmt::Display) -> Request {
        let mut body = soon(format!("a ZAP request: {label}"), self.socket.recv()).await.unwrap();
        let mut from = bytes::Bytes::new();
        if self.socket.socket_type() != Rep {
            from = body.pop_front().unwrap();
            assert!(body.pop_front().unwrap().is_empty(), "{label}: the delimiter");
        }
        Request { from, body }
    }

    async fn reply(&self, request: &Request, frames: &[&str]) {
        let envelope = [request.from.clone(), bytes::Bytes::new()];
        let envelope = envelope.into_iter().filter(|_| self.socket.socket_type() != Rep);
        let frames = frames.iter().map(|frame| bytes::Bytes::copy_from_slice(frame.as_bytes()));
        let sent = self.socket.send(envelope.chain(frames).collect()).await;
        // Who asked may be gone, and a SERVER says so
        assert!(sent.is_ok() || self.socket.socket_type() == Server);
    }
}

fn joe(password: &str) -> Options {
    Options::new().plain_username("joe".into()).plain_password(password.into())
}

/// A 3.1 greeting with this mechanism
fn greeting(mechanism: &str) -> Vec<u8> {
    let mut octets = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x01".to_vec();
    octets.extend(mechanism.bytes());
    octets.resize(64, 0);
    octets
}

const QUICK: Duration = Duration::from_millis(5);
