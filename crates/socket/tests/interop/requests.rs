//! REQ: correlate and relaxed in both roles, `request` with a deadline, and a REP that dies with the request.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use serde_json::json;
use tidings_socket::{Context, Message, Options, RequestError, SocketType};
use tokio::task::JoinSet;

use crate::peer::Peer;
use crate::waiting::{PATIENCE, disconnected, expect, handshaken, message, recv, send, within};
use crate::way::{Side, Transport, Way};

/// With correlate our REQ takes the reply that carries its number and no other
#[tokio::test]
async fn our_req_takes_the_correlated_reply_alone() -> Result<()> {
    let Some(mut peer) = Peer::start().await? else { return Ok(()) };
    for way in Way::ALL {
        let options = Options::new().req_correlate(true);
        let req = Context::new().socket_with(SocketType::Req, options)?;
        let id = peer.open("ROUTER", json!({})).await?;
        way.join(&req, &mut peer, &id).await?;
        let mut last = None;
        for round in 0..3 {
            send(&req, message([b"question"])).await?;
            let request = peer.recv(&id).await?;
            let [_, number, delimiter, body] = &request[..] else { bail!("{way}: {request:?}") };
            ensure!(number.len() == 4 && delimiter.is_empty() && body == "question", "{way}: {request:?}");
            let mut stale = request.clone();
            stale[1] = last.replace(number.clone()).unwrap_or_else(|| Bytes::from_static(b"\xde\xad\xbe\xef"));
            stale[3] = "stale".into();
            peer.send(&id, &stale).await?;
            let mut bare = request.clone();
            bare.remove(1);
            bare[2] = "without a number".into();
            peer.send(&id, &bare).await?;
            let mut answer = request.clone();
            answer[3] = "answer".into();
            peer.send(&id, &answer).await?;
            expect(&req, [b"answer"]).await.with_context(|| format!("{way}, round {round}"))?;
        }
        ensure!(req.stats().unrouted == 6, "{way}: {} late replies", req.stats().unrouted);
        peer.close(&id).await?;
    }
    Ok(())
}

/// With relaxed as well, a new request may follow an unanswered one, whose reply is then passed over
#[tokio::test]
async fn our_relaxed_req_asks_again() -> Result<()> {
    let Some(mut peer) = Peer::start().await? else { return Ok(()) };
    let options = Options::new().req_correlate(true).req_relaxed(true);
    let req = Context::new().socket_with(SocketType::Req, options)?;
    let id = peer.open("ROUTER", json!({})).await?;
    Way { transport: Transport::Tcp, binds: Side::Theirs }.join(&req, &mut peer, &id).await?;
    send(&req, message([b"first"])).await?;
    let first = peer.recv(&id).await?;
    send(&req, message([b"second"])).await?;
    let second = peer.recv(&id).await?;
    ensure!(first[1] != second[1], "both have number {:?}", first[1]);
    peer.send(&id, &first).await?;
    peer.send(&id, &second).await?;
    expect(&req, [b"second"]).await
}

/// libzmq's REQ with both options, at our REP and at our ROUTER
#[tokio::test]
async fn libzmqs_relaxed_req_asks_again() -> Result<()> {
    let Some(mut peer) = Peer::start().await? else { return Ok(()) };
    let context = Context::new();
    for way in Way::ALL {
        let theirs = json!({"REQ_CORRELATE": 1, "REQ_RELAXED": 1});
        let router = context.socket(SocketType::Router)?;
        let id = peer.open("REQ", theirs.clone()).await?;
        way.join(&router, &mut peer, &id).await?;
        peer.send(&id, &["first"]).await?;
        let first = recv(&router).await?;
        peer.send(&id, &["second"]).await?;
        let second = recv(&router).await?;
        ensure!(first.len() == 4 && first[1] != second[1], "{way}: {first:?}, {second:?}");
        send(&router, Message::multipart(first)).await?;
        send(&router, Message::multipart(second)).await?;
        peer.expect(&id, [b"second"]).await.with_context(|| format!("{way}, ROUTER"))?;
        peer.close(&id).await?;

        let rep = context.socket(SocketType::Rep)?;
        let id = peer.open("REQ", theirs).await?;
        way.join(&rep, &mut peer, &id).await?;
        peer.send(&id, &["first"]).await?;
        peer.send(&id, &["second"]).await?;
        for body in ["first", "second"] {
            expect(&rep, [body.as_bytes()]).await?;
            send(&rep, Message::from(body)).await?;
        }
        peer.expect(&id, [b"second"]).await.with_context(|| format!("{way}, REP"))?;
        peer.close(&id).await?;
    }
    Ok(())
}

/// A hundred requests one after the other at a REP; ten at once at a ROUTER that answers them in reverse
#[tokio::test]
async fn every_request_finds_its_reply() -> Result<()> {
    let Some(mut peer) = Peer::start().await? else { return Ok(()) };
    for way in Way::ALL {
        let req = Context::new().socket(SocketType::Req)?;
        let id = peer.open("REP", json!({})).await?;
        way.join(&req, &mut peer, &id).await?;
        peer.tell(json!({"op": "echo", "id": id, "count": 100, "timeout": 20_000, "background": "rep"})).await?;
        for number in 0..100 {
            let body = format!("request {number}");
            let reply =
                req.request(Message::from(body.clone()), PATIENCE).await.with_context(|| format!("{way}: {body}"))?;
            ensure!(reply.first() == body.as_bytes(), "{way}: {reply:?} for {body}");
        }
        peer.joined("rep").await?;
        peer.close(&id).await?;

        let req = Context::new().socket(SocketType::Req)?;
        let id = peer.open("ROUTER", json!({})).await?;
        way.join(&req, &mut peer, &id).await?;
        let mut asking = JoinSet::new();
        for number in 0..10 {
            let req = req.clone();
            asking.spawn(async move {
                let body = format!("request {number}");
                let reply = req.request(Message::from(body.clone()), PATIENCE).await?;
                ensure!(reply.first() == body.as_bytes(), "{reply:?} for {body}");
                Ok(())
            });
        }
        let mut requests = Vec::new();
        for _ in 0..10 {
            requests.push(peer.recv(&id).await?);
        }
        for request in requests.iter().rev() {
            peer.send(&id, request).await?;
        }
        while let Some(asked) = asking.join_next().await {
            asked?.with_context(|| way.to_string())?;
        }
        peer.close(&id).await?;
    }
    Ok(())
}

/// A deadline passes, the late reply is counted and passed over, the next request works
#[tokio::test]
async fn a_request_that_is_not_answered_ends_at_its_deadline() -> Result<()> {
    let Some(mut peer) = Peer::start().await? else { return Ok(()) };
    let req = Context::new().socket(SocketType::Req)?;
    let id = peer.open("ROUTER", json!({})).await?;
    Way { transport: Transport::Tcp, binds: Side::Theirs }.join(&req, &mut peer, &id).await?;
    let outcome = req.request(message([b"ignored"]), Duration::from_millis(100)).await;
    ensure!(matches!(outcome, Err(RequestError::TimedOut { sent: true, .. })), "{outcome:?}");
    let ignored = peer.recv(&id).await?;
    peer.send(&id, &ignored).await?;
    let (reply, answered) = tokio::join!(req.request(message([b"answered"]), PATIENCE), async {
        let request = peer.recv(&id).await?;
        peer.send(&id, &request).await
    });
    answered?;
    ensure!(reply?.first() == b"answered", "another reply");
    ensure!(req.stats().unrouted == 1, "the late reply is not counted: {:?}", req.stats());
    Ok(())
}

/// A REP that is killed with the request in hand: the request ends with a reason, and after its restart the next works
#[tokio::test]
async fn a_rep_that_dies_ends_the_request_and_no_more() -> Result<()> {
    let Some(mut peer) = Peer::start().await? else { return Ok(()) };
    for way in Way::ALL {
        for strict in [false, true] {
            peer = rep_dies(way, strict, peer).await.with_context(|| format!("{way}, strict: {strict}"))?;
        }
    }
    Ok(())
}

async fn rep_dies(way: Way, strict: bool, mut peer: Peer) -> Result<Peer> {
    let req = Context::new().socket(SocketType::Req)?;
    let mut events = req.events();
    let id = peer.open("REP", json!({})).await?;
    let endpoint = way.join(&req, &mut peer, &id).await?.to_string();
    handshaken(&mut events).await?;
    let asking = {
        let req = req.clone();
        async move {
            match strict {
                false => matches!(req.request(message([b"doomed"]), PATIENCE).await, Err(RequestError::PeerGone)),
                true => {
                    req.send(message([b"doomed"])).await.is_ok()
                        && matches!(req.recv().await, Err(tidings_socket::RecvError::PeerGone))
                }
            }
        }
    };
    let asking = tokio::spawn(asking);
    peer.expect(&id, [b"doomed"]).await?;
    let mut peer = peer.restart().await?;
    ensure!(within(PATIENCE, "the request ends", asking).await??, "it did not end with PeerGone");
    disconnected(&mut events).await?;
    let id = peer.open("REP", json!({})).await?;
    match way.binds {
        Side::Ours => peer.connect(&id, &endpoint).await?,
        Side::Theirs => drop(peer.bind(&id, &endpoint).await?),
    }
    peer.tell(json!({"op": "echo", "id": id, "count": 1, "timeout": 20_000, "background": "rep"})).await?;
    let reply = req.request(message([b"next"]), PATIENCE).await?;
    ensure!(reply.first() == b"next", "{reply:?}");
    peer.joined("rep").await?;
    peer.close(&id).await?;
    Ok(peer)
}
