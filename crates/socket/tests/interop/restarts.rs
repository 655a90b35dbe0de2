//! A libzmq process killed with -9 and started again at the same endpoint.
//!
//! What libzmq promises, and we too: the side that connects keeps its queue, and what was queued goes to
//! the restarted peer in order; the side that is bound drops the queue with the peer, and a newcomer
//! starts with an empty one. What was handed to the kernel when the peer died is lost.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tidings_socket::{Context, Message, Options, Socket, SocketType};

use crate::peer::Peer;
use crate::sequences::numbered;
use crate::waiting::{PATIENCE, disconnected, expect, handshaken, message, recv, send, within};
use crate::way::{Side, Transport, Way};

/// Ours connects: what is queued while the peer is away arrives after its restart, all of it and in order
#[tokio::test]
async fn what_is_queued_for_a_killed_peer_waits_for_its_restart() -> Result<()> {
    let Some(mut peer) = Peer::start().await? else { return Ok(()) };
    for transport in Transport::ALL {
        for (ours, theirs) in [(SocketType::Push, "PULL"), (SocketType::Dealer, "DEALER")] {
            peer =
                queue_waits(transport, ours, theirs, peer).await.with_context(|| format!("{ours}, {transport:?}"))?;
        }
    }
    Ok(())
}

async fn queue_waits(transport: Transport, ours: SocketType, theirs: &str, mut peer: Peer) -> Result<Peer> {
    let socket = Context::new().socket(ours)?;
    let mut events = socket.events();
    let id = peer.open(theirs, json!({})).await?;
    let endpoint = Way { transport, binds: Side::Theirs }.join(&socket, &mut peer, &id).await?.to_string();
    handshaken(&mut events).await?;
    send(&socket, message([b"before"])).await?;
    peer.expect(&id, [b"before"]).await?;
    let mut peer = peer.restart().await?;
    disconnected(&mut events).await?;
    for number in 0..500 {
        send(&socket, Message::from(numbered(number, 64))).await?;
    }
    let id = peer.open(theirs, json!({})).await?;
    peer.bind(&id, &endpoint).await?;
    handshaken(&mut events).await?;
    peer.tell(json!({"op": "recv_sequence", "id": id, "count": 500, "size": 64, "prefix": []})).await?;
    send(&socket, message([b"after"])).await?;
    peer.expect(&id, [b"after"]).await?;
    answers(&socket, &mut peer, &id).await?;
    peer.close(&id).await?;
    Ok(peer)
}

/// The same with a queue that was full of messages when the peer died: none of those still here is lost
#[tokio::test]
async fn what_was_queued_when_the_peer_died_goes_to_the_restarted_one() -> Result<()> {
    let Some(mut peer) = Peer::start().await? else { return Ok(()) };
    for transport in Transport::ALL {
        let context = Context::new();
        let push = context.socket_with(SocketType::Push, Options::new().send_hwm(0))?;
        let mut events = push.events();
        let id = peer.open("PULL", json!({"RCVHWM": 1})).await?;
        let endpoint = Way { transport, binds: Side::Theirs }.join(&push, &mut peer, &id).await?.to_string();
        handshaken(&mut events).await?;
        peer.freeze()?;
        for number in 0..QUEUED {
            send(&push, Message::from(numbered(number, SIZE))).await?;
        }
        peer = peer.restart().await?;
        let (_, requeued, lost) = disconnected(&mut events).await?;
        ensure!(requeued > 0 && lost == 0, "{transport:?}: {requeued} requeued, {lost} lost");
        let id = peer.open("PULL", json!({})).await?;
        peer.bind(&id, &endpoint).await?;
        handshaken(&mut events).await?;
        // What had gone to the kernel is lost, and everything behind it arrives
        let start = QUEUED - requeued;
        peer.tell(json!({"op": "recv_sequence", "id": id, "start": start, "count": requeued, "size": SIZE,
            "prefix": [], "timeout": 20_000}))
            .await
            .with_context(|| format!("{transport:?}"))?;
        peer.close(&id).await?;
    }
    Ok(())
}

/// Ours is bound: the queue goes with the peer, and the newcomer is served from then on
#[tokio::test]
async fn a_bound_socket_drops_the_queue_with_the_peer() -> Result<()> {
    let Some(mut peer) = Peer::start().await? else { return Ok(()) };
    for transport in Transport::ALL {
        for (ours, theirs) in [(SocketType::Push, "PULL"), (SocketType::Dealer, "DEALER")] {
            peer =
                queue_drops(transport, ours, theirs, peer).await.with_context(|| format!("{ours}, {transport:?}"))?;
        }
    }
    Ok(())
}

async fn queue_drops(transport: Transport, ours: SocketType, theirs: &str, mut peer: Peer) -> Result<Peer> {
    let socket = Context::new().socket_with(ours, Options::new().send_hwm(0))?;
    let mut events = socket.events();
    let id = peer.open(theirs, json!({"RCVHWM": 1})).await?;
    let endpoint = Way { transport, binds: Side::Ours }.join(&socket, &mut peer, &id).await?.to_string();
    handshaken(&mut events).await?;
    peer.freeze()?;
    for number in 0..QUEUED {
        send(&socket, Message::from(numbered(number, SIZE))).await?;
    }
    let mut peer = peer.restart().await?;
    let (_, requeued, lost) = disconnected(&mut events).await?;
    ensure!(requeued == 0 && lost > 0, "{requeued} requeued, {lost} lost");
    let stats = socket.stats();
    ensure!(stats.peers.is_empty() && stats.dropped == lost, "{lost} lost: {stats:?}");
    let id = peer.open(theirs, json!({})).await?;
    peer.connect(&id, &endpoint).await?;
    send(&socket, message([b"to the newcomer"])).await?;
    peer.expect(&id, [b"to the newcomer"]).await?;
    answers(&socket, &mut peer, &id).await?;
    peer.close(&id).await?;
    Ok(peer)
}

async fn answers(socket: &Socket, peer: &mut Peer, id: &str) -> Result<()> {
    if socket.socket_type() == SocketType::Dealer {
        peer.send(id, &["answer"]).await?;
        expect(socket, [b"answer"]).await?;
    }
    Ok(())
}

/// Our SUB tells its subscriptions again, whichever side connects
#[tokio::test]
async fn a_restarted_publisher_hears_our_subscriptions_again() -> Result<()> {
    let Some(mut peer) = Peer::start().await? else { return Ok(()) };
    for way in Way::ALL {
        let subscriber = Context::new().socket(SocketType::Sub)?;
        for topic in ["a", "b", "ended"] {
            subscriber.subscribe(topic)?;
        }
        let mut events = subscriber.events();
        let id = peer.open("XPUB", json!({})).await?;
        let endpoint = way.join(&subscriber, &mut peer, &id).await?.to_string();
        subscriptions(&mut peer, &id, 3).await?;
        peer = peer.restart().await?;
        disconnected(&mut events).await.with_context(|| way.to_string())?;
        // Changes made while nobody is there count too
        subscriber.unsubscribe("ended")?;
        subscriber.subscribe("c")?;
        let id = peer.open("XPUB", json!({})).await?;
        come_back(way, &mut peer, &id, &endpoint).await?;
        let told = subscriptions(&mut peer, &id, 3).await?;
        ensure!(told == ["\u{1}a", "\u{1}b", "\u{1}c"], "{way}: {told:?}");
        peer.send(&id, &["c", "news"]).await?;
        expect(&subscriber, [b"c", b"news"]).await?;
        peer.close(&id).await?;
    }
    Ok(())
}

async fn subscriptions(peer: &mut Peer, id: &str, count: usize) -> Result<Vec<String>> {
    let mut told = Vec::new();
    for _ in 0..count {
        told.push(String::from_utf8(peer.recv(id).await?.remove(0).into())?);
    }
    told.sort();
    Ok(told)
}

/// Our XPUB sees the subscriptions of a subscriber that died end, and those of its successor begin
#[tokio::test]
async fn our_xpub_forgets_a_killed_subscriber() -> Result<()> {
    let Some(mut peer) = Peer::start().await? else { return Ok(()) };
    for way in Way::ALL {
        let publisher = Context::new().socket(SocketType::Xpub)?;
        let mut events = publisher.events();
        let id = peer.open("SUB", json!({})).await?;
        peer.subscribe(&id, b"old").await?;
        let endpoint = way.join(&publisher, &mut peer, &id).await?.to_string();
        expect(&publisher, [b"\x01old"]).await?;
        peer = peer.restart().await?;
        disconnected(&mut events).await.with_context(|| way.to_string())?;
        let id = peer.open("SUB", json!({})).await?;
        peer.subscribe(&id, b"new").await?;
        come_back(way, &mut peer, &id, &endpoint).await?;
        let told = [recv(&publisher).await?, recv(&publisher).await?].concat();
        ensure!(told == [&b"\x00old"[..], b"\x01new"], "{way}: {told:?}");
        for topic in ["old", "new"] {
            send(&publisher, Message::from(topic)).await?;
        }
        peer.expect(&id, [b"new"]).await?;
        let ready = within(PATIENCE, "ready", publisher.ready(1, PATIENCE)).await??;
        ensure!(ready == 1, "{way}: {ready} subscribers");
        peer.close(&id).await?;
    }
    Ok(())
}

/// The same endpoint again: libzmq binds it, or connects to it
async fn come_back(way: Way, peer: &mut Peer, id: &str, endpoint: &str) -> Result<()> {
    match way.binds {
        Side::Ours => peer.connect(id, endpoint).await,
        Side::Theirs => peer.bind(id, endpoint).await.map(drop),
    }
}

/// More than the kernel's buffers take, however large it lets them grow
const QUEUED: u64 = 200;
const SIZE: usize = 256 * 1024;
