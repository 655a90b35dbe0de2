//! What the scenarios share: deadlines, nodes, agreement, raw peers.

use std::fmt::Display;
use std::time::Duration;

use tidings_gossip::{Actor, Change, Event, Gossip, MemberStatus};
use tidings_socket::{Context, CurveSecretKey, DealerSocket, Endpoint, Message, SystemEntropy};

/// What must happen, or the test fails and says what did not
pub(crate) async fn soon<T>(what: impl Display, future: impl IntoFuture<Output = T>) -> T {
    match tokio::time::timeout(LONG, future).await {
        Ok(value) => value,
        Err(_) => panic!("not within {LONG:?}: {what}"),
    }
}

/// A node of this context
pub(crate) fn node(context: &Context, name: &str) -> Gossip {
    Gossip::builder(context).name(name).start().unwrap()
}

pub(crate) async fn bind(node: &Gossip, endpoint: impl Display) -> Endpoint {
    soon(format!("binding {endpoint}"), node.bind(endpoint.to_string())).await.unwrap()
}

/// Two nodes, the second connected to the first
pub(crate) async fn pair(context: &Context, endpoint: impl Display) -> (Gossip, Gossip, Endpoint) {
    let (alpha, beta) = (node(context, "alpha"), node(context, "beta"));
    let at = bind(&alpha, endpoint).await;
    soon("connecting", beta.connect(&at).unwrap()).await.unwrap();
    (alpha, beta, at)
}

pub(crate) async fn put(node: &Gossip, key: &str, value: &str) {
    node.put(key.to_owned(), value.to_owned()).await.unwrap();
}

/// Waits until a key has a value on a node
pub(crate) async fn has(node: &Gossip, key: &str, value: &str) {
    let mut watch = node.watch(key);
    let arrives = async {
        while let Some(change) = watch.next().await {
            if matches!(&change, Change::Put { tuple, .. } if tuple.key == key && tuple.value == value) {
                return;
            }
        }
        panic!("the node has ended");
    };
    soon(format!("{key} is {value}"), arrives).await;
}

/// Waits until a key has no value on a node
pub(crate) async fn lacks(node: &Gossip, key: &str) {
    let mut watch = node.watch(key);
    let goes = async {
        while node.get(key).is_some() {
            watch.next().await.unwrap();
        }
    };
    soon(format!("{key} is gone"), goes).await;
}

/// Waits until a node knows so many tuples
pub(crate) async fn holds(node: &Gossip, count: usize) {
    let mut watch = node.watch("");
    let grows = async {
        while node.len() != count {
            watch.next().await.unwrap();
        }
    };
    soon(format!("{count} tuples; there are {}", node.len()), grows).await;
}

/// Keys and values as a node knows them
pub(crate) fn known(node: &Gossip) -> Vec<(String, String)> {
    let text = |octets: &[u8]| octets.escape_ascii().to_string();
    node.list("").iter().map(|tuple| (text(&tuple.key), text(&tuple.value))).collect()
}

/// Waits until all of them know the same of so many tuples
pub(crate) async fn agree(nodes: &[&Gossip], count: usize) {
    for node in nodes {
        holds(node, count).await;
    }
    // The values: any further change concerns one of them
    for node in nodes.iter().skip(1) {
        let mut watch = node.watch("");
        let settles = async {
            while known(node) != known(nodes[0]) {
                watch.next().await.unwrap();
            }
        };
        soon("agreement", settles).await;
    }
}

/// Waits until a node tells that a member is this
pub(crate) async fn member_is(node: &Gossip, name: &str, status: MemberStatus) {
    let mut events = node.events();
    let becomes = async {
        while !node.members().iter().any(|member| member.name == name && member.status == status) {
            events.next().await.unwrap();
        }
    };
    if tokio::time::timeout(LONG, becomes).await.is_err() {
        panic!("not within {LONG:?}: {name} is {}; there are {:?}", status.name(), node.members());
    }
}

/// Waits until a node has so many links
pub(crate) async fn links(node: &Gossip, count: usize) {
    eventually(|| format!("{count} links; there are {}", node.stats().links), || node.stats().links == count).await;
}

/// Looks until a condition holds: for what no event tells
pub(crate) async fn eventually(what: impl Fn() -> String, holds: impl Fn() -> bool) {
    let looking = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    if tokio::time::timeout(LONG, looking).await.is_err() {
        panic!("not within {LONG:?}: {}", what());
    }
}

/// Waits for an event
pub(crate) async fn event(events: &mut tidings_gossip::Events, what: &str, is_it: impl Fn(&Event) -> bool) -> Event {
    let comes = async {
        loop {
            let event = events.next().await.expect("the node goes on");
            if is_it(&event) {
                return event;
            }
        }
    };
    soon(what, comes).await
}

/// A DEALER that is connected, and nothing of ours besides
pub(crate) async fn dealer(context: &Context, at: &Endpoint) -> DealerSocket {
    let dealer = DealerSocket::new(context).unwrap();
    soon("a dealer connects", dealer.connect(at).unwrap()).await.unwrap();
    dealer
}

pub(crate) async fn say(dealer: &DealerSocket, message: impl Into<Message>) {
    soon("sending", dealer.send(message.into())).await.unwrap();
}

/// Frames as text with bars between them
pub(crate) async fn hear(dealer: &DealerSocket) -> String {
    text(&soon("a reply", dealer.recv()).await.unwrap())
}

pub(crate) async fn ask(dealer: &DealerSocket, frames: &[&str]) -> String {
    say(dealer, Message::multipart(frames.iter().map(|frame| frame.as_bytes().to_vec()))).await;
    hear(dealer).await
}

pub(crate) fn text(message: &Message) -> String {
    let frames: Vec<String> = message.frames().map(|frame| String::from_utf8_lossy(frame).into_owned()).collect();
    frames.join("|")
}

/// The next message of an actor, with bars between its frames
pub(crate) async fn next(actor: &Actor) -> String {
    let frames = soon("an actor's message", actor.recv()).await.expect("the actor goes on");
    text(&Message::multipart(frames))
}

pub(crate) fn key() -> CurveSecretKey {
    CurveSecretKey::generate(&SystemEntropy).unwrap()
}

pub(crate) const LONG: Duration = Duration::from_secs(60);
// ZGP, octet for octet (the sheet, section 1)
pub(crate) const HELLO: &[u8] = b"\xaa\xa0\x01\x01";
pub(crate) const PING: &[u8] = b"\xaa\xa0\x03\x01";
pub(crate) const PONG: &[u8] = b"\xaa\xa0\x04\x01";
pub(crate) const INVALID: &[u8] = b"\xaa\xa0\x05\x01";

pub(crate) fn publish(key: &str, value: &str) -> Vec<u8> {
    let mut frame = b"\xaa\xa0\x02\x01".to_vec();
    frame.push(u8::try_from(key.len()).unwrap());
    frame.extend(key.as_bytes());
    frame.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
    frame.extend(value.as_bytes());
    frame.extend([0; 4]);
    frame
}
