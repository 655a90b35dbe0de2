//! Routing ids: given, automatic and taken twice; handover, probes, names given to outgoing connections.

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use serde_json::json;
use tidings_socket::{ConnectError, Context, EventKind, Message, Options, Socket, SocketType};

use crate::peer::{Peer, encode};
use crate::waiting::{PATIENCE, disconnected, event, expect, frames, message, recv, send, within};
use crate::way::Way;

#[tokio::test]
async fn a_given_id_names_us_at_libzmq_and_libzmq_at_us() -> Result<()> {
    let Some(mut peer) = Peer::start().await? else { return Ok(()) };
    for way in Way::ALL {
        for id_text in [&b"a"[..], b"a name \x00\xff", &[b'n'; 255]] {
            given(way, id_text, &mut peer).await.with_context(|| format!("{way}, {} octets", id_text.len()))?;
        }
    }
    Ok(())
}

async fn given(way: Way, name: &[u8], peer: &mut Peer) -> Result<()> {
    let context = Context::new();
    let options = Options::new().routing_id(Bytes::copy_from_slice(name));
    let dealer = context.socket_with(SocketType::Dealer, options)?;
    let id = peer.open("ROUTER", json!({})).await?;
    way.join(&dealer, peer, &id).await?;
    send(&dealer, message([b"hello"])).await?;
    peer.expect(&id, [name, b"hello"]).await?;
    peer.send(&id, &[name, b"answer"]).await?;
    expect(&dealer, [b"answer"]).await?;
    peer.close(&id).await?;

    let router = context.socket(SocketType::Router)?;
    let id = peer.open("DEALER", json!({"ROUTING_ID": encode(name)})).await?;
    way.join(&router, peer, &id).await?;
    peer.send(&id, &["hello"]).await?;
    expect(&router, [name, b"hello"]).await?;
    send(&router, message([name, b"answer"])).await?;
    peer.expect(&id, [b"answer"]).await?;
    peer.close(&id).await
}

#[tokio::test]
async fn without_an_id_each_router_makes_one_up() -> Result<()> {
    let Some(mut peer) = Peer::start().await? else { return Ok(()) };
    let context = Context::new();

    let id = peer.open("ROUTER", json!({})).await?;
    let endpoint = peer.bind(&id, "tcp://127.0.0.1:*").await?;
    let mut theirs = Vec::new();
    for _ in 0..2 {
        let dealer = context.socket(SocketType::Dealer)?;
        dealer.connect(&endpoint)?.await?;
        send(&dealer, message([b"hello"])).await?;
        theirs.push(peer.recv(&id).await?.remove(0));
    }

    let router = context.socket(SocketType::Router)?;
    let endpoint = router.bind("tcp://127.0.0.1:*")?.await?.to_string();
    let mut ours = Vec::new();
    for socket_type in ["DEALER", "REQ"] {
        let id = peer.open(socket_type, json!({})).await?;
        peer.connect(&id, &endpoint).await?;
        peer.send(&id, &["hello"]).await?;
        ours.push(recv(&router).await?.remove(0));
    }
    for made_up in [&theirs, &ours] {
        ensure!(made_up.iter().all(|id| id.len() == 5 && id[0] == 0), "{made_up:?}");
        ensure!(made_up[0] != made_up[1], "{made_up:?}");
    }
    Ok(())
}

/// Without handover the first stays; the second is refused until the first has gone, then it gets in
#[tokio::test]
async fn our_router_refuses_a_second_libzmq_peer_of_the_same_id() -> Result<()> {
    let Some(mut peer) = Peer::start().await? else { return Ok(()) };
    let router = Context::new().socket(SocketType::Router)?;
    let mut events = router.events();
    let (first, second) = two_twins(&router, &mut peer, json!({})).await?;
    let action = event(&mut events, "duplicate-routing-id", duplicate).await?;
    ensure!(action == "refused", "{action}");
    let reason = event(&mut events, "handshake-failed", |event| match event.kind {
        EventKind::HandshakeFailed { reason, .. } | EventKind::Disconnected { reason, .. } => Some(reason),
        _ => None,
    })
    .await?;
    ensure!(reason == "duplicate-routing-id", "{reason}");
    send(&router, message([b"twin", b"to the first"])).await?;
    peer.expect(&first, [b"to the first"]).await?;

    peer.close(&first).await?;
    peer.send(&second, &["from the second"]).await?;
    expect(&router, [b"twin", b"from the second"]).await?;
    send(&router, message([b"twin", b"to the second"])).await?;
    peer.expect(&second, [b"to the second"]).await
}

/// With handover the second takes the name and the connection of the first is closed
#[tokio::test]
async fn our_router_hands_over_to_a_second_libzmq_peer_of_the_same_id() -> Result<()> {
    let Some(mut peer) = Peer::start().await? else { return Ok(()) };
    let router = Context::new().socket_with(SocketType::Router, Options::new().router_handover(true))?;
    let mut events = router.events();
    // The first would come again and take the name back, for ever
    let (first, second) = two_twins(&router, &mut peer, json!({"RECONNECT_IVL": -1})).await?;
    let action = event(&mut events, "duplicate-routing-id", duplicate).await?;
    ensure!(action == "taken-over", "{action}");
    peer.monitor(&first, "DISCONNECTED").await?;
    let (reason, ..) = disconnected(&mut events).await?;
    ensure!(reason == "taken-over", "{reason}");
    peer.send(&second, &["from the second"]).await?;
    expect(&router, [b"twin", b"from the second"]).await?;
    send(&router, message([b"twin", b"to the second"])).await?;
    peer.expect(&second, [b"to the second"]).await
}

/// Binds our router and connects two DEALERs of the same id, of which the first is known to it
async fn two_twins(router: &Socket, peer: &mut Peer, more: serde_json::Value) -> Result<(String, String)> {
    let endpoint = router.bind("tcp://127.0.0.1:*")?.await?.to_string();
    let mut options = json!({"ROUTING_ID": encode(b"twin")});
    options.as_object_mut().context("an object")?.extend(more.as_object().context("an object")?.clone());
    let first = peer.open("DEALER", options.clone()).await?;
    peer.connect(&first, &endpoint).await?;
    peer.send(&first, &["from the first"]).await?;
    expect(router, [b"twin", b"from the first"]).await?;
    let second = peer.open("DEALER", options).await?;
    peer.connect(&second, &endpoint).await?;
    Ok((first, second))
}

fn duplicate(event: &tidings_socket::Event) -> Option<&'static str> {
    match &event.kind {
        EventKind::DuplicateRoutingId { routing_id, action } if routing_id == "twin" => Some(action),
        _ => None,
    }
}

/// libzmq's ROUTER without handover lets a second one connect and then ignores it; with handover it ignores the
/// first from then on (4.3.5 does not close its connection)
#[tokio::test]
async fn libzmqs_router_meets_two_of_ours_with_the_same_id() -> Result<()> {
    let Some(mut peer) = Peer::start().await? else { return Ok(()) };
    for handover in [false, true] {
        let context = Context::new();
        let id = peer.open("ROUTER", json!({"ROUTER_HANDOVER": u8::from(handover)})).await?;
        let endpoint = peer.bind(&id, "tcp://127.0.0.1:*").await?;
        let options = Options::new().routing_id("twin".into()).reconnect_interval(None);
        let first = context.socket_with(SocketType::Dealer, options.clone())?;
        first.connect(&endpoint)?.await?;
        send(&first, message([b"from the first"])).await?;
        peer.expect(&id, [b"twin", b"from the first"]).await?;
        let second = context.socket_with(SocketType::Dealer, options)?;
        second.connect(&endpoint)?.await?;
        send(&second, message([b"from the second"])).await?;
        let (heard, ignored, wanted) = match handover {
            false => (&first, &second, "from the first again"),
            true => (&second, &first, "from the second"),
        };
        if handover {
            peer.expect(&id, [b"twin", b"from the second"]).await?;
        }
        send(ignored, message([b"from nobody"])).await?;
        send(heard, Message::from(wanted)).await?;
        peer.expect(&id, [b"twin", wanted.as_bytes()]).await?;
        peer.send(&id, &["twin", "answer"]).await?;
        expect(heard, [b"answer"]).await?;
        peer.close(&id).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_probe_shows_each_side_to_the_others_router() -> Result<()> {
    let Some(mut peer) = Peer::start().await? else { return Ok(()) };
    for way in Way::ALL {
        probes(way, &mut peer).await.with_context(|| way.to_string())?;
    }
    Ok(())
}

async fn probes(way: Way, peer: &mut Peer) -> Result<()> {
    let context = Context::new();
    for socket_type in [SocketType::Dealer, SocketType::Router] {
        let options = Options::new().routing_id("ours".into()).probe_router(true);
        let prober = context.socket_with(socket_type, options)?;
        let id = peer.open("ROUTER", json!({"ROUTING_ID": encode(b"theirs")})).await?;
        way.join(&prober, peer, &id).await?;
        peer.expect(&id, [b"ours", b""]).await.with_context(|| format!("our {socket_type}"))?;
        peer.send(&id, &["ours", "seen"]).await?;
        let received = recv(&prober).await?;
        let wanted = match socket_type {
            SocketType::Router => frames([b"theirs", b"seen"]),
            _ => frames([b"seen"]),
        };
        ensure!(received == wanted, "our {socket_type} received {received:?}");
        peer.close(&id).await?;

        let router = context.socket(SocketType::Router)?;
        let id = peer.open(socket_type.name(), json!({"ROUTING_ID": encode(b"theirs"), "PROBE_ROUTER": 1})).await?;
        way.join(&router, peer, &id).await?;
        expect(&router, [b"theirs", b""]).await.with_context(|| format!("libzmq's {socket_type}"))?;
        send(&router, message([b"theirs", b"seen"])).await?;
        let received = peer.recv(&id).await?;
        ensure!(received.last().is_some_and(|frame| frame == "seen"), "libzmq's {socket_type} received {received:?}");
        peer.close(&id).await?;
    }
    Ok(())
}

/// The name that the side which connects gives to its peer holds on that side only, whatever the peer calls itself
#[tokio::test]
async fn an_outgoing_connection_can_be_given_a_name() -> Result<()> {
    let Some(mut peer) = Peer::start().await? else { return Ok(()) };
    let context = Context::new();
    let router = context.socket_with(SocketType::Router, Options::new().router_mandatory(true))?;
    let id = peer.open("DEALER", json!({"ROUTING_ID": encode(b"what it calls itself")})).await?;
    let endpoint = peer.bind(&id, "tcp://127.0.0.1:*").await?;
    // Sent before there is a connection: the name alone is enough to route
    let connecting = router.connect_as(&endpoint, "north")?;
    send(&router, message([b"north", b"first"])).await?;
    within(PATIENCE, "our connect", connecting).await??;
    peer.expect(&id, [b"first"]).await?;
    peer.send(&id, &["answer"]).await?;
    expect(&router, [b"north", b"answer"]).await?;
    let refused = router.connect_as("tcp://127.0.0.1:1", "north")?.await;
    ensure!(matches!(refused, Err(ConnectError::Refused { .. })), "the name is taken: {refused:?}");

    let dealer = context.socket(SocketType::Dealer)?;
    let endpoint = dealer.bind("tcp://127.0.0.1:*")?.await?.to_string();
    let id = peer.open("ROUTER", json!({"CONNECT_ROUTING_ID": encode(b"south")})).await?;
    peer.connect(&id, &endpoint).await?;
    peer.send(&id, &["south", "hello"]).await?;
    expect(&dealer, [b"hello"]).await?;
    send(&dealer, Message::from("answer")).await?;
    peer.expect(&id, [b"south", b"answer"]).await
}
