//! Brokers that go and come back at the same endpoint.

use anyhow::{Result, ensure};
use bytes::Bytes;

use crate::house::{House, ask, echo_of};
use crate::peer::{Kind, Library, Peer};

#[tokio::test(flavor = "multi_thread")]
async fn workers_come_back_to_a_broker_that_took_its_leave() -> Result<()> {
    workers_come_back(Leave::Told).await
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_come_back_to_a_broker_that_was_gone_without_a_word() -> Result<()> {
    workers_come_back(Leave::Gone).await
}

#[derive(Clone, Copy, PartialEq)]
enum Leave {
    Told,
    Gone,
}

async fn workers_come_back(leave: Leave) -> Result<()> {
    let house = House::open().await?;
    let ours = echo_of(&house, "of.ours").await?;
    let mut workers = Vec::new();
    for kind in Kind::ALL {
        let service = format!("of.{kind:?}");
        let more = ["handler=echo", "interval_ms=200", "reconnect_ms=100"];
        // majortomo waits as long as it has been told for heartbeats, and no less before it connects anew
        let more = if kind == Kind::Majortomo { &more[..2] } else { &more[..] };
        let Some(worker) = Peer::worker(kind, Library::Current, house.endpoint(), &service, more).await? else {
            return Ok(());
        };
        house.has(&service).await?;
        workers.push((service, worker));
    }
    let client = house.client().await?;
    let house = match leave {
        Leave::Told => house.restart().await?,
        Leave::Gone => house.crash_and_restart().await?,
    };
    for (service, worker) in &mut workers {
        worker.until("ready").await?;
        house.has(service).await?;
        let asked = vec![Bytes::from_static(b"after"), Bytes::from_static(b"{}")];
        // The client has gone through the same
        ensure!(ask(client.clone(), &**service, asked.clone()).await? == asked, "{service}");
    }
    house.has("of.ours").await?;
    let asked = vec![Bytes::from_static(b"after")];
    ensure!(ask(client, "of.ours", asked.clone()).await? == asked);
    drop(ours);
    house.close().await
}
