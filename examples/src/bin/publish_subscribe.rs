//! Publish/subscribe: a PUB sends to whoever has subscribed, a SUB receives what it asked for.
//!
//! Without arguments both ends run here. With `publisher ENDPOINT` or `subscriber ENDPOINT` one
//! does, and the other may be anything that speaks ZeroMQ.

use std::time::Duration;

use anyhow::{Result, bail};
use tidings::{Context, PubSocket, SubSocket};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let context = Context::new();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {
            let (publisher, endpoint) = listen(&context, "tcp://127.0.0.1:*").await?;
            tokio::try_join!(publish(&publisher), collect(&context, &endpoint))?;
            Ok(())
        }
        ["publisher", endpoint] => {
            let (publisher, endpoint) = listen(&context, endpoint).await?;
            eprintln!("listening on {endpoint}");
            publish(&publisher).await
        }
        ["subscriber", endpoint] => collect(&context, endpoint).await,
        _ => bail!("usage: publish_subscribe [publisher|subscriber ENDPOINT]"),
    }
}

async fn listen(context: &Context, endpoint: &str) -> Result<(PubSocket, String)> {
    let publisher = PubSocket::new(context)?;
    let endpoint = publisher.bind(endpoint)?.await?;
    Ok((publisher, endpoint.to_string()))
}

async fn publish(publisher: &PubSocket) -> Result<()> {
    // What is published before anybody has subscribed reaches nobody: this waits for the first subscription
    publisher.ready(1, Duration::from_secs(60)).await?;
    for sequence in 0..20 {
        let (id, data) = (sequence + 1, 1000 * (sequence + 2));
        publisher.send(format!("{sequence} {id} {data}").into()).await?;
    }
    let report = publisher.close(Duration::from_secs(5)).await;
    if !report.unflushed.is_empty() {
        eprintln!("not everything was sent: {:?}", report.unflushed);
    }
    Ok(())
}

async fn collect(context: &Context, endpoint: &str) -> Result<()> {
    let subscriber = SubSocket::new(context)?;
    subscriber.subscribe("");
    subscriber.connect(endpoint)?.await?;
    println!("Collecting updates from server...");
    for _ in 0..5 {
        let update = subscriber.recv().await?;
        println!("{}", String::from_utf8_lossy(update.first()));
    }
    Ok(())
}
