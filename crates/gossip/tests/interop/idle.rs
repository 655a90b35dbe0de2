//! An hour without news, compressed by a short `server/timeout`: nobody is forgotten who is there.

use std::env;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::czmq::Czmq;
use crate::malformed::publish;
use crate::manual::{HELLO, INVALID, PING, PONG};
use crate::network::Whose::{Ours as Our, Theirs};
use crate::network::{Network, Plan, Transport, name};
use crate::ours::Ours;
use crate::waiting::PATIENCE;

/// As many timeouts as an hour has seconds, CZMQ's own being one; a part of that in a short run
#[tokio::test(flavor = "multi_thread")]
async fn an_hour_without_news() -> Result<()> {
    let minutes = if env::var_os("TIDINGS_INTEROP_ALL").is_some() { 60 } else { 2 };
    let plan = Plan::ring(vec![Our, Theirs, Our, Theirs], Transport::Tcp).forgets_after(TIMEOUT.as_millis() as u64);
    let Some(mut network) = Network::start(plan).await? else { return Ok(()) };
    for place in 0..4 {
        network.publish(place, name(place), "before").await?;
    }
    network.until_tuples(4).await?;
    for _ in 0..minutes {
        network.czmq.until_quiet(&name(1), TIMEOUT * 60).await?;
    }
    ensure!(network.czmq.delivered(&name(1)).await?.deliveries == 4, "there were news");
    for place in 0..4 {
        // Alone, so that none fetches what another one's came too late for
        network.publish(place, format!("after-{place}"), "news").await?;
        network.until_tuples(5 + place).await?;
    }
    network.agree().await?;
    network.alive(8).await.map(drop)
}

/// Their client says nothing for longer than their own servers would remember it; ours does, and its news get there
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_client_is_remembered() -> Result<()> {
    let Some(mut czmq) = Czmq::start().await? else { return Ok(()) };
    let server = Ours::start("server").await?;
    czmq.node("silent", None).await?;
    czmq.connect("silent", &server.bind("tcp://127.0.0.1:*").await?).await?;
    server.put(b"before", b"value").await?;
    czmq.until_tuples("silent", 1).await?;
    czmq.until_quiet("silent", Duration::from_millis(1500)).await?;
    server.put(b"after", b"value").await?;
    czmq.until_tuples("silent", 2).await?;
    // Its own news are not lost either
    czmq.publish("silent", "its own", "value").await?;
    server.until_tuples(3).await?;
    ensure!(czmq.status("silent").await? == 3);
    server.stop().await
}

/// With `server/timeout` set ours forgets as the original does, without a word; who comes back late is told INVALID
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_client_is_forgotten_on_demand() -> Result<()> {
    let Some(mut czmq) = Czmq::start().await? else { return Ok(()) };
    let server = Ours::start_with("server", |config| config.server_timeout = Some(TIMEOUT)).await?;
    czmq.dealer("raw", &server.bind("tcp://127.0.0.1:*").await?).await?;
    czmq.send("raw", &[HELLO]).await?;
    czmq.send("raw", &[PING]).await?;
    let answer = czmq.recv("raw", PATIENCE).await?;
    ensure!(answer.as_deref() == Some(&[PONG.into()]), "{answer:?}");
    let silence = czmq.recv("raw", 4 * TIMEOUT).await?;
    ensure!(silence.is_none(), "{silence:?}");
    // Its news come too late
    czmq.send("raw", &[&publish("its own", "value")]).await?;
    let answer = czmq.recv("raw", PATIENCE).await?.context("no answer")?;
    ensure!(answer == [INVALID], "{answer:?}");
    ensure!(server.table().is_empty());
    server.stop().await
}

/// CZMQ's is 1,000 ms
const TIMEOUT: Duration = Duration::from_millis(50);
