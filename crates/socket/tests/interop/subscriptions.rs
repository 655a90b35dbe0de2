//! Subscriptions that come and go while messages flow, in both roles; what an XPUB is told; topics of any length.

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use serde_json::json;
use tidings_socket::{Context, Message, Options, SocketType};

use crate::peer::{Peer, encode};
use crate::sequences::numbered;
use crate::waiting::{PATIENCE, expect, message, recv, send, within};
use crate::way::{Side, Transport, Way};

/// Fifty topics come and go at our SUB while libzmq's XPUB sends ticks: each gets its message, none after
/// its end, and no tick is lost
#[tokio::test]
async fn ours_subscribes_and_cancels_while_libzmq_publishes() -> Result<()> {
    let Some(mut peer) = Peer::start().await? else { return Ok(()) };
    for way in Way::ALL {
        ours_changes(way, &mut peer).await.with_context(|| way.to_string())?;
    }
    Ok(())
}

async fn ours_changes(way: Way, peer: &mut Peer) -> Result<()> {
    let subscriber = Context::new().socket_with(SocketType::Sub, Options::of(SocketType::Sub).recv_hwm(0))?;
    subscriber.subscribe("tick")?;
    let id = peer.open("XPUB", json!({"SNDHWM": 0})).await?;
    way.join(&subscriber, peer, &id).await?;
    peer.expect(&id, [b"\x01tick"]).await?;
    let mut tick = 0;
    for round in 0..50 {
        let topic = format!("topic {round}");
        // The change goes out while ticks come in
        let ticks = json!({"op": "send_sequence", "id": id, "count": 100, "start": tick, "prefix": [encode(b"tick")]});
        let (sent, changed) = tokio::join!(peer.tell(ticks), async { subscriber.subscribe(&topic) });
        sent?;
        changed?;
        peer.expect(&id, [&marked(1, &topic)]).await?;
        peer.send(&id, &[topic.as_bytes(), b"wanted"]).await?;
        for _ in 0..100 {
            expect(&subscriber, [b"tick", &numbered(tick, 8)]).await?;
            tick += 1;
        }
        expect(&subscriber, [topic.as_bytes(), b"wanted"]).await?;

        let ticks = json!({"op": "send_sequence", "id": id, "count": 100, "start": tick, "prefix": [encode(b"tick")]});
        let (sent, changed) = tokio::join!(peer.tell(ticks), async { subscriber.unsubscribe(&topic) });
        sent?;
        changed?;
        peer.expect(&id, [&marked(0, &topic)]).await?;
        peer.send(&id, &[topic.as_bytes(), b"unwanted"]).await?;
        for _ in 0..100 {
            expect(&subscriber, [b"tick", &numbered(tick, 8)]).await?;
            tick += 1;
        }
    }
    peer.send(&id, &["tick", "end"]).await?;
    expect(&subscriber, [b"tick", b"end"]).await?;
    peer.close(&id).await
}

/// The reverse: libzmq's second SUB comes and goes while its first gets an unbroken row of ticks from us
#[tokio::test]
async fn libzmq_subscribes_and_cancels_while_ours_publishes() -> Result<()> {
    let Some(mut peer) = Peer::start().await? else { return Ok(()) };
    for way in Way::ALL {
        theirs_changes(way, &mut peer).await.with_context(|| way.to_string())?;
    }
    Ok(())
}

async fn theirs_changes(way: Way, peer: &mut Peer) -> Result<()> {
    let publisher = Context::new().socket_with(SocketType::Xpub, Options::new().xpub_nodrop(true))?;
    let (steady, fickle) = (peer.open("SUB", json!({})).await?, peer.open("SUB", json!({})).await?);
    peer.subscribe(&steady, b"tick").await?;
    let endpoint = way.join(&publisher, peer, &steady).await?;
    match way.binds {
        Side::Ours => peer.connect(&fickle, &endpoint.to_string()).await?,
        Side::Theirs => drop(way.join(&publisher, peer, &fickle).await?),
    }
    expect(&publisher, [b"\x01tick"]).await?;
    const TICKS: u64 = 20_000;
    peer.tell(json!({"op": "recv_sequence", "id": steady, "count": TICKS, "prefix": [encode(b"tick")],
        "timeout": 60_000, "background": "steady"}))
        .await?;
    let ticking = async {
        for number in 0..TICKS {
            send(&publisher, message([b"tick", &numbered(number, 8)])).await?;
        }
        anyhow::Ok(())
    };
    let changing = async {
        for round in 0..50 {
            let topic = format!("topic {round}");
            peer.subscribe(&fickle, topic.as_bytes()).await?;
            expect(&publisher, [&marked(1, &topic)]).await?;
            send(&publisher, message([topic.as_bytes(), b"wanted"])).await?;
            peer.expect(&fickle, [topic.as_bytes(), b"wanted"]).await?;
            peer.unsubscribe(&fickle, topic.as_bytes()).await?;
            expect(&publisher, [&marked(0, &topic)]).await?;
            send(&publisher, message([topic.as_bytes(), b"unwanted"])).await?;
        }
        anyhow::Ok(())
    };
    tokio::try_join!(ticking, changing)?;
    peer.joined("steady").await?;
    peer.subscribe(&fickle, b"end").await?;
    expect(&publisher, [b"\x01end"]).await?;
    send(&publisher, message([b"end"])).await?;
    peer.expect(&fickle, [b"end"]).await?;
    peer.close(&steady).await?;
    peer.close(&fickle).await
}

/// Two subscribers with the same topic: what our XPUB hands to its application, by option
#[tokio::test]
async fn our_xpub_tells_of_subscriptions_as_its_options_say() -> Result<()> {
    let Some(mut peer) = Peer::start().await? else { return Ok(()) };
    // After each change libzmq's SUB changes a topic of its own: whatever was to be told of before has been
    let plain: &[&[u8]] = &[b"\x01a", b"\x01m1", b"\x01m2", b"\x01m3", b"\x00a", b"\x01m4"];
    let verbose: &[&[u8]] = &[b"\x01a", b"\x01m1", b"\x01a", b"\x01m2", b"\x01m3", b"\x00a", b"\x01m4"];
    let verboser: &[&[u8]] = &[b"\x01a", b"\x01m1", b"\x01a", b"\x01m2", b"\x00a", b"\x01m3", b"\x00a", b"\x01m4"];
    for (label, options, wanted) in [
        ("plain", Options::new(), plain),
        ("verbose", Options::new().xpub_verbose(true), verbose),
        ("verboser", Options::new().xpub_verboser(true), verboser),
    ] {
        let publisher = Context::new().socket_with(SocketType::Xpub, options)?;
        let endpoint = within(PATIENCE, "our bind", publisher.bind("tcp://127.0.0.1:*")?).await??.to_string();
        let (first, second) = (peer.open("SUB", json!({})).await?, peer.open("SUB", json!({})).await?);
        peer.connect(&first, &endpoint).await?;
        peer.connect(&second, &endpoint).await?;
        let mut told = Vec::new();
        let steps = [(&first, true, "m1"), (&second, true, "m2"), (&first, false, "m3"), (&second, false, "m4")];
        for (id, subscribes, marker) in steps {
            match subscribes {
                true => peer.subscribe(id, b"a").await?,
                false => peer.unsubscribe(id, b"a").await?,
            }
            peer.subscribe(id, marker.as_bytes()).await?;
            loop {
                let [change] = <[Bytes; 1]>::try_from(recv(&publisher).await?).ok().context("one frame")?;
                told.push(change);
                if told.last().is_some_and(|change| change.ends_with(marker.as_bytes())) {
                    break;
                }
            }
        }
        ensure!(told == wanted, "{label}: {told:?}");
        peer.close(&first).await?;
        peer.close(&second).await?;
    }
    Ok(())
}

/// The same the other way round: two SUBs of ours with the same topic at libzmq's XPUB
#[tokio::test]
async fn libzmqs_xpub_hears_each_change_of_ours() -> Result<()> {
    let Some(mut peer) = Peer::start().await? else { return Ok(()) };
    let id = peer.open("XPUB", json!({"XPUB_VERBOSER": 1})).await?;
    let endpoint = peer.bind(&id, "tcp://127.0.0.1:*").await?;
    let context = Context::new();
    let (first, second) = (context.socket(SocketType::Sub)?, context.socket(SocketType::Sub)?);
    for (subscriber, topic) in [(&first, "a"), (&second, "a")] {
        subscriber.subscribe(topic)?;
        within(PATIENCE, "our connect", subscriber.connect(&endpoint)?).await??;
        peer.expect(&id, [b"\x01a"]).await?;
    }
    // A topic held twice is sent twice and ended once, as libzmq does
    first.subscribe("a")?;
    peer.expect(&id, [b"\x01a"]).await?;
    first.unsubscribe("a")?;
    first.subscribe("marker")?;
    peer.expect(&id, [b"\x01marker"]).await.context("one of two subscriptions of a topic was ended")?;
    first.unsubscribe("a")?;
    peer.expect(&id, [b"\x00a"]).await?;
    second.close(PATIENCE).await;
    peer.expect(&id, [b"\x00a"]).await.context("a subscriber that leaves ends its subscriptions")
}

/// Topics of 0, 255 and 256 octets, where commands change from the short to the long form
#[tokio::test]
async fn topics_of_any_length_match() -> Result<()> {
    let Some(mut peer) = Peer::start().await? else { return Ok(()) };
    for transport in Transport::ALL {
        for length in [0, 245, 246, 255, 256, 70_000] {
            let topic = vec![b't'; length];
            topic_both_ways(transport, &topic, &mut peer)
                .await
                .with_context(|| format!("{transport:?}, a topic of {length} octets"))?;
        }
    }
    Ok(())
}

async fn topic_both_ways(transport: Transport, topic: &[u8], peer: &mut Peer) -> Result<()> {
    let way = Way { transport, binds: Side::Ours };
    let context = Context::new();
    let longer = [topic, b"!"].concat();
    let shorter = topic.len().checked_sub(1).map(|end| topic[..end].to_vec());

    let subscriber = context.socket(SocketType::Sub)?;
    subscriber.subscribe(topic)?;
    let id = peer.open("XPUB", json!({})).await?;
    way.join(&subscriber, peer, &id).await?;
    peer.expect(&id, [&[&[1], topic].concat()]).await?;
    for first in shorter.iter().chain([&longer]) {
        peer.send(&id, &[first, &b"body".to_vec()]).await?;
    }
    expect(&subscriber, [&longer, b"body"]).await?;
    subscriber.unsubscribe(topic)?;
    peer.expect(&id, [&[&[0], topic].concat()]).await?;
    peer.close(&id).await?;

    let publisher = context.socket(SocketType::Xpub)?;
    let id = peer.open("SUB", json!({})).await?;
    peer.subscribe(&id, topic).await?;
    way.join(&publisher, peer, &id).await?;
    expect(&publisher, [&[&[1], topic].concat()]).await?;
    for first in shorter.iter().chain([&longer]) {
        send(&publisher, Message::multipart([first.clone(), b"body".to_vec()])).await?;
    }
    peer.expect(&id, [&longer, b"body"]).await?;
    peer.unsubscribe(&id, topic).await?;
    expect(&publisher, [&[&[0], topic].concat()]).await?;
    peer.close(&id).await
}

fn marked(kind: u8, topic: &str) -> Vec<u8> {
    [&[kind], topic.as_bytes()].concat()
}
