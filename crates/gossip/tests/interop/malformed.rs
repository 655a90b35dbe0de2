//! What stops one of CZMQ's nodes, sent to ours by libzmq's own sockets: ours goes on.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;

use crate::czmq::Czmq;
use crate::manual::{HELLO, INVALID, PING, PONG};
use crate::ours::Ours;
use crate::waiting::PATIENCE;

/// From a client, before its HELLO and after; beside it a node of CZMQ's that goes on hearing of everything
#[tokio::test(flavor = "multi_thread")]
async fn clients_are_answered_by_invalid() -> Result<()> {
    let Some(mut czmq) = Czmq::start().await? else { return Ok(()) };
    let ours = Ours::start("server").await?;
    let endpoint = ours.bind("tcp://127.0.0.1:*").await?;
    ours.put(b"first", b"is there").await?;
    czmq.node("beside", None).await?;
    czmq.connect("beside", &endpoint).await?;
    czmq.until_tuples("beside", 1).await?;
    for (number, (what, frames)) in malformed().into_iter().enumerate() {
        let frames: Vec<&[u8]> = frames.iter().map(|frame| &frame[..]).collect();
        for greets in [true, false] {
            // The connection ends before such a message is whole, and without HELLO there is no link that could be seen to end
            if frames.len() > 2 && !greets {
                continue;
            }
            let raw = format!("raw-{number}-{greets}");
            czmq.dealer(&raw, &endpoint).await?;
            if greets {
                czmq.send(&raw, &[HELLO]).await?;
                let snapshot = czmq.recv(&raw, PATIENCE).await?.context("no tuple came")?;
                ensure!(snapshot == [publish("first", "is there")] || number > 0, "{snapshot:?}");
            }
            let refused = ours.refused();
            czmq.send(&raw, &frames).await?;
            // INVALID, or the connection is closed without it
            match answer(&mut czmq, &raw).await? {
                Some(answer) => ensure!(answer == [INVALID], "{what}: {answer:?}"),
                None => ours.until_refused(refused + 1).await.with_context(|| format!("{what} was not counted"))?,
            }
            ensure!(ours.refused() > refused, "{what} was not counted");
            greet_again(&mut czmq, &raw, what).await?;
            czmq.close(&raw).await?;
            ours.until_links(1).await?;
        }
        let key = format!("after-{number}");
        ours.put(key.as_bytes(), what.as_bytes()).await?;
        czmq.until_value("beside", &key, what).await?;
    }
    let tuples = ours.table().len();
    ensure!(tuples == malformed().len() + 1, "{tuples} tuples");
    ensure!(czmq.status("beside").await? == tuples);
    ours.stop().await
}

/// A flood of it: the link may end, the node does not
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_sends_nothing_else() -> Result<()> {
    let Some(mut czmq) = Czmq::start().await? else { return Ok(()) };
    let ours = Ours::start("server").await?;
    let endpoint = ours.bind("tcp://127.0.0.1:*").await?;
    czmq.dealer("raw", &endpoint).await?;
    for _ in 0..20 {
        for (_, frames) in malformed() {
            let frames: Vec<&[u8]> = frames.iter().map(|frame| &frame[..]).collect();
            czmq.send("raw", &frames).await?;
        }
    }
    ours.until_refused(10).await?;
    czmq.node("beside", None).await?;
    czmq.connect("beside", &endpoint).await?;
    ours.put(b"key", b"value").await?;
    czmq.until_value("beside", "key", "value").await?;
    ensure!(czmq.status("beside").await? == 1);
    ours.stop().await
}

/// From a server that ours is a client of
#[tokio::test(flavor = "multi_thread")]
async fn servers_are_borne_or_left() -> Result<()> {
    let Some(mut czmq) = Czmq::start().await? else { return Ok(()) };
    let ours = Ours::start("client").await?;
    let endpoint = czmq.router("raw", "tcp://127.0.0.1:*").await?;
    ours.connect(&endpoint)?;
    let mut client = greeted(&mut czmq).await?;
    for (number, (what, frames)) in malformed().into_iter().enumerate() {
        let refused = ours.refused();
        let frames: Vec<&[u8]> = [&client[..]].into_iter().chain(frames.iter().map(|frame| &frame[..])).collect();
        czmq.send("raw", &frames).await?;
        ours.until_refused(refused + 1).await.with_context(|| format!("{what} was not counted"))?;
        // On the same connection or a new one
        let key = format!("after-{number}");
        let deadline = Instant::now() + PATIENCE;
        while ours.value(key.as_bytes()).is_none() {
            ensure!(Instant::now() < deadline, "nothing is taken any more after {what}");
            czmq.send("raw", &[&client, &publish(&key, what)]).await?;
            if let Some(message) = czmq.recv("raw", Duration::from_millis(20)).await? {
                client = message.first().context("no routing id")?.clone();
            }
        }
    }
    ours.stop().await
}

/// Everything of section 8 of the wire's fact sheet, and fields cut short wherever they can be
pub(crate) fn malformed() -> Vec<(&'static str, Vec<Bytes>)> {
    let one = |octets: &[u8]| vec![Bytes::copy_from_slice(octets)];
    let tuple = publish("k1", "v1");
    vec![
        ("a bad signature", one(b"\xaa\xa1\x01\x01")),
        ("another signature", one(b"\x01\x02\x03\x04")),
        ("an unknown message", one(b"\xaa\xa0\x06\x01")),
        ("message 0", one(b"\xaa\xa0\x00\x01")),
        ("message 255", one(b"\xaa\xa0\xff\x01")),
        ("version 2", one(b"\xaa\xa0\x01\x02")),
        ("version 0", one(b"\xaa\xa0\x03\x00")),
        ("an empty frame", one(b"")),
        ("one octet", one(b"\xaa")),
        ("no message number", one(b"\xaa\xa0")),
        ("no version", one(b"\xaa\xa0\x01")),
        ("no key", one(&tuple[..4])),
        ("a short key", one(&tuple[..6])),
        ("no value", one(&tuple[..7])),
        ("a short length", one(&tuple[..10])),
        ("a short value", one(&tuple[..12])),
        ("no ttl", one(&tuple[..13])),
        ("a short ttl", one(&tuple[..16])),
        ("a value of 4 GiB", one(b"\xaa\xa0\x02\x01\x02k1\xff\xff\xff\xffv1\0\0\0\0")),
        ("a PING with a second frame", vec![Bytes::from_static(PING), Bytes::new()]),
        ("a PUBLISH with a second frame", vec![tuple.clone(), tuple]),
        ("a HELLO with forty frames", vec![Bytes::from_static(HELLO); 40]),
    ]
}

pub(crate) fn publish(key: &str, value: &str) -> Bytes {
    let mut octets = b"\xaa\xa0\x02\x01".to_vec();
    octets.push(key.len() as u8);
    octets.extend_from_slice(key.as_bytes());
    octets.extend_from_slice(&(value.len() as u32).to_be_bytes());
    octets.extend_from_slice(value.as_bytes());
    octets.extend_from_slice(&[0; 4]);
    octets.into()
}

/// What comes first that is no tuple; `None` if nothing does for a moment
async fn answer(czmq: &mut Czmq, raw: &str) -> Result<Option<Vec<Bytes>>> {
    while let Some(message) = czmq.recv(raw, Duration::from_millis(300)).await? {
        if !message.first().is_some_and(|frame| frame.starts_with(b"\xaa\xa0\x02\x01")) {
            return Ok(Some(message));
        }
    }
    Ok(None)
}

/// The client is in the state `start`, on this connection or a new one: HELLO brings it the tuples, and then PING PONG
async fn greet_again(czmq: &mut Czmq, raw: &str, what: &str) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        czmq.send(raw, &[HELLO]).await?;
        czmq.send(raw, &[PING]).await?;
        // A HELLO too many is answered by INVALID, as the state machine has it
        let mut tuples = 0;
        while let Some(message) = czmq.recv(raw, Duration::from_millis(300)).await? {
            match message.first() {
                Some(frame) if frame == PONG && tuples > 0 => return Ok(()),
                Some(frame) if frame == INVALID || frame == PONG => break,
                _ => tuples += 1,
            }
        }
    }
    bail!("after {what} HELLO brings no tuples")
}

/// Waits for the HELLO of a client; returns its routing id
async fn greeted(czmq: &mut Czmq) -> Result<Bytes> {
    let message = czmq.recv("raw", PATIENCE).await?.context("no HELLO came")?;
    ensure!(message.get(1).is_some_and(|frame| frame == HELLO), "{message:?}");
    Ok(message[0].clone())
}
