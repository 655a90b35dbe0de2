//! The self test of CZMQ's zgossip, as its manual page has it (seed 002, lines 157 to 344), line by line.
//!
//! Each step carries the line of the manual in a comment. Where the manual sleeps, this waits for what the sleep was for.

use std::sync::{Arc, Mutex};

use tidings_gossip::Actor;
use tidings_socket::{
    AuthRequest, AuthVerdict, Authenticator, Context, Credentials, DealerSocket, Message, PairSocket, RepSocket,
};

use crate::support::*;

/// Lines 157 to 183: basic client-to-server operation of the protocol
#[tokio::test]
async fn a_client_of_the_protocol() {
    let context = Context::new();
    // zactor_t *server = zactor_new (zgossip, "server");
    let server = Actor::start(&context, "server");
    // zstr_send (server, "VERBOSE");
    server.send(["VERBOSE"]).await.unwrap();
    // zstr_sendx (server, "BIND", "inproc://zgossip", NULL);
    server.send(["BIND", "inproc://zgossip"]).await.unwrap();
    // zsock_t *client = zsock_new (ZMQ_DEALER);
    let client = DealerSocket::new(&context).unwrap();
    // int rc = zsock_connect (client, "inproc://zgossip"); assert (rc == 0);
    soon("the connection", client.connect("inproc://zgossip").unwrap()).await.unwrap();
    // Send HELLO, which gets no message
    say(&client, HELLO.to_vec()).await;
    // Send PING, expect PONG back
    say(&client, PING.to_vec()).await;
    // zgossip_msg_recv (message, client); assert (zgossip_msg_id (message) == ZGOSSIP_MSG_PONG);
    let reply = soon("PONG", client.recv()).await.unwrap();
    assert_eq!((reply.frame_count(), reply.first()), (1, PONG));
    // zactor_destroy (&server);
    drop(server);
}

/// Lines 185 to 264: peer-to-peer operations, with what happens on each pipe
#[tokio::test]
async fn peers() {
    let context = Context::new();
    // zactor_t *base = zactor_new (zgossip, "base");
    let base = Actor::start(&context, "base");
    // Set a 100msec timeout on clients so we can test expiry
    // zstr_sendx (base, "SET", "server/timeout", "100", NULL);
    base.send(["SET", "server/timeout", "100"]).await.unwrap();
    // zstr_sendx (base, "BIND", "inproc://base", NULL);
    base.send(["BIND", "inproc://base"]).await.unwrap();
    // zactor_t *alpha = zactor_new (zgossip, "alpha");
    let alpha = Actor::start(&context, "alpha");
    // zstr_sendx (alpha, "CONNECT", "inproc://base", NULL);
    alpha.send(["CONNECT", "inproc://base"]).await.unwrap();
    // zstr_sendx (alpha, "PUBLISH", "inproc://alpha-1", "service1", NULL);
    alpha.send(["PUBLISH", "inproc://alpha-1", "service1"]).await.unwrap();
    // zstr_sendx (alpha, "PUBLISH", "inproc://alpha-2", "service2", NULL);
    alpha.send(["PUBLISH", "inproc://alpha-2", "service2"]).await.unwrap();
    // zactor_t *beta = zactor_new (zgossip, "beta");
    let beta = Actor::start(&context, "beta");
    // zstr_sendx (beta, "CONNECT", "inproc://base", NULL);
    beta.send(["CONNECT", "inproc://base"]).await.unwrap();
    // zstr_sendx (beta, "PUBLISH", "inproc://beta-1", "service1", NULL);
    beta.send(["PUBLISH", "inproc://beta-1", "service1"]).await.unwrap();
    // zstr_sendx (beta, "PUBLISH", "inproc://beta-2", "service2", NULL);
    beta.send(["PUBLISH", "inproc://beta-2", "service2"]).await.unwrap();
    // got nothing
    // zclock_sleep (200);   -- for alpha to know all four: it is asked, and DELIVER comes as it happens
    let mut heard = Vec::new();
    for _ in 0..4 {
        heard.push(next(&alpha).await);
    }
    // zstr_send (alpha, "STATUS");
    alpha.send(["STATUS"]).await.unwrap();
    heard.push(next(&alpha).await);
    assert_eq!(
        heard,
        [
            // zstr_recvx (alpha, &command, &key, &value, NULL); … and three more
            "DELIVER|inproc://alpha-1|service1",
            "DELIVER|inproc://alpha-2|service2",
            "DELIVER|inproc://beta-1|service1",
            "DELIVER|inproc://beta-2|service2",
            // zstr_recvx (alpha, &command, &status, NULL); assert (atoi (status) == 4);
            "STATUS|4",
        ]
    );
    // zactor_destroy (&base); zactor_destroy (&alpha); zactor_destroy (&beta);
    for actor in [&base, &alpha, &beta] {
        actor.send(["$TERM"]).await.unwrap();
        soon("the end", actor.ended()).await;
    }
}

/// The same with STATUS asked before anything is read, as the manual has it: the pipe keeps the order of what happened
#[tokio::test]
async fn deliveries_stand_before_a_status_that_was_asked_for_later() {
    let context = Context::new();
    let alpha = Actor::start(&context, "alpha");
    alpha.send(["PUBLISH", "one", "1"]).await.unwrap();
    alpha.send(["STATUS"]).await.unwrap();
    alpha.send(["PUBLISH", "two", "2"]).await.unwrap();
    alpha.send(["PUBLISH", "two", "2"]).await.unwrap();
    alpha.send(["STATUS"]).await.unwrap();
    soon("all of it", async {
        for expected in ["DELIVER|one|1", "STATUS|1", "DELIVER|two|2", "STATUS|2"] {
            assert_eq!(next(&alpha).await, expected);
        }
    })
    .await;
}

/// zauth with `CURVE *`: every key is let in, and what was asked is kept
#[derive(Debug, Default)]
struct AllowAny {
    asked: Mutex<Vec<(String, String, &'static str)>>,
}

impl Authenticator for AllowAny {
    fn authenticate(&self, request: &AuthRequest<'_>) -> AuthVerdict {
        let asked = (request.domain.to_owned(), request.address.to_owned(), request.credentials.mechanism());
        self.asked.lock().unwrap().push(asked);
        // zstr_sendx(auth,"ALLOW","127.0.0.1",NULL);
        match (request.address, request.credentials) {
            ("127.0.0.1", Credentials::Curve { .. }) => AuthVerdict::allow(),
            _ => AuthVerdict::deny("only CURVE from 127.0.0.1"),
        }
    }
}

/// Lines 266 to 344: CURVE, with an authenticator
#[tokio::test]
async fn curve() {
    let context = Context::new();
    // zactor_t *auth = zactor_new(zauth, NULL); … zstr_sendx (auth, "CURVE", CURVE_ALLOW_ANY, NULL);
    let auth = Arc::new(AllowAny::default());
    context.set_authenticator(Some(auth.clone()));
    curve_in(&context).await;
    let asked = auth.asked.lock().unwrap().clone();
    assert_eq!(asked, [("TEST".to_owned(), "127.0.0.1".to_owned(), "CURVE")], "the authenticator was asked");
}

/// The same with an authenticator that is a socket, as zauth is one (ZAP, RFC 27)
#[tokio::test]
async fn curve_with_a_zap_handler() {
    let context = Context::new();
    let handler = RepSocket::new(&context).unwrap();
    soon("the handler", handler.bind("inproc://zeromq.zap.01").unwrap()).await.unwrap();
    let answering = async {
        let mut asked = 0;
        loop {
            let request = handler.recv().await.unwrap();
            let frame = |index| request.frame(index).unwrap();
            assert_eq!([frame(2), frame(3), frame(5)], [&b"TEST"[..], b"127.0.0.1", b"CURVE"]);
            let reply = [b"1.0", frame(1), b"200", b"OK", b"", b""].map(<[u8]>::to_vec);
            handler.send(Message::multipart(reply)).await.unwrap();
            asked += 1;
            assert_eq!(asked, 1, "one connection, one question");
        }
    };
    tokio::select! {
        () = answering => unreachable!("it goes on"),
        () = curve_in(&context) => {}
    }
}

async fn curve_in(context: &Context) {
    // server = zactor_new (zgossip, "server");
    let server = Actor::start(context, "server");
    // zcert_t *client1_cert = zcert_new (); zcert_t *server_cert = zcert_new ();
    let (client1_cert, server_cert) = (key(), key());
    // zstr_sendx (server, "SET PUBLICKEY", zcert_public_txt (server_cert), NULL);
    server.send(["SET PUBLICKEY", &server_cert.public().to_string()]).await.unwrap();
    // zstr_sendx (server, "SET SECRETKEY", zcert_secret_txt (server_cert), NULL);
    server.send(["SET SECRETKEY", &server_cert.to_z85()]).await.unwrap();
    // zstr_sendx (server, "ZAP DOMAIN", "TEST", NULL);
    server.send(["ZAP DOMAIN", "TEST"]).await.unwrap();
    // zstr_sendx (server, "BIND", "tcp://127.0.0.1:*", NULL);
    server.send(["BIND", "tcp://127.0.0.1:*"]).await.unwrap();
    // zstr_sendx (server, "PORT", NULL); zstr_recvx (server, &command, &value, NULL); assert (streq (command, "PORT"));
    server.send(["PORT"]).await.unwrap();
    let reply = next(&server).await;
    let (command, value) = reply.split_once('|').unwrap();
    assert_eq!(command, "PORT");
    // int port = atoi (value);
    let port: u16 = value.parse().unwrap();
    assert_ne!(port, 0);
    // sprintf (endpoint, "tcp://127.0.0.1:%d", port);
    let endpoint = format!("tcp://127.0.0.1:{port}");
    // zactor_t *client1 = zactor_new (zgossip, "client");
    let client1 = Actor::start(context, "client");
    client1.send(["SET PUBLICKEY", &client1_cert.public().to_string()]).await.unwrap();
    client1.send(["SET SECRETKEY", &client1_cert.to_z85()]).await.unwrap();
    client1.send(["ZAP DOMAIN", "TEST"]).await.unwrap();
    // const char *public_txt = zcert_public_txt (server_cert);
    let public_txt = server_cert.public().to_string();
    // zstr_sendx (client1, "CONNECT", endpoint, public_txt, NULL);
    client1.send(["CONNECT", &endpoint, &public_txt]).await.unwrap();
    // zstr_sendx (client1, "PUBLISH", "tcp://127.0.0.1:9001", "service1", NULL);
    client1.send(["PUBLISH", "tcp://127.0.0.1:9001", "service1"]).await.unwrap();
    // zclock_sleep (500); zstr_send (server, "STATUS"); zclock_sleep (500);
    // zstr_recvx (server, &command, &key, &value, NULL);
    // assert (streq (command, "DELIVER")); assert (streq (value, "service1"));
    assert_eq!(next(&server).await, "DELIVER|tcp://127.0.0.1:9001|service1");
    server.send(["STATUS"]).await.unwrap();
    assert_eq!(next(&server).await, "STATUS|1");
    // zstr_sendx (client1, "$TERM", NULL); zstr_sendx (server, "$TERM", NULL); zclock_sleep(500);
    for actor in [client1, server] {
        actor.send(["$TERM"]).await.unwrap();
        soon("the end", actor.ended()).await;
    }
}

/// The same commands over a socket, as a zactor's pipe is one
#[tokio::test]
async fn over_a_pair_socket() {
    let context = Context::new();
    let (near, far) = (PairSocket::new(&context).unwrap(), PairSocket::new(&context).unwrap());
    soon("bind", far.bind("inproc://actor").unwrap()).await.unwrap();
    let actor = Actor::start(&context, "alpha");
    let serving = tokio::spawn(async move { actor.serve(&far).await });
    soon("connect", near.connect("inproc://actor").unwrap()).await.unwrap();
    let send = async |frames: &[&str]| {
        let message = Message::multipart(frames.iter().map(|frame| frame.as_bytes().to_vec()));
        soon("sending", near.send(message)).await.unwrap();
    };
    send(&["BIND", "tcp://127.0.0.1:*"]).await;
    send(&["PORT"]).await;
    send(&["PUBLISH", "key", "value"]).await;
    send(&["STATUS"]).await;
    let mut heard = Vec::new();
    for _ in 0..3 {
        heard.push(text(&soon("a reply", near.recv()).await.unwrap()));
    }
    assert!(heard[0].strip_prefix("PORT|").unwrap().parse::<u16>().unwrap() > 0, "{heard:?}");
    assert_eq!(heard[1..], ["DELIVER|key|value", "STATUS|1"]);
    send(&["$TERM"]).await;
    soon("the end", serving).await.unwrap();
}
