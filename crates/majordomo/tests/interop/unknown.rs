//! Services that nobody has: who is told, who waits, who is left alone in time.

use anyhow::{Result, ensure};
use bytes::Bytes;
use tidings_majordomo::RequestError;
use tidings_majordomo::wire::Status;

use crate::house::House;
use crate::matrix::QUICK;
use crate::peer::{Kind, Library, Peer};

#[tokio::test(flavor = "multi_thread")]
async fn our_own_client_is_told_at_once() -> Result<()> {
    let house = House::open().await?;
    let refused = house.client().await?.request("nobody", "hello").await;
    ensure!(
        matches!(&refused, Err(RequestError::Refused { status, .. }) if *status == Status::NO_SUCH_SERVICE),
        "{refused:?}"
    );
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn other_clients_wait_for_a_worker_to_come() -> Result<()> {
    for kind in Kind::ALL {
        let house = House::open().await?;
        let Some(mut client) = Peer::client(kind, Library::Current, house.endpoint(), &[]).await? else {
            return Ok(());
        };
        client.ask("late", &[b"hello", b"{}"], Some(60.0)).await?;
        house.waits("late").await?;
        let Some(mut worker) = Peer::worker(kind, Library::Current, house.endpoint(), "late", &QUICK).await? else {
            return Ok(());
        };
        ensure!(worker.request().await? == ["hello", "{}"], "{kind:?}");
        worker.answer(&[], &[b"here", b"{}"]).await?;
        ensure!(client.reply().await?.last == ["here", "{}"], "{kind:?}");
        house.close().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_domogiks_client_no_longer_waits_for_is_given_up() -> Result<()> {
    let house = House::open().await?;
    let Some(mut client) = Peer::client(Kind::Domogik, Library::Current, house.endpoint(), &[]).await? else {
        return Ok(());
    };
    client.ask("late", &[b"hello", b"{}"], Some(0.2)).await?;
    house.expired().await?;
    // Its client would have closed its socket now; a worker that comes afterwards is not bothered with it
    client.kill().await?;
    let Some(mut client) = Peer::client(Kind::Domogik, Library::Current, house.endpoint(), &[]).await? else {
        return Ok(());
    };
    let Some(mut worker) = Peer::worker(Kind::Domogik, Library::Current, house.endpoint(), "late", &QUICK).await?
    else {
        return Ok(());
    };
    house.has("late").await?;
    client.ask("late", &[b"again", b"{}"], Some(10.0)).await?;
    ensure!(worker.request().await? == ["again", "{}"].map(Bytes::from));
    worker.answer(&[], &[b"here", b"{}"]).await?;
    ensure!(client.reply().await?.last == ["here", "{}"]);
    house.close().await
}
