//! Watches and events.

use tidings_gossip::{Change, Event, Lifetime, MemberStatus, RemovalCause};
use tidings_socket::Context;

use crate::support::*;

async fn told(watch: &mut tidings_gossip::Watch) -> String {
    match soon("a change", watch.next()).await.expect("the node goes on") {
        Change::Put { tuple, previous } => {
            let previous = previous.map(|value| format!(" for {}", value.escape_ascii())).unwrap_or_default();
            format!("{} = {}{previous}", tuple.key.escape_ascii(), tuple.value.escape_ascii())
        }
        Change::Removed { key, cause } => format!("{} {}", key.escape_ascii(), cause.name()),
        Change::Current => "current".to_owned(),
        Change::Missed { count } => format!("missed {count}"),
        _ => "something else".to_owned(),
    }
}

#[tokio::test]
async fn what_is_known_then_what_changes() {
    let context = Context::new();
    let (alpha, beta, _) = pair(&context, "inproc://watching").await;
    put(&alpha, "a/1", "x").await;
    put(&alpha, "b/1", "y").await;
    has(&beta, "b/1", "y").await;
    let mut watch = beta.watch("a/");
    assert_eq!([told(&mut watch).await, told(&mut watch).await], ["a/1 = x", "current"]);
    put(&alpha, "a/1", "z").await;
    assert_eq!(told(&mut watch).await, "a/1 = z for x");
    put(&beta, "a/2", "own").await;
    assert_eq!(told(&mut watch).await, "a/2 = own");
    alpha.remove("a/1").unwrap();
    assert_eq!(told(&mut watch).await, "a/1 deleted");
    alpha.put_with("a/3", "brief", Lifetime::Ttl(std::time::Duration::from_millis(300))).await.unwrap();
    assert_eq!([told(&mut watch).await, told(&mut watch).await], ["a/3 = brief", "a/3 expired"]);
}

#[tokio::test]
async fn a_slow_watcher_begins_anew_and_ends_with_what_is() {
    let context = Context::new();
    let node = node(&context, "alpha");
    put(&node, "gone", "x").await;
    let mut watch = node.watch_bounded("", 10);
    assert_eq!([told(&mut watch).await, told(&mut watch).await], ["gone = x", "current"]);
    for number in 0..1000 {
        put(&node, &format!("k{}", number % 3), &number.to_string()).await;
    }
    node.remove("gone").unwrap();
    assert!(watch.waiting() <= 10);
    let missed = told(&mut watch).await;
    assert!(missed.starts_with("missed "), "{missed}");
    let mut rest = Vec::new();
    while rest.last().is_none_or(|last| last != "current") {
        rest.push(told(&mut watch).await);
    }
    assert_eq!(rest, ["k0 = 999", "k1 = 997", "k2 = 998", "current"]);
    put(&node, "k0", "after").await;
    assert_eq!(told(&mut watch).await, "k0 = after for 999");
}

#[tokio::test]
async fn a_watch_ends_with_its_node() {
    let context = Context::new();
    let node = node(&context, "alpha");
    let mut watch = node.watch("");
    assert_eq!(told(&mut watch).await, "current");
    soon("stop", node.stop(LONG)).await;
    assert_eq!(soon("the end", watch.next()).await, None);
    assert!(node.put("late", "x").await.is_err());
}

#[tokio::test]
async fn members_and_links_are_told() {
    let context = Context::new();
    let alpha = node(&context, "alpha");
    let at = bind(&alpha, "tcp://127.0.0.1:*").await;
    let mut events = alpha.events();
    let beta = node(&context, "beta");
    beta.connect(&at).unwrap();
    event(&mut events, "a link", |event| matches!(event, Event::Link(link) if link.state.is_ok())).await;
    let beta_id = beta.id();
    let is = |wanted| move |event: &Event| matches!(event, Event::Member(change) if change.id == beta_id && change.status == wanted);
    event(&mut events, "beta is up", is(MemberStatus::Up)).await;
    beta.put_with("here", "beta", Lifetime::Session).await.unwrap();
    has(&alpha, "here", "beta").await;
    let mut watch = alpha.watch("here");
    assert_eq!([told(&mut watch).await, told(&mut watch).await], ["here = beta", "current"]);
    soon("stop", beta.stop(LONG)).await;
    event(&mut events, "beta left", is(MemberStatus::Left)).await;
    let gone = soon("what it held goes", watch.next()).await;
    assert!(
        matches!(&gone, Some(Change::Removed { cause: RemovalCause::OwnerGone | RemovalCause::Deleted, .. })),
        "{gone:?}"
    );
}

/// Nobody waits for ever for a node that has stopped, though a handle is left
#[tokio::test]
async fn watches_and_events_end_with_the_node() {
    let context = Context::new();
    let alpha = node(&context, "alpha");
    put(&alpha, "k", "v").await;
    let (mut watch, mut events) = (alpha.watch("k"), alpha.events());
    assert_eq!([told(&mut watch).await, told(&mut watch).await], ["k = v", "current"]);
    soon("stop", alpha.stop(LONG)).await;
    assert_eq!(soon("the end of a watch", watch.next()).await, None);
    assert_eq!(soon("the end of events", events.next()).await, None);
    // Those that come too late see what was known, and the end
    let mut late = alpha.watch("k");
    assert_eq!([told(&mut late).await, told(&mut late).await], ["k = v", "current"]);
    assert_eq!(soon("the end of a late watch", late.next()).await, None);
    assert_eq!(soon("the end of late events", alpha.events().next()).await, None);
}

/// What nodes tell of themselves reaches all, is listed when it is asked for, and is nobody's tuple
#[tokio::test]
async fn nodes_tell_of_themselves_and_of_their_neighbours() {
    let context = Context::new();
    let nodes = ["alpha", "beta", "gamma"].map(|name| node(&context, name));
    let [alpha, beta, gamma] = &nodes;
    for (number, node) in nodes.iter().enumerate() {
        let at = bind(node, "tcp://127.0.0.1:*").await;
        if let Some(next) = nodes.get(number + 1) {
            soon("connect", next.connect(&at).unwrap()).await.unwrap();
        }
    }
    gamma.advertise(["tcp://gamma.example:4833"]);
    gamma.describe(serde_json::json!({"serves": ["echo"]}).as_object().unwrap().clone());
    let key = format!("$tidings/node/{}", gamma.id());
    let mut watch = alpha.watch(&key);
    let told = async {
        loop {
            if let Some(Change::Put { tuple, .. }) = watch.next().await {
                let record: serde_json::Value = serde_json::from_slice(&tuple.value).unwrap();
                if record["serves"] == serde_json::json!(["echo"]) {
                    return record;
                }
            }
        }
    };
    let record = soon("what gamma tells", told).await;
    assert_eq!((&record["name"], &record["endpoints"][0]), (&"gamma".into(), &"tcp://gamma.example:4833".into()));
    let expected = {
        let edge = |one: &tidings_gossip::Gossip, other: &tidings_gossip::Gossip| {
            let (one, other) = (one.id().to_string(), other.id().to_string());
            if one < other { (one, other) } else { (other, one) }
        };
        let mut edges = vec![edge(alpha, beta), edge(beta, gamma)];
        edges.sort();
        edges
    };
    eventually(|| format!("the graph; it is {:?}", alpha.graph()), || alpha.graph().edges == expected).await;
    assert_eq!(alpha.graph().nodes.iter().filter(|node| node.own).count(), 1);
    assert_eq!((alpha.len(), alpha.list("").len()), (0, 0));
    assert!(alpha.list("$tidings/").len() >= 3);
    assert!(alpha.put("$tidings/node/0000000000000007", "{}").await.is_err(), "nobody else writes them");
}
