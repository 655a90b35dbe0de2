//! Domogik's events: its publisher and subscriber at our forwarder, and ours at its.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tidings_majordomo::Event;
use tidings_socket::{Context, Options, Proxy, SocketType, SubSocket, XpubSocket, XsubSocket};

use crate::peer::{Library, Peer};
use crate::waiting::{PATIENCE, within};

const ANY: &str = "tcp://127.0.0.1:*";

#[tokio::test(flavor = "multi_thread")]
async fn its_events_pass_our_forwarder() -> Result<()> {
    for library in [Library::Current, Library::Old] {
        let context = Context::new();
        let (front, back) = (XsubSocket::new(&context)?, XpubSocket::new(&context)?);
        let publishing = within(PATIENCE, "the forwarder is bound", front.bind(ANY)?).await??;
        let subscribing = within(PATIENCE, "the forwarder is bound", back.bind(ANY)?).await??;
        let _forwarder = Proxy::new(front, back).spawn()?;

        let (publishing, subscribing) = (format!("endpoint={publishing}"), format!("endpoint={subscribing}"));
        let words = ["subscribe", &subscribing, "filter=device", "filter=ready"];
        let Some((mut subscriber, _)) = Peer::plain(&words, library, "started").await? else { continue };
        let Some((mut publisher, _)) = Peer::plain(&["publish", &publishing], library, "started").await? else {
            continue;
        };
        let mut seen = async |publisher: &mut Peer| -> Result<_> {
            // A PUB sends to nobody until the subscription has come to it
            publisher.tell(json!({"category": "ready", "content": {}, "beacon": true})).await?;
            let beacon = subscriber.expect("event").await?;
            ensure!(beacon["category"] == "ready", "{beacon}");
            let told = [
                json!({"category": "plugin.status", "content": {"not": "asked for"}}),
                json!({"category": "device.update", "timestamp": "1416500000.12", "content": {"value": 21.5}}),
            ];
            for event in told {
                publisher.tell(event).await?;
            }
            loop {
                let event = subscriber.expect("event").await?;
                if event["category"] != "ready" {
                    return Ok(event);
                }
            }
        };
        let event = seen(&mut publisher).await?;
        ensure!(event["id"] == "device.update.1416500000_12.0_1", "{event}");
        ensure!(event["category"] == "device.update" && event["content"] == json!({"value": 21.5}), "{event}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn our_events_pass_its_forwarder_both_ways() -> Result<()> {
    let Some((_forwarder, listening)) = Peer::plain(&["forward"], Library::Current, "listening").await? else {
        return Ok(());
    };
    let publishing = listening["pub"].as_str().context("no endpoint")?.to_owned();
    let subscribing = listening["sub"].as_str().context("no endpoint")?.to_owned();

    // Its publisher, our subscriber
    let context = Context::new();
    let ours = SubSocket::new(&context)?;
    ours.subscribe("sensor");
    within(PATIENCE, "we reach the forwarder", ours.connect(&subscribing)?).await??;
    let words = ["publish", &format!("endpoint={publishing}")];
    let Some((mut publisher, _)) = Peer::plain(&words, Library::Current, "started").await? else { return Ok(()) };
    publisher.tell(json!({"category": "sensor.beacon", "content": {}, "beacon": true})).await?;
    let event = Event::decode(&within(PATIENCE, "its event", ours.recv()).await??)?;
    ensure!(event.category == "sensor.beacon" && event.version == "0_1" && event.content == json!({}), "{event:?}");
    publisher.tell(json!({"category": "sensor.room.1", "timestamp": "1700000000.5", "content": [1]})).await?;
    let event = loop {
        let event = Event::decode(&within(PATIENCE, "its event", ours.recv()).await??)?;
        if event.category != "sensor.beacon" {
            break event;
        }
    };
    ensure!(event.category == "sensor.room.1" && event.timestamp == "1700000000_5", "{event:?}");
    ensure!(event.content == json!([1]), "{event:?}");

    // Our publisher, its subscriber: an XPUB sees when the subscription is there
    let words = ["subscribe", &format!("endpoint={subscribing}"), "filter=ours"];
    let Some((mut subscriber, _)) = Peer::plain(&words, Library::Current, "started").await? else { return Ok(()) };
    let ours = XpubSocket::with_options(&context, Options::of(SocketType::Xpub).xpub_verbose(true))?;
    within(PATIENCE, "we reach the forwarder", ours.connect(&publishing)?).await??;
    while within(PATIENCE, "the subscription", ours.recv()).await??.first()[..] != *b"\x01ours" {}
    let event = Event::new("ours.of.now", json!({"text": "grüße"}));
    ours.send(event.encode()).await?;
    let seen = subscriber.expect("event").await?;
    ensure!(seen["category"] == "ours.of.now" && seen["id"] == event.id(), "{seen}");
    ensure!(seen["content"] == event.content, "{seen}");
    Ok(())
}
