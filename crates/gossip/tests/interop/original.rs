//! CZMQ's nodes among themselves: what the other files guard against does happen, and these tests would see it.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::czmq::Czmq;
use crate::malformed::malformed;
use crate::manual::{HELLO, INVALID, PING};
use crate::waiting::PATIENCE;

/// Each of the frames that our nodes survive stops one of CZMQ's
#[tokio::test(flavor = "multi_thread")]
async fn one_malformed_frame_stops_a_node() -> Result<()> {
    let Some(mut czmq) = Czmq::start().await? else { return Ok(()) };
    for (what, frames) in malformed() {
        czmq.node("node", Some(0)).await?;
        let endpoint = czmq.bind("node", "tcp://127.0.0.1:*").await?;
        ensure!(czmq.status("node").await? == 0);
        czmq.dealer("raw", &endpoint).await?;
        let frames: Vec<&[u8]> = frames.iter().map(|frame| &frame[..]).collect();
        czmq.send("raw", &frames).await?;
        ensure!(czmq.until_ended("node").await?, "{what} does not stop it");
        czmq.close("raw").await?;
        czmq.term("node").await?;
    }
    Ok(())
}

/// Two values that were published at the same time overwrite each other without an end
#[tokio::test(flavor = "multi_thread")]
async fn two_writers_never_agree() -> Result<()> {
    let Some(mut czmq) = Czmq::start().await? else { return Ok(()) };
    for node in ["one", "other"] {
        czmq.node(node, Some(0)).await?;
    }
    let endpoint = czmq.bind("one", "tcp://127.0.0.1:*").await?;
    czmq.connect("other", &endpoint).await?;
    czmq.publish("one", "first", "is there").await?;
    czmq.until_tuples("other", 1).await?;
    for round in 0..50 {
        czmq.publish("one", "contested", format!("{round} of the one")).await?;
        czmq.publish("other", "contested", format!("{round} of the other")).await?;
        let before = czmq.delivered("one").await?.deliveries;
        if czmq.run_for("one", Duration::from_millis(50)).await?.deliveries > before + 500 {
            return Ok(());
        }
    }
    anyhow::bail!("they agree")
}

/// A client that said nothing for `server/timeout` hears of nothing more, and what it publishes is lost
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_client_loses_news() -> Result<()> {
    let Some(mut czmq) = Czmq::start().await? else { return Ok(()) };
    czmq.node("server", Some(50)).await?;
    let endpoint = czmq.bind("server", "tcp://127.0.0.1:*").await?;
    czmq.node("silent", None).await?;
    czmq.connect("silent", &endpoint).await?;
    czmq.publish("server", "before", "value").await?;
    czmq.until_tuples("silent", 1).await?;
    czmq.run_for("silent", Duration::from_millis(200)).await?;
    czmq.publish("server", "after", "value").await?;
    let delivered = czmq.run_for("silent", Duration::from_millis(200)).await?;
    ensure!(delivered.tuples == 1, "{delivered:?}");
    czmq.publish("silent", "its own", "value").await?;
    // It is told INVALID, says HELLO and gets what it missed; its own tuple stays unknown there
    czmq.until_tuples("silent", 3).await?;
    ensure!(czmq.status("server").await? == 2);
    Ok(())
}

/// A client that is forgotten goes on being answered PONG, and learns of it with the next tuple only: PINGs are no cure
#[tokio::test(flavor = "multi_thread")]
async fn pings_come_too_late_for_the_forgotten() -> Result<()> {
    let Some(mut czmq) = Czmq::start().await? else { return Ok(()) };
    czmq.node("server", Some(50)).await?;
    let endpoint = czmq.bind("server", "tcp://127.0.0.1:*").await?;
    czmq.dealer("raw", &endpoint).await?;
    czmq.send("raw", &[HELLO]).await?;
    ensure!(czmq.recv("raw", Duration::from_millis(200)).await?.is_none());
    czmq.send("raw", &[PING]).await?;
    ensure!(czmq.recv("raw", PATIENCE).await?.is_some());
    czmq.publish("server", "key", "value").await?;
    let answer = czmq.recv("raw", PATIENCE).await?;
    ensure!(answer.as_deref() == Some(&[INVALID.into()]), "{answer:?}");
    Ok(())
}
