//! 100,000 messages in order, none lost or doubled, whichever side sends, over tcp and ipc, bound on either side.
//!
//! The tests over tcp run on a current-thread runtime and those over ipc on two worker threads, so that
//! both kinds of scheduling are met. PULL and SUB take messages by `recv_many`, the others one by one.

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use serde_json::json;
use tidings_socket::{Context, Message, Options, Socket, SocketType};

use crate::peer::{Peer, encode, fill};
use crate::waiting::{PATIENCE, expect, recv, within};
use crate::way::{Transport, Way};

macro_rules! over_both_transports {
    ($($module:ident: $run:ident;)+) => { $(
        mod $module {
            use super::*;

            #[tokio::test]
            async fn over_tcp() -> Result<()> {
                super::over(Transport::Tcp, async |way, peer| super::$run(way, peer).await).await
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn over_ipc() -> Result<()> {
                super::over(Transport::Ipc, async |way, peer| super::$run(way, peer).await).await
            }
        }
    )+ };
}

over_both_transports! {
    push_to_pull: our_push;
    pull_from_push: our_pull;
    dealer_with_router: our_dealer;
    router_with_dealer: our_router;
    pub_to_sub: our_pub;
    sub_from_pub: our_sub;
}

async fn over(transport: Transport, mut run: impl AsyncFnMut(Way, &mut Peer) -> Result<()>) -> Result<()> {
    let Some(mut peer) = Peer::start().await? else { return Ok(()) };
    for way in Way::ALL.into_iter().filter(|way| way.transport == transport) {
        run(way, &mut peer).await.with_context(|| way.to_string())?;
    }
    Ok(())
}

async fn our_push(way: Way, peer: &mut Peer) -> Result<()> {
    let push = Context::new().socket(SocketType::Push)?;
    let id = peer.open("PULL", json!({})).await?;
    way.join(&push, peer, &id).await?;
    peer.tell(json!({"op": "recv_sequence", "id": id, "count": COUNT, "size": SIZE, "prefix": [],
        "timeout": 60_000, "background": "in"}))
        .await?;
    let mut next = 0;
    let mut batch = Vec::new();
    while next < COUNT || !batch.is_empty() {
        let fresh = (next..COUNT).take(300 - batch.len());
        next += fresh.clone().count() as u64;
        batch.extend(fresh.map(|number| Message::from(numbered(number, SIZE))));
        within(PATIENCE, "our PUSH sends", push.send_many(&mut batch)).await??;
    }
    peer.joined("in").await?;
    crate::waiting::send(&push, Message::from("end")).await?;
    peer.expect(&id, [b"end"]).await
}

async fn our_pull(way: Way, peer: &mut Peer) -> Result<()> {
    let pull = Context::new().socket(SocketType::Pull)?;
    let id = peer.open("PUSH", json!({})).await?;
    way.join(&pull, peer, &id).await?;
    start_sending(peer, &id, json!([])).await?;
    receive_in_batches(&pull).await?;
    peer.joined("out").await?;
    peer.send(&id, &["end"]).await?;
    expect(&pull, [b"end"]).await
}

/// Both directions at once: libzmq's ROUTER sends everything back
async fn our_dealer(way: Way, peer: &mut Peer) -> Result<()> {
    let dealer = Context::new().socket(SocketType::Dealer)?;
    let id = peer.open("ROUTER", json!({"ROUTER_MANDATORY": 1})).await?;
    way.join(&dealer, peer, &id).await?;
    peer.tell(json!({"op": "echo", "id": id, "count": COUNT, "timeout": 60_000, "background": "echo"})).await?;
    let sending = async {
        for number in 0..COUNT {
            crate::waiting::send(&dealer, Message::from(numbered(number, SIZE))).await?;
        }
        anyhow::Ok(())
    };
    let receiving = async {
        for number in 0..COUNT {
            check(number, &recv(&dealer).await?)?;
        }
        anyhow::Ok(())
    };
    tokio::try_join!(sending, receiving)?;
    peer.joined("echo").await?;
    crate::waiting::send(&dealer, Message::from("end")).await?;
    let last = peer.recv(&id).await?;
    ensure!(last.last().is_some_and(|frame| frame == "end"), "more than was sent: {last:?}");
    peer.send(&id, &last).await?;
    expect(&dealer, [b"end"]).await
}

/// Both directions at once: our ROUTER sends everything back
async fn our_router(way: Way, peer: &mut Peer) -> Result<()> {
    let options = Options::new().router_mandatory(true);
    let router = Context::new().socket_with(SocketType::Router, options)?;
    let id = peer.open("DEALER", json!({"ROUTING_ID": encode(b"dealer")})).await?;
    way.join(&router, peer, &id).await?;
    within(PATIENCE, "ready", router.ready(1, PATIENCE)).await??;
    peer.tell(json!({"op": "request_sequence", "id": id, "count": COUNT, "size": SIZE, "window": 500,
        "timeout": 60_000, "background": "asking"}))
        .await?;
    for number in 0..COUNT {
        let request = recv(&router).await?;
        let [from, body] = &request[..] else { bail!("{} frames", request.len()) };
        ensure!(from == "dealer", "from {from:?}");
        check(number, std::slice::from_ref(body))?;
        crate::waiting::send(&router, Message::multipart(request)).await?;
    }
    peer.joined("asking").await?;
    peer.send(&id, &["end"]).await?;
    expect(&router, [b"dealer", b"end"]).await
}

async fn our_pub(way: Way, peer: &mut Peer) -> Result<()> {
    let publisher = Context::new().socket_with(SocketType::Pub, Options::new().xpub_nodrop(true))?;
    let id = peer.open("SUB", json!({})).await?;
    peer.subscribe(&id, b"").await?;
    way.join(&publisher, peer, &id).await?;
    within(PATIENCE, "ready", publisher.ready(1, PATIENCE)).await??;
    peer.tell(json!({"op": "recv_sequence", "id": id, "count": COUNT, "size": SIZE, "prefix": [],
        "timeout": 60_000, "background": "in"}))
        .await?;
    for number in 0..COUNT {
        crate::waiting::send(&publisher, Message::from(numbered(number, SIZE))).await?;
    }
    peer.joined("in").await?;
    ensure!(publisher.stats().dropped == 0, "dropped: {:?}", publisher.stats());
    crate::waiting::send(&publisher, Message::from("end")).await?;
    peer.expect(&id, [b"end"]).await
}

async fn our_sub(way: Way, peer: &mut Peer) -> Result<()> {
    let subscriber = Context::new().socket(SocketType::Sub)?;
    subscriber.subscribe("")?;
    let id = peer.open("PUB", json!({"XPUB_NODROP": 1})).await?;
    way.join(&subscriber, peer, &id).await?;
    peer.repeat(&id, BEACON, 5).await?;
    expect(&subscriber, [BEACON]).await?;
    peer.stop(&id).await?;
    start_sending(peer, &id, json!([])).await?;
    receive_in_batches(&subscriber).await?;
    peer.joined("out").await?;
    peer.send(&id, &["end"]).await?;
    expect(&subscriber, [b"end"]).await
}

async fn start_sending(peer: &mut Peer, id: &str, prefix: serde_json::Value) -> Result<()> {
    let command = json!({"op": "send_sequence", "id": id, "count": COUNT, "size": SIZE, "prefix": prefix,
        "timeout": 60_000, "background": "out"});
    peer.tell(command).await.map(drop)
}

async fn receive_in_batches(socket: &Socket) -> Result<()> {
    let mut batch = Vec::new();
    let mut next = 0;
    while next < COUNT {
        let what = format!("message {next}");
        within(PATIENCE, &what, socket.recv_many(&mut batch, 300)).await??;
        for message in batch.drain(..).filter(|message| message.first() != BEACON) {
            check(next, &message.into_frames())?;
            next += 1;
        }
    }
    Ok(())
}

/// The driver's numbered message: eight octets of number, then filling
pub(crate) fn numbered(number: u64, size: usize) -> Bytes {
    let mut octets = fill(size);
    octets[..8].copy_from_slice(&number.to_be_bytes());
    octets.into()
}

fn check(number: u64, frames: &[Bytes]) -> Result<()> {
    let [frame] = frames else { bail!("{} frames instead of message {number}", frames.len()) };
    if *frame == numbered(number, SIZE) {
        return Ok(());
    }
    let got = frame.get(..8).and_then(|octets| octets.try_into().ok()).map(u64::from_be_bytes);
    bail!("message {got:?} of {} octets instead of message {number}", frame.len())
}

const COUNT: u64 = 100_000;
const SIZE: usize = 32;
const BEACON: &[u8] = b"beacon";
