//! The exchange in zgossip's manual (its self test), once with the base ours and once with a client ours.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::czmq::Czmq;
use crate::ours::Ours;
use crate::waiting::PATIENCE;

/// HELLO gets no message, PING is answered by PONG
#[tokio::test(flavor = "multi_thread")]
async fn a_client_says_hello_and_ping() -> Result<()> {
    let Some(mut czmq) = Czmq::start().await? else { return Ok(()) };
    let server = Ours::start("server").await?;
    czmq.dealer("client", &server.bind("tcp://127.0.0.1:*").await?).await?;
    czmq.send("client", &[HELLO]).await?;
    czmq.send("client", &[PING]).await?;
    let answer = czmq.recv("client", PATIENCE).await?;
    ensure!(answer.as_deref() == Some(&[PONG.into()]), "{answer:?}");
    // Nothing came before it, nor behind it
    ensure!(czmq.recv("client", Duration::from_millis(200)).await?.is_none());
    server.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn alpha_and_beta_are_theirs() -> Result<()> {
    let Some(mut czmq) = Czmq::start().await? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let base = Ours::start("base").await?;
    let endpoint = base.bind(&format!("ipc://{}/base", folder.path().display())).await?;
    for (node, service) in [("alpha", ["service1", "service2"]), ("beta", ["service1", "service2"])] {
        czmq.node(node, None).await?;
        czmq.connect(node, &endpoint).await?;
        for (number, service) in (1..).zip(service) {
            czmq.publish(node, format!("inproc://{node}-{number}"), service).await?;
        }
        base.until_tuples(if node == "alpha" { 2 } else { 4 }).await?;
    }
    czmq.until_tuples("alpha", 4).await?;
    ensure!(czmq.status("alpha").await? == 4);
    let log = czmq.log("alpha").await?;
    ensure!(log == [&DELIVERED[..], &["STATUS 4"]].concat(), "{log:?}");
    base.until_told(4).await?;
    let log = base.log();
    ensure!(log == DELIVERED, "{log:?}");
    // "got nothing": a snapshot's order is not told
    czmq.until_tuples("beta", 4).await?;
    ensure!(czmq.status("beta").await? == 4);
    base.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn base_and_beta_are_theirs() -> Result<()> {
    let Some(mut czmq) = Czmq::start().await? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    // "Set a 100msec timeout on clients so we can test expiry"
    czmq.node("base", Some(100)).await?;
    let endpoint = format!("ipc://{}/base", folder.path().display());
    czmq.bind("base", &endpoint).await?;
    let alpha = Ours::start("alpha").await?;
    alpha.connect(&endpoint)?;
    alpha.put(b"inproc://alpha-1", b"service1").await?;
    alpha.put(b"inproc://alpha-2", b"service2").await?;
    czmq.until_tuples("base", 2).await?;
    czmq.node("beta", None).await?;
    czmq.connect("beta", &endpoint).await?;
    czmq.publish("beta", "inproc://beta-1", "service1").await?;
    czmq.publish("beta", "inproc://beta-2", "service2").await?;
    alpha.until_told(4).await?;
    let log = alpha.log();
    ensure!(log == DELIVERED, "{log:?}");
    for node in ["base", "beta"] {
        czmq.until_tuples(node, 4).await?;
        ensure!(czmq.status(node).await? == 4);
    }
    alpha.stop().await
}

const DELIVERED: [&str; 4] = [
    "DELIVER inproc://alpha-1 service1",
    "DELIVER inproc://alpha-2 service2",
    "DELIVER inproc://beta-1 service1",
    "DELIVER inproc://beta-2 service2",
];

pub(crate) const HELLO: &[u8] = b"\xaa\xa0\x01\x01";
pub(crate) const PING: &[u8] = b"\xaa\xa0\x03\x01";
pub(crate) const PONG: &[u8] = b"\xaa\xa0\x04\x01";
pub(crate) const INVALID: &[u8] = b"\xaa\xa0\x05\x01";
