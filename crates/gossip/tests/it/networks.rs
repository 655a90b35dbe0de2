//! Nodes over every transport and all of them mixed, restarts, many connections, large values.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use tempfile::TempDir;
use tidings_gossip::{Gossip, Lifetime, MemberStatus, NodeId, Wire};
use tidings_socket::{Context, Options};

use crate::support::*;

#[tokio::test]
async fn two_nodes_agree_over_every_transport() {
    let files = Files::new();
    for at in [
        "tcp://127.0.0.1:*".to_owned(),
        format!("ipc://{}", files.path("ipc").display()),
        "inproc://agree".to_owned(),
        "tls://127.0.0.1:*".to_owned(),
        format!("unix+tls://{}", files.path("tls").display()),
    ] {
        let context = Context::new();
        let alpha = Gossip::builder(&context).name("alpha").options(files.server()).start().unwrap();
        let beta = Gossip::builder(&context).name("beta").options(files.client()).start().unwrap();
        put(&alpha, "before/alpha", "1").await;
        put(&beta, "before/beta", "2").await;
        let bound = bind(&alpha, &at).await;
        soon(&at, beta.connect(&bound).unwrap()).await.unwrap();
        put(&alpha, "after/alpha", "3").await;
        put(&beta, "after/beta", "4").await;
        agree(&[&alpha, &beta], 4).await;
        assert_eq!(alpha.peers()[0].wire, Wire::Tidings, "{at}: they know each other");
        beta.remove("before/alpha").unwrap();
        lacks(&alpha, "before/alpha").await;
        soon("stop", beta.stop(LONG)).await;
        member_is(&alpha, "beta", MemberStatus::Left).await;
        soon("stop", alpha.stop(LONG)).await;
    }
}

#[tokio::test]
async fn all_transports_in_one_network() {
    let files = Files::new();
    let context = Context::new();
    let hub = Gossip::builder(&context).name("hub").options(files.server()).start().unwrap();
    let endpoints = [
        "tcp://127.0.0.1:*".to_owned(),
        format!("ipc://{}", files.path("ipc").display()),
        "inproc://hub".to_owned(),
        "tls://127.0.0.1:*".to_owned(),
    ];
    let mut nodes = vec![hub];
    for (number, at) in endpoints.iter().enumerate() {
        let bound = bind(&nodes[0], at).await;
        let options = files.client();
        let node = Gossip::builder(&context).name(format!("node{number}")).options(options).start().unwrap();
        soon(at, node.connect(&bound).unwrap()).await.unwrap();
        nodes.push(node);
    }
    // And a ring over what they bind themselves
    for number in 1..nodes.len() {
        let at = bind(&nodes[number], "tcp://127.0.0.1:*").await;
        let next = number % (nodes.len() - 1) + 1;
        soon("the ring", nodes[next].connect(&at).unwrap()).await.unwrap();
    }
    for (number, node) in nodes.iter().enumerate() {
        for key in 0..20 {
            put(node, &format!("{number}/{key}"), "value").await;
        }
    }
    let all: Vec<&Gossip> = nodes.iter().collect();
    agree(&all, 100).await;
}

/// A node may come before those that it connects to, and they may come back
#[tokio::test]
async fn a_server_that_restarts_is_told_again() {
    let directory = tempfile::tempdir().unwrap();
    for at in [format!("ipc://{}", directory.path().join("restart").display()), "tcp://127.77.6.1:0".to_owned()] {
        let mut at = at;
        let client_context = Context::new();
        let quick = Options::new().reconnect_interval(Some(Duration::from_millis(10)));
        let client = Gossip::builder(&client_context).name("client").options(quick).start().unwrap();
        put(&client, "client", "1").await;
        for life in 1..=3 {
            let context = Context::new();
            let server = Gossip::builder(&context).name("server").id(NodeId(7)).start().unwrap();
            at = bind(&server, &at).await.to_string();
            if life == 1 {
                client.connect(at.clone()).unwrap();
            }
            put(&server, &format!("life/{life}"), "lived").await;
            has(&client, &format!("life/{life}"), "lived").await;
            has(&server, "client", "1").await;
            // What it knew in earlier lives comes back to it
            holds(&server, 1 + life).await;
            // It is killed: nothing is said
            context.close(Duration::ZERO).await;
        }
        holds(&client, 4).await;
    }
}

/// A client that is killed and comes back owns what it put before
#[tokio::test]
async fn a_client_that_restarts_agrees_and_its_session_is_over() {
    let context = Context::new();
    let server = node(&context, "server");
    let at = bind(&server, "tcp://127.0.0.1:*").await;
    for life in 0..3 {
        let own = Context::new();
        let client = Gossip::builder(&own).name("client").id(NodeId(8)).start().unwrap();
        client.connect(&at).unwrap();
        client.put_with("session", life.to_string(), Lifetime::Session).await.unwrap();
        put(&client, "kept", &life.to_string()).await;
        put(&client, &format!("life/{life}"), "lived").await;
        has(&server, "session", &life.to_string()).await;
        has(&server, "kept", &life.to_string()).await;
        agree(&[&server, &client], life + 3).await;
        own.close(Duration::ZERO).await;
    }
}

#[tokio::test]
async fn a_thousand_connections_to_one_node() {
    const CLIENTS: usize = 1000;
    let context = Context::builder().max_sockets(4000).build().unwrap();
    let server = node(&context, "server");
    let at = bind(&server, "inproc://thousand").await;
    put(&server, "from", "server").await;
    let mut events = server.events();
    let clients: Vec<Gossip> = (0..CLIENTS)
        .map(|number| {
            let config = tidings_gossip::NodeConfig {
                name: format!("client{number}"),
                presence: tidings_gossip::Presence::Links,
                ..tidings_gossip::NodeConfig::default()
            };
            let client = Gossip::builder(&context).config(config).start().unwrap();
            client.connect(&at).unwrap();
            client
        })
        .collect();
    soon("links", async {
        while server.stats().links < CLIENTS {
            events.next().await.unwrap();
        }
    })
    .await;
    put(&clients[17], "from", "client17").await;
    for client in &clients {
        has(client, "from", "client17").await;
    }
    put(&server, "last", "word").await;
    for client in &clients {
        has(client, "last", "word").await;
    }
}

/// The other way round: one node that connects to many
#[tokio::test]
async fn one_node_connects_to_many() {
    const SERVERS: usize = 100;
    let context = Context::new();
    let client = node(&context, "client");
    let servers: Vec<Gossip> = (0..SERVERS).map(|number| node(&context, &format!("server{number}"))).collect();
    for (number, server) in servers.iter().enumerate() {
        let at = bind(server, format!("inproc://many-{number}")).await;
        soon(number, client.connect(&at).unwrap()).await.unwrap();
        put(server, &format!("server/{number}"), "here").await;
    }
    let mut all: Vec<&Gossip> = servers.iter().collect();
    all.push(&client);
    agree(&all, SERVERS).await;
}

#[tokio::test]
async fn keys_of_255_octets_and_values_of_a_mebibyte() {
    let context = Context::new();
    let (alpha, beta, _) = pair(&context, "tcp://127.0.0.1:*").await;
    let (key, value) = ("k".repeat(255), "v".repeat(1 << 20));
    for number in 0..8 {
        put(&alpha, &format!("{number}{}", &key[1..]), &value).await;
        put(&beta, &format!("large/{number}"), &value).await;
    }
    agree(&[&alpha, &beta], 16).await;
    assert!(beta.list("").iter().all(|tuple| tuple.value == value));
    let largest = alpha.put("largest", "v".repeat(4 << 20)).await;
    assert!(largest.is_ok());
    holds(&beta, 17).await;
    assert!(alpha.put("larger", "v".repeat((4 << 20) + 1)).await.is_err());
}

/// A peer that takes nothing keeps nobody else from news, and gets the newest when it goes on
#[tokio::test]
async fn a_client_that_does_not_read_holds_nobody_up() {
    let context = Context::new();
    let (alpha, beta, at) = pair(&context, "tcp://127.0.0.1:*").await;
    let options = Options::new().recv_hwm(1).recv_buffer(4096);
    let lazy = context.socket_with(tidings_socket::SocketType::Dealer, options).unwrap();
    soon("connect", lazy.connect(&at).unwrap()).await.unwrap();
    lazy.send(HELLO.to_vec().into()).await.unwrap();
    links(&alpha, 2).await;
    let value = "v".repeat(10_000);
    for number in 0..2000 {
        put(&alpha, &format!("{}", number % 500), &format!("{number}{value}")).await;
    }
    has(&beta, "499", &format!("1999{value}")).await;
    assert!(alpha.counts().blocked > 0, "its queue was full");
    let mut known = BTreeMap::new();
    while !are_newest(&known) {
        note(&mut known, soon("the rest", lazy.recv()).await.unwrap().first());
    }
}

/// The same with a server that ours connects to
#[tokio::test]
async fn a_server_that_does_not_read_gets_the_newest_when_it_does() {
    let context = Context::new();
    let options = Options::new().recv_hwm(1).recv_buffer(4096);
    let lazy = context.socket_with(tidings_socket::SocketType::Router, options).unwrap();
    let at = soon("bind", lazy.bind("tcp://127.0.0.1:*").unwrap()).await.unwrap();
    let (alpha, beta, _) = pair(&context, "tcp://127.0.0.1:*").await;
    soon("connect", alpha.connect(&at).unwrap()).await.unwrap();
    let value = "v".repeat(10_000);
    for number in 0..2000 {
        put(&alpha, &format!("{}", number % 500), &format!("{number}{value}")).await;
    }
    has(&beta, "499", &format!("1999{value}")).await;
    eventually(|| "a full queue".to_owned(), || alpha.counts().blocked > 0).await;
    let mut known = BTreeMap::new();
    while !are_newest(&known) {
        let message = soon("the rest", lazy.recv()).await.unwrap();
        note(&mut known, message.frame(1).unwrap());
    }
}

/// Keeps what a PUBLISH says; the digits that its value begins with
fn note(known: &mut BTreeMap<String, String>, frame: &[u8]) {
    if frame.get(2) != Some(&2) {
        return;
    }
    let key_len = usize::from(frame[4]);
    let (key, rest) = (&frame[5..5 + key_len], &frame[5 + key_len + 4..]);
    let digits = rest.iter().take_while(|octet| octet.is_ascii_digit()).copied().collect();
    known.insert(String::from_utf8(key.to_vec()).unwrap(), String::from_utf8(digits).unwrap());
}

fn are_newest(known: &BTreeMap<String, String>) -> bool {
    known.len() == 500 && known.iter().all(|(key, value)| *value == (key.parse::<u32>().unwrap() + 1500).to_string())
}

/// A node ends when it is told to, when its last handle goes, and when its context does
#[tokio::test]
async fn the_ends_of_nodes() {
    let context = Context::new();
    let hub = node(&context, "hub");
    let at = bind(&hub, "tcp://127.0.0.1:*").await;
    let (stopped, dropped) = (node(&context, "stopped"), node(&context, "dropped"));
    for node in [&stopped, &dropped] {
        soon("connect", node.connect(&at).unwrap()).await.unwrap();
        member_is(&hub, &node.status().name, MemberStatus::Up).await;
    }
    let report = soon("stop", stopped.stop(LONG)).await;
    assert_eq!(report.unsent, 0);
    assert_eq!(soon("again", stopped.stop(LONG)).await, report);
    member_is(&hub, "stopped", MemberStatus::Left).await;
    assert!(stopped.connect("inproc://late").is_err(), "it is over");
    drop(dropped);
    member_is(&hub, "dropped", MemberStatus::Left).await;
    context.close(Duration::ZERO).await;
    soon("the end", hub.ended()).await;
}

/// A peer that reads nothing does not hold the end up
#[tokio::test]
async fn a_stop_keeps_its_deadline() {
    let context = Context::new();
    let node = node(&context, "alpha");
    let at = bind(&node, "tcp://127.0.0.1:*").await;
    let options = Options::new().recv_hwm(1).recv_buffer(4096);
    let lazy = context.socket_with(tidings_socket::SocketType::Dealer, options).unwrap();
    soon("connect", lazy.connect(&at).unwrap()).await.unwrap();
    lazy.send(HELLO.to_vec().into()).await.unwrap();
    links(&node, 1).await;
    for number in 0..200 {
        put(&node, &number.to_string(), &"v".repeat(100_000)).await;
    }
    eventually(|| "a full queue".to_owned(), || node.counts().blocked > 0).await;
    let began = std::time::Instant::now();
    let report = soon("stop", node.stop(Duration::from_millis(300))).await;
    assert!(report.unsent > 0, "{report:?}");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

/// Two that connect to each other have two links, and no quarrel about it
#[tokio::test]
async fn nodes_may_connect_to_each_other_and_to_themselves() {
    let context = Context::new();
    let (alpha, beta, at) = pair(&context, "tcp://127.0.0.1:*").await;
    let back = bind(&beta, "tcp://127.0.0.1:*").await;
    soon("back", alpha.connect(&back).unwrap()).await.unwrap();
    links(&alpha, 2).await;
    put(&alpha, "a", "1").await;
    put(&beta, "b", "2").await;
    agree(&[&alpha, &beta], 2).await;
    assert_eq!((alpha.peers().len(), beta.peers().len()), (2, 2));
    // To itself: that link is refused, the node goes on
    soon("itself", alpha.connect(&at).unwrap()).await.unwrap();
    eventually(
        || "the link to itself is refused".to_owned(),
        || alpha.stats().refusals.count(tidings_gossip::Refusal::ForgedId) > 0,
    )
    .await;
    links(&alpha, 2).await;
    put(&alpha, "a", "3").await;
    has(&beta, "a", "3").await;
}

#[tokio::test]
async fn disconnecting_and_unbinding_are_for_good() {
    let context = Context::new();
    let (alpha, beta, at) = pair(&context, "tcp://127.0.0.1:*").await;
    links(&alpha, 1).await;
    assert!(beta.connect(&at).is_err(), "it is connected there");
    beta.disconnect(&at).unwrap();
    links(&beta, 0).await;
    links(&alpha, 0).await;
    assert!(beta.disconnect(&at).is_err());
    alpha.unbind(&at).unwrap();
    assert!(alpha.unbind(&at).is_err() && alpha.endpoints().is_empty());
}

/// Certificates of an authority of our own
struct Files {
    folder: TempDir,
}

impl Files {
    fn new() -> Self {
        let files = Self { folder: tempfile::tempdir().unwrap() };
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        files.write("authority.pem", &params.self_signed(&key).unwrap().pem());
        let issuer = Issuer::new(params, key);
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned(), "hub".to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().unwrap();
        files.write("hub.pem", &params.signed_by(&key, &issuer).unwrap().pem());
        files.write("hub.key", &key.serialize_pem());
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn file(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
        std::fs::set_permissions(self.path(name), std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn server(&self) -> Options {
        Options::new().tls_certificate(self.file("hub.pem")).tls_key(self.file("hub.key"))
    }

    fn client(&self) -> Options {
        Options::new().tls_authority(self.file("authority.pem")).tls_peer_name("hub".into())
    }
}
