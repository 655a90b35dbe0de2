//! The actor's other commands, and its configuration.

use std::time::Duration;

use tidings_gossip::{Actor, MemberStatus};
use tidings_socket::{Context, DealerSocket};

use crate::support::*;

async fn send(actor: &Actor, frames: &[&str]) {
    actor.send(frames).await.unwrap();
}

async fn reply(actor: &Actor, frames: &[&str]) -> String {
    send(actor, frames).await;
    next(actor).await
}

/// The sheet, section 5: what PORT tells after which BIND
#[tokio::test]
async fn port_tells_of_the_last_bind() {
    let context = Context::new();
    let actor = Actor::start(&context, "alpha");
    assert_eq!(reply(&actor, &["PORT"]).await, "PORT|0");
    send(&actor, &["BIND", "tcp://127.0.0.1:*"]).await;
    let first = reply(&actor, &["PORT"]).await;
    let port: u16 = first.strip_prefix("PORT|").unwrap().parse().unwrap();
    assert_ne!(port, 0);
    send(&actor, &["BIND", &format!("tcp://127.0.0.1:{port}")]).await;
    assert_eq!(reply(&actor, &["PORT"]).await, "PORT|-1", "it is taken");
    send(&actor, &["BIND", "nonsense"]).await;
    assert_eq!(reply(&actor, &["PORT"]).await, "PORT|-1");
    send(&actor, &["BIND", "inproc://port"]).await;
    assert_eq!(reply(&actor, &["PORT"]).await, "PORT|0");
}

#[tokio::test]
async fn what_it_has_beyond_the_original() {
    let context = Context::new();
    let actor = Actor::start(&context, "alpha");
    for (key, value) in [("a/1", "one"), ("a/2", "two"), ("b", "three")] {
        send(&actor, &["PUBLISH", key, value]).await;
        assert_eq!(next(&actor).await, format!("DELIVER|{key}|{value}"));
    }
    assert_eq!(reply(&actor, &["GET", "a/1"]).await, "VALUE|a/1|one");
    assert_eq!(reply(&actor, &["GET", "none"]).await, "NONE|none");
    let mut listed = vec![reply(&actor, &["LIST", "a/"]).await];
    listed.extend([next(&actor).await, next(&actor).await]);
    assert_eq!(listed, ["TUPLE|a/1|one", "TUPLE|a/2|two", "END|2"]);
    let mut watched = vec![reply(&actor, &["WATCH", "b"]).await];
    watched.push(next(&actor).await);
    assert_eq!(watched, ["TUPLE|b|three", "END|1"]);
    send(&actor, &["UNPUBLISH", "b"]).await;
    assert_eq!([next(&actor).await, next(&actor).await], ["UNPUBLISHED|b", "REMOVED|b|deleted"]);
    assert_eq!(reply(&actor, &["UNPUBLISH", "b"]).await, "NONE|b");
    assert_eq!(reply(&actor, &["STATUS"]).await, "STATUS|2");
    let members = reply(&actor, &["MEMBERS"]).await;
    assert!(members.starts_with("MEMBERS|[") && members.contains("\"name\":\"alpha\""), "{members}");
    send(&actor, &["PUBLISH", "b", "x", "1h"]).await;
    assert_eq!([next(&actor).await, next(&actor).await], ["DELIVER|b|x", "PUT|b|x"]);
    let long = reply(&actor, &["GET", "b", "LONG"]).await;
    let life: u64 = long.split('|').nth(4).unwrap().parse().unwrap();
    assert!(life > 3_590_000 && life <= 3_600_000, "{long}");
}

#[tokio::test]
async fn what_it_can_not_do_it_says() {
    let context = Context::new();
    let actor = Actor::start(&context, "alpha");
    for (frames, part) in [
        (&["DANCE"][..], "ERROR|DANCE: there is no such command"),
        (&["bind", "tcp://*:1"], "ERROR|bind: there is no such command"),
        (&["BIND"], "ERROR|BIND: the command has too few frames"),
        (&["PUBLISH", "key"], "ERROR|PUBLISH takes a key, a value"),
        (&["PUBLISH", "$tidings/node/1", "x"], "ERROR|keys that begin with $tidings/ are reserved"),
        (&["GET"], "ERROR|GET takes a key"),
        (&["SET SECRETKEY D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs"], "ERROR|SET SECRETKEY: there is no such command"),
        (&[], "ERROR|"),
    ] {
        let told = reply(&actor, frames).await;
        assert!(told.starts_with(part), "{frames:?}: {told}");
    }
    assert!(reply(&actor, &["PUBLISH", &"k".repeat(256), "x"]).await.contains("256 octets"));
    assert_eq!(reply(&actor, &["STATUS"]).await, "STATUS|0", "and it goes on");
}

#[tokio::test(start_paused = true)]
async fn a_file_is_loaded_applied_saved_and_followed() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("gossip.cfg");
    let (path, saved) = (file.to_str().unwrap(), directory.path().join("saved.cfg"));
    std::fs::write(&file, "# ours\nserver\n    timeout = 100\nzgossip\n    bind\n        endpoint = inproc://first\n")
        .unwrap();
    let context = Context::new();
    let actor = Actor::start(&context, "alpha");
    send(&actor, &["LOAD", path]).await;
    // What is bound by a file doesn't change PORT
    assert_eq!(reply(&actor, &["PORT"]).await, "PORT|0");
    let dealer = DealerSocket::new(&context).unwrap();
    soon("the first endpoint", dealer.connect("inproc://first").unwrap()).await.unwrap();
    send(&actor, &["SET", "server/verbose", "1"]).await;
    send(&actor, &["SAVE", saved.to_str().unwrap()]).await;
    assert_eq!(reply(&actor, &["STATUS"]).await, "STATUS|0");
    assert_eq!(
        std::fs::read_to_string(&saved).unwrap(),
        concat!(
            "# ours\n\nserver = \"\"\n    timeout = \"100\"\n    verbose = \"1\"\n",
            "zgossip = \"\"\n    bind = \"\"\n        endpoint = \"inproc://first\"\n"
        )
    );
    std::fs::write(
        &file,
        "zgossip\n    bind\n        endpoint = inproc://first\n    bind\n        endpoint = inproc://second\n",
    )
    .unwrap();
    let dealer = DealerSocket::new(&context).unwrap();
    // Within a second of the change
    soon("the second endpoint", dealer.connect("inproc://second").unwrap()).await.unwrap();
}

/// The sheet, section 2: a client keeps the timeout that was in force when it came
#[tokio::test(start_paused = true)]
async fn clients_are_forgotten_when_a_timeout_was_set_and_never_before() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("empty.cfg");
    std::fs::write(&file, "").unwrap();
    let context = Context::new();
    // What is set, and when a client that said HELLO is forgotten: the second tuple tells, for it comes only to clients
    for (name, commands, forgotten_after) in [
        ("none", &[][..], None),
        ("set", &[["SET", "server/timeout", "100"]][..], Some(100)),
        ("zero", &[["SET", "server/timeout", "0"]][..], None),
        ("loaded", &[["LOAD", file.to_str().unwrap(), ""]][..], Some(60_000)),
    ] {
        for (silence, is_known) in [
            (forgotten_after.unwrap_or(3_600_000_u64) - 10, true),
            (forgotten_after.unwrap_or(3_600_000) + 10, forgotten_after.is_none()),
        ] {
            let actor = Actor::start(&context, name);
            for command in commands {
                send(&actor, command).await;
            }
            let endpoint = format!("inproc://{name}-{silence}");
            send(&actor, &["BIND", &endpoint]).await;
            send(&actor, &["PUBLISH", "one", "1"]).await;
            assert_eq!(reply(&actor, &["STATUS"]).await, "DELIVER|one|1");
            assert_eq!(next(&actor).await, "STATUS|1");
            let client = DealerSocket::new(&context).unwrap();
            soon("connect", client.connect(&endpoint).unwrap()).await.unwrap();
            say(&client, HELLO.to_vec()).await;
            soon("the first tuple", client.recv()).await.unwrap();
            tokio::time::advance(Duration::from_millis(silence)).await;
            send(&actor, &["PUBLISH", "two", "2"]).await;
            assert_eq!(reply(&actor, &["STATUS"]).await, "DELIVER|two|2");
            say(&client, PING.to_vec()).await;
            let mut heard = Vec::new();
            while heard.last().is_none_or(|frame| frame != PONG) {
                heard.push(soon("an answer", client.recv()).await.unwrap().first().to_vec());
            }
            let knows = heard.contains(&publish("two", "2"));
            assert_eq!(knows, is_known, "{name}, silent for {silence} ms: {heard:?}");
        }
    }
}

/// Its keys may come after what it publishes: it is the node of its key then
#[tokio::test]
async fn keys_may_be_set_when_tuples_were_published() {
    let context = Context::new();
    let (server, client) = (Actor::start(&context, "server"), Actor::start(&context, "client"));
    let (server_key, client_key) = (key(), key());
    send(&server, &["SET SECRETKEY", &server_key.to_z85()]).await;
    send(&server, &["BIND", "tcp://127.0.0.1:*"]).await;
    let port = reply(&server, &["PORT"]).await.replace("PORT|", "");
    send(&client, &["PUBLISH", "early", "bird"]).await;
    assert_eq!(next(&client).await, "DELIVER|early|bird");
    assert_eq!([reply(&client, &["WATCH", "l"]).await, reply(&client, &["STATUS"]).await], ["END|0", "STATUS|1"]);
    send(&client, &["SET SECRETKEY", &client_key.to_z85()]).await;
    send(&client, &["CONNECT", &format!("tcp://127.0.0.1:{port}"), &server_key.public().to_string()]).await;
    assert_eq!(next(&server).await, "DELIVER|early|bird");
    assert_eq!(reply(&client, &["STATUS"]).await, "STATUS|1", "nothing is delivered twice");
    send(&client, &["PUBLISH", "late", "riser"]).await;
    let told = [next(&client).await, next(&client).await];
    assert_eq!(told, ["DELIVER|late|riser", "PUT|late|riser"], "watches go on");
}

/// A file may say that CURVE is asked for, and where the keys are
#[tokio::test]
async fn a_file_may_ask_for_curve() {
    let directory = tempfile::tempdir().unwrap();
    let (file, certificate) = (directory.path().join("gossip.cfg"), directory.path().join("server.key"));
    let server_key = key();
    tidings_keystore::Certificate::own(server_key.clone()).save(&certificate).unwrap();
    let ipc = format!("ipc://{}", directory.path().join("socket").display());
    std::fs::write(
        &file,
        format!(
            "zgossip\n    security\n        mechanism = curve\n        secret-key = \"{}\"\n    bind\n        endpoint = \"{ipc}\"\n",
            certificate.display()
        ),
    )
    .unwrap();
    let context = Context::new();
    let server = Actor::start(&context, "server");
    send(&server, &["LOAD", file.to_str().unwrap()]).await;
    let client = Actor::start(&context, "client");
    send(&client, &["SET SECRETKEY", &key().to_z85()]).await;
    send(&client, &["CONNECT", &ipc, &server_key.public().to_string()]).await;
    send(&client, &["PUBLISH", "k", "v"]).await;
    assert_eq!(next(&server).await, "DELIVER|k|v");
    // Nobody comes in without
    let plain = node(&context, "plain");
    let outcome = soon("an answer", plain.connect(&ipc).unwrap()).await;
    assert!(matches!(outcome, Err(tidings_socket::ConnectError::Refused { .. })), "{outcome:?}");
}

/// What is wrong with keys and files is logged, and nothing else happens
#[tokio::test]
async fn what_can_not_be_loaded_or_saved_leaves_the_actor_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let nowhere = directory.path().join("no/such/folder");
    let context = Context::new();
    let actor = Actor::start(&context, "alpha");
    for frames in [
        &["LOAD", nowhere.to_str().unwrap()][..],
        &["CONFIGURE", nowhere.to_str().unwrap()],
        &["SAVE", nowhere.to_str().unwrap()],
        &["SET", "a//b", "x"],
        &["SET SECRETKEY", "not a key"],
        &["SET PUBLICKEY", "neither"],
        &["CONNECT", "inproc://a", "no key either"],
        &["CONNECT", "nonsense"],
        &["VERBOSE"],
    ] {
        send(&actor, frames).await;
    }
    assert_eq!(reply(&actor, &["STATUS"]).await, "STATUS|0");
    assert_eq!(reply(&actor, &["PEERS"]).await, "PEERS|[]");
}

/// Replies that nobody reads hold up commands, but not the end
#[tokio::test]
async fn an_actor_that_nobody_reads_ends_all_the_same() {
    const REPLIES: usize = 1050;
    let context = Context::new();
    let told = Actor::start(&context, "told");
    for _ in 0..REPLIES {
        send(&told, &["PORT"]).await;
    }
    send(&told, &["$TERM"]).await;
    soon("the end after $TERM", told.ended()).await;
    for _ in 0..REPLIES {
        assert_eq!(next(&told).await, "PORT|0");
    }
    assert_eq!(told.recv().await, None);
    let dropped = Actor::start(&context, "dropped");
    send(&dropped, &["BIND", "inproc://dropped"]).await;
    let other = node(&context, "other");
    soon("connect", other.connect("inproc://dropped").unwrap()).await.unwrap();
    member_is(&other, "dropped", MemberStatus::Up).await;
    for _ in 0..REPLIES {
        send(&dropped, &["PORT"]).await;
    }
    drop(dropped);
    member_is(&other, "dropped", MemberStatus::Left).await;
}

/// A second CONNECT to the same endpoint leads to no quarrel (the sheet, section 8)
#[tokio::test]
async fn connecting_twice_is_once() {
    let context = Context::new();
    let (base, alpha) = (Actor::start(&context, "base"), Actor::start(&context, "alpha"));
    send(&base, &["BIND", "inproc://twice"]).await;
    for _ in 0..3 {
        send(&alpha, &["CONNECT", "inproc://twice"]).await;
    }
    send(&alpha, &["PUBLISH", "k", "v"]).await;
    assert_eq!(next(&base).await, "DELIVER|k|v");
    let peers = reply(&base, &["PEERS"]).await;
    assert_eq!(peers.matches("\"link\"").count(), 1, "{peers}");
}
