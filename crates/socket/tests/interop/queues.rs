//! Options about what is queued and matched, as far as the other side can see them: conflate, immediate,
//! the welcome message, inverted matching.

use anyhow::{Result, ensure};
use serde_json::json;
use tidings_socket::{Context, Message, Options, RecvError, SendFailure, SocketType};

use crate::peer::{Peer, encode};
use crate::sequences::numbered;
use crate::waiting::{PATIENCE, expect, message, recv, send, within};
use crate::way::Transport;

/// With nobody there yet, only the newest message waits
#[tokio::test]
async fn conflate_sends_the_newest_alone() -> Result<()> {
    let Some(mut peer) = Peer::start().await? else { return Ok(()) };
    let context = Context::new();
    let endpoint = Transport::Ipc.fresh_endpoint(&peer);
    let push = context.socket_with(SocketType::Push, Options::new().conflate(true))?;
    let connecting = push.connect(&endpoint)?;
    for number in 0..10 {
        send(&push, Message::from(numbered(number, 8))).await?;
    }
    let id = peer.open("PULL", json!({})).await?;
    peer.bind(&id, &endpoint).await?;
    within(PATIENCE, "our connect", connecting).await??;
    peer.expect(&id, [&numbered(9, 8)]).await?;

    let endpoint = Transport::Ipc.fresh_endpoint(&peer);
    let id = peer.open("PUSH", json!({"CONFLATE": 1})).await?;
    peer.connect(&id, &endpoint).await?;
    peer.tell(json!({"op": "send_sequence", "id": id, "count": 10})).await?;
    let pull = context.socket(SocketType::Pull)?;
    pull.bind(&endpoint)?.await?;
    expect(&pull, [&numbered(9, 8)]).await
}

/// What libzmq sends faster than the application takes it is replaced by what is newer, and counted
#[tokio::test]
async fn conflate_receives_the_newest_alone() -> Result<()> {
    let Some(mut peer) = Peer::start().await? else { return Ok(()) };
    let endpoint = Transport::Ipc.fresh_endpoint(&peer);
    const COUNT: u64 = 10_000;
    let id = peer.open("PUSH", json!({"SNDHWM": 0})).await?;
    peer.connect(&id, &endpoint).await?;
    peer.tell(json!({"op": "send_sequence", "id": id, "count": COUNT})).await?;
    let pull = Context::new().socket_with(SocketType::Pull, Options::new().conflate(true))?;
    pull.bind(&endpoint)?.await?;
    let (mut taken, mut last) = (0, None);
    while last != Some(COUNT - 1) {
        let number = u64::from_be_bytes(recv(&pull).await?[0][..].try_into()?);
        ensure!(last < Some(number), "{number} after {last:?}");
        (taken, last) = (taken + 1, Some(number));
    }
    let stats = pull.stats();
    ensure!(taken < COUNT, "nothing was replaced");
    ensure!(stats.received == COUNT && stats.dropped == COUNT - taken, "{taken} taken: {stats:?}");
    ensure!(pull.try_recv() == Err(RecvError::WouldBlock), "something after the newest");
    Ok(())
}

/// With immediate nothing is queued for a peer that is not there
#[tokio::test]
async fn immediate_queues_for_complete_connections_only() -> Result<()> {
    let Some(mut peer) = Peer::start().await? else { return Ok(()) };
    let context = Context::new();
    let endpoint = Transport::Ipc.fresh_endpoint(&peer);
    let push = context.socket_with(SocketType::Push, Options::new().immediate(true))?;
    let connecting = push.connect(&endpoint)?;
    let refused = push.try_send(Message::from("early")).map_err(|error| error.reason);
    ensure!(refused == Err(SendFailure::WouldBlock), "{refused:?}");
    let id = peer.open("PULL", json!({})).await?;
    peer.bind(&id, &endpoint).await?;
    within(PATIENCE, "our connect", connecting).await??;
    send(&push, Message::from("in time")).await?;
    peer.expect(&id, [b"in time"]).await?;

    let endpoint = Transport::Ipc.fresh_endpoint(&peer);
    let id = peer.open("PUSH", json!({"IMMEDIATE": 1})).await?;
    peer.connect(&id, &endpoint).await?;
    ensure!(!peer.try_send(&id, b"early").await?, "libzmq queued for nobody");
    let pull = context.socket(SocketType::Pull)?;
    pull.bind(&endpoint)?.await?;
    peer.send(&id, &["in time"]).await?;
    expect(&pull, [b"in time"]).await
}

/// The first message that a new subscriber gets, if it subscribed to it
#[tokio::test]
async fn a_welcome_message_comes_first() -> Result<()> {
    let Some(mut peer) = Peer::start().await? else { return Ok(()) };
    let context = Context::new();
    let options = Options::new().xpub_welcome_message("welcome".into());
    let publisher = context.socket_with(SocketType::Xpub, options)?;
    let endpoint = publisher.bind("tcp://127.0.0.1:*")?.await?.to_string();
    let id = peer.open("SUB", json!({})).await?;
    peer.subscribe(&id, b"").await?;
    peer.connect(&id, &endpoint).await?;
    expect(&publisher, [b"\x01"]).await?;
    send(&publisher, message([b"next"])).await?;
    peer.expect(&id, [b"welcome"]).await?;
    peer.expect(&id, [b"next"]).await?;

    let id = peer.open("XPUB", json!({"XPUB_WELCOME_MSG": encode(b"welcome")})).await?;
    let endpoint = peer.bind(&id, "tcp://127.0.0.1:*").await?;
    let subscriber = context.socket(SocketType::Sub)?;
    subscriber.subscribe("")?;
    subscriber.connect(endpoint)?.await?;
    peer.expect(&id, [b"\x01"]).await?;
    peer.send(&id, &["next"]).await?;
    expect(&subscriber, [b"welcome"]).await?;
    expect(&subscriber, [b"next"]).await
}

/// With inverted matching, set on both sides, a subscription names what is not wanted
#[tokio::test]
async fn inverted_matching_leaves_out_what_is_subscribed() -> Result<()> {
    let Some(mut peer) = Peer::start().await? else { return Ok(()) };
    let context = Context::new();
    let publisher = context.socket_with(SocketType::Xpub, Options::new().invert_matching(true))?;
    let endpoint = publisher.bind("tcp://127.0.0.1:*")?.await?.to_string();
    let id = peer.open("SUB", json!({"INVERT_MATCHING": 1})).await?;
    peer.subscribe(&id, b"noise").await?;
    peer.connect(&id, &endpoint).await?;
    expect(&publisher, [b"\x01noise"]).await?;
    for topic in ["noise", "noise again", "news"] {
        send(&publisher, Message::from(topic)).await?;
    }
    peer.expect(&id, [b"news"]).await?;

    let id = peer.open("XPUB", json!({"INVERT_MATCHING": 1})).await?;
    let endpoint = peer.bind(&id, "tcp://127.0.0.1:*").await?;
    let options = Options::of(SocketType::Sub).invert_matching(true);
    let subscriber = context.socket_with(SocketType::Sub, options)?;
    subscriber.subscribe("noise")?;
    subscriber.connect(endpoint)?.await?;
    peer.expect(&id, [b"\x01noise"]).await?;
    for topic in ["noise", "noise again", "news"] {
        peer.send(&id, &[topic]).await?;
    }
    expect(&subscriber, [b"news"]).await
}
