//! What is Domogik's own: the exchange of its documentation, the timeout in front, MMI.

use anyhow::{Result, ensure};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::house::House;
use crate::matrix::QUICK;
use crate::peer::{Kind, Library, Peer};

/// A broker, a worker for a service that answers when told, and a client
async fn three(worker: Kind, client: Kind, service: &str, more: &[&str]) -> Result<Option<(House, Peer, Peer)>> {
    let house = House::open().await?;
    let Some(worker) = Peer::worker(worker, Library::Current, house.endpoint(), service, &QUICK).await? else {
        return Ok(None);
    };
    let Some(client) = Peer::client(client, Library::Current, house.endpoint(), more).await? else {
        return Ok(None);
    };
    house.has(service).await?;
    Ok(Some((house, worker, client)))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exchange_of_its_documentation_frame_for_frame() -> Result<()> {
    for socket in ["socket=REQ", "socket=DEALER"] {
        let Some((house, mut worker, mut client)) = three(Kind::Domogik, Kind::Domogik, "dbmanager", &[socket]).await?
        else {
            return Ok(());
        };
        let asked = r#"{"host": "igor", "plugin": "velbus", "key": "protocol"}"#.as_bytes();
        client.ask("dbmanager", &[b"config.get", asked], Some(10.0)).await?;
        ensure!(worker.request().await? == [&b"config.get"[..], asked]);
        worker.answer(&[], &[b"config.result", br#"{"value": "usb"}"#]).await?;
        let reply = client.reply().await?;
        ensure!(reply.raw == ["", "MDPC01", "dbmanager", "config.result", r#"{"value": "usb"}"#], "{reply:?}");
        house.close().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_timeout_that_python_writes_is_taken_away_and_none_shifts_what_follows() -> Result<()> {
    let Some((house, mut worker, mut client)) = three(Kind::Domogik, Kind::Domogik, "dbmanager", &[]).await? else {
        return Ok(());
    };
    // As `str()` makes them of numbers and of nothing: 10, 2.5, 1e+16, None
    for timeout in [json!(10), json!(2.5), json!(1e16), Value::Null] {
        client.ask_with("dbmanager", &[b"config.get", b"{}"], timeout.clone(), json!({})).await?;
        let action = worker.until("action").await?;
        ensure!(action["action"] == "config.get" && action["data"] == json!({}), "{timeout}: {action}");
        ensure!(worker.request().await? == ["config.get", "{}"], "{timeout}");
        worker.answer(&[], &[b"config.result", b"{}"]).await?;
        ensure!(client.reply().await?.last == ["config.result", "{}"], "{timeout}");
    }
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_in_front_of_a_plain_clients_body_is_body() -> Result<()> {
    let Some((house, mut worker, mut client)) = three(Kind::Guide, Kind::Guide, "echo", &[]).await? else {
        return Ok(());
    };
    let bodies: [&[&[u8]]; 6] = [
        &[b"10"],
        &[b"10", b"20"],
        &[b"2.5", b"half", b"no JSON"],
        &[b"None", b"action", b"[1, 2]"],
        &[b"10", b"", b"{}"],
        &[b"10", b"action", b"{}", b"and more"],
    ];
    for body in bodies {
        client.ask("echo", body, None).await?;
        ensure!(worker.request().await? == body, "{body:?} came shortened");
        worker.answer(&[], body).await?;
        ensure!(client.reply().await?.last == body);
    }
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn mmi_answers_behind_a_timeout_too() -> Result<()> {
    let Some((house, _worker, mut client)) = three(Kind::Domogik, Kind::Domogik, "dbmanager", &[]).await? else {
        return Ok(());
    };
    let Some(_other) = Peer::worker(Kind::Domogik, Library::Current, house.endpoint(), "igor.rest", &QUICK).await?
    else {
        return Ok(());
    };
    house.has("igor.rest").await?;
    for seconds in [Some(10.0), None] {
        let mut asked = async |service: &str, body: &[&[u8]]| -> Result<Vec<Bytes>> {
            client.ask(service, body, seconds).await?;
            Ok(client.reply().await?.last)
        };
        ensure!(asked("mmi.service", &[b"dbmanager"]).await? == ["200"], "{seconds:?}");
        ensure!(asked("mmi.service", &[b"nobody"]).await? == ["404"], "{seconds:?}");
        let [services] = &asked("mmi.services", &[b""]).await?[..] else { panic!("one frame") };
        let mut services: Vec<&str> = std::str::from_utf8(services)?.split(", ").collect();
        services.sort_unstable();
        ensure!(services == ["dbmanager", "igor.rest"], "{seconds:?}: {services:?}");
        ensure!(asked("mmi.nonsense", &[b""]).await? == ["501"], "{seconds:?}");
    }
    house.close().await
}
