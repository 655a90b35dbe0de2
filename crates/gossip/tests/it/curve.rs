//! Networks with CURVE: who is let in, who is not.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidings_gossip::{ConnectOptions, Gossip, MemberStatus, NodeConfig, NodeId};
use tidings_socket::{
    AuthRequest, AuthVerdict, Authenticator, ConnectError, Context, Credentials, CurvePublicKey, CurveSecretKey,
    Options,
};

use crate::support::*;

#[derive(Debug, Default)]
struct List {
    known: Mutex<Vec<CurvePublicKey>>,
}

impl Authenticator for List {
    fn authenticate(&self, request: &AuthRequest<'_>) -> AuthVerdict {
        match request.credentials {
            Credentials::Curve { public_key } if self.known.lock().unwrap().contains(public_key) => {
                AuthVerdict::allow()
            }
            _ => AuthVerdict::deny("not on the list"),
        }
    }
}

fn sealed(context: &Context, name: &str, key: &CurveSecretKey) -> Gossip {
    let options = Options::new().refused_retry_interval(Some(Duration::from_millis(50)));
    Gossip::builder(context).name(name).curve(key.clone()).options(options).start().unwrap()
}

fn to(key: &CurveSecretKey) -> ConnectOptions {
    ConnectOptions::default().server_key(key.public())
}

#[tokio::test]
async fn nodes_with_keys_agree_and_are_who_their_keys_say() {
    let context = Context::new();
    let keys = [key(), key(), key()];
    let directory = tempfile::tempdir().unwrap();
    let (alpha, beta, gamma) =
        (sealed(&context, "alpha", &keys[0]), sealed(&context, "beta", &keys[1]), sealed(&context, "gamma", &keys[2]));
    let tcp = bind(&alpha, "tcp://127.0.0.1:*").await;
    let ipc = bind(&beta, format!("ipc://{}", directory.path().join("beta").display())).await;
    soon("beta", beta.connect_with(&tcp, to(&keys[0])).unwrap()).await.unwrap();
    soon("gamma", gamma.connect_with(&ipc, to(&keys[1])).unwrap()).await.unwrap();
    for (number, node) in [&alpha, &beta, &gamma].into_iter().enumerate() {
        put(node, &format!("from/{number}"), "sealed").await;
    }
    agree(&[&alpha, &beta, &gamma], 3).await;
    assert_eq!(gamma.id(), NodeId::of_key(keys[2].public().as_octets()));
    member_is(&alpha, "gamma", MemberStatus::Up).await;
    assert!(alpha.members().iter().any(|member| member.id == gamma.id()));
}

#[tokio::test]
async fn who_is_not_let_in_learns_nothing_and_may_be_let_in_later() {
    let context = Context::new();
    let list = Arc::new(List::default());
    context.set_authenticator(Some(list.clone()));
    let (hub_key, friend_key, stranger_key) = (key(), key(), key());
    list.known.lock().unwrap().push(friend_key.public());
    let hub = sealed(&context, "hub", &hub_key);
    let at = bind(&hub, "tcp://127.0.0.1:*").await;
    put(&hub, "secret", "42").await;
    let (friend, stranger) = (sealed(&context, "friend", &friend_key), sealed(&context, "stranger", &stranger_key));
    let refused = soon("an answer", stranger.connect_with(&at, to(&hub_key)).unwrap()).await;
    assert!(matches!(&refused, Err(ConnectError::Refused { code, .. }) if code == "400"), "{refused:?}");
    friend.connect_with(&at, to(&hub_key)).unwrap();
    has(&friend, "secret", "42").await;
    assert!(stranger.is_empty() && stranger.peers().is_empty());
    // It goes on trying, slowly
    list.known.lock().unwrap().push(stranger_key.public());
    has(&stranger, "secret", "42").await;
}

#[tokio::test]
async fn an_intruder_without_a_key_stays_outside() {
    let context = Context::new();
    let hub_key = key();
    let hub = sealed(&context, "hub", &hub_key);
    let at = bind(&hub, "tcp://127.0.0.1:*").await;
    put(&hub, "secret", "42").await;
    // Without CURVE at all
    let plain = node(&context, "plain");
    let outcome = soon("an answer", plain.connect(&at).unwrap()).await;
    assert!(matches!(outcome, Err(ConnectError::Refused { .. })), "{outcome:?}");
    // With the server's key, but none of its own
    let outcome = soon("an answer", node(&context, "keyless").connect_with(&at, to(&hub_key)).unwrap()).await;
    assert!(outcome.unwrap_err().to_string().contains("set curve_secret_key"));
    // With another server's key
    let other = sealed(&context, "misled", &key());
    let outcome = soon("an answer", other.connect_with(&at, to(&key())).unwrap()).await;
    // The server has nothing to say to whoever can't seal for it
    assert!(outcome.unwrap_err().to_string().contains("is not that server's key"));
    assert_eq!((hub.peers().len(), hub.len()), (0, 1));
    assert!(plain.is_empty() && other.is_empty());
}

/// A node whose id is not of its key is refused: nobody takes another's name
#[tokio::test]
async fn a_forged_id_is_refused() {
    let context = Context::new();
    let (hub_key, victim_key, forger_key) = (key(), key(), key());
    let hub = sealed(&context, "hub", &hub_key);
    let at = bind(&hub, "tcp://127.0.0.1:*").await;
    let victim = sealed(&context, "victim", &victim_key);
    soon("connect", victim.connect_with(&at, to(&hub_key)).unwrap()).await.unwrap();
    put(&victim, "mine", "yes").await;
    has(&hub, "mine", "yes").await;
    let forger = Gossip::builder(&context).name("forger").curve(forger_key).id(victim.id()).start().unwrap();
    soon("connect", forger.connect_with(&at, to(&hub_key)).unwrap()).await.unwrap();
    put(&forger, "mine", "no").await;
    soon("it is refused", async {
        let mut events = hub.events();
        let count = || hub.stats().refusals.count(tidings_gossip::Refusal::ForgedId);
        while count() == 0 {
            events.next().await.unwrap();
        }
    })
    .await;
    assert_eq!(hub.get("mine").unwrap().value, "yes");
    links(&hub, 1).await;
}

/// Overlay links find the keys of nodes that they were only told of
#[tokio::test]
async fn nodes_that_find_each_other_use_each_others_keys() {
    let context = Context::new();
    let keys: Vec<CurveSecretKey> = (0..4).map(|_| key()).collect();
    let nodes: Vec<Gossip> = (0..4)
        .map(|number| {
            let config =
                NodeConfig { name: format!("node{number}"), overlay: true, degree: 2, ..NodeConfig::default() };
            Gossip::builder(&context).config(config).curve(keys[number].clone()).start().unwrap()
        })
        .collect();
    let at = bind(&nodes[0], "tcp://127.0.0.1:*").await;
    for node in &nodes[1..] {
        bind(node, "tcp://127.0.0.1:*").await;
        soon("connect", node.connect_with(&at, to(&keys[0])).unwrap()).await.unwrap();
    }
    eventually(
        || {
            let links = nodes.iter().map(|node| (node.stats().links, node.view().samples.len(), node.counts()));
            format!("links among themselves: {:?}", links.collect::<Vec<_>>())
        },
        || nodes[1..].iter().any(|node| node.stats().links >= 2),
    )
    .await;
}
