//! Heartbeats between us and libzmq in both roles, and what happens when one side falls silent.
//!
//! Silence is made in two ways: libzmq's whole process is stopped with SIGSTOP, or a tap on the
//! connection stops passing octets on.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidings_socket::{Context, EventKind, EventStream, Options, Socket, SocketType};

use crate::peer::Peer;
use crate::tap::{Seen, Tap};
use crate::waiting::{PATIENCE, disconnected, expect, handshaken, message, send, within};
use crate::way::{Side, Transport, Way};

/// Heartbeats go to and fro, the connection stays, and messages flow among them
#[tokio::test]
async fn each_side_answers_the_others_pings() -> Result<()> {
    let Some(mut peer) = Peer::start().await? else { return Ok(()) };
    for binds in [Side::Ours, Side::Theirs] {
        for pings in [Side::Ours, Side::Theirs] {
            answered(binds, pings, &mut peer).await.with_context(|| format!("{binds:?} binds, {pings:?} pings"))?;
        }
    }
    Ok(())
}

async fn answered(binds: Side, pings: Side, peer: &mut Peer) -> Result<()> {
    let (ours, theirs) = match pings {
        Side::Ours => (heartbeats(50, 5000, 2000), json!({})),
        Side::Theirs => {
            (Options::new(), json!({"HEARTBEAT_IVL": 50, "HEARTBEAT_TIMEOUT": 5000, "HEARTBEAT_TTL": 2000}))
        }
    };
    let (socket, id, tap, mut events) = tapped(binds, ours, theirs, peer).await?;
    let enough = |seen: &Seen| {
        let (ours, theirs) = match binds {
            Side::Ours => (seen.from_bound, seen.from_connecting),
            Side::Theirs => (seen.from_connecting, seen.from_bound),
        };
        match pings {
            Side::Ours => ours.pings >= 5 && theirs.pongs >= 5,
            Side::Theirs => theirs.pings >= 5 && ours.pongs >= 5,
        }
    };
    tap.until("five heartbeats and their answers", enough).await?;
    chat(&socket, peer, &id).await?;
    let lost =
        std::iter::from_fn(|| events.try_next()).find(|event| matches!(event.kind, EventKind::Disconnected { .. }));
    ensure!(lost.is_none(), "{lost:?}");
    peer.close(&id).await
}

/// A libzmq that is stopped with SIGSTOP: our PING stays unanswered; once it goes on, we are connected again
#[tokio::test]
async fn a_frozen_libzmq_is_noticed_and_met_again() -> Result<()> {
    let Some(mut peer) = Peer::start().await? else { return Ok(()) };
    for way in Way::ALL {
        let socket = Context::new().socket_with(SocketType::Dealer, heartbeats(100, 300, 0))?;
        let mut events = socket.events();
        let id = peer.open("DEALER", json!({})).await?;
        way.join(&socket, &mut peer, &id).await?;
        handshaken(&mut events).await?;
        chat(&socket, &mut peer, &id).await?;
        freeze(&socket, &mut events, &mut peer, &id, "heartbeat-timed-out").await.with_context(|| way.to_string())?;
    }
    Ok(())
}

/// The same without heartbeats of ours: libzmq had promised to speak again within 300 ms
#[tokio::test]
async fn a_frozen_libzmq_outlives_the_time_it_announced() -> Result<()> {
    let Some(mut peer) = Peer::start().await? else { return Ok(()) };
    for binds in [Side::Ours, Side::Theirs] {
        let theirs = json!({"HEARTBEAT_IVL": 100, "HEARTBEAT_TTL": 300, "HEARTBEAT_TIMEOUT": 60_000});
        let (socket, id, tap, mut events) = tapped(binds, Options::new(), theirs, &mut peer).await?;
        tap.until("a heartbeat", |seen| seen.from_bound.pings + seen.from_connecting.pings > 0).await?;
        freeze(&socket, &mut events, &mut peer, &id, "ttl-expired")
            .await
            .with_context(|| format!("{binds:?} binds"))?;
    }
    Ok(())
}

async fn freeze(socket: &Socket, events: &mut EventStream, peer: &mut Peer, id: &str, reason: &str) -> Result<()> {
    peer.freeze()?;
    let noticed = disconnected(events).await;
    peer.thaw()?;
    let (noticed, ..) = noticed?;
    ensure!(noticed == reason, "closed for {noticed}");
    handshaken(events).await?;
    chat(socket, peer, id).await?;
    ensure!(socket.stats().closes.get(reason) == Some(&1), "{:?}", socket.stats().closes);
    peer.close(id).await
}

/// We fall silent: libzmq gives us up, by its own timeout or by the time to live we told it, and comes again
#[tokio::test]
async fn libzmq_gives_us_up_when_we_fall_silent() -> Result<()> {
    let Some(mut peer) = Peer::start().await? else { return Ok(()) };
    let timeout = (Options::new(), json!({"HEARTBEAT_IVL": 100, "HEARTBEAT_TIMEOUT": 300}));
    // Ours would wait much longer for libzmq than it tells libzmq to wait for it
    let ttl = (heartbeats(100, 60_000, 300), json!({}));
    for (label, (ours, theirs)) in [("by its timeout", timeout), ("by our time to live", ttl)] {
        let (socket, id, tap, mut events) = tapped(Side::Ours, ours, theirs, &mut peer).await?;
        let pinged = |seen: &Seen| seen.from_bound.pings + seen.from_connecting.pings > 0;
        tap.until("a heartbeat", pinged).await.context(label)?;
        tap.freeze();
        peer.monitor(&id, "DISCONNECTED").await.context(label)?;
        tap.thaw();
        handshaken(&mut events).await.context(label)?;
        peer.monitor(&id, "HANDSHAKE_SUCCEEDED").await.context(label)?;
        peer.close(&id).await?;
        socket.close(PATIENCE).await;
    }
    Ok(())
}

fn heartbeats(interval: u64, timeout: u64, ttl: u64) -> Options {
    Options::new()
        .heartbeat_interval(Some(Duration::from_millis(interval)))
        .heartbeat_timeout(Some(Duration::from_millis(timeout)))
        .heartbeat_ttl(Duration::from_millis(ttl))
}

/// A DEALER on each side with a tap between them
async fn tapped(
    binds: Side,
    ours: Options,
    theirs: Value,
    peer: &mut Peer,
) -> Result<(Socket, String, Tap, EventStream)> {
    let socket = Context::new().socket_with(SocketType::Dealer, ours)?;
    let mut events = socket.events();
    let id = peer.open("DEALER", theirs).await?;
    let wanted = Transport::Tcp.fresh_endpoint(peer);
    let tap = match binds {
        Side::Ours => {
            let tap = Tap::on(&within(PATIENCE, "our bind", socket.bind(wanted)?).await??.to_string()).await?;
            peer.connect(&id, tap.endpoint()).await?;
            tap
        }
        Side::Theirs => {
            let tap = Tap::on(&peer.bind(&id, &wanted).await?).await?;
            within(PATIENCE, "our connect", socket.connect(tap.endpoint())?).await??;
            tap
        }
    };
    handshaken(&mut events).await?;
    peer.monitor(&id, "HANDSHAKE_SUCCEEDED").await?;
    Ok((socket, id, tap, events))
}

async fn chat(socket: &Socket, peer: &mut Peer, id: &str) -> Result<()> {
    send(socket, message([b"to libzmq"])).await?;
    peer.expect(id, [b"to libzmq"]).await?;
    peer.send(id, &["to us"]).await?;
    expect(socket, [b"to us"]).await
}
