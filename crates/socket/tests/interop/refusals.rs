//! Socket types that have no use for each other: both sides say so, and neither goes on trying in vain.
//!
//! What was seen with libzmq 4.3.5: when it finds our type wrong it closes the connection without a word. Its
//! own READY has mostly left by then, so ours finds the types wrong by itself and says which; but where our
//! READY reaches libzmq together with the end of our greeting, it closes before it has said READY, and all
//! that ours sees is a connection closed during the handshake. As the side that connects ours tries again
//! then, until it has heard the READY and knows. The ERROR command that ours says is never read by libzmq,
//! whose monitor says DISCONNECTED alone, neither HANDSHAKE_FAILED_PROTOCOL nor _AUTH: an application can't
//! tell it from a lost connection. As the side that connects libzmq forgets the endpoint: it does not even
//! schedule another try.

use anyhow::{Result, ensure};
use serde_json::json;
use tidings_socket::{ConnectError, Context, Event, EventKind, SocketType};

use crate::peer::Peer;
use crate::waiting::{PATIENCE, event, within};
use crate::way::{Side, Transport, Way};

#[tokio::test]
async fn our_connect_is_refused_by_the_wrong_type() -> Result<()> {
    let Some(mut peer) = Peer::start().await? else { return Ok(()) };
    for transport in Transport::ALL {
        for (ours, theirs) in WRONG {
            let socket = Context::new().socket(ours)?;
            let mut events = socket.events();
            let id = peer.open(theirs, json!({})).await?;
            let wanted = transport.fresh_endpoint(&peer);
            let endpoint = peer.bind(&id, &wanted).await?;
            let outcome = within(PATIENCE, "our connect", socket.connect(&endpoint)?).await?;
            let Err(ConnectError::Refused { code, reason, .. }) = &outcome else {
                anyhow::bail!("{ours}-{theirs}, {transport:?}: {outcome:?}");
            };
            ensure!(code == "incompatible-socket-type", "{code}");
            ensure!(reason.contains(ours.name()) && reason.contains(theirs), "{reason}");
            loop {
                let (ended, retry) = event(&mut events, "handshake-failed", failure).await?;
                if ended == "incompatible-socket-type" {
                    ensure!(retry.is_none(), "it is tried again");
                    break;
                }
                ensure!(BEFORE_READY.contains(&ended) && retry.is_some(), "{ended}, next try in {retry:?} ms");
            }
            peer.monitor(&id, "DISCONNECTED").await?;
            let seen = peer.events(&id).await?;
            let usual = |event: &String| ["LISTENING", "ACCEPTED", "DISCONNECTED"].contains(&event.as_str());
            ensure!(seen.iter().all(usual), "{seen:?}");
            peer.close(&id).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn libzmqs_connect_is_refused_by_the_wrong_type_and_not_repeated() -> Result<()> {
    let Some(mut peer) = Peer::start().await? else { return Ok(()) };
    for transport in Transport::ALL {
        for (ours, theirs) in WRONG {
            let socket = Context::new().socket(ours)?;
            let mut events = socket.events();
            let endpoint = socket.bind(transport.fresh_endpoint(&peer))?.await?.to_string();
            let id = peer.open(theirs, json!({})).await?;
            peer.connect(&id, &endpoint).await?;
            let (ended, _) = event(&mut events, "handshake-failed", failure).await?;
            if !BEFORE_READY.contains(&ended) {
                let (code, reason) = event(&mut events, "refused", |event| match &event.kind {
                    EventKind::Refused { code, reason } => Some((code.clone(), reason.clone())),
                    _ => None,
                })
                .await?;
                ensure!(
                    code == ended && code == "incompatible-socket-type" && reason.contains(theirs),
                    "{code}: {reason}"
                );
            }
            peer.monitor(&id, "DISCONNECTED").await?;
            // libzmq's I/O thread schedules a retry at once: after another handshake it would be known
            let (near, far) = (Context::new().socket(SocketType::Pair)?, peer.open("PAIR", json!({})).await?);
            Way { transport, binds: Side::Ours }.join(&near, &mut peer, &far).await?;
            let seen = peer.events(&id).await?;
            ensure!(
                seen == ["CONNECT_DELAYED", "CONNECTED", "DISCONNECTED"] || seen == ["CONNECTED", "DISCONNECTED"],
                "{seen:?}"
            );
            peer.close(&id).await?;
            let closes = socket.stats().closes;
            ensure!(closes.len() == 1 && closes.get(ended) == Some(&1), "{closes:?}");
        }
    }
    Ok(())
}

fn failure(event: &Event) -> Option<(&'static str, Option<u64>)> {
    match event.kind {
        EventKind::HandshakeFailed { reason, retry_in_ms, .. } => Some((reason, retry_in_ms)),
        _ => None,
    }
}

/// What ours says of a libzmq that closed before it had said READY
const BEFORE_READY: [&str; 2] = ["peer-closed", "transport-failed"];
const WRONG: [(SocketType, &str); 4] =
    [(SocketType::Push, "REP"), (SocketType::Sub, "SUB"), (SocketType::Req, "DEALER"), (SocketType::Pair, "PUB")];
