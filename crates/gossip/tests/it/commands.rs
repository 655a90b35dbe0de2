//! Text commands on a node's ROUTER: from a DEALER, from a REQ, and what the permit says.

use std::time::Duration;

use tidings_gossip::{Access, Gossip, Lifetime};
use tidings_socket::{Context, Message, Options, ReqSocket, SocketType};

use crate::support::*;

#[tokio::test]
async fn a_dealer_may_ask_and_write() {
    let context = Context::new();
    let node = node(&context, "alpha");
    let at = bind(&node, "tcp://127.0.0.1:*").await;
    put(&node, "a/1", "one").await;
    put(&node, "a/2", "two").await;
    let dealer = dealer(&context, &at).await;
    assert_eq!(ask(&dealer, &["GET", "a/1"]).await, "VALUE|a/1|one");
    assert_eq!(ask(&dealer, &["GET", "c"]).await, "NONE|c");
    assert_eq!(ask(&dealer, &["PUBLISH", "b", "three"]).await, "PUBLISHED|b");
    has(&node, "b", "three").await;
    assert_eq!(ask(&dealer, &["PUBLISH", "brief", "x", "30s"]).await, "PUBLISHED|brief");
    assert_eq!(node.get("brief").unwrap().lifetime, Lifetime::Ttl(Duration::from_secs(30)));
    assert_eq!(ask(&dealer, &["UNPUBLISH", "b"]).await, "UNPUBLISHED|b");
    assert_eq!(node.get("b"), None);
    let mut listed = vec![ask(&dealer, &["LIST", "a/"]).await];
    listed.extend([hear(&dealer).await, hear(&dealer).await]);
    assert_eq!(listed, ["TUPLE|a/1|one", "TUPLE|a/2|two", "END|2"]);
    let long = ask(&dealer, &["GET", "a/1", "LONG"]).await;
    let stamp = node.get("a/1").unwrap().stamp.0;
    assert_eq!(long, format!("VALUE|a/1|one|{}|permanent|{stamp}", node.id()));
    let status = ask(&dealer, &["STATUS"]).await;
    assert!(status.starts_with("STATUS|3|{") && status.contains("\"name\":\"alpha\""), "{status}");
    for word in ["PEERS", "MEMBERS", "GRAPH"] {
        let told = ask(&dealer, &[word]).await;
        let json = told.strip_prefix(&format!("{word}|")).unwrap();
        serde_json::from_str::<serde_json::Value>(json).unwrap();
    }
    assert_eq!(node.peers(), [], "who asks is no link");
    for (frames, part) in [
        (&["BIND", "tcp://*:*"][..], "there is no command BIND"),
        (&["SET", "server/timeout", "1"], "there is no command SET"),
        (&["LOAD", "/etc/passwd"], "there is no command LOAD"),
        (&["SAVE", "/tmp/x"], "there is no command SAVE"),
        (&["CONNECT", "tcp://127.0.0.1:1"], "there is no command CONNECT"),
        (&["PUBLISH", "$tidings/node/1", "x"], "reserved"),
        (&["GET"], "GET takes a key"),
    ] {
        let told = ask(&dealer, frames).await;
        assert!(told.starts_with("ERROR|") && told.contains(part), "{frames:?}: {told}");
    }
}

#[tokio::test]
async fn a_req_may_ask_too() {
    let context = Context::new();
    let node = node(&context, "alpha");
    let at = bind(&node, "inproc://req").await;
    put(&node, "k", "v").await;
    let req = ReqSocket::new(&context).unwrap();
    soon("connect", req.connect(&at).unwrap()).await.unwrap();
    for (frames, expected) in [
        (&["GET", "k"][..], "VALUE|k|v"),
        (&["LIST", ""], "ERROR|a REQ gets one reply to each request: use a DEALER for LIST and WATCH"),
        (&["PUBLISH", "k", "w"], "PUBLISHED|k"),
    ] {
        let request = Message::multipart(frames.iter().map(|frame| frame.as_bytes().to_vec()));
        soon("request", req.send(request)).await.unwrap();
        assert_eq!(text(&soon("reply", req.recv()).await.unwrap()), expected);
    }
}

#[tokio::test]
async fn a_watch_goes_on_until_its_peer_leaves() {
    let context = Context::new();
    let node = node(&context, "alpha");
    let at = bind(&node, "tcp://127.0.0.1:*").await;
    put(&node, "w/1", "one").await;
    let watcher = dealer(&context, &at).await;
    assert_eq!(ask(&watcher, &["WATCH", "w/"]).await, "TUPLE|w/1|one");
    assert_eq!(hear(&watcher).await, "END|1");
    put(&node, "w/2", "two").await;
    assert_eq!(hear(&watcher).await, "PUT|w/2|two");
    put(&node, "other", "x").await;
    node.remove("w/1").unwrap();
    assert_eq!(hear(&watcher).await, "REMOVED|w/1|deleted");
    // Other commands are answered in between
    assert_eq!(ask(&watcher, &["GET", "w/2"]).await, "VALUE|w/2|two");
    drop(watcher);
    let again = dealer(&context, &at).await;
    assert_eq!(ask(&again, &["WATCH", "w/"]).await, "TUPLE|w/2|two");
}

/// A list is read on as its reader takes it, however long it is
#[tokio::test]
async fn a_long_list_waits_for_its_reader() {
    const TUPLES: usize = 5000;
    let context = Context::new();
    let node = node(&context, "alpha");
    let at = bind(&node, "tcp://127.0.0.1:*").await;
    let value = "v".repeat(2000);
    for number in 0..TUPLES {
        put(&node, &format!("{number:05}"), &value).await;
    }
    let options = Options::new().recv_hwm(10).recv_buffer(4096);
    let reader = context.socket_with(SocketType::Dealer, options).unwrap();
    soon("connect", reader.connect(&at).unwrap()).await.unwrap();
    soon("ask", reader.send(Message::multipart(["LIST", ""]))).await.unwrap();
    // Others are served while the list waits
    let other = dealer(&context, &at).await;
    assert_eq!(ask(&other, &["GET", "nothing"]).await, "NONE|nothing");
    for number in 0..TUPLES {
        let told = soon(number, reader.recv()).await.unwrap();
        assert_eq!(told.frame(1).unwrap(), format!("{number:05}").as_bytes());
    }
    assert_eq!(text(&soon("the end", reader.recv()).await.unwrap()), format!("END|{TUPLES}"));
}

/// Nobody makes a node hold commands without bound
#[tokio::test]
async fn who_asks_without_reading_is_hung_up() {
    let context = Context::new();
    let node = node(&context, "alpha");
    let at = bind(&node, "tcp://127.0.0.1:*").await;
    put(&node, "k", &"v".repeat(100_000)).await;
    let options = Options::new().recv_hwm(1).recv_buffer(4096).reconnect_interval(None);
    let greedy = context.socket_with(SocketType::Dealer, options).unwrap();
    soon("connect", greedy.connect(&at).unwrap()).await.unwrap();
    let asking = async {
        while node.counts().slow_guests == 0 {
            let _ = greedy.send(Message::multipart(["GET", "k"])).await;
        }
    };
    soon("it is hung up", asking).await;
    let other = dealer(&context, &at).await;
    assert_eq!(ask(&other, &["STATUS"]).await.split('|').next(), Some("STATUS"), "the node goes on");
}

#[tokio::test]
async fn the_permit_says_who_may_what() {
    let context = Context::new();
    // By a property, as a test may have it; the program asks the keystore's rules
    let node = Gossip::builder(&context)
        .name("alpha")
        .permit(|origin, access, key| {
            let role = origin.property("X-Role").map(|role| &role[..]);
            match (role, access) {
                (Some(b"admin"), _) => true,
                (Some(b"reader"), Access::Read | Access::List) => {
                    key.starts_with(b"public/") || access == Access::Read && key == b"sec"
                }
                (Some(b"sensor"), Access::Write) => key.starts_with(b"sensor/"),
                (Some(b"sensor"), Access::List) => key.is_empty(),
                _ => false,
            }
        })
        .start()
        .unwrap();
    let at = bind(&node, "tcp://127.0.0.1:*").await;
    put(&node, "public/a", "1").await;
    put(&node, "secret/a", "2").await;
    put(&node, "sec", "3").await;
    let role = |role: &str| {
        let dealer =
            context.socket_with(SocketType::Dealer, Options::new().metadata(format!("X-Role:{role}"))).unwrap();
        drop(dealer.connect(&at).unwrap());
        dealer
    };
    let ask = async |dealer: &tidings_socket::Socket, frames: &[&str]| {
        let message = Message::multipart(frames.iter().map(|frame| frame.as_bytes().to_vec()));
        soon("sending", dealer.send(message)).await.unwrap();
        text(&soon("reply", dealer.recv()).await.unwrap())
    };
    let (admin, reader, sensor, nobody) = (role("admin"), role("reader"), role("sensor"), role("nobody"));
    assert_eq!(ask(&reader, &["GET", "public/a"]).await, "VALUE|public/a|1");
    assert_eq!(ask(&reader, &["GET", "secret/a"]).await, "ERROR|you may not read secret/a");
    assert_eq!(ask(&reader, &["LIST", "pub"]).await, "ERROR|you may not read pub");
    assert_eq!(ask(&reader, &["LIST", ""]).await, "ERROR|you may not read all keys");
    // Who may read a key may list and watch it, and sees nothing of those that begin like it
    for word in ["LIST", "WATCH"] {
        assert_eq!(ask(&reader, &[word, "sec"]).await, "TUPLE|sec|3");
        assert_eq!(text(&soon("the end", reader.recv()).await.unwrap()), "END|1");
    }
    put(&node, "secret/b", "4").await;
    put(&node, "sec", "5").await;
    assert_eq!(text(&soon("a change", reader.recv()).await.unwrap()), "PUT|sec|5");
    assert_eq!(ask(&reader, &["PUBLISH", "public/a", "x"]).await, "ERROR|you may not write public/a");
    assert_eq!(ask(&reader, &["STATUS"]).await, "ERROR|you may not see this");
    assert_eq!(ask(&sensor, &["PUBLISH", "sensor/1", "20"]).await, "PUBLISHED|sensor/1");
    assert_eq!(ask(&sensor, &["UNPUBLISH", "secret/a"]).await, "ERROR|you may not write secret/a");
    assert_eq!(ask(&nobody, &["GET", "public/a"]).await, "ERROR|you may not read public/a");
    assert!(ask(&admin, &["STATUS"]).await.starts_with("STATUS|5|"));
    let refused = node.counts().not_permitted;
    // A ZGP client, too: what it may not write is left out, and counted
    soon("HELLO", sensor.send(HELLO.to_vec().into())).await.unwrap();
    soon("PUBLISH", sensor.send(publish("secret/a", "mine").into())).await.unwrap();
    soon("PUBLISH", sensor.send(publish("sensor/2", "21").into())).await.unwrap();
    has(&node, "sensor/2", "21").await;
    assert_eq!(node.get("secret/a").unwrap().value, "2");
    assert_eq!(node.counts().not_permitted, refused + 1);
    // One that may read nothing is turned away, and so is a node that may not join
    let mut events = nobody.events();
    soon("HELLO", nobody.send(HELLO.to_vec().into())).await.unwrap();
    soon("it is turned away", async { while events.next().await.unwrap().kind.name() != "disconnected" {} }).await;
    let intruder = Gossip::builder(&context).name("intruder").start().unwrap();
    soon("connecting", intruder.connect(&at).unwrap()).await.unwrap();
    links(&intruder, 0).await;
    assert!(node.members().iter().all(|member| member.name != "intruder"));
    let friend = Gossip::builder(&context).options(Options::new().metadata("X-Role:admin".into())).start().unwrap();
    friend.connect(&at).unwrap();
    has(&friend, "secret/a", "2").await;
}
