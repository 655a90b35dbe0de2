//! Every peer in every place: requests of each shape and their replies.

use std::env;
use std::fs;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use tidings_majordomo::wire::Wire;

use crate::house::{House, ask, ask_in_parts, client_of, echo_of, parts_of};
use crate::peer::{Kind, Library, Peer};
use crate::table::{Place, Table};

#[tokio::test(flavor = "multi_thread")]
async fn every_peer_in_every_place() -> Result<()> {
    let mut table = Table::default();
    let rows = Kind::ALL.map(|kind| (kind, Library::Current)).into_iter();
    // majortomo is on pyzmq only
    let old = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Majortomo).map(|kind| (kind, Library::Old));
    for (kind, library) in rows.chain(old) {
        for place in Place::ALL {
            let began = Instant::now();
            let outcome = match place {
                Place::Client => client(kind, library).await,
                Place::Worker => worker(kind, library).await,
                Place::Both => both(kind, library).await,
                Place::Broker => broker(kind, library).await,
            };
            match outcome {
                // Skipped, and somebody was told
                Ok(None) => {}
                Ok(Some(())) => table.enter(&row(kind, library), place, Ok(began.elapsed())),
                Err(error) => table.enter(&row(kind, library), place, Err(format!("{error:#}"))),
            }
        }
    }
    if table.len() == 0 {
        return Ok(());
    }
    println!("{table}");
    if let Some(path) = env::var_os("TIDINGS_SERVICES_TABLE") {
        fs::write(&path, table.to_string()).with_context(|| format!("can't write {}", path.display()))?;
    }
    let failures = table.failures();
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

fn row(kind: Kind, library: Library) -> String {
    let peer = match kind {
        Kind::Guide => "MDP 0.1, as in the guide",
        Kind::Domogik => "Domogik's MQ",
        Kind::Rfc18 => "MDP 0.2 of RFC 18",
        Kind::Zproto => "MDP 0.2 of zeromq/majordomo",
        Kind::Majortomo => "majortomo 0.2.0",
    };
    match library {
        Library::Current => peer.to_owned(),
        Library::Old => format!("{peer}, ZMTP 3.0"),
    }
}

/// Its client, our broker, our worker
async fn client(kind: Kind, library: Library) -> Result<Option<()>> {
    let house = House::open().await?;
    let _echo = echo_of(&house, "echo").await?;
    let _parts = parts_of(&house, "parts").await?;
    let Some(mut peer) = Peer::client(kind, library, house.endpoint(), &[]).await? else { return Ok(None) };
    for body in bodies() {
        let body: Vec<&[u8]> = body.iter().map(|frame| &frame[..]).collect();
        let answer = peer.asked("echo", &body).await?;
        ensure!(answer == body, "the echo of {} octets came back as {}", octets(&body), octets(&answer));
    }
    if kind.has_partials() {
        peer.ask("parts", &[b"3"], Some(10.0)).await?;
        let reply = peer.reply().await?;
        ensure!(reply.partials == [["0"], ["1"], ["2"]] && reply.last == ["done"], "{reply:?}");
    }
    if kind != Kind::Majortomo {
        // Which it has no word for
        ensure!(peer.asked("mmi.service", &[b"echo"]).await? == ["200"]);
        ensure!(peer.asked("mmi.service", &[b"nobody"]).await? == ["404"]);
        ensure!(peer.asked("mmi.nonsense", &[b"x"]).await? == ["501"]);
    }
    house.close().await.map(Some)
}

/// Our client, our broker, its worker
async fn worker(kind: Kind, library: Library) -> Result<Option<()>> {
    let house = House::open().await?;
    let Some(mut peer) = Peer::worker(kind, library, house.endpoint(), "echo", &QUICK).await? else { return Ok(None) };
    house.has("echo").await?;
    let ours = house.client().await?;
    for body in bodies() {
        let asking = tokio::spawn(ask(ours.clone(), "echo", body.clone()));
        ensure!(peer.request().await? == body, "the request of {} octets was changed", octets(&body));
        let answer: Vec<&[u8]> = body.iter().map(|frame| &frame[..]).collect();
        peer.answer(&[], &answer).await?;
        ensure!(asking.await?? == body, "the reply was changed");
    }
    if kind.has_partials() {
        let asking = tokio::spawn(ask_in_parts(ours, "echo", vec![Bytes::from_static(b"parts")]));
        peer.request().await?;
        peer.answer(&[&[b"one"], &[b"two", b""]], &[b"", b"done"]).await?;
        let (partials, last) = asking.await??;
        ensure!(partials == [vec!["one"], vec!["two", ""]] && last == ["", "done"], "{partials:?} and {last:?}");
    }
    house.close().await.map(Some)
}

/// Its client, our broker, its worker
async fn both(kind: Kind, library: Library) -> Result<Option<()>> {
    let house = House::open().await?;
    let Some(mut worker) = Peer::worker(kind, library, house.endpoint(), "echo", &QUICK).await? else {
        return Ok(None);
    };
    let Some(mut client) = Peer::client(kind, library, house.endpoint(), &[]).await? else { return Ok(None) };
    house.has("echo").await?;
    for body in bodies() {
        let frames: Vec<&[u8]> = body.iter().map(|frame| &frame[..]).collect();
        client.ask("echo", &frames, Some(10.0)).await?;
        ensure!(worker.request().await? == body, "the request of {} octets was changed", octets(&body));
        worker.answer(&[], &frames).await?;
        ensure!(client.reply().await?.last == body, "the reply was changed");
    }
    if kind.has_partials() {
        client.ask("echo", &[b"parts"], Some(10.0)).await?;
        worker.request().await?;
        worker.answer(&[&[b"one"], &[b"two", b""]], &[b"", b"done"]).await?;
        let reply = client.reply().await?;
        ensure!(reply.partials == [vec!["one"], vec!["two", ""]] && reply.last == ["", "done"], "{reply:?}");
    }
    house.close().await.map(Some)
}

/// Our client and worker at its broker
async fn broker(kind: Kind, library: Library) -> Result<Option<()>> {
    // Its own broker is as old as its users; one of them is enough
    if library == Library::Old && kind != Kind::Domogik {
        return Ok(None);
    }
    let Some((mut broker, endpoint)) = Peer::broker(kind, library, &["interval_ms=200"]).await? else {
        return Ok(None);
    };
    let wire = match kind {
        Kind::Guide => Wire::Mdp01,
        Kind::Domogik => Wire::Domogik,
        Kind::Rfc18 => Wire::Mdp02,
        Kind::Zproto => Wire::Zproto,
        Kind::Majortomo => Wire::Majortomo,
    };
    let house = House::elsewhere(&endpoint, wire);
    let _echo = echo_of(&house, "echo").await?;
    if kind != Kind::Majortomo {
        broker.until("came").await?;
    }
    let client = client_of(&house).await?;
    for body in bodies() {
        ensure!(ask(client.clone(), "echo", body.clone()).await? == body, "the echo came back changed");
    }
    if kind.has_partials() {
        let _parts = parts_of(&house, "parts").await?;
        let asked = vec![Bytes::from_static(b"2")];
        let (partials, last) = ask_in_parts(client.clone(), "parts", asked).await?;
        ensure!(partials == [["0"], ["1"]] && last == ["done"], "{partials:?} and {last:?}");
    }
    if kind != Kind::Majortomo {
        let known = ask(client, "mmi.service", vec![Bytes::from_static(b"echo")]).await?;
        ensure!(known == ["200"], "{known:?}");
        // It sends our worker away, which comes back with a new socket
        broker.tell(serde_json::json!({})).await?;
        broker.until("came").await?;
    }
    Ok(Some(()))
}

/// An action with its JSON, as Domogik's programs must have it; a little, a lot
fn bodies() -> [Vec<Bytes>; 2] {
    let long = format!("{{\"text\":\"{}\"}}", "x".repeat(100_000));
    [
        vec![Bytes::from_static(b"config.get"), Bytes::from_static(b"{\"id\": \"diskfree\"}")],
        vec![Bytes::from_static(b"config.set"), Bytes::from(long)],
    ]
}

fn octets<F: AsRef<[u8]>>(frames: &[F]) -> usize {
    frames.iter().map(|frame| frame.as_ref().len()).sum()
}

/// Heartbeats and new connections of peers that let themselves be told
pub(crate) const QUICK: [&str; 1] = ["interval_ms=200"];
