//! All wires on one broker at once.

use anyhow::{Result, ensure};
use bytes::Bytes;
use tidings_socket::{Context, DealerSocket, Proxy, RouterSocket};

use crate::house::{House, ask, echo_of};
use crate::matrix::QUICK;
use crate::peer::{Kind, Library, Peer};
use crate::waiting::{PATIENCE, within};

#[tokio::test(flavor = "multi_thread")]
async fn everybody_asks_everybody_on_one_socket() -> Result<()> {
    let house = House::open().await?;
    let _ours = echo_of(&house, "of.ours").await?;
    let (mut workers, mut clients, mut services) = (Vec::new(), Vec::new(), vec!["of.ours".to_owned()]);
    for kind in Kind::ALL {
        let service = format!("of.{kind:?}");
        let more = ["handler=echo", QUICK[0]];
        let Some(worker) = Peer::worker(kind, Library::Current, house.endpoint(), &service, &more).await? else {
            return Ok(());
        };
        let Some(client) = Peer::client(kind, Library::Current, house.endpoint(), &[]).await? else { return Ok(()) };
        workers.push(worker);
        clients.push(client);
        house.has(&service).await?;
        services.push(service);
    }
    // All at once, each its own body, and each round another service
    for round in 0..services.len() {
        let service = |number: usize| &services[(number + round) % services.len()];
        let body = |number: usize| [format!("from.{number}"), format!("{{\"round\": {round}}}")];
        for (number, client) in clients.iter_mut().enumerate() {
            let body = body(number);
            client.ask(service(number), &[body[0].as_bytes(), body[1].as_bytes()], Some(10.0)).await?;
        }
        let of_ours = clients.len();
        let asked = body(of_ours).map(Bytes::from).to_vec();
        let answered = ask(house.client().await?, service(of_ours), asked.clone()).await?;
        ensure!(answered == asked, "{} answered our client with {answered:?}", service(of_ours));
        for (number, client) in clients.iter_mut().enumerate() {
            let reply = client.reply().await?;
            ensure!(reply.last == body(number), "{} answered client {number} with {reply:?}", service(number));
        }
    }
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_finds_its_way_back_through_a_proxy() -> Result<()> {
    let house = House::open().await?;
    let _echo = echo_of(&house, "echo").await?;
    let context = Context::new();
    let (front, back) = (RouterSocket::new(&context)?, DealerSocket::new(&context)?);
    let endpoint = within(PATIENCE, "the proxy is bound", front.bind("tcp://127.0.0.1:*")?).await??.to_string();
    within(PATIENCE, "the proxy reaches the broker", back.connect(house.endpoint())?).await??;
    let _proxy = Proxy::new(front, back).spawn()?;
    for kind in [Kind::Guide, Kind::Domogik] {
        let Some(mut client) = Peer::client(kind, Library::Current, &endpoint, &[]).await? else { return Ok(()) };
        ensure!(client.asked("echo", &[b"far.away", b"{}"]).await? == ["far.away", "{}"]);
    }
    house.close().await
}
